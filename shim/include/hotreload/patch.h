/* For authors of patch modules: one macro that exports the manifest.
 *
 *     #include <hotreload/patch.h>
 *
 *     static int32_t add(void *state, const void *in, void *out) { ... return 0; }
 *
 *     HR_MODULE("counter", 2, HR_PATCH("counter.add", add))
 *
 * Build with: cc -shared -fPIC -O2 -fvisibility=hidden -Wl,-Bsymbolic -o counter.so counter.c
 * A module needs this header alone; it links against nothing of hotreload. */
#ifndef HOTRELOAD_PATCH_H
#define HOTRELOAD_PATCH_H

#include "abi.h"
#include "describe.h"

#ifdef __cplusplus
#define HR_MODULE_EXPORT extern "C" __attribute__((visibility("default"), used))
#else
#define HR_MODULE_EXPORT __attribute__((visibility("default"), used))
#endif

/* One slot that the module implements. */
#define HR_PATCH(symbol, function) { (symbol), (function), 0, 0 }

/* The manifest: name, version (a number of the author's choosing), then one HR_PATCH for each slot. */
#define HR_MODULE(name, version, ...) HR_MODULE_WITH_HOOKS(name, version, 0, 0, __VA_ARGS__)

/* The same with an on_load (may veto) and an on_unload function; 0 for none. */
#define HR_MODULE_WITH_HOOKS(name, version, on_load, on_unload, ...)                                                   \
    static const hr_patch_entry_v1 hr_module_entries[] = {__VA_ARGS__};                                                \
    HR_MODULE_EXPORT const hr_patch_module_v1 HOTPATCH_MODULE_V1 = {                                                   \
        HR_ABI_MAGIC_V1,                                                                                               \
        HR_ABI_VERSION_V1,                                                                                             \
        sizeof(hr_patch_module_v1),                                                                                    \
        (version),                                                                                                     \
        (name),                                                                                                        \
        sizeof hr_module_entries / sizeof hr_module_entries[0],                                                        \
        0,                                                                                                             \
        hr_module_entries,                                                                                             \
        (on_load),                                                                                                     \
        (on_unload),                                                                                                   \
    };

/* The structs that the module shares with its host: describe.h. */
#define HR_MODULE_LAYOUT(types, ...)                                                                                   \
    static const hr_layout_type_v1 *const hr_module_layout_types[] = {types 0};                                        \
    static const hr_layout_entry_v1 hr_module_layout_entries[] = {__VA_ARGS__};                                        \
    HR_MODULE_EXPORT const hr_layout_v1 HOTPATCH_LAYOUT_V1 = HR_LAYOUT_INITIALIZER_(hr_module_layout);

/* How state that the host registered (hr_state_register) in an old layout becomes state in a new one. */
#define HR_MODULE_MIGRATIONS(...)                                                                                      \
    static const hr_migration_v1 hr_module_migrations[] = {__VA_ARGS__};                                               \
    HR_MODULE_EXPORT const hr_migrate_v1 HOTPATCH_MIGRATE_V1 = {                                                       \
        HR_MIGRATE_MAGIC_V1,                                                                                           \
        HR_MIGRATE_VERSION_V1,                                                                                         \
        sizeof(hr_migrate_v1),                                                                                         \
        sizeof hr_module_migrations / sizeof hr_module_migrations[0],                                                  \
        0,                                                                                                             \
        hr_module_migrations,                                                                                          \
    };

/* One migration: the type's name, its old and new description (of HR_HOST_LAYOUT; 0: that of HR_MODULE_LAYOUT), and
 * int32_t function(void *host_state, const void *from, void *to). */
#define HR_MIGRATION(type, from, to, function) { (type), (from), (to), (function) }

/* Whether this module may be unmapped once it backs no slot and nothing points into it any more, whatever the host's
 * option says: HR_MODULE_UNLOAD(HR_UNLOAD_QUIESCENT) or HR_MODULE_UNLOAD(HR_UNLOAD_NEVER), outside of any function.
 * NEVER is for modules that hide pointers to themselves: packed, compressed, or in the kernel's hands. */
#define HR_MODULE_UNLOAD(when) HR_MODULE_EXPORT const uint32_t HOTPATCH_UNLOAD_V1 = (when);

#endif
