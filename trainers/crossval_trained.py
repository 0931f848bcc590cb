"""The methods of the cross-validation that go by a simulator fitted to the training queries.

Training straight on a hundred queries learns them by heart. Here the training queries only set the numbers of a
simulator (:func:`~brownout.scenarios.calibration.calibrate`), and with them what failed calls say of a task
(:class:`~brownout.trainers.belief.TaskBelief`). The method ``belief`` follows the greedy index under that belief. The
method ``trained`` goes on from there by PPO: the policy sees tasks that never were, with the price of money drawn anew
for each. Both are then asked about recorded queries that neither they nor the simulator have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.sequential import Attempts, score
from ..envs.streams import episode_keys, pick, stream_id, uniform
from ..envs.vector import LaneVectorEnv
from ..errors import TableError
from ..faults import Status
from ..scenarios.calibration import Calibration, calibrate
from ..scenarios.loading import load_scenario
from ..scenarios.runs import safe_name
from ..scenarios.schema import FAILED_STATUSES, RouterScenario
from ..scenarios.tables import RecordedTable
from ..scenarios.tasks import ModelTaskSource
from .attempts import AttemptCore, MixedSource, ReplaySource, index_policy, play_out
from .belief import RecordedTask, TaskBelief
from .foresight import foresight
from .policy import Policy
from .portfolio import best_single, greedy_plans
from .ppo import PPOConfig
from .training import train_loop

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_RESAMPLE = stream_id("crossval.resample")
_LANES = 16_384
_JUDGED = 8_192  # simulated tasks on which a policy in training is compared with the one before
_JUDGED_SEED = 1_000_003
# the recorded failures are the task's doing as much as the provider's: wrong answers that show
_SHOWN = {word: {"answer": word} for word in FAILED_STATUSES}


@dataclass(frozen=True)
class TrainedOptions:
    """How the trained method is fitted.

    Args:
        steps: environment steps of each training.
        simulators: simulators trained on at once: the fit itself, the others fitted to resampled training queries.
        draws: orders of the recorded samples played for each held-out query.
        class_column: text column known before any call, the class of a query; a feature of the table. None is one
            class. Classes have their own difficulty, skills and price level, shrunk to the common ones.
    """

    steps: int = 500_000
    simulators: int = 3
    draws: int = 32
    class_column: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers below 1."""
        for name in ("steps", "simulators", "draws"):
            if getattr(self, name) < 1:
                raise TableError(f"trained.{name}: got {getattr(self, name)!r}; allowed: 1 or more")


def labels_of(table: RecordedTable, column: str | None) -> list[str]:
    """The class of each query, from the flags of a text column among the table's features.

    Raises:
        TableError: if the column is not among them.
    """
    if column is None:
        return ["all"] * len(table.query_ids)
    levels = {
        i: c.name.partition("=")[2] for i, c in enumerate(table.feature_columns) if c.name.startswith(f"{column}=")
    }
    if not levels:
        known = sorted({c.name.partition("=")[0] for c in table.feature_columns if "=" in c.name})
        raise TableError(
            f"{table.source}: class_column: {column!r} is no text column among the features; allowed: "
            f"{', '.join(known) or 'none, the table was read without features'}"
        )
    return [levels[int(i)] for i in np.array(list(levels))[table.features[:, list(levels)].argmax(axis=1)]]


def columns_of(
    table: RecordedTable, configs: Sequence[int], queries: I64, labels: Sequence[str]
) -> dict[str, list[Any]]:
    """Some queries of a table as columns, for :func:`calibrate`; a query may come more than once."""
    words = {int(status): status.word for status in Status}
    names = ("query_id", "config", "sample", "success", "cost_usd", "latency_s", "failure_mode", "class")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for i, q in enumerate(queries.tolist()):
        for k in configs:
            n = int(table.n_samples[q, k])
            rows["query_id"] += [f"{i:06d}"] * n
            rows["config"] += [table.configs[k]] * n
            rows["class"] += [labels[q]] * n
            rows["sample"] += range(n)
            rows["success"] += (table.success[q, k, :n] >= 0.5).astype(int).tolist()
            rows["cost_usd"] += table.cost_usd[q, k, :n].tolist()
            rows["latency_s"] += table.latency_s[q, k, :n].tolist()
            modes = table.status[q, k, :n].tolist()
            rows["failure_mode"] += ["" if m == Status.OK else words[m] for m in modes]
    return rows


