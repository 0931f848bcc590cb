"""From recorded runs to a scenario: tasks, portfolio, judge and faults, with how sure each number is.

A hundred queries, each run a few times by a few configurations, give a simulator that repeats the recorded
successes, their correlations, costs, latencies and failures; :class:`Calibration` holds the scenario, the
intervals of its numbers and, in sentences, what the table could not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from .effort_fit import fit_effort
from .failure_fit import fit_failures
from .fault_rates import fit_faults, is_answer, read_mapping
from .fitting import Interval, ResponseFit, fit_best_model
from .likelihood import Counts
from .loading import load_scenario
from .runs import Runs, Source, load_runs, safe_name
from .schema import RouterScenario, rates_below
from .spans import PriceTable
from .table_fill import Rule
from .table_io import listed

F64 = NDArray[np.float64]

SAMPLES: Final = 41
FEW: Final = 20
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Calibration:
    """A scenario fitted to recorded runs.

    Args:
        scenario: ready to train on and to play; profile ``production`` holds the recorded faults.
        runs: the runs it was fitted to.
        fit: the item-response model, with its own intervals and bootstrap.
        notes: what was assumed and what could not be identified, in sentences.
        rates: intervals of the judge's rates, of the faults' rates and of mean costs and latencies.
        shift: ``(K,)`` what was added to the fitted skills, so that the scenario's success rates are the recorded
            ones, logits.
    """

    scenario: RouterScenario
    runs: Runs
    fit: ResponseFit
    notes: tuple[str, ...]
    rates: Mapping[str, Interval]
    shift: F64

    @property
    def uncertainty(self) -> dict[str, Interval]:
        """95 % intervals of all fitted numbers by name; the first use computes those of the model."""
        return {**self.shifted(self.fit.intervals), **self.rates}

    def shifted(self, intervals: Mapping[str, Interval]) -> dict[str, Interval]:
        """Intervals of the model as they hold for the scenario, whose skills are shifted."""
        by = {
            f"margin.{name}.{group}": float(self.shift[k])
            for k, name in enumerate(self.fit.counts.configs)
            for group in self.fit.counts.classes
        }
        return {
            name: Interval(i.value + by[name], i.low + by[name], i.high + by[name], i.identified) if name in by else i
            for name, i in intervals.items()
        }

    def to_yaml(self) -> str:
        """The scenario as a file, its notes in front."""
        import yaml

        head = [f"# Fitted to {len(self.runs.query)} runs of {len(self.runs.table.query_ids)} queries."]
        head += [f"# - {' '.join(note.split())}" for note in self.notes]
        data = self.scenario.model_dump(mode="json", exclude_none=True)
        for name in ("judge", "repair", "person"):
            if getattr(self.scenario, name) is None:
                data[name] = None
        if self.scenario.tasks.kind == "model" and self.scenario.tasks.hint_sd is None:
            data["tasks"]["hint_sd"] = None
        data["profiles"] = self.scenario.profiles
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        return "\n".join([*head, text])

    def save(self, path: str | Path) -> Path:
        """Write :meth:`to_yaml` to a file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(self.to_yaml(), encoding="utf-8")
        temporary.replace(path)
        return path


