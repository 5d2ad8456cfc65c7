"""All that knows aiohttp: one pool for all accounts, one exchange of a request for a reply.

Here errors of aiohttp end: they hold request headers in their repr and chain, so they are told apart, turned into
`BiliError`s that are returned, and dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ssl import SSLContext
from typing import Any

import aiohttp
import attrs
from aiohttp.http_exceptions import ContentEncodingError, TransferEncodingError
from yarl import URL

from ._deadlines import Deadlines
from .errors import BiliError, ProtocolError, RequestTimeout, TransportError
from .wire import BODY_MAX


@attrs.define(eq=False)  # not frozen: setting three attributes directly is a µs less a call
class Answer:
    """A whole reply."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(repr=False)
    """None if it is larger than `BODY_MAX`."""


class _DiedError(Exception):
    """Carries a connection's death past aiohttp, which would send a GET again by itself: see `_no_resend`."""


async def _no_resend(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Turns off aiohttp's silent second sending of a GET: every sending has to pass the limiter and be counted."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        died = _DiedError(_reason(error))
    raise died


class Pool:
    """One aiohttp connection pool, our own or one that the host application lends."""

    def __init__(
        self,
        borrowed: aiohttp.ClientSession | None,
        deadlines: Deadlines,
        *,
        headers: Mapping[str, str],
        proxy: str | None,
        ssl: SSLContext | None,
    ) -> None:
        self._deadlines = deadlines
        # limit=0: the limiter caps what is in flight. Waiting for a connection here would count as talking.
        connector = borrowed.connector if borrowed is not None else aiohttp.TCPConnector(limit=0)
        self._client = aiohttp.ClientSession(
            connector=connector,
            connector_owner=borrowed is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            middlewares=(_no_resend,),
            proxy=proxy,
        )
        self._options: dict[str, Any] = {"allow_redirects": False}
        if ssl is not None:
            self._options["ssl"] = ssl

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer | BiliError:
        """Send once and read the reply, in `seconds` at most. Raises only `CancelledError`."""
        response: aiohttp.ClientResponse | None = None
        deadline = self._deadlines.after(seconds)
        try:
            with deadline:
                response = await self._client.request(method, url, headers=headers, data=body, **self._options)
                content = response.content
                if content.is_eof():  # it has arrived with the headers, and the connection is back in the pool
                    return Answer(response.status, response.headers, content.read_nowait())
                return Answer(response.status, response.headers, await _read(response))
            failure: BiliError = RequestTimeout(f"no answer within {seconds:.3g} s")
        except asyncio.CancelledError:
            if response is not None:
                response.close()
            raise
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, only a BiliError goes on
            failure = _failure(error)
        if response is None:
            return failure
        response.close()
        # Status comes before body in the order of judgement: a refusal stays one if its body breaks.
        return failure if response.status == 200 else Answer(response.status, response.headers, b"")

    async def close(self) -> None:
        await self._client.close()


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, in pieces, so that neither a long one nor a bomb takes more than `BODY_MAX` and a chunk."""
    chunks, size = [], 0
    if (response.content_length or 0) > BODY_MAX:
        response.close()
        return None
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > BODY_MAX:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _failure(error: Exception) -> BiliError:
    """Our error for one of aiohttp's; takes nothing from it that could hold a header or a URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TransportError(f"{_place(error)}: its TLS certificate is not valid", sent=False, certificate=True)
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
            return ProtocolError("the body is not in the encoding that Content-Encoding tells", status=200)
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, TransferEncodingError):
            return ProtocolError("the body's chunks are broken", status=200)
        case aiohttp.ClientPayloadError():
            return TransportError("the connection ended inside the body")
        case _DiedError():
            return TransportError(str(error))
        case OSError() | aiohttp.ClientError():
            return TransportError(_reason(error))
        case _:
            return ProtocolError(f"the answer can't be read ({type(error).__name__})")


def _place(error: aiohttp.ClientConnectorError) -> str:
    return f"can't connect to {error.host}:{error.port}"


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
