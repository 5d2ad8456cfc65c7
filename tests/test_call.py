"""The way of one call under everything that happens around it: lent pools, dead networks, loops
that end, and what is left behind. Real sockets, except where only time matters.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from faults import CLOSE, HANG, RESET, End, FaultServer, Pause, Received, Step, reply, serve
from samples_of import sample_bytes
from virtual import VirtualLoop, run_virtual, turns

import bili_account_async as bili
from bili_account_async import (
    BiliError,
    CallEvent,
    Credential,
    CredentialMissing,
    Hosts,
    Limits,
    RateLimit,
    RateLimited,
    RequestTimeout,
    Retry,
    SessionManager,
    TransportError,
    fetch_snapshot,
    get_account_info,
    get_vip_info,
    update_sign,
)
from bili_account_async.sandbox import Sandbox

ME = Credential(sessdata="planted-sessdata", dede_user_id=293793435, bili_jct="planted-jct")
NAMES = {endpoint.path: name for name, endpoint in bili.ENDPOINTS.items()}


def good(request: Received) -> Iterator[Step]:
    name = NAMES[request.path].replace("clear_sign", "update_sign")
    yield reply(sample_bytes(name))


def managed(server: FaultServer, **options: Any) -> SessionManager:
    defaults: dict[str, Any] = {
        "hosts": server.hosts,
        "limits": Limits.none(),
        "retry": Retry.none(),
        "timeout": 5,
    }
    return SessionManager(**defaults | options)


class Silent(AbstractResolver):
    """A resolver that never answers; `asked` tells that somebody waits for it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


# --- a cancellation that nobody asked for ---------------------------------------------------------


@asynccontextmanager
async def waiting_in_a_lent_pool(
    server: FaultServer, how: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Task[Any], SessionManager]]:
    """A call that waits below us: for its host's address, or for a place in the lent pool."""
    resolver = Silent()
    if how == "resolving":
        connector = aiohttp.TCPConnector(resolver=resolver)
        hosts = Hosts(
            **dict.fromkeys(("api", "www", "passport"), f"http://localhost:{server.port}")
        )
    else:
        connector = aiohttp.TCPConnector(limit=1)
        hosts = server.hosts
    async with aiohttp.ClientSession(connector=connector) as lent:
        async with managed(server, client_session=lent, hosts=hosts) as manager:
            me = manager.session(ME)
            if how == "queueing":
                blocker = asyncio.create_task(get_vip_info(me))
                await server.asked(1)
            task = asyncio.create_task(get_account_info(me))
            if how == "resolving":
                await resolver.asked.wait()
            else:
                await turns()
            yield lent, task, manager
            if how == "queueing":
                blocker.cancel()
                await asyncio.wait([blocker])


@pytest.mark.parametrize("how", ["resolving", "queueing"])
async def test_a_lent_pool_that_is_closed_under_a_waiting_call_cancels_nobody(how: str) -> None:
    async with serve(lambda _: [HANG]) as server:
        async with waiting_in_a_lent_pool(server, how) as (lent, task, manager):
            snapshot = asyncio.create_task(fetch_snapshot(manager.session(ME)))
            await turns()
            await lent.close()
            await asyncio.wait([task, snapshot])
            for ended in (task, snapshot):
                assert not ended.cancelled()
                assert isinstance(ended.exception(), RuntimeError)
                assert "client_session was closed" in str(ended.exception())


async def test_a_cancellation_from_below_is_a_transport_error_while_the_pool_is_open() -> None:
    class Cancels(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            raise asyncio.CancelledError

        async def close(self) -> None:
            pass

    connector = aiohttp.TCPConnector(resolver=Cancels())
    hosts = Hosts(**dict.fromkeys(("api", "www", "passport"), "http://localhost:9"))
    async with (
        aiohttp.ClientSession(connector=connector) as lent,
        SessionManager(client_session=lent, hosts=hosts, retry=Retry.none()) as manager,
    ):
        with pytest.raises(TransportError, match="given up") as caught:
            await get_account_info(manager.session(ME))
        assert not caught.value.sent
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["resolving", "queueing"])
async def test_the_callers_own_cancellation_still_passes_through(how: str) -> None:
    async with serve(lambda _: [HANG]) as server:
        async with waiting_in_a_lent_pool(server, how) as (_, task, _manager):
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


