"""The knowledge of each account that the program has, and its way into the store and back.

What is known reaches the store after the program was told of it: who dies in between is told again
after the restart, who leaves in order is not.

A store is somebody else's code. Whatever it does, polling goes on: every call is bounded, errors
are logged once a minute, and while it does not answer no change is told.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterable
from functools import cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import attrs
import orjson

from .._seam import Seam
from ..errors import BiliError
from ..records import CoinLog
from ..snapshot import AccountSnapshot, Change
from .stores import SnapshotStore, sections_of

STORE_SECONDS = 5.0
"""Seconds that a store may take for one call."""
STORE_REST = 60.0
"""Seconds that a store which took longer is left alone."""
LEAVING = 0.5
"""Seconds that the store may take when the Poller is left, and again to end what is cancelled."""
COMPLAIN_EVERY = 60.0
"""Seconds from one complaint about the store to the next."""
_log = logging.getLogger("bili_account_async")


class Known:
    """The last known values of one account."""

    __slots__ = ("digests", "unsaved")

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}  # of the sections as the store has them
        self.unsaved: AccountSnapshot | None = None  # what the program was told and the store lacks


@attrs.frozen
class News:
    """The differences from what the store has."""

    changes: tuple[Change, ...]
    merged: AccountSnapshot
    """The last known value of each section, once the program was told."""
    digests: dict[str, bytes]


class Unreadable(Exception):
    """The store can't say what is known."""


class Memory:
    """The Poller's side of its store."""

    def __init__(self, store: SnapshotStore, seam: Seam) -> None:
        self._store = store
        self._seam = seam
        self._calls: set[asyncio.Task[Any]] = set()  # calls of the store that have not ended
        self._rests_until = -math.inf
        self._complained_at = -math.inf
        self._silent: set[str] = set()  # methods that did not answer, after that was said
        self._leaving = False

    async def compare(self, account: str, known: Known, snapshot: AccountSnapshot) -> News | None:
        """Return what is new in the snapshot, None if nothing is or nobody can say."""
        found = sections_of(snapshot)
        digests = {section: _digest(value) for section, value in found.items()}
        if known.unsaved is None and digests.items() <= known.digests.items():
            return None
        try:
            older = known.unsaved or await self._load(account)
        except Unreadable:
            return None
        last = sections_of(older) if older else {}
        return News(
            snapshot.changes_since(older) if older else (),
            AccountSnapshot(taken_at=snapshot.taken_at, **(last | found)),
            digests,
        )

    async def keep(self, account: str, known: Known, digests: dict[str, bytes]) -> None:
        """Save what the program was told."""
        await self._save(account, known)
        if known.unsaved is None:
            known.digests |= digests

    async def close(self, accounts: Iterable[tuple[str, Known]]) -> None:
        """Give the store `LEAVING` seconds to take what it lacks, and go."""
        self._leaving = True
        rest = [(account, known) for account, known in accounts if known.unsaved is not None]
        self._start(self._save_all(rest))
        await asyncio.wait(self._calls, timeout=LEAVING)
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=LEAVING)
        if self._calls:
            _log.error("%s does not let go: a call of it is left behind", self._name)

    @property
    def _name(self) -> str:
        return type(self._store).__name__

    async def _save_all(self, rest: list[tuple[str, Known]]) -> None:
        for account, known in rest:
            await self._save(account, known)

    async def _load(self, account: str) -> AccountSnapshot | None:
        try:
            older: AccountSnapshot | None = await self._call(self._store.load, account)
        except Unreadable:
            raise
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self._excuse(account, "what is known can't be read, so no change is told", error)
            raise Unreadable from None
        return older

    async def _save(self, account: str, known: Known) -> None:
        told = known.unsaved
        if told is None:
            return
        try:
            await self._call(self._store.save, account, told)
        except Unreadable:
            return
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self._excuse(account, "what is known can't be kept, polling goes on", error)
        else:
            if known.unsaved is told:
                known.unsaved = None

    async def _call(self, method: Any, *args: Any) -> Any:
        """Call the store; raise `Unreadable` if it does not answer in time, or has not before."""
        stuck = any(call.cancelling() for call in self._calls)
        if not self._leaving and (stuck or self._seam.now() < self._rests_until):
            raise Unreadable
        call = self._start(method(*args))
        try:
            await asyncio.wait((call,), timeout=STORE_SECONDS)
        finally:
            late = not call.done()
            call.cancel()
        if late:
            self._rest(method.__name__)
            raise Unreadable
        self._silent.discard(method.__name__)
        if call.cancelled():
            raise TimeoutError("the call was cancelled, and not by the Poller")
        return call.result()

    def _rest(self, method: str) -> None:
        self._rests_until = self._seam.now() + STORE_REST
        if method not in self._silent:
            self._silent.add(method)
            _log.error(
                "%s.%s has not ended within %.0f s: polling goes on, and tells no change",
                *(self._name, method, STORE_SECONDS),
            )

    def _start(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._seam.loop.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # whoever waits for it has it; nobody does if it came too late

    def _excuse(self, account: str, what: str, error: Exception) -> None:
        """Log the store's error, but not for each poll of a day with a full disk."""
        if isinstance(error, RuntimeError) and not self._leaving:
            raise error
        if self._seam.now() - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = self._seam.now()
            unknown = not isinstance(error, BiliError)
            _log.error("%s: %s: %s", account, what, error, exc_info=error if unknown else None)


def _digest(value: object) -> bytes:
    """Return 16 bytes that differ for values that differ; Python's own hash does not."""
    if isinstance(value, CoinLog):  # most of a snapshot, so it has a quicker way
        entries = [(entry.time, str(entry.delta), entry.reason) for entry in value.entries]
        value = value.count, entries
    return blake2b(orjson.dumps(value, default=_fields), digest_size=16).digest()


def _fields(record: attrs.AttrsInstance) -> object:
    """Return the fields of a record, for `orjson`, which knows none."""
    return _getter(type(record))(record)


@cache
def _getter(kind: type[attrs.AttrsInstance]) -> attrgetter[object]:
    return attrgetter(*(field.name for field in attrs.fields(kind)))
