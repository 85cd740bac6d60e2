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
 *      await_grace and end_wait alone change the three. */
#include "internal.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reports ---- */

static hr_report *report_new(uint32_t changes, const char *path) {
    size_t size = offsetof(hr_report, changes) + (size_t)changes * sizeof(hr_change);
    hr_report *report = calloc(1, size);
    if (report == NULL) return NULL;
    report->size = (uint32_t)size;
    hr_copy_text(report->path, sizeof report->path, path);
    return report;
}

void hr_report_free(hr_report *report) { free(report); }

void hr_reports_free(hr_report **reports, uint32_t count) {
    for (uint32_t i = 0; reports && i < count; i++) free(reports[i]);
    free(reports);
}

static void report_manifest(hr_report *report, const hr_manifest *manifest) {
    memcpy(report->module, manifest->name, sizeof report->module);
    memcpy(report->build_id, manifest->build_id, sizeof report->build_id);
    report->module_version = manifest->version;
    report->content = manifest->content;
    report->warnings = manifest->warnings;
}

hr_report *hr_module_report(const hr_module *module) {
    hr_report *report = report_new(0, module->path);
    if (report == NULL) return NULL;
    report_manifest(report, module->manifest);
    report->generation = module->runtime ? hr_generation(module->runtime) : module->generation;
    return report;
}

/* Room for `extra` more changes; report.size is that of the changes there are: report_trim. */
static hr_report *report_grow(hr_report *report, uint32_t extra) {
    return realloc(report, offsetof(hr_report, changes) + ((size_t)report->change_count + extra) * sizeof(hr_change));
}

static void report_trim(hr_report *report) {
    report->size = (uint32_t)(offsetof(hr_report, changes) + report->change_count * sizeof(hr_change));
}

typedef struct hr_clock {
    uint64_t start, last;
} hr_clock;

static hr_clock clock_start(void) {
    uint64_t now = hr_monotonic_ns();
    return (hr_clock){now, now};
}

static void clock_step(hr_clock *clock, hr_report *report, unsigned step) {
    uint64_t now = hr_monotonic_ns();
    report->us[step] += (now - clock->last + 500) / 1000;
    report->us[HR_STEP_TOTAL] += (now - clock->last + 500) / 1000;
    clock->last = now;
}

/* ---- one module on its way in ---- */

typedef struct hr_incoming {
    hr_staged staged;
    hr_manifest *manifest;
    hr_module *module; /* once opened */
    uint32_t reserved; /* slots promised */
    hr_fault fault;    /* that the guard caught on the way */
    uint32_t assignments_at; /* of the transaction */
} hr_incoming;

struct hr_transaction {
    hr_runtime *runtime;
    hr_incoming *incoming;
    hr_assignment *assignments;
    uint32_t count;
    uint32_t assignment_count;
    hr_shared shared; /* the layouts, with what its modules make of them */
    uint64_t names; /* hr.names when the assignments' slots were looked up */
    bool undeclared; /* some of them do not exist yet: index 0 */
};

static hr_status incoming_preflight(hr_incoming *in, hr_report *report) {
    hr_status status = hr_preflight(in->staged.bytes, in->staged.size, &report->failure, &in->manifest);
    if (status != HR_OK) return status;
    report_manifest(report, in->manifest);
    status = hr_stage_name(&in->staged, in->manifest, &report->failure);
    hr_copy_text(report->staged, sizeof report->staged, in->staged.path);
    return status;
}

static bool quarantined(const hr_runtime *runtime, uint64_t content) {
    for (uint32_t i = 0; i < runtime->quarantine_count; i++)
        if (runtime->quarantine[i] == content) return true;
    return false;
}

bool hr_module_quarantined(const hr_runtime *runtime, const hr_module *module) {
    return quarantined(runtime, module->manifest->content);
}

static void quarantine(hr_runtime *runtime, uint64_t content) {
    if (quarantined(runtime, content)) return;
    if (runtime->quarantine_count == runtime->quarantine_capacity) {
        uint32_t capacity = runtime->quarantine_capacity ? runtime->quarantine_capacity * 2 : 16;
        uint64_t *grown = realloc(runtime->quarantine, capacity * sizeof *grown);
        if (grown == NULL) return; /* the content could be loaded again; nothing worse */
        runtime->quarantine = grown;
        runtime->quarantine_capacity = capacity;
    }
    runtime->quarantine[runtime->quarantine_count++] = content;
}

/* Identity is the hash of all bytes that a load maps, not the build id: the same build id with other bytes (a patched
 * binary) is other code, and a stripped file is not. */
static bool live_already(const hr_runtime *runtime, const hr_manifest *manifest) {
    for (uint32_t i = 0; i < manifest->entry_count; i++) {
        uint32_t index = hr_slot_lookup(runtime, manifest->entries[i].name);
        const hr_module *module = index ? hr.slots[index].module : NULL;
        if (module == NULL || module->manifest->content != manifest->content) return false;
    }
    return manifest->entry_count != 0;
}

static uint32_t missing_slots(const hr_runtime *runtime, const hr_manifest *manifest) {
    uint32_t missing = 0;
    for (uint32_t i = 0; i < manifest->entry_count; i++)
        missing += hr_slot_lookup(runtime, manifest->entries[i].name) == 0;
    return missing;
}

/* Step 4, and the promise that the commit will find slots for all new symbols. */
static hr_status incoming_same(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_status status = HR_OK;
    pthread_mutex_lock(&hr.lock);
    uint32_t missing = missing_slots(runtime, in->manifest);
    if (quarantined(runtime, in->manifest->content))
        status = hr_fail(&report->failure, HR_E_QUARANTINED, report->build_id, NULL, NULL,
                         "%s v%llu with this content was rolled back or crashed in this host", report->module,
                         (unsigned long long)report->module_version);
    else if (live_already(runtime, in->manifest)) status = HR_SAME;
    else if (missing > hr_slot_room())
        status = hr_fail(&report->failure, HR_E_LIMIT, NULL, NULL, NULL, "no room for %u more slots", missing);
    else hr.reserved_slots += in->reserved = missing;
    pthread_mutex_unlock(&hr.lock);
    return status;
}

static int offered_to_all(const char *name) { return dlsym(RTLD_DEFAULT, name) != NULL; }

/* The loader names one missing symbol; the bytes tell the others. Symbols that only a needed library could offer are
 * left out unless the loader named them. */
static hr_status open_failed(const hr_incoming *in, hr_report *report, const char *error) {
    static const char marker[] = "undefined symbol: ";
    const char *found = strstr(error, marker);
    if (found == NULL)
        return hr_fail(&report->failure, strstr(error, "static TLS") ? HR_E_STATIC_TLS : HR_E_SYMBOLS, error, NULL,
                       strstr(error, "cannot open shared object") ? "install the library, or link it statically" : NULL,
                       "the loader refused the module");
    char first[HR_NAME_MAX + 1], names[HR_TEXT_SIZE], fix[HR_TEXT_SIZE + 80];
    hr_copy_text(first, sizeof first, found + sizeof marker - 1);
    first[strcspn(first, " \t\n(,")] = 0;
    uint32_t count = hr_preflight_undefined(in->staged.bytes, in->staged.size, offered_to_all, names, sizeof names);
    if (count == 0 || strstr(names, first) == NULL) hr_copy_text(names, sizeof names, first);
    snprintf(fix, sizeof fix, "define %.200s in the module, link the library that has it, or export it from the host "
             "(-rdynamic)", first);
    return hr_fail(&report->failure, HR_E_SYMBOLS, names, "every symbol defined", fix, "unresolved symbols: %s", names);
}

static const char *signal_name(int32_t number) {
    const char *name = number ? sigabbrev_np(number) : NULL;
    return name ? name : "";
}

