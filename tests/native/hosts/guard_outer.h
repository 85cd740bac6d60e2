/* What guard_host.c and the patch of its slot "outer" share. */
#ifndef GUARD_OUTER_H
#define GUARD_OUTER_H

#include <stdint.h>

struct hr_slot;

typedef struct outer_input {
    struct hr_slot *inner;
    void *state;
    int32_t (*call)(struct hr_slot *slot, void *state, const void *input, void *output);
    int32_t crash;
} outer_input;

#endif
