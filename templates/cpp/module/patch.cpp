// The patch module. Edit STEP and save: the running host counts by it from its next tick on.
#include <hotreload/hotreload.hpp>

#include "state.hpp"

namespace {

constexpr std::int64_t STEP = 10;

// An exception becomes a status, and is thrown again in the host.
std::int64_t tick(State &state) {
    state.count += STEP;
    return STEP;
}

} // namespace

// The number is yours to choose; hotreload counts the versions of each slot by itself.
HOTRELOAD_MODULE("@NAME@", 1, hotreload::patch<tick>("@NAME@.tick"))
