"""Budgets and the limiter: who may send, and when. Knows nothing of HTTP; takes the clock from
outside.

The theory, in twenty lines. A budget is GCRA, the token bucket's twin that needs one number:
`ready_at`, the earliest next departure. A departure moves it to `max(ready_at, now - tolerance) +
gap`; the gap is `1 / rate`, the tolerance
`(burst - 1) / rate`. So no window of t seconds holds more than `burst + rate * t` departures.

Two budgets nest: the host's, and the account's on that host. A call is granted only when both
conform *at the moment of departure*, and both are charged then. (An account's token taken first,
then the queue for the host, would let the account's tokens bunch; both reserved in advance would
waste the host's slots while the account waits.)

Calls of one account queue in order. A host keeps one heap of the accounts that have waiting calls,
by the time at which the account's first call is ready: when it became the first, or when the
account's budget conforms, whichever is later. If the host may send, the account on top goes; its
next call becomes ready now at the earliest, so accounts take turns. A grant costs O(log accounts).
Nothing that could go waits: whatever frees budget (a departure's end, a cancellation, a timer)
pumps the heap.

A grant reaches its caller one turn of the loop later. One that is cancelled in between gives its
charge back, less the budget that has grown since, which is always safe.

Adaptive: when the server says slow down, the scope it names (host or account) pauses, its burst is
gone, and its rate halves; from the pause's end the rate grows by `RECOVERY` of the configured rate
a second. What departed before the throttle was told counts as the same throttle. What can't be
known: the server's own budget; so the first throttle without `Retry-After` pauses about a second,
and each further one twice as long, until a call succeeds.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Protocol, TypeVar

import attrs

from ._seam import Seam
from .errors import RateLimited

RECOVERY = 1 / 300
"""Share of the configured rate that a slowed scope regains a second."""
SHARE_MIN = 1 / 128
"""Share of the configured rate below which no throttle slows a scope."""
PAUSE_MIN, PAUSE_MAX = 1.0, 60.0
"""Seconds that a throttle without `Retry-After` pauses: the first, and the longest."""
SPREAD_ACCOUNTS, SPREAD_SECONDS = 3, 5.0
"""So many accounts throttled on one host in so many seconds slow the host as well."""
CLOSED = "this SessionManager was closed while the call was under way"
_SWEEP_SECONDS, _SWEEP_KEYS = 1.0, 512


@attrs.frozen(kw_only=True)
class RateLimit:
    """`rate` departures a second in the long run, `burst` at once after a rest."""

    rate: float
    burst: int

    def __attrs_post_init__(self) -> None:
        if (
            type(self.rate) not in (int, float)
            or not 0 < self.rate < math.inf
            or math.isinf(1 / self.rate)
        ):
            raise ValueError(f"rate: expected a finite number > 0, got {self.rate!r}")
        if type(self.burst) is not int or self.burst < 1:
            raise ValueError(f"burst: expected an int >= 1, got {self.burst!r}")


@attrs.frozen(kw_only=True)
class Limits:
    """How much one process sends. The defaults are polite: one snapshot in one burst, then two
    calls a second a host.

    The server does not publish its limits. Users of other clients report blocks after some seventy
    calls at one a second from a fresh client; two a second over all accounts, one for each, stays
    on the safe side of what a person's browser does when it opens the member centre. Both budgets
    count per host.
    """

    host: RateLimit | None = RateLimit(rate=2, burst=12)
    account: RateLimit | None = RateLimit(rate=1, burst=12)
    concurrency: int | None = 16
    """Requests in flight per host, None for no cap."""
    max_wait: float | None = None
    """Seconds that a call may wait here, pauses included, before it fails with
    `RateLimited(scope="local")`; 0 too.
    """

    def __attrs_post_init__(self) -> None:
        for name in ("host", "account"):
            if not isinstance(getattr(self, name), RateLimit | None):
                raise ValueError(
                    f"{name}: expected a RateLimit or None, got {getattr(self, name)!r}"
                )
        if self.concurrency is not None and (
            type(self.concurrency) is not int or self.concurrency < 1
        ):
            raise ValueError(f"concurrency: expected an int >= 1 or None, got {self.concurrency!r}")
        if self.max_wait is not None and (
            type(self.max_wait) not in (int, float) or not self.max_wait >= 0
        ):
            raise ValueError(f"max_wait: expected seconds >= 0 or None, got {self.max_wait!r}")

    @classmethod
    def none(cls) -> Limits:
        """No budgets and no cap; a pause that the server asks for still holds."""
        return cls(host=None, account=None, concurrency=None)


@attrs.frozen(kw_only=True)
class ScopeState:
    """One budget as it stands."""

    rate: float | None
    """Departures a second now; None without a limit."""
    paused_for: float
    """Seconds until the pause that the server asked for ends, 0 for none."""
    waiting: int


@attrs.frozen(kw_only=True)
class HostState(ScopeState):
    """A host's budget as it stands."""

    in_flight: int
    accounts: Mapping[str, ScopeState]
    """The accounts that wait, are paused or slowed; by `dede_user_id`, or by a digest of the
    secret.
    """


