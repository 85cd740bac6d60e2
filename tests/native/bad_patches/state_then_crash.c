/* Changes its state half, then crashes. */
#include "bad.h"

static int *volatile nowhere;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    ((bad_state *)state)->steps += 100;
    *nowhere = 1;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
