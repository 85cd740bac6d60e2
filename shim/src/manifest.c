/* The manifest, HOTPATCH_MODULE_V1 (P11). */
#include "image.h"

#include <stdlib.h>

#define ENTRIES_MAX HR_SLOTS_MAX

/* ---- P11: the manifest ---- */

hr_status hr_manifest_bad(image *image, const char *found, const char *expected, const char *fix, const char *reason) {
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
    if (window->kinds[word] == WORD_PLAIN) return hr_textf("0x%" PRIx64 ", not relocated", window->words[word]);
    return hr_textf("a symbol that this module does not define");
}

/* Copies the name that a word of the manifest points to. `what` names the word in the failure. */
static hr_status read_name(image *image, const window *window, uint64_t word, const char *what, char *name) {
    const char *expected = "UTF-8 of 1 to 127 bytes, without control characters";
    if (window->kinds[word] != WORD_ADDRESS)
        return hr_manifest_bad(image, word_text(window, word).s, "a pointer to a string of this module", FIX_POINTERS,
                               hr_textf("%s is no pointer", what).s);
    const load *load = hr_image_load_of(image, window->words[word], 1, true);
    if (load == NULL)
        return hr_manifest_bad(image, hr_textf("0x%" PRIx64, window->words[word]).s,
                               "a pointer to a string of this module", FIX_POINTERS,
                               hr_textf("%s lies outside the module", what).s);
    const uint8_t *at = image->bytes + load->offset + (window->words[word] - load->start);
    uint64_t limit = load->file_end - window->words[word];
    const uint8_t *end = memchr(at, 0, limit < HR_NAME_MAX + 1 ? limit : HR_NAME_MAX + 1);
    if (end == NULL)
        return hr_manifest_bad(image, "no end within 128 bytes", expected, "shorten the name",
                               hr_textf("%s does not end", what).s);
    if (!name_valid(at, (uint64_t)(end - at)))
        return hr_manifest_bad(image, hr_textf("%" PRIu64 " bytes", (uint64_t)(end - at)).s, expected, NULL,
                               hr_textf("%s is not valid", what).s);
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
        return hr_manifest_bad(image, word_text(window, word).s, "a function of this module",
                               "define the function in the module itself",
                               hr_textf("%s is no function of this module", what).s);
    if (!hr_image_executable(image, value))
        return hr_manifest_bad(image, hr_textf("0x%" PRIx64, value).s, "an address in an executable segment",
                               FIX_POINTERS, hr_textf("%s is not executable", what).s);
    if (!hr_image_symbol_callable(image, value))
        return hr_manifest_bad(image, hr_textf("0x%" PRIx64, value).s, "the start of a function", FIX_BUILD_AGAIN,
                               hr_textf("%s points into the middle of a function", what).s);
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
            status = hr_manifest_bad(image, hr_textf("entries %u and %u are both \"%.100s\"", seen[at] - 1, i, name).s,
                                     "each slot once", "remove one of the two entries", "a slot is listed twice");
        seen[at] = i + 1;
    }
    free(seen);
    return status;
}

static hr_status read_entries(image *image, uint64_t address, uint32_t count, hr_manifest *manifest) {
    window window;
    hr_status status;
    if (!hr_window_open(image, address, (uint64_t)count * 3, &window, &status)) {
        if (status == HR_OK)
            status = hr_manifest_bad(image, hr_textf("%u entries at 0x%" PRIx64, count, address).s,
                                     "an aligned array inside this module's file", FIX_POINTERS,
                                     "the entries lie outside the module");
        hr_window_close(&window);
        return status;
    }
    windows one = {&window, 1};
    status = hr_image_visit(image, hr_window_apply, &one);
    for (uint32_t i = 0; i < count && status == HR_OK; i++) {
        hr_manifest_entry *entry = &manifest->entries[i];
        uint64_t word = (uint64_t)i * 3;
        status = read_name(image, &window, word, hr_textf("the name of entry %u", i).s, entry->name);
        if (status != HR_OK) break;
        status = read_function(image, &window, word + 1, hr_textf("the function of \"%.127s\"", entry->name).s, false,
                               &entry->function);
        entry->flags = (uint32_t)window.words[word + 2];
        entry->reserved = (uint32_t)(window.words[word + 2] >> 32);
        if (status == HR_OK && window.kinds[word + 2] != WORD_PLAIN)
            status = hr_manifest_bad(image, NULL, "plain numbers", FIX_POINTERS, "the flags of an entry are relocated");
    }
    hr_window_close(&window);
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
                   hr_textf("magic 0x%08x, version 0x%x, struct size 0x%x", magic, version, size).s,
                   hr_textf("magic 0x%08x, version 0x%x, struct size 0x%x", HR_ABI_MAGIC_V1, HR_ABI_VERSION_V1,
                            HR_ABI_STRUCT_SIZE_V1)
                       .s,
                   NULL, "the %s of " EXPORT " differs", what);
}

