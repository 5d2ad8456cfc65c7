"""Readers of what people paste: one small reader a format, from text to a credential's parts.

Pure: no I/O, and no judgement of a value beyond what its format and a damaged paste call for; what
a cookie can hold is judged by `Credential`. Nothing here raises. What can't be read comes back as a
sentence that says what was seen, never a value, and what to do: so no traceback holds a secret.

The readers are tried in order. Each looks for the marks of its own format first and returns None
for a text that has none, a sentence for one that is damaged, and otherwise every cookie it finds:
`choose` picks the login among them, by the same rules for all formats.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

Parts = dict[str, Any]
"""Values by the names of Credential's fields; a mid may be an int or a text."""


class Cookie(NamedTuple):
    """One cookie as its format gives it: unchecked, and of any site."""

    name: Any
    """A text, unless JSON has something else in its place."""
    value: Any
    site: str = ""
    """The domain that it belongs to, such as `.bilibili.com`; empty where the format tells none."""


_NAMES = {
    "sessdata": "sessdata",
    "dedeuserid": "dede_user_id",
    "dede_user_id": "dede_user_id",
    "bili_jct": "bili_jct",
    "access_key": "access_key",
    "access_token": "access_key",
    "bili_sessdata": "sessdata",  # as the environment's variables are called, for a pasted .env
    "bili_dede_user_id": "dede_user_id",
    "bili_access_key": "access_key",
}
"""The fields of a Credential by the names that cookies and exports give them, in lower case."""
_EXACT = {"SESSDATA", "DedeUserID", "bili_jct", "access_key"}
"""The names as the server spells them; others are read in any case."""
_ASSIGNMENT = r"""(?:sessdata|bili_jct|access_key|access_token)["']?\s*[=:,}\t]"""
# White space as people paste it: also zero-width, ideographic, and a byte order mark.
_BLANK = " \t\r\n\v\f\x85\xa0\u200b\u3000\ufeff"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_COOKIE_IS = re.compile(r"\A(?:export\s+)?(?:bili_|set-)?cookie\s*[:=]", re.I)
_PAIR = re.compile(r"\s*+(?:export\s++)?+([^=:\uff1a]*+)[=:\uff1a](.*)", re.S)
"""`name=value` or `name: value`, as in YAML and in chats; the colon may be the Chinese one."""
_HTTP_ONLY = "document.cookie does not show SESSDATA, which is HttpOnly"
_COPY = "copy it from the browser's developer tools, Application → Cookies"
_EXPECTED = (
    'expected a Cookie header, "Copy as cURL", exported cookies (JSON or cookies.txt), '
    "a SESSDATA, or access_key=…"
)
_DAMAGED = (
    # Only its first part is left, or the second has lost the % before or after it.
    (
        "sessdata",
        re.compile(r"(?i)[0-9a-f]{8}|[^%,]*2C\d{9,11}%?2C.*|[^%,]*%2C\d{9,11}2C.*"),
        "sessdata: a SESSDATA holds two %2C: has a shell, systemd or cron eaten the %?",
    ),
    (
        "sessdata",
        re.compile(r"(?i)[^%,]*%252C.*"),
        "sessdata: it is percent-encoded twice: copy it as the browser shows it",
    ),
    (
        "sessdata",
        re.compile(r"(?i).*(?:,|%2C)\s*(?:sessdata|dedeuserid|bili_jct)[=:].*"),
        "sessdata: other cookies follow it after a comma: separate them with semicolons",
    ),
    (
        "access_key",
        re.compile(r".*&\w+=.*"),
        "access_key: other fields follow it: give its value alone",
    ),
)
"""The part, the look of a value of it that was damaged on its way to us, and our advice.

A SESSDATA is `hash%2Cend%2Chash`, where `end` is seconds since 1970, of nine to eleven digits.
Shells, systemd and cron give the `%` a meaning of their own, and copying may encode it once more.
"""


