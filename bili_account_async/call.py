"""The way of one call: prepare, wait for the permit, attempt, report, then try again or raise.

The API's looks are `wire.py`'s business, aiohttp is `transport/`'s, and who may go `limiting/`'s.
Nothing here knows one endpoint from another, and nothing here is public but the types that describe
a call to its owner: `Reply`, `RequestEvent`, `CallEvent`.

An error is raised at one place, and no frame that its traceback holds may keep a reference to it:
that would be a cycle, which keeps the whole reply in memory until the garbage collector comes by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

import attrs
from yarl import URL

from . import wire
from ._deadlines import Deadlines
from ._seam import Seam, checked_seconds
from .credential import Credential
from .endpoints import Endpoint, HostName
from .errors import (
    BiliError,
    CredentialMissing,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    TransportError,
)
from .hosts import HOST_NAMES, Hosts
from .limiting.protocols import Gate, Permit
from .limiting.timed import CLOSED
from .retry import Retry, RetryBudget, may_retry
from .transport import Pool, RawReply

T = TypeVar("T")

_log = logging.getLogger("bili_account_async")
_UNKNOWN_FIELDS_MAX = 1000
"""Unknown fields that a manager logs: a server can invent names faster than anybody reads them."""


# --- the types that describe a call to its owner --------------------------------------------------


@attrs.frozen(kw_only=True)
class RequestEvent:
    """One attempt, for metrics and logs. It holds no secret."""

    endpoint: str
    host: HostName
    account: str
    """The session's label."""
    attempt: int
    """1 for the first."""
    outcome: BiliError | None
    """None for success."""
    status: int | None
    """The HTTP status; None if none came."""
    waited: float
    """Seconds that it waited for the limit."""
    seconds: float
    """Seconds on the wire."""


@attrs.frozen(kw_only=True)
class CallEvent:
    """One whole call, however it ended, for metrics and logs. It holds no secret."""

    endpoint: str
    account: str
    """The session's label."""
    outcome: BaseException | None
    """None for success, else the error; a bare `CancelledError` for a call that was cancelled."""
    attempts: int
    """Attempts made; 0 for a call that was refused before anything was sent."""
    waited: float
    """Seconds that its attempts waited for the limit."""
    seconds: float
    """Seconds that it took besides: on the wire, and between attempts."""


@attrs.frozen(kw_only=True)
class Reply(Generic[T]):
    """A call's record with its circumstances, from `call_raw`."""

    record: T
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    payload: object = attrs.field(repr=False)
    """The JSON value that the record was made of."""
    seconds: float
    """Seconds on the wire of the attempt that succeeded."""
    attempts: int
    unknown_fields: tuple[str, ...]
    """Paths of fields that came and that the record has no place for: the server has grown."""


# --- the parts that calls share -------------------------------------------------------------------


