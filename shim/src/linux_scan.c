/* The platform file for Linux, second part: this process's memory map, its pages, and its threads' registers.
 *
 * Invariants:
 *  X1  Memory is read where it lies, by a child that shares the address space but not the signal handlers: a page that
 *      vanishes under it kills nobody and changes no disposition of the host. Where no such child can be had, and for
 *      the rest of a mapping that has faulted, process_vm_readv copies (5 times slower).
 *  X2  The calling thread is suspended while the child runs (CLONE_VFORK): its thread-local storage is the child's.
 *  X3  A thread is asked for its registers by a real-time signal that nobody had a use for; the handler stays installed,
 *      because an answer may come late. A record is written by whoever has it: the asking thread while its claim is 0, the
 *      thread that is asked from when it has turned the round's number into HR_ANSWERING; a late one finds another number. */
#include "scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGE_WORDS (PAGE / sizeof(uint64_t))
#define THREADS 1024u
#define ANSWER_NS 500000000ull
/* A sanitizer's shadow: it holds no pointers, and walking its page table would take minutes. */
#define SHADOW_SIZE (UINT64_C(1) << 40)

/* ---- the memory map ---- */

/* Addresses that unloaded modules have had, in ascending order, by page: an address would seem to point to what lies
 * beside it. More than there is room for are looked at like any other memory. Under unload.c's lock. */
#define RESERVED 1024u
typedef struct hr_range {
    uintptr_t first, end;
} hr_range;
static struct {
    uint32_t count;
    hr_range ranges[RESERVED];
} reserved;

/* The first range that begins behind that page. */
static uint32_t range_after(uintptr_t page) {
    uint32_t low = 0, high = reserved.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (reserved.ranges[middle].first <= page) low = middle + 1;
        else high = middle;
    }
    return low;
}

static bool is_reserved(uintptr_t start, uintptr_t end) {
    uint32_t after = range_after(start / PAGE);
    return after > 0 && end / PAGE <= reserved.ranges[after - 1].end;
}

/* Not by mremap: ThreadSanitizer does not see it, and takes the next library that lies where the text lay for the text. */
static bool grow(hr_memory *memory) {
    size_t size = memory->text_size ? memory->text_size * 2 : 256 * 1024;
    char *text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (text == MAP_FAILED) return false;
    if (memory->text_size) {
        memcpy(text, memory->text, memory->text_size);
        munmap(memory->text, memory->text_size);
    }
    memory->text = text;
    memory->text_size = size;
    return true;
}

