"""``gate.yaml``: what a stress run must show before an agent may go out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import GateError, ScenarioError
from ..scenarios.places import Place, Source, explain, read_nodes

Finite = Annotated[float, Field(allow_inf_nan=False)]
Of = Literal["faulted", "clean", "paired", "baseline"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Threshold(_Part):
    """A bound on one figure, decided by its interval and never by its point estimate alone."""

    metric: str = Field(min_length=1, description="a figure of stress.json, such as success, cost_usd or latency_s.p99")
    of: Of = Field(
        "faulted",
        description="faulted or clean: that condition; paired: faulted minus clean on the same seeds; baseline: this "
        "run minus the baseline run on the same episodes",
    )
    effect: str | None = Field(
        None, description="only the episodes that this effect struck; metric: recovery, loss, success_loss or alone"
    )
    at_least: Finite | None = Field(None, description="least value allowed")
    at_most: Finite | None = Field(None, description="greatest value allowed")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most, or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least: {self.at_least} is above at_most: {self.at_most}; nothing could pass")
        if self.effect is not None and self.of != "faulted":
            raise ValueError(f"of: got {self.of!r}; allowed with effect: faulted")
        return self

    @property
    def low(self) -> float:
        """The least value allowed, minus infinity without one."""
        return -math.inf if self.at_least is None else self.at_least

    @property
    def high(self) -> float:
        """The greatest value allowed, infinity without one."""
        return math.inf if self.at_most is None else self.at_most

    def __str__(self) -> str:
        words = [self.metric] if self.effect is None else [self.metric, "of", self.effect]
        words += {"faulted": [], "clean": ["(clean)"], "paired": ["(faulted - clean)"],
                  "baseline": ["(this - baseline)"]}[self.of]  # fmt: skip
        if self.at_least is not None:
            words += [">=", f"{self.at_least:g}"]
        if self.at_most is not None:
            words += ["<=", f"{self.at_most:g}"]
        return " ".join(words)


class Promotion(_Part):
    """When a candidate may take the baseline's place: no worse in these, and better in one of those."""

    not_worse: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default={}, description="metric -> how much worse it may be"
    )
    better: tuple[str, ...] = Field((), description="metrics of which one must be better for sure; empty: none")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.not_worse and not self.better:
            raise ValueError("give not_worse or better, or both")
        return self


class Needs(_Part):
    """What a run must be to be judged at all."""

    episodes: int = Field(30, ge=2, description="valid episodes of each condition at least, repeats counted")
    invalid: float = Field(0.01, ge=0, le=1, description="share of episodes without a score at most")
    complete: bool = Field(True, description="whether every planned episode must have been played")


class GateConfig(_Part):
    """A gate."""

    version: Literal[1] = 1
    report: str | None = Field(None, description="run folder, from the folder of this file; the command line may say")
    baseline: str | None = Field(None, description="an earlier run folder over the same episodes, likewise")
    needs: Needs = Needs()  # pyright: ignore[reportCallIssue]
    thresholds: tuple[Threshold, ...] = ()
    promotion: Promotion | None = None

    @model_validator(mode="after")
    def _decides_something(self) -> Self:
        if not self.thresholds and self.promotion is None:
            raise ValueError("thresholds: got none, and no promotion: such a gate would let everything through")
        return self


def read_gate(path: str | Path) -> GateConfig:
    """Read a gate's file.

    Raises:
        GateError: naming the file, the line, the field, the value met and what is allowed.
    """
    path = Path(path)
    try:
        node = read_nodes(path)
    except ScenarioError as error:
        raise GateError(str(error)) from error
    data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise GateError(f"{path}: must be a mapping with thresholds, got {type(data).__name__}")
    try:
        return GateConfig.model_validate(data)
    except ValidationError as error:
        raise GateError(explain(error, Place(str(path), (Source(path, node),)), GateConfig)) from error
