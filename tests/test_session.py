"""The whole path over a real loopback socket: coroutine, session, wire, records."""

import asyncio
import json
import os
import pathlib
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any

import aiohttp
import attrs
import pytest
from samples_of import ARGUMENTS, coroutine_of
from yarl import URL

import bili_account_async as bili
from bili_account_async import (
    Auth,
    Credential,
    CredentialMissing,
    Endpoint,
    Hosts,
    Limits,
    Retry,
    SessionManager,
    fetch_snapshot,
    get_account_info,
    get_vip_info,
    open_session,
    structure,
    update_sign,
)
from bili_account_async.sandbox import Fault, Sandbox

GETS = {
    name: coroutine_of(name)
    for name, endpoint in bili.ENDPOINTS.items()
    if endpoint.method == "GET"
}
APP_REFUSED = {"get_coin_exp", "get_vip_info"}
SAMPLES = pathlib.Path(__file__).parent / "samples"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_bytes())


@pytest.fixture
async def sandbox():
    async with Sandbox(review_delay=0) as running:
        yield running


@pytest.fixture
async def manager(sandbox):
    async with SessionManager(
        hosts=sandbox.hosts, limits=Limits.none(), retry=Retry.none()
    ) as running:
        yield running


@pytest.mark.parametrize("name", GETS)
@pytest.mark.parametrize("kind", ["cookie", "app"])
async def test_each_get_returns_the_record_of_its_documented_sample(name, kind, sandbox, manager):
    account = sandbox.add_account()
    documented = sample(name)
    sandbox.fault(name, Fault.body(json.dumps(documented, ensure_ascii=False).encode()))
    me = manager.session(account.credential if kind == "cookie" else account.app_credential)
    if kind == "app" and name in APP_REFUSED:
        with pytest.raises(CredentialMissing, match="a cookie login"):
            await GETS[name](me)
        assert sandbox.requests == ()
        return

    record = await GETS[name](me)

    payload = documented
    for step in bili.ENDPOINTS[name].result:
        payload = payload[step]
    assert record == structure(bili.ENDPOINTS[name].returns, payload)
    (request,) = sandbox.requests
    assert (request.endpoint, request.method, request.account) == (name, "GET", account)
    params = {key: str(value) for key, value in ARGUMENTS.get(name, {}).items()}
    if kind == "cookie":
        assert request.query == params
        assert set(request.cookies) == {"SESSDATA", "DedeUserID", "bili_jct"}
    else:
        assert request.query == params | {"access_key": account.app_credential.access_key}
        assert request.cookies == {}


@pytest.mark.parametrize("name", GETS)
async def test_a_dead_login_is_not_logged_in_whatever_is_asked(name, sandbox, manager):
    account = sandbox.add_account()
    account.log_out()
    with pytest.raises(bili.NotLoggedIn) as caught:
        await GETS[name](manager.session(account.credential))
    assert (caught.value.code, caught.value.endpoint) == (-101, name)


@pytest.mark.parametrize("kind", ["cookie", "app"])
async def test_a_sign_is_updated_shown_and_cleared(kind, sandbox, manager):
    account = sandbox.add_account(sign="old")
    me = manager.session(account.credential if kind == "cookie" else account.app_credential)

    assert await update_sign(me, "新的 签名 & 100%+") is None
    assert (await get_account_info(me)).sign == "新的 签名 & 100%+"
    await bili.clear_sign(me)
    assert (await get_account_info(me)).sign == ""

    form = sandbox.requests[0].form
    assert ("csrf" in form, "access_key" in form) == (kind == "cookie", kind == "app")


@pytest.mark.parametrize(
    ("sign", "error", "code"),
    [
        ("代刷硬币", bili.SensitiveSign, 40015),
        ("你好[doge]", bili.EmojiSign, 40021),
        ("签" * 71, bili.SignTooLong, 40022),
    ],
)
async def test_a_sign_that_the_rules_forbid_has_an_error_of_its_own(
    sign, error, code, sandbox, manager
):
    me = manager.session(sandbox.add_account().credential)
    with pytest.raises(error) as caught:
        await update_sign(me, sign)
    assert caught.value.code == code
    assert len(sandbox.requests) == (error is not bili.SignTooLong)


