"""`bili-account watch`, `accounts` and `coin-log --all`: the file of logins, what is told of a
fleet, and the ledger.

Most tests run the app in this process, against a sandbox and a poller that ends after some events;
signals and terminals need a process of its own.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from bili_account_async import (
    THRIFTY,
    AccountExpired,
    AccountParked,
    AccountSnapshot,
    AccountState,
    AccountStatus,
    Change,
    Changed,
    CoinLog,
    CoinLogEntry,
    Credential,
    Limits,
    NotLoggedIn,
    Poller,
    PollerStats,
    PollEvent,
    RateLimited,
    RealnameStatus,
    Retry,
    RiskControlled,
    SessionManager,
    SnapshotTaken,
    VipStatus,
)
from bili_account_async.cli import accounts_file, board, watch
from bili_account_async.cli import limits as cli_limits
from bili_account_async.cli import store as cli_store
from bili_account_async.cli.app import app
from bili_account_async.sandbox import Fault, Sandbox, SandboxAccount
from bili_account_async.store import SqliteStore

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="file modes, signals and pseudo-terminals"
)

CHINA = timezone(timedelta(hours=8))
HOSTILE = "[red]x[/] \x1b[31m\x9b2J\u202e\nnext"
SHOWN = "[red]x[/] \ufffd[31m\ufffd2J next"


@attrs.frozen
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the platform's files; no command writes elsewhere, or asks Bilibili."""
    monkeypatch.setattr(accounts_file, "user_config_path", lambda *_, **__: tmp_path / "config")
    monkeypatch.setattr(cli_store, "user_data_path", lambda *_, **__: tmp_path / "data")
    monkeypatch.setattr(watch, "SessionManager", lambda **_: pytest.fail("this would ask Bilibili"))
    monkeypatch.setattr(cli_limits, "Limits", Limits.none)
    monkeypatch.setattr(cli_limits, "user_state_path", lambda *_, **__: tmp_path / "state")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    """Runs a command; whatever it does, it shows no secret and moves no cursor."""

    def run(*args: str, typed: str = "") -> Ended:
        result = CliRunner().invoke(app, args, input=typed, prog_name="bili-account")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        said = result.stdout + result.stderr
        assert "hush" not in said
        assert not set("\x1b\x9b\u202e") & set(said)
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def file(home: Path) -> Path:
    """The file of accounts, with one in it."""
    path = home / "config" / "accounts.toml"
    path.parent.mkdir()
    write(path, '[accounts.alice]\nsessdata = "hush-alice"\ndede_user_id = 7\nevery = "30m"\n')
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


# --- accounts -------------------------------------------------------------------------------------


def test_added_accounts_are_listed_with_the_kind_of_their_login_alone(run: Run) -> None:
    for name, typed in (
        ("alice", "SESSDATA=hush,1; DedeUserID=7; bili_jct=hush"),
        ("小 红", "hush"),
        ("c", "access_key=hush"),
    ):
        assert run("accounts", "add", name, typed=typed + "\n").code == 0
    run("accounts", "add", "d", "--every", "1h30m", typed="SESSDATA=hush; DedeUserID=8\n")

    listed = run("accounts", "list")

    assert (listed.code, listed.err) == (0, "")
    assert listed.out.splitlines() == [
        "alice: cookie",
        "小 红: cookie without DedeUserID, so without coin_exp and security_info",
        "c: app token",
        "d: cookie, every 1:30:00",
    ]


def test_the_file_of_accounts_is_for_its_owner_alone(run: Run, home: Path) -> None:
    old_mask = os.umask(0)
    try:
        added = run(
            "accounts", "add", "alice", typed="SESSDATA=hush,1; DedeUserID=7; bili_jct=hush\n"
        )
    finally:
        os.umask(old_mask)

    path = home / "config" / "accounts.toml"
    assert str(path) in added.err
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
    assert tomllib.loads(path.read_text())["accounts"]["alice"] == {
        "sessdata": "hush%2C1",
        "dede_user_id": 7,
        "bili_jct": "hush",
    }


