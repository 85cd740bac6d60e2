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

/* What a field's type is, whatever typedef it is called by. 0: no number, or not known; then names alone count. */
#define HR_NUMBER_BOOL 1
#define HR_NUMBER_CHAR 2
#define HR_NUMBER_I8 3
#define HR_NUMBER_U8 4
#define HR_NUMBER_I16 5
#define HR_NUMBER_U16 6
#define HR_NUMBER_I32 7
#define HR_NUMBER_U32 8
#define HR_NUMBER_I64 9
#define HR_NUMBER_U64 10
#define HR_NUMBER_F32 11
#define HR_NUMBER_F64 12

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
    uint32_t flags;    /* HR_NUMBER_* of its type, or of an array's elements */
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
 * type's alignment. A non-zero result: nothing has changed, the module is refused (E-MIGRATE). A crash or a hang is the
 * same with the guard on (HR_OPTION_GUARD: E-CRASH, E-HANG), and the host's without it. */
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

/* ---- comparing two descriptions ---- */

#define HR_FIELD_ADDED 1
#define HR_FIELD_REMOVED 2
#define HR_FIELD_MOVED 4      /* of an enumerator: its value differs */
#define HR_FIELD_RESIZED 8
#define HR_FIELD_RETYPED 16
#define HR_FIELD_REALIGNED 32 /* of a type as a whole */
#define HR_FIELD_MIGRATED 64  /* differs, and the module brings the migration */

typedef struct hr_layout_side {
    const char *type; /* null where the row is about a type as a whole */
    uint64_t offset;
    uint64_t size;
    uint32_t align;   /* 0: of a field, not known */
    uint32_t present; /* 0: this side does not have it */
} hr_layout_side;

/* A type that differs has a row for itself (field "") and then one for each of its fields, equal ones included. */
typedef struct hr_layout_row {
    const char *type;  /* or a slot's symbol, where `argument` is set */
    const char *field; /* or "state", "input", "output" */
    hr_layout_side host;
    hr_layout_side module;
    uint32_t change;   /* HR_FIELD_*; 0: equal */
    uint32_t refused;  /* 0: compatible, as growth into a reserve is */
    uint32_t argument;
    uint32_t reserved;
} hr_layout_row;

#ifdef __cplusplus /* a flexible array member, which C++ compilers know as an extension */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
/* Its texts belong to the two descriptions. */
typedef struct hr_layout_comparison {
    int32_t status;       /* HR_OK, or HR_E_LAYOUT when a row is refused */
    uint32_t refused;     /* rows */
    uint32_t type_count;  /* that both describe */
    uint32_t entry_count; /* slots that both describe */
    uint32_t row_count;
    uint32_t reserved;
    hr_layout_row rows[];
} hr_layout_comparison;
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The functions below take descriptions in the shim's own form: those of hr_manifest.layout, and what hr_layout_copy
 * and hr_layout_unpack return: every type once, sorted by name, every slot once, sorted by symbol. */

/* A checked copy of what an author wrote. HR_E_USAGE: *failure (may be null) tells what is invalid. */
hr_status hr_layout_copy(const hr_layout_v1 *from, hr_failure *failure, hr_layout_v1 **layout);
void hr_layout_free(hr_layout_v1 *layout);

/* What a module's code and the host's would each find in the same memory. HR_OK: compatible; HR_E_LAYOUT; HR_E_MEMORY
 * (*comparison is null then). */
hr_status hr_layout_compare(const hr_layout_v1 *host, const hr_layout_v1 *module, hr_layout_comparison **comparison);
void hr_comparison_free(hr_layout_comparison *comparison);
/* The refused rows as the texts of an E-LAYOUT failure. */
hr_status hr_layout_explain(const hr_layout_comparison *comparison, const hr_layout_v1 *host, hr_failure *failure);

/* One block of bytes for a message, to be given to hr_layout_bytes_free. */
hr_status hr_layout_pack(const hr_layout_v1 *layout, void **bytes, uint64_t *size);
void hr_layout_bytes_free(void *bytes);
/* HR_E_PROTOCOL, HR_E_ABI: the bytes are no description. */
hr_status hr_layout_unpack(const void *bytes, uint64_t size, hr_failure *failure, hr_layout_v1 **layout);

#ifdef __cplusplus
}
#endif

#endif
