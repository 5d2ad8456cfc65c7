"""No secret is shown anywhere: planted in every part of a credential, echoed by the server, looked
for all over.

The secrets stand in a `Vault`, whose repr is its name, so that the frames of these tests hold none
either.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import inspect
import json
import logging
import os
import pickle
import pkgutil
import pprint
import re
import reprlib
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus, unquote

import attrs
import pytest
import rich
import rich.traceback
import structlog
from faults import CLOSE, HANG, RESET, Script, refusing_port, reply, serve
from test_faults import CALLS, GOOD, asked

import bili_account_async as bili
from bili_account_async import (
    AccountSession,
    BiliError,
    Credential,
    CredentialError,
    Hosts,
    Limits,
    RateLimit,
    RequestEvent,
    Retry,
    SessionManager,
    fetch_snapshot,
    get_account_info,
    get_vip_info,
    update_sign,
)


class Vault:
    """The planted secrets.

    Each is made of marked pieces, so that a part of a secret is found, too.
    """

    MARKS: ClassVar = (
        "qzSESSx",
        "qzMIDx",
        "qzENDx",
        "qzJCTx",
        "qzCSRFx",
        "qzKEYx",
        "qzTOKENx",
        "qzPROXYx",
        "qzBADx",
    )

    def __init__(self) -> None:
        self._cookie = Credential(
            sessdata="qzSESSx%2C1700000000,qzMIDx*a1_-qzENDx",
            dede_user_id=7,
            bili_jct="qzJCTx'/qzCSRFx",
        )
        self._app = Credential(access_key="qzKEYx+/&=%qzTOKENx")

    def __repr__(self) -> str:
        return "<Vault>"

    def session(self, manager: SessionManager, kind: str) -> AccountSession:
        return manager.session(self._cookie if kind == "cookie" else self._app)

    def echo(self, kind: str) -> str:
        """Every secret of a credential in every spelling, as a server that got them may give them
        back.
        """
        secrets = (
            (self._cookie.sessdata, self._cookie.bili_jct)
            if kind == "cookie"
            else (self._app.access_key,)
        )
        return " | ".join(
            spelling for secret in secrets if secret for spelling in sorted(spellings(secret))
        )

    def malformed(self) -> Iterator[Callable[[], object]]:
        """Attempts to make a credential of something secret that can't be one."""
        for bad in (
            "qzBADx qzSESSx",
            "qzBADx;qzSESSx",
            "qzBADx\r\nqzSESSx",
            "qzBADx\0",
            "qzBADxé",
            "",
        ):
            for part in ("sessdata", "access_key"):
                yield lambda bad=bad, part=part: Credential(**{part: bad})
            yield lambda bad=bad: Credential(sessdata="qzSESSx", bili_jct=bad)
            yield lambda bad=bad: Credential.from_cookie_header(
                f"SESSDATA=qzSESSx; bili_jct={bad}; DedeUserID=qzMIDx"
            )
            yield lambda bad=bad: Credential.from_env(
                {"BILI_SESSDATA": "qzSESSx", "BILI_JCT": bad or "qzBADx qz"}
            )
            yield lambda bad=bad: Credential.from_env({"BILI_COOKIE": f"qzSESSx={bad}"})
            yield lambda bad=bad: Credential.parse(bad)
            yield lambda bad=bad: Credential.parse(
                json.dumps({"SESSDATA": "qzSESSx", "bili_jct": bad})
            )
            yield lambda bad=bad: Credential.from_cookies({"SESSDATA": bad, "bili_jct": "qzJCTx"})
            yield lambda bad=bad: Credential.from_file(f"SESSDATA={bad}")
        yield lambda: Credential(sessdata="qzSESSx", access_key="qzKEYx")
        yield lambda: Credential(sessdata=b"qzSESSx")  # type: ignore[arg-type]
        yield lambda: Credential(sessdata="qzSESSx", dede_user_id="qzMIDx")  # type: ignore[arg-type]
        yield lambda: Credential.from_cookie_header(["qzSESSx"])  # type: ignore[arg-type]
        yield lambda: Credential.from_cookie_header("SESSDATA=qzSESSx; SESSDATA=qzENDx")
        yield lambda: Credential.from_env({"BILI_SESSDATA": "qzSESSx", "BILI_ACCESS_KEY": "qzKEYx"})
        yield lambda: Credential.from_env({"BILI_JCT": "qzJCTx"})
        yield lambda: pickle.dumps(self._cookie)
        yield lambda: pickle.dumps(AccountSession(SessionManager(), self._cookie, None))

    def malformed_file(self, path: Path) -> Iterator[Callable[[], object]]:
        line = ".bilibili.com\tTRUE\t/\tTRUE\t0\t{}\t{}\n"
        for content in (
            "SESSDATA=qzSESSx qz",
            line.format("bili_jct", "qzJCTx"),
            line.format("SESSDATA", "qzBADx qz"),
        ):
            path.write_text(content)
            yield lambda: Credential.from_cookies_txt(path)
        path.write_bytes(b"qzSESSx\xff")
        yield lambda: Credential.from_cookies_txt(path)

    def found_in(self, text: str) -> list[str]:
        return [mark for mark in self.MARKS if mark.lower() in text.lower()]


