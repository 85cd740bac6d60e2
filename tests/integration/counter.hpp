// What the host in C++ and its modules share.
#pragma once

#include <cstdint>
#include <string>

struct Counter {
    int64_t total = 0;
    std::string name = "a-name-that-is-too-long-to-be-kept-inside-of-the-string";
};

struct Step {
    int64_t amount;
};
