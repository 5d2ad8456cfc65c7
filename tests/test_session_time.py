"""The session's time and retries on a virtual clock.

A fake pool stands in for the network; all else is real.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from virtual import START, VirtualLoop, run_virtual, turns

import bili_account_async as bili
from bili_account_async import (
    ApiError,
    BiliError,
    Credential,
    HostState,
    Limits,
    NotLoggedIn,
    ProtocolError,
    RateLimit,
    RateLimited,
    RequestEvent,
    RequestTimeout,
    Retry,
    RiskControlled,
    SchemaError,
    SessionManager,
    TransportError,
    get_account_info,
    get_vip_info,
    update_sign,
)
from bili_account_async._seam import Seam
from bili_account_async.retry import ENDPOINT_RESERVE, RESERVE
from bili_account_async.sandbox import Sandbox
from bili_account_async.transport import RawReply
from bili_account_async.wire import Request

SAMPLES = Path(__file__).parent / "samples"
BODIES = {bili.ENDPOINTS[path.stem].path: path.read_bytes() for path in SAMPLES.glob("*.json")}
WALL = 1_772_000_000.0  # Wed, 25 Feb 2026 06:13:20 GMT
OK = "ok"
Reply = Callable[[], "RawReply | BiliError"] | str
Step = tuple[float, Reply]
NO_RETRY = Retry(attempts=1)


@attrs.frozen
class Sent:
    at: float
    method: str
    path: str
    cookie: str
    seconds: float


class FakePool:
    """What `transport.Pool` is to a session.

    Each step is how long the answer takes, and what it is; the last stays.
    """

    def __init__(self, engine: Any, steps: list[Step]) -> None:
        self.deadlines = engine.deadlines
        self.steps = steps
        self.sent: list[Sent] = []
        self.open = self.most_open = 0

    async def exchange(self, request: Request, seconds: float) -> RawReply | BiliError:
        path, cookie = request.url.path, request.headers["Cookie"]
        self.sent.append(Sent(now(), request.method, path, cookie, seconds))
        taken, reply = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with self.deadlines.after(seconds):
                await asyncio.sleep(taken)
                came = answer(200, BODIES[path])() if isinstance(reply, str) else reply()
                if isinstance(came, BiliError):
                    came.endpoint = request.endpoint
                return came
            text = f"no answer within {seconds:.3g} s"
            return RequestTimeout(text, endpoint=request.endpoint)
        finally:
            self.open -= 1

    async def close(self) -> None:
        pass


def now() -> float:
    return asyncio.get_running_loop().time() - START


def answer(status: int, body: bytes = b"{}", **headers: str) -> Callable[[], RawReply]:
    return lambda: RawReply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, body
    )


def code(number: int, message: str = "") -> Callable[[], RawReply]:
    return answer(200, json.dumps({"code": number, "message": message}).encode())


def failing(
    *arguments: Any, of: type[BiliError] = TransportError, **options: Any
) -> Callable[[], BiliError]:
    return lambda: of(*arguments, **options)


RESET = failing("the connection was reset")
REFUSED = failing("can't connect", sent=False)
CERTIFICATE = failing("its TLS certificate is not valid", sent=False, certificate=True)
STALE = failing("the server closed the connection without an answer", stale=True)
UNAVAILABLE = answer(503, b"busy")
HANG = 1e9
SLOW_DOWN = answer(412)


@asynccontextmanager
async def managed(
    *steps: Step | Reply, random: float = 0.0, **options: Any
) -> AsyncIterator[tuple[Any, FakePool]]:
    """A manager on the running virtual loop, and the fake pool that answers it.

    Leaves nothing: no task, no timer.
    """
    manager = SessionManager(**{"limits": Limits.none()} | options)
    manager._new_seam = lambda: Seam(random=lambda: random, wall=lambda: WALL)
    await manager.open()
    engine = manager._engine
    assert engine is not None
    await engine.pool.close()
    pool = FakePool(
        engine, [step if isinstance(step, tuple) else (0.0, step) for step in steps or (OK,)]
    )
    engine.pool = pool  # type: ignore[assignment]
    try:
        yield manager, pool
    finally:
        await manager.close()
        await turns()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert not loop.timers()


def credential(number: int = 1) -> Credential:
    return Credential(sessdata=f"secret{number}", dede_user_id=number, bili_jct="jct")


def times(pool: FakePool) -> list[float]:
    return [sent.at for sent in pool.sent]


async def outcome(call: Any) -> BiliError:
    with pytest.raises(BiliError) as caught:
        await call
    assert caught.value.endpoint
    return caught.value


# --- attempts and backoff -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [RESET, REFUSED, UNAVAILABLE, answer(500), code(-500), code(-503), code(-504)]
)
@run_virtual
async def test_a_get_that_fails_in_passing_is_tried_again_until_it_succeeds(reply):
    async with managed(reply, reply, OK) as (manager, pool):
        reply = await manager.session(credential()).call_raw(bili.ENDPOINTS["get_vip_info"])
        assert (reply.attempts, len(pool.sent)) == (3, 3)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (CERTIFICATE, TransportError),
        (answer(404), ProtocolError),
        (answer(302, Location="https://example.com"), ProtocolError),
        (answer(200, b"<html>"), ProtocolError),
        (code(-400), ApiError),
        (code(-101), NotLoggedIn),
        (code(-352), RiskControlled),
        (code(0), SchemaError),
    ],
)
@run_virtual
async def test_what_does_not_pass_by_itself_is_never_tried_again(reply, error):
    async with managed(reply) as (manager, pool):
        assert type(await outcome(get_vip_info(manager.session(credential())))) is error
        assert (len(pool.sent), now()) == (1, 0)


@pytest.mark.parametrize("attempts", [1, 2, 5])
@run_virtual
async def test_after_the_last_attempt_the_last_error_is_raised(attempts):
    steps = [failing(f"failure {number}") for number in range(1, 9)]
    async with managed(*steps, retry=Retry(attempts=attempts)) as (manager, pool):
        error = await outcome(get_vip_info(manager.session(credential())))
        assert str(error) == f"get_vip_info: failure {attempts}"
        assert len(pool.sent) == attempts


@pytest.mark.parametrize(
    ("chance", "expected"), [(0.0, [0, 0, 0, 0]), (0.5, [0, 0.125, 0.375, 0.875])]
)
@run_virtual
async def test_backoff_is_exponential_with_full_jitter(chance, expected):
    async with managed(RESET, retry=Retry(attempts=4), random=chance) as (manager, pool):
        await outcome(get_vip_info(manager.session(credential())))
        assert times(pool) == pytest.approx(expected)


@run_virtual
async def test_an_attempt_is_cut_at_its_own_timeout_and_the_call_at_its_own():
    async with managed((HANG, OK)) as (manager, pool):
        error = await outcome(get_vip_info(manager.session(credential())))
        assert isinstance(error, RequestTimeout)
        assert isinstance(error, TimeoutError)
        assert [sent.seconds for sent in pool.sent] == pytest.approx([4, 4, 2], abs=0.04)
        assert now() == pytest.approx(10, abs=0.05)


@pytest.mark.parametrize("timeout", [0.5, 3.0, 30.0])
@run_virtual
async def test_the_timeout_of_a_call_overrules_the_managers(timeout):
    async with managed((HANG, OK), retry=Retry.none()) as (manager, pool):
        await outcome(get_vip_info(manager.session(credential()), timeout=timeout))
        assert now() == pytest.approx(timeout, abs=0.02)
        assert [sent.seconds for sent in pool.sent] == [timeout]


@run_virtual
async def test_a_backoff_that_would_outlast_the_timeout_is_not_waited_for():
    retry = Retry(attempts=100, backoff=4.0, backoff_max=4.0)
    async with managed(RESET, retry=retry, random=0.75) as (manager, pool):
        await outcome(get_vip_info(manager.session(credential())))
        assert times(pool) == [0, 3, 6, 9]
        assert now() == 9


@run_virtual
async def test_ten_thousand_calls_may_queue_for_an_hour_and_all_succeed():
    limits = Limits(host=RateLimit(rate=10_000 / 3600, burst=1), account=None)
    async with managed((1.0, OK), limits=limits) as (manager, pool):
        sessions = [manager.session(credential(number)) for number in range(1, 501)]
        await asyncio.gather(*(get_vip_info(session) for session in sessions for _ in range(20)))
        assert now() == pytest.approx(3600, abs=2)
        assert Counter(sent.cookie for sent in pool.sent[:500]).most_common(1)[0][1] <= 2


@run_virtual
async def test_waiting_for_our_own_budget_before_a_retry_does_not_count_either():
    limits = Limits(host=RateLimit(rate=0.01, burst=1), account=None)
    async with managed(RESET, RESET, OK, limits=limits) as (manager, pool):
        await get_vip_info(manager.session(credential()))
        assert times(pool) == pytest.approx([0, 100, 200])


@run_virtual
async def test_every_retry_passes_the_limiter():
    limits = Limits(host=RateLimit(rate=1, burst=2), account=None, concurrency=1)
    async with managed((0.125, RESET), limits=limits) as (manager, pool):
        calls = [get_vip_info(manager.session(credential(number))) for number in (1, 2, 3)]
        await asyncio.gather(*map(outcome, calls))
        assert times(pool) == pytest.approx([0, 0.125, 1, 2, 3, 4, 5, 6, 7])
        assert pool.most_open == 1


@run_virtual
async def test_max_wait_raises_scope_local_and_is_not_tried_again():
    limits = Limits(host=RateLimit(rate=0.1, burst=1), account=None, max_wait=3)
    async with managed(limits=limits) as (manager, pool):
        me = manager.session(credential())
        await get_vip_info(me)
        error = await outcome(get_vip_info(me))
        assert isinstance(error, RateLimited)
        assert (error.scope, now(), len(pool.sent)) == ("local", 0, 1)
        assert error.retry_after == pytest.approx(10)


# --- what the server asks for ---------------------------------------------------------------------


@run_virtual
async def test_retry_after_of_a_503_is_waited_for():
    async with managed(answer(503, Retry_After="7"), OK) as (manager, pool):
        await get_vip_info(manager.session(credential()))
        assert times(pool) == [0, 7]
        assert (
            manager.limits_state()["api"].paused_for == 0
        )  # one endpoint's trouble holds up no other call


@run_virtual
async def test_retry_after_of_a_503_that_outlasts_the_timeout_raises_at_once():
    async with managed(answer(503, Retry_After="10")) as (manager, pool):
        error = await outcome(get_vip_info(manager.session(credential())))
        assert isinstance(error, ProtocolError)
        assert (error.status, error.retry_after, now(), len(pool.sent)) == (503, 10, 0, 1)


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("5", 5),
        ("0", 0),
        ("2.5", 2.5),
        ("Wed, 25 Feb 2026 06:13:29 GMT", 9),
        ("Wed, 25 Feb 2026 06:00:00 GMT", 1),
        ("86401", 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("-5", 1),
        ("nan", 1),
        ("inf", 1),
        ("soon", 1),
        ("", 1),
        (None, 1),
    ],
)
@run_virtual
async def test_a_throttle_pauses_for_its_retry_after_and_for_what_can_not_be_read_about_a_second(
    header, pause
):
    reply = answer(429, **({} if header is None else {"Retry_After": header}))
    async with managed(reply, retry=NO_RETRY) as (manager, _):
        error = await outcome(get_vip_info(manager.session(credential())))
        assert isinstance(error, RateLimited)
        assert manager.limits_state()["api"].paused_for == pytest.approx(pause)


@run_virtual
async def test_a_pause_that_ends_inside_the_timeout_is_waited_for_and_counts():
    async with managed(answer(412, Retry_After="7"), (HANG, OK)) as (manager, pool):
        await outcome(get_vip_info(manager.session(credential())))
        assert times(pool) == [0, 7]
        assert [sent.seconds for sent in pool.sent] == pytest.approx([4, 3])
        assert now() == pytest.approx(10, abs=0.02)


@run_virtual
async def test_after_a_throttle_there_is_no_backoff_beside_the_pause():
    async with managed(answer(412, Retry_After="0"), OK, random=0.9) as (manager, pool):
        await get_vip_info(manager.session(credential()))
        assert times(pool) == [0, 0]


@run_virtual
async def test_pauses_add_up_over_the_attempts_of_a_call():
    steps = [
        answer(412, Retry_After="4"),
        answer(412, Retry_After="4"),
        answer(412, Retry_After="4"),
    ]
    async with managed(*steps, retry=Retry(attempts=9)) as (manager, pool):
        error = await outcome(get_vip_info(manager.session(credential())))
        assert isinstance(error, RateLimited)
        assert error.retry_after == pytest.approx(4)
        assert times(pool) == [0, 4, 8]
        assert now() == 8


@run_virtual
async def test_pauses_that_overlap_count_together_and_end_a_call_in_the_queue():
    slow = answer(412, Retry_After="4")
    async with managed(slow, (3.5, slow), retry=Retry(attempts=9)) as (manager, pool):
        first = asyncio.create_task(
            outcome(get_vip_info(manager.session(credential(1)), timeout=5))
        )
        second = asyncio.create_task(
            outcome(get_vip_info(manager.session(credential(2)), timeout=20))
        )
        error = await first
        assert isinstance(error, RateLimited)
        assert (error.retry_after, now()) == (4, 3.5)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert [state.in_flight for state in manager.limits_state().values()] == [0]
        assert min(sent.seconds for sent in pool.sent) > 0


@pytest.mark.parametrize(
    "limits", [Limits.none(), Limits(host=RateLimit(rate=1, burst=1), concurrency=1)]
)
@run_virtual
async def test_a_pause_that_outlasts_the_timeout_raises_at_once_for_the_call_new_and_queued_ones(
    limits,
):
    async with managed(
        (0.5, answer(412, code(-412)().body, Retry_After="60")), OK, limits=limits
    ) as (manager, pool):
        me, other = manager.session(credential(1)), manager.session(credential(2))
        met = asyncio.create_task(outcome(get_vip_info(me)))
        await turns()
        queued = (
            []
            if limits == Limits.none()
            else [asyncio.create_task(outcome(get_account_info(other)))]
        )
        errors = [await met, *await asyncio.gather(*queued)]
        assert now() == 0.5
        await asyncio.sleep(20)
        errors.append(await outcome(get_vip_info(other)))
        assert now() == 20.5
        for error, left in zip(errors, [60] * (1 + len(queued)) + [40], strict=True):
            assert isinstance(error, RateLimited)
            assert (error.scope, error.status) == ("host", 412)
            assert error.retry_after == pytest.approx(left)
        assert len(pool.sent) == 1
        await asyncio.sleep(35)
        await get_vip_info(me)  # five seconds are inside the timeout
        assert now() == pytest.approx(60.5)


@run_virtual
async def test_a_pause_before_the_first_departure_does_not_shorten_the_talking():
    async with managed(answer(412, Retry_After="8"), (3.5, OK), retry=Retry(attempts=2)) as (
        manager,
        pool,
    ):
        first = asyncio.create_task(get_vip_info(manager.session(credential(1)), timeout=20))
        await turns()
        await get_vip_info(manager.session(credential(2)))
        await first
        assert [sent.seconds for sent in pool.sent] == [4, 4, 4]


@pytest.mark.parametrize("number", [-509, -702, -799])
@run_virtual
async def test_a_code_about_the_account_pauses_that_account_alone(number):
    async with managed(code(number), OK) as (manager, pool):
        me, other = manager.session(credential(1)), manager.session(credential(2))
        await asyncio.gather(get_vip_info(me), get_vip_info(other))
        assert [(sent.at, sent.cookie[9:16]) for sent in pool.sent] == [
            (0, "secret1"),
            (0, "secret2"),
            (1, "secret1"),
        ]
        assert manager.limits_state()["api"].accounts["1"].paused_for == 0


# --- the POST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [RESET, STALE, UNAVAILABLE, SLOW_DOWN, code(-500), code(-509), (HANG, OK)]
)
@run_virtual
async def test_a_post_is_never_sent_twice_once_a_byte_of_it_may_have_left(step):
    async with managed(step, retry=Retry(attempts=5)) as (manager, pool):
        await outcome(update_sign(manager.session(credential()), "sign"))
        await asyncio.sleep(1000)
        assert [sent.method for sent in pool.sent] == ["POST"]


@pytest.mark.parametrize("reply", [REFUSED, failing("it spoke unasked", sent=False, stale=True)])
@run_virtual
async def test_a_post_of_which_nothing_left_is_sent_again(reply):
    async with managed(reply, OK) as (manager, pool):
        await update_sign(manager.session(credential()), "sign")
        assert [sent.method for sent in pool.sent] == ["POST", "POST"]


# --- dead idle connections ------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [Retry(), Retry.none()])
@run_virtual
async def test_a_get_that_met_dead_idle_connections_is_sent_again_at_once_and_for_free(retry):
    async with managed(STALE, STALE, STALE, STALE, OK, retry=retry, random=0.9) as (manager, pool):
        budget = manager._engine.routes[bili.ENDPOINTS["get_vip_info"]].lane.budget
        await get_vip_info(manager.session(credential()))
        assert times(pool) == [0] * 5
        assert budget.left == RESERVE


# --- the retry budget -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [REFUSED, (HANG, OK), UNAVAILABLE, SLOW_DOWN], ids=["refused", "hang", "503", "412"]
)
@pytest.mark.parametrize(
    ("limits", "a_second"), [(Limits(), 2), (Limits.none(), 25)], ids=["default", "wide"]
)
@run_virtual
async def test_in_an_outage_of_a_minute_no_more_is_sent_than_1_2_times_the_calls(
    step, limits, a_second
):
    async with managed(step, limits=limits, random=0.5) as (manager, pool):
        sessions = [manager.session(credential(number)) for number in range(1, 11)]
        calls = []
        for number in range(60 * a_second):
            calls.append(asyncio.create_task(outcome(get_vip_info(sessions[number % 10]))))
            await asyncio.sleep(1 / a_second)
        made, sent = len(calls), len(pool.sent)
        await asyncio.gather(*calls)
        assert sent <= 1.2 * made
        assert len(pool.sent) <= made + RESERVE


@run_virtual
async def test_after_an_outage_successes_earn_retries_again():
    async with managed(RESET) as (manager, pool):
        me = manager.session(credential())
        for _ in range(50):
            await outcome(get_vip_info(me))
        assert len(pool.sent) == 50 + ENDPOINT_RESERVE
        pool.steps = [(0, OK)]
        for _ in range(11):
            await get_vip_info(me)
        pool.steps, pool.sent = [(0, RESET)], []
        await outcome(get_vip_info(me))
        assert len(pool.sent) == 3


# --- options of a session's own -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "bad", "error"),
    [
        ("timeout", bad, ValueError)
        for bad in (0, -1, float("nan"), float("inf"), "1", True, 10**400)
    ]
    + [("max_wait", bad, ValueError) for bad in (-1, float("nan"), "1", True, 10**400)]
    + [("retry", 3, TypeError), ("background", 1, TypeError), ("background", None, TypeError)],
)
def test_an_option_of_a_session_that_can_not_be_is_refused_by_its_name(option, bad, error):
    with pytest.raises(error, match=f"^{option}: "):
        SessionManager().session(credential(), **{option: bad})


@run_virtual
async def test_a_session_s_timeout_and_retry_replace_the_manager_s_and_a_call_s_its_session_s():
    async with managed((HANG, OK), retry=Retry.none(), timeout=20) as (manager, pool):
        hasty = manager.session(credential(), timeout=3, retry=Retry(attempt_timeout=2))
        await outcome(get_vip_info(hasty))
        assert [sent.seconds for sent in pool.sent] == pytest.approx([2, 1], abs=0.04)
        await outcome(get_vip_info(hasty, timeout=1))
        assert pool.sent[2].seconds == 1
        await outcome(get_vip_info(manager.session(credential())))
        assert pool.sent[3].seconds == 20


@run_virtual
async def test_a_session_s_max_wait_replaces_the_manager_s_and_infinity_lifts_it():
    limits = Limits(host=RateLimit(rate=0.1, burst=1), account=None, max_wait=3)
    async with managed(limits=limits) as (manager, _):
        await get_vip_info(manager.session(credential()))
        calls = [
            asyncio.create_task(get_vip_info(manager.session(credential(), max_wait=seconds)))
            for seconds in (float("inf"), 25, None, 0)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert now() == pytest.approx(20)
        assert [type(result) for result in results] == [bili.VipInfo] * 2 + [RateLimited] * 2
        assert [error.retry_after for error in results[2:]] == pytest.approx([30, 30])


@run_virtual
async def test_max_wait_bounds_the_waits_of_all_attempts_together_and_the_failure_is_told():
    limits = Limits(host=RateLimit(rate=0.25, burst=1), account=None)
    async with managed(UNAVAILABLE, limits=limits) as (manager, pool):
        error = await outcome(get_vip_info(manager.session(credential(), max_wait=6)))
        assert isinstance(error, ProtocolError)
        assert (error.status, times(pool), now()) == (503, [0, 4], 4)


@run_virtual
async def test_a_503_among_ten_thousand_waiting_calls_is_answered_at_once():
    limits = Limits(host=RateLimit(rate=1, burst=1), account=None)
    async with managed(UNAVAILABLE, OK, limits=limits) as (manager, _):
        me = manager.session(credential())
        first = asyncio.create_task(get_vip_info(me))
        others = [asyncio.create_task(get_vip_info(me)) for _ in range(10_000)]
        await first
        assert now() == pytest.approx(1)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@run_virtual
async def test_queued_retries_end_when_the_server_s_pauses_have_used_up_their_time():
    limits = Limits(host=RateLimit(rate=2, burst=12), account=None)
    slow_down = answer(412, Retry_After="3")
    retry = Retry(attempts=99)
    async with managed((0.05, slow_down), limits=limits, retry=retry) as (manager, _):
        ended: list[float] = []

        async def call(number: int) -> None:
            error = await outcome(get_vip_info(manager.session(credential(number))))
            assert isinstance(error, (RateLimited, RequestTimeout))
            ended.append(now())

        await asyncio.gather(*(call(number) for number in range(1, 101)))
        assert max(ended) <= 10


@run_virtual
async def test_an_endpoint_that_always_fails_costs_the_healthy_ones_nothing():
    chance = Random(1)

    class Sick:
        """Six endpoints: one always fails, one attempt in a hundred of the others does."""

        def __call__(self) -> RawReply | BiliError:
            sick = pool.sent[-1].path == bili.ENDPOINTS["get_coin_exp"].path
            failed = sick or chance.random() < 0.01
            return UNAVAILABLE() if failed else answer(200, BODIES[pool.sent[-1].path])()

    names = sorted(set(bili.ENDPOINTS) - {"update_sign", "clear_sign", "get_coin_log"})[:6]
    assert "get_coin_exp" in names
    async with managed(Sick()) as (manager, pool):
        me = manager.session(credential())
        failures: Counter[str] = Counter()
        for _ in range(3000):
            for name in names:
                try:
                    await me.call(bili.ENDPOINTS[name])
                except BiliError:
                    failures[name] += 1
        assert failures == {"get_coin_exp": 3000}
        sick = sum(sent.path == bili.ENDPOINTS["get_coin_exp"].path for sent in pool.sent)
        assert sick == 3000 + ENDPOINT_RESERVE


# --- people before machines -----------------------------------------------------------------------


@run_virtual
async def test_people_wait_seconds_while_a_fleet_polls_flat_out_and_it_uses_all_that_they_leave():
    async with managed((0.1, OK), limits=Limits()) as (manager, pool):

        async def poll(number: int) -> None:
            session = manager.session(credential(number), background=True)
            while True:
                await bili.fetch_snapshot(session)

        fleet = [asyncio.create_task(poll(number)) for number in range(1, 201)]
        await asyncio.sleep(300)
        calls, snapshots = [], []
        for number in range(1, 61):  # among them accounts that the fleet polls as well
            person = manager.session(credential(number * 5))
            begun = now()
            await get_vip_info(person)
            calls.append(now() - begun)
            await asyncio.sleep(20)
            begun = now()
            assert (await bili.fetch_snapshot(person)).complete
            snapshots.append(now() - begun)
            await asyncio.sleep(20)
        assert max(calls) <= 2
        assert max(snapshots) <= 8
        state = manager.limits_state()["api"]
        assert state.background > 500
        assert state.background_wait > 300
        # On each host no more was left unused than a departure takes.
        sent = sum(each.path in API_PATHS for each in pool.sent)
        assert sent >= 12 + 2 * now() - 1
        for task in fleet:
            task.cancel()
        await asyncio.gather(*fleet, return_exceptions=True)


API_PATHS = {endpoint.path for endpoint in bili.ENDPOINTS.values() if endpoint.host == "api"}


# --- events ---------------------------------------------------------------------------------------


@run_virtual
async def test_each_attempt_is_told_with_all_its_circumstances():
    events: list[RequestEvent] = []
    steps = [(0.5, UNAVAILABLE), (0.25, answer(412, Retry_After="3")), (0.125, OK)]
    limits = Limits(host=RateLimit(rate=1, burst=1), account=None)
    async with managed(*steps, limits=limits, on_request=events.append) as (manager, _):
        await get_vip_info(manager.session(credential(7), label="小明"))
    common = {"endpoint": "get_vip_info", "host": "api", "account": "小明"}
    first, second, _ = events
    assert isinstance(first.outcome, ProtocolError)
    assert isinstance(second.outcome, RateLimited)
    assert (first.outcome.endpoint, second.outcome.retry_after) == ("get_vip_info", 3)
    expected = [
        RequestEvent(**common, attempt=1, outcome=first.outcome, status=503, waited=0, seconds=0.5),
        RequestEvent(
            **common, attempt=2, outcome=second.outcome, status=412, waited=0.5, seconds=0.25
        ),
        RequestEvent(**common, attempt=3, outcome=None, status=200, waited=3, seconds=0.125),
    ]
    assert events == expected
    assert "secret" not in repr(events)


@run_virtual
async def test_an_attempt_without_an_answer_has_no_status_and_a_refused_call_is_no_attempt():
    events: list[RequestEvent] = []
    async with managed(RESET, answer(412, Retry_After="60"), on_request=[events.append]) as (
        manager,
        _,
    ):
        me = manager.session(credential(7))
        await outcome(get_vip_info(me))
        await outcome(get_vip_info(me))
    assert [(event.attempt, event.status, event.account) for event in events] == [
        (1, None, "7"),
        (2, 412, "7"),
    ]


@run_virtual
async def test_an_observer_that_raises_is_logged_and_does_no_harm(caplog):
    events: list[RequestEvent] = []

    def broken(event: RequestEvent) -> None:
        raise KeyError("observer's own trouble")

    async with managed(RESET, OK, on_request=(broken, events.append)) as (manager, _):
        await get_vip_info(manager.session(credential()))
        assert manager.limits_state()["api"].in_flight == 0
    assert len(events) == 2
    assert [record.message for record in caplog.records] == [
        "on_request raised; the call goes on"
    ] * 2


# --- cancelling and closing, at every moment ------------------------------------------------------

LIFE = [(1.0, UNAVAILABLE), (0.5, answer(412, Retry_After="2")), (0.25, OK)]
LIFE_LIMITS = Limits(
    host=RateLimit(rate=1, burst=1), account=RateLimit(rate=1, burst=1), concurrency=1
)
MOMENTS = [0, 0.5, 1.0, 1.5, 2.0, 2.1, 2.25, 2.5, 3.0, 4.0, 4.5, 4.6, 4.75]
"""Of a call that waits for the limit until 1, is on the wire until 2, in backoff until 2.125, waits
until 2.25, …
"""


@asynccontextmanager
async def living_call(
    moment: float, turn: int
) -> AsyncIterator[tuple[Any, FakePool, asyncio.Task[Any]]]:
    """A call in the middle of its life, with two more behind it; `turn` steps into the loop's turns
    of that moment.
    """
    async with managed(OK, *LIFE, limits=LIFE_LIMITS, random=0.5) as (manager, pool):
        me, other = manager.session(credential(1)), manager.session(credential(2))
        await get_vip_info(other)
        task = asyncio.create_task(get_vip_info(me))
        await asyncio.sleep(moment)
        await turns(turn)
        yield manager, pool, task


@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("moment", MOMENTS)
@run_virtual
async def test_cancelling_works_at_once_at_every_moment_and_leaves_the_books_clean(
    moment, turn, how
):
    async with living_call(moment, turn) as (manager, pool, task):
        before = now()
        if how == "cancel" or not moment:
            finished = not task.cancel()
            await turns(10)
            assert task.done()
            assert finished or task.cancelled()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await task
        assert now() == before
        state = manager.limits_state()["api"]
        assert (state.in_flight, state.waiting, pool.open) == (0, 0, 0)
        pool.steps = [(0, OK)]
        await get_vip_info(manager.session(credential(3)))
        assert now() <= before + 4  # the budget of one departure, and the rest of a pause


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("moment", MOMENTS)
@run_virtual
async def test_closing_works_at_once_at_every_moment_and_leaves_nothing(moment, turn):
    async with living_call(moment, turn) as (manager, pool, task):
        queued = [
            asyncio.create_task(get_vip_info(manager.session(credential(number))))
            for number in (4, 5)
        ]
        await turns(turn)
        before, sent = now(), len(pool.sent)
        await manager.close()
        results = await asyncio.gather(task, *queued, return_exceptions=True)
        for result in results:
            assert isinstance(result, (RuntimeError, bili.VipInfo)), result
            assert not isinstance(result, RuntimeError) or "closed" in str(result)
        assert isinstance(results[1], RuntimeError) or moment == 4.75
        assert (now(), len(pool.sent)) == (before, sent)
        with pytest.raises(RuntimeError, match="closed"):
            await get_vip_info(manager.session(credential()))


@run_virtual
async def test_a_call_that_is_granted_in_the_turn_of_the_closing_is_not_sent():
    async with managed((1.0, OK), limits=Limits(host=None, account=None, concurrency=1)) as (
        manager,
        pool,
    ):

        def close_now(
            _: RequestEvent,
        ) -> None:  # the permit is free again, and the second call has it
            with suppress(StopIteration):
                manager.close().send(None)

        manager._engine.on_request = (close_now,)
        first = asyncio.create_task(get_vip_info(manager.session(credential(1))))
        second = asyncio.create_task(get_vip_info(manager.session(credential(2))))
        await first
        with pytest.raises(RuntimeError, match="closed"):
            await second
        assert len(pool.sent) == 1


@run_virtual
async def test_closing_during_a_backoff_asks_no_limiter_any_more():
    turnstile = Turnstile()
    async with managed(RESET, limits=None, limiter=turnstile, random=0.9) as (manager, _):
        call = asyncio.create_task(get_vip_info(manager.session(credential())))
        await turns()
        await manager.close()
        with pytest.raises(RuntimeError, match="closed"):
            await call
        assert (now(), len(turnstile.asked), len(turnstile.told)) == (0, 1, 1)


@pytest.mark.parametrize("first", ["deadline", "cancel"])
@run_virtual
async def test_a_cancellation_at_the_moment_of_the_attempts_deadline_is_not_swallowed(first):
    async with managed((HANG, OK), limits=Limits()) as (manager, pool):
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(get_vip_info(manager.session(credential())))
        if first == "cancel":
            loop.call_at(START + 4, task.cancel)
        await turns()
        if first == "deadline":
            loop.call_at(START + 4, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (now(), len(pool.sent)) == (4, 1)
        assert manager.limits_state()["api"].in_flight == 0


@run_virtual
async def test_a_timeout_of_the_callers_ends_a_call_that_waits_for_the_limit():
    async with managed(limits=Limits(host=RateLimit(rate=0.001, burst=1), account=None)) as (
        manager,
        _,
    ):
        me = manager.session(credential())
        await get_vip_info(me)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await get_vip_info(me)
        assert now() == 5
        assert manager.limits_state()["api"].waiting == 0


# --- a limiter of one's own -----------------------------------------------------------------------


@attrs.frozen
class Ticket:
    waited: float = 1.5
    paused: float = 0.0


class Turnstile:
    """A limiter by hand: it lets everybody pass and writes down what it is told."""

    limits: Any = None

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []
        self.told: list[BaseException | None] = []

    def __len__(self) -> int:  # an empty one is false, and a limiter all the same
        return 0

    async def acquire(self, host: str, account: str, *, patience: float) -> Ticket:
        self.asked.append((host, account, patience))
        return Ticket()

    def release(self, permit: Ticket, error: BaseException | None) -> None:
        self.told.append(error)

    def state(self) -> Mapping[str, HostState]:
        return {
            "api.bilibili.com": HostState(
                rate=None, paused_for=0, waiting=0, in_flight=0, accounts={}
            )
        }


@run_virtual
async def test_a_limiter_by_hand_replaces_all_of_the_limits():
    turnstile, events = Turnstile(), []
    async with managed(RESET, OK, limits=None, limiter=turnstile, on_request=events.append) as (
        manager,
        pool,
    ):
        me = manager.session(credential(42))
        await asyncio.gather(*(get_vip_info(me) for _ in range(100)))
        assert (now(), len(pool.sent), pool.most_open) == (0, 101, 100)
        assert turnstile.asked[0] == ("api.bilibili.com", "42", 10)
        assert [type(error) for error in turnstile.told] == [TransportError] + [type(None)] * 100
        assert manager.limits_state()["api"].waiting == 0
        assert {event.waited for event in events} == {1.5}


class OneByOne:
    """A limiter by hand with one permit at a time, which names limits for the queue before it."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.lock = asyncio.Lock()
        self.asked: list[str] = []
        self.most_asking = self.asking = 0

    async def acquire(self, host: str, account: str, *, patience: float) -> Ticket:
        self.asked.append(account)
        self.asking += 1
        self.most_asking = max(self.asking, self.most_asking)
        try:
            await self.lock.acquire()
        finally:
            self.asking -= 1
        return Ticket(waited=0.0)

    def release(self, permit: Ticket, error: BaseException | None) -> None:
        self.lock.release()

    def state(self) -> Mapping[str, HostState]:
        return Turnstile().state()


