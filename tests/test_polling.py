"""The Poller: schedule, steering, failures, changes, the program's side and the manager's.

All of it on a virtual clock. Faults that were found have a file of their own, and so have sections
at their own pace.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import pickle
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from random import Random
from threading import Thread

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
    Fleet,
    Reply,
    Sent,
    code,
    credential,
    fleet,
    name_of,
    now,
    of,
    phase_of,
    seconds,
    status,
    world_and_manager,
)
from hypothesis import given
from hypothesis import strategies as st
from samples_of import OF_SECTIONS
from strategies import fuzz
from virtual import run_virtual, turns

from bili_account_async import (
    ALL_SECTIONS,
    AccountExpired,
    AccountParked,
    AccountSnapshot,
    AccountState,
    BiliError,
    Change,
    Changed,
    Credential,
    CredentialMissing,
    Hosts,
    Limits,
    MemoryStore,
    NotLoggedIn,
    Poller,
    PollEvent,
    PollFailed,
    ProtocolError,
    RateLimit,
    RateLimited,
    RealnameStatus,
    Retry,
    RiskControlled,
    SessionManager,
    SnapshotTaken,
    TransportError,
    VipStatus,
)
from bili_account_async.polling import poller as rounds
from bili_account_async.polling import schedule
from bili_account_async.sandbox import Fault, Sandbox

# --- schedule -------------------------------------------------------------------------------------


@pytest.mark.parametrize("accounts", [2, 10, 100])
@run_virtual
async def test_all_are_seen_at_once_in_order_of_adding_and_are_spread_evenly_from_then_on(
    accounts: int,
) -> None:
    async with fleet(accounts) as (world, poller):
        await poller.told(1)
        assert [sent.account for sent in world.sent] == list(range(1, accounts + 1))
        world.sent.clear()
        await poller.told(1.5 * EVERY)

        seconds_to_next = [world.starts(number)[0] for number in range(1, accounts + 1)]
        assert min(seconds_to_next) >= EVERY / 2
        assert max(seconds_to_next) <= 1.5 * EVERY
        for _ in range(3):
            world.sent.clear()
            await poller.told(EVERY)
            phases = sorted(sent.at % EVERY for sent in world.sent)
            assert len(phases) == accounts
            gaps = [later - earlier for earlier, later in pairwise([*phases, phases[0] + EVERY])]
            assert max(gaps) < 2.7 * EVERY / accounts


@run_virtual
async def test_five_accounts_are_seen_within_what_the_budget_allows() -> None:
    async with fleet(5, sections=ALL_SECTIONS, limits=Limits()) as (_, poller):
        events = await poller.told(11)  # 30 calls of api: a burst of 12, then two a second

        assert [event.account for event in of(SnapshotTaken, events)] == [
            name_of(number) for number in range(1, 6)
        ]
        assert all(event.snapshot.complete for event in events)


@run_virtual
async def test_accounts_that_are_added_one_by_one_are_spread_as_well() -> None:
    every = EVERY * 0.381966  # the worst time between two additions if each were spread on its own
    async with fleet(0) as (world, poller):
        for number in range(1, 101):
            poller.add(name_of(number), credential(number))
            await poller.told(every)
        assert poller.stats().lag_p99 == 0
        world.sent.clear()
        await poller.told(EVERY)

        phases = sorted(sent.at % EVERY for sent in world.sent)
        assert len(phases) == 100
        assert (
            max(later - earlier for earlier, later in pairwise([*phases, phases[0] + EVERY]))
            < 2.7 * EVERY / 100
        )


@run_virtual
async def test_a_poll_comes_late_on_purpose_by_two_percent_at_most() -> None:
    random = Random(1)
    async with fleet(20, random=random.random) as (world, poller):
        await poller.told(20 * EVERY)

        late = [
            (at - phase_of(number)) % EVERY
            for number in range(1, 21)
            for at in world.starts(number)[1:]
        ]
        assert max(late) <= 0.02 * EVERY
        assert max(late) > 0.9 * 0.02 * EVERY
        assert 0 <= min(late) < 0.1 * 0.02 * EVERY


@run_virtual
async def test_an_account_never_drifts_in_24_hours_of_slow_replies() -> None:
    async with fleet(3, latency=47.0, random=Random(2).random) as (world, poller):
        await poller.told(24 * HOUR - 1)

        for number in (1, 2, 3):
            _, *starts = world.starts(number)
            assert len(starts) in (143, 144)
            first = starts[0] - (starts[0] - phase_of(number)) % EVERY
            assert all(
                -1e-6 <= at - first - turn * EVERY <= 0.02 * EVERY for turn, at in enumerate(starts)
            )


@run_virtual
async def test_replies_that_take_no_time_do_not_bring_a_poll_twice() -> None:
    async with fleet(3, latency=0.0, every=timedelta(seconds=0.7)) as (world, poller):
        await poller.told(700.1)

        assert [len(world.starts(number)) for number in (1, 2, 3)] == [1001, 1001, 1000]


@run_virtual
async def test_a_poll_that_overruns_skips_and_does_not_queue_up() -> None:
    async with fleet(every=timedelta(seconds=10), latency=25.0) as (world, poller):
        await poller.told(100)
        world.latency = 1.0
        await poller.told(50)

        assert world.starts() == [0, 30, 60, 90, 120, 130, 140]


@run_virtual
async def test_idle_accounts_have_no_task() -> None:
    async with fleet(1000) as (_, poller):
        await poller.told(EVERY + 5)

        assert poller.stats().accounts[AccountState.WAITING] == 1000
        assert len(asyncio.all_tasks()) == 2  # the test, and the poller's one


@run_virtual
async def test_every_and_sections_are_the_poller_s_unless_the_account_has_its_own() -> None:
    async with fleet(0, sections=ALL_SECTIONS) as (world, poller):
        poller.add(name_of(1), credential(1))
        poller.add(
            name_of(2),
            credential(2),
            every=timedelta(minutes=30),
            sections=["vip_info", "coin_exp"],
        )
        events = await poller.told(3 * HOUR - 1)

        assert (len(world.starts(1)), len(world.starts(2))) == (18, 7)
        assert {sent.section for sent in world.sent if sent.account == 1} == ALL_SECTIONS
        assert {sent.section for sent in world.sent if sent.account == 2} == {
            "vip_info",
            "coin_exp",
        }
        assert of(SnapshotTaken, events, 1)[0].snapshot.complete
        snapshot = of(SnapshotTaken, events, 2)[0].snapshot
        assert snapshot.complete
        assert (snapshot.coin_exp, snapshot.account_info) == (20, None)


@run_virtual
async def test_sections_that_the_credential_can_not_ask_for_are_skipped() -> None:
    async with fleet(0, sections=ALL_SECTIONS) as (_, poller):
        poller.add(name_of(1), Credential(access_key="key"))
        (event,) = await poller.told(EVERY - 1)

        assert event.snapshot.skipped == {"coin_exp", "vip_info"}
        assert not event.snapshot.failures


@run_virtual
async def test_a_credential_that_no_section_can_be_asked_with_is_refused() -> None:
    async with fleet(1) as (world, poller):
        with pytest.raises(CredentialMissing, match=r"account-2.*dede_user_id"):
            poller.add(name_of(2), Credential(sessdata="secret"))
        with pytest.raises(CredentialMissing, match=r"account-1.*cookie"):
            poller.replace_credential(name_of(1), Credential(access_key="key"))
        events = await poller.told(EVERY + 1)

        assert [event.account for event in events] == [name_of(1)] * 2
        assert {sent.secret for sent in world.sent} == {"secret"}


# --- steering -------------------------------------------------------------------------------------


@run_virtual
async def test_accounts_come_and_go_while_it_runs() -> None:
    async with fleet(2) as (world, poller):
        await poller.told(1)
        poller.remove(name_of(2))
        poller.add(name_of(3), credential(3))
        events = await poller.told(10 * EVERY)

        assert {event.account for event in events} == {name_of(1), name_of(3)}
        assert world.starts(2) == [0]
        assert sum(poller.stats().accounts.values()) == 2


@pytest.mark.parametrize("workers", [1, 64])
@run_virtual
async def test_poll_now_polls_once_at_once_and_leaves_the_grid_as_it_is(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WORKERS", workers)
    async with fleet() as (world, poller):
        await poller.told(100)
        poller.poll_now(name_of(1))
        poller.poll_now(name_of(1))
        await poller.told(2 * EVERY)

        assert world.starts() == [0, 100, 600, 1200]


@run_virtual
async def test_an_account_that_is_asked_for_while_it_waits_for_its_turn_is_polled_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "WORKERS", 1)
    async with fleet(3, latency=5.0) as (world, poller):
        await poller.told(EVERY - 1)
        for number in (1, 2, 3):
            poller.poll_now(name_of(number))
        world.sent.clear()
        for _ in range(3):
            await poller.told(1)
            for number in (1, 2, 3):
                poller.poll_now(name_of(number))
        await poller.told(50)

        assert Counter(sent.account for sent in world.sent) == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("wait", [0, 1])
@run_virtual
async def test_poll_now_in_answer_to_an_event_polls_again(wait: float) -> None:
    async with fleet() as (world, poller):
        world.fails(1, with_=GONE)
        async for event in poller:
            assert isinstance(event, PollFailed)
            if len(world.sent) == 3:
                break
            if wait:
                await asyncio.sleep(wait)
            poller.poll_now(event.account)

        assert world.starts() == pytest.approx([0, 0.1 + wait, 0.2 + 2 * wait])


@run_virtual
async def test_poll_now_during_a_poll_does_not_poll_twice() -> None:
    async with fleet(latency=5.0) as (world, poller):
        for _ in range(4):
            await asyncio.sleep(1)
            poller.poll_now(name_of(1))
        await poller.told(EVERY)

        assert world.starts() == [0, EVERY]


@run_virtual
async def test_a_paused_account_is_left_out_until_it_is_resumed() -> None:
    async with fleet(2) as (world, poller):
        await poller.told(1)
        poller.pause(name_of(1))
        assert poller.status(name_of(1)).state is AccountState.PAUSED
        assert poller.status(name_of(1)).next_at is None
        await poller.told(HOUR)
        poller.poll_now(name_of(1))
        await poller.told(1)
        assert world.starts() == [0]
        poller.resume(name_of(1))
        await poller.told(EVERY)

        assert world.starts() == [0, HOUR + 2, HOUR + 600]
        assert len(world.starts(2)) == 8
        assert poller.stats().lag_p99 == 0  # a pause is no lag


@run_virtual
async def test_a_poll_under_way_still_tells_when_its_account_is_paused() -> None:
    async with fleet(latency=5.0) as (world, poller):
        await asyncio.sleep(1)
        poller.pause(name_of(1))
        events = await poller.told(HOUR)

        assert [type(event) for event in events] == [SnapshotTaken]
        assert world.starts() == [0]


@run_virtual
async def test_pausing_and_resuming_during_a_poll_changes_nothing() -> None:
    async with fleet(latency=5.0) as (world, poller):
        await asyncio.sleep(1)
        poller.pause(name_of(1))
        poller.resume(name_of(1))
        assert poller.status(name_of(1)).state is AccountState.POLLING
        events = await poller.told(EVERY + 10)

        assert len(of(SnapshotTaken, events)) == 2
        assert world.starts() == [0, EVERY]


@run_virtual
async def test_a_removed_account_s_poll_ends_without_an_event() -> None:
    async with fleet(latency=5.0) as (world, poller):
        await asyncio.sleep(1)
        poller.remove(name_of(1))

        assert await poller.told(HOUR) == []
        assert world.starts() == [0]


@run_virtual
async def test_an_event_that_waits_is_not_told_of_an_account_that_was_removed_meanwhile() -> None:
    async with fleet(3) as (_, poller):
        await asyncio.sleep(EVERY)  # now all three wait to tell
        poller.remove(name_of(2))
        events = await poller.told(10)

        assert {event.account for event in events} == {name_of(1), name_of(3)}


@run_virtual
async def test_an_account_removed_and_added_again_during_its_poll_does_not_overlap_itself() -> None:
    async with fleet(latency=5.0, every=timedelta(seconds=10)) as (world, poller):
        await asyncio.sleep(1)
        poller.remove(name_of(1))
        poller.add(name_of(1), credential(1), every=timedelta(seconds=2))
        poller.poll_now(name_of(1))
        events = await poller.told(18)

        assert world.starts()[1] == 1  # nobody waits for what nobody will hear of
        assert world.starts()[2] >= world.starts()[1] + 5
        assert len(of(SnapshotTaken, events)) == len(world.starts()) - 1


@run_virtual
async def test_a_new_credential_is_used_from_the_next_poll_on() -> None:
    async with fleet(latency=5.0) as (world, poller):
        await asyncio.sleep(1)
        poller.replace_credential(name_of(1), credential(1, "new"))
        events = await poller.told(EVERY + 10)

        assert [(sent.at, sent.secret) for sent in world.sent] == [(0, "secret"), (EVERY, "new")]
        assert len(of(SnapshotTaken, events)) == 2


@pytest.mark.parametrize(
    "failure", [DEAD_LOGIN, RISK, GONE], ids=["dead login", "risk control", "failure"]
)
@run_virtual
async def test_a_failure_of_the_old_login_is_not_held_against_the_new_one(
    failure: Callable[[], Reply],
) -> None:
    async with fleet(latency=5.0) as (world, poller):
        world.trouble = lambda sent: failure() if sent.secret == "secret" else None
        await asyncio.sleep(1)
        poller.replace_credential(name_of(1), credential(1, "new"))
        events = await poller.told(20)

        assert [type(event) for event in events] == [SnapshotTaken]
        assert [(sent.at, sent.secret) for sent in world.sent] == [(0, "secret"), (5, "new")]
        assert poller.stats().failures == 0


@run_virtual
async def test_steering_much_and_often_leaves_nothing_behind() -> None:
    async with fleet(50) as (_, poller):
        consumer = asyncio.create_task(poller.told())
        for turn in range(2000):
            name = name_of(1 + turn % 50)
            poller.pause(name)
            poller.resume(name)
            poller.poll_now(name)
            if turn % 10 == 0:
                await asyncio.sleep(0.5)
        await asyncio.sleep(5)

        assert len(poller._line) <= 2 * (2 * 50 + 64) + 1
        consumer.cancel()


# --- failures -------------------------------------------------------------------------------------


@run_virtual
async def test_a_failing_account_backs_off_alone_up_to_an_hour_and_comes_back_to_its_grid() -> None:
    async with fleet(2) as (world, poller):
        world.fails(1, with_=GONE)
        events = await poller.told(4 * HOUR)
        world.mend()
        await poller.told(2 * HOUR - 1)

        waits = [later - earlier for earlier, later in pairwise(world.starts(1))]
        assert waits[:5] == pytest.approx([20 * MINUTE + 0.1, 40 * MINUTE + 0.1, *3 * [HOUR + 0.1]])
        back = world.starts(1)[5:]
        assert len(back) > 6
        assert all(at % EVERY == pytest.approx(0) for at in back[2:])
        assert back[-1] - back[1] == pytest.approx(EVERY * (len(back) - 2))
        others = world.starts(2)[1:]
        assert [at - others[0] for at in others] == pytest.approx(
            [EVERY * turn for turn in range(36)]
        )
        failed = of(PollFailed, events)
        assert {event.account for event in failed} == {name_of(1)}
        assert isinstance(failed[0].error, ProtocolError)
        assert [seconds(event.next_at) for event in failed] == pytest.approx(world.starts(1)[1:6])


@run_virtual
async def test_a_success_ends_the_backoff() -> None:
    async with fleet() as (world, poller):
        world.trouble = lambda sent: None if len(world.sent) in (3, 5) else GONE()
        await poller.told(3 * HOUR)

        assert [round(at / EVERY) for at in world.starts()] == [0, 2, 6, 7, 9, 10, 12, 16]


@run_virtual
async def test_an_interval_longer_than_an_hour_is_kept_by_a_failing_account() -> None:
    async with fleet(every=timedelta(hours=5)) as (world, poller):
        world.fails(1, with_=GONE)
        await poller.told(24 * HOUR)

        assert [later - earlier for earlier, later in pairwise(world.starts())] == pytest.approx(
            [5 * HOUR + 0.1] * 4
        )


@run_virtual
async def test_a_pause_that_a_failure_asks_for_is_kept_if_it_is_longer_than_the_backoff() -> None:
    async with fleet(sections=["coin_exp", "vip_info"]) as (world, poller):
        patient = status(503, Retry_After="7000")
        world.trouble = lambda sent: patient() if sent.section == "vip_info" else GONE()
        (failed,) = await poller.told(1)
        world.mend()
        await poller.told(2 * HOUR)

        assert seconds(failed.next_at) == pytest.approx(7000.1)
        assert world.starts()[1] == pytest.approx(7000.1)


@run_virtual
async def test_a_poll_with_one_section_is_a_snapshot_with_failures_and_no_failed_poll() -> None:
    async with fleet(sections=ALL_SECTIONS) as (world, poller):
        world.fails(1, with_=GONE, sections=ALL_SECTIONS - {"coin_exp"})
        events = await poller.told(2 * EVERY)

        assert [type(event) for event in events] == [SnapshotTaken] * 2
        assert events[0].snapshot.coin_exp == 20
        assert set(events[0].snapshot.failures) == ALL_SECTIONS - {"coin_exp"}
        assert world.starts() == [0, EVERY]
        assert poller.stats().failures == 0


@run_virtual
async def test_a_failed_poll_has_no_section() -> None:
    async with fleet(sections=ALL_SECTIONS) as (world, poller):
        world.fails(1, with_=GONE)
        (event,) = await poller.told(EVERY)

        match event:
            case PollFailed(account, ProtocolError() as error, next_at):
                assert (account, error.status, seconds(next_at)) == (
                    name_of(1),
                    404,
                    pytest.approx(1200.1),
                )
            case _:
                pytest.fail(f"{event!r}")
        assert poller.status(name_of(1)).next_at == event.next_at
        assert (poller.stats().polls, poller.stats().failures) == (1, 1)


@run_virtual
async def test_a_dead_login_parks_the_account_until_it_has_a_new_credential() -> None:
    async with fleet(2, sections=ALL_SECTIONS) as (world, poller):
        world.trouble = lambda sent: (
            DEAD_LOGIN() if (sent.account, sent.secret) == (1, "secret") else None
        )
        events = await poller.told(5 * HOUR)
        match of(AccountExpired, events):
            case [AccountExpired(account, NotLoggedIn() as error)]:
                assert (account, error.code) == (name_of(1), -101)
            case _:
                pytest.fail(f"{events!r}")
        assert poller.status(name_of(1)).state is AccountState.EXPIRED
        assert len(of(SnapshotTaken, events, 2)) == 31
        poller.poll_now(name_of(1))
        await poller.told(HOUR)
        assert world.starts(1) == [0]

        poller.replace_credential(name_of(1), credential(1, "new"))
        events = await poller.told(EVERY - 1)

        assert world.starts(1) == [0, 6 * HOUR]
        assert len(of(SnapshotTaken, events, 1)) == 1


@run_virtual
async def test_risk_control_parks_the_account_until_it_is_resumed() -> None:
    async with fleet(2) as (world, poller):
        world.fails(1, with_=RISK)
        events = await poller.told(5 * HOUR)
        match of(AccountParked, events):
            case [AccountParked(account, RiskControlled())]:
                assert account == name_of(1)
            case _:
                pytest.fail(f"{events!r}")
        assert poller.status(name_of(1)).state is AccountState.PARKED
        poller.poll_now(name_of(1))
        poller.replace_credential(name_of(1), credential(1, "new"))
        await poller.told(HOUR)
        assert world.starts(1) == [0]

        world.mend()
        poller.resume(name_of(1))
        events = await poller.told(EVERY - 1)

        assert world.starts(1) == [0, 6 * HOUR]
        assert len(of(SnapshotTaken, events, 1)) == 1


@pytest.mark.parametrize("wait", [0, 1])
@run_virtual
async def test_a_program_may_answer_a_dead_login_with_a_new_one_at_once(wait: float) -> None:
    async with fleet() as (world, poller):
        world.trouble = lambda sent: DEAD_LOGIN() if sent.secret == "secret" else None
        events = []
        async for event in poller:
            events.append(type(event))
            if isinstance(event, SnapshotTaken):
                break
            if wait:
                await asyncio.sleep(wait)
            poller.replace_credential(event.account, credential(1, "new"))

        assert events == [AccountExpired, SnapshotTaken]
        assert world.starts() == pytest.approx([0, 0.1 + wait])


@run_virtual
async def test_a_dead_login_of_a_paused_account_is_told_and_the_account_stays_paused() -> None:
    async with fleet(latency=5.0) as (world, poller):
        world.fails(1, with_=DEAD_LOGIN)
        await asyncio.sleep(1)
        poller.pause(name_of(1))
        events = await poller.told(HOUR)
        poller.replace_credential(name_of(1), credential(1, "new"))
        await poller.told(HOUR)

        assert [type(event) for event in events] == [AccountExpired]
        assert poller.status(name_of(1)).state is AccountState.PAUSED
        assert world.starts() == [0]


@pytest.mark.parametrize(
    "limits", [Limits.none(), Limits(host=RateLimit(rate=100, burst=10), account=None)]
)
@run_virtual
async def test_a_host_s_pause_slows_all_and_fails_none(
    limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(
        20, sections=["coin_exp", "vip_info"], limits=limits, retry=Retry(), timeout=10.0
    ) as (
        world,
        poller,
    ):
        pause = status(429, Retry_After="900")
        world.trouble = lambda sent: pause() if 300 <= sent.at < 340 else None
        events = await poller.told(4 * EVERY)
        sent = [sent.at for sent in world.sent]

        assert not of(PollFailed, events)
        assert not [event for event in of(SnapshotTaken, events) if event.snapshot.failures]
        (silent_from, silent_until) = max(pairwise(sent), key=lambda pair: pair[1] - pair[0])
        assert 300 <= silent_from < 340
        assert 900 <= silent_until - silent_from < 901
        assert all(len(world.starts(number)) >= 3 for number in range(1, 21))
        assert poller.stats().failures == 0
        assert poller.stats().throttled == pytest.approx(900, abs=5)
    assert "a host asks for a pause of 900 s" in caplog.text


@run_virtual
async def test_a_host_that_pauses_without_telling_for_how_long_is_not_hammered() -> None:
    async with fleet(70, every=timedelta(seconds=10), retry=Retry(), timeout=10.0) as (
        world,
        poller,
    ):
        world.trouble = lambda sent: status(412, Retry_After="0")()
        assert await poller.told(50) == []
        assert len(world.sent) <= 64 * 3 * 51  # 64 polls, three attempts each a second
        world.trouble = lambda sent: status(412)()
        world.sent.clear()
        assert await poller.told(HOUR) == []
        assert len(world.sent) < 64 * 64  # about a minute between the tries


@run_virtual
async def test_a_throttled_account_is_throttled_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WORKERS", 2)
    limits = Limits(host=RateLimit(rate=100, burst=100))
    async with fleet(
        20, every=timedelta(minutes=1), limits=limits, retry=Retry(), timeout=10.0
    ) as (world, poller):
        world.fails(7, with_=code(-509, "请求过于频繁"))
        events = await poller.told(HOUR - 1)

        assert {event.account for event in of(PollFailed, events)} == {name_of(7)}
        assert of(PollFailed, events)[0].error.scope == "account"
        for number in set(range(1, 21)) - {7}:
            _, *starts = world.starts(number)
            assert starts == pytest.approx([starts[0] + 60 * turn for turn in range(len(starts))])
            assert len(starts) >= 59


@run_virtual
async def test_a_throttle_of_one_section_is_a_partial_snapshot() -> None:
    async with fleet(sections=["coin_exp", "vip_info"], retry=Retry(), timeout=10.0) as (
        world,
        poller,
    ):
        world.fails(1, with_=code(-799, "请求过于频繁"), sections=["vip_info"])
        (taken,) = await poller.told(EVERY - 1)

        assert taken.snapshot.coin_exp == 20
        assert isinstance(taken.snapshot.failures["vip_info"], RateLimited)


# --- changes --------------------------------------------------------------------------------------


@run_virtual
async def test_the_first_snapshot_is_a_baseline_and_a_change_is_told_once_after_its_snapshot() -> (
    None
):
    async with fleet(sections=ALL_SECTIONS) as (world, poller):
        events = await poller.told(3 * EVERY - 1)
        assert [type(event) for event in events] == [SnapshotTaken] * 3
        world.becomes(1, "coin_exp", 30)
        events = await poller.told(3 * EVERY)

        assert [type(event) for event in events] == [
            SnapshotTaken,
            Changed,
            SnapshotTaken,
            SnapshotTaken,
        ]
        match events[1]:
            case Changed(account, changes, snapshot):
                assert (account, snapshot) == (name_of(1), events[0].snapshot)
                assert changes == (Change(path="coin_exp", old=20, new=30),)
            case _:
                pytest.fail(f"{events[1]!r}")


@run_virtual
async def test_a_failed_section_is_no_change_and_keeps_its_last_good_value() -> None:
    async with fleet(sections=["coin_exp", "realname_status"]) as (world, poller):
        await poller.told(EVERY - 1)
        world.fails(1, with_=GONE, sections=["coin_exp"])
        world.becomes(1, "coin_exp", 30)
        events = await poller.told(2 * EVERY)
        assert [type(event) for event in events] == [SnapshotTaken] * 2
        world.mend()
        events = await poller.told(EVERY)

        assert [change for event in of(Changed, events) for change in event.changes] == [
            Change(path="coin_exp", old=20, new=30)
        ]


@run_virtual
async def test_a_failed_poll_is_no_change() -> None:
    async with fleet() as (world, poller):
        await poller.told(EVERY - 1)
        world.fails(1, with_=GONE)
        await poller.told(EVERY)
        world.mend()

        assert not of(Changed, await poller.told(3 * EVERY))


@run_virtual
async def test_a_section_that_comes_for_the_first_time_is_a_baseline() -> None:
    async with fleet(sections=["coin_exp", "realname_status"]) as (world, poller):
        world.fails(1, with_=GONE, sections=["coin_exp"])
        await poller.told(EVERY - 1)
        world.mend()

        assert not of(Changed, await poller.told(EVERY))


@run_virtual
async def test_without_tracking_nothing_is_kept_and_no_change_told() -> None:
    async with fleet(track_changes=False) as (world, poller):
        await poller.told(1)
        world.becomes(1, "coin_exp", 30)
        events = await poller.told(3 * EVERY)

        assert [type(event) for event in events] == [SnapshotTaken] * 3


@run_virtual
async def test_a_store_with_an_older_snapshot_tells_what_changed_meanwhile() -> None:
    store = MemoryStore()
    await store.save(name_of(1), AccountSnapshot(taken_at=WALL - timedelta(days=9), coin_exp=10))
    async with fleet(2, store=store) as (_, poller):
        events = await poller.told(EVERY)

        assert [(event.account, event.changes) for event in of(Changed, events)] == [
            (name_of(1), (Change(path="coin_exp", old=10, new=20),))
        ]


@attrs.define
class Moment:
    """One poll of the model: each section's value, or None where it fails, and whether the program
    restarts before.
    """

    coin_exp: int | None
    realname_status: int | None
    restart: bool


moments = st.builds(
    Moment, st.none() | st.integers(0, 2), st.none() | st.sampled_from([0, 1, 7]), st.booleans()
)


@fuzz
@given(story=st.lists(moments, min_size=1, max_size=12))
def test_what_is_told_is_what_differs_from_the_last_known_values_also_across_restarts(
    story: list[Moment],
) -> None:
    run_virtual(live_through)(story)


async def live_through(story: list[Moment]) -> None:
    store = MemoryStore()
    known: dict[str, int] = {}
    while story:
        chapter = [story[0]]
        for moment in story[1:]:
            if moment.restart:
                break
            chapter.append(moment)
        story = story[len(chapter) :]
        async with fleet(
            sections=["coin_exp", "realname_status"], every=timedelta(seconds=1), store=store
        ) as (
            world,
            poller,
        ):
            for moment in chapter:
                values = {name: getattr(moment, name) for name in ("coin_exp", "realname_status")}
                good = {name: value for name, value in values.items() if value is not None}
                for name, value in good.items():
                    world.becomes(1, name, value)
                world.fails(1, with_=GONE, sections=values.keys() - good.keys())
                poller.poll_now(name_of(1))
                events = [await anext(poller)]
                while poller.status(name_of(1)).state is not AccountState.WAITING:
                    events += await poller.told(0.01)

                changed = [
                    (change.path, change.old, change.new)
                    for event in of(Changed, events)
                    for change in event.changes
                ]
                expected = [
                    (name, known[name], value)
                    for name, value in good.items()
                    if known.get(name, value) != value
                ]
                assert sorted(changed) == sorted(expected)
                assert type(events[0]) is (SnapshotTaken if good else PollFailed)
                known |= good


class BadStore(MemoryStore):
    """A store on a full disk, or on none."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.broken: set[str] = set()

    async def load(self, account: str) -> AccountSnapshot | None:
        if "load" in self.broken:
            raise self.error or OSError("no such device")
        return await super().load(account)

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        if "save" in self.broken:
            raise self.error or OSError("no space left")
        await super().save(account, snapshot)


