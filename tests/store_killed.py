"""A program that saves as fast as it can and is killed at any instant; run by `test_store.py` in a
process of its own.

`python store_killed.py DIRECTORY ROUNDS`: each round forks a child that goes on where the last one
was killed, kills it at a random instant, and looks at the file with plain sqlite3. Every second
round waits for the child's first save; every fourth starts with no file, so that its making is
killed too. Prints the rounds, the saves that survived, and the rounds that ended with none.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from bili_account_async import AccountSnapshot, CoinLog, CoinLogEntry
from bili_account_async.store import SqliteStore

START = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=8)))
WINDOW = 30
SECONDS = 0.05
"""The latest kill, after the fork or after the first save."""


def entry(k: int) -> CoinLogEntry:
    """The k-th of the true history; three of every four stand in one second, and two of those are
    equal.
    """
    return CoinLogEntry(
        time=START + timedelta(seconds=k // 4), delta=Decimal(k % 2), reason="登录奖励"
    )


def snapshot(k: int) -> AccountSnapshot:
    """The account after its k-th entry, which `coin_exp` counts; the window moves on by whole
    seconds.
    """
    shown = tuple(entry(i) for i in range(k - 1, max(0, (k - WINDOW) // 4 * 4) - 1, -1))
    return AccountSnapshot(
        taken_at=datetime.now(UTC), coin_exp=k, coin_log=CoinLog(entries=shown, count=len(shown))
    )


async def save_for_ever(path: str, tell: int) -> None:
    async with SqliteStore(path) as store:
        known = await store.load("a")
        k = known.coin_exp or 0 if known else 0
        while True:
            k += 1
            await store.save("a", snapshot(k))
            os.write(tell, b".")


def saves_in(path: str) -> int:
    """Count the saves that the file holds; raise AssertionError unless they are whole."""
    if not os.path.exists(path):
        return 0
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
        ).fetchone()
        assert (version, tables) in ((0, 0), (1, 3)), (version, tables)
        if not version:
            return 0
        (k,) = connection.execute(
            "SELECT total(value) FROM section WHERE name = 'coin_exp'"
        ).fetchone()
        (n,) = connection.execute("SELECT total(n) FROM ledger").fetchone()
        assert n == int(k), f"{k} saves, {n} entries in the ledger"
        return int(n)
    finally:
        connection.close()


def main(directory: str, rounds: int) -> None:
    path = str(Path(directory) / "killed.db")
    chance = random.Random(7)
    survived = known = early = 0
    for number in range(rounds):
        if number % 4 == 0:
            for file in Path(directory).glob("killed.db*"):
                file.unlink()
            known = 0
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(save_for_ever(path, tell))
        os.close(tell)
        finished = len(os.read(told, 1)) if number % 2 else 0
        time.sleep(chance.random() * SECONDS)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"
        while more := os.read(told, 1 << 16):
            finished += len(more)
        os.close(told)
        found = saves_in(path)
        assert known + finished <= found <= known + finished + 1, (known, finished, found)
        survived += found - known
        early += not found
        known = found
    print(rounds, survived, early)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
