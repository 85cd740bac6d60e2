/* Unloading: whether a module that backs no slot may be unmapped, and doing it (off unless somebody asks for it).
 *
 * Invariants:
 *  U1  A module is unmapped only after: its grace period, its on_unload, and a scan that found nothing pointing into it.
 *      Whatever the scan could not look at counts as pointing.
 *  U2  What a roll back would commit again stays mapped. A module that is older is struck from the slots' history before
 *      it is scanned, in the same hold of hr.lock that picks it: from then on nothing can bring it back.
 *  U3  No destructor of a module runs while hr.lock is held (M2). It is taken off the list of modules before dlclose, so
 *      nobody can find it meanwhile.
 *  U4  dlclose may do nothing, and may do it later, at somebody else's dlclose: whoever is still there afterwards is
 *      opened again, so that nothing but this file ever unmaps it.
 *  U6  The addresses of an unloaded module are never used again: what is left of it in freed memory, of the loader's for
 *      instance, would seem to point into the next one, and a pointer that no scan can see would find other code there.
 *  U7  What the guard has noted of its probation is taken away first, with a grace period of its own: guarded calls of
 *      other modules walk past those notes.
 *  U5  Scans run in the control thread; in a host without it, where the host polls or has its safe point. Never in a
 *      caller. One at a time. */
#include "scan.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

/* A pointer may be left over in a stack or a register and gone a moment later; what is found time and again is meant. */
#define TRIES 12
#define FIRST_DELAY_NS 20000000ull
#define NO_MEMORY_NS 500000000ull

static struct {
    pthread_mutex_t one; /* U5 */
    uint64_t due;        /* atomic; CLOCK_MONOTONIC ns of the next look, 0: there is nothing to look at */
    bool asked;          /* atomic: by some module for itself */
    bool filled;         /* the black box's rings are in memory; under `one` */
    uint64_t mark;       /* the newest walk over the slots; under hr.lock */
} unload = {.one = PTHREAD_MUTEX_INITIALIZER};

bool hr_unload_waiting(void) { return __atomic_load_n(&unload.due, __ATOMIC_ACQUIRE) != 0; }

/* ---- who may go ---- */

/* HR_MODULE_UNLOAD in the module's source says more about it than the process's option. */
static bool wanted(const hr_module *module) {
    if (module->unload == HR_MODULE_UNLOADS) return true;
    return module->unload == HR_MODULE_SAYS_NOTHING && hr_option(HR_OPTION_UNLOAD);
}

void hr_unload_read(hr_module *module) {
    if (module->manifest->unload == 0) return;
    module->unload = module->manifest->unload == 1 + HR_UNLOAD_QUIESCENT ? HR_MODULE_UNLOADS : HR_MODULE_STAYS;
    if (module->unload == HR_MODULE_UNLOADS) __atomic_store_n(&unload.asked, true, __ATOMIC_RELEASE);
}

/* The newest of the slot's past that is a module, or the fallback before it: null. `back` 1: the newest. */
static hr_past *past_at(const hr_slot_info *slot, uint32_t back) {
    return hr_past_place(slot, (slot->past_next + HR_HISTORY - back) % HR_HISTORY);
}

/* The module that a roll back of the slot would commit again; null: none, or the fallback. */
static hr_module *previous_of(hr_slot_info *slot) {
    for (uint32_t back = 1; back <= slot->past_count; back++) {
        hr_module *module = past_at(slot, back)->module;
        if (module == NULL) return NULL;
        if (module != slot->module && !hr_module_quarantined(slot->runtime, module)) return module;
    }
    return NULL;
}

/* One walk over the slots marks all that they need; a look for each module would take as many walks. */
static void mark_needed(void) {
    unload.mark++;
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        if (hr.slots[i].past_count == 0 || hr.slots[i].runtime == NULL) continue;
        hr_module *previous = previous_of(&hr.slots[i]);
        if (previous) previous->needed = unload.mark;
    }
}

