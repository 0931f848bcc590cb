"""Typed errors: every refusal names its place, the value it met and what is allowed."""

from __future__ import annotations


class BrownoutError(Exception):
    """Base of every error that brownout raises on purpose."""


class ScenarioError(BrownoutError, ValueError):
    """A scenario file, override or profile is not valid."""


class RecordError(ScenarioError):
    """A schema of records, or what is asked of one, is not valid."""


class FaultError(BrownoutError, ValueError):
    """A fault, trigger or fault plan is not valid, or does not fit the environment."""


class TableError(BrownoutError, ValueError):
    """A table of recorded runs cannot be used as it is."""


class RewardError(BrownoutError, ValueError):
    """A reward, preference or shaping term is not valid."""


class ArtefactError(BrownoutError, ValueError):
    """A policy folder or checkpoint is damaged, or does not fit the environment."""


class PolicyError(BrownoutError, ValueError):
    """A policy name or a policy's action is not valid."""


class AgentError(BrownoutError, ValueError):
    """An agent under stress cannot be loaded or started."""


class StressError(BrownoutError, ValueError):
    """A stress run, or what is built on one, is not possible as it was asked for."""


class WorkerError(BrownoutError, RuntimeError):
    """A worker crashed, hung or could not be replaced; what was done so far is kept."""


class ServeError(BrownoutError, RuntimeError):
    """A service cannot start or go on: an address in use, a limit out of range, a damaged record."""


class GateError(BrownoutError, ValueError):
    """A gate cannot be used as it is written, or asks for what a run does not hold."""


class EpisodeError(BrownoutError, RuntimeError):
    """An episode of tools is still open, or cannot be made again as it was recorded."""
