"""SqliteStore keeps what was known, loses no coin, and says clearly when the disk can't take it."""

# ruff: noqa: ASYNC240 - small local files

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import pickle
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples_of import CHINA, EXPECTED, OF_SECTIONS
from strategies import fuzz, values

from bili_account_async import (
    ApiError,
    BiliError,
    CoinLog,
    CoinLogEntry,
    SessionManager,
    VipStatus,
    fetch_snapshot,
)
from bili_account_async import store as store_module
from bili_account_async.polling import SnapshotStore
from bili_account_async.sandbox import Sandbox
from bili_account_async.snapshot import AccountSnapshot
from bili_account_async.store import SqliteStore, StoreError

TAKEN = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
FULL = AccountSnapshot(taken_at=TAKEN, **OF_SECTIONS)
START = datetime(2026, 3, 1, tzinfo=CHINA)
WEEK = 7 * 24 * 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.db"


def entry(second: int = 0, delta: str = "-1", reason: str = "打赏") -> CoinLogEntry:
    return CoinLogEntry(time=START + timedelta(seconds=second), delta=Decimal(delta), reason=reason)


def showing(*entries: CoinLogEntry, coin_exp: int | None = None) -> AccountSnapshot:
    return AccountSnapshot(
        taken_at=TAKEN, coin_exp=coin_exp, coin_log=CoinLog(entries=entries, count=len(entries))
    )


def sql(path: Path, statement: str, *parameters: object) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()


