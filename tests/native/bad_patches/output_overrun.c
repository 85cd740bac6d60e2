/* Writes more output than the host has room for; it stays within the page. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    memset(output, 0x41, 64);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
