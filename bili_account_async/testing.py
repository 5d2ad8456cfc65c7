"""The pytest plugin (entry point `pytest11`): the fixture `bili_sandbox`.

Nothing else lives here, and nothing heavy is imported before a test asks for the fixture: pytest
loads this module in every project that has the package installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .sandbox import Sandbox


@pytest.fixture
def bili_sandbox() -> Iterator[Sandbox]:
    """An open `Sandbox` in a thread of its own: it serves tests of any kind, under any async
    plugin.
    """
    from .sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox
