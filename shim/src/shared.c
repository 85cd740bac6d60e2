/* What a runtime's host and modules share: the layouts declared, what they have become, and the check of step 3.
 *
 * Invariants:
 *   S1  hr_runtime.agreed describes the shared memory as it is now: what the host declared, with every growth into a
 *       reserve and every migration that a commit brought. A module is compared with that, not with what the host was
 *       compiled with: room that one version took, another cannot take for something else.
 *   S2  It changes under hr.lock, in the commit of the module that changes it, and never in place: who has taken it
 *       (hr_agreed_take) may read it without the lock. */
#include "internal.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

struct hr_agreed {
    uint32_t users; /* under hr.lock */
    hr_layout_v1 *layout;
};

/* ---- what has been agreed on ---- */

static hr_agreed *agreed_new(hr_layout_v1 *layout) {
    hr_agreed *agreed = malloc(sizeof *agreed);
    if (agreed) *agreed = (hr_agreed){1, layout};
    return agreed;
}

static void agreed_release(hr_agreed *agreed) {
    if (agreed == NULL || --agreed->users) return;
    hr_layout_free(agreed->layout);
    free(agreed);
}

hr_agreed *hr_agreed_take(const hr_runtime *runtime) {
    pthread_mutex_lock(&hr.lock);
    hr_agreed *agreed = runtime->agreed;
    if (agreed) agreed->users++;
    pthread_mutex_unlock(&hr.lock);
    return agreed;
}

void hr_agreed_drop(hr_agreed *agreed) {
    pthread_mutex_lock(&hr.lock);
    agreed_release(agreed);
    pthread_mutex_unlock(&hr.lock);
}

const hr_layout_v1 *hr_agreed_layout(const hr_agreed *agreed) { return agreed ? agreed->layout : NULL; }

/* Takes the layout over; under hr.lock. */
static hr_status agree_on(hr_runtime *runtime, hr_layout_v1 *layout) {
    hr_agreed *agreed = agreed_new(layout);
    if (agreed == NULL) return HR_E_MEMORY;
    agreed_release(runtime->agreed);
    runtime->agreed = agreed;
    return HR_OK;
}

void hr_shared_free(hr_runtime *runtime) {
    hr_states_free(runtime);
    agreed_release(runtime->agreed);
    runtime->agreed = NULL;
    hr_layout_free(runtime->declared);
    runtime->declared = NULL;
}

/* ---- declaring ---- */

static bool never(void *context, const char *type) {
    (void)context;
    (void)type;
    return false;
}

hr_status hr_declare_layout(hr_runtime *runtime, const hr_layout_v1 *layout, hr_failure *failure) {
    hr_layout_v1 *declared = NULL, *now = NULL;
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    status = hr_layout_merge_two(runtime->declared, layout, NULL, failure, &declared);
    if (status == HR_OK) {
        hr_layout_merge growth = {never, NULL};
        status = hr_layout_merge_two(hr_agreed_layout(runtime->agreed), declared, &growth, failure, &now);
    }
    if (status == HR_OK) status = agree_on(runtime, now);
    if (status == HR_OK) {
        hr_layout_free(runtime->declared);
        runtime->declared = declared;
        hr_blackbox_begin();
        for (uint32_t i = 1; i < hr.slot_count; i++)
            if (hr.slots[i].runtime == runtime) hr_blackbox_slot(i);
        hr_blackbox_end();
    } else {
        hr_layout_free(declared);
        hr_layout_free(now);
    }
    pthread_mutex_unlock(&hr.lock);
    return status;
}

/* ---- step 3: the check ---- */

/* The module's types that have grown into the host's reserve. */
static hr_status grow_into(const hr_layout_v1 *host, const hr_layout_v1 *module, const hr_layout_comparison *comparison,
                           hr_failure *failure, hr_layout_v1 **grown) {
    uint32_t count = 0;
    const hr_layout_type_v1 **types = malloc((module->type_count + 1) * sizeof *types);
    if (types == NULL) return HR_E_MEMORY;
    for (uint32_t i = 0; i < comparison->row_count; i++) {
        const hr_layout_row *row = &comparison->rows[i];
        const hr_layout_type_v1 *type = row->argument ? NULL : hr_layout_find_type(module, row->type);
        bool added = type && *row->field && (row->change & HR_FIELD_ADDED) && type->kind == HR_TYPE_STRUCT;
        if (added && (count == 0 || types[count - 1] != type)) types[count++] = type;
    }
    hr_status status = HR_OK;
    if (count) { /* what their fields refer to comes with them */
        hr_layout_v1 some = {HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, HR_LAYOUT_STRUCT_SIZE_V1, count, 0, types, NULL};
        hr_layout_merge growth = {never, NULL};
        status = hr_layout_merge_two(host, &some, &growth, failure, grown);
    }
    free(types);
    return status;
}

