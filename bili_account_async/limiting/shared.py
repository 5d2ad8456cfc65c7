"""SharedLimiter: what a program says of a budget for several processes. `booking.py` keeps it."""

from __future__ import annotations

import os

from .._seam import Seam
from .protocols import Gate
from .types import Limits


class SharedLimiter:
    """One budget for all processes of a machine that name the same file.

    For `SessionManager(limiter=…)`, of any number of managers. The file is made if there is none,
    with mode 0600; it holds no secret and no mid, and may be deleted at any time. Budgets, pauses
    and slowed rates are shared; `concurrency` and `max_wait` stay each process's own.

    While the file can't be used, each process goes on with `fallback` of the budget, which a
    warning and `limits_state()` tell.
    """

    def __init__(
        self, limits: Limits, where: str | os.PathLike[str], *, fallback: float = 0.25
    ) -> None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits: expected Limits, got {type(limits).__name__}")
        path = os.fspath(where) if isinstance(where, str | os.PathLike) else None
        if not isinstance(path, str) or not path or "://" in path or "\0" in path:
            text = "where: expected the path of a file on this machine; Redis is not served"
            raise ValueError(text)
        number = type(fallback) in (int, float)
        if not number or not 0 < fallback <= 1:
            raise ValueError(f"fallback: expected a number above 0 and up to 1, got {fallback!r}")
        self.limits = limits
        self.path = os.path.abspath(path)
        self.fallback = float(fallback)

    def __repr__(self) -> str:
        return f"<SharedLimiter {self.path!r}>"

    def gate(self, seam: Seam) -> Gate:
        """Return the limiter of one manager on one event loop; that does no I/O yet."""
        from .booking import SharedGate  # sqlite3 is for who uses it

        return SharedGate(self.limits, self.path, self.fallback, seam)
