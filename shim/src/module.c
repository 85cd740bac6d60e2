/* Modules: load, commit, roll back, retire (DESIGN.md section 5).
 *
 * Invariants:
 *  M1  Order: stage, preflight, layout, same, open, check, on_load, commit; in a transaction all modules pass `same`
 *      before the first is opened. Whatever fails leaves the dispatch table, the slots and the generation as they were.
 *  M2  No code of a module (constructors in dlopen, on_load, on_unload) runs while hr.lock is held.
 *  M3  A module that was opened stays mapped, whatever happens to it (H7): rejected and retired ones are resident,
 *      until unload.c ends them where that was asked for. Whoever uses one without hr.lock has claimed it (in_hook), or
 *      knows that a slot needs it.
 *  M4  on_unload runs only after on_load succeeded, after the grace period that began when the module's last slot left
 *      it, and once for each such time. A roll back that brings a module back after that runs its on_load again. Both
 *      are claimed under hr.lock (in_hook), so that of several threads one runs them.
 *  M5  All slots of a transaction change in one published table, under one hold of hr.lock.
 *  M6  The modules whose retired_at is not 0 are those of the list first_retiring, and hr.retiring is their number:
 *      hr_module_await_grace and end_wait alone change the three. */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- quarantine ---- */

bool hr_quarantined(const hr_runtime *runtime, uint64_t content) {
    for (uint32_t i = 0; i < runtime->quarantine_count; i++)
        if (runtime->quarantine[i] == content) return true;
    return false;
}

bool hr_module_quarantined(const hr_runtime *runtime, const hr_module *module) {
    return hr_quarantined(runtime, module->manifest->content);
}

void hr_quarantine(hr_runtime *runtime, uint64_t content) {
    if (hr_quarantined(runtime, content)) return;
    if (runtime->quarantine_count == runtime->quarantine_capacity) {
        uint32_t capacity = runtime->quarantine_capacity ? runtime->quarantine_capacity * 2 : 16;
        uint64_t *grown = realloc(runtime->quarantine, capacity * sizeof *grown);
        if (grown == NULL) return; /* the content could be loaded again; nothing worse */
        runtime->quarantine = grown;
        runtime->quarantine_capacity = capacity;
    }
    runtime->quarantine[runtime->quarantine_count++] = content;
}

/* ---- modules ---- */

/* One block, as small as can be: thousands may be resident. */
hr_module *hr_module_new(const char *path, const char *staged) {
    size_t path_size = strlen(path) + 1, staged_size = strlen(staged) + 1;
    hr_module *module = calloc(1, sizeof *module + path_size + staged_size);
    if (module == NULL) return NULL;
    char *texts = (char *)(module + 1);
    module->path = memcpy(texts, path, path_size);
    module->staged = memcpy(texts + path_size, staged, staged_size);
    return module;
}

void hr_module_list(hr_module *module, const char *reason) {
    module->next = hr.modules;
    hr.modules = module;
    hr_blackbox_begin();
    hr_blackbox_module(module, reason);
    hr_blackbox_end();
}

/* Its on_unload waits from now on for the grace period that began with the epoch. */
void hr_module_await_grace(hr_module *module, uint64_t epoch) {
    module->retired_at = epoch;
    module->next_retiring = hr.first_retiring;
    hr.first_retiring = module;
    __atomic_fetch_add(&hr.retiring, 1, __ATOMIC_SEQ_CST); /* K6 */
}

static void end_wait(hr_module *module) {
    if (module->retired_at == 0) return;
    hr_module **link = &hr.first_retiring;
    while (*link != module) link = &(*link)->next_retiring;
    *link = module->next_retiring;
    module->retired_at = 0;
    __atomic_fetch_sub(&hr.retiring, 1, __ATOMIC_SEQ_CST);
}

static void *context_of(const hr_module *module) {
    return module->runtime ? hr_context(module->runtime) : module->context;
}

/* ---- hooks, at the host's safe point where it asked for that ---- */

typedef struct hr_hook {
    hr_module *module;
    int32_t status;
    hr_fault fault;
} hr_hook;

static void on_load_itself(void *argument) {
    hr_hook *hook = argument;
    hook->status = hook->module->exported->on_load(context_of(hook->module));
}

static void run_on_load(void *argument) {
    hr_hook *hook = argument;
    hr_guard_run(hook->module, "on_load", on_load_itself, hook, &hook->fault);
}

hr_status hr_module_on_load(hr_module *module, hr_failure *failure, hr_fault *fault) {
    hr_hook hook = {.module = module};
    if (module->exported->on_load) {
        if (hr_at_safe_point(run_on_load, &hook) != HR_OK)
            return hr_fail(failure, HR_E_SAFE_POINT, NULL, NULL, NULL,
                           "on_load of %s waited %d s for the host's safe point", module->manifest->name,
                           HR_SAFE_POINT_SECONDS);
        *fault = hook.fault;
        if (fault->kind != HR_FAULT_NONE) return hr_fault_refuse(module->runtime, module->manifest, fault, failure);
        if (hook.status != 0) {
            char found[32];
            snprintf(found, sizeof found, "status %d", hook.status);
            return hr_fail(failure, HR_E_ON_LOAD, found, "status 0", NULL, "on_load of %s v%llu returned %d",
                           module->manifest->name, (unsigned long long)module->manifest->version, hook.status);
        }
    }
    return HR_OK;
}

