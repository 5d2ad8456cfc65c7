"""The invented account of `--sandbox` and of `bili-account sandbox`: one with something to see in every section."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from ..sandbox import Sandbox, SandboxAccount
from ..session import AccountSession, open_session


@asynccontextmanager
async def open_demo(port: int = 0) -> AsyncIterator[tuple[Sandbox, SandboxAccount]]:
    """A sandbox on this port, 0 for a free one, and the invented account in it."""
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
    """A session with the invented account, in a sandbox that lives as long."""
    async with open_demo() as (sandbox, account), open_session(account.credential, hosts=sandbox.hosts) as session:
        yield session
