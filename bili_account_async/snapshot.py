"""All that an account's GET endpoints tell, fetched at once; and what changed between two such
snapshots.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import attrs

from .endpoints import ENDPOINTS, Session
from .errors import BiliError, CredentialMissing, NotLoggedIn, RiskControlled
from .records import (
    AccountInfo,
    CoinLog,
    DailyRewards,
    RealnameApplication,
    RealnameStatus,
    SecurityInfo,
    VipInfo,
)

_SECTIONS = {
    name.removeprefix("get_"): endpoint
    for name, endpoint in ENDPOINTS.items()
    if endpoint.method == "GET"
}
ALL_SECTIONS: frozenset[str] = frozenset(_SECTIONS)
"""The names of a snapshot's sections."""


def _read_only(failures: Mapping[str, BiliError]) -> Mapping[str, BiliError]:
    return MappingProxyType(dict(failures))


@attrs.frozen(kw_only=True)
class Change:
    """One value that differs: `path` is the attribute's place in the snapshot, as in
    `vip_info.vip_status`.
    """

    path: str
    old: Any
    new: Any


@attrs.frozen(kw_only=True, eq=True, hash=False)
class AccountSnapshot:
    """An account at one time.

    A section is None when it failed, was skipped, or was not asked for.
    """

    taken_at: datetime
    """When the last section had come; aware, UTC."""
    account_info: AccountInfo | None = None
    daily_rewards: DailyRewards | None = None
    coin_exp: int | None = None
    vip_info: VipInfo | None = None
    security_info: SecurityInfo | None = None
    realname_status: RealnameStatus | None = None
    realname_application: RealnameApplication | None = None
    coin_log: CoinLog | None = None
    failures: Mapping[str, BiliError] = attrs.field(factory=dict, converter=_read_only)
    """The sections that failed, and why."""
    skipped: frozenset[str] = frozenset()
    """The sections that the credential can't ask for."""

    @property
    def complete(self) -> bool:
        """Whether every section that was asked for is there."""
        return not self.failures and not self.skipped

    def changes_since(self, older: AccountSnapshot) -> tuple[Change, ...]:
        """What differs from `older`, value by value; a section that is absent in either is no
        change.

        New coin-log entries are one change of `coin_log.entries`; entries that only aged out of the
        week are none.
        """
        changes: list[Change] = []
        for section in _SECTIONS:
            old, new = getattr(older, section), getattr(self, section)
            if old is not None and new is not None and old != new:
                changes += (
                    _coin_log_changes(old, new)
                    if section == "coin_log"
                    else _differences(section, old, new)
                )
        return tuple(changes)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        from ._pydantic import record_schema

        return record_schema(cls, handler)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in attrs.fields(AccountSnapshot)}
        return _revive, (values | {"failures": dict(self.failures)},)


def _revive(values: dict[str, Any]) -> AccountSnapshot:
    return AccountSnapshot(**values)


def _differences(path: str, old: Any, new: Any) -> Iterable[Change]:
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
    for entry in reversed(
        new.entries
    ):  # oldest first, so that of equal ones the later is the fresh one
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
    """Ask all GET endpoints, or those of `sections`, at once: about one round trip.

    A section that fails stands in `failures`, or with `strict` in the `ExceptionGroup` that is
    raised. A dead login (`NotLoggedIn`) or risk control (`RiskControlled`) is raised at once and
    cancels the rest, with `strict` too. Raises
    `ValueError` for an unknown section.
    """
    wanted = frozenset(sections)
    if unknown := wanted - ALL_SECTIONS:
        raise ValueError(
            f"sections: expected names of {sorted(ALL_SECTIONS)}, got {sorted(map(str, unknown))}"
        )
    found: dict[str, Any] = {}
    failures: dict[str, BiliError] = {}
    skipped: set[str] = set()
    fatal: list[Exception] = []

    async def fetch(section: str) -> None:
        try:
            found[section] = await session.call(_SECTIONS[section], timeout=timeout)
        except CredentialMissing:
            skipped.add(section)
        except Exception as error:  # noqa: BLE001 - raised below
            if isinstance(error, BiliError) and not isinstance(
                error, (NotLoggedIn, RiskControlled)
            ):
                failures[section] = error
                return
            fatal.append(error)
            for task in tasks:
                task.cancel()

    tasks: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        for section in _SECTIONS:
            if section in wanted and not fatal:  # an eager task may have failed already
                tasks.append(group.create_task(fetch(section)))  # noqa: PERF401 - `fatal` may change on the way
    if fatal:
        raise fatal[0]
    if strict and failures:
        raise ExceptionGroup("sections of the snapshot failed", list(failures.values()))
    return AccountSnapshot(
        taken_at=datetime.now(UTC), failures=failures, skipped=frozenset(skipped), **found
    )
