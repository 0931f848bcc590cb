"""Pluggable faults: a trigger (when and where) times an effect (what happens)."""

from __future__ import annotations

# Importing these registers the built-in effects.
from . import adversarial as adversarial
from . import latency as latency
from . import portfolio as portfolio
from . import record_triggers as record_triggers
from . import records as records
from . import services as services
from . import session as session
from . import workflow as workflow
from .base import CallEffect, Effect, Memory, Metadata, Stage, check_choice, check_number, check_share
from .calls import Calls, Status, Verb
from .catalogue import describe_faults
from .cells import CellContext, Cells, FieldFacts, Fields, FieldType, Struck
from .compose import And, Context, Not, Or, Trigger, known_triggers, register_trigger
from .draws import Draw
from .graded import GradedPlan
from .grammar import parse_trigger
from .log import InjectionLog
from .plan import FaultPlan, PlannedFault, parameter_schema
from .record_base import CellDraw, CellText, RecordEffect
from .record_plan import BoundRecordPlan
from .record_triggers import BadRecords, Depends, OwnValue
from .registry import known_faults, load_plugin, lookup, register_fault, registered_faults, unregister_fault
from .runtime import BoundPlan
from .triggers import (
    After,
    Always,
    Between,
    Burst,
    Drift,
    Every,
    NthCall,
    On,
    Ramp,
    Rate,
    Sticky,
    When,
)
from .world import EmptyWorld, Services, World

__all__ = [
    "After",
    "Always",
    "And",
    "BadRecords",
    "Between",
    "BoundPlan",
    "BoundRecordPlan",
    "Burst",
    "CallEffect",
    "Calls",
    "CellContext",
    "CellDraw",
    "CellText",
    "Cells",
    "Context",
    "Depends",
    "Draw",
    "Drift",
    "Effect",
    "EmptyWorld",
    "Every",
    "FaultPlan",
    "FieldFacts",
    "FieldType",
    "Fields",
    "GradedPlan",
    "InjectionLog",
    "Memory",
    "Metadata",
    "Not",
    "NthCall",
    "On",
    "Or",
    "OwnValue",
    "PlannedFault",
    "Ramp",
    "Rate",
    "RecordEffect",
    "Services",
    "Stage",
    "Status",
    "Sticky",
    "Struck",
    "Trigger",
    "Verb",
    "When",
    "World",
    "check_choice",
    "check_number",
    "check_share",
    "describe_faults",
    "known_faults",
    "known_triggers",
    "load_plugin",
    "lookup",
    "parameter_schema",
    "parse_trigger",
    "register_fault",
    "register_trigger",
    "registered_faults",
    "unregister_fault",
]
