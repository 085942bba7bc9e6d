"""Times that the agent offers, and which of them a caller picks."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.hearing import answers
from gpu_workers.cascade.brain.hearing.times import PARTS_OF_DAY, read_moment

MOST_OFFERED = 3
"""Nobody keeps more times than this in mind on the telephone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """Times for one question, in the order in which they were said."""

    slot: str
    times: list[datetime.datetime]

    @classmethod
    def of(cls, slot: str, alternatives: Sequence[str]) -> Offer | None:
        """Return an offer of the first few times that a tool named, or None where it named none."""
        times = []
        for each in alternatives[:MOST_OFFERED]:
            try:
                times.append(datetime.datetime.fromisoformat(each).replace(tzinfo=None))
            except ValueError:
                continue
        return cls(slot, times) if times else None

    def sentence(self, today: datetime.date) -> str:
        said, day = [], None
        for at in self.times:
            said.append(speaking.say_time(at.time()) if at.date() == day else speaking.say_moment(at, today))
            day = at.date()
        if len(said) == 1:
            return f"I could offer {said[0]}. Would that suit you?"
        return f"I could offer {speaking.join_options(said)}. Which would you like?"

    def pick(self, heard: str, now: datetime.datetime) -> datetime.datetime | None:
        """Return the time that was picked by its place, its hour or its day; None for a new wish or none at all."""
        said = read_moment(heard, now)
        place = answers.read_position(heard, len(self.times))
        chosen = self.times[place] if place is not None else self._fitting(heard, now)
        if chosen is None and len(self.times) == 1 and said.is_empty and answers.read_yes_no(heard):
            chosen = self.times[0]
        # Another day than any that was offered is a new wish.
        return None if chosen and said.date is not None and said.date != chosen.date() else chosen

    def _fitting(self, heard: str, now: datetime.datetime) -> datetime.datetime | None:
        """Return the one time that an hour, a day or a part of the day can only mean."""
        said = read_moment(heard, now)
        if said.is_empty:
            # A bare `nine` is a time when times were offered.
            said = read_moment(f"at {heard}", now)
        if said.is_empty:
            return None
        fitting = [
            each
            for each in self.times
            if (said.date is None or each.date() == said.date)
            and (said.time is None or said.is_vague or _same_clock(each.time(), said.time))
        ]
        if said.is_vague and said.part_of_day in PARTS_OF_DAY:
            fitting = [each for each in fitting if (each.hour < 12) == (said.part_of_day == "morning")]
        return fitting[0] if len(fitting) == 1 else None


def _same_clock(one: datetime.time, other: datetime.time) -> bool:
    """Whether two times read the same on a clock's face: `at seven` picks 07:00 where only that was offered."""
    return (one.hour % 12, one.minute) == (other.hour % 12, other.minute)
