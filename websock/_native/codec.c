/* Bytes to messages and messages to bytes (RFC 6455 section 5): the twin of core/codec.py, with the same contract.
 *
 * A frame that is here whole and is a whole message becomes its object straight from what was read. All others are
 * begun by `begin` as soon as their header is complete, and their payload goes where the message grows. What breaks a
 * rule is found here and named by the Python half (`judge`), so that each rule stands in one place. Messages that
 * extensions have changed are put together by the Python half too. */
#include "native.h"
#include <structmember.h>

CodecNames codec_names;
Py_ssize_t max_fragments, at_once, small_step, frames_at_once;

static void stop(Decoder *self) {
    self->stopped = 1;
    self->behind = 0;
    self->tail_size = 0;
    self->remaining = 0;
    self->opcode = 0;
    self->size = 0;
    Py_CLEAR(self->assembly);
    Py_CLEAR(self->bytes);
    Py_CLEAR(self->rest);
}

/* What the peer did is not an error of ours: keep it as `failure`, and so what an extension raises. Others pass: -1. */
static int fail(Decoder *self) {
    int protocol_error = PyErr_ExceptionMatches(codec_names.ProtocolError);
    if (!protocol_error && (self->pipeline == Py_None || !PyErr_ExceptionMatches(PyExc_Exception))) return -1;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (value != NULL && !protocol_error) {
        PyObject *failure = PyObject_CallOneArg(codec_names.extension_failed, value);
        Py_DECREF(value);
        value = failure;
    }
    if (value == NULL) return -1;
    Py_XSETREF(self->failure, value);
    return 0;
}

static int fail_with(Decoder *self, PyObject *failure) {
    if (failure == NULL) return -1;
    Py_XSETREF(self->failure, failure);
    return 0;
}

static int invalid_text(Decoder *self, const char *reason) {
    return fail_with(self, PyObject_CallFunction(codec_names.invalid_text, "s", reason));
}

static int64_t room_of(Decoder *self, int transformed) {
    if (self->max_size < 0) return -1;
    int64_t room = transformed ? 8 * self->max_size + 1024 : self->max_size;
    if (transformed && self->max_size > (INT64_MAX - 1024) / 8) room = INT64_MAX;
    return room - (int64_t)(self->opcode ? self->received : 0);
}

/* 1: the header keeps all rules; 0: it does not, and `failure` says which; -1: exception. */
static int judged(Decoder *self, int first, int second, uint64_t length, int64_t room) {
    int opcode = first & 0x0F, control = opcode >= CLOSE, form = second & 0x7F;
    int rsv = control || opcode == CONT ? 0 : self->rsv;
    int good = !(first & 0x70 & ~rsv) && !(second >> 7) == !self->masked;
    if (control) {
        good = good && opcode <= 10 && first & 0x80 && form <= MAX_CONTROL;
    } else {
        good = good && opcode <= BINARY && length <= INT64_MAX && length >= (form == 127 ? 65536u : form == 126 ? 126u : 0u)
            && (opcode == CONT) == (self->opcode != 0) && (room < 0 || (int64_t)length <= room);
    }
    if (good) return 1;
    PyObject *limit = room < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(room);
    if (limit == NULL) return -1;
    PyObject *verdict = PyObject_CallFunction(codec_names.judge, "iiKiiiO", first, second, (unsigned long long)length,
                                              self->masked, self->opcode != 0, self->rsv, limit);
    Py_DECREF(limit);
    if (verdict == NULL) return -1;
    if (verdict == Py_None) {
        Py_DECREF(verdict);
        return 1;
    }
    return fail_with(self, verdict);
}

/* The extensions that have changed a message with these bits: a new reference, NULL with an exception; an empty tuple
 * for none. */
static PyObject *transforms_of(Decoder *self, int first) {
    if (self->pipeline == Py_None || !(self->always || first & self->rsv)) return PyTuple_New(0);
    PyObject *found = PyObject_CallMethod(self->pipeline, "receiving", "i", first & 0x70);
    if (found == NULL || PyTuple_Check(found)) return found;
    PyObject *transforms = PySequence_Tuple(found);
    Py_DECREF(found);
    return transforms;
}

static const unsigned char no_key[4];

/* NULL: with `failure` or an exception. */
static PyObject *decoded(Decoder *self, const char *data, size_t size) {
    PyObject *text = PyUnicode_DecodeUTF8(data, size, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        PyObject *reason = error == NULL ? NULL : PyUnicodeDecodeError_GetReason(error);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        if (reason != NULL) {
            fail_with(self, PyObject_CallOneArg(codec_names.invalid_text, reason));
            Py_DECREF(reason);
        }
    }
    return text;
}

