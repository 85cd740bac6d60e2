// The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot.
#include <hotreload/hotreload.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "state.hpp"

namespace {

// The fallback: what the slot does until a module brings something better.
std::int32_t tick_fallback(void *state, const void *, void *output) {
    auto &self = *static_cast<State *>(state);
    auto &done = *static_cast<Tick *>(output);
    done.step = 1;
    self.count += done.step;
    return 0;
}

hr_slot slot_tick = HR_SLOT("@NAME@.tick", tick_fallback);

} // namespace

int main() {
    State self;
    hr_failure failure = {};
    hr_set_context(nullptr, &self);
    if (hr_declare(nullptr, &slot_tick) != HR_OK || hr_serve(nullptr, "@NAME@", 0, &failure) != HR_OK) {
        std::cerr << "@NAME@: " << failure.reason << ' ' << failure.fix << '\n';
        return 1;
    }
    for (;;) {
        Tick done;
        auto status = hr_call(&slot_tick, &self, nullptr, &done);
        std::cout << "count=" << self.count << " step=" << std::showpos << done.step << std::noshowpos
                  << " status=" << status << std::endl;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}
