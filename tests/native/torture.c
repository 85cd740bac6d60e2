/* Torture: callers of every kind against commits, rollbacks and rejections.
 *
 *     torture TEMPLATE SCRATCH CHANGES REAL THREADS
 *
 * TEMPLATE is the module built from hosts/pair.c. Copies of it with another tag are other modules to the shim, so any
 * number of real builds comes from one compilation. CHANGES is how often the dispatch table is to change or a module is
 * to be refused; REAL of them are real loads, every other one with its rollback. The other commits publish modules that
 * are open already, through the same hr_dispatch_publish that a load ends in: modules stay resident, and 20,000 of them
 * would measure the dynamic loader's patience and the kernel's limit of mappings instead.
 *
 * What must hold, whatever the interleaving:
 *
 *  T1  Both slots of a module return the same tag inside one frame (no torn pair), and only tags that were published.
 *  T2  The counters in the black box are exactly the calls made, for slots called by threads with a shard, by threads
 *      beyond the shards, nested, in frames and outside, and for slots declared meanwhile.
 *  T3  A reader of the black box sees records of one moment, counters that never fall, events in order.
 *  T4  Refused modules change nothing; every load, rollback and refusal gives the status that it must give.
 *  T5  When all is done no retired table is left, and memory is as it was before the second half. */
#define _GNU_SOURCE
#include "../../shim/src/internal.h"
#include "hosts/pair.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define THREADS_MAX 64
#define CROWD 300 /* more than HR_BOX_SHARDS: some have no shard of their own */
#define LATE_MAX 1500
#define RUSH_MAX 512
#define OPEN_MAX 64 /* modules whose functions are published again and again */
#define SLACK_BYTES (1 << 20)

static hr_slot slot_x = HR_SLOT("pair.x", NULL);
static hr_slot slot_y = HR_SLOT("pair.y", NULL);
static hr_slot slot_outer = HR_SLOT("pair.outer", NULL);

typedef struct tally {
    uint64_t x, y, outer;
} tally;

static struct {
    const char *scratch;
    uint8_t *template;
    size_t template_size;
    size_t tag_at;
    uint64_t newest_tag; /* atomic: raised before a module with that tag can be published */
    int done;            /* atomic: callers stop */
    tally calls;         /* atomic: added up by threads that end */
    uint64_t late_calls[LATE_MAX];
    hr_slot late[LATE_MAX];
    char late_names[LATE_MAX][24];
    int late_count;
    int crowds;          /* atomic: how many crowds came and went */
    hr_slot rush[RUSH_MAX]; /* one a crowd: not declared when all of it call it at once */
    char rush_names[RUSH_MAX][24];
    int box;
    uint64_t looks;
    uint32_t retired_most;
} test;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("torture: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

static int is_done(void) { return __atomic_load_n(&test.done, __ATOMIC_ACQUIRE); }

/* ---- modules ---- */

static void write_file(const char *path, const void *bytes, size_t size) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd) != 0) fail("cannot write %s", path);
}

static void read_template(const char *path) {
    static const uint64_t mark = PAIR_TAG_MARK;
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) fail("cannot read %s", path);
    test.template_size = (size_t)status.st_size;
    test.template = malloc(test.template_size);
    if (!test.template || read(fd, test.template, test.template_size) != status.st_size) fail("cannot read %s", path);
    close(fd);
    uint8_t *at = memmem(test.template, test.template_size, &mark, sizeof mark);
    if (!at) fail("%s has no tag", path);
    test.tag_at = (size_t)(at - test.template);
    if (memmem(at + 1, test.template_size - test.tag_at - 1, &mark, sizeof mark)) fail("%s has two tags", path);
}

static const char *build(uint64_t tag) {
    static char path[HR_PATH_SIZE];
    snprintf(path, sizeof path, "%s/pair-%llu.so", test.scratch, (unsigned long long)tag);
    uint8_t *bytes = malloc(test.template_size);
    if (!bytes) fail("memory");
    memcpy(bytes, test.template, test.template_size);
    memcpy(bytes + test.tag_at, &tag, sizeof tag);
    write_file(path, bytes, test.template_size);
    free(bytes);
    return path;
}

