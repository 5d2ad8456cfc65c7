"""JSON values become records exactly and come back; anything else is a SchemaError that names its
place.
"""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Optional,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
)

import attrs
import orjson
import pytest
from cattrs import StructureHandlerNotFoundError
from hypothesis import given
from hypothesis import strategies as st
from samples_of import CHINA, EXPECTED, GETS, payload_of, sample
from strategies import RECORDS, fields_of, fuzz, values, wire_name

from bili_account_async import (
    ENDPOINTS,
    AccountInfo,
    Auth,
    CoinLog,
    CoinLogEntry,
    DailyRewards,
    Endpoint,
    PasswordSafety,
    RealnameStatus,
    SchemaError,
    SecurityInfo,
    Sex,
    SnsBindings,
    VipInfo,
    VipStatus,
    structure,
    unstructure,
)
from bili_account_async.records import ChinaTime, IsoDay, UnixMilliseconds, ZeroOne
from bili_account_async.structuring import hook_for
from bili_account_async.wire import Decoder

every_get = pytest.mark.parametrize("name", GETS)
every_record = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)


def refusal(cls: Any, value: Any) -> SchemaError:
    with pytest.raises(SchemaError) as caught:
        structure(cls, value)
    return caught.value


def with_at(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of `value` with what stands at `path` replaced, or taken away if `new` is `...`."""
    copy = json.loads(json.dumps(value))
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    if new is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return copy


def spelled(path: tuple[str | int, ...]) -> str:
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in path
    ).removeprefix(".")


# --- what is documented ---------------------------------------------------------------------------


@every_get
def test_a_documented_sample_becomes_exactly_its_record(name: str) -> None:
    record = structure(ENDPOINTS[name].returns, payload_of(name))
    assert record == EXPECTED[name]
    assert repr(record) == repr(EXPECTED[name])  # equal is not enough: 1 == True == VipStatus(1)
    assert type(record) is type(EXPECTED[name]) is ENDPOINTS[name].returns


@every_get
def test_a_record_of_a_documented_sample_unstructures_to_the_sample(name: str) -> None:
    assert json.dumps(unstructure(EXPECTED[name])) == json.dumps(payload_of(name))


@every_get
def test_a_documented_sample_decodes_through_its_endpoint(name: str) -> None:
    record, payload, unknown = Decoder(ENDPOINTS[name]).decode(sample(name))  # type: ignore[misc]
    assert (record, payload, unknown) == (EXPECTED[name], payload_of(name), ())


@pytest.mark.parametrize("name", ["update_sign", "clear_sign"])
@pytest.mark.parametrize("extra", [{}, {"data": None}, {"data": {}}, {"data": "x"}])
def test_the_sign_s_reply_has_no_payload(name: str, extra: dict[str, Any]) -> None:
    assert Decoder(ENDPOINTS[name]).decode(sample("update_sign") | extra) == (None, None, ())


# --- there and back -------------------------------------------------------------------------------


@every_record
@fuzz
@given(data=st.data())
def test_structure_is_the_inverse_of_unstructure(cls: Any, data: st.DataObject) -> None:
    record = data.draw(values(cls))
    wire = unstructure(record)
    back = structure(cls, wire)
    assert back == record
    assert repr(back) == repr(structure(cls, unstructure(back)))
    assert hash(back) == hash(record)


@every_record
@fuzz
@given(data=st.data())
def test_what_unstructure_gives_passes_json_and_comes_back(cls: Any, data: st.DataObject) -> None:
    record = data.draw(values(cls))
    for loads in (json.loads, orjson.loads):
        assert structure(cls, loads(json.dumps(unstructure(record), allow_nan=False))) == record


@every_record
def test_unstructure_uses_the_api_s_own_names(cls: Any) -> None:
    assert list(unstructure(structure(cls, samples_by_class()[cls]))) == [
        wire_name(f) for f in fields_of(cls)
    ]


@pytest.mark.parametrize(
    ("cls", "field", "wire", "value"),
    [
        (AccountInfo, "birthday", "", None),
        (AccountInfo, "birthday", "0001-01-01", date(1, 1, 1)),
        (AccountInfo, "birthday", "2024-02-29", date(2024, 2, 29)),
        (AccountInfo, "sex", "火星人", Sex("火星人")),
        (AccountInfo, "sex", "", Sex("")),
        (AccountInfo, "sign", "\0\u2028😀", "\0\u2028😀"),
        (AccountInfo, "mid", 2**63, 2**63),
        (AccountInfo, "mid", -1, -1),
        (DailyRewards, "coins", 60, 60),
        (VipInfo, "vip_due_date", 0, None),
        (VipInfo, "vip_due_date", 1, datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)),
        (VipInfo, "vip_due_date", 1001, datetime(1970, 1, 1, 0, 0, 1, 1000, tzinfo=UTC)),
        (VipInfo, "vip_due_date", -1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        (
            VipInfo,
            "vip_due_date",
            1612454400123,
            datetime(2021, 2, 4, 16, 0, 0, 123000, tzinfo=UTC),
        ),
        (
            VipInfo,
            "vip_due_date",
            253402300799999,
            datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
        ),
        (VipInfo, "vip_status", 0, VipStatus.NONE),
        (VipInfo, "vip_status", 9, VipStatus(9)),
        (VipInfo, "vip_status", -9, VipStatus(-9)),
        (SnsBindings, "qq_bind", 0, False),
        (SnsBindings, "qq_bind", 1, True),
        (CoinLogEntry, "delta", 0.1, Decimal("0.1")),
        (CoinLogEntry, "delta", -0.7, Decimal("-0.7")),
        (CoinLogEntry, "delta", 1.0, Decimal(1)),
        (CoinLogEntry, "delta", 10.1, Decimal("10.1")),
        (CoinLogEntry, "delta", 0, Decimal(0)),
        (CoinLogEntry, "delta", -0.0, Decimal(0)),
        (CoinLogEntry, "delta", 1e-7, Decimal("1E-7")),
        (CoinLogEntry, "delta", 1e300, Decimal("1E+300")),
        (CoinLogEntry, "delta", 1e22, Decimal("1E+22")),
        (CoinLogEntry, "delta", 2**53 + 1, Decimal(2**53 + 1)),
        (CoinLogEntry, "delta", 10**400, Decimal(10**400)),
        (CoinLogEntry, "time", "2020-02-29 00:00:00", datetime(2020, 2, 29, tzinfo=CHINA)),
        (
            CoinLogEntry,
            "time",
            "9999-12-31 23:59:59",
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=CHINA),
        ),
        (CoinLogEntry, "time", "0001-01-01 00:00:00", datetime(1, 1, 1, tzinfo=CHINA)),
    ],
)
def test_a_wire_value_means_what_the_document_says_and_comes_back(
    cls: Any, field: str, wire: Any, value: Any
) -> None:
    [place] = [f for f in fields_of(cls) if f.name == field]
    record = structure(cls, samples_by_class()[cls] | {wire_name(place): wire})
    got = getattr(record, field)
    assert got == value
    assert type(got) is type(value)
    assert unstructure(record)[wire_name(place)] == wire
    assert structure(cls, unstructure(record)) == record


def test_times_are_aware_in_their_own_zones() -> None:
    assert EXPECTED["get_vip_info"].vip_due_date.tzinfo is UTC
    assert structure(VipInfo, payload_of("get_vip_info")).vip_due_date.utcoffset() == timedelta(0)
    assert structure(CoinLog, payload_of("get_coin_log")).entries[0].time.utcoffset() == timedelta(
        hours=8
    )


def test_a_coin_log_time_made_in_another_zone_goes_out_as_china_time() -> None:
    entry = CoinLogEntry(
        time=datetime(2020, 5, 19, 16, 30, tzinfo=UTC), delta=Decimal(1), reason=""
    )
    assert unstructure(entry)["time"] == "2020-05-20 00:30:00"


@pytest.mark.parametrize("wire", [None, []])
def test_a_coin_log_whose_list_is_null_or_empty_is_empty(wire: Any) -> None:
    log = structure(CoinLog, {"list": wire, "count": 0})
    assert log == CoinLog(entries=(), count=0)
    assert unstructure(log) == {"list": [], "count": 0}


@every_record
def test_unknown_extra_fields_are_no_error(cls: Any) -> None:
    payload = samples_by_class()[cls]
    assert structure(cls, payload | {"novel": {"a": [1]}, "": None}) == structure(cls, payload)


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
def test_any_mapping_can_be_structured(kind: Any) -> None:
    assert (
        structure(AccountInfo, kind(payload_of("get_account_info"))) == EXPECTED["get_account_info"]
    )


@pytest.mark.parametrize("value", [None, "text", b"x", [1], {"a": 1}, object(), 1.5])
def test_unstructure_refuses_what_is_no_record(value: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        unstructure(value)


def test_unstructure_takes_what_the_endpoints_without_a_record_return() -> None:
    assert json.dumps(
        [unstructure(20), unstructure(RealnameStatus.CERTIFIED), unstructure(Sex.MALE)]
    ) == json.dumps([20, 1, "男"])


# --- every wrong type in every field of every record ----------------------------------------------

KINDS = {"null": None, "bool": True, "int": 7, "float": 1.5, "str": "7", "list": [], "dict": {}}
TOLD = {"bool": "bool True", "int": "int 7", "float": "float 1.5"}
SCALARS = {
    int: {"int"},
    str: {"str"},
    bool: {"bool"},
    Decimal: {"int", "float"},
    ZeroOne: {"int"},
    IsoDay: {"str"},
    UnixMilliseconds: {"int"},
    ChinaTime: {"str"},
}

Path = tuple[str | int, ...]


def takes(kind: Any) -> set[str]:
    """The JSON types that a field of this type can have on the wire."""
    if kind in SCALARS:
        return SCALARS[kind]
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return takes(inner) | ({"null"} if any("null" in note for note in notes) else set())
    if get_origin(kind) is tuple:
        return {"list"}
    if issubclass(kind, Enum):
        return {"str" if issubclass(kind, str) else "int"}
    assert attrs.has(kind)
    return {"dict"}


def places_in(kind: Any, payload: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every place inside a sample payload, with the type that the records say stands there."""
    yield path, kind
    if get_origin(kind) is Annotated and kind not in SCALARS:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        for index in {0, len(payload) - 1}:
            yield from places_in(get_args(kind)[0], payload[index], (*path, index))
    elif attrs.has(kind):
        for field in fields_of(kind):
            yield from places_in(field.type, payload[wire_name(field)], (*path, wire_name(field)))


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def places_of_records() -> list[tuple[str, Path, Any]]:
    return [
        (name, path, kind)
        for name in GETS
        for path, kind in places_in(
            ENDPOINTS[name].returns, payload_of(name), ENDPOINTS[name].result
        )
    ]


def samples_by_class() -> dict[Any, Any]:
    """One documented wire object for every record class."""
    return {
        kind: at(sample(name), path)
        for name, path, kind in reversed(places_of_records())
        if isinstance(kind, type)
    }


PLACES = [
    pytest.param(*place, id=f"{place[0]}:{spelled(place[1])}") for place in places_of_records()
]


def test_the_generated_places_are_all_of_them() -> None:
    assert set(RECORDS) <= samples_by_class().keys()
    assert (
        len(PLACES) == 61 + 4
    )  # the values in eight replies, and those of the coin log's last entry


@pytest.mark.parametrize(("name", "path", "kind"), PLACES)
def test_every_wrong_type_is_refused_with_its_path(name: str, path: Path, kind: Any) -> None:
    wrong = KINDS.keys() - takes(kind)
    assert len(wrong) >= 5
    for json_type in wrong:
        envelope = with_at(sample(name), path, KINDS[json_type])
        error = Decoder(ENDPOINTS[name]).decode(envelope)
        assert isinstance(error, SchemaError), (json_type, error)
        assert error.path == spelled(path)
        assert error.got == TOLD.get(json_type, json_type)
        assert error.expected
        assert not {"typing", "Annotated"} & set(error.expected.replace(".", " ").split())
        assert str(error) == f"{error.path}: expected {error.expected}, got {error.got}"


@pytest.mark.parametrize(
    ("name", "path", "kind"), [p for p in PLACES if not isinstance(p.values[1][-1], int)]
)
def test_every_missing_field_is_refused_with_its_path(name: str, path: Path, kind: Any) -> None:
    error = Decoder(ENDPOINTS[name]).decode(with_at(sample(name), path, ...))
    assert isinstance(error, SchemaError)
    assert (error.path, error.got) == (spelled(path), "nothing")
    assert error.expected
    assert "Annotated" not in error.expected


@pytest.mark.parametrize(("name", "path", "kind"), PLACES)
def test_structure_alone_gives_the_same_path_below_the_payload(
    name: str, path: Path, kind: Any
) -> None:
    depth = len(ENDPOINTS[name].result)
    if path[depth:]:
        payload = with_at(payload_of(name), path[depth:], [True])
        assert refusal(ENDPOINTS[name].returns, payload).path in (
            spelled(path[depth:]),
            spelled((*path[depth:], 0)),
        )


NUMBERS = [
    (name, path, kind) for name, path, kind in places_of_records() if takes(kind) & {"int", "float"}
]


@pytest.mark.parametrize(("name", "path", "kind"), NUMBERS, ids=lambda value: str(value))
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_everywhere(
    name: str, path: Path, kind: Any, number: float
) -> None:
    envelope = sample(name)
    at(envelope, path[:-1])[path[-1]] = number
    error = Decoder(ENDPOINTS[name]).decode(envelope)
    assert isinstance(error, SchemaError)
    assert (error.path, error.got) == (spelled(path), f"float {number}")


def test_the_contract_s_own_examples_of_wrong_types_are_refused() -> None:
    rewards, vip = payload_of("get_daily_rewards"), payload_of("get_vip_info")
    assert refusal(DailyRewards, rewards | {"login": "false"}).path == "login"
    assert refusal(VipInfo, vip | {"mid": "2"}).path == "mid"
    assert refusal(VipInfo, vip | {"mid": True}).got == "bool True"
    assert refusal(VipInfo, []).path == ""
    security = payload_of("get_security_info")
    assert (
        refusal(SecurityInfo, with_at(security, ("account_safe", "pwd_level"), "3")).path
        == "account_safe.pwd_level"
    )
    log = payload_of("get_coin_log")
    assert refusal(CoinLog, with_at(log, ("list", 4, "time"), 5)).path == "list[4].time"


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1], {"value": 1}])
def test_the_type_is_judged_before_an_enum_s_value(value: Any) -> None:
    error = refusal(VipInfo, payload_of("get_vip_info") | {"vip_status": value})
    assert error.path == "vip_status"
    assert "VipStatus" in error.expected
    assert refusal(RealnameStatus, value).path == ""


