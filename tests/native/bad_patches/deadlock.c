/* Locks a mutex twice. */
#include "bad.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&mutex);
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