def spellings(secret: str) -> set[str]:
    plain = unquote(secret)
    made = {spell(text) for text in (secret, plain) for spell in (str, quote, quote_plus)}
    made |= {quote(text, safe=safe) for text in (secret, plain) for safe in ("", "!'()*")}
    return made | {re.sub("%..", lambda escape: escape[0].lower(), text) for text in made}


def all_that_shows(error: BaseException) -> Iterator[tuple[str, str]]:
    """Every text that a program, a log or an error reporter makes of an exception."""
    yield "repr", repr(error)
    yield "str", str(error)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "traceback with locals", "".join(shown.format())
    walk = structlog.tracebacks.ExceptionDictTransformer(locals_max_string=10_000)
    walked = walk((type(error), error, error.__traceback__))
    yield "traceback whose locals rich has walked", repr(walked)
    chained = (error.__cause__, error.__context__, *getattr(error, "exceptions", ()))
    for other in filter(None, chained):
        yield from all_that_shows(other)
    yield "notes", repr(getattr(error, "__notes__", ""))
    attributes = {name: value for name, value in vars(error).items() if name != "payload"}
    yield "attributes", repr(attributes)
    if isinstance(error, BiliError):
        yield "pickle", repr(pickle.dumps(error))
        yield "copy", repr(vars(pickle.loads(pickle.dumps(error)))) + repr(copy.copy(error))


class Watch(logging.Handler):
    """All that is logged, formatted, with its arguments and with the locals of a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.shown: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.shown.append(
            (f"log {record.name}", f"{record.getMessage()} {record.args!r} {record.stack_info}")
        )
        if record.exc_info and record.exc_info[1]:
            self.shown += [
                (f"log {record.name} {where}", text)
                for where, text in all_that_shows(record.exc_info[1])
            ]


@pytest.fixture
def watch() -> Iterator[Watch]:
    root, handler = logging.getLogger(), Watch()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


class Shown:
    """The texts that were shown, and their places."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.leaks: set[tuple[str, str, tuple[str, ...]]] = set()
        self.classes: set[type] = set()

    def look(self, provoked_by: str, where: str, text: str) -> None:
        if marks := self.vault.found_in(text):
            self.leaks.add((provoked_by, where, tuple(marks)))

    def look_at(self, provoked_by: str, error: BaseException) -> None:
        self.classes.add(type(error))
        for where, text in all_that_shows(error):
            self.look(provoked_by, where, text)

    async def provoke(self, provoked_by: str, awaitable: Awaitable[object]) -> None:
        try:
            self.look(provoked_by, "result", repr(await awaitable))
        except (Exception, asyncio.CancelledError) as error:
            self.look_at(provoked_by, error)


# --- what the server echoes, and where ------------------------------------------------------------


