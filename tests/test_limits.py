"""The limiter on a virtual clock: budgets, order, cancellation, pauses, memory.

Its arithmetic needs no loop.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise
from random import Random
from typing import Any

import attrs
import pytest
from virtual import START, VirtualLoop, run_virtual, turns

from bili_account_async import (
    HostState,
    Limiter,
    Limits,
    Permit,
    RateLimit,
    RateLimited,
    ScopeState,
)
from bili_account_async._seam import Seam
from bili_account_async.limiting.calls import Call, Departure
from bili_account_async.limiting.local import LocalLimiter
from bili_account_async.limiting.queue import Queue

WIDE = RateLimit(rate=1e6, burst=10**6)
FOREVER = 1e9


def limiter_of(*, random: float = 0.0, **limits: Any) -> LocalLimiter:
    """A limiter on the running loop, unlimited but for what is said; chance is `random`."""
    options: dict[str, Any] = {"host": None, "account": None, "concurrency": None} | limits
    return LocalLimiter(Limits(**options), Seam(random=lambda: random))


def now() -> float:
    return asyncio.get_running_loop().time() - START


def timers() -> int:
    return len(asyncio.get_running_loop().timers())  # type: ignore[attr-defined]


def state_of(limiter: LocalLimiter) -> HostState:
    return limiter.state()["host"]


async def depart(
    limiter: LocalLimiter,
    account: str = "a",
    *,
    patience: float = FOREVER,
    error: BaseException | None = None,
    **options: Any,
) -> float:
    """One call that takes no time: gives when it departed."""
    permit = await limiter.acquire("host", account, patience=patience, **options)
    at = now()
    limiter.release(permit, error)
    return at


def told(scope: Any = "host", retry_after: float | None = None) -> RateLimited:
    return RateLimited(
        scope=scope, status=412, code=-412, message="slow down", retry_after=retry_after
    )


def begin(
    limiter: LocalLimiter, accounts: Iterable[str], **options: Any
) -> list[asyncio.Task[float]]:
    return [asyncio.create_task(depart(limiter, account, **options)) for account in accounts]


def assert_windows_hold(departures: list[float], limit: RateLimit) -> None:
    """No t seconds hold more than burst + rate * t departures; all pairs, in one pass."""
    lowest = math.inf
    for number, at in enumerate(departures):
        level = number - limit.rate * at
        lowest = min(lowest, level)
        assert level + 1 - lowest <= limit.burst + 1e-6, (number, at)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "bad"),
    [("rate", bad) for bad in (0, -1, math.nan, math.inf, 5e-324, 10**400, 1e300, "2", None, True)]
    + [("burst", bad) for bad in (0, -1, 1.5, math.nan, 10**400, 10**18, "2", None, True)],
)
def test_a_rate_limit_that_can_not_be_is_refused_by_the_name_of_its_field(field, bad):
    with pytest.raises(ValueError, match=f"^{field}: "):
        RateLimit(**{"rate": 1, "burst": 1, field: bad})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("host", 2),
        ("account", (1, 2)),
        ("concurrency", 0),
        ("concurrency", 1.5),
        ("concurrency", True),
        ("concurrency", 10**400),
        ("max_wait", 10**400),
        ("max_wait", -1),
        ("max_wait", math.nan),
        ("max_wait", "1"),
        ("max_wait", True),
    ],
)
def test_limits_that_can_not_be_are_refused_by_the_name_of_their_field(field, bad):
    with pytest.raises(ValueError, match=f"^{field}: "):
        Limits(**{field: bad})


def test_a_burst_that_no_rest_brings_back_is_refused():
    with pytest.raises(ValueError, match=r"^burst: "):
        RateLimit(rate=1e-6, burst=10_000)


def test_the_defaults_are_those_of_the_contract():
    expected = Limits(
        host=RateLimit(rate=2, burst=12), account=RateLimit(rate=1, burst=12), concurrency=16
    )
    assert Limits() == expected
    assert Limits().max_wait is None


# --- budgets --------------------------------------------------------------------------------------


@run_virtual
async def test_a_burst_goes_at_once_and_the_rest_at_the_rate():
    limiter = limiter_of(host=RateLimit(rate=4, burst=3))
    at = await asyncio.gather(*begin(limiter, "abcdef"))
    assert at == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75])


@run_virtual
async def test_after_a_rest_there_is_one_burst_and_no_more():
    limiter = limiter_of(host=RateLimit(rate=4, burst=3))
    await asyncio.gather(*begin(limiter, "abc"))
    await asyncio.sleep(1000)
    at = await asyncio.gather(*begin(limiter, "abcd"))
    assert at == pytest.approx([1000, 1000, 1000, 1000.25])


@pytest.mark.parametrize("scope", ["host", "account"])
@run_virtual
async def test_a_rest_too_short_to_be_forgotten_gives_one_burst_as_well(scope):
    limiter = limiter_of(**{scope: RateLimit(rate=10, burst=2)})
    await depart(limiter)
    await asyncio.sleep(0.9)
    at = await asyncio.gather(*begin(limiter, "aaaa"))
    assert at == pytest.approx([0.9, 0.9, 1.0, 1.1])


@run_virtual
async def test_both_budgets_conform_at_the_moment_of_departure_and_neither_is_charged_before():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), account=RateLimit(rate=0.1, burst=2))
    departures = defaultdict(list)

    async def call(account: str) -> None:
        departures[account].append(await depart(limiter, account))

    await asyncio.gather(*(call(account) for account in "aaaabbbbcccc"))
    assert_windows_hold(sorted(chain(*departures.values())), RateLimit(rate=1, burst=1))
    for own in departures.values():
        assert_windows_hold(own, RateLimit(rate=0.1, burst=2))
    # While accounts wait for their own budget, no slot of the host is wasted and none of theirs is
    # used up.
    assert departures["c"] == pytest.approx([3, 5, 13, 23])


@run_virtual
async def test_the_host_never_waits_while_some_account_could_go():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), account=RateLimit(rate=0.01, burst=1))
    slow = begin(limiter, ["a"] * 3)
    others = begin(limiter, [f"b{n}" for n in range(50)])
    at = await asyncio.gather(*others)
    assert at == pytest.approx(range(1, 51))
    assert await asyncio.gather(*slow) == pytest.approx([0, 100, 200])


@run_virtual
async def test_no_more_than_the_cap_are_in_flight_and_each_end_lets_the_next_go():
    limiter = limiter_of(concurrency=2)
    flying = most = 0

    async def call(seconds: float) -> float:
        nonlocal flying, most
        permit = await limiter.acquire("host", "a", patience=FOREVER)
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(seconds)
        flying -= 1
        limiter.release(permit, None)
        return now()

    assert await asyncio.gather(*map(call, [1, 2, 3, 4, 5])) == [1, 2, 4, 6, 9]
    assert most == 2


@run_virtual
async def test_hosts_have_budgets_of_their_own():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    for host in ("one", "two"):
        permit = await limiter.acquire(host, "a", patience=1)
        assert permit.waited == 0
    assert now() == 0


def pump(queue: Queue, now: float) -> Iterator[Call]:
    """Grant whatever can go, in order."""
    while call := queue.candidate(now):
        queue.granted(call, now)
        yield call


def saturate(
    host: Queue, rng: Random, grants: int, accounts: int
) -> tuple[list[float], dict[str, list[float]], float]:
    """Keep every account waiting, cancel now and then before or after the grant; gives the
    departures and the end.
    """
    departures: list[float] = []
    own: dict[str, list[float]] = defaultdict(list)
    time = 0.0

    def arrive(account: str) -> None:
        call = Call(host, account, time)
        if host.enqueue(call, time):
            departed(call)

    def departed(call: Call) -> None:
        if rng.random() < 0.02:
            host.leave(call, time)  # cancelled before its task ran: no departure
        else:
            departures.append(time)
            own[call.account].append(time)
            host.release(call, None, time)
        again.append(call.account)

    again = [f"account {number}" for number in range(accounts)] * 2
    while len(departures) < grants:
        while again:
            arrive(again.pop())
        time = max(time, host.next_at())
        if time >= host.sweep_at:
            host.sweep(time)
        for call in pump(host, time):
            departed(call)
    return departures, own, time


def test_a_million_grants_break_no_window_and_use_the_whole_budget():
    limits = Limits(
        host=RateLimit(rate=100, burst=40), account=RateLimit(rate=0.6, burst=5), concurrency=None
    )
    assert limits.host
    assert limits.account
    departures, own, end = saturate(Queue(limits, Random(1).random), Random(1), 1_000_000, 200)
    assert_windows_hold(departures, limits.host)
    for one in own.values():
        assert_windows_hold(one, limits.account)
    assert len(departures) / (limits.host.burst + limits.host.rate * end) >= 0.995
    counts = sorted(len(one) for one in own.values())
    assert (
        counts[-1] - counts[0] <= 2 + 0.02 * counts[0]
    )  # round robin, but for those that were cancelled


# --- order ----------------------------------------------------------------------------------------


@run_virtual
async def test_calls_of_one_account_depart_in_the_order_of_their_arrival():
    limiter = limiter_of(
        host=RateLimit(rate=10, burst=3), account=RateLimit(rate=3, burst=2), concurrency=2
    )
    order: dict[str, list[int]] = defaultdict(list)

    async def call(account: str, number: int) -> None:
        await depart(limiter, account)
        order[account].append(number)

    await asyncio.gather(*(call(account, number) for number in range(30) for account in "abc"))
    assert all(numbers == sorted(numbers) for numbers in order.values())


@run_virtual
async def test_an_account_with_ten_thousand_waiting_calls_starves_nobody():
    limiter = limiter_of(host=RateLimit(rate=10, burst=1))
    greedy = begin(limiter, ["greedy"] * 10_000)
    await turns()
    others = begin(limiter, [f"other {number}" for number in range(20)])
    at = await asyncio.gather(*others)
    assert max(at) <= 2.2  # 20 others at 10 a second, and one turn of the greedy account
    assert sum(task.done() for task in greedy) <= 3
    assert await asyncio.gather(*greedy)
    assert now() == pytest.approx((10_020 - 1) / 10)


@run_virtual
async def test_accounts_that_all_have_calls_waiting_take_turns():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    await depart(limiter, "z")
    order: list[str] = []

    async def call(account: str) -> None:
        await depart(limiter, account)
        order.append(account)

    await asyncio.gather(*(call(account) for account in "aaaabbbbcccc"))
    assert "".join(order) == "abcabcabcabc"


@run_virtual
async def test_between_accounts_the_one_that_became_ready_first_goes_first():
    limiter = limiter_of(account=RateLimit(rate=0.1, burst=1), concurrency=1)
    for account in "ab":
        await depart(limiter, account)
        await asyncio.sleep(1)
    hold = await limiter.acquire("host", "c", patience=1)
    order: list[str] = []

    async def call(account: str) -> None:
        await depart(limiter, account)
        order.append(account)

    # Arrived as b, a, d; ready at 11, 10 and 15 seconds.
    tasks = [asyncio.create_task(call(account)) for account in "ba"]
    await asyncio.sleep(13)
    tasks.append(asyncio.create_task(call("d")))
    await asyncio.sleep(5)
    limiter.release(hold, None)
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "d"]


@run_virtual
async def test_a_cancelled_first_call_leaves_its_place_to_its_accounts_next():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    await depart(limiter, "z")
    first, second = begin(limiter, "aa")
    await asyncio.sleep(0.5)
    (other,) = begin(limiter, "b")
    first.cancel()
    assert await second == pytest.approx(1)
    assert await other == pytest.approx(2)


# --- cancellation ---------------------------------------------------------------------------------


@run_virtual
async def test_cancelling_a_waiting_call_neither_costs_nor_grants_anything():
    limiter = limiter_of(host=RateLimit(rate=1, burst=2))
    tasks = begin(limiter, ["a", "b", "c", "d", "e", "f"])
    await asyncio.sleep(0.5)
    for task in tasks[2:5]:
        task.cancel()
    await asyncio.wait(tasks)
    assert [tasks[n].result() for n in (0, 1, 5)] == pytest.approx([0, 0, 1])
    assert all(tasks[n].cancelled() for n in (2, 3, 4))
    assert (state_of(limiter).in_flight, state_of(limiter).waiting) == (0, 0)


@run_virtual
async def test_a_grant_that_is_cancelled_before_its_call_has_run_goes_to_the_next_at_once():
    limiter = limiter_of(
        host=RateLimit(rate=0.1, burst=1), account=RateLimit(rate=0.01, burst=1), concurrency=1
    )
    hold = await limiter.acquire("host", "z", patience=1)
    tasks = begin(limiter, "aaab")
    await asyncio.sleep(100)
    limiter.release(hold, None)  # grants the first; its task runs a turn later
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == pytest.approx([110, 210, 100])
    assert tasks[0].cancelled()
    assert state_of(limiter).in_flight == 0


@run_virtual
async def test_a_call_that_is_cancelled_in_the_turn_of_its_grant_is_passed_over():
    limiter = limiter_of(host=RateLimit(rate=0.1, burst=1), concurrency=1)
    hold = await limiter.acquire("host", "z", patience=1)
    first, second = begin(limiter, "ab")
    await asyncio.sleep(100)
    first.cancel()  # and before its task hears of it:
    limiter.release(hold, None)
    assert await second == 100
    assert first.cancelled()


def test_what_a_grant_gives_back_late_is_less_by_the_budget_that_has_grown_since():
    limit = RateLimit(rate=1, burst=2)
    host = Queue(Limits(host=limit, account=None), Random(1).random)
    late, *calls = [Call(host, "a", 0.0) for _ in range(4)]
    assert host.enqueue(late, 0.0)
    assert host.enqueue(calls[0], 0.9)
    host.leave(late, 0.9)
    assert [host.enqueue(call, 0.9) for call in calls[1:]] == [True, False]
    assert host.host.ready_at == pytest.approx(1.9)


@run_virtual
async def test_a_grant_that_is_given_back_does_not_shorten_a_pause():
    limiter = limiter_of(host=RateLimit(rate=1, burst=5), concurrency=2)
    holds = [await limiter.acquire("host", "a", patience=1) for _ in range(2)]
    first, second, third = begin(limiter, "abc")
    await turns()
    limiter.release(holds[0], None)  # grants the first
    limiter.release(holds[1], told(retry_after=10))
    first.cancel()
    assert await asyncio.gather(second, third) == pytest.approx([10, 12])
    assert first.cancelled()


@pytest.mark.parametrize("waiting", [0, 1, 5])
@run_virtual
async def test_dead_entries_of_the_heap_hide_nobody_who_could_go(waiting):
    limiter = limiter_of(concurrency=1)
    hold = await limiter.acquire("host", "z", patience=1)
    tasks = begin(limiter, ["a"] * waiting)
    doomed = begin(limiter, [f"d{number}" for number in range(300)])
    await turns()
    for task in doomed:
        task.cancel()
    await turns()
    assert len(hold.queue.lanes) <= 2 * waiting + 64
    limiter.release(hold, None)
    assert await asyncio.gather(*tasks) == [0] * waiting
    assert state_of(limiter) == HostState(
        rate=None, paused_for=0, waiting=0, in_flight=0, accounts={}
    )


def test_dropping_dead_entries_in_the_middle_of_a_pump_loses_no_live_one():
    limits = Limits(
        host=RateLimit(rate=1, burst=200), account=RateLimit(rate=0.001, burst=2), concurrency=None
    )
    host = Queue(limits, Random(1).random)

    def calls(letter: str, accounts: int) -> list[Call]:
        return [Call(host, f"{letter}{number % accounts}", 0.0) for number in range(2 * accounts)]

    assert all(host.enqueue(call, 0.0) for call in calls("doomed", 100))
    live, doomed = calls("live", 40), calls("doomed", 100)
    assert not any(host.enqueue(call, 0.0) for call in live + doomed)
    for call in doomed:
        host.leave(call, 0.0)
    assert len(host.lanes) == 140
    assert list(pump(host, 100.0)) == live
    assert len(host.lanes) <= 64


# --- max_wait -------------------------------------------------------------------------------------


def told_locally(error: Any) -> float:
    """The estimated wait of a call that our own limits refused."""
    assert isinstance(error, RateLimited)
    assert (error.scope, error.status, error.code) == ("local", None, None)
    assert error.retry_after is not None
    return error.retry_after


@run_virtual
async def test_a_call_that_can_not_go_within_max_wait_fails_on_arrival_with_its_estimated_wait():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), max_wait=2.5)
    tasks = begin(limiter, "abcde")
    await turns()
    assert [told_locally(task.exception()) for task in tasks[3:]] == pytest.approx([3, 3])
    assert await asyncio.gather(*tasks[:3]) == pytest.approx([0, 1, 2])
    assert await depart(limiter) == pytest.approx(3)


@run_virtual
async def test_a_call_that_others_held_up_fails_when_max_wait_is_over():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), concurrency=1, max_wait=2.5)
    hold = await limiter.acquire("host", "z", patience=1)
    (task,) = begin(limiter, "a")
    await asyncio.wait([task])
    assert (told_locally(task.exception()), now()) == (0, 2.5)
    limiter.release(hold, None)


@run_virtual
async def test_the_account_s_own_calls_and_those_of_better_lanes_count_in_the_estimate():
    limiter = limiter_of(host=RateLimit(rate=10, burst=1), account=RateLimit(rate=1, burst=1))
    tasks = begin(limiter, ["a"] * 5 + ["b", "c"])
    await turns()
    for account, background, wait in [("a", False, 5), ("b", False, 1), ("d", True, 0.3)]:
        with pytest.raises(RateLimited) as caught:
            await depart(limiter, account, max_wait=0, background=background)
        assert told_locally(caught.value) == pytest.approx(wait)
    await asyncio.gather(*tasks)


@run_virtual
async def test_a_call_that_will_pass_ten_thousand_others_is_not_refused_for_them():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    greedy = begin(limiter, ["greedy"] * 10_000)
    await turns()
    assert await depart(limiter, "other", max_wait=2.5) == pytest.approx(2)
    for task in greedy:
        task.cancel()
    await asyncio.wait(greedy)


@run_virtual
async def test_max_wait_is_each_call_s_own_where_it_is_given():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), max_wait=1.5)
    patient = begin(limiter, "abcd", max_wait=math.inf)
    await turns()
    (hasty,) = begin(limiter, "e")
    assert await asyncio.gather(*patient) == pytest.approx([0, 1, 2, 3])
    assert told_locally(hasty.exception()) == pytest.approx(4)


@run_virtual
async def test_with_a_max_wait_of_zero_a_call_goes_at_once_or_fails_at_once():
    limiter = limiter_of(host=RateLimit(rate=1, burst=2), max_wait=0)
    results = await asyncio.gather(*begin(limiter, "abc"), return_exceptions=True)
    assert results[:2] == [0, 0]
    assert isinstance(results[2], RateLimited)
    assert now() == 0


# --- pauses ---------------------------------------------------------------------------------------


@run_virtual
async def test_a_throttle_pauses_the_host_for_as_long_as_it_asks_and_there_is_no_burst_afterwards():
    limiter = limiter_of(host=RateLimit(rate=2, burst=10))
    await depart(limiter, error=told(retry_after=30))
    assert state_of(limiter).paused_for == 30
    at = await asyncio.gather(*begin(limiter, "abcd"))
    assert at[0] == 30
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert gaps == pytest.approx([1, 1, 1], rel=0.02)  # half of the rate, and a little recovered


@run_virtual
async def test_a_call_that_never_queues_is_charged_at_the_lowered_rate_as_well():
    limiter = limiter_of(host=RateLimit(rate=2, burst=1), account=RateLimit(rate=0.1, burst=100))
    await depart(limiter, error=told(retry_after=1))
    await asyncio.sleep(5)
    assert await asyncio.gather(*begin(limiter, "aa")) == pytest.approx([5, 6], abs=0.1)


@run_virtual
async def test_a_call_that_arrives_when_another_could_go_but_has_not_yet_waits_its_turn():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    loop = asyncio.get_running_loop()
    await asyncio.gather(*begin(limiter, "ab"))
    (first,) = begin(limiter, "b")
    await turns()
    loop.now += 5  # type: ignore[attr-defined]  # the loop was busy, and the timer is late
    assert (await depart(limiter, "a"), first.result()) == (7, 6)


@run_virtual
async def test_the_rate_halves_at_each_throttle_and_recovers_in_a_straight_line():
    limiter = limiter_of(host=RateLimit(rate=8, burst=1))

    def rate() -> float | None:
        return state_of(limiter).rate

    assert not limiter.state()
    await depart(limiter, error=told(retry_after=0.5))
    assert rate() == 4
    await depart(limiter, error=told(retry_after=0.5))
    assert rate() == pytest.approx(2)
    await asyncio.sleep(0.5 + 75)
    assert rate() == pytest.approx(2 + 8 * 75 / 300)
    await asyncio.sleep(150)
    assert rate() == 8


@run_virtual
async def test_no_throttle_slows_a_scope_below_a_128th_of_its_rate():
    limiter = limiter_of(host=RateLimit(rate=128, burst=1))
    for _ in range(20):
        await depart(limiter, error=told(retry_after=0))
    assert state_of(limiter).rate == pytest.approx(1, abs=0.6)


@run_virtual
async def test_a_bare_throttle_pauses_a_second_then_twice_as_long_to_a_minute_until_a_success():
    limiter = limiter_of()
    pauses = []
    for _ in range(9):
        await depart(limiter, error=told())
        pauses.append(state_of(limiter).paused_for)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    await depart(limiter)
    await depart(limiter, error=told())
    assert state_of(limiter).paused_for == pytest.approx(1)


@run_virtual
async def test_the_pause_is_spread_by_chance_up_to_half_as_long_again():
    limiter = limiter_of(random=0.999)
    await depart(limiter, error=told())
    assert state_of(limiter).paused_for == pytest.approx(1.4995)


@run_virtual
async def test_what_was_in_flight_at_a_throttle_is_the_same_throttle():
    limiter = limiter_of(host=RateLimit(rate=100, burst=20))
    permits = [await limiter.acquire("host", "a", patience=1) for _ in range(20)]
    for permit in permits:
        limiter.release(permit, told())
    state = state_of(limiter)
    assert (state.rate, state.paused_for) == (50, 1)
    await asyncio.sleep(60)
    late = await limiter.acquire("host", "a", patience=1)
    limiter.release(late, told())
    assert state_of(limiter).rate == pytest.approx((50 + 100 * 59 / 300) / 2)


@run_virtual
async def test_a_reply_of_the_same_throttle_that_comes_after_the_pause_changes_nothing():
    limiter = limiter_of(host=RateLimit(rate=10, burst=10))
    early, late = [await limiter.acquire("host", "a", patience=1) for _ in range(2)]
    limiter.release(early, told())
    await asyncio.sleep(31)
    before = state_of(limiter)
    limiter.release(late, told())
    after = state_of(limiter)
    assert before.rate == after.rate == pytest.approx(6)
    assert after.paused_for == 0
    assert await asyncio.gather(*begin(limiter, "abc")) == [31, 31, 31]


@run_virtual
async def test_of_two_replies_of_one_throttle_the_longer_pause_holds():
    limiter = limiter_of()
    permits = [await limiter.acquire("host", "a", patience=1) for _ in range(3)]
    for permit, retry_after in zip(permits, [5, 20, 10], strict=True):
        limiter.release(permit, told(retry_after=retry_after))
    assert state_of(limiter).paused_for == 20
    assert await depart(limiter) == 20


@run_virtual
async def test_a_success_that_departed_before_the_throttle_does_not_end_its_backoff():
    limiter = limiter_of()
    early, throttled = [await limiter.acquire("host", "a", patience=1) for _ in range(2)]
    limiter.release(throttled, told())
    limiter.release(early, None)
    await depart(limiter, error=told())
    assert state_of(limiter).paused_for == pytest.approx(2)


@run_virtual
async def test_a_throttled_account_holds_up_nobody_else():
    limiter = limiter_of(account=RateLimit(rate=10, burst=10))
    await depart(limiter, "a", error=told("account", retry_after=50))
    assert await asyncio.gather(*begin(limiter, "ab")) == [50, 0]
    state = state_of(limiter)
    assert state.rate is None
    assert state.accounts["a"].rate == 5
    assert "b" not in state.accounts


@run_virtual
async def test_three_accounts_throttled_in_five_seconds_slow_the_host_not_for_their_retry_after():
    limiter = limiter_of(host=RateLimit(rate=100, burst=10))
    for account in "ab":
        await depart(limiter, account, error=told("account", retry_after=1000))
    assert state_of(limiter).rate == 100
    await asyncio.sleep(4)
    await depart(limiter, "c", error=told("account", retry_after=1000))
    state = state_of(limiter)
    assert (state.rate, state.paused_for) == (50, 1)
    assert {account: one.paused_for for account, one in state.accounts.items()} == {
        "a": 996,
        "b": 996,
        "c": 1000,
    }


@run_virtual
async def test_throttled_accounts_far_apart_or_one_again_and_again_do_not_slow_the_host():
    limiter = limiter_of(host=RateLimit(rate=100, burst=10))
    for account in "abc":
        await depart(limiter, account, error=told("account", retry_after=0))
        await asyncio.sleep(4)
    for _ in range(5):
        await depart(limiter, "z", error=told("account", retry_after=0))
    assert state_of(limiter).rate == 100


@run_virtual
async def test_after_a_throttle_of_the_host_it_takes_three_more_accounts_to_slow_it():
    limiter = limiter_of(host=RateLimit(rate=128, burst=10))
    for account in "abc":
        await depart(limiter, account, error=told("account", retry_after=0))
    for account in "de":
        await asyncio.sleep(1.5)
        await depart(limiter, account, error=told("account", retry_after=0))
    assert state_of(limiter).rate == pytest.approx(64, rel=0.02)


@run_virtual
async def test_a_pause_that_outlasts_patience_raises_at_once_for_new_calls_and_for_those_queued():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    hold = await limiter.acquire("host", "z", patience=1)
    hasty, patient = begin(limiter, "a", patience=10), begin(limiter, "a", patience=30)
    await asyncio.sleep(0.25)
    limiter.release(hold, told(retry_after=20))
    results = [*await asyncio.gather(*hasty, return_exceptions=True)]
    assert now() == 0.25
    await asyncio.sleep(5)
    results += await asyncio.gather(*begin(limiter, "b", patience=10), return_exceptions=True)
    assert now() == 5.25
    for error, left in zip(results, [20, 15], strict=True):
        assert isinstance(error, RateLimited)
        assert (error.scope, error.status, error.code, error.message) == (
            "host",
            412,
            -412,
            "slow down",
        )
        assert error.retry_after == pytest.approx(left)
    await asyncio.sleep(5)
    assert await asyncio.gather(*begin(limiter, "c", patience=10.5), *patient) == pytest.approx(
        [22.25, 20.25], rel=0.01
    )
    assert set(state_of(limiter).accounts) == set()


@run_virtual
async def test_of_two_pauses_the_longer_is_told():
    limiter = limiter_of()
    permits = [await limiter.acquire("host", "a", patience=1) for _ in range(2)]
    limiter.release(permits[0], told("host", retry_after=20))
    limiter.release(permits[1], told("account", retry_after=60))
    with pytest.raises(RateLimited) as caught:
        await depart(limiter, "a", patience=10)
    assert (caught.value.scope, caught.value.retry_after) == ("account", 60)


@run_virtual
async def test_refused_calls_leave_no_keys_behind():
    limiter = limiter_of()
    await depart(limiter, "a", error=told(retry_after=1000))
    for number in range(100):
        with pytest.raises(RateLimited):
            await depart(limiter, f"b{number}", patience=1)
    assert len(limiter._hosts["host"].accounts) <= 1


@run_virtual
async def test_a_permit_tells_how_long_it_waited_and_how_much_of_it_was_pause():
    limiter = limiter_of(host=RateLimit(rate=1, burst=2))
    first, second = [await limiter.acquire("host", "a", patience=1) for _ in range(2)]

    async def pass_through() -> Departure:
        permit = await limiter.acquire("host", "a", patience=60)
        limiter.release(permit, None)
        return permit

    waiting = [asyncio.create_task(pass_through()) for _ in range(2)]
    await asyncio.sleep(0.5)
    limiter.release(first, told(retry_after=4))  # until 4.5
    await asyncio.sleep(2)
    limiter.release(second, told(retry_after=4))  # until 6.5
    permits = await asyncio.gather(*waiting)
    assert [(one.waited, one.paused) for one in permits] == [
        (pytest.approx(6.5), pytest.approx(6)),
        (pytest.approx(8.5, rel=0.01), pytest.approx(6)),
    ]
    assert (first.waited, first.paused) == (0, 0)


@run_virtual
async def test_pauses_of_a_host_and_an_account_are_counted_once():
    limiter = limiter_of()
    first, second, third = [await limiter.acquire("host", "a", patience=1) for _ in range(3)]
    limiter.release(first, told("host", retry_after=4))
    waiting = asyncio.create_task(limiter.acquire("host", "a", patience=60))
    await asyncio.sleep(3)
    limiter.release(second, told("account", retry_after=2))  # until 5
    limiter.release(third, None)
    permit = await waiting
    assert (permit.waited, permit.paused) == (5, 5)


@run_virtual
async def test_without_limits_a_pause_still_holds():
    limiter = LocalLimiter(Limits.none(), Seam())
    await depart(limiter, error=told(retry_after=7))
    assert await asyncio.gather(*begin(limiter, "abc")) == [7, 7, 7]
    with pytest.raises(RateLimited):
        await depart(limiter, error=told(retry_after=7), patience=1) and await depart(
            limiter, patience=1
        )


# --- idleness -------------------------------------------------------------------------------------


@run_virtual
async def test_one_timer_serves_all_waiters_of_a_host():
    limiter = limiter_of(
        host=RateLimit(rate=1, burst=1), account=RateLimit(rate=0.5, burst=1), max_wait=900
    )
    tasks = begin(limiter, [f"a{number % 50}" for number in range(500)])
    for _ in range(20):
        await turns()
        assert timers() == 1
        await asyncio.sleep(0.7)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@run_virtual
async def test_an_idle_limiter_has_no_timer_and_no_keys():
    limiter = limiter_of(host=WIDE, account=RateLimit(rate=1, burst=12), max_wait=60)
    await asyncio.gather(*begin(limiter, [f"a{number}" for number in range(5000)]))
    host = limiter._hosts["host"]
    assert len(host.accounts) == 5000
    await asyncio.sleep(2)
    assert (len(host.accounts), host.waiting, timers()) == (0, 0, 0)


@run_virtual
async def test_idle_keys_are_freed_a_few_at_a_time():
    limiter = limiter_of()
    await asyncio.gather(*begin(limiter, [f"a{number}" for number in range(5000)]))
    accounts, seen = limiter._hosts["host"].accounts, [5000]
    while limiter._hosts["host"].accounts:
        if len(accounts) != seen[-1]:
            seen.append(len(accounts))
        await asyncio.sleep(0.005)
    assert max(earlier - later for earlier, later in pairwise(seen)) <= 512


@run_virtual
async def test_a_throttled_account_is_freed_once_it_has_recovered():
    limiter = limiter_of(account=RateLimit(rate=1, burst=12))
    permit = await limiter.acquire("host", "a", patience=1)
    await asyncio.sleep(100)  # its key is freed while it is in flight
    limiter.release(permit, told("account", retry_after=50))
    await asyncio.sleep(49)
    assert state_of(limiter).accounts["a"] == ScopeState(rate=0.5, paused_for=1, waiting=0)
    await asyncio.sleep(160)
    host = limiter._hosts["host"]
    assert (host.accounts, host.slowed, timers()) == ({}, 0, 0)


@run_virtual
async def test_an_account_that_is_not_idle_keeps_its_budget_through_the_sweeps():
    limiter = limiter_of(account=RateLimit(rate=0.01, burst=2))
    await asyncio.gather(*begin(limiter, "aa"))
    await asyncio.sleep(50)
    assert await depart(limiter, "a") == pytest.approx(100)


@run_virtual
async def test_closing_ends_all_waiters_and_stops_all_timers():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), concurrency=1)
    hold = await limiter.acquire("host", "a", patience=1)
    tasks = begin(limiter, "abc")
    await turns()
    limiter.close()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, RuntimeError)
        assert "closed" in str(result)
    limiter.release(hold, told())
    assert timers() == 0
    with pytest.raises(RuntimeError, match="closed"):
        await depart(limiter)


@run_virtual
async def test_an_end_that_is_told_after_closing_starts_no_timer():
    limiter = limiter_of()
    permit = await limiter.acquire("host", "a", patience=1)
    await asyncio.sleep(100)  # its key is freed while it is in flight
    limiter.close()
    limiter.release(permit, told("account"))
    assert timers() == 0


# --- lanes ----------------------------------------------------------------------------------------


@run_virtual
async def test_a_retry_goes_before_ten_thousand_calls_that_were_not_sent_yet():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    waiting = begin(limiter, ["a"] * 5_000 + [f"b{number}" for number in range(5_000)])
    await turns()
    assert await depart(limiter, "a", retry=True) == pytest.approx(1)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@run_virtual
async def test_retries_keep_their_own_order_and_background_calls_go_when_no_other_could():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), account=RateLimit(rate=0.2, burst=2))
    await depart(limiter, "z")
    order: list[str] = []

    async def call(name: str, account: str, **lane: bool) -> None:
        await depart(limiter, account, **lane)
        order.append(name)

    tasks = [
        asyncio.create_task(call(name, account, retry="r" in name, background="b" in name))
        for account, name in [
            ("x", "b1"),
            ("x", "br1"),
            ("y", "1"),
            ("y", "2"),
            ("y", "3"),
            ("z", "r1"),
            ("q", "r2"),
            ("y", "b2"),
        ]
    ]
    await asyncio.gather(*tasks)
    # y has no budget of its own for a third call, so the background may go meanwhile.
    assert order == ["r1", "r2", "1", "2", "br1", "b1", "3", "b2"]


@run_virtual
async def test_the_state_tells_of_background_calls_and_how_long_they_have_waited():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    await depart(limiter)
    background = begin(limiter, "aab", background=True)

    async def people() -> None:
        for _ in range(30):
            await depart(limiter, "person")

    person = asyncio.create_task(people())
    await asyncio.sleep(20.5)
    state = state_of(limiter)
    assert (state.background, state.background_wait) == (3, pytest.approx(20.5))
    assert state.waiting == 4
    await asyncio.gather(person, *background)
    assert now() == pytest.approx(33)  # what people left, the fleet used


# --- pauses that add up ---------------------------------------------------------------------------


@run_virtual
async def test_pauses_count_together_and_end_a_call_in_its_place_in_the_queue():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    tasks = begin(limiter, ["a"] * 50, patience=10)
    patient = begin(limiter, "a", patience=100)

    async def storm() -> None:
        for _ in range(4):
            await depart(limiter, "stormy", error=told(retry_after=3), retry=True)

    await storm()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    # Pauses of three seconds each: the fourth, told at ten seconds, makes twelve in all.
    assert {type(error) for error in ended} == {RateLimited}
    assert now() == 10
    patient[0].cancel()
    await asyncio.wait(patient)


@run_virtual
async def test_what_overlapping_pauses_of_host_and_account_take_is_counted_once():
    limiter = limiter_of()
    permits = [await limiter.acquire("host", "a", patience=1) for _ in range(6)]
    limiter.release(permits[0], told("account", retry_after=8))
    await asyncio.sleep(2)
    limiter.release(permits[1], told("host", retry_after=4))  # 2 to 6, while a is paused 0 to 8
    early = begin(limiter, "a", patience=7)
    await turns()
    assert not early[0].done()
    limiter.release(permits[2], told("host", retry_after=7.5))  # to 9.5: from 2 more than seven
    with pytest.raises(RateLimited) as caught:
        await early[0]
    assert (caught.value.scope, caught.value.retry_after, now()) == ("host", 7.5, 2)
    late = begin(limiter, "a", patience=7.6)
    assert await late[0] == 9.5


def test_a_throttle_of_a_hundred_thousand_waiting_calls_takes_no_walk():
    queue = Queue(Limits(host=RateLimit(rate=1, burst=1)), Random(1).random)
    first = Call(queue, "first", 0.0)
    queue.enqueue(first, 0.0)
    for number in range(100_000):
        queue.enqueue(Call(queue, f"a{number % 100}", 0.0, patience=1000.0 + number % 7), 0.0)
    hasty = Call(queue, "hasty", 0.0, patience=5.0)
    queue.enqueue(hasty, 0.0)
    looked_at = 0

    def count(_frame: Any, event: str, _arg: object) -> None:
        nonlocal looked_at
        looked_at += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        refused = queue.release(first, told(retry_after=10), 1.0)
    finally:
        sys.setprofile(None)
    assert [call for call, _ in refused] == [hasty]
    assert looked_at < 100


# --- slow start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["host", "account"])
@run_virtual
async def test_after_a_pause_one_call_goes_alone_and_then_as_many_again_as_succeeded(scope):
    limiter = limiter_of()
    await depart(limiter, error=told(scope, retry_after=5))
    starts: Counter[float] = Counter()

    async def call() -> None:
        permit = await limiter.acquire("host", "a", patience=FOREVER)
        starts[now()] += 1
        await asyncio.sleep(1)
        limiter.release(permit, None)

    await asyncio.gather(*(call() for _ in range(1000)))
    assert [starts[second] for second in range(5, 15)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 489]


@run_virtual
async def test_a_failure_after_a_pause_lets_one_more_go_and_a_cancellation_too():
    limiter = limiter_of()
    await depart(limiter, error=told(retry_after=5))
    permits = [asyncio.create_task(limiter.acquire("host", "a", patience=60)) for _ in range(3)]
    await asyncio.sleep(6)
    assert [task.done() for task in permits] == [True, False, False]
    limiter.release(permits[0].result(), OSError())
    permits[1].cancel()
    limiter.release(await permits[2], None)
    assert (state_of(limiter).in_flight, now()) == (0, 6)


@run_virtual
async def test_an_account_that_recovers_while_its_first_call_is_under_way_is_held_back_no_more():
    limiter = limiter_of()
    await depart(limiter, error=told("account", retry_after=1))
    first, second = (
        asyncio.create_task(limiter.acquire("host", "a", patience=60)) for _ in range(2)
    )
    await asyncio.sleep(400)
    assert second.done()
    for task in (first, second):
        limiter.release(task.result(), None)


# --- loops that are not asyncio's own -------------------------------------------------------------


class MillisecondLoop(VirtualLoop):
    """A clock of whole milliseconds, as uvloop's: timers come up to half of one early."""

    def time(self) -> float:
        return math.floor(self.now * 1000) / 1000

    def call_at(self, when: float, *args: Any, **options: Any) -> Any:
        return super().call_at(round(when * 1000) / 1000, *args, **options)


