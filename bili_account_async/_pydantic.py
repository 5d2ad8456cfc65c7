"""Records, snapshots and credentials as pydantic fields and FastAPI responses.

Their hooks import this module when pydantic asks for a schema, so the package neither needs nor
imports pydantic. Values are read and written by `structure` and `unstructure`; no format is
described here a second time: the JSON schema is made by trying what those two take and give.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from types import NoneType
from typing import Annotated, Any, NotRequired, get_args, get_origin

import attrs
from pydantic import Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError
from pydantic_core import core_schema as cs
from typing_extensions import TypedDict  # typing's own is refused by pydantic before Python 3.12

from .credential import Credential
from .errors import CredentialError, SchemaError
from .structuring import structure, unstructure

_SAMPLES: dict[Any, object] = {
    int: 1,
    str: "",
    bool: False,
    Decimal: Decimal("0.1"),
    date: date(2000, 1, 1),
    datetime: datetime(2000, 1, 1, tzinfo=UTC),
    tuple: (),
    frozenset: frozenset(),
    Mapping: {},
}
_MASK = "***"
_LOGIN_TEXT = Annotated[
    str,
    Field(
        description="What Credential.parse takes, such as a Cookie header.",
        json_schema_extra={"format": "password", "writeOnly": True},
    ),
]
_LOGIN_PARTS = Annotated[
    dict[str, str | int | None],
    Field(
        description="Cookies, or a credential's parts, by their names.",
        json_schema_extra={"writeOnly": True},
    ),
]


def record_schema(cls: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of a record, a snapshot or an enum.

    It is read from an instance or from what JSON holds by `structure`, and written by
    `unstructure`, both under the API's own names.
    """
    wire = type(unstructure(_sample(cls)))
    accepted = handler.generate_schema(_json_type(cls, wire, _input_type))
    written = handler.generate_schema(_json_type(cls, wire, _output_type))
    read = partial(_read, cls)
    vars(read)["__name__"] = cls.__name__  # the name that a union's errors show
    return cs.no_info_plain_validator_function(
        read,
        json_schema_input_schema=accepted,
        serialization=cs.plain_serializer_function_ser_schema(unstructure, return_schema=written),
    )


def _read(cls: Any, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    try:
        return structure(cls, value)
    except SchemaError as error:
        problem = error
    kind = PydanticCustomError("schema_error", f"expected {problem.expected}, got {problem.got}")
    steps = re.findall(r"\[(\d+)\]|([^.\[]+)", problem.path)
    location = tuple(int(index) if index else name for index, name in steps)
    details = InitErrorDetails(type=kind, loc=location, input=_input_at(location, value))
    raise ValidationError.from_exception_data(cls.__name__, [details])


def _input_at(location: tuple[int | str, ...], value: Any) -> Any:
    """Return the value at `location`; where there is none, the value that should have held it."""
    for step in location:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            break
    return value


def credential_schema(handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of a Credential.

    It is read from an instance, from a text by `Credential.parse`, or from a mapping by
    `Credential.from_cookies`. In JSON it is a mask, in a dump to Python itself.
    """
    return cs.no_info_plain_validator_function(
        _read_login,
        json_schema_input_schema=handler.generate_schema(_LOGIN_TEXT | _LOGIN_PARTS),
        serialization=cs.plain_serializer_function_ser_schema(
            lambda _: _MASK, return_schema=cs.str_schema(), when_used="json"
        ),
    )


def _read_login(value: Any) -> Credential:
    if isinstance(value, Credential):
        return value
    try:
        read = Credential.from_cookies if isinstance(value, Mapping) else Credential.parse
        return read(value)
    except CredentialError as error:
        kind = PydanticCustomError("credential", str(error))
    del value
    # The input, which pydantic shows with an error, would be the login.
    details = InitErrorDetails(type=kind, input=_MASK)
    raise ValidationError.from_exception_data("Credential", [details])


# --- the JSON schema ------------------------------------------------------------------------------


@cache
def _output_type(cls: Any) -> Any:
    """Return the typed dict that `unstructure` makes of `cls`."""
    sample = _sample(cls)
    kinds = {
        name: kind | None if _may_be_null(sample, field) else kind
        for field, name, kind in _json_fields(sample, _output_type)
    }
    return _typed_dict(cls, cls.__name__, kinds)


@cache
def _input_type(cls: Any) -> Any:
    """Return the typed dict that `structure` makes a `cls` of: it may lack fields, or hold null."""
    sample = _sample(cls)
    kinds: dict[str, Any] = {}
    for _, name, kind in _json_fields(sample, _input_type):
        wire = unstructure(sample)
        kinds[name] = kind | None if _is_accepted(cls, wire | {name: None}) else kind
        del wire[name]
        if _is_accepted(cls, wire):
            kinds[name] = NotRequired[kinds[name]]
    return _typed_dict(cls, f"{cls.__name__}Input", kinds)


def _typed_dict(cls: Any, name: str, kinds: dict[str, Any]) -> Any:
    make: Any = TypedDict  # in mypy's eyes a form that takes literals only
    typed_dict = make(name, kinds)
    typed_dict.__module__, typed_dict.__doc__ = cls.__module__, cls.__doc__
    return typed_dict


def _json_fields(sample: Any, inner: Any) -> Iterator[tuple[attrs.Attribute[Any], str, Any]]:
    """Yield each field, its name in the API and its JSON's type; `inner` makes those of records."""
    fields = attrs.fields(type(sample))
    for field, (name, value) in zip(fields, unstructure(sample).items(), strict=True):
        kind = _json_type(_bare(field.type), type(value), inner)
        notes = [note for note in getattr(field.type, "__metadata__", ()) if isinstance(note, str)]
        if notes:  # "milliseconds since 1970 on the wire, 0 for none; UTC here"
            kind = Annotated[kind, Field(description=notes[0].partition(";")[0])]
        yield field, name, kind


def _json_type(kind: Any, wire: Any, inner: Any) -> Any:
    if attrs.has(kind):
        return inner(kind)
    if get_origin(kind) in (tuple, frozenset):
        item = get_args(kind)[0]
        return list[_json_type(item, item, inner)]  # type: ignore[misc]
    if wire is dict:
        return dict[str, Any]
    if issubclass(kind, Enum):
        known = ", ".join(f"{member.value} {member.name}" for member in kind)
        about = f"{kind.__name__}: {known}; the server may send others."
        return Annotated[wire, Field(description=about, examples=[m.value for m in kind])]
    if kind is Decimal:  # an int where it came as one
        return Annotated[Any, WithJsonSchema({"type": "number"})]
    return wire


def _bare(kind: Any) -> Any:
    """Return the type without notes and without `| None`."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if NoneType in get_args(kind):
        return _bare(next(part for part in get_args(kind) if part is not NoneType))
    return kind


@cache
def _sample(kind: Any) -> Any:
    """Return some value of this type that is not empty."""
    if attrs.has(kind):
        fields = attrs.fields(attrs.resolve_types(kind, include_extras=True))
        return kind(**{field.name: _sample(_bare(field.type)) for field in fields})
    if issubclass(get_origin(kind) or kind, Enum):
        return next(iter(kind))
    return _SAMPLES[get_origin(kind) or kind]


def _may_be_null(sample: Any, field: attrs.Attribute[Any]) -> bool:
    if NoneType not in get_args(field.type):
        return False
    return None in unstructure(attrs.evolve(sample, **{field.name: None})).values()


def _is_accepted(cls: Any, wire: Any) -> bool:
    try:
        structure(cls, wire)
    except SchemaError:
        return False
    return True
