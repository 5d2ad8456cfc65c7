"""One poll of one account: ask for what is due, judge what came, tell it.

When a poll begins and who is next is `poller.py`'s business.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs

from ..call import Engine
from ..endpoints import HostName
from ..errors import BiliError, NotLoggedIn, RateLimited, RiskControlled
from ..session import AccountSession, SessionManager
from ..snapshot import SECTIONS, AccountSnapshot, Fetched, fetch_sections
from .account import Account, Stage
from .events import (
    AccountExpired,
    AccountParked,
    AccountState,
    Changed,
    PollEvent,
    PollFailed,
    SnapshotTaken,
)
from .load import Pauses
from .memory import COMPLAIN_EVERY, Memory
from .outbox import Offer, Outbox
from .schedule import Clock
from .stores import SnapshotStore

CONFIRM_SECONDS = 60.0
"""Seconds after which a login that was alive, and is said to be dead, is asked once more."""
_log = logging.getLogger("bili_account_async")


class Polls:
    """The polls of one Poller, and all that they share."""

    def __init__(
        self,
        manager: SessionManager,
        engine: Engine,
        keys: Mapping[HostName, str],
        store: SnapshotStore | None,
    ) -> None:
        self._manager = manager
        self._engine = engine
        self.clock = Clock(engine.seam)
        self.outbox: Outbox[PollEvent] = Outbox(engine.seam)
        self.pauses = Pauses(keys)
        self.memory = Memory(store, engine.seam) if store is not None else None
        self.done = self.failed = 0  # polls, and those of them that brought no section
        self._complained_at = -math.inf  # when an error of other people's code was last logged

    def ensure_open(self) -> None:
        """Raise `RuntimeError` if the manager was closed under the Poller."""
        if self._manager.engine is not self._engine:
            raise RuntimeError("this SessionManager was closed and opened again under the Poller")

    def askable(self, account: Account, now: float) -> frozenset[str]:
        """Return the sections to ask for now; what a host's pause holds back is put off."""
        due = account.timetable.due(now)
        if not self.pauses:
            return frozenset(due)
        sections = []
        for section in due:
            until = self.pauses.hold(section, now)
            if until is None:
                sections.append(section)
            else:
                account.timetable.put_off((section,), until)
        return frozenset(sections)

    async def perform(self, account: Account, sections: frozenset[str]) -> None:
        """Poll the account, and wait until the program has taken what there is to tell."""
        login = account.credential
        fetched = await self._fetch(account, sections)
        account.stage = Stage.TELLING
        stale = account.credential is not login
        if stale:  # the old login's failure says nothing of the new one
            account.again = not fetched.found
            fetched.fatal.clear()
            fetched.failures.clear()
        refused = [name for name, error in fetched.failures.items() if _is_pause(error)]
        self._reschedule(account, fetched, refused)
        verdict: PollEvent | None = None if stale else self._verdict(account, fetched)
        account.plan_next(self.chance())
        if not fetched.found and verdict is None and len(refused) == len(fetched.failures):
            return  # its hosts want a pause, so it waits
        account.polls += 1
        self.done += 1
        if fetched.found:
            await self._tell_snapshot(account, self._snapshot(account, fetched))
        else:
            self.failed += 1
            verdict = verdict or self._failure(account, fetched, refused)
        if verdict is not None:
            await self._tell(account, verdict)

    def stands_in_line(self, account: Account) -> bool:
        """Return True if a call of the account waits for our limits, so it can be called back."""
        key = account.credential.account_key
        try:
            hosts = self._manager.limits_state().values()
            return any(key in host.accounts and host.accounts[key].waiting for host in hosts)
        except Exception as error:  # noqa: BLE001 - a limiter is other people's code
            self._complain("limits_state", error)
            return True

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return self._engine.seam.random()

    def _session(self, account: Account, sections: frozenset[str]) -> AccountSession:
        """Return a session for one poll: an idle account keeps no headers and no URLs.

        A poll has time: it goes behind people, and no bound of theirs ends its waiting. A host in
        trouble is asked once and not again at once.
        """
        retry = self._engine.retry
        if self.pauses and any(self.pauses.known(section) for section in sections):
            retry = attrs.evolve(retry, attempts=1)
        return self._manager.session(
            account.credential, label=account.name, background=True, max_wait=math.inf, retry=retry
        )

    async def _fetch(self, account: Account, sections: frozenset[str]) -> Fetched:
        """Ask; an error of other people's code, such as a limiter's, is a failure like others."""
        # What is said of a login that was alive is not believed at once, and cancels nothing.
        doubtful = account.alive and not account.doubted
        fatal = (RiskControlled,) if doubtful else (NotLoggedIn, RiskControlled)
        fetched = account.fetched = Fetched()
        try:
            session = self._session(account, sections)
            await fetch_sections(session, sections, fatal=fatal, into=fetched)
        finally:
            account.fetched = None
        if fetched.fatal and not isinstance(fetched.fatal[0], BiliError):
            self.ensure_open()
            error = fetched.fatal.pop()
            self._complain(account.name, error)
            for section in sections - fetched.found.keys() - fetched.failures.keys():
                kind = type(error).__name__
                fetched.failures[section] = BiliError(f"{kind}, from code that is not ours")
            fetched.fatal.clear()
            error.__traceback__ = None  # its frames hold `fetched`
        return fetched

    def _reschedule(self, account: Account, fetched: Fetched, refused: list[str]) -> None:
        """Set when each section that was asked for is due again."""
        now, started = self.clock.now(), account.turn
        timetable, known = account.timetable, account.timetable.intervals.keys()
        came = fetched.found.keys() & known
        timetable.came(came, started, now)
        self.pauses.answered(came, started, now)
        asked = {
            section: getattr(error, "retry_after", None) or 0.0
            for section, error in fetched.failures.items()
            if section in known and not isinstance(error, NotLoggedIn)
        }
        others = {section: pause for section, pause in asked.items() if section not in refused}
        # From the start of a poll that brought something, so that all stays on one grid.
        since = started if came else now
        if others:
            timetable.failed(others, since, now, together=not came)
        waits = {section: asked[section] for section in refused}
        if not waits:
            return
        for section in waits:
            pause = waits[section] or self._pause_of(section)
            self.pauses.refused(section, pause, now)
        # Whoever was refused asks nothing of that host until its own backoff is over.
        until = timetable.failed(waits, since, now, together=True)
        for section in waits:
            timetable.put_off(self.pauses.same_host(section, known), until)

    def _pause_of(self, section: str) -> float:
        """Return the seconds for which our own limits leave a host alone that did not say."""
        if self.pauses.known(section):
            return 0.0
        try:
            state = self._manager.limits_state().get(SECTIONS[section].host)
        except Exception as error:  # noqa: BLE001 - a limiter is other people's code
            self._complain("limits_state", error)
            return 0.0
        return state.paused_for if state else 0.0

    def _verdict(self, account: Account, fetched: Fetched) -> AccountExpired | AccountParked | None:
        """Return what parks the account, None if nothing does."""
        errors = [*fetched.fatal, *fetched.failures.values()]
        fetched.fatal.clear()
        account.alive = account.alive or bool(fetched.found)
        for error in errors:
            if isinstance(error, RiskControlled):
                account.parked = AccountState.PARKED
                return AccountParked(account.name, error.with_traceback(None))
        for error in errors:
            if not isinstance(error, NotLoggedIn):
                continue
            if account.alive and not account.doubted:
                account.doubted = True
                everything = account.timetable.intervals
                account.timetable.put_off(everything, self.clock.now() + CONFIRM_SECONDS)
                return None
            account.parked = AccountState.EXPIRED
            account.alive = account.doubted = False
            return AccountExpired(account.name, error.with_traceback(None))
        if fetched.found:
            account.doubted = False
        return None

    def _failure(self, account: Account, fetched: Fetched, refused: list[str]) -> PollFailed:
        """Return the event of a poll that brought nothing; a host's pause is not its reason."""
        failures = fetched.failures
        error = next(error for name, error in failures.items() if name not in refused)
        return PollFailed(account.name, error, self.wall(account.due))

    def wall(self, due: float) -> datetime:
        """Return the time of day of a due time, aware, UTC."""
        return datetime.fromtimestamp(self.clock.wall(due), UTC)

    def _snapshot(self, account: Account, fetched: Fetched) -> AccountSnapshot:
        skipped = account.plan.intervals.keys() - account.timetable.intervals.keys()
        return AccountSnapshot(
            taken_at=datetime.fromtimestamp(self._engine.seam.wall(), UTC),
            failures=fetched.failures,
            skipped=frozenset(skipped),
            sections=frozenset(fetched.found.keys() | fetched.failures.keys() | skipped),
            **fetched.found,
        )

    async def _tell_snapshot(self, account: Account, snapshot: AccountSnapshot) -> None:
        taken = SnapshotTaken(account.name, snapshot)
        known, memory = account.known, self.memory
        news = await memory.compare(account.name, known, snapshot) if memory else None
        if memory is None or news is None:
            await self._tell(account, taken)
            return
        if news.changes:
            await self._tell(account, taken)
            changed = Changed(account.name, news.changes, snapshot)
            await self._tell(account, changed, news.merged)
        else:
            await self._tell(account, taken, news.merged)
        if not account.removed:
            await memory.keep(account.name, known, news.digests)

    async def _tell(
        self, account: Account, event: PollEvent, merged: AccountSnapshot | None = None
    ) -> None:
        """Wait until the program has taken the event, which makes `merged` what it knows.

        A removed account is silent.
        """

        def learn() -> None:
            if merged is not None:
                account.known.unsaved = merged

        if not account.removed:
            account.offer = Offer(event, learn, self._engine.seam)
            try:
                await self.outbox.put(account.offer)
            finally:
                account.offer = None

    def _complain(self, what: str, error: Exception) -> None:
        """Log an error of other people's code, but not for each poll of a bad day."""
        now = self._engine.seam.now()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            _log.error("%s: %r; polling goes on", what, error, exc_info=error)


def _is_pause(error: BiliError) -> bool:
    return isinstance(error, RateLimited) and error.scope == "host"
