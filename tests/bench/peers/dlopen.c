/* Plain dlopen and dlsym by hand. With -DCOPYING it first copies the file to a name of its own, as whoever watches a
 * build output has to. With -DINOTIFY a thread copies and opens whatever is renamed to the watched name: the least that
 * watching can cost. With -DPOLLING it does what cr.h does about changes: stat at every tick, close, copy, open.
 *
 * The polling form is our own and follows the method of cr.h: the old library is closed before the new one is known to
 * be good, one thread. It has neither cr's crash handler nor its state transfer, and is better in one point: it
 * compares nanoseconds of the modification time (cr.h compares seconds: it never sees a second build in one). */
#define _GNU_SOURCE
#include "harness.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int32_t (*step_fn)(void *, const void *, void *);
static void *library;
static step_fn volatile now_a, now_b; /* volatile: read anew at every call */

static int load(const char *path) {
    void *next = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *a = next ? dlsym(next, "a") : NULL, *b = next ? dlsym(next, "b") : NULL;
    if (!a || !b) return 1;
    library = next; /* the old one stays: a caller may be inside */
    *(void **)(void *)&now_a = a;
    *(void **)(void *)&now_b = b;
    return 0;
}

#if defined(POLLING) || defined(COPYING) || defined(INOTIFY)
static const char *directory;

static int copy(const char *from, const char *to) {
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ssize_t size = in < 0 ? -1 : read(in, bytes, sizeof bytes);
    int failed = out < 0 || size < 0 || write(out, bytes, (size_t)size) != size;
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return failed;
}

static int load_copy(const char *path) {
    static int serial;
    char name[4096];
    snprintf(name, sizeof name, "%s/copy%d.so", directory, serial++);
    int failed = copy(path, name) || load(name);
    unlink(name);
    return failed;
}
#endif

#ifdef POLLING
static const char *watched;
static struct timespec stamp;

static int same(struct timespec one, struct timespec other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

static void tick(void) {
    struct stat status;
    if (stat(watched, &status) != 0 || same(status.st_mtim, stamp)) return;
    stamp = status.st_mtim;
    if (library) dlclose(library);
    library = NULL;
    now_a = now_b = NULL;
    load_copy(watched);
}
#endif

#ifdef INOTIFY
static void *watch(void *path) {
    char bytes[4096] __attribute__((aligned(8))), parent[4096];
    const char *name = strrchr(path, '/') + 1;
    snprintf(parent, sizeof parent, "%.*s", (int)(name - (const char *)path), (const char *)path);
    int events = inotify_init1(IN_CLOEXEC);
    if (inotify_add_watch(events, parent, IN_MOVED_TO | IN_CLOSE_WRITE) < 0) return NULL;
    for (ssize_t size; (size = read(events, bytes, sizeof bytes)) > 0;) {
        for (char *at = bytes; at < bytes + size;) {
            const struct inotify_event *event = (const void *)at;
            if (event->len && strcmp(event->name, name) == 0) load_copy(path);
            at += sizeof *event + event->len;
        }
    }
    return NULL;
}
#endif

static int open_module(const char *path, const char *scratch) {
#ifdef POLLING
    watched = path;
    directory = scratch;
    tick();
    return library == NULL;
#elif defined(COPYING)
    directory = scratch;
    return load_copy(path);
#elif defined(INOTIFY)
    static char watched[4096];
    pthread_t thread;
    directory = scratch;
    snprintf(watched, sizeof watched, "%s", path);
    return load_copy(path) || pthread_create(&thread, NULL, watch, watched) != 0;
#else
    (void)scratch;
    return load(path);
#endif
}

__attribute__((aligned(64))) static void loop(uint64_t calls, hb_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) now_a(state, &input, &output);
}

/* Without a function a host that checks has nothing to call. */
static int64_t call(step_fn function, hb_state *state, int64_t input) {
    int64_t output = -1;
    if (function) function(state, &input, &output);
    return output;
}

static int64_t call_a(hb_state *state, int64_t input) { return call(now_a, state, input); }
static int64_t call_b(hb_state *state, int64_t input) { return call(now_b, state, input); }

int main(int argc, char **argv) {
    hb_peer peer = {.name = "dlopen", .open = open_module, .loop = loop, .a = call_a, .b = call_b};
#ifdef POLLING
    peer.tick = tick;
    peer.tick_us = 16667;
    peer.single_thread = 1;
#elif defined(COPYING)
    peer.load = load_copy;
#elif !defined(INOTIFY)
    peer.load = load;
#endif
    return hb_main(argc, argv, &peer);
}