/* The sentence that tells a fault, of a module and of what was being called. */
static hr_status describe_fault(const hr_manifest *manifest, const hr_fault *fault, hr_failure *failure) {
    static const char *const cures[] = {"fix the crash and build again", "let the call return, or allow it more time (--hang-seconds), and build again"};
    char where[64] = "", address[40] = "", found[HR_TEXT_SIZE];
    bool hang = fault->signal == 0;
    if (fault->signal != SIGABRT) /* which is sent, and has none */
        snprintf(address, sizeof address, ", address 0x%llx", (unsigned long long)fault->address);
    if (fault->offset) snprintf(where, sizeof where, ", module offset 0x%llx", (unsigned long long)fault->offset);
    if (hang)
        snprintf(found, sizeof found, "no return within %u ms, thread %u%s", hr.options.hang_ms, fault->thread, where);
    else
        snprintf(found, sizeof found, "SIG%s%s, thread %u%s", signal_name(fault->signal), address, fault->thread, where);
    const char *state = fault->kind == HR_FAULT_MIGRATION ? "; the state is as it was"
                        : fault->kind == HR_FAULT_THREAD ? "; its thread sleeps for ever"
                        : fault->restored ? "; its state was restored"
                                          : "; what it has changed stays, locks that it holds stay held";
    return hr_fail(failure, hang ? HR_E_HANG : HR_E_CRASH, found, NULL, cures[hang], "%s v%llu %s in %s%s",
                   manifest->name, (unsigned long long)manifest->version, hang ? "hung" : "crashed", fault->symbol,
                   state);
}

static hr_status crashed(hr_runtime *runtime, const hr_manifest *manifest, const hr_fault *fault,
                         hr_failure *failure) {
    pthread_mutex_lock(&hr.lock);
    if (runtime) quarantine(runtime, manifest->content);
    pthread_mutex_unlock(&hr.lock);
    return describe_fault(manifest, fault, failure);
}

typedef struct hr_opening {
    const char *path;
    const char *error;
    void *handle;
} hr_opening;

static void run_open(void *argument) {
    hr_opening *opening = argument;
    dlerror();
    opening->handle = dlopen(opening->path, RTLD_NOW | RTLD_LOCAL);
    if (opening->handle) return;
    opening->error = dlerror();
    if (opening->error == NULL) opening->error = "the loader gave no reason";
}

/* One block, as small as can be: thousands may be resident. */
static hr_module *new_module(const char *path, const char *staged) {
    size_t path_size = strlen(path) + 1, staged_size = strlen(staged) + 1;
    hr_module *module = calloc(1, sizeof *module + path_size + staged_size);
    if (module == NULL) return NULL;
    char *texts = (char *)(module + 1);
    module->path = memcpy(texts, path, path_size);
    module->staged = memcpy(texts + path_size, staged, staged_size);
    return module;
}

