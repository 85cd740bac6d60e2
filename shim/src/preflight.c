/* Preflight: everything about a module that can be known without running any of it. Pure functions of the file's bytes.
 *
 * The loader trusts a file: an offset out of range, a hash chain without end or a relocation that aims at the wrong
 * page kills the process that calls dlopen. So whatever the loader is going to read, write or call is checked here
 * first, and in the same way (by the program headers; section headers are further evidence where the file has them).
 *
 * Invariants; the headings below say where each is established:
 *   P1  The ELF header is complete, of this machine, of a shared library.
 *   P2  Headers, segments and sections lie inside the file.
 *   P3  Loaded segments ascend, share no page, are congruent with the file, and span less than SPAN_MAX.
 *   P4  Every other segment that the loader uses lies inside a loaded one.
 *   P5  Sections that are loaded agree with the segments about where they are.
 *   P6  The dynamic section ends, each tag that needs a partner has it, each table lies inside a readable, file-backed
 *       part of the image.
 *   P7  Symbols: their number comes from the hash table, whose chains end; names end inside the string table.
 *   P8  Version tables: chains end, indices are in range, every file they name is a DT_NEEDED one.
 *   P9  Relocations: known types, symbols in range, targets writable, each target once, none inside a table that the
 *       loader reads.
 *   P10 Initialisers and finalisers are relocated, executable, and not in the middle of a function.
 *   P11 The manifest, its relocations applied, is the one of abi.h; its functions are executable, its names valid.
 *   P12 The descriptions of layouts and migrations, where there are any, are those of layout.h (layout.c reads them).
 *
 * What cannot be seen, since it makes another valid module: wrong machine code, wrong data that an initialiser reads,
 * and a name exchanged for another one that exists. */
#include "internal.h"

#include <elf.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(4096) /* the smallest of the machines supported; larger pages need larger alignments anyway */
#define SPAN_MAX (UINT64_C(1) << 32)
#define PROGRAM_HEADERS_MAX 128
#define LOADS_MAX 32
#define GUARDED_MAX (8 + LOADS_MAX)
#define TLS_ALIGN_MAX (UINT64_C(1) << 16)
#define ENTRIES_MAX HR_SLOTS_MAX
#define EXPORT "HOTPATCH_MODULE_V1"
#define LAYOUT_EXPORT "HOTPATCH_LAYOUT_V1"
#define MIGRATE_EXPORT "HOTPATCH_MIGRATE_V1"
#define UNLOAD_EXPORT "HOTPATCH_UNLOAD_V1"

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

typedef struct relocation_kind {
    uint32_t type;
    uint8_t kind;
    uint8_t width; /* bytes written */
} relocation_kind;

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#define MACHINE_NAME "x86-64"
/* R_X86_64_PC32 and R_X86_64_32 are left out: 32 bits do not reach from a library to another one. */
static const relocation_kind relocation_kinds[] = {
    {R_X86_64_NONE, RELOCATE_NONE, 0},          {R_X86_64_RELATIVE, RELOCATE_RELATIVE, 8},
    {R_X86_64_64, RELOCATE_SYMBOL, 8},          {R_X86_64_GLOB_DAT, RELOCATE_GOT, 8},
    {R_X86_64_JUMP_SLOT, RELOCATE_PLT, 8},      {R_X86_64_SIZE32, RELOCATE_OTHER, 4},
    {R_X86_64_SIZE64, RELOCATE_OTHER, 8},       {R_X86_64_IRELATIVE, RELOCATE_RESOLVER, 8},
    {R_X86_64_DTPMOD64, RELOCATE_TLS, 8},       {R_X86_64_DTPOFF64, RELOCATE_TLS, 8},
    {R_X86_64_TLSDESC, RELOCATE_TLS, 16},       {R_X86_64_TPOFF64, RELOCATE_TLS_STATIC, 8},
};
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#define MACHINE_NAME "aarch64"
static const relocation_kind relocation_kinds[] = {
    {R_AARCH64_NONE, RELOCATE_NONE, 0},          {R_AARCH64_RELATIVE, RELOCATE_RELATIVE, 8},
    {R_AARCH64_ABS64, RELOCATE_SYMBOL, 8},       {R_AARCH64_GLOB_DAT, RELOCATE_GOT, 8},
    {R_AARCH64_JUMP_SLOT, RELOCATE_PLT, 8},      {R_AARCH64_IRELATIVE, RELOCATE_RESOLVER, 8},
    {R_AARCH64_TLS_DTPMOD, RELOCATE_TLS, 8},     {R_AARCH64_TLS_DTPREL, RELOCATE_TLS, 8},
    {R_AARCH64_TLSDESC, RELOCATE_TLS, 16},       {R_AARCH64_TLS_TPREL, RELOCATE_TLS_STATIC, 8},
};
#else
#error "preflight knows the relocations of x86-64 and aarch64"
#endif

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

/* ---- small tools ---- */

typedef struct text {
    char s[160];
} text;

static text textf(const char *format, ...) __attribute__((format(printf, 1, 2)));

static text textf(const char *format, ...) {
    text result;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result.s, sizeof result.s, format, arguments);
    va_end(arguments);
    return result;
}

/* Reads may be unaligned: nothing forces a damaged file to align its tables. */
static uint16_t read16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t read32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t read64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Whether [offset, offset + length) lies inside [0, limit); never overflows. */
static bool inside(uint64_t offset, uint64_t length, uint64_t limit) {
    return offset <= limit && length <= limit - offset;
}

static bool power_of_two(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

static uint64_t round_up(uint64_t address) { return (address + PAGE - 1) / PAGE * PAGE; }

static hr_status damaged(image *image, const char *found, const char *expected, const char *reason) {
    return hr_fail(image->failure, HR_E_NOT_ELF, found, expected, FIX_BUILD_AGAIN, "%s", reason);
}

static hr_status truncated(hr_failure *failure, const char *what, uint64_t index, uint64_t offset, uint64_t length,
                           uint64_t size) {
    uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    return hr_fail(failure, HR_E_TRUNCATED, textf("%" PRIu64 " bytes", size).s,
                   textf("at least %" PRIu64 " bytes", end).s, NULL,
                   "%s %" PRIu64 " ends at byte %" PRIu64 ", the file has %" PRIu64 " bytes", what, index, end, size);
}

/* The load that holds all of [address, address + length), or null. `file_backed`: only bytes from the file count. */
static const load *load_of(const image *image, uint64_t address, uint64_t length, bool file_backed) {
    for (uint32_t i = 0; i < image->load_count; i++) {
        const load *load = &image->loads[i];
        uint64_t end = file_backed ? load->file_end : load->end;
        if (address >= load->start && address <= end && length <= end - address) return load;
    }
    return NULL;
}

/* Where a loaded, file-backed range is in the file. */
static bool locate(const image *image, uint64_t address, uint64_t length, table *table) {
    const load *load = load_of(image, address, length, true);
    if (load == NULL) return false;
    table->address = address;
    table->offset = load->offset + (address - load->start);
    table->size = length;
    return true;
}

static bool executable(const image *image, uint64_t address) {
    const load *load = load_of(image, address, 1, true);
    return load != NULL && (load->flags & PF_X);
}

/* ---- P1, P2: header and extents ---- */

/* HR_OK also for an ELF file of another class or byte order, whose tables cannot be read: the header check names it. */
static hr_status read_header(const uint8_t *bytes, uint64_t size, hr_failure *failure, Elf64_Ehdr *header,
                             bool *readable) {
    *readable = false;
    uint64_t known = size < SELFMAG ? size : SELFMAG;
    if (memcmp(bytes, ELFMAG, (size_t)known) != 0) {
        text found = {"bytes"};
        for (uint64_t i = 0; i < known; i++)
            snprintf(found.s + 5 + 3 * i, sizeof found.s - 5 - 3 * i, " %02x", bytes[i]);
        return hr_fail(failure, HR_E_NOT_ELF, found.s, "bytes 7f 45 4c 46 (ELF)", NULL, "this is not an ELF file");
    }
    if (size < sizeof *header) return truncated(failure, "ELF header", 0, 0, sizeof *header, size);
    memcpy(header, bytes, sizeof *header);
    *readable = header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB;
    return HR_OK;
}

static hr_status section_extents(const uint8_t *bytes, uint64_t size, hr_failure *failure, const Elf64_Ehdr *header,
                                 uint64_t *section_count) {
    *section_count = 0;
    if (header->e_shoff == 0) return HR_OK;
    uint64_t count = header->e_shnum;
    if (!inside(header->e_shoff, sizeof(Elf64_Shdr), size))
        return truncated(failure, "section header", 0, header->e_shoff, sizeof(Elf64_Shdr), size);
    Elf64_Shdr section;
    if (count == 0) { /* more than 65,279 sections: the first header tells */
        memcpy(&section, bytes + header->e_shoff, sizeof section);
        count = section.sh_size;
    }
    if (header->e_shentsize != sizeof section)
        return hr_fail(failure, HR_E_NOT_ELF, textf("%u bytes", (unsigned)header->e_shentsize).s, "64 bytes",
                       FIX_BUILD_AGAIN, "section headers have an impossible size");
    if (count > size / sizeof section || !inside(header->e_shoff, count * sizeof section, size))
        return truncated(failure, "section header", count - 1, header->e_shoff,
                         count > size ? size : count * sizeof section, size);
    for (uint64_t i = 1; i < count; i++) {
        memcpy(&section, bytes + header->e_shoff + i * sizeof section, sizeof section);
        if (section.sh_type == SHT_NULL || section.sh_type == SHT_NOBITS) continue;
        if (!inside(section.sh_offset, section.sh_size, size))
            return truncated(failure, "section", i, section.sh_offset, section.sh_size, size);
    }
    *section_count = count;
    return HR_OK;
}

static hr_status extents(const uint8_t *bytes, uint64_t size, hr_failure *failure, const Elf64_Ehdr *header,
                         uint64_t *section_count) {
    if (header->e_phnum != 0 && header->e_phentsize != sizeof(Elf64_Phdr))
        return hr_fail(failure, HR_E_NOT_ELF, textf("%u bytes", (unsigned)header->e_phentsize).s, "56 bytes",
                       FIX_BUILD_AGAIN, "program headers have an impossible size");
    uint64_t length = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (!inside(header->e_phoff, length, size))
        return truncated(failure, "program header", header->e_phnum > 0 ? header->e_phnum - 1u : 0, header->e_phoff,
                         length, size);
    for (uint32_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, bytes + header->e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_NULL && !inside(segment.p_offset, segment.p_filesz, size))
            return truncated(failure, "segment", i, segment.p_offset, segment.p_filesz, size);
    }
    return section_extents(bytes, size, failure, header, section_count);
}

static const char *machine_name(uint32_t machine) {
    switch (machine) {
    case EM_386: return "32-bit x86";
    case EM_X86_64: return "x86-64";
    case EM_ARM: return "32-bit arm";
    case EM_AARCH64: return "aarch64";
    case EM_RISCV: return "riscv";
    case EM_PPC64: return "ppc64";
    case EM_S390: return "s390";
    default: return "an unknown machine";
    }
}

static const char *type_name(uint32_t type) {
    switch (type) {
    case ET_REL: return "an object file (.o)";
    case ET_EXEC: return "an executable";
    case ET_CORE: return "a core dump";
    default: return "an ELF file of unknown type";
    }
}

static hr_status check_header(image *image) {
    const Elf64_Ehdr *header = &image->header;
    const uint8_t *ident = header->e_ident;
    if (ident[EI_DATA] != ELFDATA2LSB || (ident[EI_CLASS] == ELFCLASS64 && header->e_machine != MACHINE))
        return hr_fail(image->failure, HR_E_ARCH,
                       ident[EI_DATA] == ELFDATA2LSB
                           ? textf("%s (machine %u)", machine_name(header->e_machine), header->e_machine).s
                           : textf("byte order %u", ident[EI_DATA]).s,
                       textf("%s (machine %u), little endian", MACHINE_NAME, MACHINE).s, NULL,
                       "built for %s", ident[EI_DATA] == ELFDATA2LSB ? machine_name(header->e_machine)
                                                                     : "another byte order");
    if (ident[EI_CLASS] != ELFCLASS64)
        return hr_fail(image->failure, HR_E_ARCH, textf("ELF class %u", ident[EI_CLASS]).s, "ELF class 2 (64-bit)",
                       "build without -m32 or -mx32, for the host's own target", "built for a 32-bit process");
    if ((ident[EI_OSABI] != ELFOSABI_SYSV && ident[EI_OSABI] != ELFOSABI_GNU) || header->e_flags != 0)
        return hr_fail(image->failure, HR_E_ARCH,
                       textf("OS ABI %u, flags 0x%x", ident[EI_OSABI], header->e_flags).s, "OS ABI 0 or 3, flags 0x0",
                       NULL, "built for another operating system");
    if (ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT || ident[EI_ABIVERSION] != 0)
        return damaged(image, textf("version %u, %u", ident[EI_VERSION], header->e_version).s, "version 1",
                       "the ELF version is unknown");
    for (int i = EI_PAD; i < EI_NIDENT; i++)
        if (ident[i] != 0) return damaged(image, NULL, NULL, "the ELF header's padding is not zero");
    if (header->e_type != ET_DYN)
        return hr_fail(image->failure, HR_E_NOT_ELF, type_name(header->e_type), "a shared library", NULL,
                       "this is %s, not a shared library", type_name(header->e_type));
    return HR_OK;
}

