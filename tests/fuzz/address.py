"""Addresses of sockets: what is accepted has one spelling, which is accepted again.

Input: the address, in UTF-8 with surrogates; else in Latin-1.
"""

from __future__ import annotations

from typing import Final

from websock.net.address import SCHEMES, Address
from websock.net.errors import AddressError

from .harness import text_of

PERMITTED: Final = (AddressError,)


def check(data: bytes) -> None:
    text = text_of(data)
    try:
        address = Address.parse(text)
    except PERMITTED as error:
        str(error)
        return
    assert address.scheme in SCHEMES and 0 <= address.port < 65536
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address, str(address)
    assert (address.secure, address.is_unix) == (address.scheme == "tls", address.scheme.startswith("unix"))
