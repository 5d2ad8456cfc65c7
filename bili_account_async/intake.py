"""Readers of what people paste: from text to the parts of a credential, one small reader a format,
tried in order.

Pure: no I/O, and no judgement of a value beyond what its format and a damaged paste call for; what
a cookie can hold is judged by `Credential`. Nothing here raises. What can't be read comes back as a
sentence that says what was seen, never a value, and what to do: so no traceback holds a secret.
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
    """A name and a value, and the site they belong to: empty for Bilibili's own or none told."""

    name: Any
    value: Any
    site: str = ""


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
_EXACT = {"SESSDATA", "DedeUserID", "bili_jct", "access_key"}
"""The names as the server spells them; others are read in any case."""
_NAMED = r"""(?:sessdata|bili_jct|access_key|access_token)["']?\s*[=:,}\t]"""
_BLANK = " \t\r\n\v\f\x85\xa0\u200b\u3000\ufeff"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_COOKIE_IS = re.compile(r"\A(?:export\s+)?(?:bili_|set-)?cookie\s*[:=]", re.I)
_HTTP_ONLY = "document.cookie does not show SESSDATA, which is HttpOnly"
_COPY = "copy it from the browser's developer tools, Application → Cookies"
_TAKEN = (
    'expected a Cookie header, "Copy as cURL", exported cookies (JSON or cookies.txt), a SESSDATA,'
    " or access_key=…"
)
_DOUBTS = (
    (  # only its first part is left, or the second has lost the % before or after it
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
        "access_key",
        re.compile(r".*&\w+=.*"),
        "access_key: other fields follow it: give its value alone",
    ),
)
"""Looks of a value that was damaged on its way to us, and what to say of it."""


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
        return f"nothing is in it: {_TAKEN}"
    for what, reader in _READERS.items():
        cookies = reader(text)
        if isinstance(cookies, str):
            return cookies
        if cookies is not None:
            return choose(cookies, what)
    return f"{_seen(text)}: {_TAKEN}"


def choose(cookies: Iterable[Cookie], what: str) -> Parts | str:
    """Return the parts of the one login among `cookies`, or why there is none or more than one.

    Other cookies are dropped, and so are those of other sites. What belongs to bilibili.com itself
    goes before what belongs to one of its hosts, and a name in its own spelling before others.
    """
    known = [cookie for cookie in cookies if _part(cookie)]
    ours = [cookie for cookie in known if _is_ours(cookie.site)]
    whole = [cookie for cookie in ours if _host(cookie.site) in ("", "bilibili.com")]
    if any(_part(cookie) == "sessdata" for cookie in whole):
        ours = whole
    exact = {_part(cookie) for cookie in ours if cookie.name in _EXACT}
    parts: Parts = {}
    for cookie in ours:
        part = _part(cookie)
        if cookie.name in _EXACT or part not in exact:
            value = clean(cookie.value) if isinstance(cookie.value, str) else cookie.value
            if parts.setdefault(part, value) != value:
                return f"{cookie.name}: is there twice, with different values: give one login"
    if not parts.keys() & {"sessdata", "access_key"}:
        return _no_login(what, known, ours)
    return _doubt(parts) or parts


def _part(cookie: Cookie) -> str:
    return _NAMES.get(cookie.name.lower(), "") if isinstance(cookie.name, str) else ""


def _host(site: str) -> str:
    return site.lstrip(".").lower()


def is_login(text: str) -> bool:
    """Tell whether `text`, meant as the name of a file, is rather a login."""
    return bool(_bare(clean(text)) or re.search(_NAMED, text, re.I))


def _is_ours(site: str) -> bool:
    host = _host(site)
    return not site or host == "bilibili.com" or host.endswith(".bilibili.com")


def _no_login(what: str, known: list[Cookie], ours: list[Cookie]) -> str:
    if any(_part(cookie) == "sessdata" for cookie in known):
        return f"{what} has no SESSDATA of bilibili.com, only another site's: export bilibili.com's"
    if ours and what == _PAIRS:
        return f"{what} has no SESSDATA: {_HTTP_ONLY}: {_COPY}"
    return f"{what} has no SESSDATA of bilibili.com: log in there in a browser, and copy it again"


def _doubt(parts: Parts) -> str:
    for part, damaged, sentence in _DOUBTS:
        value = parts.get(part)
        if isinstance(value, str) and damaged.fullmatch(value):
            return sentence
    for part, value in parts.items():
        if isinstance(value, str) and value.lower().startswith(tuple(f"{n}=" for n in _NAMES)):
            return f"{part}: it begins with a cookie's name: give the value alone"
    return ""


