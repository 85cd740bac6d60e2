/* What the host and its patch modules share: the state and the slots' inputs and outputs. A module built against
 * another version of this file must not be loaded into a running host: change it only together with a restart. */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdint.h>

/* Owned by the host; survives every swap. */
typedef struct counter {
    int64_t count;
    uint64_t ticks; /* slot calls so far */
} counter;

/* The output of counter.add and the input of counter.format. */
typedef struct counter_step {
    int64_t added;
} counter_step;

/* The output of counter.format: one line, without its end of line. */
typedef struct counter_line {
    char text[96];
} counter_line;

#endif
