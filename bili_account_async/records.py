"""The endpoints' results: attrs records and open enums.

No parsing here: `structuring` reads these classes, and knows from them how the wire looks. Records
are frozen, slotted, keyword-only, hashable and picklable. A field carries the API's name, except
where `api_name` gives another. A field whose JSON form differs from its Python type has one of the
`Annotated` types below.
"""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Context, Decimal
from enum import Enum, EnumType, IntEnum, StrEnum
from typing import Annotated, Any

import attrs

ZeroOne = Annotated[bool, "0 or 1 on the wire"]
IsoDay = Annotated[date | None, "YYYY-MM-DD on the wire; empty or 0001-01-01 for none"]
UnixSeconds = Annotated[
    datetime | None, "seconds since 1970 on the wire, 0 or Go's zero time for none; UTC here"
]
UnixMilliseconds = Annotated[
    datetime | None, "milliseconds since 1970 on the wire, 0 or Go's zero time for none; UTC here"
]
ChinaTime = Annotated[datetime, "YYYY-MM-DD HH:MM:SS on the wire, China Standard Time; UTC+8 here"]
IsoTime = Annotated[datetime, "ISO 8601 with its zone on the wire; UTC here"]


def api_name(name: str) -> Any:
    """Return a field that the API calls `name`."""
    return attrs.field(metadata={"wire": name})


# Metadata of a field that the API may leave out, or send as null, where it is empty: the value that
# it reads as then. It is no default: who makes a record in Python gives every field.
_ABSENT_IS_EMPTY = {"absent": ""}
_ABSENT_IS_NONE = {"absent": None}