@contextmanager
def unprivileged() -> Iterator[None]:
    """File modes mean something only to a user other than root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# --- snapshots ------------------------------------------------------------------------------------


async def test_what_was_saved_is_there_after_a_restart(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    async with SqliteStore(path) as store:
        assert await store.load("alice") == FULL


async def test_it_is_a_snapshot_store(path: Path) -> None:
    store: SnapshotStore = SqliteStore(path)
    assert {name for name in vars(SnapshotStore) if not name.startswith("_")} <= set(dir(store))


async def test_an_account_never_saved_is_none(path: Path) -> None:
    async with SqliteStore(path) as store:
        assert await store.load("nobody") is None
        assert await store.ledger("nobody") == ()
        assert await store.accounts() == ()


async def test_a_section_that_is_absent_keeps_its_last_known_value(path: Path) -> None:
    later = TAKEN + timedelta(minutes=10)
    failed = AccountSnapshot(
        taken_at=later, coin_exp=50, failures={"vip_info": ApiError("x", code=-1)}
    )
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        await store.save("alice", failed)
        assert await store.load("alice") == attrs.evolve(FULL, taken_at=later, coin_exp=50)
        assert len(await store.ledger("alice")) == 13


async def test_accounts_are_kept_apart_and_listed_by_name(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("bob", showing(entry(1), coin_exp=1))
        await store.save("alice", showing(entry(2), coin_exp=2))
        assert await store.accounts() == ("alice", "bob")
        assert await store.ledger("bob") == (entry(1),)
        known = await store.load("alice")
        assert known is not None
        assert known.coin_exp == 2


async def test_a_forgotten_account_leaves_nothing_and_takes_nobody_along(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        await store.save("bob", FULL)
        await store.forget("alice")
        await store.forget("nobody")
        assert await store.load("alice") is None
        assert await store.ledger("alice") == ()
        assert await store.accounts() == ("bob",)
        assert len(await store.ledger("bob")) == 13


@pytest.mark.parametrize("stored", ['{"mid": 1}', '{"mid"', '"2"', "null", "[" * 9])
async def test_a_stored_section_that_no_longer_fits_is_absent_and_logged(
    path: Path, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        sql(path, "UPDATE section SET value = ? WHERE name = 'vip_info'", stored)
        sql(path, "INSERT INTO section VALUES ('alice', 'of_tomorrow', '1')")
        with caplog.at_level(logging.WARNING, "bili_account_async"):
            assert await store.load("alice") == attrs.evolve(FULL, vip_info=None)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "stored vip_info is passed over" in caplog.text
        await store.save("alice", FULL)
        assert await store.load("alice") == FULL


async def test_an_unknown_enum_value_survives(path: Path) -> None:
    odd = attrs.evolve(
        FULL, vip_info=attrs.evolve(EXPECTED["get_vip_info"], vip_status=VipStatus(9))
    )
    async with SqliteStore(path) as store:
        await store.save("alice", odd)
        assert await store.load("alice") == odd


async def test_a_snapshot_in_which_nothing_changed_writes_only_its_time(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        before = store._db.total_changes
        await store.save("alice", attrs.evolve(FULL, taken_at=TAKEN + timedelta(hours=1)))
        assert store._db.total_changes - before == 1


async def test_no_secret_of_the_credential_reaches_the_file(path: Path) -> None:
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts) as manager,
        SqliteStore(path) as store,
    ):
        credential = sandbox.add_account(uname="小明").credential
        snapshot = await fetch_snapshot(manager.session(credential))
        refused = attrs.evolve(snapshot, failures={"coin_log": BiliError("what the server said")})
        await store.save("alice", refused)
        written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert "小明".encode() in written
    for secret in (credential.sessdata, credential.bili_jct, "what the server said"):
        assert secret
        assert secret.encode() not in written


# --- the ledger -----------------------------------------------------------------------------------


async def test_overlapping_windows_double_no_entry_and_what_aged_out_stays(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", showing(entry(2), entry(1)))
        await store.save("alice", showing(entry(3), entry(2)))
        await store.save("alice", showing())
        assert await store.ledger("alice") == (entry(3), entry(2), entry(1))


async def test_two_equal_entries_in_one_second_are_both_real(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", showing(entry(1), entry(1)))
        await store.save("alice", showing(entry(1), entry(1)))
        assert await store.ledger("alice") == (entry(1), entry(1))


async def test_an_equal_entry_that_comes_late_into_a_known_second_is_added(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", showing(entry(1)))
        await store.save("alice", showing(entry(1), entry(1)))
        assert await store.ledger("alice") == (entry(1), entry(1))


async def test_equal_deltas_are_equal_however_they_were_written(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", showing(entry(1, "100"), entry(0, "0")))
        await store.save("alice", showing(entry(1, "1E+2"), entry(1, "100.0"), entry(0, "-0.0")))
        assert await store.ledger("alice") == (entry(1, "100"), entry(1, "100"), entry(0, "0"))


async def test_the_ledger_is_exact_sorted_and_in_china_time(path: Path) -> None:
    deltas = ["0.1", "1E-7", "1E+22", "-0.3", "12345678901234567890.123456789"]
    times = [datetime(year, 1, 1, tzinfo=CHINA) for year in (1969, 9999, 2026, 1, 1970)]
    entries = [
        CoinLogEntry(time=t, delta=Decimal(d), reason="a'\x00\n")
        for t, d in zip(times, deltas, strict=True)
    ]
    async with SqliteStore(path) as store:
        await store.save("alice", showing(*entries))
        kept = await store.ledger("alice")
    assert kept == tuple(sorted(entries, key=lambda e: e.time, reverse=True))
    assert {e.time.utcoffset() for e in kept} == {timedelta(hours=8)}


class Account:
    """A simulated account: what truly happened, and what its coin log shows of it."""

    def __init__(self) -> None:
        self.second = 0
        self.polled = 0
        self.history: list[CoinLogEntry] = []

    def log(self) -> CoinLog:
        since = START + timedelta(seconds=self.second - WEEK)
        shown = tuple(e for e in reversed(self.history) if e.time > since)
        return CoinLog(entries=shown, count=len(shown))


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[asyncio.Runner, SqliteStore, Iterator[str]]]:
    """One store for all examples of a property, each with an account of its own."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        store = SqliteStore(Path(folder) / "shared.db")
        runner.run(store.open())
        yield runner, store, map(str, count())
        runner.run(store.close())


waits = st.tuples(st.just("wait"), st.integers(0, 3) | st.integers(0, WEEK - 1) | st.just(WEEK - 1))
changes = st.tuples(
    st.just("change"), st.tuples(st.sampled_from(["1", "1.0", "-1", "0.1"]), st.sampled_from("ab"))
)
polls = st.tuples(st.sampled_from(["poll", "poll", "poll", "reopen"]), st.none())