@pytest.mark.parametrize(
    "text",
    [
        "2021-02-30",
        "2021-02-29",
        "2021-13-01",
        "2021-00-01",
        "0000-01-01",
        "20200101",
        "2020-W01-1",
        "2020W01",
        "2020-1-1",
        "20-01-0100",
        "2020/01/01",
        "2020-01-01 ",
        " 2020-01-01",
        "2020-01-01T00:00:00",
        "２０２０-01-01",
        "2020-01-0１",
        "-020-01-01",
        "保密",
        " ",
        "2020-01-0\ud800",
    ],
)
def test_an_impossible_birthday_is_refused(text: str) -> None:
    error = refusal(AccountInfo, payload_of("get_account_info") | {"birthday": text})
    assert (error.path, error.got) == ("birthday", "str")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020-05-19T23:58:29",
        "2020-05-19 23:58:29.5",
        "2020-05-19 23:58:29.000000",
        "2020-05-19 23:58",
        "2020-05-19 24:00:00",
        "2020-05-19 23:60:00",
        "2020-05-19 23:58:60",
        "2020-02-30 00:00:00",
        "2020-05-19",
        "20200519 23:58:2900",
        "2020-W21-2 23:58:29",
        "2020-05-19 23:58:29Z",
        "2020-05-19 23:58:29+08:00",
        "2020-05-19 23:58+01",
        "2020-05-19 23:58.29",
        "2020-05-19 235829  ",
        " 2020-05-19 23:58:2",
        "2020-05-19  3:58:29",
        "2020-05-19 23:5８:29",
        "0000-01-01 00:00:00",
        "昨天",
        "2020-05-19 23:58:2\ud800",
    ],
)
def test_an_impossible_coin_log_time_is_refused(text: str) -> None:
    error = refusal(CoinLog, with_at(payload_of("get_coin_log"), ("list", 4, "time"), text))
    assert (error.path, error.got) == ("list[4].time", "str")