typedef struct bad_module {
    const char *name;
    hr_status expected;
    char path[HR_PATH_SIZE];
} bad_module;

static bad_module bad[] = {
    {"truncated.so", HR_E_TRUNCATED, ""},
    {"text.so", HR_E_NOT_ELF, ""},
    {"magic.so", HR_E_ABI, ""},
    {"absent.so", HR_E_IO, ""},
};
#define BAD (sizeof bad / sizeof bad[0])

static void build_bad(void) {
    static const uint32_t magic = HR_ABI_MAGIC_V1;
    for (size_t i = 0; i < BAD; i++) snprintf(bad[i].path, HR_PATH_SIZE, "%s/%s", test.scratch, bad[i].name);
    write_file(bad[0].path, test.template, test.template_size * 2 / 3);
    write_file(bad[1].path, "this is no library\n", 19);
    uint8_t *bytes = malloc(test.template_size);
    if (!bytes) fail("memory");
    memcpy(bytes, test.template, test.template_size);
    uint8_t *at = memmem(bytes, test.template_size, &magic, sizeof magic);
    if (!at) fail("the template has no magic");
    at[0] ^= 1;
    write_file(bad[2].path, bytes, test.template_size);
    free(bytes);
}

/* ---- callers ---- */

static uint64_t inner(void *state) {
    uint64_t tag = 0;
    tally *own = ((pair_state *)state)->tally;
    if (hr_call(&slot_x, state, NULL, &tag) != 0) fail("pair.x has no implementation");
    own->x++;
    return tag;
}

static void check_tag(uint64_t tag) {
    if (tag == 0 || tag > __atomic_load_n(&test.newest_tag, __ATOMIC_ACQUIRE))
        fail("tag %llu was never published", (unsigned long long)tag);
}

static void call_in_frame(pair_state *state, tally *own) {
    uint64_t x = 0, y = 0, again = 0, outside = 0;
    hr_frame frame = hr_frame_begin();
    if (hr_frame_call(&frame, &slot_x, state, NULL, &x) != 0) fail("pair.x has no implementation");
    /* A plain call does not look for a frame: it may run a newer generation, and must not disturb the frame's. */
    if (own->x % 7 == 0) {
        if (hr_call(&slot_y, state, NULL, &outside) != 0) fail("pair.y has no implementation");
        own->y++;
        check_tag(outside);
    }
    if (hr_frame_call(&frame, &slot_y, state, NULL, &y) != 0) fail("pair.y has no implementation");
    if (own->x % 5 == 0) {
        hr_frame nested = hr_frame_begin();
        hr_frame_call(&nested, &slot_y, state, NULL, &outside);
        hr_frame_end(&nested);
        own->y++;
        hr_frame_call(&frame, &slot_x, state, NULL, &again);
        own->x++;
        if (again != x)
            fail("one frame, two generations: %llu, %llu", (unsigned long long)x, (unsigned long long)again);
    }
    hr_frame_end(&frame);
    own->x++;
    own->y++;
    if (x != y) fail("torn pair: %llu and %llu", (unsigned long long)x, (unsigned long long)y);
    check_tag(x);
}

static void call_plain(pair_state *state, tally *own) {
    uint64_t tags[2] = {0};
    if (hr_call(&slot_outer, state, NULL, tags) != 0) fail("pair.outer has no implementation");
    own->outer++;
    check_tag(tags[0]);
    check_tag(tags[1]);
}

static void add_up(const tally *own) {
    __atomic_add_fetch(&test.calls.x, own->x, __ATOMIC_RELAXED);
    __atomic_add_fetch(&test.calls.y, own->y, __ATOMIC_RELAXED);
    __atomic_add_fetch(&test.calls.outer, own->outer, __ATOMIC_RELAXED);
}

static void *caller(void *unused) {
    tally own = {0};
    pair_state state = {inner, &own, 0};
    (void)unused;
    while (!is_done()) {
        for (int i = 0; i < 64; i++) call_in_frame(&state, &own);
        for (int i = 0; i < 8; i++) call_plain(&state, &own);
    }
    add_up(&own);
    return NULL;
}

