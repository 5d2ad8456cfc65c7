"""What is drawn: the snapshot's page, a function a section, and the coin log's table. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from ..records import AccountInfo, CoinLog, DailyRewards, PasswordLevel, SecurityInfo, VipInfo, VipStatus
from ..snapshot import AccountSnapshot
from .failures import describe
from .output import plain

_WIDE = 110
"""From so many columns on, the coins stand beside the other sections."""
_BAR = 12
_CHINA = timezone(timedelta(hours=8))
_EXP_A_TASK, _EXP_A_COIN, _COIN_EXP_MAX = 5, 10, 50
_DAILY = {"login": "log in", "watch": "watch a video", "share": "share a video"}
_ONCE = {
    "email": "bind a mail address",
    "tel": "bind a telephone number (+100)",
    "safe_question": "set a safety question",
    "identify_card": "certify the real name (+50)",
}
_VIP_TROUBLE = {VipStatus.FROZEN: "the IP address changed too often", VipStatus.LOCKED: "the account is at high risk"}


def page(snapshot: AccountSnapshot, width: int) -> RenderableType:
    """The whole page, for a terminal of this width."""
    facts, week = (Table.grid(Column(style="bold cyan", min_width=10), "", padding=(0, 1)) for _ in range(2))
    for name, lines in _sections(snapshot):
        facts.add_row(name, Text("\n").join(lines))
    if snapshot.coin_log is not None:
        week.add_row("Coins", _week(snapshot.coin_log, snapshot.taken_at.astimezone(_CHINA).date()))
    below: RenderableType = Group(facts, week)
    if width >= _WIDE:
        below = Table.grid(padding=(0, 4))
        below.add_row(facts, week)
    return Group(_profile(snapshot.account_info), below) if snapshot.account_info is not None else below


def coin_table(log: CoinLog) -> RenderableType:
    """Every entry, and the totals."""
    time, delta = Column("Time (UTC+8)", no_wrap=True), Column("Coins", no_wrap=True, justify="right")
    table = Table(time, delta, Column("Reason", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False)
    for entry in log.entries:
        table.add_row(f"{entry.time:%Y-%m-%d %H:%M:%S}", _coins(entry.delta), Text(plain(entry.reason)))
    return Group(table, _totals(log)) if log.entries else Text("No coins came or went in the last week.")


def _sections(snapshot: AccountSnapshot) -> Iterator[tuple[str, list[Text]]]:
    if snapshot.vip_info is not None:
        yield "VIP", list(_vip(snapshot.vip_info, snapshot.taken_at))
    if snapshot.daily_rewards is not None or snapshot.coin_exp is not None:
        yield "Today", list(_today(snapshot.daily_rewards, snapshot.coin_exp))
    if snapshot.security_info is not None:
        yield "Security", list(_security(snapshot.security_info))
    status, application = snapshot.realname_status, snapshot.realname_application
    if status is not None:
        why = f", turned down: {plain(application.remark)}" if application and application.remark else ""
        yield "Real name", [Text(_words(status) + why)]
    failed = [Text(f"{name} failed: {describe(error)}", "yellow") for name, error in snapshot.failures.items()]
    skipped = [Text(f"{name} skipped: this login can't ask for it", "yellow") for name in sorted(snapshot.skipped)]
    if failed or skipped:
        yield "Missing", failed + skipped


def _profile(info: AccountInfo) -> Panel:
    about = f"{info.userid}, {info.sex.value}" + (f", born {info.birthday}" if info.birthday else "")
    name = Text.assemble((plain(info.uname), "bold"), plain(f", {info.rank}, mid {info.mid}"))
    return Panel(Group(name, Text(plain(info.sign) or "no sign", "italic"), Text(plain(about), "dim")), padding=(0, 1))


def _vip(vip: VipInfo, now: datetime) -> Iterator[Text]:
    due = vip.vip_due_date
    if due is None or due <= now or vip.vip_status == VipStatus.NONE:
        yield Text("not a member" + (f", the membership ended on {_china_day(due)}" if due else ""))
        return
    days = (due - now).days
    left = f"{days} days left" if days > 1 else "one day left" if days else "less than a day left"
    style = "red" if days < 8 else "yellow" if days < 31 else "green"
    yield Text.assemble(f"{_words(vip.vip_type)} member, ", (left, style), f", until {_china_day(due)}")
    if vip.vip_status != VipStatus.NORMAL:
        why = _VIP_TROUBLE.get(vip.vip_status, "the API document does not know this status")
        yield Text(f"{_words(vip.vip_status)}: {why}", "red")


def _today(rewards: DailyRewards | None, coin_exp: int | None) -> Iterator[Text]:
    by_coins = coin_exp if coin_exp is not None else rewards.coins if rewards else 0  # rewards' coins lag behind
    tasks = {words: getattr(rewards, task) for task, words in _DAILY.items()} if rewards else {}
    got, whole = by_coins + _EXP_A_TASK * sum(tasks.values()), _COIN_EXP_MAX + _EXP_A_TASK * len(tasks)
    filled = max(0, min(20, got * 20 // whole))
    yield Text.assemble(f"{got} of {whole} experience  ", ("█" * filled, "green"), ("░" * (20 - filled), "dim"))
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
        f"password of {_words(safe.pwd_level)} strength": safe.pwd_level in (PasswordLevel.WEAK, PasswordLevel.MEDIUM),
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
    owned = {plain(bound.hide_tel): bound.bind_tel, plain(bound.hide_mail): bound.bind_mail}
    social = {"Weibo": sns.weibo_bind, "QQ": sns.qq_bind, "WeChat": sns.wechat_bind}
    yield Text("bound: " + (", ".join(_those(owned | social, True)) or "nothing"))


def _week(log: CoinLog, today: date) -> RenderableType:
    """Totals, and a bar a day: to the left what went out, to the right what came in."""
    days = [today - timedelta(days=ago) for ago in range(7)]
    logs = [
        attrs.evolve(log, entries=tuple(entry for entry in log.entries if entry.time.date() == day)) for day in days
    ]
    peak = max(max(one.income, one.spending) for one in logs)
    chart = Table.grid("", Column(justify="right"), "", "", padding=(0, 1))
    for day, one in zip(days, logs, strict=True):
        bars = Text.assemble(
            (_bar(one.spending, peak).rjust(_BAR), "red"), "│", (_bar(one.income, peak).ljust(_BAR), "green")
        )
        chart.add_row(f"{day:%a %m-%d}", _coins(-one.spending), bars, _coins(one.income))
    return Group(_totals(log), chart)


def _totals(log: CoinLog) -> Text:
    out, net = _coins(-log.spending) or Text("0"), _coins(log.net) or Text("0")
    return Text.assemble("in ", _coins(log.income) or Text("0"), ", out ", out, ", net ", net)


def _coins(amount: Decimal) -> Text:
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
    return time.astimezone(_CHINA).date() if time.year < 9999 else time.date()


def _words(code: IntEnum) -> str:
    return code.name.lower().replace("_", " ")
