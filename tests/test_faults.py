"""Whatever happens on the wire, a call ends as its author meant it to: the matrix of faults x
endpoints.

A row is a fault on raw sockets and the outcome that it shall have. It is put through three acts:

1. with every endpoint, without retries: the exact error class or the right record, one request at
the server, in time;
2. right after it, through the same manager: a good reply gives the right record;
3. with one retry, the fault first and a good reply second: what may be sent again is, and nothing
else; a POST never.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl as tls
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver
from fault_table import CONTINUE, DECOYS, JSON, ROWS, STORM, Row
from faults import (
    CLOSE,
    HANG,
    RESET,
    Drip,
    FaultServer,
    Pause,
    Received,
    Script,
    Step,
    chunked,
    deaf_port,
    refusing_port,
    reply,
    serve,
)
from samples_of import coroutine_of

import bili_account_async as bili
from bili_account_async import (
    BiliError,
    Credential,
    Hosts,
    HostState,
    Limits,
    ProtocolError,
    RateLimited,
    RequestEvent,
    RequestTimeout,
    Retry,
    SchemaError,
    Session,
    SessionManager,
    TransportError,
    get_account_info,
    get_vip_info,
    update_sign,
)

IN_ALL_ACTS = ("get_account_info", "get_coin_exp", "update_sign")
SHORT = 0.5
"""The timeout of calls that nothing else ends; long enough for hundreds of them to be under way."""
LESS_THAN_A_PAUSE = 0.9
"""So that the limiter gives up at once when the server says slow down without saying for how long.
"""
SLACK = 0.6
"""Seconds after its timeout at which a call may end while hundreds of others run."""

Call = Callable[[Session], Awaitable[object]]
CALLS: dict[str, Call] = {name: coroutine_of(name) for name in bili.ENDPOINTS}
GETS = [name for name, endpoint in bili.ENDPOINTS.items() if endpoint.method == "GET"]
PATHS = {endpoint.path: name for name, endpoint in bili.ENDPOINTS.items()}
SAMPLES = Path(__file__).parent / "samples"
GOOD = {
    name: (SAMPLES / f"{name}.json").read_bytes().strip() for name in CALLS if name != "clear_sign"
}
GOOD["clear_sign"] = GOOD["update_sign"]
ME = Credential(sessdata="planted-sessdata", dede_user_id=293793435, bili_jct="planted-jct")
APP = Credential(access_key="planted-access-key")


def asked(request: Received) -> str:
    """The endpoint that a request is for."""
    if request.path == bili.ENDPOINTS["clear_sign"].path and request.form["user_sign"] == "":
        return "clear_sign"
    return PATHS[request.path] if PATHS[request.path] != "clear_sign" else "update_sign"


def good(request: Received) -> Script:
    return [reply(GOOD[asked(request)])]


@pytest.fixture(scope="module")
def records() -> dict[str, object]:
    """The record of each endpoint's good reply."""

    async def ask() -> dict[str, object]:
        async with serve(good) as server, managed(server) as manager:
            me = manager.session(ME)
            return {name: await call(me) for name, call in CALLS.items()}

    return asyncio.run(ask())


def managed(server: FaultServer, **options: Any) -> SessionManager:
    options = {
        "hosts": server.hosts,
        "limits": Limits.none(),
        "retry": Retry.none(),
        "timeout": 5.0,
    } | options
    return SessionManager(**options)


async def outcome(call: Call, session: Session) -> tuple[object, float]:
    """Return the result or the error of a call, and the seconds that it took."""
    started = time.perf_counter()
    try:
        result = await call(session)
    except Exception as error:
        result = error
    return result, time.perf_counter() - started


