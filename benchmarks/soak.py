"""A long run against a server that breaks a fifth of its replies: `python -m benchmarks.soak
--seconds 600`.

A hundred accounts call everything through one manager, over loopback, and some calls are cancelled.
The server is a process of its own, so that the memory measured is the client's. Each good reply
holds its account's number in every record that has a place for it. In the end: no wrong record, no
unexpected exception, and sockets, tasks and memory as flat as at the start.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fault_table import ROWS
from faults import Received, Script, reply, serve

import bili_account_async as bili
from bili_account_async import (
    BiliError,
    Credential,
    Hosts,
    Limits,
    RateLimited,
    Retry,
    SessionManager,
    fetch_snapshot,
)

ACCOUNTS = 100
JUDGED_FROM = 240.0
"""Seconds that a run must have for its memory to be judged, by its second half: the allocator knows
all sizes then.
"""
SLOPE_MAX = 100.0
"""KB a minute that the resident size may grow after that."""
SAMPLES = Path(__file__).parents[1] / "tests" / "samples"

# Where each reply holds its account's number.
MARKED: dict[str, tuple[str, ...]] = {
    "get_account_info": ("data", "mid"),
    "get_daily_rewards": ("data", "coins"),
    "get_coin_exp": ("number",),
    "get_vip_info": ("data", "mid"),
    "get_security_info": ("data", "account_safe", "score_new"),
    "get_coin_log": ("data", "count"),
}
MARK_OF: dict[str, Callable[[Any], int]] = {
    "get_account_info": lambda record: record.mid,
    "get_daily_rewards": lambda record: record.coins,
    "get_coin_exp": lambda record: record,
    "get_vip_info": lambda record: record.mid,
    "get_security_info": lambda record: record.account_safe.score_new,
    "get_coin_log": lambda record: record.count,
}
ENDPOINT_AT = {
    endpoint.path: name for name, endpoint in bili.ENDPOINTS.items() if name != "clear_sign"
}

# A pause that the server asks for is a wait and no fault to recover from: only those of no length
# are in the run.
FAULTS = [row for row in ROWS if row.outcome is not RateLimited or row.told.get("retry_after") == 0]


# --- the server, in a process of its own ----------------------------------------------------------


def good_body(name: str, mid: int) -> bytes:
    body = json.loads((SAMPLES / f"{name}.json").read_bytes())
    at = body
    if name in MARKED:
        *steps, last = MARKED[name]
        for step in steps:
            at = at[step]
        at[last] = mid
    return json.dumps(body, ensure_ascii=False).encode()


async def serve_for_ever(share: float) -> None:
    random = Random(1)
    bodies = {
        (name, mid): good_body(name, mid)
        for name in ENDPOINT_AT.values()
        for mid in range(1, ACCOUNTS + 1)
    }

    def script(request: Received) -> Script:
        server.requests.clear()
        good = bodies[ENDPOINT_AT[request.path], int(request.cookies["DedeUserID"])]
        return random.choice(FAULTS).script(good) if random.random() < share else [reply(good)]

    async with serve(script) as server:
        print(server.port, flush=True)
        # Until the parent closes it.
        await asyncio.to_thread(sys.stdin.read)


# --- the client -----------------------------------------------------------------------------------


class Soak:
    def __init__(self) -> None:
        self.random = Random(2)
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.unexpected: list[str] = []
        self.samples: list[tuple[float, float, int, int]] = []

    def check(self, name: str, record: Any, mid: int) -> None:
        if name in MARK_OF and record is not None and MARK_OF[name](record) != mid:
            self.wrong.append(f"{name} of {mid}: {record!r}")

    async def one_call(self, session: bili.AccountSession, mid: int) -> None:
        match self.random.randrange(10):
            case 0:
                snapshot = await fetch_snapshot(session)
                for section in bili.ALL_SECTIONS:
                    self.check(f"get_{section}", getattr(snapshot, section), mid)
                self.outcomes.update(
                    f"section {type(error).__name__}" for error in snapshot.failures.values()
                )
            case 1:
                await bili.update_sign(session, "sign")
            case _:
                name = self.random.choice(
                    [*MARK_OF, "get_realname_status", "get_realname_application"]
                )
                self.check(name, await getattr(bili, name)(session), mid)

    async def account(self, session: bili.AccountSession, mid: int, until: float) -> None:
        while time.monotonic() < until:
            call = asyncio.create_task(self.one_call(session, mid))
            if self.random.random() < 0.1:
                await asyncio.sleep(self.random.random() * 0.05)
                call.cancel()
            try:
                await call
                self.outcomes["ok"] += 1
            except asyncio.CancelledError:
                self.outcomes["cancelled"] += 1
            except BiliError as error:
                self.outcomes[type(error).__name__] += 1
            except Exception as error:
                self.unexpected.append(repr(error))
            await asyncio.sleep(self.random.random() * 0.2)

    def sample(self, started: float) -> None:
        give_back()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sockets = sum(os.path.islink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        resident = pages * os.sysconf("SC_PAGESIZE") / 1024
        self.samples.append(
            (time.monotonic() - started, resident, sockets, len(asyncio.all_tasks()))
        )

    async def watch(self, seconds: float) -> None:
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            await asyncio.sleep(1)
            self.sample(started)
            if int(passed) % 30 == 29:
                at, resident, sockets, tasks = self.samples[-1]
                done = self.outcomes.total()
                print(
                    f"{at:5.0f} s: {done} outcomes, {resident / 1024:.1f} MB, {sockets} "
                    f"descriptors, {tasks} tasks"
                )

    async def run(self, port: int, seconds: float) -> None:
        base = f"http://127.0.0.1:{port}"
        hosts = Hosts(api=base, www=base, passport=base)
        retry = Retry(attempts=3, attempt_timeout=0.5, backoff=0.02)
        limits = Limits(host=None, account=None, concurrency=64)
        before = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        async with SessionManager(hosts=hosts, limits=limits, retry=retry, timeout=1.5) as manager:
            watch = asyncio.create_task(self.watch(seconds))
            until = time.monotonic() + seconds
            mids = range(1, ACCOUNTS + 1)
            sessions = {
                mid: manager.session(
                    Credential(sessdata=f"account-{mid}", dede_user_id=mid, bili_jct="jct")
                )
                for mid in mids
            }
            await asyncio.gather(watch, *(self.account(sessions[mid], mid, until) for mid in mids))
            idle = all(
                state.in_flight == state.waiting == 0 for state in manager.limits_state().values()
            )
        await asyncio.sleep(0)
        self.ended = (len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))) == before and idle


async def soak(seconds: float, share: float) -> bool:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.soak", "--serve", "--share", str(share)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    run = Soak()
    try:
        await run.run(int(await server.stdout.readline()), seconds)
    finally:
        server.stdin.close()
        await server.wait()
    return report(run, seconds)


def report(run: Soak, seconds: float) -> bool:
    gc.collect()
    long_enough = seconds >= JUDGED_FROM
    judged = [sample for sample in run.samples if sample[0] >= seconds / 2]
    # The lowest of each quarter of a minute: what is held when no large body is under way.
    lows = [
        min((resident, at) for at, resident, *_ in judged[i : i + 15])
        for i in range(0, len(judged), 15)
    ]
    slope = median_slope([(at, low) for low, at in lows]) * 60
    print(", ".join(f"{count} {name}" for name, count in run.outcomes.most_common()))
    print("second half:")
    for name, column in (("descriptors", 2), ("tasks", 3)):
        values = [sample[column] for sample in judged]
        print(f"{name}: {min(values)} to {max(values)}, {values[0]} first, {values[-1]} last")
    first, last = lows[0][0] / 1024, lows[-1][0] / 1024
    figures = f"{first:.1f} MB first, {last:.1f} MB last, {slope:+.0f} KB/min"
    unjudged = "" if long_enough else f", not judged in less than {JUDGED_FROM:.0f} s"
    print(f"lows of the resident size: {figures}{unjudged}")
    print(f"{len(run.wrong)} wrong records", *run.wrong[:5], sep="\n  ")
    print(f"{len(run.unexpected)} unexpected exceptions", *run.unexpected[:5], sep="\n  ")
    print("afterwards nothing was left" if run.ended else "afterwards something WAS LEFT")
    flat = slope < SLOPE_MAX or not long_enough
    return flat and run.ended and not run.wrong and not run.unexpected


def give_back() -> None:
    """Make glibc give free memory back, so that the resident size tells what is held and not how it
    is fragmented.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def median_slope(points: list[tuple[float, float]]) -> float:
    """The median over all pairs: a leak shows in it, one step of the allocator does not."""
    return median(
        (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.soak", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--share", type=float, default=0.2, help="of the replies that are broken")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_for_ever(options.share))
    else:
        sys.exit(not asyncio.run(soak(options.seconds, options.share)))


if __name__ == "__main__":
    main()