static pthread_barrier_t crowd_alive;

static int32_t late_fallback(void *state, const void *input, void *output) {
    (void)input;
    *(uint64_t *)output = *(uint64_t *)state;
    return 0;
}

static void *one_of_crowd(void *rush) {
    tally own = {0};
    pair_state state = {inner, &own, 0};
    uint64_t word = 1, answer = 0;
    call_in_frame(&state, &own); /* takes the shard; those who find none share one */
    pthread_barrier_wait(&crowd_alive);
    if (rush && (hr_call(rush, &word, NULL, &answer) != 0 || answer != 1)) fail("an undeclared slot fails");
    for (int i = 0; i < 20; i++) {
        call_in_frame(&state, &own);
        call_plain(&state, &own);
    }
    add_up(&own);
    return NULL;
}

static void *crowds(void *unused) {
    pthread_t *threads = calloc(CROWD, sizeof *threads);
    (void)unused;
    if (!threads) fail("memory");
    do {
        int number = test.crowds;
        hr_slot *rush = number < RUSH_MAX ? &test.rush[number] : NULL;
        if (rush) {
            snprintf(test.rush_names[number], sizeof test.rush_names[number], "rush.%d", number);
            *rush = (hr_slot)HR_SLOT(test.rush_names[number], late_fallback);
        }
        pthread_barrier_init(&crowd_alive, NULL, CROWD);
        for (int i = 0; i < CROWD; i++)
            if (pthread_create(&threads[i], NULL, one_of_crowd, rush) != 0) fail("no thread %d", i);
        for (int i = 0; i < CROWD; i++) pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&crowd_alive);
        __atomic_add_fetch(&test.crowds, 1, __ATOMIC_RELAXED);
        usleep(2000);
    } while (!is_done());
    free(threads);
    return NULL;
}

/* ---- declarations while others call ---- */

static void declare_late(int number) {
    uint64_t state = (uint64_t)number + 1, output = 0;
    hr_slot *slot = &test.late[number], found = HR_SLOT(NULL, NULL);
    snprintf(test.late_names[number], sizeof test.late_names[number], "late.%d", number);
    *slot = (hr_slot)HR_SLOT(test.late_names[number], late_fallback);
    hr_frame frame = hr_frame_begin();
    if (hr_find(NULL, slot->symbol, &found) != HR_E_NO_SLOT) fail("%s exists already", slot->symbol);
    /* Every other one is declared by its first call, in a frame whose table does not have it. */
    if (number % 2 && hr_declare(NULL, slot) != HR_OK) fail("cannot declare %s", slot->symbol);
    for (int i = 0; i < 3; i++) {
        if (hr_frame_call(&frame, slot, &state, NULL, &output) != 0 || output != state) fail("%s fails", slot->symbol);
        test.late_calls[number]++;
    }
    hr_frame_end(&frame);
    if (hr_find(NULL, slot->symbol, &found) != HR_OK || found.index != slot->index) fail("%s is lost", slot->symbol);
    if (hr_declare(NULL, &(hr_slot)HR_SLOT(slot->symbol, late_fallback)) != HR_E_DUPLICATE) fail("declared twice");
    for (int i = 0; i < number % 5; i++) {
        output = 0;
        if (hr_call(&found, &state, NULL, &output) != 0 || output != state) fail("%s fails", slot->symbol);
        test.late_calls[number]++;
    }
}

/* A runtime that comes and goes: its slots' indices are used again, for slots that count from zero. */
static void borrow_runtime(uint64_t round) {
    hr_runtime *runtime = NULL;
    char name[32];
    uint64_t state = round + 1, output = 0;
    snprintf(name, sizeof name, "borrowed.%llu", (unsigned long long)round);
    hr_slot slot = HR_SLOT(name, late_fallback);
    if (hr_runtime_new(&runtime) != HR_OK || hr_declare(runtime, &slot) != HR_OK) fail("no further runtime");
    for (int i = 0; i < 10; i++)
        if (hr_call(&slot, &state, NULL, &output) != 0 || output != state) fail("%s fails", name);
    hr_runtime_free(runtime);
}

