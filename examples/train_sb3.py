"""Train MaskablePPO of sb3-contrib on the native environment.

    python examples/train_sb3.py --scenario support-desk --steps 400000

All lanes are stepped at once; masks reach the learner through ``env_method("action_masks")``. Utility is
measured before and after on held-out episodes, under the same faults.
"""

from __future__ import annotations

import argparse
import time

import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecNormalize

import brownout
from brownout.trainers.sb3 import SB3Policy, make_sb3

LANES, ROLLOUT = 512, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="support-desk", help="built-in name or YAML file")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps of training")
    parser.add_argument("--episodes", type=int, default=2000, help="held-out episodes of each measurement")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # small minibatches lose time to a second thread

    env = VecNormalize(make_sb3(args.scenario, LANES, seed=args.seed), norm_reward=False)
    model = MaskablePPO(
        "MlpPolicy",
        env,
        n_steps=ROLLOUT,
        batch_size=1024,
        n_epochs=2,
        learning_rate=1e-3,
        gamma=1.0,  # episodes end by themselves, and time is charged by the reward
        ent_coef=0.01,
        seed=args.seed,
        policy_kwargs={"net_arch": [64, 64]},
    )

    def utility() -> str:
        env.training = False  # held-out episodes must not move the normaliser
        row = brownout.evaluate([SB3Policy(model)], args.scenario, episodes=args.episodes).rows[0]
        env.training = True
        return f"{row.utility.value:.3f} ± {row.utility.half_width:.3f}"

    print(f"utility before: {utility()}")
    start = time.perf_counter()
    model.learn(args.steps)
    rate = model.num_timesteps / (time.perf_counter() - start)
    print(f"utility after {model.num_timesteps:,} steps at {rate:,.0f} steps/s: {utility()}")


if __name__ == "__main__":
    main()
