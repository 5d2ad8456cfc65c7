"""Who asks: the owner's credential, the ways to read one, and how secrets are kept out of
everything that is shown.

Nothing here talks to a server. Every function that meets a secret and fails drops its own
references to it before it raises, so that a traceback with local variables shows none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, unquote

import attrs

from .errors import CredentialError

_UNSAFE = re.compile(r"[^\x21-\x7e]|[;]")
_MID_END = 10**19
# The last one is JavaScript's encodeURIComponent, which is how a browser writes SESSDATA.
_SPELLERS = (str, quote, quote_plus, partial(quote, safe=""), partial(quote, safe="!'()*"))
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)
_COOKIES = {"SESSDATA": "sessdata", "DedeUserID": "dede_user_id", "bili_jct": "bili_jct"}
_ENVIRONMENT = {
    "BILI_SESSDATA": "sessdata",
    "BILI_DEDE_USER_ID": "dede_user_id",
    "BILI_JCT": "bili_jct",
}


@attrs.frozen(init=False, repr=False)
class Credential:
    """A cookie (`sessdata` with, if known, `dede_user_id` and `bili_jct`) or an app token
    (`access_key`).

    Raises `CredentialError`, naming the part, for neither or both, and for a value that no cookie
    can hold. It shows no secret in `repr` and refuses to pickle: hand a name to the other process,
    and look it up there.
    """

    sessdata: str | None = attrs.field(default=None, repr=False)
    """The cookie `SESSDATA` as a browser holds it: a raw `,` has become `%2C`."""
    dede_user_id: int | None = None
    """The account's mid; 0 counts as absent."""
    bili_jct: str | None = attrs.field(default=None, repr=False)
    """The cookie `bili_jct`, which is the csrf token."""
    access_key: str | None = attrs.field(default=None, repr=False)
    """The app token."""

    def __init__(
        self,
        *,
        sessdata: str | None = None,
        dede_user_id: int | None = None,
        bili_jct: str | None = None,
        access_key: str | None = None,
    ) -> None:
        problem = (
            _problem("sessdata", sessdata)
            or _problem("bili_jct", bili_jct)
            or _problem("access_key", access_key)
            or _mid_problem(dede_user_id)
            or _kind_problem(sessdata, dede_user_id, bili_jct, access_key)
        )
        if problem:
            del self, sessdata, dede_user_id, bili_jct, access_key
            raise CredentialError(problem)
        self.__attrs_init__(
            sessdata.replace(",", "%2C") if sessdata else None,
            dede_user_id or None,
            bili_jct,
            access_key,
        )

    @staticmethod
    def from_cookie_header(header: str) -> Credential:
        """Read `SESSDATA=…; DedeUserID=…; bili_jct=…` as a browser shows it; other cookies are
        dropped.
        """
        made = _from_pairs(_header_pairs, header, "the cookie header has no SESSDATA")
        del header
        return _made(made)

    @staticmethod
    def from_cookies_txt(path: str | os.PathLike[str]) -> Credential:
        """Read a browser's exported cookies (Netscape format); only those of bilibili.com and its
        subdomains count.

        Raises `OSError` when the file can't be read, `CredentialError` when it holds no login.
        """
        with open(path, "rb") as file:
            content = file.read()
        made = _from_pairs(_netscape_pairs, content, "no SESSDATA of bilibili.com in it")
        del content
        return _made(f"{os.fspath(path)}: {made}" if isinstance(made, str) else made)

    @staticmethod
    def from_env(environ: Mapping[str, str] | None = None) -> Credential:
        """Read `BILI_COOKIE`, or `BILI_SESSDATA` with `BILI_DEDE_USER_ID` and `BILI_JCT`, or
        `BILI_ACCESS_KEY`.

        An empty variable counts as unset. Two ways at once are a `CredentialError`, and so is none.
        """
        made = _from_environ(
            os.environ if environ is None else environ
        )  # as a default, `help` would show it
        del environ
        return _made(made)

    @property
    def account_key(self) -> str:
        """What tells accounts apart without a secret: the mid, else a digest of the secret."""
        if self.dede_user_id:
            return str(self.dede_user_id)
        secret = self.sessdata or self.access_key or ""
        return "#" + blake2b(secret.encode(), digest_size=6).hexdigest()

    def redact(self, text: str) -> str:
        """Return `text` with this credential's secrets made `***`, however they are spelled: plain,
        percent-encoded or decoded, in any case.

        Spellings that overlap or touch become one mask, so that no rest of one stays.
        """
        folded = text.translate(
            _FOLD
        )  # of the same length, so that places in it are places in text
        hidden = bytearray(len(text))
        for spelling in self._spellings():
            at = folded.find(spelling)
            while at >= 0:
                hidden[at : at + len(spelling)] = b"*" * len(spelling)
                at = folded.find(spelling, at + 1)
        kept: list[str] = []
        end = 0
        for mask in re.finditer(rb"\*+", hidden):
            kept += text[end : mask.start()], "***"
            end = mask.end()
        return "".join(kept) + text[end:]

    def _spellings(self) -> set[str]:
        secrets = filter(None, (self.sessdata, self.bili_jct, self.access_key))
        forms = (form for secret in secrets for form in (secret, unquote(secret)))
        return {spell(form).translate(_FOLD) for form in forms for spell in _SPELLERS}

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        """Yield the parts that are there, the secrets masked: what `repr` and rich show."""
        for field in attrs.fields(Credential):
            if value := getattr(self, field.name):
                yield field.name, value if field.repr else "***"

    def __repr__(self) -> str:
        parts = ", ".join(f"{part}={shown}" for part, shown in self.__rich_repr__())
        return f"Credential({parts})"

    def __dir__(self) -> list[str]:
        """List no secret: rich's and the standard library's `inspect` show the values of these."""
        secret = {field.name for field in attrs.fields(Credential) if not field.repr}
        return [name for name in object.__dir__(self) if name not in secret]

    # attrs' own comparison would have pytest show the fields that differ when an `==` fails.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Credential):
            return NotImplemented
        return self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return self.sessdata, self.dede_user_id, self.bili_jct, self.access_key

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Credential does not pickle: hand a name to the other process, and look it up there"
        )

    def __copy__(self) -> Credential:
        return self

    def __deepcopy__(self, memo: object) -> Credential:
        return self


