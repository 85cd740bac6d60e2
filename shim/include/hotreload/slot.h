/* The call path, inline (DESIGN.md section 4). Include hotreload.h, not this file.
 *
 * Invariants, with each barrier's partner; dispatch.c and reclaim.c hold the other halves:
 *
 * I1  A table's entries below its count never change while it is published, but for flags that an entry loses: a caller
 *     with either value does what is right. Partner of the acquire load of hr_dispatch.table: the release store in
 *     dispatch.c. Without it a caller could see a table before its entries.
 * I2  A thread that holds a table, or runs a function of it, has shard->active != 0 and shard->epoch <= the epoch at
 *     which that table is retired. The store of active and the load of the table may be reordered by the processor; the
 *     reclaimer's membarrier is the partner that orders them (or, under HR_FENCED, the full fence below). Without it the
 *     reclaimer could free a table that a caller is about to read.
 * I3  shard->calls is written by its own thread alone; readers in this and other processes use relaxed loads.
 * I4  A slot's index is published after the table that has its entry: the acquire load of index, before that of the
 *     table, makes entries[index] exist. */
#ifndef HOTRELOAD_SLOT_H
#define HOTRELOAD_SLOT_H

#ifndef HOTRELOAD_H
#error "include <hotreload/hotreload.h>"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* An initialiser: static hr_slot add = HR_SLOT("counter.add", counter_add); */
#define HR_SLOT(symbol, fallback) { (symbol), (fallback), 0, 0 }

typedef struct hr_entry {
    hr_patch_fn function; /* never null: a slot without implementation has one that returns HR_UNRESOLVED */
    uint64_t flags;       /* atomic; non-zero: hr_call_slow decides. HR_ENTRY_*, above them the slot's version */
} hr_entry;

/* What an entry's flags ask of hr_call_slow; without any of them all the 64 bits are 0. */
#define HR_ENTRY_UNDECLARED 1 /* of entry 0: the slot has not been declared */
#define HR_ENTRY_FIRST 2      /* nobody has called this version yet */
#define HR_ENTRY_GUARD 4      /* on probation */
#define HR_ENTRY_SAMPLE 8     /* one call in some is timed */
#define HR_ENTRY_TRIAL 16     /* a trial run waits for a call */
#define HR_ENTRY_FLAGS 65535
#define HR_ENTRY_VERSION 16   /* the lowest bit of the slot's version, above the flags */

typedef struct hr_table {
    uint64_t generation; /* +1 with every table published */
    uint32_t count;
    uint32_t capacity;
    struct hr_table *next; /* the reclaimer's list */
    uint64_t retired_at;   /* epoch */
    hr_entry entries[1];   /* capacity of them; [0] is the entry of slots that are not declared */
} hr_table;

/* One thread's block of call counters; lives in the black box (wire.h gives its layout to readers). */
typedef struct hr_shard {
    uint64_t epoch;
    uint32_t active; /* 0: outside; 1: in a frame; else 1 + the index of the slot being called */
    uint32_t thread; /* kernel thread id; 0: free */
    uint64_t since;  /* CLOCK_MONOTONIC ns at which the reclaimer first saw this thread block it; 0: it does not */
    uint32_t countdown; /* sampled calls of this thread until the next one that is timed */
    uint32_t reserved_too;
    uint64_t reserved[4];
    uint64_t calls[1]; /* one a slot */
} hr_shard;

typedef struct hr_dispatch_state {
    hr_table *table;
    uint64_t epoch;
    uint32_t safe_point_wanted;
    uint32_t reserved[11];
} hr_dispatch_state;

/* One table, pinned for this thread from hr_frame_begin to hr_frame_end. */
typedef struct hr_frame {
    const hr_table *table;
    hr_shard *shard;
    uint32_t previous;
    uint32_t generation; /* of the table, its lower half; where shard is null: 1 if nothing protects this thread */
} hr_frame;

/* shard->active inside a frame but outside a slot: the number of the table's entry 0. */
#define HR_ACTIVE_FRAME 1

extern hr_dispatch_state hr_dispatch;

/* Initial-exec: the shim is part of the program or linked at its start; eight bytes of the static TLS reserve when it
 * arrives by dlopen (Python). General-dynamic would add a function call to every slot call of a shared shim. */
extern __thread hr_shard *hr_thread_shard __attribute__((tls_model("initial-exec")));

/* Out of line: threads without a shard of their own, systems without membarrier, entries with flags. */
int32_t hr_call_detached(hr_slot *slot, void *state, const void *input, void *output);
int32_t hr_call_slow(hr_slot *slot, const hr_table *table, uint32_t index, void *state, const void *input,
                     void *output);
hr_frame hr_frame_begin_detached(void);
void hr_frame_end_detached(hr_frame *frame);
int32_t hr_frame_call_detached(hr_frame *frame, hr_slot *slot, void *state, const void *input, void *output);

/* Always: where a host calls slots in several places, compilers would find the path too long, and a call of it costs half
 * as much again as what it does. */
#define HR_INLINE static inline __attribute__((always_inline))

#define HR_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define HR_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* ThreadSanitizer does not model membarrier: under it, and wherever HR_FENCED is defined, entry is ordered by
 * sequentially consistent accesses, which the reclaimer pairs with its own. */
