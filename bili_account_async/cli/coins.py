"""`bili-account coin-log`: the coins that came and went.

It shows the last week as Bilibili does or, with `--all`, everything that `watch` has ever seen.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Annotated

import typer

from ..endpoints import get_coin_log
from ..errors import BiliError
from ..records import CoinLog
from .account import CookiesTxt, InSandbox, choose, run, run_until_signal
from .failures import USAGE, fail, refuse
from .output import AsJson, plain, show, show_json, stdout_width
from .page import balance_chart, coin_table
from .store import StorePath, store_at

Ledger = Annotated[
    bool, typer.Option("--all", help="All that `watch` has ever seen, with a chart.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Of = Annotated[
    str | None,
    typer.Option("--account", metavar="NAME", help="With --all: whose, if there are several."),
]


def coin_log(
    cookies_txt: CookiesTxt = None,
    in_sandbox: InSandbox = False,
    json: AsJson = False,
    as_csv: AsCsv = False,
    ledger: Ledger = False,
    account: Of = None,
    store: StorePath = None,
) -> None:
    """List the coins that came and went in the last week."""
    if json and as_csv:
        raise typer.BadParameter("--json and --csv: give one of them")
    if (ledger and (in_sandbox or cookies_txt)) or (not ledger and (account or store)):
        raise typer.BadParameter(
            "--account and --store go with --all, --sandbox and --cookies-txt without it"
        )
    log = _all(account, store) if ledger else run(choose(cookies_txt, in_sandbox), get_coin_log)
    if json:
        show_json(log)
    elif as_csv:
        typer.echo(_as_csv(log), nl=False)
    elif ledger and not log.entries:
        show("No coins came or went since the first watch.")
    else:
        show(coin_table(log))
        if ledger:
            show(balance_chart(log, stdout_width()))


def _all(account: str | None, path: Path | None) -> CoinLog:
    store = store_at(path)
    if not os.path.exists(store.path):
        advice = "`bili-account watch` makes it, and fills it while it runs"
        refuse(f"there is no {store.path} yet", advice)

    async def read() -> CoinLog:
        async with store:
            names = await store.accounts()
            if account not in names and (account or len(names) != 1):
                none = "none: `bili-account watch` has seen no account yet"
                known = plain(", ".join(names)) or none
                problem = f"--account: expected one of those in {store.path}"
                refuse(problem, f"there are {known}", USAGE)
            entries = await store.ledger(account or names[0])
            return CoinLog(entries=entries, count=len(entries))

    try:
        return run_until_signal(read())
    except BiliError as error:
        fail(error)


def _as_csv(log: CoinLog) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("time", "delta", "reason"))
    for entry in log.entries:
        reason = plain(entry.reason)
        if reason[:1] in "=+-@":
            reason = f"'{reason}"  # or a spreadsheet would compute it as a formula
        rows.writerow((entry.time.isoformat(), f"{entry.delta:f}", reason))
    return text.getvalue()
