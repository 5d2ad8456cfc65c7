"""`bili-account`: what it shows, what it tells when something fails, how it ends, and that no
secret ever shows.

Most tests run the app in this process against a sandbox; exit codes, signals and terminals need a
process of its own.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from bili_account_async import Limits, Retry, __version__, open_session
from bili_account_async.cli import account as cli_account
from bili_account_async.cli.app import app
from bili_account_async.sandbox import CoinChange, Fault, Sandbox, SandboxAccount

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals")

VARIABLES = ("BILI_COOKIE", "BILI_SESSDATA", "BILI_DEDE_USER_ID", "BILI_JCT", "BILI_ACCESS_KEY")
HOSTILE = "[red]x[/] \x1b[31m\x9b2J\u202e\nnext"


class Ended:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def said(self) -> str:
        return self.out + self.err


Run = Callable[..., Ended]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a login."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def account(sandbox: Sandbox) -> SandboxAccount:
    return sandbox.add_account(uname="小明", sign="你好", mid=293793435)


def cookie_of(account: SandboxAccount) -> str:
    login = account.credential
    return f"SESSDATA={login.sessdata}; DedeUserID={login.dede_user_id}; bili_jct={login.bili_jct}"


def secrets_of(account: SandboxAccount) -> list[str]:
    login = account.credential
    return [str(login.sessdata), str(login.bili_jct), str(account.app_credential.access_key)]


@pytest.fixture
def run(
    bare: None, sandbox: Sandbox, account: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs a command as the account's owner; whatever it does, it shows no secret."""
    monkeypatch.setenv("BILI_COOKIE", cookie_of(account))
    to_sandbox = partial(
        open_session, hosts=sandbox.hosts, limits=Limits.none(), retry=Retry.none(), timeout=0.4
    )
    monkeypatch.setattr(cli_account, "open_session", to_sandbox)

    def run(*args: str, typed: str = "") -> Ended:
        result = CliRunner().invoke(app, args, input=typed, prog_name="bili-account")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        ended = Ended(result.exit_code, result.stdout, result.stderr)
        assert not [secret for secret in secrets_of(account) if secret in ended.said]
        assert "\x1b" not in ended.said
        return ended

    return run


# --- snapshot -------------------------------------------------------------------------------------


def test_snapshot_of_the_sandbox_shows_every_section(run: Run) -> None:
    ended = run("snapshot", "--sandbox")

    page = " ".join(ended.out.split())
    assert (ended.code, ended.err) == (0, "")
    for told in (
        "annual member, 23 days left",
        "30 of 65 experience",
        "share a video (+5)",
        "tip coins: 3 (+30)",
    ):
        assert told in page
    assert (
        "Security score 78 of 100 weak: password of medium strength, mail address not verified"
        in page
    )
    assert "Real name certified" in page
    assert "Coins in +" in page


