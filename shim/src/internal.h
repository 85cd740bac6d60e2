/* What the shim's files share. The arrows: registry, commit, rollback -> dispatch -> shards, reclaim -> blackbox -> platform. */
#ifndef HOTRELOAD_INTERNAL_H
#define HOTRELOAD_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/hotreload/hotreload.h"
#include "../include/hotreload/wire.h"

#define HR_VERSION_TEXT "0.1.0"
#define HR_SLOTS_DEFAULT 4096
#define HR_SLOTS_MAX 65536
#define HR_HISTORY 16
#define HR_SAFE_POINT_SECONDS 10
#define HR_BLOCKED_SECONDS 2 /* after which a grace period that does not end is an event */
#define HR_MAPPINGS_MANY 32768 /* half of what Linux gives a process */

typedef struct hr_module hr_module;
typedef struct hr_agreed hr_agreed;
typedef struct hr_state_record hr_state_record;
typedef struct hr_probation hr_probation;

/* Addresses of code; atomic words. */
typedef struct hr_text {
    uintptr_t start, end;
} hr_text;

/* Where a guarded call returns to, with what it may have changed; written by the platform file's assembly. */
typedef struct hr_return_point {
    uintptr_t stack, return_address;
    uintptr_t preserved[6]; /* the registers that a function has to keep */
    uint32_t float_control; /* MXCSR */
    uint16_t x87_control;
    uint16_t reserved;
} hr_return_point;

/* What a module takes of the process, measured when it has become resident. */
typedef struct hr_cost {
    uint64_t bytes;    /* of addresses */
    uint64_t resident; /* bytes in memory */
    uint32_t mappings;
} hr_cost;

/* What a module's own HOTPATCH_UNLOAD_V1 says. */
enum { HR_MODULE_SAYS_NOTHING, HR_MODULE_UNLOADS, HR_MODULE_STAYS };

/* A module that was opened. It stays mapped for the life of the process unless unload.c ends it. */
struct hr_module {
    hr_module *next; /* all modules, newest first */
    hr_module *next_live;
    hr_module *next_retiring;
    hr_runtime *runtime; /* null: freed */
    void *context;       /* of a freed runtime */
    hr_manifest *manifest;
    void *handle;
    uintptr_t base;
    const hr_patch_module_v1 *exported;
    uint64_t generation; /* of the runtime, at the commit that brought it in; 0: not committed */
    uint64_t retired_at; /* epoch; 0: not waiting for its grace period */
    uint64_t size;       /* bytes mapped */
    uint32_t uses;       /* slots that run its functions now */
    uint32_t record;     /* 1 + its index in the black box; 0: none */
    uint32_t state;      /* HR_MODULE_* */
    bool initialised;    /* on_load has succeeded (or there is none), on_unload has not begun since */
    hr_text text;
    hr_probation *probations; /* one an entry, where it was loaded under guard */
    uint32_t probations_used;
    uint64_t probations_until; /* epoch after which nobody can reach them; 0: they are linked */
    uint32_t on_probation; /* of these, under way */
    uint32_t condemned;    /* atomic; G3 */
    hr_module *next_condemned;
    hr_status fault_status;
    hr_fault fault;
    bool in_hook;        /* on_unload, or the on_load of a roll back, is running, or it is being unloaded */
    uint8_t unload;      /* HR_MODULE_SAYS_NOTHING ... */
    uint32_t unload_tries; /* scans that found something */
    const char *kept_for;  /* what the black box has been told why it is not unloaded; null: nothing */
    uint64_t unload_at;    /* CLOCK_MONOTONIC ns: not before */
    uint64_t needed;       /* unload.c's mark: a roll back would commit it again */
    hr_cost cost;
    bool counted; /* in the black box, among what resident modules cost */
    const char *path;
    const char *staged; /* both behind the struct, in the same block */
};

/* An implementation that a slot ran before. */
typedef struct hr_past {
    hr_module *module; /* null: the fallback */
    hr_patch_fn function;
} hr_past;

/* A slot, as the writers know it; callers know the dispatch table only. One cache line, and its past lies beside that of
 * its neighbours: 4,096 slots change in the time that memory takes, so a commit touches as little of it as can be. */
