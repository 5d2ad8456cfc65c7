"""A credential takes what a cookie or a token can be, refuses the rest by the part's name, and
shows no secret.
"""

from __future__ import annotations

import copy
import pickle
import pprint
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fuzz

from bili_account_async import BiliError, Credential, CredentialError, unstructure

SESSDATA, JCT, KEY = "5e55da7a-s3cret", "c5rf-s3cret", "acce55-s3cret"
MID = 293793435
HEADER = f"SESSDATA={SESSDATA}; DedeUserID={MID}; bili_jct={JCT}"
PARTS = ["sessdata", "bili_jct", "access_key"]
UNSAFE = {
    "CR": "a\rb",
    "LF": "a\nb",
    "NUL": "a\0b",
    "a semicolon": "a;b",
    "a space": "a b",
    "a quotation mark": 'a"b',
    "a backslash": "a\\b",
    "a control character": "a\tb",
    "not ASCII": "aéb",
    "is empty": "",
    "trailing LF": "ab\n",
    "DEL": "a\x7fb",
    "escape": "\x1b[2J",
    "full-width": "\uff11\uff12",
    "lone surrogate": "a\ud800",
}


def cookie(**parts: Any) -> Credential:
    return Credential(**{"sessdata": SESSDATA, "dede_user_id": MID, "bili_jct": JCT} | parts)


class Held:
    """Holds a secret for a call; its repr shows none, so that a frame of the test itself can't be
    what leaks.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<held>"


@attrs.frozen
class Owner:
    """A user's own record that holds credentials."""

    me: Credential
    others: list[Credential] = attrs.field(factory=list)


# --- ways in --------------------------------------------------------------------------------------


def test_a_cookie_keeps_its_parts() -> None:
    made = cookie()
    assert (made.sessdata, made.dede_user_id, made.bili_jct, made.access_key) == (
        SESSDATA,
        MID,
        JCT,
        None,
    )


def test_sessdata_alone_is_a_cookie() -> None:
    made = Credential(sessdata=SESSDATA)
    assert (made.sessdata, made.dede_user_id, made.bili_jct, made.access_key) == (
        SESSDATA,
        None,
        None,
        None,
    )


def test_an_access_key_is_a_login_of_its_own() -> None:
    made = Credential(access_key=KEY)
    assert (made.sessdata, made.dede_user_id, made.bili_jct, made.access_key) == (
        None,
        None,
        None,
        KEY,
    )


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"dede_user_id": MID},
        {"bili_jct": JCT},
        {"dede_user_id": MID, "bili_jct": JCT},
        {"sessdata": SESSDATA, "access_key": KEY},
        {"access_key": KEY, "bili_jct": JCT},
        {"access_key": KEY, "dede_user_id": MID},
    ],
    ids=lambda parts: "+".join(parts) or "nothing",
)
def test_neither_a_cookie_nor_a_token_or_both_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(CredentialError, match="access_key"):
        Credential(**parts)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("text", UNSAFE.values(), ids=UNSAFE)
def test_a_value_that_no_cookie_can_hold_is_refused_by_its_name_and_not_shown(
    part: str, text: str
) -> None:
    value = f"s3cret{text}s3cret" if text else ""
    with pytest.raises(CredentialError) as caught:
        Credential(
            **{"sessdata": SESSDATA} | {part: value} if part == "bili_jct" else {part: value}
        )
    assert str(caught.value).startswith(f"{part}: ")
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\0b", "a;b", "a b", 'a"b', "a\\b", "", "aéb"])
def test_the_refusal_says_what_is_wrong(text: str) -> None:
    name = next(name for name, unsafe in UNSAFE.items() if unsafe == text)
    with pytest.raises(CredentialError, match=name):
        Credential(sessdata=text)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "value", [b"abc", 5, True, 1.5, ["abc"], object()], ids=lambda value: type(value).__name__
)
def test_a_part_that_is_no_str_is_refused(part: str, value: Any) -> None:
    with pytest.raises(
        CredentialError, match=rf"^{part}: expected str, got {type(value).__name__}$"
    ):
        Credential(
            **{"sessdata": SESSDATA} | {part: value} if part == "bili_jct" else {part: value}
        )


@pytest.mark.parametrize("value", [True, False, 1.0, "293793435", b"1", [1]], ids=repr)
def test_a_dede_user_id_that_is_no_int_is_refused(value: Any) -> None:
    with pytest.raises(
        CredentialError, match=f"^dede_user_id: expected int, got {type(value).__name__}$"
    ):
        cookie(dede_user_id=value)