def clean(text: str) -> str:
    """Return `text` without white space and one pair of quotes around it."""
    text = text.strip(_BLANK)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip(_BLANK)
    return text


def read(text: str) -> Parts | str:
    """Return the parts of the login in `text`, whose format is found out, or why there is none."""
    text = clean(text)
    if not text:
        return f"nothing is in it: {_EXPECTED}"
    for source, reader in _READERS.items():
        cookies = reader(text)
        if isinstance(cookies, str):
            return cookies
        if cookies is not None:
            return choose(cookies, source)
    return f"{_describe(text)}: {_EXPECTED}"


def choose(cookies: Iterable[Cookie], source: str) -> Parts | str:
    """Return the parts of the one login among `cookies`, or why there is none or more than one.

    Other cookies are dropped, and so are those of other sites. What belongs to bilibili.com itself
    goes before what belongs to one of its hosts, and a name in its own spelling before others.
    Two different values of one part are no login: nobody can say which of them is alive.
    `source` names the format, for the refusal.
    """
    known = [cookie for cookie in cookies if _part(cookie)]
    ours = [cookie for cookie in known if _is_ours(cookie.site)]
    domain_wide = [cookie for cookie in ours if _host(cookie.site) in ("", "bilibili.com")]
    if any(_part(cookie) == "sessdata" for cookie in domain_wide):
        ours = domain_wide
    exact = {_part(cookie) for cookie in ours if cookie.name in _EXACT}
    parts: Parts = {}
    for cookie in ours:
        part = _part(cookie)
        if cookie.name in _EXACT or part not in exact:
            value = clean(cookie.value) if isinstance(cookie.value, str) else cookie.value
            if parts.setdefault(part, value) != value:
                return f"{cookie.name}: is there twice, with different values: give one login"
    if not parts.keys() & {"sessdata", "access_key"}:
        return _no_login(source, known, ours)
    return _damage(parts) or parts


def _part(cookie: Cookie) -> str:
    """Return the credential's part that a cookie holds; empty for a cookie we have no use for."""
    return _NAMES.get(cookie.name.lower(), "") if isinstance(cookie.name, str) else ""


def _host(site: str) -> str:
    return site.lstrip(".").lower()


def is_login(text: str) -> bool:
    """Return True if `text`, meant as the name of a file, is rather a login.

    People mix the two up, and an `OSError` would show the login as the name of a missing file.
    """
    return bool(_sessdata(clean(text)) or re.search(_ASSIGNMENT, text, re.I))


def _is_ours(site: str) -> bool:
    """Return True for bilibili.com, its hosts, and no site at all; not for notbilibili.com."""
    host = _host(site)
    return not site or host == "bilibili.com" or host.endswith(".bilibili.com")


def _no_login(source: str, known: list[Cookie], ours: list[Cookie]) -> str:
    """Return the refusal of cookies without a login, with the likeliest reason for it."""
    if any(_part(cookie) == "sessdata" for cookie in known):
        return (
            f"{source} has no SESSDATA of bilibili.com, only another site's: export bilibili.com's"
        )
    if ours and source == _PAIRS:
        return f"{source} has no SESSDATA: {_HTTP_ONLY}: {_COPY}"
    return f"{source} has no SESSDATA of bilibili.com: log in there in a browser, and copy it again"


def _damage(parts: Parts) -> str:
    """Return what is damaged in a login that would be refused by the server only; empty if sound.

    Without this, a login that a shell has cut short is well-formed, and answered with -101.
    """
    for part, damaged, sentence in _DAMAGED:
        value = parts.get(part)
        if isinstance(value, str) and damaged.fullmatch(value):
            return sentence
    for part, value in parts.items():
        if isinstance(value, str) and value.lower().startswith(tuple(f"{n}=" for n in _NAMES)):
            return f"{part}: it begins with a cookie's name: give the value alone"
    return ""


