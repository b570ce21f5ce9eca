"""A server that sends files without looking at them: the kernel copies from the file to the socket (``sendfile``).

    python examples/file_server.py tcp://localhost:7020 FOLDER
    python examples/file_server.py --get NAME tcp://localhost:7020 > copy

The client sends a name and a newline; the server answers with the size, a newline and the octets, or with a
complaint.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from websock.net import connect
from websock.net.asyncio import Stream, listen

LONGEST = 255


async def name_asked_for(stream: Stream) -> str:
    """The first line."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= LONGEST and (more := await stream.receive(LONGEST)):
        line += more
    return line.decode(errors="replace").removesuffix("\n")


async def answer(stream: Stream, folder: Path) -> None:
    async with stream:
        with contextlib.suppress(OSError):  # a client that is gone
            async with asyncio.timeout(10):
                name = await name_asked_for(stream)
            try:
                if Path(name).name != name:
                    raise FileNotFoundError  # nothing outside of the folder
                file = (folder / name).open("rb")
            except (OSError, ValueError):
                await stream.send_all(f"no file {name!a}\n".encode())
                return
            with file:
                size = file.seek(0, 2)
                await stream.send_all(b"%d\n" % size)
                await stream.send_file(file, 0, size)


async def serve(address: str, folder: Path) -> None:
    async with await listen(address) as listener, asyncio.TaskGroup() as tasks:
        print(f"listening on {listener.addresses[0]}", flush=True)
        async for stream in listener:
            tasks.create_task(answer(stream, folder))


def get(address: str, name: str) -> None:
    with connect(address, timeout=10) as stream:
        stream.receive_timeout = 10
        stream.send_all(name.encode() + b"\n")
        stream.send_eof()
        head = b""
        while not head.endswith(b"\n") and (octet := stream.receive(1)):
            head += octet
        if not head.strip().isdigit():
            raise OSError(head.decode().strip() or "the server says nothing")
        left = int(head)
        while left and (data := stream.receive(min(left, 2**16))):
            sys.stdout.buffer.write(data)
            left -= len(data)
        if left:
            raise OSError(f"{left} octets are missing")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--get", metavar="NAME", help="be the client")
    options = parser.parse_args()
    try:
        if options.get is None:
            if not options.folder.is_dir():
                raise ValueError(f"there is no folder {str(options.folder)!r}")
            asyncio.run(serve(options.address, options.folder))
        else:
            get(options.address, options.get)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
