/* Where functions start, as far as a file tells (for P9 to P11). */
#include "image.h"

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
    if (!hr_image_locate(image, record_address, 16, &record)) return false;
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
    if (!hr_image_executable(image, address)) return false;
    for (uint64_t i = 1; i < image->section_count; i++) {
        Elf64_Shdr section = section_at(image, i);
        if (!(section.sh_flags & SHF_EXECINSTR) || address < section.sh_addr ||
            address - section.sh_addr >= section.sh_size)
            continue;
        *at_start = address == section.sh_addr;
        return true;
    }
    const load *load = hr_image_load_of(image, address, 1, true);
    uint64_t headers = image->header.e_phoff + (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr);
    return image->section_count == 0 && load->offset + (address - load->start) >= headers;
}

/* For code without symbols and unwind records, such as the compiler's own start-up objects: aligned as functions are,
 * or behind what ends one. */
static bool follows_an_end(const image *image, uint64_t address) {
#if defined(__x86_64__)
    const load *load = hr_image_load_of(image, address, 1, true);
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
bool hr_image_callable(const image *image, uint64_t address) {
    bool at_start;
    if (!in_code(image, address, &at_start)) return false;
    int place = place_of(image, address);
    return place == PLACE_START || (place == PLACE_UNKNOWN && (at_start || follows_an_end(image, address)));
}

/* The same for what a dynamic symbol calls a function, which cannot vouch for itself. */
bool hr_image_symbol_callable(const image *image, uint64_t address) {
    uint64_t start, end, count = image->all_symbols.size;
    bool at_start, known = unwind_range(image, address, &start, &end);
    if (known && start == address) return hr_image_executable(image, address);
    if (!in_code(image, address, &at_start)) return false;
    int place = count != 0 ? place_in_symbols(image, &image->all_symbols, count, address) : PLACE_UNKNOWN;
    return place == PLACE_START || (place == PLACE_UNKNOWN && !known && (at_start || follows_an_end(image, address)));
}
