"""Faults of the Poller that were found, each as the test that shows it, on a virtual clock.

Nobody waits for somebody else's trouble: a host that wants a pause, a store that hangs, code of
other people that raises, a machine that sleeps.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from fleet import (
    COIN_EXP,
    DEAD_LOGIN,
    EVERY,
    GONE,
    HOUR,
    MINUTE,
    RISK,
    WALL,
    Reply,
    Sent,
    credential,
    fleet,
    name_of,
    now,
    of,
    status,
    world_and_manager,
)
from samples_of import OF_SECTIONS
from virtual import run_virtual

from bili_account_async import (
    ALL_SECTIONS,
    AccountExpired,
    AccountParked,
    AccountSnapshot,
    AccountState,
    Change,
    Changed,
    CoinLog,
    CoinLogEntry,
    Limits,
    MemoryStore,
    NotLoggedIn,
    Poller,
    PollEvent,
    PollFailed,
    RateLimit,
    RateLimited,
    Retry,
    SessionManager,
    SnapshotTaken,
    VipStatus,
)
from bili_account_async._seam import Seam
from bili_account_async.limiting.local import LocalLimiter
from bili_account_async.polling.memory import LEAVING, STORE_SECONDS, _digest
from bili_account_async.sandbox import Sandbox
from bili_account_async.snapshot import SECTIONS as ENDPOINT_OF
from bili_account_async.store import SqliteStore

REAL: dict[str, Any] = {"limits": Limits(), "retry": Retry(), "timeout": 10.0}
"""A manager as it is by default."""


def refusing(host: str, **headers: str) -> Callable[[Sent], Reply | None]:
    """A server one of whose hosts says stop for good."""
    pause = status(412, **headers)
    return lambda sent: pause() if ENDPOINT_OF[sent.section].host == host else None


def warned(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# --- a host that says stop ------------------------------------------------------------------------


@run_virtual
async def test_what_the_other_hosts_give_is_told_while_one_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(3, sections=ALL_SECTIONS, **REAL) as (world, poller):
        world.trouble = refusing("www")
        events = await poller.told(24 * HOUR)

        for number in (1, 2, 3):
            taken = of(SnapshotTaken, events, number)
            assert len(taken) >= 140
            assert all(event.snapshot.account_info for event in taken)
            assert "coin_exp" in taken[0].snapshot.failures
        refusals = [event.snapshot.failures.get("coin_exp") for event in of(SnapshotTaken, events)]
        assert any(isinstance(error, RateLimited) for error in refusals)
        assert not of(PollFailed, events)
    assert len(warned(caplog)) == 1
    assert "www.bilibili.com" in warned(caplog)[0]
    pause = float(warned(caplog)[0].split(" pause of ")[1].split()[0])
    assert pause >= 4  # the limiter's, after the third refusal


@run_virtual
async def test_accounts_that_wait_for_a_host_hold_no_worker() -> None:
    async with fleet(0, every=timedelta(minutes=1), **REAL) as (world, poller):
        world.trouble = refusing("www")
        for number in range(1, 65):
            poller.add(name_of(number), credential(number), sections=COIN_EXP)
        poller.add(name_of(65), credential(65), sections=["vip_info"])
        events = await poller.told(HOUR)

        assert {event.account for event in events} == {name_of(65)}
        assert len(events) >= 59
        assert poller.stats().accounts[AccountState.WAITING] >= 60


@run_virtual
async def test_only_the_host_s_sections_wait_and_they_come_back_when_it_is_well() -> None:
    sections = ["coin_exp", "vip_info", "realname_status"]
    async with fleet(sections=sections, timeout=10.0) as (world, poller):
        pause = status(429, Retry_After="900")

        def trouble(sent: Sent) -> Reply | None:
            match sent.section:
                case "coin_exp" if sent.at < 900:  # the only one of its host
                    return pause()
                case "vip_info":
                    return GONE()
            return None

        world.trouble = trouble
        first, *rest = await poller.told(HOUR)

        assert first.snapshot.realname_status is not None
        assert set(first.snapshot.failures) == {"coin_exp", "vip_info"}
        assert [event.snapshot.coin_exp for event in rest if event.snapshot.coin_exp] == [20] * 4
        assert world.starts(1, "coin_exp") == [0, 1200, 1800, 2400, 3000]
        assert len(world.starts(1, "realname_status")) == 6


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "0"}, {"Retry_After": "900"}])
@pytest.mark.parametrize("accounts", [1, 20, 200])
@run_virtual
async def test_a_host_that_refuses_is_not_asked_more_often_than_a_healthy_one(
    accounts: int, headers: dict[str, str]
) -> None:
    async with fleet(accounts, sections=COIN_EXP, **REAL) as (world, poller):
        await poller.told(6 * HOUR)
        healthy = len(world.sent)
    async with fleet(accounts, sections=COIN_EXP, **REAL) as (world, poller):
        world.trouble = refusing("www", **headers)
        await poller.told(6 * HOUR)

        assert len(world.sent) <= healthy


@run_virtual
async def test_a_host_that_refuses_gets_no_wave_when_its_pause_is_over() -> None:
    async with fleet(500, limits=Limits.none(), timeout=10.0) as (world, poller):
        await poller.told(EVERY / 2)
        world.trouble = refusing("www", Retry_After="1800")
        await poller.told(EVERY)
        refused = len(world.sent)
        await poller.told(3 * HOUR)

        assert len(world.sent) - refused <= 10  # one that tries, each half an hour


@run_virtual
async def test_when_a_host_is_well_again_all_that_waited_comes_soon() -> None:
    async with fleet(50, limits=Limits.none(), timeout=10.0) as (world, poller):
        world.trouble = refusing("www", Retry_After="300")
        await poller.told(290)
        world.mend()
        world.sent.clear()
        await poller.told(20 * MINUTE + 20)

        assert {sent.account for sent in world.sent} == set(range(1, 51))


# --- steering during a pause ----------------------------------------------------------------------


@pytest.mark.parametrize("steer", ["remove", "pause", "replace"])
@pytest.mark.parametrize("limits", [Limits(), Limits(host=RateLimit(rate=0.001, burst=1))])
@run_virtual
async def test_a_login_that_was_taken_back_is_not_sent_again(steer: str, limits: Limits) -> None:
    """Neither after a host's pause, nor out of our own queue."""
    async with fleet(0, **REAL | {"limits": limits}) as (world, poller):
        world.trouble = refusing("www")
        poller.add(name_of(1), credential(1))
        poller.add(name_of(2), credential(2))
        await poller.told(MINUTE)
        match steer:
            case "remove":
                poller.remove(name_of(2))
            case "pause":
                poller.pause(name_of(2))
            case "replace":
                poller.replace_credential(name_of(2), credential(2, "new"))
        world.sent.clear()
        await poller.told(6 * HOUR)

        assert not [s for s in world.sent if (s.account, s.secret) == (2, "secret")]
        assert steer != "replace" or [s for s in world.sent if s.account == 2]