typedef struct hr_slot_info {
    hr_runtime *runtime; /* null: free */
    hr_patch_fn fallback;
    hr_patch_fn function;
    hr_module *module; /* null: the fallback, or nothing */
    uint64_t version;
    char *symbol;  /* HR_NAME_MAX + 1 bytes, never null */
    uint32_t born; /* generation of the table that was current when the slot was created */
    uint16_t past_count;
    uint16_t past_next; /* where the next past goes: the newest HR_HISTORY stay */
    bool declared;
} __attribute__((aligned(64))) hr_slot_info;
_Static_assert(sizeof(hr_slot_info) == 64, "what a commit touches of a slot is one cache line");

struct hr_runtime {
    hr_runtime *next;
    void *context;
    uint64_t generation;
    uint64_t *quarantine; /* contents */
    uint32_t quarantine_count;
    uint32_t quarantine_capacity;
    uint32_t number;
    hr_layout_v1 *declared; /* by the host; null: nothing */
    hr_agreed *agreed;      /* shared.c: the layouts as they are now */
    hr_state_record *states;
    uint64_t state_changes; /* registrations so far, and their ends */
    bool migrated;          /* ever: only then does a roll back have to look */
};

/* How far ahead a loop over slots asks for memory: enough to hide a miss of the nearer caches, few enough to be there
 * still when it comes. */
#define HR_AHEAD 16

/* A slot's next implementation, for hr_dispatch_publish. */
typedef struct hr_assignment {
    uint32_t index;
    hr_patch_fn function;
    hr_module *module;
    uint64_t version; /* that the slot has after it; 0: no swap, nothing is to be proven about the function */
} hr_assignment;

/* All of the shim's state, but for what callers touch (hr_dispatch, the black box, hr_thread_shard).
 * `lock` guards everything without a remark; no code of a module or of the host runs while it is held. */
typedef struct hr_global {
    pthread_mutex_t lock;
    pthread_once_t once;
    int init_status; /* hr_status */
    bool ready;
    bool asymmetric; /* atomic: membarrier serves, so threads may enter without a fence */
    uint32_t capacity;
    uint32_t slot_count; /* highest used index + 1 */
    uint32_t reserved_slots; /* promised to prepared transactions */
    uint32_t *free_slots;
    uint32_t free_count;
    hr_slot_info *slots;
    char (*symbols)[HR_NAME_MAX + 1]; /* of each slot */
    hr_past *past; /* HR_HISTORY times capacity: the first of each slot, then the second of each */
    uint64_t names; /* +1 with every slot created or freed: what was looked up before may be another slot's */
    uint32_t *map; /* symbol hash -> index, 0: empty; open addressing */
    uint32_t map_size;
    hr_runtime first; /* the default runtime */
    hr_runtime *runtimes;
    uint32_t runtime_numbers;
    bool guarded; /* the guard has records: only then is it asked about every slot of a commit */
    hr_module *modules;
    hr_module *live; /* those in state HR_MODULE_LIVE: a commit must not walk thousands of retired ones */
    hr_module *first_retiring; /* those that wait for their grace period, M6: its end must not walk the others either */
    uint32_t retiring; /* atomic: how many these are */
    hr_table *retired_tables;
    hr_table *spare_table; /* one that was retired and is free: the next commit's, without asking for memory */
    uint32_t retired_count;
    uint32_t unprotected; /* atomic: callers for whom no record could be allocated; while any, nothing is reclaimed */
    struct hr_guest *guests; /* push-only list, atomic */
    pthread_key_t thread_key;
    hr_box *box;
    hr_module *recorded[HR_BOX_MODULES]; /* whose the box's module records are */
    uint32_t next_record;                /* to be given out again, once all have been */
    int box_fd; /* -1: private memory, because shared memory could not be had */
    char box_path[HR_PATH_SIZE]; /* where it can be found after our death; empty: nowhere */
    uint64_t box_device, box_inode; /* what box_fd was opened as: a daemon may close every descriptor it finds */
    uint32_t owner; /* the pid that this state belongs to */
    hr_runtime *served;   /* written under lock, read atomically */
    uint32_t serve_flags; /* the same */
    uint64_t blocked_told; /* box->blocked_since of the newest HR_EVENT_BLOCKED */
    bool over_budget;      /* HR_EVENT_BUDGET has been told */
    hr_options options;   /* defaults filled in; flags are read atomically */
    uint32_t first_calls; /* atomic: slots whose first call no event has told yet */
    uint64_t clock_cost;  /* of taking the time twice, ns; 0: not measured yet */
    uint8_t *first_call;  /* atomic, one a slot: it is one of them */
    bool described;  /* a layout has ever told what a slot takes */
    uint32_t serial; /* atomic: of staged copies */
    uint32_t spare;  /* atomic: of an empty one, made ahead; 0: there is none */
    char stage_directory[HR_PATH_SIZE]; /* empty until the first copy */
    int stage_lock;
} hr_global;

