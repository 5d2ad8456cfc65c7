"""The errors of structuring, and how they tell what came and where.

`Unfit` and `Mismatch` stay inside this package: callers get a `SchemaError` for a value that does
not fit, and an `Unreadable`, which to them is a `TypeError`, for a type that no JSON value fits.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from ..errors import SchemaError

ABSENT = object()
"""Stands for the value of a field that did not come."""


def describe_value(value: object) -> str:
    """Return what a `SchemaError` may tell of a value: its type, and bools and usual numbers."""
    if value is None or value is ABSENT:
        return "null" if value is None else "nothing"
    kind = type(value).__name__
    small = isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64)
    return f"{kind} {value!r}" if small else kind


class Unfit(ValueError):
    """A value that is not of the kind wanted; its place knows what to say about it."""


class Mismatch(Exception):
    """An unfit value, what its place takes, and the way to it.

    `steps` grow while the error travels outward, the innermost first.
    """

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        self.steps: list[str | int] = []

    @classmethod
    def of(cls, error: Exception, expected: str, value: object, *steps: str | int) -> Mismatch:
        """Return why the value at the last of `steps` does not fit, one place further out.

        `error` is what was raised while it was read: a `Mismatch` from deeper inside it, or what
        its reader raised, which may be a validator or an enum of the user's own.
        """
        if not isinstance(error, cls):
            own = isinstance(error, Unfit) or value is ABSENT
            why = "" if own else f" ({type(error).__name__})"
            error = cls(expected + why, describe_value(value))
        error.steps += steps
        return error

    def as_schema_error(self, payload: object, endpoint: str | None) -> SchemaError:
        """Return the caller's error; `payload` is the whole value that was read."""
        steps = reversed(self.steps)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        return SchemaError(
            path=path.removeprefix("."),
            expected=self.expected,
            got=self.got,
            payload=payload,
            endpoint=endpoint,
        )


class Unreadable(TypeError):
    """A type that no JSON value can become; `path` are the names of the fields that lead to it."""

    def __init__(self, kind: Any, path: tuple[str, ...]) -> None:
        place = f"{'.'.join(path)}: " if path else ""
        advice = ""
        if isinstance(kind, type) and issubclass(kind, date):
            advice = ": say how the API writes it, as with UnixSeconds or ChinaTime"
        elif variables := getattr(kind, "__parameters__", ()):
            advice = f": say what {variables[0]} is"
        name = getattr(kind, "__name__", str(kind))
        super().__init__(f"{place}{name} can't be read from JSON{advice}")
