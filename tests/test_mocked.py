"""The SDK as a user's suite tests it that mocks HTTP: aioresponses, and `MockResponse`.

Nothing is listening here. What needs a wire (connections, truncated bodies, deadlines) is tested
over sockets elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs

import aiohttp
import pytest
from aioresponses import aioresponses
from samples_of import EXPECTED, GETS, sample, sample_bytes
from yarl import URL

import bili_account_async as bili
from bili_account_async import (
    ENDPOINTS,
    ApiError,
    BiliError,
    Credential,
    CsrfRejected,
    Hosts,
    Limits,
    NotLoggedIn,
    ProtocolError,
    RateLimited,
    RequestTimeout,
    Retry,
    RiskControlled,
    SchemaError,
    SensitiveSign,
    Session,
    SessionManager,
    SignTooLong,
    TransportError,
    clear_sign,
    fetch_snapshot,
    get_account_info,
    update_sign,
)
from bili_account_async.testing import MockResponse

COOKIE = Credential(sessdata="sessdata", dede_user_id=293793435, bili_jct="jct")
APP = Credential(access_key="key")


def url_of(endpoint: str) -> str:
    return getattr(Hosts(), ENDPOINTS[endpoint].host) + ENDPOINTS[endpoint].path


ACCOUNT, SIGN = url_of("get_account_info"), url_of("update_sign")


class Mocked:
    """The mock, so that each reply is built by `MockResponse` and asked for in one line."""

    def __init__(self, mock: aioresponses) -> None:
        self._mock = mock

    def get(self, url: str, **reply: Any) -> None:
        self._mock.get(url, response_class=MockResponse, **reply)

    def post(self, url: str, **reply: Any) -> None:
        self._mock.post(url, response_class=MockResponse, **reply)

    @property
    def sent(self) -> list[tuple[str, URL, dict[str, Any]]]:
        """Method, URL and options of each request, in the order of its URL's first."""
        return [
            (method, url, call.kwargs)
            for (method, url), calls in self._mock.requests.items()
            for call in calls
        ]


@pytest.fixture
def mocked() -> Iterator[Mocked]:
    with aioresponses() as mock:
        yield Mocked(mock)


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    retry = Retry(attempts=3, backoff=0.001)
    async with SessionManager(limits=Limits.none(), retry=retry) as manager:
        yield manager


@pytest.fixture
def me(manager: SessionManager) -> Session:
    return manager.session(COOKIE)


@pytest.fixture
def app(manager: SessionManager) -> Session:
    return manager.session(APP)


# --- what goes out, and what comes back -----------------------------------------------------------


@pytest.mark.parametrize("name", GETS)
async def test_a_sample_reply_becomes_its_record(name: str, mocked: Mocked, me: Session) -> None:
    mocked.get(url_of(name), payload=sample(name))

    assert await getattr(bili, name)(me) == EXPECTED[name]

    [(method, url, options)] = mocked.sent
    assert (method, url) == ("GET", URL(url_of(name)))
    assert options["headers"]["Cookie"] == "SESSDATA=sessdata; DedeUserID=293793435; bili_jct=jct"
    assert options["headers"]["User-Agent"].startswith("bili-account-async/")
    assert options.get("data") is None


async def test_a_reply_is_read_from_the_bytes_that_came(mocked: Mocked, me: Session) -> None:
    mocked.get(ACCOUNT, body=sample_bytes("get_account_info"), headers={"X-Cache": "HIT"})

    reply = await me.call_raw(ENDPOINTS["get_account_info"])

    assert reply.record == EXPECTED["get_account_info"]
    assert (reply.status, reply.headers["X-Cache"], reply.attempts) == (200, "HIT", 1)


APP_CAN = [name for name in GETS if ENDPOINTS[name].auth.missing_from(APP) is None]


@pytest.mark.parametrize("name", APP_CAN)
async def test_an_app_token_stands_in_the_query_and_there_is_no_cookie(
    name: str, mocked: Mocked, app: Session
) -> None:
    mocked.get(f"{url_of(name)}?access_key=key", payload=sample(name))

    assert await getattr(bili, name)(app) == EXPECTED[name]

    [(_, url, options)] = mocked.sent
    assert url.query == {"access_key": "key"}
    assert "Cookie" not in options["headers"]


SIGNS: dict[str, tuple[Callable[[Session], Awaitable[None]], str]] = {
    "update_sign": (lambda session: update_sign(session, "新的签名"), "新的签名"),
    "clear_sign": (clear_sign, ""),
}


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize(
    ("credential", "secret"),
    [(COOKIE, {"csrf": ["jct"]}), (APP, {"access_key": ["key"]})],
    ids=["cookie", "token"],
)
async def test_a_sign_goes_out_as_a_form_with_what_proves_who_asks(
    name: str,
    credential: Credential,
    secret: dict[str, list[str]],
    mocked: Mocked,
    manager: SessionManager,
) -> None:
    mocked.post(SIGN, payload=sample("update_sign"))
    call, text = SIGNS[name]

    await call(manager.session(credential))

    [(method, url, options)] = mocked.sent
    assert (method, url) == ("POST", URL(SIGN))
    form = parse_qs(options["data"].decode("ascii"), keep_blank_values=True)
    assert form == {"user_sign": [text]} | secret
    assert options["headers"]["Content-Type"] == "application/x-www-form-urlencoded"


