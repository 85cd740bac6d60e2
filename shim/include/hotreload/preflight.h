/* Preflight: reads and checks a module's bytes without running any of them. A cdef header: see abi.h. */
#ifndef HOTRELOAD_PREFLIGHT_H
#define HOTRELOAD_PREFLIGHT_H

#include "layout.h"

/* Hexadecimal build id (up to 32 bytes of it) with its terminating zero. */
#define HR_BUILD_ID_SIZE 65

/* What preflight reports beside its verdict: bits of hr_manifest.warnings. */
#define HR_WARN_NODELETE 1       /* dlclose would do nothing: DF_1_NODELETE */
#define HR_WARN_UNIQUE 2         /* dlclose would do nothing: a STB_GNU_UNIQUE symbol */
#define HR_WARN_TLS_DESTRUCTOR 4 /* dlclose may do nothing: registers thread-local destructors */
#define HR_WARN_INTERPOSABLE 8   /* exports symbols that another library may replace: link with -Bsymbolic (H9) */
#define HR_WARN_EXECSTACK 16     /* asks for an executable stack */
#define HR_WARN_NO_BUILD_ID 32
#define HR_WARN_UNTRIED 128 /* of a load with trial runs: no call of some slot came in time, or no copy could be made */
#define HR_WARN_STATIC_TLS 64 /* also the rejection E-STATIC-TLS */

typedef struct hr_manifest_entry {
    char name[HR_NAME_MAX + 1];
    uint64_t function; /* virtual address in the file */
    uint32_t flags;
    uint32_t reserved;
} hr_manifest_entry;

/* What HOTPATCH_MIGRATE_V1 says. */
typedef struct hr_manifest_migration {
    char type[HR_TYPE_NAME_MAX + 1];
    uint64_t function; /* virtual address in the file */
    hr_layout_v1 *from; /* null: hr_manifest.layout */
    hr_layout_v1 *to;
} hr_manifest_migration;

/* What HOTPATCH_MODULE_V1 of a file says, its relocations applied. Addresses are virtual, before any load bias. */
#ifdef __cplusplus /* a flexible array member, which C++ compilers know as an extension */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
typedef struct hr_manifest {
    char name[HR_NAME_MAX + 1];
    uint64_t version;
    char build_id[HR_BUILD_ID_SIZE]; /* lower case hex, or empty */
    char reserved[7];
    uint64_t content;   /* hash of all bytes that a load maps: the identity of the module's content */
    uint64_t address;   /* of HOTPATCH_MODULE_V1 */
    uint64_t on_load;   /* 0: none */
    uint64_t on_unload; /* 0: none */
    uint64_t layout_address;  /* of HOTPATCH_LAYOUT_V1; 0: none */
    uint64_t migrate_address; /* of HOTPATCH_MIGRATE_V1; 0: none */
    hr_layout_v1 *layout;     /* null: not described */
    hr_manifest_migration *migrations;
    uint32_t migration_count;
    uint32_t unload; /* 1 + what HOTPATCH_UNLOAD_V1 says (abi.h); 0: there is none */
    uint32_t warnings;  /* HR_WARN_* */
    uint32_t entry_count;
    hr_manifest_entry entries[];
} hr_manifest;
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Checks the bytes of a module.
 *
 * Thread-safe, reads nothing but bytes[0 .. size). On HR_OK *manifest is allocated (hr_manifest_free); otherwise it
 * is set to null and *failure tells what was found, what was expected and what to do.
 *
 * Returns HR_OK, HR_E_NOT_ELF, HR_E_ARCH, HR_E_TRUNCATED, HR_E_NO_MANIFEST, HR_E_ABI, HR_E_MANIFEST, HR_E_STATIC_TLS or
 * HR_E_MEMORY. */
hr_status hr_preflight(const void *bytes, uint64_t size, hr_failure *failure, hr_manifest **manifest);

void hr_manifest_free(hr_manifest *manifest);

/* The undefined, non-weak symbols of a module whose preflight was HR_OK, as names separated by commas, cut at size.
 * Those that `resolved` (may be null) returns non-zero for are left out. Returns how many there are. */
uint32_t hr_preflight_undefined(const void *bytes, uint64_t size, int (*resolved)(const char *name), char *names,
                                uint32_t names_size);

#ifdef __cplusplus
}
#endif

#endif
