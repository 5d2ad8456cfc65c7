"""JSON values become records exactly and come back; anything else is a SchemaError that names its
place.
"""

from __future__ import annotations

import gc
import json
import math
import pathlib
import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
)

import attrs
import orjson
import pytest
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
from bili_account_async.records import (
    ChinaTime,
    IsoDay,
    Record,
    UnixMilliseconds,
    UnixSeconds,
    ZeroOne,
    api_name,
)
from bili_account_async.structuring import Reader
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
        (AccountInfo, "birthday", "0001-01-02", date(1, 1, 2)),
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

EMPTY = dict.fromkeys(
    ["sign", "rank", "hide_tel", "hide_mail", "remark", "realname", "card", "reason"], ""
)
EMPTY |= {"birthday": None, "vip_due_date": None, "card_type": None, "list": ()}
"""What the API's fields of these names are when they are absent or null: the contract's list."""

Path = tuple[str | int, ...]


def takes(kind: Any) -> set[str]:
    """The JSON types that a field of this type can have on the wire."""
    if kind in SCALARS:
        return SCALARS[kind]
    if get_origin(kind) is UnionType:
        return takes(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return {"list"}
    if issubclass(kind, Enum):
        return {"str" if issubclass(kind, str) else "int"}
    assert attrs.has(kind)
    return {"dict"}


def places_in(kind: Any, payload: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every place inside a sample payload, with the type that the records say stands there."""
    yield path, kind
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
    wrong = KINDS.keys() - takes(kind) - {"null" if path[-1] in EMPTY else ""}
    assert len(wrong) >= 5
    for json_type in wrong:
        envelope = with_at(sample(name), path, KINDS[json_type])
        error = Decoder(ENDPOINTS[name]).decode(envelope)
        assert isinstance(error, SchemaError), (json_type, error)
        assert error.path == spelled(path)
        assert error.got == TOLD.get(json_type, json_type)
        assert error.expected
        assert not {"typing", "Annotated"} & set(error.expected.replace(".", " ").split())
        assert str(error) == f"{name}: {error.path}: expected {error.expected}, got {error.got}"


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [p for p in PLACES if not isinstance(p.values[1][-1], int) and p.values[1][-1] not in EMPTY],
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


# --- absent is empty where empty is documented ----------------------------------------------------


def test_the_fields_that_may_be_absent_are_those_of_the_contract() -> None:
    assert {path[-1] for _, path, _ in places_of_records()} > EMPTY.keys()


@pytest.mark.parametrize(("name", "path", "kind"), PLACES)
def test_absent_and_null_are_the_documented_empty_value_and_nothing_else_is_made_up(
    name: str, path: Path, kind: Any
) -> None:
    for nothing in (None, ...):
        if nothing is ... and isinstance(path[-1], int):
            continue  # an item that is taken away is a shorter list
        decoded = Decoder(ENDPOINTS[name]).decode(with_at(sample(name), path, nothing))
        if path[-1] not in EMPTY:
            assert isinstance(decoded, SchemaError)
            assert (decoded.path, decoded.got) == (
                spelled(path),
                "null" if nothing is None else "nothing",
            )
            continue
        assert not isinstance(decoded, SchemaError)
        record, _, unknown = decoded
        for step in path[len(ENDPOINTS[name].result) :]:
            attribute = "entries" if step == "list" else step
            record = record[step] if isinstance(step, int) else getattr(record, attribute)
        assert record == EMPTY[path[-1]]
        assert type(record) is type(EMPTY[path[-1]])
        assert unknown == ()


@every_record
@fuzz
@given(data=st.data())
def test_a_record_without_any_of_what_may_be_absent_is_a_record_that_comes_back(
    cls: Any, data: st.DataObject
) -> None:
    whole = unstructure(data.draw(values(cls)))
    droppable = [name for name in whole if name in EMPTY]
    gone = data.draw(st.sets(st.sampled_from(droppable))) if droppable else set()
    null = data.draw(st.sets(st.sampled_from(droppable))) if droppable else set()
    wire = {name: value for name, value in whole.items() if name not in gone}
    wire |= dict.fromkeys(null)
    record = structure(cls, wire)
    for field in fields_of(cls):
        if wire_name(field) in gone | null:
            assert getattr(record, field.name) == EMPTY[wire_name(field)]
    assert structure(cls, unstructure(record)) == record


def test_a_new_field_is_told_also_where_a_known_one_is_absent() -> None:
    envelope = sample("get_coin_log")
    del envelope["data"]["list"][0]["reason"]
    envelope["data"]["list"][0]["novel"] = 1
    assert drift(ENDPOINTS["get_coin_log"], envelope) == ("data.list[].novel",)


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


HOSTILE = [
    "x\nCRITICAL forged",
    "\x1b]0;title\x07",
    "a\x00b",
    "\u202eevil",
    "\ud800",
    "\u2028",
    "\x9b2J",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_new_field_s_name_can_neither_forge_a_log_line_nor_steer_a_terminal(name: str) -> None:
    envelope = sample("get_vip_info")
    envelope["data"][name] = 1
    (shown,) = drift(ENDPOINTS["get_vip_info"], envelope)
    assert shown.startswith("data.")
    assert shown.isprintable()
    assert len(shown) == len(f"data.{name}")  # what was taken out has left its place


@fuzz
@given(names=st.sets(st.text(), max_size=5))
def test_whatever_new_fields_are_called_their_names_can_be_shown(names: set[str]) -> None:
    envelope = sample("get_vip_info")
    envelope["data"] = dict.fromkeys(names, 1) | envelope["data"]
    shown = drift(ENDPOINTS["get_vip_info"], envelope)
    assert len(shown) <= len(names)
    assert all(each.isprintable() for each in shown)
    "".join(shown).encode()


def test_names_of_new_fields_are_cut_in_length_and_number() -> None:
    envelope = sample("get_coin_log")
    envelope["data"]["a" * 1_000_000] = 1
    (long,) = drift(ENDPOINTS["get_coin_log"], envelope)
    assert len(long) <= 210
    assert long.endswith("a…")
    for n, entry in enumerate(envelope["data"]["list"]):
        entry |= {f"{n}-{k}": 1 for k in range(1000)}
    assert len(drift(ENDPOINTS["get_coin_log"], envelope)) == 100


def test_a_secret_in_a_new_field_s_name_is_redacted_before_that_is_cut_or_cleaned() -> None:
    def redact(text: str) -> str:
        return text.replace("s3cret", "***")

    decoder = Decoder(ENDPOINTS["get_vip_info"])
    for name in ["s3cret", "a" * 194 + "s3cret", "a" * 196 + "s3cret" + "a" * 9, "s3\x1bcret"]:
        envelope = sample("get_vip_info")
        envelope["data"][name] = 1
        _, _, unknown = decoder.decode(envelope, redact)  # type: ignore[misc]
        assert len(unknown) == 1
        assert "s3cret" not in unknown[0]
        assert not unknown[0].endswith(("s3…", "s3cre…"))


# --- what a user declares -------------------------------------------------------------------------


FIRST_SECOND = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


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


@dataclass
class Plain:
    number: int = 0


@attrs.frozen(kw_only=True)
class Leaf:
    name: str
    weight: float = 0.5


@attrs.frozen(kw_only=True)
class Names:
    _private: int
    renamed: str = api_name("Renamed")
    aliased: int = attrs.field(alias="other_name", default=3)
    counted: int = attrs.field(init=False, default=9)


@attrs.frozen
class Parts:
    leaf: Leaf | None
    old_style: Optional[int] = None  # noqa: UP045
    leaves: list[Leaf] = attrs.field(factory=list)


@attrs.frozen
class Lists:
    grid: tuple[tuple[int, ...], ...] = ()
    levels: list[Level] = attrs.field(factory=list)
    bands: tuple[Band, ...] = ()
    names: frozenset[Kind] = frozenset()


@attrs.frozen
class Choices:
    level: Level = Level.LOW
    kind: Kind = Kind.A
    mixed: Mixed = Mixed.A
    choice: Literal["x", "y"] = "x"


@attrs.frozen
class Objects:
    table: dict[str, int] = attrs.field(factory=dict)
    anything: Any = None
    row: LooseRow | None = None
    plain: Plain | None = None
    bare: Mapping | None = None  # type: ignore[type-arg]
    noted: Annotated[int, "a note"] = 0


@attrs.frozen
class Times:
    when: UnixMilliseconds = None
    since: UnixSeconds = None
    days: tuple[IsoDay, ...] = ()


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
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.frozen
class Holder:
    inner: Positive


OF_USERS: list[tuple[Any, dict[str, Any], Any]] = [
    (
        Names,
        {"_private": 1, "Renamed": "r", "aliased": 5},
        Names(private=1, renamed="r", other_name=5),
    ),
    (
        Parts,
        {
            "leaf": {"name": "l", "weight": 0.5},
            "old_style": None,
            "leaves": [{"name": "a", "weight": 1.0}, {"name": "b", "weight": 0.25}],
        },
        Parts(Leaf(name="l"), leaves=[Leaf(name="a", weight=1.0), Leaf(name="b", weight=0.25)]),
    ),
    (
        Lists,
        {
            "grid": [[1, 2], [], [3]],
            "levels": [2, 1],
            "bands": [1.5],
            "names": ["a"],
        },
        Lists(
            ((1, 2), (), (3,)),
            [Level.HIGH, Level.LOW],
            (Band.LOW,),
            frozenset(Kind),
        ),
    ),
    (
        Choices,
        {"level": 2, "kind": "a", "mixed": 2, "choice": "y"},
        Choices(Level.HIGH, Kind.A, Mixed.TWO, "y"),
    ),
    (
        Objects,
        {
            "table": {"a": 1},
            "anything": [{"free": None}],
            "row": {"number": 1},
            "plain": {"number": 2},
            "bare": {"a": [1]},
            "noted": 4,
        },
        Objects({"a": 1}, [{"free": None}], {"number": 1}, Plain(2), {"a": [1]}, 4),
    ),
    (
        Times,
        {"when": 1000, "since": 1, "days": ["2024-02-29", ""]},
        Times(FIRST_SECOND, FIRST_SECOND, (date(2024, 2, 29), None)),
    ),
]
users_records = pytest.mark.parametrize(
    ("cls", "wire", "record"), OF_USERS, ids=lambda value: getattr(value, "__name__", "")
)
MOST = {cls: wire for cls, wire, _ in OF_USERS}


def test_a_user_s_class_may_leave_fields_with_defaults_out() -> None:
    least = structure(Names, {"_private": 1, "Renamed": "r"})
    assert least == Names(private=1, renamed="r")
    assert (least.aliased, least.counted) == (3, 9)
    assert structure(Choices, {}) == Choices()


@users_records
def test_a_user_s_class_is_read_with_nested_optional_and_renamed_fields(
    cls: Any, wire: Any, record: Any
) -> None:
    made = structure(cls, wire)
    assert made == record
    assert repr(made) == repr(record)  # equal is not enough: 1 == 1.0 == Level.LOW


@users_records
def test_a_user_s_record_comes_back_from_unstructure(cls: Any, wire: Any, record: Any) -> None:
    assert json.loads(json.dumps(unstructure(record))) == wire
    assert structure(cls, unstructure(record)) == record


@pytest.mark.parametrize(
    ("cls", "field", "value", "path"),
    [
        (Names, "_private", "1", "_private"),
        (Names, "Renamed", None, "Renamed"),
        (Names, "aliased", True, "aliased"),
        (Parts, "leaf", [], "leaf"),
        (Parts, "leaf", {"name": 1}, "leaf.name"),
        (Parts, "leaf", {}, "leaf.name"),
        (Parts, "old_style", True, "old_style"),
        (Parts, "leaves", {}, "leaves"),
        (Parts, "leaves", "ab", "leaves"),
        (Parts, "leaves", [{"name": "a"}, {"name": "b", "weight": "1"}], "leaves[1].weight"),
        (Parts, "leaves", [{"name": "b", "weight": 10**400}], "leaves[0].weight"),
        (Lists, "grid", [[1], [2, True]], "grid[1][1]"),
        (Choices, "level", True, "level"),
        (Choices, "level", 1.0, "level"),
        (Choices, "level", 7, "level"),
        (Choices, "kind", "b", "kind"),
        (Choices, "mixed", None, "mixed"),
        (Times, "when", "1000", "when"),
        (Times, "since", 1.0, "since"),
        (Times, "days", ["2024-02-29", "20240229"], "days[1]"),
        (Choices, "choice", "z", "choice"),
        (Objects, "table", [["a", 1]], "table"),
        (Objects, "table", {"a": "1"}, "table.*"),
        (Lists, "levels", [1, 7], "levels[1]"),
        (Lists, "bands", [1.5, 2], "bands[1]"),
        (Objects, "row", [], "row"),
        (Objects, "row", {"number": "1"}, "row"),
        (Objects, "plain", "x", "plain"),
        (Objects, "plain", [1], "plain"),
        (Objects, "bare", [], "bare"),
        (Objects, "bare", "", "bare"),
        (Objects, "noted", "4", "noted"),
    ],
)
def test_a_wrong_value_in_a_user_s_class_is_named_by_its_path(
    cls: Any, field: str, value: Any, path: str
) -> None:
    error = refusal(cls, MOST[cls] | {field: value})
    assert error.path == path
    assert error.expected
    assert error.got


@pytest.mark.parametrize(
    ("cls", "field", "zero", "out"),
    [
        (AccountInfo, "birthday", "0001-01-01", ""),
        (VipInfo, "vip_due_date", -62135596800000, 0),
        (Times, "since", -62135596800, 0),
    ],
)
def test_go_s_zero_time_is_none(cls: Any, field: str, zero: Any, out: Any) -> None:
    record = structure(cls, samples_by_class().get(cls, {}) | {field: zero})
    assert getattr(record, field) is None
    assert unstructure(record)[field] == out


def test_a_record_of_ours_may_have_defaults_converters_and_validators_too() -> None:
    @attrs.frozen(kw_only=True)
    class Novel(Record):
        level: int = 0
        name: str = attrs.field(converter=str.upper)

    assert structure(Novel, {"name": "a"}) == Novel(name="A")
    assert structure(Novel, {"name": "a", "level": 6}) == Novel(name="A", level=6)


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
    for wrong in (
        {"items": [{"name": 1}]},
        {"after": {}},
        {"number": "1"},
        {"next": {"items": [1], "number": 2}},
    ):
        error = refusal(kind, wire | wrong)
        assert error.path == ""  # it is cattrs that reads it, and cattrs tells no names
    for wrong in ([], "", None, [["items", []]]):
        assert refusal(kind, wrong).expected == "an object"
    assert structure(kind, unstructure(page)) == page


def test_a_generic_class_without_its_arguments_is_the_programmer_s_mistake() -> None:
    with pytest.raises(TypeError, match="Item"):
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
        (frozenset[int], frozenset({1, 2})),
    ],
)
def test_every_collection_is_made_of_a_list_and_of_nothing_else(kind: Any, made: Any) -> None:
    value = structure(kind, [1, 2])
    assert (value, type(value)) == (made, type(made))
    for wrong in ("12", {1: 2}, None, 5, (1, 2)):
        assert refusal(kind, wrong).expected.startswith("a list")
    assert refusal(kind, [1, "2"]).path == "[1]"


UNREADABLE = [datetime, datetime | None, date | None, int | str, Iterable[int], Coined]
UNREADABLE += [
    bytes,
    pathlib.Path,
    complex,
    object,
    dict[int, str],
    Literal[b"x"],
    list[datetime],
    Page,
]
UNREADABLE += [set[int], AbstractSet[int], deque[int], tuple[int, str], Point, Leaf | Plain]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_no_json_can_mean_is_the_programmer_s_mistake_before_any_reply(kind: Any) -> None:
    with pytest.raises(TypeError):
        Reader(kind)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_type_that_json_can_t_give_is_named_by_endpoint_and_field(kind: Any) -> None:
    for inner in (
        attrs.make_class("Inner", {"bad": attrs.field(type=kind)}),
        make_dataclass("Inner", [("bad", kind)]),
        TypedDict("Inner", {"bad": kind}),  # type: ignore[misc]
    ):
        outer = attrs.make_class("Outer", {"inner": attrs.field(type=inner)})
        returns = attrs.make_class("Returns", {"outers": attrs.field(type=list[outer])})  # type: ignore[valid-type]
        endpoint: Any = Endpoint("get_it", "GET", "api", "/x/it", Auth(), returns)
        with pytest.raises(TypeError) as mistake:
            Decoder(endpoint)
        assert str(mistake.value).startswith("get_it: outers.inner.bad: ")
        assert mistake.value.__cause__ is None
        with pytest.raises(TypeError, match=r"^outers\.inner\.bad: "):
            structure(returns, {})


def test_the_mistake_tells_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"^datetime can't be read from JSON: say how the API"):
        Reader(datetime)
    with pytest.raises(TypeError, match=r"^Page can't be read from JSON: say what ~Item is"):
        Reader(Page)


def test_a_value_that_was_refused_goes_with_its_last_reference() -> None:
    class Value(dict[str, Any]):
        pass

    def refuse(cls: Any, wire: Any) -> weakref.ref[Any]:
        value = Value(wire)
        with suppress(SchemaError):
            structure(cls, value)
            raise AssertionError
        return weakref.ref(value)

    log = payload_of("get_coin_log")
    for cls, wire in (
        (CoinLog, with_at(log, ("list", 4, "time"), "5")),
        (CoinLog, with_at(log, ("count",), ...)),
        (CoinLog, []),
        (Holder, {"inner": {"value": -1}}),
        (Lists, {"levels": [1, 7]}),
        (Objects, {"table": {"a": "1"}}),
        (Objects, {"row": {"number": "1"}}),
        (Choices, {"mixed": 7}),
    ):
        Reader(cls)
        gc.collect()
        gc.disable()
        try:
            assert refuse(cls, wire)() is None
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_a_class_that_holds_itself_can_be_read() -> None:
    def wire(depth: int) -> dict[str, Any]:
        return {"text": str(depth), "replies": [wire(depth - 1)] if depth else []}

    comment = structure(Comment, wire(5) | {"parent": {"text": "p", "replies": []}})
    assert comment.replies[0].replies[0].text == "3"
    assert comment.parent == Comment("p", [])
    broken = wire(1) | {"replies": [wire(0) | {"replies": [{"text": 1, "replies": []}]}]}
    assert refusal(Comment, broken).path == "replies[0].replies[0].text"


def test_a_class_that_holds_itself_is_told_as_any_other_where_it_stands_first() -> None:
    wrong = [{"text": "", "replies": "x"}]
    error = refusal(list[Comment], wrong)
    assert (error.path, error.expected) == ("[0].replies", "a list")

    @attrs.frozen
    class Thread:
        top: Comment
        others: list[Comment]

    comment = {"text": "", "replies": [], "novel": 1}
    endpoint: Any = Endpoint("get_thread", "GET", "api", "/x/thread", Auth(), Thread)
    envelope = {"code": 0, "data": {"top": comment, "others": [comment]}}
    assert drift(endpoint, envelope) == ("data.top.novel", "data.others[].novel")


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
        (tuple[int, ...], [1, 2], ["a", 1]),
        (dict[str, Any], {"a": None}, []),
        (Annotated[int, "a note"], 5, "5"),
        (NewType("Mid", int), 5, True),
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
    endpoint: Any = Endpoint("get_parts", "GET", "api", "/x/parts", Auth(), Parts)
    assert drift(endpoint, {"code": 0, "data": MOST[Parts]}) == ()
    envelope = {
        "code": 0,
        "data": {"leaf": {"name": "l", "a": 1}, "leaves": [{"name": "m", "b": 2}], "c": 3},
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