async def test_a_call_made_by_a_task_that_is_already_cancelled_can_be_made_and_ended() -> None:
    async with serve(good) as server, managed(server) as manager:
        done: list[str] = []

        async def says_goodbye() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                done.append((await get_account_info(manager.session(ME))).uname)

        task = asyncio.create_task(says_goodbye())
        await turns()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert done == ["社会易姐QwQ"]


# --- connections that died in silence -------------------------------------------------------------


async def test_after_a_silent_death_of_the_whole_pool_the_retry_goes_out_on_a_new_connection() -> (
    None
):
    dead = False

    def script(request: Received) -> Iterator[Step]:
        if dead and request.connection <= 8:
            yield HANG
        yield Pause(0.05)  # so that the eight at once take eight connections
        yield from good(request)

    async with serve(script) as server:
        retry = Retry(attempts=3, attempt_timeout=0.4, backoff=0.001)
        async with managed(server, retry=retry) as manager:
            me = manager.session(ME)
            await asyncio.gather(*(get_vip_info(me) for _ in range(8)))
            assert server.connections == 8
            dead = True
            started = time.perf_counter()
            assert (await get_account_info(me)).uname == "社会易姐QwQ"
            assert time.perf_counter() - started < 0.4 + 0.3
            assert server.connections == 9
            before = len(server.requests)
            await asyncio.gather(*(get_vip_info(me) for _ in range(8)))
            assert len(server.requests) - before == 8  # none of the dead is left in the pool


async def test_a_slow_answer_on_one_connection_does_not_break_the_calls_on_others() -> None:
    slow = asyncio.Event()

    def script(request: Received) -> Iterator[Step]:
        if request.path.endswith("/x/vip/web/user/info") and slow.is_set():
            yield HANG
        yield Pause(0.3 if slow.is_set() else 0.02)
        yield from good(request)

    async with serve(script) as server, managed(server) as manager:
        me = manager.session(ME)
        await asyncio.gather(*(get_account_info(me) for _ in range(4)))
        slow.set()
        others = [asyncio.create_task(get_account_info(me)) for _ in range(3)]
        with pytest.raises(RequestTimeout):
            await get_vip_info(me, timeout=0.1)
        assert [record.uname for record in await asyncio.gather(*others)] == ["社会易姐QwQ"] * 3


# --- what `sent` says -----------------------------------------------------------------------------


async def test_a_timeout_before_anything_left_says_so() -> None:
    async with serve(lambda _: [HANG]) as server:
        for how in ("resolving", "queueing"):
            async with waiting_in_a_lent_pool(server, how) as (_, task, manager):
                task.cancel()
                with pytest.raises(RequestTimeout) as caught:
                    await update_sign(manager.session(ME), "x", timeout=0.05)
                assert not caught.value.sent
            server.requests.clear()


async def test_a_timeout_after_the_request_left_says_so_too() -> None:
    async with serve(lambda _: [HANG]) as server, managed(server) as manager:
        with pytest.raises(RequestTimeout) as caught:
            await update_sign(manager.session(ME), "x", timeout=0.1)
        assert caught.value.sent
        assert len(server.requests) == 1


async def test_a_sign_that_waited_in_vain_for_a_connection_is_sent_again_and_arrives_once() -> None:
    async with serve(lambda r: good(r) if r.method == "POST" else [HANG]) as server:
        connector = aiohttp.TCPConnector(limit=1)
        retry = Retry(attempts=3, attempt_timeout=0.1, backoff=0.001)
        async with aiohttp.ClientSession(connector=connector) as lent:
            async with managed(server, client_session=lent, retry=retry) as manager:
                me = manager.session(ME)
                async with managed(server, client_session=lent) as other:
                    blocker = asyncio.create_task(get_vip_info(other.session(ME)))
                    await server.asked(1)
                    sign = asyncio.create_task(update_sign(me, "x"))
                    await asyncio.sleep(0.15)  # the first attempt is over: it never got a place
                    blocker.cancel()
                    await asyncio.wait([blocker])
                    await sign
        assert [request.method for request in server.requests] == ["GET", "POST"]


