/* The platform file for Linux: what no portable call offers. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <ucontext.h>
#include <unistd.h>

static long membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

bool hr_platform_membarrier_register(void) {
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

bool hr_platform_membarrier(void) {
    for (;;) {
        if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return true;
        if (errno != ENOMEM) return false;
        usleep(1000); /* the kernel lacks memory for it, and that passes */
    }
}

uint32_t hr_platform_thread_id(void) { return (uint32_t)syscall(SYS_gettid); }

bool hr_platform_thread_alive(uint32_t thread) {
    return syscall(SYS_tgkill, getpid(), (pid_t)thread, 0) == 0 || errno != ESRCH;
}

#define OWN_THREADS 4u
static uint64_t own_threads[OWN_THREADS]; /* atomic; with the process, for a child has none of them */

static uint64_t own_name(uint32_t thread) { return (uint64_t)getpid() << 32 | thread; }

bool hr_platform_thread_is_ours(uint32_t thread) {
    uint64_t name = own_name(thread);
    for (uint32_t i = 0; i < OWN_THREADS; i++)
        if (__atomic_load_n(&own_threads[i], __ATOMIC_ACQUIRE) == name) return true;
    return false;
}

static void *begin_own(void *argument) {
    void *(*run)(void *) = (void *(*)(void *))(uintptr_t)argument;
    uint64_t self = own_name(hr_platform_thread_id()), none = 0;
    uint32_t place = 0;
    while (place < OWN_THREADS && !__atomic_compare_exchange_n(&own_threads[place], &none, self, false,
                                                               __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        none = 0;
        place++;
    }
    void *result = run(NULL);
    if (place < OWN_THREADS) __atomic_store_n(&own_threads[place], 0, __ATOMIC_RELEASE);
    return result;
}

int hr_platform_thread(pthread_t *thread, void *(*run)(void *)) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, begin_own, (void *)(uintptr_t)run);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void hr_platform_signal(uint32_t thread, int signal) { syscall(SYS_tgkill, getpid(), (pid_t)thread, signal); }

void hr_platform_end_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

bool hr_platform_holds(pthread_mutex_t *mutex) {
#ifdef __GLIBC__
    return (uint32_t)__atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED) == hr_platform_thread_id();
#else
    (void)mutex;
    return false;
#endif
}

void hr_platform_text(uintptr_t base, hr_text *text) {
    const ElfW(Ehdr) *head = (const void *)base;
    const ElfW(Phdr) *segments = (const void *)(base + head->e_phoff);
    for (int i = 0; i < head->e_phnum; i++) {
        if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X)) continue;
        uintptr_t start = base + segments[i].p_vaddr, end = start + segments[i].p_memsz;
        if (text->end == 0 || start < text->start) text->start = start;
        if (end > text->end) text->end = end;
    }
}

size_t hr_platform_read(uintptr_t from, void *to, size_t size) {
    struct iovec local = {to, size}, remote = {(void *)from, size};
    ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    return n > 0 ? (size_t)n : 0;
}

#ifdef __x86_64__

static greg_t *registers(const void *context) {
    return ((ucontext_t *)(uintptr_t)context)->uc_mcontext.gregs;
}

uintptr_t hr_platform_program_counter(const void *context) { return (uintptr_t)registers(context)[REG_RIP]; }

uintptr_t hr_platform_stack_pointer(const void *context) { return (uintptr_t)registers(context)[REG_RSP]; }

bool hr_platform_follows_call(uintptr_t address) {
    const uint8_t *code = (const uint8_t *)address;
    if (code[-5] == 0xE8) return true; /* call relative */
    for (int size = 2; size <= 7; size++) /* call through a register or memory: FF /2 */
        if (code[-size] == 0xFF && (code[1 - size] & 0x38) == 0x10) return true;
    return false;
}

bool hr_platform_guards(void) { return true; }

