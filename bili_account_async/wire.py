"""All that knows how the API looks on the wire, as pure functions: no I/O, no clock, no aiohttp.

Outward: endpoint + credential → URL, headers, body. Inward: status + headers + bytes → what the
caller gets, or the error, in the order of judgement below. Errors are *returned*, not raised, so
that no frame of a traceback holds a header or a body; `call.py` raises them.

The facts about the API come from its document (the member centre's nine endpoints) and its errata.
Every reply is an envelope `{"code": 0, "message": "0", "ttl": 1, "data": …}`. Of these only `code`
can be relied on: security info sends no message and no ttl, coin exp no ttl and no data (its
`number` stands at the root), and on success `message` is "0", "OK" or null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import orjson
from multidict import istr
from yarl import URL

from .codes import meaning_of
from .credential import Credential
from .endpoints import Endpoint
from .errors import BiliError, ProtocolError, RateLimited, SchemaError
from .structuring import Reader, describe_value

T = TypeVar("T")

BODY_MAX = 1 << 20
"""Bytes that a reply may have, after decompression."""
DAY = 86400.0
"""Seconds; the longest wait that a server may ask for. Beyond it a header is a mistake."""

_LIMIT_STATUSES = (412, 429)
"""HTTP statuses that ask to slow down: 412 is Bilibili's firewall, 429 the standard's."""
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_COOKIE = istr("Cookie")  # as a header's name, it is looked up without being folded first
_SURROGATE = re.compile("[\ud800-\udfff]")
"""A half of a pair, which a text may hold in Python, and which UTF-8 can't encode."""
_ENVELOPE = frozenset({"code", "message", "ttl"})
"""Names at the root that are documented there, and so are no unknown fields."""


# --- outward --------------------------------------------------------------------------------------


def common_headers(user_agent: str) -> dict[str, str]:
    """Return the headers of every request, whoever asks.

    Most replies are some hundred bytes: compressing them would only cost time, on both sides. The
    names are `istr`, which multidict need not fold for each request.
    """
    return {
        istr("Accept"): "application/json",
        istr("Accept-Encoding"): "identity",
        istr("User-Agent"): user_agent,
    }


def account_headers(credential: Credential) -> dict[str, str]:
    """Return the further headers of every request of one account: its Cookie.

    An app token has none: it travels with the query or the form. The cookie is written here and
    never by a cookie jar, so that no account can be asked with another's.
    """
    if not credential.sessdata:
        return {}
    cookies = {
        "SESSDATA": credential.sessdata,
        "DedeUserID": credential.dede_user_id,
        "bili_jct": credential.bili_jct,
    }
    parts = [f"{name}={value}" for name, value in cookies.items() if value is not None]
    return {_COOKIE: "; ".join(parts)}


def checked_fields(place: str, fields: Mapping[str, str | int]) -> dict[str, str]:
    """Return a copy of the caller's fields as texts; the caller's may change while the call waits.

    Raises `TypeError` for what is no mapping, and `ValueError` for a value that can't be sent as it
    is meant: neither a text nor a whole number, or not encodable. The message names `place` and the
    field, and shows no value.
    """
    if not isinstance(fields, Mapping):
        raise TypeError(f"{place}: expected a mapping, got {type(fields).__name__}")
    checked: dict[str, str] = {}
    for name, value in fields.items():
        if not isinstance(name, str):
            kind = type(name).__name__
            raise ValueError(f"{place}: expected names that are str, got {kind} {name!r}")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            kind = type(value).__name__
            raise ValueError(f"{place}: {name!r}: expected str or int, got {kind}")
        if isinstance(value, int) and value.bit_length() > 64:
            raise ValueError(f"{place}: {name!r}: expected an int of at most 64 bits")
        # The plain value, where a subclass (an enum's member) may spell itself otherwise.
        text = str.__str__(value) if isinstance(value, str) else int.__repr__(value)
        if _SURROGATE.search(name) or _SURROGATE.search(text):
            raise ValueError(f"{place}: {name!r} holds a lone surrogate, which can't be encoded")
        checked[str.__str__(name)] = text
    return checked


def request_query(
    endpoint: Endpoint[Any], credential: Credential, params: Mapping[str, str]
) -> str:
    """Return the encoded query, without `?`.

    A GET carries the app token as `access_key`, after the caller's own fields. A space is encoded
    as `%20`, not as `+`, which only forms may hold.
    """
    query = dict(params)
    if credential.access_key and endpoint.method == "GET":
        query["access_key"] = credential.access_key
    return urlencode(query, quote_via=quote)


