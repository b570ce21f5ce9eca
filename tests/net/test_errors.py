"""Errors say what was tried, where, and what it means, and stay what they were."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from websock.net.address import Address
from websock.net.asyncio import connect as connect_task
from websock.net.asyncio import listen as listen_task
from websock.net.connecting import connect
from websock.net.datagram import bind_datagram, connect_datagram
from websock.net.errors import AddressError, BusyError, ClosedError, NotOnThisSystem, explain
from websock.net.listener import Listener, listen
from websock.net.options import SocketOptions
from websock.net.tls import tls_advice

WHERE = Address.parse("tcp://127.0.0.1:80")


@pytest.mark.parametrize(
    ("number", "kind", "doing", "said"),
    [
        (errno.ECONNREFUSED, ConnectionRefusedError, "connect to", "nothing listens there"),
        (errno.ETIMEDOUT, TimeoutError, "connect to", "no answer"),
        (errno.EHOSTUNREACH, OSError, "connect to", "no way to that host"),
        (errno.ENETUNREACH, OSError, "connect to", "no way to that network"),
        (errno.EADDRNOTAVAIL, OSError, "connect to", "no local port is left"),
        (errno.EADDRNOTAVAIL, OSError, "listen on", "no network interface here"),
        (errno.EADDRINUSE, OSError, "listen on", "another socket has it"),
        (errno.EACCES, PermissionError, "listen on", "ports below 1024"),
        (errno.EPERM, PermissionError, "send to", "needs privileges"),
        (errno.EMFILE, OSError, "open a socket for", "ulimit -n"),
        (errno.ENFILE, OSError, "open a socket for", "the system has too many"),
        (errno.ENOBUFS, OSError, "send to", "no buffers"),
        (errno.ENOMEM, OSError, "send to", "no memory"),
        (errno.ENODEV, OSError, "bind", "no such network interface"),
        (errno.EAFNOSUPPORT, OSError, "open a socket for", "does not have that kind of address"),
        (errno.ENOENT, FileNotFoundError, "connect to", "no such file"),
        (errno.ENOTDIR, NotADirectoryError, "connect to", "no such directory"),
        (errno.ECONNRESET, ConnectionResetError, "receive from", "Connection reset by peer"),
        (errno.EPIPE, BrokenPipeError, "send to", "Broken pipe"),
    ],
)
def test_an_error_of_the_system(number: int, kind: type[OSError], doing: str, said: str) -> None:
    error = explain(OSError(number, "as the system says"), doing, WHERE)
    assert type(error) is kind
    assert error.errno == number
    assert str(error).startswith(f"[Errno {number}] can't {doing} {WHERE}: as the system says")
    assert said in str(explain(OSError(number, None), doing, WHERE))


def test_who_has_it() -> None:
    error = OSError(errno.EADDRINUSE, "Address in use")
    text = f"can't listen on {WHERE}: Address in use (nginx (pid 7) has it)"
    assert explain(error, "listen on", WHERE, holder="nginx (pid 7)").strerror == text


def test_errors_without_a_number() -> None:
    timeout = explain(TimeoutError(), "connect to", WHERE)
    assert (type(timeout), timeout.errno) == (TimeoutError, errno.ETIMEDOUT)
    assert timeout.strerror == f"can't connect to {WHERE}: timed out"
    path = explain(OSError("AF_UNIX path too long"), "bind", WHERE)
    assert (type(path), path.errno, str(path)) == (OSError, None, f"can't bind {WHERE}: AF_UNIX path too long")


def test_errors_of_other_modules_keep_their_numbers() -> None:
    name = explain(socket.gaierror(socket.EAI_NONAME, "Name not known"), "resolve", WHERE)
    assert (type(name), name.errno) == (socket.gaierror, socket.EAI_NONAME)
    assert name.strerror == f"can't resolve {WHERE}: Name not known"
    tls = explain(ssl.SSLError(1, "[SSL] wrong"), "connect to", WHERE)
    assert (type(tls), tls.errno) == (ssl.SSLError, 1)
    assert str(WHERE) in str(tls)


def test_our_own_have_said_it() -> None:
    for error in (NotOnThisSystem("mark"), ClosedError("the stream")):
        assert explain(error, "set it on", WHERE) is error


def test_what_they_are() -> None:
    assert issubclass(AddressError, ValueError)
    assert issubclass(BusyError, RuntimeError)
    assert NotOnThisSystem("mark").errno == errno.EOPNOTSUPP
    assert "mark: not on this system" in str(NotOnThisSystem("mark"))
    assert ClosedError().errno == errno.EBADF
    assert "the socket is closed" in str(ClosedError())


@pytest.mark.parametrize(
    ("tls", "error"),
    [(True, TypeError), ("server.pem", TypeError), (ssl.create_default_context(), ValueError), (None, ValueError)],
)
def test_a_listener_wants_the_tls_settings_of_a_server(tls: Any, error: type[Exception]) -> None:
    """Rather than refuse everybody later."""
    with pytest.raises(error, match="tls"):
        listen("tls://127.0.0.1:0", tls=tls)
    with pytest.raises(error, match="tls"):
        asyncio.run(listen_task("tls://127.0.0.1:0", tls=tls))


# What a hint says is true, is said once, and helps.

Call = Callable[[], Any]


def told(call: Call) -> str:
    with pytest.raises((OSError, AddressError)) as caught:
        call()
    return str(caught.value)


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """What `connect` in one of the forms says to an address, where PORT is one that somebody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])

        def asking(address: str, **keywords: Any) -> str:
            address = address.replace("PORT", port)
            said = told(
                lambda: (
                    asyncio.run(connect_task(address, **keywords))
                    if request.param == "asyncio"
                    else connect(address, **keywords)
                )
            )
            return said.replace(port, "PORT")

        yield asking