def wrong(
    fault: Row, name: str, result: object, record: object, *, by_limiter: bool = False
) -> str | None:
    """Return how the result differs from the one that the row expects.

    With `by_limiter`, the limiter may have told what it had heard.
    """
    if fault.outcome is None:
        return None if result == record and type(result) is type(record) else f"{name}: {result!r}"
    if type(result) is not fault.outcome:
        return f"{name}: expected {fault.outcome.__name__}, got {result!r}"
    expected = {
        key: value for key, value in fault.told.items() if key != "retry_after" or not by_limiter
    }
    told = {key: getattr(result, key) for key in expected}
    if result.endpoint != name or told != expected:
        return f"{name}: expected {expected}, got {told}"
    return None


async def wrong_outcomes(fault: Row, records: dict[str, object]) -> list[str]:
    """Put one row through the three acts with every endpoint; gives what was not
    as it should be.
    """
    acts: dict[str, str] = {}
    seen: Counter[tuple[str, str]] = Counter()

    def script(request: Received) -> Script:
        name = asked(request)
        act = acts[name]
        seen[name, act] += 1
        return (
            fault.script(GOOD[name])
            if act == "fault" or (act == "again" and seen[name, act] == 1)
            else good(request)
        )

    silent = waits(fault)
    found: list[str | None] = []
    states: list[HostState] = []

    async def three_acts(name: str, call: Call) -> None:
        is_get = bili.ENDPOINTS[name].method == "GET"

        acts[name] = "fault"
        result, took = await outcome(call, plain.session(ME))
        found.append(wrong(fault, name, result, records[name]))
        if silent and not SHORT - 0.001 <= took <= SHORT + SLACK:
            found.append(f"{name}: took {took:.3f} s")
        if seen[name, "fault"] != 1:
            found.append(f"{name}: the fault was met {seen[name, 'fault']} times")

        if name not in IN_ALL_ACTS:
            return
        acts[name] = "after"
        manager = fresh if fault.outcome is RateLimited else plain
        result, _ = await outcome(call, manager.session(ME))
        lost = fault.ends_connection and not is_get and isinstance(result, TransportError)
        if result != records[name] and not lost:
            found.append(f"{name}, afterwards: {result!r}")

        acts[name] = "again"
        again = fault.retried and is_get
        async with managed(server, retry=once_more, timeout=LESS_THAN_A_PAUSE) as stubborn:
            result, _ = await outcome(call, stubborn.session(ME))
            states.extend(stubborn.limits_state().values())
        if again and result != records[name]:
            found.append(f"{name}, again: {result!r}")
        if not again:
            found.append(wrong(fault, name, result, records[name], by_limiter=True))
        if seen[name, "again"] != 1 + again:
            found.append(f"{name}: sent {seen[name, 'again']} times, expected {1 + again}")

    once_more = Retry(attempts=2, backoff=0.001, attempt_timeout=SHORT if silent else 5.0)
    async with (
        serve(script) as server,
        managed(server, timeout=SHORT if silent else 5.0) as plain,
        managed(server) as fresh,
    ):
        await asyncio.gather(*(three_acts(name, call) for name, call in CALLS.items()))
        states += [*plain.limits_state().values(), *fresh.limits_state().values()]
        found += [f"{state} is not idle" for state in states if state.in_flight or state.waiting]
    return [problem for problem in found if problem]


def waits(fault: Row) -> bool:
    """Return True if only the timeout ends it."""
    return fault.outcome is RequestTimeout or fault.name.endswith(("falls silent", "that drips"))


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=fault.name) for fault in ROWS if not waits(fault)]
)
async def test_a_fault_ends_as_the_table_says_and_the_manager_goes_on(
    fault: Row, records: dict[str, object]
) -> None:
    assert await wrong_outcomes(fault, records) == []


@pytest.mark.parametrize("part", range(3))
async def test_whatever_falls_silent_ends_at_its_timeout(
    part: int, records: dict[str, object]
) -> None:
    silent = [fault for fault in ROWS if waits(fault)][part::3]
    found = await asyncio.gather(*(wrong_outcomes(fault, records) for fault in silent))
    assert {fault.name: wrong for fault, wrong in zip(silent, found, strict=True) if wrong} == {}


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(ROWS) >= 400
    assert len({fault.name for fault in ROWS}) == len(ROWS)


