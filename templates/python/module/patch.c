/* The patch module. Edit STEP and save: the running host counts by it from its next tick on. */
#include "@IDENT@_tick.h" /* written by slots.py from the signature, into build/ */

#define STEP 10

static int64_t tick(int64_t *counts, int64_t counts_len) {
    if (counts_len < 1) return 0;
    counts[0] += STEP;
    return STEP;
}

@UPPER@_TICK(tick)
/* The number is yours to choose; hotreload counts the versions of each slot by itself. */
HR_MODULE("@NAME@", 1, HR_PATCH("@NAME@.tick", tick_entry))
HR_MODULE_LAYOUT(@UPPER@_TICK_TYPES, @UPPER@_TICK_TAKES)