/* The whole list as text, terminated. */
static bool read_map(hr_memory *memory) {
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    bool whole = false;
    while (fd >= 0 && !whole) {
        if (used + PAGE >= memory->text_size && !grow(memory)) break;
        ssize_t n = read(fd, memory->text + used, memory->text_size - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        used += (size_t)n;
        whole = n == 0;
    }
    if (fd >= 0) close(fd);
    if (whole) memory->text[used] = 0;
    return whole;
}

typedef struct hr_map_line {
    uintptr_t start, end, inode;
    char access[5];
    const char *name;
    uint32_t length;
} hr_map_line;

/* By hand: sscanf of 65,000 lines takes 50 ms. */
static bool parse_line(char **text, hr_map_line *line) {
    char *at = *text, *end;
    if (*at == 0) return false;
    line->start = strtoul(at, &end, 16);
    line->end = strtoul(end + 1, &end, 16);
    memcpy(line->access, end + 1, 4);
    line->access[4] = 0;
    strtoul(end + 5, &end, 16);         /* offset */
    while (*end == ' ') end++;
    while (*end && *end != ' ') end++;  /* device */
    line->inode = strtoul(end, &end, 10);
    while (*end == ' ') end++;
    line->name = end;
    line->length = (uint32_t)strcspn(end, "\n");
    *text = end + line->length + (end[line->length] == '\n');
    return true;
}

static bool begins(const hr_map_line *line, const char *with) { return strncmp(line->name, with, strlen(with)) == 0; }

/* Reading a device may do something. /dev/zero is the name of shared anonymous memory. */
static bool is_device(const hr_map_line *line) {
    return begins(line, "anon_inode:") ||
           (begins(line, "/dev/") && !begins(line, "/dev/shm/") && !begins(line, "/dev/zero"));
}

static bool may_hold_pointers(const hr_map_line *line) {
    bool anonymous = line->inode == 0;
    if (line->access[0] != 'r' || is_device(line) || begins(line, "[v")) return false;
    if (anonymous && line->end - line->start >= SHADOW_SIZE) return false;
    return line->access[1] == 'w' || (anonymous && line->access[3] == 'p'); /* or it was once, and is sealed now */
}

/* The black box holds no pointers, and counters by the megabyte. */
static bool is_box(const hr_map_line *line) { return line->start - (uintptr_t)hr.box < hr.box->size; }

static bool same_name(const hr_map_line *a, const hr_map_line *b) {
    return a->length != 0 && a->length == b->length && memcmp(a->name, b->name, a->length) == 0;
}

/* The dynamic loader's own data: it keeps no pointers of others, and a stale one to where /etc/ld.so.cache lay, which
 * is where the first module comes to lie. */
static bool is_loaders(const hr_map_line *line, const hr_map_line *before, const hr_map_line *loader) {
    bool bss = line->inode == 0 && line->length == 0 && before->end == line->start;
    return same_name(line, loader) || (bss && same_name(before, loader));
}

/* `image`: the line before is of a program or library, which takes several lines. Whatever else is mapped may lie just
 * as well before anonymous memory, which is not its. */
static void add(hr_memory *memory, const hr_map_line *line, const hr_map_line *before, bool image) {
    bool adjacent = before->end == line->start;
    bool after_file = adjacent && line->inode == 0 && line->length == 0 && image;
    const hr_map_line *named = after_file ? before : line;
    memory->mappings[memory->count++] = (hr_mapping){
        .start = line->start,
        .end = line->end,
        .from = line->start,
        .name = named->name,
        .length = named->length,
        .stack = (adjacent && strcmp(before->access, "---p") == 0) || begins(line, "[stack"),
        .after_file = after_file,
    };
}

bool hr_platform_memory(hr_memory *memory) {
    if (!read_map(memory)) {
        hr_platform_memory_free(memory);
        return false;
    }
    size_t lines = 1;
    for (const char *at = memory->text; (at = strchr(at, '\n')); at++) lines++;
    memory->capacity = lines * sizeof(hr_mapping);
    memory->mappings = mmap(NULL, memory->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory->mappings == MAP_FAILED) {
        memory->mappings = NULL;
        hr_platform_memory_free(memory);
        return false;
    }
    hr_map_line line, before = {0}, loader = {0};
    uintptr_t loader_start = getauxval(AT_BASE);
    bool image = false;
    for (char *text = memory->text; parse_line(&text, &line); image = line.inode && same_name(&line, &before), before = line) {
        if (line.start == loader_start) loader = line;
        if (may_hold_pointers(&line) && !is_box(&line) && !is_loaders(&line, &before, &loader) &&
            !is_reserved(line.start, line.end))
            add(memory, &line, &before, image);
    }
    return true;
}

void hr_platform_memory_free(hr_memory *memory) {
    if (memory->mappings) munmap(memory->mappings, memory->capacity);
    if (memory->text) munmap(memory->text, memory->text_size);
    memset(memory, 0, sizeof *memory);
}

/* ---- pages ---- */

#define PRESENT (UINT64_C(3) << 62) /* in memory, or swapped out */
#define CHUNK 8192u                 /* pages whose state is asked for at a time */
#define RUNS 256u

/* The kernel's struct pm_scan_arg and struct page_region, which its headers have from 6.7 on. */
typedef struct hr_run {
    uint64_t start, end, categories;
} hr_run;
typedef struct hr_run_query {
    uint64_t size, flags, start, end, walk_end, runs, run_count, most_pages, inverted, all_of, any_of, returned;
} hr_run_query;
#define RUN_QUERY _IOWR('f', 16, hr_run_query)
#define RUN_PRESENT 8u
#define RUN_SWAPPED 16u

typedef struct hr_pass {
    const hr_memory *memory;
    hr_visit_words visit;
    void *data;
    int pagemap;
    bool down, apart, done;
    volatile bool careful;
    volatile uintptr_t page; /* being looked at */
    uintptr_t chunk, chunk_end; /* the pages, by number, that `holds` tells of */
    uint64_t holds[CHUNK / 64];
    hr_run runs[RUNS];
    uint64_t entries[CHUNK];
    uint64_t copy[PAGE_WORDS];
    sigjmp_buf fault;
} hr_pass;

static hr_pass *faulting; /* of the one child that there is */

static void set_pages(hr_pass *pass, uintptr_t first, uintptr_t end) {
    for (uintptr_t i = first - pass->chunk; i < end - pass->chunk; i++) pass->holds[i / 64] |= UINT64_C(1) << i % 64;
}

/* Runs of pages from a kernel that tells them: a tenth of the time. */
static bool ask_runs(hr_pass *pass) {
    hr_run_query query = {.size = sizeof query, .start = pass->chunk * PAGE, .end = pass->chunk_end * PAGE,
                          .runs = (uintptr_t)pass->runs, .run_count = RUNS, .any_of = RUN_PRESENT | RUN_SWAPPED,
                          .returned = RUN_PRESENT};
    while (query.start < query.end) {
        int count = ioctl(pass->pagemap, RUN_QUERY, &query);
        if (count < 0 || query.walk_end <= query.start) return false;
        for (int i = 0; i < count; i++) set_pages(pass, pass->runs[i].start / PAGE, pass->runs[i].end / PAGE);
        query.start = query.walk_end;
    }
    return true;
}

static bool ask_pages(hr_pass *pass) {
    size_t want = (pass->chunk_end - pass->chunk) * sizeof(uint64_t);
    if (pread(pass->pagemap, pass->entries, want, (off_t)(pass->chunk * sizeof(uint64_t))) != (ssize_t)want) return false;
    for (uintptr_t page = pass->chunk; page < pass->chunk_end; page++)
        if (pass->entries[page - pass->chunk] & PRESENT) set_pages(pass, page, page + 1);
    return true;
}

static void ask_chunk(hr_pass *pass, const hr_mapping *mapping, uintptr_t page) {
    uintptr_t start = mapping->start / PAGE, end = mapping->end / PAGE;
    pass->chunk = start + (page - start) / CHUNK * CHUNK;
    pass->chunk_end = end - pass->chunk < CHUNK ? end : pass->chunk + CHUNK;
    memset(pass->holds, 0, sizeof pass->holds);
    if (pass->pagemap >= 0 && (ask_runs(pass) || ask_pages(pass))) return;
    set_pages(pass, pass->chunk, pass->chunk_end); /* not to be known: all of them are read */
}

/* Untouched pages are left so: reading them would make memory of what is only an address range. */
static bool holds_anything(hr_pass *pass, const hr_mapping *mapping, uintptr_t page) {
    uintptr_t number = page / PAGE;
    if (number < pass->chunk || number >= pass->chunk_end) ask_chunk(pass, mapping, number);
    uintptr_t at = number - pass->chunk;
    return pass->holds[at / 64] >> at % 64 & 1;
}

/* The notes of this scan itself; anonymous memory beside them may have become one mapping with them. */
static bool is_note(const hr_pass *pass, uintptr_t page) {
    const hr_memory *memory = pass->memory;
    return page - (uintptr_t)memory->text < memory->text_size || page - (uintptr_t)memory->mappings < memory->capacity ||
           page - (uintptr_t)pass < sizeof *pass;
}

HR_UNCHECKED static void visit_page(hr_pass *pass, const hr_mapping *mapping, uintptr_t page) {
    if (is_note(pass, page)) return;
    uintptr_t at = page > mapping->from ? page : mapping->from;
    size_t count = (page + PAGE - at) / sizeof(uint64_t);
    hr_words block = {(const uint64_t *)at, count, 0, 0, at};
    if (pass->careful) {
        struct iovec to = {pass->copy, count * sizeof(uint64_t)}, from = {(void *)at, count * sizeof(uint64_t)};
        if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)(count * sizeof(uint64_t))) return; /* gone */
        block.words = pass->copy;
    } else {
        block.before = (at - mapping->from) / sizeof(uint64_t);
        block.after = (mapping->end - page - PAGE) / sizeof(uint64_t);
    }
    pass->visit(pass->data, &block, mapping);
}

