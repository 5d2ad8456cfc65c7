"""An asyncio client for one's own Bilibili account: the nine member-centre endpoints, typed and
rate-limited.

Unofficial. It acts only with credentials that the account's owner hands it, at polite default
rates, and backs off when the server asks. This module is only the public names.
"""

from typing import TYPE_CHECKING

from ._version import __version__
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
from .limits import HostState, Limiter, Limits, Permit, RateLimit, ScopeState
from .records import (
    AccountInfo,
    BindingInfo,
    CardType,
    CoinLog,
    CoinLogEntry,
    DailyRewards,
    OtherSecurity,
    PasswordLevel,
    PasswordSafety,
    RealnameApplication,
    RealnameApplicationStatus,
    RealnameStatus,
    SecurityInfo,
    Sex,
    SnsBindings,
    VipInfo,
    VipPayType,
    VipStatus,
    VipType,
)
from .retry import Retry
from .session import AccountSession, SessionManager, open_session
from .snapshot import ALL_SECTIONS, AccountSnapshot, Change, fetch_snapshot
from .structuring import structure, unstructure

if TYPE_CHECKING:
    from .polling import (
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

__all__ = [
    "ALL_SECTIONS",
    "ENDPOINTS",
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
    "CallEvent",
    "CardType",
    "Change",
    "Changed",
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
    "SensitiveSign",
    "Session",
    "SessionManager",
    "Sex",
    "SignTooLong",
    "SnapshotStore",
    "SnapshotTaken",
    "SnsBindings",
    "TransportError",
    "VipInfo",
    "VipPayType",
    "VipStatus",
    "VipType",
    "__version__",
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
    "structure",
    "unstructure",
    "update_sign",
]


def __getattr__(name: str) -> object:
    """The Poller and its events are read when they are first asked for: most
    programs poll nothing.
    """
    if name in __all__:
        from . import polling

        return getattr(polling, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
