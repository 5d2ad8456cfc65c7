"""Errors: one tree, each picklable and copyable with all that it tells, and a text that a person
can act on.
"""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

import bili_account_async as bili
from bili_account_async import (
    ApiError,
    BiliError,
    CredentialError,
    CredentialMissing,
    CsrfRejected,
    EmojiSign,
    InvalidSign,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    RiskControlled,
    SchemaError,
    SensitiveSign,
    SignTooLong,
    TransportError,
)

TREE: dict[type[BiliError], tuple[type[Exception], ...]] = {
    BiliError: (Exception,),
    CredentialError: (BiliError,),
    CredentialMissing: (CredentialError,),
    TransportError: (BiliError,),
    RequestTimeout: (TransportError, TimeoutError),
    ProtocolError: (BiliError,),
    RateLimited: (BiliError,),
    ApiError: (BiliError,),
    NotLoggedIn: (ApiError,),
    CsrfRejected: (ApiError,),
    InvalidSign: (ApiError, ValueError),
    SensitiveSign: (InvalidSign,),
    EmojiSign: (InvalidSign,),
    SignTooLong: (InvalidSign,),
    RiskControlled: (ApiError,),
    SchemaError: (BiliError,),
}
MADE: dict[str, BiliError] = {
    "root": BiliError("something"),
    "bare": BiliError(),
    "credential": CredentialError("sessdata: is empty"),
    "missing": CredentialMissing("the credential lacks dede_user_id"),
    "transport": TransportError("refused", sent=False),
    "certificate": TransportError("not valid", sent=False, certificate=True),
    "timeout": RequestTimeout("no answer within 4 s"),
    "protocol": ProtocolError("an HTTP error: HTTP 503", status=503, retry_after=1.5),
    "protocol without status": ProtocolError("the answer is not HTTP"),
    "host limit": RateLimited(scope="host", status=412, message="请求被拦截", retry_after=30.0),
    "account limit": RateLimited(scope="account", status=200, code=-509, message="请求过于频繁"),
    "local limit": RateLimited(scope="local"),
    "api": ApiError("啥都木有", code=-404),
    "schema": SchemaError(
        path="data.list[4].time", expected="a text", got="int 5", payload={"list": [1]}
    ),
} | {
    cls.__name__: cls("server's own words", code=code)
    for code, cls in (
        (-101, NotLoggedIn),
        (-111, CsrfRejected),
        (-352, RiskControlled),
        (0, InvalidSign),
        (40015, SensitiveSign),
        (40021, EmojiSign),
        (40022, SignTooLong),
    )
}
every_error = pytest.mark.parametrize("error", MADE.values(), ids=MADE)


def descendants(cls: type[BiliError]) -> set[type[BiliError]]:
    return {cls}.union(*map(descendants, cls.__subclasses__()))


def twins_of(error: BiliError) -> list[Any]:
    return [
        *(
            pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy(error),
        copy.deepcopy(error),
        pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error)))),
    ]


def told_by(error: BiliError) -> dict[str, Any]:
    names = (
        "endpoint",
        "args",
        "status",
        "retry_after",
        "code",
        "message",
        "scope",
        "path",
        "expected",
        "got",
        "sent",
    )
    return {
        name: getattr(error, name)
        for name in (*names, "certificate", "stale")
        if hasattr(error, name)
    }


def test_the_tree_is_that_of_the_contract() -> None:
    # An extra has its own.
    core = {cls for cls in descendants(BiliError) if cls.__module__ == BiliError.__module__}
    assert core == TREE.keys()
    assert {cls: cls.__bases__ for cls in TREE} == TREE


def test_every_error_is_public_and_has_an_example_here() -> None:
    assert {cls.__name__ for cls in TREE} <= set(bili.__all__)
    assert {type(error) for error in MADE.values()} == TREE.keys()


def test_a_request_timeout_is_caught_as_a_timeout_error() -> None:
    with pytest.raises(TimeoutError, match=r"^no answer within 4 s$"):
        raise RequestTimeout("no answer within 4 s")
    assert MADE["timeout"].sent is True  # type: ignore[attr-defined]


