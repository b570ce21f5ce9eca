/* UTF-8 in pieces: invalid octets are found at once, also inside a character (RFC 3629 section 4). */
#include "native.h"

const char *utf8_feed(Utf8 *state, const unsigned char *data, size_t size) {
    size_t i = 0;
    while (i < size) {
        if (state->need == 0) {
            while (i + 8 <= size) {
                uint64_t word;
                memcpy(&word, data + i, 8);
                if (word & 0x8080808080808080ULL) break;
                i += 8;
            }
            while (i < size && data[i] < 0x80) i++;
            if (i == size) break;
            unsigned char lead = data[i++];
            state->wide = 1;
            if (lead >= 0xC2 && lead < 0xE0 && i < size && (data[i] & 0xC0) == 0x80) { /* most characters, at once */
                i++;
                continue;
            }
            if (lead > 0xE0 && lead < 0xED && size - i >= 2 && (data[i] & 0xC0) == 0x80
                && (data[i + 1] & 0xC0) == 0x80) {
                i += 2;
                continue;
            }
            if (lead < 0xC2 || lead > 0xF4) return "invalid start byte";
            state->need = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
            state->low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
            state->high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
            state->begun = 1;
        } else {
            if (data[i] < state->low || data[i] > state->high) return "invalid continuation byte";
            i++;
            state->low = 0x80;
            state->high = 0xBF;
            state->need--;
            state->begun = state->need ? state->begun + 1 : 0;
        }
    }
    return NULL;
}
