"""Invented people: the contents of an account about which the test says nothing.

No real person is meant.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from .accounts import CHINA, CoinChange
from .living import video_id

_MOODS = ["爱睡觉", "早起", "迷路", "摸鱼", "不吃香菜", "半夜弹琴", "会修灯泡", "数星星"]
_WHO = ["小鹿", "松鼠", "橘猫", "海豹", "刺猬", "竹鼠", "山雀", "水獭"]
_SIGNS = ["", "今天也要好好吃饭", "慢慢来，比较快", "Stay curious.", "追番、做饭、写代码"]
_VIP_KINDS = [(0, 0, 0), (1, 1, 1), (2, 1, 1)]
"""vip_type, vip_status, vip_pay_type."""


def invent(rng: Random, now: datetime) -> dict[str, object]:
    """Invent a whole person, as the attributes of a `SandboxAccount`."""
    vip_type, vip_status, vip_pay_type = rng.choice(_VIP_KINDS)
    vip_days = rng.uniform(1, 400)
    certified = rng.random() < 0.8
    last_digit = rng.randint(0, 9)
    return {
        "uname": rng.choice(_MOODS) + "的" + rng.choice(_WHO) + str(rng.randint(1, 999)),
        "userid": f"bili_{rng.randrange(10**10, 10**11)}",
        "sign": rng.choice(_SIGNS),
        "birthday": f"{rng.randint(1980, 2010)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        "sex": rng.choice(["男", "女", "保密"]),
        "watch": rng.random() < 0.5,
        "share": rng.random() < 0.3,
        "coin_exp": 10 * rng.randint(0, 5),
        "safe_question": rng.random() < 0.4,
        "vip_type": vip_type,
        "vip_status": vip_status,
        "vip_due_date": int((now + timedelta(days=vip_days)).timestamp()) * 1000 if vip_type else 0,
        "vip_pay_type": vip_pay_type,
        "hide_tel": f"1{rng.randint(30, 99)}*****{rng.randint(0, 999):03}",
        "hide_mail": f"{rng.randint(100, 999)}****@example.com",
        "bind_tel": True,
        "bind_mail": True,
        "tel_verify": True,
        "mail_verify": rng.random() < 0.7,
        "score": rng.randint(60, 100),
        "score_new": rng.randint(60, 100),
        "pwd_level": rng.randint(1, 3),
        "weibo_bind": rng.random() < 0.3,
        "qq_bind": rng.random() < 0.6,
        "wechat_bind": rng.random() < 0.6,
        "realname_certified": certified,
        "realname": "***" if certified else "",
        "card": f"6****************{last_digit}" if certified else "",
        "coins": rng.randint(5, 300),
        "history": invent_week(rng, now),
    }


def invent_week(rng: Random, now: datetime) -> list[CoinChange]:
    """Invent the coin log of the six days before today.

    It has a reward for each login, some tips given, and some received.
    """
    changes = []
    midnight = now.astimezone(CHINA).replace(hour=0, minute=0, second=0)
    for days in range(1, 7):
        morning = midnight - timedelta(days=days)
        login = morning + timedelta(seconds=rng.randrange(40_000))
        changes.append(CoinChange(login, 1, "登录奖励"))
        for _ in range(rng.randint(0, 3)):
            delta = rng.choice([-1, -1, -2, 0.1, 0.2])
            time = morning + timedelta(seconds=rng.randrange(40_000, 86_400))
            changes.append(CoinChange(time, delta, f"给视频 {video_id(rng)} 打赏"))
    return changes
