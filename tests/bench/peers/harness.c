/* The modes of every peer's program; see harness.h.
 *
 *     calls THREADS REPETITIONS CALLS PLAIN   ns per call, and of a plain pointer to a of PLAIN, by turns, by two clocks
 *     swaps COUNT PAUSE_MS LIMIT_MS           us from the rename of the output to the first new result
 *     longest COUNT PAUSE_MS LIMIT_MS TIME_S  us: the longest call in the window of each swap, and in one at rest; fewer
 *                                             than COUNT when the time is over
 *     pairs COUNT PAUSE_MS LIMIT_MS THREADS   pairs of calls, and those that saw two versions, while swaps run
 *     memory COUNT PAUSE_MS LIMIT_MS          resident KiB and mappings over swaps
 *     held MS V1_WITH_A_SLEEPING_B            a swap while another thread is inside b for so long
 *     survive CASE FILE WAIT_MS               one bad module; prints what it sees as it goes
 *     idle MS                                 share of a core of a host that has nothing to do
 *
 * Time is CLOCK_MONOTONIC. `calls` gives CLOCK_THREAD_CPUTIME_ID too (cpu_ns, against wall_ns): with more threads than
 * cores, or other work on the machine, the wall clock measures the scheduler. Where the two agree, the threads had cores
 * of their own and ran at the same time: only then does a lock that they share show its price. */
#define _GNU_SOURCE
#include "harness.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 16
#define SWAPS_MAX 20000
#define PATH_SIZE 4096

static struct {
    const hb_peer *peer;
    const char *output, *scratch;
    const char *versions[2];
    int serial;
    int current; /* the version that runs: 1 or 2 */
    int limit_ms, pause_ms;
    uint32_t random;
} run = {.current = 1, .random = 1};

static void die(const char *what) {
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double now_us(void) { return clock_us(CLOCK_MONOTONIC); }

static void sleep_us(double us) {
    struct timespec time = {(time_t)(us / 1e6), (long)((us - (double)(time_t)(us / 1e6) * 1e6) * 1e3)};
    nanosleep(&time, NULL);
}

/* Up to pause_ms: swaps must not fall into step with a peer that polls. */
static void pause_randomly(void) {
    run.random = run.random * 1664525 + 1013904223;
    sleep_us(run.pause_ms * 1e3 * (run.random >> 8) / (double)(1 << 24));
}

/* At the peer's own pace: a host polls once a frame, not whenever we look. */
static void tick(void) {
    static double last;
    if (!run.peer->tick || now_us() < last + run.peer->tick_us) return;
    last = now_us();
    run.peer->tick();
}

static void beside(char name[PATH_SIZE], const char *path) {
    if (snprintf(name, PATH_SIZE, "%s.new", path) >= PATH_SIZE) exit(2);
}

/* Writes the bytes of `from` to `path`: under another name first, so that one rename makes it appear. */
static void write_beside(const char *from, const char *path) {
    static char bytes[64 << 20];
    char name[PATH_SIZE];
    beside(name, path);
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) die(from);
    ssize_t size = read(in, bytes, sizeof bytes);
    int out = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (size < 0 || out < 0 || write(out, bytes, (size_t)size) != size || fchmod(out, 0755) != 0) die(name);
    close(in);
    close(out);
}

static void rename_beside(const char *path) {
    char name[PATH_SIZE];
    beside(name, path);
    if (rename(name, path) != 0) die(path);
}

/* Where the next module goes: the watched name, or for peers that are told, one never used before. */
static const char *next_path(void) {
    static char path[4096];
    if (!run.peer->load) return run.output;
    snprintf(path, sizeof path, "%s/m%d.so", run.scratch, ++run.serial);
    return path;
}

/* One swap to the other version; us from the rename to the first new result, or -1 when it takes over the limit. */
static double swap(hb_state *state) {
    int next = 3 - run.current;
    const char *path = next_path();
    write_beside(run.versions[next - 1], path);
    double began = now_us(), deadline = began + run.limit_ms * 1e3;
    rename_beside(path);
    int refused = run.peer->load && run.peer->load(path) != 0;
    while (!refused && run.peer->a(state, 10) != 10 + next) {
        if (now_us() > deadline) return -1;
        sleep_us(20);
        tick();
    }
    double took = now_us() - began;
    if (refused) return -1;
    run.current = next;
    /* Told peers get a new file each time: the names are not needed any more, the mappings live on. */
    if (run.peer->load) unlink(path);
    return took;
}

