"""Your own loop over the plain Gymnasium interface: a linear policy and REINFORCE, in NumPy alone.

    python examples/own_loop.py --scenario support-desk --steps 1000000

Shows the two things that any loop must get right: the mask in ``info["action_mask"]``, and the filler row
that next-step autoreset returns after an episode's last step, which is no transition.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import brownout

LANES, ROLLOUT = 256, 64


class LinearPolicy:
    """Softmax over a linear map of squashed observations."""

    name = "linear"

    def __init__(self, columns: int, actions: int) -> None:
        self.weights = np.zeros((columns + 1, actions))

    @staticmethod
    def features(observations: NDArray[Any]) -> NDArray[np.float64]:
        """A constant and the symmetric logarithm: dollars, seconds and counts come to one scale."""
        squashed = np.sign(observations) * np.log1p(np.abs(observations))
        return np.concatenate([np.ones((len(squashed), 1)), squashed], axis=1)

    def probabilities(self, features: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.float64]:
        logits = np.where(mask, features @ self.weights, -np.inf)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> NDArray[np.int64]:
        """Most likely actions: what ``brownout.evaluate`` asks a policy for."""
        return self.probabilities(self.features(observations), mask).argmax(axis=1)


def returns_to_go(rewards: NDArray[Any], over: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sum of the rewards up to the end of the episode, and whether that end was seen; both (T, N)."""
    total, seen = np.zeros_like(rewards), np.zeros_like(over)
    running, ended = np.zeros(rewards.shape[1]), np.zeros(rewards.shape[1], bool)
    for t in range(len(rewards) - 1, -1, -1):
        running = np.where(over[t], 0.0, running) + rewards[t]
        ended = ended | over[t]
        total[t], seen[t] = running, ended
    return total, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="support-desk", help="built-in name or YAML file")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps of training")
    parser.add_argument("--episodes", type=int, default=2000, help="held-out episodes of each measurement")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    envs = gym.make_vec("brownout.envs:brownout/Router-v0", num_envs=LANES, scenario=args.scenario)
    columns, actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)  # type: ignore[union-attr,attr-defined]
    policy = LinearPolicy(columns, actions)
    rng = np.random.default_rng(args.seed)
    mean, square = np.zeros_like(policy.weights), np.zeros_like(policy.weights)

    def utility() -> str:
        row = brownout.evaluate([policy], args.scenario, episodes=args.episodes).rows[0]
        return f"{row.utility.value:.3f} ± {row.utility.half_width:.3f}"

    print(f"utility before: {utility()}")
    start = time.perf_counter()
    observations, info = envs.reset(seed=args.seed)
    mask = info["action_mask"]
    filler = np.zeros(LANES, bool)
    iterations = max(args.steps // (LANES * ROLLOUT), 1)
    for iteration in range(1, iterations + 1):
        rows: list[tuple[Any, ...]] = []
        for _ in range(ROLLOUT):
            features = policy.features(observations)
            chances = policy.probabilities(features, mask)
            chosen = (chances.cumsum(axis=1) > rng.random((LANES, 1))).argmax(axis=1)
            observations, rewards, terminated, truncated, info = envs.step(chosen)
            over = terminated | truncated
            rows.append((features, chances, chosen, rewards, over, ~filler))
            mask, filler = info["action_mask"], over  # the next row of a lane that ended only resets it
        features, chances, chosen, rewards, over, real = (np.stack(part) for part in zip(*rows, strict=True))
        total, seen = returns_to_go(rewards, over)
        used = seen & real
        x, p, a, g = features[used], chances[used], chosen[used], total[used]
        value, *_ = np.linalg.lstsq(x, g, rcond=None)  # a linear baseline takes most of the noise out
        advantage = g - x @ value
        advantage /= advantage.std() + 1e-8
        score = (np.arange(actions) == a[:, None]) - p
        gradient = x.T @ (score * advantage[:, None]) / len(x)
        mean += 0.1 * (gradient - mean)  # Adam (Kingma and Ba, 2015)
        square += 0.01 * (gradient**2 - square)
        rate = 0.1 * (1.0 - (iteration - 1) / iterations)
        unbiased = mean / (1 - 0.9**iteration), square / (1 - 0.99**iteration)
        policy.weights += rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    steps = iterations * LANES * ROLLOUT
    print(f"utility after {steps:,} steps at {steps / (time.perf_counter() - start):,.0f} steps/s: {utility()}")


if __name__ == "__main__":
    main()
