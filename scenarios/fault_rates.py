"""From recorded failure modes to fault plans: which effect each mode is, and how often it strikes whom.

The mapping is data that its user can edit: ``mode: {fault: NAME, parameters...}``, ``mode: answer`` for a mode that
is the model's own wrong answer, or ``mode: {answer: STATUS}`` for one that shows. Parameters that are not given are
fitted: how long the caller waited, and how much of the price was billed all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError, TableError
from ..faults.base import CallEffect, Stage
from ..faults.calls import Status
from ..faults.registry import lookup
from .fitting import Interval
from .runs import Runs
from .schema import FAILED_STATUSES
from .table_fill import FAILURE_STATUS

Bools = NDArray[np.bool_]
ANSWER: Final = "answer"

# a status or a known mode -> the effect that looks like it
FAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "timeout": {"fault": "timeout"},
    "reset": {"fault": "connection-reset"},
    "server-error": {"fault": "server-error", "code": 500},
    "bad-gateway": {"fault": "server-error", "code": 502},
    "unavailable": {"fault": "server-error", "code": 503},
    "rate-limited": {"fault": "outage", "status": "rate-limited"},
    "unexpected": {"fault": "unexpected-status"},
    "malformed": {"fault": "malformed-body"},
    "empty": {"fault": "empty-result"},
    "partial": {"fault": "outage", "status": "partial"},
    "refused": {"fault": "refusal"},
    "context_overflow": {"fault": "unexpected-status", "code": 400},
    "provider_4xx": {"fault": "unexpected-status", "code": 400},
    "other_exception": {"fault": "unexpected-status", "code": 520},
}

Mapped = dict[str, dict[str, Any] | str]


def is_answer(entry: dict[str, Any] | str) -> bool:
    """Whether an entry of the mapping makes a mode a wrong answer, shown or not."""
    return ANSWER in entry


def read_mapping(source: Path | Mapping[str, Any] | None) -> Mapped:
    """Read the mapping of failure modes, on top of what is known.

    Raises:
        TableError: for an unreadable file, or an entry that is neither a fault nor an answer.
    """
    import yaml

    data: Any = source or {}
    where = "mapping"
    if isinstance(source, Path):
        where = str(source)
        try:
            data = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise TableError(f"{where}: not a readable YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise TableError(f"{where}: got {type(data).__name__}; allowed: failure_mode: {{fault: NAME, ...}} or 'answer'")
    words = {status.word for status in Status}
    known: Mapped = {
        mode: dict(FAULTS[FAILURE_STATUS[mode]]) for mode in FAILURE_STATUS if FAILURE_STATUS[mode] in FAULTS
    }
    known.update({mode: dict(entry) for mode, entry in FAULTS.items()})
    known.update({word.replace("-", "_"): dict(FAULTS[word]) for word in words if word in FAULTS})
    for mode, entry in data.items():
        if entry == ANSWER:
            known[str(mode)] = ANSWER
        elif isinstance(entry, Mapping) and isinstance(entry.get("fault"), str) and not {"id", "when"} & set(entry):
            try:
                lookup(entry["fault"])
            except FaultError as error:
                raise TableError(f"{where}: {mode}: {error}") from None
            known[str(mode)] = dict(entry)
        elif isinstance(entry, Mapping) and set(entry) == {ANSWER} and entry[ANSWER] in FAILED_STATUSES:
            known[str(mode)] = dict(entry)
        else:
            raise TableError(
                f"{where}: {mode}: got {entry!r}; allowed: {{fault: NAME, parameters...}} or 'answer'; `when` and `id` "
                f"are fitted. {{answer: STATUS}} is a wrong answer that shows, as one of {', '.join(FAILED_STATUSES)}"
            )
    return known


@dataclass(frozen=True, eq=False)
class FaultFit:
    """Faults fitted to recorded failures.

    Args:
        specs: fault specifications for a profile.
        rates: interval of each rate, ``fault.CONFIG.MODE``.
        notes: what to know about them, in sentences.
        pays: runs whose cost is one of the configuration's usual costs: all that answered, and failed ones that
            are billed in full.
        waits: the same for latency.
    """

    specs: list[dict[str, Any]]
    rates: dict[str, Interval]
    notes: list[str]
    pays: Bools
    waits: Bools


def fit_faults(runs: Runs, mapped: Mapped, names: tuple[str, ...]) -> FaultFit:
    """Fit a fault to every configuration and failure mode that occurred.

    A mode that comes back on the same query more often than by chance becomes
    ``sticky(p) & rate(r)``: a share ``p`` of episodes is affected and there each call fails with ``r``, matched
    to the share of failed runs and of failed pairs of runs. Otherwise it is ``rate(p)``.

    Args:
        runs: the recorded runs.
        mapped: from :func:`read_mapping`.
        names: name of each configuration in the scenario.
    """
    found = FaultFit([], {}, [], ~runs.visible, ~runs.visible)
    total = runs.tally(np.ones(len(runs.query), dtype=bool))
    for k, name in enumerate(names):
        mine = runs.config == k
        for mode in sorted(set(runs.mode[mine & runs.visible].tolist())):
            entry = mapped.get(mode) or mapped[mode.lower().replace("_", "-")]
            assert not isinstance(entry, str)
            rows = mine & runs.visible & (runs.mode == mode)
            failed = runs.tally(rows)[:, k]
            interval = clustered_rate(failed, total[:, k])
            found.rates[f"fault.{name}.{mode}"] = interval
            trigger = _trigger(failed, total[:, k], interval.value)
            parameters = _parameters(runs, rows, mine & ~runs.visible, entry, found)
            label = re.sub(r"[^\w.-]", "-", f"{mode}.{name}", flags=re.ASCII)
            found.specs.append({"id": label, **parameters, "when": f"{trigger} & on('{name}')"})
    if found.specs:
        found.notes.append(
            f"{runs.visible.mean():.1%} of the runs failed visibly; they strike as faults of the profile production, "
            "whatever the query, and are left out of the fit of skills: a run that never answered says nothing about "
            "the answer"
        )
        note = _clustering(runs)
        found.notes.extend([note] if note else [])
    return found


def clustered_rate(failed: NDArray[np.int64], count: NDArray[np.int64]) -> Interval:
    """Share of runs that failed; the interval is Wilson's at the effective sample size of clustered runs."""
    n = int(count.sum())
    p = float(failed.sum()) / n
    z = 1.959963984540054
    groups = int((count > 0).sum())
    residual = failed - p * count
    variance = float(residual @ residual) * groups / max(groups - 1, 1) / n**2
    effective = min(float(n), p * (1.0 - p) / variance) if variance > 0.0 else float(n)
    scale = 1.0 + z * z / effective
    centre = (p + z * z / (2 * effective)) / scale
    half = z / scale * float(np.sqrt(p * (1 - p) / effective + z * z / (4 * effective**2)))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def _trigger(failed: NDArray[np.int64], count: NDArray[np.int64], rate: float) -> str:
    """The trigger whose rate, and whose clustering on queries where there is any, are those recorded."""
    several = count > 1
    pairs = float((count * (count - 1))[several].sum())
    both = float((failed * (failed - 1))[several].sum()) / pairs if pairs else 0.0
    again = min(1.0, both / rate) if rate > 0.0 else 0.0
    if failed.sum() >= 5 and again > 2.0 * rate and again > 0.0:
        return f"sticky({min(1.0, rate / again):.4g}) & rate({again:.4g})"
    return f"rate({rate:.4g})"


