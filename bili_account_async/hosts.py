"""The three hosts of the API, and the checks of every URL that a program hands over. No I/O."""

from __future__ import annotations

import ipaddress
from typing import Any, get_args

import attrs
from yarl import URL

from .endpoints import HostName

_EXPECTED = (
    "expected 'https://host' ('http' only for loopback) without user info, path, query or fragment"
)
HOST_NAMES: tuple[HostName, ...] = get_args(HostName)


def http_url(value: object) -> URL | None:
    """Return the URL if it is one of http or https with a host and a port, else None."""
    if not isinstance(value, str):
        return None
    try:
        url = URL(value)
        usable = url.scheme in ("http", "https") and url.host and url.port
    except ValueError:
        return None
    return url if usable else None


def is_loopback(host: str) -> bool:
    """Return True for `localhost` and for an address that never leaves this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _base_url(value: str, attribute: attrs.Attribute[str]) -> str:
    """Return the origin of a base URL; the error shows no more of a wrong one than its host."""
    url = http_url(value)
    if url is None or "@" in value or url.user or url.password:
        raise ValueError(f"{attribute.name}: {_EXPECTED}")
    if url.raw_path not in ("", "/") or url.raw_query_string or url.raw_fragment:
        raise ValueError(f"{attribute.name}: {_EXPECTED}")
    if url.scheme == "http" and not is_loopback(url.host or ""):
        raise ValueError(f"{attribute.name}: {_EXPECTED}, got http://{url.host}")
    return str(url.origin())


def _base(default: str) -> Any:
    return attrs.field(default=default, converter=attrs.Converter(_base_url, takes_field=True))


@attrs.frozen(kw_only=True)
class Hosts:
    """The base URL of each host. `http` is for loopback hosts only.

    Raises `ValueError`, naming the host, for a URL that can be none.
    """

    api: str = _base("https://api.bilibili.com")
    www: str = _base("https://www.bilibili.com")
    passport: str = _base("https://passport.bilibili.com")

    def base(self, name: HostName) -> URL:
        """Return the base URL of one host."""
        return URL(getattr(self, name))
