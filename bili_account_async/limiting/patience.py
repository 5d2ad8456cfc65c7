"""The time that pauses take from waiting calls: how much each sat out, and who has no more of it.

Pure. Clocks tell the seconds that pauses have taken so far, so a waiting call needs no more than
the reading at its arrival: no throttle walks over the calls that wait. Pauses of the host count on
the host's clock; an account's own, as far as the host does not pause as well, on the account's.
Both are booked when they are told, to their end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ..errors import RateLimited
from .budget import Budget
from .calls import Account, Call


class Patience:
    """The clocks of one host and its accounts, and the waiting calls by when their time is up."""

    __slots__ = ("_accounts", "_host", "_pausing", "_seconds", "_tidy_at", "_turns")

    def __init__(self, host: Budget) -> None:
        self._host = host
        self._seconds = 0.0  # that pauses of the host take, those to come included
        self._pausing: set[Account] = set()  # accounts that were paused when last looked at
        self._accounts: list[tuple[float, int, Account]] = []
        self._turns = 0
        self._tidy_at = 64  # places, beyond which those that lead to nothing are dropped

    def spent(self, account: Account, now: float) -> float:
        """Return the account's clock: the seconds until `now` that pauses took from its calls."""
        booked = self._seconds + account.paused_alone
        if self._host.throttle is None and account.throttle is None:
            return booked
        return booked - max(0.0, self._resumes_at(account) - now)

    def paused(self, scope: Budget, before: float, now: float) -> None:
        """Book a pause of the host or an account, which was paused until `before`."""
        if not isinstance(scope, Account):
            self._paused_host(max(now, before))
            return
        begins = max(now, before, self._host.paused_until())
        scope.paused_alone += max(0.0, scope.paused_until() - begins)
        self._pausing.add(scope)
        self._place(scope)

    def _paused_host(self, begins: float) -> None:
        ends = self._host.paused_until()
        self._seconds += ends - begins
        for account in [one for one in self._pausing if one.paused_until() <= begins]:
            self._pausing.discard(account)
        for account in self._pausing:
            account.paused_alone -= min(ends, account.paused_until()) - begins

    def forget(self, account: Account) -> None:
        """Drop an account that has recovered."""
        self._pausing.discard(account)

    def add(self, call: Call, account: Account, now: float) -> None:
        """Read the clock for a call that begins to wait."""
        call.spent = self.spent(account, now)
        if call.patience == math.inf:
            return
        if account.impatient is None:
            account.impatient = []
        self._turns += 1
        entry = (call.spent + call.patience, self._turns, call)
        heappush(account.impatient, entry)
        if account.impatient[0] is entry:
            self._place(account)
        elif len(account.impatient) > 2 * account.waiting() + 64:
            account.impatient = [kept for kept in account.impatient if kept[2].line is not None]
            heapify(account.impatient)

    def refuse(self, call: Call, account: Account | None, now: float) -> None:
        """Raise what the server said if the call can't sit out the pause."""
        pause = self._resumes_at(account) - now
        if pause > 0 and pause >= call.patience:
            raise self._told(account, now)

    def used_up(self, now: float) -> Iterator[tuple[Call, RateLimited]]:
        """Yield the calls whose time ends with the pauses told, each with an error of its own.

        Each is to be taken off its queue before the next is asked for.
        """
        while self._accounts and self._accounts[0][0] <= self._seconds:
            account = heappop(self._accounts)[2]
            ends = self._seconds + account.paused_alone
            while account.impatient:
                ends_at, _, call = account.impatient[0]
                if call.line is not None and ends_at > ends:
                    break
                heappop(account.impatient)
                if call.line is not None:
                    yield call, self._told(account, now)
            self._place(account)

    def _resumes_at(self, account: Account | None) -> float:
        at = self._host.paused_until()
        return at if account is None else max(at, account.paused_until())

    def _told(self, account: Account | None, now: float) -> RateLimited:
        """Return what the server said of the pause that ends last."""
        scopes = (self._host, account)
        throttles = [scope.throttle for scope in scopes if scope and scope.throttle]
        longest = max(throttles, key=lambda throttle: throttle.paused_until)
        return longest.error.restated(retry_after=longest.paused_until - now)

    def _place(self, account: Account) -> None:
        """Note which reading of the host's clock ends the time of an account's call."""
        if not account.impatient:
            return
        heappush(self._accounts, self._entry(account))
        if len(self._accounts) > self._tidy_at:
            accounts = {entry[2] for entry in self._accounts if entry[2].impatient}
            self._accounts = [self._entry(account) for account in accounts]
            heapify(self._accounts)
            self._tidy_at = 2 * len(self._accounts) + 64

    def _entry(self, account: Account) -> tuple[float, int, Account]:
        assert account.impatient
        self._turns += 1
        return account.impatient[0][0] - account.paused_alone, self._turns, account
