/* Sleeps for a minute, at every call. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    sleep(60);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
