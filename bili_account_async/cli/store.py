"""The store that `watch` writes and `coin-log --all` reads.

It is an SQLite file in the platform's data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_data_path

from .failures import refuse

if TYPE_CHECKING:
    from ..store import SqliteStore

_HELP = "The file of snapshots and coin ledgers, if not the usual."
StorePath = Annotated[Path | None, typer.Option("--store", metavar="PATH", help=_HELP)]


def store_at(path: Path | None) -> SqliteStore:
    """Return the store in this file, else in the usual one, whose directory is made.

    It is not open yet.
    """
    try:
        from ..store import SqliteStore
    except ImportError:
        refuse("this needs the extra `store`", "pip install 'bili-account-async[cli,store]'")
    if path is None:
        path = user_data_path("bili-account", appauthor=False) / "store.sqlite3"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            advice = "name a file elsewhere with --store PATH"
            refuse(f"can't make {path.parent}: {error.strerror}", advice)
    return SqliteStore(path)
