/* The black box: shared memory in which the host publishes what runs, and its readers.
 *
 * Invariants:
 *  B1  Only the host writes; the descriptor that it hands out is sealed against anybody else's writing, or read-only.
 *  B2  Slot and module records change between hr_blackbox_begin and _end only, under hr.lock; box->sequence is odd
 *      meanwhile. Partner of each fence: the one of the same name in read_records. Apart from these, a slot's first
 *      call is stamped by its caller at any time, in two words that are atomic each.
 *  B3  A reader trusts nothing: offsets and sizes are checked once against the block's size (sealed, or that of our copy), counts
 *      are limited to the capacities found then, strings are terminated in the copy. A host killed inside B2 leaves an
 *      odd sequence; its records are read all the same.
 *  B4  The block outlives the process where it can: a file in memory (remains.c), which no one can seal. A reader maps
 *      a sealed block only; what might shrink under it, and so kill it, it reads piece by piece into memory of its own. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u

_Static_assert(sizeof(hr_box_slot) % 64 == 0 && offsetof(hr_box_slot, version) % 64 == 0 &&
                   offsetof(hr_box_slot, first_version) - offsetof(hr_box_slot, version) <= 64,
               "a commit of thousands of slots touches one cache line of each record");

static uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

static uint64_t stride_of(uint32_t capacity) {
    return round_up(offsetof(hr_shard, calls) + (uint64_t)capacity * sizeof(uint64_t), PAGE);
}

uint64_t hr_blackbox_shard_stride(void) { return hr.box->shard_stride; }

/* The block's size and every offset, from the capacities alone. */
static void plan(hr_box *box, uint32_t capacity) {
    memset(box, 0, sizeof *box);
    box->magic = HR_BOX_MAGIC;
    box->version = HR_BOX_VERSION;
    box->header_size = HR_BOX_HEADER_SIZE;
    box->slot_size = sizeof(hr_box_slot);
    box->module_size = sizeof(hr_box_module);
    box->event_size = sizeof(hr_event);
    box->slot_capacity = capacity;
    box->module_capacity = HR_BOX_MODULES;
    box->event_capacity = HR_BOX_EVENTS;
    box->shard_capacity = HR_BOX_SHARDS;
    box->shard_stride = stride_of(capacity);
    box->slots_offset = HR_BOX_HEADER_SIZE;
    box->modules_offset = round_up(box->slots_offset + (uint64_t)capacity * sizeof(hr_box_slot), PAGE);
    box->events_offset = round_up(box->modules_offset + HR_BOX_MODULES * sizeof(hr_box_module), PAGE);
    box->shards_offset = round_up(box->events_offset + HR_BOX_EVENTS * sizeof(hr_event), PAGE);
    box->times_size = sizeof(hr_box_times);
    box->times_offset = box->shards_offset + HR_BOX_SHARDS * box->shard_stride;
    box->size = round_up(box->times_offset + (uint64_t)capacity * 2 * sizeof(hr_box_times), PAGE);
    box->slot_count = 1;
}

