"""Faults on demand: the ways in which an answer can be late, wrong, broken or missing.

A fault is a value: what it does to an `Answer` stands here, to which requests it happens is the
server's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from .endpoints import Json, refusal

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"
_HTML = "<!DOCTYPE html><html><head><title>出错啦</title></head><body>啊叻？</body></html>".encode()


@attrs.frozen
class Answer:
    """An HTTP answer before it goes out."""

    body: bytes
    status: int = 200
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, payload: Json) -> Answer:
        return cls(json.dumps(payload, ensure_ascii=False).encode())

    @classmethod
    def html(cls, status: int, **headers: str) -> Answer:
        return cls(_HTML, status, HTML_TYPE, tuple(headers.items()))

    def changed(self, change: Callable[[Json], object]) -> Answer:
        """Return this answer with another JSON payload; a page for people stays as it is."""
        if self.content_type != JSON_TYPE:
            return self
        payload = json.dumps(change(json.loads(self.body)), ensure_ascii=False)
        return attrs.evolve(self, body=payload.encode())


@attrs.frozen
class Fault:
    """Something that goes wrong with a request; the class methods make one of each kind.

    `status` and `code` refuse the request. With all others the server carries it out first: a sign
    whose answer was lost has been changed all the same.
    """

    name: str
    delay: float = attrs.field(default=0.0, repr=False)
    instead: Answer | None = attrs.field(default=None, repr=False)
    spoil: Callable[[Answer], Answer] | None = attrs.field(default=None, repr=False)
    ending: Literal["whole", "truncated", "reset"] = attrs.field(default="whole", repr=False)

    @classmethod
    def latency(cls, seconds: float) -> Fault:
        """Make the answer come late, by so many seconds."""
        return cls(f"latency {seconds} s", delay=seconds)

    @classmethod
    def hang(cls) -> Fault:
        """Make the answer never come."""
        return cls("hang", delay=math.inf)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection (RST) before the answer."""
        return cls("reset", ending="reset")

    @classmethod
    def truncated(cls) -> Fault:
        """End the connection in the middle of the body that Content-Length announced."""
        return cls("truncated", ending="truncated")

    @classmethod
    def status(
        cls,
        status: int,
        *,
        retry_after: float | str | None = None,
        body: bytes = _HTML,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer with another HTTP status than 200, and an HTML page unless you give a body."""
        extra = dict(headers or {})
        if retry_after is not None:
            extra["Retry-After"] = str(retry_after)
        answer = Answer(body, status, HTML_TYPE, tuple(extra.items()))
        return cls(f"status {status}", instead=answer)

    @classmethod
    def code(cls, code: int, message: str | None = None) -> Fault:
        """Refuse with this code of the API, under HTTP 200.

        The message is the API's own unless you give one.
        """
        return cls(f"code {code}", instead=Answer.json(refusal(code, message)))

    @classmethod
    def body(cls, body: bytes, content_type: str = JSON_TYPE) -> Fault:
        """Put these bytes in place of the reply."""
        answer = Answer(body, content_type=content_type)
        return cls(f"body of {len(body)} bytes", spoil=lambda _: answer)

    @classmethod
    def empty(cls) -> Fault:
        """Put nothing in place of the reply: HTTP 200 with an empty body."""
        return cls.body(b"")

    @classmethod
    def html(cls) -> Fault:
        """Put a page for people in place of the reply, under HTTP 200."""
        return cls.body(_HTML, HTML_TYPE)

    @classmethod
    def two_documents(cls, code: int = -509) -> Fault:
        """Put an error envelope right before the reply: seen in the wild."""
        first = Answer.json(refusal(code)).body

        def both(answer: Answer) -> Answer:
            return attrs.evolve(answer, body=first + answer.body)

        return cls(f"two documents, {code} first", spoil=both)

    @classmethod
    def payload(cls, change: Callable[[Json], object]) -> Fault:
        """Replace the reply's whole JSON with the value that `change` returns for it."""
        return cls("payload changed", spoil=lambda answer: answer.changed(change))

    @classmethod
    def data(cls, change: Callable[[Json], object]) -> Fault:
        """Replace the reply's `data` with the value that `change` returns for it.

        A reply without data stays as it is.
        """

        def within(payload: Json) -> Json:
            data = payload.get("data")
            return payload | {"data": change(data)} if isinstance(data, dict) else payload

        return cls("data changed", spoil=lambda answer: answer.changed(within))

    @classmethod
    def set_cookie(cls, *lines: str) -> Fault:
        """Add cookies to the answer, one `Set-Cookie` header a line."""
        extra = tuple(("Set-Cookie", line) for line in lines)

        def with_cookies(answer: Answer) -> Answer:
            return attrs.evolve(answer, headers=answer.headers + extra)

        return cls("set-cookie", spoil=with_cookies)
