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

#endif