static void visit_mapping(hr_pass *pass, const hr_mapping *mapping) {
    uintptr_t first = mapping->from & ~(uintptr_t)(PAGE - 1), last = mapping->end - PAGE;
    pass->careful = !pass->apart;
    pass->chunk_end = 0;
    pass->page = pass->down ? last : first;
    if (pass->apart && sigsetjmp(pass->fault, 1) != 0) pass->careful = true; /* and this page once more */
    for (;;) {
        uintptr_t page = pass->page;
        if (holds_anything(pass, mapping, page)) visit_page(pass, mapping, page);
        if (page == (pass->down ? first : last)) return;
        pass->page = pass->down ? page - PAGE : page + PAGE;
    }
}

static void visit_all(hr_pass *pass) {
    for (uint32_t i = 0; i < pass->memory->count; i++)
        visit_mapping(pass, &pass->memory->mappings[pass->down ? pass->memory->count - 1 - i : i]);
    pass->done = true;
}

static void on_fault(int number) {
    (void)number;
    siglongjmp(faulting->fault, 1);
}

/* In the child: its handlers are its own. All signals are blocked, so that none of the host's handlers runs here. */
static int apart(void *argument) {
    hr_pass *pass = argument;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigset_t faults;
    sigemptyset(&faults);
    sigaddset(&faults, SIGSEGV);
    sigaddset(&faults, SIGBUS);
    sigprocmask(SIG_UNBLOCK, &faults, NULL);
    visit_all(pass);
    _exit(0);
}