async def test_a_sign_with_control_characters_is_refused_before_anything_is_sent(sandbox, manager):
    me = manager.session(sandbox.add_account().credential)
    for sign in ("a\tb", "a\r\nb", "a\x1b[0m", "a\x85b", "a\ud800"):
        with pytest.raises(ValueError, match="control characters") as caught:
            await update_sign(me, sign)
        assert isinstance(caught.value, bili.InvalidSign)
        assert caught.value.endpoint == "update_sign"
    with pytest.raises(TypeError, match="got int"):
        await update_sign(me, 5)  # type: ignore[arg-type]
    assert sandbox.requests == ()


async def test_a_wrong_csrf_token_is_rejected_by_the_server(sandbox, manager):
    credential = sandbox.add_account().credential
    with pytest.raises(bili.CsrfRejected):
        await update_sign(manager.session(with_parts(credential, bili_jct="0" * 32)), "hello")


def with_parts(credential: Credential, **changes: Any) -> Credential:
    return Credential(
        **{
            "sessdata": credential.sessdata,
            "dede_user_id": credential.dede_user_id,
            "bili_jct": credential.bili_jct,
        }
        | changes
    )


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("get_coin_exp", "dede_user_id"),
        ("get_security_info", "dede_user_id"),
        ("update_sign", "bili_jct"),
    ],
)
async def test_a_missing_part_is_named_before_any_io(name, missing, sandbox, manager):
    me = manager.session(Credential(sessdata="x"))
    call = update_sign(me, "hi") if name == "update_sign" else GETS[name](me)
    with pytest.raises(CredentialMissing, match=missing) as caught:
        await call
    assert caught.value.endpoint == name
    assert sandbox.requests == ()


async def test_a_user_can_declare_an_endpoint_of_their_own(sandbox, manager):
    @attrs.frozen(kw_only=True)
    class Nickname:
        uname: str
        level: int = 0

    nickname = Endpoint("nickname", "GET", "api", "/x/member/web/account", Auth(), Nickname)
    account = sandbox.add_account(uname="小明")
    me = manager.session(account.credential)

    assert await me.call(nickname) == Nickname(uname="小明")
    reply = await me.call_raw(nickname, params={"a b": "ü&=+"})

    assert (reply.record.uname, reply.status, reply.attempts) == ("小明", 200, 1)
    assert "data.mid" in reply.unknown_fields
    assert reply.payload["uname"] == "小明"
    assert reply.headers["content-type"].startswith("application/json")
    assert 0 <= reply.seconds < 5  # a clock of whole milliseconds counts none
    assert "小明" not in repr(reply).replace("Nickname(uname='小明'", "")
    assert sandbox.requests[-1].query == {"a b": "ü&=+"}


async def test_params_and_access_key_travel_together(sandbox, manager):
    account = sandbox.add_account()
    await manager.session(account.app_credential).call(
        bili.ENDPOINTS["get_account_info"], params={"p": "1"}
    )
    assert sandbox.requests[-1].query == {"p": "1", "access_key": account.app_credential.access_key}


async def test_a_record_that_json_can_t_give_is_refused_before_anything_is_sent(sandbox, manager):
    @attrs.frozen
    class Stat:
        since: datetime

    me = manager.session(sandbox.add_account().credential)
    endpoint = bili.Endpoint("get_stat", "GET", "api", "/x/stat", bili.Auth(), Stat)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^get_stat: since: datetime can't be read"):
            await me.call(endpoint)
    assert sandbox.requests == ()
    assert manager.limits_state() == {}


async def test_a_get_takes_no_form(sandbox, manager):
    me = manager.session(sandbox.add_account().credential)
    with pytest.raises(ValueError, match="form: get_coin_log is a GET, which has none: use params"):
        await me.call(bili.ENDPOINTS["get_coin_log"], form={"pn": "1"})
    assert sandbox.requests == ()


@pytest.mark.parametrize("place", ["params", "form"])
@pytest.mark.parametrize(
    "field", [("a", None), ("a", 1.0), ("a", True), ("a", ["1", "2"]), (1, "a"), ("a", "\ud800")]
)
async def test_params_and_form_are_texts_or_whole_numbers(place, field, sandbox, manager):
    endpoint = bili.ENDPOINTS["update_sign" if place == "form" else "get_coin_log"]
    me = manager.session(sandbox.add_account().credential)
    with pytest.raises(ValueError, match=f"^{place}: .*{field[0]!r}"):
        await me.call(endpoint, **{place: {"fine": "1", field[0]: field[1]}})
    assert sandbox.requests == ()
    assert manager.limits_state() == {}


