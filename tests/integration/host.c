/* The host of the integration tests: it owns a counter, steps its slots over and over, and says what they return.
 *
 *     host NAME SYMBOL...
 *
 * Prints "ready PID", then "ticks=T count=C SYMBOL=VALUE..." whenever a value changes, and every 20 ms besides. Every
 * implementation adds one to the counter, so that count = ticks * number of slots holds for ever unless the state was
 * lost or a call went astray. The environment gives VETO (the status that a module's on_load is to return), TICKS (after
 * so many ticks it ends with status EXIT), DEAF (SIGTERM is ignored) and SERVE (the flags of hr_serve). */
#define _POSIX_C_SOURCE 200809L

#include <hotreload/hotreload.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

#define SLOTS_MAX 64
#define PERIOD_NS 2000000
#define LINE_TICKS 10

HR_LAYOUT(host_state, HOST_STATE_FIELDS)
HR_HOST_LAYOUT(layout, , HR_TAKES("a", host_state, void, void))

/* For modules that take it and do not give it back; nothing here does. */
extern pthread_mutex_t shared_lock;
pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;

static int32_t fallback(void *opaque, const void *input, void *output) {
    (void)input, (void)output;
    ((host_state *)opaque)->count++;
    return 0;
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static void say(const host_state *state, uint64_t ticks, const hr_slot *slots, const int32_t *values, int count) {
    printf("ticks=%llu count=%llu", (unsigned long long)ticks, (unsigned long long)state->count);
    for (int i = 0; i < count; i++) printf(" %s=%d", slots[i].symbol, values[i]);
    putchar('\n');
}

/* One tick runs on one generation: half a transaction would show as a line that mixes versions. */
static int tick(host_state *state, hr_slot *slots, int32_t *values, int count) {
    int changed = 0;
    hr_frame frame = hr_frame_begin();
    for (int i = 0; i < count; i++) {
        int32_t value = hr_frame_call(&frame, &slots[i], state, NULL, NULL);
        changed |= value != values[i];
        values[i] = value;
    }
    hr_frame_end(&frame);
    return changed;
}

int main(int argc, char **argv) {
    static hr_slot slots[SLOTS_MAX];
    static int32_t values[SLOTS_MAX];
    host_state state = {.veto = (int32_t)number("VETO")};
    uint64_t last = (uint64_t)number("TICKS");
    int count = argc - 2;
    if (count < 1 || count > SLOTS_MAX) return 2;
    if (number("DEAF")) signal(SIGTERM, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    hr_set_context(NULL, &state);
    if (hr_declare_layout(NULL, &layout, NULL) != HR_OK) return 2;
    for (int i = 0; i < count; i++) {
        slots[i] = (hr_slot)HR_SLOT(argv[i + 2], fallback);
        if (hr_declare(NULL, &slots[i]) != HR_OK) return 2;
        if (hr_guard_state(&slots[i], sizeof state) != HR_OK) return 2;
    }
    hr_failure failure;
    if (hr_serve(NULL, argv[1], (uint32_t)number("SERVE"), &failure) != HR_OK) {
        fprintf(stderr, "%s: %s\n", hr_status_code(failure.status), failure.reason);
        return 2;
    }
    printf("ready %d\n", (int)getpid());
    for (uint64_t ticks = 1; last == 0 || ticks <= last; ticks++) {
        if (tick(&state, slots, values, count) || ticks % LINE_TICKS == 1) say(&state, ticks, slots, values, count);
        nanosleep(&(struct timespec){0, PERIOD_NS}, NULL);
    }
    return (int)number("EXIT");
}
