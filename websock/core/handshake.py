"""The opening handshake (RFC 6455 section 4) for both roles, without any I/O.

Both are phases with the same three calls as every phase of a connection: ``receive(data)``, ``outgoing()``, ``done``.
A handshake that succeeds leaves a `Protocol` in ``protocol`` and the bytes that came behind it in ``leftover``, which
belong to ``protocol.receive``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping, Sequence

from ..datastructures import Headers, by_name, headers_of, is_token, tokens_of
from ..exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidHost,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    LimitExceeded,
    NegotiationError,
)
from ..http11 import Request, Response, make_response
from ..spec import GUID, VERSION
from ..typing import Buffer, HeadersLike
from . import extensions
from .hosts import authority_of, is_one_of
from .http import ClientHTTP, ServerHTTP
from .limits import Limits
from .options import SAME_ORIGIN, Options
from .protocol import Protocol
from .uri import URI

__all__ = ["ClientHandshake", "ServerHandshake", "accept_key", "refusal_bytes"]

_DEFAULTS = Limits()

Found = Mapping[str, Sequence[str]]  # what `by_name` makes of headers
SelectSubprotocol = Callable[[Sequence[str]], "str | None"]


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2, item 5.4)."""
    # SHA-1 is what the RFC prescribes; nothing here relies on its strength.
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


