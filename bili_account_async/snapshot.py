"""An account's sections, fetched at once; and what changed between two such snapshots.

A section is an endpoint that a field of `AccountSnapshot` names: its GET needs no parameter, and
its value is kept, compared and polled. Nothing else lists the sections.
"""

# ruff: noqa: RUF009 - `_section` makes a field, as `attrs.field` does

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

import attrs

from .endpoints import ENDPOINTS, Endpoint, Session
from .errors import BiliError, CredentialMissing, NotLoggedIn, RiskControlled, TransportError
from .records import (
    AccountInfo,
    CoinLog,
    CoinLogEntry,
    DailyRewards,
    IsoTime,
    RealnameApplication,
    RealnameStatus,
    SecurityInfo,
    VipInfo,
)


def _read_only(failures: Mapping[str, BiliError]) -> Mapping[str, BiliError]:
    return MappingProxyType(dict(failures))


def _comparable(failures: Mapping[str, BiliError]) -> dict[str, tuple[type, str]]:
    """Return the classes and texts of failures: those that agree in both count as equal."""
    return {section: (type(error), str(error)) for section, error in failures.items()}


def _section(endpoint: str) -> Any:
    """Return a field that holds what the endpoint of this name returns."""
    return attrs.field(default=None, metadata={"endpoint": ENDPOINTS[endpoint]})


@attrs.frozen(kw_only=True)
class Change:
    """One value that differs; as text it reads `vip_info.vip_status: NORMAL → FROZEN`."""

    path: str
    """The attribute's place in the snapshot, as in `vip_info.vip_status`."""
    old: Any
    """The value before; `()` for `coin_log.entries`."""
    new: Any
    """The value now; for `coin_log.entries` the entries that are new, the latest first."""

    def __str__(self) -> str:
        if isinstance(self.new, tuple):
            return f"{self.path}: {'; '.join(map(_in_words, self.new))}"
        return f"{self.path}: {_in_words(self.old)} → {_in_words(self.new)}"


@attrs.frozen(kw_only=True, eq=True, hash=False)
class AccountSnapshot:
    """An account at one time.

    A section is None when it failed, was skipped, or was not asked for. Its field names the
    endpoint that it comes from: an endpoint that no field names is no section.
    """

    taken_at: IsoTime
    """The time at which the last section had come; aware, UTC."""
    account_info: AccountInfo | None = _section("get_account_info")
    daily_rewards: DailyRewards | None = _section("get_daily_rewards")
    coin_exp: int | None = _section("get_coin_exp")
    vip_info: VipInfo | None = _section("get_vip_info")
    security_info: SecurityInfo | None = _section("get_security_info")
    realname_status: RealnameStatus | None = _section("get_realname_status")
    realname_application: RealnameApplication | None = _section("get_realname_application")
    coin_log: CoinLog | None = _section("get_coin_log")
    failures: Mapping[str, BiliError] = attrs.field(
        factory=dict, converter=_read_only, eq=_comparable
    )
    """The sections that failed, and why. Errors of the same class and text count as equal."""
    skipped: frozenset[str] = frozenset()
    """The sections that the credential can't ask for."""
    sections: frozenset[str] = attrs.field(
        factory=lambda: ALL_SECTIONS, repr=lambda names: str(sorted(names))
    )
    """The sections that were asked for."""

    @property
    def complete(self) -> bool:
        """True if every one of `sections` is there."""
        return all(getattr(self, section, None) is not None for section in self.sections)

    def changes_since(self, older: AccountSnapshot) -> tuple[Change, ...]:
        """Return what differs from `older`, value by value.

        A section that is absent in either is no change: it failed, was skipped or was not asked
        for, which says nothing about the account. New coin-log entries are one change of
        `coin_log.entries`; entries that only aged out of the week are none.
        """
        changes: list[Change] = []
        for section in SECTIONS:
            old, new = getattr(older, section), getattr(self, section)
            if old is None or new is None or old == new:
                continue
            if isinstance(new, CoinLog):
                changes += _coin_log_changes(old, new)
            else:
                changes += _differences(section, old, new)
        return tuple(changes)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        from ._pydantic import record_schema

        return record_schema(cls, handler)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in attrs.fields(AccountSnapshot)}
        return _revive, (values | {"failures": dict(self.failures)},)


SECTIONS: Mapping[str, Endpoint[Any]] = MappingProxyType(
    {
        field.name: field.metadata["endpoint"]
        for field in attrs.fields(AccountSnapshot)
        if "endpoint" in field.metadata
    }
)
"""The endpoint of each section."""
ALL_SECTIONS: frozenset[str] = frozenset(SECTIONS)
"""The names of a snapshot's sections."""


def _revive(values: dict[str, Any]) -> AccountSnapshot:
    return AccountSnapshot(**values)


