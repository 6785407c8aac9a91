/* Preloaded into a process: appends to the file III_WRITES what the process writes to any data.mdb, or to the
 * data.mdb.new that becomes it, and when it is synced. One record per event, appended by one writev, so that several processes may share the file.
 *
 *   WRITE   logged before the bytes are handed to the kernel: from then on they may be on the disk
 *   SYNC    logged after fdatasync or fsync returned: every earlier write of the file is on the disk
 *   SYNCED  logged after a write through an O_DSYNC descriptor returned: that write is on the disk
 *   NAMING  logged before it is renamed to data.mdb: from then on it may be found there
 *   NAMED   logged after fsync of a folder with a data.mdb returned: from then on it is
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, SYNCED = 3, NAMING = 4, NAMED = 5 };
enum { FDS = 4096, PARTS = 1024, PLAIN = 1, DSYNC = 2 };

struct record { /* native, 40 bytes; power_log.py reads it */
    uint32_t kind, pid;
    uint64_t at_ns, offset, size, number; /* number: of the write, in its process */
};

static char role[FDS];
static uint64_t number;
static int log_fd = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void append(uint32_t kind, uint64_t offset, uint64_t of, const struct iovec *parts, int count) {
    struct iovec all[PARTS + 1];
    struct timespec now;
    struct record head = {kind, (uint32_t)getpid(), 0, offset, 0, of};
    if (log_fd < 0)
        log_fd = REAL(open)(getenv("III_WRITES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    clock_gettime(CLOCK_MONOTONIC, &now);
    head.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    all[0] = (struct iovec){&head, sizeof head};
    for (int i = 0; i < count; i++) {
        head.size += parts[i].iov_len;
        all[i + 1] = parts[i];
    }
    if (count > PARTS || REAL(writev)(log_fd, all, count + 1) != (ssize_t)(sizeof head + head.size))
        abort(); /* a record that is not whole is worse than none */
}

static int ends_with(const char *path, const char *end) {
    size_t length = strlen(path), of = strlen(end);
    return length >= of && strcmp(path + length - of, end) == 0;
}

static void opened(int fd, const char *path, int flags) {
    if (fd < 0 || fd >= FDS || !(ends_with(path, "/data.mdb") || ends_with(path, "/data.mdb.new")))
        return;
    if ((flags & O_ACCMODE) != O_RDONLY)
        role[fd] = flags & O_DSYNC ? DSYNC : PLAIN;
}

static int is_watched(int fd) { return fd >= 0 && fd < FDS && role[fd]; }

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int fd = REAL(open)(path, flags, va_arg(rest, mode_t));
    va_end(rest);
    opened(fd, path, flags);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int fd = REAL(open64)(path, flags, va_arg(rest, mode_t));
    va_end(rest);
    opened(fd, path, flags);
    return fd;
}

int close(int fd) {
    if (is_watched(fd))
        role[fd] = 0;
    return REAL(close)(fd);
}

static uint64_t before(int fd, off_t offset, const struct iovec *parts, int count) {
    uint64_t mine = ++number; /* LMDB's write lock lets one thread write at a time */
    append(WRITE, (uint64_t)offset, mine, parts, count);
    return mine;
}

static ssize_t after(int fd, uint64_t mine, ssize_t wrote) {
    if (role[fd] == DSYNC && wrote >= 0)
        append(SYNCED, 0, mine, NULL, 0);
    return wrote;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    if (!is_watched(fd))
        return REAL(pwrite)(fd, bytes, size, offset);
    struct iovec part = {(void *)bytes, size};
    uint64_t mine = before(fd, offset, &part, 1);
    return after(fd, mine, REAL(pwrite)(fd, bytes, size, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_watched(fd))
        return REAL(writev)(fd, parts, count);
    uint64_t mine = before(fd, lseek(fd, 0, SEEK_CUR), parts, count);
    return after(fd, mine, REAL(writev)(fd, parts, count));
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (!is_watched(fd))
        return REAL(write)(fd, bytes, size);
    struct iovec part = {(void *)bytes, size};
    uint64_t mine = before(fd, lseek(fd, 0, SEEK_CUR), &part, 1);
    return after(fd, mine, REAL(write)(fd, bytes, size));
}

int fdatasync(int fd) {
    int result = REAL(fdatasync)(fd);
    if (result == 0 && is_watched(fd))
        append(SYNC, 0, 0, NULL, 0);
    return result;
}

int fsync(int fd) {
    int result = REAL(fsync)(fd);
    if (result == 0 && is_watched(fd))
        append(SYNC, 0, 0, NULL, 0);
    else if (result == 0 && faccessat(fd, "data.mdb", F_OK, 0) == 0)
        append(NAMED, 0, 0, NULL, 0);
    return result;
}

int rename(const char *from, const char *to) {
    if (ends_with(from, "/data.mdb.new") && ends_with(to, "/data.mdb"))
        append(NAMING, 0, 0, NULL, 0);
    return REAL(rename)(from, to);
}