class Permit(Protocol):
    """One departure, granted."""

    @property
    def waited(self) -> float:
        """Seconds between asking and departure."""

    @property
    def paused(self) -> float:
        """Those of them that pauses asked for by the server took."""


P = TypeVar("P", bound=Permit)


class Limiter(Protocol[P]):
    """What a `SessionManager` needs of a limiter; one that processes share can stand in for our
    own.

    A manager that is closed does not end the waits in it: what it grants after that is released at
    once.
    """

    async def acquire(self, host: str, account: str, *, patience: float) -> P:
        """Wait until a request may depart.

        Raises `RateLimited` at once when the server asked for a pause that does not end within
        `patience` seconds.
        """

    def release(self, permit: P, error: BaseException | None) -> None:
        """The request is over: None for success, a `RateLimited` slows its scope.

        Called once for each permit.
        """

    def state(self) -> Mapping[str, HostState]:
        """Each host as it stands."""


class _Pace:
    """A `RateLimit` as the arithmetic wants it; none is an infinite rate."""

    __slots__ = ("gap", "rate", "tolerance")

    def __init__(self, limit: RateLimit | None) -> None:
        self.rate = limit.rate if limit else math.inf
        self.gap = 1 / self.rate
        self.tolerance = (limit.burst - 1) / limit.rate if limit else 0.0


class _Slow:
    """What the server said of a scope: the pause, and which share of the rate is left."""

    __slots__ = ("error", "paused_until", "share", "strikes", "throttled_at")

    error: RateLimited

    def __init__(self) -> None:
        self.share = 1.0
        self.strikes = 0
        self.throttled_at = self.paused_until = -math.inf

    def share_at(self, now: float) -> float:
        return min(1.0, self.share + RECOVERY * max(0.0, now - self.paused_until))

    def over_at(self) -> float:
        return self.paused_until + (1.0 - self.share) / RECOVERY


class _Account:
    """One account on one host: its budget, and its calls that wait."""

    __slots__ = ("queue", "ready_at", "slow", "turn")

    def __init__(self) -> None:
        self.ready_at = -math.inf
        self.slow: _Slow | None = None
        self.queue: OrderedDict[_Call, None] | None = None  # None rather than empty
        self.turn = 0  # which entry of the host's heap is this account's; 0 for none


class _Permit:
    """A departure that nothing held up."""

    __slots__ = ("account", "departed", "host")

    waited = 0.0
    paused = 0.0

    def __init__(self, host: _Host, account: str, departed: float) -> None:
        self.host = host
        self.account = account
        self.departed = departed