@pytest.mark.parametrize(
    "number",
    [253402300800000, -62135596800001, 2**63, -(2**63), 2**64 - 1, 10**400, 1612454400000.0],
)
def test_a_due_date_that_no_calendar_has_is_refused(number: float) -> None:
    error = refusal(VipInfo, payload_of("get_vip_info") | {"vip_due_date": number})
    assert (error.path, error.expected) == ("vip_due_date", "a timestamp in milliseconds")


@pytest.mark.parametrize("number", [2, -1, 1.0, True, "1"])
def test_only_zero_and_one_are_a_binding(number: Any) -> None:
    error = refusal(
        SecurityInfo, with_at(payload_of("get_security_info"), ("account_sns", "qq_bind"), number)
    )
    assert (error.path, error.expected) == ("account_sns.qq_bind", "0 or 1")


def test_a_number_too_long_to_print_is_told_by_its_type() -> None:
    error = refusal(DailyRewards, payload_of("get_daily_rewards") | {"login": 10**5000})
    assert (error.path, error.got) == ("login", "int")


def test_the_first_of_many_wrong_items_is_named_and_the_rest_not_looked_at() -> None:
    class Watched(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise AssertionError("looked at")

    error = refusal(CoinLog, {"list": [{"time": 1}, Watched()], "count": 2})
    assert error.path == "list[0].time"


def test_a_schema_error_holds_the_payload_and_shows_no_text_of_it() -> None:
    payload = payload_of("get_realname_application") | {"status": "绝密"}
    error = refusal(ENDPOINTS["get_realname_application"].returns, payload)
    assert error.payload is payload
    assert "绝密" not in f"{error} {error!r}"
    assert error.__cause__ is None
    assert error.__context__ is None


# --- drift ----------------------------------------------------------------------------------------


def drift(endpoint: Any, envelope: Any) -> tuple[str, ...]:
    decoded = Decoder(endpoint).decode(envelope)
    assert not isinstance(decoded, SchemaError)
    return decoded[2]


@pytest.mark.parametrize(
    ("name", "path", "unknown"),
    [
        ("get_account_info", ("data",), ("data.novel",)),
        ("get_vip_info", ("data",), ("data.novel",)),
        ("get_security_info", ("data",), ("data.novel",)),
        ("get_security_info", ("data", "account_safe"), ("data.account_safe.novel",)),
        ("get_coin_log", ("data",), ("data.novel",)),
        ("get_coin_log", ("data", "list", 3), ("data.list[].novel",)),
        (
            "get_realname_status",
            ("data",),
            (),
        ),  # the record is one number: nothing else was asked for
        ("get_coin_exp", (), ()),
    ],
)
def test_unknown_fields_are_told_by_their_paths(
    name: str, path: Path, unknown: tuple[str, ...]
) -> None:
    envelope = sample(name)
    at(envelope, path)["novel"] = 1
    assert drift(ENDPOINTS[name], envelope) == unknown


def test_a_field_that_is_unknown_in_many_items_is_told_once_and_every_other_too() -> None:
    envelope = sample("get_coin_log")
    for entry in envelope["data"]["list"]:
        entry["id"] = 1
    envelope["data"]["list"][-1]["type"] = 2
    assert drift(ENDPOINTS["get_coin_log"], envelope) == ("data.list[].id", "data.list[].type")


# --- what a user declares -------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1
    HIGH = 2


Item = TypeVar("Item")
Key = TypeVar("Key")


class Kind(StrEnum):
    A = "a"


class Mixed(Enum):
    A = "a"
    TWO = 2


class Band(float, Enum):
    LOW = 1.5


class Coined(Enum):
    ONE = Decimal(1)


class Row(TypedDict):
    number: int


class LooseRow(TypedDict, total=False):
    number: int


class Point(NamedTuple):
    x: int
    name: str


class FurtherPoint(Point):
    pass


@dataclass
class Plain:
    number: int = 0


@attrs.frozen(kw_only=True)
class Leaf:
    name: str
    weight: float = 0.5


@attrs.frozen(kw_only=True)
class Tree:
    """All that the SDK's own records do not use."""

    _private: int
    renamed: str = attrs.field(metadata={"wire": "Renamed"})
    aliased: int = attrs.field(alias="other_name", default=3)
    counted: int = attrs.field(init=False, default=9)
    leaf: Leaf | None
    old_style: Optional[int] = None  # noqa: UP045
    leaves: list[Leaf] = attrs.field(factory=list)
    grid: tuple[tuple[int, ...], ...] = ()
    level: Level = Level.LOW
    kind: Kind = Kind.A
    mixed: Mixed = Mixed.A
    when: UnixMilliseconds = None
    choice: Literal["x", "y"] = "x"
    table: dict[str, int] = attrs.field(factory=dict)
    anything: Any = None
    levels: list[Level] = attrs.field(factory=list)
    bands: tuple[Band, ...] = ()
    pair: tuple[int, Level] | None = None
    row: LooseRow | None = None
    plain: Plain | None = None
    bare: Mapping | None = None  # type: ignore[type-arg]
    noted: Annotated[int, {"a note": "that can be no key"}] = 0
    names: frozenset[Level] = frozenset()
    point: FurtherPoint | None = None


@attrs.frozen
class Comment:
    text: str
    replies: list[Comment]
    parent: Comment | None = None


@attrs.frozen
class Page(Generic[Item]):
    items: list[Item]
    after: Item | None = None


@attrs.frozen
class Numbered(Page[Item], Generic[Item, Key]):
    number: Key = attrs.field(kw_only=True)
    next: Numbered[Item, Key] | None = attrs.field(kw_only=True, default=None)


@attrs.frozen
class LeafPage(Numbered[Leaf, int]):
    pass


@attrs.frozen
class Grouped(Page[list[Item]], Generic[Item]):
    """`Item` is one thing here and another in `Page`."""

    first: Item = attrs.field(kw_only=True)


@attrs.frozen(slots=False)
class Left(Generic[Item]):
    left: Item


@attrs.frozen(slots=False)
class Right(Generic[Item]):
    right: Item


@attrs.frozen(slots=False)
class Both(Left[int], Right[str]):
    both: tuple[ChinaTime, ...] = attrs.field(kw_only=True, default=())


@attrs.frozen
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.frozen
class Holder:
    inner: Positive


LEAST = {"_private": 1, "Renamed": "r", "leaf": None}
MOST = LEAST | {
    "leaf": {"name": "l"},
    "aliased": 5,
    "old_style": None,
    "leaves": [{"name": "a", "weight": 1}, {"name": "b", "weight": 0.25}],
    "grid": [[1, 2], [], [3]],
    "level": 2,
    "kind": "a",
    "mixed": 2,
    "when": 1000,
    "choice": "y",
    "table": {"a": 1},
    "anything": [{"free": None}],
    "levels": [2, 1],
    "bands": [1.5],
    "pair": [1, 2],
    "row": {"number": 1},
    "plain": {"number": 2},
    "bare": {"a": [1]},
    "noted": 4,
    "names": [2, 1],
    "point": [1, "p"],
}


def test_a_user_s_class_may_leave_fields_with_defaults_out() -> None:
    assert structure(Tree, LEAST) == Tree(private=1, renamed="r", leaf=None)


def test_a_user_s_class_is_read_with_nested_optional_and_renamed_fields() -> None:
    tree = structure(Tree, MOST)
    assert tree == Tree(
        private=1,
        renamed="r",
        other_name=5,
        leaf=Leaf(name="l"),
        leaves=[Leaf(name="a", weight=1.0), Leaf(name="b", weight=0.25)],
        grid=((1, 2), (), (3,)),
        level=Level.HIGH,
        mixed=Mixed.TWO,
        when=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        choice="y",
        table={"a": 1},
        anything=[{"free": None}],
        levels=[Level.HIGH, Level.LOW],
        bands=(Band.LOW,),
        pair=(1, Level.HIGH),
        row={"number": 1},
        plain=Plain(2),
        bare={"a": [1]},
        noted=4,
        names=frozenset(Level),
        point=FurtherPoint(1, "p"),
    )
    assert [type(item) for item in (tree.bands[0], tree.point)] == [Band, FurtherPoint]
    assert (type(tree.level), type(tree.kind), type(tree.leaves[0].weight)) == (Level, Kind, float)


def test_a_user_s_record_comes_back_from_unstructure() -> None:
    tree = structure(Tree, MOST)
    wire = unstructure(tree)
    wire["names"].sort(reverse=True)
    assert json.loads(json.dumps(wire)) == MOST | {"leaf": {"name": "l", "weight": 0.5}}
    assert structure(Tree, wire) == tree


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("_private", "1", "_private"),
        ("Renamed", None, "Renamed"),
        ("aliased", True, "aliased"),
        ("leaf", [], "leaf"),
        ("leaf", {"name": 1}, "leaf.name"),
        ("leaf", {}, "leaf.name"),
        ("old_style", True, "old_style"),
        ("leaves", {}, "leaves"),
        ("leaves", "ab", "leaves"),
        ("leaves", [{"name": "a"}, {"name": "b", "weight": "1"}], "leaves[1].weight"),
        ("leaves", [{"name": "b", "weight": 10**400}], "leaves[0].weight"),
        ("grid", [[1], [2, True]], "grid[1][1]"),
        ("level", True, "level"),
        ("level", 1.0, "level"),
        ("level", 7, "level"),
        ("kind", "b", "kind"),
        ("mixed", None, "mixed"),
        ("when", "1000", "when"),
        ("choice", "z", "choice"),
        ("table", [["a", 1]], "table"),
        ("table", {"a": "1"}, "table.*"),
        ("levels", [1, 7], "levels[1]"),
        ("bands", [1.5, 2], "bands[1]"),
        ("pair", [1, 7], "pair[1]"),
        ("row", [], "row"),
        ("row", {"number": "1"}, "row"),
        ("plain", "x", "plain"),
        ("plain", [1], "plain"),
        ("bare", [], "bare"),
        ("bare", "", "bare"),
    ],
)
def test_a_wrong_value_in_a_user_s_class_is_named_by_its_path(
    field: str, value: Any, path: str
) -> None:
    error = refusal(Tree, MOST | {field: value})
    assert error.path == path
    assert error.expected
    assert error.got


