"""The limiter's figures, and its rivals': `python -m benchmarks.limits [--quick] [--shared]`. Needs
the extra `bench`.

Ratios are of medians, in CPU time, of rounds that take turns in one process. What is deterministic
has numbers for a clock.
"""

import argparse
import asyncio
import gc
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from random import Random

import limits as rival_limits
from aiolimiter import AsyncLimiter
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from bili_account_async import (
    Limits,
    RateLimit,
    RateLimited,
    RequestEvent,
    SessionManager,
    fetch_snapshot,
)
from bili_account_async._seam import Seam
from bili_account_async.limiting.calls import Call
from bili_account_async.limiting.local import LocalLimiter
from bili_account_async.limiting.queue import Queue
from bili_account_async.sandbox import Sandbox

WIDE = RateLimit(rate=1e9, burst=1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.limits", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: a first look, not a figure to quote"
    )
    parser.add_argument(
        "--shared", action="store_true", help="only the budget of four processes: a minute each"
    )
    options = parser.parse_args()
    quick = options.quick
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiolimiter", "limits"))
    print(
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.machine()}, {packages}"
    )
    print(f"{'measure':78} {'figure':>8} {'bar':>8}")
    if options.shared:
        for rate, burst in ((2, 12), (100, 50)):
            shared(RateLimit(rate=rate, burst=burst), 15 if quick else 60)
        return
    asyncio.run(uncontended(15 if quick else 101))
    virtual_grants(100_000 if quick else 1_000_000)
    asyncio.run(real_time(3 if quick else 10))
    memory()
    curve((1_000, 10_000) if quick else (1_000, 10_000, 100_000))
    throttle(10_000 if quick else 100_000)
    for ratio in (1.1, 2, 4, 10):
        asyncio.run(fleet(ratio, 200 if quick else 60))


def row(measure: str, figure: float, bar: str = "", form: str = ".2f") -> None:
    print(f"{measure:78} {figure:8{form}} {bar:>8}", flush=True)


# --- one call that nothing holds up ---------------------------------------------------------------


