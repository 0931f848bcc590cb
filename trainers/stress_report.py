"""``stress.json``: what a stress run came to, as it is written, read and refused.

Every figure carries its interval, its number of values, its unit and which direction is better, so that a reader
needs no table of metrics. The counts are checked when the file is read: a summary that does not add up is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from ..errors import ArtefactError
from ..scenarios.places import Place, explain
from .artefact import read_json, write_text
from .statistics import Difference, Estimate

FORMAT: Final = "brownout.stress/1"
REPORT_FILE: Final = "stress.json"
Better = Literal["higher", "lower"]

Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, return_type=float | None),
]
"""A number that is ``null`` in JSON and NaN in Python where it is not defined."""


class Part(BaseModel):
    """Base of the parts of a report: they do not change, and know no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Part):
    """A metric with its two-sided 95 % interval.

    Args:
        value: point estimate; NaN where the data does not define it.
        low: lower end of the interval, NaN where undefined.
        high: upper end of the interval, NaN where undefined.
        n: values it is made of.
        unit: ``share``, ``utility``, ``USD``, ``s``, ``calls`` or ``effects``.
        better: which direction is better.
    """

    value: Number
    low: Number
    high: Number
    n: int = Field(ge=0)
    unit: str
    better: Better

    @classmethod
    def of(cls, found: Estimate | Difference, unit: str, better: Better) -> Self:
        """Give an estimate or a paired difference its unit and direction."""
        return cls(value=found.value, low=found.low, high=found.high, n=found.n, unit=unit, better=better)


class EffectRow(Part):
    """What one fault effect did to the agent.

    ``recovery`` and the losses are over the episodes of the faulted condition that the effect struck, where other
    effects may have struck too; ``alone`` comes from playing the same episodes under this effect only.

    Args:
        effect: name of the effect.
        family: its family.
        struck: valid faulted episodes, repeats counted, that it struck.
        recovery: share of these that succeed all the same.
        loss: utility lost in these: clean minus faulted on the same seeds, so a positive number is a loss.
        success_loss: the same for the share of successes.
        alone: utility lost over all episodes under this effect alone; only with ``--isolate``.
        outcomes: how the struck episodes ended.
    """

    effect: str
    family: str
    struck: int = Field(ge=0)
    recovery: Figure
    loss: Figure
    success_loss: Figure
    alone: Figure | None = None
    outcomes: dict[str, int]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.outcomes.values()) != self.struck:
            raise ValueError(f"outcomes: {sum(self.outcomes.values())} episodes; struck says {self.struck}")
        return self


class CurvePoint(Part):
    """One intensity of the curve, on the same episodes as every other."""

    intensity: float = Field(ge=0)
    success: Figure
    utility: Figure
    cost_usd: Figure


class WorstEpisode(Part):
    """One of the worst episodes: what happened, and the command that plays it again."""

    seed: int
    episode: int = Field(ge=0)
    repeat: int = Field(ge=0)
    condition: str
    outcome: str
    agent_outcome: str
    utility: Number
    timeline: tuple[str, ...]
    replay: str