static hr_status incoming_open(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_module *module = new_module(report->path, in->staged.path);
    if (module == NULL) return hr_fail(&report->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    hr_opening opening = {.path = in->staged.path};
    if (!hr_guard_run(NULL, "a constructor", run_open, &opening, &in->fault)) {
        free(module);
        return crashed(runtime, in->manifest, &in->fault, &report->failure);
    }
    module->handle = opening.handle;
    if (module->handle == NULL) {
        free(module);
        return open_failed(in, report, opening.error);
    }
    module->runtime = runtime;
    module->manifest = in->manifest;
    module->size = in->staged.size;
    module->state = HR_MODULE_RETIRED; /* until its commit */
    in->module = module;
    return HR_OK;
}

static bool same_address(const hr_module *module, const void *pointer, uint64_t address) {
    return (uintptr_t)pointer == (address ? module->base + (uintptr_t)address : 0);
}

static hr_status differs(hr_report *report, const char *what) {
    return hr_fail(&report->failure, HR_E_MANIFEST, what, "the module's own code and data",
                   "link with -Wl,-Bsymbolic and compile with -fvisibility=hidden",
                   "in memory, %s is not what the file says: another library's symbol took its place", what);
}

/* Step 6. Symbols bound elsewhere (H9) and constructors that write to the manifest show here. */
static hr_status incoming_check(hr_incoming *in, hr_report *report) {
    hr_module *module = in->module;
    const hr_manifest *manifest = in->manifest;
    struct link_map *map = NULL;
    if (dlinfo(module->handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) return differs(report, "the load address");
    module->base = map->l_addr;
    hr_guard_module(module);
    hr_unload_read(module);
    const hr_patch_module_v1 *exported = (const void *)(module->base + (uintptr_t)manifest->address);
    module->exported = exported;
    if (exported->abi_magic != HR_ABI_MAGIC_V1 || exported->abi_version != HR_ABI_VERSION_V1 ||
        exported->struct_size != HR_ABI_STRUCT_SIZE_V1 || exported->module_version != manifest->version ||
        exported->entry_count != manifest->entry_count)
        return differs(report, "the manifest's header");
    if (exported->name == NULL || strcmp(exported->name, manifest->name) != 0)
        return differs(report, "the module's name");
    if (!same_address(module, (const void *)(uintptr_t)exported->on_load, manifest->on_load) ||
        !same_address(module, (const void *)(uintptr_t)exported->on_unload, manifest->on_unload))
        return differs(report, "on_load or on_unload");
    for (uint32_t i = 0; i < manifest->entry_count; i++) {
        const hr_patch_entry_v1 *entry = &exported->entries[i];
        if (!same_address(module, (const void *)(uintptr_t)entry->func, manifest->entries[i].function) ||
            entry->name == NULL || strcmp(entry->name, manifest->entries[i].name) != 0)
            return differs(report, manifest->entries[i].name);
    }
    if (!hr_shared_in_memory(manifest, in->staged.bytes, module->base)) return differs(report, "HOTPATCH_LAYOUT_V1");
    return HR_OK;
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

static hr_status call_on_load(hr_module *module, hr_failure *failure, hr_fault *fault) {
    hr_hook hook = {.module = module};
    if (module->exported->on_load) {
        if (hr_at_safe_point(run_on_load, &hook) != HR_OK)
            return hr_fail(failure, HR_E_SAFE_POINT, NULL, NULL, NULL,
                           "on_load of %s waited %d s for the host's safe point", module->manifest->name,
                           HR_SAFE_POINT_SECONDS);
        *fault = hook.fault;
        if (fault->kind != HR_FAULT_NONE) return crashed(module->runtime, module->manifest, fault, failure);
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
    hr_report *report = report_new(0, module->path);
    if (report == NULL) return;
    report_manifest(report, module->manifest);
    report->generation = module->runtime ? hr_generation(module->runtime) : 0;
    report->status = describe_fault(module->manifest, &fault, &report->failure);
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_fault(HR_EVENT_CRASH, report, &fault);
    pthread_mutex_unlock(&hr.lock);
    free(report);
}

/* Of a module that nobody else knows yet. False: on_unload is the host's safe point's to run. */
static bool finish(hr_module *module) {
    if (module->initialised && module->exported->on_unload && hr_needs_safe_point()) return false;
    if (module->initialised) run_on_unload(module);
    module->initialised = false;
    return true;
}

/* ---- prepare ---- */

/* All that can be known before any code of the module runs. */
static hr_status incoming_read(hr_runtime *runtime, hr_shared *shared, hr_incoming *in, hr_report *report) {
    hr_clock clock = clock_start();
    hr_status status = hr_stage(report->path, &in->staged, &report->failure);
    clock_step(&clock, report, HR_STEP_STAGE);
    if (status != HR_OK) return status;
    status = incoming_preflight(in, report);
    clock_step(&clock, report, HR_STEP_PREFLIGHT);
    if (status != HR_OK) return status;
    status = hr_shared_add(runtime, shared, in->manifest, &report->failure);
    clock_step(&clock, report, HR_STEP_LAYOUT);
    if (status != HR_OK) return status;
    status = incoming_same(runtime, in, report);
    clock_step(&clock, report, HR_STEP_SAME);
    return status;
}

static hr_status incoming_start(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_clock clock = clock_start();
    hr_status status = incoming_open(runtime, in, report);
    clock_step(&clock, report, HR_STEP_OPEN);
    if (status != HR_OK) return status;
    status = incoming_check(in, report);
    clock_step(&clock, report, HR_STEP_CHECK);
    if (status != HR_OK) return status;
    status = call_on_load(in->module, &report->failure, &in->fault);
    in->module->initialised = status == HR_OK;
    clock_step(&clock, report, HR_STEP_ON_LOAD);
    return status;
}

/* Its on_unload waits from now on for the grace period that began with the epoch. */
static void await_grace(hr_module *module, uint64_t epoch) {
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

static void list_module(hr_module *module, const char *reason) {
    module->next = hr.modules;
    hr.modules = module;
    hr_blackbox_begin();
    hr_blackbox_module(module, reason);
    hr_blackbox_end();
}

/* Takes one preparation back: what was opened stays mapped and is listed as resident, the rest goes. */
static void incoming_undo(hr_incoming *in, const char *reason) {
    hr_stage_unmap(&in->staged);
    if (in->module) {
        bool finished = finish(in->module);
        hr_unload_measure(in->module);
        pthread_mutex_lock(&hr.lock);
        list_module(in->module, reason);
        /* If not, like a module that was replaced: at the next safe point. */
        if (!finished) await_grace(in->module, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED));
        pthread_mutex_unlock(&hr.lock);
        if (!finished) hr_control_wake();
        else hr_unload_soon();
    } else {
        hr_stage_discard(&in->staged);
        hr_manifest_free(in->manifest);
    }
    pthread_mutex_lock(&hr.lock);
    hr.reserved_slots -= in->reserved;
    pthread_mutex_unlock(&hr.lock);
    memset(in, 0, sizeof *in);
}

static void event(uint32_t kind, const hr_report *report) {
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_event(kind, report);
    pthread_mutex_unlock(&hr.lock);
}

static void set_status(hr_report *report, hr_status status) {
    report->status = status;
    report->failure.status = status == HR_SAME ? HR_OK : (int32_t)status;
}

/* The end of one module's way, if it is one. */
static hr_status settle(hr_transaction *transaction, hr_incoming *in, hr_report *report, hr_status status) {
    report->generation = hr_generation(transaction->runtime);
    set_status(report, status);
    if (status == HR_OK) return status;
    hr_fault fault = in->fault;
    incoming_undo(in, hr_status_code(status));
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_fault(status == HR_SAME ? HR_EVENT_SAME : HR_EVENT_REJECT, report, &fault);
    pthread_mutex_unlock(&hr.lock);
    return status;
}

static hr_status read_one(hr_transaction *transaction, uint32_t i, hr_report **report) {
    hr_incoming *in = &transaction->incoming[i];
    hr_status status = incoming_read(transaction->runtime, &transaction->shared, in, *report);
    hr_report *grown = status == HR_OK ? report_grow(*report, in->manifest->entry_count) : *report;
    if (grown) *report = grown;
    else status = hr_fail(&(*report)->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    if (status == HR_OK) transaction->assignment_count += in->manifest->entry_count;
    return settle(transaction, in, *report, status);
}

static hr_status try_one(hr_transaction *transaction, uint32_t i, hr_report *report) {
    hr_incoming *in = &transaction->incoming[i];
    if (in->manifest == NULL) return HR_OK; /* the same as what is live */
    hr_clock clock = clock_start();
    hr_status status =
        hr_trial_run(transaction->runtime, in->staged.path, in->manifest, &report->failure, &report->warnings);
    clock_step(&clock, report, HR_STEP_TRIAL);
    return status == HR_OK ? status : settle(transaction, in, report, status);
}

static hr_status start_one(hr_transaction *transaction, uint32_t i, hr_report *report) {
    hr_incoming *in = &transaction->incoming[i];
    if (in->manifest == NULL) return HR_OK; /* the same as what is live */
    hr_status status = incoming_start(transaction->runtime, in, report);
    hr_stage_unmap(&in->staged);
    return settle(transaction, in, report, status);
}

static void transaction_free(hr_transaction *transaction) {
    hr_shared_end(&transaction->shared);
    /* Freed memory is scanned too: it must not seem to point into a module. */
    explicit_bzero(transaction->incoming, transaction->count * sizeof *transaction->incoming);
    free(transaction->incoming);
    if (transaction->assignments)
        explicit_bzero(transaction->assignments, transaction->assignment_count * sizeof *transaction->assignments);
    free(transaction->assignments);
    free(transaction);
}

static void transaction_undo(hr_transaction *transaction, const char *reason) {
    for (uint32_t i = transaction->count; i-- > 0;) /* what came last may rest on what came first */
        if (transaction->incoming[i].manifest || transaction->incoming[i].staged.path[0])
            incoming_undo(&transaction->incoming[i], reason);
    transaction_free(transaction);
}

static void report_aborted(hr_report *report, const char *culprit) {
    if (report->status != HR_OK) return;
    set_status(report, hr_fail(&report->failure, HR_E_ABORTED, NULL, NULL, NULL,
                               "not swapped: %s of the same transaction was refused", culprit));
}

/* One entry of one module of a transaction. */
typedef struct hr_claim {
    const char *symbol;
    uint32_t module;
} hr_claim;

static int by_symbol(const void *a, const void *b) {
    const hr_claim *x = a, *y = b;
    int order = strcmp(x->symbol, y->symbol);
    return order ? order : (x->module > y->module) - (x->module < y->module);
}

/* The same file twice in one transaction, or two files for one slot, has no meaning that a user could want. */
static hr_status check_overlap(hr_transaction *transaction, hr_report **reports, uint32_t *culprit) {
    hr_claim *claims = calloc(transaction->assignment_count + 1, sizeof *claims);
    if (claims == NULL) return HR_E_MEMORY;
    uint32_t count = 0;
    for (uint32_t i = 0; i < transaction->count; i++) {
        const hr_manifest *manifest = transaction->incoming[i].manifest;
        for (uint32_t k = 0; manifest && k < manifest->entry_count; k++)
            claims[count++] = (hr_claim){manifest->entries[k].name, i};
    }
    qsort(claims, count, sizeof *claims, by_symbol);
    hr_status status = HR_OK;
    for (uint32_t i = 1; status == HR_OK && i < count; i++) {
        if (strcmp(claims[i - 1].symbol, claims[i].symbol) != 0) continue;
        *culprit = claims[i].module;
        hr_report *report = reports[*culprit];
        status = hr_fail(&report->failure, HR_E_MANIFEST, claims[i].symbol, NULL,
                         "let one module of a transaction implement each slot", "%s and %s both implement it",
                         reports[claims[i - 1].module]->module, report->module);
        set_status(report, status);
        event(HR_EVENT_REJECT, report);
    }
    free(claims);
    return status;
}

/* G3, G4: whether the state may be migrated that the modules want migrated; under hr.lock. */
static hr_status check_migrations(const hr_transaction *transaction, hr_failure *failure) {
    if (transaction->shared.migrations.count == 0) return HR_OK;
    hr_status status = hr_migrate_allowed(failure);
    const hr_layout_v1 **codes = status == HR_OK ? hr_migrate_codes(transaction->runtime) : NULL;
    if (codes == NULL) return status == HR_OK ? HR_E_MEMORY : status;
    for (uint32_t i = 0; i < transaction->count; i++) {
        const hr_manifest *manifest = transaction->incoming[i].manifest;
        for (uint32_t k = 0; manifest && k < manifest->entry_count; k++)
            codes[hr_slot_lookup(transaction->runtime, manifest->entries[k].name)] = NULL; /* is replaced */
    }
    codes[0] = NULL;
    status = hr_migrate_others(codes, transaction->shared.next, failure);
    free(codes);
    return status;
}

static hr_status check_migrations_early(const hr_transaction *transaction, hr_report **reports, uint32_t *culprit) {
    pthread_mutex_lock(&hr.lock);
    hr_failure failure = {0};
    hr_status status = check_migrations(transaction, &failure);
    pthread_mutex_unlock(&hr.lock);
    for (uint32_t i = 0; status != HR_OK && i < transaction->count; i++) {
        const hr_manifest *manifest = transaction->incoming[i].manifest;
        if (manifest == NULL || manifest != transaction->shared.migrations.items[0].manifest) continue;
        *culprit = i;
        reports[i]->failure = failure;
        set_status(reports[i], status);
        event(HR_EVENT_REJECT, reports[i]);
    }
    return status;
}

static hr_transaction *transaction_new(hr_runtime *runtime, uint32_t count) {
    hr_transaction *transaction = calloc(1, sizeof *transaction);
    if (transaction == NULL) return NULL;
    transaction->runtime = runtime;
    transaction->count = count;
    transaction->incoming = calloc(count ? count : 1, sizeof *transaction->incoming);
    if (transaction->incoming == NULL) {
        free(transaction);
        return NULL;
    }
    hr_shared_begin(runtime, &transaction->shared);
    return transaction;
}

static void forget_reports(hr_report **reports, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        free(reports[i]);
        reports[i] = NULL;
    }
}

/* The slots that the modules name, in the order of their entries; under hr.lock. */
static void find_slots(hr_transaction *transaction) {
    uint32_t at = 0;
    transaction->undeclared = false;
    for (uint32_t i = 0; i < transaction->count; i++) {
        hr_incoming *in = &transaction->incoming[i];
        in->assignments_at = at;
        for (uint32_t k = 0; in->module && k < in->manifest->entry_count; k++) {
            uint32_t index = hr_slot_lookup(transaction->runtime, in->manifest->entries[k].name);
            hr_patch_fn function = in->module->exported->entries[k].func;
            transaction->assignments[at++] = (hr_assignment){index, function, in->module, 0};
            if (index == 0) transaction->undeclared = true;
        }
    }
    transaction->assignment_count = at;
    transaction->names = hr.names;
}

hr_past *hr_past_place(const hr_slot_info *slot, uint32_t place) {
    return &hr.past[(size_t)place * hr.capacity + (size_t)(slot - hr.slots)];
}

/* Has the kernel give the pages that remember() will write: it does so at their first use, and each of the first commits
 * uses new ones. Under hr.lock. */
static void touch_past(const hr_transaction *transaction) {
    for (uint32_t i = 0; i < transaction->assignment_count; i++) {
        const hr_slot_info *slot = &hr.slots[transaction->assignments[i].index]; /* that of index 0 is nobody's */
        if (slot->past_count < HR_HISTORY) *hr_past_place(slot, slot->past_next) = (hr_past){NULL, NULL};
    }
}

/* All of a commit that can be done before it, so that it holds the lock for no longer than it has to. */
static void make_ready(hr_transaction *transaction, hr_report **reports) {
    for (uint32_t i = 0; i < transaction->count; i++) {
        const hr_incoming *in = &transaction->incoming[i];
        for (uint32_t k = 0; in->module && k < in->manifest->entry_count; k++)
            memcpy(reports[i]->changes[k].symbol, in->manifest->entries[k].name, sizeof reports[i]->changes[k].symbol);
    }
    pthread_mutex_lock(&hr.lock);
    find_slots(transaction);
    touch_past(transaction);
    pthread_mutex_unlock(&hr.lock);
}

hr_status hr_prepare(hr_runtime *runtime, const char *const *paths, uint32_t count, hr_report **reports,
                     hr_transaction **transaction) {
    *transaction = NULL;
    memset(reports, 0, count * sizeof *reports);
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    hr_slow_tell(); /* in a host that serves nobody nothing else does */
    hr_transaction *made = transaction_new(hr_runtime_or_default(runtime), count);
    if (made == NULL) return HR_E_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        if ((reports[i] = report_new(0, paths[i])) != NULL) continue;
        forget_reports(reports, i);
        transaction_free(made);
        return HR_E_MEMORY;
    }
    hr_status result = HR_OK;
    uint32_t culprit = 0;
    for (uint32_t i = 0; i < count; i++) { /* all of them, so that the user sees every fault at once */
        status = read_one(made, i, &reports[i]);
        if (status == HR_OK || status == HR_SAME || result != HR_OK) continue;
        result = status;
        culprit = i;
    }
    if (result == HR_OK && count > 1) result = check_overlap(made, reports, &culprit);
    if (result == HR_OK && made->shared.migrations.count) result = check_migrations_early(made, reports, &culprit);
    bool migrates = made->shared.migrations.count != 0; /* then a trial would meet state of the old layout */
    for (uint32_t i = 0; !migrates && result == HR_OK && i < count; i++) { /* all before the first is opened here */
        result = try_one(made, i, reports[i]);
        culprit = i;
    }
    for (uint32_t i = 0; migrates && hr_option(HR_OPTION_TRIAL) && i < count; i++) reports[i]->warnings |= HR_WARN_UNTRIED;
    for (uint32_t i = 0; result == HR_OK && i < count; i++) {
        result = start_one(made, i, reports[i]);
        culprit = i;
    }
    made->assignments = calloc(made->assignment_count ? made->assignment_count : 1, sizeof *made->assignments);
    if (result == HR_OK && made->assignments == NULL) result = HR_E_MEMORY;
    if (result == HR_OK) {
        make_ready(made, reports);
        *transaction = made;
        return HR_OK;
    }
    if (reports[culprit]->status == HR_OK) { /* out of memory for what belongs to none of them */
        hr_fail(&reports[culprit]->failure, result, NULL, NULL, NULL, "%s", hr_status_text(result));
        set_status(reports[culprit], result);
        event(HR_EVENT_REJECT, reports[culprit]);
    }
    for (uint32_t i = 0; i < count; i++)
        report_aborted(reports[i], reports[culprit]->module[0] ? reports[culprit]->module : reports[culprit]->path);
    transaction_undo(made, "not swapped: another module of its transaction was refused");
    return result;
}

void hr_abort(hr_transaction *transaction) {
    if (transaction) transaction_undo(transaction, "not swapped: its transaction was aborted");
}

/* ---- commit; all of it under hr.lock ---- */

static void remember(hr_slot_info *slot) {
    *hr_past_place(slot, slot->past_next) = (hr_past){slot->module, slot->function};
    slot->past_next = (uint16_t)((slot->past_next + 1) % HR_HISTORY);
    if (slot->past_count < HR_HISTORY) slot->past_count++;
}

/* `back` 1: the newest. */
static const hr_past *past_at(const hr_slot_info *slot, uint32_t back) {
    return hr_past_place(slot, (slot->past_next + HR_HISTORY - back) % HR_HISTORY);
}

static hr_past take_past(hr_slot_info *slot) {
    hr_past newest = *past_at(slot, 1);
    slot->past_next = (uint16_t)((slot->past_next + HR_HISTORY - 1) % HR_HISTORY);
    *hr_past_place(slot, slot->past_next) = (hr_past){NULL, NULL}; /* no scan may find it */
    slot->past_count--;
    return newest;
}

static void record_kind(hr_report *report, uint32_t index, uint64_t from, uint32_t kind) {
    hr_change *change = &report->changes[report->change_count++]; /* its symbol is there */
    change->from = from;
    change->to = hr.slots[index].version;
    change->kind = kind;
    change->slot = index;
}

static void record_change(hr_report *report, uint32_t index, uint64_t from, uint32_t kind) {
    memcpy(report->changes[report->change_count].symbol, hr.slots[index].symbol, sizeof report->changes->symbol);
    record_kind(report, index, from, kind);
}

static void assign(hr_slot_info *slot, const hr_assignment *assignment) {
    if (slot->module) slot->module->uses--;
    slot->module = assignment->module;
    slot->function = assignment->function;
    slot->version++;
    if (slot->module) slot->module->uses++;
}

/* Creates what the modules name and no host declared; the reservation made room, only memory can fail. */
static hr_status resolve(hr_transaction *transaction) {
    if (transaction->names != hr.names) find_slots(transaction);
    for (uint32_t i = 0; transaction->undeclared && i < transaction->count; i++) {
        const hr_incoming *in = &transaction->incoming[i];
        for (uint32_t k = 0; in->module && k < in->manifest->entry_count; k++) {
            hr_assignment *assignment = &transaction->assignments[in->assignments_at + k];
            if (assignment->index) continue;
            hr_status status =
                hr_slot_create(transaction->runtime, in->manifest->entries[k].name, &assignment->index);
            if (status != HR_OK) return status;
        }
    }
    for (uint32_t i = 0; i < transaction->assignment_count; i++)
        transaction->assignments[i].version = hr.slots[transaction->assignments[i].index].version + 1;
    return HR_OK;
}

/* Whether a live module of this name still has a slot: seldom, and it costs a look at every slot to say which. */
static bool another_runs(const hr_transaction *transaction, const hr_incoming *in) {
    for (const hr_module *module = hr.live; module; module = module->next_live)
        if (module != in->module && module->uses && module->runtime == transaction->runtime &&
            strcmp(module->manifest->name, in->manifest->name) == 0)
            return true;
    return false;
}

/* Slots that an earlier module of this name implements and this version no longer lists. */
static hr_report *report_kept(hr_transaction *transaction, const hr_incoming *in, hr_report *report) {
    uint32_t kept = 0;
    if (!another_runs(transaction, in)) return report;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 1; i < hr.slot_count; i++) {
            const hr_module *module = hr.slots[i].module;
            if (hr.slots[i].runtime != transaction->runtime || module == NULL || module == in->module ||
                strcmp(module->manifest->name, in->manifest->name) != 0)
                continue;
            if (pass == 0) kept++;
            else record_change(report, i, hr.slots[i].version, HR_CHANGE_KEPT);
        }
        if (pass == 0) {
            hr_report *grown = kept ? report_grow(report, kept) : NULL;
            if (grown == NULL) break; /* none, or no memory to tell them */
            report = grown;
        }
    }
    return report;
}

static void begin_retirement(hr_module *module, uint64_t epoch, const char *reason) {
    module->state = HR_MODULE_RETIRED;
    await_grace(module, epoch);
    hr_blackbox_module(module, reason);
}

/* Live modules of the runtime: all, or those that the commit left without a slot. */
static void retire_live(const hr_runtime *runtime, bool unused_only, uint64_t epoch, const char *reason) {
    for (hr_module **link = &hr.live; *link;) {
        hr_module *module = *link;
        if (module->runtime != runtime || (unused_only && module->uses)) {
            link = &module->next_live;
            continue;
        }
        *link = module->next_live;
        begin_retirement(module, epoch, reason);
    }
}

static void revive(hr_module *module) {
    end_wait(module);
    module->state = HR_MODULE_LIVE;
    hr_blackbox_cost(module, false);
    module->next_live = hr.live;
    hr.live = module;
}

typedef struct hr_commit_job {
    hr_transaction *transaction;
    hr_report **reports;
    hr_status status;
    hr_failure failure; /* empty where the status says it all */
    hr_migrate_fault fault;
} hr_commit_job;

static void commit_modules(hr_transaction *transaction, hr_report **reports) {
    uint64_t now = hr_realtime_ns();
    hr_blackbox_begin();
    for (uint32_t i = 0; i < transaction->count; i++) {
        hr_incoming *in = &transaction->incoming[i];
        if (in->module == NULL) continue;
        in->module->generation = transaction->runtime->generation;
        in->module->next = hr.modules;
        hr.modules = in->module;
        revive(in->module);
        hr_blackbox_module(in->module, "");
        uint32_t end = in->assignments_at + in->manifest->entry_count;
        for (uint32_t at = in->assignments_at; at < end; at++) {
            const hr_assignment *assignment = &transaction->assignments[at];
            hr_slot_info *slot = &hr.slots[assignment->index];
            uint64_t from = slot->version;
            /* As in hr_blackbox_swapped: changes are far apart. */
            if (at + HR_AHEAD < end) __builtin_prefetch(&reports[i]->changes[reports[i]->change_count + HR_AHEAD].from, 1);
            remember(slot);
            assign(slot, assignment);
            record_kind(reports[i], assignment->index, from,
                        slot->declared ? HR_CHANGE_SWAPPED : HR_CHANGE_UNDECLARED);
        }
        hr.reserved_slots -= in->reserved;
        reports[i]->generation = in->module->generation;
    }
    hr_blackbox_swapped(transaction->assignments, transaction->assignment_count, now);
    for (uint32_t i = 0; i < transaction->count; i++)
        if (transaction->incoming[i].module)
            reports[i] = report_kept(transaction, &transaction->incoming[i], reports[i]);
    hr_blackbox_end();
}

static uint64_t end_commit(hr_runtime *runtime, const char *reason) {
    uint64_t epoch = hr_reclaim_advance();
    hr_blackbox_begin();
    retire_live(runtime, true, epoch, reason);
    hr_blackbox_end();
    hr_reclaim_tables();
    return epoch;
}

/* Rolled back by somebody else since it was prepared. */
static bool any_quarantined(const hr_transaction *transaction) {
    for (uint32_t i = 0; i < transaction->count; i++)
        if (transaction->incoming[i].module &&
            quarantined(transaction->runtime, transaction->incoming[i].manifest->content))
            return true;
    return false;
}

/* Another commit has changed the layouts since step 3: they are compared again. */
static hr_status check_layouts_again(hr_transaction *transaction, hr_failure *failure) {
    hr_status status = HR_OK;
    hr_shared_restart(transaction->runtime, &transaction->shared);
    for (uint32_t i = 0; i < transaction->count && status == HR_OK; i++)
        if (transaction->incoming[i].module)
            status = hr_shared_add(transaction->runtime, &transaction->shared, transaction->incoming[i].manifest,
                                   failure);
    return status;
}

static hr_module *resolve_incoming(void *context, const hr_manifest *manifest) {
    const hr_transaction *transaction = context;
    uint32_t i = 0;
    while (transaction->incoming[i].manifest != manifest) i++;
    return transaction->incoming[i].module;
}

static void end_moves(hr_runtime *runtime, hr_moves *moves, hr_status status) {
    if (status == HR_OK) hr_moves_shrink(runtime, moves);
    else hr_moves_undo(runtime, moves);
    hr_moves_free(moves);
}

static hr_status changed_meanwhile(hr_failure *failure) {
    return hr_fail(failure, HR_E_ABORTED, NULL, NULL, "do it again", "other modules were swapped, or other state was "
                   "registered, while the state was being migrated");
}

static void run_commit(void *argument) {
    hr_commit_job *job = argument;
    hr_transaction *transaction = job->transaction;
    hr_runtime *runtime = transaction->runtime;
    hr_moves *moves = NULL;
    if (transaction->shared.migrations.count)
        job->status = hr_migrate_run(runtime, &transaction->shared.migrations, resolve_incoming, transaction,
                                     &job->failure, &job->fault, &moves);
    if (job->fault.module) crashed(runtime, job->fault.module->manifest, &job->fault.fault, &job->failure);
    pthread_mutex_lock(&hr.lock);
    if (job->status == HR_OK && any_quarantined(transaction)) job->status = HR_E_QUARANTINED;
    bool stale = hr_shared_stale(runtime, &transaction->shared);
    if (job->status == HR_OK && moves && (stale || hr_moves_stale(runtime, moves)))
        job->status = changed_meanwhile(&job->failure);
    if (job->status == HR_OK && stale) job->status = check_layouts_again(transaction, &job->failure);
    if (job->status == HR_OK && transaction->shared.migrations.count && moves == NULL)
        job->status = changed_meanwhile(&job->failure);
    if (job->status == HR_OK) job->status = check_migrations(transaction, &job->failure);
    if (job->status == HR_OK) job->status = hr_shared_reserve(&transaction->shared);
    if (job->status == HR_OK) job->status = resolve(transaction);
    if (job->status == HR_OK)
        job->status = hr_dispatch_publish(transaction->assignments, transaction->assignment_count);
    if (job->status == HR_OK) {
        if (moves) hr_moves_put(runtime, moves);
        hr_shared_commit(runtime, &transaction->shared);
        __atomic_add_fetch(&transaction->runtime->generation, 1, __ATOMIC_RELEASE);
        commit_modules(transaction, job->reports);
        end_commit(transaction->runtime, "resident: replaced");
    }
    pthread_mutex_unlock(&hr.lock);
    end_moves(runtime, moves, job->status);
}

static bool anything_to_swap(const hr_transaction *transaction) {
    for (uint32_t i = 0; i < transaction->count; i++)
        if (transaction->incoming[i].module) return true;
    return false;
}

static void report_commit(hr_transaction *transaction, hr_report **reports, hr_clock *clock) {
    for (uint32_t i = 0; i < transaction->count; i++) {
        if (transaction->incoming[i].module == NULL) continue;
        hr_clock own = *clock;
        clock_step(&own, reports[i], HR_STEP_COMMIT);
        report_trim(reports[i]);
        event(HR_EVENT_SWAP, reports[i]);
    }
}

hr_status hr_commit(hr_transaction *transaction, hr_report **reports) {
    hr_status status = HR_OK;
    if (anything_to_swap(transaction)) {
        hr_clock clock = clock_start();
        hr_commit_job job = {.transaction = transaction, .reports = reports};
        status = hr_at_safe_point(run_commit, &job);
        if (status == HR_OK) status = job.status;
        if (status != HR_OK) {
            for (uint32_t i = 0; i < transaction->count; i++) {
                if (reports[i]->status != HR_OK) continue;
                hr_fail(&reports[i]->failure, status, NULL, NULL, NULL, "%s", hr_status_text(status));
                if (job.failure.status == (int32_t)status) reports[i]->failure = job.failure;
                set_status(reports[i], status);
                bool own = job.fault.module && job.fault.module == transaction->incoming[i].module;
                pthread_mutex_lock(&hr.lock);
                hr_blackbox_fault(HR_EVENT_REJECT, reports[i], own ? &job.fault.fault : NULL);
                pthread_mutex_unlock(&hr.lock);
            }
            transaction_undo(transaction, hr_status_code(status));
            return status;
        }
        report_commit(transaction, reports, &clock);
    }
    transaction_free(transaction);
    if (hr_module_waiting()) hr_control_wake();
    return HR_OK;
}

hr_status hr_load(hr_runtime *runtime, const char *path, hr_report **report) {
    hr_transaction *transaction;
    hr_report *made = NULL;
    hr_status status = hr_prepare(runtime, &path, 1, &made, &transaction);
    if (status == HR_OK) {
        status = hr_commit(transaction, &made);
        if (status == HR_OK) status = (hr_status)made->status;
    }
    if (report) *report = made;
    else hr_report_free(made);
    return status;
}

/* ---- roll back ---- */

/* What is to be taken back, and the assignments that do it. */
typedef struct hr_rollback_plan {
    hr_runtime *runtime;
    hr_module **modules;
    uint32_t module_count;
    hr_assignment *assignments;
    uint32_t assignment_count;
    uint64_t newest; /* the generation that is taken back */
    const hr_module *only; /* what the guard takes back; null: what the name says */
} hr_rollback_plan;

static bool chosen(const hr_module *module, const hr_runtime *runtime, const char *name, uint64_t newest) {
    if (module->runtime != runtime || module->uses == 0) return false;
    return module->generation == newest && (name == NULL || strcmp(module->manifest->name, name) == 0);
}

/* Of the modules of that name, or of all: an older version that backs a kept slot is not what the user wants undone. */
static uint64_t newest_commit(const hr_runtime *runtime, const char *name) {
    uint64_t newest = 0;
    for (const hr_module *module = hr.live; module; module = module->next_live)
        if (module->runtime == runtime && module->uses &&
            module->generation > newest && (name == NULL || strcmp(module->manifest->name, name) == 0))
            newest = module->generation;
    return newest;
}

static bool in_plan(const hr_rollback_plan *plan, const hr_module *module) {
    for (uint32_t i = 0; i < plan->module_count; i++)
        if (plan->modules[i] == module) return true;
    return false;
}

/* The newest past implementation that is neither being taken back as well nor was before. */
static hr_past previous_of(const hr_rollback_plan *plan, const hr_slot_info *slot) {
    for (uint32_t back = 1; back <= slot->past_count; back++) {
        const hr_past *past = past_at(slot, back);
        if (past->module == NULL ||
            (!in_plan(plan, past->module) && !quarantined(plan->runtime, past->module->manifest->content)))
            return *past;
    }
    return (hr_past){NULL, slot->fallback ? slot->fallback : hr_unresolved};
}

static hr_past past_or_fallback(const hr_rollback_plan *plan, const hr_slot_info *slot) {
    hr_past past = previous_of(plan, slot);
    /* The fallback may have been declared after the module came. */
    if (past.module == NULL) past.function = slot->fallback ? slot->fallback : hr_unresolved;
    return past;
}

static hr_status plan_rollback(hr_rollback_plan *plan, const char *name) {
    uint32_t modules = 0;
    for (hr_module *module = hr.live; module; module = module->next_live) modules++;
    plan->modules = calloc(modules + 1, sizeof *plan->modules);
    plan->assignments = calloc(hr.slot_count, sizeof *plan->assignments);
    if (!plan->modules || !plan->assignments) return HR_E_MEMORY;
    plan->newest = plan->only ? plan->only->generation : newest_commit(plan->runtime, name);
    for (hr_module *module = hr.live; module; module = module->next_live)
        if (plan->only ? module == plan->only && module->uses : chosen(module, plan->runtime, name, plan->newest))
            plan->modules[plan->module_count++] = module;
    if (plan->module_count == 0) return HR_E_NO_PREVIOUS;
    plan->assignment_count = 0;
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        if (hr.slots[i].module == NULL || !in_plan(plan, hr.slots[i].module)) continue;
        hr_past past = past_or_fallback(plan, &hr.slots[i]);
        plan->assignments[plan->assignment_count++] =
            (hr_assignment){i, past.function, past.module, hr.slots[i].version + 1};
    }
    return HR_OK;
}

