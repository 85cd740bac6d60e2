/* Installs a handler for SIGSEGV that hides its crashes, and loops in them. */
#include "bad.h"

#include <signal.h>
static int *volatile nowhere;
static void ignore(int signal) { (void)signal; }

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    signal(SIGSEGV, ignore);
    *nowhere = 1;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