hr_status hr_manifest_find(image *image, uint64_t *address) {
    uint32_t index;
    if (!hr_image_find(image, EXPORT, &index))
        return hr_fail(image->failure, HR_E_NO_MANIFEST,
                       hr_textf("%u dynamic symbols without it", image->symbol_count).s,
                       "an exported data symbol " EXPORT, FIX_EXPORT, "the library exports no " EXPORT);
    Elf64_Sym symbol = symbol_at(image, index);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info), visibility = ELF64_ST_VISIBILITY(symbol.st_other);
    if ((type != STT_OBJECT && type != STT_NOTYPE) || (visibility != STV_DEFAULT && visibility != STV_PROTECTED))
        return hr_fail(image->failure, HR_E_NO_MANIFEST, hr_textf("symbol type %u, visibility %u", type, visibility).s,
                       "a data symbol of default visibility", NULL, EXPORT " is no exported data");
    *address = symbol.st_value;
    return HR_OK;
}

static hr_status read_manifest_words(image *image, const window *window, hr_manifest **out) {
    hr_status status = check_abi(image, window);
    if (status != HR_OK) return status;
    uint32_t count = (uint32_t)window->words[3];
    if (window->kinds[1] != WORD_PLAIN || window->kinds[3] != WORD_PLAIN)
        return hr_manifest_bad(image, NULL, "plain numbers", FIX_POINTERS, "the manifest's numbers are relocated");
    if (count > ENTRIES_MAX)
        return hr_manifest_bad(image, hr_textf("%u entries", count).s, hr_textf("at most %u entries", ENTRIES_MAX).s,
                               "split the module", "the manifest has an impossible number of entries");
    if (count > 0 && window->kinds[4] != WORD_ADDRESS)
        return hr_manifest_bad(image, hr_textf("0x%" PRIx64, window->words[4]).s, "a pointer into this module",
                               FIX_POINTERS, "the pointer to the entries is not relocated");
    /* Before the allocation: a count out of the air must not cost 10 MB. */
    if (count > 0 &&
        hr_image_load_of(image, window->words[4], (uint64_t)count * sizeof(hr_patch_entry_v1), true) == NULL)
        return hr_manifest_bad(image, hr_textf("%u entries at 0x%" PRIx64, count, window->words[4]).s,
                               "an array inside this module's file", FIX_POINTERS,
                               "the entries lie outside the module");
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

hr_status hr_manifest_read(image *image, uint64_t address, hr_manifest **manifest) {
    hr_status status;
    window window;
    if (hr_window_open(image, address, HR_ABI_STRUCT_SIZE_V1 / 8, &window, &status)) {
        windows one = {&window, 1};
        status = hr_image_visit(image, hr_window_apply, &one);
        if (status == HR_OK) status = read_manifest_words(image, &window, manifest);
    } else if (status == HR_OK) {
        status = hr_manifest_bad(image, hr_textf("address 0x%" PRIx64, address).s,
                                 "56 aligned bytes inside this module's file", FIX_POINTERS,
                                 EXPORT " lies outside the module");
    }
    hr_window_close(&window);
    return status;
}
