/* SocketWaiter: a Waiter that does the system calls of a plain socket itself. The twin is in net/asyncio/waiter.py.
 *
 * The socket does not block. A short call keeps the GIL: letting it go and getting it back costs more than what another
 * thread could do meanwhile. */
#ifndef _WIN32
#include "native.h"
#include <errno.h>
#include <structmember.h>
#include <sys/socket.h>

enum { SHORT = 65536, MUCH = 8192 };

typedef struct {
    Waiter waiter;
    PyObject *idle;  /* called by `readable` when no task waits; NULL for nothing */
    Py_ssize_t asked; /* what the next await is to receive; 0 for nothing */
    Py_ssize_t size;  /* and the present one */
    int fd;          /* -1 when nothing may be read any more */
    char much;       /* the last read was so large that copying it would cost more than room for the next one */
} SocketWaiter;

static int would_block(void) { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

static PyObject *receive_now(SocketWaiter *self, Py_ssize_t room) {
    static char buffer[SHORT]; /* guarded by the GIL */
    PyObject *data = NULL;
    ssize_t size;
    if (self->fd < 0) Py_RETURN_NONE;
    if (room <= SHORT && !self->much) {
        size = recv(self->fd, buffer, (size_t)room, 0);
    } else {
        if ((data = PyBytes_FromStringAndSize(NULL, room)) == NULL) return NULL;
        Py_BEGIN_ALLOW_THREADS
        size = recv(self->fd, PyBytes_AS_STRING(data), (size_t)room, 0);
        Py_END_ALLOW_THREADS
    }
    if (size < 0) {
        Py_XDECREF(data);
        if (would_block()) Py_RETURN_NONE;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->much = size > MUCH;
    if (data == NULL) return PyBytes_FromStringAndSize(buffer, size);
    if (size != room) _PyBytes_Resize(&data, size); /* NULL if that fails */
    return data;
}

static PyObject *waiter_receive(SocketWaiter *self, PyObject *size) {
    self->asked = PyLong_AsSsize_t(size);
    if (self->asked == -1 && PyErr_Occurred()) return NULL;
    return Py_NewRef((PyObject *)self);
}

static PyObject *waiter_await(SocketWaiter *self) {
    self->waiter.yielded = 0;
    self->size = self->asked;
    self->asked = 0; /* so that a cancelled one leaves nothing behind */
    return Py_NewRef((PyObject *)self);
}

static PySendResult waiter_send(SocketWaiter *self, PyObject *Py_UNUSED(value), PyObject **result) {
    if (!self->waiter.yielded) {
        self->waiter.yielded = self->waiter.blocking = 1;
        *result = Py_NewRef((PyObject *)self);
        return PYGEN_NEXT;
    }
    *result = self->size > 0 ? receive_now(self, self->size) : Py_NewRef(Py_None);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PyObject *waiter_next(SocketWaiter *self) {
    PyObject *result;
    PySendResult how = waiter_send(self, Py_None, &result);
    if (how == PYGEN_RETURN) {
        if (result != Py_None) PyErr_SetObject(PyExc_StopIteration, result); /* bytes need no wrapping */
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *waiter_send_now(SocketWaiter *self, PyObject *data) {
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "only bytes are sent like this");
        return NULL;
    }
    const Py_ssize_t size = PyBytes_GET_SIZE(data);
    ssize_t gone = 0;
    if (self->fd < 0) return PyLong_FromSsize_t(size);
    if (size <= SHORT) {
        gone = send(self->fd, PyBytes_AS_STRING(data), (size_t)size, 0);
    } else {
        Py_BEGIN_ALLOW_THREADS
        gone = send(self->fd, PyBytes_AS_STRING(data), (size_t)size, 0);
        Py_END_ALLOW_THREADS
    }
    if (gone < 0) {
        if (!would_block()) return PyErr_SetFromErrno(PyExc_OSError);
        gone = 0;
    }
    return PyLong_FromSsize_t(size - gone);
}

static PyObject *waiter_readable(SocketWaiter *self, PyObject *Py_UNUSED(unused)) {
    if (self->waiter.callback == NULL && self->idle != NULL && self->idle != Py_None) {
        PyObject *idle = Py_NewRef(self->idle), *result = PyObject_CallNoArgs(idle);
        Py_DECREF(idle);
        return result;
    }
    if (waiter_resume(&self->waiter) < 0) return NULL;
    Py_RETURN_NONE;
}

static int set_sock(SocketWaiter *self, PyObject *sock, void *Py_UNUSED(closure)) {
    self->fd = sock == NULL || sock == Py_None ? -1 : PyObject_AsFileDescriptor(sock);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(keywords)) {
    SocketWaiter *self = (SocketWaiter *)type->tp_alloc(type, 0);
    if (self != NULL) self->fd = -1;
    return (PyObject *)self;
}

static int traverse(SocketWaiter *self, visitproc visit, void *arg) {
    Py_VISIT(self->idle);
    return waiter_traverse(&self->waiter, visit, arg);
}

static int clear(SocketWaiter *self) {
    Py_CLEAR(self->idle);
    return waiter_clear(&self->waiter);
}

static void dealloc(SocketWaiter *self) {
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef methods[] = {
    {"receive", (PyCFunction)waiter_receive, METH_O,
     "To be awaited: at most so many octets when a wake-up says that there are some; None if there are none."},
    {"send", (PyCFunction)waiter_send_now, METH_O, "Give the system what it takes now; how many octets are left."},
    {"readable", (PyCFunction)waiter_readable, METH_NOARGS, "For the loop to call: resume the task that waits, at once."},
    {NULL},
};

static PyMemberDef members[] = {
    {"idle", T_OBJECT, offsetof(SocketWaiter, idle), 0, "called by readable when no task waits"},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"sock", NULL, (setter)set_sock, "The socket; None when nothing may be read any more.", NULL},
    {NULL},
};

static PyAsyncMethods async = {.am_await = (unaryfunc)waiter_await, .am_send = (sendfunc)waiter_send};

PyTypeObject SocketWaiterType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.SocketWaiter",
    .tp_doc = "A waiter that reads and writes: the twin of websock.net.asyncio.waiter.SocketWaiter.",
    .tp_base = &WaiterType,
    .tp_basicsize = sizeof(SocketWaiter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = new,
    .tp_as_async = &async,
    .tp_iternext = (iternextfunc)waiter_next,
    .tp_dealloc = (destructor)dealloc,
    .tp_traverse = (traverseproc)traverse,
    .tp_clear = (inquiry)clear,
    .tp_methods = methods,
    .tp_members = members,
    .tp_getset = properties,
};
#endif
