"""Evaluation tables for people: on a terminal and as Markdown."""

from __future__ import annotations

from textwrap import fill

from rich.console import Console
from rich.table import Table

from .evaluation import Evaluation, PolicyResult
from .statistics import Estimate
from .wide import wide

WRONG = ("wrong_answer", "silent_garbage", "duplicate_effect")  # what was said to be done and is not right


def _pm(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.half_width:.{digits}f}"


def headings(evaluation: Evaluation) -> list[str]:
    """Column headings of :func:`cells`."""
    names = ["policy", "utility", "success %", "handed over %", "wrong %", "cost $", "p95 $", "latency s", "p95 s"]
    if evaluation.ceiling is not None:
        names.insert(2, "of ceiling")
    elif evaluation.bound is not None:
        names.insert(2, "of oracle" if evaluation.bound_kind == "oracle" else "of bound")
    if evaluation.rows[0].quality is not None:
        names.insert(names.index("success %"), "quality")
    if len(evaluation.rows) > 1:
        names.append(f"{evaluation.rows[0].name} minus it")
    return names


def cells(evaluation: Evaluation, row: PolicyResult) -> list[str]:
    """The cells of one row, as text."""
    success, wrong = row.success, sum(row.outcomes.get(name, 0.0) for name in WRONG)
    out = [
        row.name,
        _pm(row.utility, 3),
        f"{100 * success.value:.1f} [{100 * success.low:.1f}, {100 * success.high:.1f}]",
        f"{100 * row.outcomes.get('escalated', 0.0):.1f}",
        f"{100 * wrong:.1f}",
        f"{row.cost_usd.value:.4f}",
        f"{row.cost_quantiles['p95'].value:.3f}",
        f"{row.latency_s.value:.1f}",
        f"{row.latency_quantiles['p95'].value:.0f}",
    ]
    if row.quality is not None:
        out.insert(2, _pm(row.quality, 3))
    share = row.share_of_bound if evaluation.ceiling is None else row.share_of_ceiling
    if share is not None:
        out.insert(2, f"{100 * share:.1f} %")
    if len(evaluation.rows) > 1:
        difference = row.against
        out.append(
            "" if difference is None else f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        )
    return out


def print_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print the table, best utility first, with what it was measured on."""
    console = console or Console()
    first = evaluation.rows[0]
    title = f"{evaluation.scenario}, profile {evaluation.profile}"
    if evaluation.intensity != 1.0:
        title += f" at intensity {evaluation.intensity:g}"
    table = Table(title=f"{title}: {first.episodes:,} {evaluation.split} episodes, the same for every policy")
    for i, name in enumerate(headings(evaluation)):
        heading = fill(name, 10, break_long_words=False, break_on_hyphens=False)  # as narrow as the figures below
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=True)
    for row in sorted(evaluation.rows, key=lambda r: -r.utility.value):
        table.add_row(*cells(evaluation, row), style="bold" if row is first else None)
    console = wide(console, 200)
    console.print(table)
    if evaluation.ceiling is not None:
        console.print(f"The optimum is {evaluation.ceiling:.4f} (exact).", highlight=False)
    elif evaluation.bound is not None and evaluation.bound_kind == "oracle":
        console.print(f"An oracle that sees what is hidden reaches {evaluation.bound:.3f} (no bound).", highlight=False)
    elif evaluation.bound is not None:
        console.print(
            f"Knowing every draw in advance would give {evaluation.bound:.3f} (the hindsight bound).",
            highlight=False,
        )
    if evaluation.clusters is not None:
        console.print(
            f"Episodes replay {evaluation.clusters} recorded queries; intervals are cluster-robust over queries.",
            highlight=False,
        )


def verdict(evaluation: Evaluation) -> str:
    """One sentence on the first policy against the others: ahead, behind, or not told apart."""
    first, others = evaluation.rows[0], evaluation.rows[1:]
    ahead = [r.name for r in others if r.against is not None and r.against.low > 0]
    behind = [r.name for r in others if r.against is not None and r.against.high < 0]
    open_ = [r.name for r in others if r.name not in ahead and r.name not in behind]
    parts = [f"{first.name} is better than {len(ahead)} of {len(others)} (paired 95 % interval above zero)"]
    if behind:
        parts.append(f"worse than {', '.join(behind)}")
    if open_:
        parts.append(f"not told apart from {', '.join(open_)}")
    return "; ".join(parts) + "."


def to_markdown(evaluation: Evaluation) -> str:
    """The table in Markdown."""
    names = headings(evaluation)
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in sorted(evaluation.rows, key=lambda r: -r.utility.value):
        lines.append("| " + " | ".join(cells(evaluation, row)) + " |")
    return "\n".join(lines)
