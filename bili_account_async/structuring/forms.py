"""From types to forms: lists, mappings, enums, and objects that cattrs reads.

They are stricter than cattrs' own, which take a text for a list, or `True` for 1, and know no
index. Dataclasses, typed dicts and generic classes are cattrs' own, behind a check that an object
came. Not here: what has no parts (`scalars.py`), and the reader of a record (`compiled.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import is_dataclass
from enum import Enum, EnumType
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs
from cattrs import Converter, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn, typeddicts

from .compiled import record_form, renames
from .mismatch import Mismatch, Unfit, Unreadable
from .scalars import SCALARS, Form

_LISTS: dict[Any, Any] = {list: list, tuple: tuple, Sequence: tuple, frozenset: frozenset}
"""Types that hold any number of things of one type, each with the maker of it from a list."""
_CHOSEN = {int, float, str, bool, NoneType}
"""Types of JSON's own that the values of an enum or a literal may have."""


class Forms(Converter):
    """The forms of one type and of all that it is made of, for one `Reader`.

    It is a converter because cattrs' own readers ask one for the hooks of their fields. Once it has
    refused a type it is of no more use, nor is it shared: a form may be half made.
    """

    def __init__(self) -> None:
        super().__init__(detailed_validation=False)
        self._made: dict[Any, Form] = dict(SCALARS)

    def of(self, kind: Any, *path: str) -> Form:
        """Return the form of the type, to which the fields in `path` lead.

        Raise `Unreadable`, with that path and the rest of it, for a type that JSON can't give.
        """
        return self._made.get(kind) or self._make(kind, path)

    def get_structure_hook(self, kind: Any, cache_result: bool = True) -> Any:
        """Return the hook that cattrs asks for when it compiles a reader of its own."""
        read = self.of(kind).read
        return lambda value, _: read(value)

    def _make(self, kind: Any, path: tuple[str, ...]) -> Form:
        """Return a new form: the first of these cases that the type is one of.

        The order matters where a type is two things at once: a note or a wrapper comes off first,
        an enum of texts is no text, and what is left at the end has to have fields.
        """
        base, arguments = get_origin(kind) or kind, get_args(kind)
        first, last = (arguments or (Any,))[0], (arguments or (Any,))[-1]
        if base in (Annotated, Required, NotRequired):
            return self.of(first, *path)
        if base in (Union, UnionType) and NoneType in arguments and len(arguments) == 2:
            return _optional(self.of(first if last is NoneType else last, *path))
        if base in _LISTS and (base is not tuple or arguments[1:] in ((), (...,))):
            return _list_form(_LISTS[base], self.of(first, *path))
        if base in (dict, Mapping, MutableMapping) and first in (str, Any):
            return _mapping_form(self.of(last, *path))
        if base is Literal or isinstance(kind, EnumType):
            return _choice_form(kind, arguments or tuple(kind), path)
        if hasattr(kind, "__supertype__"):  # a NewType
            return self.of(kind.__supertype__, *path)
        if not (attrs.has(kind) or is_dataclass(base) or is_typeddict(base)):
            raise Unreadable(kind, path)
        # A class that holds itself finds this form, which looks the real one up when it reads.
        self._made[kind] = Form("an object", lambda value: self._made[kind].read(value))
        if attrs.has(kind) and not hasattr(base, "__parameters__"):
            form = record_form(kind, lambda field: self.of(field.type, *path, field.name))
        else:
            form = _cattrs_form(kind, self, path)
        self._made[kind] = form
        return form


def _optional(form: Form) -> Form:
    """Return the form of a value that may be null as well."""

    def read(value: Any) -> Any:
        return None if value is None else form.read(value)

    return form._replace(expected=f"{form.expected} or null", read=read)


def _list_form(make: Any, form: Form) -> Form:
    """Return the form of a list of such values; `make` turns the list into the type wanted.

    The form keeps the fields that are known of each item, so that drift is seen inside lists.
    """

    def read(value: Any) -> Any:
        if value.__class__ is not list:
            raise Unfit
        return make(_read_all(value, form))

    return form._replace(expected="a list", read=read)


def _mapping_form(form: Form) -> Form:
    """Return the form of an object whose names are data, with such values."""

    def read(value: Any) -> Any:
        # Not the names in a path: they are the server's own text, which an error must not show.
        items = _read_all(_as_object(value).values(), form, "*")
        return dict(zip(value, items, strict=True))

    return Form("an object", read)


def _read_all(items: Iterable[Any], form: Form, step: str | None = None) -> list[Any]:
    """Return the items read; `step` is what the path to a bad one says instead of its index."""
    made: list[Any] = []
    read = form.read
    for item in items:
        try:
            made.append(read(item))
        except Exception as error:  # noqa: BLE001 - a user's own class may raise anything
            raise Mismatch.of(error, form.expected, item, step or len(made)) from None
    return made


def _as_object(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object: cattrs would index a list or a text as well."""
    if isinstance(value, Mapping):
        return value
    raise Unfit


def _choice_form(kind: Any, members: tuple[Any, ...], path: tuple[str, ...]) -> Form:
    """Return the form of an enum, which may make members of new values, or of a literal."""
    values = [member.value if isinstance(member, Enum) else member for member in members]
    kinds = set(map(type, values))
    known = dict(zip(values, members, strict=True)) if kinds <= _CHOSEN else {}
    if len(known) < len(members) or not known:
        raise Unreadable(kind, path)

    def read(value: Any) -> Any:
        if value.__class__ not in kinds:  # 1, 1.0 and True are equal, and still three things
            raise Unfit
        if value in known:
            return known[value]
        if isinstance(kind, EnumType):
            return kind(value)
        raise Unfit

    if not isinstance(kind, EnumType):
        return Form(f"one of {', '.join(map(repr, known))}", read)
    [one, *others] = kinds
    return Form(kind.__name__ if others else f"{one.__name__} ({kind.__name__})", read)


def _cattrs_form(kind: Any, forms: Forms, path: tuple[str, ...]) -> Form:
    """Return the form of a dataclass, a typed dict or a generic class."""
    base = get_origin(kind) or kind
    if not hasattr(base, "__parameters__"):
        for name, inner in get_type_hints(base, include_extras=True).items():
            forms.of(inner, *path, name)  # cattrs would not say which field can't be read
    make: Any = typeddicts.make_dict_structure_fn if is_typeddict(base) else make_dict_structure_fn
    try:
        read_fields = make(kind, forms, **renames(kind))
    except StructureHandlerNotFoundError:
        raise Unreadable(kind, path) from None  # a generic class without its arguments

    def read(value: Any) -> Any:
        try:
            return read_fields(_as_object(value), kind)
        except Mismatch as mismatch:
            mismatch.steps.clear()  # cattrs tells no names: the rest of the path would mislead
            raise

    return Form("an object", read)
