/* The host that bad patches are loaded into: one thread calls the slot "bad.step" all the time, another one works on its
 * own. A line on standard input is answered by one line: calls made, what the last one returned, what the other thread
 * has done, and whether the state and the memory beside the output are sound. The end of the input ends it.
 *
 *     victim NAME */
#define _GNU_SOURCE 1
#include <hotreload/hotreload.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct state { /* bad.h */
    int64_t steps;
    int64_t check;
} state;

static int32_t step(void *opaque, const void *input, void *output) {
    state *own = opaque;
    (void)input;
    own->steps++;
    own->check++;
    *(int64_t *)output = own->steps;
    return 1;
}

static hr_slot slot = HR_SLOT("bad.step", step);
static state own;
static struct {
    int64_t value;
    int64_t beside; /* 7, unless a patch writes more than it was asked to */
    char room[4096];
} output = {0, 7, {0}};
static uint64_t calls, beats;
static int32_t last;

static void *call(void *unused) {
    for (;;) {
        int64_t before = own.steps;
        int32_t result = hr_call(&slot, &own, NULL, &output.value);
        if (result == 2 && own.steps == before) { /* the patch's own work: keep the state's promise for it */
            own.steps++;
            own.check++;
        }
        __atomic_store_n(&last, result, __ATOMIC_RELAXED);
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
        usleep(500);
    }
    return unused;
}

static void *beat(void *unused) {
    for (;; usleep(500)) {
        free(malloc(1000)); /* a lock of the allocator that stays held shows here */
        __atomic_fetch_add(&beats, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

int main(int count, char **arguments) {
    pthread_t caller, other;
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count != 2 || hr_declare(NULL, &slot) != HR_OK || hr_guard_state(&slot, sizeof own) != HR_OK) return 2;
    if (hr_serve(NULL, arguments[1], 0, NULL) != HR_OK) return 2;
    if (pthread_create(&caller, NULL, call, NULL) != 0 || pthread_create(&other, NULL, beat, NULL) != 0) return 2;
    puts("ready");
    while (fgets(line, sizeof line, stdin))
        printf("%llu %d %llu %d\n", (unsigned long long)__atomic_load_n(&calls, __ATOMIC_RELAXED),
               __atomic_load_n(&last, __ATOMIC_RELAXED), (unsigned long long)__atomic_load_n(&beats, __ATOMIC_RELAXED),
               own.steps == own.check && output.beside == 7);
    _exit(0);
}
