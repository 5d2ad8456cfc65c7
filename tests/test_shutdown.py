"""However a program ends, it ends at once and in silence: no call hangs, and no task, timer or
connection is left.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from faults import HANG, Received, Script, reply, serve
from test_faults import GOOD, asked

from bili_account_async import (
    Credential,
    Limits,
    RateLimit,
    Retry,
    SessionManager,
    fetch_snapshot,
    get_account_info,
    update_sign,
)
from bili_account_async.limiting.timed import CLOSED

ME = Credential(sessdata="me", dede_user_id=1, bili_jct="jct")
CALLS = 1_000


def good(request: Received) -> Script:
    return [reply(GOOD[asked(request)])]


def live_timers() -> list[asyncio.TimerHandle]:
    return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


async def turn_until(done: Callable[[], bool]) -> None:
    """Let the loop turn until something is so that no event tells of."""
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0)


def start(manager: SessionManager, calls: int = CALLS) -> list[asyncio.Task[Any]]:
    me = manager.session(ME)
    return [
        asyncio.create_task(get_account_info(me) if i % 2 else update_sign(me, "sign"))
        for i in range(calls)
    ]


SITUATIONS: dict[str, dict[str, Any]] = {
    "all in flight": {"limits": Limits.none()},
    "most waiting for a place": {"limits": Limits(host=None, account=None)},
    "most waiting for the budget": {},
    "most waiting until max_wait": {
        "limits": Limits(account=RateLimit(rate=1, burst=1), max_wait=3600)
    },
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_closing_ends_a_thousand_calls_within_a_second(situation: str) -> None:
    async with serve(lambda _: [HANG]) as server:
        manager = SessionManager(hosts=server.hosts, **SITUATIONS[situation])
        await manager.open()
        calls = start(manager)
        expected = {
            "all in flight": CALLS,
            "most waiting for a place": 16,
            "most waiting for the budget": 12,
        }
        await turn_until(lambda: len(server.requests) == expected.get(situation, 1))

        started = time.perf_counter()
        await manager.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.perf_counter() - started < 1

        assert {(type(result), "closed" in str(result)) for result in results} == {
            (RuntimeError, True)
        }
        assert live_timers() == []
        await turn_until(lambda: server.open == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_ends_calls_that_wait_for_a_retry_or_for_the_end_of_a_pause() -> None:
    def script(request: Received) -> Script:
        if request.path == "/x/member/web/account":
            return [reply(status="503 Busy")]
        return [reply(status="429 Slow", headers=("Retry-After: 5",))]

    retry = Retry(attempts=5, backoff=60, backoff_max=60)
    async with serve(script) as server:
        manager = SessionManager(hosts=server.hosts, limits=Limits.none(), retry=retry, timeout=99)
        await manager.open()
        me = manager.session(ME)
        calls = [asyncio.create_task(call) for call in (get_account_info(me), fetch_snapshot(me))]
        await turn_until(lambda: len(server.requests) == 9)
        await asyncio.sleep(0.01)

        started = time.perf_counter()
        await manager.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.perf_counter() - started < 1
        assert [type(result) for result in results] == [RuntimeError, RuntimeError]
        assert live_timers() == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_gather_ends_within_a_second_and_the_manager_goes_on() -> None:
    hang = True
    async with (
        serve(lambda request: [HANG] if hang else good(request)) as server,
        SessionManager(hosts=server.hosts, limits=Limits.none()) as manager,
    ):
        calls = start(manager)
        everything = asyncio.gather(*calls)
        await turn_until(lambda: len(server.requests) == CALLS)

        started = time.perf_counter()
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything
        assert time.perf_counter() - started < 1

        await turn_until(lambda: server.open == 0)
        assert all(call.cancelled() for call in calls)
        assert {state.in_flight for state in manager.limits_state().values()} == {0}
        hang = False
        assert (await get_account_info(manager.session(ME))).mid == 293793435
    assert live_timers() == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_failure_in_a_task_group_ends_its_other_calls() -> None:
    def script(request: Received) -> Script:
        return [reply(b'{"code":-101,"message":"no"}')] if request.method == "POST" else [HANG]

    async with (
        serve(script) as server,
        SessionManager(hosts=server.hosts, limits=Limits.none()) as manager,
    ):
        me = manager.session(ME)

        async def many_and_one() -> None:
            async with asyncio.timeout(1), asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(get_account_info(me))
                await turn_until(lambda: len(server.requests) == 100)
                group.create_task(update_sign(me, "sign"))

        with pytest.raises(ExceptionGroup):
            await many_and_one()
        await turn_until(lambda: server.open == 1)  # the refusal's own connection may stay
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def ask_by(client: aiohttp.ClientSession, url: str) -> None:
    async with client.get(url) as response:
        await response.read()


async def test_closing_leaves_the_lent_pool_open_and_takes_only_our_calls_with_it() -> None:
    async with serve(lambda _: [HANG]) as server, aiohttp.ClientSession() as client:
        theirs = asyncio.create_task(ask_by(client, f"http://127.0.0.1:{server.port}/"))
        manager = SessionManager(hosts=server.hosts, limits=Limits.none(), client_session=client)
        await manager.open()
        calls = start(manager, 10)
        await turn_until(lambda: len(server.requests) == 11)
        await manager.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {RuntimeError}
        assert {str(result) for result in results} == {CLOSED}
        await turn_until(lambda: server.open == 1)
        assert not client.closed
        assert not theirs.done()
        theirs.cancel()
        await asyncio.gather(theirs, return_exceptions=True)


async def test_a_lent_pool_closed_too_early_is_a_programmers_mistake() -> None:
    async with serve(good) as server:
        client = aiohttp.ClientSession()
        async with SessionManager(hosts=server.hosts, client_session=client) as manager:
            await get_account_info(manager.session(ME))
            await client.close()
            with pytest.raises(RuntimeError, match="client_session"):
                await get_account_info(manager.session(ME))


# --- whole programs -------------------------------------------------------------------------------

PROGRAM = """
import asyncio, os, pathlib, signal, sys
import aiohttp
from faults import HANG, reply, serve
from bili_account_async import *

