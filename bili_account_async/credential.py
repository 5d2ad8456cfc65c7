"""The owner's credential, the ways to read one, and the guards that keep its secrets unseen.

What people paste is read in `intake.py`; nothing here talks to a server. Every function that meets
a secret and fails drops its own references to it before it raises, so that a traceback with local
variables shows none. That is why the readers below return their refusal as a text, and why each
public one says `del` before it hands that text to `_unwrap`.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, unquote

import attrs

from .errors import CredentialError
from .intake import Cookie, Parts, choose, clean, is_login, read

_UNSAFE = re.compile(r'[^\x21-\x7e]|[;"\\]')
"""A character that no cookie value can hold (RFC 6265), or that would end it or the header.

A comma is no cookie character either, and browsers send it all the same: see `sessdata`.
"""
_UNSAFE_NAMES = {
    "\r": "CR",
    "\n": "LF",
    "\0": "NUL",
    ";": "a semicolon",
    " ": "a space",
    '"': "a quotation mark",
    "\\": "a backslash",
}
_MID_END = 10**19
"""The first number of more than 19 digits, the most that a mid of 64 bits can have."""
# The last one is JavaScript's encodeURIComponent, which is how a browser writes SESSDATA.
_ENCODINGS = (str, quote, quote_plus, partial(quote, safe=""), partial(quote, safe="!'()*"))
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)
"""Lower case for ASCII alone: `str.lower` may change the length of a text, and so its places."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ENVIRONMENT = ("BILI_SESSDATA", "BILI_DEDE_USER_ID", "BILI_JCT")
"""The variables that together are one way to give a login."""


@attrs.frozen(init=False, repr=False)
class Credential:
    """The login of one account: a browser's cookie or an app's token, never both.

    A cookie is `sessdata` with, if known, `dede_user_id` (coin exp and security info need it) and
    `bili_jct` (sign update needs it). A token is `access_key`; it opens neither coin exp nor VIP
    info.

    Raises `CredentialError`, naming the part, for neither or both, and for a value that no cookie
    can hold. It shows no secret in `repr` and refuses to pickle: hand a name to the other process,
    and look it up there.

    As a pydantic field it takes what `parse` and `from_cookies` take, is `***` in JSON, and shows
    no value in its own errors. An error of the model around it, or of another member of a union,
    shows the model's whole input: `ConfigDict(hide_input_in_errors=True)` keeps it out of the
    error's text, `errors(include_input=False)` out of its details.
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
    def parse(text: str) -> Credential:
        """Read the login in what people have in the clipboard, whatever its format.

        That may be a Cookie header, "Copy as cURL", cookies exported as JSON or cookies.txt,
        `access_key=…`, or a SESSDATA alone. Only cookies of bilibili.com count, and of them those
        that a credential holds. White space and quotes around a value are no part of it. Raises
        `CredentialError` for what is not recognised, damaged or ambiguous: it says what was seen,
        never a value, and what to do.
        """
        result = _parsed(text)
        del text
        return _unwrap(result)

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> Credential:
        """Read a file that holds what `parse` takes, in UTF-8, or UTF-16 with its mark.

        Raises `OSError` when the file can't be read, `CredentialError` when it holds no login.
        """
        result = _from_file(path)
        del path
        return _unwrap(result)

    @staticmethod
    def from_cookies(cookies: Mapping[str, Any]) -> Credential:
        """Read the login among names and values: `{"SESSDATA": "…", "DedeUserID": 293793435}`."""
        result = _from_cookies(cookies)
        del cookies
        return _unwrap(result)

    @staticmethod
    def from_cookie_header(header: str) -> Credential:
        """Read `SESSDATA=…; DedeUserID=…; bili_jct=…`; the same as `parse`."""
        result = _parsed(header)
        del header
        return _unwrap(result)

    @staticmethod
    def from_cookies_txt(path: str | os.PathLike[str]) -> Credential:
        """Read a browser's exported cookies (Netscape format); the same as `from_file`."""
        result = _from_file(path)
        del path
        return _unwrap(result)

    @staticmethod
    def from_env(environ: Mapping[str, str] | None = None) -> Credential:
        """Read the login in the environment's variables.

        They are `BILI_COOKIE`, which may hold all that `parse` takes, or `BILI_SESSDATA` with
        `BILI_DEDE_USER_ID` and `BILI_JCT`, or `BILI_ACCESS_KEY`. An empty variable counts as unset.
        Two ways at once are a `CredentialError`, and so is none.
        """
        # `help` would show os.environ if it were the default itself.
        result = _from_environ(os.environ if environ is None else environ)
        del environ
        return _unwrap(result)

    @property
    def expires_at(self) -> datetime | None:
        """The end of the login (aware, UTC), or None if the cookie does not tell it.

        SESSDATA has three parts with commas between them, and the second of them is the end in
        seconds since 1970. The server may end a login earlier, as when the password changes.
        """
        second = [*unquote(self.sessdata or "").split(","), ""][1]
        if not re.fullmatch("[0-9]{1,11}", second):
            return None
        return datetime.fromtimestamp(int(second), UTC)

    @property
    def account_key(self) -> str:
        """The name under which this account is counted: its mid, else a digest of its secret.

        The digest is of 48 bits: enough to tell a fleet's accounts apart, and no way back to the
        secret. Two handles of one login have one name, and so one budget.
        """
        if self.dede_user_id:
            return str(self.dede_user_id)
        return "#" + self._digest(6)

    @property
    def secret_digest(self) -> str:
        """Return a digest of the secret, which tells logins apart, whatever mid they claim."""
        return self._digest(16)

    def _digest(self, size: int) -> str:
        """Return a digest of the secret, of so many bytes, in hexadecimal."""
        secret = self.sessdata or self.access_key or ""
        return blake2b(secret.encode(), digest_size=size).hexdigest()

    def redact(self, text: str) -> str:
        """Return `text` with this credential's secrets made `***`, however they are encoded.

        They are found plain, percent-encoded or decoded, in any case. Those that overlap or touch
        become one mask, so that no rest of one stays.
        """
        folded = text.translate(_FOLD)  # of the same length: its places are those of the text
        hidden = bytearray(len(text))
        for secret in self._encoded_secrets():
            at = folded.find(secret)
            while at >= 0:
                hidden[at : at + len(secret)] = b"*" * len(secret)
                at = folded.find(secret, at + 1)
        kept: list[str] = []
        end = 0
        for mask in re.finditer(rb"\*+", hidden):
            kept += text[end : mask.start()], "***"
            end = mask.end()
        return "".join(kept) + text[end:]

    def _encoded_secrets(self) -> set[str]:
        """Return each secret in every encoding in which a server may echo it, in lower case."""
        secrets = filter(None, (self.sessdata, self.bili_jct, self.access_key))
        forms = (form for secret in secrets for form in (secret, unquote(secret)))
        return {encode(form).translate(_FOLD) for form in forms for encode in _ENCODINGS}

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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        from ._pydantic import credential_schema

        return credential_schema(handler)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Credential does not pickle: hand a name to the other process, and look it up there"
        )

    def __copy__(self) -> Credential:
        return self

    def __deepcopy__(self, memo: object) -> Credential:
        return self


