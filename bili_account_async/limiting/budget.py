"""One budget, of a host or of an account on it. Pure arithmetic that is told the time.

The theory. GCRA is the token bucket's twin that needs one number: `ready_at`, the earliest next
departure. A departure moves it to `max(ready_at, now - tolerance) + emission_interval`, with
`1 / rate` for the emission interval and `(burst - 1) / rate` for the tolerance. So no window of
t seconds holds more than `burst + rate * t` departures. A throttle takes the burst, and stretches
the emission interval.

Nothing here knows of calls, queues or the other budget.
"""

from __future__ import annotations

import math

from ..errors import RateLimited
from .throttle import Throttle
from .types import RateLimit


class Pace:
    """A `RateLimit` as GCRA wants it; none is an infinite rate."""

    __slots__ = ("emission_interval", "rate", "tolerance")

    def __init__(self, limit: RateLimit | None) -> None:
        self.rate = limit.rate if limit else math.inf
        self.emission_interval = 1 / self.rate
        self.tolerance = (limit.burst - 1) / limit.rate if limit else 0.0


class Budget:
    """The departures of one scope."""

    __slots__ = ("pace", "ready_at", "throttle")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.ready_at = -math.inf
        self.throttle: Throttle | None = None

    def next_at(self) -> float:
        """Return when a call may depart; infinity if one that is under way must end first."""
        if self.throttle is not None and self.throttle.start.full():
            return math.inf
        return self.ready_at

    def paused_until(self) -> float:
        """Return when the last pause ends or ended; minus infinity if there was none."""
        return self.throttle.paused_until if self.throttle else -math.inf

    def paused_for(self, now: float) -> float:
        """Return the seconds until a pause ends, 0 for none."""
        return max(0.0, self.paused_until() - now)

    def rate(self, now: float) -> float | None:
        """Return the departures a second now, None without a limit."""
        factor = self.throttle.factor_at(now) if self.throttle else 1.0
        return self.pace.rate * factor if self.pace.emission_interval else None

    def charge(self, now: float) -> float:
        """Take one departure out of the budget; return what it cost, for `refund`."""
        cost = self.pace.emission_interval
        if self.throttle is not None:
            cost /= self.throttle.factor_at(now)
        rested = now - self.pace.tolerance
        self.ready_at = (self.ready_at if self.ready_at > rested else rested) + cost
        return cost

    def refund(self, cost: float, elapsed: float) -> None:
        """Give back what a departure cost, less the budget that has grown since."""
        self.ready_at -= max(0.0, cost - max(0.0, elapsed))
        self.ready_at = max(self.ready_at, self.paused_until())

    def slow_down(self, error: RateLimited, departed: float, now: float, chance: float) -> bool:
        """Take what the server said, as `Throttle.told`; return True for a pause, new or longer."""
        throttle = self.throttle = self.throttle or Throttle()
        paused = throttle.told(error, departed, now, chance)
        if paused:
            self.ready_at = max(self.ready_at, throttle.paused_until)
        return paused

    def adopt(self, told: Throttle) -> bool:
        """Take another process's throttle, as `Throttle.adopt`; return True for a longer pause."""
        if self.throttle is None:
            self.throttle = told
        elif not self.throttle.adopt(told):
            return False
        self.ready_at = max(self.ready_at, told.paused_until)
        return True
