/* Shards: who counts where.
 *
 * Invariants:
 *  S1  A shard belongs to at most one living thread; it is taken by compare-and-swap of `thread` from 0 and never
 *      reset, so its counters only grow and the sum over all shards is exact.
 *  S2  A shard is given back with active == 0, in the thread's last round but one of thread-specific destructors: slot
 *      calls made by other destructors before have it, later ones take another (found again when the thread is dead).
 *  S3  Threads beyond the shards hold a guest record of their own (the reclaimer watches it like a shard) and count in
 *      the last shard by atomic additions. Guest records are never freed, only taken again.
 *  S4  Without membarrier no thread gets hr_thread_shard; all go through the detached calls, which fence. */
#include "internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

__thread hr_shard *hr_thread_shard;

/* What this thread enters with when hr_thread_shard is null. */
static __thread struct {
    hr_shard *record; /* its shard (S4) or its guest's record (S3) */
    hr_guest *guest;
    unsigned rounds;
    uint32_t forked_active; /* of the record, at a fork */
    uint64_t forked_epoch;
} own;

#define SHARED (HR_BOX_SHARDS - 1)

/* S2: the very last round belongs to sanitizers, which take a thread's own bookkeeping down in it. */
#define LAST_ROUND (PTHREAD_DESTRUCTOR_ITERATIONS - 1)

