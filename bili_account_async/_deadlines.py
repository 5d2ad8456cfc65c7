"""Deadlines that cost next to nothing: calls that end within the same 1/64 s share one timer.

An `asyncio.timeout` per call takes 12 to 29 % of the least that a GET through aiohttp costs. A
timer lives no longer than the last call that needs it, however far away its time is.

A deadline bounds one attempt, not a call: `call.py` knows how much of the call's time is left.
"""

from __future__ import annotations

import asyncio
from math import ceil
from types import TracebackType

from ._seam import Seam

_GRAIN = 64.0
"""Times a second at which deadlines of a second or more fall due, rounded up to the next one."""


class Deadlines:
    """All running deadlines of one manager."""

    __slots__ = ("_due", "_loop", "_now")

    def __init__(self, seam: Seam) -> None:
        self._loop = seam.loop
        self._now = seam.loop.time
        self._due: dict[float, _Due] = {}  # by the loop's time at which each fires

    def after(self, seconds: float) -> Deadline:
        """Return a context that cancels the current task after `seconds`.

        It is exact for less than a second, and comes up to 1/64 s late for more.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError(
                "this coroutine runs in no task, so nothing could end it in time: await it inside "
                "a task, as `asyncio.run` and `asyncio.create_task` make one"
            )
        at = self._now() + seconds
        if seconds >= 1:
            at = ceil(at * _GRAIN) / _GRAIN
        due = self._due.get(at)
        if due is None:
            due = self._due[at] = _Due()
            due.owner = self._due
            due.at = at
            due.timer = self._loop.call_at(at, self._fire, at)
        deadline = Deadline()  # filled from here, which saves the call of an `__init__`
        deadline.due = due
        deadline.task = task
        deadline.cancelling = task.cancelling()
        return deadline

    def close(self) -> None:
        """Let every deadline expire now."""
        for at, due in list(self._due.items()):
            due.timer.cancel()
            self._fire(at)

    def _fire(self, at: float) -> None:
        due = self._due.pop(at)
        while due:
            due.pop().task.cancel()


class _Due(set["Deadline"]):
    """The deadlines of one time that are still to fire, with the timer that they share."""

    __slots__ = ("at", "owner", "timer")

    owner: dict[float, _Due]
    at: float
    timer: asyncio.TimerHandle

    def release(self) -> None:
        """Give the timer back: the last of its calls has ended before the time came."""
        self.timer.cancel()
        self.owner.pop(self.at, None)


class Deadline:
    """The deadline of one attempt."""

    __slots__ = ("cancelling", "due", "expired", "task")

    due: _Due
    task: asyncio.Task[object]
    cancelling: int
    """The number of requests to cancel the task that were pending when this deadline began."""
    expired: bool
    """True after the body if this deadline, and nobody else, ended it."""

    def __enter__(self) -> Deadline:
        self.due.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> bool:
        due = self.due
        if self in due:
            due.remove(self)
            if not due:
                due.release()
            self.expired = False
        else:
            # As asyncio.timeout does it: our own cancellation is taken back, while anybody else's
            # passes through.
            mine = self.task.uncancel() <= self.cancelling
            self.expired = mine and kind is asyncio.CancelledError
        return self.expired

    def cancelled_by_caller(self) -> bool:
        """Return True if a cancellation that came out of the body was asked of this very task.

        A `CancelledError` can also come from below: aiohttp cancels its waiters when its connector
        is closed. That is a failure of the connection, and must not end the caller's task.
        """
        return self.task.cancelling() > self.cancelling
