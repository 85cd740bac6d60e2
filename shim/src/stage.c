/* Staging: a build output becomes a private copy under a name never used before (steps 1 of section 5; H1, H2, H11).
 *
 * Invariants:
 *  G1  Nothing of a build output is ever mapped or executed; it is opened, checked, read and closed.
 *  G2  What may change between a look and the copy is looked at through the open descriptor; the copy counts only if
 *      the output is the same before and after it.
 *  G3  A staged path is made with O_EXCL from this process's serial number and is never reused, not even after a
 *      failure.
 *  G4  The process's directory is locked while it lives; whoever can take the lock may remove the directory. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUIET_NS 150000000ull

/* ---- directories ---- */

static hr_status make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed) return HR_E_IO;
    }
    return HR_OK;
}

hr_status hr_directory_private(const char *path, hr_failure *failure) {
    char copy[HR_PATH_SIZE];
    hr_copy_text(copy, sizeof copy, path);
    struct stat info;
    if (make_parents(copy) != HR_OK || (mkdir(path, 0700) != 0 && errno != EEXIST) || lstat(path, &info) != 0)
        return hr_fail(failure, HR_E_IO, strerror(errno), "a directory", NULL, "the directory %s cannot be made", path);
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
        char found[80];
        snprintf(found, sizeof found, "owner %u, mode %04o%s", info.st_uid, info.st_mode & 07777,
                 S_ISDIR(info.st_mode) ? "" : ", not a directory");
        return hr_fail(failure, HR_E_DENIED, found, "a directory of this user with mode 0700",
                       "remove it, or chmod 700 it if it is yours", "%s is not private to this user", path);
    }
    return HR_OK;
}

__attribute__((noinline)) static bool set_path(char *path, uint32_t size, const char *format, const char *base,
                                               unsigned long number) {
    int length = snprintf(path, size, format, base, number);
    return length > 0 && (uint32_t)length < size;
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && value[0] == '/' ? value : NULL;
}

hr_status hr_runtime_directory(char *path, uint32_t size, hr_failure *failure) {
    const char *base = environment("XDG_RUNTIME_DIR");
    const char *temporary = environment("TMPDIR");
    bool fits = base ? set_path(path, size, "%s/hotreload", base, 0)
                     : set_path(path, size, "%s/hotreload-%lu", temporary ? temporary : "/tmp", geteuid());
    if (!fits) return hr_fail(failure, HR_E_IO, base, NULL, NULL, "the path of the runtime directory is too long");
    return hr_directory_private(path, failure);
}

/* Where staged modules go: a disk that may hold executables, which a run-time directory's often may not. */
static hr_status state_directory(char *path, uint32_t size, hr_failure *failure) {
    const char *base = environment("XDG_STATE_HOME"), *home = environment("HOME");
    bool fits;
    if (base) fits = set_path(path, size, "%s/hotreload", base, 0);
    else if (home) fits = set_path(path, size, "%s/.local/state/hotreload", home, 0);
    else return hr_runtime_directory(path, size, failure);
    if (!fits) return hr_fail(failure, HR_E_IO, NULL, NULL, NULL, "the path of the state directory is too long");
    hr_status status = hr_directory_private(path, failure);
    /* A home that cannot be written to (a service account): the run-time directory still serves. */
    return status == HR_E_IO ? hr_runtime_directory(path, size, failure) : status;
}

static void remove_directory(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) return;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.' || strcmp(entry->d_name, ".lock") == 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    rmdir(path);
}

static int lock_directory(const char *path) {
    char name[HR_PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s/.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat mine, there;
    /* A cleaner may have removed the file between the two: then the lock is one on nothing, and another process may
     * hold the one that counts. */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &mine) == 0 && lstat(name, &there) == 0 &&
        mine.st_ino == there.st_ino && mine.st_dev == there.st_dev)
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* G4: directories whose owner has died, of the same name or not. */
static void remove_stale_below(const char *state) {
    DIR *directory = opendir(state);
    if (directory == NULL) return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char *end, path[HR_PATH_SIZE];
        unsigned long pid = strtoul(entry->d_name, &end, 10);
        if (pid == 0 || *end || !set_path(path, sizeof path, "%s/%lu", state, pid)) continue;
        int lock = lock_directory(path);
        if (lock < 0) continue;
        remove_directory(path);
        close(lock);
    }
    closedir(directory);
}