/* Most text is ASCII, and then its object can be filled while it is unmasked. */
static Py_ALWAYS_INLINE inline PyObject *text_of(Decoder *self, const unsigned char *payload, size_t size,
                                                 const unsigned char *key) {
    PyObject *ascii = PyUnicode_New(size, 127);
    if (ascii == NULL) return NULL;
    unsigned char *data = (unsigned char *)((PyASCIIObject *)ascii + 1);
    if (!mask_copy(data, payload, size, key, 0)) return ascii;
    PyObject *text = decoded(self, (char *)data, size);
    memset(data, ' ', size); /* nobody may see a string that is not one */
    Py_DECREF(ascii);
    return text;
}

/* A whole message from one frame. NULL: with `failure` or an exception. */
static Py_ALWAYS_INLINE inline PyObject *whole(Decoder *self, int opcode, const unsigned char *payload, size_t size,
                                               const unsigned char *key) {
    if (opcode == TEXT && self->masked) return text_of(self, payload, size, key);
    if (opcode == TEXT) { /* what is not ASCII mostly shows it soon */
        uint64_t word, all = 0;
        for (size_t i = 0; i < 64 && i + 8 <= size; i += 8) {
            memcpy(&word, payload + i, 8);
            all |= word;
        }
        if (all & 0x8080808080808080ULL) return decoded(self, (char *)payload, size);
        return text_of(self, payload, size, no_key);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(self->masked ? NULL : (char *)payload, size);
    if (bytes != NULL && self->masked) mask_copy((unsigned char *)PyBytes_AS_STRING(bytes), payload, size, key, 0);
    return bytes;
}

static PyObject *fragment(PyObject *data, int last) {
    if (data == NULL) return NULL;
    PyObject *made = PyObject_CallFunctionObjArgs(codec_names.Fragment, data, last ? Py_True : Py_False, NULL);
    Py_DECREF(data);
    return made;
}

/* A bytes object that may be written to: Python shares those of one octet. */
static PyObject *own_bytes(const char *data, size_t size) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL) memcpy(PyBytes_AS_STRING(bytes), data, size);
    return bytes;
}

/* What has come of the message in progress; text never ends inside a character. */
static PyObject *take(Decoder *self) {
    if (self->assembly != NULL) return PyObject_CallMethod(self->assembly, "take", NULL);
    size_t begun = self->utf8.begun, size = self->size - begun;
    if (self->bytes == NULL) return self->opcode == TEXT ? PyUnicode_New(0, 0) : PyBytes_FromStringAndSize(NULL, 0);
    PyObject *data = self->bytes, *rest = NULL;
    self->bytes = NULL;
    self->size = 0;
    if (begun) {
        if ((rest = own_bytes(PyBytes_AS_STRING(data) + size, begun)) == NULL) {
            Py_DECREF(data);
            return NULL;
        }
        self->bytes = rest;
        self->size = begun;
    }
    if (Py_REFCNT(data) != 1) { /* somebody looks at it, or a read may still go there */
        PyObject *copy = own_bytes(PyBytes_AS_STRING(data), size);
        Py_DECREF(data);
        if ((data = copy) == NULL) return NULL;
    } else if ((size_t)PyBytes_GET_SIZE(data) != size && _PyBytes_Resize(&data, size) < 0) {
        return NULL;
    }
    if (self->opcode == BINARY) return data;
    PyObject *text = self->utf8.wide ? decoded(self, PyBytes_AS_STRING(data), size)
                                     : text_of(self, (unsigned char *)PyBytes_AS_STRING(data), size, no_key);
    Py_DECREF(data);
    return text;
}

/* The part that is here, as a Fragment; NULL without an exception when there is none. */
static PyObject *part(Decoder *self) {
    if (self->opcode == 0) return NULL;
    PyObject *data = take(self);
    if (data == NULL) return NULL;
    if (PyObject_Size(data) == 0) {
        Py_DECREF(data);
        return NULL;
    }
    return fragment(data, 0);
}

/* Room for `more` octets in the message, without believing a header that announces many times what has come. */
static int reserve(Decoder *self, size_t more) {
    size_t need = self->size + more, have = self->bytes == NULL ? 0 : (size_t)PyBytes_GET_SIZE(self->bytes);
    if (need <= have) return 0;
    size_t most = self->size + (self->remaining > PY_SSIZE_T_MAX / 2 ? PY_SSIZE_T_MAX / 2 : (size_t)self->remaining);
    size_t wanted = need < 65536 ? 2 * need : 8 * need; /* growing a large one may move it */
    if (wanted > most) wanted = most;
    if (wanted < need) wanted = need;
    if (self->bytes != NULL && Py_REFCNT(self->bytes) == 1) {
        if (_PyBytes_Resize(&self->bytes, wanted) == 0) return 0;
        stop(self); /* what has come of the message is gone */
        return -1;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, wanted);
    if (bytes == NULL) return -1;
    if (self->bytes != NULL) memcpy(PyBytes_AS_STRING(bytes), PyBytes_AS_STRING(self->bytes), self->size);
    Py_XSETREF(self->bytes, bytes);
    return 0;
}