def test_a_file_that_others_may_read_is_refused_with_the_command_that_mends_it(
    run: Run, file: Path
) -> None:
    before = file.read_text()
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        for command in (
            ("watch",),
            ("accounts", "list"),
            ("accounts", "add", "bob"),
            ("accounts", "remove", "alice"),
        ):
            refused = run(*command, typed="hush\n")
            assert (refused.code, refused.out, file.read_text()) == (2, "", before)

        (command_line,) = [
            line.removeprefix("next:  ") for line in refused.err.splitlines() if "chmod" in line
        ]
        subprocess.run(command_line, shell=True, check=True)

        assert run("accounts", "list").out == "alice: cookie, every 0:30:00\n"


def test_a_name_that_is_taken_is_refused_before_the_login_is_asked_for(
    run: Run, file: Path
) -> None:
    before = file.read_text()

    refused = run("accounts", "add", "alice", typed="hush-new\n")

    assert (refused.code, file.read_text()) == (2, before)
    assert "'alice' already" in refused.err
    assert "--replace" in refused.err


def test_replace_gives_a_new_login_and_keeps_the_interval(run: Run, file: Path) -> None:
    assert run("accounts", "add", "alice", "--replace", typed="hush-new\n").code == 0

    assert tomllib.loads(file.read_text())["accounts"] == {
        "alice": {"sessdata": "hush-new", "every": "30m"}
    }


def test_a_removed_account_is_gone_and_one_that_is_not_there_is_an_error(
    run: Run, file: Path
) -> None:
    assert run("accounts", "remove", "alice").code == 0
    assert "hush" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    assert run("accounts", "remove", "alice").code == 2
    assert "No account in" in run("accounts", "list").err


@pytest.mark.parametrize(
    "typed", ["", "\n", "hush me\n", "buvid3=hush; SESSDATA=\n", "access_key=\n"]
)
def test_a_login_that_can_t_be_one_is_refused_and_nothing_is_written(
    run: Run, file: Path, typed: str
) -> None:
    before = file.read_text()

    refused = run("accounts", "add", "bob", typed=typed)

    assert (refused.code, file.read_text()) == (2, before)
    assert refused.err.startswith("error: ")
    # Not the environment, which this command does not read.
    assert "or pipe it to stdin" in refused.err


@pytest.mark.parametrize(
    "args",
    [
        ("",),
        (" ",),
        ("a\x1b",),
        ("a", "--every", "0s"),
        ("a", "--every", "400d"),
        ("a", "--every", "5"),
        ("a", "--every", "9d" * 2000),
    ],
)
def test_a_name_that_can_t_be_shown_and_a_time_that_is_none_are_wrong_usage(
    run: Run, home: Path, args: tuple[str]
) -> None:
    assert run("accounts", "add", *args, typed="hush\n").code == 2
    assert not (home / "config").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    refused = run("accounts", "add", "bob", typed="hush\n")

    assert refused.code == 1
    assert "No space left" in refused.err
    assert (file.read_text(), list(file.parent.iterdir())) == (before, [file])


def test_a_link_to_the_file_stays_a_link(run: Run, file: Path) -> None:
    real = file.parent / "real.toml"
    file.rename(real)
    file.symlink_to(real)

    assert run("accounts", "add", "bob", typed="hush\n").code == 0

    assert file.is_symlink()
    assert set(tomllib.loads(real.read_text())["accounts"]) == {"alice", "bob"}


