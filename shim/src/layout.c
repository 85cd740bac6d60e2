/* Descriptions of layouts, read into one form: from a module's bytes, from memory, or from a message.
 *
 * The form is the hr_layout_v1 that authors write, in one block of memory, with these promises:
 *   L1  Every count, size, offset and text has been checked; texts are valid UTF-8; fields lie inside their type.
 *   L2  `types` holds every type reached from entries and fields, each name once, sorted by name; names are plain
 *       (hr_layout_plain_name), so that "struct Voice" and "synth::Voice" are found as "Voice".
 *   L3  `entries` are sorted by symbol, each once. A null type is one that is not described.
 *   L4  A field's `nested` is the struct, union or enum of this description that the field holds by value, or null.
 *   L5  Equal descriptions make equal blocks, but for where they are: hr_layout_pack makes them equal bytes. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX
#define FIX "describe the structs with the macros of describe.h or the crate's, and build again"

typedef struct type_item {
    uint64_t address; /* of the author's struct; 0: none is known */
    hr_layout_type_v1 type; /* names point into the source; fields are in builder.fields */
    uint32_t first_field;
    uint32_t rank; /* which of several merged descriptions it is from */
} type_item;

typedef struct field_item {
    hr_layout_field_v1 field;
} field_item;

typedef struct entry_item {
    const char *symbol;
    uint32_t types[3]; /* index of state, input, output, or NONE */
} entry_item;

typedef struct builder {
    hr_failure *failure;
    hr_status status; /* what failures are */
    const hr_layout_reader *reader;
    type_item *types;
    field_item *fields;
    entry_item *entries;
    uint32_t *seen; /* address -> 1 + type, open addressing */
    uint32_t type_count, type_capacity, field_count, field_capacity, entry_count, entry_capacity, seen_size;
    uint32_t rank;
} builder;

/* ---- failures ---- */

static hr_status out_of_memory(builder *b) {
    return hr_fail(b->failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
}

static hr_status invalid(builder *b, const char *found, const char *expected, const char *what) {
    return hr_fail(b->failure, b->status, found, expected, FIX, "the description of layouts is invalid: %s", what);
}

static hr_status invalid_type(builder *b, const char *type, const char *what) {
    return hr_fail(b->failure, b->status, type, NULL, FIX, "the description of layouts is invalid: %s: %s", type, what);
}

/* ---- names ---- */

const char *hr_layout_plain_name(const char *name) {
    static const char *const words[] = {"struct ", "union ", "enum ", "class "};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t length = strlen(words[i]);
        if (strncmp(name, words[i], length) != 0 || name[length] == 0) continue;
        name += length;
        i = SIZE_MAX; /* from the first word again: a plain name's plain name is itself */
    }
    if (strpbrk(name, "<*& (") != NULL) return name;
    for (const char *colons = strstr(name, "::"); colons != NULL && colons[2] != 0; colons = strstr(name, "::"))
        name = colons + 2;
    return name;
}

/* ---- growing arrays ---- */

