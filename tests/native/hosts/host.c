/* A host that does what it is told: one command a line on standard input, one JSON object a line on standard output.
 * The tests drive it; each command is one call of the public API, so that a test reads as the sequence that it tests.
 *
 *     configure N              declare SYMBOL [none|block|fork|nest|7]     find SYMBOL      runtime N      free N
 *     call SYMBOL [TIMES]      load PATH                                 rollback [NAME]
 *     prepare PATH...          commit          abort                    serve NAME [FLAGS]   stop   poll MS   safepoint
 *     threads N SYMBOL TIMES   hold SYMBOL     release                   frame begin|end|SYMBOL
 *     veto STATUS   nest SYMBOL   state   symbols   modules   generation  dlopen PATH   thread COMMAND
 *     fork COMMAND; COMMAND... forkin SYMBOL COMMAND; COMMAND...         exit
 *     dlopenfd PATH            rush THREADS ROUNDS
 *
 * `dlopen` is the counter-proof of most hazards: what a host without hotreload does. */
#define _GNU_SOURCE
#include "json.h"
#include "shared.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <hotreload/hotreload.h>
#include <hotreload/patch.h>
#include <hotreload/wire.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS_MAX 6000
#define WORDS_MAX 80
#define HELD_MAX 600
#define RUNTIMES_MAX 4

typedef struct held_call {
    pthread_t thread;
    hr_slot *slot;
    int times;
    int32_t result;
    pthread_barrier_t *all_alive; /* may be null */
} held_call;

static host_state state;
static hr_slot slots[SLOTS_MAX];
static char *names[SLOTS_MAX];
static hr_runtime *owners[SLOTS_MAX];
static int slot_count;
static hr_runtime *runtimes[RUNTIMES_MAX];
static int runtime;
static hr_transaction *transaction;
static hr_report *prepared[HR_WIRE_PATHS_MAX];
static uint32_t prepared_count;
static held_call held[HELD_MAX];
static int held_count;
static hr_frame frame;
static char *fork_script; /* what the implementation of a `fork` slot runs in its child */
static hr_slot *nested;

static void execute(char *line, FILE *out);

/* ---- fallbacks ---- */

static int32_t fallback_zero(void *opaque, const void *input, void *output) {
    (void)opaque, (void)input, (void)output;
    return 0;
}

static int32_t fallback_seven(void *opaque, const void *input, void *output) {
    (void)opaque, (void)input, (void)output;
    return 7;
}

