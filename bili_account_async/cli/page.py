"""The drawings: the snapshot's page, a function a section, and the coin log's table. No I/O."""

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
    """Return the whole page, for a terminal of this width."""
    facts, week = _headed_grid(), _headed_grid()
    for name, lines in _sections(snapshot):
        facts.add_row(name, Text("\n").join(lines))
    if snapshot.coin_log is not None:
        week.add_row("Coins", _week(snapshot.coin_log, snapshot.taken_at.astimezone(CHINA).date()))
    below: RenderableType = Group(facts, week)
    if width >= _WIDE:
        below = Table.grid(padding=(0, 4))
        below.add_row(facts, week)
    if snapshot.account_info is None:
        return below
    return Group(_profile(snapshot.account_info), below)


def _headed_grid() -> Table:
    return Table.grid(Column(style="bold cyan", min_width=10), "", padding=(0, 1))


def coin_table(log: CoinLog) -> RenderableType:
    """Return the table of every entry, with the totals."""
    if not log.entries:
        return Text("No coins came or went in the last week.")
    time = Column("Time (UTC+8)", no_wrap=True)
    delta = Column("Coins", no_wrap=True, justify="right")
    reason = Column("Reason", overflow="fold")
    table = Table(time, delta, reason, box=SIMPLE_HEAD, pad_edge=False)
    for entry in log.entries:
        at = f"{entry.time:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, coins(entry.delta), Text(plain(entry.reason)))
    return Group(table, _totals(log))


