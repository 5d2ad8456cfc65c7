"""The limiter of one process of several: the budgets are in a place that all of them see.

The theory. The queue says who is next, the place whether that may be. The process's first call asks
and, if only the host's budget is not ready, *books* the next slot: it is charged at once, and the
call goes when the slot comes. So a wait costs one look at the place, however long, and processes
take turns. If the account's budget is not ready, nothing is charged, and the account asks again
when it is. What a process that dies has booked is lost, and nobody waits for it.

Between two looks the queue's own budgets are what the place said last. A booking is charged to them
only when its call departs, so that the queue still proposes it.

While the place can't be used the queue's budgets are this process's share, and a probe looks every
`PROBE_SECONDS`. What the processes then sent, the place does not know: the first to come back
writes a budget without a burst, and each takes its own last departures off it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from .._seam import LONGEST, Seam
from ..errors import RateLimited
from .asking import LATE_SECONDS, AskingQueue, Booking, Charge
from .budget import Budget
from .calls import Call, Departure
from .file import Busy, FilePlace, PlaceLost, Row
from .local import LocalLimiter
from .throttle import RATE_FACTOR_MIN, Throttle
from .timed import TimedQueue
from .types import HostState, Limits, RateLimit

PATIENCE_SECONDS = 0.5
"""Time that another process may hold the place before this one goes on without."""
PROBE_SECONDS = 1.0
_AHEAD_SECONDS, _AHEAD_CALLS = 3600.0, 64
"""No honest slot is further ahead than that, at the lowest rate."""
_RETRY_SECONDS = 0.001, 0.003
_TIDY_LOOKS = 1000
_log = logging.getLogger("bili_account_async")


class SharedGate(LocalLimiter):
    """The queues of one event loop, before a place that other processes see as well."""

    def __init__(self, limits: Limits, path: str, fallback: float, seam: Seam) -> None:
        super().__init__(limits, seam)
        self._loop = seam.loop
        self._path = path
        self._place = FilePlace(path, seam.wall)
        self._fallback = fallback
        self._share = _share_of(limits, fallback)
        self._cut_off: str | None = None  # why the place can't be used
        self._probing: asyncio.TimerHandle | None = None
        self._telling: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._looks = 0

    def release(self, permit: Departure, error: BaseException | None) -> None:
        """Take the permit back; what a `RateLimited` says, all processes are told."""
        super().release(permit, error)
        if isinstance(error, RateLimited) and self._cut_off is None and not self._closed:
            queue = permit.queue
            assert isinstance(queue, AskingQueue)
            self._tell(queue, permit.account, self._now())

    def state(self) -> Mapping[str, HostState]:
        """Return each host as it stands, as far as this process knows."""
        states = super().state()
        return {name: attrs.evolve(one, cut_off=self._cut_off) for name, one in states.items()}

    def close(self) -> None:
        """Stop the timers, close the place; whoever still waits gets a `RuntimeError`."""
        self._closed = True
        for queue in self._queues():
            booked = queue.booked
            queue.stop()
            if booked is not None:
                self._give_back(booked)
        for timer in (self._probing, *self._telling.values()):
            if timer is not None:
                timer.cancel()
        super().close()
        self._place.close()

    # --- what the queues' limiter does otherwise here ---

    def _new_queue(self, host: str) -> TimedQueue:
        queue = AskingQueue(host, self._limits, self._seam, self._ask)
        if self._cut_off is not None:
            queue.asks = False
            queue.repace(self._share)
        return queue

    def _leave(self, queue: TimedQueue, call: Call) -> None:
        assert isinstance(queue, AskingQueue)
        granted = call.line is None and queue.last is not None and queue.last[0] is call
        queue.leave(call, self._now())
        if queue.asks and not self._closed:
            booked = queue.booked
            if granted and queue.last is not None:
                self._give_back(queue.last[1])
            elif booked is not None and not queue.accounts[booked.account].lines:
                queue.stop()
                self._give_back(booked)
        queue.pump(self._now())

    # --- asking ---

    def _queues(self) -> list[AskingQueue]:
        return [queue for queue in self._hosts.values() if isinstance(queue, AskingQueue)]

    def _ask(self, queue: AskingQueue) -> None:
        """Ask for the next call, if one could go as soon as the host may send."""
        queue.asking, begun = None, self._now()
        call = queue.candidate(max(begun, queue.ticked_at, queue.host.ready_at))
        if call is None:
            queue.rest()
            return
        try:
            booking = self._take(queue, call)
        except Busy:
            self._ask_again(queue)
            return
        except PlaceLost as lost:
            self._fall_back(str(lost))
            return
        queue.busy_since = math.inf
        now = max(self._now(), queue.ticked_at)
        if booking is None or now - begun > LATE_SECONDS:
            pass  # it asks again; what it booked in its sleep is lost
        elif now < booking.slot:
            queue.booked = booking
            queue.asking = self._loop.call_at(booking.slot, self._due, queue, booking)
        else:
            queue.grant(call, booking, booking.slot)
        queue.pump(now)

    def _ask_again(self, queue: AskingQueue) -> None:
        now = self._now()
        queue.busy_since = min(queue.busy_since, now)
        if now - queue.busy_since >= PATIENCE_SECONDS - _RETRY_SECONDS[1]:
            self._fall_back(_HELD)
        else:
            queue.asking = self._loop.call_later(self._pause(), self._ask, queue)

    def _pause(self) -> float:
        least, most = _RETRY_SECONDS
        return least + (most - least) * self._seam.random()

    def _take(self, queue: AskingQueue, call: Call) -> Booking | None:
        """Book a slot for the call, now or later; None if it is refused, or to ask again."""
        with self._change() as wall:
            now = self._now()
            keys = self._place.key(queue.name, ""), self._place.key(queue.name, call.account)
            host, account = queue.host, queue.accounts[call.account]
            ready_at = self._learn(queue, None, keys[0], wall, now)
            if ready_at is not None:
                host.ready_at = max(ready_at, host.paused_until())
            ready_at = self._learn(queue, call.account, keys[1], wall, now)
            if ready_at is not None:
                account.ready_at = max(ready_at, account.ready_at)
            if call.line is None:  # a pause that we did not know of outlasts it
                return None
            slot = max(now, host.ready_at)
            if max(slot, account.ready_at) - call.arrived > call.max_wait:
                wait = max(slot, account.ready_at) - now
                queue.refuse(call, RateLimited(scope="local", retry_after=wait))
                return None
            if account.ready_at > slot:
                queue.deferred(call, -math.inf, account.ready_at)
                return None
            charges = tuple(
                self._charge(scope, key, slot, wall, now)
                for scope, key in zip((host, account), keys, strict=True)
            )
            self._looks += 1
            if self._looks % _TIDY_LOOKS == 1:
                self._place.tidy(wall)
            return Booking(call.account, slot, charges)

    def _charge(self, scope: Budget, key: bytes, slot: float, wall: float, now: float) -> Charge:
        """Take a departure out of a row; the budget stays as it is until the call departs."""
        before = scope.ready_at
        scope.charge(slot)
        after, scope.ready_at = scope.ready_at, before
        row, rested_at = self._row(scope, after, wall, now)
        self._place.keep(key, row, wall, rested_at)
        return Charge(key, before + wall - now, row.ready_at, rested_at)

    def _due(self, queue: AskingQueue, booking: Booking) -> None:
        """Let a call go whose slot has come, unless there was a pause meanwhile."""
        queue.stop()
        now = max(self._now(), booking.slot)  # a loop may be a clock tick early
        if now - booking.slot <= LATE_SECONDS:
            try:
                self._use(queue, booking, now)
            except Busy:
                self._ask_again(queue)
                return
            except PlaceLost as lost:
                self._fall_back(str(lost))
                return
        queue.pump(now)

    def _use(self, queue: AskingQueue, booking: Booking, now: float) -> None:
        """Give a slot to the account it was booked for, or to a call that goes before it."""
        account = queue.accounts.get(booking.account)
        if account is None:  # its calls were refused meanwhile
            self._give_back(booking)
            return
        with self._place.look() as wall:
            self._learn(queue, None, booking.charges[0].key, wall, now)
            self._learn(queue, booking.account, booking.charges[1].key, wall, now)
        if max(queue.host.paused_until(), account.paused_until()) > now:
            return
        own, first = queue.first_of(booking.account), queue.candidate(now)
        if first is not None and (own is None or first.lane < own.lane):
            handed = self._hand_over(queue, first, booking)
            if handed is not None:
                queue.grant(first, handed, now)
                return
        if own is not None:
            queue.grant(own, booking, now)
        else:
            self._give_back(booking)

    def _hand_over(self, queue: AskingQueue, call: Call, booking: Booking) -> Booking | None:
        """Give a slot to a call of another account; None if that one's budget is not ready."""
        with self._change() as wall:
            now = self._now()
            key, account = self._place.key(queue.name, call.account), queue.accounts[call.account]
            ready_at = self._learn(queue, call.account, key, wall, now)
            if ready_at is not None:
                account.ready_at = max(ready_at, account.ready_at)
            if call.line is None:
                return None
            if account.ready_at > booking.slot:
                queue.deferred(call, -math.inf, account.ready_at)
                return None
            self._undo(booking.charges[1], wall)
            charge = self._charge(account, key, booking.slot, wall, now)
            return Booking(call.account, booking.slot, (booking.charges[0], charge))

    def _give_back(self, booking: Booking) -> None:
        """Take a booking back where nobody has booked after it.

        Else, or if the place is held, the slot is lost, which breaks no budget.
        """
        try:
            with self._change() as wall:
                for charge in booking.charges:
                    self._undo(charge, wall)
        except Busy:
            _log.debug("%s is held: a booked slot is lost", self._path)
        except PlaceLost as lost:
            self._fall_back(str(lost))

    def _undo(self, charge: Charge, wall: float) -> None:
        row = self._place.load(charge.key, wall)
        if row is not None and row.ready_at == charge.after:
            row.ready_at = charge.before
            self._place.keep(charge.key, row, wall, charge.rested_at)

    @contextmanager
    def _change(self) -> Iterator[float]:
        """Change the place. A process that was stopped in it does without, as the others now do."""
        begun = self._now()
        with self._place.change() as wall:
            yield wall
        if self._now() - begun >= PATIENCE_SECONDS - _RETRY_SECONDS[1]:
            raise PlaceLost("this process was stopped while it held it")

    # --- rows and budgets ---

    def _learn(
        self, queue: AskingQueue, account: str | None, key: bytes, wall: float, now: float
    ) -> float | None:
        """Take over the throttle that a row tells of; return when the row is ready, None without.

        Calls that the pause outlasts are refused.
        """
        row = self._place.load(key, wall)
        if row is None:
            return None
        scope, offset = queue.scope(account), wall - now
        known = scope.throttle.name if scope.throttle else 0
        if row.name and row.name != known:
            told = Throttle()
            told.name, told.strikes, told.rate_factor = row.name, row.strikes, row.rate_factor
            told.throttled_at = row.throttled_at - offset
            told.paused_until = row.paused_until - offset
            told.error = RateLimited(
                scope="host" if account is None else "account", status=row.status, code=row.code
            )
            if told.over_at() > now:
                queue.adopt(account, told, now)
        slowest = scope.pace.emission_interval / RATE_FACTOR_MIN
        return min(row.ready_at - offset, now + max(_AHEAD_SECONDS, _AHEAD_CALLS * slowest))

    def _row(self, scope: Budget, ready_at: float, wall: float, now: float) -> tuple[Row, float]:
        """Return a budget as a row, and when the row may go."""
        offset, throttle = wall - now, scope.throttle
        row, rested_at = Row(ready_at + offset), ready_at + scope.pace.tolerance
        if throttle is not None and throttle.over_at() > now:
            throttle.name = throttle.name or secrets.randbits(62) + 1
            row.name, row.strikes = throttle.name, throttle.strikes
            row.rate_factor = throttle.rate_factor
            row.throttled_at = throttle.throttled_at + offset
            row.paused_until = throttle.paused_until + offset
            row.status, row.code = throttle.error.status, throttle.error.code
            rested_at = max(rested_at, throttle.over_at())
        return row, rested_at + offset

    def _tell(self, queue: AskingQueue, account: str, since: float) -> None:
        """Tell the place that a host or an account was throttled."""
        self._telling.pop((queue.name, account), None)
        try:
            with self._change() as wall:
                now = self._now()
                for one in (None, account):
                    if one is None or one in queue.accounts:
                        key = self._place.key(queue.name, one or "")
                        ready_at = self._learn(queue, one, key, wall, now)
                        scope = queue.scope(one)
                        if ready_at is None:
                            ready_at = scope.ready_at
                        row, rested_at = self._row(
                            scope, max(ready_at, scope.paused_until()), wall, now
                        )
                        self._place.keep(key, row, wall, rested_at)
        except Busy:
            if self._now() - since >= PATIENCE_SECONDS - _RETRY_SECONDS[1]:
                self._fall_back(_HELD)
            else:
                again = self._loop.call_later(self._pause(), self._tell, queue, account, since)
                self._telling[queue.name, account] = again
        except PlaceLost as lost:
            self._fall_back(str(lost))

    # --- without the place ---

    def _fall_back(self, reason: str) -> None:
        """Leave the place, and go on with this process's share of the budget."""
        if self._cut_off is not None or self._closed:
            return
        text = "%s can't be used, this process goes on with %g of the budget: %s"
        _log.warning(text, self._path, self._fallback, reason)
        self._cut_off = reason
        self._probing = self._loop.call_later(PROBE_SECONDS, self._probe)
        for timer in self._telling.values():
            timer.cancel()
        self._telling.clear()
        now = self._now()
        for queue in self._queues():
            queue.stop()
            known = queue.host.ready_at > -math.inf
            queue.asks = False
            queue.repace(self._share)
            if known:  # others may have used the budget since, so no burst, and not all at once
                spread = self._seam.random() * queue.host.pace.emission_interval
                queue.host.ready_at = max(queue.host.ready_at, now) + spread
            queue.pump(now)

    def _probe(self) -> None:
        """Turn to the place again if it can be used."""
        queues = self._queues()
        try:
            with self._change() as wall:
                now = self._now()
                for queue in queues:
                    self._come_back(queue, wall, now)
        except (Busy, PlaceLost) as error:
            self._cut_off = _HELD if isinstance(error, Busy) else str(error)
            self._probing = self._loop.call_later(PROBE_SECONDS, self._probe)
            return
        _log.info("%s can be used again", self._path)
        self._cut_off = self._probing = None
        for queue in queues:
            queue.asks = True
            queue.repace(self._limits)
            queue.pump(now)

    def _come_back(self, queue: AskingQueue, wall: float, now: float) -> None:
        key, host = self._place.key(queue.name, ""), queue.host
        ready_at = self._learn(queue, None, key, wall, now)
        used = host.ready_at > now - PROBE_SECONDS  # since the last probe
        ready_at = max(now if ready_at is None else ready_at, now, host.paused_until())
        if used and host.pace.emission_interval:
            ready_at += self._fallback * PROBE_SECONDS
        host.ready_at = ready_at
        row, rested_at = self._row(host, ready_at, wall, now)
        self._place.keep(key, row, wall, rested_at)


_HELD = "another process holds it"


def _share_of(limits: Limits, fallback: float) -> Limits:
    def share(limit: RateLimit | None) -> RateLimit | None:
        if limit is None:
            return None
        rate = max(limit.rate * fallback, 1 / LONGEST)
        return RateLimit(rate=rate, burst=max(1, int(limit.burst * fallback)))

    return attrs.evolve(limits, host=share(limits.host), account=share(limits.account))