@fuzz
@given(steps=st.lists(waits | changes | polls, max_size=40))
def test_the_ledger_is_the_true_history_whenever_the_account_was_polled_within_a_week(
    shared: tuple[asyncio.Runner, SqliteStore, Iterator[str]], steps: list[tuple[str, Any]]
) -> None:
    runner, store, names = shared
    name, account = next(names), Account()

    async def poll() -> None:
        await store.save(name, AccountSnapshot(taken_at=TAKEN, coin_log=account.log()))
        account.polled = account.second
        assert Counter(await store.ledger(name)) == Counter(account.history)

    async def live() -> None:
        for what, how in [*steps, ("poll", None)]:
            if what == "wait":
                if account.second + how - account.polled >= WEEK:
                    await poll()
                account.second += how
            elif what == "change":
                account.history.append(entry(account.second, *how))
            elif what == "reopen":
                await store.close()
                await store.open()
            else:
                await poll()
        await poll()

    runner.run(live())


sections = st.fixed_dictionaries(
    {},
    optional={name: values(type(value)) for name, value in OF_SECTIONS.items()},
)


@fuzz
@given(sections=sections, taken_at=st.datetimes(timezones=st.just(UTC)), name=st.text())
def test_whatever_comes_over_the_wire_is_loaded_as_it_was_saved(
    shared: tuple[asyncio.Runner, SqliteStore, Iterator[str]],
    sections: dict[str, Any],
    taken_at: datetime,
    name: str,
) -> None:
    runner, store, names = shared
    snapshot = AccountSnapshot(taken_at=taken_at, **sections)
    name += next(names)
    runner.run(store.save(name, snapshot))
    assert runner.run(store.load(name)) == snapshot
    entries = snapshot.coin_log.entries if snapshot.coin_log else ()
    assert Counter(runner.run(store.ledger(name))) == Counter(entries)


# --- the file -------------------------------------------------------------------------------------


async def test_the_file_and_its_companions_are_the_owners_alone(path: Path) -> None:
    mask = os.umask(0)
    try:
        async with SqliteStore(path) as store:
            await store.save("alice", FULL)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(("accounts.db", "accounts.db-wal", "accounts.db-shm"), 0o600)


async def test_a_link_to_a_file_that_is_not_there_makes_it_with_the_same_mode(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with SqliteStore(link):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_store_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(":memory:")
    monkeypatch.chdir("/")
    async with store:
        assert (tmp_path / ":memory:").is_file()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    assert sql(path, "PRAGMA user_version") == [(1,)]
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    async with SqliteStore(path):
        pass
    sql(path, "PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=r"accounts\.db: its version is 7, .* up to 1; upgrade bili-account-async"
    ):
        await SqliteStore(path).open()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "theirs", ["CREATE TABLE cookie (a)", "PRAGMA user_version = 1", "PRAGMA application_id = 9"]
)
async def test_another_programs_database_is_refused_and_left_alone(path: Path, theirs: str) -> None:
    sql(path, theirs)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another program's database; name another file"):
        await SqliteStore(path).open()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["accounts.db"]


async def test_a_file_of_an_older_version_is_brought_up_to_date_with_all_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    step = ("CREATE TABLE extra (a)", "INSERT INTO extra SELECT name FROM account")
    monkeypatch.setattr(store_module, "_MIGRATIONS", (*store_module._MIGRATIONS, step))
    for _ in range(2):
        async with SqliteStore(path) as store:
            assert await store.load("alice") == FULL
    assert sql(path, "PRAGMA user_version") == [(2,)]
    assert sql(path, "SELECT a FROM extra") == [("alice",)]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    with monkeypatch.context() as patch:
        step = ("CREATE TABLE extra (a)", "DELETE FROM ledger", "INSERT INTO nowhere VALUES (1)")
        patch.setattr(store_module, "_MIGRATIONS", (*store_module._MIGRATIONS, step))
        with pytest.raises(StoreError, match="no such table: nowhere"):
            await SqliteStore(path).open()
    async with SqliteStore(path) as store:
        assert len(await store.ledger("alice")) == 13
    assert sql(path, "SELECT count(*) FROM sqlite_master WHERE name = 'extra'") == [(0,)]