class _OpenEnumType(EnumType):
    """A type of enums that judges a value's type first: `True` and `1.0` are no `VipStatus`."""

    def __call__(cls, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs and not isinstance(value, cls):
            wanted = int if issubclass(cls, int) else str
            if type(value) is not wanted:
                raise ValueError(f"{value!r} is no {cls.__name__}: expected {wanted.__name__}")
        return super().__call__(value, *args, **kwargs)


class OpenEnum(Enum):
    """An enum that takes every value of its type, for a server grows new codes without notice.

    An undocumented value becomes a member named `UNKNOWN_…` that keeps it. Such members are not
    remembered, or a hostile server could fill the memory: compare them with `==`, not `is`.
    """

    @classmethod
    def _missing_(cls, value: object) -> Any:
        base: Any = int if issubclass(cls, int) else str
        member = base.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        # Python 3.11.0 to 3.11.3 pickle by name, which an unknown member can't.
        return type(self), (self._value_,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        from ._pydantic import record_schema

        return record_schema(cls, handler)

    @property
    def known(self) -> bool:
        """True if the API document names this value."""
        return self._name_ in type(self).__members__


class OpenInt(OpenEnum, IntEnum, metaclass=_OpenEnumType):
    pass


class OpenStr(OpenEnum, StrEnum, metaclass=_OpenEnumType):
    pass


class Sex(OpenStr):
    """`sex` of account info."""

    MALE = "男"
    FEMALE = "女"
    SECRET = "保密"  # noqa: S105 - what the API calls an undisclosed sex


class VipType(OpenInt):
    """`vip_type` of VIP info."""

    NONE = 0
    MONTHLY = 1
    ANNUAL = 2


class VipStatus(OpenInt):
    """`vip_status` of VIP info.

    FROZEN: the IP address changed too often; LOCKED: the account is at high risk.
    """

    NONE = 0
    NORMAL = 1
    FROZEN = 2
    LOCKED = 3


class VipPayType(OpenInt):
    """`vip_pay_type` of VIP info: whether the membership was bought."""

    UNPAID = 0
    PAID = 1


class PasswordLevel(OpenInt):
    """`pwd_level` of security info."""

    WEAK = 1
    MEDIUM = 2
    STRONG = 3


class RealnameStatus(OpenInt):
    """`status` of real-name status."""

    UNCERTIFIED = 0
    CERTIFIED = 1


class RealnameApplicationStatus(OpenInt):
    """`status` of real-name application; its numbers differ from those of `RealnameStatus`."""

    CERTIFIED = 1
    UNCERTIFIED = 3


class CardType(OpenInt):
    """`card_type` of real-name application."""

    ID_CARD = 0
    HK_MACAO_PERMIT = 2
    TAIWAN_PERMIT = 3
    PASSPORT = 4
    FOREIGN_RESIDENT = 5
    OTHER = 6


class Record:
    """The base of all records, by which `structuring` knows that it may fill one field by field.

    It has the place for weak references, and its subclasses their fields.
    """

    __slots__ = ("__weakref__",)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        from ._pydantic import record_schema

        return record_schema(cls, handler)


@attrs.frozen(kw_only=True)
class AccountInfo(Record):
    """The account's profile, from account info."""

    mid: int
    uname: str
    """Nickname."""
    userid: str
    """User name, the one that can't be changed."""
    sign: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    birthday: IsoDay = attrs.field(metadata=_ABSENT_IS_NONE)
    """None if the account gave none."""
    sex: Sex
    nick_free: bool
    """True if no nickname was ever set."""
    rank: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    """Member rank as a text for a person, never parsed."""


@attrs.frozen(kw_only=True)
class DailyRewards(Record):
    """The tasks that brought experience, from daily rewards.

    `login`, `watch` and `share` are of today (5 experience each); `email`, `tel`, `safe_question`
    and `identify_card` are done once.
    """

    login: bool
    watch: bool
    coins: int
    """Experience from coins given today; lags behind, see `get_coin_exp`.

    The server stops at 50.
    """
    share: bool
    email: bool
    tel: bool
    safe_question: bool
    identify_card: bool


@attrs.frozen(kw_only=True)
class VipInfo(Record):
    """The membership, from VIP info."""

    mid: int
    vip_type: VipType
    vip_status: VipStatus
    vip_due_date: UnixMilliseconds = attrs.field(metadata=_ABSENT_IS_NONE)
    """The time at which it ends or ended; None for an account that never was a member."""
    vip_pay_type: VipPayType
    theme_type: int
    """Nobody knows what it means."""


@attrs.frozen(kw_only=True)
class BindingInfo(Record):
    """The telephone, mail and real name bound to the account, from security info."""

    hide_tel: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    """Telephone number, masked by the server."""
    hide_mail: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    """Mail address, masked by the server."""
    bind_tel: bool
    bind_mail: bool
    tel_verify: bool
    mail_verify: bool
    unneeded_check: bool
    """True if no password is set."""
    realname_certified: bool


@attrs.frozen(kw_only=True)
class PasswordSafety(Record):
    """The safety of the password, from security info. The scores go from 0 to 100."""

    score: int = api_name("Score")
    """The old score; `score_new` replaced it."""
    score_new: int
    pwd_level: PasswordLevel
    security: bool
    """True if the server thinks the password safe."""


@attrs.frozen(kw_only=True)
class SnsBindings(Record):
    """Other networks whose login opens this account, from security info."""

    weibo_bind: ZeroOne
    qq_bind: ZeroOne
    wechat_bind: ZeroOne


@attrs.frozen(kw_only=True)
class OtherSecurity(Record):
    """The rest of security info."""

    skip_verify: bool = api_name("skipVerify")
    """Nobody knows what it means."""


@attrs.frozen(kw_only=True)
class SecurityInfo(Record):
    """All of security info."""

    account_info: BindingInfo
    account_safe: PasswordSafety
    account_sns: SnsBindings
    account_other: OtherSecurity


@attrs.frozen(kw_only=True)
class RealnameApplication(Record):
    """The application for real-name certification.

    Name and card number come masked by the server.
    """

    status: RealnameApplicationStatus
    remark: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    """The reason why it was turned down, usually empty."""
    realname: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    card: str = attrs.field(metadata=_ABSENT_IS_EMPTY)
    card_type: CardType | None = attrs.field(metadata=_ABSENT_IS_NONE)
    """None if no document was handed in."""


@attrs.frozen(kw_only=True)
class CoinLogEntry(Record):
    """One change of the coin balance."""

    time: ChinaTime
    delta: Decimal
    """Coins: positive came in, negative went out; exact."""
    reason: str = attrs.field(metadata=_ABSENT_IS_EMPTY)


_EXACT = Context(prec=1000)
"""Sums of coins are exact, in whatever precision the program's own decimal context has."""


@attrs.frozen(kw_only=True)
class CoinLog(Record):
    """The coin balance's changes of the last week, newest first, from the coin log."""

    entries: tuple[CoinLogEntry, ...] = attrs.field(metadata={"absent": (), "wire": "list"})
    count: int
    """The number of entries, as the server tells it."""

    @property
    def income(self) -> Decimal:
        """Coins that came in, ≥ 0."""
        return self._total(entry.delta for entry in self.entries if entry.delta > 0)

    @property
    def spending(self) -> Decimal:
        """Coins that went out, ≥ 0."""
        return self._total(-entry.delta for entry in self.entries if entry.delta < 0)

    @property
    def net(self) -> Decimal:
        """`income - spending`."""
        return self._total(entry.delta for entry in self.entries)

    @staticmethod
    def _total(deltas: Iterable[Decimal]) -> Decimal:
        total = Decimal(0)
        for delta in deltas:
            total = _EXACT.add(total, delta)
        return total
