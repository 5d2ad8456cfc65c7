"""The account that a command acts for, and the running of its work.

Here are the shared options, the ways to a login, the event loop and its signals.

A login is never an argument: the shell's history and the list of processes would keep it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from getpass import getpass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import typer

from ..credential import Credential
from ..errors import BiliError, CredentialError
from ..session import AccountSession, open_session
from .failures import fail
from .output import say

T = TypeVar("T")
Open = Callable[[], AbstractAsyncContextManager[AccountSession]]
_COOKIES_TXT_HELP = "Read the login from a browser's exported cookies."
CookiesTxt = Annotated[
    Path | None, typer.Option("--cookies-txt", metavar="PATH", help=_COOKIES_TXT_HELP)
]
InSandbox = Annotated[
    bool,
    typer.Option("--sandbox", help="Use an invented account on an imitation server: no login."),
]

_VARIABLES = ("BILI_COOKIE", "BILI_SESSDATA", "BILI_DEDE_USER_ID", "BILI_JCT", "BILI_ACCESS_KEY")
_PROMPT = "Cookie header or SESSDATA of your login (not shown): "
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 0.5
"""Seconds that tidying up after a signal may take."""


def choose(cookies_txt: Path | None, in_sandbox: bool) -> Open:
    """Return the opener of a session with the account that the options or the environment name.

    Without either, the user of a terminal is asked for the login.
    """
    if in_sandbox and cookies_txt is not None:
        raise typer.BadParameter("--sandbox and --cookies-txt: give one of them")
    if in_sandbox:
        from .demo import open_demo_session

        return open_demo_session
    try:
        credential = _find(cookies_txt)
    except CredentialError as error:
        fail(error)
    except OSError as error:  # the path is not shown: it could be a cookie, pasted there by mistake
        raise typer.BadParameter(f"--cookies-txt: can't read the file: {error.strerror}") from None
    return lambda: open_session(credential)


def _find(cookies_txt: Path | None) -> Credential:
    if cookies_txt is not None:
        return Credential.from_cookies_txt(cookies_txt)
    if any(map(os.environ.get, _VARIABLES)) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Credential.from_env()
    return ask_login()


def ask_login() -> Credential:
    """Return the login that a terminal's user pastes, without echo, or the first line of stdin."""
    try:
        if sys.stdin.isatty():
            pasted = getpass(_PROMPT, sys.stderr).strip()
        else:
            pasted = sys.stdin.readline().strip()
    except (EOFError, UnicodeError):
        pasted = ""
        say("")
    if pasted.startswith("access_key="):
        return Credential(access_key=pasted.removeprefix("access_key="))
    if "SESSDATA=" in pasted:
        return Credential.from_cookie_header(pasted)
    return Credential(sessdata=pasted)


def run(open_account: Open, work: Callable[[AccountSession], Awaitable[T]]) -> T:
    """Return the result of `work` for the account's session; a `BiliError` ends the command."""

    async def connected() -> T:
        async with open_account() as session:
            return await work(session)

    try:
        return run_until_signal(connected())
    except BiliError as error:
        fail(error)


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` as `asyncio.run` does, until it ends or a signal comes.

    SIGINT and SIGTERM end it within a second, with `SystemExit` of 128 + the signal's number.
    """
    received = 0

    async def watched() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(signum: int, _: FrameType | None) -> None:
            nonlocal received
            received = signum
            loop.call_soon_threadsafe(task.cancel)
            # A name lookup runs in a thread, which can't be cancelled and which the loop would wait
            # for.
            loop.call_soon_threadsafe(loop.call_later, _GRACE, os._exit, 128 + signum)

        outer = [signal.signal(signum, end) for signum in _SIGNALS]
        try:
            return await work
        finally:
            for signum, handler in zip(_SIGNALS, outer, strict=True):
                signal.signal(signum, handler)

    try:
        return asyncio.run(watched())
    except BaseException:
        if received:
            raise SystemExit(128 + received) from None
        raise
