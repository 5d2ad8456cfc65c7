"""An event loop whose clock jumps: hours pass in milliseconds, and every run is the same.

It has no real I/O.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START = 1000.0


class Deadlock(AssertionError):
    """Tasks wait, and neither a timer nor a callback can ever wake them."""


class _Jump(selectors.SelectSelector):
    """Waits for nothing: it moves the loop's clock to the next timer."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock(
                f"nothing can happen any more, and {len(asyncio.all_tasks(self.loop))} tasks wait"
            )
        if timeout > 0:
            self.loop.now = max(self.loop.now, self.loop._scheduled[0].when())
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is its clock. Callbacks run in order, in no time."""

    def __init__(self) -> None:
        self.now = START
        self.complaints: list[dict[str, Any]] = []
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """The live timers, the next first."""
        return sorted(
            (timer for timer in self._scheduled if not timer.cancelled()),
            key=lambda timer: timer.when(),
        )

    def turn(self) -> None:
        """One turn of the loop, from outside of it: what is ready or due now runs once, and no time
        passes.
        """
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        """As many turns as it takes until nothing more happens at this time."""
        self.turn()
        while self._ready or any(timer.when() <= self.now for timer in self.timers()):
            self.turn()

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a virtual loop has no network")

    def _make_self_pipe(self) -> None:  # nothing wakes it from outside
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run_virtual(test: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """Make an `async def` test run on a `VirtualLoop`; it fails if a task is left over or an error
    went unheard.
    """

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> T:
        loop = VirtualLoop()

        async def whole() -> T:
            result = await test(*args, **options)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks are left over: {left}"
            return result

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            result = runner.run(whole())
        assert not loop.complaints, loop.complaints
        return result

    return run


async def turns(number: int = 20) -> None:
    """Let all that can happen at this time happen."""
    for _ in range(number):
        await asyncio.sleep(0)
