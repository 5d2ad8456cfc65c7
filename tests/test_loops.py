"""Limiter, session and Poller in real time, on asyncio's loop and on uvloop's.

uvloop's clock counts whole milliseconds, and what its `call_at` gives promises no more than asyncio
documents: `cancel`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest
from test_limits import assert_windows_hold

from bili_account_async import (
    Limits,
    Poller,
    RateLimit,
    SessionManager,
    SnapshotTaken,
    fetch_snapshot,
    get_vip_info,
    update_sign,
)
from bili_account_async._seam import Seam
from bili_account_async.limiting.local import LocalLimiter
from bili_account_async.sandbox import Sandbox

uvloop = pytest.importorskip("uvloop")
LIMIT = RateLimit(rate=1500, burst=5)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return request.param


def test_two_thousand_waiting_calls_all_depart_within_the_budget(new_loop):
    async def run() -> list[float]:
        limiter = LocalLimiter(Limits(host=LIMIT, account=None, concurrency=50), Seam())
        departures, random = [], Random(1)

        async def call(number: int) -> None:
            options = {"retry": number % 7 == 0, "background": number % 3 == 0}
            permit = await limiter.acquire("host", str(number % 40), patience=math.inf, **options)
            await asyncio.sleep(random.random() / 1000)
            departures.append(permit.departed)
            limiter.release(permit, None)

        await asyncio.gather(*(call(number) for number in range(2000)))
        assert limiter.state()["host"].in_flight == 0
        limiter.close()
        return departures

    with asyncio.Runner(loop_factory=new_loop) as runner:
        departures = runner.run(run())
    assert len(departures) == 2000
    assert_windows_hold(sorted(departures), LIMIT)


def test_a_session_s_calls_and_posts_all_end_well(new_loop):
    async def run() -> None:
        async with (
            Sandbox() as sandbox,
            SessionManager(
                hosts=sandbox.hosts, limits=Limits(host=RateLimit(rate=300, burst=3), account=None)
            ) as manager,
        ):
            accounts = [manager.session(sandbox.add_account().credential) for _ in range(5)]
            await asyncio.gather(
                *(get_vip_info(one) for one in accounts for _ in range(60)),
                *(update_sign(one, f"sign {turn}") for one in accounts for turn in range(10)),
            )

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_a_poller_goes_on_while_people_ask(new_loop):
    async def run() -> None:
        async with (
            Sandbox() as sandbox,
            SessionManager(
                hosts=sandbox.hosts, limits=Limits(host=RateLimit(rate=300, burst=3), account=None)
            ) as manager,
            Poller(manager, every=timedelta(milliseconds=50)) as poller,
        ):
            credentials = [sandbox.add_account().credential for _ in range(5)]
            for number, credential in enumerate(credentials):
                poller.add(str(number), credential)
            taken = 0
            async for event in poller:
                assert isinstance(event, SnapshotTaken)
                assert event.snapshot.complete
                taken += 1
                if taken % 10 == 0:
                    assert (await fetch_snapshot(manager.session(credentials[0]))).complete
                if taken == 50:
                    break

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
