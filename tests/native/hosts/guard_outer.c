/* A patch of the slot "outer", which calls another slot, and crashes then where it is told to. */
#include <hotreload/patch.h>

#include "guard_outer.h"

static int *volatile nowhere;

static int32_t outer(void *state, const void *opaque, void *output) {
    const outer_input *input = opaque;
    (void)state;
    (void)output;
    int32_t result = input->call(input->inner, input->state, 0, 0);
    if (input->crash) *nowhere = 1;
    return 10 + result;
}

HR_MODULE("outer", 1, HR_PATCH("outer", outer))
