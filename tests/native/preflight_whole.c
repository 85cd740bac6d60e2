/* Preflight's checks of everything but the manifest, for libraries that are no modules: none of a machine's own
 * libraries may be taken for damaged. Includes the file itself, because these steps have no other way in. */
#include "../../shim/src/preflight.c"

hr_status hr_test_whole(const void *bytes, uint64_t size, hr_failure *failure) {
    image image = {.bytes = bytes, .size = size, .failure = failure};
    char build_id[HR_BUILD_ID_SIZE] = {0};
    hr_status status = check_structure(&image);
    if (status == HR_OK) status = check_loading(&image);
    return status == HR_OK ? hr_image_build_id(&image, build_id) : status;
}