@every_error
def test_an_error_survives_pickle_and_copy_with_all_that_it_tells(error: BiliError) -> None:
    for endpoint in (None, "get_vip_info"):
        error = copy.copy(error)
        if endpoint:
            error.endpoint = endpoint
        for twin in twins_of(error):
            assert type(twin) is type(error)
            assert told_by(twin) == told_by(error)
            assert (str(twin), repr(twin)) == (str(error), repr(error))
            assert twin.endpoint == endpoint


@every_error
def test_a_revived_error_can_be_raised_and_caught(error: BiliError) -> None:
    with pytest.raises(type(error)) as caught:
        raise pickle.loads(pickle.dumps(error))
    assert caught.value.args == error.args


def test_a_note_stays_with_the_error() -> None:
    error = NotLoggedIn("账号未登录", code=-101)
    error.add_note("while polling alice")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while polling alice"]


def test_a_group_of_errors_pickles() -> None:
    group = ExceptionGroup("sections of the snapshot failed", list(MADE.values()))
    assert list(map(told_by, pickle.loads(pickle.dumps(group)).exceptions)) == list(
        map(told_by, MADE.values())
    )


@every_error
def test_the_endpoint_stands_first_in_the_text_and_is_none_outside_a_call(error: BiliError) -> None:
    assert error.endpoint is None
    called = copy.copy(error)
    called.endpoint = "get_coin_log"
    assert str(called) == f"get_coin_log: {error}"
    assert error.endpoint is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MADE["protocol"], "an HTTP error: HTTP 503"),
        (
            MADE["host limit"],
            "the server limits this host, HTTP 412: 请求被拦截 (retry after 30 s)",
        ),
        (MADE["account limit"], "the server limits this account, code -509: 请求过于频繁"),
        (MADE["local limit"], "our own limits' max_wait is over"),
        (MADE["api"], "code -404: 啥都木有"),
        (MADE["schema"], "data.list[4].time: expected a text, got int 5"),
        (
            SchemaError(path="", expected="an object", got="list"),
            "the root: expected an object, got list",
        ),
    ],
)
def test_the_text_says_what_happened(error: BiliError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("cls", [ApiError, *ApiError.__subclasses__()])
def test_an_api_error_shows_code_and_the_server_s_message(cls: type[ApiError]) -> None:
    error = cls("服务器的话", code=-7)
    assert (error.code, error.message) == (-7, "服务器的话")
    assert str(error).startswith("code -7: 服务器的话")
    assert "服务器的话" in repr(error)


@pytest.mark.parametrize(
    ("cls", "advice"),
    [(NotLoggedIn, "log in again"), (CsrfRejected, "same login"), (RiskControlled, "browser")],
)
def test_an_error_that_its_owner_can_mend_says_how(cls: type[ApiError], advice: str) -> None:
    assert re.search(rf"\(.*{advice}.*\)$", str(cls("x", code=-1)))


def test_an_absent_part_has_its_documented_default() -> None:
    protocol, limited = ProtocolError("x"), RateLimited(scope="local")
    assert (protocol.status, protocol.retry_after) == (None, None)
    assert (limited.status, limited.code, limited.message, limited.retry_after) == (
        None,
        None,
        "",
        None,
    )
    assert TransportError("x").sent is True
    assert SchemaError(path="a", expected="b", got="c").payload is None


def test_a_schema_error_holds_its_payload_but_shows_and_pickles_none_of_it() -> None:
    payload = {"card": "6****************7", "realname": "*小明"}
    error = SchemaError(
        path="data.card_type", expected="int (CardType)", got="str", payload=payload
    )
    error.endpoint = "get_realname_application"
    assert error.payload is payload
    assert (error.path, error.expected, error.got) == ("data.card_type", "int (CardType)", "str")
    for shown in (
        str(error),
        repr(error),
        repr(error.args),
        *(pickle.dumps(error, p).hex() for p in range(6)),
    ):
        assert "小明" not in shown
        assert "6***" not in shown
        assert b"6***".hex() not in shown
    assert pickle.loads(pickle.dumps(error)).payload is None
