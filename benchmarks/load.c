/* A neutral WebSocket load generator: epoll, one thread, every echo is compared octet by octet.
 *
 *   load PORT CONNECTIONS PIPELINE SIZE SECONDS
 *
 * Each connection sends PIPELINE masked text frames of SIZE octets in one write, waits for all echoes, and goes on.
 * Prints "messages seconds" on one line. Ends with 1 and a message when an echo is wrong or a server closes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t sent, received;
};

static char *request, *reply;
static size_t request_size, reply_size;

static void die(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t header(unsigned char *p, size_t size, int mask) {
    p[0] = 0x81;
    if (size < 126) { p[1] = mask | size; return 2; }
    if (size < 65536) { p[1] = mask | 126; p[2] = size >> 8; p[3] = size; return 4; }
    p[1] = mask | 127;
    for (int i = 0; i < 8; i++) p[2 + i] = (unsigned long long)size >> (56 - 8 * i);
    return 10;
}

static void frames(int pipeline, size_t size) {
    static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
    request = malloc(pipeline * (size + 14));
    reply = malloc(pipeline * (size + 10));
    if (!request || !reply) die("no memory");
    unsigned char *q = (unsigned char *)request, *r = (unsigned char *)reply;
    for (int k = 0; k < pipeline; k++) {
        q += header(q, size, 0x80);
        memcpy(q, key, 4);
        q += 4;
        r += header(r, size, 0);
        for (size_t i = 0; i < size; i++) {
            unsigned char c = 'a' + (i * 7 + k) % 26;
            *q++ = c ^ key[i & 3];
            *r++ = c;
        }
    }
    request_size = q - (unsigned char *)request;
    reply_size = r - (unsigned char *)reply;
}

static int opened(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char buffer[4096];
    int n = snprintf(buffer, sizeof buffer,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", port);
    if (write(fd, buffer, n) != n) die("write of the handshake");
    size_t have = 0;
    while (have < sizeof buffer - 1) {
        ssize_t got = read(fd, buffer + have, 1); /* nothing behind the head may be taken */
        if (got <= 0) die("the server closed during the handshake");
        buffer[have += got] = 0;
        if (have >= 4 && !memcmp(buffer + have - 4, "\r\n\r\n", 4)) break;
    }
    if (strncmp(buffer, "HTTP/1.1 101", 12) || !strstr(buffer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
        errno = 0;
        die("the handshake was refused");
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void push(struct connection *c) {
    while (c->sent < request_size) {
        ssize_t n = write(c->fd, request + c->sent, request_size - c->sent);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("write");
        c->sent += n;
    }
}

int main(int argc, char **argv) {
    if (argc != 6) { errno = 0; die("usage: load PORT CONNECTIONS PIPELINE SIZE SECONDS"); }
    int port = atoi(argv[1]), count = atoi(argv[2]), pipeline = atoi(argv[3]);
    size_t size = atol(argv[4]);
    double seconds = atof(argv[5]);
    static char buffer[1 << 18];
    frames(pipeline, size);
    struct connection *all = calloc(count, sizeof *all);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        all[i].fd = opened(port);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    unsigned long long done = 0;
    double start = now(), end = start + seconds, t;
    for (int i = 0; i < count; i++) push(&all[i]);
    while ((t = now()) < end) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, 1000);
        if (n == 0 && now() > end + 5) { errno = 0; die("no echo for too long"); }
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            push(c);
            ssize_t got;
            while ((got = read(c->fd, buffer, sizeof buffer)) > 0) {
                if (c->received + got > reply_size || memcmp(buffer, reply + c->received, got)) {
                    errno = 0;
                    die("a wrong echo");
                }
                c->received += got;
                if (c->received == reply_size) {
                    done += pipeline;
                    c->received = c->sent = 0;
                    push(c);
                }
            }
            if (got == 0) { errno = 0; die("the server closed"); }
            if (got < 0 && errno != EAGAIN) die("read");
        }
    }
    printf("%llu %.6f\n", done, t - start);
    return 0;
}
