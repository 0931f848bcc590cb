"""The states of an item-response problem and the chance of each: which verdicts were met, together with the hint.

Given difficulty ``d`` the likelihood of the verdicts factorises over families, and inside a family, given its latent,
over configurations; with ``A = t p + f (1 - p)`` the chance that a call's answer is accepted and ``B = 1 - A``,

    m(r, a) = sum_d w(d) prod_families E prod_k E[ B_k^r_k A_k^a_k | d ]

is the mass of the state "``r_k`` answers of configuration ``k`` rejected, ``a_k`` accepted", ``w(d)`` the chance of a
difficulty together with the hint at hand.

Integrals are over the very quantile tables that the environment samples: the latents by Gaussian quadrature of the
table's distribution, difficulty by the means of cells of equal chance, the hint by bins. A policy that sees the bin
only cannot do better than one that sees the hint, so binning errs downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from .item_response import ItemResponse
from .quantiles import QuantileTable, logistic, normal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """How finely latents (Gauss nodes), difficulty (cells, a divisor of 1024) and hints (bins) are resolved."""

    latent: int = 16
    difficulty: int = 256
    hint: int = 128


# ---------------------------------------------------------------- grids


@lru_cache(maxsize=16)
def gauss_nodes(n: int) -> tuple[F64, F64]:
    """Nodes and weights of the ``n``-point Gaussian quadrature for the table of the standard normal distribution.

    Source: Golub and Welsch (1969), with the recurrence from Stieltjes' procedure on the table's 1,024 uniform
    pieces, two points each.
    """
    values = normal().values
    x = (values[:-1, None] + np.diff(values)[:, None] * (0.5 + np.array([-0.5, 0.5]) / np.sqrt(3.0))).ravel()
    before, now = np.zeros_like(x), np.ones_like(x)
    centre, off, norm = np.zeros(n), np.zeros(n), 1.0
    for i in range(n):
        centre[i] = (x * now**2).mean() / norm
        before, now = now, (x - centre[i]) * now - off[i - 1] ** 2 * before if i else x - centre[i]
        size = float((now**2).mean())
        off[i], norm = np.sqrt(size / norm), size
    nodes, vectors = np.linalg.eigh(np.diag(centre) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1))
    return nodes, vectors[0] ** 2


def cumulative(table: QuantileTable, x: F64) -> F64:
    """Chance that a sample of a table is at most ``x``."""
    return np.interp(x, table.values, np.linspace(0.0, 1.0, table.values.size))


def cells(n: int) -> F64:
    """Means of the standard normal table in ``n`` cells of equal chance."""
    values = normal().values
    return (0.5 * (values[:-1] + values[1:])).reshape(n, -1).mean(axis=1)


def hint_edges(problem: ItemResponse, c: int, bins: int) -> F64:
    """Edges between the bins of the hint in class ``c``: none where it tells nothing."""
    if problem.hint_sd is None or problem.sd[c] == 0.0:
        return np.zeros(0)
    spread = np.hypot(problem.sd[c], problem.hint_sd)
    edges = problem.mean[c] + spread * np.quantile(normal().values, np.arange(1, bins) / bins)
    return np.unique(np.clip(edges, -8.0, 8.0))  # where the environment clips the hint


def joint_weights(problem: ItemResponse, c: int, grid: Grid) -> tuple[F64, F64, F64]:
    """Difficulties ``(D,)``, the chance of each together with each bin ``(D, H)``, and the edges ``(H - 1,)``."""
    edges = hint_edges(problem, c, grid.hint)
    z = cells(grid.difficulty) if problem.sd[c] > 0.0 else np.zeros(1)
    difficulty = problem.mean[c] + problem.sd[c] * z
    distance = edges[None, :] - difficulty[:, None]
    exact = problem.hint_sd is None or problem.hint_sd == 0.0
    below = (distance > 0.0) * 1.0 if exact else cumulative(normal(), distance / problem.hint_sd)
    ends = np.zeros((len(z), 1))
    return difficulty, np.diff(np.hstack([ends, below, ends + 1.0]), axis=1) / len(z), edges


# ---------------------------------------------------------------- states


class States:
    """The states of a problem: mixed-radix numbers of one verdict history per configuration.

    ``rejected``, ``accepted`` and ``total`` are ``(S, K)`` counts; ``place`` is the ``(K,)`` weight of each
    configuration's digit, ``levels`` the states by number of calls.
    """

    def __init__(self, problem: ItemResponse) -> None:
        sizes = problem.symbols
        self.histories = [_histories(int(n), problem.sure) for n in problem.calls]
        self.place = np.cumprod([1, *sizes[:-1]])
        digits = (np.arange(prod(sizes))[:, None] // self.place) % np.array(sizes)
        self.digits = digits
        self.rejected = np.stack([h[digits[:, k], 0] for k, h in enumerate(self.histories)], axis=1)
        self.accepted = np.stack([h[digits[:, k], 1] for k, h in enumerate(self.histories)], axis=1)
        self.total = self.rejected + self.accepted
        level = self.total.sum(axis=1)
        self.levels = [np.flatnonzero(level == n) for n in range(problem.max_calls + 1)]
        self._sure = problem.sure

    def after_rejection(self, rows: I64, k: int) -> I64:
        """The states with one more rejected answer of ``k``."""
        return rows + self.place[k] * (1 if self._sure else self.total[rows, k] + 1)

    def after_acceptance(self, rows: I64, k: int) -> I64:
        """The states with one more accepted answer of ``k``; only where accepted answers may be wrong."""
        return rows + self.place[k] * (self.total[rows, k] + 2)

    def before_rejection(self, rows: I64, k: int) -> I64:
        """The states with one rejected answer of ``k`` less."""
        return rows - self.place[k] * (1 if self._sure else self.total[rows, k])

    def before_acceptance(self, rows: I64, k: int) -> I64:
        """The states with one accepted answer of ``k`` less."""
        return rows - self.place[k] * (self.total[rows, k] + 1)


def _histories(calls: int, sure: bool) -> I64:
    """``(P, 2)`` counts of rejected and accepted answers, by total and then by acceptances."""
    if sure:
        return np.array([(n, 0) for n in range(calls + 1)])
    return np.array([(n - a, a) for n in range(calls + 1) for a in range(n + 1)])


def masses(problem: ItemResponse, states: States, c: int, difficulty: F64, weights: F64, grid: Grid) -> F64:
    """``(S, H)`` mass of every state in class ``c`` together with every bin of the hint."""
    z, z_weight = gauss_nodes(grid.latent) if problem.configuration_sd.any() else (np.zeros(1), np.ones(1))
    y, y_weight = gauss_nodes(grid.latent) if problem.family_sd else (np.zeros(1), np.ones(1))
    tables, index = [], []
    for name in np.unique(problem.family):
        members = np.flatnonzero(problem.family == name)
        parts = []
        for k in members:
            margin = problem.skill[k, c] - difficulty[:, None] + problem.family_sd * y
            margin = margin[:, :, None] + problem.configuration_sd[k] * z
            chance = 1.0 - cumulative(logistic(), -margin)
            accept = problem.false_positive + (problem.true_positive - problem.false_positive) * chance
            rows = [((1.0 - accept) ** r * accept**a) @ z_weight for r, a in states.histories[k]]
            parts.append(np.stack(rows, axis=1))  # (D, P, Y)
        half = (len(parts) + 1) // 2
        one, two = _outer(parts[:half]), _outer(parts[half:]) if len(parts) > 1 else np.ones((1, 1, len(y)))
        tables.append(((two * y_weight) @ one.transpose(0, 2, 1)).reshape(len(difficulty), -1).T)
        place = np.cumprod([1, *(len(states.histories[k]) for k in members[:-1])])
        index.append(states.digits[:, members] @ place)
    mass = np.zeros((len(states.digits), weights.shape[1]))
    for rows in states.levels:
        likelihood = tables[0][index[0][rows]]
        for table, i in zip(tables[1:], index[1:], strict=True):
            likelihood *= table[i[rows]]
        mass[rows] = likelihood @ weights
    return mass


def _outer(parts: list[F64]) -> F64:
    """Products of ``(D, P, Y)`` tables over all combinations of ``P``, the first part's digit running fastest."""
    out = parts[0]
    for part in parts[1:]:
        out = (part[:, :, None, :] * out[:, None, :, :]).reshape(len(part), -1, part.shape[2])
    return out
