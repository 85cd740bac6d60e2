/* Overwrites its own return address. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    uintptr_t *volatile frame = __builtin_frame_address(0);
    (void)state, (void)input, (void)output;
    frame[1] = (uintptr_t)0x4141414141414141;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
