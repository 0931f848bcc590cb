"""The scenario schema: what a YAML file may say, field by field.

A scenario describes production: which tasks arrive, which configurations can answer them, how good the
judge is, what limits hold, how results are valued, and which faults strike in each profile. Unknown keys,
wrong types and impossible values are refused with the field's path.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from ..envs.quantiles import logistic, normal
from ..faults.calls import Status
from .distributions import Distribution


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_flag)]
Probability = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_flag)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_no_flag)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_flag)]
Correlation = Annotated[float, Field(ge=-1, le=1), BeforeValidator(_no_flag)]


def _zero(value: Any) -> bool:
    return value == 0


def _none(value: Any) -> bool:
    return value is None


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]

# on('...') in a trigger matches services and verbs, so a configuration cannot share their names
_RESERVED = ("judge", "person", "launch", "repair", "escalate")


FAILED_STATUSES = tuple(s.word for s in Status if s not in (Status.RUNNING, Status.OK, Status.CANCELLED))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sharing(_Part):
    """What calls on one task have in common in one measure: shares of the variance of its normal scores."""

    task: Probability = Field(0.0, description="share that all calls on one task have in common")
    family: Probability = Field(0.0, description="further share that calls of one family have in common")
    configuration: Probability = Field(0.0, description="further share that repeats of one configuration have")
    difficulty: Correlation = Field(0.0, description="correlation of the task's part with the task's difficulty")

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Sharing:
        if self.task + self.family + self.configuration > 1.0 + 1e-9:
            raise ValueError("task, family and configuration are shares of one variance: their sum must not pass 1")
        return self

    @property
    def own(self) -> float:
        """Share that is left to the single call."""
        return max(0.0, 1.0 - self.task - self.family - self.configuration)


_ALONE = Sharing()  # pyright: ignore[reportCallIssue]


class Effort(_Part):
    """How dear and slow calls on one task are alike: what a failed call tells of the next one.

    The distributions of a configuration stay as they are; a call takes the quantile at which its normal score
    stands, and scores on one task are correlated.
    """

    cost: Sharing = Field(_ALONE, description="of costs")
    latency: Sharing = Field(_ALONE, description="of times, in what the cost of the call leaves open")
    together: Correlation = Field(0.0, description="correlation of a call's time with its cost")
    failure: Sharing = Field(_ALONE, description="of which wrong answers are visible failures (`wrong.fails`)")
    classes: dict[str, tuple[Number, Number]] | None = Field(
        None, description="shift of cost and latency of each class of task, in standard deviations"
    )


class Wrong(_Part):
    """What a wrong answer costs and takes, against a right one of the same kind."""

    cost_factor: Positive = Field(1.0, description="factor on the cost")
    latency_factor: Positive = Field(1.0, description="factor on the time")
    fails: dict[str, Probability] = Field(
        default_factory=dict, description="visible status -> share of the wrong answers that end so"
    )

    @field_validator("fails")
    @classmethod
    def _are_failures(cls, fails: dict[str, float]) -> dict[str, float]:
        for status in fails:
            if status not in FAILED_STATUSES:
                raise ValueError(f"{status!r} is no visible failure; allowed: {', '.join(FAILED_STATUSES)}")
        if sum(fails.values()) > 1.0 + 1e-9:
            raise ValueError(f"the shares must not sum to more than 1, got {sum(fails.values()):g}")
        return fails


class MovingMix(_Part):
    """A mix of classes that is another one in later episodes.

    Shares go in a straight line from those of `classes` at episode 0 to these at episode ``over``, and stay there.
    """

    to: dict[Name, NonNegative] = Field(min_length=1, description="share of each class at the end")
    over: Annotated[int, Field(ge=1), BeforeValidator(_no_flag)] = Field(description="episodes until then")


class MovingShare(_Part):
    """A share that is another one in later episodes, in a straight line as in :class:`MovingMix`."""

    to: Probability = Field(description="share at the end")
    over: Annotated[int, Field(ge=1), BeforeValidator(_no_flag)] = Field(description="episodes until then")


class ModelTasks(_Part):
    """Tasks drawn from an item-response model.

    A call of configuration ``k`` on a task of class ``c`` succeeds when
    ``skill[k, c] - difficulty + family latent + configuration latent + noise > 0`` with logistic noise per
    call. The two latents are drawn once per task, so repeats of one configuration are correlated, and so
    are configurations of one family.
    """

    kind: Literal["model"] = "model"
    classes: dict[Name, Positive] = Field(min_length=1, description="share of each class of task")
    difficulty: dict[str, tuple[Number, NonNegative]] = Field(description="mean and sd per class, logits")
    family_sd: NonNegative = Field(0.4, description="sd of the latent shared by a family on one task, logits")
    configuration_sd: NonNegative = Field(
        0.8, description="sd of the latent that a configuration keeps on one task, logits"
    )
    hint_sd: NonNegative | None = Field(
        1.0, description="sd of the noisy difficulty estimate shown before any call; null shows none"
    )
    ceiling: Number | None = Field(
        None, description="difficulty from which every answer is wrong, logits; null is no such task", exclude_if=_none
    )
    effort: Effort | None = Field(
        None,
        description="how alike calls on one task are in cost and time; null draws every call apart",
        exclude_if=_none,
    )
    drift: MovingMix | None = Field(
        None, description="the mix of classes moves with the episode; null leaves it", exclude_if=_none
    )

    @model_validator(mode="after")
    def _same_classes(self) -> ModelTasks:
        if set(self.difficulty) != set(self.classes):
            raise ValueError(f"difficulty: must name the classes {sorted(self.classes)}, got {sorted(self.difficulty)}")
        if self.drift is not None and (set(self.drift.to) != set(self.classes) or not any(self.drift.to.values())):
            raise ValueError(
                f"drift.to: must name the classes {sorted(self.classes)}, one of them above 0, got {self.drift.to}"
            )
        shifts = self.effort.classes if self.effort is not None else None
        if shifts is not None and set(shifts) != set(self.classes):
            raise ValueError(f"effort.classes: must name the classes {sorted(self.classes)}, got {sorted(shifts)}")
        if shifts is not None:
            shift = np.array([shifts[c] for c in self.classes])
            for share in self.mixes:
                spread = share @ (shift - share @ shift) ** 2
                if (spread >= 1.0).any():
                    raise ValueError(
                        f"effort.classes: the variance between classes must be below 1, got {spread.max():g}"
                    )
        return self

    @property
    def mixes(self) -> list[NDArray[np.float64]]:
        """Shares of the classes, which sum to 1: those of episode 0, and those at the end if the mix moves."""
        mixes = [self.classes] if self.drift is None else [self.classes, self.drift.to]
        shares = [np.array([mix[c] for c in self.classes]) for mix in mixes]
        return [share / share.sum() for share in shares]


class TableTasks(_Part):
    """Tasks replayed from a table of recorded runs (see ``docs/own-table.md``)."""

    kind: Literal["table"] = "table"
    table: str = Field(description="Parquet or CSV file; a relative path starts at the scenario file")
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="share of queries held out by hash")
    salt: str = Field("", description="changes which queries are held out")
    features: Literal["auto"] | list[str] = Field("auto", description="columns known before any call")
    missing: dict[Literal["cost_usd", "latency_s"], float | str] = Field(
        default_factory=dict, description="rule that fills a missing cost or latency"
    )
    failure_status: dict[str, str] = Field(default_factory=dict, description="failure_mode -> visible status")


class Configuration(_Part):
    """One way to answer a task: a model with its prompt, retriever, effort."""

    family: Name = Field("default", description="provider; families share outages and part of their luck")
    skill: Number | dict[str, Number] = Field(0.0, description="logits, one number or one per class")
    cost_usd: Distribution | None = Field(None, description="USD per call")
    latency_s: Distribution | None = Field(None, description="seconds per call")
    max_calls: Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_flag)] = Field(
        4, description="calls of it in one episode at most"
    )
    latent_sd: NonNegative | None = Field(
        None,
        description="sd of what it keeps on one task, logits; null takes tasks.configuration_sd",
        exclude_if=_none,
    )
    wrong: Wrong | None = Field(
        None, description="what sets wrong answers apart, see below; null is nothing", exclude_if=_none
    )


class Judge(_Part):
    """What scores a candidate; a test suite is a judge with rates 1 and 0."""

    true_positive: Probability = 0.95
    false_positive: Probability = 0.08
    cost_usd: Distribution = Field(default=0.003, validate_default=True)
    latency_s: Distribution = Field(default=1.2, validate_default=True)
    # fields at these defaults are left out of the scenario's digest, which they do not change
    correlation: Probability = Field(
        default=0.0,
        description="correlation of its errors on wrong answers of one configuration to one task",
        exclude_if=_zero,
    )
    mistakes: Name | None = Field(
        default=None, description="judges with the same word here fall for the same answers", exclude_if=_none
    )
    score_sd: Positive | None = Field(
        default=None,
        description="error of a score, sd; needed if the scenario has `quality`, only then",
        exclude_if=_none,
    )


class Repair(_Part):
    """Critique and repair of the best candidate by the configuration that made it."""

    fix: Probability = Field(0.35, description="chance to mend a wrong candidate beyond a fresh call's odds")
    harm: Probability = Field(0.03, description="chance to break a right candidate")
    cost_factor: Positive = 0.7
    latency_factor: Positive = 0.8


class Quality(_Part):
    """Answers have a quality in [0, 1] instead of being right or wrong.

    A fresh answer has the quality ``1 / (1 + exp(-margin / scale))``, with the margin of the item-response model
    (its noise included); a recorded success between 0 and 1 is a quality as it stands. A round of ``repair`` turns
    quality ``q`` into ``q + gain (1 - q) f``, where ``f`` is the quality of a fresh answer of the same
    configuration, or, with probability ``repair.harm``, into ``q (1 - loss u)`` with a uniform ``u``.
    """

    scale: Positive = Field(default=1.5, description="logits of margin that take the odds of quality up by e")
    gain: Probability = Field(
        default=0.6, description="share of what is missing that a perfect critique would add in a round"
    )
    loss: Probability = Field(default=0.5, description="share of the quality that a harmful round takes at most")
    accept_at: Probability = Field(
        default=0.7, description="quality that counts as a success, and score that is an accept"
    )
    floor: Probability = Field(
        default=0.0, description="an answer below it is a wrong one to the reward (`wrong_answer`)"
    )


class Person(_Part):
    """Who takes over on ``escalate``."""

    accuracy: Probability = 0.97
    cost_usd: Distribution = Field(default=5.0, validate_default=True)
    latency_s: Distribution = Field(default=600.0, validate_default=True)


class Limits(_Part):
    """Ceilings of one episode."""

    budget_usd: Positive = 1.0
    deadline_s: Positive = 120.0
    max_steps: Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_no_flag)] = 32
    max_calls: Annotated[int, Field(ge=1, le=512), BeforeValidator(_no_flag)] | None = Field(
        None, description="calls in one episode; default: the sum over configurations, 16 at most"
    )
    max_parallel: Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_flag)] = 4
    on_budget: Literal["end", "mask", "soft"] = Field(
        "end",
        description="end: spending stops at the ceiling and ends the episode; mask: also hides calls whose "
        "expected cost does not fit; soft: no ceiling",
    )
    on_deadline: Literal["end", "soft"] = Field("end", description="soft: late seconds are charged by the reward")
    cancel_share: Probability = Field(
        0.0, description="share of a call's cost that is due once it has started; the rest accrues with time"
    )
    backoff_s: Positive = Field(2.0, description="length of a wait when nothing is running and no retry time is known")


class Scenario(_Part):
    """What every scenario has; :class:`RouterScenario` adds its environment's own parts."""

    ports: ClassVar[frozenset[str]] = frozenset()
    quantities: ClassVar[tuple[str, ...]] = ()

    version: Literal[1]
    name: Name
    description: str = ""
    env: str
    limits: Limits = Field(default_factory=Limits)  # pyright: ignore[reportArgumentType]
    reward: dict[str, Any] = Field(default_factory=dict, description="`kind` and parameters of a reward plug-in")
    preferences: dict[str, float | tuple[float, float]] = Field(
        default_factory=dict, description="per_usd, per_s, budget_usd, deadline_s: fixed or [low, high] per episode"
    )
    shaping: dict[str, Any] | None = Field(None, description="potential-based shaping used in training")
    profiles: dict[Name, list[dict[str, Any]]] = Field(
        min_length=1, description="fault plan per profile; one of them may be called production, one hostile"
    )

    _path: Path | None = PrivateAttr(None)

    @field_validator("profiles")
    @classmethod
    def _has_clean(cls, profiles: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        if profiles.get("clean"):
            raise ValueError("clean: this profile has no faults by definition; give them to another profile")
        return {"clean": [], **profiles}

    @property
    def path(self) -> Path | None:
        """File that the scenario was read from, if any."""
        return self._path

    @property
    def moves_over(self) -> list[int]:
        """Over how many episodes each mix or share of the scenario itself moves; empty if none does."""
        return []

    @property
    def hash(self) -> str:
        """Digest of everything the file says, 16 hexadecimal digits; equal text order does not matter."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class RouterScenario(Scenario):
    """A scenario of the router environment."""

    ports: ClassVar[frozenset[str]] = frozenset({"calls", "portfolio"})
    # what when(...) in a trigger may read
    quantities: ClassVar[tuple[str, ...]] = (
        "clock_s", "spend_usd", "step", "running", "launched", "failed", "episode",
    )  # fmt: skip

    env: Literal["router"] = "router"  # pyright: ignore[reportIncompatibleVariableOverride]
    tasks: Annotated[ModelTasks | TableTasks, Field(discriminator="kind")]
    portfolio: dict[Name, Configuration] = Field(min_length=1)
    judge: Judge | None = Judge()
    judges: dict[Name, Judge] | None = Field(
        None, min_length=1, description="several judges, by name, in place of `judge`", exclude_if=_none
    )
    repair: Repair | None = None
    quality: Quality | None = Field(
        None, description="quality in [0, 1] in place of right and wrong; left out: none", exclude_if=_none
    )
    person: Person | None = Person()

    @field_validator("tasks", mode="before")
    @classmethod
    def _infer_kind(cls, tasks: Any) -> Any:
        if isinstance(tasks, dict) and "kind" not in tasks:
            return {"kind": "table" if "table" in tasks else "model", **tasks}
        return tasks

    @field_validator("portfolio", "judges", mode="before")
    @classmethod
    def _empty_entries(cls, entries: Any) -> Any:
        if isinstance(entries, dict):
            return {name: {} if entry is None else entry for name, entry in entries.items()}
        return entries

    @model_validator(mode="before")
    @classmethod
    def _one_judge_or_several(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("judges") is not None and "judge" not in data:
            return {**data, "judge": None}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> RouterScenario:
        self._check_judges()
        self._check_quality()
        for name, entry in self.portfolio.items():
            if name in _RESERVED:
                raise ValueError(f"portfolio.{name}: this name is reserved; not allowed: {', '.join(_RESERVED)}")
            if entry.family in ("judge", "person"):
                raise ValueError(f"portfolio.{name}.family: {entry.family!r} is reserved; not allowed: judge, person")
            if isinstance(self.tasks, TableTasks):
                for field in ("cost_usd", "latency_s"):
                    if getattr(entry, field) is not None:
                        raise ValueError(f"portfolio.{name}.{field}: comes from the table; leave it out")
                if entry.skill != 0.0:
                    raise ValueError(f"portfolio.{name}.skill: success comes from the table; leave it out")
                for field in ("wrong", "latent_sd"):
                    if getattr(entry, field) is not None:
                        raise ValueError(f"portfolio.{name}.{field}: outcomes come from the table; leave it out")
                continue
            for field in ("cost_usd", "latency_s"):
                if getattr(entry, field) is None:
                    raise ValueError(f"portfolio.{name}.{field}: required field is missing (tasks come from a model)")
            if isinstance(entry.skill, dict) and set(entry.skill) != set(self.tasks.classes):
                raise ValueError(
                    f"portfolio.{name}.skill: must name the classes {sorted(self.tasks.classes)}, "
                    f"got {sorted(entry.skill)}"
                )
        return self

    def _check_quality(self) -> None:
        if self.quality is not None and isinstance(self.tasks, ModelTasks) and self.tasks.ceiling is not None:
            raise ValueError(
                f"tasks.ceiling: got {self.tasks.ceiling} in a scenario with `quality`; allowed: one of the two"
            )

    def _check_judges(self) -> None:
        if self.judge is not None and self.judges is not None:
            raise ValueError(
                "judges: `judge` is given too; allowed: one of them (`judge: null` drops an inherited one)"
            )
        taken = {*_RESERVED, *self.portfolio, *(entry.family for entry in self.portfolio.values())}
        for name in self.judges or ():
            if name in taken:
                raise ValueError(f"judges.{name}: this name is taken; not allowed: {', '.join(sorted(taken))}")
        for name, judge in self.panel.items():
            where = "judge" if self.judges is None else f"judges.{name}"
            if (judge.score_sd is None) != (self.quality is None):
                needed = "left out, as the scenario has no `quality`" if self.quality is None else "a number above 0"
                raise ValueError(f"{where}.score_sd: got {judge.score_sd}; allowed: {needed}")

    @property
    def moves_over(self) -> list[int]:
        """Over how many episodes the mix of classes moves, if it does."""
        drift = self.tasks.drift if isinstance(self.tasks, ModelTasks) else None
        return [] if drift is None else [drift.over]

    @property
    def panel(self) -> dict[str, Judge]:
        """The judges by name: one called ``judge``, several with names of their own, or none."""
        return {"judge": self.judge} if self.judge is not None else dict(self.judges or {})

    @property
    def max_calls(self) -> int:
        """Calls that one episode can record."""
        return self.limits.max_calls or min(16, sum(entry.max_calls for entry in self.portfolio.values()))


def success_rates(margin: ArrayLike, sd: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Mean success of calls whose margin is normal: skill minus difficulty, plus latents.

    It inverts the very tables that the environment samples, so without spread it is exact for the simulation.

    Args:
        margin: mean of skill minus difficulty, logits.
        sd: standard deviation of difficulty and latents together, logits; broadcasts with ``margin``.
    """
    noise, spread = logistic().values, normal().values[::8]
    margins = np.asarray(margin, dtype=np.float64)[..., None] + np.asarray(sd, dtype=np.float64)[..., None] * spread
    chance = 1.0 - np.interp(-margins, noise, np.linspace(0.0, 1.0, noise.size))
    return np.asarray(np.trapezoid(chance, dx=1.0 / (spread.size - 1), axis=-1))


def rates_below(margin: ArrayLike, sd: float, rest: ArrayLike, ceiling: float) -> NDArray[np.float64]:
    """Mean success where tasks harder than a ceiling are lost.

    Args:
        margin: ``(K,)`` skill minus mean difficulty, logits.
        sd: standard deviation of difficulty.
        rest: ``(K,)`` standard deviation of all other latents together.
        ceiling: above the mean difficulty.
    """
    z = normal().values[4::8]
    inside = sd * z <= ceiling
    margins = np.asarray(margin, dtype=np.float64)[:, None] - sd * z[inside]
    chance = success_rates(margins, np.asarray(rest, dtype=np.float64)[:, None])
    return np.asarray(chance.sum(axis=1) / z.size)


def success_probability(margin: float) -> float:
    """Probability that a call succeeds at ``margin`` = skill minus difficulty, logits, latents at zero."""
    return float(success_rates(margin))
