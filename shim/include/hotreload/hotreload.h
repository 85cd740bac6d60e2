/* hotreload for hosts: declare slots, call them, be watched.
 *
 *     static hr_slot add = HR_SLOT("counter.add", counter_add);      // counter_add: the fallback
 *
 *     hr_declare(NULL, &add);
 *     hr_serve(NULL, "counter", 0);                                  // `hotreload watch` finds this process now
 *     for (;;) hr_call(&add, &state, &in, &out);
 *
 * Link with libhotreload.a or libhotreload.so, or compile the shim's sources into the program (hotreload config).
 *
 * Which calls may run concurrently
 *
 *     hr_call, hr_frame_*                 with everything, from any number of threads; never block, never allocate after
 *                                         a thread's first call; may nest; not across a longjmp out of an implementation
 *     hr_declare, hr_find, hr_load,       with everything; they wait for each other
 *     hr_rollback, hr_prepare, ...
 *     hr_safepoint, hr_poll               with everything, one thread at a time; not from inside a slot call
 *     hr_set_options, hr_get_options,     with everything
 *     hr_guard_state
 *     hr_serve, hr_stop                   with everything but each other; not from a module's hooks
 *     hr_runtime_free                     with nothing that uses that runtime
 *
 * A process has one dispatch table, one set of call counters and one black box. A runtime is a name space of slots in
 * them with a context pointer and modules of its own; NULL stands for the process's default one. */
#ifndef HOTRELOAD_H
#define HOTRELOAD_H

#include "describe.h"
#include "report.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hr_runtime hr_runtime;
typedef struct hr_transaction hr_transaction;

/* A named patch point. Lives as long as anybody may call it; initialise with HR_SLOT or zeros. */
typedef struct hr_slot {
    const char *symbol;
    hr_patch_fn fallback; /* may be null: calls return HR_UNRESOLVED until a module implements the slot */
    uint32_t index;       /* into the dispatch table; 0: not declared yet (the first call does it) */
    uint32_t born;        /* generation of the first table that has the slot; indices are used again */
} hr_slot;

/* The version of the shim, "major.minor.patch". */
const char *hr_version(void);

/* Slots and modules that the process can hold; for before anything else is called. 0 keeps a default: 4,096 slots
 * (65,536 at most), 1,000 modules in the black box. HR_E_USAGE when it is too late or out of range. */
hr_status hr_configure(uint32_t slots);

/* ---- what is off until somebody asks for it ---- */

/* Swapped slots are on probation: a crash or a hang in the patch is rolled back, by a thread of the shim's, without
 * waiting for a safe point. The guard handles SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, on an alternate stack, and a
 * real-time signal that nobody else does; threads that make guarded calls have these unblocked. What is not the patch's
 * doing goes to the handlers of before. AddressSanitizer: its own reports end the process, unless abort_on_error=1. */
#define HR_OPTION_GUARD 1
#define HR_OPTION_SAMPLE 2  /* one call in sample_every is timed */
#define HR_OPTION_TRIAL 4   /* forked copies of the host try a module before it is opened */
#define HR_OPTION_UNLOAD 8  /* modules that back no slot are unmapped once nothing points into them (see below) */
#define HR_OPTION_BUDGET 16 /* no switch: names budget_bytes in a tool's request */

/* Unloading. A module that backs no slot and that no roll back would bring back (the newest previous one of each slot
 * stays) is unmapped after its grace period, its on_unload, and a scan of all memory and of every thread's registers
 * that found no pointer into it; else it is "resident: <what points where>" and looked at again, up to 12 times within
 * 80 s. Its staged file goes with it, and roll backs that would need it go to the fallback.
 *
 * The scan runs in the shim's thread (hr_poll and hr_safepoint where there is none). It takes a real-time signal that
 * nobody uses, one from the top, for good, and sends it to every thread once or twice: calls that no signal restarts
 * (poll, nanosleep and the like: signal(7)) return EINTR there. A thread that blocks all signals keeps modules resident.
 *
 * It finds pointers to code, data, vtables and literals in stacks, heaps, globals, registers, signal handlers and the C
 * library's exit lists, jump buffers and thread-specific keys. It cannot find those that are not aligned, packed or
 * encrypted by anybody else, in the kernel's hands (epoll, timers, io_uring), in another process, or moved by another
 * thread in the very moment. A module that does such things says HR_MODULE_UNLOAD(HR_UNLOAD_NEVER): patch.h. */