extern hr_global hr;

/* registry.c */
hr_status hr_ready(void); /* initialises the process's state once */
hr_runtime *hr_runtime_or_default(hr_runtime *runtime);
uint32_t hr_slot_lookup(const hr_runtime *runtime, const char *symbol); /* 0: none; under lock */
hr_status hr_slot_create(hr_runtime *runtime, const char *symbol, uint32_t *index); /* under lock */
uint32_t hr_slot_room(void); /* slots that neither exist nor are promised; under lock */
bool hr_slot_share(hr_slot *slot); /* gives a handle whose symbol another one declared that one's index */
bool hr_name_valid(const char *name);

/* dispatch.c */
int32_t hr_unresolved(void *state, const void *input, void *output);
hr_status hr_dispatch_init(void);
hr_status hr_dispatch_append(uint32_t index); /* makes the entry exist, unresolved; under lock */
void hr_dispatch_set_unused(uint32_t index, hr_patch_fn function); /* of an entry that nobody calls yet; under lock */
hr_status hr_dispatch_publish(const hr_assignment *assignments, uint32_t count); /* under lock */
void hr_dispatch_free(hr_table *table); /* quiescent; under lock */

hr_status hr_dispatch_flag(const uint32_t *indices, uint32_t count, uint64_t flag); /* the same of some */
hr_status hr_dispatch_flag_all(uint64_t flag, bool on); /* of every slot, in a new table; under lock */
uint64_t hr_dispatch_drop(const hr_table *table, uint32_t index, uint64_t flags); /* D1; returns what was left before */

/* options.c */
void hr_options_init(void);
bool hr_option(uint32_t flag); /* whether it is on */
hr_status hr_options_change(uint32_t named, const hr_options *options);

/* slow.c */
hr_status hr_slow_init(void);
uint64_t hr_slow_flags(const hr_assignment *assignment); /* of its entry; under lock, right before it is published */
bool hr_slow_news(void);  /* something waits for hr_slow_tell */
void hr_slow_forget(uint32_t index); /* the slot is freed; under lock */
void hr_slow_tell(void); /* writes the events that callers only noted; not under lock */

/* locks.c: what a thread whose call was ended holds, as a clause; false: nothing that can be seen. The thread waits. */
bool hr_locks_describe(const hr_module *module, uint32_t thread, char *text, uint32_t size);

/* guard.c */
hr_status hr_guard_ready(void); /* handlers and watchdog; not under lock */
void hr_guard_module(hr_module *module); /* of one that was opened */
uint64_t hr_guard_flags(const hr_assignment *assignment); /* as hr_slow_flags */
int32_t hr_guard_call(hr_slot *slot, const hr_table *table, uint32_t index, void *state, const void *input,
                      void *output);
/* Runs code of a module (null: of one that is being opened) guarded, when the option is on. False: *fault tells. */
bool hr_guard_run(hr_module *module, const char *what, void (*run)(void *), void *argument, hr_fault *fault);
bool hr_guard_on(uint32_t index); /* whether the slot is on probation; under lock */
void hr_guard_forget(uint32_t index); /* the slot is freed; under lock */
void hr_guard_leave(void); /* the thread ends */
/* Takes the module's records of its probation away, once nobody can use them any more; under lock. False: not yet. */
bool hr_guard_release(hr_module *module);
/* Whether the address lies in what guarded calls that have returned left behind. */
bool hr_guard_left_behind(uintptr_t address);
void hr_guard_forked(void); /* in the child */
/* trial.c */
typedef void *hr_trial_ticket;
/* The trial run of a staged module, where the option is on; not under lock. Sets HR_WARN_UNTRIED. */
hr_status hr_trial_run(hr_runtime *runtime, const char *staged, const hr_manifest *manifest, hr_failure *failure,
                       uint32_t *warnings);
