"""Budgets and the limiter: who may send, and when. Knows nothing of HTTP; takes the clock from outside.

The theory, in twenty lines. A budget is GCRA, the token bucket's twin that needs one number: `tat`, the time at which it
would be full again. A departure conforms from `tat - (burst - 1) / rate` on, and moves `tat` to `max(tat, now) + 1/rate`.
So no window of t seconds holds more than `burst + rate · t` departures.

Two budgets nest: the host's, and the account's on that host. A call is granted only when both conform *at the moment of
departure*, and both are charged then. (An account's token taken first, then the queue for the host, would let the
account's tokens bunch; both reserved in advance would waste the host's slots while the account waits.)

Calls of one account queue in order. A host keeps one heap of the accounts that have waiting calls, by the time at which
the account's first call is ready: when it became the first, or when the account's budget conforms, whichever is later. If
the host may send, the account on top goes; its next call becomes ready now at the earliest, so accounts take turns. A
grant costs O(log accounts). Nothing that could go waits: whatever frees budget (a departure's end, a cancellation, a
timer) pumps the heap.

A grant reaches its caller one turn of the loop later. One that is cancelled in between gives its charge back, less the
budget that has grown since, which is always safe.

Adaptive: when the server says slow down, the scope it names (host or account) pauses, its burst is gone, and its rate
halves; from the pause's end the rate grows by `RECOVERY` of the configured rate a second. What departed before the
throttle was told counts as the same throttle. What can't be known: the server's own budget; so the first throttle
without `Retry-After` pauses about a second, and each further one twice as long, until a call succeeds.
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
from .errors import RateLimited, Scope

RECOVERY = 1 / 300
"""Share of the configured rate that a slowed scope regains a second."""
PAUSE_MIN, PAUSE_MAX = 1.0, 60.0
"""Seconds that a throttle without `Retry-After` pauses: the first, and the longest."""
SPREAD_ACCOUNTS, SPREAD_SECONDS = 3, 5.0
"""So many accounts throttled on one host in so many seconds slow the host as well."""
_SWEEP_SECONDS, _SWEEP_KEYS = 1.0, 512


@attrs.frozen(kw_only=True)
class RateLimit:
    """`rate` departures a second in the long run, `burst` at once after a rest."""

    rate: float
    burst: int

    def __attrs_post_init__(self) -> None:
        if type(self.rate) not in (int, float) or not 0 < self.rate < math.inf:
            raise ValueError(f"rate: expected a finite number > 0, got {self.rate!r}")
        if type(self.burst) is not int or self.burst < 1:
            raise ValueError(f"burst: expected an int >= 1, got {self.burst!r}")


@attrs.frozen(kw_only=True)
class Limits:
    """How much one process sends. The defaults are polite: one snapshot in one burst, then two calls a second a host.

    The server does not publish its limits. Users of other clients report blocks after some seventy calls at one a second
    from a fresh client; two a second over all accounts, one for each, stays on the safe side of what a person's browser
    does when it opens the member centre. Both budgets count per host.
    """

    host: RateLimit | None = RateLimit(rate=2, burst=12)
    account: RateLimit | None = RateLimit(rate=1, burst=12)
    concurrency: int | None = 16
    """Requests in flight per host, None for no cap."""
    max_wait: float | None = None
    """Seconds that a call may wait for our own budget before it fails with `RateLimited(scope="local")`."""

    def __attrs_post_init__(self) -> None:
        for name in ("host", "account"):
            if not isinstance(getattr(self, name), RateLimit | None):
                raise ValueError(f"{name}: expected a RateLimit or None, got {getattr(self, name)!r}")
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise ValueError(f"concurrency: expected an int >= 1 or None, got {self.concurrency!r}")
        if self.max_wait is not None and not self.max_wait >= 0:
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
    """The accounts that wait, are paused or slowed; by `dede_user_id`, or by a digest of the secret."""


class Permit(Protocol):
    """One departure, granted."""

    waited: float
    """Seconds between asking and departure."""
    paused: float
    """Those of them that a pause asked for by the server took."""


P = TypeVar("P", bound=Permit)


class Limiter(Protocol[P]):
    """What a `SessionManager` needs of a limiter; one that processes share can stand in for our own."""

    async def acquire(self, host: str, account: str, *, patience: float) -> P:
        """Wait until a request may depart.

        Raises `RateLimited` at once when the server asked for a pause that does not end within `patience` seconds.
        """

    def release(self, permit: P, error: BaseException | None) -> None:
        """The request is over: None for success, a `RateLimited` slows its scope. Called once for each permit."""

    def state(self) -> Mapping[str, HostState]:
        """Each host as it stands."""


class _Slow:
    """How a scope recovers from a throttle."""

    __slots__ = ("error", "floor", "paused_until", "strikes", "throttled_at")

    def __init__(self, now: float) -> None:
        self.throttled_at = now
        self.paused_until = now
        self.floor = math.inf
        self.strikes = 0
        self.error: RateLimited | None = None


class _Scope:
    """A budget and what the server said of it."""

    __slots__ = ("slow", "tat")

    def __init__(self) -> None:
        self.tat = -math.inf
        self.slow: _Slow | None = None

    def rate(self, limit: RateLimit, now: float) -> float:
        slow = self.slow
        if slow is None:
            return limit.rate
        return min(limit.rate, slow.floor + limit.rate * RECOVERY * max(0.0, now - slow.paused_until))

    def ready_at(self, tolerance: float) -> float:
        """The earliest time at which a departure conforms."""
        at = self.tat - tolerance
        return at if self.slow is None else max(at, self.slow.paused_until)

    def charge(self, limit: RateLimit | None, now: float) -> float:
        """Take one departure out of the budget; gives what it cost, for `refund`."""
        if limit is None:
            return 0.0
        cost = 1 / limit.rate if self.slow is None else 1 / self.rate(limit, now)
        self.tat = max(self.tat, now) + cost
        return cost

    def refund(self, cost: float, charged_at: float, now: float) -> None:
        self.tat -= max(0.0, cost - (now - charged_at))

    def throttle(self, error: RateLimited, departed: float, limit: RateLimit | None, now: float, chance: float) -> None:
        slow = self.slow
        if slow is None:
            slow = self.slow = _Slow(-math.inf)
        if departed > slow.throttled_at:
            floor = math.inf if limit is None else max(self.rate(limit, now) / 2, limit.rate / 128)
            slow.strikes += 1
            slow.throttled_at, slow.floor = now, floor
            pause = error.retry_after
            if pause is None:
                pause = min(PAUSE_MIN * 2 ** min(slow.strikes - 1, 30), PAUSE_MAX) * (1 + chance / 2)
        else:
            pause = error.retry_after or 0.0
        if now + pause >= slow.paused_until:
            slow.paused_until, slow.error = now + pause, error
        if limit is not None:
            self.tat = max(self.tat, slow.paused_until + (limit.burst - 1) / limit.rate)

    def succeeded(self, departed: float) -> None:
        if self.slow is not None and departed > self.slow.throttled_at:
            self.slow.strikes = 0

    def settle(self, limit: RateLimit | None, now: float) -> None:
        """Forget a throttle that is fully recovered from."""
        slow = self.slow
        if slow is None or now < slow.paused_until:
            return
        if (
            (limit is None and not slow.strikes)
            or (limit is not None and self.rate(limit, now) >= limit.rate)
            or now - slow.paused_until >= 1 / RECOVERY
        ):
            self.slow = None


class _Account(_Scope):
    __slots__ = ("queue", "turn")

    def __init__(self) -> None:
        super().__init__()
        self.queue: OrderedDict[_Call, None] | None = None
        self.turn = 0  # which entry of the host's heap is this account's; 0 for none


class _Call:
    """A call that waits, and after its grant the permit."""

    __slots__ = ("account", "arrived", "charged", "departed", "future", "host", "patience", "paused", "waited")

    host: _Host
    charged: tuple[float, float]

    def __init__(self, account: str, patience: float, now: float) -> None:
        self.account = account
        self.patience = patience
        self.arrived = now
        self.departed: float | None = None
        self.waited = self.paused = 0.0
        self.future: asyncio.Future[None] | None = None


class _Host(_Scope):
    """One host's budget, its accounts and its queue. Pure arithmetic: every method is told the time."""

    __slots__ = (
        "account_tolerance",
        "accounts",
        "arrivals",
        "heap",
        "in_flight",
        "limits",
        "random",
        "recent",
        "sweep_at",
        "timer",
        "tolerance",
        "turns",
        "waiting",
    )

    def __init__(self, limits: Limits, random: Callable[[], float]) -> None:
        super().__init__()
        self.limits = limits
        self.random = random
        self.tolerance = (limits.host.burst - 1) / limits.host.rate if limits.host else 0.0
        self.account_tolerance = (limits.account.burst - 1) / limits.account.rate if limits.account else 0.0
        self.accounts: dict[str, _Account] = {}
        self.heap: list[tuple[float, int, _Account]] = []
        self.turns = 0
        self.in_flight = 0
        self.waiting = 0
        self.arrivals: OrderedDict[_Call, None] = OrderedDict()  # kept only for `max_wait`
        self.recent: dict[str, float] = {}
        self.sweep_at = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def enter(self, call: _Call, now: float) -> bool:
        """Grant the call at once (True) or queue it (False); raises `RateLimited` if a pause outlasts its patience."""
        call.host = self
        account = self.accounts.get(call.account)
        if account is None:
            if not self.accounts:
                self.sweep_at = now + _SWEEP_SECONDS
            account = self.accounts[call.account] = _Account()
        if self.slow is not None or account.slow is not None:
            self.settle(self.limits.host, now)
            account.settle(self.limits.account, now)
            for scope in (self, account):
                if scope.slow and scope.slow.paused_until - now > call.patience:
                    raise _refusal(scope.slow, now)
        if (
            account.queue is None
            and self._open(now)
            and account.ready_at(self.account_tolerance) <= now
            and not (self.heap and self.heap[0][0] <= now)
        ):
            self._grant(call, account, now)
            return True
        if account.queue is None:
            account.queue = OrderedDict()
            self._schedule(account, now)
        account.queue[call] = None
        self.waiting += 1
        if self.limits.max_wait is not None:
            self.arrivals[call] = None
        return False

    def leave(self, call: _Call, now: float) -> None:
        """The call was cancelled: out of the queue, or its grant is given back."""
        account = self.accounts.get(call.account)
        if call.departed is None:
            if account is not None and account.queue and call in account.queue:
                self._unqueue(call, account)
            return
        self.in_flight -= 1
        host_cost, account_cost = call.charged
        self.refund(host_cost, call.departed, now)
        if account is not None:
            account.refund(account_cost, call.departed, now)
            if account.queue:
                self._schedule(account, now)

    def done(self, call: _Call, error: BaseException | None, now: float) -> list[_Call]:
        """The call's request is over; gives the waiting calls that a new pause makes hopeless, taken off the queue."""
        self.in_flight -= 1
        departed = call.departed
        assert departed is not None
        account = self.accounts.get(call.account)
        if error is None:
            self.succeeded(departed)
            if account is not None:
                account.succeeded(departed)
            return []
        if not isinstance(error, RateLimited):
            return []
        if error.scope == "account":
            if account is None:
                account = self.accounts[call.account] = _Account()
            account.throttle(error, departed, self.limits.account, now, self.random())
            self.recent[call.account] = now
            self.recent = {key: at for key, at in self.recent.items() if now - at <= SPREAD_SECONDS}
        if error.scope == "host" or len(self.recent) >= SPREAD_ACCOUNTS:
            self.throttle(_told("host", error, error.retry_after), departed, self.limits.host, now, self.random())
            self.recent.clear()
        return self._hopeless(now)

    def pump(self, now: float) -> Iterator[_Call]:
        """Grant whatever can go now, in order."""
        heap = self.heap
        if self.slow is not None:
            self.settle(self.limits.host, now)
        while heap:
            ready_at, turn, account = heap[0]
            if turn != account.turn:
                heappop(heap)
                continue
            eligible = account.ready_at(self.account_tolerance)
            if eligible > ready_at:  # throttled since
                heappop(heap)
                self._schedule(account, eligible)
                continue
            if ready_at > now or not self._open(now):
                return
            heappop(heap)
            assert account.queue is not None
            call = next(iter(account.queue))
            self._unqueue(call, account)
            gone = call.future is not None and call.future.done()  # cancelled, and its task has not run since
            if not gone:
                account.settle(self.limits.account, now)
                self._grant(call, account, now)
            if account.queue:
                self._schedule(account, now)
            if not gone:
                yield call

    def overdue(self, now: float) -> Iterator[_Call]:
        """Take the calls that have waited for `max_wait` off the queue."""
        max_wait = self.limits.max_wait
        while max_wait is not None and self.arrivals:
            call = next(iter(self.arrivals))
            if call.arrived + max_wait > now:
                return
            self._unqueue(call, self.accounts[call.account])
            yield call

    def queued(self) -> list[_Call]:
        """All calls that wait."""
        return [call for account in self.accounts.values() for call in account.queue or ()]

    def next_at(self) -> float | None:
        """When something can happen that no caller brings about."""
        times = [self.sweep_at] if self.accounts else []
        if self.limits.max_wait is not None and self.arrivals:
            times.append(next(iter(self.arrivals)).arrived + self.limits.max_wait)
        if self.heap and not self._full():
            times.append(max(self.heap[0][0], self.ready_at(self.tolerance)))
        return min(times, default=None)

    def sweep(self, now: float) -> None:
        """Free a few idle accounts, and sooner again if all were idle."""
        freed = 0
        for key in list(islice(self.accounts, _SWEEP_KEYS)):
            account = self.accounts.pop(key)
            account.settle(self.limits.account, now)
            if account.queue is None and account.tat <= now and account.slow is None:
                freed += 1
            else:
                self.accounts[key] = account
        self.settle(self.limits.host, now)
        if not self.accounts:
            self.accounts = {}  # a dict does not shrink by itself
        self.sweep_at = now + (_SWEEP_SECONDS / 100 if freed == _SWEEP_KEYS else _SWEEP_SECONDS)

    def state(self, now: float) -> HostState:
        accounts = {
            key: _state(account, self.limits.account, now, len(account.queue or ()))
            for key, account in self.accounts.items()
            if account.queue or account.slow
        }
        mine = _state(self, self.limits.host, now, self.waiting)
        return HostState(
            rate=mine.rate,
            paused_for=mine.paused_for,
            waiting=mine.waiting,
            in_flight=self.in_flight,
            accounts=accounts,
        )

    def _full(self) -> bool:
        return self.limits.concurrency is not None and self.in_flight >= self.limits.concurrency

    def _open(self, now: float) -> bool:
        return self.ready_at(self.tolerance) <= now and not self._full()

    def _schedule(self, account: _Account, now: float) -> None:
        self.turns += 1
        account.turn = self.turns
        heappush(self.heap, (max(now, account.ready_at(self.account_tolerance)), self.turns, account))
        if len(self.heap) > 2 * self.waiting + 64:  # mostly entries whose account has another or none
            self.heap = [entry for entry in self.heap if entry[1] == entry[2].turn]
            heapify(self.heap)

    def _unqueue(self, call: _Call, account: _Account) -> None:
        assert account.queue is not None
        del account.queue[call]
        self.waiting -= 1
        self.arrivals.pop(call, None)
        if not account.queue:
            account.queue, account.turn = None, 0

    def _grant(self, call: _Call, account: _Account, now: float) -> None:
        for scope in (self, account):
            if slow := scope.slow:
                overlap = min(now, slow.paused_until) - max(call.arrived, slow.throttled_at)
                call.paused = max(call.paused, overlap)
        call.charged = self.charge(self.limits.host, now), account.charge(self.limits.account, now)
        call.departed, call.waited = now, now - call.arrived
        self.in_flight += 1

    def _hopeless(self, now: float) -> list[_Call]:
        found = []
        for account in self.accounts.values():
            if account.queue:
                until = max(scope.slow.paused_until if scope.slow else now for scope in (self, account))
                found += [(call, account) for call in account.queue if until - now > call.patience]
        for call, account in found:
            self._unqueue(call, account)
        return [call for call, _ in found]


