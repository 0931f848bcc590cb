"""The penalised likelihood of the item-response model as a function of one vector, for an optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .likelihood import Counts, Likelihood

if TYPE_CHECKING:
    from .fitting import ResponseFit

F64 = NDArray[np.float64]

SDS: Final = ("difficulty_sd", "family_sd", "configuration_sd")
# what is assumed where a table cannot say: the schema's own defaults, and 1 logit of difficulty
ASSUMED: Final[Mapping[str, float]] = {"difficulty_sd": 1.0, "family_sd": 0.4, "configuration_sd": 0.8}
_PRIOR_LOG_SD: Final = 1.2
_PRIOR_SKILL: Final = 4.0
_PRIOR_CLASS: Final = 2.0
_PRIOR_RATIO: Final = 0.4
_CEILING: Final = 5.0
_PRIOR_CEILING: Final = 4.0
_SMALLEST: Final = 0.01
_CHI2_95: Final = 3.841458820694124


class Problem:
    """The penalised objective over one vector: abilities, class means, class skills, logs of the free sds, and
    logs of what each configuration's latent has of the common sd, if they differ."""

    def __init__(
        self,
        counts: Counts,
        fixed: Mapping[str, float],
        fineness: float = 1.0,
        own_latents: bool = False,
        ceiling: bool = False,
    ) -> None:
        self.counts, self.fixed = counts, dict(fixed)
        self.likelihood = Likelihood(counts, fineness)
        self.k, self.c = len(counts.configs), len(counts.classes)
        self.free = [j for j, name in enumerate(SDS) if name not in self.fixed]
        self.class_sd = 0.7
        classes = self.c if self.c > 1 else 0
        own = self.k if own_latents and 2 in self.free else 0
        self._ends = np.cumsum([self.k, classes, self.k * classes, len(self.free), own, int(ceiling)])
        self.size = int(self._ends[-1])
        self._centre = np.log([ASSUMED[SDS[j]] for j in self.free])

    def initial(self) -> F64:
        """Skills from the pooled rates, the assumed standard deviations."""
        wins, runs = self.counts.successes.sum(axis=0), self.counts.runs.sum(axis=0)
        rate = (wins + 0.5) / (runs + 1.0)
        theta = np.zeros(self.size)
        theta[: self.k] = 1.3 * np.log(rate / (1.0 - rate))
        theta[self._ends[2] : self._ends[3]] = self._centre
        theta[self._ends[4] :] = _CEILING
        return theta

    @staticmethod
    def addition(name: str, size: int, fit: ResponseFit) -> F64:
        """Where the parameters begin that a model grows by."""
        return np.zeros(size) if name == "own_latents" else np.array([2.0 * fit.sds[0]])

    def ceiling(self, theta: F64) -> F64 | None:
        """``(C,)`` ceiling above the mean of each class; None if there is none."""
        a, b = self._ends[:2]
        if self._ends[5] == self._ends[4]:
            return None
        return theta[-1] - (theta[a:b] if self.c > 1 else np.zeros(1))

    def ratio(self, theta: F64) -> F64 | None:
        """``(K,)`` what each configuration's latent has of the common sd; None if they are not told apart."""
        d, e = self._ends[3:5]
        return np.exp(np.clip(theta[d:e], -3.0, 3.0)) if e > d else None

    def latent_row(self, k: int) -> F64:
        """Derivative of the log of one configuration's own sd with respect to the vector."""
        row = np.zeros(self.size)
        row[self.sd_index(2)] = row[self._ends[3] + k] = 1.0
        return row

    def sd_index(self, j: int) -> int:
        """Where standard deviation ``j`` stands in the vector."""
        return int(self._ends[2]) + self.free.index(j)

    def unpack(self, theta: F64) -> tuple[F64, F64]:
        """Margins ``(K, C)`` and the three standard deviations."""
        a, b, c, d = self._ends[:4]
        margin = np.repeat(theta[:a, None], self.c, axis=1)
        if self.c > 1:
            margin = margin - theta[a:b] + theta[b:c].reshape(self.k, self.c)
        sds = np.array([self.fixed.get(name, 0.0) for name in SDS])
        sds[self.free] = np.exp(np.clip(theta[c:d], -8.0, 3.0))
        return margin, sds

    def difficulty(self, theta: F64) -> F64:
        """``(C,)`` class means, shifted so that their mean over queries is 0."""
        if self.c == 1:
            return np.zeros(1)
        mean = theta[self._ends[0] : self._ends[1]]
        return mean - float(self.counts.share @ mean)

    def margin_row(self, k: int, c: int) -> F64:
        """Derivative of one margin with respect to the vector."""
        row = np.zeros(self.size)
        row[k] = 1.0
        if self.c > 1:
            row[self._ends[0] + c] = -1.0
            row[self._ends[1] + k * self.c + c] = 1.0
        return row

    def difficulty_row(self, c: int) -> F64:
        """Derivative of one class mean with respect to the vector."""
        row = np.zeros(self.size)
        row[self._ends[0] : self._ends[1]] = -self.counts.share
        row[self._ends[0] + c] += 1.0
        return row

    def objective(self, theta: F64) -> tuple[float, F64]:
        """Minus the penalised log-likelihood and its gradient."""
        a, b, c, d, e = self._ends[:5]
        margin, sds = self.unpack(theta)
        ratio, top = self.ratio(theta), self.ceiling(theta)
        value, gradient = self.likelihood.gradient(margin, sds, ratio, top)
        slope = np.zeros(self.size)
        slope[:a] = gradient.margin.sum(axis=1)
        if self.c > 1:
            slope[a:b] = -gradient.margin.sum(axis=0)
            slope[b:c] = gradient.margin.reshape(-1)
        slope[c:d] = gradient.sds[self.free] * sds[self.free]
        if ratio is not None:
            slope[d:e] = gradient.latent * sds[2] * ratio
        if top is not None:
            slope[e] = gradient.ceiling.sum()
            if self.c > 1:
                slope[a:b] -= gradient.ceiling
        scale = np.empty(self.size)
        scale[:a], scale[a:b], scale[b:c], scale[c:d] = _PRIOR_SKILL, _PRIOR_CLASS, self.class_sd, _PRIOR_LOG_SD
        scale[d:e], scale[e:] = _PRIOR_RATIO, _PRIOR_CEILING
        away = theta.copy()
        away[c:d] -= self._centre
        away[e:] -= _CEILING
        away /= scale
        return 0.5 * float(away @ away) - value, away / scale - slope

    def refit_class_sd(self, theta: F64) -> bool:
        """One step of EM for the spread of class skills; whether it still moved."""
        b, c = self._ends[1:3]
        at = *self.unpack(theta), self.ratio(theta), self.ceiling(theta)
        information = self.likelihood.gradient(*at)[1].information.reshape(-1)
        seen = information > 0.0
        spread = theta[b:c][seen] ** 2 + 1.0 / (information[seen] + self.class_sd**-2)
        # two pseudo-observations of half a logit keep it from collapsing
        new = math.sqrt((float(spread.sum()) + 2 * 0.25) / (int(seen.sum()) + 2))
        moved = abs(new - self.class_sd) > 0.02 * self.class_sd
        self.class_sd = new
        return moved

    def hessian(self, theta: F64, step: float = 2e-3) -> F64:
        """Second derivatives of the objective, by central differences of the gradient."""
        rows = np.empty((self.size, self.size))
        one_sided = self.size > 60  # half the work, good enough where it is much
        here = self.objective(theta)[1] if one_sided else None
        for i in range(self.size):
            shift = np.zeros(self.size)
            shift[i] = step
            ahead = self.objective(theta + shift)[1]
            behind = self.objective(theta - shift)[1] if here is None else here
            rows[i] = (ahead - behind) / (step if one_sided else 2.0 * step)
        return (rows + rows.T) / 2.0

    def profile(self, theta: F64, j: int, error: float) -> tuple[float, float]:
        """Profile interval of standard deviation ``j``, its own prior left out; the lower end may be 0."""
        from scipy.optimize import minimize

        sizes = np.diff(self._ends)
        rough = Problem(self.counts, self.fixed, 0.6, bool(sizes[3]), bool(sizes[4]))
        rough.class_sd = self.class_sd
        at = self.sd_index(j)
        rest = np.delete(np.arange(self.size), at)
        centre, best = float(self._centre[self.free.index(j)]), theta.copy()

        def prior(log_sd: float) -> float:
            return 0.5 * ((log_sd - centre) / _PRIOR_LOG_SD) ** 2

        def fitted(log_sd: float) -> float:
            def part(values: F64) -> tuple[float, F64]:
                full = np.empty(self.size)
                full[rest], full[at] = values, log_sd
                value, slope = rough.objective(full)
                return value, slope[rest]

            result = minimize(part, best[rest], jac=True, method="L-BFGS-B", options={"maxiter": 60, "ftol": 1e-8})
            best[rest] = result.x
            return float(result.fun) - prior(log_sd)

        # without its prior the profile may peak elsewhere: follow it on a ladder around the estimate
        step = min(max(0.5 * error, 0.08), 0.6)
        here = float(theta[at])
        ends: list[list[tuple[float, float]]] = []
        peak = fitted(here)
        for sign in (-1.0, 1.0):
            best[:] = theta
            seen = [(here, peak)]
            while math.log(_SMALLEST) < seen[-1][0] < math.log(8.0) and len(seen) < 30:
                log_sd = seen[-1][0] + sign * step * 1.25 ** (len(seen) - 1)
                seen.append((log_sd, fitted(log_sd)))
                if seen[-1][1] - min(value for _, value in seen) > _CHI2_95 / 2.0:
                    break
            ends.append(seen)
        lowest = min(value for side in ends for _, value in side)
        limits = []
        for side in ends:
            limit = math.nan
            for (x0, y0), (x1, y1) in pairwise(side):
                y0, y1 = y0 - lowest - _CHI2_95 / 2.0, y1 - lowest - _CHI2_95 / 2.0
                if y0 <= 0.0 < y1:
                    limit = x0 + (x1 - x0) * -y0 / (y1 - y0)
            limits.append(limit)
        return (
            0.0 if math.isnan(limits[0]) else math.exp(limits[0]),
            math.inf if math.isnan(limits[1]) else math.exp(limits[1]),
        )
