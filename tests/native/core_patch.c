/* A patch module whose hooks count and can be held. -DVERSION=N (below CORE_VERSIONS), -DNAME and -DSYMBOL strings. */
#define _DEFAULT_SOURCE 1 /* usleep */

#include <hotreload/patch.h>

#include <unistd.h>

#include "core_shared.h"

#ifndef VERSION /* for `make lint` */
#define VERSION 1
#define NAME "core"
#define SYMBOL "core.run"
#endif

static int32_t run(void *state, const void *input, void *output) {
    (void)state;
    (void)input;
    (void)output;
    return VERSION;
}

static void hold(core_context *context, const int32_t *version) {
    __atomic_fetch_add(&context->holding, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(version, __ATOMIC_SEQ_CST) == VERSION) usleep(200);
    __atomic_fetch_sub(&context->holding, 1, __ATOMIC_SEQ_CST);
}

static int32_t on_load(void *state) {
    core_context *context = state;
    __atomic_fetch_add(&context->loads[VERSION], 1, __ATOMIC_SEQ_CST);
    hold(context, &context->hold_load);
    if (__atomic_load_n(&context->fork_in_load, __ATOMIC_SEQ_CST)) {
        int32_t child = fork();
        if (child != 0) __atomic_store_n(&context->child, child, __ATOMIC_SEQ_CST);
    }
    return 0;
}

static int32_t on_unload(void *state) {
    core_context *context = state;
    hold(context, &context->hold_unload);
    __atomic_fetch_add(&context->unloads[VERSION], 1, __ATOMIC_SEQ_CST);
    return 0;
}

HR_MODULE_WITH_HOOKS(NAME, VERSION, on_load, on_unload, HR_PATCH(SYMBOL, run))