@pytest.mark.parametrize(
    "value", [-1, -MID, 10**19, 10**5000], ids=["-1", "-mid", "20 digits", "5001 digits"]
)
def test_a_dede_user_id_that_no_account_has_is_refused(value: int) -> None:
    with pytest.raises(CredentialError, match=r"^dede_user_id: expected a positive number"):
        cookie(dede_user_id=value)


def test_a_dede_user_id_of_zero_counts_as_absent() -> None:
    assert cookie(dede_user_id=0).dede_user_id is None
    assert cookie(dede_user_id=0) == cookie(dede_user_id=None)
    assert Credential(access_key=KEY, dede_user_id=0) == Credential(access_key=KEY)


def test_a_raw_comma_in_sessdata_becomes_percent_2c_and_nothing_else_changes() -> None:
    given = "aB,17%2c%2C*%2A!#$&'()+/:=?@[]^_`{|}~%"
    assert Credential(sessdata=given).sessdata == given.replace(",", "%2C")


def test_a_comma_in_other_parts_stays() -> None:
    assert cookie(bili_jct="a,b").bili_jct == "a,b"
    assert Credential(access_key="a,b").access_key == "a,b"


def test_positional_parts_are_refused() -> None:
    with pytest.raises(TypeError):
        Credential(SESSDATA)  # type: ignore[misc]


def test_a_credential_is_frozen_and_slotted() -> None:
    made = cookie()
    for name in ("sessdata", "access_key", "novel"):
        with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
            setattr(made, name, "x")
    assert not hasattr(made, "__dict__")
    assert made.sessdata == SESSDATA


def test_credentials_compare_and_hash_by_value() -> None:
    assert cookie() == cookie()
    assert {cookie(), cookie(), cookie(bili_jct=None)} == {cookie(), cookie(bili_jct=None)}


def test_evolve_makes_another_credential_and_checks_it() -> None:
    assert attrs.evolve(cookie(), bili_jct="other") == cookie(bili_jct="other")
    with pytest.raises(CredentialError, match=r"^bili_jct: "):
        attrs.evolve(cookie(), bili_jct="a b")


# --- from a cookie header -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        f"Cookie: {HEADER}",
        f"cookie:{HEADER};",
        f"  {HEADER} ;; ",
        HEADER.replace("; ", ";"),
        f"buvid3=F00-infoc; {HEADER}; b_nut=17; sid=x y; CURRENT_FNVAL=4048; empty=; =; flag",
        f"SESSDATA_OLD=x; xSESSDATA=y; sessdata=lower; {HEADER}; DedeUserID__ckMd5=d00d",
        f"{HEADER}; SESSDATA={SESSDATA}",
    ],
)
def test_a_cookie_header_gives_its_three_parts_and_other_cookies_are_dropped(header: str) -> None:
    assert Credential.from_cookie_header(header) == cookie()


def test_a_cookie_header_with_sessdata_alone_is_enough() -> None:
    assert Credential.from_cookie_header("SESSDATA=a=b==") == Credential(sessdata="a=b==")
    assert Credential.from_cookie_header("SESSDATA=a; DedeUserID=0").dede_user_id is None
    assert Credential.from_cookie_header("SESSDATA=a,1,b%2C").sessdata == "a%2C1%2Cb%2C"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "nothing is in it"),
        ("DedeUserID=1; bili_jct=s3cret", "no SESSDATA"),
        ("SESSDATA", "SESSDATA|sessdata"),
        ("SESSDATA=", "sessdata: is empty"),
        ("SESSDATA=s3cret; bili_jct=", "bili_jct: is empty"),
        ("SESSDATA=s3cret; DedeUserID=", "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=-1", "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=1.5", "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=\uff11\uff12", "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=²", "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=" + "9" * 5000, "dede_user_id"),
        ("SESSDATA=s3cret; DedeUserID=s3cret", "dede_user_id"),
        ("SESSDATA=s3cret1; SESSDATA=s3cret2", "SESSDATA: is there twice"),
        ("SESSDATA=s3cret; bili_jct=s3cret1; bili_jct=s3cret2", "bili_jct: is there twice"),
        ("SESSDATA=s3cret\r\nX-Evil", "SESSDATA: it seems to go on in the next line"),
        ("SESSDATA=s3cret\vX-Evil: s3cret", "sessdata: holds a control character"),
        ("SESSDATA=s3cret s3cret", "sessdata: holds a space"),
        ('SESSDATA="s3crét"', "sessdata: holds a character that is not ASCII"),
    ],
)
def test_a_bad_cookie_header_is_refused_by_the_part_s_name(header: str, says: str) -> None:
    with pytest.raises(CredentialError, match=says) as caught:
        Credential.from_cookie_header(header)
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize("header", [None, b"SESSDATA=a", 1, {"SESSDATA": "a"}])
def test_a_cookie_header_that_is_no_str_is_refused(header: Any) -> None:
    with pytest.raises(CredentialError, match=f"expected str, got {type(header).__name__}"):
        Credential.from_cookie_header(header)


