"""The event loop of tests in real time: asyncio's, or uvloop's with `BILI_LOOP=uvloop`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

if os.environ.get("BILI_LOOP") == "uvloop":
    import uvloop

    def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        return {"uvloop": uvloop.new_event_loop}
