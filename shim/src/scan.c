/* The conservative scan: does anything in this process still point into a module?
 *
 * Invariants:
 *  N1  Every aligned word of readable memory that may have been written counts as a pointer, as does every register of
 *      every thread. What is excused is known by its shape to be the loader's own or to go with dlclose; whatever else
 *      has the value of an address in the module keeps it mapped.
 *  N2  The process runs on meanwhile: one pass goes up, the next one down, with a look at all registers before, between
 *      and after. A pointer that moves once is seen by one of them.
 *  N3  Our own notes about the module lie in the scan's own block, in its hr_module and below `stack`; nothing else of
 *      ours may hold an address in a module that backs no slot.
 *
 * What it cannot see: pointers that are not aligned, packed, compressed or encrypted by anybody but the C library; those
 * in the kernel's hands (epoll, timers, io_uring) and in other processes; those in pages of shared files that were
 * evicted; and one that moves against both passes. */
#include "scan.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#define CHILD_STACK 65536u

struct hr_scan {
    hr_target targets[HR_SCAN_TARGETS];
    uint32_t count;
    bool mangles;   /* the C library encrypts pointers in a way known here */
    bool vectors;   /* AVX2 */
    ptrdiff_t ahead; /* bytes to the page that is looked at after this one */
    uint64_t guard; /* its key */
    uintptr_t low, high; /* all targets lie inside */
    uint64_t shared;     /* the leading bits in which all addresses in there agree */
    const hr_mapping *mapping; /* being visited */
    uint32_t thread;           /* whose register is being looked at */
    const char *handler;
    hr_memory memory;
    uint8_t stack[CHILD_STACK] __attribute__((aligned(64)));
};

