/* The load generator for permessage-deflate: as load.c, with messages from a file and zlib.
 *
 *   deflate_load PORT CONNECTIONS FILE SIZE SECONDS
 *
 * FILE has texts of SIZE octets, one behind the other; a connection sends one after the other, each when the echo of
 * the one before is here. The client has no context takeover, so its frames are made once; what comes back, with
 * whatever context the server has, is inflated and compared octet by octet. Prints "COUNT SECONDS CPU", as load.c. */
#include "wire.h"
#include <zlib.h>

enum { ROOM = 1 << 16 };

struct connection {
    int fd;
    size_t text, have;
    z_stream inflater;
    unsigned char data[ROOM];
};

struct frame {
    unsigned char *octets;
    size_t size;
};

static char *texts;
static size_t text_size, text_count;
static struct frame *frames;

static void load_texts(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die("the file of texts");
    fseek(file, 0, SEEK_END);
    text_count = ftell(file) / text_size;
    rewind(file);
    texts = malloc(text_count * text_size + 1);
    frames = calloc(text_count + 1, sizeof *frames);
    if (!texts || !frames || !text_count || fread(texts, text_size, text_count, file) != text_count)
        wrong("the file of texts");
    fclose(file);
}

/* RFC 7692 section 7.2.1, in a masked frame. */
static void make_frame(struct frame *frame, const char *text) {
    static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char *p = frame->octets = malloc(text_size + 1024);
    z_stream z = {0};
    if (!p || deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY) != Z_OK) wrong("zlib");
    z.next_in = (unsigned char *)text;
    z.avail_in = text_size;
    z.next_out = p + 8;
    z.avail_out = text_size + 1016;
    if (deflate(&z, Z_SYNC_FLUSH) != Z_OK || z.avail_in || !z.avail_out) wrong("zlib");
    size_t size = z.total_out - 4;
    deflateEnd(&z);
    if (size < 126 || size > 65535) wrong("texts of this size are not foreseen");
    p[0] = 0xc1;
    p[1] = 0x80 | 126;
    p[2] = size >> 8;
    p[3] = size;
    memcpy(p + 4, key, 4);
    for (size_t i = 0; i < size; i++) p[8 + i] ^= key[i & 3];
    frame->size = 8 + size;
}

static void opened(struct connection *c, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char buffer[4096];
    int n = snprintf(buffer, sizeof buffer,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
                     "client_max_window_bits\r\n\r\n", port);
    if (write(c->fd, buffer, n) != n) die("write of the handshake");
    size_t have = 0;
    while (have < sizeof buffer - 1) {
        if (read(c->fd, buffer + have, 1) <= 0) die("the server closed during the handshake");
        buffer[++have] = 0;
        if (have >= 4 && !memcmp(buffer + have - 4, "\r\n\r\n", 4)) break;
    }
    if (strncmp(buffer, "HTTP/1.1 101", 12) || !strstr(buffer, "permessage-deflate"))
        wrong("the handshake was refused, or without compression");
    if (inflateInit2(&c->inflater, -15) != Z_OK) wrong("zlib");
}

static void ask(struct connection *c) {
    const struct frame *frame = &frames[c->text];
    if (write(c->fd, frame->octets, frame->size) != (ssize_t)frame->size) die("write");
}

/* Whether the whole echo is here. */
static int answered(struct connection *c) {
    static unsigned char out[ROOM];
    ssize_t got = read(c->fd, c->data + c->have, sizeof c->data - c->have - 4);
    if (got <= 0) die("the server closed");
    c->have += got;
    if (c->have < 4) return 0;
    size_t start = 2, size = c->data[1];
    if (size == 126) {
        size = c->data[2] << 8 | c->data[3];
        start = 4;
    }
    if (c->have < start + size) return 0;
    if (c->data[0] != 0xc1 || c->have > start + size) wrong("not one compressed text");
    memcpy(c->data + c->have, "\0\0\xff\xff", 4);
    c->inflater.next_in = c->data + start;
    c->inflater.avail_in = size + 4;
    c->inflater.next_out = out;
    c->inflater.avail_out = sizeof out;
    if (inflate(&c->inflater, Z_SYNC_FLUSH) != Z_OK || c->inflater.avail_in) wrong("what came cannot be inflated");
    if (sizeof out - c->inflater.avail_out != text_size || memcmp(out, texts + c->text * text_size, text_size))
        wrong("a wrong echo");
    c->have = 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 6) wrong("usage: deflate_load PORT CONNECTIONS FILE SIZE SECONDS");
    int port = atoi(argv[1]), count = atoi(argv[2]);
    text_size = atol(argv[4]);
    double seconds = atof(argv[5]);
    load_texts(argv[3]);
    for (size_t i = 0; i < text_count; i++) make_frame(&frames[i], texts + i * text_size);
    struct connection *all = calloc(count, sizeof *all);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        opened(&all[i], port);
        all[i].text = i * 7 % text_count;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    unsigned long long done = 0;
    double used = cpu(), start = now(), end = start + seconds, t;
    for (int i = 0; i < count; i++) ask(&all[i]);
    while ((t = now()) < end || (!done && t < end + 10)) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!answered(c)) continue;
            done++;
            c->text = (c->text + 1) % text_count;
            ask(c);
        }
    }
    if (!done) wrong("no echo");
    printf("%llu %.6f %.6f\n", done, t - start, cpu() - used);
    return 0;
}
