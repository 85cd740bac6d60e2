/* A host that keeps pointers into modules, or does not: one command a line on standard input, one JSON line each.
 *
 *     load PATH      rollback      call [KIND]     unload on|off      budget BYTES      poll
 *     keep KIND HOW  the module gives a pointer of that KIND (see give.h); HOW: heap, shared, behind, register, key, signal, mangled
 *     silent         starts a thread that blocks every signal
 *     occupy         starts a thread that stays in a call
 *     drop           forgets what was kept last, ends what was started last
 *     fill MIB       has so much more memory, every page of it written
 *     reload COUNT PATH PATH   swaps the two in turn
 *     calls          the cost of a call, ns
 *     trim           gives what the allocator keeps for later back
 *
 * With the argument `poll` it has no thread of the shim's, with `alone` it serves nobody. */
#define _GNU_SOURCE
#include "give.h"
#include <errno.h>
#include <fcntl.h>
#include <hotreload/hotreload.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int32_t nothing(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return 0;
}

static hr_slot give = HR_SLOT("keeper.give", nothing);
static int gate;
static void **cell; /* kept: heap */
static pthread_t holder;
static pthread_key_t key;

/* A place in shared memory, or in memory that lies behind a file's. */
static void **place_in(const char *how) {
    const int both = PROT_READ | PROT_WRITE;
    if (!strcmp(how, "shared")) return mmap(NULL, 4096, both, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *pages = mmap(NULL, 16384, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    void *first = mmap(pages + 4096, 4096, both, MAP_PRIVATE | MAP_FIXED, fd, 0);
    close(fd);
    if (first == MAP_FAILED) return NULL;
    return mmap(pages + 8192, 4096, both, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* Not inlined, so that what the call leaves behind lies below this function's caller. */
__attribute__((noinline)) static void *given(int kind) {
    void *pointer = NULL;
    hr_call(&give, NULL, &kind, &pointer);
    return pointer;
}

__attribute__((noinline)) static int called(int kind) {
    void *pointer = NULL;
    return hr_call(&give, NULL, &kind, &pointer);
}

/* Overwrites what earlier calls left on the stack: the C library keeps the stacks of ended threads. */
__attribute__((noinline)) static void wipe(void) {
    volatile char dead[16384];
    for (size_t i = 0; i < sizeof dead; i++) dead[i] = 0;
}

#if defined(__x86_64__)
/* Blocks with the pointer in one register and nowhere else. */
__attribute__((noinline)) static void block_with(void **taken) {
    __asm__ volatile("mov (%0), %%r12\n\t"
                     "movq $0, (%0)\n\t"
                     "movl $1, (%1)\n" /* the gate is closed: the test may look */
                     "1: mov $202, %%eax\n\t"
                     "mov %1, %%rdi\n\t"
                     "xor %%esi, %%esi\n\t"
                     "mov $1, %%edx\n\t"
                     "xor %%r10d, %%r10d\n\t"
                     "syscall\n\t"
                     "cmpl $1, (%1)\n\t"
                     "je 1b\n\t"
                     "xor %%r12d, %%r12d"
                     :
                     : "r"(taken), "r"(&gate)
                     : "rax", "rcx", "rdx", "rdi", "rsi", "r10", "r11", "r12", "memory");
}

static void *hold(void *kind) {
    void *taken = given((int)(intptr_t)kind);
    wipe();
    block_with(&taken);
    wipe();
    return NULL;
}
#endif

static void *silent(void *unused) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    __atomic_store_n(&gate, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&gate, __ATOMIC_SEQ_CST)) usleep(1000);
    return unused;
}

static void *occupy(void *unused) {
    int kind = GIVE_BLOCK;
    hr_call(&give, NULL, &kind, &gate);
    wipe();
    return unused;
}

static void start(void *(*what)(void *), int kind) {
    gate = 0;
    pthread_create(&holder, NULL, what, (void *)(intptr_t)kind);
    while (!__atomic_load_n(&gate, __ATOMIC_SEQ_CST)) usleep(1000);
}

static int keep(int kind, const char *how) {
    void *pointer = !strcmp(how, "register") ? NULL : given(kind);
    if (!strcmp(how, "heap")) {
        cell = malloc(64);
        cell[3] = pointer;
    } else if (!strcmp(how, "register")) {
#if defined(__x86_64__)
        start(hold, kind);
#else
        return 77;
#endif
    } else if (!strcmp(how, "shared") || !strcmp(how, "behind")) {
        cell = place_in(how);
        cell[3] = pointer;
    } else if (!strcmp(how, "key")) {
        pthread_key_create(&key, (void (*)(void *))(intptr_t)pointer);
    } else if (!strcmp(how, "signal")) {
        signal(SIGUSR2, (void (*)(int))(intptr_t)pointer);
    } else if (!strcmp(how, "mangled")) { /* as the C library does in jump buffers and exit lists */
#if defined(__x86_64__)
        uint64_t guard, word = (uint64_t)(uintptr_t)pointer;
        __asm__("mov %%fs:0x30, %0" : "=r"(guard));
        word ^= guard;
        cell = malloc(64);
        cell[3] = (void *)(uintptr_t)(word << 17 | word >> 47);
        word = guard = 0;
#else
        return 77;
#endif
    }
    pointer = NULL;
    return 0;
}

static void drop(void) {
    if (cell) explicit_bzero(cell, 64), cell = NULL; /* and lost */
    if (key) pthread_key_delete(key), key = 0;
    signal(SIGUSR2, SIG_DFL);
    if (!holder) return;
    __atomic_store_n(&gate, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &gate, FUTEX_WAKE, 1, NULL, NULL, 0);
    pthread_join(holder, NULL);
    holder = 0;
}

/* With what is no address: of so many random words some would seem to point into any module. */
static void fill(size_t mib) {
    size_t size = mib << 20;
    uint64_t *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; block != MAP_FAILED && i < size / sizeof *block; i++) block[i] = i * UINT64_C(0x9E3779B97F4A7C15) | UINT64_C(1) << 62;
}

static long resident_kib(void) {
    long pages = 0, unused;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &unused, &pages) != 2) pages = 0;
    if (file) fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double call_ns(void) {
    double best = 1e9;
    int kind = GIVE_NOTHING;
    for (int round = 0; round < 20; round++) {
        uint64_t begin = now_ns();
        for (int i = 0; i < 100000; i++) hr_call(&give, NULL, &kind, NULL);
        double each = (double)(now_ns() - begin) / 100000;
        if (each < best) best = each;
    }
    return best;
}