hr_scan *hr_scan_new(void) {
    void *block = mmap(NULL, sizeof(hr_scan), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

void hr_scan_free(hr_scan *scan) {
    if (scan) munmap(scan, sizeof *scan);
}

hr_target *hr_scan_targets(hr_scan *scan) { return scan->targets; }

/* ---- what is excused ---- */

static bool inside(uintptr_t value, uintptr_t start, uintptr_t end) { return value - start < end - start; }

HR_UNCHECKED static bool word_at(const hr_words *block, size_t i, long step, uint64_t *word) {
    long at = (long)i + step;
    if (at < -(long)block->before || at >= (long)(block->count + block->after)) return false;
    *word = block->words[at];
    return true;
}

HR_UNCHECKED static uint32_t elf_hash(const char *name, const char *end) {
    uint32_t hash = 0;
    for (; name < end && *name; name++) {
        hash = (hash << 4) + (unsigned char)*name;
        uint32_t top = hash & 0xf0000000u;
        hash ^= top >> 24;
        hash &= ~top;
    }
    return hash;
}

static bool hashes_to(const hr_target *target, uint64_t string, uint64_t hash) {
    return inside(string, target->strings, target->strings_end) &&
           elf_hash((const char *)string, (const char *)target->strings_end) == (uint32_t)hash;
}

/* glibc's list of needed symbol versions: {name, hash and a flag, file name}; both names lie in the module's strings. */
static bool is_version(const hr_target *target, const hr_words *block, size_t i, uint64_t value) {
    uint64_t hash, name;
    if (!inside(value, target->strings, target->strings_end)) return false;
    if (word_at(block, i, 1, &hash) && hashes_to(target, value, hash)) return true;
    return word_at(block, i, -2, &name) && word_at(block, i, -1, &hash) && hashes_to(target, name, hash);
}

/* glibc's index for unwinders: {start, end, link map, exception frames}; any of them but the third. */
static bool is_index(const hr_target *target, const hr_words *block, size_t i) {
    for (long to_map = -1; to_map <= 2; to_map++) {
        uint64_t map, start;
        if (to_map != 0 && word_at(block, i, to_map, &map) && map == target->record &&
            word_at(block, i, to_map - 2, &start) && start == target->start)
            return true;
    }
    return false;
}

/* A registration with an exit list, {kind, function, argument, whose}, that dlclose runs and takes out: those whose
 * owner is the module. crtbegin's __dso_handle, which says so, points to itself. */
HR_UNCHECKED static bool is_exit_entry(const hr_target *target, const hr_words *block, size_t i) {
    for (long place = 1; place <= 3; place++) {
        uint64_t kind, owner;
        if (!word_at(block, i, -place, &kind) || !word_at(block, i, 3 - place, &owner)) continue;
        if ((kind != 4 && kind != 0) || owner % sizeof(void *) != 0) continue;
        if (inside(owner, target->start, target->end - sizeof(void *)) && *(const uint64_t *)owner == owner) return true;
    }
    return false;
}

static bool excused(const hr_target *target, const hr_words *block, size_t i, uint64_t value) {
    uintptr_t address = block->address + i * sizeof(uint64_t);
    return inside(address, target->start, target->end) || inside(address, target->record, target->record_end) ||
           inside(address, (uintptr_t)target->module, (uintptr_t)(target->module + 1)) || hr_guard_left_behind(address) ||
           is_exit_entry(target, block, i) || is_index(target, block, i) || is_version(target, block, i, value);
}

/* ---- one word, then many ---- */

static uint64_t turned(uint64_t word) { return word << 17 | word >> 47; }

static uint64_t unmangled(const hr_scan *scan, uint64_t word) { return (word >> 17 | word << 47) ^ scan->guard; }

/* The `%.*s` of a name that is not terminated. */
static int length_of(const hr_mapping *mapping) { return mapping->length < 100 ? (int)mapping->length : 100; }

static void write_place(hr_scan *scan, hr_target *target) {
    const hr_mapping *mapping = scan->mapping;
    static const char shared[] = "/dev/zero (deleted)\n"; /* the kernel's name for it; mapping->name goes on */
    char *to = target->place;
    size_t size = sizeof target->place;
    if (scan->handler) snprintf(to, size, "%s", scan->handler);
    else if (mapping == NULL) snprintf(to, size, "a register of thread %u", scan->thread);
    else if (mapping->thread) snprintf(to, size, "the stack of thread %u", mapping->thread);
    else if (mapping->length == 0) snprintf(to, size, "anonymous memory");
    else if (strncmp(mapping->name, shared, strlen(shared)) == 0) snprintf(to, size, "shared anonymous memory");
    else snprintf(to, size, "%.*s%s", length_of(mapping), mapping->name, mapping->after_file ? " (bss)" : "");
}

HR_UNCHECKED static void note(hr_scan *scan, const hr_words *block, size_t i, uint64_t value, bool mangled) {
    for (uint32_t t = 0; t < scan->count; t++) {
        hr_target *target = &scan->targets[t];
        if (!inside(value, target->start, target->end) || excused(target, block, i, value)) continue;
        if (target->hits++ != 0) continue;
        target->at = scan->mapping ? block->address + i * sizeof(uint64_t) : 0;
        target->value = value;
        target->mangled = mangled;
        write_place(scan, target);
    }
}

HR_UNCHECKED static void look_at_each(hr_scan *scan, const hr_words *block) {
    uintptr_t low = scan->low, span = scan->high - scan->low;
    for (size_t i = 0; i < block->count; i++) {
        uint64_t word = block->words[i];
        if (word - low < span) note(scan, block, i, word, false);
        if (scan->mangles && unmangled(scan, word) - low < span) note(scan, block, i, unmangled(scan, word), true);
    }
}

#if defined(__x86_64__)
/* Of the processor, and of the kernel, which keeps the registers. Not __builtin_cpu_supports: that needs the compiler's
 * own library, which Zig does not link. */
static bool has_avx2(void) {
    unsigned a, b, c, d, kept, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    __asm__("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    return (kept & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

/* Whether any word of a page begins, as it is or encrypted, with the bits that all addresses in [low, high) share. */
__attribute__((target("avx2"))) HR_UNCHECKED static bool page_may_point(const hr_scan *scan, const uint64_t *words,
                                                                        size_t count) {
    const __m256i shared = _mm256_set1_epi64x((int64_t)scan->shared);
    const __m256i plain = _mm256_set1_epi64x((int64_t)(scan->low & scan->shared));
    const __m256i turned_shared = _mm256_set1_epi64x((int64_t)turned(scan->shared));
    const __m256i hidden = _mm256_set1_epi64x((int64_t)turned((scan->low ^ scan->guard) & scan->shared));
    const char *next = (const char *)words + scan->ahead;
    __m256i found = _mm256_setzero_si256();
    for (size_t i = 0; i + 4 <= count; i += 4) {
        /* The processor fetches ahead by itself, but not beyond a page. It may be no memory: nothing happens then. */
        if (i % 8 == 0) _mm_prefetch(next + i * sizeof *words, _MM_HINT_T0);
        __m256i word = _mm256_loadu_si256((const __m256i *)(const void *)(words + i));
        found = _mm256_or_si256(found, _mm256_cmpeq_epi64(_mm256_and_si256(word, shared), plain));
        found = _mm256_or_si256(found, _mm256_cmpeq_epi64(_mm256_and_si256(word, turned_shared), hidden));
    }
    return !_mm256_testz_si256(found, found) || count % 4 != 0;
}
#endif

HR_UNCHECKED static void look_at(void *data, const hr_words *block, const hr_mapping *mapping) {
    hr_scan *scan = data;
    if (inside(block->address, (uintptr_t)scan, (uintptr_t)(scan + 1)) || hr_platform_owns(block->address)) return;
    scan->mapping = mapping;
#if defined(__x86_64__)
    if (scan->vectors && !page_may_point(scan, block->words, block->count)) return;
#endif
    look_at_each(scan, block);
}

static void look_at_registers(hr_scan *scan, uint32_t thread, const uint64_t *words, uint32_t count) {
    hr_words block = {words, count, 0, 0, 0};
    scan->mapping = NULL;
    scan->thread = thread;
    look_at_each(scan, &block);
}

static void look_at_handler(void *data, uintptr_t address, const char *what) {
    hr_scan *scan = data;
    uint64_t word = address;
    hr_words block = {&word, 1, 0, 0, 0};
    scan->handler = what;
    scan->mapping = NULL;
    look_at_each(scan, &block);
    scan->handler = NULL;
}

/* ---- the whole of it ---- */

static void prepare(hr_scan *scan, uint32_t count) {
    scan->count = count;
    scan->low = UINTPTR_MAX;
    scan->high = 0;
    for (uint32_t i = 0; i < count; i++) {
        hr_target *target = &scan->targets[i];
        target->hits = 0;
        target->at = target->value = 0;
        if (target->start < scan->low) scan->low = target->start;
        if (target->end > scan->high) scan->high = target->end;
    }
    scan->shared = ~UINT64_C(0);
    for (uint64_t differ = scan->low ^ (scan->high - 1); differ; differ >>= 1) scan->shared <<= 1;
#if defined(__x86_64__)
    scan->vectors = has_avx2();
#if defined(__GLIBC__)
    __asm__("mov %%fs:0x30, %0" : "=r"(scan->guard)); /* the thread's copy of the key: tcbhead_t.pointer_guard */
    scan->mangles = true;
#endif
#endif
}

static hr_mapping *mapping_of(hr_memory *memory, uintptr_t address) {
    uint32_t low = 0, high = memory->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memory->mappings[middle].end <= address) low = middle + 1;
        else high = middle;
    }
    return low < memory->count && address >= memory->mappings[low].start ? &memory->mappings[low] : NULL;
}

/* What lies below a stack's pointer and red zone is left over from calls that have returned. Only where the mapping
 * begins as a stack does: a coroutine's lies amid other memory. */
static void trim_stack(hr_memory *memory, uintptr_t stack, uint32_t thread) {
    static const uintptr_t red_zone = 128;
    hr_mapping *mapping = mapping_of(memory, stack);
    if (mapping == NULL || !mapping->stack) return;
    uintptr_t from = (stack - red_zone) & ~(uintptr_t)7;
    if (from < mapping->start) from = mapping->start;
    if (mapping->thread == 0 || from < mapping->from) mapping->from = from;
    mapping->thread = thread;
}

static hr_status look_at_threads(hr_scan *scan, uintptr_t stack, hr_failure *failure) {
    const hr_registers *list;
    uint32_t count, silent;
    bool blocks;
    if (hr_platform_registers(&list, &count, &silent, &blocks) != HR_OK)
        return hr_fail(failure, HR_E_LIMIT, NULL, NULL, NULL, "the threads cannot be listed, or are too many");
    if (silent)
        return hr_fail(failure, HR_E_LIMIT, NULL, NULL, NULL, "thread %u did not answer%s", silent,
                       blocks ? ": it blocks all signals" : "");
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].count) look_at_registers(scan, list[i].thread, list[i].words, list[i].count);
        if (scan->memory.count && list[i].count) trim_stack(&scan->memory, list[i].stack, list[i].thread);
    }
    if (scan->memory.count) trim_stack(&scan->memory, stack, hr_platform_thread_id());
    return HR_OK;
}

