/* Prepares transactions: everything that can fail, before anything changes (M1). */
#include "module.h"

#include <stdlib.h>
#include <string.h>

/* The end of one module's way, if it is one. */
static hr_status settle(hr_transaction *transaction, hr_incoming *in, hr_report *report, hr_status status) {
    report->generation = hr_generation(transaction->runtime);
    hr_report_status(report, status);
    if (status == HR_OK) return status;
    hr_fault fault = in->fault;
    hr_incoming_undo(in, hr_status_code(status));
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_fault(status == HR_SAME ? HR_EVENT_SAME : HR_EVENT_REJECT, report, &fault);
    pthread_mutex_unlock(&hr.lock);
    return status;
}

static hr_status read_one(hr_transaction *transaction, uint32_t i, hr_report **report) {
    hr_incoming *in = &transaction->incoming[i];
    hr_status status = hr_incoming_read(transaction->runtime, &transaction->shared, in, *report);
    hr_report *grown = status == HR_OK ? hr_report_grow(*report, in->manifest->entry_count) : *report;
    if (grown) *report = grown;
    else status = hr_fail(&(*report)->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    if (status == HR_OK) transaction->assignment_count += in->manifest->entry_count;
    return settle(transaction, in, *report, status);
}

static hr_status try_one(hr_transaction *transaction, uint32_t i, hr_report *report) {
    hr_incoming *in = &transaction->incoming[i];
    if (in->manifest == NULL) return HR_OK; /* the same as what is live */
    hr_clock clock = hr_clock_start();
    hr_status status =
        hr_trial_run(transaction->runtime, in->staged.path, in->manifest, &report->failure, &report->warnings);
    hr_clock_step(&clock, report, HR_STEP_TRIAL);
    return status == HR_OK ? status : settle(transaction, in, report, status);
}

static hr_status start_one(hr_transaction *transaction, uint32_t i, hr_report *report) {
    hr_incoming *in = &transaction->incoming[i];
    if (in->manifest == NULL) return HR_OK; /* the same as what is live */
    hr_status status = hr_incoming_start(transaction->runtime, in, report);
    hr_stage_unmap(&in->staged);
    return settle(transaction, in, report, status);
}

void hr_transaction_free(hr_transaction *transaction) {
    hr_shared_end(&transaction->shared);
    /* Freed memory is scanned too: it must not seem to point into a module. */
    explicit_bzero(transaction->incoming, transaction->count * sizeof *transaction->incoming);
    free(transaction->incoming);
    if (transaction->assignments)
        explicit_bzero(transaction->assignments, transaction->assignment_count * sizeof *transaction->assignments);
    free(transaction->assignments);
    free(transaction);
}

void hr_transaction_undo(hr_transaction *transaction, const char *reason) {
    for (uint32_t i = transaction->count; i-- > 0;) /* what came last may rest on what came first */
        if (transaction->incoming[i].manifest || transaction->incoming[i].staged.path[0])
            hr_incoming_undo(&transaction->incoming[i], reason);
    hr_transaction_free(transaction);
}

static void report_aborted(hr_report *report, const char *culprit) {
    if (report->status != HR_OK) return;
    hr_report_status(report, hr_fail(&report->failure, HR_E_ABORTED, NULL, NULL, NULL,
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
        hr_report_status(report, status);
        hr_report_tell(HR_EVENT_REJECT, report);
    }
    free(claims);
    return status;
}

/* G3, G4: whether the state may be migrated that the modules want migrated; under hr.lock. */
hr_status hr_transaction_migrations(const hr_transaction *transaction, hr_failure *failure) {
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
    hr_status status = hr_transaction_migrations(transaction, &failure);
    pthread_mutex_unlock(&hr.lock);
    for (uint32_t i = 0; status != HR_OK && i < transaction->count; i++) {
        const hr_manifest *manifest = transaction->incoming[i].manifest;
        if (manifest == NULL || manifest != transaction->shared.migrations.items[0].manifest) continue;
        *culprit = i;
        reports[i]->failure = failure;
        hr_report_status(reports[i], status);
        hr_report_tell(HR_EVENT_REJECT, reports[i]);
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
void hr_transaction_slots(hr_transaction *transaction) {
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

/* Has the kernel give the pages that commit.c will write: it does so at their first use, and each of the first commits
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
    hr_transaction_slots(transaction);
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
        if ((reports[i] = hr_report_new(0, paths[i])) != NULL) continue;
        forget_reports(reports, i);
        hr_transaction_free(made);
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
    for (uint32_t i = 0; migrates && hr_option(HR_OPTION_TRIAL) && i < count; i++)
        reports[i]->warnings |= HR_WARN_UNTRIED;
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
        hr_report_status(reports[culprit], result);
        hr_report_tell(HR_EVENT_REJECT, reports[culprit]);
    }
    for (uint32_t i = 0; i < count; i++)
        report_aborted(reports[i], reports[culprit]->module[0] ? reports[culprit]->module : reports[culprit]->path);
    hr_transaction_undo(made, "not swapped: another module of its transaction was refused");
    return result;
}

void hr_abort(hr_transaction *transaction) {
    if (transaction) hr_transaction_undo(transaction, "not swapped: its transaction was aborted");
}
