"""All that knows aiohttp: one pool for all accounts, one exchange of a request for a reply.

`pool` sends and reads, `line` holds the one override of aiohttp, `failures` turns its errors into
ours, and `proxies` finds the way out of a network. Errors of aiohttp end here: they hold request
headers in their repr and chain.
"""

from .pool import Pool
from .reply import RawReply

__all__ = ["Pool", "RawReply"]
