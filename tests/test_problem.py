"""What a web client is told when Bilibili fails the application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bili_account_async import (
    ApiError,
    BiliError,
    CredentialMissing,
    CsrfRejected,
    EmojiSign,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    RiskControlled,
    SchemaError,
    SensitiveSign,
    SignTooLong,
    TransportError,
    problem,
)

EXPECTED: list[tuple[BiliError, int]] = [
    (RateLimited(scope="host", status=412), 503),
    (RateLimited(scope="local", retry_after=2.1), 503),
    (RequestTimeout("no answer within 10 s, 3 attempts"), 504),
    (TransportError("the connection was reset"), 502),
    (ProtocolError("an HTTP error", status=503, retry_after=9), 502),
    (SchemaError(path="data.mid", expected="an int", got="str"), 502),
    (ApiError("nothing here", code=-404), 502),
    (NotLoggedIn("账号未登录", code=-101), 409),
    (CredentialMissing("the credential lacks bili_jct"), 409),
    (CsrfRejected("csrf 校验失败", code=-111), 409),
    (RiskControlled("风控校验失败", code=-352), 409),
    (SensitiveSign("no", code=40015), 422),
    (EmojiSign("no", code=40021), 422),
    (SignTooLong("no", code=40022), 422),
]


@pytest.mark.parametrize(("error", "status"), EXPECTED, ids=lambda v: getattr(v, "args", v))
def test_each_error_has_its_status_and_its_own_text(error: BiliError, status: int) -> None:
    told = problem(error)
    assert (told.status, told.body["status"], told.body["detail"]) == (status, status, str(error))
    assert told.body["title"]
    assert told.headers["Content-Type"] == "application/problem+json"
    assert json.loads(json.dumps(told.body)) == told.body
    assert told.status != 401


@pytest.mark.parametrize(
    ("wait", "header"), [(2.1, "3"), (0.0, "1"), (60.0, "60"), (86400.0, "86400"), (None, None)]
)
def test_a_limit_tells_whole_seconds_that_are_never_too_few(
    wait: float | None, header: Any
) -> None:
    told = problem(RateLimited(scope="host", retry_after=wait))
    assert told.headers.get("Retry-After") == header


def test_only_a_limit_tells_when_to_come_again() -> None:
    assert "Retry-After" not in problem(ProtocolError("x", status=503, retry_after=9)).headers


def test_of_a_group_the_gravest_counts_and_the_longest_wait() -> None:
    waits = [RateLimited(scope="host", retry_after=wait) for wait in (3.0, 7.5)]
    group = ExceptionGroup("sections", [TransportError("x"), ExceptionGroup("more", waits)])
    assert problem(group).status == 503
    assert problem(group).headers["Retry-After"] == "8"
    dead = ExceptionGroup("all", [group, NotLoggedIn("no", code=-101)])
    assert problem(dead).status == 409
    assert "Retry-After" not in problem(dead).headers


@pytest.mark.parametrize("other", [ValueError("x"), ExceptionGroup("g", [KeyError("x")])])
def test_an_error_of_others_is_none_of_ours(other: Any) -> None:
    with pytest.raises(TypeError, match="expected a BiliError"):
        problem(other)