class _Call(_Permit):
    """A call that waits; from its grant on it is the permit."""

    __slots__ = ("arrived", "charged", "future", "patience", "paused", "resumes_at", "waited")

    def __init__(self, host: _Host, account: str, patience: float, now: float) -> None:
        super().__init__(host, account, math.inf)
        self.patience = patience
        self.arrived = now
        self.waited = self.paused = 0.0
        self.resumes_at = now  # when the pauses that it has met are over
        self.charged: tuple[float, float] | None = (
            None  # what the grant cost the host and the account
        )
        self.future: asyncio.Future[None] | None = None


class _Host:
    """One host's budget, its accounts and its queue.

    Pure arithmetic: every method is told the time.
    """

    __slots__ = (
        "account_pace",
        "accounts",
        "arrivals",
        "concurrency",
        "heap",
        "in_flight",
        "max_wait",
        "pace",
        "random",
        "ready_at",
        "recent",
        "slow",
        "slowed",
        "sweep_at",
        "timer",
        "turns",
        "waiting",
    )

    def __init__(self, limits: Limits, random: Callable[[], float]) -> None:
        self.pace = _Pace(limits.host)
        self.account_pace = _Pace(limits.account)
        self.concurrency = math.inf if limits.concurrency is None else limits.concurrency
        self.max_wait = math.inf if limits.max_wait is None else limits.max_wait
        self.random = random
        self.ready_at = -math.inf
        self.slow: _Slow | None = None
        self.slowed = 0  # scopes that are paused or recover: accounts, and the host itself
        self.accounts: dict[str, _Account] = {}
        self.heap: list[tuple[float, int, _Account]] = []
        self.turns = 0
        self.in_flight = 0
        self.waiting = 0
        self.arrivals: OrderedDict[_Call, None] = OrderedDict()  # kept only for `max_wait`
        self.recent: dict[str, float] = {}
        self.sweep_at = math.inf
        self.timer: asyncio.TimerHandle | None = None

    def at_once(self, key: str, now: float) -> _Permit | None:
        """The permit of a call that nothing can hold up, which is most calls; None if it takes
        `enter` to say.
        """
        if self.heap or self.slowed or self.ready_at > now or self.in_flight >= self.concurrency:
            return None
        account = self.accounts.get(key)
        if account is None or account.ready_at > now:
            return None
        self.in_flight += (
            1  # from here on it is `_grant`, with `_charge` in line: a third of the time
        )
        pace, ready_at = self.pace, self.ready_at
        rested = now - pace.tolerance
        self.ready_at = (ready_at if ready_at > rested else rested) + pace.gap
        pace, ready_at = self.account_pace, account.ready_at
        rested = now - pace.tolerance
        account.ready_at = (ready_at if ready_at > rested else rested) + pace.gap
        return _Permit(self, key, now)

    def enter(self, call: _Call, now: float) -> bool:
        """Grant the call (True) or queue it (False); raises `RateLimited` if a pause outlasts its
        patience.

        To be called after a `pump`: whoever could go before this call has gone.
        """
        if self.slowed:
            self._meet_pause(call, now)
        account = self._account(call.account, now)
        if account.queue is None:
            if self._open(now) and account.ready_at <= now:
                self._grant(call, account, now)
                return True
            account.queue = OrderedDict()
            self._schedule(account, now)
        account.queue[call] = None
        self.waiting += 1
        if self.max_wait < math.inf:
            self.arrivals[call] = None
        return False

    def leave(self, call: _Call, now: float) -> None:
        """The call was cancelled: out of the queue, or its grant is given back."""
        account = self.accounts.get(call.account)
        if call.charged is None:
            if account is not None and account.queue and call in account.queue:
                self._unqueue(call, account)
            return
        self.in_flight -= 1
        host_cost, account_cost = call.charged
        _refund(self, host_cost, now - call.departed)
        if account is not None:
            _refund(account, account_cost, now - call.departed)
            if account.queue:
                self._schedule(account, now)

    def done(
        self, permit: _Permit, error: BaseException | None, now: float
    ) -> list[tuple[_Call, RateLimited]]:
        """The request is over; gives the calls that a new pause outlasts, off the queue, each with
        its error.
        """
        self.in_flight -= 1
        if not isinstance(error, RateLimited):
            if error is None and self.slowed:
                for scope in (self, self.accounts.get(permit.account)):
                    if scope and scope.slow and permit.departed > scope.slow.throttled_at:
                        scope.slow.strikes = 0
            return []
        refused: list[tuple[_Call, RateLimited]] = []
        if error.scope == "account":
            account = self._account(permit.account, now)
            refused = self._throttle(account, error, permit.departed, now)
            self.recent[permit.account] = now
            self.recent = {key: at for key, at in self.recent.items() if now - at <= SPREAD_SECONDS}
            if len(self.recent) < SPREAD_ACCOUNTS:
                return refused
            # An account's wait is not the host's.
            error = error.restated(scope="host", retry_after=None)
        self.recent.clear()
        return refused + self._throttle(self, error, permit.departed, now)

    def pump(self, now: float) -> Iterator[_Call]:
        """Grant whatever can go now, in order."""
        heap = self.heap
        while heap:
            ready_at, turn, account = heap[0]
            if turn != account.turn:
                heappop(heap)
            elif account.ready_at > ready_at:  # throttled since
                heappop(heap)
                self._schedule(account, now)
            elif ready_at > now or not self._open(now):
                return
            else:
                assert account.queue is not None
                call = next(iter(account.queue))
                if (
                    call.future is not None and call.future.done()
                ):  # cancelled, and its task has not run since
                    self._unqueue(call, account)
                    continue
                heappop(heap)
                self._unqueue(call, account)
                self._grant(call, account, now)
                if account.queue:
                    self._schedule(account, now)
                yield call

    def overdue(self, now: float) -> Iterator[_Call]:
        """Take the calls that have waited for `max_wait` off the queue."""
        while self.arrivals:
            call = next(iter(self.arrivals))
            if call.arrived + self.max_wait > now:
                return
            self._unqueue(call, self.accounts[call.account])
            yield call

    def queued(self) -> list[_Call]:
        """All calls that wait."""
        return [call for account in self.accounts.values() for call in account.queue or ()]

    def next_at(self) -> float:
        """When something can happen that no caller brings about; infinity for never."""
        at = self.sweep_at
        if self.arrivals:
            at = min(at, next(iter(self.arrivals)).arrived + self.max_wait)
        if self.heap and self.in_flight < self.concurrency:
            at = min(at, max(self.heap[0][0], self.ready_at))
        return at

    def sweep(self, now: float) -> None:
        """Free a few idle accounts, and sooner again if all were idle."""
        seen = list(islice(self.accounts, _SWEEP_KEYS))
        freed = 0
        rested = now - self.account_pace.tolerance
        for key in seen:
            account = self.accounts.pop(key)
            self._settle(account, now)
            if account.queue is None and account.slow is None and account.ready_at <= rested:
                freed += 1
            else:
                self.accounts[key] = account  # now the last, so the next sweep sees others
        if self.accounts:
            self.sweep_at = now + (_SWEEP_SECONDS / 100 if freed == _SWEEP_KEYS else _SWEEP_SECONDS)
        else:
            self.accounts = {}  # a dict does not shrink by itself
            self.sweep_at = math.inf

    def state(self, now: float) -> HostState:
        rate, paused_for = _standing(self, self.pace, now)
        accounts = {}
        for key, account in self.accounts.items():
            if account.queue or account.slow:
                own_rate, own_pause = _standing(account, self.account_pace, now)
                accounts[key] = ScopeState(
                    rate=own_rate, paused_for=own_pause, waiting=len(account.queue or ())
                )
        return HostState(
            rate=rate,
            paused_for=paused_for,
            waiting=self.waiting,
            in_flight=self.in_flight,
            accounts=accounts,
        )

    def _open(self, now: float) -> bool:
        return self.ready_at <= now and self.in_flight < self.concurrency

    def _account(self, key: str, now: float) -> _Account:
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = _Account()
            self.sweep_at = min(self.sweep_at, now + _SWEEP_SECONDS)
        return account

    def _schedule(self, account: _Account, now: float) -> None:
        self.turns += 1
        account.turn = self.turns
        heappush(self.heap, (max(now, account.ready_at), self.turns, account))
        self._tidy()

    def _unqueue(self, call: _Call, account: _Account) -> None:
        assert account.queue is not None
        del account.queue[call]
        self.waiting -= 1
        self.arrivals.pop(call, None)
        if not account.queue:
            account.queue, account.turn = None, 0
            self._tidy()

    def _tidy(self) -> None:
        """Drop the heap's dead entries (their account has another, or nothing waits) once they are
        the most.
        """
        if len(self.heap) > 2 * self.waiting + 64:
            self.heap[:] = [entry for entry in self.heap if entry[1] == entry[2].turn]
            heapify(self.heap)

    def _grant(self, call: _Call, account: _Account, now: float) -> None:
        call.charged = _charge(self, self.pace, now), _charge(account, self.account_pace, now)
        call.departed, call.waited = now, now - call.arrived
        self.in_flight += 1

    def _meet_pause(self, call: _Call, now: float) -> None:
        account = self.accounts.get(call.account)
        for scope in (self, account):
            if scope is not None:
                self._settle(scope, now)
        slows = [scope.slow for scope in (self, account) if scope and scope.slow]
        longest = max(slows, key=lambda slow: slow.paused_until, default=None)
        if longest is None or longest.paused_until <= now:
            return
        call.paused, call.resumes_at = longest.paused_until - now, longest.paused_until
        if call.paused > call.patience:
            raise longest.error.restated(retry_after=call.paused)

    def _throttle(
        self, scope: _Host | _Account, error: RateLimited, departed: float, now: float
    ) -> list[tuple[_Call, RateLimited]]:
        """Slow the scope; gives the calls that its pause outlasts, off the queue."""
        if scope.slow is None:
            scope.slow = _Slow()
            self.slowed += 1
        slow, pause = scope.slow, error.retry_after
        if departed > slow.throttled_at:
            slow.share = max(slow.share_at(now) / 2, SHARE_MIN)
            slow.strikes += 1
            slow.throttled_at = now
            if pause is None:
                pause = min(PAUSE_MIN * 2 ** min(slow.strikes - 1, 30), PAUSE_MAX) * (
                    1 + self.random() / 2
                )
        elif pause is None:
            return []
        until = now + pause
        if until < slow.paused_until:
            return []
        slow.paused_until = until
        slow.error = error.restated()  # the one that is raised collects its caller's frames
        scope.ready_at = max(scope.ready_at, until)
        accounts = [scope] if isinstance(scope, _Account) else self.accounts.values()
        refused = []
        for account in accounts:
            for call in list(account.queue or ()):
                if until > call.resumes_at:
                    call.paused += until - max(now, call.resumes_at)
                    call.resumes_at = until
                if pause > call.patience:
                    self._unqueue(call, account)
                    refused.append((call, error.restated(retry_after=pause)))
        return refused

    def _settle(self, scope: _Host | _Account, now: float) -> None:
        """Forget a throttle that is recovered from."""
        if scope.slow is not None and scope.slow.over_at() <= now:
            scope.slow = None
            self.slowed -= 1