@pytest.mark.parametrize(
    "text",
    [
        "# mine\n[accounts.alice] # the first\nsessdata = 'hush'\n\n# "
        "two\n[accounts.carol]\nsessdata = 'hush'\n",
        "[accounts]\nalice = {sessdata = 'hush'} # the first\ncarol.sessdata = 'hush'\n",
        "accounts = {alice = {sessdata = 'hush'}, carol = {sessdata = 'hush'}} # all\n",
        "accounts.alice.sessdata = 'hush' # one\naccounts.carol.sessdata = 'hush'\n",
        "[accounts.carol]\r\nsessdata = 'hush' # crlf\r\n[accounts.alice]\r\nsessdata = 'hush'\r\n",
    ],
)
def test_a_file_written_by_hand_keeps_its_comments_or_is_left_alone(
    run: Run, file: Path, text: str
) -> None:
    write(file, text)
    comments = [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]

    added = run("accounts", "add", "bob", typed="hush-bob\n")

    if added.code:
        assert file.read_text() == text
        assert "layout" in added.err
    else:
        assert set(tomllib.loads(file.read_text())["accounts"]) == {"alice", "bob", "carol"}
        assert [comment for comment in comments if comment not in file.read_text()] == []
        assert run("accounts", "remove", "bob").code == 0
        assert set(tomllib.loads(file.read_text())["accounts"]) == {"alice", "carol"}


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("bob = 3", "expected a table"),
        ("bob = {}", "sessdata or access_key: one of them is needed"),
        ("bob = {sessdata = 'hush me'}", "sessdata: holds a space"),
        ("bob = {sessdata = 'hush', dede_user_id = '7'}", "dede_user_id: expected int"),
        ("bob = {sessdata = 'hush', access_key = 'hush'}", "access_key: is a login of its own"),
        (
            "bob = {sessdata = 'hush', sesdata = 'hush'}",
            "sesdata: is unknown; there are sessdata, ",
        ),
        ("bob = {sessdata = 'hush', every = '10'}", "every: expected a time"),
        ("bob = {sessdata = 'hush', every = 10}", "every: expected a time"),
    ],
)
def test_one_bad_account_is_told_by_name_and_field_and_does_not_stop_the_others(
    run: Run, file: Path, entry: str, field: str
) -> None:
    write(file, f"[accounts]\nalice = {{sessdata = 'hush'}}\n{entry}\n")

    listed = run("accounts", "list")

    assert listed.code == 0
    assert listed.out.startswith("alice: cookie")
    assert f"account 'bob': {field}" in listed.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[accounts.alice]\nsessdata = hush\n", "line 2, column 12"),
        (b"[accounts.alice]\nsessdata = 'hush'\n[accounts.alice]\n", "line 3, column"),
        (b"[accounts.alice]\nsessdata = 'hush", "end of document"),
        (b"[accounts.alice]\ndede_user_id = " + b"9" * 5000, "no TOML"),
        (b"a = " + b"[" * 5000, "no TOML"),
        (b"# \xff\n", "it is not UTF-8"),
        (b"accounts = 3", "no [accounts.NAME]"),
        (b"[account.alice]\nsessdata = 'hush'\n", "no [accounts.NAME]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_file_is_an_error_that_says_where(
    run: Run, file: Path, content: bytes, told: str
) -> None:
    file.write_bytes(content)

    for command in (("accounts", "list"), ("accounts", "add", "bob"), ("watch",)):
        refused = run(*command, typed="hush\n")
        assert (refused.code, refused.out, file.read_bytes()) == (2, "", content)
        assert told in refused.err
        assert str(file) in refused.err


# --- watch ----------------------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def alice(sandbox: Sandbox, file: Path) -> SandboxAccount:
    """The account in the file."""
    account = sandbox.add_account(uname="小明", mid=7, coins=9, history=[], share=False)
    login = account.credential
    write(
        file,
        f'[accounts.alice]\nsessdata = "{login.sessdata}"\ndede_user_id = 7\nbili_jct = '
        f'"{login.bili_jct}"\n',
    )
    return account


Watch = Callable[..., Ended]


