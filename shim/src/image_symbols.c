/* Dynamic symbols and their hash tables (P7). */
#include "image.h"

#include <stdlib.h>

/* ---- P7: symbols ---- */

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

static hr_status bad_hash(image *image, const char *reason) { return hr_image_damaged(image, NULL, NULL, reason); }

static hr_status no_symbols(image *image) {
    return hr_fail(image->failure, HR_E_NO_MANIFEST, "no exported symbol", EXPORT, FIX_EXPORT,
                   "the library exports no symbols");
}

static hr_status read_gnu_hash(image *image, gnu_hash *hash) {
    const load *load = hr_image_load_of(image, image->dynamic.gnu_hash, 16, true);
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
                return hr_image_damaged(image, hr_textf("symbol %u", symbol).s, NULL,
                                        "the symbol hash table does not match the names");
            reached++;
        }
    }
    return reached == hashed ? HR_OK : bad_hash(image, "symbols are missing from the symbol hash table");
}

static hr_status count_sysv_symbols(image *image) {
    table *hash = &image->hash;
    uint64_t address = VALUE(image, DT_HASH);
    if (!hr_image_locate(image, address, 8, hash))
        return bad_hash(image, "the symbol hash table lies outside the loaded segments");
    const uint8_t *at = image->bytes + hash->offset;
    uint32_t buckets = read32(at), count = read32(at + 4);
    if (!hr_image_locate(image, address, 8 + ((uint64_t)buckets + count) * 4, hash))
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
                return hr_image_damaged(image, hr_textf("symbol %u", n).s, NULL,
                                        "the symbol hash table does not match the names");
            reached += symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) != STB_LOCAL;
        }
    for (uint32_t i = 1; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, i);
        defined += symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) != STB_LOCAL;
    }
    return reached == defined ? HR_OK : bad_hash(image, "symbols are missing from the symbol hash table");
}

hr_status hr_image_check_symbols(image *image) {
    hr_status status;
    if (image->dynamic.gnu_hash != 0) status = count_gnu_symbols(image); /* the loader's choice when both are there */
    else if (HAS(image, DT_HASH)) status = count_sysv_symbols(image);
    else return no_symbols(image);
    if (status != HR_OK) return status;
    if (!hr_image_locate(image, VALUE(image, DT_SYMTAB), (uint64_t)image->symbol_count * sizeof(Elf64_Sym),
                         &image->symbols))
        return hr_image_damaged(image,
                                hr_textf("%u symbols at 0x%" PRIx64, image->symbol_count, VALUE(image, DT_SYMTAB)).s,
                                NULL, "the symbol table lies outside the loaded segments");
    for (uint32_t i = 0; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, i);
        if (symbol.st_name >= image->strings.size)
            return hr_image_damaged(image, hr_textf("symbol %u", i).s, NULL,
                                    "a symbol's name lies outside the string table");
        if (symbol.st_shndx == SHN_UNDEF && symbol.st_value != 0) /* the loader would take it for a definition */
            return hr_image_damaged(image, string_at(image, symbol.st_name), NULL,
                                    "an undefined symbol has an address");
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
bool hr_image_find(image *image, const char *name, uint32_t *index) {
    return image->dynamic.gnu_hash != 0 ? find_gnu(image, name, index) : find_sysv(image, name, index);
}

/* Linkers let a name be the end of a longer one, which then is a name too. The end of a string that nobody uses comes
 * from a damaged offset: "exit" of "__cxa_atexit". */
hr_status hr_image_check_name_ends(image *image) {
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
            status = hr_image_damaged(image, string_at(image, name), string_at(image, start),
                                      "a symbol's name is the end of another one, which is no name");
    }
    free(starts);
    return status;
}
