/* State that the host registered, and how it gets from one layout into the next.
 *
 * A commit or a roll back that changes the layout of registered state runs in these steps, at a safe point:
 *   plan    pure: which types change, and which functions of which modules change them; refused where one is missing.
 *   run     each object is copied, the function makes the new object in other memory. Nothing has changed yet.
 *   grow    the host makes room where the new object is larger. Until it has, old memory is as it was.
 *   publish the dispatch table is exchanged; then the new objects are copied into place, and the layouts agreed on
 *           (shared.c) become the new ones. Under one hold of hr.lock, in which nothing can fail any more.
 *   shrink  the host may give room back; it may also refuse to.
 *
 * Invariants:
 *   G1  No code of a module or of the host runs while hr.lock is held.
 *   G2  What fails before `publish` leaves state and code as they were: where the host has made room already, the old
 *       object is copied into it.
 *   G3  Code that was compiled for the old layout never runs on the new one: a slot that the commit does not replace,
 *       and that takes a changed type, refuses the commit.
 *   G4  Module code and state that calls are using never meet: without a safe point (a host that swaps immediately, and
 *       a request that comes over its socket) nothing is migrated. A host that calls hr_load or hr_rollback itself has
 *       chosen the moment.
 *   G5  A migration that crashes or hangs is one that fails, where the guard is on (guard.c): it has seen copies only.
 *       Where it is off, it ends the host. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1024u /* objects: a guarded frame for each would take longer than most migrations */

/* ---- registered state ---- */

static hr_state_record **find_state(hr_runtime *runtime, const void *state) {
    hr_state_record **at = &runtime->states;
    while (*at && (*at)->state.state != state) at = &(*at)->next;
    return at;
}

hr_status hr_state_register(hr_runtime *runtime, const hr_state *state) {
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    if (state == NULL || state->state == NULL || state->type == NULL) return HR_E_USAGE;
    hr_state_record *record = calloc(1, sizeof *record);
    if (record == NULL) return HR_E_MEMORY;
    record->state = *state;
    hr_copy_text(record->type, sizeof record->type, hr_layout_plain_name(state->type));
    record->state.type = record->type;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    const hr_layout_v1 *layout = hr_agreed_layout(runtime->agreed);
    const hr_layout_type_v1 *type = layout ? hr_layout_find_type(layout, record->type) : NULL;
    if (type == NULL || type->size == 0 || state->size == 0 || state->size % type->size != 0) status = HR_E_USAGE;
    else if (*find_state(runtime, state->state)) status = HR_E_DUPLICATE;
    if (status == HR_OK) {
        record->next = runtime->states;
        runtime->states = record;
        runtime->state_changes++;
    }
    pthread_mutex_unlock(&hr.lock);
    if (status != HR_OK) free(record);
    return status;
}

void hr_state_unregister(hr_runtime *runtime, const void *state) {
    if (hr_ready() != HR_OK) return;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    hr_state_record **at = find_state(runtime, state), *record = *at;
    if (record) {
        *at = record->next;
        runtime->state_changes++;
    }
    pthread_mutex_unlock(&hr.lock);
    free(record);
}

void hr_states_free(hr_runtime *runtime) {
    for (hr_state_record *record = runtime->states, *next; record; record = next) {
        next = record->next;
        free(record);
    }
    runtime->states = NULL;
}

/* ---- what a type is made of ---- */

/* The description of a type and of what it holds by value, alone; null without memory or without the type. */
static hr_layout_v1 *alone(const hr_layout_v1 *layout, const char *type) {
    const hr_layout_type_v1 *found = layout ? hr_layout_find_type(layout, type) : NULL;
    hr_layout_v1 some = {HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, HR_LAYOUT_STRUCT_SIZE_V1, 1, 0, &found, NULL};
    hr_layout_v1 *result = NULL;
    if (found) hr_layout_merge_two(NULL, &some, NULL, NULL, &result);
    return result;
}

/* Whether a type means exactly the same in both. */
static bool same_type(const hr_layout_v1 *a, const hr_layout_v1 *b, const char *type) {
    hr_layout_v1 *x = alone(a, type), *y = alone(b, type);
    hr_layout_comparison *comparison = NULL;
    bool same = x && y && x->type_count == y->type_count && hr_layout_compare(x, y, &comparison) == HR_OK &&
                comparison->row_count == 0 && comparison->type_count == x->type_count;
    hr_comparison_free(comparison);
    hr_layout_free(x);
    hr_layout_free(y);
    return same;
}