def _problem(part: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return f"{part}: expected str, got {type(value).__name__}"
    if not value:
        return f"{part}: is empty"
    if bad := _UNSAFE.search(value):
        character = bad[0]
        named = {"\r": "CR", "\n": "LF", "\0": "NUL", ";": "a semicolon", " ": "a space"}.get(
            character
        )
        named = named or (
            "a control character" if character.isascii() else "a character that is not ASCII"
        )
        return f"{part}: holds {named} at position {bad.start()}, which no cookie or token can"
    return None


def _mid_problem(value: object) -> str | None:
    if value is None:
        return None
    if type(value) is not int:
        return f"dede_user_id: expected int, got {type(value).__name__}"
    return (
        None
        if 0 <= value < _MID_END
        else "dede_user_id: expected a positive number of at most 19 digits"
    )


def _kind_problem(
    sessdata: object, mid: object, bili_jct: object, access_key: object
) -> str | None:
    if access_key is not None and (sessdata is not None or bili_jct is not None or mid):
        return "access_key: is a login of its own, and can't be combined with a cookie's parts"
    if access_key is None and sessdata is None:
        return "sessdata or access_key: one of them is needed"
    return None


def _made(made: Credential | str) -> Credential:
    if isinstance(made, str):
        raise CredentialError(made)
    return made


def _build(texts: Mapping[str, str]) -> Credential | str:
    """The credential of these parts, or what is wrong with them; it raises nothing, so no traceback
    holds them.
    """
    mid = texts.get("dede_user_id", "0")
    if not (mid.isascii() and mid.isdigit() and len(mid) < 20):
        return "dede_user_id: expected a number"
    rest = {part: text for part, text in texts.items() if part != "dede_user_id"}
    try:
        return Credential(dede_user_id=int(mid), **rest)
    except CredentialError as error:
        return str(error)


def _from_pairs(
    read: Callable[[Any], Iterable[tuple[str, str]]], source: object, nothing: str
) -> Credential | str:
    texts: dict[str, str] = {}
    try:
        for name, value in read(source):
            part = _COOKIES.get(name)
            if part and texts.setdefault(part, value) != value:
                return f"{name}: is there twice, with different values"
    except CredentialError as error:
        return str(error)
    return _build(texts) if "sessdata" in texts else nothing


def _header_pairs(header: object) -> Iterator[tuple[str, str]]:
    if not isinstance(header, str):
        raise CredentialError(f"the cookie header: expected str, got {type(header).__name__}")
    text = header.strip(" \t")
    if text[:7].lower() == "cookie:":
        text = text[7:]
    for piece in text.split(";"):
        name, _, value = piece.strip(" \t").partition("=")
        yield name, value


def _netscape_pairs(content: bytes) -> Iterator[tuple[str, str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CredentialError("it is not a text file in UTF-8") from None
    for line in text.split("\n"):
        fields = line.removesuffix("\r").removeprefix("#HttpOnly_").split("\t")
        if len(fields) == 7 and not fields[0].startswith("#"):
            domain = fields[0].lstrip(".").lower()
            if domain == "bilibili.com" or domain.endswith(".bilibili.com"):
                yield fields[5], fields[6]


def _from_environ(environ: Mapping[str, str]) -> Credential | str:
    there = {
        name for name in ("BILI_COOKIE", "BILI_ACCESS_KEY", *_ENVIRONMENT) if environ.get(name)
    }
    ways = [name for name in ("BILI_COOKIE", "BILI_ACCESS_KEY") if name in there] + sorted(
        there & _ENVIRONMENT.keys()
    )[-1:]
    if len(ways) > 1:
        return f"{' and '.join(ways)} are both set: unset all but one way"
    if "BILI_COOKIE" in there:
        return _from_pairs(_header_pairs, environ["BILI_COOKIE"], "BILI_COOKIE: it has no SESSDATA")
    if "BILI_ACCESS_KEY" in there:
        return _build({"access_key": environ["BILI_ACCESS_KEY"]})
    if ways and "BILI_SESSDATA" not in there:
        return f"{ways[0]} is set, but BILI_SESSDATA is not"
    if not ways:
        return "no credential in the environment: set BILI_COOKIE, BILI_SESSDATA or BILI_ACCESS_KEY"
    return _build({part: environ[name] for name, part in _ENVIRONMENT.items() if name in there})
