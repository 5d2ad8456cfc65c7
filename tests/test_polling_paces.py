"""Sections at their own pace, and the pure arithmetic below it, which needs no loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from fleet import (
    EVERY,
    GONE,
    HOUR,
    MINUTE,
    credential,
    fleet,
    name_of,
    now,
    of,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import fuzz
from virtual import run_virtual

from bili_account_async import (
    ALL_SECTIONS,
    THRIFTY,
    Change,
    Changed,
    Credential,
    Limits,
    Poller,
    RateLimit,
    SessionManager,
    SnapshotTaken,
    fetch_snapshot,
    get_account_info,
)
from bili_account_async._heap import LazyHeap
from bili_account_async.polling.schedule import JITTER, Plan, Timetable

DAY = 24 * HOUR
SECONDS = {section: every.total_seconds() for section, every in THRIFTY.items()}


@run_virtual
async def test_each_section_is_asked_as_often_as_the_mapping_says() -> None:
    async with fleet(7, every=THRIFTY, sections=ALL_SECTIONS, random=Random(1).random) as (
        world,
        poller,
    ):
        await poller.told(4 * DAY)

        for number in range(1, 8):
            for section, every in SECONDS.items():
                first, second, *rest = world.starts(number, section)
                assert first < 1
                assert every / 2 <= second - first <= 1.5 * every + MINUTE
                assert abs(len(rest) + 2 - 4 * DAY / every) <= 1.5
                late = JITTER * EVERY + 1
                assert all(abs(b - a - every) <= late for a, b in pairwise([second, *rest]))


@run_virtual
async def test_what_is_due_together_is_asked_in_one_poll() -> None:
    async with fleet(5, every=THRIFTY, sections=ALL_SECTIONS, random=Random(1).random) as (
        _,
        poller,
    ):
        events = await poller.told(DAY)

        assert len(events) / 5 <= DAY / EVERY + 2
        asked = Counter(section for event in events for section in event.snapshot.sections)
        assert asked["daily_rewards"] > 5 * asked["account_info"] > 5 * asked["realname_status"]
        assert all(event.snapshot.complete for event in events)


@run_virtual
async def test_accounts_do_not_ask_for_the_daily_things_at_the_same_time() -> None:
    async with fleet(48, every=THRIFTY, sections=ALL_SECTIONS) as (world, poller):
        await poller.told(2 * DAY)
        world.sent.clear()
        await poller.told(DAY)

        daily = sorted(sent.at for sent in world.sent if sent.section == "realname_status")
        hours = Counter(int(at // HOUR) for at in daily)
        assert len(daily) == 48
        assert max(hours.values()) <= 4


@run_virtual
async def test_a_change_is_told_against_the_section_s_own_last_value() -> None:
    every = {"coin_exp": timedelta(minutes=10), "realname_status": timedelta(hours=1)}
    async with fleet(every=every, sections=ALL_SECTIONS) as (world, poller):
        await poller.told(1)
        world.becomes(1, "realname_status", 0)
        events = await poller.told(50 * MINUTE)
        assert not of(Changed, events)
        world.becomes(1, "coin_exp", 30)
        events = await poller.told(HOUR)

        changes = [change for event in of(Changed, events) for change in event.changes]
        assert Change(path="coin_exp", old=20, new=30) in changes
        assert [change.path for change in changes if change.path != "coin_exp"] == [
            "realname_status"
        ]
        assert len(changes) == 2


@run_virtual
async def test_sections_that_are_not_in_the_mapping_are_not_asked() -> None:
    every = {"coin_exp": timedelta(minutes=10), "vip_info": timedelta(minutes=20)}
    async with fleet(0, every=every, sections=ALL_SECTIONS) as (world, poller):
        poller.add(name_of(1), credential(1))
        poller.add(name_of(2), credential(2), sections=["vip_info", "coin_log"])
        poller.add(name_of(3), credential(3), every=THRIFTY, sections=["coin_log"])
        poller.add(name_of(4), credential(4), every=timedelta(hours=1))
        await poller.told(HOUR)

        asked = {n: {s.section for s in world.sent if s.account == n} for n in range(1, 5)}
        assert asked == {
            1: {"coin_exp", "vip_info"},
            2: {"vip_info"},
            3: {"coin_log"},
            4: ALL_SECTIONS,
        }
        assert poller.status(name_of(1)).every == every
        assert poller.status(name_of(4)).every == timedelta(hours=1)


@run_virtual
async def test_poll_now_asks_for_all_sections() -> None:
    async with fleet(every=THRIFTY, sections=ALL_SECTIONS) as (_, poller):
        await poller.told(100)
        poller.poll_now(name_of(1))
        (event,) = await poller.told(10)

        assert event.snapshot.sections == ALL_SECTIONS
        assert event.snapshot.complete


@run_virtual
async def test_sections_that_a_credential_can_not_ask_for_make_no_polls() -> None:
    every = {"coin_exp": timedelta(minutes=1), "coin_log": timedelta(minutes=30)}
    async with fleet(0, every=every, sections=ALL_SECTIONS) as (_, poller):
        poller.add(name_of(1), Credential(access_key="key"))  # no coin_exp with a token
        events = await poller.told(HOUR)

        assert len(events) == 2
        assert all(event.snapshot.skipped == {"coin_exp"} for event in events)


@run_virtual
async def test_a_failing_account_of_long_intervals_is_tried_again_before_they_are_over() -> None:
    async with fleet(every=THRIFTY, sections=ALL_SECTIONS) as (world, poller):
        world.fails(1, with_=GONE)
        await poller.told(10 * MINUTE)
        world.mend()
        (event,) = await poller.told(15 * MINUTE)

        assert event.snapshot.complete


@run_virtual
async def test_the_default_budget_carries_3_5_times_the_accounts_with_thrifty(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A quarter of the budget and of the accounts: the default's 700 are 28 hours of this."""
    limits = Limits(host=RateLimit(rate=0.5, burst=12))
    assert Limits().host == RateLimit(rate=4 * 0.5, burst=12)
    async with fleet(175, every=THRIFTY, sections=ALL_SECTIONS, limits=limits) as (_, poller):
        await poller.told(3 * HOUR)  # the first round takes 35 minutes
        polls = poller.stats().polls
        await poller.told(9 * HOUR)

        assert poller.stats().lag_p99 <= 0.1 * EVERY
        assert poller.stats().polls - polls >= 0.99 * 175 * 9 * HOUR / EVERY
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("accounts", [200, 400])
@run_virtual
async def test_a_person_does_not_wait_for_the_fleet(accounts: int) -> None:
    async with fleet(accounts, sections=ALL_SECTIONS, limits=Limits()) as (_, poller):
        fleets = asyncio.create_task(poller.told(2 * HOUR))
        person = poller._manager.session(credential(10_000))
        for _ in range(100):
            await asyncio.sleep(50)
            began = now()
            await get_account_info(person)
            assert now() - began <= 2
            began = now()
            await fetch_snapshot(person)
            assert now() - began <= 8
        events = await fleets

    assert len(of(SnapshotTaken, events)) >= 0.7 * 2 * 2 * HOUR / 6  # and it uses what is left


