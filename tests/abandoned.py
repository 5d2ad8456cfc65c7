"""A program that abandons its calls; run by `test_abandoned.py` in a process of its own.

`python abandoned.py ROAD` starts calls, leaves them at one moment after another, and lets the loop
go, closed or not; it prints what a proxy was told of who asks. All runs in debug mode, with
everything logged, and each callback counts as slow: standard error is all that a person could come
to see. A secret is a mark, repeated, and no line of this file holds it, for source lines are shown,
too.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from faults import CLOSE, HANG, Received, Script, reply, serve

from bili_account_async import (
    Credential,
    Hosts,
    Limits,
    RateLimit,
    Retry,
    SessionManager,
    get_account_info,
    update_sign,
)

MARKS = [f"qz{name}" for name in ("sessdata", "jct", "key", "user", "password")]
SESSDATA, JCT, KEY, USER, PASSWORD = (mark * 8 for mark in MARKS)
BODY = b'{"code":0,"message":"0","ttl":1,"data":{}}'


def head(request: Received) -> bytes:
    """A reply's head that holds what the request's did, as far as a server may give it back."""
    echo = (
        f"Set-Cookie: SESSDATA={request.cookies.get('SESSDATA')}",
        f"Link: </?access_key={request.query.get('access_key')}>",
    )
    return reply(headers=echo, length=len(BODY))


MOMENTS: dict[str, tuple[Callable[[Received], Script], dict[str, Any]]] = {
    "no answer": (lambda _: [HANG], {}),
    "half a head": (lambda request: [head(request)[:40], HANG], {}),
    "half a body": (lambda request: [head(request), HANG], {}),
    "idle afterwards": (lambda request: [head(request), BODY], {}),
    "before a retry": (
        lambda _: [CLOSE],
        {"retry": Retry(backoff=60, backoff_max=60), "timeout": 99},
    ),
    "a pause": (lambda _: [reply(status="429 Slow", headers=("Retry-After: 5",))], {}),
    "the queue": (lambda _: [HANG], {"limits": Limits(host=RateLimit(rate=1, burst=1))}),
}
"""The server's script and the manager's options, so that the calls stand there for long."""
ROADS = ("direct", "lent pool", "proxy", "tunnel")


async def abandon(moment: str, road: str) -> AsyncExitStack:
    """Start calls and give what holds them, and would end them."""
    stack = AsyncExitStack()
    script, options = MOMENTS[moment]
    server = await stack.enter_async_context(serve(script))
    hosts = server.hosts
    if road in ("proxy", "tunnel"):
        options = options | {"proxy": f"http://{USER}:{PASSWORD}@127.0.0.1:{server.port}"}
    if road == "tunnel":
        hosts = Hosts()
    if road == "lent pool":
        lent = await stack.enter_async_context(aiohttp.ClientSession())
        options = options | {"client_session": lent}
    calls: list[asyncio.Future[Any]] = []
    stack.push_async_callback(ended, calls)
    manager = SessionManager(**({"hosts": hosts, "limits": Limits.none()} | options))
    await stack.enter_async_context(manager)
    app = manager.session(Credential(access_key=KEY))
    cookie = manager.session(Credential(sessdata=SESSDATA, dede_user_id=7, bili_jct=JCT))
    for me in (app, cookie):
        calls += map(asyncio.ensure_future, (get_account_info(me), update_sign(me, "sign")))
    async with asyncio.timeout(5):
        while not server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await asyncio.wait(calls, timeout=0.03)
    print(*{request.headers.get("proxy-authorization") for request in server.requests})  # noqa: T201
    return stack


async def ended(calls: list[asyncio.Future[Any]]) -> None:
    await asyncio.gather(*calls, return_exceptions=True)


def main(road: str) -> None:
    logging.basicConfig(level=logging.DEBUG, format="%(message)s")
    for moment in MOMENTS:
        for closed in (True, False):
            logging.info("--- %s, closed: %s", moment, closed)
            loop = asyncio.new_event_loop()
            loop.set_debug(True)
            loop.slow_callback_duration = 0
            held = loop.run_until_complete(abandon(moment, road))
            if closed:
                loop.close()
            del held, loop
            gc.collect()


if __name__ == "__main__":
    main(sys.argv[1])
