/* An ELF file as preflight reads it, and what its checks share. P1 to P12 are the invariants of preflight.c, which calls
 * the checks in their order: each may rely on all before it. */
#ifndef HOTRELOAD_IMAGE_H
#define HOTRELOAD_IMAGE_H

#include "internal.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

#define SPAN_MAX (UINT64_C(1) << 32)
#define PROGRAM_HEADERS_MAX 128
#define LOADS_MAX 32
#define GUARDED_MAX (8 + LOADS_MAX)
#define EXPORT "HOTPATCH_MODULE_V1"

#ifndef DT_RELR /* glibc before 2.36 */
#define SHT_RELR 19
#define DT_RELRSZ 35
#define DT_RELR 36
#define DT_RELRENT 37
#endif
#define TAGS 38 /* of the dynamic section, that have their own number */

#define FIX_BUILD_AGAIN "build the module again; if it happens again, the linker or a tool after it damages the file"
#define FIX_EXPORT                                                                                                     \
    "export it with HR_MODULE (patch.h) or hotpatch_module!, and build with default visibility for that symbol; is it "\
    "a patch module at all?"
#define FIX_POINTERS "build with -fPIC, and define the manifest with HR_MODULE (patch.h) or hotpatch_module!"

/* What a relocation does; the numbers differ between machines, the meanings do not. */
enum {
    RELOCATE_UNKNOWN,
    RELOCATE_NONE,
    RELOCATE_RELATIVE, /* base + addend */
    RELOCATE_SYMBOL,   /* symbol + addend */
    RELOCATE_GOT,      /* symbol, into a table of the linker */
    RELOCATE_PLT,      /* the same for calls */
    RELOCATE_OTHER,    /* a number, no pointer */
    RELOCATE_RESOLVER, /* what the function at base + addend returns */
    RELOCATE_TLS,      /* module number or offset inside its block */
    RELOCATE_TLS_STATIC
};

/* A loaded segment; addresses are virtual, without load bias. */
typedef struct load {
    uint64_t start;    /* of its bytes */
    uint64_t file_end; /* of those that come from the file; the rest is zero */
    uint64_t end;
    uint64_t offset; /* in the file, of start */
    uint32_t flags;  /* PF_* */
    uint32_t index;  /* of its program header */
} load;

/* A table that the loader reads, as bytes of the file. */
typedef struct table {
    uint64_t address;
    uint64_t offset;
    uint64_t size;
} table;

/* The dynamic section; tags in the order of the loader: of several equal ones the last counts. */
typedef struct dynamic {
    table at;
    uint64_t count;
    uint64_t values[TAGS];
    uint64_t present; /* bit per tag below TAGS */
    uint64_t gnu_hash, versym, verneed, verdef; /* addresses; 0: absent */
    uint64_t relacount, flags_1;
} dynamic;

typedef struct image {
    const uint8_t *bytes;
    uint64_t size;
    hr_failure *failure;
    Elf64_Ehdr header;
    Elf64_Phdr program[PROGRAM_HEADERS_MAX];
    uint64_t section_count;
    load loads[LOADS_MAX];
    uint32_t load_count;
    bool has_tls;
    Elf64_Phdr tls, relro; /* relro.p_memsz 0: none */
    table unwind;          /* the table of PT_GNU_EH_FRAME */
    table all_symbols;     /* .symtab, if there is one: no address, size in symbols */
    dynamic dynamic;
    table symbols, strings, hash, versions, relocations, plt_relocations, relr;
    table guarded[GUARDED_MAX]; /* what no relocation may write to */
    uint32_t guarded_count;
    uint32_t symbol_count;
    uint32_t version_max; /* highest version index that the version tables define */
    uint32_t warnings;
} image;

/* A tag of the dynamic section: whether it is there, and its value. */
#define HAS(image, tag) (((image)->dynamic.present >> (tag)) & 1)
#define VALUE(image, tag) ((image)->dynamic.values[tag])

typedef struct text {
    char s[160];
} text;

typedef struct relocation {
    uint64_t target;
    uint64_t addend; /* RELR: unused, it is in place */
    uint32_t symbol;
    uint8_t kind;
    uint8_t width;
    bool in_place; /* RELR */
} relocation;

typedef hr_status (*relocation_visitor)(image *image, const relocation *relocation, void *context);

enum { WORD_PLAIN, WORD_ADDRESS, WORD_UNKNOWN };

/* Words of the image as they are once relocations are applied. WORD_ADDRESS: an address of the image, without bias;
 * WORD_UNKNOWN: known only to the loader. */
typedef struct window {
    uint64_t address; /* a multiple of 8 */
    uint64_t count;   /* words */
    uint64_t *words;
    uint8_t *kinds;
} window;

typedef struct windows {
    window *items;
    uint32_t count;
} windows;

/* ---- reading ---- */