static bool grow(void **items, uint32_t *capacity, uint32_t count, size_t size) {
    if (count < *capacity) return true;
    uint32_t wanted = *capacity ? *capacity * 2 : 32;
    void *grown = realloc(*items, wanted * size);
    if (grown == NULL) return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

static void builder_free(builder *b) {
    free(b->types);
    free(b->fields);
    free(b->entries);
    free(b->seen);
}

/* ---- reading ---- */

static hr_status read_words(builder *b, uint64_t address, uint32_t count, uint32_t pointers, uint64_t *words,
                            const char *what) {
    if (b->reader->read(b->reader->context, address, count, pointers, words)) return HR_OK;
    char found[64];
    snprintf(found, sizeof found, "address 0x%llx", (unsigned long long)address);
    return invalid(b, found, "plain numbers and pointers of the module's own data", what);
}

static hr_status read_text(builder *b, uint64_t address, bool may_be_empty, const char *what, const char **text) {
    *text = address ? b->reader->text(b->reader->context, address) : NULL;
    if (*text == NULL && address == 0 && may_be_empty) *text = "";
    if (*text != NULL && (**text || may_be_empty) && hr_text_valid(*text)) return HR_OK;
    return invalid(b, what, "a text of 1 to 255 bytes of UTF-8", "a name");
}

static bool seen_grow(builder *b) {
    if (b->type_count * 2 < b->seen_size) return true;
    uint32_t size = b->seen_size ? b->seen_size * 2 : 64;
    uint32_t *seen = calloc(size, sizeof *seen);
    if (seen == NULL) return false;
    for (uint32_t i = 0; i < b->type_count; i++) {
        uint32_t at = (uint32_t)(b->types[i].address * UINT64_C(0x9e3779b97f4a7c15) >> 40) & (size - 1);
        while (seen[at]) at = (at + 1) & (size - 1);
        seen[at] = i + 1;
    }
    free(b->seen);
    b->seen = seen;
    b->seen_size = size;
    return true;
}

/* The type at an address; a new one is only noted, and read when its turn comes: nothing recurses. */
static hr_status refer(builder *b, uint64_t address, uint32_t *index) {
    *index = NONE;
    if (address == 0) return HR_OK;
    if (!seen_grow(b)) return out_of_memory(b);
    uint32_t at = (uint32_t)(address * UINT64_C(0x9e3779b97f4a7c15) >> 40) & (b->seen_size - 1);
    for (; b->seen[at]; at = (at + 1) & (b->seen_size - 1)) {
        const type_item *known = &b->types[b->seen[at] - 1];
        if (known->address != address || known->rank != b->rank) continue;
        *index = b->seen[at] - 1;
        return HR_OK;
    }
    if (b->type_count == HR_LAYOUT_TYPES_MAX) return invalid(b, NULL, "at most 4096", "too many types");
    if (!grow((void **)&b->types, &b->type_capacity, b->type_count, sizeof *b->types)) return out_of_memory(b);
    memset(&b->types[b->type_count], 0, sizeof *b->types);
    b->types[b->type_count].address = address;
    b->types[b->type_count].rank = b->rank;
    *index = b->type_count++;
    b->seen[at] = *index + 1;
    return HR_OK;
}

static hr_status read_field(builder *b, const hr_layout_type_v1 *type, uint64_t address) {
    uint64_t words[6];
    hr_layout_field_v1 field = {0};
    uint32_t nested;
    hr_status status = read_words(b, address, 6, 7, words, "a field");
    if (status == HR_OK) status = read_text(b, words[0], false, "of a field", &field.name);
    if (status == HR_OK) status = read_text(b, words[1], type->kind == HR_TYPE_ENUM, "of a field's type", &field.type);
    if (status == HR_OK) status = refer(b, words[2], &nested);
    if (status != HR_OK) return status;
    field.offset = words[3];
    field.size = words[4];
    field.flags = (uint32_t)words[5] & 0xFF;
    if (type->kind != HR_TYPE_ENUM && (field.offset > type->size || field.size > type->size - field.offset))
        return invalid_type(b, type->name, "a field lies outside it");
    if (!grow((void **)&b->fields, &b->field_capacity, b->field_count, sizeof *b->fields)) return out_of_memory(b);
    b->fields[b->field_count++].field = field;
    return HR_OK;
}

static hr_status read_type(builder *b, uint32_t index) {
    uint64_t words[5];
    hr_layout_type_v1 type = {0};
    hr_status status = read_words(b, b->types[index].address, 5, 1 | 1 << 4, words, "a type");
    if (status != HR_OK) return status;
    type.size = words[1];
    type.align = (uint32_t)words[2];
    type.kind = (uint32_t)(words[2] >> 32);
    type.flags = (uint32_t)words[3] & HR_TYPE_PARTIAL;
    type.field_count = (uint32_t)(words[3] >> 32);
    status = read_text(b, words[0], type.kind == HR_TYPE_UNCHECKED, "of a type", &type.name);
    if (status != HR_OK) return status;
    type.name = hr_layout_plain_name(type.name);
    bool fields = type.kind == HR_TYPE_STRUCT || type.kind == HR_TYPE_UNION || type.kind == HR_TYPE_ENUM;
    if (type.kind < HR_TYPE_STRUCT || type.kind > HR_TYPE_UNCHECKED) return invalid_type(b, type.name, "unknown kind");
    if (type.align == 0 || (type.align & (type.align - 1))) return invalid_type(b, type.name, "impossible alignment");
    if (type.field_count != 0 && (!fields || words[4] == 0)) return invalid_type(b, type.name, "impossible fields");
    if (type.field_count > HR_LAYOUT_FIELDS_MAX - b->field_count) return invalid_type(b, type.name, "too many fields");
    b->types[index].type = type;
    b->types[index].first_field = b->field_count;
    for (uint32_t i = 0; i < type.field_count && status == HR_OK; i++)
        status = read_field(b, &type, words[4] + (uint64_t)i * sizeof(hr_layout_field_v1));
    return status;
}

static hr_status read_entry(builder *b, uint64_t address) {
    uint64_t words[4];
    entry_item entry = {0};
    hr_status status = read_words(b, address, 4, 15, words, "an entry");
    if (status == HR_OK) status = read_text(b, words[0], false, "of an entry's symbol", &entry.symbol);
    for (uint32_t i = 0; i < 3 && status == HR_OK; i++) status = refer(b, words[i + 1], &entry.types[i]);
    if (status != HR_OK) return status;
    if (!grow((void **)&b->entries, &b->entry_capacity, b->entry_count, sizeof *b->entries)) return out_of_memory(b);
    b->entries[b->entry_count++] = entry;
    return HR_OK;
}

static hr_status read_head(builder *b, uint64_t address, uint64_t *words) {
    hr_status status = read_words(b, address, 4, 1 << 2 | 1 << 3, words, "its head");
    if (status != HR_OK) return status;
    uint32_t magic = (uint32_t)words[0], version = (words[0] >> 32) & 0xFFFF, size = (uint32_t)(words[0] >> 48);
    if (magic == HR_LAYOUT_MAGIC_V1 && version == HR_LAYOUT_VERSION_V1 && size == HR_LAYOUT_STRUCT_SIZE_V1) {
        uint32_t types = (uint32_t)words[1], entries = (uint32_t)(words[1] >> 32);
        if (types > HR_LAYOUT_TYPES_MAX || entries > HR_SLOTS_MAX || (types && !words[2]) || (entries && !words[3]))
            return invalid(b, NULL, NULL, "impossible counts");
        return HR_OK;
    }
    char found[80], expected[80];
    snprintf(found, sizeof found, "magic 0x%08x, version 0x%x, struct size 0x%x", magic, version, size);
    snprintf(expected, sizeof expected, "magic 0x%08x, version 0x%x, struct size 0x%x", HR_LAYOUT_MAGIC_V1,
             HR_LAYOUT_VERSION_V1, HR_LAYOUT_STRUCT_SIZE_V1);
    return hr_fail(b->failure, b->status == HR_E_USAGE ? HR_E_USAGE : HR_E_ABI, found, expected, NULL,
                   "the head of the description of layouts differs");
}

static hr_status add_description(builder *b, uint64_t address) {
    uint64_t head[4], pointer;
    uint32_t index, first = b->type_count;
    hr_status status = read_head(b, address, head);
    for (uint32_t i = 0; status == HR_OK && i < (uint32_t)head[1]; i++) {
        status = read_words(b, head[2] + (uint64_t)i * 8, 1, 1, &pointer, "the list of types");
        if (status == HR_OK) status = refer(b, pointer, &index);
    }
    for (uint32_t i = 0; status == HR_OK && i < (uint32_t)(head[1] >> 32); i++)
        status = read_entry(b, head[3] + (uint64_t)i * sizeof(hr_layout_entry_v1));
    for (uint32_t i = first; status == HR_OK && i < b->type_count; i++) status = read_type(b, i);
    return status;
}

/* ---- the same name twice ---- */

static bool same_field(const hr_layout_field_v1 *a, const hr_layout_field_v1 *b) {
    return a->offset == b->offset && a->size == b->size && a->flags == b->flags && strcmp(a->name, b->name) == 0 &&
           strcmp(a->type, b->type) == 0;
}

static bool same_item(const builder *b, const type_item *x, const type_item *y) {
    if (x->type.size != y->type.size || x->type.align != y->type.align || x->type.kind != y->type.kind ||
        x->type.field_count != y->type.field_count)
        return false;
    for (uint32_t i = 0; i < x->type.field_count; i++)
        if (!same_field(&b->fields[x->first_field + i].field, &b->fields[y->first_field + i].field)) return false;
    return true;
}

static uint32_t own_fields(const builder *b, const type_item *item) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < item->type.field_count; i++)
        count += !hr_layout_is_reserve(&b->fields[item->first_field + i].field);
    return count;
}