#if !defined(HR_FENCED) && defined(__SANITIZE_THREAD__)
#define HR_FENCED 1
#endif
#if !defined(HR_FENCED) && defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HR_FENCED 1
#endif
#endif
#ifdef HR_FENCED
#define HR_TABLE_ORDER __ATOMIC_SEQ_CST
#else
#define HR_TABLE_ORDER __ATOMIC_ACQUIRE
#endif

/* Enters slot `number - 1` (or a frame) and returns what to hand to hr_leave. */
HR_INLINE uint32_t hr_enter(hr_shard *shard, uint32_t number) {
    uint32_t previous = __atomic_load_n(&shard->active, __ATOMIC_RELAXED);
    if (HR_LIKELY(previous == 0)) {
        /* Partner: the release increment in reclaim.c. An epoch read here makes every table published before it visible
         * to the load of the table below. A nested call keeps its outermost caller's epoch: it protects more.
         * Released: a reclaimer that sees the new epoch beside the `active` of the call before must have all that that
         * call did behind it. */
        __atomic_store_n(&shard->epoch, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    }
#ifdef HR_FENCED
    __atomic_exchange_n(&shard->active, number, __ATOMIC_SEQ_CST);
#else
    __atomic_store_n(&shard->active, number, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* I2: the compiler keeps the order, membarrier makes the processor do so */
#endif
    return previous;
}

HR_INLINE void hr_leave(hr_shard *shard, uint32_t previous) {
    /* Release: all that the implementation read through the table happens before the reclaimer's acquire load of 0. */
    __atomic_store_n(&shard->active, previous, __ATOMIC_RELEASE);
}

HR_INLINE void hr_count(hr_shard *shard, uint32_t index) {
    /* Not a read-modify-write: the shard is this thread's own (I3). */
    __atomic_store_n(&shard->calls[index], __atomic_load_n(&shard->calls[index], __ATOMIC_RELAXED) + 1,
                     __ATOMIC_RELAXED);
}

HR_INLINE int32_t hr_invoke(hr_slot *slot, hr_shard *shard, const hr_table *table, uint32_t index, void *state,
                            const void *input, void *output) {
    const hr_entry *entry = &table->entries[index];
    uint64_t flags = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
    if (HR_LIKELY(flags == 0)) return entry->function(state, input, output);
    if ((flags & HR_ENTRY_FLAGS) == HR_ENTRY_SAMPLE && shard && shard->countdown != 0) { /* no more is asked, and not its turn */
        shard->countdown--;
        return entry->function(state, input, output);
    }
    return hr_call_slow(slot, table, index, state, input, output);
}

#ifndef HOTRELOAD_OFF

/* Calls the slot's current implementation; returns its status, or HR_UNRESOLVED where it has none. */
HR_INLINE int32_t hr_call(hr_slot *slot, void *state, const void *input, void *output) {
    hr_shard *shard = hr_thread_shard;
    if (HR_UNLIKELY(!shard)) return hr_call_detached(slot, state, input, output);
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    uint32_t previous = hr_enter(shard, index + 1);
    hr_count(shard, index);
    const hr_table *table = __atomic_load_n(&hr_dispatch.table, HR_TABLE_ORDER);
    int32_t result = hr_invoke(slot, shard, table, index, state, input, output);
    hr_leave(shard, previous);
    return result;
}

/* Pins the current table: until hr_frame_end every hr_frame_call of it runs one generation. Frames nest like calls. */
HR_INLINE hr_frame hr_frame_begin(void) {
    hr_shard *shard = hr_thread_shard;
    if (HR_UNLIKELY(!shard)) return hr_frame_begin_detached();
    hr_frame frame;
    frame.shard = shard;
    frame.previous = hr_enter(shard, HR_ACTIVE_FRAME);
    frame.table = __atomic_load_n(&hr_dispatch.table, HR_TABLE_ORDER);
    frame.generation = (uint32_t)frame.table->generation;
    return frame;
}

/* Like hr_call, on the frame's generation. A slot declared after the frame began runs as hr_call would. */
HR_INLINE int32_t hr_frame_call(hr_frame *frame, hr_slot *slot, void *state, const void *input, void *output) {
    hr_shard *shard = frame->shard;
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    /* The frame's table may have been made before the slot: then its entry is missing, or that of a slot freed since. */
    if (HR_UNLIKELY(!shard || frame->generation < __atomic_load_n(&slot->born, __ATOMIC_RELAXED))) {
        hr_frame copy = *frame; /* one whose address leaves would have to lie in memory: read anew after every call */
        return hr_frame_call_detached(&copy, slot, state, input, output);
    }
    /* The frame is active already: its epoch stands, and what this call needs is pinned. Only `active` has to tell. */
    uint32_t previous = __atomic_load_n(&shard->active, __ATOMIC_RELAXED);
    __atomic_store_n(&shard->active, index + 1, __ATOMIC_RELAXED);
    hr_count(shard, index);
    int32_t result = hr_invoke(slot, shard, frame->table, index, state, input, output);
    hr_leave(shard, previous);
    return result;
}

HR_INLINE void hr_frame_end(hr_frame *frame) {
    if (HR_LIKELY(frame->shard != 0)) hr_leave(frame->shard, frame->previous);
    else {
        hr_frame copy = *frame;
        hr_frame_end_detached(&copy);
    }
}

HR_INLINE void hr_safepoint(void) {
    if (HR_UNLIKELY(__atomic_load_n(&hr_dispatch.safe_point_wanted, __ATOMIC_RELAXED))) hr_safepoint_reached();
}

#endif /* HOTRELOAD_OFF */

#ifdef __cplusplus
}
#endif

#endif
