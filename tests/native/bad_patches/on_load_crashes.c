/* on_load crashes. */
#include "bad.h"

static int *volatile nowhere;
static int32_t on_load(void *state) {
    (void)state;
    *nowhere = 1;
    return 0;
}

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return WORKS;
}

HR_MODULE_WITH_HOOKS("bad", 1, on_load, 0, HR_PATCH("bad.step", step))
