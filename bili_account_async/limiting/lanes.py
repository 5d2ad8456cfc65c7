"""The order of those who wait: four lanes, in each a heap of lines by when they are ready. Pure.

A line's place is outdated as soon as it has another; what is outdated is dropped where it is met,
and all of it once it prevails.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from .calls import LANES, Account, Line

_AHEAD_MAX = 1000
"""Lines that `ahead` counts; it is to stay cheap when a hundred thousand wait."""


class Lanes:
    """The lines of one host."""

    __slots__ = ("_alive", "_heaps", "_turns")

    def __init__(self) -> None:
        self._heaps: list[list[tuple[float, int, Line]]] = [[] for _ in LANES]
        self._turns = 0
        self._alive = 0

    def __len__(self) -> int:
        """Return the number of places, outdated ones included."""
        return sum(map(len, self._heaps))

    def place(self, line: Line, at: float) -> None:
        """Give the line its place: at `at`, or when its account may send."""
        if not line.turn:
            self._alive += 1
        self._turns = line.turn = self._turns + 1
        ready_at, heap = line.account.next_at(), self._heaps[line.lane]
        heappush(heap, (at if at > ready_at else ready_at, line.turn, line))
        if len(heap) > 2 * self._alive + 64:
            self._tidy(heap)

    def place_all(self, account: Account, at: float) -> None:
        """Give all lines of an account new places."""
        for line in (account.lines or {}).values():
            self.place(line, at)

    def drop(self, line: Line) -> None:
        """Take the place of a line that is empty."""
        line.turn = 0
        self._alive -= 1
        heap = self._heaps[line.lane]
        if len(heap) > 2 * self._alive + 64:
            self._tidy(heap)

    def first(self, now: float) -> Line | None:
        """Return the first ready line of the first lane that has one."""
        for heap in self._heaps:
            while heap:
                ready_at, turn, line = heap[0]
                if turn != line.turn:
                    heappop(heap)
                elif line.account.next_at() > ready_at:  # since then it was throttled, or it sent
                    heappop(heap)
                    self.place(line, now)
                elif ready_at <= now:
                    return line
                else:
                    break
        return None

    def next_at(self) -> float:
        """Return when the next line is ready, or before; only while there is one."""
        return min([heap[0][0] for heap in self._heaps if heap])

    def ahead(self, lane: int, until: float) -> int:
        """Return how many lines up to a lane are ready by `until`; a thousand stand for more."""
        found = 0
        for heap in self._heaps[: lane + 1]:
            look = [0]
            while look and found < _AHEAD_MAX:
                place = look.pop()
                if place < len(heap) and heap[place][0] <= until:
                    found += heap[place][1] == heap[place][2].turn
                    look += (2 * place + 1, 2 * place + 2)
        return found

    def _tidy(self, heap: list[tuple[float, int, Line]]) -> None:
        heap[:] = [entry for entry in heap if entry[1] == entry[2].turn]
        heapify(heap)
