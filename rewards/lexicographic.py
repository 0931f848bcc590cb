"""Lexicographic preference: first things first, at a stated resolution."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import RewardError
from .components import COMPONENT_NAMES, COMPONENTS
from .registry import F64, Preference, check_number, did_you_mean, register_reward


@register_reward("lexicographic")
@dataclass(frozen=True)
class Lexicographic:
    """Components in strict order of importance, as one weighted sum.

    An order over episode totals that are bounded and told apart at a resolution is a weighted sum: each
    component gets a weight such that one ``resolution`` of it outweighs the whole range of everything after
    it. Of two policies whose mean episode totals agree on the first ``i`` components and differ by at least
    the resolution on the next, the better one there has the greater mean reward, whatever the rest does
    within its bounds. The weights are scaled so that the first is 1 per unit; they span orders of magnitude,
    so four components are the practical limit.

    Args:
        order: component names, most important first. The sign of each comes from ``COMPONENTS``.
        bounds: largest total of each component in one episode, by name; 1 where not given. Budget and
            deadline are the natural bounds of ``cost_usd`` and ``latency_s``.
        resolution: least difference of each component that counts, by name; a hundredth of its bound
            where not given.

    Raises:
        RewardError: if a name is unknown or given twice, or a number is not positive.
    """

    order: tuple[str, ...] = ("safety", "accuracy", "cost_usd", "latency_s")
    bounds: dict[str, float] = field(default_factory=dict)
    resolution: dict[str, float] = field(default_factory=dict)
    weights: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = list(COMPONENT_NAMES)
        for where, given in (("order", self.order), ("bounds", self.bounds), ("resolution", self.resolution)):
            for name in given:
                if name not in names:
                    near = did_you_mean(name, names)
                    raise RewardError(f"lexicographic.{where}: got {name!r}{near}; allowed: {', '.join(names)}")
        if not self.order or len(set(self.order)) != len(self.order):
            raise RewardError(f"lexicographic.order: got {list(self.order)}; allowed: names, each once")
        weights: list[float] = []
        range_below = 0.0
        for name in reversed(self.order):
            bound = check_number(f"lexicographic.bounds.{name}", self.bounds.get(name, 1.0), 0.0, above=True)
            step = self.resolution.get(name, bound / 100.0)
            step = check_number(f"lexicographic.resolution.{name}", step, 0.0, bound, above=True)
            # the factor 2 makes the earlier component win clearly instead of by a rounding error
            weight = 2.0 * range_below / step if weights else 1.0 / bound
            weights.append(weight)
            range_below += weight * bound
        signs = {component.name: component.good for component in COMPONENTS}
        ranked = zip(self.order, reversed(weights), strict=True)
        scaled = tuple(signs[name] * (weight / weights[-1]) for name, weight in ranked)
        object.__setattr__(self, "weights", scaled)

    def __call__(self, components: F64, preference: Preference) -> F64:
        """Return the ``(N,)`` rewards of ``(N, C)`` components; the preference plays no part."""
        total = components[:, COMPONENT_NAMES.index(self.order[0])] * self.weights[0]
        for name, weight in zip(self.order[1:], self.weights[1:], strict=True):
            total += components[:, COMPONENT_NAMES.index(name)] * weight
        return total
