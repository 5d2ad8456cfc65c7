"""The invented accounts of `--sandbox`.

One has something to see in every section; a few more, for `watch`, live quickly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from ..limiting.types import Limits
from ..sandbox import Fault, Sandbox, SandboxAccount
from ..session import AccountSession, SessionManager, open_session
from .accounts_file import Account

_FLEET = ("alice", "bob", "小红", "dave", "erin")
_TEMPO = 360
"""Acts an hour of each of the fleet; with `open_demo_fleet`'s seed, a login dies after 70 s."""


@asynccontextmanager
async def open_demo(port: int = 0) -> AsyncIterator[tuple[Sandbox, SandboxAccount]]:
    """Open a sandbox on this port, 0 for a free one, with the invented account in it."""
    vip_ends = datetime.now(UTC) + timedelta(days=23.5)
    async with Sandbox(port=port, seed=11) as sandbox:
        account = sandbox.add_account(
            sign="慢慢来，比较快。追番、做饭、写代码",
            watch=True,
            share=False,
            coin_exp=0,
            safe_question=False,
            vip_type=2,
            vip_status=1,
            vip_due_date=int(vip_ends.timestamp()) * 1000,
            mail_verify=False,
            score_new=78,
            pwd_level=2,
            realname_certified=True,
            coins=42,
        )
        account.earn(1, "登录奖励")
        account.tip("BV1Qx41Y7kLm", 2)
        yield sandbox, account


@asynccontextmanager
async def open_demo_session() -> AsyncIterator[AccountSession]:
    """Open a session with the invented account, in a sandbox that lives as long."""
    async with (
        open_demo() as (sandbox, account),
        open_session(account.credential, hosts=sandbox.hosts) as session,
    ):
        yield session


@asynccontextmanager
async def open_demo_fleet() -> AsyncIterator[tuple[SessionManager, list[Account]]]:
    """Open a sandbox with accounts that live quickly, and a manager that asks for them.

    One of them is behind a server that fails at first.
    """
    async with Sandbox(seed=40, tempo=_TEMPO) as sandbox:
        people = {name: sandbox.add_account() for name in _FLEET}
        sandbox.fault(None, Fault.status(502), times=24, account=people["dave"])
        async with SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager:
            yield manager, [Account(name, person.credential) for name, person in people.items()]