def test_a_user_s_validator_that_refuses_is_a_schema_error_at_its_place() -> None:
    assert refusal(Holder, {"inner": {"value": -1}}).path == "inner"
    assert "ValueError" in refusal(Positive, {"value": -1}).expected


@pytest.mark.parametrize("kind", [Numbered[Leaf, int], LeafPage])
def test_a_generic_class_is_read_with_its_arguments(kind: Any) -> None:
    wire = {
        "items": [{"name": "a"}],
        "after": {"name": "b"},
        "number": 1,
        "next": {"items": [], "number": 2},
    }
    page = structure(kind, wire)
    made = type(page)
    assert made is (get_origin(kind) or kind)
    following = Numbered([], number=2)  # type: ignore[var-annotated]
    assert page == made([Leaf(name="a")], Leaf(name="b"), number=1, next=following)
    assert refusal(kind, wire | {"items": [{"name": 1}]}).path == "items[0].name"
    assert refusal(kind, wire | {"after": {}}).path == "after.name"
    assert refusal(kind, wire | {"number": "1"}).path == "number"
    assert refusal(kind, wire | {"next": {"items": [1], "number": 2}}).path == "next.items[0]"
    assert structure(kind, unstructure(page)) == page
    endpoint: Any = Endpoint("get_page", "GET", "api", "/x/page", Auth(), kind)
    assert drift(endpoint, {"code": 0, "data": wire | {"after": {"name": "b", "novel": 1}}}) == (
        "data.after.novel",
    )


