/* Preloaded into a process: while the file III_EIO exists, what is written to any data.mdb or synced there
 * fails with EIO, as on a disk that dies. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(int fd) {
    char link[64], path[4096];
    const char *end = "/data.mdb", *flag = getenv("III_EIO");
    ssize_t length;
    if (!flag || access(flag, F_OK))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)strlen(end) || strncmp(path + length - strlen(end), end, strlen(end)))
        return 0;
    errno = EIO;
    return 1;
}

ssize_t write(int fd, const void *from, size_t size) { return fails(fd) ? -1 : REAL(write)(fd, from, size); }

ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return fails(fd) ? -1 : REAL(pwrite)(fd, from, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return fails(fd) ? -1 : REAL(pwritev)(fd, parts, count, at);
}

int fdatasync(int fd) { return fails(fd) ? -1 : REAL(fdatasync)(fd); }

int fsync(int fd) { return fails(fd) ? -1 : REAL(fsync)(fd); }
