"""Reading scenarios: built-in names, files, inheritance, overrides, and errors that name the place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import BrownoutError, ScenarioError
from ..faults import FaultPlan, Services, Verb
from ..faults.calls import ROUTED
from ..rewards import compile_reward
from .places import Place, Source, explain, read_nodes
from .schema import RouterScenario, Scenario
from .workflow_schema import WorkflowScenario

LIBRARY = Path(__file__).parent
RECORDS_SUFFIX = ".records.yaml"
KINDS: dict[str, type[Scenario]] = {"router": RouterScenario, "workflow": WorkflowScenario}


def builtin_scenarios(env: str | None = None) -> list[str]:
    """Names of the scenarios that come with the package, or of those for one environment.

    >>> "refund" in builtin_scenarios("workflow"), "refund" in builtin_scenarios("router")
    (True, False)
    """
    names = sorted(path.stem for path in LIBRARY.glob("*.yaml") if not path.name.endswith(RECORDS_SUFFIX))
    return names if env is None else [name for name in names if load_scenario(name).env == env]


def load_scenario(source: str | Path | Mapping[str, Any] | Scenario, overrides: Iterable[str] = ()) -> Scenario:
    """Load a scenario and check it whole, its fault plans included.

    Args:
        source: a built-in name, the path of a YAML file, a mapping, or a scenario (returned as it is
            unless there are overrides).
        overrides: dotted assignments such as ``limits.budget_usd=0.5``; values are read as YAML.

    Raises:
        ScenarioError: with the file, the line, the field, the value met and what is allowed.

    >>> load_scenario("textbook", ["limits.budget_usd=0.5"]).limits.budget_usd
    0.5
    """
    if isinstance(overrides, str):
        raise ScenarioError(f"overrides: got the text {overrides!r}; allowed: a list such as ['limits.budget_usd=0.5']")
    overrides = list(overrides)
    if isinstance(source, Scenario):
        if not overrides:
            return source
        data: dict[str, Any] = source.model_dump(mode="json")
        return _build(data, source.path, Place(str(source.path or source.name)), overrides)
    if isinstance(source, Mapping):
        name = source.get("name")
        return _build(_copy(source), None, Place(name if isinstance(name, str) else "scenario"), overrides)
    path = resolve_path(source)
    data, sources = _read(path)
    return _build(data, path, Place(str(path), tuple(sources)), overrides)


def resolve_path(source: str | Path) -> Path:
    """Find the file of a built-in name or a path.

    Raises:
        ScenarioError: if there is none; the message lists the built-in names.
    """
    text = str(source)
    if "/" not in text and (LIBRARY / f"{text}.yaml").is_file():
        return LIBRARY / f"{text}.yaml"
    path = Path(text).expanduser()
    if path.is_file():
        return path
    names = builtin_scenarios()
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ScenarioError(f"no scenario {text!r}: neither a file nor a built-in name{hint} built in: {', '.join(names)}")


def _copy(value: Any) -> Any:
    """Copy nested mappings and lists, so that overrides never change the caller's."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- files and inheritance


