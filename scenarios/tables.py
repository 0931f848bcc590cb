"""Tables of recorded agent runs, as dense arrays for replay.

One row per (query, configuration, sample). Required columns: ``query_id``, ``config``, ``sample``,
``success`` (0/1, or a share in [0, 1]), ``cost_usd``, ``latency_s``. Optional: ``score``, ``tokens_in``,
``tokens_out``, ``failure_mode``. Other columns that were known before any call are features. Rows may come
in any order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TableError
from .columns import Column
from .table_features import encode_features
from .table_fill import Rule, check_rules, failure_statuses, fill_missing
from .table_io import F64, I64, Columns, bad_value, listed, near, numbers, read_columns, require, text_codes

Split = Literal["train", "eval", "all"]

_MEASURES = ("cost_usd", "latency_s")
_INF = float("inf")


@dataclass(frozen=True)
class ConfigSummary:
    """Means of one configuration's runs on one split: success in [0, 1], USD, seconds."""

    config: str
    success: float
    cost_usd: float
    latency_s: float
    median_latency_s: float
    queries: int
    runs: int


@dataclass(frozen=True, eq=False)
class RecordedTable:
    """Recorded runs of ``K`` configurations on ``Q`` queries, up to ``R`` samples each.

    Made by :meth:`load` or :meth:`from_columns`. Queries are sorted by id, samples by their number; cells
    beyond ``n_samples`` hold NaN (status -1), so that reading one by mistake shows.

    Args:
        source: file, or what stands for it in messages.
        configs: ``K`` names, in the order chosen by the caller.
        query_ids: ``Q`` ids.
        success: ``(Q, K, R)`` share of success in [0, 1].
        score: ``(Q, K, R)`` graded score in [0, 1]; the success where a table has none, or has scores on
            another scale.
        cost_usd: ``(Q, K, R)`` USD.
        latency_s: ``(Q, K, R)`` seconds.
        status: ``(Q, K, R)`` int8 visible ``Status``. A run with ``success > 0`` delivered something and is
            OK, whatever its mode says.
        n_samples: ``(Q, K)`` recorded samples.
        features: ``(Q, F)`` float32, see ``table_features.py``.
        feature_columns: name, unit and range of each feature.
        skipped: columns that are no feature, with the reason.
        is_eval: ``(Q,)`` which queries are held out.
        dropped_queries: ids left out because a chosen configuration has no run on them.
        filled: number of values filled, by column.
        notes: what was decided about the data, in sentences.
    """

    source: str
    configs: tuple[str, ...]
    query_ids: tuple[str, ...]
    success: F64
    score: F64
    cost_usd: F64
    latency_s: F64
    status: NDArray[np.int8]
    n_samples: I64
    features: NDArray[np.float32]
    feature_columns: tuple[Column, ...]
    skipped: Mapping[str, str]
    is_eval: NDArray[np.bool_]
    dropped_queries: tuple[str, ...]
    filled: Mapping[str, int]
    notes: tuple[str, ...]

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> RecordedTable:
        """Read a Parquet (``.parquet``, ``.pq``) or CSV (``.csv``, ``.csv.gz``) file.

        Both go through pyarrow (``pip install 'brownout[data]'``), imported here. The options are those of
        :meth:`from_columns`.

        Raises:
            TableError: naming file, column, row, the value met and what is allowed.
        """
        path = Path(path)
        return cls.from_columns(read_columns(path), source=str(path), **options)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, ArrayLike],
        *,
        source: str = "table",
        configs: Sequence[str] | None = None,
        eval_fraction: float = 0.3,
        salt: str = "",
        features: Literal["auto"] | Sequence[str] = "auto",
        missing: Mapping[str, Rule] | None = None,
        failure_status: Mapping[str, str] | None = None,
        incomplete: Literal["drop", "keep"] = "drop",
    ) -> RecordedTable:
        """Build a table from columns in memory.

        Args:
            columns: one sequence per column, equally long.
            source: what to call the table in messages.
            configs: configurations to use, in this order; None takes all, sorted by name.
            eval_fraction: share of queries held out, by a hash of the query's id. A query's side depends on
                nothing else, so it stays when the table grows.
            salt: changes which queries are held out.
            features: ``auto`` for every column that can be one, or names.
            missing: how to fill a missing ``cost_usd`` (``config-median``, ``tokens`` or a number) or
                ``latency_s`` (``config-median`` or a number); without a rule a missing value is an error.
            failure_status: ``failure_mode`` -> status name, on top of ``FAILURE_STATUS``; the key ``other``
                takes every mode that is not known.
            incomplete: what to do with a query on which a chosen configuration has no run: ``drop`` it, or
                ``keep`` it with ``n_samples`` 0 there.

        Raises:
            TableError: naming file, column, row, the value met and what is allowed.
        """
        arrays = {name: _as_column(values) for name, values in columns.items()}
        missing = dict(missing or {})
        check_rules(missing)
        _check_options(eval_fraction, incomplete)
        # a measure that a number fills may be absent as a whole
        measured = [name for name in _MEASURES if not isinstance(missing.get(name), (int, float))]
        require(source, arrays, ("query_id", "config", "sample", "success", *measured))
        all_ids, all_query = text_codes(source, "query_id", arrays["query_id"])
        names, all_config = text_codes(source, "config", arrays["config"])
        chosen = _choose(source, names, configs)

        position = np.full(len(names), -1, dtype=np.int64)
        position[[names.index(name) for name in chosen]] = np.arange(len(chosen))
        rows = np.flatnonzero(position[all_config] >= 0)
        sample = _samples(source, arrays["sample"], rows)
        order = np.lexsort((sample, position[all_config[rows]], all_query[rows]))
        rows, sample = rows[order], sample[order]
        query, config = all_query[rows], position[all_config[rows]]
        _refuse_duplicates(source, rows, query, config, sample, all_ids, chosen)

        success = _column(source, "success", arrays, rows, 0.0, 1.0, "a number in [0, 1]")
        hollow = np.flatnonzero(np.isnan(success))
        if hollow.size:
            raise bad_value(source, "success", int(rows[hollow[0]]), None, "a number in [0, 1]")
        held_out = np.array([_is_eval(name, salt, eval_fraction) for name in all_ids])
        tokens = None
        if missing.get("cost_usd") == "tokens" and {"tokens_in", "tokens_out"} <= set(arrays):
            sides = [
                _column(source, name, arrays, rows, 0.0, _INF, "a number from 0")
                for name in ("tokens_in", "tokens_out")
            ]
            tokens = np.stack(sides, axis=1)
        measures: dict[str, F64] = {}
        filled: dict[str, int] = {}
        for name in _MEASURES:
            values = _column(source, name, arrays, rows, 0.0, _INF, "a finite number from 0")
            measures[name], filled[name] = fill_missing(
                source, name, values, rows, config, chosen, ~held_out[query], missing.get(name), tokens
            )
        notes = [f"{n} missing values of {k}: rule {missing[k]!r}" for k, n in filled.items() if n]
        score = _column(source, "score", arrays, rows, -_INF, _INF, "a finite number")
        if ((score < 0.0) | (score > 1.0)).any():
            reach = np.nanmax(np.abs(score))
            notes.append(f"the column score reaches {reach:g}, not a share; success is used instead")
            score = success
        score = np.where(np.isnan(score), success, score)
        status = failure_statuses(
            source, arrays["failure_mode"][rows].tolist() if "failure_mode" in arrays else [None] * len(rows),
            failure_status or {},
        )  # fmt: skip
        contradictory = (status != 1) & (success > 0.0)
        if contradictory.any():
            notes.append(f"{int(contradictory.sum())} runs with success > 0 and a failure_mode count as OK")
            status = np.where(contradictory, np.int8(1), status)

        n_samples = np.zeros((len(all_ids), len(chosen)), dtype=np.int64)
        np.add.at(n_samples, (query, config), 1)
        kept = _complete_queries(source, n_samples, chosen, incomplete)
        dropped = sorted(set(range(len(all_ids))) - set(kept.tolist()))
        if dropped:
            share = f"{len(dropped)} of {len(all_ids)}"
            notes.append(f"{share} queries dropped: a chosen configuration has no run on them")
        is_eval = held_out[kept]
        if is_eval.all() or (eval_fraction > 0.0 and not is_eval.any()):
            side = "train" if is_eval.all() else "eval"
            raise TableError(
                f"{source}: no {side} query among {len(kept)}; give more queries, or change salt={salt!r} or "
                f"eval_fraction={eval_fraction}"
            )
        encoded = encode_features(source, arrays, all_query, all_ids, kept, ~is_eval, features)

        start = np.concatenate(([True], (query[1:] != query[:-1]) | (config[1:] != config[:-1])))
        first = np.flatnonzero(start)
        place = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
        shape = (len(all_ids), len(chosen), int(place.max()) + 1)

        def dense(values: NDArray[Any], empty: float) -> NDArray[Any]:
            cube = np.full(shape, empty, dtype=values.dtype)
            cube[query, config, place] = values
            return _frozen(cube[kept])

        return cls(
            source=source,
            configs=tuple(chosen),
            query_ids=tuple(all_ids[i] for i in kept),
            success=dense(success, np.nan),
            score=dense(score, np.nan),
            cost_usd=dense(measures["cost_usd"], np.nan),
            latency_s=dense(measures["latency_s"], np.nan),
            status=dense(status, -1),
            n_samples=_frozen(n_samples[kept]),
            features=_frozen(encoded.values),
            feature_columns=encoded.columns,
            skipped=encoded.skipped,
            is_eval=_frozen(is_eval),
            dropped_queries=tuple(all_ids[i] for i in dropped),
            filled=filled,
            notes=tuple(notes),
        )

    def queries(self, split: Split = "all") -> I64:
        """Return the indices of the queries of a split."""
        if split not in ("train", "eval", "all"):
            raise TableError(f"{self.source}: split: got {split!r}; allowed: train, eval, all")
        if split == "all":
            return np.arange(len(self.query_ids))
        return np.flatnonzero(self.is_eval == (split == "eval"))

    @cached_property
    def digest(self) -> str:
        """Digest of everything that a replay reads, 16 hexadecimal digits."""
        names = repr((self.configs, self.query_ids, self.feature_columns))
        digest = hashlib.blake2b(names.encode(), digest_size=8)
        measures = (self.success, self.score, self.cost_usd, self.latency_s)
        for array in (*measures, self.status, self.features, self.is_eval):
            digest.update(repr(array.shape).encode() + array.tobytes())
        return digest.hexdigest()

    def config_summary(self, split: Split = "train") -> list[ConfigSummary]:
        """Summarise each configuration's runs on a split (all runs count alike); NaN where it has none."""
        chosen = self.queries(split)
        summaries = []
        for k, name in enumerate(self.configs):
            recorded = self._recorded(chosen, k)
            runs = int(recorded.sum())
            values = [array[chosen, k][recorded] for array in (self.success, self.cost_usd, self.latency_s)]
            success, cost, latency = (float(value.mean()) if runs else np.nan for value in values)
            median = float(np.median(values[-1])) if runs else np.nan
            queries = int(recorded.any(axis=1).sum())
            summaries.append(ConfigSummary(name, success, cost, latency, median, queries, runs))
        return summaries

    def intraclass_correlation(self, split: Split = "all") -> dict[str, float]:
        """Return how alike repeats of one configuration on one query are, by configuration.

        The one-way random-effects ANOVA estimate ICC(1), for unequal group sizes; 0 means that repeats are
        independent, 1 that they never differ. NaN without repeats or without variation.

        Source: Donner, "A review of inference procedures for the intraclass correlation coefficient in the
        one-way random effects model" (1986).
        """
        chosen = self.queries(split)
        cells = [(self.success[chosen, k], self._recorded(chosen, k)) for k in range(len(self.configs))]
        return {name: _icc(*cell) for name, cell in zip(self.configs, cells, strict=True)}

    def success_at_n(self, n: int, split: Split = "all", threshold: float = 0.5) -> dict[str, float]:
        """Return the probability that at least one of ``n`` samples succeeds, by configuration.

        Unbiased: 1 - C(m - c, n) / C(m, n) per query with ``c`` successes in ``m >= n`` samples, averaged
        over those queries; NaN when there is none. A graded success counts from ``threshold``.

        Source: Chen et al., "Evaluating large language models trained on code" (2021).
        """
        if n < 1:
            raise TableError(f"{self.source}: success_at_n: got n={n!r}; allowed: a number from 1")
        chosen = self.queries(split)
        result = {}
        for k, name in enumerate(self.configs):
            total = self.n_samples[chosen, k]
            wins = (self._recorded(chosen, k) & (self.success[chosen, k] >= threshold)).sum(axis=1)
            wins, total = wins[total >= n], total[total >= n]
            miss = np.ones(len(total))
            for i in range(n):
                miss *= np.maximum(total - wins - i, 0) / (total - i)
            result[name] = float(1.0 - miss.mean()) if len(total) else float("nan")
        return result

    def _recorded(self, queries: I64, k: int) -> NDArray[np.bool_]:
        """``(len(queries), R)`` mask of the cells that hold a run."""
        return np.arange(self.success.shape[2]) < self.n_samples[queries, k][:, None]


def _as_column(values: ArrayLike) -> NDArray[Any]:
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    # text with empty cells would become the text 'nan' or 'None'
    return np.array(values, dtype=object) if array.dtype.kind in "US" else array


def _check_options(eval_fraction: float, incomplete: str) -> None:
    if not 0.0 <= eval_fraction < 1.0:
        raise TableError(f"eval_fraction: got {eval_fraction!r}; allowed: from 0 to below 1")
    if incomplete not in ("drop", "keep"):
        raise TableError(f"incomplete: got {incomplete!r}; allowed: drop, keep")


def _choose(source: str, names: Sequence[str], configs: Sequence[str] | None) -> list[str]:
    chosen = list(names if configs is None else configs)
    for name in chosen:
        if name not in names:
            hint = near(name, names)
            raise TableError(f"{source}: no configuration {name!r}{hint}; the table has: {listed(names, 60)}")
    twice = [name for name, count in Counter(chosen).items() if count > 1]
    if twice or not chosen:
        raise TableError(f"{source}: configs: got {chosen}; allowed: one or more names, each once")
    return chosen


def _column(source: str, name: str, arrays: Columns, rows: I64, low: float, high: float, allowed: str) -> F64:
    if name not in arrays:
        return np.full(len(rows), np.nan)
    return numbers(source, name, arrays[name], rows, low, high, allowed)


