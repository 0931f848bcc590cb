"""Episodes of tools with faults of one's own, and a walk along the happy path."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from brownout import ToolEpisode, ToolSession, load_scenario
from brownout.scenarios import Scenario

AGENTS = Path(__file__).parents[1] / "examples" / "agents"


@lru_cache(maxsize=64)
def scenario_of(name: str, faults: tuple[tuple[tuple[str, Any], ...], ...]) -> Scenario:
    """A built-in workflow whose production has these faults and no others."""
    data = load_scenario(name).model_dump(mode="json")
    data["profiles"] = {"clean": [], "production": [dict(fault) for fault in faults]}
    return load_scenario(data)


def episode(*faults: Mapping[str, Any], scenario: str = "refund", seed: int = 0, **options: Any) -> ToolEpisode:
    """An episode of a built-in workflow with faults of one's own."""
    frozen = tuple(tuple(sorted(fault.items())) for fault in faults)
    return ToolEpisode(scenario_of(scenario, frozen), seed, **options)


def agent(name: str) -> Callable[[ToolSession], None]:
    """One of the agents of the examples."""
    spec = importlib.util.spec_from_file_location(f"agent_{name}", AGENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handle


class Walk:
    """What the happy path of a workflow needs: the right values, and the steps in order."""

    def __init__(self, episode: ToolEpisode) -> None:
        self.episode, self.session, self.core = episode, episode.session, episode._core
        self.steps = {step["step"]: step for step in episode.session.task["procedure"]}

    def right(self, step: str) -> dict[str, Any]:
        """The arguments that a step should have, from the truth."""
        expected = self.core.expected(self.core.step_names.index(step))
        named = {
            name.replace(".", "_"): value
            for name, value in zip(
                [self.core.field_names[column] for column in expected], expected.values(), strict=True
            )
        }
        return {argument: named[argument] for argument in self.steps[step]["needs"]}

    def call(self, step: str, **changes: Any) -> Any:
        """Carry a step out with the right arguments, or some changed ones."""
        return self.session.call(self.steps[step]["tool"], **{**self.right(step), **changes})

    def do(self, *steps: str) -> None:
        """Carry out some steps with the right arguments."""
        for step in steps:
            self.call(step)

    def list(self, tool: str) -> list[dict[str, Any]]:
        """The items of a list."""
        return self.session.call(tool).json()["items"]

    def record(self, name: str) -> Any:
        """Read a record."""
        tool = next(tool.name for tool in self.session.tools if tool.name.endswith(f".get_{name}"))
        return self.session.call(tool, id=self.session.task[f"{name}_id"])
