/* What the host of the integration tests shares with its modules. */
#ifndef STATE_H
#define STATE_H

#include <stdint.h>

#include <hotreload/describe.h>

typedef struct host_state {
    uint64_t count;
    int32_t veto; /* what on_load is to return */
    int32_t loads;
} host_state;

#define HOST_STATE_FIELDS(F) F(host_state, count, uint64_t) F(host_state, veto, int32_t) F(host_state, loads, int32_t)

#endif
