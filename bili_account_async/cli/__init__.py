"""The command `bili-account` (extra `cli`).

This module is its entry point, which has to work without Typer and Rich. A command stands in
`app.py`, or in a file of its own that `app.py` adds. `account.py` finds the login and runs the
command's work, `page.py` draws, `output.py` writes, `failures.py` tells what to do next. Nothing
outside this folder imports from it.
"""

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType


def main() -> None:
    """Run the command line; the exit codes stand in its help."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _leave)
    # A stream that the caller closed is None, and would fail whoever asks it for anything. The null
    # device stays open for as long as the process lives.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An old code page can't show every nickname.
            stream.reconfigure(errors="backslashreplace")
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit("bili-account needs the extra `cli`: pip install 'bili-account-async[cli]'")
    from .app import app

    try:
        app(prog_name="bili-account")
    except OSError as error:  # a full disk, no more sockets
        sys.exit(f"error: {error.strerror or type(error).__name__}")


def _leave(signum: int, _: FrameType | None) -> None:
    sys.exit(128 + signum)
