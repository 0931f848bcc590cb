"""``episodes.jsonl``: one line per episode of a stress run, appended as it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArtefactError
from ..scenarios.places import Place, explain
from .stress_report import Number

ROWS_FILE: Final = "episodes.jsonl"
CLEAN: Final = "clean"
FAULTED: Final = "faulted"
ONLY: Final = "only:"  # followed by the effect that was played alone
INTENSITY: Final = "intensity:"  # followed by the number
AgentOutcome = Literal["finished", "returned", "crash", "hang", "killed", "limit", "loop"]
AGENT_OUTCOMES: Final[tuple[AgentOutcome, ...]] = (
    "finished", "returned", "limit", "loop", "crash", "hang", "killed",
)  # fmt: skip
Key = tuple[str, int, int, int]


class Injection(BaseModel):
    """One strike of a fault: truth for analysis, never shown to an agent."""

    model_config = ConfigDict(frozen=True, extra="allow")

    effect: str
    family: str


class EpisodeRow(BaseModel):
    """One episode: what became of the world, and how the agent ended.

    Args:
        scenario, scenario_hash, profile, intensity, split, seed, episode: which episode it is.
        condition: ``clean``, ``faulted``, ``only:EFFECT`` or ``intensity:X``.
        repeat: which of the repeats, from 0.
        valid: whether it has a score; an episode that the harness spoilt has none.
        outcome: how the end state stands, by the truth.
        agent_outcome: how the agent ended: ``finished`` (it ended the episode), ``returned`` (it left it open),
            ``limit``, ``loop``, ``crash`` (exception), ``hang`` (no return in time), ``killed`` (its process died).
        error: what went wrong, in one line with the place.
        reported_usd: what the agent said its own model cost, part of ``cost_usd``.
        wall_s: real seconds; the only field that differs between two runs of a deterministic agent.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    scenario: str
    scenario_hash: str
    profile: str
    intensity: float
    split: str
    seed: int
    episode: int
    condition: str
    repeat: int = 0
    valid: bool
    outcome: str
    success: bool = False
    utility: Number = Field(default=float("nan"), validate_default=True)
    components: dict[str, Number] = {}
    cost_usd: Number = Field(default=float("nan"), validate_default=True)
    latency_s: Number = Field(default=float("nan"), validate_default=True)
    calls: int = 0
    wrong_effects: int = 0
    duplicate_effects: int = 0
    handed_over_right: bool = False
    injections: tuple[Injection, ...] = ()
    digest: str = ""
    timeline: tuple[str, ...] = ()
    agent_outcome: AgentOutcome
    error: str | None = None
    reported_usd: float = 0.0
    wall_s: float

    @property
    def key(self) -> Key:
        """What tells it from every other episode of the run: condition, seed, episode and repeat."""
        return self.condition, self.seed, self.episode, self.repeat

    @property
    def struck_by(self) -> tuple[str, ...]:
        """The effects that struck it, each once."""
        return tuple(dict.fromkeys(injection.effect for injection in self.injections))

    def to_line(self) -> str:
        """Its line of the file."""
        return self.model_dump_json() + "\n"


def row_from(data: Any, where: str) -> EpisodeRow:
    """Read one row from plain data.

    Raises:
        ArtefactError: naming ``where``, the field and what is wrong.
    """
    try:
        return EpisodeRow.model_validate(data)
    except ValidationError as error:
        raise ArtefactError(explain(error, Place(where), EpisodeRow)) from error


def read_rows(path: str | Path) -> list[EpisodeRow]:
    """Read the rows of a run in the order in which the episodes ended; a line that a crash cut off is left out.

    Args:
        path: a run folder or its ``episodes.jsonl``.

    Raises:
        ArtefactError: the file is missing, a line is damaged, or an episode stands in it twice.
    """
    path = Path(path)
    if path.is_dir():
        path = path / ROWS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: cannot read the episodes: {error}") from error
    rows: dict[Key, EpisodeRow] = {}
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # a crash cut it off
        try:
            data = json.loads(line)
        except ValueError as error:
            raise ArtefactError(f"{path}:{number}: not readable as JSON (altered): {error}") from None
        row = row_from(data, f"{path}:{number}")
        if row.key in rows:
            raise ArtefactError(f"{path}:{number}: the episode {row.key} stands in the file twice")
        rows[row.key] = row
    return list(rows.values())
