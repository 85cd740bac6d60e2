/* Relocations (P9): what the loader writes, where, and after which symbols. */
#include "image.h"

#include <stdlib.h>

typedef struct relocation_kind {
    uint32_t type;
    uint8_t kind;
    uint8_t width; /* bytes written */
} relocation_kind;

#if defined(__x86_64__)
/* R_X86_64_PC32 and R_X86_64_32 are left out: 32 bits do not reach from a library to another one. */
static const relocation_kind relocation_kinds[] = {
    {R_X86_64_NONE, RELOCATE_NONE, 0},     {R_X86_64_RELATIVE, RELOCATE_RELATIVE, 8},
    {R_X86_64_64, RELOCATE_SYMBOL, 8},     {R_X86_64_GLOB_DAT, RELOCATE_GOT, 8},
    {R_X86_64_JUMP_SLOT, RELOCATE_PLT, 8}, {R_X86_64_SIZE32, RELOCATE_OTHER, 4},
    {R_X86_64_SIZE64, RELOCATE_OTHER, 8},  {R_X86_64_IRELATIVE, RELOCATE_RESOLVER, 8},
    {R_X86_64_DTPMOD64, RELOCATE_TLS, 8},  {R_X86_64_DTPOFF64, RELOCATE_TLS, 8},
    {R_X86_64_TLSDESC, RELOCATE_TLS, 16},  {R_X86_64_TPOFF64, RELOCATE_TLS_STATIC, 8},
};
#elif defined(__aarch64__)
static const relocation_kind relocation_kinds[] = {
    {R_AARCH64_NONE, RELOCATE_NONE, 0},      {R_AARCH64_RELATIVE, RELOCATE_RELATIVE, 8},
    {R_AARCH64_ABS64, RELOCATE_SYMBOL, 8},   {R_AARCH64_GLOB_DAT, RELOCATE_GOT, 8},
    {R_AARCH64_JUMP_SLOT, RELOCATE_PLT, 8},  {R_AARCH64_IRELATIVE, RELOCATE_RESOLVER, 8},
    {R_AARCH64_TLS_DTPMOD, RELOCATE_TLS, 8}, {R_AARCH64_TLS_DTPREL, RELOCATE_TLS, 8},
    {R_AARCH64_TLSDESC, RELOCATE_TLS, 16},   {R_AARCH64_TLS_TPREL, RELOCATE_TLS_STATIC, 8},
};
#endif

/* ---- P9: relocations ---- */

static relocation decode_relocation(const uint8_t *at) {
    uint64_t info = read64(at + 8);
    relocation result = {.target = read64(at), .addend = read64(at + 16), .symbol = (uint32_t)ELF64_R_SYM(info)};
    for (size_t i = 0; i < sizeof relocation_kinds / sizeof relocation_kinds[0]; i++)
        if (relocation_kinds[i].type == ELF64_R_TYPE(info)) {
            result.kind = relocation_kinds[i].kind;
            result.width = relocation_kinds[i].width;
            break;
        }
    return result;
}

static hr_status visit_table(image *image, const table *table, relocation_visitor visit, void *context) {
    hr_status status = HR_OK;
    for (uint64_t i = 0; i < table->size && status == HR_OK; i += sizeof(Elf64_Rela)) {
        relocation relocation = decode_relocation(image->bytes + table->offset + i);
        status = visit(image, &relocation, context);
    }
    return status;
}

/* RELR: an even word is an address to relocate, an odd one a bitmap over the 63 words that follow. */
static hr_status visit_relr(image *image, relocation_visitor visit, void *context) {
    hr_status status = HR_OK;
    uint64_t where = 0;
    bool started = false;
    for (uint64_t i = 0; i < image->relr.size && status == HR_OK; i += 8) {
        uint64_t word = read64(image->bytes + image->relr.offset + i);
        relocation relocation = {.kind = RELOCATE_RELATIVE, .width = 8, .in_place = true};
        if ((word & 1) == 0) {
            relocation.target = word;
            status = visit(image, &relocation, context);
            where = word + 8;
            started = true;
            continue;
        }
        if (!started) return hr_image_damaged(image, NULL, NULL, "the packed relocations do not start with an address");
        relocation.target = where;
        for (uint64_t bits = word >> 1; bits != 0 && status == HR_OK; bits >>= 1, relocation.target += 8)
            if (bits & 1) status = visit(image, &relocation, context);
        where += 63 * 8;
    }
    return status;
}

/* In the loader's order, so that a later relocation of the same word counts. */
hr_status hr_image_visit(image *image, relocation_visitor visit, void *context) {
    hr_status status = visit_relr(image, visit, context);
    if (status == HR_OK) status = visit_table(image, &image->relocations, visit, context);
    if (status == HR_OK) status = visit_table(image, &image->plt_relocations, visit, context);
    return status;
}

