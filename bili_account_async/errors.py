"""What can go wrong, as exceptions: one tree, no I/O, no knowledge of aiohttp.

Rules of the room: an error never holds a secret (whoever builds one redacts first, see
`credential.py`), every error pickles and copies, and `raise … from` another library's exception is
not done anywhere in the package, because those show request headers.
"""

from __future__ import annotations

from typing import Any, Literal

Scope = Literal["host", "account", "local"]


def _revive(cls: type[BiliError], args: tuple[object, ...], state: dict[str, object]) -> BiliError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class BiliError(Exception):
    """The root: `except BiliError` catches all that this package raises at run time."""

    endpoint: str | None = None
    """The name of the endpoint that was called, None outside a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self._state())

    def _state(self) -> dict[str, object]:
        return self.__dict__.copy()

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        return f"{self.endpoint}: {text}" if self.endpoint else text


class CredentialError(BiliError):
    """The credential is malformed. The message names the part, never its value."""


class CredentialMissing(CredentialError):
    """The endpoint needs a part that the credential lacks; raised before anything is sent."""


class TransportError(BiliError):
    """The talk with the server broke: DNS, connect, TLS, reset, truncated."""

    sent: bool = True
    """Whether any byte of the request may have left this machine.

    False after a refused connection.
    """

    _certificate: bool = False
    # it was the end of a connection that had lain idle in the pool, not of one made for the call
    _idle: bool = False

    def __init__(
        self, message: str, *, sent: bool = True, certificate: bool = False, idle: bool = False
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self._certificate = certificate
        self._idle = idle


class RequestTimeout(TransportError, TimeoutError):
    """No answer within the time given."""


class ProtocolError(BiliError):
    """The server answered, but not as the API does: HTTP status, not JSON, no envelope, too large,
    a redirect.
    """

    status: int | None
    """The HTTP status; None when not even that could be read."""
    retry_after: float | None
    """Seconds that the server asked to wait, None if it did not say."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class RateLimited(BiliError):
    """Slow down: said by the server (`scope` "host" or "account"), or by our own `Limits.max_wait`
    ("local").
    """

    status: int | None
    """HTTP status of the refusal, None for "local"."""
    code: int | None
    """The API's code, if a body told one."""
    message: str
    """The server's own words, possibly empty."""
    retry_after: float | None
    """Seconds until it makes sense to try again, None if nobody knows."""
    scope: Scope

    def __init__(
        self,
        *,
        scope: Scope,
        status: int | None = None,
        code: int | None = None,
        message: str = "",
        retry_after: float | None = None,
    ) -> None:
        said = (
            "our own limits' max_wait is over"
            if scope == "local"
            else f"the server limits this {scope}"
        )
        told = "".join(
            (
                f", HTTP {status}" if status not in (None, 200) else "",
                f", code {code}" if code is not None else "",
                f": {message}" if message else "",
                f" (retry after {retry_after:.3g} s)" if retry_after is not None else "",
            )
        )
        super().__init__(said + told)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.scope = retry_after, scope


class ApiError(BiliError):
    """The API refused: `code` and `message` are the server's own."""

    code: int
    message: str

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(f"code {code}: {message}" + (f" ({self._advice})" if self._advice else ""))
        self.code = code
        self.message = message

    _advice = ""


class NotLoggedIn(ApiError):
    """-101: the login is missing, wrong or has expired."""

    _advice = "log in again in a browser and hand over the new credential"


class CsrfRejected(ApiError):
    """-111: `bili_jct` does not belong to this login."""

    _advice = "take SESSDATA and bili_jct from the same login"


class SensitiveSign(ApiError):
    """40015: the sign holds a word that Bilibili does not allow."""


class EmojiSign(ApiError):
    """40021: the sign holds an emoji or an emote."""


class SignTooLong(ApiError):
    """40022: the sign is longer than 70 code points; also raised before sending."""


class RiskControlled(ApiError):
    """-352: risk control. Never retried: the account's owner has to act in a browser."""

    _advice = "open the account in a browser; it is not retried"


API_ERRORS: dict[int, type[ApiError]] = {
    -101: NotLoggedIn,
    -111: CsrfRejected,
    -352: RiskControlled,
    40015: SensitiveSign,
    40021: EmojiSign,
    40022: SignTooLong,
}
"""Codes that have a class of their own; every other non-zero code is a plain `ApiError`."""


class SchemaError(BiliError):
    """A reply's data does not have the documented shape.

    `bili-account doctor` makes a report of it.
    """

    path: str
    """Where: `data.account_safe.pwd_level`, `data.list[4].time`."""
    expected: str
    got: str
    """The type that came, with the value only for numbers and bools."""
    payload: object = None
    """What came, whole, for a bug report.

    It is the account's data: never in repr, str, logs or pickles.
    """

    def __init__(self, *, path: str, expected: str, got: str, payload: object = None) -> None:
        super().__init__(f"{path or 'the root'}: expected {expected}, got {got}")
        self.path, self.expected, self.got, self.payload = path, expected, got, payload

    def _state(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "payload"}
