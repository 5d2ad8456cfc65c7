"""Poller: many accounts, for ever, and only what changed. It knows sessions and snapshots, nothing
of HTTP.

The theory. Every account has a grid of due times, `first + k · every`, that never drifts; firsts
are spread over the interval by the golden ratio, which is even for any number of accounts, and each
due time gets a little jitter. Two heaps hold the idle accounts: `upcoming` by due time, and
`ready`, of those that are due, by last start + interval. As long as the budget suffices, `ready` is
empty most of the time. When it does not, all accounts come late by the same time, and those of one
interval go in the order in which they last went, so equally often. (Up to `WORKERS` of them wait in
the limiter, which lets accounts take turns.) A poll that overruns its next due time skips it.

A poll takes one of `WORKERS` slots until the consumer has taken its events: a slow consumer slows
polling, nothing is dropped, nothing grows. An idle account has no task, only its place in a heap.

What is known of an account reaches the store after the program was told of it: who dies in between
is told again after the restart, who leaves in order is not.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard

import attrs
import orjson

from ._seam import Seam
from .credential import Credential
from .endpoints import HostName
from .errors import BiliError, CredentialMissing, NotLoggedIn, RateLimited, RiskControlled
from .limiting.budget import PAUSE_MIN
from .session import AccountSession, SessionManager
from .snapshot import ALL_SECTIONS, SECTIONS, AccountSnapshot, Change, fetch_snapshot
from .structuring import structure, unstructure

WORKERS = 64
"""Polls at a time."""
JITTER = 0.02
"""The share of the interval by which a poll may come late on purpose."""
BACKOFF_MAX = timedelta(hours=1)
"""The longest wait of a failing account, unless its interval is longer."""
LEAVING = 0.5
"""Seconds that the store may take when the Poller is left."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_LAGS = 10_000
_HAIR = 1e-6
_LONGEST = timedelta(days=366)
_COMPLAIN_EVERY = 60.0
_NOT_RUNNING = "this Poller does not run: use it inside its `async with Poller(manager) as poller:`"
_log = logging.getLogger("bili_account_async")


# --- events ---------------------------------------------------------------------------------------


@attrs.frozen
class SnapshotTaken:
    """A poll brought a snapshot, perhaps with failures of some sections."""

    account: str
    snapshot: AccountSnapshot


@attrs.frozen
class Changed:
    """Something differs from the last known value of its section; comes after `SnapshotTaken`."""

    account: str
    changes: tuple[Change, ...]
    snapshot: AccountSnapshot


@attrs.frozen
class PollFailed:
    """No section came; the account is polled again at `next_at` (aware, UTC)."""

    account: str
    error: BiliError
    next_at: datetime


@attrs.frozen
class AccountExpired:
    """The login is dead: parked until `replace_credential`."""

    account: str
    error: NotLoggedIn


@attrs.frozen
class AccountParked:
    """Risk control: parked until `resume`, after the owner has acted in a browser."""

    account: str
    error: RiskControlled


PollEvent = SnapshotTaken | Changed | PollFailed | AccountExpired | AccountParked


class AccountState(Enum):
    """What an account of a Poller is doing."""

    WAITING = "waiting"
    POLLING = "polling"
    PAUSED = "paused"
    EXPIRED = "expired"
    PARKED = "parked"


@attrs.frozen(kw_only=True)
class PollerStats:
    """A Poller as it stands.

    Lags are seconds behind schedule: of the last starts, and of the accounts due now.
    """

    accounts: Mapping[AccountState, int]
    polls: int
    """Polls finished, failed ones included."""
    failures: int
    """Polls that brought no section, a dead login and risk control included."""
    lag_p50: float
    lag_p99: float
    throttled: float
    """Seconds in which polls sat out a pause that a server asked for; pauses within a call's
    timeout do not count.
    """


@attrs.frozen(kw_only=True)
class AccountStatus:
    """One account of a Poller as it stands."""

    state: AccountState
    every: timedelta
    next_at: datetime | None
    """When it is due (aware, UTC), in the past if it is late; None while it is polled, paused or
    parked.
    """
    polls: int


# --- stores ---------------------------------------------------------------------------------------


class SnapshotStore(Protocol):
    """Where a Poller keeps the last known snapshot of each account."""

    async def load(self, account: str) -> AccountSnapshot | None:
        """The last known value of each section, None for an account never saved."""

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        """Keep it, whole or not at all.

        Raises if it can't: the Poller logs that, goes on and tries again, except after a
        `RuntimeError`, a programmer's mistake, which ends it. It is cancelled if leaving the Poller
        would take too long.
        """

    async def forget(self, account: str) -> None:
        """Drop what is kept of the account."""


