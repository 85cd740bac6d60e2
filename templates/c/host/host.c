/* The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */

#include <hotreload/hotreload.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "state.h"

/* The fallback: what the slot does until a module brings something better. */
static int32_t tick_fallback(void *opaque, const void *input, void *output) {
    (void)input;
    state *self = opaque;
    tick *done = output;
    done->step = 1;
    self->count += done->step;
    return 0;
}

static hr_slot slot_tick = HR_SLOT("@NAME@.tick", tick_fallback);
HR_HOST_LAYOUT(layout, SHARED_TYPES, SHARED_SLOTS)

int main(void) {
    state self = {0};
    hr_failure failure = {0};
    hr_set_context(NULL, &self);
    if (hr_declare(NULL, &slot_tick) != HR_OK || hr_declare_layout(NULL, &layout, &failure) != HR_OK ||
        hr_serve(NULL, "@NAME@", 0, &failure) != HR_OK) {
        fprintf(stderr, "@NAME@: %s %s\n", failure.reason, failure.fix);
        return 1;
    }
    for (;;) {
        tick done = {0};
        int32_t status = hr_call(&slot_tick, &self, NULL, &done);
        printf("count=%" PRId64 " step=%+" PRId64 " status=%" PRId32 "\n", self.count, done.step, status);
        fflush(stdout);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
}
