/* Starts a thread, which crashes later. */
#include "bad.h"

static int *volatile nowhere;
static int started;
static void *later(void *unused) {
    usleep(100000);
    *nowhere = 1;
    return unused;
}

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    pthread_t thread;
    if (__atomic_exchange_n(&started, 1, __ATOMIC_RELAXED) == 0) pthread_create(&thread, NULL, later, NULL);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