/* Which of two types of one name stays. Of merged descriptions that agree, the one that has grown into its reserve. */
static hr_status choose(builder *b, const hr_layout_merge *merge, uint32_t *kept, uint32_t other) {
    const type_item *x = &b->types[*kept], *y = &b->types[other];
    if (same_item(b, x, y)) return HR_OK;
    if (x->rank == y->rank || merge == NULL)
        return hr_fail(b->failure, b->status, x->type.name, NULL, "describe each type once, or give them two names",
                       "%s is described twice, in two ways", x->type.name);
    bool second = merge->replaces(merge->context, x->type.name) ? y->rank > x->rank
                  : x->type.kind != HR_TYPE_STRUCT              ? y->rank < x->rank
                                                                : own_fields(b, y) > own_fields(b, x);
    if (second) *kept = other;
    return HR_OK;
}

static int by_name(const void *a, const void *b, void *context) {
    const builder *of = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = strcmp(of->types[x].type.name, of->types[y].type.name);
    return order ? order : (x > y) - (x < y);
}

static int by_symbol(const void *a, const void *b) {
    const entry_item *x = a, *y = b;
    return strcmp(x->symbol, y->symbol);
}

/* Fills unique[] with one type for each name, and of[] with each type's place in it; NONE for "unchecked". */
static hr_status unite_types(builder *b, const hr_layout_merge *merge, uint32_t *unique, uint32_t *of,
                             uint32_t *count) {
    uint32_t *order = malloc((b->type_count + 1) * sizeof *order);
    if (order == NULL) return out_of_memory(b);
    uint32_t named = 0;
    for (uint32_t i = 0; i < b->type_count; i++) {
        of[i] = NONE;
        if (b->types[i].type.kind != HR_TYPE_UNCHECKED) order[named++] = i;
    }
    qsort_r(order, named, sizeof *order, by_name, b);
    hr_status status = HR_OK;
    *count = 0;
    for (uint32_t i = 0; i < named && status == HR_OK; i++) {
        bool again = *count && strcmp(b->types[unique[*count - 1]].type.name, b->types[order[i]].type.name) == 0;
        if (again) status = choose(b, merge, &unique[*count - 1], order[i]);
        else unique[(*count)++] = order[i];
        of[order[i]] = *count - 1;
    }
    free(order);
    return status;
}

