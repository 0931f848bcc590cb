"""What stands on the servers of one episode: every effect of every writing step, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Entry:
    """One effect.

    Args:
        id: its id in the interface.
        step: column of its step.
        values: what it was made with, by column of the field.
        key: idempotency key it was made under, if any.
        owner: number of the customer whose account it is in; 0 for the customer of the episode.
        right: whether it is what it should be.
        stray: whether nobody asked for it.
        created_s: virtual time at which it was made, seconds.
        ready_s: virtual time at which it takes effect, seconds.
    """

    id: str
    step: int
    values: dict[int, Any]
    key: str | None
    owner: int
    right: bool
    stray: bool
    created_s: float
    ready_s: float


class Ledger:
    """The effects that stand, in the order in which they were made."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def of_step(self, step: int) -> list[Entry]:
        """Return the effects of a step."""
        return [entry for entry in self.entries if entry.step == step]

    def own(self, step: int) -> list[Entry]:
        """Return the effects of a step that are about what was asked for."""
        return [entry for entry in self.of_step(step) if not entry.stray]

    def find(self, step: int, id_: str) -> Entry | None:
        """Return an effect by its id."""
        return next((entry for entry in self.of_step(step) if entry.id == id_), None)

    def under(self, step: int, key: str | None) -> Entry | None:
        """Return the effect that was made under an idempotency key."""
        return None if key is None else next((e for e in self.of_step(step) if e.key == key), None)

    def add(self, entry: Entry, replaces: bool) -> Entry:
        """Let an effect stand.

        Args:
            entry: the effect.
            replaces: whether it sets a state anew: the one before it in the same account is gone, its id stays.
        """
        if replaces:
            for before in self.of_step(entry.step):
                if before.owner == entry.owner and before.stray == entry.stray:
                    entry.id = before.id
                    self.entries.remove(before)
        self.entries.append(entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Take an effect back."""
        self.entries.remove(entry)

    def count(self, step: int) -> tuple[int, bool, int]:
        """Return how many effects of a step stand that were asked for, whether one is wrong, and how many were not."""
        own = self.own(step)
        return len(own), any(not entry.right for entry in own), len(self.of_step(step)) - len(own)


def matches(values: Mapping[int, Any], payload: Mapping[int, str]) -> bool:
    """Return whether an effect was made with what somebody smuggled into a record."""
    return any(str(values.get(column, "")).strip() == value for column, value in payload.items())
