/* The black boxes of hosts that have died: where they are, and how long they stay.
 *
 * Invariants:
 *  E1  A box is a file in memory (tmpfs): counting writes to it, and a disk behind it would now and then make a caller
 *      wait. Where no such directory can be had the box is anonymous and dies with its last holder.
 *  E2  Its name is new: the process's number and the time. An orderly end removes it; whoever serves or asks next removes
 *      those of hosts that were never served, and all but the newest HR_REMAINS_KEPT of the others.
 *  E3  A box is a dead host's when no process of its number has its start time; neither locks nor the clock decide.
 *  E4  Hosts and tools that share a run-time directory see each other's boxes, as they see each other, and no others'. The
 *      one directory in /dev/shm holds those of several: there the name ends with the run-time directory's path, hashed.
 *      Of all others' together the newest OTHERS_KEPT stay: nobody may ever ask there again. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".box"
#define MOST 256
#define OTHERS_KEPT 40

static bool usable(const char *directory) {
    hr_failure unused;
    return hr_directory_private(directory, &unused) == HR_OK && hr_platform_in_memory(directory);
}

/* Where boxes are, and how the names of those end that are ours to see (E4). */
typedef struct place {
    char path[HR_PATH_SIZE];
    char ending[32];
} place;

static uint64_t hashed(const char *text) { /* FNV-1a */
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* The run-time directory where it is in memory, else one of the user's own in /dev/shm. */
static bool find_place(place *place) {
    char runtime[HR_PATH_SIZE];
    hr_failure unused;
    bool found = hr_runtime_directory(runtime, sizeof runtime, &unused) == HR_OK;
    snprintf(place->ending, sizeof place->ending, ENDING);
    hr_copy_text(place->path, sizeof place->path, runtime);
    if (found && hr_platform_in_memory(runtime)) return true;
    char *real = found ? realpath(runtime, NULL) : NULL;
    if (real) snprintf(place->ending, sizeof place->ending, "-%016llx" ENDING, (unsigned long long)hashed(real));
    free(real);
    snprintf(place->path, sizeof place->path, "/dev/shm/hotreload-%u", (unsigned)geteuid());
    return hr_platform_in_memory("/dev/shm") && usable(place->path);
}

int hr_remains_file(char *path, uint64_t size) {
    place place;
    path[0] = 0;
    if (!hr_platform_file_fits(size) || !find_place(&place)) return -1;
    int length = snprintf(path, HR_PATH_SIZE, "%s/%u-%llu%s", place.path, (unsigned)getpid(),
                          (unsigned long long)hr_realtime_ns(), place.ending);
    int fd = length > 0 && length < HR_PATH_SIZE
                 ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0) return fd;
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    path[0] = 0;
    return -1;
}

static bool read_header(const char *path, hr_box *header) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    bool whole = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
                 pread(fd, header, sizeof *header, 0) == (ssize_t)sizeof *header;
    if (fd >= 0) close(fd);
    return whole;
}

static bool lives(const hr_box *header) {
    uint64_t ticks = hr_platform_start_ticks(header->pid);
    return ticks != 0 && (ticks == header->start_ticks || header->start_ticks == 0);
}

static bool worth_keeping(const hr_box *header) {
    return header->magic == HR_BOX_MAGIC && header->version == HR_BOX_VERSION && header->state == HR_HOST_SERVED;
}

static int newest_first(const void *a, const void *b) {
    const hr_remains *x = a, *y = b;
    return (x->started < y->started) - (x->started > y->started);
}

/* False: it is no box, or its host lives. */
static bool look_at(const char *path, hr_box *header, hr_remains *found) {
    struct stat info;
    if (!read_header(path, header)) return false;
    /* One that is being made has no header yet, and its maker is about to write one. */
    if (header->magic == 0 && stat(path, &info) == 0 &&
        hr_realtime_ns() < ((uint64_t)info.st_mtim.tv_sec + 60) * 1000000000u)
        return false;
    if (header->magic == HR_BOX_MAGIC && lives(header)) return false;
    *found = (hr_remains){.started = header->started, .pid = header->pid};
    hr_copy_text(found->path, sizeof found->path, path);
    return true;
}

static bool ends(const char *name, const char *with) {
    size_t length = strlen(name), ending = strlen(with);
    return length > ending && strcmp(name + length - ending, with) == 0;
}

/* All that hosts have left there; what was never served goes at once. */
static uint32_t gather(const place *place, hr_remains *all) {
    char path[HR_PATH_SIZE + 256];
    hr_box *header = malloc(sizeof *header);
    DIR *entries = header ? opendir(place->path) : NULL;
    uint32_t found = 0;
    for (struct dirent *entry; entries && found < MOST && (entry = readdir(entries));) {
        if (!ends(entry->d_name, ENDING)) continue;
        snprintf(path, sizeof path, "%s/%s", place->path, entry->d_name);
        if (!look_at(path, header, &all[found])) continue;
        if (worth_keeping(header)) found++;
        else unlink(path);
    }
    if (entries) closedir(entries);
    free(header);
    qsort(all, found, sizeof *all, newest_first);
    return found;
}

uint32_t hr_remains_list(hr_remains *list, uint32_t count) {
    place place;
    hr_remains *all = calloc(MOST, sizeof *all);
    uint32_t found = all && find_place(&place) ? gather(&place, all) : 0, ours = 0, others = 0, told = 0;
    for (uint32_t i = 0; i < found; i++) {
        bool one_of_ours = ends(all[i].path, place.ending);
        uint32_t *kept = one_of_ours ? &ours : &others;
        if (++*kept > (one_of_ours ? HR_REMAINS_KEPT : OTHERS_KEPT)) unlink(all[i].path);
        else if (one_of_ours && told < count) list[told++] = all[i];
    }
    free(all);
    return told;
}

void hr_remains_clean(void) {
    hr_remains unused[1];
    hr_remains_list(unused, 1);
}
