"""`fetch_snapshot` over sessions of any make: each section is there or accounted for, nothing that
failed is kept alive by itself, and an endpoint that is no section is noticed by nobody.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from samples_of import EXPECTED, OF_SECTIONS

import bili_account_async
from bili_account_async import (
    ALL_SECTIONS,
    ENDPOINTS,
    Auth,
    BiliError,
    CredentialMissing,
    Endpoint,
    Limits,
    NotLoggedIn,
    ProtocolError,
    RiskControlled,
    SessionManager,
    TransportError,
    endpoints,
    fetch_snapshot,
)
from bili_account_async.sandbox import Sandbox

Act = Callable[[], Awaitable[Any]]


class Session:
    """Answers each section from the samples, or as `acts` says."""

    def __init__(self, **acts: Act) -> None:
        self.acts = acts
        self.asked: list[str] = []

    async def call(self, endpoint: Endpoint[Any], **_: object) -> Any:
        self.asked.append(endpoint.name)
        act = self.acts.get(endpoint.name.removeprefix("get_"))
        return EXPECTED[endpoint.name] if act is None else await act()


def raising(make: Callable[[], BaseException]) -> Act:
    async def act() -> None:
        await asyncio.sleep(0)
        raise make()

    return act


async def hang() -> None:
    await asyncio.Event().wait()


# --- cancelled by somebody ------------------------------------------------------------------------


async def test_a_section_whose_call_somebody_else_cancelled_has_failed() -> None:
    session = Session(vip_info=raising(asyncio.CancelledError))
    snapshot = await fetch_snapshot(session)
    assert not snapshot.complete
    assert snapshot.failures.keys() == {"vip_info"}
    error = snapshot.failures["vip_info"]
    assert type(error) is TransportError
    assert str(error) == "get_vip_info: the call was cancelled, and not by its caller"


async def test_if_every_call_was_cancelled_every_section_has_failed() -> None:
    acts = dict.fromkeys(ALL_SECTIONS, raising(asyncio.CancelledError))
    snapshot = await fetch_snapshot(Session(**acts), sections={"vip_info", "coin_log"})
    assert snapshot.failures.keys() == snapshot.sections == {"vip_info", "coin_log"}
    with pytest.raises(ExceptionGroup) as strict:
        await fetch_snapshot(Session(**acts), strict=True)
    assert {type(error) for error in strict.value.exceptions} == {TransportError}


async def test_each_section_that_was_asked_for_is_found_failed_or_skipped() -> None:
    session = Session(
        vip_info=raising(asyncio.CancelledError),
        coin_log=raising(lambda: ProtocolError("no envelope")),
        coin_exp=raising(lambda: CredentialMissing("the credential lacks dede_user_id")),
    )
    snapshot = await fetch_snapshot(session)
    found = {name for name in ALL_SECTIONS if getattr(snapshot, name) is not None}
    parts = [found, snapshot.failures.keys(), snapshot.skipped]
    assert set().union(*parts) == ALL_SECTIONS == snapshot.sections
    assert sum(map(len, parts)) == 8
    assert not snapshot.complete


async def test_the_caller_s_own_cancellation_passes_at_once() -> None:
    session = Session(vip_info=raising(asyncio.CancelledError), coin_log=hang)
    task = asyncio.create_task(fetch_snapshot(session))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(session.asked) == 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await fetch_snapshot(Session(coin_log=hang))


async def test_a_dead_login_is_told_also_when_another_call_was_cancelled() -> None:
    session = Session(
        vip_info=raising(asyncio.CancelledError),
        coin_exp=raising(lambda: NotLoggedIn("账号未登录", code=-101)),
        coin_log=hang,
    )
    with pytest.raises(NotLoggedIn):
        await fetch_snapshot(session)


# --- what failed can go ---------------------------------------------------------------------------


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Mistake(Exception):
    pass


class Kept:
    """An object that a failing call has in its frame, as it has a reply's body."""


def remembering(make: Callable[[], BaseException], seen: list[weakref.ref[Any]]) -> Act:
    async def act() -> None:
        body = Kept()
        seen.append(weakref.ref(body))
        error = make()
        seen.append(weakref.ref(error))
        await asyncio.sleep(0)
        try:
            raise error
        finally:
            del error  # a session that keeps no error of its own

    return act


