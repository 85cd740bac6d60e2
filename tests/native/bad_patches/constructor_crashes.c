/* Its constructor crashes. */
#include "bad.h"

static int *volatile nowhere;
__attribute__((constructor)) static void construct(void) { *nowhere = 1; }

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return WORKS;
}

HR_MODULE_WITH_HOOKS("bad", 1, 0, 0, HR_PATCH("bad.step", step))
