"""Tables read from the code: actions, columns, faults, triggers, rewards, scenario fields, options, commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Any

from .meanings import ACTIONS, COLUMNS, DISTRIBUTIONS, FIELDS, LIBRARY, STATUSES, TRIGGERS


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, or further rows of one if there are no heads; pipes inside cells are escaped."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)] if heads else []
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code(value: object) -> str:
    """A value as code."""
    return f"`{value}`"


def plain(value: object) -> str:
    """A default as it is written in YAML."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code(list(value))
    return code(f"{value:g}") if isinstance(value, float) else code(value)


def tidy(text: str) -> str:
    """Prose of a docstring as Markdown: single backquotes, no full stop at the end."""
    return text.replace("``", "`").rstrip(".")


def first_sentence(obj: object) -> str:
    """The summary of a docstring, on one line."""
    return tidy(" ".join((inspect.getdoc(obj) or "").split("\n\n")[0].split()))


def required(meanings: dict[str, str], name: str, where: str) -> str:
    """What a name means.

    Raises:
        ValueError: if nobody has written it down yet.
    """
    if name not in meanings:
        raise ValueError(f"docs/generators/meanings.py: {where} has nothing about {name!r}")
    return meanings[name]


# ---------------------------------------------------------------- environment


def _core() -> Any:
    from brownout.envs.router_core import RouterCore

    return RouterCore("support-desk", 1)


def router_actions() -> str:
    """Actions of support-desk."""
    names = _core().action_names
    launches = sum(name.startswith("launch:") for name in names)
    rows: list[tuple[object, ...]] = [(f"0-{launches - 1}", "`launch:<configuration>`", *_action("launch"))]
    rows += [(index, code(name), *_action(name)) for index, name in enumerate(names) if index >= launches]
    return table(("index", "action", "meaning", "allowed when"), rows)


def _action(kind: str) -> list[str]:
    return required(ACTIONS, kind, "ACTIONS").split(" / ")


def router_columns() -> str:
    """Observation columns of support-desk; the columns of one field of every configuration in one row."""
    core = _core()
    per_config: dict[str, list[Any]] = {}
    rows: list[tuple[object, ...]] = []
    for index, column in enumerate(core.observation_columns):
        config, dot, field = column.name.rpartition(".")
        if dot and config in core.config_names:
            per_config.setdefault(field, []).append((index, column))
            continue
        known = "task.class" if column.name.startswith("task.class.") else column.name
        meaning = required(COLUMNS, known, "COLUMNS")
        rows.append((index, code(column.name), column.unit, f"{column.low:g} to {column.high:g}", meaning))
    for field, places in per_config.items():
        (first, column), (last, _) = places[0], places[-1]
        span = f"{column.low:g} to {column.high:g}"
        meaning = required(COLUMNS, f"*.{field}", "COLUMNS")
        rows.append((f"{first}-{last}", code(f"<configuration>.{field}"), column.unit, span, meaning))
    return table(("index", "column", "unit", "range", "meaning"), rows)


def judge_actions() -> str:
    """Actions and columns of the judges of patch-review."""
    from brownout.envs.router_core import RouterCore

    core = RouterCore("patch-review", 1)
    rows: list[tuple[object, ...]] = [
        (code(name), *_action("judge:*")) for name in core.action_names if name.startswith("judge:")
    ]
    shown = [(code(c.name), c.unit, f"{c.low:g} to {c.high:g}", required(COLUMNS, "judge.*", "COLUMNS"))
             for c in core.observation_columns if c.name.startswith("judge.")]  # fmt: skip
    return f"{table(('action', 'meaning', 'allowed when'), rows)}\n\n{table(_COLUMN_HEADS, shown)}"


def quality_columns() -> str:
    """Columns that only scenarios with quality have, from deep-research."""
    from brownout.envs.router_core import RouterCore

    columns = RouterCore("deep-research", 1).observation_columns
    names = {column.name: "judge.*" if column.name.startswith("judge.") else column.name for column in columns}
    shown = [(code(c.name), c.unit, f"{c.low:g} to {c.high:g}", required(COLUMNS, names[c.name], "COLUMNS"))
             for c in columns if names[c.name] in ("judge.*", "best_rounds")]  # fmt: skip
    return table(_COLUMN_HEADS, shown)


_COLUMN_HEADS = ("column", "unit", "range", "meaning")


def statuses() -> str:
    """Codes of the router's ``last_status``."""
    from brownout import Status

    return table(
        ("code", "status", "meaning"),
        [(int(s), code(s.word), required(STATUSES, s.word, "STATUSES")) for s in Status if s <= Status.CANCELLED],
    )


# ---------------------------------------------------------------- faults