/* ---- P3, P4: segments ---- */

static hr_status bad_segment(image *image, uint32_t index, const char *reason) {
    const Elf64_Phdr *segment = &image->program[index];
    return hr_fail(image->failure, HR_E_NOT_ELF,
                   textf("address 0x%" PRIx64 ", offset 0x%" PRIx64 ", size 0x%" PRIx64 ", in memory 0x%" PRIx64
                         ", alignment 0x%" PRIx64,
                         segment->p_vaddr, segment->p_offset, segment->p_filesz, segment->p_memsz, segment->p_align)
                       .s,
                   NULL, FIX_BUILD_AGAIN, "segment %u (type 0x%x) %s", index, segment->p_type, reason);
}

static hr_status add_load(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    if (image->load_count == LOADS_MAX) return bad_segment(image, index, "is one loaded segment too many");
    if (segment->p_memsz < segment->p_filesz) return bad_segment(image, index, "is larger in the file than in memory");
    if (segment->p_vaddr > SPAN_MAX || segment->p_memsz > SPAN_MAX)
        return bad_segment(image, index, "is impossibly far");
    if (!power_of_two(segment->p_align) || segment->p_align < PAGE || segment->p_align > SPAN_MAX)
        return bad_segment(image, index, "is not aligned to pages");
    if (((segment->p_vaddr - segment->p_offset) & (segment->p_align - 1)) != 0)
        return bad_segment(image, index, "has an address and an offset that do not agree");
    if (!(segment->p_flags & PF_R)) return bad_segment(image, index, "is not readable");
    /* The loader maps, and clears, the rest of the page of a segment without bytes too. */
    if (segment->p_filesz == 0 && segment->p_memsz != 0 && segment->p_vaddr % PAGE != 0 &&
        segment->p_offset / PAGE * PAGE >= image->size)
        return bad_segment(image, index, "starts in a page behind the end of the file");
    load *load = &image->loads[image->load_count];
    *load = (struct load){
        .start = segment->p_vaddr,
        .file_end = segment->p_vaddr + segment->p_filesz,
        .end = segment->p_vaddr + segment->p_memsz,
        .offset = segment->p_offset,
        .flags = segment->p_flags,
        .index = index,
    };
    if (image->load_count > 0) {
        if (load->start / PAGE * PAGE < round_up(load[-1].end))
            return bad_segment(image, index, "overlaps the one before, or comes before it");
    }
    image->load_count++;
    return HR_OK;
}

/* P4. The loader, or what comes after it, reads it: its place in the file must be the one that is mapped there. */
static hr_status check_inner_segment(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    const load *load = load_of(image, segment->p_vaddr, segment->p_memsz, true);
    if (load == NULL) return bad_segment(image, index, "lies outside the loaded segments");
    if (segment->p_filesz != segment->p_memsz) return bad_segment(image, index, "is not wholly in the file");
    if (segment->p_offset - load->offset != segment->p_vaddr - load->start)
        return bad_segment(image, index, "has an address and an offset that do not agree");
    return HR_OK;
}

/* What becomes read-only once it is relocated. lld lets it end with the page, behind the segment's own end. */
static hr_status check_relro(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    const load *load = load_of(image, segment->p_vaddr, 0, false);
    if (load == NULL || !inside(segment->p_vaddr - load->start, segment->p_memsz, round_up(load->end) - load->start))
        return bad_segment(image, index, "lies outside the loaded segments");
    if (!(load->flags & PF_W) || segment->p_offset - load->offset != segment->p_vaddr - load->start)
        return bad_segment(image, index, "is not the start of what is written to");
    image->relro = *segment;
    return HR_OK;
}

static hr_status check_tls(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    if (segment->p_memsz == 0) return HR_OK; /* the loader ignores it too */
    if (image->has_tls) return bad_segment(image, index, "is a second one for thread-local storage");
    if (segment->p_memsz < segment->p_filesz || segment->p_memsz > SPAN_MAX)
        return bad_segment(image, index, "has an impossible size");
    if (!power_of_two(segment->p_align) || segment->p_align > TLS_ALIGN_MAX)
        return bad_segment(image, index, "has an impossible alignment");
    if (segment->p_filesz != 0) {
        const load *load = load_of(image, segment->p_vaddr, segment->p_filesz, true);
        if (load == NULL) return bad_segment(image, index, "lies outside the loaded segments");
        if (segment->p_offset - load->offset != segment->p_vaddr - load->start)
            return bad_segment(image, index, "has an address and an offset that do not agree");
    }
    image->has_tls = true;
    image->tls = *segment;
    return HR_OK;
}

static hr_status check_segment(image *image, uint32_t index, bool *has_dynamic) {
    const Elf64_Phdr *segment = &image->program[index];
    switch (segment->p_type) {
    case PT_DYNAMIC:
        if (*has_dynamic) return bad_segment(image, index, "is a second dynamic section");
        *has_dynamic = true;
        image->dynamic.at = (table){segment->p_vaddr, segment->p_offset, segment->p_filesz};
        return check_inner_segment(image, index);
    case PT_TLS: return check_tls(image, index);
    case PT_PHDR:
        if (segment->p_offset != image->header.e_phoff ||
            segment->p_filesz != (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr))
            return bad_segment(image, index, "does not describe the program headers");
        return check_inner_segment(image, index);
    case PT_GNU_EH_FRAME:
        image->unwind = (table){segment->p_vaddr, segment->p_offset, segment->p_filesz};
        return check_inner_segment(image, index);
    case PT_NOTE:
    case PT_GNU_PROPERTY: return check_inner_segment(image, index);
    case PT_GNU_RELRO: return check_relro(image, index);
    case PT_GNU_STACK:
        if (segment->p_flags & PF_X) image->warnings |= HR_WARN_EXECSTACK;
        return HR_OK;
    default: return HR_OK; /* PT_LOAD is done; the loader ignores what it does not know */
    }
}

