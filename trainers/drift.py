"""A world that moves by the week: a policy frozen in the first against one that is trained again and again.

Week ``w`` is the episodes ``[w * n, (w + 1) * n)`` of a lane, for a scenario whose faults move with the episode
(``drift(...)`` in a trigger). Training happens on episodes of these numbers of the train split, evaluation on those of
the eval split, so what a policy learns of a week is its conditions, never its episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import PolicyError
from ..faults import Drift, When
from ..scenarios.loading import fault_plan, load_scenario
from ..scenarios.schema import Scenario
from .api import Task, configure, study_config
from .artefact import save_policy
from .baselines import applicable_baselines
from .evaluation import LANES, EpisodeRecords, play, resolve_policy
from .policy import Policy
from .ppo import PPOConfig
from .statistics import Difference, Estimate, mean, paired_difference, proportion
from .training import train_loop

FROZEN, RETRAINED = "frozen", "retrained"


@dataclass(frozen=True)
class WeekRow:
    """One policy in one week."""

    week: int
    policy: str
    utility: Estimate
    success: Estimate
    cost_usd: Estimate
    latency_s: Estimate


@dataclass(frozen=True)
class DriftStudy:
    """Three policies over the weeks.

    Args:
        scenario: name of the scenario.
        scenario_hash: its digest.
        profile: fault profile.
        weeks: number of weeks.
        episodes_per_week: evaluated in each, and what a week is in episodes.
        baseline: name of the baseline.
        rows: one per week and policy.
        gains: utility of the retrained policy minus the frozen one, per week.
        kept: weeks in which training again brought nothing on past episodes, so that the policy before it stayed.
        notes: what is unusual.
    """

    scenario: str
    scenario_hash: str
    profile: str
    weeks: int
    episodes_per_week: int
    baseline: str
    rows: tuple[WeekRow, ...]
    gains: tuple[Difference, ...]
    kept: tuple[int, ...]
    notes: tuple[str, ...]

    def of(self, policy: str) -> list[WeekRow]:
        """The weeks of one policy."""
        return [row for row in self.rows if row.policy == policy]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def drift_study(
    scenario: str | Path | Scenario | dict[str, Any] = "moving-desk",
    *,
    profile: str = "drift",
    weeks: int = 12,
    episodes_per_week: int = 1000,
    steps: int = 1_000_000,
    retrain_steps: int = 200_000,
    recent: int = 1,
    baseline: str | None = None,
    seed: int = 0,
    config: PPOConfig | None = None,
    curriculum: str | Path | Mapping[str, Any] | None = None,
    imitate: str | Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> DriftStudy:
    """Train on week 0, then compare keeping that policy with training it further on the weeks just past.

    Before week ``w`` the retrained policy sees the conditions of the weeks ``w - recent`` to ``w - 1``. It starts from
    its predecessor, without a teacher, and takes its place only if it is better on training episodes of these weeks.

    Args:
        scenario: built-in name, path, mapping or scenario.
        profile: a fault profile that moves with the episode.
        weeks: how many.
        episodes_per_week: what a week is in episodes, and how many are evaluated in each.
        steps: steps of the first training.
        retrain_steps: steps of each further training.
        recent: past weeks to train on.
        baseline: a rule of thumb to show beside them; default: the best one on week 0's training episodes.
        seed: seed of the trainings.
        config: hyper-parameters; default: :func:`~brownout.trainers.api.study_config`.
        curriculum: of all trainings, as for :func:`~brownout.trainers.api.train`.
        imitate: teacher of the first training.
        out: folder for the policies, ``week-00`` and so on; None keeps nothing.
        progress: called with what is being done.

    Raises:
        ScenarioError, PolicyError: bad input, naming it.
    """
    for name, value, least in (
        ("weeks", weeks, 2), ("episodes_per_week", episodes_per_week, 2), ("recent", recent, 1),
        ("steps", steps, 1), ("retrain_steps", retrain_steps, 1),
    ):  # fmt: skip
        if value < least:
            raise PolicyError(f"{name}: got {value}; allowed: {least} or more")
    loaded = load_scenario(scenario)
    n = episodes_per_week
    chosen_config = config or study_config(loaded, taught=False)
    base = configure(chosen_config, steps=steps, seed=seed, curriculum=curriculum, imitate=imitate)
    again = replace(base, steps=retrain_steps, imitate="")  # its predecessor is all the teacher it needs
    say = progress or (lambda text: None)
    task = Task(loaded, profile)
    arena = Task(loaded, profile, split="eval").core(min(LANES, n))
    say("week 0: training")
    frozen = _train(replace(task, window=(0, n)), base)
    _keep(out, 0, frozen, arena)
    chosen = baseline or _best_baseline(replace(task, window=(0, n)))
    rule = resolve_policy(f"baseline:{chosen}", arena)[1]
    current, kept = frozen, list[int]()
    rows: list[WeekRow] = []
    gains: list[Difference] = []
    for week in range(weeks):
        if week:
            say(f"week {week}: training on the {min(recent, week)} before it")
            past = replace(task, window=(max(0, week - recent) * n, week * n))
            tried = _train(past, replace(again, seed=seed + week), current)
            if past.score(tried) > past.score(current):
                current = tried
            else:
                kept.append(week)
            _keep(out, week, current, arena)
        say(f"week {week}: evaluating")
        played = {
            name: play(actor, arena, n, first=week * n)
            for name, actor in ((FROZEN, frozen), (RETRAINED, current), (f"baseline:{chosen}", rule))
        }
        clusters = played[FROZEN].group if task.clustered else None
        rows += [_row(week, name, records, clusters) for name, records in played.items()]
        gains.append(paired_difference(played[RETRAINED].utility, played[FROZEN].utility, clusters))
    return DriftStudy(
        loaded.name, loaded.hash, profile, weeks, n, chosen, tuple(rows), tuple(gains), tuple(kept),
        _notes(loaded, profile, weeks * n),
    )  # fmt: skip


def _train(task: Task, config: PPOConfig, initial: Policy | None = None) -> Policy:
    result = train_loop(
        lambda lanes: task.make_env(lanes, config.gamma), config, evaluate_fn=task.score, initial=initial
    )
    return result.policy


def _best_baseline(task: Task) -> str:
    core = task.core(1)
    names = list(applicable_baselines(core))
    return max(names, key=lambda name: task.score(resolve_policy(f"baseline:{name}", core)[1]))


def _keep(out: str | Path | None, week: int, policy: Policy, core: Any) -> None:
    if out is not None:
        save_policy(Path(out) / f"week-{week:02d}", policy, core, training={"week": week})


def _row(week: int, name: str, records: EpisodeRecords, clusters: Any) -> WeekRow:
    return WeekRow(
        week=week,
        policy=name,
        utility=mean(records.utility, clusters),
        success=proportion(records.component("accuracy") > 0, clusters),
        cost_usd=mean(records.component("cost_usd"), clusters),
        latency_s=mean(records.component("latency_s"), clusters),
    )


def _notes(scenario: Scenario, profile: str, horizon: int) -> tuple[str, ...]:
    """Say so when nothing moves, or goes on moving after the last week."""
    leaves = [leaf for fault in fault_plan(scenario, profile)[0].faults for leaf in fault.trigger.leaves()]
    ends = [leaf.over for leaf in leaves if isinstance(leaf, Drift)] + scenario.moves_over
    by_state = any(isinstance(leaf, When) and "episode" in leaf.parsed.names() for leaf in leaves)
    if not ends and not by_state:
        return (
            f"nothing moves with the episode: write drift(start, end, over=N) in a trigger of profile {profile}, or "
            "give a mix of tasks or a decision a `drift`",
        )
    if ends and max(ends) > horizon:
        return (f"drift goes on for {max(ends):,} episodes, but these weeks are {horizon:,}",)
    return ()
