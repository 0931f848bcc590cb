"""Measuring the published claims, and the page that shows them beside our figures (``docs/claims.md``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..extras import MissingExtraError
from ..scenarios.loading import load_scenario
from .artefact import brownout_version
from .claim_evidence import LABELS, Evidence, Figure
from .claim_list import CLAIMS, Claim

_WORDS = {True: "yes", False: "no", None: "open"}


@dataclass(frozen=True)
class Finding:
    """A claim with our figures.

    Args:
        claim: what was measured.
        figures: ours; empty when nothing could be measured.
        holds: by place, whether the figures agree with the claim; None where they cannot tell.
        missing: what could not be measured and why, in sentences.
    """

    claim: Claim
    figures: tuple[Figure, ...]
    holds: Mapping[str, bool | None]
    missing: tuple[str, ...]

    @property
    def verdicts(self) -> list[str]:
        """Whether the claim holds, place by place, for people."""
        return [f"{place}: {_WORDS[held]}" for place, held in self.holds.items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; undefined numbers become None."""
        about = {key: value for key, value in vars(self.claim).items() if isinstance(value, str)}
        rows = [
            {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in asdict(figure).items()}
            for figure in self.figures
        ]
        return {**about, "figures": rows, "holds": dict(self.holds), "missing": list(self.missing)}


def measure_claims(
    evidence: Evidence, progress: Callable[[str], None] = lambda text: None, claims: Sequence[Claim] = CLAIMS
) -> list[Finding]:
    """Measure claims; what cannot be measured says why.

    Args:
        evidence: tables and scenarios.
        progress: told which claim is being measured.
        claims: which.

    Raises:
        TableError: if a table in the folder cannot be used.
    """
    findings = []
    for claim in claims:
        progress(claim.id)
        missing: list[str] = []
        try:
            figures = claim.measure(evidence)
        except MissingExtraError as error:
            figures = ()
            missing.append(f"not measured: {error}")
        if claim.recorded:
            missing += [
                f"{label}: not measured; give a folder that holds {name}.parquet or {name}.csv (--data)"
                for name, label in LABELS.items()
                if evidence.table(name) is None
            ]
        places = dict.fromkeys(figure.where for figure in figures)
        holds = {place: claim.holds([f for f in figures if f.where == place]) for place in places}
        findings.append(Finding(claim, figures, holds, tuple(missing)))
    return findings


def stamps(evidence: Evidence) -> dict[str, str]:
    """What the figures depend on: version, scenarios, tables, sizes."""
    found = {"brownout": brownout_version()}
    found |= {f"scenario `{name}`": load_scenario(name).hash for name in ("browsecomp", "overnight-loop")}
    for name in LABELS:
        runs = evidence.table(name)
        if runs is not None:
            q, k, r = runs.right.shape
            found[f"table `{name}`"] = f"{q} tasks, {k} configurations with {r} runs each"
    return found | {"simulated tasks": f"{evidence.tasks:,}", "training steps": f"{evidence.steps:,}"}


def to_markdown(findings: Sequence[Finding], evidence: Evidence) -> str:
    """The page, whole."""
    lines = [
        "# Published claims beside our figures",
        "",
        "Written by `brownout claims --data DIR --out docs/claims.md`; do not edit. DIR holds recorded tables (see",
        "[own-table.md](own-table.md)); without it the claims are measured on the built-in scenarios only.",
        "",
        "Intervals are 95 %: bootstrap over tasks, and in the last claim those of [evaluate.md](evaluate.md). The",
        "judge is perfect unless said otherwise, so success means that a right answer was among those bought.",
        "Whatever is chosen by looking at outcomes is chosen on other tasks than it is scored on. Simulated",
        "figures say what a scenario implies, not what is true of the models in it.",
        "",
        "| claim | published | ours | agrees |",
        "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for finding in findings:
        claim = finding.claim
        ours = "<br>".join(f"{f.text}, {f.where}" for f in _headline(finding)) or "not measured"
        agrees = "<br>".join(finding.verdicts) or "open"
        lines.append(f"| [{claim.claim}](#{_anchor(claim.claim)}) | {claim.published} | {ours} | {agrees} |")
    for finding in findings:
        lines += ["", *_section(finding)]
    lines += ["", "## Measured with", "", "| what | value |", "| --- | --- |"]
    lines += [stamp(name, value) for name, value in stamps(evidence).items()]
    return "\n".join(lines) + "\n"


def _anchor(heading: str) -> str:
    """The anchor that Markdown viewers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _headline(finding: Finding) -> list[Figure]:
    seen: dict[str, Figure] = {}
    for figure in finding.figures:
        if figure.what.startswith(finding.claim.key):
            seen.setdefault(figure.where, figure)
    return list(seen.values())


def _section(finding: Finding) -> list[str]:
    claim = finding.claim
    lines = [
        f"## {claim.claim}", "",
        f"**Published:** {claim.published}. {claim.source}. {claim.note}", "",
        f"**How:** {claim.how}", "",
    ]  # fmt: skip
    if finding.figures:
        lines += ["| figure | measured on | ours |", "| --- | --- | --- |", *map(row, finding.figures), ""]
    if finding.holds:
        lines += [f"**Agrees** if {claim.rule}. {'; '.join(finding.verdicts)}.", ""]
    if finding.missing:
        lines += [*(f"- {text}" for text in finding.missing), ""]
    return [*lines, f"**Why:** {claim.why}"]


def row(figure: Figure) -> str:
    """The line of one figure on the page."""
    return f"| {figure.what} | {figure.where} | {figure.text} |"


def stamp(name: str, value: str) -> str:
    """The line of one entry of :func:`stamps` on the page."""
    return f"| {name} | {value} |"