def _charge(scope: _Host | _Account, pace: _Pace, now: float) -> float:
    """Take one departure out of the budget; gives what it cost, for `_refund`."""
    cost = pace.gap if scope.slow is None else pace.gap / scope.slow.share_at(now)
    scope.ready_at = max(scope.ready_at, now - pace.tolerance) + cost
    return cost


def _refund(scope: _Host | _Account, cost: float, elapsed: float) -> None:
    given_back = scope.ready_at - max(0.0, cost - elapsed)
    scope.ready_at = given_back if scope.slow is None else max(given_back, scope.slow.paused_until)


def _standing(scope: _Host | _Account, pace: _Pace, now: float) -> tuple[float | None, float]:
    """The rate now, None without a limit, and the seconds until a pause ends."""
    rate = pace.rate if pace.gap else None
    if scope.slow is None:
        return rate, 0.0
    return rate and rate * scope.slow.share_at(now), max(0.0, scope.slow.paused_until - now)


class LocalLimiter:
    """The limiter of one process: futures and timers around `_Host`.

    One timer a host, none while it is idle.
    """

    def __init__(self, limits: Limits, seam: Seam) -> None:
        self._limits = limits
        self._seam = seam
        self._now = seam.loop.time
        self._hosts: dict[str, _Host] = {}
        self._closed = False

    async def acquire(self, host: str, account: str, *, patience: float) -> _Permit:
        queue = self._hosts.get(host)
        now = self._now()
        if queue is None:
            if self._closed:
                raise RuntimeError(CLOSED)
            queue = self._hosts[host] = _Host(self._limits, self._seam.random)
        elif (permit := queue.at_once(account, now)) is not None:
            return permit
        elif queue.heap:
            self._pump(queue, now)
        call = _Call(queue, account, patience, now)
        granted = queue.enter(call, now)
        self._arm(queue)
        if granted:
            return call
        call.future = self._seam.loop.create_future()
        try:
            await call.future
        except (asyncio.CancelledError, GeneratorExit):  # the latter for a coroutine that is closed
            now = self._now()
            queue.leave(call, now)
            self._pump(queue, now)
            raise
        finally:
            call.future = None  # it keeps its error, whose traceback holds this frame: a cycle
        return call

    def release(self, permit: _Permit, error: BaseException | None) -> None:
        queue = permit.host
        if error is None and not queue.heap and not queue.slowed:
            queue.in_flight -= 1  # all that `done` would do
            return
        now = self._now()
        for call, refusal in queue.done(permit, error, now):
            _fail(call, refusal)
        self._pump(queue, now)

    def state(self) -> Mapping[str, HostState]:
        now = self._now()
        return {name: queue.state(now) for name, queue in self._hosts.items()}

    def close(self) -> None:
        """Stop the timers; whoever still waits gets a `RuntimeError`."""
        self._closed, now = True, self._now()
        for queue in self._hosts.values():
            if queue.timer is not None:
                queue.timer.cancel()
            for call in queue.queued():
                queue.leave(call, now)
                _fail(call, RuntimeError(CLOSED))
            queue.heap.clear()  # what ends later finds nobody to let go
        self._hosts.clear()

    def _pump(self, queue: _Host, now: float) -> None:
        if self._seam.loop.is_closed():
            return  # whoever waits was abandoned with the loop, and can't be woken
        for call in queue.pump(now):
            assert call.future is not None
            call.future.set_result(None)
        for call in queue.overdue(now):
            _fail(call, RateLimited(scope="local"))
        self._arm(queue)

    def _arm(self, queue: _Host) -> None:
        at = queue.next_at()
        if self._closed or at == math.inf or (queue.timer is not None and queue.timer.when() <= at):
            return
        if queue.timer is not None:
            queue.timer.cancel()
        queue.timer = self._seam.loop.call_at(at, self._tick, queue, at)

    def _tick(self, queue: _Host, at: float) -> None:
        queue.timer = None
        now = max(at, self._now())  # a loop may be a clock tick early
        if now >= queue.sweep_at:
            queue.sweep(now)
        self._pump(queue, now)


def _fail(call: _Call, error: Exception) -> None:
    assert call.future is not None
    if not call.future.done():
        call.future.set_exception(error)
