"""SessionManager and AccountSession: what a program holds. The way of one call is `call.py`'s.

Everything that a program hands over is checked here, once, before anything is made of it.
"""

from __future__ import annotations

import asyncio
import math
import ssl as tls
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, Unpack, cast

import aiohttp

from . import wire
from ._deadlines import Deadlines
from ._seam import Seam, checked_seconds, checked_wait
from ._version import __version__
from .call import Account, CallEvent, Engine, Reply, RequestEvent, Routes
from .credential import Credential
from .endpoints import Endpoint, HostName
from .hosts import Hosts, http_url
from .limiting.fronted import FrontedLimiter
from .limiting.local import LocalLimiter
from .limiting.protocols import Gate, Limiter
from .limiting.shared import SharedLimiter
from .limiting.types import HostState, Limits, RateLimit
from .retry import Retry
from .transport import Pool

T = TypeVar("T")
E = TypeVar("E")
Observers = Callable[[E], object] | Iterable[Callable[[E], object]]
"""One callable that takes an event, or several."""

USER_AGENT = f"bili-account-async/{__version__} (unofficial; own account)"


# --- the checks of what a program hands over ------------------------------------------------------


def _instance(name: str, value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _observers(name: str, given: Observers[E]) -> tuple[Callable[[E], object], ...]:
    single = callable(given) or not isinstance(given, Iterable)
    observers: tuple[Any, ...] = (given,) if single else tuple(cast(Iterable[Any], given))
    if not all(map(callable, observers)):
        raise TypeError(f"{name}: expected a callable or several, got {type(given).__name__}")
    if any(map(iscoroutinefunction, observers)):
        raise TypeError(f"{name}: expected a plain function: nothing awaits a coroutine")
    return observers


def _check_limiter(limits: object, limiter: object) -> None:
    if limits is not None and limiter is not None:
        raise ValueError("limits and limiter: give one of them, a limiter replaces the limits")
    if limits is not None:
        _instance("limits", limits, Limits)
    if (
        limiter is not None
        and not isinstance(limiter, SharedLimiter)
        and not all(
            callable(getattr(limiter, method, None)) for method in ("acquire", "release", "state")
        )
    ):
        kind = type(limiter).__name__
        raise TypeError(f"limiter: expected acquire, release and state, got {kind}")
    if (own := getattr(limiter, "limits", None)) is not None:
        _instance("limiter.limits", own, Limits)


def _check_client_session(lent: object, proxy: object) -> None:
    """Check a lent session, also for traffic of its own that we would bypass."""
    if lent is None:
        return
    session = _instance("client_session", lent, aiohttp.ClientSession)
    if session.closed:
        raise ValueError("client_session: it is closed already")
    # aiohttp tells it by no public name.
    if proxy is None and getattr(session, "_default_proxy", None) is not None:
        raise ValueError(
            "client_session: it has a proxy, which does not come along with its connection pool: "
            "name it once more with SessionManager(proxy=…)"
        )


def _check_proxy(value: object) -> None:
    if value is not None and http_url(value) is None:
        raise ValueError("proxy: expected 'http://host:port', with user info if it wants that")


def _check_ssl(value: object) -> None:
    """Refuse all that would turn the check of certificates off."""
    if value is None:
        return
    context = _instance("ssl", value, tls.SSLContext)
    if context.verify_mode is not tls.CERT_REQUIRED or not context.check_hostname:
        raise ValueError(
            "ssl: expected a context that requires certificates and checks host names; for a root "
            "of your own use ssl.create_default_context(cafile=…)"
        )


def _check_user_agent(value: object) -> None:
    if value is None:
        return
    text = _instance("user_agent", value, str)
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("user_agent: expected printable ASCII")


# --- the manager ----------------------------------------------------------------------------------


class SessionManager:
    """The connection pool, the limits and the retries of a process: make one, for all accounts.

    `async with` it, or `open` and `close` it, as often as you like and on any event loop.

    - `timeout`, in seconds, bounds the talking of one call: from its first departure to the answer,
      with all attempts, backoffs and pauses that the server asks for, but without the wait for our
      own `limits`.
    - `limiter` replaces `limits`: a `SharedLimiter`, or one of the program's own, see `Limiter`.
    - `client_session` lends the connection pool of the host application. It is never closed, and
      its cookies and headers are neither read nor written. Its `trust_env` is honoured.
    - `proxy` is a URL, `ssl` a context for a corporate root.
    - `on_request` is called with a `RequestEvent` after every attempt, `on_call` with a `CallEvent`
      after every call, refused and cancelled ones included; each is one callable or several.

    Raises `TypeError` and `ValueError`, naming the option, for a value that can't be, and
    `RuntimeError` with advice for use before opening, after closing or on another event loop.
    """

    def __init__(
        self,
        *,
        hosts: Hosts = Hosts(),  # noqa: B008 - frozen
        limits: Limits | None = None,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeout: float = 10.0,
        limiter: Limiter[Any] | SharedLimiter | None = None,
        client_session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: tls.SSLContext | None = None,
        user_agent: str | None = None,
        on_request: Observers[RequestEvent] = (),
        on_call: Observers[CallEvent] = (),
    ) -> None:
        _check_limiter(limits, limiter)
        _check_client_session(client_session, proxy)
        _check_proxy(proxy)
        _check_ssl(ssl)
        _check_user_agent(user_agent)
        self._routes = Routes(_instance("hosts", hosts, Hosts))
        own_limits = Limits() if limiter is None else getattr(limiter, "limits", None)
        self._limits = limits or own_limits or Limits.none()
        self._retry = _instance("retry", retry, Retry)
        self._timeout = checked_seconds("timeout", timeout)
        self._limiter = limiter
        self._client_session = client_session
        self._proxy = proxy
        self._ssl = ssl
        self._headers = wire.common_headers(user_agent or USER_AGENT)
        self._on_request = _observers("on_request", on_request)
        self._on_call = _observers("on_call", on_call)
        self._engine: Engine | None = None  # there while the manager is open
        self._closed = False  # it was open once, which is only for a better message
        self._new_seam: Callable[[], Seam] = Seam  # tests put their own clock and chance here

    def session(
        self,
        credential: Credential,
        *,
        label: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
        max_wait: float | None = None,
        background: bool = False,
    ) -> AccountSession:
        """Return a handle on one account: free, no I/O.

        - `label` names it in events; without one, its mid or a digest does.
        - `timeout`, `retry` and `max_wait` replace the manager's for its calls, where given.
          `max_wait` is the seconds that a call may wait for our limits in all; infinity lifts the
          manager's.
        - `background=True`: its calls go only when no other call could go on that host.
        """
        _instance("credential", credential, Credential)
        if label is not None:
            _instance("label", label, str)
        account = Account(
            credential,
            label,
            timeout=None if timeout is None else checked_seconds("timeout", timeout),
            retry=None if retry is None else _instance("retry", retry, Retry),
            max_wait=None if max_wait is None else checked_wait("max_wait", max_wait),
            background=_instance("background", background, bool),
        )
        return AccountSession(self, account)

    async def open(self) -> None:
        """Make the manager ready on the running event loop. `async with` does it."""
        if self._engine is not None:
            if self._engine.loop.is_closed():
                raise RuntimeError(
                    "this SessionManager is still open on an event loop that has ended: await its "
                    "`close()` before you open it again"
                )
            raise RuntimeError("this SessionManager is open already: open it once and share it")
        seam = self._new_seam()
        deadlines = Deadlines(seam)
        pool = Pool(
            self._client_session,
            deadlines,
            headers=self._headers,
            proxy=self._proxy,
            ssl=self._ssl,
        )
        self._engine = Engine(
            seam,
            deadlines=deadlines,
            pool=pool,
            limiter=self._gate(seam),
            routes=self._routes,
            retry=self._retry,
            timeout=self._timeout,
            max_wait=math.inf if self._limits.max_wait is None else self._limits.max_wait,
            on_request=self._on_request,
            on_call=self._on_call,
        )

    def _gate(self, seam: Seam) -> Gate:
        own = self._limiter
        if own is None:
            return LocalLimiter(self._limits, seam)
        if isinstance(own, SharedLimiter):
            return own.gate(seam)
        return FrontedLimiter(own, self._limits, seam)

    async def close(self) -> None:
        """End everything: connections, timers, and calls under way, which raise `RuntimeError`.

        Closing twice is fine, and so is opening again.
        """
        engine = self._engine
        if engine is None:
            return
        if not engine.loop.is_closed() and engine.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "this SessionManager is open on another event loop: close it there, where its "
                "calls run"
            )
        self._engine, self._closed = None, True
        await engine.close()

    async def __aenter__(self) -> SessionManager:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def limits_state(self) -> Mapping[HostName, HostState]:
        """Return the budgets of each host that was called, as they stand now."""
        engine = self._running()
        state = engine.limiter.state()
        keys = {name: base.raw_authority for name, base in engine.routes.bases.items()}
        return MappingProxyType({name: state[key] for name, key in keys.items() if key in state})

    def _running(self) -> Engine:
        """Return the engine of the running loop; raise `RuntimeError` with advice for none."""
        engine = self._engine
        if engine is None:
            if self._closed:
                raise RuntimeError(
                    "this SessionManager was closed: make the calls inside its `async with`"
                )
            raise RuntimeError(
                "this SessionManager is not open: use `async with SessionManager() as manager:`, "
                "or await its `open()`"
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no asyncio event loop is running here: this package works inside asyncio only"
            ) from None
        if engine.loop is not loop:
            raise RuntimeError(
                "this SessionManager was opened on another event loop: open one manager in each"
            )
        return engine

    @property
    def engine(self) -> Engine:
        """The engine of the running loop, for this package's own use; raises as calls do."""
        return self._running()

    @property
    def host_limit(self) -> RateLimit | None:
        """The budget of a host, for this package's own use; None without one."""
        return self._limits.host


