/* Scenarios of the shim's core, each a regression: core_host SCENARIO DIRECTORY. Exit status 0: it held.
 *
 * The directory holds the modules that test_core.py builds: m1.so, m2.so, m3.so (slot "a"), n1.so (also slot "a", by
 * another name) and u1.so (slot "late.one"). A scenario that hangs is ended by an alarm. */
#define _GNU_SOURCE 1
#include <hotreload/hotreload.h>
#include <hotreload/wire.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core_shared.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                        \
        _exit(1);                                                                                                      \
    } while (0)

static const char *directory;
static core_context context;
static int32_t gate, inside; /* of blocking() */

static int32_t fallback(void *state, const void *input, void *output) {
    (void)state;
    (void)input;
    (void)output;
    return 0;
}

static int32_t blocking(void *state, const void *input, void *output) {
    (void)state;
    (void)input;
    (void)output;
    __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&gate, __ATOMIC_SEQ_CST)) usleep(200);
    __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static hr_slot slot_a = HR_SLOT("a", fallback);
static hr_slot slot_block = HR_SLOT("block", blocking);

static int32_t get(const int32_t *value) { return __atomic_load_n(value, __ATOMIC_SEQ_CST); }
static void set(int32_t *value, int32_t to) { __atomic_store_n(value, to, __ATOMIC_SEQ_CST); }

/* Waits for what another thread does; the alarm ends it when that never happens. */
static void await(const int32_t *value, int32_t wanted) {
    while (get(value) != wanted) usleep(200);
}

static const char *module(const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s.so", directory, name);
    return path;
}

static hr_status load(const char *name) { return hr_load(NULL, module(name), NULL); }

static void start(const char *host, uint32_t flags) {
    CHECK(hr_declare(NULL, &slot_a) == HR_OK);
    CHECK(hr_declare(NULL, &slot_block) == HR_OK);
    hr_set_context(NULL, &context);
    if (host) CHECK(hr_serve(NULL, host, flags, NULL) == HR_OK);
}

static pthread_t thread(void *(*run)(void *), void *argument) {
    pthread_t made;
    CHECK(pthread_create(&made, NULL, run, argument) == 0);
    return made;
}

/* ---- on_unload is never forgotten ---- */

static void freed_runtime(void) {
    hr_runtime *runtime;
    start("host", 0);
    CHECK(hr_runtime_new(&runtime) == HR_OK);
    hr_set_context(runtime, &context);
    CHECK(hr_load(runtime, module("m1"), NULL) == HR_OK);
    usleep(50000); /* the control thread is asleep, and nothing else will wake it */
    hr_runtime_free(runtime);
    await(&context.unloads[1], 1);
}

static void *call_blocking(void *unused) {
    (void)unused;
    hr_call(&slot_block, NULL, NULL, NULL);
    return NULL;
}

/* A call keeps the grace period from ending until nobody serves any more; then a safe point is there for it. */
static void stopped_while_waiting(void) {
    start("host", 0);
    pthread_t caller = thread(call_blocking, NULL);
    await(&inside, 1);
    CHECK(load("m1") == HR_OK && load("m2") == HR_OK);
    hr_stop();
    CHECK(get(&context.unloads[1]) == 0);
    set(&gate, 1);
    pthread_join(caller, NULL);
    hr_safepoint();
    CHECK(get(&context.unloads[1]) == 1);
}

/* ---- roll back ---- */

static void *roll_back(void *status) {
    *(hr_status *)status = hr_rollback(NULL, NULL, NULL, NULL);
    return NULL;
}

/* Two at once bring the same module back: its on_load runs once. */
static void two_roll_backs(void) {
    start("host", 0);
    CHECK(load("m1") == HR_OK && load("m2") == HR_OK);
    await(&context.unloads[1], 1);
    set(&context.hold_load, 1);
    hr_status one = HR_E_IO, two = HR_E_IO;
    pthread_t first = thread(roll_back, &one), second = thread(roll_back, &two);
    await(&context.holding, 1);
    usleep(20000); /* room for a second on_load */
    CHECK(get(&context.holding) == 1);
    set(&context.hold_load, 0);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    CHECK(get(&context.loads[1]) == 2); /* when it was loaded, and when it came back */
}

