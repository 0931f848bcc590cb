"""The card of a policy: what it was trained on, and the check that an environment still fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ArtefactError


@dataclass(frozen=True)
class ColumnCard:
    """One observation column as it was at training time."""

    name: str
    unit: str
    low: float
    high: float

    @classmethod
    def of(cls, column: Any) -> ColumnCard:
        """Copy anything with these four attributes."""
        return cls(str(column.name), str(column.unit), float(column.low), float(column.high))


@dataclass(frozen=True)
class PolicyCard:
    """Everything about a policy that is not a weight."""

    scenario: str
    scenario_hash: str
    profile: str
    columns: tuple[ColumnCard, ...]
    actions: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, env: Any, training: Mapping[str, Any] | None = None) -> PolicyCard:
        """Describe an environment (wrapped or not, scalar or batched)."""
        core: Any = getattr(env, "unwrapped", env)  # a bare core serves as well
        scenario = getattr(core, "scenario", None)
        inner = getattr(core, "core", core)
        profile, intensity = getattr(inner, "profile", ""), getattr(inner, "intensity", 1.0)
        if intensity != 1.0:
            profile = f"{profile} x {intensity:g}"  # another world to train in, so never resumed as the same
        return cls(
            scenario=str(getattr(scenario, "name", "")),
            scenario_hash=str(getattr(scenario, "hash", "")),
            profile=str(profile),
            columns=tuple(ColumnCard.of(column) for column in core.observation_columns),
            actions=tuple(str(name) for name in core.action_names),
            training=dict(training or {}),
        )

    def check(self, env: Any) -> None:
        """Refuse an environment whose columns or actions differ.

        Raises:
            ArtefactError: names the first missing, added, moved or re-scaled column, or action.
        """
        other = PolicyCard.of(env)
        names = [column.name for column in self.columns]
        problems = _differences("observation column", names, [column.name for column in other.columns])
        if not problems:
            problems = [
                f"observation column {old.name!r} is in {new.unit!r}, the policy expects {old.unit!r}"
                for old, new in zip(self.columns, other.columns, strict=True)
                if old.unit != new.unit
            ]
        problems += _differences("action", self.actions, other.actions)
        if problems:
            shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
            raise ArtefactError(
                f"the policy, trained on scenario {self.scenario!r}, does not fit {other.scenario!r}: {shown}"
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON data; infinite ranges become the strings ``inf`` and ``-inf``."""
        data = asdict(self)
        for column in data["columns"]:
            for end in ("low", "high"):
                if column[end] in (float("inf"), float("-inf")):
                    column[end] = str(column[end])
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicyCard:
        """Read :meth:`as_json` back.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or of the wrong type.
        """
        for name in ("columns", "actions"):
            if not isinstance(data[name], list):
                raise TypeError(f"{name} must be a list")
        return cls(
            scenario=str(data["scenario"]),
            scenario_hash=str(data["scenario_hash"]),
            profile=str(data["profile"]),
            columns=tuple(
                ColumnCard(str(c["name"]), str(c["unit"]), float(c["low"]), float(c["high"])) for c in data["columns"]
            ),
            actions=tuple(str(name) for name in data["actions"]),
            training=dict(data["training"]),
        )


def _differences(kind: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Name what is missing, added or moved between two lists of names."""
    missing = [f"{kind} {name!r} is missing" for name in old if name not in new]
    added = [f"{kind} {name!r} is new to the policy" for name in new if name not in old]
    if missing or added:
        return missing + added
    return [
        f"{kind} {name!r} is at place {new.index(name)}, the policy expects place {place}"
        for place, name in enumerate(old)
        if new[place] != name
    ]
