"""The environments: lane core, router, their optimum. Importing this registers the Gymnasium ids.

``gymnasium.make("brownout.envs:brownout/Router-v0")`` imports and registers by itself, in a fresh process or
a Ray worker.
"""

from __future__ import annotations

import gymnasium as gym

ENVIRONMENTS = ("brownout/Router-v0",)

if "brownout/Router-v0" not in gym.registry:
    gym.register(
        id="brownout/Router-v0",
        entry_point="brownout.envs.router:RouterEnv",
        vector_entry_point="brownout.envs.router:RouterVectorEnv",
    )

__all__ = ["ENVIRONMENTS"]
