"""The limiter of one process: a queue for each host. It decides nothing itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .._seam import Seam
from .calls import Call, Departure, lane_of
from .timed import CLOSED, TimedQueue, fail
from .types import HostState, Limits


class LocalLimiter:
    """The queues of all hosts on one event loop."""

    def __init__(self, limits: Limits, seam: Seam) -> None:
        self._limits = limits
        self._max_wait = math.inf if limits.max_wait is None else limits.max_wait
        self._seam = seam
        self._now = seam.loop.time
        self._hosts: dict[str, TimedQueue] = {}
        self._closed = False

    def try_acquire(self, host: str, account: str) -> Departure | None:
        """Return the permit of a call that nothing holds up, None for one that has to `acquire`."""
        queue = self._hosts.get(host)
        return None if queue is None else queue.try_acquire(account, self._now())

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
            if self._closed:
                raise RuntimeError(CLOSED)
            queue = self._hosts[host] = self._new_queue(host)
        elif (permit := queue.try_acquire(account, now)) is not None:
            return permit
        elif queue.waiting:
            queue.pump(now)
        bound = self._max_wait if max_wait is None else max_wait
        lane = lane_of(retry=retry, background=background)
        call = Call(queue, account, now, patience=patience, max_wait=bound, lane=lane)
        try:
            if not queue.enqueue(call, now):
                call.future = self._seam.loop.create_future()
            queue.arm()
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
        assert isinstance(queue, TimedQueue)
        now = self._now()
        for call, refusal in queue.release(permit, error, now):
            fail(call, refusal)
        queue.pump(now)

    def answered(self, permit: Departure) -> None:
        """Let the account's next call ask: budgets that are elsewhere have answered this one."""
        queue = permit.queue
        assert isinstance(queue, TimedQueue)
        now = self._now()
        queue.deferred(permit, -math.inf, now)
        queue.pump(now)

    def state(self) -> Mapping[str, HostState]:
        """Return each host as it stands."""
        now = self._now()
        return {name: queue.state(now) for name, queue in self._hosts.items()}

    def close(self) -> None:
        """Stop the timers; whoever still waits gets a `RuntimeError`, unless the loop has ended."""
        self._closed = True
        for queue in self._hosts.values():
            queue.close()
        self._hosts.clear()

    def _new_queue(self, host: str) -> TimedQueue:
        """Return the queue of a host that is called for the first time."""
        return TimedQueue(self._limits, self._seam)

    def _leave(self, queue: TimedQueue, call: Call) -> None:
        now = self._now()
        queue.leave(call, now)
        queue.pump(now)