static hr_status bad_relocation(image *image, const relocation *relocation, const char *reason) {
    return hr_fail(image->failure, HR_E_NOT_ELF,
                   hr_textf("target 0x%" PRIx64 ", symbol %u, addend 0x%" PRIx64, relocation->target,
                            relocation->symbol, relocation->addend)
                       .s,
                   NULL, FIX_BUILD_AGAIN, "a relocation %s", reason);
}

static bool overlaps(const table *table, uint64_t address, uint64_t length) {
    return table->size != 0 && address < table->address + table->size && table->address < address + length;
}

static hr_status static_tls(image *image, const char *found) {
    image->warnings |= HR_WARN_STATIC_TLS;
    return hr_fail(image->failure, HR_E_STATIC_TLS, found, "thread-local storage of the general dynamic model",
                   "build with -fPIC and without -ftls-model=initial-exec (-ftls-model=global-dynamic)",
                   "the module needs static thread-local storage, which runs out after a few reloads");
}

/* The loader acts as if others were not there, and a weak one is then taken to be at address 0. */
static bool can_be_looked_up(uint32_t type, uint32_t binding) {
    return (type <= STT_FUNC || type == STT_COMMON || type == STT_TLS || type == STT_GNU_IFUNC) &&
           (binding <= STB_WEAK || binding == STB_GNU_UNIQUE);
}

/* What a relocation takes from a symbol. */
static hr_status check_reference(image *image, const relocation *relocation) {
    uint8_t kind = relocation->kind;
    /* The loader reads a symbol's version even where the symbol means nothing. */
    if (relocation->symbol >= image->symbol_count) return bad_relocation(image, relocation, "names no symbol");
    if (kind == RELOCATE_RELATIVE || kind == RELOCATE_RESOLVER)
        return relocation->symbol == 0 ? HR_OK : bad_relocation(image, relocation, "names a symbol without use for it");
    if (relocation->symbol == 0) {
        if (kind != RELOCATE_TLS) return bad_relocation(image, relocation, "names no symbol");
        return image->has_tls ? HR_OK : bad_relocation(image, relocation, "needs absent thread-local storage");
    }
    Elf64_Sym symbol = symbol_at(image, relocation->symbol);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info), binding = ELF64_ST_BIND(symbol.st_info);
    bool tls = kind == RELOCATE_TLS;
    if (!can_be_looked_up(type, binding))
        return bad_relocation(image, relocation, "names a symbol of a type that the loader passes over");
    if (kind == RELOCATE_PLT && type == STT_OBJECT) return bad_relocation(image, relocation, "calls data");
    if (symbol.st_shndx == SHN_UNDEF) {
        if ((binding != STB_GLOBAL && binding != STB_WEAK) || ELF64_ST_VISIBILITY(symbol.st_other) != STV_DEFAULT)
            return bad_relocation(image, relocation, "names an undefined symbol that cannot be looked up");
        return HR_OK;
    }
    if (tls != (type == STT_TLS))
        return bad_relocation(image, relocation, "mixes thread-local storage and other symbols");
    if (tls) {
        if (!image->has_tls || symbol.st_value > image->tls.p_memsz)
            return bad_relocation(image, relocation, "lies outside the thread-local storage");
        return HR_OK;
    }
    if (symbol.st_shndx == SHN_ABS) return HR_OK;
    if (symbol.st_value == 0 || hr_image_load_of(image, symbol.st_value, symbol.st_size, false) == NULL)
        return bad_relocation(image, relocation, "names a symbol outside the loaded segments");
    if ((type == STT_FUNC || type == STT_GNU_IFUNC) && !hr_image_symbol_callable(image, symbol.st_value))
        return bad_relocation(image, relocation, "names a symbol that is not the start of a function");
    return HR_OK;
}

/* Symbols that this module defines and refers to by name: another library may take them over (H9). */
static void note_interposable(image *image, const relocation *relocation) {
    if (!by_name(relocation)) return;
    if (HAS(image, DT_SYMBOLIC) || (HAS(image, DT_FLAGS) && (VALUE(image, DT_FLAGS) & DF_SYMBOLIC))) return;
    Elf64_Sym symbol = symbol_at(image, relocation->symbol);
    uint32_t type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL ||
        ELF64_ST_VISIBILITY(symbol.st_other) != STV_DEFAULT || (type != STT_FUNC && type != STT_OBJECT))
        return;
    if (strncmp(string_at(image, symbol.st_name), "HOTPATCH_", 9) != 0) image->warnings |= HR_WARN_INTERPOSABLE;
}

