"""The heads of HTTP requests and responses, as objects."""

from __future__ import annotations

import dataclasses
import http
from email.utils import formatdate

from .datastructures import Headers
from .typing import HeadersLike

__all__ = ["Request", "Response", "make_response"]


@dataclasses.dataclass
class Request:
    """The head of an HTTP request.

    Attributes:
        path: the request target: path and query.
        headers: its header fields.
        method: ``GET`` for a WebSocket handshake (RFC 6455 section 4.1).
        http_version: ``1.1`` for a WebSocket handshake.
    """

    path: str
    headers: Headers
    method: str = "GET"
    http_version: str = "1.1"


@dataclasses.dataclass
class Response:
    """An HTTP response. For the answer 101 the body is empty."""

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes = b""


def make_response(status: int, text: str, headers: HeadersLike | None = None) -> Response:
    """A plain text response with the headers that it needs; any of them may be replaced afterwards.

    Raises:
        ValueError: not an HTTP status of an answer that ends the request.
    """
    try:
        status = http.HTTPStatus(status)
    except ValueError:
        if not 200 <= status <= 599:
            raise ValueError(f"{status!r} isn't the status of an HTTP response") from None
    if status < 200:
        raise ValueError(f"{int(status)} isn't the status of a response that ends the request")
    body = text.encode()
    fields = Headers(
        [
            ("Date", formatdate(usegmt=True)),
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("Content-Type", "text/plain; charset=utf-8"),
        ]
    )
    own = Headers(headers)
    for name in own:
        del fields[name]
    fields.update(own)
    return Response(int(status), status.phrase if isinstance(status, http.HTTPStatus) else "", fields, body)
