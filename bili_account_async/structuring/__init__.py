"""JSON values to records and back, strict where a default converter coerces. No I/O, no HTTP.

This is the door, and the cattrs converter that writes. For reading, each type has a `Form`: those
of what is one JSON value stand in the table of `scalars`, `forms` finds those of all other types,
and `compiled` makes that of a record. `drift` finds the fields that nobody knows, `mismatch` holds
the errors.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from datetime import date, datetime
from enum import StrEnum
from functools import cache, partial
from operator import attrgetter, eq
from typing import Annotated, Any, Generic, NoReturn, TypeVar, cast, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn

from ..credential import Credential
from ..errors import SchemaError
from ..records import OpenEnum
from .compiled import renames
from .drift import unknown_fields
from .forms import Forms
from .mismatch import Mismatch, describe_value
from .scalars import SCALARS

__all__ = ["Reader", "describe_value", "structure", "unstructure"]

T = TypeVar("T")


class Reader(Generic[T]):
    """The reader of one type. Making one may take a millisecond, so keep it.

    Raises `TypeError`, with the path of the field, for a type that JSON can't give.
    """

    __slots__ = ("_form", "expected")

    def __init__(self, cls: type[T]) -> None:
        self._form = Forms().of(cls)
        self.expected = self._form.expected

    def read(
        self, value: object, root: tuple[str, ...] = (), endpoint: str | None = None
    ) -> T | SchemaError:
        """Return the value as a `cls`, or the error for the first thing in it that is wrong.

        `root` is where in a reply of `endpoint` the value stands. The error is returned, not
        raised, so that no traceback holds a frame with the value.
        """
        try:
            made: T = self._form.read(value)
            return made
        except Exception as error:  # noqa: BLE001 - a user's own validator may raise anything
            # In no variable: its traceback holds this frame.
            return Mismatch.of(error, self.expected, value, *reversed(root)).as_schema_error(
                value, endpoint
            )

    def unknown(self, value: object, redact: Callable[[str], str] = str) -> tuple[str, ...]:
        """Return the paths of the fields in `value`, which was read, that `cls` has no place for.

        They are cleaned, cut, and no more than a hundred. `redact` takes secrets out of each.
        """
        return unknown_fields(self._form, value, redact)


def structure(cls: type[T], value: object) -> T:
    """Return the JSON value as a `cls`.

    Raise `SchemaError`, with the path of the first thing that is wrong, for a value that does not
    fit, and `TypeError` for a type that JSON can't give.
    """
    made: T | SchemaError = _reader(cast(Any, cls)).read(value)
    if not isinstance(made, SchemaError):
        return made
    try:
        raise made
    finally:
        del made  # or the error, its traceback and this frame would hold each other


def unstructure(record: object) -> Any:
    """Return what `json.dumps` takes, under the API's own names.

    `structure(type(record), …)` gives the record back.
    """
    if not (attrs.has(type(record)) or isinstance(record, (OpenEnum, int))):
        _refuse(record)
    return _writer().unstructure(record)


@cache
def _reader(cls: Any) -> Reader[Any]:
    return Reader(cls)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"unstructure takes a record, not {type(value).__name__}")


@cache
def _writer() -> Converter:
    """Return the one converter that writes, made on first use."""
    lists: Any = {abc.Set: list, tuple: list}
    made = Converter(unstruct_collection_overrides=lists)
    made.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, made, **renames(cls))
    )
    for kind, form in SCALARS.items():
        if get_origin(kind) is Annotated:
            made.register_unstructure_hook_func(partial(eq, kind), cast(Any, form.write))
        elif form.write:
            made.register_unstructure_hook(kind, form.write)
    for base in (OpenEnum, StrEnum):
        made.register_unstructure_hook(base, attrgetter("value"))
    made.register_unstructure_hook(Credential, _refuse)
    made.register_unstructure_hook(datetime, datetime.isoformat)
    made.register_unstructure_hook(date, date.isoformat)
    made.register_unstructure_hook_func(partial(eq, frozenset[str]), sorted)
    return made
