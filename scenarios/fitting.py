"""Fitting the item-response model to counts of successes, with intervals that say how sure it is.

Penalised marginal maximum likelihood: skills of classes shrink to their configuration's mean by an amount that
is itself fitted, skills and standard deviations have weak priors that matter only where the data says nothing.
The mean difficulty over all queries is 0 by convention, as only skill minus difficulty can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.quantiles import normal
from ..envs.streams import episode_keys, stream_id, uniform
from ..errors import TableError
from .likelihood import Counts, Likelihood
from .response_problem import ASSUMED, SDS, Problem

F64 = NDArray[np.float64]

_Z95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A fitted number and its 95 % interval; ``identified`` is False where the table could not determine it."""

    value: float
    low: float
    high: float
    identified: bool = True

    def covers(self, number: float) -> bool:
        """Whether the interval contains ``number``."""
        return self.low <= number <= self.high


@dataclass(frozen=True, eq=False)
class ResponseFit:
    """The fitted model.

    Args:
        counts: what it was fitted to.
        skill: ``(K, C)`` logits.
        difficulty: ``(C,)`` mean difficulty of each class, logits; its mean over queries is 0.
        sds: difficulty, family and configuration standard deviation, logits.
        class_sd: sd of a configuration's skill between classes, logits; 0 with one class.
        log_likelihood: of the counts, up to a constant that depends on the table alone.
        fixed: standard deviations that were not fitted.
        notes: what could not be identified, in sentences.
        ratio: ``(K,)`` what each configuration's own latent has of the common standard deviation; None if they are
            not told apart.
        ceiling: difficulty from which no configuration succeeds, logits; None if there is none.
    """

    counts: Counts
    skill: F64
    difficulty: F64
    sds: tuple[float, float, float]
    class_sd: float
    log_likelihood: float
    fixed: Mapping[str, float]
    notes: tuple[str, ...]
    ratio: F64 | None
    ceiling: float | None
    _problem: Problem = field(repr=False)
    _theta: F64 = field(repr=False)

    @property
    def margin(self) -> F64:
        """``(K, C)`` skill minus mean difficulty."""
        return self.skill - self.difficulty

    @property
    def latent_sd(self) -> F64:
        """``(K,)`` standard deviation of what each configuration keeps on a task, logits."""
        return self.sds[2] * (np.ones(len(self.counts.configs)) if self.ratio is None else self.ratio)

    def score(self, counts: Counts) -> F64:
        """``(Q,)`` log-likelihood of other queries of the same configurations and classes."""
        ceiling = None if self.ceiling is None else self.ceiling - self.difficulty
        return Likelihood(counts).per_query(self.margin, self.sds, self.ratio, ceiling)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % intervals: ``margin.CONFIG.CLASS``, ``difficulty.CLASS`` and the three standard deviations.

        From the observed information (numeric derivative of the gradient). A standard deviation whose Wald
        interval is wide is profiled instead: all else is fitted again along it.
        """
        problem, theta = self._problem, self._theta
        covariance = np.linalg.pinv(problem.hessian(theta), hermitian=True)
        found: dict[str, Interval] = {}
        names = self.counts.configs, self.counts.classes
        for k, config in enumerate(names[0]):
            for c, group in enumerate(names[1]):
                row = problem.margin_row(k, c)
                error = math.sqrt(max(0.0, float(row @ covariance @ row)))
                value = float(self.margin[k, c])
                seen = bool(self.counts.runs[self.counts.query_class == c, k].sum())
                found[f"margin.{config}.{group}"] = Interval(
                    value, value - _Z95 * error, value + _Z95 * error, seen or len(names[1]) == 1
                )
        if len(names[1]) > 1:
            for c, group in enumerate(names[1]):
                row = problem.difficulty_row(c)
                error = math.sqrt(max(0.0, float(row @ covariance @ row)))
                value = float(self.difficulty[c])
                found[f"difficulty.{group}"] = Interval(value, value - _Z95 * error, value + _Z95 * error)
        for j, name in enumerate(SDS):
            value = self.sds[j]
            if name in self.fixed:
                found[name] = Interval(value, math.nan, math.nan, False)
                continue
            at = problem.sd_index(j)
            error = math.sqrt(max(0.0, float(covariance[at, at])))
            wald = (value * math.exp(-_Z95 * error), value * math.exp(_Z95 * error))
            low, high = problem.profile(theta, j, error) if error > 0.15 else wald
            found[name] = Interval(value, low, high)
        if self.ratio is not None:
            for k, config in enumerate(names[0]):
                row = problem.latent_row(k)
                half = _Z95 * math.sqrt(max(0.0, float(row @ covariance @ row)))
                value = float(self.latent_sd[k])
                found[f"latent_sd.{config}"] = Interval(value, value * math.exp(-half), value * math.exp(half))
        if self.ceiling is not None:
            half = _Z95 * math.sqrt(max(0.0, float(covariance[-1, -1])))
            found["ceiling"] = Interval(self.ceiling, self.ceiling - half, self.ceiling + half)
        return found

    def bootstrap(self, draws: int = 50, seed: int = 0) -> dict[str, Interval]:
        """Parametric bootstrap: fit again to tables drawn from the fit; percentile intervals of 95 %.

        Args:
            draws: tables to draw; each costs a fit.
            seed: of the draws.
        """
        rows: dict[str, list[float]] = {}
        for draw in range(draws):
            shape = {"own_latents": self.ratio is not None, "ceiling": self.ceiling is not None}
            drawn = simulate_counts(self, seed, draw)
            again = fit_response_model(drawn, fixed=self.fixed, start=self._theta, **shape)
            for name, value in again.point().items():
                rows.setdefault(name, []).append(value)
        here = self.point()
        ends = {name: np.quantile(values, (0.025, 0.975)) for name, values in rows.items()}
        return {
            name: Interval(here[name], math.nan, math.nan, False)
            if name in self.fixed
            else Interval(here[name], float(low), float(high))
            for name, (low, high) in ends.items()
        }

    def point(self) -> dict[str, float]:
        """The estimates under the names of :attr:`intervals`."""
        classes = self.counts.classes
        found = {
            f"margin.{config}.{group}": float(self.margin[k, c])
            for k, config in enumerate(self.counts.configs)
            for c, group in enumerate(classes)
        }
        if len(classes) > 1:
            found.update({f"difficulty.{group}": float(self.difficulty[c]) for c, group in enumerate(classes)})
        if self.ratio is not None:
            found.update({f"latent_sd.{c}": float(v) for c, v in zip(self.counts.configs, self.latent_sd, strict=True)})
        if self.ceiling is not None:
            found["ceiling"] = self.ceiling
        return {**found, **dict(zip(SDS, self.sds, strict=True))}


def fit_response_model(
    counts: Counts,
    *,
    fixed: Mapping[str, float] | None = None,
    start: F64 | None = None,
    own_latents: bool = False,
    ceiling: bool = False,
) -> ResponseFit:
    """Fit skills, class means and the three standard deviations.

    Args:
        counts: successes and runs per query and configuration.
        fixed: standard deviations not to fit, by name. What the counts cannot identify is fixed and noted.
        start: parameters of another fit of the same shape, to begin from.
        own_latents: whether each configuration has a latent spread of its own, around the common one.
        ceiling: whether tasks from some difficulty on are beyond every configuration.

    Raises:
        TableError: for an unknown or negative fixed standard deviation, or a configuration without runs.
    """
    from scipy.optimize import minimize

    asked = dict(fixed or {})
    for name, value in asked.items():
        if name not in SDS or not (math.isfinite(value) and value >= 0.0):
            raise TableError(f"fixed.{name}: got {value!r}; allowed: a number from 0 for {', '.join(SDS)}")
    empty = np.flatnonzero(counts.runs.sum(axis=0) == 0)
    if empty.size:
        raise TableError(f"configuration {counts.configs[empty[0]]!r} has no run that is right or wrong; leave it out")
    notes, unseen = _unidentified(counts)
    shape = {"own_latents": own_latents, "ceiling": ceiling}
    problem = Problem(counts, {**unseen, **asked}, **shape)
    if start is None or len(start) != problem.size:
        rough = Problem(counts, problem.fixed, 0.4, **shape)
        options = {"maxiter": 200, "ftol": 1e-6}
        start = np.asarray(minimize(rough.objective, rough.initial(), jac=True, method="L-BFGS-B", options=options).x)
    theta = start
    for _ in range(1 if len(counts.classes) == 1 else 8):
        options = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-3}
        result = minimize(problem.objective, theta, jac=True, method="L-BFGS-B", options=options)
        theta = np.asarray(result.x, dtype=np.float64)
        if len(counts.classes) == 1 or not problem.refit_class_sd(theta):
            break
    margin, sds = problem.unpack(theta)
    difficulty, ratio, top = problem.difficulty(theta), problem.ratio(theta), problem.ceiling(theta)
    highest = None if top is None else float(top[0] + difficulty[0])
    class_sd = problem.class_sd if len(counts.classes) > 1 else 0.0
    return ResponseFit(
        counts, margin + difficulty, difficulty, (float(sds[0]), float(sds[1]), float(sds[2])), class_sd,
        problem.likelihood.value(margin, sds, ratio, top), problem.fixed,
        tuple(n for k, n in notes.items() if k not in asked), ratio, highest, problem, theta,
    )  # fmt: skip


def fit_best_model(counts: Counts) -> ResponseFit:
    """Fit, and let the model grow where that is better by a likelihood ratio test at 5 %: a latent spread per
    configuration, then a ceiling of difficulty."""
    from scipy.special import chdtri

    best, shape = fit_response_model(counts), {}
    several = len(counts.configs) > 1
    for name, degrees, there in (
        ("own_latents", len(counts.configs) - 1, several and "configuration_sd" not in best.fixed),
        ("ceiling", 1, several and "difficulty_sd" not in best.fixed),
    ):
        if there:
            grown = np.concatenate([best._theta, Problem.addition(name, len(counts.configs), best)])
            bigger = fit_response_model(counts, start=grown, **{**shape, name: True})
            if 2.0 * (bigger.log_likelihood - best.log_likelihood) > chdtri(degrees, 0.05):
                best, shape[name] = bigger, True
    return best


def simulate_counts(fit: ResponseFit, seed: int = 0, draw: int = 0) -> Counts:
    """Draw the successes of a table of the same shape from the fitted model, as the simulator would."""
    counts = fit.counts
    size = len(counts.query_class)
    keys = episode_keys(np.full(size, seed), np.arange(size), f"calibration.draw.{draw}")
    bell = normal()

    def latent(names: list[str]) -> F64:
        return np.stack([bell.sample(uniform(keys, stream_id(name))) for name in names], axis=1)

    x = fit.margin.T[counts.query_class] - fit.sds[0] * latent(["difficulty"])
    x += fit.sds[1] * latent([f"family.{name}" for name in counts.families])
    x += fit.latent_sd * latent([f"configuration.{name}" for name in counts.configs])
    chance = 1.0 / (1.0 + np.exp(-x))
    if fit.ceiling is not None:
        hard = fit.difficulty[counts.query_class] + fit.sds[0] * latent(["difficulty"])[:, 0]
        chance[hard > fit.ceiling] = 0.0
    wins = np.zeros_like(counts.runs)
    for k, name in enumerate(counts.configs):
        number = np.arange(int(counts.runs[:, k].max(initial=0)))
        u = uniform(keys[:, None], stream_id(f"noise.{name}"), number[None, :])
        wins[:, k] = ((u < chance[:, [k]]) & (number < counts.runs[:, [k]])).sum(axis=1)
    return Counts(counts.configs, counts.families, counts.classes, counts.query_class, counts.runs, wins)


def _unidentified(counts: Counts) -> tuple[dict[str, str], dict[str, float]]:
    """What the shape of the counts cannot tell: a sentence for each, and the value assumed."""
    notes: dict[str, str] = {}
    fixed: dict[str, float] = {}

    def assume(name: str, value: float, why: str) -> None:
        notes[name], fixed[name] = f"{name} = {value:g} is assumed: {why}", value

    several = len(counts.configs) > 1
    repeats = bool((counts.runs > 1).any())
    sizes = [counts.families.count(family) for family in dict.fromkeys(counts.families)]
    if max(sizes) == 1:
        assume(
            "family_sd", 0.0, "every family has one configuration, so what a family shares goes to the configuration"
        )
    elif len(sizes) == 1:
        assume("family_sd", 0.0, "there is one family, so what it shares is difficulty")
    if not several:
        assume("configuration_sd", 0.0, "there is one configuration, so what its repeats share is difficulty")
    elif not repeats:
        why = "no configuration has repeats of a query, so how alike they are cannot be seen"
        assume("configuration_sd", ASSUMED["configuration_sd"], why)
    if not several and not repeats:
        why = "one run of one configuration per query does not tell luck from difficulty"
        assume("difficulty_sd", ASSUMED["difficulty_sd"], why)
    return notes, fixed