class ServerHandshake:
    """The server's side: bytes to a `Request`, which is accepted, refused or answered with a page.

    ::

        handshake.receive(data)                 # until handshake.request or handshake.done
        handshake.accept()                      # or reject(403, "no"), or respond(response)
        write(handshake.outgoing())             # then: handshake.protocol, None when it was not accepted

    Args:
        options: the settings of the connection.
        limits: of these only those of one handshake and connection count here; the rest is for `Gate`.
        make: what makes the open connection.

    Attributes:
        request: the request, once its head is complete and it is valid HTTP.
        response: our answer.
        failure: why the request was refused by a rule, None otherwise.
        protocol: the open connection, once accepted.
        done: the answer is in `outgoing`.
        leftover: bytes that came behind the request, for ``protocol.receive``.
    """

    def __init__(
        self,
        *,
        options: Options | None = None,
        limits: Limits | None = None,
        make: Callable[..., Protocol] = Protocol,
    ) -> None:
        self._make = make
        self.options = options or Options()
        self.limits = limits or _DEFAULTS
        self.request: Request | None = None
        self.response: Response | None = None
        self.failure: InvalidHandshake | None = None
        self.protocol: Protocol | None = None
        self.done = False
        self.leftover = b""
        self._http = ServerHTTP(self.options.max_header_size, self.limits.max_headers)
        self._pipeline: extensions.Pipeline | None = None
        self._extensions = ""  # what we answer in Sec-WebSocket-Extensions
        self._subprotocol: str | None = None
        self._made: list[tuple[str, str]] | None = None  # the fields of our 101, where they are all our own
        self._out: list[Buffer] = []

    def receive(self, data: Buffer) -> None:
        """Take bytes from the client. Never raises for what they are: a refusal is queued instead."""
        if self.done:
            return
        try:
            if self.request is None:
                self.request = self._http.receive(data)
                if self.request is not None and self.options.hosts is not None:
                    _check_host(self.request, self.options.hosts)
            else:
                self._http.receive_more(data)
        except InvalidHandshake as failure:
            self.fail(failure)

    def outgoing(self) -> list[Buffer]:
        """Take the buffers to write, in this order; empty when there is nothing."""
        buffers, self._out = self._out, []
        return buffers

    def accept(
        self,
        *,
        headers: HeadersLike | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        server_header: str | None = None,
    ) -> None:
        """Answer the request as a WebSocket handshake: 101, or a refusal when it is not a good one. See `answer`."""
        self.respond(self.answer(headers=headers, select_subprotocol=select_subprotocol, server_header=server_header))

    def answer(
        self,
        *,
        headers: HeadersLike | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        server_header: str | None = None,
    ) -> Response:
        """Check the request as a WebSocket handshake (RFC 6455 section 4.2.1); the answer, which `respond` sends.

        It is a refusal, and ``failure`` is set, when the request is not a good one.

        Args:
            headers: more fields for the answer 101.
            select_subprotocol: picks from those that the client offers, instead of our first that it offers too; may
                raise NegotiationError.
            server_header: the Server header of the answer.

        Raises:
            InvalidState: there is no request, or it was answered.
        """
        request = self._take_request()
        self._made = None
        found = by_name(request.headers)
        try:
            key = _check_request(request, found, self.options)
            subprotocol = self._select(found, select_subprotocol)
        except InvalidHandshake as failure:
            self.failure = failure
            response = _refusal(failure)
        else:
            # Each of these is known to be right: a constant, or of tokens that were checked.
            fields = [*_SWITCH, ("Sec-WebSocket-Accept", accept_key(key))]
            if subprotocol is not None:
                fields.append(("Sec-WebSocket-Protocol", subprotocol))
            self._extensions, self._pipeline = "", None
            if extensions.HEADER.lower() in found:
                self._extensions, self._pipeline = extensions.answer(request.headers, self.options.all_extensions)
            if self._extensions:
                fields.append((extensions.HEADER, self._extensions))
            response = Response(101, "Switching Protocols", headers_of(fields))
            if headers:
                response.headers.update(_more(headers, _SERVER_OWN))
        if server_header is not None and "Server" not in response.headers:
            response.headers["Server"] = server_header
        if self.failure is None and not headers:
            self._subprotocol = subprotocol
            self._made = list(response.headers.raw_items())
        return response

    def reject(self, status: int, text: str = "", *, headers: HeadersLike | None = None) -> None:
        """Answer with an HTTP status and a plain text.

        Raises:
            InvalidState: there is no request, or it was answered.
            ValueError: not an HTTP status of a final answer.
        """
        self.respond(make_response(status, text, headers))

    def respond(self, response: Response) -> None:
        """Send an answer: the 101 that `answer` made, a page, a health check, a refusal.

        Raises:
            InvalidState: there is no request, or it was answered.
            ValueError: the response cannot be sent as it is.
        """
        self._take_request()
        if response.status_code != 101:
            self._finish(response, self._http.respond(response))
            return
        headers = response.headers
        ours = self._made == list(headers.raw_items())
        if ours:  # as `answer` made it: nothing has to be found in it or checked
            subprotocol, pipeline = self._subprotocol, self._pipeline
        else:
            if self.failure is not None or "Sec-WebSocket-Accept" not in headers:
                raise ValueError("a response with status 101 comes from answer(), for a request that is a handshake")
            answered = ", ".join(headers.get_all(extensions.HEADER)) if extensions.HEADER in headers else None
            if answered is not None and answered != self._extensions:
                raise ValueError(f"Sec-WebSocket-Extensions can be taken out of the answer, not changed to {answered}")
            subprotocol = next(iter(headers.get_all("Sec-WebSocket-Protocol")), None)
            pipeline = None if answered is None else self._pipeline
        out, self.leftover = self._http.upgrade(headers, ours=ours)
        self.protocol = self._make(
            server=True, options=self.options, subprotocol=subprotocol, pipeline=pipeline, limits=self.limits
        )
        self._finish(response, out)

    def fail(self, failure: InvalidHandshake) -> None:
        """Refuse for a reason that is not in the request, such as the time that it took."""
        if not self.done:
            self.failure = failure
            response = _refusal(failure)
            self._finish(response, self._http.respond(response))

    def _take_request(self) -> Request:
        if self.request is None or self.done:
            raise InvalidState("there is no request to answer" if self.request is None else "it was answered already")
        return self.request

    def _finish(self, response: Response, out: list[Buffer]) -> None:
        self._out += out
        self.response = response
        self.done = True

    def _select(self, found: Found, select: SelectSubprotocol | None) -> str | None:
        offered = tokens_of(found.get("sec-websocket-protocol", ()))
        if select is None and not offered:
            return None
        for name in offered:
            if not is_token(name):
                raise InvalidHeaderFormat("Sec-WebSocket-Protocol", name)
        if select is not None:
            chosen = select(offered)
            if chosen is not None and chosen not in offered:
                raise NegotiationError(f"subprotocol {chosen!r} was selected and not offered")
            return chosen
        # RFC 6455 section 4.2.2, item 5.5: no agreement is no subprotocol, and the client decides what that means.
        return next((name for name in self.options.subprotocols or () if name in offered), None)


def _refusal(failure: InvalidHandshake) -> Response:
    response = make_response(failure.status, f"Failed to open a WebSocket connection: {failure}.\n")
    if failure.status == 426:
        response.headers["Upgrade"] = "websocket"
        response.headers["Sec-WebSocket-Version"] = VERSION  # RFC 6455 section 4.4
    elif failure.status == 405:
        response.headers["Allow"] = "GET"
    elif isinstance(failure, LimitExceeded):
        response.headers["Retry-After"] = str(failure.retry_after)
    return response


def refusal_bytes(failure: InvalidHandshake) -> bytes:
    """The answer to a request that nobody has read, nor will."""
    response = _refusal(failure)
    head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n{response.headers}"
    return head.encode("latin-1", "replace") + response.body


