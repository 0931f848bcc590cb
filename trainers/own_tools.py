"""A team's own tools in the place of a workflow: what a stress run plays when no scenario fits.

Every episode has fresh tools under the same fault plan. They run for real, in the process of the agent; whether all
is well at the end is for a check of the team's to say.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, Self

import numpy as np
import yaml
from pydantic import BaseModel

from ..envs.streams import episode_keys, stream_id, uniform
from ..envs.wrap import WrappedTools, wrap
from ..envs.wrap_types import WrapTool
from ..errors import AgentError, BrownoutError, FaultError, StressError
from ..faults import FaultPlan
from .stress_agents import PLACES, AgentDriver, find_callable, source_digest

PROFILE: Final = "plan"
_NOT_BY_CHECK: Final = ("limit", "harness_error")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_SEEDS: Final = 2**31


class Made(NamedTuple):
    """The tools of one episode.

    Args:
        tools: what the agent is given, by name: the wrapped tools, and what is no tool as it is.
        wrapped: the wrapped tools.
        world: what they act on.
    """

    tools: dict[str, Any]
    wrapped: WrappedTools
    world: Any


@dataclass(frozen=True)
class OwnTools:
    """Tools, fault plan and check, as named on the command line; stands where a scenario would.

    Args:
        name: what the run is called by: the plan's file.
        tools: ``module:callable`` or ``path/file.py:callable``: ``make()`` or ``make(seed)`` returns tools by name
            (callables or :class:`WrapTool`; anything else reaches the agent as it is), or such tools and the world
            they act on.
        check: the same of ``check(world, answer)``; None counts every return of the agent as a success.
        specs: the faults.
    """

    name: str
    tools: str
    check: str | None
    specs: tuple[Mapping[str, Any], ...]
    env = "tools"
    path = None

    @classmethod
    def of(cls, tools: str, plan: str | Path, check: str | None) -> Self:
        """Read a plan.

        Raises:
            FaultError: it cannot be read, or is not valid.
        """
        try:
            specs = yaml.safe_load(Path(plan).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise FaultError(f"{plan}: cannot be read as a plan: {error}") from error
        read = FaultPlan.from_specs(specs, str(plan))
        return cls(Path(plan).stem, tools, check, tuple(read.to_specs()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` gave."""
        return cls(data["name"], data["tools"], data["check"], tuple(data["specs"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; files by their full paths, so that they are found from anywhere."""
        return asdict(self) | {"tools": _anywhere(self.tools), "check": self.check and _anywhere(self.check)}

    @property
    def hash(self) -> str:
        """Digest of the plan, 16 hexadecimal digits."""
        text = json.dumps(self.specs, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def plan(self) -> FaultPlan:
        """The faults."""
        return FaultPlan.from_specs(self.specs, self.name)

    @property
    def effects(self) -> list[str]:
        """The effects of the plan, each once."""
        return list(dict.fromkeys(fault.effect.name for fault in self.plan.faults))

    def about(self) -> dict[str, Any]:
        """What a resumed run must share."""
        files = [source_digest(spec) for spec in (self.tools, self.check) if spec is not None]
        return {"tools": self.tools, "check": self.check, "tools_digest": files}

    # ---------------------------------------------------------------- in the process of the agent

    @cached_property
    def _callables(self) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
        modules: dict[str, ModuleType] = {}  # a check beside its tools must see the same module
        make = find_callable(self.tools, "tools", (), modules)
        return make, None if self.check is None else find_callable(self.check, "check", (None, None), modules)

    def prepare(self, driver: AgentDriver) -> None:
        """Load everything and make the tools once, so that what cannot work is refused before the first episode.

        Raises:
            AgentError: a callable is not there, making the tools fails, or the agent is no callable.
            FaultError: the plan does not fit the tools.
        """
        if driver.remote:
            raise AgentError(f"agent {driver.spec!r}: tools of your own are called in its process; allowed: {PLACES}")
        try:
            self.make(0, 0, 1.0, None)
        except BrownoutError:
            raise
        except Exception as error:
            raise AgentError(f"tools {self.tools!r}: making them failed: {type(error).__name__}: {error}") from error

    def make(self, seed: int, episode: int, intensity: float, only: str | None) -> Made:
        """Make the tools of one episode.

        Args:
            seed: its seed.
            episode: its number.
            intensity: scales the faults.
            only: the one effect of the plan to play under; None for all.

        Raises:
            AgentError: what was made are no tools.
            FaultError: the plan does not fit them.
        """
        make, _ = self._callables
        key = episode_keys(np.array([seed]), np.array([episode]), "eval")
        drawn = int(uniform(key, stream_id("tools.make"), 0).item() * _SEEDS)
        found = make(seed=drawn) if "seed" in inspect.signature(make).parameters else make()
        given, world = found if isinstance(found, tuple) and len(found) == 2 else (found, found)
        if not isinstance(given, Mapping):
            raise AgentError(
                f"tools {self.tools!r}: made a {type(found).__name__}; allowed: tools by name, or these and a world"
            )
        mine = {name: tool for name, tool in given.items() if callable(tool) or isinstance(tool, WrapTool)}
        faults = tuple(fault for fault in self.plan.faults if only in (None, fault.effect.name))
        wrapped = wrap(mine, FaultPlan(faults), seed, intensity=intensity)
        wrapped.reset(seed, episode)
        return Made({**given, **wrapped}, wrapped, world)

    def judge(self, world: Any, answer: Any, returned: bool) -> dict[str, Any]:
        """Ask the check how an episode stands at its end.

        Args:
            world: what the tools acted on.
            answer: what the agent returned.
            returned: whether it did return.

        Returns:
            ``outcome`` and ``utility``, and what else the check said.

        Raises:
            StressError: the check's answer is of no form that is known.
        """
        _, check = self._callables
        said = returned if check is None else check(world, answer)
        if isinstance(said, bool | np.bool_):
            outcome = "success" if said else "silent_garbage" if returned and check is not None else "partial"
            said = {"outcome": outcome}
        return _verdict(said, f"check {self.check!r}")


def _verdict(said: Any, where: str) -> dict[str, Any]:
    from ..envs.workflow_state import OUTCOMES

    outcomes = [name for name in OUTCOMES if name and name not in _NOT_BY_CHECK]
    allowed = {"outcome": str, "utility": float, "wrong_effects": int, "duplicate_effects": int,
               "handed_over_right": bool}  # fmt: skip
    if not isinstance(said, Mapping):
        raise StressError(f"{where}: answered {said!r}; allowed: True, False or a mapping with {', '.join(allowed)}")
    unknown = [name for name in said if name not in allowed]
    if unknown:
        raise StressError(f"{where}: answered {unknown[0]!r}; allowed: {', '.join(allowed)}")
    if said.get("outcome") not in outcomes:
        raise StressError(f"{where}: outcome: got {said.get('outcome')!r}; allowed: {', '.join(outcomes)}")
    try:
        found = {name: allowed[name](value) for name, value in said.items()}
    except (TypeError, ValueError) as error:
        raise StressError(f"{where}: {error}") from None
    found.setdefault("utility", float(found["outcome"] == "success"))
    if not np.isfinite(found["utility"]):
        raise StressError(f"{where}: utility: got {found['utility']!r}; allowed: a finite number")
    return found


def _anywhere(spec: str) -> str:
    place, _, name = spec.rpartition(":")
    return f"{Path(place).expanduser().absolute()}:{name}" if place.endswith(".py") else spec


def as_text(value: Any) -> str:
    """What was given to a tool or came from it, as JSON that is the same every time."""
    try:
        return json.dumps(value, sort_keys=True, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_ADDRESS.sub("", repr(value)))


def as_data(arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as plain data; those without a name are called by their place."""
    given = {**{str(i): value for i, value in enumerate(arguments)}, **named}
    return {name: json.loads(as_text(value)) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return _ADDRESS.sub("", repr(value))