@pytest.mark.parametrize(
    ("kind", "good", "record", "bad", "path"),
    [
        (
            Grouped[int],
            {"items": [[1], [2, 3]], "after": [4], "first": 5},
            Grouped([[1], [2, 3]], [4], first=5),
            [{"items": [1]}, {"items": [["1"]]}, {"after": 4}, {"first": [5]}],
            ["items[0]", "items[0][0]", "after", "first"],
        ),
        (
            Both,
            {"left": 1, "right": "r", "both": ["2024-01-02 03:04:05"]},
            Both(left=1, right="r", both=(datetime(2024, 1, 1, 19, 4, 5, tzinfo=UTC),)),
            [{"left": "1"}, {"right": 1}, {"both": ["2024-01-02"]}],
            ["left", "right", "both[0]"],
        ),
    ],
)
def test_a_variable_that_serves_several_classes_is_told_apart(
    kind: Any, good: Any, record: Any, bad: Any, path: Any
) -> None:
    assert structure(kind, good) == record
    assert [refusal(kind, good | change).path for change in bad] == path
    assert structure(kind, unstructure(structure(kind, good))) == record
    assert json.loads(json.dumps(unstructure(record))) == good


def test_a_generic_class_without_its_arguments_is_the_programmer_s_mistake() -> None:
    with pytest.raises(StructureHandlerNotFoundError, match="Item"):
        structure(Page, {"items": []})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Literal["a", 1], "a", "b"),
        (Literal["a", 1], 1, True),
        (Literal["a", 1], 1, 1.0),
        (Literal["a", 1], 1, []),
        (Row, {"number": 1}, {"number": "1"}),
        (Row, {"number": 1}, {}),
        (LooseRow, {}, [{"number": 1}]),
        (Row, {"number": 1}, []),
        (Literal[Level.HIGH], 2, 2.0),
        (Literal[Level.HIGH], 2, 1),
    ],
)
def test_literals_and_typed_dicts_do_not_take_what_is_nearly_right(
    kind: Any, good: Any, bad: Any
) -> None:
    assert structure(kind, good) == good
    assert refusal(kind, bad).got


