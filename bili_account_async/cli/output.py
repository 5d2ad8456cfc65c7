"""The output: data to stdout, messages to stderr, colours only to a terminal that wants them.

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
    """Return `text` on one line, with nothing that moves a terminal's cursor or reorders text."""
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else "\N{REPLACEMENT CHARACTER}"


def show(what: RenderableType) -> None:
    """Print data on stdout.

    A text keeps its own lines, everything else is laid out in the width that there is.
    """
    _console(sys.stdout).print(what, soft_wrap=isinstance(what, str))


def show_json(record: object) -> None:
    """Print data on stdout as one JSON document."""
    _show_json_text(json.dumps(unstructure(record), ensure_ascii=False, indent=2))


def show_json_line(document: object) -> None:
    """Print data on stdout as JSON on one line."""
    _show_json_text(json.dumps(document, ensure_ascii=False))


def _show_json_text(text: str) -> None:
    # JSON itself escapes the controls below U+0020; terminals obey more, and some readers see more
    # ends of lines.
    typer.echo(re.sub("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", _escaped, text))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def say(text: str, style: str = "") -> None:
    """Print a message on stderr: wrapped by a terminal's width, else on one line."""
    _console(sys.stderr).print(Text(text, style), soft_wrap=not sys.stderr.isatty())


def confirmed(question: str) -> bool:
    """Ask on stderr, and return True if stdin says yes; its end is a no, as is all else."""
    typer.echo(f"{question} [y/N] ", nl=False, err=True)  # click's own `confirm` writes to stdout
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def stdout_width() -> int:
    return stdout_console().width


def stdout_console() -> Console:
    return _console(sys.stdout)


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
