"""The shape of a limiter: as a program writes one, and as a call sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from .types import HostState


class Permit(Protocol):
    """One departure, granted."""

    @property
    def waited(self) -> float:
        """Seconds between asking and departure."""

    @property
    def paused(self) -> float:
        """Those of them that pauses asked for by the server took."""


P = TypeVar("P", bound=Permit)


class Limiter(Protocol[P]):
    """A limiter of the program's own, for `SessionManager(limiter=…)`.

    Our queue stands before it. For each host the limiter is asked for one call of each account at a
    time, or else for one of all background sessions, so retries and people still go first. An
    attribute `limits`, if it has one, is a `Limits`: the queue keeps its `concurrency` and
    `max_wait`, and a `Poller` compares its need with the host's rate.

    A manager that is closed does not end the waits in it: what it grants then is released at once.
    """

    async def acquire(self, host: str, account: str, *, patience: float) -> P:
        """Wait until a request may depart.

        Raises `RateLimited` at once when the server asked for a pause that does not end within
        `patience` seconds.
        """

    def release(self, permit: P, error: BaseException | None) -> None:
        """Take the permit back, once: None for success; a `RateLimited` slows its scope."""

    def state(self) -> Mapping[str, HostState]:
        """Return each host as it stands."""


class Gate(Protocol):
    """The limiter as a call sees it: ours, or our queue with one of the program's own behind it."""

    def try_acquire(self, host: str, account: str) -> Permit | None:
        """Return the permit of a call that nothing holds up, None for one that has to `acquire`."""

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
        """Stop the timers; whoever still waits gets a `RuntimeError`, unless the loop has ended."""
