"""Help for suites that test a program which uses this package.

It is the pytest plugin (entry point `pytest11`) with the fixture `bili_sandbox`, and it has
`MockResponse`, with which aioresponses builds replies:

    mocked.get(url, payload={...}, response_class=MockResponse)

Nothing heavy is imported before a test asks for it: pytest loads this module in every project that
has the package installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._mock import MockResponse as MockResponse
    from .sandbox import Sandbox


def __getattr__(name: str) -> Any:
    if name != "MockResponse":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._mock import MockResponse

    return MockResponse


@pytest.fixture
def bili_sandbox() -> Iterator[Sandbox]:
    """Give an open `Sandbox` in a thread of its own.

    It serves tests of any kind, under any async plugin.
    """
    from .sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox
