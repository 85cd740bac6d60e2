/* A patch of the slot "outer", which calls another slot, and crashes then, or takes a signal, where it is told to. */
#include <hotreload/patch.h>

#include <signal.h>

#include "guard_outer.h"

static int *volatile nowhere;

static void ignore(int number) { (void)number; }

static int32_t outer(void *state, const void *opaque, void *output) {
    const outer_input *input = opaque;
    (void)state;
    (void)output;
    int32_t result = input->call(input->inner, input->state, 0, 0);
    if (input->crash == 1) *nowhere = 1;
    if (input->crash == 2) signal(SIGSEGV, ignore);
    return 10 + result;
}

HR_MODULE("outer", 1, HR_PATCH("outer", outer))
