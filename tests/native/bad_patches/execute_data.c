/* Jumps into its own data. */
#include "bad.h"

static char data[64];
static void (*volatile code)(void);

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    code = (void (*)(void))(uintptr_t)data;
    code();
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
