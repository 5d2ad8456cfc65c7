"""JSON values to records and back: the cattrs converter, strict where a default one coerces. No
I/O, no HTTP.

One hook factory makes the function that reads an attrs class. It generates the checks of a class's
fields into one function, as cattrs' own `make_dict_structure_fn` does, with two things that one
lacks: scalars are judged by their exact type in line, a call per field less, and a mismatch knows
its path without a second, detailed run, which over 200,000 bad list items would take seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections import abc, deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cache, partial
from operator import eq
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs

from .credential import Credential
from .errors import BiliError, SchemaError
from .records import (
    NULL_IS_EMPTY,
    ChinaTime,
    IsoDay,
    UnixMilliseconds,
    ZeroOne,
    _OpenEnum,
    _OpenInt,
    _OpenStr,
    _Record,
)

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]

_CHINA = timezone(timedelta(hours=8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Mismatch(Exception):
    """A value that is not what its place calls for; the path grows, innermost first, while it
    travels up.
    """

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        self.path: list[str | int] = []

    @classmethod
    def of(cls, expected: str, value: object) -> _Mismatch:
        return cls(expected, told(value))

    @classmethod
    def in_list(cls, expected: str, error: Exception, items: list[Any], index: int) -> _Mismatch:
        """Why the item at `index` could not be read: what its hook says, or that one which is not
        ours raised.
        """
        mismatch = (
            error
            if isinstance(error, cls)
            else cls.of(f"{expected} ({type(error).__name__})", items[index])
        )
        mismatch.path.append(index)
        return mismatch

    @classmethod
    def at(
        cls, place: str, source: Mapping[str, Any], expected: str, error: Exception
    ) -> _Mismatch:
        """Why the field `place` of `source` could not be read: it is missing, or a hook that is not
        ours raised.
        """
        if place not in source:
            return cls(expected, "nothing")
        return cls.of(f"{expected} ({type(error).__name__})", source[place])


def told(value: object) -> str:
    """What came, as a `SchemaError` may tell it: the type, with the value only for bools and
    numbers of usual size.
    """
    if value is None:
        return "null"
    kind = type(value).__name__
    small = isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64)
    return f"{kind} {value!r}" if small else kind


def structure(cls: type[T], value: object) -> T:
    """A `cls` made of a JSON value; raises `SchemaError` with the path of the first thing that is
    wrong.
    """
    hook = hook_for(cls)
    try:
        made: T = hook(value, cls)
        return made
    except Exception as error:  # noqa: BLE001 - a user's own hook, validator or dataclass may raise anything
        refused = refusal(error, cls, value, ())
    raise refused


def refusal(error: Exception, cls: Any, value: object, root: tuple[str, ...]) -> SchemaError:
    """The error for what a hook raised over a value that stood at `root` of a reply."""
    if isinstance(error, _Mismatch):
        path, expected, got = [*root, *reversed(error.path)], error.expected, error.got
    else:
        name = getattr(cls, "__name__", str(cls))
        path, expected, got = (
            [*root],
            f"a valid {name} ({type(error).__name__})",
            type(value).__name__,
        )
    text = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in path
    ).removeprefix(".")
    return SchemaError(path=text, expected=expected, got=got, payload=value)


def hook_for(cls: Any) -> Hook:
    """The function that structures `cls`; raises cattrs' `StructureHandlerNotFoundError` for what
    it can't read.
    """
    try:
        return _converter().get_structure_hook(cls)
    except (
        RecursionError
    ):  # a class that holds itself: its hook is looked up when it is needed, as cattrs does it
        return _converter().structure


def unstructure(record: object) -> Any:
    """What `json.dumps` takes, under the API's own names; `structure(type(record), …)` gives the
    record back.
    """
    if not (attrs.has(type(record)) or isinstance(record, (_OpenEnum, int))):
        _refuse(record)
    return _converter().unstructure(record)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"unstructure takes a record, not {type(value).__name__}")


def drift_for(cls: Any) -> Callable[[Any], tuple[str, ...]]:
    """The function that names the fields of a structured value's source that `cls` has no place
    for.
    """
    walker = _walker(cls, "")

    def drift(value: Any) -> tuple[str, ...]:
        found: dict[str, None] = {}
        if walker and value:
            walker.walk(value, found)
        return tuple(found)

    return drift


class _FieldsWalker:
    """Compares sizes only, as long as nothing is unknown: 0.1 µs a record."""

    __slots__ = ("dot", "fields", "inner", "size")

    def __init__(
        self,
        dot: str,
        fields: frozenset[str],
        size: int,
        inner: tuple[tuple[str, _FieldsWalker | _ItemsWalker], ...],
    ) -> None:
        self.dot = dot
        self.fields = fields
        self.size = (
            size  # how many fields a value without unknown ones has; -1 if some may be absent
        )
        self.inner = inner

    def walk(self, value: Any, found: dict[str, None]) -> None:
        if len(value) != self.size:
            found.update((self.dot + str(name), None) for name in value if name not in self.fields)
        for name, walker in self.inner:
            if inside := value.get(name):
                walker.walk(inside, found)


class _ItemsWalker:
    __slots__ = ("item", "leaf")

    def __init__(self, item: _FieldsWalker | _ItemsWalker, leaf: int) -> None:
        self.item = item
        self.leaf = leaf  # the size of an item that has nothing inside to walk into, else -1

    def walk(self, value: Any, found: dict[str, None]) -> None:
        for element in value or ():
            if element and len(element) != self.leaf:
                self.item.walk(element, found)


def _walker(
    cls: Any, prefix: str, around: tuple[Any, ...] = ()
) -> _FieldsWalker | _ItemsWalker | None:
    """`around` are the classes that hold this one: one that holds itself is not
    walked into again.
    """
    origin, arguments = get_origin(cls), [kind for kind in get_args(cls) if kind is not NoneType]
    if origin is Annotated or (origin in (Union, UnionType) and len(arguments) == 1):
        return _walker(arguments[0], prefix, around)
    if arguments and _is_collection(cls):
        item = _walker(arguments[0], f"{prefix}[]", around)
        leaf = item.size if isinstance(item, _FieldsWalker) and not item.inner else -1
        return _ItemsWalker(item, leaf) if item else None
    if not attrs.has(cls) or cls in around:
        return None
    dot, around = f"{prefix}." if prefix else "", (*around, cls)
    fields = {_wire_name(f): (f, kind) for f, kind in _fields(cls) if f.init}
    inner = tuple(
        (name, walker)
        for name, (_, kind) in fields.items()
        if (walker := _walker(kind, dot + name, around))
    )
    size = len(fields) if all(f.default is attrs.NOTHING for f, _ in fields.values()) else -1
    return _FieldsWalker(dot, frozenset(fields), size, inner)


# --- scalars --------------------------------------------------------------------------------------


def _exactly(scalar: type, expected: str) -> Hook:
    def hook(value: Any, cls: Any) -> Any:
        if value.__class__ is not scalar:
            raise _Mismatch.of(expected, value)
        return (
            value if cls is scalar else cls(value)
        )  # cattrs gives us the scalar's subclasses too, as IntEnum

    return hook


def _number(value: Any, _: Any = None) -> float:
    if value.__class__ is int or (value.__class__ is float and math.isfinite(value)):
        return cast(float, value)
    raise _Mismatch.of("a finite number", value)


_COMMON_DECIMALS = {tenths / 10: Decimal(tenths) / 10 for tenths in range(-100, 101)}


def _decimal(value: Any, cls: Any) -> Decimal:
    if cls is not Decimal:  # its subclasses come here too
        return cast(Decimal, cls(_decimal(value, Decimal)))
    if value.__class__ is int or value.__class__ is float:
        common = _COMMON_DECIMALS.get(
            value
        )  # nearly all changes of coins: 0.05 µs instead of 0.2 to 0.5
        if common is not None:
            return common
    # repr of a float is the shortest text that means it, so 0.1 on the wire is Decimal("0.1") here.
    number = _number(value)
    return Decimal(number) if number.__class__ is int else Decimal(repr(number))


def _zero_one(value: Any, _: Any) -> bool:
    if value.__class__ is not int or value not in (0, 1):
        raise _Mismatch.of("0 or 1", value)
    return value == 1


def _float(value: Any, cls: Any) -> float:
    try:
        number = float(_number(value))
    except OverflowError:
        raise _Mismatch.of("a finite number", value) from None
    return number if cls is float else cast(float, cls(number))


def _day(value: Any, _: Any) -> date | None:
    if value.__class__ is str:
        if not value:
            return None
        if len(value) == 10 and value[4] == value[7] == "-":  # fromisoformat takes other forms too
            try:
                return date.fromisoformat(value)
            except ValueError:
                pass
    raise _Mismatch.of("a date YYYY-MM-DD or an empty text", value)


def _china_time(value: Any, _: Any) -> datetime:
    # fromisoformat takes other forms too, and from Python 3.14 on an hour 24.
    if (
        value.__class__ is str
        and len(value) == 19
        and value[4::3] == "-- ::"
        and value[11:13] != "24"
    ):
        try:
            return datetime.fromisoformat(value + "+08:00")
        except ValueError:
            pass
    raise _Mismatch.of("a time YYYY-MM-DD HH:MM:SS", value)


def _unix_milliseconds(value: Any, _: Any) -> datetime | None:
    if value.__class__ is int:
        try:
            return _EPOCH + value * _MILLISECOND if value else None
        except OverflowError:
            pass
    raise _Mismatch.of("a timestamp in milliseconds", value)


def _plain_number(value: Decimal) -> int | float:
    return (
        int(value) if value.as_tuple().exponent == 0 else float(value)
    )  # as it came: see `_decimal`


# --- classes, collections, enums ------------------------------------------------------------------


def _enum_hook(cls: type[_OpenEnum]) -> Hook:
    scalar = int if issubclass(cls, int) else str
    known = {member.value: member for member in cls}

    def hook(value: Any, _: Any) -> Any:
        if value.__class__ is not scalar:
            raise _Mismatch.of(f"{scalar.__name__} ({cls.__name__})", value)
        member = known.get(value)
        return cls(value) if member is None else member

    return hook


def _plain_enum_hook(cls: type[Enum]) -> Hook:
    kinds = {
        type(member.value) for member in cls
    }  # 1, 1.0 and True are equal, and still three things
    if kinds.isdisjoint((int, float, str, bool, NoneType)):
        from cattrs import StructureHandlerNotFoundError

        raise StructureHandlerNotFoundError(f"no value of {cls.__name__} can be told in JSON", cls)

    def hook(value: Any, _: Any) -> Any:
        if value.__class__ not in kinds:
            raise _Mismatch.of(cls.__name__, value)
        return cls(value)

    return hook


def _optional_hook(cls: Any) -> Hook:
    (inner,) = (kind for kind in get_args(cls) if kind is not NoneType)
    read = hook_for(inner)
    return lambda value, _: None if value is None else read(value, inner)


def _collection_hook(cls: Any) -> Hook:
    made, item = _COLLECTIONS[get_origin(cls) or cls], (get_args(cls) or (Any,))[0]
    read, expected = hook_for(item), expectation(item)

    def hook(value: Any, _: Any) -> Any:
        if value.__class__ is not list:
            raise _Mismatch.of("a list", value)
        items: list[Any] = []
        try:
            for element in value:
                items.append(read(element, item))  # noqa: PERF401 - its length is the index of a mismatch
        except Exception as error:  # noqa: BLE001 - an enum or a validator that refuses, or whatever a user's hook raises
            raise _Mismatch.in_list(expected, error, value, len(items)) from None
        return items if made is list else made(items)

    return hook


def _fixed_tuple_hook(cls: Any) -> Hook:
    made = tuple if get_origin(cls) else cls._make
    reads = [(hook_for(kind), kind) for kind in _kinds(cls)]

    def hook(value: Any, _: Any) -> Any:
        if value.__class__ is not list or len(value) != len(reads):
            raise _Mismatch.of(f"a list of {len(reads)}", value)
        items: list[Any] = []
        try:
            for element, (read, kind) in zip(value, reads, strict=True):
                items.append(read(element, kind))
        except Exception as error:  # noqa: BLE001 - as above
            raise _Mismatch.in_list(
                expectation(reads[len(items)][1]), error, value, len(items)
            ) from None
        return made(items)

    return hook


def _kinds(cls: Any) -> tuple[Any, ...]:
    """The types of a fixed tuple's or a named tuple's places."""
    return (
        get_args(cls)
        if get_origin(cls)
        else tuple(get_type_hints(cls, include_extras=True).values())
    )


def _mapping_hook(cls: Any) -> Hook:
    key, item = get_args(cls) or (Any, Any)
    read_key, read = hook_for(key), hook_for(item)

    def hook(value: Any, _: Any) -> Any:
        source = _as_dict(value)
        try:
            return {read_key(name, key): read(element, item) for name, element in source.items()}
        except _Mismatch as mismatch:
            mismatch.path.append(
                "*"
            )  # the key is the server's own text, which an error must not show
            raise

    return hook


def _object_hook(make: Callable[..., Hook], cls: Any) -> Hook:
    """cattrs' own hook for a dataclass or a typed dict, which by itself may take a list or a text
    for an object.
    """
    read = make(cls, _converter())
    return lambda value, kind: read(_as_dict(value), kind)


def _null_is_empty(cls: Any) -> Hook:
    inner = get_args(cls)[0]
    read = hook_for(inner)
    return lambda value, _: read([] if value is None else value, inner)


def _as_dict(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise _Mismatch.of("an object", value)


def _literal_hook(cls: Any) -> Hook:
    values = {
        member: member.value if isinstance(member, Enum) else member for member in get_args(cls)
    }
    members = {(type(value), value): member for member, value in values.items()}
    expected = f"one of {', '.join(map(repr, values.values()))}"

    def hook(value: Any, _: Any) -> Any:
        try:
            return members[value.__class__, value]
        except (KeyError, TypeError):
            raise _Mismatch.of(expected, value) from None

    return hook


def _fields(cls: Any) -> list[tuple[attrs.Attribute[Any], Any]]:
    """The fields of an attrs class and their types; those of `Page[Item]` have `Item` where `Page`
    has a variable.
    """
    made = get_origin(cls) or cls
    fields = attrs.fields(attrs.resolve_types(made, include_extras=True))
    types: dict[str, Any] = {}
    variables = {
        made: get_args(cls)
    }  # what each class's own are, since one variable may serve several classes
    for kind in made.__mro__:
        chosen = dict(
            zip(getattr(kind, "__parameters__", ()), variables.get(kind, ()), strict=False)
        )
        for base in vars(kind).get("__orig_bases__", ()):
            variables.setdefault(
                get_origin(base), tuple(_chosen(argument, chosen) for argument in get_args(base))
            )
        own = {field.name for field in vars(kind).get("__attrs_attrs__", ()) if not field.inherited}
        types = {
            field.name: _chosen(field.type, chosen) for field in fields if field.name in own
        } | types
    return [(field, _hashable(types[field.name])) for field in fields]


def _hashable(kind: Any) -> Any:
    """The type itself, if only its note is something that can be no key."""
    try:
        hash(kind)
    except TypeError:
        return get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return kind


def _chosen(kind: Any, chosen: Mapping[Any, Any]) -> Any:
    if isinstance(kind, TypeVar):
        return chosen.get(kind, kind)
    parameters = getattr(kind, "__parameters__", ())
    return (
        kind[tuple(chosen.get(parameter, parameter) for parameter in parameters)]
        if parameters
        else kind
    )


def _wire_name(field: attrs.Attribute[Any]) -> str:
    return cast(str, field.metadata.get("wire", field.name))


_INLINE = {int: "an int", str: "a text", bool: "a bool"}
_EXPECTED = _INLINE | {
    float: "a finite number",
    Decimal: "a finite number",
    ZeroOne: "0 or 1",
    IsoDay: "a date YYYY-MM-DD or an empty text",
    ChinaTime: "a time YYYY-MM-DD HH:MM:SS",
    UnixMilliseconds: "a timestamp in milliseconds",
}


def expectation(kind: Any) -> str:
    """What a place of this type takes, in words for an error."""
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if get_origin(kind) is Annotated:
        return expectation(get_args(kind)[0])
    if _is_collection(kind) or _is_fixed_tuple(kind):
        return "a list"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _record_hook(cls: Any) -> Hook:
    """Generate and compile the function that reads `cls` (see the module's first lines)."""
    expects: dict[str, str] = {}
    scope: dict[str, Any] = {
        "cls": get_origin(cls) or cls,
        "Mismatch": _Mismatch,
        "as_dict": _as_dict,
        "expects": expects,
    }
    body: list[str] = []
    arguments: list[tuple[str, str]] = []
    fields: list[tuple[Any, Any]] = [(field, kind) for field, kind in _fields(cls) if field.init]
    for i, (field, kind) in enumerate(fields):
        name = _wire_name(field)
        expects[name] = expectation(kind)
        if kind in _INLINE:
            wrong = f"raise Mismatch.of({expects[name]!r}, v{i})"
            read = [f"v{i} = o[{name!r}]", f"if v{i}.__class__ is not {kind.__name__}: {wrong}"]
        else:
            scope[f"h{i}"], scope[f"t{i}"] = hook_for(kind), kind
            read = [f"v{i} = h{i}(o[{name!r}], t{i})"]
        body.append(f"at = {name!r}")
        if field.default is attrs.NOTHING:
            body += read
            arguments.append((field.alias, f"v{i}"))
        else:
            body += [
                "if at in o:",
                *(f"    {line}" for line in read),
                f"    rest[{field.alias!r}] = v{i}",
            ]
    optional = any(field.default is not attrs.NOTHING for field, _ in fields)
    if getattr(cls, "__bases__", ()) == (_Record,):
        scope["Open"] = _opened(cls)
        made = ["record = Open()", *(f"record.{name} = {value}" for name, value in arguments)]
        made += ["record.__class__ = cls", "return record"]
    else:
        given = [f"{name}={value}" for name, value in arguments] + ["**rest"] * optional
        made = [f"return cls({', '.join(given)})"]
    lines = [
        "def structure(o, _):",
        "    if o.__class__ is not dict: o = as_dict(o)",
        "    at = None",
        *["    rest = {}"] * optional,
        "    try:",
        *(f"        {line}" for line in body or ["pass"]),
        "    except Mismatch as mismatch:",
        "        mismatch.path.append(at)",
        "        raise",
        "    except Exception as error:",
        "        mismatch = Mismatch.at(at, o, expects[at], error)",
        "    else:",
        *(f"        {line}" for line in made),
        "    mismatch.path.append(at)",
        "    raise mismatch",
    ]
    exec(compile("\n".join(lines), f"<structure {cls.__name__}>", "exec"), scope)  # noqa: S102 - no data in it but names
    return cast(Hook, scope["structure"])


def _opened(cls: Any) -> Any:
    """The twin of `cls`, a record of ours, that is not frozen: filled by plain assignments, then
    turned into a `cls`.

    All that a frozen class's `__init__` does for our records is to set their fields, through
    `object.__setattr__`. This does it in 0.1 µs instead of 0.5 for three fields, and in 0.14
    instead of 1.3 for thirteen: 4 % of a GET.
    """
    return type(cls.__name__, (_Record,), {"__slots__": cls.__slots__})


def _record_unstructure(cls: Any) -> Callable[[Any], Any]:
    from cattrs.gen import make_dict_unstructure_fn, override

    overrides: dict[str, Any] = {}
    for field, kind in _fields(cls):
        hook, variables = (
            _UNSTRUCTURE.get(kind or object),
            getattr(field.type, "__parameters__", ()),
        )
        if hook is None and (
            variables or isinstance(field.type, TypeVar) or kind is not field.type
        ):
            hook = (
                _converter().unstructure
            )  # by the value: cattrs mixes variables up, and can't take what is no key
        overrides[field.name] = override(rename=_wire_name(field), unstruct_hook=hook)
    return cast(Callable[[Any], Any], make_dict_unstructure_fn(cls, _converter(), **overrides))


def _unstructurer(kind: Any) -> Callable[[Any], Any]:
    return _UNSTRUCTURE.get(kind) or _converter().unstructure


def _fixed_tuple_unstructure(cls: Any) -> Callable[[Any], Any]:
    each = [_unstructurer(kind) for kind in _kinds(cls)]
    return lambda items: [one(item) for one, item in zip(each, items, strict=True)]


def _collection_unstructure(cls: Any) -> Callable[[Any], Any]:
    each = _unstructurer((get_args(cls) or (Any,))[0])
    return lambda items: [each(item) for item in items]


_CLASSES: dict[Any, Hook] = {
    int: _exactly(int, "an int"),
    str: _exactly(str, "a text"),
    bool: _exactly(bool, "a bool"),
    NoneType: _exactly(NoneType, "null"),
    bytes: _exactly(bytes, "bytes, which JSON has not"),
    float: _float,
    Decimal: _decimal,
}
_ANNOTATED: dict[Any, Hook] = {
    ZeroOne: _zero_one,
    IsoDay: _day,
    UnixMilliseconds: _unix_milliseconds,
    ChinaTime: _china_time,
}
_UNSTRUCTURE: dict[Any, Callable[[Any], Any]] = {
    ZeroOne: int,
    IsoDay: lambda day: day.isoformat() if day else "",
    UnixMilliseconds: lambda time: (time - _EPOCH) // _MILLISECOND if time else 0,
    ChinaTime: lambda time: (time if time.tzinfo == _CHINA else time.astimezone(_CHINA)).isoformat(
        " ", "seconds"
    )[:19],
}


_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    deque: deque,
    abc.Sequence: tuple,
    abc.MutableSequence: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
"""What holds any number of things of one type, and what makes it."""


def _is_collection(cls: Any) -> bool:
    return (get_origin(cls) or cls) in _COLLECTIONS and not _is_fixed_tuple(cls)


def _is_fixed_tuple(cls: Any) -> bool:
    named = (
        isinstance(cls, type)
        and issubclass(cls, tuple)
        and hasattr(cls, "_make")
        and get_type_hints(cls)
    )
    return (
        bool(named)
        or cls == tuple[()]
        or (get_origin(cls) is tuple and bool(get_args(cls)) and get_args(cls)[1:] != (...,))
    )


def _is_mapping(cls: Any) -> bool:
    return (get_origin(cls) or cls) in (dict, abc.Mapping, abc.MutableMapping)


def _is_dataclass(cls: Any) -> bool:
    return dataclasses.is_dataclass(get_origin(cls) or cls)


def _is_typed_dict(cls: Any) -> bool:
    return is_typeddict(get_origin(cls) or cls)


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Enum)


