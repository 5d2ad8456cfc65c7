"""The due times of each section of an account. Pure: told the time, it waits for nothing.

Every section has a grid of due times, `first + k · every`, that never drifts. Accounts are spread
over the interval by the golden ratio, which is even for any number of them. The longer intervals of
an account start at a point of its shortest grid, so that one poll asks for all that is due
together; which point it is differs from account to account.

The first poll comes as soon as the budget allows, the second at the first grid point at least half
an interval later: half an interval to one and a half, one on average, so that no second wave
follows the first. A poll that overruns its next due time skips it.

A section that fails backs off by itself. When nothing of a poll came, it is the account that fails,
and all that was asked waits together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType

from .._seam import Seam
from ..snapshot import ALL_SECTIONS

Every = timedelta | Mapping[str, timedelta]
"""One interval for all sections, or one for each; sections that are not in it are not asked."""

THRIFTY: Mapping[str, timedelta] = MappingProxyType(
    {
        "daily_rewards": timedelta(minutes=10),
        "coin_exp": timedelta(minutes=10),
        "coin_log": timedelta(minutes=30),
        "account_info": timedelta(hours=1),
        "vip_info": timedelta(hours=1),
        "security_info": timedelta(hours=6),
        "realname_status": timedelta(days=1),
        "realname_application": timedelta(days=1),
    }
)
"""Each section as often as it changes: 3.5 times the accounts of "all sections each 10 minutes"."""
JITTER = 0.02
"""The share of the shortest interval by which a poll may come late on purpose."""
BACKOFF_MAX = timedelta(hours=1)
"""The longest wait of what keeps failing, unless its interval is longer."""
_GOLDEN, _SILVER = (math.sqrt(5) - 1) / 2, math.sqrt(2) - 1
"""Multiples of either are spread evenly over 0 to 1, and in pairs over the square."""
_HAIR = 1e-6
"""The share of an interval that floating point may be off."""
_LONGEST = timedelta(days=366)
_JUMP = 1.0
"""Seconds by which two clocks may differ before one of them has jumped."""


class Clock:
    """Seconds that go on while the machine sleeps, and never go back.

    The loop's clock stands still while the machine sleeps, and a wall clock can be set back by an
    hour: this one takes the greater step of the two.
    """

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._gap = seam.wall() - seam.now()  # between the two clocks, when last compared
        self._slept = 0.0  # seconds that the loop's clock has missed

    def now(self) -> float:
        """Return the seconds since some time in the past."""
        now = self._seam.now()
        step = self._seam.wall() - now - self._gap
        if abs(step) > _JUMP:
            self._gap += step
            self._slept += max(0.0, step)
        return now + self._slept

    def on_loop(self, due: float) -> float:
        """Return the time on the loop's clock of a time on this one."""
        return due - self._slept

    def wall(self, due: float) -> float:
        """Return the Unix time of a time on this clock."""
        return self._seam.wall() + due - self.now()


class Plan:
    """The interval of each section in seconds: what a program says, checked."""

    __slots__ = ("every", "intervals")

    def __init__(self, every: Every, sections: Iterable[str]) -> None:
        """Raise `ValueError`, naming the option, for what can be no plan."""
        wanted = frozenset(sections)
        if not wanted or wanted - ALL_SECTIONS:
            known, got = sorted(ALL_SECTIONS), sorted(map(str, wanted))
            raise ValueError(f"sections: expected some of {known}, got {got}")
        if isinstance(every, Mapping):
            if unknown := sorted(map(str, every.keys() - ALL_SECTIONS)):
                raise ValueError(f"every: there is no section {unknown[0]!r}")
            self.every: Every = MappingProxyType(dict(every))
            wanted &= every.keys()
            if not wanted:
                raise ValueError("every: has none of the sections that are to be asked for")
            self.intervals = {section: _interval(every[section]) for section in sorted(wanted)}
        else:
            self.every = every
            self.intervals = dict.fromkeys(sorted(wanted), _interval(every))


def _interval(every: object) -> float:
    if not isinstance(every, timedelta) or not timedelta(0) < every <= _LONGEST:
        raise ValueError(f"every: expected a timedelta > 0, up to a year, got {every!r}")
    return every.total_seconds()


class Timetable:
    """The due times of one account."""

    __slots__ = ("_due", "_failures", "_first", "_fresh", "_share", "intervals", "shortest")

    def __init__(
        self, intervals: Mapping[str, float], origin: float, number: int, now: float
    ) -> None:
        """Make all due now.

        `origin`, one for all accounts, is where the grids begin; `number` tells them apart.
        """
        self.intervals = intervals
        self.shortest = min(intervals.values())  # the pace of the account
        self._first = origin + self.shortest * (number * _GOLDEN % 1)  # point of the shortest grid
        self._share = number * _SILVER % 1  # of a longer interval, by which that one begins later
        self._fresh = True  # nothing has come yet
        self._due = dict.fromkeys(intervals, now)
        self._failures: dict[str, int] | None = None  # in a row, of those that fail

    def adapt(self, intervals: Mapping[str, float], now: float) -> None:
        """Take other sections: what stays keeps its due time, what is new is due now."""
        self.intervals = intervals
        self._due = {section: self._due.get(section, now) for section in intervals}
        self._failures = None

    def due_at(self) -> float:
        """Return when the next section is due."""
        return min(self._due.values())

    def due(self, now: float) -> list[str]:
        """Return the sections that are due."""
        return [
            section
            for section, at in self._due.items()
            if at <= now + _HAIR * self.intervals[section]
        ]

    def all_due(self, now: float) -> None:
        """Make every section due now."""
        self._due = dict.fromkeys(self.intervals, now)

    def put_off(self, sections: Iterable[str], until: float) -> None:
        """Let the sections wait until then, or longer if they do so anyway."""
        for section in sections:
            self._due[section] = max(self._due[section], until)

    def came(self, sections: Iterable[str], started: float, now: float) -> None:
        """Note that a poll that began at `started` brought these."""
        points: dict[float, float] = {}  # by interval, most of which are the same
        for section in sections:
            every = self.intervals[section]
            if every not in points:
                after = max(now, started + every / 2) if self._fresh else now
                points[every] = self._on_grid(every, after)
            self._due[section] = points[every]
            if self._failures:
                self._failures.pop(section, None)
        self._fresh = False

    def failed(
        self, asked: Mapping[str, float], since: float, now: float, *, together: bool
    ) -> float:
        """Let sections back off from `since` on: each by itself, or `together` as the account.

        `asked` has the seconds that the server wants each to wait at least. Return when the last of
        them is due.
        """
        failures = self._failures = self._failures or {}
        for section in asked:
            failures[section] = failures.get(section, 0) + 1
        worst, pause = max(failures[section] for section in asked), max(asked.values())
        for section in asked:
            if together:
                due = max(since + self._backoff(worst, self.shortest), now + pause)
            else:
                own = self._backoff(failures[section], self.intervals[section])
                due = max(since + own, now + asked[section])
            self._due[section] = due
        return max(self._due[section] for section in asked)

    def _backoff(self, in_a_row: int, every: float) -> float:
        longest = max(every, BACKOFF_MAX.total_seconds())
        return min(self.shortest * 2.0 ** min(in_a_row, 60), longest)

    def _on_grid(self, every: float, after: float) -> float:
        first = self._first
        if every > self.shortest:
            first += self.shortest * math.floor(self._share * every / self.shortest)
        return first + every * (math.floor((after - first) / every + _HAIR) + 1)
