"""A limiter of the program's own, with our queue before it. It alone knows budgets and pauses.

What asks it is the first call of each account and, if there is none, the first of all background
calls: so few stand in it that a person's call or a retry passes all the others. Ours are the order,
the cap of what is in flight or asks, and `max_wait`.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import attrs

from .._seam import Seam
from ..errors import RateLimited
from .calls import Departure
from .local import LocalLimiter
from .protocols import Limiter, Permit
from .types import HostState, Limits, RateLimit

_UNTIL_ANSWERED = RateLimit(rate=1e-9, burst=1)
"""An account's budget in our queue: one call asks, and the next when that has its answer."""
_FLEET = "background sessions"
"""The account that all of them are to our queue."""


@attrs.frozen
class _Both:
    """A departure that our queue and the program's limiter have granted."""

    turn: Departure
    permit: Permit

    @property
    def waited(self) -> float:
        return self.turn.waited + self.permit.waited

    @property
    def paused(self) -> float:
        return self.permit.paused


class _People:
    """The calls of one host that wait for a permit, but for background ones."""

    def __init__(self) -> None:
        self.waiting = 0
        self.gone = asyncio.Event()

    def came(self) -> None:
        self.waiting += 1
        self.gone.clear()

    def went(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.gone.set()


class FrontedLimiter:
    """The program's limiter, asked in our queue's order."""

    def __init__(self, limiter: Limiter[Any], limits: Limits, seam: Seam) -> None:
        self._limiter = limiter
        self._loop = seam.loop
        self._people: defaultdict[str, _People] = defaultdict(_People)
        self._closed = False
        self._queue = LocalLimiter(
            Limits(host=None, account=_UNTIL_ANSWERED, concurrency=limits.concurrency), seam
        )

    def try_acquire(self, host: str, account: str) -> None:
        """Return None: the program's limiter is asked for every departure."""

    async def acquire(
        self,
        host: str,
        account: str,
        *,
        patience: float,
        max_wait: float,
        retry: bool,
        background: bool,
    ) -> _Both:
        """Wait for our queue, then for the limiter; for `max_wait` seconds in all."""
        people = self._people[host]
        if not background:
            people.came()
        try:
            async with asyncio.timeout(None if max_wait == math.inf else max_wait) as bound:
                turn = await self._queue.acquire(
                    host,
                    _FLEET if background else account,
                    patience=math.inf,
                    retry=retry,
                    background=background,
                )
                return await self._ask(
                    turn, host, account, patience, people if background else None
                )
        except TimeoutError:
            if not bound.expired():
                raise
        finally:
            if not background:
                people.went()
        raise RateLimited(scope="local")  # how long it would have been the limiter does not say

    async def _ask(
        self, turn: Departure, host: str, account: str, patience: float, people: _People | None
    ) -> _Both:
        """Wait for the limiter, and before it until the people are gone that go first."""
        try:
            while people and people.waiting and not self._closed:
                await people.gone.wait()
            return _Both(turn, await self._limiter.acquire(host, account, patience=patience))
        except BaseException:
            self._queue.release(turn, None)
            raise
        finally:
            self._queue.answered(turn)

    def release(self, permit: _Both, error: BaseException | None) -> None:
        """Take the permit back for both."""
        try:
            self._limiter.release(permit.permit, error)
        finally:
            self._queue.release(permit.turn, None)

    def state(self) -> Mapping[str, HostState]:
        """Return what the limiter tells, and with it those who wait in our queue."""
        ours, theirs = self._queue.state(), self._limiter.state()
        return {
            name: attrs.evolve(
                state,
                waiting=state.waiting + ours[name].waiting,
                background=ours[name].background,
                background_wait=ours[name].background_wait,
            )
            if name in ours
            else state
            for name, state in theirs.items()
        }

    def close(self) -> None:
        """End the waits in our queue."""
        self._closed = True
        self._queue.close()
        for people in () if self._loop.is_closed() else self._people.values():
            people.gone.set()
