"""The environments: lane core, router, workflow, their optimum. Importing this registers the Gymnasium ids.

``gymnasium.make("brownout.envs:brownout/Router-v0")`` imports and registers by itself, in a fresh process or
a Ray worker.
"""

from __future__ import annotations

import gymnasium as gym

ENVIRONMENTS = ("brownout/Router-v0", "brownout/Workflow-v0")

for _id in ENVIRONMENTS:
    _name = _id.partition("/")[2].partition("-")[0]
    if _id not in gym.registry:
        gym.register(
            id=_id,
            entry_point=f"brownout.envs.{_name.lower()}:{_name}Env",
            vector_entry_point=f"brownout.envs.{_name.lower()}:{_name}VectorEnv",
        )

__all__ = ["ENVIRONMENTS"]
