"""The metrics of stressed episodes: what they are called, their unit, which direction is better, one value each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .stress_report import Better
from .stress_rows import EpisodeRow


class Metric(NamedTuple):
    """One number per episode.

    Args:
        unit: ``share``, ``utility``, ``USD``, ``s`` or ``calls``.
        better: which direction is better.
        of: its value in an episode; 0 or 1 for a share.
    """

    unit: str
    better: Better
    of: Callable[[EpisodeRow], float]


def _ended(word: str) -> Callable[[EpisodeRow], float]:
    return lambda row: float(row.outcome == word)


def _agent(word: str) -> Callable[[EpisodeRow], float]:
    return lambda row: float(row.agent_outcome == word)


METRICS: Final[dict[str, Metric]] = {
    "success": Metric("share", "higher", lambda row: float(row.success)),
    "silent_garbage": Metric("share", "lower", _ended("silent_garbage")),
    "duplicate_effect": Metric("share", "lower", _ended("duplicate_effect")),
    "partial": Metric("share", "lower", _ended("partial")),
    "escalated": Metric("share", "lower", _ended("escalated")),
    "aborted": Metric("share", "lower", _ended("aborted")),
    "limit": Metric("share", "lower", _ended("limit")),
    "crash": Metric("share", "lower", _agent("crash")),
    "hang": Metric("share", "lower", _agent("hang")),
    "killed": Metric("share", "lower", _agent("killed")),
    "loop": Metric("share", "lower", _agent("loop")),
    "utility": Metric("utility", "higher", lambda row: row.utility),
    "cost_usd": Metric("USD", "lower", lambda row: row.cost_usd),
    "latency_s": Metric("s", "lower", lambda row: row.latency_s),
    "calls": Metric("calls", "lower", lambda row: float(row.calls)),
}