class Account:
    """One account, as its calls need it.

    A fleet holds thousands of them, most of them idle. So the costly parts (a digest, the headers)
    are made when a call first needs them, and the options of a session are kept as they were given.
    """

    __slots__ = (
        "__weakref__",
        "_headers",
        "_key",
        "_label",
        "background",
        "credential",
        "max_wait",
        "retry",
        "timeout",
    )

    def __init__(
        self,
        credential: Credential,
        label: str | None,
        *,
        timeout: float | None,
        retry: Retry | None,
        max_wait: float | None,
        background: bool,
    ) -> None:
        self.credential = credential
        self.timeout = timeout  # this and the next two are the manager's if None
        self.retry = retry
        self.max_wait = max_wait
        self.background = background
        self._label = label
        self._key: str | None = None
        self._headers: dict[str, str] | None = None

    @property
    def label(self) -> str:
        """The name that events carry."""
        return self.key if self._label is None else self._label

    @property
    def key(self) -> str:
        """The name under which the limiter counts this account."""
        if self._key is None:
            self._key = self.credential.account_key
        return self._key

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every request of this account carries."""
        if self._headers is None:
            self._headers = wire.account_headers(self.credential)
        return self._headers


class Lane:
    """The part that all routes to one host share.

    `key` is the name under which the limiter counts the host: host names that lead to one server,
    as in the sandbox, have one budget. The retries that an outage of the host may cost are counted
    here too, whichever of its endpoints is asked.
    """

    __slots__ = ("budget", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.budget = RetryBudget()


class Route(Generic[T]):
    """The way to one endpoint: its URL, its host's lane, its retries, the reader of its replies.

    It costs a millisecond to make, once for each endpoint of a manager, and nothing per call.
    """

    __slots__ = ("budget", "decoder", "lane", "url")

    def __init__(self, url: URL, lane: Lane, decoder: wire.Decoder[T]) -> None:
        self.url = url
        self.lane = lane
        self.budget = RetryBudget(lane.budget)
        self.decoder = decoder


class Routes(dict[Endpoint[Any], Route[Any]]):
    """The routes of one manager by endpoint, each made when it is first looked up.

    Equal endpoints share a route, so that a program may declare its own where it calls it. The
    first look-up raises `TypeError` for a record that JSON can't give. Routes are bound to no event
    loop, and stay when the manager is closed and opened again.
    """

    def __init__(self, hosts: Hosts) -> None:
        super().__init__()
        self.bases: dict[HostName, URL] = {name: hosts.base(name) for name in HOST_NAMES}
        self._lanes: dict[str, Lane] = {}

    def __missing__(self, endpoint: Endpoint[Any]) -> Route[Any]:
        base = self.bases[endpoint.host]
        lane = self._lanes.setdefault(base.raw_authority, Lane(base.raw_authority))
        route = Route(base.with_path(endpoint.path), lane, wire.Decoder(endpoint))
        self[endpoint] = route
        return route


class Engine:
    """A manager between opening and closing: everything that is bound to one event loop."""

    def __init__(
        self,
        seam: Seam,
        *,
        deadlines: Deadlines,
        pool: Pool,
        limiter: Gate,
        routes: Routes,
        retry: Retry,
        timeout: float,
        max_wait: float,
        on_request: tuple[Callable[[RequestEvent], object], ...],
        on_call: tuple[Callable[[CallEvent], object], ...],
    ) -> None:
        self.seam = seam
        self.loop = seam.loop
        self.now = seam.loop.time
        # A future and no flag: whoever waits between two attempts waits for this as well.
        self.closing: asyncio.Future[None] = seam.loop.create_future()
        self.deadlines = deadlines
        self.pool = pool
        self.limiter = limiter
        self.routes = routes
        self.retry = retry
        self.timeout = timeout
        self.max_wait = max_wait
        self.on_request = on_request
        self.on_call = on_call
        self._logged: set[tuple[str, str]] = set()

    def ensure_open(self) -> None:
        """Raise `RuntimeError` if the manager was closed while the call was under way."""
        if self.closing.done():
            raise RuntimeError(CLOSED)

    async def wait(self, seconds: float) -> None:
        """Wait between two attempts, no longer than the manager is open."""
        if seconds:
            await asyncio.wait((self.closing,), timeout=seconds)
        self.ensure_open()

    def log_unknown_fields(self, endpoint: str, fields: Iterable[str]) -> None:
        """Log each unknown field of an endpoint once."""
        for field in fields:
            seen = (endpoint, field)
            if seen not in self._logged and len(self._logged) < _UNKNOWN_FIELDS_MAX:
                self._logged.add(seen)
                _log.info("%s: the reply has an unknown field %s", endpoint, field)

    def call(
        self,
        account: Account,
        endpoint: Endpoint[T],
        params: Mapping[str, str | int] | None,
        form: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> Coroutine[Any, Any, Outcome[T]]:
        """Return the coroutine of one call, which gives its outcome or raises its error.

        It is that of `Call.perform` itself where nobody observes calls: a coroutine around it would
        cost every call, and tell nobody.
        """
        if not isinstance(endpoint, Endpoint):
            raise TypeError(f"endpoint: expected Endpoint, got {type(endpoint).__name__}")
        call = Call(self, account, endpoint)
        coroutine = call.perform(params, form, timeout)
        return self._observed(call, coroutine) if self.on_call else coroutine

    async def _observed(
        self, call: Call[T], coroutine: Coroutine[Any, Any, Outcome[T]]
    ) -> Outcome[T]:
        """Make the call, and tell its observers how it ended, also if it was cancelled."""
        started = self.now()
        try:
            outcome = await coroutine
        except BaseException as error:
            # A cancellation's own exception stays the caller's: its frames are not for metrics.
            own = isinstance(error, Exception)
            self._notify_call(call, started, error if own else BaseException.__new__(type(error)))
            raise
        self._notify_call(call, started, None)
        return outcome

    def _notify_call(self, call: Call[Any], started: float, outcome: BaseException | None) -> None:
        """Hand the observers the event of a call that began at `started`, on the loop's clock."""
        event = CallEvent(
            endpoint=call.endpoint.name,
            account=call.account.label,
            outcome=outcome,
            attempts=call.attempts,
            waited=call.waited,
            seconds=max(0.0, self.now() - started - call.waited),
        )
        notify(self.on_call, event, "on_call")

    async def close(self) -> None:
        """End the calls that are under way, and every connection and timer."""
        self.limiter.close()
        if not self.loop.is_closed():  # its futures and timers ended with it
            self.closing.set_result(None)
            self.deadlines.close()
        await self.pool.close()


