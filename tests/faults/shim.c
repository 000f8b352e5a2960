/* Preloaded into a process under test: makes one operation on a file below a folder fail, as a full or broken disk does.
 *
 * FORAY_FAULTS names a control file, mapped by all processes together (struct control below; injection.py writes it).
 * While armed, the first operation that has not failed before does: it returns -1 with the wanted errno, and the control
 * is disarmed. An operation is known by its kind, its path below the folder without the keys of nodes, and, of a write, how
 * often this process has done it: the files of all nodes of a kind are one, and a second write finds a file that has begun.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOTS (1u << 20) /* identities: one byte each */
#define COUNTS 65536     /* of this process's operations by kind and path */
#define WRITES 2         /* the first so many writes that a process makes to the same are told apart */

struct control {
    int armed, error, fired, seen;
    char below[1024];
    char what[1024];
    unsigned char failed[SLOTS];
};

static struct control *control;
static uint32_t counts[COUNTS];

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FORAY_FAULTS");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) control = at;
    close(fd);
}

static uint64_t hash(const char *text, uint64_t h) {
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211ull;
    return h;
}

/* Temporary names differ from run to run: ".name.1234.tmp" is ".name..tmp", and safetensors' ".tmpAb3dE6" is ".tmp*". */
static void without_process(char *path) {
    size_t n = strlen(path);
    if (n > 11 && !strncmp(path + n - 11, "/.tmp", 5)) strcpy(path + n - 6, "*");
    if (n < 5 || strcmp(path + n - 4, ".tmp")) return;
    char *digits = path + n - 4;
    while (digits > path && digits[-1] >= '0' && digits[-1] <= '9') digits--;
    memmove(digits, path + n - 4, 5);
}

static int is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/* The key of a node, 16 hexadecimal digits, is "*". */
static void without_keys(char *path) {
    for (char *p = path; *p; p++) {
        size_t n = 0;
        while (is_hex(p[n])) n++;
        if (n == 16) {
            *p = '*';
            memmove(p + 1, p + n, strlen(p + n) + 1);
        } else if (n) {
            p += n - 1;
        }
    }
}

/* Whether this operation is to fail; errno is then set. */
static int fails(const char *kind, const char *path) {
    char clean[PATH_MAX + 64];
    if (!control || !path || !control->armed) return 0;
    size_t n = strlen(control->below);
    if (!n || strncmp(path, control->below, n)) return 0;
    snprintf(clean, sizeof clean, "%s%s", kind, path + n);
    without_process(clean);
    without_keys(clean);
    uint64_t h = hash(clean, 14695981039346656037ull);
    uint32_t times = __atomic_add_fetch(&counts[h % COUNTS], 1, __ATOMIC_RELAXED);
    if (times > (strncmp(kind, "write", 5) ? 1u : WRITES)) return 0;
    unsigned char *slot = &control->failed[(h * 31 + times) % SLOTS];
    if (*slot) return 0;
    int armed = 1;
    if (!__atomic_compare_exchange_n(&control->armed, &armed, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 0;
    *slot = 1;
    control->seen++;
    snprintf(control->what, sizeof control->what, "%s, time %u", clean, times);
    control->fired = 1;
    errno = control->error;
    return 1;
}

static int fd_fails(const char *kind, int fd) {
    char link[64], path[PATH_MAX];
    if (!control || !control->armed || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return fails(kind, path);
}

static int at_fails(const char *kind, int folder, const char *name) {
    char link[64], path[2 * PATH_MAX];
    if (!control || !control->armed || !name) return 0;
    if (name[0] == '/') return fails(kind, name);
    if (folder == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, path, PATH_MAX - 1);
        if (n <= 0) return 0;
        path[n] = 0;
    }
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/%s", name);
    return fails(kind, path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    return fd_fails("write ", fd) ? -1 : real(fd, data, n);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fd_fails("write ", fd) ? -1 : real(fd, data, n, at);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return fd_fails("write ", fd) ? -1 : real(fd, parts, n);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    return fd_fails("write ", to) ? -1 : real(to, from, at, n);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned int flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned int);
    return fd_fails("write ", to) ? -1 : real(from, a, to, b, n, flags);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    return fd_fails("fsync ", fd) ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return fd_fails("fsync ", fd) ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return fd_fails("truncate ", fd) ? -1 : real(fd, size);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return at_fails("rename ", AT_FDCWD, to) ? -1 : real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return at_fails("rename ", b, to) ? -1 : real(a, from, b, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return at_fails("mkdir ", AT_FDCWD, path) ? -1 : real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t);
    return at_fails("mkdir ", folder, path) ? -1 : real(folder, path, mode);
}

static int creates(int flags) { return (flags & O_CREAT) || (flags & O_ACCMODE) != O_RDONLY; }

int open(const char *path, int flags, ...) {
    REAL(int, open, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return creates(flags) && at_fails("open ", AT_FDCWD, path) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return creates(flags) && at_fails("open ", AT_FDCWD, path) ? -1 : real(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return creates(flags) && at_fails("open ", folder, path) ? -1 : real(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    REAL(int, openat64, int, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return creates(flags) && at_fails("open ", folder, path) ? -1 : real(folder, path, flags, mode);
}