static void print_numbers(const char *key, const double *numbers, int count, const char *end) {
    printf("\"%s\": [", key);
    for (int i = 0; i < count; i++) printf(numbers[i] < 0 ? "%snull" : "%s%.3f", i ? ", " : "", numbers[i]);
    printf("]%s", end);
}

/* ---- calls ---- */

typedef int32_t (*step_fn)(void *, const void *, void *);
static step_fn volatile plain;

__attribute__((noinline, aligned(64))) static void plain_loop(uint64_t calls, hb_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) plain(state, &input, &output);
}

static struct {
    pthread_barrier_t start, finish;
    void (*loop)(uint64_t, hb_state *);
    uint64_t calls;
} race;

typedef struct worker {
    pthread_t thread;
    double cpu_us, wall_us;
    hb_state state;
} worker;

/* Nanoseconds a call. */
typedef struct pace {
    double cpu, wall;
} pace;

static void *race_worker(void *argument) {
    worker *self = argument;
    for (;;) {
        pthread_barrier_wait(&race.start);
        if (!race.loop) return NULL;
        race.loop(race.calls / 16, &self->state);
        double cpu = clock_us(CLOCK_THREAD_CPUTIME_ID), wall = now_us();
        race.loop(race.calls, &self->state);
        self->wall_us = now_us() - wall;
        self->cpu_us = clock_us(CLOCK_THREAD_CPUTIME_ID) - cpu;
        pthread_barrier_wait(&race.finish);
    }
}

static pace race_once(void (*loop)(uint64_t, hb_state *), uint64_t calls, worker *workers, int threads) {
    pace mean = {0, 0};
    race.loop = loop;
    race.calls = calls;
    pthread_barrier_wait(&race.start);
    pthread_barrier_wait(&race.finish);
    for (int i = 0; i < threads; i++) {
        mean.cpu += workers[i].cpu_us / threads / (double)calls * 1e3;
        mean.wall += workers[i].wall_us / threads / (double)calls * 1e3;
    }
    return mean;
}

static void print_paces(const char *prefix, const pace *paces, int count, const char *end) {
    static double cpu[1000], wall[1000];
    char key[64];
    for (int i = 0; i < count; i++) {
        cpu[i] = paces[i].cpu;
        wall[i] = paces[i].wall;
    }
    snprintf(key, sizeof key, "%scpu_ns", prefix);
    print_numbers(key, cpu, count, ", ");
    snprintf(key, sizeof key, "%swall_ns", prefix);
    print_numbers(key, wall, count, end);
}

static int mode_calls(char **arguments) {
    static worker workers[THREADS_MAX];
    static pace ours[1000], floors[1000];
    int threads = atoi(arguments[0]), repetitions = atoi(arguments[1]);
    uint64_t calls = strtoull(arguments[2], NULL, 10);
    void *library = dlopen(arguments[3], RTLD_NOW | RTLD_LOCAL);
    if (!library || threads > THREADS_MAX || repetitions > 1000) die(arguments[3]);
    *(void **)(void *)&plain = dlsym(library, "a");
    pthread_barrier_init(&race.start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&race.finish, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) pthread_create(&workers[i].thread, NULL, race_worker, &workers[i]);
    for (int i = 0; i < repetitions; i++) {
        if (i % 2) floors[i] = race_once(plain_loop, calls, workers, threads);
        ours[i] = race_once(run.peer->loop, calls, workers, threads);
        if (i % 2 == 0) floors[i] = race_once(plain_loop, calls, workers, threads);
    }
    race.loop = NULL;
    pthread_barrier_wait(&race.start);
    for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    printf("{");
    print_paces("", ours, repetitions, ", ");
    print_paces("plain_", floors, repetitions, "}\n");
    return 0;
}

/* ---- swaps, longest, pairs, memory ---- */

static void take_limits(char **arguments) {
    run.pause_ms = atoi(arguments[1]);
    run.limit_ms = atoi(arguments[2]);
}