E = TypeVar("E")


def notify(observers: Iterable[Callable[[E], object]], event: E, option: str) -> None:
    """Hand `event` to each observer; one that raises is logged and does no harm."""
    for observer in observers:
        try:
            observer(event)
        except Exception:  # noqa: BLE001 - somebody else's code
            _log.exception("%s raised; the call goes on", option)


# --- one call -------------------------------------------------------------------------------------


class Outcome(Generic[T]):
    """The end of one attempt: an error, or a record and what it was made of.

    After an error there is no record, not even None: a caller that forgot to look at the error
    would otherwise go on with nothing.
    """

    __slots__ = ("attempts", "error", "payload", "record", "reply", "seconds", "unknown_fields")

    record: T
    payload: object
    unknown_fields: tuple[str, ...]
    seconds: float
    """Seconds on the wire."""
    attempts: int
    """The number of this attempt, 1 for the first."""

    def __init__(self, error: BiliError | None, reply: RawReply | None) -> None:
        self.error = error
        self.reply = reply  # None if no answer came


class Call(Generic[T]):
    """One call under way, and what its attempts share.

    Two clocks run. `waited` is what our own limits cost, which `max_wait` bounds. `remaining` is
    the talking, which `timeout` bounds: it begins with the first departure, and attempts, backoffs
    and pauses that the server asked for all take from it.
    """

    __slots__ = (
        "account",
        "attempts",
        "endpoint",
        "engine",
        "failed",
        "max_attempts",
        "max_wait",
        "remaining",
        "request",
        "retry",
        "route",
        "sent",
        "timeout",
        "waited",
    )

    route: Route[T]
    request: wire.Request
    timeout: float
    """Seconds of talking that the call may take."""
    remaining: float
    """Seconds of talking that are left of it."""

    def __init__(self, engine: Engine, account: Account, endpoint: Endpoint[T]) -> None:
        self.engine = engine
        self.account = account
        self.endpoint = endpoint
        self.retry = account.retry or engine.retry
        self.max_wait = engine.max_wait if account.max_wait is None else account.max_wait
        self.attempts = 0
        self.max_attempts = self.retry.attempts  # one more for each dead pooled connection it met
        self.failed: BiliError | None = None  # the last attempt's error, while the next one waits
        self.waited = 0.0  # seconds, for the limit
        self.sent = False  # an attempt's request was written, if only in part

    async def perform(
        self,
        params: Mapping[str, str | int] | None,
        form: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> Outcome[T]:
        """Return the outcome of the attempt that succeeded, or raise the last one's error."""
        self.prepare(params, form, timeout)
        limiter, lane, account = self.engine.limiter, self.route.lane.key, self.account.key
        while True:
            permit = limiter.try_acquire(lane, account) or await self.acquire()
            outcome = await self.attempt(permit)
            self.report(permit, outcome)
            if outcome.error is None:
                self.route.budget.earn()
                return outcome
            delay = self.delay_after(outcome.error, outcome.seconds)
            if delay is None:
                break
            self.failed = outcome.error
            await self.engine.wait(delay)
        try:
            raise self.final(outcome.error)
        finally:
            del outcome  # or this frame and the traceback would hold each other

    def prepare(
        self,
        params: Mapping[str, str | int] | None,
        form: Mapping[str, str | int] | None,
        timeout: float | None,
    ) -> None:
        """Check what the caller gave, once, and build the request that every attempt sends.

        What is refused here was not counted by the limiter, and nothing of it was sent.
        """
        endpoint, credential = self.endpoint, self.account.credential
        if form is not None and endpoint.method == "GET":
            raise ValueError(f"form: {endpoint.name} is a GET, which has none: use params")
        if missing := endpoint.auth.missing_from(credential):
            raise CredentialMissing(f"the credential lacks {missing}", endpoint=endpoint.name)
        engine = self.engine
        self.timeout = self.account.timeout or engine.timeout
        if timeout is not None:
            self.timeout = checked_seconds("timeout", timeout)
        self.remaining = self.timeout
        self.route = engine.routes[endpoint]
        self.request = wire.build_request(
            endpoint,
            self.route.url,
            self.account.headers,
            credential,
            wire.checked_fields("params", params) if params else None,
            wire.checked_fields("form", form) if form else None,
        )

    async def acquire(self) -> Permit:
        """Wait until the next attempt may depart, which most calls need not.

        The pauses that the first attempt sat out are the queue's: the talking has not begun yet.
        Those of a retry are part of the talking, since the server asked for them in its answer.
        """
        limiter, account = self.engine.limiter, self.account
        failed, self.failed = self.failed, None
        try:
            permit: Permit = await limiter.acquire(
                self.route.lane.key,
                account.key,
                patience=self.remaining,
                max_wait=max(0.0, self.max_wait - self.waited),
                retry=self.attempts > 0,
                background=account.background,
            )
        except RateLimited as limited:
            if limited.scope == "local" and failed is not None:
                raise self.final(failed) from None  # of more use than that it can't be tried again
            raise limited.restated(endpoint=self.endpoint.name) from None
        finally:
            del failed  # as in `perform`
        self.waited += permit.waited
        if self.attempts:
            self.remaining -= permit.paused
            if self.remaining <= 0:
                self.end_paused(permit)
        return permit

    def end_paused(self, permit: Permit) -> NoReturn:
        """Give the permit back and raise the timeout of a call whose time pauses have taken.

        They overlapped: the limiter does not wait for one that is too long by itself.
        """
        error = self.timed_out("no time is left after the pauses that the server asked for")
        self.engine.limiter.release(permit, error)
        try:
            raise error
        finally:
            del error

    async def attempt(self, permit: Permit) -> Outcome[T]:
        """Send once; return what came of it. The permit goes back, whatever happens."""
        engine = self.engine
        departed = engine.now()
        self.attempts += 1
        try:
            engine.ensure_open()  # it may have been closed between the grant and this turn
            seconds = min(self.retry.attempt_timeout, self.remaining)
            outcome = self.judge(await engine.pool.exchange(self.request, seconds))
        except BaseException as error:  # noqa: BLE001 - it goes on
            engine.limiter.release(permit, error)
            # Without the frames below, whose variables are headers and URLs: many an error reporter
            # shows those.
            raise error.with_traceback(None)  # noqa: B904
        engine.limiter.release(permit, outcome.error)
        outcome.seconds = engine.now() - departed
        outcome.attempts = self.attempts
        return outcome

    def judge(self, reply: RawReply | BiliError) -> Outcome[T]:
        """Return the record that a reply holds, or the error that it is."""
        if isinstance(reply, BiliError):
            return Outcome(reply, None)
        redact = self.account.credential.redact
        envelope = wire.judge(
            reply.status,
            reply.headers,
            reply.body,
            endpoint=self.endpoint.name,
            wall=self.engine.seam.wall,
            redact=redact,
        )
        if isinstance(envelope, BiliError):
            return Outcome(envelope, reply)
        decoded = self.route.decoder.decode(envelope, redact)
        if isinstance(decoded, BiliError):
            return Outcome(decoded, reply)
        outcome: Outcome[T] = Outcome(None, reply)
        outcome.record, outcome.payload, outcome.unknown_fields = decoded
        if outcome.unknown_fields:
            self.engine.log_unknown_fields(self.endpoint.name, outcome.unknown_fields)
        return outcome

    def report(self, permit: Permit, outcome: Outcome[T]) -> None:
        """Tell the observers and the log of an attempt.

        Without either, which is usual, no event is built.
        """
        observers = self.engine.on_request
        if not observers and not _log.isEnabledFor(logging.DEBUG):
            return
        error, reply = outcome.error, outcome.reply
        event = RequestEvent(
            endpoint=self.endpoint.name,
            host=self.endpoint.host,
            account=self.account.label,
            attempt=outcome.attempts,
            outcome=error,
            status=reply.status if reply else getattr(error, "status", None),
            waited=permit.waited,
            seconds=outcome.seconds,
        )
        _log.debug("%s", event)
        notify(observers, event, "on_request")

    def delay_after(self, error: BiliError, seconds: float) -> float | None:
        """Return the seconds to wait before the next attempt; None if there is to be none.

        `seconds` is how long the attempt took that ended in `error`. Raises `RuntimeError` if the
        manager was closed meanwhile.
        """
        self.engine.ensure_open()
        stale = isinstance(error, TransportError) and error.stale
        self.sent = self.sent or not isinstance(error, TransportError) or error.sent
        if stale:
            # The pool gave a connection that was dead. The call is not to notice: one attempt more,
            # at once and out of no budget. There are only so many such connections in the pool.
            self.max_attempts += 1
        delay = 0.0 if stale else self.backoff(error)
        self.remaining -= seconds
        if self.attempts >= self.max_attempts or self.remaining <= delay:
            return None
        if not may_retry(self.endpoint, error):
            return None
        if not stale and not self.route.budget.spend():
            return None
        self.remaining -= delay
        return delay

    def backoff(self, error: BiliError) -> float:
        """Return the seconds that our own politeness and the server's `Retry-After` ask for."""
        if isinstance(error, RateLimited):
            return 0.0  # the limiter pauses
        wait = self.retry.wait_before(self.attempts, self.engine.seam.random())
        retry_after = error.retry_after if isinstance(error, ProtocolError) else None
        return max(wait, retry_after or 0.0)

    def final(self, error: BiliError) -> BiliError:
        """Return the error that the caller gets: one that speaks of the call, not of an attempt."""
        if isinstance(error, TransportError):
            error.sent = self.sent
        return self.timed_out() if isinstance(error, RequestTimeout) else error

    def timed_out(self, reason: str = "") -> RequestTimeout:
        """Return the timeout of this call, with the seconds it talked and the attempts it made.

        The attempt's own would speak of the rest of time that was left to it, which means nothing
        to a caller.
        """
        seconds = min(self.timeout, self.timeout - self.remaining)
        attempts = f"{self.attempts} attempt" + ("s" if self.attempts > 1 else "")
        text = f"no answer within {seconds:.3g} s, {attempts}" + (f": {reason}" if reason else "")
        return RequestTimeout(text, sent=self.sent, endpoint=self.endpoint.name)
