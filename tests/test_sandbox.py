"""The sandbox answers as the API document and its errata say, fails as ordered, and leaves nothing
behind.

Asked with a plain aiohttp client: that the SDK and the sandbox agree is the business of the other
tests.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from bili_account_async.sandbox import CoinChange, Fault, Sandbox, SandboxAccount

PATHS = {
    "get_account_info": "/x/member/web/account",
    "get_daily_rewards": "/x/member/web/exp/reward",
    "get_coin_exp": "/plus/account/exp.php",
    "get_vip_info": "/x/vip/web/user/info",
    "get_security_info": "/web/site/user/info",
    "get_realname_status": "/x/member/realname/status",
    "get_realname_application": "/x/member/realname/apply/status",
    "get_coin_log": "/x/member/web/coin/log",
}
ACCOUNT_INFO = PATHS["get_account_info"]
SIGN_UPDATE = "/x/member/web/sign/update"
COOKIE_ONLY = {"get_coin_exp", "get_vip_info"}
NEEDS_USER_ID = {"get_coin_exp", "get_security_info"}
NOT_LOGGED_IN = {"code": -101, "message": "账号未登录", "ttl": 1}

Fetch = Callable[..., Awaitable["Got"]]


class Got:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 4, 4, 0, 0, tzinfo=UTC)  # noon in UTC+8

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[Sandbox]:
    async with Sandbox(now=clock, review_delay=60) as sandbox:
        yield sandbox


@pytest.fixture
async def fetch(sandbox: Sandbox) -> AsyncIterator[Fetch]:
    async with aiohttp.ClientSession(sandbox.url, cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def fetch(path: str, cookie: str = "", method: str = "GET", **options: Any) -> Got:
            headers = {"Cookie": cookie} if cookie else {}
            async with client.request(method, path, headers=headers, **options) as response:
                return Got(response, await response.read())

        yield fetch


def cookie(account: SandboxAccount, user_id: int | str | None = None) -> str:
    login = account.credential
    return (
        f"SESSDATA={login.sessdata}; "
        f"DedeUserID={login.dede_user_id if user_id is None else user_id}"
    )


def access_key(account: SandboxAccount) -> dict[str, str]:
    key = account.app_credential.access_key
    assert key is not None
    return {"access_key": key}


def csrf(account: SandboxAccount) -> dict[str, str]:
    return {"csrf": account.bili_jct}


# Who may ask.


@pytest.mark.parametrize("endpoint", PATHS)
async def test_the_cookie_logs_in_everywhere(endpoint: str, sandbox: Sandbox, fetch: Fetch) -> None:
    got = await fetch(PATHS[endpoint], cookie(sandbox.add_account()))
    assert (got.status, got.json["code"]) == (200, 0)
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("endpoint", PATHS)
async def test_the_app_token_logs_in_where_the_document_says(
    endpoint: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    got = await fetch(PATHS[endpoint], params=access_key(sandbox.add_account()))
    assert got.json["code"] == (-101 if endpoint in COOKIE_ONLY else 0)


@pytest.mark.parametrize("endpoint", PATHS)
@pytest.mark.parametrize("user_id", ["0", "", "x"])
async def test_a_zero_user_id_is_refused_where_one_is_needed(
    endpoint: str, user_id: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    got = await fetch(PATHS[endpoint], cookie(sandbox.add_account(), user_id))
    assert got.json["code"] == (-101 if endpoint in NEEDS_USER_ID else 0)


@pytest.mark.parametrize("endpoint", sorted(NEEDS_USER_ID))
async def test_the_user_id_is_not_compared_with_the_account(
    endpoint: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    assert (await fetch(PATHS[endpoint], cookie(sandbox.add_account(), 1))).json["code"] == 0


async def test_the_app_token_needs_no_user_id(sandbox: Sandbox, fetch: Fetch) -> None:
    assert (await fetch(PATHS["get_security_info"], params=access_key(sandbox.add_account()))).json[
        "code"
    ] == 0


@pytest.mark.parametrize("path", [*PATHS.values(), SIGN_UPDATE])
@pytest.mark.parametrize("sent", ["", "SESSDATA=0000%2C1%2C0; DedeUserID=1"])
async def test_nobody_and_strangers_are_not_logged_in(
    path: str, sent: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    sandbox.add_account()
    assert (await fetch(path, sent, "POST" if path == SIGN_UPDATE else "GET")).json == NOT_LOGGED_IN


async def test_a_raw_comma_in_sessdata_logs_nobody_in(sandbox: Sandbox, fetch: Fetch) -> None:
    sent = cookie(sandbox.add_account())
    assert "%2C" in sent
    assert (await fetch(ACCOUNT_INFO, sent.replace("%2C", ","))).json == NOT_LOGGED_IN


async def test_a_login_that_died_is_refused_until_it_is_restored(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    account = sandbox.add_account()
    account.log_out()
    assert (await fetch(ACCOUNT_INFO, cookie(account))).json == NOT_LOGGED_IN
    assert (await fetch(ACCOUNT_INFO, params=access_key(account))).json == NOT_LOGGED_IN
    account.log_in()
    assert (await fetch(ACCOUNT_INFO, cookie(account))).json["code"] == 0


async def test_renewing_a_login_kills_the_old_secrets(sandbox: Sandbox, fetch: Fetch) -> None:
    account = sandbox.add_account()
    old_cookie, old_key = cookie(account), access_key(account)
    account.renew_login()
    assert (await fetch(ACCOUNT_INFO, old_cookie)).json == NOT_LOGGED_IN
    assert (await fetch(ACCOUNT_INFO, params=old_key)).json == NOT_LOGGED_IN
    assert (await fetch(ACCOUNT_INFO, cookie(account))).json["code"] == 0


async def test_each_login_sees_its_own_account(sandbox: Sandbox, fetch: Fetch) -> None:
    for account in sandbox.invent_accounts(5):
        assert (await fetch(ACCOUNT_INFO, cookie(account))).json["data"]["mid"] == account.mid
        assert (await fetch(ACCOUNT_INFO, params=access_key(account))).json["data"][
            "mid"
        ] == account.mid


# What comes back.


async def test_replies_have_exactly_the_documented_fields(sandbox: Sandbox, fetch: Fetch) -> None:
    account = sandbox.add_account()
    replies = {name: (await fetch(path, cookie(account))).json for name, path in PATHS.items()}
    assert replies.pop("get_coin_exp") == {"code": 0, "message": "0", "number": account.coin_exp}
    security = replies.pop("get_security_info")
    assert security.keys() == {"code", "data"}
    parts = {name: " ".join(part) for name, part in security["data"].items()}
    assert parts == {
        "account_info": "hide_tel hide_mail bind_tel bind_mail tel_verify mail_verify "
        "unneeded_check realname_certified",
        "account_safe": "Score score_new pwd_level security",
        "account_sns": "weibo_bind qq_bind wechat_bind",
        "account_other": "skipVerify",
    }
    assert {type(bound) for bound in security["data"]["account_sns"].values()} == {int}
    assert all(reply.keys() == {"code", "message", "ttl", "data"} for reply in replies.values())
    assert {name: set(reply["data"]) for name, reply in replies.items()} == {
        "get_account_info": {
            "mid",
            "uname",
            "userid",
            "sign",
            "birthday",
            "sex",
            "nick_free",
            "rank",
        },
        "get_daily_rewards": {
            "login",
            "watch",
            "coins",
            "share",
            "email",
            "tel",
            "safe_question",
            "identify_card",
        },
        "get_vip_info": {
            "mid",
            "vip_type",
            "vip_status",
            "vip_due_date",
            "vip_pay_type",
            "theme_type",
        },
        "get_realname_status": {"status"},
        "get_realname_application": {"status", "remark", "realname", "card", "card_type"},
        "get_coin_log": {"list", "count"},
    }


async def test_options_and_attributes_show_in_the_replies(sandbox: Sandbox, fetch: Fetch) -> None:
    account = sandbox.add_account(
        uname="小明", vip_status=9, realname_certified=False, bind_mail=False, coin_exp=60
    )
    account.sign = "你好"
    info = (await fetch(ACCOUNT_INFO, cookie(account))).json["data"]
    assert (info["uname"], info["sign"]) == ("小明", "你好")
    assert (await fetch(PATHS["get_vip_info"], cookie(account))).json["data"]["vip_status"] == 9
    rewards = (await fetch(PATHS["get_daily_rewards"], cookie(account))).json["data"]
    assert (rewards["identify_card"], rewards["email"], rewards["coins"]) == (False, False, 60)
    assert (await fetch(PATHS["get_realname_status"], cookie(account))).json["data"] == {
        "status": 0
    }
    assert (await fetch(PATHS["get_realname_application"], cookie(account))).json["data"][
        "status"
    ] == 3


async def test_the_coin_log_shows_the_last_week_newest_first_in_china_time(
    sandbox: Sandbox, fetch: Fetch, clock: Clock
) -> None:
    account = sandbox.add_account(coins=12, history=[])
    account.earn(1)
    clock.time += timedelta(days=3)
    account.earn(0.1, "给视频 BV1nb411C7aa 打赏")
    clock.time += timedelta(days=4)
    account.tip("BV1j5411s7M8", 2)
    log = (await fetch(PATHS["get_coin_log"], cookie(account))).json["data"]
    assert log == {
        "list": [
            {"time": "2026-03-11 12:00:00", "delta": -2, "reason": "给视频 BV1j5411s7M8 打赏"},
            {"time": "2026-03-07 12:00:00", "delta": 0.1, "reason": "给视频 BV1nb411C7aa 打赏"},
        ],
        "count": 2,
    }
    assert type(log["list"][0]["delta"]) is int
    assert [change.delta for change in account.history] == [1, Decimal("0.1"), -2]
    assert account.coins == Decimal("11.1")


async def test_an_empty_coin_log_is_null(sandbox: Sandbox, fetch: Fetch) -> None:
    got = await fetch(PATHS["get_coin_log"], cookie(sandbox.add_account(history=[])))
    assert got.json["data"] == {"list": None, "count": 0}


async def test_tips_bring_experience_up_to_fifty_until_midnight_in_china(
    sandbox: Sandbox, fetch: Fetch, clock: Clock
) -> None:
    account = sandbox.add_account(coins=12, coin_exp=30, watch=True)
    account.tip()
    assert (await fetch(PATHS["get_coin_exp"], cookie(account))).json["number"] == 40
    account.tip(coins=2)
    assert (await fetch(PATHS["get_coin_exp"], cookie(account))).json["number"] == 50
    clock.time += timedelta(hours=12)
    assert (await fetch(PATHS["get_coin_exp"], cookie(account))).json["number"] == 0
    assert (await fetch(PATHS["get_daily_rewards"], cookie(account))).json["data"]["watch"] is False
    with pytest.raises(ValueError, match="can't tip 10 coins"):
        account.tip(coins=10)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ACCOUNT_INFO), ("HEAD", ACCOUNT_INFO), ("GET", SIGN_UPDATE)]
)
async def test_a_wrong_method_is_405(
    method: str, path: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    assert (await fetch(path, cookie(sandbox.add_account()), method)).status == 405


async def test_an_unknown_path_is_404_with_a_page_for_people(
    fetch: Fetch, sandbox: Sandbox
) -> None:
    got = await fetch("/x/nothing")
    assert (got.status, got.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert sandbox.requests[-1].endpoint is None


# The sign.


async def test_a_sign_shows_only_after_its_review(
    sandbox: Sandbox, fetch: Fetch, clock: Clock
) -> None:
    account = sandbox.add_account(sign="旧")
    got = await fetch(
        SIGN_UPDATE, cookie(account), "POST", data={"user_sign": "新 & 100%", **csrf(account)}
    )
    assert got.json == {"code": 0, "message": "0", "ttl": 1}
    assert (await fetch(ACCOUNT_INFO, cookie(account))).json["data"]["sign"] == "旧"
    clock.time += timedelta(seconds=60)
    assert (await fetch(ACCOUNT_INFO, cookie(account))).json["data"]["sign"] == "新 & 100%"


@pytest.mark.parametrize("form", [{}, {"user_sign": ""}])
async def test_an_empty_or_missing_sign_clears_it(
    form: dict[str, str], sandbox: Sandbox, fetch: Fetch
) -> None:
    account = sandbox.add_account(sign="旧")
    assert (await fetch(SIGN_UPDATE, cookie(account), "POST", data=form | csrf(account))).json[
        "code"
    ] == 0
    account.finish_review()
    assert account.sign == ""


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "0" * 32}])
async def test_the_cookie_needs_csrf(form: dict[str, str], sandbox: Sandbox, fetch: Fetch) -> None:
    got = await fetch(SIGN_UPDATE, cookie(sandbox.add_account()), "POST", data=form)
    assert got.json == {"code": -111, "message": "csrf校验失败", "ttl": 1}


async def test_the_app_token_in_the_form_needs_no_csrf(sandbox: Sandbox, fetch: Fetch) -> None:
    account = sandbox.add_account()
    assert (
        await fetch(SIGN_UPDATE, method="POST", data={"user_sign": "好", **access_key(account)})
    ).json["code"] == 0
    assert (
        await fetch(SIGN_UPDATE, method="POST", params=access_key(account))
    ).json == NOT_LOGGED_IN


@pytest.mark.parametrize(
    ("sign", "code", "message"),
    [
        ("字" * 70, 0, "0"),
        ("字" * 71, 40022, "签名过长"),
        ("有敏感词的", 40015, "签名包含敏感词"),
        ("你好[doge]", 40021, "签名不能包含表情图片"),
        ("\U0001f600", 40021, "签名不能包含表情图片"),
    ],
)
async def test_signs_are_judged_as_documented(
    sign: str, code: int, message: str, sandbox: Sandbox, fetch: Fetch
) -> None:
    account = sandbox.add_account()
    got = await fetch(
        SIGN_UPDATE, cookie(account), "POST", data={"user_sign": sign, **csrf(account)}
    )
    assert (got.json["code"], got.json["message"]) == (code, message)


@pytest.mark.parametrize(
    "body", [{"json": {"csrf": "x"}}, {"data": b"csrf"}, {"data": b"csrf=1&csrf=2"}]
)
async def test_what_is_no_form_is_a_bad_request(
    body: dict[str, Any], sandbox: Sandbox, fetch: Fetch
) -> None:
    got = await fetch(SIGN_UPDATE, cookie(sandbox.add_account()), "POST", **body)
    assert got.json == {"code": -400, "message": "请求错误", "ttl": 1}


# Faults.


async def test_a_fault_with_times_happens_so_often_and_in_the_order_given(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    sent = cookie(sandbox.add_account())
    sandbox.fault("get_account_info", Fault.status(503, retry_after=2), times=2)
    sandbox.fault(None, Fault.code(-352), times=1)
    assert (await fetch(PATHS["get_coin_log"], sent)).json == {
        "code": -352,
        "message": "风控校验失败",
        "ttl": 1,
    }
    answers = [await fetch(ACCOUNT_INFO, sent) for _ in range(3)]
    assert [got.status for got in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "2"
    assert answers[2].json["code"] == 0


async def test_a_standing_fault_goes_on_until_cleared_and_spares_other_accounts(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    ill, well = sandbox.invent_accounts(2)
    sandbox.fault(None, Fault.code(-509), account=ill)
    assert [(await fetch(ACCOUNT_INFO, cookie(ill))).json["code"] for _ in range(3)] == [-509] * 3
    assert (await fetch(ACCOUNT_INFO, cookie(well))).json["code"] == 0
    sandbox.clear_faults()
    assert (await fetch(ACCOUNT_INFO, cookie(ill))).json["code"] == 0


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Fault.body(b'{"code":'), b'{"code":'),
        (Fault.empty(), b""),
        (Fault.payload(lambda payload: [1]), b"[1]"),
        (Fault.data(lambda data: {"status": 2, "new": data["status"]}), None),
        (Fault.two_documents(-509), None),
    ],
)
async def test_a_body_can_be_anything(
    fault: Fault, body: bytes | None, sandbox: Sandbox, fetch: Fetch
) -> None:
    sandbox.fault("get_realname_status", fault)
    got = await fetch(
        PATHS["get_realname_status"], cookie(sandbox.add_account(realname_certified=True))
    )
    good = b'{"code": 0, "message": "0", "ttl": 1, "data": {"status": 1}}'
    wanted = {
        "data changed": good.replace(b'{"status": 1}', b'{"status": 2, "new": 1}'),
        "two documents, -509 first": '{"code": -509, "message": "请求过于频繁", "ttl": 1}'.encode()
        + good,
    }
    assert got.body == (wanted[fault.name] if body is None else body)


async def test_html_can_come_under_200_and_cookies_with_anything(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    sandbox.fault(None, Fault.html(), Fault.set_cookie("SESSDATA=decoy; Path=/", "a=b"))
    got = await fetch(ACCOUNT_INFO)
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert got.headers.getall("Set-Cookie") == ["SESSDATA=decoy; Path=/", "a=b"]


async def test_a_truncated_body_ends_before_its_content_length(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    sandbox.fault(None, Fault.truncated(), times=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(ACCOUNT_INFO)


async def test_a_reset_comes_before_any_answer_but_after_the_deed(sandbox: Sandbox) -> None:
    account = sandbox.add_account(sign="旧")
    form = f"csrf={account.bili_jct}&user_sign=new"
    sandbox.fault("update_sign", Fault.reset())
    reader, writer = await asyncio.open_connection(*sandbox.url.removeprefix("http://").split(":"))
    head = (
        f"POST {SIGN_UPDATE} HTTP/1.1\r\nHost: x\r\nCookie: "
        f"{cookie(account)}\r\nContent-Length: {len(form)}\r\n"
    )
    writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}".encode())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    account.finish_review()
    assert account.sign == "new"
    assert sandbox.requests[-1].status is None


async def test_a_refused_request_is_not_carried_out(sandbox: Sandbox, fetch: Fetch) -> None:
    account = sandbox.add_account(sign="旧")
    sandbox.fault("update_sign", Fault.code(-352))
    await fetch(SIGN_UPDATE, cookie(account), "POST", data={"user_sign": "新", **csrf(account)})
    account.finish_review()
    assert account.sign == "旧"


async def test_latency_delays_and_a_hanging_answer_never_comes(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    sandbox.fault(None, Fault.latency(0.1), times=1)
    sandbox.fault(None, Fault.hang(), times=1)
    start = time.monotonic()
    assert (await fetch("/")).status == 404
    assert time.monotonic() - start >= 0.1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetch("/"), 0.1)


async def test_faults_ordered_wrongly_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no endpoint 'get_vip'"):
        sandbox.fault("get_vip", Fault.hang())
    with pytest.raises(ValueError, match="times must be at least 1"):
        sandbox.fault(None, Fault.hang(), times=0)


# Rate limits.


async def test_above_the_rate_all_are_refused_with_412() -> None:
    async with (
        Sandbox(rate=0.001, burst=2, retry_after=7) as sandbox,
        aiohttp.ClientSession(sandbox.url) as client,
    ):
        answers = [await client.get("/") for _ in range(3)]
        assert [answer.status for answer in answers] == [404, 404, 412]
        assert answers[2].headers["Retry-After"] == "7"
        assert await answers[2].json() == {"code": -412, "message": "请求被拦截", "ttl": 1}
        assert sandbox.throttled == 1


async def test_above_its_own_rate_an_account_is_refused_alone() -> None:
    async with (
        Sandbox(account_rate=0.001, account_burst=1) as sandbox,
        aiohttp.ClientSession(sandbox.url) as client,
    ):
        a, b = sandbox.invent_accounts(2)
        answers = [
            await client.get(ACCOUNT_INFO, params=access_key(account)) for account in (a, a, b)
        ]
        assert [(await answer.json())["code"] for answer in answers] == [0, -509, 0]


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"account_rate": -1.0}, {"rate": 1, "burst": 0}, {"tempo": 0}]
)
def test_impossible_rates_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rate|tempo"):
        Sandbox(**options)


# What tests can see.


async def test_requests_tell_what_arrived_and_their_repr_no_secret(
    sandbox: Sandbox, fetch: Fetch
) -> None:
    account = sandbox.add_account()
    await fetch(
        SIGN_UPDATE, cookie(account) + "; buvid3=1", "POST", data={"user_sign": "签", "csrf": "x"}
    )
    await fetch(ACCOUNT_INFO, params=access_key(account))
    posted, got = sandbox.requests
    assert (posted.endpoint, posted.method, posted.path) == ("update_sign", "POST", SIGN_UPDATE)
    assert posted.cookies == {
        "SESSDATA": account.credential.sessdata,
        "DedeUserID": str(account.mid),
        "buvid3": "1",
    }
    assert posted.form == {"user_sign": "签", "csrf": "x"}
    assert (posted.account, posted.status) == (account, 200)
    assert posted.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (got.query, got.account) == (access_key(account), account)
    for secret in (
        account.credential.sessdata,
        account.app_credential.access_key,
        account.bili_jct,
    ):
        assert str(secret) not in repr(sandbox.requests) + repr(account)


async def test_only_the_last_requests_are_kept() -> None:
    async with Sandbox(keep_requests=2) as sandbox, aiohttp.ClientSession(sandbox.url) as client:
        for path in ("/1", "/2", "/3"):
            await client.get(path)
        assert [request.path for request in sandbox.requests] == ["/2", "/3"]


# Accounts.


def test_the_same_seed_invents_the_same_people_and_another_seed_others(clock: Clock) -> None:
    def world(seed: int) -> list[object]:
        accounts = Sandbox(seed=seed, now=clock).invent_accounts(3)
        return [
            (a.mid, a.uname, a.vip_due_date, a.history, a.credential.sessdata) for a in accounts
        ]

    assert world(1) == world(1)
    assert world(1) != world(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vip": 1}, "no such option: vip; there are"),
        ({"_sessdata": "x"}, "no such option"),
        ({"vip_type": "2"}, "vip_type must be int, not str"),
        ({"vip_type": True}, "vip_type must be int, not bool"),
        ({"login": 1}, "login must be bool, not int"),
        ({"coins": "12"}, "a number of coins must be"),
        ({"history": [1]}, "history must hold CoinChange"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    sandbox = Sandbox()
    with pytest.raises(TypeError, match=message):
        sandbox.add_account(**options)
    assert not sandbox.accounts


def test_two_accounts_never_share_a_mid() -> None:
    sandbox = Sandbox()
    sandbox.add_account(mid=7)
    with pytest.raises(ValueError, match="mid 7 already"):
        sandbox.add_account(mid=7)


def test_times_must_be_aware() -> None:
    with pytest.raises(ValueError, match="aware"):
        CoinChange(datetime(2026, 1, 1), 1, "登录奖励")
    with pytest.raises(ValueError, match="aware"):
        Sandbox(now=lambda: datetime(2026, 1, 1)).add_account()


def test_a_life_does_not_depend_on_who_looks(clock: Clock) -> None:
    def life(looks: int) -> list[object]:
        times = Clock()
        sandbox = Sandbox(now=times, tempo=20.0)
        accounts = sandbox.invent_accounts(5)
        for _ in range(looks):
            times.time += timedelta(days=10) / looks
            for account in accounts:
                account.catch_up()
        return [
            (
                a.history,
                a.coins,
                a.coin_exp,
                a.login,
                a.watch,
                a.vip_status,
                a.vip_due_date,
                a.logged_in,
            )
            for a in accounts
        ]

    assert life(1) == life(500)


def test_a_life_moves_everything_that_can_move(clock: Clock) -> None:
    sandbox = Sandbox(now=clock, tempo=1.0)
    accounts = sandbox.invent_accounts(20)
    before = {account: account.history for account in accounts}
    seen: set[object] = set()
    for _ in range(100):
        clock.time += timedelta(days=1)
        for account in accounts:
            account.catch_up()
            seen |= {
                ("vip", account.vip_status),
                ("alive", account.logged_in),
                ("login", account.login),
            }
            assert account.coins >= 0
    assert seen == {
        ("vip", 0),
        ("vip", 1),
        ("vip", 2),
        *((k, v) for k in ("alive", "login") for v in (True, False)),
    }
    assert all(len(account.history) > len(before[account]) for account in accounts)


# Opening and closing.


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.com", "::", ""])
def test_nothing_but_loopback_is_served(host: str) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        Sandbox(host=host)


async def test_the_host_can_be_called_localhost() -> None:
    async with Sandbox(host="localhost") as sandbox, aiohttp.ClientSession() as client:
        assert sandbox.url.startswith("http://localhost:")
        async with client.get(sandbox.url) as response:
            assert response.status == 404
        assert (sandbox.hosts.api, sandbox.hosts.www, sandbox.hosts.passport) == (sandbox.url,) * 3


async def test_a_closed_sandbox_says_so_and_opens_again_with_its_accounts() -> None:
    sandbox = Sandbox()
    account = sandbox.add_account()
    with pytest.raises(RuntimeError, match="is not open"):
        _ = sandbox.url
    for _ in range(2):
        async with sandbox, aiohttp.ClientSession(sandbox.url) as client:
            with pytest.raises(RuntimeError, match="open already"):
                await sandbox.__aenter__()
            async with client.get(ACCOUNT_INFO, params=access_key(account)) as response:
                assert (await response.json())["code"] == 0


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.latency(30)])
async def test_closing_is_prompt_and_leaves_no_task(fault: Fault) -> None:
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as client:
        async with Sandbox() as sandbox:
            (await client.get(sandbox.url)).release()  # leaves an idle connection
            sandbox.fault(None, fault)
            waiting = [asyncio.create_task(client.get(sandbox.url)) for _ in range(5)]
            _, stuck = await asyncio.open_connection(
                *sandbox.url.removeprefix("http://").split(":")
            )
            # The body never comes.
            stuck.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            async with asyncio.timeout(5):
                while len(sandbox.requests) < 6:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            start = time.monotonic()
        assert time.monotonic() - start < 1
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientError | ConnectionError) for end in ended)
        stuck.close()
    assert asyncio.all_tasks() == before


def test_a_program_without_a_loop_uses_it_from_a_thread() -> None:
    with Sandbox() as sandbox:
        account = sandbox.add_account(uname="小明", coins=12)
        request = urllib.request.Request(
            sandbox.url + ACCOUNT_INFO, headers={"Cookie": cookie(account)}
        )
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["data"]["uname"] == "小明"
        assert sandbox.requests[-1].account is account
        start = time.monotonic()
    assert time.monotonic() - start < 1


def test_a_port_that_is_taken_is_an_error_where_it_is_opened() -> None:
    with Sandbox() as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), Sandbox(port=port):
            pass


def test_the_pytest_plugin_gives_an_open_sandbox(bili_sandbox: Sandbox) -> None:
    assert bili_sandbox.url.startswith("http://127.0.0.1:")


def test_the_pytest_plugin_costs_nothing_until_it_is_used() -> None:
    code = "import sys, bili_account_async.testing; sys.exit('aiohttp.web' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
