/* An ELF file's header, segments and sections (P1 to P5), and how the other checks find bytes by their addresses. */
#include "image.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#define MACHINE_NAME "x86-64"
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#define MACHINE_NAME "aarch64"
#else
#error "preflight knows x86-64 and aarch64"
#endif

#define PAGE UINT64_C(4096) /* the smallest of the machines supported; larger pages need larger alignments anyway */
#define TLS_ALIGN_MAX (UINT64_C(1) << 16)

static uint64_t round_up(uint64_t address) { return (address + PAGE - 1) / PAGE * PAGE; }

text hr_textf(const char *format, ...) {
    text result;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result.s, sizeof result.s, format, arguments);
    va_end(arguments);
    return result;
}

hr_status hr_image_damaged(image *image, const char *found, const char *expected, const char *reason) {
    return hr_fail(image->failure, HR_E_NOT_ELF, found, expected, FIX_BUILD_AGAIN, "%s", reason);
}

hr_status hr_image_truncated(hr_failure *failure, const char *what, uint64_t index, uint64_t offset, uint64_t length,
                             uint64_t size) {
    uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    return hr_fail(failure, HR_E_TRUNCATED, hr_textf("%" PRIu64 " bytes", size).s,
                   hr_textf("at least %" PRIu64 " bytes", end).s, NULL,
                   "%s %" PRIu64 " ends at byte %" PRIu64 ", the file has %" PRIu64 " bytes", what, index, end, size);
}

/* The load that holds all of [address, address + length), or null. `file_backed`: only bytes from the file count. */
const load *hr_image_load_of(const image *image, uint64_t address, uint64_t length, bool file_backed) {
    for (uint32_t i = 0; i < image->load_count; i++) {
        const load *load = &image->loads[i];
        uint64_t end = file_backed ? load->file_end : load->end;
        if (address >= load->start && address <= end && length <= end - address) return load;
    }
    return NULL;
}

/* Where a loaded, file-backed range is in the file. */
bool hr_image_locate(const image *image, uint64_t address, uint64_t length, table *table) {
    const load *load = hr_image_load_of(image, address, length, true);
    if (load == NULL) return false;
    table->address = address;
    table->offset = load->offset + (address - load->start);
    table->size = length;
    return true;
}

bool hr_image_executable(const image *image, uint64_t address) {
    const load *load = hr_image_load_of(image, address, 1, true);
    return load != NULL && (load->flags & PF_X);
}

/* ---- P1, P2: header and extents ---- */

/* HR_OK also for an ELF file of another class or byte order, whose tables cannot be read: the header check names it. */
hr_status hr_image_header(const uint8_t *bytes, uint64_t size, hr_failure *failure, Elf64_Ehdr *header,
                          bool *readable) {
    *readable = false;
    uint64_t known = size < SELFMAG ? size : SELFMAG;
    if (memcmp(bytes, ELFMAG, (size_t)known) != 0) {
        text found = {"bytes"};
        for (uint64_t i = 0; i < known; i++)
            snprintf(found.s + 5 + 3 * i, sizeof found.s - 5 - 3 * i, " %02x", bytes[i]);
        return hr_fail(failure, HR_E_NOT_ELF, found.s, "bytes 7f 45 4c 46 (ELF)", NULL, "this is not an ELF file");
    }
    if (size < sizeof *header) return hr_image_truncated(failure, "ELF header", 0, 0, sizeof *header, size);
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
        return hr_image_truncated(failure, "section header", 0, header->e_shoff, sizeof(Elf64_Shdr), size);
    Elf64_Shdr section;
    if (count == 0) { /* more than 65,279 sections: the first header tells */
        memcpy(&section, bytes + header->e_shoff, sizeof section);
        count = section.sh_size;
    }
    if (header->e_shentsize != sizeof section)
        return hr_fail(failure, HR_E_NOT_ELF, hr_textf("%u bytes", (unsigned)header->e_shentsize).s, "64 bytes",
                       FIX_BUILD_AGAIN, "section headers have an impossible size");
    if (count > size / sizeof section || !inside(header->e_shoff, count * sizeof section, size))
        return hr_image_truncated(failure, "section header", count - 1, header->e_shoff,
                                  count > size ? size : count * sizeof section, size);
    for (uint64_t i = 1; i < count; i++) {
        memcpy(&section, bytes + header->e_shoff + i * sizeof section, sizeof section);
        if (section.sh_type == SHT_NULL || section.sh_type == SHT_NOBITS) continue;
        if (!inside(section.sh_offset, section.sh_size, size))
            return hr_image_truncated(failure, "section", i, section.sh_offset, section.sh_size, size);
    }
    *section_count = count;
    return HR_OK;
}

