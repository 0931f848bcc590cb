"""What the control address takes: the bodies of its requests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .serve_store import EpisodeRequest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewEpisode(_Strict):
    """What to open. With ``count`` above 1, episodes with the seeds ``seed``, ``seed + 1`` and so on."""

    scenario: str = EpisodeRequest.scenario
    seed: int = Field(default=EpisodeRequest.seed, ge=0, le=2**62)
    profile: str = EpisodeRequest.profile
    intensity: float = Field(default=EpisodeRequest.intensity, ge=0, le=100, allow_inf_nan=False)
    split: Literal["train", "eval"] = "eval"
    episode: int = Field(default=EpisodeRequest.episode, ge=0, le=2**31)
    max_calls: int = Field(default=EpisodeRequest.max_calls, ge=1, le=100_000)
    count: int = Field(default=1, ge=1)

    def requests(self) -> list[EpisodeRequest]:
        """One request per episode."""
        values = self.model_dump(exclude={"count"})
        return [EpisodeRequest(**{**values, "seed": self.seed + n}) for n in range(self.count)]


class Closing(_Strict):
    """How to close an episode: by default the truth decides the outcome."""

    outcome: Literal["limit", "aborted", "harness_error"] | None = None


class Usage(_Strict):
    """What the agent's own model cost, to be counted into the episode."""

    cost_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    latency_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
