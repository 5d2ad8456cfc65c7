"""Whatever people have in the clipboard becomes the credential that is in it, or is refused with a
sentence that says what was seen and shows no value.

Tests that hold secrets keep them in `Held`, so that no frame of theirs is what leaks.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fuzz
from test_credential import Held, all_that_is_told_of

from bili_account_async import Credential, CredentialError

# In the shape of real ones; the third part of newer ones is longer.
SESSDATA, MID, JCT = (
    "5e55da7a%2C1893456000%2Cs3cre*c2",
    293793435,
    "c5rfs3cret0123456789abcdef012345",
)
HEADER = f"SESSDATA={SESSDATA}; DedeUserID={MID}; bili_jct={JCT}"
WHOLE = Credential(sessdata=SESSDATA, dede_user_id=MID, bili_jct=JCT)
Pairs = list[tuple[str, str]]


def sessdatas() -> st.SearchStrategy[str]:
    ends = st.from_regex(r"\A[0-9a-f]{5}\*[0-9a-f]{2}([A-Za-z0-9_=-]{4,60})?\Z")
    return st.builds(
        "{}{comma}{}{comma}{}".format,
        st.from_regex(r"\A[0-9a-f]{8}\Z"),
        st.integers(1_500_000_000, 2_100_000_000),
        ends,
        comma=st.sampled_from(["%2C", "%2c", ","]),
    )


@st.composite
def logins(draw: st.DrawFn) -> Credential:
    jcts = st.from_regex(r"\A[0-9a-f]{32}\Z") | st.from_regex(r"\A[!#-&(-:<-\[\]-_a-~]{1,40}\Z")
    return Credential(
        sessdata=draw(sessdatas()),
        dede_user_id=draw(st.none() | st.integers(1, 10**16)),
        bili_jct=draw(st.none() | jcts),
    )


def pairs_of(login: Credential) -> Pairs:
    named = (
        ("SESSDATA", login.sessdata),
        ("DedeUserID", login.dede_user_id),
        ("bili_jct", login.bili_jct),
    )
    return [(name, str(value)) for name, value in named if value is not None]


# --- the formats, as browsers and tools write them ------------------------------------------------


def header(pairs: Pairs) -> str:
    return "; ".join(f"{name}={value}" for name, value in pairs)


def curl_bash(pairs: Pairs) -> str:
    return (
        "curl 'https://api.bilibili.com/x/web-interface/nav?a=1' \\\n"
        "  -H 'accept: */*' \\\n  -H 'sec-ch-ua: \"Chromium\";v=\"140\"' \\\n"
        f"  -H {shlex.quote('cookie: ' + header(pairs))} \\\n  -H 'user-agent: Mozilla/5.0'"
    )


def curl_bash_with_b(pairs: Pairs) -> str:
    ansi = "".join(c if c.isalnum() or c in "=;%, " else f"\\u{ord(c):04x}" for c in header(pairs))
    return (
        f"curl 'https://www.bilibili.com/' \\\n  -H 'accept: */*' \\\n  -b $'{ansi}' --compressed"
    )


def curl_cmd(pairs: Pairs) -> str:
    """Chrome's own way of quoting for cmd."""

    def quoted(text: str) -> str:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        text = re.sub(r"[^a-zA-Z0-9\s_\-:=+~'/.',?;()*`]", r"^\g<0>", text)
        return '^"' + re.sub(r"%(?=[a-zA-Z0-9_])", "%^", text) + '^"'

    return (
        f"curl {quoted('https://api.bilibili.com/x?a=1&b=%20')} ^\r\n"
        f"  -H {quoted('accept: */*')} ^\r\n  -H {quoted('cookie: ' + header(pairs))}"
    )


def curl_firefox_windows(pairs: Pairs) -> str:
    text = header(pairs).replace("%", '"%"')
    return f'curl.exe "https://www.bilibili.com/" --compressed -H "Cookie: {text}" -H "DNT: 1"'


def cookie_editor(pairs: Pairs) -> str:
    fields = {"path": "/", "secure": True, "hostOnly": False, "expirationDate": 1893456000.5}
    cookies = [
        {"domain": ".bilibili.com", "name": name, "value": value} | fields for name, value in pairs
    ]
    decoy = {"domain": ".example.com", "name": "SESSDATA", "value": "decoy"}
    return json.dumps([*cookies, decoy], indent=4)


