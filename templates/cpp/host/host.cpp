// The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot.
#include <hotreload/hotreload.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <thread>

#include "state.hpp"

namespace {

// The fallback: what the slot does until a module brings something better. Returns what the count grew by.
std::int64_t tick(State &state) {
    state.count += 1;
    return 1;
}

hotreload::slot<std::int64_t(State &)> slot_tick("@NAME@.tick", hotreload::function<tick>);

} // namespace

int main() try {
    State state;
    slot_tick.declare();
    hotreload::serve("@NAME@");
    for (;;) {
        try {
            auto step = slot_tick(state);
            std::cout << "count=" << state.count << " step=" << std::showpos << step << std::noshowpos << std::endl;
        } catch (const hotreload::call_failed &failed) { // what an edit throws: the next one may be better
            std::cerr << "@NAME@: " << failed.what() << '\n';
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
} catch (const std::exception &error) {
    std::cerr << "@NAME@: " << error.what() << '\n';
    return 1;
}