class AccountSession:
    """One account's handle: give it to the endpoint coroutines.

    Light, and safe to share between tasks.
    """

    __slots__ = ("__weakref__", "_manager", "account")

    def __init__(self, manager: SessionManager, account: Account) -> None:
        self._manager = manager
        self.account = account  # for the rooms of this package; not part of the contract

    @property
    def label(self) -> str:
        """The name given to `manager.session`, else the account's mid or a digest."""
        return self.account.label

    def __repr__(self) -> str:
        return f"<AccountSession {self.label}>"

    async def call(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Call an endpoint, one of ours or one that you declare, and return its record.

        `params` go into the query, `form` into a POST's body; `timeout`, in seconds, replaces the
        manager's. Raises `BiliError`.
        """
        engine = self._manager._running()
        return (await engine.call(self.account, endpoint, params, form, timeout)).record

    async def call_raw(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> Reply[T]:
        """Call an endpoint, and return its record with the circumstances of the reply."""
        engine = self._manager._running()
        outcome = await engine.call(self.account, endpoint, params, form, timeout)
        reply = outcome.reply
        assert reply is not None
        return Reply(
            record=outcome.record,
            status=reply.status,
            headers=reply.headers,
            payload=outcome.payload,
            seconds=outcome.seconds,
            attempts=outcome.attempts,
            unknown_fields=outcome.unknown_fields,
        )


class ManagerOptions(TypedDict, total=False):
    """The keyword options of `SessionManager`, for `open_session`."""

    hosts: Hosts
    limits: Limits | None
    retry: Retry
    timeout: float
    limiter: Limiter[Any] | SharedLimiter | None
    client_session: aiohttp.ClientSession | None
    proxy: str | None
    ssl: tls.SSLContext | None
    user_agent: str | None
    on_request: Observers[RequestEvent]
    on_call: Observers[CallEvent]


@asynccontextmanager
async def open_session(
    credential: Credential, *, label: str | None = None, **options: Unpack[ManagerOptions]
) -> AsyncIterator[AccountSession]:
    """Open a manager and yield one session: one `async with`, for a program with one account."""
    async with SessionManager(**options) as manager:
        yield manager.session(credential, label=label)
