/* The dispatch table: one pointer publishes everything.
 *
 * Invariants (I1, I4 of slot.h are the callers' halves):
 *  D1  Entries below a published table's count are immutable, but for those of slots that nobody can call yet.
 *  D2  A commit copies the table, changes all entries of its slots and release-stores one pointer.
 *  D3  An entry is appended in place beyond the count, then the count is release-stored, and only then may a slot carry
 *      its index. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

hr_dispatch_state hr_dispatch __attribute__((aligned(64)));

#define ENTRY_SLOW 1u
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
    free(hr.spare_table);
    hr.spare_table = table;
}

static hr_table *table_copy(uint32_t capacity) {
    const hr_table *old = hr_dispatch.table;
    hr_table *table = table_new(old->count, capacity);
    if (table == NULL) return NULL;
    table->generation = old->generation;
    memcpy(table->entries, old->entries, old->count * sizeof(hr_entry));
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
    table->entries[0] = (hr_entry){hr_unresolved, ENTRY_SLOW};
    hr_dispatch.epoch = 1;
    __atomic_store_n(&hr_dispatch.table, table, __ATOMIC_SEQ_CST);
    return HR_OK;
}

hr_status hr_dispatch_append(uint32_t index) {
    hr_table *table = hr_dispatch.table;
    if (index < table->count) {
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
    table->entries[index] = (hr_entry){hr_unresolved, 0};
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
        table->entries[assignments[i].index] = (hr_entry){assignments[i].function, 0};
    publish(table);
    return HR_OK;
}

/* A slot that was never declared: this first call does it. Another declaration of the same symbol shares its slot. */
static bool declare_late(hr_slot *slot) {
    hr_status status = hr_declare(NULL, slot);
    return status == HR_OK || (status == HR_E_DUPLICATE && hr_slot_share(slot));
}

int32_t hr_call_slow(hr_slot *slot, const hr_table *table, void *state, const void *input, void *output) {
    (void)table; /* only entry 0 has flags: the caller's load of index gave 0, whatever it is by now, and counted so */
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    if (index != 0 || declare_late(slot)) return hr_call(slot, state, input, output);
    return slot->fallback ? slot->fallback(state, input, output) : HR_UNRESOLVED;
}
