"""The bound that a program sets on a wait: who is over it, and who never comes in time. Pure.

An estimate takes the queue as it stands: the account's own calls go first, and each account that is
ready by then sends before, once for the soonest departure, in turns for the likely one. Only a
call that can't go even at the soonest is refused at its arrival.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ..errors import RateLimited
from .budget import Budget
from .calls import Account, Call
from .lanes import Lanes


class MaxWait:
    """The calls of one host that may not wait for ever."""

    __slots__ = ("_deadlines", "_host", "_lanes", "_turns")

    def __init__(self, host: Budget, lanes: Lanes) -> None:
        self._host = host
        self._lanes = lanes
        self._deadlines: list[tuple[float, int, Call]] = []
        self._turns = 0

    def add(self, call: Call, waiting: int) -> None:
        """Keep the bound of a call that begins to wait."""
        self._turns += 1
        heappush(self._deadlines, (call.arrived + call.max_wait, self._turns, call))
        if len(self._deadlines) > 2 * waiting + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[2].line is not None]
            heapify(self._deadlines)

    def next_at(self) -> float:
        """Return when the next call is over its bound; infinity for never."""
        while self._deadlines and self._deadlines[0][2].line is None:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def overdue(self, now: float) -> Iterator[tuple[Call, RateLimited]]:
        """Yield the calls over their bound, each with its error, to be taken off the queue."""
        ahead: dict[int, int] = {}
        while self.next_at() <= now:
            call = heappop(self._deadlines)[2]
            if call.lane not in ahead:
                ahead[call.lane] = self._lanes.ahead(call.lane, now)
            assert call.line is not None
            likely = self._departs_at(call.line.account, call.lane, ahead[call.lane], now, one=1)[1]
            yield call, RateLimited(scope="local", retry_after=likely - now)

    def refuse(self, call: Call, account: Account, now: float) -> None:
        """Raise `RateLimited` if the call would wait in vain."""
        ahead = self._lanes.ahead(call.lane, max(now, account.ready_at))
        soonest, likely = self._departs_at(account, call.lane, ahead, now)
        if soonest - now > call.max_wait or not call.max_wait:
            raise RateLimited(scope="local", retry_after=likely - now)

    def _departs_at(
        self, account: Account, lane: int, ahead: int, now: float, *, one: int = 0
    ) -> tuple[float, float]:
        """Return the soonest and the likely departure of one more call of the account.

        `one` is 1 for a call that waits already.
        """
        lines = [line for line in (account.lines or {}).values() if line.lane <= lane]
        own, others = sum(len(line.calls) for line in lines) - one, max(0, ahead - len(lines))
        host, account_at = max(now, self._host.ready_at), max(now, account.ready_at)
        account_at += own * account.pace.emission_interval
        interval = self._host.pace.emission_interval
        soonest = max(account_at, host + (own + others) * interval)
        return soonest, max(account_at, host + (own + others * (own + 1)) * interval)