# --- before a request can be sent -----------------------------------------------------------------


def at(port: int, scheme: str = "http", name: str = "127.0.0.1") -> Hosts:
    base = f"{scheme}://{name}:{port}"
    return Hosts(api=base, www=base, passport=base)


async def failures(
    manager: SessionManager, expected: type[BiliError], credential: Credential = ME
) -> dict[str, BiliError]:
    """Call every endpoint at once; each has to fail with exactly this class."""
    names = [
        name
        for name, endpoint in bili.ENDPOINTS.items()
        if endpoint.auth.missing_from(credential) is None
    ]
    results = await asyncio.gather(
        *(outcome(CALLS[name], manager.session(credential)) for name in names)
    )
    found = {name: result for name, (result, _) in zip(names, results, strict=True)}
    assert {name: type(error) for name, error in found.items()} == dict.fromkeys(names, expected)
    return found  # type: ignore[return-value]


def manager_at(hosts: Hosts, **options: Any) -> SessionManager:
    return SessionManager(
        **{"hosts": hosts, "limits": Limits.none(), "retry": Retry.none(), "timeout": 5.0} | options
    )


async def test_a_refused_connection_is_a_transport_error_and_even_a_post_is_tried_again() -> None:
    events: list[RequestEvent] = []
    again = Retry(attempts=2, backoff=0.001)
    async with (
        refusing_port() as port,
        manager_at(at(port), retry=again, on_request=events.append) as manager,
    ):
        found = await failures(manager, TransportError)
    assert all(
        error.sent is False and "Connection refused" in str(error) for error in found.values()
    )
    assert Counter(event.endpoint for event in events) == dict.fromkeys(CALLS, 2)


async def test_a_connection_that_nobody_takes_ends_at_the_timeout() -> None:
    async with deaf_port() as port, manager_at(at(port), timeout=SHORT) as manager:
        started = time.perf_counter()
        await failures(manager, RequestTimeout)
        assert SHORT <= time.perf_counter() - started < SHORT + SLACK


async def test_a_name_that_does_not_resolve_is_a_transport_error_and_nothing_was_sent() -> None:
    class Nowhere(AbstractResolver):
        async def resolve(self, *_: object, **__: object) -> Any:
            raise OSError(-2, "Name or service not known")

        async def close(self) -> None: ...

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Nowhere())) as client,
        manager_at(Hosts(), client_session=client) as manager,
    ):
        found = await failures(manager, TransportError)
    assert all(
        error.sent is False and "can't be resolved" in str(error) for error in found.values()
    )


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [(CLOSE, TransportError), (RESET, TransportError), (HANG, RequestTimeout)],
)
async def test_a_connection_that_ends_before_the_request_is_read_is_a_transport_error(
    greeting: Step, expected: type[BiliError]
) -> None:
    async with (
        serve(good, greeting=[greeting]) as server,
        managed(server, timeout=SHORT) as manager,
    ):
        await failures(manager, expected)
        assert server.connections == len(CALLS)
        assert server.requests == []


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(certificate: trustme.LeafCert) -> tls.SSLContext:
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> tls.SSLContext:
    context = tls.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_certificate_of_a_root_of_ones_own_works_with_ssl(authority: trustme.CA) -> None:
    context = server_side(authority.issue_cert("localhost"))
    async with (
        serve(good, ssl=context, name="localhost") as server,
        managed(server, ssl=trusting(authority)) as manager,
    ):
        for name, call in CALLS.items():
            assert await call(manager.session(ME)) is not NotImplemented, name
        assert (server.connections, len(server.requests)) == (1, len(CALLS))


