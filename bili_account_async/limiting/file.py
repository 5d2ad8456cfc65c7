"""The place that the processes of one machine share: rows in an SQLite file, and short looks at it.

Here: the file, its making, and what its errors mean. Not here: what a row means to a budget, and
when to ask (`booking.py`).

Every look is synchronous and takes some 0.1 ms. A file that another process holds raises `Busy` at
once, for SQLite's own wait would block the event loop. Times are of the wall clock, which all
processes have in common. It can be set back: a row knows when it was written, and if that is yet to
come, all its times move back by as much.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b

import attrs

PAUSE_MAX = 86_400.0
"""Seconds: no pause that the file tells of is believed to be longer."""
_APPLICATION = 0x62696C6C  # `PRAGMA application_id` of our files
_VERSION = 1  # `PRAGMA user_version`
_TABLES = (
    "CREATE TABLE salt (salt BLOB NOT NULL)",
    "CREATE TABLE budget (key BLOB PRIMARY KEY, noted_at REAL NOT NULL, rested_at REAL NOT NULL,"
    " ready_at REAL NOT NULL, name INTEGER NOT NULL, throttled_at REAL NOT NULL,"
    " paused_until REAL NOT NULL, rate_factor REAL NOT NULL, strikes INTEGER NOT NULL,"
    " status INTEGER, code INTEGER) WITHOUT ROWID",
)
_LOAD = (
    "SELECT noted_at, rested_at, ready_at, name, throttled_at, paused_until, rate_factor,"
    " strikes, status, code FROM budget WHERE key = ?"
)
_KEEP = "INSERT OR REPLACE INTO budget VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


class Busy(Exception):
    """Another process holds the file just now."""


class PlaceLost(Exception):
    """A file that can't be used; the message says why."""


@attrs.define
class Row:
    """A budget as the file has it; `name` is 0 if there is no throttle."""

    ready_at: float
    name: int = 0
    throttled_at: float = 0.0
    paused_until: float = 0.0
    rate_factor: float = 1.0
    strikes: int = 0
    status: int | None = None
    code: int | None = None


class FilePlace:
    """The rows of one file. It is opened, and made if there is none, when it is first looked at."""

    def __init__(self, path: str, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which file the connection has open
        self._salt = b""

    def key(self, host: str, account: str) -> bytes:
        """Return the digest that stands for a host, or with an account for that one on it."""
        text = f"{host}\n{account}".encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._salt, digest_size=16).digest()

    @contextmanager
    def change(self) -> Iterator[float]:
        """Open a transaction; yield the wall clock's time in it. All is written, or nothing."""
        with self._told():
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield self._wall()
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def look(self) -> Iterator[float]:
        """Open the file to read; yield the wall clock's time. It waits for no other process."""
        with self._told():
            self._opened()
            yield self._wall()

    def load(self, key: bytes, now: float) -> Row | None:
        """Return a row, None if there is none."""
        assert self._db is not None
        found = self._db.execute(_LOAD, (key,)).fetchone()
        if found is None:
            return None
        noted_at, rested_at, *values = found
        row = Row(*values)
        row.paused_until = min(row.paused_until, noted_at + PAUSE_MAX)
        ahead = noted_at - now
        if ahead > 0:  # the clock was set back
            row.ready_at -= ahead
            row.throttled_at -= ahead
            row.paused_until -= ahead
            if self._db.in_transaction:  # or it would be as far ahead at the next look
                self.keep(key, row, now, rested_at - ahead)
        return row

    def keep(self, key: bytes, row: Row, now: float, rested_at: float) -> None:
        """Write a row, which may go after `rested_at`."""
        assert self._db is not None
        self._db.execute(_KEEP, (key, now, rested_at, *attrs.astuple(row)))

    def tidy(self, now: float) -> None:
        """Drop the rows that tell nothing any more."""
        assert self._db is not None
        self._db.execute("DELETE FROM budget WHERE rested_at < ? AND noted_at <= ?", (now, now))

    def close(self) -> None:
        """Close the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
                raise Busy from None
            self.close()
            raise PlaceLost(getattr(error, "strerror", None) or str(error)) from None
        except PlaceLost:
            self.close()
            raise

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, to the file that has the path now."""
        if self._db is not None:
            with suppress(FileNotFoundError):
                if self._file == _identity(self._path):
                    return self._db
            self.close()
        # A file that is there is not opened: closing it would drop this process's other locks on
        # it. The -wal and -shm files inherit the mode of a new one.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
        file = _identity(self._path)
        db = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            self._salt = _prepare(db)
        except BaseException:
            db.close()
            raise
        self._db, self._file = db, file
        return db


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _prepare(db: sqlite3.Connection) -> bytes:
    """Make the tables unless they are there; return the salt of the keys."""
    if _version(db) < _VERSION:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        if _version(db) < _VERSION:  # asked again: now nobody else can make them
            for statement in _TABLES:
                db.execute(statement)
            db.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    # A power cut may take the last departures, never the file's soundness.
    db.execute("PRAGMA synchronous = NORMAL")
    (salt,) = db.execute("SELECT salt FROM salt").fetchone()
    return bytes(salt)


def _version(db: sqlite3.Connection) -> int:
    """Return the tables' version, 0 for an empty file; raise `PlaceLost` for a strange one."""
    one = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
    pragmas = "pragma_application_id, pragma_user_version"
    application, version, tables = db.execute(f"{one} FROM {pragmas}").fetchone()
    if application != _APPLICATION and (application or version or tables):
        raise PlaceLost("it is another program's database")
    if version > _VERSION:
        raise PlaceLost(f"its version is {version}, this package knows up to {_VERSION}")
    return int(version)
