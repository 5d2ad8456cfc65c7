"""One budget for several processes: gates on one virtual clock and one file, and real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_limits import assert_windows_hold, now, told
from virtual import run_virtual, turns

from bili_account_async import (
    HostState,
    Limits,
    RateLimit,
    RateLimited,
    RequestEvent,
    SessionManager,
    SharedLimiter,
    fetch_snapshot,
    get_vip_info,
)
from bili_account_async._seam import Seam
from bili_account_async.limiting.protocols import Gate
from bili_account_async.sandbox import Sandbox

EPOCH = 1_800_000_000.0
FOREVER = 1e9
HOST = RateLimit(rate=10, burst=8)
PROGRAM = Path(__file__).with_name("shared_process.py")


class Process:
    """The gate of a process of its own, as far as the file can tell, with a clock to be set."""

    def __init__(self, path: Path, *, random: float = 0.5, fallback: float = 0.25, **limits: Any):
        self.ahead = 0.0
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"host": HOST, "account": None, "concurrency": None} | limits
        seam = Seam(wall=lambda: EPOCH + loop.time() + self.ahead, random=lambda: random)
        self.gate: Gate = SharedLimiter(Limits(**options), path, fallback=fallback).gate(seam)
        self.departures: list[float] = []

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.close()

    @property
    def state(self) -> HostState:
        return self.gate.state()["host"]

    async def depart(
        self, account: str = "a", *, error: BaseException | None = None, **options: Any
    ) -> float:
        given: dict[str, Any] = {
            "patience": FOREVER,
            "max_wait": float("inf"),
            "retry": False,
            "background": False,
        }
        permit = await self.gate.acquire("host", account, **given | options)
        at = now()
        self.departures.append(at)
        self.gate.release(permit, error)
        return at

    async def for_ever(self, account: str) -> None:
        while True:
            await self.depart(account)


async def crowd(processes: list[Process], seconds: float, accounts: int = 5) -> None:
    """Let so many accounts of each process call without end for so long."""
    tasks = [
        asyncio.create_task(process.for_ever(f"{number} of {place}"))
        for place, process in enumerate(processes)
        for number in range(accounts)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def merged(processes: list[Process]) -> list[float]:
    return sorted(at for process in processes for at in process.departures)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.sqlite3"


@contextmanager
def several(path: Path, number: int = 4, **limits: Any) -> Iterator[list[Process]]:
    processes = [Process(path, random=place / number, **limits) for place in range(number)]
    yield processes
    for process in processes:
        process.gate.close()


# --- one budget -----------------------------------------------------------------------------------


@run_virtual
async def test_four_processes_keep_one_budget_use_it_up_and_take_turns(path: Path) -> None:
    with several(path) as processes:
        await crowd(processes, 60)
        departures = merged(processes)
        assert_windows_hold(departures, HOST)
        assert len(departures) >= 0.97 * (HOST.burst + HOST.rate * 60)
        assert min(len(one.departures) for one in processes) >= 0.2 * len(departures)


@run_virtual
async def test_an_account_has_one_budget_in_all_processes(path: Path) -> None:
    account = RateLimit(rate=1, burst=3)
    with several(path, 2, account=account) as processes:
        tasks = [asyncio.create_task(one.for_ever("same")) for one in processes for _ in range(3)]
        tasks += [asyncio.create_task(one.for_ever("other")) for one in processes[:1]]
        await asyncio.sleep(30)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        departures = merged(processes)
        assert_windows_hold(departures, RateLimit(rate=2, burst=6))
        assert len(departures) >= 2 * 30 * 0.95


@run_virtual
async def test_an_account_that_waits_holds_up_no_other_and_is_charged_nothing(path: Path) -> None:
    with several(path, 2, account=RateLimit(rate=0.1, burst=1)) as (one, other):
        await one.depart("slow")
        waits = asyncio.create_task(other.depart("slow"))
        await turns()
        assert [await other.depart(str(number)) for number in range(6)] == [0.0] * 6
        assert await waits == pytest.approx(10)


@run_virtual
async def test_a_call_that_nothing_holds_up_departs_at_once_also_without_max_wait(
    path: Path,
) -> None:
    with Process(path) as one:
        assert await one.depart(max_wait=0.0) == 0


@run_virtual
async def test_a_budget_outlives_the_process_that_used_it(path: Path) -> None:
    with Process(path) as one:
        for _ in range(7):
            await one.depart()
    with Process(path) as other:
        await other.depart()
        assert await other.depart() > 0


# --- order, patience, bounds ----------------------------------------------------------------------


@run_virtual
async def test_retries_and_people_go_before_the_fleet_also_before_a_slot_it_has_booked(
    path: Path,
) -> None:
    order: list[str] = []

    async def call(name: str, **options: Any) -> None:
        await one.depart(name, **options)
        order.append(name)

    with Process(path, host=RateLimit(rate=1, burst=1)) as one:
        await one.depart("first")
        tasks = [asyncio.create_task(call(f"fleet {n}", background=True)) for n in range(2)]
        await asyncio.sleep(0.5)
        tasks += [
            asyncio.create_task(call("person")),
            asyncio.create_task(call("again", retry=True)),
        ]
        await asyncio.wait(tasks)
        assert order == ["again", "person", "fleet 0", "fleet 1"]
        assert now() == pytest.approx(4)


@run_virtual
async def test_max_wait_counts_what_other_processes_have_booked(path: Path) -> None:
    limit = RateLimit(rate=1, burst=1)
    with several(path, 3, host=limit) as (one, two, three):
        await one.depart()
        booked = [asyncio.create_task(process.depart()) for process in (one, two)]
        await turns()
        with pytest.raises(RateLimited) as caught:
            await three.depart(max_wait=2.5)
        assert caught.value.scope == "local"
        assert caught.value.retry_after == pytest.approx(3)
        assert now() == 0
        await asyncio.wait(booked)


@run_virtual
async def test_what_a_cancelled_call_has_booked_is_given_back(path: Path) -> None:
    with several(path, 2, host=RateLimit(rate=1, burst=1)) as (one, other):
        await one.depart()
        task = asyncio.create_task(one.depart())
        await turns()
        task.cancel()
        await asyncio.wait([task])
        assert await other.depart() == pytest.approx(1)


@run_virtual
async def test_a_grant_that_is_cancelled_before_its_turn_is_given_back(path: Path) -> None:
    with several(path, 2, host=RateLimit(rate=1, burst=1)) as (one, other):
        task = asyncio.create_task(one.depart())
        await turns(2)  # it has asked and has its grant, and its task has not run since
        assert (one.state.waiting, one.state.in_flight) == (0, 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await other.depart() == 0


@run_virtual
async def test_a_slot_that_others_have_booked_after_is_lost_rather_than_a_window(
    path: Path,
) -> None:
    limit = RateLimit(rate=1, burst=1)
    with several(path, 2, host=limit) as (one, other):
        await one.depart()
        task = asyncio.create_task(one.depart())
        await turns()
        behind = asyncio.create_task(other.depart())
        await turns()
        task.cancel()
        await behind
        await one.depart()
        assert_windows_hold(merged([one, other]), limit)


# --- what the server says -------------------------------------------------------------------------


@run_virtual
async def test_a_pause_told_to_one_process_holds_in_all_also_for_booked_slots(path: Path) -> None:
    with several(path, 2, host=RateLimit(rate=2, burst=1)) as (one, other):
        permit = await one.gate.acquire(
            "host", "a", patience=FOREVER, max_wait=FOREVER, retry=False, background=False
        )
        booked = asyncio.create_task(other.depart())
        await asyncio.sleep(0.2)
        one.gate.release(permit, told("host", 30.0))
        assert await booked == pytest.approx(30.2)
        assert other.state.rate == pytest.approx(1, rel=0.1)


@run_virtual
async def test_calls_that_a_pause_told_elsewhere_outlasts_hear_what_the_server_said(
    path: Path,
) -> None:
    with several(path, 2) as (one, other):
        await one.depart(error=told("host", 30.0))
        with pytest.raises(RateLimited) as caught:
            await other.depart(patience=10.0)
        assert (caught.value.scope, caught.value.code) == ("host", -412)
        assert caught.value.retry_after == pytest.approx(30)


@run_virtual
async def test_a_pause_told_elsewhere_counts_as_paused_for_the_call_that_sat_it_out(
    path: Path,
) -> None:
    with several(path, 2, host=RateLimit(rate=2, burst=1)) as (one, other):
        options: dict[str, Any] = {
            "patience": FOREVER,
            "max_wait": FOREVER,
            "retry": False,
            "background": False,
        }
        first = await one.gate.acquire("host", "a", **options)
        waits = asyncio.create_task(other.gate.acquire("host", "b", **options))
        await asyncio.sleep(0.2)
        one.gate.release(first, told("host", 30.0))
        permit = await waits
        assert permit.waited == pytest.approx(30.2)
        assert permit.paused == pytest.approx(29.7)  # it learned of the pause when its slot came


@run_virtual
async def test_an_accounts_pause_holds_in_all_processes_and_for_no_other_account(
    path: Path,
) -> None:
    with several(path, 2) as (one, other):
        await one.depart("tired", error=told("account", 5.0))
        assert await other.depart("fresh") == 0
        assert await other.depart("tired") == pytest.approx(5)


@run_virtual
async def test_one_refusal_that_several_processes_meet_slows_them_once(path: Path) -> None:
    with several(path) as processes:
        permits = [
            await one.gate.acquire(
                "host", "a", patience=FOREVER, max_wait=FOREVER, retry=False, background=False
            )
            for one in processes
        ]
        for one, permit in zip(processes, permits, strict=True):
            one.gate.release(permit, told("host", 1.0))
        await processes[0].depart()
        assert processes[0].state.rate == pytest.approx(5, rel=0.05)


# --- clocks ---------------------------------------------------------------------------------------


@run_virtual
async def test_a_clock_that_is_set_back_holds_nobody_up_and_breaks_no_window(path: Path) -> None:
    account = RateLimit(rate=1, burst=2)
    with several(path, 2, account=account) as processes:
        running = asyncio.create_task(crowd(processes, 20, accounts=20))
        await asyncio.sleep(10)
        for one in processes:
            one.ahead -= 3600
        await running
        departures = merged(processes)
        assert_windows_hold(departures, HOST)
        assert len(departures) >= 0.97 * (HOST.burst + HOST.rate * 20)


@run_virtual
async def test_a_machine_that_slept_has_rested(path: Path) -> None:
    with several(path, 2) as (one, other):
        await crowd([one, other], 5)
        one.ahead = other.ahead = 8 * 3600.0
        assert [await one.depart() for _ in range(6)] == [now()] * 6


@pytest.mark.parametrize("column", ["noted_at", "ready_at", "paused_until", "throttled_at"])
def test_a_time_far_in_the_future_is_not_believed(path: Path, column: str) -> None:
    @run_virtual
    async def run() -> None:
        with Process(path) as one:
            await one.depart(error=told("host", 1.0))
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE budget SET {column} = ?", (EPOCH * 10,))
        db.close()
        with Process(path) as other:
            assert await other.depart() <= 86_400

    run()


# --- without the place ----------------------------------------------------------------------------


def _no_directory(path: Path) -> Callable[[], None]:
    path.parent.rename(path.parent.with_name("away"))
    return lambda: path.parent.with_name("away").rename(path.parent)


def _a_directory(path: Path) -> Callable[[], None]:
    path.mkdir()
    return path.rmdir


def _garbage(path: Path) -> Callable[[], None]:
    path.write_bytes(b"no database " * 1000)
    return path.unlink


def _another_programs(path: Path) -> Callable[[], None]:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (value)")
    db.close()
    return path.unlink


def _held(path: Path) -> Callable[[], None]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    return db.close


FAULTS = [_no_directory, _a_directory, _garbage, _another_programs, _held]


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_place_a_process_goes_on_with_its_share_and_comes_back(
    path: Path, fault: Callable[[Path], Callable[[], None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bili_account_async")

    @run_virtual
    async def run() -> None:
        mend = fault(path)
        with Process(path) as one:
            assert await one.depart() <= 0.5
            assert one.state.cut_off
            await crowd([one], 20)
            assert_windows_hold(one.departures, RateLimit(rate=2.5, burst=2))
            assert len(one.departures) >= 45
            mend()
            await asyncio.sleep(2)
            assert one.state.cut_off is None
            await one.depart()
            assert one.state.rate == 10

    run()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text


@run_virtual
async def test_an_outage_under_load_breaks_no_window(path: Path) -> None:
    limit = RateLimit(rate=20, burst=20)
    with several(path, host=limit) as processes:
        running = asyncio.create_task(crowd(processes, 60))
        for _ in range(4):
            await asyncio.sleep(7)
            mend = _held(path)
            await asyncio.sleep(5)
            assert all(one.state.cut_off for one in processes)
            mend()
        await running
        departures = merged(processes)
        assert_windows_hold(departures, limit)
        assert all(one.state.cut_off is None for one in processes)
        assert len(departures) >= 0.85 * limit.rate * 60


@run_virtual
async def test_a_pause_told_during_an_outage_is_told_to_all_after_it(path: Path) -> None:
    with several(path, 2) as (one, other):
        await one.depart()
        mend = _held(path)
        await one.depart(error=told("host", 30.0))
        await asyncio.sleep(1)
        mend()
        await asyncio.sleep(2)
        assert one.state.cut_off is None
        assert await other.depart() == pytest.approx(30, abs=1)


@run_virtual
async def test_a_file_that_is_deleted_is_made_anew(path: Path) -> None:
    with several(path, 2, host=RateLimit(rate=1, burst=1)) as (one, other):
        await one.depart()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        assert await one.depart() == pytest.approx(1)
        assert await other.depart() == pytest.approx(2)
        assert one.state.cut_off is None


# --- the file -------------------------------------------------------------------------------------


@run_virtual
async def test_the_file_is_its_owners_and_names_nobody(path: Path) -> None:
    with Process(path) as one:
        await one.depart("1234567890")
        files = list(path.parent.iterdir())
        assert len(files) == 3
        for file in files:
            assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600
            assert b"1234567890" not in file.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@run_virtual
async def test_a_permit_that_comes_back_after_the_end_does_not_open_the_file_again(
    path: Path,
) -> None:
    with Process(path) as one:
        permit = await one.gate.acquire(
            "host", "a", patience=FOREVER, max_wait=FOREVER, retry=False, background=False
        )
    one.gate.release(permit, told("host", 5.0))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@run_virtual
async def test_rows_that_tell_nothing_any_more_go(path: Path) -> None:
    limits = {"host": RateLimit(rate=1e4, burst=10), "account": RateLimit(rate=1, burst=1)}
    with Process(path, **limits) as one:
        for number in range(2100):
            await one.depart(str(number))
            await asyncio.sleep(0.01)
    with sqlite3.connect(path) as db:
        ((rows,),) = db.execute("SELECT count(*) FROM budget")
    db.close()
    assert rows < 1100


@pytest.mark.parametrize("where", ["redis://localhost", "", 3, None, b"path", "a\0b"])
def test_a_place_that_can_not_be_is_refused_with_what_it_may_be(where: Any) -> None:
    with pytest.raises(ValueError, match=r"^where: expected the path of a file"):
        SharedLimiter(Limits(), where)


@pytest.mark.parametrize("fallback", [0, -1, 1.1, True, "1", float("nan")])
def test_a_share_that_can_not_be_is_refused(path: Path, fallback: Any) -> None:
    with pytest.raises(ValueError, match=r"^fallback: "):
        SharedLimiter(Limits(), path, fallback=fallback)


# --- the manager ----------------------------------------------------------------------------------


async def test_managers_of_one_file_together_stay_inside_the_servers_budget(path: Path) -> None:
    limits = Limits(host=RateLimit(rate=40, burst=8), account=None)
    async with Sandbox(rate=40, burst=8) as sandbox:
        events: list[RequestEvent] = []

        def manager() -> SessionManager:
            limiter = SharedLimiter(limits, path)
            return SessionManager(
                hosts=sandbox.hosts, limiter=limiter, timeout=60, on_request=events.append
            )

        async with manager() as one, manager() as other:
            sessions = [each.session(sandbox.add_account().credential) for each in (one, other) * 4]
            snapshots = await asyncio.gather(*map(fetch_snapshot, sessions))
            state = one.limits_state()["api"]
        assert not any(snapshot.failures for snapshot in snapshots)
        assert not [event for event in events if event.outcome]
        assert (state.rate, state.cut_off, state.waiting) == (40, None, 0)


async def test_the_max_wait_of_its_limits_is_the_managers(path: Path) -> None:
    limits = Limits(host=RateLimit(rate=0.1, burst=1), account=None, max_wait=0.1)
    async with Sandbox() as sandbox:
        limiter = SharedLimiter(limits, path)
        async with SessionManager(hosts=sandbox.hosts, limiter=limiter) as manager:
            me = manager.session(sandbox.add_account().credential)
            await get_vip_info(me)
            with pytest.raises(RateLimited) as caught:
                await get_vip_info(me)
    assert caught.value.scope == "local"
    assert caught.value.retry_after == pytest.approx(10, abs=1)


def test_a_limiter_serves_managers_on_one_loop_after_another(path: Path) -> None:
    limiter = SharedLimiter(Limits(host=RateLimit(rate=4, burst=1), account=None), path)
    with Sandbox() as sandbox:
        manager = SessionManager(hosts=sandbox.hosts, limiter=limiter)
        me = manager.session(sandbox.add_account().credential)

        async def once() -> float:
            async with manager:
                begun = time.monotonic()
                await get_vip_info(me)
                return time.monotonic() - begun

        asyncio.run(once())
        assert asyncio.run(once()) > 0.1  # the slot that the first loop used
        assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_closing_ends_the_calls_that_wait_and_gives_their_slot_back(path: Path) -> None:
    limiter = SharedLimiter(Limits(host=RateLimit(rate=0.1, burst=1), account=None), path)
    async with Sandbox() as sandbox:
        manager = SessionManager(hosts=sandbox.hosts, limiter=limiter)
        await manager.open()
        credential = sandbox.add_account().credential
        me = manager.session(credential)
        await get_vip_info(me)
        waiting = asyncio.create_task(get_vip_info(me))
        await asyncio.sleep(0.05)
        assert manager.limits_state()["api"].waiting == 1
        await manager.close()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        async with manager:
            with pytest.raises(RateLimited) as caught:
                await get_vip_info(manager.session(credential, max_wait=0))
            assert caught.value.retry_after is not None
            assert caught.value.retry_after < 10


def test_a_gate_left_open_on_a_loop_that_has_ended_lets_go_of_the_file(path: Path) -> None:
    async def abandon() -> Process:
        one = Process(path, host=RateLimit(rate=0.1, burst=1))
        await one.depart()
        task = asyncio.ensure_future(one.depart())
        await asyncio.sleep(0.05)
        task.cancel()
        return one

    asyncio.run(abandon()).gate.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- real processes -------------------------------------------------------------------------------


class Child:
    """`shared_process.py`, started: its departures, those while it was cut off, and its looks."""

    def __init__(self, path: Path, limit: RateLimit, waiters: int, seconds: float, *fate: int):
        arguments = [path, limit.rate, limit.burst, waiters, seconds, *fate]
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        lines = self.process.communicate(timeout=30)[0].splitlines()
        if lines and lines[-1].startswith("["):
            self.looks: list[float] = json.loads(lines.pop())
        told = [line.split(" ", 1) for line in lines]
        self.departures = [float(at) for at, _ in told]
        self.cut_off = [float(at) for at, reason in told if reason]


def begin(children: list[Child]) -> None:
    for child in children:
        assert child.process.stdout is not None
        child.process.stdout.readline()
    for child in children:
        assert child.process.stdin is not None
        child.process.stdin.write("go\n")
        child.process.stdin.flush()


def together(children: list[Child]) -> list[float]:
    return sorted(at for child in children for at in child.departures)


def test_four_real_processes_keep_one_budget_use_it_up_and_take_turns(path: Path) -> None:
    limit = RateLimit(rate=40, burst=20)
    with ExitStack() as stack:
        children = [stack.enter_context(Child(path, limit, 20, 4)) for _ in range(4)]
        begin(children)
        for child in children:
            child.end()
        departures = together(children)
        assert_windows_hold(departures, limit)
        assert len(departures) >= 0.9 * (limit.burst + limit.rate * 4)
        assert min(len(child.departures) for child in children) >= 0.15 * len(departures)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_killed_in_the_middle_of_a_look_holds_nobody_up(path: Path) -> None:
    limit = RateLimit(rate=40, burst=20)
    with ExitStack() as stack:
        doomed = stack.enter_context(Child(path, limit, 5, 4, signal.SIGKILL, 20))
        others = [stack.enter_context(Child(path, limit, 5, 4)) for _ in range(3)]
        begin([doomed, *others])
        assert doomed.process.wait(timeout=30) == -signal.SIGKILL
        for child in (doomed, *others):
            child.end()
        departures = together([doomed, *others])
        assert_windows_hold(departures, limit)
        assert max(late - early for early, late in pairwise(together(others))) < 0.5
        assert not any(child.cut_off for child in others)
        assert len(departures) >= 0.9 * (limit.burst + limit.rate * 4)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")
def test_a_process_stopped_in_the_middle_of_a_look_holds_nobody_up_for_long(path: Path) -> None:
    limit = RateLimit(rate=40, burst=20)
    with ExitStack() as stack:
        stopped = stack.enter_context(Child(path, limit, 5, 7, signal.SIGSTOP, 20))
        others = [stack.enter_context(Child(path, limit, 5, 7)) for _ in range(3)]
        begin([stopped, *others])
        os.waitid(os.P_PID, stopped.process.pid, os.WSTOPPED)
        stopped_at = time.time()
        time.sleep(2)
        stopped.process.send_signal(signal.SIGCONT)
        continued_at = time.time()
        for child in (stopped, *others):
            child.end()
        assert_windows_hold(together([stopped, *others]), limit)
        for child in others:
            after = [stopped_at, *(at for at in child.departures if at > stopped_at)]
            assert max(late - early for early, late in pairwise(after)) < 1.0
            assert child.cut_off
            assert max(child.cut_off) < continued_at + 1.5
            assert child.departures[-1] > continued_at + 2.5
        assert stopped.departures[-1] > continued_at
