"""Cache: many views of one account are one call, and a short outage is not seen.

The theory. An entry belongs to a secret, an endpoint and its params: never to a mid, which is only
what a caller claims. A record is fresh for `ttl` seconds. While nobody has a fresh one, whoever
asks joins the call under way, or begins it. That call belongs to its waiters together: it survives
the one that began it, and is cancelled with the last. Each waiter gets an error of its own, since
a shared one would collect the frames of all. A dead login and risk control are answers too, and
kept as long as a record; other errors are not kept, but while the server can't answer, the last
good record serves on, for `stale_if_error` seconds.

A POST may change what any endpoint says of its account: it drops the account's entries, and what
calls under way bring afterwards is not kept.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import attrs

from ._seam import checked_seconds
from .codes import meaning_of
from .endpoints import Endpoint
from .errors import (
    ApiError,
    BiliError,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RiskControlled,
    SchemaError,
    TransportError,
)
from .session import AccountSession
from .wire import checked_fields

T = TypeVar("T")

_Key = tuple[str, Endpoint[Any], tuple[tuple[str, str], ...]]
"""The digest of a secret, an endpoint, and its params."""
_KEPT = (NotLoggedIn, RiskControlled)


@attrs.frozen(kw_only=True)
class Seen(Generic[T]):
    """A record with its age."""

    record: T
    age: float
    """Seconds since it came from the server."""
    error: BiliError | None
    """The reason why the record is older than `ttl`, None for a fresh one."""


class _Entry:
    """The last good record of a key, and the error that is kept instead, if one is."""

    __slots__ = ("came_at", "error", "failed_at", "record")

    def __init__(self) -> None:
        self.record: Any = None
        self.came_at: float | None = None  # None while there is no record
        self.error: BiliError | None = None
        self.failed_at = 0.0


class _Flight:
    """One call under way, and how many wait for it."""

    __slots__ = ("task", "waiters")

    task: asyncio.Task[Any]

    def __init__(self) -> None:
        self.waiters = 0


class Cache:
    """Records of many accounts, shared by all that ask for them; make one a process.

    `ttl` and `stale_if_error` are seconds, `entries` is how many records and errors are kept: of
    more, those that were used longest ago go. Raises `ValueError` for what can't be.
    """

    def __init__(
        self, *, ttl: float = 30.0, stale_if_error: float = 600.0, entries: int = 10_000
    ) -> None:
        self._ttl = checked_seconds("ttl", ttl)
        self._stale = 0.0
        if stale_if_error != 0 or isinstance(stale_if_error, bool):
            self._stale = checked_seconds("stale_if_error", stale_if_error)
        if type(entries) is not int or entries < 1:
            raise ValueError(f"entries: expected an int >= 1, got {entries!r}")
        self._most = entries
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()  # the one used last stands last
        self._flights: dict[_Key, _Flight] = {}
        self._ending: set[asyncio.Task[Any]] = set()  # cancelled, and not over yet

    def session(self, session: AccountSession) -> CachedSession:
        """Return a session that asks the cache first: free, no I/O."""
        if not isinstance(session, AccountSession):
            got = type(session).__name__
            raise TypeError(f"session: expected AccountSession, got {got}")
        return CachedSession(self, session)

    async def look(
        self,
        digest: str,
        session: AccountSession,
        endpoint: Endpoint[T],
        params: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> Seen[T]:
        """Return what is kept, or what a call brings; `digest` is the session's secret's."""
        now = asyncio.get_running_loop().time
        key = (digest, endpoint, _frozen(params) if params else ())
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            age = now() - entry.came_at if entry.came_at is not None else None
            if age is not None and age < self._ttl and entry.error is None:
                return Seen(record=entry.record, age=age, error=None)
            if entry.error is not None and now() - entry.failed_at < self._ttl:
                raise _own(entry.error)
        try:
            record = await self._join(key, session, endpoint, params, timeout)
        except BiliError as error:
            entry = self._entries.get(key)
            if entry is None or entry.came_at is None or not _server_cannot(error):
                raise
            age = now() - entry.came_at
            if age >= self._ttl + self._stale:
                raise
            return Seen(record=entry.record, age=age, error=error.with_traceback(None))
        return Seen(record=cast(T, record), age=0.0, error=None)

    async def _join(
        self,
        key: _Key,
        session: AccountSession,
        endpoint: Endpoint[Any],
        params: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> Any:
        """Wait for the call under way, or begin it; return its record or raise an own error."""
        flight = self._flights.get(key)
        if flight is None:
            # Known before it begins: an eager task may end while it is made.
            flight = self._flights[key] = _Flight()
            call = self._fetch(key, flight, session, endpoint, params, timeout)
            flight.task = asyncio.create_task(call)
        task = flight.task
        flight.waiters += 1
        try:
            await asyncio.wait((task,))
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if not task.done():
                    self._ending.add(task)
                    task.add_done_callback(self._ended)
                    task.cancel()
        if task.cancelled():
            text = "the call was cancelled, and not by its caller"
            raise TransportError(text, endpoint=endpoint.name)
        if (error := task.exception()) is not None:
            try:
                raise _own(error)
            finally:
                del error
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Let go of a call that was cancelled with its last waiter; nobody asks what it raised."""
        self._ending.discard(task)
        _ = task.cancelled() or task.exception()

    async def _fetch(
        self,
        key: _Key,
        flight: _Flight,
        session: AccountSession,
        endpoint: Endpoint[Any],
        params: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> Any:
        """Make the call, and keep what came of it."""
        try:
            record = await session.call(endpoint, params=params, timeout=timeout)
        except _KEPT as error:
            # Unless the account's entries were dropped while the call was under way.
            if self._flights.get(key) is flight:
                entry = self._entry(key)
                entry.error = _own(error)
                entry.failed_at = asyncio.get_running_loop().time()
            raise
        if self._flights.get(key) is flight:
            entry = self._entry(key)
            entry.record, entry.error = record, None
            entry.came_at = asyncio.get_running_loop().time()
        return record

    def _entry(self, key: _Key) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        return entry

    def drop(self, digest: str) -> None:
        """Forget an account: its entries, and what its calls under way will bring."""
        for kept in (self._entries, self._flights):
            for key in [key for key in kept if key[0] == digest]:
                del kept[key]


class CachedSession:
    """One account's handle on a cache; a `Session` for the endpoint coroutines."""

    __slots__ = ("_cache", "_digest", "_session")

    def __init__(self, cache: Cache, session: AccountSession) -> None:
        self._cache = cache
        self._session = session
        self._digest = session.account.credential.secret_digest

    @property
    def label(self) -> str:
        """The label of the session beneath."""
        return self._session.label

    def __repr__(self) -> str:
        return f"<CachedSession {self.label}>"

    async def call(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Return a GET's record, at most `ttl` old while the server answers; send a POST.

        A POST drops what is kept of the account, however it ends. `timeout` is for the call that is
        begun here: who joins one under way waits as long as that one may take.
        """
        if endpoint.method == "GET" and form is None:
            return (await self.look(endpoint, params=params, timeout=timeout)).record
        try:
            return await self._session.call(endpoint, params=params, form=form, timeout=timeout)
        finally:
            if endpoint.method != "GET":
                self._cache.drop(self._digest)

    async def look(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> Seen[T]:
        """Return a GET's record with its age, and with the error that made it serve on."""
        if endpoint.method != "GET":
            raise ValueError(f"endpoint: {endpoint.name} is no GET, which alone is kept: call it")
        return await self._cache.look(self._digest, self._session, endpoint, params, timeout)


def _frozen(params: Mapping[str, str | int]) -> tuple[tuple[str, str], ...]:
    """Return the params as part of a key: in order, and as they are sent."""
    return tuple(sorted(checked_fields("params", params).items()))


def _own(error: BaseException) -> Any:
    """Return an error that says the same and holds no frame."""
    return copy.copy(error).with_traceback(None)


def _server_cannot(error: BiliError) -> bool:
    """Return True if the server could not answer, which is no answer."""
    if isinstance(error, ApiError):
        return meaning_of(error.code).retry
    return isinstance(error, (TransportError, ProtocolError, RateLimited, SchemaError))
