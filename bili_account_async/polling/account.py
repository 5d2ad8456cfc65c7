"""One account of a Poller: its doings, and the reasons to leave it out. No logic of polls."""

from __future__ import annotations

import asyncio
from enum import Enum

from .._heap import Place
from ..credential import Credential
from ..snapshot import Fetched
from .events import AccountState, PollEvent
from .memory import Known
from .outbox import Offer
from .schedule import JITTER, Plan, Timetable


class Stage(Enum):
    """The progress of an account's poll, whatever its state."""

    IDLE = 0
    FETCHING = 1
    TELLING = 2


class Account:
    """An account that is polled; each reason to leave it out has an attribute of its own."""

    __slots__ = (
        "again",
        "alive",
        "credential",
        "doubted",
        "due",
        "fetched",
        "known",
        "name",
        "offer",
        "parked",
        "paused",
        "place",
        "plan",
        "polls",
        "removed",
        "stage",
        "task",
        "timetable",
        "turn",
    )

    def __init__(
        self, name: str, credential: Credential, plan: Plan, timetable: Timetable, now: float
    ) -> None:
        self.name = name
        self.credential = credential
        self.plan = plan
        self.timetable = timetable
        self.due = now  # when its next poll is, jitter included
        self.turn = now  # when its last poll began, or it was added
        self.place: Place[Account] | None = None  # in line, while it is idle and not left out
        self.stage = Stage.IDLE
        self.task: asyncio.Task[None] | None = None  # the poll under way
        self.fetched: Fetched | None = None  # what it has asked for, while it fetches
        self.offer: Offer[PollEvent] | None = None  # the event that waits to be taken
        self.paused = False  # by the program
        self.parked: AccountState | None = None  # EXPIRED or PARKED, by the server
        self.removed = False
        self.alive = False  # this login has answered
        self.doubted = False  # and was then said to be dead, once
        self.again = False  # once the poll under way ends, poll again at once
        self.polls = 0
        self.known = Known()

    @property
    def left_out(self) -> bool:
        """True if it is not to be polled."""
        return self.paused or self.parked is not None or self.removed

    @property
    def state(self) -> AccountState:
        """The state as the program sees it; a pause covers the reason to be parked."""
        if self.paused:
            return AccountState.PAUSED
        if self.parked is not None:
            return self.parked
        return AccountState.WAITING if self.stage is Stage.IDLE else AccountState.POLLING

    def leave_line(self) -> None:
        """Give its place up, if it has one."""
        if self.place is not None:
            self.place.leave()
            self.place = None

    def call_back(self) -> None:
        """End the poll under way, if it fetches, before it sends anything more."""
        if self.task is not None and self.stage is Stage.FETCHING:
            if self.fetched is not None:
                self.fetched.cancel()  # else its tasks had one more turn
            self.task.cancel()

    def plan_next(self, chance: float) -> None:
        """Set when its next poll is."""
        self.due = self.timetable.due_at() + JITTER * self.timetable.shortest * chance
