"""The failures that are worth a retry, the waits before them, and the budget for them.

Pure: no loop, no clock.
"""

from __future__ import annotations

import math
from random import Random

import attrs
import pytest

from bili_account_async import (
    ENDPOINTS,
    ApiError,
    CsrfRejected,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    Retry,
    RiskControlled,
    SchemaError,
    TransportError,
)
from bili_account_async.retry import (
    EARNED,
    ENDPOINT_RESERVE,
    RESERVE,
    RetryBudget,
    may_retry,
)

GET, POST = ENDPOINTS["get_vip_info"], ENDPOINTS["update_sign"]


@pytest.mark.parametrize(
    ("field", "bad"),
    [("attempts", bad) for bad in (0, -1, 1.5, math.nan, "3", True, None)]
    + [
        (field, bad)
        for field in ("attempt_timeout", "backoff", "backoff_max")
        for bad in (0, -1, math.nan, 10**400, "1", True)
    ]
    + [("backoff", math.inf), ("backoff_max", math.inf)],
)
def test_a_retry_that_can_not_be_is_refused_by_the_name_of_its_field(field, bad):
    with pytest.raises(ValueError, match=f"^{field}: "):
        Retry(**{field: bad})


def test_none_is_one_attempt_with_all_of_the_timeout():
    assert attrs.evolve(Retry.none(), backoff=1.0) == Retry(
        attempts=1, attempt_timeout=math.inf, backoff=1.0
    )


@pytest.mark.parametrize(
    ("error", "get", "post"),
    [
        (TransportError("reset"), True, False),
        (TransportError("refused", sent=False), True, True),
        (
            TransportError("its TLS certificate is not valid", sent=False, certificate=True),
            False,
            False,
        ),
        (TransportError("its TLS certificate is not valid", certificate=True), False, False),
        (RequestTimeout("no answer within 4 s"), True, False),
        (ProtocolError("an HTTP error", status=500), True, False),
        (ProtocolError("an HTTP error", status=503, retry_after=1.0), True, False),
        (ProtocolError("an HTTP error", status=404), False, False),
        (ProtocolError("a redirect", status=302), False, False),
        (ProtocolError("not a JSON envelope", status=200), False, False),
        (ProtocolError("the answer is not HTTP"), False, False),
        (RateLimited(scope="host", status=412), True, False),
        (RateLimited(scope="account", status=200, code=-509), True, False),
        (RateLimited(scope="local"), False, False),
        (ApiError("", code=-500), True, False),
        (ApiError("", code=-503), True, False),
        (ApiError("", code=-504), True, False),
        (ApiError("", code=-400), False, False),
        (NotLoggedIn("", code=-101), False, False),
        (CsrfRejected("", code=-111), False, False),
        (RiskControlled("", code=-352), False, False),
        (SchemaError(path="data", expected="an object", got="null"), False, False),
    ],
    ids=repr,
)
def test_only_what_can_pass_by_itself_is_tried_again_and_a_post_only_if_nothing_of_it_left(
    error, get, post
):
    assert may_retry(GET, error) == get
    assert may_retry(POST, error) == post


def test_the_wait_is_anywhere_below_a_bound_that_doubles_up_to_its_own_bound():
    retry = Retry(backoff=0.25, backoff_max=5.0)
    assert [retry.wait_before(n, 1.0) for n in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [
        0.25,
        0.5,
        1,
        2,
        4,
        5,
        5,
        5,
    ]
    assert retry.wait_before(3, 0.0) == 0
    assert retry.wait_before(3, 0.5) == 0.5


def test_a_budget_gives_its_reserve_and_then_a_fifth_of_a_retry_for_every_success():
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(1000)) == RESERVE <= 50
    for _ in range(100):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == pytest.approx(100 * EARNED, abs=1)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == RESERVE


@pytest.mark.parametrize("share_of_failures", [0.1, 0.5, 0.9, 1.0])
def test_whatever_fails_requests_stay_within_1_2_of_the_calls_and_the_reserve(share_of_failures):
    budget, rng, sent, calls = RetryBudget(), Random(1), 0, 20_000
    for _ in range(calls):
        for attempt in range(3):
            sent += 1
            if rng.random() >= share_of_failures:
                budget.earn()
                break
            if attempt == 2 or not budget.spend():
                break
    assert sent <= (1 + EARNED) * calls + RESERVE


def test_an_endpoint_that_always_fails_takes_its_own_reserve_and_no_more_of_the_host_s():
    host = RetryBudget()
    broken, healthy = RetryBudget(host), RetryBudget(host)
    assert sum(broken.spend() for _ in range(1000)) == ENDPOINT_RESERVE < RESERVE
    for _ in range(1000):
        healthy.earn()
        assert not broken.spend()
    assert sum(healthy.spend() for _ in range(1000)) == ENDPOINT_RESERVE


def test_the_retries_of_all_endpoints_stay_within_the_host_s_budget():
    host = RetryBudget()
    endpoints = [RetryBudget(host) for _ in range(9)]
    assert sum(one.spend() for one in endpoints * 100) == RESERVE
