/* The guard: a patch that crashes or hangs on probation is rolled back, and its host goes on.
 *
 * The entry of a swapped slot carries HR_ENTRY_GUARD while it is on probation, and its calls come through
 * hr_guard_call: a frame on the thread's own list says where to return to. A fault inside, on the same thread, returns
 * there; so does the signal that the watchdog sends to a thread that has been in one frame for too long. The module is
 * condemned, the watchdog takes it back in all its slots, and the call is made again, of what the slot runs then.
 *
 * Invariants:
 *  G1  A fault is the patch's when its thread is in a guarded frame, wherever the instruction lies: what a patch calls,
 *      it calls at its own risk. A thread that never called a slot and faults in code of a module on probation was
 *      started by it: it is parked for ever. All other faults go to whoever handled them before.
 *  G2  A signal handler takes no lock and allocates nothing. It never leaves by a jump: it returns, through the kernel,
 *      to where the frame's call would have; so the signal mask, the alternate stack and what sanitizers know of
 *      handlers are as after any handler.
 *  G3  A module is condemned once, by compare-and-swap of module->condemned. From then on, every call that still comes
 *      through its entries waits until it has been taken back, and runs what the slot runs then.
 *  G4  The watchdog takes back, never the thread that crashed: that one may hold the allocator's lock for ever.
 *  G5  Probation records stay linked while a slot may run their function, or a roll back bring it back: whoever has
 *      pinned an old table finds the record of its entry by the function. They are unlinked only of a module that
 *      unload.c has struck from all slots, and freed after a grace period: others walk past them, inside a call.
 *      Partner of the acquire loads of records[index] and `older`: the release stores in hr_guard_flags and unlink_records.
 *  G6  Who lands sets right what dead frames left in the shim: depth, shard->active, hr.lock. Other locks stay held.
 *  G7  A call that the watchdog's signal met after its time hangs, also where it then returns by itself: sleeps and polls
 *      end early by a signal, and what the patch makes of that is not what it would have answered. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 24u            /* nested guarded calls; deeper ones run in the innermost frame */
#define STACK_BYTES 65536u   /* of the alternate signal stack */
#define HANDLER_BYTES 4096u  /* of it, at most, below the frame of the signal's handler */
#define STACK_LEAST 8192u    /* an alternate stack of the host that is smaller is replaced while the thread is ours */
#define TICK_MS 20
#define ABSENT_MS 500        /* a watchdog that did not look for so long was stopped, and all others with it, */
#define PRESENT_MS 100       /* but for so long at most: on a machine where it is always late, hangs end all the same */
#define OUTSIDE_TRIES 25     /* ticks for which a hang is not unwound while it is outside of the module's own code */
#define PATIENCE_MS 2000     /* how long a caller waits for the roll back before it goes on without */
#define HANDLERS_KEPT 8

enum { FREE, CLAIMED, CONDEMNED, TAKEN_BACK };

/* ASan's: the frames that a fault leaves behind are not to be complained about. */
void __asan_handle_no_return(void) __attribute__((weak));

struct hr_probation {
    hr_probation *older; /* atomic; of the same slot */
    hr_probation *next;  /* of those that are under way, under hr.lock */
    hr_module *module;
    hr_patch_fn function;
    hr_patch_fn before; /* atomic; what the slot ran, for when the roll back does not come; only while it is listed */
    uint64_t until;     /* CLOCK_MONOTONIC ns; 0: not looked at yet */
    uint32_t index;
    uint32_t over; /* atomic: it has stood the test */
    bool listed;
};

typedef struct guard_frame {
    hr_return_point point;
    hr_module *module; /* null: it is being opened */
    uint64_t serial;   /* atomic: differs for every frame of a thread */
    uint32_t active;   /* shard->active at its entry */
    uint32_t state_size, copy_room; /* the latter atomic */
    void *state; /* exclusive to the call, with a copy */
    char *copy;  /* atomic */
} guard_frame;

/* A thread that has made a guarded call. */
typedef struct guard_thread {
    struct guard_thread *next; /* push-only */
    uint32_t taken;            /* atomic */
    uint32_t thread;           /* atomic */
    uint32_t depth;            /* atomic: frames in use */
    uint64_t serial;
    uint64_t hung; /* atomic: the serial of the frame that the watchdog wants ended */
    bool insist;   /* atomic: wherever it is */
    uint64_t late; /* atomic: the serial of the frame that its signal has met outside of the module's own code, */
    hr_fault overrun; /* and what is to be told of it */
    bool own_stack;
    char *memory; /* the alternate stack */
    uint64_t seen[DEPTH], since[DEPTH]; /* the watchdog's: serial, and when it was first seen */
    guard_frame frames[DEPTH];
    hr_fault fault; /* of the frame that is being left; its kind is HR_FAULT_NONE otherwise */
    uintptr_t handled_at; /* where its handler's frame was */
} guard_thread;

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#define SIGNAL_COUNT (sizeof SIGNALS / sizeof SIGNALS[0])

