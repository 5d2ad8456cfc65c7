"""Hypothesis strategies made from the record classes, so that a new record is tested without a line
here.

`BILI_EXAMPLES=10000` makes every property that uses `fuzz` run that many examples.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from samples_of import CHINA

from bili_account_async import records
from bili_account_async.records import ChinaTime, IsoDay, UnixMilliseconds, UnixSeconds, ZeroOne

fuzz = settings(
    max_examples=int(os.environ.get("BILI_EXAMPLES", "60")),
    deadline=None,
    database=None,
    derandomize="BILI_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

RECORDS: list[Any] = [c for c in vars(records).values() if isinstance(c, type) and attrs.has(c)]
ENUMS: list[Any] = [
    c for c in vars(records).values() if isinstance(c, type) and issubclass(c, Enum) and len(c)
]

NONES = (datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC))
"""The wire's 0 and Go's zero time, as they would be if they were times."""
int64 = st.integers(-(2**63), 2**64 - 1)
decimals = int64.map(Decimal) | st.floats(allow_nan=False, allow_infinity=False).map(
    lambda f: Decimal(repr(f))
)
decimals |= st.sampled_from(["0.1", "0.2", "-0.3", "1E-7", "1E+22", "0"]).map(Decimal)
moments = st.datetimes(timezones=st.just(UTC)).map(
    lambda t: t - timedelta(microseconds=t.microsecond % 1000)
)

_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: int64,
    str: st.text(),
    bool: st.booleans(),
    Decimal: decimals,
    ZeroOne: st.booleans(),
    IsoDay: st.none() | st.dates(min_value=date(1, 1, 2)),
    UnixMilliseconds: st.none() | moments.filter(lambda t: t not in NONES),
    UnixSeconds: st.none()
    | moments.map(lambda t: t.replace(microsecond=0)).filter(lambda t: t not in NONES),
    ChinaTime: (st.datetimes() | st.sampled_from([datetime.min, datetime.max])).map(
        lambda t: t.replace(microsecond=0, tzinfo=CHINA)
    ),
}


def fields_of(cls: Any) -> list[attrs.Attribute[Any]]:
    """The record's fields with their types resolved, `Annotated` kept."""
    return list(attrs.fields(attrs.resolve_types(cls, include_extras=True)))


def wire_name(field: attrs.Attribute[Any]) -> str:
    return field.metadata.get("wire", field.name)


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of this type can get from the wire; for a record class, every such
    record.
    """
    if kind in _VALUES:
        return _VALUES[kind]
    if get_origin(kind) is Annotated:
        return values(get_args(kind)[0])
    if get_origin(kind) is UnionType:
        return st.none() | values(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=4).map(tuple)
    if isinstance(kind, type) and issubclass(kind, Enum):
        scalar = st.text() if issubclass(kind, str) else int64
        return st.sampled_from(list(kind)) | scalar.map(kind)
    return st.builds(kind, **{field.alias: values(field.type) for field in fields_of(kind)})


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, 1, "", "男"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Whatever a JSON parser may give, NaN and big numbers included."""


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """`value` with some of its parts replaced, taken away or added to."""
    if draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    if isinstance(value, dict):
        made = {
            key: draw(damaged(inner)) for key, inner in value.items() if draw(st.integers(0, 19))
        }
        return made | (draw(st.dictionaries(st.text(max_size=4), json_values, max_size=1)))
    if isinstance(value, list):
        return [draw(damaged(inner)) for inner in value[:3]]
    return value
