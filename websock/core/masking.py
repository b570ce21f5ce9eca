"""Masking (RFC 6455 section 5.3): XOR with a key of four octets, and where the keys come from."""

from __future__ import annotations

import os

from ..typing import Buffer

__all__ = ["apply_mask", "new_key"]

# Below this size one XOR of two big integers is faster, above it four strided table look-ups are: measured on
# CPython 3.11, where they cross between 2 and 4 KiB.
CROSSING = 3072

# _TABLES[k] maps every octet b to b ^ k.
_TABLES = [bytes(octet ^ key for octet in range(256)) for key in range(256)]

_POOL_BYTES = 4096

# One pool for the process: `list.pop` hands a key to one thread only, with or without the GIL, and one system call
# pays for a thousand keys. A child process must never use its parent's keys, so a fork empties the pool.
_pool: list[bytes] = []


def new_key() -> bytes:
    """A masking key that nobody can predict (RFC 6455 section 10.3): four octets of ``os.urandom``, used once."""
    try:
        return _pool.pop()
    except IndexError:
        octets = os.urandom(_POOL_BYTES)
        _pool.extend(octets[i : i + 4] for i in range(4, _POOL_BYTES, 4))
        return octets[:4]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)


def octets_of(view: memoryview) -> Buffer:
    """The octets of a view, whatever its items and dimensions are."""
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def apply_mask(data: Buffer, key: bytes) -> bytes:
    """Mask or unmask `data` (the operation is its own inverse) with the four octets `key`.

    Raises:
        ValueError: `key` has not four octets.
    """
    if len(key) != 4:
        raise ValueError(f"a masking key has 4 octets, not {len(key)}")
    if isinstance(data, memoryview):
        data = octets_of(data)
    size = len(data)
    if size < CROSSING:
        pad = (key * ((size >> 2) + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")
    octets = bytes(data)
    masked = bytearray(size)
    for offset in range(4):
        masked[offset::4] = octets[offset::4].translate(_TABLES[key[offset]])
    return bytes(masked)