@run_virtual
async def test_the_overload_warning_counts_sections(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(750, every=THRIFTY, sections=ALL_SECTIONS, limits=Limits()) as (_, poller):
        await poller.told(1)

    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "750 accounts need 2.101 calls a second of api.bilibili.com" in warning


@run_virtual
async def test_twenty_thousand_accounts_do_not_storm() -> None:
    limits = Limits(host=RateLimit(rate=100, burst=12))
    async with fleet(20_000, limits=limits) as (world, poller):
        await poller.told(100)

        assert len(world.sent) <= 100 * 100 + 12
        assert [sent.account for sent in world.sent[:500]] == list(range(1, 501))


@run_virtual
async def test_bad_paces_get_an_error_that_names_them() -> None:
    manager = SessionManager()
    with pytest.raises(ValueError, match="every: there is no section 'coins'"):
        Poller(manager, every={"coins": timedelta(1)})
    with pytest.raises(ValueError, match="every: has none of the sections"):
        Poller(manager, every={"coin_log": timedelta(1)}, sections=["vip_info"])
    with pytest.raises(ValueError, match="every: has none of the sections"):
        Poller(manager, every={})
    with pytest.raises(ValueError, match="every: expected a timedelta > 0"):
        Poller(manager, every={"coin_log": timedelta(0)})


# --- without a loop -------------------------------------------------------------------------------

intervals = st.dictionaries(st.sampled_from(sorted(ALL_SECTIONS)), st.floats(1.0, 1e6), min_size=1)


@fuzz
@given(
    intervals=intervals,
    number=st.integers(0, 10**6),
    start=st.floats(0, 1e9),
    after=st.floats(0, 1e7),
)
def test_what_came_is_due_within_its_interval_and_never_before(
    intervals: dict[str, float], number: int, start: float, after: float
) -> None:
    table = Timetable(intervals, start, number, start)
    assert table.due_at() == start
    assert sorted(table.due(start)) == sorted(intervals)
    table.came(intervals, start, start + 0.1)
    for section, every in intervals.items():
        due = table._due[section]
        assert every / 2 * 0.999 <= due - start <= 1.5 * every * 1.001 + 0.1
    now = start + after
    table.came(intervals, now, now)
    for section, every in intervals.items():
        assert 0 < table._due[section] - now <= every * 1.001
        assert section not in table.due(now)


@fuzz
@given(intervals=intervals, fails=st.integers(1, 200), pause=st.floats(0, 1e5))
def test_backoff_doubles_to_an_hour_or_the_interval_and_keeps_a_pause(
    intervals: dict[str, float], fails: int, pause: float
) -> None:
    table = Timetable(intervals, 0.0, 0, 0.0)
    section = min(intervals)
    for _ in range(fails):
        table.failed({section: pause}, 100.0, 100.0, together=False)
    wait = table._due[section] - 100
    assert wait >= pause
    assert wait <= max(pause, 3600.0, intervals[section]) * 1.001
    assert wait >= min(table.shortest, intervals[section]) * 0.999


@fuzz
@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "leave"]), st.integers(0, 50))))
def test_a_lazy_heap_is_a_sorted_list_that_things_can_leave(steps: list[tuple[str, int]]) -> None:
    heap: LazyHeap[str] = LazyHeap()
    model: list[tuple[int, int, str]] = []
    places = []
    for serial, (step, key) in enumerate(steps):
        if step == "push":
            places.append((heap.push(key, str(serial)), (key, serial, str(serial))))
            model.append(places[-1][1])
        elif step == "pop" and model:
            first = min(model)
            assert heap.first_key() == first[0]
            assert heap.pop() == first[2]
            model.remove(first)
        elif step == "leave" and places:
            place, entry = places[key % len(places)]
            place.leave()
            assert place.item is None
            if entry in model:
                model.remove(entry)
        assert len(heap) == len(model)
        assert len(heap._entries) <= 2 * len(model) + 66


def test_a_plan_s_own_mapping_is_a_copy() -> None:
    every = {"coin_log": timedelta(1)}
    plan = Plan(every, ALL_SECTIONS)
    every["vip_info"] = timedelta(2)

    assert plan.every == {"coin_log": timedelta(1)}
    assert plan.intervals == {"coin_log": 86400.0}
