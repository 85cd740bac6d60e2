/* The torture test's module: two slots that must never be seen in different versions, and one that calls a slot. */
#include "pair.h"
#include <hotreload/patch.h>

/* Volatile: read from the module's bytes, where torture.c has put the copy's tag, and not folded into the code. */
static const volatile uint64_t tag = PAIR_TAG_MARK;

static int32_t tell(void *state, const void *input, void *output) {
    (void)state, (void)input;
    *(uint64_t *)output = tag;
    return 0;
}

static int32_t outer(void *state, const void *input, void *output) {
    uint64_t *tags = output;
    (void)input;
    tags[0] = tag;
    tags[1] = ((pair_state *)state)->inner(state);
    return 0;
}

HR_MODULE("pair", 1, HR_PATCH("pair.x", tell), HR_PATCH("pair.y", tell), HR_PATCH("pair.outer", outer))
