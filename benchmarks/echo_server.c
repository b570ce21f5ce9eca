/* An echo server as the limit of the machine: epoll, one thread, no check that costs anything, not even of UTF-8.
 *
 *   echo_server            prints the port of 127.0.0.1 that it listens on, and echoes until it is ended
 *   echo_server broadcast  a text that begins with "B" goes to all connections
 *   echo_server_tls PEM    compiled with -DTLS: certificate and key
 *
 * A connection that does not begin with "G" gets its octets back as they come: a bound for clients over plain TCP. */
#include "wire.h"

enum { HEAD, FRAMES, RAW, CLOSING };

struct connection {
    struct stream stream;
    int phase, place, waits;
    unsigned char *in, *out; /* what is incomplete, and what could not be written; most connections have neither */
    size_t have, room, begun, end, out_room;
};

static struct connection **all;
static int count, room, poller, to_all;
static unsigned char *made; /* the answers to one read */
static size_t made_size, made_room;
#ifdef TLS
static SSL_CTX *context;
#endif

static void *grown(void *old, size_t size) {
    void *p = realloc(old, size);
    if (!p) die("no memory");
    return p;
}

/* RFC 3174, for one message of less than 120 octets. */
static void sha1(const char *text, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    unsigned char data[128] = {0};
    size_t size = strlen(text), blocks = (size + 9 + 63) / 64;
    memcpy(data, text, size);
    data[size] = 0x80;
    data[blocks * 64 - 1] = size * 8;
    data[blocks * 64 - 2] = size * 8 >> 8;
#define TURN(x, n) ((x) << (n) | (x) >> (32 - (n)))
    for (size_t block = 0; block < blocks; block++) {
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = data + block * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = TURN(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                  : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = TURN(a, 5) + f + e + w[i];
            e = d, d = c, c = TURN(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = h[i / 4] >> (24 - i % 4 * 8);
}

static void accept_value(const char *key, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[64 + 40];
    unsigned char d[21] = {0};
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, d);
    for (int i = 0; i < 21; i += 3, out += 4) {
        uint32_t v = d[i] << 16 | d[i + 1] << 8 | d[i + 2];
        for (int k = 0; k < 4; k++) out[k] = letters[v >> (18 - 6 * k) & 63];
    }
    out[-1] = '=';
    *out = 0;
}

static void dropped(struct connection *c) {
    all[c->place] = all[--count];
    all[c->place]->place = c->place;
    stream_close(&c->stream);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct connection *c, int waits) {
    struct epoll_event e = {.events = waits ? EPOLLOUT : EPOLLIN, .data.ptr = c};
    c->waits = waits;
    epoll_ctl(poller, EPOLL_CTL_MOD, c->stream.fd, &e);
}

/* Write, or keep what cannot be written now; a connection that is broken is dropped when it is read. */
static void give(struct connection *c, const unsigned char *data, size_t size) {
    ssize_t n = 0;
    while (size && !c->waits && (n = stream_write(&c->stream, data, size)) > 0) data += n, size -= n;
    if (!size || (n < 0 && errno != EAGAIN)) return;
    if (c->end + size > c->out_room) c->out = grown(c->out, c->out_room = c->end + size);
    memcpy(c->out + c->end, data, size);
    c->end += size;
    if (!c->waits) watch(c, 1);
}

static void unmask(unsigned char *to, const unsigned char *from, size_t size, const unsigned char *key) {
    uint64_t wide, octets;
    memcpy(&wide, key, 4);
    memcpy((char *)&wide + 4, key, 4);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&octets, from + i, 8);
        octets ^= wide;
        memcpy(to + i, &octets, 8);
    }
    for (; i < size; i++) to[i] = from[i] ^ key[i & 3];
}

