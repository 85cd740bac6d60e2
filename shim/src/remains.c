/* The black boxes of hosts that have died: where they are, and how long they stay.
 *
 * Invariants:
 *  E1  A box is a file in memory (tmpfs): counting writes to it, and a disk behind it would now and then make a caller
 *      wait. Where no such directory can be had the box is anonymous and dies with its last holder.
 *  E2  Its name is new: the process's number and the time. An orderly end removes it; whoever serves or asks next removes
 *      those of hosts that were never served, and all but the newest HR_REMAINS_KEPT of the others.
 *  E3  A box is a dead host's when no process of its number has its start time; neither locks nor the clock decide. */
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
#define MOST 64

static bool usable(const char *directory) {
    hr_failure unused;
    return hr_directory_private(directory, &unused) == HR_OK && hr_platform_in_memory(directory);
}

/* The run-time directory where it is in memory, else one of the user's own in /dev/shm. */
static bool box_directory(char *path, uint32_t size) {
    hr_failure unused;
    if (hr_runtime_directory(path, size, &unused) == HR_OK && hr_platform_in_memory(path)) return true;
    int length = snprintf(path, size, "/dev/shm/hotreload-%u", (unsigned)geteuid());
    return length > 0 && (uint32_t)length < size && hr_platform_in_memory("/dev/shm") && usable(path);
}

int hr_remains_file(char *path, uint64_t size) {
    char directory[HR_PATH_SIZE];
    path[0] = 0;
    if (!hr_platform_file_fits(size) || !box_directory(directory, sizeof directory)) return -1;
    int length = snprintf(path, HR_PATH_SIZE, "%s/%u-%llu" ENDING, directory, (unsigned)getpid(),
                          (unsigned long long)hr_realtime_ns());
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

uint32_t hr_remains_list(hr_remains *list, uint32_t count) {
    char directory[HR_PATH_SIZE], path[HR_PATH_SIZE + 256];
    hr_box *header = malloc(sizeof *header);
    hr_remains *all = calloc(MOST, sizeof *all);
    DIR *entries = header && all && box_directory(directory, sizeof directory) ? opendir(directory) : NULL;
    uint32_t found = 0;
    for (struct dirent *entry; entries && found < MOST && (entry = readdir(entries));) {
        size_t length = strlen(entry->d_name);
        if (length <= sizeof ENDING || strcmp(entry->d_name + length - (sizeof ENDING - 1), ENDING) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (!look_at(path, header, &all[found])) continue;
        if (worth_keeping(header)) found++;
        else unlink(path);
    }
    if (entries) closedir(entries);
    if (found) qsort(all, found, sizeof *all, newest_first);
    for (uint32_t i = HR_REMAINS_KEPT; i < found; i++) unlink(all[i].path);
    if (found > HR_REMAINS_KEPT) found = HR_REMAINS_KEPT;
    if (found > count) found = count;
    if (found) memcpy(list, all, found * sizeof *all);
    free(all);
    free(header);
    return found;
}

void hr_remains_clean(void) {
    hr_remains unused[1];
    hr_remains_list(unused, 1);
}
