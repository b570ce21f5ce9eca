"""What an address means, asked without holding up the event loop."""

from __future__ import annotations

import asyncio
import functools

from .. import resolving as blocking
from ..address import Address
from ..resolving import Target

__all__ = ["resolve"]


async def resolve(address: str | Address, *, passive: bool = False, family: int = 0) -> list[Target]:
    """As `websock.net.resolve`; a name is looked up in a thread of the loop's executor.

    When it is cancelled the thread goes on for as long as the system's name service takes, and its answer is dropped.

    Raises:
        AddressError, socket.gaierror, NotOnThisSystem, OSError: as there.
    """
    address = Address.parse(address)
    ask = functools.partial(blocking.resolve, address, passive=passive, family=family)
    if not blocking.asks_names(address):
        return ask()
    return await asyncio.get_running_loop().run_in_executor(None, ask)