static void *declarer(void *unused) {
    (void)unused;
    for (uint64_t round = 0; !is_done(); round++) {
        if (test.late_count < LATE_MAX) declare_late(test.late_count++);
        else usleep(500);
        borrow_runtime(round);
    }
    return NULL;
}

/* ---- a reader of the black box ---- */

static int take_box(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[HR_PATH_SIZE], control[CMSG_SPACE(sizeof(int))] = {0};
    hr_failure failure;
    struct {
        hr_message message;
        hr_hello hello;
    } request = {{HR_WIRE_MAGIC, HR_WIRE_VERSION, HR_MSG_HELLO, sizeof(hr_hello), 1}, {"torture"}};
    struct {
        hr_message message;
        hr_welcome welcome;
    } reply;
    struct iovec vector = {&reply, sizeof reply};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), box = -1;

    if (hr_runtime_directory(directory, sizeof directory, &failure) != HR_OK) fail("%s", failure.reason);
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/%d.sock", directory, (int)getpid());
    if (length >= (int)sizeof address.sun_path) fail("%s is too long for a socket", directory);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("cannot connect");
    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request) fail("cannot greet");
    if (recvmsg(fd, &message, 0) < (ssize_t)sizeof reply.message) fail("no welcome");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&box, CMSG_DATA(header), sizeof box);
    if (box < 0) fail("no box");
    close(fd);
    return box;
}

typedef struct look {
    hr_box_slot slots[64];
    uint64_t calls[64];
    uint64_t calls_before[64];
    uint32_t in_flight[64];
    hr_event events[32];
} look;

static void look_once(const hr_box_reader *reader, look *seen) {
    hr_box header;
    hr_box_header(reader, &header);
    if (header.retired_tables > test.retired_most) test.retired_most = header.retired_tables;
    uint32_t count = hr_box_slots(reader, seen->slots, 64);
    if (count > slot_x.index && count > slot_y.index &&
        seen->slots[slot_x.index].version != seen->slots[slot_y.index].version)
        fail("records of two moments: versions %llu and %llu", (unsigned long long)seen->slots[slot_x.index].version,
             (unsigned long long)seen->slots[slot_y.index].version);
    count = hr_box_calls(reader, seen->calls, seen->in_flight, 64);
    for (uint32_t i = 0; i < count; i++) {
        if (seen->calls[i] < seen->calls_before[i]) fail("the counter of slot %u fell", i);
        seen->calls_before[i] = seen->calls[i];
    }
    uint64_t after = header.event_count > 32 ? header.event_count - 32 : 0;
    count = hr_box_events(reader, after, seen->events, 32);
    for (uint32_t i = 0; i < count; i++) {
        if (seen->events[i].number <= after) fail("events out of order");
        after = seen->events[i].number;
    }
    test.looks++;
}

static void *looker(void *unused) {
    hr_box_reader *reader = NULL;
    hr_failure failure;
    look *seen = calloc(1, sizeof *seen);
    (void)unused;
    if (!seen || hr_box_open(test.box, &reader, &failure) != HR_OK) fail("cannot open the box");
    while (!is_done()) {
        look_once(reader, seen);
        usleep(1000);
    }
    hr_box_close(reader);
    free(seen);
    return NULL;
}

/* ---- the writer ---- */

static struct {
    uint64_t loads, rollbacks, publications, refused, same, aborted;
} changes;

/* The functions of modules that are open, to be published again. */
static struct {
    hr_assignment assignments[3];
} opened[OPEN_MAX];
static uint32_t opened_count;

static void expect(hr_status status, hr_status expected, const hr_report *report) {
    if (status == expected) return;
    fail("%s instead of %s: %s", hr_status_code((int32_t)status), hr_status_code((int32_t)expected),
         report ? report->failure.reason : "");
}

static void load_one(const char *path, hr_status expected) {
    hr_report *report = NULL;
    hr_status status = hr_load(NULL, path, &report);
    expect(status, expected, report);
    hr_report_free(report);
}

