/* on_unload crashes, when the next version comes. */
#include "bad.h"

static int *volatile nowhere;
static int32_t on_unload(void *state) {
    (void)state;
    *nowhere = 1;
    return 0;
}

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return WORKS;
}

HR_MODULE_WITH_HOOKS("bad", 1, 0, on_unload, HR_PATCH("bad.step", step))