@run_virtual
async def test_an_account_added_again_does_not_wait_for_its_predecessor() -> None:
    async with fleet(latency=1e5) as (world, poller):
        await asyncio.sleep(1)
        poller.remove(name_of(1))
        world.latency = 0.1
        poller.add(name_of(1), credential(1, "new"))
        poller.poll_now(name_of(1))
        (event,) = await poller.told(10)

        assert isinstance(event, SnapshotTaken)
        assert [(sent.at, sent.secret) for sent in world.sent] == [(0, "secret"), (1, "new")]


@run_virtual
async def test_an_account_removed_while_its_event_waits_can_be_added_again_at_once() -> None:
    async with fleet() as (world, poller):
        await asyncio.sleep(MINUTE)  # the event waits to be taken
        poller.remove(name_of(1))
        poller.add(name_of(1), credential(1, "new"))
        events = await poller.told(1)

        assert len(events) == 1
        assert [(sent.at, sent.secret) for sent in world.sent] == [(0, "secret"), (MINUTE, "new")]


@run_virtual
async def test_pausing_and_resuming_an_account_that_stands_in_our_line_loses_no_poll() -> None:
    limits = Limits(host=RateLimit(rate=0.01, burst=1))
    async with fleet(2, **REAL | {"limits": limits}) as (_, poller):
        await poller.told(10)
        poller.pause(name_of(2))
        poller.resume(name_of(2))
        events = await poller.told(120)

        assert of(SnapshotTaken, events, 2)


