/* The host's socket: finds its place, speaks wire.h, and brings work to the host's safe points.
 *
 * Invariants:
 *  K1  The socket appears under its final name only when it is listening (bind, listen, rename): a refused connection
 *      means that its host is dead, and whoever sees that may remove it.
 *  K2  A peer whose credentials are not this user's is closed before a byte of it is read.
 *  K3  One engine serves: the control thread, or the thread inside hr_poll, which holds control.engine meanwhile. A
 *      request is served whole before the next. What the engine works on is taken down after the thread was joined, or
 *      by whoever holds control.engine.
 *  K4  A connection has at most one prepared transaction; when it closes, for whatever reason, that is aborted (H15).
 *  K5  Where the host asked for safe points, hooks and commits run in hr_safepoint only; whoever waits for one gives up
 *      after HR_SAFE_POINT_SECONDS and takes the job back. on_unload is never waited for.
 *  K6  Whoever has something for a grace period counts it in hr.retiring and then looks for the control thread; who
 *      ends the thread says so and then looks at hr.retiring (both sequentially consistent): one of them sees the
 *      other. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 32
#define BACKLOG 128
#define GRACE_TICK_MS 10
#define SEND_TIMEOUT_S 5
#define ACCEPT_PAUSE_NS 100000000u

typedef struct hr_client {
    int fd;
    uint32_t number;
    hr_transaction *transaction;
    hr_report **reports;
    uint32_t report_count;
    uint8_t *buffer;
    size_t used, capacity;
} hr_client;

/* A job that waits for the host's safe point. */
typedef struct hr_job {
    void (*run)(void *);
    void *argument;
    bool started, done;
} hr_job;

static struct {
    int listener;
    int wake; /* kept from the first hr_serve on: a late hr_control_wake must not write into another file */
    pthread_t thread;
    bool thread_runs, stopping; /* atomic */
    pthread_mutex_t engine;
    uint64_t accept_after; /* CLOCK_MONOTONIC ns */
    char path[HR_PATH_SIZE];
    hr_client clients[CLIENTS];
    uint32_t client_count;
    uint32_t client_numbers;
    pthread_mutex_t job_lock;
    pthread_cond_t job_done;
    hr_job *job;
} control = {.listener = -1, .wake = -1, .engine = PTHREAD_MUTEX_INITIALIZER, .job_lock = PTHREAD_MUTEX_INITIALIZER};

__thread uint32_t hr_origin;
static __thread bool serving; /* this thread is inside a request, or takes one back */
static __thread bool in_job;  /* this thread runs one at the host's safe point */

hr_runtime *hr_served(void) { return __atomic_load_n(&hr.served, __ATOMIC_ACQUIRE); }

uint32_t hr_serve_flags(void) { return __atomic_load_n(&hr.serve_flags, __ATOMIC_RELAXED); }

static bool thread_runs(void) { return __atomic_load_n(&control.thread_runs, __ATOMIC_SEQ_CST); }

static bool stopping(void) { return __atomic_load_n(&control.stopping, __ATOMIC_ACQUIRE); }

/* ---- safe points ---- */

/* With HR_SERVE_POLL the host has chosen where it polls, and that is its safe point. */
bool hr_needs_safe_point(void) {
    return serving && (hr_serve_flags() & (HR_SERVE_SAFE_POINT | HR_SERVE_POLL)) == HR_SERVE_SAFE_POINT;
}

bool hr_swap_at_safe_point(void) {
    return !serving || (hr_serve_flags() & (HR_SERVE_SAFE_POINT | HR_SERVE_POLL)) != 0;
}

static void want_safe_point(bool wanted) {
    __atomic_store_n(&hr_dispatch.safe_point_wanted, wanted ? 1 : 0, __ATOMIC_RELEASE);
}

/* Whether hr_safepoint has the duty to run on_unload: no thread of ours may, or there is none. */
static bool grace_at_safe_points(void) { return !thread_runs() || (hr_serve_flags() & HR_SERVE_SAFE_POINT); }

