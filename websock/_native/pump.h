/* A connection and what the connections of one event loop share: pump.c, receive.c, shared.c. */
#ifndef WEBSOCK_PUMP_H
#define WEBSOCK_PUMP_H

#include "native.h"

enum { TURN = 64 }; /* messages that a task, or a callback, gets before the loop has its turn */

typedef struct {
    PyObject_HEAD
    PyObject *loop; /* a weak reference */
    PyObject *view, *buffer, *last, *waiting, *weakrefs;
    PyObject *spent; /* a large message that a callback has seen; see spend() */
} Shared;

typedef struct {
    PyObject_HEAD
    PyObject *id, *logger, *request, *response, *protocol;
    PyObject *transport, *loop, *turn, *decoding, *timer, *drained, *closed, *pongs, *on_message, *lost_by;
    PyObject *side;
    Shared *shared;
    Queue *inbox;
    Waiter *waiter;
    Decoder *decoder;       /* the protocol's */
    unsigned char *out;     /* frames that wait for the end of a callback */
    unsigned char *direct;  /* where the present read goes, if not to the shared buffer */
    PyObject *lent;         /* keeps alive what `direct` points to */
    PyObject *collected;    /* what a read brought, when the inbox must look at it */
    size_t out_size, out_capacity, lent_size;
    /* Frames that came and went, and the messages in them, but for what the protocol itself has taken or given. */
    unsigned long long octets_in, octets_out, messages_in, messages_out;
    double heard_at; /* when the last octet came, as time.monotonic() counts */
    Py_ssize_t octets_step, messages_step, octets_left, messages_left; /* until the meter is asked; 0 without one */
    int fd, burst;
    char corked, reading_paused, writing_paused, parts, lost, dropping;
} Pump;

/* What pump.c calls by name in the Python half, in the protocol, in the transport. */
enum { PAUSE_READING, CATCH_UP, READ_ON_IF_LOW, COME_BACK, ASK_TURN, FLUSH_REST, SEND_SLOW, REFUSE_RECEIVER, FAILED,
       DECODED, SETTLE, WRITE, WRITELINES, QUEUE, AT_EOF, BROKEN, CRASHED, STOP_WATCHING, ADD, SENDING,
       PLAIN, BROADCAST_SLOW, MEASURE, NAMES };

extern PyObject *pump_converted, *pump_closed_ok; /* given to bind_pump */

int pump_call(void *self, int name);
PyObject *pump_not_ready(void); /* NULL, with an exception */
int pump_calls_back(Pump *self);
int pump_is_ending(Pump *self);
int pump_is_unsettled(Pump *self);
int pump_popped(Pump *self); /* after a message was taken from the inbox */
int pump_flush_out(Pump *self);
int shared_flush_pump(Shared *self, PyObject *pump); /* at the end of the loop's turn */
PyObject *new_receive(Pump *pump, int kind, PyObject *decode, int streaming);
enum { RECV, NEXT, ARRIVAL };

#endif