static void plan_free(hr_rollback_plan *plan) {
    free(plan->modules);
    if (plan->assignments) explicit_bzero(plan->assignments, plan->assignment_count * sizeof *plan->assignments);
    free(plan->assignments);
    plan->modules = NULL;
    plan->assignments = NULL;
    plan->module_count = 0;
}

/* A past module whose on_unload has run: M4. */
static hr_module *sleeping(const hr_rollback_plan *plan) {
    for (uint32_t i = 0; i < plan->assignment_count; i++)
        if (plan->assignments[i].module && !plan->assignments[i].module->initialised)
            return plan->assignments[i].module;
    return NULL;
}

/* Drops the past entries that the roll back has consumed. */
static void forget_past(hr_slot_info *slot, const hr_assignment *assignment) {
    while (slot->past_count)
        if (take_past(slot).module == assignment->module) return;
}

static hr_report **rollback_reports(const hr_rollback_plan *plan) {
    hr_report **reports = calloc(plan->module_count, sizeof *reports);
    for (uint32_t i = 0; reports && i < plan->module_count; i++) {
        uint32_t changes = 0;
        for (uint32_t k = 0; k < plan->assignment_count; k++)
            changes += hr.slots[plan->assignments[k].index].module == plan->modules[i];
        reports[i] = report_new(changes, plan->modules[i]->path);
        if (reports[i] == NULL) {
            hr_reports_free(reports, i);
            return NULL;
        }
        report_manifest(reports[i], plan->modules[i]->manifest);
        hr_copy_text(reports[i]->staged, sizeof reports[i]->staged, plan->modules[i]->staged);
    }
    return reports;
}