def refusals(echo: str) -> Iterator[tuple[str, bytes]]:
    escaped = json.dumps(echo)[1:-1]
    for code in (-1, -101, -111, -352, -400, -412, -500, -509, -702, -799, 40015, 40021, 40022):
        yield f"message of code {code}", reply(f'{{"code":{code},"message":"{escaped}"}}'.encode())
    yield (
        "message of the first of two documents",
        reply(f'{{"code":-509,"message":"{escaped}"}}{{}}'.encode()),
    )
    yield "long message", reply(f'{{"code":-1,"message":"{"x" * 480}{escaped}"}}'.encode())
    yield (
        "message that is an object",
        reply(f'{{"code":-1,"message":{{"a":"{escaped}"}}}}'.encode()),
    )
    yield (
        "message of 412",
        reply(f'{{"code":-412,"message":"{escaped}"}}'.encode(), status="412 No"),
    )
    yield "page under 200", reply(f"<html>{echo}".encode())
    yield "JSON text", reply(f'"{escaped}"'.encode())
    yield "code", reply(f'{{"code":"{escaped}"}}'.encode())
    yield (
        "names of fields of the envelope",
        reply(f'{{"code":0,"{escaped}":1,"data":null}}'.encode()),
    )
    yield (
        "unknown fields and a wrong one",
        reply(f'{{"code":0,"data":{{"{escaped}":1,"mid":"{escaped}"}}}}'.encode()),
    )
    for status in (204, 206, 301, 400, 403, 404, 412, 429, 500, 503, 999):
        yield f"page under {status}", reply(echo.encode(), status=f"{status} No")
        yield f"reason of {status}", reply(status=f"{status} {echo}")
        yield f"headers of {status}", reply(status=f"{status} No", headers=echoing(echo))
    yield "headers of a page", reply(b"<html>", headers=echoing(echo))
    yield "long content type", reply(b"<html>", headers=(f"Content-Type: {'x' * 90}{echo}",))


def echoing(echo: str) -> tuple[str, ...]:
    names = (
        "Content-Type",
        "Location",
        "Retry-After",
        "Set-Cookie",
        "Server",
        "WWW-Authenticate",
        "Content-Encoding",
    )
    return (*(f"{name}: {echo}" for name in names), f"Link: </?access_key={echo}>")


def broken(echo: str) -> Iterator[tuple[str, Script]]:
    raw = echo.encode()
    ok = "HTTP/1.1 200 OK\r\n"
    yield "status line", [raw + b"\r\n\r\n"]
    yield "status", [f"HTTP/1.1 {echo}\r\n\r\n".encode()]
    yield "header without a colon", [f"{ok}{echo}\r\n\r\n".encode()]
    yield "Content-Length", [f"{ok}Content-Length: {echo}\r\n\r\n".encode()]
    yield "Transfer-Encoding", [f"{ok}Transfer-Encoding: {echo}\r\n\r\n".encode(), CLOSE]
    yield "long header", [f"{ok}X: {echo * 99}\r\n\r\n".encode()]
    yield "header's name", [f"{ok}X{quote(echo)}: 1\r\nContent-Length: 2\r\n\r\n{{}}".encode()]
    yield "chunk's size", [f"{ok}Transfer-Encoding: chunked\r\n\r\n".encode(), raw + b"\r\n"]
    yield "chunk's size at once", [f"{ok}Transfer-Encoding: chunked\r\n\r\n{echo}\r\n".encode()]
    yield (
        "gzip that is none",
        [f"{ok}Content-Encoding: gzip\r\nContent-Length: {len(raw)}\r\n\r\n{echo}".encode()],
    )
    yield "body that is cut off", [reply(raw, length=len(raw) + 9), CLOSE]
    yield "headers that are cut off", [f"{ok}X: {echo}".encode(), RESET]
    yield "nothing, closed", [CLOSE]
    yield "nothing, reset", [RESET]
    yield "nothing, ever", [HANG]
    yield "half a body, ever", [reply(raw, length=len(raw) + 9), HANG]


