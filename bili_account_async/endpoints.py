"""The nine endpoints: each is data, declared once in `ENDPOINTS`, with a coroutine of one line.

Everything that varies between endpoints stands here and nowhere else; the way of a call, which is
the same for all, is `call.py`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType, NoneType
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import attrs

from .credential import Credential
from .errors import InvalidSign, SignTooLong
from .records import (
    AccountInfo,
    CoinLog,
    DailyRewards,
    RealnameApplication,
    RealnameStatus,
    SecurityInfo,
    VipInfo,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
HostName = Literal["api", "www", "passport"]
Part = Literal["sessdata", "dede_user_id", "bili_jct"]

SIGN_MAX = 70
"""Code points that a sign may have (sign update)."""
_NO_SIGN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _one_of(*allowed: object) -> Any:
    def check(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            choices = ", ".join(map(repr, allowed))
            raise ValueError(f"{attribute.name}: expected one of {choices}, got {value!r}")

    return check


def _parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(parts)


@attrs.frozen
class Auth:
    """The credential parts that an endpoint needs.

    `cookie` names those of a cookie, `access_key` says if a token will do. A POST whose `cookie`
    names `bili_jct` sends it as the form field `csrf`, which is how the API checks it.
    """

    cookie: tuple[Part, ...] = attrs.field(
        default=("sessdata",),
        converter=_parts,
        validator=attrs.validators.deep_iterable(_one_of(*get_args(Part))),
    )
    access_key: bool = True

    def missing_from(self, credential: Credential) -> str | None:
        """Return what the credential lacks, in words for an error; None if it will do."""
        if credential.access_key:
            return None if self.access_key else "a cookie login (it takes no access_key)"
        lacks = [part for part in self.cookie if getattr(credential, part) is None]
        return ", ".join(lacks) if lacks else None


def _check_path(owner: object, attribute: object, value: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"/(?!/)[^?#\\ \r\n\t]*", value):
        raise ValueError(f"path: expected '/…' without query or fragment, got {value!r}")


def _check_result(owner: object, attribute: object, value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(step, str) for step in value):
        raise ValueError(f"result: expected a tuple of field names, got {value!r}")


@attrs.frozen(cache_hash=True)
class Endpoint(Generic[T_co]):
    """One endpoint as data; `await session.call(endpoint)` gives a `returns`.

    `result` is where the payload stands in the reply; `returns` is anything that `structure` can
    make, `NoneType` for an endpoint whose reply has no payload. A GET may be sent again after a
    failure, a POST only when nothing of it left this machine.
    """

    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    method: Literal["GET", "POST"] = attrs.field(validator=_one_of("GET", "POST"))
    host: HostName = attrs.field(validator=_one_of(*get_args(HostName)))
    path: str = attrs.field(validator=_check_path)
    auth: Auth = attrs.field(validator=attrs.validators.instance_of(Auth))
    returns: type[T_co]
    result: tuple[str, ...] = attrs.field(default=("data",), validator=_check_result)


class Session(Protocol):
    """The part of a session that the coroutines need.

    A wrapper that has it (a cache, a recorder, a test's fake) stands in for an `AccountSession`.
    """

    async def call(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> T: ...


_COOKIE_OR_APP = Auth()
_ACCOUNT_INFO = Endpoint(
    "get_account_info", "GET", "api", "/x/member/web/account", _COOKIE_OR_APP, AccountInfo
)
_DAILY_REWARDS = Endpoint(
    "get_daily_rewards", "GET", "api", "/x/member/web/exp/reward", _COOKIE_OR_APP, DailyRewards
)
_COIN_EXP = Endpoint(
    "get_coin_exp",
    "GET",
    "www",
    "/plus/account/exp.php",
    Auth(("sessdata", "dede_user_id"), access_key=False),
    int,
    ("number",),
)
_VIP_INFO = Endpoint(
    "get_vip_info", "GET", "api", "/x/vip/web/user/info", Auth(access_key=False), VipInfo
)
_SECURITY_INFO = Endpoint(
    "get_security_info",
    "GET",
    "passport",
    "/web/site/user/info",
    Auth(("sessdata", "dede_user_id")),
    SecurityInfo,
)
_REALNAME_STATUS = Endpoint(
    "get_realname_status",
    "GET",
    "api",
    "/x/member/realname/status",
    _COOKIE_OR_APP,
    RealnameStatus,
    ("data", "status"),
)
_REALNAME_APPLICATION = Endpoint(
    "get_realname_application",
    "GET",
    "api",
    "/x/member/realname/apply/status",
    _COOKIE_OR_APP,
    RealnameApplication,
)
_COIN_LOG = Endpoint(
    "get_coin_log", "GET", "api", "/x/member/web/coin/log", _COOKIE_OR_APP, CoinLog
)
_UPDATE_SIGN = Endpoint(
    "update_sign",
    "POST",
    "api",
    "/x/member/web/sign/update",
    Auth(("sessdata", "bili_jct")),
    NoneType,
    (),
)
_CLEAR_SIGN = attrs.evolve(_UPDATE_SIGN, name="clear_sign")

_ALL: tuple[Endpoint[Any], ...] = (
    _ACCOUNT_INFO,
    _DAILY_REWARDS,
    _COIN_EXP,
    _VIP_INFO,
    _SECURITY_INFO,
    _REALNAME_STATUS,
    _REALNAME_APPLICATION,
    _COIN_LOG,
    _UPDATE_SIGN,
    _CLEAR_SIGN,
)
ENDPOINTS: Mapping[str, Endpoint[Any]] = MappingProxyType({each.name: each for each in _ALL})
"""Each coroutine's name and its `Endpoint`."""


async def get_account_info(session: Session, *, timeout: float | None = None) -> AccountInfo:
    """Return the account's profile."""
    return await session.call(_ACCOUNT_INFO, timeout=timeout)


async def get_daily_rewards(session: Session, *, timeout: float | None = None) -> DailyRewards:
    """Return what brought experience today."""
    return await session.call(_DAILY_REWARDS, timeout=timeout)


async def get_coin_exp(session: Session, *, timeout: float | None = None) -> int:
    """Return today's experience from tipping coins, up to date. Needs a cookie with DedeUserID."""
    return await session.call(_COIN_EXP, timeout=timeout)


async def get_vip_info(session: Session, *, timeout: float | None = None) -> VipInfo:
    """Return the membership. Needs a cookie."""
    return await session.call(_VIP_INFO, timeout=timeout)


async def get_security_info(session: Session, *, timeout: float | None = None) -> SecurityInfo:
    """Return what is bound to the account, and how safe it is. A cookie needs DedeUserID."""
    return await session.call(_SECURITY_INFO, timeout=timeout)


async def get_realname_status(session: Session, *, timeout: float | None = None) -> RealnameStatus:
    """Return the real-name status: whether the account is certified."""
    return await session.call(_REALNAME_STATUS, timeout=timeout)


async def get_realname_application(
    session: Session, *, timeout: float | None = None
) -> RealnameApplication:
    """Return the application for real-name certification; the server masks name and card number."""
    return await session.call(_REALNAME_APPLICATION, timeout=timeout)


async def get_coin_log(session: Session, *, timeout: float | None = None) -> CoinLog:
    """Return the coin balance's changes of the last week."""
    return await session.call(_COIN_LOG, timeout=timeout)


async def update_sign(session: Session, user_sign: str, *, timeout: float | None = None) -> None:
    """Ask for a new sign; the change waits in Bilibili's review queue.

    Needs a cookie with bili_jct, or a token. A sign may have several lines. Raises `SignTooLong`
    beyond 70 code points and `InvalidSign` for control characters other than line feeds, both
    before anything is sent; the server may answer `SensitiveSign`, `EmojiSign` or `CsrfRejected`.
    It is never sent twice: after a `TransportError` whose `sent` is true nobody knows if the
    change was asked for.
    """
    if not isinstance(user_sign, str):
        raise TypeError(f"user_sign: expected str, got {type(user_sign).__name__}")
    if bad := _NO_SIGN.search(user_sign):
        raise InvalidSign(
            "user_sign: expected no control characters but line feeds, and no lone surrogates, "
            f"got U+{ord(bad[0]):04X} at {bad.start()}",
            code=0,
            endpoint=_UPDATE_SIGN.name,
        )
    if len(user_sign) > SIGN_MAX:
        raise SignTooLong(
            f"user_sign: expected at most {SIGN_MAX} code points, got {len(user_sign)}",
            code=40022,
            endpoint=_UPDATE_SIGN.name,
        )
    await session.call(_UPDATE_SIGN, form={"user_sign": user_sign}, timeout=timeout)


async def clear_sign(session: Session, *, timeout: float | None = None) -> None:
    """Ask for an empty sign: `update_sign` with nothing in it."""
    await session.call(_CLEAR_SIGN, form={"user_sign": ""}, timeout=timeout)