def test_a_piped_page_is_plain_text_80_columns_wide_with_its_borders_aligned(
    run: Run, account: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.uname, account.sign = "很长的昵称" * 3, "签名" * 35
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    lines = run("snapshot").out.splitlines()

    assert max(map(cell_len, lines)) == 80
    assert {cell_len(line) for line in lines if line[0] in "╭│╰"} == {80}


def test_snapshot_as_json_is_one_document_with_the_api_s_names(
    run: Run, account: SandboxAccount
) -> None:
    account.uname = HOSTILE

    printed = run("snapshot", "--json")

    document = json.loads(printed.out)
    assert (printed.code, printed.err) == (0, "")
    assert document["account_info"]["uname"] == HOSTILE
    assert document["security_info"]["account_safe"]["Score"] == account.score
    assert "你好" in printed.out
    assert "\x9b" not in printed.out


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_partial_snapshot_says_what_is_missing_and_is_no_error(
    run: Run, sandbox: Sandbox, form: tuple[str]
) -> None:
    sandbox.fault("get_vip_info", Fault.status(502))
    sandbox.fault("get_coin_log", Fault.code(-500))

    ended = run("snapshot", *form)

    assert ended.code == 0
    assert "vip_info" in ended.said
    assert "HTTP 502" in ended.said
    assert "coin_log" in ended.said
    assert "VIP  " not in ended.out
    if form:
        assert set(json.loads(ended.out)["failures"]) == {"vip_info", "coin_log"}


def test_a_snapshot_of_which_nothing_came_is_an_error(run: Run, sandbox: Sandbox) -> None:
    sandbox.fault(None, Fault.status(502))

    page, document = run("snapshot"), run("snapshot", "--json")

    assert (page.code, page.out, document.code) == (1, "", 1)
    assert "next:" in page.err
    assert len(json.loads(document.out)["failures"]) == 8


def test_what_an_app_token_can_t_ask_for_is_said_to_be_skipped(
    run: Run, account: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BILI_COOKIE")
    monkeypatch.setenv("BILI_ACCESS_KEY", str(account.app_credential.access_key))

    page = run("snapshot")

    assert page.code == 0
    assert "coin_exp skipped" in page.out
    assert "vip_info skipped" in page.out


@pytest.mark.parametrize(
    ("vip", "told"),
    [
        ({"due": None, "vip_status": 0}, "not a member\n"),
        ({"due": timedelta(days=-2), "vip_status": 1}, "not a member, the membership ended on 20"),
        ({"due": timedelta(hours=20), "vip_status": 1}, "less than a day left"),
        ({"due": timedelta(hours=30), "vip_status": 1}, "one day left"),
        ({"due": timedelta(days=9.5), "vip_status": 2}, "frozen: the IP address changed too often"),
        ({"due": timedelta(days=9.5), "vip_status": 3}, "locked: the account is at high risk"),
        (
            {"due": timedelta(days=9.5), "vip_status": 9, "vip_type": 7},
            "unknown 7 member, 9 days left",
        ),
        (
            {"due": datetime(9999, 12, 31, 23, tzinfo=UTC) - datetime.now(UTC), "vip_status": 1},
            "until 9999-12-31",
        ),
    ],
)
def test_the_page_tells_how_the_membership_stands(
    run: Run, account: SandboxAccount, vip: dict[str, Any], told: str
) -> None:
    account.vip_type, account.vip_status = vip.get("vip_type", 1), vip["vip_status"]
    account.vip_due_date = (
        int((datetime.now(UTC) + vip["due"]).timestamp()) * 1000 if vip["due"] else 0
    )

    lines = (line.rstrip() for line in run("snapshot").out.splitlines())

    assert told in "\n".join(lines)


def test_the_page_tells_every_weak_spot_and_every_open_reward(
    run: Run, account: SandboxAccount
) -> None:
    account.unneeded_check, account.security, account.pwd_level = True, False, 1
    account.bind_tel = account.bind_mail = account.realname_certified = account.safe_question = (
        False
    )
    account.login = account.watch = account.share = False
    account.coin_exp = 45
    account.weibo_bind = account.qq_bind = account.wechat_bind = False

    page = " ".join(run("snapshot").out.split())

    assert "5 of 65 experience" in page
    assert "open: log in (+5), watch a video (+5), share a video (+5), tip coins: 1 (+5)" in page
    assert "telephone number (+100), set a safety question, certify the real name (+50)" in page
    assert "no password is set, the password is not safe, password of weak strength" in page
    assert "no telephone number, no mail address, real name not certified" in page
    assert "bound: nothing" in page


def test_the_week_s_chart_has_a_day_a_line_and_survives_monstrous_amounts(
    run: Run, account: SandboxAccount
) -> None:
    now = datetime.now(UTC)
    account.history = [
        CoinChange(now, 1e300, "a"),
        CoinChange(now, -1e-300, "b"),
        CoinChange(now, -2, "c"),
    ]

    lines = run("snapshot").out.splitlines()

    chart = [line for line in lines if "│" in line and not line.startswith("│")]
    assert len(chart) == 7
    assert "+1.000e+300" in chart[0]
    assert max(map(cell_len, lines)) <= 80


# --- whoami, coin-log, sign -----------------------------------------------------------------------


def test_whoami_is_one_line(run: Run) -> None:
    assert run("whoami").out == "小明 (mid 293793435, 正式会员)\n"
    assert json.loads(run("whoami", "--json").out)["mid"] == 293793435


def test_coin_log_lists_the_entries_and_sums_them_up(run: Run, account: SandboxAccount) -> None:
    now = datetime.now(UTC)
    account.history = [
        CoinChange(now, 1, "登录奖励"),
        CoinChange(now, 0.2, "给视频"),
        CoinChange(now, -3, "很长" * 40),
    ]

    table, document = run("coin-log"), run("coin-log", "--json")

    assert table.out.splitlines()[-1].strip() == "in +1.2, out -3, net -1.8"
    assert max(map(cell_len, table.out.splitlines())) <= 80
    assert table.out.count("长") == 40
    assert sorted(entry["delta"] for entry in json.loads(document.out)["list"]) == [-3, 0.2, 1]


def test_an_empty_coin_log_is_said(run: Run, account: SandboxAccount) -> None:
    account.history = []

    assert run("coin-log").out == "No coins came or went in the last week.\n"
    assert "in 0, out 0, net 0" in run("snapshot").out


def test_text_of_the_server_can_inject_neither_markup_nor_terminal_codes(
    run: Run, sandbox: Sandbox, account: SandboxAccount
) -> None:
    account.uname = account.sign = account.rank = account.hide_mail = HOSTILE
    account.history = [CoinChange(datetime.now(UTC), 1, HOSTILE)]

    shown = [
        run("whoami"),
        run("snapshot"),
        run("coin-log"),
        run("sign", "show"),
        run("sign", "clear", typed="n\n"),
    ]
    sandbox.fault(None, Fault.code(-400, HOSTILE))
    refused = run("whoami")

    assert "[red]x[/]" in refused.err
    assert not set("\x1b\x9b\u202e") & set(refused.err)
    for ended in shown:
        assert "[red]x[/] \ufffd[31m\ufffd2J next" in ended.said
        assert not set("\x1b\x9b\u202e") & set(ended.said)


def test_sign_show_prints_the_sign_alone(run: Run) -> None:
    assert run("sign", "show").out == "你好\n"


@pytest.mark.parametrize("command", [("set", "新的签名"), ("clear",)])
def test_sign_changes_only_after_a_yes(
    run: Run, sandbox: Sandbox, account: SandboxAccount, command: list[str]
) -> None:
    declined = [
        run("sign", *command, typed="n\n"),
        run("sign", *command, typed="\n"),
        run("sign", *command),
    ]
    assert [ended.code for ended in declined] == [1, 1, 1]
    assert "update_sign" not in [request.endpoint for request in sandbox.requests]

    agreed = run("sign", *command, typed="y\n")

    account.finish_review()
    assert (agreed.code, agreed.out) == (0, "")
    assert "小明 (mid 293793435) is: 你好" in agreed.err
    assert "review" in agreed.err
    assert account.sign == "".join(command[1:])


def test_sign_with_yes_asks_nothing(run: Run, sandbox: Sandbox) -> None:
    ended = run("sign", "set", "新的签名", "--yes")

    assert ended.code == 0
    assert [request.endpoint for request in sandbox.requests] == ["update_sign"]


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("长" * 71, 1, "70"),
        ("敏感词", 1, "another text"),
        ("[doge]", 1, "another text"),
        ("a\tb", 2, "control"),
    ],
)
def test_a_sign_that_can_t_be_says_why(run: Run, text: str, code: int, told: str) -> None:
    ended = run("sign", "set", text, "--yes")

    assert ended.code == code
    assert told in ended.err