def storage_state(pairs: Pairs) -> str:
    cookies = json.loads(cookie_editor(pairs))
    return json.dumps({"cookies": cookies, "origins": [{"origin": "x", "localStorage": []}]})


def biliup(pairs: Pairs) -> str:
    cookies = [{"name": name, "value": value, "http_only": 0} for name, value in pairs]
    info = {"cookies": cookies, "domains": [".bilibili.com", ".bigfun.cn"]}
    token = {"access_token": "decoy", "mid": MID}
    return json.dumps({"cookie_info": info, "token_info": token, "platform": "BiliTV"}, indent=2)


def json_object(pairs: Pairs) -> str:
    return (
        "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
    )


def netscape(pairs: Pairs) -> str:
    row = "{}.bilibili.com\tTRUE\t/\tFALSE\t1893456000\t{}\t{}"
    rows = [row.format("#HttpOnly_" * (at % 2), *pair) for at, pair in enumerate(pairs)]
    decoy = ".example.com\tTRUE\t/\tFALSE\t0\tSESSDATA\tdecoy"
    return "\n".join(["# Netscape HTTP Cookie File", "# https://curl.se/", "", decoy, *rows])


def request_headers(pairs: Pairs) -> str:
    return f"Host: www.bilibili.com\nCookie: {header(pairs)}\nReferer: https://www.bilibili.com/\n"


def one_a_line(pairs: Pairs) -> str:
    return "\n".join(f"{name}={value}" for name, value in pairs)


def dotenv(pairs: Pairs) -> str:
    return f'# my login\nBILI_COOKIE="{header(pairs)}"\n'


FORMATS: dict[str, Callable[[Pairs], str]] = {
    "header": header,
    "Cookie: header": lambda pairs: f"Cookie: {header(pairs)}",
    "cookie:header;": lambda pairs: f"cookie:{header(pairs)};",
    "quoted values": lambda pairs: header([(name, f'"{value}"') for name, value in pairs]),
    "lower case": lambda pairs: header([(name.lower(), value) for name, value in pairs]),
    "Set-Cookie": lambda pairs: "\n".join(f"Set-Cookie: {header([p])}; Path=/" for p in pairs),
    "a pair a line": one_a_line,
    "a pair a line, with semicolons": lambda pairs: one_a_line(pairs).replace("\n", ";\n") + ";",
    "request headers": request_headers,
    ".env": dotenv,
    "cURL (bash)": curl_bash,
    "cURL (bash), -b $''": curl_bash_with_b,
    "cURL (cmd)": curl_cmd,
    "cURL (Firefox, Windows)": curl_firefox_windows,
    "several cURL": lambda pairs: " ;\n".join(
        (curl_bash(pairs), "curl 'https://example.com/' -b 'SESSDATA=decoy'", curl_bash([]))
    ),
    "Cookie-Editor": cookie_editor,
    "storage_state": storage_state,
    "biliup": biliup,
    "JSON object": json_object,
    "JSON object with a header": lambda pairs: json.dumps({"cookie": header(pairs)}),
    "cookies.txt": netscape,
    "developer tools": lambda pairs: "\n".join(
        f"{name}\t{value}\t.bilibili.com\t/\t2030-01-01T00:00:00.000Z\t40\t✓"
        for name, value in pairs
    ),
    "exports": lambda pairs: "\n".join(f'export {name}="{value}"' for name, value in pairs),
    "YAML": lambda pairs: "\n".join(f"{name}: '{value}'" for name, value in pairs),
    "a Chinese chat": lambda pairs: "\n".join(f"{name}\uff1a{value}" for name, value in pairs),
}
AROUND = ["", " ", "\n", "\r\n\r\n", "\ufeff", "\t \n", "\u3000"]
NOISE: Pairs = [
    ("buvid3", "F00-infoc"),
    ("b_nut", "1700000000"),
    ("DedeUserID__ckMd5", "d00d"),
    ("SESSDATA_OLD", "decoy"),
    ("sid", "x.y=z=="),
    ("CURRENT_FNVAL", "4048"),
]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_login_is_read_whatever_its_format_quotes_line_ends_order_and_company(
    write: Callable[[Pairs], str],
) -> None:
    @fuzz
    @given(st.data(), logins())
    def check(data: st.DataObject, login: Credential) -> None:
        noise = data.draw(st.lists(st.sampled_from(NOISE), unique=True))
        twice = data.draw(st.sampled_from([[], pairs_of(login)[:1]]))
        pairs = data.draw(st.permutations(pairs_of(login) + noise + twice))
        text = write(pairs)
        if data.draw(st.booleans()):
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        quote = data.draw(st.sampled_from(["", "'", '"', "“"])) if "\n" not in text else ""
        before, after = data.draw(st.tuples(*[st.sampled_from(AROUND)] * 2))
        text = f"{before}{quote}{text}{quote.replace('“', '”')}{after}"
        assert Credential.parse(text) == login

    check()


