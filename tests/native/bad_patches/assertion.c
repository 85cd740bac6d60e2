/* Fails an assertion. */
#include "bad.h"

#include <assert.h>
static volatile int zero;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    assert(zero == 1);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
