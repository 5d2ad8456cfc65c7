"""Records are plain values that nobody can change, and enums take what a server
may say tomorrow.
"""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples_of import CHINA, EXPECTED
from strategies import ENUMS, RECORDS, decimals, fuzz, values

import bili_account_async as bili
from bili_account_async import CardType, CoinLog, CoinLogEntry, PasswordLevel, Sex, VipStatus
from bili_account_async.structuring import Reader

FIELDS = {
    "AccountInfo": "mid uname userid sign birthday sex nick_free rank",
    "DailyRewards": "login watch coins share email tel safe_question identify_card",
    "VipInfo": "mid vip_type vip_status vip_due_date vip_pay_type theme_type",
    "SecurityInfo": "account_info account_safe account_sns account_other",
    "BindingInfo": "hide_tel hide_mail bind_tel bind_mail tel_verify mail_verify "
    "unneeded_check realname_certified",
    "PasswordSafety": "score score_new pwd_level security",
    "SnsBindings": "weibo_bind qq_bind wechat_bind",
    "OtherSecurity": "skip_verify",
    "RealnameApplication": "status remark realname card card_type",
    "CoinLog": "entries count",
    "CoinLogEntry": "time delta reason",
}
MEMBERS = {
    "Sex": {"MALE": "男", "FEMALE": "女", "SECRET": "保密"},
    "VipType": {"NONE": 0, "MONTHLY": 1, "ANNUAL": 2},
    "VipStatus": {"NONE": 0, "NORMAL": 1, "FROZEN": 2, "LOCKED": 3},
    "VipPayType": {"UNPAID": 0, "PAID": 1},
    "PasswordLevel": {"WEAK": 1, "MEDIUM": 2, "STRONG": 3},
    "RealnameStatus": {"UNCERTIFIED": 0, "CERTIFIED": 1},
    "RealnameApplicationStatus": {"CERTIFIED": 1, "UNCERTIFIED": 3},
    "CardType": {
        "ID_CARD": 0,
        "HK_MACAO_PERMIT": 2,
        "TAIWAN_PERMIT": 3,
        "PASSPORT": 4,
        "FOREIGN_RESIDENT": 5,
        "OTHER": 6,
    },
}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
every_record = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
every_enum = pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)


def unknown_value(enum: Any) -> Any:
    return "外星人" if issubclass(enum, str) else 99


def entry(delta: str, time: datetime = datetime(2020, 5, 19, tzinfo=CHINA)) -> CoinLogEntry:
    return CoinLogEntry(time=time, delta=Decimal(delta), reason="登录奖励")


def log(*deltas: str) -> CoinLog:
    return CoinLog(entries=tuple(map(entry, deltas)), count=len(deltas))


# --- records --------------------------------------------------------------------------------------


def test_the_records_and_enums_are_those_of_the_contract() -> None:
    assert {cls.__name__ for cls in RECORDS} == FIELDS.keys()
    assert {enum.__name__ for enum in ENUMS} == MEMBERS.keys()
    assert FIELDS.keys() | MEMBERS.keys() <= set(bili.__all__)


@every_record
def test_a_record_has_the_fields_of_the_contract(cls: Any) -> None:
    assert [field.name for field in attrs.fields(cls)] == FIELDS[cls.__name__].split()