def _in_words(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, CoinLogEntry):
        return f"{value.delta:+f} {value.reason!r}"
    # A text stands in quotes: it is the server's, and may hold what steers a terminal.
    return repr(value) if isinstance(value, str) else str(value)


def _differences(path: str, old: Any, new: Any) -> Iterable[Change]:
    """Yield the changes below `path`, as deep as both values are records of one class."""
    if not (attrs.has(type(old)) and type(old) is type(new)):
        yield Change(path=path, old=old, new=new)
        return
    for field in attrs.fields(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield from _differences(f"{path}.{field.name}", before, after)


def _coin_log_changes(old: CoinLog, new: CoinLog) -> Iterable[Change]:
    # Entries have no id, and two equal ones in one second are both real: compare as multisets.
    known = Counter(old.entries)
    fresh = []
    # Oldest first, so that of equal ones the later is the fresh one.
    for entry in reversed(new.entries):
        if known[entry]:
            known[entry] -= 1
        else:
            fresh.append(entry)
    if fresh:
        yield Change(path="coin_log.entries", old=(), new=tuple(reversed(fresh)))


async def fetch_snapshot(
    session: Session,
    *,
    sections: Iterable[str] = ALL_SECTIONS,
    strict: bool = False,
    timeout: float | None = None,
) -> AccountSnapshot:
    """Ask for all sections, or for some, at once: about one round trip.

    A section that fails stands in `failures`, without its traceback, or with `strict` in the
    `ExceptionGroup` that is raised. A dead login (`NotLoggedIn`) or risk control
    (`RiskControlled`) is raised at once and cancels the rest, with `strict` too. Raises
    `ValueError` for an unknown section.
    """
    if isinstance(sections, str) or not isinstance(sections, Iterable):
        raise TypeError(f"sections: expected several names, got {type(sections).__name__}")
    wanted = frozenset(sections)
    if unknown := wanted - ALL_SECTIONS:
        names, got = sorted(ALL_SECTIONS), sorted(map(str, unknown))
        raise ValueError(f"sections: expected names of {names}, got {got}")
    fetched = await fetch_sections(session, wanted, timeout=timeout)
    if fetched.fatal:
        raise fetched.fatal.pop()  # kept in no variable, for the traceback holds this frame
    if strict and fetched.failures:
        raise ExceptionGroup("sections of the snapshot failed", list(fetched.failures.values()))
    return AccountSnapshot(
        taken_at=datetime.now(UTC),
        failures=fetched.failures,
        skipped=frozenset(fetched.skipped),
        sections=wanted,
        **fetched.found,
    )


class Fetched:
    """The sections while they are fetched, by what came of each."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.failures: dict[str, BiliError] = {}
        self.skipped: set[str] = set()
        self.fatal: list[Exception] = []  # what has cancelled the rest
        self.tasks: list[asyncio.Task[None]] = []  # those under way, one a section

    def cancel(self) -> None:
        """Cancel what is under way: whatever has not been sent is not sent any more."""
        for task in self.tasks:
            task.cancel()


async def fetch_sections(
    session: Session,
    wanted: frozenset[str],
    *,
    timeout: float | None = None,
    fatal: tuple[type[BiliError], ...] = (NotLoggedIn, RiskControlled),
    into: Fetched | None = None,
) -> Fetched:
    """Return each wanted section as found, failed or skipped.

    An error of a `fatal` class, or one that is no `BiliError`, cancels the sections that have not
    come, and stands in the result's `fatal`; raises nothing but the caller's own cancellation. The
    result is `into`, if one is given, by which others can cancel.
    """
    fetched = Fetched() if into is None else into
    tasks = fetched.tasks

    async def fetch(section: str) -> None:
        try:
            fetched.found[section] = await session.call(SECTIONS[section], timeout=timeout)
        except CredentialMissing:
            fetched.skipped.add(section)
        except Exception as error:  # noqa: BLE001 - it stands in the result
            if isinstance(error, BiliError) and not isinstance(error, fatal):
                # Without the traceback: it holds this frame, which holds the failures.
                fetched.failures[section] = error.with_traceback(None)
                return
            fetched.fatal.append(error)
            fetched.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            for section in SECTIONS:
                # An eager task may have failed already.
                if section in wanted and not fetched.fatal:
                    tasks.append(group.create_task(fetch(section)))
    finally:
        tasks.clear()  # a cancelled one keeps its error, whose traceback holds `tasks`
    if not fetched.fatal:
        for section in wanted.difference(fetched.found, fetched.failures, fetched.skipped):
            # The caller's own cancellation does not come here: it leaves the group.
            fetched.failures[section] = TransportError(
                "the call was cancelled, and not by its caller", endpoint=SECTIONS[section].name
            )
    return fetched
