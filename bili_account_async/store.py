"""SqliteStore (extra `store`): snapshots and coin ledgers that outlive the process, in one file.

Here: the tables, their migrations, and what SQLite's errors mean to a person. Not here: when to
save, and what changed (`polling/`, `snapshot.py`). A Credential never comes near.

The ledger. Bilibili shows a week of the coin log, this keeps what it ever showed. Entries have no
id, and two equal ones in one second are both real, so ledger and window are multisets: of each
(time, delta, reason) the ledger keeps the greater count. What both show is counted once, what comes
late into a known second is added, what aged out stays.

Times are integers since 1970 UTC, so that they sort: microseconds for a snapshot, seconds for an
entry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar

import aiosqlite

from .errors import BiliError, SchemaError
from .records import CoinLogEntry
from .snapshot import SECTIONS, AccountSnapshot
from .structuring import structure, unstructure

T = TypeVar("T")

BUSY_SECONDS = 2.0
"""Seconds to wait for another program that writes to the file."""
_BUSY_STEP = 0.02
"""Seconds between two tries to get at a file that another program writes to."""
_APPLICATION = 0x62696C69  # `PRAGMA application_id` of our files
_MIGRATIONS = (
    (
        "CREATE TABLE account (name TEXT PRIMARY KEY, taken_at INTEGER NOT NULL)",
        "CREATE TABLE section (account TEXT, name TEXT, value TEXT NOT NULL,"
        " PRIMARY KEY (account, name))",
        "CREATE TABLE ledger (account TEXT, time INTEGER, delta TEXT, reason TEXT,"
        " n INTEGER NOT NULL, PRIMARY KEY (account, time, delta, reason)) WITHOUT ROWID",
    ),
)
"""The statements that lead from version k (`PRAGMA user_version`, 0 for an empty file) to k + 1.