/* After mark_needed. */
static bool ready(const hr_module *module) {
    return module->state == HR_MODULE_RETIRED && module->retired_at == 0 && !module->in_hook && !module->initialised &&
           module->uses == 0 && module->unload_tries < TRIES && module->needed != unload.mark && wanted(module);
}

static void strike_one(hr_slot_info *slot, const hr_module *module) {
    hr_past kept[HR_HISTORY] = {0};
    uint32_t count = 0;
    for (uint32_t back = slot->past_count; back >= 1; back--) /* the oldest first */
        if (past_at(slot, back)->module != module) kept[count++] = *past_at(slot, back);
    for (uint32_t place = 0; place < HR_HISTORY; place++) /* with nulls: no scan may find what no longer counts */
        *hr_past_place(slot, place) = kept[place];
    slot->past_count = (uint16_t)count;
    slot->past_next = (uint16_t)(count % HR_HISTORY);
}

/* U2. Slots that have never run anything but their fallback are passed over. */
static void strike(const hr_module *module) {
    for (uint32_t i = 1; i < hr.slot_count; i++)
        if (hr.slots[i].version != 0) strike_one(&hr.slots[i], module);
}

/* Claims up to HR_SCAN_TARGETS of those whose time has come. */
static uint32_t pick(hr_target *targets, uint64_t now) {
    uint32_t count = 0;
    pthread_mutex_lock(&hr.lock);
    mark_needed();
    for (hr_module *module = hr.modules; module && count < HR_SCAN_TARGETS; module = module->next) {
        if (module->unload_at > now || !ready(module)) continue;
        strike(module);
        if (!hr_guard_release(module)) { /* U7 */
            module->unload_at = now + FIRST_DELAY_NS;
            continue;
        }
        module->in_hook = true; /* nobody else begins anything with it */
        targets[count++] = (hr_target){.module = module};
    }
    if (hr.spare_table) memset(hr.spare_table->entries, 0, hr.spare_table->capacity * sizeof(hr_entry));
    pthread_mutex_unlock(&hr.lock);
    return count;
}

/* ---- where it lies ---- */

static uintptr_t dynamic_address(const hr_module *module, uint64_t value) {
    return value < module->base ? module->base + (uintptr_t)value : (uintptr_t)value; /* glibc has added the base */
}

static void read_dynamic(const hr_module *module, const ElfW(Dyn) *entry, hr_target *target) {
    uint64_t size = 0;
    for (; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_STRTAB) target->strings = dynamic_address(module, entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRSZ) size = entry->d_un.d_val;
    }
    target->strings_end = target->strings + (target->strings ? size : 0);
}

static uintptr_t file_end(const struct dl_phdr_info *info, const ElfW(Phdr) *segment) {
    return (info->dlpi_addr + segment->p_vaddr + segment->p_filesz + 4095) & ~(uintptr_t)4095;
}

static int read_segments(struct dl_phdr_info *info, size_t size, void *data) {
    hr_target *target = data;
    (void)size;
    if (info->dlpi_addr != target->module->base || strcmp(info->dlpi_name, target->module->staged) != 0) return 0;
    target->start = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(uintptr_t)4095;
        uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_memsz + 4095) & ~(uintptr_t)4095;
        if (segment->p_type == PT_DYNAMIC)
            read_dynamic(target->module, (const void *)(info->dlpi_addr + segment->p_vaddr), target);
        if (segment->p_type == PT_GNU_RELRO) target->mappings++; /* the loader splits what it protects off */
        if (segment->p_type != PT_LOAD) continue;
        target->mappings += 1 + (file_end(info, segment) < end); /* what has no file behind it is one more */
        if (start < target->start) target->start = start;
        if (end > target->end) target->end = end;
    }
    return 1;
}

/* glibc's struct link_map, whose private part has no fixed size, is followed in its block by a list of names that one of
 * its fields points to. Only what has exactly that shape is taken for it. */
