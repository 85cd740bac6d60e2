// `make test`: loads the module as a host does, and calls its slot.
#include <hotreload/hotreload.h>

#include <iostream>

#include "state.hpp"

namespace {

int failed = 0;

void check(bool good, const char *what) {
    std::cout << (good ? "ok      " : "FAILED  ") << what << '\n';
    failed |= !good;
}

hr_slot slot_tick = HR_SLOT("@NAME@.tick", nullptr);

} // namespace

int main(int count, char **arguments) {
    hr_report *report = nullptr;
    check(hr_declare(nullptr, &slot_tick) == HR_OK, "the slot is declared");
    check(count == 2 && hr_load(nullptr, arguments[1], &report) == HR_OK, "the module is accepted");
    hr_report_free(report);

    State self;
    self.count = 5;
    Tick done;
    check(hr_call(&slot_tick, &self, nullptr, &done) == 0, "a tick succeeds");
    check(done.step != 0 && self.count == 5 + done.step, "the count grows by the step");
    return failed;
}
