/* Messages that wait, the task that waits for them, and the awaitable of a send that needs no waiting: the twins of the
 * deque below core/inbox.py and of asyncio/waiter.py. */
#include "native.h"
#include <structmember.h>

/* Queue: first in, first out. A ring that is made when something waits, and freed when nothing does. */

enum { FEW = 32 }; /* slots that an empty queue may keep */

static int grow(Queue *self) {
    Py_ssize_t capacity = self->capacity ? 2 * self->capacity : 8;
    PyObject **ring = PyMem_New(PyObject *, capacity);
    if (ring == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->count; i++) ring[i] = self->ring[(self->head + i) & (self->capacity - 1)];
    PyMem_Free(self->ring);
    self->ring = ring;
    self->capacity = capacity;
    self->head = 0;
    return 0;
}

int queue_push(Queue *self, PyObject *item) {
    if (self->count == self->capacity && grow(self) < 0) {
        Py_DECREF(item);
        return -1;
    }
    self->ring[(self->head + self->count++) & (self->capacity - 1)] = item;
    return 0;
}

PyObject *queue_pop(Queue *self) {
    if (self->count == 0) {
        PyErr_SetString(PyExc_IndexError, "the queue is empty");
        return NULL;
    }
    PyObject *item = self->ring[self->head];
    self->head = (self->head + 1) & (self->capacity - 1);
    if (--self->count == 0) {
        self->octets = 0;
        if (self->capacity > FEW) {
            PyMem_Free(self->ring);
            self->ring = NULL;
            self->capacity = self->head = 0;
        }
    }
    return item;
}

int queue_full(Queue *self) {
    return self->count && (self->octets > self->backlog || (self->limit >= 0 && self->count > self->limit));
}

static int queue_clear(Queue *self) {
    while (self->count) {
        PyObject *item = queue_pop(self);
        Py_XDECREF(item);
    }
    PyMem_Free(self->ring);
    self->ring = NULL;
    self->capacity = self->head = 0;
    return 0;
}

static int queue_traverse(Queue *self, visitproc visit, void *arg) {
    for (Py_ssize_t i = 0; i < self->count; i++) Py_VISIT(self->ring[(self->head + i) & (self->capacity - 1)]);
    return 0;
}

static void queue_dealloc(Queue *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    queue_clear(self);
    type->tp_free((PyObject *)self);

}