/* The present frame is over, and with FIN the message: hand it out. */
static int finish(Decoder *self, Emit emit, void *to) {
    if (!self->fin) return 0;
    if (self->opcode == TEXT && self->assembly == NULL && self->utf8.need)
        return invalid_text(self, "unexpected end of data");
    PyObject *message = take(self);
    if (message != NULL && self->streaming) {
        message = fragment(message, 1);
        self->streaming = 0;
    }
    self->opcode = 0;
    self->size = 0;
    Py_CLEAR(self->assembly);
    Py_CLEAR(self->bytes);
    if (message == NULL) return self->failure != NULL ? 0 : -1;
    return emit(to, message);
}

/* Payload for the end of `bytes`, where it may lie already. */
static int arrived(Decoder *self, const unsigned char *from, size_t size, Emit emit, void *to) {
    unsigned char *data = (unsigned char *)PyBytes_AS_STRING(self->bytes) + self->size;
    int high = 1;
    if (self->masked)
        high = mask_copy(data, from, size, self->key, self->received & 3);
    else if (data != from)
        memcpy(data, from, size);
    self->size += size;
    self->received += size;
    self->remaining -= size;
    if (self->opcode == TEXT && (high || self->utf8.need)) {
        const char *reason = utf8_feed(&self->utf8, data, size);
        if (reason != NULL) return invalid_text(self, reason);
    }
    return self->remaining ? 0 : finish(self, emit, to);
}

/* As the Python twin's _payload, for what extensions have changed. Returns how many octets it took, -1: exception. */
static Py_ssize_t through(Decoder *self, const unsigned char *data, size_t size, Emit emit, void *to) {
    size_t done = 0;
    PyObject *assembly = Py_NewRef(self->assembly); /* an extension may end the connection meanwhile */
    do {
        size_t step = size - done < (size_t)small_step ? size - done : (size_t)small_step;
        PyObject *chunk = PyBytes_FromStringAndSize(self->masked ? NULL : (char *)data + done, step);
        if (chunk == NULL) goto failed;
        if (self->masked)
            mask_copy((unsigned char *)PyBytes_AS_STRING(chunk), data + done, step, self->key, self->received & 3);
        done += step;
        self->received += step;
        self->remaining -= step;
        int final = self->fin && !self->remaining;
        PyObject *result = PyObject_CallMethod(assembly, "add", "NO", chunk, final ? Py_True : Py_False);
        if (result == NULL) {
            if (fail(self) < 0) goto failed;
            Py_DECREF(assembly);
            return (Py_ssize_t)done;
        }
        Py_DECREF(result);
        if (self->stopped || self->assembly != assembly) {
            Py_DECREF(assembly);
            return (Py_ssize_t)done;
        }
        PyObject *octets = PyObject_GetAttrString(assembly, "size");
        if (octets == NULL) goto failed;
        int64_t now = PyLong_AsLongLong(octets);
        Py_DECREF(octets);
        if (now < 0) goto failed;
        self->expanded += now - (int64_t)self->size;
        self->size = now;
    } while (done < size && self->expanded <= at_once);
    Py_DECREF(assembly);
    if (!self->remaining && finish(self, emit, to) < 0) return -1;
    return done;
failed:
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the size of a message cannot be negative");
    Py_DECREF(assembly);
    return -1;
}

/* A data frame whose header is complete and good. */
static int begin(Decoder *self, int first, uint64_t length, const unsigned char *key, PyObject *transforms) {
    if (self->opcode == 0) {
        self->opcode = first & 0x0F;
        self->size = self->received = 0;
        self->fragments = 1;
        memset(&self->utf8, 0, sizeof self->utf8);
        if (PyTuple_GET_SIZE(transforms)) {
            PyObject *limit = self->max_size < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(self->max_size);
            self->assembly = limit == NULL ? NULL : PyObject_CallFunctionObjArgs(
                codec_names.Assembly, self->opcode == TEXT ? Py_True : Py_False, limit, transforms, NULL);
            Py_XDECREF(limit);
            if (self->assembly == NULL) return -1;
        }
    } else if (++self->fragments > self->max_fragments) {
        return fail_with(self, PyObject_CallFunction(codec_names.too_many, "i", self->max_fragments));
    }
    self->fin = (first & 0x80) != 0;
    self->remaining = length;
    /* `received` counts over the fragments, and each has a key of its own: turn that so that both fit. */
    for (int i = 0; i < 4; i++) self->key[(self->received + i) & 3] = key[i];
    return 0;
}