SAMPLES = pathlib.Path(sys.argv[1]) / "samples"
GOOD = {
    endpoint.path: SAMPLES / (name.replace("clear", "update") + ".json")
    for name, endpoint in ENDPOINTS.items()
}

ME = Credential(sessdata="me", dede_user_id=1, bili_jct="jct")
NONE = Limits.none()

async def ordinary(server):
    async with open_session(ME, hosts=server.hosts, limits=NONE) as me:
        await fetch_snapshot(me)
        await update_sign(me, "sign")

async def close_in_flight(server):
    manager = SessionManager(hosts=server.hosts, limits=NONE)
    await manager.open()
    calls = [asyncio.create_task(get_account_info(manager.session(ME))) for _ in range(100)]
    await asyncio.sleep(0.1)
    await manager.close()
    await asyncio.gather(*calls, return_exceptions=True)

async def cancel_a_gather(server):
    async with SessionManager(hosts=server.hosts, limits=NONE) as manager:
        calls = asyncio.gather(*(get_account_info(manager.session(ME)) for _ in range(100)))
        await asyncio.sleep(0.1)
        calls.cancel()
        try:
            await calls
        except asyncio.CancelledError:
            pass

async def time_out(server):
    async with open_session(ME, hosts=server.hosts, limits=NONE, timeout=0.1) as me:
        try:
            await get_account_info(me)
        except RequestTimeout:
            pass

async def leave_with_an_error(server):
    try:
        async with SessionManager(hosts=server.hosts, limits=NONE) as manager, asyncio.timeout(0.1):
            await fetch_snapshot(manager.session(ME))
    except TimeoutError:
        pass

async def lend_a_pool(server):
    async with aiohttp.ClientSession() as client:
        async with open_session(ME, hosts=server.hosts, client_session=client, limits=NONE) as me:
            await fetch_snapshot(me)

async def interrupted(server):
    async with open_session(ME, hosts=server.hosts, limits=NONE) as me:
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
        await fetch_snapshot(me)

async def main(what, hangs):
    # a busy machine is not what this is about
    asyncio.get_running_loop().slow_callback_duration = 60
    async with serve(
        lambda request: [HANG] if hangs else [reply(GOOD[request.path].read_bytes())]
    ) as server:
        await what(server)

for name in sys.argv[2:]:
    what = globals()[name]
    try:
        asyncio.run(main(what, what not in (ordinary, lend_a_pool)))
    except KeyboardInterrupt:
        assert what is interrupted
        print("interrupted")
"""
HANGING = ["close_in_flight", "cancel_a_gather", "time_out", "leave_with_an_error", "interrupted"]
ENDINGS = ["ordinary", "lend_a_pool", *HANGING]


def test_a_program_ends_in_silence_in_development_mode_with_warnings_as_errors(
    tmp_path: Path,
) -> None:
    here = Path(__file__).parent
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(program), str(here), *ENDINGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        timeout=60,
        check=False,
    )
    assert (ended.stdout.decode(), ended.returncode) == ("interrupted\n", 0)
