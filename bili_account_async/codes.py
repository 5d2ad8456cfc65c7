"""The table of the API's codes: for each the error's class, its scope, and its chance of a retry.

Everything that depends on a code is read from here: `wire.py` takes the class and the scope,
`retry.py` the chance. A code that is not in the table is a plain `ApiError`, never retried.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from .errors import (
    ApiError,
    CsrfRejected,
    EmojiSign,
    NotLoggedIn,
    RiskControlled,
    Scope,
    SensitiveSign,
    SignTooLong,
)


@attrs.frozen
class Meaning:
    """The meaning of one code."""

    error: type[ApiError] = ApiError
    """The class of the error, unless it is a limit."""
    scope: Scope | None = None
    """The reach of a limit, which is a `RateLimited`; None for an error that is none."""
    retry: bool = False
    """True if the same GET, sent again a little later, may succeed."""


_DEAD_LOGIN = Meaning(NotLoggedIn)
_ACCOUNT_LIMIT = Meaning(scope="account", retry=True)
_PASSING = Meaning(retry=True)

UNKNOWN = Meaning()
"""The meaning of every code outside the table."""

CODES: Mapping[int, Meaning] = MappingProxyType(
    {
        # The login: -101 is documented. Servers also say -2 and -401 for a dead token, -658 for an
        # expired one, 61000 for a login that was ended elsewhere. (-663 is about signatures.)
        -101: _DEAD_LOGIN,
        -2: _DEAD_LOGIN,
        -401: _DEAD_LOGIN,
        -658: _DEAD_LOGIN,
        61000: _DEAD_LOGIN,
        -111: Meaning(CsrfRejected),
        # Risk control needs a person in a browser.
        -352: Meaning(RiskControlled),
        # Limits: -412 is the firewall in front of a host, the others count one account's calls.
        -412: Meaning(scope="host", retry=True),
        -509: _ACCOUNT_LIMIT,
        -702: _ACCOUNT_LIMIT,
        -799: _ACCOUNT_LIMIT,
        # Trouble behind the API's own door, as HTTP's 500, 503 and 504.
        -500: _PASSING,
        -503: _PASSING,
        -504: _PASSING,
        # Sign update.
        40015: Meaning(SensitiveSign),
        40021: Meaning(EmojiSign),
        40022: Meaning(SignTooLong),
    }
)


def meaning_of(code: int) -> Meaning:
    """Return what the API means by a non-zero `code`."""
    return CODES.get(code, UNKNOWN)
