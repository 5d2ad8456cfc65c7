"""Faults that a hostile reading of the way of one call brought to light, each with the kind of
thing that it is an example of.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import aiohttp
import pytest
import trustme
from faults import HANG, Received, Step, reply, serve
from pydantic import BaseModel, ValidationError
from samples_of import sample_bytes
from virtual import run_virtual, turns

from bili_account_async import (
    ENDPOINTS,
    AccountInfo,
    ApiError,
    Auth,
    CallEvent,
    Credential,
    Endpoint,
    Limits,
    RateLimit,
    RateLimited,
    Retry,
    SessionManager,
    VipInfo,
    fetch_snapshot,
    get_account_info,
    update_sign,
)

ME = Credential(sessdata="planted-sessdata", dede_user_id=293793435, bili_jct="planted-jct")
NAMES = {endpoint.path: name for name, endpoint in ENDPOINTS.items()}


def good(request: Received) -> Iterator[Step]:
    name = NAMES.get(request.path, "get_account_info")
    yield reply(sample_bytes(name.replace("clear_sign", "update_sign")))


# --- what waits for the limit ---------------------------------------------------------------------


async def throttled(limiter: Any) -> None:
    permit = await limiter.acquire("host", "first", patience=100)
    error = RateLimited(scope="host", status=412, retry_after=50)
    asyncio.get_running_loop().call_later(1, limiter.release, permit, error)
    await limiter.acquire("host", "second", patience=1)


async def closed(limiter: Any) -> None:
    await limiter.acquire("host", "first", patience=100)
    asyncio.get_running_loop().call_later(1, limiter.close)
    await limiter.acquire("host", "second", patience=1)


async def impatient(limiter: Any) -> None:
    await limiter.acquire("host", "first", patience=100)
    await limiter.acquire("host", "second", patience=1)


class Held:
    """Something that the caller holds while it calls."""


@pytest.mark.parametrize("how", [throttled, closed, impatient])
@run_virtual
async def test_the_error_of_a_call_that_waited_for_the_limit_is_in_no_cycle(
    how: Callable[[Any], Awaitable[None]],
) -> None:
    async def caller(limiter: Any) -> weakref.ref[Held]:
        held = Held()
        try:
            await how(limiter)
        except (RateLimited, RuntimeError):  # `raises` would keep the frames by itself
            return weakref.ref(held)
        raise AssertionError("it did not fail")

    limits = Limits(host=RateLimit(rate=0.1, burst=1), account=None, max_wait=5)
    async with SessionManager(limits=limits) as manager:
        assert manager._engine is not None
        gc.collect()
        gc.disable()
        try:
            seen = await caller(manager._engine.limiter)
            await turns(1)  # asyncio itself holds the error until the turn ends
            assert seen() is None
        finally:
            gc.enable()


class Begun:
    """Awaits a coroutine as far as its first pause, then ends it in some way."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], end: str) -> None:
        self.coroutine = coroutine
        self.end = end

    def __await__(self) -> Generator[Any, Any, None]:
        self.coroutine.send(None)
        if self.end == "close":
            self.coroutine.close()
        else:
            self.coroutine.throw(Odd("two", "arguments"))
        return
        yield


class Odd(BaseException):
    """Not an Exception, and not to be made without its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first, second)


async def test_a_coroutine_that_is_closed_while_it_waits_for_the_limit_leaves_the_queue() -> None:
    limits = Limits(host=RateLimit(rate=50, burst=1), account=None, concurrency=1)
    async with (
        serve(good) as server,
        SessionManager(hosts=server.hosts, limits=limits) as manager,
    ):
        me = manager.session(ME)
        await get_account_info(me)
        await Begun(get_account_info(me), "close")
        assert manager.limits_state()["api"].waiting == 0
        async with asyncio.timeout(5):
            await get_account_info(me)


ABANDONED = """
import asyncio, gc
from bili_account_async import *

kept = []

async def main():
    connected = asyncio.Event()
    async def serve(*streams):
        kept.append(streams)
        connected.set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    manager = SessionManager(
        hosts=Hosts(api=base, www=base, passport=base), limits=Limits(concurrency=1)
    )
    await manager.open()
    me = manager.session(Credential(sessdata="me"))
    calls = [asyncio.create_task(get_account_info(me)) for _ in range(3)]
    await connected.wait()
    return manager, calls