Only ever added to.
"""
_SAVE_ACCOUNT = (
    "INSERT INTO account VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET taken_at = excluded.taken_at"
)
# Here and in the ledger, a row that stays as it is is not written.
_SAVE_SECTION = (
    "INSERT INTO section VALUES (?, ?, ?) ON CONFLICT (account, name)"
    " DO UPDATE SET value = excluded.value WHERE value <> excluded.value"
)
_MERGE = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?) ON CONFLICT (account, time, delta, reason)"
    " DO UPDATE SET n = excluded.n WHERE n < excluded.n"
)
_LOAD = (
    "SELECT taken_at, s.name, value FROM account a"
    " LEFT JOIN section s ON s.account = a.name WHERE a.name = ?"
)
_LEDGER = (
    "SELECT time, delta, reason, n FROM ledger WHERE account = ? ORDER BY time DESC, delta, reason"
)
_ACCOUNTS = "SELECT name FROM account ORDER BY name"
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "see whether the disk is full or broken",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable, or name another file",
    sqlite3.SQLITE_CANTOPEN: (
        "see that the file's directory exists, and that you may read and write both"
    ),
    sqlite3.SQLITE_BUSY: (
        "another program holds the file: end that one, or give each a file of its own"
    ),
    sqlite3.SQLITE_NOTADB: "name another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "move the file away, or restore a copy of it",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHINA_EPOCH = _EPOCH.astimezone(timezone(timedelta(hours=8)))
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
_log = logging.getLogger("bili_account_async")


class StoreError(BiliError):
    """A file that can't be read or written; the message names it, and says what to do.

    What was saved before is safe.
    """

    path: str

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class SqliteStore:
    """A `SnapshotStore` in one SQLite file, to be used with `async with`.

    The file is made, with mode 0600, if there is none at `path`. A section that a saved snapshot
    lacks keeps its last known value. Several programs may share the file. Every method raises
    `StoreError` if the file can't serve it, and `RuntimeError` while the store is not open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        self._db: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> SqliteStore:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the file, or make it, and bring one of an older version up to date."""
        if self._db is not None:
            raise RuntimeError("this SqliteStore is open already")
        with self._clear_errors():
            # A file that is there is not opened: closing it would drop this process's other locks
            # on it. The -wal and -shm files inherit the mode of a new one.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            # Not in aiosqlite's thread: what fails or is cancelled here leaves neither thread nor
            # connection behind.
            # SQLite's own wait for others would hold its thread, whatever is cancelled meanwhile:
            # `_unless_busy` waits instead.
            raw = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
            db = aiosqlite.Connection(lambda: raw, 64)
            try:
                await db
                await self._prepare(db)
            except BaseException:
                await db.close()
                raw.close()
                raise
        self._db = db

    async def close(self) -> None:
        """Close the file, after a save under way. Does nothing if it is not open."""
        db, self._db = self._db, None
        if db is not None:
            try:
                async with self._lock:
                    pass
            finally:
                await db.close()

    async def load(self, account: str) -> AccountSnapshot | None:
        """Return the last known value of each section, None for an account never saved.

        A stored section that does not fit its record, as another version of the package had it, is
        absent, and logged.
        """
        async with self._locked() as db:
            rows = list(await _unless_busy(lambda: db.execute_fetchall(_LOAD, (account,))))
        if not rows:
            return None
        values: dict[str, Any] = {}
        for _, section, value in rows:
            if section not in SECTIONS:
                continue
            try:
                values[section] = structure(SECTIONS[section].returns, json.loads(value))
            except (SchemaError, ValueError) as error:
                text = "%s: account %r: stored %s is passed over: %s"
                _log.warning(text, self.path, account, section, error)
        return AccountSnapshot(taken_at=_EPOCH + rows[0][0] * _MICROSECOND, **values)

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        """Keep the sections, and merge the coin log into the ledger.

        All of it is saved or, also when the call is cancelled, nothing.
        """
        sections = [
            (account, name, json.dumps(unstructure(value), ensure_ascii=False))
            for name in SECTIONS
            if (value := getattr(snapshot, name)) is not None
        ]
        entries = snapshot.coin_log.entries if snapshot.coin_log else ()
        window = Counter(map(_ledger_key, entries))
        async with self._locked() as db, _transaction(db):
            await db.execute(_SAVE_ACCOUNT, (account, (snapshot.taken_at - _EPOCH) // _MICROSECOND))
            await db.executemany(_SAVE_SECTION, sections)
            await db.executemany(_MERGE, [(account, *entry, n) for entry, n in window.items()])

    async def forget(self, account: str) -> None:
        """Drop what is kept of the account, its ledger too."""
        async with self._locked() as db, _transaction(db):
            await db.execute("DELETE FROM account WHERE name = ?", (account,))
            await db.execute("DELETE FROM section WHERE account = ?", (account,))
            await db.execute("DELETE FROM ledger WHERE account = ?", (account,))

    async def ledger(self, account: str) -> tuple[CoinLogEntry, ...]:
        """Return every coin-log entry ever saved, newest first.

        Inside one second they stand by delta and reason.
        """
        async with self._locked() as db:
            rows = await _unless_busy(lambda: db.execute_fetchall(_LEDGER, (account,)))
        return tuple(
            CoinLogEntry(time=_CHINA_EPOCH + time * _SECOND, delta=Decimal(delta), reason=reason)
            for time, delta, reason, n in rows
            for _ in range(n)
        )

    async def accounts(self) -> tuple[str, ...]:
        """Return the names of the accounts that something is kept of, sorted."""
        async with self._locked() as db:
            rows = await _unless_busy(lambda: db.execute_fetchall(_ACCOUNTS))
        return tuple(name for (name,) in rows)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        # aiosqlite's ValueError: closed meanwhile.
        except (sqlite3.Error, OSError, ValueError) as error:
            system = getattr(error, "strerror", None)
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            advice = _ADVICE.get(sqlite3.SQLITE_CANTOPEN if system else code)
            text = "; ".join(filter(None, (system or str(error), advice)))
            raise StoreError(text, path=self.path) from None

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[aiosqlite.Connection]:
        # There is one connection: nobody reads or ends another's transaction.
        async with self._lock:
            if self._db is None:
                raise RuntimeError(
                    "this SqliteStore is not open: use `async with SqliteStore(path) as store:`"
                )
            with self._clear_errors():
                yield self._db

    async def _prepare(self, db: aiosqlite.Connection) -> None:
        # Before anything is written: the file may be another program's.
        version = await self._version(db)
        await _unless_busy(lambda: db.execute_fetchall("PRAGMA journal_mode = WAL"))
        # A power cut may take the last polls, never the file's soundness; Bilibili shows what was
        # lost for a week.
        await db.execute("PRAGMA synchronous = NORMAL")
        if version < len(_MIGRATIONS):
            async with _transaction(db):
                version = await self._version(db)  # asked again: now nobody else can migrate
                for step in _MIGRATIONS[version:]:
                    for statement in step:
                        await db.execute(statement)
                await db.execute(f"PRAGMA application_id = {_APPLICATION}")
                await db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    async def _version(self, db: aiosqlite.Connection) -> int:
        # The application last: while another program of ours makes the tables, it is there when
        # they are.
        tables = await _value_of(db, "SELECT count(*) FROM sqlite_master")
        version = await _value_of(db, "PRAGMA user_version")
        application = await _value_of(db, "PRAGMA application_id")
        if application != _APPLICATION and (application or version or tables):
            raise StoreError("another program's database; name another file", path=self.path)
        if version > len(_MIGRATIONS):
            text = f"its version is {version}, this package knows up to {len(_MIGRATIONS)}"
            raise StoreError(f"{text}; upgrade bili-account-async", path=self.path)
        return version


async def _value_of(db: aiosqlite.Connection, query: str) -> int:
    """Return the one number that `query` gives."""
    ((value,),) = await _unless_busy(lambda: db.execute_fetchall(query))
    return int(value)


async def _unless_busy(call: Callable[[], Awaitable[T]]) -> T:
    """Return what the call gives, once other programs let it: within `BUSY_SECONDS`."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + BUSY_SECONDS
    while True:
        try:
            return await call()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or loop.time() >= ends_at:
                raise
        await asyncio.sleep(_BUSY_STEP)


@asynccontextmanager
async def _transaction(db: aiosqlite.Connection) -> AsyncIterator[None]:
    # aiosqlite's thread takes calls in order: even if the wait for the rollback is cancelled too,
    # it comes after what was under way and before whatever comes next.
    try:
        await _unless_busy(lambda: db.execute("BEGIN IMMEDIATE"))
        yield
        await db.commit()
    except BaseException:
        await db.rollback()
        raise


def _plain_number(delta: Decimal) -> str:
    """Return one text for equal numbers: 100 and 100.0 are the same coins."""
    text = f"{delta or Decimal(0):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _ledger_key(entry: CoinLogEntry) -> tuple[int, str, str]:
    """Return the columns by which the ledger tells entries apart."""
    return (entry.time - _EPOCH) // _SECOND, _plain_number(entry.delta), entry.reason