static int load(const char *path) {
    hr_report *report;
    int status = hr_load(NULL, path, &report);
    if (status != HR_OK) fprintf(stderr, "%s: %s\n", path, report->failure.reason);
    hr_report_free(report);
    return status;
}

static int reload(int count, const char *a, const char *b) {
    int status = 0;
    for (int i = 1; i <= count && status == 0; i++) {
        status = load(i % 2 ? a : b);
        given(GIVE_NOTHING);
        if (i % 16 == 0) usleep(1000); /* the shim's thread gets a turn on one core too */
    }
    return status;
}

static void set_option(int on, uint64_t budget) {
    hr_options options;
    hr_get_options(&options);
    options.flags = on ? options.flags | HR_OPTION_UNLOAD : options.flags & ~(uint32_t)HR_OPTION_UNLOAD;
    if (budget) options.budget_bytes = budget;
    hr_set_options(&options);
}

int main(int count, char **arguments) {
    int poll = count > 1 && !strcmp(arguments[1], "poll"), alone = count > 1 && !strcmp(arguments[1], "alone");
    char line[4096], verb[16], first[1024], second[1024], third[1024];
    hr_failure failure;
    hr_declare(NULL, &give);
    if (!alone && hr_serve(NULL, "keeper", poll ? HR_SERVE_POLL : 0, &failure) != HR_OK) {
        fprintf(stderr, "%s\n", failure.reason);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        int words = sscanf(line, "%15s %1023s %1023s %1023s", verb, first, second, third), result = 0;
        if (words < 1) continue;
        if (!strcmp(verb, "load")) result = load(first);
        else if (!strcmp(verb, "rollback")) result = hr_rollback(NULL, NULL, NULL, NULL);
        else if (!strcmp(verb, "unload")) set_option(!strcmp(first, "on"), 0);
        else if (!strcmp(verb, "budget")) set_option(1, strtoull(first, NULL, 10));
        else if (!strcmp(verb, "keep")) result = keep(atoi(first), second);
        else if (!strcmp(verb, "drop")) drop();
        else if (!strcmp(verb, "silent")) start(silent, 0);
        else if (!strcmp(verb, "fill")) fill((size_t)atoi(first));
        else if (!strcmp(verb, "poll")) result = hr_poll(0);
        else if (!strcmp(verb, "trim")) malloc_trim(0);
        else if (!strcmp(verb, "occupy")) start(occupy, 0);
        else if (!strcmp(verb, "call")) result = called(words > 1 ? atoi(first) : GIVE_NOTHING);
        else if (!strcmp(verb, "reload")) result = reload(atoi(first), second, third);
        wipe();
        if (!strcmp(verb, "calls")) printf("{\"ns\": %.3f}\n", call_ns());
        else printf("{\"result\": %d, \"kib\": %ld}\n", result, resident_kib());
    }
    return 0;
}
