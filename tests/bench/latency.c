/* For bench_latency.py and bench_debug_info.py.
 *
 *     latency host                 a host that prints, for every new implementation, its number and when it first ran
 *     latency floor MODULE...      for each module, the time that plain dlopen, dlsym and the first call take
 *
 * Times are CLOCK_MONOTONIC in ns, which all processes of a machine share. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, nanosleep */

#include <dlfcn.h>
#include <hotreload/hotreload.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "latency.h"

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int32_t fallback(void *state, const void *input, void *output) {
    latency_state *own = state;
    (void)input;
    own->count++;
    *(int64_t *)output = 0;
    return 0;
}

static hr_slot slot = HR_SLOT("latency.value", fallback);

#ifdef DESCRIBED
HR_HOST_LAYOUT(layout, HR_TYPE(latency_state), LATENCY_TAKES)
static hr_status declare_layout(void) { return hr_declare_layout(NULL, &layout, NULL); }
#else
static hr_status declare_layout(void) { return HR_OK; }
#endif

static int host(void) {
    int64_t seen = 0;
    latency_state own = {0, 0};
    if (hr_declare(NULL, &slot) != HR_OK || declare_layout() != HR_OK) return 1;
    if (hr_serve(NULL, "latency", 0, NULL) != HR_OK) return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int64_t value = 0;
        hr_call(&slot, &own, NULL, &value);
        if (value != seen) printf("%" PRId64 " %" PRId64 "\n", seen = value, now_ns());
        /* Not a spin: on two cores it would take the time that it measures. 50 us are a part of every number. */
        nanosleep(&(struct timespec){0, 50000}, NULL);
    }
}

static int floor_of(int count, char **paths) {
    for (int i = 0; i < count; i++) {
        int64_t value = 0, began = now_ns();
        void *library = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
        const hr_patch_module_v1 *module = library ? dlsym(library, "HOTPATCH_MODULE_V1") : NULL;
        if (module == NULL) return 1;
        module->entries[0].func(NULL, NULL, &value);
        printf("%" PRId64 " %" PRId64 "\n", value, now_ns() - began);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "host") == 0) return host();
    if (count > 2 && strcmp(arguments[1], "floor") == 0) return floor_of(count - 2, arguments + 2);
    return 2;
}