# --- from cookies.txt -----------------------------------------------------------------------------


def line(name: str, value: str, domain: str = ".bilibili.com") -> str:
    return "\t".join((domain, "TRUE", "/", "FALSE", "1893456000", name, value))


def write(path: Path, *lines: str, end: str = "\n", bom: bool = False) -> Path:
    text = end.join(
        ("# Netscape HTTP Cookie File", "# https://curl.se/docs/http-cookies.html", "", *lines, "")
    )
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cookies.txt"


OURS = (line("SESSDATA", SESSDATA), line("DedeUserID", str(MID)), line("bili_jct", JCT))


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", [False, True], ids=["plain", "BOM"])
def test_a_cookies_txt_gives_the_login(file: Path, end: str, bom: bool) -> None:
    path = write(file, *OURS, line("buvid3", "F00"), end=end, bom=bom)
    assert Credential.from_cookies_txt(path) == Credential.from_cookies_txt(str(path)) == cookie()


def test_a_bom_before_the_first_cookie_does_no_harm(file: Path) -> None:
    file.write_bytes(line("SESSDATA", SESSDATA, "bilibili.com").encode("utf-8-sig"))
    assert Credential.from_cookies_txt(file) == Credential(sessdata=SESSDATA)


def test_http_only_lines_count_and_comments_do_not(file: Path) -> None:
    lines = [
        "#HttpOnly_" + OURS[0],
        "# " + line("SESSDATA", "decoy"),
        "#" + line("SESSDATA", "decoy"),
        *OURS[1:],
    ]
    assert Credential.from_cookies_txt(write(file, *lines)) == cookie()


@pytest.mark.parametrize(
    "domain",
    [
        "evilbilibili.com",
        ".evilbilibili.com",
        "bilibili.com.evil.org",
        ".bilibili.com.evil.org",
        "bilibili.org",
        "bilibili.co",
        "xbilibili.com",
        "bilibili.com/",
        "bilibili.com:80",
        "#HttpOnly_evilbilibili.com",
        "com",
        "",
    ],
)
def test_cookies_of_other_domains_are_not_read(file: Path, domain: str) -> None:
    decoys = [line(name, "7", domain) for name in ("SESSDATA", "DedeUserID", "bili_jct")]
    assert Credential.from_cookies_txt(write(file, *decoys, *OURS, *decoys)) == cookie()
    with pytest.raises(CredentialError, match=r"no SESSDATA of bilibili\.com"):
        Credential.from_cookies_txt(write(file, *decoys))


