"""The Poller against everything at once: hypothesis interleaves steering, trouble and time.

The invariants: never two polls of one account; never a login on the wire that was taken back; every
account polled within its interval and backoff unless it is held; every change told once, from the
value that was last told.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet import (
    DEAD_LOGIN,
    GONE,
    HOUR,
    MINUTE,
    RISK,
    Reply,
    Sent,
    code,
    credential,
    fleet,
    name_of,
    now,
    status,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from virtual import VirtualLoop

from bili_account_async import (
    AccountSnapshot,
    AccountState,
    Changed,
    Credential,
    Limits,
    MemoryStore,
    PollEvent,
    RateLimit,
)
from bili_account_async.polling.memory import STORE_REST, STORE_SECONDS
from bili_account_async.snapshot import SECTIONS as ENDPOINT_OF

SECTIONS = ("coin_exp", "vip_info", "realname_status")
PACES: list[Any] = [
    timedelta(minutes=10),
    timedelta(seconds=20),
    {"coin_exp": timedelta(minutes=5), "vip_info": timedelta(hours=2)},
    {"coin_exp": timedelta(hours=3), "realname_status": timedelta(minutes=7)},
]
LIMITS = [Limits.none(), Limits(), Limits(host=RateLimit(rate=0.2, burst=2))]
"""The last one makes calls wait, so that there is something to call back."""
numbers = st.integers(1, 4)


class Faulty(MemoryStore):
    """A store that raises or hangs as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: str | None = None

    async def suffer(self, method: str) -> None:
        if self.fault == f"{method} raises":
            raise OSError("no such device")
        if self.fault == f"{method} hangs":
            await asyncio.sleep(1e9)

    async def load(self, account: str) -> AccountSnapshot | None:
        await self.suffer("load")
        return await super().load(account)

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        await self.suffer("save")
        await super().save(account, snapshot)