async def test_many_may_make_and_use_one_file_at_once(path: Path) -> None:
    async def use(number: int) -> None:
        async with SqliteStore(path) as store:
            for second in range(5):
                await store.save("shared", showing(entry(second, str(number))))

    await asyncio.gather(*map(use, range(8)))
    async with SqliteStore(path) as store:
        assert len(await store.ledger("shared")) == 40


async def test_a_new_file_that_another_program_is_about_to_fill_is_waited_for(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = SqliteStore(path)
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0.1)
    assert not opening.done()
    other.close()
    await opening
    await store.close()


def test_a_kill_at_any_instant_leaves_a_sound_file_with_every_finished_save(path: Path) -> None:
    kills = os.environ.get("BILI_KILLS", "16")
    script = Path(__file__).with_name("store_killed.py")
    command = [sys.executable, "-X", "dev", "-W", "error", str(script), str(path.parent), kills]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    rounds, survived, _ = map(int, ended.stdout.split())
    assert rounds == int(kills)
    assert survived >= int(kills) // 2


# --- a disk that can't take it --------------------------------------------------------------------


async def test_a_full_disk_is_a_clear_error_and_what_was_saved_stays(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        ((pages,),) = await store._db.execute_fetchall("PRAGMA page_count")
        await store._db.execute_fetchall(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            StoreError, match=r"accounts\.db: database or disk is full; free some space"
        ):
            await store.save("bob", showing(*map(entry, range(500))))
        assert await store.accounts() == ("alice",)
        assert await store.load("alice") == FULL
        await store._db.execute_fetchall("PRAGMA max_page_count = 100000")
        await store.save("bob", FULL)
        assert await store.load("bob") == FULL


async def test_a_disk_that_refuses_a_write_halfway_loses_nothing(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
        resource.setrlimit(
            resource.RLIMIT_FSIZE,
            (path.with_name("accounts.db-wal").stat().st_size + 9000, before[1]),
        )
        try:
            with pytest.raises(
                StoreError, match="disk I/O error; see whether the disk is full or broken"
            ):
                await store.save("bob", showing(*map(entry, range(500))))
            assert await store.load("alice") == FULL
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert await store.accounts() == ("alice",)
        await store.save("bob", FULL)
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert sql(path, "SELECT count(*) FROM ledger") == [(26,)]


async def test_a_file_that_may_only_be_read_can_be_read_and_refuses_writes_clearly() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "accounts.db"
        async with SqliteStore(path) as store:
            await store.save("alice", FULL)
        path.parent.chmod(0o777)
        path.chmod(0o444)
        with unprivileged():
            async with SqliteStore(path) as store:
                assert await store.load("alice") == FULL
                with pytest.raises(
                    StoreError, match="readonly database; make the file and its directory writable"
                ):
                    await store.save("alice", FULL)


async def test_a_file_or_directory_that_may_not_be_used_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accounts.db"
        async with SqliteStore(path) as store:
            await store.save("alice", FULL)
        path.parent.chmod(0o755)
        with unprivileged():
            with pytest.raises(
                StoreError, match=r"accounts\.db: unable to open database file; see that"
            ):
                await SqliteStore(path).open()
            with pytest.raises(StoreError, match=r"new\.db: Permission denied; see that"):
                await SqliteStore(path.with_name("new.db")).open()


async def test_what_is_no_store_is_named_as_such(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and no database at all\n" * 100)
    for path, said in (
        (tmp_path, "unable to open database file; see that the file's directory exists"),
        (
            tmp_path / "missing" / "a.db",
            "No such file or directory; see that the file's directory exists",
        ),
        (text, "file is not a database; name another file, or move this one away"),
    ):
        with pytest.raises(StoreError) as caught:
            await SqliteStore(path).open()
        assert str(caught.value).startswith(f"{path}: {said}")


async def test_a_damaged_file_is_a_clear_error(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    healthy = path.read_bytes()
    path.write_bytes(healthy[:4096] + b"\xff" * (len(healthy) - 4096))
    async with SqliteStore(path) as store:
        with pytest.raises(
            StoreError, match=r"malformed; move the file away, or restore a copy of it"
        ):
            await store.load("alice")


async def test_a_file_that_another_program_holds_is_a_clear_error_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    async with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked; another program holds the file"):
            await store.save("alice", FULL)
        other.close()
        await store.save("alice", FULL)


def test_the_error_is_one_of_ours_and_pickles_and_copies() -> None:
    error = StoreError("database or disk is full; free some space", path="/x/a.db")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(again, BiliError)
        assert (str(again), again.path) == (str(error), "/x/a.db")


# --- tasks and threads ----------------------------------------------------------------------------


async def test_a_save_cancelled_at_any_moment_is_there_whole_or_not_at_all(path: Path) -> None:
    kept = 0
    async with SqliteStore(path) as store:
        for k in range(1, 151):
            before = await store.ledger("alice")
            saving = asyncio.create_task(
                store.save("alice", showing(*map(entry, range(k)), coin_exp=k))
            )
            for _ in range(k % 30):
                await asyncio.sleep(0)
            await asyncio.sleep(k % 7 * 0.0001)
            saving.cancel()
            if k % 3 == 0:  # and once more, while it waits for the rollback
                await asyncio.sleep(0)
                saving.cancel()
            await asyncio.wait((saving,))
            known, ledger = await store.load("alice"), await store.ledger("alice")
            whole = known is not None and known.coin_exp == k
            assert len(ledger) == (k if whole else len(before))
            assert whole or saving.cancelled()
            kept += whole
        await store.save("bob", FULL)
        assert await store.load("bob") == FULL
    assert 0 < kept < 150
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_cancelled_save_does_not_hold_the_file(path: Path) -> None:
    async with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(store.save("alice", FULL))
        await asyncio.sleep(0.05)
        saving.cancel()
        await asyncio.sleep(0)
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await saving
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        other.close()
        assert await store.accounts() == ()


async def test_concurrent_saves_are_each_whole(path: Path) -> None:
    async with SqliteStore(path) as store:
        await asyncio.gather(
            *(store.save(f"a{i % 5}", showing(entry(i), coin_exp=i)) for i in range(50))
        )
        assert sum([len(await store.ledger(name)) for name in await store.accounts()]) == 50


async def test_closing_waits_for_a_save_under_way(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    saving = asyncio.create_task(store.save("alice", FULL))
    await asyncio.sleep(0)
    await store.close()
    await saving
    async with store:
        assert await store.load("alice") == FULL


async def test_a_close_that_is_cancelled_closes_all_the_same(path: Path) -> None:
    threads = threading.active_count()
    store = SqliteStore(path)
    await store.open()
    saving = asyncio.create_task(store.save("alice", FULL))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(StoreError):
        await saving
    assert await no_more_threads_than(threads)


async def test_opening_can_be_cancelled_at_any_moment(path: Path) -> None:
    threads = threading.active_count()
    for turns in range(12):
        opening = asyncio.create_task(SqliteStore(path).open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))
        assert opening.cancelled()
        path.unlink(missing_ok=True)
    gc.collect()  # a connection left open would say so here
    assert await no_more_threads_than(threads)


async def no_more_threads_than(expected: int) -> bool:
    for _ in range(100):
        if threading.active_count() <= expected:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_nothing_is_left_after_closing_or_after_a_failed_opening(
    path: Path, tmp_path: Path
) -> None:
    threads = threading.active_count()
    async with SqliteStore(path) as store:
        await store.save("alice", FULL)
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path).open()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await no_more_threads_than(threads)
    assert [file.name for file in tmp_path.iterdir()] == ["accounts.db"]


async def test_a_store_that_is_not_open_says_what_to_do(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(RuntimeError, match=r"use `async with SqliteStore\(path\) as store:`"):
        await store.save("alice", FULL)
    await store.close()
    async with store:
        with pytest.raises(RuntimeError, match="open already"):
            await store.open()
    with pytest.raises(RuntimeError, match="is not open"):
        await store.ledger("alice")


def test_importing_the_package_does_not_import_the_extra() -> None:
    code = "import sys, json, bili_account_async; print(json.dumps('aiosqlite' in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(ended.stdout) is False