static void remember(void) {
    if (opened_count == OPEN_MAX) return;
    const hr_slot *const slots[3] = {&slot_x, &slot_y, &slot_outer};
    pthread_mutex_lock(&hr.lock);
    for (int i = 0; i < 3; i++) {
        const hr_slot_info *info = &hr.slots[slots[i]->index];
        opened[opened_count].assignments[i] = (hr_assignment){slots[i]->index, info->function, info->module, 0};
    }
    pthread_mutex_unlock(&hr.lock);
    opened_count++;
}

static void load_new(void) {
    uint64_t tag = __atomic_add_fetch(&test.newest_tag, 1, __ATOMIC_SEQ_CST);
    const char *path = build(tag);
    load_one(path, HR_OK);
    changes.loads++;
    remember();
    load_one(path, HR_SAME);
    changes.same++;
    unlink(path);
}

static void roll_back(void) {
    hr_report **reports = NULL;
    uint32_t count = 0;
    hr_status status = hr_rollback(NULL, NULL, &reports, &count);
    expect(status, HR_OK, count ? reports[0] : NULL);
    hr_reports_free(reports, count);
    changes.rollbacks++;
    load_one(build(test.newest_tag), HR_E_QUARANTINED);
    changes.refused++;
}

static void prepare_and_abort(void) {
    uint64_t tag = __atomic_add_fetch(&test.newest_tag, 1, __ATOMIC_SEQ_CST);
    char good[HR_PATH_SIZE];
    snprintf(good, sizeof good, "%s", build(tag));
    const char *const paths[2] = {good, bad[2].path};
    hr_report *reports[2] = {NULL, NULL};
    hr_transaction *transaction = NULL;
    hr_status status = hr_prepare(NULL, paths, 1, reports, &transaction);
    expect(status, HR_OK, reports[0]);
    hr_abort(transaction);
    hr_report_free(reports[0]);
    reports[0] = NULL;
    if (hr_prepare(NULL, paths, 2, reports, &transaction) == HR_OK) fail("a bad module was prepared");
    for (int i = 0; i < 2; i++) hr_report_free(reports[i]);
    unlink(good);
    changes.aborted += 2;
}

static void refuse(uint64_t number) {
    const bad_module *module = &bad[number % BAD];
    uint64_t before = hr_generation(NULL);
    load_one(module->path, module->expected);
    if (hr_generation(NULL) != before) fail("a refused module changed the generation");
    changes.refused++;
}

/* Returns how many tables wait for a caller then. */
static uint32_t publish(uint64_t number) {
    pthread_mutex_lock(&hr.lock);
    hr_status status = hr_dispatch_publish(opened[number % opened_count].assignments, 3);
    hr_reclaim_advance();
    hr_reclaim_tables();
    uint32_t retired = hr.retired_count;
    pthread_mutex_unlock(&hr.lock);
    if (status != HR_OK) fail("publish: %s", hr_status_code((int32_t)status));
    changes.publications++;
    return retired;
}

static uint64_t changed(void) {
    return changes.loads + changes.rollbacks + changes.publications + changes.refused + changes.same + changes.aborted;
}

