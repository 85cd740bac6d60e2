/* Who still points into a module? scan.c decides what a pointer is, linux_scan.c reads memory and registers. */
#ifndef HOTRELOAD_SCAN_H
#define HOTRELOAD_SCAN_H

#include "internal.h"

#define HR_SCAN_TARGETS 16
#define HR_SCAN_PLACE 160

/* A module that is to be unmapped, and the first thing that was found to point into it. */
typedef struct hr_target {
    hr_module *module;
    uintptr_t start, end;              /* its span of addresses */
    uint32_t mappings;
    uintptr_t record, record_end;      /* the loader's own record of it */
    uintptr_t strings, strings_end;    /* its dynamic string table */
    uint64_t hits;
    uintptr_t at;    /* the address of the first pointer; 0: it is in no memory */
    uintptr_t value; /* where that points */
    bool mangled;    /* encrypted, as the C library keeps exit handlers and jump buffers */
    uint64_t us;    /* what the scan took, of all targets together */
    char place[HR_SCAN_PLACE]; /* what `at` lies in: a mapping, a thread's register, a signal's handler */
} hr_target;

/* Consecutive words of memory: words[0 .. count), at `address` in the process. Others from words - before up to
 * words + after may be looked at too. */
typedef struct hr_words {
    const uint64_t *words;
    size_t count, before, after;
    uintptr_t address;
} hr_words;

typedef struct hr_scan hr_scan;

/* Room for targets, in memory that no scan looks at. Null: none. */
hr_scan *hr_scan_new(void);
void hr_scan_free(hr_scan *scan);
hr_target *hr_scan_targets(hr_scan *scan);

/* Looks for pointers into the first `count` targets and fills in their last fields. `entry` is what the calling thread's
 * registers held, and `stack` where its stack ended, before it learned of the targets. HR_OK: everything was looked at;
 * else *failure says what could not be. */
hr_status hr_scan_run(hr_scan *scan, uint32_t count, const uint64_t *entry, uint32_t entry_count, uintptr_t stack,
                      hr_failure *failure);

/* ---- the platform's half ---- */

#define HR_REGISTER_WORDS 64
#define HR_ANSWERING UINT32_MAX

typedef struct hr_registers {
    uint32_t thread;
    uint32_t answered; /* atomic: the round that it answered */
    uint32_t count;
    uint32_t claim; /* atomic: the round whose answer is awaited, HR_ANSWERING, or 0 */
    uintptr_t stack;
    uint64_t words[HR_REGISTER_WORDS];
} hr_registers;

typedef struct hr_mapping {
    uintptr_t start, end;
    uintptr_t from;   /* where the scan begins: above a stack's dead end */
    const char *name; /* may be empty */
    uint32_t length;  /* of name */
    uint32_t thread;  /* whose stack it is; 0: nobody's */
    bool stack;       /* has what a thread's stack has below it */
    bool after_file;  /* anonymous, right behind a mapping of the file `name` */
} hr_mapping;

typedef struct hr_memory {
    char *text; /* of the list of mappings */
    size_t text_size;
    hr_mapping *mappings;
    size_t capacity; /* bytes of it */
    uint32_t count;
} hr_memory;

typedef void (*hr_visit_words)(void *data, const hr_words *words, const hr_mapping *mapping);

/* The registers of all threads but this one. *silent: a thread that did not answer, or 0; *blocks: it blocks our
 * signal. */
hr_status hr_platform_registers(const hr_registers **list, uint32_t *count, uint32_t *silent, bool *blocks);
bool hr_platform_owns(uintptr_t address); /* the memory of the above */
/* All mappings that may hold pointers. */
bool hr_platform_memory(hr_memory *memory);
void hr_platform_memory_free(hr_memory *memory);
/* Visits the pages of all mappings that hold anything, upwards or downwards. False: it could not be finished. */
bool hr_platform_each_page(const hr_memory *memory, bool down, void *stack, size_t stack_size, hr_visit_words visit,
                           void *data);
/* Code that only the kernel knows the address of: visit(data, address, what). */
void hr_platform_each_handler(void (*visit)(void *data, uintptr_t address, const char *what), void *data);
/* Keeps addresses that have become free from being used again, at no cost but theirs. */
void hr_platform_reserve(uintptr_t start, uintptr_t end);
void hr_platform_reserved_forget(void); /* which they are: in the child of a fork */
/* How many bytes between two addresses are in memory. */
uint64_t hr_platform_resident(uintptr_t start, uintptr_t end);

/* What reads memory as it is: other threads write to it meanwhile, and sanitizers would count its poisoned parts. */
#if defined(__clang__)
#define HR_UNCHECKED __attribute__((no_sanitize("address", "thread", "undefined")))
#else
#define HR_UNCHECKED __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

#endif
