/* One module on its way in: read, compared, opened, checked, initialised (steps 1 to 7 of DESIGN.md section 5). */
#include "module.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hr_status incoming_preflight(hr_incoming *in, hr_report *report) {
    hr_status status = hr_preflight(in->staged.bytes, in->staged.size, &report->failure, &in->manifest);
    if (status != HR_OK) return status;
    hr_report_manifest(report, in->manifest);
    status = hr_stage_name(&in->staged, in->manifest, &report->failure);
    hr_copy_text(report->staged, sizeof report->staged, in->staged.path);
    return status;
}

/* Identity is the hash of all bytes that a load maps, not the build id: the same build id with other bytes (a patched
 * binary) is other code, and a stripped file is not. */
static bool live_already(const hr_runtime *runtime, const hr_manifest *manifest) {
    for (uint32_t i = 0; i < manifest->entry_count; i++) {
        uint32_t index = hr_slot_lookup(runtime, manifest->entries[i].name);
        const hr_module *module = index ? hr.slots[index].module : NULL;
        if (module == NULL || module->manifest->content != manifest->content) return false;
    }
    return manifest->entry_count != 0;
}

static uint32_t missing_slots(const hr_runtime *runtime, const hr_manifest *manifest) {
    uint32_t missing = 0;
    for (uint32_t i = 0; i < manifest->entry_count; i++)
        missing += hr_slot_lookup(runtime, manifest->entries[i].name) == 0;
    return missing;
}

/* Step 4, and the promise that the commit will find slots for all new symbols. */
static hr_status incoming_same(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_status status = HR_OK;
    pthread_mutex_lock(&hr.lock);
    uint32_t missing = missing_slots(runtime, in->manifest);
    if (hr_quarantined(runtime, in->manifest->content))
        status = hr_fail(&report->failure, HR_E_QUARANTINED, report->build_id, NULL, NULL,
                         "%s v%llu with this content was rolled back or crashed in this host", report->module,
                         (unsigned long long)report->module_version);
    else if (live_already(runtime, in->manifest)) status = HR_SAME;
    else if (missing > hr_slot_room())
        status = hr_fail(&report->failure, HR_E_LIMIT, NULL, NULL, NULL, "no room for %u more slots", missing);
    else hr.reserved_slots += in->reserved = missing;
    pthread_mutex_unlock(&hr.lock);
    return status;
}

static int offered_to_all(const char *name) { return dlsym(RTLD_DEFAULT, name) != NULL; }

/* The loader names one missing symbol; the bytes tell the others. Symbols that only a needed library could offer are
 * left out unless the loader named them. */
static hr_status open_failed(const hr_incoming *in, hr_report *report, const char *error) {
    static const char marker[] = "undefined symbol: ";
    const char *found = strstr(error, marker);
    if (found == NULL)
        return hr_fail(&report->failure, strstr(error, "static TLS") ? HR_E_STATIC_TLS : HR_E_SYMBOLS, error, NULL,
                       strstr(error, "cannot open shared object") ? "install the library, or link it statically" : NULL,
                       "the loader refused the module");
    char first[HR_NAME_MAX + 1], names[HR_TEXT_SIZE], fix[HR_TEXT_SIZE + 80];
    hr_copy_text(first, sizeof first, found + sizeof marker - 1);
    first[strcspn(first, " \t\n(,")] = 0;
    uint32_t count = hr_preflight_undefined(in->staged.bytes, in->staged.size, offered_to_all, names, sizeof names);
    if (count == 0 || strstr(names, first) == NULL) hr_copy_text(names, sizeof names, first);
    snprintf(fix, sizeof fix,
             "define %.200s in the module, link the library that has it, or export it from the host "
             "(-rdynamic)",
             first);
    return hr_fail(&report->failure, HR_E_SYMBOLS, names, "every symbol defined", fix, "unresolved symbols: %s", names);
}

typedef struct hr_opening {
    const char *path;
    const char *error;
    void *handle;
} hr_opening;

static void run_open(void *argument) {
    hr_opening *opening = argument;
    dlerror();
    opening->handle = dlopen(opening->path, RTLD_NOW | RTLD_LOCAL);
    if (opening->handle) return;
    opening->error = dlerror();
    if (opening->error == NULL) opening->error = "the loader gave no reason";
}