def test_a_proxy_in_a_curl_command_is_no_other_site() -> None:
    command = f"curl -x http://127.0.0.1:8080 https://www.bilibili.com -H 'Cookie: {HEADER}'"
    assert Credential.parse(command) == WHOLE


@pytest.mark.parametrize(
    "text",
    [
        "access_key=acce55s3cret",
        "access_token=acce55s3cret\n",
        "'access_key = \"acce55s3cret\"'",
        "BILI_ACCESS_KEY=acce55s3cret",
        '{"access_key": "acce55s3cret"}',
        '{"data": {"access_token": "acce55s3cret", "expires_in": 1}}',
    ],
)
def test_an_access_key_is_read_by_its_name(text: str) -> None:
    assert Credential.parse(text) == Credential(access_key="acce55s3cret")


@fuzz
@given(sessdatas(), st.sampled_from(AROUND), st.sampled_from(["", "'", '"']))
def test_a_bare_sessdata_is_read(sessdata: str, around: str, quote: str) -> None:
    made = Credential.parse(f"{around}{quote}{sessdata}{quote}{around}")
    assert made == Credential(sessdata=sessdata)


# --- which login it is ----------------------------------------------------------------------------


def listed(*cookies: tuple[str, str, str]) -> str:
    return json.dumps([{"domain": d, "name": n, "value": v} for d, n, v in cookies])


def test_the_cookies_of_bilibili_com_go_before_those_of_its_hosts() -> None:
    other = "0ther000%2C1893456000%2C00000*00"
    text = listed(
        ("live.bilibili.com", "SESSDATA", other),
        ("live.bilibili.com", "bili_jct", "0"),
        (".bilibili.com", "SESSDATA", SESSDATA),
        ("www.bilibili.com", "DedeUserID", "1"),
        ("bilibili.com", "DedeUserID", str(MID)),
    )
    assert Credential.parse(text) == Credential(sessdata=SESSDATA, dede_user_id=MID)


def test_the_cookies_of_one_host_are_a_login_if_there_is_no_other() -> None:
    text = listed(("www.bilibili.com", "SESSDATA", SESSDATA), ("WWW.bilibili.com", "bili_jct", JCT))
    assert Credential.parse(text) == Credential(sessdata=SESSDATA, bili_jct=JCT)


def test_a_name_in_its_own_spelling_goes_before_others() -> None:
    assert Credential.parse(f"sessdata=other; {HEADER}; dedeuserid=1") == WHOLE


def test_a_dede_user_id_of_zero_counts_as_absent() -> None:
    for text in (
        f"SESSDATA={SESSDATA}; DedeUserID=0",
        f'{{"SESSDATA":"{SESSDATA}","DedeUserID":0}}',
    ):
        assert Credential.parse(text).dede_user_id is None


