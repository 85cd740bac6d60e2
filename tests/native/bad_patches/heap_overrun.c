/* Writes beyond its heap block; the allocator finds out. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    char *volatile block = malloc(2000), *volatile next = malloc(2000);
    (void)state, (void)input, (void)output;
    memset(block, 0x41, 2048); /* the size of the next block too */
    free(next);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