/* Around a call of a flagged slot; null: nobody waits for it any more. */
hr_trial_ticket hr_trial_begin(const hr_table *table, uint32_t index, uint64_t version, void *state,
                               const void *input, void *output);
void hr_trial_end(hr_trial_ticket ticket, int32_t status);
hr_status hr_trial_possible(void); /* HR_E_USAGE: not in this host */
void hr_trial_forked(void); /* in the child */

/* sample.c */
hr_status hr_sample_switch(uint32_t every); /* 0: off; under lock */
void hr_sample_slot(uint32_t index); /* that is new; under lock */
void hr_sample_again(void); /* in a new block; under lock, or in the child of a fork */
void hr_sample_version(uint32_t index, uint64_t version); /* the slot's next version begins; under lock */
bool hr_sample_due(void); /* whether this call is timed; counts it */
void hr_sample_note(uint32_t index, uint64_t version, uint64_t ns);

/* shards.c */
hr_shard *hr_shards_own(void); /* what this thread enters with, or null */
typedef struct hr_guest {
    struct hr_guest *next;
    uint32_t taken; /* atomic */
    hr_shard record; /* without counters */
} hr_guest;
hr_status hr_shards_init(void);
void hr_shards_before_fork(void);
void hr_shards_forked(void); /* in the child */
bool hr_shards_others(void); /* whether another thread than this one may be counting */

/* reclaim.c */
uint64_t hr_reclaim_advance(void); /* starts a grace period and returns its epoch; under lock */
void hr_reclaim_table(hr_table *table); /* retire; under lock, before hr_reclaim_advance */
/* Frees the tables that are quiescent and returns the epoch up to which everything is; never waits; under lock. */
uint64_t hr_reclaim_tables(void);

/* blackbox.c */
hr_status hr_blackbox_create(void); /* sets hr.box and hr.box_fd */
void hr_blackbox_forked(void);             /* in the child: the same address, its own, empty */
/* Takes all the memory that the records of modules and events will need, at once. */
void hr_blackbox_fill(void);
void hr_blackbox_remove(void); /* at exit: there is nothing to find out */
hr_status hr_blackbox_share(hr_failure *failure); /* makes sure that box_fd is the block's */
void hr_blackbox_begin(void); /* records change from here; under lock */
void hr_blackbox_end(void);
void hr_blackbox_slot(uint32_t index); /* what it is now */
/* The same of slots that the commit under way has changed, and that it has. */
void hr_blackbox_swapped(const hr_assignment *assignments, uint32_t count, uint64_t now);
void hr_blackbox_free_slot(uint32_t index); /* its counters become the next owner's base */
void hr_blackbox_module(hr_module *module, const char *reason); /* gives it a record when it has none */
void hr_blackbox_cost(hr_module *module, bool counts); /* into, or out of, what resident modules cost */
void hr_blackbox_event(uint32_t kind, const hr_report *report); /* under lock */
void hr_blackbox_fault(uint32_t kind, const hr_report *report, const hr_fault *fault); /* the same */
uint64_t hr_blackbox_calls(uint32_t index); /* since the slot last changed; under lock */
hr_box_times *hr_blackbox_times(uint32_t index, uint64_t version);
bool hr_blackbox_first_call(uint32_t index, uint64_t version); /* of a caller; true: it is the version's first one */
void hr_blackbox_first_calls(hr_module *module, const uint32_t *indices, uint32_t count); /* the event; under lock */
void hr_blackbox_rebuild(void); /* writes all records anew */
hr_shard *hr_blackbox_shard(uint32_t number);
uint64_t hr_blackbox_shard_stride(void);