static int queue_init(Queue *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"limit", "backlog", NULL};
    PyObject *limit;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "On", names, &limit, &self->backlog)) return -1;
    self->limit = -1;
    if (limit != Py_None) self->limit = PyLong_AsSsize_t(limit);
    if (self->limit == -1 && PyErr_ExceptionMatches(PyExc_OverflowError)) PyErr_Clear();
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *queue_append(Queue *self, PyObject *item) {
    if (queue_push(self, Py_NewRef(item)) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_extend(Queue *self, PyObject *items) {
    PyObject *iterator = PyObject_GetIter(items), *item;
    if (iterator == NULL) return NULL;
    while ((item = PyIter_Next(iterator)) != NULL)
        if (queue_push(self, item) < 0) break;
    Py_DECREF(iterator);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_take(Queue *self, PyObject *Py_UNUSED(unused)) {
    return queue_pop(self);
}

static PyObject *queue_take_all(Queue *self, PyObject *Py_UNUSED(unused)) {
    Py_ssize_t octets = self->octets;
    PyObject *items = PyList_New(self->count);
    if (items == NULL) return NULL;
    for (Py_ssize_t i = 0; self->count && i < PyList_GET_SIZE(items); i++) PyList_SET_ITEM(items, i, queue_pop(self));
    self->octets = octets;
    return items;
}

static Py_ssize_t queue_length(Queue *self) {
    return self->count;
}

static PyObject *queue_item(Queue *self, Py_ssize_t index) {
    if (index < 0 || index >= self->count) {
        PyErr_SetString(PyExc_IndexError, "the queue has fewer items");
        return NULL;
    }
    return Py_NewRef(self->ring[(self->head + index) & (self->capacity - 1)]);
}

static PyObject *queue_get_full(Queue *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(queue_full(self));
}

static PyMethodDef queue_methods[] = {
    {"append", (PyCFunction)queue_append, METH_O, "Put an item in."},
    {"extend", (PyCFunction)queue_extend, METH_O, "Put items in."},
    {"take", (PyCFunction)queue_take, METH_NOARGS, "The next item; there must be one."},
    {"take_all", (PyCFunction)queue_take_all, METH_NOARGS, "All items, as a list."},
    {NULL},
};

static PyMemberDef queue_members[] = {
    {"limit", T_PYSSIZET, offsetof(Queue, limit), READONLY, "messages that may wait, -1 for no limit"},
    {"octets", T_PYSSIZET, offsetof(Queue, octets), 0, "received since the queue was empty"},
    {"streaming", T_BOOL, offsetof(Queue, streaming), 0, "a consumer takes the next message in parts"},
    {"special", T_BOOL, offsetof(Queue, special), 0, "what comes in may have to be joined or dropped"},
    {NULL},
};

static PyGetSetDef queue_properties[] = {
    {"full", (getter)queue_get_full, NULL, "Reading should pause.", NULL},
    {NULL},
};

static PySequenceMethods queue_sequence = {.sq_length = (lenfunc)queue_length, .sq_item = (ssizeargfunc)queue_item};

PyTypeObject QueueType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Queue",
    .tp_doc = "Messages that wait: the twin of websock.core.queue.Queue.",
    .tp_basicsize = sizeof(Queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)queue_init,
    .tp_dealloc = (destructor)queue_dealloc,
    .tp_traverse = (traverseproc)queue_traverse,
    .tp_clear = (inquiry)queue_clear,
    .tp_methods = queue_methods,
    .tp_members = queue_members,
    .tp_getset = queue_properties,
    .tp_as_sequence = &queue_sequence,
};

/* Waiter: a future of one use at a time. */

static PyObject *current_task, *CancelledError, *Task; /* asyncio's */
static PyObject *over;                                 /* a future of asyncio's that is done */

PyObject *py_bind_waiter(PyObject *Py_UNUSED(module), PyObject *args) {
    if (!PyArg_ParseTuple(args, "OOO!O", &current_task, &CancelledError, &PyType_Type, &Task, &over)) return NULL;
    Py_INCREF(args); /* all of them live as long as the process */
    Py_RETURN_NONE;
}

/* A task asks the future that wakes it for its result and nothing else. Of a future of asyncio's own it takes that
 * directly; of any other it looks up the method, which costs more than all the rest of waking it. */
static int is_a_tasks(PyObject *callback) {
    return PyCFunction_Check(callback) && PyCFunction_GET_SELF(callback) != NULL
        && PyObject_TypeCheck(PyCFunction_GET_SELF(callback), (PyTypeObject *)Task);
}

static void forget_callback(Waiter *self) {
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
}

static int call_soon(Waiter *self, PyObject *callback, PyObject *context) {
    static PyObject *names;
    if (names == NULL && (names = Py_BuildValue("(s)", "context")) == NULL) return -1;
    PyObject *method = PyObject_GetAttrString(self->loop, "call_soon");
    if (method == NULL) return -1;
    PyObject *arguments[] = {callback, (PyObject *)self, context == NULL ? Py_None : context};
    PyObject *handle = PyObject_Vectorcall(method, arguments, 2, names);
    Py_DECREF(method);
    Py_XDECREF(handle);
    if (handle != NULL) self->scheduled = 1;
    return handle == NULL ? -1 : 0;
}

int waiter_resume(Waiter *self) {
    PyObject *callback = self->callback, *context = self->context, *result = NULL;
    if (callback == NULL) return 0;
    self->callback = self->context = NULL;
    if (context != NULL && PyContext_CheckExact(context)) {
        if (PyContext_Enter(context) == 0) {
            result = PyObject_CallOneArg(callback, is_a_tasks(callback) ? over : (PyObject *)self);
            if (PyContext_Exit(context) < 0) Py_CLEAR(result);
        }
    } else if (call_soon(self, callback, context) == 0) {
        result = Py_NewRef(Py_None);
    }
    Py_DECREF(callback);
    Py_XDECREF(context);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *waiter_wake_soon(Waiter *self, PyObject *unused);

int waiter_wake(Waiter *self) {
    if (self->callback == NULL) return 0;
    PyObject *task = PyObject_CallOneArg(current_task, self->loop);
    if (task == NULL) return -1;
    Py_DECREF(task);
    /* If nobody runs, the task goes on now, inside the callback that has its news. */
    if (task == Py_None) return waiter_resume(self);
    PyObject *result = waiter_wake_soon(self, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *waiter_wake_py(Waiter *self, PyObject *Py_UNUSED(unused)) {
    if (waiter_wake(self) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *waiter_wake_soon(Waiter *self, PyObject *Py_UNUSED(unused)) {
    if (self->callback != NULL) {
        PyObject *callback = self->callback, *context = self->context;
        self->callback = self->context = NULL;
        int result = call_soon(self, callback, context);
        Py_DECREF(callback);
        Py_XDECREF(context);
        if (result < 0) return NULL;
    }
    Py_RETURN_NONE;
}

/* It is its own iterator for await, since one task at a time waits: no object is made for each time. */

static PyObject *waiter_await(Waiter *self) {
    self->yielded = 0;
    return Py_NewRef((PyObject *)self);
}

static PyObject *waiter_next(Waiter *self) {
    if (self->yielded) return NULL;
    self->yielded = self->blocking = 1;
    return Py_NewRef((PyObject *)self);
}

static PyAsyncMethods waiter_async = {.am_await = (unaryfunc)waiter_await};

static PyObject *waiter_get_loop(Waiter *self, PyObject *Py_UNUSED(unused)) {
    if (self->loop == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the waiter is not initialized");
        return NULL;
    }
    return Py_NewRef(self->loop);
}

static PyObject *waiter_add(Waiter *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    if (count != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 1)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback(callback, *, context=None)");
        return NULL;
    }
    PyObject *context = names != NULL && PyTuple_GET_SIZE(names) ? args[1] : Py_None;
    Py_XSETREF(self->callback, Py_NewRef(args[0]));
    Py_XSETREF(self->context, context == Py_None ? NULL : Py_NewRef(context));
    Py_RETURN_NONE;
}

static PyObject *waiter_remove(Waiter *self, PyObject *callback) {
    int same = self->callback == NULL ? 0 : PyObject_RichCompareBool(self->callback, callback, Py_EQ);
    if (same < 0) return NULL;
    if (same) forget_callback(self);
    return PyLong_FromLong(same);
}

static PyObject *waiter_false(Waiter *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    Py_RETURN_FALSE;
}

static PyObject *waiter_done(Waiter *self, PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(self->callback == NULL);
}

static PyObject *waiter_cancel(Waiter *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O", names, &message)) return NULL;
    if (self->callback == NULL) Py_RETURN_FALSE;
    PyObject *error = message == Py_None ? PyObject_CallNoArgs(CancelledError)
                                         : PyObject_CallOneArg(CancelledError, message);
    if (error == NULL) return NULL;
    Py_XSETREF(self->cancelled, error);
    PyObject *result = waiter_wake_soon(self, NULL);
    if (result == NULL) return NULL;
    Py_DECREF(result);
    Py_RETURN_TRUE;
}

static PyObject *waiter_result(Waiter *self, PyObject *Py_UNUSED(unused)) {
    self->scheduled = 0;
    if (self->cancelled == NULL) Py_RETURN_NONE;
    PyObject *error = self->cancelled;
    self->cancelled = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

static PyObject *waiter_none(Waiter *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    Py_RETURN_NONE;
}

static PyObject *waiter_waiting(Waiter *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(self->callback != NULL);
}

static int waiter_init(Waiter *self, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *loop;
    if (!PyArg_ParseTuple(args, "O:Waiter", &loop)) return -1;
    if (current_task == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it needs bind_waiter");
        return -1;
    }
    Py_XSETREF(self->loop, Py_NewRef(loop));
    return 0;
}

int waiter_traverse(Waiter *self, visitproc visit, void *arg) {
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->cancelled);
    return 0;
}

int waiter_clear(Waiter *self) {
    forget_callback(self);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->cancelled);
    return 0;
}

static void waiter_dealloc(Waiter *self) {
    PyObject_GC_UnTrack(self);
    waiter_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef waiter_methods[] = {
    {"wake", (PyCFunction)waiter_wake_py, METH_NOARGS, "Resume the task that waits, at once when no task runs now."},
    {"wake_soon", (PyCFunction)waiter_wake_soon, METH_NOARGS, "Resume the task that waits with the loop's next turn."},
    {"get_loop", (PyCFunction)waiter_get_loop, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", (PyCFunction)waiter_remove, METH_O, NULL},
    {"cancelled", (PyCFunction)waiter_false, METH_NOARGS, NULL},
    {"done", (PyCFunction)waiter_done, METH_NOARGS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", (PyCFunction)waiter_result, METH_NOARGS, NULL},
    {"exception", (PyCFunction)waiter_none, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(Waiter, blocking), 0, NULL},
    {"scheduled", T_BOOL, offsetof(Waiter, scheduled), READONLY, "a task was told, and has not run yet"},
    {NULL},
};

static PyGetSetDef waiter_properties[] = {
    {"waiting", (getter)waiter_waiting, NULL, "Whether a task waits here.", NULL},
    {NULL},
};

PyTypeObject WaiterType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Waiter",
    .tp_doc = "A future of one use at a time: the twin of websock.net.asyncio.waiter.Waiter.",
    .tp_basicsize = sizeof(Waiter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)waiter_init,
    .tp_as_async = &waiter_async,
    .tp_iternext = (iternextfunc)waiter_next,
    .tp_dealloc = (destructor)waiter_dealloc,
    .tp_traverse = (traverseproc)waiter_traverse,
    .tp_clear = (inquiry)waiter_clear,
    .tp_methods = waiter_methods,
    .tp_members = waiter_members,
    .tp_getset = waiter_properties,
};

/* Sent: one object for all sends that need no waiting. A coroutine, as its twin. */

PyObject *sent;

static PyObject *sent_next(PyObject *Py_UNUSED(self)) {
    return NULL; /* over from the beginning */
}

static PyObject *sent_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value)) {
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

PyObject *coroutine_throw(PyObject *const *args, Py_ssize_t count) {
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }
    PyObject *error = count > 1 && args[1] != Py_None ? args[1] : args[0];
    if (PyExceptionClass_Check(error))
        PyErr_SetNone(error);
    else if (PyExceptionInstance_Check(error))
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException");
    return NULL;
}

static PyObject *sent_throw(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count) {
    return coroutine_throw(args, count);
}

static PyObject *sent_close(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    Py_RETURN_NONE;
}

static PyMethodDef sent_methods[] = {
    {"send", sent_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))sent_throw, METH_FASTCALL, NULL},
    {"close", sent_close, METH_NOARGS, NULL},
    {NULL},
};

static PyAsyncMethods sent_async = {.am_await = PyObject_SelfIter};

PyTypeObject SentType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Sent",
    .tp_doc = "What send returns when there is nothing to wait for.",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = sent_next,
    .tp_methods = sent_methods,
    .tp_as_async = &sent_async,
};