class SlowStore(MemoryStore):
    """A store that takes its time, and when cancelled some more."""

    def __init__(self, taken: float, when_cancelled: float = 0.0) -> None:
        super().__init__()
        self.taken = taken
        self.when_cancelled = when_cancelled

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        try:
            await asyncio.sleep(self.taken)
        finally:
            await asyncio.sleep(self.when_cancelled)
        await super().save(account, snapshot)


@pytest.mark.parametrize("error", [BiliError("disk full"), None])
@run_virtual
async def test_a_store_that_can_not_save_is_logged_and_nothing_is_told_twice(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    store = BadStore(error)
    async with fleet(store=store) as (world, poller):
        await poller.told(EVERY - 1)
        store.broken = {"save"}
        world.becomes(1, "coin_exp", 30)
        events = await poller.told(5 * EVERY)
        assert [event.changes[0].new for event in of(Changed, events)] == [30]
        assert len(of(SnapshotTaken, events)) == 5
        assert "account-1: what is known can't be kept, polling goes on" in caplog.text
        store.broken = set()
        await poller.told(EVERY)

        kept = await store.load(name_of(1))
        assert kept is not None
        assert kept.coin_exp == 30


@run_virtual
async def test_a_store_that_can_not_load_is_logged_and_what_changed_is_told_when_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = BadStore()
    await store.save(name_of(1), AccountSnapshot(taken_at=WALL, coin_exp=10))
    store.broken = {"load"}
    async with fleet(store=store) as (_, poller):
        events = await poller.told(2 * EVERY)
        assert [type(event) for event in events] == [SnapshotTaken] * 2
        assert (
            "account-1: what is known can't be read, so no change is told: no such device"
            in caplog.text
        )
        store.broken = set()
        events = await poller.told(2 * EVERY)

        assert [event.changes for event in of(Changed, events)] == [
            (Change(path="coin_exp", old=10, new=20),)
        ]


@run_virtual
async def test_a_store_that_fails_for_hours_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = BadStore()
    store.broken = {"save"}
    async with fleet(100, store=store) as (_, poller):
        await poller.told(HOUR)

    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) <= 62