/* A swap that comes while on_load of the old module runs is not what the user wanted taken back. */
static void swap_during_roll_back(void) {
    start("host", 0);
    CHECK(load("m1") == HR_OK && load("m2") == HR_OK);
    await(&context.unloads[1], 1);
    set(&context.hold_load, 1);
    hr_status status = HR_E_IO;
    pthread_t other = thread(roll_back, &status);
    await(&context.holding, 1);
    CHECK(load("m3") == HR_OK);
    set(&context.hold_load, 0);
    pthread_join(other, NULL);
    CHECK(status == HR_E_ABORTED);
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 3);
    await(&context.unloads[1], 2); /* each on_load has its on_unload */
    CHECK(load("m2") == HR_OK);    /* nothing was quarantined */
}

/* ---- transactions ---- */

/* Two modules for one slot: that can be known before any code of them runs. */
static void overlap(void) {
    hr_report *reports[2];
    hr_transaction *transaction;
    const char *paths[2] = {module("m1"), module("n1")};
    start(NULL, 0);
    CHECK(hr_prepare(NULL, paths, 2, reports, &transaction) == HR_E_MANIFEST);
    CHECK(get(&context.loads[1]) == 0);
    CHECK(reports[0]->status == HR_E_ABORTED && reports[1]->status == HR_E_MANIFEST);
    hr_report_free(reports[0]);
    hr_report_free(reports[1]);
}

static void quarantined_meanwhile(void) {
    hr_report *report;
    hr_transaction *transaction;
    const char *path = module("m1");
    start(NULL, 0);
    CHECK(hr_prepare(NULL, &path, 1, &report, &transaction) == HR_OK);
    CHECK(load("m1") == HR_OK);
    CHECK(hr_rollback(NULL, NULL, NULL, NULL) == HR_OK);
    CHECK(hr_commit(transaction, &report) == HR_E_QUARANTINED);
    CHECK(report->status == HR_E_QUARANTINED);
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 0);
    hr_report_free(report);
}

/* What is promised to a prepared transaction is not given to a host's declaration. */
static void reserved_slots(void) {
    hr_report *report;
    hr_transaction *transaction;
    const char *path = module("u1");
    hr_slot late = HR_SLOT("late", fallback);
    CHECK(hr_configure(3) == HR_OK);
    start(NULL, 0);
    CHECK(hr_prepare(NULL, &path, 1, &report, &transaction) == HR_OK);
    CHECK(hr_declare(NULL, &late) == HR_E_LIMIT);
    CHECK(hr_commit(transaction, &report) == HR_OK);
    CHECK(hr_declare(NULL, &late) == HR_E_LIMIT);
    hr_report_free(report);
}

/* What a transaction found out when it was prepared is no longer so at its commit. */
static void declared_meanwhile(void) {
    hr_report *report;
    hr_transaction *transaction;
    const char *path = module("u1");
    hr_slot late = HR_SLOT("late.one", fallback);
    start(NULL, 0);
    CHECK(hr_prepare(NULL, &path, 1, &report, &transaction) == HR_OK);
    CHECK(report->change_count == 0);
    CHECK(hr_declare(NULL, &late) == HR_OK);
    CHECK(hr_call(&late, NULL, NULL, NULL) == 0);
    CHECK(hr_commit(transaction, &report) == HR_OK);
    CHECK(hr_call(&late, NULL, NULL, NULL) == 1);
    CHECK(report->change_count == 1 && report->changes[0].kind == HR_CHANGE_SWAPPED);
    CHECK(strcmp(report->changes[0].symbol, "late.one") == 0 && report->changes[0].slot == late.index);
    hr_report_free(report);
}

/* The host's own threads wait for no safe point of theirs. */
static void abort_by_the_host(void) {
    hr_report *report;
    hr_transaction *transaction;
    const char *path = module("m1");
    start("host", HR_SERVE_SAFE_POINT);
    CHECK(hr_prepare(NULL, &path, 1, &report, &transaction) == HR_OK);
    hr_abort(transaction); /* the host's own thread: at once */
    CHECK(get(&context.unloads[1]) == 1);
    hr_report_free(report);
}

