/* Divides by zero. */
#include "bad.h"

static volatile int one = 1, zero;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return one / zero;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
