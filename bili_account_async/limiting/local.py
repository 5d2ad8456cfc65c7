"""The limiter of one process: futures and timers around the queues. It decides nothing itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from .._seam import Seam
from .calls import Call, Departure, lane_of
from .queue import Queue
from .types import HostState, Limits

CLOSED = "this SessionManager was closed while the call was under way"


class _Host(Queue):
    """A queue and its timer; there is none while it is idle."""

    __slots__ = ("timer", "timer_at")

    timer: asyncio.TimerHandle | None
    timer_at: float
    """The timer's time: not every loop's timers tell it."""


class LocalLimiter:
    """The queues of all hosts on one event loop."""

    def __init__(self, limits: Limits, seam: Seam) -> None:
        self._limits = limits
        self._max_wait = math.inf if limits.max_wait is None else limits.max_wait
        self._seam = seam
        self._now = seam.loop.time
        self._hosts: dict[str, _Host] = {}
        self._closed = False

    async def acquire(
        self,
        host: str,
        account: str,
        *,
        patience: float,
        max_wait: float | None = None,
        retry: bool = False,
        background: bool = False,
    ) -> Departure:
        """Wait until a request may depart, for `max_wait` seconds if given, else for the limits'.

        Raises `RateLimited` as soon as that, or the pauses within `patience`, can't be.
        """
        queue = self._hosts.get(host)
        now = self._now()
        if queue is None:
            queue = self._host(host)
        elif (permit := queue.try_acquire(account, now)) is not None:
            return permit
        elif queue.waiting:
            self._pump(queue, now)
        bound = self._max_wait if max_wait is None else max_wait
        lane = lane_of(retry=retry, background=background)
        call = Call(queue, account, now, patience=patience, max_wait=bound, lane=lane)
        try:
            if not queue.enqueue(call, now):
                call.future = self._seam.loop.create_future()
            self._arm(queue)
            if call.future is not None:
                await call.future
        except BaseException:  # cancelled, refused, or closed as a coroutine
            self._leave(queue, call)
            raise
        finally:
            call.future = None  # it holds the error, whose traceback holds this frame
        return call

    def release(self, permit: Departure, error: BaseException | None) -> None:
        """Take the permit back; a `RateLimited` slows its scope."""
        queue = permit.queue
        if error is None and not queue.waiting and not queue.slowed:
            queue.in_flight -= 1  # all that `Queue.release` would do
            return
        assert isinstance(queue, _Host)
        now = self._now()
        for call, refusal in queue.release(permit, error, now):
            _fail(call, refusal)
        self._pump(queue, now)

    def answered(self, permit: Departure) -> None:
        """Let the account's next call ask: budgets that are elsewhere have answered this one."""
        queue = permit.queue
        assert isinstance(queue, _Host)
        now = self._now()
        queue.deferred(permit, -math.inf, now)
        self._pump(queue, now)

    def state(self) -> Mapping[str, HostState]:
        """Return each host as it stands."""
        now = self._now()
        return {name: queue.state(now) for name, queue in self._hosts.items()}

    def close(self) -> None:
        """Stop the timers; whoever still waits gets a `RuntimeError`."""
        self._closed = True
        for queue in self._hosts.values():
            if queue.timer is not None:
                queue.timer.cancel()
            for call in queue.queued():
                _fail(call, RuntimeError(CLOSED))
        self._hosts.clear()

    def _host(self, name: str) -> _Host:
        if self._closed:
            raise RuntimeError(CLOSED)
        queue = self._hosts[name] = _Host(self._limits, self._seam.random)
        queue.timer, queue.timer_at = None, math.inf
        return queue

    def _leave(self, queue: _Host, call: Call) -> None:
        now = self._now()
        queue.leave(call, now)
        self._pump(queue, now)

    def _pump(self, queue: _Host, now: float) -> None:
        """Let go whoever can, in order."""
        if self._seam.loop.is_closed():
            return  # whoever waits was abandoned with the loop, and can't be woken
        while (call := queue.candidate(now)) is not None:
            queue.granted(call, now)
            assert call.future is not None
            call.future.set_result(None)
        for call, error in queue.overdue(now):
            _fail(call, error)
        self._arm(queue)

    def _arm(self, queue: _Host) -> None:
        at = queue.next_at()
        if self._closed or at == math.inf or queue.timer_at <= at:
            return
        if queue.timer is not None:
            queue.timer.cancel()
        queue.timer, queue.timer_at = self._seam.loop.call_at(at, self._tick, queue, at), at

    def _tick(self, queue: _Host, at: float) -> None:
        queue.timer, queue.timer_at = None, math.inf
        now = max(at, self._now())  # a loop may be a clock tick early
        if now >= queue.sweep_at:
            queue.sweep(now)
        self._pump(queue, now)


def _fail(call: Call, error: Exception) -> None:
    assert call.future is not None
    if not call.future.done():
        call.future.set_exception(error)
