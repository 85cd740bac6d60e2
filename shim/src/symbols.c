/* Which function or object of a module lies at an address: by the symbol tables and sections of its staged file. */
#include "internal.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file whose every table is checked against its size before it is read. */
typedef struct hr_image {
    const uint8_t *bytes;
    uint64_t size;
    const Elf64_Shdr *sections;
    uint32_t section_count;
} hr_image;

static const void *part(const hr_image *image, uint64_t offset, uint64_t size) {
    return offset <= image->size && size <= image->size - offset ? image->bytes + offset : NULL;
}

static bool open_image(const char *path, hr_image *image) {
    memset(image, 0, sizeof *image);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    if (fd < 0) return false;
    if (fstat(fd, &info) == 0 && info.st_size > (off_t)sizeof(Elf64_Ehdr)) {
        void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes != MAP_FAILED) *image = (hr_image){bytes, (uint64_t)info.st_size, NULL, 0};
    }
    close(fd);
    if (image->bytes == NULL) return false;
    const Elf64_Ehdr *header = (const void *)image->bytes;
    bool ours = memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64;
    if (ours && header->e_shentsize == sizeof(Elf64_Shdr) && header->e_shoff % 8 == 0) {
        image->sections = part(image, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr));
        image->section_count = image->sections ? header->e_shnum : 0;
    }
    return true;
}

static void close_image(hr_image *image) { munmap((void *)(uintptr_t)image->bytes, image->size); }

static const char *string_of(const hr_image *image, uint32_t section, uint64_t offset) {
    if (section >= image->section_count) return NULL;
    const Elf64_Shdr *strings = &image->sections[section];
    const char *table = part(image, strings->sh_offset, strings->sh_size);
    if (table == NULL || offset >= strings->sh_size || memchr(table + offset, 0, strings->sh_size - offset) == NULL)
        return NULL;
    return table + offset;
}

static bool covers(const Elf64_Sym *symbol, uint64_t address) {
    uint32_t type = ELF64_ST_TYPE(symbol->st_info);
    return symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT) &&
           address - symbol->st_value < symbol->st_size;
}

static bool find_symbol(const hr_image *image, uint32_t kind, uint64_t address, char *text, uint32_t size) {
    for (uint32_t i = 0; i < image->section_count; i++) {
        const Elf64_Shdr *section = &image->sections[i];
        if (section->sh_type != kind || section->sh_entsize != sizeof(Elf64_Sym) || section->sh_offset % 8 != 0) continue;
        const Elf64_Sym *symbols = part(image, section->sh_offset, section->sh_size);
        for (uint64_t k = 0; symbols && k < section->sh_size / sizeof(Elf64_Sym); k++) {
            const char *name = covers(&symbols[k], address) ? string_of(image, section->sh_link, symbols[k].st_name) : NULL;
            if (name == NULL || *name == 0) continue;
            uint64_t into = address - symbols[k].st_value;
            if (into) snprintf(text, size, "%.80s+%#llx", name, (unsigned long long)into);
            else snprintf(text, size, "%.80s", name);
            return true;
        }
    }
    return false;
}

/* A literal is best told by its text. */
static bool write_literal(const hr_image *image, const Elf64_Shdr *section, uint64_t into, char *text, uint32_t size) {
    const char *bytes = section->sh_type == SHT_PROGBITS ? part(image, section->sh_offset, section->sh_size) : NULL;
    if (bytes == NULL || (section->sh_flags & (SHF_WRITE | SHF_EXECINSTR))) return false;
    char quoted[33];
    uint32_t length = 0;
    for (; into + length < section->sh_size && length < sizeof quoted - 1; length++) {
        char c = bytes[into + length];
        if (c == 0) break;
        if (c < 0x20 || c > 0x7e || c == '"') return false;
        quoted[length] = c;
    }
    quoted[length] = 0;
    if (length < 2) return false;
    snprintf(text, size, "the text \"%s\"", quoted);
    return true;
}

static bool find_section(const hr_image *image, uint64_t address, char *text, uint32_t size) {
    const Elf64_Ehdr *header = (const void *)image->bytes;
    for (uint32_t i = 0; i < image->section_count; i++) {
        const Elf64_Shdr *section = &image->sections[i];
        if (!(section->sh_flags & SHF_ALLOC) || address - section->sh_addr >= section->sh_size) continue;
        uint64_t into = address - section->sh_addr;
        if (write_literal(image, section, into, text, size)) return true;
        const char *name = string_of(image, header->e_shstrndx, section->sh_name);
        snprintf(text, size, "%.40s+%#llx", name ? name : "a section", (unsigned long long)into);
        return true;
    }
    return false;
}

void hr_symbol_at(const char *path, uint64_t address, char *text, uint32_t size) {
    hr_image image;
    bool found = false;
    if (open_image(path, &image)) {
        found = find_symbol(&image, SHT_SYMTAB, address, text, size) ||
                find_symbol(&image, SHT_DYNSYM, address, text, size) || find_section(&image, address, text, size);
        close_image(&image);
    }
    if (!found) snprintf(text, size, "+%#llx", (unsigned long long)address);
}