@pytest.mark.parametrize(
    "domain",
    ["bilibili.com", ".bilibili.com", "www.bilibili.com", "api.bilibili.com", ".BiliBili.com"],
)
def test_cookies_of_bilibili_and_its_subdomains_are_read(file: Path, domain: str) -> None:
    path = write(file, line("SESSDATA", SESSDATA, domain))
    assert Credential.from_cookies_txt(path) == Credential(sessdata=SESSDATA)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "nothing is in it"),
        (b"\0" * 100, "one word of 100 characters"),
        ("密码".encode("gbk"), "one word"),
        (b".bilibili.com\tTRUE\t/\tFALSE\t0\tSESSDATA", "sessdata: is empty"),
        (OURS[2].encode(), "no SESSDATA"),
        (line("SESSDATA", "").encode(), "sessdata: is empty"),
        (line("SESSDATA", "s3c ret").encode(), "sessdata: holds a space"),
        (line("SESSDATA", "s3c\rret").encode() + b"\r\n", "sessdata: holds CR"),
        ((OURS[0] + "\n" + line("SESSDATA", "s3cret")).encode(), "SESSDATA: is there twice"),
        ((OURS[0] + "\n" + line("DedeUserID", "x")).encode(), "dede_user_id"),
    ],
)
def test_a_cookies_txt_without_a_login_is_refused_with_its_path_and_no_secret(
    file: Path, content: bytes, says: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(CredentialError, match=says) as caught:
        Credential.from_cookies_txt(file)
    assert str(file) in str(caught.value)
    assert "s3c" not in str(caught.value).replace(str(file), "")


def test_a_cookies_txt_that_can_not_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Credential.from_cookies_txt(tmp_path / "missing.txt")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
        Credential.from_cookies_txt(tmp_path)


# --- from the environment -------------------------------------------------------------------------

THREE = {"BILI_SESSDATA": SESSDATA, "BILI_DEDE_USER_ID": str(MID), "BILI_JCT": JCT}


@pytest.mark.parametrize(
    ("environ", "made"),
    [
        ({"BILI_COOKIE": HEADER}, cookie()),
        (THREE, cookie()),
        ({"BILI_SESSDATA": SESSDATA}, Credential(sessdata=SESSDATA)),
        ({"BILI_SESSDATA": SESSDATA, "BILI_DEDE_USER_ID": "0"}, Credential(sessdata=SESSDATA)),
        ({"BILI_SESSDATA": SESSDATA, "BILI_JCT": JCT}, Credential(sessdata=SESSDATA, bili_jct=JCT)),
        ({"BILI_ACCESS_KEY": KEY}, Credential(access_key=KEY)),
        (THREE | {"BILI_COOKIE": "", "BILI_ACCESS_KEY": ""}, cookie()),
        ({"BILI_COOKIE": HEADER} | dict.fromkeys(THREE, ""), cookie()),
    ],
)
def test_the_environment_gives_a_credential_in_one_of_three_ways(
    environ: dict[str, str], made: Credential
) -> None:
    assert Credential.from_env(environ | {"PATH": "/bin"}) == made


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "BILI_COOKIE, BILI_SESSDATA or BILI_ACCESS_KEY"),
        ({"BILI_COOKIE": HEADER, "BILI_ACCESS_KEY": KEY}, "BILI_COOKIE and BILI_ACCESS_KEY"),
        ({"BILI_COOKIE": HEADER} | THREE, "BILI_COOKIE and BILI_SESSDATA"),
        ({"BILI_COOKIE": HEADER, "BILI_JCT": JCT}, "BILI_COOKIE and BILI_JCT"),
        ({"BILI_ACCESS_KEY": KEY} | THREE, "BILI_ACCESS_KEY and BILI_SESSDATA"),
        (
            {"BILI_ACCESS_KEY": KEY, "BILI_DEDE_USER_ID": "1"},
            "BILI_ACCESS_KEY and BILI_DEDE_USER_ID",
        ),
        ({"BILI_JCT": JCT}, "BILI_JCT is set, but BILI_SESSDATA is not"),
        ({"BILI_DEDE_USER_ID": str(MID)}, "BILI_DEDE_USER_ID is set, but BILI_SESSDATA is not"),
        ({"BILI_JCT": JCT, "BILI_DEDE_USER_ID": str(MID)}, "BILI_SESSDATA is not"),
        ({"BILI_COOKIE": f"bili_jct={JCT}"}, "BILI_COOKIE.*no SESSDATA"),
        ({"BILI_COOKIE": f"SESSDATA={SESSDATA} x"}, "sessdata: holds a space"),
        (THREE | {"BILI_JCT": f"{JCT}\n{JCT}"}, "bili_jct: holds LF"),
        (THREE | {"BILI_DEDE_USER_ID": f"-{MID}"}, "dede_user_id"),
        ({"BILI_ACCESS_KEY": f"{KEY};"}, "access_key: holds a semicolon"),
    ],
)
def test_an_environment_with_no_way_two_ways_or_a_broken_one_is_refused(
    environ: dict[str, str], says: str
) -> None:
    with pytest.raises(CredentialError, match=says) as caught:
        Credential.from_env(environ)
    assert "s3cret" not in repr(caught.value)


def test_the_process_s_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BILI_COOKIE", "BILI_ACCESS_KEY", *THREE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CredentialError, match="no credential in the environment"):
        Credential.from_env()
    monkeypatch.setenv("BILI_ACCESS_KEY", KEY)
    assert Credential.from_env() == Credential(access_key=KEY)


# --- secrets --------------------------------------------------------------------------------------