@pytest.fixture
def watch_events(
    run: Run, sandbox: Sandbox, alice: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> Watch:
    """Runs `watch` until it has told so many events; `then[n]` is called before event n + 1."""
    manager = partial(SessionManager, hosts=sandbox.hosts, retry=Retry.none())
    monkeypatch.setattr(watch, "SessionManager", manager)

    def watch_events(
        number: int, *args: str, then: dict[int, Callable[[], object]] | None = None
    ) -> Ended:
        class Brief(Poller):
            told = 0

            async def __anext__(self) -> PollEvent:
                if (then or {}).get(self.told):
                    (then or {})[self.told]()
                if self.told == number:
                    raise StopAsyncIteration
                self.told += 1
                self.poll_now("alice")
                return await super().__anext__()

        monkeypatch.setattr(watch, "Poller", Brief)
        ended = run("watch", "--every", "1s", *args)
        login = alice.credential
        assert not [
            secret
            for secret in (login.sessdata, login.bili_jct)
            if str(secret) in ended.out + ended.err
        ]
        return ended

    return watch_events


def told(ended: Ended) -> list[str]:
    """The lines without their times."""
    return [line.split(" ", 2)[2] for line in ended.out.splitlines()]


def test_watch_tells_a_line_for_each_change(watch_events: Watch, alice: SandboxAccount) -> None:
    def live() -> None:
        alice.share, alice.sign = True, ""
        alice.tip("BV1", 2)
        alice.earn(1.5, "礼物")

    alice.sign = "你好"

    ended = watch_events(3, then={1: live})

    assert ended.code == 0
    assert told(ended)[0] == "alice is 小明, mid 7"
    assert set(told(ended)[1:]) >= {
        "alice account_info.sign 你好 → nothing",
        "alice daily_rewards.share no → yes",
        "alice coins +1.5 礼物; -2 给视频 BV1 打赏",
    }
    assert str(Path("data", "store.sqlite3")) in ended.err


def test_after_a_restart_watch_tells_what_changed_meanwhile(
    watch_events: Watch, alice: SandboxAccount, home: Path
) -> None:
    watch_events(1)
    alice.earn(2, "登录奖励")

    again = watch_events(2)

    assert "alice coins +2 登录奖励" in told(again)
    kept = home / "data" / "store.sqlite3"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, kept.parent)] == [0o600, 0o700]


def test_watch_keeps_what_it_knows_where_it_is_told_to(watch_events: Watch, home: Path) -> None:
    watch_events(1, "--store", str(home / "mine.db"))

    assert (home / "mine.db").exists()
    assert not (home / "data").exists()


def test_a_failing_account_is_told_with_its_next_try_and_when_it_answers_again(
    watch_events: Watch, sandbox: Sandbox
) -> None:
    sandbox.fault(None, Fault.status(502), times=8)
    sandbox.fault("get_vip_info", Fault.status(502), times=2)

    failed, partial, whole = told(watch_events(4))

    assert failed.startswith("alice failed, next try at ")
    assert "HTTP 502" in failed
    assert partial.startswith("alice vip_info is missing: get_vip_info: ")
    assert whole == "alice answers again"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            -101,
            "alice expired: get_account_info: 账号未登录 (code -101); log in again in a "
            "browser, run "
            "`bili-account accounts add alice --replace`",
        ),
        (-352, "alice parked: get_account_info: "),
    ],
)
def test_an_account_that_its_owner_has_to_help_says_what_to_do(
    watch_events: Watch, sandbox: Sandbox, code: int, says: str
) -> None:
    sandbox.fault("get_account_info", Fault.code(code))

    (line,) = told(watch_events(1))

    assert line.startswith(says)
    assert "in a browser" in line
    assert line.endswith("start this again")


def test_watch_as_json_is_an_event_a_line(
    watch_events: Watch, alice: SandboxAccount, sandbox: Sandbox
) -> None:
    alice.uname = HOSTILE

    def live() -> None:
        alice.birthday = "2001-09-09"
        alice.earn(1, HOSTILE)

    def die() -> None:
        sandbox.fault(None, Fault.code(-101))

    ended = watch_events(5, "--json", then={1: live, 3: die})

    events = [json.loads(line) for line in ended.out.split("\n")[:-1]]
    assert [event["event"] for event in events] == [
        "SnapshotTaken",
        "SnapshotTaken",
        "Changed",
        "PollFailed",  # a login that was alive is asked once more
        "AccountExpired",
    ]
    assert {event["account"] for event in events} == {"alice"}
    assert all(datetime.fromisoformat(event["time"]).tzinfo for event in events)
    assert events[0]["snapshot"]["account_info"]["uname"] == HOSTILE
    assert "snapshot" not in events[2]
    birthday = next(
        change for change in events[2]["changes"] if change["path"] == "account_info.birthday"
    )
    assert birthday["new"] == "2001-09-09"
    assert [event["error"]["type"] for event in events[3:]] == ["NotLoggedIn"] * 2


