"""All that knows aiohttp: one pool for all accounts, one exchange of a request for a reply.

Errors of aiohttp end here. They hold request headers in their repr and chain, so each is told
apart, turned into a `BiliError` that is returned, and dropped.

aiohttp is used through its public names, with one override: `ClientResponse.start`, which aiohttp
calls in the same turn of the loop in which it has written a request. Three things are known there
and nowhere else: that the request left, on which connection, and if that one had already spoken.
One private switch is set besides, `_retry_connection`: with it on, aiohttp sends a GET (and a
proxy's CONNECT) a second time by itself, past our limits and our count.
"""

from __future__ import annotations

import asyncio
import os
import ssl as tls
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from functools import partial
from http.cookies import BaseCookie, SimpleCookie
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet, ref

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from ._deadlines import Deadlines
from .errors import BiliError, ProtocolError, RequestTimeout, TransportError
from .hosts import http_url
from .wire import BODY_MAX, Request

_LINE = "bili_account_async_line"
"""The attribute of aiohttp's protocol object under which its `_Line` lives and dies."""
_LENT_CLOSED = "the lent client_session was closed: close it after this SessionManager"
_LENT_ELSEWHERE = (
    "the lent client_session belongs to another event loop: lend one of the loop that opens this"
)
_UNASKED = "the server sent what nobody had asked for"
_GIVEN_UP = "the connection was given up while the call waited for it"


class RawReply:
    """A whole reply; `body` is None if it is larger than `BODY_MAX`. Its repr shows none of it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class ConnectionLost(Exception):
    """The end of a connection that had spoken before it was asked."""


class _Line:
    """One connection of the pool: the few facts about it that aiohttp does not keep."""

    __slots__ = ("__weakref__", "body", "exchange", "handler", "host", "reused")

    def __init__(self, handler: ResponseHandler, host: str) -> None:
        self.handler = ref(handler)
        self.host = host
        self.exchange: _Exchange | None = None  # the exchange under way on it, None while idle
        self.reused = False  # it has carried an earlier exchange
        self.body: aiohttp.StreamReader | None = None  # the body that is being read off it

    def died(self, closed: asyncio.Future[None]) -> None:
        """Fail a reader whose body can't be parsed any further: aiohttp lets it wait for ever."""
        _ = closed.cancelled() or closed.exception()  # or the loop would log that nobody asked
        handler = self.handler()
        if handler is not None and self.body is not None:
            error = handler.exception()
            if isinstance(error, HttpProcessingError):
                self.body.set_exception(error)


class _Exchange:
    """One exchange, as far as `_Response.start` can tell about it."""

    __slots__ = ("answered", "host", "line", "lines")

    def __init__(self, host: str, lines: WeakSet[_Line]) -> None:
        self.host = host
        self.lines = lines
        self.line: _Line | None = None  # set once the request has been written
        self.answered = False  # the head of the reply has come

    def written_on(self, handler: Any) -> None:
        """Note the connection; raise `ConnectionLost` for one that has spoken unasked."""
        line: _Line | None = getattr(handler, _LINE, None)
        if line is None:
            line = _Line(handler, self.host)
            setattr(handler, _LINE, line)
            self.lines.add(line)
            if (closed := handler.closed) is not None:
                closed.add_done_callback(line.died)
        else:
            line.reused = True
        self.line = line
        line.exchange = self
        if handler.should_close:
            # Nothing can have answered yet: these bytes are another account's reply, or whatever a
            # broken proxy left there, and aiohttp would take them for ours.
            raise ConnectionLost


_exchange: ContextVar[_Exchange] = ContextVar("bili_account_async_exchange")
"""The exchange that the running task makes: how `_Response.start` gets at it."""


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        exchange = _exchange.get()
        exchange.written_on(connection.protocol)
        await super().start(connection)
        exchange.answered = True
        return self

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.status}>"  # aiohttp's shows the URL, and the query in it
        )


class _Request(aiohttp.ClientRequest):
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method}>"


