"""The errors of structuring, and how they tell what came and where.

`Unfit` and `Mismatch` stay inside this package: callers get a `SchemaError` for a value that does
not fit, and a `TypeError` for a type that no JSON value fits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from ..errors import SchemaError

Hook = Callable[[Any, Any], Any]
"""What cattrs calls with a value and the type that is wanted."""
ABSENT = object()
"""Stands for the value of a field that did not come."""


def describe_value(value: object) -> str:
    """Return what a `SchemaError` may tell of a value: its type, and bools and usual numbers."""
    if value is None or value is ABSENT:
        return "null" if value is None else "nothing"
    kind = type(value).__name__
    small = isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64)
    return f"{kind} {value!r}" if small else kind


def expecting(words: str) -> Callable[[Hook], Hook]:
    """Decorate a hook with what it takes, in words for an error."""

    def mark(hook: Hook) -> Hook:
        hook.expected = words  # type: ignore[attr-defined]
        return hook

    return mark


def words_of(hook: Any) -> str:
    """Return what the hook takes; those of cattrs' own do not say."""
    return getattr(hook, "expected", "a value that fits")


class Unfit(ValueError):
    """A value that is not of the kind wanted; its place knows what to say about it."""


class Mismatch(Exception):
    """An `Unfit` value with what its place takes. The path grows, innermost step first, while the
    error travels outward.
    """

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        self.path: list[str | int] = []

    @classmethod
    def of(cls, error: Exception, expected: str, value: object) -> Mismatch:
        """Return why the value does not fit: what was found deeper inside it, or what its hook
        raised, which may be a validator or an enum of the user's own.
        """
        if isinstance(error, cls):
            return error
        own = isinstance(error, Unfit) or value is ABSENT
        why = "" if own else f" ({type(error).__name__})"
        return cls(expected + why, describe_value(value))

    def at(self, step: str | int) -> Mismatch:
        """Return the error itself, one step further out."""
        self.path.append(step)
        return self

    def below(self, root: tuple[str, ...], payload: object, endpoint: str | None) -> SchemaError:
        """Return the caller's error; `payload` is the value read, which stood at `root`."""
        steps = (*root, *reversed(self.path))
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        path = path.removeprefix(".")
        return SchemaError(
            path=path, expected=self.expected, got=self.got, payload=payload, endpoint=endpoint
        )


class Unreadable(TypeError):
    """A type that no JSON value can become; `path` names the fields that lead to it."""

    def __init__(self, kind: Any, *path: str) -> None:
        self.kind, self.path = kind, path
        name, advice = getattr(kind, "__name__", str(kind)), ""
        if isinstance(kind, type) and issubclass(kind, date):
            advice = ": say how the API writes it, as with UnixSeconds or ChinaTime"
        elif variables := getattr(kind, "__parameters__", ()):
            advice = f": say what {variables[0]} is"
        place = "".join(f"{step}." for step in path)[:-1] + ": " * bool(path)
        super().__init__(f"{place}{name} can't be read from JSON{advice}")
