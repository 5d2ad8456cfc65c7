"""Drift: the fields that came and that a record has no place for. The server has grown.

Their names are the server's own text. They are counted, redacted, cleaned and cut here, before
anybody keeps or shows one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from .scalars import Form

NAMES_MAX = 100
"""Names that are told of one value."""
NAME_MAX = 200
"""Characters of a name, its path included."""


def unknown_fields(form: Form, value: Any, redact: Callable[[str], str]) -> tuple[str, ...]:
    """Return the paths of the unknown fields in a value that was read by this form.

    They are fit to be logged. `redact` sees each whole, or half a secret could stay where one is
    cut.
    """
    found: dict[str, None] = {}
    if form.known:  # else it is no record
        _walk(form, value, "", found)
    return tuple({_clean(redact(path)): None for path in found}) if found else ()


def _walk(form: Form, value: Any, path: str, found: dict[str, None]) -> None:
    """Put the paths of the unknown fields into `found`, as they came."""
    if value.__class__ is list:
        path += "[]"
        known, deeper = form.known, bool(form.inside)
        for item in value:
            if deeper or (item and not known.issuperset(item)):
                _walk(form, item, path, found)
    elif value:  # not null
        dot = f"{path}." if path else ""
        if not form.known.issuperset(value):
            new = (f"{dot}{name}" for name in value if name not in form.known)
            found.update(dict.fromkeys(islice(new, NAMES_MAX - len(found))))
        for name, inner in form.inside:
            _walk(inner, value.get(name), dot + name, found)


def _clean(name: str) -> str:
    """Return the name cut, and without what could forge a log line or steer a terminal.

    Something stays where a character went: a secret must not grow together again.
    """
    shown = "".join(c if c.isprintable() else "?" for c in name[:NAME_MAX])
    return shown if len(name) <= NAME_MAX else f"{shown[:-1]}…"