def grown(echo: str) -> Iterator[tuple[str, Script]]:
    """A good reply with fields that nobody knows, named after a secret."""
    name = json.dumps(echo).encode()
    good = GOOD["get_account_info"].replace(b'"mid"', name + b':1,"mid"', 1)
    yield "unknown fields", [reply(b'{"number":1,' + name + b":1," + good[1:])]


# --- the tests ------------------------------------------------------------------------------------


def test_no_secret_is_shown_whatever_goes_wrong(watch: Watch) -> None:
    vault = Vault()
    shown = Shown(vault)
    events: list[RequestEvent] = []

    def replies(kind: str) -> dict[str, Script]:
        echo = vault.echo(kind)
        whole = {name: [sent] for name, sent in refusals(echo)}
        return (
            whole
            | dict(broken(echo))
            | dict(grown(echo))
            | {"retries": [CLOSE], "our own limits": [HANG]}
        )

    sent = {kind: replies(kind) for kind in ("cookie", "token")}
    special = {
        "retries": {"retry": Retry(attempts=2, backoff=0.001)},
        "our own limits": {"limits": Limits(account=RateLimit(rate=1, burst=1), max_wait=0.01)},
    }

    async def one(name: str) -> None:
        seconds = 0.1 if "ever" in name or name in special else 3.0
        options = {
            "limits": Limits.none(),
            "retry": Retry.none(),
            "timeout": seconds,
        } | special.get(name, {})
        async with serve(
            lambda request: sent["cookie" if request.cookies else "token"][name]
        ) as server:
            for kind in ("cookie", "token"):
                async with SessionManager(
                    hosts=server.hosts, on_request=events.append, **options
                ) as manager:
                    me = vault.session(manager, kind)
                    endpoints = ("get_account_info", "get_coin_exp", "update_sign")
                    calls: list[Awaitable[object]] = [CALLS[endpoint](me) for endpoint in endpoints]
                    calls.append(me.call_raw(bili.ENDPOINTS["get_account_info"]))
                    calls.append(fetch_snapshot(me, sections=["vip_info"], strict=True))
                    calls.append(bili.update_sign(me, "no\ttabs"))
                    await asyncio.gather(
                        *(shown.provoke(f"{name}, {kind}", call) for call in calls)
                    )
                    shown.look(
                        f"{name}, {kind}",
                        "repr",
                        f"{me!r} {me.label} {manager!r} {manager.limits_state()!r}",
                    )

    async def each(names: Iterable[str], *, slow: float) -> None:
        asyncio.get_running_loop().slow_callback_duration = slow
        for name in names:
            await one(name)

    names = list(sent["cookie"])
    asyncio.run(each(names, slow=1))
    # In debug mode each callback and each step of a task is logged.
    asyncio.run(each(names[::5], slow=0), debug=True)
    for event in events:
        shown.look("events", "repr", repr(event) + str(event))
        shown.look("events", "pickle", repr(pickle.dumps(event)))
    for where, text in watch.shown:
        shown.look("logs", where, text)
    assert len(watch.shown) > 1000
    assert len(events) > 500
    assert shown.leaks == set()
    raised_by_a_call = {
        value
        for value in (getattr(bili, name) for name in bili.__all__)
        if isinstance(value, type)
        and issubclass(value, BiliError)
        and value not in (BiliError, CredentialError)
    }
    assert raised_by_a_call <= shown.classes


def test_no_secret_is_shown_by_what_fails_before_or_around_a_call(watch: Watch) -> None:
    vault = Vault()
    shown = Shown(vault)

    async def everything() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0
        options: dict[str, Any] = {"limits": Limits.none(), "retry": Retry.none(), "timeout": 0.1}
        async with refusing_port() as port:
            base = f"http://127.0.0.1:{port}"
            nowhere = Hosts(api=base, www=base, passport=base)
            proxied = options | {"proxy": f"http://qzPROXYx:qzPROXYx@127.0.0.1:{port}"}
            for more in (options, proxied):
                async with SessionManager(hosts=nowhere, **more) as manager:
                    for kind in ("cookie", "token"):
                        me = vault.session(manager, kind)
                        for name, call in CALLS.items():
                            await shown.provoke(f"{name} refused", call(me))
                        await shown.provoke("sign too long", update_sign(me, "x" * 71))
                        await shown.provoke("a control character", update_sign(me, "\0"))
                        await shown.provoke("a wrong timeout", get_account_info(me, timeout=-1))
                    shown.look("proxy", "repr", repr(manager) + repr(manager.limits_state()))
            await shown.provoke("after closing", get_account_info(me))
            await shown.provoke(
                "before opening", get_vip_info(vault.session(SessionManager(), "cookie"))
            )

    asyncio.run(everything(), debug=True)
    for where, text in watch.shown:
        shown.look("logs", where, text)
    assert shown.leaks == set()


