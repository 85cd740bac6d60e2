/* What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
 * again, with the newest modules. */
#ifndef STATE_H
#define STATE_H

#include <hotreload/describe.h>
#include <stdint.h>

/* Owned by the host; survives every swap. A list makes the struct, and describes it to both sides: a module that was
 * built with another one is refused, field by field (E-LAYOUT). */
#define STATE_FIELDS(F) F(state, count, int64_t)
HR_STRUCT(state, STATE_FIELDS)
HR_LAYOUT(state, STATE_FIELDS)

/* The output of the slot @NAME@.tick: what the count grew by. */
#define TICK_FIELDS(F) F(tick, step, int64_t)
HR_STRUCT(tick, TICK_FIELDS)
HR_LAYOUT(tick, TICK_FIELDS)

/* What the slot takes: state, input, output. */
#define SHARED_TYPES HR_TYPE(state) HR_TYPE(tick)
#define SHARED_SLOTS HR_TAKES("@NAME@.tick", state, void, tick)

#endif