static hr_status check_segments(image *image) {
    const Elf64_Ehdr *header = &image->header;
    if (header->e_phnum > PROGRAM_HEADERS_MAX)
        return damaged(image, textf("%u", header->e_phnum).s, textf("at most %d", PROGRAM_HEADERS_MAX).s,
                       "there are too many program headers");
    hr_status status = HR_OK;
    memcpy(image->program, image->bytes + header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
    for (uint32_t i = 0; i < header->e_phnum && status == HR_OK; i++)
        if (image->program[i].p_type == PT_LOAD) status = add_load(image, i);
    if (status != HR_OK) return status;
    if (image->load_count == 0) return damaged(image, NULL, NULL, "no segment is loaded");
    bool has_dynamic = false;
    for (uint32_t i = 0; i < header->e_phnum && status == HR_OK; i++) status = check_segment(image, i, &has_dynamic);
    if (status == HR_OK && !has_dynamic)
        return hr_fail(image->failure, HR_E_NOT_ELF, NULL, "a dynamic section", NULL, "this is no dynamic library");
    return status;
}

/* ---- P5: sections, as further evidence ---- */

static Elf64_Shdr section_at(const image *image, uint64_t index) {
    Elf64_Shdr section;
    memcpy(&section, image->bytes + image->header.e_shoff + index * sizeof section, sizeof section);
    return section;
}

/* The name of a section, or "" where the file does not give it whole. */
static const char *section_name(const image *image, const Elf64_Shdr *section) {
    uint64_t index = image->header.e_shstrndx;
    if (index == SHN_XINDEX) index = section_at(image, 0).sh_link;
    if (index == 0 || index >= image->section_count) return ""; /* the first header is no section: P2 leaves it alone */
    Elf64_Shdr names = section_at(image, index);
    if (names.sh_type != SHT_STRTAB || section->sh_name >= names.sh_size) return "";
    const char *name = (const char *)image->bytes + names.sh_offset + section->sh_name;
    return memchr(name, 0, (size_t)(names.sh_size - section->sh_name)) != NULL ? name : "";
}

static hr_status bad_section(image *image, uint64_t index, const Elf64_Shdr *section, const char *reason) {
    return hr_fail(image->failure, HR_E_NOT_ELF,
                   textf("%.40s at 0x%" PRIx64 ", offset 0x%" PRIx64 ", size 0x%" PRIx64, section_name(image, section),
                         section->sh_addr, section->sh_offset, section->sh_size)
                       .s,
                   NULL, FIX_BUILD_AGAIN, "section %" PRIu64 " %s", index, reason);
}

/* Whether the pages that become read-only after relocation hold data that the module's code writes to. */
static bool in_relro(const image *image, const Elf64_Shdr *section) {
    const Elf64_Phdr *relro = &image->relro;
    if (relro->p_memsz == 0) return false;
    uint64_t start = relro->p_vaddr / PAGE * PAGE, end = (relro->p_vaddr + relro->p_memsz) / PAGE * PAGE;
    return section->sh_addr < end && section->sh_addr + section->sh_size > start;
}

static hr_status check_section(image *image, uint64_t index, const Elf64_Shdr *section) {
    bool in_file = section->sh_type != SHT_NOBITS;
    if (!in_file && (section->sh_flags & SHF_TLS)) return HR_OK; /* .tbss takes no room in the image */
    const load *load = load_of(image, section->sh_addr, section->sh_size, in_file);
    if (load == NULL) return bad_section(image, index, section, "lies outside the loaded segments");
    if (in_file && section->sh_offset - load->offset != section->sh_addr - load->start)
        return bad_section(image, index, section, "is not where its segment is");
    if (((section->sh_flags & SHF_WRITE) && !(load->flags & PF_W)) ||
        ((section->sh_flags & SHF_EXECINSTR) && !(load->flags & PF_X)))
        return bad_section(image, index, section, "is in a segment of other permissions");
    const char *name = section_name(image, section);
    if ((strcmp(name, ".data") == 0 || strcmp(name, ".bss") == 0) && in_relro(image, section))
        return bad_section(image, index, section, "would be read-only");
    return HR_OK;
}

static hr_status check_sections(image *image) {
    hr_status status = HR_OK;
    for (uint64_t i = 1; i < image->section_count && status == HR_OK; i++) {
        Elf64_Shdr section = section_at(image, i);
        if ((section.sh_flags & SHF_ALLOC) && section.sh_size != 0 && section.sh_type != SHT_NULL)
            status = check_section(image, i, &section);
        if (section.sh_type == SHT_SYMTAB && section.sh_entsize == sizeof(Elf64_Sym))
            image->all_symbols = (table){0, section.sh_offset, section.sh_size / sizeof(Elf64_Sym)};
    }
    return status;
}

/* ---- P6: the dynamic section ---- */

#define HAS(image, tag) (((image)->dynamic.present >> (tag)) & 1)
#define VALUE(image, tag) ((image)->dynamic.values[tag])

static hr_status read_dynamic(image *image) {
    dynamic *dynamic = &image->dynamic;
    const load *load = load_of(image, dynamic->at.address, dynamic->at.size, true);
    /* Loaders before glibc 2.35 write into it whatever its flags say. */
    if (!(load->flags & PF_W)) return damaged(image, NULL, "a writable one", "the dynamic section is read-only");
    uint64_t limit = dynamic->at.size / sizeof(Elf64_Dyn);
    for (uint64_t i = 0; i < limit; i++) {
        Elf64_Dyn entry;
        memcpy(&entry, image->bytes + dynamic->at.offset + i * sizeof entry, sizeof entry);
        if (entry.d_tag == DT_NULL) {
            dynamic->count = i;
            return HR_OK;
        }
        if (entry.d_tag > 0 && entry.d_tag < TAGS) {
            dynamic->values[entry.d_tag] = entry.d_un.d_val;
            dynamic->present |= UINT64_C(1) << entry.d_tag;
        }
        uint64_t *table = NULL;
        switch (entry.d_tag) {
        case DT_GNU_HASH: table = &dynamic->gnu_hash; break;
        case DT_VERSYM: table = &dynamic->versym; break;
        case DT_VERNEED: table = &dynamic->verneed; break;
        case DT_VERDEF: table = &dynamic->verdef; break;
        case DT_RELACOUNT: dynamic->relacount = entry.d_un.d_val; break;
        case DT_FLAGS_1: dynamic->flags_1 = entry.d_un.d_val; break;
        default: break;
        }
        if (table != NULL && entry.d_un.d_val == 0)
            return damaged(image, textf("tag 0x%" PRIx64, (uint64_t)entry.d_tag).s, "an address",
                           "the dynamic section names a table without its address");
        if (table != NULL) *table = entry.d_un.d_val;
    }
    return damaged(image, NULL, "a DT_NULL entry at its end", "the dynamic section does not end");
}

/* A table of the dynamic section: its address, size and entry size. Absent is fine unless its size is there. */
static hr_status find_table(image *image, const char *name, uint32_t address_tag, uint32_t size_tag,
                            uint32_t entry_tag, uint64_t entry_size, table *table) {
    if (!HAS(image, address_tag)) {
        if (HAS(image, size_tag) && VALUE(image, size_tag) != 0)
            return damaged(image, NULL, name, "the dynamic section gives a table's size without its address");
        return HR_OK;
    }
    if (!HAS(image, size_tag)) return damaged(image, NULL, name, "the dynamic section gives a table without its size");
    if (entry_tag != 0 && (!HAS(image, entry_tag) || VALUE(image, entry_tag) != entry_size))
        return damaged(image, NULL, textf("%s entries of %" PRIu64 " bytes", name, entry_size).s,
                       "the entries of a table have an impossible size");
    uint64_t size = VALUE(image, size_tag);
    if (size % entry_size != 0 || !locate(image, VALUE(image, address_tag), size, table))
        return damaged(image, textf("address 0x%" PRIx64 ", size 0x%" PRIx64, VALUE(image, address_tag), size).s, name,
                       "a table lies outside the loaded segments");
    return HR_OK;
}

static hr_status check_flags(image *image) {
    uint64_t flags = HAS(image, DT_FLAGS) ? VALUE(image, DT_FLAGS) : 0, flags_1 = image->dynamic.flags_1;
    if (HAS(image, DT_TEXTREL) || (flags & DF_TEXTREL))
        return hr_fail(image->failure, HR_E_NOT_ELF, "DT_TEXTREL", "position-independent code",
                       "build every object with -fPIC", "the module's code would be written to while it is loaded");
    if (flags_1 & DF_1_PIE)
        return hr_fail(image->failure, HR_E_NOT_ELF, "a position-independent executable", "a shared library", NULL,
                       "this is an executable, not a shared library");
    if (flags_1 & DF_1_NOOPEN)
        return hr_fail(image->failure, HR_E_NOT_ELF, "DF_1_NOOPEN", NULL, "link without -z nodlopen",
                       "the module forbids dlopen");
    if (flags_1 & DF_1_NODELETE) image->warnings |= HR_WARN_NODELETE;
    if (flags & DF_STATIC_TLS) image->warnings |= HR_WARN_STATIC_TLS;
    return HR_OK;
}

static hr_status check_dynamic(image *image) {
    hr_status status = read_dynamic(image);
    if (status == HR_OK) status = check_flags(image);
    if (status != HR_OK) return status;
    if (!HAS(image, DT_SYMTAB) || !HAS(image, DT_STRTAB) || !HAS(image, DT_STRSZ))
        return damaged(image, NULL, "DT_SYMTAB, DT_STRTAB and DT_STRSZ", "the dynamic section names no symbols");
    if (HAS(image, DT_SYMENT) && VALUE(image, DT_SYMENT) != sizeof(Elf64_Sym))
        return damaged(image, NULL, "24 bytes", "symbols have an impossible size");
    if (HAS(image, DT_REL)) return damaged(image, "DT_REL", "DT_RELA", "relocations of a kind not used here");
    status = find_table(image, "string table", DT_STRTAB, DT_STRSZ, 0, 1, &image->strings);
    if (status == HR_OK)
        status = find_table(image, "DT_RELA", DT_RELA, DT_RELASZ, DT_RELAENT, sizeof(Elf64_Rela), &image->relocations);
    if (status == HR_OK)
        status = find_table(image, "DT_JMPREL", DT_JMPREL, DT_PLTRELSZ, 0, sizeof(Elf64_Rela), &image->plt_relocations);
    if (status == HR_OK)
        status = find_table(image, "DT_RELR", DT_RELR, DT_RELRSZ, DT_RELRENT, sizeof(uint64_t), &image->relr);
    if (status != HR_OK) return status;
    /* The loader uses each of the three once it sees DT_PLTREL, and asserts its value. */
    if (HAS(image, DT_PLTREL) != HAS(image, DT_JMPREL) ||
        (HAS(image, DT_PLTREL) && VALUE(image, DT_PLTREL) != DT_RELA))
        return damaged(image, NULL, "DT_JMPREL and DT_PLTRELSZ with DT_PLTREL = DT_RELA",
                       "the relocations of the procedure linkage table are incomplete");
    if (image->strings.size == 0 || image->bytes[image->strings.offset + image->strings.size - 1] != 0)
        return damaged(image, NULL, "a zero at its end", "the string table does not end");
    return HR_OK;
}

/* ---- P7: symbols ---- */

static Elf64_Sym symbol_at(const image *image, uint32_t index) {
    Elf64_Sym symbol;
    memcpy(&symbol, image->bytes + image->symbols.offset + (uint64_t)index * sizeof symbol, sizeof symbol);
    return symbol;
}

/* A name of the string table; its offset has been checked. */
static const char *string_at(const image *image, uint64_t offset) {
    return (const char *)image->bytes + image->strings.offset + offset;
}

static uint32_t gnu_hash_of(const char *name) {
    uint32_t hash = 5381;
    for (; *name != 0; name++) hash = hash * 33 + (uint8_t)*name;
    return hash;
}

static uint32_t sysv_hash_of(const char *name) {
    uint32_t hash = 0;
    for (; *name != 0; name++) {
        hash = (hash << 4) + (uint8_t)*name;
        uint32_t high = hash & 0xf0000000u;
        hash = (hash ^ (high >> 24)) & ~high;
    }
    return hash;
}

/* The words of a DT_GNU_HASH table, each a pointer into the file. */
typedef struct gnu_hash {
    uint32_t bucket_count, symbol_offset, bloom_count, bloom_shift;
    const uint8_t *bloom, *buckets, *chain;
    uint64_t chain_length; /* words up to the end of the file's part of the segment */
} gnu_hash;

static hr_status bad_hash(image *image, const char *reason) { return damaged(image, NULL, NULL, reason); }

static hr_status no_symbols(image *image) {
    return hr_fail(image->failure, HR_E_NO_MANIFEST, "no exported symbol", EXPORT, FIX_EXPORT,
                   "the library exports no symbols");
}

static hr_status read_gnu_hash(image *image, gnu_hash *hash) {
    const load *load = load_of(image, image->dynamic.gnu_hash, 16, true);
    if (load == NULL) return bad_hash(image, "the symbol hash table lies outside the loaded segments");
    const uint8_t *at = image->bytes + load->offset + (image->dynamic.gnu_hash - load->start);
    uint64_t left = load->file_end - image->dynamic.gnu_hash - 16;
    *hash = (gnu_hash){read32(at), read32(at + 4), read32(at + 8), read32(at + 12), at + 16, NULL, NULL, 0};
    if (!power_of_two(hash->bloom_count) || hash->bloom_shift >= 32)
        return bad_hash(image, "the symbol hash table's filter is impossible");
    uint64_t tables = (uint64_t)hash->bloom_count * 8 + (uint64_t)hash->bucket_count * 4;
    if (tables > left) return bad_hash(image, "the symbol hash table is cut off");
    hash->buckets = hash->bloom + (uint64_t)hash->bloom_count * 8;
    hash->chain = hash->buckets + (uint64_t)hash->bucket_count * 4;
    hash->chain_length = (left - tables) / 4;
    image->hash = (table){image->dynamic.gnu_hash, 0, 16 + tables};
    return HR_OK;
}

/* All chains end where the last one does, or before: the loader walks each up to its first odd word. */
static hr_status count_gnu_symbols(image *image) {
    gnu_hash hash;
    hr_status status = read_gnu_hash(image, &hash);
    if (status != HR_OK) return status;
    uint32_t last = 0;
    for (uint32_t i = 0; i < hash.bucket_count; i++) {
        uint32_t first = read32(hash.buckets + (uint64_t)i * 4);
        if (first != 0 && first < hash.symbol_offset) return bad_hash(image, "a symbol hash chain starts too early");
        if (first > last) last = first;
    }
    image->symbol_count = hash.symbol_offset;
    if (last == 0) return no_symbols(image); /* and then the table does not tell how many symbols there are either */
    for (uint64_t i = last - hash.symbol_offset; i < hash.chain_length; i++)
        if (read32(hash.chain + i * 4) & 1) {
            image->symbol_count = hash.symbol_offset + (uint32_t)i + 1;
            return HR_OK;
        }
    return bad_hash(image, "a symbol hash chain does not end");
}

static bool in_filter(const gnu_hash *hash, uint32_t value) {
    uint64_t word = read64(hash->bloom + (uint64_t)((value / 64) & (hash->bloom_count - 1)) * 8);
    return (word >> (value % 64)) & (word >> ((value >> hash->bloom_shift) % 64)) & 1;
}

/* Every symbol of the table has to be found by its name: one that is not, and is weak, would be taken for absent, and
 * whoever calls it calls address 0. */
static hr_status verify_gnu_hash(image *image) {
    gnu_hash hash;
    hr_status status = read_gnu_hash(image, &hash);
    if (status != HR_OK) return status;
    uint32_t reached = 0, hashed = image->symbol_count - hash.symbol_offset;
    for (uint32_t i = 0; i < hash.bucket_count; i++) {
        uint32_t symbol = read32(hash.buckets + (uint64_t)i * 4), link = symbol == 0;
        for (; !(link & 1); symbol++) {
            link = read32(hash.chain + (uint64_t)(symbol - hash.symbol_offset) * 4);
            uint32_t value = gnu_hash_of(string_at(image, symbol_at(image, symbol).st_name));
            if (value % hash.bucket_count != i || ((link ^ value) >> 1) != 0 || !in_filter(&hash, value))
                return damaged(image, textf("symbol %u", symbol).s, NULL,
                               "the symbol hash table does not match the names");
            reached++;
        }
    }
    return reached == hashed ? HR_OK : bad_hash(image, "symbols are missing from the symbol hash table");
}

static hr_status count_sysv_symbols(image *image) {
    table *hash = &image->hash;
    uint64_t address = VALUE(image, DT_HASH);
    if (!locate(image, address, 8, hash))
        return bad_hash(image, "the symbol hash table lies outside the loaded segments");
    const uint8_t *at = image->bytes + hash->offset;
    uint32_t buckets = read32(at), count = read32(at + 4);
    if (!locate(image, address, 8 + ((uint64_t)buckets + count) * 4, hash))
        return bad_hash(image, "the symbol hash table is cut off");
    const uint8_t *chain = at + 8 + (uint64_t)buckets * 4;
    uint64_t steps = 0; /* a symbol is in one chain: more steps than symbols mean a circle */
    for (uint32_t i = 0; i < buckets; i++)
        for (uint32_t n = read32(at + 8 + (uint64_t)i * 4); n != 0; n = read32(chain + (uint64_t)n * 4))
            if (n >= count || ++steps > count) return bad_hash(image, "a symbol hash chain does not end");
    image->symbol_count = count;
    return HR_OK;
}

static hr_status verify_sysv_hash(image *image) {
    const uint8_t *at = image->bytes + image->hash.offset;
    uint32_t buckets = read32(at), reached = 0, defined = 0;
    const uint8_t *chain = at + 8 + (uint64_t)buckets * 4;
    for (uint32_t i = 0; i < buckets; i++)
        for (uint32_t n = read32(at + 8 + (uint64_t)i * 4); n != 0; n = read32(chain + (uint64_t)n * 4)) {
            Elf64_Sym symbol = symbol_at(image, n);
            if (sysv_hash_of(string_at(image, symbol.st_name)) % buckets != i)
                return damaged(image, textf("symbol %u", n).s, NULL, "the symbol hash table does not match the names");
            reached += symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) != STB_LOCAL;
        }
    for (uint32_t i = 1; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, i);
        defined += symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) != STB_LOCAL;
    }
    return reached == defined ? HR_OK : bad_hash(image, "symbols are missing from the symbol hash table");
}

static hr_status check_symbols(image *image) {
    hr_status status;
    if (image->dynamic.gnu_hash != 0) status = count_gnu_symbols(image); /* the loader's choice when both are there */
    else if (HAS(image, DT_HASH)) status = count_sysv_symbols(image);
    else return no_symbols(image);
    if (status != HR_OK) return status;
    if (!locate(image, VALUE(image, DT_SYMTAB), (uint64_t)image->symbol_count * sizeof(Elf64_Sym), &image->symbols))
        return damaged(image, textf("%u symbols at 0x%" PRIx64, image->symbol_count, VALUE(image, DT_SYMTAB)).s, NULL,
                       "the symbol table lies outside the loaded segments");
    for (uint32_t i = 0; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, i);
        if (symbol.st_name >= image->strings.size)
            return damaged(image, textf("symbol %u", i).s, NULL, "a symbol's name lies outside the string table");
        if (symbol.st_shndx == SHN_UNDEF && symbol.st_value != 0) /* the loader would take it for a definition */
            return damaged(image, string_at(image, symbol.st_name), NULL, "an undefined symbol has an address");
        if (symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) == STB_GNU_UNIQUE)
            image->warnings |= HR_WARN_UNIQUE;
        if (symbol.st_shndx == SHN_UNDEF && strncmp(string_at(image, symbol.st_name), "__cxa_thread_atexit", 19) == 0)
            image->warnings |= HR_WARN_TLS_DESTRUCTOR;
    }
    return image->dynamic.gnu_hash != 0 ? verify_gnu_hash(image) : verify_sysv_hash(image);
}

static bool is_symbol(const image *image, uint32_t index, const char *name) {
    Elf64_Sym symbol = symbol_at(image, index);
    return symbol.st_shndx != SHN_UNDEF && symbol.st_value != 0 && ELF64_ST_BIND(symbol.st_info) != STB_LOCAL &&
           strcmp(string_at(image, symbol.st_name), name) == 0;
}