def _seen(text: str) -> str:
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
    if text[0] not in "[{":
        return None
    try:  # objects become tuples of pairs: a name that stands there twice must not be lost
        return list(_json_cookies(json.loads(text, object_pairs_hook=tuple)))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        place = "some place"
    return f"it begins as JSON, and is none from {place} on: copy all of it, as it was exported"


def _json_cookies(value: Any) -> Iterator[Cookie]:
    if isinstance(value, str):
        yield from _pairs(value)
    elif isinstance(value, list):
        for item in value:
            fields = dict(item) if isinstance(item, tuple) else {}
            site = fields.get("domain")
            yield Cookie(fields.get("name"), fields.get("value"), site if type(site) is str else "")
    elif isinstance(inside := dict(value).get("cookie_info"), tuple):
        yield from _json_cookies(inside)  # biliup's: the app's token stands beside it
    else:
        for name, inside in value:
            if name in ("cookies", "cookie", "data") and isinstance(inside, (list, tuple, str)):
                yield from _json_cookies(inside)
            else:
                yield Cookie(name, inside)


def _curl(text: str) -> list[Cookie] | str | None:
    if not re.match(r"(?:\$ )?curl(?:\.exe)?\s|(?:-H|-b|--header|--cookie)\s", text, re.I):
        return None
    if re.search(r'\^["%\r\n]', text):  # as Windows' cmd wants it
        text = re.sub(r"\^\r?\n", " ", text)
        text = re.sub(r"\^(.)", r"\1", text)
    text = re.sub(r"\\\r?\n", " ", text)
    text = re.sub(
        r"(?<=\s)\$'((?:\\.|[^'\\])*)'", lambda found: shlex.quote(_unescaped(found[1])), text
    )
    try:
        words = shlex.split(text)
    except ValueError:
        return "the cURL command ends inside a quotation: copy all of it"
    cookies: list[Cookie] = []
    starts = [at for at, word in enumerate(words) if word in ("curl", "curl.exe")] or [0]
    for start, end in pairwise([*starts, len(words)]):
        cookies += _curl_cookies(words[start:end])
    return cookies


def _unescaped(text: str) -> str:
    """Return what bash's `$'…'` means; of control characters, which no value holds, the letter."""

    def character(escape: re.Match[str]) -> str:
        number = escape[1] or escape[2]
        return chr(int(number, 16)) if number else escape[3]

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", character, text)


def _curl_cookies(words: list[str]) -> Iterator[Cookie]:
    urls = [found[1] for word in words if (found := re.match(r"https?://([^/:?#]+)", word, re.I))]
    site = "" if not urls or any(map(_is_ours, urls)) else urls[0]
    for option, value in pairwise(words):
        name, _, rest = value.partition(":")
        if option in ("-b", "--cookie"):
            rest = value
        elif option not in ("-H", "--header") or name.strip().lower() != "cookie":
            continue
        yield from (cookie._replace(site=site) for cookie in _pairs(rest))


def _netscape(text: str) -> list[Cookie] | str | None:
    lines = (line.strip(" \r").removeprefix("#HttpOnly_") for line in text.split("\n"))
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    # Of the last line's end, a tab before an empty value may be gone.
    cookies = [Cookie(r[5], "".join(r[6:]), r[0] or "-") for r in rows if len(r) in (6, 7)]
    if not cookies and re.search(r"(?m)^\S+ +(?:TRUE|FALSE) +/\S* +(?:TRUE|FALSE) +\d+ +\S+", text):
        return "the fields are separated by spaces, not tabs: hand over the file as it was exported"
    return cookies if cookies or re.match("# (?:Netscape )?HTTP Cookie File", text) else None


def _bare(text: str) -> list[Cookie] | None:
    looks = re.fullmatch(
        r"[^\s=;,%]+(?:,|(?:%|%25)?2C)\d{9,11}(?:,|(?:%|%25)?2C)[^\s;]+", text, re.I
    )
    return [Cookie("SESSDATA", text)] if looks else None


def _header(text: str) -> list[Cookie] | str | None:
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
    for piece in header.split(";"):
        name, equals, value = piece.partition("=")
        if equals:
            yield Cookie(clean(name), value)


_PAIRS = "the Cookie header"
_READERS: dict[str, Callable[[str], list[Cookie] | str | None]] = {
    "the JSON": _json,
    "the cURL command": _curl,
    "the cookies.txt": _netscape,
    "the SESSDATA": _bare,
    _PAIRS: _header,
}
"""Readers by what refusals call their format; they return None for a text of another format."""
