/* Us, in C, linked statically. Compiled twice: told by hr_load, and -DWATCHED, served for `hotreload watch`. */
#include "harness.h"

#include <hotreload/hotreload.h>
#include <stddef.h>
#include <stdlib.h>

static int32_t fallback(void *state, const void *input, void *output) {
    (void)state;
    *(int64_t *)output = *(const int64_t *)input;
    return 0;
}

static hr_slot slot_a = HR_SLOT("a", fallback), slot_b = HR_SLOT("b", fallback);

HR_LAYOUT(hb_state, HB_STATE_FIELDS)
HR_HOST_LAYOUT(layout, , HR_TAKES("a", hb_state, int64_t, int64_t), HR_TAKES("b", hb_state, int64_t, int64_t))
/* Choices of the host's, on where they are what is measured: the guard in the corpus of bad modules, unloading in a row
 * of its own. */
static void choose(void) {
    hr_options options = {.hang_ms = 500};
    if (getenv("PEERS_GUARD")) options.flags |= HR_OPTION_GUARD;
    if (getenv("PEERS_UNLOAD")) options.flags |= HR_OPTION_UNLOAD;
    if (options.flags) hr_set_options(&options);
}

static int declare(void) {
    choose();
    if (hr_declare(NULL, &slot_a) != HR_OK || hr_declare(NULL, &slot_b) != HR_OK) return 1;
    return hr_declare_layout(NULL, &layout, NULL) != HR_OK;
}

#ifndef WATCHED
static int load(const char *path) { return hr_load(NULL, path, NULL) > HR_SAME; }

/* Where a host that serves nobody lets modules be unloaded. */
static void tick(void) { hr_poll(0); }
#endif

static int open_module(const char *path, const char *scratch) {
    (void)scratch;
    if (declare() != 0) return 1;
#ifdef WATCHED
    (void)path;
    return hr_serve(NULL, "peers", 0, NULL) != HR_OK;
#else
    return load(path);
#endif
}

__attribute__((aligned(64))) static void loop(uint64_t calls, hb_state *state) {
    int64_t input = 1, output = 0;
    for (uint64_t i = 0; i < calls; i++) hr_call(&slot_a, state, &input, &output);
}

static int64_t call_a(hb_state *state, int64_t input) {
    int64_t output = -1;
    hr_call(&slot_a, state, &input, &output);
    return output;
}

static int64_t call_b(hb_state *state, int64_t input) {
    int64_t output = -1;
    hr_call(&slot_b, state, &input, &output);
    return output;
}

static void pair(hb_state *state, int64_t input, int64_t output[2]) {
    hr_frame frame = hr_frame_begin();
    hr_frame_call(&frame, &slot_a, state, &input, &output[0]);
    hr_frame_call(&frame, &slot_b, state, &input, &output[1]);
    hr_frame_end(&frame);
}

int main(int argc, char **argv) {
    hb_peer peer = {.name = "hotreload", .open = open_module, .loop = loop, .a = call_a, .b = call_b, .pair = pair};
#ifndef WATCHED
    peer.load = load;
    if (getenv("PEERS_UNLOAD")) peer.tick = tick;
#endif
    return hb_main(argc, argv, &peer);
}