/* Entries of one symbol become one; what one of them leaves open, the other may say. */
static hr_status unite_entries(builder *b, const uint32_t *of) {
    if (b->entry_count == 0) return HR_OK;
    qsort(b->entries, b->entry_count, sizeof *b->entries, by_symbol);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->entry_count; i++) {
        entry_item *entry = &b->entries[i], *last = kept ? &b->entries[kept - 1] : NULL;
        for (uint32_t k = 0; k < 3; k++) entry->types[k] = entry->types[k] == NONE ? NONE : of[entry->types[k]];
        if (last == NULL || strcmp(last->symbol, entry->symbol) != 0) {
            b->entries[kept++] = *entry;
            continue;
        }
        for (uint32_t k = 0; k < 3; k++) {
            if (last->types[k] == NONE) last->types[k] = entry->types[k];
            else if (entry->types[k] != NONE && entry->types[k] != last->types[k])
                return hr_fail(b->failure, b->status, entry->symbol, NULL, "describe each slot once",
                               "%s is described twice, in two ways", entry->symbol);
        }
    }
    b->entry_count = kept;
    return HR_OK;
}

/* ---- the block ---- */

typedef struct block {
    hr_layout_v1 *head;
    hr_layout_type_v1 *types;
    const hr_layout_type_v1 **list;
    hr_layout_field_v1 *fields;
    hr_layout_entry_v1 *entries;
    char *texts;
} block;

