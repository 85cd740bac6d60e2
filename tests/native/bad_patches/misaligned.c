/* Reads a vector that is not aligned. */
#include "bad.h"

typedef int vector __attribute__((vector_size(16)));
static char bytes[64] __attribute__((aligned(16)));
static volatile long shift = 4;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    vector got;
    __asm__ volatile("movaps (%1), %0" : "=x"(got) : "r"(bytes + shift));
    if (got[0]) return 3;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
