"""The exceptions of this package: one tree, and nothing that does I/O or knows aiohttp.

Rules of the room:

- An error never holds a secret. Code that builds one redacts first, see `credential.py`.
- Every error pickles and copies. Each attribute has a default on its class, so that an error made
  of its text alone, as `structure` makes one, still answers for all of them.
- No `raise … from` another library's exception anywhere in the package: those show request headers.

The meaning of the API's codes stands in `codes.py`.
"""

from __future__ import annotations

from typing import Any, Literal

Scope = Literal["host", "account", "local"]
"""The reach of a limit: all of a host, one account on it, or our own `max_wait`."""


def _revive(cls: type[BiliError], args: tuple[object, ...], state: dict[str, object]) -> BiliError:
    """Return the error that was pickled; its constructor's arguments were not kept."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class BiliError(Exception):
    """The root: `except BiliError` catches everything that this package raises at run time."""

    endpoint: str | None = None
    """The name of the endpoint that was called, None outside a call."""

    def __init__(self, message: str = "", *, endpoint: str | None = None) -> None:
        super().__init__(message)
        self.endpoint = endpoint

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self._state())

    def __copy__(self) -> BiliError:
        return _revive(type(self), self.args, self.__dict__.copy())

    def _state(self) -> dict[str, object]:
        """Return the attributes that a pickle takes along."""
        return self.__dict__.copy()

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        return f"{self.endpoint}: {text}" if self.endpoint else text


class CredentialError(BiliError):
    """A malformed credential. The message names the part, never its value."""


class CredentialMissing(CredentialError):
    """A credential without a part that the endpoint needs; raised before anything is sent."""


class TransportError(BiliError):
    """A talk with the server that broke: DNS, connect, TLS, reset, truncated."""

    sent: bool = True
    """False as long as no byte of the request was written, as after a refused connection."""
    stale: bool = False
    """True when a pooled connection turned out to have died while it lay idle."""
    certificate: bool = False
    """True when the server's TLS certificate was refused, which no second attempt can cure."""

    def __init__(
        self,
        message: str = "",
        *,
        sent: bool = True,
        stale: bool = False,
        certificate: bool = False,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint)
        self.sent = sent
        self.stale = stale
        self.certificate = certificate


class RequestTimeout(TransportError, TimeoutError):
    """An answer that did not come within the time given."""


class ProtocolError(BiliError):
    """An answer that the API does not give: an HTTP status, no JSON, no envelope, too large."""

    status: int | None = None
    """The HTTP status; None when not even that could be read."""
    retry_after: float | None = None
    """Seconds that the server asked to wait, None if it did not say."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint)
        self.status = status
        self.retry_after = retry_after


class RateLimited(BiliError):
    """A demand to slow down, by the server or, with the scope "local", by our own limits."""

    status: int | None = None
    """The HTTP status of the refusal, None for "local"."""
    code: int | None = None
    """The API's code, if a body told one."""
    message: str = ""
    """The server's own words, possibly empty."""
    retry_after: float | None = None
    """Seconds until another try makes sense, None if nobody knows."""
    scope: Scope = "host"

    def __init__(
        self,
        *,
        scope: Scope,
        status: int | None = None,
        code: int | None = None,
        message: str = "",
        retry_after: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        local = scope == "local"
        text = "our own limits' max_wait is over" if local else f"the server limits this {scope}"
        if status not in (None, 200):
            text += f", HTTP {status}"
        if code is not None:
            text += f", code {code}"
        if message:
            text += f": {message}"
        if retry_after is not None:
            text += f" (retry after {retry_after:.3g} s)"
        super().__init__(text, endpoint=endpoint)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.scope = scope

    def restated(self, **differing: Any) -> RateLimited:
        """Return a new error that says the same, but for the arguments given.

        One refusal is told to many calls. Each of them needs an error of its own: a shared one
        would collect the frames of all, and keep them alive for as long as the limiter keeps it.
        """
        arguments: dict[str, Any] = {
            "scope": self.scope,
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "retry_after": self.retry_after,
            "endpoint": self.endpoint,
        }
        return RateLimited(**arguments | differing)


class ApiError(BiliError):
    """A refusal by the API; `code` and `message` are the server's own."""

    code: int = 0
    message: str = ""

    _advice = ""  # the sentence that tells the owner what to do about an error of this class

    def __init__(self, message: str = "", *, code: int, endpoint: str | None = None) -> None:
        advice = f" ({self._advice})" if self._advice else ""
        text = f"code {code}: {message}" if code else message  # 0: nothing was sent
        super().__init__(text + advice, endpoint=endpoint)
        self.code = code
        self.message = message


class NotLoggedIn(ApiError):
    """A login or token that is missing, wrong or expired (-101, -2, -401, -658, 61000)."""

    _advice = "log in again, and hand over the new cookie or token"


class CsrfRejected(ApiError):
    """A `bili_jct` that does not belong to this login (-111)."""

    _advice = "take SESSDATA and bili_jct from the same login"


class InvalidSign(ApiError, ValueError):
    """A sign that Bilibili does not take; `code` is 0 for one that was refused before sending."""


class SensitiveSign(InvalidSign):
    """A sign that holds a word which Bilibili does not allow (40015)."""


class EmojiSign(InvalidSign):
    """A sign that holds an emoji or an emote (40021)."""


class SignTooLong(InvalidSign):
    """A sign of more than 70 code points (40022); also raised before sending."""


class RiskControlled(ApiError):
    """Risk control (-352). It is never retried: the owner has to act in a browser."""

    _advice = "open the account in a browser; it is not retried"


class SchemaError(BiliError):
    """Reply data of another shape than documented. `bili-account doctor` makes a report of it."""

    path: str = ""
    """The place in the reply: `data.account_safe.pwd_level`, `data.list[4].time`."""
    expected: str = ""
    got: str = ""
    """The type that came, with the value only for numbers and bools."""
    payload: object = None
    """The data that came, whole, for a bug report.

    It is the account's own: never in repr, str, logs or pickles.
    """

    def __init__(
        self,
        *,
        path: str,
        expected: str,
        got: str,
        payload: object = None,
        endpoint: str | None = None,
    ) -> None:
        place = path or "the root"
        super().__init__(f"{place}: expected {expected}, got {got}", endpoint=endpoint)
        self.path = path
        self.expected = expected
        self.got = got
        self.payload = payload

    def _state(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "payload"}
