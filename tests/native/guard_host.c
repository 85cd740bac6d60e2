/* Scenarios of the guard: guard_host SCENARIO DIRECTORY [NUMBER]. Exit status 0: it held.
 *
 * The directory holds crasher.so, good.so (both for the slot "step") and outer.so (slot "outer", which calls "step"). A
 * scenario that hangs is ended by an alarm. */
#include "../../shim/src/internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crasher.h"
#include "guard_outer.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                        \
        _exit(1);                                                                                                      \
    } while (0)

#define THREADS 8

static const char *directory;
static uint32_t number; /* of the last copy of crasher.so */
static uint32_t hang_ms = 1000; /* a loaded machine may take its time to open a module, which is guarded too */

static int32_t step(void *opaque, const void *input, void *output) {
    crasher_state *state = opaque;
    (void)input;
    (void)output;
    state->steps++;
    state->hash = (state->hash ^ state->steps) * UINT64_C(0x100000001B3);
    return 1;
}

static hr_slot slot_step = HR_SLOT("step", step);
static hr_slot slot_outer = HR_SLOT("outer", 0);

static const char *module(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s.so", directory, name);
    return path;
}

static hr_status load(const char *name) { return hr_load(NULL, module(name), NULL); }

/* A copy of crasher.so that crashes in the way `kind`, with content of its own. */
static hr_status load_crasher(char kind) {
    static char bytes[65536];
    char name[32], digits[16];
    FILE *file = fopen(module("crasher"), "rb");
    CHECK(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    CHECK(size < sizeof bytes);
    char *mark = memmem(bytes, size, CRASHER_MARK, strlen(CRASHER_MARK));
    CHECK(mark);
    snprintf(digits, sizeof digits, "%07u%c", ++number % 10000000, kind);
    memcpy(mark + strlen(CRASHER_MARK), digits, 8);
    snprintf(name, sizeof name, "copy%d", (int)getpid());
    CHECK((file = fopen(module(name), "wb")) && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    hr_status status = load(name);
    unlink(module(name));
    return status;
}

static uint32_t more_options;

static void start(uint64_t calls, uint32_t milliseconds) {
    CHECK(hr_declare(NULL, &slot_step) == HR_OK);
    CHECK(hr_declare(NULL, &slot_outer) == HR_OK);
    hr_options options = {.flags = HR_OPTION_GUARD | more_options, .probation_calls = calls,
                          .probation_ms = milliseconds, .hang_ms = hang_ms};
    CHECK(hr_set_options(&options) == HR_OK);
    CHECK(hr_guard_state(&slot_step, sizeof(crasher_state)) == HR_OK);
}

static uint64_t flags_of(const hr_slot *slot) {
    pthread_mutex_lock(&hr.lock); /* this thread is in no epoch */
    uint64_t flags = __atomic_load_n(&hr_dispatch.table->entries[slot->index].flags, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&hr.lock);
    return flags;
}

/* ---- one caller ---- */

/* Every kind of crash and hang: the fallback answers, on the state of before; the content is quarantined. */
static void kinds(void) {
    crasher_state state = {0}, expected = {0};
    start(0, 0);
    for (const char *kind = "0123456789"; *kind; kind++) {
        CHECK(load_crasher(*kind) == HR_OK);
        CHECK(flags_of(&slot_step) & HR_ENTRY_GUARD);
        CHECK(hr_call(&slot_step, &state, NULL, NULL) == 1);
        CHECK(step(&expected, NULL, NULL) == 1 && memcmp(&state, &expected, sizeof state) == 0);
        number--;
        CHECK(load_crasher(*kind) == HR_E_QUARANTINED);
    }
    CHECK(load("good") == HR_OK && hr_call(&slot_step, &state, NULL, NULL) == 2);
}

/* State that nobody declared as exclusive is left as the patch left it. */
static void shared_state(void) {
    crasher_state state = {0};
    start(0, 0);
    CHECK(hr_guard_state(&slot_step, 0) == HR_OK);
    CHECK(load_crasher('0') == HR_OK);
    CHECK(hr_call(&slot_step, &state, NULL, NULL) == 1 && state.steps == 101);
}

/* A good patch's probation ends, by calls or by time; from then on its entry has no flag at all. */
static void probation_ends(void) {
    crasher_state state = {0};
    start(5, 3600000);
    CHECK(load("good") == HR_OK);
    for (int i = 0; i < 4; i++) CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2);
    usleep(100000);
    CHECK(flags_of(&slot_step) & HR_ENTRY_GUARD);
    CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2);
    while (flags_of(&slot_step)) usleep(1000);
    CHECK(hr_rollback(NULL, NULL, NULL, NULL) == HR_OK);
    hr_options options = {.flags = HR_OPTION_GUARD, .probation_calls = 1000000, .probation_ms = 50};
    CHECK(hr_set_options(&options) == HR_OK);
    CHECK(load("outer") == HR_OK);
    while (flags_of(&slot_outer) & HR_ENTRY_GUARD) usleep(1000);
}