@pytest.mark.parametrize("kind", ["cookie", "token"])
@pytest.mark.parametrize(
    "sent", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",)], ids=["no answer", "no body"]
)
@pytest.mark.parametrize("name", ["get_account_info", "update_sign"])
async def test_a_call_that_is_cancelled_or_timed_out_from_outside_shows_no_secret(
    kind: str, sent: tuple[bytes, ...], name: str, watch: Watch
) -> None:
    vault = Vault()
    shown = Shown(vault)

    async def outside() -> None:
        async with asyncio.timeout(0.02):
            await CALLS[name](me)

    async with (
        serve(lambda _: [*sent, HANG]) as server,
        SessionManager(hosts=server.hosts) as manager,
    ):
        me = vault.session(manager, kind)
        await shown.provoke("asyncio.timeout", outside())
        await shown.provoke("wait_for", asyncio.wait_for(CALLS[name](me), 0.02))
        task = asyncio.create_task(CALLS[name](me))  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        task.cancel("why")
        await shown.provoke("cancel", task)
        task = asyncio.create_task(CALLS[name](me))  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        await manager.close()
        await shown.provoke("close", task)
    assert {TimeoutError, asyncio.CancelledError, RuntimeError} <= shown.classes
    assert shown.leaks == set()


def test_a_malformed_credential_is_never_shown(tmp_path: Path, watch: Watch) -> None:
    vault = Vault()
    shown = Shown(vault)
    for attempt in (*vault.malformed(), *vault.malformed_file(tmp_path / "cookies.txt")):
        with pytest.raises((CredentialError, TypeError)) as caught:
            attempt()
        frames = traceback.extract_tb(caught.value.__traceback__)
        ours = caught.value.with_traceback(_below(caught.value, len(frames)))
        shown.look_at("malformed", ours)
    for where, text in watch.shown:
        shown.look("logs", where, text)
    assert shown.leaks == set()


def _below(error: BaseException, frames: int) -> Any:
    """The traceback without the frames of this file, whose lambdas hold the secrets."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename == __file__:
        at = at.tb_next
    return at


def test_an_observer_that_raises_is_logged_without_secrets(watch: Watch) -> None:
    vault = Vault()
    shown = Shown(vault)

    def observer(event: RequestEvent) -> None:
        raise ValueError("observer")

    async def everything() -> None:
        async with (
            serve(lambda request: [reply(GOOD[asked(request)])]) as server,
            SessionManager(hosts=server.hosts, on_request=observer) as manager,
        ):
            for kind in ("cookie", "token"):
                await get_account_info(vault.session(manager, kind))

    asyncio.run(everything(), debug=True)
    assert any("on_request raised" in text for _, text in watch.shown)
    for where, text in watch.shown:
        shown.look("logs", where, text)
    assert shown.leaks == set()


def test_the_help_of_the_package_shows_nothing_of_the_environment() -> None:
    code = (
        "import pydoc, bili_account_async as b\n"
        "for thing in filter(callable, (getattr(b, name) for name in dir(b))):\n"
        "    print(pydoc.render_doc(thing, renderer=pydoc.plaintext))"
    )
    there = os.environ | {"BILI_COOKIE": "SESSDATA=planted-in-the-environment"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=there, capture_output=True, text=True, check=True
    ).stdout
    assert "from_env" in shown
    assert "planted-in-the-environment" not in shown


# --- tools that walk objects ----------------------------------------------------------------------


@attrs.frozen
class Bot:
    """A user's own record, which holds a credential as it is and in containers."""

    me: Credential
    others: dict[str, list[Credential]]