def training_scenario(fitted: RouterScenario, repeats: int, per_usd: tuple[float, float]) -> RouterScenario:
    """The fitted scenario as the cross-validation plays it: one call after another, a perfect judge, no limits."""
    data = fitted.model_dump(mode="json")
    calls = repeats * len(fitted.portfolio)
    data["judge"] = {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.0, "latency_s": 0.0}
    data["repair"] = data["person"] = None
    data["limits"] = {
        "budget_usd": 1e6, "deadline_s": 1e6, "on_budget": "soft", "on_deadline": "soft", "max_parallel": 1,
        "max_calls": calls, "max_steps": calls + 1,
    }  # fmt: skip
    data["reward"] = {"accuracy": 1.0, "per_usd": 1.0, "wrong_answer": 0.0, "handoff": 0.0}
    data["preferences"] = {"per_usd": list(per_usd)}
    for entry in data["portfolio"].values():
        entry["max_calls"] = repeats
    data["profiles"] = fitted.profiles
    scenario = load_scenario(data)
    assert isinstance(scenario, RouterScenario)
    return scenario


def price_range(fit: Attempts, prizes: Sequence[float]) -> tuple[float, float]:
    """Prices of a USD that span the frontier of the training queries.

    From where plans spend twice what the best single configuration does, down to a third of the least prize at
    which a plan begins at all: what is known of a query may make it worth trying below that.
    """
    limit = 2.0 * best_single(fit)[1]
    costs = [score(plan, fit).point[0] for plan in greedy_plans(fit, prizes)]
    high = next((p for p, c in zip(prizes, costs, strict=True) if c >= limit), prizes[-1])
    low = next((p for p, c in zip(prizes, costs, strict=True) if c > 0.0), prizes[0]) / 3.0
    return 1.0 / high, 1.0 / min(low, high / 2.0)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A policy with the simulators it belongs to.

    Args:
        policy: the policy.
        calibration: the fit to the training queries.
        scenarios: what was trained on, the first from this fit, the others from fits to resampled queries.
        known: a task source of the first.
        simulated: what failed calls say of a simulated task.
        belief: what they say of a recorded one: the training queries have a say of their own.
        configs: indices of the configurations in the table.
        features: ``(Q, F)`` what is known of each query of the table before any call, in the simulator's columns.
    """

    policy: Policy
    calibration: Calibration
    scenarios: tuple[RouterScenario, ...]
    known: ModelTaskSource
    simulated: TaskBelief
    belief: TaskBelief
    configs: tuple[int, ...]
    features: NDArray[np.float32]

    @property
    def stake(self) -> float:
        """USD at which a reward counts half in training: the geometric mean of the calls' prices."""
        return float(np.exp(np.log(np.maximum(self.known.expected_cost, 1e-9)).mean()))

    def core(self, lanes: int) -> AttemptCore:
        """Lanes whose tasks come from all simulators."""
        source = MixedSource([ModelTaskSource(scenario) for scenario in self.scenarios])
        return AttemptCore(
            self.scenarios[0], lanes, source=source, stake=self.stake, belief=self.simulated, profile="clean"
        )


def fit_on(
    table: RecordedTable,
    configs: Sequence[int],
    train: I64,
    *,
    repeats: int,
    per_usd: tuple[float, float],
    options: TrainedOptions,
    seed: int,
) -> Fitted:
    """Fit the simulators to the training queries; the policy is the greedy index under their belief."""
    fits = []
    labels = labels_of(table, options.class_column)
    names = [table.configs[k] for k in configs]
    for i in range(options.simulators):
        # the first is the fit itself, the others are fits to resampled queries: what else it could have been
        chosen = train if i == 0 else _resample(train, [labels[q] for q in train], seed, i)
        columns = columns_of(table, configs, chosen, labels)
        fits.append(calibrate(columns, configs=names, mapping=_SHOWN, class_column="class"))
    scenarios = tuple(training_scenario(fit.scenario, repeats, per_usd) for fit in fits)
    known, simulated = ModelTaskSource(scenarios[0]), TaskBelief(scenarios, repeats)
    features = _features(known, labels)
    recorded = [_runs_of(table, configs, q, int(features[q].argmax())) for q in train.tolist()]
    one = AttemptCore(scenarios[0], belief=simulated)
    policy = index_policy(one.observation_columns, len(one.action_names), seed=seed)
    belief = TaskBelief(scenarios, repeats, recorded)
    return Fitted(policy, fits[0], scenarios, known, simulated, belief, tuple(configs), features)


def _runs_of(table: RecordedTable, configs: Sequence[int], query: int, group: int) -> RecordedTask:
    """All runs of some configurations on one query."""
    there = np.arange(table.success.shape[2]) < table.n_samples[query, configs][:, None]
    config, sample = np.nonzero(there)
    cell = query, np.asarray(configs)[config], sample
    return RecordedTask(group, config, table.success[cell] >= 0.5, table.cost_usd[cell], table.latency_s[cell])


