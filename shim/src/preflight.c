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
#include "image.h"

#include <stdio.h>
#include <stdlib.h>

/* P1 to P7: enough to read symbols. */
static hr_status check_structure(image *image) {
    bool readable;
    hr_status status = hr_image_header(image->bytes, image->size, image->failure, &image->header, &readable);
    if (status == HR_OK) status = hr_image_check_header(image);
    if (status == HR_OK)
        status = hr_image_extents(image->bytes, image->size, image->failure, &image->header, &image->section_count);
    if (status == HR_OK) status = hr_image_check_segments(image);
    if (status == HR_OK) status = hr_image_check_sections(image);
    if (status == HR_OK) status = hr_image_check_dynamic(image);
    if (status == HR_OK) status = hr_image_check_symbols(image);
    return status;
}

/* P8 to P10: what the loader does before it returns. */
static hr_status check_loading(image *image) {
    hr_status status = hr_image_check_name_ends(image);
    if (status == HR_OK) status = hr_image_check_versions(image);
    if (status == HR_OK) status = hr_image_check_relocations(image);
    if (status == HR_OK) status = hr_image_check_section_uses(image);
    if (status == HR_OK) status = hr_image_check_initialisers(image);
    return status;
}

hr_status hr_preflight(const void *bytes, uint64_t size, hr_failure *failure, hr_manifest **manifest) {
    image image = {.bytes = bytes, .size = size, .failure = failure};
    char build_id[HR_BUILD_ID_SIZE] = {0};
    uint64_t address = 0;
    *manifest = NULL;
    hr_status status = check_structure(&image);
    if (status == HR_OK) status = hr_manifest_find(&image, &address); /* first: most libraries are no modules */
    if (status == HR_OK) status = check_loading(&image);
    if (status == HR_OK) status = hr_image_build_id(&image, build_id);
    if (status == HR_OK) status = hr_manifest_read(&image, address, manifest);
    if (status == HR_OK) status = hr_descriptions_read(&image, *manifest);
    if (status != HR_OK) {
        hr_manifest_free(*manifest);
        *manifest = NULL;
        return status;
    }
    memcpy((*manifest)->build_id, build_id, sizeof build_id);
    (*manifest)->content = hr_image_content(&image);
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
