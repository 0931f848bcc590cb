"""The JSON schema of scenario files, for editors and validators in other languages."""

from __future__ import annotations

import json
from typing import Any

from ..errors import FaultError, ScenarioError
from ..faults import parameter_schema, registered_faults
from ..rewards import known_rewards
from .loading import KINDS


def json_schema(env: str = "router") -> str:
    """Return the JSON schema of the scenario files of one environment, as text.

    It describes every built-in fault with its parameters. Faults of plug-ins pass unchecked, and what needs
    the whole scenario to judge (a trigger, a family's name) is left to :func:`load_scenario`.

    Raises:
        ScenarioError: if there is no such environment.
    """
    if env not in KINDS:
        raise ScenarioError(f"env: got {env!r}; allowed: {', '.join(KINDS)}")
    schema = KINDS[env].model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    form = definitions["DistributionSpec"]
    definitions["DistributionSpec"] = {"anyOf": [{"type": "number", "minimum": 0}, form]}
    definitions["Fault"] = _fault(definitions, KINDS[env].ports)
    properties = schema["properties"]
    _values(properties["profiles"], {"type": "array", "items": {"$ref": "#/$defs/Fault"}})
    if "portfolio" in properties:
        _values(properties["portfolio"], {"anyOf": [{"$ref": "#/$defs/Configuration"}, {"type": "null"}]})
    properties["extends"] = {
        "type": "string",
        "description": "built-in name or file whose fields this one takes over; lists and numbers replace",
    }
    properties["reward"]["properties"] = {"kind": {"enum": known_rewards()}}
    # what a base says need not be said again
    schema["anyOf"] = [{"required": ["extends"]}, {"required": schema.pop("required")}]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)


def _values(mapping: dict[str, Any], schema: dict[str, Any]) -> None:
    """Say what the values of a mapping with checked keys look like."""
    patterns = mapping.pop("patternProperties", {})
    mapping.update({"patternProperties": dict.fromkeys(patterns, schema), "additionalProperties": False})


def _fault(definitions: dict[str, Any], ports: frozenset[str]) -> dict[str, Any]:
    common = {
        "when": {"type": "string", "description": "trigger, e.g. rate(0.03) & on('judge')"},
        "id": {"type": "string", "description": "names the fault's random streams and its rows in the log"},
    }
    options: list[dict[str, Any]] = []
    for name, cls in registered_faults().items():
        if not cls.ports <= ports:
            continue
        try:
            parameters = parameter_schema(name)
        except (FaultError, TypeError):  # a plug-in whose parameters have no schema
            continue
        definitions.update(parameters.pop("$defs", {}))
        options.append(
            {
                "title": name,
                "type": "object",
                "description": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
                "properties": {"fault": {"const": name}, **parameters.get("properties", {}), **common},
                "required": ["fault", *parameters.get("required", []), *(["when"] if cls.default_when is None else [])],
                "additionalProperties": False,
            }
        )
    names = [option["title"] for option in options]
    other = {"title": "fault of a plug-in", "type": "object", "required": ["fault"],
             "properties": {"fault": {"type": "string", "not": {"enum": names}}, **common}}  # fmt: skip
    return {"oneOf": [*options, other]}