hr_status hr_at_safe_point(void (*run)(void *), void *argument) {
    if (!hr_needs_safe_point()) { /* the host's own thread calls: it is where it wants to be */
        run(argument);
        return HR_OK;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += HR_SAFE_POINT_SECONDS;
    hr_job job = {run, argument, false, false};
    pthread_mutex_lock(&control.job_lock);
    control.job = &job;
    want_safe_point(true);
    int error = 0;
    while (!job.started && error == 0 && !stopping())
        error = pthread_cond_timedwait(&control.job_done, &control.job_lock, &until);
    while (job.started && !job.done) pthread_cond_wait(&control.job_done, &control.job_lock);
    if (!job.done) control.job = NULL;
    pthread_mutex_unlock(&control.job_lock);
    return job.done ? HR_OK : HR_E_SAFE_POINT;
}

static void run_job(void) {
    pthread_mutex_lock(&control.job_lock);
    hr_job *job = control.job;
    control.job = NULL;
    if (job) job->started = true;
    pthread_mutex_unlock(&control.job_lock);
    if (job == NULL) return;
    in_job = true;
    job->run(job->argument);
    in_job = false;
    pthread_mutex_lock(&control.job_lock);
    job->done = true;
    pthread_cond_broadcast(&control.job_done);
    pthread_mutex_unlock(&control.job_lock);
}

void hr_safepoint_reached(void) {
    if (!__atomic_load_n(&hr.ready, __ATOMIC_ACQUIRE)) return;
    want_safe_point(false);
    run_job();
    hr_slow_tell();
    if (!grace_at_safe_points()) return;
    hr_module_run_grace();
    if (!thread_runs()) hr_unload_run();
    if (hr_module_waiting() || (!thread_runs() && hr_unload_waiting())) want_safe_point(true);
}

static void wake_engine(void) {
    uint64_t one = 1;
    int wake = __atomic_load_n(&control.wake, __ATOMIC_ACQUIRE);
    if (wake >= 0 && write(wake, &one, sizeof one) < 0) return; /* full: it is awake anyway */
}

void hr_control_wake(void) {
    if (grace_at_safe_points()) {
        want_safe_point(true);
        return;
    }
    wake_engine();
}

/* To write an event, or to scan memory, is no code of a module's: the control thread may do it wherever it runs. */
void hr_control_news(void) {
    int saved = errno;
    if (thread_runs()) wake_engine();
    else want_safe_point(true);
    errno = saved;
}

/* ---- sending ---- */

static void skip(struct msghdr *message, size_t size) {
    while (message->msg_iovlen && size >= message->msg_iov->iov_len) {
        size -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (size == 0) return;
    message->msg_iov->iov_base = (char *)message->msg_iov->iov_base + size;
    message->msg_iov->iov_len -= size;
}

/* All parts in one system call, where they fit: each one would wake the peer, who needs the last. Gives up when not all
 * has been taken in time: a peer that reads a byte now and then is as good as a stopped one. */
static bool send_parts(int fd, struct iovec *parts, uint32_t count) {
    uint64_t until = hr_monotonic_ns() + SEND_TIMEOUT_S * UINT64_C(1000000000);
    struct msghdr left = {.msg_iov = parts, .msg_iovlen = count};
    skip(&left, 0); /* empty parts */
    while (left.msg_iovlen) {
        struct msghdr now = left;
        if (now.msg_iovlen > IOV_MAX) now.msg_iovlen = IOV_MAX;
        ssize_t n = sendmsg(fd, &now, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        skip(&left, (size_t)n);
        if (left.msg_iovlen && hr_monotonic_ns() > until) return false;
    }
    return true;
}

static hr_message answer_to(const hr_message *request, size_t length) {
    return (hr_message){HR_WIRE_MAGIC, HR_WIRE_VERSION, (uint16_t)(request->kind | HR_MSG_REPLY), (uint32_t)length,
                        request->id};
}

static bool send_reply(hr_client *client, const hr_message *request, hr_status status, const hr_failure *failure,
                       hr_report **reports, uint32_t count) {
    hr_reply *reply = calloc(1, sizeof *reply);
    struct iovec *parts = calloc(2 + (size_t)count, sizeof *parts);
    if (reply == NULL || parts == NULL) {
        free(reply);
        free(parts);
        return false;
    }
    reply->status = status;
    size_t length = sizeof *reply;
    reply->count = reports ? count : 0;
    for (uint32_t i = 0; i < reply->count; i++) {
        parts[2 + i] = (struct iovec){reports[i], reports[i]->size};
        length += reports[i]->size;
    }
    if (failure) reply->failure = *failure;
    else if (status != HR_OK) hr_fail(&reply->failure, status, NULL, NULL, NULL, "%s", hr_status_text(status));
    reply->failure.status = status == HR_SAME ? HR_OK : (int32_t)status;
    hr_message head = answer_to(request, length);
    parts[0] = (struct iovec){&head, sizeof head};
    parts[1] = (struct iovec){reply, sizeof *reply};
    bool sent = send_parts(client->fd, parts, 2 + reply->count);
    free(reply);
    free(parts);
    return sent;
}

static bool send_failure(hr_client *client, const hr_message *request, hr_status status, const char *reason) {
    hr_failure failure;
    hr_fail(&failure, status, NULL, NULL, NULL, "%s", reason);
    return send_reply(client, request, status, &failure, NULL, 0);
}

static bool send_welcome(hr_client *client, const hr_message *request, bool with_box) {
    struct {
        hr_message head;
        hr_welcome body;
    } message = {.head = answer_to(request, sizeof(hr_welcome))};
    message.body.pid = (uint32_t)getpid();
    message.body.client = client->number;
    message.body.generation = hr_generation(hr_served());
    message.body.box_size = hr.box->size;
    message.body.serve_flags = hr_serve_flags();
    hr_copy_text(message.body.name, sizeof message.body.name, hr.box->name);
    hr_copy_text(message.body.version, sizeof message.body.version, HR_VERSION_TEXT);
    if (!with_box) return send_parts(client->fd, &(struct iovec){&message, sizeof message}, 1);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } extra = {0};
    struct iovec part = {&message, sizeof message};
    struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    struct cmsghdr *attached = CMSG_FIRSTHDR(&envelope);
    attached->cmsg_level = SOL_SOCKET;
    attached->cmsg_type = SCM_RIGHTS;
    attached->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(attached), &hr.box_fd, sizeof(int));
    ssize_t n;
    do n = sendmsg(client->fd, &envelope, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n <= 0) return false;
    skip(&envelope, (size_t)n); /* the descriptor has gone with the first byte */
    return send_parts(client->fd, envelope.msg_iov, (uint32_t)envelope.msg_iovlen);
}

/* ---- requests ---- */

static void drop_transaction(hr_client *client) {
    hr_abort(client->transaction);
    hr_reports_free(client->reports, client->report_count);
    client->transaction = NULL;
    client->reports = NULL;
    client->report_count = 0;
}

/* The paths of a request, checked: null when they are not what they claim to be. */
static const char **paths_of(const hr_message *request, const void *body, uint32_t *count) {
    const hr_paths *paths = body;
    if (request->length < sizeof *paths || paths->count == 0 || paths->count > HR_WIRE_PATHS_MAX ||
        request->length != sizeof *paths + (size_t)paths->count * HR_PATH_SIZE)
        return NULL;
    const char **list = calloc(paths->count, sizeof *list);
    for (uint32_t i = 0; list && i < paths->count; i++) {
        list[i] = paths->paths[i];
        if (memchr(list[i], 0, HR_PATH_SIZE) && list[i][0] == '/') continue;
        free(list);
        return NULL;
    }
    *count = paths->count;
    return list;
}

static bool handle_paths(hr_client *client, const hr_message *request, const void *body) {
    uint32_t count = 0;
    const char **paths = paths_of(request, body, &count);
    if (paths == NULL) return send_failure(client, request, HR_E_PROTOCOL, "the request's paths are invalid");
    drop_transaction(client);
    client->reports = calloc(count, sizeof *client->reports);
    if (client->reports == NULL) {
        free(paths);
        return send_failure(client, request, HR_E_MEMORY, "out of memory");
    }
    client->report_count = count;
    hr_status status = hr_prepare(hr_served(), paths, count, client->reports, &client->transaction);
    if (status == HR_OK && request->kind == HR_MSG_LOAD) {
        status = hr_commit(client->transaction, client->reports);
        client->transaction = NULL;
    }
    free(paths);
    bool have = client->reports[0] != NULL;
    bool sent = send_reply(client, request, status, have ? &client->reports[0]->failure : NULL,
                           have ? client->reports : NULL, count);
    if (!client->transaction) drop_transaction(client);
    return sent;
}

static bool handle_commit(hr_client *client, const hr_message *request) {
    if (client->transaction == NULL)
        return send_failure(client, request, HR_E_PROTOCOL, "nothing is prepared on this connection");
    hr_transaction *transaction = client->transaction;
    client->transaction = NULL;
    hr_status status = hr_commit(transaction, client->reports);
    bool sent = send_reply(client, request, status, NULL, client->reports, client->report_count);
    drop_transaction(client);
    return sent;
}

static bool handle_rollback(hr_client *client, const hr_message *request, const void *body) {
    char name[HR_NAME_MAX + 1];
    if (request->length != sizeof(hr_rollback_request))
        return send_failure(client, request, HR_E_PROTOCOL, "the roll back request has the wrong size");
    memcpy(name, ((const hr_rollback_request *)body)->module, sizeof name);
    name[HR_NAME_MAX] = 0;
    hr_report **reports = NULL;
    uint32_t count = 0;
    hr_status status = hr_rollback(hr_served(), name, &reports, &count);
    bool sent = send_reply(client, request, status, count ? &reports[0]->failure : NULL, reports, count);
    hr_reports_free(reports, count);
    return sent;
}

static bool handle_options(hr_client *client, const hr_message *request, const void *body) {
    hr_options_request wanted;
    if (request->length != sizeof wanted)
        return send_failure(client, request, HR_E_PROTOCOL, "the options have the wrong size");
    memcpy(&wanted, body, sizeof wanted);
    hr_status status = hr_options_change(wanted.named, &wanted.options);
    if (status == HR_E_USAGE)
        return send_failure(client, request, status, "this host does not offer the option");
    if (status != HR_OK) return send_failure(client, request, status, hr_status_text(status));
    return send_reply(client, request, HR_OK, NULL, NULL, 0);
}

static bool handle_layouts(hr_client *client, const hr_message *request) {
    hr_agreed *agreed = hr_agreed_take(hr_served());
    const hr_layout_v1 *layout = hr_agreed_layout(agreed);
    void *bytes = NULL;
    uint64_t size = 0;
    hr_reply reply = {.status = layout ? hr_layout_pack(layout, &bytes, &size) : HR_OK};
    hr_agreed_drop(agreed);
    if (reply.status != HR_OK || size > HR_WIRE_LENGTH_MAX - sizeof reply) {
        hr_layout_bytes_free(bytes);
        return send_failure(client, request, HR_E_MEMORY, "the layouts cannot be sent");
    }
    hr_message head = answer_to(request, sizeof reply + (size_t)size);
    struct iovec parts[] = {{&head, sizeof head}, {&reply, sizeof reply}, {bytes, (size_t)size}};
    bool sent = send_parts(client->fd, parts, 3);
    hr_layout_bytes_free(bytes);
    return sent;
}

static bool handle(hr_client *client, const hr_message *request, const void *body) {
    switch (request->kind) {
    case HR_MSG_HELLO: return send_welcome(client, request, true);
    case HR_MSG_STATUS: return send_welcome(client, request, false);
    case HR_MSG_LOAD:
    case HR_MSG_PREPARE: return handle_paths(client, request, body);
    case HR_MSG_COMMIT: return handle_commit(client, request);
    case HR_MSG_ABORT:
        drop_transaction(client);
        return send_reply(client, request, HR_OK, NULL, NULL, 0);
    case HR_MSG_ROLLBACK: return handle_rollback(client, request, body);
    case HR_MSG_OPTIONS: return handle_options(client, request, body);
    case HR_MSG_LAYOUTS: return handle_layouts(client, request);
    default: return send_failure(client, request, HR_E_PROTOCOL, "this shim does not know the request");
    }
}

/* ---- clients ---- */

/* Around all that a client causes: also the end of its transaction, whose on_unload waits for a safe point as well. */
static void begin_serving(const hr_client *client) {
    hr_origin = client->number;
    serving = true;
}

static void end_serving(void) {
    hr_origin = 0;
    serving = false;
}

static void close_client(hr_client *client) {
    begin_serving(client);
    drop_transaction(client);
    end_serving();
    close(client->fd);
    free(client->buffer);
    *client = control.clients[--control.client_count];
    memset(&control.clients[control.client_count], 0, sizeof control.clients[0]);
}

/* False: nobody else waits, or nobody can be taken now. */
static bool accept_client(void) {
    int fd = accept4(control.listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        /* Out of descriptors or memory: the peer stays in the queue, and to look again at once would cost a core. */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            control.accept_after = hr_monotonic_ns() + ACCEPT_PAUSE_NS;
        return false;
    }
    if (!hr_platform_peer_is_user(fd) || control.client_count == CLIENTS) { /* K2 */
        close(fd);
        return true;
    }
    struct timeval patience = {SEND_TIMEOUT_S, 0}; /* a stopped peer must not stop the host's service for ever */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    control.clients[control.client_count++] = (hr_client){.fd = fd, .number = ++control.client_numbers};
    return true;
}

/* The header is valid and of this version; an older or newer tool is told so before it is dropped. */
static bool acceptable(hr_client *client, const hr_message *head) {
    if (head->magic != HR_WIRE_MAGIC) return false;
    if (head->version != HR_WIRE_VERSION) {
        char reason[96];
        snprintf(reason, sizeof reason, "the tool speaks version %u, this host's shim %u", head->version,
                 HR_WIRE_VERSION);
        send_failure(client, head, HR_E_PROTOCOL, reason);
        return false;
    }
    return head->length <= sizeof(hr_paths) + (size_t)HR_WIRE_PATHS_MAX * HR_PATH_SIZE;
}

static bool reserve(hr_client *client, size_t size) {
    if (size <= client->capacity) return true;
    uint8_t *grown = realloc(client->buffer, size);
    if (grown == NULL) return false;
    client->buffer = grown;
    client->capacity = size;
    return true;
}

/* Reads what has come and serves what is complete; false when the connection is to be closed. */
static bool serve_client(hr_client *client, int *served) {
    hr_message head;
    size_t want = sizeof head;
    if (client->used >= sizeof head) {
        memcpy(&head, client->buffer, sizeof head);
        want = sizeof head + head.length;
    }
    if (!reserve(client, want)) return false;
    if (client->used < want) {
        ssize_t n = recv(client->fd, client->buffer + client->used, want - client->used, MSG_DONTWAIT);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        if (n == 0) return false;
        client->used += (size_t)n;
    }
    if (client->used < sizeof head) return true;
    memcpy(&head, client->buffer, sizeof head);
    if (!acceptable(client, &head)) return false;
    if (client->used < sizeof head + head.length) return true;
    client->used = 0;
    begin_serving(client);
    bool alive = handle(client, &head, client->buffer + sizeof head);
    end_serving();
    ++*served;
    return alive;
}

/* The listener's place in poll: left out (poll ignores -1) for a while after it could not accept. */
static int listener_now(int *timeout_ms) {
    uint64_t now = control.accept_after ? hr_monotonic_ns() : 0;
    if (now >= control.accept_after) {
        control.accept_after = 0;
        return control.listener;
    }
    int pause_ms = (int)((control.accept_after - now) / 1000000) + 1;
    if (*timeout_ms < 0 || *timeout_ms > pause_ms) *timeout_ms = pause_ms;
    return -1;
}

static int engine_step(int timeout_ms) {
    struct pollfd waits[CLIENTS + 2];
    uint32_t clients = control.client_count;
    waits[0] = (struct pollfd){control.wake, POLLIN, 0};
    waits[1] = (struct pollfd){listener_now(&timeout_ms), POLLIN, 0};
    for (uint32_t i = 0; i < clients; i++) waits[2 + i] = (struct pollfd){control.clients[i].fd, POLLIN, 0};
    int served = 0;
    if (poll(waits, 2 + clients, timeout_ms) <= 0) return 0;
    if (waits[0].revents) {
        uint64_t count;
        if (read(control.wake, &count, sizeof count) < 0) count = 0;
    }
    for (uint32_t i = clients; i-- > 0;) { /* downwards: closing moves the last one here */
        if (!waits[2 + i].revents) continue;
        int before = served;
        bool alive = true;
        do { /* the rest of a message that is under way, without another poll */
            before = served;
            alive = serve_client(&control.clients[i], &served);
            if (control.client_count != clients) return served; /* a hook forked; in the child nothing is left */
        } while (alive && served == before && control.clients[i].used >= sizeof(hr_message) && errno != EAGAIN);
        if (!alive) close_client(&control.clients[i]);
        clients = control.client_count;
    }
    for (int burst = 0; waits[1].revents && burst < BACKLOG && accept_client();) burst++;
    return served;
}

/* ---- serving ---- */

static void *control_thread(void *unused) {
    (void)unused;
    uint32_t owner = hr.owner;
    uint64_t served_at = 0; /* 0: nothing since the last hr_stage_ahead */
    while (!stopping() && hr.owner == owner) { /* else a hook forked, and this is the child's only thread */
        bool waiting = hr_module_waiting() && !(hr_serve_flags() & HR_SERVE_SAFE_POINT);
        bool tick = waiting || served_at || hr_unload_waiting();
        if (engine_step(tick ? GRACE_TICK_MS : -1) > 0) served_at = hr_monotonic_ns();
        /* Not at once: other hosts may be in the same transaction, and wait for the processor. */
        if (served_at && hr_monotonic_ns() - served_at >= GRACE_TICK_MS * UINT64_C(1000000)) {
            served_at = 0;
            hr_stage_ahead();
        }
        hr_slow_tell();
        if (waiting) hr_module_run_grace();
        hr_unload_run();
    }
    return NULL;
}

static bool address_of(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) return false;
    memcpy(address->sun_path, path, strlen(path));
    return true;
}