def _describe(text: str) -> str:
    """Return what a text of no known format looks like, by its shape and length alone."""
    if re.match(r"https?://", text, re.I):
        return "this is a URL"
    if text.startswith("<"):
        return "this is a web page"
    if re.fullmatch(r"(?:[/~.]|[A-Za-z]:\\).*|\S+\.(?:txt|json|toml|env|har)", text):
        return "this looks like the name of a file (Credential.from_file reads one)"
    if len(text.split()) == 1:
        return f"this is one word of {len(text)} characters, and no SESSDATA, which holds two %2C"
    return f"this is text of {len(text)} characters without a login in it"


# --- the formats ----------------------------------------------------------------------------------


def _json(text: str) -> list[Cookie] | str | None:
    """Read cookies exported as JSON.

    Cookie-Editor and EditThisCookie give a list of objects with name, value and domain, Playwright
    has such a list under `cookies`, biliup under `cookie_info.cookies`; a plain object has the
    values by their names.
    """
    if text[0] not in "[{":
        return None
    try:
        # Objects become tuples of pairs: a name that stands there twice must not be lost.
        return list(_json_cookies(json.loads(text, object_pairs_hook=tuple)))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        place = "some place"
    return f"it begins as JSON, and is none from {place} on: copy all of it, as it was exported"


def _json_cookies(value: Any) -> Iterator[Cookie]:
    """Yield the cookies in a JSON value; its objects are tuples of pairs."""
    if isinstance(value, str):
        yield from _pairs(value)
    elif isinstance(value, list):
        for item in value:
            fields = dict(item) if isinstance(item, tuple) else {}
            site = fields.get("domain")
            yield Cookie(fields.get("name"), fields.get("value"), site if type(site) is str else "")
    elif isinstance(nested := dict(value).get("cookie_info"), tuple):
        yield from _json_cookies(nested)  # biliup's: the app's token stands beside it
    else:
        for name, nested in value:
            if name in ("cookies", "cookie", "data") and isinstance(nested, (list, tuple, str)):
                yield from _json_cookies(nested)
            else:
                yield Cookie(name, nested)


def _curl(text: str) -> list[Cookie] | str | None:
    """Read "Copy as cURL" of a browser's developer tools, for bash or for Windows' cmd.

    Several commands in one text ("Copy all as cURL") are read one by one, each with its own URL.
    """
    if not re.match(r"(?:\$ )?curl(?:\.exe)?\s|(?:-H|-b|--header|--cookie)\s", text, re.I):
        return None
    if re.search(r'\^["%\r\n]', text):  # as Windows' cmd wants it
        text = re.sub(r"\^\r?\n", " ", text)
        text = re.sub(r"\^(.)", r"\1", text)
    text = re.sub(r"\\\r?\n", " ", text)
    text = _ANSI_C.sub(lambda found: shlex.quote(_unescaped(found[1])), text)
    try:
        words = shlex.split(text)
    except ValueError:
        return "the cURL command ends inside a quotation: copy all of it"
    cookies: list[Cookie] = []
    starts = [at for at, word in enumerate(words) if word in ("curl", "curl.exe")] or [0]
    for start, end in pairwise([*starts, len(words)]):
        cookies += _curl_cookies(words[start:end])
    return cookies


_ANSI_C = re.compile(r"(?<=\s)\$'((?:\\.|[^'\\])*)'")
"""A word in bash's `$'…'`: browsers write so where a value holds a quote; shlex can't read it."""


def _unescaped(text: str) -> str:
    """Return what bash's `$'…'` means; of control characters, which no value holds, the letter."""

    def character(escape: re.Match[str]) -> str:
        number = escape[1] or escape[2]
        return chr(int(number, 16)) if number else escape[3]

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", character, text)


