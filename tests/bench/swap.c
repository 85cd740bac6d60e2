/* What a swap costs, and what callers notice of it. bench_swap.py builds and runs it.
 *
 *     swap SCRATCH ROUNDS MODULE...
 *
 * Each round writes the next module's bytes to one output and renames it into place, as linkers do, then takes the time
 * of: plain dlopen and dlsym of a copy of the same file (the floor: what any reloading has to pay), hr_load up to the
 * first call of the new code, and each step of that. Meanwhile another thread calls the slot without a pause and notes
 * the longest time that one call took while a swap was under way, and at rest.
 *
 * Prints lines "name microseconds...". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <hotreload/hotreload.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 1000

static int32_t fallback(void *state, const void *input, void *output) {
    (void)state, (void)input;
    *(int64_t *)output = 0;
    return 0;
}

static hr_slot slot = HR_SLOT("bench.step", fallback);
static int swapping, done; /* atomic */
static double worst_while_swapping, worst_at_rest; /* read when the caller has ended */

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void *call_without_pause(void *unused) {
    int64_t output = 0;
    (void)unused;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        int during = __atomic_load_n(&swapping, __ATOMIC_ACQUIRE);
        double before = now_us();
        hr_call(&slot, NULL, NULL, &output);
        double took = now_us() - before;
        double *worst = during ? &worst_while_swapping : &worst_at_rest;
        if (took > *worst) *worst = took;
    }
    return NULL;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* A new file under `path`, complete when its name appears. */
static void put(const char *from, const char *path, int unique) {
    static char bytes[16 << 20];
    char temporary[4096], name[4096];
    snprintf(name, sizeof name, unique < 0 ? "%s" : "%s-%d.so", path, unique);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    int in = open(from, O_RDONLY | O_CLOEXEC);
    ssize_t size = in < 0 ? -1 : read(in, bytes, sizeof bytes);
    int out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (size < 0 || out < 0 || write(out, bytes, (size_t)size) != size || fchmod(out, 0755) != 0) die(path);
    close(in);
    close(out);
    if (rename(temporary, name) != 0) die(name);
}

static double floor_of(const char *path, int round) {
    char name[4096];
    snprintf(name, sizeof name, "%s-%d.so", path, round);
    double before = now_us();
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!handle || !dlsym(handle, "HOTPATCH_MODULE_V1")) die(name);
    return now_us() - before;
}

static double load(const char *path, uint64_t *steps) {
    int64_t before_swap = -1, after_swap = -1;
    hr_report *report = NULL;
    hr_call(&slot, NULL, NULL, &before_swap);
    double before = now_us();
    __atomic_store_n(&swapping, 1, __ATOMIC_RELEASE);
    hr_status status = hr_load(NULL, path, &report);
    hr_call(&slot, NULL, NULL, &after_swap);
    double took = now_us() - before;
    __atomic_store_n(&swapping, 0, __ATOMIC_RELEASE);
    if (status != HR_OK || after_swap == before_swap) {
        fprintf(stderr, "swap: %s\n", report ? report->failure.reason : hr_status_text(status));
        exit(1);
    }
    memcpy(steps, report->us, sizeof report->us);
    hr_report_free(report);
    return took;
}

int main(int argc, char **argv) {
    static double floors[ROUNDS_MAX], loads[ROUNDS_MAX];
    static uint64_t steps[ROUNDS_MAX][HR_STEPS];
    static const char *const names[HR_STEPS] = {"stage", "preflight", "layout", "same",  "open",
                                                "check", "on_load",   "commit", "trial", "total"};
    char output[4096], copies[4096];
    pthread_t caller;
    int rounds = argc > 3 ? atoi(argv[2]) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX) return 2;
    snprintf(output, sizeof output, "%s/output.so", argv[1]);
    snprintf(copies, sizeof copies, "%s/copy", argv[1]);
    if (hr_declare(NULL, &slot) != HR_OK || pthread_create(&caller, NULL, call_without_pause, NULL)) return 1;
    for (int round = 0; round < rounds; round++) {
        const char *module = argv[3 + round % (argc - 3)];
        put(module, copies, round);
        put(module, output, -1);
        /* By turns: whoever comes second finds the loader's caches warm. */
        if (round % 2) floors[round] = floor_of(copies, round);
        loads[round] = load(output, steps[round]);
        if (round % 2 == 0) floors[round] = floor_of(copies, round);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    pthread_join(caller, NULL);
    printf("dlopen");
    for (int round = 0; round < rounds; round++) printf(" %.2f", floors[round]);
    printf("\nload");
    for (int round = 0; round < rounds; round++) printf(" %.2f", loads[round]);
    for (int step = 0; step < HR_STEPS - 1; step++) {
        printf("\nstep:%s", names[step]);
        for (int round = 0; round < rounds; round++) printf(" %llu", (unsigned long long)steps[round][step]);
    }
    printf("\nworst:swapping %.2f\nworst:rest %.2f\n", worst_while_swapping, worst_at_rest);
    return 0;
}
