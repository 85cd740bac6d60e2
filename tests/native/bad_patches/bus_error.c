/* Reads a mapped file beyond its end. */
#include "bad.h"

#include <sys/mman.h>

static int32_t step(void *state, const void *input, void *output) {
    (void)state, (void)input, (void)output;
    int fd = memfd_create("short", 0);
    const char *volatile map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (*map) return 3;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
