"""Client CPU of one GET through the SDK and through its rivals.

Eight endpoints are asked, 50 requests in flight, on connections that are kept alive. Each
contestant opens what it needs, then runs rounds of GETs; rounds of all contestants take turns, so
that a machine that gets slower gets slower for all.
"""

import asyncio
import importlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import aiohttp
import orjson
from yarl import URL

from bili_account_async import (
    ENDPOINTS,
    Credential,
    Hosts,
    Limits,
    RateLimit,
    SessionManager,
    fetch_snapshot,
)

GETS = [endpoint for endpoint in ENDPOINTS.values() if endpoint.method == "GET"]
WIDE = RateLimit(rate=1e9, burst=1_000_000)
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "67108864", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""The same for all contestants, for by itself glibc learns.

From what a process happened to free before, it takes whether the 256 KB that asyncio allocates for
each `recv` are worth a system call: some 10 µs a GET, by luck of the imports.
"""
Get = Callable[[int], Awaitable[object]]
"""Makes the n-th GET and gives what the caller would work with."""


def credential(number: int) -> Credential:
    return Credential(
        sessdata=f"{number:08d}%2C1700000000%2Cabcde%2A11",
        dede_user_id=number + 1,
        bili_jct=f"{number:032x}",
    )


def cookies(number: int) -> dict[str, str]:
    return {
        "SESSDATA": f"{number:08d}%2C1700000000%2Cabcde%2A11",
        "DedeUserID": str(number + 1),
        "bili_jct": f"{number:032x}",
    }


def cookie_header(number: int) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies(number).items())


@contextmanager
def server(latency: float = 0.0) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate("", timeout=5)


@asynccontextmanager
async def sdk(base: str, accounts: int) -> AsyncIterator[Get]:
    hosts = Hosts(api=base, www=base, passport=base)
    async with SessionManager(
        hosts=hosts, limits=Limits(host=WIDE, account=WIDE, concurrency=1000)
    ) as manager:
        sessions = [manager.session(credential(number)) for number in range(accounts)]
        yield lambda n: sessions[n % accounts].call(GETS[n % 8])


@asynccontextmanager
async def least(base: str, accounts: int) -> AsyncIterator[Get]:
    """The least that aiohttp can do: everything prebuilt."""
    urls = [URL(base + endpoint.path) for endpoint in GETS]
    headers = [
        {"Cookie": cookie_header(number), "User-Agent": "bench"} for number in range(accounts)
    ]
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
    ) as client:

        async def get(n: int) -> object:
            async with client.get(
                urls[n % 8], headers=headers[n % accounts], allow_redirects=False
            ) as response:
                return orjson.loads(await response.read())

        yield get


@asynccontextmanager
async def plain_sessions(base: str, accounts: int) -> AsyncIterator[Get]:
    """Do as most would: one ClientSession per account, `.json()`."""
    urls = [base + endpoint.path for endpoint in GETS]
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(accounts):
            jar = aiohttp.CookieJar(unsafe=True)
            client = await stack.enter_async_context(
                aiohttp.ClientSession(cookies=cookies(number), cookie_jar=jar)
            )
            clients.append(client)

        async def get(n: int) -> object:
            async with clients[n % accounts].get(urls[n % 8]) as response:
                return await response.json()

        yield get


@asynccontextmanager
async def plain_cookies(base: str, accounts: int) -> AsyncIterator[Get]:
    """One ClientSession for all, `cookies=` per call, `.json()`."""
    urls = [base + endpoint.path for endpoint in GETS]
    jars = [cookies(number) for number in range(accounts)]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def get(n: int) -> object:
            async with client.get(urls[n % 8], cookies=jars[n % accounts]) as response:
                return await response.json()

        yield get


@asynccontextmanager
async def streams(base: str, accounts: int) -> AsyncIterator[Get]:
    """asyncio streams by hand, a pool of connections and no HTTP library: the floor."""
    url = URL(base)
    requests: list[list[bytes]] = []
    for number in range(accounts):
        rest = f"Host: {url.host}\r\nCookie: {cookie_header(number)}\r\n\r\n"
        requests.append([f"GET {each.path} HTTP/1.1\r\n{rest}".encode() for each in GETS])
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(n: int) -> object:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(url.host, url.port)
        writer.write(requests[n % accounts][n % 8])
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head[head.index(b"Content-Length: ") + 16 :].split(b"\r", 1)[0])
        body = await reader.readexactly(size)
        idle.append((reader, writer))
        return orjson.loads(body)

    try:
        yield get
    finally:
        for _, writer in idle:
            writer.close()


@asynccontextmanager
async def httpx_client(name: str, base: str, accounts: int) -> AsyncIterator[Get]:
    """Use httpx, or httpx2, which has the same interface."""
    httpx = importlib.import_module(name)
    urls = [base + endpoint.path for endpoint in GETS]
    headers = [{"Cookie": cookie_header(number)} for number in range(accounts)]
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:

        async def get(n: int) -> object:
            return (await client.get(urls[n % 8], headers=headers[n % accounts])).json()

        yield get


@asynccontextmanager
async def bilibili_api_python(base: str, accounts: int) -> AsyncIterator[Get]:
    from bilibili_api import Credential as TheirCredential
    from bilibili_api import request_settings, select_client
    from bilibili_api.utils.network import Api

    select_client("aiohttp")
    request_settings.set_enable_bili_ticket(False)
    request_settings.set_enable_auto_buvid(False)
    credentials = [
        TheirCredential(
            sessdata=c["SESSDATA"],
            bili_jct=c["bili_jct"],
            dedeuserid=c["DedeUserID"],
            buvid3="x",
            buvid4="x",
        )
        for c in map(cookies, range(accounts))
    ]
    urls = [base + endpoint.path for endpoint in GETS if endpoint.result[0] == "data"]

    async def get(n: int) -> object:
        return await Api(
            url=urls[n % len(urls)], method="GET", credential=credentials[n % accounts]
        ).result

    yield get


@asynccontextmanager
async def snapshots(base: str, accounts: int) -> AsyncIterator[Get]:
    """Whole snapshots; a figure is for one of them."""
    hosts = Hosts(api=base, www=base, passport=base)
    async with SessionManager(
        hosts=hosts, limits=Limits(host=WIDE, account=WIDE, concurrency=1000)
    ) as manager:
        sessions = [manager.session(credential(number)) for number in range(accounts)]
        yield lambda n: fetch_snapshot(sessions[n % accounts])


CONTESTANTS = {
    "snapshots": snapshots,
    "SDK": sdk,
    "least aiohttp": least,
    "ClientSession per account": plain_sessions,
    "cookies= per call": plain_cookies,
    "bilibili-api-python": bilibili_api_python,
    "httpx": partial(httpx_client, "httpx"),
    "httpx2": partial(httpx_client, "httpx2"),
    "streams by hand": streams,
}


async def round_of(get: Get, gets: int, in_flight: int) -> float:
    """CPU seconds per GET."""
    numbers = itertools.count()

    async def worker() -> None:
        while (n := next(numbers)) < gets:
            await get(n)

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
    return (time.process_time() - started) / gets


async def contestant(name: str, base: str, accounts: int) -> None:
    """Run one contestant in this process.

    Each line on standard input is a number of GETs, and is answered with a line with a figure.
    """
    async with CONTESTANTS[name](base, accounts) as get:
        while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            print(await round_of(get, int(line), 6 if name == "snapshots" else 50), flush=True)


class Child:
    """A contestant in a process of its own, so that no rival's heap or imports are in its way."""

    def __init__(self, name: str, base: str, accounts: int, *, uvloop: bool = False) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.http",
            name,
            base,
            str(accounts),
            "uvloop" if uvloop else "asyncio",
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ALLOCATOR,
        )
        self.gets = 200 if name in ("httpx", "httpx2", "bilibili-api-python") else 1000
        self.figures: list[float] = []

    def round(self, *, counts: bool) -> None:
        print(self.gets, file=self.process.stdin, flush=True)
        figure = float(self.process.stdout.readline())
        if counts:
            self.figures.append(figure)

    def end(self) -> list[float]:
        self.process.communicate("", timeout=10)
        return self.figures


def cpu_per_get(children: dict[str, Child], rounds: int) -> dict[str, list[float]]:
    """CPU seconds per GET of each, in each round but the first; rounds of all take turns."""
    for number in range(rounds + 1):
        for child in children.values():
            child.round(counts=number > 0)
    return {name: child.end() for name, child in children.items()}


def ratio(figures: list[float], rivals: list[float]) -> float:
    """Return the median of the rounds' ratios.

    Whatever slows the machine for a while slows both sides of one round.
    """
    return statistics.median(one / other for one, other in zip(figures, rivals, strict=True))


if __name__ == "__main__":
    name, base, accounts, loop = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        uvloop.run(contestant(name, base, int(accounts)))
    else:
        asyncio.run(contestant(name, base, int(accounts)))
