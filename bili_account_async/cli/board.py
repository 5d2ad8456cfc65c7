"""The text of `watch`: a line for each piece of news of an account, and the table. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import IntEnum
from shlex import quote

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from .. import polling
from ..polling import AccountState, Poller, PollEvent
from ..snapshot import AccountSnapshot, Change
from .failures import describe
from .output import plain
from .page import CHINA, coins, in_words

_STARTING, _OK, _PARTIAL, _FAILING = "starting", "ok", "partial", "failing"
_EXPIRED, _PARKED = AccountState.EXPIRED.value, AccountState.PARKED.value
_STYLES = {_OK: "green", _PARTIAL: "yellow", _FAILING: "yellow", _EXPIRED: "red", _PARKED: "red"}
_ADVICE = {
    _EXPIRED: (
        "log in again in a browser, run `bili-account accounts add {} --replace`, "
        "and start this again"
    ),
    _PARKED: "open the account in a browser, do what Bilibili asks there, and start this again",
}
_OTHER_LINES = 10
"""Lines of the table that are no account, at most."""
_LONGEST = 80


@attrs.define
class _Row:
    state: str = _STARTING
    missing: frozenset[str] = frozenset()
    news: str = ""
    at: float = 0
    """The time of the news, in seconds since 1970."""


class Board:
    """All accounts of a poller, as its events tell of them."""

    def __init__(self, poller: Poller, names: Iterable[str]) -> None:
        self._poller = poller
        self._rows = {name: _Row() for name in names}

    def take(self, event: PollEvent) -> list[Text]:
        """Note an event; return the lines that tell it, none if it is no news."""
        row, lines = self._rows[event.account], []
        match event:
            case polling.SnapshotTaken(snapshot=snapshot):
                lines = _seen(row, snapshot)
            case polling.Changed(changes=changes):
                lines = [_changed(change) for change in changes]
            case polling.PollFailed(error=error, next_at=next_at):
                row.state = _FAILING
                lines = [f"failed, next try at {next_at.astimezone():%H:%M:%S}: {describe(error)}"]
            case polling.AccountExpired(error=error) | polling.AccountParked(error=error):
                row.state = _EXPIRED if isinstance(event, polling.AccountExpired) else _PARKED
                advice = _ADVICE[row.state].format(quote(event.account))
                lines = [f"{row.state}: {describe(error)}; {advice}"]
        if lines:
            row.news, row.at = plain(lines[-1]), datetime.now(UTC).timestamp()
        style = "" if isinstance(event, polling.Changed) else _STYLES[row.state]
        name = (plain(event.account), "bold")
        return [Text.assemble(name, " ", (plain(line), style)) for line in lines]

    def table(self, height: int) -> RenderableType:
        """Return the table of all accounts for a terminal of `height` lines.

        Where there is no room for all, it has those in trouble, then those with the latest news.
        """
        titles = ("Account", "State", "Next poll", "Lag")
        columns = [Column(title, no_wrap=True, max_width=16) for title in titles]
        columns.append(Column("Last change", no_wrap=True, ratio=1))
        table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, expand=True)
        states = {name: self._state(name) for name in self._rows}
        names, room = list(self._rows), max(1, height - _OTHER_LINES)
        if len(names) > room:
            names.sort(key=lambda name: (states[name] == _OK, -self._rows[name].at))
        now = datetime.now(UTC)
        for name in names[:room]:
            row, state, due = self._rows[name], states[name], self._poller.status(name).next_at
            wait = (due - now).total_seconds() if due else 0
            news = Text()
            if row.news:
                age = _span(now.timestamp() - row.at)
                news = Text.assemble((f"{age} ago: ", "dim"), row.news)
            table.add_row(
                plain(name),
                Text(state, _STYLES.get(state, "")),
                f"in {_span(wait)}" if wait > 0 else "now" if due else "",
                _span(max(0, -wait)) if due else "",
                news,
            )
        count, stats = Counter(states.values()), self._poller.stats()
        counts = ", ".join(f"{n} {state}" for state, n in sorted(count.items()))
        more = f"; {len(names) - room} of them not shown" if len(names) > room else ""
        lag = f"lag p50 {stats.lag_p50:.1f} s, p99 {stats.lag_p99:.1f} s"
        below = [
            f"{len(names)} accounts: {counts}{more}",
            f"{stats.polls} polls, {stats.failures} failed; {lag}",
        ]
        for state, advice in _ADVICE.items():
            if count[state]:
                below.append(f"{state}: {advice.format('NAME')}")
        return Group(table, *(Text(line, "dim") for line in below))

    def _state(self, name: str) -> str:
        state = self._poller.status(name).state
        return self._rows[name].state if state is AccountState.WAITING else state.value


def _seen(row: _Row, snapshot: AccountSnapshot) -> list[str]:
    info, failed = snapshot.account_info, snapshot.failures.keys()
    lines = [
        f"{section} is missing: {describe(snapshot.failures[section])}"
        for section in sorted(failed - row.missing)
    ]
    missing = row.missing - snapshot.sections | failed  # it says nothing of other sections
    if row.state == _STARTING:
        lines.append(f"is {info.uname}, mid {info.mid}" if info else "answers")
    elif row.state != _OK and not missing:
        lines.append("answers again")
    row.state, row.missing = _PARTIAL if missing else _OK, missing
    return lines


def _changed(change: Change) -> str:
    if change.path == "coin_log.entries":
        entries = (f"{coins(entry.delta).plain or 0} {entry.reason}" for entry in change.new)
        return "coins " + _cut("; ".join(entries))
    return f"{change.path} {_value(change.old)} → {_value(change.new)}"


def _value(value: object) -> str:
    match value:
        case None | "":
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case IntEnum():
            return in_words(value)
        case datetime():
            return f"{value.astimezone(CHINA) if value.year < 9999 else value:%Y-%m-%d %H:%M}"
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
