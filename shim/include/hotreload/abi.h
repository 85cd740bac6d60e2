/* The module ABI, byte for byte that of hotpatch-rs 0.1 (DESIGN.md section 2).
 *
 * A patch module exports one data symbol, HOTPATCH_MODULE_V1, of type hr_patch_module_v1. Nothing in this file ever
 * changes; everything newer is a further, optional exported symbol.
 *
 * This file holds types, prototypes and integer constants only: Python reads it, as it stands, as its cffi cdef. */
#ifndef HOTRELOAD_ABI_H
#define HOTRELOAD_ABI_H

#include <stdint.h>

/* "HPT1", read as a big-endian word. */
#define HR_ABI_MAGIC_V1 0x48505431
#define HR_ABI_VERSION_V1 1
/* sizeof(hr_patch_module_v1) on the LP64 systems supported. */
#define HR_ABI_STRUCT_SIZE_V1 56
/* Bytes of a symbol or module name, without its terminating zero. */
#define HR_NAME_MAX 127
/* What a call of a slot without any implementation returns; -ENOSYS, as in hotpatch-rs. */
#define HR_UNRESOLVED -38

/* What a module's optional symbol HOTPATCH_UNLOAD_V1, a uint32_t, may say (patch.h: HR_MODULE_UNLOAD). */
#define HR_UNLOAD_NEVER 0
#define HR_UNLOAD_QUIESCENT 1

/* A slot's implementation. Returns a status that the host defines; 0 is success by convention. */
typedef int32_t (*hr_patch_fn)(void *host_state, const void *input, void *output);

/* on_load (a non-zero result vetoes the swap) and on_unload. */
typedef int32_t (*hr_lifecycle_fn)(void *host_state);

typedef struct hr_patch_entry_v1 {
    const char *name;
    hr_patch_fn func;
    uint32_t flags;
    uint32_t reserved;
} hr_patch_entry_v1;

typedef struct hr_patch_module_v1 {
    uint32_t abi_magic;   /* HR_ABI_MAGIC_V1 */
    uint16_t abi_version; /* HR_ABI_VERSION_V1 */
    uint16_t struct_size; /* HR_ABI_STRUCT_SIZE_V1 */
    uint64_t module_version;
    const char *name;
    uint32_t entry_count;
    uint32_t reserved;
    const hr_patch_entry_v1 *entries;
    hr_lifecycle_fn on_load;   /* may be null */
    hr_lifecycle_fn on_unload; /* may be null */
} hr_patch_module_v1;

#endif