/* ---- serving ---- */

static void *poll_for_ever(void *unused) {
    (void)unused;
    hr_poll(-1);
    return NULL;
}

static void stop_while_polling(void) {
    start("host", HR_SERVE_POLL);
    for (int i = 0; i < 20; i++) {
        pthread_t poller = thread(poll_for_ever, NULL);
        usleep(2000);
        hr_stop();
        pthread_join(poller, NULL);
        CHECK(hr_serve(NULL, "host", HR_SERVE_POLL, NULL) == HR_OK);
    }
    hr_stop();
}

static int connect_to_self(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.60s/hotreload/%d.sock", getenv("XDG_RUNTIME_DIR"),
             (int)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* No descriptor may be opened beyond `spare` more. */
static void limit_descriptors(unsigned spare) {
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(next >= 0);
    close(next);
    struct rlimit limit = {(rlim_t)next + spare, (rlim_t)next + spare};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void no_descriptor_to_serve(void) {
    hr_failure failure;
    start(NULL, 0);
    for (unsigned spare = 0; spare < 2; spare++) {
        struct rlimit before;
        CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
        int next = dup(0);
        CHECK(next >= 0);
        close(next);
        struct rlimit limit = {(rlim_t)next + spare, before.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(hr_serve(NULL, "host", 0, &failure) == HR_E_IO && failure.reason[0]);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    }
    CHECK(hr_serve(NULL, "host", 0, &failure) == HR_OK);
    hr_stop();
}

static double processor_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A connection that cannot be accepted for want of a descriptor costs no processor while it waits. */
static void no_descriptor_to_accept(void) {
    start("host", 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.60s/hotreload/%d.sock", getenv("XDG_RUNTIME_DIR"),
             (int)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    limit_descriptors(0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    double before = processor_seconds();
    usleep(500000);
    CHECK(processor_seconds() - before < 0.25);
    close(open("/dev/null", O_RDONLY)); /* the limit stands; the host is alive all the same */
    hr_stop();
}

static bool exchange(int fd, uint16_t kind, const void *body, uint32_t length, hr_reply *reply) {
    hr_message head = {HR_WIRE_MAGIC, HR_WIRE_VERSION, kind, length, 1};
    if (send(fd, &head, sizeof head, MSG_NOSIGNAL) != (ssize_t)sizeof head) return false;
    if (length && send(fd, body, length, MSG_NOSIGNAL) != (ssize_t)length) return false;
    if (recv(fd, &head, sizeof head, MSG_WAITALL) != (ssize_t)sizeof head) return false;
    if (recv(fd, reply, sizeof *reply, MSG_WAITALL) != (ssize_t)sizeof *reply) return false;
    char rest[4096];
    for (size_t left = head.length - sizeof *reply; left;) {
        ssize_t n = recv(fd, rest, left < sizeof rest ? left : sizeof rest, 0);
        if (n <= 0) return false;
        left -= (size_t)n;
    }
    return true;
}

static void *client(void *unused) {
    (void)unused;
    hr_reply reply;
    struct {
        uint32_t count, reserved; /* hr_paths, of one path */
        char path[HR_PATH_SIZE];
    } body = {.count = 1};
    snprintf(body.path, sizeof body.path, "%s/m1.so", directory);
    int fd = connect_to_self();
    for (int i = 0; i < 30; i++) {
        CHECK(exchange(fd, HR_MSG_PREPARE, &body, sizeof body, &reply));
        CHECK(exchange(fd, HR_MSG_ABORT, NULL, 0, &reply));
    }
    close(fd);
    return NULL;
}

/* A tool at work while the host's own threads load, retire, stop and serve: for ThreadSanitizer. */
static void host_and_tool_at_once(void) {
    start("host", 0);
    for (int round = 0; round < 3; round++) {
        pthread_t other = thread(client, NULL);
        for (int i = 0; i < 10; i++) {
            hr_runtime *runtime;
            CHECK(hr_runtime_new(&runtime) == HR_OK);
            hr_set_context(runtime, &context);
            CHECK(hr_load(runtime, module("m2"), NULL) == HR_OK);
            CHECK(hr_load(runtime, module("m3"), NULL) == HR_OK);
            hr_runtime_free(runtime);
            hr_safepoint();
        }
        pthread_join(other, NULL);
        hr_stop();
        CHECK(hr_serve(NULL, "host", 0, NULL) == HR_OK);
    }
    hr_stop();
    for (int v = 1; v <= 3; v++)
        while (get(&context.unloads[v]) != get(&context.loads[v])) hr_safepoint();
    CHECK(get(&context.unloads[1]) == 90);
}

/* ---- fork ---- */

static int reaped(pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return status;
}

static int32_t stop_calling;

static void *call_many(void *made) {
    uint64_t calls = 0;
    for (; !get(&stop_calling); calls++) hr_call(&slot_a, NULL, NULL, NULL);
    *(uint64_t *)made = calls;
    return NULL;
}

static hr_box_reader *own_box(void) {
    hr_box_reader *reader;
    struct { hr_message head; hr_welcome body; } answer;
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } extra;
    struct iovec part = {&answer, sizeof answer};
    struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    hr_message hello = {HR_WIRE_MAGIC, HR_WIRE_VERSION, HR_MSG_HELLO, sizeof(hr_hello), 1};
    hr_hello who = {"core_host"};
    int box, fd = connect_to_self();
    CHECK(send(fd, &hello, sizeof hello, 0) == (ssize_t)sizeof hello);
    CHECK(send(fd, &who, sizeof who, 0) == (ssize_t)sizeof who);
    CHECK(recvmsg(fd, &envelope, 0) == (ssize_t)sizeof answer && CMSG_FIRSTHDR(&envelope));
    memcpy(&box, CMSG_DATA(CMSG_FIRSTHDR(&envelope)), sizeof box);
    CHECK(hr_box_open(box, &reader, NULL) == HR_OK);
    close(box);
    close(fd);
    return reader;
}

/* Records are given out again in turn, but never that of a module that is live. */
static void more_modules_than_records(void) {
    static hr_box_module records[HR_BOX_MODULES];
    start("host", 0);
    CHECK(load("n1") == HR_OK && load("u1") == HR_OK); /* u1 stays live all the time */
    for (int i = 0; i < HR_BOX_MODULES + 10; i++) CHECK(load(i % 2 ? "m2" : "m1") == HR_OK);
    hr_box_reader *reader = own_box();
    CHECK(hr_box_modules(reader, records, HR_BOX_MODULES) == HR_BOX_MODULES);
    uint64_t newest = 0;
    int live = 0;
    for (int i = 0; i < HR_BOX_MODULES; i++) {
        if (records[i].generation > newest) newest = records[i].generation;
        if (records[i].state != HR_MODULE_LIVE) continue;
        live++;
        CHECK(strcmp(records[i].name, "u") == 0 || records[i].generation == hr_generation(NULL));
    }
    CHECK(live == 2 && newest == hr_generation(NULL));
    hr_box_close(reader);
}

static uint64_t total_of(const hr_slot *slot) {
    hr_box_reader *reader = own_box();
    uint64_t calls[16];
    CHECK(slot->index < 16 && hr_box_calls(reader, calls, NULL, 16) == 16);
    hr_box_close(reader);
    return calls[slot->index];
}

/* ---- the first call of a version ---- */

/* What the box says of slot_a: the newest version that was called, and when it first was. */
static uint64_t first_version(hr_box_reader *reader, uint64_t *when) {
    hr_box_slot slots[8];
    CHECK(slot_a.index < 8 && hr_box_slots(reader, slots, 8) > slot_a.index);
    *when = slots[slot_a.index].first_called;
    return slots[slot_a.index].first_version;
}

/* Waits for the event that tells slot_a's first call on a version; returns how many told one so far. */
static uint32_t first_call_events(hr_box_reader *reader, uint64_t version, uint64_t when) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "a\t%llu\t%llu\n", (unsigned long long)version, (unsigned long long)when);
    for (;; usleep(200)) {
        static hr_event events[32];
        uint32_t count = hr_box_events(reader, 0, events, 32), told = 0;
        bool found = false;
        for (uint32_t i = 0; i < count; i++) {
            if (events[i].kind != HR_EVENT_FIRST_CALL) continue;
            told++;
            found |= strcmp(events[i].changes, wanted) == 0;
        }
        if (found) return told;
    }
}

/* Told once for each version, by an event and in the slot's record, and by nobody who is still on an older version. */
static void first_calls(void) {
    start("host", 0);
    hr_box_reader *reader = own_box();
    uint64_t when = 0, again = 0;
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 0 && first_version(reader, &when) == 0 && when == 0);
    CHECK(load("m1") == HR_OK && first_version(reader, &when) == 0);
    hr_frame frame = hr_frame_begin();
    CHECK(load("m2") == HR_OK);
    CHECK(hr_frame_call(&frame, &slot_a, NULL, NULL, NULL) == 1 && first_version(reader, &when) == 1 && when != 0);
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 2 && first_version(reader, &when) == 2);
    hr_frame_end(&frame);
    CHECK(first_call_events(reader, 2, when) >= 1);
    for (int i = 0; i < 3; i++) CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 2);
    CHECK(first_version(reader, &again) == 2 && again == when);
    CHECK(hr_rollback(NULL, NULL, NULL, NULL) == HR_OK && hr_call(&slot_a, NULL, NULL, NULL) == 1);
    CHECK(first_version(reader, &when) == 3 && when > again);
    CHECK(first_call_events(reader, 3, when) <= 3);
    CHECK(total_of(&slot_a) == 7);
    hr_box_close(reader);
}