def _read(path: Path, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], list[Source]]:
    """Read a file and what it extends; the sources are listed from the top file down."""
    node = read_nodes(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ScenarioError(f"{path}: not a readable YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ScenarioError(f"{path}: a scenario is a mapping of fields, got {type(data).__name__}")
    sources = [Source(path, node)]
    if "extends" not in data:
        return data, sources
    place = Place(str(path), tuple(sources)).at(["extends"])
    base = data.pop("extends")
    if not isinstance(base, str) or not base:
        raise ScenarioError(f"{place}: got {base!r}; allowed: a built-in name or the path of a scenario file")
    try:
        base_path = _base_path(path, base)
    except ScenarioError as error:
        raise ScenarioError(f"{place}: {error}") from None
    if base_path.resolve() in {other.resolve() for other in (*seen, path)}:
        raise ScenarioError(
            f"{place}: {base!r} leads back to itself: {' -> '.join(p.name for p in (*seen, path, base_path))}"
        )
    below, more = _read(base_path, (*seen, path))
    return _merge(below, data), sources + more


def _base_path(path: Path, base: str) -> Path:
    """A base is looked for beside the file first, with or without its ending."""
    for candidate in (path.parent / base, path.parent / f"{base}.yaml"):
        if candidate.is_file() and candidate.resolve() != path.resolve():
            return candidate
    if (path.parent / f"{base}.yaml").is_file() and not (LIBRARY / f"{base}.yaml").is_file():
        return path.parent / f"{base}.yaml"
    return resolve_path(base)


def _merge(base: Any, top: Any) -> Any:
    """Merge mappings key by key; ``null`` keeps its meaning, lists and scalars replace."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return top
    merged = {**base, **top}
    return {key: _merge(base[key], top[key]) if key in base and key in top else merged[key] for key in merged}


# ---------------------------------------------------------------- building


def _build(data: dict[str, Any], path: Path | None, place: Place, overrides: list[str]) -> Scenario:
    assigned = [_override(data, assignment) for assignment in overrides]
    place = Place(place.name, place.sources, tuple(assigned))
    env = data.get("env", "router")
    if not isinstance(env, str) or env not in KINDS:
        raise ScenarioError(f"{place.at(['env'])}: got {env!r}; allowed: {', '.join(KINDS)}")
    try:
        scenario = KINDS[env].model_validate(data)
    except ValidationError as error:
        raise ScenarioError(explain(error, place, KINDS[env])) from None
    except RecursionError:
        raise ScenarioError(f"{place.name}: nested too deeply to be a scenario") from None
    scenario._path = path
    _check_plans(scenario, place)
    return scenario


def _override(data: dict[str, Any], assignment: str) -> tuple[tuple[str, ...], str]:
    """Apply one assignment to ``data``; returns its keys and its text."""
    dotted, sign, text = str(assignment).partition("=")
    keys = _split(dotted.strip(), data)
    if not sign or not all(keys):
        raise ScenarioError(f"--set {assignment!r}: write it as field.path=value, e.g. limits.budget_usd=0.5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(
            f"--set {assignment!r}: the value is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    target: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            where = ".".join(keys[:depth])
            if not key.isdigit() or int(key) >= len(target):
                raise ScenarioError(
                    f"--set {assignment!r}: {where} is a list of {len(target)} entries; got the index {key!r}; "
                    f"allowed: 0 to {len(target) - 1}"
                )
            place: Any = int(key)
        elif isinstance(target, dict):
            place = key
        else:
            raise ScenarioError(
                f"--set {assignment!r}: {'.'.join(keys[:depth])} is {target!r}, which has no fields of its own"
            )
        if last:
            target[place] = value
        else:
            if isinstance(target, dict) and target.get(place) is None:
                target[place] = {}
            target = target[place]
    return tuple(keys), str(assignment)


def _split(dotted: str, data: Any) -> list[str]:
    """Split a path at its dots, but keep a key of the file that has dots in it (``portfolio.gpt5.2.skill``)."""
    keys: list[str] = []
    rest = dotted
    while rest:
        known = [str(key) for key in data] if isinstance(data, dict) else []
        fits = [key for key in known if rest == key or rest.startswith(f"{key}.")]
        key = max(fits, key=len) if fits else rest.partition(".")[0]
        keys.append(key)
        if isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            data = data.get(key) if isinstance(data, dict) else None
        if rest == key:
            return keys
        rest = rest[len(key) + 1 :]
    return [*keys, ""]


def scenario_data(value: Any) -> Any:
    """Plain data of a scenario, as a file would say it: :func:`load_scenario` makes an equal one of it.

    A null is left out only where leaving it out means the same.
    """
    if isinstance(value, BaseModel):
        known = type(value).model_fields
        kept = ((name, item) for name, item in value if item is not None or known[name].get_default() is not None)
        return {name: scenario_data(item) for name, item in kept}
    if isinstance(value, dict):
        return {name: scenario_data(item) for name, item in value.items()}
    return [scenario_data(item) for item in value] if isinstance(value, (list, tuple)) else value


# ---------------------------------------------------------------- plans


def services_of(scenario: Scenario) -> Services:
    """The services that a fault plan can strike; in the router the configurations, the judges and ``person``."""
    if isinstance(scenario, WorkflowScenario):
        return scenario.fault_services()
    assert isinstance(scenario, RouterScenario)
    judges = tuple(scenario.panel) or ("judge",)
    names = (*scenario.portfolio, *judges, "person")
    families = (*(entry.family for entry in scenario.portfolio.values()), *judges, "person")
    verbs = (*(ROUTED for _ in scenario.portfolio), *((Verb.JUDGE,) for _ in judges), (Verb.ESCALATE,))
    return Services(names, families, verbs)


def profile_names(scenario: Scenario) -> list[str]:
    """The profiles that can be asked for, the implied ``hostile`` included."""
    names = list(scenario.profiles)
    return [*names, "hostile"] if "production" in names and "hostile" not in names else names


def fault_plan(scenario: Scenario, profile: str) -> tuple[FaultPlan, float]:
    """Return the plan of ``profile`` and its intensity factor.

    A scenario that declares no ``hostile`` profile gets its ``production`` plan at twice the intensity.

    Raises:
        ScenarioError: if there is no such profile.
    """
    where = str(scenario.path or scenario.name)
    allowed = profile_names(scenario)
    if profile not in allowed:
        near = difflib.get_close_matches(str(profile), allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ScenarioError(f"{where}: no profile {profile!r}{hint}; allowed: {', '.join(allowed)}")
    factor = 1.0
    if profile not in scenario.profiles:
        profile, factor = "production", 2.0
    return FaultPlan.from_specs(scenario.profiles[profile], f"{where}: profiles.{profile}"), factor


@dataclass(frozen=True)
class _Located:
    """Rewrites the message of an error so that it starts with file, line and field."""

    place: Place

    def __call__(self, text: str) -> str:
        match = re.match(r"([A-Za-z_][\w.-]*(?:\[\d+\])?[\w.-]*)", text)
        keys = [key for key in re.split(r"[.\[\]]+", match[1]) if key] if match else []
        return f"{self.place.prefix(keys)}{text}"


def _check_plans(scenario: Scenario, place: Place) -> None:
    """Check every profile's plan, the reward and the preferences against the scenario."""
    services, located = services_of(scenario), _Located(place)
    fields = scenario.fault_fields() if isinstance(scenario, WorkflowScenario) else None
    try:
        for name, specs in scenario.profiles.items():
            plan = FaultPlan.from_specs(specs, f"profiles.{name}")
            plan.check(services, type(scenario).ports, type(scenario).quantities, fields)
        compile_reward(scenario.reward, scenario.preferences, scenario.limits.budget_usd, scenario.limits.deadline_s)
    except ScenarioError:
        raise
    except BrownoutError as error:
        raise ScenarioError(located(str(error))) from error