YESTERDAY = datetime.now(UTC) - timedelta(days=1)
BAD_CERTIFICATES: dict[str, Callable[[trustme.CA], tuple[trustme.LeafCert, trustme.CA | None]]] = {
    "expired": lambda ca: (
        ca.issue_cert("localhost", not_before=YESTERDAY - timedelta(9), not_after=YESTERDAY),
        ca,
    ),
    "not valid yet": lambda ca: (
        ca.issue_cert("localhost", not_before=YESTERDAY + timedelta(9)),
        ca,
    ),
    "for another host": lambda ca: (ca.issue_cert("example.com"), ca),
    "for the address and not the name": lambda ca: (ca.issue_cert("127.0.0.1"), ca),
    "by somebody else": lambda ca: (trustme.CA().issue_cert("localhost"), ca),
    "by nobody whom the system trusts": lambda ca: (ca.issue_cert("localhost"), None),
}


@pytest.mark.parametrize("kind", BAD_CERTIFICATES)
async def test_a_bad_certificate_is_refused_once_and_nothing_is_sent(
    kind: str, authority: trustme.CA
) -> None:
    certificate, trusted = BAD_CERTIFICATES[kind](authority)
    context = trusting(trusted) if trusted else None
    async with (
        serve(good, ssl=server_side(certificate), name="localhost") as server,
        managed(server, ssl=context, retry=Retry(attempts=3, backoff=0.001)) as manager,
    ):
        found = await failures(manager, TransportError)
        assert all(error.sent is False and "certificate" in str(error) for error in found.values())
        assert server.requests == []
        assert server.connections <= len(CALLS)


async def test_what_is_not_tls_where_tls_is_expected_is_a_transport_error() -> None:
    async with (
        serve(good, greeting=[b"HTTP/1.1 400 Bad Request\r\n\r\n", HANG]) as server,
        manager_at(at(server.port, "https")) as manager,
    ):
        found = await failures(manager, TransportError)
    assert all(error.sent is False for error in found.values())


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [(CLOSE, TransportError), (RESET, TransportError), (HANG, RequestTimeout)],
)
async def test_a_tls_handshake_that_ends_or_falls_silent(
    greeting: Step, expected: type[BiliError]
) -> None:
    async with (
        serve(good, greeting=[Pause(0.01), greeting]) as server,
        manager_at(at(server.port, "https"), timeout=SHORT) as manager,
    ):
        found = await failures(manager, expected)
        if expected is TransportError:
            assert all(error.sent is False for error in found.values())


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_tls_connection_cut_off_inside_the_body_is_a_transport_error(
    end: Step, authority: trustme.CA
) -> None:
    def cut(request: Received) -> Script:
        return [reply(GOOD[asked(request)])[:-5], Pause(0.01), end]

    context = server_side(authority.issue_cert("localhost"))
    async with (
        serve(cut, ssl=context, name="localhost") as server,
        managed(server, ssl=trusting(authority)) as manager,
    ):
        await failures(manager, TransportError)
        assert len(server.requests) == len(CALLS)


# --- a proxy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_connections_is_a_transport_error(scheme: str) -> None:
    async with refusing_port() as port:
        proxy = f"http://user:planted-proxy-password@127.0.0.1:{port}"
        async with manager_at(at(9, scheme), proxy=proxy) as manager:
            found = await failures(manager, TransportError)
    assert all(error.sent is False and "planted" not in str(error) for error in found.values())


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"]
)
async def test_a_proxy_that_opens_no_tunnel_is_a_transport_error_and_sees_no_credential(
    status: str,
) -> None:
    async with (
        serve(lambda _: [reply(b"no", status=status)]) as proxy,
        manager_at(at(9, "https"), proxy=f"http://127.0.0.1:{proxy.port}") as manager,
    ):
        found = await failures(manager, TransportError)
    assert all(error.sent is False and status[:3] in str(error) for error in found.values())
    assert {request.method for request in proxy.requests} == {"CONNECT"}
    assert not any("cookie" in request.headers for request in proxy.requests)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (CLOSE, TransportError),
        (RESET, TransportError),
        (HANG, RequestTimeout),
        (b"nonsense\r\n\r\n", ProtocolError),
    ],
)
async def test_a_proxy_that_breaks_the_tunnels_opening(
    step: Step, expected: type[BiliError]
) -> None:
    async with (
        serve(lambda _: [step]) as proxy,
        manager_at(
            at(9, "https"), proxy=f"http://127.0.0.1:{proxy.port}", timeout=SHORT
        ) as manager,
    ):
        await failures(manager, expected)