async def test_a_snapshot_is_eight_replies_and_a_failed_one_is_told(
    mocked: Mocked, me: Session
) -> None:
    for name in GETS:
        if name != "get_vip_info":
            mocked.get(url_of(name), payload=sample(name))
    mocked.get(url_of("get_vip_info"), payload={"code": -400, "message": "请求错误"})

    snapshot = await fetch_snapshot(me)

    assert snapshot.account_info == EXPECTED["get_account_info"]
    assert snapshot.coin_log == EXPECTED["get_coin_log"]
    assert snapshot.vip_info is None
    assert {name: type(error) for name, error in snapshot.failures.items()} == {
        "vip_info": ApiError
    }
    assert len(mocked.sent) == 8


# --- codes ----------------------------------------------------------------------------------------

CODES: dict[int, type[BiliError]] = {
    -2: NotLoggedIn,
    -101: NotLoggedIn,
    -401: NotLoggedIn,
    -658: NotLoggedIn,
    61000: NotLoggedIn,
    -663: ApiError,
    -111: CsrfRejected,
    -352: RiskControlled,
    -400: ApiError,
    40015: SensitiveSign,
    40021: bili.EmojiSign,
    40022: SignTooLong,
    12345: ApiError,
}


@pytest.mark.parametrize("code", CODES)
async def test_a_code_is_an_error_of_its_class_with_the_servers_words(
    code: int, mocked: Mocked, me: Session
) -> None:
    mocked.post(SIGN, payload={"code": code, "message": "说明", "ttl": 1})

    with pytest.raises(ApiError, match=f"update_sign: code {code}: 说明") as caught:
        await update_sign(me, "新的签名")

    assert type(caught.value) is CODES[code]
    assert (caught.value.code, caught.value.message) == (code, "说明")
    assert len(mocked.sent) == 1


@pytest.mark.parametrize(
    ("code", "scope"), [(-412, "host"), (-509, "account"), (-702, "account"), (-799, "account")]
)
async def test_a_code_that_says_slow_down_is_a_rate_limit_of_its_scope(
    code: int, scope: str, mocked: Mocked, me: Session
) -> None:
    mocked.get(ACCOUNT, payload={"code": code, "message": "慢"}, headers={"Retry-After": "60"})

    with pytest.raises(RateLimited) as caught:
        await get_account_info(me)

    error = caught.value
    assert (error.code, error.scope, error.message) == (code, scope, "慢")
    assert error.retry_after == pytest.approx(60, abs=1)


@pytest.mark.parametrize("code", [-500, -503, -504])
async def test_a_code_that_passes_is_asked_again(code: int, mocked: Mocked, me: Session) -> None:
    mocked.get(ACCOUNT, payload={"code": code, "message": "忙"})
    mocked.get(ACCOUNT, payload=sample("get_account_info"))

    reply = await me.call_raw(ENDPOINTS["get_account_info"])

    assert (reply.record, reply.attempts) == (EXPECTED["get_account_info"], 2)


# --- HTTP, and what is no envelope ----------------------------------------------------------------


@pytest.mark.parametrize("status", [412, 429])
async def test_a_status_that_says_slow_down_is_a_rate_limit(
    status: int, mocked: Mocked, me: Session
) -> None:
    mocked.get(ACCOUNT, status=status, body="<html>", headers={"Retry-After": "60"})

    with pytest.raises(RateLimited) as caught:
        await get_account_info(me)

    assert (caught.value.status, caught.value.scope) == (status, "host")
    assert caught.value.retry_after == pytest.approx(60, abs=1)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 403, 404])
async def test_another_status_than_200_is_an_error_and_no_redirect_is_followed(
    status: int, mocked: Mocked, me: Session
) -> None:
    mocked.get(
        ACCOUNT,
        status=status,
        payload=sample("get_account_info"),
        headers={"Location": "https://example.org/"},
    )

    with pytest.raises(ProtocolError, match=f"HTTP {status}") as caught:
        await get_account_info(me)

    assert caught.value.status == status
    assert len(mocked.sent) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_in_trouble_is_asked_again_and_the_last_failure_is_told(
    status: int, mocked: Mocked, me: Session
) -> None:
    for _ in range(3):
        mocked.get(ACCOUNT, status=status, body="<html>")

    with pytest.raises(ProtocolError, match=f"HTTP {status}"):
        await get_account_info(me)

    assert len(mocked.sent) == 3


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"data":{}}', b'{"code":"0"}', b"\xff\xfe", b" " * (2 << 20)],
    ids=["nothing", "a page", "a list", "no code", "a code as text", "bytes", "too much"],
)
async def test_a_body_that_is_no_envelope_is_a_protocol_error(
    body: bytes, mocked: Mocked, me: Session
) -> None:
    for _ in range(3):
        mocked.get(ACCOUNT, body=body)

    with pytest.raises(ProtocolError):
        await get_account_info(me)


