"""Poller: many accounts, for ever, and only what changed.

It knows sessions and snapshots, nothing of HTTP.

The theory. A poll takes one of `WORKERS` slots until the consumer has taken its events: a slow
consumer slows polling, nothing is dropped, nothing grows. An idle account has no task, only its
place in line. Nothing else holds a slot: what a host's pause refuses is due again later, as after
any failure. Up to `WORKERS` polls wait in the limiter, which lets accounts take turns.

Who is next is `line.py`'s business, when it is due `schedule.py`'s, and one poll `poll.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType

from ..call import Engine
from ..credential import Credential
from ..errors import CredentialMissing
from ..session import SessionManager
from ..snapshot import ALL_SECTIONS, SECTIONS
from .account import Account, Stage
from .events import AccountState, AccountStatus, PollerStats, PollEvent
from .line import Line
from .load import Demand
from .outbox import consume
from .poll import Polls
from .schedule import Every, Plan, Timetable
from .stores import MemoryStore, SnapshotStore

WORKERS = 64
"""Polls at a time."""
BEGUN_SECONDS = 0.01
"""Seconds after its start in which a poll may not have come as far as our limits."""
_LAGS = 10_000
_NOT_RUNNING = "this Poller does not run: use it inside its `async with Poller(manager) as poller:`"
_log = logging.getLogger("bili_account_async")


class Poller:
    """Accounts, polled at their intervals: `async for event in poller`, inside `async with poller`.

    - `every` is an interval, or a mapping from section to interval, such as `THRIFTY`. It and
      `sections` hold for accounts that `add` gives none of their own.
    - `store` keeps what is known between polls (in memory by default), so that one that outlives
      the process reports what changed meanwhile; without `track_changes` nothing is kept and no
      `Changed` comes.
    - `on_event` is called with each event instead of `async for`, one at a time, and awaited if it
      returns an awaitable; one that raises is logged, and polling goes on.

    `open` and `close` it if you have no place for `async with`. Several tasks may iterate: each
    event goes to one of them. Leaving ends all polls at once and every `async for`, and raises what
    broke the Poller, if something did, such as a manager that was closed under it. Methods that
    name an account raise `KeyError` for one that is not polled.
    """

    def __init__(
        self,
        manager: SessionManager,
        *,
        every: Every = timedelta(minutes=10),
        sections: Iterable[str] = ALL_SECTIONS,
        store: SnapshotStore | None = None,
        track_changes: bool = True,
        on_event: Callable[[PollEvent], object] | None = None,
    ) -> None:
        if store is not None and not track_changes:
            raise ValueError("store: is of no use without track_changes")
        self._manager = manager  # whose sessions ask
        self._sections = frozenset(sections)  # what an account is asked if `add` does not say
        self._plan = Plan(every, self._sections)  # how often, if `add` does not say
        self._store = MemoryStore() if store is None and track_changes else store  # of the known
        self._on_event = on_event  # is called with each event, unless None
        self._accounts: dict[str, Account] = {}  # by name
        self._under_way: set[str] = set()  # the names, also of removed accounts, that are polled
        self._line = Line(min(self._plan.intervals.values()))  # those that wait for their next poll
        self._origin: float | None = None  # where all grids begin: the first adding
        self._added = 0  # accounts ever added, which is the next one's number
        self._lags: deque[float] = deque(maxlen=_LAGS)  # seconds that the last starts were late
        self._engine: Engine  # the manager's, from `open` on, as the next two
        self._polls: Polls  # what one poll needs
        self._demand: Demand  # what all accounts need of each host
        self._runner: asyncio.Task[None] | None = None  # does all the polling
        self._consumer: asyncio.Task[None] | None = None  # calls `on_event`
        self._ended = False  # it was left, or broke down
        self._closed = False  # it was left

    # accounts

    def add(
        self,
        name: str,
        credential: Credential,
        *,
        every: Every | None = None,
        sections: Iterable[str] | None = None,
    ) -> None:
        """Poll an account from now on, for the first time as soon as the budget allows.

        Raises `ValueError` for a name that is there already, and `CredentialMissing` for a
        credential that no section can be asked with.
        """
        self._ensure_running()
        if name in self._accounts:
            raise ValueError(f"account {name!r}: is polled already")
        plan = self._plan
        if every is not None or sections is not None:
            wanted = self._sections if sections is None else sections
            plan = Plan(self._plan.every if every is None else every, wanted)
        intervals = _askable(name, credential, plan)
        now = self._polls.clock.now()
        self._origin = now if self._origin is None else self._origin
        timetable = Timetable(intervals, self._origin, self._added, now)
        self._added += 1
        account = self._accounts[name] = Account(name, credential, plan, timetable, now)
        self._demand.count(intervals, 1)
        self._line.put(account, now)

    def remove(self, name: str) -> None:
        """Poll it no more; a poll under way ends without an event.

        The store keeps what it knows.
        """
        account = self._account(name)
        del self._accounts[name]
        account.removed = True
        self._demand.count(account.timetable.intervals, -1)
        account.leave_line()
        account.call_back()
        if account.offer is not None:
            self._polls.outbox.withdraw(account.offer)

    def pause(self, name: str) -> None:
        """Leave it out until `resume`; a poll whose requests are on their way still tells."""
        account = self._account(name)
        account.paused = True
        account.leave_line()
        self._recall(account)

    def resume(self, name: str) -> None:
        """Poll a paused or parked account again, at once.

        One that is both is parked afterwards, and needs another `resume`.
        """
        account = self._account(name)
        if account.paused:
            account.paused = False
        elif account.parked is not None:
            account.parked = None
        else:
            return
        self._at_once(account)

    def replace_credential(self, name: str, credential: Credential) -> None:
        """Give it a new login; an expired account is polled again, at once."""
        account = self._account(name)
        intervals = _askable(name, credential, account.plan)
        self._recall(account)
        self._demand.count(account.timetable.intervals, -1)
        self._demand.count(intervals, 1)
        account.timetable.adapt(intervals, self._polls.clock.now())
        account.credential = credential
        account.alive = account.doubted = False
        if account.parked is AccountState.EXPIRED:
            account.parked = None
            self._at_once(account)

    def poll_now(self, name: str) -> None:
        """Poll it at once, or where the budget does not suffice in its turn, with all its sections.

        One that is being polled is not polled twice, one that is paused or parked not at all.
        """
        self._at_once(self._account(name))

    def status(self, name: str) -> AccountStatus:
        """Return one account as it stands."""
        account = self._account(name)
        waits = account.state is AccountState.WAITING
        return AccountStatus(
            state=account.state,
            every=account.plan.every,
            next_at=self._polls.wall(account.due) if waits else None,
            polls=account.polls,
        )

    def stats(self) -> PollerStats:
        """Return all accounts as they stand."""
        if self._runner is None:
            return _stats([], [], None)
        return _stats(self._accounts.values(), self._lags, self._polls)

    # life

    async def open(self) -> None:
        """Start to poll. `async with` does it. A Poller runs once."""
        if self._runner is not None:
            raise RuntimeError("a Poller runs once: make a new one")
        engine = self._engine = self._manager.engine
        keys = {name: base.raw_authority for name, base in engine.routes.bases.items()}
        limit = self._manager.host_limit
        self._demand = Demand(keys, limit.rate if limit else None)
        self._polls = Polls(self._manager, engine, keys, self._store)
        self._runner = engine.loop.create_task(self._run(), name="bili-account-poller")
        self._runner.add_done_callback(lambda _: self._polls.outbox.end())
        if self._on_event is not None:
            self._consumer = engine.loop.create_task(consume(self, self._on_event))

    async def close(self) -> None:
        """End all polls, save what is known, and raise what broke the Poller, if something did.

        Closing twice is fine.
        """
        broken = await self._stop()
        if broken is not None:
            raise broken

    async def __aenter__(self) -> Poller:
        await self.open()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        broken = await self._stop()
        if broken is not None and error is None:
            raise broken  # else the error of the body is the news, and this one stands in the log

    def __aiter__(self) -> Poller:
        return self

    async def __anext__(self) -> PollEvent:
        if self._runner is None:
            raise RuntimeError(_NOT_RUNNING)
        event = await self._polls.outbox.take()
        if event is None:
            raise StopAsyncIteration
        return event

    # inside

    async def _stop(self) -> BaseException | None:
        """End everything; return what had broken the Poller."""
        runner, consumer, cancelled = self._runner, self._consumer, None
        if runner is None or self._closed:
            return None
        self._closed = True
        if not self._ended:  # else it is about to end by itself
            self._ended = True
            runner.cancel()
        waiting = {runner}
        if consumer is not None and consumer is not asyncio.current_task():
            consumer.cancel()
            waiting.add(consumer)
        while waiting:  # nothing outlives this, even if we are cancelled too
            try:
                _, waiting = await asyncio.wait(waiting)
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled
        return None if runner.cancelled() else runner.exception()

    async def _run(self) -> None:
        closing = self._engine.closing
        closing.add_done_callback(self._look)
        try:
            await self._poll_all()
        except BaseExceptionGroup as group:  # of the polls that broke down together, one is told
            broken = group.exceptions[0]
        finally:
            self._ended = True
            closing.remove_done_callback(self._look)
            if self._polls.memory is not None:
                accounts = self._accounts.values()
                await self._polls.memory.close((one.name, one.known) for one in accounts)
        _log.error("the Poller broke down and polls no more: %r", broken)
        raise broken

    async def _poll_all(self) -> None:
        slots = asyncio.Semaphore(WORKERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                # In no variable of this frame, which would keep the login of a removed account.
                poll = self._begin(group, *await self._next_due())
                poll.add_done_callback(lambda _: slots.release())
                del poll

    def _begin(
        self, group: asyncio.TaskGroup, account: Account, sections: frozenset[str]
    ) -> asyncio.Task[None]:
        self._under_way.add(account.name)
        account.stage, account.again = Stage.FETCHING, False
        account.turn = self._polls.clock.now()
        self._lags.append(max(0.0, account.turn - account.due))
        account.task = group.create_task(self._polls.perform(account, sections))
        account.task.add_done_callback(partial(self._finish, account))
        return account.task

    async def _next_due(self) -> tuple[Account, frozenset[str]]:
        """Wait until an account is due, and return it with the sections to ask for."""
        while True:
            self._polls.ensure_open()
            paces = (account.timetable.shortest for account in self._accounts.values())
            self._demand.warn_once(len(self._accounts), paces)
            now = self._polls.clock.now()
            while (account := self._line.next(now)) is not None:
                if account.name in self._under_way:
                    continue  # it was removed and added again: the end of its poll puts it in line
                if sections := self._polls.askable(account, now):
                    return account, sections
                account.plan_next(self._polls.chance())
                self._line.put(account, account.due)
            await self._line.sleep(self._engine.loop, self._polls.clock)

    def _look(self, _: object) -> None:
        self._line.wake.set()

    def _at_once(self, account: Account) -> None:
        """Poll an account now, unless it is left out or asked already."""
        self._ensure_running()
        if account.left_out:
            return
        if account.stage is Stage.TELLING:
            account.again = True
        elif account.stage is Stage.IDLE:
            now = self._polls.clock.now()
            account.timetable.all_due(now)
            self._line.put(account, min(account.due, now) if account.place else now)

    def _recall(self, account: Account) -> None:
        """End a poll whose login is not to be sent any more, unless all of it is on its way."""
        if account.stage is not Stage.FETCHING:
            return
        begun = self._polls.clock.now() - account.turn < BEGUN_SECONDS
        if begun or self._polls.stands_in_line(account):
            account.again = True
            account.call_back()

    def _finish(self, account: Account, _: object) -> None:
        """Let an account wait for its next poll."""
        self._under_way.discard(account.name)
        account.stage, account.task = Stage.IDLE, None
        now = self._polls.clock.now()
        if account.removed:
            heir = self._accounts.get(account.name)  # added while this poll was under way
            if heir is not None and not heir.left_out:
                self._line.put(heir, heir.due)
        elif account.again and not account.left_out:
            account.timetable.all_due(now)
            self._line.put(account, now)
        elif not account.left_out:
            self._line.put(account, account.due)

    def _ensure_running(self) -> None:
        if self._runner is None or self._ended:
            raise RuntimeError(_NOT_RUNNING)
        self._polls.ensure_open()

    def _account(self, name: str) -> Account:
        account = self._accounts.get(name)
        if account is None:
            raise KeyError(f"no account {name!r} is polled")
        return account


def _stats(
    accounts: Collection[Account], lags: Iterable[float], polls: Polls | None
) -> PollerStats:
    now = polls.clock.now() if polls else 0.0
    states = Counter(account.state for account in accounts)
    late = [now - account.due for account in accounts if account.place and account.due < now]
    ordered = sorted([*lags, *late]) or [0.0]
    return PollerStats(
        accounts=MappingProxyType({state: states[state] for state in AccountState}),
        polls=polls.done if polls else 0,
        failures=polls.failed if polls else 0,
        lag_p50=ordered[len(ordered) // 2],
        lag_p99=ordered[math.ceil(len(ordered) * 0.99) - 1],
        throttled=polls.pauses.seconds(now) if polls else 0.0,
    )


def _askable(name: str, credential: Credential, plan: Plan) -> Mapping[str, float]:
    """Return those intervals of the plan that the credential can ask for."""
    lacks = {
        section: missing
        for section in plan.intervals
        if (missing := SECTIONS[section].auth.missing_from(credential))
    }
    if not lacks:
        return plan.intervals  # one for all accounts that have the same
    if len(lacks) == len(plan.intervals):
        raise CredentialMissing(
            f"account {name!r}: its credential lacks {next(iter(lacks.values()))}, so no section "
            "can be asked for"
        )
    return {name: every for name, every in plan.intervals.items() if name not in lacks}
