"""How good must the judge be? Policies trained and rules compared at one error rate of it after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.router_core import RouterCore
from ..errors import PolicyError, ScenarioError
from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario, Scenario
from . import statistics
from .api import SELECTION_SEED, train
from .artefact import save_policy
from .baselines import Desk, One, make_baseline
from .evaluation import LANES, EpisodeRecords, evaluate, play
from .ppo import PPOConfig
from .statistics import Difference, Estimate

RULES = ("cheapest-first", "strongest-first")
SINGLE = "best-single"
TRAINED = "trained"
# starting cheap and starting strong are two hills with a valley between them; the usual bonus settles too soon
EXPLORING = PPOConfig(entropy=0.05)
OPENINGS = ("cheap", "strong", "parallel", "none")
_PARTS = 128  # a break-even rate is found to the nearest of so many parts of [0, 1]


@dataclass(frozen=True)
class RateRow:
    """One policy at one pair of error rates; ``against`` is that policy minus the best single configuration."""

    policy: str
    utility: Estimate
    success: Estimate
    cost_usd: Estimate
    against: Difference | None


@dataclass(frozen=True)
class RatePoint:
    """What happens at one pair of error rates.

    Args:
        false_positive: probability that a wrong answer passes.
        true_positive: probability that a right answer passes.
        rows: the trained policy, the rules, the best single configuration without a judge.
        opening: share of the trained policy's episodes that begin with one call to a configuration cheaper than the
            best single one (``cheap``), one at least as dear (``strong``), several at once (``parallel``), or none.
        first: share of its episodes that begin with each action.
        starts_cheap: share that begin with a call to a cheaper configuration, alone or with others.
    """

    false_positive: float
    true_positive: float
    rows: tuple[RateRow, ...]
    opening: dict[str, float]
    first: dict[str, float]
    starts_cheap: float

    def row(self, policy: str) -> RateRow:
        """The row of one policy."""
        return next(row for row in self.rows if row.policy == policy)


@dataclass(frozen=True)
class BreakEven:
    """False-positive rate at which one thing overtakes another.

    ``low`` and ``high`` enclose it: where a rate was bisected, the rates at which the paired 95 % interval of the
    difference still or first touches zero; where it was read from trained policies, the two rates of the sweep
    between which it lies. ``rate`` is None where it does not happen.
    """

    what: str
    how: str
    true_positive: float
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class JudgeSweep:
    """Result of a sweep.

    Args:
        scenario: name of the scenario.
        judge: name of the judge whose rates were swept.
        profile: fault profile.
        single: the best single configuration, chosen on training episodes.
        steps: steps of a training.
        seeds: trainings per pair of rates, of which the best was kept.
        episodes: evaluation episodes, the same at every pair of rates.
        points: by false- and true-positive rate.
        break_even: where starting cheap stops paying.
    """

    scenario: str
    judge: str
    profile: str
    single: str
    steps: int
    seeds: int
    episodes: int
    points: tuple[RatePoint, ...]
    break_even: tuple[BreakEven, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; undefined numbers become None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not np.isfinite(value) else value

        return plain(asdict(self))


@dataclass(frozen=True)
class _Job:
    """One training of a sweep; plain data, so that a Ray worker can do it."""

    scenario: RouterScenario
    judge: str
    single: int
    false_positive: float
    true_positive: float
    config: PPOConfig
    profile: str
    intensity: float
    episodes: int
    seed: int
    seeds: int
    out: Path | None


def judge_sweep(
    scenario: str | Path | Mapping[str, Any] | Scenario,
    false_positive: Sequence[float] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
    true_positive: Sequence[float] | None = None,
    *,
    judge: str | None = None,
    steps: int = 1_000_000,
    episodes: int = 4000,
    seed: int = 0,
    seeds: int = 2,
    profile: str = "production",
    intensity: float = 1.0,
    config: PPOConfig | None = None,
    workers: int = 1,
    address: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[RatePoint], None] | None = None,
) -> JudgeSweep:
    """Train a policy at each pair of error rates and compare it with what needs no training.

    Beside it on the same episodes: the cascades from the cheap and from the strong end, and the best single
    configuration without a judge (always called, retried on visible failures).

    Args:
        scenario: built-in name, path, mapping or scenario.
        false_positive: probabilities that a wrong answer passes.
        true_positive: probabilities that a right answer passes; default: the scenario's.
        judge: whose rates, if the scenario has several judges.
        steps: steps of a training.
        episodes: evaluation episodes.
        seed: seed of the first training and of the evaluation.
        seeds: trainings per pair of rates, of which the best on held-out training episodes is kept.
        profile: fault profile.
        intensity: fault intensity.
        config: hyper-parameters, :data:`EXPLORING` by default; ``steps`` and ``seed`` replace theirs.
        workers: trainings side by side, as Ray tasks, if more than one.
        address: Ray cluster; default: a local one.
        out: folder that keeps the policies, one folder for each pair of rates.
        progress: called with each point; with Ray, at the end.

    Raises:
        ScenarioError: the scenario has no judge of that name, or one that grades instead of accepting.
        PolicyError: a rate is no number from 0 to 1, or there is none.
    """
    loaded = load_scenario(scenario)
    name = _judge_of(loaded, judge)
    assert isinstance(loaded, RouterScenario)
    rates = _rates("false_positive", false_positive)
    trues = _rates("true_positive", true_positive) if true_positive else (loaded.panel[name].true_positive,)
    config = replace(config or EXPLORING, steps=steps, seed=seed)
    single = best_single(loaded, profile, intensity)
    folder = None if out is None else Path(out)
    if seeds < 1:
        raise PolicyError(f"seeds: got {seeds!r}; allowed: 1 or more")
    jobs = [
        _Job(loaded, name, single, f, t, config, profile, intensity, episodes, seed, seeds, folder)
        for t in trues
        for f in rates
    ]
    told = progress or (lambda point: None)
    if workers > 1:
        from .ray_session import ray_session

        with ray_session(address, workers) as ray:
            task = ray.remote(num_cpus=1)(_run)
            points = ray.get([task.remote(job) for job in jobs], timeout=24 * 3600)
        for point in points:
            told(point)
    else:
        points = []
        for job in jobs:
            points.append(_run(job))
            told(points[-1])
    found = [even for t in trues for even in _break_evens([p for p in points if p.true_positive == t], jobs[0], t)]
    return JudgeSweep(
        loaded.name, name, profile, list(loaded.portfolio)[single], steps, seeds, episodes, tuple(points), tuple(found)
    )


def best_single(scenario: RouterScenario, profile: str, intensity: float = 1.0, episodes: int = 4096) -> int:
    """Index of the configuration with the highest utility when it is always called and never judged.

    Chosen on training episodes, so that its evaluation is not flattered by the choice.
    """
    core = RouterCore(scenario, LANES, profile=profile, intensity=intensity, split="train")
    desk = Desk(core)
    utilities = [
        float(play(One(desk, core, k), core, episodes, SELECTION_SEED).utility.mean()) for k in range(core.num_configs)
    ]
    return int(np.argmax(utilities))


def opening_shares(
    records: EpisodeRecords, core: RouterCore, single: int
) -> tuple[dict[str, float], dict[str, float], float]:
    """How episodes begin: by kind, by first action, and the share that starts cheap; see :class:`RatePoint`."""
    first, second = records.opening[:, 0], records.opening[:, 1]
    k = core.num_configs
    launched = (first >= 0) & (first < k)
    together = launched & (second >= 0) & (second < k)
    cheap = launched & (core.source.expected_cost < core.source.expected_cost[single])[np.minimum(first, k - 1)]
    kinds = (cheap & ~together, launched & ~cheap & ~together, together, ~launched)
    counts = np.bincount(first[first >= 0], minlength=len(core.action_names)) / len(first)
    by_action = {name: float(share) for name, share in zip(core.action_names, counts, strict=True) if share > 0.0}
    by_kind = {kind: float(rows.mean()) for kind, rows in zip(OPENINGS, kinds, strict=True)}
    return by_kind, by_action, float(cheap.mean())


# ---------------------------------------------------------------- one pair of rates


def with_rates(scenario: RouterScenario, judge: str, false_positive: float, true_positive: float) -> RouterScenario:
    """The scenario with other error rates of one judge."""
    where = "judge" if scenario.judges is None else f"judges.{judge}"
    changed = load_scenario(
        scenario, [f"{where}.false_positive={false_positive!r}", f"{where}.true_positive={true_positive!r}"]
    )
    assert isinstance(changed, RouterScenario)
    return changed


def _run(job: _Job) -> RatePoint:
    scenario = with_rates(job.scenario, job.judge, job.false_positive, job.true_positive)
    given: dict[str, Any] = {"profile": job.profile, "intensity": job.intensity}
    results = [train(scenario, config=replace(job.config, seed=job.seed + i), **given) for i in range(job.seeds)]
    policy = max(results, key=lambda result: -math.inf if result.best_score is None else result.best_score).policy
    if job.out is not None:
        save_policy(job.out / f"fp-{job.false_positive:g}-tp-{job.true_positive:g}", policy)
    core = RouterCore(scenario, 1, **given)
    actors = {
        TRAINED: policy,
        **{name: f"baseline:{name}" for name in RULES},
        SINGLE: One(Desk(core), core, job.single),
    }
    table = evaluate(actors, scenario, episodes=job.episodes, seed=job.seed, **given)
    single, records = table.row(SINGLE).records, table.row(TRAINED).records
    assert single is not None
    assert records is not None
    clusters = records.group if table.clusters is not None else None
    rows = []
    for row in table.rows:
        assert row.records is not None
        against = None
        if row.name != SINGLE:
            against = statistics.paired_difference(row.records.utility, single.utility, clusters)
        rows.append(RateRow(row.name, row.utility, row.success, row.cost_usd, against))
    return RatePoint(job.false_positive, job.true_positive, tuple(rows), *opening_shares(records, core, job.single))


# ---------------------------------------------------------------- break-even


class _Rules:
    """Utilities of the rules at any false-positive rate, on the same episodes; played once per rate."""

    def __init__(self, job: _Job, true_positive: float) -> None:
        self._job, self._true_positive = job, true_positive
        self._known: dict[tuple[str, int], EpisodeRecords] = {}

    def records(self, rule: str, part: int) -> EpisodeRecords:
        """Episodes of ``rule`` at the rate ``part / 128``; the single configuration has one rate for all."""
        job, part = self._job, 0 if rule == SINGLE else part
        if (rule, part) not in self._known:
            scenario = with_rates(job.scenario, job.judge, part / _PARTS, self._true_positive)
            core = RouterCore(
                scenario, min(LANES, job.episodes), profile=job.profile, intensity=job.intensity, split="eval"
            )
            actor = One(Desk(core), core, job.single) if rule == SINGLE else make_baseline(rule, core)
            self._known[rule, part] = play(actor, core, job.episodes, job.seed)
        return self._known[rule, part]

    def difference(self, rule: str, other: str, part: int) -> Difference:
        """``rule`` minus ``other``, paired."""
        one, two = self.records(rule, part), self.records(other, part)
        clusters = one.group if self._job.scenario.tasks.kind == "table" else None
        return statistics.paired_difference(one.utility, two.utility, clusters)


def _bisect(value: Callable[[int], float]) -> float | None:
    """Rate at which a falling function of ``part`` passes zero; None if it does not."""
    low, high = 0, _PARTS
    if value(low) < 0.0 or value(high) >= 0.0:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(middle) >= 0.0 else (low, middle)
    above, below = value(low), value(high)
    return (low + above / (above - below)) / _PARTS


def _break_evens(points: list[RatePoint], job: _Job, true_positive: float) -> list[BreakEven]:
    rules, found = _Rules(job, true_positive), []
    told = "bisection on the same episodes; interval: where the paired 95 % interval touches zero"
    for what, one, other in (
        ("cheapest-first falls below the best single configuration", "cheapest-first", SINGLE),
        ("strongest-first overtakes cheapest-first", "cheapest-first", "strongest-first"),
    ):
        differences = partial(rules.difference, one, other)
        ends = [_bisect(lambda part, end=end, d=differences: getattr(d(part), end)) for end in ("value", "low", "high")]
        found.append(BreakEven(what, told, true_positive, *ends))
    points = sorted(points, key=lambda point: point.false_positive)
    rate = low = high = None
    for one, two in pairwise(points):
        before, after = one.starts_cheap, two.starts_cheap
        if before >= 0.5 > after:
            low, high = one.false_positive, two.false_positive
            rate = low + (high - low) * (before - 0.5) / (before - after)
            break
    told = "interpolated between the two rates of the sweep that enclose it"
    found.append(BreakEven("the trained policy starts cheap in under half of its episodes", told, true_positive,
                           rate, low, high))  # fmt: skip
    return found


# ---------------------------------------------------------------- checks


def _judge_of(scenario: Scenario, judge: str | None) -> str:
    panel = scenario.panel if isinstance(scenario, RouterScenario) else {}
    assert isinstance(scenario, RouterScenario)
    if scenario.quality is not None:
        raise ScenarioError(f"{scenario.name}: its judges grade (`quality`), so they have no false-positive rate")
    if not panel:
        raise ScenarioError(f"{scenario.name}: it has no judge, so there is no rate to sweep")
    if judge is None:
        if len(panel) > 1:
            raise ScenarioError(f"{scenario.name}: it has several judges; say which: {', '.join(panel)}")
        return next(iter(panel))
    if judge not in panel:
        raise ScenarioError(f"{scenario.name}: no judge {judge!r}; allowed: {', '.join(panel)}")
    return judge


def _rates(name: str, values: Sequence[float]) -> tuple[float, ...]:
    rates = tuple(float(value) for value in values)
    bad = [rate for rate in rates if not 0.0 <= rate <= 1.0]
    if bad or not rates:
        raise PolicyError(f"{name}: got {bad[0] if bad else 'nothing'}; allowed: numbers from 0 to 1")
    return rates
