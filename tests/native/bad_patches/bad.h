/* What the bad patches share. Each file is one patch of the slot "bad.step"; its first line says what is wrong with it.
 * With -DCR_GUEST the same file is a plugin of cr.h instead: the slot's function is its step, the hooks are its load and
 * its unload. */
#define _GNU_SOURCE 1
#include <stdint.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the patches return, and the host's own function too: a trial shall meet the fault, not another status. */
#define WORKS 1

/* What the host gives as state: exclusive to the call, as it tells the guard. */
typedef struct bad_state {
    int64_t steps;
    int64_t check; /* always the same as steps */
} bad_state;

#ifndef CR_GUEST
#include <hotreload/patch.h>
#else
#include <cr.h>

/* What victim_cr.cpp gives as userdata. */
typedef struct bad_call {
    bad_state *state;
    int64_t *output;
} bad_call;

#define HR_PATCH(symbol, function) function
#define HR_MODULE(name, version, function) HR_MODULE_WITH_HOOKS(name, version, 0, 0, function)
#define HR_MODULE_WITH_HOOKS(name, version, on_load, on_unload, function)                                              \
    CR_EXPORT int cr_main(struct cr_plugin *plugin, enum cr_op operation) {                                            \
        int32_t (*hooks[])(void *) = {on_load, on_unload};                                                             \
        bad_call *call = (bad_call *)plugin->userdata;                                                                 \
        if (operation == CR_STEP) return function(call->state, NULL, call->output);                                    \
        int32_t (*hook)(void *) = hooks[operation != CR_LOAD];                                                         \
        return hook ? -(hook(call->state) != 0) : 0;                                                                   \
    }
#endif
