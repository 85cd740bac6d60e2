/* The patch module of counter-c. Edit STEP, run `make`, and the running host counts by it from its next tick on. */
#include <hotreload/patch.h>
#include <inttypes.h>
#include <stdio.h>

#include "counter.h"

#define STEP 10

static int32_t add(void *state, const void *input, void *output) {
    (void)input;
    counter *self = state;
    self->count += STEP;
    ((counter_step *)output)->added = STEP;
    return 0;
}

static int32_t format(void *state, const void *input, void *output) {
    const counter *self = state;
    const counter_step *step = input;
    counter_line *line = output;
    snprintf(line->text, sizeof line->text, "count=%" PRId64 " step=%+" PRId64, self->count, step->added);
    return 0;
}

/* The number is yours to choose. hotreload counts versions of each slot by itself. */
HR_MODULE("counter-c", 1, HR_PATCH("counter.add", add), HR_PATCH("counter.format", format))