/* A tool's options: what it does not name stays, what this shim does not know is refused. */
static void options(void) {
    start("host", 0);
    hr_reply reply;
    hr_options got, set_by_host = {.flags = HR_OPTION_GUARD, .probation_calls = 7, .budget_bytes = 5};
    CHECK(hr_set_options(&set_by_host) == HR_OK);
    hr_get_options(&got);
    CHECK(got.flags == HR_OPTION_GUARD && got.probation_calls == 7 && got.hang_ms == 2000 && got.budget_bytes == 5);
    hr_options_request asked = {.named = 0, .options = {.hang_ms = 9}};
    int fd = connect_to_self();
    CHECK(exchange(fd, HR_MSG_OPTIONS, &asked, sizeof asked, &reply) && reply.status == HR_OK);
    hr_get_options(&got);
    CHECK(got.flags == HR_OPTION_GUARD && got.hang_ms == 2000);
    asked.named = HR_OPTION_GUARD;
    CHECK(exchange(fd, HR_MSG_OPTIONS, &asked, sizeof asked, &reply) && reply.status == HR_OK);
    hr_get_options(&got);
    CHECK(got.flags == 0 && got.hang_ms == 9 && got.probation_calls == 100000 && got.budget_bytes == 5);
    asked.named = 1u << 31;
    CHECK(exchange(fd, HR_MSG_OPTIONS, &asked, sizeof asked, &reply) && reply.status == HR_E_USAGE);
    CHECK(exchange(fd, HR_MSG_OPTIONS, &asked, 4, &reply) && reply.status == HR_E_PROTOCOL);
    CHECK(hr_set_options(&(hr_options){.flags = 1u << 31}) == HR_E_USAGE);
    close(fd);
}