static int control(Decoder *self, int opcode, const unsigned char *payload, size_t size, const unsigned char *key) {
    unsigned char plain[MAX_CONTROL];
    if (self->masked) mask_copy(plain, payload, size, key, 0);
    self->called = 1;
    PyObject *on_control = Py_NewRef(self->on_control); /* it may end the decoder */
    PyObject *result = PyObject_CallFunction(on_control, "iy#", opcode,
                                             self->masked ? (char *)plain : (char *)payload, (Py_ssize_t)size);
    Py_DECREF(on_control);
    if (result == NULL) return fail(self);
    Py_DECREF(result);
    if (opcode == CLOSE) stop(self);
    return 0;
}

/* How many octets the frame at `data` needs before it can be dealt with: its header, and for a control frame all. */
static size_t needed(Decoder *self, const unsigned char *data, size_t have) {
    if (have < 2) return 2;
    size_t size = data[1] & 0x7F, header = (size < 126 ? 2 : size == 126 ? 4 : 10) + (self->masked ? 4 : 0);
    if (have < header) return header;
    return (data[0] & 0x0F) >= CLOSE ? header + size : header;
}

/* The frame at `data`, of which what `needed` says is there, or less: then only judge it. Returns 0 or -1; `failure`
 * may be set. */
static int frame(Decoder *self, const unsigned char *data, size_t have) {
    int first = data[0], second = data[1], form = second & 0x7F, opcode = first & 0x0F;
    size_t header = form < 126 ? 2 : form == 126 ? 4 : 10;
    uint64_t length = form;
    int64_t room = -1;
    PyObject *transforms = NULL;
    if (have < header) {
        length = 65536; /* the rules that do not depend on the length hold already; this breaks none of lengths */
    } else {
        if (form > 125)
            for (size_t i = 2, end = (length = 0, header); i < end; i++) length = length << 8 | data[i];
        if (opcode == TEXT || opcode == BINARY) {
            if ((transforms = transforms_of(self, first)) == NULL) return -1;
            room = room_of(self, PyTuple_GET_SIZE(transforms) != 0);
        } else {
            room = room_of(self, self->assembly != NULL);
        }
    }
    int result = judged(self, first, second, length, room);
    if (result == 1) {
        result = 0;
        size_t start = header + (self->masked ? 4 : 0);
        const unsigned char *key = self->masked ? data + header : no_key;
        if (have >= start) {
            if (opcode < CLOSE)
                result = begin(self, first, length, key, transforms);
            else if (have >= start + form)
                result = control(self, opcode, data + start, form, key);
        }
    }
    Py_XDECREF(transforms);
    return result;
}

/* As PyList_Append, without a call while there is room. */
static Py_ALWAYS_INLINE inline int emit_to_list(void *to, PyObject *message) {
    Py_ssize_t count = PyList_GET_SIZE(to);
    if (count < ((PyListObject *)to)->allocated) {
        PyList_SET_ITEM(to, count, message);
        Py_SET_SIZE(to, count + 1);
        return 0;
    }
    int result = PyList_Append(to, message);
    Py_DECREF(message);
    return result;
}

/* The short way: frames at `data` that are here whole and are whole messages that no extension has changed; where it
 * leads is at the first that is something else. NULL: exception. */
static const unsigned char *short_way(Decoder *self, const unsigned char *data, const unsigned char *end, Emit emit,
                                      void *to) {
    size_t prefix = self->masked ? 6 : 2, bit = self->masked ? 0x80 : 0;
    uint64_t max_size = (uint64_t)self->max_size; /* no limit, as an unsigned number, is none */
    while ((size_t)(end - data) >= prefix && self->budget > 0) {
        size_t size = data[1] ^ bit, header = prefix, have = (size_t)(end - data);
        if (data[0] != 0x81 && data[0] != 0x82) break;
        if (size > 125) { /* a length that goes on, or masked when it should not be, or the other way round */
            if (size != 126 || have < 4 || (size = (size_t)data[2] << 8 | data[3]) < 126) break;
            header += 2;
        }
        if (have < header + size || size > max_size) break;
        PyObject *message = whole(self, data[0] & 0x0F, data + header, size, data + header - 4);
        data += header + size;
        self->budget--;
        if (message == NULL) return self->failure != NULL ? data : NULL;
        if (emit != emit_to_list) return emit(to, message) < 0 ? NULL : data; /* it may have changed what holds */
        if (emit_to_list(to, message) < 0) return NULL;
    }
    return data;
}