def _faults(category: str) -> str:
    from brownout.faults import describe_faults

    effects = [row for row in describe_faults() if row["category"] == category]
    overview = table(
        ("fault", "what happens", "seen", "lasts", "kind", "recovery"),
        [
            (code(e["name"]), tidy(e["summary"]), e["visibility"], e["duration"], e["kind"], e["recovery"])
            for e in effects
        ],
    )
    parts = [overview]
    for e in effects:
        when = f"`{e['when']}` by default" if e["when"] else "must be given"
        if "fields" in e:
            per = "one draw per record" if e["per"] == "record" else "one draw per cell"
            facts = f"Strikes {_reach(e, 'fields')} fields. `when`: {when}; {per}."
        else:
            facts = (
                f"Strikes {_reach(e, 'verbs')}. `when`: {when}. Stage: {e['stage']}. Phase: {e['phase']}. "
                f"Disturbs: {e['disturbs']}. Ports: {_and(e['ports'])}."
            )
        rows = [
            (code(p["name"]), _type(p["type"]), "required" if p["required"] else plain(p["default"]), tidy(p["help"]))
            for p in e["parameters"]
        ]
        parameters = table(("parameter", "type", "default", "meaning"), rows) if rows else "No parameters."
        parts.append(f"### {e['name']}\n\n{tidy(e['summary'])}.\n\n{facts}\n\n{parameters}")
    return "\n\n".join(parts)


def _reach(effect: dict[str, Any], what: str) -> str:
    """What an effect strikes by default, and what else it can."""
    usual, allowed = effect[what], effect[f"allowed_{what}"]
    others = [word for word in allowed if word not in usual]
    also = f" (with `on(...)` also {_and(others)})" if others else ""
    return f"{_and(usual)} calls{also}" if what == "verbs" else f"{_and(usual)}{also}"


