"""Accounts that live: the acts of a living account, and their times.

A life is drawn from its own seeded generator and evaluated only when somebody looks, each act at
its own time: the same seed and clock give the same history, however often the account is asked.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from .accounts import SandboxAccount

VIP_NONE, VIP_NORMAL, VIP_FROZEN = 0, 1, 2
MONTH = timedelta(days=31)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
"""The characters of a video's id: no 0, O, I or l, which people mix up."""


@attrs.define(eq=False)
class Life:
    """The acts of one account: `tempo` of them an hour on average, as independent events."""

    _rng: Random
    _tempo: float
    _next: datetime

    def __attrs_post_init__(self) -> None:
        self._wait()

    def live(self, account: SandboxAccount, until: datetime) -> None:
        """Do everything that is due up to `until`, in the order of time."""
        while self._next <= until:
            account.begin_day(self._next)
            _end_vip(account, self._next)
            (act,) = self._rng.choices(_ACTS, _WEIGHTS)
            act(account, self._rng, self._next)
            self._wait()
        _end_vip(account, until)

    def _wait(self) -> None:
        # Independent events have exponential times between them.
        self._next += timedelta(hours=self._rng.expovariate(self._tempo))


def _visit(account: SandboxAccount, rng: Random, at: datetime) -> None:
    if not account.login:
        account.login = True
        account.earn(1, "登录奖励", at=at)


def _watch(account: SandboxAccount, rng: Random, at: datetime) -> None:
    account.watch = True


def _share(account: SandboxAccount, rng: Random, at: datetime) -> None:
    account.share = True


def _be_tipped(account: SandboxAccount, rng: Random, at: datetime) -> None:
    account.earn(Decimal(rng.randint(1, 30)) / 10, f"给视频 {video_id(rng)} 打赏", at=at)


def _tip(account: SandboxAccount, rng: Random, at: datetime) -> None:
    video, coins = video_id(rng), rng.randint(1, 2)
    if account.coins >= coins:
        account.tip(video, coins, at=at)


def _buy_vip(account: SandboxAccount, rng: Random, at: datetime) -> None:
    start = max(account.vip_due_date, _milliseconds(at))
    account.vip_due_date = start + MONTH // timedelta(milliseconds=1)
    account.vip_type = max(account.vip_type, 1)
    account.vip_status, account.vip_pay_type = VIP_NORMAL, 1


def _lose_vip(account: SandboxAccount, rng: Random, at: datetime) -> None:
    account.vip_due_date = min(account.vip_due_date, _milliseconds(at))  # the money went back


def _freeze_or_thaw_vip(account: SandboxAccount, rng: Random, at: datetime) -> None:
    other = {VIP_NORMAL: VIP_FROZEN, VIP_FROZEN: VIP_NORMAL}
    account.vip_status = other.get(account.vip_status, account.vip_status)


def _lose_login(account: SandboxAccount, rng: Random, at: datetime) -> None:
    account.log_out()


_ACTS = [
    _be_tipped,
    _tip,
    _visit,
    _watch,
    _share,
    _buy_vip,
    _lose_vip,
    _freeze_or_thaw_vip,
    _lose_login,
]
_WEIGHTS = [30, 30, 12, 8, 8, 2, 2, 4, 0.3]


def _end_vip(account: SandboxAccount, at: datetime) -> None:
    if account.vip_status != VIP_NONE and account.vip_due_date <= _milliseconds(at):
        account.vip_status, account.vip_pay_type = VIP_NONE, 0


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def video_id(rng: Random) -> str:
    """Return an invented video's id, which looks like the real ones."""
    return "BV1" + "".join(rng.choices(_BASE58, k=9))
