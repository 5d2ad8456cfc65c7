"""Budgets and queues: who may send, and when. Nothing here knows of HTTP.

`types` is what programs see. `budget` (one scope), `calls` (what waits), `patience` and `max_wait`
(who may not wait on) and `queue` (who is next) are pure and are told the time. `local` puts futures
and timers around the queues of one process; `fronted` asks a limiter of the program's own in their
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .types import HostState, Permit


class Gate(Protocol):
    """The limiter as a call sees it: ours, or our queue with one of the program's own behind it."""

    async def acquire(
        self,
        host: str,
        account: str,
        *,
        patience: float,
        max_wait: float,
        retry: bool,
        background: bool,
    ) -> Permit:
        """Wait until a request may depart.

        Raises `RateLimited` as soon as that can't be within `max_wait` seconds in all, or within
        `patience` seconds of pauses. Retries go first in their lane, background calls last of all.
        """

    def release(self, permit: Any, error: BaseException | None) -> None:
        """Take the permit back, once: None for success; a `RateLimited` slows its scope."""

    def state(self) -> Mapping[str, HostState]:
        """Return each host as it stands."""

    def close(self) -> None:
        """Stop the timers; whoever still waits gets a `RuntimeError`."""