static int32_t fallback_block(void *opaque, const void *input, void *output) {
    (void)opaque, (void)input, (void)output;
    __atomic_add_fetch(&state.inside, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&state.gate, __ATOMIC_SEQ_CST)) usleep(1000);
    __atomic_sub_fetch(&state.inside, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int32_t fallback_nest(void *opaque, const void *input, void *output) {
    (void)input, (void)output;
    return state.nested(opaque);
}

static int32_t call_nested(host_state *of) { return nested ? hr_call(nested, of, NULL, NULL) : HR_UNRESOLVED; }

/* Runs the commands in a child, which ends as a program ends: by exit, with its handlers. Prints what it printed. */
static void run_child(char *script, FILE *out) {
    int pipe_ends[2];
    fflush(NULL);
    if (pipe(pipe_ends) != 0) return;
    pid_t child = fork();
    if (child == 0) {
        close(pipe_ends[0]);
        FILE *to_parent = fdopen(pipe_ends[1], "w");
        int first = 1;
        for (char *rest = script, *command; (command = strsep(&rest, ";"));) {
            if (!first) fputs(", ", to_parent);
            first = 0;
            execute(command, to_parent);
        }
        fclose(to_parent);
        if (!fork_script) exit(0); /* in an implementation: the child returns from its call first */
        return;
    }
    close(pipe_ends[1]);
    FILE *from_child = fdopen(pipe_ends[0], "r");
    fprintf(out, "{\"pid\": %d, \"lines\": [", (int)child);
    for (int c; (c = fgetc(from_child)) != EOF;) fputc(c, out);
    fclose(from_child);
    int status = 0;
    waitpid(child, &status, 0);
    fprintf(out, "], \"exit\": %d, \"signal\": %d}", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static FILE *fork_out;
static pid_t fork_parent;

static int32_t fallback_fork(void *opaque, const void *input, void *output) {
    (void)opaque, (void)input, (void)output;
    fork_parent = getpid();
    run_child(fork_script, fork_out);
    return 0;
}

static hr_patch_fn fallback_of(const char *kind) {
    if (!strcmp(kind, "none")) return NULL;
    if (!strcmp(kind, "block")) return fallback_block;
    if (!strcmp(kind, "fork")) return fallback_fork;
    if (!strcmp(kind, "nest")) return fallback_nest;
    if (!strcmp(kind, "7")) return fallback_seven;
    return fallback_zero;
}

/* ---- printing ---- */

static void print_status(FILE *out, hr_status status) {
    fprintf(out, "{\"code\": \"%s\", \"status\": %d}", hr_status_code((int32_t)status), (int)status);
}

static void print_report(FILE *out, const hr_report *report) {
    if (!report) {
        fputs("null", out);
        return;
    }
    fputc('{', out);
    json_pair(out, "code", hr_status_code(report->status));
    json_pair(out, "module", report->module);
    json_pair(out, "path", report->path);
    json_pair(out, "staged", report->staged);
    json_pair(out, "build_id", report->build_id);
    json_pair(out, "reason", report->failure.reason);
    json_pair(out, "found", report->failure.found);
    json_pair(out, "expected", report->failure.expected);
    json_pair(out, "fix", report->failure.fix);
    fprintf(out, "\"version\": %llu, \"generation\": %llu, \"warnings\": %u, \"us\": %llu, \"changes\": [",
            (unsigned long long)report->module_version, (unsigned long long)report->generation, report->warnings,
            (unsigned long long)report->us[HR_STEP_TOTAL]);
    for (uint32_t i = 0; i < report->change_count; i++) {
        const hr_change *change = &report->changes[i];
        fputs(i ? ", {" : "{", out);
        json_pair(out, "symbol", change->symbol);
        fprintf(out, "\"from\": %llu, \"to\": %llu, \"kind\": \"%s\"}", (unsigned long long)change->from,
                (unsigned long long)change->to,
                change->kind == HR_CHANGE_SWAPPED      ? "swapped"
                : change->kind == HR_CHANGE_UNDECLARED ? "undeclared"
                                                       : "kept");
    }
    fputs("]}", out);
}

static void print_reports(FILE *out, hr_status status, hr_report **reports, uint32_t count) {
    fprintf(out, "{\"code\": \"%s\", \"reports\": [", hr_status_code((int32_t)status));
    for (uint32_t i = 0; i < count; i++) {
        if (i) fputs(", ", out);
        print_report(out, reports[i]);
    }
    fputs("]}", out);
}

typedef struct visit_data {
    FILE *out;
    int count;
} visit_data;

static void print_visit(void *data, const char *name, uint64_t version) {
    visit_data *visit = data;
    fputs(visit->count++ ? ", [" : "[", visit->out);
    json_text(visit->out, name);
    fprintf(visit->out, ", %llu]", (unsigned long long)version);
}

/* ---- commands ---- */

static hr_slot *slot_named(const char *symbol) {
    for (int i = 0; i < slot_count; i++)
        if (owners[i] == runtimes[runtime] && !strcmp(names[i], symbol)) return &slots[i];
    return NULL;
}

static hr_slot *slot_new(const char *symbol, hr_patch_fn fallback) {
    if (slot_count == SLOTS_MAX) exit(3);
    names[slot_count] = strdup(symbol);
    owners[slot_count] = runtimes[runtime];
    slots[slot_count] = (hr_slot){names[slot_count], fallback, 0, 0};
    return &slots[slot_count++];
}

static void *hold(void *argument) {
    held_call *call = argument;
    if (call->all_alive) pthread_barrier_wait(call->all_alive);
    for (int i = 0; i < call->times; i++) call->result = hr_call(call->slot, &state, NULL, NULL);
    if (call->all_alive) pthread_barrier_wait(call->all_alive);
    return NULL;
}

static void command_threads(FILE *out, int count, hr_slot *slot, int times) {
    static held_call calls[HELD_MAX];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    int32_t sum = 0;
    for (int i = 0; i < count; i++) {
        calls[i] = (held_call){.slot = slot, .times = times, .all_alive = &barrier};
        if (pthread_create(&calls[i].thread, NULL, hold, &calls[i])) exit(3);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(calls[i].thread, NULL);
        sum += calls[i].result;
    }
    pthread_barrier_destroy(&barrier);
    fprintf(out, "{\"sum\": %d}", sum);
}

/* Threads that call slots which nobody has declared, each slot all at the same moment: its first call declares it. */
typedef struct rush_data {
    hr_slot *slots;
    int rounds, threads;
    int arrived; /* atomic: threads that reached a round, in all */
} rush_data;

static void *rush(void *argument) {
    rush_data *data = argument;
    for (int round = 0; round < data->rounds; round++) {
        __atomic_add_fetch(&data->arrived, 1, __ATOMIC_SEQ_CST);
        /* Spinning makes the threads start together; yielding keeps a busy machine from spending a time slice on it. */
        for (int spins = 0; __atomic_load_n(&data->arrived, __ATOMIC_SEQ_CST) < (round + 1) * data->threads; spins++)
            if (spins > 2000) sched_yield();
        if (hr_call(&data->slots[round], &state, NULL, NULL) != 0) exit(3);
    }
    return NULL;
}

static void command_rush(FILE *out, int threads, int rounds) {
    rush_data data = {calloc((size_t)rounds, sizeof(hr_slot)), rounds, threads, 0};
    pthread_t others[HELD_MAX];
    for (int i = 0; i < rounds; i++) {
        char name[32];
        snprintf(name, sizeof name, "rush.%d", i);
        data.slots[i] = (hr_slot)HR_SLOT(strdup(name), fallback_zero);
    }
    for (int i = 0; i < threads; i++)
        if (pthread_create(&others[i], NULL, rush, &data)) exit(3);
    for (int i = 0; i < threads; i++) pthread_join(others[i], NULL);
    print_status(out, HR_OK); /* the slots are the dispatch table's now and stay */
}

static void command_dlopen(FILE *out, const char *path, int through_descriptor) {
    char name[32];
    int fd = through_descriptor ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    void *handle = dlopen(through_descriptor ? name : path, RTLD_NOW | RTLD_LOCAL);
    if (fd >= 0) close(fd);
    const hr_patch_module_v1 *module = handle ? dlsym(handle, "HOTPATCH_MODULE_V1") : NULL;
    if (!module) {
        fputs("{\"error\": ", out);
        json_text(out, dlerror());
        fputc('}', out);
        return;
    }
    fprintf(out, "{\"version\": %llu, \"result\": %d}", (unsigned long long)module->module_version,
            module->entries[0].func(&state, NULL, NULL));
}

static void command_frame(FILE *out, const char *what) {
    int32_t result = 0;
    if (!strcmp(what, "begin")) frame = hr_frame_begin();
    else if (!strcmp(what, "end")) hr_frame_end(&frame);
    else {
        hr_slot *slot = slot_named(what);
        if (!slot) exit(3);
        result = hr_frame_call(&frame, slot, &state, NULL, NULL);
    }
    fprintf(out, "{\"result\": %d}", result);
}

static void command_serve(FILE *out, const char *name, uint32_t flags) {
    hr_failure failure = {0};
    char directory[HR_PATH_SIZE] = "";
    hr_status status = hr_serve(runtimes[runtime], name, flags, &failure);
    if (status == HR_OK) hr_runtime_directory(directory, sizeof directory, &failure);
    fputc('{', out);
    json_pair(out, "code", hr_status_code((int32_t)status));
    json_pair(out, "reason", failure.reason);
    json_pair(out, "fix", failure.fix);
    json_pair(out, "directory", directory);
    fprintf(out, "\"pid\": %d}", (int)getpid());
}

static void command_prepare(FILE *out, char **paths, uint32_t count) {
    hr_status status = hr_prepare(runtimes[runtime], (const char *const *)paths, count, prepared, &transaction);
    prepared_count = count;
    print_reports(out, status, prepared, count);
    if (status == HR_OK) return;
    for (uint32_t i = 0; i < count; i++) hr_report_free(prepared[i]);
    transaction = NULL;
}

static void command_finish(FILE *out, int commit) {
    if (!transaction) exit(3);
    if (commit) hr_commit(transaction, prepared);
    else hr_abort(transaction);
    print_reports(out, HR_OK, prepared, commit ? prepared_count : 0);
    for (uint32_t i = 0; i < prepared_count; i++) hr_report_free(prepared[i]);
    transaction = NULL;
}

typedef struct threaded_command {
    char *line;
    FILE *out;
} threaded_command;

static void *run_threaded(void *argument) {
    threaded_command *command = argument;
    execute(command->line, command->out);
    return NULL;
}

static void command_visit(FILE *out, int modules) {
    visit_data visit = {out, 0};
    fputc('[', out);
    if (modules) hr_each_module(runtimes[runtime], print_visit, &visit);
    else hr_each_symbol(runtimes[runtime], print_visit, &visit);
    fputc(']', out);
}

static void execute(char *line, FILE *out) {
    char *words[WORDS_MAX] = {0};
    char copy[65536];
    int count = 0;
    while (*line == ' ') line++;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *rest = copy, *word; count < WORDS_MAX && (word = strsep(&rest, " \n"));)
        if (*word) words[count++] = word;
    if (!count) exit(3);
    const char *verb = words[0], *first = count > 1 ? words[1] : "";
    char *rest_of_line = strchr(line, ' ') ? strchr(line, ' ') + 1 : line;
    hr_runtime *now = runtimes[runtime];

    if (!strcmp(verb, "configure")) {
        print_status(out, hr_configure((uint32_t)atoi(first))); /* before anything else, so before the context below */
        return;
    }
    if (!now) hr_set_context(NULL, &state);
    if (!strcmp(verb, "declare"))
        print_status(out, hr_declare(now, slot_new(first, fallback_of(count > 2 ? words[2] : ""))));
    else if (!strcmp(verb, "find")) print_status(out, hr_find(now, first, slot_new(first, NULL)));
    else if (!strcmp(verb, "call")) {
        hr_slot *slot = slot_named(first);
        if (!slot) exit(3);
        int32_t result = 0;
        for (int i = 0; i < (count > 2 ? atoi(words[2]) : 1); i++) result = hr_call(slot, &state, NULL, NULL);
        fprintf(out, "{\"result\": %d}", result);
    } else if (!strcmp(verb, "load")) {
        hr_report *report = NULL;
        hr_load(now, first, &report);
        print_report(out, report);
        hr_report_free(report);
    } else if (!strcmp(verb, "rollback")) {
        hr_report **reports = NULL;
        uint32_t number = 0;
        hr_status status = hr_rollback(now, count > 1 ? first : NULL, &reports, &number);
        print_reports(out, status, reports, number);
        hr_reports_free(reports, number);
    } else if (!strcmp(verb, "prepare")) command_prepare(out, words + 1, (uint32_t)count - 1);
    else if (!strcmp(verb, "commit")) command_finish(out, 1);
    else if (!strcmp(verb, "abort")) command_finish(out, 0);
    else if (!strcmp(verb, "serve")) command_serve(out, first, count > 2 ? (uint32_t)atoi(words[2]) : 0);
    else if (!strcmp(verb, "stop")) {
        hr_stop();
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "poll")) fprintf(out, "{\"result\": %d}", hr_poll(atoi(first)));
    else if (!strcmp(verb, "safepoint")) {
        hr_safepoint();
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "threads")) command_threads(out, atoi(first), slot_named(words[2]), atoi(words[3]));
    else if (!strcmp(verb, "rush")) command_rush(out, atoi(first), atoi(words[2]));
    else if (!strcmp(verb, "hold")) {
        held_call *call = &held[held_count++];
        int before = __atomic_load_n(&state.inside, __ATOMIC_SEQ_CST);
        *call = (held_call){.slot = slot_named(first), .times = 1};
        if (!call->slot || pthread_create(&call->thread, NULL, hold, call)) exit(3);
        while (__atomic_load_n(&state.inside, __ATOMIC_SEQ_CST) == before) usleep(1000);
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "release")) {
        __atomic_store_n(&state.gate, 1, __ATOMIC_SEQ_CST);
        while (held_count) pthread_join(held[--held_count].thread, NULL);
        __atomic_store_n(&state.gate, 0, __ATOMIC_SEQ_CST);
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "frame")) command_frame(out, first);
    else if (!strcmp(verb, "veto")) {
        state.veto = atoi(first);
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "nest")) {
        nested = slot_named(first);
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "state"))
        fprintf(out, "{\"loads\": %d, \"unloads\": %d, \"inside\": %d, \"value\": %d}", state.loads, state.unloads,
                __atomic_load_n(&state.inside, __ATOMIC_SEQ_CST), state.value);
    else if (!strcmp(verb, "symbols")) command_visit(out, 0);
    else if (!strcmp(verb, "modules")) command_visit(out, 1);
    else if (!strcmp(verb, "generation"))
        fprintf(out, "{\"result\": %llu}", (unsigned long long)hr_generation(now));
    else if (!strcmp(verb, "dlopen")) command_dlopen(out, first, 0);
    else if (!strcmp(verb, "dlopenfd")) command_dlopen(out, first, 1);
    else if (!strcmp(verb, "runtime")) {
        runtime = atoi(first);
        hr_status status = HR_OK;
        if (runtime && !runtimes[runtime]) status = hr_runtime_new(&runtimes[runtime]);
        if (status == HR_OK) hr_set_context(runtimes[runtime], &state);
        print_status(out, status);
    } else if (!strcmp(verb, "free")) {
        hr_runtime_free(runtimes[atoi(first)]);
        runtimes[atoi(first)] = NULL;
        runtime = 0;
        print_status(out, HR_OK);
    } else if (!strcmp(verb, "thread")) {
        threaded_command command = {rest_of_line, out};
        pthread_t thread;
        if (pthread_create(&thread, NULL, run_threaded, &command)) exit(3);
        pthread_join(thread, NULL);
    } else if (!strcmp(verb, "fork")) run_child(rest_of_line, out);
    else if (!strcmp(verb, "forkin")) {
        hr_slot *slot = slot_named(first);
        fork_script = strchr(rest_of_line, ' ') + 1;
        fork_out = out;
        if (!slot) exit(3);
        hr_call(slot, &state, NULL, NULL);
        if (getpid() != fork_parent) exit(0);
        fork_script = NULL;
    } else if (!strcmp(verb, "exit")) exit(count > 1 ? atoi(first) : 0);
    else exit(3);
}

int main(void) {
    static char line[65536];
    state.nested = call_nested;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        execute(line, stdout);
        fputc('\n', stdout);
        fflush(stdout);
    }
    return 0;
}
