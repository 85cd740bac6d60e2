/* Gives memset a bad pointer: the crash is in the C library. */
#include "bad.h"

static char *volatile nowhere = (char *)16;
static volatile size_t size = 100;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    memset(nowhere, 1, size);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