def _check_host(request: Request, hosts: Sequence[str]) -> None:
    """The Host header must name one of ours.

    Raises:
        InvalidHeader: it is missing, or no host and port.
        InvalidHost: it is another name.
    """
    host = _one(by_name(request.headers), "Host")
    authority = None if host is None else authority_of(host)
    if authority is None:
        raise InvalidHeaderValue("Host", host)
    if not is_one_of(authority, hosts):
        raise InvalidHost(host)


def _check_request(request: Request, found: Found, options: Options) -> str:
    """Check a request as a client's opening handshake (RFC 6455 section 4.2.1); its Sec-WebSocket-Key.

    Raises:
        InvalidHandshake: one of its subclasses for each rule, with the HTTP status to answer.
    """
    if request.method != "GET":
        raise InvalidMethod(f"method is {request.method}, and must be GET")
    if request.http_version != "1.1":
        raise InvalidMessage(f"HTTP version is {request.http_version}, and must be 1.1")
    if not request.path.startswith("/"):
        raise InvalidMessage(f"request target {request.path!r} isn't a path")
    host = _one(found, "Host") or ""
    authority = authority_of(host)
    if authority is None:
        raise InvalidHeaderValue("Host", host)
    if not _has_token(found, "Connection", "upgrade"):
        raise InvalidUpgrade("Connection", _joined(found, "Connection"))
    if not _has_token(found, "Upgrade", "websocket"):
        raise InvalidUpgrade("Upgrade", _joined(found, "Upgrade"))
    version = _one(found, "Sec-WebSocket-Version")
    if version != VERSION:
        raise InvalidUpgrade("Sec-WebSocket-Version", version)
    key = _one(found, "Sec-WebSocket-Key")
    if key is None:
        raise InvalidHeader("Sec-WebSocket-Key")
    if not _is_key(key):
        raise InvalidHeaderValue("Sec-WebSocket-Key", key)
    _check_origin(_one(found, "Origin"), authority, options)
    return key


_is_key = re.compile("[A-Za-z0-9+/]{22}==").fullmatch  # sixteen octets in base64 (RFC 6455 section 4.1, item 7)


def _check_origin(origin: str | None, asked: tuple[str, str], options: Options) -> None:
    """RFC 6455 section 10.2. Programs other than browsers send no Origin, and can send any."""
    allowed = options.origins
    if allowed is None:
        return
    if allowed is SAME_ORIGIN:
        if origin is not None and not _same_origin(origin, asked):
            raise InvalidOrigin(origin)
        return
    assert isinstance(allowed, Sequence)  # noqa: S101 - for the type checker; Options has checked it
    for one in allowed:
        if one is None or isinstance(one, str):
            if origin == one:
                return
        elif origin is not None and one.fullmatch(origin):
            return
    raise InvalidOrigin(origin)


def _same_origin(origin: str, asked: tuple[str, str]) -> bool:
    scheme, separator, rest = origin.partition("://")
    port = {"http": "80", "https": "443"}.get(scheme.lower())
    page = authority_of(rest)
    if not separator or port is None or page is None:
        return False
    # A proxy may have ended TLS in front of us, so the page's scheme and not ours tells the default port.
    return (page[0], page[1] or port) == (asked[0], asked[1] or port)