static uint32_t report_of(const hr_rollback_plan *plan, const hr_module *module) {
    uint32_t i = 0;
    while (plan->modules[i] != module) i++;
    return i;
}

static void apply_rollback(hr_rollback_plan *plan, hr_report **reports) {
    uint64_t now = hr_realtime_ns();
    hr_blackbox_begin();
    for (uint32_t i = 0; i < plan->assignment_count; i++) {
        const hr_assignment *assignment = &plan->assignments[i];
        hr_slot_info *slot = &hr.slots[assignment->index];
        hr_report *report = reports[report_of(plan, slot->module)];
        uint64_t from = slot->version;
        forget_past(slot, assignment);
        if (assignment->module && assignment->module->state != HR_MODULE_LIVE) {
            revive(assignment->module);
            hr_blackbox_module(assignment->module, "");
        }
        assign(slot, assignment);
        record_change(report, assignment->index, from, HR_CHANGE_SWAPPED);
    }
    hr_blackbox_swapped(plan->assignments, plan->assignment_count, now);
    for (uint32_t i = 0; i < plan->module_count; i++) {
        quarantine(plan->runtime, plan->modules[i]->manifest->content);
        reports[i]->generation = plan->runtime->generation;
    }
    hr_blackbox_end();
}

typedef struct hr_rollback_job {
    hr_rollback_plan plan;
    const char *name;
    hr_report **reports;
    hr_module *sleeping;
    bool busy;         /* one of its hooks is running already */
    uint64_t expected; /* what an earlier plan of this roll back was to take back; 0: there was none */
    hr_shared shared;
    hr_status status;
    hr_failure failure; /* empty where the status says it all */
    hr_migrate_fault fault;
} hr_rollback_job;