@run_virtual
async def test_a_store_that_is_used_wrongly_ends_the_poller() -> None:
    store = BadStore(RuntimeError("this store is not open"))
    store.broken = {"load"}
    with pytest.raises(RuntimeError, match="this store is not open"):
        async with fleet(store=store) as (_, poller):
            assert await poller.told(HOUR) == []


@pytest.mark.parametrize("taken", [0, 0.1])
@run_virtual
async def test_what_the_program_took_before_it_left_is_not_told_again(taken: float) -> None:
    store = SlowStore(taken)
    await store.save(name_of(1), AccountSnapshot(taken_at=WALL, coin_exp=10))
    async with fleet(store=store) as (_, poller):
        events = await poller.told(number=2)
        assert isinstance(events[1], Changed)
    async with fleet(store=store) as (_, poller):
        assert not of(Changed, await poller.told(EVERY))


@run_virtual
async def test_what_the_program_did_not_take_before_it_left_is_told_again() -> None:
    store = MemoryStore()
    await store.save(name_of(1), AccountSnapshot(taken_at=WALL, coin_exp=10))
    async with fleet(store=store) as (_, poller):
        assert isinstance(await anext(poller), SnapshotTaken)
    async with fleet(store=store) as (_, poller):
        assert len(of(Changed, await poller.told(EVERY))) == 1