static void read_record(hr_target *target) {
    enum { REAL = 5, NAMES = 7, MOST = 4096 };
    const uintptr_t *record = target->module->handle;
    uintptr_t start = (uintptr_t)record;
    if (record[REAL] != start || record[NAMES] - start >= MOST) return;
    target->record = start;
    target->record_end = record[NAMES];
}

static bool locate(hr_target *target) {
    dl_iterate_phdr(read_segments, target);
    read_record(target);
    return target->end > target->start;
}

static bool over_budget(void) {
    return hr.box->resident_bytes > hr.options.budget_bytes || hr.box->resident_mappings > HR_MAPPINGS_MANY;
}

/* Once each time that the budget is passed; under hr.lock. */
static void tell_budget(const hr_module *module) {
    bool told = hr.over_budget;
    hr.over_budget = over_budget();
    hr_report *report = hr.over_budget && !told ? hr_module_report(module) : NULL;
    if (report == NULL) return;
    snprintf(report->failure.reason, sizeof report->failure.reason, "%llu modules that back no slot keep %llu KiB in "
             "memory and %llu mappings", (unsigned long long)hr.box->resident_modules,
             (unsigned long long)hr.box->resident_bytes / 1024, (unsigned long long)hr.box->resident_mappings);
    snprintf(report->failure.expected, sizeof report->failure.expected, "at most %llu KiB and %d mappings",
             (unsigned long long)hr.options.budget_bytes / 1024, HR_MAPPINGS_MANY);
    hr_copy_text(report->failure.fix, sizeof report->failure.fix,
                 "unload them (--unload, HR_OPTION_UNLOAD), raise the budget, or restart the host");
    hr_blackbox_event(HR_EVENT_BUDGET, report);
    free(report);
}

void hr_unload_measure(hr_module *module) {
    hr_target target = {.module = module};
    hr_cost cost = {0};
    if (dl_iterate_phdr(read_segments, &target) != 0)
        cost = (hr_cost){target.end - target.start, hr_platform_resident(target.start, target.end), target.mappings};
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_begin();
    hr_blackbox_cost(module, false);
    module->cost = cost;
    hr_blackbox_cost(module, true);
    hr_blackbox_end();
    tell_budget(module);
    pthread_mutex_unlock(&hr.lock);
}

/* ---- what becomes of it ---- */

/* `us`: what the scan took. */
static void tell(uint32_t kind, const hr_module *module, const char *reason, const char *found, uint64_t us) {
    hr_report *report = hr_module_report(module);
    if (report == NULL) return;
    hr_copy_text(report->failure.reason, sizeof report->failure.reason, reason);
    hr_copy_text(report->failure.found, sizeof report->failure.found, found);
    report->us[HR_STEP_TOTAL] = us;
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_event(kind, report);
    pthread_mutex_unlock(&hr.lock);
    free(report);
}

/* It stays, and is looked at again later, up to TRIES times. What is told: the first reason and the last. */
static void stays(const hr_target *target, const char *why, const char *found, bool for_good) {
    hr_module *module = target->module;
    char reason[HR_NAME_MAX + 1];
    snprintf(reason, sizeof reason, "resident: %s", why);
    pthread_mutex_lock(&hr.lock);
    bool first = module->unload_tries == 0;
    module->unload_at = hr_monotonic_ns() + (FIRST_DELAY_NS << module->unload_tries);
    module->unload_tries = for_good ? TRIES : module->unload_tries + 1;
    bool last = module->unload_tries == TRIES;
    module->in_hook = false;
    hr_blackbox_begin();
    if (module->record) hr_blackbox_module(module, reason); /* else more than 1,000 others are shown */
    hr_blackbox_end();
    pthread_mutex_unlock(&hr.lock);
    if (first || last) tell(HR_EVENT_RETIRE, module, reason, found, target->us);
}