static void run_apart(hr_pass *pass, void *stack, size_t stack_size) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    faulting = pass;
    /* No signal at its end, and known to __WALL only: neither a SIGCHLD handler nor wait() of the host sees it. */
    pid_t child = clone(apart, (char *)stack + stack_size, CLONE_VM | CLONE_VFORK | CLONE_UNTRACED, pass);
    while (child > 0 && waitpid(child, NULL, __WALL) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

bool hr_platform_each_page(const hr_memory *memory, bool down, void *stack, size_t stack_size, hr_visit_words visit,
                           void *data) {
    hr_pass *pass = mmap(NULL, sizeof *pass, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pass == MAP_FAILED) return false;
    *pass = (hr_pass){.memory = memory, .visit = visit, .data = data, .down = down, .apart = !SANITIZED};
    pass->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pass->apart) run_apart(pass, stack, stack_size);
    if (!pass->done) { /* no child could be had, or something has killed it */
        pass->apart = false;
        visit_all(pass);
    }
    if (pass->pagemap >= 0) close(pass->pagemap);
    munmap(pass, sizeof *pass);
    return true;
}

/* ---- registers ---- */

static hr_registers records[THREADS] __attribute__((aligned(PAGE))); /* whole pages: hr_platform_owns */
_Static_assert(sizeof records % PAGE == 0, "no other variable may share a page with the records");
static uint32_t round_now;
static int stop_signal;

bool hr_platform_owns(uintptr_t address) {
    return address - (uintptr_t)records < sizeof records;
}

static void put(hr_registers *to, uint64_t word) {
    if (to->count < HR_REGISTER_WORDS) to->words[to->count++] = word;
}