static bool find_gnu(image *image, const char *name, uint32_t *index) {
    gnu_hash hash;
    if (read_gnu_hash(image, &hash) != HR_OK || hash.bucket_count == 0) return false; /* the filter is verified */
    uint32_t wanted = gnu_hash_of(name);
    uint32_t symbol = read32(hash.buckets + (uint64_t)(wanted % hash.bucket_count) * 4);
    if (symbol == 0) return false;
    for (;; symbol++) {
        uint32_t found = read32(hash.chain + (uint64_t)(symbol - hash.symbol_offset) * 4);
        if (((found ^ wanted) >> 1) == 0 && is_symbol(image, symbol, name)) {
            *index = symbol;
            return true;
        }
        if (found & 1) return false;
    }
}

static bool find_sysv(const image *image, const char *name, uint32_t *index) {
    const uint8_t *at = image->bytes + image->hash.offset;
    uint32_t buckets = read32(at);
    if (buckets == 0) return false;
    const uint8_t *chain = at + 8 + (uint64_t)buckets * 4;
    uint32_t symbol = read32(at + 8 + (uint64_t)(sysv_hash_of(name) % buckets) * 4);
    for (; symbol != 0; symbol = read32(chain + (uint64_t)symbol * 4))
        if (is_symbol(image, symbol, name)) {
            *index = symbol;
            return true;
        }
    return false;
}

/* As dlsym would find it, through the hash table: a symbol that is only in the symbol table is not exported. */
static bool find_symbol(image *image, const char *name, uint32_t *index) {
    return image->dynamic.gnu_hash != 0 ? find_gnu(image, name, index) : find_sysv(image, name, index);
}

/* ---- P7: names ---- */

static Elf64_Dyn dynamic_entry(const image *image, uint64_t index) {
    Elf64_Dyn entry;
    memcpy(&entry, image->bytes + image->dynamic.at.offset + index * sizeof entry, sizeof entry);
    return entry;
}

/* Sets a bit, and tells whether it was set. */
static bool mark(uint64_t *bits, uint64_t index) {
    uint64_t bit = UINT64_C(1) << (index % 64);
    bool marked = bits[index / 64] & bit;
    bits[index / 64] |= bit;
    return marked;
}

static bool names_library(uint64_t tag) {
    return tag == DT_NEEDED || tag == DT_SONAME || tag == DT_RPATH || tag == DT_RUNPATH || tag == DT_AUXILIARY ||
           tag == DT_FILTER;
}

/* Linkers let a name be the end of a longer one, which then is a name too. The end of a string that nobody uses comes
 * from a damaged offset: "exit" of "__cxa_atexit". */
static hr_status check_name_ends(image *image) {
    uint64_t *starts = calloc(image->strings.size / 64 + 1, 8);
    if (starts == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    for (uint32_t i = 0; i < image->symbol_count; i++) mark(starts, symbol_at(image, i).st_name);
    for (uint64_t i = 0; i < image->dynamic.count; i++) {
        Elf64_Dyn entry = dynamic_entry(image, i);
        if (names_library((uint64_t)entry.d_tag) && entry.d_un.d_val < image->strings.size)
            mark(starts, entry.d_un.d_val);
    }
    hr_status status = HR_OK;
    for (uint32_t i = 1; i < image->symbol_count && status == HR_OK; i++) {
        uint64_t name = symbol_at(image, i).st_name, start = name;
        while (start > 0 && *string_at(image, start - 1) != 0) start--;
        if (start != name && !mark(starts, start))
            status = damaged(image, string_at(image, name), string_at(image, start),
                             "a symbol's name is the end of another one, which is no name");
    }
    free(starts);
    return status;
}

/* ---- P6, P8: names of libraries, and symbol versions ---- */

static hr_status bad_versions(image *image, const char *reason) { return damaged(image, NULL, NULL, reason); }

static hr_status check_library_names(image *image) {
    for (uint64_t i = 0; i < image->dynamic.count; i++) {
        Elf64_Dyn entry = dynamic_entry(image, i);
        if (!names_library((uint64_t)entry.d_tag)) continue;
        if (entry.d_un.d_val >= image->strings.size)
            return damaged(image, textf("tag 0x%" PRIx64, (uint64_t)entry.d_tag).s, NULL,
                           "a library's name lies outside the string table");
        if (entry.d_tag == DT_NEEDED && *string_at(image, entry.d_un.d_val) == 0)
            return damaged(image, NULL, NULL, "the name of a needed library is empty");
    }
    return HR_OK;
}

/* The loader asserts that a file which must have certain versions is among those that were loaded. */
static bool is_needed(const image *image, const char *library) {
    for (uint64_t i = 0; i < image->dynamic.count; i++) {
        Elf64_Dyn entry = dynamic_entry(image, i);
        if (entry.d_tag == DT_NEEDED && strcmp(string_at(image, entry.d_un.d_val), library) == 0) return true;
    }
    return false;
}

/* The bytes from `address` to the end of the file's part of its segment: version tables tell no length. */
static bool locate_rest(const image *image, uint64_t address, table *table) {
    const load *load = load_of(image, address, 1, true);
    return load != NULL && locate(image, address, load->file_end - address, table);
}

static hr_status check_needed_version(image *image, const table *table, uint64_t at) {
    Elf64_Verneed need;
    memcpy(&need, image->bytes + table->offset + at, sizeof need);
    if (need.vn_version != VER_NEED_CURRENT || need.vn_file >= image->strings.size ||
        !is_needed(image, string_at(image, need.vn_file)))
        return bad_versions(image, "a needed version names no needed library");
    uint64_t next = at + need.vn_aux;
    for (;;) {
        Elf64_Vernaux version;
        if (!inside(next, sizeof version, table->size)) return bad_versions(image, "the needed versions do not end");
        memcpy(&version, image->bytes + table->offset + next, sizeof version);
        if (version.vna_name >= image->strings.size) return bad_versions(image, "the name of a version is missing");
        uint32_t index = version.vna_other & 0x7FFF;
        if (index > image->version_max) image->version_max = index;
        if (version.vna_next == 0) return HR_OK;
        next += version.vna_next;
    }
}

static hr_status check_needed_versions(image *image) {
    table table;
    if (!locate_rest(image, image->dynamic.verneed, &table))
        return bad_versions(image, "the needed versions lie outside the loaded segments");
    for (uint64_t at = 0;;) {
        Elf64_Verneed need;
        if (!inside(at, sizeof need, table.size)) return bad_versions(image, "the needed versions do not end");
        hr_status status = check_needed_version(image, &table, at);
        if (status != HR_OK) return status;
        memcpy(&need, image->bytes + table.offset + at, sizeof need);
        if (need.vn_next == 0) return HR_OK;
        at += need.vn_next;
    }
}

static hr_status check_defined_versions(image *image) {
    table table;
    if (!locate_rest(image, image->dynamic.verdef, &table))
        return bad_versions(image, "the defined versions lie outside the loaded segments");
    for (uint64_t at = 0;;) {
        Elf64_Verdef definition;
        Elf64_Verdaux name;
        if (!inside(at, sizeof definition, table.size)) return bad_versions(image, "the defined versions do not end");
        memcpy(&definition, image->bytes + table.offset + at, sizeof definition);
        if (definition.vd_version != VER_DEF_CURRENT || !inside(at + definition.vd_aux, sizeof name, table.size))
            return bad_versions(image, "a defined version is cut off");
        memcpy(&name, image->bytes + table.offset + at + definition.vd_aux, sizeof name);
        if (name.vda_name >= image->strings.size) return bad_versions(image, "the name of a version is missing");
        uint32_t index = definition.vd_ndx & 0x7FFF;
        if (index > image->version_max) image->version_max = index;
        if (definition.vd_next == 0) return HR_OK;
        at += definition.vd_next;
    }
}

/* The loader allocates version_max + 1 versions, none when that is 0, and indexes them by each symbol's number. */
static hr_status check_version_numbers(image *image) {
    if (!locate(image, image->dynamic.versym, (uint64_t)image->symbol_count * 2, &image->versions))
        return bad_versions(image, "the symbols' versions lie outside the loaded segments");
    for (uint32_t i = 0; i < image->symbol_count; i++)
        if ((read16(image->bytes + image->versions.offset + (uint64_t)i * 2) & 0x7FFF) > image->version_max)
            return damaged(image, textf("symbol %u", i).s, textf("a version up to %u", image->version_max).s,
                           "a symbol has a version that does not exist");
    return HR_OK;
}

static hr_status check_versions(image *image) {
    const dynamic *dynamic = &image->dynamic;
    hr_status status = check_library_names(image);
    if (status == HR_OK && dynamic->verneed != 0) status = check_needed_versions(image);
    if (status == HR_OK && dynamic->verdef != 0) status = check_defined_versions(image);
    if (status != HR_OK) return status;
    if (dynamic->versym != 0) return check_version_numbers(image);
    if (dynamic->verneed != 0 || dynamic->verdef != 0)
        return bad_versions(image, "there are versions, and none is given for the symbols");
    return HR_OK;
}

/* ---- P10: where functions start ---- */

/* The function around an address as the unwind table has it: a sorted array of starts, with a record for each. */
static bool unwind_range(const image *image, uint64_t address, uint64_t *start, uint64_t *end) {
    const uint8_t *at = image->bytes + image->unwind.offset;
    uint64_t base = image->unwind.address;
    /* Version 1, a 4-byte pointer, a 4-byte count, pairs of 4-byte offsets from the table: what every linker writes. */
    if (image->unwind.size < 12 || at[0] != 1 || (at[1] & 0x0F) != 0x0B || at[2] != 0x03 || at[3] != 0x3B) return false;
    uint64_t count = read32(at + 8), low = 0, high = count;
    if (count == 0 || count > (image->unwind.size - 12) / 8) return false;
    while (low < high) { /* the last start that is not behind the address */
        uint64_t middle = low + (high - low) / 2;
        if (base + (uint64_t)(int64_t)(int32_t)read32(at + 12 + middle * 8) <= address) low = middle + 1;
        else high = middle;
    }
    if (low == 0) return false;
    const uint8_t *pair = at + 12 + (low - 1) * 8;
    table record;
    uint64_t record_address = base + (uint64_t)(int64_t)(int32_t)read32(pair + 4);
    if (!locate(image, record_address, 16, &record)) return false;
    const uint8_t *fields = image->bytes + record.offset; /* length, owner, start relative to itself, size */
    *start = base + (uint64_t)(int64_t)(int32_t)read32(pair);
    if (record_address + 8 + (uint64_t)(int64_t)(int32_t)read32(fields + 8) != *start) return false;
    *end = *start + read32(fields + 12);
    return address < *end;
}

enum { PLACE_UNKNOWN, PLACE_START, PLACE_MIDDLE };

/* A file that keeps the names of local functions keeps all of them: no name there is no function there. */
static int place_in_symbols(const image *image, const table *symbols, uint64_t count, uint64_t address) {
    int place = PLACE_UNKNOWN;
    for (uint64_t i = 1; i < count; i++) {
        Elf64_Sym symbol;
        memcpy(&symbol, image->bytes + symbols->offset + i * sizeof symbol, sizeof symbol);
        uint32_t type = ELF64_ST_TYPE(symbol.st_info);
        if (symbol.st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_NOTYPE && type != STT_GNU_IFUNC)) continue;
        if (symbol.st_value == address) return PLACE_START;
        bool local = type == STT_FUNC && ELF64_ST_BIND(symbol.st_info) == STB_LOCAL;
        if (local || (symbol.st_value < address && address - symbol.st_value < symbol.st_size)) place = PLACE_MIDDLE;
    }
    return place;
}

/* Where in a function an address is, as far as the unwind table and the symbols tell. Any symbol there makes it a
 * start: assembly may have several entries in one unwind record. */
static int place_of(const image *image, uint64_t address) {
    uint64_t start, end;
    bool known = unwind_range(image, address, &start, &end);
    if (known && start == address) return PLACE_START;
    int place = place_in_symbols(image, &image->symbols, image->symbol_count, address);
    if (place != PLACE_START && image->all_symbols.size != 0) {
        int other = place_in_symbols(image, &image->all_symbols, image->all_symbols.size, address);
        if (other != PLACE_UNKNOWN) place = other;
    }
    return place == PLACE_UNKNOWN && known ? PLACE_MIDDLE : place;
}

/* Headers and constants may share an executable segment with code. */
static bool in_code(const image *image, uint64_t address, bool *at_start) {
    *at_start = false;
    if (!executable(image, address)) return false;
    for (uint64_t i = 1; i < image->section_count; i++) {
        Elf64_Shdr section = section_at(image, i);
        if (!(section.sh_flags & SHF_EXECINSTR) || address < section.sh_addr ||
            address - section.sh_addr >= section.sh_size)
            continue;
        *at_start = address == section.sh_addr;
        return true;
    }
    const load *load = load_of(image, address, 1, true);
    uint64_t headers = image->header.e_phoff + (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr);
    return image->section_count == 0 && load->offset + (address - load->start) >= headers;
}

/* For code without symbols and unwind records, such as the compiler's own start-up objects: aligned as functions are,
 * or behind what ends one. */