/* This process's directory, made at its first copy; under lock. */
static hr_status own_directory(hr_failure *failure) {
    if (hr.stage_directory[0]) return HR_OK;
    char state[HR_PATH_SIZE], path[HR_PATH_SIZE];
    hr_status status = state_directory(state, sizeof state, failure);
    if (status != HR_OK) return status;
    remove_stale_below(state);
    if (!set_path(path, sizeof path, "%s/%lu", state, (unsigned long)getpid()) || strlen(path) > HR_PATH_SIZE - 320)
        return hr_fail(failure, HR_E_IO, state, NULL, NULL, "the path of the state directory is too long");
    for (int tries = 0; tries < 100; tries++) {
        status = hr_directory_private(path, failure);
        if (status == HR_E_DENIED) return status;
        if (status == HR_OK) hr.stage_lock = lock_directory(path);
        if (hr.stage_lock >= 0) break; /* or another host's cleaner has it, or has just removed it: again */
        usleep(1000);
    }
    if (status != HR_OK) return status;
    if (hr.stage_lock < 0)
        return hr_fail(failure, HR_E_IO, path, NULL, NULL, "the directory for staged modules cannot be locked");
    hr_copy_text(hr.stage_directory, sizeof hr.stage_directory, path);
    return HR_OK;
}

void hr_stage_remove_stale(void) {
    char state[HR_PATH_SIZE];
    if (state_directory(state, sizeof state, NULL) == HR_OK) remove_stale_below(state);
}

void hr_stage_cleanup(void) {
    /* Its name stays: the control thread may be copying, and fails then, instead of copying into the root directory. */
    if (hr.stage_directory[0]) remove_directory(hr.stage_directory);
}

/* ---- build outputs ---- */

static hr_status denied(hr_failure *failure, const char *what, const char *path, const struct stat *info) {
    char found[96], fix[HR_TEXT_SIZE];
    snprintf(found, sizeof found, "owner %u, mode %04o", info->st_uid, info->st_mode & 07777);
    if (info->st_uid != geteuid() && info->st_uid != 0)
        snprintf(fix, sizeof fix, "chown the %s to the host's user (%u)", what, geteuid());
    else snprintf(fix, sizeof fix, "chmod go-w %.400s  (and build with umask 022)", path);
    return hr_fail(failure, HR_E_DENIED, found, "owned by this user or root, writable by its owner only", fix,
                   "another user could change the %s %s", what, path);
}

static bool trusted_owner(const struct stat *info) { return info->st_uid == geteuid() || info->st_uid == 0; }

/* A sticky directory (/tmp) lets nobody replace another user's file. */
static bool trusted_directory(const struct stat *info) {
    return trusted_owner(info) && ((info->st_mode & 022) == 0 || (info->st_mode & S_ISVTX));
}

static hr_status check_parent(const char *path, hr_failure *failure) {
    char parent[HR_PATH_SIZE];
    hr_copy_text(parent, sizeof parent, path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) hr_copy_text(parent, sizeof parent, ".");
    else if (slash == parent) parent[1] = 0;
    else *slash = 0;
    struct stat info;
    if (stat(parent, &info) != 0)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "the directory %s cannot be examined", parent);
    return trusted_directory(&info) ? HR_OK : denied(failure, "directory", parent, &info);
}

/* The directory of the name, and where that is a link, of the file behind it. */
static hr_status check_parents(const char *path, int fd, hr_failure *failure) {
    hr_status status = check_parent(path, failure);
    char name[64], real[HR_PATH_SIZE];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, real, sizeof real - 1);
    if (status != HR_OK || length <= 0) return status;
    real[length] = 0;
    struct stat info;
    bool deleted = fstat(fd, &info) == 0 && info.st_nlink == 0; /* not told by the name, which anybody may choose */
    return deleted ? HR_OK : check_parent(real, failure);
}

static hr_status check_output(const char *path, int fd, struct stat *info, hr_failure *failure) {
    if (fstat(fd, info) != 0)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "%s cannot be examined", path);
    if (!S_ISREG(info->st_mode)) {
        const char *kind = S_ISDIR(info->st_mode) ? "a directory" : "a special file";
        return hr_fail(failure, HR_E_IO, kind, "a regular file", "name the module's file", "%s is no file", path);
    }
    if (!trusted_owner(info) || (info->st_mode & 022)) return denied(failure, "file", path, info);
    return check_parents(path, fd, failure);
}

