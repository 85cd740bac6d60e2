/* Fuzz target: the bytes of a module, through preflight and all that reads a module that preflight accepted. */
#include "target.h"

#include <hotreload/preflight.h>

#include <stdlib.h>
#include <string.h>

static int resolved(const char *name) { return name[0] == 'a'; }

void fuzz_start(void) {}

void fuzz_one(const uint8_t *bytes, size_t size, FILE *told) {
    hr_failure failure;
    hr_manifest *manifest = NULL;
    hr_status status = hr_preflight(bytes, size, &failure, &manifest);
    if ((status == HR_OK) != (manifest != NULL) || (status != HR_OK && failure.status != (int32_t)status)) abort();
    if (told) fprintf(told, "%s\n", hr_status_code(status));
    if (status != HR_OK) return;
    char names[HR_TEXT_SIZE];
    hr_preflight_undefined(bytes, size, resolved, names, sizeof names);
    if (strlen(names) >= sizeof names) abort();
    hr_manifest_free(manifest);
}