def test_text_of_the_server_can_t_reach_the_terminal_as_codes(
    watch_events: Watch, alice: SandboxAccount
) -> None:
    def live() -> None:
        alice.rank = HOSTILE
        alice.earn(1, HOSTILE)

    alice.uname = HOSTILE

    ended = watch_events(3, then={1: live})

    assert ended.out.count(SHOWN) == 3
    assert ended.out.count("\n") == 3


def test_one_bad_account_does_not_stop_the_watch(watch_events: Watch, file: Path) -> None:
    write(file, file.read_text() + "[accounts.bob]\nsessdata = 'hush me'\n")

    ended = watch_events(1)

    assert told(ended) == ["alice is 小明, mid 7"]
    assert "account 'bob': sessdata: holds a space" in ended.err


def test_an_account_s_own_interval_goes_before_the_one_of_the_command(
    watch_events: Watch, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, f'{file.read_text()}every = "2h"\n')
    polled: list[timedelta] = []
    monkeypatch.setattr(
        board.Board,
        "take",
        lambda self, event: polled.append(self._poller.status("alice").every) or [],
    )

    watch_events(1)

    assert polled == [timedelta(hours=2)]


def test_each_section_is_asked_as_often_as_it_changes_unless_the_command_says_how_often(
    run: Run, alice: SandboxAccount, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[object] = []

    class Brief(Poller):
        async def __anext__(self) -> PollEvent:
            paces.append(self.status("alice").every)
            raise StopAsyncIteration

    monkeypatch.setattr(watch, "SessionManager", partial(SessionManager, hosts=sandbox.hosts))
    monkeypatch.setattr(watch, "Poller", Brief)

    run("watch")
    run("watch", "--every", "30m")

    assert paces == [THRIFTY, timedelta(minutes=30)]


def test_a_section_that_is_missing_stays_so_until_it_was_asked_for_again() -> None:
    poller: Any = StandIn(["alice"])
    shown = board.Board(poller, ["alice"])
    now, refused = datetime.now(UTC), {"coin_exp": RateLimited(scope="host", status=412)}

    def take(**values: Any) -> list[str]:
        event = SnapshotTaken("alice", AccountSnapshot(taken_at=now, **values))
        return [line.plain for line in shown.take(event)]

    both = frozenset({"coin_exp", "realname_status"})
    assert (
        "coin_exp is missing"
        in take(realname_status=RealnameStatus.CERTIFIED, failures=refused, sections=both)[0]
    )
    assert take(realname_status=RealnameStatus.CERTIFIED, sections={"realname_status"}) == []
    assert take(coin_exp=10, sections={"coin_exp"}) == ["alice answers again"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("watch",), 2, "`bili-account accounts add NAME` adds one"),
        (("watch", "--sandbox", "--store", "x"), 2, "give one of them"),
        (("watch", "--sandbox", "--every", "soon"), 2, "expected a time"),
        (("coin-log", "--all"), 1, "`bili-account watch` makes it"),
        (("coin-log", "--all", "--sandbox"), 2, "--all"),
        (("coin-log", "--account", "x", "--sandbox"), 2, "--all"),
        (("coin-log", "--sandbox", "--csv", "--json"), 2, "give one of them"),
    ],
)
def test_what_can_t_be_done_says_why(run: Run, args: tuple[str], code: int, says: str) -> None:
    refused = run(*args)

    assert (refused.code, refused.out) == (code, "")
    assert says in " ".join(refused.err.split())


def test_without_aiosqlite_the_command_says_what_to_install(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bili_account_async.store", None)

    for command in (("watch",), ("coin-log", "--all")):
        refused = run(*command)
        assert refused.code == 1
        assert "pip install 'bili-account-async[cli,store]'" in refused.err


def test_a_store_that_can_t_serve_is_an_error_with_its_path(
    run: Run, file: Path, home: Path
) -> None:
    (home / "data").write_text("a file in the way")

    for args in ((), ("--store", str(file)), ("--store", str(home))):
        refused = run("watch", *args)
        assert (refused.code, refused.out) == (1, "")
        assert str(args[1] if args else home / "data") in refused.err


# --- the table ------------------------------------------------------------------------------------


class StandIn:
    """A poller of which only the state is asked."""

    def __init__(self, names: Sequence[str]) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=240.4)
        self.states = {
            name: AccountStatus(
                state=AccountState.WAITING, every=timedelta(minutes=10), next_at=soon, polls=1
            )
            for name in names
        }

    def status(self, name: str) -> AccountStatus:
        return self.states[name]

    def stats(self) -> PollerStats:
        return PollerStats(
            accounts={}, polls=12, failures=3, lag_p50=0.04, lag_p99=2.5, throttled=0.0
        )