def test_a_literal_of_enum_members_is_read_by_their_values() -> None:
    assert structure(Literal[Level.HIGH], 2) is Level.HIGH  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [True, 2.0, "2", None, [], 3])
def test_an_enum_of_several_types_takes_none_of_what_equals_its_values(wrong: Any) -> None:
    assert structure(Mixed, 2) is Mixed.TWO
    assert refusal(Mixed, wrong).expected.startswith(("Mixed", "a valid Mixed"))


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (Sequence[int], (1, 2)),
        (MutableSequence[int], [1, 2]),
        (set[int], {1, 2}),
        (frozenset[int], frozenset({1, 2})),
        (AbstractSet[int], frozenset({1, 2})),
        (MutableSet[int], {1, 2}),
        (deque[int], deque([1, 2])),
        (tuple[int, int], (1, 2)),
    ],
)
def test_every_collection_is_made_of_a_list_and_of_nothing_else(kind: Any, made: Any) -> None:
    value = structure(kind, [1, 2])
    assert (value, type(value)) == (made, type(made))
    for wrong in ("12", {1: 2}, None, 5, (1, 2)):
        assert refusal(kind, wrong).expected.startswith("a list")
    assert refusal(kind, [1, "2"]).path == "[1]"


def test_a_named_tuple_is_made_of_a_list_of_its_length() -> None:
    assert structure(Point, [1, "a"]) == Point(1, "a")
    assert refusal(tuple[Point, Point], [[1, "a"], [2, 3]]).path == "[1][1]"
    for wrong in ("ab", {"x": 1, "name": "a"}, [1], [1, "a", 2]):
        assert "a list of 2" in refusal(Point, wrong).expected


