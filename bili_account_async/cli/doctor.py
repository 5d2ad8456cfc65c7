"""`bili-account doctor`: a bug report of replies that differ from the documented ones.

Names, types and codes only: the report holds no value of the account, and no name that could be
one.
"""

from __future__ import annotations

import asyncio
import json
import platform
import re
from typing import Any

import aiohttp
import typer

from .._version import __version__
from ..endpoints import Endpoint
from ..errors import ApiError, BiliError, CredentialMissing, RateLimited, SchemaError
from ..session import AccountSession
from ..snapshot import SECTIONS
from .account import CookiesTxt, InSandbox, choose, run
from .failures import ERROR, fail
from .output import plain, say, show

_DEEPEST, _WIDEST = 6, 60
_JSON_TYPES = {dict: "object", list: "list", type(None): "null"}


def doctor(cookies_txt: CookiesTxt = None, in_sandbox: InSandbox = False) -> None:
    """Report how the replies differ from the documented ones."""
    found = run(choose(cookies_txt, in_sandbox), _examine_all)
    package = f"bili-account-async {__version__}, aiohttp {aiohttp.__version__}"
    system = f"Python {platform.python_version()}, {platform.system()}"
    lines = [f"{package}, {system}", *(line for report, _ in found for line in report)]
    show("\n".join(map(plain, lines)))
    say("The report holds no values of the account: it can go into a bug report as it is.")
    failed = [error for _, error in found if error is not None]
    for error in failed:
        if not isinstance(error, SchemaError):
            fail(error)
    if failed:
        raise typer.Exit(ERROR)


async def _examine_all(session: AccountSession) -> list[tuple[list[str], BiliError | None]]:
    return await asyncio.gather(*(_examine(session, endpoint) for endpoint in SECTIONS.values()))


async def _examine(
    session: AccountSession, endpoint: Endpoint[Any]
) -> tuple[list[str], BiliError | None]:
    """Return the report's lines on this endpoint, and the error that it gave, if any."""
    name = endpoint.name
    try:
        reply = await session.call_raw(endpoint)
    except CredentialMissing as error:
        return [f"{name}: skipped, {error.args[0]}"], None
    except SchemaError as error:
        got = error.got.split()[0]  # the rest is a value
        wrong = f"  {_masked(error.path)}: expected {error.expected}, got {got}"
        return [f"{name}: wrong", wrong, _payload_line(error.payload)], error
    except (ApiError, RateLimited) as error:  # the message is the server's, and could hold anything
        return [f"{name}: {type(error).__name__}, code {error.code}"], error
    except BiliError as error:
        return [f"{name}: {type(error).__name__}, {error.args[0]}"], error
    if not reply.unknown_fields:
        return [f"{name}: ok"], None
    unknown = sorted({f"  {_masked(path)}: unknown" for path in reply.unknown_fields})
    return [f"{name}: ok, with unknown fields", *unknown, _payload_line(reply.payload)], None


def _payload_line(payload: object) -> str:
    return f"  came: {json.dumps(_outline(payload, 0))}"


def _outline(value: object, depth: int) -> object:
    """Return `value` with types in the place of values; a list is told by its first item."""
    if isinstance(value, dict) and depth < _DEEPEST:
        return {_masked(name): _outline(value[name], depth + 1) for name in list(value)[:_WIDEST]}
    if isinstance(value, list) and value and depth < _DEEPEST:
        return [_outline(value[0], depth + 1)]
    return _JSON_TYPES.get(type(value)) or type(value).__name__


def _masked(path: str) -> str:
    """Return `path`, with `***` for every name that does not look like one.

    It may be a number, a token or a text of the account's.
    """
    return ".".join(name if _is_name(name) else "***" for name in path.split("."))


def _is_name(name: str) -> bool:
    word = re.fullmatch(r"[A-Za-z_]\w{0,31}(\[\d*\])?", name, re.ASCII)
    return word is not None and len(re.findall(r"\d", name)) < 4