static hr_box *map_box(void *at, int fd, uint64_t size) {
    int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    void *block = mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void write_header(hr_box *box, const hr_box *planned) {
    *box = *planned;
    box->pid = (uint32_t)getpid();
    box->started = hr_realtime_ns();
    box->start_ticks = hr_platform_start_ticks(box->pid);
    ssize_t length = readlink("/proc/self/exe", box->program, sizeof box->program - 1);
    box->program[length > 0 ? length : 0] = 0;
    if (getcwd(box->directory, sizeof box->directory) == NULL) box->directory[0] = 0;
    hr_copy_text(box->version_text, sizeof box->version_text, HR_VERSION_TEXT);
}

static void keep_descriptor(int fd) {
    struct stat info;
    hr.box_fd = -1;
    if (fd < 0) return;
    hr_platform_seal(fd);
    if (fstat(fd, &info) != 0) { /* it could not be told from another file later on */
        close(fd);
        return;
    }
    hr.box_fd = fd;
    hr.box_inode = info.st_ino;
    hr.box_device = info.st_dev;
}

/* Whether box_fd is still what was opened: programs that become daemons close descriptors they know nothing of. */
static bool descriptor_is_ours(void) {
    struct stat info;
    return hr.box_fd >= 0 && fstat(hr.box_fd, &info) == 0 && info.st_ino == hr.box_inode &&
           info.st_dev == hr.box_device;
}

/* What readers get shall not be written through. */
static int read_only(int fd, const char *path) {
    int other = fd >= 0 && *path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (other < 0) return fd;
    close(fd);
    return other;
}

/* A block of its own, at `where` when that is given; private where no shared memory can be had. Null: no memory. */
static hr_box *new_block(void *where, bool lasting) {
    hr_box planned;
    plan(&planned, hr.capacity);
    hr.box_path[0] = 0;
    int fd = lasting ? hr_remains_file(hr.box_path, planned.size) : -1;
    if (fd < 0) fd = hr_platform_shared_memory(planned.size);
    hr_box *box = map_box(where, fd, planned.size);
    if (box == NULL && fd >= 0) {
        close(fd);
        fd = -1;
        box = map_box(where, fd, planned.size);
    }
    if (box == NULL) return NULL;
    write_header(box, &planned);
    keep_descriptor(read_only(fd, hr.box_path));
    return box;
}

void hr_blackbox_fill(void) {
#ifdef MADV_POPULATE_WRITE
    /* Changes no byte, and fails (old kernels, a full file system) without harm: then the pages come one by one. */
    madvise((char *)hr.box + hr.box->modules_offset, (size_t)(hr.box->shards_offset - hr.box->modules_offset),
            MADV_POPULATE_WRITE);
#endif
}

void hr_blackbox_remove(void) {
    if (hr.box_path[0]) unlink(hr.box_path);
}

hr_status hr_blackbox_create(void) {
    hr.box = new_block(NULL, true);
    return hr.box ? HR_OK : HR_E_MEMORY;
}

/* Callers hold pointers into the block (their shards), so a child gets another block at the same address. Shared at
 * once, not when it is served: by then its threads may be counting, and a block cannot be replaced under them. */
void hr_blackbox_forked(void) {
    if (descriptor_is_ours()) close(hr.box_fd);
    if (new_block(hr.box, false) == NULL) abort(); /* or the child would count in its parent's block */
}

static bool write_all(int fd, const char *bytes, uint64_t size) {
    for (uint64_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, bytes + done, (size_t)(size - done), (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (uint64_t)n;
    }
    return true;
}

/* Moves the block, counters and all, into new shared memory at the same address; no other thread may be counting. */
static bool share_anew(void) {
    uint64_t size = hr.box->size;
    uint64_t used = hr.box->shards_offset + hr.box->shard_count * hr.box->shard_stride;
    int fd = hr_platform_shared_memory(size);
    if (fd >= 0 && write_all(fd, (const char *)hr.box, used) && map_box(hr.box, fd, size)) {
        keep_descriptor(fd);
        hr_sample_again();
        return true;
    }
    if (fd >= 0) close(fd);
    return false;
}

hr_status hr_blackbox_share(hr_failure *failure) {
    if (descriptor_is_ours()) return HR_OK;
    hr.box_fd = -1; /* whatever has that number now is somebody else's */
    if (!hr_shards_others() && share_anew()) return HR_OK;
    return hr_fail(failure, HR_E_IO, NULL, NULL,
                   "raise ulimit -f and ulimit -n, leave the shim's descriptors open, or serve before threads call "
                   "slots",
                   "no shared memory for the black box");
}

static void *at(uint64_t offset) { return (char *)hr.box + offset; }

hr_shard *hr_blackbox_shard(uint32_t number) { return at(hr.box->shards_offset + number * hr.box->shard_stride); }

static hr_box_slot *slot_record(uint32_t index) { return (hr_box_slot *)at(hr.box->slots_offset) + index; }

hr_box_times *hr_blackbox_times(uint32_t index, uint64_t version) {
    return (hr_box_times *)at(hr.box->times_offset) + (uint64_t)index * 2 + version % 2;
}

static hr_box_module *module_record(uint32_t index) { return (hr_box_module *)at(hr.box->modules_offset) + index; }

void hr_blackbox_begin(void) {
    __atomic_store_n(&hr.box->sequence, hr.box->sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* partner: the acquire fence before the second look in read_records */
}

void hr_blackbox_end(void) {
    hr.box->slot_count = hr.slot_count;
    hr.box->generation = hr.served ? hr.served->generation : hr.first.generation;
    hr.box->runtime = hr.served ? hr.served->number : hr.first.number;
    hr.box->retired_tables = hr.retired_count;
    hr.box->budget_bytes = hr.options.budget_bytes;
    __atomic_store_n(&hr.box->sequence, hr.box->sequence + 1, __ATOMIC_RELEASE); /* partner: the first look */
}

/* All that the slot's record, and its owners before, have counted. */
static inline uint64_t calls_of(uint32_t index) {
    const hr_box *box = hr.box;
    uint64_t sum = 0, stride = box->shard_stride;
    const char *calls = (const char *)box + box->shards_offset + offsetof(hr_shard, calls) + index * sizeof(uint64_t);
    for (uint32_t left = __atomic_load_n(&box->shard_count, __ATOMIC_ACQUIRE); left; left--, calls += stride)
        sum += __atomic_load_n((const uint64_t *)(const void *)calls, __ATOMIC_RELAXED);
    return sum;
}

static inline uint32_t state_of(const hr_slot_info *slot, uint32_t index) {
    if (slot->runtime == NULL) return HR_SLOT_FREE;
    if (!slot->declared) return HR_SLOT_UNDECLARED;
    if (slot->module == NULL) return HR_SLOT_FALLBACK;
    return hr.guarded && hr_guard_on(index) ? HR_SLOT_PROBATION : HR_SLOT_LIVE;
}

/* Whether a layout says what the slot takes. */
static inline uint32_t described(const hr_slot_info *slot) {
    uint32_t flags = 0;
    const hr_layout_v1 *host = slot->runtime ? slot->runtime->declared : NULL;
    const hr_layout_v1 *module = slot->module ? slot->module->manifest->layout : NULL;
    if (host && hr_layout_find_entry(host, slot->symbol)) flags |= HR_SLOT_HOST_DESCRIBES;
    if (module && hr_layout_find_entry(module, slot->symbol)) flags |= HR_SLOT_MODULE_DESCRIBES;
    return flags;
}

static inline void write_slot(hr_box_slot *record, const hr_slot_info *slot, uint32_t index) {
    if (record->state == HR_SLOT_FREE) memcpy(record->symbol, slot->symbol, sizeof record->symbol);
    record->version = slot->version;
    record->module = slot->module ? slot->module->record : 0;
    record->state = state_of(slot, index);
    uint32_t flags = described(slot);
    if (flags) hr.described = true;
    if (hr.described) record->flags = flags; /* in another cache line than the rest: no commit pays for what is not used */
    record->runtime = slot->runtime ? slot->runtime->number : 0;
}

void hr_blackbox_slot(uint32_t index) { write_slot(slot_record(index), &hr.slots[index], index); }

void hr_blackbox_swapped(const hr_assignment *assignments, uint32_t count, uint64_t now) {
    /* Read once: the compiler has to think that a store to a record changes them. */
    hr_box_slot *records = at(hr.box->slots_offset);
    const hr_slot_info *slots = hr.slots;
    uint32_t epoch = (uint32_t)__atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED) + 1; /* the commit's own, to come */
    bool sampled = hr.box->sample_every != 0;
    for (uint32_t i = 0; i < count; i++) {
        /* Records are too far apart for the processor to guess the next: without this a large commit would wait for
         * memory most of its time. */
        if (i + HR_AHEAD < count) __builtin_prefetch(&records[assignments[i + HR_AHEAD].index].version, 1);
        uint32_t index = assignments[i].index;
        const hr_slot_info *slot = &slots[index];
        hr_box_slot *record = &records[index];
        write_slot(record, slot, index);
        record->generation = slot->runtime ? slot->runtime->generation : 0;
        record->swapped_at = now;
        record->epoch = epoch;
        record->swaps++;
        if (sampled) hr_sample_version(index, slot->version);
        record->calls_at_swap = calls_of(index) - record->calls_base;
    }
}

uint64_t hr_blackbox_calls(uint32_t index) {
    const hr_box_slot *record = slot_record(index);
    return calls_of(index) - record->calls_base - record->calls_at_swap;
}

void hr_blackbox_free_slot(uint32_t index) {
    hr_box_slot *record = slot_record(index);
    memset(record, 0, sizeof *record);
    record->calls_base = calls_of(index);
}

/* A record for a new module: a free one, else in turn that of the module loaded longest ago; live ones keep theirs. */
static uint32_t find_module_record(void) {
    if (hr.box->module_count < HR_BOX_MODULES) return hr.box->module_count++;
    for (uint32_t tries = 0; tries < HR_BOX_MODULES; tries++) {
        uint32_t index = hr.next_record;
        hr.next_record = (index + 1) % HR_BOX_MODULES;
        if (module_record(index)->state == HR_MODULE_LIVE) continue;
        if (hr.recorded[index]) hr.recorded[index]->record = 0;
        return index;
    }
    return HR_BOX_MODULES;
}

static void write_cost(hr_box_module *record, const hr_module *module) {
    const hr_cost *cost = &module->cost;
    bool gone = module->state == HR_MODULE_UNLOADED; /* it costs nothing any more */
    if (cost->bytes == 0) return;                    /* not measured yet */
    record->bytes = cost->bytes;
    record->resident = gone ? 0 : cost->resident;
    record->mappings = gone ? 0 : cost->mappings;
}

void hr_blackbox_module(hr_module *module, const char *reason) {
    if (module->record == 0) {
        uint32_t index = find_module_record();
        if (index == HR_BOX_MODULES) return; /* 1,000 live modules: this one is not shown */
        module->record = index + 1;
        hr.recorded[index] = module;
        hr_box_module *record = module_record(index);
        memset(record, 0, sizeof *record);
        hr_copy_text(record->name, sizeof record->name, module->manifest->name);
        hr_copy_text(record->build_id, sizeof record->build_id, module->manifest->build_id);
        hr_copy_text(record->path, sizeof record->path, module->path);
        hr_copy_text(record->staged, sizeof record->staged, module->staged);
        record->version = module->manifest->version;
        record->content = module->manifest->content;
        record->loaded_at = hr_realtime_ns();
        record->bytes = module->size;
        record->runtime = module->runtime ? module->runtime->number : UINT32_MAX;
    }
    hr_box_module *record = module_record(module->record - 1);
    write_cost(record, module);
    record->generation = module->generation;
    record->state = module->state;
    hr_copy_text(record->reason, sizeof record->reason, reason);
}

void hr_blackbox_cost(hr_module *module, bool counts) {
    if (module->record) write_cost(module_record(module->record - 1), module);
    if (module->counted == counts) return;
    module->counted = counts;
    uint64_t sign = counts ? 1 : UINT64_MAX; /* -1 */
    hr.box->resident_modules += sign;
    hr.box->resident_bytes += sign * module->cost.resident;
    hr.box->resident_mappings += sign * module->cost.mappings;
}

void hr_blackbox_rebuild(void) {
    uint64_t now = hr_realtime_ns();
    hr_blackbox_begin();
    for (hr_module *module = hr.modules; module; module = module->next) {
        module->record = 0;
        bool counted = module->counted;
        module->counted = false;
        hr_blackbox_cost(module, counted);
        hr_blackbox_module(module, module->state == HR_MODULE_LIVE ? "" : "loaded before the fork");
    }
    for (uint32_t i = 1; i < hr.slot_count; i++) {
        hr_blackbox_slot(i);
        if (hr_dispatch.table->entries[i].flags & HR_ENTRY_FIRST) continue;
        slot_record(i)->first_version = hr.slots[i].version; /* called before the fork, if it ever changed */
        slot_record(i)->first_called = hr.slots[i].version ? now : 0;
    }
    hr_blackbox_end();
}

static char *write_number(char *to, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *to++ = digits[--count];
    return to;
}

/* "symbol<tab>from<tab>to<newline>" at `to`; returns its end, or null when it does not fit before `end`. Not snprintf:
 * it would take a third of a large commit's time. */
static char *write_change(char *to, const char *end, const hr_change *change) {
    size_t length = strlen(change->symbol);
    if ((size_t)(end - to) < length + sizeof "\t18446744073709551615\t18446744073709551615\n") return NULL;
    memcpy(to, change->symbol, length);
    to += length;
    *to++ = '\t';
    to = write_number(to, change->from);
    *to++ = '\t';
    to = write_number(to, change->to);
    *to++ = '\n';
    return to;
}

/* As many as have room. Kept slots, which did not change, come last in a report. */
static void write_changes(hr_event *event, const hr_report *report) {
    uint32_t count = report->change_count;
    while (count && report->changes[count - 1].kind == HR_CHANGE_KEPT) count--;
    event->slots = count;
    char *at = event->changes;
    for (uint32_t i = 0; i < count; i++) {
        char *next = write_change(at, event->changes + sizeof event->changes, &report->changes[i]);
        if (next == NULL) break;
        at = next;
    }
    *at = 0;
}

static hr_event *event_begin(uint32_t kind) {
    hr_event *event = (hr_event *)at(hr.box->events_offset) + hr.box->event_count % HR_BOX_EVENTS;
    __atomic_store_n(&event->number, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* partner: the acquire fence in hr_box_events */
    event->time = hr_realtime_ns();
    event->kind = kind;
    event->origin = hr_origin;
    return event;
}

static void event_end(hr_event *event) {
    uint64_t number = hr.box->event_count + 1;
    __atomic_store_n(&event->number, number, __ATOMIC_RELEASE); /* partner: the first look in hr_box_events */
    __atomic_store_n(&hr.box->event_count, number, __ATOMIC_RELEASE);
}

void hr_blackbox_event(uint32_t kind, const hr_report *report) { hr_blackbox_fault(kind, report, NULL); }

void hr_blackbox_fault(uint32_t kind, const hr_report *report, const hr_fault *fault) {
    hr_event *event = event_begin(kind);
    event->status = report->status;
    event->content = report->content;
    write_changes(event, report);
    event->generation = report->generation;
    event->module_version = report->module_version;
    event->us = report->us[HR_STEP_TOTAL];
    memcpy(event->module, report->module, sizeof event->module);
    memcpy(event->build_id, report->build_id, sizeof event->build_id);
    memcpy(event->path, report->path, sizeof event->path);
    event->failure = report->failure;
    event->fault = fault ? *fault : (hr_fault){0};
    event_end(event);
}

bool hr_blackbox_first_call(uint32_t index, uint64_t version) {
    hr_box_slot *record = slot_record(index);
    uint64_t seen = __atomic_load_n(&record->first_version, __ATOMIC_RELAXED);
    do {
        if (seen >= version) return false;
    } while (!__atomic_compare_exchange_n(&record->first_version, &seen, version, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    __atomic_store_n(&record->first_called, hr_realtime_ns(), __ATOMIC_RELAXED);
    return true;
}

/* One line for each slot; as many of them as fit, from the first on. Returns how many did. */
static uint32_t write_first_calls(hr_event *event, const uint32_t *indices, uint32_t count) {
    size_t used = 0;
    uint32_t done = 0;
    for (; done < count; done++) {
        const hr_box_slot *record = slot_record(indices[done]);
        size_t room = sizeof event->changes - used;
        int length = snprintf(event->changes + used, room, "%s\t%llu\t%llu\n", record->symbol,
                              (unsigned long long)__atomic_load_n(&record->first_version, __ATOMIC_RELAXED),
                              (unsigned long long)__atomic_load_n(&record->first_called, __ATOMIC_RELAXED));
        if (length <= 0 || (size_t)length >= room) break;
        used += (size_t)length;
    }
    event->changes[used] = 0;
    event->slots = done;
    return done;
}

/* From the swap to the first call of the slot that waited longest, microseconds. */
static uint64_t longest_wait(const uint32_t *indices, uint32_t count) {
    uint64_t longest = 0;
    for (uint32_t i = 0; i < count; i++) {
        const hr_box_slot *record = slot_record(indices[i]);
        uint64_t called = __atomic_load_n(&record->first_called, __ATOMIC_RELAXED);
        if (called > record->swapped_at && called - record->swapped_at > longest) longest = called - record->swapped_at;
    }
    return longest / 1000;
}

void hr_blackbox_first_calls(hr_module *module, const uint32_t *indices, uint32_t count) {
    hr_blackbox_begin(); /* readers look at the records again */
    for (uint32_t done = 0; done < count;) {
        hr_event *event = event_begin(HR_EVENT_FIRST_CALL);
        const hr_manifest *manifest = module ? module->manifest : NULL;
        event->status = HR_OK;
        event->origin = 0;
        event->generation = module ? module->generation : 0;
        event->module_version = manifest ? manifest->version : 0;
        event->content = manifest ? manifest->content : 0;
        hr_copy_text(event->module, sizeof event->module, manifest ? manifest->name : "");
        hr_copy_text(event->build_id, sizeof event->build_id, manifest ? manifest->build_id : "");
        hr_copy_text(event->path, sizeof event->path, module ? module->path : "");
        memset(&event->failure, 0, sizeof event->failure);
        memset(&event->fault, 0, sizeof event->fault);
        uint32_t told = write_first_calls(event, indices + done, count - done);
        event->us = longest_wait(indices + done, told);
        done += told;
        event_end(event);
    }
    hr_blackbox_end();
}

/* ---- readers ---- */

struct hr_box_reader {
    char *block;
    int fd; /* of one that is not sealed: block is a copy, made piece by piece; else -1 */
    uint64_t size;
    hr_box plan; /* offsets, sizes and capacities as they were checked */
};

static bool array_fits(const hr_box *box, uint64_t offset, uint64_t count, uint64_t stride) {
    return offset % 8 == 0 && offset >= sizeof(hr_box) && offset <= box->size && stride != 0 && count <= UINT32_MAX &&
           stride <= box->size && count <= (box->size - offset) / stride;
}

static bool box_valid(const hr_box *box, uint64_t size) {
    uint64_t shard_least = offsetof(hr_shard, calls) + (uint64_t)box->slot_capacity * sizeof(uint64_t);
    return box->size <= size && box->slot_size == sizeof(hr_box_slot) && box->module_size == sizeof(hr_box_module) &&
           box->event_size == sizeof(hr_event) && box->event_capacity != 0 && box->shard_stride % 8 == 0 &&
           box->slot_capacity <= HR_SLOTS_MAX + 1 && box->shard_stride >= shard_least &&
           array_fits(box, box->slots_offset, box->slot_capacity, box->slot_size) &&
           array_fits(box, box->modules_offset, box->module_capacity, box->module_size) &&
           array_fits(box, box->events_offset, box->event_capacity, box->event_size) &&
           box->times_size == sizeof(hr_box_times) &&
           array_fits(box, box->times_offset, (uint64_t)box->slot_capacity * 2, box->times_size) &&
           array_fits(box, box->shards_offset, box->shard_capacity, box->shard_stride);
}

/* Nobody can make it smaller. */
static bool is_sealed(int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK);
}

/* Brings a piece up to date; what is missing at the end stays as it was. The kernel copies aligned words whole. */
static void fetch(const hr_box_reader *reader, uint64_t offset, uint64_t size) {
    if (reader->fd < 0) return;
    for (uint64_t done = 0; done < size;) {
        ssize_t n = pread(reader->fd, reader->block + offset + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        done += (uint64_t)n;
    }
}

hr_status hr_box_open(int fd, hr_box_reader **reader, hr_failure *failure) {
    *reader = NULL;
    struct stat info;
    if (fstat(fd, &info) != 0)
        return hr_fail(failure, HR_E_IO, NULL, NULL, NULL, "the black box cannot be examined: %s", strerror(errno));
    uint64_t size = (uint64_t)info.st_size;
    if (size < HR_BOX_HEADER_SIZE)
        return hr_fail(failure, HR_E_PROTOCOL, NULL, NULL, NULL, "the black box is smaller than its header");
    bool sealed = is_sealed(fd);
    if (!sealed && (!S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0))
        return hr_fail(failure, HR_E_PROTOCOL, NULL, NULL, NULL, "the black box is neither sealed nor this user's own");
    void *block = sealed ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
                         : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        return hr_fail(failure, HR_E_IO, NULL, NULL, NULL, "the black box cannot be mapped: %s", strerror(errno));
    int own = sealed ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    hr_box_reader *made = NULL, early = {.block = block, .fd = own};
    fetch(&early, 0, sizeof(hr_box));
    hr_box header = *(const hr_box *)block;
    hr_status status = HR_OK;
    if (header.magic != HR_BOX_MAGIC || header.version != HR_BOX_VERSION)
        status = hr_fail(failure, HR_E_PROTOCOL, NULL, NULL, NULL, "the black box has version %u, this tool reads %u",
                         header.version, HR_BOX_VERSION);
    else if (!box_valid(&header, size))
        status = hr_fail(failure, HR_E_PROTOCOL, NULL, NULL, NULL, "the black box contradicts itself");
    else if ((made = calloc(1, sizeof *made)) == NULL)
        status = hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "out of memory");
    if (status != HR_OK) {
        munmap(block, size);
        if (own >= 0) close(own);
        return status;
    }
    *made = (hr_box_reader){.block = block, .fd = own, .size = size, .plan = header};
    *reader = made;
    return HR_OK;
}

void hr_box_close(hr_box_reader *reader) {
    if (reader == NULL) return;
    munmap(reader->block, reader->size);
    if (reader->fd >= 0) close(reader->fd);
    free(reader);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The header, as it is now. */
static const hr_box *live(const hr_box_reader *reader) {
    fetch(reader, 0, sizeof(hr_box));
    return (const hr_box *)reader->block;
}

static uint32_t count_of(const uint32_t *count, uint32_t capacity) {
    return least(__atomic_load_n(count, __ATOMIC_ACQUIRE), capacity);
}

void hr_box_header(const hr_box_reader *reader, hr_box *header) {
    *header = *live(reader);
    const hr_box *plan = &reader->plan;
    header->slot_count = least(header->slot_count, plan->slot_capacity);
    header->module_count = least(header->module_count, plan->module_capacity);
    header->shard_count = least(header->shard_count, plan->shard_capacity);
    header->name[HR_NAME_MAX] = 0;
    header->version_text[sizeof header->version_text - 1] = 0;
    header->program[HR_PATH_SIZE - 1] = 0;
    header->directory[HR_PATH_SIZE - 1] = 0;
}

/* Copies records of one moment: again while the sequence is odd or has moved, but not for ever (B3). */
static void read_records(const hr_box_reader *reader, void *to, const void *from, size_t bytes) {
    for (int tries = 0; tries < 1000; tries++) {
        uint64_t before = __atomic_load_n(&live(reader)->sequence, __ATOMIC_ACQUIRE);
        fetch(reader, (uint64_t)((const char *)from - reader->block), bytes);
        memcpy(to, from, bytes);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint64_t after = __atomic_load_n(&live(reader)->sequence, __ATOMIC_RELAXED);
        if (before == after && before % 2 == 0) return;
        sched_yield();
    }
}

uint32_t hr_box_slots(const hr_box_reader *reader, hr_box_slot *slots, uint32_t count) {
    count = least(count, count_of(&live(reader)->slot_count, reader->plan.slot_capacity));
    read_records(reader, slots, reader->block + reader->plan.slots_offset, count * sizeof *slots);
    for (uint32_t i = 0; i < count; i++) {
        slots[i].symbol[HR_NAME_MAX] = 0;
        if (slots[i].module > reader->plan.module_capacity) slots[i].module = 0;
    }
    return count;
}

uint32_t hr_box_modules(const hr_box_reader *reader, hr_box_module *modules, uint32_t count) {
    count = least(count, count_of(&live(reader)->module_count, reader->plan.module_capacity));
    read_records(reader, modules, reader->block + reader->plan.modules_offset, count * sizeof *modules);
    for (uint32_t i = 0; i < count; i++) {
        modules[i].name[HR_NAME_MAX] = 0;
        modules[i].build_id[HR_BUILD_ID_SIZE - 1] = 0;
        modules[i].path[HR_PATH_SIZE - 1] = 0;
        modules[i].staged[HR_PATH_SIZE - 1] = 0;
        modules[i].reason[HR_NAME_MAX] = 0;
    }
    return count;
}

/* A thread's shard with so many of its counters. */
static const hr_shard *shard_of(const hr_box_reader *reader, uint32_t number, uint32_t counters) {
    uint64_t offset = reader->plan.shards_offset + number * reader->plan.shard_stride;
    fetch(reader, offset, offsetof(hr_shard, calls) + counters * sizeof(uint64_t));
    return (const hr_shard *)(reader->block + offset);
}

uint32_t hr_box_threads(const hr_box_reader *reader, hr_box_thread *threads, uint32_t count) {
    uint32_t shards = count_of(&live(reader)->shard_count, reader->plan.shard_capacity), got = 0;
    for (uint32_t s = 0; s < shards && got < count; s++) {
        const hr_shard *shard = shard_of(reader, s, 0);
        uint32_t thread = __atomic_load_n(&shard->thread, __ATOMIC_RELAXED);
        uint32_t active = __atomic_load_n(&shard->active, __ATOMIC_RELAXED);
        if (thread == 0) continue;
        uint32_t slot = active > HR_ACTIVE_FRAME && active - 1 < reader->plan.slot_capacity ? active - 1 : 0;
        threads[got++] = (hr_box_thread){thread, slot, active != 0, (uint32_t)shard->epoch};
    }
    return got;
}

uint32_t hr_box_calls(const hr_box_reader *reader, uint64_t *calls, uint32_t *in_flight, uint32_t count) {
    count = least(count, reader->plan.slot_capacity);
    if (calls) memset(calls, 0, count * sizeof *calls);
    if (in_flight) memset(in_flight, 0, count * sizeof *in_flight);
    uint32_t shards = count_of(&live(reader)->shard_count, reader->plan.shard_capacity);
    for (uint32_t s = 0; s < shards; s++) {
        const hr_shard *shard = shard_of(reader, s, calls ? count : 0);
        if (calls)
            for (uint32_t i = 0; i < count; i++) calls[i] += __atomic_load_n(&shard->calls[i], __ATOMIC_RELAXED);
        uint32_t active = __atomic_load_n(&shard->active, __ATOMIC_RELAXED);
        if (in_flight && active > HR_ACTIVE_FRAME && active - 1 < count) in_flight[active - 1]++;
    }
    return count;
}

static uint64_t lower_bound(uint32_t bucket) {
    if (bucket < 8) return bucket;
    return (uint64_t)(8 + bucket % 8) << (bucket / 8 - 1);
}

/* The smallest time that so many of the samples did not exceed. */
static uint64_t quantile(const uint32_t *buckets, uint64_t rank) {
    uint32_t bucket = 0;
    for (uint64_t seen = buckets[0]; seen < rank && bucket + 1 < HR_TIMES_BUCKETS;) seen += buckets[++bucket];
    return lower_bound(bucket);
}

static hr_times times_in(const hr_box_times *bank, uint64_t version) {
    hr_times times = {version, 0, 0, 0};
    uint32_t buckets[HR_TIMES_BUCKETS];
    if (__atomic_load_n(&bank->version, __ATOMIC_ACQUIRE) != version) return times;
    for (uint32_t i = 0; i < HR_TIMES_BUCKETS; i++)
        times.samples += buckets[i] = __atomic_load_n(&bank->buckets[i], __ATOMIC_RELAXED);
    if (times.samples == 0) return times;
    times.p50_ns = quantile(buckets, (times.samples + 1) / 2);
    times.p99_ns = quantile(buckets, times.samples - times.samples / 100);
    return times;
}

uint32_t hr_box_times_of(const hr_box_reader *reader, const hr_box_slot *slots, hr_times *times, uint32_t count) {
    if (__atomic_load_n(&live(reader)->sample_every, __ATOMIC_RELAXED) == 0) return 0;
    count = least(count, reader->plan.slot_capacity);
    fetch(reader, reader->plan.times_offset, 2 * (uint64_t)count * sizeof(hr_box_times));
    const hr_box_times *banks = (const hr_box_times *)(reader->block + reader->plan.times_offset);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t version = slots[i].version;
        times[2 * i] = times_in(&banks[2 * i + version % 2], version);
        times[2 * i + 1] = (hr_times){0};
        if (version) times[2 * i + 1] = times_in(&banks[2 * i + (version - 1) % 2], version - 1);
    }
    return count;
}

static void terminate(hr_event *event) {
    event->module[HR_NAME_MAX] = 0;
    event->build_id[HR_BUILD_ID_SIZE - 1] = 0;
    event->changes[sizeof event->changes - 1] = 0;
    event->path[HR_PATH_SIZE - 1] = 0;
    event->failure.reason[HR_TEXT_SIZE - 1] = 0;
    event->failure.found[HR_TEXT_SIZE - 1] = 0;
    event->failure.expected[HR_TEXT_SIZE - 1] = 0;
    event->failure.fix[HR_TEXT_SIZE - 1] = 0;
    event->fault.symbol[HR_NAME_MAX] = 0;
}

uint32_t hr_box_events(const hr_box_reader *reader, uint64_t after, hr_event *events, uint32_t count) {
    uint64_t newest = __atomic_load_n(&live(reader)->event_count, __ATOMIC_ACQUIRE);
    uint32_t capacity = reader->plan.event_capacity;
    if (newest <= after) return 0;
    uint64_t left = newest - after; /* counted down: `number <= newest` would hold for ever where a broken host says 2^64-1 */
    if (left > capacity) left = capacity;
    const hr_event *ring = (const hr_event *)(reader->block + reader->plan.events_offset);
    uint32_t got = 0;
    for (uint64_t number = newest - left + 1; left > 0 && got < count; number++, left--) {
        const hr_event *from = &ring[(number - 1) % capacity];
        fetch(reader, (uint64_t)((const char *)from - reader->block), sizeof *from);
        if (__atomic_load_n(&from->number, __ATOMIC_ACQUIRE) != number) continue;
        events[got] = *from;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        fetch(reader, (uint64_t)((const char *)from - reader->block), sizeof from->number);
        if (__atomic_load_n(&from->number, __ATOMIC_RELAXED) != number) continue;
        events[got].number = number;
        terminate(&events[got++]);
    }
    return got;
}
