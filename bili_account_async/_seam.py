"""The one seam for time and chance, and the check of seconds that a program hands over.

Private: tests run a virtual event loop, or give the manager another `Seam`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable

LONGEST = 1e9
"""Seconds, some thirty years: the longest time that means a number and not infinity."""


class Seam:
    """The sources of time and chance.

    Monotonic time, timers and sleep are the event loop's; wall-clock time and chance come from the
    system.
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
        """Return the seconds on the loop's clock."""
        return self.loop.time()


def checked_seconds(name: str, value: object, *, most: float = LONGEST) -> float:
    """Return `value` as a float.

    Raises `ValueError`, naming the option, for anything but a number above 0 and up to `most`.
    """
    seconds = _number(value)
    if not 0 < seconds <= most:
        raise ValueError(f"{name}: expected seconds > 0 and at most {most:.3g}, got {value!r}")
    return seconds


def checked_wait(name: str, value: object) -> float:
    """Return `value` as a float; infinity is no bound.

    Raises `ValueError`, naming the option, for anything but a number of 0 or more.
    """
    seconds = _number(value)
    if not seconds >= 0:
        raise ValueError(f"{name}: expected seconds >= 0, got {value!r}")
    return seconds


def _number(value: object) -> float:
    """Return `value` as a float, NaN for what is no number or an int that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