async def test_a_get_whose_last_attempt_was_not_sent_tells_that_an_earlier_one_was() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(lambda _: [CLOSE]))
        connector = aiohttp.TCPConnector(limit=1)
        lent = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        blocking = await stack.enter_async_context(serve(lambda _: [HANG]))
        other = await stack.enter_async_context(managed(blocking, client_session=lent))
        blockers: list[asyncio.Task[Any]] = []

        def take_the_pool_s_only_place(_: bili.RequestEvent) -> None:
            if not blockers:
                blockers.append(asyncio.create_task(get_vip_info(other.session(ME))))

        retry = Retry(attempts=2, attempt_timeout=0.1, backoff=0.001)
        manager = await stack.enter_async_context(
            managed(server, client_session=lent, retry=retry, on_request=take_the_pool_s_only_place)
        )
        with pytest.raises(RequestTimeout) as caught:
            await get_vip_info(manager.session(ME))
        assert caught.value.sent
        assert len(server.requests) == 1
        blockers[0].cancel()
        await asyncio.wait(blockers)


# --- the traffic of a lent session goes where its owner sends it ----------------------------------


def proxying(request: Received) -> Iterator[Step]:
    yield reply(sample_bytes("get_account_info"))


@pytest.mark.parametrize("trust_env", [True, False])
async def test_the_proxies_of_the_environment_count_if_the_lent_session_says_trust_env(
    trust_env: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serve(proxying) as proxy, serve(proxying) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with aiohttp.ClientSession(trust_env=trust_env) as lent:
            async with managed(server, client_session=lent) as manager:
                await get_account_info(manager.session(ME))
            assert (len(proxy.requests), len(server.requests)) == (trust_env, not trust_env)
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with managed(server, client_session=lent) as manager:
                await get_account_info(manager.session(ME))
            assert len(proxy.requests) == trust_env
        monkeypatch.delenv("no_proxy")
        async with managed(server) as manager:  # our own pool reads no environment
            await get_account_info(manager.session(ME))
        assert len(proxy.requests) == trust_env


async def test_a_proxy_named_for_the_manager_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with serve(proxying) as proxy, serve(proxying) as server:
        named = f"http://127.0.0.1:{proxy.port}"
        async with aiohttp.ClientSession(trust_env=True) as lent:
            async with managed(server, client_session=lent, proxy=named) as manager:
                await get_account_info(manager.session(ME))
        assert (len(proxy.requests), len(server.requests)) == (1, 0)


async def test_a_proxy_of_the_environment_that_we_can_not_use_is_refused_at_the_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:pa55word@127.0.0.1:1080")
    async with aiohttp.ClientSession(trust_env=True) as lent:
        with pytest.raises(RuntimeError, match="environment's proxy for https") as caught:
            await SessionManager(client_session=lent).open()
        assert "pa55word" not in str(caught.value)


async def test_a_lent_session_s_own_proxy_is_refused_unless_it_is_named_for_the_manager() -> None:
    async with aiohttp.ClientSession(proxy="http://user:pa55word@127.0.0.1:9") as lent:
        with pytest.raises(ValueError, match=r"^client_session: it has a proxy") as caught:
            SessionManager(client_session=lent)
        assert "pa55word" not in str(caught.value)
        SessionManager(client_session=lent, proxy="http://user:pa55word@127.0.0.1:9")


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_a_proxy_that_drops_a_connect_is_asked_once_an_attempt(end: End) -> None:
    connects: list[Received] = []

    def drop(request: Received) -> Iterator[Step]:
        connects.append(request)
        yield end

    async with serve(drop) as proxy:
        hosts = Hosts(api="https://localhost:9", www="https://localhost:9")
        named = f"http://127.0.0.1:{proxy.port}"
        async with SessionManager(hosts=hosts, proxy=named, retry=Retry.none()) as manager:
            with pytest.raises(TransportError) as caught:
                await update_sign(manager.session(ME), "x")
        assert not caught.value.sent
        assert [request.method for request in connects] == ["CONNECT"]


# --- the aiohttp below us -------------------------------------------------------------------------


async def test_an_aiohttp_that_can_not_keep_our_promises_is_refused_at_the_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(aiohttp.ClientResponse, "start")
    manager = SessionManager()
    with pytest.raises(RuntimeError, match=rf"^aiohttp {aiohttp.__version__} can't be kept from"):
        await manager.open()
    monkeypatch.undo()
    async with manager:
        pass


# --- certificates are always checked --------------------------------------------------------------


def unchecked(**changes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    for name, value in changes.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (False, TypeError),
        (True, TypeError),
        (aiohttp.Fingerprint(b"x" * 32), TypeError),
        (unchecked(), ValueError),
        (unchecked(verify_mode=ssl.CERT_NONE), ValueError),
        (unchecked(verify_mode=ssl.CERT_OPTIONAL), ValueError),
    ],
    ids=["False", "True", "fingerprint", "no host name", "none", "optional"],
)
def test_nothing_that_turns_the_check_of_certificates_off_is_taken(
    given: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^ssl: expected"):
        SessionManager(ssl=given)


# --- what a failed call leaves --------------------------------------------------------------------

FAILURES: dict[str, Callable[[Received], list[Step]]] = {
    "an HTTP error": lambda _: [reply(b"x" * 1000, status="503 Busy")],
    "a limit": lambda _: [reply(b"{}", status="412 Banned", headers=("Retry-After: 60",))],
    "a redirect": lambda _: [reply(status="302 Found", headers=("Location: /x",))],
    "not JSON": lambda _: [reply(b"<html>")],
    "a dead login": lambda _: [reply(b'{"code":-101,"message":"no"}')],
    "an account's limit": lambda _: [reply(b'{"code":-509,"message":"slow"}')],
    "another shape": lambda _: [reply(b'{"code":0,"data":{"mid":"x"}}')],
    "no payload": lambda _: [reply(b'{"code":0}')],
    "too large": lambda _: [reply(b"x" * (2 << 20))],
    "cut off": lambda _: [reply(b"{}", length=1000), CLOSE],
    "closed": lambda _: [CLOSE],
    "reset": lambda _: [RESET],
    "not HTTP": lambda _: [b"SSH-2.0-OpenSSH\r\n\r\n", CLOSE],
    "broken chunks": lambda _: [
        reply(b"zz\r\n", length=None, headers=("Transfer-Encoding: chunked",))
    ],
    "silence": lambda _: [HANG],
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def kept(error: BaseException) -> weakref.ref[BaseException]:
    return weakref.ref(error)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("kind", FAILURES)
async def test_the_error_of_a_call_dies_with_its_handler_without_a_garbage_collector(
    kind: str, retries: int
) -> None:
    async with serve(FAILURES[kind]) as server:
        retry = Retry(attempts=1 + retries, backoff=0.001, attempt_timeout=0.1)
        async with managed(server, retry=retry, timeout=0.4) as manager:
            calls: list[Any] = [get_account_info, lambda me: update_sign(me, "x")]
            for call in calls[: 1 if kind in ("another shape", "no payload") else 2]:
                try:
                    await call(manager.session(ME))
                except BiliError as error:
                    seen = kept(error)
                else:
                    raise AssertionError("it did not fail")
                assert seen() is None, (gc.get_referrers(seen()), kind)


@pytest.mark.usefixtures("no_collector")
@run_virtual
async def test_a_throttle_keeps_no_frame_of_the_call_that_met_it() -> None:
    class Local:
        """Something that the caller holds while it calls."""

    manager = SessionManager(limits=Limits())
    await manager.open()
    assert manager._engine is not None
    limiter = manager._engine.limiter

    async def caller() -> weakref.ref[Local]:
        local = Local()
        try:
            permit = await limiter.acquire("host", "account", patience=100)
            error = RateLimited(scope="host", status=412, retry_after=50)
            limiter.release(permit, error)
            try:
                raise error
            finally:
                del error
        except RateLimited:
            return weakref.ref(local)

    assert (await caller())() is None
    said = []
    for _ in range(2):  # and each who is refused for it has an error of its own
        try:
            await limiter.acquire("host", "another", patience=1)
        except RateLimited as error:
            said.append((error.status, error.scope))
            seen = kept(error)
        assert seen() is None
    assert said == [(412, "host")] * 2
    await manager.close()


@run_virtual
async def test_a_long_timeout_keeps_no_timer_once_its_call_has_ended() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    from bili_account_async._deadlines import Deadlines
    from bili_account_async._seam import Seam

    deadlines = Deadlines(Seam())
    for _ in range(1000):
        with deadlines.after(86400):
            await asyncio.sleep(0.02)
        assert len(loop.timers()) == 0
    with deadlines.after(86400):
        with deadlines.after(86400):
            assert len(loop.timers()) == 1  # they share it
        assert len(loop.timers()) == 1  # and it stays for the other


# --- a manager's life -----------------------------------------------------------------------------


def test_a_closed_manager_can_be_opened_again_on_any_loop() -> None:
    async def use() -> str:
        async with serve(good) as server:
            manager._routes = managed(server)._routes
            async with manager:
                return (await get_account_info(manager.session(ME))).uname

    manager = SessionManager(retry=Retry.none())
    assert [asyncio.run(use()) for _ in range(3)] == ["社会易姐QwQ"] * 3


async def test_a_session_goes_on_when_its_manager_is_opened_again() -> None:
    async with serve(good) as server:
        manager = managed(server)
        me = manager.session(ME)
        for _ in range(3):
            async with manager:
                await get_account_info(me)
        assert server.connections == 3


def test_a_manager_whose_loop_ended_says_so_and_can_be_closed_and_opened() -> None:
    manager = SessionManager()
    asyncio.run(manager.open())  # and the loop is gone

    async def again() -> None:
        with pytest.raises(RuntimeError, match="event loop that has ended: await its `close"):
            await manager.open()
        await manager.close()
        async with serve(good) as server:
            manager._routes = managed(server)._routes
            async with manager:
                await get_account_info(manager.session(ME))

    asyncio.run(again())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what the dead loop left, says asyncio
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_manager_whose_loop_ended_with_an_idle_connection_can_be_closed() -> None:
    with Sandbox() as sandbox:  # in a thread of its own, so that the connection outlives the loop
        me = sandbox.add_account().credential
        manager = SessionManager(hosts=sandbox.hosts)

        async def use() -> None:
            await manager.open()
            await get_account_info(manager.session(me))

        asyncio.run(use())
        asyncio.run(manager.close())
        gc.collect()


def test_a_call_that_runs_in_no_task_says_so() -> None:
    heard: list[BaseException] = []

    async def main() -> None:
        async with serve(good) as server, managed(server) as manager:
            call = get_account_info(manager.session(ME))

            def drive() -> None:
                try:
                    call.send(None)
                except RuntimeError as error:
                    heard.append(error)

            asyncio.get_running_loop().call_soon(drive)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert "runs in no task" in str(heard[0])


def test_a_call_without_asyncio_says_so() -> None:
    manager = SessionManager()
    asyncio.run(manager.open())
    call = get_account_info(manager.session(ME))
    with pytest.raises(RuntimeError, match="works inside asyncio only"):
        call.send(None)
    asyncio.run(manager.close())


@pytest.mark.parametrize(
    ("option", "wrong", "got"),
    [
        ("hosts", "https://api.bilibili.com", "str"),
        ("limits", 5, "int"),
        ("retry", 3, "int"),
        ("retry", None, "NoneType"),
        ("limiter", object(), "object"),
        ("limiter", Limits(), "Limits"),
        ("client_session", object(), "object"),
        ("on_request", 5, "int"),
        ("on_request", ["print"], "list"),
        ("on_call", None, "NoneType"),
        ("user_agent", b"bytes", "bytes"),
    ],
)
def test_an_option_of_a_wrong_type_is_refused_where_it_enters(
    option: str, wrong: Any, got: str
) -> None:
    with pytest.raises(TypeError, match=rf"^{option}: expected .*, got {got}$"):
        SessionManager(**{option: wrong})


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_timeout_tells_the_seconds_and_attempts_of_the_call(attempts: int) -> None:
    async with serve(lambda _: [HANG]) as server:
        retry = Retry(attempts=attempts, attempt_timeout=0.2, backoff=0.001)
        async with managed(server, retry=retry) as manager:
            with pytest.raises(RequestTimeout) as caught:
                await get_account_info(manager.session(ME), timeout=0.5)
            seconds = {1: "0.2", 3: "0.5"}[attempts]
            plural = "s" if attempts > 1 else ""
            assert str(caught.value).startswith(f"get_account_info: no answer within {seconds}")
            assert str(caught.value).endswith(f" s, {attempts} attempt{plural}")


# --- whole calls, as their observer sees them -----------------------------------------------------


async def test_on_call_sees_every_call_however_it_ends() -> None:
    async with serve(lambda r: [HANG] if "vip" in r.path else good(r)) as server:
        events: list[CallEvent] = []
        limits = Limits(account=RateLimit(rate=0.01, burst=2), host=None, max_wait=0.05)
        async with managed(server, limits=limits, on_call=events.append) as manager:
            me = manager.session(ME, label="me")
            await get_account_info(me)
            cancelled = asyncio.create_task(get_vip_info(me))
            await server.asked(2)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            with pytest.raises(RateLimited):
                await get_account_info(me)
            token = manager.session(Credential(access_key="planted-key"), label="token")
            with pytest.raises(CredentialMissing):
                await get_vip_info(token)
            with pytest.raises(ValueError, match="timeout"):
                await get_account_info(me, timeout=-1)
        assert [(e.endpoint, e.account, type(e.outcome), e.attempts) for e in events] == [
            ("get_account_info", "me", type(None), 1),
            ("get_vip_info", "me", asyncio.CancelledError, 1),
            ("get_account_info", "me", RateLimited, 0),
            ("get_vip_info", "token", CredentialMissing, 0),
            ("get_account_info", "me", ValueError, 0),
        ]
        assert all(event.seconds >= 0 for event in events)
        assert events[1].outcome.__traceback__ is None  # type: ignore[union-attr]
        assert "planted" not in repr(events)


async def test_on_call_counts_the_attempts_and_the_wait_of_the_whole_call() -> None:
    replies = iter([CLOSE, CLOSE])

    def script(request: Received) -> Iterator[Step]:
        yield from ([step] if (step := next(replies, None)) else good(request))

    async with serve(script) as server:
        events: list[CallEvent] = []
        seen: list[CallEvent] = []
        limits = Limits(host=RateLimit(rate=20, burst=1), account=None)
        retry = Retry(attempts=3, backoff=0.001)
        async with managed(
            server, limits=limits, retry=retry, on_call=[events.append, seen.append]
        ) as manager:
            started = time.perf_counter()
            await get_account_info(manager.session(ME))
            elapsed = time.perf_counter() - started
        [event] = events
        assert seen == events
        assert (event.outcome, event.attempts) == (None, 3)
        assert 0.05 < event.waited < 0.15  # 50 ms before the second and the third attempt
        assert abs(event.waited + event.seconds - elapsed) < 0.05


async def test_an_observer_that_raises_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: CallEvent) -> None:
        raise ZeroDivisionError

    async with serve(good) as server, managed(server, on_call=broken) as manager:
        assert (await get_account_info(manager.session(ME))).uname == "社会易姐QwQ"
    assert "on_call raised; the call goes on" in caplog.text


# --- lines ----------------------------------------------------------------------------------------


async def test_a_sign_of_several_lines_comes_back_as_it_was_read() -> None:
    async with Sandbox() as sandbox:
        account = sandbox.add_account(sign="第一行\n第二行")
        async with SessionManager(hosts=sandbox.hosts) as manager:
            me = manager.session(account.credential)
            info = await get_account_info(me)
            await update_sign(me, info.sign)
        assert account.sign == "第一行\n第二行"