def test_a_sign_whose_answer_was_lost_may_have_been_asked_for(run: Run, sandbox: Sandbox) -> None:
    sandbox.fault("update_sign", Fault.reset())

    assert "bili-account sign show" in run("sign", "set", "x", "-y").err


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (Fault.code(-101), 4, "log in again in a browser"),
        (Fault.code(-352), 1, "open the account in a browser"),
        (Fault.code(-400), 1, "code -400"),
        (Fault.code(-111), 1, "from the same login"),
        (Fault.status(412, retry_after=7), 1, "wait 7 s"),
        (Fault.code(-509), 1, "wait some minutes"),
        (Fault.hang(), 1, "check the network"),
        (Fault.reset(), 1, "check the network"),
        (Fault.html(), 1, "try again in some minutes"),
        (Fault.payload(lambda payload: {"code": 0}), 1, "bili-account doctor"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize("command", [("whoami",), ("snapshot", "--json")])
def test_a_failure_is_two_lines_that_say_what_happened_and_what_to_do(
    run: Run, sandbox: Sandbox, command: tuple[str], fault: Fault, code: int, told: str
) -> None:
    sandbox.fault(None, fault)

    ended = run(*command)

    *_, error, advice = ended.err.splitlines()
    if command == ("whoami",):
        assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 2)
        assert error.startswith("error: get_account_info: ")
        assert told in error + advice
    else:
        assert (ended.code, error[:7], advice[:7]) == (code, "error: ", "next:  ")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"BILI_COOKIE": "SESSDATA=se cret"},
        {"BILI_COOKIE": "buvid3=secret"},
        {"BILI_SESSDATA": "secret", "BILI_ACCESS_KEY": "secret"},
        {"BILI_JCT": "secret"},
        {"BILI_SESSDATA": "secret"},
    ],
    ids=str,
)
def test_no_usable_login_is_wrong_usage_and_says_how_to_give_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.delenv("BILI_COOKIE")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    ended = run("sign", "clear", "--yes")

    assert (ended.code, ended.out) == (2, "")
    assert "--cookies-txt PATH" in ended.err
    assert "secret" not in ended.err
    assert "cret\n" not in ended.err


