"""Scenarios: schema, built-in library, recorded tables, and their loading."""

from __future__ import annotations

from .loading import builtin_scenarios, fault_plan, load_scenario, profile_names, services_of
from .record_loading import builtin_record_schemas, load_record_schema
from .record_schema import RecordSchema
from .records import RecordSource
from .schema import RouterScenario, Scenario
from .schema_export import json_schema
from .workflow_schema import WorkflowScenario

__all__ = [
    "RecordSchema",
    "RecordSource",
    "RouterScenario",
    "Scenario",
    "WorkflowScenario",
    "builtin_record_schemas",
    "builtin_scenarios",
    "fault_plan",
    "json_schema",
    "load_record_schema",
    "load_scenario",
    "profile_names",
    "services_of",
]