def calibrate(
    table: Source,
    out: str | Path | None = None,
    *,
    class_column: str | None = None,
    configs: Sequence[str] | None = None,
    families: Mapping[str, str] | None = None,
    mapping: Path | Mapping[str, Any] | None = None,
    missing: Mapping[str, Rule] | None = None,
    prices: PriceTable | None = None,
    queries: Sequence[str] | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Calibration:
    """Fit a scenario to recorded runs.

    Args:
        table: Parquet, CSV, spans as JSON lines, or columns in memory (see ``docs/calibrate.md``).
        out: YAML file to write.
        class_column: column with the class of each query; classes get their own difficulty and skills.
        configs: configurations to use, in this order; None takes all.
        families: family of each configuration; None takes the column ``family`` or guesses by name.
        mapping: failure modes to faults, a YAML file or a mapping; see :mod:`.fault_rates`.
        missing: rules for missing costs and latencies; by default they are left out of the distributions.
        prices: for spans, USD per million tokens (in, out) by model.
        queries: ids of the queries to use; None takes all.
        name: of the scenario; default from the file.
        seed: kept in the description, so that equal inputs give equal files; fitting draws nothing.

    Raises:
        TableError: naming file, column, row (or line), the value met and what is allowed.
    """
    mapped = read_mapping(mapping)
    answers = [mode for mode, entry in mapped.items() if is_answer(entry)]
    runs = load_runs(
        table, configs=configs, class_column=class_column, families=families, answers=answers,
        modes=[mode for mode, entry in mapped.items() if not is_answer(entry)], missing=missing, prices=prices,
    )  # fmt: skip
    if queries is not None:
        runs = _only(runs, queries)
    fit = fit_best_model(counts_of(runs))
    label = name or (Path(table).name.split(".")[0] if isinstance(table, (str, Path)) else "calibrated")
    calibration = _assemble(runs, fit, mapped, safe_name(label), seed)
    if out is not None:
        calibration.save(out)
    return calibration


def counts_of(runs: Runs) -> Counts:
    """What the model of answers is fitted to: runs that did not fail visibly, and those of them that were right."""
    answered = ~runs.visible
    return Counts(
        config_names(runs.table.configs), runs.families, runs.classes, runs.query_class,
        runs.tally(answered), runs.tally(answered & runs.success),
    )  # fmt: skip


def config_names(configs: Sequence[str]) -> tuple[str, ...]:
    """Names that a scenario allows, in order.

    Raises:
        TableError: if two configurations would get one name.
    """
    names = tuple(safe_name(config) for config in configs)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(
            f"configurations with names that differ only in signs: {listed(twice)}; rename them in the table"
        )
    return names


def _only(runs: Runs, queries: Sequence[str]) -> Runs:
    """The runs of some queries."""
    from dataclasses import replace

    known = {query: i for i, query in enumerate(runs.table.query_ids)}
    lacking = [query for query in queries if query not in known]
    if lacking or not queries:
        raise TableError(
            f"queries: {listed(map(repr, lacking)) or 'none'} not in the table, which has {len(known)} queries"
        )
    wanted = np.isin(runs.query, [known[query] for query in queries])
    kept = np.unique(runs.query[wanted])
    place = np.full(len(known), -1)
    place[kept] = np.arange(len(kept))
    table = replace(
        runs.table, query_ids=tuple(runs.table.query_ids[i] for i in kept),
        **{f: getattr(runs.table, f)[kept] for f in (
            "success", "score", "cost_usd", "latency_s", "status", "n_samples", "features", "is_eval")},
    )  # fmt: skip
    per_run = ("config", "success", "cost_usd", "latency_s", "mode", "visible", "accept")
    return replace(
        runs, table=table, query=place[runs.query[wanted]], query_class=runs.query_class[kept],
        **{f: getattr(runs, f)[wanted] for f in per_run},
    )  # fmt: skip


def _assemble(runs: Runs, fit: ResponseFit, mapped: Any, name: str, seed: int) -> Calibration:
    names, classes = fit.counts.configs, fit.counts.classes
    notes = [*runs.notes, *fit.notes]
    rates: dict[str, Interval] = {}
    faults = fit_faults(runs, mapped, names)
    effort = fit_effort(runs, fit, (faults.pays, faults.waits))
    failures = fit_failures(runs, fit, mapped)
    rates.update({**effort.intervals, **failures.intervals})
    share = fit.counts.share
    shift, note = _skill_shift(runs, fit)
    notes += [note] if note else []
    right = runs.success | runs.visible
    portfolio: dict[str, Any] = {}
    for k, config in enumerate(names):
        mine = runs.config == k
        entry: dict[str, Any] = {"family": runs.families[k]}
        skill = {c: round(float(fit.skill[k, i] + shift[k]), 3) for i, c in enumerate(classes)}
        entry["skill"] = skill if len(skill) > 1 else next(iter(skill.values()))
        factors = [round(float(factor), 3) for factor in effort.wrong[k]]
        for column, values, usual, factor in (
            ("cost_usd", runs.cost_usd, faults.pays, factors[0]),
            ("latency_s", runs.latency_s, faults.waits, factors[1]),
        ):
            known = mine & usual & ~np.isnan(values)
            base = np.where(right, values, values / factor)
            entry[column], note = _distribution(base[known], f"{config}: {column}")
            notes += [note] if note else []
            if known.any():
                rates[f"{column}.{config}"] = _mean(values[known], runs.query[known])
        if factors != [1.0, 1.0] or failures.fails[k]:
            entry["wrong"] = {"cost_factor": factors[0], "latency_factor": factors[1], "fails": failures.fails[k]}
        if fit.ratio is not None:
            entry["latent_sd"] = round(float(fit.latent_sd[k]), 3)
        portfolio[config] = entry
    if effort.effort is None:
        notes.append("costs and times of calls on one task are drawn apart: there are too few runs to tell more")
    judge, judge_rates, note = _judge(runs)
    notes += [note, *faults.notes]
    rates.update(judge_rates)
    rates.update(faults.rates)
    usd = np.array([_middle(runs.cost_usd[runs.config == k], 0.5, np.mean) for k in range(len(names))])
    late = np.array(
        [_middle(runs.latency_s[runs.config == k], 1.0, lambda v: np.quantile(v, 0.95)) for k in range(len(names))]
    )
    rate = np.array([fit.counts.successes[:, k].sum() / fit.counts.runs[:, k].sum() for k in range(len(names))])
    prize = _round(3.0 * float(usd[rate.argmax()]) / max(float(rate.max()), 0.02)) or 1.0
    notes.append(
        "limits, reward and person are no part of a table: the budget is four of the dearest calls, a right answer is "
        f"worth three times what the best configuration spends on one (${prize:g}), nobody stands behind it; edit them"
    )
    sds = [round(sd, 3) for sd in fit.sds]
    data = {
        "version": 1,
        "name": name,
        "description": f"Fitted to {len(runs.query)} recorded runs of {len(runs.query_class)} queries (seed {seed}).",
        "env": "router",
        "tasks": {
            "kind": "model",
            "classes": {c: round(float(share[i]), 4) for i, c in enumerate(classes)},
            "difficulty": {c: [round(float(fit.difficulty[i]), 3), sds[0]] for i, c in enumerate(classes)},
            "family_sd": sds[1],
            "configuration_sd": sds[2],
            "hint_sd": None,
            "ceiling": None if fit.ceiling is None else round(fit.ceiling, 3),
            "effort": _together(effort.effort, failures.sharing),
        },
        "portfolio": portfolio,
        "judge": judge,
        "repair": None,
        "person": None,
        "limits": {
            "budget_usd": _round(4.0 * float(usd.max())) or 1.0,
            "deadline_s": _round(4.0 * float(late.max())) or 60.0,
        },
        "reward": {"accuracy": prize, "per_usd": 1.0, "wrong_answer": -prize / 2.0, "handoff": 0.0},
        "profiles": {"clean": [], "production": faults.specs},
    }
    scenario = load_scenario(data)
    assert isinstance(scenario, RouterScenario)
    return Calibration(scenario, runs, fit, tuple(notes), rates, shift)


def _together(effort: dict[str, Any] | None, failure: dict[str, float] | None) -> dict[str, Any] | None:
    return effort if failure is None else {**(effort or {}), "failure": failure}


def _round(value: float, digits: int = 2) -> float:
    return float(f"{value:.{digits}g}")


def _middle(values: F64, empty: float, of: Any) -> float:
    known = values[~np.isnan(values)]
    return float(of(known)) if known.size else empty


def _distribution(values: F64, where: str) -> tuple[Any, str]:
    """A distribution as a scenario writes it, and what to say about it.

    Many values become ``SAMPLES`` quantiles, equally spaced in probability, the last one placed so that the
    mean is kept; few become a log-normal of the same mean and spread.
    """
    if not values.size:
        return 0.0, f"{where} has no recorded value; 0 is assumed"
    values = np.sort(values)
    if values[0] == values[-1]:
        return _round(float(values[0]), 6), ""
    if len(values) < FEW and values[0] > 0.0:
        spread = min(4.0, float(np.log(values).std(ddof=1)))
        return {
            "mean": _round(float(values.mean()), 4),
            "spread": _round(spread, 3),
        }, f"{where} has {len(values)} values; a log-normal is assumed"
    points = np.quantile(values, np.linspace(0.0, 1.0, SAMPLES)) if len(values) > SAMPLES else values
    # the trapezoid rule over equally spaced quantiles is the mean of what is sampled
    rest = points[0] / 2.0 + points[1:-1].sum()
    points[-1] = np.clip(2.0 * (values.mean() * (len(points) - 1) - rest), points[-2], max(points[-1], values[-1]))
    return {"samples": [_round(float(v), 4) for v in points]}, ""


def _mean(values: F64, query: NDArray[np.int64]) -> Interval:
    """Mean with a cluster-robust interval, queries being the clusters."""
    mean = float(values.mean())
    sums = np.bincount(query, weights=values - mean)
    groups = len(np.unique(query))
    if groups < 2:
        return Interval(mean, float("-inf"), float("inf"))
    half = _Z95 * float(np.sqrt(groups / (groups - 1) * (sums @ sums))) / len(values)
    return Interval(mean, mean - half, mean + half)


def _skill_shift(runs: Runs, fit: ResponseFit) -> tuple[F64, str]:
    """Shift of each configuration's skill that makes its simulated success rate the recorded one, logits.

    The fit leaves a gap where the model is too simple: recorded failures sit on hard queries, where little
    success was to be lost, while the faults of a scenario strike anywhere; and one spread for all configurations
    may be too much for some. A configuration that was not run on (nearly) all queries is left as it is: its own
    rate is that of other queries.
    """
    from scipy.optimize import brentq

    shift = np.zeros(len(fit.counts.configs))
    rest = np.sqrt(fit.sds[1] ** 2 + fit.latent_sd**2)
    highest = np.inf if fit.ceiling is None else fit.ceiling
    for k in range(len(shift)):
        total = runs.tally(runs.config == k)[:, k]
        if (total > 0).mean() < 0.95:
            continue
        right, failed = (runs.tally((runs.config == k) & rows)[:, k] for rows in (runs.success, runs.visible))
        share = np.maximum(total, 1)
        # every query counts alike, as every task of the scenario does
        recorded, lost = (right / share)[total > 0].mean(), (failed / share)[total > 0].mean()
        target = float(np.clip(recorded / max(1.0 - lost, 1e-9), 0.005, 0.995))

        def excess(by: float, k: int = k, target: float = target) -> float:
            at = [
                rates_below(fit.margin[k, [c]] + by, fit.sds[0], rest[[k]], highest - d)[0]
                for c, d in enumerate(fit.difficulty)
            ]
            return float(fit.counts.share @ np.array(at)) - target

        if excess(-2.0) <= 0.0 <= excess(2.0):
            root: Any = brentq(excess, -2.0, 2.0, xtol=1e-4)
            shift[k] = float(root)
    moved = [f"{fit.counts.configs[k]} {shift[k]:+.2f}" for k in np.flatnonzero(np.abs(shift) >= 0.1)]
    if not moved:
        return shift, ""
    return shift, (
        f"skills are shifted, by {listed(moved, 8)} logits, so that success with faults on is the recorded one; "
        "recorded failures prefer certain queries, those of a scenario do not, so the profile clean may be too rosy"
    )


def _judge(runs: Runs) -> tuple[dict[str, Any], dict[str, Interval], str]:
    judged = ~np.isnan(runs.accept) & ~runs.visible
    if not judged.any():
        return {}, {}, "no judge was recorded: the judge's rates, price and time are the schema's defaults"
    entry: dict[str, Any] = {}
    found: dict[str, Interval] = {}
    for name, rows in (("true_positive", judged & runs.success), ("false_positive", judged & ~runs.success)):
        if not rows.any():
            found[f"judge.{name}"] = Interval(float("nan"), 0.0, 1.0, False)
            continue
        rate = _mean(runs.accept[rows], runs.query[rows])
        n = int(rows.sum())
        # at the ends the robust error is 0: fall back to the rule of three
        slack = 3.0 / n if rate.low == rate.high else 0.0
        found[f"judge.{name}"] = Interval(rate.value, max(0.0, rate.low - slack), min(1.0, rate.high + slack))
        entry[name] = round(rate.value, 4)
    note = f"the judge's rates come from {int(judged.sum())} verdicts; its price and time are the schema's defaults"
    lacking = [name for name in ("true_positive", "false_positive") if name not in entry]
    if lacking:
        note += f"; {' and '.join(lacking)} could not be seen"
    return entry, found, note
