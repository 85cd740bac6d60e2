/* The optional exports beside the manifest: layouts, migrations, and whether to unload (P12). */
#include "image.h"

#include <stdlib.h>

#define LAYOUT_EXPORT "HOTPATCH_LAYOUT_V1"
#define MIGRATE_EXPORT "HOTPATCH_MIGRATE_V1"
#define UNLOAD_EXPORT "HOTPATCH_UNLOAD_V1"

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
        if (!hr_image_locate(image, at, 8, &place)) continue;
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
        hr_window_apply_to(image, relocation, &one);
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
    hr_status status = hr_image_visit(image, collect_word, all);
    bool sorted = true;
    for (uint64_t i = 1; i < all->count; i++) sorted &= all->words[i - 1].address <= all->words[i].address;
    if (!sorted) qsort(all->words, all->count, sizeof *all->words, by_address);
    return status;
}

static bool relocated_read(void *context, uint64_t address, uint32_t count, uint32_t pointers, uint64_t *words) {
    const relocated *all = context;
    table place;
    if (address % 8 != 0 || !hr_image_locate(all->image, address, (uint64_t)count * 8, &place)) return false;
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
    const load *load = hr_image_load_of(all->image, address, 1, true);
    if (load == NULL) return NULL;
    uint64_t limit = load->file_end - address;
    const uint8_t *at = all->image->bytes + load->offset + (address - load->start);
    return memchr(at, 0, limit < HR_TYPE_NAME_MAX + 1 ? limit : HR_TYPE_NAME_MAX + 1) ? (const char *)at : NULL;
}

/* The address of a further, optional export; 0: there is none. */
static hr_status find_optional(image *image, const char *name, uint64_t *address) {
    uint32_t index;
    *address = 0;
    if (!hr_image_find(image, name, &index)) return HR_OK;
    Elf64_Sym symbol = symbol_at(image, index);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF) return HR_OK;
    *address = symbol.st_value;
    return (type == STT_OBJECT || type == STT_NOTYPE) && symbol.st_value != 0
               ? HR_OK
               : hr_manifest_bad(image, name, "an exported data symbol", NULL, "an optional export is no data");
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
    if (type == NULL || *type == 0 || !hr_text_valid(type) || !hr_image_callable(image, words[3]))
        return hr_manifest_bad(image, hr_textf("address 0x%" PRIx64, address).s,
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
        return hr_manifest_bad(image, NULL, "24 bytes inside this module's file", FIX_POINTERS,
                               MIGRATE_EXPORT " lies outside the module");
    uint32_t magic = (uint32_t)head[0], version = (head[0] >> 32) & 0xFFFF, size = (uint32_t)(head[0] >> 48);
    if (magic != HR_MIGRATE_MAGIC_V1 || version != HR_MIGRATE_VERSION_V1 || size != HR_MIGRATE_STRUCT_SIZE_V1)
        return hr_fail(image->failure, HR_E_ABI,
                       hr_textf("magic 0x%08x, version 0x%x, struct size 0x%x", magic, version, size).s,
                       hr_textf("magic 0x%08x, version 0x%x, struct size 0x%x", HR_MIGRATE_MAGIC_V1,
                                HR_MIGRATE_VERSION_V1, HR_MIGRATE_STRUCT_SIZE_V1)
                           .s,
                       NULL, "the head of " MIGRATE_EXPORT " differs");
    uint32_t count = (uint32_t)head[1];
    if (count > HR_MIGRATIONS_MAX || (count > 0 && head[2] == 0))
        return hr_manifest_bad(image, hr_textf("%u migrations", count).s, hr_textf("at most %u", HR_MIGRATIONS_MAX).s,
                               NULL, MIGRATE_EXPORT " has an impossible number of entries");
    manifest->migrations = calloc(count + 1, sizeof *manifest->migrations);
    if (manifest->migrations == NULL) return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    hr_status status = HR_OK;
    for (; status == HR_OK && manifest->migration_count < count; manifest->migration_count++)
        status = read_migration(image, &reader, head[2] + (uint64_t)manifest->migration_count * sizeof(hr_migration_v1),
                                &manifest->migrations[manifest->migration_count]);
    for (uint32_t i = 0; status == HR_OK && i < count; i++)
        if (manifest->layout == NULL && (manifest->migrations[i].from == NULL || manifest->migrations[i].to == NULL))
            status = hr_manifest_bad(image, manifest->migrations[i].type, LAYOUT_EXPORT " beside it", NULL,
                                     "a migration refers to the module's own description, and there is none");
    return status;
}

/* What does not lie in the file is 0 when it is loaded, or no number at all: then it asks for nothing. */
static hr_status read_unload(image *image, hr_manifest *manifest) {
    uint64_t address;
    table place;
    hr_status status = find_optional(image, UNLOAD_EXPORT, &address);
    if (status != HR_OK || address == 0) return status;
    uint32_t says =
        hr_image_locate(image, address, sizeof says, &place) ? read32(image->bytes + place.offset) : HR_UNLOAD_NEVER;
    manifest->unload = 1 + (says == HR_UNLOAD_QUIESCENT ? HR_UNLOAD_QUIESCENT : HR_UNLOAD_NEVER);
    return HR_OK;
}

hr_status hr_descriptions_read(image *image, hr_manifest *manifest) {
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
