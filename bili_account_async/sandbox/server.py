"""The server: sockets, rate limits, and the choice of the faults that a request meets.

It runs on the program's event loop or, entered with `with`, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread
from typing import Self

import attrs
from aiohttp import web

from ..hosts import Hosts
from . import endpoints
from .accounts import SandboxAccount, World
from .endpoints import BY_PATH, NAMES, holders, refusal
from .faults import Answer, Fault
from .living import Life
from .people import invent
from .received import ReceivedRequest, read_cookies, read_form

LOOPBACK = ("127.0.0.1", "localhost")
SENSITIVE_WORDS = ("敏感词", "代刷硬币")
_FIELDS = [field.name for field in attrs.fields(SandboxAccount)]
OPTIONS = {name for name in _FIELDS if not name.startswith("_")} | {"history"}
"""The names that `add_account` takes."""
_SHUTDOWN = 0.2
"""Seconds that requests under way have to end when the server closes."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """An imitation of Bilibili's member centre: a real HTTP server with invented accounts.

    Open it with `async with`, or with `with` in a program that has no loop: it then runs in a
    thread. Either way every method may be called from any thread.

    - `host` is `127.0.0.1`, or `localhost` where the name matters; `port` 0 picks a free one. Only
      loopback is served.
    - `seed` decides what is invented: with the same seed, clock and order of calls, two sandboxes
      are the same.
    - `now` is the clock that accounts live by (rate limits and latency run on real time).
    - `review_delay` is the seconds until a changed sign shows. It is not 0, so that a program which
      expects the sign at once fails here.
    - `rate` requests a second are served for all together, after `burst` at once; above that comes
      HTTP 412, with `Retry-After` if `retry_after` is given. `account_rate` and `account_burst` are
      the same for each account; above that comes code -509.
    - `tempo` lets accounts live by themselves, with so many acts an hour each: coins, daily tasks,
      VIP, and lost logins.
    - `keep_requests` is the number of the last requests that `requests` holds.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        now: Callable[[], datetime] = _utc_now,
        review_delay: float = 0.5,
        sensitive_words: Sequence[str] = SENSITIVE_WORDS,
        rate: float | None = None,
        burst: int = 20,
        account_rate: float | None = None,
        account_burst: int = 20,
        retry_after: float | str | None = None,
        tempo: float | None = None,
        keep_requests: int = 10_000,
    ) -> None:
        if host not in LOOPBACK:
            names = ", ".join(LOOPBACK)
            raise ValueError(f"host must be one of {names}: a sandbox serves this machine only")
        if tempo is not None and not 0 < tempo < math.inf:
            raise ValueError("tempo must be a positive number of acts an hour")
        self._host = host
        self._port = port
        self._seed = seed
        self._tempo = tempo
        self._world = World(now, timedelta(seconds=review_delay), tuple(sensitive_words))
        self._accounts: dict[int, SandboxAccount] = {}
        self._plans: list[_Plan] = []
        self._received: deque[ReceivedRequest] = deque(maxlen=keep_requests)
        self._limit = _RateLimit(rate, burst)
        self._account_limit = _RateLimit(account_rate, account_burst)
        self._retry_after = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._throttled = 0
        self._runner: web.ServerRunner | None = None
        self._closing = asyncio.Event()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Where it is.

    @property
    def url(self) -> str:
        """The base URL of all three hosts, such as `http://127.0.0.1:40123`."""
        if self._runner is None:
            raise RuntimeError(
                "the sandbox is not open: enter it with `with` or `async with` first"
            )
        return f"http://{self._host}:{self._runner.addresses[0][1]}"

    @property
    def hosts(self) -> Hosts:
        """The hosts to hand to `SessionManager(hosts=…)`: all three are this server."""
        return Hosts(api=self.url, www=self.url, passport=self.url)

    # Who lives there.

    @property
    def accounts(self) -> tuple[SandboxAccount, ...]:
        with self._world.lock:
            return tuple(self._accounts.values())

    def add_account(self, **options: object) -> SandboxAccount:
        """Invent an account, in all that the options do not say.

        Each option is a public attribute of `SandboxAccount`, and `history` its coin log. Raises
        `TypeError` for an unknown option or a wrong type, `ValueError` for a mid that is taken.
        """
        if unknown := ", ".join(sorted(options.keys() - OPTIONS)):
            known = ", ".join(sorted(OPTIONS))
            raise TypeError(f"no such option: {unknown}; there are {known}")
        with self._world.lock:
            now, number = self._world.time(), len(self._accounts)
            rng = Random(f"{self._seed} {number} person")  # noqa: S311 - an invention
            life_rng = Random(f"{self._seed} {number} life")  # noqa: S311 - an invention
            mid = 10**9 + 1000 * number + rng.randrange(1000)
            life = Life(life_rng, self._tempo, now) if self._tempo else None
            account = SandboxAccount(world=self._world, rng=rng, life=life, mid=mid)
            for option, value in (invent(rng, now) | options).items():
                setattr(account, option, value)
            if account.mid in self._accounts:
                raise ValueError(f"there is an account with the mid {account.mid} already")
            self._accounts[account.mid] = account
            return account

    def invent_accounts(self, number: int) -> list[SandboxAccount]:
        return [self.add_account() for _ in range(number)]

    # What goes wrong.

    def fault(
        self,
        endpoint: str | None,
        *faults: Fault,
        times: int | None = None,
        account: SandboxAccount | None = None,
    ) -> None:
        """Let faults happen, together, to requests for one endpoint or, with None, for any.

        An endpoint is named as the SDK's coroutine. With `times`, they are used up by so many
        requests; such orders queue, and a request takes the first that fits. Without, they happen
        to every request until `clear_faults`, beneath those with `times`. With `account`, only to
        requests with its credential.
        """
        if endpoint is not None and endpoint not in NAMES:
            names = ", ".join(NAMES)
            raise ValueError(f"no endpoint {endpoint!r}: there are {names}, and None for all")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1, or None for ever")
        with self._world.lock:
            self._plans.append(_Plan(endpoint, faults, times, account))

    def clear_faults(self) -> None:
        with self._world.lock:
            self._plans.clear()

    # What arrived.

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The last requests that arrived whole, in the order of arrival."""
        with self._world.lock:
            return tuple(self._received)

    @property
    def throttled(self) -> int:
        """The number of requests that the rate limits refused."""
        return self._throttled

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("the sandbox is open already")
        self._closing = asyncio.Event()
        self._runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True, access_log=None),
            shutdown_timeout=_SHUTDOWN,
        )
        try:
            await self._runner.setup()
            # `localhost` is served on IPv4 alone: with port 0, each of its addresses would get
            # another port.
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()  # late and hanging answers end here
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def __enter__(self) -> Self:
        opened: Future[None] = Future()
        thread = Thread(
            target=lambda: asyncio.run(self._serve(opened)), name="bili-sandbox", daemon=True
        )
        thread.start()
        opened.result()
        self._thread = thread
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _serve(self, opened: Future[None]) -> None:
        try:
            await self.__aenter__()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            opened.set_exception(error)
            return
        self._loop = asyncio.get_running_loop()
        opened.set_result(None)
        await self._closing.wait()
        await self.__aexit__()

    # A request.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        with self._world.lock:
            answer, delay, ending = self._decide(request, body)
        if delay and await self._closes_within(delay):
            ending = "reset"
        if ending == "reset":
            return _reset(request)
        sent = answer.body[: len(answer.body) // 2] if ending == "truncated" else answer.body
        response = web.Response(
            body=sent, status=answer.status, headers={"Content-Type": answer.content_type}
        )
        for name, value in answer.headers:
            response.headers.add(name, value)
        if ending == "truncated":
            response.headers["Content-Length"] = str(len(answer.body))
            response.force_close()
        return response

    def _decide(self, request: web.BaseRequest, body: bytes) -> tuple[Answer, float, str]:
        """Return the answer, the seconds until it goes out, and the way in which it ends."""
        endpoint = BY_PATH.get(request.path)
        received = ReceivedRequest(
            endpoint=endpoint.name if endpoint else None,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            cookies=read_cookies(request.headers.get("Cookie", "")),
            form=read_form(request.content_type, body),
            account=None,
            time=self._world.time(),
            status=None,
        )
        by_cookie, by_key = holders(received, self._world)
        received = attrs.evolve(received, account=by_key or by_cookie)
        throttle = self._throttle(received.account)
        faults = [] if throttle else self._faults_for(received)
        instead = [fault.instead for fault in faults if fault.instead]
        answer = throttle or (instead[-1] if instead else self._answer(received))
        for fault in faults:
            answer = fault.spoil(answer) if fault.spoil else answer
        delay = sum(fault.delay for fault in faults)
        ending = next((fault.ending for fault in faults if fault.ending != "whole"), "whole")
        answered = ending != "reset" and delay < math.inf
        self._received.append(attrs.evolve(received, status=answer.status if answered else None))
        return answer, delay, ending

    def _answer(self, request: ReceivedRequest) -> Answer:
        endpoint = BY_PATH.get(request.path)
        if endpoint is None:
            return Answer.html(404)
        if request.method != endpoint.method:
            return Answer.html(405, Allow=endpoint.method)
        if request.account:
            request.account.catch_up()
        return Answer.json(endpoints.answer(endpoint, request, self._world))

    def _throttle(self, account: SandboxAccount | None) -> Answer | None:
        if not self._limit.allows("everybody"):
            self._throttled += 1
            headers = tuple(self._retry_after.items())
            return attrs.evolve(Answer.json(refusal(-412)), status=412, headers=headers)
        if account and not self._account_limit.allows(account):
            self._throttled += 1
            return Answer.json(refusal(-509))
        return None

    def _faults_for(self, request: ReceivedRequest) -> list[Fault]:
        fitting = [plan for plan in self._plans if plan.fits(request)]
        standing = [fault for plan in fitting if plan.times is None for fault in plan.faults]
        counted = next((plan for plan in fitting if plan.times is not None), None)
        if counted is None:
            return standing
        assert counted.times is not None
        counted.times -= 1
        if not counted.times:
            self._plans.remove(counted)
        return [*standing, *counted.faults]

    async def _closes_within(self, seconds: float) -> bool:
        """Wait so long, or until the sandbox closes; return True if it closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if seconds < math.inf else None):
                await self._closing.wait()
        return self._closing.is_set()


