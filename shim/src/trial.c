/* The trial run: before a module is opened in the host, forked copies of the host open it and make one call each, the very
 * call that a thread of the host is making, with the same arguments and its own copy of all memory: of each slot the next
 * few calls, for what one input does not show another may.
 *
 * The copy is made by the calling thread, inside the call, because only there the arguments are alive: the shim knows
 * neither their sizes nor what they point to. (Recording inputs was rejected: bytes behind pointers cannot be copied
 * without knowing how many they are, and a recorded pointer dangles as soon as the call has returned.)
 *
 *   host's caller ----fork----> monitor ----fork----> worker: open, on_load, the call, its status
 *        |                         '- waits for the worker, ends it after trial_ms, and tells how it ended
 *        '- makes the call as ever, and leaves its status for comparison
 *
 * Invariants:
 *  Y1  One trial at a time (trial.busy). Its places are in memory shared with the copies; a place goes
 *      FREE -> WAITING -> CLAIMED -> TOLD, each step by one party: the preparing thread, one caller, the monitor.
 *  Y2  A caller that finds no place waiting for its slot, or takes the last, drops the flag: a trial that is over costs
 *      each slot one slow call.
 *  Y3  The preparing thread never waits for a caller longer than trial_ms, nor for a monitor longer than twice that and a
 *      second.
 *  Y4  The worker's standard output and error lead nowhere: what the host prints appears once. It shares the host's other
 *      open files. Its fatal signals have their default actions, and leave no core file.
 *  Y5  A caller may come back, from its fork or from its own call, when its trial is long over. Places that somebody may
 *      still write to are never used again: the page is left to them, and the next trial has a new one.
 *  Y6  The places belong to the process that began the trial: a child has none, whoever forked it. */
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACES 16u /* calls that are tried, */
#define CALLS 4u   /* at most so many of a slot; with more than four slots fewer, and of slots beyond PLACES none */
#define LOOK_US 500

enum { FREE, WAITING, CLAIMED, TOLD };
enum { OPENING, LOADING, CALLING, RETURNED }; /* how far a worker came */
enum { ENDED, KILLED_BY_SIGNAL, EXITED, HUNG };

typedef struct trial_place {
    uint32_t state; /* atomic */
    uint32_t index; /* the slot; 0: no call, the module is only opened */
    uint32_t entry; /* of the module */
    uint32_t phase; /* atomic */
    uint32_t end;
    int32_t detail;  /* the signal, or the exit status */
    int32_t status;  /* that the new function returned */
    int32_t running; /* that the running one returned; valid when answered */
    uint32_t answered; /* atomic: the caller's own call has returned */
    uint64_t version;  /* that the running one has */
    pid_t monitor;
} trial_place;

static struct {
    pthread_mutex_t busy;
    trial_place *places; /* shared memory, kept for the next trial unless Y5 forbids it */
    uint32_t used;       /* places of the last trial */
    const char *staged;
    void *context;
    uint32_t count; /* atomic: places in use */
    uint32_t milliseconds;
} trial = {.busy = PTHREAD_MUTEX_INITIALIZER};

/* ---- in the copies ---- */

static void default_signals(void) {
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGTERM, SIGALRM};
    sigset_t none;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) signal(fatal[i], SIG_DFL);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static void silence(void) {
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
}

static void reach(trial_place *place, uint32_t phase) { __atomic_store_n(&place->phase, phase, __ATOMIC_RELEASE); }

/* What the host itself refuses in its own words (a missing symbol, a veto) counts as tried. */
static void work(trial_place *place, void *state, const void *input, void *output) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    default_signals();
    silence();
    hr_platform_end_with_parent();
    reach(place, OPENING);
    void *handle = trial.staged ? dlopen(trial.staged, RTLD_NOW | RTLD_LOCAL) : NULL; /* null: over already (Y5) */
    const hr_patch_module_v1 *module = handle ? dlsym(handle, "HOTPATCH_MODULE_V1") : NULL;
    if (module) {
        reach(place, LOADING);
        if (module->on_load == NULL || module->on_load(trial.context) == 0) {
            reach(place, CALLING);
            if (place->index) place->status = module->entries[place->entry].func(state, input, output);
        }
    }
    reach(place, RETURNED);
    _exit(0);
}

