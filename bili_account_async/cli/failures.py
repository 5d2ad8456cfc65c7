"""The user's side of a failure: the error in words, advice on what to do next, the exit code."""

from __future__ import annotations

from typing import NoReturn

import typer

from .. import errors
from .output import plain, say

ERROR, USAGE, NOT_LOGGED_IN = 1, 2, 4

_HAND_OVER = "set BILI_COOKIE='SESSDATA=…; DedeUserID=…; bili_jct=…' or use --cookies-txt PATH"
_OTHER_TEXT = "choose another text: at most 70 characters, no emoji, no emotes, no barred words"
_NEXT: dict[type[errors.BiliError], str] = {
    errors.CredentialMissing: f"hand over the whole cookie of one login: {_HAND_OVER}",
    errors.CredentialError: f"{_HAND_OVER}; --sandbox needs no login",
    errors.NotLoggedIn: f"log in again in a browser, then {_HAND_OVER}",
    errors.CsrfRejected: f"take SESSDATA and bili_jct from the same login: {_HAND_OVER}",
    errors.RiskControlled: (
        "open the account in a browser and do what Bilibili asks there; don't try again before"
    ),
    errors.SensitiveSign: _OTHER_TEXT,
    errors.EmojiSign: _OTHER_TEXT,
    errors.SignTooLong: _OTHER_TEXT,
    errors.ApiError: "try the same in a browser; if it works there, report a bug with this code",
    errors.RateLimited: "wait some minutes, then try again",
    errors.SchemaError: (
        "run `bili-account doctor` and paste its report, which shows no values, into a bug report"
    ),
    errors.RequestTimeout: "check the network (VPN, firewall), then try again",
    errors.TransportError: (
        "check the network: DNS, VPN, firewall, a proxy (proxy variables are not read)"
    ),
    errors.ProtocolError: (
        "try again in some minutes; if it stays, something may answer in Bilibili's place "
        "(a proxy?)"
    ),
}
"""By class; a subclass without an entry has its base's.

What the store says of itself is advice already.
"""


def fail(error: errors.BiliError) -> NoReturn:
    """Say on stderr what happened and what to do next, and end the command."""
    unsent_sign = isinstance(error, errors.InvalidSign) and not error.code
    code = USAGE if isinstance(error, errors.CredentialError) or unsent_sign else ERROR
    if isinstance(error, errors.NotLoggedIn):
        code = NOT_LOGGED_IN
    refuse(describe(error), _next(error), code)


def refuse(problem: str, advice: str, code: int = ERROR) -> NoReturn:
    """End the command with what is wrong and what to do next.

    `advice` is empty where the problem tells it already.
    """
    say(f"error: {plain(problem)}", "red")
    if advice:
        say(f"next:  {plain(advice)}")
    raise typer.Exit(code)


def describe(error: errors.BiliError) -> str:
    """Return the error on one line, safe for a terminal."""
    if isinstance(error, errors.ApiError) and error.code:  # its own text brings advice too
        return plain(f"{error.endpoint}: {error.message or 'refused'} (code {error.code})")
    return plain(str(error))


def _next(error: errors.BiliError) -> str:
    match error:
        case errors.RateLimited(retry_after=float(seconds)):
            return f"wait {seconds:.0f} s, then try again"
        case errors.TransportError(sent=True, endpoint="update_sign" | "clear_sign"):
            look = "look with `bili-account sign show` in some minutes"
            return f"it may have been asked for all the same: {look}"
    return next((_NEXT[kind] for kind in type(error).__mro__ if kind in _NEXT), "")
