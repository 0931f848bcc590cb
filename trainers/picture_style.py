"""One look for every picture: colours by role, legible in light and dark, told apart without colour vision.

A picture is drawn once, in the light colours. As PNG it stays so, on white; as SVG each colour is replaced by a CSS
variable, so that a page can show the same drawing in its own light and dark theme. Series take their hues from
Okabe and Ito ("Color universal design", 2008), darkened or lightened until text in them keeps a contrast of 4.5 on
the paper; where colour carries meaning a mark, a hatch or a word says the same.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..extras import missing_extra

LIGHT: Final[Mapping[str, str]] = {
    "paper": "#ffffff", "ink": "#1f2733", "soft": "#55606e", "grid": "#e1e6ec", "hero": "#b94700", "other": "#3f6188",
    "one": "#0069a6", "two": "#9a5b00", "three": "#00845f", "four": "#6d1450", "five": "#6a4fb3", "six": "#5c6b7a",
    "good": "#00745b", "bad": "#b54300", "void": "#6c7785",
}  # fmt: skip
DARK: Final[Mapping[str, str]] = {
    "paper": "#14181f", "ink": "#e6eaf0", "soft": "#a9b4c2", "grid": "#2b333e", "hero": "#ff9a52", "other": "#93b7e0",
    "one": "#62b6ee", "two": "#e9b44c", "three": "#23a57d", "four": "#ffc9e8", "five": "#b9a4f2", "six": "#aab6c4",
    "good": "#40cba2", "bad": "#ff9c5c", "void": "#9aa5b3",
}  # fmt: skip
SERIES: Final = ("one", "two", "three", "four", "five", "six")
MARKS: Final = "osD^vP"
THEMES: Final = {"light": LIGHT, "dark": DARK}
WIDTH: Final = 4.8  # inches: text stays legible when a phone shrinks it, and two fit side by side on a desk
INK, SOFT, GRID, HERO, OTHER, PAPER = (LIGHT[role] for role in ("ink", "soft", "grid", "hero", "other", "paper"))


def series(i: int) -> str:
    """Colour of the i-th series of a picture."""
    return LIGHT[SERIES[i % len(SERIES)]]


def plain(text: object) -> str:
    """Text of a user as it is: a dollar sign begins no formula."""
    return str(text).replace("$", r"\$")


def new_figure(width: float = WIDTH, height: float = 3.6, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """An empty figure and its axes (one, or an array of them).

    Args:
        width: inches.
        height: inches.
        rows: rows of panels.
        columns: columns of panels.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", error) from error
    figure = Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns)
    for axes in panels.ravel() if rows * columns > 1 else (panels,):
        axes.set_facecolor(PAPER)
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_visible(side not in ("top", "right"))
            spine.set_color(INK)
    return figure, panels


def label(axes: Any, x: str = "", y: str = "", title: str = "") -> None:
    """Name the axes; units belong into the names."""
    axes.set_xlabel(plain(x), color=INK, fontsize=9.5)
    axes.set_ylabel(plain(y), color=INK, fontsize=9.5)
    if title:
        axes.set_title(plain(title), loc="left", fontsize=9.5, color=INK)


def legend(axes: Any, **options: Any) -> None:
    """A legend without a frame, in ink."""
    axes.legend(**{"frameon": False, "fontsize": 8.5, "labelcolor": INK, **options})


def save_png(figure: Any, path: Path, dpi: int = 150) -> Path:
    """Write a figure under a temporary name, then rename it.

    Args:
        figure: what to write.
        path: PNG file; its folder is made.
        dpi: pixels per inch.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    # no software version in the file, so that equal pictures are equal files
    figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
    temporary.replace(path)
    return path


def save_svg(figure: Any, path: Path, title: str) -> Path:
    """Write a figure as an SVG file that follows the reader's light or dark theme; a temporary name, then renamed.

    Args:
        figure: what to write.
        path: SVG file; its folder is made.
        title: what the picture shows, for those who cannot see it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head, _, rest = to_svg(figure, re.sub(r"[^a-z0-9-]", "-", path.stem.lower()), title).partition(">")
    themes = (
        f"svg {{ {css_variables('light')} background: {PAPER}; }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {css_variables('dark')} background: {DARK['paper']}; }} }}"
    )
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(f"{head}><style>{themes}</style>{rest}\n", encoding="utf-8")
    temporary.replace(path)
    return path


_HEX = re.compile(r"#[0-9a-f]{6}\b")
_IDS = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)
_SIZE = re.compile(r'<svg ([^>]*?)height="[\d.]+pt" ', re.DOTALL)
_WIDE = re.compile(r'(<svg [^>]*?)width="[\d.]+pt" ', re.DOTALL)


def to_svg(figure: Any, name: str, title: str) -> str:
    """The figure as an inline ``<svg>`` whose colours are CSS variables ``--pic-ROLE``.

    Args:
        figure: what to draw.
        name: unique on the page; letters, digits and hyphens. Ids inside the drawing begin with it.
        title: what the picture shows, for those who cannot see it.
    """
    from html import escape

    import matplotlib as mpl

    buffer = io.StringIO()
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with mpl.rc_context(options):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    role = {colour: key for key, colour in LIGHT.items()}
    text = _DROPPED.sub("", buffer.getvalue()).strip()
    text = _HEX.sub(lambda m: f"var(--pic-{role[m[0]]})" if m[0] in role else m[0], text)
    text = _IDS.sub(lambda m: f"{m[1]}{name}-", text)
    text = _WIDE.sub(r"\1", _SIZE.sub(r"<svg \1", text, count=1), count=1)
    head = f'<svg role="img" aria-label="{escape(title, quote=True)}" '
    return text.replace("<svg ", head, 1)


def css_variables(theme: str) -> str:
    """The variables that :func:`to_svg` refers to, as CSS declarations."""
    return " ".join(f"--pic-{role}: {colour};" for role, colour in THEMES[theme].items())
