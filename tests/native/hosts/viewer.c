/* Looks into a host's black box from outside, as a tool does: connects, takes the descriptor, and prints the box as one
 * JSON object for each line on standard input. It drops its connection first, so that it reads dead hosts as well.
 *
 *     viewer SOCKET */
#define _GNU_SOURCE
#include "json.h"
#include <hotreload/hotreload.h>
#include <hotreload/wire.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EVENTS_SHOWN 64

static int take_box(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct {
        hr_message message;
        hr_hello hello;
    } request = {{HR_WIRE_MAGIC, HR_WIRE_VERSION, HR_MSG_HELLO, sizeof(hr_hello), 1}, {"viewer"}};
    struct {
        hr_message message;
        hr_welcome welcome;
    } reply;
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {&reply, sizeof reply};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), box = -1;

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return -1;
    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request) return -1;
    if (recvmsg(fd, &message, 0) < (ssize_t)sizeof reply.message) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&box, CMSG_DATA(header), sizeof box);
    close(fd);
    return box;
}

static void print_slots(const hr_box_reader *reader, const hr_box *header) {
    hr_box_slot *slots = calloc(header->slot_count + 1, sizeof *slots);
    uint64_t *calls = calloc(header->slot_count + 1, sizeof *calls);
    uint32_t *in_flight = calloc(header->slot_count + 1, sizeof *in_flight);
    uint32_t count = hr_box_slots(reader, slots, header->slot_count);
    static const char *const states[] = {"free", "fallback", "live", "undeclared", "probation"};

    hr_box_calls(reader, calls, in_flight, count);
    printf("\"slots\": {");
    for (uint32_t i = 1, shown = 0; i < count; i++) {
        if (slots[i].state == HR_SLOT_FREE || slots[i].state > HR_SLOT_PROBATION) continue;
        if (slots[i].runtime != header->runtime) continue;
        printf(shown++ ? ", " : "");
        json_text(stdout, slots[i].symbol);
        printf(": {\"version\": %llu, \"state\": \"%s\", \"swaps\": %llu, \"module\": %u, \"calls\": %llu, "
               "\"calls_on_version\": %llu, \"in_flight\": %u}",
               (unsigned long long)slots[i].version, states[slots[i].state], (unsigned long long)slots[i].swaps,
               slots[i].module, (unsigned long long)(calls[i] - slots[i].calls_base),
               (unsigned long long)(calls[i] - slots[i].calls_base - slots[i].calls_at_swap), in_flight[i]);
    }
    printf("}, ");
    free(slots);
    free(calls);
    free(in_flight);
}

static void print_modules(const hr_box_reader *reader, const hr_box *header) {
    hr_box_module *modules = calloc(header->module_count + 1, sizeof *modules);
    uint32_t count = hr_box_modules(reader, modules, header->module_count);
    static const char *const states[] = {"free", "live", "retired", "unloaded"};

    printf("\"modules\": [");
    for (uint32_t i = 0; i < count; i++) {
        printf(i ? ", {" : "{");
        json_pair(stdout, "name", modules[i].name);
        json_pair(stdout, "staged", modules[i].staged);
        json_pair(stdout, "reason", modules[i].reason);
        printf("\"version\": %llu, \"state\": \"%s\"}", (unsigned long long)modules[i].version,
               modules[i].state <= HR_MODULE_UNLOADED ? states[modules[i].state] : "?");
    }
    printf("], ");
    free(modules);
}

static void print_events(const hr_box_reader *reader, const hr_box *header) {
    static hr_event events[EVENTS_SHOWN];
    static const char *const kinds[] = {"?",      "swap",  "reject", "same", "rollback",
                                        "retire", "unload", "crash",  "serve", "blocked", "called", "budget"};
    uint64_t after = header->event_count > EVENTS_SHOWN ? header->event_count - EVENTS_SHOWN : 0;
    uint32_t count = hr_box_events(reader, after, events, EVENTS_SHOWN);

    printf("\"events\": [");
    for (uint32_t i = 0; i < count; i++) {
        printf(i ? ", {" : "{");
        json_pair(stdout, "event", events[i].kind < sizeof kinds / sizeof *kinds ? kinds[events[i].kind] : "?");
        json_pair(stdout, "code", hr_status_code(events[i].status));
        json_pair(stdout, "module", events[i].module);
        json_pair(stdout, "changes", events[i].changes);
        printf("\"origin\": %u, \"generation\": %llu}", events[i].origin, (unsigned long long)events[i].generation);
    }
    printf("]");
}

int main(int argc, char **argv) {
    char line[64];
    hr_failure failure = {0};
    hr_box_reader *reader = NULL;
    hr_box header;
    int box = argc == 2 ? take_box(argv[1]) : -1;
    if (box < 0) {
        fprintf(stderr, "viewer: no box from %s\n", argc == 2 ? argv[1] : "nobody");
        return 1;
    }
    hr_status status = hr_box_open(box, &reader, &failure);
    close(box);
    if (status != HR_OK) {
        fprintf(stderr, "viewer: %s\n", failure.reason);
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        hr_box_header(reader, &header);
        printf("{");
        json_pair(stdout, "name", header.name);
        printf("\"pid\": %u, \"state\": %u, \"generation\": %llu, \"shards\": %u, \"retired_tables\": %u, "
               "\"blocked_thread\": %u, \"blocked_slot\": %u, \"resident\": %llu, \"event_count\": %llu, ",
               header.pid, header.state, (unsigned long long)header.generation, header.shard_count,
               header.retired_tables, header.blocked_thread, header.blocked_slot,
               (unsigned long long)header.resident_modules, (unsigned long long)header.event_count);
        print_slots(reader, &header);
        print_modules(reader, &header);
        print_events(reader, &header);
        printf("}\n");
        fflush(stdout);
    }
    hr_box_close(reader);
    return 0;
}
