"""The limiter against everything at once: hypothesis interleaves arrivals in all lanes, endings,
cancellations, throttles and time.

One turn of the loop is one step, so a grant and a cancellation can meet between the future and its
task. After every step all windows, the order, the books and the idleness are checked.
"""

from __future__ import annotations

import asyncio
import math
import os
from bisect import insort
from collections import defaultdict
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from virtual import VirtualLoop

from bili_account_async import Limits, RateLimit, RateLimited
from bili_account_async._seam import Seam
from bili_account_async.limiting.calls import Call
from bili_account_async.limiting.local import LocalLimiter
from bili_account_async.limiting.queue import Queue

EPSILON = 1e-6
ACCOUNTS = ["a", "b", "c", "d", "e"]
limits = st.none() | st.builds(
    RateLimit, rate=st.sampled_from([0.5, 1, 3, 10]), burst=st.integers(1, 5)
)


class Asked(NamedTuple):
    """A call as it was made."""

    lane: tuple[str, bool, bool]
    number: int
    at: float
    patience: float
    max_wait: float


class Windows:
    """Judges departures that may still be taken back: no t seconds may hold more than burst + rate
    * t of them.
    """

    def __init__(self, limit: RateLimit | None) -> None:
        self.limit = limit
        self.departures: list[float] = []

    def check(self) -> None:
        if self.limit is None:
            return
        lowest = 0.0
        for number, at in enumerate(sorted(self.departures)):
            level = number - self.limit.rate * at
            lowest = level if number == 0 else min(lowest, level)
            assert level + 1 - lowest <= self.limit.burst + EPSILON

    def could_take_one(self, now: float) -> bool:
        """An oracle with nothing in common with the limiter: would one more departure at `now` keep
        all windows?
        """
        if self.limit is None:
            return True
        limit, later = self.limit, sorted(self.departures, reverse=True)
        return all(
            n + 1 <= limit.burst + limit.rate * (now - at) - EPSILON
            for n, at in enumerate(later, 1)
        )


_candidate = Queue.candidate


def watched_candidate(queue: Queue, now: float) -> Call | None:
    """The queue's choice; an oracle that looks at everybody: nobody in a better lane could go."""
    call = _candidate(queue, now)
    for other in queue.queued() if call else ():
        assert call is not None
        cancelled = other.future is not None and other.future.done()
        if other.lane < call.lane and not cancelled:
            assert queue.accounts[other.account].next_at() > now, "a better lane could go"
    return call