/* Of the whole process; each number 0 stands for its default. Set before the swaps that it is for. */
typedef struct hr_options {
    uint32_t flags;           /* HR_OPTION_* */
    uint32_t probation_ms;    /* a probation ends after so long, 10,000 by default, */
    uint64_t probation_calls; /* or after so many calls, 100,000 by default: whichever comes first */
    uint32_t hang_ms;         /* a guarded call that takes longer hangs, 2,000 by default */
    uint32_t sample_every;    /* one call in so many of each thread is timed, 256 by default */
    uint32_t trial_ms;        /* how long a trial run waits for a call, and for its end: 1,000 by default */
    uint32_t unused;
    uint64_t budget_bytes; /* resident modules in more memory than this are warned about; 64 MiB by default */
    uint64_t reserved[9];
} hr_options;

/* Replaces all options. HR_E_USAGE: a flag that this shim does not know, or that this machine does not allow;
 * HR_E_LIMIT: a thread that the guard needs cannot be started; HR_E_MEMORY. */
hr_status hr_set_options(const hr_options *options);
/* The options as they are, defaults filled in. */
void hr_get_options(hr_options *options);

/* Tells the guard that the state which this slot's calls receive, so many bytes, is used by nobody else while such a
 * call lasts: it is then copied before each guarded call, and restored when that crashes or hangs. Byte by byte: what it
 * owns through pointers is not part of it. 0 takes it back.
 * HR_E_NO_SLOT: not declared; HR_E_USAGE: more than HR_GUARD_STATE_MAX; HR_E_MEMORY. */
#define HR_GUARD_STATE_MAX 1048576
hr_status hr_guard_state(hr_slot *slot, uint32_t size);

hr_status hr_runtime_new(hr_runtime **runtime);
/* Gives the runtime's slots back. Its modules stay resident. Nothing may call its slots any more. */
void hr_runtime_free(hr_runtime *runtime);

/* The host_state that on_load and on_unload receive. */
void hr_set_context(hr_runtime *runtime, void *host_state);
void *hr_context(hr_runtime *runtime);

/* Number of commits so far. */
uint64_t hr_generation(hr_runtime *runtime);

/* Makes slot->symbol a slot with slot->fallback as version 0, and fills in slot->index. A slot that a module created
 * before (reported as undeclared) becomes declared and keeps what runs.
 * HR_E_DUPLICATE: it has been declared; HR_E_USAGE: no valid name; HR_E_LIMIT; HR_E_MEMORY. */
hr_status hr_declare(hr_runtime *runtime, hr_slot *slot);

/* Tells what the host's structs look like (describe.h), so that a module compiled with another idea of them is refused
 * (E-LAYOUT). Before modules are loaded; several times if that is convenient, and copied each time.
 * HR_E_USAGE: the description is invalid or contradicts an earlier one; *failure (may be null) says how. */
hr_status hr_declare_layout(hr_runtime *runtime, const hr_layout_v1 *layout, hr_failure *failure);

/* Makes room for an object of `size` bytes where there was less, or gives room back. Returns where the object is then,
 * aligned as asked: the same place or another one, for which the host's own pointers are corrected before it returns.
 * What the memory holds need not be kept. Null refuses, and leaves the old memory as it was. Called at a safe point. */
typedef void *(*hr_resize_fn)(void *owner, void *state, uint64_t size, uint32_t align);

/* An object whose layout modules may change by a migration (HR_MODULE_MIGRATIONS in patch.h). */
typedef struct hr_state {
    const char *type; /* one that the host has declared */
    void *state;
    uint64_t size;       /* of the type, or of an array of them */
    hr_resize_fn resize; /* null: the size can only become smaller */
    void *owner;         /* what resize receives first */
    uint64_t reserved;   /* 0 */
} hr_state;

/* Registers an object, after its type was declared. Differences of its layout are then no E-LAYOUT where the module
 * brings a migration. What a tool loads is migrated at safe points only (HR_SERVE_SAFE_POINT, HR_SERVE_POLL); a host
 * that calls hr_load or hr_rollback itself sees to it that nobody uses the object meanwhile. HR_E_USAGE: the type is not described, or the size is no multiple of its; HR_E_DUPLICATE. */