REFUSED = {
    "nothing": ("", "nothing is in it"),
    "quotes only": ('""', "nothing is in it"),
    "a word": ("hells3cret", "one word of 10 characters, and no SESSDATA"),
    "a bracket": ("[", "begins as JSON, and is none from line 1, column 2"),
    "a JSON list that was cut": (listed((".bilibili.com", "SESSDATA", SESSDATA))[:-9], "copy all"),
    "a JSON number beyond Python's": ("[" + "9" * 5000 + "]", "begins as JSON"),
    "JSON that is too deep": ("[" * 100_000, "begins as JSON"),
    "a JSON list of another site": (
        listed((".bilibili.cn", "SESSDATA", SESSDATA)),
        "the JSON has no SESSDATA of bilibili.com, only another site's",
    ),
    "a JSON list without login": (listed((".bilibili.com", "buvid3", "x")), "log in there"),
    "a JSON list of something": ("[1, null, [2]]", "the JSON has no SESSDATA"),
    "a JSON object twice": (
        f'{{"SESSDATA": "{SESSDATA}", "SESSDATA": "s3cret"}}',
        "SESSDATA: is there twice, with different values",
    ),
    "a JSON object with a null": ('{"SESSDATA": null, "bili_jct": "s3cret"}', "one of them is"),
    "a JSON object with a list": ('{"SESSDATA": ["s3cret"]}', "sessdata: expected str, got list"),
    "a cURL command to another site": (
        curl_bash(pairs_of(WHOLE)).replace("api.bilibili.com", "bilibili.example"),
        "the cURL command has no SESSDATA of bilibili.com, only another site's",
    ),
    "a cURL command with a line feed": (
        "curl https://www.bilibili.com -b $'SESSDATA=5e55da7a\\x0as3cret'",
        "sessdata: holds LF",
    ),
    "a header in JSON with a line feed": ('{"cookie": "SESSDATA=5e55\\ns3cret"}', "holds LF"),
    "a cURL command without cookies": (curl_bash([]), "the cURL command has no SESSDATA"),
    "a cURL command that was cut": (curl_bash(pairs_of(WHOLE))[:-70], "copy all of it"),
    "a cURL command with a jar": ("curl https://www.bilibili.com -b jar", "has no SESSDATA"),
    "document.cookie": (
        f"buvid3=x; DedeUserID={MID}; bili_jct={JCT}",
        "document.cookie does not show SESSDATA, which is HttpOnly: copy it from .*Application",
    ),
    "cookies.txt with spaces": (
        netscape(pairs_of(WHOLE)).replace("\t", "    "),
        "the fields are separated by spaces, not tabs",
    ),
    "cookies.txt without a login": (netscape([("buvid3", "x")]), "only another site's"),
    "cookies.txt without a cookie": ("# Netscape HTTP Cookie File\n", "the cookies.txt has no"),
    "a SESSDATA without %": (SESSDATA.replace("%", ""), "two %2C: has a shell"),
    "a header without %": (HEADER.replace("%", ""), "two %2C: has a shell"),
    "a header without one %": (HEADER.replace("%", "", 1), "two %2C: has a shell"),
    "a SESSDATA that ends at its %": (HEADER.replace(SESSDATA[8:], ""), "two %2C: has a shell"),
    "a header from cron": (HEADER.replace("%", "\n"), "SESSDATA: it seems to go on in the next"),
    "a SESSDATA encoded twice": (SESSDATA.replace("%", "%25"), "percent-encoded twice"),
    "a wrapped header": (HEADER.replace(SESSDATA[12:], f"\n{SESSDATA[12:]}"), "in one line"),
    "a header wrapped in a name": (HEADER.replace("bili_jct", "bili_\njct"), "bili_jct: it seems"),
    "two logins": (f"{HEADER}\n{HEADER.replace('5e55', '0e55')}", "is there twice"),
    "cookies between commas": (HEADER.replace("; ", ","), "after a comma: .* semicolons"),
    "a table of another site": (f"SESSDATA\t{SESSDATA}\t.example.com\t/", "only another site's"),
    "a cookie and a token": (f"{HEADER}; access_key=s3cret", "access_key: is a login of its own"),
    "two tokens": ("access_token=s3cret1; access_token=s3cret2", "is there twice"),
    "a token among other fields": ("access_key=s3cret&ts=1", "other fields follow it"),
    "a value with its name": ('{"SESSDATA": "SESSDATA=s3cret"}', "begins with a cookie's name"),
    "a URL": ("https://www.bilibili.com/?s3cret=1", "this is a URL"),
    "a web page": ("<html>s3cret</html>", "this is a web page"),
    "a file's name": ("~/s3cret/cookies.json", "Credential.from_file reads one"),
    "a sentence": ("log in with s3cret please", "25 characters without a login in it"),
    "a placeholder": ("SESSDATA=…; bili_jct=s3cret", "not ASCII"),
}


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_login_is_refused_with_what_was_seen_and_what_to_do(
    text: str, says: str
) -> None:
    with pytest.raises(CredentialError, match=says) as caught:
        Credential.parse(text)
    assert len(str(caught.value)) < 300
    assert "s3cre" not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"SESSDATA=s3cret", 5, ["s3cret"]], ids=repr)
def test_what_is_no_text_is_refused_by_its_type(value: Any) -> None:
    with pytest.raises(CredentialError, match=f"expected str, got {type(value).__name__}"):
        Credential.parse(value)