hr_status hr_image_extents(const uint8_t *bytes, uint64_t size, hr_failure *failure, const Elf64_Ehdr *header,
                           uint64_t *section_count) {
    if (header->e_phnum != 0 && header->e_phentsize != sizeof(Elf64_Phdr))
        return hr_fail(failure, HR_E_NOT_ELF, hr_textf("%u bytes", (unsigned)header->e_phentsize).s, "56 bytes",
                       FIX_BUILD_AGAIN, "program headers have an impossible size");
    uint64_t length = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (!inside(header->e_phoff, length, size))
        return hr_image_truncated(failure, "program header", header->e_phnum > 0 ? header->e_phnum - 1u : 0,
                                  header->e_phoff, length, size);
    for (uint32_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, bytes + header->e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_NULL && !inside(segment.p_offset, segment.p_filesz, size))
            return hr_image_truncated(failure, "segment", i, segment.p_offset, segment.p_filesz, size);
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

hr_status hr_image_check_header(image *image) {
    const Elf64_Ehdr *header = &image->header;
    const uint8_t *ident = header->e_ident;
    if (ident[EI_DATA] != ELFDATA2LSB || (ident[EI_CLASS] == ELFCLASS64 && header->e_machine != MACHINE))
        return hr_fail(image->failure, HR_E_ARCH,
                       ident[EI_DATA] == ELFDATA2LSB
                           ? hr_textf("%s (machine %u)", machine_name(header->e_machine), header->e_machine).s
                           : hr_textf("byte order %u", ident[EI_DATA]).s,
                       hr_textf("%s (machine %u), little endian", MACHINE_NAME, MACHINE).s, NULL, "built for %s",
                       ident[EI_DATA] == ELFDATA2LSB ? machine_name(header->e_machine) : "another byte order");
    if (ident[EI_CLASS] != ELFCLASS64)
        return hr_fail(image->failure, HR_E_ARCH, hr_textf("ELF class %u", ident[EI_CLASS]).s, "ELF class 2 (64-bit)",
                       "build without -m32 or -mx32, for the host's own target", "built for a 32-bit process");
    if ((ident[EI_OSABI] != ELFOSABI_SYSV && ident[EI_OSABI] != ELFOSABI_GNU) || header->e_flags != 0)
        return hr_fail(image->failure, HR_E_ARCH, hr_textf("OS ABI %u, flags 0x%x", ident[EI_OSABI], header->e_flags).s,
                       "OS ABI 0 or 3, flags 0x0", NULL, "built for another operating system");
    if (ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT || ident[EI_ABIVERSION] != 0)
        return hr_image_damaged(image, hr_textf("version %u, %u", ident[EI_VERSION], header->e_version).s, "version 1",
                                "the ELF version is unknown");
    for (int i = EI_PAD; i < EI_NIDENT; i++)
        if (ident[i] != 0) return hr_image_damaged(image, NULL, NULL, "the ELF header's padding is not zero");
    if (header->e_type != ET_DYN)
        return hr_fail(image->failure, HR_E_NOT_ELF, type_name(header->e_type), "a shared library", NULL,
                       "this is %s, not a shared library", type_name(header->e_type));
    return HR_OK;
}

/* ---- P3, P4: segments ---- */

hr_status hr_image_bad_segment(image *image, uint32_t index, const char *reason) {
    const Elf64_Phdr *segment = &image->program[index];
    return hr_fail(image->failure, HR_E_NOT_ELF,
                   hr_textf("address 0x%" PRIx64 ", offset 0x%" PRIx64 ", size 0x%" PRIx64 ", in memory 0x%" PRIx64
                            ", alignment 0x%" PRIx64,
                            segment->p_vaddr, segment->p_offset, segment->p_filesz, segment->p_memsz, segment->p_align)
                       .s,
                   NULL, FIX_BUILD_AGAIN, "segment %u (type 0x%x) %s", index, segment->p_type, reason);
}

static hr_status add_load(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    if (image->load_count == LOADS_MAX) return hr_image_bad_segment(image, index, "is one loaded segment too many");
    if (segment->p_memsz < segment->p_filesz)
        return hr_image_bad_segment(image, index, "is larger in the file than in memory");
    if (segment->p_vaddr > SPAN_MAX || segment->p_memsz > SPAN_MAX)
        return hr_image_bad_segment(image, index, "is impossibly far");
    if (!power_of_two(segment->p_align) || segment->p_align < PAGE || segment->p_align > SPAN_MAX)
        return hr_image_bad_segment(image, index, "is not aligned to pages");
    if (((segment->p_vaddr - segment->p_offset) & (segment->p_align - 1)) != 0)
        return hr_image_bad_segment(image, index, "has an address and an offset that do not agree");
    if (!(segment->p_flags & PF_R)) return hr_image_bad_segment(image, index, "is not readable");
    /* The loader maps, and clears, the rest of the page of a segment without bytes too. */
    if (segment->p_filesz == 0 && segment->p_memsz != 0 && segment->p_vaddr % PAGE != 0 &&
        segment->p_offset / PAGE * PAGE >= image->size)
        return hr_image_bad_segment(image, index, "starts in a page behind the end of the file");
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
            return hr_image_bad_segment(image, index, "overlaps the one before, or comes before it");
    }
    image->load_count++;
    return HR_OK;
}

