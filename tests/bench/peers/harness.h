/* One harness for all peers: each peer is a small program that fills in an hb_peer and gives it to hb_main.
 *
 * The work is the same everywhere: step(state, in, out) sets out = in + VERSION, in two functions, a and b. */
#ifndef HB_HARNESS_H
#define HB_HARNESS_H

#include <stdint.h>

/* What the host owns and functions are given. `guard` is the host's own: a module built for another struct hits it. */
typedef struct hb_state {
    int64_t total;
    int64_t guard;
    char apart[112]; /* one thread's state never shares a cache line with another's */
} hb_state;
#define HB_STATE_FIELDS(F) F(hb_state, total, int64_t) F(hb_state, guard, int64_t) F(hb_state, apart, char, [112])

typedef struct hb_peer {
    const char *name;
    /* Brings in the module at `path` (version 1), in place of what the peer was built with. `scratch` is a directory of
     * this run. 0: functions can be called. */
    int (*open)(const char *path, const char *scratch);
    /* Calls a `calls` times with in = 1. Part of the peer, so that its language may inline its calls. */
    void (*loop)(uint64_t calls, hb_state *state);
    /* One call of a, of b; their `out`. */
    int64_t (*a)(hb_state *state, int64_t in);
    int64_t (*b)(hb_state *state, int64_t in);
    /* Calls a and b as one unit where the peer has such a thing (a frame, a tick); null: one after the other. */
    void (*pair)(hb_state *state, int64_t in, int64_t out[2]);
    /* Swaps to the module at `path`, a name never used before; 0: done, else refused. Null: the peer watches. */
    int (*load)(const char *path);
    /* What the peer wants called between calls (it polls there). May be null. */
    void (*tick)(void);
    /* Between ticks of an idle host, microseconds; 0: it is not ticked. */
    uint32_t tick_us;
    /* Non-zero: its calls are for one thread alone. */
    uint32_t single_thread;
} hb_peer;

/* PROGRAM MODE OUTPUT SCRATCH V1 V2 [ARG...]; prints JSON. OUTPUT is the watched name. See harness.c for the modes. */
int hb_main(int argc, char **argv, const hb_peer *peer);

#endif
