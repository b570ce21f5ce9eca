/* Turn: who is in a call of a blocking stream, and the short way of that call. The twin is in net/guard.py. */
#ifndef _WIN32
#include "native.h"
#include <errno.h>
#include <structmember.h>
#include <sys/socket.h>

typedef struct {
    PyObject_HEAD
    PyObject *wait; /* what waits before a read, for so long as it may; NULL or None: the read does */
    int fd;         /* -1: there is no short way now */
    int flags;
    char taken;
    char cut; /* a signal has ended a send after a part of it */
} Turn;

static PyObject *turn_take(Turn *self, PyObject *Py_UNUSED(unused)) {
    if (self->taken) Py_RETURN_FALSE;
    self->taken = 1;
    Py_RETURN_TRUE;
}

static PyObject *turn_give(Turn *self, PyObject *Py_UNUSED(unused)) {
    self->taken = 0;
    Py_RETURN_NONE;
}

static PyObject *turn_taken(Turn *self, PyObject *Py_UNUSED(unused)) { return PyBool_FromLong(self->taken); }

/* Whether there is something to read; -1 with an exception, also when time ran out. */
static int wait_readable(Turn *self) {
    if (self->wait == NULL || self->wait == Py_None) return 0;
    PyObject *wait = Py_NewRef(self->wait), *found = PyObject_CallNoArgs(wait);
    Py_DECREF(wait);
    int is = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    if (is == 0) PyErr_SetNone(PyExc_TimeoutError);
    return is > 0 ? 0 : -1;
}

/* In both the descriptor stays ours while the GIL is gone: who closes the stream finds that the turn is taken. */

static PyObject *turn_receive(Turn *self, PyObject *argument) {
    Py_ssize_t room = PyLong_AsSsize_t(argument);
    if (room == -1 && PyErr_Occurred()) return NULL;
    if (self->taken || self->fd < 0 || room < 1) Py_RETURN_NONE;
    PyObject *data = PyBytes_FromStringAndSize(NULL, room);
    if (data == NULL) return NULL;
    const int fd = self->fd, flags = self->flags;
    ssize_t size = -1;
    self->taken = 1;
    if (wait_readable(self) == 0) {
        do {
            Py_BEGIN_ALLOW_THREADS
            size = recv(fd, PyBytes_AS_STRING(data), (size_t)room, flags);
            Py_END_ALLOW_THREADS
        } while (size < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    }
    self->taken = 0;
    if (size < 0) {
        if (!PyErr_Occurred()) PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(data);
        return NULL;
    }
    if (size != room) _PyBytes_Resize(&data, size); /* NULL if that fails */
    return data;
}

static PyObject *turn_send(Turn *self, PyObject *data) {
    Py_buffer view;
    if (self->taken || self->fd < 0) Py_RETURN_NONE;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear(); /* the long way says what is wrong with it */
        Py_RETURN_NONE;
    }
    const int fd = self->fd, flags = self->flags;
    ssize_t sent;
    self->taken = 1;
    do {
        Py_BEGIN_ALLOW_THREADS
        sent = send(fd, view.buf, (size_t)view.len, flags);
        Py_END_ALLOW_THREADS
    } while (sent < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (sent < 0 && !PyErr_Occurred()) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            sent = 0;
        else
            PyErr_SetFromErrno(PyExc_OSError);
    }
    const Py_ssize_t left = view.len - (sent < 0 ? 0 : sent);
    PyBuffer_Release(&view);
    /* A part mostly means a signal, whose handler may raise: now, while we still know of the part. */
    if (sent > 0 && left && PyErr_CheckSignals() < 0) {
        self->cut = 1;
        sent = -1;
    }
    if (sent < 0 || left == 0) self->taken = 0;
    return sent < 0 ? NULL : PyLong_FromSsize_t(left);
}

static int set_sock(Turn *self, PyObject *sock, void *Py_UNUSED(closure)) {
    self->fd = -1;
    if (sock != NULL && sock != Py_None) self->fd = PyObject_AsFileDescriptor(sock);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *turn_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(keywords)) {
    Turn *self = (Turn *)type->tp_alloc(type, 0);
    if (self != NULL) self->fd = -1;
    return (PyObject *)self;
}

static void turn_dealloc(Turn *self) {
    Py_CLEAR(self->wait);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef turn_methods[] = {
    {"take", (PyCFunction)turn_take, METH_NOARGS, "Take it; whether nobody had it."},
    {"give", (PyCFunction)turn_give, METH_NOARGS, "Give it back."},
    {"taken", (PyCFunction)turn_taken, METH_NOARGS, "Whether somebody has it."},
    {"receive", (PyCFunction)turn_receive, METH_O, "A call of recv; None if the short way cannot be gone now."},
    {"send", (PyCFunction)turn_send, METH_O,
     "A call of send: how many octets are left, and the turn is kept then; None as above."},
    {NULL},
};

static PyMemberDef turn_members[] = {
    {"wait", T_OBJECT, offsetof(Turn, wait), 0, NULL},
    {"flags", T_INT, offsetof(Turn, flags), 0, NULL},
    {"cut", T_BOOL, offsetof(Turn, cut), READONLY, NULL},
    {NULL},
};

static PyGetSetDef turn_properties[] = {
    {"sock", NULL, (setter)set_sock, "The socket; None while the short way must not be gone.", NULL},
    {NULL},
};

PyTypeObject TurnType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Turn",
    .tp_doc = "Who may be in a call: the twin of websock.net.guard.Turn.",
    .tp_basicsize = sizeof(Turn),
    .tp_flags = Py_TPFLAGS_DEFAULT, /* `wait` refers to nothing that could refer to it */
    .tp_new = turn_new,
    .tp_dealloc = (destructor)turn_dealloc,
    .tp_methods = turn_methods,
    .tp_members = turn_members,
    .tp_getset = turn_properties,
};
#endif