EVERY_KIND = pytest.mark.parametrize(
    "made",
    [cookie(), Credential(sessdata=SESSDATA), Credential(access_key=KEY)],
    ids=["cookie", "sessdata", "token"],
)


@EVERY_KIND
def test_no_way_to_show_a_credential_shows_a_secret(made: Credential) -> None:
    shown = [
        repr(made),
        str(made),
        f"{made}",
        f"{made!r:>80}",
        "%s %r" % (made, made),  # noqa: UP031
        pprint.pformat([made]),
    ]
    assert not any("s3cret" in text for text in shown)
    assert all("***" in text and "Credential(" in text for text in shown)


def test_the_repr_tells_which_parts_are_there() -> None:
    assert repr(cookie()) == f"Credential(sessdata=***, dede_user_id={MID}, bili_jct=***)"
    assert repr(Credential(sessdata=SESSDATA)) == "Credential(sessdata=***)"
    assert repr(Credential(access_key=KEY)) == "Credential(access_key=***)"


@EVERY_KIND
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_credential_refuses_to_pickle(made: Credential, protocol: int) -> None:
    for holder in (made, [made], {"me": made}):
        with pytest.raises(TypeError, match="hand a name to the other process") as caught:
            pickle.dumps(holder, protocol)
        assert "s3cret" not in repr(caught.value)


@EVERY_KIND
def test_a_copy_of_a_credential_is_itself(made: Credential) -> None:
    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made


@EVERY_KIND
def test_unstructure_refuses_a_credential_also_inside_a_record(made: Credential) -> None:
    for record in (made, Owner(made), Owner(me=made, others=[made])):
        with pytest.raises(TypeError, match="not Credential"):
            unstructure(record)


@EVERY_KIND
def test_the_account_key_is_the_mid_or_a_digest_and_never_a_secret(made: Credential) -> None:
    assert "s3cret" not in made.account_key
    assert made.account_key == (str(MID) if made.dede_user_id else attrs.evolve(made).account_key)
    assert made.account_key != Credential(sessdata="other").account_key


