/* Closes every descriptor of the process but the first three. */
#include "bad.h"

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    for (int fd = 3; fd < 256; fd++) close(fd);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
