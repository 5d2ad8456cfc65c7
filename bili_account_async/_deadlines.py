"""Deadlines that cost next to nothing: calls that end within the same 1/64 s share one timer.

An `asyncio.timeout` per call takes 12 to 29 % of the least that a GET through aiohttp costs.
"""

from __future__ import annotations

import asyncio
from math import ceil
from types import TracebackType

from ._seam import Seam

_GRAIN = 64.0


class Deadlines:
    """All running deadlines of one manager."""

    __slots__ = ("_due", "_loop", "_now", "_timers")

    def __init__(self, seam: Seam) -> None:
        self._loop = seam.loop
        self._now = seam.loop.time
        self._due: dict[float, set[Deadline]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def after(self, seconds: float) -> Deadline:
        """A context that cancels the current task after `seconds` (up to 1/64 s later, exactly if
        shorter than 1 s).
        """
        at = self._now() + seconds
        if seconds >= 1:
            at = ceil(at * _GRAIN) / _GRAIN
        due = self._due.get(at)
        if due is None:
            due = self._due[at] = set()
            self._timers[at] = self._loop.call_at(at, self._fire, at)
        task = asyncio.current_task(self._loop)
        assert task is not None
        deadline = Deadline()  # filled from here, which saves the call of an `__init__`
        deadline.due = due
        deadline.task = task
        deadline.cancelling = task.cancelling()
        return deadline

    def close(self) -> None:
        """Let every deadline expire now."""
        for timer in self._timers.values():
            timer.cancel()
        for at in list(self._timers):
            self._fire(at)

    def _fire(self, at: float) -> None:
        del self._timers[at]
        due = self._due.pop(at)
        while due:
            due.pop().task.cancel()


class Deadline:
    """One call's deadline; `expired` tells afterwards whether it, and nobody else,
    ended the body.
    """

    __slots__ = ("cancelling", "due", "expired", "task")

    due: set[Deadline]
    """The deadlines of its time that are still to fire, this one among them."""
    task: asyncio.Task[object]
    cancelling: int
    expired: bool

    def __enter__(self) -> Deadline:
        self.due.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if self in self.due:
            self.due.remove(self)
            self.expired = False
        # as asyncio.timeout does: our own cancellation is taken back, somebody else's passes
        # through
        else:
            self.expired = (
                self.task.uncancel() <= self.cancelling and kind is asyncio.CancelledError
            )
        return self.expired
