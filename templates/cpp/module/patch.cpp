// The patch module. Edit STEP and save: the running host counts by it from its next tick on.
#include <hotreload/patch.h>

#include "state.hpp"

namespace {

constexpr std::int64_t STEP = 10;

// An exception must not leave it: the host's caller may be C.
std::int32_t on_tick(void *state, const void *, void *output) noexcept {
    auto &self = *static_cast<State *>(state);
    auto &done = *static_cast<Tick *>(output);
    done.step = STEP;
    self.count += done.step;
    return 0;
}

} // namespace

// The number is yours to choose; hotreload counts the versions of each slot by itself.
HR_MODULE("@NAME@", 1, HR_PATCH("@NAME@.tick", on_tick))