class LimiterMachine(RuleBasedStateMachine):
    @initialize(
        host=limits,
        account=limits,
        concurrency=st.none() | st.integers(1, 4),
        max_wait=st.none() | st.just(5),
    )
    def begin(self, host: Any, account: Any, concurrency: Any, max_wait: Any) -> None:
        self.patched = patch.object(Queue, "candidate", watched_candidate)
        self.patched.start()
        self.limits = Limits(host=host, account=account, concurrency=concurrency, max_wait=max_wait)
        self.loop = VirtualLoop()
        self.limiter = LocalLimiter(self.limits, Seam(loop=self.loop, random=lambda: 0.5))
        self.host = Windows(host)
        self.accounts = defaultdict(lambda: Windows(account))
        self.waiting: dict[asyncio.Task[Any], Asked] = {}
        self.held: list[Any] = []
        self.order: dict[tuple[str, bool, bool], list[tuple[int, float]]] = defaultdict(list)
        self.arrived = 0
        self.throttled = False
        self.given_back_late = False

    @property
    def queue(self) -> Any:
        return self.limiter._hosts.get("h")

    @rule(
        account=st.sampled_from(ACCOUNTS),
        patience=st.sampled_from([0.5, 10.0]),
        number=st.integers(1, 6),
        late=st.sampled_from([0.0, 0.0, 0.9]),
        max_wait=st.sampled_from([None, None, math.inf, 0.0, 2.0, 40.0]),
        retry=st.booleans(),
        background=st.booleans(),
    )
    def arrive(
        self, account: str, patience: float, number: int, late: float, **options: Any
    ) -> None:
        """With `late`, the loop was busy: the calls come before the timers that are due."""
        self.loop.now += late
        for _ in range(number):
            task = self.loop.create_task(
                self.limiter.acquire("h", account, patience=patience, **options)
            )
            max_wait = options["max_wait"]
            if max_wait is None:
                max_wait = self.limits.max_wait if self.limits.max_wait is not None else math.inf
            lane = account, options["retry"], options["background"]
            self.waiting[task] = Asked(lane, self.arrived, self.loop.now, patience, max_wait)
            self.arrived += 1
        self.turn()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), number=st.integers(1, 8))
    def cancel(self, data: Any, number: int) -> None:
        """Cancels and leaves it at that: whether the task runs before the next pump is for the
        other rules to say.
        """
        for _ in range(number):
            task = data.draw(st.sampled_from(list(self.waiting)))
            self.given_back_late |= task in self.granted()  # for time may pass before it runs
            task.cancel()

    @precondition(lambda self: self.granted())
    @rule(data=st.data(), late=st.sampled_from([0.0, 0.0, 0.7]))
    def cancel_after_the_grant(self, data: Any, late: float) -> None:
        self.loop.now += late
        self.given_back_late |= late > 0
        data.draw(st.sampled_from(self.granted())).cancel()

    def granted(self) -> list[asyncio.Task[Any]]:
        """The tasks that will run in the next turn, because they may go or have failed."""
        return [task for task in self.waiting if not task.done() and task._fut_waiter is None]  # type: ignore[attr-defined]

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        retry_after=st.none() | st.sampled_from([0.0, 0.3, 2.0, 20.0]),
        kind=st.sampled_from("oooohax"),
    )
    def finish(self, data: Any, retry_after: float | None, kind: str) -> None:
        permit = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        error: BaseException | None = asyncio.CancelledError() if kind == "x" else None
        if kind in "ha":
            self.throttled = True
            error = RateLimited(scope="host" if kind == "h" else "account", retry_after=retry_after)
        self.limiter.release(permit, error)

    @rule()
    def turn(self) -> None:
        self.loop.turn()
        self.collect()

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.33, 1.0, 2.5, 30.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.turn()

    @rule()
    def settle(self) -> None:
        self.loop.settle()
        self.collect()
        self.check_that_nobody_waits_who_could_go()
        for asked in self.waiting.values():
            assert asked.at + asked.max_wait > self.loop.now - EPSILON

    def collect(self) -> None:
        """Take the results of the tasks that have run, and book the departures."""
        for task, asked in list(self.waiting.items()):
            if not task.done():
                continue
            del self.waiting[task]
            if task.cancelled():
                continue
            if error := task.exception():
                assert isinstance(error, RateLimited), error
                assert error.retry_after is not None
                if error.scope == "local":
                    in_vain = error.retry_after > asked.max_wait - EPSILON
                    over = self.loop.now >= asked.at + asked.max_wait - EPSILON
                    assert in_vain or over
                continue
            permit = task.result()
            self.held.append(permit)
            assert permit.paused < asked.patience
            insort(self.order[asked.lane], (asked.number, permit.departed))
            self.host.departures.append(permit.departed)
            self.accounts[permit.account].departures.append(permit.departed)

    def check_that_nobody_waits_who_could_go(self) -> None:
        cap = self.limits.concurrency
        if not self.queue or (cap is not None and len(self.held) >= cap):
            return
        waiting = {asked.lane[0] for asked in self.waiting.values()}
        now = self.loop.now
        for account in waiting:
            own = self.queue.accounts[account]
            assert self.queue.host.next_at() > now or own.next_at() > now, (
                f"{account} could go by the limiter's own books"
            )
            if not self.throttled and not self.given_back_late:
                could = self.host.could_take_one(now) and self.accounts[account].could_take_one(now)
                assert not could, f"{account} could go"

    @invariant()
    def windows_hold(self) -> None:
        self.host.check()
        for windows in self.accounts.values():
            windows.check()

    @invariant()
    def accounts_depart_in_the_order_of_arrival_within_a_lane(self) -> None:
        for calls in self.order.values():
            departures = [departed for _, departed in calls]
            assert departures == sorted(departures)

    @invariant()
    def books_are_right(self) -> None:
        queue = self.queue
        if queue is None:
            return
        queued = queue.queued()
        assert queue.waiting == len(queued) <= len(self.waiting)
        assert len(queue.lanes) <= 2 * queue.waiting + 4 * 64
        assert {account for account in queue.accounts if queue.accounts[account].lines} == {
            c.account for c in queued
        }
        timers = [t for t in self.loop.timers() if t._callback == queue._tick]
        assert len(timers) == (queue._timer is not None) <= 1
        assert not queue.waiting or timers or (self.limits.concurrency or 99) <= queue.in_flight

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                self.end()
            finally:
                self.patched.stop()
                self.loop.close()

    def end(self) -> None:
        for task in list(self.waiting):
            task.cancel()
        self.loop.settle()
        self.collect()
        self.windows_hold()
        assert not self.waiting
        while self.held:
            self.limiter.release(self.held.pop(), None)
        if queue := self.queue:
            assert (queue.in_flight, queue.waiting) == (0, 0)
            for _ in range(2000):
                self.loop.settle()
                if not self.loop.timers():
                    break
                self.loop.now = self.loop.timers()[0].when()
            assert queue._timer is None
            assert queue.accounts == {}
        assert not self.loop.complaints


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(
    max_examples=int(os.environ.get("BILI_EXAMPLES", "200")),
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize="BILI_EXAMPLES" not in os.environ,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
