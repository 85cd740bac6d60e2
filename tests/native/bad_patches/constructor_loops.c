/* Its constructor never returns. */
#include "bad.h"

__attribute__((constructor)) static void construct(void) {
    for (volatile int i = 0;; i++) {
    }
}

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return WORKS;
}

HR_MODULE_WITH_HOOKS("bad", 1, 0, 0, HR_PATCH("bad.step", step))
