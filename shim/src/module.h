/* What the files that load, commit and roll back modules share. The invariants M1 to M6 are those of module.c. */
#ifndef HOTRELOAD_MODULE_H
#define HOTRELOAD_MODULE_H

#include "internal.h"

/* ---- report.c ---- */

typedef struct hr_clock {
    uint64_t start, last;
} hr_clock;

hr_report *hr_report_new(uint32_t changes, const char *path);
void hr_report_manifest(hr_report *report, const hr_manifest *manifest);
hr_report *hr_report_grow(hr_report *report, uint32_t extra);
void hr_report_trim(hr_report *report);
hr_clock hr_clock_start(void);
void hr_clock_step(hr_clock *clock, hr_report *report, unsigned step);
void hr_report_tell(uint32_t kind, const hr_report *report);
void hr_report_status(hr_report *report, hr_status status);

/* ---- fault.c ---- */

hr_status hr_fault_describe(const hr_manifest *manifest, const hr_fault *fault, hr_failure *failure);
hr_status hr_fault_refuse(hr_runtime *runtime, const hr_manifest *manifest, const hr_fault *fault, hr_failure *failure);
void hr_fault_add_locks(const hr_module *module, uint32_t thread, char *reason);

/* ---- module.c ---- */

bool hr_quarantined(const hr_runtime *runtime, uint64_t content);
void hr_quarantine(hr_runtime *runtime, uint64_t content);
hr_module *hr_module_new(const char *path, const char *staged);
hr_status hr_module_on_load(hr_module *module, hr_failure *failure, hr_fault *fault);
bool hr_module_finish(hr_module *module);
void hr_module_await_grace(hr_module *module, uint64_t epoch);
void hr_module_list(hr_module *module, const char *reason);
void hr_module_retire(hr_module *module, uint64_t epoch, const char *reason);
void hr_module_retire_live(const hr_runtime *runtime, bool unused_only, uint64_t epoch, const char *reason);
void hr_module_revive(hr_module *module);

/* ---- incoming.c ---- */

typedef struct hr_incoming {
    hr_staged staged;
    hr_manifest *manifest;
    hr_module *module; /* once opened */
    uint32_t reserved; /* slots promised */
    hr_fault fault;    /* that the guard caught on the way */
    uint32_t assignments_at; /* of the transaction */
} hr_incoming;

hr_status hr_incoming_read(hr_runtime *runtime, hr_shared *shared, hr_incoming *in, hr_report *report);
hr_status hr_incoming_start(hr_runtime *runtime, hr_incoming *in, hr_report *report);
void hr_incoming_undo(hr_incoming *in, const char *reason);

/* ---- prepare.c ---- */

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

void hr_transaction_free(hr_transaction *transaction);
void hr_transaction_undo(hr_transaction *transaction, const char *reason);
hr_status hr_transaction_migrations(const hr_transaction *transaction, hr_failure *failure);
void hr_transaction_slots(hr_transaction *transaction);

/* ---- commit.c ---- */

const hr_past *hr_past_at(const hr_slot_info *slot, uint32_t back);
void hr_change_record(hr_report *report, uint32_t index, uint64_t from, uint32_t kind);
void hr_change_assign(hr_slot_info *slot, const hr_assignment *assignment);
uint64_t hr_commit_end(hr_runtime *runtime, const char *reason);
void hr_moves_end(hr_runtime *runtime, hr_moves *moves, hr_status status);
hr_status hr_changed_meanwhile(hr_failure *failure);
void hr_past_forget(hr_slot_info *slot, const hr_assignment *assignment);

#endif