/* A child whose threads are calling when it begins to be served loses no call and no record. */
static void served_child_with_threads(void) {
    start(NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        uint64_t made[3] = {0};
        pthread_t callers[3];
        for (int i = 0; i < 3; i++) callers[i] = thread(call_many, &made[i]);
        usleep(20000);
        CHECK(hr_serve(NULL, "child", 0, NULL) == HR_OK);
        usleep(5000);
        set(&stop_calling, 1);
        for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
        CHECK(total_of(&slot_a) == made[0] + made[1] + made[2]);
        exit(0);
    }
    CHECK(reaped(child) == 0);
}

/* A daemon closes every descriptor that it does not know; what it opens then is not the black box. */
static void descriptors_closed(void) {
    start(NULL, 0);
    hr_call(&slot_a, NULL, NULL, NULL);
    for (int fd = 3; fd < 64; fd++) close(fd);
    int other[8];
    for (int i = 0; i < 8; i++) other[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 8; i++) CHECK(fcntl(other[i], F_GETFD) >= 0);
        _exit(0);
    }
    CHECK(reaped(child) == 0);
    CHECK(hr_serve(NULL, "daemon", 0, NULL) == HR_OK);
    hr_call(&slot_a, NULL, NULL, NULL);
    CHECK(total_of(&slot_a) == 2);
    hr_stop();
    for (int i = 0; i < 8; i++) CHECK(fcntl(other[i], F_GETFD) >= 0);
}

