/* Fuzz target: two descriptions of layouts as messages carry them, read and compared as a host's and a module's.
 *
 * The input's first four bytes tell how many of the others are the host's; the rest are the module's. */
#include "target.h"

#include <hotreload/layout.h>

#include <stdlib.h>
#include <string.h>

void fuzz_start(void) {}

static hr_layout_v1 *unpacked(const uint8_t *bytes, size_t size, FILE *told) {
    hr_failure failure;
    hr_layout_v1 *layout = NULL;
    /* Of its own size, so that AddressSanitizer sees a read beyond it, and aligned as what a message is read into. */
    uint8_t *copy = malloc(size ? size : 1);
    if (copy == NULL) abort();
    if (size) memcpy(copy, bytes, size);
    hr_status status = hr_layout_unpack(copy, size, &failure, &layout);
    free(copy);
    if ((status == HR_OK) != (layout != NULL) || (status != HR_OK && failure.status != (int32_t)status)) abort();
    if (told && status != HR_OK) fprintf(told, "%s\n", hr_status_code(status));
    return layout;
}

/* Nothing is lost or added on the way through a message, and no description differs from itself. */
static void check_itself(const hr_layout_v1 *layout) {
    void *packed = NULL, *again = NULL;
    uint64_t packed_size, again_size;
    hr_failure failure;
    hr_layout_v1 *second = NULL;
    hr_layout_comparison *comparison = NULL;
    if (hr_layout_pack(layout, &packed, &packed_size) != HR_OK ||
        hr_layout_unpack(packed, packed_size, &failure, &second) != HR_OK ||
        hr_layout_pack(second, &again, &again_size) != HR_OK || packed_size != again_size ||
        memcmp(packed, again, (size_t)packed_size) != 0)
        abort();
    if (hr_layout_compare(layout, second, &comparison) != HR_OK || comparison->row_count != 0) abort();
    hr_comparison_free(comparison);
    hr_layout_free(second);
    hr_layout_bytes_free(packed);
    hr_layout_bytes_free(again);
}

static void compare(const hr_layout_v1 *host, const hr_layout_v1 *module, FILE *told) {
    hr_layout_comparison *comparison = NULL;
    hr_failure failure = {0};
    hr_status status = hr_layout_compare(host, module, &comparison);
    if (comparison == NULL || comparison->status != (int32_t)status) abort();
    if ((status == HR_OK) != (comparison->refused == 0)) abort();
    uint32_t refused = 0;
    for (uint32_t i = 0; i < comparison->row_count; i++) refused += comparison->rows[i].refused != 0;
    if (refused != comparison->refused) abort();
    if (status == HR_E_LAYOUT) {
        hr_layout_explain(comparison, host, &failure);
        if (failure.status != HR_E_LAYOUT || memchr(failure.found, 0, sizeof failure.found) == NULL ||
            memchr(failure.expected, 0, sizeof failure.expected) == NULL || failure.found[0] == 0)
            abort();
    }
    hr_comparison_free(comparison);
    if (told) fprintf(told, "%s\n", hr_status_code(status));
}

void fuzz_one(const uint8_t *bytes, size_t size, FILE *told) {
    uint32_t first;
    if (size < sizeof first) return;
    memcpy(&first, bytes, sizeof first);
    bytes += sizeof first;
    size -= sizeof first;
    if (first > size) first = (uint32_t)size;
    hr_layout_v1 *host = unpacked(bytes, first, told);
    hr_layout_v1 *module = unpacked(bytes + first, size - first, told);
    if (host) check_itself(host);
    if (module) check_itself(module);
    if (host && module) {
        compare(host, module, told);
        compare(module, host, told);
    }
    hr_layout_free(host);
    hr_layout_free(module);
}
