// What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
// again, with the newest modules.
#pragma once

#include <cstdint>

// Owned by the host; survives every swap.
struct State {
    std::int64_t count = 0;
};

// The output of the slot @NAME@.tick.
struct Tick {
    std::int64_t step = 0; // what the count grew by
};