/* Place and symbol for the black box; both addresses as well for the event. */
static void stays_pointed_at(const hr_target *target) {
    char symbol[128], why[HR_NAME_MAX + 1], found[HR_TEXT_SIZE];
    hr_module *module = target->module;
    hr_symbol_at(module->staged, target->value - module->base, symbol, sizeof symbol);
    const char *slash = strrchr(target->place, '/');
    snprintf(why, sizeof why, "%.50s points to %.48s", slash ? slash + 1 : target->place, symbol);
    snprintf(found, sizeof found, "%#llx in %s points%s to %#llx, %s of %s; %llu in all", (unsigned long long)target->at,
             target->place, target->mangled ? ", encrypted," : "", (unsigned long long)target->value, symbol,
             module->manifest->name, (unsigned long long)target->hits);
    stays(target, why, found, false);
}

static void take_off(hr_module *module) {
    pthread_mutex_lock(&hr.lock);
    hr_module **link = &hr.modules;
    while (*link && *link != module) link = &(*link)->next;
    if (*link) *link = module->next;
    module->runtime = NULL; /* which may be freed before its module is unmapped */
    pthread_mutex_unlock(&hr.lock);
}

static void put_back(hr_module *module) {
    pthread_mutex_lock(&hr.lock);
    module->next = hr.modules;
    hr.modules = module;
    pthread_mutex_unlock(&hr.lock);
}

static void end(const hr_target *target) {
    hr_module *module = target->module;
    take_off(module);
    dlclose(module->handle);
    void *still = dlopen(module->staged, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD); /* U4 */
    if (still) {
        module->handle = still;
        put_back(module);
        stays(target, "dlclose did nothing (NODELETE, unique symbols or TLS destructors)", "", true);
        return;
    }
    hr_platform_reserve(target->start, target->end); /* U6 */
    pthread_mutex_lock(&hr.lock);
    module->state = HR_MODULE_UNLOADED;
    hr_blackbox_begin();
    if (module->record) {
        hr_blackbox_module(module, "nothing pointed into it any more");
        hr.recorded[module->record - 1] = NULL;
    }
    hr_blackbox_cost(module, false);
    hr_blackbox_end();
    pthread_mutex_unlock(&hr.lock);
    tell(HR_EVENT_UNLOAD, module, "", "", target->us);
    unlink(module->staged); /* the history lacks it, and no address of it is left to be looked up */
    hr_manifest_free(module->manifest);
    explicit_bzero(module, sizeof *module);
    free(module);
}

/* Known beforehand: dlclose would do nothing, or what points into it will for good. */
static const char *undying(const hr_module *module) {
    if (module->manifest->warnings & HR_WARN_NODELETE) return "it is linked with -z nodelete";
    if (module->manifest->warnings & HR_WARN_UNIQUE) return "it has unique symbols (-fno-gnu-unique)";
    return NULL;
}

static uint32_t drop_undying(hr_target *targets, uint32_t count) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *why = undying(targets[i].module);
        if (why == NULL && !locate(&targets[i])) why = "the loader does not know it";
        if (why) stays(&targets[i], why, "", true);
        else targets[kept++] = targets[i];
    }
    return kept;
}

static void scan_and_end(hr_scan *scan, uint32_t count, const uint64_t *entry, uint32_t entry_count, uintptr_t stack) {
    hr_target *targets = hr_scan_targets(scan);
    hr_failure failure = {0};
    count = drop_undying(targets, count);
    if (count == 0) return;
    uint64_t begun = hr_monotonic_ns();
    hr_status status = hr_scan_run(scan, count, entry, entry_count, stack, &failure);
    uint64_t us = (hr_monotonic_ns() - begun) / 1000;
    for (uint32_t i = 0; i < count; i++) {
        targets[i].us = us;
        if (targets[i].hits) stays_pointed_at(&targets[i]);
        else if (status != HR_OK) stays(&targets[i], failure.reason, "", false);
        else end(&targets[i]);
    }
}

