"""All that knows aiohttp: one pool for all accounts, one exchange of a request for a reply.

Here errors of aiohttp end: they hold request headers in their repr and chain, so they are told
apart, turned into
`BiliError`s that are returned, and dropped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from functools import partial
from http.cookies import BaseCookie
from ssl import SSLContext
from typing import Any
from weakref import ReferenceType, ref

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.hdrs import HOST
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from ._deadlines import Deadlines
from .errors import BiliError, ProtocolError, RequestTimeout, TransportError
from .wire import BODY_MAX

_WIRE = "bili_account_async_wire"
_LENT_CLOSED = "the lent client_session was closed: close it after this SessionManager"


class Answer:
    """A whole reply; `body` is None if it is larger than `BODY_MAX`.

    Its repr shows nothing of it.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class _DiedError(Exception):
    """Carries a connection's death past aiohttp, which would send a GET again by itself: see
    `_Response`.
    """

    def __init__(self, reason: str, *, idle: bool, sent: bool = True) -> None:
        super().__init__(reason)
        self.idle = idle
        self.sent = sent


class _Wire:
    """What we keep of a connection besides what aiohttp does."""

    __slots__ = ("__weakref__", "body", "reused")

    def __init__(self) -> None:
        self.body: aiohttp.StreamReader | None = None
        self.reused = False

    def lost(self, protocol: ReferenceType[ResponseHandler], closed: asyncio.Future[None]) -> None:
        """Tell a reader that waits for a body which can't be parsed any further: aiohttp leaves it
        waiting for ever.
        """
        _ = closed.cancelled() or closed.exception()  # or the loop would log that nobody asked
        handler = protocol()
        if handler is not None and self.body is not None:
            error = handler.exception()
            if isinstance(error, HttpProcessingError):
                self.body.set_exception(error)


class _Response(aiohttp.ClientResponse):
    """Turns off aiohttp's silent second sending of a GET: every sending has to pass the limiter and
    be counted.

    (A client middleware would do, for three times the cost.)
    """

    handler: ResponseHandler
    wire: _Wire

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.handler = handler = connection.protocol  # type: ignore[assignment]
        self.wire = getattr(handler, _WIRE)
        try:
            return await super().start(connection)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            died = _DiedError(_reason(error), idle=self.wire.reused)
        raise died


class _Request(aiohttp.ClientRequest):
    """Knows whether its connection was used before, and sends nothing on one that has spoken
    unasked.
    """

    # All headers are ours, merged by the session for this request alone: to take them as they are,
    # and add none but the host in the place that the pool keeps for it, makes a GET 4 % cheaper.

    def update_headers(self, headers: Any) -> None:
        self.headers = headers
        self.headers[HOST] = self.url.host_port_subcomponent or ""

    def update_auto_headers(self, skip_auto_headers: object) -> None:
        pass

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        handler: Any = conn.protocol
        wire = getattr(handler, _WIRE, None)
        if wire is not None:
            wire.reused = True
        else:
            wire = _Wire()
            setattr(handler, _WIRE, wire)  # lives and dies with the connection
            if (closed := handler.closed) is not None:
                closed.add_done_callback(partial(wire.lost, ref(handler)))
        if handler.should_close:
            # aiohttp would take those bytes for the reply: another account's, or whatever a broken
            # proxy left there.
            raise _DiedError(
                "the server sent what nobody had asked for", idle=wire.reused, sent=False
            )
        return super().send(conn)


class _NoCookies(aiohttp.DummyCookieJar):
    """aiohttp's makes the empty cookies of each request anew: 1.6 % of a GET."""

    def __init__(self) -> None:
        super().__init__()
        self._none = super().filter_cookies(URL())

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        return self._none


