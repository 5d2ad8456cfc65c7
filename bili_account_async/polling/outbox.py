"""Events on their way to the program: each poll waits until its event was taken."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Generic, TypeVar

from .._seam import Seam
from .events import PollEvent

E = TypeVar("E")

STALL_SECONDS = 60.0
"""Seconds after which an event that nobody takes is worth a warning."""
_log = logging.getLogger("bili_account_async")


class Offer(Generic[E]):
    """One event that waits to be taken."""

    __slots__ = ("at", "event", "on_taken", "taken")

    def __init__(self, event: E, on_taken: Callable[[], None], seam: Seam) -> None:
        self.event = event
        self.on_taken = on_taken  # called in the moment in which the program has it
        self.at = seam.now()
        self.taken: asyncio.Future[None] = seam.loop.create_future()


class Outbox(Generic[E]):
    """The events that wait, in order: as many as there are polls at a time, at most."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._offers: deque[Offer[E]] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()  # who waits for an event, in turn
        self._ended = False
        self._taken_at = -math.inf  # when the program last took one
        self._stalled = False  # nobody takes, and that was said
        self._timer: asyncio.TimerHandle | None = None  # looks for a stall; None while nobody waits

    def __len__(self) -> int:
        return len(self._offers)

    async def put(self, offer: Offer[E]) -> None:
        """Wait until the program has taken it, or it was withdrawn."""
        self._offers.append(offer)
        self._wake_next()
        if self._timer is None:
            self._watch(offer.at)
        try:
            await offer.taken
        finally:
            if not offer.taken.done() or offer.taken.cancelled():
                self.withdraw(offer)

    def withdraw(self, offer: Offer[E]) -> None:
        """Take the event back, if the program has not taken it."""
        if offer in self._offers:
            self._offers.remove(offer)
        if not offer.taken.done():
            offer.taken.set_result(None)

    async def take(self) -> E | None:
        """Return the next event, None at the end. Of several that wait, each event goes to one."""
        while not self._ended:
            if not self._offers:
                await self._arrival()
                continue
            offer = self._offers.popleft()
            if offer.taken.done():
                continue  # its poll was cancelled, and has not run since
            self._stalled, self._taken_at = False, self._seam.now()
            offer.on_taken()
            offer.taken.set_result(None)
            return offer.event
        return None

    async def _arrival(self) -> None:
        """Wait for an event, behind those who wait already."""
        taker = self._seam.loop.create_future()
        self._takers.append(taker)
        try:
            await taker
        except asyncio.CancelledError:
            if taker in self._takers:
                self._takers.remove(taker)
            elif self._offers:
                self._wake_next()  # it was woken for an event that it does not take now
            raise

    def end(self) -> None:
        """Let every `take` return None."""
        self._ended = True
        while self._takers:
            self._wake_next()
        if self._timer is not None:
            self._timer.cancel()
        if self._stalled:
            _log.error("the Poller ends while nobody takes its events: has that task crashed?")

    def _wake_next(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _watch(self, since: float) -> None:
        self._timer = self._seam.loop.call_at(since + STALL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._offers or self._ended:
            return
        since = max(self._offers[0].at, self._taken_at)
        if since + STALL_SECONDS > self._seam.now():
            self._watch(since)
        elif not self._stalled:
            self._stalled = True
            _log.warning(
                "no event was taken for %.0f s, so polling stands still: is the task that takes "
                "them busy, or has it crashed?",
                STALL_SECONDS,
            )


async def consume(
    events: AsyncIterable[PollEvent], on_event: Callable[[PollEvent], object]
) -> None:
    """Call `on_event` with each event, one at a time, whatever it raises."""
    task = asyncio.current_task()
    async for event in events:
        try:
            told = on_event(event)
            if inspect.isawaitable(told):
                await told
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            kind = type(event).__name__
            _log.exception("on_event raised for %s of %s: polling goes on", kind, event.account)
