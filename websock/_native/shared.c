/* What the connections of one event loop have in common: the twin of asyncio/shared.py. */
#include "pump.h"
#include <structmember.h>

int shared_flush_pump(Shared *self, PyObject *pump) {
    if (self->waiting == NULL || !PyObject_TypeCheck(pump, &PumpType)) {
        PyErr_SetString(PyExc_TypeError, "only a connection can be written later");
        return -1;
    }
    if (PyList_GET_SIZE(self->waiting) == 0) {
        PyObject *loop = PyObject_CallNoArgs(self->loop);
        if (loop == NULL) return -1;
        if (loop != Py_None) {
            PyObject *method = PyObject_GetAttrString((PyObject *)self, "_flush");
            PyObject *handle = method == NULL ? NULL : PyObject_CallMethod(loop, "call_soon", "O", method);
            Py_XDECREF(method);
            Py_XDECREF(handle);
            if (handle == NULL) {
                Py_DECREF(loop);
                return -1;
            }
        }
        Py_DECREF(loop);
    }
    return PyList_Append(self->waiting, pump);
}

static PyObject *shared_flush_later(Shared *self, PyObject *pump) {
    if (shared_flush_pump(self, pump) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *shared_flush(Shared *self, PyObject *Py_UNUSED(unused)) {
    PyObject *waiting = self->waiting;
    if (waiting == NULL) return pump_not_ready();
    if ((self->waiting = PyList_New(0)) == NULL) {
        self->waiting = waiting;
        return NULL;
    }
    PyObject *type = NULL, *error = NULL, *traceback = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiting); i++) {
        if (pump_flush_out((Pump *)PyList_GET_ITEM(waiting, i)) == 0) continue;
        if (type == NULL)
            PyErr_Fetch(&type, &error, &traceback); /* the others have their turn all the same */
        else
            PyErr_Clear();
    }
    Py_DECREF(waiting);
    if (type != NULL) {
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    Py_RETURN_NONE;
}

static int shared_init(Shared *self, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *loop;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On:Shared", &loop, &size)) return -1;
    Py_XSETREF(self->loop, PyWeakref_NewRef(loop, NULL));
    Py_XSETREF(self->buffer, PyByteArray_FromStringAndSize(NULL, size));
    if (self->loop == NULL || self->buffer == NULL) return -1;
    Py_XSETREF(self->view, PyMemoryView_FromObject(self->buffer));
    Py_XSETREF(self->waiting, PyList_New(0));
    return self->view == NULL || self->waiting == NULL ? -1 : 0;
}

static int shared_traverse(Shared *self, visitproc visit, void *arg) {
    Py_VISIT(self->loop);
    Py_VISIT(self->view);
    Py_VISIT(self->last);
    Py_VISIT(self->waiting);
    Py_VISIT(self->spent);
    return 0;
}

static int shared_clear(Shared *self) {
    Py_CLEAR(self->last);
    Py_CLEAR(self->spent);
    return 0;
}

static void shared_dealloc(Shared *self) {
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) PyObject_ClearWeakRefs((PyObject *)self);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->view);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->last);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->spent);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef shared_methods[] = {
    {"flush_later", (PyCFunction)shared_flush_later, METH_O, NULL},
    {"_flush", (PyCFunction)shared_flush, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef shared_members[] = {
    {"view", T_OBJECT, offsetof(Shared, view), READONLY, NULL},
    {"last", T_OBJECT, offsetof(Shared, last), 0, NULL},
    {NULL},
};

PyTypeObject SharedType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Shared",
    .tp_doc = "What the connections of one event loop share: the twin of websock.asyncio.shared.Shared.",
    .tp_basicsize = sizeof(Shared),
    .tp_weaklistoffset = offsetof(Shared, weakrefs),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)shared_init,
    .tp_dealloc = (destructor)shared_dealloc,
    .tp_traverse = (traverseproc)shared_traverse,
    .tp_clear = (inquiry)shared_clear,
    .tp_methods = shared_methods,
    .tp_members = shared_members,
};