static int feed(Decoder *self, const unsigned char *data, size_t size, Emit emit, void *to) {
    const unsigned char *end = data + size;
    while (self->failure == NULL && !self->stopped) {
        if (self->opcode && self->remaining) {
            size_t here = (size_t)(end - data);
            if (here == 0) break;
            if ((uint64_t)here > self->remaining) here = (size_t)self->remaining;
            if (self->assembly != NULL) {
                Py_ssize_t taken = through(self, data, here, emit, to);
                if (taken < 0) return -1;
                data += taken;
                if (self->expanded > at_once) break;
            } else if (self->fin && self->received == 0 && here == self->remaining && !self->streaming) {
                PyObject *message = whole(self, self->opcode, data, here, self->key);
                self->remaining = 0;
                self->opcode = 0;
                data += here;
                if (message == NULL ? self->failure == NULL : emit(to, message) < 0) return -1;
            } else {
                if (reserve(self, here) < 0 || arrived(self, data, here, emit, to) < 0) return -1;
                data += here;
            }
            continue;
        }
        if (data == end || self->budget <= 0) break;
        if (self->tail_size == 0 && self->opcode == 0 && !self->streaming && !self->always) {
            const unsigned char *after = short_way(self, data, end, emit, to);
            if (after == NULL) return -1;
            if (after != data) {
                data = after;
                continue;
            }
        }
        /* A header, or a control frame: what is cut off waits in `tail`, where it is looked at as it grows. */
        const unsigned char *at = self->tail_size ? self->tail : data;
        size_t have = self->tail_size ? (size_t)self->tail_size : (size_t)(end - data), need;
        if (self->tail_size) {
            while ((need = needed(self, self->tail, have)) > have && data < end) {
                size_t more = need - have < (size_t)(end - data) ? need - have : (size_t)(end - data);
                if (have + more > sizeof self->tail) more = sizeof self->tail - have; /* a control frame too long */
                if (more == 0) break;
                memcpy(self->tail + have, data, more);
                data += more;
                have += more;
                self->tail_size = (int)have;
            }
        }
        need = needed(self, at, have);
        if (have >= 2 && frame(self, at, have) < 0) return -1;
        if (self->failure != NULL || self->stopped) break;
        if (have < need) {
            if (at == data) {
                memcpy(self->tail, data, have);
                self->tail_size = (int)have;
            }
            data = end;
            break;
        }
        self->budget--;
        if (at == data)
            data += need;
        else
            self->tail_size = 0;
        if (self->opcode && !self->remaining) { /* a data frame without a payload; after a control frame nothing */
            if ((at[0] & 0x0F) < CLOSE) {
                if (self->assembly != NULL ? through(self, data, 0, emit, to) < 0 : finish(self, emit, to) < 0) return -1;
                if (self->expanded > at_once) break;
            }
        }
    }
    if (self->failure == NULL && !self->stopped && (self->expanded > at_once || self->budget <= 0) && data < end) {
        PyObject *rest = own_bytes((const char *)data, end - data); /* it may grow */
        if (rest == NULL) return -1;
        Py_XSETREF(self->rest, rest);
        self->behind = 1;
    }
    return 0;
}

/* The end of a call: parts of a message that is streamed, and a failure. */
static int conclude(Decoder *self, Emit emit, void *to) {
    if (self->streaming && !(self->failure != NULL && PyObject_IsInstance(self->failure, codec_names.InvalidUTF8))) {
        PyObject *item = part(self);
        if (item == NULL ? PyErr_Occurred() != NULL : emit(to, item) < 0) return -1;
    }
    if (self->failure != NULL && !self->stopped) stop(self);
    return 0;
}

int decoder_feed(Decoder *self, const unsigned char *data, size_t size, Emit emit, void *to) {
    self->called = 0;
    self->behind = 0;
    self->expanded = 0;
    self->budget = frames_at_once;
    if (self->stopped) return 0;
    if (self->rest != NULL) {
        PyObject *all = self->rest;
        self->rest = NULL;
        Py_ssize_t before = PyBytes_GET_SIZE(all);
        if (size && _PyBytes_Resize(&all, before + size) < 0) return -1;
        memcpy(PyBytes_AS_STRING(all) + before, data, size);
        int result = feed(self, (unsigned char *)PyBytes_AS_STRING(all), PyBytes_GET_SIZE(all), emit, to);
        Py_DECREF(all);
        if (result < 0) return -1;
    } else if (feed(self, data, size, emit, to) < 0) {
        return -1;
    }
    return conclude(self, emit, to);
}

unsigned char *decoder_room(Decoder *self, size_t least, size_t *size) {
    if (self->stopped || self->streaming || self->assembly != NULL || self->rest != NULL || self->opcode == 0
        || self->remaining < least || reserve(self, least) < 0)
        return NULL;
    size_t room = (size_t)PyBytes_GET_SIZE(self->bytes) - self->size;
    *size = (uint64_t)room > self->remaining ? (size_t)self->remaining : room;
    return (unsigned char *)PyBytes_AS_STRING(self->bytes) + self->size;
}

