/* Mutexes that a patch has left locked: its call has been ended by the guard, and nobody unlocks them any more.
 *
 * glibc writes into a mutex which thread holds it (not so Rust's std, nor the allocator's and the loader's own locks). What
 * can be looked at without any lock and at once is looked at: the writable data of the module and of the program. The heap
 * is not: of gigabytes, while a caller waits. A mutex of the program may also be one that the caller holds around its call;
 * which of the two is beyond telling. The thread is waiting meanwhile (guard.c, await_taken_back), so that what it holds
 * is what it held. */
#include "internal.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* The start of glibc's pthread_mutex_t, whose size and alignment are pthread_mutex_t's own. */
typedef struct mutex_words {
    int32_t lock; /* 0: free, 1: locked, 2: with waiters */
    uint32_t count;
    int32_t owner; /* kernel thread id */
    uint32_t users;
    int32_t kind;
} mutex_words;

/* Normal, recursive, error checking, adaptive; 256 and 512 say whether locks are elided. */
#define KINDS 0x303

/* What is looked at of one segment: the rest of a giant array would take a caller's time. */
#define MOST (UINT64_C(64) << 20)
#define BLOCK 4096u

static bool is_held(const char *bytes, int32_t thread) {
    mutex_words mutex;
    memcpy(&mutex, bytes, sizeof mutex);
    return mutex.owner == thread && (mutex.lock == 1 || mutex.lock == 2) && mutex.users == 1 &&
           (mutex.kind & ~KINDS) == 0;
}

/* The first one in [start, end); 0: none. Read by the kernel: others write meanwhile, and pages may be locked away. */
static uintptr_t find_held(uintptr_t start, uintptr_t end, int32_t thread) {
    const size_t step = _Alignof(pthread_mutex_t), whole = sizeof(pthread_mutex_t);
    char block[BLOCK + sizeof(pthread_mutex_t)];
    if (end - start > MOST) end = start + MOST;
    for (uintptr_t at = (start + step - 1) & ~(step - 1); at < end; at += BLOCK) {
        size_t size = hr_platform_read(at, block, end - at < sizeof block ? end - at : sizeof block);
        for (size_t i = 0; i + whole <= size; i += step)
            if (is_held(block + i, thread)) return at + i;
    }
    return 0;
}

static uintptr_t in_image(uintptr_t bias, const ElfW(Phdr) *segments, uint64_t count, int32_t thread) {
    uintptr_t found = 0;
    for (uint64_t i = 0; i < count && found == 0; i++) {
        if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_W)) continue;
        uintptr_t start = bias + segments[i].p_vaddr;
        found = find_held(start, start + segments[i].p_memsz, thread);
    }
    return found;
}

static uintptr_t in_module(const hr_module *module, int32_t thread) {
    const ElfW(Ehdr) *head = (const void *)module->base;
    return in_image(module->base, (const void *)(module->base + head->e_phoff), head->e_phnum, thread);
}

static uintptr_t in_program(int32_t thread, uintptr_t *bias) {
    const ElfW(Phdr) *segments = (const void *)getauxval(AT_PHDR);
    uint64_t count = segments ? getauxval(AT_PHNUM) : 0;
    *bias = 0;
    for (uint64_t i = 0; i < count; i++)
        if (segments[i].p_type == PT_PHDR) *bias = (uintptr_t)segments - segments[i].p_vaddr;
    return in_image(*bias, segments, count, thread);
}

bool hr_locks_describe(const hr_module *module, uint32_t thread, char *text, uint32_t size) {
    char symbol[128];
    uintptr_t bias, at = in_module(module, (int32_t)thread);
    if (at) {
        hr_symbol_at(module->staged, at - module->base, symbol, sizeof symbol);
        snprintf(text, size, "it holds the mutex %.80s of the module for ever", symbol);
        return true;
    }
    at = in_program((int32_t)thread, &bias);
    if (at == 0) return false;
    hr_symbol_at(hr.box->program, at - bias, symbol, sizeof symbol);
    snprintf(text, size, "it, or its caller, holds the mutex %.80s of the program", symbol);
    return true;
}
