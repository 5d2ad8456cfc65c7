"""What a program leaves behind that abandons its calls shows no secret, however it is shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from abandoned import MARKS, MOMENTS, PASSWORD, ROADS, USER
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
    for what in ("Unclosed response", "Unclosed connection", "Unclosed client session"):
        assert sum(what in line for line in lines) >= len(MOMENTS)
    assert sum(line.startswith("Executing <") for line in lines) > 100 * len(MOMENTS)