static bool take(hr_shard *shard, uint32_t expected, uint32_t thread) {
    return __atomic_load_n(&shard->thread, __ATOMIC_RELAXED) == expected &&
           __atomic_compare_exchange_n(&shard->thread, &expected, thread, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

hr_shard *hr_shards_own(void) { return own.record; }

static void raise_shard_count(uint32_t count) {
    uint32_t seen = __atomic_load_n(&hr.box->shard_count, __ATOMIC_RELAXED);
    while (seen < count && !__atomic_compare_exchange_n(&hr.box->shard_count, &seen, count, false, __ATOMIC_SEQ_CST,
                                                        __ATOMIC_RELAXED)) {
    }
}

static hr_shard *take_shard(uint32_t thread) {
    for (uint32_t i = 0; i < SHARED; i++) {
        hr_shard *shard = hr_blackbox_shard(i);
        if (!take(shard, 0, thread)) continue;
        raise_shard_count(i + 1);
        return shard;
    }
    /* All taken: those of threads that ended without their destructors (S2's exceptions) come back now. */
    for (uint32_t i = 0; i < SHARED; i++) {
        hr_shard *shard = hr_blackbox_shard(i);
        uint32_t holder = __atomic_load_n(&shard->thread, __ATOMIC_RELAXED);
        if (holder == thread || hr_platform_thread_alive(holder) || !take(shard, holder, thread)) continue;
        __atomic_store_n(&shard->active, 0, __ATOMIC_RELEASE);
        return shard;
    }
    return NULL;
}

static hr_guest *take_guest(void) {
    for (hr_guest *guest = __atomic_load_n(&hr.guests, __ATOMIC_ACQUIRE); guest; guest = guest->next) {
        uint32_t unused = 0;
        if (__atomic_compare_exchange_n(&guest->taken, &unused, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return guest;
    }
    hr_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL) return NULL;
    guest->taken = 1;
    hr_guest *head = __atomic_load_n(&hr.guests, __ATOMIC_RELAXED);
    do guest->next = head;
    while (!__atomic_compare_exchange_n(&hr.guests, &head, guest, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return guest;
}

static void give_back(void *unused) {
    if (++own.rounds < LAST_ROUND) {
        pthread_setspecific(hr.thread_key, unused); /* S2: once more */
        return;
    }
    hr_guard_leave();
    hr_shard *record = own.record;
    hr_guest *guest = own.guest;
    hr_thread_shard = NULL;
    memset(&own, 0, sizeof own);
    if (record == NULL) return;
    __atomic_store_n(&record->active, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&record->thread, 0, __ATOMIC_RELEASE);
    if (guest) __atomic_store_n(&guest->taken, 0, __ATOMIC_RELEASE);
}

hr_status hr_shards_init(void) {
    return pthread_key_create(&hr.thread_key, give_back) == 0 ? HR_OK : HR_E_LIMIT;
}

/* Gives this thread a record to enter with; null only when memory is out. */
static hr_shard *attach(void) {
    if (own.record) return own.record;
    if (hr_ready() != HR_OK) return NULL;
    uint32_t thread = hr_platform_thread_id();
    hr_shard *shard = take_shard(thread);
    if (shard == NULL) {
        own.guest = take_guest();
        if (own.guest == NULL) return NULL;
        own.record = &own.guest->record;
        __atomic_store_n(&own.record->thread, thread, __ATOMIC_RELAXED);
        raise_shard_count(HR_BOX_SHARDS);
    } else {
        own.record = shard;
        if (__atomic_load_n(&hr.asymmetric, __ATOMIC_RELAXED)) hr_thread_shard = shard;
    }
    pthread_setspecific(hr.thread_key, own.record);
    return own.record;
}

struct hr_shard *hr_thread_attach(void) {
    attach();
    return hr_thread_shard;
}

/* In the parent: in the child its own record is out of reach once the block has been replaced. */
void hr_shards_before_fork(void) {
    if (own.record == NULL) return;
    own.forked_active = own.record->active;
    own.forked_epoch = own.record->epoch;
}

/* The child of a fork has this thread alone; its block is new and empty, at the old address. The thread may be inside a
 * call or a frame, and then still holds what it held. */
void hr_shards_forked(void) {
    hr_shard *record = own.record;
    for (hr_guest *guest = hr.guests; guest; guest = guest->next) {
        if (guest == own.guest) continue;
        guest->record.active = 0;
        guest->taken = 0;
    }
    if (record == NULL) return;
    if (!hr.asymmetric) hr_thread_shard = NULL; /* S4: the child could not register */
    record->thread = hr_platform_thread_id();
    record->epoch = own.forked_epoch;
    record->active = own.forked_active;
    if (own.guest == NULL) {
        uint64_t offset = (uint64_t)((char *)record - (char *)hr_blackbox_shard(0));
        hr.box->shard_count = (uint32_t)(offset / hr_blackbox_shard_stride()) + 1;
    } else {
        hr.box->shard_count = HR_BOX_SHARDS;
    }
}

bool hr_shards_others(void) {
    uint32_t count = __atomic_load_n(&hr.box->shard_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        const hr_shard *shard = hr_blackbox_shard(i);
        uint32_t thread = __atomic_load_n(&shard->thread, __ATOMIC_ACQUIRE);
        if (thread != 0 && shard != own.record && hr_platform_thread_alive(thread)) return true;
    }
    for (hr_guest *guest = __atomic_load_n(&hr.guests, __ATOMIC_ACQUIRE); guest; guest = guest->next)
        if (guest != own.guest && __atomic_load_n(&guest->taken, __ATOMIC_ACQUIRE)) return true;
    return false;
}

/* ---- detached: calls of threads that have no hr_thread_shard ---- */

static uint32_t enter_fenced(hr_shard *record, uint32_t number) {
    uint32_t previous = __atomic_load_n(&record->active, __ATOMIC_RELAXED);
    if (previous == 0)
        __atomic_store_n(&record->epoch, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    /* Partner: the sequentially consistent loads of active in reclaim.c; no membarrier reaches this thread's order
     * where there is none. */
    __atomic_exchange_n(&record->active, number, __ATOMIC_SEQ_CST);
    return previous;
}

static void count_detached(uint32_t index) {
    uint64_t *calls = own.record && own.guest == NULL ? &own.record->calls[index]
                                                      : &hr_blackbox_shard(SHARED)->calls[index];
    __atomic_fetch_add(calls, 1, __ATOMIC_RELAXED);
}

static const hr_table *table_now(void) { return __atomic_load_n(&hr_dispatch.table, __ATOMIC_SEQ_CST); }

/* For a thread that memory could not be had for: while it is inside nothing is reclaimed at all. */
static int32_t call_unprotected(hr_slot *slot, void *state, const void *input, void *output) {
    if (hr_ready() != HR_OK) return slot->fallback ? slot->fallback(state, input, output) : HR_UNRESOLVED;
    __atomic_fetch_add(&hr.unprotected, 1, __ATOMIC_SEQ_CST);
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    raise_shard_count(HR_BOX_SHARDS);
    count_detached(index);
    int32_t result = hr_invoke(slot, NULL, table_now(), index, state, input, output);
    __atomic_fetch_sub(&hr.unprotected, 1, __ATOMIC_SEQ_CST);
    return result;
}

static int32_t call_on(hr_shard *record, const hr_table *table, hr_slot *slot, void *state, const void *input,
                       void *output) {
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    uint32_t previous = enter_fenced(record, index + 1);
    count_detached(index);
    /* The count as well: handles that other languages copy may lack `born`. */
    if (table == NULL || (uint32_t)table->generation < __atomic_load_n(&slot->born, __ATOMIC_RELAXED) ||
        index >= __atomic_load_n(&table->count, __ATOMIC_ACQUIRE))
        table = table_now();
    int32_t result = hr_invoke(slot, record, table, index, state, input, output);
    hr_leave(record, previous);
    return result;
}

int32_t hr_call_detached(hr_slot *slot, void *state, const void *input, void *output) {
    hr_shard *record = attach();
    if (record == NULL) return call_unprotected(slot, state, input, output);
    return call_on(record, NULL, slot, state, input, output);
}

int32_t hr_call_slot(hr_slot *slot, void *state, const void *input, void *output) {
    return hr_call(slot, state, input, output);
}

hr_frame hr_frame_begin_detached(void) {
    hr_frame frame = {NULL, NULL, 0, 0};
    hr_shard *record = attach();
    if (record == NULL) {
        if (hr_ready() == HR_OK) __atomic_fetch_add(&hr.unprotected, 1, __ATOMIC_SEQ_CST);
        frame.generation = 1;
    } else if (hr_thread_shard) {
        frame.shard = record;
        frame.previous = hr_enter(record, HR_ACTIVE_FRAME);
    } else {
        frame.previous = enter_fenced(record, HR_ACTIVE_FRAME);
    }
    frame.table = table_now();
    if (frame.shard) frame.generation = (uint32_t)frame.table->generation;
    return frame;
}

void hr_frame_end_detached(hr_frame *frame) {
    if (frame->generation) {
        if (frame->table) __atomic_fetch_sub(&hr.unprotected, 1, __ATOMIC_SEQ_CST);
    } else {
        hr_leave(own.record, frame->previous);
    }
}

int32_t hr_frame_call_detached(hr_frame *frame, hr_slot *slot, void *state, const void *input, void *output) {
    if ((frame->shard == NULL && frame->generation) || own.record == NULL) return call_unprotected(slot, state, input, output);
    return call_on(own.record, frame->table, slot, state, input, output);
}