@pytest.mark.parametrize(
    "kind", [datetime, datetime | None, date | None, int | str, Iterable[int], Coined]
)
def test_what_no_json_can_mean_is_the_programmer_s_mistake_before_any_reply(kind: Any) -> None:
    with pytest.raises(StructureHandlerNotFoundError):
        hook_for(kind)


def test_a_class_that_holds_itself_can_be_read() -> None:
    def wire(depth: int) -> dict[str, Any]:
        return {"text": str(depth), "replies": [wire(depth - 1)] if depth else []}

    comment = structure(Comment, wire(5) | {"parent": {"text": "p", "replies": []}})
    assert comment.replies[0].replies[0].text == "3"
    assert comment.parent == Comment("p", [])
    broken = wire(1) | {"replies": [wire(0) | {"replies": [{"text": 1, "replies": []}]}]}
    assert refusal(Comment, broken).path == "replies[0].replies[0].text"


def test_values_nested_deeper_than_python_can_follow_are_a_schema_error() -> None:
    wire: dict[str, Any] = {"text": "", "replies": []}
    for _ in range(sys.getrecursionlimit()):
        wire = {"text": "", "replies": [wire]}
    error = refusal(Comment, wire)
    assert "RecursionError" in error.expected
    assert error.path.startswith("replies[0].replies[0]")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (list, [1, "a", None], "abc"),
        (tuple, [1, "a"], "abc"),
        (dict, {"a": [1]}, [["a", 1]]),
        (list[int], [1], [True]),
        (tuple[int, str], [1, "a"], ["a", 1]),
        (dict[str, Any], {"a": None}, []),
        (Annotated[int, "a note"], 5, "5"),
        (int, 5, 5.0),
        (float, 5, True),
        (float, 5.5, "5.5"),
        (bool, True, 1),
        (str, "", None),
        (type(None), None, 0),
        (Decimal, 0.1, "0.1"),
    ],
)
def test_an_endpoint_may_return_a_plain_type_and_it_is_as_strict(
    kind: Any, good: Any, bad: Any
) -> None:
    endpoint: Any = Endpoint("get_it", "GET", "api", "/x/it", Auth(), kind)
    record, payload, unknown = Decoder(endpoint).decode({"code": 0, "data": good})  # type: ignore[misc]
    assert payload == good
    assert unknown == ()
    assert record == (
        Decimal(repr(good)) if kind is Decimal else tuple(good) if "tuple" in str(kind) else good
    )
    error = Decoder(endpoint).decode({"code": 0, "data": bad})
    assert isinstance(error, SchemaError)
    assert error.path.startswith("data")


