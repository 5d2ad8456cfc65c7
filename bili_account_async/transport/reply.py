"""A reply as it came over the wire, and the reading of its body.

Nothing is judged here: `wire.judge` decides if the bytes mean anything. Only a body that is too
large, or that the connection cut short, is noticed on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from ..wire import BODY_MAX
from .line import Line


class RawReply:
    """A whole reply. Its repr shows none of it, for a reply is the account's own data."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body  # decompressed; None if it is larger than `BODY_MAX`


async def read_reply(response: aiohttp.ClientResponse, line: Line | None) -> RawReply:
    """Read the body in pieces, so that neither a long one nor a bomb takes more than `BODY_MAX`.

    `line` is None for a reply that came over no connection: a mock's. Raises what aiohttp raises
    for a connection that ended inside the body, which `failures.py` turns into an error of ours.
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
