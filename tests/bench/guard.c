/* Times calls of one function: through a pointer, through a slot without options, and through a slot on probation, one
 * after the other in each repetition; then the last one with state that the guard copies.
 *
 *     guard OFF.so ON.so REPETITIONS CALLS        (modules of the slots "off.step" and "on.step")
 *
 * Prints a line a way: its name, then nanoseconds of processor time a call, a number a repetition. */
#define _GNU_SOURCE 1
#include <hotreload/hotreload.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WAYS 4
#define REPETITIONS_MAX 1000

static hr_slot off = HR_SLOT("off.step", 0), on = HR_SLOT("on.step", 0);
static int64_t state[32], input = 3, output;
static hr_patch_fn plain;

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The loops are written out: a call through a pointer to the way would be measured with it. */
#define TIMED(call)                                                                                                    \
    do {                                                                                                               \
        double begun = now_ns();                                                                                       \
        for (long i = 0; i < calls; i++) call;                                                                         \
        return (now_ns() - begun) / (double)calls;                                                                     \
    } while (0)

__attribute__((noinline)) static double measure(int way, long calls) {
    hr_patch_fn function = __atomic_load_n(&plain, __ATOMIC_RELAXED);
    if (way == 0) TIMED(function(state, &input, &output));
    if (way == 1) TIMED(hr_call(&off, state, &input, &output));
    TIMED(hr_call(&on, state, &input, &output));
}

static void need(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "guard: %s\n", what);
    exit(1);
}

int main(int count, char **arguments) {
    static const char *const names[WAYS] = {"plain", "off", "guarded", "copied"};
    static double times[WAYS][REPETITIONS_MAX];
    need(count == 5, "guard OFF.so ON.so REPETITIONS CALLS");
    int repetitions = atoi(arguments[3]);
    long calls = atol(arguments[4]);
    need(repetitions > 0 && repetitions <= REPETITIONS_MAX && calls > 0, "numbers out of range");
    need(hr_declare(NULL, &off) == HR_OK && hr_declare(NULL, &on) == HR_OK, "no slots");
    need(hr_load(NULL, arguments[1], NULL) == HR_OK, "the first module was refused");
    hr_options options = {.flags = HR_OPTION_GUARD, .probation_ms = UINT32_MAX, .probation_calls = UINT64_MAX};
    need(hr_set_options(&options) == HR_OK, "no guard");
    need(hr_load(NULL, arguments[2], NULL) == HR_OK, "the second module was refused");
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    const hr_patch_module_v1 *module = library ? dlsym(library, "HOTPATCH_MODULE_V1") : NULL;
    need(module != NULL, "no manifest");
    plain = module->entries[0].func;
    for (int way = 0; way < WAYS; way++) measure(way, calls); /* warm */
    for (int i = 0; i < repetitions; i++)
        for (int way = 0; way < WAYS; way++) {
            need(hr_guard_state(&on, way == 3 ? sizeof state : 0) == HR_OK, "no copy");
            times[way][i] = measure(way, calls);
        }
    const hr_entry *entry = &hr_dispatch.table->entries[on.index];
    need(__atomic_load_n(&entry->flags, __ATOMIC_RELAXED) & HR_ENTRY_GUARD, "the probation ended meanwhile");
    for (int way = 0; way < WAYS; way++) {
        printf("%s", names[way]);
        for (int i = 0; i < repetitions; i++) printf(" %.4f", times[way][i]);
        printf("\n");
    }
    return 0;
}