def request_form(endpoint: Endpoint[Any], credential: Credential, form: Mapping[str, str]) -> bytes:
    """Return the encoded body of a POST.

    The login is proven in the form: by `access_key` with an app token, by `csrf`, which repeats
    the cookie `bili_jct`, with a cookie (sign update). An app sends no `csrf`.
    """
    fields = dict(form)
    if credential.access_key:
        fields["access_key"] = credential.access_key
    elif credential.bili_jct and "bili_jct" in endpoint.auth.cookie:
        fields["csrf"] = credential.bili_jct
    return urlencode(fields).encode()


FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}


class Request:
    """One request, ready to be sent. It holds secrets, and its repr shows none of them."""

    __slots__ = ("body", "endpoint", "headers", "host", "method", "url")

    def __init__(
        self,
        endpoint: Endpoint[Any],
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> None:
        self.endpoint = endpoint.name  # for errors, which tell it
        self.method = endpoint.method
        self.url = url  # with the query, so maybe with an access_key
        self.host = url.raw_authority  # host and port, as connections are counted
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Request {self.endpoint}>"


def build_request(
    endpoint: Endpoint[Any],
    url: URL,
    headers: dict[str, str],
    credential: Credential,
    params: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
) -> Request:
    """Return the request that asks `endpoint`, at `url`, for the account with these headers.

    It is built once for a call: all attempts send the same. A GET without params, as all eight of
    ours are with a cookie, takes the URL and the headers as they are.
    """
    if params or credential.access_key:
        query = request_query(endpoint, credential, params or {})
        url = URL(f"{url}?{query}", encoded=True) if query else url
    if endpoint.method == "GET":
        return Request(endpoint, url, headers)
    body = request_form(endpoint, credential, form or {})
    return Request(endpoint, url, headers | FORM_TYPE, body)


# --- inward ---------------------------------------------------------------------------------------


class Decoder(Generic[T]):
    """The reader of an endpoint's replies, built once and not per call.

    `Endpoint.result` names the steps from the root to the payload: `("data",)` for most,
    `("number",)` for coin exp, `("data", "status")` for real-name status, none for sign update.
    Raises `TypeError`, with the names of endpoint and field, for a type that JSON can't give.
    """

    __slots__ = ("endpoint", "reader")

    def __init__(self, endpoint: Endpoint[T]) -> None:
        self.endpoint = endpoint
        try:
            self.reader = Reader(endpoint.returns)
        except TypeError as error:
            raise TypeError(f"{endpoint.name}: {error}") from None

    def decode(
        self, envelope: dict[str, Any], redact: Callable[[str], str] = str
    ) -> tuple[T, object, tuple[str, ...]] | SchemaError:
        """Return record, payload and unknown fields (as paths) of a successful envelope.

        `redact` takes the account's secrets out of the names of unknown fields: a server that
        echoes a request may put one there. A payload that is missing or misshapen is returned as
        a `SchemaError`.
        """
        steps, payload = self.endpoint.result, envelope
        try:
            for step in steps:
                payload = payload[step]
        except (KeyError, TypeError, IndexError):
            return self._misplaced(envelope)
        if not steps and self.endpoint.returns is NoneType:
            # The endpoint has no payload, whatever else the envelope holds.
            payload = None  # type: ignore[assignment]
        record = self.reader.read(payload, steps, self.endpoint.name)
        if isinstance(record, SchemaError):
            return record
        unknown = self.reader.unknown(payload, redact)
        if unknown:
            root = "".join(f"{step}." for step in steps)
            unknown = tuple(root + name for name in unknown if root or name not in _ENVELOPE)
        return record, payload, unknown

    def _misplaced(self, envelope: dict[str, Any]) -> SchemaError:
        """Return the error for the first step towards the payload that leads nowhere.

        `decode` walks without looking, as most replies are right; this one walks again, slowly.
        """
        payload: Any = envelope
        steps, name = self.endpoint.result, self.endpoint.name
        for depth, step in enumerate(steps):
            if payload.__class__ is not dict:
                path, got = ".".join(steps[:depth]), describe_value(payload)
                return SchemaError(
                    path=path, expected="an object", got=got, payload=payload, endpoint=name
                )
            if step not in payload:
                break
            payload = payload[step]
        path, expected = ".".join(steps[: depth + 1]), self.reader.expected
        return SchemaError(path=path, expected=expected, got="nothing", endpoint=name)


def judge(
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    endpoint: str,
    wall: Callable[[], float],
    redact: Callable[[str], str],
) -> dict[str, Any] | BiliError:
    """Return the envelope of a reply that says code 0, else the error.

    The order of judgement is the contract's: HTTP status, JSON envelope, code. `body` is None if it
    was larger than `BODY_MAX`; `wall` gives seconds since 1970, for a `Retry-After` date; `redact`
    takes this account's secrets out of whatever the server echoes.
    """
    if status != 200:
        return _judge_status(status, headers, body, endpoint=endpoint, wall=wall, redact=redact)
    if body is None:
        facts = _facts(status, headers, body, redact)
        return ProtocolError(f"too large: {facts}", status=status, endpoint=endpoint)
    envelope = _envelope(body)
    if envelope is None:
        facts = _facts(status, headers, body, redact)
        return ProtocolError(f"not a JSON envelope: {facts}", status=status, endpoint=endpoint)
    code = envelope["code"]
    if code == 0:
        return envelope
    message = _message(envelope, redact)
    meaning = meaning_of(code)
    if meaning.scope is None:
        return meaning.error(message, code=code, endpoint=endpoint)
    return RateLimited(
        scope=meaning.scope,
        status=status,
        code=code,
        message=message,
        retry_after=retry_after(headers.get("Retry-After"), wall()),
        endpoint=endpoint,
    )


def _judge_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    endpoint: str,
    wall: Callable[[], float],
    redact: Callable[[str], str],
) -> BiliError:
    """Return the error of a reply whose HTTP status is not 200."""
    wait = retry_after(headers.get("Retry-After"), wall())
    if status in _LIMIT_STATUSES:
        envelope = _envelope(body or b"") or {"code": None}
        return RateLimited(
            scope="host",
            status=status,
            code=envelope["code"],
            message=_message(envelope, redact),
            retry_after=wait,
            endpoint=endpoint,
        )
    kind = "a redirect, which is never followed" if 300 <= status < 400 else "an HTTP error"
    text = f"{kind}: {_facts(status, headers, body, redact)}"
    return ProtocolError(text, status=status, retry_after=wait, endpoint=endpoint)


