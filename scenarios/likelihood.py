"""Marginal likelihood of recorded successes under the item-response model of the router.

The model is that of :class:`~brownout.scenarios.schema.ModelTasks`. Given query ``q`` of class ``c``, a call of
configuration ``k`` succeeds with probability ``sigmoid(m[k, c] - d_q + f_qF + u_qk)`` with ``d`` (difficulty
around its class mean), ``f`` (shared by family ``F``) and ``u`` (kept by a configuration) normal with mean 0.
Of a query only the successes ``s`` among ``n`` runs of each configuration matter:

    L_q = E_d prod_F E_f prod_{k in F} h_{n,s}(m[k, c] - d + f),   h_{n,s}(x) = E_u p^s (1-p)^(n-s), p = sigmoid(x+u)

``h`` is tabulated per distinct ``(n, s)``, the two outer expectations are sums over grids (the trapezoid rule
converges geometrically for such integrands), and every derivative is an expectation under the same weights.

Source: Bock and Aitkin, "Marginal maximum likelihood estimation of item parameters" (1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_REACH: Final = 4.75  # standard deviations covered by a grid
_STEP: Final = 0.1  # of the table of h, logits
_U_NODES: Final = 33
_EDGE: Final = 0.25  # logits over which the ceiling sets in, so that the likelihood is smooth in it


@dataclass(frozen=True, eq=False)
class Counts:
    """What the likelihood needs of a table.

    Args:
        configs: ``K`` names.
        families: family of each configuration.
        classes: ``C`` names of classes of queries.
        query_class: ``(Q,)`` class of each query.
        runs: ``(Q, K)`` runs whose answer can be right or wrong; 0 where there is none.
        successes: ``(Q, K)`` how many of them were right.

    Raises:
        TableError: if the shapes or the counts contradict each other.
    """

    configs: tuple[str, ...]
    families: tuple[str, ...]
    classes: tuple[str, ...]
    query_class: I64
    runs: I64
    successes: I64

    def __post_init__(self) -> None:
        shape = (len(self.query_class), len(self.configs))
        if self.runs.shape != shape or self.successes.shape != shape or len(self.families) != shape[1]:
            raise TableError(
                f"counts: got runs {self.runs.shape}, successes {self.successes.shape} and {len(self.families)} "
                f"families; allowed: {shape} (queries, configurations)"
            )
        if (self.successes < 0).any() or (self.successes > self.runs).any():
            raise TableError("counts: successes must lie between 0 and the number of runs")
        if shape[0] == 0 or not ((self.query_class >= 0) & (self.query_class < len(self.classes))).all():
            raise TableError(
                f"counts: every query needs one of the {len(self.classes)} classes, and there is one at least"
            )

    def choose(self, queries: Sequence[int] | NDArray[np.integer]) -> Counts:
        """The same configurations on some of the queries (repeats allowed, as a bootstrap draws them)."""
        q = np.asarray(queries, dtype=np.int64)
        return Counts(self.configs, self.families, self.classes, self.query_class[q], self.runs[q], self.successes[q])

    @property
    def share(self) -> F64:
        """``(C,)`` share of the queries in each class."""
        count = np.bincount(self.query_class, minlength=len(self.classes))
        return count / count.sum()


@dataclass(frozen=True, eq=False)
class Gradient:
    """Derivatives of the log-likelihood, summed over queries.

    Args:
        margin: ``(K, C)`` with respect to ``m``.
        sds: ``(3,)`` with respect to the three standard deviations.
        information: ``(K, C)`` sum over queries of the squared derivative with respect to ``m``.
        latent: ``(K,)`` with respect to the standard deviation of each configuration's latent.
        ceiling: ``(C,)`` with respect to the ceiling of each class.
    """

    margin: F64
    sds: F64
    information: F64
    latent: F64
    ceiling: F64


class Likelihood:
    """Log-likelihood of :class:`Counts`, with its gradient. Queries alike in class and counts are done once.

    Args:
        counts: the runs.
        fineness: scales the number of grid points. It grows with the root of the runs per query, as these
            make the integrand narrower; a coarse grid is good enough for the first steps of a fit.
    """

    def __init__(self, counts: Counts, fineness: float = 1.0) -> None:
        self.counts = counts
        size = len(counts.configs)
        rows = np.concatenate([counts.query_class[:, None], counts.runs, counts.successes], axis=1)
        unique, self.inverse, weight = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        self.inverse = self.inverse.reshape(-1)
        self._weight = weight.astype(np.float64)
        group, runs, wins = unique[:, 0], unique[:, 1 : 1 + size], unique[:, 1 + size :]
        self._group, self._none = group, wins.sum(axis=1) == 0
        pairs, pair_of = np.unique(np.stack([runs.ravel(), wins.ravel()], axis=1), axis=0, return_inverse=True)
        self._pairs = pairs.astype(np.float64)
        pair = pair_of.reshape(runs.shape)
        self._z_d, self._log_d = _grid(int(fineness * np.clip(10.0 * np.sqrt(runs.sum(axis=1).max()), 31, 101)))
        self._z_u, self._log_u = _grid(_U_NODES)
        self._families: list[_Family] = []
        for family in dict.fromkeys(counts.families):
            members = [k for k in range(size) if counts.families[k] == family]
            cells = [(q, k) for k in members for q in np.flatnonzero(runs[:, k] > 0)]
            if not cells:
                continue
            q, k = np.array(cells).T
            keys = np.stack([k, group[q], pair[q, k]], axis=1)
            combos, index = np.unique(keys, axis=0, return_inverse=True)
            hot = np.zeros((len(unique), len(combos)))
            hot[q, index.reshape(-1)] = 1.0
            most = np.sqrt(runs[:, members].sum(axis=1).max())
            nodes = int(fineness * np.clip(5.0 * most, 13, 25))
            self._families.append(_Family(combos[:, 0], combos[:, 1], combos[:, 2], hot, *_grid(nodes)))

    def per_query(
        self, margin: F64, sds: Sequence[float] | F64, ratio: F64 | None = None, ceiling: F64 | None = None
    ) -> F64:
        """``(Q,)`` log-likelihood of each query, up to the constant number of orders of its runs."""
        return self._evaluate(margin, np.asarray(sds, dtype=np.float64), ratio, ceiling, False)[0][self.inverse]

    def value(
        self, margin: F64, sds: Sequence[float] | F64, ratio: F64 | None = None, ceiling: F64 | None = None
    ) -> float:
        """Log-likelihood of all queries."""
        return float(self.per_query(margin, sds, ratio, ceiling).sum())

    def gradient(
        self, margin: F64, sds: Sequence[float] | F64, ratio: F64 | None = None, ceiling: F64 | None = None
    ) -> tuple[float, Gradient]:
        """Log-likelihood and its derivatives.

        Args:
            margin: ``(K, C)`` skill minus mean difficulty.
            sds: difficulty, family and configuration standard deviation, logits.
            ratio: ``(K,)`` what each configuration's own standard deviation is of the third of ``sds``; None is 1.
            ceiling: ``(C,)`` difficulty, above the mean of the class, from which no call succeeds; None is none.
        """
        logs, gradient = self._evaluate(margin, np.asarray(sds, dtype=np.float64), ratio, ceiling, True)
        assert gradient is not None
        return float(self._weight @ logs), gradient

    def _evaluate(
        self, margin: F64, sds: F64, ratio: F64 | None, ceiling: F64 | None, wanted: bool
    ) -> tuple[F64, Gradient | None]:
        sd_d, sd_f, sd_u = sds
        own = np.ones(len(margin)) if ratio is None else ratio
        # one table serves all configurations that keep equally much
        kept, which = (own[:1], np.zeros(len(own), np.int64)) if ratio is None else (own, np.arange(len(own)))
        table = self._tabulate(margin, _REACH * (sd_d + sd_f), sd_u * kept)
        d = len(self._z_d)
        total = np.broadcast_to(self._log_d, (len(self._group), d)).copy()
        parts: list[tuple[F64, F64, F64, F64]] = []
        for family in self._families:
            # a latent without spread needs no grid
            z_f, log_f = (family.z, family.log) if sd_f > 0.0 else (np.zeros(1), np.zeros(1))
            shift = (sd_f * z_f[None, :] - sd_d * self._z_d[:, None]).reshape(-1)
            x = margin[family.config, family.group][:, None] + shift
            logs, slope, spread = table.look_up(family.pair + len(self._pairs) * which[family.config], x)
            joint = (family.hot @ logs).reshape(-1, d, len(z_f)) + log_f
            top = joint.max(axis=2, keepdims=True)
            np.exp(joint - top, out=joint)
            mass = joint.sum(axis=2, keepdims=True)
            total += (np.log(mass) + top)[:, :, 0]
            if wanted:
                joint /= mass
                parts.append((joint, slope, spread, z_f))
        peak = total.max(axis=1, keepdims=True)
        at_sd, at_ceiling = 0.0, np.zeros(margin.shape[1])
        if ceiling is None:
            np.exp(total - peak, out=total)
            mass = total.sum(axis=1, keepdims=True)
        else:
            # beyond the ceiling only queries without any success are possible
            none = self._none[:, None]
            peak = np.where(none, np.maximum(peak, self._log_d.max()), peak)
            lost = np.exp(self._log_d - np.where(none, peak, np.inf))
            np.exp(total - peak, out=total)
            beyond = 1.0 / (1.0 + np.exp(-np.clip((sd_d * self._z_d - ceiling[:, None]) / _EDGE, -30.0, 30.0)))
            beyond = beyond[self._group]
            gain = lost - total
            total *= 1.0 - beyond
            mass = (total + beyond * lost).sum(axis=1, keepdims=True)
            if wanted:
                push = self._weight[:, None] * gain / mass * beyond * (1.0 - beyond) / _EDGE
                at_sd = float((push @ self._z_d).sum())
                np.add.at(at_ceiling, self._group, -push.sum(axis=1))
        logs = (np.log(mass) + peak)[:, 0]
        if not wanted:
            return logs, None
        total /= mass
        at_margin, information, at_sds = np.zeros_like(margin), np.zeros_like(margin), np.zeros(3)
        at_latent = np.zeros(len(margin))
        for family, (joint, slope, spread, z_f) in zip(self._families, parts, strict=True):
            joint *= total[:, :, None]
            flat = joint.reshape(len(joint), -1)
            # (Q, combos) derivative of each query's log-likelihood with respect to the margin of its combo
            scores = (flat @ slope.T) * family.hot
            place = (family.config, family.group)
            np.add.at(at_margin, place, self._weight @ scores)
            np.add.at(information, place, self._weight @ (scores * scores))
            pull = (family.hot * self._weight[:, None]).T @ flat
            push = (pull * slope).sum(axis=0).reshape(d, -1)
            np.add.at(at_latent, family.config, (pull * spread).sum(axis=1))
            at_sds += (-float(push.sum(axis=1) @ self._z_d), float(push.sum(axis=0) @ z_f), 0.0)
        at_sds[0] += at_sd
        at_sds[2] = at_latent @ own
        return logs, Gradient(at_margin, at_sds, information, at_latent, at_ceiling)

    def _tabulate(self, margin: F64, reach: float, sd_u: F64) -> _Table:
        first = int(np.floor((margin.min() - reach) / _STEP)) - 1
        last = int(np.ceil((margin.max() + reach) / _STEP)) + 2
        x = np.arange(first, last + 1) * _STEP
        values, slopes, spreads = [], [], []
        for sd in sd_u:
            at = x[:, None] + sd * self._z_u
            right = -np.logaddexp(0.0, -at)
            wrong = right - at
            odds = np.exp(right)
            for n, s in self._pairs:
                log = s * right + (n - s) * wrong + self._log_u
                top = log.max(axis=1, keepdims=True)
                weight = np.exp(log - top)
                mass = weight.sum(axis=1)
                residual = weight * (s - n * odds)
                values.append(np.log(mass) + top[:, 0])
                slopes.append(residual.sum(axis=1) / mass)
                spreads.append(residual @ self._z_u / mass)
        spread = np.array(spreads)
        return _Table(first, np.array(values), np.array(slopes), spread, np.gradient(spread, axis=1))


@dataclass(frozen=True, eq=False)
class _Family:
    """Distinct (configuration, class, counts) of one family, and which query has which: ``hot`` is (Q, combos)."""

    config: I64
    group: I64
    pair: I64
    hot: F64
    z: F64
    log: F64


@dataclass(frozen=True, eq=False)
class _Table:
    """``log h`` of each pair of counts (for each sd of ``u``, in turn) and its derivatives, on a grid of ``x``."""

    first: int
    value: F64
    slope: F64
    spread: F64
    turn: F64

    def look_up(self, pair: I64, x: F64) -> tuple[F64, F64, F64]:
        """``log h`` (cubic Hermite), its exact derivative, and the one with respect to the sd of ``u``."""
        position = x / _STEP - self.first
        index = np.clip(position.astype(np.int64), 0, self.value.shape[1] - 2)
        t = position - index
        flat = index + (pair * self.value.shape[1])[:, None]
        value, slope, spread = self.value.reshape(-1), self.slope.reshape(-1), self.spread.reshape(-1)
        y0, y1 = value.take(flat), value.take(flat + 1)
        g0, g1 = slope.take(flat) * _STEP, slope.take(flat + 1) * _STEP
        rise = y1 - y0
        a, b = g0 - rise, rise - g1
        u = 1.0 - t
        curve = y0 + t * rise + t * u * (a * u + b * t)
        steep = (rise + (u - t) * (a * u + b * t) + t * u * (b - a)) / _STEP
        turn = self.turn.reshape(-1)
        s0, s1 = spread.take(flat), spread.take(flat + 1)
        a, b = turn.take(flat) - (s1 - s0), (s1 - s0) - turn.take(flat + 1)
        return curve, steep, s0 + t * (s1 - s0) + t * u * (a * u + b * t)


def _grid(nodes: int) -> tuple[F64, F64]:
    """Points of the standard normal, equally spaced, and the logarithms of their weights."""
    z = np.linspace(-_REACH, _REACH, nodes)
    log = -0.5 * z * z
    return z, log - np.log(np.exp(log).sum())
