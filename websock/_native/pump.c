/* The hot half of an asyncio connection: the twin of asyncio/pump.py, with the same methods.
 *
 * Here is what happens for every read and every message: the callbacks of the transport, `recv`, iteration, `send`, and
 * collecting what is sent. All else is in asyncio/connection.py, and is called by name. Fields of the Protocol are read
 * in their slots, whose offsets `bind` looks up. */
#include "pump.h"
#include <structmember.h>
#ifndef _WIN32
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#endif

enum { CORK = 65536, LARGE = 16384, DIRECT = 32768, SPENT_LEAST = 1 << 17, SPENT_MOST = 1 << 22 };

static PyObject *ProtocolClass, *SocketTransport, *OPEN, *ENDING, *CLOSED;
PyObject *pump_converted, *pump_closed_ok;
static struct {
    Py_ssize_t state, out, part_opcode, pipeline, wants_tick, wants_eof, wants_close, unsettled, heard, eof, masks, meter;
} at;
static struct { Py_ssize_t closing, pending, paused, unsent; } of; /* the transport's */
static const char *const name_texts[NAMES] = {
    "_pause_reading", "_catch_up", "_read_on_if_low", "_come_back", "_ask_turn", "_flush_rest", "_send_slow",
    "_refuse_receiver", "_callback_failed", "_decoded", "settle", "write", "writelines", "queue", "at_eof", "broken",
    "crashed", "stop_watching", "add", "_sending", "plain", "_broadcast_slow", "_measure"};
static PyObject *names[NAMES];

#define FIELD(pump, name) (*(PyObject **)((char *)(pump)->protocol + at.name))
#define ITS(transport, name) (*(PyObject **)((char *)(transport) + of.name))

