"""Plans of trainings side by side: which options take which values, checked before anything starts."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import yaml

from ..errors import PolicyError
from .ppo import PPOConfig

MOST_TRIALS: Final = 1000


@dataclass(frozen=True)
class Trial:
    """One whole training of a plan.

    Args:
        name: says what is special about it; also the name of its folder.
        options: values of the options that the plan varies, the seed included.
        config: all hyper-parameters.
    """

    name: str
    options: Mapping[str, Any]
    config: PPOConfig


def read_sweep(source: str | Path | Mapping[str, Any]) -> dict[str, list[Any]]:
    """Read a sweep: a YAML file or a mapping from training options to lists of values.

    Raises:
        PolicyError: naming file, line, option and value.

    >>> read_sweep({"learning_rate": ["1e-3", 0.003]})
    {'learning_rate': [0.001, 0.003]}
    """
    lines: dict[str, int] = {}
    where = "sweep"
    data: Any = source
    if not isinstance(source, Mapping):
        where = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"{where}: not a readable YAML file: {' '.join(str(error).split())}") from error
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line + 1
            if lines.setdefault(key.value, line) != line:
                raise PolicyError(f"{where}:{line}: option {key.value!r} is there twice")
    if not isinstance(data, Mapping) or not data:
        raise PolicyError(f"{where}: a sweep maps training options to lists of values, got {_shown(data)}")
    known = {f.name: str(f.type) for f in fields(PPOConfig)}
    result: dict[str, list[Any]] = {}
    for name, values in data.items():
        at = f"{where}:{lines[str(name)]}" if str(name) in lines else where
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PolicyError(f"{at}: unknown training option {name!r}{hint} Known: {', '.join(known)}")
        if not isinstance(values, (list, tuple)) or not values:
            raise PolicyError(f"{at}: {name}: got {_shown(values)}; allowed: a list of values, such as [1, 2]")
        result[name] = [_plain(value, known[name]) for value in values]
        for i, value in enumerate(result[name]):
            try:
                replace(PPOConfig(), **{name: value})
            except (PolicyError, TypeError) as error:
                raise PolicyError(f"{at}: value {i + 1} of {name}: {error}") from None
            if value in result[name][:i]:
                raise PolicyError(f"{at}: {name}: {value!r} is there twice")
    return result


def plan_trials(config: PPOConfig, seeds: int = 1, sweep: Mapping[str, list[Any]] | None = None) -> list[Trial]:
    """Every combination of the sweep's values, each with ``seeds`` seeds counted up from ``config.seed``.

    Raises:
        PolicyError: no seed, seeds asked for twice, or too many trials.

    >>> [t.name for t in plan_trials(PPOConfig(), 2, {"entropy": [0.01, 0.02]})]
    ['entropy=0.01,seed=0', 'entropy=0.01,seed=1', 'entropy=0.02,seed=0', 'entropy=0.02,seed=1']
    """
    if seeds < 1:
        raise PolicyError(f"seeds: {seeds}, must be 1 or more")
    axes = dict(sweep or {})
    if "seed" in axes and seeds > 1:
        raise PolicyError("seeds: the sweep names its seeds itself; give one or the other")
    axes.setdefault("seed", [config.seed + i for i in range(seeds)])
    combinations = list(itertools.islice(itertools.product(*axes.values()), MOST_TRIALS + 1))
    if len(combinations) > MOST_TRIALS:
        raise PolicyError(f"a sweep of more than {MOST_TRIALS} trials; give fewer values or seeds")
    trials = []
    for values in combinations:
        options = dict(zip(axes, values, strict=True))
        parts = (f"{name}={_shown(value)}" for name, value in options.items())
        name = ",".join(re.sub(r"[^A-Za-z0-9._=+-]", "_", part) for part in parts)
        trials.append(Trial(name, options, replace(config, **options)))
    return trials


def _plain(value: Any, kind: str) -> Any:
    """YAML 1.1 reads ``1e-3`` as text, and has no tuples."""
    if kind.startswith("tuple") and isinstance(value, list):
        return tuple(value)
    if kind.startswith("float") and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(str(part) for part in value)
    return value if isinstance(value, str) else repr(value)
