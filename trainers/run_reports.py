"""Reports of stress runs and comparisons: what a folder holds, and which files are written about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from ..errors import ArtefactError, StressError
from .artefact import write_text
from .gate import judge
from .shadow import SHADOW_FILE
from .stress_files import REPORT_NAMES
from .stress_report import REPORT_FILE
from .stress_rows import ROWS_FILE

Kind = Literal["training", "stress", "shadow"]
_ENDINGS: Final = {".html": "html", ".htm": "html", ".md": "md", ".json": "json", ".xml": "junit"}


def kind_of(run: str | Path) -> Kind:
    """What a folder holds: a comparison, a stress run, or else a training."""
    run = Path(run)
    if (run / SHADOW_FILE).is_file() or run.name == SHADOW_FILE:
        return "shadow"
    if any((run / name).is_file() for name in (REPORT_FILE, ROWS_FILE)) or run.name == REPORT_FILE:
        return "stress"
    return "training"


def targets(run: str | Path, out: str | Path | None = None, formats: Sequence[str] = ()) -> dict[str, Path]:
    """Which file each format goes to.

    Args:
        run: run folder, where files go without ``out``.
        out: a file, or with several formats a folder.
        formats: ``html``, ``md``, ``json``, ``junit``; none: by the file's ending, else ``html``.

    Raises:
        StressError: a format is not known, or several shall go into one file.
    """
    for name in formats:
        if name not in REPORT_NAMES:
            raise StressError(f"--format {name!r}: allowed: {', '.join(REPORT_NAMES)}")
    home = Path(run) if Path(run).is_dir() else Path(run).parent
    if out is None:
        return {name: home / REPORT_NAMES[name] for name in formats or ("html",)}
    out = Path(out)
    if out.is_dir() or (len(formats) > 1 and not out.suffix):
        return {name: out / REPORT_NAMES[name] for name in formats or ("html",)}
    if len(formats) > 1:
        raise StressError(f"--out {str(out)!r}: one file for {len(formats)} formats; give a folder")
    if not formats and out.suffix not in _ENDINGS:
        raise StressError(f"--out {str(out)!r}: allowed endings: {', '.join(_ENDINGS)}; or say --format")
    return {formats[0] if formats else _ENDINGS[out.suffix]: out}


def write_run_reports(
    run: str | Path,
    out: str | Path | None = None,
    *,
    formats: Sequence[str] = (),
    gate: str | Path | None = None,
    baseline: str | Path | None = None,
    beside: Iterable[str | Path] = (),
) -> list[Path]:
    """Write reports about a stress run or a comparison.

    Args:
        run: folder of ``brownout stress`` or ``brownout shadow``.
        out: a file, or with several formats a folder; default: into ``run``.
        formats: see :func:`targets`.
        gate: file of a gate, whose verdict is shown.
        baseline: run that the gate compares with; default: as its file says.
        beside: further stress runs.

    Returns:
        the files written.

    Raises:
        StressError: an option does not fit the run.
        GateError, ArtefactError: a file cannot be used.
        MissingExtraError: for a page, without jinja2 or matplotlib.
    """
    run, beside = Path(run), tuple(beside)
    files = targets(run, out, formats)
    if kind_of(run) == "shadow":
        if gate is not None or baseline is not None or beside:
            raise StressError(f"{run}: a comparison takes no gate and no other runs; report on one of its runs instead")
        makers = _of_shadow(run)
    else:
        makers = _of_stress(run, gate, baseline, beside)
    texts = {path: makers[name]() for name, path in files.items()}  # all first: a failure leaves no half
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise ArtefactError(f"{path}: cannot write the report: {error}") from error
    return list(texts)


def _of_stress(
    run: Path, gate: str | Path | None, baseline: str | Path | None, beside: Iterable[str | Path]
) -> dict[str, Callable[[], str]]:
    from .stress_documents import stress_json, stress_junit, stress_markdown
    from .stress_findings import find
    from .stress_page import stress_html

    if gate is None and baseline is not None:
        raise StressError("--baseline: for a gate; give --gate, or --beside to show another run")
    verdict = None if gate is None else judge(gate, run, baseline)
    found = find(run, verdict, beside)
    makers = {"html": stress_html, "md": stress_markdown, "json": stress_json, "junit": stress_junit}
    return {name: lambda make=make: make(found) for name, make in makers.items()}


def _of_shadow(run: Path) -> dict[str, Callable[[], str]]:
    from .shadow_documents import find_shadow, shadow_html, shadow_json, shadow_junit, shadow_markdown

    found = find_shadow(run)
    makers = {"html": shadow_html, "md": shadow_markdown, "json": shadow_json, "junit": shadow_junit}
    return {name: lambda make=make: make(found) for name, make in makers.items()}