async def test_an_int_goes_out_as_its_digits(sandbox, manager):
    class Page(IntEnum):
        FIRST = 1

        def __str__(self):
            return "the first"

    me = manager.session(sandbox.add_account().credential)
    await me.call(bili.ENDPOINTS["get_coin_log"], params={"pn": Page.FIRST, "ps": 20})
    assert sandbox.requests[-1].query == {"pn": "1", "ps": "20"}
    await me.call(bili.ENDPOINTS["update_sign"], form={"user_sign": 7})
    assert sandbox.requests[-1].form["user_sign"] == "7"


async def test_params_are_those_of_the_moment_of_the_call_and_mean_their_text(sandbox):
    class Order(str, Enum):  # noqa: UP042 - its `str` is its name
        NEWEST = "new"

    params = {"order": Order.NEWEST, "page": "1"}
    limits = Limits(host=bili.RateLimit(rate=50, burst=1))
    async with SessionManager(hosts=sandbox.hosts, limits=limits) as manager:
        me = manager.session(sandbox.add_account().credential)
        await get_account_info(me)
        call = asyncio.create_task(me.call(bili.ENDPOINTS["get_coin_log"], params=params))
        await asyncio.sleep(0)
        params["page"] = "2"
        await call
    assert sandbox.requests[-1].query == {"order": "new", "page": "1"}


async def test_an_unknown_field_is_logged_once(sandbox, manager, caplog):
    account = sandbox.add_account()
    sandbox.fault("get_vip_info", Fault.data(lambda data: {**data, "new_thing": 1}))
    me = manager.session(account.credential)
    with caplog.at_level("INFO", logger="bili_account_async"):
        await asyncio.gather(get_vip_info(me), get_vip_info(me))
    assert [record.getMessage() for record in caplog.records] == [
        "get_vip_info: the reply has an unknown field data.new_thing"
    ]


async def test_a_snapshot_asks_everything_at_once(sandbox, manager):
    account = sandbox.add_account()
    sandbox.fault(None, Fault.latency(0.2))
    loop = asyncio.get_running_loop()
    me = manager.session(account.credential)
    started = loop.time()
    snapshot = await fetch_snapshot(me)
    assert loop.time() - started < 0.6
    assert snapshot.complete
    assert snapshot.account_info.mid == account.mid
    assert len(sandbox.requests) == 8


async def test_a_snapshot_tells_what_failed_and_what_it_could_not_ask(sandbox, manager):
    account = sandbox.add_account()
    sandbox.fault("get_coin_log", Fault.html())
    snapshot = await fetch_snapshot(manager.session(account.app_credential))
    assert snapshot.skipped == {"coin_exp", "vip_info"}
    assert {name: type(error) for name, error in snapshot.failures.items()} == {
        "coin_log": bili.ProtocolError
    }
    assert not snapshot.complete
    assert (
        json.loads(json.dumps(bili.unstructure(snapshot)))["failures"]["coin_log"]["type"]
        == "ProtocolError"
    )


@pytest.mark.parametrize(("code", "error"), [(-101, bili.NotLoggedIn), (-352, bili.RiskControlled)])
async def test_a_dead_login_or_risk_control_ends_the_snapshot_at_once(
    code, error, sandbox, manager
):
    account = sandbox.add_account()
    sandbox.fault("get_vip_info", Fault.code(code))
    for name in GETS.keys() - {"get_vip_info"}:
        sandbox.fault(name, Fault.hang())
    async with asyncio.timeout(2):
        with pytest.raises(error):
            await fetch_snapshot(manager.session(account.credential))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_a_snapshot_of_eager_tasks_may_fail_before_any_of_them_waits():
    class Expired:
        async def call(self, endpoint, **_):
            raise bili.NotLoggedIn("no", code=-101)

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    with pytest.raises(bili.NotLoggedIn):
        await fetch_snapshot(Expired())


async def test_a_strict_snapshot_raises_every_failure(sandbox, manager):
    account = sandbox.add_account()
    sandbox.fault("get_vip_info", Fault.code(-400))
    sandbox.fault("get_coin_log", Fault.empty())
    with pytest.raises(ExceptionGroup) as caught:
        await fetch_snapshot(manager.session(account.credential), strict=True)
    assert {type(error) for error in caught.value.exceptions} == {bili.ApiError, bili.ProtocolError}


