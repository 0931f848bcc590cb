"""Training steps per second: our PPO beside Stable-Baselines3's and RLlib's, on the same scenario.

    python benchmarks/training.py [--iterations 60] [--rounds 6] [--only ours,sb3] [--cpu] [--json] [--quick]

All of them train the same network (64 x 64 tanh, a value net of its own) on ``support-desk`` under production
faults, with the same batches (512 lanes x 32 steps, minibatches of 1,024, 2 epochs), step size, discount,
clipping and entropy bonus, all constant, and one torch thread, in one process:

* ours: ``brownout.trainers.training.Trainer``, masked;
* sb3: ``PPO`` on the native environment (``brownout.trainers.sb3``) with ``VecNormalize``; it knows no masks;
* sb3-masked: ``MaskablePPO`` of sb3-contrib, likewise;
* rllib: RLlib's PPO on the native environment (``brownout.trainers.rllib``), masked, sampling in process.

They take turns: a round is a few iterations of each, the first round warms up, and the figure is the median
over the other rounds. Start-up is not counted. On a machine that others use as well, take ``--cpu``.

Afterwards every policy plays the same held-out episodes, so that speed is not bought with quality. A benchmark
is no test: the exit status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

# Before NumPy, torch or Ray is imported: thread counts are read once, at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from brownout.trainers.evaluation import evaluate

SCENARIO = "support-desk"
LANES, STEPS, MINIBATCH, EPOCHS = 512, 32, 1024, 2
LEARNING_RATE, GAMMA, LAMBDA, CLIP, ENTROPY, HIDDEN = 1e-3, 1.0, 0.95, 0.2, 0.01, (64, 64)
BATCH = LANES * STEPS
AIMS = {"sb3": 1.3, "sb3-masked": 1.3, "rllib": 6.0}


class Rival(ABC):
    """One trainer: ``run`` makes iterations, ``act_batch`` is its greedy policy."""

    name: str
    library: str

    @abstractmethod
    def run(self, iterations: int) -> None:
        """Train on for some iterations of ``BATCH`` steps."""

    @abstractmethod
    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """The most likely actions."""

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Give back what it holds."""


class Ours(Rival):
    name, library = "ours", "brownout"

    def __init__(self, seed: int) -> None:
        from brownout.trainers.api import Task
        from brownout.trainers.ppo import PPOConfig
        from brownout.trainers.training import Trainer

        config = PPOConfig(
            steps=10**9, seed=seed, lanes=LANES, rollout_steps=STEPS, minibatch=MINIBATCH, epochs=EPOCHS,
            learning_rate=LEARNING_RATE, gamma=GAMMA, gae_lambda=LAMBDA, clip=CLIP, entropy=ENTROPY, hidden=HIDDEN,
        )  # fmt: skip  # the schedules span 10**9 steps, so here they are constant
        self._trainer = Trainer(Task(_scenario()).make_env(LANES, GAMMA), config)
        self._policy: Any = None

    def run(self, iterations: int) -> None:
        for _ in range(iterations):
            self._trainer.step()
        self._policy = None

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        self._policy = self._policy or self._trainer.policy()
        return self._policy.act_batch(observations, mask)


class StableBaselines(Rival):
    name, library = "sb3", "stable-baselines3 PPO"

    def __init__(self, seed: int) -> None:
        from stable_baselines3 import PPO

        self._model, self._env = self._build(PPO, "MlpPolicy", seed)

    def _build(self, algorithm: Any, policy: str, seed: int) -> tuple[Any, Any]:
        from stable_baselines3.common.vec_env import VecNormalize

        from brownout.trainers.sb3 import make_sb3

        env = VecNormalize(make_sb3(_scenario(), LANES, seed=seed), norm_reward=True, gamma=GAMMA)
        model = algorithm(
            policy, env, n_steps=STEPS, batch_size=MINIBATCH, n_epochs=EPOCHS, learning_rate=LEARNING_RATE,
            gamma=GAMMA, gae_lambda=LAMBDA, clip_range=CLIP, ent_coef=ENTROPY, seed=seed, device="cpu", verbose=0,
            policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}},
        )  # fmt: skip
        return model, env

    def run(self, iterations: int) -> None:
        self._model.learn(iterations * BATCH, reset_num_timesteps=False)

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        # unmasked PPO may choose what is forbidden; that does nothing and uses up a step, as it did in training
        return self._model.predict(self._env.normalize_obs(observations), deterministic=True)[0].astype(np.int64)

    def close(self) -> None:
        self._env.close()


class Maskable(StableBaselines):
    name, library = "sb3-masked", "sb3-contrib MaskablePPO"

    def __init__(self, seed: int) -> None:
        from sb3_contrib import MaskablePPO

        self._model, self._env = self._build(MaskablePPO, "MlpPolicy", seed)

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        rows = self._env.normalize_obs(observations)
        return self._model.predict(rows, action_masks=mask, deterministic=True)[0].astype(np.int64)