# --- refusing, as a property ----------------------------------------------------------------------

SECRET = re.compile(r"5e55da7a|1893456000|s3cre|c5rf", re.I)
BAD = [" ", '"', "\\", "\0", "\x7f", "é", "\u2028", "\x1b[2J", "…"]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_damaged_login_is_refused_and_no_piece_of_it_is_shown(
    write: Callable[[Pairs], str],
) -> None:
    """A character that no value holds, a second login, or no SESSDATA."""

    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        pairs = pairs_of(WHOLE)
        damage = data.draw(st.sampled_from(["bad", "twice", "without"]))
        at = data.draw(st.integers(0, 2))
        name, value = pairs[at]
        if damage == "bad":
            cut = data.draw(st.integers(1, len(value) - 1))
            pairs[at] = (name, value[:cut] + data.draw(st.sampled_from(BAD)) + value[cut:])
        elif damage == "twice":
            pairs.insert(data.draw(st.integers(0, 3)), (name, "1" + value))
        else:
            del pairs[0]
        held = Held(write(pairs))
        del pairs, value
        assert not SECRET.search(all_that_is_told_of(lambda: Credential.parse(held.value)))

    check()


@pytest.mark.parametrize("write", [curl_bash, curl_cmd, cookie_editor, storage_state, biliup])
def test_a_paste_that_was_cut_never_becomes_another_login(write: Callable[[Pairs], str]) -> None:
    text = write(pairs_of(WHOLE))
    for end in range(len(text)):
        try:
            made = Credential.parse(text[:end])
        except CredentialError:
            continue
        assert made == WHOLE, text[:end]


def test_a_header_that_was_wrapped_is_read_whole_or_refused() -> None:
    for at in range(1, len(HEADER)):
        try:
            made = Credential.parse(HEADER[:at] + "\n" + HEADER[at:])
        except CredentialError:
            continue
        assert made == WHOLE, HEADER[:at]


SCRAPS = [
    "SESSDATA",
    "=",
    ";",
    "\n",
    "\t",
    '"',
    "'",
    "{",
    "[",
    ":",
    ",",
    "curl ",
    "-H ",
    "-b ",
    "^",
]
SCRAPS += [
    "cookie",
    "access_key",
    "bili_jct=1",
    ".bilibili.com",
    "%2C",
    "1893456000",
    "$'",
    "\\",
    "#",
]


