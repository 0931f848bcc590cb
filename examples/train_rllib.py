"""Train RLlib's PPO on the native environment, with masked actions.

    python examples/train_rllib.py --scenario support-desk --steps 100000

The environment reaches RLlib as one vector environment per runner, with next-step autoreset, which RLlib
assumes. Utility is measured before and after on held-out episodes, under the same faults.
"""

from __future__ import annotations

import argparse
import logging
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

import brownout
from brownout.trainers.rllib import RLlibPolicy, ppo_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="support-desk", help="built-in name or YAML file")
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of training")
    parser.add_argument("--episodes", type=int, default=2000, help="held-out episodes of each measurement")
    parser.add_argument("--runners", type=int, default=0, help="remote runners; 0 samples in this process")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    config = ppo_config(args.scenario, num_envs=64, steps=64, num_env_runners=args.runners, seed=args.seed)
    algorithm = config.build_algo()

    def utility() -> str:
        policy = RLlibPolicy(algorithm.get_module())
        row = brownout.evaluate([policy], args.scenario, episodes=args.episodes).rows[0]
        return f"{row.utility.value:.3f} ± {row.utility.half_width:.3f}"

    print(f"utility before: {utility()}")
    steps, start = 0, time.perf_counter()
    while steps < args.steps:
        steps = int(algorithm.train()["num_env_steps_sampled_lifetime"])
    rate = steps / (time.perf_counter() - start)
    print(f"utility after {steps:,} steps at {rate:,.0f} steps/s: {utility()}")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
