/* The slow path of a slot call: all that an entry's flags ask for, in this order: late declaration, first call,
 * guard.
 *
 * Invariants:
 *  L1  A caller here is inside its slot (hr_enter, hr_count) by the inline path: what it holds of the table is pinned.
 *      It takes no lock and allocates nothing, but for a late declaration and a thread's first guarded call.
 *  L2  What a caller finds out is noted in atomics, and told by whoever serves (hr_slow_tell).
 *  L3  A version's first call is told once: by the caller that raises the record's first_version to it. A caller whose
 *      frame has pinned a table from before a swap holds an older version, and raises nothing. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

hr_status hr_slow_init(void) {
    hr.first_call = calloc(hr.capacity, sizeof *hr.first_call);
    return hr.first_call ? HR_OK : HR_E_MEMORY;
}

uint64_t hr_slow_flags(const hr_assignment *assignment) {
    uint64_t guard = hr.guarded ? hr_guard_flags(assignment) : 0;
    uint64_t flags = assignment->version ? HR_ENTRY_FIRST | guard : 0;
    uint64_t version = assignment->version ? assignment->version : hr.slots[assignment->index].version;
    if (hr.box->sample_every) flags |= HR_ENTRY_SAMPLE;
    return flags ? flags | version << HR_ENTRY_VERSION : 0;
}

/* A slot that was never declared: this first call does it. Another declaration of the same symbol shares its slot. */
static bool declare_late(hr_slot *slot) {
    if (__atomic_load_n(&slot->index, __ATOMIC_ACQUIRE) != 0) return true; /* the caller's load of index gave 0 */
    hr_status status = hr_declare(NULL, slot);
    return status == HR_OK || (status == HR_E_DUPLICATE && hr_slot_share(slot));
}

static void note_first_call(uint32_t index, uint64_t version) {
    if (!hr_blackbox_first_call(index, version)) return;
    if (__atomic_exchange_n(&hr.first_call[index], 1, __ATOMIC_RELAXED) != 0) return;
    __atomic_fetch_add(&hr.first_calls, 1, __ATOMIC_RELEASE); /* partner: the acquire load in hr_slow_news */
    hr_control_news();
}

static int32_t run(hr_slot *slot, const hr_table *table, uint32_t index, uint64_t flags, void *state,
                   const void *input, void *output) {
    if (flags & HR_ENTRY_GUARD) return hr_guard_call(slot, table, index, state, input, output);
    return table->entries[index].function(state, input, output);
}

static int32_t sampled(hr_slot *slot, const hr_table *table, uint32_t index, uint64_t flags, void *state,
                       const void *input, void *output) {
    uint64_t before = hr_monotonic_ns();
    int32_t result = run(slot, table, index, flags, state, input, output);
    hr_sample_note(index, flags >> HR_ENTRY_VERSION, hr_monotonic_ns() - before);
    return result;
}

/* With its inputs kept for a trial run. */
__attribute__((noinline)) static int32_t recorded(hr_slot *slot, const hr_table *table, uint32_t index, uint64_t flags,
                                                   void *state, const void *input, void *output) {
    hr_trial_ticket ticket = hr_trial_begin(table, index, flags >> HR_ENTRY_VERSION, state, input, output);
    int32_t result = run(slot, table, index, flags, state, input, output);
    if (ticket) hr_trial_end(ticket, result);
    return result;
}

/* What happens once; out of line, so that the calls after it begin without a stack frame of ours. */
__attribute__((noinline)) static int32_t call_once(hr_slot *slot, const hr_table *table, uint32_t index, void *state,
                                                    const void *input, void *output) {
    uint64_t flags = __atomic_load_n(&table->entries[index].flags, __ATOMIC_RELAXED);
    if (flags & HR_ENTRY_UNDECLARED) {
        if (declare_late(slot)) return hr_call(slot, state, input, output);
        return slot->fallback ? slot->fallback(state, input, output) : HR_UNRESOLVED;
    }
    hr_dispatch_drop(table, index, HR_ENTRY_FIRST);
    if (flags & HR_ENTRY_FIRST) note_first_call(index, flags >> HR_ENTRY_VERSION);
    return hr_call_slow(slot, table, index, state, input, output);
}

int32_t hr_call_slow(hr_slot *slot, const hr_table *table, uint32_t index, void *state, const void *input,
                     void *output) {
    uint64_t flags = __atomic_load_n(&table->entries[index].flags, __ATOMIC_RELAXED);
    if (HR_UNLIKELY(flags & (HR_ENTRY_UNDECLARED | HR_ENTRY_FIRST)))
        return call_once(slot, table, index, state, input, output);
    if (flags & HR_ENTRY_TRIAL) return recorded(slot, table, index, flags, state, input, output);
    if ((flags & HR_ENTRY_SAMPLE) && hr_sample_due())
        return sampled(slot, table, index, flags, state, input, output);
    return run(slot, table, index, flags, state, input, output);
}

/* ---- what callers noted ---- */

bool hr_slow_news(void) { return __atomic_load_n(&hr.first_calls, __ATOMIC_ACQUIRE) != 0; }

/* The noted slots of one module (null: fallbacks), so that one event tells them; they are noted no longer. */
static uint32_t take_first_calls(hr_module **module, uint32_t *indices) {
    uint32_t count = 0;
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        if (!__atomic_load_n(&hr.first_call[i], __ATOMIC_RELAXED)) continue;
        if (count && hr.slots[i].module != *module) continue;
        *module = hr.slots[i].module;
        indices[count++] = i;
        __atomic_store_n(&hr.first_call[i], 0, __ATOMIC_RELAXED);
    }
    __atomic_fetch_sub(&hr.first_calls, count, __ATOMIC_RELEASE);
    return count;
}

void hr_slow_forget(uint32_t index) {
    if (__atomic_exchange_n(&hr.first_call[index], 0, __ATOMIC_RELAXED))
        __atomic_fetch_sub(&hr.first_calls, 1, __ATOMIC_RELEASE);
}

void hr_slow_tell(void) {
    if (!hr_slow_news()) return;
    pthread_mutex_lock(&hr.lock);
    uint32_t *indices = calloc(hr.slot_count, sizeof *indices);
    hr_module *module = NULL;
    for (uint32_t count; indices && (count = take_first_calls(&module, indices)) != 0;)
        hr_blackbox_first_calls(module, indices, count);
    free(indices);
    pthread_mutex_unlock(&hr.lock);
}
