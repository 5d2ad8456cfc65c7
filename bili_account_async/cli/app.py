"""The Typer app and its short commands.

A command says which account to ask, and which answer to show; the other files know how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import typer

from .._version import __version__
from ..endpoints import clear_sign, get_account_info, update_sign
from ..session import AccountSession
from ..snapshot import ALL_SECTIONS, fetch_snapshot
from .account import CookiesTxt, InSandbox, Open, choose, run
from .accounts import accounts
from .coins import coin_log
from .doctor import doctor
from .failures import ERROR, describe, fail
from .output import AsJson, confirmed, plain, say, show, show_json, stdout_width
from .page import page
from .sandbox import sandbox
from .watch import watch

_EPILOG = """\b
The login comes from --cookies-txt, else from the environment: BILI_COOKIE, or
BILI_SESSDATA with BILI_DEDE_USER_ID and BILI_JCT, or BILI_ACCESS_KEY; else a
terminal asks for it, without echo. It is never an argument. `watch` has logins
of its own: see `accounts`.

\b
Exit codes: 0 done, 1 error, 2 wrong usage or no usable login, 4 not logged in
(log in again), 130 interrupted, 143 terminated.
"""

# Without markup, help and usage errors are plain text, wherever they go.
app = typer.Typer(
    help="Your own Bilibili account in the terminal. Unofficial, polite, shows no secret.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
sign = typer.Typer(
    help="Show, set or clear the account's sign.", no_args_is_help=True, rich_markup_mode=None
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bili-account {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
def snapshot(
    cookies_txt: CookiesTxt = None, in_sandbox: InSandbox = False, json: AsJson = False
) -> None:
    """Show the whole account on one page."""
    taken = run(choose(cookies_txt, in_sandbox), fetch_snapshot)
    has_sections = any(getattr(taken, section) is not None for section in ALL_SECTIONS)
    if json:
        show_json(taken)
        for section, error in taken.failures.items():
            say(f"warning: {section} is missing: {describe(error)}", "yellow")
    elif has_sections:
        show(page(taken, stdout_width()))
    if not has_sections:
        fail(next(iter(taken.failures.values())))


@app.command()
def whoami(
    cookies_txt: CookiesTxt = None, in_sandbox: InSandbox = False, json: AsJson = False
) -> None:
    """Say whose login this is."""
    info = run(choose(cookies_txt, in_sandbox), get_account_info)
    if json:
        show_json(info)
    else:
        rank = f", {info.rank}" if info.rank else ""
        show(plain(f"{info.uname} (mid {info.mid}{rank})"))


@sign.command("show")
def show_sign(cookies_txt: CookiesTxt = None, in_sandbox: InSandbox = False) -> None:
    """Print the sign as it stands."""
    show(plain(run(choose(cookies_txt, in_sandbox), get_account_info).sign))


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Change it without asking.")]


@sign.command("set")
def set_sign(
    text: Annotated[str, typer.Argument(help="The new sign, at most 70 characters.")],
    yes: Yes = False,
    cookies_txt: CookiesTxt = None,
    in_sandbox: InSandbox = False,
) -> None:
    """Ask for a new sign; it shows once Bilibili's review is over."""
    work = partial(update_sign, user_sign=text)
    try:
        _change(choose(cookies_txt, in_sandbox), yes, f"to: {plain(text)}", work)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@sign.command("clear")
def delete_sign(
    yes: Yes = False, cookies_txt: CookiesTxt = None, in_sandbox: InSandbox = False
) -> None:
    """Ask for an empty sign; it shows once Bilibili's review is over."""
    _change(choose(cookies_txt, in_sandbox), yes, "to nothing", clear_sign)


def _change(
    account: Open, yes: bool, how: str, work: Callable[[AccountSession], Awaitable[None]]
) -> None:
    if not yes:
        info = run(account, get_account_info)
        say(plain(f"The sign of {info.uname} (mid {info.mid}) is: {info.sign}"))
        yes = confirmed(f"Change it {how}?")
    if not yes:
        say("Nothing was changed. --yes changes it without asking.")
        raise typer.Exit(ERROR)
    run(account, work)
    say("Asked for. The change waits in Bilibili's review and shows later.")


app.command()(coin_log)
app.add_typer(sign, name="sign")
app.command()(watch)
app.add_typer(accounts, name="accounts")
app.command()(sandbox)
app.command()(doctor)