@run_virtual
async def test_a_limiter_by_hand_has_our_lanes_before_it():
    limiter = OneByOne()
    async with managed((1.0, UNAVAILABLE), (1.0, OK), limits=None, limiter=limiter) as (manager, _):
        order: list[str] = []

        async def call(name: str, number: int, background: bool) -> None:
            await get_vip_info(manager.session(credential(number), background=background))
            order.append(name)

        calls = [call("retried", 1, False)]
        calls += [call("fleet", number, True) for number in range(10, 20)]
        calls += [call("own", 1, False) for _ in range(3)]
        tasks = [asyncio.create_task(one) for one in calls]
        await asyncio.sleep(0.5)
        state = manager.limits_state()["api"]
        assert (state.waiting, state.background) == (11, 9)
        await asyncio.gather(*tasks)
        # One call of the account and one of the fleet stood in it when the retry came.
        assert order == ["fleet", "own", "retried", "own", "own"] + ["fleet"] * 9
        assert limiter.most_asking == 2


@run_virtual
async def test_a_limiter_by_hand_keeps_the_concurrency_and_the_max_wait_that_it_names():
    turnstile = Turnstile()
    turnstile.limits = Limits(concurrency=3, max_wait=2.5)
    async with managed((1.0, OK), limits=None, limiter=turnstile) as (manager, pool):
        calls = [get_vip_info(manager.session(credential(number))) for number in range(1, 13)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert (pool.most_open, len(pool.sent)) == (3, 9)
        assert [error.scope for error in results if isinstance(error, RateLimited)] == ["local"] * 3


@run_virtual
async def test_max_wait_ends_a_wait_inside_a_limiter_by_hand_and_closing_one_before_it():
    limiter = OneByOne()
    async with managed((HANG, OK), limits=None, limiter=limiter, retry=Retry.none()) as (
        manager,
        _,
    ):
        first = asyncio.create_task(get_vip_info(manager.session(credential(1)), timeout=100))
        await turns()
        error = await outcome(get_vip_info(manager.session(credential(2), max_wait=5)))
        assert isinstance(error, RateLimited)
        assert (error.scope, now(), limiter.asking) == ("local", 5, 0)
        waits = [
            asyncio.create_task(get_vip_info(manager.session(credential(3)))) for _ in range(2)
        ]
        await turns()
        await manager.close()
        with pytest.raises(RuntimeError, match="closed"):
            await waits[1]
        for task in (first, waits[0]):
            task.cancel()
        await asyncio.gather(first, waits[0], return_exceptions=True)


def test_the_limits_that_a_limiter_names_are_limits():
    turnstile = Turnstile()
    turnstile.limits = 16
    with pytest.raises(TypeError, match=r"^limiter\.limits: expected Limits, got int"):
        SessionManager(limiter=turnstile)


# --- a server with a limit of its own, in real time -----------------------------------------------


async def test_a_fleet_finds_the_servers_own_limit_and_stays_below_it():
    events: list[tuple[float, RequestEvent]] = []
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with (
        Sandbox(rate=300, burst=60) as sandbox,
        SessionManager(
            hosts=sandbox.hosts,
            limits=Limits(host=RateLimit(rate=600, burst=12), account=None),
            timeout=60,
            on_request=lambda event: events.append((loop.time() - start, event)),
        ) as manager,
    ):
        accounts = [manager.session(sandbox.add_account().credential) for _ in range(100)]
        snapshots = await asyncio.gather(*map(bili.fetch_snapshot, accounts))
    assert all(snapshot.complete for snapshot in snapshots)
    late = [isinstance(event.outcome, RateLimited) for at, event in events if at > 2]
    assert sum(late) <= 0.02 * len(late)
