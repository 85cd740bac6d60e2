/* What the hosts of bad patches share (victim.c, and victim_cr.cpp for cr.h): the state, a thread that works on its own,
 * and the answers. A line on standard input is answered by one line, of numbers: calls that were answered, whether the
 * last one did the good versions' work (1) or not (2), what the other thread has done, whether the state is sound,
 * whether the memory beside the output is, and the output. The end of the input ends the host. C11 and C++17. */
#ifndef HOTRELOAD_VICTIM_H
#define HOTRELOAD_VICTIM_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct state { /* bad.h */
    int64_t steps;
    int64_t check;
} state;

static state own;
static struct {
    int64_t value;
    int64_t beside; /* 7, unless a patch writes more than it was asked to */
    char room[4096];
} output = {0, 7, {0}};
static uint64_t calls, beats;
static int32_t last;

/* After an answered call; `before` is what the state's steps were. Bad patches do not step: the state's promise is kept
 * for them, and one that is broken stays broken. */
static void count_call(int64_t before) {
    int stepped = own.steps != before;
    if (!stepped) {
        own.steps++;
        own.check++;
    }
    __atomic_store_n(&last, stepped ? 1 : 2, __ATOMIC_RELAXED);
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

static void *beat(void *unused) {
    for (;; usleep(500)) {
        free(malloc(1000)); /* a lock of the allocator that stays held shows here */
        __atomic_fetch_add(&beats, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

/* Until the end of the input. `call` is the thread that calls. */
static int answer(void *(*call)(void *)) {
    pthread_t caller, other;
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pthread_create(&caller, NULL, call, NULL) != 0 || pthread_create(&other, NULL, beat, NULL) != 0) return 2;
    puts("ready");
    while (fgets(line, sizeof line, stdin))
        printf("%llu %d %llu %d %d %lld\n", (unsigned long long)__atomic_load_n(&calls, __ATOMIC_RELAXED),
               __atomic_load_n(&last, __ATOMIC_RELAXED), (unsigned long long)__atomic_load_n(&beats, __ATOMIC_RELAXED),
               own.steps == own.check, output.beside == 7, (long long)output.value);
    _exit(0);
}

#endif