int pump_call(void *self, int name) {
    PyObject *result = PyObject_CallMethodNoArgs(self, names[name]);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyObject *pump_not_ready(void) {
    PyErr_SetString(PyExc_AttributeError, "the connection is not initialized");
    return NULL;
}

int pump_calls_back(Pump *self) { return self->on_message != NULL && self->on_message != Py_None; }
static int is_open(Pump *self) { return self->decoder != NULL && FIELD(self, state) == OPEN; }
int pump_is_ending(Pump *self) {
    return self->decoder != NULL && (FIELD(self, state) == ENDING || FIELD(self, state) == CLOSED);
}

/* The exception that is set, if it is one that ends the connection and not the program. */
static PyObject *taken_exception(void) {
    PyObject *type, *error, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/* Writing. */

/* The clock of time.monotonic(), a few milliseconds late where that is cheaper; 0 where C has no such clock. */
static double monotonic(void) {
#ifdef _WIN32
    return 0;
#else
    struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#elif defined(CLOCK_UPTIME_RAW) /* macOS */
    clock_gettime(CLOCK_UPTIME_RAW, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

/* Whether the transport is one of ours on a plain socket, which may be written to past it. */
static int is_direct(Pump *self) {
    return self->fd >= 0 && (PyObject *)Py_TYPE(self->transport) == SocketTransport;
}

static int hand_over(Pump *self, int method, PyObject *what) {
    PyObject *done = PyObject_CallMethodOneArg(self->transport, names[method], what);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

#ifndef _WIN32
/* The transport is told what `errno` says. */
static int broken(Pump *self) {
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *error = taken_exception();
    int result = error == NULL ? -1 : hand_over(self, BROKEN, error);
    Py_XDECREF(error);
    return result;
}
#endif

/* What is left of a payload when `done` octets of it are gone; the octets of bytes need no copy. */
static PyObject *rest_of(PyObject *owner, const unsigned char *payload, size_t done, size_t size) {
    if (!PyBytes_CheckExact(owner)) return PyBytes_FromStringAndSize((const char *)payload + done, size - done);
    PyObject *whole = PyMemoryView_FromObject(owner);
    PyObject *rest = whole == NULL ? NULL : PySequence_GetSlice(whole, done, size);
    Py_XDECREF(whole);
    return rest;
}

/* Write what is collected, and behind it `more`, which belongs to `owner`. */
static int write_out(Pump *self, const unsigned char *more, size_t more_size, PyObject *owner) {
    size_t size = self->out_size, done = 0;
    unsigned char *out = self->out;
    int method = WRITE, result = 0;
    if (size + more_size == 0) return 0;
    if (self->transport == NULL) {
        pump_not_ready();
        return -1;
    }
    self->out = NULL; /* from here on other code may run, which may send too */
    self->out_size = self->out_capacity = 0;
    self->octets_out += size + more_size;
#ifndef _WIN32
    if (is_direct(self) && ITS(self->transport, closing) == Py_False && ITS(self->transport, pending) == Py_None) {
        struct iovec buffers[2] = {{out, size}, {(void *)more, more_size}};
        struct msghdr message = {.msg_iov = size ? buffers : buffers + 1, .msg_iovlen = size && more_size ? 2 : 1};
#ifdef MSG_NOSIGNAL
        ssize_t sent_now = sendmsg(self->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
#else
        ssize_t sent_now = sendmsg(self->fd, &message, MSG_DONTWAIT);
#endif
        if (sent_now > 0) {
            done = (size_t)sent_now;
            method = QUEUE; /* it is full now */
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            PyObject *unsent = PyLong_FromSize_t(size + more_size);
            if (unsent != NULL) Py_XSETREF(ITS(self->transport, unsent), unsent);
            result = unsent == NULL ? -1 : broken(self); /* the system tells a reset once */
            PyMem_Free(out);
            return result;
        }
    }
#endif
    PyObject *rest = NULL, *behind = NULL;
    if (done < size) {
        rest = PyBytes_FromStringAndSize((char *)out + done, size - done);
        if (rest == NULL) result = -1;
        done = size;
    }
    PyMem_Free(out);
    if (result == 0 && done < size + more_size && (behind = rest_of(owner, more, done - size, more_size)) == NULL)
        result = -1;
    if (result == 0 && rest != NULL && behind != NULL && method == WRITE) { /* together, for TLS */
        PyObject *both = PyTuple_Pack(2, rest, behind);
        result = both == NULL ? -1 : hand_over(self, WRITELINES, both);
        Py_XDECREF(both);
    } else {
        if (result == 0 && rest != NULL) result = hand_over(self, method, rest);
        if (result == 0 && behind != NULL) result = hand_over(self, method, behind);
    }
    Py_XDECREF(rest);
    Py_XDECREF(behind);
    return result;
}

int pump_flush_out(Pump *self) {
    if (self->lost) {
        self->out_size = 0;
        return self->decoder != NULL && PyList_GET_SIZE(FIELD(self, out)) ? pump_call(self, FLUSH_REST) : 0;
    }
    if (self->out_size && write_out(self, NULL, 0, NULL) < 0) return -1;
    if (self->decoder == NULL) return 0;
    if ((PyList_GET_SIZE(FIELD(self, out)) && (!self->writing_paused || pump_is_ending(self)))
        || FIELD(self, wants_tick) == Py_True || FIELD(self, wants_eof) == Py_True
        || FIELD(self, wants_close) == Py_True || (self->reading_paused && FIELD(self, state) != OPEN))
        return pump_call(self, FLUSH_REST);
    return 0;
}

static unsigned char *reserve_out(Pump *self, size_t more) {
    size_t need = self->out_size + more;
    if (need > self->out_capacity) {
        size_t capacity = self->out_capacity ? 2 * self->out_capacity : 1024;
        if (capacity < need) capacity = need;
        unsigned char *out = PyMem_Realloc(self->out, capacity);
        if (out == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        self->out = out;
        self->out_capacity = capacity;
    }
    return self->out + self->out_size;
}

/* Whether a whole message can go straight behind what is collected. */
static int in_short(Pump *self) {
    return self->decoder != NULL && !self->lost && !self->parts && !self->writing_paused && FIELD(self, state) == OPEN
           && FIELD(self, pipeline) == Py_None && PyList_GET_SIZE(FIELD(self, out)) == 0
           && !PyObject_IsTrue(FIELD(self, part_opcode));
}

static int flush_unless_corked(Pump *self) {
    return !self->corked || self->out_size > CORK ? pump_flush_out(self) : 0;
}

/* 1: queued, perhaps written; 0: not the short way; -1: exception. */
static int send_quickly(Pump *self, PyObject *message) {
    if (!in_short(self)) return 0;
    const unsigned char *payload;
    Py_ssize_t size;
    PyObject *encoded = NULL;
    int first;
    if (PyUnicode_CheckExact(message)) {
        first = 0x80 | TEXT;
        if (PyUnicode_IS_COMPACT_ASCII(message)) {
            payload = PyUnicode_1BYTE_DATA(message);
            size = PyUnicode_GET_LENGTH(message);
        } else {
            if ((encoded = PyUnicode_AsUTF8String(message)) == NULL) return -1;
            payload = (unsigned char *)PyBytes_AS_STRING(encoded);
            size = PyBytes_GET_SIZE(encoded);
        }
    } else if (PyBytes_CheckExact(message)) {
        first = 0x80 | BINARY;
        payload = (unsigned char *)PyBytes_AS_STRING(message);
        size = PyBytes_GET_SIZE(message);
    } else {
        return 0;
    }
    int masked = FIELD(self, masks) == Py_True, result = -1, apart = !masked && size >= LARGE;
    unsigned char *to = reserve_out(self, MAX_HEADER + (apart ? 0 : size));
    if (to != NULL) {
        size_t header = frame_header(to, first, size, masked);
        if (!masked) {
            if (!apart) memcpy(to + header, payload, size);
            result = 1;
        } else if (new_key(to + header) == 0) {
            header += 4;
            mask_copy(to + header, payload, size, to + header - 4, 0);
            result = 1;
        }
        if (result == 1) {
            self->messages_out++;
            self->out_size += header + (apart ? 0 : size);
            if (apart ? write_out(self, payload, size, message) < 0 : 0) result = -1;
            if (result == 1 && flush_unless_corked(self) < 0) result = -1;
        }
    }
    Py_XDECREF(encoded);
    return result;
}

static PyObject *pump_send(Pump *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    if (count == 1 && keywords == NULL) {
        int result = send_quickly(self, args[0]);
        if (result < 0) return NULL;
        if (result) {
            if (self->writing_paused) return PyObject_CallMethodNoArgs((PyObject *)self, names[SENDING]);
            return Py_NewRef(sent);
        }
    }
    PyObject *slow = PyObject_GetAttr((PyObject *)self, names[SEND_SLOW]);
    if (slow == NULL) return NULL;
    PyObject *result = PyObject_Vectorcall(slow, args, count, keywords);
    Py_DECREF(slow);
    return result;
}

/* What `Broadcast.plain` is: one buffer, or the header and a large payload; else 0. */
static int broadcast_quickly(Pump *self, PyObject *frame) {
    Py_ssize_t buffers = PyTuple_CheckExact(frame) ? PyTuple_GET_SIZE(frame) : 0;
    if (buffers < 1 || buffers > 2 || !in_short(self) || FIELD(self, masks) == Py_True) return 0;
    PyObject *head = PyTuple_GET_ITEM(frame, 0), *payload = PyTuple_GET_ITEM(frame, buffers - 1);
    if (!PyBytes_CheckExact(head) || !PyBytes_CheckExact(payload)) return 0;
    unsigned char *to = reserve_out(self, PyBytes_GET_SIZE(head));
    if (to == NULL) return -1;
    memcpy(to, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head));
    self->messages_out++;
    self->out_size += PyBytes_GET_SIZE(head);
    if (buffers == 2
        && write_out(self, (unsigned char *)PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), payload) < 0)
        return -1;
    return flush_unless_corked(self) < 0 ? -1 : 1;
}

static PyObject *pump_broadcast(Pump *self, PyObject *encoded) {
    PyObject *frame = PyObject_GetAttr(encoded, names[PLAIN]);
    if (frame == NULL) return NULL;
    int result = broadcast_quickly(self, frame);
    Py_DECREF(frame);
    if (result == 0) return PyObject_CallMethodOneArg((PyObject *)self, names[BROADCAST_SLOW], encoded);
    if (result < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *pump_flush(Pump *self, PyObject *Py_UNUSED(unused)) {
    if (pump_flush_out(self) < 0) return NULL;
    Py_RETURN_NONE;
}

/* Receiving. */

int pump_is_unsettled(Pump *self) { return self->decoder == NULL || FIELD(self, unsettled) != Py_None; }

int pump_popped(Pump *self) {
    self->burst++;
    return self->reading_paused ? pump_call(self, READ_ON_IF_LOW) : 0;
}

static int settle_if_idle(Pump *self) {
    if (FIELD(self, unsettled) == Py_None || self->inbox->count) return 0;
    return pump_call(self->protocol, SETTLE);
}

/* A callback has seen `message`. A large one is kept until something small comes: if its memory went back to the system
 * at once, the next one would have to be given every page of its own anew, which takes longer than all else. */
static void spend(Pump *self, PyObject *message) {
    Py_ssize_t size = 0;
    if (PyUnicode_CheckExact(message)) size = PyUnicode_GET_LENGTH(message);
    if (PyBytes_CheckExact(message)) size = PyBytes_GET_SIZE(message);
    if (size >= SPENT_LEAST && size <= SPENT_MOST)
        Py_XSETREF(self->shared->spent, message);
    else
        Py_DECREF(message);
}

/* Each message to the callback, for as long as the peer takes what that sends. */
static int call_back(Pump *self) {
    self->burst = 0;
    while (self->inbox->count && !self->writing_paused && !self->inbox->streaming) {
        if (self->burst >= TURN) return pump_call(self, ASK_TURN);
        PyObject *message = queue_pop(self->inbox);
        if (message == NULL) return -1;
        PyObject *arguments[] = {(PyObject *)self, message};
        PyObject *result = PyObject_Vectorcall(self->on_message, arguments, 2, NULL);
        spend(self, message);
        if (result == NULL) {
            PyObject *error = taken_exception();
            if (error == NULL) return -1;
            result = PyObject_CallMethodOneArg((PyObject *)self, names[FAILED], error);
            Py_DECREF(error);
            if (result == NULL) return -1;
        }
        Py_DECREF(result);
        if (pump_popped(self) < 0) return -1;
    }
    return settle_if_idle(self);
}

static int resume(Pump *self) {
    int result;
    Py_CLEAR(self->turn);
    self->corked = 1;
    result = pump_calls_back(self) ? call_back(self) : waiter_wake(self->waiter);
    self->corked = 0;
    return result;
}

static PyObject *pump_resume(Pump *self, PyObject *Py_UNUSED(unused)) {
    if (self->inbox == NULL) return pump_not_ready();
    if (resume(self) < 0) return NULL;
    Py_RETURN_NONE;
}

/* There are messages in the inbox: let those who wait for them run. */
static int deliver(Pump *self) {
    if ((self->waiter->callback != NULL || pump_calls_back(self)) && resume(self) < 0) return -1;
    return queue_full(self->inbox) && is_open(self) ? pump_call(self, PAUSE_READING) : 0;
}

static int emit(void *to, PyObject *message) {
    Pump *self = to;
    if (self->dropping) {
        Py_DECREF(message);
        return 0;
    }
    if (self->collected == NULL) return queue_push(self->inbox, message);
    int result = PyList_Append(self->collected, message);
    Py_DECREF(message);
    return result;
}

/* There is a limit on what comes, and so much has come that it is time to look. */
static int measure(Pump *self) {
    PyObject *numbers[] = {(PyObject *)self, PyLong_FromSsize_t(self->octets_step - self->octets_left),
                           PyLong_FromSsize_t(self->messages_step - self->messages_left)};
    self->octets_left = self->octets_step;
    self->messages_left = self->messages_step;
    PyObject *result = NULL;
    if (numbers[1] != NULL && numbers[2] != NULL)
        result = PyObject_VectorcallMethod(names[MEASURE], numbers, 3, NULL);
    Py_XDECREF(numbers[1]);
    Py_XDECREF(numbers[2]);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* How many messages are complete in what was collected: the last `Fragment` of one, or itself. -1: exception. */
static Py_ssize_t complete_in(PyObject *collected) {
    Py_ssize_t found = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(collected); i++) {
        PyObject *item = PyList_GET_ITEM(collected, i);
        if (PyUnicode_CheckExact(item) || PyBytes_CheckExact(item)) {
            found++;
            continue;
        }
        PyObject *last = PyObject_GetAttrString(item, "last");
        int is_last = last == NULL ? -1 : PyObject_IsTrue(last);
        Py_XDECREF(last);
        if (is_last < 0) return -1;
        found += is_last;
    }
    return found;
}

static int received(Pump *self, Py_ssize_t size) {
    Queue *inbox = self->inbox;
    Decoder *decoder = self->decoder;
    unsigned char *direct = self->direct;
    PyObject *lent = self->lent;
    Py_ssize_t before = inbox->count;
    self->direct = NULL;
    self->lent = NULL;
    self->dropping = !is_open(self) && inbox->count && inbox->octets > inbox->backlog;
    if ((inbox->special || inbox->streaming) && (self->collected = PyList_New(0)) == NULL) {
        Py_XDECREF(lent);
        return -1;
    }
    Py_SETREF(FIELD(self, heard), Py_NewRef(Py_True));
    self->heard_at = monotonic();
    self->octets_in += size;
    int result;
    if (direct != NULL && decoder_expects(decoder, lent, direct, size)) {
        Py_CLEAR(lent);
        result = decoder_fill(decoder, size, emit, self);
    } else if (direct != NULL) { /* something came between: the message ended, or its room is elsewhere */
        result = decoder_feed(decoder, direct, size, emit, self);
    } else
        result = decoder_feed(decoder, (unsigned char *)PyByteArray_AS_STRING(self->shared->buffer), size, emit, self);
    Py_XDECREF(lent);
    PyObject *collected = self->collected;
    self->collected = NULL;
    Py_ssize_t complete = collected == NULL ? inbox->count - before : complete_in(collected);
    if (complete < 0)
        result = -1;
    else
        self->messages_in += complete;
    if (result == 0
        && (decoder->called || decoder->failure != NULL || decoder->behind || FIELD(self, eof) == Py_True))
        result = pump_call(self->protocol, DECODED);
    if (result == 0 && self->octets_step) {
        self->octets_left -= size;
        self->messages_left -= collected != NULL ? PyList_GET_SIZE(collected) : inbox->count - before;
        if (self->octets_left <= 0 || self->messages_left <= 0) result = measure(self);
    }
    if (result == 0 && collected != NULL && PyList_GET_SIZE(collected)) {
        PyObject *octets = PyLong_FromSsize_t(size + (Py_ssize_t)decoder->expanded);
        PyObject *added = NULL;
        if (octets != NULL) added = PyObject_CallMethodObjArgs((PyObject *)inbox, names[ADD], collected, octets, NULL);
        Py_XDECREF(octets);
        Py_XDECREF(added);
        result = added == NULL ? -1 : 0;
        before = -1;
    } else if (inbox->count) {
        inbox->octets += size + (Py_ssize_t)decoder->expanded;
    }
    Py_XDECREF(collected);
    if (result < 0) return -1;
    return inbox->count > before ? deliver(self) : settle_if_idle(self);
}

/* Where the next read goes: the rest of a large frame to its place, all else to the shared buffer. */
static int choose_buffer(Pump *self) {
    Py_CLEAR(self->lent);
    self->direct = NULL;
    if (self->decoder != NULL && (self->direct = decoder_room(self->decoder, DIRECT, &self->lent_size)) != NULL)
        self->lent = Py_NewRef(self->decoder->bytes);
    return PyErr_Occurred() ? -1 : 0;
}

static size_t room(Pump *self) {
    return self->direct != NULL ? self->lent_size : (size_t)PyByteArray_GET_SIZE(self->shared->buffer);
}

static PyObject *pump_get_buffer(Pump *self, PyObject *Py_UNUSED(hint)) {
    if (self->shared == NULL) return pump_not_ready();
    if (choose_buffer(self) < 0) return NULL;
    if (self->direct != NULL) return PyMemoryView_FromMemory((char *)self->direct, self->lent_size, PyBUF_WRITE);
    return Py_NewRef(self->shared->view);
}

/* A read brought `size` octets. */
static int updated(Pump *self, Py_ssize_t size) {
    if (self->shared->spent != NULL && size < LARGE && self->decoder->bytes == NULL) Py_CLEAR(self->shared->spent);
    if (received(self, size) < 0) return -1;
    if (self->decoder->behind && pump_call(self, CATCH_UP) < 0) return -1;
    if (self->shared->last == (PyObject *)self) {
        if (pump_flush_out(self) < 0) return -1;
    } else {
        Py_XSETREF(self->shared->last, Py_NewRef(self));
        if (shared_flush_pump(self->shared, (PyObject *)self) < 0) return -1;
    }
    if (pump_is_ending(self) && waiter_wake(self->waiter) < 0) return -1;
    return 0;
}

static PyObject *pump_buffer_updated(Pump *self, PyObject *argument) {
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    if (size == -1 && PyErr_Occurred()) return NULL;
    if (self->decoder == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the connection is not open");
        return NULL;
    }
    if (size < 0 || (size_t)size > room(self)) {
        PyErr_SetString(PyExc_ValueError, "more than the buffer has");
        return NULL;
    }
    if (updated(self, size) < 0) return NULL;
    Py_RETURN_NONE;
}

#ifndef _WIN32
/* The transport is told how a read ended, when it brought nothing. */
static int tell_transport(Pump *self, int method, PyObject *what) {
    PyObject *told = what == NULL ? PyObject_CallMethodNoArgs(self->transport, names[method])
                                  : PyObject_CallMethodOneArg(self->transport, names[method], what);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

/* The socket can be read: what the transport would do for another protocol. */
static PyObject *pump_socket_readable(Pump *self, PyObject *Py_UNUSED(unused)) {
    if (self->decoder == NULL || self->shared == NULL || !is_direct(self)) return pump_not_ready();
    int method = -1;
    ssize_t size = -1;
    if (ITS(self->transport, paused) == Py_True) {
        method = STOP_WATCHING;
    } else if (choose_buffer(self) == 0) {
        char *shared = PyByteArray_AS_STRING(self->shared->buffer);
        size = recv(self->fd, self->direct != NULL ? (char *)self->direct : shared, room(self), MSG_DONTWAIT);
        if (size > 0) {
            if (updated(self, size) == 0) Py_RETURN_NONE;
        } else if (size == 0) {
            method = AT_EOF;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
            Py_RETURN_NONE;
        } else {
            PyErr_SetFromErrno(PyExc_OSError);
            method = BROKEN;
        }
    }
    PyObject *error = NULL;
    int result = 0;
    if (method == STOP_WATCHING || method == AT_EOF) result = tell_transport(self, method, NULL);
    if (PyErr_Occurred()) {
        if ((error = taken_exception()) == NULL) return NULL;
        result = tell_transport(self, method == BROKEN ? BROKEN : CRASHED, error);
        Py_DECREF(error);
    }
    if (result < 0) return NULL;
    Py_RETURN_NONE;
}
#endif

static PyObject *pump_received(Pump *self, PyObject *args) {
    PyObject *messages, *octets;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &messages, &size)) return NULL;
    if (self->decoder == NULL) Py_RETURN_NONE;
    if (is_open(self) || !(self->inbox->count && self->inbox->octets > self->inbox->backlog)) {
        if ((octets = PyLong_FromSsize_t(size + (Py_ssize_t)self->decoder->expanded)) == NULL) return NULL;
        PyObject *added = PyObject_CallMethodObjArgs((PyObject *)self->inbox, names[ADD], messages, octets, NULL);
        Py_DECREF(octets);
        if (added == NULL) return NULL;
        Py_DECREF(added);
    }
    if (deliver(self) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *pump_pop(Pump *self, PyObject *Py_UNUSED(unused)) {
    if (self->inbox == NULL) return pump_not_ready();
    PyObject *item = queue_pop(self->inbox);
    if (item != NULL && pump_popped(self) < 0) Py_CLEAR(item);
    return item;
}

static PyObject *pump_recv(Pump *self, PyObject *args, PyObject *keywords) {
    static char *words[] = {"decode", NULL};
    PyObject *decode = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:recv", words, &decode)) return NULL;
    return new_receive(self, RECV, decode, 0);
}

static PyObject *pump_anext(Pump *self) {
    return new_receive(self, NEXT, NULL, 0);
}

static PyObject *pump_arrival(Pump *self, PyObject *streaming) {
    return new_receive(self, ARRIVAL, NULL, streaming == Py_True);
}

/* The type. */

static PyObject *pump_get_protocol(Pump *self, void *Py_UNUSED(closure)) {
    return self->protocol == NULL ? pump_not_ready() : Py_NewRef(self->protocol);
}

/* How much comes until the protocol's meter, if it has one, is asked. */
static int set_steps(Pump *self, PyObject *protocol) {
    PyObject *meter = *(PyObject **)((char *)protocol + at.meter);
    self->octets_step = self->messages_step = 0;
    if (meter == NULL || meter == Py_None) return 0;
    PyObject *octets = PyObject_GetAttrString(meter, "step_octets");
    PyObject *messages = PyObject_GetAttrString(meter, "step_messages");
    if (octets != NULL && messages != NULL) {
        self->octets_left = self->octets_step = PyLong_AsSsize_t(octets);
        self->messages_left = self->messages_step = PyLong_AsSsize_t(messages);
    }
    Py_XDECREF(octets);
    Py_XDECREF(messages);
    return PyErr_Occurred() ? -1 : 0;
}

/* A Protocol, or one of a class that says that it counts and changes nothing: then its fields are read in their slots. */
static int is_protocol(PyObject *protocol) {
    return (PyObject *)Py_TYPE(protocol) == ProtocolClass
        || (ProtocolClass != NULL && PyObject_TypeCheck(protocol, (PyTypeObject *)ProtocolClass)
            && PyObject_HasAttrString((PyObject *)Py_TYPE(protocol), "counts_only"));
}

static int pump_set_protocol(Pump *self, PyObject *protocol, void *Py_UNUSED(closure)) {
    Decoder *decoder = NULL;
    if (protocol == NULL) {
        PyErr_SetString(PyExc_TypeError, "a connection has a protocol");
        return -1;
    }
    if (is_protocol(protocol)) {
        decoder = (Decoder *)PyObject_GetAttrString(protocol, "_decoder");
        if (decoder == NULL || !Py_IS_TYPE(decoder, &DecoderType)) {
            Py_XDECREF(decoder);
            PyErr_SetString(PyExc_TypeError, "the protocol has another decoder");
            return -1;
        }
        if (set_steps(self, protocol) < 0) {
            Py_DECREF(decoder);
            return -1;
        }
    }
    Py_XSETREF(self->decoder, decoder);
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    return 0;
}

static PyObject *pump_get_inbox(Pump *self, void *Py_UNUSED(closure)) {
    return self->inbox == NULL ? pump_not_ready() : Py_NewRef((PyObject *)self->inbox);
}

static int pump_set_inbox(Pump *self, PyObject *inbox, void *Py_UNUSED(closure)) {
    if (inbox == NULL || !PyObject_TypeCheck(inbox, &QueueType)) {
        PyErr_SetString(PyExc_TypeError, "the inbox must be a Queue");
        return -1;
    }
    Py_XSETREF(self->inbox, (Queue *)Py_NewRef(inbox));
    return 0;
}

static int pump_init(Pump *self, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *loop, *logger, *shared, *inbox, *protocol;
    if (!PyArg_ParseTuple(args, "OOO!O!O:Pump", &loop, &logger, &SharedType, &shared, &QueueType, &inbox, &protocol))
        return -1;
    self->fd = -1;
    Py_XSETREF(self->loop, Py_NewRef(loop));
    Py_XSETREF(self->logger, Py_NewRef(logger));
    Py_XSETREF(self->shared, (Shared *)Py_NewRef(shared));
    Py_XSETREF(self->waiter, (Waiter *)PyObject_CallOneArg((PyObject *)&WaiterType, loop));
    if (self->waiter == NULL) return -1;
    return pump_set_inbox(self, inbox, NULL) < 0 || pump_set_protocol(self, protocol, NULL) < 0 ? -1 : 0;
}

static int pump_traverse(Pump *self, visitproc visit, void *arg) {
    Py_VISIT(self->id);
    Py_VISIT(self->logger);
    Py_VISIT(self->request);
    Py_VISIT(self->response);
    Py_VISIT(self->protocol);
    Py_VISIT(self->transport);
    Py_VISIT(self->loop);
    Py_VISIT(self->turn);
    Py_VISIT(self->decoding);
    Py_VISIT(self->timer);
    Py_VISIT(self->drained);
    Py_VISIT(self->closed);
    Py_VISIT(self->pongs);
    Py_VISIT(self->on_message);
    Py_VISIT(self->lost_by);
    Py_VISIT(self->side);
    Py_VISIT(self->shared);
    Py_VISIT(self->inbox);
    Py_VISIT(self->waiter);
    Py_VISIT(self->decoder);
    Py_VISIT(self->collected);
    return 0;
}

static int pump_clear(Pump *self) {
    Py_CLEAR(self->id);
    Py_CLEAR(self->logger);
    Py_CLEAR(self->request);
    Py_CLEAR(self->response);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->turn);
    Py_CLEAR(self->decoding);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->drained);
    Py_CLEAR(self->closed);
    Py_CLEAR(self->pongs);
    Py_CLEAR(self->on_message);
    Py_CLEAR(self->lost_by);
    Py_CLEAR(self->side);
    Py_CLEAR(self->collected);
    Py_CLEAR(self->lent);
    self->direct = NULL;
    return 0;
}

static void pump_dealloc(Pump *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    pump_clear(self);
    /* Others' code may look at these as long as the object lives. */
    Py_CLEAR(self->decoder);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->shared);
    Py_CLEAR(self->inbox);
    Py_CLEAR(self->waiter);
    PyMem_Free(self->out);
    type->tp_free((PyObject *)self);

}

static PyMethodDef pump_methods[] = {
    {"get_buffer", (PyCFunction)pump_get_buffer, METH_O, NULL},
    {"buffer_updated", (PyCFunction)pump_buffer_updated, METH_O, NULL},
    {"recv", (PyCFunction)(void (*)(void))pump_recv, METH_VARARGS | METH_KEYWORDS,
     "recv($self, /, decode=None)\n--\n\n"
     "The next message: str for text, bytes for binary (RFC 6455 section 5.6).\n\n"
     "Cancelling it loses nothing. With decode True or False it is str or bytes whatever it was.\n\n"
     "Raises:\n"
     "    ConnectionClosed: the connection is closed, and every message before that was returned.\n"
     "    ConcurrencyError: another task waits in recv or recv_streaming, or messages go to on_message.\n"
     "    UnicodeDecodeError: decode is True for bytes that are not UTF-8; the message is lost."},
    {"send", (PyCFunction)(void (*)(void))pump_send, METH_FASTCALL | METH_KEYWORDS,
     "send($self, message, /, *, text=None, compress=None)\n--\n\n"
     "Send a message: str as text, bytes as binary, an (asynchronous) iterable of one of them in fragments.\n\n"
     "The message is queued by the pump_call itself; awaiting the result waits until the connection takes more\n"
     "(write_limit) and tells whether the connection was open. With text, bytes are sent as text or str as binary;\n"
     "compress overrules the settings of compression (RFC 7692) for this message.\n\n"
     "Raises:\n"
     "    ConnectionClosed: when awaited: the connection is closed or closing.\n"
     "    TypeError: not something that can be sent.\n"
     "    ValueError: text is true and the bytes are not UTF-8."},
#ifndef _WIN32
    {"socket_readable", (PyCFunction)pump_socket_readable, METH_NOARGS, NULL},
#endif
    {"_broadcast", (PyCFunction)pump_broadcast, METH_O, NULL},
    {"_flush", (PyCFunction)pump_flush, METH_NOARGS, NULL},
    {"_resume", (PyCFunction)pump_resume, METH_NOARGS, NULL},
    {"_received", (PyCFunction)pump_received, METH_VARARGS, NULL},
    {"_arrival", (PyCFunction)pump_arrival, METH_O, NULL},
    {"_pop", (PyCFunction)pump_pop, METH_NOARGS, NULL},
    {NULL},
};

#define OBJECT(name, field) {name, T_OBJECT, offsetof(Pump, field), 0, NULL}
#define FLAG(name, field) {name, T_BOOL, offsetof(Pump, field), 0, NULL}

static PyMemberDef pump_members[] = {
    OBJECT("_id", id), OBJECT("logger", logger), OBJECT("request", request), OBJECT("response", response),
    OBJECT("transport", transport), OBJECT("_loop", loop), OBJECT("_turn", turn), OBJECT("_decoding", decoding),
    OBJECT("_timer", timer), OBJECT("_drained", drained), OBJECT("_closed", closed), OBJECT("_pongs", pongs),
    OBJECT("_on_message", on_message), OBJECT("_lost_by", lost_by),
    OBJECT("_side", side), {"_heard_at", T_DOUBLE, offsetof(Pump, heard_at), 0, NULL},
    {"_waiter", T_OBJECT, offsetof(Pump, waiter), READONLY, NULL},
    {"_shared", T_OBJECT, offsetof(Pump, shared), READONLY, NULL},
    {"_octets_in", T_ULONGLONG, offsetof(Pump, octets_in), READONLY, NULL},
    {"_octets_out", T_ULONGLONG, offsetof(Pump, octets_out), READONLY, NULL},
    {"_messages_in", T_ULONGLONG, offsetof(Pump, messages_in), READONLY, NULL},
    {"_messages_out", T_ULONGLONG, offsetof(Pump, messages_out), READONLY, NULL},
    {"_fd", T_INT, offsetof(Pump, fd), 0, NULL},
    {"_burst", T_INT, offsetof(Pump, burst), READONLY, NULL},
    FLAG("_corked", corked), FLAG("_reading_paused", reading_paused), FLAG("_writing_paused", writing_paused),
    FLAG("_parts", parts), FLAG("_lost", lost),
    {NULL},
};

static PyGetSetDef pump_properties[] = {
    {"_protocol", (getter)pump_get_protocol, (setter)pump_set_protocol, NULL, NULL},
    {"_inbox", (getter)pump_get_inbox, (setter)pump_set_inbox, NULL, NULL},
    {NULL},
};

static PyAsyncMethods pump_async = {.am_aiter = PyObject_SelfIter, .am_anext = (unaryfunc)pump_anext};

PyTypeObject PumpType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Pump",
    .tp_doc = "The hot half of an asyncio connection: the twin of websock.asyncio.pump.Pump.",
    .tp_basicsize = sizeof(Pump),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)pump_init,
    .tp_dealloc = (destructor)pump_dealloc,
    .tp_traverse = (traverseproc)pump_traverse,
    .tp_clear = (inquiry)pump_clear,
    .tp_methods = pump_methods,
    .tp_members = pump_members,
    .tp_getset = pump_properties,
    .tp_as_async = &pump_async,
};

/* Where the slots of the Protocol and of the transport are. */

static int slot(PyObject *owner, const char *name, Py_ssize_t *offset) {
    PyObject *descriptor = PyObject_GetAttrString(owner, name);
    if (descriptor == NULL) return -1;
    int good = Py_IS_TYPE(descriptor, &PyMemberDescr_Type);
    if (good)
        *offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    else
        PyErr_Format(PyExc_TypeError, "%R has no slot %s", owner, name);
    Py_DECREF(descriptor);
    return good ? 0 : -1;
}

PyObject *py_bind_pump(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *protocol, *transport, *open, *ending, *closed, *convert, *ok;
    if (!PyArg_ParseTuple(args, "OOOOOOO", &protocol, &transport, &open, &ending, &closed, &convert, &ok)) return NULL;
    ProtocolClass = Py_NewRef(protocol);
    SocketTransport = Py_NewRef(transport);
    OPEN = Py_NewRef(open);
    ENDING = Py_NewRef(ending);
    CLOSED = Py_NewRef(closed);
    pump_converted = Py_NewRef(convert);
    pump_closed_ok = Py_NewRef(ok);
    for (int i = 0; i < NAMES; i++)
        if ((names[i] = PyUnicode_InternFromString(name_texts[i])) == NULL) return NULL;
    if (slot(protocol, "state", &at.state) < 0 || slot(protocol, "_out", &at.out) < 0
        || slot(protocol, "_part_opcode", &at.part_opcode) < 0
        || slot(protocol, "pipeline", &at.pipeline) < 0 || slot(protocol, "wants_tick", &at.wants_tick) < 0
        || slot(protocol, "wants_eof", &at.wants_eof) < 0 || slot(protocol, "wants_close", &at.wants_close) < 0
        || slot(protocol, "unsettled", &at.unsettled) < 0 || slot(protocol, "_heard", &at.heard) < 0
        || slot(protocol, "_eof", &at.eof) < 0
        || slot(protocol, "masks", &at.masks) < 0 || slot(protocol, "meter", &at.meter) < 0
        || slot(transport, "_closing", &of.closing) < 0 || slot(transport, "_pending", &of.pending) < 0
        || slot(transport, "_paused", &of.paused) < 0 || slot(transport, "unsent", &of.unsent) < 0)
        return NULL;
    Py_RETURN_NONE;
}
