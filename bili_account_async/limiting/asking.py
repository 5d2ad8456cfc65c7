"""A queue whose calls ask a place that other processes see as well, before they go.

Here: the queue's side, that is how a call waits, when its limiter is to ask, and what the queue
takes over. Not here: what is asked, and what the answer costs (`booking.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import attrs

from .._seam import Seam
from .budget import Budget, Pace
from .calls import Account, Call, Departure
from .throttle import Throttle
from .timed import TimedQueue, fail
from .types import Limits

LATE_SECONDS = 0.05
"""A slot that is missed by more is not used: the process was stopped, or the loop blocked."""


@attrs.frozen(eq=False)
class Charge:
    """A row that was charged, and when it was ready before and after, by the wall clock."""

    key: bytes
    before: float
    after: float
    rested_at: float


@attrs.frozen(eq=False)
class Booking:
    """A slot of the host, for a call of one account."""

    account: str
    slot: float
    charges: tuple[Charge, ...]


class AskingQueue(TimedQueue):
    """A queue that lets nobody go by itself while it `asks`; else it is a `TimedQueue`."""

    __slots__ = ("_ask", "asking", "asks", "booked", "busy_since", "last", "name", "ticked_at")

    def __init__(
        self, name: str, limits: Limits, seam: Seam, ask: Callable[[AskingQueue], None]
    ) -> None:
        super().__init__(limits, seam)
        self._ask = ask
        self.name = name
        self.asks = True
        self.asking: asyncio.Handle | None = None  # what asks next, or waits for the slot
        self.booked: Booking | None = None
        self.last: tuple[Call, Booking] | None = None  # the last grant, which may yet be cancelled
        self.busy_since = math.inf
        self.ticked_at = -math.inf  # the last timer's time: a loop may be a clock tick early
        self._keep_slack()

    # --- what a queue does otherwise while it asks ---

    def try_acquire(self, key: str, now: float) -> Departure | None:
        """Return None: every call is to `enqueue`."""
        return None if self.asks else super().try_acquire(key, now)

    def enqueue(self, call: Call, now: float) -> bool:
        """Let the call wait (False), also if it may go as far as this process knows.

        Raises `RateLimited` as `Queue.enqueue` does.
        """
        if not self.asks:
            return super().enqueue(call, now)
        account = self.accounts.get(call.account)
        if self.slowed:
            self._settle(self.host, now)
            self._settle(account, now)
            self._patience.refuse(call, account, now)
        account = account or Account(self.account_pace)
        may_go = self._open(now) and account.next_at() <= now
        if not may_go and call.max_wait < math.inf:
            self._max_wait.refuse(call, account, now)
        self._keep(call.account, account, now)
        self._wait(call, account, now)
        return False

    def pump(self, now: float) -> None:
        """Refuse whoever may not wait on, and see that the next call asks."""
        if not self.asks:
            super().pump(now)
        elif not self._closed and not self._loop.is_closed():
            for call, error in self.overdue(now):
                fail(call, error)
            self.arm()

    def _tick(self, at: float) -> None:
        self.ticked_at = at
        super()._tick(at)

    def arm(self) -> None:
        """Let the first call ask in the loop's next turn, and set the timer.

        A look a turn: many calls that may go at once do not block the loop.
        """
        if self.asks and self.waiting and self.asking is None and not self._closed:
            self.asking = self._loop.call_soon(self._ask, self)
        super().arm()

    def rest(self) -> None:
        """Set the timer to when a call can go, since none could ask now."""
        super().arm()

    def next_at(self) -> float:
        """Return when something happens that neither a caller nor what asks brings about."""
        if self.asking is None:
            return super().next_at()
        return min(self.sweep_at, self._max_wait.next_at())

    # --- what its limiter wants of it ---

    def stop(self) -> None:
        """Ask no more, and forget what was booked."""
        if self.asking is not None:
            self.asking.cancel()
        self.asking = self.booked = None
        self.busy_since = math.inf

    def grant(self, call: Call, booking: Booking, now: float) -> None:
        """Let the call go with a slot."""
        self.granted(call, now)
        self.last = call, booking
        assert call.future is not None
        call.future.set_result(None)

    def refuse(self, call: Call, error: Exception) -> None:
        """Take a call that waits off the queue with an error."""
        self._unqueue(call)
        fail(call, error)

    def scope(self, account: str | None) -> Budget:
        """Return the budget of an account, or with None the host's."""
        return self.host if account is None else self.accounts[account]

    def first_of(self, account: str) -> Call | None:
        """Return the call of an account that goes before its others, None if none waits."""
        for _, line in sorted((self.accounts[account].lines or {}).items()):
            for call in line.calls:
                if call.future is None or not call.future.done():
                    return call
        return None

    def adopt(self, account: str | None, told: Throttle, now: float) -> None:
        """Take over what others were told of an account, or with None of the host.

        Calls that a new pause outlasts are refused.
        """
        scope = self.scope(account)
        self.slowed += scope.throttle is None
        before = scope.paused_until()
        if not scope.adopt(told) or told.paused_until <= now:
            return
        self._patience.paused(scope, before, now)
        for call, error in self._patience.used_up(now):
            self.refuse(call, error)

    def repace(self, limits: Limits) -> None:
        """Put other limits in force, for the accounts that are there as well."""
        self.host.pace, self.account_pace = Pace(limits.host), Pace(limits.account)
        for account in self.accounts.values():
            account.pace = self.account_pace
        self._keep_slack()

    def _keep_slack(self) -> None:
        """Keep a little of each burst for departures that are late for their slots."""
        for pace in (self.host.pace, self.account_pace):
            pace.tolerance -= min(LATE_SECONDS, pace.tolerance / 4)
