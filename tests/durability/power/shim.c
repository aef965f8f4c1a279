/* What a process does to the files of one folder, as a log: for finding out what a power cut leaves.
 *
 * Preloaded, it stands between everybody (libsqlite3, or a _sqlite3 that contains it, and Python itself)
 * and libc. Operations on names below $GREENROOM_POWER_FOLDER are done and then noted in
 * $GREENROOM_POWER_LOG, both under one mutex, so that the log has the order in which they took place.
 * An fsync is noted only, which makes the traced process fast. Memory maps are not seen: of a store's
 * files only the -shm is mapped, which does not outlive a power cut.
 *
 * A note: eight bytes each of op, handle, offset and length, then `length` bytes. A handle is one
 * opening of a file; the data of OPEN, UNLINK, RENAME, LINK and SYNC_FOLDER are names, two of them with a
 * NUL between.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, LINK, SYNC_FOLDER };
enum { MOST = 65536, NONE = 0, FOLDER = -1 };

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int64_t handles[MOST]; /* by descriptor: NONE, FOLDER or the number of the opening */
static int64_t opened = 0;
static int log_file = -1;
static char folder[4096];
static size_t folder_length = 0;

#define REAL(type, name, ...)                                                                            \
    static type (*real)(__VA_ARGS__) = NULL;                                                             \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void die(const char *why) {
    dprintf(2, "power shim: %s: %s\n", why, strerror(errno));
    _exit(97);
}

static void put(const void *data, size_t length) {
    const char *at = data;
    while (length) {
        ssize_t done = syscall(SYS_write, log_file, at, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) die("its log cannot be written");
        at += done;
        length -= (size_t)done;
    }
}

static void note(int64_t op, int64_t handle, int64_t offset, const void *data, size_t length) {
    int64_t head[4] = {op, handle, offset, (int64_t)length};
    int error = errno;
    put(head, sizeof head);
    put(data, length);
    errno = error;
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("GREENROOM_POWER_FOLDER"), *log = getenv("GREENROOM_POWER_LOG");
    if (!where || !log) return;
    snprintf(folder, sizeof folder, "%s", where);
    folder_length = strlen(folder);
    log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0) die("its log cannot be opened");
}

/* Whether a name is the folder (FOLDER), below it (1), or neither. The worker uses absolute names. */
static int watched(const char *name) {
    if (log_file < 0 || !name || strncmp(name, folder, folder_length)) return 0;
    if (name[folder_length] == 0 || !strcmp(name + folder_length, "/")) return FOLDER;
    return name[folder_length] == '/';
}

static void remember(int file, const char *name, int flags) {
    if (file < 0 || file >= MOST) return;
    int what = watched(name);
    if (what == 1) {
        handles[file] = ++opened;
        note(OPEN, opened, flags, name, strlen(name));
    } else
        handles[file] = what; /* also forgets what the descriptor was before */
}

static int64_t handle_of(int file) { return file >= 0 && file < MOST ? handles[file] : NONE; }

#define LOCKED(statements)                                                                               \
    do {                                                                                                 \
        pthread_mutex_lock(&mutex);                                                                      \
        statements;                                                                                      \
        pthread_mutex_unlock(&mutex);                                                                    \
    } while (0)