@attrs.define(eq=False)
class _Plan:
    """Faults that were ordered, and the requests that they are for."""

    endpoint: str | None
    faults: tuple[Fault, ...]
    times: int | None
    account: SandboxAccount | None

    def fits(self, request: ReceivedRequest) -> bool:
        return self.endpoint in (None, request.endpoint) and self.account in (None, request.account)


class _RateLimit:
    """A token bucket for each key: `burst` at once, then `rate` a second.

    It keeps the time at which a bucket is full again.
    """

    def __init__(self, rate: float | None, burst: int) -> None:
        if rate is not None and not (rate > 0 and burst >= 1):
            raise ValueError("a rate limit needs rate > 0 and burst >= 1")
        self._interval = None if rate is None else 1 / rate
        self._burst = burst
        self._full_at: dict[object, float] = {}

    def allows(self, key: object) -> bool:
        if self._interval is None:
            return True
        now = time.monotonic()
        full_at = max(self._full_at.get(key, 0.0), now) + self._interval
        if full_at > now + self._burst * self._interval + 1e-9:
            return False
        self._full_at[key] = full_at
        return True


def _reset(request: web.BaseRequest) -> web.Response:
    """Reset the connection, and return the response that aiohttp insists on.

    It is dropped, as there is nobody left to send it to.
    """
    if request.transport is not None:
        linger = struct.pack("ii", 1, 0)  # on, and for no time: closing sends RST
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return web.Response()
