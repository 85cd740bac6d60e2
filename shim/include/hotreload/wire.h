/* What a host and a tool exchange: the messages on the host's socket, and the black box (DESIGN.md section 8).
 * A cdef header: see abi.h. All integers are in the machine's own byte order; both sides run on one machine. */
#ifndef HOTRELOAD_WIRE_H
#define HOTRELOAD_WIRE_H

#include "hotreload.h"

/* ---- messages: an hr_message, then `length` bytes ---- */

#define HR_WIRE_MAGIC 0x48525731
#define HR_WIRE_VERSION 1
/* More than any valid request or reply. */
#define HR_WIRE_LENGTH_MAX 67108864
/* Modules in one transaction. */
#define HR_WIRE_PATHS_MAX 64

#define HR_MSG_HELLO 1    /* hr_hello    -> hr_welcome, with the black box's file descriptor (SCM_RIGHTS) */
#define HR_MSG_LOAD 2     /* hr_paths    -> hr_reply and reports: prepare and commit in one */
#define HR_MSG_PREPARE 3  /* hr_paths    -> hr_reply and reports; at most one transaction a connection */
#define HR_MSG_COMMIT 4   /* nothing     -> hr_reply and reports */
#define HR_MSG_ABORT 5    /* nothing     -> hr_reply; closing the connection does it too */
#define HR_MSG_ROLLBACK 6 /* hr_rollback_request -> hr_reply and reports */
#define HR_MSG_STATUS 7   /* nothing     -> hr_welcome without a descriptor */
#define HR_MSG_OPTIONS 8  /* hr_options_request -> hr_reply */
#define HR_MSG_LAYOUTS 9  /* nothing     -> hr_reply and the bytes of hr_layout_pack; none: nothing is declared */
#define HR_MSG_REPLY 128  /* set in the kind of every answer */

typedef struct hr_message {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint32_t length;
    uint32_t id; /* the answer repeats the request's */
} hr_message;

typedef struct hr_hello {
    char tool[64];
} hr_hello;

typedef struct hr_welcome {
    uint32_t pid;
    uint32_t client; /* hr_event.origin of what this connection causes */
    uint64_t generation;
    uint64_t box_size;
    uint32_t serve_flags; /* HR_SERVE_* */
    uint32_t reserved;
    char name[HR_NAME_MAX + 1];
    char version[32]; /* of the shim */
} hr_welcome;

#ifdef __cplusplus /* a flexible array member, which C++ compilers know as an extension */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
typedef struct hr_paths {
    uint32_t count;
    uint32_t reserved;
    char paths[][HR_PATH_SIZE]; /* absolute */
} hr_paths;
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

typedef struct hr_rollback_request {
    char module[HR_NAME_MAX + 1]; /* empty: all that the newest commit brought in */
} hr_rollback_request;

/* What a tool asks for when it attaches. Options that it does not name stay as the host or another tool set them. */
typedef struct hr_options_request {
    uint32_t named; /* HR_OPTION_*: set or clear these, and take the numbers that belong to them */
    uint32_t reserved;
    hr_options options;
} hr_options_request;

/* Followed by `count` hr_reports, each report.size bytes long. */
typedef struct hr_reply {
    int32_t status;
    uint32_t count;
    hr_failure failure; /* of the request as a whole */
} hr_reply;

/* ---- the black box: an hr_box, then arrays at the offsets that it names ---- */

#define HR_BOX_MAGIC 0x31584f4252482121
#define HR_BOX_VERSION 1
#define HR_BOX_HEADER_SIZE 4096
#define HR_BOX_EVENTS 1024
#define HR_BOX_MODULES 1000
#define HR_TIMES_BUCKETS 256
#define HR_BOX_SHARDS 256 /* the last one is shared by all threads beyond */