class Pool:
    """One aiohttp connection pool, our own or one that the host application lends."""

    def __init__(
        self,
        borrowed: aiohttp.ClientSession | None,
        deadlines: Deadlines,
        *,
        loop: asyncio.AbstractEventLoop,
        headers: Mapping[str, str],
        proxy: str | None,
        ssl: SSLContext | None,
    ) -> None:
        if borrowed is not None and borrowed.closed:
            raise RuntimeError(_LENT_CLOSED)
        self._borrowed = borrowed
        self._deadlines = deadlines
        # limit=0: the limiter caps what is in flight. Waiting for a connection here would count as
        # talking.
        connector = borrowed.connector if borrowed is not None else aiohttp.TCPConnector(limit=0)
        try:
            self._client = aiohttp.ClientSession(
                connector=connector,
                connector_owner=borrowed is None,
                loop=loop,
                cookie_jar=_NoCookies(),
                headers={HOST: "", **headers},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                request_class=_Request,
                response_class=_Response,
                proxy=proxy,
            )
        except RuntimeError:
            raise RuntimeError(
                "the lent client_session belongs to another event loop: lend one of this loop"
            ) from None
        self._ssl = True if ssl is None else ssl

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer | BiliError:
        """Send once and read the reply, in `seconds` at most. What went wrong is returned, not
        raised.

        Raises only `CancelledError`, and `RuntimeError` if the pool that was lent has been closed.
        """
        response: Any = None  # a `_Response`, once there is one
        deadline = self._deadlines.after(seconds)
        try:
            with deadline:
                response = await self._client.request(
                    method, url, headers=headers, data=body, ssl=self._ssl, allow_redirects=False
                )
                content = response.content
                if (
                    content.is_eof()
                ):  # it has arrived with the headers, and the connection is back in the pool
                    return Answer(response.status, response.headers, content.read_nowait())
                return Answer(response.status, response.headers, await _read(response))
            failure: BiliError = RequestTimeout(f"no answer within {seconds:.3g} s")
        except asyncio.CancelledError:
            if response is not None:
                response.close()
            raise
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, only a BiliError goes on
            failure = _failure(error, response)
        if response is None:
            if self._borrowed is not None and self._borrowed.closed:
                raise RuntimeError(_LENT_CLOSED)
            return failure
        response.close()
        # Status comes before body in the order of judgement: a refusal stays one if its body
        # breaks.
        return failure if response.status == 200 else Answer(response.status, response.headers, b"")

    async def close(self) -> None:
        await self._client.close()


async def _read(response: _Response) -> bytes | None:
    """The body, in pieces, so that neither a long one nor a bomb takes more than `BODY_MAX` and a
    chunk.
    """
    chunks, size = [], 0
    if (response.content_length or 0) > BODY_MAX:
        response.close()
        return None
    content = response.wire.body = response.content
    try:
        while chunk := await content.readany():
            size += len(chunk)
            if size > BODY_MAX:
                response.close()
                return None
            chunks.append(chunk)
    finally:
        response.wire.body = None
    if isinstance(response.handler.exception(), OSError) and not _framed(response):
        # a reset is no orderly end, and only that says that a body is whole
        raise aiohttp.ClientPayloadError
    return b"".join(chunks)


def _framed(response: _Response) -> bool:
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def _failure(error: Exception, response: _Response | None) -> BiliError:
    """Our error for one of aiohttp's; takes nothing from it that could hold a header or a URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TransportError(
                f"{_place(error)}: its TLS certificate is not valid", sent=False, certificate=True
            )
        case aiohttp.ClientConnectorDNSError():
            return TransportError(f"{_place(error)}: the name can't be resolved", sent=False)
        case aiohttp.ClientConnectorSSLError():
            return TransportError(f"{_place(error)}: the TLS handshake failed", sent=False)
        case aiohttp.ClientConnectorError():
            return TransportError(f"{_place(error)}: {_reason(error.os_error)}", sent=False)
        case aiohttp.ClientHttpProxyError():
            return TransportError(f"the proxy refused with HTTP {error.status}", sent=False)
        case aiohttp.ClientResponseError():
            return ProtocolError("the answer is not HTTP")
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, ContentEncodingError):
            return ProtocolError(
                "the body is not in the encoding that Content-Encoding tells", status=200
            )
        case aiohttp.ClientPayloadError() | HttpProcessingError() if _unparsable(error, response):
            return ProtocolError("the body's chunks are broken", status=200)
        case aiohttp.ClientPayloadError():
            return TransportError("the connection ended inside the body")
        case _DiedError():
            return TransportError(str(error), sent=error.sent, idle=error.idle)
        case OSError() | aiohttp.ClientError():
            return TransportError(_reason(error))
        case _:
            return ProtocolError(f"the answer can't be read ({type(error).__name__})")


def _unparsable(error: Exception, response: _Response | None) -> bool:
    """Whether it was the parser that ended the talk, and not the connection."""
    if isinstance(error, HttpProcessingError):
        return True
    return response is not None and isinstance(response.handler.exception(), HttpProcessingError)


def _place(error: aiohttp.ClientConnectorError) -> str:
    return f"can't connect to {error.host}:{error.port}"


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    text = getattr(error, "strerror", None) or ""
    if text.startswith("[SSL"):
        return "the TLS connection broke"
    # The number's own text: aiohttp's may hold the URL.
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__