/* What was migrated has to go back to the layout that the code which returns was compiled for. */
static hr_status plan_migrations(hr_rollback_job *job) {
    hr_rollback_plan *plan = &job->plan;
    const hr_layout_v1 **codes = hr_migrate_codes(plan->runtime);
    const hr_manifest **leaving = calloc(plan->module_count, sizeof *leaving);
    hr_status status = codes && leaving ? HR_OK : HR_E_MEMORY;
    for (uint32_t i = 0; status == HR_OK && i < plan->assignment_count; i++) {
        const hr_module *module = plan->assignments[i].module;
        codes[plan->assignments[i].index] = module ? module->manifest->layout : plan->runtime->declared;
    }
    for (uint32_t i = 0; status == HR_OK && i < plan->module_count; i++) leaving[i] = plan->modules[i]->manifest;
    hr_shared_restart(plan->runtime, &job->shared);
    hr_migrations *migrations = &job->shared.migrations;
    if (status == HR_OK)
        status = hr_migrate_back(plan->runtime, codes, leaving, plan->module_count, migrations, &job->failure);
    if (status == HR_OK && migrations->count) {
        status = hr_migrate_next(hr_agreed_layout(plan->runtime->agreed), migrations, &job->shared.next);
        if (status == HR_OK) status = hr_migrate_others(codes, job->shared.next, &job->failure);
        if (status == HR_OK) status = hr_migrate_allowed(&job->failure);
        if (status == HR_OK && plan->only) /* the guard's, which waits for no safe point: G4 */
            status = hr_fail(&job->failure, HR_E_MIGRATE, NULL, NULL, "roll back by hand, or load a corrected module",
                             "%s was migrated when the module came; a crash does not migrate it back",
                             migrations->items[0].type);
        if (status == HR_OK) status = hr_shared_reserve(&job->shared);
    }
    free(codes);
    free(leaving);
    return status;
}