/* What has been relocated so far: a bit for each 4 bytes of the image, and three for each symbol. A damaged target or
 * symbol mostly takes another one's place, and no linker writes the same twice. (But what folds identical functions,
 * BOLT for one, names a symbol of this module twice in the table of addresses.) */
typedef struct seen {
    uint64_t *targets;
    uint64_t first;    /* address of bit 0 */
    uint64_t limit;    /* bits; what is behind has no bytes in the file, and is not watched */
    uint64_t *symbols; /* named in the linker's table of addresses, in that of calls, anywhere */
} seen;

static bool seen_before(const image *image, seen *seen, const relocation *relocation) {
    bool again = false;
    for (uint64_t at = relocation->target; at < relocation->target + relocation->width; at += 4)
        if ((at - seen->first) / 4 < seen->limit) again |= mark(seen->targets, (at - seen->first) / 4);
    uint64_t symbol = relocation->symbol;
    if (symbol == 0) return again;
    mark(seen->symbols, symbol * 3 + 2);
    if (relocation->kind == RELOCATE_PLT) again |= mark(seen->symbols, symbol * 3 + 1);
    if (relocation->kind == RELOCATE_GOT && symbol_at(image, relocation->symbol).st_shndx == SHN_UNDEF)
        again |= mark(seen->symbols, symbol * 3);
    return again;
}

static hr_status seen_open(const image *image, seen *seen) {
    uint64_t first = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < image->load_count; i++)
        if (image->loads[i].flags & PF_W) {
            if (first == UINT64_MAX) first = image->loads[i].start & ~UINT64_C(3);
            end = image->loads[i].file_end;
        }
    /* Segments may be far apart; four times the file is more than any linker leaves between them. */
    uint64_t bits = end > first ? (end - first) / 4 + 1 : 1;
    if (bits > image->size) bits = image->size;
    seen->first = first;
    seen->limit = bits;
    seen->targets = calloc(bits / 64 + 1, 8);
    seen->symbols = calloc((uint64_t)image->symbol_count * 3 / 64 + 1, 8);
    if (seen->targets != NULL && seen->symbols != NULL) return HR_OK;
    return hr_fail(image->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
}

static void seen_close(seen *seen) {
    free(seen->targets);
    free(seen->symbols);
}

/* The compiler's start-up code calls __gmon_start__ when its table entry is not 0, before anything else. No entry of
 * its own means that the entry has become another function's. */
static hr_status check_start_symbol(image *image, const seen *seen) {
    for (uint64_t i = 1; i < image->symbol_count; i++) {
        Elf64_Sym symbol = symbol_at(image, (uint32_t)i);
        uint64_t bit = i * 3 + 2;
        if (symbol.st_shndx == SHN_UNDEF && strcmp(string_at(image, symbol.st_name), "__gmon_start__") == 0 &&
            !((seen->symbols[bit / 64] >> (bit % 64)) & 1))
            return hr_image_damaged(image, "no relocation of __gmon_start__", "one",
                                    "the start-up code would call another function");
    }
    return HR_OK;
}

static hr_status check_relocation(image *image, const relocation *relocation, void *context) {
    if (relocation->kind == RELOCATE_NONE) /* linkers fill room that they do not need, with zeros only */
        return (relocation->target | relocation->addend | relocation->symbol) == 0
                   ? HR_OK
                   : bad_relocation(image, relocation, "has no type");
    if (relocation->kind == RELOCATE_UNKNOWN) return bad_relocation(image, relocation, "is of an unknown type");
    if (relocation->kind == RELOCATE_TLS_STATIC) return static_tls(image, "a relocation of the initial-exec model");
    if ((relocation->kind == RELOCATE_GOT || relocation->kind == RELOCATE_PLT) && relocation->target % 8 != 0)
        return bad_relocation(image, relocation, "is not aligned");
    const load *load = hr_image_load_of(image, relocation->target, relocation->width, false);
    if (load == NULL || !(load->flags & PF_W))
        return bad_relocation(image, relocation, "does not aim at writable memory");
    for (uint32_t i = 0; i < image->guarded_count; i++)
        if (overlaps(&image->guarded[i], relocation->target, relocation->width))
            return bad_relocation(image, relocation, "aims at a table that the loader reads");
    if (relocation->in_place && hr_image_load_of(image, relocation->target, 8, true) == NULL)
        return bad_relocation(image, relocation, "has its addend outside the file");
    if (relocation->kind == RELOCATE_RESOLVER && !hr_image_callable(image, relocation->addend))
        return bad_relocation(image, relocation, "names a resolver that is not executable");
    hr_status status = check_reference(image, relocation);
    if (status == HR_OK && seen_before(image, context, relocation))
        return bad_relocation(image, relocation, "repeats another one's target or symbol");
    if (status == HR_OK) note_interposable(image, relocation);
    return status;
}

