"""The requests that arrived, as the sandbox understood them, kept for tests to look at.

Read from the raw header and body by our own few lines, because a web framework's parser would mend
what a test is meant to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from urllib.parse import parse_qsl

import attrs

from .accounts import SandboxAccount


@attrs.frozen(kw_only=True)
class ReceivedRequest:
    """One request that arrived. Its `repr` shows none of what may hold a secret."""

    endpoint: str | None
    """The SDK's name of the endpoint; None for a path that Bilibili does not have."""
    method: str
    path: str
    query: Mapping[str, str] = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    cookies: Mapping[str, str] = attrs.field(repr=False)
    """As sent, not decoded."""
    form: Mapping[str, str] | None = attrs.field(repr=False)
    """None when the body was none that a form can be."""
    account: SandboxAccount | None
    """The account whose credential came with it, alive or not."""
    time: datetime
    status: int | None
    """The HTTP status of the answer; None when a fault left it without one."""


def read_cookies(header: str) -> Mapping[str, str]:
    """Return the cookies of a `Cookie` header, values as they stand."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return MappingProxyType({name: value for name, _, value in pairs if name})


def read_form(content_type: str, body: bytes) -> Mapping[str, str] | None:
    """Return the fields of an urlencoded body, no field twice; None for anything else."""
    if not body:
        return MappingProxyType({})
    if content_type != "application/x-www-form-urlencoded":
        return None
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        return None
    form = dict(pairs)
    return MappingProxyType(form) if len(form) == len(pairs) else None