def _problem(part: str, value: object) -> str | None:
    """Return what is wrong with a text part, by the place in it and never by its value."""
    if value is None:
        return None
    if not isinstance(value, str):
        return f"{part}: expected str, got {type(value).__name__}"
    if not value:
        return f"{part}: is empty"
    if bad := _UNSAFE.search(value):
        named = _UNSAFE_NAMES.get(bad[0]) or (
            "a control character" if bad[0].isascii() else "a character that is not ASCII"
        )
        return f"{part}: holds {named} at position {bad.start()}, which no cookie or token can"
    return None


def _mid_problem(value: object) -> str | None:
    if value is None:
        return None
    if type(value) is not int:
        return f"dede_user_id: expected int, got {type(value).__name__}"
    if 0 <= value < _MID_END:
        return None
    return "dede_user_id: expected a positive number of at most 19 digits"


def _kind_problem(
    sessdata: object, mid: object, bili_jct: object, access_key: object
) -> str | None:
    """Return what is wrong with the parts together: a login is a cookie or a token."""
    if access_key is not None and (sessdata is not None or bili_jct is not None or mid):
        return "access_key: is a login of its own, and can't be combined with a cookie's parts"
    if access_key is None and sessdata is None:
        return "sessdata or access_key: one of them is needed"
    return None


def _unwrap(result: Credential | str) -> Credential:
    """Return the credential, or raise `CredentialError` for a text: by then its source is gone."""
    if isinstance(result, str):
        raise CredentialError(result)
    return result


def _build(parts: Parts | str) -> Credential | str:
    """Return the credential of these parts, or what is wrong with them.

    Nothing is raised, so that no traceback holds the parts.
    """
    if isinstance(parts, str):
        return parts
    mid = parts.get("dede_user_id")
    if isinstance(mid, str):
        if not (mid.isascii() and mid.isdigit() and len(mid) < 20):
            return "dede_user_id: expected a number"
        mid = int(mid)
    try:
        return Credential(**parts | {"dede_user_id": mid})
    except CredentialError as error:
        return str(error)


def _parsed(text: object) -> Credential | str:
    if not isinstance(text, str):
        return f"a login's text: expected str, got {type(text).__name__}"
    return _build(read(text))


def _from_cookies(cookies: object) -> Credential | str:
    if not isinstance(cookies, Mapping):
        return f"the cookies: expected a mapping, got {type(cookies).__name__}"
    pairs = [Cookie(name, value) for name, value in cookies.items()]
    return _build(choose(pairs, "the mapping"))


def _from_file(path: str | os.PathLike[str]) -> Credential | str:
    name = os.fsdecode(path)
    if is_login(name):  # which an OSError would show
        return "this is a login, and not the name of a file: Credential.parse reads it"
    with open(path, "rb") as file:
        content = file.read()
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    result = _parsed(content.decode(encoding, "replace"))
    return f"{name}: {result}" if isinstance(result, str) else result


def _from_environ(environ: Mapping[str, str]) -> Credential | str:
    names = ("BILI_COOKIE", "BILI_ACCESS_KEY", *_ENVIRONMENT)
    texts = {name: text for name in names if (text := clean(environ.get(name, "")))}
    parts = sorted(texts.keys() & set(_ENVIRONMENT))
    ways = [name for name in ("BILI_COOKIE", "BILI_ACCESS_KEY") if name in texts] + parts[-1:]
    if len(ways) > 1:
        return f"{' and '.join(ways)} are both set: unset all but one way"
    if not ways:
        return "no credential in the environment: set BILI_COOKIE, BILI_SESSDATA or BILI_ACCESS_KEY"
    if parts and "BILI_SESSDATA" not in texts:
        return f"{ways[0]} is set, but BILI_SESSDATA is not"
    cookie = texts.get("BILI_COOKIE")
    result = _parsed(cookie) if cookie else _from_cookies(texts)
    return f"{ways[0]}: {result}" if isinstance(result, str) else result
