/* The registry: the process's state, runtimes and slots by name. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

hr_global hr = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .capacity = HR_SLOTS_DEFAULT + 1, .box_fd = -1,
    .stage_lock = -1};

/* ---- start and fork ---- */

static void before_fork(void) {
    pthread_mutex_lock(&hr.lock);
    hr_shards_before_fork();
}

static void after_fork(void) { pthread_mutex_unlock(&hr.lock); }

/* H14: the child keeps its slots and what they run, and nothing else of its parent: no socket, no staged files to clean
 * up, counters of its own. */
static void in_child(void) {
    hr.owner = (uint32_t)getpid();
    hr.asymmetric = hr.asymmetric && hr_platform_membarrier_register();
    hr_blackbox_forked();
    hr_shards_forked();
    hr_module_forked();
    hr_guard_forked();
    hr_unload_forked();
    hr_control_forked();
    hr_trial_forked();
    if (hr.stage_lock >= 0) close(hr.stage_lock);
    hr.stage_lock = -1;
    hr.stage_directory[0] = 0;
    hr.spare = 0;
    hr_blackbox_rebuild();
    hr_sample_again();
    pthread_mutex_unlock(&hr.lock);
}

static void at_exit(void) {
    if (hr.owner != (uint32_t)getpid()) return; /* vfork, or a raw fork */
    hr_control_exit();
    hr_stage_cleanup();
    hr_blackbox_remove();
}

/* Zeroed, on a boundary of 64 bytes, never freed. Not aligned_alloc, whose memory would have to be touched to zero it. */
static void *cache_lines(size_t size) {
    char *block = calloc(1, size + 63);
    return block ? block + (64 - (uintptr_t)block % 64) % 64 : NULL;
}

static hr_status initialise(void) {
    hr.slots = cache_lines(hr.capacity * sizeof *hr.slots);
    hr.symbols = calloc(hr.capacity, sizeof *hr.symbols);
    hr.past = calloc((size_t)hr.capacity * HR_HISTORY, sizeof *hr.past);
    hr.free_slots = calloc(hr.capacity, sizeof *hr.free_slots);
    for (hr.map_size = 16; hr.map_size < hr.capacity * 2;) hr.map_size *= 2;
    hr.map = calloc(hr.map_size, sizeof *hr.map);
    if (!hr.slots || !hr.symbols || !hr.past || !hr.free_slots || !hr.map) return HR_E_MEMORY;
    hr.slot_count = 1;
    hr.runtimes = &hr.first;
    hr.owner = (uint32_t)getpid();
    hr.asymmetric = hr_platform_membarrier_register();
    hr_options_init();
    hr_status status = hr_blackbox_create();
    if (status == HR_OK) status = hr_slow_init();
    if (status == HR_OK) status = hr_shards_init();
    if (status == HR_OK) status = hr_dispatch_init();
    if (status != HR_OK) return status;
    pthread_atfork(before_fork, after_fork, in_child);
    atexit(at_exit);
    __atomic_store_n(&hr.ready, true, __ATOMIC_RELEASE);
    return HR_OK;
}

static void initialise_once(void) { hr.init_status = initialise(); }

hr_status hr_ready(void) {
    pthread_once(&hr.once, initialise_once);
    return (hr_status)hr.init_status;
}

hr_status hr_configure(uint32_t slots) {
    if (slots > HR_SLOTS_MAX || __atomic_load_n(&hr.ready, __ATOMIC_ACQUIRE)) return HR_E_USAGE;
    if (slots != 0) hr.capacity = slots + 1; /* index 0 is no slot */
    return HR_OK;
}

/* ---- names ---- */

bool hr_name_valid(const char *name) {
    return name != NULL && *name != 0 && strnlen(name, HR_NAME_MAX + 1) <= HR_NAME_MAX && hr_text_valid(name);
}

/* ---- the map from (runtime, symbol) to index ---- */

static uint32_t hash(const hr_runtime *runtime, const char *symbol) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ runtime->number;
    for (; *symbol; symbol++) h = (h ^ (unsigned char)*symbol) * 0x100000001B3u;
    return (uint32_t)(h ^ (h >> 32));
}

/* The place of the symbol, or the empty one where it belongs. */
static uint32_t *place(const hr_runtime *runtime, const char *symbol) {
    uint32_t mask = hr.map_size - 1;
    for (uint32_t at = hash(runtime, symbol) & mask;; at = (at + 1) & mask) {
        uint32_t index = hr.map[at];
        if (index == 0) return &hr.map[at];
        if (hr.slots[index].runtime == runtime && strcmp(hr.slots[index].symbol, symbol) == 0) return &hr.map[at];
    }
}

static void map_rebuild(void) {
    memset(hr.map, 0, hr.map_size * sizeof *hr.map);
    for (uint32_t i = 1; i < hr.slot_count; i++)
        if (hr.slots[i].runtime) *place(hr.slots[i].runtime, hr.slots[i].symbol) = i;
}

