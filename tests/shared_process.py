"""A process that calls as often as a shared budget lets it; run by `test_shared.py` and the
benchmark, several at a time.

`python shared_process.py PATH RATE BURST WAITERS SECONDS [SIGNAL LOOK]`: prints a line when it is
ready, begins at the first line of its input, and prints each departure when it comes: the time on
the wall clock, and the reason if the process is cut off from the place. At its end it prints as
JSON the seconds that each look at the place blocked the loop. With a signal it sends that to itself
in the middle of its so-manieth look, while it holds the place.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bili_account_async import Limits, RateLimit, SharedLimiter
from bili_account_async._seam import Seam
from bili_account_async.limiting import booking

blocked: list[float] = []
fate: tuple[int, int] | None = None
"""A signal, and the number of the look that it comes in."""


class WatchedPlace(booking.FilePlace):
    """The place, with a stopwatch around each change of it."""

    @contextmanager
    def change(self) -> Iterator[float]:
        begun = time.perf_counter()
        try:
            with super().change() as wall:
                yield wall
                if fate and len(blocked) == fate[1]:
                    os.kill(os.getpid(), fate[0])
        finally:
            blocked.append(time.perf_counter() - begun)


async def main(path: str, rate: str, burst: str, waiters: str, seconds: str) -> None:
    limit = RateLimit(rate=float(rate), burst=int(burst))
    limits = Limits(host=limit, account=None, concurrency=None)
    booking.FilePlace = WatchedPlace  # type: ignore[misc]
    gate = SharedLimiter(limits, path).gate(Seam())

    async def waiter(number: int) -> None:
        options: Any = {"patience": 60.0, "max_wait": 1e9, "retry": False, "background": False}
        while True:
            permit = await gate.acquire("host", f"account {number}", **options)
            print(time.time(), gate.state()["host"].cut_off or "", flush=True)  # noqa: T201
            gate.release(permit, None)

    tasks = [asyncio.ensure_future(waiter(number)) for number in range(int(waiters))]
    await asyncio.sleep(float(seconds))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    gate.close()
    print(json.dumps(blocked))  # noqa: T201


if __name__ == "__main__":
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    if sys.argv[6:]:
        fate = int(sys.argv[6]), int(sys.argv[7])
    asyncio.run(main(*sys.argv[1:6]))
