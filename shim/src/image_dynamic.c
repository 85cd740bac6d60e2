/* The dynamic section (P6): what the loader is told, and where. */
#include "image.h"

/* ---- P6: the dynamic section ---- */

static hr_status read_dynamic(image *image) {
    dynamic *dynamic = &image->dynamic;
    const load *load = hr_image_load_of(image, dynamic->at.address, dynamic->at.size, true);
    /* Loaders before glibc 2.35 write into it whatever its flags say. */
    if (!(load->flags & PF_W))
        return hr_image_damaged(image, NULL, "a writable one", "the dynamic section is read-only");
    uint64_t limit = dynamic->at.size / sizeof(Elf64_Dyn);
    for (uint64_t i = 0; i < limit; i++) {
        Elf64_Dyn entry;
        memcpy(&entry, image->bytes + dynamic->at.offset + i * sizeof entry, sizeof entry);
        if (entry.d_tag == DT_NULL) {
            dynamic->count = i;
            return HR_OK;
        }
        if (entry.d_tag > 0 && entry.d_tag < TAGS) {
            dynamic->values[entry.d_tag] = entry.d_un.d_val;
            dynamic->present |= UINT64_C(1) << entry.d_tag;
        }
        uint64_t *table = NULL;
        switch (entry.d_tag) {
        case DT_GNU_HASH: table = &dynamic->gnu_hash; break;
        case DT_VERSYM: table = &dynamic->versym; break;
        case DT_VERNEED: table = &dynamic->verneed; break;
        case DT_VERDEF: table = &dynamic->verdef; break;
        case DT_RELACOUNT: dynamic->relacount = entry.d_un.d_val; break;
        case DT_FLAGS_1: dynamic->flags_1 = entry.d_un.d_val; break;
        default: break;
        }
        if (table != NULL && entry.d_un.d_val == 0)
            return hr_image_damaged(image, hr_textf("tag 0x%" PRIx64, (uint64_t)entry.d_tag).s, "an address",
                                    "the dynamic section names a table without its address");
        if (table != NULL) *table = entry.d_un.d_val;
    }
    return hr_image_damaged(image, NULL, "a DT_NULL entry at its end", "the dynamic section does not end");
}

/* A table of the dynamic section: its address, size and entry size. Absent is fine unless its size is there. */
static hr_status find_table(image *image, const char *name, uint32_t address_tag, uint32_t size_tag, uint32_t entry_tag,
                            uint64_t entry_size, table *table) {
    if (!HAS(image, address_tag)) {
        if (HAS(image, size_tag) && VALUE(image, size_tag) != 0)
            return hr_image_damaged(image, NULL, name, "the dynamic section gives a table's size without its address");
        return HR_OK;
    }
    if (!HAS(image, size_tag))
        return hr_image_damaged(image, NULL, name, "the dynamic section gives a table without its size");
    if (entry_tag != 0 && (!HAS(image, entry_tag) || VALUE(image, entry_tag) != entry_size))
        return hr_image_damaged(image, NULL, hr_textf("%s entries of %" PRIu64 " bytes", name, entry_size).s,
                                "the entries of a table have an impossible size");
    uint64_t size = VALUE(image, size_tag);
    if (size % entry_size != 0 || !hr_image_locate(image, VALUE(image, address_tag), size, table))
        return hr_image_damaged(image,
                                hr_textf("address 0x%" PRIx64 ", size 0x%" PRIx64, VALUE(image, address_tag), size).s,
                                name, "a table lies outside the loaded segments");
    return HR_OK;
}

static hr_status check_flags(image *image) {
    uint64_t flags = HAS(image, DT_FLAGS) ? VALUE(image, DT_FLAGS) : 0, flags_1 = image->dynamic.flags_1;
    if (HAS(image, DT_TEXTREL) || (flags & DF_TEXTREL))
        return hr_fail(image->failure, HR_E_NOT_ELF, "DT_TEXTREL", "position-independent code",
                       "build every object with -fPIC", "the module's code would be written to while it is loaded");
    if (flags_1 & DF_1_PIE)
        return hr_fail(image->failure, HR_E_NOT_ELF, "a position-independent executable", "a shared library", NULL,
                       "this is an executable, not a shared library");
    if (flags_1 & DF_1_NOOPEN)
        return hr_fail(image->failure, HR_E_NOT_ELF, "DF_1_NOOPEN", NULL, "link without -z nodlopen",
                       "the module forbids dlopen");
    if (flags_1 & DF_1_NODELETE) image->warnings |= HR_WARN_NODELETE;
    if (flags & DF_STATIC_TLS) image->warnings |= HR_WARN_STATIC_TLS;
    return HR_OK;
}

hr_status hr_image_check_dynamic(image *image) {
    hr_status status = read_dynamic(image);
    if (status == HR_OK) status = check_flags(image);
    if (status != HR_OK) return status;
    if (!HAS(image, DT_SYMTAB) || !HAS(image, DT_STRTAB) || !HAS(image, DT_STRSZ))
        return hr_image_damaged(image, NULL, "DT_SYMTAB, DT_STRTAB and DT_STRSZ",
                                "the dynamic section names no symbols");
    if (HAS(image, DT_SYMENT) && VALUE(image, DT_SYMENT) != sizeof(Elf64_Sym))
        return hr_image_damaged(image, NULL, "24 bytes", "symbols have an impossible size");
    if (HAS(image, DT_REL)) return hr_image_damaged(image, "DT_REL", "DT_RELA", "relocations of a kind not used here");
    status = find_table(image, "string table", DT_STRTAB, DT_STRSZ, 0, 1, &image->strings);
    if (status == HR_OK)
        status = find_table(image, "DT_RELA", DT_RELA, DT_RELASZ, DT_RELAENT, sizeof(Elf64_Rela), &image->relocations);
    if (status == HR_OK)
        status = find_table(image, "DT_JMPREL", DT_JMPREL, DT_PLTRELSZ, 0, sizeof(Elf64_Rela), &image->plt_relocations);
    if (status == HR_OK)
        status = find_table(image, "DT_RELR", DT_RELR, DT_RELRSZ, DT_RELRENT, sizeof(uint64_t), &image->relr);
    if (status != HR_OK) return status;
    /* The loader uses each of the three once it sees DT_PLTREL, and asserts its value. */
    if (HAS(image, DT_PLTREL) != HAS(image, DT_JMPREL) || (HAS(image, DT_PLTREL) && VALUE(image, DT_PLTREL) != DT_RELA))
        return hr_image_damaged(image, NULL, "DT_JMPREL and DT_PLTRELSZ with DT_PLTREL = DT_RELA",
                                "the relocations of the procedure linkage table are incomplete");
    if (image->strings.size == 0 || image->bytes[image->strings.offset + image->strings.size - 1] != 0)
        return hr_image_damaged(image, NULL, "a zero at its end", "the string table does not end");
    return HR_OK;
}