def _is_optional(cls: Any) -> bool:
    return (
        get_origin(cls) in (Union, UnionType)
        and len(get_args(cls)) == 2
        and NoneType in get_args(cls)
    )


def _is_generic(origin: Any, cls: Any) -> bool:
    return get_origin(cls) is origin


@cache
def _converter() -> Converter:
    """Made, and cattrs imported, on first use: a program that only imports the package waits 4 %
    less.
    """
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn, typeddicts

    converter = Converter(detailed_validation=False)
    # cattrs asks the newest predicate first, and exact classes before any predicate.
    converter.register_structure_hook_factory(_is_collection, _collection_hook)
    converter.register_structure_hook_factory(_is_fixed_tuple, _fixed_tuple_hook)
    converter.register_structure_hook_factory(_is_optional, _optional_hook)
    converter.register_structure_hook_factory(_is_enum, _plain_enum_hook)
    converter.register_structure_hook_factory(partial(_is_generic, Literal), _literal_hook)
    converter.register_structure_hook_factory(_is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(
        _is_dataclass, partial(_object_hook, make_dict_structure_fn)
    )
    converter.register_structure_hook_factory(
        _is_typed_dict, partial(_object_hook, typeddicts.make_dict_structure_fn)
    )
    converter.register_structure_hook_factory(attrs.has, _record_hook)
    converter.register_unstructure_hook_factory(attrs.has, _record_unstructure)
    converter.register_unstructure_hook_factory(_is_collection, _collection_unstructure)
    converter.register_unstructure_hook_factory(_is_fixed_tuple, _fixed_tuple_unstructure)
    converter.register_structure_hook_factory(
        lambda t: NULL_IS_EMPTY in getattr(t, "__metadata__", ()), _null_is_empty
    )
    for annotated, hook in _ANNOTATED.items():
        converter.register_structure_hook_func(partial(eq, annotated), hook)
    for kind, hook in _CLASSES.items():
        converter.register_structure_hook(kind, hook)
    for enum in (*_OpenInt.__subclasses__(), *_OpenStr.__subclasses__()):
        converter.register_structure_hook(enum, _enum_hook(enum))
    for base in (_OpenEnum, StrEnum):
        converter.register_unstructure_hook(base, lambda member: member.value)
    converter.register_unstructure_hook(Credential, _refuse)
    converter.register_unstructure_hook(Decimal, _plain_number)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_unstructure_hook(date, date.isoformat)
    converter.register_unstructure_hook_func(partial(eq, frozenset[str]), sorted)
    converter.register_unstructure_hook_func(
        partial(_is_generic, Mapping),
        lambda items: {
            converter.unstructure(key): converter.unstructure(items[key]) for key in items
        },
    )
    converter.register_unstructure_hook(
        BiliError, lambda error: {"type": type(error).__name__, "message": str(error)}
    )
    return converter
