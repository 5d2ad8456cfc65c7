"""The answer that a web application gives its client when Bilibili fails it. Pure; no framework.

The body is a problem document (RFC 9457), so that any framework can send it as JSON:

    return JSONResponse(problem.body, problem.status, problem.headers)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

import attrs

from .errors import (
    BiliError,
    CredentialError,
    CsrfRejected,
    InvalidSign,
    NotLoggedIn,
    RateLimited,
    RequestTimeout,
    RiskControlled,
)

_STATUSES: tuple[tuple[type[BiliError], int, str], ...] = (
    # Not 401: the web client's own login is fine, it is the account's that is not.
    (NotLoggedIn, 409, "The account has to log in again"),
    (CredentialError, 409, "The account's login does not suffice"),
    (CsrfRejected, 409, "The account's login does not suffice"),
    (RiskControlled, 409, "The account's owner has to act in a browser"),
    (RateLimited, 503, "Bilibili asks to slow down"),
    (RequestTimeout, 504, "Bilibili did not answer in time"),
    (InvalidSign, 422, "Bilibili does not take this sign"),
    (BiliError, 502, "Bilibili's answer was none that can be used"),
)
"""The status and title of each class of error.

The first row that fits counts, and of a group's errors the one that stands highest: an error that
the owner has to mend goes before one that passes by itself.
"""


@attrs.frozen
class Problem:
    """A status, headers and a JSON body for the web client."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, str | int]


def problem(error: BiliError | BaseExceptionGroup[BiliError]) -> Problem:
    """Return what to tell a web client of `error`, or of a group such as a strict snapshot raises.

    503 for a limit, with `Retry-After` in seconds if the wait is known; 504 for a timeout; 409 for
    a dead or missing login and risk control; 422 for a sign; 502 for all else. The body holds the
    error's own text, in which there is no secret. Raises `TypeError` for an error of others.
    """
    worst, (_, status, title) = min(
        ((one, row) for one in _leaves(error) for row in _STATUSES if isinstance(one, row[0])),
        key=lambda found: _STATUSES.index(found[1]),
    )
    headers = {"Content-Type": "application/problem+json"}
    waits = [
        one.retry_after
        for one in _leaves(error)
        if isinstance(one, RateLimited) and one.retry_after is not None
    ]
    if status == 503 and waits:
        headers["Retry-After"] = str(max(1, ceil(max(waits))))
    body: dict[str, str | int] = {"title": title, "status": status, "detail": str(worst)}
    return Problem(status, headers, body)


def _leaves(error: BaseException) -> Iterator[BiliError]:
    """Yield the errors in a group, or the one error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif isinstance(error, BiliError):
        yield error
    else:
        raise TypeError(f"error: expected a BiliError, got {type(error).__name__}")
