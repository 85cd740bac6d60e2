/* Fuzz target: a black box as a host that is broken, or hostile, might hand it over; everything that reads one. The
 * input becomes a shared memory of its size, as it stands.
 *
 * Copies of whole records are bounded by the block's size, which the reader has checked: nothing here may be reached
 * that lies outside. */
#define _GNU_SOURCE 1
#include "target.h"

#include <hotreload/hotreload.h>
#include <hotreload/wire.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS 64u

static int memory = -1;

void fuzz_start(void) {}

/* Of an even size sealed, so that the reader maps it; of an odd one not, so that it copies. */
static void fill(const uint8_t *bytes, size_t size) {
    if (memory >= 0) close(memory);
    memory = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || fchmod(memory, 0600) != 0 || ftruncate(memory, (off_t)size) != 0) abort();
    if (size % 2 == 0 && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) abort();
    if (size && pwrite(memory, bytes, size, 0) != (ssize_t)size) abort();
}

static void ends(const char *text, size_t size) {
    if (memchr(text, 0, size) == NULL) abort();
}

static void read_all(const hr_box_reader *reader) {
    hr_box header;
    hr_box_header(reader, &header);
    ends(header.name, sizeof header.name);
    ends(header.version_text, sizeof header.version_text);
    static hr_box_slot slots[RECORDS];
    uint32_t count = hr_box_slots(reader, slots, RECORDS);
    if (count > RECORDS) abort();
    for (uint32_t i = 0; i < count; i++) {
        ends(slots[i].symbol, sizeof slots[i].symbol);
        if (slots[i].module > header.module_capacity) abort();
    }
    static hr_times times[2 * RECORDS];
    if (hr_box_times_of(reader, slots, times, count) > count) abort();
    static hr_box_module modules[RECORDS];
    count = hr_box_modules(reader, modules, RECORDS);
    if (count > RECORDS) abort();
    for (uint32_t i = 0; i < count; i++) {
        ends(modules[i].name, sizeof modules[i].name);
        ends(modules[i].path, sizeof modules[i].path);
        ends(modules[i].staged, sizeof modules[i].staged);
        ends(modules[i].reason, sizeof modules[i].reason);
    }
    static uint64_t calls[RECORDS];
    static uint32_t in_flight[RECORDS];
    hr_box_calls(reader, calls, in_flight, RECORDS);
    static hr_event events[8];
    for (uint64_t after = 0, round = 0; round < 4; round++) {
        count = hr_box_events(reader, after, events, 8);
        if (count > 8) abort();
        for (uint32_t i = 0; i < count; i++) {
            ends(events[i].module, sizeof events[i].module);
            ends(events[i].changes, sizeof events[i].changes);
            ends(events[i].failure.fix, sizeof events[i].failure.fix);
        }
        if (count == 0) break;
        after = events[count - 1].number;
    }
}

void fuzz_one(const uint8_t *bytes, size_t size, FILE *told) {
    fill(bytes, size);
    hr_failure failure = {0};
    hr_box_reader *reader = NULL;
    hr_status status = hr_box_open(memory, &reader, &failure);
    if ((status == HR_OK) != (reader != NULL)) abort();
    if (told) fprintf(told, "%s\n", hr_status_code(status));
    if (status != HR_OK) return;
    read_all(reader);
    hr_box_close(reader);
}