async def test_a_field_of_a_wrong_type_is_named(mocked: Mocked, me: Session) -> None:
    payload = sample("get_account_info")
    payload["data"]["mid"] = "293793435"
    mocked.get(ACCOUNT, payload=payload)

    with pytest.raises(SchemaError) as caught:
        await get_account_info(me)

    assert (caught.value.path, caught.value.got) == ("data.mid", "str")


# --- no reply -------------------------------------------------------------------------------------


def refused(key: Any) -> aiohttp.ClientConnectorError:
    """Return the error that aiohttp raises for a port that nobody listens on."""
    return aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "Connection refused"))


KEY = Mock(host="api.bilibili.com", port=443, is_ssl=True, ssl=True)


FAILURES: dict[str, tuple[Callable[[], dict[str, Any]], type[TransportError]]] = {
    "refused": (lambda: {"exception": refused(KEY)}, TransportError),
    "refused, no key": (lambda: {"exception": refused(None)}, TransportError),
    "broken": (lambda: {"exception": aiohttp.ClientConnectionError("gone")}, TransportError),
    "disconnected": (lambda: {"exception": aiohttp.ServerDisconnectedError()}, TransportError),
    "reset": (lambda: {"exception": aiohttp.ClientOSError(104, "reset")}, TransportError),
    "cut off": (lambda: {"exception": aiohttp.ClientPayloadError()}, TransportError),
    "an OSError": (lambda: {"exception": OSError("no")}, TransportError),
    "timeout=True": (lambda: {"timeout": True}, RequestTimeout),
    "a TimeoutError": (lambda: {"exception": TimeoutError()}, RequestTimeout),
    "aiohttp's timeout": (lambda: {"exception": aiohttp.ServerTimeoutError()}, RequestTimeout),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_get_that_fails_is_sent_again_until_its_attempts_are_used_up(
    name: str, mocked: Mocked, me: Session
) -> None:
    failure, expected = FAILURES[name]
    for _ in range(3):
        mocked.get(ACCOUNT, **failure())

    with pytest.raises(TransportError) as caught:
        await get_account_info(me)

    assert type(caught.value) is expected
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert len(mocked.sent) == 3


@pytest.mark.parametrize("name", FAILURES)
async def test_a_get_that_fails_once_is_answered_the_second_time(
    name: str, mocked: Mocked, me: Session
) -> None:
    mocked.get(ACCOUNT, **FAILURES[name][0]())
    mocked.get(ACCOUNT, payload=sample("get_account_info"))

    assert await get_account_info(me) == EXPECTED["get_account_info"]


@pytest.mark.parametrize("name", FAILURES)
async def test_a_sign_is_sent_again_only_if_it_can_not_have_gone_out(
    name: str, mocked: Mocked, me: Session
) -> None:
    mocked.post(SIGN, **FAILURES[name][0]())
    mocked.post(SIGN, payload=sample("update_sign"))

    if name.startswith("refused"):
        await update_sign(me, "新的签名")
        assert len(mocked.sent) == 2
    else:
        with pytest.raises(TransportError) as caught:
            await update_sign(me, "新的签名")
        assert caught.value.sent
        assert len(mocked.sent) == 1


async def test_a_reply_that_was_not_mocked_is_a_refusal_that_shows_no_secret(
    mocked: Mocked, app: Session
) -> None:
    with pytest.raises(TransportError) as caught:
        await get_account_info(app)

    assert "key" not in f"{caught.value!r} {caught.value}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_a_slow_reply_ends_at_the_calls_timeout(mocked: Mocked, me: Session) -> None:
    async def slow(url: URL, **_: object) -> None:
        await asyncio.sleep(60)

    mocked.get(ACCOUNT, callback=slow)

    with pytest.raises(RequestTimeout):
        await get_account_info(me, timeout=0.02)


# --- the response class itself --------------------------------------------------------------------


async def test_a_mocked_reply_is_one_for_the_users_own_client_too(mocked: Mocked) -> None:
    mocked.get("https://example.org/", payload={"a": 1}, headers={"Set-Cookie": "b=2"})
    mocked.get("https://example.org/", status=404)

    async with aiohttp.ClientSession() as client:
        async with client.get("https://example.org/") as response:
            assert (response.status, response.cookies["b"].value) == (200, "2")
            assert await response.json() == {"a": 1}
        async with client.get("https://example.org/") as response:
            with pytest.raises(aiohttp.ClientResponseError, match="404"):
                response.raise_for_status()


def test_the_plugin_that_every_suite_loads_imports_nothing_heavy() -> None:
    code = "import json, sys, bili_account_async.testing; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    heavy = {"aiohttp", "attrs", "cattrs", "orjson", "bili_account_async.session"}
    assert heavy & set(json.loads(ran.stdout)) == set()


def test_the_plugin_has_no_other_name_than_it_says() -> None:
    import bili_account_async.testing as testing

    assert testing.MockResponse is MockResponse
    assert not hasattr(testing, "pytest_plugins")