static hr_status incoming_open(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_module *module = hr_module_new(report->path, in->staged.path);
    if (module == NULL) return hr_fail(&report->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    hr_opening opening = {.path = in->staged.path};
    if (!hr_guard_run(NULL, "a constructor", run_open, &opening, &in->fault)) {
        free(module);
        return hr_fault_refuse(runtime, in->manifest, &in->fault, &report->failure);
    }
    module->handle = opening.handle;
    if (module->handle == NULL) {
        free(module);
        return open_failed(in, report, opening.error);
    }
    module->runtime = runtime;
    module->manifest = in->manifest;
    module->size = in->staged.size;
    module->state = HR_MODULE_RETIRED; /* until its commit */
    in->module = module;
    return HR_OK;
}

static bool same_address(const hr_module *module, const void *pointer, uint64_t address) {
    return (uintptr_t)pointer == (address ? module->base + (uintptr_t)address : 0);
}

static hr_status differs(hr_report *report, const char *what) {
    return hr_fail(&report->failure, HR_E_MANIFEST, what, "the module's own code and data",
                   "link with -Wl,-Bsymbolic and compile with -fvisibility=hidden",
                   "in memory, %s is not what the file says: another library's symbol took its place", what);
}

/* Step 6. Symbols bound elsewhere (H9) and constructors that write to the manifest show here. */
static hr_status incoming_check(hr_incoming *in, hr_report *report) {
    hr_module *module = in->module;
    const hr_manifest *manifest = in->manifest;
    struct link_map *map = NULL;
    if (dlinfo(module->handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) return differs(report, "the load address");
    module->base = map->l_addr;
    hr_guard_module(module);
    hr_unload_read(module);
    const hr_patch_module_v1 *exported = (const void *)(module->base + (uintptr_t)manifest->address);
    module->exported = exported;
    if (exported->abi_magic != HR_ABI_MAGIC_V1 || exported->abi_version != HR_ABI_VERSION_V1 ||
        exported->struct_size != HR_ABI_STRUCT_SIZE_V1 || exported->module_version != manifest->version ||
        exported->entry_count != manifest->entry_count)
        return differs(report, "the manifest's header");
    if (exported->name == NULL || strcmp(exported->name, manifest->name) != 0)
        return differs(report, "the module's name");
    if (!same_address(module, (const void *)(uintptr_t)exported->on_load, manifest->on_load) ||
        !same_address(module, (const void *)(uintptr_t)exported->on_unload, manifest->on_unload))
        return differs(report, "on_load or on_unload");
    for (uint32_t i = 0; i < manifest->entry_count; i++) {
        const hr_patch_entry_v1 *entry = &exported->entries[i];
        if (!same_address(module, (const void *)(uintptr_t)entry->func, manifest->entries[i].function) ||
            entry->name == NULL || strcmp(entry->name, manifest->entries[i].name) != 0)
            return differs(report, manifest->entries[i].name);
    }
    if (!hr_shared_in_memory(manifest, in->staged.bytes, module->base)) return differs(report, "HOTPATCH_LAYOUT_V1");
    return HR_OK;
}

/* All that can be known before any code of the module runs. */
hr_status hr_incoming_read(hr_runtime *runtime, hr_shared *shared, hr_incoming *in, hr_report *report) {
    hr_clock clock = hr_clock_start();
    hr_status status = hr_stage(report->path, &in->staged, &report->failure);
    hr_clock_step(&clock, report, HR_STEP_STAGE);
    if (status != HR_OK) return status;
    status = incoming_preflight(in, report);
    hr_clock_step(&clock, report, HR_STEP_PREFLIGHT);
    if (status != HR_OK) return status;
    status = hr_shared_add(runtime, shared, in->manifest, &report->failure);
    hr_clock_step(&clock, report, HR_STEP_LAYOUT);
    if (status != HR_OK) return status;
    status = incoming_same(runtime, in, report);
    hr_clock_step(&clock, report, HR_STEP_SAME);
    return status;
}

hr_status hr_incoming_start(hr_runtime *runtime, hr_incoming *in, hr_report *report) {
    hr_clock clock = hr_clock_start();
    hr_status status = incoming_open(runtime, in, report);
    hr_clock_step(&clock, report, HR_STEP_OPEN);
    if (status != HR_OK) return status;
    status = incoming_check(in, report);
    hr_clock_step(&clock, report, HR_STEP_CHECK);
    if (status != HR_OK) return status;
    status = hr_module_on_load(in->module, &report->failure, &in->fault);
    in->module->initialised = status == HR_OK;
    hr_clock_step(&clock, report, HR_STEP_ON_LOAD);
    return status;
}

/* Takes one preparation back: what was opened stays mapped and is listed as resident, the rest goes. */
void hr_incoming_undo(hr_incoming *in, const char *reason) {
    hr_stage_unmap(&in->staged);
    if (in->module) {
        bool finished = hr_module_finish(in->module);
        hr_unload_measure(in->module);
        pthread_mutex_lock(&hr.lock);
        hr_module_list(in->module, reason);
        /* If not, like a module that was replaced: at the next safe point. */
        if (!finished) hr_module_await_grace(in->module, __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED));
        pthread_mutex_unlock(&hr.lock);
        if (!finished) hr_control_wake();
        else hr_unload_soon();
    } else {
        hr_stage_discard(&in->staged);
        hr_manifest_free(in->manifest);
    }
    pthread_mutex_lock(&hr.lock);
    hr.reserved_slots -= in->reserved;
    pthread_mutex_unlock(&hr.lock);
    memset(in, 0, sizeof *in);
}