async def test_a_snapshot_of_some_sections_asks_no_others(sandbox, manager):
    me = manager.session(sandbox.add_account().credential)
    snapshot = await fetch_snapshot(me, sections=["vip_info", "coin_exp"])
    assert snapshot.complete
    assert {request.endpoint for request in sandbox.requests} == {"get_vip_info", "get_coin_exp"}
    with pytest.raises(ValueError, match="nonsense"):
        await fetch_snapshot(me, sections=["nonsense"])


async def test_cancelling_a_snapshot_cancels_its_calls(sandbox, manager):
    sandbox.fault(None, Fault.hang())
    me = manager.session(sandbox.add_account().credential)
    task = asyncio.create_task(fetch_snapshot(me))
    while len(sandbox.requests) < 8:  # noqa: ASYNC110 - the sandbox has no event to await
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(state.in_flight == 0 for state in manager.limits_state().values())


async def test_a_server_cookie_never_reaches_another_account():
    async with Sandbox(host="localhost") as sandbox:
        first, second = sandbox.add_account(), sandbox.add_account()
        sandbox.fault(
            None, Fault.set_cookie("SESSDATA=stolen; Path=/", "spy=1; Path=/; Max-Age=3600")
        )
        async with SessionManager(hosts=sandbox.hosts) as manager:
            for account in (first, second, first):
                await get_account_info(manager.session(account.credential))
        for request, account in zip(sandbox.requests, (first, second, first), strict=True):
            assert request.account is account
            assert set(request.cookies) == {"SESSDATA", "DedeUserID", "bili_jct"}


async def test_a_lent_client_session_lends_its_pool_and_nothing_else():
    async with (
        Sandbox(host="localhost") as sandbox,
        aiohttp.ClientSession(headers={"X-Host-App": "1"}) as lent,
    ):
        account = sandbox.add_account()
        sandbox.fault(None, Fault.set_cookie("spy=1; Path=/"))
        lent.cookie_jar.update_cookies({"own": "cookie"}, response_url=URL(sandbox.url))
        async with SessionManager(hosts=sandbox.hosts, client_session=lent) as manager:
            await get_account_info(manager.session(account.credential))
        assert not lent.closed
        assert not lent.connector.closed
        assert [cookie.key for cookie in lent.cookie_jar] == ["own"]
        (request,) = sandbox.requests
        assert "own" not in request.cookies
        assert "X-Host-App" not in request.headers


async def test_a_closed_client_session_is_refused_at_entry():
    lent = aiohttp.ClientSession()
    await lent.close()
    with pytest.raises(ValueError, match="client_session"):
        SessionManager(client_session=lent)


async def test_a_client_session_that_was_closed_before_the_opening_is_refused_there():
    lent = aiohttp.ClientSession()
    manager = SessionManager(client_session=lent)
    await lent.close()
    with pytest.raises(RuntimeError, match="client_session was closed"):
        await manager.open()


def test_a_client_session_of_another_event_loop_is_refused_at_the_opening():
    async def lend() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        lent = first.run(lend())
        with pytest.raises(RuntimeError, match="client_session belongs to another event loop"):
            second.run(SessionManager(client_session=lent).open())
        first.run(lent.close())


async def test_the_user_agent_names_the_package(sandbox, manager):
    await get_account_info(manager.session(sandbox.add_account().credential))
    assert (
        sandbox.requests[0]
        .headers["User-Agent"]
        .startswith(f"bili-account-async/{bili.__version__}")
    )


async def test_an_unreachable_host_is_a_transport_error_of_which_nothing_left(unused_tcp_port):
    hosts = Hosts(api=f"http://127.0.0.1:{unused_tcp_port}")
    async with open_session(Credential(sessdata="x"), hosts=hosts, retry=Retry.none()) as me:
        with pytest.raises(bili.TransportError, match="can't connect to 127") as caught:
            await get_account_info(me)
    assert not caught.value.sent


