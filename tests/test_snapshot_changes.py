"""A snapshot as a value: what changed since another one, and how it travels to other processes and
files.
"""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples_of import CHINA, EXPECTED, OF_SECTIONS
from strategies import fuzz, values

from bili_account_async import (
    ALL_SECTIONS,
    AccountSnapshot,
    ApiError,
    BiliError,
    Change,
    CoinLog,
    CoinLogEntry,
    PasswordLevel,
    RealnameStatus,
    RequestTimeout,
    SchemaError,
    TransportError,
    VipStatus,
    structure,
    unstructure,
)
from bili_account_async.snapshot import SECTIONS

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
FULL = AccountSnapshot(taken_at=NOON, **OF_SECTIONS)
EMPTY = AccountSnapshot(taken_at=NOON)
FAILURES = {
    "vip_info": RequestTimeout("no answer within 4 s"),
    "coin_log": SchemaError(
        path="data.list", expected="a list", got="str", payload={"list": "绝密"}
    ),
    "account_info": ApiError("啥都木有", code=-404),
}


def entry(hour: int, delta: str = "1", reason: str = "登录奖励") -> CoinLogEntry:
    time = datetime(2026, 3, 4, tzinfo=CHINA) + timedelta(hours=hour)
    return CoinLogEntry(time=time, delta=Decimal(delta), reason=reason)


def with_log(*entries: CoinLogEntry, count: int | None = None) -> AccountSnapshot:
    log = CoinLog(entries=entries, count=len(entries) if count is None else count)
    return AccountSnapshot(taken_at=NOON, coin_log=log)


def later(snapshot: AccountSnapshot, **changes: Any) -> AccountSnapshot:
    return attrs.evolve(snapshot, taken_at=NOON + timedelta(minutes=10), **changes)


def partial() -> AccountSnapshot:
    return AccountSnapshot(
        taken_at=NOON,
        realname_status=RealnameStatus.CERTIFIED,
        failures=FAILURES,
        skipped=frozenset({"coin_exp"}),
    )


# --- the value ------------------------------------------------------------------------------------


def test_the_sections_are_the_snapshot_s_own_fields_and_each_names_its_endpoint() -> None:
    assert {section: endpoint.name for section, endpoint in SECTIONS.items()} == {
        section: f"get_{section}" for section in ALL_SECTIONS
    }
    assert len(ALL_SECTIONS) == 8
    assert all(getattr(EMPTY, section) is None for section in ALL_SECTIONS)
    assert all(getattr(FULL, section) is not None for section in ALL_SECTIONS)


def test_a_snapshot_is_frozen_keyword_only_and_does_not_hash() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        FULL.coin_exp = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        AccountSnapshot(NOON)  # type: ignore[misc]
    with pytest.raises(TypeError, match="unhashable"):
        hash(FULL)


def test_failures_are_read_only_and_cut_off_from_the_caller_s_dict() -> None:
    mine = dict(FAILURES)
    made = AccountSnapshot(taken_at=NOON, failures=mine)
    mine.clear()
    assert dict(made.failures) == FAILURES
    with pytest.raises(TypeError):
        made.failures["vip_info"] = ApiError("", code=1)  # type: ignore[index]


def test_a_snapshot_is_complete_without_failed_and_skipped_sections() -> None:
    assert FULL.complete
    assert not partial().complete
    assert not AccountSnapshot(taken_at=NOON, skipped=frozenset({"coin_exp"})).complete
    assert not AccountSnapshot(taken_at=NOON, failures={"vip_info": FAILURES["vip_info"]}).complete


def test_a_snapshot_is_complete_if_each_section_that_was_asked_for_is_there() -> None:
    some = AccountSnapshot(taken_at=NOON, coin_exp=0, sections=frozenset({"coin_exp"}))
    assert some.complete
    assert not attrs.evolve(some, sections=frozenset({"coin_exp", "coin_log"})).complete
    assert not EMPTY.complete


def test_snapshots_compare_by_value() -> None:
    assert attrs.evolve(FULL) == FULL
    assert later(FULL) != FULL


