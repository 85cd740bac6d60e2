/* What guard_host.c and its crashing patches share. */
#ifndef CRASHER_H
#define CRASHER_H

#include <stdint.h>

/* In the module's file; the host writes eight digits after it into each copy, so that every one has other content. The
 * last digit chooses how it crashes. */
#define CRASHER_MARK "CRASHER:"

typedef struct crasher_state {
    uint64_t steps;
    uint64_t hash;
} crasher_state;

#endif