def _and(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _type(text: str) -> str:
    if text.startswith("Literal["):
        return " or ".join(code(word.strip(" '")) for word in text[8:-1].split(","))
    words = {"float": "number", "int": "whole number", "str": "text", "None": "none", "Status": "status"}
    return " or ".join(words.get(part, part) for part in text.split(" | "))


def record_fields() -> str:
    """Every type of field of a schema of records."""
    from brownout.scenarios import RecordSchema

    schema = RecordSchema.model_json_schema()
    known = schema["$defs"]
    common = {"type", "required", "pair"}
    rows: list[tuple[object, ...]] = []
    for name, part in known.items():
        if "type" not in part.get("properties", {}):
            continue
        tag = part["properties"]["type"]["const"]
        options = []
        for field, spec in part["properties"].items():
            if field in common:
                continue
            default = "" if field in part.get("required", []) else f", default {_written(spec.get('default'))}"
            options.append(f"{code(field)}: {required(spec, 'description', name)}{default}")
        text = tidy(" ".join(part["description"].split("\n\n")[0].split()))
        rows.append((code(tag), text, "; ".join(options) or "none"))
    return table(("type", "holds", "options"), sorted(rows))


def record_library() -> str:
    """The built-in schemas of records."""
    from brownout.scenarios import builtin_record_schemas, load_record_schema

    rows = []
    for name in builtin_record_schemas():
        schema = load_record_schema(name)
        told = tidy(" ".join(schema.description.split()))
        kinds = ", ".join(f"{kind} ({len(spec.fields)})" for kind, spec in schema.kinds.items())
        rows.append((code(name), told, kinds, ", ".join(schema.locales), ", ".join(schema.profiles)))
    return table(("schema", "what it is", "kinds (fields)", "locales", "profiles"), rows)


def truth_columns() -> str:
    """The columns of the truth about a messy table."""
    from brownout.scenarios.record_files import TRUTH_COLUMNS

    return table(("column", "meaning"), [(code(name), meaning) for name, meaning in TRUTH_COLUMNS.items()])


def triggers() -> str:
    """Every trigger of the text form."""
    from brownout.faults import known_triggers

    rows = []
    for name, cls in known_triggers().items():
        slots: Any = fields(cls)  # pyright: ignore[reportArgumentType]
        usage = f"{name}({', '.join(slot.name for slot in slots)})" if slots else name
        rows.append((code(usage), first_sentence(cls), code(required(TRIGGERS, name, "TRIGGERS"))))
    return table(("trigger", "strikes", "example"), rows)


# ---------------------------------------------------------------- rewards


def components() -> str:
    """The objective components."""
    from brownout.rewards import COMPONENTS

    rows = [(code(c.name), c.unit, c.meaning, "more" if c.good > 0 else "less") for c in COMPONENTS]
    return table(("component", "unit", "meaning, per step", "better"), rows)


def _plugins(registry: Any) -> str:
    parts = []
    for name in registry.known():
        cls = registry.lookup(name)
        if not cls.__module__.startswith("brownout."):
            continue
        described = _arguments(cls)
        rows = [(code(f.name), plain(_default(f)), described.get(f.name, "")) for f in fields(cls) if f.init]
        parts.append(f"### {name}\n\n{first_sentence(cls)}.\n\n" + table(("parameter", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return "required" if field.default_factory is MISSING else field.default_factory() or "{}"


def _arguments(cls: type) -> dict[str, str]:
    """The Args section of a docstring, by name."""
    _, _, section = (inspect.getdoc(cls) or "").partition("Args:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.strip() or not line.startswith("    "):
            break
        head, colon, text = line.strip().partition(": ")
        if colon and not line.startswith(" " * 5):
            name = head
            found[name] = text
        elif name:
            found[name] += " " + line.strip()
    return {key: tidy(text) for key, text in found.items()}


def rewards() -> str:
    """The built-in rewards."""
    from brownout.rewards import REWARDS

    return _plugins(REWARDS)


def potentials() -> str:
    """The built-in potentials."""
    from brownout.rewards import POTENTIALS

    return _plugins(POTENTIALS)


# ---------------------------------------------------------------- scenarios


def scenario_fields() -> str:
    """Every field of a scenario file, from the model that checks it."""
    from brownout.scenarios import RouterScenario

    schema = RouterScenario.model_json_schema()
    extends = (code("extends"), "text", "none", "name or file of the scenario that this one starts from; see above")
    parts = [f"### Top level\n\n{_fields(schema, 'Scenario')}\n{table((), [extends])}"]
    for name, where in _SECTIONS.items():
        part = schema["$defs"][name]
        text = tidy(" ".join(part["description"].split("\n\n")[0].split()))
        parts.append(f"### {where}\n\n{text}.\n\n{_fields(part, name)}")
    missing = set(schema["$defs"]) - set(_SECTIONS) - {"DistributionSpec"}
    if missing:
        raise ValueError(f"docs/generators/reference.py: _SECTIONS has no place for {', '.join(sorted(missing))}")
    rows = [(code(form), meaning) for form, meaning in DISTRIBUTIONS.items()]
    parts.append("### Distributions\n\nA distribution is written in one of five forms; negative values are refused.\n")
    return "\n\n".join(parts) + "\n" + table(("form", "meaning"), rows)


_SECTIONS = {
    "ModelTasks": "`tasks` from a model",
    "MovingMix": "`tasks.drift`",
    "Effort": "`tasks.effort`",
    "Sharing": "`tasks.effort.cost`, `.latency` and `.failure`",
    "TableTasks": "`tasks` from a table",
    "Configuration": "`portfolio.<name>`",
    "Wrong": "`portfolio.<name>.wrong`",
    "Judge": "`judge`, `judges.<name>`",
    "Repair": "`repair`",
    "Quality": "`quality`",
    "Person": "`person`",
    "Limits": "`limits`",
}


def _fields(part: dict[str, Any], name: str) -> str:
    rows = []
    for field, spec in part["properties"].items():
        meaning = spec.get("description") or required(FIELDS, f"{name}.{field}", "FIELDS")
        default = "required" if field in part.get("required", []) else _written(spec.get("default", {}))
        options = [spec, *spec.get("anyOf", [])]
        if default.startswith("`{") and any(o.get("$ref", "").rsplit("/", 1)[-1] in _SECTIONS for o in options):
            default = "as below"
        rows.append((code(field), _kind(spec), default, meaning))
    return table(("field", "value", "default", "meaning"), rows)


def _written(default: Any) -> str:
    if isinstance(default, dict):
        given = {key: value for key, value in default.items() if value is not None}
        if set(given) == {"value"}:
            return code(f"{given['value']:g}")
        return "as below" if given else code("{}")
    return code('""') if default == "" else plain(default)


def _kind(spec: dict[str, Any]) -> str:
    if "$ref" in spec:
        name = spec["$ref"].rsplit("/", 1)[1]
        return "distribution" if name == "DistributionSpec" else "mapping"
    if "oneOf" in spec:
        return "mapping"
    if "anyOf" in spec:
        return " or ".join(_kind(option) for option in spec["anyOf"])
    if "const" in spec:
        return code(spec["const"])
    if "enum" in spec:
        return ", ".join(code(word) for word in spec["enum"])
    kind = str(spec.get("type", "anything"))
    if kind == "null":
        return "`null`"
    if kind == "array":
        if "prefixItems" in spec:
            return f"[{', '.join(_kind(item) for item in spec['prefixItems'])}]"
        return f"list of {_kind(spec.get('items', {}))}"
    if kind == "object":
        inside = spec.get("additionalProperties")
        inside = inside or next(iter(spec.get("patternProperties", {}).values()), None)
        return f"mapping to {_kind(inside)}" if isinstance(inside, dict) else "mapping"
    kind = {"integer": "whole number", "string": "text"}.get(kind, kind)
    low, above = spec.get("minimum", spec.get("ge")), spec.get("exclusiveMinimum", spec.get("gt"))
    high, below = spec.get("maximum", spec.get("le")), spec.get("exclusiveMaximum", spec.get("lt"))
    if low is not None and high is not None:
        return f"{kind}, {low:g} to {high:g}"
    if above is not None and below is not None:
        return f"{kind} between {above:g} and {below:g}"
    if above is not None:
        return f"{kind} above {above:g}"
    return f"{kind} from {low:g}" if low is not None else kind


def scenario_library() -> str:
    """The built-in scenarios of the router."""
    from brownout.scenarios import RouterScenario, builtin_scenarios, load_scenario

    rows = []
    for name in builtin_scenarios("router"):
        scenario = load_scenario(name)
        assert isinstance(scenario, RouterScenario)
        told = LIBRARY.get(name) or " ".join(scenario.description.split()).split(". ")[0].rstrip(".")
        profiles = ", ".join(f"{p} ({len(faults)})" for p, faults in scenario.profiles.items())
        rows.append((code(name), told, len(scenario.portfolio), profiles))
    return table(("scenario", "what it is", "configurations", "profiles (faults)"), rows)


# ---------------------------------------------------------------- training, evaluation, commands


def ppo_options() -> str:
    """Hyper-parameters of PPO."""
    from brownout.trainers import PPOConfig

    rows = [(code(f.name), plain(f.default), f.metadata.get("help", "")) for f in fields(PPOConfig)]
    return table(("option", "default", "meaning"), rows)


def baselines() -> str:
    """The baselines, and the optimal policies that exist where they apply."""
    from brownout.envs.optimal import OPTIMAL
    from brownout.trainers import BASELINES

    rules: Any = {**BASELINES, **OPTIMAL}
    return table(("baseline", "rule"), [(code(name), rules[name].summary) for name in rules])


def failure_modes() -> str:
    """Known failure modes of recorded tables, by status."""
    from brownout.scenarios.table_fill import FAILURE_STATUS

    by_status: dict[str, list[str]] = {}
    for mode, status in FAILURE_STATUS.items():
        by_status.setdefault(status, []).append(code(mode))
    return table(("status", "failure modes"), [(code(s), ", ".join(modes)) for s, modes in by_status.items()])


def commands() -> str:
    """The command line, from its own parser."""
    import typer

    from brownout.cli import app

    parts: list[str] = []

    def tell(command: Any, path: str) -> None:
        inner = getattr(command, "commands", None)
        if inner:
            for name in sorted(inner):
                tell(inner[name], f"{path} {name}")
            return
        rows = []
        usage = path
        for parameter in command.params:
            if parameter.name in ("help", "install_completion", "show_completion"):
                continue
            if parameter.param_type_name == "argument":
                label = str(parameter.metavar or str(parameter.name).upper())
                usage += f" {label}"
            else:
                label = ", ".join([*parameter.opts, *parameter.secondary_opts])
            default = parameter.default
            shown = "" if default is None or default is False or callable(default) else plain(_simple(default))
            rows.append((code(label), shown, " ".join((getattr(parameter, "help", "") or "").split())))
        text = " ".join((command.help or "").split("\n\n")[0].split())
        told = f"### `{usage}`\n\n{text}"
        parts.append(told + ("\n\n" + table(("argument or option", "default", "meaning"), rows) if rows else ""))

    tell(typer.main.get_command(app), "brownout")
    return "\n\n".join(parts)


def _simple(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


BLOCKS: dict[str, Callable[[], str]] = {
    "router-actions": router_actions,
    "router-columns": router_columns,
    "judge-actions": judge_actions,
    "quality-columns": quality_columns,
    "statuses": statuses,
    "faults-services": lambda: _faults("services"),
    "faults-latency": lambda: _faults("latency"),
    "faults-portfolio": lambda: _faults("portfolio"),
    "faults-records": lambda: _faults("records"),
    "faults-session": lambda: _faults("session"),
    "faults-workflow": lambda: _faults("workflow"),
    "faults-adversarial": lambda: _faults("adversarial"),
    "record-fields": record_fields,
    "record-library": record_library,
    "truth-columns": truth_columns,
    "triggers": triggers,
    "components": components,
    "rewards": rewards,
    "potentials": potentials,
    "scenario-fields": scenario_fields,
    "scenario-library": scenario_library,
    "ppo-options": ppo_options,
    "baselines": baselines,
    "failure-modes": failure_modes,
    "commands": commands,
}
