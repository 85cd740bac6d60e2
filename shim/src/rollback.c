/* Roll back: the newest commit, one module, or what the guard takes back. */
#include "module.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is to be taken back, and the assignments that do it. */
typedef struct hr_rollback_plan {
    hr_runtime *runtime;
    hr_module **modules;
    uint32_t module_count;
    hr_assignment *assignments;
    uint32_t assignment_count;
    uint64_t newest;       /* the generation that is taken back */
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
        if (module->runtime == runtime && module->uses && module->generation > newest &&
            (name == NULL || strcmp(module->manifest->name, name) == 0))
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
        const hr_past *past = hr_past_at(slot, back);
        if (past->module == NULL ||
            (!in_plan(plan, past->module) && !hr_quarantined(plan->runtime, past->module->manifest->content)))
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

static hr_report **rollback_reports(const hr_rollback_plan *plan) {
    hr_report **reports = calloc(plan->module_count, sizeof *reports);
    for (uint32_t i = 0; reports && i < plan->module_count; i++) {
        uint32_t changes = 0;
        for (uint32_t k = 0; k < plan->assignment_count; k++)
            changes += hr.slots[plan->assignments[k].index].module == plan->modules[i];
        reports[i] = hr_report_new(changes, plan->modules[i]->path);
        if (reports[i] == NULL) {
            hr_reports_free(reports, i);
            return NULL;
        }
        hr_report_manifest(reports[i], plan->modules[i]->manifest);
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
        hr_past_forget(slot, assignment);
        if (assignment->module && assignment->module->state != HR_MODULE_LIVE) {
            hr_module_revive(assignment->module);
            hr_blackbox_module(assignment->module, "");
        }
        hr_change_assign(slot, assignment);
        hr_change_record(report, assignment->index, from, HR_CHANGE_SWAPPED);
    }
    hr_blackbox_swapped(plan->assignments, plan->assignment_count, now);
    for (uint32_t i = 0; i < plan->module_count; i++) {
        hr_quarantine(plan->runtime, plan->modules[i]->manifest->content);
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
    hr_status status = hr_migrate_run(runtime, &job->shared.migrations, resolve_leaving, &job->plan, &job->failure,
                                      &job->fault, moves);
    if (job->fault.module) hr_fault_describe(job->fault.module->manifest, &job->fault.fault, &job->failure);
    pthread_mutex_lock(&hr.lock);
    bool stale = runtime->generation != generation || hr_shared_stale(runtime, &job->shared);
    return status == HR_OK && (stale || hr_moves_stale(runtime, *moves)) ? hr_changed_meanwhile(&job->failure) : status;
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
            hr_commit_end(plan->runtime, "resident: rolled back");
        }
    }
    pthread_mutex_unlock(&hr.lock);
    hr_moves_end(plan->runtime, moves, job->status);
    hr_shared_end(&job->shared);
}

static hr_status rollback_failed(hr_runtime *runtime, const char *name, hr_status status, const hr_failure *why,
                                 hr_report ***reports, uint32_t *count) {
    *reports = calloc(1, sizeof **reports);
    *count = 0;
    if (*reports == NULL || (**reports = hr_report_new(0, "")) == NULL) return status;
    *count = 1;
    hr_report *report = **reports;
    hr_copy_text(report->module, sizeof report->module, name ? name : "");
    report->generation = hr_generation(runtime);
    if (why) report->failure = *why;
    else
        hr_fail(&report->failure, status, NULL, NULL, NULL,
                status == HR_E_NO_PREVIOUS && name ? "no module of that name is live" : "%s", hr_status_text(status));
    hr_report_status(report, status);
    hr_report_tell(HR_EVENT_REJECT, report);
    return status;
}

/* on_load of a sleeping module that this thread has claimed. */
static hr_status awaken(hr_module *module, hr_failure *failure) {
    hr_fault fault;
    hr_status status = hr_module_on_load(module, failure, &fault);
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
            hr_module_retire(module, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED), "resident: replaced");
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
    hr_clock clock = hr_clock_start();
    if (status == HR_OK) status = roll_back(runtime, module, NULL, clock.start, &made, &made_count, &failure);
    if (status != HR_OK && made == NULL)
        status = rollback_failed(runtime, module, status, failure.status ? &failure : NULL, &made, &made_count);
    for (uint32_t i = 0; status == HR_OK && i < made_count; i++) {
        hr_clock_step(&(hr_clock){clock.start, clock.last}, made[i], HR_STEP_COMMIT);
        hr_report_tell(HR_EVENT_ROLLBACK, made[i]);
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
    if (reports == NULL || (reports[0] = hr_report_new(0, module->path)) == NULL) return reports;
    hr_report_manifest(reports[0], module->manifest);
    reports[0]->generation = hr_generation(runtime);
    pthread_mutex_lock(&hr.lock);
    hr_quarantine(runtime, module->manifest->content);
    pthread_mutex_unlock(&hr.lock);
    return reports;
}

void hr_module_take_back(hr_module *module, hr_status why, const hr_fault *fault) {
    hr_report **made = NULL;
    uint32_t count = 0;
    hr_failure failure = {0};
    hr_runtime *runtime = module->runtime;
    hr_clock clock = hr_clock_start();
    if (runtime == NULL) return;
    hr_status status = roll_back(runtime, NULL, module, clock.start, &made, &count, &failure);
    if (made == NULL) made = report_replaced(runtime, module);
    if (made && made[0]) {
        if (status == HR_OK) hr_clock_step(&clock, made[0], HR_STEP_COMMIT);
        hr_fault_describe(module->manifest, fault, &made[0]->failure);
        hr_fault_add_locks(module, fault->thread, made[0]->failure.reason);
        hr_report_status(made[0], why);
        pthread_mutex_lock(&hr.lock);
        hr_blackbox_fault(HR_EVENT_CRASH, made[0], fault);
        pthread_mutex_unlock(&hr.lock);
    }
    hr_reports_free(made, made ? 1 : 0);
    if (hr_module_waiting()) hr_control_wake();
}
