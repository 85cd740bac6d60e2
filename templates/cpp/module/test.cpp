// `make test`: loads the module as a host does, and calls its slot.
#include <hotreload/hotreload.hpp>

#include <iostream>

#include "state.hpp"

namespace {

int failed = 0;

void check(bool good, const char *what) {
    std::cout << (good ? "ok      " : "FAILED  ") << what << '\n';
    failed |= !good;
}

std::int64_t missing(State &) { return 0; }

hotreload::slot<std::int64_t(State &)> slot_tick("@NAME@.tick", hotreload::function<missing>);

} // namespace

int main(int count, char **arguments) {
    slot_tick.declare();
    hr_report *report = nullptr;
    check(count == 2 && hr_load(nullptr, arguments[1], &report) == HR_OK, "the module is accepted");
    hr_report_free(report);

    State state;
    state.count = 5;
    auto step = slot_tick(state);
    check(step != 0 && state.count == 5 + step, "the count grows by the step");
    return failed;
}