int decoder_expects(Decoder *self, PyObject *bytes, const unsigned char *at, size_t size) {
    return self->bytes == bytes && !self->stopped && !self->streaming && self->assembly == NULL && self->opcode
        && size <= self->remaining && (unsigned char *)PyBytes_AS_STRING(bytes) + self->size == at;
}

int decoder_fill(Decoder *self, size_t size, Emit emit, void *to) {
    self->called = 0;
    self->expanded = 0;
    unsigned char *data = (unsigned char *)PyBytes_AS_STRING(self->bytes) + self->size;
    if (arrived(self, data, size, emit, to) < 0) return -1;
    return conclude(self, emit, to);
}

/* The type. */

static PyObject *py_decode(Decoder *self, PyObject *data) {
    PyObject *messages = PyList_New(0);
    if (messages == NULL) return NULL;
    Py_buffer view;
    PyObject *octets = NULL;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        if (!PyMemoryView_Check(data)) goto failed;
        PyErr_Clear();
        if ((octets = PyObject_CallOneArg(codec_names.octets_of, data)) == NULL
            || PyObject_GetBuffer(octets, &view, PyBUF_SIMPLE) < 0)
            goto failed;
    }
    int result = decoder_feed(self, view.buf, view.len, emit_to_list, messages);
    PyBuffer_Release(&view);
    Py_XDECREF(octets);
    if (result == 0) return messages;
    octets = NULL;
failed:
    Py_XDECREF(octets);
    Py_DECREF(messages);
    return NULL;
}

static PyObject *py_stop(Decoder *self, PyObject *Py_UNUSED(unused)) {
    stop(self);
    Py_RETURN_NONE;
}

static PyObject *py_end(Decoder *self, PyObject *Py_UNUSED(unused)) {
    stop(self);
    Py_XSETREF(self->on_control, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

static PyObject *py_stream(Decoder *self, PyObject *on) {
    int wanted = PyObject_IsTrue(on);
    if (wanted < 0) return NULL;
    self->streaming = wanted && !self->stopped;
    PyObject *item = self->streaming ? part(self) : NULL;
    if (item != NULL || PyErr_Occurred()) return item;
    Py_RETURN_NONE;
}

static int set_pipeline(Decoder *self, PyObject *pipeline) {
    Py_XSETREF(self->pipeline, Py_NewRef(pipeline));
    self->rsv = self->always = 0;
    if (pipeline == Py_None) return 0;
    PyObject *rsv = PyObject_GetAttrString(pipeline, "rsv"), *always = PyObject_GetAttrString(pipeline, "always");
    if (rsv != NULL && always != NULL) {
        self->rsv = (char)PyLong_AsLong(rsv);
        self->always = (char)PyObject_IsTrue(always);
    }
    Py_XDECREF(rsv);
    Py_XDECREF(always);
    return PyErr_Occurred() ? -1 : 0;
}

static int set_max_size(Decoder *self, PyObject *max_size) {
    self->max_size = -1;
    if (max_size == Py_None) return 0;
    int overflow;
    self->max_size = PyLong_AsLongLongAndOverflow(max_size, &overflow);
    if (overflow > 0) self->max_size = -1; /* more than a frame can have */
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(keywords)) {
    Decoder *self = (Decoder *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->on_control = Py_NewRef(Py_None);
        self->pipeline = Py_NewRef(Py_None);
        self->max_size = -1;
    }
    return (PyObject *)self;
}

static int decoder_init(Decoder *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"on_control", "masked", "max_size", "pipeline", "max_fragments", NULL};
    PyObject *on_control, *max_size = NULL, *pipeline = Py_None;
    int masked = -1;
    self->max_fragments = (int)max_fragments;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$pOOi:Decoder", names, &on_control, &masked, &max_size, &pipeline,
                                     &self->max_fragments))
        return -1;
    if (masked < 0 || max_size == NULL) {
        PyErr_SetString(PyExc_TypeError, "Decoder() needs the keyword arguments masked and max_size");
        return -1;
    }
    Py_XSETREF(self->on_control, Py_NewRef(on_control));
    self->masked = (char)masked;
    return set_max_size(self, max_size) < 0 || set_pipeline(self, pipeline) < 0 ? -1 : 0;
}

static int decoder_traverse(Decoder *self, visitproc visit, void *arg) {
    Py_VISIT(self->on_control);
    Py_VISIT(self->pipeline);
    Py_VISIT(self->failure);
    Py_VISIT(self->assembly);
    return 0;
}

static int decoder_clear(Decoder *self) {
    Py_CLEAR(self->on_control);
    Py_CLEAR(self->pipeline);
    Py_CLEAR(self->failure);
    Py_CLEAR(self->assembly);
    Py_CLEAR(self->bytes);
    Py_CLEAR(self->rest);
    return 0;
}