def test_failures_are_equal_by_class_and_text() -> None:
    def failed(error: BiliError) -> AccountSnapshot:
        return AccountSnapshot(taken_at=NOON, failures={"vip_info": error})

    assert failed(RequestTimeout("no answer")) == failed(RequestTimeout("no answer"))
    assert failed(RequestTimeout("no answer")) != failed(RequestTimeout("no luck"))
    assert failed(RequestTimeout("no answer")) != failed(TransportError("no answer"))
    assert failed(RequestTimeout("no answer")) != EMPTY


# --- pickle, copy, JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_snapshot_pickles(protocol: int) -> None:
    for snapshot in (FULL, EMPTY):
        assert pickle.loads(pickle.dumps(snapshot, protocol)) == snapshot


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_partial_snapshot_pickles_with_its_errors_but_not_their_payloads(protocol: int) -> None:
    kept = pickle.dumps(partial(), protocol)
    assert "绝密".encode() not in kept
    twin = pickle.loads(kept)
    assert {name: (type(error), str(error)) for name, error in twin.failures.items()} == {
        name: (type(error), str(error)) for name, error in FAILURES.items()
    }
    assert twin.failures["coin_log"].path == "data.list"
    assert twin.failures["coin_log"].payload is None
    assert (twin.skipped, twin.complete, twin.taken_at) == ({"coin_exp"}, False, NOON)
    with pytest.raises(TypeError):
        twin.failures["x"] = 1


def test_a_snapshot_copies() -> None:
    for snapshot in (FULL, EMPTY):
        assert copy.copy(snapshot) == copy.deepcopy(snapshot) == snapshot
    assert {name: str(error) for name, error in copy.deepcopy(partial()).failures.items()} == {
        name: str(error) for name, error in FAILURES.items()
    }


def test_a_change_pickles() -> None:
    change = Change(path="vip_info.vip_status", old=VipStatus.NORMAL, new=VipStatus(9))
    assert pickle.loads(pickle.dumps(change)) == change


def test_unstructure_gives_each_section_under_the_api_s_names() -> None:
    told = unstructure(FULL)
    assert json.loads(json.dumps(told)) == told
    assert told["taken_at"] == "2026-03-04T12:00:00+00:00"
    for section in ALL_SECTIONS:
        record = getattr(FULL, section)
        assert told[section] == unstructure(record)
        assert structure(type(record), told[section]) == record
    assert "Score" in told["security_info"]["account_safe"]
    assert (told["failures"], told["skipped"]) == ({}, [])


def test_unstructure_gives_errors_as_type_and_message_and_absent_sections_as_none() -> None:
    told = json.loads(json.dumps(unstructure(partial())))
    assert told["failures"] == {
        "vip_info": {"type": "RequestTimeout", "message": "no answer within 4 s"},
        "coin_log": {"type": "SchemaError", "message": "data.list: expected a list, got str"},
        "account_info": {"type": "ApiError", "message": "code -404: 啥都木有"},
    }
    assert told["skipped"] == ["coin_exp"]
    assert told["realname_status"] == 1
    assert [told[section] for section in ALL_SECTIONS - {"realname_status"}] == [None] * 7


def every_error(cls: type[BiliError] = BiliError) -> list[type[BiliError]]:
    return [cls, *(each for child in cls.__subclasses__() for each in every_error(child))]


errors = st.builds(
    lambda cls, text: pickle.loads(pickle.dumps(revived(cls, text))),
    st.sampled_from(every_error()),
    st.text(),
)


def revived(cls: type[BiliError], text: str) -> BiliError:
    error = cls.__new__(cls)
    error.args = (text,)
    return error


@fuzz
@given(data=st.data())
def test_any_snapshot_passes_json_and_pickle(data: st.DataObject) -> None:
    sections = {
        section: data.draw(st.none() | values(SECTIONS[section].returns))
        for section in sorted(ALL_SECTIONS)
    }
    some = st.frozensets(st.sampled_from(sorted(ALL_SECTIONS)))
    snapshot = AccountSnapshot(
        taken_at=data.draw(st.datetimes(timezones=st.just(UTC))),
        failures=data.draw(st.dictionaries(st.sampled_from(sorted(ALL_SECTIONS)), errors)),
        skipped=data.draw(some),
        sections=data.draw(some),
        **sections,
    )
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    told = json.loads(json.dumps(unstructure(snapshot), allow_nan=False))
    assert structure(AccountSnapshot, told) == snapshot
    for section, record in sections.items():
        assert (
            told[section] is None
            if record is None
            else structure(type(record), told[section]) == record
        )
    assert snapshot.changes_since(snapshot) == ()


