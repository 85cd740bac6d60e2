/* What torture.c and its module (pair.c) share. */
#ifndef TEST_PAIR_H
#define TEST_PAIR_H

#include <stdint.h>

/* Replaced in the bytes of each copy of the module by that copy's tag. */
#define PAIR_TAG_MARK UINT64_C(0x7461676d61726b21)

typedef struct pair_state {
    uint64_t (*inner)(void *state); /* a plain slot call, made from inside an implementation */
    void *tally;
    int32_t veto;
} pair_state;

#endif