class PollerMachine(RuleBasedStateMachine):
    """One Poller with up to four accounts, and what a program that watches it may expect."""

    @initialize(
        pace=st.sampled_from(PACES),
        limits=st.sampled_from(LIMITS),
        latency=st.sampled_from([0.0, 0.1, 3.0]),
        accounts=st.integers(0, 4),
    )
    def begin(self, pace: Any, limits: Limits, latency: float, accounts: int) -> None:
        self.loop = VirtualLoop()
        self.store = Faulty()
        self.store_is_sure = True  # it has had no fault since the accounts that are there came
        self.latency = latency
        self.logins: dict[int, str] = {}  # which secret may be sent for an account
        self.silent: set[int] = set()  # accounts that are paused
        self.counter = 0
        self.refusing: dict[str, tuple[float, dict[str, str]]] = {}
        self.trouble: dict[int, tuple[Any, tuple[str, ...]]] = {}
        self.told: dict[tuple[int, str], Any] = {}  # the last value of a section, as changes say
        self.stack = AsyncExitStack()

        async def enter() -> None:
            self.world, self.poller = await self.stack.enter_async_context(
                fleet(
                    0,
                    every=pace,
                    sections=SECTIONS,
                    store=self.store,
                    latency=latency,
                    timeout=10.0,
                    limits=limits,
                )
            )
            self.world.trouble = self.answer
            self.consumer = asyncio.create_task(self.consume())

        self.run(enter())
        for number in range(1, accounts + 1):
            self.begin_to_poll(number, None)

    def run(self, what: Any) -> None:
        self.loop.run_until_complete(what)

    # the world

    def answer(self, sent: Sent) -> Reply | None:
        host = ENDPOINT_OF[sent.section].host
        until, headers = self.refusing.get(host, (0.0, {}))
        if now() < until:
            return status(412, **headers)()
        failure, sections = self.trouble.get(sent.account, (None, ()))
        return failure() if failure and sent.section in sections else None

    async def consume(self) -> None:
        async for event in self.poller:
            self.hear(event)

    def hear(self, event: PollEvent) -> None:
        number = int(event.account.split("-")[1])
        assert number in self.logins, "an account that was removed has told"
        if isinstance(event, Changed):
            for change in event.changes:
                section = change.path.split(".")[0]
                known = self.told.get((number, section), change.old)
                assert known == change.old, f"{change} is told, and {known} was known"
                assert change.old != change.new
                self.told[number, section] = change.new

    def check_wire(self) -> None:
        """What was sent since the last look was sent with a login that may be sent."""
        for sent in self.world.sent:
            assert self.logins.get(sent.account) == sent.secret, f"{sent} was taken back"
            assert sent.account not in self.silent, f"{sent} is of a paused account"
        self.world.sent.clear()

    # steering, each in one step of the loop

    def login(self, number: int) -> Credential:
        self.counter += 1
        self.logins[number] = f"secret{self.counter}"
        return credential(number, self.logins[number])

    @rule(number=numbers, pace=st.none() | st.sampled_from(PACES))
    def add(self, number: int, pace: Any) -> None:
        self.begin_to_poll(number, pace)

    def begin_to_poll(self, number: int, pace: Any) -> None:
        async def add() -> None:
            self.check_wire()
            self.silent.discard(number)
            self.poller.add(name_of(number), self.login(number), every=pace)

        if number not in self.logins:
            self.run(add())

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        async def remove() -> None:
            self.check_wire()
            state = self.poller.status(name_of(number)).state
            if state is not AccountState.WAITING or not self.store_is_sure:
                for section in SECTIONS:  # it may not know in its next life what it has told
                    self.told.pop((number, section), None)
            self.poller.remove(name_of(number))
            del self.logins[number]

        if number in self.logins:
            self.run(remove())

    @rule(number=numbers, what=st.sampled_from(["pause", "resume", "resume", "poll_now"]))
    def steer(self, number: int, what: str) -> None:
        async def steer() -> None:
            self.check_wire()
            getattr(self.poller, what)(name_of(number))
            if what == "pause":
                self.silent.add(number)
            elif what == "resume":
                self.silent.discard(number)

        if number in self.logins:
            self.run(steer())

    @rule(number=numbers)
    def replace(self, number: int) -> None:
        async def replace() -> None:
            self.check_wire()
            self.poller.replace_credential(name_of(number), self.login(number))

        if number in self.logins:
            self.run(replace())

    # trouble

    @rule(
        host=st.sampled_from(["api", "www"]),
        seconds=st.sampled_from([1.0, 100.0, 2 * HOUR]),
        asked=st.sampled_from([None, "0", "7", "400"]),
    )
    def refuse(self, host: str, seconds: float, asked: str | None) -> None:
        headers = {} if asked is None else {"Retry_After": asked}
        self.refusing[host] = (self.loop.now - 1000.0 + seconds, headers)

    @rule(
        number=numbers,
        failure=st.sampled_from([DEAD_LOGIN, RISK, GONE, code(-509), status(503)]),
        sections=st.sampled_from([SECTIONS, ("coin_exp",), ("vip_info", "realname_status")]),
    )
    def fail(self, number: int, failure: Any, sections: tuple[str, ...]) -> None:
        self.trouble[number] = (failure, sections)

    @rule(number=numbers)
    def mend(self, number: int) -> None:
        self.trouble.pop(number, None)

    @rule(fault=st.sampled_from(["load raises", "load hangs", "save raises", "save hangs"]))
    def break_store(self, fault: str) -> None:
        self.store.fault = fault
        self.store_is_sure = False

    @precondition(lambda self: self.store.fault)
    @rule()
    def mend_store(self) -> None:
        self.store.fault = None

    @rule(number=numbers, value=st.integers(-3, 3))
    def change(self, number: int, value: int) -> None:
        self.world.becomes(number, "coin_exp", value)

    @rule(seconds=st.sampled_from([-HOUR, -5.0, 5.0, 8 * HOUR]))
    def jump(self, seconds: float) -> None:
        self.world.slept += seconds

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 30.0, 5 * MINUTE, HOUR]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # what holds

    @invariant()
    def the_wire_and_the_times_are_right(self) -> None:
        if not hasattr(self, "consumer"):
            return
        assert not self.consumer.done(), self.consumer.exception()
        assert not self.poller._ended, "the Poller broke down"
        self.check_wire()
        self.run(self.check_times())

    async def check_times(self) -> None:
        wall = datetime.fromtimestamp(self.poller._engine.seam.wall(), UTC)
        for number in self.logins:
            told = self.poller.status(name_of(number))
            if told.next_at is None:
                continue
            every = told.every.values() if not isinstance(told.every, timedelta) else [told.every]
            longest = max(seconds.total_seconds() for seconds in every)
            wait = (told.next_at - wall).total_seconds()
            assert wait <= 1.02 * max(1.5 * longest, HOUR) + MINUTE

    def teardown(self) -> None:
        if not hasattr(self, "consumer"):
            return
        try:
            self.run(self.end())
        finally:
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.run_until_complete(self.consumer)
            self.loop.close()
        assert not self.loop.complaints, self.loop.complaints

    async def end(self) -> None:
        """When all is well again, every account is polled, and all is told."""
        self.refusing.clear()
        self.trouble.clear()
        self.store.fault = None
        await asyncio.sleep(MINUTE)  # what was on its way has come
        self.check_wire()
        self.silent.clear()
        for number in self.logins:
            for _ in range(2):  # one that is paused and parked
                self.poller.resume(name_of(number))
        await asyncio.sleep(2 * HOUR + STORE_REST + STORE_SECONDS)
        self.check_wire()
        await asyncio.sleep(4.6 * HOUR)
        asked = {(sent.account, sent.section) for sent in self.world.sent}
        for number in self.logins:
            told = self.poller.status(name_of(number))
            assert told.state in (AccountState.WAITING, AccountState.POLLING)
            for section in told.every if not isinstance(told.every, timedelta) else SECTIONS:
                assert (number, section) in asked, f"{section} of {number} is asked no more"
        self.check_wire()
        for number in self.logins:
            self.world.becomes(number, "coin_exp", 99)
        await asyncio.sleep(4.6 * HOUR)
        for number in self.logins:
            assert self.told[number, "coin_exp"] == 99
        self.check_wire()


PollerMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("BILI_EXAMPLES", "30")),
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize="BILI_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([] if "BILI_NO_SHRINK" in os.environ else [Phase.shrink])],
)
TestPollerMachine = PollerMachine.TestCase