static bool follows_an_end(const image *image, uint64_t address) {
#if defined(__x86_64__)
    const load *load = load_of(image, address, 1, true);
    const uint8_t *at = image->bytes + load->offset + (address - load->start);
    if (at[0] == 0x00 || at[0] == 0xCC) return false; /* still in the filling between functions */
    if (address % 16 == 0) return true;
    if (address - load->start < 5) return false;
    /* ret, int3, nop, the zeros of a long nop; jumps, near, short and through a register; a call that does not return;
     * ud2 */
    return at[-1] == 0xC3 || at[-3] == 0xC2 || at[-1] == 0xCC || at[-1] == 0x90 || at[-1] == 0x00 || at[-5] == 0xE9 ||
           at[-2] == 0xEB || (at[-2] == 0xFF && at[-1] >> 3 == 0x1C) || at[-5] == 0xE8 ||
           (at[-2] == 0x0F && at[-1] == 0x0B);
#else
    (void)image;
    return address % 4 == 0;
#endif
}

/* What the loader calls by itself: initialisers, finalisers, resolvers. */
static bool callable(const image *image, uint64_t address) {
    bool at_start;
    if (!in_code(image, address, &at_start)) return false;
    int place = place_of(image, address);
    return place == PLACE_START || (place == PLACE_UNKNOWN && (at_start || follows_an_end(image, address)));
}

/* The same for what a dynamic symbol calls a function, which cannot vouch for itself. */
static bool symbol_callable(const image *image, uint64_t address) {
    uint64_t start, end, count = image->all_symbols.size;
    bool at_start, known = unwind_range(image, address, &start, &end);
    if (known && start == address) return executable(image, address);
    if (!in_code(image, address, &at_start)) return false;
    int place = count != 0 ? place_in_symbols(image, &image->all_symbols, count, address) : PLACE_UNKNOWN;
    return place == PLACE_START ||
           (place == PLACE_UNKNOWN && !known && (at_start || follows_an_end(image, address)));
}

/* ---- P9: relocations ---- */

typedef struct relocation {
    uint64_t target;
    uint64_t addend; /* RELR: unused, it is in place */
    uint32_t symbol;
    uint8_t kind;
    uint8_t width;
    bool in_place; /* RELR */
} relocation;

typedef hr_status (*relocation_visitor)(image *image, const relocation *relocation, void *context);

static relocation decode_relocation(const uint8_t *at) {
    uint64_t info = read64(at + 8);
    relocation result = {.target = read64(at), .addend = read64(at + 16), .symbol = (uint32_t)ELF64_R_SYM(info)};
    for (size_t i = 0; i < sizeof relocation_kinds / sizeof relocation_kinds[0]; i++)
        if (relocation_kinds[i].type == ELF64_R_TYPE(info)) {
            result.kind = relocation_kinds[i].kind;
            result.width = relocation_kinds[i].width;
            break;
        }
    return result;
}

static hr_status visit_table(image *image, const table *table, relocation_visitor visit, void *context) {
    hr_status status = HR_OK;
    for (uint64_t i = 0; i < table->size && status == HR_OK; i += sizeof(Elf64_Rela)) {
        relocation relocation = decode_relocation(image->bytes + table->offset + i);
        status = visit(image, &relocation, context);
    }
    return status;
}

/* RELR: an even word is an address to relocate, an odd one a bitmap over the 63 words that follow. */
static hr_status visit_relr(image *image, relocation_visitor visit, void *context) {
    hr_status status = HR_OK;
    uint64_t where = 0;
    bool started = false;
    for (uint64_t i = 0; i < image->relr.size && status == HR_OK; i += 8) {
        uint64_t word = read64(image->bytes + image->relr.offset + i);
        relocation relocation = {.kind = RELOCATE_RELATIVE, .width = 8, .in_place = true};
        if ((word & 1) == 0) {
            relocation.target = word;
            status = visit(image, &relocation, context);
            where = word + 8;
            started = true;
            continue;
        }
        if (!started) return damaged(image, NULL, NULL, "the packed relocations do not start with an address");
        relocation.target = where;
        for (uint64_t bits = word >> 1; bits != 0 && status == HR_OK; bits >>= 1, relocation.target += 8)
            if (bits & 1) status = visit(image, &relocation, context);
        where += 63 * 8;
    }
    return status;
}

/* In the loader's order, so that a later relocation of the same word counts. */
static hr_status visit_relocations(image *image, relocation_visitor visit, void *context) {
    hr_status status = visit_relr(image, visit, context);
    if (status == HR_OK) status = visit_table(image, &image->relocations, visit, context);
    if (status == HR_OK) status = visit_table(image, &image->plt_relocations, visit, context);
    return status;
}

static hr_status bad_relocation(image *image, const relocation *relocation, const char *reason) {
    return hr_fail(image->failure, HR_E_NOT_ELF,
                   textf("target 0x%" PRIx64 ", symbol %u, addend 0x%" PRIx64, relocation->target, relocation->symbol,
                         relocation->addend)
                       .s,
                   NULL, FIX_BUILD_AGAIN, "a relocation %s", reason);
}

static bool overlaps(const table *table, uint64_t address, uint64_t length) {
    return table->size != 0 && address < table->address + table->size && table->address < address + length;
}

static hr_status static_tls(image *image, const char *found) {
    image->warnings |= HR_WARN_STATIC_TLS;
    return hr_fail(image->failure, HR_E_STATIC_TLS, found, "thread-local storage of the general dynamic model",
                   "build with -fPIC and without -ftls-model=initial-exec (-ftls-model=global-dynamic)",
                   "the module needs static thread-local storage, which runs out after a few reloads");
}

/* The loader acts as if others were not there, and a weak one is then taken to be at address 0. */
static bool can_be_looked_up(uint32_t type, uint32_t binding) {
    return (type <= STT_FUNC || type == STT_COMMON || type == STT_TLS || type == STT_GNU_IFUNC) &&
           (binding <= STB_WEAK || binding == STB_GNU_UNIQUE);
}

/* What a relocation takes from a symbol. */
static hr_status check_reference(image *image, const relocation *relocation) {
    uint8_t kind = relocation->kind;
    /* The loader reads a symbol's version even where the symbol means nothing. */
    if (relocation->symbol >= image->symbol_count) return bad_relocation(image, relocation, "names no symbol");
    if (kind == RELOCATE_RELATIVE || kind == RELOCATE_RESOLVER)
        return relocation->symbol == 0 ? HR_OK : bad_relocation(image, relocation, "names a symbol without use for it");
    if (relocation->symbol == 0) {
        if (kind != RELOCATE_TLS) return bad_relocation(image, relocation, "names no symbol");
        return image->has_tls ? HR_OK : bad_relocation(image, relocation, "needs absent thread-local storage");
    }
    Elf64_Sym symbol = symbol_at(image, relocation->symbol);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info), binding = ELF64_ST_BIND(symbol.st_info);
    bool tls = kind == RELOCATE_TLS;
    if (!can_be_looked_up(type, binding))
        return bad_relocation(image, relocation, "names a symbol of a type that the loader passes over");
    if (kind == RELOCATE_PLT && type == STT_OBJECT) return bad_relocation(image, relocation, "calls data");
    if (symbol.st_shndx == SHN_UNDEF) {
        if ((binding != STB_GLOBAL && binding != STB_WEAK) || ELF64_ST_VISIBILITY(symbol.st_other) != STV_DEFAULT)
            return bad_relocation(image, relocation, "names an undefined symbol that cannot be looked up");
        return HR_OK;
    }
    if (tls != (type == STT_TLS))
        return bad_relocation(image, relocation, "mixes thread-local storage and other symbols");
    if (tls) {
        if (!image->has_tls || symbol.st_value > image->tls.p_memsz)
            return bad_relocation(image, relocation, "lies outside the thread-local storage");
        return HR_OK;
    }
    if (symbol.st_shndx == SHN_ABS) return HR_OK;
    if (symbol.st_value == 0 || load_of(image, symbol.st_value, symbol.st_size, false) == NULL)
        return bad_relocation(image, relocation, "names a symbol outside the loaded segments");
    if ((type == STT_FUNC || type == STT_GNU_IFUNC) && !symbol_callable(image, symbol.st_value))
        return bad_relocation(image, relocation, "names a symbol that is not the start of a function");
    return HR_OK;
}

static bool by_name(const relocation *relocation) {
    return relocation->kind == RELOCATE_SYMBOL || relocation->kind == RELOCATE_GOT || relocation->kind == RELOCATE_PLT;
}

/* Symbols that this module defines and refers to by name: another library may take them over (H9). */
static void note_interposable(image *image, const relocation *relocation) {
    if (!by_name(relocation)) return;
    if (HAS(image, DT_SYMBOLIC) || (HAS(image, DT_FLAGS) && (VALUE(image, DT_FLAGS) & DF_SYMBOLIC))) return;
    Elf64_Sym symbol = symbol_at(image, relocation->symbol);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL ||
        ELF64_ST_VISIBILITY(symbol.st_other) != STV_DEFAULT || (type != STT_FUNC && type != STT_OBJECT))
        return;
    if (strncmp(string_at(image, symbol.st_name), "HOTPATCH_", 9) != 0) image->warnings |= HR_WARN_INTERPOSABLE;
}

/* What has been relocated so far: a bit for each 4 bytes of the image, and three for each symbol. A damaged target or
 * symbol mostly takes another one's place, and no linker writes the same twice. (But what folds identical functions,
 * BOLT for one, names a symbol of this module twice in the table of addresses.) */
typedef struct seen {
    uint64_t *targets;
    uint64_t first;    /* address of bit 0 */
    uint64_t limit;    /* bits; what is behind has no bytes in the file, and is not watched */
    uint64_t *symbols; /* named in the linker's table of addresses, in that of calls, anywhere */
} seen;

static bool seen_before(const image *image, seen *seen, const relocation *relocation) {
    bool again = false;
    for (uint64_t at = relocation->target; at < relocation->target + relocation->width; at += 4)
        if ((at - seen->first) / 4 < seen->limit) again |= mark(seen->targets, (at - seen->first) / 4);
    uint64_t symbol = relocation->symbol;
    if (symbol == 0) return again;
    mark(seen->symbols, symbol * 3 + 2);
    if (relocation->kind == RELOCATE_PLT) again |= mark(seen->symbols, symbol * 3 + 1);
    if (relocation->kind == RELOCATE_GOT && symbol_at(image, relocation->symbol).st_shndx == SHN_UNDEF)
        again |= mark(seen->symbols, symbol * 3);
    return again;
}

static hr_status seen_open(const image *image, seen *seen) {
    uint64_t first = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < image->load_count; i++)
        if (image->loads[i].flags & PF_W) {
            if (first == UINT64_MAX) first = image->loads[i].start & ~UINT64_C(3);
            end = image->loads[i].file_end;
        }
    /* Segments may be far apart; four times the file is more than any linker leaves between them. */
    uint64_t bits = end > first ? (end - first) / 4 + 1 : 1;
    if (bits > image->size) bits = image->size;
    seen->first = first;
    seen->limit = bits;
    seen->targets = calloc(bits / 64 + 1, 8);
    seen->symbols = calloc((uint64_t)image->symbol_count * 3 / 64 + 1, 8);
    if (seen->targets != NULL && seen->symbols != NULL) return HR_OK;
    return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
}

static void seen_close(seen *seen) {
    free(seen->targets);
    free(seen->symbols);
}

/* The compiler's start-up code calls __gmon_start__ when its table entry is not 0, before anything else. No entry of
 * its own means that the entry has become another function's. */
static hr_status check_start_symbol(image *image, const seen *seen) {
    for (uint64_t i = 1; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, (uint32_t)i);
        uint64_t bit = i * 3 + 2;
        if (symbol.st_shndx == SHN_UNDEF && strcmp(string_at(image, symbol.st_name), "__gmon_start__") == 0 &&
            !((seen->symbols[bit / 64] >> (bit % 64)) & 1))
            return damaged(image, "no relocation of __gmon_start__", "one",
                           "the start-up code would call another function");
    }
    return HR_OK;
}

static hr_status check_relocation(image *image, const relocation *relocation, void *context) {
    if (relocation->kind == RELOCATE_NONE) /* linkers fill room that they do not need, with zeros only */
        return (relocation->target | relocation->addend | relocation->symbol) == 0
                   ? HR_OK
                   : bad_relocation(image, relocation, "has no type");
    if (relocation->kind == RELOCATE_UNKNOWN) return bad_relocation(image, relocation, "is of an unknown type");
    if (relocation->kind == RELOCATE_TLS_STATIC) return static_tls(image, "a relocation of the initial-exec model");
    if ((relocation->kind == RELOCATE_GOT || relocation->kind == RELOCATE_PLT) && relocation->target % 8 != 0)
        return bad_relocation(image, relocation, "is not aligned");
    const load *load = load_of(image, relocation->target, relocation->width, false);
    if (load == NULL || !(load->flags & PF_W))
        return bad_relocation(image, relocation, "does not aim at writable memory");
    for (uint32_t i = 0; i < image->guarded_count; i++)
        if (overlaps(&image->guarded[i], relocation->target, relocation->width))
            return bad_relocation(image, relocation, "aims at a table that the loader reads");
    if (relocation->in_place && load_of(image, relocation->target, 8, true) == NULL)
        return bad_relocation(image, relocation, "has its addend outside the file");
    if (relocation->kind == RELOCATE_RESOLVER && !callable(image, relocation->addend))
        return bad_relocation(image, relocation, "names a resolver that is not executable");
    hr_status status = check_reference(image, relocation);
    if (status == HR_OK && seen_before(image, context, relocation))
        return bad_relocation(image, relocation, "repeats another one's target or symbol");
    if (status == HR_OK) note_interposable(image, relocation);
    return status;
}