uint32_t hr_slot_lookup(const hr_runtime *runtime, const char *symbol) { return *place(runtime, symbol); }

uint32_t hr_slot_room(void) { return hr.capacity - hr.slot_count + hr.free_count - hr.reserved_slots; }

/* Its past needs no clearing: past_count is what there is of it. */
static hr_slot_info *clear(uint32_t index) {
    hr_slot_info *slot = &hr.slots[index];
    memset(slot, 0, sizeof *slot);
    memset(hr.symbols[index], 0, sizeof hr.symbols[index]);
    slot->symbol = hr.symbols[index];
    return slot;
}

hr_status hr_slot_create(hr_runtime *runtime, const char *symbol, uint32_t *index) {
    uint32_t chosen = hr.free_count ? hr.free_slots[hr.free_count - 1] : hr.slot_count;
    if (chosen >= hr.capacity) return HR_E_LIMIT;
    hr_status status = hr_dispatch_append(chosen);
    if (status != HR_OK) return status;
    if (hr.free_count) hr.free_count--;
    else hr.slot_count++;
    hr_slot_info *slot = clear(chosen);
    hr_copy_text(slot->symbol, HR_NAME_MAX + 1, symbol);
    slot->runtime = runtime;
    slot->born = (uint32_t)hr_dispatch.table->generation;
    slot->function = hr_unresolved;
    hr_sample_slot(chosen);
    *place(runtime, symbol) = chosen;
    hr.names++;
    *index = chosen;
    return HR_OK;
}

/* ---- runtimes ---- */

hr_runtime *hr_runtime_or_default(hr_runtime *runtime) { return runtime ? runtime : &hr.first; }

hr_status hr_runtime_new(hr_runtime **runtime) {
    *runtime = NULL;
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    hr_runtime *made = calloc(1, sizeof *made);
    if (made == NULL) return HR_E_MEMORY;
    pthread_mutex_lock(&hr.lock);
    made->number = ++hr.runtime_numbers;
    made->next = hr.runtimes;
    hr.runtimes = made;
    pthread_mutex_unlock(&hr.lock);
    *runtime = made;
    return HR_OK;
}

static void free_slot(uint32_t index) {
    if (hr.slots[index].module) hr.slots[index].module->uses--;
    clear(index);
    hr_guard_forget(index);
    hr_slow_forget(index);
    hr.names++;
    hr.free_slots[hr.free_count++] = index;
    hr_blackbox_free_slot(index);
}

static void unlink_runtime(hr_runtime *runtime) {
    hr_runtime **link = &hr.runtimes;
    while (*link != runtime) link = &(*link)->next;
    *link = runtime->next;
}

void hr_runtime_free(hr_runtime *runtime) {
    if (runtime == NULL || runtime == &hr.first) return;
    if (hr_served() == runtime) hr_stop();
    pthread_mutex_lock(&hr.lock);
    hr_assignment *assignments = calloc(hr.slot_count, sizeof *assignments);
    uint32_t count = 0;
    for (uint32_t i = 1; assignments && i < hr.slot_count; i++)
        if (hr.slots[i].runtime == runtime) assignments[count++] = (hr_assignment){i, hr_unresolved, NULL, 0};
    /* Without memory the slots stay taken: a leak, never a call into something else. */
    if (assignments && hr_dispatch_publish(assignments, count) == HR_OK) {
        hr_blackbox_begin();
        for (uint32_t i = 0; i < count; i++) free_slot(assignments[i].index);
        map_rebuild();
        hr_blackbox_end();
        hr_reclaim_advance();
        hr_reclaim_tables();
    }
    free(assignments);
    hr_module_orphan(runtime);
    unlink_runtime(runtime);
    hr_shared_free(runtime);
    pthread_mutex_unlock(&hr.lock);
    free(runtime->quarantine);
    free(runtime);
    if (hr_module_waiting()) hr_control_wake(); /* its modules' on_unload */
}

void hr_set_context(hr_runtime *runtime, void *host_state) {
    __atomic_store_n(&hr_runtime_or_default(runtime)->context, host_state, __ATOMIC_RELEASE);
}

void *hr_context(hr_runtime *runtime) {
    return __atomic_load_n(&hr_runtime_or_default(runtime)->context, __ATOMIC_ACQUIRE);
}

uint64_t hr_generation(hr_runtime *runtime) {
    return __atomic_load_n(&hr_runtime_or_default(runtime)->generation, __ATOMIC_ACQUIRE);
}

/* ---- slots ---- */

