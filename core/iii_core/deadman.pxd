from libc.stdio cimport FILE
from posix.time cimport timespec

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK, SIG_UNBLOCK, SIGALRM
    ctypedef void (*handler_t)(int)
    handler_t SIG_DFL
    handler_t signal(int number, handler_t handler)
    int sigemptyset(sigset_t* set)
    int sigfillset(sigset_t* set)
    int sigaddset(sigset_t* set, int number)
    int pthread_sigmask(int how, const sigset_t* set, sigset_t* old)

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef void* (*run_t)(void*) noexcept nogil
    int pthread_create(pthread_t* thread, const void* attributes, run_t run, void* given)
    int pthread_detach(pthread_t thread)
    pthread_t pthread_self()
    int pthread_kill(pthread_t thread, int number)

cdef extern from "dirent.h" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        char* d_name
    DIR* opendir(const char* path)
    dirent* readdir(DIR* folder)
    int closedir(DIR* folder)

cdef extern from "unistd.h" nogil:
    unsigned int alarm(unsigned int seconds)
    int getpid()
    int gettid()
    ssize_t write(int fd, const void* buffer, size_t count)
    void _exit(int status)

cdef extern from *:
    ctypedef unsigned long turns_t "volatile unsigned long"
    ctypedef int flag_t "volatile int"

cdef struct Watch:
    turns_t turns          # how often somebody came by
    flag_t stopped         # the thread frees this and ends
    timespec beat
    unsigned long beats_max
    int dump               # the signal whose handler writes the stacks
    int fd                 # where the words go
    char[256] words        # said last, after the name of the thread that runs

cdef class Deadman:
    cdef Watch* _watch
