"""`bili-account watch`: polls the accounts of the file for ever.

It shows a table in a terminal, and lines or JSON elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer
from rich.live import Live

from ..errors import BiliError
from ..polling import THRIFTY, Changed, Poller, PollEvent
from ..session import SessionManager
from ..structuring import unstructure
from .account import InSandbox, run_until_signal
from .accounts_file import Account, Every, accounts_path, interval, read_accounts
from .board import Board
from .failures import USAGE, fail, refuse
from .limits import machine_limiter
from .output import AsJson, say, show_json_line, stdout_console
from .store import StorePath, store_at

if TYPE_CHECKING:
    from ..store import SqliteStore

Fleet = AbstractAsyncContextManager[tuple[SessionManager, list[Account]]]
_TICK = 0.5
"""Seconds from one drawing of the table to the next."""


def watch(
    every: Every = None,
    store: StorePath = None,
    in_sandbox: InSandbox = False,
    json: AsJson = False,
) -> None:
    """Poll all accounts and tell what changes, until Ctrl-C."""
    if in_sandbox and store is not None:
        raise typer.BadParameter("--sandbox and --store: give one of them")
    fleet: Fleet
    database: SqliteStore | None = None
    if in_sandbox:
        from .demo import open_demo_fleet

        fleet = open_demo_fleet()
        say("Watching invented accounts on an imitation server until Ctrl-C.")
    else:
        accounts = read_accounts()
        if not accounts:
            advice = "`bili-account accounts add NAME` adds one"
            refuse(f"no account in {accounts_path()}", advice, USAGE)
        fleet, database = _own_fleet(accounts), store_at(store)
        say(f"Watching until Ctrl-C. What is known is kept in {database.path}.")
    try:
        run_until_signal(_watch(fleet, database, _pace(every, in_sandbox), json))
    except BiliError as error:
        fail(error)


def _pace(every: str | None, in_sandbox: bool) -> timedelta | Mapping[str, timedelta]:
    """Return how often to poll: as the user says, else each section as often as it changes."""
    if every is None:
        return timedelta(seconds=5) if in_sandbox else THRIFTY
    return interval(every)


@asynccontextmanager
async def _own_fleet(
    accounts: list[Account],
) -> AsyncIterator[tuple[SessionManager, list[Account]]]:
    async with SessionManager(limiter=machine_limiter()) as manager:
        yield manager, accounts


async def _watch(
    fleet: Fleet,
    store: SqliteStore | None,
    every: timedelta | Mapping[str, timedelta],
    json: bool,
) -> None:
    async with (
        store or nullcontext(),
        fleet as (manager, accounts),
        Poller(manager, every=every, store=store) as poller,
    ):
        for account in accounts:
            poller.add(account.name, account.credential, every=account.every)
        board = Board(poller, [account.name for account in accounts])
        if json:
            async for event in poller:
                _show_event(event)
        elif sys.stdout.isatty():
            await _show_table(poller, board)
        else:
            async for event in poller:
                for line in board.take(event):
                    stdout_console().print(_now().isoformat(" ", "seconds"), line, soft_wrap=True)


def _show_event(event: PollEvent) -> None:
    fields = unstructure(event)
    if isinstance(event, Changed):
        del fields["snapshot"]  # the event before it has told that
    show_json_line({"time": _now().isoformat(), "event": type(event).__name__} | fields)


async def _show_table(poller: Poller, board: Board) -> None:
    """Show all lines, and below them the table."""
    console, clock = stdout_console(), asyncio.get_running_loop().time
    with Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=sys.stderr.isatty(),
    ) as live:
        next_drawing = clock()
        while True:
            if clock() >= next_drawing:
                live.update(board.table(console.height), refresh=True)
                next_drawing = clock() + _TICK
            try:
                async with asyncio.timeout_at(next_drawing):
                    event = await anext(poller)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return
            for line in board.take(event):
                console.print(f"{_now():%H:%M:%S}", line)


def _now() -> datetime:
    return datetime.now(UTC).astimezone()
