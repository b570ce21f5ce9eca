"""Picks the native twins where they were built, and the Python ones elsewhere or with ``WEBSOCK_PURE=1``.

Whether they are in use, ``accelerated.py`` has found out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..accelerated import ACCELERATED, REASON
from ..exceptions import InvalidUTF8, ProtocolError
from ..spec import MAX_FRAGMENTS
from . import codec, masking
from .header import judge
from .queue import Queue

__all__ = ["ACCELERATED", "REASON", "Decoder", "Queue", "apply_mask", "encode", "new_key"]

Decoder = codec.Decoder
encode = codec.encode
apply_mask = masking.apply_mask
new_key = masking.new_key

if ACCELERATED and not TYPE_CHECKING:
    from .._native import speedups

    def _judge(
        first: int, second: int, length: int, masked: int, fragmented: int, allowed_rsv: int, room: int | None
    ) -> ProtocolError | None:
        return judge(
            first,
            second,
            length,
            masked=bool(masked),
            fragmented=bool(fragmented),
            allowed_rsv=allowed_rsv,
            room=room,
        )

    # Each rule stands in Python: the native half only finds that one is broken.
    speedups.bind_codec(
        _judge, codec.invalid_text, codec.too_big, codec.too_many_fragments, codec.Assembly, codec.Fragment,
        ProtocolError, InvalidUTF8, masking.octets_of, os.urandom, codec.extension_failed,
        MAX_FRAGMENTS, codec.AT_ONCE, codec.SMALL_STEP, codec.FRAMES_AT_ONCE,
    )  # fmt: skip
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=speedups.forget_keys)
    Decoder = speedups.Decoder
    Queue = speedups.Queue
    encode = speedups.encode
    apply_mask = speedups.apply_mask
    new_key = speedups.new_key
