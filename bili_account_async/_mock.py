"""The response class for suites that mock aiohttp; `testing.py` hands it out when it is asked for.

It stands apart because it needs aiohttp, which a pytest plugin must not import into every suite.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp


class MockResponse(aiohttp.ClientResponse):
    """A `ClientResponse` that aioresponses can build on aiohttp 3.14 and newer.

    aioresponses 0.7.9 does not know `stream_writer`, which aiohttp has required since. A mock's
    request is never written, so its writer has nothing to tell but that.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **options)
