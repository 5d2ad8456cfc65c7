"""What is drawn: the snapshot's page, a function a section, and the coin log's table. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from itertools import accumulate

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from ..records import (
    AccountInfo,
    CoinLog,
    DailyRewards,
    PasswordLevel,
    SecurityInfo,
    VipInfo,
    VipStatus,
)
from ..snapshot import AccountSnapshot
from .failures import describe
from .output import plain

_WIDE = 110
"""From so many columns on, the coins stand beside the other sections."""
_BAR = 12
_CHART_ROWS, _EIGHTHS, _THICKEST = 8, " ▁▂▃▄▅▆▇█", 6
CHINA = timezone(timedelta(hours=8))
_EXP_A_TASK, _EXP_A_COIN, _COIN_EXP_MAX = 5, 10, 50
_DAILY = {"login": "log in", "watch": "watch a video", "share": "share a video"}
_ONCE = {
    "email": "bind a mail address",
    "tel": "bind a telephone number (+100)",
    "safe_question": "set a safety question",
    "identify_card": "certify the real name (+50)",
}
_VIP_TROUBLE = {
    VipStatus.FROZEN: "the IP address changed too often",
    VipStatus.LOCKED: "the account is at high risk",
}


def page(snapshot: AccountSnapshot, width: int) -> RenderableType:
    """The whole page, for a terminal of this width."""
    facts, week = (
        Table.grid(Column(style="bold cyan", min_width=10), "", padding=(0, 1)) for _ in range(2)
    )
    for name, lines in _sections(snapshot):
        facts.add_row(name, Text("\n").join(lines))
    if snapshot.coin_log is not None:
        week.add_row("Coins", _week(snapshot.coin_log, snapshot.taken_at.astimezone(CHINA).date()))
    below: RenderableType = Group(facts, week)
    if width >= _WIDE:
        below = Table.grid(padding=(0, 4))
        below.add_row(facts, week)
    return (
        Group(_profile(snapshot.account_info), below)
        if snapshot.account_info is not None
        else below
    )


def coin_table(log: CoinLog) -> RenderableType:
    """Every entry, and the totals."""
    time, delta = (
        Column("Time (UTC+8)", no_wrap=True),
        Column("Coins", no_wrap=True, justify="right"),
    )
    table = Table(time, delta, Column("Reason", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False)
    for entry in log.entries:
        table.add_row(
            f"{entry.time:%Y-%m-%d %H:%M:%S}", coins(entry.delta), Text(plain(entry.reason))
        )
    return (
        Group(table, _totals(log))
        if log.entries
        else Text("No coins came or went in the last week.")
    )


def balance_chart(log: CoinLog, width: int) -> RenderableType:
    """A column for the balance at the end of each day, or of several days where the width has no
    room for each.
    """
    net: defaultdict[date, Decimal] = defaultdict(Decimal)
    for entry in log.entries:
        net[entry.time.date()] += entry.delta
    first, last = min(net), max(net)
    days = (last - first).days + 1
    balances = list(accumulate(net.get(first + timedelta(day), Decimal(0)) for day in range(days)))
    top, bottom = max(Decimal(0), *balances), min(Decimal(0), *balances)
    margin = max(len(_amount(top)), len(_amount(bottom)))
    room = max(1, width - margin - 2)
    each = -(-days // room)
    points = [balances[min(end, days) - 1] for end in range(each, days + each, each)]
    heights = [
        max(1, round((point - bottom) / (top - bottom or 1) * 8 * _CHART_ROWS)) for point in points
    ]
    thick = min(_THICKEST, room // len(points))
    chart = Text(
        f"Balance by day, {first} to {last}, counted from 0: Bilibili does not tell the "
        "balance itself\n"
    )
    for row in reversed(range(_CHART_ROWS)):
        label = _amount(top) if row == _CHART_ROWS - 1 else "" if row else _amount(bottom)
        chart.append(f"{label:>{margin}} │")
        blocks = (_EIGHTHS[max(0, min(8, height - 8 * row))] for height in heights)
        chart.append(
            "".join((block * (thick - 1) or block).ljust(thick) for block in blocks) + "\n", "cyan"
        )
    chart.append(f"{'':{margin}} └ {'a day' if each == 1 else f'{each} days'} a column")
    return chart


def _sections(snapshot: AccountSnapshot) -> Iterator[tuple[str, list[Text]]]:
    if snapshot.vip_info is not None:
        yield "VIP", list(_vip(snapshot.vip_info, snapshot.taken_at))
    if snapshot.daily_rewards is not None or snapshot.coin_exp is not None:
        yield "Today", list(_today(snapshot.daily_rewards, snapshot.coin_exp))
    if snapshot.security_info is not None:
        yield "Security", list(_security(snapshot.security_info))
    status, application = snapshot.realname_status, snapshot.realname_application
    if status is not None:
        why = (
            f", turned down: {plain(application.remark)}"
            if application and application.remark
            else ""
        )
        yield "Real name", [Text(in_words(status) + why)]
    failed = [
        Text(f"{name} failed: {describe(error)}", "yellow")
        for name, error in snapshot.failures.items()
    ]
    skipped = [
        Text(f"{name} skipped: this login can't ask for it", "yellow")
        for name in sorted(snapshot.skipped)
    ]
    if failed or skipped:
        yield "Missing", failed + skipped


def _profile(info: AccountInfo) -> Panel:
    about = f"{info.userid}, {info.sex.value}" + (
        f", born {info.birthday}" if info.birthday else ""
    )
    rank = f", {info.rank}" if info.rank else ""
    name = Text.assemble((plain(info.uname), "bold"), plain(f"{rank}, mid {info.mid}"))
    return Panel(
        Group(name, Text(plain(info.sign) or "no sign", "italic"), Text(plain(about), "dim")),
        padding=(0, 1),
    )


def _vip(vip: VipInfo, now: datetime) -> Iterator[Text]:
    due = vip.vip_due_date
    if due is None or due <= now or vip.vip_status == VipStatus.NONE:
        yield Text("not a member" + (f", the membership ended on {_china_day(due)}" if due else ""))
        return
    days = (due - now).days
    left = f"{days} days left" if days > 1 else "one day left" if days else "less than a day left"
    style = "red" if days < 8 else "yellow" if days < 31 else "green"
    yield Text.assemble(
        f"{in_words(vip.vip_type)} member, ", (left, style), f", until {_china_day(due)}"
    )
    if vip.vip_status != VipStatus.NORMAL:
        why = _VIP_TROUBLE.get(vip.vip_status, "the API document does not know this status")
        yield Text(f"{in_words(vip.vip_status)}: {why}", "red")


def _today(rewards: DailyRewards | None, coin_exp: int | None) -> Iterator[Text]:
    by_coins = (
        coin_exp if coin_exp is not None else rewards.coins if rewards else 0
    )  # rewards' coins lag behind
    tasks = {words: getattr(rewards, task) for task, words in _DAILY.items()} if rewards else {}
    got, whole = (
        by_coins + _EXP_A_TASK * sum(tasks.values()),
        _COIN_EXP_MAX + _EXP_A_TASK * len(tasks),
    )
    filled = max(0, min(20, got * 20 // whole))
    yield Text.assemble(
        f"{got} of {whole} experience  ", ("█" * filled, "green"), ("░" * (20 - filled), "dim")
    )
    todo = [f"{words} (+{_EXP_A_TASK})" for words in _those(tasks, False)]
    if (left := _COIN_EXP_MAX - by_coins) > 0:
        todo.append(f"tip coins: {-(-left // _EXP_A_COIN)} (+{left})")
    once = {words: getattr(rewards, task) for task, words in _ONCE.items()} if rewards else {}
    told = (
        ("done", "green", _those(tasks, True)),
        ("open", "yellow", todo),
        ("open, once", "yellow", _those(once, False)),
    )
    for heading, style, items in told:
        if items:
            yield Text.assemble((f"{heading}: ", style), ", ".join(items))


def _security(security: SecurityInfo) -> Iterator[Text]:
    bound, safe, sns = security.account_info, security.account_safe, security.account_sns
    weak = {
        "no password is set": bound.unneeded_check,
        "the password is not safe": not safe.security,
        f"password of {in_words(safe.pwd_level)} strength": safe.pwd_level
        in (PasswordLevel.WEAK, PasswordLevel.MEDIUM),
        "no telephone number": not bound.bind_tel,
        "telephone number not verified": bound.bind_tel and not bound.tel_verify,
        "no mail address": not bound.bind_mail,
        "mail address not verified": bound.bind_mail and not bound.mail_verify,
        "real name not certified": not bound.realname_certified,
    }
    found = _those(weak, True)
    yield Text.assemble("score ", (str(safe.score_new), "yellow" if found else "green"), " of 100")
    if found:
        yield Text.assemble(("weak: ", "red"), ", ".join(found))
    owned = {
        plain(bound.hide_tel) or "a telephone": bound.bind_tel,
        plain(bound.hide_mail) or "mail": bound.bind_mail,
    }
    social = {"Weibo": sns.weibo_bind, "QQ": sns.qq_bind, "WeChat": sns.wechat_bind}
    yield Text("bound: " + (", ".join(_those(owned | social, True)) or "nothing"))


def _week(log: CoinLog, today: date) -> RenderableType:
    """Totals, and a bar a day: to the left what went out, to the right what came in."""
    days = [today - timedelta(days=ago) for ago in range(7)]
    logs = [
        attrs.evolve(log, entries=tuple(entry for entry in log.entries if entry.time.date() == day))
        for day in days
    ]
    peak = max(max(one.income, one.spending) for one in logs)
    chart = Table.grid("", Column(justify="right"), "", "", padding=(0, 1))
    for day, one in zip(days, logs, strict=True):
        bars = Text.assemble(
            (_bar(one.spending, peak).rjust(_BAR), "red"),
            "│",
            (_bar(one.income, peak).ljust(_BAR), "green"),
        )
        chart.add_row(f"{day:%a %m-%d}", coins(-one.spending), bars, coins(one.income))
    return Group(_totals(log), chart)


def _totals(log: CoinLog) -> Text:
    out, net = coins(-log.spending) or Text("0"), coins(log.net) or Text("0")
    return Text.assemble("in ", coins(log.income) or Text("0"), ", out ", out, ", net ", net)


def _amount(balance: Decimal) -> str:
    return coins(balance).plain or "0"


def coins(amount: Decimal) -> Text:
    """With its sign, as short as it is exact (a monstrous one in powers of ten); nothing for 0."""
    if not amount:
        return Text("")
    shown = f"{amount.normalize():+f}" if -5 < amount.adjusted() < 9 else f"{amount:+.3e}"
    return Text(shown, "green" if amount > 0 else "red")


def _bar(amount: Decimal, peak: Decimal) -> str:
    return "█" * max(1, round(_BAR * amount / peak)) if amount else ""


def _those(flags: Mapping[str, bool], wanted: bool) -> list[str]:
    return [words for words, flag in flags.items() if words and flag is wanted]


def _china_day(time: datetime) -> date:
    return time.astimezone(CHINA).date() if time.year < 9999 else time.date()


def in_words(code: IntEnum) -> str:
    return code.name.lower().replace("_", " ")
