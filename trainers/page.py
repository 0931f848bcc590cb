"""Self-contained HTML pages: one file, nothing fetched, light and dark, on a phone and on paper.

Templates are the ``.html`` files beside this module and share ``page.html``. Every value is escaped; pictures are
inline SVG whose colours follow the page's theme. Needs ``pip install 'brownout[report]'``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..extras import missing_extra
from .picture_style import THEMES, css_variables, to_svg


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Args:
        name: unique; names the PNG file too.
        figure: the matplotlib figure.
        title: heading.
        caption: what to see in it, one or two sentences.
    """

    name: str
    figure: Any
    title: str
    caption: str


def page_template(name: str) -> Any:
    """The template of that name.

    Raises:
        MissingExtraError: without jinja2.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise missing_extra("report", error) from error
    loader = FileSystemLoader(Path(__file__).parent)
    options: Any = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=loader, **options).get_template(name)


def render(template: Any, data: Mapping[str, Any]) -> str:
    """The page, in the colours of both themes."""
    return template.render({"variables": {theme: css_variables(theme) for theme in THEMES}, **data})


def inline(picture: Picture) -> dict[str, Any]:
    """A picture as a template shows it: plain values, and the drawing as SVG marked safe."""
    from markupsafe import Markup

    svg = to_svg(picture.figure, re.sub(r"[^a-z0-9-]", "-", picture.name.lower()), picture.title)
    return {"title": picture.title, "caption": picture.caption, "svg": Markup(svg)}
