"""The host program's tools see none of our requests and add nothing to them, but still see its own.

`instrumented.py` is the host program. Real tools at their defaults, and with all that they can
capture; `injected` stands for those that nobody has thought of and that come by the same door,
`ClientSession.__init__`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from instrumented import CALLS, TOOLS

PROGRAM = Path(__file__).with_name("instrumented.py")
TRACE = {"traceparent", "tracestate", "sentry-trace", "baggage"}
"""Headers that carry a trace on."""


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_instruments_aiohttp_sees_the_hosts_requests_and_none_of_ours(
    tool: str,
) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), tool],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    told = json.loads(ended.stdout)
    theirs = told["received"].pop("theirs")

    for manager, received in told["received"].items():
        traced = [TRACE & set(headers) for headers in received["headers"]]
        assert (manager, traced) == (manager, [set()] * CALLS)
        assert (manager, mentions(told["traffic"], received["port"])) == (manager, [])
    shown = told["traffic"] + told["failure"]
    assert [secret for secret in told["secrets"] if secret in shown] == []

    # And the tool works: without this, the rest would prove nothing.
    assert TRACE & set(theirs["headers"][0])
    assert mentions(told["traffic"], theirs["port"])
    assert "TransportError" in told["failure"]


def mentions(text: str, port: int) -> list[str]:
    """Return the places of a port in a text, as a word and not inside an id or a time."""
    return re.findall(rf".{{0,80}}\b{port}\b", text)