typedef struct hr_box {
    uint64_t magic;
    uint32_t version;
    uint32_t header_size;
    uint64_t size; /* of the whole block, bytes */
    uint64_t slots_offset;
    uint64_t modules_offset;
    uint64_t events_offset;
    uint64_t shards_offset;
    uint64_t shard_stride;
    uint32_t slot_size; /* bytes of one record, of the arrays below */
    uint32_t module_size;
    uint32_t event_size;
    uint32_t slot_capacity;
    uint32_t module_capacity;
    uint32_t event_capacity;
    uint32_t shard_capacity;
    uint32_t pid;
    uint64_t started; /* CLOCK_REALTIME ns */
    uint64_t sequence; /* odd while slot or module records change */
    uint64_t generation;
    uint64_t event_count; /* ever written; the ring holds the last event_capacity */
    uint32_t slot_count;  /* highest used index + 1; index 0 is unused */
    uint32_t module_count;
    uint32_t shard_count; /* shards ever used */
    uint32_t runtime;     /* the served one: show the records of this number */
    uint32_t state;       /* HR_HOST_* */
    uint32_t blocked_thread; /* the thread that a grace period waits for; 0: none */
    uint32_t blocked_slot;
    uint32_t retired_tables;
    uint64_t blocked_since; /* CLOCK_REALTIME ns */
    uint64_t resident_modules;  /* those that back no slot and are mapped all the same; what they cost: */
    uint64_t resident_bytes;    /* in memory */
    uint64_t resident_mappings; /* of the 65,530 or so that a process may have */
    uint64_t budget_bytes;      /* hr_options */
    uint64_t times_offset; /* hr_box_times, two for each slot */
    uint32_t times_size;
    uint32_t sample_every; /* atomic: one call in so many is timed; 0: none is */
    char name[HR_NAME_MAX + 1];
    char version_text[32]; /* of the shim */
    uint64_t start_ticks;  /* of the process, as the system counts: tells it from a later one with its pid */
    char program[HR_PATH_SIZE];   /* its file, */
    char directory[HR_PATH_SIZE]; /* and where it was started */
} hr_box;

#define HR_HOST_STARTING 0
#define HR_HOST_SERVED 1
#define HR_HOST_EXITED 2 /* in order; a killed host stays "served" */

#define HR_SLOT_FREE 0
#define HR_SLOT_FALLBACK 1
#define HR_SLOT_LIVE 2
#define HR_SLOT_UNDECLARED 3
#define HR_SLOT_PROBATION 4

/* hr_box_slot.flags: who tells the layouts that the slot takes. They are checked where both do. */
#define HR_SLOT_HOST_DESCRIBES 1
#define HR_SLOT_MODULE_DESCRIBES 2

typedef struct hr_box_slot {
    char symbol[HR_NAME_MAX + 1];
    uint64_t version;
    uint64_t generation;    /* of its last change */
    uint64_t swapped_at;    /* CLOCK_REALTIME ns of its last change; 0: never */
    uint64_t swaps;         /* changes so far */
    uint64_t calls_base;    /* calls of the record's earlier owners: subtract from the shards' sum */
    uint64_t calls_at_swap; /* its calls when it last changed */
    uint32_t module;        /* 1 + index of the module record; 0: the fallback, or nothing */
    uint32_t state;         /* HR_SLOT_* */
    uint32_t runtime;
    uint32_t epoch;         /* a call that began in this one, or later, runs this version; an earlier one may not */
    uint64_t first_version; /* atomic: the newest version that has been called, */
    uint64_t first_called;  /* atomic: and when it first was, CLOCK_REALTIME ns; 0: none was */
    uint32_t flags;         /* HR_SLOT_*_DESCRIBES */
    uint32_t reserved;
    uint64_t spare[5]; /* whole cache lines: what a commit changes of a record, from version to runtime, fills one */
} hr_box_slot;

/* Call times of one version of a slot: version v's are at [2 * index + v % 2]. Bucket b < 8 counts calls of b ns, bucket
 * 8 * (e - 2) + m those from (8 + m) * 2^(e - 3) ns on. */
