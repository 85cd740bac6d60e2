/* `make test`: loads the module as a host does, and calls its slot. */
#include <hotreload/hotreload.h>
#include <stdio.h>

#include "state.h"

static int failed;

static void check(int good, const char *what) {
    printf("%s  %s\n", good ? "ok    " : "FAILED", what);
    failed |= !good;
}

static hr_slot slot_tick = HR_SLOT("@NAME@.tick", NULL);

int main(int count, char **arguments) {
    hr_report *report = NULL;
    check(hr_declare(NULL, &slot_tick) == HR_OK, "the slot is declared");
    check(count == 2 && hr_load(NULL, arguments[1], &report) == HR_OK, "the module is accepted");
    hr_report_free(report);

    state self = {.count = 5};
    tick done = {0};
    check(hr_call(&slot_tick, &self, NULL, &done) == 0, "a tick succeeds");
    check(done.step != 0 && self.count == 5 + done.step, "the count grows by the step");
    return failed;
}