/* stage.c */
/* The private copy: path, bytes mapped read-only. hr_stage_name gives it its final name once its manifest is known. */
typedef struct hr_staged {
    char path[HR_PATH_SIZE];
    uint8_t *bytes;
    uint64_t size;
    uint32_t serial;
} hr_staged;
hr_status hr_stage(const char *path, hr_staged *staged, hr_failure *failure);
void hr_stage_ahead(void); /* makes the next copy's empty file; for when nobody waits */
hr_status hr_stage_name(hr_staged *staged, const hr_manifest *manifest, hr_failure *failure);
void hr_stage_discard(hr_staged *staged); /* removes the file too */
void hr_stage_unmap(hr_staged *staged);   /* keeps the file */
hr_status hr_directory_private(const char *path, hr_failure *failure); /* makes and checks */
void hr_stage_remove_stale(void); /* copies that dead hosts left behind */
void hr_stage_cleanup(void); /* at exit: removes this process's copies */

/* report.c, module.c, prepare.c, commit.c, rollback.c; module.h has what these share */
/* The guard's: rolls it back in all its slots, quarantines it, writes the event. */
void hr_module_take_back(hr_module *module, hr_status status, const hr_fault *fault);
void hr_module_run_grace(void); /* runs on_unload of what is quiescent; not under lock */
bool hr_module_waiting(void);
void hr_module_forked(void); /* in the child */
void hr_module_orphan(hr_runtime *runtime); /* retires its modules, before it is freed; under lock */

hr_past *hr_past_place(const hr_slot_info *slot, uint32_t place); /* of its HR_HISTORY, a ring */
bool hr_module_quarantined(const hr_runtime *runtime, const hr_module *module); /* under lock */
hr_report *hr_module_report(const hr_module *module); /* for an event about it; null: no memory */

/* unload.c */
void hr_unload_run(void);      /* looks at what waits for being unloaded; not under lock */
bool hr_unload_waiting(void);
void hr_unload_soon(void);     /* a module may have become ready for it */
void hr_unload_read(hr_module *module); /* what it says about itself, once it is open */
void hr_unload_measure(hr_module *module); /* not under lock */
void hr_unload_forked(void); /* in the child */

/* remains.c */
int hr_remains_file(char *path, uint64_t size); /* a file for the box that outlives the process; -1: none can be had */
void hr_remains_clean(void);

/* layout.c */
/* Where a description is read from. `read` copies words: those whose bit in `pointers` is set must be addresses of the
 * source (or 0), the others plain numbers. `text` returns null for what does not end within HR_TYPE_NAME_MAX bytes. */
typedef struct hr_layout_reader {
    void *context;
    bool (*read)(void *context, uint64_t address, uint32_t count, uint32_t pointers, uint64_t *words);
    const char *(*text)(void *context, uint64_t address);
} hr_layout_reader;
typedef struct hr_layout_range {
    uint64_t start, end;
} hr_layout_range;
typedef struct hr_layout_memory {
    const uint8_t *base; /* of address 0 */
    const hr_layout_range *ranges; /* null: all may be read */
    uint32_t range_count;
} hr_layout_memory;
/* What becomes of a type that two merged descriptions have in two ways: the second's where `replaces` says so; else that
 * with more fields, which has grown into its reserve; of what is no struct, the first's. */
typedef struct hr_layout_merge {
    bool (*replaces)(void *context, const char *type);
    void *context;
} hr_layout_merge;
hr_layout_reader hr_layout_memory_reader(hr_layout_memory *memory);
hr_status hr_layout_read(const hr_layout_reader *reader, uint64_t address, hr_status invalid, hr_failure *failure,
                         hr_layout_v1 **layout);
/* merge null: the same name must mean the same; first may be null. */
hr_status hr_layout_merge_two(const hr_layout_v1 *first, const hr_layout_v1 *second, const hr_layout_merge *merge,
                              hr_failure *failure, hr_layout_v1 **layout);
bool hr_layout_equal(const hr_layout_v1 *a, const hr_layout_v1 *b);
const char *hr_layout_plain_name(const char *name); /* without "struct ", without a namespace */
const hr_layout_type_v1 *hr_layout_find_type(const hr_layout_v1 *layout, const char *name);
const hr_layout_entry_v1 *hr_layout_find_entry(const hr_layout_v1 *layout, const char *symbol);