/* All that a function has to preserve goes to the return point: less work than setjmp does, and a patch that writes over
 * the end of its stack frame spoils none of it. There is no unwind table, on purpose: an exception that a patch throws
 * through its C interface ends here, in abort(), which the guard catches. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl hr_platform_call\n"
        ".hidden hr_platform_call\n"
        ".type hr_platform_call, @function\n"
        "hr_platform_call:\n"
        "    movq (%rsp), %rax\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rax, 8(%rdi)\n"
        "    movq %rbx, 16(%rdi)\n"
        "    movq %rbp, 24(%rdi)\n"
        "    movq %r12, 32(%rdi)\n"
        "    movq %r13, 40(%rdi)\n"
        "    movq %r14, 48(%rdi)\n"
        "    movq %r15, 56(%rdi)\n"
        "    stmxcsr 64(%rdi)\n"
        "    fnstcw 68(%rdi)\n"
        "    movq %rsi, %rax\n"
        "    movq %rdx, %rdi\n"
        "    movq %rcx, %rsi\n"
        "    movq %r8, %rdx\n"
        "    subq $8, %rsp\n"
        "    call *%rax\n"
        "    addq $8, %rsp\n"
        "    ret\n"
        ".globl hr_platform_land\n"
        ".hidden hr_platform_land\n"
        "hr_platform_land:\n"
        "    ldmxcsr 64(%rdi)\n"
        "    fldcw 68(%rdi)\n"
        "    movq 8(%rdi), %rcx\n"
        "    movq %rcx, (%rsp)\n"
        "    movq 16(%rdi), %rbx\n"
        "    movq 24(%rdi), %rbp\n"
        "    movq 32(%rdi), %r12\n"
        "    movq 40(%rdi), %r13\n"
        "    movq 48(%rdi), %r14\n"
        "    movq 56(%rdi), %r15\n"
        "    ret\n"
        ".size hr_platform_call, . - hr_platform_call\n");

_Static_assert(offsetof(hr_return_point, preserved) == 16 && offsetof(hr_return_point, float_control) == 64 &&
                   offsetof(hr_return_point, x87_control) == 68,
               "the assembly above writes it");

void hr_platform_land(void);

void hr_platform_return(void *context, const hr_return_point *point, int32_t result) {
    static const greg_t trap = 0x100, direction = 0x400, alignment = 0x40000;
    greg_t *to = registers(context);
    to[REG_RSP] = (greg_t)point->stack;
    to[REG_RDI] = (greg_t)(uintptr_t)point;
    to[REG_RAX] = result;
    to[REG_RIP] = (greg_t)(uintptr_t)hr_platform_land;
    to[REG_EFL] &= ~(trap | direction | alignment);
}

#else

uintptr_t hr_platform_program_counter(const void *context) { return context ? 0 : 0; }

uintptr_t hr_platform_stack_pointer(const void *context) { return context ? 0 : 0; }

bool hr_platform_follows_call(uintptr_t address) { return address != 0; }

bool hr_platform_guards(void) { return false; }

int32_t hr_platform_call(hr_return_point *point, hr_patch_fn function, void *state, const void *input, void *output) {
    (void)point;
    return function(state, input, output);
}

void hr_platform_return(void *context, const hr_return_point *point, int32_t result) {
    (void)context, (void)point, (void)result;
}

#endif

bool hr_platform_file_fits(uint64_t size) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

int hr_platform_shared_memory(uint64_t size) {
    if (!hr_platform_file_fits(size)) return -1; /* it binds files in memory as well */
    int fd = memfd_create("hotreload", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) fd = memfd_create("hotreload", MFD_CLOEXEC);
    if (fd < 0) return -1;
    if (ftruncate(fd, (off_t)size) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool hr_platform_in_memory(const char *directory) {
    struct statfs info;
    return statfs(directory, &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

uint64_t hr_platform_start_ticks(uint32_t pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    if (at == NULL || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') return 0;
    at += 2; /* the third field; the 22nd is wanted */
    for (int field = 3; field < 22 && at; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

void hr_platform_seal(int fd) {
    /* After our own writable mapping exists: whoever receives the descriptor can neither resize nor write the block. */
#ifdef F_SEAL_FUTURE_WRITE
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0) return;
#endif
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

int hr_platform_no_writer(int fd) {
    /* A lease that a writer breaks in the microsecond that it is held sends SIGIO, which kills a process by default.
     * SIGURG is ignored by default: no disposition of the host has to change. */
    fcntl(fd, F_SETSIG, SIGURG);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0) return errno == EAGAIN ? 0 : -1;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 1;
}

static hr_status copy_by_hand(int from, int to, uint64_t size, uint64_t done) {
    static const size_t block = 256 * 1024;
    char *buffer = mmap(NULL, block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) return HR_E_MEMORY;
    hr_status status = HR_OK;
    while (status == HR_OK && done < size) {
        size_t want = size - done < block ? (size_t)(size - done) : block;
        ssize_t got = pread(from, buffer, want, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            if (got == 0) errno = ENODATA;
            status = HR_E_IO;
            break;
        }
        for (ssize_t put = 0; put < got;) {
            ssize_t n = pwrite(to, buffer + put, (size_t)(got - put), (off_t)done + put);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                status = HR_E_IO;
                break;
            }
            put += n;
        }
        done += (uint64_t)got;
    }
    int saved = errno;
    munmap(buffer, block);
    errno = saved;
    return status;
}

hr_status hr_platform_copy(int from, int to, uint64_t size) {
    if (ioctl(to, FICLONE, from) == 0) return HR_OK;
    uint64_t done = 0;
    while (done < size) {
        off_t in = (off_t)done, out = (off_t)done;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(size - done), 0);
        if (n <= 0) break; /* other file systems, old kernels, sandboxes: by hand */
        done += (uint64_t)n;
    }
    return done == size ? HR_OK : copy_by_hand(from, to, size, done);
}

bool hr_platform_peer_is_user(int socket_fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}