def test_a_snapshot_comes_back_from_json_with_errors_of_the_same_class_and_text() -> None:
    failing = partial()
    failing.failures["vip_info"].endpoint = "get_vip_info"
    for snapshot in (FULL, EMPTY, failing):
        twin = structure(AccountSnapshot, json.loads(json.dumps(unstructure(snapshot))))
        assert twin == snapshot
        assert twin.changes_since(snapshot) == ()
        assert (twin.complete, twin.taken_at.tzinfo) == (snapshot.complete, UTC)
        for section, error in snapshot.failures.items():
            assert type(twin.failures[section]) is type(error)
            assert str(twin.failures[section]) == str(error)
            assert str(pickle.loads(pickle.dumps(twin.failures[section]))) == str(error)


def test_an_error_of_a_class_that_nobody_knows_comes_back_as_a_plain_one() -> None:
    told = unstructure(EMPTY) | {"failures": {"vip_info": {"type": "Novel", "message": "m"}}}
    error = structure(AccountSnapshot, told).failures["vip_info"]
    assert (type(error), str(error)) == (BiliError, "m")


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("taken_at", "2026-03-04T12:00:00", "taken_at"),
        ("taken_at", 1772625600, "taken_at"),
        ("coin_exp", "20", "coin_exp"),
        ("account_info", {}, "account_info.mid"),
        ("skipped", "coin_exp", "skipped"),
        ("failures", [], "failures"),
        ("failures", {"vip_info": "m"}, "failures.*"),
        ("failures", {"vip_info": {"type": "ApiError"}}, "failures.*"),
        ("failures", {"vip_info": {"type": 1, "message": "m"}}, "failures.*"),
        ("failures", {"vip_info": {"type": "ApiError", "message": None}}, "failures.*"),
    ],
)
def test_what_is_no_snapshot_is_named_by_its_path(field: str, value: Any, path: str) -> None:
    with pytest.raises(SchemaError) as refused:
        structure(AccountSnapshot, unstructure(EMPTY) | {field: value})
    assert refused.value.path == path


# --- changes --------------------------------------------------------------------------------------


def test_nothing_changed_between_equal_snapshots() -> None:
    assert later(FULL).changes_since(FULL) == ()
    assert later(EMPTY).changes_since(EMPTY) == ()


def test_the_contract_s_own_example_holds() -> None:
    vip = attrs.evolve(EXPECTED["get_vip_info"], vip_status=VipStatus.FROZEN)
    assert later(FULL, vip_info=vip).changes_since(FULL) == (
        Change(path="vip_info.vip_status", old=VipStatus.NORMAL, new=VipStatus.FROZEN),
    )


@pytest.mark.parametrize(
    ("section", "new", "change"),
    [
        ("coin_exp", 30, ("coin_exp", 20, 30)),
        ("coin_exp", 0, ("coin_exp", 20, 0)),
        (
            "realname_status",
            RealnameStatus.UNCERTIFIED,
            ("realname_status", RealnameStatus.CERTIFIED, RealnameStatus.UNCERTIFIED),
        ),
        (
            "realname_status",
            RealnameStatus(7),
            ("realname_status", RealnameStatus.CERTIFIED, RealnameStatus(7)),
        ),
        (
            "account_info",
            attrs.evolve(EXPECTED["get_account_info"], birthday=None),
            ("account_info.birthday", date(2002, 3, 5), None),
        ),
        (
            "vip_info",
            attrs.evolve(EXPECTED["get_vip_info"], vip_due_date=None),
            ("vip_info.vip_due_date", datetime(2021, 2, 4, 16, tzinfo=UTC), None),
        ),
    ],
)
def test_a_changed_value_is_a_change_with_its_path(
    section: str, new: Any, change: tuple[str, Any, Any]
) -> None:
    [told] = later(FULL, **{section: new}).changes_since(FULL)
    assert (told.path, told.old, told.new) == change


