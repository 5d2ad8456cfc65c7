"""The Poller's figures: `python -m benchmarks.polling [--quick]`, some ten minutes, or two.

What takes hours runs on a virtual clock: there the server is a fake pool that answers from memory
after a random while, and all else is real: sessions, limiter, decoding, records. CPU is measured
over loopback, and the last part in real time against a sandbox.
"""

import argparse
import asyncio
import gc
import itertools
import logging
import platform
import statistics
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import orjson

from bili_account_async import (
    THRIFTY,
    AccountSession,
    Credential,
    Hosts,
    Limits,
    Poller,
    RateLimit,
    RequestEvent,
    Session,
    SessionManager,
    SnapshotTaken,
    fetch_snapshot,
    get_account_info,
)
from bili_account_async.polling.poller import WORKERS
from bili_account_async.sandbox import Sandbox
from bili_account_async.snapshot import SECTIONS as ENDPOINT_OF
from bili_account_async.transport import RawReply
from bili_account_async.wire import Decoder, Request
from tests.virtual import VirtualLoop

from .http import WIDE, credential, server
from .server import SAMPLES

EVERY = timedelta(minutes=10)
INTERVAL = EVERY.total_seconds()
WIDE_LIMITS = Limits(host=WIDE, account=WIDE, concurrency=None)
SECTIONS = {endpoint.path: section for section, endpoint in ENDPOINT_OF.items()}
BODIES = {
    endpoint.path: (SAMPLES / f"{endpoint.name}.json").read_bytes()
    for endpoint in ENDPOINT_OF.values()
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.polling", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer hours and rounds: a first look, not a figure to quote",
    )
    quick = parser.parse_args().quick
    logging.getLogger("bili_account_async").setLevel(logging.ERROR)  # the overloads are meant
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    print(f"{'measure':88} {'figure':>9} {'bar':>9}")
    virtual(steady(20_000, 2 if quick else 24))
    virtual(overload(20_000, 8 if quick else 24))
    virtual(capacity(12 if quick else 48))
    for accounts in (1, 20, 200):
        virtual(refused(accounts, 6))
    for accounts, load in ((100, 50), (200, 100), (400, 200)):
        virtual(beside_people(accounts, load, 2 if quick else 12))
    for tracked, bar in ((False, 2048), (True, 5120)):
        virtual(memory(1_000 if quick else 5_000, credential, tracked, bar))
        virtual(memory(1_000 if quick else 5_000, token, tracked, bar))
    asyncio.run(own_cpu(5 if quick else 15))
    asyncio.run(real_time(200, 10 if quick else 60))


def row(measure: str, figure: float, bar: str = "", form: str = ".2f") -> None:
    print(f"{measure:88} {figure:9{form}} {bar:>9}", flush=True)


# --- on a virtual clock ---------------------------------------------------------------------------


class FakePool:
    """In place of `transport.Pool`: answers the sample after 50 to 500 ms, and counts."""

    def __init__(self) -> None:
        self.random = Random(5)
        self.now = asyncio.get_running_loop().time
        self.began = self.now()
        self.refusing: str | None = None  # the path of a host's endpoint that answers 412
        self.headers: dict[str, str] = {}
        self.polls: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.under_way: set[tuple[str, str]] = set()
        self.overlaps = 0

    async def exchange(self, request: Request, _: float) -> RawReply:
        url, headers = request.url, request.headers
        call = (headers.get("Cookie") or url.query_string, url.path)
        self.overlaps += call in self.under_way
        self.under_way.add(call)
        self.polls[call[0]] += 1
        self.paths[url.path] += 1
        await asyncio.sleep(self.random.uniform(0.05, 0.5))
        self.under_way.discard(call)
        if url.path == self.refusing:
            return RawReply(412, self.headers, b"{}")
        return RawReply(200, {}, BODIES[url.path])

    async def close(self) -> None:
        pass


def virtual(run: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run)