/* A signal interrupts it on file systems that wait for somebody: of a network, or of a program (FUSE). */
static int open_file(const char *path, int flags) {
    int fd;
    do fd = open(path, flags, 0600);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static hr_status open_output(const char *path, int *fd, struct stat *info, hr_failure *failure) {
    *fd = -1;
    if (strlen(path) >= HR_PATH_SIZE)
        return hr_fail(failure, HR_E_IO, NULL, "at most 1023 bytes", "use a shorter path",
                       "the module's path is too long");
    *fd = open_file(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* no fifo may make the host wait */
    if (*fd < 0) {
        char reason[HR_TEXT_SIZE];
        hr_copy_text(reason, sizeof reason, strerror(errno));
        return hr_fail(failure, HR_E_IO, reason, "a readable file", NULL, "%s cannot be opened", path);
    }
    hr_status status = check_output(path, *fd, info, failure);
    if (status != HR_OK) close(*fd);
    return status;
}

static uint64_t age_ns(const struct stat *info) {
    uint64_t now = hr_realtime_ns();
    uint64_t modified = (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec;
    uint64_t changed = (uint64_t)info->st_ctim.tv_sec * 1000000000u + (uint64_t)info->st_ctim.tv_nsec;
    uint64_t newest = modified > changed ? modified : changed;
    return newest < now ? now - newest : newest - now > QUIET_NS ? QUIET_NS : 0;
}

/* H4: neither a valid ELF file nor a stable size proves that the writer is done. A lease does; where leases are refused
 * (another owner, some file systems), 150 ms without a change have to. */
static hr_status check_writer(const char *path, int fd, const struct stat *info, hr_failure *failure) {
    int free_of_writers = hr_platform_no_writer(fd);
    if (free_of_writers == 0 || (free_of_writers < 0 && age_ns(info) < QUIET_NS))
        return hr_fail(failure, HR_E_TRUNCATED, "a writer has it open", "a finished file",
                       "wait for the build to finish", "%s is still being written", path);
    return HR_OK;
}

static bool same_time(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* A new or removed further name of the file (cargo links its outputs, linkers unlink the old ones) moves ctime and the
 * link count, never the bytes. */
static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           same_time(&a->st_mtim, &b->st_mtim) && (same_time(&a->st_ctim, &b->st_ctim) || a->st_nlink != b->st_nlink);
}

static hr_status check_unchanged(const char *path, int fd, const struct stat *before, hr_failure *failure) {
    struct stat after;
    if (fstat(fd, &after) == 0 && same_file(before, &after)) return HR_OK;
    return hr_fail(failure, HR_E_TRUNCATED, "it changed meanwhile", "a finished file", "wait for the build to finish",
                   "%s was written to while it was being read", path);
}

hr_status hr_settled(const char *path, hr_failure *failure) {
    int fd;
    struct stat info;
    hr_status status = open_output(path, &fd, &info, failure);
    if (status != HR_OK) return status;
    status = check_writer(path, fd, &info, failure);
    close(fd);
    return status;
}

static hr_status read_all(const char *path, int fd, uint8_t *bytes, uint64_t size, hr_failure *failure) {
    for (uint64_t done = 0; done < size;) {
        ssize_t n = pread(fd, bytes + done, (size_t)(size - done), (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "%s cannot be read", path);
        if (n == 0)
            return hr_fail(failure, HR_E_TRUNCATED, "it became shorter", "a finished file", NULL,
                           "%s was cut while it was being read", path);
        done += (uint64_t)n;
    }
    return HR_OK;
}

hr_status hr_inspect(const char *path, hr_failure *failure, hr_manifest **manifest) {
    *manifest = NULL;
    int fd;
    struct stat info;
    hr_status status = open_output(path, &fd, &info, failure);
    if (status != HR_OK) return status;
    uint64_t size = (uint64_t)info.st_size;
    uint8_t *bytes = malloc(size ? size : 1);
    if (bytes == NULL) status = hr_fail(failure, HR_E_MEMORY, NULL, NULL, NULL, "no memory for the %s", path);
    else status = read_all(path, fd, bytes, size, failure);
    if (status == HR_OK) status = check_unchanged(path, fd, &info, failure);
    if (status == HR_OK) status = hr_preflight(bytes, size, failure, manifest);
    free(bytes);
    close(fd);
    return status;
}

/* ---- the copy ---- */

/* Opens the copy of that serial, or makes it. */
static int open_copy(uint32_t serial, char *path, uint32_t size, int make) {
    set_path(path, size, "%s/incoming-%lu.so", hr.stage_directory, serial);
    return open_file(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | make);
}

static uint32_t next_serial(void) { return __atomic_add_fetch(&hr.serial, 1, __ATOMIC_RELAXED); }

/* To make a file can take half a millisecond where many have been deleted (ext4 does not give an inode out again soon,
 * and searches): most of a load. Opening one takes some microseconds. */
void hr_stage_ahead(void) {
    pthread_mutex_lock(&hr.lock);
    bool wanted = hr.stage_directory[0] && __atomic_load_n(&hr.spare, __ATOMIC_RELAXED) == 0;
    pthread_mutex_unlock(&hr.lock);
    if (!wanted) return;
    char path[HR_PATH_SIZE];
    uint32_t serial = next_serial();
    int fd = open_copy(serial, path, sizeof path, O_CREAT | O_EXCL);
    if (fd < 0) return;
    close(fd);
    __atomic_store_n(&hr.spare, serial, __ATOMIC_RELEASE); /* one engine at a time makes them: none is overwritten */
}

static hr_status new_copy(hr_staged *staged, int *fd, hr_failure *failure) {
    pthread_mutex_lock(&hr.lock);
    hr_status status = own_directory(failure);
    pthread_mutex_unlock(&hr.lock);
    if (status != HR_OK) return status;
    staged->serial = __atomic_exchange_n(&hr.spare, 0, __ATOMIC_ACQ_REL);
    if (staged->serial && (*fd = open_copy(staged->serial, staged->path, sizeof staged->path, 0)) >= 0) return HR_OK;
    staged->serial = next_serial();
    *fd = open_copy(staged->serial, staged->path, sizeof staged->path, O_CREAT | O_EXCL);
    if (*fd >= 0) return HR_OK;
    return hr_fail(failure, HR_E_IO, strerror(errno), "a new file", NULL, "%s cannot be made", staged->path);
}

static hr_status fill_copy(const char *path, int from, int to, hr_staged *staged, const struct stat *before,
                           hr_failure *failure) {
    staged->size = (uint64_t)before->st_size;
    if (!hr_platform_file_fits(staged->size))
        return hr_fail(failure, HR_E_IO, NULL, NULL, "raise the host's limit of file sizes (ulimit -f)",
                       "%s is larger than the files that the host may write", path);
    if (hr_platform_copy(from, to, staged->size) != HR_OK)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "%s cannot be copied to %s", path, staged->path);
    hr_status status = check_unchanged(path, from, before, failure);
    if (status != HR_OK || staged->size == 0) return status;
    void *bytes = mmap(NULL, staged->size, PROT_READ, MAP_PRIVATE, to, 0);
    if (bytes == MAP_FAILED)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "the copy %s cannot be mapped", staged->path);
    staged->bytes = bytes;
    return HR_OK;
}

static hr_status stage_once(const char *path, hr_staged *staged, hr_failure *failure) {
    int from, to = -1;
    struct stat before;
    hr_status status = open_output(path, &from, &before, failure);
    if (status != HR_OK) return status;
    status = check_writer(path, from, &before, failure);
    if (status == HR_OK) status = new_copy(staged, &to, failure);
    if (status == HR_OK) status = fill_copy(path, from, to, staged, &before, failure);
    /* No writable descriptor may be left when the loader maps the copy; and nobody is to write to it again. */
    if (to >= 0) {
        fchmod(to, 0500);
        close(to);
        if (status != HR_OK) hr_stage_discard(staged);
    }
    close(from);
    return status;
}

hr_status hr_stage(const char *path, hr_staged *staged, hr_failure *failure) {
    static const unsigned waits_ms[] = {2, 4, 8, 16, 25, 50, 100};
    hr_status status = HR_E_IO;
    for (size_t i = 0; i <= sizeof waits_ms / sizeof waits_ms[0]; i++) {
        memset(staged, 0, sizeof *staged);
        status = stage_once(path, staged, failure);
        if (status != HR_E_TRUNCATED || i == sizeof waits_ms / sizeof waits_ms[0]) break;
        usleep(waits_ms[i] * 1000);
    }
    return status;
}

/* The module's name as part of a file name: what is not plain becomes '_'. */
static void file_part(char *to, size_t size, const char *name) {
    size_t i = 0;
    for (; name[i] && i < size - 1; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._+-", c);
        to[i] = plain && !(i == 0 && c == '.') ? c : '_';
    }
    to[i] = 0;
}

hr_status hr_stage_name(hr_staged *staged, const hr_manifest *manifest, hr_failure *failure) {
    char name[64], path[HR_PATH_SIZE], identity[HR_BUILD_ID_SIZE];
    file_part(name, sizeof name, manifest->name);
    if (manifest->build_id[0]) hr_copy_text(identity, sizeof identity, manifest->build_id);
    else snprintf(identity, sizeof identity, "%016llx", (unsigned long long)manifest->content);
    int length = snprintf(path, sizeof path, "%s/%s-%s-%u.so", hr.stage_directory, name, identity, staged->serial);
    if (length < 0 || (size_t)length >= sizeof path || rename(staged->path, path) != 0)
        return hr_fail(failure, HR_E_IO, strerror(errno), NULL, NULL, "the copy %s cannot be named", staged->path);
    hr_copy_text(staged->path, sizeof staged->path, path);
    return HR_OK;
}

void hr_stage_unmap(hr_staged *staged) {
    if (staged->bytes) munmap(staged->bytes, staged->size);
    staged->bytes = NULL;
}

void hr_stage_discard(hr_staged *staged) {
    hr_stage_unmap(staged);
    if (staged->path[0]) unlink(staged->path);
    staged->path[0] = 0;
}
