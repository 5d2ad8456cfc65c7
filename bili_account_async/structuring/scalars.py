"""The scalars as one table: what each is in JSON, in words, and how it is read and written.

A reader here takes nothing that is only nearly right, so that a change of the API is seen. Not
here: all that is made of parts (`forms.py`), and the place of a value (`mismatch.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple, cast

from ..errors import BiliError
from ..records import ChinaTime, IsoDay, IsoTime, UnixMilliseconds, UnixSeconds, ZeroOne
from .mismatch import Unfit

Read = Callable[[Any], Any]
"""Makes the value of what JSON held, or raises: `Unfit`, or anything that tells more."""

_CHINA = timezone(timedelta(hours=8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMMON_DECIMALS = {tenths / 10: Decimal(tenths) / 10 for tenths in range(-100, 101)}
"""Nearly all changes of coins: looking one up takes 0.05 µs, and making it 0.5."""


class Form(NamedTuple):
    """The JSON form of one type: its description, its reader and its writer."""

    expected: str
    """The description of such a value, in words for an error."""
    read: Read
    write: Callable[[Any], Any] | None = None
    """Makes what JSON holds of the value; None if that goes out as it is."""
    known: frozenset[str] = frozenset()
    """The names of a record's fields, or of those of each in a list; empty for all else."""
    inside: tuple[tuple[str, Form], ...] = ()
    """Those of the fields that hold records themselves."""


def _exactly(scalar: type) -> Read:
    """Return what takes values of this very type: `True` is an `int` too."""

    def read(value: Any) -> Any:
        if value.__class__ is not scalar:
            raise Unfit
        return value

    return read


def _number(value: Any) -> int | float:
    """Return the number: NaN and infinity, which some parsers let pass, are none."""
    if value.__class__ is int or (value.__class__ is float and math.isfinite(value)):
        return cast(float, value)
    raise Unfit


def _decimal(value: Any) -> Decimal:
    """Return the number as a decimal with the digits that stood in the JSON text."""
    if value.__class__ is int or value.__class__ is float:
        common = _COMMON_DECIMALS.get(value)
        if common is not None:
            return common
    # The repr of a float is the shortest text that means it: 0.1 becomes Decimal("0.1").
    number = _number(value)
    return Decimal(number if number.__class__ is int else repr(number))


def _plain_decimal(value: Decimal) -> int | float:
    """Return an int for a decimal that came as one: 1 goes out as 1, and 1.0 as 1.0."""
    return int(value) if value.as_tuple().exponent == 0 else float(value)


def _zero_one(value: Any) -> bool:
    """Return the bool that security info spells as a number (weibo_bind and its like)."""
    if value.__class__ is not int or value not in (0, 1):
        raise Unfit
    return value == 1


def _day(value: Any) -> date | None:
    """Return the day; None for an empty text and Go's zero time, which mean that none is set."""
    # fromisoformat takes other forms too.
    if value.__class__ is str and len(value) == 10 and value[4::3] == "--":
        try:
            return date.fromisoformat(value) if value != "0001-01-01" else None
        except ValueError:
            pass
    if value == "":
        return None
    raise Unfit


def _china_time(value: Any) -> datetime:
    """Return the moment of a clock in China, where it is UTC+8 all year: the coin log's times."""
    # fromisoformat takes other forms too, and from Python 3.14 on an hour 24.
    if value.__class__ is str and len(value) == 19 and value[4::3] == "-- ::":
        try:
            if value[11:13] != "24":
                return datetime.fromisoformat(value + "+08:00")
        except ValueError:
            pass
    raise Unfit


def _plain_china_time(time: datetime) -> str:
    """Return the time as a clock in China shows it, whatever zone it is given in."""
    local = time if time.tzinfo == _CHINA else time.astimezone(_CHINA)
    return local.isoformat(" ", "seconds")[:19]


def _iso_time(value: Any) -> datetime:
    """Return the moment in UTC: our spelling of a snapshot's time, never without its zone."""
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise Unfit
    return time.astimezone(UTC)


def _since_1970(unit: timedelta) -> tuple[Read, Callable[[datetime | None], int]]:
    """Return what reads and what writes a time that is counted in `unit`."""
    ends = (datetime.min, datetime.max)
    first, last = ((end.replace(tzinfo=UTC) - _EPOCH) // unit for end in ends)

    def read(value: Any) -> datetime | None:
        if value.__class__ is not int or not first <= value <= last:
            raise Unfit
        # The first of all times is how a server written in Go spells "no time".
        return None if value in (0, first) else _EPOCH + value * unit

    return read, lambda time: (time - _EPOCH) // unit if time else 0


def _error(value: Any) -> BiliError:
    """Return the error with its class and text; its other attributes did not travel."""
    name, message = value["type"], value["message"]
    if name.__class__ is not str or message.__class__ is not str:
        raise Unfit
    kinds = [BiliError]
    for kind in kinds:  # it grows under the loop, until all of the tree is in it
        kinds += kind.__subclasses__()
    cls = next((kind for kind in kinds if kind.__name__ == name), BiliError)
    error = cls.__new__(cls)  # its constructor's other arguments are not known
    error.args = (message,)
    return error


def _plain_error(error: BiliError) -> dict[str, str]:
    """Return the class and the text of an error, which hold no secret and travel as JSON."""
    return {"type": type(error).__name__, "message": str(error)}


SCALARS: dict[Any, Form] = {
    Any: Form("anything", lambda value: value),
    int: Form("an int", _exactly(int)),
    str: Form("a text", _exactly(str)),
    bool: Form("a bool", _exactly(bool)),
    NoneType: Form("null", _exactly(NoneType)),
    float: Form("a finite number", lambda value: float(_number(value))),
    Decimal: Form("a finite number", _decimal, _plain_decimal),
    ZeroOne: Form("0 or 1", _zero_one, int),
    IsoDay: Form("a date YYYY-MM-DD or an empty text", _day, lambda day: str(day or "")),
    UnixSeconds: Form("a timestamp in seconds", *_since_1970(timedelta(seconds=1))),
    UnixMilliseconds: Form("a timestamp in milliseconds", *_since_1970(timedelta(milliseconds=1))),
    ChinaTime: Form("a time YYYY-MM-DD HH:MM:SS", _china_time, _plain_china_time),
    IsoTime: Form("a time with its zone", _iso_time, datetime.isoformat),
    BiliError: Form("an error's type and message", _error, _plain_error),
}
"""The forms that need no other form, by their types."""