static size_t memory(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Ends when the reclaimer has freed what it can; nobody is in a call then, so that is all. */
static void settle(void) {
    uint32_t left = 0;
    for (int i = 0; i < 200; i++) {
        if ((left = publish((uint64_t)i)) == 0) return;
        usleep(1000);
    }
    fail("%u tables are never reclaimed", left);
}

/* Memory while callers are busy: at a moment at which next to no table waits for one of them. */
static size_t memory_at_rest(void) {
    size_t seen = memory();
    for (int i = 0; i < 2000; i++) {
        if (publish((uint64_t)i) > 2) continue;
        seen = memory();
        break;
    }
    return seen;
}

static void change(int publishing, uint64_t number) {
    if (publishing) publish(number);
    else refuse(number);
}

static void first_half(uint64_t real, uint64_t total) {
    load_new();
    load_new();
    while (changes.loads < real) {
        load_new();
        if (changes.loads % 2) roll_back();
        if (changes.loads % 10 == 0) prepare_and_abort();
        for (uint64_t i = 0; i < total / 2 / real; i++) change(i % 3, changes.loads + i);
    }
}

static void second_half(uint64_t total) {
    for (uint64_t i = 0; changed() < total; i++) change(i % 5, i / 5 + i);
}

/* ---- */

static void check_total(const hr_box_reader *reader, const char *symbol, uint32_t index, uint64_t expected) {
    uint64_t *calls = calloc(index + 1, sizeof *calls);
    hr_box_slot *slots = calloc(index + 1, sizeof *slots);
    if (!calls || !slots) fail("memory");
    hr_box_calls(reader, calls, NULL, index + 1);
    hr_box_slots(reader, slots, index + 1);
    uint64_t counted = calls[index] - slots[index].calls_base;
    if (counted != expected)
        fail("%s: %llu calls counted, %llu made", symbol, (unsigned long long)counted, (unsigned long long)expected);
    if (strcmp(slots[index].symbol, symbol) != 0) fail("slot %u is %s", index, slots[index].symbol);
    free(calls);
    free(slots);
}

static void check_totals(void) {
    hr_box_reader *reader = NULL;
    hr_failure failure;
    if (hr_box_open(test.box, &reader, &failure) != HR_OK) fail("%s", failure.reason);
    check_total(reader, "pair.x", slot_x.index, test.calls.x);
    check_total(reader, "pair.y", slot_y.index, test.calls.y);
    check_total(reader, "pair.outer", slot_outer.index, test.calls.outer);
    for (int i = 0; i < test.late_count; i += 1 + test.late_count / 50)
        check_total(reader, test.late_names[i], test.late[i].index, test.late_calls[i]);
    for (int i = 0; i < test.crowds && i < RUSH_MAX; i++)
        check_total(reader, test.rush_names[i], test.rush[i].index, CROWD);
    hr_box_close(reader);
}

static void start(pthread_t *thread, void *(*function)(void *)) {
    if (pthread_create(thread, NULL, function, NULL) != 0) fail("no thread");
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    uint64_t total = strtoull(argv[3], NULL, 10), real = strtoull(argv[4], NULL, 10);
    int threads = atoi(argv[5]);
    if (threads < 1 || threads > THREADS_MAX || real < 4) return 2;
    pthread_t callers[THREADS_MAX], helpers[3];
    hr_failure failure = {0};
    test.scratch = argv[2];
    read_template(argv[1]);
    build_bad();

    if (hr_declare(NULL, &slot_x) || hr_declare(NULL, &slot_y) || hr_declare(NULL, &slot_outer)) fail("cannot declare");
    if (hr_serve(NULL, "torture", 0, &failure) != HR_OK) fail("cannot serve: %s", failure.reason);
    test.box = take_box();
    load_new();
    for (int i = 0; i < threads; i++) start(&callers[i], caller);
    start(&helpers[0], crowds);
    start(&helpers[1], declarer);
    start(&helpers[2], looker);

    first_half(real, total);
    while (!__atomic_load_n(&test.crowds, __ATOMIC_RELAXED)) publish(changes.publications);
    size_t before = memory_at_rest();
    second_half(total);
    __atomic_store_n(&test.done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < threads; i++) pthread_join(callers[i], NULL);
    for (int i = 0; i < 3; i++) pthread_join(helpers[i], NULL);
    settle();
    size_t after = memory();

    check_totals();
#ifndef SANITIZED
    if (after > before + SLACK_BYTES) fail("memory grew from %zu to %zu bytes", before, after);
#endif
    printf("%llu changes: %llu loads, %llu rollbacks, %llu publications, %llu refused, %llu same, %llu aborted\n"
           "%llu calls in %d threads and %d crowds of %d, %d slots declared meanwhile, %llu looks\n"
           "memory %zu to %zu bytes, at most %u tables retired\n",
           (unsigned long long)changed(), (unsigned long long)changes.loads, (unsigned long long)changes.rollbacks,
           (unsigned long long)changes.publications, (unsigned long long)changes.refused,
           (unsigned long long)changes.same, (unsigned long long)changes.aborted,
           (unsigned long long)(test.calls.x + test.calls.y + test.calls.outer), threads, test.crowds, CROWD,
           test.late_count, (unsigned long long)test.looks, before, after, test.retired_most);
    free(test.template);
    hr_stop();
    return 0;
}