static void copy_registers(hr_registers *to, const ucontext_t *context) {
    to->count = 0;
#if defined(__x86_64__)
    to->stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
    for (int i = 0; i <= REG_RIP; i++) put(to, (uint64_t)context->uc_mcontext.gregs[i]);
    const struct _libc_fpstate *vectors = context->uc_mcontext.fpregs;
    for (int i = 0; vectors && i < 16; i++)
        for (int half = 0; half < 2; half++) {
            uint64_t word;
            memcpy(&word, (const char *)&vectors->_xmm[i] + half * 8, sizeof word);
            put(to, word);
        }
#elif defined(__aarch64__)
    to->stack = (uintptr_t)context->uc_mcontext.sp;
    for (int i = 0; i < 31; i++) put(to, context->uc_mcontext.regs[i]);
    put(to, context->uc_mcontext.pc);
#endif
    if (!(context->uc_stack.ss_flags & SS_DISABLE)) put(to, (uint64_t)(uintptr_t)context->uc_stack.ss_sp);
}

static void on_stop(int number, siginfo_t *info, void *context) {
    (void)number;
    int saved = errno;
    uintptr_t value = (uintptr_t)info->si_value.sival_ptr;
    uint32_t round = (uint32_t)(value >> 32), index = (uint32_t)value;
    bool ours = info->si_code == SI_QUEUE && info->si_pid == getpid() && index < THREADS;
    if (ours && __atomic_compare_exchange_n(&records[index].claim, &round, HR_ANSWERING, false, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED)) { /* partner: ask() */
        copy_registers(&records[index], context);
        __atomic_store_n(&records[index].answered, round, __ATOMIC_RELEASE); /* partner: answered() */
        __atomic_store_n(&records[index].claim, 0, __ATOMIC_RELEASE); /* partner: take_record() */
    }
    errno = saved;
}

/* A real-time signal that is as it was at the start; from above, where fewest programs count from. */
static bool choose_signal(void) {
    struct sigaction now;
    if (stop_signal && sigaction(stop_signal, NULL, &now) == 0 && now.sa_sigaction == on_stop) return true;
    for (int number = SIGRTMAX - 1; number > SIGRTMIN; number--) {
        if (sigaction(number, NULL, &now) != 0 || now.sa_handler != SIG_DFL) continue;
        struct sigaction ours = {.sa_sigaction = on_stop, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
        sigfillset(&ours.sa_mask);
        if (sigaction(number, &ours, NULL) != 0) continue;
        stop_signal = number;
        return true;
    }
    return false;
}

/* Whether the thread would never take our signal. */
static bool blocks_signal(uint32_t thread) {
    char path[64], text[PAGE];
    snprintf(path, sizeof path, "/proc/self/task/%u/status", thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    const char *line = strstr(text, "\nSigBlk:");
    return line && (strtoull(line + 8, NULL, 16) >> (stop_signal - 1) & 1);
}

/* From whoever was asked in an earlier round. False: it answers just now, and does not get on. */
static bool take_record(uint32_t index) {
    uint64_t until = hr_monotonic_ns() + ANSWER_NS;
    uint32_t claim = __atomic_load_n(&records[index].claim, __ATOMIC_ACQUIRE);
    for (;;) {
        if (claim != HR_ANSWERING && __atomic_compare_exchange_n(&records[index].claim, &claim, 0, false,
                                                                 __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
            return true;
        if (hr_monotonic_ns() > until) return false;
        usleep(50);
        claim = __atomic_load_n(&records[index].claim, __ATOMIC_ACQUIRE);
    }
}

static bool ask(uint32_t index, uint32_t thread, uint32_t round) {
    if (!take_record(index)) return false;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = stop_signal;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)((uintptr_t)round << 32 | index);
    records[index].thread = thread;
    records[index].count = 0;
    __atomic_store_n(&records[index].claim, round, __ATOMIC_RELEASE);
    return syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)thread, stop_signal, &info) == 0;
}

static bool answered(uint32_t index, uint32_t round) {
    return __atomic_load_n(&records[index].answered, __ATOMIC_ACQUIRE) == round;
}

/* Asks all; returns how many there are, or UINT32_MAX. */
static uint32_t ask_all(uint32_t round, uint32_t *silent, bool *blocks) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) return UINT32_MAX;
    uint32_t self = hr_platform_thread_id(), count = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) && *silent == 0;) {
        uint32_t thread = (uint32_t)strtoul(entry->d_name, NULL, 10);
        if (thread == 0 || thread == self || hr_platform_thread_is_ours(thread)) continue;
        if (count == THREADS) {
            count = UINT32_MAX;
            break;
        }
        if (blocks_signal(thread)) {
            *silent = thread;
            *blocks = true;
        } else if (ask(count, thread, round)) {
            count++;
        } else if (hr_platform_thread_alive(thread)) {
            *silent = thread;
        }
    }
    closedir(tasks);
    return count;
}

