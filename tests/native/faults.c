/* Fault injection: lets each call that the shim makes to the system fail once, at every place where it is made, or from
 * there on, while the host starts, loads (with the guard, or after a trial), commits, rolls back, unloads, or serves a
 * request.
 *
 *     faults DIRECTORY DEED   (one.so and two.so in it are modules of the same slot "a", which return 1 and 2)
 *
 * Linked with --wrap for every function of FAULTS. A fault is a function, a way to fail and the number of the call that
 * fails; each is tried in a process of its own, until a run makes fewer calls. After the fault:
 *
 *   F1  The host runs on: its slot answers with the old module's value, or with the new one's exactly when the shim said
 *       HR_OK.
 *   F2  Whatever failed has a code, a reason and a cure.
 *   F3  The same done again, without the fault, succeeds; only what fails in the process's very first step stays so, for a
 *       half-made start is not begun again (hr_ready), and the slots then run their fallbacks.
 *   F4  No descriptor, allocation or staged file is left that the same run without a fault does not leave, but for the
 *       modules that were opened before the fault and are resident. */
#define _GNU_SOURCE 1
#include <hotreload/hotreload.h>
#include <hotreload/wire.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the faults ---- */

typedef enum test_way { FAIL, LASTING, SHORT, INTERRUPT } test_way; /* LASTING: so does every later call */

typedef struct test_fault {
    const char *function;
    test_way way;
    int error; /* errno, where the way is FAIL or LASTING */
} test_fault;

static const test_fault faults[] = {
    {"malloc", FAIL, ENOMEM},         {"calloc", FAIL, ENOMEM},        {"realloc", FAIL, ENOMEM},
    {"open", FAIL, EMFILE},           {"open", FAIL, EACCES},          {"mmap", FAIL, ENOMEM},
    {"memfd_create", FAIL, EMFILE},   {"ftruncate", FAIL, ENOSPC},     {"fstat", FAIL, EIO},
    {"mkdir", FAIL, ENOSPC},          {"rename", FAIL, ENOSPC},        {"pread", FAIL, EIO},
    {"pread", SHORT, 0},              {"pread", INTERRUPT, 0},         {"pwrite", FAIL, ENOSPC},
    {"pwrite", SHORT, 0},             {"pwrite", INTERRUPT, 0},        {"copy_file_range", FAIL, ENOSPC},
    {"copy_file_range", SHORT, 0},    {"copy_file_range", INTERRUPT, 0}, {"fchmod", FAIL, EPERM},
    {"socket", FAIL, EMFILE},         {"bind", FAIL, EADDRINUSE},      {"listen", FAIL, EADDRINUSE},
    {"chmod", FAIL, EPERM},           {"eventfd", FAIL, EMFILE},       {"pthread_create", FAIL, EAGAIN},
    {"pthread_key_create", FAIL, EAGAIN}, {"dlopen", FAIL, 0},         {"accept4", FAIL, EMFILE},
    {"accept4", INTERRUPT, 0},        {"recv", SHORT, 0},              {"recv", INTERRUPT, 0},
    {"sendmsg", SHORT, 0},            {"sendmsg", INTERRUPT, 0},       {"poll", INTERRUPT, 0},
    {"open", FAIL, ENOSPC},           {"open", INTERRUPT, 0},          {"read", FAIL, EIO},
    {"read", SHORT, 0},               {"read", INTERRUPT, 0},          {"opendir", FAIL, EMFILE},
    {"fork", FAIL, EAGAIN},           {"sigaltstack", FAIL, ENOMEM},
    {"malloc", LASTING, ENOMEM},      {"calloc", LASTING, ENOMEM},     {"mmap", LASTING, ENOMEM},
    {"open", LASTING, EMFILE},        {"pwrite", LASTING, ENOSPC},     {"mkdir", LASTING, ENOSPC},
    {"accept4", LASTING, EMFILE},     {"pthread_create", LASTING, EAGAIN},
};

/* The fault that is armed: in this process, for the threads of the shim and of the host alike. */
static const test_fault *armed;
static bool active;
static uint32_t calls, wanted; /* calls of the function so far; the one that fails */
static uint32_t live_allocations, opened;