def train_in(fitted: Fitted, *, steps: int, seed: int, config: PPOConfig | None = None) -> Fitted:
    """Train on from a policy in its simulators; it stays as it is unless training does better on fresh tasks."""
    core = fitted.core(_JUDGED)

    def utility(policy: Policy) -> float:
        core.seed(core.all_lanes, _JUDGED_SEED + core.all_lanes)
        core.begin(core.all_lanes, 0)
        per_usd = core.preferences["per_usd"].copy()
        won, paid, _ = play_out(core, policy, per_usd)
        return float(((won - per_usd * paid) / (1.0 + fitted.stake * per_usd)).mean())

    # small steps and no bonus for entropy: the start is good, and all columns are of the order of 1 as they are
    chosen = config or PPOConfig(
        steps=steps, seed=seed, rollout_steps=16, lanes=1024, learning_rate=2e-4, entropy=0.0, normalise=False
    )
    result = train_loop(
        lambda lanes: LaneVectorEnv(fitted.core(lanes)), chosen, initial=fitted.policy, evaluate_fn=utility,
        evaluate_every=10,
    )  # fmt: skip
    better = result.best_score is not None and result.best_score > utility(fitted.policy)
    return replace(fitted, policy=result.policy) if better else fitted


def _resample(queries: I64, labels: Sequence[str], seed: int, number: int) -> I64:
    """A bootstrap sample of queries, class by class, so that none gets lost."""
    key = episode_keys(np.array([seed]), np.array([number]), "crossval")
    label, chosen = np.array(labels), queries.copy()
    for name in sorted(set(labels)):
        place = np.flatnonzero(label == name)
        chosen[place] = queries[place[pick(uniform(key, _RESAMPLE, place), len(place))]]
    return chosen


def _features(known: ModelTaskSource, labels: Sequence[str]) -> NDArray[np.float32]:
    """``(Q, F)`` class flags of queries; a class that the simulator does not know counts as a bit of each."""
    place = {column.name.removeprefix("task.class."): i for i, column in enumerate(known.columns)}
    rows = np.full((len(labels), len(place)), 1.0 / len(place), np.float32)
    for q, label in enumerate(labels):
        at = place.get(safe_name(label), place.get("all", place.get("other")))
        if at is not None:
            rows[q] = np.arange(len(place)) == at
    return rows


def replay(
    fitted: Fitted, table: RecordedTable, queries: I64, prizes: Sequence[float], *, repeats: int, draws: int
) -> tuple[F64, F64]:
    """Let a policy answer recorded queries.

    Returns:
        ``(P, Q)`` expected cost in USD and chance of success, over ``draws`` orders of the recorded samples, which
        are the same for every prize.
    """
    shape = (len(queries), draws)
    at_once = max(1, _LANES // (len(queries) * draws))
    cost, success = np.zeros((len(prizes), len(queries))), np.zeros((len(prizes), len(queries)))
    for first in range(0, len(prizes), at_once):
        chunk = np.asarray(prizes[first : first + at_once])
        query = np.tile(np.repeat(queries, draws), len(chunk))
        source = ReplaySource(fitted.known, table, fitted.configs, query, fitted.features[query], repeats)
        core = AttemptCore(
            fitted.scenarios[0], len(query), source=source, belief=fitted.belief, profile="clean", split="eval"
        )
        core.seed(core.all_lanes, np.tile(np.arange(len(queries) * draws), len(chunk)))
        core.begin(core.all_lanes, 0)
        won, paid, _ = play_out(core, fitted.policy, 1.0 / np.repeat(chunk, len(queries) * draws))
        part = slice(first, first + len(chunk))
        cost[part] = paid.reshape(len(chunk), *shape).mean(axis=2)
        success[part] = won.reshape(len(chunk), *shape).mean(axis=2)
    return cost, success


def score_fitted(
    table: RecordedTable,
    configs: Sequence[int],
    train: I64,
    test: I64,
    fit: Attempts,
    prizes: Sequence[float],
    *,
    methods: Sequence[str],
    repeats: int,
    options: TrainedOptions | None,
    seed: int,
) -> tuple[dict[str, tuple[F64, F64]], F64]:
    """Fit to some queries and score on others: ``(P, Q)`` expected cost and success per method, ``(Q, 2)`` foresight.

    Args:
        table: recorded runs.
        configs: indices of the portfolio's configurations.
        train: queries to fit to.
        test: queries to score on.
        fit: the training queries' runs of the portfolio, which set the range of prices trained on.
        prizes: values of a success in USD.
        methods: ``belief``, ``trained``, or both; they share the simulators.
        repeats: calls of one configuration at most.
        options: how to fit; None takes the defaults.
        seed: of the resampled queries and of the training.
    """
    chosen = options or TrainedOptions()
    per_usd = price_range(fit, prizes)
    fitted = fit_on(table, configs, train, repeats=repeats, per_usd=per_usd, options=chosen, seed=seed)
    found = {}
    for name in methods:
        one = fitted if name == "belief" else train_in(fitted, steps=chosen.steps, seed=seed)
        found[name] = replay(one, table, test, prizes, repeats=repeats, draws=chosen.draws)
    return found, foresight(fitted.scenarios[0], table, configs, test)
