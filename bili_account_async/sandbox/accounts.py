"""The sandbox's accounts: the server's knowledge of each, and the events that can happen to it.

No HTTP and no JSON here: `endpoints` turns an account into replies, `people` invents one, `living`
makes one act.
"""

import bisect
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from threading import RLock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs

from ..credential import Credential

if TYPE_CHECKING:
    from .living import Life

CHINA = timezone(timedelta(hours=8))
"""The API's days and coin-log times: UTC+8 all year."""
WEEK = timedelta(days=7)
DAILY_COIN_EXP = 50
"""Tipping brings at most this much experience a day."""


def _decimal(number: Decimal | float) -> Decimal:
    """Return the number as it is written: 0.1 becomes Decimal("0.1"), no binary fraction."""
    if isinstance(number, bool) or not isinstance(number, Decimal | int | float):
        kind = type(number).__name__
        raise TypeError(f"a number of coins must be an int, a float or a Decimal, not {kind}")
    return Decimal(str(number))


def _second_in_china(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time in the sandbox must be aware, for example datetime.now(UTC)")
    return time.astimezone(CHINA).replace(microsecond=0)


@attrs.frozen
class CoinChange:
    """One true change of an account's coins, at a whole second, in UTC+8."""

    time: datetime = attrs.field(converter=_second_in_china)
    delta: Decimal = attrs.field(converter=_decimal)
    reason: str


@attrs.define(eq=False)
class World:
    """The things that the accounts of one sandbox share: clock, lock, rules, and known secrets."""

    now: Callable[[], datetime]
    review_delay: timedelta
    sensitive_words: tuple[str, ...]
    lock: RLock = attrs.field(factory=RLock)
    known: dict[tuple[str, str], "SandboxAccount"] = attrs.field(factory=dict, repr=False)
    """Accounts by ("SESSDATA", decoded cookie) and by ("access_key", token), alive or not."""

    def time(self) -> datetime:
        now = self.now()
        if now.tzinfo is None:
            raise ValueError("the sandbox's now() must return an aware datetime")
        return now.astimezone(CHINA)


def _typed(_: type, fields: list["attrs.Attribute[Any]"]) -> list["attrs.Attribute[Any]"]:
    """Return the fields, of which the plain ones insist on their types: True is no int.

    They do so in the constructor and whenever a test sets an attribute.
    """

    def check(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not field.type:
            expected = getattr(field.type, "__name__", field.type)
            raise TypeError(f"{field.name} must be {expected}, not {type(value).__name__}")

    return [
        field.evolve(validator=check) if field.type in (bool, int, str) else field
        for field in fields
    ]


@attrs.define(eq=False, repr=False, kw_only=True, field_transformer=_typed)
class SandboxAccount:
    """An invented person, whose attributes are named as the API's fields.

    Read and set them at any time. Attributes show the state as of the last request or method call
    (`catch_up` brings it up to the clock). Bound mail and telephone and the real name show in
    several endpoints, and are one attribute each here.
    """

    _world: World
    _rng: Random
    _life: "Life | None" = None

    mid: int
    uname: str = "无名氏"
    userid: str = "bili_10000000000"
    sign: str = ""
    birthday: str = ""
    sex: str = "保密"
    nick_free: bool = False
    rank: str = "正式会员"

    # Today's tasks: they open again at midnight in UTC+8.
    login: bool = True
    watch: bool = False
    share: bool = False
    coin_exp: int = 0
    safe_question: bool = False

    vip_type: int = 0
    vip_status: int = 0
    vip_due_date: int = 0
    """Milliseconds since 1970; 0 for an account that was never VIP."""
    vip_pay_type: int = 0
    theme_type: int = 0

    hide_tel: str = ""
    hide_mail: str = ""
    bind_tel: bool = False
    bind_mail: bool = False
    tel_verify: bool = False
    mail_verify: bool = False
    unneeded_check: bool = False
    score: int = 60
    score_new: int = 60
    pwd_level: int = 2
    security: bool = True
    weibo_bind: bool = False
    qq_bind: bool = False
    wechat_bind: bool = False
    skip_verify: bool = False

    realname_certified: bool = False
    remark: str = ""
    realname: str = ""
    card: str = ""
    card_type: int = 0

    coins: Decimal = attrs.field(default=Decimal(0), converter=_decimal)
    """The balance. No endpoint shows it, and setting it writes no log."""
    bili_jct: str = attrs.field(default="", repr=False)
    logged_in: bool = True
    """True while both logins, the browser's and the app's, are alive."""

    _sessdata: str = attrs.field(init=False, default="", repr=False)
    _access_key: str = attrs.field(init=False, default="", repr=False)
    _history: list[CoinChange] = attrs.field(init=False, factory=list)
    _reviews: list[tuple[datetime, str]] = attrs.field(init=False, factory=list)
    _today: date = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._today = self._world.time().date()
        self.renew_login()

    def __repr__(self) -> str:
        return f"<SandboxAccount {self.mid} {self.uname}>"

    @property
    def credential(self) -> Credential:
        """The cookie, as the SDK takes it."""
        return Credential(sessdata=self._sessdata, dede_user_id=self.mid, bili_jct=self.bili_jct)

    @property
    def app_credential(self) -> Credential:
        """The app's token, as the SDK takes it."""
        return Credential(access_key=self._access_key)

    @property
    def history(self) -> tuple[CoinChange, ...]:
        """Every true change of the coins up to now, oldest first; the API shows the last week."""
        self.catch_up()
        return tuple(self._history)

    @history.setter
    def history(self, changes: Iterable[CoinChange]) -> None:
        changes = list(changes)
        if not all(isinstance(change, CoinChange) for change in changes):
            raise TypeError("history must hold CoinChange(time, delta, reason) only")
        with self._world.lock:
            self._history = sorted(changes, key=_time_of)

    def last_week(self) -> list[CoinChange]:
        """Return the changes that the coin log shows: the last seven days, newest first."""
        with self._world.lock:
            self.catch_up()
            start = bisect.bisect(self._history, self._world.time() - WEEK, key=_time_of)
            return self._history[start:][::-1]

    def earn(
        self, delta: Decimal | float, reason: str = "登录奖励", *, at: datetime | None = None
    ) -> None:
        """Change the coins by `delta`, now or `at` a time of the past, and log the change."""
        with self._world.lock:
            if at is None:
                self.catch_up()
            change = CoinChange(at or self._world.time(), delta, reason)
            self.coins += change.delta
            bisect.insort(self._history, change, key=_time_of)

    def tip(
        self, video: str = "BV1j5411s7M8", coins: int = 1, *, at: datetime | None = None
    ) -> None:
        """Spend coins on a video, which brings experience: 10 each, up to 50 a day.

        The coins leave the balance and are logged. Raises `ValueError` for more than there are.
        """
        with self._world.lock:
            if at is None:
                self.catch_up()
            if not 1 <= coins <= self.coins:
                raise ValueError(f"can't tip {coins} coins out of {self.coins}")
            time = at or self._world.time()
            self.earn(-coins, f"给视频 {video} 打赏", at=time)
            if time.astimezone(CHINA).date() == self._today:
                self.coin_exp = max(self.coin_exp, min(DAILY_COIN_EXP, self.coin_exp + 10 * coins))

    def submit_sign(self, sign: str) -> None:
        """Put a sign into the review queue; it shows once the sandbox's `review_delay` is over."""
        with self._world.lock:
            self._reviews.append((self._world.time() + self._world.review_delay, sign))

    def finish_review(self) -> None:
        """Let every submitted sign pass the review at once."""
        with self._world.lock:
            if self._reviews:
                self.sign = self._reviews[-1][1]
                self._reviews.clear()

    def log_out(self) -> None:
        """Kill the login, as when it expires or the password changes.

        Every endpoint answers -101 from now on.
        """
        self.logged_in = False

    def log_in(self) -> None:
        """Bring the login back to life, with the same secrets."""
        self.logged_in = True

    def renew_login(self) -> None:
        """Log in afresh: `credential` and `app_credential` are new, and the old ones dead."""
        with self._world.lock:
            known = self._world.known
            known.pop(("SESSDATA", unquote(self._sessdata)), None)
            known.pop(("access_key", self._access_key), None)
            bits = self._rng.getrandbits
            first, ends = f"{bits(32):08x}", 1_900_000_000 + bits(24)
            self._sessdata = f"{first}%2C{ends}%2C{bits(20):05x}*{bits(8):02x}"
            self._access_key, self.bili_jct = f"{bits(128):032x}", f"{bits(128):032x}"
            known["SESSDATA", unquote(self._sessdata)] = self
            known["access_key", self._access_key] = self
            self.logged_in = True

    def catch_up(self) -> None:
        """Live up to the clock: a living account acts, days begin, reviews end."""
        with self._world.lock:
            now = self._world.time()
            if self._life is not None:
                self._life.live(self, until=now)
            self.begin_day(now)
            while self._reviews and self._reviews[0][0] <= now:
                self.sign = self._reviews.pop(0)[1]

    def begin_day(self, now: datetime) -> None:
        """Open the daily tasks again if `now` is on a later day, in UTC+8, than the last one."""
        today = now.astimezone(CHINA).date()
        if today > self._today:
            self._today = today
            self.login = self.watch = self.share = False
            self.coin_exp = 0


def _time_of(change: CoinChange) -> datetime:
    return change.time