/* A patch that calls a slot whose patch crashes; a frame that pins the table of before; a crash in the outer one. */
static void nested(void) {
    crasher_state state = {0}, expected = {0};
    outer_input input = {&slot_step, &state, hr_call_slot, 0};
    start(0, 0);
    CHECK(load("outer") == HR_OK && load_crasher('0') == HR_OK);
    hr_frame frame = hr_frame_begin();
    CHECK(hr_frame_call(&frame, &slot_outer, NULL, &input, NULL) == 11); /* 10 + what the inner one returned */
    CHECK(hr_frame_call(&frame, &slot_step, &state, NULL, NULL) == 1);   /* its table still has the crasher */
    hr_frame_end(&frame);
    step(&expected, NULL, NULL);
    step(&expected, NULL, NULL);
    CHECK(memcmp(&state, &expected, sizeof state) == 0);
    CHECK(hr_call(&slot_outer, NULL, &input, NULL) == 11);
    input.crash = 1; /* in the outer one, after the inner call */
    CHECK(load("good") == HR_OK);
    CHECK(hr_call(&slot_outer, NULL, &input, NULL) == HR_UNRESOLVED);
    CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2); /* that one was not to blame */
    CHECK(hr_thread_attach() == NULL || hr_thread_attach()->active == 0);
}

/* An unproven version that another one replaced is guarded again when that is taken back. */
static void back_on_probation(void) {
    crasher_state state = {0};
    start(0, 0);
    CHECK(load("good") == HR_OK && hr_call(&slot_step, &state, NULL, NULL) == 2);
    CHECK(load_crasher('1') == HR_OK);
    CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2);
    CHECK(flags_of(&slot_step) & HR_ENTRY_GUARD);
}

/* ---- and unloading ---- */

static uint32_t module_count(void) {
    uint32_t count = 0;
    pthread_mutex_lock(&hr.lock);
    for (const hr_module *each = hr.modules; each; each = each->next) count++;
    pthread_mutex_unlock(&hr.lock);
    return count;
}

/* Served, because it is the shim's thread that unloads. Sanitizers keep freed memory as it was, in which there are
 * pointers into anything: then it is enough that all of it was looked at. */
static void start_unloading(uint64_t calls, uint32_t milliseconds) {
    more_options = HR_OPTION_UNLOAD;
    start(calls, milliseconds);
    CHECK(hr_serve(NULL, "guard", 0, NULL) == HR_OK);
}

static void await_modules(uint32_t most) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    while (module_count() > most) usleep(1000);
#else
    usleep(200000);
    printf("%u modules where %u are awaited\n", module_count(), most);
#endif
}

/* What has stood the test goes like any other once it is replaced, and what has crashed goes as well. */
static void unloaded(void) {
    crasher_state state = {0};
    start_unloading(5, 3600000);
    for (int i = 0; i < 4; i++) {
        CHECK(load_crasher('g') == HR_OK);
        while (flags_of(&slot_step) & HR_ENTRY_GUARD) CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2);
        await_modules(2); /* and what a roll back would bring back */
    }
    for (const char *kind = "0123456789"; *kind; kind++) {
        CHECK(load_crasher(*kind) == HR_OK);
        CHECK(hr_call(&slot_step, &state, NULL, NULL) == 2);
        await_modules(2);
    }
}

/* ---- the host's own handlers ---- */

static sigjmp_buf escape;
static volatile sig_atomic_t handled;

