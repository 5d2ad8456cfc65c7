"""SessionManager and AccountSession: wait for the limit, send, judge, retry, and keep the time.

What the API looks like is `wire.py`'s business, what aiohttp does `transport.py`'s, who may go when
`limits.py`'s. No branch here knows one endpoint from another.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import MappingProxyType
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import aiohttp
import attrs
from yarl import URL

from . import wire
from ._deadlines import Deadlines
from ._seam import Seam
from ._version import __version__
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
from .limits import CLOSED, HostState, Limiter, Limits, LocalLimiter
from .retry import Retry, RetryBudget, may_retry
from .transport import Answer, Pool

T = TypeVar("T")

USER_AGENT = f"bili-account-async/{__version__} (unofficial; own account)"
_log = logging.getLogger("bili_account_async")
_DRIFT_MAX = 1000
_TIMEOUT_MAX = 1e9


def _base_url(value: str, attribute: attrs.Attribute[str]) -> str:
    expected = (
        "expected 'https://host' ('http' only for loopback) without user info, path, query "
        "or fragment"
    )
    url = _http_url(value)
    if url is None or "@" in value or url.user or url.password:
        raise ValueError(f"{attribute.name}: {expected}")
    if url.raw_path not in ("", "/") or url.raw_query_string or url.raw_fragment:
        raise ValueError(f"{attribute.name}: {expected}")
    if url.scheme == "http" and not _is_loopback(url.host or ""):
        raise ValueError(f"{attribute.name}: {expected}, got http://{url.host}")
    return str(url.origin())


def _proxy_url(value: str) -> str:
    if _http_url(value) is None:
        raise ValueError("proxy: expected 'http://host:port', with user info if it wants that")
    return value


def _http_url(value: str) -> URL | None:
    """The URL, if it is one of http or https with a host and a port."""
    try:
        url = URL(value)
        usable = url.scheme in ("http", "https") and url.host and url.port
    except (ValueError, TypeError):
        return None
    return url if usable else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@attrs.frozen(kw_only=True)
class Hosts:
    """Where the API lives: one base URL for each of its three hosts.

    `http` is for loopback hosts only.
    """

    api: str = attrs.field(
        default="https://api.bilibili.com",
        converter=attrs.Converter(_base_url, takes_field=True),  # type: ignore[misc]
    )
    www: str = attrs.field(
        default="https://www.bilibili.com",
        converter=attrs.Converter(_base_url, takes_field=True),  # type: ignore[misc]
    )
    passport: str = attrs.field(
        default="https://passport.bilibili.com",
        converter=attrs.Converter(_base_url, takes_field=True),  # type: ignore[misc]
    )


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
class Reply(Generic[T]):
    """A call's result with its circumstances, from `call_raw`."""

    record: T
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    payload: object = attrs.field(repr=False)
    """The JSON value that the record was made of."""
    seconds: float
    """Seconds on the wire of the attempt that succeeded."""
    attempts: int
    unknown_fields: tuple[str, ...]
    """Paths of the fields that came and that the record has no place for: the server has grown."""


class _Route:
    """An endpoint as one manager calls it; for an `access_key`, as one session does.

    Its repr shows no URL.
    """

    __slots__ = ("decoder", "endpoint", "lane", "url")

    def __init__(
        self, endpoint: Endpoint[Any], url: URL, lane: _Lane, decoder: wire.Decoder[Any]
    ) -> None:
        self.endpoint = endpoint
        self.url = url
        self.lane = lane
        self.decoder = decoder