static bool is_dead(const char *path) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused = fd >= 0 && address_of(path, &address) &&
                   connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return refused;
}

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Sockets of dead hosts (K1). Those still being bound have another ending. */
static void remove_dead(const char *directory) {
    DIR *list = opendir(directory);
    if (list == NULL) return;
    for (struct dirent *entry; (entry = readdir(list));) {
        char path[HR_PATH_SIZE * 2];
        bool ours = ends_with(entry->d_name, ".sock");
        long binding = ends_with(entry->d_name, ".sock.new") ? strtol(entry->d_name, NULL, 10) : 0;
        if (!ours && (binding <= 0 || kill((pid_t)binding, 0) == 0 || errno != ESRCH)) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (!ours || is_dead(path)) unlink(path);
    }
    closedir(list);
}

static hr_status listen_at(const char *directory, hr_failure *failure) {
    char path[HR_PATH_SIZE + 32], binding[HR_PATH_SIZE + 40];
    struct sockaddr_un address;
    snprintf(path, sizeof path, "%s/%u.sock", directory, (unsigned)getpid());
    snprintf(binding, sizeof binding, "%s.new", path);
    if (strlen(path) >= sizeof control.path || !address_of(binding, &address))
        return hr_fail(failure, HR_E_IO, path, "at most 100 bytes", "set XDG_RUNTIME_DIR to a shorter path",
                       "the socket's path is too long");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(binding);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(binding, 0600) != 0 ||
        listen(fd, BACKLOG) != 0 || rename(binding, path) != 0) {
        hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "the socket %s cannot be made", path);
        if (fd >= 0) close(fd);
        unlink(binding);
        return HR_E_IO;
    }
    control.listener = fd;
    hr_copy_text(control.path, sizeof control.path, path);
    return HR_OK;
}