/* The parent's control thread is inside an on_unload that will never end in the child. */
static void fork_during_on_unload(void) {
    start("host", 0);
    set(&context.hold_unload, 1);
    CHECK(load("m1") == HR_OK && load("m2") == HR_OK);
    await(&context.holding, 1);
    pid_t child = fork();
    if (child == 0) {
        set(&context.hold_unload, 0);
        CHECK(hr_rollback(NULL, NULL, NULL, NULL) == HR_OK);
        CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 1);
        _exit(0);
    }
    CHECK(reaped(child) == 0);
    set(&context.hold_unload, 0);
}

/* A hook forks in our thread, which is then all that the child has: the child ends, and answers nobody. Not under
 * ThreadSanitizer, which crashes at the end of every child that another thread than the first forked, once somebody has
 * called atexit: ten lines without us show it. */
static void fork_in_hook(void) {
    hr_reply reply;
    char body[sizeof(hr_paths) + HR_PATH_SIZE] = {1}; /* one path */
    start("host", 0);
    set(&context.fork_in_load, 1);
    snprintf(body + sizeof(hr_paths), HR_PATH_SIZE, "%s/m1.so", directory);
    int fd = connect_to_self();
    CHECK(exchange(fd, HR_MSG_LOAD, body, sizeof body, &reply) && reply.status == HR_OK);
    CHECK(reaped(get(&context.child)) == 0);
    CHECK(exchange(fd, HR_MSG_LOAD, body, sizeof body, &reply) && reply.status == HR_OK);
    close(fd);
}

/* ---- limits of the process ---- */

/* Writing beyond the limit would raise SIGXFSZ, whose default is death. */
static void file_size_limit(void) {
    hr_failure failure;
    struct rlimit limit = {4096, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    start(NULL, 0);
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 0);
    CHECK(load("m1") == HR_E_IO);
    CHECK(hr_serve(NULL, "host", 0, &failure) == HR_E_IO && strstr(failure.fix, "ulimit"));
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(load("m1") == HR_OK && hr_call(&slot_a, NULL, NULL, NULL) == 1);
    CHECK(hr_serve(NULL, "host", 0, &failure) == HR_OK); /* this thread alone has called: the block may move */
    CHECK(total_of(&slot_a) == 2);
}

/* A sandbox that comes after the start takes membarrier away: then nothing may be reclaimed any more. */
static void barrier_taken_away(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    start("host", 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
    if (hr_thread_attach() == NULL) exit(77); /* this system had no membarrier in the first place */
    CHECK(load("m1") == HR_OK && load("m2") == HR_OK);
    usleep(100000);
    CHECK(get(&context.unloads[1]) == 0); /* nobody can tell any more whether its last caller has left */
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 2);
}

/* ---- trial runs ---- */

static void try_out(uint32_t milliseconds) {
    CHECK(hr_set_options(&(hr_options){.flags = HR_OPTION_TRIAL, .trial_ms = milliseconds}) == HR_OK);
    hr_call(&slot_a, NULL, NULL, NULL); /* this thread is one that may call */
}