def _parameters(runs: Runs, rows: Bools, answered: Bools, entry: Mapping[str, Any], fit: FaultFit) -> dict[str, Any]:
    """The entry with the parameters that it leaves open; marks in ``fit`` which runs pay and wait as usual."""
    cls = lookup(entry["fault"])
    known = {f.name for f in fields(cls)}  # pyright: ignore[reportArgumentType]
    spec = dict(entry)
    waited, usually = _known(runs.latency_s, rows, np.median), _known(runs.latency_s, answered, np.median)
    paid, usual = _known(runs.cost_usd, rows, np.mean), _known(runs.cost_usd, answered, np.mean)
    billed = min(1.0, paid / usual) if paid is not None and usual else None
    if billed is not None:
        whole = billed >= 0.9
        for name in ("applied", "cost_share"):
            if name in known and name not in spec:
                spec[name] = 1.0 if whole else round(billed, 3)
        fit.pays[rows] = spec.get("applied", spec.get("cost_share", 1.0 if _as_usual(known) else 0.0)) == 1.0
    if waited is not None and waited > 0.0:
        if "after_s" in known:
            spec.setdefault("after_s", float(f"{waited:.4g}"))
        if "latency_share" in known and usually:
            spec.setdefault("latency_share", round(min(1.0, waited / usually), 3))
        # an error that takes about as long as an answer takes the call's own time, with all its spread
        admitted = not (issubclass(cls, CallEffect) and cls.stage == Stage.ADMISSION)
        slow = usually is not None and waited >= 0.5 * usually and admitted
        if "latency_s" in known:
            spec.setdefault("latency_s", None if slow else float(f"{waited:.4g}"))
        fit.waits[rows] = _as_usual(known) or ("latency_s" in spec and spec["latency_s"] is None)
    return spec


def _as_usual(known: set[str]) -> bool:
    """Whether an effect has no say in price and time, so that the call's own count."""
    return not known & {"applied", "cost_share", "after_s", "latency_s", "latency_share"}


def _known(values: NDArray[np.float64], rows: Bools, of: Any) -> float | None:
    chosen = values[rows & ~np.isnan(values)]
    return float(of(chosen)) if chosen.size else None


def _clustering(runs: Runs) -> str:
    """Say how much of the visible failures sits on few queries, which independent faults do not reproduce."""
    per_query = np.sort(runs.tally(runs.visible).sum(axis=1))[::-1]
    top = max(1, len(per_query) // 10)
    share = per_query[:top].sum() / max(1, per_query.sum())
    if per_query.sum() < 20 or share < 0.3:
        return ""
    return (
        f"visible failures cluster: a tenth of the queries has {share:.0%} of them. Triggers see no difficulty, so in "
        "the scenario each configuration draws its own; map such a mode to 'answer' if it is the task's doing"
    )