def test_a_change_deep_inside_is_told_by_its_attribute_names() -> None:
    security = EXPECTED["get_security_info"]
    safe = attrs.evolve(security.account_safe, score=10, pwd_level=PasswordLevel.WEAK)
    other = attrs.evolve(security.account_other, skip_verify=True)
    new = attrs.evolve(security, account_safe=safe, account_other=other)
    assert later(FULL, security_info=new).changes_since(FULL) == (
        Change(path="security_info.account_safe.score", old=90, new=10),
        Change(
            path="security_info.account_safe.pwd_level",
            old=PasswordLevel.STRONG,
            new=PasswordLevel.WEAK,
        ),
        Change(path="security_info.account_other.skip_verify", old=False, new=True),
    )


def test_changes_in_several_sections_are_all_told() -> None:
    info = attrs.evolve(EXPECTED["get_account_info"], sign="新的签名", uname="小明")
    told = later(FULL, account_info=info, coin_exp=50).changes_since(FULL)
    assert {change.path for change in told} == {
        "account_info.sign",
        "account_info.uname",
        "coin_exp",
    }


@pytest.mark.parametrize("section", sorted(ALL_SECTIONS))
def test_a_section_that_is_absent_in_either_is_no_change(section: str) -> None:
    without = later(FULL, **{section: None})
    assert without.changes_since(FULL) == ()
    assert FULL.changes_since(without) == ()
    assert EMPTY.changes_since(FULL) == FULL.changes_since(EMPTY) == ()


def test_other_circumstances_are_no_change() -> None:
    other = AccountSnapshot(
        taken_at=NOON + timedelta(days=1),
        coin_exp=20,
        failures=FAILURES,
        skipped=frozenset({"coin_log"}),
    )
    assert other.changes_since(FULL) == ()


def test_new_coin_log_entries_are_one_change_in_the_server_s_order() -> None:
    old = with_log(entry(2), entry(1))
    new = with_log(entry(4, "-1"), entry(3), entry(2), entry(1))
    assert new.changes_since(old) == (
        Change(path="coin_log.entries", old=(), new=(entry(4, "-1"), entry(3))),
    )


def test_entries_that_only_aged_out_are_no_change() -> None:
    assert with_log(entry(3)).changes_since(with_log(entry(3), entry(2), entry(1))) == ()
    assert with_log().changes_since(with_log(entry(3))) == ()


def test_entries_may_age_out_while_others_come() -> None:
    new = with_log(entry(3), entry(2))
    assert new.changes_since(with_log(entry(2), entry(1))) == (
        Change(path="coin_log.entries", old=(), new=(entry(3),)),
    )


def test_the_first_entries_of_an_empty_log_are_new() -> None:
    assert with_log(entry(1)).changes_since(with_log()) == (
        Change(path="coin_log.entries", old=(), new=(entry(1),)),
    )


def test_two_equal_entries_in_one_second_are_both_real() -> None:
    one, two = with_log(entry(1)), with_log(entry(1), entry(1))
    assert two.changes_since(one) == (Change(path="coin_log.entries", old=(), new=(entry(1),)),)
    assert two.changes_since(two) == ()
    assert one.changes_since(two) == ()


def test_an_entry_that_the_server_reworded_is_new() -> None:
    new = with_log(entry(1, reason="每日登录"))
    assert new.changes_since(with_log(entry(1))) == (
        Change(path="coin_log.entries", old=(), new=(entry(1, reason="每日登录"),)),
    )


def test_a_new_order_of_the_same_entries_and_another_count_are_no_change() -> None:
    assert with_log(entry(1), entry(2)).changes_since(with_log(entry(2), entry(1))) == ()
    assert with_log(entry(1), count=9).changes_since(with_log(entry(1))) == ()


def test_an_equal_decimal_in_another_form_is_no_change() -> None:
    assert with_log(entry(1, "1.0")).changes_since(with_log(entry(1, "1"))) == ()


@fuzz
@given(
    old=st.lists(st.integers(0, 6).map(entry), max_size=8),
    new=st.lists(st.integers(0, 6).map(entry), max_size=8),
)
def test_what_is_told_as_new_is_what_the_old_log_lacks(
    old: list[CoinLogEntry], new: list[CoinLogEntry]
) -> None:
    told = with_log(*new).changes_since(with_log(*old))
    left = list(old)
    lacking = [item for item in new if not (item in left and left.remove(item) is None)]
    assert sorted(item.time for change in told for item in change.new) == sorted(
        item.time for item in lacking
    )
    assert [change.path for change in told] == ["coin_log.entries"][: len(lacking)]