/* compare.c */
bool hr_layout_value_type(const char *type, char *base); /* base: HR_TYPE_NAME_MAX + 1 bytes; false: a pointer */
bool hr_layout_is_reserve(const hr_layout_field_v1 *field);
void hr_comparison_judge(hr_layout_comparison *comparison); /* again, after rows were excused */

/* migrate.c */
/* A type that changes, and the function that does it. */
typedef struct hr_migration {
    char type[HR_TYPE_NAME_MAX + 1];
    const hr_manifest *manifest; /* of the module that has the function */
    uint64_t function;           /* virtual address in its file */
    hr_layout_v1 *to;            /* what the type, and all that it holds, becomes */
    uint64_t from_size, to_size;
    uint32_t align;
} hr_migration;
typedef struct hr_migrations {
    hr_migration *items;
    uint32_t count;
} hr_migrations;
typedef struct hr_moves hr_moves; /* the objects on their way */
/* The module, opened, that has the manifest. */
typedef hr_module *(*hr_resolve_fn)(void *context, const hr_manifest *manifest);
struct hr_state_record {
    struct hr_state_record *next;
    hr_state state;
    char type[HR_TYPE_NAME_MAX + 1];
};
void hr_states_free(hr_runtime *runtime);
void hr_migrations_free(hr_migrations *migrations);
/* Plan: excuses the rows of a comparison that the module's migrations take care of, and adds those; under lock. */
hr_status hr_migrate_excuse(hr_runtime *runtime, const hr_layout_v1 *now, const hr_manifest *manifest,
                            hr_layout_comparison *comparison, hr_migrations *migrations);
hr_status hr_migrate_next(const hr_layout_v1 *now, const hr_migrations *migrations, hr_layout_v1 **next);
hr_status hr_migrate_allowed(hr_failure *failure); /* G4 */
/* By slot index: what the code that runs there was compiled for; null: not known, or nothing; under lock. */
const hr_layout_v1 **hr_migrate_codes(const hr_runtime *runtime);
hr_status hr_migrate_others(const hr_layout_v1 *const *codes, const hr_layout_v1 *next, hr_failure *failure); /* G3 */
/* Plan of a roll back, where `leaving` are the modules taken back and `codes` what runs afterwards; under lock. */
hr_status hr_migrate_back(hr_runtime *runtime, const hr_layout_v1 *const *codes, const hr_manifest *const *leaving,
                          uint32_t count, hr_migrations *migrations, hr_failure *failure);
/* What the guard has caught in a migration, and of which module; its kind is HR_FAULT_NONE otherwise. */
typedef struct hr_migrate_fault {
    hr_module *module;
    hr_fault fault;
} hr_migrate_fault;
/* Run and grow; not under lock. *moves is set whatever the result, and to be freed. HR_E_CRASH and HR_E_HANG: *fault
 * tells, not *failure. */
hr_status hr_migrate_run(hr_runtime *runtime, const hr_migrations *migrations, hr_resolve_fn resolve, void *context,
                         hr_failure *failure, hr_migrate_fault *fault, hr_moves **moves);
bool hr_moves_stale(const hr_runtime *runtime, const hr_moves *moves); /* under lock, like the next */
void hr_moves_put(hr_runtime *runtime, hr_moves *moves);
void hr_moves_undo(hr_runtime *runtime, hr_moves *moves); /* not under lock, like the next */
void hr_moves_shrink(hr_runtime *runtime, hr_moves *moves);
void hr_moves_free(hr_moves *moves);