hr_status hr_state_register(hr_runtime *runtime, const hr_state *state);
void hr_state_unregister(hr_runtime *runtime, const void *state);

/* A handle of a slot that exists, declared or created by a module. HR_E_NO_SLOT. */
hr_status hr_find(hr_runtime *runtime, const char *symbol, hr_slot *slot);

/* Calls visit(data, symbol, version) for every slot in alphabetical order. */
void hr_each_symbol(hr_runtime *runtime, void (*visit)(void *data, const char *symbol, uint64_t version), void *data);

/* Calls visit(data, name, version) for every module accepted so far, in order of loading. */
void hr_each_module(hr_runtime *runtime, void (*visit)(void *data, const char *name, uint64_t version), void *data);

/* Loads one module: stage, preflight, open, check, on_load, commit, in the calling thread.
 * *report (may be null) is always allocated, whatever the result; free it with hr_report_free. */
hr_status hr_load(hr_runtime *runtime, const char *path, hr_report **report);

/* Commits the previous implementations again and quarantines what ran. module: the name of the module to take back, or
 * null for all that the newest commit brought in. *reports receives *count reports, one for each module taken back. */
hr_status hr_rollback(hr_runtime *runtime, const char *module, hr_report ***reports, uint32_t *count);

/* One transaction over several modules. hr_prepare does all that can be refused, on_load included; reports[0 .. count)
 * are allocated whatever the result. On HR_OK *transaction is to be given to hr_commit or hr_abort, once. */
hr_status hr_prepare(hr_runtime *runtime, const char *const *paths, uint32_t count, hr_report **reports,
                     hr_transaction **transaction);
/* Publishes all modules of the transaction in one step and completes the reports. HR_E_MEMORY, HR_E_SAFE_POINT: nothing
 * has changed, the transaction is aborted. */
hr_status hr_commit(hr_transaction *transaction, hr_report **reports);
/* Takes the preparation back; the modules' on_unload runs where on_load did. */
void hr_abort(hr_transaction *transaction);

void hr_report_free(hr_report *report);
void hr_reports_free(hr_report **reports, uint32_t count);

/* What hr_serve is asked for. */
#define HR_SERVE_POLL 1       /* start no thread: the host calls hr_poll */
#define HR_SERVE_SAFE_POINT 2 /* on_load, commits and on_unload wait for the host's hr_safepoint */
#define HR_SERVE_NO_FORK 4    /* a copy of this process made by fork would do harm: no trial runs */

/* Lets `hotreload watch` find and drive this process (owner only; DESIGN.md section 8). name: 1 to 127 bytes of UTF-8,
 * what the user sees. HR_E_DUPLICATE: served already; HR_E_IO, HR_E_DENIED: *failure (may be null) says why. */
hr_status hr_serve(hr_runtime *runtime, const char *name, uint32_t flags, hr_failure *failure);
/* Stops serving, removes the socket. Called at exit by itself. */
void hr_stop(void);
/* Serves pending requests in the calling thread; waits up to timeout_ms for one (0: does not wait). Returns how many.
 * Also runs what waits for a thread of the host (on_unload, unloading) in hosts without ours, those that serve nobody
 * among them. */
int hr_poll(int timeout_ms);
/* Where a host with HR_SERVE_SAFE_POINT lets a swap happen. Costs a load and a branch when there is nothing to do.
 * Also runs what waits for a thread of the host (on_unload) in hosts without ours. */
void hr_safepoint_reached(void); /* hr_safepoint, in slot.h, calls it when there is something to do */

/* For callers that write the call path in another language: this thread's shard, or null where the thread has to use
 * hr_call_slot (no membarrier, no shard left). Valid until the thread's last thread-specific destructor has run. */
struct hr_shard *hr_thread_attach(void);

/* The out-of-line form of hr_call, for callers that cannot inline C. */
int32_t hr_call_slot(hr_slot *slot, void *state, const void *input, void *output);

#ifdef __cplusplus
}
#endif

#include "slot.h"
#ifdef HOTRELOAD_OFF
#include "off.h"
#endif

#endif