/* P4. The loader, or what comes after it, reads it: its place in the file must be the one that is mapped there. */
static hr_status check_inner_segment(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    const load *load = hr_image_load_of(image, segment->p_vaddr, segment->p_memsz, true);
    if (load == NULL) return hr_image_bad_segment(image, index, "lies outside the loaded segments");
    if (segment->p_filesz != segment->p_memsz) return hr_image_bad_segment(image, index, "is not wholly in the file");
    if (segment->p_offset - load->offset != segment->p_vaddr - load->start)
        return hr_image_bad_segment(image, index, "has an address and an offset that do not agree");
    return HR_OK;
}

/* What becomes read-only once it is relocated. lld lets it end with the page, behind the segment's own end. */
static hr_status check_relro(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    const load *load = hr_image_load_of(image, segment->p_vaddr, 0, false);
    if (load == NULL || !inside(segment->p_vaddr - load->start, segment->p_memsz, round_up(load->end) - load->start))
        return hr_image_bad_segment(image, index, "lies outside the loaded segments");
    if (!(load->flags & PF_W) || segment->p_offset - load->offset != segment->p_vaddr - load->start)
        return hr_image_bad_segment(image, index, "is not the start of what is written to");
    image->relro = *segment;
    return HR_OK;
}

static hr_status check_tls(image *image, uint32_t index) {
    const Elf64_Phdr *segment = &image->program[index];
    if (segment->p_memsz == 0) return HR_OK; /* the loader ignores it too */
    if (image->has_tls) return hr_image_bad_segment(image, index, "is a second one for thread-local storage");
    if (segment->p_memsz < segment->p_filesz || segment->p_memsz > SPAN_MAX)
        return hr_image_bad_segment(image, index, "has an impossible size");
    if (!power_of_two(segment->p_align) || segment->p_align > TLS_ALIGN_MAX)
        return hr_image_bad_segment(image, index, "has an impossible alignment");
    if (segment->p_filesz != 0) {
        const load *load = hr_image_load_of(image, segment->p_vaddr, segment->p_filesz, true);
        if (load == NULL) return hr_image_bad_segment(image, index, "lies outside the loaded segments");
        if (segment->p_offset - load->offset != segment->p_vaddr - load->start)
            return hr_image_bad_segment(image, index, "has an address and an offset that do not agree");
    }
    image->has_tls = true;
    image->tls = *segment;
    return HR_OK;
}

static hr_status check_segment(image *image, uint32_t index, bool *has_dynamic) {
    const Elf64_Phdr *segment = &image->program[index];
    switch (segment->p_type) {
    case PT_DYNAMIC:
        if (*has_dynamic) return hr_image_bad_segment(image, index, "is a second dynamic section");
        *has_dynamic = true;
        image->dynamic.at = (table){segment->p_vaddr, segment->p_offset, segment->p_filesz};
        return check_inner_segment(image, index);
    case PT_TLS: return check_tls(image, index);
    case PT_PHDR:
        if (segment->p_offset != image->header.e_phoff ||
            segment->p_filesz != (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr))
            return hr_image_bad_segment(image, index, "does not describe the program headers");
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

hr_status hr_image_check_segments(image *image) {
    const Elf64_Ehdr *header = &image->header;
    if (header->e_phnum > PROGRAM_HEADERS_MAX)
        return hr_image_damaged(image, hr_textf("%u", header->e_phnum).s, hr_textf("at most %d", PROGRAM_HEADERS_MAX).s,
                                "there are too many program headers");
    hr_status status = HR_OK;
    memcpy(image->program, image->bytes + header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
    for (uint32_t i = 0; i < header->e_phnum && status == HR_OK; i++)
        if (image->program[i].p_type == PT_LOAD) status = add_load(image, i);
    if (status != HR_OK) return status;
    if (image->load_count == 0) return hr_image_damaged(image, NULL, NULL, "no segment is loaded");
    bool has_dynamic = false;
    for (uint32_t i = 0; i < header->e_phnum && status == HR_OK; i++) status = check_segment(image, i, &has_dynamic);
    if (status == HR_OK && !has_dynamic)
        return hr_fail(image->failure, HR_E_NOT_ELF, NULL, "a dynamic section", NULL, "this is no dynamic library");
    return status;
}

/* ---- P5: sections, as further evidence ---- */

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
                   hr_textf("%.40s at 0x%" PRIx64 ", offset 0x%" PRIx64 ", size 0x%" PRIx64,
                            section_name(image, section), section->sh_addr, section->sh_offset, section->sh_size)
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
    const load *load = hr_image_load_of(image, section->sh_addr, section->sh_size, in_file);
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

hr_status hr_image_check_sections(image *image) {
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

hr_status hr_image_check_section_uses(image *image) {
    hr_status status = HR_OK;
    for (uint64_t i = 1; i < image->section_count && status == HR_OK; i++) status = check_section_use(image, i);
    return status;
}
