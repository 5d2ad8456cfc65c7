"""Many accounts through one manager, against a server that knows whose request each has to be.

Every call says beside its credential for whom it is (in a parameter, which the server compares with
the credential that arrived), and every answer says whose it is. The server sets the account's
cookies on every reply, as a trap.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from random import Random

from faults import RESET, Pause, Received, Script, Step, chunked, reply, serve

from bili_account_async import (
    Auth,
    BiliError,
    Credential,
    Endpoint,
    Limits,
    Retry,
    Session,
    SessionManager,
    TransportError,
    get_account_info,
)

WHO = Endpoint("who", "GET", "api", "/who", Auth(), int, ("data", "mid"))
WHO_BY_POST = Endpoint(
    "who_by_post", "POST", "api", "/who", Auth(("sessdata", "bili_jct")), int, ("data", "mid")
)
ACCOUNT_PATH = "/x/member/web/account"


class Crowd:
    """`accounts` of them, each third one with a token in place of a cookie.

    `mixed_up` has to stay empty.
    """

    def __init__(self, accounts: int, *, seed: int = 0, dying: float = 0.02) -> None:
        self.random = Random(seed)
        self.dying = dying
        self.credentials = {mid: _credential(mid) for mid in range(1, accounts + 1)}
        self.owners = {
            credential.sessdata or credential.access_key: mid
            for mid, credential in self.credentials.items()
        }
        self.mixed_up: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def script(self, request: Received) -> Script:
        """Return the server's script: check whose request it is, and answer, mostly."""
        mid = self.owners.get(request.credential)
        if mid is None or request.credential is None:
            self.mixed_up.append(f"nobody's credential: {request}")
            return [RESET]
        self._check(request, mid)
        return self._answer(mid)

    def _check(self, request: Received, mid: int) -> None:
        mine = self.credentials[mid]
        claimed = request.form.get("mid") or request.query.get("mid")
        cookies, query, form = {}, {}, {}
        if mine.sessdata:
            cookies = {
                "SESSDATA": mine.sessdata,
                "DedeUserID": str(mid),
                "bili_jct": str(mine.bili_jct),
            }
            form = {"csrf": mine.bili_jct}
        elif request.method == "GET":
            query = {"access_key": mine.access_key}
        else:
            form = {"access_key": mine.access_key}
        told = {"mid": claimed} if request.path != ACCOUNT_PATH else {}
        expected = (
            (cookies, query | told, {}) if request.method == "GET" else (cookies, {}, form | told)
        )
        right = (request.cookies, request.query, request.form) == expected
        if not right or (told and claimed != str(mid)):
            self.mixed_up.append(f"for {claimed}, as {mid}: {request}")

    def _answer(self, mid: int) -> Iterator[Step]:
        chance = self.random.random()
        if chance < self.dying:
            yield RESET
            return
        body = json.dumps({"code": 0, "data": {**_INFO, "mid": mid}}).encode()
        mine = self.credentials[mid]
        secret = mine.sessdata or mine.access_key
        headers = [
            f"Set-Cookie: {name}={secret}; Path=/{rest}"
            for name in ("SESSDATA", "bili_jct")
            for rest in _DOMAINS
        ]
        if chance < 0.2:
            yield reply(
                chunked(body[:9], body[9:]),
                headers=[*headers, "Transfer-Encoding: chunked"],
                length=None,
            )
        elif chance < 0.4:
            whole = reply(body, headers=headers)
            cut = self.random.randrange(len(whole))
            yield whole[:cut]
            yield Pause(0)
            yield whole[cut:]
        elif chance < 0.45:
            yield reply(body, headers=headers)
            yield Pause(0)
            yield b"HTTP/1.1 100 Continue\r\n\r\n"
        elif chance < 0.5:
            yield reply(body, headers=headers) + reply(b'{"code":0,"data":{"mid":666}}')
        else:
            yield reply(body, headers=headers)

    async def ask(self, session: Session, mid: int) -> None:
        """One call by the account, and whether the answer is its own."""
        told = {"mid": str(mid)}
        match self.random.randrange(3):
            case 0:
                answer = await session.call(WHO, params=told)
            case 1:
                answer = await session.call(WHO_BY_POST, form=told)
            case _:
                answer = (await get_account_info(session)).mid
        if answer != mid:
            self.mixed_up.append(f"{mid} got the answer for {answer}")

    async def _one_call(self, session: Session, mid: int) -> None:
        call = asyncio.ensure_future(self.ask(session, mid))
        if self.random.random() < 0.2:
            for _ in range(self.random.randrange(8)):
                await asyncio.sleep(0)
            call.cancel()
        try:
            await call
            self.outcomes["answered"] += 1
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except TransportError:
            self.outcomes["broken"] += 1
        except BiliError as error:
            self.mixed_up.append(f"{mid}: {error!r}")

    async def run(self, calls: int, *, at_once: int = 64) -> None:
        """So many calls by accounts at random, some of them cancelled somewhere on their way."""
        left = iter(range(calls))

        async def worker() -> None:
            for _ in left:
                mid = self.random.randint(1, len(self.credentials))
                await self._one_call(sessions[mid], mid)

        async with (
            serve(self.script, name="localhost") as server,
            SessionManager(
                hosts=server.hosts, limits=Limits.none(), retry=Retry(backoff=0.001)
            ) as manager,
        ):
            sessions = {
                mid: manager.session(credential) for mid, credential in self.credentials.items()
            }
            await asyncio.gather(*(worker() for _ in range(at_once)))
            self.outcomes["requests"] = len(server.requests)
            self.outcomes["connections"] = server.connections


def _credential(mid: int) -> Credential:
    if mid % 3 == 0:
        return Credential(access_key=f"key-of-{mid}")
    return Credential(sessdata=f"sess%2Cof*{mid}", dede_user_id=mid, bili_jct=f"jct-of-{mid}")


_DOMAINS = ("", "; Domain=localhost", "; Domain=.bilibili.com", "; Max-Age=99999; HttpOnly")
_INFO = {
    "uname": "",
    "userid": "",
    "sign": "",
    "birthday": "",
    "sex": "保密",
    "nick_free": False,
    "rank": "",
}
