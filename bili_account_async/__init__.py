"""An asyncio client for one's own Bilibili account: nine member-centre endpoints, rate-limited.

Unofficial. It acts only with credentials that the account's owner hands it, at polite default
rates, and backs off when the server asks.

This module is only the public names. Each is read from its own module when it is first asked for,
so that a program that merely has the package about (pytest, with our plugin) pays nothing for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from ._problem import Problem, problem
    from .cache import Cache, CachedSession, Seen
    from .call import CallEvent, Reply, RequestEvent
    from .credential import Credential
    from .endpoints import (
        ENDPOINTS,
        Auth,
        Endpoint,
        Session,
        clear_sign,
        get_account_info,
        get_coin_exp,
        get_coin_log,
        get_daily_rewards,
        get_realname_application,
        get_realname_status,
        get_security_info,
        get_vip_info,
        update_sign,
    )
    from .errors import (
        ApiError,
        BiliError,
        CredentialError,
        CredentialMissing,
        CsrfRejected,
        EmojiSign,
        InvalidSign,
        NotLoggedIn,
        ProtocolError,
        RateLimited,
        RequestTimeout,
        RiskControlled,
        SchemaError,
        SensitiveSign,
        SignTooLong,
        TransportError,
    )
    from .hosts import Hosts
    from .limiting.protocols import Limiter, Permit
    from .limiting.shared import SharedLimiter
    from .limiting.types import HostState, Limits, RateLimit, ScopeState
    from .polling import (
        THRIFTY,
        AccountExpired,
        AccountParked,
        AccountState,
        AccountStatus,
        Changed,
        MemoryStore,
        Poller,
        PollerStats,
        PollEvent,
        PollFailed,
        SnapshotStore,
        SnapshotTaken,
    )
    from .records import (
        AccountInfo,
        BindingInfo,
        CardType,
        ChinaTime,
        CoinLog,
        CoinLogEntry,
        DailyRewards,
        IsoDay,
        OtherSecurity,
        PasswordLevel,
        PasswordSafety,
        RealnameApplication,
        RealnameApplicationStatus,
        RealnameStatus,
        SecurityInfo,
        Sex,
        SnsBindings,
        UnixMilliseconds,
        UnixSeconds,
        VipInfo,
        VipPayType,
        VipStatus,
        VipType,
        ZeroOne,
        api_name,
    )
    from .retry import Retry
    from .session import AccountSession, SessionManager, open_session
    from .snapshot import ALL_SECTIONS, AccountSnapshot, Change, fetch_snapshot
    from .structuring import structure, unstructure

__all__ = [
    "ALL_SECTIONS",
    "ENDPOINTS",
    "THRIFTY",
    "AccountExpired",
    "AccountInfo",
    "AccountParked",
    "AccountSession",
    "AccountSnapshot",
    "AccountState",
    "AccountStatus",
    "ApiError",
    "Auth",
    "BiliError",
    "BindingInfo",
    "Cache",
    "CachedSession",
    "CallEvent",
    "CardType",
    "Change",
    "Changed",
    "ChinaTime",
    "CoinLog",
    "CoinLogEntry",
    "Credential",
    "CredentialError",
    "CredentialMissing",
    "CsrfRejected",
    "DailyRewards",
    "EmojiSign",
    "Endpoint",
    "HostState",
    "Hosts",
    "InvalidSign",
    "IsoDay",
    "Limiter",
    "Limits",
    "MemoryStore",
    "NotLoggedIn",
    "OtherSecurity",
    "PasswordLevel",
    "PasswordSafety",
    "Permit",
    "PollEvent",
    "PollFailed",
    "Poller",
    "PollerStats",
    "Problem",
    "ProtocolError",
    "RateLimit",
    "RateLimited",
    "RealnameApplication",
    "RealnameApplicationStatus",
    "RealnameStatus",
    "Reply",
    "RequestEvent",
    "RequestTimeout",
    "Retry",
    "RiskControlled",
    "SchemaError",
    "ScopeState",
    "SecurityInfo",
    "Seen",
    "SensitiveSign",
    "Session",
    "SessionManager",
    "Sex",
    "SharedLimiter",
    "SignTooLong",
    "SnapshotStore",
    "SnapshotTaken",
    "SnsBindings",
    "TransportError",
    "UnixMilliseconds",
    "UnixSeconds",
    "VipInfo",
    "VipPayType",
    "VipStatus",
    "VipType",
    "ZeroOne",
    "__version__",
    "api_name",
    "clear_sign",
    "fetch_snapshot",
    "get_account_info",
    "get_coin_exp",
    "get_coin_log",
    "get_daily_rewards",
    "get_realname_application",
    "get_realname_status",
    "get_security_info",
    "get_vip_info",
    "open_session",
    "problem",
    "structure",
    "unstructure",
    "update_sign",
]

_MODULES = {
    "cache": "Cache CachedSession Seen",
    "call": "CallEvent Reply RequestEvent",
    "credential": "Credential",
    "endpoints": (
        "Auth ENDPOINTS Endpoint Session clear_sign get_account_info get_coin_exp "
        "get_coin_log get_daily_rewards get_realname_application get_realname_status "
        "get_security_info get_vip_info update_sign"
    ),
    "errors": (
        "ApiError BiliError CredentialError CredentialMissing CsrfRejected EmojiSign "
        "InvalidSign NotLoggedIn ProtocolError RateLimited RequestTimeout RiskControlled "
        "SchemaError SensitiveSign SignTooLong TransportError"
    ),
    "hosts": "Hosts",
    "limiting.protocols": "Limiter Permit",
    "limiting.shared": "SharedLimiter",
    "limiting.types": "HostState Limits RateLimit ScopeState",
    "polling": (
        "AccountExpired AccountParked AccountState AccountStatus Changed MemoryStore "
        "PollEvent PollFailed Poller PollerStats SnapshotStore SnapshotTaken THRIFTY"
    ),
    "_problem": "Problem problem",
    "records": (
        "AccountInfo BindingInfo CardType ChinaTime CoinLog CoinLogEntry DailyRewards IsoDay "
        "OtherSecurity PasswordLevel PasswordSafety RealnameApplication "
        "RealnameApplicationStatus RealnameStatus SecurityInfo Sex SnsBindings "
        "UnixMilliseconds UnixSeconds VipInfo VipPayType VipStatus VipType ZeroOne api_name"
    ),
    "retry": "Retry",
    "session": "AccountSession SessionManager open_session",
    "snapshot": "ALL_SECTIONS AccountSnapshot Change fetch_snapshot",
    "structuring": "structure unstructure",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
"""The module that each public name is read from."""


def __getattr__(name: str) -> object:
    """Read a public name from its module, and keep it here."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