@asynccontextmanager
async def fleet(
    credentials: Iterable[Credential], limits: Limits, **options: Any
) -> AsyncIterator[tuple[Poller, FakePool]]:
    """A Poller of these accounts with a consumer that takes everything at once."""

    async def consume() -> None:
        async for _ in poller:
            pass

    async with SessionManager(limits=limits) as manager:
        engine: Any = manager._engine
        await engine.pool.close()
        engine.pool = pool = FakePool()
        async with Poller(manager, **{"every": EVERY} | options) as poller:
            for number, login in enumerate(credentials):
                poller.add(str(number), login)
            consumer = asyncio.create_task(consume())
            yield poller, pool
        await consumer


async def steady(accounts: int, hours: int) -> None:
    began, lags = time.process_time(), []
    async with fleet(map(credential, range(accounts)), WIDE_LIMITS, sections=["coin_exp"]) as (
        poller,
        pool,
    ):
        while len(pool.polls) < accounts:  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(1)
        row(f"first round of {accounts:,} accounts, seconds", pool.now() - pool.began, "", ".0f")
        await asyncio.sleep(1.5 * INTERVAL)
        for _ in range(int(hours * 3600 / INTERVAL * 2) - 3):
            await asyncio.sleep(INTERVAL / 2)
            # Of the last 10,000 polls: all there were in half an interval.
            lags.append(poller.stats().lag_p99)
        polls = poller.stats().polls
    seconds = time.process_time() - began
    what = f"{accounts:,} accounts every 10 min for {hours} h, one section, wide limits"
    row(f"{what}: lag p99, % of the interval", max(lags) / INTERVAL * 100, "<= 1", ".3f")
    least, most = min(pool.polls.values()), max(pool.polls.values())
    row(f"  polls of an account, {least} to {most}; overlaps", pool.overlaps, "0", "d")
    row(
        f"  {polls:,} polls in {seconds:.0f} s of CPU: faster than real time by",
        hours * 3600 / seconds,
        "",
        ".0f",
    )


async def overload(accounts: int, hours: int) -> None:
    limits = Limits(host=RateLimit(rate=accounts / INTERVAL / 2, burst=12))
    async with fleet(map(credential, range(accounts)), limits, sections=["coin_exp"]) as (_, pool):
        await asyncio.sleep(hours * 3600)
    polls = pool.polls.values()
    row(
        f"the same for {hours} h with budget for half: most polls ÷ fewest",
        max(polls) / min(polls),
        "<= 1.05",
        ".3f",
    )
    row(f"  most {max(polls)} - fewest {min(polls)}", max(polls) - min(polls), "<= 1", "d")
    row(
        "  of the budget used, %",
        100 * sum(polls) / (limits.host.rate * hours * 3600),
        ">= 99",
        ".2f",
    )


async def carried(accounts: int, hours: int, every: Any) -> tuple[float, float]:
    """Return the 99 % lag in intervals, and the share of the polls that were due, after a day."""
    async with fleet(map(credential, range(accounts)), Limits(), every=every) as (poller, _):
        await asyncio.sleep(3 * 3600)  # the first round takes 35 minutes
        before = poller.stats().polls
        await asyncio.sleep(hours * 3600)
        stats = poller.stats()
    return stats.lag_p99 / INTERVAL, (stats.polls - before) * INTERVAL / accounts / hours / 3600


async def capacity(hours: int) -> None:
    """Show how many accounts the default budget carries: 200 that are asked for all each time."""
    calls = Counter(endpoint.host for endpoint in ENDPOINT_OF.values())
    each_time = max(calls.values()) / INTERVAL
    rates: Counter[str] = Counter()
    for section, every in THRIFTY.items():
        rates[ENDPOINT_OF[section].host] += 1 / every.total_seconds()
    row("calls of the busiest host, all sections ÷ THRIFTY", each_time / max(rates.values()))
    for accounts, every, name in (
        (200, EVERY, "all sections"),
        (700, THRIFTY, "THRIFTY"),
    ):
        lag, share = await carried(accounts, hours, every)
        what = f"{accounts} accounts on default limits for {hours} h, {name}: lag p99, % of 10 min"
        row(what, 100 * lag, "<= 50", ".1f")
        row("  of the polls that were due, %", 100 * share, ">= 99", ".2f")


