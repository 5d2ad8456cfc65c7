"""The queue of one host: who goes next. Pure: every method is told the time.

The budgets' arithmetic is `budget.py`'s, futures and timers are `timed.py`'s.

The theory. Two budgets nest: the host's, and the account's on that host. A call goes only when both
conform *at the moment of departure*, and both are charged then. (An account's token taken first,
then the queue for the host, would let the account's tokens bunch; both reserved in advance would
waste the host's slots while the account waits.)

Four lanes, each before the next: people's retries, people's calls, then the same of background
sessions. Calls of one account queue in order within a lane: a line. A line is ready when its first
call became the first, or when the account's budget conforms, whichever is later. If the host may
send, the line goes that is ready first in the first lane that has a ready one; its next call is
ready now at the earliest, so accounts take turns. A grant costs O(log accounts), a throttle
O(log accounts) and a little for each call that it refuses.

The queue only proposes. `candidate` names the call that would go; `granted` lets it go, `deferred`
tells it when to ask again. The limiter of one process grants at once, for `candidate` knows both
budgets; one whose budgets are elsewhere asks there first.

A grant reaches its caller one turn of the loop later. One that is cancelled in between gives its
charge back, less the budget that has grown since, which is always safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice

from ..errors import RateLimited
from .budget import Budget, Pace
from .calls import BACKGROUND, Account, Call, Departure, Line
from .lanes import Lanes
from .max_wait import MaxWait
from .patience import Patience
from .types import HostState, Limits

SPREAD_ACCOUNTS, SPREAD_SECONDS = 3, 5.0
"""So many accounts throttled on one host in so many seconds slow the host as well."""
_SWEEP_SECONDS, _SWEEP_KEYS = 1.0, 512


class Queue:
    """One host's budget, its accounts, and their calls that wait."""

    __slots__ = (
        "_max_wait",
        "_patience",
        "_random",
        "_recent",
        "account_pace",
        "accounts",
        "concurrency",
        "host",
        "in_flight",
        "lanes",
        "slowed",
        "sweep_at",
        "waiting",
    )

    def __init__(self, limits: Limits, random: Callable[[], float]) -> None:
        self.host = Budget(Pace(limits.host))
        self.account_pace = Pace(limits.account)
        self.concurrency = math.inf if limits.concurrency is None else limits.concurrency
        self.accounts: dict[str, Account] = {}
        self.lanes = Lanes()
        self.in_flight = 0
        self.waiting = 0
        self.slowed = 0  # budgets that are paused or recover
        self.sweep_at = math.inf
        self._patience = Patience(self.host)
        self._max_wait = MaxWait(self.host, self.lanes)
        self._recent: dict[str, float] = {}  # accounts, by when they were throttled
        self._random = random

    def try_acquire(self, key: str, now: float) -> Departure | None:
        """Return the permit of a call that nothing holds up, as is the rule; None to `enqueue`."""
        host = self.host
        if self.waiting or self.slowed or host.ready_at > now or self.in_flight >= self.concurrency:
            return None
        account = self.accounts.get(key)
        if account is None or account.ready_at > now:
            return None
        self.in_flight += 1  # from here on it is `_depart` in line: a third of the time
        pace, ready_at = host.pace, host.ready_at
        rested = now - pace.tolerance
        host.ready_at = (ready_at if ready_at > rested else rested) + pace.emission_interval
        pace, ready_at = account.pace, account.ready_at
        rested = now - pace.tolerance
        account.ready_at = (ready_at if ready_at > rested else rested) + pace.emission_interval
        permit = Departure()  # filled from here, which saves the call of an `__init__`
        permit.queue, permit.account, permit.departed = self, key, now
        return permit

    def enqueue(self, call: Call, now: float) -> bool:
        """Let the call go (True) or wait (False), after whoever could go before it.

        Raises `RateLimited` if a pause outlasts its patience, or the queue its `max_wait`.
        """
        account = self.accounts.get(call.account)
        if self.slowed:
            self._settle(self.host, now)
            self._settle(account, now)
            self._patience.refuse(call, account, now)
        account = account or Account(self.account_pace)
        if self._open(now) and account.next_at() <= now:
            self._keep(call.account, account, now)
            self._depart(call, account, now)
            return True
        if call.max_wait < math.inf:
            self._max_wait.refuse(call, account, now)
        self._keep(call.account, account, now)
        self._wait(call, account, now)
        return False

    def leave(self, call: Call, now: float) -> None:
        """Take a cancelled call off the queue, or take its grant back."""
        if call.line is not None:
            self._unqueue(call)
        elif call.costs is not None:
            host_cost, account_cost = call.costs
            call.costs = None
            self.host.refund(host_cost, now - call.departed)
            account = self.accounts.get(call.account)
            self._land(call, account, now, won=False)
            if account is not None:
                account.refund(account_cost, now - call.departed)
                self.lanes.place_all(account, now)

    def candidate(self, now: float) -> Call | None:
        """Return the call that would go now, which waits still; None if nobody can."""
        if not self._open(now):
            return None
        while (line := self.lanes.first(now)) is not None:
            call = next(iter(line.calls))
            if call.future is None or not call.future.done():
                return call
            self._unqueue(call)  # cancelled, and its task has not run since
        return None

    def granted(self, call: Call, now: float) -> None:
        """Let the candidate go."""
        line = call.line
        assert line is not None
        account = line.account
        call.paused = self._patience.spent(account, now) - call.spent
        self._unqueue(call)
        self._depart(call, account, now)
        if line.calls:
            self.lanes.place(line, now)

    def deferred(self, call: Departure, host_ready_at: float, account_ready_at: float) -> None:
        """Hold the host and the call's account back, as budgets that are elsewhere say."""
        self.host.ready_at = max(self.host.ready_at, host_ready_at)
        account = self.accounts[call.account]
        account.ready_at = account_ready_at
        self.lanes.place_all(account, account_ready_at)

    def release(
        self, permit: Departure, error: BaseException | None, now: float
    ) -> list[tuple[Call, RateLimited]]:
        """Take a permit back; return the calls that a new pause outlasts, and an error for each."""
        account = self.accounts.get(permit.account)
        self._land(permit, account, now, won=error is None)
        if isinstance(error, RateLimited):
            self._throttle(permit, error, now)
            refused = []
            for call, refusal in self._patience.used_up(now):
                self._unqueue(call)
                refused.append((call, refusal))
            return refused
        if error is None and self.slowed:
            for scope in (self.host, account):
                if scope and scope.throttle and permit.departed > scope.throttle.throttled_at:
                    scope.throttle.strikes = 0
        return []

    def overdue(self, now: float) -> Iterator[tuple[Call, RateLimited]]:
        """Take the calls that are over their `max_wait` off the queue, each with its error."""
        for call, error in self._max_wait.overdue(now):
            self._unqueue(call)
            yield call, error

    def next_at(self) -> float:
        """Return when something happens that no caller brings about; infinity for never."""
        at, overdue = self.sweep_at, self._max_wait.next_at()
        if self.waiting and self.in_flight < self.concurrency:
            at = min(at, max(self.lanes.next_at(), self.host.next_at()))
        return overdue if overdue < at else at

    def sweep(self, now: float) -> None:
        """Free a few idle accounts, and sooner again if all were idle."""
        freed = 0
        rested = now - self.account_pace.tolerance
        for key in list(islice(self.accounts, _SWEEP_KEYS)):
            account = self.accounts.pop(key)
            self._settle(account, now)
            if account.lines is None and account.throttle is None and account.ready_at <= rested:
                freed += 1
            else:
                self.accounts[key] = account  # now the last, so the next sweep sees others
        if self.accounts:
            self.sweep_at = now + (_SWEEP_SECONDS / 100 if freed == _SWEEP_KEYS else _SWEEP_SECONDS)
        else:
            self.accounts = {}  # a dict does not shrink by itself
            self.sweep_at = math.inf

    def queued(self) -> list[Call]:
        """Return all calls that wait."""
        return [call for line in self._lines() for call in line.calls]

    def state(self, now: float) -> HostState:
        """Return the host as it stands."""
        background = [line.calls for line in self._lines() if line.lane >= BACKGROUND]
        waits = [now - next(iter(calls)).arrived for calls in background]
        return HostState(
            rate=self.host.rate(now),
            paused_for=self.host.paused_for(now),
            waiting=self.waiting,
            in_flight=self.in_flight,
            accounts={
                key: account.state(now)
                for key, account in self.accounts.items()
                if account.lines or account.throttle
            },
            background=sum(map(len, background)),
            background_wait=max(waits, default=0.0),
        )

    def _lines(self) -> Iterator[Line]:
        for account in self.accounts.values():
            yield from (account.lines or {}).values()

    def _open(self, now: float) -> bool:
        return self.host.next_at() <= now and self.in_flight < self.concurrency

    def _keep(self, key: str, account: Account, now: float) -> None:
        if self.accounts.setdefault(key, account) is account:
            self.sweep_at = min(self.sweep_at, now + _SWEEP_SECONDS)

    def _wait(self, call: Call, account: Account, now: float) -> None:
        if account.lines is None:
            account.lines = {}
        line = account.lines.get(call.lane)
        if line is None:
            line = account.lines[call.lane] = Line(account, call.lane)
            self.lanes.place(line, now)
        line.calls[call] = None
        call.line = line
        self.waiting += 1
        self._patience.add(call, account, now)
        if call.max_wait < math.inf:
            self._max_wait.add(call, self.waiting)

    def _unqueue(self, call: Call) -> None:
        line = call.line
        assert line is not None
        del line.calls[call]
        call.line = None
        self.waiting -= 1
        if line.calls:
            return
        self.lanes.drop(line)
        account = line.account
        assert account.lines is not None
        del account.lines[line.lane]
        if not account.lines:
            account.lines = account.impatient = None

    def _depart(self, call: Call, account: Account, now: float) -> None:
        call.costs = self.host.charge(now), account.charge(now)
        call.departed, call.waited = now, now - call.arrived
        self.in_flight += 1
        if self.slowed:
            scopes = (self.host, account)
            call.starts = tuple(scope.throttle.start for scope in scopes if scope.throttle)
            for start in call.starts:
                start.in_flight += 1

    def _land(self, permit: Departure, account: Account | None, now: float, *, won: bool) -> None:
        self.in_flight -= 1
        for start in permit.starts:
            start.in_flight -= 1
            start.window += won
        if permit.starts and account is not None:
            self.lanes.place_all(account, now)

    def _throttle(self, permit: Departure, error: RateLimited, now: float) -> None:
        """Slow the scope that the server named, and the host after several of its accounts."""
        if error.scope == "account":
            account = self.accounts.get(permit.account) or Account(self.account_pace)
            self._keep(permit.account, account, now)
            self._slow_down(account, permit.departed, error, now)
            recent = self._recent | {permit.account: now}
            self._recent = {key: at for key, at in recent.items() if now - at <= SPREAD_SECONDS}
            if len(self._recent) < SPREAD_ACCOUNTS:
                return
            # An account's wait is not the host's.
            error = error.restated(scope="host", retry_after=None)
        self._recent = {}
        self._slow_down(self.host, permit.departed, error, now)

    def _slow_down(self, scope: Budget, departed: float, error: RateLimited, now: float) -> None:
        self.slowed += scope.throttle is None
        before = scope.paused_until()
        if scope.slow_down(error, departed, now, self._random()):
            self._patience.paused(scope, before, now)

    def _settle(self, scope: Budget | None, now: float) -> None:
        """Forget a throttle that is recovered from."""
        if scope and scope.throttle and scope.throttle.over_at() <= now:
            scope.throttle = None
            self.slowed -= 1
            if isinstance(scope, Account):
                self._patience.forget(scope)
                self.lanes.place_all(scope, now)  # it may have stood back for its slow start
