"""Pluggable faults: a trigger (when and where) times an effect (what happens)."""

from __future__ import annotations

# Importing these three registers the built-in effects.
from . import latency as latency
from . import portfolio as portfolio
from . import services as services
from .base import CallEffect, Memory, Metadata, Stage, check_choice, check_number, check_share
from .calls import Calls, Status, Verb
from .catalogue import describe_faults
from .compose import And, Context, Not, Or, Trigger, known_triggers, register_trigger
from .draws import Draw
from .graded import GradedPlan
from .grammar import parse_trigger
from .log import InjectionLog
from .plan import FaultPlan, PlannedFault, parameter_schema
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
    "Between",
    "BoundPlan",
    "Burst",
    "CallEffect",
    "Calls",
    "Context",
    "Draw",
    "Drift",
    "EmptyWorld",
    "Every",
    "FaultPlan",
    "GradedPlan",
    "InjectionLog",
    "Memory",
    "Metadata",
    "Not",
    "NthCall",
    "On",
    "Or",
    "PlannedFault",
    "Ramp",
    "Rate",
    "Services",
    "Stage",
    "Status",
    "Sticky",
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