class _Lane:
    """What all routes to one host share."""

    __slots__ = ("budget", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.budget = RetryBudget()


class _Engine:
    """A manager between opening and closing: what is bound to an event loop."""

    def __init__(self, manager: SessionManager, seam: Seam) -> None:
        self.seam = seam
        self.loop = seam.loop
        self.closing: asyncio.Future[None] = seam.loop.create_future()
        self.deadlines = Deadlines(seam)
        self.pool = Pool(
            manager._client_session,
            self.deadlines,
            loop=seam.loop,
            headers=wire.common_headers(manager._user_agent),
            proxy=manager._proxy,
            ssl=manager._ssl,
        )
        self.own_limiter = LocalLimiter(manager._limits, seam) if manager._limiter is None else None
        self.limiter: Limiter[Any] = self.own_limiter or manager._limiter  # type: ignore[assignment]
        self.routes: dict[Endpoint[Any], _Route] = {}
        self.bases = {
            name: URL(getattr(manager._hosts, name)) for name in ("api", "www", "passport")
        }
        self.lanes: dict[str, _Lane] = {}
        self.drifted: set[tuple[str, str]] = set()

    def route(self, endpoint: Endpoint[Any]) -> _Route:
        route = self.routes.get(endpoint)
        if route is None:
            base = self.bases[endpoint.host]
            key = base.raw_authority
            lane = self.lanes.setdefault(key, _Lane(key))
            url = base.with_path(endpoint.path)
            route = self.routes[endpoint] = _Route(endpoint, url, lane, wire.Decoder(endpoint))
        return route

    def tell_drift(self, endpoint: str, fields: Iterable[str]) -> None:
        for field in fields:
            if (endpoint, field) not in self.drifted and len(self.drifted) < _DRIFT_MAX:
                self.drifted.add((endpoint, field))
                _log.info("%s: the reply has an unknown field %s", endpoint, field[:200])

    def ensure_open(self) -> None:
        if self.closing.done():
            raise RuntimeError(CLOSED)

    async def close(self) -> None:
        self.closing.set_result(None)
        self.deadlines.close()
        if self.own_limiter is not None:
            self.own_limiter.close()
        await self.pool.close()


class SessionManager:
    """The connection pool, the limits and the retries of a process: make one, and a session for
    each account.

    `async with` it, or `open` and `close` it. `timeout` is in seconds and bounds the talking of one
    call: from its first departure to the answer, with all attempts, backoffs and pauses that the
    server asks for, but without the wait for our own `limits`. `limiter` replaces `limits`.
    `client_session` lends the connection pool of the host application, which is never closed, and
    whose cookies and headers are neither read nor written. `proxy` is a URL,
    `ssl` a context for a corporate root. `on_request` is called with a `RequestEvent` after every
    attempt.

    Raises `ValueError` for what can't be, and `RuntimeError` with advice for use before opening,
    after closing or on another event loop.
    """

    def __init__(
        self,
        *,
        hosts: Hosts = Hosts(),
        limits: Limits | None = None,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeout: float = 10.0,
        limiter: Limiter[Any] | None = None,
        client_session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        user_agent: str | None = None,
        on_request: Callable[[RequestEvent], object]
        | Iterable[Callable[[RequestEvent], object]] = (),
    ) -> None:
        if limits is not None and limiter is not None:
            raise ValueError("limits and limiter: give one of them, a limiter replaces the limits")
        if client_session is not None and client_session.closed:
            raise ValueError("client_session: it is closed already")
        if user_agent is not None and (
            not user_agent.isascii() or not user_agent.isprintable() or not user_agent
        ):
            raise ValueError("user_agent: expected printable ASCII")
        self._hosts = hosts
        self._limits = limits or Limits()
        self._retry = retry
        self._timeout = _seconds(timeout)
        self._limiter = limiter
        self._client_session = client_session
        self._proxy = None if proxy is None else _proxy_url(proxy)
        self._ssl = ssl
        self._user_agent = user_agent or USER_AGENT
        self._observers = (on_request,) if callable(on_request) else tuple(on_request)
        self._engine: _Engine | None = None
        self._closed = False
        self._new_seam: Callable[[], Seam] = Seam

    def session(self, credential: Credential, *, label: str | None = None) -> AccountSession:
        """A handle on one account: free, no I/O.

        `label` names it in events; without one its mid or a digest does.
        """
        if not isinstance(credential, Credential):
            raise TypeError(f"credential: expected Credential, got {type(credential).__name__}")
        return AccountSession(self, credential, label)

    async def open(self) -> None:
        """Make the manager ready on the running event loop. `async with` does it."""
        if self._closed:
            raise RuntimeError("this SessionManager was closed: make a new one")
        if self._engine is not None:
            raise RuntimeError("this SessionManager is open already: open it once and share it")
        self._engine = _Engine(self, self._new_seam())

    async def close(self) -> None:
        """End everything: connections, timers, and calls under way (with `RuntimeError`).

        Closing twice is fine.
        """
        engine, self._engine, self._closed = self._engine, None, True
        if engine is not None:
            await engine.close()

    async def __aenter__(self) -> SessionManager:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def limits_state(self) -> Mapping[HostName, HostState]:
        """The budgets of each host that was called, as they stand now."""
        engine = self._running()
        state = engine.limiter.state()
        keys: dict[HostName, str] = {
            name: base.raw_authority for name, base in engine.bases.items()
        }  # type: ignore[misc]
        return MappingProxyType({name: state[key] for name, key in keys.items() if key in state})

    def _running(self) -> _Engine:
        engine = self._engine
        if engine is None:
            if self._closed:
                raise RuntimeError(
                    "this SessionManager was closed: make the calls inside its `async with`"
                )
            raise RuntimeError(
                "this SessionManager is not open: use `async with SessionManager() as "
                "manager:`, or await its `open()`"
            )
        if engine.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "this SessionManager was opened on another event loop: open one manager "
                "in each loop"
            )
        return engine


