/* The module websock._native.speedups. It knows nothing of the package: core/accelerate.py gives it what it needs. */
#include "native.h"

static PyObject *py_bind_codec(PyObject *Py_UNUSED(module), PyObject *args) {
    CodecNames *n = &codec_names;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOOOnnnn", &n->judge, &n->invalid_text, &n->too_big, &n->too_many, &n->Assembly,
                          &n->Fragment, &n->ProtocolError, &n->InvalidUTF8, &n->octets_of, &n->urandom, &n->extension_failed, &max_fragments,
                          &at_once, &small_step, &frames_at_once))
        return NULL;
    Py_INCREF(args); /* all of them live as long as the process */
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"apply_mask", (PyCFunction)(void (*)(void))py_apply_mask, METH_FASTCALL,
     "Mask or unmask data with the four octets of a key (RFC 6455 section 5.3)."},
    {"new_key", py_new_key, METH_NOARGS, "A masking key that nobody can predict."},
    {"forget_keys", py_forget_keys, METH_NOARGS, "After a fork: use none of the parent's keys."},
    {"encode", (PyCFunction)(void (*)(void))py_encode, METH_FASTCALL | METH_KEYWORDS,
     "The buffers of one frame (RFC 6455 section 5.2), to be written in this order."},
    {"bind_codec", py_bind_codec, METH_VARARGS, NULL},
    {"bind_waiter", py_bind_waiter, METH_VARARGS, NULL},
    {"bind_pump", py_bind_pump, METH_VARARGS, NULL},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "websock._native.speedups",
    .m_doc = "The native twins of what runs for every read and every message.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_speedups(void) {
    struct { const char *name; PyTypeObject *type; } types[] = {
        {"Decoder", &DecoderType}, {"Queue", &QueueType}, {"Waiter", &WaiterType}, {"Pump", &PumpType},
        {"Shared", &SharedType}, {"Receive", &ReceiveType}, {"Sent", &SentType},
#ifndef _WIN32
        {"SocketWaiter", &SocketWaiterType}, {"Turn", &TurnType},
#endif
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (PyType_Ready(types[i].type) < 0) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) return NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (PyModule_AddObjectRef(module, types[i].name, (PyObject *)types[i].type) < 0) goto failed;
    if (sent == NULL && (sent = (PyObject *)PyObject_New(PyObject, &SentType)) == NULL) goto failed;
    if (PyModule_AddObjectRef(module, "SENT", sent) < 0) goto failed;
    return module;
failed:
    Py_DECREF(module);
    return NULL;
}
