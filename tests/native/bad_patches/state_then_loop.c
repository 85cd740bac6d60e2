/* Changes its state half, then never returns. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    ((bad_state *)state)->steps += 100;
    for (volatile int i = 0;; i++) {
    }
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