async def uncontended(rounds: int, number: int = 2_000) -> None:
    own = LocalLimiter(Limits(host=WIDE, account=WIDE), Seam())
    host, account = AsyncLimiter(1e9, 1), {"account": AsyncLimiter(1e9, 1)}
    moving = MovingWindowRateLimiter(MemoryStorage())
    fixed = FixedWindowRateLimiter(MemoryStorage())
    often = rival_limits.RateLimitItemPerSecond(10**9)

    async def ours() -> None:
        for _ in range(number):
            permit = await own.acquire("host", "account", patience=10.0)
            own.release(permit, None)

    async def ours_acquired() -> None:
        for _ in range(number):
            await own.acquire("host", "account", patience=10.0)
        own._hosts["host"].in_flight = 0

    async def nested_aiolimiter() -> None:
        for _ in range(number):
            async with account["account"], host:
                pass

    async def nested_aiolimiter_acquired() -> None:
        for _ in range(number):
            await account["account"].acquire()
            await host.acquire()

    def nested_limits(
        strategy: MovingWindowRateLimiter | FixedWindowRateLimiter,
    ) -> Callable[[], Awaitable[None]]:
        async def hits() -> None:
            for _ in range(number // 20):
                await strategy.hit(often, "host", "account")
                await strategy.hit(often, "host")

        return hits

    contestants: dict[str, tuple[Callable[[], Awaitable[None]], int]] = {
        "ours": (ours, number),
        "ours, acquired": (ours_acquired, number),
        "aiolimiter": (nested_aiolimiter, number),
        "aiolimiter, acquired": (nested_aiolimiter_acquired, number),
        "limits, fixed window": (nested_limits(fixed), number // 20),
        "limits, moving window": (nested_limits(moving), number // 20),
    }
    own._hosts.clear()
    await ours()
    own._hosts["host"].concurrency = math.inf  # `ours_acquired` never releases
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (run, calls) in contestants.items():
            started = time.process_time()
            await run()
            times[name].append((time.process_time() - started) / calls)
    micro = {name: statistics.median(each) * 1e6 for name, each in times.items()}
    told = f"acquire and release, host and account, nobody waits ({micro['ours']:.2f} µs) ÷ "
    row(
        f"{told}aiolimiter ({micro['aiolimiter']:.2f} µs)",
        micro["ours"] / micro["aiolimiter"],
        "<= 0.40",
    )
    for name in ("limits, fixed window", "limits, moving window"):
        row(f"{told}{name} ({micro[name]:.1f} µs)", micro["ours"] / micro[name])
    ratio = micro["ours, acquired"] / micro["aiolimiter, acquired"]
    row("the same, acquire alone ÷ aiolimiter's acquire alone", ratio)
    own.close()


# --- a queue that never empties -------------------------------------------------------------------


def violations(departures: Iterable[float], limit: RateLimit) -> int:
    """Count the departures that end a window with too many of them.

    A window of t seconds may hold burst + rate * t.
    """
    found, lowest = 0, math.inf
    for number, at in enumerate(departures):
        level = number - limit.rate * at
        lowest = min(lowest, level)
        found += level + 1 - lowest > limit.burst + 1e-6
    return found


def virtual_grants(grants: int) -> None:
    """200 accounts that always wait, every fiftieth call cancelled after its grant, on a clock of
    numbers.
    """
    host_limit, account_limit = RateLimit(rate=100, burst=40), RateLimit(rate=0.6, burst=5)
    rng = Random(1)
    host = Queue(Limits(host=host_limit, account=account_limit, concurrency=None), rng.random)
    departures: list[float] = []
    own: dict[str, list[float]] = {f"account {number}": [] for number in range(200)}
    now, again = 0.0, list(own) * 2

    def granted(call: Call) -> None:
        again.append(call.account)
        if rng.random() < 0.02:
            host.leave(call, now)
        else:
            departures.append(now)
            own[call.account].append(now)
            host.release(call, None, now)

    started = time.process_time()
    while len(departures) < grants:
        while again:
            call = Call(host, again.pop(), now)
            if host.enqueue(call, now):
                granted(call)
        now = max(now, host.next_at())
        if now >= host.sweep_at:
            host.sweep(now)
        while call := host.candidate(now):
            host.granted(call, now)
            granted(call)
    seconds = time.process_time() - started
    share = len(departures) / (host_limit.burst + host_limit.rate * now)
    broken = violations(departures, host_limit) + sum(
        violations(one, account_limit) for one in own.values()
    )
    row(
        f"{grants:,} virtual grants ({seconds:.1f} s), % of the budget used", 100 * share, ">= 99.5"
    )
    row("   windows broken, of the host and of 200 accounts", broken, "0", "d")


async def real_time(seconds: float) -> None:
    """200 waiters at 200 a second; 30 % of the calls are cancelled at a random moment while they
    wait.
    """
    limit = RateLimit(rate=200, burst=100)
    loop = asyncio.get_running_loop()

    async def crowd(wait: Callable[[int], Awaitable[float | None]]) -> tuple[list[float], int]:
        departures: list[float] = []
        cancelled, rng = 0, Random(2)

        async def waiter(number: int) -> None:
            nonlocal cancelled
            while True:
                try:
                    async with asyncio.timeout(rng.random() if rng.random() < 0.4 else None):
                        departures.append(await wait(number) or loop.time())
                except TimeoutError:
                    cancelled += 1

        tasks = [asyncio.ensure_future(waiter(number)) for number in range(200)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return departures, cancelled

    ours, theirs = LocalLimiter(Limits(host=limit, account=None), Seam()), AsyncLimiter(100, 0.5)

    async def wait_ours(number: int) -> float:
        permit = await ours.acquire("host", str(number), patience=60)
        ours.release(permit, None)
        return permit.departed

    async def wait_theirs(number: int) -> None:
        await theirs.acquire()

    started = loop.time()
    (departures, cancelled), (rivals, _) = await asyncio.gather(
        crowd(wait_ours), crowd(wait_theirs)
    )
    allowed = limit.burst + limit.rate * (loop.time() - started)
    share = cancelled / (cancelled + len(departures))
    told = f"{seconds} s of real time, 200 waiters, {share:.0%} of the calls cancelled"
    row(f"{told}, % of the budget", 100 * len(departures) / allowed, ">= 99.5")
    row("   windows broken", violations(sorted(departures), limit), "0", "d")
    row("   aiolimiter at the same time, % of the budget", 100 * len(rivals) / allowed)
    ours.close()


# --- size -----------------------------------------------------------------------------------------


def memory(count: int = 100_000) -> None:
    names = [f"{number:09d}" for number in range(count)]
    host = Queue(
        Limits(host=None, account=RateLimit(rate=1, burst=12), concurrency=None), Random(1).random
    )

    def size(make: Callable[[], object]) -> float:
        gc.collect()
        tracemalloc.start()
        kept = make()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return taken / count if kept is not False else math.nan

    def enter() -> None:
        for name in names:
            call = Call(host, name, 0.0)
            host.enqueue(call, 0.0)
            host.release(call, None, 0.0)

    row("bytes a live key, beyond its name", size(enter), "<= 200", ".0f")
    row(
        "   aiolimiter, a limiter in a dict, used once",
        size(lambda: asyncio.run(rival_keys(names))),
        form=".0f",
    )
    now = 0.0
    while (now := host.next_at()) < math.inf:
        host.sweep(now)
    row("keys left after idle", len(host.accounts), "0", "d")


async def rival_keys(names: list[str]) -> dict[str, AsyncLimiter]:
    limiters = {name: AsyncLimiter(12, 12) for name in names}
    for limiter in limiters.values():
        await limiter.acquire()
    return limiters


def curve(counts: Iterable[int], grants: int = 20_000) -> None:
    """Each account of so many has two calls waiting; whoever departs asks again."""
    least = None
    for count in counts:
        limits = Limits(
            host=RateLimit(rate=1000, burst=1), account=RateLimit(rate=900 / count, burst=2)
        )
        host = Queue(limits, Random(1).random)
        for _ in range(2):
            for number in range(count):
                host.enqueue(Call(host, f"{number:06d}", 0.0), 0.0)
        now, done = 0.0, 0
        gc.disable()
        started = time.process_time()
        while done < grants:
            now = max(now, host.next_at())
            if now >= host.sweep_at:
                host.sweep_at = now + 1
            while call := host.candidate(now):
                host.granted(call, now)
                host.release(call, None, now)
                host.enqueue(Call(host, call.account, now), now)
                done += 1
        micro = (time.process_time() - started) / done * 1e6
        gc.enable()
        least = least or micro
        work = f"a grant, its end and the next arrival ({micro:.1f} µs)"
        bar = f"log {math.log(count) / math.log(1000):.2f}"
        row(f"{count:,} accounts wait: {work} ÷ with 1,000", micro / least, bar)


def throttle(count: int) -> None:
    """So many calls of a hundred accounts wait when the server says slow down."""
    queue = Queue(Limits(host=RateLimit(rate=1, burst=1), account=None), Random(1).random)
    first = Call(queue, "first", 0.0)
    queue.enqueue(first, 0.0)
    for number in range(count):
        queue.enqueue(Call(queue, str(number % 100), 0.0, patience=1000.0), 0.0)
    started = time.perf_counter()
    refused = queue.release(first, RateLimited(scope="host", retry_after=10.0), 1.0)
    millis = (time.perf_counter() - started) * 1e3
    assert not refused
    row(f"a throttle while {count:,} calls wait, ms of a blocked loop", millis, "< 1", ".3f")


# --- one budget for four processes ----------------------------------------------------------------


def shared(limit: RateLimit, seconds: float) -> None:
    """Four processes with 50 accounts each, whose calls wait without end, on one file."""
    program = Path(__file__).parent.parent / "tests" / "shared_process.py"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "limits.sqlite3"
        arguments = map(str, (path, limit.rate, limit.burst, 50, seconds))
        command = [sys.executable, str(program), *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen(command, **pipes) for _ in range(4)]
        for child in children:
            child.stdout.readline()
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        told = [child.communicate()[0].splitlines() for child in children]
    looks = sorted(look for lines in told for look in json.loads(lines.pop())[1:])
    cut_off = sum(bool(line.split(" ", 1)[1]) for lines in told for line in lines)
    departures = sorted(float(line.split(" ", 1)[0]) for lines in told for line in lines)
    share = 100 * len(departures) / (limit.burst + limit.rate * seconds)
    least = 100 * min(map(len, told)) / len(departures)
    row(f"four processes, one file, {limit.rate}/s for {seconds} s: % used", share, ">= 97")
    row("   windows broken", violations(departures, limit), "0", "d")
    row("   least process, % of the grants", least, ">= 15")
    row("   grants while cut off from the file", cut_off, "0", "d")
    row("   looks a grant", len(looks) / len(departures))
    row(
        "   a look at the open file blocks the loop, p99, ms",
        1e3 * looks[int(len(looks) * 0.99)],
        "<= 0.3",
    )
    row("   the longest look, ms", 1e3 * looks[-1])


# --- a server with a limit of its own -------------------------------------------------------------


async def fleet(ratio: float, server_rate: float) -> None:
    """100 accounts x 8 calls against a sandbox that answers 412 above its rate; our own is `ratio`
    times that.
    """
    events: list[tuple[float, RequestEvent]] = []
    started = time.perf_counter()
    async with (
        Sandbox(rate=server_rate) as sandbox,
        SessionManager(
            hosts=sandbox.hosts,
            limits=Limits(host=RateLimit(rate=ratio * server_rate, burst=12), account=None),
            timeout=60,
            on_request=lambda event: events.append((time.perf_counter() - started, event)),
        ) as manager,
    ):
        sessions = [manager.session(sandbox.add_account().credential) for _ in range(100)]
        snapshots = await asyncio.gather(*map(fetch_snapshot, sessions))
    seconds = time.perf_counter() - started
    finished = sum(8 - len(snapshot.failures) for snapshot in snapshots)
    late = [isinstance(event.outcome, RateLimited) for at, event in events if at > 2]
    calls = f"{finished} of 800 calls in {seconds:.0f} s, % of them throttled after 2 s"
    row(f"budget {ratio} x the server's: {calls}", 100 * sum(late) / max(1, len(late)), "< 2")


if __name__ == "__main__":
    main()
