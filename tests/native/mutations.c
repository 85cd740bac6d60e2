/* Damages valid modules at random and gives them to preflight; what preflight accepts is opened in a child.
 *
 *     mutations check|open SEED FIRST COUNT SCRATCH MODULE...
 *
 * Mutant number i (FIRST <= i < FIRST + COUNT) depends on SEED, i and the modules alone, so that a failure can be had
 * again with `FIRST = i, COUNT = 1`; the failing mutant is kept in SCRATCH. "check" runs preflight only, which is what
 * the sanitizers watch; "open" also calls dlopen for each accepted mutant in a child, which has to load it or get a
 * message: any signal, any exit by the loader's assertions and any child that hangs is a failure.
 *
 * Machine code is exempt: no reader of a file can tell whether its code is right. So an accepted mutant whose code
 * (bytes of sections flagged executable) is damaged gets its code back before it is opened, if it is then accepted
 * again; one with no other damage is the valid module, and only counted ("code-only"). Nothing else is exempt.
 *
 * Prints one line of counts; the exit status is 0 only when nothing failed. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hotreload/preflight.h"

#define MODULES_MAX 16
#define SECONDS_TO_OPEN 60

typedef struct module {
    uint8_t *bytes;
    uint64_t size;
    const Elf64_Ehdr *header;
    const Elf64_Phdr *program;
    const Elf64_Shdr *sections;
} module;

typedef struct counts {
    uint64_t mutants, rejected, accepted, repaired, code_only, loaded, refused, failed;
    uint64_t by_status[64];
} counts;

static void fatal(const char *what) {
    perror(what);
    exit(2);
}

/* ---- randomness: splitmix64, so that each mutant has its own stream ---- */

static uint64_t state;

static uint64_t next(void) {
    uint64_t value = state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static uint64_t below(uint64_t limit) { return limit == 0 ? 0 : next() % limit; }

/* ---- mutations: each works on a private copy of the module's bytes ---- */

typedef struct mutant {
    const module *of;
    uint8_t *bytes; /* room for twice the module */
    uint64_t size;
} mutant;

static void flip(mutant *m, uint64_t start, uint64_t length) {
    if (length == 0) return;
    for (uint64_t n = 1 + below(3); n > 0; n--) m->bytes[start + below(length)] ^= (uint8_t)(1u << below(8));
}

static void overwrite(mutant *m, uint64_t start, uint64_t length) {
    if (length == 0) return;
    for (uint64_t n = 1 + below(4); n > 0; n--) m->bytes[start + below(length)] = (uint8_t)next();
}

/* A whole field becomes a number that readers of files stumble over. */
static void odd_number(mutant *m, uint64_t start, uint64_t length) {
    if (length < 8) return;
    uint64_t width = next() % 2 ? 8 : 4;
    uint64_t at = start + below(length / width) * width;
    uint64_t old;
    memcpy(&old, m->bytes + at, 8 < m->size - at ? 8 : m->size - at);
    const uint64_t numbers[] = {0, 1, 7, 4095, 4096, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_C(1) << 63,
                                m->size - 1, m->size, m->size + 1, old + 1, old - 1, old + 8, old - 8, old + 4096,
                                old - 4096, old * 2, old / 2, ~old};
    uint64_t value = numbers[below(sizeof numbers / sizeof numbers[0])];
    memcpy(m->bytes + at, &value, width < m->size - at ? width : m->size - at);
}

static void damage(mutant *m, uint64_t start, uint64_t length) {
    if (start >= m->size) return;
    if (length > m->size - start) length = m->size - start;
    switch (below(3)) {
    case 0: flip(m, start, length); break;
    case 1: overwrite(m, start, length); break;
    default: odd_number(m, start, length); break;
    }
}

static const Elf64_Shdr *some_section(const mutant *m) {
    return &m->of->sections[1 + below((uint64_t)m->of->header->e_shnum - 1)];
}

static void damage_headers(mutant *m) {
    const Elf64_Ehdr *header = m->of->header;
    switch (below(4)) {
    case 0: damage(m, 0, sizeof *header); break;
    case 1: damage(m, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr)); break;
    default: damage(m, header->e_phoff, (uint64_t)header->e_phnum * sizeof(Elf64_Phdr)); break;
    }
}

/* What the loader reads or writes, section by section; code is left to damage_anywhere. */
static void damage_section(mutant *m) {
    for (int tries = 0; tries < 64; tries++) {
        const Elf64_Shdr *section = some_section(m);
        if (!(section->sh_flags & SHF_ALLOC) || (section->sh_flags & SHF_EXECINSTR) || section->sh_type == SHT_NOBITS)
            continue;
        damage(m, section->sh_offset, section->sh_size);
        return;
    }
}

static void cut(mutant *m) {
    uint64_t keep = below(m->size);
    if (next() % 2) m->size = keep; /* an unfinished copy */
    else memset(m->bytes + keep, 0, m->size - keep); /* an unfinished writer that made room first */
}

