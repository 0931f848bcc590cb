"""How a scenario file writes a distribution, and its compilation to a quantile table."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from ..envs.quantiles import (
    QuantileTable,
    constant,
    empirical,
    lognormal,
    lognormal_mean,
    uniform_between,
)

_FORMS = (
    "a number, {median, p95} (log-normal), {mean, spread} (log-normal; spread = log standard deviation), "
    "{low, high} (uniform) or {samples: [...]}"
)


class DistributionSpec(BaseModel):
    """One non-negative distribution: exactly one of its five forms is filled in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = Field(None, ge=0)
    median: float | None = Field(None, gt=0)
    p95: float | None = Field(None, gt=0)
    mean: float | None = Field(None, gt=0)
    spread: float | None = Field(None, ge=0, le=4)
    low: float | None = Field(None, ge=0)
    high: float | None = Field(None, ge=0)
    samples: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_form(self) -> DistributionSpec:
        given = {name for name, value in self if value is not None}
        if given not in ({"value"}, {"median", "p95"}, {"mean", "spread"}, {"low", "high"}, {"samples"}):
            raise ValueError(f"give {_FORMS}; got the keys {sorted(given)}")
        if self.p95 is not None and self.median is not None and self.p95 < self.median:
            raise ValueError(f"p95 must be at least the median {self.median}, got {self.p95}")
        if self.high is not None and self.low is not None and self.high < self.low:
            raise ValueError(f"high must be at least low {self.low}, got {self.high}")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any] | float:
        """The shortest form that reads back as the same distribution."""
        if self.value is not None:
            return self.value
        return {name: value for name, value in self if value is not None}

    def table(self) -> QuantileTable:
        """Compile to the quantile table that the environment samples."""
        if self.value is not None:
            return constant(self.value)
        if self.median is not None and self.p95 is not None:
            return lognormal(self.median, self.p95)
        if self.mean is not None and self.spread is not None:
            return lognormal_mean(self.mean, self.spread)
        if self.low is not None and self.high is not None:
            return uniform_between(self.low, self.high)
        assert self.samples is not None
        return empirical(self.samples)


def _from_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, dict, DistributionSpec)):
        raise ValueError(f"give {_FORMS}")
    return {"value": value} if isinstance(value, (int, float)) else value


def _finite(spec: DistributionSpec) -> DistributionSpec:
    spec.table()
    return spec


Distribution = Annotated[DistributionSpec, BeforeValidator(_from_number), AfterValidator(_finite)]
