/* A good patch of the slot "step". */
#include <hotreload/patch.h>

static int32_t step(void *state, const void *input, void *output) {
    (void)state;
    (void)input;
    (void)output;
    return 2;
}

HR_MODULE("good", 1, HR_PATCH("step", step))