/* The table of what the module calls in other libraries: without gaps, as far as linkers write it. A call through an
 * entry that is not relocated would leave the image. */
typedef struct calls {
    uint64_t first, last, count;
} calls;

static hr_status count_call(image *image, const relocation *relocation, void *context) {
    (void)image;
    calls *calls = context;
    bool in_table = relocation->target >= calls->first && relocation->target <= calls->last;
    calls->count += in_table && (relocation->kind == RELOCATE_PLT || relocation->kind == RELOCATE_RESOLVER);
    return HR_OK;
}

static hr_status check_plt_kind(image *image, const relocation *relocation, void *context) {
    calls *calls = context;
    if (relocation->kind == RELOCATE_PLT) {
        if (relocation->target < calls->first) calls->first = relocation->target;
        if (relocation->target > calls->last) calls->last = relocation->target;
    }
    bool call = relocation->kind == RELOCATE_PLT || relocation->kind == RELOCATE_RESOLVER ||
                (relocation->kind == RELOCATE_TLS && relocation->width == 16);
    return call ? HR_OK : bad_relocation(image, relocation, "of a call has another type");
}

static hr_status check_calls(image *image) {
    calls calls = {UINT64_MAX, 0, 0};
    hr_status status = visit_table(image, &image->plt_relocations, check_plt_kind, &calls);
    if (status != HR_OK || calls.last == 0) return status;
    status = visit_relocations(image, count_call, &calls); /* resolvers are among them, in either table */
    if (status == HR_OK && calls.count != (calls.last - calls.first) / 8 + 1)
        return damaged(image, textf("%" PRIu64 " relocations", calls.count).s,
                       textf("%" PRIu64, (calls.last - calls.first) / 8 + 1).s, "the table of calls has gaps");
    return status;
}

/* glibc asserts that the first DT_RELACOUNT relocations are relative ones. */
static hr_status check_relative_count(image *image) {
    uint64_t count = image->dynamic.relacount, available = image->relocations.size / sizeof(Elf64_Rela);
    const uint8_t *table = image->bytes + image->relocations.offset;
    if (count > available)
        return damaged(image, textf("%" PRIu64, count).s, textf("at most %" PRIu64, available).s,
                       "more relative relocations are announced than there are relocations");
    for (uint64_t i = 0; i < count; i++)
        if (decode_relocation(table + i * sizeof(Elf64_Rela)).kind != RELOCATE_RELATIVE)
            return damaged(image, textf("relocation %" PRIu64, i).s, textf("%" PRIu64 " relative ones first", count).s,
                           "the relative relocations are not first");
    return HR_OK;
}

/* Only what is in writable memory needs a guard: usually the dynamic section alone, more after patchelf. */
static void guard(image *image, const table *table) {
    const load *load = table->size != 0 ? load_of(image, table->address, 1, true) : NULL;
    if (load != NULL && (load->flags & PF_W)) image->guarded[image->guarded_count++] = *table;
}

static void guard_tables(image *image) {
    const table *tables[] = {&image->dynamic.at,  &image->symbols, &image->strings, &image->hash,
                             &image->relocations, &image->plt_relocations, &image->relr, &image->versions};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) guard(image, tables[i]);
    uint64_t offset = image->header.e_phoff, size = (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr);
    for (uint32_t i = 0; i < image->load_count; i++) { /* the loader uses these where they are mapped */
        const load *load = &image->loads[i];
        if (offset >= load->offset && offset - load->offset < load->file_end - load->start)
            guard(image, &(table){load->start + (offset - load->offset), offset, size});
    }
}

static hr_status check_relocations(image *image) {
    /* Linkers may count the second table into the first; the loader takes it off again. */
    table *all = &image->relocations, *plt = &image->plt_relocations;
    if (plt->size != 0 && plt->size <= all->size && plt->address == all->address + all->size - plt->size)
        all->size -= plt->size;
    guard_tables(image);
    hr_status status = check_relative_count(image);
    seen seen = {0};
    if (status == HR_OK) status = seen_open(image, &seen);
    if (status == HR_OK) status = visit_relocations(image, check_relocation, &seen);
    if (status == HR_OK) status = check_start_symbol(image, &seen);
    seen_close(&seen);
    if (status == HR_OK) status = check_calls(image);
    if (status == HR_OK && (image->warnings & HR_WARN_STATIC_TLS)) status = static_tls(image, "DF_STATIC_TLS");
    return status;
}

/* ---- relocated memory ---- */

enum { WORD_PLAIN, WORD_ADDRESS, WORD_UNKNOWN };

/* Words of the image as they are once relocations are applied. WORD_ADDRESS: an address of the image, without bias;
 * WORD_UNKNOWN: known only to the loader. */
typedef struct window {
    uint64_t address; /* a multiple of 8 */
    uint64_t count;   /* words */
    uint64_t *words;
    uint8_t *kinds;
} window;

static void window_close(window *window) {
    free(window->words);
    free(window->kinds);
}

typedef struct windows {
    window *items;
    uint32_t count;
} windows;

static void apply_to_window(image *image, const relocation *relocation, window *window) {
    uint64_t start = window->address, end = start + window->count * 8;
    if (relocation->target >= end || relocation->target + relocation->width <= start) return;
    uint64_t first = relocation->target < start ? 0 : (relocation->target - start) / 8;
    if (relocation->width != 8 || relocation->target < start || (relocation->target - start) % 8 != 0) {
        for (uint64_t i = first; i < window->count && start + i * 8 < relocation->target + relocation->width; i++)
            window->kinds[i] = WORD_UNKNOWN;
        return;
    }
    window->kinds[first] = WORD_UNKNOWN;
    if (relocation->kind == RELOCATE_RELATIVE) {
        if (!relocation->in_place) window->words[first] = relocation->addend;
        window->kinds[first] = WORD_ADDRESS;
    } else if (by_name(relocation)) {
        Elf64_Sym symbol = symbol_at(image, relocation->symbol);
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS ||
            ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC)
            return;
        window->words[first] = symbol.st_value + (relocation->kind == RELOCATE_SYMBOL ? relocation->addend : 0);
        window->kinds[first] = WORD_ADDRESS;
    }
}

static hr_status apply_relocation(image *image, const relocation *relocation, void *context) {
    const windows *windows = context;
    for (uint32_t i = 0; i < windows->count; i++) apply_to_window(image, relocation, &windows->items[i]);
    return HR_OK;
}

/* Reads without relocations. The range must lie in the file: false otherwise (or without memory: *status). */
static bool window_open(const image *image, uint64_t address, uint64_t count, window *window, hr_status *status) {
    *window = (struct window){.address = address, .count = count};
    table at;
    *status = HR_OK;
    if (address % 8 != 0 || count > SPAN_MAX || !locate(image, address, count * 8, &at)) return false;
    window->words = malloc(count * 8 + 1);
    window->kinds = calloc(count + 1, 1);
    if (window->words == NULL || window->kinds == NULL) {
        *status = hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
        return false;
    }
    memcpy(window->words, image->bytes + at.offset, count * 8);
    return true;
}

/* ---- P10: initialisers and finalisers ---- */

static hr_status check_hook(image *image, uint32_t tag, const char *name) {
    if (!HAS(image, tag) || callable(image, VALUE(image, tag))) return HR_OK;
    return damaged(image, textf("%s 0x%" PRIx64, name, VALUE(image, tag)).s, "the start of a function",
                   "an initialiser or finaliser is no function");
}

static hr_status check_hooks(image *image, const window *window, const char *name) {
    for (uint64_t i = 0; i < window->count; i++)
        if (window->kinds[i] != WORD_ADDRESS || !callable(image, window->words[i]))
            return damaged(image, textf("%s %" PRIu64 ": 0x%" PRIx64, name, i, window->words[i]).s,
                           "the start of a function of this module", "an initialiser or finaliser is no function");
    return HR_OK;
}

static hr_status check_hook_array(image *image, uint32_t tag, uint32_t size_tag, const char *name) {
    if (!HAS(image, tag)) return HR_OK;
    hr_status status;
    window window;
    if (!HAS(image, size_tag) || VALUE(image, size_tag) % 8 != 0)
        return damaged(image, name, NULL, "the array of initialisers or finalisers has no size");
    if (window_open(image, VALUE(image, tag), VALUE(image, size_tag) / 8, &window, &status)) {
        windows one = {&window, 1};
        status = visit_relocations(image, apply_relocation, &one);
        if (status == HR_OK) status = check_hooks(image, &window, name);
    } else if (status == HR_OK) {
        status = damaged(image, name, NULL, "the array of initialisers or finalisers lies outside the module");
    }
    window_close(&window);
    return status;
}

static hr_status check_initialisers(image *image) {
    hr_status status = check_hook(image, DT_INIT, "DT_INIT");
    if (status == HR_OK) status = check_hook(image, DT_FINI, "DT_FINI");
    if (status == HR_OK) status = check_hook_array(image, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, "DT_INIT_ARRAY");
    if (status == HR_OK) status = check_hook_array(image, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, "DT_FINI_ARRAY");
    return status;
}

/* ---- P5: sections that have to be in use ---- */

static bool within(const table *table, const Elf64_Shdr *section) {
    return section->sh_addr >= table->address &&
           inside(section->sh_addr - table->address, section->sh_size, table->size);
}

/* A tag of the dynamic section that a bit turned into another one leaves a table unused: relocations that nobody
 * applies, versions that nobody checks. Where there are section headers, each such table has to be in use. */
static hr_status check_section_use(image *image, uint64_t index) {
    Elf64_Shdr section = section_at(image, index);
    if (!(section.sh_flags & SHF_ALLOC) || section.sh_size == 0) return HR_OK;
    const dynamic *dynamic = &image->dynamic;
    bool used = true;
    switch (section.sh_type) {
    case SHT_DYNAMIC: used = section.sh_addr == dynamic->at.address; break;
    case SHT_DYNSYM: used = section.sh_addr == image->symbols.address && section.sh_size >= image->symbols.size; break;
    case SHT_GNU_HASH: used = section.sh_addr == dynamic->gnu_hash; break;
    case SHT_HASH: used = HAS(image, DT_HASH) && section.sh_addr == VALUE(image, DT_HASH); break;
    case SHT_GNU_versym: used = section.sh_addr == dynamic->versym; break;
    case SHT_GNU_verneed: used = section.sh_addr == dynamic->verneed; break;
    case SHT_GNU_verdef: used = section.sh_addr == dynamic->verdef; break;
    case SHT_RELA: used = within(&image->relocations, &section) || within(&image->plt_relocations, &section); break;
    case SHT_RELR: used = within(&image->relr, &section); break;
    case SHT_INIT_ARRAY:
        used = HAS(image, DT_INIT_ARRAY) && VALUE(image, DT_INIT_ARRAY) == section.sh_addr &&
               HAS(image, DT_INIT_ARRAYSZ) && VALUE(image, DT_INIT_ARRAYSZ) == section.sh_size;
        break;
    case SHT_FINI_ARRAY:
        used = HAS(image, DT_FINI_ARRAY) && VALUE(image, DT_FINI_ARRAY) == section.sh_addr &&
               HAS(image, DT_FINI_ARRAYSZ) && VALUE(image, DT_FINI_ARRAYSZ) == section.sh_size;
        break;
    default: break;
    }
    return used ? HR_OK : bad_section(image, index, &section, "contradicts the dynamic section");
}

static hr_status check_section_uses(image *image) {
    hr_status status = HR_OK;
    for (uint64_t i = 1; i < image->section_count && status == HR_OK; i++) status = check_section_use(image, i);
    return status;
}

/* ---- P11: the manifest ---- */

static hr_status bad_manifest(image *image, const char *found, const char *expected, const char *fix,
                              const char *reason) {
    return hr_fail(image->failure, HR_E_MANIFEST, found, expected, fix, "%s", reason);
}

