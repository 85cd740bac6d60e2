/* The patch module of the peers that take a C library, and its faults. -DVERSION=n; -DFAULT='x' with x one of
 *
 *     n none    c crashes when called    h never returns    s was built for another struct    u needs a missing symbol
 *     m a manifest with another magic    d b sleeps for `in` milliseconds    f exports nothing of what a module has */
#define _GNU_SOURCE
#include <stdint.h>
#include <time.h>

#ifndef FAULT
#define FAULT 'n'
#endif

extern int symbol_that_nobody_defines(void);

static void misbehave(int64_t *state) {
    if (FAULT == 'c') *(volatile int *)0 = 1;
    if (FAULT == 's') state[1] = -1; /* `total` where the module believes it is */
    for (volatile int forever = FAULT == 'h'; forever;) {}
#if FAULT_U
    state[0] += symbol_that_nobody_defines();
#endif
}

static int32_t step(void *state, const void *input, void *output) {
    if (FAULT != 'n') misbehave(state);
    *(int64_t *)output = *(const int64_t *)input + VERSION;
    return 0;
}

static int32_t step_b(void *state, const void *input, void *output) {
    if (FAULT == 'd') {
        int64_t ms = *(const int64_t *)input;
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&time, 0);
    }
    return step(state, input, output);
}

#ifdef FAULT_F
__attribute__((visibility("default"))) int32_t unrelated(void) { return step_b(0, 0, 0); }
#else
/* For the peers that look functions up by name. */
__attribute__((visibility("default"))) int32_t a(void *state, const void *input, void *output) {
    return step(state, input, output);
}
__attribute__((visibility("default"))) int32_t b(void *state, const void *input, void *output) {
    return step_b(state, input, output);
}

#include "harness.h"

#include <hotreload/patch.h>
#if FAULT_S /* the same name, and a field more than the host's: what is called `total` here is the host's `guard` */
typedef struct other_state {
    int64_t version;
    int64_t total;
    char apart[112];
} other_state;
#define OTHER_FIELDS(F) F(other_state, version, int64_t) F(other_state, total, int64_t) F(other_state, apart, char, [112])
HR_LAYOUT_AS(other_state, "hb_state", OTHER_FIELDS)
HR_MODULE_LAYOUT(, HR_TAKES("a", other_state, int64_t, int64_t), HR_TAKES("b", other_state, int64_t, int64_t))
#else
HR_LAYOUT(hb_state, HB_STATE_FIELDS)
HR_MODULE_LAYOUT(, HR_TAKES("a", hb_state, int64_t, int64_t), HR_TAKES("b", hb_state, int64_t, int64_t))
#endif
static const hr_patch_entry_v1 entries[] = {HR_PATCH("a", step), HR_PATCH("b", step_b)};
HR_MODULE_EXPORT const hr_patch_module_v1 HOTPATCH_MODULE_V1 = {
    FAULT == 'm' ? 0x0badc0de : HR_ABI_MAGIC_V1, HR_ABI_VERSION_V1, sizeof(hr_patch_module_v1), VERSION, "peers", 2, 0,
    entries, 0, 0,
};
#endif
