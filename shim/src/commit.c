/* Commits transactions: all their slots in one published table (M5). */
#include "module.h"

#include <string.h>

/* ---- what changes in a slot; under hr.lock ---- */

hr_past *hr_past_place(const hr_slot_info *slot, uint32_t place) {
    return &hr.past[(size_t)place * hr.capacity + (size_t)(slot - hr.slots)];
}

static void remember(hr_slot_info *slot) {
    *hr_past_place(slot, slot->past_next) = (hr_past){slot->module, slot->function};
    slot->past_next = (uint16_t)((slot->past_next + 1) % HR_HISTORY);
    if (slot->past_count < HR_HISTORY) slot->past_count++;
}

/* `back` 1: the newest. */
const hr_past *hr_past_at(const hr_slot_info *slot, uint32_t back) {
    return hr_past_place(slot, (slot->past_next + HR_HISTORY - back) % HR_HISTORY);
}

static hr_past take_past(hr_slot_info *slot) {
    hr_past newest = *hr_past_at(slot, 1);
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

void hr_change_record(hr_report *report, uint32_t index, uint64_t from, uint32_t kind) {
    memcpy(report->changes[report->change_count].symbol, hr.slots[index].symbol, sizeof report->changes->symbol);
    record_kind(report, index, from, kind);
}

void hr_change_assign(hr_slot_info *slot, const hr_assignment *assignment) {
    if (slot->module) slot->module->uses--;
    slot->module = assignment->module;
    slot->function = assignment->function;
    slot->version++;
    if (slot->module) slot->module->uses++;
}

/* ---- commit; under hr.lock, but for hr_commit and hr_load ---- */

/* Creates what the modules name and no host declared; the reservation made room, only memory can fail. */
static hr_status resolve(hr_transaction *transaction) {
    if (transaction->names != hr.names) hr_transaction_slots(transaction);
    for (uint32_t i = 0; transaction->undeclared && i < transaction->count; i++) {
        const hr_incoming *in = &transaction->incoming[i];
        for (uint32_t k = 0; in->module && k < in->manifest->entry_count; k++) {
            hr_assignment *assignment = &transaction->assignments[in->assignments_at + k];
            if (assignment->index) continue;
            hr_status status = hr_slot_create(transaction->runtime, in->manifest->entries[k].name, &assignment->index);
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
            else hr_change_record(report, i, hr.slots[i].version, HR_CHANGE_KEPT);
        }
        if (pass == 0) {
            hr_report *grown = kept ? hr_report_grow(report, kept) : NULL;
            if (grown == NULL) break; /* none, or no memory to tell them */
            report = grown;
        }
    }
    return report;
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
        hr_module_revive(in->module);
        hr_blackbox_module(in->module, "");
        uint32_t end = in->assignments_at + in->manifest->entry_count;
        for (uint32_t at = in->assignments_at; at < end; at++) {
            const hr_assignment *assignment = &transaction->assignments[at];
            hr_slot_info *slot = &hr.slots[assignment->index];
            uint64_t from = slot->version;
            /* As in hr_blackbox_swapped: changes are far apart. */
            if (at + HR_AHEAD < end)
                __builtin_prefetch(&reports[i]->changes[reports[i]->change_count + HR_AHEAD].from, 1);
            remember(slot);
            hr_change_assign(slot, assignment);
            record_kind(reports[i], assignment->index, from, slot->declared ? HR_CHANGE_SWAPPED : HR_CHANGE_UNDECLARED);
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

uint64_t hr_commit_end(hr_runtime *runtime, const char *reason) {
    uint64_t epoch = hr_reclaim_advance();
    hr_blackbox_begin();
    hr_module_retire_live(runtime, true, epoch, reason);
    hr_blackbox_end();
    hr_reclaim_tables();
    return epoch;
}

/* Rolled back by somebody else since it was prepared. */
static bool any_quarantined(const hr_transaction *transaction) {
    for (uint32_t i = 0; i < transaction->count; i++)
        if (transaction->incoming[i].module &&
            hr_quarantined(transaction->runtime, transaction->incoming[i].manifest->content))
            return true;
    return false;
}

/* Another commit has changed the layouts since step 3: they are compared again. */
static hr_status check_layouts_again(hr_transaction *transaction, hr_failure *failure) {
    hr_status status = HR_OK;
    hr_shared_restart(transaction->runtime, &transaction->shared);
    for (uint32_t i = 0; i < transaction->count && status == HR_OK; i++)
        if (transaction->incoming[i].module)
            status =
                hr_shared_add(transaction->runtime, &transaction->shared, transaction->incoming[i].manifest, failure);
    return status;
}

static hr_module *resolve_incoming(void *context, const hr_manifest *manifest) {
    const hr_transaction *transaction = context;
    uint32_t i = 0;
    while (transaction->incoming[i].manifest != manifest) i++;
    return transaction->incoming[i].module;
}

void hr_moves_end(hr_runtime *runtime, hr_moves *moves, hr_status status) {
    if (status == HR_OK) hr_moves_shrink(runtime, moves);
    else hr_moves_undo(runtime, moves);
    hr_moves_free(moves);
}

hr_status hr_changed_meanwhile(hr_failure *failure) {
    return hr_fail(failure, HR_E_ABORTED, NULL, NULL, "do it again",
                   "other modules were swapped, or other state was "
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
    if (job->fault.module) hr_fault_refuse(runtime, job->fault.module->manifest, &job->fault.fault, &job->failure);
    pthread_mutex_lock(&hr.lock);
    if (job->status == HR_OK && any_quarantined(transaction)) job->status = HR_E_QUARANTINED;
    bool stale = hr_shared_stale(runtime, &transaction->shared);
    if (job->status == HR_OK && moves && (stale || hr_moves_stale(runtime, moves)))
        job->status = hr_changed_meanwhile(&job->failure);
    if (job->status == HR_OK && stale) job->status = check_layouts_again(transaction, &job->failure);
    if (job->status == HR_OK && transaction->shared.migrations.count && moves == NULL)
        job->status = hr_changed_meanwhile(&job->failure);
    if (job->status == HR_OK) job->status = hr_transaction_migrations(transaction, &job->failure);
    if (job->status == HR_OK) job->status = hr_shared_reserve(&transaction->shared);
    if (job->status == HR_OK) job->status = resolve(transaction);
    if (job->status == HR_OK)
        job->status = hr_dispatch_publish(transaction->assignments, transaction->assignment_count);
    if (job->status == HR_OK) {
        if (moves) hr_moves_put(runtime, moves);
        hr_shared_commit(runtime, &transaction->shared);
        __atomic_add_fetch(&transaction->runtime->generation, 1, __ATOMIC_RELEASE);
        commit_modules(transaction, job->reports);
        hr_commit_end(transaction->runtime, "resident: replaced");
    }
    pthread_mutex_unlock(&hr.lock);
    hr_moves_end(runtime, moves, job->status);
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
        hr_clock_step(&own, reports[i], HR_STEP_COMMIT);
        hr_report_trim(reports[i]);
        hr_report_tell(HR_EVENT_SWAP, reports[i]);
    }
}

hr_status hr_commit(hr_transaction *transaction, hr_report **reports) {
    hr_status status = HR_OK;
    if (anything_to_swap(transaction)) {
        hr_clock clock = hr_clock_start();
        hr_commit_job job = {.transaction = transaction, .reports = reports};
        status = hr_at_safe_point(run_commit, &job);
        if (status == HR_OK) status = job.status;
        if (status != HR_OK) {
            for (uint32_t i = 0; i < transaction->count; i++) {
                if (reports[i]->status != HR_OK) continue;
                hr_fail(&reports[i]->failure, status, NULL, NULL, NULL, "%s", hr_status_text(status));
                if (job.failure.status == (int32_t)status) reports[i]->failure = job.failure;
                hr_report_status(reports[i], status);
                bool own = job.fault.module && job.fault.module == transaction->incoming[i].module;
                pthread_mutex_lock(&hr.lock);
                hr_blackbox_fault(HR_EVENT_REJECT, reports[i], own ? &job.fault.fault : NULL);
                pthread_mutex_unlock(&hr.lock);
            }
            hr_transaction_undo(transaction, hr_status_code(status));
            return status;
        }
        report_commit(transaction, reports, &clock);
    }
    hr_transaction_free(transaction);
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

/* Drops the past entries that the roll back has consumed. */
void hr_past_forget(hr_slot_info *slot, const hr_assignment *assignment) {
    while (slot->past_count)
        if (take_past(slot).module == assignment->module) return;
}
