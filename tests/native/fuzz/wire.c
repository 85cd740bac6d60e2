/* Fuzz target: what a peer may send to a host, over the host's own socket. The input is all that one connection sends;
 * the host (this process, by hr_poll) serves it until it closes the connection. */
#define _GNU_SOURCE 1
#include "target.h"

#include <hotreload/hotreload.h>
#include <hotreload/wire.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PART 512u /* bytes sent between two looks at the answers: they must never fill the socket */

static int32_t plain(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    return 0;
}

static hr_slot first = HR_SLOT("m.one", plain);
static hr_slot second = HR_SLOT("m.two", plain);
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static uint8_t answers[1 << 20]; /* of one input; what is beyond is dropped */
static size_t answered;

/* Shared with the corpus's modules, of which one differs and one would migrate it. */
#define POINT_FIELDS(F) F(Point, x, float) F(Point, y, float)
HR_STRUCT(Point, POINT_FIELDS)
HR_LAYOUT(Point, POINT_FIELDS)
HR_HOST_LAYOUT(layout, HR_TYPE(Point), HR_TAKES("m.one", hr_unchecked, hr_unchecked, hr_unchecked))
static Point point; /* no resize: a larger one has no room */

void fuzz_start(void) {
    hr_failure failure;
    char directory[HR_PATH_SIZE];
    if (hr_declare(NULL, &first) != HR_OK || hr_declare(NULL, &second) != HR_OK) abort();
    hr_state state = {"Point", &point, sizeof point, NULL, NULL, 0};
    if (hr_declare_layout(NULL, &layout, NULL) != HR_OK || hr_state_register(NULL, &state) != HR_OK) abort();
    if (hr_runtime_directory(directory, sizeof directory, &failure) != HR_OK) abort();
    if (hr_serve(NULL, "fuzz", HR_SERVE_POLL, &failure) != HR_OK) abort();
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/%u.sock", directory, (unsigned)getpid());
}

static bool drain(int fd) {
    uint8_t part[65536];
    for (;;) {
        ssize_t got = recv(fd, part, sizeof part, MSG_DONTWAIT);
        if (got == 0) return false;
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        size_t room = sizeof answers - answered;
        size_t kept = (size_t)got < room ? (size_t)got : room;
        memcpy(answers + answered, part, kept);
        answered += kept;
    }
}

static void converse(int fd, const uint8_t *bytes, size_t size) {
    bool open = true;
    for (size_t sent = 0; open && sent < size;) {
        size_t part = size - sent < PART ? size - sent : PART;
        ssize_t n = send(fd, bytes + sent, part, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) sent += (size_t)n;
        else if (errno != EAGAIN) break;
        hr_poll(0);
        open = drain(fd);
    }
    shutdown(fd, SHUT_WR);
    for (int rounds = 0; open; rounds++) {
        hr_poll(0);
        open = drain(fd);
        if (rounds > 100000) abort(); /* the host never gives the connection up */
    }
}

/* The codes of one answer's body: the request's own, and each report's. */
static void tell_reply(FILE *told, const uint8_t *body, size_t length) {
    hr_reply reply;
    if (length < sizeof reply) return;
    memcpy(&reply, body, sizeof reply);
    fprintf(told, "%s\n", hr_status_code(reply.status));
    size_t at = sizeof reply;
    for (uint32_t i = 0; i < reply.count && at + sizeof(hr_report) <= length; i++) {
        hr_report report;
        memcpy(&report, body + at, sizeof report);
        fprintf(told, "%s\n", hr_status_code(report.status));
        if (report.size < sizeof report) abort();
        at += report.size;
    }
}

static void tell(FILE *told) {
    for (size_t at = 0; at + sizeof(hr_message) <= answered;) {
        hr_message head;
        memcpy(&head, answers + at, sizeof head);
        at += sizeof head;
        if (head.length > answered - at) break;
        if (head.length == sizeof(hr_welcome)) fprintf(told, "welcome\n");
        else tell_reply(told, answers + at, head.length);
        at += head.length;
    }
}

void fuzz_one(const uint8_t *bytes, size_t size, FILE *told) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) abort();
    answered = 0;
    converse(fd, bytes, size);
    close(fd);
    if (told) tell(told);
    if (hr_call(&first, NULL, NULL, NULL) == HR_UNRESOLVED) abort(); /* whatever came: the slot runs something */
}