static uint32_t utf8_length(uint8_t lead) {
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0; /* a continuation, an overlong form, or beyond Unicode */
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* Strict: shortest forms only, no surrogates, no control characters (they would act on the terminal showing them). */
static bool name_valid(const uint8_t *name, uint64_t length) {
    if (length == 0 || length > HR_NAME_MAX) return false;
    for (uint64_t i = 0; i < length;) {
        uint32_t bytes = utf8_length(name[i]);
        if (bytes == 0 || bytes > length - i) return false;
        uint32_t code = bytes == 1 ? name[i] : name[i] & (0x7Fu >> bytes);
        for (uint32_t k = 1; k < bytes; k++) {
            if ((name[i + k] & 0xC0) != 0x80) return false;
            code = code << 6 | (name[i + k] & 0x3Fu);
        }
        if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return false;
        if ((bytes == 3 && code < 0x800) || (bytes == 4 && (code < 0x10000 || code > 0x10FFFF))) return false;
        if (code >= 0xD800 && code < 0xE000) return false;
        i += bytes;
    }
    return true;
}

static text word_text(const window *window, uint64_t word) {
    if (window->kinds[word] == WORD_PLAIN) return textf("0x%" PRIx64 ", not relocated", window->words[word]);
    return textf("a symbol that this module does not define");
}

/* Copies the name that a word of the manifest points to. `what` names the word in the failure. */
static hr_status read_name(image *image, const window *window, uint64_t word, const char *what, char *name) {
    const char *expected = "UTF-8 of 1 to 127 bytes, without control characters";
    if (window->kinds[word] != WORD_ADDRESS)
        return bad_manifest(image, word_text(window, word).s, "a pointer to a string of this module", FIX_POINTERS,
                            textf("%s is no pointer", what).s);
    const load *load = load_of(image, window->words[word], 1, true);
    if (load == NULL)
        return bad_manifest(image, textf("0x%" PRIx64, window->words[word]).s, "a pointer to a string of this module",
                            FIX_POINTERS, textf("%s lies outside the module", what).s);
    const uint8_t *at = image->bytes + load->offset + (window->words[word] - load->start);
    uint64_t limit = load->file_end - window->words[word];
    const uint8_t *end = memchr(at, 0, limit < HR_NAME_MAX + 1 ? limit : HR_NAME_MAX + 1);
    if (end == NULL)
        return bad_manifest(image, "no end within 128 bytes", expected, "shorten the name",
                            textf("%s does not end", what).s);
    if (!name_valid(at, (uint64_t)(end - at)))
        return bad_manifest(image, textf("%" PRIu64 " bytes", (uint64_t)(end - at)).s, expected, NULL,
                            textf("%s is not valid", what).s);
    memset(name, 0, HR_NAME_MAX + 1);
    memcpy(name, at, (size_t)(end - at));
    return HR_OK;
}

static hr_status read_function(image *image, const window *window, uint64_t word, const char *what, bool nullable,
                               uint64_t *function) {
    *function = 0;
    uint8_t kind = window->kinds[word];
    uint64_t value = window->words[word];
    if (nullable && kind == WORD_PLAIN && value == 0) return HR_OK;
    if (kind != WORD_ADDRESS)
        return bad_manifest(image, word_text(window, word).s, "a function of this module",
                            "define the function in the module itself",
                            textf("%s is no function of this module", what).s);
    if (!executable(image, value))
        return bad_manifest(image, textf("0x%" PRIx64, value).s, "an address in an executable segment", FIX_POINTERS,
                            textf("%s is not executable", what).s);
    if (!symbol_callable(image, value))
        return bad_manifest(image, textf("0x%" PRIx64, value).s, "the start of a function", FIX_BUILD_AGAIN,
                            textf("%s points into the middle of a function", what).s);
    *function = value;
    return HR_OK;
}

static uint64_t name_hash(const char *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name != 0; name++) hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

/* Open addressing, half full: a sort of 65,536 names costs four times as much. */
static hr_status check_duplicates(image *image, const hr_manifest *manifest) {
    uint32_t capacity = 16;
    while (capacity < manifest->entry_count * 2) capacity *= 2;
    uint32_t *seen = calloc(capacity, sizeof *seen);
    if (seen == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    hr_status status = HR_OK;
    for (uint32_t i = 0; i < manifest->entry_count && status == HR_OK; i++) {
        const char *name = manifest->entries[i].name;
        uint32_t at = (uint32_t)name_hash(name) & (capacity - 1);
        while (seen[at] != 0 && strcmp(manifest->entries[seen[at] - 1].name, name) != 0) at = (at + 1) & (capacity - 1);
        if (seen[at] != 0)
            status = bad_manifest(image, textf("entries %u and %u are both \"%.100s\"", seen[at] - 1, i, name).s,
                                  "each slot once", "remove one of the two entries", "a slot is listed twice");
        seen[at] = i + 1;
    }
    free(seen);
    return status;
}

static hr_status read_entries(image *image, uint64_t address, uint32_t count, hr_manifest *manifest) {
    window window;
    hr_status status;
    if (!window_open(image, address, (uint64_t)count * 3, &window, &status)) {
        if (status == HR_OK)
            status = bad_manifest(image, textf("%u entries at 0x%" PRIx64, count, address).s,
                                  "an aligned array inside this module's file", FIX_POINTERS,
                                  "the entries lie outside the module");
        window_close(&window);
        return status;
    }
    windows one = {&window, 1};
    status = visit_relocations(image, apply_relocation, &one);
    for (uint32_t i = 0; i < count && status == HR_OK; i++) {
        hr_manifest_entry *entry = &manifest->entries[i];
        uint64_t word = (uint64_t)i * 3;
        status = read_name(image, &window, word, textf("the name of entry %u", i).s, entry->name);
        if (status != HR_OK) break;
        status = read_function(image, &window, word + 1, textf("the function of \"%.127s\"", entry->name).s, false,
                               &entry->function);
        entry->flags = (uint32_t)window.words[word + 2];
        entry->reserved = (uint32_t)(window.words[word + 2] >> 32);
        if (status == HR_OK && window.kinds[word + 2] != WORD_PLAIN)
            status = bad_manifest(image, NULL, "plain numbers", FIX_POINTERS, "the flags of an entry are relocated");
    }
    window_close(&window);
    return status == HR_OK ? check_duplicates(image, manifest) : status;
}

static hr_status check_abi(image *image, const window *window) {
    uint64_t word = window->words[0];
    uint32_t magic = (uint32_t)word, version = (word >> 32) & 0xFFFF, size = (uint32_t)(word >> 48);
    if (window->kinds[0] == WORD_PLAIN && magic == HR_ABI_MAGIC_V1 && version == HR_ABI_VERSION_V1 &&
        size == HR_ABI_STRUCT_SIZE_V1)
        return HR_OK;
    const char *what = magic != HR_ABI_MAGIC_V1 ? "magic" : version != HR_ABI_VERSION_V1 ? "version" : "struct size";
    return hr_fail(image->failure, HR_E_ABI,
                   textf("magic 0x%08x, version 0x%x, struct size 0x%x", magic, version, size).s,
                   textf("magic 0x%08x, version 0x%x, struct size 0x%x", HR_ABI_MAGIC_V1, HR_ABI_VERSION_V1,
                         HR_ABI_STRUCT_SIZE_V1)
                       .s,
                   NULL, "the %s of " EXPORT " differs", what);
}

static hr_status find_manifest(image *image, uint64_t *address) {
    uint32_t index;
    if (!find_symbol(image, EXPORT, &index))
        return hr_fail(image->failure, HR_E_NO_MANIFEST, textf("%u dynamic symbols without it", image->symbol_count).s,
                       "an exported data symbol " EXPORT,
                       FIX_EXPORT,
                       "the library exports no " EXPORT);
    Elf64_Sym symbol = symbol_at(image, index);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info), visibility = ELF64_ST_VISIBILITY(symbol.st_other);
    if ((type != STT_OBJECT && type != STT_NOTYPE) || (visibility != STV_DEFAULT && visibility != STV_PROTECTED))
        return hr_fail(image->failure, HR_E_NO_MANIFEST, textf("symbol type %u, visibility %u", type, visibility).s,
                       "a data symbol of default visibility", NULL, EXPORT " is no exported data");
    *address = symbol.st_value;
    return HR_OK;
}

static hr_status read_manifest_words(image *image, const window *window, hr_manifest **out) {
    hr_status status = check_abi(image, window);
    if (status != HR_OK) return status;
    uint32_t count = (uint32_t)window->words[3];
    if (window->kinds[1] != WORD_PLAIN || window->kinds[3] != WORD_PLAIN)
        return bad_manifest(image, NULL, "plain numbers", FIX_POINTERS, "the manifest's numbers are relocated");
    if (count > ENTRIES_MAX)
        return bad_manifest(image, textf("%u entries", count).s, textf("at most %u entries", ENTRIES_MAX).s,
                            "split the module", "the manifest has an impossible number of entries");
    if (count > 0 && window->kinds[4] != WORD_ADDRESS)
        return bad_manifest(image, textf("0x%" PRIx64, window->words[4]).s, "a pointer into this module", FIX_POINTERS,
                            "the pointer to the entries is not relocated");
    /* Before the allocation: a count out of the air must not cost 10 MB. */
    if (count > 0 && load_of(image, window->words[4], (uint64_t)count * sizeof(hr_patch_entry_v1), true) == NULL)
        return bad_manifest(image, textf("%u entries at 0x%" PRIx64, count, window->words[4]).s,
                            "an array inside this module's file", FIX_POINTERS, "the entries lie outside the module");
    hr_manifest *manifest = calloc(1, sizeof *manifest + count * sizeof manifest->entries[0]);
    if (manifest == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    *out = manifest;
    manifest->version = window->words[1];
    manifest->address = window->address;
    manifest->entry_count = count;
    status = read_name(image, window, 2, "the module's name", manifest->name);
    if (status == HR_OK) status = read_function(image, window, 5, "on_load", true, &manifest->on_load);
    if (status == HR_OK) status = read_function(image, window, 6, "on_unload", true, &manifest->on_unload);
    if (status == HR_OK && count > 0) status = read_entries(image, window->words[4], count, manifest);
    return status;
}

static hr_status read_manifest(image *image, uint64_t address, hr_manifest **manifest) {
    hr_status status;
    window window;
    if (window_open(image, address, HR_ABI_STRUCT_SIZE_V1 / 8, &window, &status)) {
        windows one = {&window, 1};
        status = visit_relocations(image, apply_relocation, &one);
        if (status == HR_OK) status = read_manifest_words(image, &window, manifest);
    } else if (status == HR_OK) {
        status = bad_manifest(image, textf("address 0x%" PRIx64, address).s,
                              "56 aligned bytes inside this module's file", FIX_POINTERS,
                              EXPORT " lies outside the module");
    }
    window_close(&window);
    return status;
}

/* ---- P12: layouts and migrations ---- */

/* A word that a relocation changes. */
typedef struct fixed_word {
    uint64_t address, value;
    uint8_t kind; /* WORD_ADDRESS or WORD_UNKNOWN */
} fixed_word;

/* All of them, sorted: descriptions are many small structs, and a window for each would cost a pass each. */
typedef struct relocated {
    image *image;
    fixed_word *words;
    uint64_t count, capacity;
} relocated;

static hr_status collect_word(image *image, const relocation *relocation, void *context) {
    relocated *all = context;
    uint64_t end = relocation->target + relocation->width;
    for (uint64_t at = relocation->target & ~UINT64_C(7); at < end; at += 8) {
        table place;
        if (!locate(image, at, 8, &place)) continue;
        if (all->count == all->capacity) {
            uint64_t capacity = all->capacity ? all->capacity * 2 : 256;
            fixed_word *grown = realloc(all->words, capacity * sizeof *grown);
            if (grown == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
            all->words = grown;
            all->capacity = capacity;
        }
        uint64_t word = read64(image->bytes + place.offset);
        uint8_t kind = WORD_PLAIN;
        window one = {at, 1, &word, &kind};
        apply_to_window(image, relocation, &one);
        all->words[all->count++] = (fixed_word){at, word, kind};
    }
    return HR_OK;
}

static int by_address(const void *a, const void *b) {
    const fixed_word *x = a, *y = b;
    return (x->address > y->address) - (x->address < y->address);
}

static hr_status collect_words(image *image, relocated *all) {
    *all = (relocated){.image = image};
    hr_status status = visit_relocations(image, collect_word, all);
    bool sorted = true;
    for (uint64_t i = 1; i < all->count; i++) sorted &= all->words[i - 1].address <= all->words[i].address;
    if (!sorted) qsort(all->words, all->count, sizeof *all->words, by_address);
    return status;
}

static bool relocated_read(void *context, uint64_t address, uint32_t count, uint32_t pointers, uint64_t *words) {
    const relocated *all = context;
    table place;
    if (address % 8 != 0 || !locate(all->image, address, (uint64_t)count * 8, &place)) return false;
    uint64_t low = 0, high = all->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (all->words[middle].address < address) low = middle + 1;
        else high = middle;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = WORD_PLAIN;
        words[i] = read64(all->image->bytes + place.offset + (uint64_t)i * 8);
        for (; low < all->count && all->words[low].address == address + (uint64_t)i * 8; low++) {
            words[i] = all->words[low].value;
            kind = all->words[low].kind;
        }
        bool pointer = pointers >> i & 1;
        if (kind == WORD_UNKNOWN || (pointer ? kind == WORD_PLAIN && words[i] != 0 : kind != WORD_PLAIN)) return false;
    }
    return true;
}

static const char *relocated_text(void *context, uint64_t address) {
    const relocated *all = context;
    const load *load = load_of(all->image, address, 1, true);
    if (load == NULL) return NULL;
    uint64_t limit = load->file_end - address;
    const uint8_t *at = all->image->bytes + load->offset + (address - load->start);
    return memchr(at, 0, limit < HR_TYPE_NAME_MAX + 1 ? limit : HR_TYPE_NAME_MAX + 1) ? (const char *)at : NULL;
}

/* The address of a further, optional export; 0: there is none. */
static hr_status find_optional(image *image, const char *name, uint64_t *address) {
    uint32_t index;
    *address = 0;
    if (!find_symbol(image, name, &index)) return HR_OK;
    Elf64_Sym symbol = symbol_at(image, index);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF) return HR_OK;
    *address = symbol.st_value;
    return (type == STT_OBJECT || type == STT_NOTYPE) && symbol.st_value != 0
               ? HR_OK
               : bad_manifest(image, name, "an exported data symbol", NULL, "an optional export is no data");
}

static hr_status read_layout(image *image, const relocated *all, hr_manifest *manifest) {
    hr_layout_reader reader = {(void *)all, relocated_read, relocated_text};
    return hr_layout_read(&reader, manifest->layout_address, HR_E_MANIFEST, image->failure, &manifest->layout);
}

static hr_status read_migration(image *image, const hr_layout_reader *reader, uint64_t address,
                                hr_manifest_migration *migration) {
    uint64_t words[4];
    const char *type = NULL;
    bool readable = reader->read(reader->context, address, 4, 15, words);
    if (readable && words[0] != 0) type = reader->text(reader->context, words[0]);
    if (type == NULL || *type == 0 || !hr_text_valid(type) || !callable(image, words[3]))
        return bad_manifest(image, textf("address 0x%" PRIx64, address).s,
                            "a type's name and a function of this module", FIX_POINTERS,
                            "an entry of " MIGRATE_EXPORT " is not valid");
    hr_copy_text(migration->type, sizeof migration->type, hr_layout_plain_name(type));
    migration->function = words[3];
    hr_status status = HR_OK;
    if (words[1]) status = hr_layout_read(reader, words[1], HR_E_MANIFEST, image->failure, &migration->from);
    if (words[2] && status == HR_OK)
        status = hr_layout_read(reader, words[2], HR_E_MANIFEST, image->failure, &migration->to);
    return status;
}

static hr_status read_migrations(image *image, const relocated *all, hr_manifest *manifest) {
    hr_layout_reader reader = {(void *)all, relocated_read, relocated_text};
    uint64_t head[3];
    if (!reader.read(reader.context, manifest->migrate_address, 3, 4, head))
        return bad_manifest(image, NULL, "24 bytes inside this module's file", FIX_POINTERS,
                            MIGRATE_EXPORT " lies outside the module");
    uint32_t magic = (uint32_t)head[0], version = (head[0] >> 32) & 0xFFFF, size = (uint32_t)(head[0] >> 48);
    if (magic != HR_MIGRATE_MAGIC_V1 || version != HR_MIGRATE_VERSION_V1 || size != HR_MIGRATE_STRUCT_SIZE_V1)
        return hr_fail(image->failure, HR_E_ABI,
                       textf("magic 0x%08x, version 0x%x, struct size 0x%x", magic, version, size).s,
                       textf("magic 0x%08x, version 0x%x, struct size 0x%x", HR_MIGRATE_MAGIC_V1,
                             HR_MIGRATE_VERSION_V1, HR_MIGRATE_STRUCT_SIZE_V1)
                           .s,
                       NULL, "the head of " MIGRATE_EXPORT " differs");
    uint32_t count = (uint32_t)head[1];
    if (count > HR_MIGRATIONS_MAX || (count > 0 && head[2] == 0))
        return bad_manifest(image, textf("%u migrations", count).s, textf("at most %u", HR_MIGRATIONS_MAX).s, NULL,
                            MIGRATE_EXPORT " has an impossible number of entries");
    manifest->migrations = calloc(count + 1, sizeof *manifest->migrations);
    if (manifest->migrations == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    hr_status status = HR_OK;
    for (; status == HR_OK && manifest->migration_count < count; manifest->migration_count++)
        status = read_migration(image, &reader, head[2] + (uint64_t)manifest->migration_count * sizeof(hr_migration_v1),
                                &manifest->migrations[manifest->migration_count]);
    for (uint32_t i = 0; status == HR_OK && i < count; i++)
        if (manifest->layout == NULL && (manifest->migrations[i].from == NULL || manifest->migrations[i].to == NULL))
            status = bad_manifest(image, manifest->migrations[i].type, LAYOUT_EXPORT " beside it", NULL,
                                  "a migration refers to the module's own description, and there is none");
    return status;
}

/* What does not lie in the file is 0 when it is loaded, or no number at all: then it asks for nothing. */
static hr_status read_unload(image *image, hr_manifest *manifest) {
    uint64_t address;
    table place;
    hr_status status = find_optional(image, UNLOAD_EXPORT, &address);
    if (status != HR_OK || address == 0) return status;
    uint32_t says = locate(image, address, sizeof says, &place) ? read32(image->bytes + place.offset) : HR_UNLOAD_NEVER;
    manifest->unload = 1 + (says == HR_UNLOAD_QUIESCENT ? HR_UNLOAD_QUIESCENT : HR_UNLOAD_NEVER);
    return HR_OK;
}

static hr_status read_descriptions(image *image, hr_manifest *manifest) {
    hr_status status = find_optional(image, LAYOUT_EXPORT, &manifest->layout_address);
    if (status == HR_OK) status = find_optional(image, MIGRATE_EXPORT, &manifest->migrate_address);
    if (status == HR_OK) status = read_unload(image, manifest);
    if (status != HR_OK || (manifest->layout_address == 0 && manifest->migrate_address == 0)) return status;
    relocated all;
    status = collect_words(image, &all);
    if (status == HR_OK && manifest->layout_address != 0) status = read_layout(image, &all, manifest);
    if (status == HR_OK && manifest->migrate_address != 0) status = read_migrations(image, &all, manifest);
    free(all.words);
    return status;
}

/* ---- identity: build id and content ---- */

/* Notes of one block; the loader walks them too. False when one of them is cut off. */
static bool read_notes(const uint8_t *at, uint64_t size, uint64_t align, char *build_id) {
    static const char digits[] = "0123456789abcdef";
    while (size >= sizeof(Elf64_Nhdr)) {
        uint64_t name = read32(at), description = read32(at + 4);
        uint64_t start = (sizeof(Elf64_Nhdr) + name + align - 1) & ~(align - 1);
        uint64_t next = (start + description + align - 1) & ~(align - 1);
        if (start > size || description > size - start) return false;
        if (name == 4 && read32(at + 8) == NT_GNU_BUILD_ID && memcmp(at + 12, "GNU", 4) == 0 && build_id[0] == 0) {
            uint64_t length = description < (HR_BUILD_ID_SIZE - 1) / 2 ? description : (HR_BUILD_ID_SIZE - 1) / 2;
            for (uint64_t i = 0; i < length; i++) {
                build_id[2 * i] = digits[at[start + i] >> 4];
                build_id[2 * i + 1] = digits[at[start + i] & 15];
            }
        }
        if (next >= size) break;
        at += next;
        size -= next;
    }
    return true;
}

static hr_status read_build_id(image *image, char *build_id) {
    for (uint32_t i = 0; i < image->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &image->program[i];
        if (segment->p_type == PT_NOTE &&
            !read_notes(image->bytes + segment->p_offset, segment->p_filesz, segment->p_align == 8 ? 8 : 4, build_id))
            return bad_segment(image, i, "holds a note that is cut off");
    }
    for (uint64_t i = 1; i < image->section_count && build_id[0] == 0; i++) {
        Elf64_Shdr section;
        memcpy(&section, image->bytes + image->header.e_shoff + i * sizeof section, sizeof section);
        if (section.sh_type == SHT_NOTE) /* not loaded: a cut-off one harms nobody */
            (void)read_notes(image->bytes + section.sh_offset, section.sh_size, section.sh_addralign == 8 ? 8 : 4,
                             build_id);
    }
    if (build_id[0] == 0) image->warnings |= HR_WARN_NO_BUILD_ID;
    return HR_OK;
}

__extension__ typedef unsigned __int128 wide;

/* Odd numbers with evenly spread bits, none related to another. */
static const uint64_t keys[5] = {UINT64_C(0x9ae16a3b2f90404f), UINT64_C(0xc3a5c85c97cb3127),
                                 UINT64_C(0xb492b66fbe98f273), UINT64_C(0xd6e8feb86659fd93),
                                 UINT64_C(0xa0761d6478bd642f)};

static uint64_t fold(uint64_t a, uint64_t b) {
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* One lane takes 16 bytes. The words are also added as they are: when a word equals its key the product is zero, and
 * without the sum the other word would not count. */
static uint64_t absorb(uint64_t lane, uint64_t first, uint64_t second, uint64_t key, uint64_t other) {
    return (lane ^ fold(first ^ key, second ^ other)) * keys[4] + first + (second << 32 | second >> 32);
}

/* Four independent lanes, so that the multiplications of 64 bytes overlap: about 10 bytes a nanosecond. */
static uint64_t hash_bytes(uint64_t seed, const uint8_t *bytes, uint64_t size) {
    uint64_t lanes[4] = {seed ^ keys[0], seed ^ keys[1], seed ^ keys[2], seed ^ keys[3]};
    uint64_t left = size;
    for (; left >= 64; left -= 64, bytes += 64)
        for (int i = 0; i < 4; i++)
            lanes[i] = absorb(lanes[i], read64(bytes + 16 * i), read64(bytes + 16 * i + 8), keys[i], keys[(i + 1) % 4]);
    uint8_t last[64] = {0};
    memcpy(last, bytes, (size_t)left);
    for (int i = 0; i < 4; i++)
        lanes[i] = absorb(lanes[i], read64(last + 16 * i), read64(last + 16 * i + 8), keys[i], keys[(i + 1) % 4]);
    uint64_t a = absorb(lanes[0], lanes[1], lanes[2], keys[1], keys[2]);
    return fold(absorb(a, lanes[3], size, keys[3], keys[0]) ^ keys[2], keys[1]) ^ a;
}

/* Section headers are no content: strip moves them. */
static uint64_t content_of(const image *image) {
    Elf64_Ehdr header = image->header;
    header.e_shoff = 0;
    header.e_shentsize = header.e_shnum = header.e_shstrndx = 0;
    uint64_t hash = keys[0];
    for (uint32_t i = 0; i < image->load_count; i++) {
        const load *load = &image->loads[i];
        uint64_t place[3] = {load->start, load->end - load->start, load->flags};
        hash = hash_bytes(hash, (const uint8_t *)place, sizeof place);
        uint64_t offset = load->offset, end = load->offset + (load->file_end - load->start);
        if (offset < sizeof header && offset < end) {
            uint64_t cut = end < sizeof header ? end : sizeof header;
            hash = hash_bytes(hash, (const uint8_t *)&header + offset, cut - offset);
            offset = cut;
        }
        hash = hash_bytes(hash, image->bytes + offset, end - offset);
    }
    return hash;
}

/* ---- the whole ---- */

/* P1 to P7: enough to read symbols. */
static hr_status check_structure(image *image) {
    bool readable;
    hr_status status = read_header(image->bytes, image->size, image->failure, &image->header, &readable);
    if (status == HR_OK) status = check_header(image);
    if (status == HR_OK)
        status = extents(image->bytes, image->size, image->failure, &image->header, &image->section_count);
    if (status == HR_OK) status = check_segments(image);
    if (status == HR_OK) status = check_sections(image);
    if (status == HR_OK) status = check_dynamic(image);
    if (status == HR_OK) status = check_symbols(image);
    return status;
}

/* P8 to P10: what the loader does before it returns. */
static hr_status check_loading(image *image) {
    hr_status status = check_name_ends(image);
    if (status == HR_OK) status = check_versions(image);
    if (status == HR_OK) status = check_relocations(image);
    if (status == HR_OK) status = check_section_uses(image);
    if (status == HR_OK) status = check_initialisers(image);
    return status;
}

hr_status hr_preflight(const void *bytes, uint64_t size, hr_failure *failure, hr_manifest **manifest) {
    image image = {.bytes = bytes, .size = size, .failure = failure};
    char build_id[HR_BUILD_ID_SIZE] = {0};
    uint64_t address = 0;
    *manifest = NULL;
    hr_status status = check_structure(&image);
    if (status == HR_OK) status = find_manifest(&image, &address); /* first: most libraries are no modules */
    if (status == HR_OK) status = check_loading(&image);
    if (status == HR_OK) status = read_build_id(&image, build_id);
    if (status == HR_OK) status = read_manifest(&image, address, manifest);
    if (status == HR_OK) status = read_descriptions(&image, *manifest);
    if (status != HR_OK) {
        hr_manifest_free(*manifest);
        *manifest = NULL;
        return status;
    }
    memcpy((*manifest)->build_id, build_id, sizeof build_id);
    (*manifest)->content = content_of(&image);
    (*manifest)->warnings = image.warnings;
    return HR_OK;
}

void hr_manifest_free(hr_manifest *manifest) {
    if (manifest == NULL) return;
    for (uint32_t i = 0; i < manifest->migration_count; i++) {
        hr_layout_free(manifest->migrations[i].from);
        hr_layout_free(manifest->migrations[i].to);
    }
    free(manifest->migrations);
    hr_layout_free(manifest->layout);
    free(manifest);
}

/* A file that hr_preflight would refuse may be given all the same: it has no names then. */
uint32_t hr_preflight_undefined(const void *bytes, uint64_t size, int (*resolved)(const char *name), char *names,
                                uint32_t names_size) {
    image image = {.bytes = bytes, .size = size, .failure = NULL};
    uint32_t count = 0;
    uint64_t used = 0;
    if (names_size != 0) names[0] = 0;
    if (check_structure(&image) != HR_OK) return 0;
    for (uint32_t i = 1; i < image.symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(&image, i);
        const char *name = string_at(&image, symbol.st_name);
        if (symbol.st_shndx != SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL || *name == 0) continue;
        if (resolved != NULL && resolved(name)) continue;
        if (used < names_size)
            used += (uint64_t)snprintf(names + used, (size_t)(names_size - used), "%s%s", count == 0 ? "" : ", ", name);
        count++;
    }
    return count;
}
