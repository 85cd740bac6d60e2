/* What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
 * again, with the newest modules. */
#ifndef STATE_H
#define STATE_H

#include <stdint.h>

/* Owned by the host; survives every swap. */
typedef struct state {
    int64_t count;
} state;

/* The output of the slot @NAME@.tick. */
typedef struct tick {
    int64_t step; /* what the count grew by */
} tick;

#endif