# --- data that is not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b'{"code":0}', b'{"code":0,"data":null,"number":null}', b'{"code":0,"data":[],"number":""}'],
)
async def test_a_success_without_its_data_is_a_schema_error_and_not_asked_again(
    body: bytes,
) -> None:
    async with (
        serve(lambda _: [reply(body)]) as server,
        managed(server, retry=Retry(attempts=3, backoff=0.001)) as manager,
    ):
        for name in GETS:
            result, _ = await outcome(CALLS[name], manager.session(ME))
            assert type(result) is SchemaError, name
        assert len(server.requests) == len(GETS)


# --- compressed bombs -----------------------------------------------------------------------------


def packed(wbits: int, megabytes: int = 200) -> bytes:
    """Spaces; flushed after each megabyte, so that one can be packed and repeated.

    Its checksum is never reached.
    """
    packer = zlib.compressobj(9, wbits=wbits)
    first, again = (
        packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + again * (megabytes - 1) + packer.flush()


BOMBS = {"gzip": 31, "deflate": 15, "deflate without its header": -15}


@pytest.fixture(scope="module", params=BOMBS)
def bomb(request: pytest.FixtureRequest) -> Iterator[tuple[bytes, str]]:
    return packed(BOMBS[request.param]), request.param.split()[0]


@pytest.mark.parametrize("status", ["200 OK", "412 Precondition Failed"])
@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
async def test_a_bomb_costs_little_memory_and_time(
    bomb: tuple[bytes, str], framing: str, status: str
) -> None:
    data, token = bomb
    assert len(data) < 250_000
    headers = (JSON, f"Content-Encoding: {token}")
    sent = {
        "length": reply(data, headers=headers, status=status),
        "chunks": reply(
            chunked(data),
            headers=(*headers, "Transfer-Encoding: chunked"),
            length=None,
            status=status,
        ),
        "none": reply(data, headers=headers, length=None, status=status),
    }[framing]
    async with serve(lambda _: [sent, CLOSE]) as server, managed(server) as manager:
        me = manager.session(ME)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            started = time.perf_counter()
            with pytest.raises(ProtocolError if status[:3] == "200" else RateLimited):
                await get_account_info(me)
            assert time.perf_counter() - started < 1
            assert tracemalloc.get_traced_memory()[1] - before < 8 << 20
        finally:
            tracemalloc.stop()


async def test_an_honest_large_body_is_read_whatever_it_is_packed_in() -> None:
    for pack, token in ((gzip.compress, "gzip"), (zlib.compress, "deflate")):

        def script(
            request: Received, pack: Callable[[bytes], bytes] = pack, token: str = token
        ) -> Script:
            return [
                reply(
                    pack(GOOD[asked(request)].rjust(1 << 20)),
                    headers=(f"Content-Encoding: {token}",),
                )
            ]

        async with serve(script) as server, managed(server) as manager:
            assert (await get_account_info(manager.session(ME))).mid == 293793435


# --- idle connections -----------------------------------------------------------------------------


async def warm(manager: SessionManager, connections: int) -> None:
    """Leave so many idle connections in the pool."""
    me = manager.session(ME)
    await asyncio.gather(*(get_account_info(me) for _ in range(connections)))


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("connections", [1, 8])
async def test_idle_connections_that_turn_out_dead_are_invisible_to_a_get(
    connections: int, end: Step
) -> None:
    """Each connection serves one request and ends when it gets a second one, as if it had ended
    while it lay idle.
    """
    events: list[RequestEvent] = []

    def script(request: Received) -> Script:
        return [end] if request.nth > 1 else [*([] if warmed else [Pause(0.02)]), *good(request)]

    warmed = False
    async with serve(script) as server, managed(server, on_request=events.append) as manager:
        await warm(manager, connections)
        assert server.connections == connections
        warmed = True
        events.clear()
        for name in GETS:
            result, _ = await outcome(CALLS[name], manager.session(ME))
            assert not isinstance(result, Exception), (name, result)
        died = [event for event in events if event.outcome is not None]
        assert len(events) == len(server.requests) - connections  # none was sent behind our back
        assert all(type(event.outcome) is TransportError for event in died)
        assert len(died) == len(GETS) + connections - 1


async def test_an_error_reply_leaves_a_connection_whose_later_death_is_invisible_too() -> None:
    def script(request: Received) -> Script:
        return [CLOSE] if request.nth > 1 else [reply(b'{"code":-404,"message":"no"}')]

    async with serve(script) as server, managed(server) as manager:
        for _ in range(5):
            with pytest.raises(bili.ApiError):
                await get_vip_info(manager.session(ME))
    assert [request.nth for request in server.requests] == [1, 2, 1, 2, 1, 2, 1, 2, 1]


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_post_on_a_dead_idle_connection_is_an_error_and_not_sent_again(end: Step) -> None:
    def script(request: Received) -> Script:
        return [end] if request.method == "POST" else good(request)

    async with (
        serve(script) as server,
        managed(server, retry=Retry(attempts=3, backoff=0.001)) as manager,
    ):
        me = manager.session(ME)
        await get_account_info(me)
        with pytest.raises(TransportError) as caught:
            await update_sign(me, "sign")
        assert caught.value.sent is True
        assert [request.method for request in server.requests] == ["GET", "POST"]


async def test_a_fresh_connection_that_dies_is_an_error_after_one_request_without_retries() -> None:
    async with serve(lambda _: [CLOSE]) as server, managed(server) as manager:
        await failures(manager, TransportError)
        assert len(server.requests) == len(CALLS)


LEFTOVERS = {
    "a whole reply": reply(b'{"code":0,"data":{"mid":666}}'),
    "a refusal": reply(b'{"code":-101,"message":"another\'s"}'),
    "a reply without its end": reply(b"{}", length=1000),
    "half a status line": b"HTTP/1.1 200 O",
    "garbage": b"\x00\xffgarbage",
    "an interim reply": CONTINUE,
    "what a proxy says that has waited too long": reply(
        status="408 Request Time-out", headers=("Connection: close",)
    ),
}


@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize("name", CALLS)
async def test_what_comes_over_an_idle_connection_is_nobodys_answer(
    leftover: str, name: str, records: dict[str, object]
) -> None:
    said = asyncio.Event()

    def script(request: Received) -> Iterator[Step]:
        yield from good(request)
        if request.credential == "somebody":
            yield Pause(0.005)
            yield LEFTOVERS[leftover]
            said.set()

    async with serve(script) as server, managed(server) as manager:
        await get_account_info(manager.session(Credential(sessdata="somebody")))
        await said.wait()
        await asyncio.sleep(0)  # it is in our socket by now: let the loop read it

        assert await CALLS[name](manager.session(ME)) == records[name]
        asked = [request.credential for request in server.requests]
        # A GET may have been written on the spoilt connection before it was given up. A POST, which
        # is never repeated, must not.
        assert asked[:2] == ["somebody", "planted-sessdata"]
        assert asked[2:] in ([], ["planted-sessdata"][: name in GETS])


# --- nothing leaks and nothing is followed --------------------------------------------------------


@pytest.mark.parametrize("number", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("credential", [ME, APP], ids=["cookie", "token"])
async def test_a_redirect_is_never_followed_and_the_credential_stays_here(
    number: int, credential: Credential
) -> None:
    async with serve(good, name="localhost") as elsewhere, AsyncExitStack() as stack:
        for location in (
            f"http://localhost:{elsewhere.port}/x",
            f"//localhost:{elsewhere.port}/x",
            "/elsewhere",
        ):
            sent = reply(
                status=f"{number} Gone", headers=(f"Location: {location}", f"URI: {location}")
            )
            server = await stack.enter_async_context(serve(lambda _, sent=sent: [sent]))
            manager = await stack.enter_async_context(
                managed(server, retry=Retry(attempts=3, backoff=0.001))
            )
            found = await failures(manager, ProtocolError, credential)
            assert {error.status for error in found.values()} == {number}
            assert Counter(request.path for request in server.requests) == Counter(
                bili.ENDPOINTS[name].path for name in found
            )
        assert elsewhere.connections == 0


@pytest.mark.parametrize("cookies", [STORM, DECOYS], ids=["storm", "decoys"])
@pytest.mark.parametrize("lent", [False, True], ids=["own pool", "lent pool"])
async def test_no_cookie_that_the_server_sets_is_ever_sent(
    cookies: tuple[str, ...], lent: bool
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve(
                lambda request: [reply(GOOD[asked(request)], headers=(JSON, *cookies))],
                name="localhost",
            )
        )
        options: dict[str, Any] = {}
        if lent:
            jar = aiohttp.CookieJar(unsafe=True)
            jar.update_cookies({"SESSDATA": "planted-decoy", "hosts-own": "planted-decoy"})
            client = await stack.enter_async_context(
                aiohttp.ClientSession(
                    cookie_jar=jar, headers={"X-Host": "planted-decoy", "Cookie": "a=planted-decoy"}
                )
            )
            options["client_session"] = client
        manager = await stack.enter_async_context(managed(server, **options))
        other = Credential(sessdata="other-sessdata", dede_user_id=2, bili_jct="other-jct")
        for credential in (ME, other, APP, ME):
            for name, endpoint in bili.ENDPOINTS.items():
                if endpoint.auth.missing_from(credential) is None:
                    await CALLS[name](manager.session(credential))
        for request in server.requests:
            expected = {"planted-sessdata": ME, "other-sessdata": other, "planted-access-key": APP}[
                request.credential
            ]
            wanted = {
                "SESSDATA": expected.sessdata,
                "DedeUserID": str(expected.dede_user_id),
                "bili_jct": expected.bili_jct,
            }
            assert request.cookies == ({} if expected is APP else wanted)
            assert "decoy" not in repr(request.headers)
        if lent:
            assert {cookie.key for cookie in jar} == {"SESSDATA", "hosts-own"}


# --- time -----------------------------------------------------------------------------------------

STALLS: dict[str, Callable[[bytes], Script]] = {
    "no answer": lambda good: [HANG],
    "half the headers": lambda good: [reply(good)[:40], HANG],
    "half the body": lambda good: [reply(good)[:-9], HANG],
    "a drip of headers": lambda good: [Drip(reply(good), every=0.01)],
    "a drip of body": lambda good: [reply(good)[: -len(good)], Drip(good, every=0.01)],
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("seconds", [0.05, 0.2])
async def test_a_call_ends_within_milliseconds_of_its_timeout(stall: str, seconds: float) -> None:
    async with (
        serve(lambda request: STALLS[stall](GOOD[asked(request)])) as server,
        managed(server) as manager,
    ):
        late = 1.0
        for _ in range(5):  # a busy machine may be late, but not every time
            result, took = await outcome(
                lambda me: get_account_info(me, timeout=seconds), manager.session(ME)
            )
            assert type(result) is RequestTimeout
            assert took > seconds - 0.001
            late = min(late, took - seconds)
            if late < 0.02:
                return
        raise AssertionError(f"{late:.3f} s late at best")
