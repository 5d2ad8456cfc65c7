"""The proxies that requests go through: the one named for the manager, or the environment's.

The environment counts only for a lent session that says `trust_env`: a program that has such a
session wants its traffic to go there. It is read here and not by aiohttp, which would take logins
out of a .netrc file as well, and send them to whatever host has an entry in it.

The environment's proxies are read once, when the manager opens; a change of them counts from the
next opening on. One that is not of HTTP, such as SOCKS, is refused: aiohttp does not speak to it,
and going out directly instead would show the program's address to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from ..hosts import http_url


class Proxy:
    """One proxy, or none: then `url` is None.

    Its login is kept in a header and not in the URL, which aiohttp's errors and logs would show.
    """

    __slots__ = ("headers", "url")

    def __init__(self, url: URL | None) -> None:
        self.url = url and url.with_user(None)
        self.headers: dict[str, str] | None = None
        if url is not None and url.user is not None:
            authorization = aiohttp.encode_basic_auth(url.user, url.password or "")
            self.headers = {"Proxy-Authorization": authorization}


_DIRECT = Proxy(None)


class Proxies:
    """The way out for each URL."""

    __slots__ = ("_by_scheme", "_bypass")

    def __init__(self, explicit: str | None, *, environment: bool) -> None:
        self._by_scheme: dict[str, Proxy] = {}  # of the request's URL, not of the proxy's
        self._bypass: Callable[[str], object] = _bypass_none  # true for a host of `no_proxy`
        if explicit is not None:
            self._by_scheme = dict.fromkeys(("http", "https"), Proxy(URL(explicit)))
        elif environment:
            self._by_scheme = _environment()
            self._bypass = proxy_bypass

    def __bool__(self) -> bool:
        return bool(self._by_scheme)

    def for_url(self, url: URL) -> Proxy:
        """Return the proxy for `url`; its own URL is None where there is none."""
        if not self._by_scheme or self._bypass(url.host or ""):
            return _DIRECT
        return self._by_scheme.get(url.scheme, _DIRECT)


def _environment() -> dict[str, Proxy]:
    """Return the environment's proxies by scheme.

    Raises `RuntimeError` for one that is not of HTTP; it shows no part of it.
    """
    proxies: dict[str, Proxy] = {}
    for scheme, text in getproxies().items():
        if scheme not in ("http", "https"):
            continue
        url = http_url(text)
        if url is None:
            raise RuntimeError(
                f"the environment's proxy for {scheme} is no http:// proxy, and the lent "
                "client_session says trust_env: name one with SessionManager(proxy=…)"
            )
        proxies[scheme] = Proxy(url)
    return proxies


def _bypass_none(_: str) -> bool:
    return False