@run_virtual
async def test_what_the_store_refused_is_offered_to_it_once_more_at_the_end() -> None:
    store = BadStore()
    store.broken = {"save"}
    async with fleet(3, store=store) as (_, poller):
        await poller.told(EVERY)
        store.broken = set()

    assert [(await store.load(name_of(number))).coin_exp for number in (1, 2, 3)] == [20] * 3


@run_virtual
async def test_a_store_that_hangs_holds_nobody_up_who_leaves() -> None:
    async with fleet(3, store=SlowStore(1e9)) as (_, poller):
        await poller.told(EVERY)
        left_at = now()
    assert now() - left_at < 1


@run_virtual
async def test_a_removed_account_is_not_saved_after_it_was_forgotten() -> None:
    store = MemoryStore()
    async with fleet(store=store) as (_, poller):
        assert isinstance(await anext(poller), SnapshotTaken)
        poller.remove(name_of(1))
        await store.forget(name_of(1))
        await poller.told(HOUR)

    assert await store.load(name_of(1)) is None


async def test_the_memory_store_gives_back_what_it_keeps() -> None:
    store = MemoryStore()
    full = AccountSnapshot(taken_at=WALL, **OF_SECTIONS)
    await store.save("full", full)
    odd = attrs.evolve(
        full,
        realname_status=RealnameStatus(9),
        vip_info=attrs.evolve(full.vip_info, vip_status=VipStatus(7)),
    )
    await store.save("odd", odd)

    assert await store.load("full") == full
    assert await store.load("odd") == odd
    await store.forget("odd")
    await store.forget("nobody")
    assert await store.load("odd") is None
    with pytest.raises(ValueError, match="track_changes"):
        Poller(SessionManager(), store=store, track_changes=False)


