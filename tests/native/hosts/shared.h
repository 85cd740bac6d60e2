/* The state that the test host (host.c) and the modules of the tests share. */
#ifndef TEST_SHARED_H
#define TEST_SHARED_H

#include <stdint.h>

typedef struct host_state {
    int32_t loads;   /* how often an on_load ran */
    int32_t unloads; /* how often an on_unload ran */
    int32_t veto;    /* what on_load returns */
    int32_t inside;  /* threads inside a blocking implementation (atomic) */
    int32_t gate;    /* non-zero: blocking implementations return (atomic) */
    int32_t value;   /* counts up where a test wants to see that the state survives */
    int32_t (*nested)(struct host_state *state); /* calls the slot named by the host's `nest` command */
} host_state;

#endif
