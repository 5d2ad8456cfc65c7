"""The budget that all commands of this machine share, in the platform's state directory.

So cron, `watch` and a second terminal together send no more than one program would.
"""

from __future__ import annotations

from platformdirs import user_state_path

from ..limiting.shared import SharedLimiter
from ..limiting.types import Limits


def machine_limiter() -> SharedLimiter | None:
    """Return the shared limiter; None, for limits of its own, where no directory can be made."""
    path = user_state_path("bili-account", appauthor=False) / "limits.sqlite3"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # nor can another command share anything there
        return None
    return SharedLimiter(Limits(), path)
