/* Masking (RFC 6455 section 5.3), and where the keys come from. */
#include "native.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define VECTOR __m128i
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define STORE(p, v) _mm_storeu_si128((__m128i *)(p), (v))
#define XOR(a, b) _mm_xor_si128((a), (b))
#define OR(a, b) _mm_or_si128((a), (b))
#define SPREAD(word) _mm_set1_epi32((int)(word))
#define ZERO() _mm_setzero_si128()
#define HIGH_BITS(v) (_mm_movemask_epi8(v) != 0)
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define VECTOR uint8x16_t
#define LOAD(p) vld1q_u8(p)
#define STORE(p, v) vst1q_u8((p), (v))
#define XOR(a, b) veorq_u8((a), (b))
#define OR(a, b) vorrq_u8((a), (b))
#define SPREAD(word) vreinterpretq_u8_u32(vdupq_n_u32(word))
#define ZERO() vdupq_n_u8(0)
#define HIGH_BITS(v) (vmaxvq_u8(v) > 127)
#endif

static uint32_t turned(uint32_t word, size_t turn) {
    unsigned by = 8 * (turn & 3), back = (32 - by) & 31;
    return PY_LITTLE_ENDIAN ? word >> by | word << back : word << by | word >> back;
}

/* XOR `size` octets with the key, of which `turn` octets are used up. Returns whether one of the results is above 127.
 * `to` may be `from`. The last octets are read first and written last: they may overlap the step before them, and no
 * loop is needed for what is left over. memcpy stands for loads of any alignment, and costs nothing. */
int mask_copy(unsigned char *to, const unsigned char *from, size_t size, const unsigned char key[4], size_t turn) {
    size_t i = 0;
    if (size < 8) {
        unsigned all = 0;
        for (; i < size; i++) all |= to[i] = from[i] ^ key[(turn + i) & 3];
        return all > 127;
    }
    uint32_t word, last_word;
    memcpy(&word, key, 4);
    word = turned(word, turn);
    last_word = turned(word, size);
#ifdef VECTOR
    if (size >= 16) {
        VECTOR pad = SPREAD(word), last = XOR(LOAD(from + size - 16), SPREAD(last_word)), seen = last;
        for (; i + 64 <= size; i += 64) {
            VECTOR a = XOR(LOAD(from + i), pad), b = XOR(LOAD(from + i + 16), pad);
            VECTOR c = XOR(LOAD(from + i + 32), pad), d = XOR(LOAD(from + i + 48), pad);
            STORE(to + i, a);
            STORE(to + i + 16, b);
            STORE(to + i + 32, c);
            STORE(to + i + 48, d);
            seen = OR(seen, OR(OR(a, b), OR(c, d)));
        }
        for (; i + 16 < size; i += 16) {
            VECTOR a = XOR(LOAD(from + i), pad);
            STORE(to + i, a);
            seen = OR(seen, a);
        }
        STORE(to + size - 16, last);
        return HIGH_BITS(seen);
    }
#endif
    uint64_t pad = (uint64_t)word << 32 | word, last, all;
    memcpy(&last, from + size - 8, 8);
    all = last ^= (uint64_t)last_word << 32 | last_word;
    for (; i + 8 < size; i += 8) {
        uint64_t eight;
        memcpy(&eight, from + i, 8);
        all |= eight ^= pad;
        memcpy(to + i, &eight, 8);
    }
    memcpy(to + size - 8, &last, 8);
    return (all & 0x8080808080808080ULL) != 0;
}

PyObject *py_apply_mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "apply_mask() takes 2 arguments, not %zd", count);
        return NULL;
    }
    Py_buffer data, key;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        if (!PyMemoryView_Check(args[0])) return NULL;
        PyErr_Clear(); /* a view that is not contiguous */
        PyObject *octets = PyObject_CallOneArg(codec_names.octets_of, args[0]);
        if (octets == NULL) return NULL;
        PyObject *again[2] = {octets, args[1]};
        result = py_apply_mask(NULL, again, 2);
        Py_DECREF(octets);
        return result;
    }
    if (PyObject_GetBuffer(args[1], &key, PyBUF_SIMPLE) == 0) {
        if (key.len != 4) {
            PyErr_Format(PyExc_ValueError, "a masking key has 4 octets, not %zd", key.len);
        } else if ((result = PyBytes_FromStringAndSize(NULL, data.len)) != NULL) {
            mask_copy((unsigned char *)PyBytes_AS_STRING(result), data.buf, data.len, key.buf, 0);
        }
        PyBuffer_Release(&key);
    }
    PyBuffer_Release(&data);
    return result;
}

/* As the Python twin: keys nobody can predict (section 10.3), a thousand for one system call, none shared with a
 * child process. */
static unsigned char pool[4096];
static size_t pool_at = sizeof pool;

int new_key(unsigned char key[4]) {
    if (pool_at == sizeof pool) {
        PyObject *octets = PyObject_CallFunction(codec_names.urandom, "n", (Py_ssize_t)sizeof pool);
        if (octets == NULL) return -1;
        memcpy(pool, PyBytes_AS_STRING(octets), sizeof pool);
        Py_DECREF(octets);
        pool_at = 0;
    }
    memcpy(key, pool + pool_at, 4);
    memset(pool + pool_at, 0, 4);
    pool_at += 4;
    return 0;
}

PyObject *py_new_key(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    unsigned char key[4];
    return new_key(key) < 0 ? NULL : PyBytes_FromStringAndSize((char *)key, 4);
}

PyObject *py_forget_keys(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    pool_at = sizeof pool;
    Py_RETURN_NONE;
}