/* Answers all whole frames into `made`; returns the octets taken, and in `wanted` what the next frame has in all. */
static size_t answer(struct connection *c, const unsigned char *data, size_t have, size_t *wanted) {
    size_t taken = 0;
    *wanted = 0;
    if (have + 16 > made_room) made = grown(made, made_room = have + 16);
    while (have - taken >= 6 && c->phase == FRAMES) {
        const unsigned char *p = data + taken;
        uint64_t size = p[1] & 127;
        size_t start = size < 126 ? 2 : size == 126 ? 4 : 10;
        if (!(p[1] & 0x80)) wrong("a frame that is not masked");
        if (have - taken < start + 4) break;
        if (start > 2) {
            size = 0;
            for (size_t i = 2; i < start; i++) size = size << 8 | p[i];
        }
        *wanted = start + 4 + size;
        if (have - taken < *wanted) break;
        unsigned char *begin = made + made_size, *to = begin + header(begin, p[0] == 0x89 ? 0x8a : p[0], size, 0);
        unmask(to, p + start + 4, size, p + start);
        taken += *wanted;
        *wanted = 0;
        if ((p[0] & 15) == 10) continue;
        if ((p[0] & 15) == 8) c->phase = CLOSING;
        if (to_all && size && *to == 'B')
            for (int i = 0; i < count; i++) give(all[i], begin, to + size - begin);
        else
            made_size = to + size - made;
    }
    return taken;
}

static size_t head(struct connection *c, unsigned char *data, size_t have) {
    if (data[0] != 'G') {
        c->phase = RAW;
        return 0;
    }
    data[have] = 0; /* there is always room for it */
    char *end = strstr((char *)data, "\r\n\r\n"), *key = strcasestr((char *)data, "\r\nSec-WebSocket-Key:");
    if (!end) return 0;
    if (!key || key > end) wrong("a request without a key");
    char value[32], text[256];
    accept_value(key + 20 + strspn(key + 20, " "), value);
    int n = snprintf(text, sizeof text, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", value);
    give(c, (unsigned char *)text, n);
    c->phase = FRAMES;
    return end + 4 - (char *)data;
}

/* Returns 0 when the connection is over. */
static int came(struct connection *c) {
    static unsigned char shared[1 << 18];
    unsigned char *data = c->have ? c->in : shared;
    size_t space = c->have ? c->room : sizeof shared, wanted = 0, taken = 0;
    ssize_t got = stream_read(&c->stream, data + c->have, space - c->have - 1);
    if (got < 0 && errno == EAGAIN) return 1;
    if (got <= 0) return 0;
    size_t have = c->have + got;
    made_size = 0;
    if (c->phase == HEAD) taken = head(c, data, have);
    if (c->phase == RAW) {
        give(c, data, have);
        return 1;
    }
    if (c->phase == FRAMES) taken += answer(c, data + taken, have - taken, &wanted);
    if (made_size) give(c, made, made_size);
    if (c->phase == CLOSING && !c->waits) return 0;
    c->have = have - taken;
    if (!c->have) return 1;
    size_t need = (wanted > c->have ? wanted : c->have) + 4096;
    if (data == shared) {
        if (need > c->room) c->in = grown(c->in, c->room = need);
        memcpy(c->in, shared + taken, c->have);
    } else {
        memmove(c->in, c->in + taken, c->have);
        if (need > c->room) c->in = grown(c->in, c->room = need);
    }
    return 1;
}

static void writable(struct connection *c) {
    while (c->begun < c->end) {
        ssize_t n = stream_write(&c->stream, c->out + c->begun, c->end - c->begun);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) break;
        c->begun += n;
    }
    c->begun = c->end = 0;
    watch(c, 0);
}

static void accepted(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    struct connection *c = calloc(1, sizeof *c);
    if (count == room) all = grown(all, (room = 2 * room + 64) * sizeof *all);
    if (!c) die("no memory");
    no_delay(fd);
    c->stream.fd = fd;
#ifdef TLS
    c->stream.ssl = SSL_new(context);
    SSL_set_fd(c->stream.ssl, fd);
    SSL_set_accept_state(c->stream.ssl); /* its handshake is made by the first reads */
#endif
    c->place = count;
    all[count++] = c;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    raise_limits();
    to_all = argc > 1 && !strcmp(argv[1], "broadcast");
#ifdef TLS
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (argc < 2 || SSL_CTX_use_certificate_file(context, argv[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[1], SSL_FILETYPE_PEM) != 1)
        wrong("usage: echo_server_tls PEM");
#endif
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&a, &size);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                accepted(listener);
                continue;
            }
            if (c->waits && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) writable(c);
            if (!c->waits && (c->phase == CLOSING || (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP) && !came(c))))
                dropped(c);
#ifdef TLS
            else /* OpenSSL may hold more than the socket does */
                while (!c->waits && SSL_pending(c->stream.ssl))
                    if (!came(c)) {
                        dropped(c);
                        break;
                    }
#endif
        }
    }
}