static void await_trial_of(const hr_slot *slot) {
    for (;; usleep(200)) {
        hr_frame frame = hr_frame_begin();
        uint64_t flags = __atomic_load_n(&frame.table->entries[slot->index].flags, __ATOMIC_RELAXED);
        hr_frame_end(&frame);
        if (flags & HR_ENTRY_TRIAL) return;
    }
}

typedef struct loading {
    const char *path;
    hr_report *report;
} loading;

static void *load_path(void *argument) {
    loading *one = argument;
    hr_load(NULL, one->path, &one->report);
    return NULL;
}

static void *call_slot(void *slot) {
    hr_call(slot, NULL, NULL, NULL);
    return NULL;
}

static pid_t napping; /* this process, not its copies */

static void take_a_nap(void) {
    if (getpid() == napping) usleep(300000);
}

/* The copies may have ended before the thread that made them runs again: they are listened to nevertheless. */
static void trial_of_a_slow_fork(void) {
    start("host", 0);
    try_out(10000);
    napping = getpid();
    pthread_atfork(NULL, take_a_nap, NULL);
    loading one = {.path = module("m1")};
    pthread_t loader = thread(load_path, &one);
    await_trial_of(&slot_a);
    CHECK(hr_call(&slot_a, NULL, NULL, NULL) == 0);
    pthread_join(loader, NULL);
    CHECK(one.report->status == HR_E_TRIAL); /* it returns 1 */
}

static int32_t late(void *state, const void *input, void *output) {
    (void)state, (void)output;
    if (!input) return 0;
    blocking(NULL, NULL, NULL);
    return 9;
}

static void *call_late(void *unused) {
    (void)unused;
    hr_call(&slot_a, NULL, &slot_a, NULL);
    return NULL;
}

static int32_t second_gate;

static int32_t never(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    while (!get(&second_gate)) usleep(200);
    return 0;
}

/* A call that was tried and returns when its trial is over says nothing about the next trial. */
static void trial_with_a_late_answer(void) {
    static hr_slot other = HR_SLOT("late.one", never);
    slot_a.fallback = late;
    start("host", 0);
    CHECK(hr_declare(NULL, &other) == HR_OK);
    try_out(1000);
    loading first = {.path = module("m1")}, second = {.path = module("u1")};
    pthread_t loader = thread(load_path, &first);
    await_trial_of(&slot_a);
    pthread_t caller = thread(call_late, NULL);
    pthread_join(loader, NULL);
    CHECK(first.report->status == HR_OK && get(&inside) == 1);
    loader = thread(load_path, &second);
    await_trial_of(&other);
    pthread_t other_caller = thread(call_slot, &other);
    for (const hr_slot *slot = &other; slot; usleep(200)) { /* until it has been tried */
        hr_frame frame = hr_frame_begin();
        if (!(frame.table->entries[slot->index].flags & HR_ENTRY_TRIAL)) slot = NULL;
        hr_frame_end(&frame);
    }
    set(&gate, 1);
    pthread_join(caller, NULL);
    pthread_join(loader, NULL);
    CHECK(second.report->status == HR_OK);
    set(&second_gate, 1);
    pthread_join(other_caller, NULL);
}

/* A child that the host makes meanwhile takes no part. */
static void trial_beside_a_child(void) {
    start("host", 0);
    try_out(1000);
    loading one = {.path = module("m1")};
    pthread_t loader = thread(load_path, &one);
    await_trial_of(&slot_a);
    pid_t child = fork();
    if (child == 0) _exit(hr_call(&slot_a, NULL, NULL, NULL));
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    pthread_join(loader, NULL);
    CHECK(one.report->status == HR_OK && (one.report->warnings & HR_WARN_UNTRIED));
}

static int32_t forks;

static void count_fork(void) { __atomic_fetch_add(&forks, 1, __ATOMIC_SEQ_CST); }

/* The option was set before the host said so. */
static void trial_where_a_fork_would_harm(void) {
    CHECK(hr_set_options(&(hr_options){.flags = HR_OPTION_TRIAL}) == HR_OK);
    start("host", HR_SERVE_NO_FORK);
    pthread_atfork(count_fork, NULL, NULL);
    loading one = {.path = module("m1")};
    load_path(&one);
    CHECK(one.report->status == HR_OK && (one.report->warnings & HR_WARN_UNTRIED) && get(&forks) == 0);
}

