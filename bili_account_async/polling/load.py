"""The load on each host: what all accounts need of it, and whether it has asked for a pause."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ..endpoints import HostName
from ..snapshot import SECTIONS

PAUSE_MIN = 1.0
"""Seconds that polls leave a host alone which wants a pause and does not say for how long."""
PROBE_SECONDS = 15.0
"""Seconds that all others wait for the answer to the one call that tries a host again."""
WARN_EVERY = 3600.0
"""Seconds from one warning about a host to the next."""
_HAIR = 1e-6
_log = logging.getLogger("bili_account_async")


class Demand:
    """The calls a second that all accounts need of each host, against its budget."""

    def __init__(self, keys: Mapping[HostName, str], rate: float | None) -> None:
        self._keys = keys  # two hosts of one key are one, as all three are in the sandbox
        self._rate = rate  # calls a second that the limits give a host; None for no limit
        self._needs: defaultdict[str, float] = defaultdict(float)
        self._recounted = self._warned = False

    def count(self, intervals: Mapping[str, float], sign: int) -> None:
        """Add (1) or take away (-1) what one account needs."""
        for section, every in intervals.items():
            self._needs[self._keys[SECTIONS[section].host]] += sign / every
        self._recounted = True

    def warn_once(self, accounts: int, paces: Iterable[float]) -> None:
        """Say if the accounts need more than the limits give; `paces` are their intervals.

        Not to be called while others are still to be added.
        """
        if not self._recounted or self._warned or self._rate is None:
            return
        self._recounted = False
        most, place = max((need, place) for place, need in self._needs.items())
        if most <= self._rate * (1 + _HAIR):
            return
        self._warned = True
        longest = max(paces)
        factor = math.ceil(most / self._rate * 100) / 100
        _log.warning(
            "%d accounts need %.4g calls a second of %s, the limits give %.4g: all "
            "are polled in turn, but later; "
            "intervals %.2f times as long would fit, as %.4g s instead of %.4g s",
            *(accounts, most, place, self._rate, factor, longest * factor, longest),
        )


class _Pause:
    """One host that is in trouble."""

    __slots__ = ("asked_at", "until")

    def __init__(self) -> None:
        self.asked_at = -math.inf  # when the host last asked for a pause
        self.until = -math.inf  # when somebody may ask the host again


class Pauses:
    """The hosts that have asked for a pause and have not answered well since.

    Such a host is asked by nobody until its pause is over, and then by one call alone, until one
    is answered.
    """

    def __init__(self, keys: Mapping[HostName, str]) -> None:
        self._keys = keys
        self._pauses: dict[str, _Pause] = {}
        self._warned_at: dict[str, float] = {}
        self._since = 0.0  # when the first of the pauses began
        self._past = 0.0  # seconds of the episodes that are over

    def __bool__(self) -> bool:
        return bool(self._pauses)

    def known(self, section: str) -> bool:
        """Return True if the section's host is one of these."""
        return self._key(section) in self._pauses

    def hold(self, section: str, now: float) -> float | None:
        """Return until when the section has to wait; None lets it go, as the one that tries."""
        pause = self._pauses.get(self._key(section))
        if pause is None:
            return None
        if pause.until > now:
            return pause.until
        pause.until = now + PROBE_SECONDS
        return None

    def refused(self, section: str, seconds: float, now: float) -> None:
        """Note that the section's host wants a pause of so many seconds from now."""
        key = self._key(section)
        if not self._pauses:
            self._since = now
        pause = self._pauses.get(key)
        if pause is None:
            pause = self._pauses[key] = _Pause()
            self._warn(key, seconds, now)
        pause.asked_at = now
        pause.until = max(pause.until, now + max(seconds, PAUSE_MIN))

    def answered(self, sections: Iterable[str], started: float, now: float) -> None:
        """Note that these came, asked for at `started`: hosts that were asked since are well."""
        if not self._pauses:
            return
        for key in {self._key(section) for section in sections} & self._pauses.keys():
            if started >= self._pauses[key].asked_at:
                del self._pauses[key]
                _log.info("%s answers again", key)
        if not self._pauses:
            self._past += now - self._since

    def same_host(self, section: str, sections: Iterable[str]) -> list[str]:
        """Return those of `sections` that are asked of the same host."""
        return [other for other in sections if self._key(other) == self._key(section)]

    def seconds(self, now: float) -> float:
        """Return how long there were such hosts, in all."""
        return self._past + (now - self._since if self._pauses else 0.0)

    def _key(self, section: str) -> str:
        return self._keys[SECTIONS[section].host]

    def _warn(self, key: str, seconds: float, now: float) -> None:
        """Say it once an episode, and of a host that flaps once an hour."""
        if now - self._warned_at.get(key, -math.inf) < WARN_EVERY:
            return
        self._warned_at[key] = now
        _log.warning(
            "a host asks for a pause of %.0f s: what is to be asked of %s waits", seconds, key
        )
