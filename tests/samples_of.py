"""The documented sample replies (`samples/NAME.json`, one an endpoint), and what has to become of
them.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import bili_account_async
from bili_account_async import (
    ENDPOINTS,
    AccountInfo,
    BindingInfo,
    CardType,
    CoinLog,
    CoinLogEntry,
    DailyRewards,
    OtherSecurity,
    PasswordLevel,
    PasswordSafety,
    RealnameApplication,
    RealnameApplicationStatus,
    RealnameStatus,
    SecurityInfo,
    Sex,
    SnsBindings,
    VipInfo,
    VipPayType,
    VipStatus,
    VipType,
)
from bili_account_async.snapshot import SECTIONS

CHINA = timezone(timedelta(hours=8))
GETS = [name for name, endpoint in ENDPOINTS.items() if endpoint.method == "GET"]

ARGUMENTS: dict[str, dict[str, Any]] = {"update_sign": {"user_sign": "新的签名"}}
"""The arguments that a coroutine needs besides a session."""


def coroutine_of(name: str) -> Any:
    """Return the endpoint's coroutine; it needs nothing more than a session."""
    return partial(getattr(bili_account_async, name), **ARGUMENTS.get(name, {}))


def sample_bytes(name: str) -> bytes:
    return (Path(__file__).parent / "samples" / f"{name}.json").read_bytes()


def sample(name: str) -> Any:
    """The whole envelope, a fresh copy each time."""
    return json.loads(sample_bytes(name))


def payload_of(name: str) -> Any:
    """The part of the sample that the endpoint's record is made of."""
    value = sample(name)
    for step in ENDPOINTS[name].result:
        value = value[step]
    return value


def _entry(time: str, delta: str, reason: str) -> CoinLogEntry:
    when = datetime.strptime(time, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA)
    return CoinLogEntry(time=when, delta=Decimal(delta), reason=reason)


EXPECTED: dict[str, Any] = {
    "get_account_info": AccountInfo(
        mid=293793435,
        uname="社会易姐QwQ",
        userid="bili_84675323391",
        sign="高中技术宅一枚,爱好MC&电子&8-bit音乐&数码&编程,资深猿厨,粉丝群:1136462265",
        birthday=date(2002, 3, 5),
        sex=Sex.MALE,
        nick_free=False,
        rank="正式会员",
    ),
    "get_daily_rewards": DailyRewards(
        login=True,
        watch=True,
        coins=30,
        share=True,
        email=True,
        tel=True,
        safe_question=True,
        identify_card=True,
    ),
    "get_coin_exp": 20,
    "get_vip_info": VipInfo(
        mid=293793435,
        vip_type=VipType.ANNUAL,
        vip_status=VipStatus.NORMAL,
        vip_due_date=datetime(2021, 2, 4, 16, 0, tzinfo=UTC),
        vip_pay_type=VipPayType.PAID,
        theme_type=0,
    ),
    "get_security_info": SecurityInfo(
        account_info=BindingInfo(
            hide_tel="153*****056",
            hide_mail="144****@qq.com",
            bind_tel=True,
            bind_mail=True,
            tel_verify=True,
            mail_verify=True,
            unneeded_check=False,
            realname_certified=True,
        ),
        account_safe=PasswordSafety(
            score=90, score_new=100, pwd_level=PasswordLevel.STRONG, security=True
        ),
        account_sns=SnsBindings(weibo_bind=True, qq_bind=True, wechat_bind=True),
        account_other=OtherSecurity(skip_verify=False),
    ),
    "get_realname_status": RealnameStatus.CERTIFIED,
    "get_realname_application": RealnameApplication(
        status=RealnameApplicationStatus.CERTIFIED,
        remark="",
        realname="***",
        card="6****************7",
        card_type=CardType.ID_CARD,
    ),
    "get_coin_log": CoinLog(
        entries=(
            _entry("2020-05-19 23:58:29", "-1", "给视频 BV1j5411s7M8 打赏"),
            _entry("2020-05-19 16:02:53", "-1", "给视频 BV1Ht4y117A1 打赏"),
            _entry("2020-05-19 15:38:42", "0.1", "给视频 BV1nb411C7aa 打赏"),
            _entry("2020-05-19 02:19:20", "1", "登录奖励"),
            _entry("2020-05-18 22:34:04", "-1", "给视频 BV1Bp4y1Q7uw 打赏"),
            _entry("2020-05-18 22:33:59", "-1", "给视频 BV1j5411s7M8 打赏"),
            _entry("2020-05-18 02:45:53", "1", "登录奖励"),
            _entry("2020-05-17 03:02:38", "1", "登录奖励"),
            _entry("2020-05-16 01:57:02", "1", "登录奖励"),
            _entry("2020-05-15 11:10:35", "0.2", "给视频 BV1Yt41137T6 打赏"),
            _entry("2020-05-15 00:34:27", "1", "登录奖励"),
            _entry("2020-05-14 02:11:37", "1", "登录奖励"),
            _entry("2020-05-13 02:12:28", "1", "登录奖励"),
        ),
        count=13,
    ),
}
"""The records that the SDK has to make of the documented samples, written by hand."""

OF_SECTIONS = {section: EXPECTED[endpoint.name] for section, endpoint in SECTIONS.items()}
"""The same by the names of a snapshot's sections, for the endpoints that are such."""