/* The armed way, when this call of the function is the one that fails. */
static const test_fault *due(const char *function) {
    if (!__atomic_load_n(&active, __ATOMIC_SEQ_CST) || strcmp(armed->function, function) != 0) return NULL;
    uint32_t number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    return number == wanted || (number > wanted && armed->way == LASTING) ? armed : NULL;
}

static int failed(const test_fault *fault) {
    errno = fault->way == INTERRUPT ? EINTR : fault->error;
    return -1;
}

static void *counted(void *memory) {
    if (memory) __atomic_add_fetch(&live_allocations, 1, __ATOMIC_SEQ_CST);
    return memory;
}

/* What the linker calls instead of a function (--wrap), and the function itself. */
#define WRAPPED(type, name, parameters)                                                                                \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters

WRAPPED(void *, malloc, (size_t size)) { return due("malloc") ? NULL : counted(__real_malloc(size)); }
WRAPPED(void *, calloc, (size_t count, size_t size)) {
    return due("calloc") ? NULL : counted(__real_calloc(count, size));
}
WRAPPED(void *, realloc, (void *memory, size_t size)) {
    if (due("realloc")) return NULL;
    return memory ? __real_realloc(memory, size) : counted(__real_realloc(memory, size));
}
WRAPPED(void, free, (void *memory)) {
    if (memory) __atomic_sub_fetch(&live_allocations, 1, __ATOMIC_SEQ_CST);
    __real_free(memory);
}
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    const test_fault *fault = due("open");
    return fault ? failed(fault) : __real_open(path, flags, mode);
}
WRAPPED(void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset)) {
    const test_fault *fault = due("mmap");
    if (fault) failed(fault);
    return fault ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}
