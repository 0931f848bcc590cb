"""What several commands take: the types of their options, and training options as they are written there."""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from .errors import PolicyError

if TYPE_CHECKING:
    from .trainers.ppo import PPOConfig

ScenarioArgument = Annotated[str, typer.Argument(metavar="SCENARIO", help="Built-in name or YAML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. limits.budget_usd=0.5. Repeatable."),
]
ProfileOption = Annotated[str, typer.Option("--profile", help="Fault profile, e.g. clean, production, hostile.")]
IntensityOption = Annotated[float, typer.Option("--intensity", min=0, help="Scales every fault; 0 is none.")]
EpisodesOption = Annotated[int, typer.Option("--episodes", min=2, help="Evaluation episodes per policy.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed; equal seeds give equal results.")]
PPOOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="PPO option, e.g. lanes=1024. See `brownout options`."),
]
CurriculumOption = Annotated[
    list[str] | None,
    typer.Option("--curriculum", metavar="NAME=SCHEDULE", help="Say fault_share=0:1@0.5, replay=0.3, or a YAML file."),
]
ImitateOption = Annotated[
    str | None,
    typer.Option(
        "--imitate", metavar="TEACHER", help="First imitate a baseline, or the policy in a folder, e.g. playbook."
    ),
]
PictureOption = Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Also draw a PNG file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def ppo_config(
    option: list[str] | None, curriculum: list[str] | None = None, start: PPOConfig | None = None
) -> PPOConfig:
    """Build the configuration that ``--option NAME=VALUE`` and ``--curriculum`` ask for, from ``start`` on."""
    from .trainers.ppo import PPOConfig

    config = replace(start or PPOConfig(), **_options(option or [], PPOConfig))
    for part in curriculum or []:
        config = replace(config, **_curriculum_options(part))
    return config


def _curriculum_options(text: str) -> dict[str, Any]:
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