FAILING: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "a bad sessdata": (
        f"{SESSDATA}\n",
        lambda held: Credential(sessdata=held.value, bili_jct=held.value),
    ),
    "a bad bili_jct": (f"{JCT};", lambda held: Credential(sessdata=SESSDATA, bili_jct=held.value)),
    "a bad access_key": (f"{KEY} ", lambda held: Credential(access_key=held.value)),
    "both": (KEY, lambda held: Credential(sessdata=SESSDATA, access_key=held.value)),
    "neither": (JCT, lambda held: Credential(bili_jct=held.value)),
    "a bad dede_user_id": (SESSDATA, lambda held: Credential(sessdata=held.value, dede_user_id=-1)),
    "a part of a wrong type": ([SESSDATA], lambda held: Credential(sessdata=held.value)),
    "a header with a bad part": (
        f"{HEADER} x",
        lambda held: Credential.from_cookie_header(held.value),
    ),
    "a header with a bad mid": (
        f"SESSDATA={SESSDATA}; DedeUserID=x",
        lambda held: Credential.from_cookie_header(held.value),
    ),
    "a header without login": (
        f"bili_jct={JCT}",
        lambda held: Credential.from_cookie_header(held.value),
    ),
    "a header with two logins": (
        f"{HEADER}; SESSDATA={KEY}",
        lambda held: Credential.from_cookie_header(held.value),
    ),
    "a header in bytes": (HEADER.encode(), lambda held: Credential.from_cookie_header(held.value)),
    "an environment with two ways": (
        THREE | {"BILI_COOKIE": HEADER},
        lambda held: Credential.from_env(held.value),
    ),
    "an environment with a bad part": (
        THREE | {"BILI_JCT": f"{JCT} {JCT}"},
        lambda held: Credential.from_env(held.value),
    ),
    "an environment with a bad cookie": (
        {"BILI_COOKIE": f"{HEADER} x"},
        lambda held: Credential.from_env(held.value),
    ),
    "an environment with half a login": (
        {"BILI_JCT": JCT},
        lambda held: Credential.from_env(held.value),
    ),
    "pickling": (Credential(sessdata=SESSDATA), lambda held: pickle.dumps(held.value)),
    "unstructuring": (Credential(sessdata=SESSDATA), lambda held: unstructure(held.value)),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_no_failing_way_in_leaves_a_secret_in_the_error_or_in_a_traceback_with_locals(
    failing: tuple[Any, Callable[[Any], object]],
) -> None:
    held, call = Held(failing[0]), failing[1]
    del failing
    shown = all_that_is_told_of(lambda: call(held))
    assert "s3cret" not in shown
    assert "Credential" in shown


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER} x",
        line("SESSDATA", f"{SESSDATA} x"),
        "\n".join((*OURS, line("bili_jct", "s3cret"))),
        OURS[2],
    ],
)
def test_a_failing_cookies_txt_leaves_no_secret_in_a_traceback_with_locals(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(content)
    held = Held(path)
    del content
    shown = all_that_is_told_of(lambda: Credential.from_cookies_txt(held.value))
    assert "s3cret" not in shown.replace(str(path), "").replace(str(path.parent.name), "")


def all_that_is_told_of(call: Callable[[], object]) -> str:
    """Return all that the error of a failing call shows.

    That is its text, its attributes, its pickle, and its traceback with local variables.
    """
    try:
        call()
    except (BiliError, TypeError) as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        kept = (pickle.dumps(error, 0), vars(error), error.args, error.__cause__, error.__context__)
        return "\n".join((*told.format(), repr(error), str(error), repr(kept)))
    raise AssertionError("it did not fail")


# --- redaction ------------------------------------------------------------------------------------

SPELLERS: dict[str, Callable[[str], str]] = {
    "as given": str,
    "decoded": unquote,
    "encoded": quote,
    "all encoded": lambda text: quote(text, safe=""),
    "decoded, then encoded": lambda text: quote(unquote(text), safe=""),
    "as a browser encodes": lambda text: quote(unquote(text), safe="!'()*~"),
    "as a form encodes": lambda text: quote_plus(unquote(text)),
    "in lower case": lambda text: quote(unquote(text), safe="").lower(),
    "in mixed case": lambda text: quote(unquote(text), safe="").replace("%2C", "%2c", 1),
}


@pytest.mark.parametrize("spell", SPELLERS.values(), ids=SPELLERS)
@pytest.mark.parametrize(
    "given", ["5ecret,1700000000,a1b2*c3", "5ecret%2C1700000000%2Ca1b2*c3", "5ecret%2C17%2Ca%2Ac3"]
)
def test_redact_takes_every_spelling_of_every_secret_out(
    spell: Callable[[str], str], given: str
) -> None:
    for made in (
        Credential(sessdata=given),
        Credential(sessdata="x,y,z", bili_jct=given),
        Credential(access_key=given),
    ):
        assert made.redact(f"no such login: <{spell(given)}>!") == "no such login: <***>!"


def test_redact_leaves_other_text_as_it_is() -> None:
    assert cookie().redact("账号未登录 293793435 %2C") == "账号未登录 293793435 %2C"


# The alphabet is small, so that secrets overlap, hold each other and what they are made of.
characters = st.sampled_from("*aA,%2cC")
secrets = st.text(characters, min_size=1, max_size=6)


@fuzz
@given(st.data(), secrets, secrets)
def test_redact_leaves_no_character_of_any_spelling_and_does_not_grow_the_text(
    data: st.DataObject, sessdata: str, jct: str
) -> None:
    made = Credential(sessdata=sessdata, bili_jct=jct)
    assert made.sessdata
    spelled = [spell(secret) for secret in (made.sessdata, jct) for spell in SPELLERS.values()]
    pieces = st.lists(st.sampled_from(spelled) | st.text(characters, max_size=3), max_size=6)
    text = "".join(data.draw(pieces))
    folded, hidden = text.lower(), set()
    for spelling in spelled:
        for at in (at for at in range(len(text)) if folded.startswith(spelling.lower(), at)):
            hidden.update(range(at, at + len(spelling)))
    kept = "".join("\0" if at in hidden else letter for at, letter in enumerate(text))

    assert made.redact(text) == re.sub("\0+", "***", kept)
    assert len(made.redact(text)) <= 2 * len(text) + 1


@pytest.mark.parametrize("secret", ["*", "**", "***", "a"])
def test_a_long_text_of_nothing_but_a_short_secret_is_one_mask(secret: str) -> None:
    assert Credential(access_key=secret).redact(secret * 20_000) == "***"


def test_redact_hides_secrets_that_overlap_whole() -> None:
    made = Credential(sessdata="s3cretABC", bili_jct="BCs3cret")
    assert made.redact("<s3cretABCs3cret>, <BCs3cretABC>") == "<***>, <***>"
