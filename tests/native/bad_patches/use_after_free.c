/* Writes to a block that it has freed: nothing notices. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    char *volatile block = malloc(100);
    free(block);
    block[50] = 1;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