# --- dead logins ----------------------------------------------------------------------------------


@run_virtual
async def test_pausing_and_resuming_does_not_revive_a_dead_login() -> None:
    async with fleet() as (world, poller):
        world.fails(1, with_=DEAD_LOGIN)
        await poller.told(1)
        poller.pause(name_of(1))
        assert poller.status(name_of(1)).state is AccountState.PAUSED
        poller.resume(name_of(1))

        assert poller.status(name_of(1)).state is AccountState.EXPIRED
        assert await poller.told(HOUR) == []
        assert world.starts() == [0]


@run_virtual
async def test_a_dead_login_that_was_found_while_paused_is_not_forgotten() -> None:
    async with fleet(latency=5.0) as (world, poller):
        world.fails(1, with_=DEAD_LOGIN)
        await asyncio.sleep(1)
        poller.pause(name_of(1))
        events = await poller.told(HOUR)
        assert [type(event) for event in events] == [AccountExpired]
        poller.resume(name_of(1))

        assert poller.status(name_of(1)).state is AccountState.EXPIRED
        assert await poller.told(HOUR) == []
        poller.resume(name_of(1))
        assert [type(event) for event in await poller.told(10)] == [AccountExpired]


@run_virtual
async def test_one_passing_denial_of_one_section_parks_no_living_account() -> None:
    async with fleet(sections=ALL_SECTIONS) as (world, poller):
        await poller.told(1)
        world.fails(1, with_=DEAD_LOGIN, sections=["vip_info"])
        (event,) = await poller.told(EVERY)
        assert isinstance(event.snapshot.failures["vip_info"], NotLoggedIn)
        assert sum(getattr(event.snapshot, name) is not None for name in ALL_SECTIONS) == 7
        world.mend()
        events = await poller.told(MINUTE)

        assert [type(event) for event in events] == [SnapshotTaken]
        assert events[0].snapshot.vip_info is not None
        assert world.starts(1, "vip_info") == [0, EVERY, pytest.approx(EVERY + MINUTE + 0.1)]
        assert len(await poller.told(HOUR)) == 6


@run_virtual
async def test_a_login_that_was_alive_is_asked_once_more_a_minute_later() -> None:
    async with fleet(sections=ALL_SECTIONS, every=timedelta(seconds=10)) as (world, poller):
        await poller.told(5)
        world.fails(1, with_=DEAD_LOGIN)
        events = await poller.told(HOUR)

        assert [type(event) for event in events] == [PollFailed, AccountExpired]
        assert world.starts() == [0, 10, pytest.approx(10 + MINUTE + 0.1)]
        assert poller.status(name_of(1)).state is AccountState.EXPIRED


@run_virtual
async def test_resume_resumes_an_account_whose_login_was_believed_dead() -> None:
    async with fleet() as (world, poller):
        world.fails(1, with_=DEAD_LOGIN)
        await poller.told(HOUR)
        world.mend()
        poller.resume(name_of(1))

        assert [type(event) for event in await poller.told(10)] == [SnapshotTaken]


@run_virtual
async def test_what_came_beside_a_risk_control_is_told_before_the_account_is_parked() -> None:
    def trouble(sent: Sent) -> Reply | None:
        world.latency = 5.0
        return RISK() if sent.section == "vip_info" else None

    async with fleet(sections=["coin_exp", "vip_info"]) as (world, poller):
        world.trouble = trouble
        events = await poller.told(HOUR)

        assert [type(event) for event in events][-1] is AccountParked
        assert len(of(SnapshotTaken, events)) == 1
        assert events[0].snapshot.coin_exp == 20