async def asked(accounts: int, hours: int, headers: dict[str, str] | None) -> int:
    """Return the requests to www, which answers 412 with these headers, or well with None."""
    async with fleet(map(credential, range(accounts)), Limits()) as (_, pool):
        path = ENDPOINT_OF["coin_exp"].path
        if headers is not None:
            pool.refusing, pool.headers = path, headers
        await asyncio.sleep(hours * 3600)
        return pool.paths[path]


async def refused(accounts: int, hours: int) -> None:
    healthy = await asked(accounts, hours, None)
    for headers in ({}, {"Retry-After": "0"}):
        count = await asked(accounts, hours, headers)
        said = f"412 {headers or ''}".strip()
        what = f"{accounts} accounts, {hours} h of {said}: requests to that host ÷ to a healthy one"
        row(what, count / healthy, "<= 1.0")


async def beside_people(accounts: int, load: int, hours: int) -> None:
    """Measure how long a person waits whose calls share the manager with the fleet."""
    calls, snapshots = [], []
    async with fleet(map(credential, range(accounts)), Limits()) as (poller, pool):
        person = poller._manager.session(credential(10**6))
        await asyncio.sleep(3600)  # past the first round
        for turn in range(hours * 120):
            await asyncio.sleep(30)
            began = pool.now()
            if turn % 10 == 0:
                await fetch_snapshot(person)
                snapshots.append(pool.now() - began)
            else:
                await get_account_info(person)
                calls.append(pool.now() - began)
    what = f"{accounts} accounts, {load} % of the budget: a person's longest call, seconds"
    row(what, max(calls), "<= 2")
    row("  a person's longest snapshot, seconds", max(snapshots), "<= 8")


def token(number: int) -> Credential:
    return Credential(access_key=f"{number:032x}")


async def memory(
    accounts: int, login_of: Callable[[int], Credential], tracked: bool, bar: int
) -> None:
    """Measure the bytes that an account takes after two polls.

    Its name and Credential are the program's, and do not count.
    """
    logins = [login_of(number) for number in range(accounts)]
    names = [f"account-{number}" for number in range(accounts)]
    async with fleet([], WIDE_LIMITS, track_changes=tracked) as (poller, _):
        poller.add("first", login_of(accounts))
        await asyncio.sleep(INTERVAL)  # what all accounts share is there now
        gc.collect()
        tracemalloc.start()
        for name, login in zip(names, logins, strict=True):
            poller.add(name, login)
        await asyncio.sleep(3 * INTERVAL)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert poller.stats().polls > 2 * accounts
    what = "eight sections" if login_of is credential else "an access_key's six"
    what += ", with change tracking in memory" if tracked else ", without change tracking"
    row(f"bytes an account, {what}", size / accounts, f"<= {bar}", ".0f")


# --- CPU ------------------------------------------------------------------------------------------

RECORDS = {
    endpoint.name: Decoder(endpoint).decode(orjson.loads(BODIES[endpoint.path]))[0]
    for endpoint in ENDPOINT_OF.values()
}