class ClientHandshake:
    """The client's side: a request to write, then bytes to a `Response`, which is checked.

    ::

        handshake = ClientHandshake(parse_uri("ws://localhost/"))
        write(handshake.outgoing())
        handshake.receive(data)                 # until handshake.done; raises InvalidHandshake
        handshake.protocol                      # the open connection

    Args:
        uri: where to connect to.
        origin: value of the Origin header.
        headers: more fields for the request.
        user_agent: value of the User-Agent header.
        options: ours.

    Attributes:
        request: what we send.
        response: what the server answered.
        protocol: the open connection, once done.
        done: the server accepted.
        leftover: bytes that came behind the answer, for ``protocol.receive``.

    Raises:
        ValueError: a header that would break the request, or that belongs to the handshake itself.
    """

    def __init__(
        self,
        uri: URI,
        *,
        origin: str | None = None,
        headers: HeadersLike | None = None,
        user_agent: str | None = None,
        options: Options | None = None,
    ) -> None:
        self.options = options or Options()
        self.response: Response | None = None
        self.protocol: Protocol | None = None
        self.done = False
        self.leftover = b""
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._extensions = self.options.all_extensions
        self.request = Request(uri.resource, self._fields(uri, origin, headers, user_agent))
        self._http = ClientHTTP(self.options.max_header_size)
        self._out: list[Buffer] = [self._http.request(self.request)]

    def _fields(self, uri: URI, origin: str | None, more: HeadersLike | None, user_agent: str | None) -> Headers:
        extra = _more(more, _CLIENT_OWN)
        if origin is not None and "Origin" in extra:
            raise ValueError("the Origin header is given twice: as origin= and as a header")
        fields = Headers()
        # RFC 6455 section 4.1; a caller may connect to one host and ask for another.
        fields["Host"] = extra.get_all("Host")[0] if "Host" in extra else uri.host_header
        del extra["Host"]
        fields["Upgrade"] = "websocket"
        fields["Connection"] = "Upgrade"
        fields["Sec-WebSocket-Key"] = self._key
        fields["Sec-WebSocket-Version"] = VERSION
        if origin is not None:
            fields["Origin"] = origin
        if self.options.subprotocols:
            fields["Sec-WebSocket-Protocol"] = ", ".join(self.options.subprotocols)
        if offered := extensions.offers(self._extensions):
            fields[extensions.HEADER] = offered
        if uri.user is not None and "Authorization" not in extra:
            fields["Authorization"] = "Basic " + base64.b64encode(":".join(uri.user).encode()).decode()
        if user_agent is not None and "User-Agent" not in extra:
            fields["User-Agent"] = user_agent
        fields.update(extra)
        return fields

    def receive(self, data: Buffer) -> None:
        """Take bytes from the server.

        Raises:
            InvalidStatus: the answer is not 101; ``.response`` is what it was.
            InvalidHandshake: it is not a valid answer (RFC 6455 section 4.1); the subclass says why.
        """
        self._complete(self._http.receive(data))

    def receive_eof(self) -> None:
        """The server closed its direction.

        Raises:
            InvalidHandshake: always, when that leaves the handshake incomplete.
        """
        if not self.done:
            self._complete(self._http.receive(b"", eof=True))

    def outgoing(self) -> list[Buffer]:
        """Take the buffers to write, in this order; empty when there is nothing."""
        buffers, self._out = self._out, []
        return buffers

    def _complete(self, response: Response | None) -> None:
        if response is None:
            return
        self.response = response
        subprotocol = self._check(response)
        pipeline = extensions.agreement(response.headers, self._extensions)
        self.protocol = Protocol(server=False, options=self.options, subprotocol=subprotocol, pipeline=pipeline)
        self.leftover = self._http.leftover
        self.done = True

    def _check(self, response: Response) -> str | None:
        """RFC 6455 section 4.1: "the client MUST validate the server's response"; the subprotocol."""
        if response.status_code != 101:
            raise InvalidStatus(response)
        found = by_name(response.headers)
        if (_joined(found, "Upgrade") or "").lower() != "websocket":  # the value itself, not one of several
            raise InvalidUpgrade("Upgrade", _joined(found, "Upgrade"))
        if not _has_token(found, "Connection", "upgrade"):
            raise InvalidUpgrade("Connection", _joined(found, "Connection"))
        accept = _one(found, "Sec-WebSocket-Accept")
        if accept is None:
            raise InvalidHeader("Sec-WebSocket-Accept")
        if not hmac.compare_digest(accept.encode("latin-1", "replace"), accept_key(self._key).encode()):
            raise InvalidHeaderValue("Sec-WebSocket-Accept", accept)
        subprotocol = _one(found, "Sec-WebSocket-Protocol")
        if subprotocol is not None and subprotocol not in (self.options.subprotocols or ()):
            raise NegotiationError(f"subprotocol {subprotocol!r} was not offered")
        return subprotocol


# The beginning of every answer 101 (RFC 6455 section 4.2.2).
_SWITCH = (("Upgrade", "websocket"), ("Connection", "Upgrade"))

# What the handshake itself says, and what would announce a body.
_SERVER_OWN = ("Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol",
               "Content-Length", "Transfer-Encoding")  # fmt: skip
_CLIENT_OWN = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions",
               "Sec-WebSocket-Protocol", "Content-Length", "Transfer-Encoding")  # fmt: skip


def _more(headers: HeadersLike | None, own: Sequence[str]) -> Headers:
    """The caller's header fields, without those that are not the caller's."""
    fields = Headers(headers)
    for name in own:
        if name in fields:
            raise ValueError(f"the header {name} belongs to the handshake itself: it can't be given")
    return fields


def _joined(found: Found, name: str) -> str | None:
    """All values of a header as one text, for an error message."""
    values = found.get(name.lower())
    return None if values is None else ", ".join(values)


def _one(found: Found, name: str) -> str | None:
    """The value of a header that may stand there once at most."""
    values = found.get(name.lower())
    if values is None:
        return None
    if len(values) > 1:
        raise InvalidHeaderValue(name, f"more than one: {', '.join(values)}")
    return values[0]


def _has_token(found: Found, name: str, token: str) -> bool:
    """Whether a list header has an element, whole and without regard to case ("notupgrade" is not "upgrade")."""
    elements = ",".join(found.get(name.lower(), ())).lower().split(",")
    return token in elements or token in [one.strip(" \t") for one in elements]