/* Unless somebody has asked for an earlier one. */
static void look_at(uint64_t due) {
    uint64_t none = 0;
    __atomic_compare_exchange_n(&unload.due, &none, due, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* What keeps a module that no scan is asked about, after mark_needed; null: nothing, or it is not asked to go. */
static const char *kept_for(const hr_module *module) {
    if (module->state != HR_MODULE_RETIRED || module->retired_at != 0 || module->uses != 0) return NULL;
    if (module->unload == HR_MODULE_STAYS) return "resident: it asks to stay (HR_UNLOAD_NEVER)";
    return wanted(module) && module->needed == unload.mark ? "resident: a roll back would bring it back" : NULL;
}

/* Under hr.lock. */
static void tell_kept(void) {
    hr_blackbox_begin();
    for (hr_module *module = hr.modules; module; module = module->next) {
        const char *why = kept_for(module);
        if (why == NULL || why == module->kept_for || module->record == 0) continue;
        module->kept_for = why;
        hr_blackbox_module(module, why);
    }
    hr_blackbox_end();
}

static void next_look(void) {
    uint64_t due = 0;
    pthread_mutex_lock(&hr.lock);
    mark_needed();
    for (const hr_module *module = hr.modules; module; module = module->next)
        if (ready(module) && (due == 0 || module->unload_at < due)) due = module->unload_at ? module->unload_at : 1;
    tell_kept();
    pthread_mutex_unlock(&hr.lock);
    if (due) look_at(due);
}

/* With the first module that may go, all the memory is taken that the rings of events and modules will ever need (2 MiB
 * of it are there after 100 reloads, 6.9 after 1,000, then no more): a host that unloads so that its memory stays what it
 * is could not tell their filling from a leak. Not when the box is made: that takes 4 ms, where the whole start takes 0.7,
 * and memory of hosts that never reload so often. */
static void fill_rings(void) {
    if (!unload.filled) hr_blackbox_fill();
    unload.filled = true;
}

__attribute__((noinline)) static void look(const uint64_t *entry, uint32_t entry_count, uintptr_t stack) {
    uint64_t now = hr_monotonic_ns(), due = __atomic_load_n(&unload.due, __ATOMIC_ACQUIRE);
    if (due == 0 || due > now) return;
    __atomic_store_n(&unload.due, 0, __ATOMIC_RELEASE);
    hr_scan *scan = hr_scan_new();
    if (scan == NULL) { /* no memory now */
        look_at(now + NO_MEMORY_NS);
        return;
    }
    uint32_t count = pick(hr_scan_targets(scan), now);
    if (count) {
        fill_rings();
        scan_and_end(scan, count, entry, entry_count, stack);
    }
    hr_scan_free(scan);
    next_look();
}

void hr_unload_run(void) {
    if (!hr_unload_waiting() || pthread_mutex_trylock(&unload.one) != 0) return;
    ucontext_t entry; /* what the registers hold before this thread learns any address of a module (N3) */
    if (getcontext(&entry) == 0) {
        const uint64_t *words = (const uint64_t *)(const void *)&entry.uc_mcontext;
        look(words, sizeof entry.uc_mcontext / sizeof *words, (uintptr_t)&entry + sizeof entry);
    }
    pthread_mutex_unlock(&unload.one);
}

void hr_unload_soon(void) {
    if (!hr_option(HR_OPTION_UNLOAD) && !__atomic_load_n(&unload.asked, __ATOMIC_ACQUIRE)) return;
    __atomic_store_n(&unload.due, 1, __ATOMIC_RELEASE);
    hr_control_news();
}

void hr_unload_forked(void) {
    pthread_mutex_init(&unload.one, NULL);
    hr_platform_reserved_forget();
    unload.filled = false;
    __atomic_store_n(&unload.due, 0, __ATOMIC_RELEASE);
}