@fuzz
@given(st.lists(st.sampled_from(SCRAPS) | st.text(max_size=3)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(CredentialError):
        made = Credential.parse(text)
        assert made.sessdata or made.access_key


@pytest.mark.parametrize(
    "scrap", ["SESSDATA=a;", "a=b\n", "'", "\\", "[", '{"a":', "\t", "-b ", "a "]
)
def test_a_megabyte_of_anything_is_judged_in_time(scrap: str) -> None:
    started = datetime.now(UTC)
    with contextlib.suppress(CredentialError):
        Credential.parse("curl " * (scrap == "-b ") + scrap * (1_000_000 // len(scrap)))
    assert (datetime.now(UTC) - started).total_seconds() < 10


# --- the other ways in ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"], ids=str
)
@pytest.mark.parametrize(
    "write", [header, cookie_editor, netscape], ids=lambda write: write.__name__
)
def test_a_file_is_read_in_utf_8_and_in_utf_16_by_its_mark(
    tmp_path: Path, encoding: str, write: Callable[[Pairs], str]
) -> None:
    path = tmp_path / "login"
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    path.write_bytes((mark + write(pairs_of(WHOLE))).encode(encoding))
    assert Credential.from_file(path) == Credential.from_file(str(path)) == WHOLE


def test_a_bad_byte_elsewhere_in_a_file_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_bytes(
        b".x.com\tTRUE\t/\tFALSE\t0\tname\t\xff\xb0\n" + netscape(pairs_of(WHOLE)).encode()
    )
    assert Credential.from_file(path) == WHOLE
    path.write_bytes(f"SESSDATA={SESSDATA}".encode() + b"\xff")
    with pytest.raises(CredentialError, match="sessdata: holds a character that is not ASCII"):
        Credential.from_file(path)


def test_a_file_that_is_missing_is_an_os_error_and_a_login_is_not_taken_for_its_name() -> None:
    with pytest.raises(FileNotFoundError):
        Credential.from_file("no-such-file.txt")
    for text in (HEADER, f"{SESSDATA}", "access_key: s3cret", cookie_editor(pairs_of(WHOLE))):
        held = Held(text)
        del text
        for way in (Credential.from_file, Credential.from_cookies_txt):
            shown = all_that_is_told_of(lambda way=way, held=held: way(held.value))
            assert "Credential.parse reads it" in shown
            assert not SECRET.search(shown)


def test_a_refused_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(CredentialError, match=re.escape(str(path)) + ": this is one word"):
        Credential.from_file(path)


@pytest.mark.parametrize(
    ("cookies", "made"),
    [
        ({"SESSDATA": SESSDATA, "DedeUserID": MID, "bili_jct": JCT, "buvid3": "x"}, WHOLE),
        ({"sessdata": f' "{SESSDATA}"\n', "dede_user_id": f"{MID}", "bili_jct": JCT}, WHOLE),
        ({"SESSDATA": SESSDATA, "bili_jct": None, 5: "x"}, Credential(sessdata=SESSDATA)),
        ({"access_key": "a"}, Credential(access_key="a")),
    ],
)
def test_names_and_values_make_a_credential(cookies: Any, made: Credential) -> None:
    assert Credential.from_cookies(cookies) == made


@pytest.mark.parametrize(
    ("cookies", "says"),
    [
        ({}, "the mapping has no SESSDATA"),
        ({"SESSDATA": b"s3cret"}, "sessdata: expected str, got bytes"),
        ({"SESSDATA": "s3cret", "DedeUserID": 1.5}, "dede_user_id: expected int, got float"),
        ({"SESSDATA": "s3cret", "DedeUserID": "s3cret"}, "dede_user_id: expected a number"),
        ({"SESSDATA": "s3cret", "DedeUserID": 10**5000}, "dede_user_id: expected a positive"),
        ("SESSDATA=s3cret", "expected a mapping, got str"),
        ([("SESSDATA", "s3cret")], "expected a mapping, got list"),
    ],
)
def test_names_and_values_that_are_no_login_are_refused(cookies: Any, says: str) -> None:
    held = Held(cookies)
    del cookies
    shown = all_that_is_told_of(lambda: Credential.from_cookies(held.value))
    assert re.search(says, shown)
    assert "s3cret" not in shown


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_the_environment_goes_through_the_same_door(quote: str) -> None:
    def kept(text: str) -> str:
        return f"{quote}{text}{quote} \n"  # as docker's --env-file keeps it

    three = {"BILI_SESSDATA": SESSDATA, "BILI_DEDE_USER_ID": str(MID), "BILI_JCT": JCT}
    assert Credential.from_env({name: kept(text) for name, text in three.items()}) == WHOLE
    for write in (header, curl_bash, cookie_editor, netscape):
        assert Credential.from_env({"BILI_COOKIE": kept(write(pairs_of(WHOLE)))}) == WHOLE
    assert Credential.from_env({"BILI_ACCESS_KEY": kept("a")}) == Credential(access_key="a")
    with pytest.raises(CredentialError, match="no credential in the environment"):
        Credential.from_env({"BILI_COOKIE": kept("")})
    with pytest.raises(CredentialError, match=r"BILI_SESSDATA: .* two %2C: has a shell, systemd"):
        Credential.from_env({"BILI_SESSDATA": SESSDATA.replace("%", "")})


@pytest.mark.parametrize(
    ("sessdata", "when"),
    [
        (SESSDATA, datetime(2030, 1, 1, tzinfo=UTC)),
        ("a,1893456000,b", datetime(2030, 1, 1, tzinfo=UTC)),
        ("a%2c1893456000%2cb", datetime(2030, 1, 1, tzinfo=UTC)),
        ("a%2C99999999999", datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        ("a%2C999999999999%2Cb", None),
        ("a%2C-1%2Cb", None),
        ("a%2C1_0%2Cb", None),
        ("a%2C%EF%BC%91%2Cb", None),
        ("a%2C%2Cb", None),
        ("1893456000", None),
    ],
)
def test_a_cookie_tells_when_it_ends(sessdata: str, when: datetime | None) -> None:
    assert Credential(sessdata=sessdata).expires_at == when


def test_a_token_does_not_tell_when_it_ends() -> None:
    assert Credential(access_key="a,1893456000,b").expires_at is None
