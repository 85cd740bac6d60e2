/* What one call costs: a slot call, and the ways in which hosts do without one. bench_call.py builds and runs it.
 *
 *     call MODULE THREADS REPETITIONS CALLS
 *
 * prints one line for each way: its name, then the nanoseconds per call of each repetition. All ways call the same
 * function, `bench.step` of the module (its address is read from the dispatch table), with the same arguments.
 *
 * Time is the threads' own processor time: with more threads than free cores the wall clock would measure the
 * scheduler. No way sleeps (readers of a read lock spin on its counter), so nothing is missed by that. Repetitions of
 * all ways are interleaved and start with another way each time, so that a change of the processor's clock or a noisy
 * neighbour hits all of them alike. */
#define _GNU_SOURCE
#include <errno.h>
#include <hotreload/hotreload.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX 64
#define REPETITIONS_MAX 1001
#define MAP_SIZE 64
#define FRAME_CALLS 16

typedef struct bench_state {
    int64_t total;
    char apart[120]; /* one thread's state never shares a cache line with another's */
} bench_state;

typedef void (*bench_loop)(uint64_t calls, bench_state *state);

typedef struct bench_way {
    const char *name;
    bench_loop loop;
} bench_way;

typedef struct bench_worker {
    pthread_t thread;
    bench_state state;
    double nanoseconds; /* of the last run */
} bench_worker;

static int32_t step_fallback(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return -1;
}

static hr_slot step = HR_SLOT("bench.step", step_fallback);

/* Volatile: read anew for every call, as a host must that wants to exchange it; the compiler cannot see through it. */
static hr_patch_fn volatile plain;

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

/* Open addressing over FNV-1a, half full: quicker than what standard libraries offer, so that it flatters this way. */
static struct {
    const char *name;
    hr_patch_fn function;
} map[MAP_SIZE];

static uint64_t map_hash(const char *name) {
    uint64_t hash = 14695981039346656037u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return hash;
}

static void map_put(const char *name, hr_patch_fn function) {
    uint64_t at = map_hash(name) % MAP_SIZE;
    while (map[at].name && strcmp(map[at].name, name) != 0) at = (at + 1) % MAP_SIZE;
    map[at].name = name;
    map[at].function = function;
}

static hr_patch_fn map_get(const char *name) {
    uint64_t at = map_hash(name) % MAP_SIZE;
    while (map[at].name && strcmp(map[at].name, name) != 0) at = (at + 1) % MAP_SIZE;
    return map[at].function;
}

/* Never inlined, and aligned: where a loop lies in a cache line must not decide between two ways. */
#define BENCH_LOOP __attribute__((noinline, aligned(64))) static void

BENCH_LOOP run_plain(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) plain(state, &input, &output);
}

BENCH_LOOP run_slot(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) hr_call(&step, state, &input, &output);
}

BENCH_LOOP run_frame(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i += FRAME_CALLS) {
        hr_frame frame = hr_frame_begin();
        for (int j = 0; j < FRAME_CALLS; j++) hr_frame_call(&frame, &step, state, &input, &output);
        hr_frame_end(&frame);
    }
}

BENCH_LOOP run_outline(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) hr_call_slot(&step, state, &input, &output);
}

BENCH_LOOP run_sampled(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) hr_call(&step, state, &input, &output);
}

BENCH_LOOP run_lock(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) {
        pthread_rwlock_rdlock(&lock);
        plain(state, &input, &output);
        pthread_rwlock_unlock(&lock);
    }
}

BENCH_LOOP run_map(uint64_t calls, bench_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) {
        pthread_rwlock_rdlock(&lock);
        map_get("bench.step")(state, &input, &output);
        pthread_rwlock_unlock(&lock);
    }
}

static const bench_way ways[] = {
    {"plain", run_plain},     {"slot", run_slot}, {"frame", run_frame},
    {"outline", run_outline}, {"sampled", run_sampled}, {"lock", run_lock}, {"map", run_map},
};
#define WAYS (sizeof ways / sizeof ways[0])

static pthread_barrier_t start_line, finish_line;
static bench_loop current; /* null: the workers end. Written before start_line, read after it. */
static uint64_t current_calls;

static double processor_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void *work(void *argument) {
    bench_worker *worker = argument;
    for (;;) {
        pthread_barrier_wait(&start_line);
        if (!current) return NULL;
        current(current_calls / 16, &worker->state); /* warms caches and the branch predictor up */
        double before = processor_time();
        current(current_calls, &worker->state);
        worker->nanoseconds = processor_time() - before;
        pthread_barrier_wait(&finish_line);
    }
}

static double measure(const bench_way *way, uint64_t calls, bench_worker *workers, int threads) {
    /* A lock costs 20 times what a call costs; a tenth of the calls measures it as well. */
    int slow = way->loop == run_lock || way->loop == run_map;
    current = way->loop;
    current_calls = slow ? calls / 10 : calls;
    hr_set_options(&(hr_options){.flags = way->loop == run_sampled ? HR_OPTION_SAMPLE : 0});
    pthread_barrier_wait(&start_line);
    pthread_barrier_wait(&finish_line);
    double sum = 0;
    for (int i = 0; i < threads; i++) sum += workers[i].nanoseconds;
    return sum / threads / (double)current_calls;
}

static int prepare_slots(const char *module) {
    static const char *const other[] = {"audio.mix", "audio.volume", "net.accept", "net.parse",
                                        "sim.step",  "sim.integrate", "view.draw", "view.layout"};
    hr_report *report = NULL;
    if (hr_declare(NULL, &step) != HR_OK) return 1;
    hr_status status = hr_load(NULL, module, &report);
    if (status != HR_OK) fprintf(stderr, "call: %s\n", report ? report->failure.reason : hr_status_text(status));
    hr_report_free(report);
    if (status != HR_OK) return 1;
    plain = hr_dispatch.table->entries[step.index].function;
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) map_put(other[i], step_fallback);
    map_put("bench.step", plain);
    return 0;
}

int main(int argc, char **argv) {
    static bench_worker workers[THREADS_MAX];
    static double results[WAYS][REPETITIONS_MAX];
    if (argc != 5) return 2;
    int threads = atoi(argv[2]), repetitions = atoi(argv[3]);
    uint64_t calls = strtoull(argv[4], NULL, 10);
    if (threads < 1 || threads > THREADS_MAX || repetitions < 1 || repetitions > REPETITIONS_MAX || !calls) return 2;
    if (prepare_slots(argv[1])) return 1;

    pthread_barrier_init(&start_line, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&finish_line, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) return 1;
    for (int repetition = 0; repetition < repetitions; repetition++)
        for (size_t i = 0; i < WAYS; i++) {
            size_t way = (i + (size_t)repetition) % WAYS;
            results[way][repetition] = measure(&ways[way], calls, workers, threads);
        }
    current = NULL;
    pthread_barrier_wait(&start_line);
    for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);

    for (size_t i = 0; i < WAYS; i++) {
        printf("%s", ways[i].name);
        for (int repetition = 0; repetition < repetitions; repetition++) printf(" %.4f", results[i][repetition]);
        printf("\n");
    }
    return 0;
}