def test_a_clock_of_whole_milliseconds_breaks_no_window_and_loses_no_call():
    limit = RateLimit(rate=300, burst=3)

    async def run() -> list[float]:
        limiter = limiter_of(host=limit, concurrency=4)
        departures = []
        random = Random(1)

        async def call(number: int) -> None:
            permit = await limiter.acquire("host", f"a{number % 5}", patience=60)
            departures.append(permit.departed)
            await asyncio.sleep(random.random() / 100)
            limiter.release(permit, None)

        tasks = [asyncio.create_task(call(number)) for number in range(2000)]
        for task in random.sample(tasks, 200):
            asyncio.get_running_loop().call_later(random.random() * 4, task.cancel)
        await asyncio.wait(tasks)
        assert state_of(limiter).in_flight == 0
        limiter.close()
        return departures

    with asyncio.Runner(loop_factory=MillisecondLoop) as runner:
        departures = runner.run(run())
    assert_windows_hold(departures, limit)
    assert len(departures) >= 1800


def test_a_call_that_was_granted_a_tick_ahead_of_the_clock_is_the_same_throttle():
    queue = Queue(Limits(host=RateLimit(rate=100, burst=10)), Random(1).random)
    calls = [Call(queue, "a", 5.0004) for _ in range(2)]
    granted = [queue.enqueue(call, 5.0004) for call in calls]
    assert all(granted)
    for call in calls:
        queue.release(call, told(), 5.0)
    assert queue.state(5.0).rate == 50