def _curl_cookies(words: list[str]) -> Iterator[Cookie]:
    """Yield the cookies of one cURL command: of `-b`, or of a Cookie header."""
    urls = [found[1] for word in words if (found := re.match(r"https?://([^/:?#]+)", word, re.I))]
    site = "" if not urls or any(map(_is_ours, urls)) else urls[0]
    for option, value in pairwise(words):
        name, _, rest = value.partition(":")
        if option in ("-b", "--cookie"):
            rest = value
        elif option not in ("-H", "--header") or name.strip().lower() != "cookie":
            continue
        yield from (cookie._replace(site=site) for cookie in _pairs(rest))


def _table(text: str) -> list[Cookie] | None:
    """Read rows as the developer tools' list of cookies copies them: name, value, domain, …"""
    rows = [line.split("\t") for line in text.split("\n") if "=" not in line]
    cookies = [Cookie(r[0].strip(), r[1], "".join(r[2:3])) for r in rows if len(r) > 1]
    return cookies if any(map(_part, cookies)) else None


def _netscape(text: str) -> list[Cookie] | str | None:
    """Read a cookies.txt: seven fields a line, between tabs; the domain is the first of them.

    `#HttpOnly_` before the domain is no comment, but how SESSDATA's own line begins.
    """
    lines = (line.strip(" \r").removeprefix("#HttpOnly_") for line in text.split("\n"))
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    # Of the last line's end, a tab before an empty value may be gone.
    cookies = [Cookie(r[5], "".join(r[6:]), r[0] or "-") for r in rows if len(r) in (6, 7)]
    if not cookies and re.search(r"(?m)^\S+ +(?:TRUE|FALSE) +/\S* +(?:TRUE|FALSE) +\d+ +\S+", text):
        return "the fields are separated by spaces, not tabs: hand over the file as it was exported"
    return cookies if cookies or re.match("# (?:Netscape )?HTTP Cookie File", text) else None


def _sessdata(text: str) -> list[Cookie] | None:
    """Read a SESSDATA alone, known by its three parts; damaged commas are for `_damage` to tell."""
    return [Cookie("SESSDATA", text)] if _SESSDATA.fullmatch(text) else None


_COMMA = r"(?:,|(?:%|%25)?2C)"
_SESSDATA = re.compile(rf"[^\s=:\uff1a;,%]+{_COMMA}\d{{9,11}}{_COMMA}[^\s;]+", re.I)


def _header(text: str) -> list[Cookie] | str | None:
    """Read `name=value` pairs: a Cookie header, a .env file, or one pair a line.

    A value that a mail or a terminal has broken over two lines is refused, for its first half
    would pass for a whole one.
    """
    cleaned = (clean(_COOKIE_IS.sub("", clean(line), 1)) for line in re.split(r"[\r\n]+", text))
    lines = [line for line in cleaned if line and not line.startswith("#")]
    for line, following in pairwise(lines):
        end, start = line.split(";")[-1], following.split(";")[0]
        name = clean((end + start).partition("=")[0]) if end else ""
        if name.lower() in _NAMES and ("=" not in end or re.fullmatch(r"[^\s=:]+", start)):
            return f"{name}: it seems to go on in the next line: give it in one line"
    pairs = [pair for line in lines for pair in _pairs(line)]
    return pairs if any(map(_part, pairs)) else None


def _pairs(header: str) -> Iterator[Cookie]:
    """Yield the `name=value` pairs between semicolons; what has no `=` is none."""
    for piece in header.split(";"):
        if pair := _PAIR.fullmatch(piece):
            yield Cookie(clean(pair[1]), pair[2])


_PAIRS = "the Cookie header"
_READERS: dict[str, Callable[[str], list[Cookie] | str | None]] = {
    "the JSON": _json,
    "the cURL command": _curl,
    "the table": _table,
    "the cookies.txt": _netscape,
    "the SESSDATA": _sessdata,
    _PAIRS: _header,
}
"""Readers by the names that refusals have for their formats; None is a text of another format."""
