"""The HTTP/1.1 of an opening handshake, over h11, without any I/O.

h11 checks the grammar (RFC 9110, RFC 9112) and counts the bytes of a head; this file turns its events into `Request`
and `Response`, and its errors into ours.
"""

from __future__ import annotations

import sys
from typing import Any

import h11

from ..datastructures import Headers, check_text, headers_of
from ..exceptions import HeadersTooLarge, InvalidMessage
from ..http11 import Request, Response
from ..spec import MAX_HEADERS, MAX_REFUSAL_BODY
from ..typing import Buffer

__all__ = ["ClientHTTP", "ServerHTTP"]


class ServerHTTP:
    """The server's half: bytes to one `Request`, one `Response` to bytes."""

    def __init__(self, max_header_size: int, max_headers: int = MAX_HEADERS) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=max_header_size)
        self._max_size = max_header_size
        self._max_headers = max_headers
        self._received = 0
        self._first = b""  # its first octets: a head that is too long is refused before h11 has read them

    def receive(self, data: Buffer) -> Request | None:
        """Take bytes; the request once its head is complete.

        Raises:
            InvalidMessage: it is not HTTP, or has a body, or no Host header or two (RFC 9112 section 3.2).
            HeadersTooLarge: too many bytes or fields.
        """
        # h11 parses all that it has: it gets no more than a head may have, and an octet by which it is too long.
        part = data[: max(0, self._max_size + 1 - self._received)]
        if self._received < len(_HEAD):
            self._first += bytes(part[: len(_HEAD) - self._received])
        event = _feed(self._h11, part)
        self._received += len(data)
        if not isinstance(event, h11.Request):
            return None
        if len(part) < len(data):
            self._h11.receive_data(bytes(data[len(part) :]))
        # h11 limits a head that is incomplete; one that came whole in a large read is for us to measure.
        if self._received > self._max_size and self._received - len(self._h11.trailing_data[0]) > self._max_size:
            raise HeadersTooLarge(f"an HTTP head of more than {self._max_size} bytes")
        headers = _headers(event, self._max_headers)
        request = Request(
            event.target.decode("ascii"), headers, event.method.decode("ascii"), event.http_version.decode()
        )
        # A body is refused, never read: what follows the head belongs to the WebSocket connection.
        if not _BODY.isdisjoint(headers) and (
            "Transfer-Encoding" in headers or headers.get_all("Content-Length") != ["0"]
        ):
            raise InvalidMessage("a request with a body can't be answered here")
        return request

    def receive_more(self, data: Buffer) -> None:
        """Take bytes that came before the request was answered; they follow the answer.

        Raises:
            HeadersTooLarge: more of them than a head may have.
        """
        self._h11.receive_data(bytes(data))
        if len(self._h11.trailing_data[0]) > self._max_size:
            raise HeadersTooLarge("too much data before the handshake was answered")

    def upgrade(self, headers: Headers, *, ours: bool = False) -> tuple[list[Buffer], bytes]:
        """The bytes of the answer 101, and those that came behind the request.

        With `ours`, the request was checked to be a handshake, and the headers are what we answer it with.

        Raises:
            ValueError: h11 cannot send it; the message says why.
        """
        head = f"HTTP/1.1 101 Switching Protocols\r\n{headers}"
        if ours and head.isascii():
            # There is nothing left in it for h11 to find, which takes as long for that as for reading the request.
            data = head.encode()
        else:
            _next(self._h11)  # the end of the request, before which h11 does not switch
            data = _sent(
                self._h11,
                h11.InformationalResponse,
                status_code=101,
                headers=_pairs(headers),
                reason=b"Switching Protocols",
            )
        return [data], self._h11.trailing_data[0]

    def respond(self, response: Response) -> list[Buffer]:
        """The bytes of any other answer, after which the connection is closed.

        Raises:
            ValueError: h11 cannot send it; the message says why.
        """
        fields = [(name, value) for name, value in response.headers.raw_items() if name.lower() not in _HOP]
        body = b"" if response.status_code in (204, 304) else response.body
        if response.status_code != 204:
            fields.append(("Content-Length", str(len(body))))
        fields.append(("Connection", "close"))
        check_text("the reason phrase", response.reason_phrase)
        data = _sent(
            self._h11,
            h11.Response,
            status_code=response.status_code,
            headers=_pairs(Headers(fields)),
            reason=response.reason_phrase.encode("latin-1", "replace"),
        )
        if body and self._first != _HEAD:
            data += _sent(self._h11, h11.Data, data=body)
        return [data]