WRAPPED(int, memfd_create, (const char *name, unsigned flags)) {
    const test_fault *fault = due("memfd_create");
    return fault ? failed(fault) : __real_memfd_create(name, flags);
}
WRAPPED(int, ftruncate, (int fd, off_t size)) {
    const test_fault *fault = due("ftruncate");
    return fault ? failed(fault) : __real_ftruncate(fd, size);
}
WRAPPED(int, fstat, (int fd, struct stat *info)) {
    const test_fault *fault = due("fstat");
    return fault ? failed(fault) : __real_fstat(fd, info);
}
WRAPPED(int, mkdir, (const char *path, mode_t mode)) {
    const test_fault *fault = due("mkdir");
    return fault ? failed(fault) : __real_mkdir(path, mode);
}
WRAPPED(int, rename, (const char *from, const char *to)) {
    const test_fault *fault = due("rename");
    return fault ? failed(fault) : __real_rename(from, to);
}
WRAPPED(ssize_t, pread, (int fd, void *to, size_t size, off_t offset)) {
    const test_fault *fault = due("pread");
    if (fault && fault->way != SHORT) return failed(fault);
    return __real_pread(fd, to, fault && size ? 1 : size, offset);
}
WRAPPED(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t offset)) {
    const test_fault *fault = due("pwrite");
    if (fault && fault->way != SHORT) return failed(fault);
    return __real_pwrite(fd, from, fault && size ? 1 : size, offset);
}
WRAPPED(ssize_t, copy_file_range, (int in, off_t *from, int out, off_t *to, size_t size, unsigned flags)) {
    /* Where reading and writing are to fail, the copy has to be one by hand. */
    if (armed && (armed->function[0] == 'p') && strchr("rw", armed->function[1])) {
        errno = EXDEV;
        return -1;
    }
    const test_fault *fault = due("copy_file_range");
    if (fault && fault->way != SHORT) return failed(fault);
    return __real_copy_file_range(in, from, out, to, fault && size ? 1 : size, flags);
}
WRAPPED(int, fchmod, (int fd, mode_t mode)) {
    const test_fault *fault = due("fchmod");
    return fault ? failed(fault) : __real_fchmod(fd, mode);
}
WRAPPED(int, socket, (int family, int type, int protocol)) {
    const test_fault *fault = due("socket");
    return fault ? failed(fault) : __real_socket(family, type, protocol);
}
WRAPPED(int, bind, (int fd, const struct sockaddr *address, socklen_t size)) {
    const test_fault *fault = due("bind");
    return fault ? failed(fault) : __real_bind(fd, address, size);
}
WRAPPED(int, listen, (int fd, int backlog)) {
    const test_fault *fault = due("listen");
    return fault ? failed(fault) : __real_listen(fd, backlog);
}
WRAPPED(int, chmod, (const char *path, mode_t mode)) {
    const test_fault *fault = due("chmod");
    return fault ? failed(fault) : __real_chmod(path, mode);
}
WRAPPED(int, eventfd, (unsigned count, int flags)) {
    const test_fault *fault = due("eventfd");
    return fault ? failed(fault) : __real_eventfd(count, flags);
}
WRAPPED(int, pthread_create, (pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *argument)) {
    const test_fault *fault = due("pthread_create");
    return fault ? fault->error : __real_pthread_create(thread, how, run, argument);
}
WRAPPED(int, pthread_key_create, (pthread_key_t *key, void (*destructor)(void *))) {
    const test_fault *fault = due("pthread_key_create");
    return fault ? fault->error : __real_pthread_key_create(key, destructor);
}
WRAPPED(void *, dlopen, (const char *path, int flags)) {
    if (due("dlopen")) return NULL;
    void *handle = __real_dlopen(path, flags);
    if (handle) opened++;
    return handle;
}
WRAPPED(int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags)) {
    const test_fault *fault = due("accept4");
    return fault ? failed(fault) : __real_accept4(fd, address, size, flags);
}
WRAPPED(ssize_t, recv, (int fd, void *to, size_t size, int flags)) {
    const test_fault *fault = due("recv");
    if (fault && fault->way != SHORT) return failed(fault);
    return __real_recv(fd, to, fault && size ? 1 : size, flags);
}
WRAPPED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags)) {
    const test_fault *fault = due("sendmsg");
    if (fault == NULL) return __real_sendmsg(fd, message, flags);
    if (fault->way != SHORT) return failed(fault);
    struct iovec first = {message->msg_iov->iov_base, 1};
    struct msghdr less = *message;
    less.msg_iov = &first;
    less.msg_iovlen = 1;
    return __real_sendmsg(fd, &less, flags);
}
WRAPPED(ssize_t, read, (int fd, void *to, size_t size)) {
    const test_fault *fault = due("read");
    if (fault && fault->way != SHORT) return failed(fault);
    return __real_read(fd, to, fault && size ? 1 : size);
}
WRAPPED(DIR *, opendir, (const char *path)) {
    const test_fault *fault = due("opendir");
    if (fault) failed(fault);
    return fault ? NULL : __real_opendir(path);
}
WRAPPED(pid_t, fork, (void)) {
    const test_fault *fault = due("fork");
    return fault ? failed(fault) : __real_fork();
}
WRAPPED(int, sigaltstack, (const stack_t *to, stack_t *before)) {
    const test_fault *fault = due("sigaltstack");
    return fault ? failed(fault) : __real_sigaltstack(to, before);
}
WRAPPED(int, poll, (struct pollfd * waits, unsigned long count, int timeout)) {
    const test_fault *fault = due("poll");
    return fault ? failed(fault) : __real_poll(waits, count, timeout);
}

/* ---- the host ---- */

