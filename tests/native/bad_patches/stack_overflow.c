/* Recurses without end. */
#include "bad.h"

static int deeper(int depth) {
    volatile char room[1024];
    room[depth % 1024] = 1;
    return deeper(depth + 1) + room[0];
}

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return deeper(1);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