class _NoCookies(aiohttp.DummyCookieJar):
    """The jar that keeps nothing. aiohttp's own makes an empty set of cookies for each request."""

    _none: BaseCookie[str] = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        return self._none


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
        self._lines: WeakSet[_Line] = WeakSet()
        self._proxies = _proxies(proxy, environment=lent is not None and lent.trust_env)
        self._bypass = proxy_bypass if proxy is None else _never
        # A context of its own verifies certificates whatever the lent connector does. It also makes
        # a pool within the pool: all connections under it are ours, from their first request on.
        self._ssl = ssl or (True if lent is None else tls.create_default_context())
        self._client = _client(lent, headers)

    async def exchange(self, request: Request, seconds: float) -> RawReply | BiliError:
        """Send once and read the reply, in `seconds` at most; return the failure if there is one.

        Raises only the caller's own `CancelledError`, and `RuntimeError` if the pool that was lent
        has been closed.
        """
        response: aiohttp.ClientResponse | None = None
        deadline = self._deadlines.after(seconds)
        exchange = _Exchange(request.host, self._lines)
        _exchange.set(exchange)  # and never reset: a coroutine may be closed in another context
        try:
            with deadline:
                response = await self._send(request)
                content = response.content
                if content.is_eof():  # it has arrived with the headers, as most do
                    return RawReply(response.status, response.headers, content.read_nowait())
                return await _read(response, exchange.line)
            failure: BiliError = self._timeout(exchange, request, seconds)
        except asyncio.CancelledError:
            if deadline.cancelled_by_caller():
                raise
            sent = exchange.line is not None
            failure = TransportError(_GIVEN_UP, sent=sent, endpoint=request.endpoint)
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, only a BiliError goes on
            failure = _failure(error, exchange, request.endpoint)
            # aiohttp's connection keeps the error, and the error keeps our frames: a cycle.
            error.__traceback__ = None
        finally:
            if (line := exchange.line) is not None and line.exchange is exchange:
                line.exchange = None
            if response is not None and not response.closed:  # it is, once the reply is whole
                response.close()
        if response is None:
            if self._lent is not None and self._lent.closed:
                raise RuntimeError(_LENT_CLOSED)
            return failure
        # Status before body in the order of judgement: a refusal stays one if its body breaks.
        return (
            failure if response.status == 200 else RawReply(response.status, response.headers, b"")
        )

    def _send(self, request: Request) -> Awaitable[aiohttp.ClientResponse]:
        if request.body is not None:
            # A POST is never repeated once it left, so it must not leave on a spoilt connection.
            self._close_idle(request.host, spoken=True)
        headers, url, proxy = request.headers, request.url, _DIRECT
        if self._proxies and not self._bypass(url.host or ""):
            proxy = self._proxies.get(url.scheme, _DIRECT)
            if url.scheme == "http":  # no tunnel: the proxy reads the request itself
                headers = {**headers, **proxy.headers}
        return self._client.request(
            request.method,
            url,
            headers=headers,
            data=request.body,
            ssl=self._ssl,
            allow_redirects=False,
            proxy=proxy.url,
            proxy_headers=proxy.headers,
            middlewares=(),  # as with trace_configs: none that a tool put into the session
        )

    def _timeout(self, exchange: _Exchange, request: Request, seconds: float) -> RequestTimeout:
        line = exchange.line
        if line is not None and line.reused:
            # A network that went away in silence (sleep, VPN, NAT) took the idle ones along. The
            # next attempt is to find out on a new connection, not on the next dead one.
            self._close_idle(request.host)
        return RequestTimeout(
            f"no answer within {seconds:.3g} s", sent=line is not None, endpoint=request.endpoint
        )

    def _close_idle(self, host: str, *, spoken: bool = False) -> None:
        """Close the idle connections to `host`, or only those that have spoken unasked."""
        for line in list(self._lines):
            handler = line.handler()
            if handler is None or line.host != host or line.exchange is not None:
                continue
            if handler.should_close or not spoken:
                handler.close()

    async def close(self) -> None:
        """Close our own connections, and those of ours in a lent pool."""
        await self._client.close()
        for line in list(self._lines):
            if (handler := line.handler()) is not None:
                handler.close()


def _client(
    lent: aiohttp.ClientSession | None, headers: Mapping[str, str]
) -> aiohttp.ClientSession:
    """Return the aiohttp session that sends everything, on the lent connector if there is one."""
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
        request_class=_Request,
        response_class=_Response,
    )
    # Tools that watch the host program patch ClientSession. They would note our URLs, which may
    # hold an access_key, and would add headers that tell Bilibili of the host's traces.
    client.trace_configs.clear()
    if not hasattr(client, "_retry_connection"):
        raise RuntimeError(
            f"aiohttp {aiohttp.__version__} can't be kept from sending a request twice: "
            "install a version of aiohttp that this package was released for"
        )
    client._retry_connection = False
    return client


class _Proxy:
    """One proxy, or none. Its password is in a header, not in the URL, which aiohttp shows."""

    __slots__ = ("headers", "url")

    def __init__(self, url: URL | None) -> None:
        self.url = url and url.with_user(None)
        self.headers: dict[str, str] = {}
        if url is not None and url.user is not None:
            authorization = aiohttp.encode_basic_auth(url.user, url.password or "")
            self.headers["Proxy-Authorization"] = authorization


