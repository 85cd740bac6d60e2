/* Times the comparison of two descriptions of N structs of 12 fields: equal ones, ones with a few differences, and the
 * floor, a loop that only compares every name and number. Prints "NAME NANOSECONDS" for each round.
 *
 *     layout STRUCTS ROUNDS */
#define _POSIX_C_SOURCE 200809L
#include <hotreload/hotreload.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIELDS 12

static const char *const types[] = {"float", "uint32_t", "struct Envelope *", "float[4]"};
static const uint32_t sizes[] = {4, 4, 8, 16};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static char *name_of(const char *what, unsigned number) {
    char *name = malloc(40);
    if (name == NULL) exit(2);
    snprintf(name, 40, "%s_number_%u", what, number);
    return name;
}

/* As authors write it; `differing` structs have another field in front. */
static hr_layout_v1 *describe(uint32_t count, uint32_t differing) {
    const hr_layout_type_v1 **list = calloc(count, sizeof *list);
    hr_layout_type_v1 *made = calloc(count, sizeof *made);
    hr_layout_v1 *layout = calloc(1, sizeof *layout);
    if (list == NULL || made == NULL || layout == NULL) exit(2);
    for (uint32_t i = 0; i < count; i++) {
        hr_layout_field_v1 *fields = calloc(FIELDS, sizeof *fields);
        if (fields == NULL) exit(2);
        uint64_t at = i < differing ? 8 : 0;
        for (uint32_t k = 0; k < FIELDS; k++) {
            uint32_t kind = (i + k) % 4;
            fields[k] = (hr_layout_field_v1){name_of("field", k), types[kind], 0, at, sizes[kind], 0, 0};
            at += 16;
        }
        made[i] = (hr_layout_type_v1){name_of("Struct", i), at, 8, HR_TYPE_STRUCT, 0, FIELDS, fields};
        list[i] = &made[i];
    }
    *layout = (hr_layout_v1){HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, HR_LAYOUT_STRUCT_SIZE_V1, count, 0, list, NULL};
    hr_layout_v1 *copy;
    if (hr_layout_copy(layout, NULL, &copy) != HR_OK) exit(3);
    return copy;
}

static uint32_t floor_walk(const hr_layout_v1 *a, const hr_layout_v1 *b) {
    uint32_t differences = 0;
    for (uint32_t i = 0; i < a->type_count; i++) {
        const hr_layout_type_v1 *x = a->types[i], *y = b->types[i];
        differences += x->size != y->size || x->align != y->align || strcmp(x->name, y->name) != 0;
        for (uint32_t k = 0; k < x->field_count; k++)
            differences += x->fields[k].offset != y->fields[k].offset || x->fields[k].size != y->fields[k].size ||
                           strcmp(x->fields[k].name, y->fields[k].name) != 0 ||
                           strcmp(x->fields[k].type, y->fields[k].type) != 0;
    }
    return differences;
}

static void time_compare(const char *what, const hr_layout_v1 *host, const hr_layout_v1 *module, hr_status expected) {
    hr_layout_comparison *comparison;
    uint64_t start = now();
    hr_status status = hr_layout_compare(host, module, &comparison);
    printf("%s %llu\n", what, (unsigned long long)(now() - start));
    if (status != expected) exit(4);
    hr_comparison_free(comparison);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint32_t count = (uint32_t)atoi(argv[1]), rounds = (uint32_t)atoi(argv[2]);
    hr_layout_v1 *host = describe(count, 0), *same = describe(count, 0), *other = describe(count, count / 10);
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t start = now();
        uint32_t differences = floor_walk(host, same);
        printf("floor %llu\n", (unsigned long long)(now() - start));
        if (differences) return 5;
        time_compare("equal", host, same, HR_OK);
        time_compare("differing", host, other, HR_E_LAYOUT);
    }
    return 0;
}