hr_status hr_platform_registers(const hr_registers **list, uint32_t *count, uint32_t *silent, bool *blocks) {
    *silent = 0;
    *blocks = false;
    *list = records;
    if (!choose_signal()) return HR_E_LIMIT;
    uint32_t round = ++round_now;
    if (round == 0 || round == HR_ANSWERING) round = round_now = 1;
    *count = ask_all(round, silent, blocks);
    if (*count == UINT32_MAX) return HR_E_LIMIT;
    uint64_t until = hr_monotonic_ns() + ANSWER_NS;
    for (uint32_t i = 0; i < *count && *silent == 0;) {
        if (answered(i, round)) i++;
        else if (!hr_platform_thread_alive(records[i].thread)) records[i++].count = 0; /* it has ended */
        else if (hr_monotonic_ns() > until) *silent = records[i].thread;
        else usleep(50);
    }
    return HR_OK;
}

void hr_platform_each_handler(void (*visit)(void *data, uintptr_t address, const char *what), void *data) {
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        char what[48];
        if (sigaction(number, NULL, &action) != 0) continue;
        snprintf(what, sizeof what, "the handler of signal %d", number);
        visit(data, (uintptr_t)action.sa_sigaction, what);
    }
}

/* ---- addresses that are never used again ---- */

/* Readable, so that it is not taken for what lies below a stack. */
static bool take(uintptr_t start, uintptr_t end) {
    void *got = mmap((void *)start, end - start, PROT_READ,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == (void *)start) return true;
    if (got != MAP_FAILED) munmap(got, end - start); /* a kernel that knows the address as a hint only */
    return false;
}

/* Whether the first range now reaches to the second. A gap in which no module of the newest one's size would find room is
 * taken as well: it would keep two mappings apart for ever. */
static bool close_gap(const hr_range *first, const hr_range *second, uintptr_t least) {
    if (second->first - first->end >= least) return false;
    return first->end == second->first || take(first->end * PAGE, second->first * PAGE);
}

static void merge_with_next(uint32_t at, uintptr_t least) {
    if (at + 1 >= reserved.count || !close_gap(&reserved.ranges[at], &reserved.ranges[at + 1], least)) return;
    reserved.ranges[at].end = reserved.ranges[at + 1].end;
    reserved.count--;
    memmove(&reserved.ranges[at + 1], &reserved.ranges[at + 2], (reserved.count - at - 1) * sizeof *reserved.ranges);
}

/* Somebody may have been quicker, which is no harm. */
void hr_platform_reserve(uintptr_t start, uintptr_t end) {
    uint32_t at = range_after(start / PAGE);
    if (!take(start, end) || reserved.count == RESERVED) return;
    memmove(&reserved.ranges[at + 1], &reserved.ranges[at], (reserved.count - at) * sizeof *reserved.ranges);
    reserved.ranges[at] = (hr_range){start / PAGE, end / PAGE};
    reserved.count++;
    merge_with_next(at, (end - start) / PAGE);
    if (at > 0) merge_with_next(at - 1, (end - start) / PAGE);
}

void hr_platform_reserved_forget(void) { reserved.count = 0; }

/* ---- what a module costs ---- */

uint64_t hr_platform_resident(uintptr_t start, uintptr_t end) {
    uint64_t entry, pages = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uintptr_t at = start; fd >= 0 && at < end; at += PAGE)
        if (pread(fd, &entry, sizeof entry, (off_t)(at / PAGE * sizeof entry)) == sizeof entry) pages += entry >> 63;
    if (fd >= 0) close(fd);
    return pages * PAGE;
}
