"""Nothing that comes from outside raises what it should not: bytes, JSON values, cookie headers and
cookies.txt.

`BILI_EXAMPLES=10000 pytest tests/test_fuzz.py` is the long run.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict
from samples_of import CHINA, GETS, payload_of, sample, sample_bytes
from strategies import RECORDS, damaged, fuzz, json_values

from bili_account_async import (
    ENDPOINTS,
    BiliError,
    Credential,
    CredentialError,
    ProtocolError,
    SchemaError,
    structure,
    unstructure,
)
from bili_account_async.records import CoinLogEntry
from bili_account_async.wire import BODY_MAX, DAY, Decoder, judge, retry_after

SECRET = "5ecret-0f-test%2C1"
CREDENTIAL = Credential(sessdata=SECRET, dede_user_id=1, bili_jct="c5rf-0f-test")
DECODERS = {name: Decoder(endpoint) for name, endpoint in ENDPOINTS.items()}
names = st.sampled_from(sorted(DECODERS))
every_record = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)


def outcome(call: Callable[[], Any], error: type[BiliError]) -> Any:
    """Return the result of the call, or the one kind of error that it may raise."""
    try:
        return call()
    except error as raised:
        return raised


# --- bytes ----------------------------------------------------------------------------------------

printable = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
header_values = printable | st.sampled_from(
    ["5", "-1", "1e9", "Wed, 04 Mar 2026 12:01:00 GMT", SECRET]
)
headers = st.fixed_dictionaries(
    {}, optional={"Retry-After": header_values, "Content-Type": header_values}
)
statuses = st.just(200) | st.sampled_from([204, 302, 412, 429, 500]) | st.integers(100, 999)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gbk"])


@st.composite
def json_bytes(draw: st.DrawFn) -> bytes:
    """An envelope, or nearly one."""
    envelope = draw(names.filter(lambda name: name in GETS).map(sample).flatmap(damaged))
    if isinstance(envelope, dict) and draw(st.booleans()):
        codes = st.sampled_from([0, -101, -352, -412, -509, 40015, False, None, "0", 1.0])
        envelope |= {
            "code": draw(codes | json_values),
            "message": draw(json_values | st.just(f"echo {SECRET}")),
        }
    return json.dumps(envelope, ensure_ascii=draw(st.booleans())).encode(draw(encodings), "replace")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Random bytes; envelopes; envelopes with some bytes changed, cut off or put one after the
    other.
    """
    body = draw(
        st.binary(max_size=200)
        | json_bytes()
        | names.map(lambda name: sample_bytes(name.replace("clear", "update")))
    )
    for _ in range(draw(st.integers(0, 2))):
        start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        what = draw(st.sampled_from(["cut", "flip", "repeat", "insert", "nothing"]))
        if what == "cut":
            body = body[:start] + body[end:]
        elif what == "flip" and start < len(body):
            body = (
                body[:start] + bytes([body[start] ^ draw(st.integers(1, 255))]) + body[start + 1 :]
            )
        elif what == "repeat":
            body += body[start:]
        elif what == "insert":
            body = body[:start] + draw(st.binary(max_size=8)) + body[start:]
    return body


@fuzz
@given(name=names, status=statuses, headers=headers, body=bodies() | st.none())
@example(name="get_coin_log", status=200, headers={}, body=b"[" * BODY_MAX)
@example(
    name="get_coin_log", status=200, headers={}, body=b'{"code":0,"data":' + b"9" * 100_000 + b"}"
)
@example(
    name="get_coin_log", status=200, headers={}, body=rb'{"code":-509,"message":"\ud800"}{"code":0}'
)
def test_whatever_bytes_come_only_a_result_or_a_bili_error_comes_out(
    name: str, status: int, headers: dict[str, str], body: bytes | None
) -> None:
    came = judge(
        status,
        CIMultiDict(headers),
        body,
        endpoint=name,
        wall=lambda: 1772625600.0,
        redact=CREDENTIAL.redact,
    )
    result: object = came if isinstance(came, BiliError) else DECODERS[name].decode(came)
    if isinstance(result, BiliError):
        shown = f"{result} {result!r} {vars(result) if not isinstance(result, SchemaError) else ''}"
        assert SECRET not in shown
        shown.encode()  # no lone surrogate, which no log file could hold
        assert "\n" not in str(result)
        assert str(pickle.loads(pickle.dumps(result))) == str(result)
        assert (status == 200) or not isinstance(result, SchemaError)
        wait = getattr(result, "retry_after", None)
        assert wait is None or 0 <= wait <= DAY
    else:
        assert status == 200
        record, _, unknown = result  # type: ignore[misc]
        assert type(record) is ENDPOINTS[name].returns
        assert all(isinstance(field, str) for field in unknown)