loop = asyncio.new_event_loop()
manager, calls = loop.run_until_complete(main())
loop.close()
del calls
gc.collect()
"""


def test_calls_that_are_abandoned_in_the_queue_end_in_silence() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Exception ignored in: <coroutine object get_account_info" not in ended.stderr
    assert ended.stderr.count("Task was destroyed but it is pending!") == 3


# --- observers ------------------------------------------------------------------------------------


async def test_on_call_takes_an_exception_of_any_kind_and_lets_it_pass() -> None:
    events: list[CallEvent] = []
    async with (
        serve(lambda _: [HANG]) as server,
        SessionManager(hosts=server.hosts, on_call=events.append) as manager,
    ):
        with pytest.raises(Odd):
            await Begun(get_account_info(manager.session(ME)), "throw")
    assert [type(event.outcome) for event in events] == [Odd]


@pytest.mark.parametrize("option", ["on_request", "on_call"])
def test_a_coroutine_function_is_no_observer(option: str) -> None:
    async def observe(event: object) -> None: ...

    given: Any = {option: [print, observe]}
    with pytest.raises(TypeError, match=rf"^{option}: .*coroutine"):
        SessionManager(**given)


# --- lent pools -----------------------------------------------------------------------------------


@pytest.fixture
def sides() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server and of its clients."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_closing_one_manager_ends_no_call_of_another_on_the_same_lent_pool(
    sides: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    go: asyncio.Future[Step] = asyncio.get_running_loop().create_future()

    def script(request: Received) -> Iterator[Step]:
        if request.method == "POST":
            yield go
        yield from good(request)

    async with (
        serve(script, ssl=sides[0], name="localhost") as server,
        aiohttp.ClientSession() as lent,
    ):
        options: Any = {"hosts": server.hosts, "client_session": lent, "ssl": sides[1]}
        first, second = SessionManager(**options), SessionManager(**options)
        await first.open()
        await second.open()
        await get_account_info(first.session(ME))
        call = asyncio.create_task(update_sign(second.session(ME), "x"))
        await server.asked(2)
        await first.close()
        go.set_result(b"")
        await call
        await second.close()
        assert server.connections == 1
        assert not lent.closed


async def test_closing_ends_no_request_of_the_host_application_under_the_same_ssl_context(
    sides: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    go: asyncio.Future[Step] = asyncio.get_running_loop().create_future()

    def script(request: Received) -> Iterator[Step]:
        if request.path == "/theirs":
            yield go
        yield from good(request)

    async with (
        serve(script, ssl=sides[0], name="localhost") as server,
        aiohttp.ClientSession() as lent,
    ):
        manager = SessionManager(hosts=server.hosts, client_session=lent, ssl=sides[1])
        await manager.open()
        await get_account_info(manager.session(ME))

        async def ask() -> int:
            async with lent.post(server.hosts.api + "/theirs", ssl=sides[1]) as response:
                return response.status

        theirs = asyncio.create_task(ask())
        await server.asked(2)
        await manager.close()
        go.set_result(b"")
        assert await theirs == 200
        assert len(server.requests) == 2


# --- text of the server's -------------------------------------------------------------------------


async def test_a_message_can_neither_steer_a_terminal_nor_turn_a_line_around() -> None:
    said = '{"code":-7,"message":"a\u202eb\u2066c\u200bd\\u001b[31me\\nf"}'.encode()
    async with (
        serve(lambda _: [reply(said)]) as server,
        SessionManager(hosts=server.hosts, retry=Retry.none()) as manager,
    ):
        with pytest.raises(ApiError) as caught:
            await get_account_info(manager.session(ME))
    assert caught.value.message == "a?b?c?d [31me f"
    assert str(caught.value).isprintable()


# --- what a program hands over --------------------------------------------------------------------


@pytest.mark.parametrize("place", ["params", "form"])
@pytest.mark.parametrize("fields", [[("a", "1")], "a=1", {"a"}, 5])
async def test_fields_that_are_no_mapping_are_refused_by_name(place: str, fields: Any) -> None:
    given: Any = {place: fields}
    async with SessionManager() as manager:
        with pytest.raises(TypeError, match=rf"^{place}: expected a mapping, got "):
            await manager.session(ME).call(ENDPOINTS["update_sign"], **given)


async def test_an_int_beyond_what_any_api_takes_is_refused_by_the_name_of_its_field() -> None:
    async with SessionManager() as manager:
        with pytest.raises(ValueError, match=r"^params: 'mid': "):
            await manager.session(ME).call(ENDPOINTS["get_account_info"], params={"mid": 10**5000})


@pytest.mark.parametrize("endpoint", ["get_account_info", get_account_info, None, Endpoint])
async def test_what_is_no_endpoint_is_refused_before_anything_is_sent(endpoint: Any) -> None:
    async with SessionManager() as manager:
        me = manager.session(ME)
        for call in (me.call, me.call_raw):
            with pytest.raises(TypeError, match=r"^endpoint: expected Endpoint, got "):
                await call(endpoint)


@pytest.mark.parametrize("sections", ["vip_info", None, 5])
async def test_sections_that_are_no_names_are_refused(sections: Any) -> None:
    async with SessionManager() as manager:
        with pytest.raises(TypeError, match=r"^sections: expected several names, got "):
            await fetch_snapshot(manager.session(ME), sections=sections)


@pytest.mark.parametrize("label", [5, b"me", ["me"]])
def test_a_label_is_a_text(label: Any) -> None:
    with pytest.raises(TypeError, match=r"^label: expected str, got "):
        SessionManager().session(ME, label=label)


@pytest.mark.parametrize(("name", "path", "field"), [(5, "/x", "name"), ("n", 5, "path")])
def test_an_endpoint_is_named_and_placed_by_texts(name: Any, path: Any, field: str) -> None:
    with pytest.raises((TypeError, ValueError), match=field):
        Endpoint(name, "GET", "api", path, Auth(), int)


def test_the_errors_of_a_pydantic_union_name_its_records() -> None:
    class Model(BaseModel):
        info: AccountInfo | VipInfo

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"info": {}})
    places = [error["loc"] for error in caught.value.errors()]
    assert places == [
        ("info", "function-plain[AccountInfo()]", "mid"),
        ("info", "function-plain[VipInfo()]", "mid"),
    ]
