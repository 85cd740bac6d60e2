/* How our own costs grow with size, and what they consist of; measures.py builds and runs it.
 *
 *     growth slots ROUNDS N V1 V2        us of the commit, and ns of a call, with N slots in one module
 *     growth modules MODULE...           us of loading each, one after the other: all stay live
 *     growth reloads COUNT V1 V2         us of loading and of dlopen in it, resident KiB and mappings, at every tenth of
 *                                        the reloads of a host that serves
 *     growth dlopens COUNT V1 V2         the same of plain dlopen and dlsym of a copy: the floor of both
 *     growth steps ROUNDS V1 V2          us of a load and of its steps, of dlopen and dlsym, of that with the copy before
 *
 * Copies are made beside V1. Prints JSON; times are CLOCK_MONOTONIC, those of calls
 * CLOCK_THREAD_CPUTIME_ID. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <hotreload/hotreload.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 1000
#define CALLS 1000000
#define SAMPLES 50

static double clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double now_us(void) { return clock_us(CLOCK_MONOTONIC); }

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double median(double *numbers, size_t count) {
    qsort(numbers, count, sizeof *numbers, by_size);
    return numbers[count / 2];
}

static void refuse(hr_status status) {
    fprintf(stderr, "growth: %s: %s\n", hr_status_code(status), hr_status_text(status));
    exit(1);
}

static int32_t fallback(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return 0;
}

static double call_ns(hr_slot *slot) {
    double rounds[9];
    int64_t input = 1, output = 0;
    for (int round = 0; round < 9; round++) {
        double before = clock_us(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < CALLS; i++) hr_call(slot, NULL, &input, &output);
        rounds[round] = (clock_us(CLOCK_THREAD_CPUTIME_ID) - before) * 1e3 / CALLS;
    }
    return median(rounds, 9);
}

static int slots(int rounds, int count, char **versions) {
    static double commits[ROUNDS_MAX], prepares[ROUNDS_MAX];
    hr_slot *all = calloc((size_t)count, sizeof *all);
    for (int i = 0; i < count; i++) {
        char *name = malloc(16);
        snprintf(name, 16, "slot%d", i);
        all[i].symbol = name;
        all[i].fallback = fallback;
        hr_status status = hr_declare(NULL, &all[i]);
        if (status != HR_OK) refuse(status);
    }
    for (int i = 0; i < rounds; i++) {
        const char *path = versions[i % 2];
        hr_report *report = NULL;
        hr_transaction *transaction = NULL;
        double began = now_us();
        hr_status status = hr_prepare(NULL, &path, 1, &report, &transaction);
        if (status != HR_OK) refuse(status);
        double prepared = now_us();
        status = hr_commit(transaction, &report);
        commits[i] = now_us() - prepared;
        prepares[i] = prepared - began;
        if (status != HR_OK) refuse(status);
        hr_report_free(report);
    }
    printf("{\"commit_us\": %.3f, \"prepare_us\": %.3f, \"call_ns\": %.3f}\n", median(commits, (size_t)rounds),
           median(prepares, (size_t)rounds), call_ns(&all[count - 1]));
    return 0;
}

static double load_us(const char *path) {
    double before = now_us();
    hr_status status = hr_load(NULL, path, NULL);
    if (status != HR_OK) refuse(status);
    return now_us() - before;
}

static int modules(int count, char **paths) {
    printf("{\"load_us\": [");
    for (int i = 0; i < count; i++) printf("%s%.1f", i ? ", " : "", load_us(paths[i]));
    printf("]}\n");
    return 0;
}

static long mappings(void) {
    char line[4096];
    long count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    while (file && fgets(line, sizeof line, file)) count++;
    if (file) fclose(file);
    return count;
}

static long resident_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) exit(1);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* ---- the floor: what the loader and a copy take ---- */

static void copy(const char *from, const char *to) {
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    ssize_t size = read(in, bytes, sizeof bytes);
    if (size < 0 || write(out, bytes, (size_t)size) != size) exit(1);
    close(in);
    close(out);
}

/* A name never used before: dlopen would give the old library for a known one. */
static const char *next_copy(const char *beside) {
    static char path[4096];
    static int serial;
    snprintf(path, sizeof path, "%s.%d.copy", beside, serial++);
    return path;
}

