"""A loopback server in a process of its own that answers the eight GETs from memory, as cheaply as
asyncio can.

`python -m benchmarks.server [latency]` prints its port and serves until its standard input closes.
"""

import asyncio
import pathlib
import sys

from bili_account_async import ENDPOINTS

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"\r\n"
)
SAMPLES = pathlib.Path(__file__).parent.parent / "tests" / "samples"


def replies() -> dict[bytes, bytes]:
    """Path → whole reply."""
    found = {}
    for name, endpoint in ENDPOINTS.items():
        if endpoint.method == "GET":
            body = (SAMPLES / f"{name}.json").read_bytes()
            found[endpoint.path.encode()] = HEAD % len(body) + body
    return found


class Connection(asyncio.Protocol):
    known = replies()
    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            path = self.buffer.split(b" ", 2)[1].split(b"?", 1)[0]
            self.buffer = self.buffer[end + 4 :]
            reply = self.known[path]
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self.transport.write, reply)
            else:
                self.transport.write(reply)


async def main() -> None:
    Connection.latency = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