def drawn(shown: board.Board, width: int, height: int = 40) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, highlight=False).print(shown.table(height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_tells_state_next_poll_lag_and_last_change_of_every_account(width: int) -> None:
    names = ["alice", "一个名字很长很长的账号", "late", "dead", "held"]
    poller: Any = StandIn(names)
    shown = board.Board(poller, names)
    snapshot = AccountSnapshot(taken_at=datetime.now(UTC), coin_exp=1)
    shown.take(SnapshotTaken("alice", snapshot))
    shown.take(AccountExpired("dead", NotLoggedIn("账号未登录" * 40, code=-101)))
    shown.take(AccountParked("held", RiskControlled("风控校验失败", code=-352)))
    hour_late = attrs.evolve(poller.status("late"), next_at=datetime.now(UTC) - timedelta(hours=2))
    poller.states |= {
        "late": hour_late,
        "dead": attrs.evolve(hour_late, state=AccountState.EXPIRED, next_at=None),
        "held": attrs.evolve(hour_late, state=AccountState.PARKED, next_at=None),
    }

    lines = drawn(shown, width)

    assert max(map(cell_len, lines)) <= width
    cells = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert cells["alice"] == "alice ok in 4 min 0 s 0 s ago: answers"
    assert names[1] not in "".join(lines)
    assert cells["late"] == "late starting now 2 h"
    assert cells["dead"].startswith("dead expired 0 s ago: expired: ")
    assert cells["held"].startswith("held parked 0 s ago: parked: ")
    assert cells["5"].startswith("5 accounts: 1 expired, 1 ok, 1 parked, 2 starting")
    assert cells["12"] == "12 polls, 3 failed; lag p50 0.0 s, p99 2.5 s"
    assert "expired: log in again in a browser" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("path", "old", "new", "line"),
    [
        ("daily_rewards.share", False, True, "daily_rewards.share no → yes"),
        (
            "vip_info.vip_status",
            VipStatus(1),
            VipStatus(9),
            "vip_info.vip_status normal → unknown 9",
        ),
        (
            "vip_info.vip_due_date",
            None,
            datetime(2026, 1, 1, 20, tzinfo=UTC),
            "nothing → 2026-01-02 04:00",
        ),
        (
            "vip_info.vip_due_date",
            None,
            datetime(9999, 12, 31, 23, tzinfo=UTC),
            "nothing → 9999-12-31 23:00",
        ),
        (
            "account_info.birthday",
            date(2001, 9, 9),
            None,
            "account_info.birthday 2001-09-09 → nothing",
        ),
        ("account_info.sign", "", HOSTILE, f"account_info.sign nothing → {SHOWN}"),
        ("account_info.uname", "a", "b" * 5000, f"account_info.uname a → {'b' * 80}…"),
    ],
)
def test_a_change_is_told_on_one_line_in_words(
    path: str, old: object, new: object, line: str
) -> None:
    poller: Any = StandIn(["alice"])
    shown = board.Board(poller, ["alice"])
    snapshot = AccountSnapshot(taken_at=datetime.now(UTC), coin_exp=1)

    (told,) = shown.take(Changed("alice", (Change(path=path, old=old, new=new),), snapshot))

    assert told.plain.startswith(f"alice {path} ")
    assert told.plain.endswith(line)
    assert not set("\x1b\x9b\u202e") & set("".join(drawn(shown, 200)))


def test_a_table_too_long_for_the_terminal_shows_those_in_trouble_first() -> None:
    names = [f"account-{number}" for number in range(300)]
    poller: Any = StandIn(names)
    shown = board.Board(poller, names)
    shown.take(AccountExpired("account-250", NotLoggedIn("", code=-101)))
    for name in names[:250] + names[251:]:
        shown.take(SnapshotTaken(name, AccountSnapshot(taken_at=datetime.now(UTC), coin_exp=1)))
    poller.states["account-250"] = attrs.evolve(
        poller.status("account-250"), state=AccountState.EXPIRED, next_at=None
    )

    lines = drawn(shown, 80, height=24)

    assert len(lines) <= 24
    assert [line.split()[0] for line in lines if line.startswith(" account-")][:2] == [
        "account-250",
        "account-299",
    ]
    assert "300 accounts: 1 expired, 299 ok; 286 of them not shown" in lines


# --- coin-log --all -------------------------------------------------------------------------------


def keep(path: Path, account: str, *entries: tuple[datetime, str, str]) -> None:
    """Let the store know of these coins."""
    log = tuple(
        CoinLogEntry(time=time, delta=Decimal(delta), reason=reason)
        for time, delta, reason in entries
    )

    async def save() -> None:
        async with SqliteStore(path) as store:
            snapshot = AccountSnapshot(
                taken_at=datetime.now(UTC), coin_log=CoinLog(entries=log, count=len(log))
            )
            await store.save(account, snapshot)

    path.parent.mkdir(exist_ok=True)
    asyncio.run(save())


def on(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, 1, hour, tzinfo=CHINA) + timedelta(days=day)


@pytest.fixture
def ledger(home: Path) -> Path:
    path = home / "data" / "store.sqlite3"
    keep(
        path,
        "alice",
        (on(0), "4", "登录奖励"),
        (on(1), "-2", HOSTILE),
        (on(1), "-2", HOSTILE),
        (on(3), "0.5", "=1+1"),
    )
    return path


def test_coin_log_of_all_shows_every_entry_and_the_balance_by_day(run: Run, ledger: Path) -> None:
    lines = run("coin-log", "--all").out.splitlines()

    text = " ".join(lines)
    assert text.count(SHOWN) == 2
    assert "in +4.5, out -4, net +0.5" in text
    assert (
        "Balance by day, 2026-01-01 to 2026-01-04, counted from 0: Bilibili does not "
        "tell the balance" in text
    )
    chart = [line.partition("│") for line in lines if "│" in line]
    assert [label.strip() for label, _, _ in chart if label.strip()] == ["+4", "0"]
    assert [bars.count("█████") for _, _, bars in chart][:2] == [1, 1]
    assert [bar[:1] for bar in (chart[-1][2][at : at + 6] for at in (0, 6, 12, 18))] == [
        "█",
        "▁",
        "▁",
        "█",
    ]


def test_coin_log_of_all_as_csv_can_t_be_a_formula(run: Run, ledger: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("coin-log", "--all", "--csv").out)))

    assert [row["delta"] for row in rows] == ["0.5", "-2", "-2", "4"]
    assert rows[0] == {"time": "2026-01-04T12:00:00+08:00", "delta": "0.5", "reason": "'=1+1"}
    assert rows[1]["reason"] == SHOWN


