"""A DEFLATE decompressor (RFC 1951) written to be read, which refuses to look further back than its window.

zlib does not notice when data refers back further than the window that was agreed on, as long as it has the octets.
"""

from __future__ import annotations

LENGTHS = [
    *range(3, 11), *range(11, 19, 2), *range(19, 35, 4), *range(35, 67, 8), *range(67, 131, 16),
    *range(131, 258, 32), 258,
]  # fmt: skip
LENGTH_BITS = [0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0]
DISTANCES = [1, 2, *(2**bits + half * 2 ** (bits - 1) + 1 for bits in range(1, 15) for half in (0, 1))]
DISTANCE_BITS = [0, 0, 0, 0, *(bits for bits in range(1, 14) for _ in range(2))]
ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

Code = dict[tuple[int, int], int]


def huffman(lengths: list[int]) -> Code:
    """RFC 1951 section 3.2.2: (length, code) to symbol."""
    code, table = 0, {}
    for length in range(1, 16):
        code <<= 1
        for symbol, its in enumerate(lengths):
            if its == length:
                table[length, code] = symbol
                code += 1
    return table


FIXED = huffman([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), huffman([5] * 30)


class Inflater:
    """Messages of one direction of permessage-deflate.

    Attributes:
        furthest: the greatest distance that was referred back.
    """

    def __init__(self, bits: int, *, takeover: bool) -> None:
        self.window = 2**bits
        self.takeover = takeover
        self.furthest = 0
        self.history = bytearray()

    def message(self, payload: bytes) -> bytes:
        """RFC 7692 section 7.2.2."""
        if not self.takeover:
            self.history.clear()
        start = len(self.history)
        self.data = payload + b"\x00\x00\xff\xff"
        self.bit = 0
        while self.bit < 8 * len(self.data):
            self.block()
        return bytes(self.history[start:])

    def take(self, count: int) -> int:
        value = 0
        for i in range(count):
            value |= (self.data[self.bit >> 3] >> (self.bit & 7) & 1) << i
            self.bit += 1
        return value

    def symbol(self, code: Code) -> int:
        bits = 0
        for length in range(1, 16):
            bits = bits << 1 | self.take(1)
            if (length, bits) in code:
                return code[length, bits]
        raise ValueError("no such code")

    def block(self) -> None:
        assert self.take(1) == 0, "BFINAL"
        kind = self.take(2)
        if kind == 0:
            self.bit = (self.bit + 7) & ~7
            length, complement = self.take(16), self.take(16)
            assert length ^ complement == 0xFFFF
            for _ in range(length):
                self.history.append(self.take(8))
        elif kind == 1:
            self.compressed(*FIXED)
        elif kind == 2:
            self.compressed(*self.tables())
        else:
            raise ValueError("no such kind of block")

    def tables(self) -> tuple[Code, Code]:
        """RFC 1951 section 3.2.7."""
        literals, distances, count = self.take(5) + 257, self.take(5) + 1, self.take(4) + 4
        its = [0] * 19
        for i in range(count):
            its[ORDER[i]] = self.take(3)
        code = huffman(its)
        lengths: list[int] = []
        while len(lengths) < literals + distances:
            symbol = self.symbol(code)
            if symbol < 16:
                lengths.append(symbol)
            elif symbol == 16:
                lengths += [lengths[-1]] * (3 + self.take(2))
            else:
                lengths += [0] * (3 + self.take(3) if symbol == 17 else 11 + self.take(7))
        return huffman(lengths[:literals]), huffman(lengths[literals:])

    def compressed(self, literals: Code, distances: Code) -> None:
        while (symbol := self.symbol(literals)) != 256:
            if symbol < 256:
                self.history.append(symbol)
                continue
            length = LENGTHS[symbol - 257] + self.take(LENGTH_BITS[symbol - 257])
            symbol = self.symbol(distances)
            distance = DISTANCES[symbol] + self.take(DISTANCE_BITS[symbol])
            assert distance <= self.window, f"refers back by {distance} octets, the window has {self.window}"
            assert distance <= len(self.history), "refers to what was before the beginning"
            self.furthest = max(self.furthest, distance)
            for _ in range(length):
                self.history.append(self.history[-distance])