class RLlib(Rival):
    name, library = "rllib", "RLlib PPO"

    def __init__(self, seed: int) -> None:
        import ray
        import ray.rllib  # sets levels of loggers, which are set back below

        from brownout.trainers.rllib import ppo_config

        for logger in ("ray", "ray.rllib"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
            object_store_memory=100 * 2**20, configure_logging=False,
        )  # fmt: skip
        config = ppo_config(SCENARIO, LANES, seed=seed, steps=STEPS, hidden=HIDDEN)
        config.training(
            lr=LEARNING_RATE, gamma=GAMMA, lambda_=LAMBDA, clip_param=CLIP, entropy_coeff=ENTROPY,
            train_batch_size_per_learner=BATCH, minibatch_size=MINIBATCH, num_epochs=EPOCHS,
        )  # fmt: skip
        self._algorithm = config.build_algo()

    def run(self, iterations: int) -> None:
        for _ in range(iterations):
            self._algorithm.train()

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        import torch

        module: Any = self._algorithm.get_module()
        rows = {"observations": torch.from_numpy(observations), "action_mask": torch.from_numpy(mask.astype(np.int8))}
        with torch.inference_mode():
            logits = module.forward_inference({"obs": rows})["action_dist_inputs"]
        return logits.argmax(dim=1).numpy()

    def close(self) -> None:
        import ray

        self._algorithm.stop()
        ray.shutdown()


RIVALS: dict[str, type[Any]] = {rival.name: rival for rival in (Ours, StableBaselines, Maskable, RLlib)}


def _scenario() -> Any:
    from brownout.scenarios import load_scenario

    return load_scenario(SCENARIO)


def race(
    rivals: Sequence[Rival], rounds: int, each: int, clock: Callable[[], float], say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Steps per second of every rival and round; round 0 warms up and is left out."""
    import torch

    speeds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for number in range(rounds + 1):
        for rival in rivals:
            say(f"round {number} of {rounds}: {rival.library}")
            torch.set_num_threads(1)  # a library may have set it otherwise
            start = clock()
            rival.run(each)
            if number:
                speeds[rival.name].append(each * BATCH / (clock() - start))
    return speeds


def report(rivals: Sequence[Rival], speeds: dict[str, list[float]], episodes: int) -> list[dict[str, Any]]:
    """One row per rival: speed, ratio, utility on the same held-out episodes."""
    table = evaluate({rival.name: rival for rival in rivals}, SCENARIO, episodes=episodes)
    rows = []
    for rival in rivals:
        speed = speeds[rival.name]
        # ratios of the same round: what slows the machine down slows both
        ratios = [ours / other for ours, other in zip(speeds.get("ours", []), speed, strict=False)]
        row = table.row(rival.name)
        rows.append({
            "name": rival.name, "library": rival.library, "steps_per_s": statistics.median(speed),
            "low": min(speed), "high": max(speed), "ours_is_faster": statistics.median(ratios) if ratios else None,
            "aim": AIMS.get(rival.name), "utility": row.utility.value, "utility_half_width": row.utility.half_width,
            "success": row.success.value,
        })  # fmt: skip
    return rows


def show(rows: Sequence[dict[str, Any]], steps: int, episodes: int, console: Console) -> None:
    """Print the table."""
    title = f"{SCENARIO}, production faults, batches of {LANES} x {STEPS}, one torch thread, {steps:,} steps each"
    table = Table(title=title, title_justify="left")
    names = (
        "trainer",
        "steps/s: median (range)",
        "ours is faster by",
        "aim",
        f"utility ({episodes:,} episodes)",
        "success",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "trainer" else "right", no_wrap=True)
    for row in rows:
        ratio, aim = row["ours_is_faster"], row["aim"]
        table.add_row(
            row["library"],
            f"{row['steps_per_s']:,.0f} ({row['low']:,.0f} to {row['high']:,.0f})",
            "" if ratio is None or aim is None else f"{ratio:.2f}",
            "" if aim is None else f"{aim:g}",
            f"{row['utility']:.3f} ± {row['utility_half_width']:.3f}",
            f"{100 * row['success']:.1f} %",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=60, help=f"iterations of {BATCH:,} steps, warm-up apart")
    parser.add_argument("--rounds", type=int, default=6, help="rounds into which the iterations are divided")
    parser.add_argument("--episodes", type=int, default=5000, help="held-out episodes per policy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(RIVALS), help="trainers to run, by commas")
    parser.add_argument("--quick", action="store_true", help="three rounds of two iterations")
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU time instead of the wall clock's")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.quick:
        options.iterations, options.rounds = 6, 3
    each = max(1, options.iterations // options.rounds)
    steps = each * (options.rounds + 1) * BATCH
    clock = time.process_time if options.cpu else time.perf_counter
    warnings.simplefilter("ignore")
    progress = Console(stderr=True)
    rivals: list[Rival] = []
    try:
        with progress.status("starting") as status:
            for name in options.only.split(","):
                try:
                    rivals.append(RIVALS[name](options.seed))
                except KeyError:
                    parser.error(f"--only: got {name!r}; allowed: {', '.join(RIVALS)}")
                except ImportError as error:
                    progress.print(f"{name} is left out: {error}", highlight=False)
            speeds = race(rivals, options.rounds, each, clock, status.update)
            status.update("evaluating")
            rows = report(rivals, speeds, options.episodes)
    finally:
        for rival in rivals:
            rival.close()
    if options.json:
        json.dump({"scenario": SCENARIO, "steps": steps, "cores": os.cpu_count(), "rows": rows}, sys.stdout, indent=2)
        print()
        return
    console = Console()
    show(rows, steps, options.episodes, console if console.is_terminal else Console(width=150))


if __name__ == "__main__":
    main()
