"""What failed attempts leave of a task's odds: the exact posterior of the item-response model, as columns.

An attempt that failed says three things of its task: that it failed, what it cost and how long it took. Given the
task's difficulty the costs are normal scores with known correlations (:class:`~brownout.scenarios.schema.Effort`), and
the failures depend on the latents of families and configurations alone. So the posterior over difficulty is the
product of two factors that need no simulation: the chance of the failures, from a table over failures per
configuration, and a normal density of the costs and times, which depends on their sums per configuration. From it
follow, for each configuration, the chance that its next call succeeds and what that call is likely to cost.

A policy that sees these numbers need not learn Bayes' rule from rewards, only what to do with the result.

The simulator gives all classes of tasks one spread of difficulty and one strength of the latents. Where recorded
queries of a class say otherwise they are heard: the prior of a class is a mixture of the simulator's and of the
posteriors of its recorded queries, one step of the EM algorithm from the former towards the maximum likelihood estimate
of a prior of any shape.

Source: Laird, "Nonparametric maximum likelihood estimation of a mixing distribution" (1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.item_response_states import cells, cumulative, gauss_nodes
from ..envs.quantiles import QuantileBank, QuantileTable, by_score, logistic, normal, score_position
from ..envs.sequential import MAX_STATES
from ..errors import TableError
from ..scenarios.columns import Column
from ..scenarios.schema import Effort, ModelTasks, RouterScenario

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_CELLS: Final = 32  # of difficulty, equally likely
_NODES: Final = 9  # of each latent
_REACH: Final = 3.0  # normal scores are cut there: a table of forty quantiles knows no more
_LEAST: Final = 1e-6  # below which a price or a variance is not told from nothing
_NEVER: Final = 1e8  # variance of what was not observed
_TRUST: Final = 20.0  # recorded queries of a class that weigh as much as the simulator
FIELDS: Final = ("chance", "price", "worth")


@dataclass(frozen=True, eq=False)
class RecordedTask:
    """Runs of one query, ``(n,)`` each: configuration, whether it was right, cost in USD, time in seconds.

    ``group`` is the number of its class in the simulator.
    """

    group: int
    config: I64
    right: NDArray[np.bool_]
    cost_usd: F64
    latency_s: F64


class TaskBelief:
    """Posterior of tasks of one or several simulators of the same portfolio, taken to be equally likely.

    Costs and times are read as the first simulator has them; the odds are the mean over all.

    Args:
        scenarios: simulators with the same configurations and classes.
        calls: calls of one configuration at most.
        recorded: queries that the simulators were fitted to.

    Raises:
        TableError: if there are more than ``MAX_STATES`` counts of failures.
    """

    def __init__(self, scenarios: Sequence[RouterScenario], calls: int, recorded: Sequence[RecordedTask] = ()) -> None:
        first = scenarios[0]
        tasks = first.tasks
        assert isinstance(tasks, ModelTasks)
        entries = list(first.portfolio.values())
        size, states = len(entries), (calls + 1) ** len(entries)
        if states > MAX_STATES:
            raise TableError(
                f"belief: {size} configurations with {calls} calls each give {states} states; allowed: {MAX_STATES}. "
                "Choose fewer configurations or repeats"
            )
        self.calls, self._names = calls, list(first.portfolio)
        self._radix = (calls + 1) ** np.arange(size)
        counts = (np.arange(states)[:, None] // self._radix) % (calls + 1)
        self._z = cells(_CELLS)
        classes = list(tasks.classes)
        self._mass = [np.mean([_mass(s, name, counts, self._z) for s in scenarios], axis=0) for name in classes]
        self._wrong = np.array([[1.0, 1.0] if e.wrong is None else [e.wrong.cost_factor, e.wrong.latency_factor]
                                for e in entries])  # fmt: skip
        tables: tuple[list[QuantileTable], list[QuantileTable]] = ([], [])
        for entry in entries:
            assert entry.cost_usd is not None
            assert entry.latency_s is not None
            tables[0].append(by_score(entry.cost_usd.table()))
            tables[1].append(by_score(entry.latency_s.table()))
        self._scored = [[table.values for table in some] for some in tables]
        self._bank = QuantileBank(tables[0])
        effort = tasks.effort or Effort()  # pyright: ignore[reportCallIssue]
        share = np.array([tasks.classes[name] for name in classes])
        shifts = np.array([(effort.classes or {}).get(name, (0.0, 0.0)) for name in classes], dtype=np.float64)
        self._shift = shifts - share @ shifts / share.sum()
        within = 1.0 - share @ self._shift**2 / share.sum()
        self._together = effort.together
        kin = np.array([[a.family == b.family for b in entries] for a in entries], dtype=np.float64)
        self._pull, self._shared, self._own = np.zeros(2), [], np.zeros(2)
        for j, part in enumerate((effort.cost, effort.latency)):
            self._pull[j] = part.difficulty * np.sqrt(part.task * within[j])
            rest = part.task * (1.0 - part.difficulty**2) + part.family * kin + part.configuration * np.eye(size)
            self._shared.append(rest * within[j])
            self._own[j] = max(part.own * within[j], _LEAST)
        for c, name in enumerate(classes):
            found = [self._posterior(scenarios, name, c, counts, task) for task in recorded if task.group == c]
            if found:
                weight = len(found) / (len(found) + _TRUST)
                self._mass[c] = (1.0 - weight) * self._mass[c] + weight * np.mean(found, axis=0)

    def _posterior(
        self, scenarios: Sequence[RouterScenario], name: str, c: int, counts: I64, task: RecordedTask
    ) -> F64:
        """``(S, Z)`` chance of further failures together with each cell of difficulty, given a query's runs."""
        size = counts.shape[1]
        won = np.bincount(task.config[task.right], minlength=size)
        lost = np.bincount(task.config[~task.right], minlength=size)
        scores = self.scores(task.config, task.cost_usd, task.latency_s, task.right)
        sums = np.zeros((size, 2))
        np.add.at(sums, task.config, scores)
        density = np.exp(
            self._logs(self._sums((won + lost)[None], sums.T[None]), np.zeros(1, np.int64), self._shift[c])
        )
        mass = np.mean([_mass(s, name, counts, self._z, won, lost) for s in scenarios], axis=0) * density
        return mass / mass[0].sum()

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of each configuration: chance of success of its next call, its expected price, and what a success is worth
        for each USD spent on it, as a logarithm: above 0 the call pays by itself."""
        ranges = {"chance": ("share", 0.0, 1.0), "price": ("log10 USD", -6.0, 6.0), "worth": ("log10", -6.0, 6.0)}
        return tuple(Column(f"belief.{name}.{field}", *ranges[field]) for field in FIELDS for name in self._names)

    def scores(self, k: I64, cost_usd: F64, latency_s: F64, right: NDArray[np.bool_] | bool = False) -> F64:
        """Normal scores of calls, ``(n, 2)``: of the cost, and of the time in what the cost leaves open.

        Args:
            k: ``(n,)`` configurations.
            cost_usd: ``(n,)`` what the calls cost.
            latency_s: ``(n,)`` how long they took.
            right: whether they succeeded; by default they failed.
        """
        factor = np.where(np.reshape(right, (-1, 1)), 1.0, self._wrong[k])
        found = np.zeros((len(k), 2))
        grid = np.linspace(-4.0, 4.0, len(self._scored[0][0]))
        for j, values in enumerate((cost_usd, latency_s)):
            for c in np.unique(k):
                rows, table = k == c, self._scored[j][c]
                x = (values / factor[:, j])[rows]
                # a value that many quantiles share stands in their middle
                low, high = np.interp(x, table, grid), -np.interp(-x, -table[::-1], grid)
                found[rows, j] = 0.5 * (low + high)
        np.clip(found, -_REACH, _REACH, out=found)
        found[:, 1] -= self._together * found[:, 0]
        found[:, 1] /= np.sqrt(max(1.0 - self._together**2, _LEAST))
        return found

    def look(self, classes: NDArray[np.float32], failed: I64, scores: F64) -> tuple[F64, F64]:
        """Chance of success of the next call of each configuration and its expected cost in USD, both ``(n, K)``.

        Args:
            classes: ``(n, C)`` how likely each class of task is, before any call.
            failed: ``(n, K)`` failed calls of each configuration.
            scores: ``(n, 2, K)`` sums of their scores.
        """
        state = failed @ self._radix
        seen = self._sums(failed, scores)
        total, lost = np.zeros(len(state)), np.zeros(failed.shape)
        mean, square = np.zeros(failed.shape), np.zeros(failed.shape)
        z = self._z
        for c, mass in enumerate(self._mass):
            rows = np.flatnonzero(classes[:, c] > 0.0)
            if not rows.size:
                continue
            density = classes[rows, c, None] * np.exp(self._logs(seen, rows, self._shift[c]))
            weight = mass.take(state[rows], axis=0) * density
            mine, tilt, curve = weight.sum(axis=1), weight @ z, weight @ z**2
            total[rows] += mine
            for k in range(failed.shape[1]):
                left = np.flatnonzero(failed[rows, k] < self.calls)
                after = mass.take(state[rows[left]] + self._radix[k], axis=0)
                lost[rows[left], k] += (after * density[left]).sum(axis=1)
            # the score of the next call is linear in z
            base = self._shift[c, 0] * (1.0 - seen.common[rows]) + seen.own[rows]
            slope = self._pull[0] * (1.0 - seen.common[rows])
            mean[rows] += mine[:, None] * base + tilt[:, None] * slope
            square[rows] += mine[:, None] * base**2 + 2.0 * tilt[:, None] * base * slope + curve[:, None] * slope**2
        total = np.maximum(total, 1e-300)[:, None]
        chance = np.where(failed < self.calls, np.clip(1.0 - lost / total, 0.0, 1.0), 0.0)
        mean /= total
        spread = np.sqrt(np.maximum(square / total - mean**2, 0.0) + seen.rest)
        x, weight = gauss_nodes(_NODES)
        which = np.arange(failed.shape[1])[:, None]
        price = self._bank.sample(which, score_position(mean[:, :, None] + spread[:, :, None] * x)) @ weight
        return chance, price * (chance + (1.0 - chance) * self._wrong[:, 0])

    def observe(self, classes: NDArray[np.float32], failed: I64, scores: F64, per_usd: F64) -> NDArray[np.float32]:
        """The values of :attr:`columns`, ``(n, 3 K)``, at a price of ``per_usd`` a USD."""
        chance, price = self.look(classes, failed, scores)
        logs = np.log10(np.maximum([price, chance / (np.maximum(price, _LEAST) * per_usd[:, None])], 1e-6))
        return np.concatenate([chance, *np.minimum(logs, 6.0)], axis=1).astype(np.float32)

    def _sums(self, failed: I64, scores: F64) -> _Seen:
        """What the observed scores say, as far as it does not depend on class and difficulty."""
        n, size = failed.shape
        tried = (failed > 0).astype(np.float64)
        calls = np.maximum(failed, 1)
        single, one = np.zeros((2, n)), np.zeros((2, n))
        own = common = rest = np.zeros((n, size))
        for j, (shared, noise) in enumerate(zip(self._shared, self._own, strict=True)):
            y = scores[:, j] / calls * tried
            matrix = shared + np.eye(size) * np.where(failed > 0, noise / calls, _NEVER)[:, None, :]
            right = np.concatenate([y[:, :, None], tried[:, :, None], np.broadcast_to(shared, matrix.shape)], axis=2)
            solved = np.linalg.solve(matrix, right)
            u, v = solved[:, :, 0], solved[:, :, 1]
            single[j], one[j] = (tried * u).sum(axis=1), (tried * v).sum(axis=1)
            if j == 0:
                own, common = u @ shared, v @ shared
                rest = shared.diagonal() + noise - np.einsum("kj,njk->nk", shared, solved[:, :, 2:])
        return _Seen(single, one, own, common, np.maximum(rest, _LEAST))

    def _logs(self, seen: _Seen, rows: I64, shift: F64) -> F64:
        """``(n, Z)`` log-density of the scores in a class, less a constant of the lane."""
        logs = np.zeros((len(rows), len(self._z)))
        for j in range(2):
            away = shift[j] + self._pull[j] * self._z
            logs += seen.single[j, rows, None] * away - 0.5 * seen.one[j, rows, None] * away**2
        return logs


@dataclass(frozen=True, eq=False)
class _Seen:
    """What mean scores ``y`` of the configurations tried say, ``S`` being their covariance given the difficulty.

    Args:
        single: ``(2, n)`` for cost and time, ``1' S^-1 y``.
        one: ``(2, n)`` the same, ``1' S^-1 1``.
        own: ``(n, K)`` of the score of the cost of each configuration's next call, the part that ``y`` tells.
        common: ``(n, K)`` the share of a shift of all scores that ``own`` holds.
        rest: ``(n, K)`` the variance that is left.
    """

    single: F64
    one: F64
    own: F64
    common: F64
    rest: F64


def _mass(
    scenario: RouterScenario, name: str, counts: I64, z: F64, won: I64 | None = None, lost: I64 | None = None
) -> F64:
    """``(S, Z)`` chance of failures ``counts`` ``(S, K)`` in a class of task together with each cell of difficulty.

    With ``won`` and ``lost``, each ``(K,)``, the chance of those successes and failures before them as well.
    """
    tasks = scenario.tasks
    assert isinstance(tasks, ModelTasks)
    entries = list(scenario.portfolio.values())
    centre, sd = tasks.difficulty[name]
    difficulty = centre + sd * z
    x, weight = gauss_nodes(_NODES)
    mass = np.full((len(counts), len(z)), 1.0 / len(z))
    powers = np.arange(counts.max() + 1)
    for family in dict.fromkeys(entry.family for entry in entries):
        product = np.ones((1, len(z), len(x)))
        place = np.zeros(len(counts), np.int64)
        for k in [k for k, entry in enumerate(entries) if entry.family == family]:
            entry = entries[k]
            skill = entry.skill[name] if isinstance(entry.skill, dict) else entry.skill
            latent = tasks.configuration_sd if entry.latent_sd is None else entry.latent_sd
            margin = (skill - difficulty)[:, None, None] + tasks.family_sd * x[:, None] + latent * x
            wrong = cumulative(logistic(), -margin)
            chance = wrong ** powers[:, None, None, None]
            if won is not None and lost is not None:
                chance = chance * (1.0 - wrong) ** won[k] * wrong ** lost[k]
            failed = chance @ weight
            product = (product[:, None] * failed).reshape(-1, *failed.shape[1:])
            place = place * len(powers) + counts[:, k]
        mass *= (product @ weight)[place]
    if tasks.ceiling is not None:
        # the share of each cell that lies beyond the ceiling, where nothing but failures happens
        top = (tasks.ceiling - centre) / max(sd, _LEAST)
        beyond = np.clip(1.0 - (cumulative(normal(), np.array(top)) * len(z) - np.arange(len(z))), 0.0, 1.0)
        mass = mass * (1.0 - beyond) + (beyond / len(z) if won is None or not won.any() else 0.0)
    return mass