static void on_unload_itself(void *argument) {
    hr_module *module = argument;
    module->exported->on_unload(context_of(module));
}

static void run_on_unload(hr_module *module) {
    hr_fault fault = {0};
    if (module->exported->on_unload == NULL) return;
    if (hr_guard_run(module, "on_unload", on_unload_itself, module, &fault)) return;
    hr_report *report = hr_report_new(0, module->path);
    if (report == NULL) return;
    hr_report_manifest(report, module->manifest);
    report->generation = module->runtime ? hr_generation(module->runtime) : 0;
    report->status = hr_fault_describe(module->manifest, &fault, &report->failure);
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_fault(HR_EVENT_CRASH, report, &fault);
    pthread_mutex_unlock(&hr.lock);
    free(report);
}

/* Of a module that nobody else knows yet. False: on_unload is the host's safe point's to run. */
bool hr_module_finish(hr_module *module) {
    if (module->initialised && module->exported->on_unload && hr_needs_safe_point()) return false;
    if (module->initialised) run_on_unload(module);
    module->initialised = false;
    return true;
}

/* ---- retirement; under hr.lock ---- */

void hr_module_retire(hr_module *module, uint64_t epoch, const char *reason) {
    module->state = HR_MODULE_RETIRED;
    module->kept_for = NULL;
    hr_module_await_grace(module, epoch);
    hr_blackbox_module(module, reason);
}

/* Live modules of the runtime: all, or those that the commit left without a slot. */
void hr_module_retire_live(const hr_runtime *runtime, bool unused_only, uint64_t epoch, const char *reason) {
    for (hr_module **link = &hr.live; *link;) {
        hr_module *module = *link;
        if (module->runtime != runtime || (unused_only && module->uses)) {
            link = &module->next_live;
            continue;
        }
        *link = module->next_live;
        hr_module_retire(module, epoch, reason);
    }
}

void hr_module_revive(hr_module *module) {
    end_wait(module);
    module->state = HR_MODULE_LIVE;
    hr_blackbox_cost(module, false);
    module->next_live = hr.live;
    hr.live = module;
}

/* ---- after the grace period ---- */

bool hr_module_waiting(void) { return __atomic_load_n(&hr.retiring, __ATOMIC_SEQ_CST) != 0; } /* K6 */

/* Names the thread that a grace period has been waiting for, once; under hr.lock. */
static void tell_blocked(void) {
    const hr_box *box = hr.box;
    if (box->blocked_thread == 0 || box->blocked_since == hr.blocked_told) return;
    uint64_t waited = (hr_realtime_ns() - box->blocked_since) / 1000000000u;
    hr_report *report = waited >= HR_BLOCKED_SECONDS ? hr_report_new(0, "") : NULL;
    if (report == NULL) return;
    const char *symbol = box->blocked_slot ? hr.slots[box->blocked_slot].symbol : "";
    snprintf(report->failure.reason, sizeof report->failure.reason,
             "thread %u has been in %s%s for %llu s: what it may "
             "run cannot be retired",
             box->blocked_thread, *symbol ? "slot " : "a frame", symbol, (unsigned long long)waited);
    hr.blocked_told = box->blocked_since;
    hr_blackbox_event(HR_EVENT_BLOCKED, report);
    free(report);
}

static hr_module *take_quiescent(void) {
    pthread_mutex_lock(&hr.lock);
    uint64_t quiescent = hr_reclaim_tables();
    tell_blocked();
    hr_module *found = hr.first_retiring;
    while (found && found->retired_at > quiescent) found = found->next_retiring;
    if (found) { /* claimed under the lock: a roll back sees either a live module or one that sleeps (M4) */
        end_wait(found);
        found->in_hook = true;
        found->initialised = false;
    }
    pthread_mutex_unlock(&hr.lock);
    return found;
}

void hr_module_run_grace(void) {
    for (hr_module *module; hr_module_waiting() && (module = take_quiescent());) {
        run_on_unload(module);
        hr_unload_measure(module);
        hr_report *report = hr_module_report(module);
        pthread_mutex_lock(&hr.lock);
        module->in_hook = false; /* from here on it may be unloaded */
        if (report) hr_blackbox_event(HR_EVENT_RETIRE, report);
        pthread_mutex_unlock(&hr.lock);
        free(report);
        hr_unload_soon();
    }
}

/* The hooks that other threads of the parent are in never end here. */
void hr_module_forked(void) {
    for (hr_module *module = hr.modules; module; module = module->next) module->in_hook = false;
}

void hr_module_orphan(hr_runtime *runtime) {
    uint64_t epoch = hr_reclaim_advance();
    hr_blackbox_begin();
    hr_module_retire_live(runtime, false, epoch, "resident: its runtime was freed");
    for (hr_module *module = hr.modules; module; module = module->next) {
        if (module->runtime != runtime) continue;
        module->context = hr_context(runtime);
        module->runtime = NULL;
    }
    hr_blackbox_end();
}
