"""The command `bili-account` (extra `cli`). Here: its entry point, which has to work without Typer
and Rich.

A command stands in `app.py`, or in a file of its own that `app.py` adds. `account.py` finds the
login and runs the command's work, `page.py` draws, `output.py` writes, `failures.py` tells what to
do next. Nothing outside this folder imports from it.
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
    # A stream that the caller closed is None, and would fail whoever asks it for anything.
    sys.stdin, sys.stdout, sys.stderr = (
        stream or open(os.devnull, mode)  # noqa: SIM115 - for as long as the process lives
        for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # an old code page can't show every nickname
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
