/* A neutral WebSocket load generator: epoll, one thread, every echo is compared octet by octet.
 *
 *   load echo      PORT CONNECTIONS PIPELINE SIZE SECONDS
 *   load raw       PORT CONNECTIONS PIPELINE SIZE SECONDS
 *   load broadcast PORT CONNECTIONS SIZE SECONDS
 *   load storm     PORT AT_ONCE SECONDS
 *   load hold      PORT CONNECTIONS SIZE
 *
 * echo: each connection sends PIPELINE masked text frames of SIZE octets in one write, waits for all echoes, goes on.
 * raw: the same octets to a server that echoes octets: no handshake, no frames.
 * broadcast: one connection sends a text that begins with "B", the server sends it to all; when each has it, the next
 *   one goes out. Deliveries are counted. Before that, a text "a" of each connection is echoed to that one alone.
 * storm: AT_ONCE connections at a time open, make the handshake, close (both Closes, then the server's end of TCP).
 * hold: opens all, prints "CONNECTIONS SECONDS CPU", and holds them; for each line of standard input, a number of
 *   seconds, it does as echo with all of them; ends with its input.
 *
 * Prints "COUNT SECONDS CPU" on one line: what was done, the time that it took, and the CPU time that the process with
 * the number in the environment variable LOAD_PID used meanwhile, or without that we ourselves. Openings do not count.
 * Ends with 1 and a message when an echo is wrong or does not come, or a server closes. Compiled with -DTLS, it speaks TLS
 * (OpenSSL; no certificate is checked) in echo and hold. */
#include "wire.h"

enum { PATIENCE = 10 }; /* seconds for what takes milliseconds, on a busy machine */

static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};

struct connection {
    struct stream stream;
    size_t sent, received;
    unsigned turn;
    unsigned char ping[140]; /* one that comes between the echoes, as far as it is here; in a storm, the head */
    size_t have;
};

static unsigned char *request, *reply;
static size_t request_size, reply_size, frame_size;
static int port, plain, count, pipeline, poller;
static struct connection *all;
static char buffer[1 << 18];
#ifdef TLS
static SSL_CTX *context;
#endif

static void frames(size_t size, int begin) {
    request = malloc(pipeline * (size + 14));
    reply = malloc(pipeline * (size + 14));
    if (!request || !reply) die("no memory");
    unsigned char *q = request, *r = reply;
    for (int k = 0; k < pipeline; k++) {
        q += header(q, 0x81, size, 0x80);
        memcpy(q, key, 4);
        q += 4;
        r += header(r, 0x81, size, 0);
        for (size_t i = 0; i < size; i++) {
            unsigned char c = begin;
            if (i) c = 'a' + (i * 7 + k) % 26;
            *q++ = c ^ key[i & 3];
            *r++ = c;
        }
    }
    request_size = q - request;
    reply_size = r - reply;
    frame_size = reply_size / pipeline;
    if (plain) memcpy(reply, request, reply_size = frame_size = request_size);
}

static int connected(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = PATIENCE};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    no_delay(fd);
    return fd;
}