def test_coin_log_of_all_as_json_has_the_form_of_the_week_s(run: Run, ledger: Path) -> None:
    document = json.loads(run("coin-log", "--all", "--json").out)

    assert document["count"] == 4
    assert document["list"][0] == {"time": "2026-01-04 12:00:00", "delta": 0.5, "reason": "=1+1"}


def test_of_several_accounts_one_has_to_be_named(run: Run, ledger: Path) -> None:
    keep(ledger, "bob", (on(0), "7", "x"))
    keep(ledger, "idle")

    unnamed, unknown = run("coin-log", "--all"), run("coin-log", "--all", "--account", "carol")

    for refused in (unnamed, unknown):
        assert (refused.code, refused.out) == (2, "")
        assert "there are alice, bob, idle" in refused.err
    assert "net +7" in run("coin-log", "--all", "--account", "bob").out
    assert (
        run("coin-log", "--all", "--account", "idle").out
        == "No coins came or went since the first watch.\n"
    )


def test_the_chart_of_years_fits_the_width_and_survives_monstrous_amounts(
    run: Run, home: Path
) -> None:
    path = home / "x.db"
    keep(
        path,
        "a",
        (on(0), "1e300", "x"),
        *((on(day), "-1", "x") for day in range(0, 2000, 50)),
        (on(1999), "1e-300", "x"),
    )

    lines = run("coin-log", "--all", "--store", str(path)).out.splitlines()

    assert max(map(cell_len, lines)) <= 80
    assert "days a column" in lines[-1]
    assert "+1.000e+300" in "".join(lines)


