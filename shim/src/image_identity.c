/* What tells one build from another: the build id, and a hash of all that a load maps. */
#include "image.h"

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

hr_status hr_image_build_id(image *image, char *build_id) {
    for (uint32_t i = 0; i < image->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &image->program[i];
        if (segment->p_type == PT_NOTE &&
            !read_notes(image->bytes + segment->p_offset, segment->p_filesz, segment->p_align == 8 ? 8 : 4, build_id))
            return hr_image_bad_segment(image, i, "holds a note that is cut off");
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
uint64_t hr_image_content(const image *image) {
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