# --- the program's side ---------------------------------------------------------------------------


@run_virtual
async def test_a_consumer_that_takes_nothing_stops_polling_and_memory_stays_flat() -> None:
    async with fleet(1000) as (world, poller):
        await asyncio.sleep(HOUR)
        gc.collect()
        assert len(world.sent) == rounds.WORKERS
        assert len(poller._polls.outbox) == rounds.WORKERS
        assert len(asyncio.all_tasks()) == rounds.WORKERS + 2
        assert len(poller._line) <= 1000
        events = await poller.told(2 * EVERY)

        assert len(of(SnapshotTaken, events)) == poller.stats().polls == len(world.sent)
        assert all(world.starts(number) for number in range(1, 1001))


@run_virtual
async def test_a_slow_consumer_slows_polling_fairly_and_misses_nothing() -> None:
    async with fleet(10, every=timedelta(seconds=10)) as (world, poller):
        values: Counter[int] = Counter()
        told: Counter[str] = Counter()
        async for event in poller:
            told[event.account] += 1
            values[len(world.sent)] += 1
            await asyncio.sleep(7)
            if now() > 7000:
                break

        assert max(told.values()) - min(told.values()) <= 1
        assert sum(told.values()) == pytest.approx(1000, abs=5)
        assert len(world.sent) - sum(told.values()) <= 10


