"""The stores of last known values: the protocol, and the default in memory.

The SQLite file is `store.py`'s; when to load and to save is `memory.py`'s business.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import orjson

from ..snapshot import SECTIONS, AccountSnapshot
from ..structuring import structure, unstructure


class SnapshotStore(Protocol):
    """The keeper of the last known snapshot of each account.

    Each method may take `STORE_SECONDS`. A Poller cancels what takes longer, says so once, and
    goes on without changes until the store answers again.
    """

    async def load(self, account: str) -> AccountSnapshot | None:
        """Return the last known value of each section, None for an account never saved."""

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        """Keep it, whole or not at all.

        Raises if it can't: the Poller logs that, goes on and tries again, except after a
        `RuntimeError`, a programmer's mistake, which ends it. It is cancelled if leaving the Poller
        would take too long.
        """

    async def forget(self, account: str) -> None:
        """Drop what is kept of the account."""


class MemoryStore:
    """The default: 2 KB an account, for records themselves would take more than twice as much.

    `await store.load(name)` serves a page of the account without a call.
    """

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    async def load(self, account: str) -> AccountSnapshot | None:
        """Return the last known value of each section, None for an account never saved."""
        kept = self._kept.get(account)
        if kept is None:
            return None
        values = orjson.loads(kept)
        taken_at = datetime.fromisoformat(values.pop("taken_at"))
        return AccountSnapshot(
            taken_at=taken_at,
            **{name: structure(SECTIONS[name].returns, value) for name, value in values.items()},
        )

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        """Keep the sections that are there."""
        values = {name: unstructure(value) for name, value in sections_of(snapshot).items()}
        packed = orjson.dumps({"taken_at": snapshot.taken_at, **values})
        # A copy: orjson's own takes up to four times its length.
        self._kept[account] = bytes(memoryview(packed))

    async def forget(self, account: str) -> None:
        """Drop what is kept of the account."""
        self._kept.pop(account, None)


def sections_of(snapshot: AccountSnapshot) -> dict[str, Any]:
    """Return the sections that are there, by name."""
    return {name: value for name in SECTIONS if (value := getattr(snapshot, name)) is not None}