/* Bytes taken out or put in: all that follows is elsewhere than the headers say. */
static void shift(mutant *m) {
    uint64_t at = below(m->size), by = 1 + below(next() % 2 ? 16 : 8192);
    if (next() % 2) {
        if (by > m->size - at) by = m->size - at;
        memmove(m->bytes + at, m->bytes + at + by, m->size - at - by);
        m->size -= by;
    } else {
        if (by > m->of->size) by = m->of->size;
        memmove(m->bytes + at + by, m->bytes + at, m->size - at);
        memset(m->bytes + at, (int)(next() % 2 ? 0 : 0xAA), by);
        m->size += by;
    }
}

/* The contents of a section go to the place of another, or to any other. */
static void move_section(mutant *m) {
    const Elf64_Shdr *from = some_section(m), *to = some_section(m);
    if (from->sh_type == SHT_NOBITS || from->sh_size == 0) return;
    uint64_t target = next() % 2 ? to->sh_offset : below(m->size);
    if (target >= m->size) return;
    uint64_t length = from->sh_size < m->size - target ? from->sh_size : m->size - target;
    memmove(m->bytes + target, m->of->bytes + from->sh_offset, length);
    if (next() % 2) memset(m->bytes + from->sh_offset, 0, from->sh_size);
}

static void swap_in(mutant *m, uint64_t start, uint64_t size, uint64_t count) {
    uint8_t record[64];
    if (count < 2 || size > sizeof record) return;
    uint8_t *a = m->bytes + start + below(count) * size, *b = m->bytes + start + below(count) * size;
    memcpy(record, a, size);
    memmove(a, b, size);
    memcpy(b, record, size);
}

/* Two headers, or two entries of the dynamic section, change places. Not two symbols: that makes another valid module,
 * which calls one function where the first one calls the other. */
static void swap_records(mutant *m) {
    const Elf64_Ehdr *header = m->of->header;
    switch (below(3)) {
    case 0: swap_in(m, header->e_phoff, sizeof(Elf64_Phdr), header->e_phnum); return;
    case 1: swap_in(m, header->e_shoff, sizeof(Elf64_Shdr), header->e_shnum); return;
    default: break;
    }
    for (uint32_t i = 0; i < header->e_phnum; i++)
        if (m->of->program[i].p_type == PT_DYNAMIC)
            swap_in(m, m->of->program[i].p_offset, sizeof(Elf64_Dyn), m->of->program[i].p_filesz / sizeof(Elf64_Dyn));
}

static void mutate(mutant *m) {
    for (uint64_t n = next() % 4 ? 1 : 2; n > 0; n--)
        switch (below(12)) {
        case 0: case 1: case 2: damage_headers(m); break;
        case 3: case 4: case 5: case 6: damage_section(m); break;
        case 7: damage(m, 0, m->size); break;
        case 8: if (m->size > 0) cut(m); break;
        case 9: if (m->size > 0) shift(m); break;
        case 10: if (m->size == m->of->size) move_section(m); break;
        default: if (m->size == m->of->size) swap_records(m); break;
        }
}

/* ---- judging ---- */

/* Puts the valid module's code back. Returns whether any was damaged. */
static bool repair_code(mutant *m) {
    bool damaged = false;
    for (uint32_t i = 1; i < m->of->header->e_shnum; i++) {
        const Elf64_Shdr *section = &m->of->sections[i];
        if (!(section->sh_flags & SHF_EXECINSTR) || section->sh_type == SHT_NOBITS || section->sh_offset >= m->size)
            continue;
        uint64_t left = m->size - section->sh_offset, length = section->sh_size < left ? section->sh_size : left;
        uint8_t *to = m->bytes + section->sh_offset;
        const uint8_t *from = m->of->bytes + section->sh_offset;
        if (memcmp(to, from, length) == 0) continue;
        memcpy(to, from, length);
        damaged = true;
    }
    return damaged;
}

static void write_file(const char *path, const uint8_t *bytes, uint64_t size) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) fatal(path);
}