#define OPENING(symbol)                                                                                  \
    int symbol(const char *name, int flags, ...) {                                                       \
        REAL(int, #symbol, const char *, int, ...);                                                      \
        va_list rest;                                                                                    \
        va_start(rest, flags);                                                                           \
        mode_t mode = va_arg(rest, mode_t);                                                              \
        va_end(rest);                                                                                    \
        int file;                                                                                        \
        LOCKED(file = real(name, flags, mode); remember(file, name, flags));                             \
        return file;                                                                                     \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(symbol)                                                                               \
    int symbol(int at, const char *name, int flags, ...) {                                               \
        REAL(int, #symbol, int, const char *, int, ...);                                                 \
        va_list rest;                                                                                    \
        va_start(rest, flags);                                                                           \
        mode_t mode = va_arg(rest, mode_t);                                                              \
        va_end(rest);                                                                                    \
        int file;                                                                                        \
        LOCKED(file = real(at, name, flags, mode); remember(file, name, flags));                         \
        return file;                                                                                     \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

int close(int file) {
    REAL(int, "close", int);
    int done;
    LOCKED(if (file >= 0 && file < MOST) handles[file] = NONE; done = real(file));
    return done;
}

ssize_t write(int file, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (handle_of(file) <= 0) return real(file, data, length);
    ssize_t done;
    LOCKED(off_t after; done = real(file, data, length); if (done > 0) {
        after = lseek(file, 0, SEEK_CUR); /* also right for O_APPEND */
        note(WRITE, handles[file], after - done, data, (size_t)done);
    });
    return done;
}

#define PWRITE(symbol)                                                                                   \
    ssize_t symbol(int file, const void *data, size_t length, off_t offset) {                            \
        REAL(ssize_t, #symbol, int, const void *, size_t, off_t);                                        \
        if (handle_of(file) <= 0) return real(file, data, length, offset);                               \
        ssize_t done;                                                                                    \
        LOCKED(done = real(file, data, length, offset);                                                  \
               if (done > 0) note(WRITE, handles[file], offset, data, (size_t)done));                    \
        return done;                                                                                     \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATING(symbol)                                                                               \
    int symbol(int file, off_t size) {                                                                   \
        REAL(int, #symbol, int, off_t);                                                                  \
        if (handle_of(file) <= 0) return real(file, size);                                               \
        int done;                                                                                        \
        LOCKED(done = real(file, size); if (!done) note(TRUNCATE, handles[file], size, "", 0));          \
        return done;                                                                                     \
    }
TRUNCATING(ftruncate)
TRUNCATING(ftruncate64)

#define SYNCING(symbol)                                                                                  \
    int symbol(int file) {                                                                               \
        REAL(int, #symbol, int);                                                                         \
        int64_t handle = handle_of(file);                                                                \
        if (handle == NONE) return real(file);                                                           \
        LOCKED(note(handle == FOLDER ? SYNC_FOLDER : SYNC, handle, 0, folder, folder_length));           \
        return 0;                                                                                        \
    }
SYNCING(fsync)
SYNCING(fdatasync)

static int unlinked(int done, const char *name) {
    if (!done && watched(name) == 1) note(UNLINK, 0, 0, name, strlen(name));
    return done;
}

int unlink(const char *name) {
    REAL(int, "unlink", const char *);
    int done;
    LOCKED(done = unlinked(real(name), name));
    return done;
}

int unlinkat(int at, const char *name, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    int done;
    LOCKED(done = unlinked(real(at, name, flags), name));
    return done;
}

int remove(const char *name) {
    REAL(int, "remove", const char *);
    int done;
    LOCKED(done = unlinked(real(name), name));
    return done;
}

static int named(int done, int op, const char *from, const char *to) {
    if (!done && (watched(from) == 1 || watched(to) == 1)) {
        char both[8192];
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        note(op, 0, 0, both, (size_t)length);
    }
    return done;
}

#define NAMING(symbol, op)                                                                               \
    int symbol(const char *from, const char *to) {                                                       \
        REAL(int, #symbol, const char *, const char *);                                                  \
        int done;                                                                                        \
        LOCKED(done = named(real(from, to), op, from, to));                                              \
        return done;                                                                                     \
    }
NAMING(rename, RENAME)
NAMING(link, LINK)

int renameat(int at, const char *from, int to_at, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    int done;
    LOCKED(done = named(real(at, from, to_at, to), RENAME, from, to));
    return done;
}

int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    int done;
    LOCKED(done = named(real(at, from, to_at, to, flags), LINK, from, to));
    return done;
}

/* Ways to write that nobody used when this was made: who begins to must be seen here first. */
#define UNSEEN(type, symbol, parameters, arguments)                                                      \
    type symbol parameters {                                                                             \
        static type(*real) parameters = NULL;                                                            \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #symbol);                                 \
        if (handle_of(file) > 0) die("a file was written by " #symbol);                                  \
        return real arguments;                                                                           \
    }
UNSEEN(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
UNSEEN(ssize_t, pwritev, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at))
UNSEEN(ssize_t, pwritev2, (int file, const struct iovec *parts, int count, off_t at, int flags),
       (file, parts, count, at, flags))
UNSEEN(int, fallocate, (int file, int mode, off_t at, off_t length), (file, mode, at, length))
UNSEEN(int, posix_fallocate, (int file, off_t at, off_t length), (file, at, length))
