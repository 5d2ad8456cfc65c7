"""The decision to make a failed attempt again, and after how long. Pure: no waiting, no clock.

Backoff is exponential with full jitter. A retry budget per host keeps retries from making an outage
worse: it starts with `RESERVE` retries, every successful call earns `EARNED` of one, every retry
spends one. So whatever fails, requests stay below (1 + EARNED) x calls + RESERVE, and in a full
outage below calls + RESERVE. (A request that is sent again because an idle connection of the pool
was dead costs nothing: there are no more of those than connections.)

Each endpoint has such a budget as well, which starts with `ENDPOINT_RESERVE`; a retry spends one of
both. So an endpoint that always fails takes that reserve once and no more, and what the calls of
the healthy ones earn is theirs.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from ._seam import checked_seconds
from .codes import meaning_of
from .endpoints import Endpoint
from .errors import ApiError, BiliError, ProtocolError, RateLimited, TransportError

RESERVE = 20.0
ENDPOINT_RESERVE = 10.0
EARNED = 0.2


@attrs.frozen(kw_only=True)
class Retry:
    """The policy by which a failed GET is tried again.

    The POST is sent again only when nothing of it left this machine.
    """

    attempts: int = 3
    """Attempts a call has in all."""
    attempt_timeout: float = 4.0
    """Seconds that one attempt may take."""
    backoff: float = 0.25
    """Upper bound of the first random wait, in seconds; it doubles with each further one."""
    backoff_max: float = 5.0
    """The upper bound's own bound."""

    def __attrs_post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"attempts: expected an int >= 1, got {self.attempts!r}")
        checked_seconds("attempt_timeout", self.attempt_timeout, most=math.inf)
        checked_seconds("backoff", self.backoff)
        checked_seconds("backoff_max", self.backoff_max)

    @classmethod
    def none(cls) -> Retry:
        """Return a policy of one attempt, which may take all of the call's timeout."""
        return cls(attempts=1, attempt_timeout=math.inf)

    def wait_before(self, retry: int, chance: float) -> float:
        """Return the seconds to wait before the `retry`-th retry (1 is the first), by full jitter.

        `chance` is in [0, 1).
        """
        bound: float = min(self.backoff_max, self.backoff * 2 ** min(retry - 1, 60))
        return bound * chance


class RetryBudget:
    """The retries that the calls of one host may still make, or of an endpoint on that `host`."""

    __slots__ = ("host", "left", "reserve")

    def __init__(self, host: RetryBudget | None = None) -> None:
        self.host = host
        self.left = self.reserve = RESERVE if host is None else ENDPOINT_RESERVE

    def earn(self) -> None:
        """Add the share of a retry that a successful call earns."""
        self.left = min(self.reserve, self.left + EARNED)
        if self.host is not None:
            self.host.earn()

    def spend(self) -> bool:
        """Take one retry out of the budget and the host's; return False if it is not there."""
        if self.left < 1 or (self.host is not None and not self.host.spend()):
            return False
        self.left -= 1
        return True


def may_retry(endpoint: Endpoint[Any], error: BiliError) -> bool:
    """Return True if sending again can help, and can't do the same thing twice."""
    if isinstance(error, TransportError):
        return not error.certificate and (endpoint.method == "GET" or not error.sent)
    if endpoint.method != "GET":
        return False
    if isinstance(error, ProtocolError):
        return error.status is not None and 500 <= error.status < 600
    if isinstance(error, ApiError):
        return meaning_of(error.code).retry
    return isinstance(error, RateLimited) and error.scope != "local"
