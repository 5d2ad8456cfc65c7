"""The types of the limits: what a program asks for, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .._seam import LONGEST, checked_wait

_MOST = 10**9
"""Largest number that counts: beyond, a float of seconds can't tell two departures apart."""


@attrs.frozen(kw_only=True)
class RateLimit:
    """`rate` departures a second in the long run, `burst` at once after a rest."""

    rate: float
    burst: int

    def __attrs_post_init__(self) -> None:
        if type(self.rate) not in (int, float) or not 1 / LONGEST <= self.rate <= _MOST:
            raise ValueError(f"rate: expected a number from 1e-9 to 1e9, got {self.rate!r}")
        if type(self.burst) is not int or not 1 <= self.burst <= _MOST:
            raise ValueError(f"burst: expected an int from 1 to 10**9, got {self.burst!r}")
        if self.burst / self.rate > LONGEST:
            raise ValueError(f"burst: no rest is as long as {self.burst} at {self.rate} a second")


@attrs.frozen(kw_only=True)
class Limits:
    """The amount that one process sends; by default one snapshot at once, then two calls a second.

    The server does not publish its limits. Users of other clients report blocks after some seventy
    calls at one a second from a fresh client; two a second over all accounts, one for each, stays
    on the safe side of what a browser does in the member centre. Both budgets count per host.
    """

    host: RateLimit | None = RateLimit(rate=2, burst=12)
    account: RateLimit | None = RateLimit(rate=1, burst=12)
    concurrency: int | None = 16
    """Requests in flight per host, None for no cap."""
    max_wait: float | None = None
    """Seconds that a call may wait here, pauses included; None for no bound.

    A call that can't go within them fails with `RateLimited(scope="local")`.
    """

    def __attrs_post_init__(self) -> None:
        for name, limit in (("host", self.host), ("account", self.account)):
            if not isinstance(limit, RateLimit | None):
                raise ValueError(f"{name}: expected a RateLimit or None, got {limit!r}")
        cap = self.concurrency
        if cap is not None and (type(cap) is not int or not 1 <= cap <= _MOST):
            raise ValueError(f"concurrency: expected an int from 1 to 10**9 or None, got {cap!r}")
        if self.max_wait is not None:
            checked_wait("max_wait", self.max_wait)

    @classmethod
    def none(cls) -> Limits:
        """Return no budgets and no cap; a pause that the server asks for still holds."""
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
    """Accounts that wait, are paused or slowed, by `dede_user_id` or a digest of the secret."""
    background: int = 0
    """Waiting calls of sessions with `background=True`.

    They go only when no other call could: as long as others use the whole budget, they wait.
    """
    background_wait: float = 0.0
    """Seconds that the longest of those has waited."""
    cut_off: str | None = None
    """The reason for which a `SharedLimiter` uses only this process's share for now, or None."""
