"""Pictures of the robustness studies, drawn with matplotlib (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

from pathlib import Path

from .drift import FROZEN, RETRAINED, DriftStudy
from .picture_style import GRID, HERO, INK, OTHER, WIDTH, label, legend, new_figure, save_png
from .sensitivity import Sensitivity


def draw_sensitivity(study: Sensitivity, path: Path) -> Path:
    """Draw utility against intensity, and beside it what each fault costs, with 95 % intervals.

    Args:
        study: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, (left, right) = new_figure(2 * WIDTH, columns=2)
    at = [row.intensity for row in study.intensities]
    left.plot(at, [row.utility.value for row in study.intensities], color=HERO, lw=2, marker="o", markersize=4)
    left.fill_between(
        at, [row.utility.low for row in study.intensities], [row.utility.high for row in study.intensities],
        color=HERO, alpha=0.15, lw=0,
    )  # fmt: skip
    left.axvline(1.0, color=GRID, lw=1.2, zorder=0)
    about = f"{study.policy} on {study.scenario}, {study.profile} faults"
    label(left, "fault intensity (0 none, 1 as declared)", "utility per episode", about)
    rows = study.faults[::-1]
    for offset, colour, mark, what, differences in (
        (0.16, HERO, "o", "alone, against clean", [row.alone for row in rows]),
        (-0.16, OTHER, "s", "beside the others", [row.last for row in rows]),
    ):
        values = [d.value for d in differences]
        spread = [[d.value - d.low for d in differences], [d.high - d.value for d in differences]]
        places = [i + offset for i in range(len(rows))]
        right.errorbar(values, places, xerr=spread, fmt=mark, markersize=5, capsize=2, color=colour, label=what)
    right.axvline(0.0, color=INK, lw=0.9)
    right.set_yticks(range(len(rows)), [row.name for row in rows])
    label(right, "utility lost per episode", title=f"{study.episodes:,} episodes, paired")
    legend(right)
    return save_png(figure, path)


def draw_drift(study: DriftStudy, path: Path) -> Path:
    """Draw success and utility per week of the three policies, with 95 % intervals.

    Args:
        study: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure(2 * WIDTH, columns=2)
    looks = ((RETRAINED, HERO, "-"), (FROZEN, OTHER, "-."), (f"baseline:{study.baseline}", INK, "--"))
    for axis, name, scale in zip(axes, ("success", "utility"), (100.0, 1.0), strict=True):
        for policy, colour, line in looks:
            rows = study.of(policy)
            weeks = [row.week for row in rows]
            estimates = [getattr(row, name) for row in rows]
            axis.plot(weeks, [scale * e.value for e in estimates], color=colour, ls=line, lw=2, label=policy)
            axis.fill_between(
                weeks, [scale * e.low for e in estimates], [scale * e.high for e in estimates],
                color=colour, alpha=0.12, lw=0,
            )  # fmt: skip
    label(axes[0], "week", "success, %", f"{study.scenario}: {study.episodes_per_week:,} episodes a week")
    label(axes[1], "week", "utility per episode")
    axes[0].set_ylim(bottom=0)
    legend(axes[1])
    return save_png(figure, path)
