// A host in C++: one line for each tick, with what its slots returned, until its input ends.
#include "counter.hpp"

#include <iostream>
#include <unistd.h>

namespace {

int64_t add(Counter &counter, const Step &step) { return counter.total += step.amount; }
int64_t total(Counter &counter) { return counter.total; }

hotreload::slot<int64_t(Counter &, const Step &)> counter_add("counter.add", hotreload::function<add>);
hotreload::slot<int64_t(Counter &)> counter_total("counter.total", hotreload::function<total>);
hotreload::slot<int64_t(int64_t)> counter_check("counter.check");

const char *check(hotreload::frame &tick, int64_t sum) {
    try {
        return tick(counter_check, sum) == sum ? "good" : "bad";
    } catch (const hotreload::call_failed &error) {
        return error.status() == hotreload::status::threw ? "threw" : "unresolved";
    }
}

} // namespace

int main() {
    Counter counter{};
    counter_add.declare();
    counter_total.declare();
    counter_check.declare();
    hotreload::serve("counter-cpp");
    for (;; usleep(10000)) {
        hotreload::frame tick;
        const int64_t sum = tick(counter_add, counter, Step{1});
        if (tick(counter_total, counter) != sum) return 1;
        std::cout << sum << ' ' << check(tick, sum) << ' ' << counter.name << std::endl;
    }
}
