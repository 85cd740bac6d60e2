/* Codes and their texts, and the small helpers that every file needs. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct hr_status_row {
    int32_t status;
    const char *code;
    const char *text;
    const char *fix;
} hr_status_row;

static const hr_status_row rows[] = {
    {HR_OK, "ok", "done", ""},
    {HR_SAME, "same", "this content is live already; nothing was swapped", ""},
    {HR_E_IO, "E-IO", "the file cannot be opened or copied",
     "check that the path exists, is readable and that the disk has space"},
    {HR_E_DENIED, "E-DENIED", "owner or permissions would let someone else's code in",
     "chmod go-w the file and its directory, and build with umask 022"},
    {HR_E_NOT_ELF, "E-NOT-ELF", "not a shared library that can be loaded",
     "build it with -shared (C, C++) or crate-type = [\"cdylib\"] (Rust)"},
    {HR_E_ARCH, "E-ARCH", "built for another machine", "build the module for the host's own target"},
    {HR_E_TRUNCATED, "E-TRUNCATED", "bytes are missing", "wait for the build to finish, or build again"},
    {HR_E_NO_MANIFEST, "E-NO-MANIFEST", "the library exports no HOTPATCH_MODULE_V1",
     "export it with HR_MODULE (hotreload/patch.h) or hotpatch_module! (Rust)"},
    {HR_E_ABI, "E-ABI", "magic, version or struct size of the manifest differ",
     "build the module against this hotreload's headers or crate"},
    {HR_E_MANIFEST, "E-MANIFEST", "the manifest's names, counts or pointers are invalid",
     "declare each slot once, with a name of 1 to 127 bytes and a function of this module"},
    {HR_E_LAYOUT, "E-LAYOUT", "a struct shared with the host differs",
     "undo the change, use a reserve, add a migration, or rebuild the host"},
    {HR_E_SYMBOLS, "E-SYMBOLS", "the module needs symbols that nobody offers",
     "link the library that defines them, or export them from the host"},
    {HR_E_STATIC_TLS, "E-STATIC-TLS",
     "the module needs static thread-local storage, which runs out after a few reloads",
     "build with -fPIC and -ftls-model=global-dynamic"},
    {HR_E_ON_LOAD, "E-ON-LOAD", "the module's on_load refused", "see why on_load returned this status"},
    {HR_E_QUARANTINED, "E-QUARANTINED", "this content crashed or was rolled back in this host",
     "change the code and build again, or restart the host"},
    {HR_E_CRASH, "E-CRASH", "the patch crashed after the swap and was rolled back", "fix the crash and build again"},
    {HR_E_HANG, "E-HANG", "the patch hung after the swap and was rolled back",
     "let the call return, or allow it more time (--hang-seconds), and build again"},
    {HR_E_NO_HOST, "E-NO-HOST", "no host is running", "start a program that calls hr_serve"},
    {HR_E_HOST_GONE, "E-HOST-GONE", "the host has exited", "start the host again"},
    {HR_E_PROTOCOL, "E-PROTOCOL", "tool and host do not speak the same protocol",
     "build the host against the hotreload that you run"},
    {HR_E_MIGRATE, "E-MIGRATE", "the host's state cannot get from its layout into the module's",
     "see the module's migration, or restart the host"},
    {HR_E_TRIAL, "E-TRIAL", "the trial run ended otherwise than the call that runs",
     "correct the patch, or swap without the trial"},
    {HR_E_DUPLICATE, "E-DUPLICATE", "declared or served already",
     "declare each slot once; use hr_find for more handles"},
    {HR_E_NO_SLOT, "E-NO-SLOT", "no slot of that symbol", "declare the slot, or correct the name"},
    {HR_E_NO_PREVIOUS, "E-NO-PREVIOUS", "nothing to roll back", "load a module first"},
    {HR_E_LIMIT, "E-LIMIT", "a limit is reached", "raise it with hr_configure before anything is declared"},
    {HR_E_MEMORY, "E-MEMORY", "out of memory", "free memory"},
    {HR_E_SAFE_POINT, "E-SAFE-POINT", "the host did not reach a safe point in time",
     "call hr_safepoint() in the host's main loop"},
    {HR_E_USAGE, "E-USAGE", "an argument is invalid", "see the function's comment in hotreload.h"},
    {HR_E_ABORTED, "E-ABORTED", "another module or host of the same transaction was refused",
     "correct that one; this one is offered again with it"},
};

static const hr_status_row *row_of(int32_t status) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status) return &rows[i];
    return NULL;
}

const char *hr_status_code(int32_t status) {
    const hr_status_row *row = row_of(status);
    return row ? row->code : "E-UNKNOWN";
}

const char *hr_status_text(int32_t status) {
    const hr_status_row *row = row_of(status);
    return row ? row->text : "unknown status";
}

const char *hr_status_fix(int32_t status) {
    const hr_status_row *row = row_of(status);
    return row ? row->fix : "";
}

const char *hr_version(void) { return HR_VERSION_TEXT; }

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t hr_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

uint64_t hr_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

void hr_copy_text(char *to, size_t size, const char *from) {
    size_t length = strlen(from);
    if (length >= size) {
        length = size - 1;
        while (length > 0 && ((unsigned char)from[length] & 0xC0) == 0x80) length--;
    }
    memcpy(to, from, length);
    memset(to + length, 0, size - length);
}

static size_t utf8_length(const unsigned char *text) {
    static const struct { unsigned char mask, lead, extra, least; } forms[] = {
        {0x80, 0x00, 0, 0}, {0xE0, 0xC0, 1, 0xC2}, {0xF0, 0xE0, 2, 0}, {0xF8, 0xF0, 3, 0}};
    for (size_t i = 0; i < 4; i++) {
        if ((text[0] & forms[i].mask) != forms[i].lead) continue;
        if (forms[i].least && text[0] < forms[i].least) return 0;
        if (text[0] > 0xF4 || (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
            (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
            return 0;
        for (size_t k = 1; k <= forms[i].extra; k++)
            if ((text[k] & 0xC0) != 0x80) return 0;
        return forms[i].extra + 1u;
    }
    return 0;
}

bool hr_text_valid(const char *text) {
    while (*text) {
        size_t step = (unsigned char)*text < 0x80 ? 1 : utf8_length((const unsigned char *)text);
        if (step == 0 || (unsigned char)*text < 0x20 || *text == 0x7F) return false;
        text += step;
    }
    return true;
}

hr_status hr_fail(hr_failure *failure, hr_status status, const char *found, const char *expected, const char *fix,
                  const char *reason, ...) {
    if (failure == NULL) return status;
    char text[2 * HR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, reason);
    vsnprintf(text, sizeof text, reason, arguments);
    va_end(arguments);
    memset(failure, 0, sizeof *failure);
    failure->status = status;
    hr_copy_text(failure->reason, sizeof failure->reason, text);
    hr_copy_text(failure->found, sizeof failure->found, found ? found : "");
    hr_copy_text(failure->expected, sizeof failure->expected, expected ? expected : "");
    hr_copy_text(failure->fix, sizeof failure->fix, fix ? fix : hr_status_fix(status));
    return status;
}
