/* What `recv`, `__anext__` and `_arrival` return, a coroutine. */
#include "pump.h"

typedef struct {
    PyObject_HEAD
    Pump *pump;
    PyObject *decode;
    char kind, streaming, state;
} Receive;

enum { NEW, WAITING, DONE };

static Receive *spare[16];
static int spares;

PyObject *new_receive(Pump *pump, int kind, PyObject *decode, int streaming) {
    Receive *self;
    if (pump->inbox == NULL || pump->waiter == NULL) return pump_not_ready();
    if (spares) {
        self = spare[--spares];
        _Py_NewReference((PyObject *)self);
    } else if ((self = PyObject_GC_New(Receive, &ReceiveType)) == NULL) {
        return NULL;
    }
    self->pump = (Pump *)Py_NewRef(pump);
    self->decode = Py_XNewRef(decode);
    self->kind = (char)kind;
    self->streaming = (char)streaming;
    self->state = NEW;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static void receive_dealloc(Receive *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->pump);
    Py_CLEAR(self->decode);
    if (spares < 16)
        spare[spares++] = self;
    else
        PyObject_GC_Del(self);
}

static int receive_traverse(Receive *self, visitproc visit, void *arg) {
    Py_VISIT(self->pump);
    Py_VISIT(self->decode);
    return 0;
}

static PySendResult receive_send(Receive *self, PyObject *Py_UNUSED(value), PyObject **result) {
    Pump *pump = self->pump;
    *result = NULL;
    if (self->state == DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (pump->inbox->count == 0 || pump->burst >= TURN || pump->inbox->streaming != self->streaming) {
        if (self->state == WAITING) {
            if (pump->waiter->callback != NULL) {
                PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
                return PYGEN_ERROR;
            }
            pump->burst = 0;
        } else if ((pump->waiter->callback != NULL || pump->inbox->streaming != self->streaming
                    || pump_calls_back(pump))
                 && pump_call(pump, REFUSE_RECEIVER) < 0)
            goto failed;
        if (pump->inbox->count == 0 || pump->burst >= TURN) {
            if (pump->inbox->count) {
                /* One task has had its share; without this a busy peer could keep all others from running. */
                if (pump_call(pump, ASK_TURN) < 0) goto failed;
            } else if (pump_is_unsettled(pump) || pump_is_ending(pump)) {
                if (pump_call(pump, COME_BACK) < 0) goto failed;
            }
            self->state = WAITING;
            if (pump->waiter->scheduled) { /* it still belongs to a task that was cancelled, and has not seen it */
                PyObject *fresh = PyObject_CallOneArg((PyObject *)&WaiterType, pump->loop);
                if (fresh == NULL) goto failed;
                Py_SETREF(pump->waiter, (Waiter *)fresh);
            }
            pump->waiter->blocking = 1;
            *result = Py_NewRef(pump->waiter);
            return PYGEN_NEXT;
        }
    } else if (self->state == WAITING) {
        pump->burst = 0;
    }
    self->state = DONE;
    if (self->kind == ARRIVAL) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    PyObject *message = queue_pop(pump->inbox);
    if (message == NULL || pump_popped(pump) < 0) {
        Py_XDECREF(message);
        return PYGEN_ERROR;
    }
    if (self->decode != NULL && self->decode != Py_None) {
        PyObject *as_asked = PyObject_CallFunctionObjArgs(pump_converted, message, self->decode, NULL);
        Py_DECREF(message);
        message = as_asked;
    }
    *result = message;
    return message == NULL ? PYGEN_ERROR : PYGEN_RETURN;
failed:
    self->state = DONE;
    if (self->kind == NEXT && PyErr_ExceptionMatches(pump_closed_ok)) {
        PyErr_Clear();
        PyErr_SetNone(PyExc_StopAsyncIteration);
    }
    return PYGEN_ERROR;
}

static PyObject *receive_next(Receive *self) {
    PyObject *result;
    switch (receive_send(self, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        if (result != Py_None) PyErr_SetObject(PyExc_StopIteration, result); /* str and bytes need no wrapping */
        Py_DECREF(result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *receive_send_py(Receive *self, PyObject *Py_UNUSED(value)) {
    PyObject *result = receive_next(self);
    if (result == NULL && !PyErr_Occurred()) PyErr_SetNone(PyExc_StopIteration);
    return result;
}

static PyObject *receive_throw(Receive *self, PyObject *const *args, Py_ssize_t count) {
    self->state = DONE;
    return coroutine_throw(args, count);
}

static PyObject *receive_close(Receive *self, PyObject *Py_UNUSED(unused)) {
    self->state = DONE;
    Py_RETURN_NONE;
}

static PyMethodDef receive_methods[] = {
    {"send", (PyCFunction)receive_send_py, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))receive_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)receive_close, METH_NOARGS, NULL},
    {NULL},
};

static PyAsyncMethods receive_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)receive_send};

PyTypeObject ReceiveType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Receive",
    .tp_doc = "What recv returns: a coroutine.",
    .tp_basicsize = sizeof(Receive),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = (destructor)receive_dealloc,
    .tp_traverse = (traverseproc)receive_traverse,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)receive_next,
    .tp_methods = receive_methods,
    .tp_as_async = &receive_async,
};
