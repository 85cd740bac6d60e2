/* Faults that the guard has caught, as sentences. */
#include "module.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *signal_name(int32_t number) {
    const char *name = number ? sigabbrev_np(number) : NULL;
    return name ? name : "";
}

/* The sentence that tells a fault, of a module and of what was being called. */
hr_status hr_fault_describe(const hr_manifest *manifest, const hr_fault *fault, hr_failure *failure) {
    static const char *const cures[] = {"fix the crash and build again",
                                        "let the call return, or allow it more time (--hang-seconds), and build again"};
    char where[64] = "", address[40] = "", found[HR_TEXT_SIZE];
    bool hang = fault->signal == 0;
    if (fault->signal != SIGABRT) /* which is sent, and has none */
        snprintf(address, sizeof address, ", address 0x%llx", (unsigned long long)fault->address);
    if (fault->offset) snprintf(where, sizeof where, ", module offset 0x%llx", (unsigned long long)fault->offset);
    if (hang)
        snprintf(found, sizeof found, "no return within %u ms, thread %u%s", hr.options.hang_ms, fault->thread, where);
    else
        snprintf(found, sizeof found, "SIG%s%s, thread %u%s", signal_name(fault->signal), address, fault->thread,
                 where);
    const char *state = fault->kind == HR_FAULT_MIGRATION ? "; the state is as it was"
                        : fault->kind == HR_FAULT_THREAD  ? "; its thread sleeps for ever"
                        : fault->restored ? "; its state was restored"
                                          : "; what it has changed stays, locks that it holds stay held";
    return hr_fail(failure, hang ? HR_E_HANG : HR_E_CRASH, found, NULL, cures[hang], "%s v%llu %s in %s%s",
                   manifest->name, (unsigned long long)manifest->version, hang ? "hung" : "crashed", fault->symbol,
                   state);
}

hr_status hr_fault_refuse(hr_runtime *runtime, const hr_manifest *manifest, const hr_fault *fault,
                          hr_failure *failure) {
    pthread_mutex_lock(&hr.lock);
    if (runtime) hr_quarantine(runtime, manifest->content);
    pthread_mutex_unlock(&hr.lock);
    return hr_fault_describe(manifest, fault, failure);
}

void hr_fault_add_locks(const hr_module *module, uint32_t thread, char *reason) {
    char locks[256];
    size_t length = strlen(reason);
    if (hr_locks_describe(module, thread, locks, sizeof locks))
        snprintf(reason + length, HR_TEXT_SIZE - length, "; %s", locks);
}