static void watch(trial_place *place, pid_t worker) {
    uint64_t until = hr_monotonic_ns() + (uint64_t)trial.milliseconds * 1000000;
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(worker, &status, WNOHANG)) == 0 && hr_monotonic_ns() < until) usleep(LOOK_US);
    if (ended == 0) {
        kill(worker, SIGKILL);
        waitpid(worker, &status, 0);
        place->end = HUNG;
    } else if (WIFSIGNALED(status)) {
        place->end = KILLED_BY_SIGNAL;
        place->detail = WTERMSIG(status);
    } else {
        place->end = __atomic_load_n(&place->phase, __ATOMIC_ACQUIRE) == RETURNED ? ENDED : EXITED;
        place->detail = WEXITSTATUS(status);
    }
}

/* Runs in the first copy, which is this thread alone. */
static void monitor(trial_place *place, void *state, const void *input, void *output) {
    signal(SIGCHLD, SIG_DFL); /* where the host ignores it, nobody could wait for the worker */
    pid_t worker = fork();
    if (worker == 0) work(place, state, input, output);
    if (worker > 0) watch(place, worker);
    else place->end = ENDED, place->phase = OPENING; /* no second copy: not tried */
    __atomic_store_n(&place->state, TOLD, __ATOMIC_RELEASE);
    _exit(0);
}

/* ---- in the host ---- */

/* False: no copy could be made. */
static bool start(trial_place *place, void *state, const void *input, void *output) {
    pid_t copy = fork();
    if (copy == 0) monitor(place, state, input, output);
    __atomic_store_n(&place->monitor, copy > 0 ? copy : -1, __ATOMIC_RELEASE);
    if (copy < 0) __atomic_store_n(&place->state, TOLD, __ATOMIC_RELEASE);
    return copy > 0;
}

