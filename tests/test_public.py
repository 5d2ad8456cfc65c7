"""The public names: none comes early, and tools that only read the source see them all."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import bili_account_async as bili

SOURCE = Path(bili.__file__)


def imported_for_type_checkers() -> dict[str, str]:
    """Each name that the source imports from a module of ours, and that module."""
    return {
        alias.name: str(node.module)
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }


def test_what_is_read_late_is_what_type_checkers_and_documentation_tools_see() -> None:
    seen = imported_for_type_checkers()
    assert sorted(seen) == sorted(bili.__all__)
    assert len(set(bili.__all__)) == len(bili.__all__)
    for name, module in seen.items():
        source = __import__(f"bili_account_async.{module}", fromlist=[name])
        assert getattr(bili, name) is getattr(source, name)


def test_dir_shows_the_public_names_only() -> None:
    assert dir(bili) == sorted(bili.__all__)
    assert not [name for name in dir(bili) if name.startswith("_") and name != "__version__"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nobody'"):
        bili.Nobody  # noqa: B018
    assert not hasattr(bili, "__wrapped__")  # what inspect and mocks ask every object for


def test_importing_the_package_imports_nothing_but_itself() -> None:
    code = (
        "import json, sys; before = set(sys.modules); import bili_account_async\n"
        "from importlib.metadata import entry_points\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    imported = {name.split(".")[0] for name in json.loads(shown)}
    assert not imported & {"aiohttp", "attrs", "attr", "cattrs", "orjson", "yarl", "asyncio"}
    assert [name for name in json.loads(shown) if name.startswith("bili_account_async")] == [
        "bili_account_async",
        "bili_account_async._version",
    ]


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from bili_account_async import *", names)
    assert set(bili.__all__) <= names.keys()