def test_drift_in_a_user_s_class_is_seen_behind_defaults_and_optional_parts() -> None:
    endpoint: Any = Endpoint("get_tree", "GET", "api", "/x/tree", Auth(), Tree)
    assert drift(endpoint, {"code": 0, "data": MOST}) == ()
    envelope = {
        "code": 0,
        "data": LEAST | {"leaf": {"name": "l", "a": 1}, "leaves": [{"name": "m", "b": 2}], "c": 3},
    }
    assert drift(endpoint, envelope) == ("data.c", "data.leaf.a", "data.leaves[].b")


def test_drift_in_a_class_that_holds_itself_ends() -> None:
    endpoint: Any = Endpoint("get_comment", "GET", "api", "/x/comment", Auth(), Comment)
    inner = {"text": "", "replies": [], "novel": 1}
    assert drift(endpoint, {"code": 0, "data": inner | {"replies": [inner]}}) == ("data.novel",)


def test_an_envelope_read_as_a_whole_has_no_drift_of_its_own() -> None:
    @attrs.frozen
    class Whole:
        number: int

    endpoint: Any = Endpoint("get_whole", "GET", "www", "/x/whole", Auth(), Whole, ())
    assert drift(endpoint, {"code": 0, "message": "0", "ttl": 1, "number": 20}) == ()
    assert drift(endpoint, {"code": 0, "message": "0", "number": 20, "novel": 1}) == ("novel",)


def test_password_safety_s_renamed_field_is_named_as_on_the_wire_in_errors() -> None:
    assert (
        refusal(PasswordSafety, samples_by_class()[PasswordSafety] | {"Score": "90"}).path
        == "Score"
    )