/* Whether code compiled for `code` may work on a type as `memory` has it. */
static bool fits(const hr_layout_v1 *memory, const hr_layout_v1 *code, const char *type) {
    hr_layout_v1 *x = alone(memory, type), *y = alone(code, type);
    hr_layout_comparison *comparison = NULL;
    bool fit = x == NULL || y == NULL || hr_layout_compare(x, y, &comparison) == HR_OK;
    hr_comparison_free(comparison);
    hr_layout_free(x);
    hr_layout_free(y);
    return fit;
}

static bool holds(const hr_layout_v1 *layout, const char *outer, const char *inner) {
    hr_layout_v1 *made = alone(layout, outer);
    bool found = made && hr_layout_find_type(made, inner);
    hr_layout_free(made);
    return found;
}

/* ---- the plan ---- */

void hr_migrations_free(hr_migrations *migrations) {
    for (uint32_t i = 0; i < migrations->count; i++) hr_layout_free(migrations->items[i].to);
    free(migrations->items);
    *migrations = (hr_migrations){0};
}

static const hr_migration *migration_of(const hr_migrations *migrations, const char *type) {
    for (uint32_t i = 0; i < migrations->count; i++)
        if (strcmp(migrations->items[i].type, type) == 0) return &migrations->items[i];
    return NULL;
}

static hr_status add_migration(hr_migrations *migrations, const hr_layout_v1 *now, const hr_layout_v1 *to,
                               const hr_manifest *manifest, const hr_manifest_migration *found) {
    hr_migration *grown = realloc(migrations->items, (migrations->count + 1) * sizeof *grown);
    if (grown == NULL) return HR_E_MEMORY;
    migrations->items = grown;
    hr_migration *item = &grown[migrations->count];
    *item = (hr_migration){.manifest = manifest, .function = found->function, .to = alone(to, found->type)};
    if (item->to == NULL) return HR_E_MEMORY;
    hr_copy_text(item->type, sizeof item->type, found->type);
    item->from_size = hr_layout_find_type(now, found->type)->size;
    const hr_layout_type_v1 *type = hr_layout_find_type(to, found->type);
    item->to_size = type->size;
    item->align = type->align;
    migrations->count++;
    return HR_OK;
}

static bool registered(const hr_runtime *runtime, const char *type) {
    for (const hr_state_record *record = runtime->states; record; record = record->next)
        if (strcmp(record->type, type) == 0) return true;
    return false;
}

/* The module's migration of a type from what is in memory to what `to` describes. */
static const hr_manifest_migration *offered(const hr_manifest *manifest, const hr_layout_v1 *now,
                                            const hr_layout_v1 *to, const char *type) {
    for (uint32_t i = 0; i < manifest->migration_count; i++) {
        const hr_manifest_migration *each = &manifest->migrations[i];
        if (strcmp(each->type, type) == 0 && same_type(now, each->from ? each->from : manifest->layout, type) &&
            same_type(to, each->to ? each->to : manifest->layout, type))
            return each;
    }
    return NULL;
}

/* Whether every way by which code reaches a changed type is through state that is migrated. */
static bool covered_in(const hr_layout_v1 *layout, const hr_migrations *migrations, const char *type) {
    for (uint32_t i = 0; i < layout->entry_count; i++) {
        const hr_layout_entry_v1 *entry = &layout->entries[i];
        const hr_layout_type_v1 *taken[] = {entry->state, entry->input, entry->output};
        for (int k = 0; k < 3; k++)
            if (taken[k] && (k != 0 || !migration_of(migrations, taken[k]->name)) &&
                holds(layout, taken[k]->name, type))
                return false;
    }
    return true;
}

static bool covered(const hr_runtime *runtime, const hr_layout_v1 *now, const hr_layout_v1 *module,
                    const hr_migrations *migrations, const char *type) {
    bool reached = false;
    for (uint32_t i = 0; i < migrations->count; i++)
        reached = reached || holds(now, migrations->items[i].type, type) ||
                  holds(module, migrations->items[i].type, type);
    for (const hr_state_record *record = runtime->states; record; record = record->next)
        if (!migration_of(migrations, record->type) && holds(now, record->type, type)) return false;
    return reached && covered_in(now, migrations, type) && covered_in(module, migrations, type);
}

