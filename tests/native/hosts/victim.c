/* The host that bad patches are loaded into: one thread calls the slot "bad.step" all the time, another one works on its
 * own. victim.h tells what it answers.
 *
 *     victim NAME */
#define _GNU_SOURCE 1
#include "victim.h"

#include <hotreload/hotreload.h>

static int32_t step(void *opaque, const void *input, void *result) {
    state *given = opaque;
    (void)input;
    given->steps++;
    given->check++;
    *(int64_t *)result = given->steps;
    return 1;
}

static hr_slot slot = HR_SLOT("bad.step", step);

static void *call(void *unused) {
    for (;; usleep(500)) {
        int64_t before = own.steps;
        hr_call(&slot, &own, NULL, &output.value);
        count_call(before);
    }
    return unused;
}

int main(int count, char **arguments) {
    if (count != 2 || hr_declare(NULL, &slot) != HR_OK || hr_guard_state(&slot, sizeof own) != HR_OK) return 2;
    if (hr_serve(NULL, arguments[1], 0, NULL) != HR_OK) return 2;
    return answer(call);
}
