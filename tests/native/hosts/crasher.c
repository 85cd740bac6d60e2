/* A patch of the slot "step" that changes its state and crashes, in one of eight ways, or hangs in two, or does neither. */
#include <hotreload/patch.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crasher.h"

static volatile char mark[] = CRASHER_MARK "00000000";
static int *volatile nowhere;
static volatile int one = 1, zero;
static volatile size_t size = 100;

static int deeper(int depth) {
    volatile char room[1024];
    room[depth % 1024] = 1;
    return depth < 0 ? 0 : deeper(depth + 1) + room[0];
}

static int32_t step(void *opaque, const void *input, void *output) {
    crasher_state *state = opaque;
    (void)input;
    (void)output;
    if (mark[sizeof mark - 2] == 'g') return 2;
    state->steps += 100;
    state->hash = ~state->hash;
    switch (mark[sizeof mark - 2]) {
    case '0': *nowhere = 1; break;
    case '1': return one / zero;
    case '2': __builtin_trap();
    case '3': abort();
    case '4': memset((void *)(uintptr_t)nowhere, 1, size); break;
    case '5': ((void (*)(void))(uintptr_t)0x123456789a)(); break;
    case '6': return deeper(0);
    case '7': raise(SIGBUS); break;
    case '8':
        for (volatile int i = 0;; i++) {
        }
    case '9':
        for (;;) sleep(1000);
    }
    return -1;
}

HR_MODULE("crasher", 1, HR_PATCH("step", step))