_HEAD = b"HEAD "  # its answer has no body (RFC 9110 section 9.3.2)

# What announces a body (RFC 9112 section 6).
_BODY = frozenset({"content-length", "transfer-encoding"})

# These the framing of the answer decides, not its author (RFC 9112 section 6).
_HOP = frozenset({"content-length", "connection", "transfer-encoding", "keep-alive"})


class ClientHTTP:
    """The client's half: one `Request` to bytes, bytes to one `Response`."""

    def __init__(self, max_header_size: int) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_header_size)
        self._max_size = max_header_size
        self._received = 0
        self._response: Response | None = None

    def request(self, request: Request) -> bytes:
        """The bytes of the request.

        Raises:
            ValueError: h11 cannot send it; the message says why.
        """
        head = _sent(
            self._h11, h11.Request, method=request.method, target=request.path, headers=_pairs(request.headers)
        )
        return head + _sent(self._h11, h11.EndOfMessage)

    def receive(self, data: Buffer, eof: bool = False) -> Response | None:
        """Take bytes; the response once it is complete. Of a refusal's body the beginning is kept.

        Raises:
            InvalidMessage: it is not HTTP, or ends too early.
            HeadersTooLarge: too many bytes or fields.
        """
        self._received += len(data)
        try:
            event = _feed(self._h11, data, eof)
            while not (event is h11.NEED_DATA or event is h11.PAUSED or event is None):
                if done := self._take(event):
                    return done
                event = _next(self._h11)
        except InvalidMessage:
            if self._response is None and not eof:
                raise
            if self._response is None:  # h11 has words of its own for that, about its states
                raise InvalidMessage("the connection was closed before the response was complete") from None
            return self._response  # a body cut short: its beginning tells more than an error would
        if eof and self._response is None:
            raise InvalidMessage("the connection was closed before the response was complete")
        return self._response if eof else None

    def _take(self, event: Any) -> Response | None:
        """The response, once it is complete or has become too long."""
        if isinstance(event, h11.InformationalResponse | h11.Response):
            if self._received - len(self._h11.trailing_data[0]) > self._max_size and self._response is None:
                raise HeadersTooLarge(f"an HTTP head of more than {self._max_size} bytes")
            if event.http_version != b"1.1" and event.status_code == 101:
                raise InvalidMessage("the answer 101 must be HTTP/1.1")
            if isinstance(event, h11.InformationalResponse):
                return _response(event) if event.status_code == 101 else None
            self._response = _response(event)
        elif isinstance(event, h11.Data) and self._response is not None:
            self._response.body += bytes(event.data)
            if len(self._response.body) >= MAX_REFUSAL_BODY:
                self._response.body = self._response.body[:MAX_REFUSAL_BODY]
                return self._response
        elif isinstance(event, h11.EndOfMessage):
            return self._response
        return None

    @property
    def leftover(self) -> bytes:
        """The bytes that came behind the answer 101."""
        return self._h11.trailing_data[0]


def _feed(connection: h11.Connection, data: Buffer, eof: bool = False) -> Any:
    if data:
        connection.receive_data(bytes(data))
    if eof:
        try:
            connection.receive_data(b"")
        except (h11.RemoteProtocolError, RuntimeError) as error:
            raise InvalidMessage(str(error)) from None
    return _next(connection)


def _next(connection: h11.Connection) -> Any:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 431:
            raise HeadersTooLarge("the HTTP head is larger than the limit") from None
        raise InvalidMessage(f"not a valid HTTP/1.1 message: {error}") from None


def _sent(connection: h11.Connection, event: Any, **fields: Any) -> bytes:
    """The bytes of an event that we send."""
    try:
        data = connection.send(event(**fields))
    except (h11.LocalProtocolError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    return data or b""


def _headers(event: h11.Request | h11.InformationalResponse | h11.Response, most: int = MAX_HEADERS) -> Headers:
    fields = event.headers.raw_items()
    if len(fields) > most:
        raise HeadersTooLarge(f"more than {most} header fields")
    # h11 has checked them; a second check of each octet would double the work of a handshake.
    # Interned, since thousands of open connections have the same names and most of the same values.
    intern = sys.intern
    return headers_of([(intern(name.decode("ascii")), intern(value.decode("latin-1"))) for name, value in fields])


def _pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.raw_items()]
    except UnicodeEncodeError as error:
        raise ValueError(f"a header value has a character outside of latin-1: {error.object!r}") from None


def _response(event: h11.InformationalResponse | h11.Response) -> Response:
    return Response(event.status_code, event.reason.decode("latin-1"), _headers(event))
