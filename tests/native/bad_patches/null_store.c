/* Writes through a null pointer. */
#include "bad.h"

static int *volatile nowhere;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    *nowhere = 1;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