/* ---- what callers noted ---- */

/* A slot that is gone before its first call was told is not told as one without a name. */
static void freed_before_told(void) {
    hr_runtime *runtime;
    hr_slot slot = HR_SLOT("a", fallback);
    CHECK(hr_runtime_new(&runtime) == HR_OK);
    hr_set_context(runtime, &context);
    CHECK(hr_declare(runtime, &slot) == HR_OK && hr_load(runtime, module("m1"), NULL) == HR_OK);
    CHECK(hr_call(&slot, NULL, NULL, NULL) == 1);
    hr_runtime_free(runtime);
    start("host", 0);
    hr_box_reader *reader = own_box();
    CHECK(load("m2") == HR_OK && hr_call(&slot_a, NULL, NULL, NULL) == 2);
    uint64_t when;
    CHECK(first_version(reader, &when) == 1 && first_call_events(reader, 1, when) == 1);
    hr_box_close(reader);
}

/* A slot that a module made, and that the host declares after the roll back, is timed like others. */
static void samples_after_a_late_declaration(void) {
    static hr_box_slot slots[8];
    static hr_times times[16];
    hr_slot late_one = HR_SLOT("late.one", fallback);
    start("host", 0);
    CHECK(hr_set_options(&(hr_options){.flags = HR_OPTION_SAMPLE, .sample_every = 1}) == HR_OK);
    CHECK(load("u1") == HR_OK && hr_rollback(NULL, NULL, NULL, NULL) == HR_OK);
    CHECK(hr_declare(NULL, &late_one) == HR_OK);
    for (int i = 0; i < 5; i++) CHECK(hr_call(&late_one, NULL, NULL, NULL) == 0);
    hr_box_reader *reader = own_box();
    uint32_t count = hr_box_slots(reader, slots, 8);
    CHECK(count > late_one.index && hr_box_times_of(reader, slots, times, count) == count);
    CHECK(times[2 * late_one.index].version == 2 && times[2 * late_one.index].samples == 5);
    hr_box_close(reader);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"freed_runtime", freed_runtime},
    {"stopped_while_waiting", stopped_while_waiting},
    {"two_roll_backs", two_roll_backs},
    {"swap_during_roll_back", swap_during_roll_back},
    {"overlap", overlap},
    {"quarantined_meanwhile", quarantined_meanwhile},
    {"reserved_slots", reserved_slots},
    {"declared_meanwhile", declared_meanwhile},
    {"more_modules_than_records", more_modules_than_records},
    {"abort_by_the_host", abort_by_the_host},
    {"stop_while_polling", stop_while_polling},
    {"no_descriptor_to_serve", no_descriptor_to_serve},
    {"no_descriptor_to_accept", no_descriptor_to_accept},
    {"host_and_tool_at_once", host_and_tool_at_once},
    {"first_calls", first_calls},
    {"options", options},
    {"served_child_with_threads", served_child_with_threads},
    {"descriptors_closed", descriptors_closed},
    {"fork_during_on_unload", fork_during_on_unload},
    {"fork_in_hook", fork_in_hook},
    {"file_size_limit", file_size_limit},
    {"barrier_taken_away", barrier_taken_away},
    {"trial_of_a_slow_fork", trial_of_a_slow_fork},
    {"trial_with_a_late_answer", trial_with_a_late_answer},
    {"trial_beside_a_child", trial_beside_a_child},
    {"trial_where_a_fork_would_harm", trial_where_a_fork_would_harm},
    {"freed_before_told", freed_before_told},
    {"samples_after_a_late_declaration", samples_after_a_late_declaration},
};

int main(int count, char **arguments) {
    if (count == 1) { /* their names, for the test to run each */
        for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) puts(scenarios[i].name);
        return 0;
    }
    directory = arguments[2];
    alarm(120); /* seconds that no scenario takes, on however busy a machine */
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (strcmp(scenarios[i].name, arguments[1]) == 0) {
            scenarios[i].run();
            return 0;
        }
    return 2;
}
