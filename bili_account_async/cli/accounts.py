"""`bili-account accounts`: list, add and remove the accounts that `watch` polls.

Shows names, never logins.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ..credential import Credential
from ..errors import CredentialError
from .account import ask_login
from .accounts_file import Every, accounts_path, entries, entry_of, read_accounts, write_entry
from .failures import USAGE, describe, refuse
from .output import plain, say, show

accounts = typer.Typer(
    help="List, add and remove the accounts that `watch` polls.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(help="What you call the account.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Give an account that is there a new login.")
]


@accounts.command("list")
def list_accounts() -> None:
    """Show names and kinds of login."""
    found = read_accounts()
    for account in found:
        how_often = f", every {account.every}" if account.every else ""
        show(plain(f"{account.name}: {_kind(account.credential)}{how_often}"))
    if not found:
        say(f"No account in {accounts_path()}. `bili-account accounts add NAME` adds one.")


@accounts.command("add")
def add_account(name: Name, every: Every = None, replace: Replace = False) -> None:
    """Add an account. Its login is asked for without echo, or read from stdin."""
    if not name.isprintable() or not name.strip():
        raise typer.BadParameter("NAME: expected something that can be shown")
    existing = entries()
    if name in existing and not replace:
        advice = "choose another name; --replace gives it a new login"
        refuse(f"there is an account {name!r} already", advice, USAGE)
    try:
        credential = ask_login()
    except CredentialError as error:
        advice = "paste the Cookie header of a browser that is logged in, or pipe it to stdin"
        refuse(describe(error), advice, USAGE)
    old = existing.get(name)
    old_every = old.get("every") if isinstance(old, dict) else None
    write_entry(name, entry_of(credential, every or old_every))
    say(f"{name} ({_kind(credential)}) is in {accounts_path()}, which only you can read.")


@accounts.command("remove")
def remove_account(name: Name) -> None:
    """Remove an account. What the store has of it stays."""
    if name not in entries():
        advice = "`bili-account accounts list` shows those there are"
        refuse(f"there is no account {name!r}", advice, USAGE)
    write_entry(name, None)
    say(plain(f"{name} was removed from {accounts_path()}. Its coin ledger stays in the store."))


def _kind(credential: Credential) -> str:
    if credential.access_key:
        return "app token"
    if credential.dede_user_id:
        return "cookie"
    return "cookie without DedeUserID, so without coin_exp and security_info"