typedef struct hr_box_times {
    uint64_t version; /* atomic; UINT64_MAX: of none */
    uint32_t buckets[HR_TIMES_BUCKETS];
} hr_box_times;

#define HR_MODULE_FREE 0
#define HR_MODULE_LIVE 1
#define HR_MODULE_RETIRED 2
#define HR_MODULE_UNLOADED 3

typedef struct hr_box_module {
    char name[HR_NAME_MAX + 1];
    char build_id[HR_BUILD_ID_SIZE];
    char reserved[7];
    char path[HR_PATH_SIZE];   /* the build output it came from */
    char staged[HR_PATH_SIZE]; /* the copy that is mapped */
    char reason[HR_NAME_MAX + 1]; /* why it is in its state */
    uint64_t version;
    uint64_t content;
    uint64_t generation; /* of the commit that brought it in */
    uint64_t loaded_at;  /* CLOCK_REALTIME ns */
    uint64_t bytes;      /* mapped */
    uint64_t resident;   /* of those, in memory: measured once it backs no slot */
    uint32_t mappings;   /* the same */
    uint32_t unused;
    uint32_t state;      /* HR_MODULE_* */
    uint32_t runtime;
} hr_box_module;

#define HR_EVENT_SWAP 1
#define HR_EVENT_REJECT 2
#define HR_EVENT_SAME 3
#define HR_EVENT_ROLLBACK 4
#define HR_EVENT_RETIRE 5
#define HR_EVENT_UNLOAD 6
#define HR_EVENT_CRASH 7
#define HR_EVENT_SERVE 8
#define HR_EVENT_BLOCKED 9 /* a grace period waits for a thread that stays in a slot */
#define HR_EVENT_BUDGET 11 /* resident modules take more memory than budget_bytes, or too many mappings */
#define HR_EVENT_FIRST_CALL 10 /* its changes: lines of "symbol<tab>version<tab>CLOCK_REALTIME ns of the first call" */

#define HR_FAULT_NONE 0
#define HR_FAULT_CALL 1   /* in a guarded call or hook, which was unwound */
#define HR_FAULT_THREAD 2 /* in a thread that the module had started, which sleeps for ever now */
#define HR_FAULT_MIGRATION 3 /* in a migration, which was unwound: state and code are as they were */

/* What the guard caught. */
typedef struct hr_fault {
    uint32_t kind; /* HR_FAULT_* */
    int32_t signal; /* 0: a hang */
    uint32_t thread; /* kernel thread id */
    uint32_t restored; /* bytes of state, exclusive to the call, that were restored; 0: state is as the patch left it */
    uint64_t address; /* that the instruction wanted, or the instruction's own; 0: not known */
    uint64_t offset;  /* in the module's file, as a virtual address, of the instruction, or of the call of what faulted
                         outside of the module; 0: not known */
    char symbol[HR_NAME_MAX + 1]; /* the slot, or "on_load", "on_unload", "a constructor", "the migration of ..." */
} hr_fault;

typedef struct hr_event {
    uint64_t number; /* 1, 2, 3 ...; differs from what is expected while the record is being written */
    uint64_t time;   /* CLOCK_REALTIME ns */
    uint32_t kind;   /* HR_EVENT_* */
    int32_t status;
    uint32_t origin; /* the client that caused it; 0: the host itself */
    uint32_t slots;  /* how many changed */
    uint64_t generation;
    uint64_t module_version;
    uint64_t us; /* of all its steps */
    char module[HR_NAME_MAX + 1];
    char build_id[HR_BUILD_ID_SIZE];
    char reserved[7];
    uint64_t content;
    char changes[1024]; /* lines of "symbol<tab>from<tab>to", whole ones only; `slots` tells how many there were */
    char path[HR_PATH_SIZE];
    hr_failure failure;
    hr_fault fault; /* of HR_EVENT_CRASH, and of a module rejected for one */
} hr_event;

