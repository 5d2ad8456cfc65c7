"""The events of a Poller, and its state when asked. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

import attrs

from ..errors import BiliError, NotLoggedIn, RiskControlled
from ..snapshot import AccountSnapshot, Change
from .schedule import Every


@attrs.frozen
class SnapshotTaken:
    """A poll that brought a snapshot, perhaps with failures of some sections.

    The snapshot's `sections` are those that were due; it says nothing of the others.
    """

    account: str
    snapshot: AccountSnapshot


@attrs.frozen
class Changed:
    """A difference from the last known value of a section; comes after its `SnapshotTaken`."""

    account: str
    changes: tuple[Change, ...]
    snapshot: AccountSnapshot


@attrs.frozen
class PollFailed:
    """A poll that brought no section; the account is polled again at `next_at` (aware, UTC)."""

    account: str
    error: BiliError
    next_at: datetime


@attrs.frozen
class AccountExpired:
    """A dead login: parked until `replace_credential` or `resume`."""

    account: str
    error: NotLoggedIn


@attrs.frozen
class AccountParked:
    """Risk control: parked until `resume`, after the owner has acted in a browser."""

    account: str
    error: RiskControlled


PollEvent = SnapshotTaken | Changed | PollFailed | AccountExpired | AccountParked


class AccountState(Enum):
    """The doings of an account of a Poller."""

    WAITING = "waiting"
    POLLING = "polling"
    PAUSED = "paused"
    EXPIRED = "expired"
    PARKED = "parked"


@attrs.frozen(kw_only=True)
class PollerStats:
    """A Poller as it stands.

    Lags are seconds behind schedule: of the last starts, and of the accounts due now.
    """

    accounts: Mapping[AccountState, int]
    polls: int
    """Polls finished, failed ones included; not those that a host's pause put off."""
    failures: int
    """Polls that brought no section, a dead login and risk control included."""
    lag_p50: float
    lag_p99: float
    throttled: float
    """Seconds in which a host that had asked for a pause had not answered well again.

    A pause that a call sat out within its timeout does not count.
    """


@attrs.frozen(kw_only=True)
class AccountStatus:
    """One account of a Poller as it stands."""

    state: AccountState
    every: Every
    next_at: datetime | None
    """Its due time (aware, UTC), in the past if it is late.

    None while it is polled, paused or parked.
    """
    polls: int