def _state(scope: _Scope, limit: RateLimit | None, now: float, waiting: int) -> ScopeState:
    return ScopeState(
        rate=scope.rate(limit, now) if limit else None,
        paused_for=max(0.0, scope.slow.paused_until - now) if scope.slow else 0.0,
        waiting=waiting,
    )


def _refusal(slow: _Slow, now: float) -> RateLimited:
    assert slow.error is not None
    return _told(slow.error.scope, slow.error, max(0.0, slow.paused_until - now))


def _told(scope: Scope, said: RateLimited, retry_after: float | None) -> RateLimited:
    return RateLimited(scope=scope, status=said.status, code=said.code, message=said.message, retry_after=retry_after)


class LocalLimiter:
    """The limiter of one process: futures and timers around `_Host`. One timer a host, none while it is idle."""

    def __init__(self, limits: Limits, seam: Seam) -> None:
        self._limits = limits
        self._seam = seam
        self._hosts: dict[str, _Host] = {}

    async def acquire(self, host: str, account: str, *, patience: float) -> _Call:
        queue = self._hosts.get(host)
        if queue is None:
            queue = self._hosts[host] = _Host(self._limits, self._seam.random)
        now = self._seam.now()
        call = _Call(account, patience, now)
        if queue.heap and queue.heap[0][0] <= now:
            self._pump(queue, now)
        if queue.enter(call, now):
            if queue.timer is None:
                self._arm(queue)
            return call
        self._arm(queue)
        call.future = self._seam.loop.create_future()
        try:
            await call.future
        except asyncio.CancelledError:
            now = self._seam.now()
            queue.leave(call, now)
            self._pump(queue, now)
            raise
        return call

    def release(self, permit: _Call, error: BaseException | None) -> None:
        queue, now = permit.host, self._seam.now()
        for call in queue.done(permit, error, now):
            slows = (queue.slow, queue.accounts[call.account].slow)
            longest = max((slow for slow in slows if slow), key=lambda slow: slow.paused_until)
            _fail(call, _refusal(longest, now))
        if queue.heap:
            self._pump(queue, now)

    def state(self) -> Mapping[str, HostState]:
        now = self._seam.now()
        return {name: queue.state(now) for name, queue in self._hosts.items()}

    def close(self) -> None:
        """Stop the timers; whoever still waits gets a `RuntimeError`."""
        for queue in self._hosts.values():
            if queue.timer is not None:
                queue.timer.cancel()
            for call in queue.queued():
                _fail(call, RuntimeError("this SessionManager was closed while the call waited for the limit"))
        self._hosts.clear()

    def _pump(self, queue: _Host, now: float) -> None:
        for call in queue.overdue(now):
            _fail(call, RateLimited(scope="local"))
        for call in queue.pump(now):
            assert call.future is not None
            call.future.set_result(None)
        self._arm(queue)

    def _arm(self, queue: _Host) -> None:
        at = queue.next_at()
        if at is None or (queue.timer is not None and queue.timer.when() <= at):
            return
        if queue.timer is not None:
            queue.timer.cancel()
        queue.timer = self._seam.loop.call_at(at, self._tick, queue, at)

    def _tick(self, queue: _Host, at: float) -> None:
        queue.timer = None
        now = max(at, self._seam.now())  # a loop may be a clock tick early
        if now >= queue.sweep_at:
            queue.sweep(now)
        self._pump(queue, now)


def _fail(call: _Call, error: Exception) -> None:
    assert call.future is not None
    if not call.future.done():
        call.future.set_exception(error)