static const char *directory;

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void not_so(const char *what, int line) {
    fprintf(stderr, "faults.c:%d: not so: %s (%s, call %u)\n", line, what, armed ? armed->function : "no fault", wanted);
    _exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : not_so(#condition, __LINE__))

static int32_t fallback(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return 0;
}

static hr_slot slot = HR_SLOT("a", fallback);
static hr_slot other = HR_SLOT("b", fallback);

static int32_t answer(void) { return hr_call(&slot, NULL, NULL, NULL); }

static const char *module(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s.so", directory, name);
    return path;
}

static void told(hr_status status, const hr_failure *failure) { /* F2 */
    CHECK(strcmp(hr_status_code(status), "E-UNKNOWN") != 0);
    if (failure == NULL) return;
    CHECK(failure->status == (int32_t)status && failure->reason[0] && failure->fix[0]);
}

static hr_status load(const char *name) {
    hr_report *report = NULL;
    hr_status status = hr_load(NULL, module(name), &report);
    if (status == HR_OK || status == HR_SAME) CHECK(report != NULL);
    else if (report) told(status, &report->failure); /* without memory there may be no report */
    else CHECK(status == HR_E_MEMORY || status == HR_E_LIMIT);
    hr_report_free(report);
    return status;
}

static hr_status declare(void) {
    hr_status status = slot.index ? HR_OK : hr_declare(NULL, &slot);
    return status != HR_OK || other.index ? status : hr_declare(NULL, &other);
}

static hr_status serve(uint32_t flags) {
    hr_failure failure = {0};
    hr_status status = hr_serve(NULL, "faults", flags, &failure);
    if (status != HR_OK) told(status, &failure);
    return status;
}

/* ---- what is done under a fault: each returns the status, and leaves the answer that it promises ---- */

typedef struct test_deed {
    const char *name;
    void (*before)(void);
    hr_status (*run)(void);
    int32_t old, new;
} test_deed;

static hr_transaction *transaction;
static hr_report *prepared;

static void nothing(void) {}

static void started(void) { CHECK(declare() == HR_OK && serve(0) == HR_OK); }

static void started_polling(void) {
    CHECK(declare() == HR_OK && serve(HR_SERVE_POLL) == HR_OK && load("one") == HR_OK);
}

static void loaded(void) {
    started();
    CHECK(load("one") == HR_OK);
}

static void choose(uint32_t flags) {
    hr_options options = {.flags = flags, .trial_ms = 5000};
    CHECK(hr_set_options(&options) == HR_OK);
}

/* The third is the first once more: what has been rolled back or replaced may come again. */
static void replaced_twice(void) {
    choose(HR_OPTION_UNLOAD);
    started_polling();
    CHECK(load("two") == HR_OK && load("one") == HR_OK);
}

static void loaded_twice(void) {
    loaded();
    CHECK(load("two") == HR_OK);
}

static hr_status prepare_two(void) {
    const char *path = module("two");
    transaction = NULL;
    return hr_prepare(NULL, &path, 1, &prepared, &transaction);
}

static void two_prepared(void) {
    loaded();
    CHECK(prepare_two() == HR_OK);
}

static hr_status run_start(void) {
    hr_status status = declare();
    if (status == HR_OK) status = serve(0);
    if (status == HR_OK || status == HR_E_DUPLICATE) status = load("one"); /* served already: by the run before */
    return status == HR_SAME ? HR_OK : status;
}

static hr_status run_load(void) {
    hr_status status = load("two");
    return status == HR_SAME ? HR_OK : status;
}

static hr_status run_guarded(void) {
    hr_options options = {.flags = HR_OPTION_GUARD | HR_OPTION_SAMPLE};
    hr_status status = hr_set_options(&options);
    if (status != HR_OK) told(status, NULL);
    if (status == HR_OK) status = run_load();
    if (status == HR_OK) answer(); /* this thread's first guarded call */
    return status;
}

/* Nobody but this thread calls slots: a copy of the process opens the module, and calls nothing. */
static hr_status run_tried(void) {
    hr_options options = {.flags = HR_OPTION_TRIAL, .trial_ms = 5000};
    hr_status status = hr_set_options(&options);
    return status == HR_OK ? run_load() : status;
}

/* Without the spare copy that is made ahead when nobody waits. */
static uint32_t staged_modules(void) {
    char path[512];
    uint32_t count = 0;
    snprintf(path, sizeof path, "%s/hotreload/%u", getenv("XDG_STATE_HOME"), (unsigned)getpid());
    DIR *list = __real_opendir(path);
    for (struct dirent *entry; list && (entry = readdir(list));) count += entry->d_name[0] == 'm';
    if (list) closedir(list);
    return count;
}

/* The module that was first goes; what it fails for is looked at again, a moment later. */
static hr_status run_unload(void) {
    for (uint64_t until = now_ms() + 2000; now_ms() < until;) {
        hr_poll(5);
        if (staged_modules() == 2) return HR_OK;
    }
    return HR_E_LIMIT;
}

static hr_status run_commit(void) {
    if (transaction == NULL && prepare_two() != HR_OK) CHECK(false);
    hr_status status = hr_commit(transaction, &prepared);
    if (status != HR_OK) told(status, NULL);
    transaction = NULL;
    hr_report_free(prepared);
    prepared = NULL;
    return status;
}

static hr_status run_rollback(void) {
    hr_report **reports = NULL;
    uint32_t count = 0;
    hr_status status = hr_rollback(NULL, NULL, &reports, &count);
    if (status != HR_OK && count) told(status, &reports[0]->failure);
    hr_reports_free(reports, count);
    return status;
}

static int connect_to_host(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s/hotreload/%u.sock", getenv("XDG_RUNTIME_DIR"),
             (unsigned)getpid());
    int fd = __real_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void send_request(int fd) {
    struct {
        hr_message head;
        uint32_t count, reserved;
        char path[HR_PATH_SIZE];
    } request = {.head = {HR_WIRE_MAGIC, HR_WIRE_VERSION, HR_MSG_LOAD, sizeof request - sizeof(hr_message), 1}, .count = 1};
    snprintf(request.path, sizeof request.path, "%s", module("two"));
    CHECK(send(fd, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request);
}

/* By a connection of its own. What the host drops for want of memory is asked again by a tool that connects anew. */
static hr_status run_request(void) {
    int fd = connect_to_host();
    send_request(fd);
    uint8_t bytes[65536];
    size_t have = 0, want = sizeof(hr_message) + sizeof(hr_reply);
    hr_status status = HR_E_HOST_GONE;
    for (uint64_t until = now_ms() + 3000; have < want && now_ms() < until;) {
        hr_poll(5);
        ssize_t got = __real_recv(fd, bytes + have, sizeof bytes - have, MSG_DONTWAIT);
        if (got == 0) break;
        if (got > 0) have += (size_t)got;
    }
    if (have >= want) {
        hr_reply reply;
        memcpy(&reply, bytes + sizeof(hr_message), sizeof reply);
        status = (hr_status)reply.status;
        if (status != HR_OK) told(status, &reply.failure);
    }
    close(fd);
    for (int rounds = 0; rounds < 3; rounds++) hr_poll(0); /* the host notices that the tool has gone */
    return status;
}

static const test_deed deeds[] = {
    {"start", nothing, run_start, 0, 1},
    {"load", loaded, run_load, 1, 2},
    {"commit", two_prepared, run_commit, 1, 2},
    {"roll back", loaded_twice, run_rollback, 2, 1},
    {"request", started_polling, run_request, 1, 2},
    {"guarded", loaded, run_guarded, 1, 2},
    {"tried", loaded, run_tried, 1, 2},
    {"unload", replaced_twice, run_unload, 1, 1},
};

/* ---- what a run leaves behind ---- */

typedef struct test_rest {
    uint32_t descriptors, allocations, files, opened;
    uint32_t calls; /* of the armed function, under the fault */
    int32_t status; /* of the deed */
} test_rest;

static uint32_t entries_of(const char *path) {
    DIR *list = opendir(path);
    uint32_t count = 0;
    while (list && readdir(list)) count++;
    if (list) closedir(list);
    return count;
}

/* With the spare copy that is made ahead when nobody waits, which is there or is not. */
static uint32_t staged_files(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/hotreload/%u", getenv("XDG_STATE_HOME"), (unsigned)getpid());
    return entries_of(path);
}

static test_rest run_deed(const test_deed *deed) {
    test_rest rest = {0};
    deed->before();
    uint32_t opened_before = opened;
    calls = 0;
    __atomic_store_n(&active, armed != NULL, __ATOMIC_SEQ_CST);
    hr_status status = deed->run();
    __atomic_store_n(&active, false, __ATOMIC_SEQ_CST);
    rest.calls = calls;
    rest.status = status;
    rest.opened = opened - opened_before;
    CHECK(answer() == (status == HR_OK ? deed->new : deed->old) ||
          (status == HR_E_HOST_GONE && answer() == deed->new)); /* F1; an answer may be lost where the deed was done */
    if (status != HR_OK && answer() == deed->old && slot.index) CHECK(deed->run() == HR_OK); /* F3 */
    CHECK(answer() == (slot.index ? deed->new : deed->old));
    hr_stop();
    rest.descriptors = entries_of("/proc/self/fd");
    rest.allocations = live_allocations;
    rest.files = staged_files();
    return rest;
}

/* ---- every fault at every place ---- */

static test_rest in_child(const test_deed *deed, const test_fault *fault, uint32_t number) {
    int ends[2];
    test_rest rest;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(120);
        armed = fault;
        wanted = number;
        rest = run_deed(deed);
        exit(write(ends[1], &rest, sizeof rest) == (ssize_t)sizeof rest ? 0 : 1);
    }
    close(ends[1]);
    bool whole = read(ends[0], &rest, sizeof rest) == (ssize_t)sizeof rest;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (!whole || status != 0) {
        fprintf(stderr, "%s: %s, call %u: the host ended with status 0x%x\n", deed->name, fault ? fault->function : "-",
                number, (unsigned)status);
        exit(1);
    }
    return rest;
}

/* F4. A module that was opened and refused keeps its record, its manifest and its file; the commit's own lists may have
 * grown by a block. */
static void compare(const test_deed *deed, const test_fault *fault, uint32_t number, const test_rest *rest,
                    const test_rest *clean) {
    uint32_t resident = rest->status == HR_OK ? 0 : rest->opened;
    /* A descriptor that cannot be examined may be somebody else's by now, and is not closed. */
    uint32_t unknown = strcmp(fault->function, "fstat") == 0;
    if (rest->descriptors <= clean->descriptors + unknown && rest->allocations <= clean->allocations + 2 * resident + 1 &&
        rest->files <= clean->files + resident + 1)
        return;
    fprintf(stderr,
            "%s: %s, call %u, status %s: %u descriptors, %u allocations, %u files; without it %u, %u, %u (%u resident)\n",
            deed->name, fault->function, number, hr_status_code(rest->status), rest->descriptors, rest->allocations,
            rest->files, clean->descriptors, clean->allocations, clean->files, resident);
    exit(1);
}

static void name_code(char *codes, size_t size, int32_t status) {
    const char *code = hr_status_code(status);
    if (strstr(codes, code) == NULL) snprintf(codes + strlen(codes), size - strlen(codes), " %s", code);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    directory = arguments[1];
    setvbuf(stdout, NULL, _IOLBF, 0); /* nothing unwritten that a child could write again */
    static const char *const ways[] = {"fails", "lasts", "short", "EINTR"};
    uint32_t total = 0;
    for (size_t d = 0; d < sizeof deeds / sizeof *deeds; d++) {
        if (strcmp(deeds[d].name, arguments[2]) != 0) continue;
        test_rest clean = in_child(&deeds[d], NULL, 0);
        CHECK(clean.status == HR_OK);
        uint32_t of_deed = 0;
        for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
            char codes[256] = "";
            uint32_t number = 1, places = 0;
            for (test_rest rest; (rest = in_child(&deeds[d], &faults[f], number)).calls >= number; number++, places++) {
                name_code(codes, sizeof codes, rest.status);
                compare(&deeds[d], &faults[f], number, &rest, &clean);
            }
            if (places == 0) continue;
            printf("%-10s %-18s %s  %-8s %3u places:%s\n", deeds[d].name, faults[f].function, ways[faults[f].way],
                   faults[f].error ? strerrorname_np(faults[f].error) : "", places, codes);
            total += places, of_deed += places;
        }
        if (of_deed == 0) printf("%-10s makes no call that could fail\n", deeds[d].name);
    }
    printf("faults %u\n", total);
    return 0;
}
