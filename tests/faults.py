"""A server on raw sockets that breaks TCP, TLS and HTTP on purpose. It knows no HTTP beyond where a
request ends.

A *script* is what happens after a request has been read: a sequence of steps, each of them bytes to
send, one of the steps below, or a future that brings one. When a script ends, the connection stays
open and the next request is read. What is scripted for which request is the test's business; what
arrived stands in `requests` and `connections`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Literal
from urllib.parse import parse_qsl

import attrs

from bili_account_async import Hosts


@attrs.frozen
class Pause:
    """Nothing for a while."""

    seconds: float


@attrs.frozen
class Drip:
    """One piece of the data every so many seconds."""

    data: bytes
    every: float = 0.02
    piece: int = 1


@attrs.frozen
class End:
    """`close`: an orderly end.

    `reset`: RST. `hang`: nothing more until the client ends the connection.
    """

    how: Literal["close", "reset", "hang"]


CLOSE, RESET, HANG = End("close"), End("reset"), End("hang")

Step = bytes | Pause | Drip | End | asyncio.Future["Step"]
Script = Iterable[Step]


@attrs.frozen
class Received:
    """A request as it arrived."""

    connection: int
    """Number of the connection, from 1."""
    nth: int
    """The number of the request on that connection, from 1."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """With lower-case names."""
    cookies: dict[str, str]
    form: dict[str, str]

    @property
    def credential(self) -> str | None:
        """The secret that says who asks."""
        return (
            self.cookies.get("SESSDATA")
            or self.query.get("access_key")
            or self.form.get("access_key")
        )


class FaultServer:
    """`script` decides what each request meets, `greeting` what each connection meets before any
    request is read.
    """

    def __init__(self, script: Callable[[Received], Script], *, greeting: Script = ()) -> None:
        self.script = script
        self.greeting = greeting
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        """Connections that have not ended yet."""
        self._news = asyncio.Condition()
        self.port = 0
        self.name = "127.0.0.1"
        self.scheme = "http"
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def hosts(self) -> Hosts:
        base = f"{self.scheme}://{self.name}:{self.port}"
        return Hosts(api=base, www=base, passport=base)

    async def asked(self, number: int) -> None:
        """Wait until so many requests have arrived."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) >= number)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        connection, nth = self.connections, 0
        try:
            await self._play(self.greeting, reader, writer)
            while not writer.is_closing():
                nth += 1
                request = await _read_request(reader, connection, nth)
                async with self._news:
                    self.requests.append(request)
                    self._news.notify_all()
                await self._play(self.script(request), reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client or the test has ended it
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _play(
        self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for given in script:
            step = await given if isinstance(given, asyncio.Future) else given
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Drip(data, every, piece):
                    for at in range(0, len(data), piece):
                        writer.write(data[at : at + piece])
                        await writer.drain()
                        await asyncio.sleep(every)
                case End("hang"):
                    while await reader.read(1 << 16):
                        pass
                    raise ConnectionAbortedError
                case End(how):
                    if how == "reset":
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, linger
                        )
                        writer.transport.abort()
                    else:
                        writer.close()
                    raise ConnectionAbortedError


async def _read_request(reader: asyncio.StreamReader, connection: int, nth: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    pairs = (pair.partition("=") for pair in headers.get("cookie", "").split("; "))
    return Received(
        connection=connection,
        nth=nth,
        method=method,
        path=path,
        query=dict(parse_qsl(query)),
        headers=headers,
        cookies={name: value for name, _, value in pairs if name},
        form=dict(parse_qsl(body.decode("ascii"), keep_blank_values=True)),
    )


@asynccontextmanager
async def serve(
    script: Callable[[Received], Script],
    *,
    greeting: Script = (),
    ssl: SSLContext | None = None,
    name: str = "127.0.0.1",
) -> AsyncIterator[FaultServer]:
    """A running `FaultServer` on loopback; `name` is the host name that its URL has."""
    fault_server = FaultServer(script, greeting=greeting)
    server = await asyncio.start_server(fault_server._serve, "127.0.0.1", 0, ssl=ssl, backlog=2048)
    fault_server.port = server.sockets[0].getsockname()[1]
    fault_server.name = name
    fault_server.scheme = "https" if ssl else "http"
    try:
        yield fault_server
    finally:
        server.close()
        tasks = list(fault_server._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


def reply(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    headers: Iterable[str] = ("Content-Type: application/json; charset=utf-8",),
    length: int | str | None = -1,
    version: str = "HTTP/1.1",
) -> bytes:
    """An HTTP reply; `length` is what Content-Length says, None for no such header, by default the
    truth.
    """
    lines = [f"{version} {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


@asynccontextmanager
async def deaf_port() -> AsyncIterator[int]:
    """A port whose backlog is full and that nobody accepts on: a connection attempt gets no answer
    at all.
    """
    listener = socket.socket()
    fillers = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
    finally:
        for filler in (*fillers, listener):
            filler.close()


@asynccontextmanager
async def refusing_port() -> AsyncIterator[int]:
    """A port that is bound and not listened on: a connection attempt is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
