"""JSON values to records and back, strict where a default converter coerces. No I/O, no HTTP.

This is the door, and the cattrs converter behind it. The rooms: `scalars` is the table of what is
one JSON value, `containers` are lists, mappings and enums, `objects` what has fields, `drift` finds
the fields that nobody knows, `mismatch` holds the errors.
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Callable
from datetime import date, datetime
from enum import Enum, StrEnum
from functools import cache, partial
from operator import attrgetter, eq
from pathlib import PurePath
from threading import get_ident
from typing import Annotated, Any, Generic, NoReturn, TypeVar, cast, get_origin

import attrs
from cattrs import Converter, StructureHandlerNotFoundError
from cattrs.cols import is_namedtuple

from ..credential import Credential
from ..errors import SchemaError
from ..records import OpenEnum
from .containers import CONTAINERS, choice_hook, named_tuple_writer
from .drift import drift_finder
from .mismatch import Hook, Mismatch, Unreadable, describe_value, expecting, words_of
from .objects import is_cattrs_own, object_hook, record_hook, record_writer
from .scalars import SCALARS

__all__ = ["Reader", "describe_value", "structure", "unstructure"]

T = TypeVar("T")


class Reader(Generic[T]):
    """The reader of one type. Making one may take a millisecond, so keep it.

    Raises `TypeError`, with the path of the field, for a type that JSON can't give.
    """

    __slots__ = ("_cls", "_find", "_hook", "expected")

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls
        self._hook = _converter().get_structure_hook(cls)
        self._find = drift_finder(cls)
        self.expected = words_of(self._hook)
        """What a value has to be, in words for an error."""

    def read(
        self, value: object, root: tuple[str, ...] = (), endpoint: str | None = None
    ) -> T | SchemaError:
        """Return the value as a `cls`, or the error for the first thing in it that is wrong.

        `root` is where in a reply of `endpoint` the value stands. The error is returned, not
        raised, so that no traceback holds a frame with the value.
        """
        try:
            made: T = self._hook(value, self._cls)
            return made
        except Exception as error:  # noqa: BLE001 - a user's own hook or validator may raise anything
            return Mismatch.of(error, self.expected, value).below(root, value, endpoint)

    def unknown(self, value: object, redact: Callable[[str], str] = str) -> tuple[str, ...]:
        """Return the paths of the fields in `value`, which was read, that `cls` has no place for.

        They are cleaned, cut, and no more than a hundred. `redact` takes secrets out of each.
        """
        return self._find(value, redact)


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
    return _converter().unstructure(record)


@cache
def _reader(cls: Any) -> Reader[Any]:
    return Reader(cls)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"unstructure takes a record, not {type(value).__name__}")


class _Converter(Converter):
    """cattrs' converter, but what it can't read is an `Unreadable`, and a class may hold itself."""

    def __init__(self) -> None:
        lists: Any = {abc.Set: list, tuple: list, deque: list}
        super().__init__(detailed_validation=False, unstruct_collection_overrides=lists)
        self.making: set[tuple[int, Any]] = set()

    def get_structure_hook(self, kind: Any, cache_result: bool = True) -> Hook:
        if isinstance(kind, type) and issubclass(kind, (bytes, PurePath)):
            raise Unreadable(kind)  # cattrs would make one of whatever comes
        if isinstance(kind, type) and issubclass(kind, Enum):
            return choice_hook(kind)  # cattrs would take an IntEnum for an int
        try:
            return super().get_structure_hook(kind, cache_result)
        except RecursionError:  # it is being made: it will be looked up when it is needed
            return self.structure
        except StructureHandlerNotFoundError:
            raise Unreadable(kind) from None

    def make_record_hook(self, cls: Any) -> Hook:
        """Return what reads the record; raise `RecursionError` while that is being compiled."""
        key = get_ident(), cls
        if key in self.making:
            raise RecursionError
        self.making.add(key)
        try:
            return record_hook(cls, self)
        finally:
            self.making.discard(key)


@cache
def _converter() -> Converter:
    """Return the one converter of this package, made on first use."""
    made = _Converter()
    # cattrs asks for classes first, then the predicates, the newest first.
    made.register_structure_hook_factory(attrs.has, made.make_record_hook)
    for includes, factory in CONTAINERS:
        made.register_structure_hook_factory(includes, factory)
    made.register_structure_hook_factory(is_cattrs_own, object_hook)
    made.register_unstructure_hook_factory(attrs.has, record_writer)
    made.register_unstructure_hook_factory(is_namedtuple, named_tuple_writer)
    for kind, (words, read, write) in SCALARS.items():
        if get_origin(kind) is Annotated:
            made.register_structure_hook_func(partial(eq, kind), expecting(words)(read))
            made.register_unstructure_hook_func(partial(eq, kind), cast(Any, write))
        else:
            made.register_structure_hook(kind, expecting(words)(read))
            if write is not None:
                made.register_unstructure_hook(kind, write)
    for base in (OpenEnum, StrEnum):
        made.register_unstructure_hook(base, attrgetter("value"))
    made.register_unstructure_hook(Credential, _refuse)
    made.register_unstructure_hook(datetime, datetime.isoformat)
    made.register_unstructure_hook(date, date.isoformat)
    made.register_unstructure_hook_func(partial(eq, frozenset[str]), sorted)
    return made
