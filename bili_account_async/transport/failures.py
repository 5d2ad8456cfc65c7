"""The failures of an exchange as errors of ours, told apart by the class of aiohttp's.

Nothing is taken from aiohttp's error that could hold a header or a URL: its text and its repr do
(a `ClientResponseError` shows the whole request). Host, port and the operating system's error
number are safe, and they are all that a person needs to find the fault.

Two questions decide what happens next, and both are answered here: has a byte of the request left
(`sent`, so that a POST is never made twice), and can trying again help (`certificate`, `stale`).
"""

from __future__ import annotations

import os
from functools import partial

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from ..errors import BiliError, ProtocolError, RequestTimeout, TransportError
from .line import ConnectionLost, Exchange, Line

_CONNECTING = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)
"""Errors of the time before a request is written."""


def failure(error: Exception, exchange: Exchange, *, tunnel: bool) -> BiliError:
    """Return our error for one of aiohttp's.

    `tunnel` says that the request goes through a proxy's tunnel, which is dug before it is sent.
    The cases stand from the particular class to the general one, since many of aiohttp's errors
    are subclasses of one another and of `OSError`.
    """
    line, endpoint = exchange.line, exchange.request.endpoint
    # Without a line nothing was written, unless the class of the error leaves that open: then the
    # request counts as sent, which costs a retry at most and never doubles a POST.
    sent = line is not None or not (tunnel or isinstance(error, _CONNECTING))
    lost = partial(TransportError, sent=sent, stale=exchange.stale, endpoint=endpoint)
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
        case ConnectionLost():
            return lost("the server sent what nobody had asked for")
        case TimeoutError():
            return RequestTimeout("the operation timed out", sent=sent, endpoint=endpoint)
        case OSError() | aiohttp.ClientError():
            return lost(_reason(error))
        case _:
            return refused(f"the answer can't be read ({type(error).__name__})")


def forget_frames(error: BaseException | None) -> None:
    """Take the tracebacks off an error and those that led to it.

    aiohttp's connection keeps the error, and its traceback keeps our frames: a cycle.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _unparsable(error: Exception, line: Line | None) -> bool:
    """Return True if the parser ended the talk, and not the connection."""
    if isinstance(error, HttpProcessingError):
        return True
    return line is not None and isinstance(line.error(), HttpProcessingError)


def _place(error: aiohttp.ClientConnectorError) -> str:
    """Return where no connection came about."""
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