hr_status hr_migrate_excuse(hr_runtime *runtime, const hr_layout_v1 *now, const hr_manifest *manifest,
                            hr_layout_comparison *comparison, hr_migrations *migrations) {
    hr_status status = HR_OK;
    for (uint32_t i = 0; i < manifest->migration_count && status == HR_OK; i++) {
        const char *type = manifest->migrations[i].type;
        if (migration_of(migrations, type) || !registered(runtime, type) || same_type(now, manifest->layout, type))
            continue;
        const hr_manifest_migration *found = offered(manifest, now, manifest->layout, type);
        if (found) status = add_migration(migrations, now, manifest->layout, manifest, found);
    }
    for (uint32_t i = 0; i < comparison->row_count && migrations->count && status == HR_OK; i++) {
        hr_layout_row *row = &comparison->rows[i];
        if (row->argument || !row->refused || !covered(runtime, now, manifest->layout, migrations, row->type)) continue;
        row->refused = 0;
        row->change |= HR_FIELD_MIGRATED;
    }
    hr_comparison_judge(comparison);
    return status;
}

/* The layouts after all migrations of a plan. */
static bool replaced(void *context, const char *type) {
    const hr_layout_v1 *to = context;
    return hr_layout_find_type(to, type) != NULL;
}

hr_status hr_migrate_next(const hr_layout_v1 *now, const hr_migrations *migrations, hr_layout_v1 **next) {
    hr_layout_v1 *made = NULL;
    hr_status status = HR_OK;
    for (uint32_t i = 0; i < migrations->count && status == HR_OK; i++) {
        hr_layout_v1 *more = NULL;
        hr_layout_merge merge = {replaced, migrations->items[i].to};
        status = hr_layout_merge_two(made ? made : now, migrations->items[i].to, &merge, NULL, &more);
        hr_layout_free(made);
        made = more;
    }
    *next = made;
    return status;
}

/* ---- G3: what else takes the changed types ---- */

hr_status hr_migrate_allowed(hr_failure *failure) {
    if (hr_swap_at_safe_point()) return HR_OK;
    return hr_fail(failure, HR_E_MIGRATE, "a host that swaps while its threads run", "a safe point",
                   "serve with HR_SERVE_SAFE_POINT and call hr_safepoint() where no slot is being called",
                   "state is migrated at a safe point, and this host has none");
}

const hr_layout_v1 **hr_migrate_codes(const hr_runtime *runtime) {
    const hr_layout_v1 **codes = calloc(hr.slot_count, sizeof *codes);
    for (uint32_t i = 1; codes && i < hr.slot_count; i++) {
        const hr_slot_info *slot = &hr.slots[i];
        if (slot->runtime != runtime) continue;
        codes[i] = slot->module ? slot->module->manifest->layout : slot->fallback ? runtime->declared : NULL;
    }
    return codes;
}

static bool takes_changed(const hr_layout_v1 *code, const hr_layout_v1 *next, const char *symbol, const char **type) {
    const hr_layout_entry_v1 *entry = code ? hr_layout_find_entry(code, symbol) : NULL;
    const hr_layout_type_v1 *taken[] = {entry ? entry->state : NULL, entry ? entry->input : NULL,
                                        entry ? entry->output : NULL};
    for (int i = 0; i < 3; i++) {
        *type = taken[i] ? taken[i]->name : "";
        if (taken[i] && !fits(next, code, *type)) return true;
    }
    return false;
}

hr_status hr_migrate_others(const hr_layout_v1 *const *codes, const hr_layout_v1 *next, hr_failure *failure) {
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        const hr_slot_info *slot = &hr.slots[i];
        const char *type;
        if (!takes_changed(codes[i], next, slot->symbol, &type)) continue;
        char found[HR_TEXT_SIZE];
        snprintf(found, sizeof found, "%s runs %s", slot->symbol,
                 slot->module ? slot->module->manifest->name : "the host's fallback");
        return hr_fail(failure, HR_E_MIGRATE, found, "every slot that takes the type replaced in the same step",
                       "implement that slot in the same module, or load its module with this one",
                       "%s still takes %s in its old layout", slot->symbol, type);
    }
    return HR_OK;
}

/* ---- roll back ---- */

/* The migration that a module which is taken back offers for a type, to what the code that returns was compiled for. */
static hr_status plan_back(const hr_layout_v1 *now, const hr_layout_v1 *code, const char *type,
                           const hr_manifest *const *leaving, uint32_t count, hr_migrations *migrations,
                           hr_failure *failure) {
    const hr_migration *planned = migration_of(migrations, type);
    if (planned && same_type(planned->to, code, type)) return HR_OK;
    for (uint32_t i = 0; i < count && planned == NULL; i++) {
        const hr_manifest_migration *found = leaving[i]->layout ? offered(leaving[i], now, code, type) : NULL;
        if (found) return add_migration(migrations, now, code, leaving[i], found);
    }
    char found[HR_TEXT_SIZE];
    snprintf(found, sizeof found, "no HR_MIGRATION of %s to the layout before, in %s", type,
             count ? leaving[0]->name : "any module");
    return hr_fail(failure, HR_E_MIGRATE, found, "a migration in each direction",
                   "load a newer module instead, or add the migration back and build again",
                   "%s has been migrated, and nothing migrates it back", type);
}