@every_record
@settings(fuzz, max_examples=1)
@given(data=st.data())
def test_a_record_is_frozen_slotted_and_keyword_only(cls: Any, data: st.DataObject) -> None:
    record = data.draw(values(cls))
    name = attrs.fields(cls)[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(record, name, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(record, name)
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(record, "novel", 1)
    with pytest.raises(TypeError, match="positional"):
        cls(*(getattr(record, field.name) for field in attrs.fields(cls)))
    assert not hasattr(record, "__dict__")


@every_record
@fuzz
@given(data=st.data())
def test_a_record_survives_pickle_and_copy_with_its_value_type_and_hash(
    cls: Any, data: st.DataObject
) -> None:
    record = data.draw(values(cls))
    for twin in (
        *(pickle.loads(pickle.dumps(record, protocol)) for protocol in PROTOCOLS),
        copy.copy(record),
        copy.deepcopy(record),
    ):
        assert twin == record
        assert type(twin) is cls
        assert hash(twin) == hash(record)


@every_record
def test_a_record_without_one_of_its_fields_can_not_be_made(cls: Any) -> None:
    with pytest.raises(TypeError, match=attrs.fields(cls)[-1].name):
        cls(**{field.alias: None for field in attrs.fields(cls)[:-1]})


def test_records_compare_by_value_and_can_be_members_of_a_set() -> None:
    info = EXPECTED["get_account_info"]
    assert {info, attrs.evolve(info), attrs.evolve(info, sign="")} == {
        info,
        attrs.evolve(info, sign=""),
    }


# --- the coin log's sums --------------------------------------------------------------------------


def test_the_documented_coin_log_sums_to_exact_decimals() -> None:
    log = EXPECTED["get_coin_log"]
    assert (log.income, log.spending, log.net) == (Decimal("7.3"), Decimal(4), Decimal("3.3"))


@pytest.mark.parametrize(
    ("deltas", "income", "spending", "net"),
    [
        ((), "0", "0", "0"),
        (("0.1", "0.1", "0.1"), "0.3", "0", "0.3"),
        (("-1", "-0.7"), "0", "1.7", "-1.7"),
        (("0", "-0.0"), "0", "0", "0"),
        (("0.1", "-0.3"), "0.1", "0.3", "-0.2"),
        (
            ("1E+28", "0.1"),
            "10000000000000000000000000000.1",
            "0",
            "10000000000000000000000000000.1",
        ),
    ],
)
def test_sums_are_exact_whatever_the_decimals(
    deltas: tuple[str, ...], income: str, spending: str, net: str
) -> None:
    made = log(*deltas)
    assert (made.income, made.spending, made.net) == (
        Decimal(income),
        Decimal(spending),
        Decimal(net),
    )


@fuzz
@given(st.lists(decimals, max_size=5))
def test_income_and_spending_are_never_negative_and_differ_by_the_net(
    deltas: list[Decimal],
) -> None:
    made = log(*map(str, deltas))
    with localcontext(prec=2000):
        assert made.income == sum((delta for delta in deltas if delta > 0), Decimal(0)) >= 0
        assert made.spending == -sum((delta for delta in deltas if delta < 0), Decimal(0)) >= 0
        assert made.net == made.income - made.spending


# --- enums ----------------------------------------------------------------------------------------


@every_enum
def test_an_enum_has_the_members_of_the_contract(enum: Any) -> None:
    assert {member.name: member.value for member in enum} == MEMBERS[enum.__name__]


@every_enum
def test_a_documented_value_is_its_member(enum: Any) -> None:
    for name, value in MEMBERS[enum.__name__].items():
        member = enum(value)
        assert member is enum[name] is getattr(enum, name)
        assert member.known is True
        assert member == value
        assert hash(member) == hash(value)


@every_enum
def test_an_undocumented_value_is_a_member_that_keeps_the_value(enum: Any) -> None:
    value = unknown_value(enum)
    member = enum(value)
    assert type(member) is enum
    assert member.value == value
    assert type(member.value) is type(value)
    assert member.name == f"UNKNOWN_{value}"
    assert member.known is False
    assert f"UNKNOWN_{value}" in repr(member)
    assert str(member) == str(value)


def test_the_contracts_own_example_holds() -> None:
    member = VipStatus(9)
    assert (member.value, member.name, member.known) == (9, "UNKNOWN_9", False)


@every_enum
def test_unknown_members_compare_and_hash_as_their_values(enum: Any) -> None:
    value = unknown_value(enum)
    assert enum(value) == enum(value) == value
    assert enum(value) != next(iter(enum))
    assert hash(enum(value)) == hash(value)
    assert {enum(value), enum(value), value} == {value}


@every_enum
def test_members_survive_pickle_and_copy_whether_known_or_not(enum: Any) -> None:
    for member in (*enum, enum(unknown_value(enum))):
        for twin in (
            *(pickle.loads(pickle.dumps(member, protocol)) for protocol in PROTOCOLS),
            copy.copy(member),
            copy.deepcopy(member),
        ):
            assert twin == member
            assert (type(twin), twin.name, twin.known) == (enum, member.name, member.known)
    known = next(iter(enum))
    assert pickle.loads(pickle.dumps(known)) is known


@every_enum
def test_unknown_members_are_not_remembered(enum: Any) -> None:
    def size() -> tuple[int, ...]:
        return len(enum), len(enum.__members__), len(enum._value2member_map_), len(vars(enum))

    before = size()
    for number in range(1000):
        enum(f"第{number}" if issubclass(enum, str) else 1000 + number)
    assert size() == before
    assert enum(unknown_value(enum)) not in list(enum)


@pytest.mark.parametrize(
    "value", [True, False, 1.0, 0.0, "1", b"1", None, Decimal(1), 1 + 0j, [1], CardType.ID_CARD]
)
def test_only_an_int_can_be_a_vip_status(value: Any) -> None:
    with pytest.raises(ValueError, match="no VipStatus"):
        VipStatus(value)


@pytest.mark.parametrize("value", [1, True, None, "男".encode(), ["男"]])
def test_only_a_str_can_be_a_sex(value: Any) -> None:
    with pytest.raises(ValueError, match="no Sex"):
        Sex(value)


def test_a_member_is_its_own_enum_s_member_already() -> None:
    assert VipStatus(VipStatus.NORMAL) is VipStatus.NORMAL
    unknown = VipStatus(9)
    assert VipStatus(unknown) == unknown


def test_names_are_looked_up_as_in_any_enum() -> None:
    assert PasswordLevel["STRONG"] is PasswordLevel.STRONG
    with pytest.raises(KeyError):
        PasswordLevel["UNKNOWN_9"]


def test_a_china_time_is_equal_to_the_same_moment_in_utc() -> None:
    assert entry("1", datetime(2020, 5, 19, 8, tzinfo=CHINA)) == entry(
        "1", datetime(2020, 5, 19, 0, tzinfo=UTC)
    )


@pytest.mark.parametrize("cls", RECORDS)
def test_reading_a_record_leaves_no_trace_on_its_class(cls: Any) -> None:
    Reader(cls)
    assert cls.__subclasses__() == []
