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
    if (manifest->layout != NULL) {
        void *packed = NULL;
        uint64_t packed_size;
        hr_layout_v1 *again = NULL;
        hr_layout_comparison *comparison = NULL;
        if (hr_layout_pack(manifest->layout, &packed, &packed_size) != HR_OK ||
            hr_layout_unpack(packed, packed_size, &failure, &again) != HR_OK ||
            hr_layout_compare(manifest->layout, again, &comparison) != HR_OK || comparison->row_count != 0)
            abort();
        hr_comparison_free(comparison);
        hr_layout_free(again);
        hr_layout_bytes_free(packed);
    }
    hr_manifest_free(manifest);
}