static int mode_swaps(char **arguments) {
    static double latencies[SWAPS_MAX];
    hb_state state = {0};
    int count = atoi(arguments[0]);
    take_limits(arguments);
    for (int i = 0; i < count; i++) {
        latencies[i] = swap(&state);
        pause_randomly();
    }
    printf("{");
    print_numbers("us", latencies, count, "}\n");
    return 0;
}

static int done;     /* atomic: callers end */
static int window;   /* atomic: number of the window that callers measure; 0: none */
static double worst; /* of the window; written by the one caller, read when it has seen the next window */
static int seen;     /* atomic: the window that the caller has finished with */
static uint64_t measured_calls;

static void *longest_caller(void *unused) {
    hb_state state = {0};
    int at = 0;
    double longest = 0;
    (void)unused;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        double before = now_us();
        tick(); /* where a host would poll, a slow poll delays the call behind it */
        run.peer->a(&state, 1);
        double took = now_us() - before;
        int wanted = __atomic_load_n(&window, __ATOMIC_ACQUIRE);
        measured_calls++;
        if (took > longest) longest = took;
        if (wanted != at) {
            worst = longest;
            longest = 0;
            __atomic_store_n(&seen, at = wanted, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

/* Ends the caller's window and returns its longest call, us; -1 when the caller is stuck. */
static double next_window(void) {
    int wanted = __atomic_add_fetch(&window, 1, __ATOMIC_RELEASE);
    double deadline = now_us() + run.limit_ms * 1e3;
    while (__atomic_load_n(&seen, __ATOMIC_ACQUIRE) != wanted) {
        if (now_us() > deadline) return -1;
        sleep_us(5);
    }
    return worst;
}

static int mode_longest(char **arguments) {
    static double swapping[SWAPS_MAX], resting[SWAPS_MAX];
    hb_state state = {0};
    pthread_t thread;
    int count = atoi(arguments[0]), missed = 0;
    double end = now_us() + atof(arguments[3]) * 1e6;
    take_limits(arguments);
    if (run.peer->single_thread && run.peer->load) return 3;
    pthread_create(&thread, NULL, longest_caller, NULL);
    for (int i = 0; i < count; i++) {
        pause_randomly();
        next_window();
        double took;
        if (run.peer->single_thread) { /* the caller itself polls: only wait until it must have done so */
            int next = 3 - run.current;
            write_beside(run.versions[next - 1], run.output);
            rename_beside(run.output);
            sleep_us(took = 2.0 * run.peer->tick_us);
            run.current = next;
        } else {
            took = swap(&state);
        }
        swapping[i] = next_window();
        if (took < 0) missed++;
        sleep_us(took < 0 ? 1e3 : took); /* at rest for as long */
        resting[i] = next_window();
        if (swapping[i] < 0 || resting[i] < 0 || now_us() > end) { /* a caller that is stuck will not come free */
            count = i + 1;
            break;
        }
    }
    printf("{\"missed\": %d, \"calls\": %llu, ", missed, (unsigned long long)measured_calls);
    print_numbers("swapping_us", swapping, count, ", ");
    print_numbers("resting_us", resting, count, "}\n");
    fflush(stdout);
    _exit(0); /* a stuck caller cannot be joined */
}

static uint64_t pairs, mixed;

static void *pair_caller(void *unused) {
    hb_state state = {0};
    int64_t out[2];
    uint64_t calls = 0, differing = 0;
    (void)unused;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        tick();
        if (run.peer->pair) {
            run.peer->pair(&state, 100, out);
        } else {
            out[0] = run.peer->a(&state, 100);
            out[1] = run.peer->b(&state, 100);
        }
        calls++;
        differing += out[0] != out[1];
    }
    __atomic_fetch_add(&pairs, calls, __ATOMIC_RELAXED);
    __atomic_fetch_add(&mixed, differing, __ATOMIC_RELAXED);
    return NULL;
}

static int mode_pairs(char **arguments) {
    pthread_t threads[THREADS_MAX];
    hb_state state = {0};
    int count = atoi(arguments[0]), missed = 0, swapped = 0, workers = atoi(arguments[3]);
    take_limits(arguments);
    if (run.peer->single_thread) workers = 1;
    for (int i = 0; i < workers; i++) pthread_create(&threads[i], NULL, pair_caller, NULL);
    for (int i = 0; i < count; i++) {
        if (run.peer->single_thread) {
            run.current = 3 - run.current;
            write_beside(run.versions[run.current - 1], run.output);
            rename_beside(run.output);
            sleep_us(2.0 * run.peer->tick_us);
        } else if (swap(&state) < 0 && ++missed >= 3 && !swapped) {
            break; /* starved by its own callers */
        } else {
            swapped = i + 1 - missed;
        }
        pause_randomly();
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < workers; i++) pthread_join(threads[i], NULL);
    printf("{\"pairs\": %llu, \"mixed\": %llu, \"swaps\": %d, \"missed\": %d}\n", (unsigned long long)pairs,
           (unsigned long long)mixed, run.peer->single_thread ? count : swapped, missed);
    return 0;
}

static void measure_memory(double *resident_kib, double *mappings) {
    char line[4096];
    long pages = 0, count = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) die("/proc/self/statm");
    fclose(file);
    file = fopen("/proc/self/maps", "r");
    while (file && fgets(line, sizeof line, file)) count++;
    if (file) fclose(file);
    *resident_kib = (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
    *mappings = (double)count;
}

static int mode_memory(char **arguments) {
    double resident[11], mappings[11], at[11];
    hb_state state = {0};
    int count = atoi(arguments[0]), missed = 0;
    take_limits(arguments);
    swap(&state), swap(&state); /* what a first load alone needs is no growth */
    for (int part = 0; part <= 10; part++) {
        at[part] = (double)count * part / 10;
        for (int i = 0; part && i < count / 10; i++) {
            missed += swap(&state) < 0;
            pause_randomly();
            tick();
        }
        measure_memory(&resident[part], &mappings[part]);
    }
    printf("{\"missed\": %d, ", missed);
    print_numbers("swaps", at, 11, ", ");
    print_numbers("resident_kib", resident, 11, ", ");
    print_numbers("mappings", mappings, 11, "}\n");
    return 0;
}

/* ---- held, survive, idle ---- */

static int64_t held_ms;
static double held_until;

static void *held_caller(void *unused) {
    hb_state state = {0};
    (void)unused;
    run.peer->b(&state, held_ms);
    held_until = now_us();
    return NULL;
}

static void *plain_caller(void *longest) {
    hb_state state = {0};
    double *worst_us = longest;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        double before = now_us();
        run.peer->a(&state, 1);
        double took = now_us() - before;
        if (took > *worst_us) *worst_us = took;
        sleep_us(1e3);
    }
    return NULL;
}

static int mode_held(char **arguments) {
    static double longest;
    pthread_t holder, other;
    hb_state state = {0};
    held_ms = atoll(arguments[0]);
    run.limit_ms = (int)held_ms + 5000;
    pthread_create(&other, NULL, plain_caller, &longest);
    pthread_create(&holder, NULL, held_caller, NULL);
    sleep_us(300e3);
    double took = swap(&state);
    double ended = now_us();
    pthread_join(holder, NULL);
    sleep_us(50e3);
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    pthread_join(other, NULL);
    printf("{\"held_ms\": %lld, \"swap_us\": %.1f, \"before_the_call_ended\": %s, \"longest_other_call_us\": %.1f}\n",
           (long long)held_ms, took, took >= 0 && ended < held_until ? "true" : "false", longest);
    return 0;
}

static void say(const char *what, int64_t value) {
    printf("{\"what\": \"%s\", \"value\": %lld}\n", what, (long long)value);
    fflush(stdout);
}

/* Rewrites the bytes of the file itself, as `cp` over it does. */
static void overwrite(const char *from, const char *path) {
    char name[PATH_SIZE];
    write_beside(from, path);
    beside(name, path);
    static char bytes[64 << 20];
    int in = open(name, O_RDONLY | O_CLOEXEC), out = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    ssize_t size = in < 0 ? -1 : read(in, bytes, sizeof bytes);
    if (size < 0 || out < 0 || write(out, bytes, (size_t)size) != size) die(path);
    close(in);
    close(out);
    unlink(name);
}

static int mode_survive(char **arguments) {
    const char *what = arguments[0], *file = arguments[1];
    double wait_us = atof(arguments[2]) * 1e3;
    char command[8192];
    hb_state state = {0};
    int in_place = strcmp(what, "overwrite") == 0, stripped = strcmp(what, "strip") == 0;
    const char *path = next_path();
    if (in_place || stripped) {
        /* The file that runs is the one that is changed. */
        if (run.peer->load) {
            write_beside(run.versions[0], path);
            rename_beside(path);
            say("first", run.peer->load(path));
        }
        if (in_place) overwrite(file, path);
        snprintf(command, sizeof command, "strip '%s'", path);
        if (stripped && system(command) != 0) die(command);
        say("still", run.peer->a(&state, 10) - 10);
    } else {
        write_beside(file, path);
        rename_beside(path);
    }
    if (run.peer->load) say("load", run.peer->load(path));
    int64_t out = 1;
    for (double end = now_us() + wait_us; out == 1; sleep_us(1e3)) {
        tick();
        out = run.peer->a(&state, 10) - 10;
        if (now_us() > end) break;
    }
    say("a", out);
    say("b", run.peer->b(&state, 10) - 10);
    sleep_us(wait_us); /* a peer may need a moment to take a module back */
    say("after", run.peer->a(&state, 10) - 10);
    say("guard", state.guard);
    /* Does a good module still get in after it? */
    path = next_path();
    write_beside(run.versions[1], path);
    rename_beside(path);
    if (run.peer->load) say("next", run.peer->load(path));
    for (double end = now_us() + wait_us; now_us() < end && run.peer->a(&state, 10) != 12; sleep_us(1e3)) tick();
    say("end", run.peer->a(&state, 10) - 10);
    return 0;
}

static int mode_idle(char **arguments) {
    double end = now_us() + atof(arguments[0]) * 1e3, began = now_us();
    hb_state state = {0};
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    while (now_us() < end) {
        sleep_us(run.peer->tick_us ? run.peer->tick_us : 500e3); /* hosts without a tick only wait */
        if (run.peer->tick_us) tick();
        if (run.peer->tick_us && !run.peer->tick) run.peer->a(&state, 1); /* it polls inside calls */
    }
    getrusage(RUSAGE_SELF, &after);
    double used = (double)(after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec -
                           before.ru_stime.tv_sec) * 1e6 +
                  (double)(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec -
                           before.ru_stime.tv_usec);
    printf("{\"share\": %.6f, \"seconds\": %.2f}\n", used / (now_us() - began), (now_us() - began) / 1e6);
    return 0;
}

int hb_main(int argc, char **argv, const hb_peer *peer) {
    static const struct {
        const char *name;
        int arguments;
        int (*mode)(char **);
    } modes[] = {{"calls", 4, mode_calls},   {"swaps", 3, mode_swaps}, {"longest", 4, mode_longest},
                 {"pairs", 4, mode_pairs},   {"memory", 3, mode_memory}, {"held", 1, mode_held},
                 {"survive", 3, mode_survive}, {"idle", 1, mode_idle}};
    if (argc < 6) return 2;
    run.peer = peer;
    run.output = argv[2];
    run.scratch = argv[3];
    run.versions[0] = argv[4];
    run.versions[1] = argv[5];
    prctl(PR_SET_TIMERSLACK, 1000ul); /* sleeps of 20 us, not 70 */
    write_beside(run.versions[0], run.output);
    rename_beside(run.output);
    hb_state state = {0};
    if (peer->open(run.output, run.scratch) != 0) die(peer->name);
    for (double end = now_us() + 20e6; peer->a(&state, 10) != 11; sleep_us(1e3)) {
        if (now_us() > end) die("version 1 does not run");
        tick();
    }
    /* Peers that watch may still be about to begin with it when their first call returns. */
    for (double end = now_us() + (peer->load ? 0 : 1e6); now_us() < end; sleep_us(1e3)) tick();
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(argv[1], modes[i].name) == 0 && argc - 6 == modes[i].arguments) return modes[i].mode(argv + 6);
    return 2;
}