class MemoryStore:
    """The default: 2 KB an account, for records themselves would take more than twice as much."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    async def load(self, account: str) -> AccountSnapshot | None:
        kept = self._kept.get(account)
        if kept is None:
            return None
        values = orjson.loads(kept)
        taken_at = datetime.fromisoformat(values.pop("taken_at"))
        return AccountSnapshot(
            taken_at=taken_at,
            **{name: structure(SECTIONS[name].returns, value) for name, value in values.items()},
        )

    async def save(self, account: str, snapshot: AccountSnapshot) -> None:
        values = {name: unstructure(value) for name, value in _sections_of(snapshot).items()}
        packed = orjson.dumps({"taken_at": snapshot.taken_at, **values})
        self._kept[account] = bytes(
            memoryview(packed)
        )  # a copy: orjson's own takes up to four times its length

    async def forget(self, account: str) -> None:
        self._kept.pop(account, None)


# --- the poller -----------------------------------------------------------------------------------


class _Stage(Enum):
    """How far the poll of an account is, whatever its state."""

    IDLE = 0
    FETCHING = 1
    TELLING = 2


class _Account:
    __slots__ = (
        "again",
        "due",
        "every",
        "failures",
        "fingerprint",
        "first",
        "held",
        "name",
        "polls",
        "sections",
        "session",
        "stage",
        "ticket",
        "turn",
        "unsaved",
    )

    def __init__(
        self,
        name: str,
        session: AccountSession,
        every: float,
        sections: frozenset[str],
        first: float,
        now: float,
    ) -> None:
        self.name = name
        self.session = session
        self.every = every
        self.sections = sections
        self.first = self.due = first
        self.turn = now  # the last start, or the adding
        self.ticket = 0  # the number of its valid heap entry, 0 for none
        self.stage = _Stage.IDLE
        self.held: AccountState | None = None  # why it is left out
        self.again = False  # once the poll under way ends, poll again at once
        self.failures = 0  # in a row
        self.polls = 0
        self.fingerprint: int | None = None  # of the sections that the store has
        self.unsaved: AccountSnapshot | None = None  # what the program was told and the store lacks

    @property
    def state(self) -> AccountState:
        return self.held or (
            AccountState.WAITING if self.stage is _Stage.IDLE else AccountState.POLLING
        )


_Entry = tuple[float, int, _Account]
"""In a heap: the key, the ticket, whose."""
_Offer = tuple[_Account, PollEvent, AccountSnapshot | None, asyncio.Future[None]]
"""To the program: who tells, what, what it then knows, and done when it has taken it."""


class Poller:
    """Polls accounts at their interval and tells what came: `async for event in poller`, inside
    `async with poller`.

    `every` and `sections` hold for accounts that `add` gives none of their own. `store` keeps what
    is known between polls (in memory by default), so that one that outlives the process reports
    what changed meanwhile; without
    `track_changes` nothing is kept and no `Changed` comes.

    Several tasks may iterate: each event goes to one of them. Leaving the `async with` ends all
    polls at once and every
    `async for`, and raises what broke the Poller, if something did, such as a manager that was
    closed under it. Methods that name an account raise `KeyError` for one that is not polled.
    """

    def __init__(
        self,
        manager: SessionManager,
        *,
        every: timedelta = timedelta(minutes=10),
        sections: Iterable[str] = ALL_SECTIONS,
        store: SnapshotStore | None = None,
        track_changes: bool = True,
    ) -> None:
        if store is not None and not track_changes:
            raise ValueError("store: is of no use without track_changes")
        self._manager = manager
        self._every = _interval(every)
        self._sections = _known_sections(sections)
        self._store = store if store is not None or not track_changes else MemoryStore()
        self._store_failed_at = -math.inf
        self._accounts: dict[str, _Account] = {}
        self._under_way: set[str] = set()
        self._upcoming: list[_Entry] = []
        self._ready: list[_Entry] = []
        self._tickets = 0
        self._origin: float | None = None
        self._added = 0
        self._demand: defaultdict[HostName, float] = defaultdict(float)
        self._recounted = self._warned = False
        self._polls = self._failures = 0
        self._lags: deque[float] = deque(maxlen=_LAGS)
        self._throttled, self._sitting, self._sat_down = 0.0, 0, 0.0
        self._offers: asyncio.Queue[_Offer | None] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._seam: Seam
        self._runner: asyncio.Task[None] | None = None
        self._ended = False

    # accounts

    def add(
        self,
        name: str,
        credential: Credential,
        *,
        every: timedelta | None = None,
        sections: Iterable[str] | None = None,
    ) -> None:
        """Poll an account from now on; the first polls are spread over the interval.

        Raises `ValueError` for a name that is there already, and `CredentialMissing` for a
        credential that no section can be asked with.
        """
        self._ensure_running()
        if name in self._accounts:
            raise ValueError(f"account {name!r}: is polled already")
        wanted = self._sections if sections is None else _known_sections(sections)
        interval = self._every if every is None else _interval(every)
        session = self._session(name, credential, wanted)
        now = self._seam.now()
        self._origin = (
            now if self._origin is None else self._origin
        )  # one for all, so that late ones are spread too
        first = self._origin + interval * (self._added * _GOLDEN % 1)
        first += interval * max(0, math.ceil((now - first) / interval))
        self._added += 1
        account = self._accounts[name] = _Account(name, session, interval, wanted, first, now)
        self._count(account, 1)
        if name in self._under_way:  # a removed account's poll: its end schedules this one
            account.stage = _Stage.FETCHING
        else:
            self._schedule(account, first)

    def remove(self, name: str) -> None:
        """Poll it no more; a poll under way ends without an event.

        The store keeps what it knows.
        """
        account = self._account(name)
        self._count(account, -1)
        account.ticket = 0
        del self._accounts[name]

    def pause(self, name: str) -> None:
        """Leave it out until `resume`; a poll under way still tells."""
        account = self._account(name)
        account.held, account.ticket = AccountState.PAUSED, 0

    def resume(self, name: str) -> None:
        """Poll a paused or parked account again, at once."""
        account = self._account(name)
        if account.held in (AccountState.PAUSED, AccountState.PARKED):
            self._let_go(account)

    def replace_credential(self, name: str, credential: Credential) -> None:
        """Give it a new login; an expired account is polled again, at once."""
        account = self._account(name)
        session = self._session(name, credential, account.sections)
        self._count(account, -1)
        account.session = session
        self._count(account, 1)
        if account.held is AccountState.EXPIRED:
            self._let_go(account)

    def poll_now(self, name: str) -> None:
        """Poll it at once, or where the budget does not suffice in its turn, instead of at its next
        due time.

        One that is being polled is not polled twice, one that is paused or parked not at all.
        """
        account = self._account(name)
        if account.held is None:
            self._soon(account)

    def status(self, name: str) -> AccountStatus:
        """One account as it stands."""
        account = self._account(name)
        return AccountStatus(
            state=account.state,
            every=timedelta(seconds=account.every),
            next_at=self._clock_time(account.due)
            if account.state is AccountState.WAITING
            else None,
            polls=account.polls,
        )

    def stats(self) -> PollerStats:
        """All accounts as they stand."""
        now = self._seam.now() if self._runner is not None else 0.0
        states = Counter(account.state for account in self._accounts.values())
        late = [
            now - account.due
            for account in self._accounts.values()
            if account.ticket and account.due < now
        ]
        lags = sorted([*self._lags, *late]) or [0.0]
        return PollerStats(
            accounts=MappingProxyType({state: states[state] for state in AccountState}),
            polls=self._polls,
            failures=self._failures,
            lag_p50=lags[len(lags) // 2],
            lag_p99=lags[math.ceil(len(lags) * 0.99) - 1],
            throttled=self._throttled + (now - self._sat_down if self._sitting else 0.0),
        )

    # life

    async def __aenter__(self) -> Poller:
        if self._runner is not None:
            raise RuntimeError("a Poller runs once: make a new one")
        self._seam = self._manager._running().seam
        self._runner = asyncio.create_task(self._run(), name="bili-account-poller")
        self._runner.add_done_callback(lambda _: self._offers.put_nowait(None))
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        runner, cancelled = self._runner, None
        assert runner is not None
        if not self._ended:  # else it is about to end by itself
            self._ended = True
            runner.cancel()
        while (
            not runner.done()
        ):  # its polls end at once; none outlives this, even if we are cancelled too
            try:
                await asyncio.wait((runner,))
            except asyncio.CancelledError as again:
                cancelled = again
        broken = None if runner.cancelled() else runner.exception()
        if cancelled is not None:
            raise cancelled
        if (
            broken is not None and error is None
        ):  # an error of the body is the news then, and this one in the log
            raise broken

    def __aiter__(self) -> Poller:
        return self

    async def __anext__(self) -> PollEvent:
        if self._runner is None:
            raise RuntimeError(_NOT_RUNNING)
        while True:
            offer = await self._offers.get()
            if offer is None:
                self._offers.put_nowait(None)  # for whoever else waits
                raise StopAsyncIteration
            account, event, news, taken = offer
            if taken.done():  # its poll has ended with the Poller
                continue
            taken.set_result(None)
            if self._polls_still(account):
                if news is not None:
                    account.unsaved = news
                return event

    # inside

    async def _run(self) -> None:
        closing = self._manager._running().closing
        closing.add_done_callback(self._look)
        try:
            await self._poll_all()
        except BaseExceptionGroup as group:  # of the polls that broke down together, one is told
            broken = group.exceptions[0]
        finally:
            self._ended = True
            closing.remove_done_callback(self._look)
            saving = asyncio.create_task(self._save_rest())
            await asyncio.wait((saving,), timeout=LEAVING)
            saving.cancel()
            await asyncio.wait((saving,))
        _log.error("the Poller broke down and polls no more: %r", broken)
        raise broken

    async def _poll_all(self) -> None:
        slots = asyncio.Semaphore(WORKERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                account = await self._next_due()
                self._begin(account)
                group.create_task(self._poll(account)).add_done_callback(lambda _: slots.release())

    async def _next_due(self) -> _Account:
        """Wait until an account is due, and take it out of the heaps."""
        while True:
            self._manager._running()
            self._warn_once()
            now = self._seam.now()
            while self._upcoming and self._upcoming[0][0] <= now:
                _, ticket, account = heappop(self._upcoming)
                if account.ticket == ticket:
                    self._push(self._ready, account.turn + account.every, account)
            while self._ready:
                _, ticket, account = heappop(self._ready)
                if account.ticket == ticket:
                    account.ticket = 0
                    return account
            self._wake.clear()
            timer = (
                self._seam.loop.call_at(self._upcoming[0][0], self._wake.set)
                if self._upcoming
                else None
            )
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _look(self, _: object) -> None:
        self._wake.set()

    def _push(self, heap: list[_Entry], key: float, account: _Account) -> None:
        """Give the account a place in a heap; if it had one, that counts no more."""
        self._tickets += 1
        account.ticket = self._tickets
        heappush(heap, (key, self._tickets, account))
        if len(heap) > 2 * len(self._accounts) + 64:
            heap[:] = [entry for entry in heap if entry[1] == entry[2].ticket]
            heapify(heap)

    def _schedule(self, account: _Account, due: float) -> None:
        account.due = due
        self._push(self._upcoming, due, account)
        if self._upcoming[0][2] is account:
            self._wake.set()

    def _soon(self, account: _Account) -> None:
        self._ensure_running()
        match account.stage:
            case _Stage.IDLE:
                self._schedule(account, min(account.due, self._seam.now()))
            case _Stage.TELLING:
                account.again = True

    def _let_go(self, account: _Account) -> None:
        account.held, account.due = None, self._seam.now()
        self._soon(account)

    def _begin(self, account: _Account) -> None:
        self._under_way.add(account.name)
        account.stage, account.again = _Stage.FETCHING, False
        account.turn = self._seam.now()
        self._lags.append(account.turn - account.due)

    async def _poll(self, account: _Account) -> None:
        session = account.session
        sections: dict[str, Any] = {}
        error: BiliError | None = None
        wait = 0.0
        try:
            snapshot = await self._fetch(account)
            sections = _sections_of(snapshot)
            if not sections:
                error = next(iter(snapshot.failures.values()))
                wait = max(
                    getattr(failure, "retry_after", None) or 0.0
                    for failure in snapshot.failures.values()
                )
        except (NotLoggedIn, RiskControlled) as fatal:
            error = fatal
        account.stage = _Stage.TELLING
        account.polls += 1
        self._polls += 1
        if error is None:
            account.failures = 0
            await self._tell_snapshot(account, snapshot, sections)
        elif account.session is not session:
            account.again = True  # the old login's failure says nothing of the new one
        else:
            self._failures += 1
            await self._tell_failure(account, error, wait)
        self._finish(account)

    async def _fetch(self, account: _Account) -> AccountSnapshot:
        """`fetch_snapshot`, but what a host's pause refuses waits for its end
        instead of failing.
        """
        session = account.session
        if (
            session.account.credential.access_key
        ):  # it would keep a URL for each section: 4 KB of an idle account
            session = self._handle(account.name, session.account.credential)
        snapshot = await fetch_snapshot(session, sections=account.sections)
        while refused := {
            name: error.retry_after for name, error in snapshot.failures.items() if _is_pause(error)
        }:
            await self._sit_out(max(PAUSE_MIN, *(seconds or 0.0 for seconds in refused.values())))
            rest = await fetch_snapshot(session, sections=refused)
            failures = {
                name: error for name, error in snapshot.failures.items() if name not in refused
            }
            snapshot = AccountSnapshot(
                taken_at=rest.taken_at,
                failures={**failures, **rest.failures},
                skipped=snapshot.skipped,
                sections=snapshot.sections,
                **(_sections_of(snapshot) | _sections_of(rest)),
            )
        return snapshot

    def _finish(self, account: _Account) -> None:
        self._under_way.discard(account.name)
        account.stage = _Stage.IDLE
        now = self._seam.now()
        if not self._polls_still(account):
            heir = self._accounts.get(account.name)  # added while this poll was under way
            if heir is not None:
                heir.stage = _Stage.IDLE
                if heir.held is None:
                    self._schedule(heir, heir.due)
        elif account.held is None:
            due = account.due if account.due > now else self._next_on_grid(account, now)
            self._schedule(account, now if account.again else due)

    def _next_on_grid(self, account: _Account, now: float) -> float:
        turn = math.floor((now - account.first) / account.every + _HAIR) + 1
        return account.first + account.every * (turn + JITTER * self._seam.random())

    async def _tell_snapshot(
        self, account: _Account, snapshot: AccountSnapshot, sections: dict[str, Any]
    ) -> None:
        taken = SnapshotTaken(account.name, snapshot)
        # hash(-1) == hash(-2), so a change from one to the other is told with the account's next
        # change.
        fingerprint = hash(tuple(sections.items())) if self._store is not None else None
        if fingerprint == account.fingerprint:
            await self._tell(account, taken)
            return
        known, readable = await self._load(account)
        if not readable:
            await self._tell(account, taken)
            return
        merged = AccountSnapshot(
            taken_at=snapshot.taken_at, **((_sections_of(known) if known else {}) | sections)
        )
        if known is not None and (changes := snapshot.changes_since(known)):
            await self._tell(account, taken)
            await self._tell(account, Changed(account.name, changes, snapshot), merged)
        else:
            await self._tell(account, taken, merged)
        if self._polls_still(account):
            await self._save(account)
            account.fingerprint = fingerprint if account.unsaved is None else None

    async def _tell_failure(self, account: _Account, error: BiliError, wait: float) -> None:
        held: AccountState | None = None
        event: PollEvent
        match error:
            case NotLoggedIn():
                held, event = AccountState.EXPIRED, AccountExpired(account.name, error)
            case RiskControlled():
                held, event = AccountState.PARKED, AccountParked(account.name, error)
            case _:
                account.failures += 1
                longest = max(account.every, BACKOFF_MAX.total_seconds())
                backoff = min(account.every * 2.0 ** min(account.failures, 60), longest)
                account.due = self._seam.now() + max(
                    backoff * (1 + JITTER * self._seam.random()), wait
                )
                event = PollFailed(account.name, error, self._clock_time(account.due))
        account.held = account.held or held
        await self._tell(account, event)

    async def _tell(
        self, account: _Account, event: PollEvent, news: AccountSnapshot | None = None
    ) -> None:
        """Wait until the program has taken the event, which makes `news` what it knows.

        A removed account is silent.
        """
        if self._polls_still(account):
            taken = self._seam.loop.create_future()
            self._offers.put_nowait((account, event, news, taken))
            await taken

    async def _load(self, account: _Account) -> tuple[AccountSnapshot | None, bool]:
        """What is known of the account, and whether that could be read."""
        assert self._store is not None
        if account.unsaved is not None:
            return account.unsaved, True
        try:
            return await self._store.load(account.name), True
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self._excuse(account, "what is known can't be read, so no change is told", error)
            return None, False

    async def _save(self, account: _Account) -> None:
        if self._store is None or account.unsaved is None:
            return
        try:
            await self._store.save(account.name, account.unsaved)
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self._excuse(account, "what is known can't be kept, polling goes on", error)
        else:
            account.unsaved = None

    async def _save_rest(self) -> None:
        """What the program has taken just before it left, and what the store has
        refused until now.
        """
        for account in list(self._accounts.values()):
            await self._save(account)

    def _excuse(self, account: _Account, what: str, error: Exception) -> None:
        """Log the store's error, but not for each poll of a day with a full disk."""
        if isinstance(error, RuntimeError) and not self._ended:
            raise error
        if self._seam.now() - self._store_failed_at >= _COMPLAIN_EVERY:
            self._store_failed_at = self._seam.now()
            _log.error(
                "%s: %s: %s", account.name, what, error, exc_info=not isinstance(error, BiliError)
            )

    async def _sit_out(self, pause: float) -> None:
        if not self._sitting:
            self._sat_down = self._seam.now()
            _log.warning("a host asks for a pause of %.0f s: polling waits", pause)
        self._sitting += 1
        try:
            await asyncio.wait((self._manager._running().closing,), timeout=pause)
        finally:
            self._sitting -= 1
            if not self._sitting:
                self._throttled += self._seam.now() - self._sat_down

    def _ensure_running(self) -> None:
        if self._runner is None or self._ended:
            raise RuntimeError(_NOT_RUNNING)
        self._manager._running()

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            raise KeyError(f"no account {name!r} is polled")
        return account

    def _polls_still(self, account: _Account) -> bool:
        return self._accounts.get(account.name) is account

    def _session(
        self, name: str, credential: Credential, sections: frozenset[str]
    ) -> AccountSession:
        session = self._handle(name, credential)
        lacks = [SECTIONS[section].auth.missing_from(credential) for section in sections]
        if all(lacks):
            raise CredentialMissing(
                f"account {name!r}: its credential lacks {lacks[0]}, so no section can be asked for"
            )
        return session

    def _handle(self, name: str, credential: Credential) -> AccountSession:
        # A poll has time: it goes behind people, and no bound of theirs ends its waiting.
        return self._manager.session(credential, label=name, background=True, max_wait=math.inf)

    def _count(self, account: _Account, sign: int) -> None:
        """Keep the books on how many calls a second all accounts need of each host."""
        for section in account.sections:
            endpoint = SECTIONS[section]
            if not endpoint.auth.missing_from(account.session.account.credential):
                self._demand[endpoint.host] += sign / account.every
        self._recounted = True

    def _warn_once(self) -> None:
        """Say if the accounts need more than the limits give.

        Not in `add`, when others are still to be added.
        """
        limit = self._manager._limits.host
        if not self._recounted or self._warned or limit is None:
            return
        self._recounted = False
        needs: defaultdict[str, float] = defaultdict(float)
        for host, need in self._demand.items():  # all three may be one, as they are in the sandbox
            needs[self._manager._running().routes.bases[host].raw_authority] += need
        most, place = max((need, place) for place, need in needs.items())
        if most > limit.rate * (1 + _HAIR):
            self._warned = True
            factor = math.ceil(most / limit.rate * 100) / 100
            longest = max(account.every for account in self._accounts.values())
            _log.warning(
                "%d accounts need %.4g calls a second of %s, the limits give %.4g: all "
                "are polled in turn, but later; "
                "intervals %.2f times as long would fit, as %.4g s instead of %.4g s",
                *(len(self._accounts), most, place, limit.rate, factor, longest * factor, longest),
            )

    def _clock_time(self, due: float) -> datetime:
        return datetime.fromtimestamp(self._seam.wall() + due - self._seam.now(), UTC)


def _is_pause(error: BiliError) -> TypeGuard[RateLimited]:
    return isinstance(error, RateLimited) and error.scope == "host"


def _sections_of(snapshot: AccountSnapshot) -> dict[str, Any]:
    return {
        name: value for name in sorted(SECTIONS) if (value := getattr(snapshot, name)) is not None
    }


def _interval(every: timedelta) -> float:
    if not isinstance(every, timedelta) or not timedelta(0) < every <= _LONGEST:
        raise ValueError(f"every: expected a timedelta > 0, up to a year, got {every!r}")
    return every.total_seconds()


def _known_sections(sections: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(sections)
    if not wanted or wanted - ALL_SECTIONS:
        raise ValueError(
            f"sections: expected some of {sorted(ALL_SECTIONS)}, got {sorted(map(str, wanted))}"
        )
    return wanted
