"""The remains of a program that abandons its calls show no secret, however they are shown."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from abandoned import MARKS, MOMENTS, PASSWORD, ROADS, USER, abandon
from aiohttp import encode_basic_auth

AUTHORIZATION = encode_basic_auth(USER, PASSWORD)
PROGRAM = Path(__file__).with_name("abandoned.py")


@pytest.mark.parametrize("road", ROADS)
def test_an_abandoned_loop_in_debug_mode_shows_no_secret_and_no_query(road: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always", str(PROGRAM), road],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = ended.stderr.splitlines()

    assert ended.returncode == 0
    assert set(ended.stdout.splitlines()) == {
        AUTHORIZATION if road in ("proxy", "tunnel") else "None"
    }
    told = [
        line for line in lines if re.search("|".join([*MARKS, r"https?://[^\s'\")>]*\?"]), line)
    ]
    assert told == []
    # It did show what was left: without this, the rest would prove nothing.
    # Which of them comes for a call depends on what the collector takes first.
    assert sum(line.lstrip().startswith("Unclosed ") for line in lines) >= len(MOMENTS)
    assert sum(line.startswith("Executing <") for line in lines) > 100 * len(MOMENTS)


PLAIN_DATA = {"URL", "CIMultiDict", "CIMultiDictProxy", "HeadersDictProxy", "RequestInfo"}
"""Types of aiohttp's whose values are what a request consists of. No log line has one by itself."""


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_no_object_of_a_call_under_way_shows_a_secret_by_its_repr(
    moment: str, road: str
) -> None:
    left = await abandon(moment, road)
    gc.collect()
    try:
        shown = {
            type(thing).__qualname__  # not the repr: this test's own failure would show it
            for thing in gc.get_objects()
            if package_of(thing) in ("bili_account_async", "aiohttp", "asyncio", "_asyncio")
            and type(thing).__name__ not in PLAIN_DATA
            and any(mark in repr(thing) for mark in MARKS)
        }
    finally:
        await left.aclose()

    assert shown == set()


def package_of(thing: object) -> str:
    module = type(thing).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""
