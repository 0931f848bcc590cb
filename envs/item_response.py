"""What tasks of the item-response model, with a judge that may err, pose to a policy, and where that can be solved.

The states that a policy can come to are in :mod:`brownout.envs.item_response_states`, the optimum is in
:mod:`brownout.envs.item_response_optimum`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError
from ..rewards import WeightedSum
from ..scenarios.schema import Judge, ModelTasks, Person
from .router_core import RouterCore

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ItemResponse:
    """What a policy can gain on tasks of the item-response model, in utility.

    Args:
        share: ``(C,)`` chance of each class.
        mean: ``(C,)`` mean difficulty, logits.
        sd: ``(C,)`` its standard deviation.
        skill: ``(K, C)`` skill, logits.
        family: ``(K,)`` number of each configuration's family.
        family_sd: standard deviation of the family latent.
        configuration_sd: ``(K,)`` standard deviation of each configuration's latent.
        hint_sd: noise of the hint; None for no hint.
        calls: ``(K,)`` calls of each configuration at most.
        max_calls: calls in all at most.
        price: ``(K,)`` expected price of a call.
        judge: expected price of a verdict; None for no judge.
        true_positive: chance that a right answer is accepted.
        false_positive: chance that a wrong answer is accepted.
        right: value of submitting a right answer.
        wrong: value of submitting a wrong answer.
        handoff: expected value of handing over; minus infinity without a person.
        strength: ``(K,)`` success rates by which the environment ranks answers with the same verdict.
    """

    share: F64
    mean: F64
    sd: F64
    skill: F64
    family: I64
    family_sd: float
    configuration_sd: F64
    hint_sd: float | None
    calls: I64
    max_calls: int
    price: F64
    judge: float | None
    true_positive: float
    false_positive: float
    right: float
    wrong: float
    handoff: float
    strength: F64

    @property
    def sure(self) -> bool:
        """Whether an accepted answer is certainly right, so that nothing follows it but its submission."""
        return self.false_positive == 0.0

    @property
    def symbols(self) -> list[int]:
        """Number of verdict histories of each configuration: rejections, or pairs with acceptances."""
        return [int(n) + 1 if self.sure else int((n + 1) * (n + 2) // 2) for n in self.calls]

    def without_judge(self) -> ItemResponse:
        """The same tasks without a judge: nothing is ever learned, so one answer is all that can be of use."""
        return replace(
            self, judge=None, true_positive=1.0, false_positive=0.0, calls=np.minimum(self.calls, 1), max_calls=1
        )


def limits_bind(core: RouterCore, calls: int) -> str | None:
    """Return which limit could end an episode of ``calls`` judged calls early, or None when none can.

    The dearest and slowest draws are taken together, so the answer holds for every episode.
    """
    spec, limits = core.spec, core.spec.limits
    given = {column.name: column.low for column in core.preference_source.columns}
    if core.max_steps < 3 * calls + 1:
        return f"limits.max_steps: {core.max_steps} is below 3 steps per call and one to end, {3 * calls + 1}"
    entries = spec.portfolio.values()
    for field, soft, most in (
        ("cost_usd", not core.ends_on_budget, given["budget_usd"]),
        ("latency_s", not core.ends_on_deadline, given["deadline_s"]),
    ):
        highs = [getattr(entry, field).table().high for entry in entries for _ in range(entry.max_calls)]
        worst = sum(sorted(highs, reverse=True)[:calls])
        if spec.judge is not None:
            worst += calls * getattr(spec.judge, field).table().high
        name = "budget_usd" if field == "cost_usd" else "deadline_s"
        if not soft and worst >= most:
            return f"limits.{name}: {most:g} can be reached, up to {worst:.6g} may be used"
    if limits.on_deadline == "soft" and getattr(core.reward_function, "late_per_s", 0.0) > 0.0:
        return "reward.late_per_s: late seconds are charged"
    return None


def refusal(core: RouterCore, reason: str) -> PolicyError:
    """The error that says why there is no exact optimum."""
    return PolicyError(f"{core.scenario.name}, profile {core.profile}: no exact optimum: {reason}")


def _obstacle(core: RouterCore) -> str | None:
    """What else is in a scenario with modelled tasks that makes the dynamic programme inexact, if anything."""
    spec = core.spec
    assert isinstance(spec.tasks, ModelTasks)
    if core.plan is not None:
        return "faults can strike; take the profile clean or intensity 0"
    if spec.repair is not None:
        return "repair: answers can be repaired"
    if spec.quality is not None:
        return "quality: answers are not just right or wrong"
    if spec.judges is not None:
        return "judges: there are several"
    if spec.judge is not None and spec.judge.correlation > 0.0 and spec.judge.false_positive > 0.0:
        return "judge.correlation: verdicts on like answers are alike"
    if spec.tasks.ceiling is not None:
        return "tasks.ceiling: some tasks are beyond every configuration"
    if spec.tasks.drift is not None:
        return "tasks.drift: the mix of classes moves with the episode"
    if spec.tasks.effort is not None:
        return "tasks.effort: what a call costs tells of the next one"
    for name, entry in spec.portfolio.items():
        if entry.wrong is not None:
            return f"portfolio.{name}.wrong: what a call costs tells whether it is right"
    for name in core.preference_source.sampled:
        return f"preferences.{name} is drawn per episode"
    per_s = next(column.low for column in core.preference_source.columns if column.name == "per_s")
    instant = spec.judge is None or spec.judge.latency_s.table().high == 0.0
    if per_s > 0.0 and not (spec.limits.max_parallel == 1 and instant):
        return "reward.per_s: time has a price, so calls side by side may beat any sequence"
    return None


def item_response_of(core: RouterCore) -> ItemResponse:
    """The problem that a core's scenario and profile pose.

    Raises:
        PolicyError: with the reason, where dynamic programming would not be exact.
    """
    spec, reward = core.spec, core.reward_function
    tasks, judge, person = spec.tasks, spec.judge, spec.person
    if not isinstance(tasks, ModelTasks):
        raise refusal(core, "tasks come from a table")
    if not isinstance(reward, WeightedSum):
        raise refusal(core, "reward.kind is not weighted-sum")
    entries = list(spec.portfolio.values())
    calls = np.array([entry.max_calls for entry in entries], dtype=np.int64)
    most = min(core.max_calls, int(calls.sum()))
    reason = _obstacle(core) or limits_bind(core, most)
    if reason is not None:
        raise refusal(core, reason)
    given = {column.name: column.low for column in core.preference_source.columns}
    per_usd, per_s = given["per_usd"], given["per_s"]

    def price(service: Judge | Person) -> float:
        return per_usd * service.cost_usd.table().mean + per_s * service.latency_s.table().mean

    problem = ItemResponse(
        share=tasks.mixes[0],
        mean=np.array([tasks.difficulty[c][0] for c in tasks.classes]),
        sd=np.array([tasks.difficulty[c][1] for c in tasks.classes]),
        skill=np.array(
            [[e.skill[c] if isinstance(e.skill, dict) else e.skill for c in tasks.classes] for e in entries]
        ),
        family=core.family_of,
        family_sd=tasks.family_sd,
        configuration_sd=np.array([tasks.configuration_sd if e.latent_sd is None else e.latent_sd for e in entries]),
        hint_sd=tasks.hint_sd,
        calls=np.minimum(calls, most),
        max_calls=most,
        price=per_usd * core.source.expected_cost + per_s * core.source.expected_latency,
        judge=None if judge is None else price(judge),
        true_positive=0.0 if judge is None else judge.true_positive,
        false_positive=0.0 if judge is None else judge.false_positive,
        right=reward.accuracy,
        wrong=reward.wrong_answer,
        handoff=-np.inf if person is None else reward.handoff * person.accuracy - price(person),
        strength=core.strength,
    )
    if problem.true_positive == problem.false_positive:
        problem = problem.without_judge()  # verdicts are noise
    errs = problem.judge is not None and not (problem.sure and problem.true_positive == 1.0)
    if errs and len(set(problem.strength.tolist())) < len(calls):
        reason = "two configurations have the same strength, so the order of calls decides which answer is best"
        raise refusal(core, reason)
    return problem