_DIRECT = _Proxy(None)


def _proxies(named: str | None, *, environment: bool) -> dict[str, _Proxy]:
    """Return the proxies by the scheme of what goes through them; errors show none of them."""
    if named is not None:
        return dict.fromkeys(("http", "https"), _Proxy(URL(named)))
    proxies: dict[str, _Proxy] = {}
    for scheme, text in getproxies().items() if environment else ():
        if scheme not in ("http", "https"):
            continue
        url = http_url(text)
        if url is None:
            raise RuntimeError(
                f"the environment's proxy for {scheme} is no http:// proxy, and the lent "
                "client_session says trust_env: name one with SessionManager(proxy=…)"
            )
        proxies[scheme] = _Proxy(url)
    return proxies


def _never(_: str) -> bool:
    return False


async def _read(response: aiohttp.ClientResponse, line: _Line | None) -> RawReply:
    """Read the body in pieces, so that neither a long one nor a bomb takes more than `BODY_MAX`.

    `line` is None for a reply that came over no connection: a mock's.
    """
    content = response.content
    if (response.content_length or 0) > BODY_MAX:
        return RawReply(response.status, response.headers, None)
    chunks, size = [], 0
    if line is not None:
        line.body = content
    try:
        while chunk := await content.readany():
            size += len(chunk)
            if size > BODY_MAX:
                return RawReply(response.status, response.headers, None)
            chunks.append(chunk)
    finally:
        if line is not None:
            line.body = None
    if line is not None and _reset(line) and not _framed(response):
        raise aiohttp.ClientPayloadError  # without a length, only an orderly end says "whole"
    return RawReply(response.status, response.headers, b"".join(chunks))


def _reset(line: _Line) -> bool:
    handler = line.handler()
    return handler is not None and isinstance(handler.exception(), OSError)


def _framed(response: aiohttp.ClientResponse) -> bool:
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def _failure(error: Exception, exchange: _Exchange, endpoint: str) -> BiliError:
    """Return our error for one of aiohttp's; it takes nothing that could hold a header or a URL."""
    line = exchange.line
    lost = partial(
        TransportError,
        sent=line is not None,
        stale=line is not None and line.reused and not exchange.answered,
        endpoint=endpoint,
    )
    refused = partial(ProtocolError, endpoint=endpoint)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return lost(f"{_place(error)}: its TLS certificate is not valid", certificate=True)
        case aiohttp.ClientConnectorDNSError():
            return lost(f"{_place(error)}: the name can't be resolved")
        case aiohttp.ClientConnectorSSLError():
            return lost(f"{_place(error)}: the TLS handshake failed")
        case aiohttp.ClientConnectorError():
            return lost(f"{_place(error)}: {_reason(error.os_error)}")
        case aiohttp.ClientHttpProxyError():
            return lost(f"the proxy refused with HTTP {error.status}")
        case aiohttp.ClientResponseError():
            return refused("the answer is not HTTP")
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, ContentEncodingError):
            text = "the body is not in the encoding that Content-Encoding tells"
            return refused(text, status=200)
        case aiohttp.ClientPayloadError() | HttpProcessingError() if _unparsable(error, line):
            return refused("the body's chunks are broken", status=200)
        case aiohttp.ClientPayloadError():
            return lost("the connection ended inside the body")
        case TimeoutError():
            sent = line is not None
            return RequestTimeout("the operation timed out", sent=sent, endpoint=endpoint)
        case ConnectionLost():
            return lost(_UNASKED)
        case OSError() | aiohttp.ClientError():
            return lost(_reason(error))
        case _:
            return refused(f"the answer can't be read ({type(error).__name__})")


def _unparsable(error: Exception, line: _Line | None) -> bool:
    """Return True if the parser ended the talk, and not the connection."""
    if isinstance(error, HttpProcessingError):
        return True
    handler = line.handler() if line is not None else None
    return handler is not None and isinstance(handler.exception(), HttpProcessingError)


def _place(error: aiohttp.ClientConnectorError) -> str:
    try:
        return f"can't connect to {error.host}:{error.port}"
    except AttributeError:  # a mock's error, made without the key of a connection
        return "can't connect"


def _reason(error: BaseException) -> str:
    """Return words of our own for an error, or the text of its number: aiohttp's may hold a URL."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    text = getattr(error, "strerror", None) or ""
    if text.startswith("[SSL"):
        return "the TLS connection broke"
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__