/* Reads may be unaligned: nothing forces a damaged file to align its tables. */
static inline uint16_t read16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t read32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t read64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Whether [offset, offset + length) lies inside [0, limit); never overflows. */
static inline bool inside(uint64_t offset, uint64_t length, uint64_t limit) {
    return offset <= limit && length <= limit - offset;
}

static inline bool power_of_two(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

static inline Elf64_Dyn dynamic_entry(const image *image, uint64_t index) {
    Elf64_Dyn entry;
    memcpy(&entry, image->bytes + image->dynamic.at.offset + index * sizeof entry, sizeof entry);
    return entry;
}

/* Sets a bit, and tells whether it was set. */
static inline bool mark(uint64_t *bits, uint64_t index) {
    uint64_t bit = UINT64_C(1) << (index % 64);
    bool marked = bits[index / 64] & bit;
    bits[index / 64] |= bit;
    return marked;
}

static inline bool names_library(uint64_t tag) {
    return tag == DT_NEEDED || tag == DT_SONAME || tag == DT_RPATH || tag == DT_RUNPATH || tag == DT_AUXILIARY ||
           tag == DT_FILTER;
}

static inline Elf64_Shdr section_at(const image *image, uint64_t index) {
    Elf64_Shdr section;
    memcpy(&section, image->bytes + image->header.e_shoff + index * sizeof section, sizeof section);
    return section;
}

/* P7. */
static inline Elf64_Sym symbol_at(const image *image, uint32_t index) {
    Elf64_Sym symbol;
    memcpy(&symbol, image->bytes + image->symbols.offset + (uint64_t)index * sizeof symbol, sizeof symbol);
    return symbol;
}

/* A name of the string table; its offset has been checked. */
static inline const char *string_at(const image *image, uint64_t offset) {
    return (const char *)image->bytes + image->strings.offset + offset;
}

static inline bool by_name(const relocation *relocation) {
    return relocation->kind == RELOCATE_SYMBOL || relocation->kind == RELOCATE_GOT || relocation->kind == RELOCATE_PLT;
}

/* ---- image.c: P1 to P5 ---- */

text hr_textf(const char *format, ...) __attribute__((format(printf, 1, 2)));
hr_status hr_image_damaged(image *image, const char *found, const char *expected, const char *reason);
hr_status hr_image_truncated(hr_failure *failure, const char *what, uint64_t index, uint64_t offset, uint64_t length,
                             uint64_t size);
const load *hr_image_load_of(const image *image, uint64_t address, uint64_t length, bool file_backed);
bool hr_image_locate(const image *image, uint64_t address, uint64_t length, table *table);
bool hr_image_executable(const image *image, uint64_t address);
hr_status hr_image_header(const uint8_t *bytes, uint64_t size, hr_failure *failure, Elf64_Ehdr *header, bool *readable);
hr_status hr_image_extents(const uint8_t *bytes, uint64_t size, hr_failure *failure, const Elf64_Ehdr *header,
                           uint64_t *section_count);
hr_status hr_image_check_header(image *image);
hr_status hr_image_bad_segment(image *image, uint32_t index, const char *reason);
hr_status hr_image_check_segments(image *image);
hr_status hr_image_check_sections(image *image);
hr_status hr_image_check_section_uses(image *image);

/* ---- image_dynamic.c: P6 ---- */

hr_status hr_image_check_dynamic(image *image);

/* ---- image_symbols.c: P7 ---- */

hr_status hr_image_check_symbols(image *image);
bool hr_image_find(image *image, const char *name, uint32_t *index);
hr_status hr_image_check_name_ends(image *image);

/* ---- image_versions.c: P8 ---- */

hr_status hr_image_check_versions(image *image);

/* ---- image_code.c: where functions start ---- */

bool hr_image_callable(const image *image, uint64_t address);
bool hr_image_symbol_callable(const image *image, uint64_t address);

/* ---- image_relocations.c: P9 ---- */

hr_status hr_image_visit(image *image, relocation_visitor visit, void *context);
hr_status hr_image_check_relocations(image *image);

/* ---- image_window.c: words of the image once relocations are applied ---- */

void hr_window_close(window *window);
void hr_window_apply_to(image *image, const relocation *relocation, window *window);
hr_status hr_window_apply(image *image, const relocation *relocation, void *context);
bool hr_window_open(const image *image, uint64_t address, uint64_t count, window *window, hr_status *status);

/* ---- image_hooks.c: P10 ---- */

hr_status hr_image_check_initialisers(image *image);

/* ---- image_identity.c: build id and content ---- */

hr_status hr_image_build_id(image *image, char *build_id);
uint64_t hr_image_content(const image *image);

/* ---- manifest.c: P11 ---- */

hr_status hr_manifest_bad(image *image, const char *found, const char *expected, const char *fix, const char *reason);
hr_status hr_manifest_find(image *image, uint64_t *address);
hr_status hr_manifest_read(image *image, uint64_t address, hr_manifest **manifest);

/* ---- descriptions.c: P12 ---- */

hr_status hr_descriptions_read(image *image, hr_manifest *manifest);

#endif