static hr_module *resolve_leaving(void *context, const hr_manifest *manifest) {
    const hr_rollback_plan *plan = context;
    uint32_t i = 0;
    while (plan->modules[i]->manifest != manifest) i++;
    return plan->modules[i];
}

/* Leaves hr.lock meanwhile: the functions are a module's. */
static hr_status migrate_back(hr_rollback_job *job, hr_moves **moves) {
    hr_runtime *runtime = job->plan.runtime;
    uint64_t generation = runtime->generation;
    pthread_mutex_unlock(&hr.lock);
    hr_status status =
        hr_migrate_run(runtime, &job->shared.migrations, resolve_leaving, &job->plan, &job->failure, &job->fault, moves);
    if (job->fault.module) describe_fault(job->fault.module->manifest, &job->fault.fault, &job->failure);
    pthread_mutex_lock(&hr.lock);
    bool stale = runtime->generation != generation || hr_shared_stale(runtime, &job->shared);
    return status == HR_OK && (stale || hr_moves_stale(runtime, *moves)) ? changed_meanwhile(&job->failure) : status;
}

static void run_rollback(void *argument) {
    hr_rollback_job *job = argument;
    hr_rollback_plan *plan = &job->plan;
    hr_moves *moves = NULL;
    pthread_mutex_lock(&hr.lock);
    job->status = plan_rollback(plan, job->name);
    /* Something else was swapped in meanwhile, and nobody asked for that to be taken back. */
    if (job->expected && plan->newest != job->expected) job->status = HR_E_ABORTED;
    job->sleeping = job->status == HR_OK ? sleeping(plan) : NULL;
    job->busy = job->sleeping && job->sleeping->in_hook;
    if (job->sleeping) job->sleeping->in_hook = true; /* claimed: M4 */
    if (job->status == HR_OK && job->sleeping == NULL && plan->runtime->migrated) job->status = plan_migrations(job);
    if (job->status == HR_OK && job->shared.migrations.count) job->status = migrate_back(job, &moves);
    if (job->status == HR_OK && job->sleeping == NULL) {
        job->reports = rollback_reports(plan);
        job->status = job->reports ? hr_dispatch_publish(plan->assignments, plan->assignment_count) : HR_E_MEMORY;
        if (job->status == HR_OK) {
            if (moves) hr_moves_put(plan->runtime, moves);
            hr_shared_commit(plan->runtime, &job->shared);
            __atomic_add_fetch(&plan->runtime->generation, 1, __ATOMIC_RELEASE);
            apply_rollback(plan, job->reports);
            end_commit(plan->runtime, "resident: rolled back");
        }
    }
    pthread_mutex_unlock(&hr.lock);
    end_moves(plan->runtime, moves, job->status);
    hr_shared_end(&job->shared);
}