hr_status hr_migrate_back(hr_runtime *runtime, const hr_layout_v1 *const *codes, const hr_manifest *const *leaving,
                          uint32_t count, hr_migrations *migrations, hr_failure *failure) {
    const hr_layout_v1 *now = hr_agreed_layout(runtime->agreed);
    hr_status status = HR_OK;
    for (uint32_t i = 1; now && i < hr.slot_count && status == HR_OK; i++) {
        const char *type;
        if (takes_changed(codes[i], now, hr.slots[i].symbol, &type))
            status = plan_back(now, codes[i], type, leaving, count, migrations, failure);
    }
    return status;
}

/* ---- run, grow, put, shrink ---- */

typedef struct hr_move {
    const hr_state_record *record; /* compared under hr.lock only: the host may have unregistered it */
    const hr_migration *migration;
    hr_state state;
    void *old, *new; /* copies */
    uint64_t new_size;
    uint32_t align;
    bool grown;
} hr_move;

struct hr_moves {
    uint32_t count;
    uint64_t state_changes; /* of the runtime, when the list was made */
    hr_move items[];
};

void hr_moves_free(hr_moves *moves) {
    for (uint32_t i = 0; moves && i < moves->count; i++) {
        free(moves->items[i].old);
        free(moves->items[i].new);
    }
    free(moves);
}

static void *aligned_zeros(uint64_t size, uint32_t align) {
    void *made = NULL;
    if (posix_memalign(&made, align < sizeof(void *) ? sizeof(void *) : align, (size_t)size) != 0) return NULL;
    return memset(made, 0, (size_t)size);
}

/* The objects to move, from under hr.lock. */
static hr_moves *list_moves(hr_runtime *runtime, const hr_migrations *migrations) {
    uint32_t count = 0;
    for (hr_state_record *record = runtime->states; record; record = record->next) count++;
    hr_moves *moves = calloc(1, sizeof *moves + count * sizeof moves->items[0]);
    if (moves == NULL) return NULL;
    moves->state_changes = runtime->state_changes;
    for (hr_state_record *record = runtime->states; record; record = record->next) {
        const hr_migration *migration = migration_of(migrations, record->type);
        if (migration == NULL) continue;
        hr_move *move = &moves->items[moves->count++];
        *move = (hr_move){.record = record, .migration = migration, .state = record->state};
        move->align = migration->align;
        move->new_size = record->state.size / migration->from_size * migration->to_size;
    }
    return moves;
}

/* Some of the objects of an array, for one guarded frame. */
typedef struct hr_batch {
    hr_migrate_fn function;
    void *context;
    const char *old;
    char *new;
    uint64_t from_size, to_size;
    uint64_t count;
    int32_t result; /* that of the first one that failed */
} hr_batch;

static void run_batch(void *argument) {
    hr_batch *batch = argument;
    for (uint64_t i = 0; i < batch->count && batch->result == 0; i++)
        batch->result =
            batch->function(batch->context, batch->old + i * batch->from_size, batch->new + i * batch->to_size);
}

static hr_status run_one(hr_move *move, hr_module *module, void *context, hr_failure *failure,
                         hr_migrate_fault *fault) {
    const hr_migration *migration = move->migration;
    uint64_t count = move->state.size / migration->from_size;
    char what[HR_NAME_MAX + 1];
    snprintf(what, sizeof what, "the migration of %.100s", migration->type);
    hr_batch batch = {.function = (hr_migrate_fn)(module->base + (uintptr_t)migration->function), .context = context,
                      .from_size = migration->from_size, .to_size = migration->to_size};
    move->old = aligned_zeros(move->state.size, 64);
    move->new = aligned_zeros(move->new_size, move->align);
    if (move->old == NULL || move->new == NULL) return hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    memcpy(move->old, move->state.state, (size_t)move->state.size);
    for (uint64_t i = 0; i < count; i += BATCH) {
        batch.old = (char *)move->old + i * migration->from_size;
        batch.new = (char *)move->new + i * migration->to_size;
        batch.count = count - i < BATCH ? count - i : BATCH;
        if (!hr_guard_run(module, what, run_batch, &batch, &fault->fault)) {
            fault->module = module;
            fault->fault.kind = HR_FAULT_MIGRATION;
            return fault->fault.signal ? HR_E_CRASH : HR_E_HANG;
        }
        if (batch.result == 0) continue;
        char found[32];
        snprintf(found, sizeof found, "status %d", batch.result);
        return hr_fail(failure, HR_E_MIGRATE, found, "status 0", NULL, "the migration of %s in %s v%llu returned %d",
                       migration->type, migration->manifest->name, (unsigned long long)migration->manifest->version,
                       batch.result);
    }
    /* The copy that the function was given is const, and the object itself is nobody's at a safe point. */
    memcpy(move->old, move->state.state, (size_t)move->state.size);
    return HR_OK;
}