static void decoder_dealloc(Decoder *self) {
    PyObject_GC_UnTrack(self);
    decoder_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *none_or(PyObject *object) {
    return object == NULL ? Py_None : object;
}

/* All there is to a Decoder, so that it can be written down (DESIGN.md section 2). */
static PyObject *py_getstate(Decoder *self, PyObject *Py_UNUSED(unused)) {
    PyObject *bytes = self->bytes == NULL ? Py_NewRef(Py_None) : own_bytes(PyBytes_AS_STRING(self->bytes), self->size);
    if (bytes == NULL) return NULL;
    return Py_BuildValue(
        "OOOONOnnKLLy#y#y#(iiiiiii)", self->on_control, self->pipeline, none_or(self->failure), none_or(self->assembly),
        bytes, none_or(self->rest), (Py_ssize_t)self->size, (Py_ssize_t)self->received,
        (unsigned long long)self->remaining, (long long)self->max_size, (long long)self->expanded,
        (char *)&self->utf8, (Py_ssize_t)sizeof self->utf8, (char *)self->key, (Py_ssize_t)4,
        (char *)self->tail, (Py_ssize_t)self->tail_size,
        self->opcode, self->fragments, self->masked, self->fin, self->streaming, self->stopped | self->behind << 1,
        self->max_fragments);
}

static PyObject *some(PyObject *object) {
    return object == Py_None ? NULL : Py_NewRef(object);
}

static PyObject *py_setstate(Decoder *self, PyObject *state) {
    PyObject *on_control, *pipeline, *failure, *assembly, *bytes, *rest;
    Py_ssize_t size, received, utf8_size, key_size, tail_size;
    unsigned long long remaining;
    long long max_size, expanded;
    const char *utf8, *key, *tail;
    int masked, fin, streaming, flags, opcode, fragments, most;
    Utf8 begun;
    if (!PyTuple_Check(state)) {
        PyErr_SetString(PyExc_TypeError, "not the state of a Decoder");
        return NULL;
    }
    if (!PyArg_ParseTuple(state, "OOOOOOnnKLLy#y#y#(iiiiiii)", &on_control, &pipeline, &failure, &assembly, &bytes, &rest,
                          &size, &received, &remaining, &max_size, &expanded, &utf8, &utf8_size, &key, &key_size, &tail,
                          &tail_size, &opcode, &fragments, &masked, &fin, &streaming, &flags, &most))
        return NULL;
    if (utf8_size == sizeof begun) memcpy(&begun, utf8, sizeof begun);
    if (utf8_size != sizeof begun || begun.begun > 3 || begun.need > 3 || (size_t)begun.begun > (size_t)size || received < 0
        || opcode < 0 || opcode > BINARY || (opcode == 0 && remaining) || key_size != 4 || tail_size > (Py_ssize_t)sizeof self->tail || size < 0
        || (bytes != Py_None && (!PyBytes_CheckExact(bytes) || PyBytes_GET_SIZE(bytes) < size))
        || (rest != Py_None && !PyBytes_CheckExact(rest)) || (bytes == Py_None && assembly == Py_None && size)) {
        PyErr_SetString(PyExc_ValueError, "not the state of a Decoder");
        return NULL;
    }
    self->opcode = opcode;
    self->fragments = fragments;
    self->max_fragments = most;
    Py_XSETREF(self->on_control, Py_NewRef(on_control));
    if (set_pipeline(self, pipeline) < 0) return NULL;
    Py_XSETREF(self->failure, some(failure));
    Py_XSETREF(self->assembly, some(assembly));
    Py_XSETREF(self->rest, some(rest));
    /* Never the same object as another Decoder's: it is written to. */
    Py_XSETREF(self->bytes, bytes == Py_None ? NULL
                            : own_bytes(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)));
    self->size = size;
    self->received = received;
    self->remaining = remaining;
    self->max_size = max_size;
    self->expanded = expanded;
    memcpy(&self->utf8, utf8, sizeof self->utf8);
    memcpy(self->key, key, 4);
    memcpy(self->tail, tail, tail_size);
    self->tail_size = (int)tail_size;
    self->masked = (char)masked;
    self->fin = (char)fin;
    self->streaming = (char)streaming;
    self->stopped = flags & 1;
    self->behind = (flags >> 1) & 1;
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef decoder_methods[] = {
    {"decode", (PyCFunction)py_decode, METH_O, "Take bytes, return every message that they complete."},
    {"end", (PyCFunction)py_end, METH_NOARGS, "As stop, and let go of on_control."},
    {"stop", (PyCFunction)py_stop, METH_NOARGS, "Look at nothing more, and forget the message that is incomplete."},
    {"stream", (PyCFunction)py_stream, METH_O, "Hand out the next message, or the rest of the present one, in parts."},
    {"__getstate__", (PyCFunction)py_getstate, METH_NOARGS, NULL},
    {"__setstate__", (PyCFunction)py_setstate, METH_O, NULL},
    {NULL},
};

static PyMemberDef decoder_members[] = {
    {"failure", T_OBJECT, offsetof(Decoder, failure), READONLY, "the rule that the peer broke"},
    {"stopped", T_BOOL, offsetof(Decoder, stopped), READONLY, "nothing more is decoded"},
    {"behind", T_BOOL, offsetof(Decoder, behind), READONLY, "some of what came waits"},
    {"expanded", T_LONGLONG, offsetof(Decoder, expanded), READONLY, "octets that extensions made in the last call"},
    {NULL},
};

PyTypeObject DecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "websock._native.speedups.Decoder",
    .tp_doc = "Received bytes to messages; the twin of websock.core.codec.Decoder.",
    .tp_basicsize = sizeof(Decoder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = decoder_new,
    .tp_init = (initproc)decoder_init,
    .tp_dealloc = (destructor)decoder_dealloc,
    .tp_traverse = (traverseproc)decoder_traverse,
    .tp_clear = (inquiry)decoder_clear,
    .tp_methods = decoder_methods,
    .tp_members = decoder_members,
};

/* Messages to bytes. */

size_t frame_header(unsigned char *to, int first, size_t size, int masked) {
    int mask = masked ? 0x80 : 0;
    to[0] = (unsigned char)first;
    if (size < 126) {
        to[1] = (unsigned char)(mask | size);
        return 2;
    }
    if (size < 65536) {
        to[1] = (unsigned char)(mask | 126);
        to[2] = (unsigned char)(size >> 8);
        to[3] = (unsigned char)size;
        return 4;
    }
    to[1] = (unsigned char)(mask | 127);
    for (int i = 0; i < 8; i++) to[2 + i] = (unsigned char)((uint64_t)size >> (56 - 8 * i));
    return 10;
}

enum { PASS_THROUGH = 4096 };

PyObject *py_encode(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *names) {
    long opcode, rsv = 0;
    int masked = -1, fin = 1;
    PyObject *key = Py_None;
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "encode() takes 2 positional arguments, not %zd", count);
        return NULL;
    }
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i), *value = args[count + i];
        if (PyUnicode_CompareWithASCIIString(name, "masked") == 0)
            masked = PyObject_IsTrue(value);
        else if (PyUnicode_CompareWithASCIIString(name, "fin") == 0)
            fin = PyObject_IsTrue(value);
        else if (PyUnicode_CompareWithASCIIString(name, "rsv") == 0)
            rsv = PyLong_AsLong(value);
        else if (PyUnicode_CompareWithASCIIString(name, "key") == 0)
            key = value;
        else
            PyErr_Format(PyExc_TypeError, "encode() got an unexpected keyword argument %R", name);
    }
    opcode = PyLong_AsLong(args[0]);
    if (masked < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "encode() needs the keyword argument masked");
    if (PyErr_Occurred()) return NULL;
    PyObject *payload = PyMemoryView_Check(args[1]) ? PyObject_CallOneArg(codec_names.octets_of, args[1])
                                                    : Py_NewRef(args[1]);
    Py_buffer view;
    if (payload == NULL || PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE) < 0) {
        Py_XDECREF(payload);
        return NULL;
    }
    unsigned char head[MAX_HEADER];
    size_t header = frame_header(head, (int)(opcode | rsv | (fin ? 0x80 : 0)), view.len, masked);
    PyObject *result = NULL, *joined;
    if (!masked && view.len >= PASS_THROUGH) {
        result = Py_BuildValue("y#O", head, (Py_ssize_t)header, payload);
        goto done;
    }
    if (masked) {
        if (key == Py_None) {
            if (new_key(head + header) < 0) goto done;
        } else if (PyBytes_Check(key) && PyBytes_GET_SIZE(key) == 4) {
            memcpy(head + header, PyBytes_AS_STRING(key), 4);
        } else {
            PyErr_SetString(PyExc_ValueError, "a masking key has 4 octets");
            goto done;
        }
        header += 4;
    }
    if ((joined = PyBytes_FromStringAndSize(NULL, header + view.len)) == NULL) goto done;
    unsigned char *to = (unsigned char *)PyBytes_AS_STRING(joined);
    memcpy(to, head, header);
    if (masked)
        mask_copy(to + header, view.buf, view.len, head + header - 4, 0);
    else
        memcpy(to + header, view.buf, view.len);
    result = PyTuple_Pack(1, joined);
    Py_DECREF(joined);
done:
    PyBuffer_Release(&view);
    Py_DECREF(payload);
    return result;
}