def test_the_week_s_coin_log_can_be_csv_too(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("coin-log", "--sandbox", "--csv").out)))

    assert {"time", "delta", "reason"} == set(rows[0])


# --- processes and terminals ----------------------------------------------------------------------

# asyncio's debug mode warns of every step that takes 0.1 s, which on a busy machine any step can.
START = """
import logging
from bili_account_async.cli import main

logging.getLogger("asyncio").setLevel(logging.ERROR)
main()
"""


def start(
    *args: str, terminal: int | None = None, home: Path | None = None
) -> subprocess.Popen[str]:
    """A Python process that would say every warning."""
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", START, *args],
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TERM": "xterm",
            "COLUMNS": "80",
            "LINES": "30",
        }
        | ({"XDG_CONFIG_HOME": str(home)} if home else {}),
        start_new_session=True,
    )


class Terminal:
    """A pseudo-terminal, and all that its user has seen."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.seen = ""

    def read_until(self, text: str = "") -> None:
        """Read until the text has come, or without one until the other side has closed."""
        try:
            while not text or text not in self.seen:
                assert select.select([self._ours], [], [], 15)[0], self.seen
                self.seen += os.read(self._ours, 4096).decode(errors="replace")
        except OSError:  # Linux says so when the other side has closed
            assert not text, self.seen

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        os.close(self._ours)


def test_a_signal_ends_the_watch_within_a_second_and_in_silence() -> None:
    lines, events = (
        start("watch", "--sandbox"),
        start("watch", "--sandbox", "--json", "--every", "1s"),
    )
    terminal = Terminal()
    table = start("watch", "--sandbox", "--every", "2s", terminal=terminal.theirs)
    os.close(terminal.theirs)
    for process in (lines, events):
        assert process.stdout is not None
        assert process.stdout.readline()
    terminal.read_until("5 accounts: ")

    for process, signum in (
        (lines, signal.SIGINT),
        (events, signal.SIGTERM),
        (table, signal.SIGINT),
    ):
        since = time.monotonic()
        process.send_signal(signum)
        if process is table:
            terminal.read_until()
            process.wait(timeout=15)
        else:
            _, err = process.communicate(timeout=15)
            assert err == "Watching invented accounts on an imitation server until Ctrl-C.\n"
        assert time.monotonic() - since < 2  # one, on a machine with nothing else to do
        assert process.returncode == 128 + signum

    terminal.close()
    assert "Traceback" not in terminal.seen
    assert "Last change" in terminal.seen
    shown, hidden = map(terminal.seen.rindex, ("\x1b[?25h", "\x1b[?25l"))
    assert shown > hidden  # the cursor shows again


def test_a_reader_that_leaves_early_ends_the_watch() -> None:
    process = start("watch", "--sandbox", "--every", "1s")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None

    assert "Traceback" not in process.communicate(timeout=15)[1]
    assert process.returncode == 1


def test_a_terminal_is_asked_for_the_login_to_add_without_echo(tmp_path: Path) -> None:
    terminal = Terminal()
    process = start("accounts", "add", "alice", terminal=terminal.theirs, home=tmp_path)
    os.close(terminal.theirs)

    terminal.read_until("not shown): ")
    terminal.type("SESSDATA=hush; DedeUserID=7\n")
    terminal.read_until()

    assert process.wait(timeout=15) == 0
    terminal.close()
    assert "hush" not in terminal.seen
    (written,) = tmp_path.rglob("accounts.toml")
    assert Credential(**tomllib.loads(written.read_text())["accounts"]["alice"]).dede_user_id == 7