def test_the_login_may_come_from_a_browser_s_exported_cookies(
    run: Run, sandbox: Sandbox, tmp_path: Path
) -> None:
    other = sandbox.add_account(uname="别人")
    exported = tmp_path / "cookies.txt"
    exported.write_text(f".bilibili.com\tTRUE\t/\tTRUE\t0\tSESSDATA\t{other.credential.sessdata}\n")

    assert run("whoami", "--cookies-txt", str(exported)).out.startswith("别人")


def test_a_cookie_given_in_place_of_a_path_is_not_repeated(run: Run) -> None:
    ended = run("whoami", "--cookies-txt", "SESSDATA=pasted")

    assert ended.code == 2
    assert "not the name of a file" in ended.err
    assert "pasted" not in ended.err


@pytest.mark.parametrize(
    "args",
    [
        ("whoami", "--sessdata", "x"),
        ("whoami", "--sandbox", "--cookies-txt", "x"),
        ("sign", "set"),
        ("no-such-command",),
        ("sandbox", "--port", "70000"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, args: tuple[str]) -> None:
    ended = run(*args)

    assert (ended.code, ended.out) == (2, "")
    assert "Usage: bili-account" in ended.err


def test_what_the_server_leaves_out_leaves_no_hole_on_the_page(run: Run, sandbox: Sandbox) -> None:
    def without(*names: str) -> Fault:
        return Fault.data(lambda data: {k: v for k, v in data.items() if k not in names})

    sandbox.fault("get_account_info", without("rank", "sign", "birthday"))
    sandbox.fault(
        "get_security_info",
        Fault.data(
            lambda data: (
                data
                | {
                    "account_info": {
                        **data["account_info"],
                        "hide_tel": None,
                        "hide_mail": None,
                        "bind_mail": False,
                    }
                }
            )
        ),
    )
    page = run("snapshot")
    assert page.code == 0
    assert ", , mid" not in page.out
    assert "bound: a telephone" in page.out
    assert ", )" not in run("whoami").out


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_the_documented_replies(run: Run) -> None:
    report = run("doctor")

    assert report.code == 0
    assert report.out.startswith(f"bili-account-async {__version__}")
    assert report.out.count(": ok\n") == 8


def test_doctor_names_unknown_wrong_and_missing_fields_without_any_value(
    run: Run, sandbox: Sandbox, account: SandboxAccount
) -> None:
    account.birthday = "2001-09-09"
    sandbox.fault(
        "get_account_info",
        Fault.data(lambda data: data | {"level": 6, "a" * 32 + "1": 1, "293793435": 1}),
    )
    sandbox.fault(
        "get_vip_info",
        Fault.data(lambda data: data | {"vip_status": 417.5, "label": {"text": "大会员"}}),
    )
    sandbox.fault("get_daily_rewards", Fault.data(lambda data: {"login": data["login"]}))
    sandbox.fault(
        "get_realname_status", Fault.payload(lambda payload: payload | {"data": ["小明"]})
    )
    sandbox.fault("get_coin_exp", Fault.status(502))
    sandbox.fault("get_security_info", Fault.code(-400, "小明"))

    report = run("doctor")

    assert report.code == 1
    lines = report.out.splitlines()
    assert "get_account_info: ok, with unknown fields" in lines
    assert "  data.level: unknown" in lines
    assert "  data.***: unknown" in lines
    assert "  data.vip_status: expected int (VipStatus), got float" in lines
    assert '"label": {"text": "str"}' in report.out
    assert "  data.watch: expected a bool, got nothing" in lines
    assert '  came: {"login": "bool"}' in lines
    assert "  data: expected an object, got list" in lines
    assert "get_coin_exp: ProtocolError, an HTTP error: HTTP 502" in report.out
    assert "get_security_info: ApiError, code -400" in lines
    assert "get_coin_log: ok" in lines
    for value in (
        "小明",
        "293793435",
        "417",
        "大会员",
        "2001",
        "aaaa",
        account.userid,
        account.hide_tel,
    ):
        assert value not in report.out


def test_doctor_s_report_stays_small_whatever_comes(run: Run, sandbox: Sandbox) -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"deep": [deep]}
    wide = {f"wide_{number % 1000}_{'x' * (number // 1000)}": 1 for number in range(5000)}
    sandbox.fault("get_account_info", Fault.data(lambda data: {"deep": deep, **wide}))

    report = run("doctor")

    assert report.code == 1
    assert len(report.out) < 5000


def test_doctor_says_what_it_skipped_and_that_the_login_is_dead(
    run: Run, account: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILI_COOKIE", f"SESSDATA={account.credential.sessdata}")
    assert "get_coin_exp: skipped, the credential lacks dede_user_id" in run("doctor").out
    account.log_out()

    report = run("doctor")

    assert report.code == 4
    assert "get_vip_info: NotLoggedIn, code -101" in report.out


# --- processes, signals, terminals ----------------------------------------------------------------

# asyncio's debug mode warns of every step that takes 0.1 s, which on a busy machine any step can.
START = """
import logging
from bili_account_async.cli import main

logging.getLogger("asyncio").setLevel(logging.ERROR)
main()
"""
HANGING = f"""
from contextlib import asynccontextmanager
from bili_account_async import Retry, open_session
from bili_account_async.cli import account
from bili_account_async.sandbox import Fault, Sandbox

@asynccontextmanager
async def hanging(credential):
    async with Sandbox() as sandbox:
        sandbox.fault(None, Fault.hang())
        print("ready", flush=True)
        async with open_session(
            credential, hosts=sandbox.hosts, timeout=60, retry=Retry.none()
        ) as me:
            yield me

account.open_session = hanging
{START}
"""
SLOW_LOOKUP = f"""
import socket, time
from functools import partial
from bili_account_async import Retry, open_session
from bili_account_async.cli import account

def slow(*_, **__):
    print("ready", flush=True)
    time.sleep(20)

socket.getaddrinfo = slow
account.open_session = partial(open_session, timeout=60, retry=Retry.none())
{START}
"""


def start(code: str, *args: str, stdout: int | TextIO = subprocess.PIPE) -> subprocess.Popen[str]:
    """A Python process that would say every warning, with an invented login in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "BILI_COOKIE": "SESSDATA=hush; DedeUserID=1; bili_jct=hush",
    }
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def end(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=15)
    assert "hush" not in out + err
    return Ended(process.returncode, out, err)


def test_a_signal_ends_a_command_within_a_second_and_in_silence() -> None:
    waiting = [
        (signum, start(code, *args))
        for signum, code, args in (
            (signal.SIGINT, HANGING, ("snapshot",)),
            (signal.SIGTERM, HANGING, ("snapshot", "--json")),
            (signal.SIGINT, HANGING, ("doctor",)),
            (signal.SIGTERM, HANGING, ("sign", "set", "x", "--yes")),
            (signal.SIGINT, SLOW_LOOKUP, ("whoami",)),
            (signal.SIGTERM, SLOW_LOOKUP, ("coin-log",)),
        )
    ]
    for _, process in waiting:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    for signum, process in waiting:
        since = time.monotonic()

        process.send_signal(signum)

        ended = end(process)
        # One second, on a machine with nothing else to do.
        assert time.monotonic() - since < 2, process.args
        assert (ended.code, ended.out.replace("ready\n", ""), ended.err) == (
            128 + signum,
            "",
            "",
        ), process.args


def test_sandbox_tells_how_to_reach_it_and_serves_until_a_signal() -> None:
    process = start(START, "sandbox")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(9)]
    export = next(line for line in lines if line.startswith("export BILI_COOKIE="))
    url, cookie = lines[-1].split()[1], export.split("'")[1]

    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Cookie": cookie})
    ) as response:
        assert json.load(response)["code"] == 0
    process.send_signal(signal.SIGINT)

    ended = end(process)
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.startswith("Serving until Ctrl-C.")
    assert ended.err.count("\n") == 1


def test_sandbox_on_a_port_that_is_taken_is_an_error(run: Run, sandbox: Sandbox) -> None:
    ended = run("sandbox", "--port", sandbox.url.rpartition(":")[2])

    assert (ended.code, ended.out) == (1, "")
    assert "choose another --port" in ended.err


def test_a_process_without_warnings_or_leaks_prints_the_page() -> None:
    ended = end(
        start(
            START.replace("main()", "import bili_account_async.cli.__main__"),
            "snapshot",
            "--sandbox",
        )
    )

    assert (ended.code, ended.err) == (0, "")
    assert "days left" in ended.out


def test_a_dead_login_is_exit_code_4_in_a_real_process() -> None:
    ended = end(start(HANGING.replace("Fault.hang()", "Fault.code(-101)"), "whoami"))

    assert ended.code == 4
    assert ended.err.startswith(
        "error: get_account_info: 账号未登录 (code -101)\nnext:  log in again"
    )


def test_without_typer_and_rich_the_command_says_how_to_install_them() -> None:
    ended = end(start(f"import sys; sys.modules['typer'] = None\n{START}", "snapshot"))

    assert (ended.code, ended.out) == (1, "")
    assert (
        ended.err == "bili-account needs the extra `cli`: pip install 'bili-account-async[cli]'\n"
    )


def test_a_reader_that_leaves_early_and_a_full_disk_bring_no_traceback() -> None:
    gone = start(START, "coin-log", "--sandbox")
    assert gone.stdout is not None
    gone.stdout.close()
    gone.stdout = None
    with open("/dev/full", "w") as full:
        stuck = start(START, "coin-log", "--sandbox", stdout=full)

    assert gone.communicate()[1] == ""
    assert stuck.communicate()[1] == "error: No space left on device\n"
    assert (gone.returncode, stuck.returncode) == (1, 1)


def in_terminal(code: str, *args: str, typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """Exit code, and all that the user of a terminal sees."""
    ours, theirs = pty.openpty()
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    } | environment
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
            if typed and b"not shown): " in seen:
                os.write(ours, typed)
                typed = b""
    except OSError:  # Linux says so when the other side has closed
        pass
    os.close(ours)
    return process.wait(timeout=15), seen.decode()


@pytest.mark.parametrize(
    "pasted", ["SESSDATA={0}", "{0}", "Cookie: buvid3=x; SESSDATA={0}; DedeUserID=1"]
)
def test_a_terminal_is_asked_for_the_login_without_echo(
    sandbox: Sandbox, account: SandboxAccount, pasted: str
) -> None:
    code = f"""
from functools import partial
from bili_account_async import Hosts, open_session
from bili_account_async.cli import account
account.open_session = partial(open_session, hosts=Hosts(api={sandbox.url!r}))
{START}
"""
    secret = str(account.credential.sessdata)

    exit_code, seen = in_terminal(code, "whoami", typed=f"{pasted.format(secret)}\n".encode())

    assert exit_code == 0
    assert "小明 (mid 293793435" in seen
    assert secret not in seen


def test_a_question_without_an_answer_is_wrong_usage() -> None:
    exit_code, seen = in_terminal(START, "whoami", typed=b"\x04")

    assert exit_code == 2
    assert "error: sessdata: is empty" in seen
    assert "Traceback" not in seen


def test_a_terminal_has_colours_unless_no_color_is_set() -> None:
    _, coloured = in_terminal(START, "snapshot", "--sandbox")
    exit_code, plain = in_terminal(START, "snapshot", "--sandbox", NO_COLOR="1")

    assert exit_code == 0
    assert "\x1b[" in coloured
    assert "\x1b" not in plain


# --- the whole ------------------------------------------------------------------------------------


def test_version_and_help_are_plain_and_name_every_command(run: Run) -> None:
    shown = run("--help")

    assert run("--version").out == f"bili-account {__version__}\n"
    assert shown.code == 0
    for command in ("snapshot", "whoami", "coin-log", "sign", "sandbox", "doctor"):
        assert f"\n  {command} " in shown.out


def test_nothing_in_the_core_imports_the_command() -> None:
    code = (
        "import sys, bili_account_async; print({'typer', 'rich', 'bili_account_async.cli'} & "
        "set(sys.modules))"
    )

    assert end(start(code)).out == "set()\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_traceback(closed: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f'"$0" -m bili_account_async.cli whoami --sandbox {closed}', sys.executable],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert ("(mid " in ended.stdout) == (closed != ">&-")
