# cython: auto_pickle=False, autotestdict=False
"""A dead man's switch: a thread that needs no lock of the interpreter ends the process when nobody comes by.

It counts its own beats since the last `turn()`, no clock: a process that was stopped, and this thread too, is
not ended for that. At the limit it raises a signal in itself, whose handler (faulthandler's) writes the
stacks of all Python threads; then it says which thread runs, and ends the process.
"""

cimport cython
from libc.stdio cimport fclose, fgets, fopen, snprintf
from libc.stdlib cimport atoi, calloc, free, strtoull
from libc.string cimport memcpy, strchr, strlen
from posix.time cimport nanosleep

cdef enum:
    EXIT_CODE = 1
    WRITE_S = 5            # what it says may take so long: who should read it may have stopped
    LOOK_NS = 200_000_000
    LEAST_NS = 5_000_000   # on a processor within that, to be the one that runs
    THREADS_MAX = 1024
    WORDS_BYTES = 256
    NAME_BYTES = 64
    PATH_BYTES = 64
    LINE_BYTES = 256


@cython.final
cdef class Deadman:
    """From here on `turn()` is to be called before `beats_max` beats have passed, until `stop()`.

    dump: the signal whose handler writes the stacks. fd: where the name of the thread that runs goes, and
    after it `words`.
    """

    def __cinit__(self, double beat_s, unsigned long beats_max, int dump, int fd, bytes words):
        if not 0.001 <= beat_s <= 60 or not beats_max or len(words) >= WORDS_BYTES:
            raise ValueError("beat_s from 0.001 to 60, beats_max from 1, words of less than 256 bytes")
        self._watch = <Watch*>calloc(1, sizeof(Watch))
        if self._watch is NULL:
            raise MemoryError
        self._watch.beat.tv_sec = <long>beat_s
        self._watch.beat.tv_nsec = <long>((beat_s - <long>beat_s) * 1e9)
        self._watch.beats_max, self._watch.dump, self._watch.fd = beats_max, dump, fd
        memcpy(self._watch.words, <const char*>words, len(words))
        if _start(self._watch) != 0:
            free(self._watch)
            self._watch = NULL
            raise OSError("no thread can be started")

    def __dealloc__(self):
        self.stop()

    def turn(self):
        """Somebody comes by."""
        if self._watch is not NULL:
            self._watch.turns += 1

    def stop(self):
        """Idempotent."""
        if self._watch is not NULL:
            self._watch.stopped = 1
            self._watch = NULL


cdef int _start(Watch* watch) noexcept nogil:
    """Its thread takes no signal that is meant for others."""
    cdef pthread_t thread
    cdef sigset_t every, before
    cdef int failed
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    failed = pthread_create(&thread, NULL, _run, watch)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if not failed:
        pthread_detach(thread)
    return failed


cdef void* _run(void* given) noexcept nogil:
    cdef Watch* watch = <Watch*>given
    cdef unsigned long seen = watch.turns, still = 0
    while True:
        nanosleep(&watch.beat, NULL)
        if watch.stopped:
            free(watch)
            return NULL
        if watch.turns != seen:
            seen = watch.turns
            still = 0
            continue
        still += 1
        if still >= watch.beats_max:
            _end(watch)


cdef void _end(Watch* watch) noexcept nogil:
    cdef char[WORDS_BYTES + NAME_BYTES + 16] line
    cdef char[NAME_BYTES] name
    cdef sigset_t dump
    signal(SIGALRM, SIG_DFL)
    alarm(WRITE_S)
    sigemptyset(&dump)
    sigaddset(&dump, watch.dump)
    _who_runs(name)
    pthread_sigmask(SIG_UNBLOCK, &dump, NULL)
    pthread_kill(pthread_self(), watch.dump)
    snprintf(line, sizeof(line), b"error: %s%s\n", name, watch.words)
    write(watch.fd, line, strlen(line))
    _exit(EXIT_CODE)


cdef void _who_runs(char* name) noexcept nogil:
    """In words: the thread that takes most of the processor for LOOK_NS. Who waits for the interpreter's lock
    wakes up now and then, but takes next to nothing."""
    cdef int[THREADS_MAX] threads
    cdef unsigned long long[THREADS_MAX] before
    cdef unsigned long long most = LEAST_NS, spent
    cdef int count = _threads(threads), index, found = 0
    cdef timespec look
    for index in range(count):
        before[index] = _spent_ns(threads[index])
    look.tv_sec, look.tv_nsec = 0, LOOK_NS
    nanosleep(&look, NULL)
    for index in range(count):
        spent = _spent_ns(threads[index]) - before[index]
        if spent > most:
            most, found = spent, threads[index]
    if not found:
        snprintf(name, NAME_BYTES, b"a thread that waits")
    elif found == getpid():
        snprintf(name, NAME_BYTES, b"the event loop's own thread")
    else:
        _name(found, name)


cdef int _threads(int* threads) noexcept nogil:
    """The ids of the others; how many."""
    cdef DIR* folder = opendir(b"/proc/self/task")
    cdef dirent* entry
    cdef int thread, count = 0
    if folder is NULL:
        return 0
    while count < THREADS_MAX:
        entry = readdir(folder)
        if entry is NULL:
            break
        thread = atoi(entry.d_name)
        if thread and thread != gettid():
            threads[count] = thread
            count += 1
    closedir(folder)
    return count


cdef unsigned long long _spent_ns(int thread) noexcept nogil:
    """Time on a processor; 0 where the kernel does not tell."""
    cdef char[LINE_BYTES] line
    return strtoull(line, NULL, 10) if _read(thread, b"schedstat", line) else 0


cdef void _name(int thread, char* name) noexcept nogil:
    cdef char[LINE_BYTES] line
    cdef char* end
    if _read(thread, b"comm", line):
        end = strchr(line, 10)
        if end is not NULL:
            end[0] = 0
        snprintf(name, NAME_BYTES, b"thread %.20s", line)
    else:
        snprintf(name, NAME_BYTES, b"thread %d", thread)


cdef bint _read(int thread, const char* what, char* line) noexcept nogil:
    """The first line of what the kernel says of a thread (proc(5))."""
    cdef char[PATH_BYTES] path
    cdef FILE* file
    cdef bint said
    snprintf(path, PATH_BYTES, b"/proc/self/task/%d/%s", thread, what)
    file = fopen(path, b"r")
    if file is NULL:
        return False
    said = fgets(line, LINE_BYTES, file) is not NULL
    fclose(file)
    return said
