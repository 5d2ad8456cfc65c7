"""Hooks for all that is neither a scalar nor a record, as one table: lists, mappings, enums, …

They are stricter than cattrs' own, which take a text for a list, or `True` for 1, and know no
index. Not here: what has fields (`objects.py`).
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from cattrs import Converter

from .mismatch import ABSENT, Hook, Mismatch, Unfit, Unreadable, expecting, words_of

_LISTS: dict[Any, Any] = {kind: kind for kind in (list, tuple, set, frozenset, deque)}
_LISTS |= {abc.Sequence: tuple, abc.MutableSequence: list, abc.Set: frozenset, abc.MutableSet: set}
"""What holds any number of things of one type, and what makes it from a list."""
_MAPPINGS = (dict, Mapping, abc.MutableMapping)
_JSON_SCALARS = {int, float, str, bool, NoneType}


def base_of(kind: Any) -> Any:
    """Return `Page` for `Page[Item]`, and the type itself for what has no arguments."""
    return get_origin(kind) or kind


def inner_of(kind: Any) -> Any:
    """Return `X` for `X | None` and for a noted `X`, and None for every other type."""
    if get_origin(kind) not in (Union, UnionType, Annotated):
        return None
    inner = [argument for argument in get_args(kind) if argument is not NoneType]
    return inner[0] if len(inner) == 1 or get_origin(kind) is Annotated else None


def item_of(kind: Any) -> Any:
    """Return the type of the things in a list of any length, and None for every other type."""
    is_list = base_of(kind) in _LISTS and places_of(kind) is None
    return (get_args(kind) or (Any,))[0] if is_list else None


def places_of(kind: Any) -> tuple[Any, ...] | None:
    """Return the types in a tuple that has a length, named or not; else None."""
    arguments = get_args(kind)
    if kind == tuple[()] or (get_origin(kind) is tuple and arguments[1:] != (...,)):
        return arguments
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_make"):
        return tuple(get_type_hints(kind, include_extras=True).values()) or None
    return None


def as_object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise Unfit


def _inner_hook(cls: Any, converter: Converter) -> Hook:
    inner, nullable = inner_of(cls), get_origin(cls) is not Annotated
    read = converter.get_structure_hook(inner)
    mark = expecting(words_of(read) + " or null" * nullable)
    return mark(lambda value, _: None if nullable and value is None else read(value, inner))


def _list_hook(cls: Any, converter: Converter) -> Hook:
    places, item = places_of(cls), item_of(cls)
    reads = [(converter.get_structure_hook(kind), kind) for kind in places or (item,)]
    make, read_item = _LISTS.get(base_of(cls)) or cls._make, reads[0][0]

    @expecting("a list" if places is None else f"a list of {len(places)}")
    def hook(value: Any, _: Any) -> Any:
        if value.__class__ is not list or (places is not None and len(value) != len(places)):
            raise Unfit
        items: list[Any] = []
        try:
            if places is None:
                for element in value:
                    items.append(read_item(element, item))  # noqa: PERF401 - its length is the index
            else:
                for element, (read, kind) in zip(value, reads, strict=False):
                    items.append(read(element, kind))
        except Exception as error:  # noqa: BLE001 - a user's own hook may raise anything
            at = len(items)
            words = words_of(reads[at if places else 0][0])
            raise Mismatch.of(error, words, value[at]).at(at) from None
        return make(items)

    return hook


def named_tuple_writer(cls: Any, converter: Converter) -> Callable[[Any], Any]:
    writes = [converter.get_unstructure_hook(kind) for kind in places_of(cls) or ()]
    return lambda items: [write(item) for write, item in zip(writes, items, strict=True)]


def _mapping_hook(cls: Any, converter: Converter) -> Hook:
    key, item = get_args(cls) or (Any, Any)
    if not (key is Any or (isinstance(key, type) and issubclass(key, str))):
        raise Unreadable(cls)  # JSON's names are texts
    read_key, read = converter.get_structure_hook(key), converter.get_structure_hook(item)

    @expecting("an object")
    def hook(value: Any, _: Any) -> Any:
        made = {}
        for name, element in as_object(value).items():
            try:
                made[read_key(name, key)] = read(element, item)
            except Exception as error:  # noqa: BLE001 - as above
                # Not the name: it is the server's own text, which an error must not show.
                raise Mismatch.of(error, words_of(read), element).at("*") from None
        return made

    return hook


@cache
def choice_hook(cls: Any) -> Hook:
    """Return what reads a member of an enum, which may make new ones, or of a literal."""
    members = get_args(cls) or tuple(cls)
    values = [member.value if isinstance(member, Enum) else member for member in members]
    kinds = set(map(type, values))
    known = dict(zip(values, members, strict=True)) if kinds <= _JSON_SCALARS else {}
    if len(known) < len(members) or not known:
        raise Unreadable(cls)
    make = cls if isinstance(cls, type) else None
    words = cls.__name__ if make else f"one of {', '.join(map(repr, known))}"
    if make and len(kinds) == 1:
        words = f"{kinds.copy().pop().__name__} ({words})"

    @expecting(words)
    def hook(value: Any, _: Any) -> Any:
        if value.__class__ not in kinds:  # 1, 1.0 and True are equal, and still three things
            raise Unfit
        member = known.get(value, ABSENT)
        if member is not ABSENT:
            return member
        if make is None:
            raise Unfit
        return make(value)

    return hook


CONTAINERS: list[tuple[Callable[[Any], Any], Callable[[Any, Converter], Hook]]] = [
    (lambda kind: inner_of(kind) is not None, _inner_hook),
    (lambda kind: item_of(kind) or places_of(kind) is not None, _list_hook),
    (lambda kind: base_of(kind) in _MAPPINGS, _mapping_hook),
    (lambda kind: get_origin(kind) is Literal, lambda kind, _: choice_hook(kind)),
]
"""Which types are such, and what makes their hooks."""