def bots(vault: Vault) -> list[Bot]:
    return [Bot(made, {"all": [made]}) for made in (vault._cookie, vault._app)]


def fails_beside(bot: Bot) -> None:
    """Raise where the credential is a local variable, too."""
    me = bot.me
    raise ValueError(f"a bot's own mistake, with {me}")


def logged_by_structlog(bot: Bot) -> None:
    log = structlog.get_logger()
    try:
        fails_beside(bot)
    except ValueError:
        log.exception("failed", bot=bot, me=bot.me)


def logged_as_json(bot: Bot) -> None:
    processors = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=processors)
    try:
        fails_beside(bot)
    except ValueError:
        log.exception("failed", bot=bot, me=bot.me)


def shown_by_rich(bot: Bot) -> None:
    try:
        fails_beside(bot)
    except ValueError:
        rich.get_console().print_exception(show_locals=True)


def written_out(bot: Bot) -> object:
    """`attrs.asdict` with the filter that its users write for what is not to be shown."""
    return attrs.asdict(bot, filter=lambda field, _: field.repr)


TOOLS: dict[str, Callable[[Bot], object]] = {
    "str": str,
    "pprint": pprint.pformat,
    "reprlib": lambda bot: reprlib.repr(bot) + reprlib.repr(bot.me),
    "inspect.getmembers": lambda bot: inspect.getmembers(bot.me),
    "attrs.asdict with a filter": written_out,
    "rich.print": rich.print,
    "rich.inspect": lambda bot: rich.inspect(bot.me),
    "rich.inspect of everything": lambda bot: rich.inspect(bot.me, all=True),
    "a traceback of rich with locals": shown_by_rich,
    "structlog.exception": logged_by_structlog,
    "structlog's dict_tracebacks": logged_as_json,
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_a_tool_at_its_defaults_shows_no_secret_of_a_credential(
    tool: Callable[[Bot], object], capsys: pytest.CaptureFixture[str]
) -> None:
    vault = Vault()
    for bot in bots(vault):
        shown = str(tool(bot)) + "".join(capsys.readouterr())
        assert shown
        assert vault.found_in(shown) == []


PROGRAM = """
from bili_account_async import Credential

def credential(end):
    return Credential(sessdata=f"qzSESS{end}", bili_jct=f"qzJCT{end}")
"""
PROGRAMS = {
    "typer with show_locals": """
import typer

app = typer.Typer(pretty_exceptions_show_locals=True)

@app.command()
def main():
    mine = [credential("x")]
    raise ValueError("mistake")

app()
""",
    "pytest's report of a failed comparison": """
import pytest

def test_it():
    assert credential("x") == credential("yx")

pytest.main([__file__, "-q", "-vv", "-p", "no:cacheprovider", "--showlocals"])
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_fails_shows_no_secret_of_a_credential(program: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + program)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    shown = ended.stdout + ended.stderr
    assert "Credential(sessdata=" in shown
    assert "***" in shown
    assert Vault().found_in(shown) == []


def test_no_field_that_may_hold_a_secret_is_one_that_tools_show() -> None:
    may_hold = {"sessdata", "bili_jct", "access_key", "cookies", "headers", "query", "form"}
    harmless = {  # a bool, what the sandbox sends, and what a web client is told
        ("Auth", "access_key"),
        ("Answer", "headers"),
        ("Problem", "headers"),
    }
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(bili.__path__, "bili_account_async.")
        if not found.name.endswith("__main__")
    ]
    fields = {
        (cls.__qualname__, field.name): field.repr
        for module in modules
        for cls in vars(module).values()
        if isinstance(cls, type) and attrs.has(cls)
        for field in attrs.fields(cls)
        if field.name.strip("_") in may_hold
    }
    assert len(fields) > 8
    assert {place for place, shown in fields.items() if shown} == harmless
