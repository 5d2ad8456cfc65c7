"""Whatever happens in whatever order, nothing leaks: hypothesis interleaves replies, deaths,
cancellations, timeouts.

Each example runs a real server and a manager in one loop, over loopback. The loop's clock can be
moved, so that nothing waits. After the last act every call has ended as one of those things
explains, and every connection, limiter slot, timer and task is gone.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from faults import CLOSE, RESET, FaultServer, Received, Script, Step, reply, serve
from hypothesis import given
from hypothesis import strategies as st
from strategies import fuzz
from test_faults import GOOD, asked

import bili_account_async as bili
from bili_account_async import (
    Credential,
    Limits,
    NotLoggedIn,
    RateLimited,
    RequestTimeout,
    Retry,
    SessionManager,
    TransportError,
    fetch_snapshot,
    get_account_info,
    update_sign,
)

TIMEOUT = 8.0
ATTEMPT_TIMEOUT = 3.0
CONCURRENCY = 3


class SkippingLoop(asyncio.SelectorEventLoop):
    """Real sockets, and a clock that can be moved forward."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


class World:
    """One example: a server whose every answer is an act of the example, a manager, and the calls
    under way.
    """

    def __init__(self, server: FaultServer, manager: SessionManager) -> None:
        self.server = server
        self.manager = manager
        self.calls: list[asyncio.Task[Any]] = []
        self.mids: list[int] = []
        self.cancelled: set[int] = set()
        self.pending: list[tuple[Received, asyncio.Future[Step]]] = []
        self.happened: set[str] = set()

    def script(self, request: Received) -> Script:
        answer: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
        self.pending.append((request, answer))
        return [answer]

    def answer(self, which: int, step: Step | None) -> None:
        """Answer one of the requests that the server has; with that account's own data, unless told
        otherwise.
        """
        if self.pending:
            request, answer = self.pending.pop(which % len(self.pending))
            if not answer.done():
                answer.set_result(honest(request) if step is None else step)

    async def act(self, name: str, number: int) -> None:
        match name:
            case "call":
                self.start(number)
            case "cancel" if self.calls:
                which = number % len(self.calls)
                self.cancelled.add(which)
                self.calls[which].cancel()
            case "reply":
                self.answer(number, None)
            case "refuse":
                self.happened.add(name)
                self.answer(number, reply(b'{"code":-101,"message":"no"}'))
            case "throttle":
                self.happened.add(name)
                self.answer(
                    number, reply(status="429 Slow", headers=(f"Retry-After: {number % 20}",))
                )
            case "half":
                self.happened.add("die")
                self.answer(number, reply(b'{"code":0', length=100))
            case "die":
                self.happened.add(name)
                self.answer(number, CLOSE if number % 2 else RESET)
            case "wait":
                self.happened.add(name)
                asyncio.get_running_loop().skipped += number / 2  # type: ignore[attr-defined]
            case "close":
                self.happened.add(name)
                await self.manager.close()
        for _ in range(number % 4):
            await asyncio.sleep(0)

    def start(self, number: int) -> None:
        mid = len(self.calls) % 4 + 1
        self.mids.append(mid)
        me = self.manager.session(
            Credential(sessdata=f"account-{mid}", dede_user_id=mid, bili_jct="jct")
        )
        what = (get_account_info, lambda me: update_sign(me, "sign"), fetch_snapshot, limited)[
            number % 4
        ]
        self.calls.append(asyncio.create_task(what(me)))

    def explained(self, which: int, result: object) -> bool:
        """Return True if what has happened can have brought a call this result."""
        match result:
            case bili.AccountInfo() | bili.AccountSnapshot(account_info=bili.AccountInfo()):
                info = result if isinstance(result, bili.AccountInfo) else result.account_info
                return info is not None and info.mid == self.mids[which]
            case bili.AccountSnapshot(failures=failures):
                return all(self.explained(which, error) for error in failures.values())
            case None:
                return True
            case asyncio.CancelledError():
                return which in self.cancelled
            case RequestTimeout() | TimeoutError():
                return "wait" in self.happened
            case TransportError():
                return "die" in self.happened
            case NotLoggedIn():
                return "refuse" in self.happened
            case RateLimited():
                return "throttle" in self.happened
            case RuntimeError():
                return "close" in self.happened and "was closed" in str(result)
        return False


async def limited(me: bili.AccountSession) -> object:
    async with asyncio.timeout(2):
        return await get_account_info(me)


def honest(request: Received) -> bytes:
    body = json.loads(GOOD[asked(request)])
    if "mid" in body.get("data", {}):
        body["data"]["mid"] = int(request.cookies["DedeUserID"])
    return reply(json.dumps(body).encode())


def live_timers() -> list[asyncio.TimerHandle]:
    return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


async def play(acts: list[tuple[str, int]]) -> None:
    limits = Limits(host=None, account=None, concurrency=CONCURRENCY)
    retry = Retry(attempts=2, attempt_timeout=ATTEMPT_TIMEOUT, backoff=0.5)
    async with serve(lambda request: world.script(request)) as server:
        manager = SessionManager(hosts=server.hosts, limits=limits, retry=retry, timeout=TIMEOUT)
        await manager.open()
        world = World(server, manager)
        for act in acts:
            await world.act(*act)

        # The end: whatever the server has, it answers; what waits for a pause or a backoff, waits
        # it out.
        closed = "close" in world.happened
        ended = asyncio.gather(*world.calls, return_exceptions=True)
        loop = asyncio.get_running_loop()
        quiet = 0
        while not ended.done():
            quiet = 0 if world.pending else quiet + 1
            world.answer(0, None)
            if quiet > 10:  # nothing is on its way any more
                loop.skipped += 0.25  # type: ignore[attr-defined]
                world.happened.add("wait")
            await asyncio.sleep(0)
        results = await ended
        for which, result in enumerate(results):
            assert world.explained(which, result), (which, result, world.happened)

        if not closed:
            assert all(
                (state.in_flight, state.waiting) == (0, 0)
                for state in manager.limits_state().values()
            )
            connector = manager._engine.pool._client.connector  # type: ignore[union-attr]
            assert connector is not None
            assert not connector._acquired
            assert len(connector._conns) <= 1
            loop.skipped += 100  # type: ignore[attr-defined]  # whatever pause there was
            others = [
                manager.session(Credential(sessdata=f"later-{i}", dede_user_id=9))
                for i in range(2 * CONCURRENCY)
            ]
            later = asyncio.gather(*(get_account_info(other) for other in others))
            while not later.done():
                world.answer(0, None)
                await asyncio.sleep(0)
            assert [info.mid for info in await later] == [9] * len(others)
        await manager.close()
        assert live_timers() == []
        while server.open:  # the client's ends are closed: the server notices each
            world.answer(0, CLOSE)
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


ACTS = (
    "call",
    "call",
    "call",
    "cancel",
    "reply",
    "reply",
    "refuse",
    "throttle",
    "half",
    "die",
    "wait",
    "close",
)
acts = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 19)), max_size=40)


@given(acts=acts)
@fuzz
def test_no_interleaving_leaks_a_connection_a_slot_a_timer_or_a_task(
    acts: list[tuple[str, int]],
) -> None:
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(play(acts))
    assert complaints == []