static hr_status give_fallback(uint32_t index, hr_patch_fn fallback, bool fresh) {
    hr_slot_info *slot = &hr.slots[index];
    hr_patch_fn function = fallback ? fallback : hr_unresolved;
    if (slot->module == NULL && fresh) hr_dispatch_set_unused(index, function);
    if (slot->module == NULL && !fresh) { /* a module created it and was rolled back: callers may have it */
        hr_status status = hr_dispatch_publish(&(hr_assignment){index, function, NULL, 0}, 1);
        if (status != HR_OK) return status;
        hr_reclaim_advance();
        hr_reclaim_tables();
    }
    slot->declared = true;
    slot->fallback = fallback;
    if (slot->module == NULL) slot->function = function; /* else the fallback is what a roll back returns to */
    return HR_OK;
}

hr_status hr_declare(hr_runtime *runtime, hr_slot *slot) {
    if (!hr_name_valid(slot->symbol)) return HR_E_USAGE;
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    uint32_t index = hr_slot_lookup(runtime, slot->symbol);
    bool fresh = index == 0;
    if (fresh) status = hr_slot_room() ? hr_slot_create(runtime, slot->symbol, &index) : HR_E_LIMIT;
    else if (hr.slots[index].declared) status = HR_E_DUPLICATE;
    if (status == HR_OK) status = give_fallback(index, slot->fallback, fresh);
    if (status == HR_OK) {
        hr_blackbox_begin();
        hr_blackbox_slot(index);
        hr_blackbox_end();
        __atomic_store_n(&slot->born, hr.slots[index].born, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->index, index, __ATOMIC_RELEASE); /* partner: the callers' load of index (I4) */
    }
    pthread_mutex_unlock(&hr.lock);
    return status;
}

/* Writes the index alone: other threads may be calling, and so reading, this very handle. */
bool hr_slot_share(hr_slot *slot) {
    pthread_mutex_lock(&hr.lock);
    uint32_t index = hr_slot_lookup(&hr.first, slot->symbol);
    if (index) {
        __atomic_store_n(&slot->born, hr.slots[index].born, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->index, index, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&hr.lock);
    return index != 0;
}

hr_status hr_find(hr_runtime *runtime, const char *symbol, hr_slot *slot) {
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    if (!hr_name_valid(symbol)) return HR_E_NO_SLOT;
    pthread_mutex_lock(&hr.lock);
    uint32_t index = hr_slot_lookup(hr_runtime_or_default(runtime), symbol);
    if (index == 0) status = HR_E_NO_SLOT;
    else {
        slot->symbol = hr.slots[index].symbol;
        slot->fallback = hr.slots[index].fallback;
        __atomic_store_n(&slot->born, hr.slots[index].born, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->index, index, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&hr.lock);
    return status;
}

/* ---- lists: copied under the lock, visited without it, so that a visitor may call anything ---- */

typedef struct hr_named {
    char name[HR_NAME_MAX + 1];
    uint64_t version;
} hr_named;

static int by_name(const void *a, const void *b) {
    return strcmp(((const hr_named *)a)->name, ((const hr_named *)b)->name);
}

static void visit_all(hr_named *list, uint32_t count, void (*visit)(void *, const char *, uint64_t), void *data) {
    for (uint32_t i = 0; i < count; i++) visit(data, list[i].name, list[i].version);
    free(list);
}

void hr_each_symbol(hr_runtime *runtime, void (*visit)(void *data, const char *symbol, uint64_t version), void *data) {
    if (hr_ready() != HR_OK) return;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    hr_named *list = calloc(hr.slot_count, sizeof *list);
    uint32_t count = 0;
    for (uint32_t i = 1; list && i < hr.slot_count; i++) {
        if (hr.slots[i].runtime != runtime) continue;
        memcpy(list[count].name, hr.slots[i].symbol, sizeof list[count].name);
        list[count++].version = hr.slots[i].version;
    }
    pthread_mutex_unlock(&hr.lock);
    if (count) qsort(list, count, sizeof *list, by_name);
    visit_all(list, count, visit, data);
}

void hr_each_module(hr_runtime *runtime, void (*visit)(void *data, const char *name, uint64_t version), void *data) {
    if (hr_ready() != HR_OK) return;
    runtime = hr_runtime_or_default(runtime);
    pthread_mutex_lock(&hr.lock);
    uint32_t total = 0, at = 0;
    for (hr_module *module = hr.modules; module; module = module->next)
        total += module->runtime == runtime && module->generation;
    hr_named *list = calloc(total ? total : 1, sizeof *list);
    at = total; /* the list of modules is newest first */
    for (hr_module *module = hr.modules; list && module; module = module->next) {
        if (module->runtime != runtime || module->generation == 0) continue;
        hr_copy_text(list[--at].name, sizeof list[at].name, module->manifest->name);
        list[at].version = module->manifest->version;
    }
    pthread_mutex_unlock(&hr.lock);
    visit_all(list, list ? total : 0, visit, data);
}