# --- coroutines that are closed -------------------------------------------------------------------


@run_virtual
async def test_a_coroutine_that_is_closed_while_it_waits_gives_its_place_back():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1), concurrency=1)
    hold = await limiter.acquire("host", "z", patience=1)
    waits = limiter.acquire("host", "a", patience=60)
    waits.send(None)
    (behind,) = begin(limiter, "a")
    await turns()
    waits.close()
    assert state_of(limiter).waiting == 1
    granted = limiter.acquire("host", "b", patience=60)
    granted.send(None)
    behind.cancel()
    await asyncio.sleep(5)
    limiter.release(hold, None)
    granted.close()
    assert (state_of(limiter).waiting, state_of(limiter).in_flight) == (0, 0)
    assert await depart(limiter) == 5  # and the budget is there


def test_a_coroutine_that_outlives_its_loop_does_no_harm():
    kept = []

    async def leave() -> None:
        limiter = limiter_of(host=RateLimit(rate=1, burst=1))
        await depart(limiter)
        kept.append(limiter.acquire("host", "a", patience=60))
        kept[0].send(None)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(leave())
    kept[0].close()


@run_virtual
async def test_a_refused_call_is_no_reference_cycle():
    limiter = limiter_of(host=RateLimit(rate=1, burst=1))
    hold = await limiter.acquire("host", "a", patience=1)
    tasks = begin(limiter, "a", patience=2)
    await turns()
    gc.collect()
    gc.disable()
    try:
        limiter.release(hold, told(retry_after=5))
        with pytest.raises(RateLimited) as caught:
            await tasks.pop()
        kept = weakref.ref(caught.value)
        del caught
        with pytest.raises(RateLimited):
            await depart(limiter, patience=1)
        await turns(1)  # the loop lets go of what woke this task
        assert kept() is None
    finally:
        gc.enable()


# --- the protocol ---------------------------------------------------------------------------------


@attrs.frozen
class Ticket:
    waited: float
    paused: float
    number: int


class Turnstile:
    """A limiter by hand, as somebody outside would write one: everybody goes, and it counts."""

    def __init__(self) -> None:
        self.released: Counter[str] = Counter()
        self.issued = 0

    async def acquire(self, host: str, account: str, *, patience: float) -> Ticket:
        self.issued += 1
        return Ticket(waited=0.0, paused=0.0, number=self.issued)

    def release(self, permit: Ticket, error: BaseException | None) -> None:
        self.released[type(error).__name__] += 1

    def state(self) -> Mapping[str, HostState]:
        return {}


def test_a_limiter_by_hand_and_our_own_satisfy_the_protocol():
    by_hand: Limiter[Ticket] = Turnstile()  # what mypy checks
    permit: Permit = Ticket(waited=0.0, paused=0.0, number=1)
    assert (by_hand.state(), permit.waited) == ({}, 0)
