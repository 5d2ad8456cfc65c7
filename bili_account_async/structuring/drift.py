"""Drift: the fields that came and that a record has no place for. The server has grown.

Their names are the server's own text. They are counted, redacted, cleaned and cut here, before
anybody keeps or shows one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import attrs

from .containers import inner_of, item_of
from .objects import fields_of, wire_names

NAMES_MAX = 100
"""Names that are told of one value."""
NAME_MAX = 200
"""Characters of a name, its path included."""

Redact = Callable[[str], str]
_Walk = Callable[[Any, dict[str, None]], None]
"""Puts the paths of a value's unknown fields, as they came, into the dict."""


def drift_finder(kind: Any) -> Callable[[Any, Redact], tuple[str, ...]]:
    """Return what gives the paths of the unknown fields in a value that was read as a `kind`.

    They are fit to be logged. `redact` sees each whole, or half a secret could stay where one is
    cut.
    """
    walk = _walker(kind, "", ())

    def find(value: Any, redact: Redact) -> tuple[str, ...]:
        found: dict[str, None] = {}
        if walk and value:
            walk(value, found)
        return tuple({_clean(redact(name)): None for name in found}) if found else ()

    return find


def _walker(kind: Any, prefix: str, around: tuple[Any, ...]) -> _Walk | None:
    """Return what walks through a `kind`; None if that has no fields.

    `around` are the classes that hold this one: one that holds itself is not walked into again.
    """
    if inner := inner_of(kind):
        return _walker(inner, prefix, around)
    if item := item_of(kind):
        each = _walker(item, f"{prefix}[]", around)
        return each and _items_walk(each)
    if not (attrs.has(kind) and isinstance(kind, type)) or kind in around:
        return None
    dot, names = f"{prefix}." if prefix else "", wire_names(kind)
    fields = {names[field.name]: field.type for field in fields_of(kind) if field.init}
    walks = ((name, _walker(fields[name], dot + name, (*around, kind))) for name in fields)
    return _fields_walk(dot, frozenset(fields), {name: walk for name, walk in walks if walk})


def _items_walk(walk_item: _Walk) -> _Walk:
    def walk(items: Any, found: dict[str, None]) -> None:
        for item in items:
            if item:
                walk_item(item, found)

    return walk


def _fields_walk(dot: str, known: frozenset[str], inner: dict[str, _Walk]) -> _Walk:
    def walk(value: Any, found: dict[str, None]) -> None:
        if not known.issuperset(value):
            new = (f"{dot}{name}" for name in value if name not in known)
            found.update(dict.fromkeys(islice(new, NAMES_MAX - len(found))))
        for name, walk_inside in inner.items():
            if inside := value.get(name):
                walk_inside(inside, found)

    return walk


def _clean(name: str) -> str:
    """Return the name cut, and without what could forge a log line or steer a terminal.

    Something stays where a character went: a secret must not grow together again.
    """
    shown = "".join(c if c.isprintable() else "?" for c in name[:NAME_MAX])
    return shown if len(name) <= NAME_MAX else f"{shown[:-1]}…"
