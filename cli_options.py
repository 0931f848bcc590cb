"""Training options as they are written on the command line."""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import yaml

from .errors import PolicyError

if TYPE_CHECKING:
    from .trainers.ppo import PPOConfig


def ppo_config(option: list[str] | None) -> PPOConfig:
    """Build the configuration that ``--option NAME=VALUE`` asks for."""
    from .trainers.ppo import PPOConfig

    return replace(PPOConfig(), **_options(option, PPOConfig)) if option else PPOConfig()


def curriculum_options(text: str) -> dict[str, Any]:
    """Read one ``--curriculum``: a YAML file, or an assignment to an option that one may hold."""
    from .trainers.curriculum import read_curriculum
    from .trainers.ppo import PPOConfig

    name, sign, value = text.partition("=")
    given = read_curriculum({name: value} if sign else text)
    return _options([text], PPOConfig) if sign else given


def _options(assignments: list[str], config: type) -> dict[str, Any]:
    words = {f.name for f in fields(config) if f.type == "str"}
    known = sorted({f.name for f in fields(config)} - {"steps", "seed"})  # these have a flag of their own
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if name in ("steps", "seed"):
            raise PolicyError(f"--option {assignment!r}: use --{name}")
        if not sign or name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near and name not in known else ""
            what = "write NAME=VALUE" if name in known else f"no option {name!r}{hint}"
            raise PolicyError(f"--option {assignment!r}: {what}; names: {', '.join(known)}")
        if name in words:
            values[name] = text
            continue
        try:
            value = yaml.safe_load(text)
            # YAML reads 1e-3 as text; none is what people write for YAML's null
            value = (None if value.lower() == "none" else float(value)) if isinstance(value, str) else value
        except (yaml.YAMLError, ValueError):
            raise PolicyError(f"--option {assignment!r}: {text!r} is not a number or list of numbers") from None
        values[name] = tuple(value) if isinstance(value, list) else value
    return values
