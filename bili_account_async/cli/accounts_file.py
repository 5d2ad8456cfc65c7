"""The file of accounts that `watch` polls: TOML of mode 0600 in the platform's config directory.

    [accounts.alice]
    sessdata = "…"  # with dede_user_id = … and bili_jct = "…"; or access_key = "…" in their place
    every = "30m"  # if not as often as the others

It holds logins: nobody sees it half written, it is not read while others may read it, and no value
of it is ever shown.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import attrs
import tomlkit
import typer
from platformdirs import user_config_path
from tomlkit.exceptions import TOMLKitError

from ..credential import Credential
from ..errors import CredentialError
from .failures import USAGE, refuse
from .output import plain, say

_PARTS = ("sessdata", "dede_user_id", "bili_jct", "access_key")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BY_HAND = "mend it in an editor"


@attrs.frozen
class Account:
    """One account of the file."""

    name: str
    credential: Credential
    every: timedelta | None = None


def interval(text: object) -> timedelta:
    """Read a time such as `90s`, `10m`, `1h30m` or `1d`.

    Raises `ValueError` for anything else, and for more than a year.
    """
    if isinstance(text, str) and re.fullmatch(r"([0-9]{1,6}[smhd]){1,4}", text):
        parts = re.findall(r"(\d+)(\w)", text)
        every = timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))
        if timedelta(0) < every <= timedelta(days=366):
            return every
    raise ValueError('every: expected a time up to a year, such as "90s", "10m" or "1h30m"')


def _option(text: str) -> str:
    try:
        interval(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


_EVERY_HELP = "How often to ask for all: 90s, 1h30m; if unsaid, by what changes how often."
Every = Annotated[str | None, typer.Option(metavar="TIME", parser=_option, help=_EVERY_HELP)]


def accounts_path() -> Path:
    """Return the place of the file; a link is followed."""
    return (user_config_path("bili-account", appauthor=False) / "accounts.toml").resolve()


def read_accounts() -> list[Account]:
    """Return the accounts of the file; one that is no good is left out, and told on stderr."""
    accounts = []
    for name, fields in entries().items():
        try:
            accounts.append(_account(name, fields))
        except (ValueError, CredentialError) as error:
            say(plain(f"error: {accounts_path()}: account {name!r}: {error}"), "red")
    return accounts


def _account(name: str, fields: Any) -> Account:
    if not isinstance(fields, dict):
        raise ValueError(f"expected a table [accounts.{name}]")
    for field in fields.keys() - {*_PARTS, "every"}:
        raise ValueError(f"{field[:20]}: is unknown; there are {', '.join(_PARTS)} and every")
    parts = {part: value for part, value in fields.items() if part != "every"}
    every = interval(fields["every"]) if "every" in fields else None
    return Account(name, Credential(**parts), every)


def entries() -> dict[str, Any]:
    """Return the entries of the file by the accounts' names, unchecked."""
    return _entries(_read())


def write_entry(name: str, entry: dict[str, object] | None) -> None:
    """Put this in the account's place, or with None take it out.

    The rest of the file stays as its owner wrote it.
    """
    path, text = accounts_path(), _read()
    wanted = _entries(text)
    try:
        document = tomlkit.parse(text)
        for accounts in (wanted, document.setdefault("accounts", tomlkit.table(True))):
            if entry is None:
                del accounts[name]
            else:
                accounts[name] = entry
        text = tomlkit.dumps(document)
        safe = tomllib.loads(text).get("accounts", {}) == wanted
    except (ValueError, TOMLKitError):
        safe = False
    if not safe:  # there are layouts that tomlkit breaks
        refuse(f"{path}: its layout can't be changed safely", _BY_HAND)
    try:
        _replace(path, text)
    except OSError as error:
        advice = "see that you may write there, and that there is room"
        refuse(f"can't write {path}: {error.strerror}", advice)


def entry_of(credential: Credential, every: object) -> dict[str, object]:
    """Return the entry of an account as the file holds it."""
    parts = {part: getattr(credential, part) for part in _PARTS} | {"every": every}
    return {field: value for field, value in parts.items() if value is not None}


def _read() -> str:
    path = accounts_path()
    try:
        with open(path, encoding="utf-8", newline="") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                problem = f"{path} holds logins, and others may open it"
                refuse(problem, f"chmod 600 {quote(str(path))}", USAGE)
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        refuse(f"can't read {path}: {reason}", _BY_HAND, USAGE)


def _entries(text: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # whose text may quote a value
        found = re.search(r"line \d+, column \d+|end of document", str(error))
        place = found[0] if found else "somewhere"
        refuse(f"{accounts_path()}: {place}: this is no TOML", _BY_HAND, USAGE)
    accounts = document.pop("accounts", {})
    if document or not isinstance(accounts, dict):
        refuse(f"{accounts_path()}: something in it is no [accounts.NAME]", _BY_HAND, USAGE)
    return accounts


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # of mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
