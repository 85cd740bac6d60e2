/* Words of the image as they are once relocations are applied. */
#include "image.h"

#include <stdlib.h>

/* ---- relocated memory ---- */

void hr_window_close(window *window) {
    free(window->words);
    free(window->kinds);
}

void hr_window_apply_to(image *image, const relocation *relocation, window *window) {
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

hr_status hr_window_apply(image *image, const relocation *relocation, void *context) {
    const windows *windows = context;
    for (uint32_t i = 0; i < windows->count; i++) hr_window_apply_to(image, relocation, &windows->items[i]);
    return HR_OK;
}

/* Reads without relocations. The range must lie in the file: false otherwise (or without memory: *status). */
bool hr_window_open(const image *image, uint64_t address, uint64_t count, window *window, hr_status *status) {
    *window = (struct window){.address = address, .count = count};
    table at;
    *status = HR_OK;
    if (address % 8 != 0 || count > SPAN_MAX || !hr_image_locate(image, address, count * 8, &at)) return false;
    window->words = malloc(count * 8 + 1);
    window->kinds = calloc(count + 1, 1);
    if (window->words == NULL || window->kinds == NULL) {
        *status = hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
        return false;
    }
    memcpy(window->words, image->bytes + at.offset, count * 8);
    return true;
}
