// The same host over cr.h: one thread calls cr_plugin_update all the time, which looks at the plugin's file, loads it
// when it is newer, and goes back a version after a signal. victim.h tells what it answers.
//
//     victim_cr PLUGIN
#define CR_HOST
#include <cr.h>

#include "victim.h"

struct call_arguments { // bad.h
    state *given;
    int64_t *result;
};

static cr_plugin plugin;
static call_arguments given = {&own, &output.value};

static void *call(void *) {
    for (;; usleep(500)) {
        int64_t before = own.steps;
        if (cr_plugin_update(plugin) >= 0) count_call(before); // else: cr.h goes back in the next update
    }
}

int main(int count, char **arguments) {
    plugin.userdata = &given;
    if (count != 2 || !cr_plugin_load(plugin, arguments[1])) return 2;
    return answer(call);
}