/* ---- reading a black box, of a host that runs or has died ---- */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hr_box_reader hr_box_reader;

/* Maps the block that fd refers to, read only, and checks every size and offset in its header. Keeps no descriptor. */
hr_status hr_box_open(int fd, hr_box_reader **reader, hr_failure *failure);
void hr_box_close(hr_box_reader *reader);

/* A copy of the header, counts limited to the capacities. */
void hr_box_header(const hr_box_reader *reader, hr_box *header);
/* Copies of the first `count` slot or module records, of one moment (unless the host died while it wrote; they are
 * bounded and terminated all the same). Returns how many. */
uint32_t hr_box_slots(const hr_box_reader *reader, hr_box_slot *slots, uint32_t count);
uint32_t hr_box_modules(const hr_box_reader *reader, hr_box_module *modules, uint32_t count);
/* Sums the shards: calls[i] and in_flight[i] for slot index i < count. Either array may be null. */
uint32_t hr_box_calls(const hr_box_reader *reader, uint64_t *calls, uint32_t *in_flight, uint32_t count);
/* How long the sampled calls of one version took: the least time that half of them, and that 99 in 100, did not exceed
 * by more than an eighth. */
typedef struct hr_times {
    uint64_t version;
    uint64_t samples;
    uint64_t p50_ns;
    uint64_t p99_ns;
} hr_times;

/* Of slot index i < count: times[2 * i] of its newest version, times[2 * i + 1] of the one before; zeros where no call was
 * sampled. Returns how many slots; 0 while the host does not sample. */
uint32_t hr_box_times_of(const hr_box_reader *reader, const hr_box_slot *slots, hr_times *times, uint32_t count);

/* A thread that calls slots. */
typedef struct hr_box_thread {
    uint32_t thread;
    uint32_t slot;   /* the innermost that it is in; 0: none */
    uint32_t inside; /* 1: in a slot or a frame */
    uint32_t epoch;  /* in which it began: hr_box_slot.epoch */
} hr_box_thread;

/* The threads that call slots, up to `count`, those beyond the shards left out. Returns how many. */
uint32_t hr_box_threads(const hr_box_reader *reader, hr_box_thread *threads, uint32_t count);

/* Events after number `after`, oldest first; those that the ring has lost are left out. Returns how many. */
uint32_t hr_box_events(const hr_box_reader *reader, uint64_t after, hr_event *events, uint32_t count);

/* ---- the boxes of hosts that have died ---- */

#define HR_REMAINS_KEPT 5

/* A served host's box that outlived it. Open it and hand it to hr_box_open. */
typedef struct hr_remains {
    char path[HR_PATH_SIZE];
    uint64_t started; /* CLOCK_REALTIME ns */
    uint32_t pid;
    uint32_t reserved;
} hr_remains;

/* The newest HR_REMAINS_KEPT at most, the newest first; removes what is older. Returns how many. */
uint32_t hr_remains_list(hr_remains *list, uint32_t count);

/* The function, object or literal of an ELF file at a virtual address in it; an offset where none is known. */
void hr_symbol_at(const char *path, uint64_t address, char *text, uint32_t size);

/* ---- edge helpers shared by hosts and tools ---- */

/* The directory of the sockets, created 0700 and checked when absent. HR_E_DENIED when it is someone else's. */
hr_status hr_runtime_directory(char *path, uint32_t size, hr_failure *failure);

/* Reads a whole build output, never mapping it, and preflights it: hr_preflight's results, HR_E_IO or HR_E_DENIED. */
hr_status hr_inspect(const char *path, hr_failure *failure, hr_manifest **manifest);

/* The settle rule's first question (section 7): has every writer left this output? (hr_inspect asks the second, whether
 * all bytes are there.) HR_OK; HR_E_TRUNCATED: not yet, ask again; else why it cannot be taken at all. */
hr_status hr_settled(const char *path, hr_failure *failure);

#ifdef __cplusplus
}
#endif

#endif