static void announce(hr_runtime *runtime, const char *name, uint32_t flags) {
    pthread_mutex_lock(&hr.lock);
    __atomic_store_n(&hr.serve_flags, flags, __ATOMIC_RELAXED);
    __atomic_store_n(&hr.served, runtime, __ATOMIC_RELEASE);
    hr_blackbox_begin();
    hr_copy_text(hr.box->name, sizeof hr.box->name, name);
    hr.box->state = HR_HOST_SERVED;
    hr_blackbox_end();
    pthread_mutex_unlock(&hr.lock);
}

static void close_listener(void) {
    if (control.listener >= 0) close(control.listener);
    control.listener = -1;
    control.path[0] = 0;
}

static void withdraw(void) {
    pthread_mutex_lock(&hr.lock);
    __atomic_store_n(&hr.served, NULL, __ATOMIC_RELEASE);
    __atomic_store_n(&hr.serve_flags, 0, __ATOMIC_RELAXED);
    hr.box->state = HR_HOST_EXITED;
    pthread_mutex_unlock(&hr.lock);
}

hr_status hr_serve(hr_runtime *runtime, const char *name, uint32_t flags, hr_failure *failure) {
    if (!hr_name_valid(name) || flags > (HR_SERVE_POLL | HR_SERVE_SAFE_POINT | HR_SERVE_NO_FORK))
        return hr_fail(failure, HR_E_USAGE, name, "1 to 127 bytes of UTF-8", NULL, "the host's name is invalid");
    hr_status status = hr_ready();
    if (status != HR_OK) return hr_fail(failure, status, NULL, NULL, NULL, "%s", hr_status_text(status));
    if (hr_served())
        return hr_fail(failure, HR_E_DUPLICATE, hr.box->name, NULL, "call hr_stop first",
                       "this process is served already");
    char directory[HR_PATH_SIZE];
    status = hr_runtime_directory(directory, sizeof directory, failure);
    if (status != HR_OK) return status;
    status = hr_blackbox_share(failure);
    if (status != HR_OK) return status;
    remove_dead(directory);
    hr_stage_remove_stale();
    hr_remains_clean();
    if (control.wake < 0) __atomic_store_n(&control.wake, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), __ATOMIC_RELEASE);
    if (control.wake < 0)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, "raise ulimit -n",
                       "no descriptor for the control thread");
    status = listen_at(directory, failure);
    if (status != HR_OK) return status;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&control.job_done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    __atomic_store_n(&control.stopping, false, __ATOMIC_RELEASE);
    /* Before hr_poll sees it served. */
    __atomic_store_n(&control.thread_runs, !(flags & HR_SERVE_POLL), __ATOMIC_SEQ_CST);
    announce(hr_runtime_or_default(runtime), name, flags);
    if ((flags & HR_SERVE_POLL) || hr_platform_thread(&control.thread, control_thread) == 0) return HR_OK;
    __atomic_store_n(&control.thread_runs, false, __ATOMIC_SEQ_CST);
    hr_stop();
    return hr_fail(failure, HR_E_LIMIT, NULL, NULL, "raise the limit of threads, or use HR_SERVE_POLL",
                   "the control thread cannot be started");
}

