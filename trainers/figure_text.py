"""Figures of a stress run as text, the same on the terminal, on a page and in a file."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from .stress_report import Figure

_KEPT: Final = "\n\t"


def number(value: float, unit: str, sign: str = "") -> str:
    """A number with its unit; ``?`` where it is not defined.

    Args:
        value: the number.
        unit: ``share``, ``USD``, ``s``, ``calls``, ``effects`` or ``utility``.
        sign: ``+`` to write the sign of positive numbers too.
    """
    if value != value:
        return "?"
    if unit == "share":
        return f"{100 * value:{sign}.1f} %"
    if unit == "USD":
        return f"{'-' if value < 0 else sign}${abs(value):.4f}"
    return f"{value:{sign}.{1 if unit in ('s', 'calls') else 3}f}"


def interval(figure: Figure, sign: str = "") -> str:
    """A figure with its 95 % interval; a dash where it is not defined."""
    if figure.value != figure.value:
        return "-"
    ends = ", ".join(
        number(end, figure.unit, sign).removesuffix(" %").replace("$", "") for end in (figure.low, figure.high)
    )
    return f"{number(figure.value, figure.unit, sign)} [{ends}]"


def tendency(difference: Figure) -> str:
    """``better`` or ``worse`` where the whole interval of a difference says so, else nothing."""
    low, high = (difference.low, difference.high) if difference.better == "higher" else (
        -difference.high, -difference.low)  # fmt: skip
    return "worse" if high < 0.0 else "better" if low > 0.0 else ""


def visible(text: object) -> str:
    """Text of an agent or a service as it is, with characters that are not seen or turn text around written out."""
    return "".join(
        character if character in _KEPT or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in str(text)
    )  # fmt: skip


def markdown(text: object) -> str:
    """Untrusted text as Markdown that shows it as it is, in the middle of one line: no markup, link or mention."""
    plain = " ".join(visible(text).split())
    plain = re.sub(r"&(?=#?\w+;)", "&amp;", plain).replace("<", "&lt;")
    plain = re.sub(r"([\\`*~|$]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:])", r"\\\1", plain)
    return re.sub(r"@|://|\bwww(?=\.)", lambda found: f"{found[0]}\u2060", plain)  # a word joiner: no mention, no link


def fenced(text: str) -> str:
    """Text as a code block; its fence is longer than any run of backquotes in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"
