"""The wire as pure functions: what goes out for each credential, and how whatever comes back is
judged.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

import pytest
from multidict import CIMultiDict
from samples_of import EXPECTED, GETS, sample, sample_bytes

from bili_account_async import (
    ENDPOINTS,
    ApiError,
    Auth,
    BiliError,
    Credential,
    CsrfRejected,
    EmojiSign,
    Endpoint,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RiskControlled,
    SchemaError,
    SensitiveSign,
    SignTooLong,
)
from bili_account_async.wire import (
    BODY_MAX,
    DAY,
    Decoder,
    account_headers,
    judge,
    request_form,
    request_query,
    retry_after,
)

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC).timestamp()
COOKIE = Credential(sessdata="5e55,17%2Cd*a", dede_user_id=293793435, bili_jct="c5rf+/=&%")
TOKEN = Credential(access_key="acce55+/=&%")
OK = b'{"code":0,"message":"0","ttl":1,"data":{}}'
MARK = "B0DY-TEXT"
"""Stands in bodies that no error may show."""


def judged(
    status: int,
    body: bytes | None,
    headers: dict[str, str] | None = None,
    redact: Callable[[str], str] = COOKIE.redact,
) -> Any:
    return judge(
        status,
        CIMultiDict(headers or {}),
        body,
        endpoint="get_it",
        wall=lambda: NOW,
        redact=redact,
    )


def envelope(code: Any, message: str = "说明") -> bytes:
    return json.dumps({"code": code, "message": message, "data": {"mid": 1}}).encode()


def told_by(error: BiliError) -> dict[str, Any]:
    names = ("status", "code", "message", "retry_after", "scope")
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


# --- outward: headers, query, form ----------------------------------------------------------------


def test_a_cookie_goes_out_in_one_header_with_what_it_has() -> None:
    assert account_headers(COOKIE) == {
        "Cookie": "SESSDATA=5e55%2C17%2Cd*a; DedeUserID=293793435; bili_jct=c5rf+/=&%"
    }
    assert account_headers(Credential(sessdata="a")) == {"Cookie": "SESSDATA=a"}
    assert account_headers(Credential(sessdata="a", dede_user_id=5)) == {
        "Cookie": "SESSDATA=a; DedeUserID=5"
    }
    assert account_headers(Credential(sessdata="a", bili_jct="b")) == {
        "Cookie": "SESSDATA=a; bili_jct=b"
    }


def test_a_token_sends_no_cookie() -> None:
    assert account_headers(TOKEN) == {}


@pytest.mark.parametrize("name", GETS)
def test_a_get_carries_a_token_in_its_query_and_a_cookie_nowhere_but_in_the_header(
    name: str,
) -> None:
    endpoint = ENDPOINTS[name]
    assert request_query(endpoint, TOKEN, {}) == "access_key=acce55%2B%2F%3D%26%25"
    assert request_query(endpoint, COOKIE, {}) == ""


@pytest.mark.parametrize("name", ["update_sign", "clear_sign"])
def test_a_post_carries_csrf_or_the_token_in_its_form_and_nothing_in_its_query(name: str) -> None:
    endpoint, form = ENDPOINTS[name], {"user_sign": "新的 签名&=+%"}
    assert request_query(endpoint, TOKEN, {}) == request_query(endpoint, COOKIE, {}) == ""
    by_cookie, by_token = request_form(endpoint, COOKIE, form), request_form(endpoint, TOKEN, form)
    assert parse_qsl(by_cookie.decode()) == [("user_sign", "新的 签名&=+%"), ("csrf", "c5rf+/=&%")]
    assert parse_qsl(by_token.decode()) == [
        ("user_sign", "新的 签名&=+%"),
        ("access_key", "acce55+/=&%"),
    ]
    assert form == {"user_sign": "新的 签名&=+%"}


def test_an_empty_sign_is_a_field_that_is_there() -> None:
    body = request_form(ENDPOINTS["clear_sign"], COOKIE, {"user_sign": ""})
    assert parse_qsl(body.decode(), keep_blank_values=True)[0] == ("user_sign", "")


def test_params_are_encoded_and_the_credential_s_own_key_wins() -> None:
    endpoint: Any = ENDPOINTS["get_coin_log"]
    params = {"pn": "1", "q": "a b&c=é/?#", "access_key": "someone else's"}
    assert parse_qsl(request_query(endpoint, TOKEN, params)) == [
        ("pn", "1"),
        ("q", "a b&c=é/?#"),
        ("access_key", "acce55+/=&%"),
    ]
    assert "+" not in request_query(endpoint, COOKIE, {"q": "a b"})
    assert params["access_key"] == "someone else's"


def test_a_post_that_declares_no_csrf_sends_none() -> None:
    endpoint: Any = Endpoint("like", "POST", "api", "/x/like", Auth(("sessdata",)), type(None), ())
    assert request_form(endpoint, COOKIE, {"a": "b"}) == b"a=b"
    assert request_form(endpoint, COOKIE, {}) == b""


# --- inward: the order of judgement ---------------------------------------------------------------

BODIES = {
    "success": OK,
    "a dead login": envelope(-101),
    "a limit": envelope(-799),
    "HTML": f"<html>{MARK}</html>".encode(),
    "nothing": b"",
    "too much": None,
    "two documents": b'{"code":-509,"message":"m"}{"code":0}',
}


@pytest.mark.parametrize("status", [412, 429])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_412_and_429_are_a_host_limit_whatever_the_body_says(
    status: int, body: bytes | None
) -> None:
    error = judged(status, body, {"Retry-After": "7"})
    assert type(error) is RateLimited
    assert (error.scope, error.status, error.retry_after) == ("host", status, 7.0)
    assert MARK not in str(error)


def test_a_host_limit_shows_the_code_and_message_of_a_readable_body() -> None:
    assert told_by(judged(412, envelope(-412, "请求被拦截"))) == {
        "scope": "host",
        "status": 412,
        "code": -412,
        "message": "请求被拦截",
        "retry_after": None,
    }
    assert told_by(judged(429, b"<html>"))["code"] is None


OTHER_STATUSES = [100, 199, 201, 202, 204, 206, 226, 300, 301, 302, 303, 304, 307, 308]
OTHER_STATUSES += [400, 401, 403, 404, 405, 408, 418, 451, 500, 502, 503, 504, 520, 599, 999]


@pytest.mark.parametrize("status", OTHER_STATUSES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_other_status_than_200_is_a_protocol_error_whatever_the_body_says(
    status: int, body: bytes | None
) -> None:
    error = judged(
        status,
        body,
        {"Retry-After": "7", "Location": "https://evil.example/?a=b", "Content-Type": "text/html"},
    )
    assert type(error) is ProtocolError
    assert (error.status, error.retry_after) == (status, 7.0)
    assert f"HTTP {status}" in str(error)
    assert "evil" not in str(error)
    assert ("redirect" in str(error)) == (300 <= status < 400)


@pytest.mark.parametrize(
    ("code", "scope"), [(-412, "host"), (-509, "account"), (-702, "account"), (-799, "account")]
)
def test_a_limit_code_is_a_rate_limit_of_its_scope(code: int, scope: str) -> None:
    assert told_by(judged(200, envelope(code), {"Retry-After": "3.5"})) == {
        "scope": scope,
        "status": 200,
        "code": code,
        "message": "说明",
        "retry_after": 3.5,
    }


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (-101, NotLoggedIn),
        (-111, CsrfRejected),
        (-352, RiskControlled),
        (40015, SensitiveSign),
        (40021, EmojiSign),
        (40022, SignTooLong),
        (-400, ApiError),
        (-403, ApiError),
        (-404, ApiError),
        (-500, ApiError),
        (-503, ApiError),
        (-504, ApiError),
        (1, ApiError),
        (412, ApiError),
        (-429, ApiError),
        (2**63, ApiError),
        (-(2**63), ApiError),
    ],
)
def test_any_other_code_is_an_api_error_or_its_subclass(code: int, cls: type[ApiError]) -> None:
    error = judged(200, envelope(code))
    assert type(error) is cls
    assert (error.code, error.message) == (code, "说明")
    assert "说明" in str(error)


@pytest.mark.parametrize(
    "content_type", [None, "text/html", "application/json; charset=zlib_codec", "\udcff\x00"]
)
def test_the_content_type_does_not_decide(content_type: str | None) -> None:
    assert judged(200, OK, {"Content-Type": content_type} if content_type else {}) == json.loads(OK)
    assert judged(200, b"<html>", {"Content-Type": "application/json"}).status == 200


@pytest.mark.parametrize("name", [*GETS, "update_sign"])
def test_a_documented_sample_is_judged_a_success(name: str) -> None:
    assert judged(200, sample_bytes(name)) == sample(name)


DEEP = 100_000
NOT_ENVELOPES: dict[str, bytes | None] = {
    "empty": b"",
    "spaces": b" \r\n",
    "too large": None,
    "null": b"null",
    "list": b"[]",
    "list of an envelope": b"[" + OK + b"]",
    "text": b'"ok"',
    "number": b"0",
    "true": b"true",
    "object": b"{}",
    "HTML": f"<!DOCTYPE html><p>{MARK}".encode(),
    "JSONP": b"cb(" + OK + b")",
    "truncated": OK[:-1],
    "garbage after": OK + b"x",
    "comma after": OK + b",",
    "success twice": OK + OK,
    "success, then an error": OK + b'{"code":-509}',
    "error, then garbage": b'{"code":-509}garbage',
    "error, then half a document": b'{"code":-509}{"code":',
    "UTF-8 BOM": b"\xef\xbb\xbf" + OK,
    "UTF-16": OK.decode().encode("utf-16"),
    "UTF-16 without BOM": OK.decode().encode("utf-16-le"),
    "UTF-32": OK.decode().encode("utf-32"),
    "GBK": '{"code":0,"message":"成功"}'.encode("gbk"),
    "lone continuation byte": b'{"code":0,"message":"\x80"}',
    "CESU surrogate": b'{"code":0,"message":"\xed\xa0\x80"}',
    "lone surrogate": rb'{"code":0,"message":"\ud800"}',
    "lone surrogate in a dead login": rb'{"code":-101,"message":"\udfff"}',
    "NaN": b'{"code":0,"data":NaN}',
    "Infinity": b'{"code":0,"data":-Infinity}',
    "NaN as code": b'{"code":NaN}',
    "NaN, then another document": b'{"code":-509,"data":NaN}{"code":0}',
    "error, then NaN": b'{"code":-509}NaN',
    "lone surrogate, then another document": rb'{"code":-509,"message":"\ud800"}{"code":0}',
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep list inside": b'{"code":0,"data":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep object": b'{"a":' * DEEP,
    "deep after an error": b'{"code":-509}' + b"[" * DEEP,
    "deep before an error": b"[" * DEEP + b'{"code":-509}',
    "huge code": b'{"code":' + b"9" * DEEP + b"}",
    "huge code, then another document": b'{"code":' + b"9" * 4000 + b'}{"code":0}',
    "huge number": b'{"code":0,"data":' + b"9" * DEEP + b"}",
    "huge exponent": b'{"code":1e400}',
    "NUL inside": b'{"code":0\x00}',
    "single quotes": b"{'code':0}",
    "comment": OK + b"//",
    "trailing comma": b'{"code":0,}',
    "no code": b'{"message":"0","data":{}}',
    "null code": b'{"code":null}',
    "false": b'{"code":false,"data":{}}',
    "true code": b'{"code":true}',
    "float": b'{"code":0.0,"data":{}}',
    "float one": b'{"code":1.0}',
    "text code": b'{"code":"0","data":{}}',
    "minus one as text": b'{"code":"-101"}',
    "list code": b'{"code":[0]}',
    "big code": b'{"code":18446744073709551616}',
    "false, then another document": b'{"code":false}{"code":-509}',
    "code in another case": b'{"Code":0}',
}


@pytest.mark.parametrize("body", NOT_ENVELOPES.values(), ids=NOT_ENVELOPES)
def test_what_is_not_one_envelope_is_a_protocol_error_without_the_body_s_text(
    body: bytes | None,
) -> None:
    error = judged(200, body, {"Content-Type": "application/json"})
    assert type(error) is ProtocolError
    assert error.status == 200
    assert "HTTP 200" in str(error)
    assert "'application/json'" in str(error)
    assert (f"{len(body)} bytes" if body is not None else f"more than {BODY_MAX} bytes") in str(
        error
    )
    assert MARK not in f"{error!r} {vars(error)} {pickle.dumps(error)!r}"
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"code":-509}{"code":0,"data":{}}', -509, ""),
        ('{"code":-509,"message":"超出限制"}{"code":0,"data":{}}'.encode(), -509, "超出限制"),
        (b'{"code":-799} \r\n\t{"code":0}{"code":1}', -799, ""),
        (b'{"code":-509}[]', -509, ""),
        (b'{"code":-509}0', -509, ""),
        (b'{"code":-509,"code":-702}{"code":0}', -702, ""),
    ],
)
def test_of_several_documents_the_first_decides_if_it_is_an_error(
    body: bytes, code: int, message: str
) -> None:
    error = judged(200, body)
    assert type(error) is RateLimited
    assert (error.code, error.message, error.scope) == (code, message, "account")


def test_of_several_documents_the_first_may_be_any_error_envelope() -> None:
    assert type(judged(200, b'{"code":-101,"message":"m"}{"code":0}')) is NotLoggedIn
    assert type(judged(200, b'{"code":7}{"code":0}')) is ApiError


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' \n{"code": 0}\r\n', {"code": 0}),
        (b'{"code":-0}', {"code": 0}),
        (b'{"code":5,"code":0}', {"code": 0}),
        (b'{"code":0,"message":null,"ttl":null}', {"code": 0, "message": None, "ttl": None}),
        (b'{"code":0,"message":5}', {"code": 0, "message": 5}),
        (rb'{"code":0,"message":"\ud83d\ude00"}', {"code": 0, "message": "😀"}),
    ],
)
def test_an_odd_but_valid_envelope_is_a_success(body: bytes, value: dict[str, Any]) -> None:
    assert judged(200, body) == value


@pytest.mark.parametrize("message", [b"null", b"5", b"true", b"[]", b'{"a":1}', None])
def test_a_message_that_is_no_text_is_an_empty_one(message: bytes | None) -> None:
    body = b'{"code":-404' + (b',"message":' + message if message is not None else b"") + b"}"
    error = judged(200, body)
    assert (type(error), error.message) == (ApiError, "")


def test_a_message_is_one_line_without_control_characters_and_not_endless() -> None:
    error = judged(200, envelope(-404, " a\r\nERROR forged\x1b[2J\x00\x85\u2028b\x7f\t "))
    assert error.message == "a ERROR forged [2J b"
    assert len(judged(200, envelope(-404, "长" * 10_000)).message) == 500


# --- decoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GETS)
def test_data_that_is_null_missing_or_of_a_wrong_shape_is_a_schema_error(name: str) -> None:
    decoder, root = Decoder(ENDPOINTS[name]), ENDPOINTS[name].result[0]
    for data, got in (
        (None, "null"),
        ([], "list"),
        ("", "str"),
        (True, "bool True"),
        (1.5, "float 1.5"),
    ):
        error = decoder.decode(sample(name) | {root: data})
        assert isinstance(error, SchemaError)
        assert error.path == root
        assert error.got == got
        assert error.expected
    missing = sample(name)
    del missing[root]
    error = decoder.decode(missing)
    assert isinstance(error, SchemaError)
    assert (error.path, error.got) == (root, "nothing")


def test_a_payload_deeper_in_the_reply_is_looked_for_step_by_step() -> None:
    decoder = Decoder(ENDPOINTS["get_realname_status"])
    error = decoder.decode({"code": 0, "data": {}})
    assert isinstance(error, SchemaError)
    assert (error.path, error.got) == ("data.status", "nothing")
    error = decoder.decode({"code": 0, "data": {"status": "1"}})
    assert isinstance(error, SchemaError)
    assert (error.path, error.got) == ("data.status", "str")


def test_a_decoding_error_holds_no_frame_of_the_reply() -> None:
    error = Decoder(ENDPOINTS["get_account_info"]).decode({"code": 0, "data": {"uname": MARK}})
    assert isinstance(error, SchemaError)
    assert error.__traceback__ is None
    assert error.__context__ is None
    assert MARK not in f"{error} {error!r}"


def test_a_decoder_gives_record_payload_and_unknown_fields() -> None:
    reply = sample("get_vip_info")
    reply["data"]["novel"] = 1
    assert Decoder(ENDPOINTS["get_vip_info"]).decode(reply) == (
        EXPECTED["get_vip_info"],
        reply["data"],
        ("data.novel",),
    )


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("5.", 5.0),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 5000, DAY),
        ("-1", None),
        ("-0", None),
        ("+5", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("5 s", None),
        ("5,5", None),
        ("5, 7", None),
        ("NaN", None),
        ("inf", None),
        ("-inf", None),
        ("\uff15", None),
        ("soon", None),
        ("a" * 5000, None),
        ("Wed, 04 Mar 2026 12:01:00 GMT", 60.0),
        ("Wed, 04 Mar 2026 12:00:00 GMT", 0.0),
        ("Wednesday, 04-Mar-26 12:01:00 GMT", 60.0),
        ("Wed Mar  4 12:01:00 2026", 60.0),
        ("Wed, 04 Mar 2026 20:01:00 +0800", 60.0),
        ("Wed, 04 Mar 2026 12:01:00 -0000", 60.0),
        ("Wed, 04 Mar 2026 11:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", DAY),
        ("Sat, 07 Mar 2026 12:00:00 GMT", DAY),
        ("Wed, 30 Feb 2026 12:00:00 GMT", None),
        ("Wed, 04 Mar 2026 25:00:00 GMT", None),
        ("Wed, 04 Mar 99999999999 12:00:00 GMT", None),
        ("Wed, 04 Mar 2026 12:00:00 +9999999999", None),
        ("Wed, 04 Mar", None),
        (",", None),
        ("\udcff", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_what_can_not_be_read_counts_as_absent(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after(value, NOW) == seconds
    headers = {} if value is None else {"retry-after": value}
    assert judged(429, b"", headers).retry_after == seconds
    assert judged(503, b"", headers).retry_after == seconds
    assert judged(200, envelope(-509), headers).retry_after == seconds


# --- secrets that the server echoes ---------------------------------------------------------------

SPELLERS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "decoded": unquote,
    "encoded": lambda text: quote(text, safe=""),
    "decoded, then encoded": lambda text: quote(unquote(text), safe=""),
    "as a browser encodes": lambda text: quote(unquote(text), safe="!'()*"),
    "as in a query": lambda text: quote(unquote(text)),
    "as in a form": quote_plus,
    "in lower case": lambda text: (
        quote(unquote(text), safe="").replace("%2C", "%2c").replace("%2A", "%2a")
    ),
}
SECRETS = {
    "sessdata": (COOKIE, "5e55%2C17%2Cd*a"),
    "bili_jct": (COOKIE, "c5rf+/=&%"),
    "access_key": (TOKEN, "acce55+/=&%"),
}


@pytest.mark.parametrize("spell", SPELLERS.values(), ids=SPELLERS)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("status", [200, 412, 429])
def test_a_secret_in_the_server_s_message_is_redacted(
    spell: Callable[[str], str], secret: tuple[Credential, str], status: int
) -> None:
    credential, text = secret
    for code in (-101, -509, 7):
        error = judged(
            status, envelope(code, f"bad login <{spell(text)}>"), redact=credential.redact
        )
        assert error.message == "bad login <***>"
        assert_holds_none_of(error, "5e55", "c5rf", "acce55")


@pytest.mark.parametrize("spell", SPELLERS.values(), ids=SPELLERS)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_the_content_type_is_redacted(
    spell: Callable[[str], str], secret: tuple[Credential, str]
) -> None:
    credential, text = secret
    for status in (200, 302, 500):
        error = judged(status, b"<", {"Content-Type": f"text/{spell(text)}"}, credential.redact)
        assert "'text/***'" in str(error)
        assert_holds_none_of(error, "5e55", "c5rf", "acce55")


def test_a_secret_that_straddles_the_cut_of_a_long_text_is_redacted_before_the_cut() -> None:
    for length in range(485, 501):
        error = judged(200, envelope(-404, "x" * length + "5e55%2C17%2Cd*a"))
        assert_holds_none_of(error, "5e")
    for length in range(85, 101):
        error = judged(200, b"", {"Content-Type": "x" * length + "5e55%2C17%2Cd*a"})
        assert_holds_none_of(error, "5e")


def test_a_location_with_a_secret_is_not_shown() -> None:
    error = judged(
        302, b"", {"Location": "https://passport.bilibili.com/?SESSDATA=5e55%2C17%2Cd*a"}
    )
    assert_holds_none_of(error, "5e55", "passport")


def assert_holds_none_of(error: BiliError, *texts: str) -> None:
    shown = f"{error} {error!r} {vars(error)} {error.args} {pickle.dumps(error, 0)!r}"
    assert not [text for text in texts if text in shown]