static hr_status rollback_failed(hr_runtime *runtime, const char *name, hr_status status, const hr_failure *why,
                                 hr_report ***reports, uint32_t *count) {
    *reports = calloc(1, sizeof **reports);
    *count = 0;
    if (*reports == NULL || (**reports = report_new(0, "")) == NULL) return status;
    *count = 1;
    hr_report *report = **reports;
    hr_copy_text(report->module, sizeof report->module, name ? name : "");
    report->generation = hr_generation(runtime);
    if (why) report->failure = *why;
    else
        hr_fail(&report->failure, status, NULL, NULL, NULL, status == HR_E_NO_PREVIOUS && name
                ? "no module of that name is live" : "%s", hr_status_text(status));
    set_status(report, status);
    event(HR_EVENT_REJECT, report);
    return status;
}

/* on_load of a sleeping module that this thread has claimed. */
static hr_status awaken(hr_module *module, hr_failure *failure) {
    hr_fault fault;
    hr_status status = call_on_load(module, failure, &fault);
    pthread_mutex_lock(&hr.lock);
    module->initialised = status == HR_OK;
    module->in_hook = false;
    pthread_mutex_unlock(&hr.lock);
    return status;
}

/* Modules that were awakened for a roll back which then did not need them: their on_unload is due (M4). */
static void retire_awakened(const hr_runtime *runtime) {
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_begin();
    for (hr_module *module = hr.modules; module; module = module->next)
        if (module->runtime == runtime && module->state == HR_MODULE_RETIRED && module->initialised &&
            module->retired_at == 0)
            begin_retirement(module, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED), "resident: replaced");
    hr_blackbox_end();
    pthread_mutex_unlock(&hr.lock);
}

/* Takes back what the name, or `only`, says; on failure *failure may tell more than the status does. */
static hr_status roll_back(hr_runtime *runtime, const char *name, const hr_module *only, uint64_t start,
                           hr_report ***made, uint32_t *made_count, hr_failure *failure) {
    hr_status status = HR_OK;
    uint64_t expected = 0;
    while (status == HR_OK) {
        hr_rollback_job job = {.plan = {.runtime = runtime, .only = only}, .name = name, .expected = expected};
        status = hr_at_safe_point(run_rollback, &job);
        if (status == HR_OK) status = job.status;
        *made = job.reports;
        *made_count = job.reports ? job.plan.module_count : 0;
        expected = job.plan.newest;
        plan_free(&job.plan);
        if (status != HR_OK && job.failure.status == (int32_t)status) *failure = job.failure;
        if (status != HR_OK || job.sleeping == NULL) break;
        /* Its hooks run without the lock; then the plan is made anew, for it may have changed meanwhile. */
        if (!job.busy) status = awaken(job.sleeping, failure);
        else if (hr_monotonic_ns() - start < HR_SAFE_POINT_SECONDS * UINT64_C(1000000000)) usleep(1000);
        else
            status = hr_fail(failure, HR_E_SAFE_POINT, NULL, NULL, "let on_unload return",
                             "on_unload of %s has not returned for %d s", job.sleeping->manifest->name,
                             HR_SAFE_POINT_SECONDS);
    }
    if (status == HR_E_ABORTED && failure->status != (int32_t)status)
        hr_fail(failure, status, NULL, NULL, "roll back again if that is what you want",
                "nothing was rolled back: other modules were swapped meanwhile");
    if (status != HR_OK && expected) retire_awakened(runtime);
    return status;
}

hr_status hr_rollback(hr_runtime *runtime, const char *module, hr_report ***reports, uint32_t *count) {
    hr_report **made = NULL;
    uint32_t made_count = 0;
    hr_failure failure = {0};
    if (module && !*module) module = NULL;
    hr_status status = hr_ready();
    runtime = hr_runtime_or_default(runtime);
    hr_clock clock = clock_start();
    if (status == HR_OK) status = roll_back(runtime, module, NULL, clock.start, &made, &made_count, &failure);
    if (status != HR_OK && made == NULL)
        status = rollback_failed(runtime, module, status, failure.status ? &failure : NULL, &made, &made_count);
    for (uint32_t i = 0; status == HR_OK && i < made_count; i++) {
        clock_step(&(hr_clock){clock.start, clock.last}, made[i], HR_STEP_COMMIT);
        event(HR_EVENT_ROLLBACK, made[i]);
    }
    if (hr_module_waiting()) hr_control_wake();
    if (reports) *reports = made;
    else hr_reports_free(made, made_count);
    if (count) *count = made_count;
    return status;
}

/* ---- the guard's roll back ---- */

/* The report of a module that has no slot any more: something has replaced it since it crashed. */
static hr_report **report_replaced(hr_runtime *runtime, const hr_module *module) {
    hr_report **reports = calloc(1, sizeof *reports);
    if (reports == NULL || (reports[0] = report_new(0, module->path)) == NULL) return reports;
    report_manifest(reports[0], module->manifest);
    reports[0]->generation = hr_generation(runtime);
    pthread_mutex_lock(&hr.lock);
    quarantine(runtime, module->manifest->content);
    pthread_mutex_unlock(&hr.lock);
    return reports;
}

static void add_locks(const hr_module *module, uint32_t thread, char *reason) {
    char locks[256];
    size_t length = strlen(reason);
    if (hr_locks_describe(module, thread, locks, sizeof locks))
        snprintf(reason + length, HR_TEXT_SIZE - length, "; %s", locks);
}

void hr_module_take_back(hr_module *module, hr_status why, const hr_fault *fault) {
    hr_report **made = NULL;
    uint32_t count = 0;
    hr_failure failure = {0};
    hr_runtime *runtime = module->runtime;
    hr_clock clock = clock_start();
    if (runtime == NULL) return;
    hr_status status = roll_back(runtime, NULL, module, clock.start, &made, &count, &failure);
    if (made == NULL) made = report_replaced(runtime, module);
    if (made && made[0]) {
        if (status == HR_OK) clock_step(&clock, made[0], HR_STEP_COMMIT);
        describe_fault(module->manifest, fault, &made[0]->failure);
        add_locks(module, fault->thread, made[0]->failure.reason);
        set_status(made[0], why);
        pthread_mutex_lock(&hr.lock);
        hr_blackbox_fault(HR_EVENT_CRASH, made[0], fault);
        pthread_mutex_unlock(&hr.lock);
    }
    hr_reports_free(made, made ? 1 : 0);
    if (hr_module_waiting()) hr_control_wake();
}

/* ---- after the grace period ---- */

bool hr_module_waiting(void) { return __atomic_load_n(&hr.retiring, __ATOMIC_SEQ_CST) != 0; } /* K6 */

/* Names the thread that a grace period has been waiting for, once; under hr.lock. */
static void tell_blocked(void) {
    const hr_box *box = hr.box;
    if (box->blocked_thread == 0 || box->blocked_since == hr.blocked_told) return;
    uint64_t waited = (hr_realtime_ns() - box->blocked_since) / 1000000000u;
    hr_report *report = waited >= HR_BLOCKED_SECONDS ? report_new(0, "") : NULL;
    if (report == NULL) return;
    const char *symbol = box->blocked_slot ? hr.slots[box->blocked_slot].symbol : "";
    snprintf(report->failure.reason, sizeof report->failure.reason, "thread %u has been in %s%s for %llu s: what it may "
             "run cannot be retired", box->blocked_thread, *symbol ? "slot " : "a frame", symbol,
             (unsigned long long)waited);
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
    retire_live(runtime, false, epoch, "resident: its runtime was freed");
    for (hr_module *module = hr.modules; module; module = module->next) {
        if (module->runtime != runtime) continue;
        module->context = hr_context(runtime);
        module->runtime = NULL;
    }
    hr_blackbox_end();
}
