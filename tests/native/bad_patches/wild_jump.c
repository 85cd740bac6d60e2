/* Jumps to an address that is no code. */
#include "bad.h"

static void (*volatile nowhere)(void) = (void (*)(void))0x123456789a;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    nowhere();
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