class StressReport(Part):
    """The summary of a stress run.

    Args:
        format: :data:`FORMAT`.
        version: of the package.
        agent: as it was named on the command line.
        scenario: name of the scenario.
        scenario_hash: its digest.
        profile: fault profile of the faulted condition.
        intensity: fault intensity of the faulted condition.
        split: ``eval`` or ``train``.
        seed: seed of the episodes; None for a frozen set, whose episodes have their own.
        evalset: content hash of the frozen set that was played; None for episodes of a scenario.
        episodes: episodes per condition.
        repeats: how often each was played.
        conditions_played: ``clean``, ``faulted``, and with ``--isolate`` ``only:EFFECT``, with ``--intensities``
            ``intensity:X``.
        planned: episodes in all, over conditions and repeats.
        valid: of these, played and scored.
        invalid: reason -> number of episodes without a score.
        unplayed: episodes that the run did not come to.
        stopped: why it stopped before its end; None when it is complete.
        conditions: condition -> metric -> figure, for ``clean`` and ``faulted``.
        paired: metric -> faulted minus clean on the same seeds.
        outcomes: condition -> how its valid episodes ended, by the truth of the end state.
        agent_outcomes: condition -> how the agent ended in them: finished, returned, crash, hang, killed, limit, loop.
        effects: one row per effect that struck, the dearest first.
        intensity_curve: one point per intensity.
        worst: the worst episodes, the worst first.
        smallest_detectable: metric -> true difference to clean that this many episodes find with 80 % power.
        limits: ceilings of an episode and of the run.
        notes: what a reader must know.
        wall_s: real seconds of the run, earlier parts of a resumed one included.
    """

    format: Literal["brownout.stress/1"] = FORMAT
    version: str
    agent: str
    scenario: str
    scenario_hash: str
    profile: str
    intensity: float = Field(ge=0)
    split: str
    seed: int | None
    evalset: str | None = None
    episodes: int = Field(ge=0)
    repeats: int = Field(ge=1)
    conditions_played: tuple[str, ...] = ("clean", "faulted")
    planned: int = Field(ge=0)
    valid: int = Field(ge=0)
    invalid: dict[str, int]
    unplayed: int = Field(default=0, ge=0)
    stopped: str | None = None
    conditions: dict[str, dict[str, Figure]]
    paired: dict[str, Figure]
    outcomes: dict[str, dict[str, int]]
    agent_outcomes: dict[str, dict[str, int]]
    effects: tuple[EffectRow, ...] = ()
    intensity_curve: tuple[CurvePoint, ...] = ()
    worst: tuple[WorstEpisode, ...] = ()
    smallest_detectable: dict[str, Number] = {}
    limits: dict[str, float | int | None] = {}
    notes: tuple[str, ...] = ()
    wall_s: float = Field(ge=0)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        invalid = sum(self.invalid.values())
        if self.valid + invalid + self.unplayed != self.planned:
            raise ValueError(
                f"planned: {self.planned} episodes, but {self.valid} valid, {invalid} invalid and "
                f"{self.unplayed} unplayed"
            )
        for name in ("outcomes", "agent_outcomes"):
            counts: dict[str, dict[str, int]] = getattr(self, name)
            total = sum(sum(row.values()) for row in counts.values())
            if total != self.valid:
                raise ValueError(f"{name}: {total} episodes; valid says {self.valid}")
        return self

    @property
    def complete(self) -> bool:
        """Whether every planned episode was played."""
        return not self.unplayed

    @property
    def invalid_share(self) -> float:
        """Share of the played episodes that have no score."""
        lost = sum(self.invalid.values())
        return lost / (self.valid + lost) if lost else 0.0

    def to_json(self) -> str:
        """The file's text; undefined numbers are null."""
        return self.model_dump_json(indent=2) + "\n"


def report_from(data: Any, where: str | Path = REPORT_FILE) -> StressReport:
    """Read a summary from plain data.

    Raises:
        ArtefactError: naming ``where``, the field, the value met and what is allowed.
    """
    place = Place(str(where))
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise ArtefactError(f"{where}: format: got {data.get('format')!r}; allowed: {FORMAT!r}")
    try:
        return StressReport.model_validate(data)
    except ValidationError as error:
        raise ArtefactError(explain(error, place, StressReport)) from error


def read_report(path: str | Path) -> StressReport:
    """Read the summary of a run.

    Args:
        path: a run folder or its ``stress.json``.

    Raises:
        ArtefactError: there is none (the run is not over), it is damaged, or it does not add up.
    """
    path = Path(path)
    if path.is_dir():
        path = path / REPORT_FILE
    return report_from(read_json(path, "; `brownout stress ... --out FOLDER` writes it at its end"), path)


def write_report(folder: str | Path, report: StressReport) -> Path:
    """Write ``stress.json`` into a run folder, under a temporary name first.

    Raises:
        ArtefactError: the folder cannot be written.
    """
    path = Path(folder) / REPORT_FILE
    try:
        write_text(path, report.to_json())
    except OSError as error:
        raise ArtefactError(f"{path}: cannot write the summary: {error}") from error
    return path
