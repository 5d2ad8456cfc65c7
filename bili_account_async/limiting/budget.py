"""One budget, of a host or of an account on it: GCRA, and what a throttle does to it.

Pure arithmetic that is told the time. Nothing here knows of calls, queues or the other budget.

The theory. GCRA is the token bucket's twin that needs one number: `ready_at`, the earliest next
departure. A departure moves it to `max(ready_at, now - tolerance) + emission_interval`, with
`1 / rate` for the emission interval and `(burst - 1) / rate` for the tolerance. So no window of
t seconds holds more than `burst + rate * t` departures.

When the server says slow down, the budget pauses, its burst is gone, and its rate halves; from the
pause's end the rate grows by `RECOVERY` of the configured one a second. What departed before the
throttle was told counts as the same throttle. The server's own budget can't be known: the first
throttle without `Retry-After` pauses about a second, each further one twice as long, until a call
succeeds. After a pause one call goes alone, then as many again as succeeded.
"""

from __future__ import annotations

import math

from ..errors import RateLimited
from .types import RateLimit

RECOVERY = 1 / 300
"""Share of the configured rate that a slowed budget regains a second."""
RATE_FACTOR_MIN = 1 / 128
"""Share of the configured rate below which no throttle slows a budget."""
PAUSE_MIN, PAUSE_MAX = 1.0, 60.0
"""Seconds that a throttle without `Retry-After` pauses: the first, and the longest."""


class Pace:
    """A `RateLimit` as GCRA wants it; none is an infinite rate."""

    __slots__ = ("emission_interval", "rate", "tolerance")

    def __init__(self, limit: RateLimit | None) -> None:
        self.rate = limit.rate if limit else math.inf
        self.emission_interval = 1 / self.rate
        self.tolerance = (limit.burst - 1) / limit.rate if limit else 0.0


class SlowStart:
    """The departures since a pause: so many are in flight, and so many may be."""

    __slots__ = ("in_flight", "window")

    def __init__(self) -> None:
        self.in_flight, self.window = 0, 1


class Throttle:
    """The server's last word on a budget, until it is recovered from."""

    __slots__ = ("error", "paused_until", "rate_factor", "start", "strikes", "throttled_at")

    error: RateLimited

    def __init__(self) -> None:
        self.rate_factor = 1.0
        self.strikes = 0
        self.throttled_at = self.paused_until = -math.inf
        self.start = SlowStart()

    def factor_at(self, now: float) -> float:
        """Return the share of the configured rate that holds now."""
        return min(1.0, self.rate_factor + RECOVERY * max(0.0, now - self.paused_until))

    def over_at(self) -> float:
        """Return the time at which the rate is the configured one again."""
        return self.paused_until + (1.0 - self.rate_factor) / RECOVERY


class Budget:
    """The departures of one scope."""

    __slots__ = ("pace", "ready_at", "throttle")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.ready_at = -math.inf
        self.throttle: Throttle | None = None

    def next_at(self) -> float:
        """Return when a call may depart; infinity if one that is under way must end first."""
        start = self.throttle and self.throttle.start
        return math.inf if start and start.in_flight >= start.window else self.ready_at

    def paused_until(self) -> float:
        """Return when the last pause ends or ended; minus infinity if there was none."""
        return self.throttle.paused_until if self.throttle else -math.inf

    def paused_for(self, now: float) -> float:
        """Return the seconds until a pause ends, 0 for none."""
        return max(0.0, self.paused_until() - now)

    def rate(self, now: float) -> float | None:
        """Return the departures a second now, None without a limit."""
        return self.pace.rate * self._factor(now) if self.pace.emission_interval else None

    def charge(self, now: float) -> float:
        """Take one departure out of the budget; return what it cost, for `refund`."""
        cost = self.pace.emission_interval / self._factor(now)
        self.ready_at = max(self.ready_at, now - self.pace.tolerance) + cost
        return cost

    def refund(self, cost: float, elapsed: float) -> None:
        """Give back what a departure cost, less the budget that has grown since."""
        self.ready_at -= max(0.0, cost - max(0.0, elapsed))
        self.ready_at = max(self.ready_at, self.paused_until())

    def slow_down(self, error: RateLimited, departed: float, now: float, chance: float) -> bool:
        """Take the server's refusal of a call that `departed`; return True for a new pause.

        `chance`, in [0, 1), spreads a pause of which the server did not say how long it is.
        """
        throttle = self.throttle = self.throttle or Throttle()
        pause = error.retry_after
        if departed > throttle.throttled_at:
            throttle.rate_factor = max(throttle.factor_at(now) / 2, RATE_FACTOR_MIN)
            throttle.strikes += 1
            throttle.throttled_at = max(now, departed)  # a grant may be a clock tick ahead
            if pause is None:
                bare = min(PAUSE_MIN * 2 ** min(throttle.strikes - 1, 30), PAUSE_MAX)
                pause = bare * (1 + chance / 2)
        if pause is None or now + pause < throttle.paused_until:
            return False
        throttle.paused_until = now + pause
        throttle.error = error.restated()  # the one that is raised collects its caller's frames
        throttle.start = SlowStart()
        self.ready_at = max(self.ready_at, throttle.paused_until)
        return True

    def _factor(self, now: float) -> float:
        return self.throttle.factor_at(now) if self.throttle else 1.0