/* Ends what the engine waits for: a request, or a safe point. */
static void stop_engine(void) {
    pthread_mutex_lock(&control.job_lock);
    __atomic_store_n(&control.stopping, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&control.job_done);
    pthread_mutex_unlock(&control.job_lock);
    wake_engine();
    if (thread_runs()) pthread_join(control.thread, NULL);
    __atomic_store_n(&control.thread_runs, false, __ATOMIC_SEQ_CST);
}

void hr_stop(void) {
    if (hr_served() == NULL || serving || in_job) return; /* the engine would wait for itself */
    if (control.path[0]) unlink(control.path);
    stop_engine();
    pthread_mutex_lock(&control.engine); /* hr_poll has left: K3 */
    while (control.client_count) close_client(&control.clients[control.client_count - 1]);
    close_listener();
    withdraw();
    pthread_mutex_unlock(&control.engine);
    if (hr_module_waiting()) hr_control_wake(); /* K6 */
}

/* At exit the thread is not waited for: it may be inside a hook that never returns, and the process is going. */
void hr_control_exit(void) {
    if (hr_served() == NULL) return;
    if (control.path[0]) unlink(control.path);
    hr.box->state = HR_HOST_EXITED;
}

int hr_poll(int timeout_ms) {
    if (serving || thread_runs() || pthread_mutex_trylock(&control.engine) != 0) return 0;
    int served = 0, more = 0;
    /* hr_serve tells of its thread before it announces: what is served here, and has none, is this thread's to serve. */
    if (hr_served() && !thread_runs() && !stopping()) served = more = engine_step(timeout_ms);
    while (more > 0 && !stopping()) served += more = engine_step(0);
    pthread_mutex_unlock(&control.engine);
    hr_slow_tell();
    hr_module_run_grace();
    hr_unload_run();
    return served;
}

/* In the child: its parent's connections and socket are not its own. */
void hr_control_forked(void) {
    for (uint32_t i = 0; i < control.client_count; i++) {
        close(control.clients[i].fd);
        control.clients[i].fd = -1; /* the rest stays: where a hook forked, its request goes on, and answers nobody */
    }
    control.client_count = 0;
    control.thread_runs = false;
    control.job = NULL;
    if (!serving) pthread_mutex_init(&control.engine, NULL); /* else this thread holds it, or nobody does */
    pthread_mutex_init(&control.job_lock, NULL);
    close_listener();
    if (control.wake >= 0) close(control.wake);
    control.wake = -1;
    hr.served = NULL;
    hr.serve_flags = 0;
    hr_origin = 0;
    want_safe_point(hr_module_waiting());
}