@run_virtual
async def test_each_event_goes_to_one_of_several_iterators_and_all_of_them_end() -> None:
    async with fleet(10) as (world, poller):
        listeners = [asyncio.create_task(poller.told()) for _ in range(3)]
        await asyncio.sleep(3 * EVERY - 1)
    told = [await listener for listener in listeners]

    assert sum(map(len, told)) == len(world.sent)
    assert all(told)
    assert await poller.told() == []


@run_virtual
async def test_an_iterator_that_is_given_up_loses_no_event() -> None:
    async with fleet(10, every=timedelta(seconds=10)) as (world, poller):
        events = []
        for _ in range(1000):
            events += await poller.told(0.1)
        events += await poller.told(0.5)

        assert len(events) == len(world.sent) - poller.stats().accounts[AccountState.POLLING]


@run_virtual
async def test_the_iterator_in_another_task_ends_even_if_the_poller_is_left_before_it_began() -> (
    None
):
    async with world_and_manager() as (_, manager):
        async with Fleet(manager) as poller:
            listener = asyncio.create_task(poller.told())
        assert await listener == []


@run_virtual
async def test_what_was_not_taken_before_the_end_is_not_told_after_it() -> None:
    async with fleet(3) as (_, poller):
        await asyncio.sleep(EVERY)
    assert await poller.told() == []


class Odd(Exception):
    pass


@pytest.mark.parametrize("leaving", ["at the end", "by an error", "by a cancellation"])
@pytest.mark.parametrize("busy", ["idle", "fetching", "telling", "pausing", "failing"])
@run_virtual
async def test_leaving_ends_everything_at_once(busy: str, leaving: str) -> None:
    """That no task is left is what `run_virtual` asserts."""
    listener = None

    async def body() -> None:
        nonlocal listener
        timeout = 1e6 if busy == "fetching" else 10.0
        async with fleet(100, sections=ALL_SECTIONS, timeout=timeout) as (world, poller):
            if busy in ("fetching", "pausing"):
                world.latency = 1e9 if busy == "fetching" else 0.1
            if busy == "pausing":
                world.trouble = lambda sent: status(429, Retry_After="80000")()
            if busy == "failing":
                world.trouble = lambda sent: GONE()
            if busy != "telling":
                listener = asyncio.create_task(poller.told())
            await asyncio.sleep(EVERY)
            if busy in ("telling", "fetching"):
                assert poller.stats().accounts[AccountState.POLLING]
            if leaving == "by an error":
                raise Odd
            if leaving == "by a cancellation":
                await asyncio.sleep(1e9)

    task = asyncio.create_task(body())
    await asyncio.sleep(EVERY + 1)
    began = now()
    task.cancel()
    with suppress(Odd, asyncio.CancelledError):
        await task
    if listener is not None:
        await listener
    assert now() - began < 1
    assert task.cancelled() == (leaving == "by a cancellation")
    if leaving == "by an error":
        assert isinstance(task.exception(), Odd)


@run_virtual
async def test_a_second_cancellation_does_not_leave_polls_behind() -> None:
    async def body() -> None:
        async with fleet(10, store=SlowStore(1e9, when_cancelled=0.2)) as (_, poller):
            await poller.told()

    task = asyncio.create_task(body())
    await asyncio.sleep(EVERY)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.05)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- the manager ----------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", ["idle", "fetching", "pausing"])
@run_virtual
async def test_a_manager_that_is_closed_under_the_poller_ends_the_iterator_and_leaving_raises(
    busy: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world_and_manager(timeout=10.0) as (world, manager):
        if busy == "fetching":
            world.latency = 100.0
        if busy == "pausing":
            world.trouble = lambda sent: status(429, Retry_After="80000")()
        poller = Fleet(manager, sections=COIN_EXP)

        async def close() -> None:
            await asyncio.sleep(5)
            await manager.close()

        closing = asyncio.create_task(close())
        with pytest.raises(RuntimeError, match="this SessionManager was closed"):  # noqa: PT012
            async with poller:
                for number in range(1, 2 if busy == "idle" else 101):
                    every = timedelta(seconds=EVERY if busy == "idle" else 2)
                    poller.add(name_of(number), credential(number), every=every)
                await poller.told()
                assert now() == 5
                with pytest.raises(RuntimeError):
                    poller.add(name_of(101), credential(101))
        with pytest.raises(RuntimeError):
            poller.poll_now(name_of(1))
        await closing
    assert "the Poller broke down" in caplog.text


@run_virtual
async def test_a_poller_that_breaks_down_while_it_is_left_leaves_no_task() -> None:
    async with world_and_manager() as (_, manager):
        with pytest.raises(RuntimeError):  # noqa: PT012
            async with Fleet(manager, sections=COIN_EXP, store=SlowStore(1e9)) as poller:
                poller.add(name_of(1), credential())
                await poller.told(1)
                await manager.close()
                await turns()


@run_virtual
async def test_an_error_of_the_body_comes_before_the_poller_s_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world_and_manager() as (_, manager):
        with pytest.raises(Odd):  # noqa: PT012
            async with Fleet(manager, sections=COIN_EXP) as poller:
                poller.add(name_of(1), credential())
                await poller.told(1)
                await manager.close()
                assert await poller.told() == []
                raise Odd
    assert "the Poller broke down" in caplog.text


@run_virtual
async def test_use_outside_the_async_with_is_a_runtime_error_that_says_what_to_do() -> None:
    async with world_and_manager() as (_, manager):
        poller = Poller(manager)
        with pytest.raises(RuntimeError, match="async with Poller"):
            poller.add("alice", credential())
        with pytest.raises(RuntimeError, match="async with Poller"):
            await anext(poller)
        async with poller:
            poller.add("alice", credential())
            with pytest.raises(RuntimeError, match="make a new one"):
                await poller.__aenter__()
        for use in (lambda: poller.add("bob", credential(2)), lambda: poller.poll_now("alice")):
            with pytest.raises(RuntimeError, match="async with Poller"):
                use()
        with pytest.raises(RuntimeError, match="make a new one"):
            await poller.__aenter__()
        assert [event async for event in poller] == []
    with pytest.raises(RuntimeError, match="SessionManager was closed"):
        await Poller(manager).__aenter__()


@run_virtual
async def test_another_thread_is_told_that_it_may_not_add() -> None:
    async with fleet() as (_, poller):
        errors: list[RuntimeError] = []

        def add() -> None:
            try:
                poller.add("bob", credential(2))
            except RuntimeError as error:
                errors.append(error)

        thread = Thread(target=add)
        thread.start()
        thread.join()

        assert len(errors) == 1
        assert sum(poller.stats().accounts.values()) == 1


# --- bad input ------------------------------------------------------------------------------------


@run_virtual
async def test_bad_input_gets_an_error_that_names_it() -> None:
    async with fleet() as (_, poller):
        for method in (poller.remove, poller.pause, poller.resume, poller.poll_now, poller.status):
            with pytest.raises(KeyError, match="no account 'bob' is polled"):
                method("bob")
        with pytest.raises(KeyError, match="no account 'bob' is polled"):
            poller.replace_credential("bob", credential())
        with pytest.raises(ValueError, match=r"'account-1'.*already"):
            poller.add(name_of(1), credential(2))
        for every in (timedelta(0), timedelta(seconds=-1), 600, None, timedelta.max):
            with pytest.raises(ValueError, match="every: expected a timedelta > 0"):
                Poller(poller._manager, every=every)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="every: expected a timedelta > 0"):
            poller.add("bob", credential(), every=timedelta(0))
        for sections in (["coins"], [], "coin_exp"):
            with pytest.raises(ValueError, match="sections: expected some of"):
                poller.add("bob", credential(), sections=sections)
            with pytest.raises(ValueError, match="sections: expected some of"):
                Poller(poller._manager, sections=sections)

        assert (
            poller.stats().accounts[AccountState.WAITING]
            + poller.stats().accounts[AccountState.POLLING]
            == 1
        )


