/* Names of libraries, and symbol versions (P6, P8). */
#include "image.h"

/* ---- P6, P8: names of libraries, and symbol versions ---- */

static hr_status bad_versions(image *image, const char *reason) { return hr_image_damaged(image, NULL, NULL, reason); }

static hr_status check_library_names(image *image) {
    for (uint64_t i = 0; i < image->dynamic.count; i++) {
        Elf64_Dyn entry = dynamic_entry(image, i);
        if (!names_library((uint64_t)entry.d_tag)) continue;
        if (entry.d_un.d_val >= image->strings.size)
            return hr_image_damaged(image, hr_textf("tag 0x%" PRIx64, (uint64_t)entry.d_tag).s, NULL,
                                    "a library's name lies outside the string table");
        if (entry.d_tag == DT_NEEDED && *string_at(image, entry.d_un.d_val) == 0)
            return hr_image_damaged(image, NULL, NULL, "the name of a needed library is empty");
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
    const load *load = hr_image_load_of(image, address, 1, true);
    return load != NULL && hr_image_locate(image, address, load->file_end - address, table);
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
    if (!hr_image_locate(image, image->dynamic.versym, (uint64_t)image->symbol_count * 2, &image->versions))
        return bad_versions(image, "the symbols' versions lie outside the loaded segments");
    for (uint32_t i = 0; i < image->symbol_count; i++)
        if ((read16(image->bytes + image->versions.offset + (uint64_t)i * 2) & 0x7FFF) > image->version_max)
            return hr_image_damaged(image, hr_textf("symbol %u", i).s,
                                    hr_textf("a version up to %u", image->version_max).s,
                                    "a symbol has a version that does not exist");
    return HR_OK;
}

hr_status hr_image_check_versions(image *image) {
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
