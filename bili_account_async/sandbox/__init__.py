"""An imitation of Bilibili's member centre on loopback, to test programs without an account.

It is written from the API document alone and shares no table, record or serialiser with the SDK, so
that the two can disagree. It serves invented people, never leaves this machine, and is the only
part of the package that needs `aiohttp.web`.
"""

from .accounts import CoinChange, SandboxAccount
from .faults import Fault
from .received import ReceivedRequest
from .server import Sandbox

__all__ = ["CoinChange", "Fault", "ReceivedRequest", "Sandbox", "SandboxAccount"]
