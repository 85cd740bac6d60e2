/* A host with a described state: loads the modules that its standard input names and tells what came of each.
 *
 *     layout_host [plain|state|stubborn|two|serve]
 *
 * plain: declares no layout; state: registers its three shapes; stubborn: the same, and gives no room; two: the same, and
 * a second slot takes shapes too; serve, safe: the same as state, served to tools without and with safe points.
 * Commands: "load PATH", "tick" (calls the slot for each shape), "rollback", "size" (of a shape, and calls of resize).
 * Each answers with one line. */
#define _POSIX_C_SOURCE 200809L
#include "shape.h"

#include <hotreload/hotreload.h>

#include <stdbool.h>
#include <time.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAPES 3

HR_HOST_LAYOUT(layout, SHAPE_TYPES, HR_TAKES("shape.tick", Shape, void, void),
               HR_TAKES("shape.draw", Shape, void, void))

static int32_t tick(void *state, const void *input, void *output) {
    (void)input, (void)output;
    return ((Shape *)state)->value;
}

static hr_slot slot = HR_SLOT("shape.tick", tick);
static hr_slot draw = HR_SLOT("shape.draw", tick);

static const char *mode = "";
static char *shapes; /* an array; only its elements' size is known to this program when it has been migrated */
static size_t shape_size = sizeof(Shape);
static int resized;

/* Writes over the old memory: what it held is not to be relied on. */
static void *resize(void *owner, void *state, uint64_t size, uint32_t align) {
    if (strcmp(mode, "stubborn") == 0 || owner != &shapes) return NULL;
    void *room = NULL;
    if (posix_memalign(&room, align < 8 ? 8 : align, (size_t)size) != 0) return NULL;
    memset(state, 0xEE, SHAPES * sizeof(Shape));
    free(state);
    memset(room, 0xDD, (size_t)size);
    shapes = room;
    shape_size = (size_t)size / SHAPES;
    resized++;
    return room;
}

static int make_shapes(void) {
    shapes = calloc(SHAPES, sizeof(Shape));
    for (int i = 0; i < SHAPES; i++) ((Shape *)shapes)[i] = (Shape){.value = 7 + i, .at = {1.5f, 2.5f}};
    if (strcmp(mode, "") == 0 || strcmp(mode, "plain") == 0) return 1;
    hr_state state = {"Shape", shapes, SHAPES * sizeof(Shape), resize, &shapes, 0};
    hr_state wrong = {"Shape", shapes, SHAPES * sizeof(Shape) - 1, resize, &shapes, 0};
    hr_state unknown = {"Square", shapes, 4, resize, &shapes, 0};
    return hr_state_register(NULL, &wrong) == HR_E_USAGE && hr_state_register(NULL, &unknown) == HR_E_USAGE &&
           hr_state_register(NULL, &state) == HR_OK && hr_state_register(NULL, &state) == HR_E_DUPLICATE;
}

static void *safe_points(void *nothing) {
    for (;;) {
        hr_safepoint();
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    return nothing;
}

static void print_failure(const hr_failure *failure) {
    printf("%s | %s | %s | %s\n", hr_status_code(failure->status), failure->reason, failure->found, failure->expected);
}

int main(int argc, char **argv) {
    hr_failure failure = {0};
    if (argc > 1) mode = argv[1];
    if (hr_declare(NULL, &slot) != HR_OK || (strcmp(mode, "two") == 0 && hr_declare(NULL, &draw) != HR_OK)) return 2;
    if (strcmp(mode, "plain") != 0 && hr_declare_layout(NULL, &layout, &failure) != HR_OK) {
        print_failure(&failure);
        return 3;
    }
    if (!make_shapes()) return 4;
    bool safe = strcmp(mode, "safe") == 0;
    pthread_t thread;
    if (safe && pthread_create(&thread, NULL, safe_points, NULL) != 0) return 5;
    if ((safe || strcmp(mode, "serve") == 0) &&
        hr_serve(NULL, "shapes", safe ? HR_SERVE_SAFE_POINT : 0, &failure) != HR_OK)
        return 6;
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[1200];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "load ", 5) == 0) {
            hr_report *report;
            hr_load(NULL, line + 5, &report);
            if (report->status == HR_OK || report->status == HR_SAME) printf("%s\n", hr_status_code(report->status));
            else print_failure(&report->failure);
            hr_report_free(report);
        } else if (strcmp(line, "tick") == 0) {
            for (int i = 0; i < SHAPES; i++) {
                int value = (int)hr_call(&slot, shapes + (size_t)i * shape_size, NULL, NULL);
                printf("%d%s", value, i < SHAPES - 1 ? " " : "\n");
            }
        } else if (strcmp(line, "size") == 0) {
            printf("%zu %d\n", shape_size, resized);
        } else if (strcmp(line, "rollback") == 0) {
            hr_report **reports;
            uint32_t count;
            hr_status status = hr_rollback(NULL, NULL, &reports, &count);
            if (status == HR_OK) printf("ok\n");
            else print_failure(&reports[0]->failure);
            hr_reports_free(reports, count);
        }
    }
    return 0;
}