static void open_plain(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || dlsym(library, "a") == NULL || dlsym(library, "b") == NULL) exit(1);
}

/* Returns us; the copy is made before, or counts as well. */
static double dlopen_us(char **versions, int number, int with_copy) {
    const char *path = next_copy(versions[0]);
    double began = now_us();
    copy(versions[number % 2], path);
    if (!with_copy) began = now_us();
    open_plain(path);
    double took = now_us() - began;
    unlink(path);
    return took;
}

/* Returns us, and of them those of the loader. */
static double plain_us(char **versions, int number, double *open_us) {
    return *open_us = dlopen_us(versions, number, 1);
}

static double reload_us(char **versions, int number, double *open_us) {
    hr_report *report = NULL;
    double began = now_us();
    hr_status status = hr_load(NULL, versions[number % 2], &report);
    double took = now_us() - began;
    if (status != HR_OK) refuse(status);
    *open_us = (double)report->us[HR_STEP_OPEN];
    hr_report_free(report);
    return took;
}

static int reloads(double (*once)(char **, int, double *), int count, char **versions) {
    double samples[SAMPLES], opens[SAMPLES];
    int at = 0;
    if (once == reload_us && hr_serve(NULL, "growth", 0, NULL) != HR_OK) return 1;
    printf("[");
    for (int part = 0; part <= 10; part++) {
        for (int end = count / 10 * part; at < end; at++) once(versions, at, opens);
        for (int i = 0; i < SAMPLES; i++, at++) samples[i] = once(versions, at, &opens[i]);
        printf("%s{\"reloads\": %d, \"load_us\": %.1f, \"open_us\": %.1f, \"resident_kib\": %ld, \"mappings\": %ld}",
               part ? ", " : "", at, median(samples, SAMPLES), median(opens, SAMPLES), resident_kib(), mappings());
    }
    printf("]\n");
    return 0;
}

/* ---- what a load consists of ---- */

static void print_row(const char *name, double *numbers, int count, const char *end) {
    printf("\"%s\": %.1f%s", name, median(numbers, (size_t)count), end);
}

/* By turns, so that the machine's moods hit all alike. */
static int steps(int rounds, char **versions) {
    static const char *const names[HR_STEPS] = {"stage", "preflight", "layout", "same",  "open",
                                                "check", "on_load",   "commit", "trial", "total"};
    static double taken[HR_STEPS][ROUNDS_MAX], loads[ROUNDS_MAX], opens[ROUNDS_MAX], copies[ROUNDS_MAX];
    for (int i = 0; i < rounds; i++) {
        hr_report *report = NULL;
        double began = now_us();
        hr_status status = hr_load(NULL, versions[i % 2], &report);
        loads[i] = now_us() - began;
        if (status != HR_OK) refuse(status);
        for (int k = 0; k < HR_STEPS; k++) taken[k][i] = (double)report->us[k];
        hr_report_free(report);
        opens[i] = dlopen_us(versions, i, 0);
        copies[i] = dlopen_us(versions, i, 1);
    }
    printf("{");
    print_row("load_us", loads, rounds, ", ");
    print_row("dlopen_us", opens, rounds, ", ");
    print_row("copy_dlopen_us", copies, rounds, ", \"steps_us\": {");
    for (int k = 0; k < HR_STEP_TOTAL; k++) print_row(names[k], taken[k], rounds, k + 1 < HR_STEP_TOTAL ? ", " : "}}\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "slots") == 0) return slots(atoi(argv[2]), atoi(argv[3]), argv + 4);
    if (argc > 2 && strcmp(argv[1], "modules") == 0) return modules(argc - 2, argv + 2);
    if (argc != 5) return 2;
    int count = atoi(argv[2]);
    if (strcmp(argv[1], "reloads") == 0) return reloads(reload_us, count, argv + 3);
    if (strcmp(argv[1], "dlopens") == 0) return reloads(plain_us, count, argv + 3);
    if (strcmp(argv[1], "steps") == 0 && count <= ROUNDS_MAX) return steps(count, argv + 3);
    return 2;
}
