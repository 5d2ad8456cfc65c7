"""`bili-account sandbox`: an imitation server to try programs on, until Ctrl-C."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from .account import run_until_signal
from .failures import ERROR
from .output import say, show

if TYPE_CHECKING:
    from ..sandbox import Sandbox, SandboxAccount

_HOW_TO_REACH = """\
# In Python
SessionManager(hosts=Hosts(api="{url}", www="{url}", passport="{url}"))

# {who}: the cookie, or the app's token
export BILI_COOKIE='{cookie}'
export BILI_ACCESS_KEY='{access_key}'

# Try it
curl {url}/x/member/web/account -b '{cookie}'"""


def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 0,
) -> None:
    """Serve an imitation of Bilibili on 127.0.0.1 until Ctrl-C."""
    from .demo import open_demo

    try:
        run_until_signal(_serve(open_demo(port)))
    except OSError as error:
        say(f"error: can't serve on port {port}: {error.strerror}", "red")
        say("next:  choose another --port, or 0 for a free one")
        raise typer.Exit(ERROR) from None


async def _serve(demo: AbstractAsyncContextManager[tuple[Sandbox, SandboxAccount]]) -> None:
    async with demo as (server, account):
        login = account.credential
        cookie = f"SESSDATA={login.sessdata}; DedeUserID={account.mid}; bili_jct={login.bili_jct}"
        key = account.app_credential.access_key
        who = f"{account.uname} (mid {account.mid})"
        show(_HOW_TO_REACH.format(url=server.url, who=who, cookie=cookie, access_key=key))
        say("Serving until Ctrl-C. The login is invented, and opens nothing at Bilibili.")
        await asyncio.Event().wait()
