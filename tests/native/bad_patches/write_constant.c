/* Writes to a constant. */
#include "bad.h"

static const int constant = 1;
static int *volatile writable = (int *)(uintptr_t)&constant;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    *writable = 2;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
