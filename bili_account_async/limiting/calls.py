"""The things that wait: a call, its account, and the account's line in a lane. Plain data.

The order in which they go is `queue.py`'s, the time that pauses take from them `patience.py`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from .budget import Budget, Pace
from .throttle import SlowStart
from .types import ScopeState

if TYPE_CHECKING:
    from .queue import Queue

LANES = range(4)
BACKGROUND = 2
"""The first of the lanes whose calls go only when no others could."""


def lane_of(*, retry: bool, background: bool) -> int:
    """Return the number of a call's lane: the lower goes first, and each retry before its lane."""
    return 2 * background + (not retry)


class Departure:
    """A departure that nothing held up."""

    __slots__ = ("account", "departed", "queue")

    queue: Queue
    account: str
    departed: float
    waited = 0.0
    paused = 0.0
    starts: tuple[SlowStart, ...] = ()


class Call(Departure):
    """A call that waits; from its grant on it is the permit."""

    __slots__ = (
        "arrived",
        "costs",
        "future",
        "lane",
        "line",
        "max_wait",
        "patience",
        "paused",
        "spent",
        "starts",
        "waited",
    )

    def __init__(
        self,
        queue: Queue,
        account: str,
        now: float,
        *,
        patience: float = math.inf,
        lane: int = 1,
        max_wait: float = math.inf,
    ) -> None:
        self.queue = queue
        self.account = account
        self.departed = math.inf
        self.arrived = now
        self.patience = patience  # seconds that pauses may take
        self.max_wait = max_wait
        self.lane = lane
        self.waited = self.paused = self.spent = 0.0  # `spent` on its account's clock, at arrival
        self.starts = ()  # the slow starts that its departure counts in
        self.line: Line | None = None  # in which it waits
        self.costs: tuple[float, float] | None = None  # what it took of the host and the account
        self.future: asyncio.Future[None] | None = None


class Line:
    """The waiting calls of one account in one lane."""

    __slots__ = ("account", "calls", "lane", "turn")

    def __init__(self, account: Account, lane: int) -> None:
        self.account = account
        self.lane = lane
        self.calls: OrderedDict[Call, None] = OrderedDict()
        self.turn = 0  # which entry of the lane's heap is this line's; 0 for none


class Account(Budget):
    """One account on one host: its budget, and its calls that wait."""

    __slots__ = ("impatient", "lines", "paused_alone")

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace)
        self.lines: dict[int, Line] | None = None  # None rather than empty
        self.impatient: list[tuple[float, int, Call]] | None = None  # `Patience`'s
        self.paused_alone = 0.0  # `Patience`'s: seconds of own pauses outside the host's

    def waiting(self) -> int:
        """Return how many calls wait."""
        return sum(len(line.calls) for line in (self.lines or {}).values())

    def state(self, now: float) -> ScopeState:
        """Return the account as it stands."""
        return ScopeState(
            rate=self.rate(now), paused_for=self.paused_for(now), waiting=self.waiting()
        )