def test_a_folder_that_is_missing(ask: Callable[..., str], short_path: str) -> None:
    for said in (ask(f"unix://{short_path}/no/x"), told(lambda: listen(f"unix://{short_path}/no/x"))):
        assert said.endswith(f"No such file or directory (there is no folder {short_path}/no)")
    assert ask(f"unix://{short_path}/x").endswith("No such file or directory (there is no such file)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"congestion": "foo"}, "(this kernel has none of that name: "),
        ({"device": "nonet0"}, "(there is no such network interface)"),
    ],
)
def test_an_option_that_cannot_be_had(ask: Callable[..., str], options: dict[str, Any], said: str) -> None:
    given = SocketOptions(**options)
    for text in (ask("tcp://127.0.0.1:PORT", options=given), told(lambda: listen("tcp://127.0.0.1:0", options=given))):
        assert text.count("(") == 1 and said in text


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ("tcp://10.9.9.9:0", "(no network interface here has that address)"),
        ("tcp://[::1]:0", "PORT: our end, tcp://[::1]:0, is of another family"),
        ("udp://127.0.0.1:0", "our end of a connection to tcp is no udp (at character 1)"),
    ],
)
def test_our_end(ask: Callable[..., str], local: str, said: str) -> None:
    text = ask("tcp://127.0.0.1:PORT", local=local)
    assert text.endswith(said) and text.count("(") == said.count("(") and text.count("can't connect") <= 1


def test_an_interface_that_is_missing(ask: Callable[..., str]) -> None:
    text = "(a link-local address is one of an interface, which follows it: [fe80::1%eth0])"
    assert ask("tcp://[fe80::1]:1").endswith(f"Invalid argument {text}")
    with pytest.raises(OSError, match="which follows it"):
        connect_datagram("udp://[fe80::1]:1")
    assert ask("tcp://[fe80::1%nonet0]:1").endswith(": there is no network interface 'nonet0'")


def test_a_port_that_nobody_listens_at(ask: Callable[..., str]) -> None:
    assert "nobody listens at port 0" in ask("tcp://127.0.0.1:0")


def test_a_datagram_of_another_family() -> None:
    with bind_datagram("udp://127.0.0.1:0") as one, pytest.raises(AddressError, match="this socket is IPv4"):
        one.send_to(b"x", "udp://[::1]:9")


def refuses(listener: Listener, said: list[str]) -> None:
    """The server's side of a connection that fails."""
    with listener.accept() as stream:
        said.append(told(stream.receive))


def test_no_tls_at_the_other_end(ask: Callable[..., str], server_ssl: ssl.SSLContext) -> None:
    def plain(listener: Listener) -> None:
        with contextlib.suppress(ClosedError), listener.accept() as stream:
            stream.receive()
            stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listen("tcp://127.0.0.1:0") as listener:
        thread = threading.Thread(target=plain, args=[listener])
        thread.start()
        said = ask(str(listener.addresses[0].replace(scheme="tls")), timeout=10)
        thread.join()
    assert "wrong version number" in said.lower().replace("_", " ") and "(no TLS is spoken at the other end)" in said
    with listen("tls://127.0.0.1:0", tls=server_ssl) as listener:
        where = listener.addresses[0].replace(scheme="tcp")
        with connect(where) as client:
            client.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with listener.accept() as stream:
                assert "(the peer speaks plain HTTP, no TLS)" in told(stream.receive)


def test_a_certificate_that_is_not_trusted(ask: Callable[..., str], server_ssl: ssl.SSLContext) -> None:
    with listen("tls://127.0.0.1:0", tls=server_ssl) as listener:
        servers: list[str] = []
        thread = threading.Thread(target=refuses, args=[listener, servers])
        thread.start()
        said = ask(str(listener.addresses[0]), timeout=10)
        thread.join()
    assert "self-signed certificate (to trust it: tls=ssl.create_default_context(cafile=...)" in said.replace(
        "f s", "f-s"
    )
    assert "(the peer does not trust our certificate)" in servers[0]


def test_settings_without_a_certificate(ask: Callable[..., str]) -> None:
    with listen("tls://127.0.0.1:0", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as listener:
        servers: list[str] = []
        thread = threading.Thread(target=refuses, args=[listener, servers])
        thread.start()
        ask(str(listener.addresses[0]), timeout=10)
        thread.join()
    assert "(a server's settings have a certificate: load_cert_chain())" in servers[0]


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError) as caught:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "none.pem")
    assert tls_advice(caught.value) == "a certificate and its private key are wanted, both as PEM"