/* Differences that a migration of the module takes care of are none. */
static hr_status excuse(hr_runtime *runtime, hr_shared *shared, const hr_layout_v1 *host, const hr_manifest *manifest,
                        hr_layout_comparison *comparison) {
    if (!shared->locked) pthread_mutex_lock(&hr.lock); /* the registered state */
    hr_status status = hr_migrate_excuse(runtime, host, manifest, comparison, &shared->migrations);
    if (!shared->locked) pthread_mutex_unlock(&hr.lock);
    return status == HR_OK ? (hr_status)comparison->status : status;
}

/* *next: what `host` becomes when the module is committed, or null where it stays as it is. */
static hr_status check(hr_runtime *runtime, hr_shared *shared, const hr_layout_v1 *host, const hr_manifest *manifest,
                       hr_failure *failure, hr_layout_v1 **next) {
    hr_layout_comparison *comparison;
    uint32_t migrations = shared->migrations.count;
    hr_status status = hr_layout_compare(host, manifest->layout, &comparison);
    if (status == HR_E_LAYOUT && manifest->migration_count)
        status = excuse(runtime, shared, host, manifest, comparison);
    if (status == HR_E_LAYOUT) hr_layout_explain(comparison, host, failure);
    if (status == HR_OK) status = grow_into(host, manifest->layout, comparison, failure, next);
    if (status == HR_OK && shared->migrations.count != migrations) {
        hr_layout_v1 *grown = *next;
        status = hr_migrate_next(grown ? grown : host, &shared->migrations, next);
        hr_layout_free(grown);
    }
    hr_comparison_free(comparison);
    if (status == HR_E_MEMORY) hr_fail(failure, status, NULL, NULL, NULL, "out of memory");
    return status;
}

/* ---- one transaction's view ---- */

void hr_shared_begin(hr_runtime *runtime, hr_shared *shared) {
    *shared = (hr_shared){.base = hr_agreed_take(runtime)};
}

hr_status hr_shared_add(hr_runtime *runtime, hr_shared *shared, const hr_manifest *manifest, hr_failure *failure) {
    hr_layout_v1 *next = NULL;
    const hr_layout_v1 *now = shared->next ? shared->next : hr_agreed_layout(shared->base);
    if (now == NULL || manifest->layout == NULL) return HR_OK; /* not described: not checked */
    hr_status status = check(runtime, shared, now, manifest, failure, &next);
    if (next == NULL) return status;
    hr_layout_free(shared->next);
    shared->next = next;
    return status;
}

bool hr_shared_stale(const hr_runtime *runtime, const hr_shared *shared) { return runtime->agreed != shared->base; }

/* Starts anew from what is agreed on now; under hr.lock. */
void hr_shared_restart(hr_runtime *runtime, hr_shared *shared) {
    hr_layout_free(shared->next);
    hr_migrations_free(&shared->migrations);
    agreed_release(shared->base);
    *shared = (hr_shared){.base = runtime->agreed, .made = shared->made, .locked = true};
    if (shared->base) shared->base->users++;
}

/* All that the commit needs: when the table has been published, nothing can fail any more. */
hr_status hr_shared_reserve(hr_shared *shared) {
    if (shared->next == NULL || shared->made) return HR_OK;
    shared->made = agreed_new(NULL);
    return shared->made ? HR_OK : HR_E_MEMORY;
}

/* Under hr.lock, in the commit. */
void hr_shared_commit(hr_runtime *runtime, hr_shared *shared) {
    if (shared->next == NULL) return;
    shared->made->layout = shared->next;
    agreed_release(runtime->agreed);
    runtime->agreed = shared->made;
    runtime->migrated = runtime->migrated || shared->migrations.count;
    shared->made = NULL;
    shared->next = NULL;
}

void hr_shared_end(hr_shared *shared) {
    hr_layout_free(shared->next);
    hr_migrations_free(&shared->migrations);
    free(shared->made);
    hr_agreed_drop(shared->base);
    *shared = (hr_shared){0};
}

/* ---- step 6: in memory ---- */

/* The readable segments of a module that is mapped at `base`; `bytes` have passed preflight. */
static uint32_t mapped_ranges(const uint8_t *bytes, uintptr_t base, hr_layout_range *ranges, uint32_t room) {
    Elf64_Ehdr header;
    uint32_t count = 0;
    memcpy(&header, bytes, sizeof header);
    for (uint32_t i = 0; i < header.e_phnum && count < room; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, bytes + header.e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_R)) continue;
        uint64_t start = base + segment.p_vaddr;
        ranges[count++] = (hr_layout_range){start, start + segment.p_memsz};
    }
    return count;
}

bool hr_shared_in_memory(const hr_manifest *manifest, const uint8_t *bytes, uintptr_t base) {
    if (manifest->layout == NULL) return true;
    hr_layout_range ranges[32];
    hr_layout_memory memory = {NULL, ranges, mapped_ranges(bytes, base, ranges, 32)};
    hr_layout_reader reader = hr_layout_memory_reader(&memory);
    hr_layout_v1 *layout;
    bool same = hr_layout_read(&reader, base + manifest->layout_address, HR_E_MANIFEST, NULL, &layout) == HR_OK &&
                hr_layout_equal(layout, manifest->layout);
    hr_layout_free(layout);
    return same;
}
