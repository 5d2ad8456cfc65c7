"""A queue with its futures and its timer: one for all who wait, none while it is idle."""

from __future__ import annotations

import asyncio
import math

from .._seam import Seam
from .calls import Call
from .queue import Queue
from .types import Limits

CLOSED = "this SessionManager was closed while the call was under way"


class TimedQueue(Queue):
    """A queue on an event loop: whoever may go is told, and whoever may not wait on."""

    __slots__ = ("_closed", "_loop", "_timer", "_timer_at")

    def __init__(self, limits: Limits, seam: Seam) -> None:
        super().__init__(limits, seam.random)
        self._loop = seam.loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # not every loop's timers tell it
        self._closed = False

    def pump(self, now: float) -> None:
        """Let go whoever can, in order."""
        if self._closed or self._loop.is_closed():
            return  # whoever waits was told so, or was abandoned with the loop
        while (call := self.candidate(now)) is not None:
            self.granted(call, now)
            assert call.future is not None
            call.future.set_result(None)
        for call, error in self.overdue(now):
            fail(call, error)
        self.arm()

    def arm(self) -> None:
        """Set the timer to the next time at which something happens by itself."""
        at = self.next_at()
        if self._closed or at == math.inf or self._timer_at <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._tick, at), at

    def close(self) -> None:
        """Stop the timer; whoever still waits gets a `RuntimeError`, unless the loop has ended."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for call in () if self._loop.is_closed() else self.queued():
            fail(call, RuntimeError(CLOSED))

    def _tick(self, at: float) -> None:
        self._timer, self._timer_at = None, math.inf
        now = max(at, self._loop.time())  # a loop may be a clock tick early
        if now >= self.sweep_at:
            self.sweep(now)
        self.pump(now)


def fail(call: Call, error: Exception) -> None:
    """End the call's wait with an error of its own."""
    assert call.future is not None
    if not call.future.done():
        call.future.set_exception(error)
