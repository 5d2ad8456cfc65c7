"""Deadlines on a virtual clock: they end what takes too long, and nobody else's cancellation."""

from __future__ import annotations

import asyncio

import pytest
from virtual import START, VirtualLoop, run_virtual, turns

from bili_account_async._deadlines import Deadlines
from bili_account_async._seam import Seam


def now() -> float:
    return asyncio.get_running_loop().time() - START


def timers() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return len(loop.timers())


async def limited(deadlines: Deadlines, seconds: float, body: float) -> bool:
    """Sleep for `body` seconds under a deadline: whether that expired."""
    with deadlines.after(seconds) as deadline:
        await asyncio.sleep(body)
    return deadline.expired


@run_virtual
async def test_what_ends_in_time_is_left_alone():
    assert not await limited(Deadlines(Seam()), 2, 1)
    assert now() == 1


@pytest.mark.parametrize("seconds", [0, 0.001, 0.3, 0.99])
@run_virtual
async def test_a_deadline_below_a_second_is_exact(seconds):
    assert await limited(Deadlines(Seam()), seconds, 100)
    assert now() == pytest.approx(seconds)


@pytest.mark.parametrize("seconds", [1, 1.001, 4, 9.999, 3600])
@run_virtual
async def test_a_longer_deadline_is_never_early_and_at_most_a_64th_of_a_second_late(seconds):
    await asyncio.sleep(0.3)
    start = now()
    assert await limited(Deadlines(Seam()), seconds, 1e6)
    assert seconds - 1e-9 <= now() - start <= seconds + 1 / 64


@run_virtual
async def test_a_deadline_that_is_over_before_it_begins_ends_the_body_at_its_first_wait():
    assert await limited(Deadlines(Seam()), -1, 100)
    assert now() == 0


@run_virtual
async def test_deadlines_that_end_together_share_one_timer():
    deadlines = Deadlines(Seam())
    tasks = []
    await asyncio.sleep(0.001)
    for _ in range(1000):
        tasks.append(asyncio.create_task(limited(deadlines, 4, 100)))
        await asyncio.sleep(1e-5)
    assert timers() == 1 + 1000  # and the sleeps of the bodies
    assert all(await asyncio.gather(*tasks))


@run_virtual
async def test_a_timer_fires_once_and_is_gone():
    deadlines = Deadlines(Seam())
    for _ in range(100):
        assert not await limited(deadlines, 4, 0.5)
    assert timers() == 0  # none of the hundred is left: their calls have ended
    assert await limited(deadlines, 4, 5)
    assert timers() == 0


@run_virtual
async def test_somebody_elses_cancellation_passes_through():
    task = asyncio.create_task(limited(Deadlines(Seam()), 10, 100))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 1


@pytest.mark.parametrize("first", ["deadline", "cancel"])
@run_virtual
async def test_a_cancellation_in_the_turn_of_the_deadline_wins_whichever_came_first(first):
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(Seam())
    task = loop.create_task(limited(deadlines, 10, 100))
    if first == "cancel":
        loop.call_at(START + 10, task.cancel)
    await turns()
    if first == "deadline":
        loop.call_at(START + 10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 10


@pytest.mark.parametrize("outer", [9.0, 10.0, 10.001])
@run_virtual
async def test_a_surrounding_asyncio_timeout_ends_at_its_own_time(outer):
    deadlines = Deadlines(Seam())
    if outer > 10:
        async with asyncio.timeout(outer):
            assert await limited(deadlines, 10, 100)
        return
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(outer):
            await limited(deadlines, 10, 100)
    assert now() == outer
    assert asyncio.current_task().cancelling() == 0


@run_virtual
async def test_a_deadline_leaves_no_trace_on_its_task():
    assert await limited(Deadlines(Seam()), 1, 100)
    assert asyncio.current_task().cancelling() == 0
    async with asyncio.timeout(10):
        await asyncio.sleep(5)  # an asyncio.timeout still works afterwards
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(5)


@run_virtual
async def test_deadlines_nest_and_the_one_that_fires_is_the_one_that_expired():
    deadlines = Deadlines(Seam())
    with deadlines.after(2) as outer, deadlines.after(5) as inner:
        await asyncio.sleep(100)
    assert (outer.expired, inner.expired) == (True, False)
    with deadlines.after(5) as outer, deadlines.after(2) as inner:
        await asyncio.sleep(100)
    assert (outer.expired, inner.expired) == (False, True)


@run_virtual
async def test_two_deadlines_that_fire_together_both_end_and_the_task_goes_on():
    deadlines = Deadlines(Seam())
    with deadlines.after(2) as outer, deadlines.after(2):
        await asyncio.sleep(100)
    assert outer.expired
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(1)


@run_virtual
async def test_an_error_that_the_body_makes_of_its_cancellation_is_the_bodys():
    deadlines = Deadlines(Seam())

    async def body() -> None:
        with deadlines.after(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError):
        await body()
    assert asyncio.current_task().cancelling() == 0


@run_virtual
async def test_a_cancellation_during_the_cleanup_after_a_deadline_passes_through():
    deadlines = Deadlines(Seam())

    async def body() -> None:
        with deadlines.after(2):
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(5)

    task = asyncio.create_task(body())
    await asyncio.sleep(4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@run_virtual
async def test_closing_lets_every_deadline_expire_and_leaves_no_timer():
    deadlines = Deadlines(Seam())
    tasks = [asyncio.create_task(limited(deadlines, seconds, 1e6)) for seconds in (0.5, 4, 4, 100)]
    await turns()
    deadlines.close()
    assert await asyncio.gather(*tasks) == [True] * 4
    assert (now(), timers()) == (0, 0)
