"""The accounts that wait for their next poll, in line.

Two heaps: `upcoming` by due time, and `ready`, of those that are due, by last start + interval. As
long as the budget suffices, `ready` is empty most of the time. When it does not, all accounts come
late by the same time, and those of one interval go in the order in which they last went, so equally
often. A first poll stands in the order of adding, whatever the account's own interval is.
"""

from __future__ import annotations

import asyncio

from .._heap import LazyHeap
from .account import Account
from .schedule import Clock

LOOK_SECONDS = 30.0
"""Seconds after which the clocks are compared while nothing is due: the machine may have slept."""


class Line:
    """The line of one Poller's idle accounts."""

    def __init__(self, pace: float) -> None:
        self._pace = pace  # the seconds that count as the interval of an account never polled
        self._upcoming: LazyHeap[Account] = LazyHeap()
        self._ready: LazyHeap[Account] = LazyHeap()
        self.wake = asyncio.Event()  # set when the first due time comes nearer, or all is over

    def __len__(self) -> int:
        return len(self._upcoming) + len(self._ready)

    def put(self, account: Account, due: float) -> None:
        """Let an account wait until `due`, wherever it stood before."""
        account.leave_line()
        account.due = due
        account.place = self._upcoming.push(due, account)
        if self._upcoming.first_key() >= due:
            self.wake.set()

    def next(self, now: float) -> Account | None:
        """Take the account whose turn it is out of the line; None if nothing is due."""
        while self._upcoming.first_key() <= now:
            account = self._upcoming.pop()
            pace = account.timetable.shortest if account.polls else self._pace
            account.place = self._ready.push(account.turn + pace, account)
        if not self._ready:
            return None
        account = self._ready.pop()
        account.place = None
        return account

    async def sleep(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        """Wait until something is due or steered, or it is time to look at the clocks."""
        self.wake.clear()
        due = clock.on_loop(self._upcoming.first_key())
        timer = loop.call_at(min(due, loop.time() + LOOK_SECONDS), self.wake.set)
        try:
            await self.wake.wait()
        finally:
            timer.cancel()
