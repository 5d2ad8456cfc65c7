"""The faults of the wire, as a table: what the server sends in place of a good reply, and what has
to come of it.

Only data; what a row is put through stands in `test_faults.py`. A step of a script may be a
function of the endpoint's good body. No outcome means the right record, as if nothing was wrong.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable

import attrs
from faults import CLOSE, HANG, RESET, Drip, End, Pause, Script, Step, chunked, reply

from bili_account_async import (
    ApiError,
    BiliError,
    CsrfRejected,
    EmojiSign,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    RiskControlled,
    SensitiveSign,
    SignTooLong,
    TransportError,
)

Outcome = type[BiliError] | None
StepOf = Step | Callable[[bytes], Step]


@attrs.frozen
class Row:
    """One fault."""

    name: str
    outcome: Outcome
    steps: tuple[StepOf, ...]
    retried: bool
    """True if a GET is sent again."""
    told: dict[str, object]
    """Attributes of the error."""

    def script(self, good: bytes) -> Script:
        return [step(good) if callable(step) else step for step in self.steps]

    @property
    def ends_connection(self) -> bool:
        return self.steps[-1] in (CLOSE, RESET)


ROWS: list[Row] = []


def row(
    name: str, outcome: Outcome, *steps: StepOf, retried: bool | None = None, **told: object
) -> None:
    if retried is None:
        retried = outcome in (TransportError, RequestTimeout)
    ROWS.append(Row(name, outcome, steps, retried, told))


def body(
    name: str, outcome: Outcome, sent: bytes | Callable[[bytes], bytes], **told: object
) -> None:
    """A row whose reply is whole and whose body is not what it should be."""
    row(
        f"body: {name}", outcome, lambda good: reply(sent(good) if callable(sent) else sent), **told
    )


JSON = "Content-Type: application/json; charset=utf-8"
HTML = "Content-Type: text/html"
CHUNKED = (JSON, "Transfer-Encoding: chunked")
SOON = Pause(0.01)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(good: bytes) -> bytes:
    return reply(good)[: -len(good)]


def in_chunks(data: bytes) -> bytes:
    """A reply that says that its body comes in chunks, and this after it."""
    return reply(data, headers=CHUNKED, length=None)


def one_chunk(good: bytes, size: int | None = None, *, extension: bytes = b"") -> bytes:
    return in_chunks(
        b"%x%b\r\n%b\r\n0\r\n\r\n" % (len(good) if size is None else size, extension, good)
    )


def with_headers(*headers: str) -> Callable[[bytes], bytes]:
    return lambda good: reply(good, headers=headers)


def encoded(data: bytes, encoding: str, length: int = -1) -> bytes:
    return reply(data, headers=(JSON, f"Content-Encoding: {encoding}"), length=length)


# --- the connection ends or falls silent, at each point of the exchange ---------------------------


def ending(how: str, end: End, outcome: Outcome) -> None:
    started = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    row(f"{how} after the request", outcome, end)
    row(f"{how} after an empty line", outcome, b"\r\n", SOON, end)
    row(f"{how} inside the status line", outcome, b"HTTP/1.1 20", SOON, end)
    row(f"{how} after the status line", outcome, b"HTTP/1.1 200 OK\r\n", SOON, end)
    row(f"{how} inside a header's name", outcome, started + b"Content-Le", SOON, end)
    row(f"{how} inside a header's value", outcome, started + b"Content-Length: 1", SOON, end)
    row(
        f"{how} before the headers' last line",
        outcome,
        started + b"Content-Length: 100\r\n",
        SOON,
        end,
    )
    row(f"{how} between headers and body", outcome, head, SOON, end)
    row(f"{how} inside the body", outcome, lambda good: reply(good)[:-7], SOON, end)
    row(f"{how} before the body's last byte", outcome, lambda good: reply(good)[:-1], SOON, end)
    row(f"{how} before the first chunk", outcome, in_chunks(b""), SOON, end)
    row(f"{how} inside a chunk's size", outcome, in_chunks(b"1"), SOON, end)
    row(f"{how} inside a chunk", outcome, lambda good: one_chunk(good)[:-14], SOON, end)
    row(f"{how} after a chunk", outcome, lambda good: in_chunks(chunked(good, end=b"")), SOON, end)
    row(
        f"{how} before the chunks' last line", outcome, lambda good: one_chunk(good)[:-2], SOON, end
    )
    row(f"{how} after 100 Continue", outcome, CONTINUE, SOON, end)
    row(
        f"{how} inside gzip",
        outcome,
        lambda good: encoded(gzip.compress(good), "gzip")[:-9],
        SOON,
        end,
    )
    if end is not HANG:
        row(f"{how} right after the reply", None, reply, end)
        row(f"{how} soon after the reply", None, reply, SOON, end)


ending("closed", CLOSE, TransportError)
ending("reset", RESET, TransportError)
ending("silent", HANG, RequestTimeout)
row(
    "reset inside a body without a length",
    TransportError,
    lambda good: reply(good[:-9], length=None),
    SOON,
    RESET,
)
row(
    "silent after a body without a length",
    RequestTimeout,
    lambda good: reply(good, length=None),
    HANG,
)
row("a drip of headers", RequestTimeout, lambda good: Drip(reply(good)))
row("a drip of body", RequestTimeout, head, lambda good: Drip(good, piece=3, every=0.2))
row("a drip of chunks", RequestTimeout, in_chunks(b""), *(b"1\r\n \r\n", Pause(0.02)) * 99)
row("a drip of a chunk's extension", RequestTimeout, in_chunks(b"1;"), Drip(b"x" * 99))
row(
    "a drip of header lines without end",
    RequestTimeout,
    b"HTTP/1.1 200 OK\r\n",
    *(b"X: y\r\n", Pause(0.02)) * 99,
)
row("100 Continue without end", RequestTimeout, *(CONTINUE, Pause(0.02)) * 99)

# --- the length of the body -----------------------------------------------------------------------


def strange_length(length: str) -> None:
    def sent(good: bytes) -> bytes:
        return reply(good, length=None).replace(
            b"\r\n", f"\r\nContent-Length: {length}\r\n".encode(), 1
        )

    shown = length if len(length) < 22 else "10^30"
    row(f"Content-Length {shown!a}", ProtocolError, sent, CLOSE)


for length in (
    "-1",
    "+5",
    "0x10",
    "1e3",
    "ten",
    "5 5",
    "5,5",
    "9" * 19,
    "1" + "0" * 30,
    str(1 << 64),
    "٣",
):
    strange_length(length)
strange_length("")
strange_length(str((1 << 64) - 1))
row(
    "Content-Length one too short",
    ProtocolError,
    lambda good: reply(good, length=len(good) - 1),
    CLOSE,
)
row(
    "Content-Length one too long, then closed",
    TransportError,
    lambda good: reply(good, length=len(good) + 1),
    CLOSE,
)
row(
    "Content-Length one too long, then silent",
    RequestTimeout,
    lambda good: reply(good, length=len(good) + 1),
    HANG,
)
row("Content-Length 0 before a body", ProtocolError, lambda good: reply(good, length=0))
row("Content-Length just over the cap", ProtocolError, reply(b"", length=(1 << 20) + 1), status=200)
row("Content-Length of a terabyte", ProtocolError, reply(b"{", length=1 << 40), status=200)
row(
    "two Content-Lengths",
    ProtocolError,
    lambda good: reply(good, headers=(JSON, f"Content-Length: {len(good) - 2}")),
)
row("Content-Length and chunks", ProtocolError, lambda good: reply(chunked(good), headers=CHUNKED))
row("no length, until the connection ends", None, lambda good: reply(good, length=None), CLOSE)
row("no length, cut off", ProtocolError, lambda good: reply(good[:-9], length=None), CLOSE)
row("a megabyte, mostly spaces", None, lambda good: reply(good.rjust(1 << 20)))
row(
    "a megabyte and a byte",
    ProtocolError,
    lambda good: reply(good.rjust((1 << 20) + 1)),
    status=200,
)
row(
    "two megabytes without a length",
    ProtocolError,
    reply(b" " * (2 << 20), length=None),
    CLOSE,
    status=200,
)
row("two megabytes in chunks", ProtocolError, in_chunks(chunked(*(b" " * 65536,) * 32)), status=200)

# --- chunks ---------------------------------------------------------------------------------------

row("one chunk", None, one_chunk)
row("chunks of one byte", None, lambda good: in_chunks(chunked(*(bytes([byte]) for byte in good))))
row(
    "a chunk, and later another",
    None,
    lambda good: in_chunks(chunked(good[:9], end=b"")),
    SOON,
    lambda good: chunked(good[9:]),
)
row("a chunk with an extension", None, lambda good: one_chunk(good, extension=b';a=b;c="d"'))
row(
    "a chunk with an extension of 100 KB",
    None,
    lambda good: one_chunk(good, extension=b";" + b"x" * 100_000),
)
row("a chunk's size with zeros before it", None, lambda good: in_chunks(b"0000" + chunked(good)))
row(
    "trailers",
    None,
    lambda good: in_chunks(chunked(good, end=b"0\r\nX-Checksum: 1\r\nSet-Cookie: a=b\r\n\r\n")),
)
row(
    "Transfer-Encoding: Chunked",
    None,
    lambda good: reply(chunked(good), headers=("Transfer-Encoding: Chunked",), length=None),
)
row(
    "an unknown transfer encoding",
    None,
    lambda good: reply(good, headers=("Transfer-Encoding: lzma",), length=None),
    CLOSE,
)
row(
    "an unknown transfer encoding under chunks",
    ProtocolError,
    lambda good: reply(
        chunked(zlib.compress(good)), headers=("Transfer-Encoding: lzma, chunked",), length=None
    ),
    CLOSE,
)
BROKEN_CHUNKS = {
    "a chunk's size that is no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk's size that is negative": b"-5\r\n{}\r\n0\r\n\r\n",
    "a chunk's size that is empty": b"\r\n{}\r\n0\r\n\r\n",
    "a chunk's size of 2^80": b"1" + b"0" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": b"2\r\n{}}\r\n0\r\n\r\n",
    "a chunk without its line end": b"2\r\n{}0\r\n\r\n",
    "a trailer without a colon": b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "a trailer of 100 KB": b"2\r\n{}\r\n0\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
}
for name, broken in BROKEN_CHUNKS.items():
    row(name, ProtocolError, in_chunks(broken))
    row(f"{name}, after the headers", ProtocolError, in_chunks(b""), SOON, broken, HANG)
    row(
        f"{name}, after a chunk",
        ProtocolError,
        in_chunks(chunked(b" ", end=b"")),
        SOON,
        broken,
        HANG,
    )
row("chunks announced and none sent", ProtocolError, in_chunks)

# --- status line and headers ----------------------------------------------------------------------

row("HTTP/1.0", None, lambda good: reply(good, version="HTTP/1.0"), CLOSE)
row(
    "HTTP/1.0, kept alive",
    None,
    lambda good: reply(good, version="HTTP/1.0", headers=("Connection: keep-alive",)),
)
row(
    "HTTP/1.0 without a length",
    None,
    lambda good: reply(good, version="HTTP/1.0", length=None),
    CLOSE,
)
row("Connection: close", None, with_headers(JSON, "Connection: close"), CLOSE)
row("Connection: close, and it stays open", None, with_headers(JSON, "Connection: close"), HANG)
row("no reason phrase", None, lambda good: reply(good, status="200"))
row("an empty reason phrase", None, lambda good: reply(good, status="200 "))
row("a reason phrase in Chinese", None, lambda good: reply(good).replace(b"OK", "好".encode(), 1))
row(
    "lower-case header names",
    None,
    lambda good: head(good).lower().replace(b"http", b"HTTP") + good,
)
row("100 Continue before the reply", None, lambda good: CONTINUE + reply(good))
row("a hundred times 100 Continue before the reply", None, CONTINUE * 100, SOON, reply)
row(
    "102 and 103 before the reply",
    None,
    b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    reply,
)
row("empty lines before the reply", None, lambda good: b"\r\n\r\n" + reply(good))
row("a reply that comes byte by byte", None, lambda good: Drip(reply(good), every=0))
row("a hundred headers", None, with_headers(JSON, *(f"X-{i}: {i}" for i in range(100))))
row("a thousand headers", ProtocolError, with_headers(JSON, *(f"X-{i}: {i}" for i in range(1000))))
row("a header of 8 KB", None, with_headers(JSON, "X: " + "x" * 8000))
row("a header of 100 KB", ProtocolError, with_headers(JSON, "X: " + "x" * 100_000))
row("a header's name of 100 KB", ProtocolError, with_headers(JSON, "X" * 100_000 + ": x"))
row(
    "a reason phrase of 100 KB",
    ProtocolError,
    lambda good: reply(good, status="200 " + "x" * 100_000),
)
row("a header with NUL", ProtocolError, with_headers(JSON, "X: a\0b"))
row("a header without a colon", ProtocolError, with_headers(JSON, "nonsense"))
row("a header without a name", ProtocolError, with_headers(JSON, ": nonsense"))
row("a header's name with a space", ProtocolError, with_headers(JSON, "X Y: z"))
row("a header that is not ASCII", None, with_headers(JSON, "X: \xff\xfe"))
row("a status that is no number", ProtocolError, b"HTTP/1.1 OK\r\n\r\n")
row("a status of two digits", ProtocolError, b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n")
row("a status of four digits", ProtocolError, b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n")
row("HTTP/9.9", ProtocolError, lambda good: reply(good, version="HTTP/9.9"))
row("HTTP/2 in the status line", ProtocolError, lambda good: reply(good, version="HTTP/2"))
row(
    "HTTP/2 itself",
    ProtocolError,
    b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff",
)
row("a body without a head", ProtocolError, lambda good: good)
row("SSH", ProtocolError, b"SSH-2.0-OpenSSH_9.6\r\n")
row("a TLS alert", ProtocolError, b"\x15\x03\x01\x00\x02\x02\x46")
row("bytes at random", ProtocolError, bytes(range(255, -1, -1)) * 8)
row("a megabyte without a line end", ProtocolError, b"x" * (1 << 20))
row("a request in place of a reply", ProtocolError, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
row(
    "101 Switching Protocols",
    ProtocolError,
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
    b"Upgrade\r\n\r\n\x81\x00",
    status=101,
)

# --- bytes that nobody asked for, right behind a reply; later ones: see the idle connections' tests

row(
    "two replies in one piece",
    None,
    lambda good: reply(good) + reply(b'{"code":-101,"message":"another"}'),
)
row("garbage right behind the reply", ProtocolError, lambda good: reply(good) + b"garbage")
row("an empty line behind the reply", None, lambda good: reply(good) + b"\r\n")

# --- statuses -------------------------------------------------------------------------------------


def refused(status: str, *, retried: bool = False) -> None:
    row(
        f"status {status}",
        ProtocolError,
        lambda good: reply(good, status=status),
        status=int(status[:3]),
        retried=retried,
    )


for status in (
    "201 Created",
    "202 Accepted",
    "203 Other",
    "206 Partial Content",
    "299 Odd",
    "300 Multiple Choices",
):
    refused(status)
for number in (
    305,
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    407,
    408,
    409,
    410,
    411,
    413,
    414,
    415,
    416,
    417,
    418,
    421,
    422,
):
    refused(f"{number} No")
for number in (423, 424, 425, 426, 428, 431, 444, 451, 499, 600, 999):
    refused(f"{number} Odd")
for number in (500, 501, 502, 503, 504, 505, 511, 520, 599):
    refused(f"{number} Busy", retried=True)
for number in (204, 205, 304):
    row(
        f"status {number}",
        ProtocolError,
        reply(status=f"{number} Empty", length=None),
        CLOSE,
        status=number,
    )
    row(
        f"status {number} with a body",
        ProtocolError,
        lambda good, number=number: reply(good, status=f"{number} Empty"),
        CLOSE,
    )
row(
    "a 404 that is cut off",
    ProtocolError,
    reply(b"<html>", status="404 No", length=100),
    SOON,
    CLOSE,
    status=404,
)
row(
    "a 404 that falls silent",
    ProtocolError,
    reply(b"<html>", status="404 No", length=100),
    HANG,
    status=404,
)
row(
    "a 503 that is reset",
    ProtocolError,
    reply(b"<html>", status="503 Busy", length=100),
    SOON,
    RESET,
    status=503,
    retried=True,
)
row(
    "a 403 of a terabyte",
    ProtocolError,
    reply(b"<html>", status="403 No", length=1 << 40),
    status=403,
)
row(
    "a 502 in bad gzip",
    ProtocolError,
    reply(b"<html>", status="502 Busy", headers=("Content-Encoding: gzip",)),
    status=502,
    retried=True,
)
row(
    "a 502 in bad chunks",
    ProtocolError,
    reply(status="502 Busy", headers=CHUNKED, length=None),
    SOON,
    b"zz\r\n",
    status=502,
    retried=True,
)

# --- being told to slow down ----------------------------------------------------------------------


def slow_down(status: str) -> None:
    code = int(status[:3])
    cut = reply(b"<html>", status=status, length=100)
    row(
        f"{code} with a page",
        RateLimited,
        reply(b"<html>", status=status, headers=(HTML,)),
        status=code,
        scope="host",
        retry_after=None,
        code=None,
        message="",
    )
    row(
        f"{code} with nothing",
        RateLimited,
        reply(status=status),
        status=code,
        scope="host",
        retry_after=None,
    )
    row(
        f"{code} with an envelope",
        RateLimited,
        reply(b'{"code":-412,"message":"slow"}', status=status),
        status=code,
        scope="host",
        code=-412,
        message="slow",
    )
    row(
        f"{code} with an account's code",
        RateLimited,
        reply(b'{"code":-509}', status=status),
        status=code,
        scope="host",
        code=-509,
    )
    row(
        f"{code} with a good reply",
        RateLimited,
        lambda good: reply(good, status=status),
        status=code,
        code=0,
    )
    row(f"{code} that is cut off", RateLimited, cut, SOON, CLOSE, status=code)
    row(f"{code} that is reset", RateLimited, cut, SOON, RESET, status=code)
    row(f"{code} that falls silent", RateLimited, cut, HANG, status=code)
    row(f"{code} that drips", RateLimited, cut, Drip(b"x" * 94, every=0.05), status=code)
    row(
        f"{code} in bad gzip",
        RateLimited,
        reply(b"<html>", status=status, headers=("Content-Encoding: gzip",)),
        status=code,
    )
    row(
        f"{code} in bad chunks",
        RateLimited,
        reply(status=status, headers=CHUNKED, length=None),
        SOON,
        b"zz\r\n",
        status=code,
    )
    row(
        f"{code} of two megabytes", RateLimited, reply(b"x" * (2 << 20), status=status), status=code
    )
    row(
        f"{code} and Retry-After: 0",
        RateLimited,
        reply(status=status, headers=("Retry-After: 0",)),
        retry_after=0.0,
        retried=True,
    )


def wait(value: str, seconds: float | None) -> None:
    sent = reply(status="429 Slow").replace(b"\r\n", f"\r\nRetry-After: {value}\r\n".encode(), 1)
    row(
        f"429 and Retry-After: {value if len(value) < 40 else '9…'!a}",
        RateLimited,
        sent,
        status=429,
        retry_after=seconds,
    )


slow_down("412 Precondition Failed")
slow_down("429 Too Many Requests")
for value, seconds in (
    ("7", 7.0),
    (" 7 ", 7.0),
    ("1.5", 1.5),
    ("86400", 86400.0),
    ("86401", 86400.0),
    ("9" * 400, 86400.0),
):
    wait(value, seconds)
wait("Fri, 01 Jan 2100 00:00:00 GMT", 86400.0)
for value in (
    "",
    "soon",
    "-1",
    "1,5",
    "1e3",
    "0x10",
    "NaN",
    "inf",
    "٣",
    "Thu, 99 Foo 2026 00:00:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 01 Jan 99999 00:00:00 GMT",
):
    wait(value, None)
row(
    "429 and two Retry-Afters",
    RateLimited,
    reply(status="429 Slow", headers=("Retry-After: 5", "Retry-After: 9")),
    retry_after=5.0,
)
row(
    "503 and Retry-After: 0",
    ProtocolError,
    reply(status="503 Busy", headers=("Retry-After: 0",)),
    retry_after=0.0,
    retried=True,
)
row(
    "503 and Retry-After: 3600",
    ProtocolError,
    reply(status="503 Busy", headers=("Retry-After: 3600",)),
    retry_after=3600.0,
)

# --- redirects (that nobody goes there is another test) -------------------------------------------

for number in (301, 302, 303, 307, 308):
    for location in (
        "https://localhost:9/elsewhere",
        "/elsewhere",
        "",
        "http://[",
        "javascript:alert(1)",
    ):
        sent = reply(status=f"{number} Gone", headers=(f"Location: {location}",))
        row(f"{number} to {location!r}", ProtocolError, sent, status=number)
    row(f"{number} to nowhere", ProtocolError, reply(status=f"{number} Gone"), status=number)

# --- content types and encodings ------------------------------------------------------------------

for content_type in (
    "text/html",
    "text/plain; charset=gbk",
    "application/octet-stream",
    "image/png",
    "application/json; charset=zlib_codec",
    "application/json; charset=utf-16",
    'application/json; charset="',
    "nonsense",
    ";;;",
    "",
):
    row(f"content type {content_type!r}", None, with_headers(f"Content-Type: {content_type}"))
row("no content type", None, with_headers())
# aiohttp is strict about this in Python's development mode.
row("two content types", ProtocolError if sys.flags.dev_mode else None, with_headers(HTML, JSON))


def raw_deflate(good: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(good) + packer.flush()


def encoding(name: str, pack: Callable[[bytes], bytes], token: str) -> None:
    def spoilt(good: bytes) -> bytes:
        packed = pack(good)
        return encoded(packed[:10] + b"\xff" * 9 + packed[19:], token)

    def pieces(good: bytes) -> bytes:
        packed = pack(good)
        return reply(
            chunked(packed[:9], packed[9:]),
            headers=(*CHUNKED, f"Content-Encoding: {token}"),
            length=None,
        )

    row(f"honest {name}", None, lambda good: encoded(pack(good), token))
    row(f"honest {name}, in chunks", None, pieces)
    row(f"{name}, cut off", ProtocolError, lambda good: encoded(pack(good)[:-12], token))
    row(
        f"{name}, cut off, in chunks",
        ProtocolError,
        lambda good: reply(
            chunked(pack(good)[:-12]), headers=(*CHUNKED, f"Content-Encoding: {token}"), length=None
        ),
    )
    row(f"{name}, garbage", ProtocolError, encoded(b"\x5b" * 50, token))
    row(
        f"{name}, garbage, after the headers",
        ProtocolError,
        encoded(b"", token, 50),
        SOON,
        b"\x5b" * 50,
    )
    row(f"{name}, garbage inside", ProtocolError, spoilt)
    row(f"{name}, empty", ProtocolError, encoded(b"", token))
    row(f"{name}, not compressed at all", ProtocolError, lambda good: encoded(good, token))


encoding("gzip", gzip.compress, "gzip")
encoding("GZIP", gzip.compress, "GZIP")
encoding("deflate", zlib.compress, "deflate")
encoding("deflate without its header", raw_deflate, "deflate")
row(
    "gzip in two members",
    None,
    lambda good: encoded(gzip.compress(good[:9]) + gzip.compress(good[9:]), "gzip"),
)
row(
    "gzip with a wrong checksum",
    ProtocolError,
    lambda good: encoded(gzip.compress(good)[:-8] + b"12345678", "gzip"),
)
row(
    "gzip with garbage behind it",
    ProtocolError,
    lambda good: encoded(gzip.compress(good) + b"garbage", "gzip"),
)
row(
    "gzip in gzip",
    ProtocolError,
    lambda good: encoded(gzip.compress(gzip.compress(good)), "gzip, gzip"),
)
for token in ("br", "zstd"):
    row(f"{token}, garbage", ProtocolError, encoded(b"\x5b" * 50, token))
    row(
        f"{token}, garbage, after the headers",
        ProtocolError,
        encoded(b"", token, 50),
        SOON,
        b"\x5b" * 50,
    )
for token in ("identity", "", "utf-8"):
    row(f"Content-Encoding {token!r}", None, with_headers(JSON, f"Content-Encoding: {token}"))
row("an unknown Content-Encoding", ProtocolError, lambda good: encoded(zlib.compress(good), "lzma"))

# --- bodies ---------------------------------------------------------------------------------------

for text in (
    "",
    " ",
    "\0",
    "null",
    "true",
    "0",
    "[]",
    "{}",
    '"ok"',
    "[{}]",
    '{"code":null}',
    '{"code":"0"}',
    '{"code":false}',
    '{"code":0.0}',
    '{"code":[0]}',
    '{"code":{}}',
    '{"message":"0"}',
    '{"Code":0}',
    '{"code":1e2}',
    "{'code':0}",
    '{"code":0,}',
    '{"code":0',
    '{"code":NaN}',
    '{"code":0,"data":NaN}',
    '{"code":0,"data":-Infinity}',
    '{"code":00}',
    '{"code":0}garbage',
    '{"code":0}\0',
    "callback({})",
    "<html>",
    "--- code: 0",
    "data: {}",
):
    body(repr(text), ProtocolError, text.encode(), status=200)
body("a page for people", ProtocolError, "<!DOCTYPE html><title>出错啦</title>".encode())
body("UTF-8 with a BOM", ProtocolError, lambda good: b"\xef\xbb\xbf" + good)
for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
    body(codec, ProtocolError, lambda good, codec=codec: good.decode().encode(codec))
body("GBK", ProtocolError, '{"code":0,"message":"账号","data":{}}'.encode("gbk"))
body("broken UTF-8", ProtocolError, b'{"code":0,"message":"\xff\xfe","data":{}}')
body("overlong UTF-8", ProtocolError, b'{"code":0,"message":"\xc0\xaf","data":{}}')
body("a surrogate in UTF-8", ProtocolError, b'{"code":0,"message":"\xed\xa0\x80","data":{}}')
body("an escaped lone surrogate", ProtocolError, b'{"code":-3,"message":"\\ud800","data":{}}')
body(
    "lists 100,000 deep",
    ProtocolError,
    b'{"code":0,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
)
body(
    "objects 100,000 deep",
    ProtocolError,
    b'{"code":0,"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
)
body("lists 100,000 deep, then a document", ProtocolError, b"[" * 100_000 + b"]" * 100_000 + b"{}")
body("lists 100,000 deep that never end", ProtocolError, b"[" * 100_000)
body("a code of 100,000 digits", ProtocolError, b'{"code":' + b"9" * 100_000 + b"}")
body(
    "a code of 100,000 digits, then a document",
    ProtocolError,
    b'{"code":' + b"9" * 100_000 + b"}{}",
)
body("a code of 2^64", ProtocolError, b'{"code":18446744073709551616}')
body(
    "two codes, refusal last",
    ApiError,
    lambda good: good.replace(b'"code"', b'"code":0,"code":-3,"x"', 1),
    code=-3,
)
body("two codes, success last", None, lambda good: good.replace(b'"code"', b'"code":-3,"code"', 1))
body("space around it", None, lambda good: b"\r\n\t " + good + b" \n")
body("a good reply twice", ProtocolError, lambda good: good + good)
body("a good reply, then a refusal", ProtocolError, lambda good: good + b'{"code":-509}')
body(
    "a refusal, then a good reply",
    ApiError,
    lambda good: b'{"code":-404,"message":"no"}' + good,
    code=-404,
    message="no",
)
body("a refusal, then garbage", ProtocolError, b'{"code":-404,"message":"no"}garbage')
body(
    "-509, then a good reply",
    RateLimited,
    lambda good: b'{"code":-509,"message":"no"}' + good,
    scope="account",
    code=-509,
)
body(
    "-509 on a line, then a good reply",
    RateLimited,
    lambda good: b'{"code":-509}\r\n' + good,
    scope="account",
)
body("-412, then -509", RateLimited, b'{"code":-412}{"code":-509}', scope="host")
for code, outcome in (
    (-101, NotLoggedIn),
    (-111, CsrfRejected),
    (-352, RiskControlled),
    (40015, SensitiveSign),
    (40021, EmojiSign),
    (40022, SignTooLong),
    *((code, ApiError) for code in (-1, 1, -404, -400, 2**63 - 1, -(2**63))),
):
    body(
        f"code {code}",
        outcome,
        json.dumps({"code": code, "message": "no"}).encode(),
        code=code,
        message="no",
    )
for code in (-500, -503, -504):
    body(
        f"code {code}",
        ApiError,
        json.dumps({"code": code, "message": "busy"}).encode(),
        code=code,
        retried=True,
    )
for code, scope in ((-412, "host"), (-509, "account"), (-702, "account"), (-799, "account")):
    sent = json.dumps({"code": code, "message": "slow"}).encode()
    body(
        f"code {code}",
        RateLimited,
        sent,
        status=200,
        code=code,
        scope=scope,
        message="slow",
        retry_after=None,
    )
for message in ("null", "7", '["a"]', '{"a":1}'):
    body(
        f"a refusal whose message is {message}",
        ApiError,
        f'{{"code":-3,"message":{message}}}'.encode(),
        message="",
    )
body("a refusal without a message", ApiError, b'{"code":-3}', message="")
body(
    "a refusal of a megabyte",
    ApiError,
    b'{"code":-3,"message":"' + b"x" * 1_000_000 + b'"}',
    message="x" * 500,
)
body(
    "a refusal with line ends in it",
    ApiError,
    b'{"code":-3,"message":"a\\r\\nERROR b"}',
    message="a ERROR b",
)
body("a refusal with data", ApiError, lambda good: good.replace(b'"code"', b'"code":-3,"x"', 1))

# --- cookies (that none comes back is another test) -----------------------------------------------

STORM = tuple(f"Set-Cookie: decoy{i}=planted-decoy; Path=/; Max-Age=99999" for i in range(100))
DECOYS = tuple(
    f"Set-Cookie: {name}=planted-decoy; Path=/{rest}"
    for name in ("SESSDATA", "DedeUserID", "bili_jct")
    for rest in (
        "",
        "; Domain=.bilibili.com",
        "; Domain=localhost",
        "; Domain=127.0.0.1",
        "; Secure; HttpOnly",
    )
)
row("a storm of Set-Cookie", None, with_headers(JSON, *STORM))
row("decoys of the login's cookies", None, with_headers(JSON, *DECOYS))
row(
    "Set-Cookie that is no cookie",
    None,
    with_headers(
        JSON,
        "Set-Cookie: ",
        "Set-Cookie: ;;;=",
        "Set-Cookie: =x",
        "Set-Cookie2: a=b",
        "Clear-Site-Data: *",
    ),
)
row(
    "headers that a browser would obey",
    None,
    with_headers(
        JSON,
        "Strict-Transport-Security: max-age=9",
        'Alt-Svc: h3=":443"',
        "Refresh: 0; url=/elsewhere",
        "Location: /elsewhere",
    ),
)
