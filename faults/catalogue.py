"""The catalogue of effects as rows, for documentation and the command line."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, asdict, fields
from typing import Any

from .calls import Word
from .registry import EffectClass, registered_faults


def describe_faults() -> list[dict[str, Any]]:
    """Return one row per registered effect, sorted by category and name.

    Each row has ``name``, ``category``, ``summary``, ``parameters`` (rows of ``name``, ``type``, ``default``,
    ``required``, ``help``), ``when`` (the default trigger or None), ``ports`` and the taxonomy:
    ``visibility``, ``duration``, ``kind``, ``disturbs``, ``phase``, ``recovery``. Effects on calls add
    ``verbs`` (struck by default), ``allowed_verbs`` and ``stage``; effects on records add ``fields`` (types of
    field struck by default), ``allowed_fields`` and ``per`` (``cell`` or ``record``).
    """
    rows = [_row(name, cls) for name, cls in registered_faults().items()]
    return sorted(rows, key=lambda row: (row["category"], row["name"]))


def _row(name: str, cls: EffectClass) -> dict[str, Any]:
    text = inspect.getdoc(cls) or ""
    return {
        "name": name,
        "category": cls.category,
        "summary": " ".join(text.split("\n\n")[0].split()),
        "parameters": _parameters(cls, text),
        "when": cls.default_when,
        "ports": sorted(cls.ports),
        **cls.reach_facts(),
        **asdict(cls.metadata),
    }


def _parameters(cls: EffectClass, text: str) -> list[dict[str, Any]]:
    _, _, section = text.partition("Args:\n")
    help_of = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^    (\w+): (.*(?:\n {8,}.*)*)", section, flags=re.MULTILINE)
    }
    rows: list[dict[str, Any]] = []
    for field in fields(cls):  # pyright: ignore[reportArgumentType]
        required = field.default is MISSING and field.default_factory is MISSING
        default = None if field.default is MISSING else field.default
        rows.append(
            {
                "name": field.name,
                "type": _type_name(field.type),
                "default": default.word if isinstance(default, Word) else default,
                "required": required,
                "help": help_of.get(field.name, ""),
            }
        )
    return rows


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