static void host_handler(int signal, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    handled = signal;
    siglongjmp(escape, 1);
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = host_handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

static void crash_in_the_host(void) {
    static int *volatile nowhere;
    handled = 0;
    if (sigsetjmp(escape, 1) == 0) *nowhere = 1;
    CHECK(handled == SIGSEGV);
}

/* The host's handler, installed before the guard's or after, gets the host's faults and none of the patch's. */
static void handlers(void) {
    crasher_state state = {0};
    install();
    start(0, 0);
    crash_in_the_host();
    CHECK(load_crasher('0') == HR_OK && hr_call(&slot_step, &state, NULL, NULL) == 1);
    crash_in_the_host();
    install(); /* replaces the guard's */
    handled = 0;
    CHECK(load_crasher('0') == HR_OK && hr_call(&slot_step, &state, NULL, NULL) == 1 && handled == 0);
    crash_in_the_host();
    CHECK(state.steps == 2);
}

/* A handler that a patch installs is gone with it. */
static void handler_of_a_patch(void) {
    crasher_state state = {0};
    start(0, 0);
    install();
    outer_input input = {&slot_step, &state, hr_call_slot, 2}; /* takes SIGSEGV */
    CHECK(load("outer") == HR_OK && hr_call(&slot_outer, NULL, &input, NULL) == 11);
    for (struct sigaction now = {0}; now.sa_handler == SIG_DFL || !(now.sa_flags & SA_ONSTACK); usleep(1000))
        CHECK(sigaction(SIGSEGV, NULL, &now) == 0); /* until the guard has looked */
    crash_in_the_host();
}

/* Without a handler of the host, its own crash kills it as ever. */
static void crash_outside(void) {
    start(0, 0);
    CHECK(load("good") == HR_OK);
    pid_t child = fork();
    if (child == 0) {
        static int *volatile nowhere;
        *nowhere = 1;
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* ---- more than one thread ---- */

/* The child of a fork has no watchdog: it gets one when it needs one. */
static void forked(void) {
    crasher_state state = {0};
    start(0, 0);
    CHECK(load_crasher('0') == HR_OK);
    pid_t child = fork();
    if (child == 0) {
        CHECK(hr_call(&slot_step, &state, NULL, NULL) == 1 && state.steps == 1);
        CHECK(load_crasher('2') == HR_OK && hr_call(&slot_step, &state, NULL, NULL) == 1);
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(hr_call(&slot_step, &state, NULL, NULL) == 1);
}

typedef struct worker {
    pthread_t thread;
    crasher_state state;
    uint64_t calls;
    uint64_t wrong;
} worker;

static uint32_t stop;

static void *work(void *argument) {
    worker *self = argument;
    sigset_t all;
    sigfillset(&all);
    if (more_options == 0) pthread_sigmask(SIG_BLOCK, &all, NULL); /* as many hosts' workers do; no scan could ask them */
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        self->wrong += hr_call(&slot_step, &self->state, NULL, NULL) != 1;
        self->calls++;
    }
    return NULL;
}

/* The exact sum, as every reader of the black box makes it. */
static uint64_t count_calls(void) {
    uint64_t calls = 0;
    const hr_box *box = hr.box;
    for (uint32_t i = 0; i < box->shard_count; i++)
        calls += ((const hr_shard *)((const char *)box + box->shards_offset + i * box->shard_stride))->calls[slot_step.index];
    return calls;
}

/* Threads at full rate while one crashing patch after the other comes: every call is answered by the fallback, every
 * counter and every thread's state is what it is without a single patch. */
static void many(uint32_t patches, const char *ways) {
    worker workers[THREADS] = {0};
    uint64_t calls = 0;
    if (more_options == 0) start(0, 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    for (uint32_t i = 0; i < patches; i++) {
        hr_status status = load_crasher(ways[i % strlen(ways)]);
        if (status != HR_OK) fprintf(stderr, "patch %u: %s\n", i, hr_status_code(status));
        CHECK(status == HR_OK);
        while (flags_of(&slot_step) & HR_ENTRY_GUARD) usleep(50);
    }
    if (more_options) await_modules(0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        worker *each = &workers[i];
        crasher_state expected = {0};
        pthread_join(each->thread, NULL);
        for (uint64_t k = 0; k < each->calls; k++) step(&expected, NULL, NULL);
        CHECK(each->wrong == 0 && memcmp(&each->state, &expected, sizeof expected) == 0);
        calls += each->calls;
    }
    CHECK(count_calls() == calls);
    CHECK(hr_generation(NULL) == 2 * (uint64_t)patches);
    printf("%u crashing patches, %u threads, %llu calls\n", patches, THREADS, (unsigned long long)calls);
}

static uint32_t wanted;

static void torture(void) {
    hang_ms = 60000;
#ifdef __SANITIZE_THREAD__
    many(wanted ? wanted : 200, "0123567"); /* it takes memset for a data race before that crashes */
#else
    many(wanted ? wanted : 200, "01234567");
#endif
}

static void torture_hangs(void) { many(2, "89"); }

/* The same, and every module is unmapped while all of them call. */
static void torture_unloads(void) {
    start_unloading(0, 0);
    if (wanted == 0) wanted = 40; /* each waits for its scans */
    torture();
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"kinds", kinds},
    {"shared_state", shared_state},
    {"probation_ends", probation_ends},
    {"nested", nested},
    {"back_on_probation", back_on_probation},
    {"unloaded", unloaded},
    {"handlers", handlers},
    {"handler_of_a_patch", handler_of_a_patch},
    {"crash_outside", crash_outside},
    {"forked", forked},
    {"torture", torture},
    {"torture_hangs", torture_hangs},
    {"torture_unloads", torture_unloads},
};

int main(int count, char **arguments) {
    if (count == 1) { /* their names, for the test to run each */
        for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) puts(scenarios[i].name);
        return 0;
    }
    directory = arguments[2];
    wanted = count > 3 ? (uint32_t)atoi(arguments[3]) : 0;
    alarm(wanted > 200 ? 600 : 180); /* it hangs; on a busy machine a minute is no sign of that */
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (strcmp(scenarios[i].name, arguments[1]) == 0) {
            scenarios[i].run();
            return 0;
        }
    return 2;
}
