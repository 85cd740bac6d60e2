/* A host with a described state: loads the modules that its standard input names and tells what came of each.
 *
 *     layout_host [plain]      plain: declares no layout
 *
 * Commands: "load PATH", "tick" (calls the slot), "rollback". Each answers with one line. */
#include "shape.h"

#include <hotreload/hotreload.h>

#include <stdio.h>
#include <string.h>

HR_HOST_LAYOUT(layout, SHAPE_TYPES, HR_TAKES("shape.tick", Shape, void, void))

static int32_t tick(void *state, const void *input, void *output) {
    (void)input, (void)output;
    return ((Shape *)state)->value;
}

static hr_slot slot = HR_SLOT("shape.tick", tick);

static void print_failure(const hr_failure *failure) {
    printf("%s | %s | %s | %s\n", hr_status_code(failure->status), failure->reason, failure->found, failure->expected);
}

int main(int argc, char **argv) {
    static Shape shape = {.value = 7};
    hr_failure failure = {0};
    if (hr_declare(NULL, &slot) != HR_OK) return 2;
    if (!(argc > 1 && strcmp(argv[1], "plain") == 0) && hr_declare_layout(NULL, &layout, &failure) != HR_OK) {
        print_failure(&failure);
        return 3;
    }
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
            printf("%d\n", (int)hr_call(&slot, &shape, NULL, NULL));
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
