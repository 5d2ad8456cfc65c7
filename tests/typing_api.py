"""The promises of the public API to a type checker: `mypy --strict tests/typing_api.py`.

Nothing here is run. A line with `type: ignore` is a promise too: mypy complains (unused ignore)
when it starts to accept the mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any, TypeVar, assert_type

import aiohttp
import attrs

from bili_account_async import (
    ALL_SECTIONS,
    ENDPOINTS,
    AccountInfo,
    AccountSession,
    AccountSnapshot,
    ApiError,
    Auth,
    BiliError,
    BindingInfo,
    CardType,
    Change,
    CoinLog,
    CoinLogEntry,
    Credential,
    DailyRewards,
    Endpoint,
    Hosts,
    HostState,
    Limits,
    OtherSecurity,
    PasswordLevel,
    PasswordSafety,
    ProtocolError,
    RateLimit,
    RateLimited,
    RealnameApplication,
    RealnameApplicationStatus,
    RealnameStatus,
    Reply,
    RequestEvent,
    Retry,
    SchemaError,
    SecurityInfo,
    Session,
    SessionManager,
    Sex,
    SharedLimiter,
    SnsBindings,
    TransportError,
    VipInfo,
    VipPayType,
    VipStatus,
    VipType,
    clear_sign,
    fetch_snapshot,
    get_account_info,
    get_coin_exp,
    get_coin_log,
    get_daily_rewards,
    get_realname_application,
    get_realname_status,
    get_security_info,
    get_vip_info,
    open_session,
    structure,
    unstructure,
    update_sign,
)

T = TypeVar("T")


@attrs.frozen
class Medal:
    """A record that a user declares."""

    name: str
    level: int = 0


MEDAL = Endpoint("get_medal", "GET", "api", "/x/medal", Auth(), Medal)
MEDALS = Endpoint(
    "get_medals", "GET", "api", "/x/medals", Auth(access_key=False), list[Medal], ("data", "list")
)
RENAME = Endpoint(
    "rename", "POST", "www", "/x/rename", Auth(("sessdata", "bili_jct")), NoneType, ()
)


async def every_coroutine_returns_its_record(session: Session) -> None:
    assert_type(await get_account_info(session), AccountInfo)
    assert_type(await get_daily_rewards(session), DailyRewards)
    assert_type(await get_coin_exp(session), int)
    assert_type(await get_vip_info(session), VipInfo)
    assert_type(await get_security_info(session), SecurityInfo)
    assert_type(await get_realname_status(session), RealnameStatus)
    assert_type(await get_realname_application(session), RealnameApplication)
    assert_type(await get_coin_log(session), CoinLog)
    await update_sign(session, "新的签名", timeout=5)
    await clear_sign(session, timeout=None)
    info, vip = await asyncio.gather(get_account_info(session), get_vip_info(session, timeout=2.5))
    assert_type(info, AccountInfo)
    assert_type(vip, VipInfo)


async def mistakes_in_a_call_are_found(session: Session) -> None:
    await get_account_info()  # type: ignore[call-arg]
    await get_account_info(session, 5)  # type: ignore[call-arg]
    await get_account_info(session, timeout="5")  # type: ignore[arg-type]
    await get_account_info(Credential(sessdata="x"))  # type: ignore[arg-type]
    await update_sign(session)  # type: ignore[call-arg]
    await update_sign(session, None)  # type: ignore[arg-type]


async def a_user_s_endpoint_keeps_its_type(me: AccountSession) -> None:
    assert_type(MEDAL, Endpoint[Medal])
    assert_type(await me.call(MEDAL), Medal)
    assert_type(await me.call(MEDAL, params={"id": "1"}, timeout=1.0), Medal)
    assert_type(await me.call(MEDALS), list[Medal])
    await me.call(RENAME, form={"name": "小明"})
    assert_type(RENAME, Endpoint[None])
    assert_type(await me.call_raw(MEDAL), Reply[Medal])
    await me.call(MEDAL, params={"id": 1, "name": "x"})
    await me.call(MEDAL, params={"id": 1.5})  # type: ignore[dict-item]
    print(await me.call(MEDAL))  # noqa: T201 - any object will do here
    anything: Endpoint[object] = MEDAL
    assert_type(await me.call(anything), object)
    only: Endpoint[int] = MEDAL  # type: ignore[assignment]
    await me.call(only)
    Endpoint("x", "DELETE", "api", "/x", Auth(), Medal)  # type: ignore[arg-type]
    Endpoint("x", "GET", "live", "/x", Auth(), Medal)  # type: ignore[arg-type]
    Auth(("SESSDATA",))  # type: ignore[arg-type]


async def a_raw_reply_tells_its_circumstances(me: AccountSession) -> None:
    reply = await me.call_raw(MEDALS)
    assert_type(reply.record, list[Medal])
    assert_type(reply.status, int)
    assert_type(reply.headers, Mapping[str, str])
    assert_type(reply.payload, object)
    assert_type(reply.seconds, float)
    assert_type(reply.attempts, int)
    assert_type(reply.unknown_fields, tuple[str, ...])


class Counting:
    """A wrapper that stands in for a session."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner
        self.calls = 0

    async def call(
        self,
        endpoint: Endpoint[T],
        *,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> T:
        self.calls += 1
        return await self.inner.call(endpoint, params=params, form=form, timeout=timeout)


async def a_wrapper_is_a_session(me: AccountSession) -> None:
    counting: Session = Counting(me)
    assert_type(await get_vip_info(Counting(Counting(me))), VipInfo)
    assert_type(await fetch_snapshot(counting), AccountSnapshot)


def the_fields_of_the_records(
    info: AccountInfo,
    rewards: DailyRewards,
    vip: VipInfo,
    security: SecurityInfo,
    application: RealnameApplication,
    log: CoinLog,
) -> None:
    assert_type(info.mid, int)
    assert_type(info.uname, str)
    assert_type(info.birthday, date | None)
    assert_type(info.sex, Sex)
    assert_type(info.nick_free, bool)
    assert_type(info.rank, str)
    assert_type(rewards.coins, int)
    assert_type(rewards.login, bool)
    assert_type(vip.vip_type, VipType)
    assert_type(vip.vip_status, VipStatus)
    assert_type(vip.vip_due_date, datetime | None)
    assert_type(vip.vip_pay_type, VipPayType)
    assert_type(vip.theme_type, int)
    assert_type(security.account_info, BindingInfo)
    assert_type(security.account_info.hide_tel, str)
    assert_type(security.account_info.realname_certified, bool)
    assert_type(security.account_safe, PasswordSafety)
    assert_type(security.account_safe.score, int)
    assert_type(security.account_safe.pwd_level, PasswordLevel)
    assert_type(security.account_sns, SnsBindings)
    assert_type(security.account_sns.qq_bind, bool)
    assert_type(security.account_other, OtherSecurity)
    assert_type(security.account_other.skip_verify, bool)
    assert_type(application.status, RealnameApplicationStatus)
    assert_type(application.card_type, CardType | None)
    assert_type(log.entries, tuple[CoinLogEntry, ...])
    assert_type(log.count, int)
    assert_type(log.income, Decimal)
    assert_type(log.spending, Decimal)
    assert_type(log.net, Decimal)
    assert_type(log.entries[0].time, datetime)
    assert_type(log.entries[0].delta, Decimal)
    assert_type(log.entries[0].reason, str)
    info.sign = "x"  # type: ignore[misc]
    SnsBindings(True, True, True)  # type: ignore[call-arg]
    OtherSecurity(skipVerify=True)  # type: ignore[call-arg]


def the_enums() -> None:
    assert_type(VipStatus(9), VipStatus)
    assert_type(VipStatus(9).known, bool)
    assert_type(VipStatus(9).value, int)
    assert_type(Sex("男").value, str)
    assert_type(VipStatus(9).name, str)


def structure_and_unstructure(value: object) -> None:
    assert_type(structure(VipInfo, value), VipInfo)
    assert_type(structure(Medal, value), Medal)
    assert_type(structure(int, value), int)
    assert_type(unstructure(structure(Medal, value)), Any)


async def the_snapshot(session: Session) -> None:
    snapshot = await fetch_snapshot(
        session, sections={"vip_info", "coin_log"}, strict=True, timeout=20
    )
    await fetch_snapshot(session, sections=ALL_SECTIONS)
    assert_type(snapshot, AccountSnapshot)
    assert_type(snapshot.taken_at, datetime)
    assert_type(snapshot.account_info, AccountInfo | None)
    assert_type(snapshot.daily_rewards, DailyRewards | None)
    assert_type(snapshot.coin_exp, int | None)
    assert_type(snapshot.vip_info, VipInfo | None)
    assert_type(snapshot.security_info, SecurityInfo | None)
    assert_type(snapshot.realname_status, RealnameStatus | None)
    assert_type(snapshot.realname_application, RealnameApplication | None)
    assert_type(snapshot.coin_log, CoinLog | None)
    assert_type(snapshot.failures, Mapping[str, BiliError])
    assert_type(snapshot.skipped, frozenset[str])
    assert_type(snapshot.complete, bool)
    assert_type(snapshot.changes_since(snapshot), tuple[Change, ...])
    assert_type(snapshot.changes_since(snapshot)[0].path, str)


def the_credential() -> None:
    made = Credential(sessdata="x", dede_user_id=1, bili_jct="y")
    assert_type(made.sessdata, str | None)
    assert_type(made.dede_user_id, int | None)
    assert_type(made.bili_jct, str | None)
    assert_type(made.access_key, str | None)
    assert_type(Credential.from_cookie_header("SESSDATA=x"), Credential)
    assert_type(Credential.from_cookies_txt("cookies.txt"), Credential)
    assert_type(Credential.parse("SESSDATA=x"), Credential)
    assert_type(Credential.from_file("login.json"), Credential)
    assert_type(Credential.from_cookies({"SESSDATA": "x", "DedeUserID": 1}), Credential)
    assert_type(made.expires_at, datetime | None)
    assert_type(Credential.from_env(), Credential)
    assert_type(Credential.from_env({"BILI_ACCESS_KEY": "x"}), Credential)
    Credential("x")  # type: ignore[call-arg]
    Credential(dede_user_id="1", sessdata="x")  # type: ignore[arg-type]
    made.sessdata = "z"  # type: ignore[misc]


def count(event: RequestEvent) -> None:
    assert_type(event.endpoint, str)
    assert_type(event.account, str)
    assert_type(event.attempt, int)
    assert_type(event.outcome, BiliError | None)
    assert_type(event.status, int | None)
    assert_type(event.waited, float)
    assert_type(event.seconds, float)


async def the_manager(pool: aiohttp.ClientSession, credential: Credential) -> None:
    hosts = Hosts(api="http://localhost:1")
    limits = Limits(host=RateLimit(rate=5, burst=10), account=None, concurrency=None, max_wait=2.5)
    async with SessionManager(
        hosts=hosts, limits=limits, retry=Retry(attempts=2), on_request=count
    ) as manager:
        assert_type(manager, SessionManager)
        me = manager.session(credential, label="alice")
        assert_type(me, AccountSession)
        assert_type(me.label, str)
        session: Session = me
        await get_account_info(session)
        state = manager.limits_state()
        assert_type(state["api"], HostState)
        assert_type(state["api"].in_flight, int)
        state["live"]  # type: ignore[index]
    manager = SessionManager(
        client_session=pool, on_request=[count, print], timeout=5, retry=Retry.none()
    )
    await manager.open()
    await manager.close()
    SessionManager(limiter=SharedLimiter(Limits(), "limits.sqlite3", fallback=0.5))
    SharedLimiter("limits.sqlite3")  # type: ignore[call-arg, arg-type]
    SessionManager(limits=RateLimit(rate=1, burst=1))  # type: ignore[arg-type]
    SessionManager(hosts)  # type: ignore[call-arg]
    async with open_session(credential, label="me", limits=Limits.none(), timeout=3) as one:
        assert_type(one, AccountSession)
        assert_type(await get_coin_exp(one), int)
    open_session(credential, time_out=3)  # type: ignore[call-arg]


def the_table() -> None:
    assert_type(ENDPOINTS, Mapping[str, Endpoint[Any]])
    ENDPOINTS["x"] = MEDAL  # type: ignore[index]


def the_errors(error: BiliError) -> None:
    assert_type(error.endpoint, str | None)
    match error:
        case RateLimited():
            assert_type(error.status, int | None)
            assert_type(error.code, int | None)
            assert_type(error.message, str)
            assert_type(error.retry_after, float | None)
            if error.scope == "server":  # type: ignore[comparison-overlap]
                pass
        case ApiError():
            assert_type(error.code, int)
            assert_type(error.message, str)
        case ProtocolError():
            assert_type(error.status, int | None)
            assert_type(error.retry_after, float | None)
        case TransportError():
            assert_type(error.sent, bool)
        case SchemaError():
            assert_type(error.path, str)
            assert_type(error.expected, str)
            assert_type(error.got, str)
            assert_type(error.payload, object)
