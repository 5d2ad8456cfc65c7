"""The SDK against its rivals: `python -m benchmarks [--quick]`. Needs the extra `bench`.

All figures are ratios of two things measured in turn in one run, because machines are noisy. Every
contestant of the first part runs in a process of its own against a server in another; a figure is
client CPU per GET. Each ratio is the median of all rounds' ratios. Others: `python -m
benchmarks.limits`, `.polling`, `.soak`, `.isolation`.
"""

import argparse
import asyncio
import compileall
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
import timeit
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import orjson

import bili_account_async
from bili_account_async import (
    AccountInfo,
    CoinLog,
    Credential,
    Hosts,
    Limits,
    Retry,
    SessionManager,
    fetch_snapshot,
    get_account_info,
)
from bili_account_async.structuring import Reader

from .http import WIDE, Child, cpu_per_get, credential, ratio, server
from .server import SAMPLES


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: a first look, not a figure to quote"
    )
    rounds = 10 if parser.parse_args().quick else 60
    rivals = ("bilibili-api-python", "httpx", "httpx2")
    packages = ("aiohttp", "attrs", "cattrs", "orjson", "uvloop", *rivals)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()},",
        end=" ",
    )
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print(f"{'measure':58} {'ratio':>7} {'bar':>6}")
    gets(rounds)
    curve(rounds)
    row(
        "structuring the profile ÷ orjson.loads of it",
        structuring("get_account_info", AccountInfo),
        1.0,
    )
    row(
        "structuring the coin log of 13 ÷ orjson.loads of it",
        structuring("get_coin_log", CoinLog),
        4.5,
    )
    row("a snapshot's time ÷ one GET's, server latency 50 ms", asyncio.run(snapshot_time()), 1.10)
    alone, used, dependencies = imports(rounds)
    row("import with use ÷ import of its dependencies", ratio(used, dependencies), 1.10)
    row("import without use, ms", statistics.median(alone) * 1e3, 30)
    print(
        f"{'a session and credential, bytes beyond its strings':58} {session_memory():7.0f} {600:6}"
    )


def row(measure: str, ratio: float, bar: float | None) -> None:
    print(f"{measure:58} {ratio:7.2f} {bar or '':>6}", flush=True)


def gets(rounds: int) -> None:
    bars = {
        "least aiohttp": 1.25,
        "ClientSession per account": 0.70,
        "cookies= per call": 0.52,
        "bilibili-api-python": 0.22,
        "httpx": 0.11,
        "httpx2": 0.2,
        "streams by hand": None,
    }
    with server() as base:
        children = {name: Child(name, base, 50) for name in ("SDK", "snapshots", *bars)}
        children |= {
            f"{name} on uvloop": Child(name, base, 50, uvloop=True)
            for name in ("SDK", "least aiohttp")
        }
        children["snapshots"].gets = 125
        figures = cpu_per_get(children, rounds)
    micro = {name: f"{statistics.median(of) * 1e6:.0f} µs" for name, of in figures.items()}
    for rival, bar in bars.items():
        row(
            f"SDK GET ({micro['SDK']}) ÷ {rival} ({micro[rival]})",
            ratio(figures["SDK"], figures[rival]),
            bar,
        )
    own, least = "SDK on uvloop", "least aiohttp on uvloop"
    row(f"{own} ({micro[own]}) ÷ on asyncio", ratio(figures[own], figures["SDK"]), None)
    row(f"{own} ÷ {least} ({micro[least]})", ratio(figures[own], figures[least]), None)
    row("a snapshot's CPU ÷ eight GETs'", ratio(figures["snapshots"], figures["SDK"]) / 8, 1.05)


def curve(rounds: int) -> None:
    counts = (1, 10, 100, 1_000, 10_000)
    with server() as base:
        figures = cpu_per_get({str(count): Child("SDK", base, count) for count in counts}, rounds)
    for count in counts[1:]:
        row(
            f"SDK GET with {count:,} accounts ÷ with 1",
            ratio(figures[str(count)], figures["1"]),
            1.10,
        )


def structuring(name: str, record: type) -> float:
    text = (SAMPLES / f"{name}.json").read_bytes()
    payload, read = json.loads(text)["data"], Reader(record).read
    return in_turn(lambda: read(payload), lambda: orjson.loads(text))


def in_turn(
    one: Callable[[], object], other: Callable[[], object], number: int = 2_000, repeat: int = 50
) -> float:
    times = [
        (timeit.timeit(one, number=number), timeit.timeit(other, number=number))
        for _ in range(repeat)
    ]
    return ratio(*map(list, zip(*times, strict=True)))


async def snapshot_time() -> float:
    with server(0.05) as base:
        hosts = Hosts(api=base, www=base, passport=base)
        limits = Limits(host=WIDE, account=WIDE, concurrency=None)
        async with SessionManager(hosts=hosts, limits=limits, retry=Retry.none()) as manager:
            me = manager.session(credential(1))
            await fetch_snapshot(me)
            pairs = []
            for _ in range(40):
                started = time.perf_counter()
                await fetch_snapshot(me)
                between = time.perf_counter()
                await get_account_info(me)
                pairs.append((between - started, time.perf_counter() - between))
    return ratio(*map(list, zip(*pairs, strict=True)))


def imports(rounds: int) -> list[list[float]]:
    """Return the seconds that imports take, in turn.

    They are of the package alone, of it with the names that most programs use, and of its
    dependencies.
    """
    statements = (
        "import bili_account_async",
        "from bili_account_async import SessionManager, fetch_snapshot",
        "import aiohttp, attrs, cattrs, orjson",
    )

    def once(statement: str) -> float:
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    # As an installed package is.
    compileall.compile_dir(Path(bili_account_async.__file__).parent, quiet=1)
    taken = [[once(statement) for statement in statements] for _ in range(rounds)]
    return list(map(list, zip(*taken, strict=True)))


def session_memory(count: int = 100_000) -> float:
    manager = SessionManager()
    names = [(f"{n:08d}%2Cabcdefghijklmnop", n + 1, f"{n:032x}") for n in range(count)]
    gc.collect()
    tracemalloc.start()
    sessions = [
        manager.session(Credential(sessdata=s, dede_user_id=m, bili_jct=j)) for s, m, j in names
    ]
    size = tracemalloc.get_traced_memory()[0] - sys.getsizeof(sessions)
    tracemalloc.stop()
    return size / len(sessions)


if __name__ == "__main__":
    main()