static trial_place *claim(uint32_t index) {
    uint32_t count = __atomic_load_n(&trial.count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t waiting = WAITING;
        if (trial.places[i].index == index &&
            __atomic_compare_exchange_n(&trial.places[i].state, &waiting, CLAIMED, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return &trial.places[i];
    }
    return NULL;
}

static bool awaited(uint32_t index) {
    uint32_t count = __atomic_load_n(&trial.count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++)
        if (trial.places[i].index == index && __atomic_load_n(&trial.places[i].state, __ATOMIC_ACQUIRE) == WAITING)
            return true;
    return false;
}

hr_trial_ticket hr_trial_begin(const hr_table *table, uint32_t index, uint64_t version, void *state,
                               const void *input, void *output) {
    trial_place *place = claim(index);
    if (!awaited(index)) hr_dispatch_drop(table, index, HR_ENTRY_TRIAL); /* Y2 */
    if (place == NULL) return NULL;
    place->version = version;
    int saved = errno;
    start(place, state, input, output);
    errno = saved;
    return place;
}

void hr_trial_end(hr_trial_ticket ticket, int32_t status) {
    trial_place *place = ticket;
    place->running = status;
    __atomic_store_n(&place->answered, 1, __ATOMIC_RELEASE); /* partner: the acquire load in judge */
}

/* Y5: whether everybody who had a place in the last trial has left it. */
static bool all_back(void) {
    for (uint32_t i = 0; i < trial.used; i++) {
        const trial_place *place = &trial.places[i];
        if (__atomic_load_n(&place->state, __ATOMIC_ACQUIRE) == FREE) continue;
        if (!__atomic_load_n(&place->monitor, __ATOMIC_ACQUIRE)) return false;
        if (!__atomic_load_n(&place->answered, __ATOMIC_ACQUIRE)) return false;
    }
    return true;
}

static bool make_room(void) {
    if (trial.places && all_back()) return true;
    void *memory = mmap(NULL, PLACES * sizeof(trial_place), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    trial.places = memory;
    trial.used = 0;
    return true;
}

/* Places for each of the module's slots that the host has, as far as there are places: first one for each. Returns how
 * many there are; `slots` of them are of different slots. */
static uint32_t choose(hr_runtime *runtime, const hr_manifest *manifest, uint32_t *slots, uint32_t *warnings) {
    uint32_t count = 0;
    pthread_mutex_lock(&hr.lock);
    for (uint32_t k = 0; k < manifest->entry_count; k++) {
        uint32_t index = hr_slot_lookup(runtime, manifest->entries[k].name);
        if (index == 0) continue;
        if (count < PLACES) trial.places[count++] = (trial_place){.state = WAITING, .index = index, .entry = k};
        else *warnings |= HR_WARN_UNTRIED;
    }
    pthread_mutex_unlock(&hr.lock);
    *slots = count;
    for (uint32_t each = 1; each < CALLS && count + *slots <= PLACES; each++)
        for (uint32_t i = 0; i < *slots; i++) trial.places[count++] = trial.places[i];
    return count;
}

/* Asks the callers. Without memory for a table nobody is asked, and nothing is tried but the opening. */
static void ask(uint32_t count, uint32_t slots) {
    uint32_t indices[PLACES];
    pthread_mutex_lock(&hr.lock);
    for (uint32_t i = 0; i < slots; i++) indices[i] = trial.places[i].index;
    __atomic_store_n(&trial.count, count, __ATOMIC_RELEASE); /* partner: the load in claim; before the flags are seen */
    if (hr_dispatch_flag(indices, slots, HR_ENTRY_TRIAL) == HR_OK) {
        hr_reclaim_advance();
        hr_reclaim_tables();
    }
    pthread_mutex_unlock(&hr.lock);
}

static bool told(const trial_place *place) { return __atomic_load_n(&place->state, __ATOMIC_ACQUIRE) == TOLD; }

/* 0: the caller has not come back from its fork, though its copies may have ended meanwhile. -1: it made none. */
static pid_t monitor_of(const trial_place *place) { return __atomic_load_n(&place->monitor, __ATOMIC_ACQUIRE); }

static uint32_t still_waiting(uint32_t count) {
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < count; i++)
        waiting += __atomic_load_n(&trial.places[i].state, __ATOMIC_ACQUIRE) == WAITING;
    return waiting;
}

/* Whether the slot of a place has been called: any of its places has. */
static bool slot_came(uint32_t count, uint32_t index) {
    for (uint32_t i = 0; i < count; i++)
        if (trial.places[i].index == index) {
            uint32_t state = __atomic_load_n(&trial.places[i].state, __ATOMIC_ACQUIRE);
            if (state == CLAIMED || state == TOLD) return true;
        }
    return false;
}

static bool all_came(uint32_t count, uint32_t slots) {
    for (uint32_t i = 0; i < slots; i++)
        if (!slot_came(count, trial.places[i].index)) return false;
    return true;
}

/* Until each slot has been called, or time is out; then a tenth of that for further calls. What still waits after it is
 * taken back. */
static void wait_for_callers(uint32_t count, uint32_t slots) {
    uint64_t patience = (uint64_t)trial.milliseconds * 1000000, until = hr_monotonic_ns() + patience;
    while (!all_came(count, slots) && hr_monotonic_ns() < until) usleep(LOOK_US);
    uint64_t more = hr_monotonic_ns() + patience / 10;
    if (more > until) more = until;
    while (still_waiting(count) && hr_monotonic_ns() < more) usleep(LOOK_US);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t still = WAITING;
        __atomic_compare_exchange_n(&trial.places[i].state, &still, FREE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
}

/* A monitor is reaped here; a host that waits for any child may have been quicker. */
static void wait_for_monitor(trial_place *place) {
    uint64_t until = hr_monotonic_ns() + 2 * (uint64_t)trial.milliseconds * 1000000 + UINT64_C(1000000000); /* Y3 */
    while ((!told(place) || monitor_of(place) == 0) && hr_monotonic_ns() < until) usleep(LOOK_US);
    pid_t copy = monitor_of(place);
    if (copy <= 0) return;
    if (!told(place)) { /* and only if it is ours to wait for: the number may be another process's by now */
        if (waitpid(copy, NULL, WNOHANG) != 0) return;
        kill(copy, SIGKILL);
    }
    while (waitpid(copy, NULL, 0) < 0 && errno == EINTR) {
    }
}

static const char *where(uint32_t phase) {
    return phase == OPENING ? "while the module was opened" : phase == LOADING ? "in on_load" : "in the call";
}

static hr_status verdict(const trial_place *place, const char *symbol, hr_failure *failure) {
    uint32_t phase = __atomic_load_n(&place->phase, __ATOMIC_ACQUIRE);
    bool answered = __atomic_load_n(&place->answered, __ATOMIC_ACQUIRE); /* partner: the store in hr_trial_end */
    char found[96], expected[96];
    snprintf(expected, sizeof expected, "what v%llu does: it returned %d", (unsigned long long)place->version,
             place->running);
    const char *wanted = place->index && answered ? expected : "a return";
    switch (place->end) {
    case KILLED_BY_SIGNAL:
        snprintf(found, sizeof found, "signal %d (%s) %s", place->detail, strsignal(place->detail), where(phase));
        return hr_fail(failure, HR_E_CRASH, found, wanted, "correct the patch; nothing of it has run in the host",
                       "the trial run of %s crashed", symbol);
    case HUNG:
        snprintf(found, sizeof found, "no return within %u ms, %s", trial.milliseconds, where(phase));
        return hr_fail(failure, HR_E_HANG, found, wanted,
                       "correct the patch; or, where it waits for a lock that another thread held at the fork, swap "
                       "without --trial",
                       "the trial run of %s did not end", symbol);
    case EXITED:
        snprintf(found, sizeof found, "the process ended with status %d, %s", place->detail, where(phase));
        return hr_fail(failure, HR_E_TRIAL, found, wanted, "let the patch return instead of ending the process",
                       "the trial run of %s ended the process", symbol);
    default:
        if (!place->index || !answered || phase != RETURNED || place->status == place->running) return HR_OK;
        snprintf(found, sizeof found, "status %d", place->status);
        return hr_fail(failure, HR_E_TRIAL, found, wanted,
                       "correct the patch; or, where the new status is meant, swap without --trial",
                       "%s returned another status than the running version on the same input", symbol);
    }
}

/* The caller's own call is under way still: a moment's patience, for without its status nothing can be compared. */
static void await_answer(const trial_place *place) {
    uint64_t until = hr_monotonic_ns() + (uint64_t)trial.milliseconds * 1000000;
    while (!__atomic_load_n(&place->answered, __ATOMIC_ACQUIRE) && hr_monotonic_ns() < until) usleep(LOOK_US);
}

static hr_status judge(uint32_t count, const hr_manifest *manifest, hr_failure *failure, uint32_t *warnings) {
    hr_status status = HR_OK;
    for (uint32_t i = 0; i < count; i++) {
        trial_place *place = &trial.places[i];
        if (__atomic_load_n(&place->state, __ATOMIC_ACQUIRE) == FREE) {
            if (!slot_came(count, place->index)) *warnings |= HR_WARN_UNTRIED;
            continue;
        }
        wait_for_monitor(place);
        if (!told(place) || monitor_of(place) <= 0) {
            *warnings |= HR_WARN_UNTRIED;
            continue;
        }
        if (place->index) await_answer(place);
        const char *name = place->index ? manifest->entries[place->entry].name : manifest->name;
        if (status == HR_OK) status = verdict(place, name, failure);
    }
    return status;
}

/* No caller came, or none can come: the module is opened by a copy of this thread, which makes no call. */
static uint32_t open_only(void) {
    trial.places[0] = (trial_place){.state = CLAIMED, .answered = 1};
    start(&trial.places[0], NULL, NULL, NULL);
    return 1;
}

static bool nobody_came(uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (__atomic_load_n(&trial.places[i].state, __ATOMIC_ACQUIRE) != FREE) return false;
    return true;
}

hr_status hr_trial_run(hr_runtime *runtime, const char *staged, const hr_manifest *manifest, hr_failure *failure,
                       uint32_t *warnings) {
    if (!hr_option(HR_OPTION_TRIAL)) return HR_OK;
    if (hr_trial_possible() != HR_OK) { /* served as such since the option was set */
        *warnings |= HR_WARN_UNTRIED;
        return HR_OK;
    }
    pthread_mutex_lock(&trial.busy);
    if (!make_room()) {
        pthread_mutex_unlock(&trial.busy);
        return hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "no memory for the trial run");
    }
    trial.staged = staged;
    trial.context = hr_context(runtime);
    trial.milliseconds = hr.options.trial_ms;
    uint32_t slots = 0;
    uint32_t count = hr_shards_others() ? choose(runtime, manifest, &slots, warnings) : 0; /* this thread cannot call */
    if (count) {
        ask(count, slots);
        wait_for_callers(count, slots);
    }
    if (nobody_came(count)) {
        *warnings |= HR_WARN_UNTRIED;
        __atomic_store_n(&trial.count, 0, __ATOMIC_RELEASE);
        count = open_only();
    }
    hr_status status = judge(count, manifest, failure, warnings);
    __atomic_store_n(&trial.count, 0, __ATOMIC_RELEASE);
    trial.used = count;
    trial.staged = NULL;
    pthread_mutex_unlock(&trial.busy);
    return status;
}

hr_status hr_trial_possible(void) {
    /* ThreadSanitizer ends a copy of a process with threads by itself. */
#if defined(__SANITIZE_THREAD__)
    return HR_E_USAGE;
#else
    return hr_served() && (hr_serve_flags() & HR_SERVE_NO_FORK) ? HR_E_USAGE : HR_OK;
#endif
}

/* Y6. A monitor and its worker know their place by its address. */
void hr_trial_forked(void) {
    pthread_mutex_init(&trial.busy, NULL);
    trial.places = NULL;
    trial.used = 0;
    trial.count = 0;
}