static hr_status grow_one(hr_move *move, hr_failure *failure) {
    if (move->new_size <= move->state.size) return HR_OK;
    void *room = move->state.resize
                     ? move->state.resize(move->state.owner, move->state.state, move->new_size, move->align)
                     : NULL;
    if (room == NULL || (uintptr_t)room % move->align != 0) {
        char found[64];
        snprintf(found, sizeof found, "%s", room ? "memory of another alignment" : "no room");
        move->grown = room != NULL;
        if (room) move->state.state = room;
        return hr_fail(failure, HR_E_MIGRATE, found, "room for the new object",
                       "register the state with a resize function that can give it more room",
                       "the host gave %s no room for %llu bytes (it has %llu)", move->migration->type,
                       (unsigned long long)move->new_size, (unsigned long long)move->state.size);
    }
    move->state.state = room;
    move->grown = true;
    return HR_OK;
}

static hr_status run_moves(hr_moves *moves, hr_resolve_fn resolve, void *context, void *host_state,
                           hr_failure *failure, hr_migrate_fault *fault) {
    hr_status status = HR_OK;
    for (uint32_t i = 0; i < moves->count && status == HR_OK; i++) {
        hr_module *module = resolve(context, moves->items[i].migration->manifest);
        status = run_one(&moves->items[i], module, host_state, failure, fault);
    }
    for (uint32_t i = 0; i < moves->count && status == HR_OK; i++) status = grow_one(&moves->items[i], failure);
    return status;
}

hr_status hr_migrate_run(hr_runtime *runtime, const hr_migrations *migrations, hr_resolve_fn resolve, void *context,
                         hr_failure *failure, hr_migrate_fault *fault, hr_moves **out) {
    *out = NULL;
    pthread_mutex_lock(&hr.lock);
    hr_moves *moves = list_moves(runtime, migrations);
    pthread_mutex_unlock(&hr.lock);
    if (moves == NULL) return hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    *out = moves;
    return run_moves(moves, resolve, context, hr_context(runtime), failure, fault);
}

bool hr_moves_stale(const hr_runtime *runtime, const hr_moves *moves) {
    return moves && moves->state_changes != runtime->state_changes;
}

static void keep_place(hr_runtime *runtime, const hr_move *move, uint64_t size) {
    for (hr_state_record *record = runtime->states; record; record = record->next)
        if (record == move->record) {
            record->state.state = move->state.state;
            record->state.size = size;
        }
}

void hr_moves_put(hr_runtime *runtime, hr_moves *moves) {
    for (uint32_t i = 0; i < moves->count; i++) {
        hr_move *move = &moves->items[i];
        memcpy(move->state.state, move->new, (size_t)move->new_size);
        keep_place(runtime, move, move->new_size);
    }
}

void hr_moves_undo(hr_runtime *runtime, hr_moves *moves) {
    pthread_mutex_lock(&hr.lock);
    for (uint32_t i = 0; moves && i < moves->count; i++) {
        hr_move *move = &moves->items[i];
        if (!move->grown) continue;
        memcpy(move->state.state, move->old, (size_t)move->state.size); /* G2: more room than it needs */
        keep_place(runtime, move, move->state.size);
    }
    pthread_mutex_unlock(&hr.lock);
}

void hr_moves_shrink(hr_runtime *runtime, hr_moves *moves) {
    for (uint32_t i = 0; moves && i < moves->count; i++) {
        hr_move *move = &moves->items[i];
        if (move->new_size >= move->state.size || move->state.resize == NULL) continue;
        void *room = move->state.resize(move->state.owner, move->state.state, move->new_size, move->align);
        if (room == NULL) continue;
        move->state.state = room;
        memcpy(room, move->new, (size_t)move->new_size);
        pthread_mutex_lock(&hr.lock);
        keep_place(runtime, move, move->new_size);
        pthread_mutex_unlock(&hr.lock);
    }
}
