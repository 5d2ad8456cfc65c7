"""The one override of aiohttp, `ClientResponse.start`, and the facts that only it can know.

aiohttp calls `start` in the same turn of the loop in which it has written a request, with the
connection. So three things are known there and nowhere else: that the request left, on which
connection, and if that one had spoken before it was asked.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet, ref

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from ..wire import Request

_LINE = "bili_account_async_line"
"""The attribute of aiohttp's protocol object under which its `Line` lives and dies."""


class ConnectionLost(Exception):
    """The loss of a connection that had spoken before it was asked."""


class Line:
    """One connection of the pool: the few facts about it that aiohttp does not keep."""

    __slots__ = ("__weakref__", "_handler", "body", "exchange", "host", "lines", "reused")

    lines: WeakSet[Line]
    """The lines of the pool that used it last: managers may share a lent pool."""

    def __init__(self, handler: ResponseHandler, host: str) -> None:
        self._handler = ref(handler)
        self.host = host
        self.exchange: Exchange | None = None  # the exchange under way on it, None while idle
        self.reused = False  # it has carried an earlier exchange
        self.body: aiohttp.StreamReader | None = None  # the body that is being read off it

    def error(self) -> BaseException | None:
        """Return what broke the connection, if something did."""
        handler = self._handler()
        return None if handler is None else handler.exception()

    def has_unsolicited_data(self) -> bool:
        """Return True if an idle connection has brought bytes that answer nothing."""
        handler = self._handler()
        return handler is not None and handler.should_close

    def close(self) -> None:
        """Close the connection; the pool will not hand it out again."""
        handler = self._handler()
        if handler is not None:
            handler.close()

    def closed(self, closing: asyncio.Future[None]) -> None:
        """Fail a reader whose body can't be parsed any further: aiohttp lets it wait for ever."""
        _ = closing.cancelled() or closing.exception()  # or the loop would log that nobody asked
        error = self.error()
        if self.body is not None and isinstance(error, HttpProcessingError):
            self.body.set_exception(error)


class Exchange:
    """One exchange of a request for a reply, and how far it came."""

    __slots__ = ("answered", "line", "lines", "request")

    def __init__(self, request: Request, lines: WeakSet[Line]) -> None:
        self.request = request
        self.lines = lines  # the pool's, where a new connection is noted
        self.line: Line | None = None  # set once the request has been written
        self.answered = False  # the head of the reply has come

    def written_on(self, handler: Any) -> None:
        """Note the connection; raise `ConnectionLost` for one that has spoken unasked."""
        line: Line | None = getattr(handler, _LINE, None)
        if line is None:
            line = Line(handler, self.request.host)
            setattr(handler, _LINE, line)
            self._note(line)
            if (closing := handler.closed) is not None:
                closing.add_done_callback(line.closed)
        else:
            line.reused = True
            if line.lines is not self.lines:
                self._note(line)
        self.line = line
        line.exchange = self
        if handler.should_close:
            # Nothing can have answered yet: these bytes are another account's reply, or whatever a
            # broken proxy left there, and aiohttp would take them for ours.
            raise ConnectionLost

    def _note(self, line: Line) -> None:
        line.lines = self.lines
        self.lines.add(line)

    def end(self) -> None:
        """Leave the connection, unless the next exchange has taken it already."""
        line = self.line
        if line is not None and line.exchange is self:
            line.exchange = None

    @property
    def stale(self) -> bool:
        """True while a connection that was used before has not answered."""
        return self.line is not None and self.line.reused and not self.answered


current: ContextVar[Exchange] = ContextVar("bili_account_async_exchange")
"""The exchange that the running task makes: how `Response.start` gets at it."""


class Response(aiohttp.ClientResponse):
    """aiohttp's response, which tells its exchange what it knows."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        exchange = current.get()
        exchange.written_on(connection.protocol)
        await super().start(connection)
        exchange.answered = True
        return self

    def __repr__(self) -> str:
        return f"<Response {self.status}>"  # aiohttp's shows the URL, with the query
