/* counter-c: the smallest host worth watching. It owns a counter; how that steps and how it is shown are slots. */
#define _POSIX_C_SOURCE 200809L /* clock_nanosleep, sigaction */

#include <errno.h>
#include <hotreload/hotreload.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "counter.h"

#define HZ_DEFAULT 10
#define HZ_MAX 1000
#define NS_PER_S 1000000000L

static int32_t add_fallback(void *state, const void *input, void *output) {
    (void)input;
    counter *self = state;
    self->count += 1;
    ((counter_step *)output)->added = 1;
    return 0;
}

static int32_t format_fallback(void *state, const void *input, void *output) {
    const counter *self = state;
    const counter_step *step = input;
    counter_line *line = output;
    snprintf(line->text, sizeof line->text, "count=%" PRId64 " step=%+" PRId64, self->count, step->added);
    return 0;
}

static hr_slot slot_add = HR_SLOT("counter.add", add_fallback);
static hr_slot slot_format = HR_SLOT("counter.format", format_fallback);

static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number) {
    (void)number;
    asked_to_stop = 1;
}

/* One tick runs in one frame: a swap between the two calls would show the new step in the old format. */
static void tick(counter *state) {
    counter_step step = {0};
    counter_line line = {""};
    hr_frame frame = hr_frame_begin();
    int32_t added = hr_frame_call(&frame, &slot_add, state, NULL, &step);
    int32_t formatted = hr_frame_call(&frame, &slot_format, state, &step, &line);
    hr_frame_end(&frame);
    state->ticks += 1;
    if (added != 0 || formatted != 0) printf("tick failed: add=%" PRId32 " format=%" PRId32 "\n", added, formatted);
    else printf("%s\n", line.text);
}

static long hz(void) {
    const char *text = getenv("HZ");
    long value = text ? strtol(text, NULL, 10) : HZ_DEFAULT;
    return value >= 1 && value <= HZ_MAX ? value : HZ_DEFAULT;
}

/* Sleeps until the next tick is due. Absolute times, so that the rate does not drift by the cost of a tick; but a host
 * that was stopped for a while goes on from now instead of catching up in one burst. */
static void wait_until(struct timespec *due, long period_ns) {
    due->tv_nsec += period_ns;
    due->tv_sec += due->tv_nsec / NS_PER_S;
    due->tv_nsec %= NS_PER_S;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > due->tv_sec + 1) *due = now;
    while (!asked_to_stop && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, due, NULL) == EINTR) {}
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0); /* into a pipe, too: whoever reads it wants each line now */

    counter state = {0};
    hr_failure failure = {0};
    hr_set_context(NULL, &state);
    if (hr_declare(NULL, &slot_add) != HR_OK || hr_declare(NULL, &slot_format) != HR_OK) {
        fprintf(stderr, "counter-c: cannot declare its slots\n");
        return 1;
    }
    if (hr_serve(NULL, "counter-c", 0, &failure) != HR_OK)
        fprintf(stderr, "counter-c: not watchable: %s %s\n", failure.reason, failure.fix);

    long period_ns = NS_PER_S / hz();
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    while (!asked_to_stop) {
        tick(&state);
        wait_until(&due, period_ns);
    }
    hr_stop();
    printf("stopped after %" PRIu64 " ticks, count=%" PRId64 "\n", state.ticks, state.count);
    return 0;
}
