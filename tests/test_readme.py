"""The README's code blocks, as a reader would run them."""

import asyncio
import pathlib
import re
import types

import pytest

from bili_account_async import Limits, SessionManager, fetch_snapshot, open_session
from bili_account_async.sandbox import Sandbox

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(main())" in block]


def module(block: str, **names: object) -> types.SimpleNamespace:
    scope: dict[str, object] = {"__name__": "readme", **names}
    exec(compile(block, "README.md", "exec"), scope)
    return types.SimpleNamespace(**scope)


def block_with(text: str) -> str:
    (block,) = (block for block in BLOCKS if text in block)
    return block


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_whole_program_runs_and_prints_the_account(program, monkeypatch, capsys):
    with Sandbox() as sandbox:
        account = sandbox.add_account(uname="小明")
        for name in ("BILI_SESSDATA", "BILI_DEDE_USER_ID", "BILI_JCT", "BILI_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        credential = account.credential
        monkeypatch.setenv(
            "BILI_COOKIE", f"SESSDATA={credential.sessdata}; DedeUserID={credential.dede_user_id}"
        )
        # The program talks to the real hosts; only where they are is replaced.
        monkeypatch.setattr(
            "bili_account_async.open_session",
            lambda credential: open_session(credential, hosts=sandbox.hosts),
        )
        module(program)
    assert "小明" in capsys.readouterr().out


async def test_the_bot_answers_and_says_so_when_it_cannot():
    bot_class = module(block_with("class Bot")).Bot
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
    ):
        account = sandbox.add_account(uname="小明")
        bot = bot_class(manager, account.credential)
        assert await bot.on_command_who() == "I am 小明"
        account.log_out()
        assert "账号未登录" in await bot.on_command_who()


async def test_the_snapshot_example_prints_what_changed(capsys):
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
    ):
        account = sandbox.add_account(uname="小明")
        me = manager.session(account.credential)

        async def rename_in_between(session):
            snapshot = await fetch_snapshot(session)
            account.uname = "小红"
            return snapshot

        scope = module(block_with("changes_since"))
        scope.look.__globals__["fetch_snapshot"] = rename_in_between
        await scope.look(me)
    assert "account_info.uname 小明 → 小红" in capsys.readouterr().out


async def test_the_error_example_tells_income_and_a_dead_login():
    coins_of_the_week = module(block_with("coins_of_the_week")).coins_of_the_week
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
    ):
        account = sandbox.add_account(history=[])
        account.earn(3)
        account.tip()
        me = manager.session(account.credential)
        assert await coins_of_the_week(me) == "+3 -1"
        account.log_out()
        assert await coins_of_the_week(me) == "the login has expired"


async def test_the_poller_example_prints_changes_failures_and_dead_logins(capsys):
    watch = module(block_with("async def watch")).watch
    async with (
        Sandbox() as sandbox,
        SessionManager(hosts=sandbox.hosts, limits=Limits.none()) as manager,
    ):
        account = sandbox.add_account()
        account.log_out()
        task = asyncio.create_task(watch(manager, {"alice": account.credential}))
        text = ""
        async with asyncio.timeout(5):
            while "alice has to log in again" not in text:
                await asyncio.sleep(0.01)
                text += capsys.readouterr().out
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_the_endpoint_example_declares_one():
    assert module(block_with("RELATION")).RELATION.name == "relation"


def test_the_example_test_of_a_bot_passes(bili_sandbox):
    module(block_with("def test_my_bot")).test_my_bot(bili_sandbox)