static struct {
    pthread_mutex_t lock; /* of starting, and of waiting for the watchdog; never held in patches' code */
    pthread_cond_t changed;
    bool ready;
    uint32_t watching;       /* atomic: the pid whose watchdog runs */
    bool work;               /* under lock: something was condemned, or put on probation */
    guard_thread *threads;   /* atomic */
    hr_probation **records;  /* atomic: one list a slot, newest first */
    hr_probation *under_way; /* under hr.lock */
    hr_module *condemned;    /* atomic: those that wait for the watchdog */
    uint64_t hang_ns;        /* the watchdog's, */
    uint64_t looked;         /* and when it has looked at the threads last */
    uint32_t *exclusive;     /* atomic: bytes of state, one a slot */
    int hang_signal;
    struct sigaction before[SIGNAL_COUNT][HANDLERS_KEPT];
    uint32_t before_count[SIGNAL_COUNT]; /* atomic */
    hr_text texts[16]; /* of modules on probation, for faults of threads without a frame; atomic words */
    hr_module *text_owners[16];
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Initial-exec: read by signal handlers, which must not allocate a thread's block on the way. */
static __thread struct {
    guard_thread *thread;
    uint32_t chaining; /* handlers of the host that are being run for one signal, */
    const void *context;
    uintptr_t chained; /* and where on the stack the innermost is */
} own __attribute__((tls_model("initial-exec")));

/* ---- condemned ---- */

/* For signal handlers too. False: it was condemned before. */
static bool condemn(hr_module *module, hr_status status, const hr_fault *fault) {
    uint32_t free = FREE;
    if (!__atomic_compare_exchange_n(&module->condemned, &free, CLAIMED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false;
    module->fault = *fault;
    module->fault_status = status;
    __atomic_store_n(&module->condemned, CONDEMNED, __ATOMIC_RELEASE);
    module->next_condemned = __atomic_load_n(&guard.condemned, __ATOMIC_RELAXED);
    /* Partner: the watchdog's acquire exchange. */
    while (!__atomic_compare_exchange_n(&guard.condemned, &module->next_condemned, module, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
    }
    return true;
}

static uint32_t condemned(const hr_module *module) { return __atomic_load_n(&module->condemned, __ATOMIC_ACQUIRE); }

/* ---- signals ---- */

static size_t number_of(int signal) {
    size_t i = 0;
    while (i < SIGNAL_COUNT && SIGNALS[i] != signal) i++;
    return i;
}

static void return_to(guard_frame *frame, void *context) {
    if (__asan_handle_no_return) __asan_handle_no_return();
    hr_platform_return(context, &frame->point, HR_UNRESOLVED);
}

static bool inside(const hr_text *text, uintptr_t address) {
    return address >= __atomic_load_n(&text->start, __ATOMIC_RELAXED) &&
           address < __atomic_load_n(&text->end, __ATOMIC_RELAXED);
}

/* The module's instruction that faulted, or that called what faulted: the innermost word on the stack that points behind
 * a call in the module's code. The stack is this thread's, and between the two addresses all of it is mapped. */
static uintptr_t culprit(const hr_module *module, const guard_frame *frame, void *context) {
    uintptr_t at = hr_platform_program_counter(context), stack = hr_platform_stack_pointer(context);
    if (module == NULL || inside(&module->text, at)) return at;
    uintptr_t end = frame->point.stack;
    for (stack &= ~(uintptr_t)7; stack < end && end - stack < 65536; stack += 8)
        if (inside(&module->text, *(const uintptr_t *)stack - 8) && hr_platform_follows_call(*(const uintptr_t *)stack))
            return *(const uintptr_t *)stack - 1;
    return 0;
}

static void note_fault(guard_thread *thread, const guard_frame *frame, int signal, const siginfo_t *info, void *context,
                       hr_fault *fault) {
    const hr_module *module = frame->module;
    uintptr_t at = culprit(module, frame, context);
    fault->signal = signal;
    fault->thread = thread->thread;
    fault->address = signal && info->si_code > 0 ? (uintptr_t)info->si_addr : 0;
    fault->offset = module && at && inside(&module->text, at) ? at - module->base : 0;
    fault->kind = HR_FAULT_CALL;
    thread->handled_at = (uintptr_t)__builtin_frame_address(0);
}

/* Sent by this process, or by the processor: what another process sends is not the patch's doing. */
static bool of_our_own(const siginfo_t *info) { return info->si_code > 0 || info->si_pid == getpid(); }

static bool caught(guard_thread *thread, int signal, const siginfo_t *info, void *context) {
    uint32_t depth = thread ? __atomic_load_n(&thread->depth, __ATOMIC_RELAXED) : 0;
    if (depth == 0 || !of_our_own(info)) return false;
    guard_frame *frame = &thread->frames[depth - 1];
    note_fault(thread, frame, signal, info, context, &thread->fault);
    return_to(frame, context);
    return true;
}

/* G1: a thread that a module has started. It can neither return nor end: its locks and its joiner wait for ever. */
static void park_foreign(int signal, const siginfo_t *info, void *context) {
    uintptr_t at = hr_platform_program_counter(context);
    if (own.thread || hr_thread_shard || !of_our_own(info) || hr_platform_thread_id() == (uint32_t)getpid()) return;
    for (size_t i = 0; i < sizeof guard.texts / sizeof guard.texts[0]; i++) {
        hr_module *module = __atomic_load_n(&guard.text_owners[i], __ATOMIC_ACQUIRE);
        if (module == NULL || !inside(&guard.texts[i], at)) continue;
        hr_fault fault = {.signal = signal, .thread = hr_platform_thread_id(), .address = (uintptr_t)info->si_addr,
                          .offset = at - module->base, .kind = HR_FAULT_THREAD, .symbol = "a thread of its own"};
        condemn(module, HR_E_CRASH, &fault);
        for (;;) pause();
    }
}

static void run_handler(const struct sigaction *action, int signal, siginfo_t *info, void *context) {
    sigset_t mask, before;
    mask = action->sa_mask;
    if (!(action->sa_flags & SA_NODEFER)) sigaddset(&mask, signal);
    pthread_sigmask(SIG_BLOCK, &mask, &before);
    if (action->sa_flags & SA_SIGINFO) action->sa_sigaction(signal, info, context);
    else action->sa_handler(signal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void default_action(int signal, const siginfo_t *info) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(signal, &plain, NULL);
    if (info->si_code <= 0) hr_platform_signal(hr_platform_thread_id(), signal);
    /* else: the instruction is run again, and the process dies of it, there */
}

/* To the handler that was there before ours; to the one before that when it, in turn, calls ours. */
static void chain(int signal, siginfo_t *info, void *context) {
    size_t number = number_of(signal);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    /* Not called by the last one, but by the kernel: that one has returned, or left by siglongjmp. */
    if (context != own.context || here >= own.chained) own.chaining = 0;
    uint32_t count = __atomic_load_n(&guard.before_count[number], __ATOMIC_ACQUIRE);
    if (own.chaining >= count) {
        default_action(signal, info);
        return;
    }
    const struct sigaction *action = &guard.before[number][count - 1 - own.chaining];
    bool siginfo = action->sa_flags & SA_SIGINFO;
    if (!siginfo && action->sa_handler == SIG_IGN && info->si_code <= 0) return;
    if (!siginfo && (action->sa_handler == SIG_IGN || action->sa_handler == SIG_DFL)) {
        default_action(signal, info);
        return;
    }
    own.chaining++;
    own.context = context;
    own.chained = here;
    run_handler(action, signal, info, context);
    own.chaining--;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    int saved = errno;
    if (!caught(own.thread, signal, info, context)) {
        park_foreign(signal, info, context);
        chain(signal, info, context);
    }
    errno = saved;
}

/* The watchdog's signal: ends the frame that it names, unless that has ended by itself. */
static void on_hang(int signal, siginfo_t *info, void *context) {
    (void)signal;
    int saved = errno;
    guard_thread *thread = own.thread;
    uint64_t hung = thread && of_our_own(info) ? __atomic_load_n(&thread->hung, __ATOMIC_ACQUIRE) : 0;
    uint32_t depth = hung ? __atomic_load_n(&thread->depth, __ATOMIC_RELAXED) : 0;
    for (uint32_t i = 0; i < depth; i++) {
        guard_frame *frame = &thread->frames[i];
        if (frame->serial != hung) continue;
        bool home = frame->module == NULL || inside(&frame->module->text, hr_platform_program_counter(context));
        if (home || __atomic_load_n(&thread->insist, __ATOMIC_RELAXED)) {
            note_fault(thread, frame, 0, info, context, &thread->fault);
            return_to(frame, context);
        } else { /* in the allocator, perhaps; or in a sleep, which this signal ends: G7 */
            note_fault(thread, frame, 0, info, context, &thread->overrun);
            __atomic_store_n(&thread->late, hung, __ATOMIC_RELAXED);
        }
        break;
    }
    errno = saved;
}

/* A handler of a module on probation is no handler of the host's. */
static bool is_a_patchs(const struct sigaction *action) {
    uintptr_t handler = action->sa_flags & SA_SIGINFO ? (uintptr_t)action->sa_sigaction : (uintptr_t)action->sa_handler;
    for (size_t i = 0; i < sizeof guard.texts / sizeof guard.texts[0]; i++)
        if (__atomic_load_n(&guard.text_owners[i], __ATOMIC_ACQUIRE) && inside(&guard.texts[i], handler)) return true;
    return false;
}

/* Ours is the outermost handler; what the host has installed since is the one before it. */
static void take_signal(size_t number) {
    struct sigaction now, ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGNALS[number], NULL, &now) != 0) return;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) return;
    if (is_a_patchs(&now)) {
        sigaction(SIGNALS[number], &ours, NULL);
        return;
    }
    uint32_t count = guard.before_count[number];
    if (count == HANDLERS_KEPT) { /* the oldest but the first goes */
        for (uint32_t i = 1; i + 1 < count; i++) guard.before[number][i] = guard.before[number][i + 1];
        count--;
    }
    guard.before[number][count] = now;
    __atomic_store_n(&guard.before_count[number], count + 1, __ATOMIC_RELEASE);
    sigaction(SIGNALS[number], &ours, NULL);
}

static int free_signal(void) {
    for (int signal = SIGRTMAX - 2; signal > SIGRTMIN; signal--) {
        struct sigaction now;
        if (sigaction(signal, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
            return signal;
    }
    return 0;
}

static void take_signals(void) {
    for (size_t i = 0; i < SIGNAL_COUNT; i++) take_signal(i);
    if (guard.hang_signal != 0) return;
    struct sigaction ours = {.sa_sigaction = on_hang, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
    sigemptyset(&ours.sa_mask);
    guard.hang_signal = free_signal();
    if (guard.hang_signal) sigaction(guard.hang_signal, &ours, NULL);
}

/* ---- threads ---- */

static guard_thread *take_record(void) {
    for (guard_thread *each = __atomic_load_n(&guard.threads, __ATOMIC_ACQUIRE); each; each = each->next) {
        uint32_t unused = 0;
        if (__atomic_compare_exchange_n(&each->taken, &unused, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return each;
    }
    guard_thread *made = calloc(1, sizeof *made);
    if (made == NULL) return NULL;
    made->memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (made->memory == MAP_FAILED) {
        free(made);
        return NULL;
    }
    made->taken = 1;
    guard_thread *head = __atomic_load_n(&guard.threads, __ATOMIC_RELAXED);
    do made->next = head;
    while (!__atomic_compare_exchange_n(&guard.threads, &head, made, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    return made;
}

static void unblock_signals(void) {
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) sigaddset(&ours, SIGNALS[i]);
    if (guard.hang_signal) sigaddset(&ours, guard.hang_signal);
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
}

/* A thread's first guarded call. Null: no memory; it then calls unguarded. */
static guard_thread *enrol(void) {
    stack_t theirs = {0};
    guard_thread *thread = take_record();
    if (thread == NULL) return NULL;
    thread->own_stack = sigaltstack(NULL, &theirs) != 0 || (theirs.ss_flags & SS_DISABLE) ||
                        theirs.ss_size < STACK_LEAST;
    stack_t ours = {.ss_sp = thread->memory, .ss_size = STACK_BYTES};
    if (thread->own_stack && sigaltstack(&ours, NULL) != 0) {
        __atomic_store_n(&thread->taken, 0, __ATOMIC_RELEASE);
        return NULL;
    }
    unblock_signals();
    __atomic_store_n(&thread->thread, hr_platform_thread_id(), __ATOMIC_RELEASE);
    own.thread = thread;
    return thread;
}

void hr_guard_leave(void) {
    guard_thread *thread = own.thread;
    if (thread == NULL) return;
    own.thread = NULL;
    stack_t now;
    if (thread->own_stack && sigaltstack(NULL, &now) == 0 && now.ss_sp == thread->memory &&
        sigaltstack(&(stack_t){.ss_flags = SS_DISABLE, .ss_size = STACK_BYTES}, NULL) == 0)
        /* No later signal writes over what the last one has left there, registers above all: to every scan from now on
         * they would point into a module. */
        madvise(thread->memory, STACK_BYTES, MADV_DONTNEED);
    __atomic_store_n(&thread->depth, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&thread->thread, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&thread->taken, 0, __ATOMIC_RELEASE);
}

/* ---- guarded calls ---- */

/* The registers of before lie on the signal's stack: to a scan, they would keep the module that crashed. Only what the
 * handler has used; and not when this very call is made from a handler, on that stack. */
static void wipe_signal_stack(guard_thread *thread) {
    stack_t now;
    uintptr_t from = thread->handled_at;
    thread->handled_at = 0;
    if (from == 0 || sigaltstack(NULL, &now) != 0 || now.ss_flags & (SS_DISABLE | SS_ONSTACK)) return;
    uintptr_t start = (uintptr_t)now.ss_sp, end = start + now.ss_size;
    if (from - start >= now.ss_size) return;
    from = from - start > HANDLER_BYTES ? from - HANDLER_BYTES : start;
    explicit_bzero((void *)from, end - from);
}

/* G6. Frames further in are dead too: their states are restored first. */
__attribute__((cold, noinline)) static void tidy_up(guard_thread *thread, uint32_t depth) {
    guard_frame *frame = &thread->frames[depth];
    hr_shard *shard = hr_shards_own();
    for (uint32_t i = thread->depth; i-- > depth;) {
        const guard_frame *dead = &thread->frames[i];
        if (dead->state_size) memcpy(dead->state, dead->copy, dead->state_size);
    }
    thread->fault.restored = frame->state_size;
    wipe_signal_stack(thread);
    if (shard) __atomic_store_n(&shard->active, frame->active, __ATOMIC_RELEASE);
    if (hr_platform_holds(&hr.lock)) pthread_mutex_unlock(&hr.lock);
}

/* G7; what has crashed since has crashed. */
__attribute__((cold, noinline)) static void came_late(guard_thread *thread) {
    if (thread->fault.kind == HR_FAULT_NONE) thread->fault = thread->overrun;
    __atomic_store_n(&thread->late, 0, __ATOMIC_RELAXED);
}

/* Calls the function in a frame of its own; thread->fault.kind tells how it ended. */
static inline int32_t call_in(guard_thread *thread, uint32_t depth, hr_patch_fn function, void *state,
                              const void *input, void *output) {
    guard_frame *frame = &thread->frames[depth];
    __atomic_store_n(&frame->serial, ++thread->serial, __ATOMIC_RELAXED);
    __atomic_store_n(&thread->depth, depth + 1, __ATOMIC_RELEASE); /* partner: the watchdog's acquire load */
    int32_t result = hr_platform_call(&frame->point, function, state, input, output);
    if (HR_UNLIKELY(__atomic_load_n(&thread->late, __ATOMIC_RELAXED) == frame->serial)) came_late(thread);
    if (HR_UNLIKELY(thread->fault.kind != HR_FAULT_NONE)) tidy_up(thread, depth);
    __atomic_store_n(&thread->depth, depth, __ATOMIC_RELEASE);
    return result;
}

/* Returns how much can be restored: all of it, or nothing. */
__attribute__((noinline)) static uint32_t keep_copy(guard_frame *frame, void *state, uint32_t size) {
    if (size > frame->copy_room) {
        char *grown = realloc(frame->copy, size);
        if (grown == NULL) return 0;
        __atomic_store_n(&frame->copy, grown, __ATOMIC_RELAXED);
        __atomic_store_n(&frame->copy_room, size, __ATOMIC_RELAXED);
    }
    memcpy(frame->copy, state, size);
    frame->state = state;
    return size;
}

static hr_probation *record_of(uint32_t index, hr_patch_fn function) {
    hr_probation *record = __atomic_load_n(&guard.records[index], __ATOMIC_ACQUIRE);
    while (record && record->function != function) record = __atomic_load_n(&record->older, __ATOMIC_ACQUIRE);
    return record;
}

static void wake_watchdog(void) {
    pthread_mutex_lock(&guard.lock);
    guard.work = true;
    pthread_cond_broadcast(&guard.changed);
    pthread_mutex_unlock(&guard.lock);
}

static struct timespec in_ms(uint64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return until;
}


static hr_status start_watchdog(void);

/* Until the module has been taken back; not for ever: the watchdog itself may need a lock that a dead frame holds. */
static void await_taken_back(const hr_module *module) {
    struct timespec until = in_ms(PATIENCE_MS);
    start_watchdog(); /* in the child of a fork there is none */
    pthread_mutex_lock(&guard.lock);
    guard.work = true;
    pthread_cond_broadcast(&guard.changed);
    while (condemned(module) != TAKEN_BACK && pthread_cond_timedwait(&guard.changed, &guard.lock, &until) == 0) {
    }
    pthread_mutex_unlock(&guard.lock);
}

/* What the slot runs now. This thread is inside the slot since an older table: whatever is current now is pinned. */
__attribute__((noinline)) static int32_t call_again(hr_slot *slot, const hr_probation *record, void *state,
                                                     const void *input, void *output) {
    if (condemned(record->module) != TAKEN_BACK) await_taken_back(record->module);
    const hr_table *table = __atomic_load_n(&hr_dispatch.table, __ATOMIC_SEQ_CST);
    if (table->entries[record->index].function == record->function) {
        hr_patch_fn before = __atomic_load_n(&record->before, __ATOMIC_RELAXED);
        return before(state, input, output);
    }
    return hr_invoke(slot, hr_shards_own(), table, record->index, state, input, output);
}

/* Condemns the module whose call this thread has just left before its time. */
__attribute__((cold, noinline)) static void blame(const hr_probation *record, guard_thread *thread) {
    hr_fault *fault = &thread->fault;
    hr_copy_text(fault->symbol, sizeof fault->symbol, hr.slots[record->index].symbol);
    condemn(record->module, fault->signal ? HR_E_CRASH : HR_E_HANG, fault);
    *fault = (hr_fault){.kind = HR_FAULT_NONE}; /* whose address no scan may find */
}

int32_t hr_guard_call(hr_slot *slot, const hr_table *table, uint32_t index, void *state, const void *input,
                      void *output) {
    hr_patch_fn function = table->entries[index].function;
    const hr_probation *record = record_of(index, function);
    if (HR_UNLIKELY(record == NULL || __atomic_load_n(&record->over, __ATOMIC_RELAXED))) {
        hr_dispatch_drop(table, index, HR_ENTRY_GUARD);
        return function(state, input, output);
    }
    if (HR_UNLIKELY(condemned(record->module) != FREE)) return call_again(slot, record, state, input, output);
    guard_thread *thread = own.thread ? own.thread : enrol();
    uint32_t depth = thread ? thread->depth : DEPTH;
    if (HR_UNLIKELY(depth == DEPTH)) return function(state, input, output);
    guard_frame *frame = &thread->frames[depth];
    uint32_t exclusive = __atomic_load_n(&guard.exclusive[index], __ATOMIC_RELAXED);
    frame->module = record->module;
    frame->active = index + 1;
    frame->state_size = HR_UNLIKELY(exclusive && state) ? keep_copy(frame, state, exclusive) : 0;
    int32_t result = call_in(thread, depth, function, state, input, output);
    if (HR_LIKELY(thread->fault.kind == HR_FAULT_NONE)) return result;
    blame(record, thread);
    return call_again(slot, record, state, input, output);
}

/* ---- hooks and the loader ---- */

typedef struct guard_job {
    void (*run)(void *);
    void *argument;
} guard_job;

static int32_t run_job(void *state, const void *input, void *output) {
    (void)input;
    (void)output;
    const guard_job *job = state;
    wake_watchdog(); /* only now: it sleeps while nobody is in a frame */
    job->run(job->argument);
    return 0;
}

bool hr_guard_run(hr_module *module, const char *what, void (*run)(void *), void *argument, hr_fault *fault) {
    guard_thread *before = own.thread, *thread = before;
    if (hr_option(HR_OPTION_GUARD) && thread == NULL && hr_guard_ready() == HR_OK) thread = enrol();
    uint32_t depth = thread && hr_option(HR_OPTION_GUARD) ? thread->depth : DEPTH;
    if (depth == DEPTH) {
        run(argument);
        return true;
    }
    guard_job job = {run, argument};
    guard_frame *frame = &thread->frames[depth];
    frame->module = module;
    frame->active = 0;
    if (hr_shards_own()) frame->active = __atomic_load_n(&hr_shards_own()->active, __ATOMIC_RELAXED);
    frame->state_size = 0;
    call_in(thread, depth, run_job, &job, NULL, NULL);
    bool survived = thread->fault.kind == HR_FAULT_NONE;
    *fault = thread->fault;
    if (!survived) thread->fault = (hr_fault){.kind = HR_FAULT_NONE};
    hr_copy_text(fault->symbol, sizeof fault->symbol, what);
    if (before == NULL) hr_guard_leave();
    return survived;
}

/* ---- probation ---- */

static hr_status memory_ready(void) {
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    pthread_mutex_lock(&hr.lock);
    if (guard.records == NULL) {
        guard.exclusive = calloc(hr.capacity, sizeof *guard.exclusive);
        guard.records = guard.exclusive ? calloc(hr.capacity, sizeof *guard.records) : NULL;
        if (guard.records == NULL) {
            free(guard.exclusive);
            guard.exclusive = NULL;
            status = HR_E_MEMORY;
        }
        hr.guarded = guard.records != NULL;
    }
    pthread_mutex_unlock(&hr.lock);
    return status;
}

hr_status hr_guard_state(hr_slot *slot, uint32_t size) {
    if (size > HR_GUARD_STATE_MAX) return HR_E_USAGE;
    hr_status status = memory_ready();
    uint32_t index = __atomic_load_n(&slot->index, __ATOMIC_ACQUIRE);
    if (status == HR_OK && index == 0) status = HR_E_NO_SLOT;
    if (status == HR_OK) __atomic_store_n(&guard.exclusive[index], size, __ATOMIC_RELAXED);
    return status;
}

void hr_guard_forget(uint32_t index) {
    if (guard.exclusive) __atomic_store_n(&guard.exclusive[index], 0, __ATOMIC_RELAXED);
}

static void make_condition(void) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&guard.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    guard.ready = true;
}

hr_status hr_guard_ready(void) {
    if (!hr_platform_guards()) return HR_E_USAGE;
    hr_status status = memory_ready();
    if (status != HR_OK) return status;
    pthread_mutex_lock(&guard.lock);
    if (!guard.ready) make_condition();
    take_signals();
    pthread_mutex_unlock(&guard.lock);
    return start_watchdog();
}

void hr_guard_module(hr_module *module) {
    hr_platform_text(module->base, &module->text);
    if (!hr_option(HR_OPTION_GUARD) || hr_guard_ready() != HR_OK) return;
    module->probations = calloc(module->manifest->entry_count, sizeof *module->probations);
}

static void list_text(hr_module *module) {
    for (size_t i = 0; i < sizeof guard.texts / sizeof guard.texts[0]; i++) {
        if (guard.text_owners[i] == module) return;
        if (guard.text_owners[i]) continue;
        __atomic_store_n(&guard.texts[i].start, module->text.start, __ATOMIC_RELAXED);
        __atomic_store_n(&guard.texts[i].end, module->text.end, __ATOMIC_RELAXED);
        __atomic_store_n(&guard.text_owners[i], module, __ATOMIC_RELEASE);
        return;
    }
}

static void unlist_text(const hr_module *module) {
    for (size_t i = 0; i < sizeof guard.texts / sizeof guard.texts[0]; i++) {
        if (guard.text_owners[i] != module) continue;
        __atomic_store_n(&guard.text_owners[i], NULL, __ATOMIC_RELEASE);
        __atomic_store_n(&guard.texts[i].start, 0, __ATOMIC_RELAXED); /* no scan may find them */
        __atomic_store_n(&guard.texts[i].end, 0, __ATOMIC_RELAXED);
    }
}

static hr_probation *new_record(const hr_assignment *assignment) {
    hr_module *module = assignment->module;
    if (module->probations == NULL || module->probations_used == module->manifest->entry_count) return NULL;
    hr_probation *record = &module->probations[module->probations_used++];
    record->module = module;
    record->function = assignment->function;
    record->before = hr_unresolved;
    record->index = assignment->index;
    record->older = guard.records[assignment->index];
    __atomic_store_n(&guard.records[assignment->index], record, __ATOMIC_RELEASE);
    return record;
}

uint64_t hr_guard_flags(const hr_assignment *assignment) {
    if (guard.records == NULL || assignment->module == NULL) return 0;
    hr_probation *record = record_of(assignment->index, assignment->function);
    if (record == NULL && hr_option(HR_OPTION_GUARD)) record = new_record(assignment);
    if (record == NULL || record->over || condemned(record->module) != FREE) return 0;
    if (!record->listed) {
        /* Where the module has migrated the state, what ran before no longer fits it: migrate.c, G3. */
        bool fits = record->module->manifest->migration_count == 0;
        hr_patch_fn before = fits ? hr.slots[assignment->index].function : hr_unresolved;
        __atomic_store_n(&record->before, before, __ATOMIC_RELAXED);
        record->until = 0;
        record->listed = true;
        if (guard.under_way == NULL) wake_watchdog(); /* else it has not gone to sleep */
        record->next = guard.under_way;
        guard.under_way = record;
        if (record->module->on_probation++ == 0) list_text(record->module);
    }
    return HR_ENTRY_GUARD;
}

bool hr_guard_on(uint32_t index) {
    const hr_slot_info *slot = &hr.slots[index];
    if (guard.records == NULL || slot->module == NULL) return false;
    const hr_probation *record = record_of(index, slot->function);
    return record && record->listed && !record->over;
}

/* ---- what is left of one that goes ---- */

static void unlink_records(hr_module *module) {
    for (uint32_t i = 0; i < module->probations_used; i++) {
        hr_probation *gone = &module->probations[i], **link = &guard.records[gone->index];
        while (*link && *link != gone) link = &(*link)->older;
        if (*link) __atomic_store_n(link, gone->older, __ATOMIC_RELEASE);
    }
}

/* G5. The watchdog may still have it in hand. */
bool hr_guard_release(hr_module *module) {
    if (module->probations == NULL) return true;
    uint32_t state = condemned(module);
    if (module->on_probation || state == CLAIMED || state == CONDEMNED) return false;
    if (module->probations_used && module->probations_until == 0) {
        unlink_records(module);
        module->probations_until = hr_reclaim_advance();
        return false;
    }
    if (module->probations_until && hr_reclaim_tables() < module->probations_until) return false;
    explicit_bzero(module->probations, module->probations_used * sizeof *module->probations);
    free(module->probations);
    module->probations = NULL;
    module->probations_used = 0;
    return true;
}

static bool within(uintptr_t address, const void *start, size_t size) { return address - (uintptr_t)start < size; }

bool hr_guard_left_behind(uintptr_t address) {
    for (const guard_thread *each = __atomic_load_n(&guard.threads, __ATOMIC_ACQUIRE); each; each = each->next)
        for (uint32_t i = __atomic_load_n(&each->depth, __ATOMIC_ACQUIRE); i < DEPTH; i++) {
            const guard_frame *frame = &each->frames[i];
            const char *copy = __atomic_load_n(&frame->copy, __ATOMIC_RELAXED);
            if (within(address, frame, sizeof *frame) ||
                within(address, copy, __atomic_load_n(&frame->copy_room, __ATOMIC_RELAXED)))
                return true;
        }
    return false;
}

/* ---- the watchdog ---- */

static bool replaced(const hr_probation *record) {
    const hr_slot_info *slot = &hr.slots[record->index];
    return slot->module != record->module || slot->function != record->function;
}

static bool stood_the_test(hr_probation *record, uint64_t now) {
    if (record->until == 0) record->until = now + hr.options.probation_ms * UINT64_C(1000000);
    return now >= record->until || hr_blackbox_calls(record->index) >= hr.options.probation_calls;
}

static void end_probation(hr_probation *record) {
    __atomic_store_n(&record->over, 1, __ATOMIC_RELAXED);
    hr_dispatch_drop(hr_dispatch.table, record->index, HR_ENTRY_GUARD);
    hr_blackbox_begin();
    hr_blackbox_slot(record->index);
    hr_blackbox_end();
}

/* Ends what has lasted long enough, and forgets what something else has replaced (that may come back, untested). */
static bool look_at_probations(void) {
    uint64_t now = hr_monotonic_ns();
    pthread_mutex_lock(&hr.lock);
    for (hr_probation **link = &guard.under_way; *link;) {
        hr_probation *record = *link;
        bool gone = replaced(record), over = !gone && condemned(record->module) == FREE && stood_the_test(record, now);
        if (!gone && !over) {
            link = &record->next;
            continue;
        }
        *link = record->next;
        record->listed = false;
        __atomic_store_n(&record->before, hr_unresolved, __ATOMIC_RELAXED); /* whose module may go */
        if (over) end_probation(record);
        if (--record->module->on_probation == 0) unlist_text(record->module);
    }
    guard.hang_ns = hr.options.hang_ms * UINT64_C(1000000);
    bool more = guard.under_way != NULL;
    pthread_mutex_unlock(&hr.lock);
    return more;
}

static void take_back_condemned(void) {
    hr_module *next, *module = __atomic_exchange_n(&guard.condemned, NULL, __ATOMIC_ACQUIRE);
    for (; module; module = next) {
        next = module->next_condemned;
        hr_module_take_back(module, module->fault_status, &module->fault);
        pthread_mutex_lock(&guard.lock);
        __atomic_store_n(&module->condemned, TAKEN_BACK, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&guard.changed);
        pthread_mutex_unlock(&guard.lock);
    }
}

/* The outermost frame that has not changed for too long; the watchdog's clock is its own: callers read none. */
static void look_at_thread(guard_thread *thread, uint64_t now, uint64_t limit) {
    uint32_t depth = __atomic_load_n(&thread->depth, __ATOMIC_ACQUIRE);
    uint32_t id = __atomic_load_n(&thread->thread, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < depth && i < DEPTH && id; i++) {
        uint64_t serial = __atomic_load_n(&thread->frames[i].serial, __ATOMIC_RELAXED);
        if (thread->seen[i] != serial) {
            thread->seen[i] = serial;
            thread->since[i] = now;
        } else if (now - thread->since[i] >= limit) {
            bool insist = now - thread->since[i] >= limit + OUTSIDE_TRIES * TICK_MS * UINT64_C(1000000);
            __atomic_store_n(&thread->insist, insist, __ATOMIC_RELAXED);
            __atomic_store_n(&thread->hung, serial, __ATOMIC_RELEASE);
            hr_platform_signal(id, guard.hang_signal);
            return;
        }
    }
}

/* Time in which the whole process stood still (SIGSTOP, a debugger) is nobody's: frames are as old as they were. */
static void forgive(guard_thread *thread, uint64_t absence) {
    for (uint32_t i = 0; i < DEPTH; i++) thread->since[i] += absence;
}

/* Whether any thread is in a frame. */
static bool look_at_threads(void) {
    bool busy = false;
    uint64_t now = hr_monotonic_ns(), absence = now - guard.looked;
    guard.looked = now;
    if (absence >= ABSENT_MS * UINT64_C(1000000))
        for (guard_thread *each = __atomic_load_n(&guard.threads, __ATOMIC_ACQUIRE); each; each = each->next)
            forgive(each, absence - PRESENT_MS * UINT64_C(1000000));
    for (guard_thread *each = __atomic_load_n(&guard.threads, __ATOMIC_ACQUIRE); each; each = each->next) {
        if (guard.hang_signal) look_at_thread(each, now, guard.hang_ns);
        busy |= __atomic_load_n(&each->depth, __ATOMIC_RELAXED) != 0;
    }
    return busy;
}

/* Waits a tick while there is something to look at, else until there is. */
static void rest(bool busy) {
    struct timespec until = in_ms(TICK_MS);
    pthread_mutex_lock(&guard.lock);
    if (busy) take_signals(); /* a handler that the host has installed meanwhile would catch the patch's faults */
    while (!guard.work) {
        if (!busy) pthread_cond_wait(&guard.changed, &guard.lock);
        else if (pthread_cond_timedwait(&guard.changed, &guard.lock, &until) != 0) break;
    }
    guard.work = false;
    pthread_mutex_unlock(&guard.lock);
}

/* This thread answers no scan, so all of its stack is looked at: what its work has left there is nobody's. */
__attribute__((noinline)) static void wipe_stack(void) {
    char dead[16384];
    explicit_bzero(dead, sizeof dead);
}

static void *watchdog(void *unused) {
    (void)unused;
    for (bool busy = true;;) {
        rest(busy);
        take_back_condemned();
        bool probations = look_at_probations();
        busy = look_at_threads() || probations;
        wipe_stack();
    }
    return NULL;
}

static hr_status start_watchdog(void) {
    uint32_t pid = (uint32_t)getpid();
    hr_status status = HR_OK;
    if (__atomic_load_n(&guard.watching, __ATOMIC_ACQUIRE) == pid) return HR_OK;
    pthread_mutex_lock(&guard.lock);
    if (guard.watching != pid) {
        pthread_t thread;
        if (hr_platform_thread(&thread, watchdog) == 0) {
            pthread_detach(thread);
            __atomic_store_n(&guard.watching, pid, __ATOMIC_RELEASE);
        } else status = HR_E_LIMIT;
    }
    pthread_mutex_unlock(&guard.lock);
    return status;
}

/* In the child: this thread alone is left, and may be in frames. */
void hr_guard_forked(void) {
    pthread_mutex_init(&guard.lock, NULL);
    if (guard.ready) make_condition(); /* the one that was here has waiters that are not */
    for (guard_thread *each = guard.threads; each; each = each->next) {
        if (each == own.thread) {
            each->thread = hr_platform_thread_id();
            continue;
        }
        each->depth = 0;
        each->taken = 0;
    }
}
