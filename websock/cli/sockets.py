"""``websock sockets``: the sockets of a process, for people or as JSON."""

from __future__ import annotations

import json
import sys

from ..net.address import Address
from ..net.info import SocketRow, sockets_of
from . import Exit, complain, explain, forget_output
from .terminal import inert

__all__ = ["show"]

_HEAD = ("FD", "KIND", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE")
_NUMBERS = frozenset({0, 3, 4})  # columns
_KINDS = ("tcp", "udp", "unix", "unixpacket", "unixgram")


def show(pid: int | None, *, as_json: bool) -> Exit:
    """Print the sockets of a process; of this one without a number."""
    try:
        rows = sorted(sockets_of(pid), key=_order)
    except (OSError, ValueError) as error:
        complain("sockets", explain(error))
        return Exit.FAILED
    if as_json:
        lines = [json.dumps([_fields(row) for row in rows], indent=2)]
    elif rows:
        lines = _table([_HEAD, *map(_cells, rows)])
    else:
        complain("sockets", "no sockets")
        return Exit.OK
    try:
        sys.stdout.writelines(line + "\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as with ``| head -1``
        forget_output()
    return Exit.OK


def _order(row: SocketRow) -> tuple[int, str, bool, str, str, int]:
    """By kind; those that listen first; by address."""
    rank = _KINDS.index(row.kind) if row.kind in _KINDS else len(_KINDS)
    return rank, row.kind, row.state != "LISTEN", _sortable(row.local), _sortable(row.remote), row.fd


def _sortable(address: Address | None) -> str:
    return "" if address is None else f"{address.host} {address.port:5} {address.path}"


def _cells(row: SocketRow) -> tuple[str, ...]:
    receive, send = ("-" if queue is None else str(queue) for queue in (row.receive_queue, row.send_queue))
    return str(row.fd), row.kind, row.state, receive, send, _spell(row.local), _spell(row.remote)


def _spell(address: Address | None) -> str:
    """Without the scheme, which is the kind; "-" without a name."""
    if address is None or (address.is_unix and not address.path):
        return "-"
    return inert(str(address).removeprefix(f"{address.scheme}:").removeprefix("//"))


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _fields(row: SocketRow) -> dict[str, object]:
    return {
        "fd": row.fd,
        "kind": row.kind,
        "state": row.state,
        "local": None if row.local is None else str(row.local),
        "remote": None if row.remote is None else str(row.remote),
        "receive_queue": row.receive_queue,
        "send_queue": row.send_queue,
        "inode": row.inode,
    }