async def hanging_with(seen: list[weakref.ref[Any]]) -> None:
    body = Kept()
    seen.append(weakref.ref(body))
    await asyncio.Event().wait()


async def test_a_failed_snapshot_goes_with_its_last_reference() -> None:
    seen: list[weakref.ref[Any]] = []
    session = Session(coin_log=remembering(lambda: ProtocolError("no envelope"), seen))
    with no_collector():
        snapshot = await fetch_snapshot(session)
        body, error = seen
        assert body() is None, "the failure holds the frames of its call"
        assert error() is snapshot.failures["coin_log"]
        del snapshot
        assert error() is None


async def test_a_strict_snapshot_s_errors_go_with_their_group() -> None:
    seen: list[weakref.ref[Any]] = []
    session = Session(coin_log=remembering(lambda: ProtocolError("no envelope"), seen))
    with no_collector():
        try:
            await fetch_snapshot(session, strict=True)
        except ExceptionGroup as group:
            raised = [type(error) for error in group.exceptions]
        assert raised == [ProtocolError]
        assert [ref() for ref in seen] == [None, None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: NotLoggedIn("账号未登录", code=-101),
        lambda: RiskControlled("风控校验失败", code=-352),
        lambda: Mistake("a wrapper's own"),
    ],
)
async def test_a_fatal_error_goes_when_it_was_dealt_with(make: Callable[[], Exception]) -> None:
    seen: list[weakref.ref[Any]] = []
    session = Session(
        coin_log=remembering(make, seen),
        coin_exp=remembering(lambda: ProtocolError("no envelope"), seen),
        vip_info=lambda: hanging_with(seen),
    )
    with no_collector():
        try:
            await fetch_snapshot(session)
        except (BiliError, Mistake) as error:
            raised = type(error)
        assert raised is type(make())
        await asyncio.sleep(0)
        assert len(seen) == 5
        assert [ref() for ref in seen] == [None] * 5


# --- a tenth endpoint -----------------------------------------------------------------------------


@attrs.frozen
class Stat:
    follower: int


TENTH = Endpoint("get_stat", "GET", "api", "/x/relation/stat", Auth(), Stat)


@pytest.fixture
def with_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as it is when the table has a GET more, one that needs a parameter."""
    table = MappingProxyType({**ENDPOINTS, TENTH.name: TENTH})
    monkeypatch.setattr(endpoints, "ENDPOINTS", table)
    for name in ("snapshot", "polling"):
        module = importlib.import_module(f"bili_account_async.{name}")
        monkeypatch.setattr(bili_account_async, name, module)  # so that it is put back
        for loaded in [*sys.modules]:
            if loaded == module.__name__ or loaded.startswith(f"{module.__name__}."):
                monkeypatch.delitem(sys.modules, loaded)


@pytest.mark.usefixtures("with_a_tenth")
async def test_a_get_that_is_no_section_is_noticed_by_no_snapshot() -> None:
    snapshot = importlib.import_module("bili_account_async.snapshot")
    assert TENTH.name in snapshot.ENDPOINTS
    session = Session()
    taken = await snapshot.fetch_snapshot(session)
    assert taken.complete
    assert sorted(session.asked) == sorted(f"get_{section}" for section in OF_SECTIONS)
    assert snapshot.ALL_SECTIONS == ALL_SECTIONS


@pytest.mark.usefixtures("with_a_tenth")
async def test_a_get_that_is_no_section_is_noticed_by_no_poller() -> None:
    polling = importlib.import_module("bili_account_async.polling")
    async with Sandbox() as sandbox:
        credential = sandbox.add_account().credential
        manager = SessionManager(hosts=sandbox.hosts, limits=Limits.none())
        async with manager, polling.Poller(manager) as poller:
            poller.add("alice", credential)
            event = await anext(aiter(poller))
        assert type(event) is polling.SnapshotTaken
        assert event.snapshot.complete
        asked = {request.endpoint for request in sandbox.requests}
        assert asked == {f"get_{section}" for section in OF_SECTIONS}