@fuzz
@given(body=st.binary(min_size=1, max_size=60).map(lambda noise: b"<" + noise.hex().encode()))
def test_a_protocol_error_never_holds_a_piece_of_the_body(body: bytes) -> None:
    error = judge(200, {}, body, endpoint="get_it", wall=lambda: 0.0, redact=str)
    assert isinstance(error, ProtocolError)
    assert len(body) < 4 or body[:12].decode() not in f"{error!r}{vars(error)}"


@fuzz
@given(value=st.text(max_size=40) | header_values, now=st.floats(-1e10, 1e12))
def test_any_retry_after_is_seconds_within_a_day_or_nothing(value: str, now: float) -> None:
    wait = retry_after(value, now)
    assert wait is None or 0 <= wait <= DAY


# --- JSON values ----------------------------------------------------------------------------------


@every_record
@fuzz
@given(value=json_values)
def test_any_json_value_is_a_record_or_a_schema_error(cls: Any, value: Any) -> None:
    check_structure(cls, value)


@pytest.mark.parametrize("name", GETS)
@fuzz
@given(data=st.data())
def test_any_damaged_reply_is_a_record_or_a_schema_error(name: str, data: st.DataObject) -> None:
    check_structure(ENDPOINTS[name].returns, data.draw(damaged(payload_of(name))))


def check_structure(cls: Any, value: Any) -> None:
    record = outcome(lambda: structure(cls, value), SchemaError)
    if isinstance(record, SchemaError):
        assert record.expected
        assert record.got
        assert record.payload is value
        assert record.__context__ is None
        return
    assert type(record) is cls
    assert structure(cls, unstructure(record)) == record
    json.dumps(unstructure(record), allow_nan=False)


TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


@fuzz
@given(
    st.from_regex(r"\d{4}[-0-9W]\d\d[-0-9]\d\d[ T0-9]\d\d[:.0-9]\d\d[:.,+-]\d\d", fullmatch=True)
    | st.text("0123456789-: .+ZTW", min_size=19, max_size=19)
    | st.datetimes().map(lambda time: time.isoformat(" ", "seconds"))
)
def test_a_coin_log_time_is_taken_exactly_if_it_has_the_documented_form_and_exists(
    text: str,
) -> None:
    try:
        expected = (
            datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA)
            if TIME.fullmatch(text)
            else None
        )
    except ValueError:
        expected = None
    got = outcome(
        lambda: structure(CoinLogEntry, {"time": text, "delta": 1, "reason": ""}).time, SchemaError
    )
    assert isinstance(got, SchemaError) if expected is None else got == expected


# --- credentials ----------------------------------------------------------------------------------