def _samples(source: str, column: NDArray[Any], rows: I64) -> I64:
    values = numbers(source, "sample", column, rows, 0.0, 2.0**53, "a whole number from 0")
    broken = np.flatnonzero(values != np.floor(values))
    if broken.size:
        row = int(rows[broken[0]])
        raise bad_value(source, "sample", row, column[row], "a whole number from 0")
    return values.astype(np.int64)


def _refuse_duplicates(
    source: str, rows: I64, query: I64, config: I64, sample: I64, ids: Sequence[str], configs: Sequence[str]
) -> None:
    same = (query[1:] == query[:-1]) & (config[1:] == config[:-1]) & (sample[1:] == sample[:-1])
    if same.any():
        at = int(np.flatnonzero(same)[0])
        raise TableError(
            f"{source}: rows {rows[at] + 1} and {rows[at + 1] + 1} are both sample {sample[at]} of query "
            f"{ids[query[at]]!r}, config {configs[config[at]]!r} ({int(same.sum())} duplicates in all); "
            "allowed: each (query_id, config, sample) once"
        )


def _complete_queries(source: str, n_samples: I64, configs: Sequence[str], incomplete: str) -> I64:
    covered = n_samples > 0
    kept = np.flatnonzero(covered.any(axis=1) if incomplete == "keep" else covered.all(axis=1))
    if not kept.size:
        least = int(covered.sum(axis=0).argmin())
        raise TableError(
            f"{source}: no query has runs of all {len(configs)} chosen configurations; {configs[least]!r} "
            f"covers {int(covered[:, least].sum())} of {len(covered)}. Leave it out, or use incomplete='keep'"
        )
    return kept


def _is_eval(query_id: str, salt: str, fraction: float) -> bool:
    digest = hashlib.blake2b(f"{salt}\0{query_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53 < fraction


def _icc(values: F64, recorded: NDArray[np.bool_]) -> float:
    values, recorded = values[recorded.any(axis=1)], recorded[recorded.any(axis=1)]
    size = recorded.sum(axis=1)
    groups, total = len(size), int(size.sum())
    if groups < 2 or total <= groups:
        return float("nan")
    filled = np.where(recorded, values, 0.0)
    means = filled.sum(axis=1) / size
    between = float((size * (means - filled.sum() / total) ** 2).sum()) / (groups - 1)
    within = float((np.where(recorded, values - means[:, None], 0.0) ** 2).sum()) / (total - groups)
    typical = (total - float((size**2).sum()) / total) / (groups - 1)
    spread = between + (typical - 1.0) * within
    return (between - within) / spread if spread > 0.0 else float("nan")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