# --- budgets --------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@run_virtual
async def test_an_overload_is_told_once_with_both_figures_and_the_interval_that_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(host=RateLimit(rate=2, burst=12), account=None)
    every = timedelta(minutes=1)
    async with fleet(50, sections=ALL_SECTIONS, every=every, limits=limits) as (
        _,
        poller,
    ):  # each 6 calls of api
        await poller.told(MINUTE)
        poller.add(name_of(51), credential(51))
        await poller.told(MINUTE)

    assert warnings(caplog) == [
        "50 accounts need 5 calls a second of api.bilibili.com, the limits give 2: all "
        "are polled in turn, but later; "
        "intervals 2.50 times as long would fit, as 150 s instead of 60 s"
    ]


@run_virtual
async def test_an_interval_as_long_as_the_warning_says_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(host=RateLimit(rate=2, burst=12), account=None)
    async with fleet(50, sections=ALL_SECTIONS, every=timedelta(seconds=150), limits=limits) as (
        _,
        poller,
    ):
        await poller.told(10 * 150)

        assert poller.stats().lag_p99 < 1.5
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "hosts",
    [
        {},
        {
            "api": "http://127.0.0.1:1",
            "www": "http://127.0.0.1:1",
            "passport": "http://127.0.0.1:1",
        },
    ],
)
@run_virtual
async def test_hosts_that_are_one_share_one_budget_also_in_the_warning(
    hosts: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(host=RateLimit(rate=7, burst=12), account=None)
    async with fleet(600, sections=ALL_SECTIONS, limits=limits, hosts=Hosts(**hosts)) as (
        _,
        poller,
    ):
        await poller.told(1)

    assert len(warnings(caplog)) == bool(hosts)
    assert not hosts or "600 accounts need 8 calls a second of 127.0.0.1:1" in warnings(caplog)[0]


@run_virtual
async def test_only_what_the_credentials_can_ask_for_counts_as_load(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(host=RateLimit(rate=1, burst=12), account=None)
    async with fleet(0, sections=ALL_SECTIONS, limits=limits) as (_, poller):
        for number in range(120):  # a token is good for 5 sections of api, a cookie for 6
            poller.add(name_of(number), Credential(access_key=f"key{number}"))
        await turns()
        for number in range(120):
            poller.remove(name_of(number))
        poller.add(name_of(1), credential(), every=timedelta(seconds=6))
        await turns()
        assert warnings(caplog) == []
        poller.replace_credential(name_of(1), Credential(access_key="key"))
        poller.add(name_of(2), credential(), sections=["vip_info"], every=timedelta(seconds=6))
        await turns()
        assert warnings(caplog) == []
        poller.replace_credential(name_of(1), credential())
        poller.poll_now(name_of(2))
        await turns()

    assert len(warnings(caplog)) == 1


@run_virtual
async def test_in_overload_all_accounts_are_polled_equally_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(host=RateLimit(rate=0.25, burst=1), account=None)
    async with fleet(300, limits=limits, random=Random(3).random) as (world, poller):
        await poller.told(20 * EVERY)

        polls = Counter(sent.account for sent in world.sent)
        assert len(polls) == 300
        assert sum(polls.values()) >= 0.99 * 20 * EVERY * 0.25
        assert max(polls.values()) - min(polls.values()) <= 1
    assert len(warnings(caplog)) == 1


@run_virtual
async def test_accounts_with_different_intervals_keep_them() -> None:
    async with fleet(0) as (world, poller):
        for number in range(1, 31):
            poller.add(name_of(number), credential(number), every=timedelta(minutes=number))
        await poller.told(10 * HOUR)

        for number in range(1, 31):
            _, *starts = world.starts(number)
            assert starts == pytest.approx(
                [starts[0] + 60 * number * turn for turn in range(len(starts))]
            )
            assert abs(len(starts) - 10 * 60 // number) <= 1


@run_virtual
async def test_in_overload_accounts_with_different_intervals_come_late_by_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        rounds, "WORKERS", 2
    )  # so that it is the poller who chooses, not the limiter
    limits = Limits(host=RateLimit(rate=0.1, burst=1), account=None)
    every = {number: 100 if number <= 10 else 1000 for number in range(1, 31)}
    async with fleet(0, limits=limits) as (world, poller):
        for number in every:
            poller.add(name_of(number), credential(number), every=timedelta(seconds=every[number]))
        await poller.told(6 * HOUR)

        # 10 / (100 + late) + 20 / (1000 + late) = 0.1
        late = (math.sqrt(800**2 + 4 * 20_000) - 800) / 2
        for number, starts in ((number, world.starts(number)) for number in every):
            assert (starts[-1] - starts[5]) / (len(starts) - 6) == pytest.approx(
                every[number] + late, abs=20
            )


@run_virtual
async def test_stats_tell_how_it_stands() -> None:
    async with fleet(10, every=timedelta(seconds=10), latency=1.0) as (world, poller):
        empty = poller.stats()
        assert (empty.polls, empty.failures, empty.lag_p50, empty.lag_p99, empty.throttled) == (
            0,
            0,
            0,
            0,
            0,
        )
        world.fails(1, with_=GONE)
        await poller.told(100)
        poller.pause(name_of(2))
        world.fails(3, with_=DEAD_LOGIN)
        await poller.told(80)
        world.fails(4, with_=RISK)
        await poller.told(10)
        stats = poller.stats()
        assert dict(stats.accounts) | {AccountState.WAITING: 0, AccountState.POLLING: 0} == {
            AccountState.WAITING: 0,
            AccountState.POLLING: 0,
            AccountState.PAUSED: 1,
            AccountState.EXPIRED: 1,
            AccountState.PARKED: 1,
        }
        assert sum(stats.accounts.values()) == 10
        assert (stats.lag_p50, stats.lag_p99) == (0, pytest.approx(0, abs=1e-6))
        assert stats.polls == len(world.sent) - stats.accounts[AccountState.POLLING]
        assert stats.failures >= 5
        await asyncio.sleep(
            60
        )  # nobody listens: at first each tells once, then all who can are polling

    async with fleet(100, every=timedelta(seconds=10)) as (_, poller):
        await asyncio.sleep(50)
        stats = poller.stats()
        assert stats.accounts == {
            **dict.fromkeys(AccountState, 0),
            AccountState.POLLING: 64,
            AccountState.WAITING: 36,
        }
        assert stats.lag_p50 == 0
        assert 40 < stats.lag_p99 <= 50  # those who wait for their turn count too


@run_virtual
async def test_status_tells_of_one_account() -> None:
    async with fleet(latency=1.0, every=timedelta(seconds=10)) as (_, poller):
        assert poller.status(name_of(1)).state is AccountState.WAITING
        await asyncio.sleep(0.5)
        status = poller.status(name_of(1))
        assert (status.state, status.next_at, status.polls) == (AccountState.POLLING, None, 0)
        await poller.told(1)
        status = poller.status(name_of(1))
        assert (status.state, status.polls, status.every) == (
            AccountState.WAITING,
            1,
            timedelta(seconds=10),
        )
        assert status.next_at is not None
        assert seconds(status.next_at) == pytest.approx(10, abs=1e-3)


def test_events_pickle_and_show_what_they_are() -> None:
    snapshot = AccountSnapshot(
        taken_at=WALL, coin_exp=1, failures={"vip_info": TransportError("reset")}
    )
    events: list[PollEvent] = [
        SnapshotTaken("alice", snapshot),
        Changed(
            "alice", (Change(path="coin_exp", old=1, new=2),), attrs.evolve(snapshot, failures={})
        ),
        PollFailed("alice", ProtocolError("HTTP 500", status=500), WALL),
        AccountExpired("alice", NotLoggedIn("账号未登录", code=-101)),
        AccountParked("alice", RiskControlled("风控校验失败", code=-352)),
    ]
    for event in events:
        twin = pickle.loads(pickle.dumps(event))
        assert type(twin) is type(event)
        assert repr(twin) == repr(event)
        assert twin.account == "alice"


# --- everything at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@run_virtual
async def test_whatever_is_done_to_it_every_account_keeps_being_polled_and_never_overlaps_itself(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "BACKOFF_MAX", timedelta(minutes=1))
    monkeypatch.setattr(rounds, "WORKERS", (64, 3, 1)[seed % 3])
    chance = Random(seed)
    limits = Limits.none() if seed % 2 else Limits(host=RateLimit(rate=10, burst=2), account=None)
    every = timedelta(seconds=30)
    store = BadStore(BiliError("no"))
    async with fleet(
        0,
        every=every,
        limits=limits,
        random=chance.random,
        store=store,
        retry=Retry(),
        timeout=10.0,
    ) as (
        world,
        poller,
    ):

        def trouble(sent: Sent) -> Reply | None:
            roll = chance.random()
            if roll < 0.05:
                return chance.choice([DEAD_LOGIN, RISK])()
            if roll < 0.2:
                return chance.choice(
                    [GONE, status(429), status(412, Retry_After="30"), code(-509), status(500)]
                )()
            world.becomes(sent.account, "coin_exp", chance.randrange(3))
            return None

        world.trouble = trouble
        polled: set[int] = set()
        told: Counter[type] = Counter()

        async def listen() -> None:
            async for event in poller:
                assert int(event.account.split("-")[1]) in polled, (
                    "an account that was removed has told"
                )
                told[type(event)] += 1
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.choice([0, 0.01, 1]))

        listeners = [asyncio.create_task(listen()) for _ in range(2)]
        for _ in range(400):
            number = chance.randrange(1, 13)
            world.latency = chance.choice([0, 0.1, 0.1, 2, 9])
            store.broken = chance.choice([set(), set(), {"load"}, {"save"}])
            if number not in polled:
                poller.add(
                    name_of(number),
                    credential(number),
                    every=chance.choice([None, timedelta(seconds=5)]),
                )
                polled.add(number)
            elif (roll := chance.random()) < 0.1:
                poller.remove(name_of(number))
                polled.discard(number)
            else:
                steer = chance.choice(
                    [poller.pause, poller.resume, poller.resume, poller.poll_now, "credential"]
                )
                if steer == "credential":
                    poller.replace_credential(name_of(number), credential(number, f"secret{roll}"))
                else:
                    steer(name_of(number))
            await asyncio.sleep(chance.choice([0, 0, 0.05, 1, 5]))

        world.trouble, world.latency, store.broken = lambda sent: None, 0.1, set()
        for number in polled:
            poller.resume(name_of(number))
            poller.replace_credential(name_of(number), credential(number))
            poller.resume(name_of(number))
        await asyncio.sleep(10 * MINUTE)  # the longest backoff, and the limits' recovery
        world.sent.clear()
        await asyncio.sleep(3 * MINUTE)
        assert {sent.account for sent in world.sent} == polled
        for number in polled:
            interval = poller.status(name_of(number)).every.total_seconds()
            assert all(
                abs(later - earlier - interval) <= 0.02 * interval + 2
                for earlier, later in pairwise(world.starts(number))
            )
        assert len(told) >= 4
    for listener in listeners:
        await listener
    assert {poller.status(name).state for name in poller._accounts} <= {
        AccountState.WAITING,
        AccountState.POLLING,
    }


# --- over a real socket ---------------------------------------------------------------------------


async def test_it_polls_a_real_server_and_tells_what_changes() -> None:
    async with (
        Sandbox(review_delay=0) as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
        Poller(manager, every=timedelta(seconds=0.05)) as poller,
    ):
        account = sandbox.add_account()
        poller.add("alice", account.credential)
        changes = None
        async with asyncio.timeout(5):
            async for event in poller:
                match event:
                    case SnapshotTaken("alice", snapshot):
                        assert snapshot.complete
                        account.uname = "小红"
                    case Changed("alice", changes, _):
                        break
    assert changes is not None
    assert [(change.path, change.new) for change in changes] == [("account_info.uname", "小红")]


async def test_leaving_takes_less_than_a_second_while_a_real_server_hangs() -> None:
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
    ):
        sandbox.fault(None, Fault.hang())
        before = asyncio.all_tasks()
        async with Poller(manager, every=timedelta(seconds=0.1)) as poller:
            for number, account in enumerate(sandbox.invent_accounts(20)):
                poller.add(str(number), account.credential)
            async with asyncio.timeout(5):
                while len(sandbox.requests) < 160:  # noqa: ASYNC110 - the sandbox has no event for it
                    await asyncio.sleep(0.01)
            left_at = time.perf_counter()
        assert time.perf_counter() - left_at < 1
        assert not [task for task in asyncio.all_tasks() - before if "Sandbox" not in repr(task)]