def _facts(
    status: int, headers: Mapping[str, str], body: bytes | None, redact: Callable[[str], str]
) -> str:
    """Return the few facts by which a person recognises an answer that is none of the API's.

    No byte of the body is among them: it may be a page that shows the request, login and all.
    """
    content_type = redact(headers.get("Content-Type", "none"))[:100]
    size = f"more than {BODY_MAX}" if body is None else len(body)
    return f"HTTP {status}, content type {content_type!r}, {size} bytes"


def _envelope(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `body` if its `code` is an int (and no bool), else None."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _first_of_several(body)
    if value.__class__ is dict and value.get("code").__class__ is int:
        return value
    return None


def _first_of_several(body: bytes) -> object:
    """Return the first of several JSON documents in one body if it is an error envelope.

    Seen in the wild: `{"code":-509}{"code":0,…}`, where a limiter in front of the API answered and
    then the API did. The refusal is what counts. None for everything else, a success before
    something else included, since nobody knows which of two documents is the reply.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        text = body.decode()
        _, end = decoder.raw_decode(text)
        decoder.raw_decode(text, len(text) - len(text[end:].lstrip(" \t\r\n")))
        first = orjson.loads(text[:end])  # once more, by the parser that judges every other body
    except (ValueError, RecursionError):
        return None
    return first if isinstance(first, dict) and first.get("code") != 0 else None


def _refuse_constant(name: str) -> float:
    """Raise `ValueError` for NaN and Infinity, which Python's parser takes and JSON has not."""
    raise ValueError(name)


def _message(envelope: Mapping[str, Any], redact: Callable[[str], str]) -> str:
    """Return the server's own words, at most 500 characters; empty for none (absent or null)."""
    message = envelope.get("message")
    if not isinstance(message, str):
        return ""
    # Redacted before it is cut, or half a secret could stay; on one line, and without control
    # characters and those that turn the text around, or it could forge a log line or steer a
    # terminal.
    shown = _BLANKS.sub(" ", redact(message)).strip()[:500]
    return "".join(c if c.isprintable() else "?" for c in shown)


def retry_after(value: str | None, wall_time: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait, at most a day.

    The header holds seconds or a date (RFC 9110), which `wall_time`, in seconds since 1970, is
    taken from; a date without a zone is read as UTC. None for no header, for one that can't be
    read, and for a date in the past.
    """
    if value is None:
        return None
    try:
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", value, re.ASCII):
            seconds = float(value)
        else:
            date = parsedate_to_datetime(value)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_time
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(seconds, DAY) if seconds >= 0 and not math.isnan(seconds) else None