static void ask_to_open(struct stream *s) {
    char text[256];
    int n = snprintf(text, sizeof text,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", port);
    if (stream_write(s, text, n) != n) die("write of the handshake");
}

/* Whether the whole head is here, and nothing behind it. */
static int agreed(const char *head, size_t size) {
    if (size < 4 || memcmp(head + size - 4, "\r\n\r\n", 4)) return 0;
    if (strncmp(head, "HTTP/1.1 101", 12) || !strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        wrong("the handshake was refused");
    return 1;
}

static void opened(struct connection *c) {
    c->stream.fd = connected();
#ifdef TLS
    c->stream.ssl = SSL_new(context);
    SSL_set_fd(c->stream.ssl, c->stream.fd);
    if (SSL_connect(c->stream.ssl) != 1) wrong("the TLS handshake failed");
#endif
    if (!plain) {
        ask_to_open(&c->stream);
        size_t have = 0;
        do {
            ssize_t got = stream_read(&c->stream, buffer + have, 4095 - have);
            if (got <= 0) die("no answer to the handshake");
            buffer[have += got] = 0;
        } while (!agreed(buffer, have));
    }
    fcntl(c->stream.fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->stream.fd, &e);
}

static void push(struct connection *c) {
    while (c->sent < request_size) {
        ssize_t n = stream_write(&c->stream, request + c->sent, request_size - c->sent);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("write");
        c->sent += n;
    }
}

/* A keepalive Ping is answered, as any client does. */
static void pinged(struct connection *c, unsigned char octet) {
    c->ping[c->have++] = octet;
    if (c->have < 2 || c->have < 2u + c->ping[1]) return;
    if (c->ping[1] > 125) wrong("a Ping of more than 125 octets");
    if (c->sent % request_size) wrong("a Ping within our own message: not foreseen");
    unsigned char pong[140] = {0x8a, 0x80 | c->ping[1], key[0], key[1], key[2], key[3]};
    for (int i = 0; i < c->ping[1]; i++) pong[6 + i] = c->ping[2 + i] ^ key[i & 3];
    if (stream_write(&c->stream, pong, 6 + c->ping[1]) < 0) die("write of a Pong");
    c->have = 0;
}

/* Whether the whole reply is here. */
static int answered(struct connection *c, const unsigned char *data, size_t size) {
    while (size) {
        size_t place = c->received % frame_size, part = frame_size - place;
        if (c->have || (!place && !plain && *data == 0x89)) {
            pinged(c, *data++);
            size--;
            continue;
        }
        if (part > size) part = size;
        if (c->received + part > reply_size || memcmp(data, reply + c->received, part)) wrong("a wrong echo");
        c->received += part;
        data += part;
        size -= part;
    }
    return c->received == reply_size;
}

static int resting; /* the time is over: what is under way comes home, nothing more goes out */
static int awaited; /* replies that are under way */

/* Calls `complete` for each connection that has its reply; how much was done is what that returns. */
static void run(double seconds, unsigned long long (*complete)(struct connection *)) {
    unsigned long long done = 0, counted = 0;
    double used = cpu(), start = now(), end = start + seconds, took = 0, t;
    resting = 0;
    for (;;) {
        struct epoll_event events[256];
        t = now();
        if (!resting && t >= end && (done || t >= end + PATIENCE)) {
            if (!done) wrong("no echo");
            used = cpu() - used;
            took = t - start;
            counted = done;
            resting = 1;
            end = t;
        }
        if (resting && !awaited) break;
        if (resting && t > end + 2 * PATIENCE) wrong("some echoes have not come");
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t got;
            if (c->sent && c->sent < request_size) push(c);
            while ((got = stream_read(&c->stream, buffer, sizeof buffer)) > 0) {
                if (answered(c, (unsigned char *)buffer, got)) {
                    c->received = 0;
                    done += complete(c);
                }
#ifndef TLS
                if ((size_t)got < sizeof buffer) break; /* a short read has emptied the socket */
#endif
            }
            if (got == 0) wrong("the server closed");
            if (got < 0 && errno != EAGAIN) die("read");
        }
    }
    printf("%llu %.6f %.6f\n", counted, took, used);
    fflush(stdout);
}

static unsigned long long again(struct connection *c) {
    c->sent = 0;
    if (resting) awaited--;
    else push(c);
    return pipeline;
}

static void echo(double seconds) {
    awaited = count;
    for (int i = 0; i < count; i++) push(&all[i]);
    run(seconds, again);
}

static unsigned turn;

static unsigned long long delivered(struct connection *c) {
    if (c->turn != turn) wrong("a broadcast came twice");
    c->turn++;
    if (--awaited == 0 && !resting) {
        turn++;
        awaited = count;
        all[0].sent = 0;
        push(&all[0]);
    }
    return 1;
}

static void open_all(void) {
    all = calloc(count, sizeof *all);
    if (!all) die("no memory");
    for (int i = 0; i < count; i++) opened(&all[i]);
}

static void broadcast(size_t size, double seconds) {
    static const unsigned char hello[7] = {0x81, 0x81, 0, 0, 0, 0, 'a'}, answer[3] = {0x81, 1, 'a'};
    frames(size, 'B');
    for (int i = 0; i < count; i++) {
        size_t have = 0;
        if (stream_write(&all[i].stream, hello, sizeof hello) < 0) die("write");
        for (double end = now() + PATIENCE; have < sizeof answer && now() < end;) {
            ssize_t got = stream_read(&all[i].stream, buffer + have, sizeof answer - have);
            if (!got || (got < 0 && errno != EAGAIN)) die("read");
            if (got > 0) have += got;
        }
        if (have < sizeof answer || memcmp(buffer, answer, sizeof answer)) wrong("a wrong echo before the broadcast");
    }
    awaited = count;
    push(&all[0]);
    run(seconds, delivered);
}

static void hold(size_t size) {
    char line[64];
    frames(size, 'a');
    while (fgets(line, sizeof line, stdin)) echo(atof(line));
}

static void start_storm(struct connection *c) {
    c->stream.fd = connected();
    c->have = c->turn = 0;
    ask_to_open(&c->stream);
    fcntl(c->stream.fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->stream.fd, &e);
}

static void storm(double seconds) {
    static const unsigned char bye[8] = {0x88, 0x82, 0, 0, 0, 0, 1000 >> 8, 1000 & 255};
    char(*heads)[2048] = calloc(count, sizeof *heads);
    all = calloc(count, sizeof *all);
    if (!all || !heads) die("no memory");
    unsigned long long done = 0;
    double used = cpu(), start = now(), end = start + seconds, t;
    for (int i = 0; i < count; i++) start_storm(&all[i]);
    while ((t = now()) < end || (!done && t < end + PATIENCE)) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            char *head = heads[c - all];
            ssize_t got = read(c->stream.fd, head + c->have, sizeof *heads - 1 - c->have);
            if (got > 0) {
                head[c->have += got] = 0;
                if (!c->turn && agreed(head, c->have)) {
                    if (write(c->stream.fd, bye, sizeof bye) < 0) die("write of Close");
                    c->turn = 1;
                    c->have = 0;
                }
                if (c->have == sizeof *heads - 1) wrong("a head too long");
                continue;
            }
            if (got < 0 && errno == EAGAIN) continue;
            if (!c->turn || c->have < 2 || (unsigned char)head[0] != 0x88) wrong("the server closed without Close");
            close(c->stream.fd);
            done++;
            start_storm(c);
        }
    }
    if (!done) wrong("no handshake");
    printf("%llu %.6f %.6f\n", done, t - start, cpu() - used);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: load echo|raw PORT CONNECTIONS PIPELINE SIZE SECONDS, "
                                "broadcast PORT CONNECTIONS SIZE SECONDS, storm PORT AT_ONCE SECONDS, "
                                "hold PORT CONNECTIONS SIZE";
    static const struct { const char *name; int arguments; } modes[] = {
        {"echo", 7}, {"raw", 7}, {"broadcast", 6}, {"storm", 5}, {"hold", 5}};
    int mode = -1;
    for (int i = 0; i < 5; i++)
        if (argc == modes[i].arguments && !strcmp(argv[1], modes[i].name)) mode = i;
    if (mode < 0) wrong(usage);
    raise_limits();
    port = atoi(argv[2]);
    count = atoi(argv[3]);
    pipeline = mode < 2 ? atoi(argv[4]) : 1;
    plain = mode == 1;
    if (count < 1 || pipeline < 1) wrong(usage);
    poller = epoll_create1(0);
#ifdef TLS
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#endif
    if (mode == 3) {
        storm(atof(argv[4]));
        return 0;
    }
    double used = cpu(), start = now();
    open_all();
    if (mode < 2) {
        frames(atol(argv[5]), 'a');
        echo(atof(argv[6]));
    } else if (mode == 2) {
        broadcast(atol(argv[4]), atof(argv[5]));
    } else {
        printf("%d %.6f %.6f\n", count, now() - start, cpu() - used);
        fflush(stdout);
        hold(atol(argv[4]));
    }
    return 0;
}
