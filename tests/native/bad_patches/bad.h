/* What the bad patches share. Each file is one patch of the slot "bad.step"; its first line says what is wrong with it. */
#define _GNU_SOURCE 1
#include <hotreload/patch.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKS 2 /* what the patches would return; the fallback of the host returns 1 */

/* What the host gives as state: exclusive to the call, as it tells the guard. */
typedef struct bad_state {
    int64_t steps;
    int64_t check; /* always the same as steps */
} bad_state;