def balance_chart(log: CoinLog, width: int) -> RenderableType:
    """Return a chart with a column for the balance at the end of each day.

    Where the width has no room for each, a column stands for several days.
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
    step = -(-days // room)
    points = [balances[min(end, days) - 1] for end in range(step, days + step, step)]
    span = top - bottom or Decimal(1)
    heights = [max(1, round((point - bottom) / span * 8 * _CHART_ROWS)) for point in points]
    thick = min(_THICKEST, room // len(points))
    why = "Bilibili does not tell the balance itself"
    chart = Text(f"Balance by day, {first} to {last}, counted from 0: {why}\n")
    for row in reversed(range(_CHART_ROWS)):
        label = _amount(top) if row == _CHART_ROWS - 1 else "" if row else _amount(bottom)
        chart.append(f"{label:>{margin}} │")
        blocks = (_EIGHTHS[max(0, min(8, height - 8 * row))] for height in heights)
        line = "".join((block * (thick - 1) or block).ljust(thick) for block in blocks)
        chart.append(f"{line}\n", "cyan")
    chart.append(f"{'':{margin}} └ {'a day' if step == 1 else f'{step} days'} a column")
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
        remark = plain(application.remark) if application else ""
        why = f", turned down: {remark}" if remark else ""
        yield "Real name", [Text(in_words(status) + why)]
    missing = [f"{name} failed: {describe(error)}" for name, error in snapshot.failures.items()]
    missing += [f"{name} skipped: this login can't ask for it" for name in sorted(snapshot.skipped)]
    if missing:
        yield "Missing", [Text(line, "yellow") for line in missing]


def _profile(info: AccountInfo) -> Panel:
    rank = f", {info.rank}" if info.rank else ""
    born = f", born {info.birthday}" if info.birthday else ""
    name = Text.assemble((plain(info.uname), "bold"), plain(f"{rank}, mid {info.mid}"))
    sign = Text(plain(info.sign) or "no sign", "italic")
    about = Text(plain(f"{info.userid}, {info.sex.value}{born}"), "dim")
    return Panel(Group(name, sign, about), padding=(0, 1))


def _vip(vip: VipInfo, now: datetime) -> Iterator[Text]:
    due = vip.vip_due_date
    if due is None or due <= now or vip.vip_status == VipStatus.NONE:
        ended = f", the membership ended on {_china_day(due)}" if due else ""
        yield Text(f"not a member{ended}")
        return
    days = (due - now).days
    left = f"{days} days left" if days > 1 else "one day left" if days else "less than a day left"
    style = "red" if days < 8 else "yellow" if days < 31 else "green"
    member, until = f"{in_words(vip.vip_type)} member, ", f", until {_china_day(due)}"
    yield Text.assemble(member, (left, style), until)
    if vip.vip_status != VipStatus.NORMAL:
        why = _VIP_TROUBLE.get(vip.vip_status, "the API document does not know this status")
        yield Text(f"{in_words(vip.vip_status)}: {why}", "red")


def _today(rewards: DailyRewards | None, coin_exp: int | None) -> Iterator[Text]:
    by_coins = rewards.coins if rewards else 0
    if coin_exp is not None:
        by_coins = coin_exp  # the rewards' coins lag behind
    tasks = {words: getattr(rewards, task) for task, words in _DAILY.items()} if rewards else {}
    earned = by_coins + _EXP_A_TASK * sum(tasks.values())
    most = _COIN_EXP_MAX + _EXP_A_TASK * len(tasks)
    filled = max(0, min(20, earned * 20 // most))
    bar = ("█" * filled, "green"), ("░" * (20 - filled), "dim")
    yield Text.assemble(f"{earned} of {most} experience  ", *bar)
    todo = [f"{words} (+{_EXP_A_TASK})" for words in _matching(tasks, False)]
    if (left := _COIN_EXP_MAX - by_coins) > 0:
        todo.append(f"tip coins: {-(-left // _EXP_A_COIN)} (+{left})")
    once = {words: getattr(rewards, task) for task, words in _ONCE.items()} if rewards else {}
    groups = (
        ("done", "green", _matching(tasks, True)),
        ("open", "yellow", todo),
        ("open, once", "yellow", _matching(once, False)),
    )
    for heading, style, items in groups:
        if items:
            yield Text.assemble((f"{heading}: ", style), ", ".join(items))


def _security(security: SecurityInfo) -> Iterator[Text]:
    bound, safe, sns = security.account_info, security.account_safe, security.account_sns
    weak_password = safe.pwd_level in (PasswordLevel.WEAK, PasswordLevel.MEDIUM)
    weak = {
        "no password is set": bound.unneeded_check,
        "the password is not safe": not safe.security,
        f"password of {in_words(safe.pwd_level)} strength": weak_password,
        "no telephone number": not bound.bind_tel,
        "telephone number not verified": bound.bind_tel and not bound.tel_verify,
        "no mail address": not bound.bind_mail,
        "mail address not verified": bound.bind_mail and not bound.mail_verify,
        "real name not certified": not bound.realname_certified,
    }
    found = _matching(weak, True)
    yield Text.assemble("score ", (str(safe.score_new), "yellow" if found else "green"), " of 100")
    if found:
        yield Text.assemble(("weak: ", "red"), ", ".join(found))
    owned = {
        plain(bound.hide_tel) or "a telephone": bound.bind_tel,
        plain(bound.hide_mail) or "mail": bound.bind_mail,
    }
    social = {"Weibo": sns.weibo_bind, "QQ": sns.qq_bind, "WeChat": sns.wechat_bind}
    yield Text("bound: " + (", ".join(_matching(owned | social, True)) or "nothing"))


def _week(log: CoinLog, today: date) -> RenderableType:
    """Return totals, and a bar a day: coins out to the left, coins in to the right."""
    days = {today - timedelta(days=ago): log for ago in range(7)}
    for day in days:
        entries = tuple(entry for entry in log.entries if entry.time.date() == day)
        days[day] = attrs.evolve(log, entries=entries)
    peak = max(max(part.income, part.spending) for part in days.values())
    chart = Table.grid("", Column(justify="right"), "", "", padding=(0, 1))
    for day, part in days.items():
        spending = (_bar(part.spending, peak).rjust(_BAR), "red")
        income = (_bar(part.income, peak).ljust(_BAR), "green")
        bars = Text.assemble(spending, "│", income)
        chart.add_row(f"{day:%a %m-%d}", coins(-part.spending), bars, coins(part.income))
    return Group(_totals(log), chart)


def _totals(log: CoinLog) -> Text:
    out, net = coins(-log.spending) or Text("0"), coins(log.net) or Text("0")
    return Text.assemble("in ", coins(log.income) or Text("0"), ", out ", out, ", net ", net)


def _amount(balance: Decimal) -> str:
    return coins(balance).plain or "0"


def coins(amount: Decimal) -> Text:
    """Return the amount with its sign, as short as it is exact; nothing for 0.

    A monstrous one is told in powers of ten.
    """
    if not amount:
        return Text("")
    shown = f"{amount.normalize():+f}" if -5 < amount.adjusted() < 9 else f"{amount:+.3e}"
    return Text(shown, "green" if amount > 0 else "red")


def _bar(amount: Decimal, peak: Decimal) -> str:
    return "█" * max(1, round(_BAR * amount / peak)) if amount else ""


def _matching(flags: Mapping[str, bool], wanted: bool) -> list[str]:
    return [words for words, flag in flags.items() if words and flag is wanted]


def _china_day(time: datetime) -> date:
    return time.astimezone(CHINA).date() if time.year < 9999 else time.date()


def in_words(code: IntEnum) -> str:
    return code.name.lower().replace("_", " ")
