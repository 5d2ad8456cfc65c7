"""The event loop of tests in real time: asyncio's, or uvloop's with `BILI_LOOP=uvloop`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]] | None:
    if os.environ.get("BILI_LOOP") != "uvloop":
        return None
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
