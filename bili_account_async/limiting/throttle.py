"""The server's demand to slow down, as it stands for one scope. Pure: it is told the time.

The scope pauses and its rate halves; from the pause's end the rate grows by `RECOVERY` of the
configured one a second. What departed before the throttle was told counts as the same throttle. The
server's own budget can't be known: the first throttle without `Retry-After` pauses about a second,
each further one twice as long, until a call succeeds. After a pause one call goes alone, then as
many again as succeeded.
"""

from __future__ import annotations

import math

from ..errors import RateLimited

RECOVERY = 1 / 300
"""Share of the configured rate that a slowed scope regains a second."""
RATE_FACTOR_MIN = 1 / 128
"""Share of the configured rate below which no throttle slows a scope."""
PAUSE_MIN, PAUSE_MAX = 1.0, 60.0
"""Seconds that a throttle without `Retry-After` pauses: the first, and the longest."""


class SlowStart:
    """The departures since a pause: so many are in flight, and so many may be."""

    __slots__ = ("in_flight", "window")

    def __init__(self) -> None:
        self.in_flight, self.window = 0, 1

    def full(self) -> bool:
        """Return True if one that is under way must end before another goes."""
        return self.in_flight >= self.window


class Throttle:
    """The server's last word on a scope, until it is recovered from."""

    __slots__ = ("error", "name", "paused_until", "rate_factor", "start", "strikes", "throttled_at")

    error: RateLimited

    def __init__(self) -> None:
        self.rate_factor = 1.0
        self.strikes = 0
        self.name = 0  # by which processes that share the budget know it; 0 before they were told
        self.throttled_at = self.paused_until = -math.inf
        self.start = SlowStart()

    def factor_at(self, now: float) -> float:
        """Return the share of the configured rate that holds now."""
        return min(1.0, self.rate_factor + RECOVERY * max(0.0, now - self.paused_until))

    def over_at(self) -> float:
        """Return the time at which the rate is the configured one again."""
        return self.paused_until + (1.0 - self.rate_factor) / RECOVERY

    def told(self, error: RateLimited, departed: float, now: float, chance: float) -> bool:
        """Take the refusal of a call that `departed`; return True for a pause, new or longer.

        `chance`, in [0, 1), spreads a pause of which the server did not say how long it is.
        """
        pause = error.retry_after
        if departed > self.throttled_at:
            self.rate_factor = max(self.factor_at(now) / 2, RATE_FACTOR_MIN)
            self.strikes += 1
            self.throttled_at = max(now, departed)  # a grant may be a clock tick ahead
            self.name = 0
            if pause is None:
                bare = min(PAUSE_MIN * 2 ** min(self.strikes - 1, 30), PAUSE_MAX)
                pause = bare * (1 + chance / 2)
        if pause is None or now + pause < self.paused_until:
            return False
        self.paused_until = now + pause
        self.error = error.restated()  # the one that is raised collects its caller's frames
        self.start = SlowStart()
        self.name = 0
        return True

    def adopt(self, other: Throttle) -> bool:
        """Take what another process was told; return True for a longer pause.

        The later refusal holds, and of two pauses the longer.
        """
        if self.name:  # else the other processes are yet to be told of this one
            self.name = other.name
        if other.throttled_at > self.throttled_at:
            self.rate_factor, self.strikes = other.rate_factor, other.strikes
            self.throttled_at = other.throttled_at
        if other.paused_until <= self.paused_until:
            return False
        self.paused_until, self.error = other.paused_until, other.error
        self.start = SlowStart()
        return True
