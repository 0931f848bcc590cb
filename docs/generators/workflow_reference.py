"""Tables of the workflow environment, read from the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .reference import _fields, code, required, table, tidy
from .workflow_meanings import ACTIONS, COLUMNS, LIBRARY


def _core() -> Any:
    from brownout.envs.workflow_core import WorkflowCore

    return WorkflowCore("refund", 1)


def workflow_actions() -> str:
    """Actions, in their order."""
    rows = [
        (i, code(name), *required(ACTIONS, name, "ACTIONS").split(" / ")) for i, name in enumerate(_core().action_names)
    ]
    return table(("index", "action", "meaning", "allowed when"), rows)


def workflow_columns() -> str:
    """Observation columns of refund; the columns of every step in one row."""
    core = _core()
    steps = core.step_names
    rows: dict[str, list[Any]] = {}
    for index, column in enumerate(core.observation_columns):
        head, _, tail = column.name.partition(".")
        name = column.name
        if head == "at":
            name = "at.<step>"
        elif head in steps:
            name = f"<step>.{tail}"
        rows.setdefault(name, [index, column]).append(index)
    found = []
    for name, (first, column, *places) in rows.items():
        span = f"{column.low:g} to {column.high:g}"
        index = first if len(places) == 1 else f"{first}-{places[-1]}"
        found.append((index, code(name), column.unit, span, required(COLUMNS, name, "COLUMNS")))
    return table(("index", "column", "unit", "range", "meaning"), found)


def workflow_fields() -> str:
    """Every field of a workflow scenario, from the model that checks it."""
    from brownout.scenarios import WorkflowScenario

    schema = WorkflowScenario.model_json_schema()
    parts = []
    for name, where in _SECTIONS.items():
        part = schema["$defs"][name]
        text = tidy(" ".join(part["description"].split("\n\n")[0].split()))
        parts.append(f"### {where}\n\n{text}.\n\n{_fields(part, name)}")
    return "\n\n".join(parts)


_SECTIONS = {
    "RecordKind": "`records.<name>`",
    "Service": "`services.<name>`",
    "Reasoner": "`reasoners.cheap` and `.strong`",
    "Step": "`steps.<name>`",
    "Decision": "`decisions.<name>`",
    "MovingShare": "`decisions.<name>.drift`",
    "Token": "`token`",
    "Session": "`session`",
    "Requester": "`requester`",
    "History": "`history`",
}


def workflow_library() -> str:
    """The built-in workflows."""
    from brownout.scenarios import WorkflowScenario, builtin_scenarios, load_scenario

    rows = []
    for name in builtin_scenarios("workflow"):
        scenario = load_scenario(name)
        assert isinstance(scenario, WorkflowScenario)
        writes = sum(step.writes for step in scenario.steps.values())
        profiles = ", ".join(f"{p} ({len(faults)})" for p, faults in scenario.profiles.items())
        told = required(LIBRARY, name, "LIBRARY")
        rows.append((code(name), told, f"{len(scenario.steps)} ({writes})", ", ".join(scenario.decisions), profiles))
    return table(("scenario", "what it is", "steps (writes)", "decisions", "profiles (faults)"), rows)


def stress_terms() -> str:
    """Every word of a stress report, as the report itself explains it."""
    from brownout.trainers.stress_page import glossary

    parts = (f"### {title}\n\n" + table(("word", "meaning"), rows) for title, rows in glossary())
    return "\n\n".join(parts)


BLOCKS: dict[str, Callable[[], str]] = {
    "stress-terms": stress_terms,
    "workflow-actions": workflow_actions,
    "workflow-columns": workflow_columns,
    "workflow-fields": workflow_fields,
    "workflow-library": workflow_library,
}
