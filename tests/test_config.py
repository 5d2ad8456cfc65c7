"""A wrong option is refused at once, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import attrs
import pytest

from bili_account_async import (
    Auth,
    Credential,
    Endpoint,
    Hosts,
    Limits,
    RateLimit,
    Retry,
    SessionManager,
    get_account_info,
    open_session,
)

NAN, INF = math.nan, math.inf
NO_SECONDS: list[Any] = [0, -1, 0.0, -0.5, NAN, -INF, True, False, "1", None, [1]]
NO_COUNT: list[Any] = [0, -1, 1.0, 2.5, NAN, INF, True, "1", [1]]


def refused(name: str, make: Callable[..., object], /, **options: Any) -> str:
    with pytest.raises(ValueError, match=f"^{name}\\b") as caught:
        make(**options)
    return str(caught.value)


@pytest.mark.parametrize("rate", [*NO_SECONDS, INF, 5e-324])
def test_a_rate_is_a_finite_number_above_zero(rate: Any) -> None:
    assert repr(rate) in refused("rate", RateLimit, rate=rate, burst=1)


@pytest.mark.parametrize("burst", [*NO_COUNT, None])
def test_a_burst_is_an_int_of_at_least_one(burst: Any) -> None:
    assert repr(burst) in refused("burst", RateLimit, rate=1, burst=burst)


def test_usual_rates_and_bursts_are_taken() -> None:
    assert (RateLimit(rate=0.01, burst=1).rate, RateLimit(rate=1000, burst=10**6).burst) == (
        0.01,
        10**6,
    )


@pytest.mark.parametrize("name", ["host", "account"])
@pytest.mark.parametrize("limit", [1, 1.0, "1/s", (1, 2), {"rate": 1, "burst": 1}, RateLimit])
def test_a_budget_is_a_rate_limit_or_none(name: str, limit: Any) -> None:
    refused(name, Limits, **{name: limit})
    assert getattr(Limits(**{name: None}), name) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", NO_COUNT)
def test_concurrency_is_an_int_of_at_least_one_or_none(concurrency: Any) -> None:
    refused("concurrency", Limits, concurrency=concurrency)
    assert Limits(concurrency=None).concurrency is None


@pytest.mark.parametrize("max_wait", [-1, -0.5, NAN, -INF, True, False, "1", [1]])
def test_max_wait_is_seconds_or_none(max_wait: Any) -> None:
    refused("max_wait", Limits, max_wait=max_wait)


@pytest.mark.parametrize("max_wait", [None, 0, 0.5, 3600])
def test_usual_max_waits_are_taken(max_wait: float | None) -> None:
    assert Limits(max_wait=max_wait).max_wait == max_wait


def test_the_default_limits_are_those_of_the_contract() -> None:
    limits = Limits()
    assert (limits.host, limits.account) == (
        RateLimit(rate=2, burst=12),
        RateLimit(rate=1, burst=12),
    )
    assert (limits.concurrency, limits.max_wait) == (16, None)


def test_no_limits_are_no_budgets_and_no_cap() -> None:
    assert Limits.none() == Limits(host=None, account=None, concurrency=None)


@pytest.mark.parametrize("attempts", [*NO_COUNT, None])
def test_attempts_are_an_int_of_at_least_one(attempts: Any) -> None:
    assert repr(attempts) in refused("attempts", Retry, attempts=attempts)


@pytest.mark.parametrize("name", ["attempt_timeout", "backoff", "backoff_max"])
@pytest.mark.parametrize("seconds", NO_SECONDS)
def test_the_times_of_a_retry_are_seconds_above_zero(name: str, seconds: Any) -> None:
    refused(name, Retry, **{name: seconds})


def test_the_default_retry_is_that_of_the_contract_and_none_is_one_attempt() -> None:
    assert (Retry().attempts, Retry().attempt_timeout) == (3, 4.0)
    assert Retry.none().attempts == 1


@pytest.mark.parametrize("cls", [Limits, Retry, RateLimit, Hosts])
def test_configuration_is_frozen_and_keyword_only(cls: Any) -> None:
    made = RateLimit(rate=1, burst=1) if cls is RateLimit else cls()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, attrs.fields(cls)[0].name, None)
    with pytest.raises(TypeError):
        cls(1)


@pytest.mark.parametrize("timeout", [*NO_SECONDS, INF, 1e307, 10**400])
def test_a_manager_s_timeout_is_a_finite_number_above_zero(timeout: Any) -> None:
    refused("timeout", SessionManager, timeout=timeout)


@pytest.mark.parametrize("timeout", [bad for bad in [*NO_SECONDS, INF] if bad is not None])
async def test_a_call_s_timeout_is_a_finite_number_above_zero_or_none(timeout: Any) -> None:
    async with open_session(Credential(sessdata="a")) as me:
        with pytest.raises(ValueError, match=r"^timeout\b"):
            await get_account_info(me, timeout=timeout)


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy.example:3128",
        "//proxy.example",
        "socks5://proxy.example:1080",
        "http://",
        "http://p:99999",
        "",
        5,
        b"http://p",
    ],
)
def test_a_proxy_is_an_http_url_and_what_is_wrong_with_it_is_told_without_it(proxy: Any) -> None:
    message = refused("proxy", SessionManager, proxy=proxy)
    assert "proxy.example" not in message


@pytest.mark.parametrize(
    "proxy",
    [None, "http://proxy.example:3128", "https://user:word@proxy.example", "http://[::1]:1/"],
)
def test_usual_proxies_are_taken(proxy: str | None) -> None:
    SessionManager(proxy=proxy)


def test_limits_and_a_limiter_exclude_each_other() -> None:
    limiter: Any = Mock(spec=["acquire", "release", "state"])
    assert "limiter" in refused("limits", SessionManager, limits=Limits(), limiter=limiter)
    SessionManager(limiter=limiter)


@pytest.mark.parametrize("agent", ["", "a\r\nX-Evil: 1", "a\0", "名字", "a\x7f", "a\tb"])
def test_a_user_agent_is_printable_ascii(agent: str) -> None:
    refused("user_agent", SessionManager, user_agent=agent)


def test_a_session_needs_a_credential() -> None:
    with pytest.raises(TypeError, match="expected Credential, got str") as caught:
        SessionManager().session("SESSDATA=5ecret")  # type: ignore[arg-type]
    assert "5ecret" not in str(caught.value)


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api", "www", "passport"])
@pytest.mark.parametrize(
    "url",
    [
        "http://api.bilibili.com",
        "http://192.168.1.1",
        "http://0.0.0.0",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://user@api.bilibili.com",
        "https://user:pass@api.bilibili.com",
        "https://@api.bilibili.com",
        "https://:@api.bilibili.com",
        "https://api.bilibili.com/x",
        "https://api.bilibili.com//",
        "https://api.bilibili.com?a=b",
        "https://api.bilibili.com/#a",
        "ftp://api.bilibili.com",
        "ws://localhost",
        "api.bilibili.com",
        "//api.bilibili.com",
        "https://",
        "https://:443",
        "https://api.bilibili.com:0",
        "https://api.bilibili.com:99999",
        "https://api.bilibili.com:x",
        "",
        None,
        5,
        b"https://api.bilibili.com",
    ],
)
def test_a_host_is_https_without_user_path_and_query(name: str, url: Any) -> None:
    assert "pass@" not in refused(name, Hosts, **{name: url})


@pytest.mark.parametrize(
    "url",
    [
        "https://api.bilibili.com",
        "https://api.bilibili.com/",
        "https://proxy.example:8443",
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:80",
        "http://localhost:1",
    ],
)
def test_a_host_may_be_another_https_host_or_a_loopback_one(url: str) -> None:
    assert Hosts(api=url).api.rstrip("/").removesuffix(":80") in url


def test_the_default_hosts_are_those_of_the_contract() -> None:
    assert Hosts() == Hosts(
        api="https://api.bilibili.com",
        www="https://www.bilibili.com",
        passport="https://passport.bilibili.com",
    )


# --- endpoints ------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "name": "get_it",
    "method": "GET",
    "host": "api",
    "path": "/x/it",
    "auth": Auth(),
    "returns": int,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "get"),
        ("method", "DELETE"),
        ("host", "api.bilibili.com"),
        ("host", "evil"),
        ("path", "x/it"),
        ("path", "//evil.example/x"),
        ("path", "/x?a=b"),
        ("path", "/x#a"),
        ("path", "/x y"),
        ("path", "/x\r\nHost: evil"),
        ("path", "/\\evil"),
        ("path", ""),
        ("result", ["data"]),
        ("result", "data"),
        ("result", (0,)),
    ],
)
def test_an_endpoint_that_can_not_be_is_refused_by_its_field(field: str, value: Any) -> None:
    refused(field, Endpoint, **GOOD | {field: value})


def test_an_endpoint_needs_an_auth() -> None:
    with pytest.raises((TypeError, ValueError), match="auth"):
        Endpoint(**GOOD | {"auth": "sessdata"})


@pytest.mark.parametrize("cookie", [("SESSDATA",), ("access_key",), "sessdata", ("sessdata", 1)])
def test_an_auth_names_parts_of_a_cookie(cookie: Any) -> None:
    refused("cookie", Auth, cookie=cookie)


def test_an_auth_made_of_a_list_can_still_be_a_key() -> None:
    parts: Any = ["sessdata", "bili_jct"]
    assert {Auth(parts): 1} == {Auth(("sessdata", "bili_jct")): 1}


def test_an_endpoint_is_a_frozen_value() -> None:
    endpoint: Any = Endpoint(**GOOD)
    assert endpoint == Endpoint(**GOOD)
    assert hash(endpoint) == hash(Endpoint(**GOOD))
    assert endpoint.result == ("data",)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        endpoint.path = "/y"
