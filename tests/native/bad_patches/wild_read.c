/* Reads from an address outside of what a pointer can be. */
#include "bad.h"

static const char *volatile nowhere = (const char *)0xdead000000000000;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    if (*nowhere) return 3;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
