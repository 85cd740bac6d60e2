/* Layouts: what a module and its host each say about the structs that they share, and how old state becomes new state.
 * Both are optional exported data symbols of a module, beside HOTPATCH_MODULE_V1. A cdef header: see abi.h.
 *
 * Authors write none of this by hand: describe.h has the macros. A host gives the same structs to hr_declare_layout.
 *
 * Everything is compared by name: what only one side describes is not checked. Type names may be spelled in C, C++ or
 * Rust; "uint32_t", "unsigned int" and "u32" are one type, "Voice *", "const Voice*" and "*mut Voice" another one.
 * Arrays are spelled "float[16]". */
#ifndef HOTRELOAD_LAYOUT_H
#define HOTRELOAD_LAYOUT_H

#include "status.h"

/* ---- HOTPATCH_LAYOUT_V1 ---- */

/* "HPL1", read as a big-endian word. */
#define HR_LAYOUT_MAGIC_V1 0x48504c31
#define HR_LAYOUT_VERSION_V1 1
/* sizeof(hr_layout_v1) on the LP64 systems supported. */
#define HR_LAYOUT_STRUCT_SIZE_V1 32

/* Bytes of a type's or field's name, or of a field's type, without the terminating zero. */
#define HR_TYPE_NAME_MAX 255
/* In one description, nested types included. */
#define HR_LAYOUT_TYPES_MAX 4096
/* In all its types together, enumerators included. */
#define HR_LAYOUT_FIELDS_MAX 65536

#define HR_TYPE_STRUCT 1
#define HR_TYPE_UNION 2
#define HR_TYPE_ENUM 3   /* its fields are its enumerators: `offset` holds the value, `size` is 0 */
#define HR_TYPE_SCALAR 4 /* a number or a pointer: no fields */
#define HR_TYPE_VOID 5   /* of an argument: there is none. Size 0, no fields */
#define HR_TYPE_UNCHECKED 6 /* of an argument: the same as a null pointer */

/* hr_layout_type_v1.flags: only some of the fields are listed (of a packed struct, of one with bit-fields). */
#define HR_TYPE_PARTIAL 1

/* The room that a struct keeps for later: its last field, of type hr_reserve[N]. New fields may take its place as long
 * as they lie inside it, and the size and all fields before stay what they are. */
typedef unsigned char hr_reserve;

typedef struct hr_layout_type_v1 hr_layout_type_v1;

typedef struct hr_layout_field_v1 {
    const char *name;
    const char *type;
    const hr_layout_type_v1 *nested; /* the description of its type, or of its elements'; may be null */
    uint64_t offset;
    uint64_t size;
    uint32_t flags;    /* 0 */
    uint32_t reserved; /* 0 */
} hr_layout_field_v1;

struct hr_layout_type_v1 {
    const char *name;
    uint64_t size;
    uint32_t align;
    uint32_t kind;  /* HR_TYPE_* */
    uint32_t flags; /* HR_TYPE_PARTIAL */
    uint32_t field_count;
    const hr_layout_field_v1 *fields;
};

/* What the slot `symbol` takes. Null: not described, not checked. */
typedef struct hr_layout_entry_v1 {
    const char *symbol;
    const hr_layout_type_v1 *state;
    const hr_layout_type_v1 *input;
    const hr_layout_type_v1 *output;
} hr_layout_entry_v1;

/* Types that an entry or a field refers to need not be in `types`. The same name twice must mean the same layout. */
typedef struct hr_layout_v1 {
    uint32_t magic;       /* HR_LAYOUT_MAGIC_V1 */
    uint16_t version;     /* HR_LAYOUT_VERSION_V1 */
    uint16_t struct_size; /* HR_LAYOUT_STRUCT_SIZE_V1 */
    uint32_t type_count;
    uint32_t entry_count;
    const hr_layout_type_v1 *const *types;
    const hr_layout_entry_v1 *entries;
} hr_layout_v1;

/* ---- HOTPATCH_MIGRATE_V1 ---- */

/* "HPG1", read as a big-endian word. */
#define HR_MIGRATE_MAGIC_V1 0x48504731
#define HR_MIGRATE_VERSION_V1 1
#define HR_MIGRATE_STRUCT_SIZE_V1 24
/* Migrations of one module. */
#define HR_MIGRATIONS_MAX 256

/* Makes one object in the new layout out of one in the old layout. `from` is a copy; `to` is zeroed and has the new
 * type's alignment. A non-zero result: nothing has changed, the module is refused (E-MIGRATE). */
typedef int32_t (*hr_migrate_fn)(void *host_state, const void *from, void *to);

/* `type` is described by `from` as it was and by `to` as it becomes, under the same name. Null for either: as the
 * module's own HOTPATCH_LAYOUT_V1 describes it. */
typedef struct hr_migration_v1 {
    const char *type;
    const hr_layout_v1 *from;
    const hr_layout_v1 *to;
    hr_migrate_fn migrate;
} hr_migration_v1;

typedef struct hr_migrate_v1 {
    uint32_t magic;       /* HR_MIGRATE_MAGIC_V1 */
    uint16_t version;     /* HR_MIGRATE_VERSION_V1 */
    uint16_t struct_size; /* HR_MIGRATE_STRUCT_SIZE_V1 */
    uint32_t migration_count;
    uint32_t reserved;
    const hr_migration_v1 *migrations;
} hr_migrate_v1;

#endif
