/* What the files of the native twin share. Python's own errors are reported as everywhere in its C API: NULL or -1
 * with an exception set. Everything here runs with the GIL held; nothing waits. */
#ifndef WEBSOCK_NATIVE_H
#define WEBSOCK_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, MAX_CONTROL = 125, MAX_HEADER = 14 };

/* mask.c */
int mask_copy(unsigned char *to, const unsigned char *from, size_t size, const unsigned char key[4], size_t turn);
int new_key(unsigned char key[4]);
PyObject *py_apply_mask(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *py_new_key(PyObject *module, PyObject *unused);
PyObject *py_forget_keys(PyObject *module, PyObject *unused);

/* utf8.c: the check of text that comes in pieces (RFC 3629). All zero is the beginning. */
typedef struct {
    unsigned char need, low, high; /* continuation octets to come, and between what the next one lies */
    unsigned char begun;           /* octets of the character that is incomplete */
    unsigned char wide;            /* not all was ASCII */
} Utf8;
const char *utf8_feed(Utf8 *state, const unsigned char *data, size_t size); /* what is wrong, or NULL */

/* codec.c */
typedef int (*Emit)(void *to, PyObject *message); /* takes the reference; -1 with an exception */

typedef struct {
    PyObject_HEAD
    PyObject *on_control, *pipeline, *failure;
    PyObject *assembly;  /* the Python twin's, for a message that extensions have changed; else NULL */
    PyObject *bytes;     /* the message so far: a bytes object with room at its end, or NULL */
    PyObject *rest;      /* octets that wait, since there was so much in what came; else NULL */
    size_t size;         /* octets in `bytes` */
    size_t received;     /* octets of the message's payload, before extensions */
    uint64_t remaining;  /* octets of the present data frame that have not come */
    int64_t max_size;    /* -1 for no limit */
    int64_t expanded;    /* octets that extensions made in this call */
    Utf8 utf8;
    unsigned char key[4], tail[MAX_HEADER + MAX_CONTROL];
    int tail_size;
    int opcode;          /* of the message in progress, 0 without one */
    int fragments;
    int max_fragments;
    Py_ssize_t budget;   /* frames that this call may still take in */
    char masked, fin, streaming, stopped, behind;
    char called;         /* on_control was called, so that the protocol may have changed */
    char rsv, always;    /* of the pipeline */
} Decoder;

extern PyTypeObject DecoderType;
int decoder_feed(Decoder *self, const unsigned char *data, size_t size, Emit emit, void *to);
unsigned char *decoder_room(Decoder *self, size_t least, size_t *size); /* where the rest of a large frame belongs */
int decoder_expects(Decoder *self, PyObject *bytes, const unsigned char *at, size_t size); /* it is still that room */
int decoder_fill(Decoder *self, size_t size, Emit emit, void *to);
size_t frame_header(unsigned char *to, int first, size_t size, int masked);
PyObject *py_encode(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names);

/* Objects of the Python half, given to bind(). */
typedef struct {
    PyObject *judge, *invalid_text, *too_big, *too_many, *Assembly, *Fragment, *ProtocolError, *InvalidUTF8;
    PyObject *extension_failed;
    PyObject *octets_of, *urandom;
} CodecNames;
extern CodecNames codec_names;
extern Py_ssize_t max_fragments, at_once, small_step, frames_at_once; /* max_fragments: the default */

/* queue.c */
typedef struct {
    PyObject_HEAD
    PyObject **ring;
    Py_ssize_t head, count, capacity, limit; /* limit: messages, -1 for none */
    Py_ssize_t octets, backlog;
    char streaming, special; /* special: what comes in needs the Python half */
} Queue;
extern PyTypeObject QueueType;
int queue_push(Queue *self, PyObject *item); /* takes the reference */
PyObject *queue_pop(Queue *self);
int queue_full(Queue *self);

typedef struct {
    PyObject_HEAD
    PyObject *loop, *callback, *context, *cancelled;
    char blocking;
    char scheduled; /* a task was told, and has not run yet */
    char yielded;   /* it is being awaited, and the task has it */
} Waiter;
extern PyTypeObject WaiterType;
PyObject *py_bind_waiter(PyObject *module, PyObject *names);
int waiter_wake(Waiter *self);
int waiter_resume(Waiter *self); /* at once: for callbacks of the loop, inside of which no task runs */
int waiter_traverse(Waiter *self, visitproc visit, void *arg);
int waiter_clear(Waiter *self);
extern PyTypeObject SentType;
extern PyObject *sent;
PyObject *coroutine_throw(PyObject *const *args, Py_ssize_t count);

#ifndef _WIN32
extern PyTypeObject SocketWaiterType, TurnType; /* socket.c, turn.c */
#endif

/* pump.c, shared.c, receive.c; see pump.h */
extern PyTypeObject PumpType, SharedType, ReceiveType;
PyObject *py_bind_pump(PyObject *module, PyObject *names);

#endif
