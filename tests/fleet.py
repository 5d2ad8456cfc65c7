"""A server in memory and a Poller on it, on a virtual clock: hours pass in milliseconds.

A fake pool is the server; all else is real.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from virtual import START, turns

from bili_account_async import (
    ALL_SECTIONS,
    BiliError,
    Credential,
    Limits,
    Poller,
    PollEvent,
    Retry,
    SessionManager,
    TransportError,
)
from bili_account_async._seam import Seam
from bili_account_async.snapshot import SECTIONS as ENDPOINT_OF
from bili_account_async.transport import RawReply
from bili_account_async.wire import Request

SAMPLES = Path(__file__).parent / "samples"
SECTIONS = {endpoint.path: section for section, endpoint in ENDPOINT_OF.items()}
BODIES = {
    section: (SAMPLES / f"{endpoint.name}.json").read_bytes()
    for section, endpoint in ENDPOINT_OF.items()
}
WALL = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE, HOUR = 60.0, 3600.0
EVERY = 10 * MINUTE
COIN_EXP = ("coin_exp",)
Reply = RawReply | BiliError


def now() -> float:
    """Seconds since the test began."""
    return asyncio.get_running_loop().time() - START


def seconds(time: datetime) -> float:
    """The same for a time that the poller tells."""
    return (time - WALL).total_seconds()


@attrs.frozen
class Sent:
    at: float
    account: int
    section: str
    secret: str


class World:
    """The server, in place of `transport.Pool`: it notes who asks, and answers the sample or what
    the test says.
    """

    def __init__(self, deadlines: Any, latency: float) -> None:
        self.deadlines = deadlines
        self.latency = latency
        self.slept = 0.0  # seconds by which the wall clock has run ahead of the loop's
        self.sent: list[Sent] = []
        self.overlaps: list[Sent] = []
        self.answers: dict[tuple[int, str], bytes] = {}
        self.trouble: Callable[[Sent], Reply | None] = lambda sent: None
        self._open: Counter[tuple[int | str, str]] = Counter()

    async def exchange(self, request: Request, patience: float) -> Reply:
        url, headers = request.url, request.headers
        cookie = (
            dict(part.split("=", 1) for part in headers["Cookie"].split("; "))
            if "Cookie" in headers
            else {}
        )
        mid, secret = cookie.get("DedeUserID", 0), cookie.get("SESSDATA") or url.query["access_key"]
        sent = Sent(now(), int(mid), SECTIONS[url.path], secret)
        self.sent.append(sent)
        who = sent.account or secret
        self.overlaps += [sent] * self._open[who, sent.section]
        self._open[who, sent.section] += 1
        try:
            with self.deadlines.after(patience):
                await asyncio.sleep(self.latency)
                return self.trouble(sent) or RawReply(
                    200, {}, self.answers.get((sent.account, sent.section), BODIES[sent.section])
                )
            return TransportError(f"no answer within {patience:.3g} s")
        finally:
            self._open[who, sent.section] -= 1

    async def close(self) -> None:
        pass

    def becomes(self, account: int, section: str, value: Any) -> None:
        """What the section of the account is from now on."""
        endpoint = ENDPOINT_OF[section]
        payload: Any = value
        for step in reversed(endpoint.result):
            payload = {step: payload}
        self.answers[account, section] = json.dumps({"code": 0} | payload).encode()

    def fails(
        self, *accounts: int, with_: Callable[[], Reply], sections: Iterable[str] = ALL_SECTIONS
    ) -> None:
        """From now on these accounts' calls fail, and nobody else's."""
        self.trouble = lambda sent: (
            with_() if sent.account in accounts and sent.section in sections else None
        )

    def mend(self) -> None:
        self.trouble = lambda sent: None

    def starts(self, account: int = 1, section: str = "coin_exp") -> list[float]:
        """When the account was polled."""
        return [
            sent.at for sent in self.sent if sent.account == account and sent.section == section
        ]


def code(number: int, message: str = "") -> Callable[[], Reply]:
    return lambda: RawReply(200, {}, json.dumps({"code": number, "message": message}).encode())


def status(number: int, **headers: str) -> Callable[[], Reply]:
    return lambda: RawReply(
        number, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}"
    )


GONE = status(404)
DEAD_LOGIN = code(-101, "账号未登录")
RISK = code(-352, "风控校验失败")


def credential(number: int = 1, secret: str = "secret") -> Credential:
    return Credential(sessdata=secret, dede_user_id=number, bili_jct="jct")


def phase_of(number: int) -> float:
    """Where the grid of the account begins, in seconds of the usual interval."""
    return (number - 1) * (math.sqrt(5) - 1) / 2 % 1 * EVERY


def name_of(number: int) -> str:
    return f"account-{number}"


@asynccontextmanager
async def world_and_manager(
    latency: float = 0.1, random: Callable[[], float] = lambda: 0.0, **options: Any
) -> AsyncIterator[tuple[World, SessionManager]]:
    manager = SessionManager(
        **{"limits": Limits.none(), "retry": Retry.none(), "timeout": 1e6} | options
    )
    worlds: list[World] = []

    def wall() -> float:
        return WALL.timestamp() + now() + sum(world.slept for world in worlds)

    manager._new_seam = lambda: Seam(random=random, wall=wall)
    async with manager:
        engine: Any = manager._engine
        await engine.pool.close()
        engine.pool = world = World(engine.deadlines, latency)
        worlds.append(world)
        yield world, manager
    await turns()


class Fleet(Poller):
    """A Poller that hands its events over in lists, and sees that no poll overlaps another."""

    async def open(self) -> None:
        await super().open()
        perform, polled = self._polls.perform, set[str]()

        async def watched(account: Any, sections: frozenset[str]) -> None:
            assert account.name not in polled, "two polls of one account"
            polled.add(account.name)
            try:
                await perform(account, sections)
            finally:
                polled.discard(account.name)

        self._polls.perform = watched  # type: ignore[method-assign]

    async def told(self, wait: float = math.inf, number: float = math.inf) -> list[PollEvent]:
        """The events of the next `wait` seconds, or the next `number` of them."""
        events: list[PollEvent] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(wait if wait < math.inf else None):
                async for event in self:
                    events.append(event)
                    if len(events) >= number:
                        break
        return events


@asynccontextmanager
async def fleet(
    accounts: int = 1,
    *,
    latency: float = 0.1,
    random: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> AsyncIterator[tuple[World, Fleet]]:
    """A server, and a Poller of that many accounts; what a Poller does not take as an option is the
    manager's.
    """
    polled = {"every": timedelta(seconds=EVERY), "sections": COIN_EXP}
    polled |= {
        key: options.pop(key)
        for key in ("every", "sections", "store", "track_changes", "on_event")
        if key in options
    }
    async with world_and_manager(latency, random, **options) as (world, manager):
        async with Fleet(manager, **polled) as poller:
            for number in range(1, accounts + 1):
                poller.add(name_of(number), credential(number))
            yield world, poller
        assert not world.overlaps


def of(kind: type[Any], events: Iterable[PollEvent], account: int | None = None) -> list[Any]:
    return [
        event
        for event in events
        if isinstance(event, kind) and account in (None, int(event.account.split("-")[1]))
    ]
