"""How far do the three example agents get, on every workflow and in every profile?

    python benchmarks/example_agents.py [--episodes 100] [--scenarios refund,claim-intake] [--profiles clean,hostile]

All agents play the same episodes. Per scenario, profile and agent: success with its 95 % interval, mean utility, mean
requests, and how the other episodes ended.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from brownout import ToolEpisode, ToolSession
from brownout.scenarios import builtin_scenarios
from brownout.trainers.statistics import proportion

AGENTS = ("naive", "retrying", "careful")
FOLDER = Path(__file__).parents[1] / "examples" / "agents"


def load(name: str) -> Callable[[ToolSession], None]:
    """Read an example agent from its file."""
    spec = importlib.util.spec_from_file_location(f"agent_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handle


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--scenarios", default=",".join(builtin_scenarios("workflow")))
    parser.add_argument("--profiles", default="clean,production,hostile")
    arguments = parser.parse_args()
    agents = {name: load(name) for name in AGENTS}
    print("| scenario | profile | agent | success | utility | requests | otherwise |")
    print("| --- " * 7 + "|")
    for scenario in arguments.scenarios.split(","):
        for profile in arguments.profiles.split(","):
            for name, handle in agents.items():
                print(row(scenario, profile, name, handle, arguments.episodes), flush=True)


def row(scenario: str, profile: str, name: str, handle: Callable[[ToolSession], None], episodes: int) -> str:
    """Play the episodes of one agent and return a line of the table."""
    outcomes: Counter[str] = Counter()
    utility = requests = 0.0
    for seed in range(episodes):
        episode = ToolEpisode(scenario, seed, profile=profile)
        handle(episode.session)
        episode.close()
        result = episode.result()
        outcomes[result.outcome] += 1
        utility, requests = utility + result.utility / episodes, requests + result.calls / episodes
    successes = outcomes.pop("success", 0)
    won = proportion([1] * successes + [0] * (episodes - successes))
    rest = ", ".join(f"{word} {count}" for word, count in outcomes.most_common())
    share = f"{100 * won.value:.0f} % ({100 * won.low:.0f} to {100 * won.high:.0f})"
    return f"| {scenario} | {profile} | {name} | {share} | {utility:.2f} | {requests:.1f} | {rest} |"


if __name__ == "__main__":
    main()