static bool all_pointed_at(const hr_scan *scan) {
    for (uint32_t i = 0; i < scan->count; i++)
        if (scan->targets[i].hits == 0) return false;
    return true;
}

static hr_status pass(hr_scan *scan, bool down, uintptr_t stack, hr_failure *failure) {
    scan->ahead = down ? -4096 : 4096;
    if (all_pointed_at(scan)) return HR_OK;
    if (!hr_platform_memory(&scan->memory))
        return hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "the list of mappings cannot be read");
    hr_status status = look_at_threads(scan, stack, failure);
    if (status == HR_OK && !all_pointed_at(scan) &&
        !hr_platform_each_page(&scan->memory, down, scan->stack, sizeof scan->stack, look_at, scan))
        status = hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "memory cannot be scanned in this process");
    hr_platform_memory_free(&scan->memory);
    return status;
}

hr_status hr_scan_run(hr_scan *scan, uint32_t count, const uint64_t *entry, uint32_t entry_count, uintptr_t stack,
                      hr_failure *failure) {
    prepare(scan, count);
    hr_platform_each_handler(look_at_handler, scan);
    look_at_registers(scan, hr_platform_thread_id(), entry, entry_count);
    hr_status status = pass(scan, false, stack, failure);
    if (status == HR_OK) status = pass(scan, true, stack, failure);
    if (status == HR_OK && !all_pointed_at(scan)) status = look_at_threads(scan, stack, failure);
    return status;
}
