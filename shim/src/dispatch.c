/* The dispatch table: one pointer publishes everything.
 *
 * Invariants (I1, I4 of slot.h are the callers' halves):
 *  D1  Entries below a published table's count are immutable, but for those of slots that nobody can call yet, and for
 *      flags, which an entry of a published table can only lose: a first call that has been told, a probation that has
 *      ended. Who copies a table meanwhile may copy a flag that is gone a moment later; it costs a slow call, which
 *      drops it again. The version above the flags tells the slow path which implementation the entry is about.
 *  D2  A commit copies the table, changes all entries of its slots and release-stores one pointer.
 *  D3  An entry is appended in place beyond the count, then the count is release-stored, and only then may a slot carry
 *      its index. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

hr_dispatch_state hr_dispatch __attribute__((aligned(64)));

#define TABLE_LEAST 64u

int32_t hr_unresolved(void *state, const void *input, void *output) {
    (void)state;
    (void)input;
    (void)output;
    return HR_UNRESOLVED;
}

static hr_table *table_new(uint32_t count, uint32_t capacity) {
    hr_table *table = hr.spare_table;
    hr.spare_table = NULL;
    if (table && table->capacity < capacity) {
        free(table);
        table = NULL;
    }
    if (table == NULL) table = malloc(offsetof(hr_table, entries) + (size_t)capacity * sizeof(hr_entry));
    if (table == NULL) return NULL;
    table->generation = 0;
    table->count = count;
    table->capacity = capacity;
    table->next = NULL;
    table->retired_at = 0;
    return table;
}

void hr_dispatch_free(hr_table *table) {
    if (hr.spare_table) /* freed memory is scanned too (unload.c): it must not seem to point into a module */
        explicit_bzero(hr.spare_table->entries, hr.spare_table->capacity * sizeof(hr_entry));
    free(hr.spare_table);
    hr.spare_table = table;
}

static hr_table *table_copy(uint32_t capacity) {
    const hr_table *old = hr_dispatch.table;
    hr_table *table = table_new(old->count, capacity);
    if (table == NULL) return NULL;
    table->generation = old->generation;
    for (uint32_t i = 0; i < old->count; i++)
        table->entries[i] =
            (hr_entry){old->entries[i].function, __atomic_load_n(&old->entries[i].flags, __ATOMIC_RELAXED)};
    return table;
}

static void publish(hr_table *table) {
    hr_table *old = hr_dispatch.table;
    __atomic_store_n(&hr_dispatch.table, table, __ATOMIC_SEQ_CST); /* partner: every caller's load of the table (I1) */
    hr_reclaim_table(old);
}

hr_status hr_dispatch_init(void) {
    hr_table *table = table_new(1, TABLE_LEAST);
    if (table == NULL) return HR_E_MEMORY;
    table->entries[0] = (hr_entry){hr_unresolved, HR_ENTRY_UNDECLARED};
    hr_dispatch.epoch = 1;
    __atomic_store_n(&hr_dispatch.table, table, __ATOMIC_SEQ_CST);
    return HR_OK;
}

hr_status hr_dispatch_append(uint32_t index) {
    hr_table *table = hr_dispatch.table;
    if (index < table->count) { /* of a slot that was freed: the version that its flags tell is another's */
        __atomic_store_n(&table->entries[index].flags, hr_slow_flags(&(hr_assignment){.index = index}),
                         __ATOMIC_RELAXED);
        hr_dispatch_set_unused(index, hr_unresolved);
        return HR_OK;
    }
    if (index >= table->capacity) {
        table = table_copy(table->capacity * 2 > index ? table->capacity * 2 : index + 1);
        if (table == NULL) return HR_E_MEMORY;
        table->generation++;
        publish(table);
        hr_reclaim_advance();
        hr_reclaim_tables();
    }
    table->entries[index] = (hr_entry){hr_unresolved, hr_slow_flags(&(hr_assignment){.index = index})};
    __atomic_store_n(&table->count, index + 1, __ATOMIC_RELEASE); /* partner: hr_frame_call's load of count */
    return HR_OK;
}

void hr_dispatch_set_unused(uint32_t index, hr_patch_fn function) {
    hr_entry *entry = &hr_dispatch.table->entries[index];
    __atomic_store_n(&entry->function, function, __ATOMIC_RELEASE);
}

hr_status hr_dispatch_publish(const hr_assignment *assignments, uint32_t count) {
    hr_table *table = table_copy(hr_dispatch.table->capacity);
    if (table == NULL) return HR_E_MEMORY;
    table->generation++;
    for (uint32_t i = 0; i < count; i++)
        table->entries[assignments[i].index] = (hr_entry){assignments[i].function, hr_slow_flags(&assignments[i])};
    publish(table);
    return HR_OK;
}

hr_status hr_dispatch_flag(const uint32_t *indices, uint32_t count, uint64_t flag) {
    hr_table *table = table_copy(hr_dispatch.table->capacity);
    if (table == NULL) return HR_E_MEMORY;
    table->generation++;
    for (uint32_t i = 0; i < count; i++)
        table->entries[indices[i]].flags |= flag | hr.slots[indices[i]].version << HR_ENTRY_VERSION;
    publish(table);
    return HR_OK;
}

hr_status hr_dispatch_flag_all(uint64_t flag, bool on) {
    hr_table *table = table_copy(hr_dispatch.table->capacity);
    if (table == NULL) return HR_E_MEMORY;
    table->generation++;
    for (uint32_t i = 1; i < table->count; i++) {
        uint64_t flags = table->entries[i].flags & ~flag;
        if (on) flags |= flag | hr.slots[i].version << HR_ENTRY_VERSION;
        else if ((flags & HR_ENTRY_FLAGS) == 0) flags = 0;
        table->entries[i].flags = flags;
    }
    publish(table);
    return HR_OK;
}

uint64_t hr_dispatch_drop(const hr_table *table, uint32_t index, uint64_t flags) {
    const hr_entry *entry = &table->entries[index];
    uint64_t *word = (uint64_t *)(uintptr_t)&entry->flags; /* callers hold tables as what they do not write */
    uint64_t before = __atomic_load_n(word, __ATOMIC_RELAXED), after;
    do {
        after = before & ~flags;
        if ((after & HR_ENTRY_FLAGS) == 0) after = 0;
    } while (!__atomic_compare_exchange_n(word, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
