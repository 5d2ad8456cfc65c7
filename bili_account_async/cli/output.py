"""Where output goes: data to stdout, messages to stderr, colours only to a terminal that wants them.

Text that a server chose passes `plain` before it is shown. Nothing here reads markup.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from typing import Annotated, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from ..structuring import unstructure

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the API's own names.")]
PIPED_WIDTH = 80


def plain(text: str) -> str:
    """`text` on one line, without what could move a terminal's cursor, or colour or reorder its text."""
    return "".join(character if character.isprintable() else _stand_in(character) for character in text)


def _stand_in(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else "\N{REPLACEMENT CHARACTER}"


def show(what: RenderableType) -> None:
    """Data, on stdout; a text keeps its own lines, everything else is laid out in the width that there is."""
    _console(sys.stdout).print(what, soft_wrap=isinstance(what, str))


def show_json(record: object) -> None:
    """Data, on stdout, as one JSON document."""
    text = json.dumps(unstructure(record), ensure_ascii=False, indent=2)
    # JSON escapes the controls below U+0020, but a terminal obeys those above U+007E too.
    typer.echo(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text))


def say(text: str, style: str = "") -> None:
    """A message, on stderr: wrapped by a terminal's width, else on one line."""
    _console(sys.stderr).print(Text(text, style), soft_wrap=not sys.stderr.isatty())


def confirmed(question: str) -> bool:
    """Whether stdin says yes. The end of stdin is a no, as is everything else."""
    typer.echo(f"{question} [y/N] ", nl=False, err=True)  # click's own `confirm` writes to stdout
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def stdout_width() -> int:
    return _console(sys.stdout).width


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if terminal else PIPED_WIDTH,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