static size_t block_texts(const builder *b, const uint32_t *unique, uint32_t count, uint32_t *fields) {
    size_t size = 0;
    *fields = 0;
    for (uint32_t i = 0; i < count; i++) {
        const type_item *item = &b->types[unique[i]];
        size += strlen(item->type.name) + 1;
        for (uint32_t k = 0; k < item->type.field_count; k++) {
            const hr_layout_field_v1 *field = &b->fields[item->first_field + k].field;
            size += strlen(field->name) + strlen(field->type) + 2;
        }
        *fields += item->type.field_count;
    }
    for (uint32_t i = 0; i < b->entry_count; i++) size += strlen(b->entries[i].symbol) + 1;
    return size;
}

static size_t block_size(uint32_t types, uint32_t fields, uint32_t entries) {
    return sizeof(hr_layout_v1) + types * (sizeof(hr_layout_type_v1) + sizeof(void *)) +
           fields * sizeof(hr_layout_field_v1) + entries * sizeof(hr_layout_entry_v1);
}

static const char *put_text(block *to, const char *text) {
    size_t size = strlen(text) + 1;
    char *start = memcpy(to->texts, text, size);
    to->texts += size;
    return start;
}

const hr_layout_type_v1 *hr_layout_find_type(const hr_layout_v1 *layout, const char *name) {
    uint32_t low = 0, high = layout->type_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(layout->types[middle]->name, name);
        if (order == 0) return layout->types[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

const hr_layout_entry_v1 *hr_layout_find_entry(const hr_layout_v1 *layout, const char *symbol) {
    uint32_t low = 0, high = layout->entry_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(layout->entries[middle].symbol, symbol);
        if (order == 0) return &layout->entries[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* L4: by name, which is how fields are compared as well. A number that some slot takes is described too, but is no part
 * of the structs that have such fields: their description must not depend on what else is described. */
static void link_nested(block *to, uint32_t fields) {
    char base[HR_TYPE_NAME_MAX + 1];
    for (uint32_t i = 0; i < fields; i++) {
        if (!hr_layout_value_type(to->fields[i].type, base)) continue;
        const hr_layout_type_v1 *type = hr_layout_find_type(to->head, base);
        if (type && type->kind <= HR_TYPE_ENUM) to->fields[i].nested = type;
    }
}

static hr_layout_v1 *make_block(const builder *b, const uint32_t *unique, uint32_t count) {
    uint32_t fields;
    size_t texts = block_texts(b, unique, count, &fields), fixed = block_size(count, fields, b->entry_count);
    char *bytes = calloc(1, fixed + texts);
    if (bytes == NULL) return NULL;
    block to = {.head = (void *)bytes};
    to.list = (void *)(to.head + 1);
    to.types = (void *)(to.list + count);
    to.fields = (void *)(to.types + count);
    to.entries = (void *)(to.fields + fields);
    to.texts = bytes + fixed;
    *to.head = (hr_layout_v1){HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, HR_LAYOUT_STRUCT_SIZE_V1, count,
                              b->entry_count, to.list, to.entries};
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const type_item *item = &b->types[unique[i]];
        to.types[i] = item->type;
        to.types[i].name = put_text(&to, item->type.name);
        to.types[i].fields = item->type.field_count ? to.fields + at : NULL;
        to.list[i] = &to.types[i];
        for (uint32_t k = 0; k < item->type.field_count; k++, at++) {
            to.fields[at] = b->fields[item->first_field + k].field;
            to.fields[at].name = put_text(&to, to.fields[at].name);
            to.fields[at].type = put_text(&to, to.fields[at].type);
        }
    }
    for (uint32_t i = 0; i < b->entry_count; i++) {
        const entry_item *entry = &b->entries[i];
        const hr_layout_type_v1 *types[3];
        for (uint32_t k = 0; k < 3; k++) types[k] = entry->types[k] == NONE ? NULL : &to.types[entry->types[k]];
        to.entries[i] = (hr_layout_entry_v1){put_text(&to, entry->symbol), types[0], types[1], types[2]};
    }
    link_nested(&to, fields);
    return to.head;
}

static hr_status finish(builder *b, const hr_layout_merge *merge, hr_layout_v1 **layout) {
    uint32_t count = 0;
    uint32_t *unique = malloc((b->type_count + 1) * sizeof *unique), *of = malloc((b->type_count + 1) * sizeof *of);
    hr_status status = unique && of ? unite_types(b, merge, unique, of, &count) : out_of_memory(b);
    if (status == HR_OK) status = unite_entries(b, of);
    if (status == HR_OK && (*layout = make_block(b, unique, count)) == NULL) status = out_of_memory(b);
    free(unique);
    free(of);
    return status;
}

hr_status hr_layout_read(const hr_layout_reader *reader, uint64_t address, hr_status invalid_status,
                         hr_failure *failure, hr_layout_v1 **layout) {
    builder b = {.failure = failure, .status = invalid_status, .reader = reader};
    *layout = NULL;
    hr_status status = add_description(&b, address);
    if (status == HR_OK) status = finish(&b, NULL, layout);
    builder_free(&b);
    return status;
}

void hr_layout_free(hr_layout_v1 *layout) { free(layout); }

/* ---- memory as a source ---- */

static bool memory_holds(const hr_layout_memory *memory, uint64_t address, uint64_t size) {
    if (memory->ranges == NULL) return true;
    for (uint32_t i = 0; i < memory->range_count; i++) {
        uint64_t start = memory->ranges[i].start, end = memory->ranges[i].end;
        if (address >= start && address <= end && size <= end - address) return true;
    }
    return false;
}

/* By number: base may be null, for addresses of this process. */
static const uint8_t *memory_at(const hr_layout_memory *memory, uint64_t address) {
    return (const uint8_t *)((uintptr_t)memory->base + (uintptr_t)address);
}

static bool memory_read(void *context, uint64_t address, uint32_t count, uint32_t pointers, uint64_t *words) {
    const hr_layout_memory *memory = context;
    (void)pointers;
    if (!memory_holds(memory, address, (uint64_t)count * 8)) return false;
    memcpy(words, memory_at(memory, address), (size_t)count * 8);
    return true;
}

static const char *memory_text(void *context, uint64_t address) {
    const hr_layout_memory *memory = context;
    for (uint32_t i = 0; i <= HR_TYPE_NAME_MAX; i++) {
        if (!memory_holds(memory, address + i, 1)) return NULL;
        if (*memory_at(memory, address + i) == 0) return (const char *)memory_at(memory, address);
    }
    return NULL;
}

hr_layout_reader hr_layout_memory_reader(hr_layout_memory *memory) {
    return (hr_layout_reader){memory, memory_read, memory_text};
}

hr_status hr_layout_copy(const hr_layout_v1 *from, hr_failure *failure, hr_layout_v1 **layout) {
    hr_layout_memory all = {0};
    hr_layout_reader reader = hr_layout_memory_reader(&all);
    return hr_layout_read(&reader, (uint64_t)(uintptr_t)from, HR_E_USAGE, failure, layout);
}

hr_status hr_layout_merge_two(const hr_layout_v1 *first, const hr_layout_v1 *second, const hr_layout_merge *merge,
                              hr_failure *failure, hr_layout_v1 **layout) {
    hr_layout_memory all = {0};
    hr_layout_reader reader = hr_layout_memory_reader(&all);
    builder b = {.failure = failure, .status = HR_E_USAGE, .reader = &reader};
    *layout = NULL;
    hr_status status = first ? add_description(&b, (uint64_t)(uintptr_t)first) : HR_OK;
    b.rank = 1;
    if (status == HR_OK) status = add_description(&b, (uint64_t)(uintptr_t)second);
    if (status == HR_OK) status = finish(&b, merge, layout);
    builder_free(&b);
    return status;
}

/* ---- as bytes of a message: pointers become offsets ---- */

static uint32_t field_total(const hr_layout_v1 *layout) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < layout->type_count; i++) total += layout->types[i]->field_count;
    return total;
}

static uint64_t text_end(uint64_t end, const char *text) {
    uint64_t after = (uint64_t)(uintptr_t)text + strlen(text) + 1;
    return after > end ? after : end;
}

static uint64_t layout_bytes(const hr_layout_v1 *layout) {
    uint64_t start = (uint64_t)(uintptr_t)layout;
    uint64_t end = start + block_size(layout->type_count, field_total(layout), layout->entry_count);
    for (uint32_t i = 0; i < layout->type_count; i++) {
        const hr_layout_type_v1 *type = layout->types[i];
        end = text_end(end, type->name);
        for (uint32_t k = 0; k < type->field_count; k++) end = text_end(text_end(end, type->fields[k].name),
                                                                         type->fields[k].type);
    }
    for (uint32_t i = 0; i < layout->entry_count; i++) end = text_end(end, layout->entries[i].symbol);
    return end - start;
}

static void relative(void *bytes, const void *start, const void *place) {
    uint64_t at = (uint64_t)((const char *)place - (const char *)start), value;
    memcpy(&value, (char *)bytes + at, sizeof value);
    if (value) value -= (uint64_t)(uintptr_t)start;
    memcpy((char *)bytes + at, &value, sizeof value);
}

hr_status hr_layout_pack(const hr_layout_v1 *layout, void **bytes, uint64_t *size) {
    *size = layout_bytes(layout);
    *bytes = malloc((size_t)*size);
    if (*bytes == NULL) return HR_E_MEMORY;
    memcpy(*bytes, layout, (size_t)*size);
    relative(*bytes, layout, &layout->types);
    relative(*bytes, layout, &layout->entries);
    for (uint32_t i = 0; i < layout->type_count; i++) {
        const hr_layout_type_v1 *type = layout->types[i];
        relative(*bytes, layout, &layout->types[i]);
        relative(*bytes, layout, &type->name);
        relative(*bytes, layout, &type->fields);
        for (uint32_t k = 0; k < type->field_count; k++) {
            relative(*bytes, layout, &type->fields[k].name);
            relative(*bytes, layout, &type->fields[k].type);
            relative(*bytes, layout, &type->fields[k].nested);
        }
    }
    for (uint32_t i = 0; i < layout->entry_count; i++) {
        const hr_layout_entry_v1 *entry = &layout->entries[i];
        relative(*bytes, layout, &entry->symbol);
        relative(*bytes, layout, &entry->state);
        relative(*bytes, layout, &entry->input);
        relative(*bytes, layout, &entry->output);
    }
    return HR_OK;
}

void hr_layout_bytes_free(void *bytes) { free(bytes); }

hr_status hr_layout_unpack(const void *bytes, uint64_t size, hr_failure *failure, hr_layout_v1 **layout) {
    hr_layout_range whole = {0, size};
    hr_layout_memory memory = {bytes, &whole, 1};
    hr_layout_reader reader = hr_layout_memory_reader(&memory);
    return hr_layout_read(&reader, 0, HR_E_PROTOCOL, failure, layout);
}

bool hr_layout_equal(const hr_layout_v1 *a, const hr_layout_v1 *b) {
    void *x = NULL, *y = NULL;
    uint64_t x_size, y_size;
    bool equal = hr_layout_pack(a, &x, &x_size) == HR_OK && hr_layout_pack(b, &y, &y_size) == HR_OK &&
                 x_size == y_size && memcmp(x, y, (size_t)x_size) == 0;
    free(x);
    free(y);
    return equal;
}
