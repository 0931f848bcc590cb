"""A candidate beside the agent in use: both on the same episodes, and what differs.

``brownout shadow`` on the command line. Whether the candidate goes out is for the gate to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import ArtefactError, StressError
from ..scenarios.places import Place, explain
from .artefact import read_json, write_text
from .stress import stress
from .stress_files import read_config
from .stress_metrics import Sample, differences
from .stress_report import Figure, Number, Part, StressReport, read_report
from .stress_rows import CLEAN, FAULTED, EpisodeRow, read_rows
from .stress_summary import replay_command

FORMAT: Final = "brownout.shadow/1"
SHADOW_FILE: Final = "shadow.json"
CANDIDATE: Final = "candidate"
BASELINE: Final = "baseline"
_SAME: Final = ("version", "scenario_hash", "profile", "intensity", "split", "seed", "evalset", "limits")
_LISTED: Final = 10


class Flip(Part):
    """An episode that one of the two got right and the other did not."""

    seed: int
    episode: int
    condition: str
    candidate: str
    baseline: str
    replay: str


class ShadowReport(Part):
    """The candidate beside the baseline.

    Args:
        format: :data:`FORMAT`.
        version: of the package.
        candidate: the agent that may go out.
        baseline: the agent in use.
        scenario: name of the scenario.
        scenario_hash: its digest.
        profile: fault profile of the faulted condition.
        intensity: fault intensity of the faulted condition.
        seed: of the episodes; None for a frozen set.
        evalset: content hash of the frozen set, if one was played.
        complete: whether both runs played all that was planned.
        pairs: condition -> episodes that have a score of both.
        unpaired: condition -> episodes that have a score of only one.
        differences: condition -> metric -> candidate minus baseline.
        smallest_detectable: condition -> metric -> true difference that so many pairs find with 80 % power.
        won: episodes with ``success`` of the candidate only, over conditions and repeats.
        lost: episodes with ``success`` of the baseline only.
        flips: some of the lost ones, with the command that plays them again.
        folders: the two run folders, below the folder of this file or as they were given.
    """

    format: Literal["brownout.shadow/1"] = FORMAT
    version: str
    candidate: str
    baseline: str
    scenario: str
    scenario_hash: str
    profile: str
    intensity: float = Field(ge=0)
    seed: int | None
    evalset: str | None
    complete: bool
    pairs: dict[str, int]
    unpaired: dict[str, int]
    differences: dict[str, dict[str, Figure]]
    smallest_detectable: dict[str, dict[str, Number]]
    won: int = Field(ge=0)
    lost: int = Field(ge=0)
    flips: tuple[Flip, ...] = ()
    folders: dict[str, str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.won + self.lost > sum(self.pairs.values()) or len(self.flips) > self.lost:
            raise ValueError(f"won, lost: {self.won} and {self.lost} of {sum(self.pairs.values())} pairs")
        return self


def shadow(
    candidate: str | Callable[[Any], Any],
    baseline: str | Path | Callable[[Any], Any],
    *,
    out: str | Path = "runs/shadow",
    overwrite: bool = False,
    resume: bool = False,
    **options: Any,
) -> tuple[ShadowReport, StressReport, StressReport]:
    """Run a candidate and the agent in use on the same episodes.

    Args:
        candidate: the agent that may go out.
        baseline: the agent in use, or the folder of a stress run of it.
        out: folder; the runs go below it.
        overwrite: replace what is in it.
        resume: complete what is in it.
        options: of :func:`brownout.trainers.stress.stress`, the same for both.

    Returns:
        the comparison, also written to ``out/shadow.json``; the summaries of candidate and baseline.

    Raises:
        StressError: the baseline's run is not of the same episodes.
        BrownoutError: as :func:`brownout.trainers.stress.stress`.
    """
    out = Path(out)
    again = {
        name: {"overwrite": overwrite, "resume": resume and (out / name / "config.json").is_file()}
        for name in (CANDIDATE, BASELINE)
    }
    recorded = isinstance(baseline, str | Path) and Path(baseline).is_dir()
    folders = {CANDIDATE: out / CANDIDATE, BASELINE: Path(str(baseline)) if recorded else out / BASELINE}
    first = stress(candidate, out=folders[CANDIDATE], **again[CANDIDATE], **options)
    if recorded:
        second = read_report(folders[BASELINE])
    else:
        agent = str(baseline) if isinstance(baseline, Path) else baseline
        second = stress(agent, out=folders[BASELINE], **again[BASELINE], **options)
    report = compare(folders[CANDIDATE], folders[BASELINE])
    try:
        write_text(out / SHADOW_FILE, report.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ArtefactError(f"{out / SHADOW_FILE}: cannot write the comparison: {error}") from error
    return report, first, second


def compare(candidate: Path, baseline: Path) -> ShadowReport:
    """Compare two stress runs episode by episode.

    Raises:
        StressError: they were not played on the same episodes; names what differs.
        ArtefactError: a run is missing or damaged.
    """
    one, other = read_config(candidate), read_config(baseline)
    differing = [f"{name}: {one.get(name)} and {other.get(name)}" for name in _SAME if one.get(name) != other.get(name)]
    if differing:
        raise StressError(f"{candidate} and {baseline} are not runs of the same episodes: {'; '.join(differing)}")
    rows = {folder: read_rows(folder) for folder in (candidate, baseline)}
    reports = [read_report(folder) for folder in (candidate, baseline)]
    repeats = min(one["repeats"], other["repeats"])
    found: dict[str, dict[str, tuple[Figure, float]]] = {}
    pairs: dict[str, int] = {}
    unpaired: dict[str, int] = {}
    won: list[EpisodeRow] = []
    lost: list[tuple[EpisodeRow, EpisodeRow]] = []
    for condition in (CLEAN, FAULTED):
        first, second = (_scored(rows[folder], condition, repeats) for folder in (candidate, baseline))
        both = [key for key in first if key in second]
        pairs[condition], unpaired[condition] = len(both), len(first) + len(second) - 2 * len(both)
        samples = [Sample([scored[key] for key in both]) for scored in (first, second)]
        found[condition] = differences(samples[0], samples[1], repeats)
        won += [first[key] for key in both if first[key].success and not second[key].success]
        lost += [(first[key], second[key]) for key in both if second[key].success and not first[key].success]
    lost.sort(key=lambda pair: (pair[0].utility - pair[1].utility, pair[0].key))
    return ShadowReport(
        version=one["version"], candidate=one["agent"], baseline=other["agent"], scenario=one["scenario"],
        scenario_hash=one["scenario_hash"], profile=one["profile"], intensity=one["intensity"], seed=one["seed"],
        evalset=one["evalset"], complete=all(report.complete for report in reports), pairs=pairs, unpaired=unpaired,
        differences={c: {name: figure for name, (figure, _) in gaps.items()} for c, gaps in found.items()},
        smallest_detectable={c: {name: least for name, (_, least) in gaps.items()} for c, gaps in found.items()},
        won=len(won), lost=len(lost), flips=_flips(candidate, lost),
        folders={CANDIDATE: str(candidate), BASELINE: str(baseline)},
    )  # fmt: skip


def read_shadow(path: str | Path) -> ShadowReport:
    """Read a comparison.

    Args:
        path: its folder or its ``shadow.json``.

    Raises:
        ArtefactError: there is none, it is damaged, or it does not add up.
    """
    path = Path(path)
    if path.is_dir():
        path = path / SHADOW_FILE
    data = read_json(path, "; `brownout shadow ... --out FOLDER` writes it at its end")
    if data.get("format") != FORMAT:
        raise ArtefactError(f"{path}: format: got {data.get('format')!r}; allowed: {FORMAT!r}")
    try:
        return ShadowReport.model_validate(data)
    except ValidationError as error:
        raise ArtefactError(explain(error, Place(str(path)), ShadowReport)) from error


def _scored(rows: Sequence[EpisodeRow], condition: str, repeats: int) -> Mapping[Any, EpisodeRow]:
    return {row.key: row for row in rows if row.condition == condition and row.valid and row.repeat < repeats}


def _flips(folder: Path, lost: Sequence[tuple[EpisodeRow, EpisodeRow]]) -> tuple[Flip, ...]:
    return tuple(
        Flip(
            seed=row.seed, episode=row.episode, condition=row.condition, candidate=row.outcome,
            baseline=other.outcome, replay=replay_command(folder, row),
        )
        for row, other in lost[:_LISTED]
    )  # fmt: skip
