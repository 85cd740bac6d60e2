/* What the guard rails count instructions of: each function below is called as often as asked, and nothing else counts.
 *
 *     counted plain|call|frame|outline COUNT      one way to call a function, COUNT times
 *     counted preflight COUNT MODULE              hr_preflight of the same bytes
 *     counted commit COUNT V1 V2                  hr_commit of all slots of a module, version 1 and 2 by turns
 *
 * test_instructions.py builds and runs it. */
#include <hotreload/hotreload.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTED __attribute__((noinline, aligned(64)))

static int32_t step(void *state, const void *input, void *output) {
    (void)state;
    *(int64_t *)output = *(const int64_t *)input + 1;
    return 0;
}

static hr_slot slot = HR_SLOT("counted.step", step);
static hr_patch_fn volatile plain = step; /* volatile: read anew for every call, as what is exchanged must be */

COUNTED void counted_plain(int count) {
    int64_t input = 1, output = 0;
    for (int i = 0; i < count; i++) plain(NULL, &input, &output);
}

COUNTED void counted_call(int count) {
    int64_t input = 1, output = 0;
    for (int i = 0; i < count; i++) hr_call(&slot, NULL, &input, &output);
}

COUNTED void counted_frame(int count) {
    int64_t input = 1, output = 0;
    hr_frame frame = hr_frame_begin();
    for (int i = 0; i < count; i++) hr_frame_call(&frame, &slot, NULL, &input, &output);
    hr_frame_end(&frame);
}

COUNTED void counted_outline(int count) {
    int64_t input = 1, output = 0;
    for (int i = 0; i < count; i++) hr_call_slot(&slot, NULL, &input, &output);
}

COUNTED hr_status counted_preflight(const void *bytes, uint64_t size, hr_manifest **manifest) {
    hr_failure failure;
    return hr_preflight(bytes, size, &failure, manifest);
}

COUNTED hr_status counted_commit(hr_transaction *transaction, hr_report **reports) {
    return hr_commit(transaction, reports);
}

static int calls(void (*way)(int), int count) {
    int64_t input = 1, output = 0;
    if (hr_declare(NULL, &slot) != HR_OK) return 1;
    hr_call(&slot, NULL, &input, &output); /* attaches the thread */
    way(count);
    /* Where the thread has no shard, another path would have been counted: say so. */
    return hr_thread_attach() ? 0 : 3;
}

static int preflight(int count, const char *path) {
    static char bytes[4 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) return 1;
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    for (int i = 0; i < count; i++) {
        hr_manifest *manifest;
        if (counted_preflight(bytes, size, &manifest) != HR_OK) return 1;
        hr_manifest_free(manifest);
    }
    return 0;
}

static int commit(int count, char **versions) {
    for (int i = 0; i < count; i++) {
        const char *path = versions[i % 2];
        hr_report *report = NULL;
        hr_transaction *transaction;
        if (hr_prepare(NULL, &path, 1, &report, &transaction) != HR_OK) {
            fprintf(stderr, "counted: %s\n", report->failure.reason);
            return 1;
        }
        if (counted_commit(transaction, &report) != HR_OK) return 1;
        hr_report_free(report);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(int);
    } ways[] = {
        {"plain", counted_plain}, {"call", counted_call}, {"frame", counted_frame}, {"outline", counted_outline}};
    int count = argc > 2 ? atoi(argv[2]) : 0;
    if (count < 1) return 2;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(argv[1], ways[i].name) == 0) return calls(ways[i].run, count);
    if (strcmp(argv[1], "preflight") == 0 && argc == 4) return preflight(count, argv[3]);
    if (strcmp(argv[1], "commit") == 0 && argc == 5) return commit(count, argv + 3);
    return 2;
}
