// What the host in C++ and its modules share.
#pragma once

#include <hotreload/hotreload.hpp>

#include <cstdint>
#include <string>

struct Counter {
    int64_t total = 0;
    std::string name = "a-name-that-is-too-long-to-be-kept-inside-of-the-string";
};

#ifndef AMOUNT
#define AMOUNT int64_t
#endif

#define STEP_FIELDS(F) F(Step, amount, AMOUNT)
HR_STRUCT(Step, STEP_FIELDS)
HOTRELOAD_LAYOUT(Step, STEP_FIELDS)