class AccountSession:
    """One account's handle: give it to the endpoint coroutines.

    Light, and safe to share between tasks.
    """

    __slots__ = ("__weakref__", "_credential", "_headers", "_key", "_label", "_manager", "_routes")

    def __init__(self, manager: SessionManager, credential: Credential, label: str | None) -> None:
        self._manager = manager
        self._credential = credential
        self._label = label
        self._key: str | None = None
        self._headers: dict[str, str] | None = None
        self._routes: dict[int, _Route] | None = (
            None  # by the id of their endpoint, which each of them keeps alive
        )

    @property
    def label(self) -> str:
        """The name given to `manager.session`, else the account's mid or a digest."""
        return self._label if self._label is not None else self._credential.account_key

    def __repr__(self) -> str:
        return f"<AccountSession {self.label}>"

    async def call(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Call an endpoint, one of ours or one that you declare, and give its record.

        `params` go into the query, `form` into a POST's body; `timeout` replaces the manager's.
        Raises `BiliError`.
        """
        record: T = (await self._perform(endpoint, params, form, timeout))[0]
        return record

    async def call_raw(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply[T]:
        """`call`, with the circumstances of the reply."""
        record, payload, unknown, answer, seconds, attempts = await self._perform(
            endpoint, params, form, timeout
        )
        return Reply(
            record=record,
            status=answer.status,
            headers=answer.headers,
            payload=payload,
            seconds=seconds,
            attempts=attempts,
            unknown_fields=unknown,
        )

    async def _perform(
        self,
        endpoint: Endpoint[T],
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        timeout: float | None,
    ) -> tuple[T, object, tuple[str, ...], Answer, float, int]:
        if form is not None and endpoint.method == "GET":
            raise ValueError(f"form: {endpoint.name} is a GET, which has none: use params")
        params = params and wire.texts("params", params)
        form = form and wire.texts("form", form)
        manager = self._manager
        engine = manager._running()
        route = (self._routes and self._routes.get(id(endpoint))) or self._admit(engine, endpoint)
        talk = manager._timeout if timeout is None else _seconds(timeout)
        lane, retry, limiter, now = route.lane, manager._retry, engine.limiter, engine.loop.time
        attempt, allowed = 0, retry.attempts
        while True:
            attempt += 1
            try:
                permit = await limiter.acquire(
                    lane.key, self._key or self._account_key(), patience=talk
                )
            except RateLimited as limited:
                limited.endpoint = endpoint.name
                raise
            if attempt > 1:
                talk -= permit.paused
                if (
                    talk <= 0
                ):  # by pauses that overlapped: one that is too long by itself was not waited for
                    late = RequestTimeout(
                        "no time is left after the pauses that the server asked for",
                        sent=endpoint.method == "GET",
                    )
                    late.endpoint = endpoint.name
                    limiter.release(permit, late)
                    raise late
            departed = now()
            try:
                # it may have been closed between the grant and this turn of the loop
                engine.ensure_open()
                got = await engine.pool.exchange(
                    endpoint.method,
                    *self._request(route, params, form),
                    min(retry.attempt_timeout, talk),
                )
                error, answer, decoded = self._judge(engine, route, got)
            except BaseException as cancelled:  # noqa: BLE001 - whatever it is, the permit goes back
                limiter.release(permit, cancelled)
                # Without the frames below, whose variables are headers and URLs: many an error
                # reporter shows those.
                raise cancelled.with_traceback(None)  # noqa: B904
            limiter.release(permit, error)
            seconds = now() - departed
            if error is not None:
                error.endpoint = endpoint.name
            if manager._observers or _log.isEnabledFor(logging.DEBUG):
                self._tell(endpoint, attempt, error, answer, permit.waited, seconds)
            if decoded is not None:
                assert answer is not None
                lane.budget.earn()
                record, payload, unknown = decoded
                if unknown:
                    unknown = tuple(self._credential.redact("\0".join(unknown)).split("\0"))
                    engine.tell_drift(endpoint.name, unknown)
                return record, payload, unknown, answer, seconds, attempt
            assert error is not None
            engine.ensure_open()
            delay = self._retry_delay(error, attempt, engine.seam.random())
            idle = isinstance(error, TransportError) and error._idle
            if idle:
                # An idle connection of the pool was dead: the call is not to notice, so one more,
                # at once. It costs no retry, and there is an end to it: each takes a connection out
                # of the pool.
                allowed, delay = allowed + 1, 0.0
            talk -= seconds + delay
            if (
                attempt >= allowed
                or talk <= 0
                or not may_retry(endpoint, error)
                or not (idle or lane.budget.spend())
            ):
                raise error
            if delay:
                await asyncio.wait((engine.closing,), timeout=delay)
                engine.ensure_open()
            del error  # or the frame and its own traceback would hold each other

    def _request(
        self, route: _Route, params: Mapping[str, str] | None, form: Mapping[str, str] | None
    ) -> tuple[URL, dict[str, str], bytes | None]:
        """URL, headers and body.

        They hold secrets, so no frame that can be in a traceback may keep them.
        """
        endpoint, url = route.endpoint, route.url
        if params:
            query = wire.request_query(endpoint, self._credential, params)
            url = URL(f"{url.with_query(None)}?{query}", encoded=True)
        headers = self._headers if self._headers is not None else self._prepare_headers()
        if endpoint.method == "GET":
            return url, headers, None
        return url, headers | wire.FORM_TYPE, wire.request_form(endpoint, self._credential, form)

    def _judge(
        self, engine: _Engine, route: _Route, got: Answer | BiliError
    ) -> tuple[BiliError | None, Answer | None, tuple[Any, object, tuple[str, ...]] | None]:
        """The error, or what was decoded, each with the answer if one came."""
        if not isinstance(got, Answer):
            return got, None, None
        envelope = wire.judge(
            got.status, got.headers, got.body, wall=engine.seam.wall, redact=self._credential.redact
        )
        if isinstance(envelope, BiliError):
            return envelope, got, None
        decoded = route.decoder.decode(envelope)
        return (decoded, got, None) if isinstance(decoded, BiliError) else (None, got, decoded)

    def _admit(self, engine: _Engine, endpoint: Endpoint[Any]) -> _Route:
        """Check what the endpoint needs, once; from then on its route is here."""
        if missing := endpoint.auth.missing_from(self._credential):
            error = CredentialMissing(f"the credential lacks {missing}")
            error.endpoint = endpoint.name
            raise error
        route = engine.route(endpoint)
        if query := wire.request_query(endpoint, self._credential, None):
            route = _Route(
                route.endpoint, URL(f"{route.url}?{query}", encoded=True), route.lane, route.decoder
            )
        if self._routes is None:
            self._routes = {}
        self._routes[id(route.endpoint)] = route
        return route

    def _account_key(self) -> str:
        self._key = self._credential.account_key
        return self._key

    def _prepare_headers(self) -> dict[str, str]:
        self._headers = wire.account_headers(self._credential)
        return self._headers

    def _retry_delay(self, error: BiliError, attempt: int, chance: float) -> float:
        if isinstance(error, RateLimited):
            return 0.0  # the limiter pauses
        wait = self._manager._retry.wait_before(attempt, chance)
        return max(wait, (isinstance(error, ProtocolError) and error.retry_after) or 0.0)

    def _tell(
        self,
        endpoint: Endpoint[Any],
        attempt: int,
        error: BiliError | None,
        answer: Answer | None,
        waited: float,
        seconds: float,
    ) -> None:
        event = RequestEvent(
            endpoint=endpoint.name,
            host=endpoint.host,
            account=self.label,
            attempt=attempt,
            outcome=error,
            status=answer.status if answer else getattr(error, "status", None),
            waited=waited,
            seconds=seconds,
        )
        _log.debug("%s", event)
        for observer in self._manager._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - somebody else's code
                _log.exception("on_request raised; the call goes on")


def _seconds(value: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value <= _TIMEOUT_MAX
    ):
        raise ValueError(
            f"timeout: expected seconds > 0, and no more than thirty years, got {value!r}"
        )
    return float(value)


class ManagerOptions(TypedDict, total=False):
    """The keyword options of `SessionManager`, for `open_session`."""

    hosts: Hosts
    limits: Limits | None
    retry: Retry
    timeout: float
    limiter: Limiter[Any] | None
    client_session: aiohttp.ClientSession | None
    proxy: str | None
    ssl: SSLContext | None
    user_agent: str | None
    on_request: Callable[[RequestEvent], object] | Iterable[Callable[[RequestEvent], object]]


@asynccontextmanager
async def open_session(
    credential: Credential, *, label: str | None = None, **options: Unpack[ManagerOptions]
) -> AsyncIterator[AccountSession]:
    """A manager and one session in one `async with`, for a program with one account."""
    async with SessionManager(**options) as manager:
        yield manager.session(credential, label=label)
