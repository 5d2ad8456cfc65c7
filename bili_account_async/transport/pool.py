"""The connection pool, and the exchange of one request for one reply.

aiohttp is used through its public names, but for one switch, `_retry_connection`: with it on,
aiohttp sends a GET (and a proxy's CONNECT) a second time by itself, past our limits and our count.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Awaitable, Mapping
from http.cookies import BaseCookie, SimpleCookie
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from .._deadlines import Deadlines
from ..errors import BiliError, RequestTimeout, TransportError
from ..wire import Request
from .failures import failure, forget_frames
from .line import Exchange, Line, Response, current
from .proxies import Proxies
from .reply import RawReply, read_reply

_LENT_CLOSED = "the lent client_session was closed: close it after this SessionManager"
_LENT_ELSEWHERE = (
    "the lent client_session belongs to another event loop: lend one of the loop that opens this"
)
_GIVEN_UP = "the connection was given up while the call waited for it"


class Pool:
    """One aiohttp connection pool: our own, or one that the host application lends."""

    def __init__(
        self,
        lent: aiohttp.ClientSession | None,
        deadlines: Deadlines,
        *,
        headers: Mapping[str, str],
        proxy: str | None,
        ssl: tls.SSLContext | None,
    ) -> None:
        if lent is not None and lent.closed:
            raise RuntimeError(_LENT_CLOSED)
        self._lent = lent
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._lines: WeakSet[Line] = WeakSet()  # every connection that has carried an exchange
        self._proxies = Proxies(proxy, environment=lent is not None and lent.trust_env)
        # A context of its own verifies certificates whatever the lent connector does. It also makes
        # a pool within the pool: all connections under it are ours, from their first request on. A
        # context that was given may be the host application's too; then the server's name, which
        # aiohttp would take from the URL anyway, tells our connections from its own.
        self._names_server = lent is not None and ssl is not None
        self._ssl = ssl or (True if lent is None else tls.create_default_context())
        self._client = _client(lent, headers)

    async def exchange(self, request: Request, seconds: float) -> RawReply | BiliError:
        """Send once and read the reply, in `seconds` at most; return the failure if there is one.

        Raises only the caller's own `CancelledError`, and `RuntimeError` if the pool that was lent
        has been closed.
        """
        response: aiohttp.ClientResponse | None = None
        deadline = self._deadlines.after(seconds)
        exchange = Exchange(request, self._lines)
        current.set(exchange)  # and never reset: a coroutine may be closed in another context
        try:
            with deadline:
                response = await self._send(request)
                content = response.content
                if content.is_eof():  # it has arrived with the headers, as most do
                    return RawReply(response.status, response.headers, content.read_nowait())
                return await read_reply(response, exchange.line)
            failed: BiliError = self._timeout(exchange, seconds)
        except asyncio.CancelledError:
            if deadline.cancelled_by_caller():
                raise
            sent = exchange.line is not None
            failed = TransportError(_GIVEN_UP, sent=sent, endpoint=request.endpoint)
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, only a BiliError goes on
            tunnel = bool(self._proxies) and request.url.scheme == "https"
            failed = failure(error, exchange, tunnel=tunnel)
            forget_frames(error)
        finally:
            exchange.end()
            if response is not None and not response.closed:  # it is, once the reply is whole
                response.close()
        return self._conclude(response, failed)

    def _send(self, request: Request) -> Awaitable[aiohttp.ClientResponse]:
        if request.body is not None:
            # A POST is never repeated once it left, so it must not leave on a spoilt connection.
            self._close_idle(request.host, unsolicited=True)
        headers, proxy = request.headers, self._proxies.for_url(request.url)
        if proxy.headers and request.url.scheme == "http":
            headers = {**headers, **proxy.headers}  # no tunnel: the proxy reads the request itself
        return self._client.request(
            request.method,
            request.url,
            headers=headers,
            data=request.body,
            ssl=self._ssl,
            server_hostname=request.url.host if self._names_server else None,
            allow_redirects=False,
            proxy=proxy.url,
            proxy_headers=proxy.headers,
            middlewares=(),  # as with trace_configs: none that a tool put into the session
        )

    def _timeout(self, exchange: Exchange, seconds: float) -> RequestTimeout:
        line, request = exchange.line, exchange.request
        if line is not None and line.reused:
            # A network that went away in silence (sleep, VPN, NAT) took the idle ones along. The
            # next attempt is to find out on a new connection, not on the next dead one.
            self._close_idle(request.host)
        text = f"no answer within {seconds:.3g} s"
        return RequestTimeout(text, sent=line is not None, endpoint=request.endpoint)

    def _conclude(
        self, response: aiohttp.ClientResponse | None, failed: BiliError
    ) -> RawReply | BiliError:
        """Return what an exchange comes to that did not end well."""
        if response is None:
            if self._lent is not None and self._lent.closed:
                raise RuntimeError(_LENT_CLOSED)
            return failed
        if response.status == 200:
            return failed
        # Status before body in the order of judgement: a refusal stays one if its body breaks.
        return RawReply(response.status, response.headers, b"")

    def _close_idle(self, host: str, *, unsolicited: bool = False) -> None:
        """Close the idle connections to `host`, or only those with unsolicited data."""
        for line in list(self._lines):
            idle = line.host == host and line.exchange is None
            if idle and (not unsolicited or line.has_unsolicited_data()):
                line.close()

    async def close(self) -> None:
        """Close our own connections, and those of ours in a lent pool."""
        await self._client.close()
        if self._loop.is_closed():
            return  # its transports ended with it
        for line in list(self._lines):
            # Not one that another manager, with the same pool and the same `ssl`, is talking on.
            if line.exchange is None or line.exchange.lines is self._lines:
                line.close()


class _NoCookies(aiohttp.DummyCookieJar):
    """A jar that keeps nothing. aiohttp's own makes an empty set of cookies for each request."""

    _empty: BaseCookie[str] = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        return self._empty


def _client(
    lent: aiohttp.ClientSession | None, headers: Mapping[str, str]
) -> aiohttp.ClientSession:
    """Return the aiohttp session that sends everything, on the lent connector if there is one."""
    _check_aiohttp()
    # limit=0: the limiter caps what is in flight. Waiting for a connection here would be talking.
    connector = lent.connector if lent is not None else aiohttp.TCPConnector(limit=0)
    loop = asyncio.get_running_loop()
    if getattr(connector, "_loop", loop) is not loop:  # aiohttp tells it by no public name
        raise RuntimeError(_LENT_ELSEWHERE)
    client = aiohttp.ClientSession(
        connector=connector,
        connector_owner=lent is None,
        cookie_jar=_NoCookies(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        response_class=Response,
    )
    # Tools that watch the host program patch ClientSession. They would note our URLs, which may
    # hold an access_key, and would add headers that tell Bilibili of the host's traces.
    client.trace_configs.clear()
    client._retry_connection = False
    return client


def _check_aiohttp() -> None:
    """Raise `RuntimeError` for an aiohttp without what keeps our promises."""
    session = aiohttp.ClientSession
    # aiohttp 3 lists the attributes of a session there, aiohttp 4 has slots for them.
    supported = (
        "_retry_connection" in getattr(session, "ATTRS", dir(session))
        and hasattr(aiohttp.ClientResponse, "start")
        and hasattr(ResponseHandler, "should_close")
        and hasattr(ResponseHandler, "closed")
    )
    if not supported:
        raise RuntimeError(
            f"aiohttp {aiohttp.__version__} can't be kept from sending a request twice or from "
            "taking stray bytes for a reply: install a version that this package was released for"
        )
