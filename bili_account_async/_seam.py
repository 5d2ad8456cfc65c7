"""The one seam for time and chance.

Private: tests run a virtual event loop, or give the manager another `Seam`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable


class Seam:
    """Monotonic time, timers and sleep are the event loop's; wall-clock time and chance come from
    the system.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.wall = wall
        self.random = random

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self.loop.time()
