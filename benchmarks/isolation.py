"""A search for mixed-up accounts: `python -m benchmarks.isolation`.

Its options are `[--accounts 1000] [--calls 100000]`. It talks over loopback only.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crowd import Crowd


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.isolation", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    crowd = Crowd(options.accounts)
    started = time.perf_counter()
    asyncio.run(crowd.run(options.calls, at_once=200))
    seconds = time.perf_counter() - started
    figures = ", ".join(f"{count} {name}" for name, count in crowd.outcomes.items())
    calls = f"{options.calls} calls by {options.accounts} accounts"
    print(f"{calls} in {seconds:.0f} s: {figures}")
    print(f"{len(crowd.mixed_up)} mixed up", *crowd.mixed_up[:10], sep="\n  ")
    sys.exit(bool(crowd.mixed_up))


if __name__ == "__main__":
    main()
