/* The patch module. Edit STEP and save: the running host counts by it from its next tick on. */
#include <hotreload/patch.h>

#include "state.h"

#define STEP 10

static int32_t on_tick(void *opaque, const void *input, void *output) {
    (void)input;
    state *self = opaque;
    tick *done = output;
    done->step = STEP;
    self->count += done->step;
    return 0;
}

/* The number is yours to choose; hotreload counts the versions of each slot by itself. */
HR_MODULE("@NAME@", 1, HR_PATCH("@NAME@.tick", on_tick))
HR_MODULE_LAYOUT(SHARED_TYPES, SHARED_SLOTS)
