/* Sends SIGKILL to its own process. */
#include "bad.h"

#include <signal.h>

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    kill(getpid(), SIGKILL);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
