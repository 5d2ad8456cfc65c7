"""The scalars as one table: what each is in JSON, in words, and how to read and to write it.

Not here: lists, objects and enums (`containers.py`), and the place of a value (`mismatch.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple, cast

from ..errors import BiliError
from ..records import ChinaTime, IsoDay, IsoTime, UnixMilliseconds, UnixSeconds, ZeroOne
from .mismatch import Hook, Unfit

_CHINA = timezone(timedelta(hours=8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GO_ZERO = datetime(1, 1, 1, tzinfo=UTC)  # how a server written in Go spells "no time"
_COMMON_DECIMALS = {tenths / 10: Decimal(tenths) / 10 for tenths in range(-100, 101)}


class Scalar(NamedTuple):
    """A row of the table."""

    expected: str
    read: Hook
    write: Callable[[Any], Any] | None = None
    """None if the value goes out as it is."""


def _exactly(scalar: type) -> Hook:
    def read(value: Any, cls: Any) -> Any:
        if value.__class__ is not scalar:
            raise Unfit
        # cattrs asks for the scalar's subclasses here too, as for an IntEnum.
        return value if cls is scalar else cls(value)

    return read


def _number(value: Any) -> int | float:
    if value.__class__ is int or (value.__class__ is float and math.isfinite(value)):
        return cast(float, value)
    raise Unfit


def _float(value: Any, cls: Any) -> Any:
    number = float(_number(value))
    return number if cls is float else cls(number)


def _decimal(value: Any, cls: Any) -> Any:
    if cls is Decimal and (value.__class__ is int or value.__class__ is float):
        # Nearly all changes of coins are here: 0.05 µs instead of 0.5.
        common = _COMMON_DECIMALS.get(value)
        if common is not None:
            return common
    # repr of a float is the shortest text that means it, so 0.1 on the wire is Decimal("0.1") here.
    number = _number(value)
    return cls(number if number.__class__ is int else repr(number))


def _plain_number(value: Decimal) -> int | float:
    return int(value) if value.as_tuple().exponent == 0 else float(value)


def _zero_one(value: Any, _: Any) -> bool:
    if value.__class__ is not int or value not in (0, 1):
        raise Unfit
    return value == 1


def _day(value: Any, _: Any) -> date | None:
    # fromisoformat takes other forms too.
    if value.__class__ is str and len(value) == 10 and value[4] == value[7] == "-":
        try:
            return date.fromisoformat(value) if value != "0001-01-01" else None
        except ValueError:
            pass
    if value == "":
        return None
    raise Unfit


def _china_time(value: Any, _: Any) -> datetime:
    # fromisoformat takes other forms too, and from Python 3.14 on an hour 24.
    if value.__class__ is str and len(value) == 19 and value[4::3] == "-- ::":
        try:
            if value[11:13] != "24":
                return datetime.fromisoformat(value + "+08:00")
        except ValueError:
            pass
    raise Unfit


def _plain_china_time(time: datetime) -> str:
    local = time if time.tzinfo == _CHINA else time.astimezone(_CHINA)
    return local.isoformat(" ", "seconds")[:19]


def _iso_time(value: Any, _: Any) -> datetime:
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise Unfit
    return time.astimezone(UTC)


def _since_1970(unit: timedelta) -> tuple[Hook, Callable[[datetime | None], int]]:
    """Return what reads and what writes a time that is counted in `unit`."""
    none = (0, (_GO_ZERO - _EPOCH) // unit)

    def read(value: Any, _: Any) -> datetime | None:
        if value.__class__ is int:
            try:
                return None if value in none else _EPOCH + value * unit
            except OverflowError:
                pass
        raise Unfit

    return read, lambda time: (time - _EPOCH) // unit if time else 0


def _error(value: Any, _: Any) -> BiliError:
    """Return the error with its class and text; its other attributes did not travel."""
    name, message = value["type"], value["message"]
    if name.__class__ is not str or message.__class__ is not str:
        raise Unfit
    kinds = _family(BiliError)
    cls = next((kind for kind in kinds if kind.__name__ == name), BiliError)
    error = cls.__new__(cls)
    error.args = (message,)
    return error


def _plain_error(error: BiliError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}


def _family(cls: type[BiliError]) -> Iterator[type[BiliError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


SCALARS: dict[Any, Scalar] = {
    int: Scalar("an int", _exactly(int)),
    str: Scalar("a text", _exactly(str)),
    bool: Scalar("a bool", _exactly(bool)),
    NoneType: Scalar("null", _exactly(NoneType)),
    float: Scalar("a finite number", _float),
    Decimal: Scalar("a finite number", _decimal, _plain_number),
    ZeroOne: Scalar("0 or 1", _zero_one, int),
    IsoDay: Scalar("a date YYYY-MM-DD or an empty text", _day, lambda day: str(day or "")),
    UnixSeconds: Scalar("a timestamp in seconds", *_since_1970(timedelta(seconds=1))),
    UnixMilliseconds: Scalar("a timestamp in milliseconds", *_since_1970(timedelta(0, 0, 1000))),
    ChinaTime: Scalar("a time YYYY-MM-DD HH:MM:SS", _china_time, _plain_china_time),
    IsoTime: Scalar("a time with its zone", _iso_time, datetime.isoformat),
    BiliError: Scalar("an error's type and message", _error, _plain_error),
}
"""By type. What a `read` raises is no matter: the place of the value knows how to tell it."""
