/* Initialisers and finalisers (P10). */
#include "image.h"

/* ---- P10: initialisers and finalisers ---- */

static hr_status check_hook(image *image, uint32_t tag, const char *name) {
    if (!HAS(image, tag) || hr_image_callable(image, VALUE(image, tag))) return HR_OK;
    return hr_image_damaged(image, hr_textf("%s 0x%" PRIx64, name, VALUE(image, tag)).s, "the start of a function",
                            "an initialiser or finaliser is no function");
}

static hr_status check_hooks(image *image, const window *window, const char *name) {
    for (uint64_t i = 0; i < window->count; i++)
        if (window->kinds[i] != WORD_ADDRESS || !hr_image_callable(image, window->words[i]))
            return hr_image_damaged(image, hr_textf("%s %" PRIu64 ": 0x%" PRIx64, name, i, window->words[i]).s,
                                    "the start of a function of this module",
                                    "an initialiser or finaliser is no function");
    return HR_OK;
}

static hr_status check_hook_array(image *image, uint32_t tag, uint32_t size_tag, const char *name) {
    if (!HAS(image, tag)) return HR_OK;
    hr_status status;
    window window;
    if (!HAS(image, size_tag) || VALUE(image, size_tag) % 8 != 0)
        return hr_image_damaged(image, name, NULL, "the array of initialisers or finalisers has no size");
    if (hr_window_open(image, VALUE(image, tag), VALUE(image, size_tag) / 8, &window, &status)) {
        windows one = {&window, 1};
        status = hr_image_visit(image, hr_window_apply, &one);
        if (status == HR_OK) status = check_hooks(image, &window, name);
    } else if (status == HR_OK) {
        status = hr_image_damaged(image, name, NULL, "the array of initialisers or finalisers lies outside the module");
    }
    hr_window_close(&window);
    return status;
}

hr_status hr_image_check_initialisers(image *image) {
    hr_status status = check_hook(image, DT_INIT, "DT_INIT");
    if (status == HR_OK) status = check_hook(image, DT_FINI, "DT_FINI");
    if (status == HR_OK) status = check_hook_array(image, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, "DT_INIT_ARRAY");
    if (status == HR_OK) status = check_hook_array(image, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, "DT_FINI_ARRAY");
    return status;
}
