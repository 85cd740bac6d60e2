/* The comparison of two descriptions of layouts. Pure: reads the two, which have layout.c's form, and nothing else.
 *
 * What is accepted, so that code compiled for one may work on memory laid out by the other:
 *   C1  A type that both describe has one size, one alignment, one kind.
 *   C2  A field that both list has one offset, size and type.
 *   C3  A field that only one side lists lies inside the other side's reserve. (A union may have further members.)
 *   C4  An enumerator that both list has one value; the module lists all enumerators, and all members of a union, that
 *       the host does.
 *   C5  A slot that both describe takes the same types.
 * What only one side describes is not compared. */
#include "internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the spelling of types ---- */

typedef struct spelling {
    char base[HR_TYPE_NAME_MAX + 1];
    char bounds[HR_TYPE_NAME_MAX + 1]; /* "[16][2]", without blanks */
    uint32_t stars;
    bool numeric; /* all bounds are plain numbers */
} spelling;

static const char *skip_blanks(const char *at) {
    while (*at == ' ') at++;
    return at;
}

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == ':' || (c & 0x80); }

static bool is_word(const char *word, size_t length, const char *expected) {
    return strlen(expected) == length && memcmp(word, expected, length) == 0;
}

static bool silent(const char *word, size_t length) {
    static const char *const words[] = {"const", "volatile", "restrict", "struct", "union", "enum", "class", "mut"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (is_word(word, length, words[i])) return true;
    return false;
}

static void append(char *to, const char *from, size_t length) {
    size_t used = strlen(to);
    if (length > HR_TYPE_NAME_MAX - used) length = HR_TYPE_NAME_MAX - used;
    memcpy(to + used, from, length);
    to[used + length] = 0;
}

/* Numbers that C, C++ and Rust spell in different ways on the LP64 systems supported. */
static const char *number_name(const char *base) {
    static const char *const names[][2] = {
        {"_Bool", "bool"}, {"float", "f32"}, {"double", "f64"}, {"int8_t", "i8"}, {"int16_t", "i16"},
        {"int32_t", "i32"}, {"int64_t", "i64"}, {"uint8_t", "u8"}, {"uint16_t", "u16"}, {"uint32_t", "u32"},
        {"uint64_t", "u64"}, {"size_t", "u64"}, {"ssize_t", "i64"}, {"intptr_t", "i64"}, {"uintptr_t", "u64"},
        {"ptrdiff_t", "i64"}, {"usize", "u64"}, {"isize", "i64"}, {"c_char", "char"}, {"c_schar", "i8"},
        {"c_uchar", "u8"}, {"c_short", "i16"}, {"c_ushort", "u16"}, {"c_int", "i32"}, {"c_uint", "u32"},
        {"c_long", "i64"}, {"c_ulong", "u64"}, {"c_longlong", "i64"}, {"c_ulonglong", "u64"}, {"c_float", "f32"},
        {"c_double", "f64"}, {"c_void", "void"}, {"std::byte", "u8"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(base, names[i][0]) == 0) return names[i][1];
    return base;
}

/* "unsigned long int" and its like: words in any order. */
typedef struct c_number {
    uint32_t words, is_unsigned, is_signed, longs, shorts, chars, ints, doubles;
} c_number;

static bool c_number_word(c_number *number, const char *word, size_t length) {
    uint32_t *counts[] = {&number->is_unsigned, &number->is_signed, &number->longs, &number->shorts,
                          &number->chars,       &number->ints,      &number->doubles};
    static const char *const words[] = {"unsigned", "signed", "long", "short", "char", "int", "double"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!is_word(word, length, words[i])) continue;
        number->words++;
        ++*counts[i];
        return true;
    }
    return false;
}

static const char *c_number_name(const c_number *number) {
    bool no_sign = number->is_unsigned != 0;
    if (number->doubles) return number->longs ? "long double" : "f64";
    if (number->chars) return no_sign ? "u8" : number->is_signed ? "i8" : "char";
    if (number->shorts) return no_sign ? "u16" : "i16";
    if (number->longs) return no_sign ? "u64" : "i64";
    return no_sign ? "u32" : "i32";
}

/* Rust: "*mut T", "&T" in front, "[T; N]" around. Returns what is inside; notes stars and bounds. */
static void strip_rust(char *text, spelling *spelling) {
    for (;;) {
        char *at = (char *)skip_blanks(text);
        size_t length = strlen(at);
        char *colon = strrchr(at, ';');
        if (*at == '[' && colon != NULL && length > 0 && at[length - 1] == ']') {
            append(spelling->bounds, "[", 1);
            for (const char *c = colon + 1; *c; c++)
                if (*c != ' ') append(spelling->bounds, c, 1);
            *colon = 0;
            memmove(text, at + 1, strlen(at + 1) + 1);
        } else if (*at == '*' || *at == '&') {
            spelling->stars++;
            memmove(text, at + 1, strlen(at + 1) + 1);
        } else {
            return;
        }
    }
}

static void spell(const char *type, spelling *spelling) {
    char text[HR_TYPE_NAME_MAX + 1];
    c_number number = {0};
    uint32_t words = 0;
    memset(spelling, 0, sizeof *spelling);
    hr_copy_text(text, sizeof text, type);
    strip_rust(text, spelling);
    for (const char *at = skip_blanks(text); *at; at = skip_blanks(at)) {
        size_t length = 0;
        while (word_char(at[length])) length++;
        if (length > 0) {
            if (!silent(at, length)) {
                words++;
                c_number_word(&number, at, length);
                append(spelling->base, " ", words > 1);
                append(spelling->base, at, length);
            }
            at += length;
        } else if (*at == '*' || *at == '&') {
            spelling->stars++;
            at++;
        } else if (*at == '[') {
            size_t bound = strcspn(at, "]");
            bound += at[bound] == ']';
            for (size_t i = 0; i < bound; i++)
                if (at[i] != ' ') append(spelling->bounds, at + i, 1);
            at += bound;
        } else {
            append(spelling->base, at, 1);
            at++;
        }
    }
    const char *base = words && number.words == words ? c_number_name(&number)
                                                      : number_name(hr_layout_plain_name(spelling->base));
    memmove(spelling->base, base, strlen(base) + 1);
    spelling->numeric = strspn(spelling->bounds, "[]0123456789") == strlen(spelling->bounds);
}

bool hr_layout_value_type(const char *type, char *base) {
    size_t word = 0;
    while (isalnum((unsigned char)type[word]) || type[word] == '_') word++;
    if (word > 0 && (type[word] == 0 || type[word] == '[')) { /* "Voice", "Voice[8]": most are */
        memcpy(base, type, word);
        base[word] = 0;
        return true;
    }
    spelling spelling;
    spell(type, &spelling);
    memcpy(base, spelling.base, HR_TYPE_NAME_MAX + 1);
    return spelling.stars == 0;
}

bool hr_layout_is_reserve(const hr_layout_field_v1 *field) {
    return strncmp(field->type, "hr_reserve", 10) == 0 && !word_char(field->type[10]);
}

/* How two fields' types differ: 0, or HR_FIELD_RETYPED, or HR_FIELD_RESIZED where only an array's bounds do. */
static uint32_t retyped(const hr_layout_field_v1 *host, const hr_layout_field_v1 *module) {
    bool numbers = host->flags && module->flags && !host->nested && !module->nested;
    if (numbers && host->flags != module->flags) return HR_FIELD_RETYPED;
    if (strcmp(host->type, module->type) == 0) return 0;
    spelling x, y;
    spell(host->type, &x);
    spell(module->type, &y);
    if ((!numbers && strcmp(x.base, y.base) != 0) || x.stars != y.stars || !x.bounds[0] != !y.bounds[0])
        return HR_FIELD_RETYPED;
    if (strcmp(x.bounds, y.bounds) == 0 || !x.numeric || !y.numeric) return 0; /* the sizes tell */
    return host->size != module->size ? HR_FIELD_RESIZED : HR_FIELD_RETYPED;
}

static bool same_name(const char *a, const char *b) {
    if (strcmp(a, b) == 0) return true;
    spelling x, y;
    spell(a, &x);
    spell(b, &y);
    return strcmp(x.base, y.base) == 0 && x.stars == y.stars && strcmp(x.bounds, y.bounds) == 0;
}

/* ---- rows ---- */

typedef struct comparer {
    hr_layout_comparison *result; /* null: out of memory */
    uint32_t capacity;
} comparer;

static hr_layout_row *add_row(comparer *c, const char *type, const char *field, uint32_t change, bool refused) {
    if (c->result == NULL) return NULL;
    if (c->result->row_count == c->capacity) {
        uint32_t capacity = c->capacity ? c->capacity * 2 : 16;
        hr_layout_comparison *grown =
            realloc(c->result, sizeof *grown + capacity * sizeof grown->rows[0]);
        if (grown == NULL) {
            free(c->result);
            c->result = NULL;
            return NULL;
        }
        c->result = grown;
        c->capacity = capacity;
    }
    hr_layout_row *row = &c->result->rows[c->result->row_count++];
    *row = (hr_layout_row){.type = type, .field = field, .change = change, .refused = refused};
    return row;
}

static void add_field(comparer *c, const char *type, const hr_layout_field_v1 *host, const hr_layout_field_v1 *module,
                      uint32_t change, bool refused) {
    hr_layout_row *row = add_row(c, type, host ? host->name : module->name, change, refused);
    if (row == NULL) return;
    if (host) row->host = (hr_layout_side){host->type, host->offset, host->size, 0, 1};
    if (module) row->module = (hr_layout_side){module->type, module->offset, module->size, 0, 1};
}

static uint64_t row_place(const hr_layout_row *row) {
    return row->module.present ? row->module.offset : row->host.offset;
}

static int by_place(const void *a, const void *b) {
    const hr_layout_row *x = a, *y = b;
    if (row_place(x) != row_place(y)) return row_place(x) < row_place(y) ? -1 : 1;
    if (x->module.present != y->module.present) return x->module.present < y->module.present ? -1 : 1;
    return strcmp(x->field, y->field);
}

/* ---- one type ---- */

static bool identical(const hr_layout_type_v1 *host, const hr_layout_type_v1 *module) {
    if (host->size != module->size || host->align != module->align || host->kind != module->kind ||
        host->field_count != module->field_count)
        return false;
    for (uint32_t i = 0; i < host->field_count; i++) {
        const hr_layout_field_v1 *x = &host->fields[i], *y = &module->fields[i];
        if (x->offset != y->offset || x->size != y->size || strcmp(x->name, y->name) != 0) return false;
        if (retyped(x, y)) return false;
    }
    return true;
}

/* The field that room is taken from: the last one, if it is a reserve. */
static const hr_layout_field_v1 *reserve_of(const hr_layout_type_v1 *type) {
    const hr_layout_field_v1 *last = NULL;
    for (uint32_t i = 0; i < type->field_count; i++)
        if (last == NULL || type->fields[i].offset >= last->offset) last = &type->fields[i];
    return type->kind == HR_TYPE_STRUCT && last && hr_layout_is_reserve(last) ? last : NULL;
}

static bool inside(const hr_layout_field_v1 *field, const hr_layout_field_v1 *reserve) {
    return reserve && field->offset >= reserve->offset &&
           field->offset + field->size <= reserve->offset + reserve->size;
}

static int by_field_name(const void *a, const void *b) {
    const hr_layout_field_v1 *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);
    return order ? order : ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* The fields sorted by name, without the reserve. */
static const hr_layout_field_v1 **sorted_fields(const hr_layout_type_v1 *type, const hr_layout_field_v1 *reserve,
                                                uint32_t *count) {
    const hr_layout_field_v1 **fields = malloc((type->field_count + 1) * sizeof *fields);
    *count = 0;
    for (uint32_t i = 0; fields && i < type->field_count; i++)
        if (&type->fields[i] != reserve) fields[(*count)++] = &type->fields[i];
    if (fields) qsort(fields, *count, sizeof *fields, by_field_name);
    return fields;
}

typedef struct pair {
    const hr_layout_type_v1 *host, *module;
    const hr_layout_field_v1 *host_reserve, *module_reserve;
} pair;

static void compare_field(comparer *c, const pair *p, const hr_layout_field_v1 *host,
                          const hr_layout_field_v1 *module) {
    bool alternatives = p->host->kind == HR_TYPE_ENUM || p->host->kind == HR_TYPE_UNION;
    const char *type = p->host->name;
    if (host == NULL) {
        add_field(c, type, NULL, module, HR_FIELD_ADDED, !alternatives && !inside(module, p->host_reserve));
    } else if (module == NULL) {
        add_field(c, type, host, NULL, HR_FIELD_REMOVED, !inside(host, p->module_reserve));
    } else {
        uint32_t change = retyped(host, module);
        if (host->offset != module->offset) change |= HR_FIELD_MOVED;
        if (host->size != module->size) change |= HR_FIELD_RESIZED;
        add_field(c, type, host, module, change, change != 0);
    }
}

static void compare_reserves(comparer *c, const pair *p) {
    const hr_layout_field_v1 *host = p->host_reserve, *module = p->module_reserve;
    if (host == NULL && module == NULL) return;
    uint32_t change = !host ? HR_FIELD_ADDED : !module ? HR_FIELD_REMOVED : 0;
    if (host && module) {
        if (host->offset != module->offset) change |= HR_FIELD_MOVED;
        if (host->size != module->size) change |= HR_FIELD_RESIZED;
    }
    add_field(c, p->host->name, host, module, change, false); /* room is nobody's data */
}

static void compare_fields(comparer *c, const pair *p) {
    uint32_t host_count, module_count;
    const hr_layout_field_v1 **host = sorted_fields(p->host, p->host_reserve, &host_count);
    const hr_layout_field_v1 **module = sorted_fields(p->module, p->module_reserve, &module_count);
    if (host && module) {
        for (uint32_t i = 0, k = 0; i < host_count || k < module_count;) {
            int order = i == host_count ? 1 : k == module_count ? -1 : strcmp(host[i]->name, module[k]->name);
            compare_field(c, p, order <= 0 ? host[i] : NULL, order >= 0 ? module[k] : NULL);
            i += order <= 0;
            k += order >= 0;
        }
    } else {
        free(c->result);
        c->result = NULL;
    }
    free(host);
    free(module);
    compare_reserves(c, p);
}

static void compare_type(comparer *c, const hr_layout_type_v1 *host, const hr_layout_type_v1 *module) {
    if (identical(host, module)) return;
    uint32_t change = host->kind != module->kind ? HR_FIELD_RETYPED : 0;
    if (host->size != module->size) change |= HR_FIELD_RESIZED;
    if (host->align != module->align) change |= HR_FIELD_REALIGNED;
    hr_layout_row *row = add_row(c, host->name, "", change, change != 0);
    if (row == NULL) return;
    row->host = (hr_layout_side){NULL, 0, host->size, host->align, 1};
    row->module = (hr_layout_side){NULL, 0, module->size, module->align, 1};
    uint32_t first = c->result->row_count;
    pair p = {host, module, reserve_of(host), reserve_of(module)};
    compare_fields(c, &p);
    if (c->result) qsort(c->result->rows + first, c->result->row_count - first, sizeof *c->result->rows, by_place);
}

/* ---- the whole ---- */

static void compare_argument(comparer *c, const char *symbol, const char *which, const hr_layout_type_v1 *host,
                             const hr_layout_type_v1 *module) {
    if (host == NULL || module == NULL || same_name(host->name, module->name)) return;
    hr_layout_row *row = add_row(c, symbol, which, HR_FIELD_RETYPED, true);
    if (row == NULL) return;
    row->argument = 1;
    row->host = (hr_layout_side){host->name, 0, host->size, host->align, 1};
    row->module = (hr_layout_side){module->name, 0, module->size, module->align, 1};
}

static void compare_entry(comparer *c, const hr_layout_entry_v1 *host, const hr_layout_entry_v1 *module) {
    compare_argument(c, host->symbol, "state", host->state, module->state);
    compare_argument(c, host->symbol, "input", host->input, module->input);
    compare_argument(c, host->symbol, "output", host->output, module->output);
}

void hr_comparison_judge(hr_layout_comparison *comparison) {
    comparison->refused = 0;
    for (uint32_t i = 0; i < comparison->row_count; i++) comparison->refused += comparison->rows[i].refused;
    comparison->status = comparison->refused ? HR_E_LAYOUT : HR_OK;
}

hr_status hr_layout_compare(const hr_layout_v1 *host, const hr_layout_v1 *module, hr_layout_comparison **comparison) {
    comparer c = {calloc(1, sizeof *c.result), 0};
    for (uint32_t i = 0, k = 0; i < host->type_count && k < module->type_count;) {
        int order = strcmp(host->types[i]->name, module->types[k]->name);
        if (order == 0 && c.result) {
            c.result->type_count++;
            compare_type(&c, host->types[i], module->types[k]);
        }
        i += order <= 0;
        k += order >= 0;
    }
    for (uint32_t i = 0, k = 0; i < host->entry_count && k < module->entry_count;) {
        int order = strcmp(host->entries[i].symbol, module->entries[k].symbol);
        if (order == 0 && c.result) {
            c.result->entry_count++;
            compare_entry(&c, &host->entries[i], &module->entries[k]);
        }
        i += order <= 0;
        k += order >= 0;
    }
    *comparison = c.result;
    if (c.result == NULL) return HR_E_MEMORY;
    hr_comparison_judge(c.result);
    return (hr_status)c.result->status;
}

void hr_comparison_free(hr_layout_comparison *comparison) { free(comparison); }

/* ---- as a failure's texts ---- */

typedef struct text {
    char s[HR_TEXT_SIZE];
    bool full;
} text;

static void add_text(text *to, const char *separator, const char *more) {
    size_t used = strlen(to->s), needed = strlen(more) + (used ? strlen(separator) : 0);
    if (to->full) return;
    to->full = used + needed + 6 > sizeof to->s; /* room for ", ..." */
    if (to->full) hr_copy_text(to->s + used, sizeof to->s - used, ", ...");
    else snprintf(to->s + used, sizeof to->s - used, "%s%s", used ? separator : "", more);
}

static void describe_side(const hr_layout_row *row, const hr_layout_side *side, bool is_enum, text *to) {
    char line[3 * HR_TYPE_NAME_MAX];
    unsigned long long offset = (unsigned long long)side->offset, size = (unsigned long long)side->size;
    if (row->argument) snprintf(line, sizeof line, "%s of %s: %s", row->field, row->type, side->type);
    else if (!*row->field)
        snprintf(line, sizeof line, "%s: %llu bytes, align %u", row->type, size, side->align);
    else if (!side->present) snprintf(line, sizeof line, "no %s", row->field);
    else if (is_enum) snprintf(line, sizeof line, "%s = %lld", row->field, (long long)side->offset);
    else snprintf(line, sizeof line, "%s %s @%llu (%llu)", row->field, side->type, offset, size);
    add_text(to, *row->field && !row->argument ? ", " : "; ", line);
}

static const char *change_word(uint32_t change) {
    return change & HR_FIELD_ADDED      ? "added"
           : change & HR_FIELD_REMOVED  ? "removed"
           : change & HR_FIELD_RETYPED  ? "retyped"
           : change & HR_FIELD_RESIZED  ? "resized"
           : change & HR_FIELD_MOVED    ? "moved"
                                        : "realigned";
}

static void describe_change(const hr_layout_row *row, text *to) {
    char line[2 * HR_TYPE_NAME_MAX + 32];
    if (row->argument) snprintf(line, sizeof line, "the %s of %s is another type", row->field, row->type);
    else
        snprintf(line, sizeof line, "%s%s%s %s", row->type, *row->field ? "." : "", row->field,
                 change_word(row->change));
    add_text(to, ", ", line);
}

hr_status hr_layout_explain(const hr_layout_comparison *comparison, const hr_layout_v1 *host, hr_failure *failure) {
    text found = {0}, expected = {0}, reason = {0};
    const char *told = ""; /* the type whose head has been written */
    for (uint32_t i = 0; i < comparison->row_count; i++) {
        const hr_layout_row *row = &comparison->rows[i], *head = row;
        if (!row->refused) continue;
        while (*head->field && !head->argument) head--;
        const hr_layout_type_v1 *type = row->argument ? NULL : hr_layout_find_type(host, row->type);
        bool is_enum = type && type->kind == HR_TYPE_ENUM;
        if (head != row && strcmp(told, head->type) != 0 && !head->refused) {
            describe_side(head, &head->module, is_enum, &found);
            describe_side(head, &head->host, is_enum, &expected);
        }
        told = head->type;
        describe_side(row, &row->module, is_enum, &found);
        describe_side(row, &row->host, is_enum, &expected);
        describe_change(row, &reason);
    }
    return hr_fail(failure, HR_E_LAYOUT, found.s, expected.s, NULL, "structs shared with the host differ: %s",
                   reason.s);
}
