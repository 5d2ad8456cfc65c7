"""A reply as it came over the wire, and the reading of its body. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from ..wire import BODY_MAX
from .line import Line


class RawReply:
    """A whole reply; `body` is None if it is larger than `BODY_MAX`. Its repr shows none of it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body


async def read_reply(response: aiohttp.ClientResponse, line: Line | None) -> RawReply:
    """Read the body in pieces, so that neither a long one nor a bomb takes more than `BODY_MAX`.

    `line` is None for a reply that came over no connection: a mock's.
    """
    content = response.content
    if (response.content_length or 0) > BODY_MAX:
        return RawReply(response.status, response.headers, None)
    chunks: list[bytes] = []
    size = 0
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
    if line is not None and isinstance(line.error(), OSError) and not _framed(response):
        raise aiohttp.ClientPayloadError  # without a length, only an orderly end says "whole"
    return RawReply(response.status, response.headers, b"".join(chunks))


def _framed(response: aiohttp.ClientResponse) -> bool:
    """Return True if the reply itself says where its body ends."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