async def test_a_slow_host_is_a_timeout_at_the_timeout(sandbox, manager):
    sandbox.fault(None, Fault.hang())
    me = manager.session(sandbox.add_account().credential)
    started = asyncio.get_running_loop().time()
    with pytest.raises(bili.RequestTimeout):
        await get_account_info(me, timeout=0.2)
    assert 0.19 < asyncio.get_running_loop().time() - started < 0.4


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
async def test_a_timeout_that_is_no_time_is_refused(timeout, sandbox, manager):
    with pytest.raises(ValueError, match="timeout"):
        await get_account_info(manager.session(sandbox.add_account().credential), timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        SessionManager(timeout=timeout)


class TestProgrammersMistakes:
    async def test_use_before_opening(self):
        with pytest.raises(RuntimeError, match="async with"):
            await get_account_info(SessionManager().session(Credential(sessdata="x")))

    async def test_use_after_closing(self):
        async with SessionManager() as manager:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await fetch_snapshot(manager.session(Credential(sessdata="x")))
        await manager.close()

    async def test_closing_on_another_event_loop(self):
        manager = SessionManager()
        await manager.open()

        def close_elsewhere() -> None:
            with pytest.raises(RuntimeError, match="close it there"):
                asyncio.run(manager.close())

        await asyncio.to_thread(close_elsewhere)
        await manager.close()

    async def test_opening_twice(self):
        async with SessionManager() as manager:
            with pytest.raises(RuntimeError, match="open already"):
                await manager.open()

    def test_use_on_another_event_loop(self):
        manager = SessionManager()
        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(manager.open())
            with pytest.raises(RuntimeError, match="another event loop"):
                second.run(get_account_info(manager.session(Credential(sessdata="x"))))
            first.run(manager.close())

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    async def test_use_in_a_forked_child(self, sandbox, manager):
        me = manager.session(sandbox.add_account().credential)
        await get_account_info(me)  # its connection is in the pool, and in the child
        if not (child := os.fork()):
            try:
                get_account_info(me).send(None)
            except RuntimeError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
        assert len(sandbox.requests) == 1

    def test_a_loop_may_move_to_another_thread(self):
        loop = asyncio.new_event_loop()
        manager = SessionManager(retry=Retry.none(), hosts=Hosts(api="http://127.0.0.1:9"))
        try:
            loop.run_until_complete(manager.open())
            with (
                ThreadPoolExecutor(1) as thread,
                pytest.raises(bili.TransportError, match="can't connect"),
            ):
                thread.submit(
                    loop.run_until_complete,
                    get_account_info(manager.session(Credential(sessdata="x"))),
                ).result()
            loop.run_until_complete(manager.close())
        finally:
            loop.close()

    def test_limits_and_limiter_together(self):
        with pytest.raises(ValueError, match="limiter"):
            SessionManager(limits=Limits(), limiter=object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "http://api.bilibili.com",
        "https://user:pw@api.bilibili.com",
        "https://api.bilibili.com/x",
        "https://api.bilibili.com?q=1",
        "https://api.bilibili.com#f",
        "ftp://localhost",
        "localhost:80",
        "",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        5,
    ],
)
def test_a_host_that_could_leak_a_login_is_refused(url):
    with pytest.raises(ValueError, match="passport: expected"):
        Hosts(passport=url)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080", "http://[::1]:80", "http://localhost", "https://gateway.example/"],
)
def test_https_anywhere_and_http_on_loopback_are_fine(url):
    assert Hosts(api=url).api == url.removesuffix("/").removesuffix(":80")


async def test_two_handles_of_one_credential_share_one_budget(sandbox):
    account = sandbox.add_account()
    limits = Limits(account=bili.RateLimit(rate=0.01, burst=2), max_wait=0)
    async with SessionManager(hosts=sandbox.hosts, limits=limits) as manager:
        await get_vip_info(manager.session(account.credential))
        await get_vip_info(manager.session(account.credential))
        with pytest.raises(bili.RateLimited) as caught:
            await get_vip_info(manager.session(account.credential))
        assert caught.value.scope == "local"
        await get_vip_info(manager.session(sandbox.add_account().credential))


async def test_an_ssl_context_can_be_given(sandbox):
    account = sandbox.add_account()
    async with open_session(
        account.credential, hosts=sandbox.hosts, ssl=ssl.create_default_context(), label="me"
    ) as me:
        assert (await get_account_info(me)).mid == account.mid
        assert repr(me) == "<AccountSession me>"
