/* Sampled call times: one call in some is timed, into a histogram of its slot's version in the black box.
 *
 * Invariants:
 *  T1  A slot has two banks; version v counts in bank v % 2, so that the version before stays readable beside the new
 *      one. A commit gives the bank of the version before last to the new one, under hr.lock.
 *  T2  A caller adds to a bucket only where the bank is its version's. Who looked just before the bank changed hands
 *      adds one sample too many to the new version: no barrier would be worth that.
 *  T3  Which call is timed is counted by each thread for itself, in its shard: nothing is shared between callers that are not timed. */
#include "internal.h"

#include <string.h>

#define CALIBRATIONS 64

/* What taking the time twice costs by itself, nanoseconds: the least of some tries. Subtracted from every sample. */
static uint64_t clock_cost(void) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < CALIBRATIONS; i++) {
        uint64_t before = hr_monotonic_ns(), spent = hr_monotonic_ns() - before;
        if (spent < least) least = spent;
    }
    return least;
}

/* Exact up to 8 ns, then eight buckets for each doubling: a bucket is at most an eighth wider than its lower bound. */
static uint32_t bucket_of(uint64_t ns) {
    if (ns < 8) return (uint32_t)ns;
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(ns);
    uint64_t bucket = (uint64_t)(exponent - 2) * 8 + ((ns >> (exponent - 3)) & 7);
    return bucket < HR_TIMES_BUCKETS ? (uint32_t)bucket : HR_TIMES_BUCKETS - 1;
}

static void clear(hr_box_times *bank, uint64_t version) {
    __atomic_store_n(&bank->version, UINT64_MAX, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < HR_TIMES_BUCKETS; i++) __atomic_store_n(&bank->buckets[i], 0, __ATOMIC_RELAXED);
    __atomic_store_n(&bank->version, version, __ATOMIC_RELEASE);
}

/* Where sampling is off the banks are left as they are: a commit of thousands of slots would write megabytes. */
void hr_sample_version(uint32_t index, uint64_t version) {
    if (hr.box->sample_every) clear(hr_blackbox_times(index, version), version);
}

static void begin(uint32_t every) {
    if (!hr.clock_cost) hr.clock_cost = clock_cost();
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        uint64_t version = hr.slots[i].version;
        clear(hr_blackbox_times(i, version), version);
        clear(hr_blackbox_times(i, version + 1), UINT64_MAX);
    }
    __atomic_store_n(&hr.box->sample_every, every, __ATOMIC_RELAXED);
}

/* A slot of an index that another one may have had. */
void hr_sample_slot(uint32_t index) {
    hr_sample_version(index, 0);
    if (hr.box->sample_every) clear(hr_blackbox_times(index, 1), UINT64_MAX);
}

/* The block was replaced, the table's flags were not. */
void hr_sample_again(void) {
    if (hr.options.flags & HR_OPTION_SAMPLE) begin(hr.options.sample_every);
}

/* Every entry's flag changes at once, by a table of its own: a published entry can only lose flags (D1). */
hr_status hr_sample_switch(uint32_t every) {
    if (every == hr.box->sample_every) return HR_OK;
    bool was_on = hr.box->sample_every != 0;
    if (every && !was_on) begin(every);
    if ((every != 0) != was_on) {
        hr_status status = hr_dispatch_flag_all(HR_ENTRY_SAMPLE, every != 0);
        if (status != HR_OK) {
            __atomic_store_n(&hr.box->sample_every, 0, __ATOMIC_RELAXED);
            return status;
        }
        hr_reclaim_advance();
        hr_reclaim_tables();
    }
    __atomic_store_n(&hr.box->sample_every, every, __ATOMIC_RELAXED);
    return HR_OK;
}

/* The inline path counts down by itself, and comes here for the call whose turn it is. */
bool hr_sample_due(void) {
    uint32_t every = __atomic_load_n(&hr.box->sample_every, __ATOMIC_RELAXED);
    hr_shard *shard = hr_shards_own();
    if (shard == NULL || every == 0) return false;
    if (shard->countdown != 0) {
        shard->countdown--;
        return false;
    }
    shard->countdown = every - 1;
    return true;
}

void hr_sample_note(uint32_t index, uint64_t version, uint64_t ns) {
    hr_box_times *bank = hr_blackbox_times(index, version);
    if (__atomic_load_n(&bank->version, __ATOMIC_ACQUIRE) != version) return;
    ns = ns > hr.clock_cost ? ns - hr.clock_cost : 0;
    __atomic_fetch_add(&bank->buckets[bucket_of(ns)], 1, __ATOMIC_RELAXED);
}
