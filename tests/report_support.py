"""A training and a stress run of a moment, to report on, and what a picture says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import brownout
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.stress import stress

AGENTS = Path(__file__).resolve().parents[1] / "examples" / "agents"
TINY = PPOConfig(lanes=32, rollout_steps=8, minibatch=128, hidden=(8, 8))


def train_tiny(folder: Path, scenario: Any, **options: Any) -> Path:
    """Train for a few iterations; returns the run folder."""
    brownout.train(scenario, steps=1024, seed=3, out=folder, config=TINY, evaluate_every=2, **options)
    return folder


def stress_tiny(folder: Path, agent: str | None = None, **options: Any) -> Path:
    """Stress an agent for a moment; returns the run folder."""
    spec = agent or f"{AGENTS / 'retrying.py'}:handle"
    stress(spec, options.pop("scenario", "refund"), out=folder, **{"episodes": 8, **options})
    return folder


def words(svg: str) -> list[str]:
    """Text of a picture, in order."""
    return [re.sub(r"<[^>]+>", "", text).strip() for text in re.findall(r"<text\b.*?</text>", svg, re.DOTALL)]