cookie_names = st.sampled_from(
    ["SESSDATA", "DedeUserID", "bili_jct", "buvid3", "", "sessdata"]
) | st.text(max_size=5)
cookie_values = (
    st.sampled_from(["", SECRET, "1", "0", "-1", "a,b", "a b", "a\r\nb", "9" * 5000, "\ud800"])
    | st.text(max_size=8)
    | st.text("abc%2C,=*", min_size=1, max_size=8)
)
pairs = st.lists(st.tuples(cookie_names, cookie_values), max_size=6)
glue = st.sampled_from(["; ", ";", " ;\t", "\r\n", ", "])
cookie_headers = st.text(max_size=60) | st.builds(
    lambda pairs, glue, start: start + glue.join(f"{name}={value}" for name, value in pairs),
    pairs,
    glue,
    st.sampled_from(["", "Cookie: ", " ", "cookie:"]),
)
environ_names = st.sampled_from(
    ["BILI_COOKIE", "BILI_SESSDATA", "BILI_DEDE_USER_ID", "BILI_JCT", "BILI_ACCESS_KEY"]
)
SAFE = re.compile(r"[\x21-\x3a\x3c-\x7e]+")


def check_credential(call: Callable[[], Credential]) -> Credential | None:
    """A refusal that shows no secret, or what can go out in a header."""
    made = outcome(call, CredentialError)
    if isinstance(made, CredentialError):
        assert SECRET not in f"{made} {made!r}"
        assert made.__cause__ is None
        str(made).encode()
        return None
    assert isinstance(made, Credential)
    for part in filter(None, (made.sessdata, made.bili_jct, made.access_key)):
        assert SAFE.fullmatch(part)
    assert "," not in (made.sessdata or "")
    assert (made.sessdata is None) != (made.access_key is None)
    assert made.dede_user_id is None or 0 < made.dede_user_id < 10**19
    assert SECRET not in f"{made} {made!r} {made.account_key}"
    return made


@fuzz
@given(cookie_headers)
@example("SESSDATA=a; DedeUserID=" + "9" * 100_000)
@example("SESSDATA=a; DedeUserID=²")
def test_any_cookie_header_is_a_credential_or_a_credential_error(header: str) -> None:
    check_credential(lambda: Credential.from_cookie_header(header))


@fuzz
@given(st.dictionaries(environ_names, cookie_values | cookie_headers, max_size=4))
def test_any_environment_is_a_credential_or_a_credential_error(environ: dict[str, str]) -> None:
    check_credential(lambda: Credential.from_env(environ))


domains = st.sampled_from(
    [".bilibili.com", "bilibili.com", "#HttpOnly_.bilibili.com", "www.bilibili.com"]
)
decoys = st.sampled_from(
    ["evilbilibili.com", ".bilibili.com.evil.org", "#.bilibili.com", "", "com", "#HttpOnly_x.com"]
)
tabs = st.sampled_from(["\t", "\t", "\t", " ", ""])
ends = st.sampled_from([b"\n", b"\r\n", b"\n\n"])


@st.composite
def cookie_lines(draw: st.DrawFn) -> bytes:
    """A line of bilibili.com's, or a decoy of somebody else's."""
    ours = draw(st.booleans())
    name, value = draw(cookie_names), draw(cookie_values) if ours else "dec0y"
    middle = draw(tabs).join(("TRUE", "/", "FALSE", "1893456000"))
    line = "\t".join((draw(domains if ours else decoys), middle, name, value))
    return line.encode("utf-8", "surrogatepass")


@st.composite
def cookie_files(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(cookie_lines(), max_size=8))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"])) + b"".join(
        line + draw(ends) for line in lines
    )


@pytest.fixture(scope="module")
def cookies_txt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "cookies.txt"


@fuzz
@given(content=st.binary(max_size=100) | cookie_files())
def test_any_cookies_txt_is_a_credential_of_bilibili_or_a_credential_error(
    content: bytes, cookies_txt: Path
) -> None:
    cookies_txt.write_bytes(content)
    made = check_credential(lambda: Credential.from_cookies_txt(cookies_txt))
    assert made is None or "dec0y" not in (made.sessdata, made.bili_jct)


@fuzz
@given(
    parts=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("sessdata", "dede_user_id", "bili_jct", "access_key"),
            cookie_values | json_values | st.binary(max_size=4),
        ),
    )
)
def test_any_parts_are_a_credential_or_a_credential_error(parts: dict[str, Any]) -> None:
    check_credential(lambda: Credential(**parts))