/* shared.c */
/* A transaction's view of the layouts: what was agreed on when it began, and what its modules make of it. */
typedef struct hr_shared {
    hr_agreed *base;
    hr_layout_v1 *next; /* null: unchanged */
    hr_migrations migrations;
    hr_agreed *made; /* reserved for `next` */
    bool locked; /* hr.lock is held by the caller */
} hr_shared;
hr_agreed *hr_agreed_take(const hr_runtime *runtime);
void hr_agreed_drop(hr_agreed *agreed);
const hr_layout_v1 *hr_agreed_layout(const hr_agreed *agreed);
void hr_shared_free(hr_runtime *runtime);
void hr_shared_begin(hr_runtime *runtime, hr_shared *shared);
hr_status hr_shared_add(hr_runtime *runtime, hr_shared *shared, const hr_manifest *manifest, hr_failure *failure);
bool hr_shared_stale(const hr_runtime *runtime, const hr_shared *shared); /* under lock, like the next two */
void hr_shared_restart(hr_runtime *runtime, hr_shared *shared);
hr_status hr_shared_reserve(hr_shared *shared); /* last step that can fail */
void hr_shared_commit(hr_runtime *runtime, hr_shared *shared);
void hr_shared_end(hr_shared *shared);
bool hr_shared_in_memory(const hr_manifest *manifest, const uint8_t *bytes, uintptr_t base); /* step 6 */

/* control.c */
extern __thread uint32_t hr_origin; /* whose request this thread serves: hr_event.origin; 0: the host itself */
bool hr_swap_at_safe_point(void); /* what this thread commits now meets no call, by the host's own choice */
bool hr_needs_safe_point(void); /* this thread serves a host that wants modules' code to run at its safe points */
hr_status hr_at_safe_point(void (*job)(void *), void *argument); /* HR_OK or HR_E_SAFE_POINT */
hr_runtime *hr_served(void);
uint32_t hr_serve_flags(void);
void hr_control_forked(void);
void hr_control_wake(void); /* something waits for a grace period */
void hr_control_news(void); /* something waits for hr_slow_tell or hr_unload_run; for callers and signal handlers */
void hr_control_exit(void);

/* linux.c: the platform file */
bool hr_platform_membarrier_register(void);
bool hr_platform_membarrier(void); /* false: refused, as by a sandbox that came after the registration */
uint32_t hr_platform_thread_id(void);
bool hr_platform_thread_alive(uint32_t thread);
int hr_platform_thread(pthread_t *thread, void *(*run)(void *)); /* starts one that no signal of the host may land on */
bool hr_platform_thread_is_ours(uint32_t thread); /* started by the above: it blocks all signals */
void hr_platform_signal(uint32_t thread, int signal);
void hr_platform_end_with_parent(void); /* this process is killed when the one that forked it ends */
bool hr_platform_holds(pthread_mutex_t *mutex); /* whether this thread does */
void hr_platform_text(uintptr_t base, hr_text *text); /* the code of the library that is mapped there */
size_t hr_platform_read(uintptr_t from, void *to, size_t size); /* of this process; less where pages cannot be read */
uintptr_t hr_platform_program_counter(const void *context); /* of a signal handler */
uintptr_t hr_platform_stack_pointer(const void *context);
bool hr_platform_follows_call(uintptr_t address); /* whether the instruction before it is a call, most likely */
bool hr_platform_guards(void); /* whether this machine has the next two */
/* Calls function(state, input, output); hr_platform_return can make it return before its time. */
int32_t hr_platform_call(hr_return_point *point, hr_patch_fn function, void *state, const void *input, void *output);
/* The signal handler with this context shall return to where that call does, with this result. */
void hr_platform_return(void *context, const hr_return_point *point, int32_t result);
bool hr_platform_file_fits(uint64_t size); /* false: writing so much would raise SIGXFSZ */
int hr_platform_shared_memory(uint64_t size);
bool hr_platform_in_memory(const char *directory); /* writing to a file there never waits for a disk */
uint64_t hr_platform_start_ticks(uint32_t pid); /* 0: there is no such process, or it is dead */
void hr_platform_seal(int fd);
/* 1: no writer has it; 0: one has; -1: leases do not serve here. */
int hr_platform_no_writer(int fd);
hr_status hr_platform_copy(int from, int to, uint64_t size);
bool hr_platform_peer_is_user(int socket_fd);

/* status.c */
uint64_t hr_monotonic_ns(void);
uint64_t hr_realtime_ns(void);
bool hr_text_valid(const char *text); /* UTF-8 without control characters; may be empty */
void hr_copy_text(char *to, size_t size, const char *from); /* cuts at a UTF-8 boundary */
hr_status hr_fail(hr_failure *failure, hr_status status, const char *found, const char *expected, const char *fix,
                  const char *reason, ...) __attribute__((format(printf, 6, 7)));

#endif