/* 0: loaded, 1: a clean message, anything else: how the child ended. */
static int open_in_child(const char *path) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) fatal("fork");
    if (child == 0) {
        alarm(SECONDS_TO_OPEN);
        _exit(dlopen(path, RTLD_NOW | RTLD_LOCAL) != NULL ? 0 : 1);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) fatal("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* A description that was accepted equals itself, also after its way through a message. */
static void check_layout(const hr_layout_v1 *layout) {
    void *bytes = NULL;
    uint64_t size;
    hr_layout_v1 *again = NULL;
    hr_layout_comparison *comparison = NULL;
    hr_failure failure;
    if (hr_layout_pack(layout, &bytes, &size) != HR_OK || hr_layout_unpack(bytes, size, &failure, &again) != HR_OK ||
        hr_layout_compare(layout, again, &comparison) != HR_OK || comparison->row_count != 0) {
        fprintf(stderr, "a description differs from itself\n");
        abort();
    }
    hr_comparison_free(comparison);
    hr_layout_free(again);
    hr_layout_bytes_free(bytes);
}

/* The bytes go to a buffer of exactly their size, so that AddressSanitizer sees the first byte read behind them. */
static hr_status run_preflight(const mutant *m) {
    uint8_t *exact = malloc(m->size != 0 ? m->size : 1);
    if (exact == NULL) fatal("malloc");
    memcpy(exact, m->bytes, m->size);
    hr_failure failure;
    hr_manifest *manifest = NULL;
    hr_status status = hr_preflight(exact, m->size, &failure, &manifest);
    bool consistent = status == HR_OK ? manifest != NULL
                                      : manifest == NULL && failure.status == (int32_t)status && failure.reason[0] != 0;
    if (!consistent) {
        fprintf(stderr, "preflight contradicts itself: status %d\n", status);
        abort();
    }
    if (manifest != NULL && manifest->layout != NULL) check_layout(manifest->layout);
    char names[64];
    hr_preflight_undefined(exact, m->size, NULL, names, sizeof names);
    hr_manifest_free(manifest);
    free(exact);
    return status;
}

static void judge(mutant *m, uint64_t number, bool open, const char *scratch, counts *counts) {
    counts->mutants++;
    hr_status status = run_preflight(m);
    if (status >= 0 && status < 64) counts->by_status[status]++;
    if (status != HR_OK) {
        counts->rejected++;
        return;
    }
    counts->accepted++;
    if (!open) return;
    if (repair_code(m)) {
        counts->repaired++;
        if (m->size == m->of->size && memcmp(m->bytes, m->of->bytes, m->size) == 0) {
            counts->code_only++;
            return;
        }
        if (run_preflight(m) != HR_OK) return;
    }
    char path[4096], kept[4200];
    snprintf(path, sizeof path, "%s/mutant-%ld.so", scratch, (long)getpid());
    write_file(path, m->bytes, m->size);
    int outcome = open_in_child(path);
    if (outcome == 0) counts->loaded++;
    else if (outcome == 1) counts->refused++;
    else {
        counts->failed++;
        snprintf(kept, sizeof kept, "%s/failed-%" PRIu64 ".so", scratch, number);
        rename(path, kept);
        fprintf(stderr, "mutant %" PRIu64 ": accepted, but the child ended with %s %d: %s\n", number,
                outcome >= 1000 ? "signal" : "status", outcome % 1000, kept);
        return;
    }
    unlink(path);
}

static module read_module(const char *path) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &status) != 0) fatal(path);
    module module = {.size = (uint64_t)status.st_size};
    module.bytes = malloc(module.size);
    if (module.bytes == NULL || fread(module.bytes, 1, module.size, file) != module.size) fatal(path);
    fclose(file);
    module.header = (const void *)module.bytes;
    module.program = (const void *)(module.bytes + module.header->e_phoff);
    module.sections = (const void *)(module.bytes + module.header->e_shoff);
    hr_failure failure;
    hr_manifest *manifest;
    if (hr_preflight(module.bytes, module.size, &failure, &manifest) != HR_OK) {
        fprintf(stderr, "%s is refused undamaged: %s (%s)\n", path, failure.reason, failure.found);
        exit(2);
    }
    hr_manifest_free(manifest);
    return module;
}

int main(int argc, char **argv) {
    if (argc < 7 || argc - 6 > MODULES_MAX) {
        fprintf(stderr, "usage: %s check|open SEED FIRST COUNT SCRATCH MODULE...\n", argv[0]);
        return 2;
    }
    bool open = strcmp(argv[1], "open") == 0;
    uint64_t seed = strtoull(argv[2], NULL, 10), first = strtoull(argv[3], NULL, 10);
    uint64_t count = strtoull(argv[4], NULL, 10), module_count = (uint64_t)argc - 6, room = 0;
    module modules[MODULES_MAX];
    for (uint64_t i = 0; i < module_count; i++) {
        modules[i] = read_module(argv[6 + i]);
        if (modules[i].size > room) room = modules[i].size;
    }
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    mutant mutant = {.bytes = malloc(room * 4 + 65536)};
    if (mutant.bytes == NULL) fatal("malloc");
    counts counts = {0};
    for (uint64_t i = first; i < first + count; i++) {
        state = seed * UINT64_C(0xda942042e4dd58b5) + i;
        mutant.of = &modules[next() % module_count];
        mutant.size = mutant.of->size;
        memcpy(mutant.bytes, mutant.of->bytes, mutant.size);
        mutate(&mutant);
        judge(&mutant, i, open, argv[5], &counts);
    }
    const struct { const char *name; uint64_t count; } rows[] = {
        {"mutants", counts.mutants},     {"rejected", counts.rejected},   {"accepted", counts.accepted},
        {"repaired", counts.repaired},   {"code-only", counts.code_only}, {"loaded", counts.loaded},
        {"refused", counts.refused},     {"failed", counts.failed},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) printf("%s %" PRIu64 " ", rows[i].name, rows[i].count);
    for (int i = 0; i < 64; i++)
        if (counts.by_status[i] != 0) printf("%s %" PRIu64 " ", hr_status_code(i), counts.by_status[i]);
    printf("\n");
    for (uint64_t i = 0; i < module_count; i++) free(modules[i].bytes);
    free(mutant.bytes);
    return counts.failed == 0 ? 0 : 1;
}