/* The table of what the module calls in other libraries: without gaps, as far as linkers write it. A call through an
 * entry that is not relocated would leave the image. */
typedef struct calls {
    uint64_t first, last, count;
} calls;

static hr_status count_call(image *image, const relocation *relocation, void *context) {
    (void)image;
    calls *calls = context;
    bool in_table = relocation->target >= calls->first && relocation->target <= calls->last;
    calls->count += in_table && (relocation->kind == RELOCATE_PLT || relocation->kind == RELOCATE_RESOLVER);
    return HR_OK;
}

static hr_status check_plt_kind(image *image, const relocation *relocation, void *context) {
    calls *calls = context;
    if (relocation->kind == RELOCATE_PLT) {
        if (relocation->target < calls->first) calls->first = relocation->target;
        if (relocation->target > calls->last) calls->last = relocation->target;
    }
    bool call = relocation->kind == RELOCATE_PLT || relocation->kind == RELOCATE_RESOLVER ||
                (relocation->kind == RELOCATE_TLS && relocation->width == 16);
    return call ? HR_OK : bad_relocation(image, relocation, "of a call has another type");
}

static hr_status check_calls(image *image) {
    calls calls = {UINT64_MAX, 0, 0};
    hr_status status = visit_table(image, &image->plt_relocations, check_plt_kind, &calls);
    if (status != HR_OK || calls.last == 0) return status;
    status = hr_image_visit(image, count_call, &calls); /* resolvers are among them, in either table */
    if (status == HR_OK && calls.count != (calls.last - calls.first) / 8 + 1)
        return hr_image_damaged(image, hr_textf("%" PRIu64 " relocations", calls.count).s,
                                hr_textf("%" PRIu64, (calls.last - calls.first) / 8 + 1).s,
                                "the table of calls has gaps");
    return status;
}

/* glibc asserts that the first DT_RELACOUNT relocations are relative ones. */
static hr_status check_relative_count(image *image) {
    uint64_t count = image->dynamic.relacount, available = image->relocations.size / sizeof(Elf64_Rela);
    const uint8_t *table = image->bytes + image->relocations.offset;
    if (count > available)
        return hr_image_damaged(image, hr_textf("%" PRIu64, count).s, hr_textf("at most %" PRIu64, available).s,
                                "more relative relocations are announced than there are relocations");
    for (uint64_t i = 0; i < count; i++)
        if (decode_relocation(table + i * sizeof(Elf64_Rela)).kind != RELOCATE_RELATIVE)
            return hr_image_damaged(image, hr_textf("relocation %" PRIu64, i).s,
                                    hr_textf("%" PRIu64 " relative ones first", count).s,
                                    "the relative relocations are not first");
    return HR_OK;
}

/* Only what is in writable memory needs a guard: usually the dynamic section alone, more after patchelf. */
static void guard(image *image, const table *table) {
    const load *load = table->size != 0 ? hr_image_load_of(image, table->address, 1, true) : NULL;
    if (load != NULL && (load->flags & PF_W)) image->guarded[image->guarded_count++] = *table;
}

static void guard_tables(image *image) {
    const table *tables[] = {&image->dynamic.at,  &image->symbols,         &image->strings, &image->hash,
                             &image->relocations, &image->plt_relocations, &image->relr,    &image->versions};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) guard(image, tables[i]);
    uint64_t offset = image->header.e_phoff, size = (uint64_t)image->header.e_phnum * sizeof(Elf64_Phdr);
    for (uint32_t i = 0; i < image->load_count; i++) { /* the loader uses these where they are mapped */
        const load *load = &image->loads[i];
        if (offset >= load->offset && offset - load->offset < load->file_end - load->start)
            guard(image, &(table){load->start + (offset - load->offset), offset, size});
    }
}

hr_status hr_image_check_relocations(image *image) {
    /* Linkers may count the second table into the first; the loader takes it off again. */
    table *all = &image->relocations, *plt = &image->plt_relocations;
    if (plt->size != 0 && plt->size <= all->size && plt->address == all->address + all->size - plt->size)
        all->size -= plt->size;
    guard_tables(image);
    hr_status status = check_relative_count(image);
    seen seen = {0};
    if (status == HR_OK) status = seen_open(image, &seen);
    if (status == HR_OK) status = hr_image_visit(image, check_relocation, &seen);
    if (status == HR_OK) status = check_start_symbol(image, &seen);
    seen_close(&seen);
    if (status == HR_OK) status = check_calls(image);
    if (status == HR_OK && (image->warnings & HR_WARN_STATIC_TLS)) status = static_tls(image, "DF_STATIC_TLS");
    return status;
}