# --- stores ---------------------------------------------------------------------------------------


class Hanging(MemoryStore):
    """A store of which some methods never return, and perhaps swallow their cancellation."""

    def __init__(self, *methods: str, stubborn: bool = False) -> None:
        super().__init__()
        self.methods = set(methods)
        self.stubborn = stubborn
        self.freed = asyncio.Event()
        self.calls = 0

    async def hang(self, method: str) -> None:
        self.calls += 1
        while method in self.methods and not self.freed.is_set():
            try:
                await self.freed.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise

    async def load(self, account: str) -> AccountSnapshot | None:
        await self.hang("load")
        return await super().load(account)

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        await self.hang("save")
        await super().save(account, snapshot)


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("method", ["load", "save"])
@run_virtual
async def test_a_store_that_never_answers_stops_nobody_and_is_told_of_once(
    method: str, stubborn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = Hanging(method, stubborn=stubborn)
    async with fleet(100, store=store) as (world, poller):
        events = await poller.told(6 * HOUR)
        assert len(of(SnapshotTaken, events)) >= 100 * 35
        assert len(warned(caplog, logging.ERROR)) == 1
        assert f"{method} has not ended within {STORE_SECONDS:.0f} s" in caplog.text
        store.freed.set()
        store.methods.clear()
        await poller.told(2 * EVERY)
        for number in range(1, 101):
            world.becomes(number, "coin_exp", 30)
        events = await poller.told(EVERY)

        assert len(of(Changed, events)) >= 99


@run_virtual
async def test_leaving_is_bounded_though_a_save_swallows_its_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Hanging("save", stubborn=True)
    async with fleet(store=store) as (_, poller):
        await poller.told(1)
        left_at = now()
    assert now() - left_at <= 2 * LEAVING + 0.1
    assert "does not let go" in caplog.text
    store.freed.set()
    await asyncio.sleep(0.1)


async def test_leaving_with_a_locked_database_takes_no_longer_than_the_poller_allows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.sqlite3"
    loop = asyncio.get_running_loop()
    async with Sandbox() as sandbox, SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            async with (
                SessionManager(hosts=sandbox.hosts) as manager,
                Poller(manager, store=store) as poller,
            ):
                poller.add("alice", sandbox.add_account().credential)
                assert isinstance(await anext(poller), SnapshotTaken)
                left_at = loop.time()
            await store.close()
            assert loop.time() - left_at < LEAVING + 0.3
        finally:
            other.execute("ROLLBACK")
            other.close()
    assert "does not let go" not in caplog.text


# --- other people's code --------------------------------------------------------------------------


class Moody(LocalLimiter):
    """A limiter of one's own whose backend is away at times."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Limits.none(), Seam())
        self.broken = False

    async def acquire(self, host: str, account: str, *, patience: float) -> Any:
        if self.broken:
            raise ConnectionError("the backend is away")
        return await super().acquire(host, account, patience=patience)


@run_virtual
async def test_a_limiter_that_raises_is_a_failed_poll_and_no_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = Moody()
    async with fleet(3, sections=ALL_SECTIONS, limits=None, limiter=limiter) as (_, poller):
        await poller.told(1)
        limiter.broken = True
        failed = await poller.told(1.5 * EVERY)
        assert {type(event) for event in failed} == {PollFailed}
        assert "ConnectionError" in str(failed[0].error)
        assert "the backend is away" in caplog.text
        limiter.broken = False

        assert len(of(SnapshotTaken, await poller.told(HOUR))) >= 9
    limiter.close()


@run_virtual
async def test_on_event_that_raises_is_logged_and_polling_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[PollEvent] = []

    def note(event: PollEvent) -> None:
        told.append(event)
        raise ValueError("not today")

    async with fleet(3, on_event=note):
        await asyncio.sleep(3 * EVERY)

    assert len(told) >= 9
    assert "on_event raised for SnapshotTaken of account-1: polling goes on" in caplog.text
    assert "not today" in caplog.text


@run_virtual
async def test_on_event_may_be_a_coroutine_function_and_gets_one_event_at_a_time() -> None:
    at_work = most = told = 0

    async def note(event: PollEvent) -> None:
        nonlocal at_work, most, told
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1
        told += 1
        if told == 2:
            raise asyncio.CancelledError

    async with fleet(5, on_event=note):
        await asyncio.sleep(2.5 * EVERY)

    assert most == 1
    assert told >= 10


@run_virtual
async def test_a_poller_is_opened_and_closed_by_hosts_with_hooks() -> None:
    told: list[PollEvent] = []
    async with world_and_manager() as (_, manager):
        poller = Poller(manager, on_event=told.append)
        await poller.close()
        await poller.open()
        poller.add("alice", credential())
        await asyncio.sleep(1)
        await poller.close()
        await poller.close()

        assert [type(event) for event in told] == [SnapshotTaken]
        assert [event async for event in poller] == []
        with pytest.raises(RuntimeError, match="make a new one"):
            await poller.open()


@run_virtual
async def test_on_event_may_close_the_poller() -> None:
    async with world_and_manager() as (_, manager):
        closed = asyncio.Event()

        async def end(event: PollEvent) -> None:
            await poller.close()
            closed.set()

        poller = Poller(manager, on_event=end)
        await poller.open()
        poller.add("alice", credential())
        await closed.wait()


@run_virtual
async def test_the_log_and_close_tell_of_events_that_nobody_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(100) as (_, poller):

        async def crash() -> None:
            async for _ in poller:
                raise ZeroDivisionError

        crashed = asyncio.create_task(crash())
        await asyncio.sleep(EVERY)
        assert isinstance(crashed.exception(), ZeroDivisionError)
        assert len(warned(caplog)) == 1
        assert "no event was taken for 60 s" in warned(caplog)[0]
    assert "nobody takes its events" in warned(caplog, logging.ERROR)[0]


@run_virtual
async def test_an_event_is_not_taken_in_the_turn_in_which_its_poll_is_cancelled() -> None:
    async with fleet(3) as (_, poller):
        await asyncio.sleep(1)  # three events wait
        taking = asyncio.ensure_future(anext(poller))
        for account in poller._accounts.values():
            assert account.task is not None
            account.task.cancel()
        await asyncio.sleep(1)
        assert not taking.done()
        taking.cancel()


@run_virtual
async def test_a_consumer_that_is_slow_but_takes_is_no_stall(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(30, every=timedelta(seconds=10)) as (_, poller):
        async for _ in poller:
            await asyncio.sleep(30)
            if now() > HOUR:
                break
    assert not warned(caplog)


# --- failures of sections -------------------------------------------------------------------------


@run_virtual
async def test_sections_that_keep_failing_back_off_by_themselves() -> None:
    async with fleet(sections=ALL_SECTIONS) as (world, poller):
        world.fails(1, with_=GONE, sections=ALL_SECTIONS - {"coin_exp"})
        await poller.told(24 * HOUR)
        failed = [sent for sent in world.sent if sent.section != "coin_exp"]
        assert len(failed) <= 7 * 28
        assert len(world.starts()) == 144
        world.mend()
        events = await poller.told(2 * HOUR)

        assert events[-1].snapshot.complete
        assert len(events) <= 13  # what backs off stays on the account's grid


# --- memory, clocks, truth ------------------------------------------------------------------------


@run_virtual
async def test_a_removed_account_s_secret_is_free_at_once() -> None:
    async with fleet(0, every=timedelta(days=300)) as (_, poller):
        logins = [credential(number) for number in range(1, 30)]
        gone = [weakref.ref(login) for login in logins]
        for number, login in enumerate(logins, 1):
            poller.add(name_of(number), login)
        del logins, login
        await poller.told(10)
        for number in range(1, 30):
            poller.remove(name_of(number))

        gc.collect()
        assert not [login for login in gone if login() is not None]


@run_virtual
async def test_after_a_sleep_of_the_machine_what_was_missed_is_polled_once_and_soon() -> None:
    async with fleet(20) as (world, poller):
        await poller.told(EVERY)
        world.sent.clear()
        world.slept += 8 * HOUR
        woke = now()
        await poller.told(MINUTE)

        assert {sent.account for sent in world.sent} == set(range(1, 21))
        assert len(world.sent) <= 20 + 20 / 10 + 1  # and those whose time came in that minute
        assert max(world.starts(number)[0] for number in range(1, 21)) - woke <= 31
        await poller.told(HOUR)
        assert all(5 <= len(world.starts(number)) <= 8 for number in range(1, 21))


@run_virtual
async def test_a_wall_clock_that_is_set_back_silences_nobody() -> None:
    async with fleet(20) as (world, poller):
        await poller.told(EVERY)
        world.sent.clear()
        world.slept -= 3 * HOUR
        await poller.told(HOUR)

        assert all(5 <= len(world.starts(number)) <= 7 for number in range(1, 21))
        due = poller.status(name_of(1)).next_at
        assert due is not None
        assert -1 <= (due - WALL).total_seconds() - now() + 3 * HOUR <= EVERY + 12


@run_virtual
async def test_a_change_is_told_at_once_though_the_values_hash_alike() -> None:
    assert hash(-1) == hash(-2)
    async with fleet() as (world, poller):
        world.becomes(1, "coin_exp", -1)
        await poller.told(1)
        world.becomes(1, "coin_exp", -2)
        events = await poller.told(EVERY)

        (changed,) = of(Changed, events)
        assert [(change.old, change.new) for change in changed.changes] == [(-1, -2)]


def test_values_that_differ_in_any_field_have_digests_that_differ() -> None:
    entry = CoinLogEntry(time=WALL, delta=Decimal(1), reason="a")
    assert [field.name for field in attrs.fields(CoinLogEntry)] == ["time", "delta", "reason"]
    assert [field.name for field in attrs.fields(CoinLog)] == ["entries", "count"]
    logs = [
        CoinLog(entries=entries, count=count)
        for entries, count in [
            ((), 0),
            ((), 1),
            ((entry,), 1),
            ((entry, entry), 1),
            ((attrs.evolve(entry, time=WALL + timedelta(seconds=1)),), 1),
            ((attrs.evolve(entry, delta=Decimal(2)),), 1),
            ((attrs.evolve(entry, reason="b"),), 1),
        ]
    ]
    safety = OF_SECTIONS["security_info"]
    others = [
        *(-1, -2, True, False),
        safety,
        attrs.evolve(safety, account_safe=attrs.evolve(safety.account_safe, score=-1)),
        attrs.evolve(safety, account_safe=attrs.evolve(safety.account_safe, score=-2)),
        attrs.evolve(safety, account_other=attrs.evolve(safety.account_other, skip_verify=True)),
        attrs.evolve(safety, account_other=attrs.evolve(safety.account_other, skip_verify=False)),
    ]
    digests = [_digest(value) for value in [*logs, *others]]
    assert len(set(digests)) >= len(digests) - 1  # one of the last two is the sample itself


def test_a_change_prints_well() -> None:
    entry = CoinLogEntry(time=datetime(2026, 1, 1, tzinfo=UTC), delta=Decimal("-2"), reason="打赏")
    assert str(Change(path="vip_info.vip_status", old=VipStatus.NORMAL, new=VipStatus.FROZEN)) == (
        "vip_info.vip_status: NORMAL → FROZEN"
    )
    assert str(Change(path="coin_exp", old=10, new=20)) == "coin_exp: 10 → 20"
    assert str(Change(path="account_info.sign", old="", new="\x1b[2J")) == (
        "account_info.sign: '' → '\\x1b[2J'"
    )
    assert (
        str(Change(path="coin_log.entries", old=(), new=(entry,))) == "coin_log.entries: -2 '打赏'"
    )
