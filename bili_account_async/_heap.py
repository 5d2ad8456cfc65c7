"""A heap whose items can be taken out of the middle, at once and at no cost."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

_SLACK = 64
"""Dead places that a heap keeps before it looks whether they are the most."""


class Place(Generic[T]):
    """An item's place in a heap: `leave` it, and the item is free at once."""

    __slots__ = ("_heap", "item")

    def __init__(self, heap: LazyHeap[T], item: T) -> None:
        self._heap = heap
        self.item: T | None = item  # None once it has left

    def leave(self) -> None:
        """Take the item out of the heap. Does nothing if it has left."""
        if self.item is not None:
            self.item = None
            self._heap.note_dead()


class LazyHeap(Generic[T]):
    """Items by a key, the least first; of equal keys the one that came first.

    A place that was left stays as an empty shell until it comes to the top, or until such shells
    are the most. So an operation costs O(log n), and memory stays within twice what lives.
    """

    __slots__ = ("_dead", "_entries", "_serial")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Place[T]]] = []
        self._serial = 0  # keeps equal keys in order, and items from being compared
        self._dead = 0

    def __len__(self) -> int:
        return len(self._entries) - self._dead

    def push(self, key: float, item: T) -> Place[T]:
        """Put an item in, and return its place."""
        self._serial += 1
        place = Place(self, item)
        heappush(self._entries, (key, self._serial, place))
        return place

    def first_key(self) -> float:
        """Return the least key, infinity for an empty heap."""
        entries = self._entries
        while entries and entries[0][2].item is None:
            heappop(entries)
            self._dead -= 1
        return entries[0][0] if entries else math.inf

    def pop(self) -> T:
        """Take out the item with the least key; raise `IndexError` for an empty heap."""
        self.first_key()
        place = heappop(self._entries)[2]
        item, place.item = place.item, None
        assert item is not None
        return item

    def note_dead(self) -> None:
        """Note a place that was left, and clear such away once they are the most."""
        self._dead += 1
        if self._dead > len(self) + _SLACK:
            self._entries = [entry for entry in self._entries if entry[2].item is not None]
            heapify(self._entries)
            self._dead = 0
