/* What the programs in C share: errors, clocks, frames, and a socket that may be TLS (compiled with -DTLS). */
#ifndef WIRE_H
#define WIRE_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

__attribute__((noreturn)) static void die(const char *what) {
    fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

__attribute__((noreturn)) static inline void wrong(const char *what) {
    errno = 0;
    die(what);
}

static inline double clock_of(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static inline double now(void) { return clock_of(CLOCK_MONOTONIC); }

/* CPU time of the process LOAD_PID with all its threads, else our own. /proc/PID/stat has the same in steps of 10 ms. */
static inline double cpu(void) {
    const char *pid = getenv("LOAD_PID");
    clockid_t which = CLOCK_PROCESS_CPUTIME_ID;
    if (pid && (errno = clock_getcpuclockid(atoi(pid), &which))) die("the clock of LOAD_PID");
    return clock_of(which);
}

/* A connection is a file descriptor: as many as we may have. */
static inline void raise_limits(void) {
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    signal(SIGPIPE, SIG_IGN);
}

/* RFC 6455 section 5.2; mask is 0x80 or 0. Returns its size without the key. */
static inline size_t header(unsigned char *p, unsigned char first, size_t size, int mask) {
    p[0] = first;
    if (size < 126) {
        p[1] = mask | size;
        return 2;
    }
    int octets = size < 65536 ? 2 : 8;
    p[1] = mask | (octets == 2 ? 126 : 127);
    for (int i = 0; i < octets; i++) p[2 + i] = (uint64_t)size >> (8 * (octets - 1 - i));
    return 2 + octets;
}

struct stream {
    int fd;
#ifdef TLS
    SSL *ssl;
#endif
};

#ifdef TLS
static inline ssize_t outcome(SSL *ssl, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(ssl, result);
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) errno = EAGAIN;
    else if (error != SSL_ERROR_SYSCALL || !errno) errno = EPROTO;
    return -1;
}
#endif

/* As read and write: -1 with EAGAIN when there is nothing to do. */
static inline ssize_t stream_read(struct stream *s, void *data, size_t size) {
#ifdef TLS
    return outcome(s->ssl, SSL_read(s->ssl, data, size));
#else
    return read(s->fd, data, size);
#endif
}

static inline ssize_t stream_write(struct stream *s, const void *data, size_t size) {
#ifdef TLS
    return outcome(s->ssl, SSL_write(s->ssl, data, size));
#else
    return write(s->fd, data, size);
#endif
}

static inline void stream_close(struct stream *s) {
#ifdef TLS
    SSL_free(s->ssl);
#endif
    close(s->fd);
}

static inline void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

#endif