class Canned(AccountSession):
    """A session whose calls cost next to nothing."""

    async def call(self, endpoint: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        return RECORDS[endpoint.name]


class CannedManager(SessionManager):
    def session(self, credential: Credential, **options: Any) -> AccountSession:
        return Canned(self, super().session(credential, **options).account)


async def own_cpu(rounds: int, accounts: int = 300) -> None:
    """Measure the CPU time that the Poller adds to its snapshots.

    It is measured where they cost next to nothing, and set against real ones.
    """
    costs: defaultdict[str, list[float]] = defaultdict(list)
    with server() as base:
        hosts = Hosts(api=base, www=base, passport=base)
        async with (
            SessionManager(hosts=hosts, limits=WIDE_LIMITS) as manager,
            CannedManager(limits=WIDE_LIMITS) as canned,
        ):
            for _ in range(rounds):
                costs["snapshot"].append(await plain(manager, accounts))
                costs["poll"].append(await polled(manager, accounts))
                costs["canned snapshot"].append(await plain(canned, 10 * accounts))
                costs["canned poll"].append(await polled(canned, 10 * accounts))
                costs["canned poll, untracked"].append(
                    await polled(canned, 10 * accounts, track_changes=False)
                )
    cost = {name: statistics.median(figures) for name, figures in costs.items()}
    for name in ("canned poll", "canned poll, untracked"):
        own = cost[name] - cost["canned snapshot"]
        what = f"the Poller's CPU ({own * 1e6:.0f} µs a poll{name.removeprefix('canned poll')})"
        row(
            f"{what}, % of a snapshot's ({cost['snapshot'] * 1e6:.0f} µs)",
            100 * own / cost["snapshot"],
            "<= 5",
            ".1f",
        )
    pairs = zip(costs["poll"], costs["snapshot"], strict=True)
    row(
        "  a poll's CPU ÷ a plain snapshot's, both over loopback",
        statistics.median(a / b for a, b in pairs),
        "",
        ".2f",
    )


async def plain(manager: SessionManager, accounts: int) -> float:
    """CPU seconds a snapshot, as many at a time as the Poller has."""
    sessions: list[Session] = [manager.session(credential(number)) for number in range(accounts)]
    numbers = itertools.count()

    async def work() -> None:
        while (number := next(numbers)) < 2 * accounts:
            if number == accounts:
                started.append(time.process_time())
            await fetch_snapshot(sessions[number % accounts])

    started: list[float] = []
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return (time.process_time() - started[0]) / accounts


async def polled(manager: SessionManager, accounts: int, **options: Any) -> float:
    """CPU seconds a poll, when there is always one due; the first polls, which fill the store, do
    not count.
    """
    polls, started = 0, 0.0
    async with Poller(manager, every=timedelta(milliseconds=1), **options) as poller:
        for number in range(accounts):
            poller.add(str(number), credential(number))
        async for event in poller:
            if isinstance(event, SnapshotTaken):
                polls += 1
                if polls == 2 * accounts:
                    started = time.process_time()
                elif polls == 3 * accounts:
                    break
        return (time.process_time() - started) / accounts


# --- real time ------------------------------------------------------------------------------------


async def real_time(accounts: int, seconds: float, rate: float = 100, burst: int = 12) -> None:
    """Accounts that need 1.6 times the budget."""
    calls: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def note(event: RequestEvent) -> None:
        ended = time.perf_counter()
        calls[event.account].append((ended - event.seconds - event.waited, ended))

    limits = Limits(host=RateLimit(rate=rate, burst=burst))
    every = timedelta(seconds=accounts * 8 / rate / 1.6)
    with Sandbox(keep_requests=1_000_000) as sandbox:
        async with (
            SessionManager(hosts=sandbox.hosts, limits=limits, on_request=note) as manager,
            Poller(manager, every=every) as poller,
        ):
            for number, account in enumerate(sandbox.invent_accounts(accounts)):
                poller.add(str(number), account.credential)
            complete = 0
            began = time.perf_counter()
            try:
                async with asyncio.timeout(seconds):
                    async for event in poller:
                        complete += isinstance(event, SnapshotTaken) and event.snapshot.complete
            except TimeoutError:
                pass
            lasted = time.perf_counter() - began
            requests, stats = len(sandbox.requests), poller.stats()
    overlaps = sum(overlapping(spans) for spans in calls.values())
    what = f"{accounts} sandbox accounts in real time, {lasted:.0f} s at {rate:.0f} calls a second"
    row(f"{what}: of the budget used, %", 100 * requests / (burst + rate * lasted), ">= 99", ".2f")
    counts = f"{stats.polls} polls, {stats.failures} failed, {stats.polls - complete} incomplete"
    row(f"  {counts}; overlaps", overlaps, "0", "d")


def overlapping(spans: list[tuple[float, float]]) -> int:
    """Count the polls that asked before the one before them had its last answer.

    A poll is eight calls.
    """
    polls = [spans[at : at + 8] for at in range(0, len(spans), 8)]
    return sum(
        min(began for began, _ in later) < max(ended for _, ended in earlier)
        for earlier, later in itertools.pairwise(polls)
    )


if __name__ == "__main__":
    main()
