"""The Poller: many accounts, for ever, and only what changed.

One room for each question: `events` what it tells, `stores` where the last values live,
`schedule` when each section is due (pure), `load` what hosts can bear, `memory` what the program
knows already, `outbox` how events reach it, `account` what one account is doing, `poll` the way of
one poll, `line` who is next, `poller` the whole.
"""

from .events import (
    AccountExpired,
    AccountParked,
    AccountState,
    AccountStatus,
    Changed,
    PollerStats,
    PollEvent,
    PollFailed,
    SnapshotTaken,
)
from .poller import Poller
from .schedule import THRIFTY
from .stores import MemoryStore, SnapshotStore

__all__ = [
    "THRIFTY",
    "AccountExpired",
    "AccountParked",
    "AccountState",
    "AccountStatus",
    "Changed",
    "MemoryStore",
    "PollEvent",
    "PollFailed",
    "Poller",
    "PollerStats",
    "SnapshotStore",
    "SnapshotTaken",
]
