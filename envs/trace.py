"""Trace digests: one short text that stands for everything that happened in a set of episodes.

The digest covers package version, scenario hash, seeds, actions, observations, rewards, components and flags,
bit for bit. It does not depend on the number of lanes, workers or the order in which episodes were played, so
equal digests prove equal simulations; a profile or an intensity shows only where it changes what happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .lanes import I64, LaneCore
from .streams import pick_allowed, stream_id, uniform

_ACTION_STREAM = stream_id("trace.action")


def random_actions(core: LaneCore, mask: Any) -> I64:
    """A legal action per lane, drawn from the lane's own stream at its own step."""
    return pick_allowed(uniform(core.keys, _ACTION_STREAM, core.steps), mask)


def episode_digests(core: LaneCore, episodes: int, seed: int = 0, actor: Any = None) -> list[str]:
    """Play episodes ``seed ... seed + episodes - 1`` and return the digest of each.

    Args:
        core: the lanes to play on; their state is overwritten.
        episodes: how many episodes.
        seed: seed of the first.
        actor: object with ``act_batch(observations, mask)``; default: keyed random legal actions.
    """
    from .. import __version__

    header = f"{__version__} {core.scenario.hash}"
    n = core.num_lanes
    digests = [""] * episodes
    running = np.arange(n)
    core.seed(core.all_lanes, [seed + int(e) for e in running])
    core.begin(core.all_lanes)
    hashes = [hashlib.blake2b(f"{header} {seed + i}".encode(), digest_size=16) for i in range(n)]
    observation, mask = core.observe(), core.mask()
    following, finished = n, 0
    while finished < episodes:
        live = np.flatnonzero(running < episodes)
        for lane in live:
            hashes[lane].update(observation[lane].tobytes())
            hashes[lane].update(mask[lane].tobytes())
        actions = random_actions(core, mask) if actor is None else np.asarray(actor.act_batch(observation, mask))
        idle = np.flatnonzero(running >= episodes)
        core.advance(actions.astype(np.int64), idle if idle.size else None)
        observation, mask = core.observe(), core.mask()
        ended = []
        for lane in live:
            over = bool(core.terminated[lane] or core.truncated[lane])
            record = (actions[lane], core.reward[lane], core.components[lane], core.terminated[lane])
            for part in record:
                hashes[lane].update(part.tobytes())
            if over:
                hashes[lane].update(observation[lane].tobytes() + core.outcome[lane].tobytes())
                digests[running[lane]] = hashes[lane].hexdigest()
                ended.append(lane)
        if ended:
            lanes = np.array(ended, dtype=np.int64)
            finished += len(ended)
            running[lanes] = np.arange(following, following + len(ended))
            following += len(ended)
            core.seed(lanes, [seed + int(e) for e in running[lanes]])
            core.begin(lanes)
            for lane in ended:
                hashes[lane] = hashlib.blake2b(f"{header} {seed + running[lane]}".encode(), digest_size=16)
            observation[lanes], mask[lanes] = core.observe(lanes), core.mask(lanes)
    return digests


def merge_digests(digests: Sequence[str]) -> str:
    """Condense episode digests, in the order of their seeds, into one."""
    return hashlib.blake2b("\n".join(digests).encode(), digest_size=16).hexdigest()


def trace_digest(
    scenario: Any,
    episodes: int = 256,
    *,
    seed: int = 0,
    lanes: int = 64,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "train",
    actor: Any = None,
) -> str:
    """Digest of a set of episodes; a function of version, scenario, seed and actions alone.

    Args:
        scenario: built-in name, path, mapping or scenario.
        episodes: how many episodes.
        seed: seed of the first.
        lanes: lanes to play on; changes nothing but speed.
        profile: fault profile.
        intensity: fault intensity.
        split: ``train`` or ``eval``.
        actor: who acts; default: keyed random legal actions.

    >>> trace_digest("textbook", 8, lanes=1) == trace_digest("textbook", 8, lanes=8)
    True
    """
    from .cores import make_core

    core = make_core(scenario, lanes, profile=profile, intensity=intensity, split=split)
    return merge_digests(episode_digests(core, episodes, seed, actor))
