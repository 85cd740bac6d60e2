// What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
// again, with the newest modules.
#pragma once

#include <hotreload/hotreload.hpp>

#include <cstdint>

// Owned by the host; survives every swap.
struct State {
    std::int64_t count = 0;
};

// Carried by host and modules: a module of another layout is refused, field by field (E-LAYOUT).
#define STATE_FIELDS(F) F(State, count, std::int64_t)
HOTRELOAD_LAYOUT(State, STATE_FIELDS)
