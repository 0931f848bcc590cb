"""What an episode of tools came to, as plain data both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import EpisodeError


@dataclass(frozen=True)
class EpisodeResult:
    """What an episode came to.

    Args:
        scenario: name of the workflow.
        scenario_hash: digest of the scenario.
        profile: fault profile.
        intensity: what scaled its faults.
        split: ``train`` or ``eval``.
        seed: seed of the episode.
        episode: its index.
        outcome: ``success``, ``partial``, ``silent_garbage``, ``duplicate_effect``, ``escalated``, ``aborted``,
            ``limit`` or ``harness_error``.
        success: whether everything that is needed stands once, right, and nothing else.
        utility: sum of the scenario's reward.
        components: sum of each component of the reward.
        cost_usd: USD spent.
        latency_s: virtual seconds.
        calls: requests.
        wrong_effects: wrong or unwanted effects that stand.
        duplicate_effects: effects that stand too often.
        handed_over_right: whether a person took over and got it right.
        injections: what faults did: effect, id, family, time_s, call, service, before (the server had not done the
            work). The truth, never shown to an agent.
        digest: SHA-256 of version, scenario, seed, episode and every request and response.
        timeline: readable lines, with what faults did.
    """

    scenario: str
    scenario_hash: str
    profile: str
    intensity: float
    split: str
    seed: int
    episode: int
    outcome: str
    success: bool
    utility: float
    components: dict[str, float]
    cost_usd: float
    latency_s: float
    calls: int
    wrong_effects: int
    duplicate_effects: int
    handed_over_right: bool
    injections: tuple[dict[str, Any], ...]
    digest: str
    timeline: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        data = asdict(self)
        return data | {"injections": list(data["injections"]), "timeline": list(self.timeline)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the result that :meth:`to_dict` gave; other entries are left out.

        Raises:
            EpisodeError: if something is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in data]
        if missing:
            raise EpisodeError(f"result of an episode: {missing[0]} is missing")
        values = {name: data[name] for name in names}
        values["injections"] = tuple(dict(item) for item in values["injections"])
        values["timeline"] = tuple(values["timeline"])
        return cls(**values)
