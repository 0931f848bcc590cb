"""One agent over Python calls, HTTP and MCP: are outcomes and digests the same, episode for episode?

    python benchmarks/same_over_http.py [--episodes 500] [--agent careful] [--quick] [--json]

Episodes go round all workflows of the library and all their fault profiles. The HTTP form goes through a running
service on loopback, the MCP form through its streamable HTTP endpoint with the official client. The exit status is 1
when an episode differs, which is a defect.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from brownout.envs.remote_session import HttpSession, McpSession
from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.serve_store import EpisodeRequest, Workflows
from brownout.envs.tools import EpisodeResult
from brownout.scenarios import load_scenario

AGENTS = Path(__file__).resolve().parents[1] / "examples" / "agents"
FACES = ("python", "http", "mcp")
Agent = Callable[[Any], None]


def load(name: str) -> Agent:
    """An agent of examples/agents."""
    found = importlib.util.spec_from_file_location(f"example_{name}", AGENTS / f"{name}.py")
    if found is None or found.loader is None:
        raise SystemExit(f"no agent {name!r} in {AGENTS}")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.handle


def play(local: LocalService, face: str, agent: Agent, request: EpisodeRequest) -> EpisodeResult:
    """Play an episode over a face."""
    episode = local.service.store.make(request)
    if face == "python":
        agent(episode.session)
    else:
        with local.lent(episode) as base:
            remote = HttpSession(base, episode.session.task) if face == "http" else McpSession(f"{base}/mcp")
            with remote:
                agent(remote)
    episode.close()
    return episode.result()


def requests(count: int) -> list[EpisodeRequest]:
    """As many episodes, over all workflows and profiles."""
    known = {name: load_scenario(name) for name in Workflows().names()}
    places = [(name, profile) for name, scenario in known.items() for profile in scenario.profiles]
    return [EpisodeRequest(name, n, profile) for n, (name, profile) in zip(range(count), cycle(places), strict=False)]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--agent", default="careful")
    parser.add_argument("--quick", action="store_true", help="48 episodes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = requests(48 if options.quick else options.episodes)
    agent = load(options.agent)
    counts: dict[str, Counter[str]] = {}
    wall = dict.fromkeys(FACES, 0.0)
    calls = 0
    with tempfile.TemporaryDirectory(prefix="brownout-same-") as folder:
        local = LocalService(Service(folder, ServeSettings(count_idle=False)))
        with local:
            for request in track(wanted, "playing", console=Console(stderr=True), disable=options.json):
                results = {}
                for face in FACES:
                    began = time.perf_counter()
                    results[face] = play(local, face, agent, request)
                    wall[face] += time.perf_counter() - began
                python = results["python"]
                calls += python.calls
                row = counts.setdefault(request.profile, Counter())
                row["episodes"] += 1
                row[f"outcome {python.outcome}"] += 1
                for face in FACES[1:]:
                    row[f"{face}: same outcome"] += results[face].outcome == python.outcome
                    row[f"{face}: same digest"] += results[face].digest == python.digest
                    row[f"{face}: same result"] += results[face] == python
    checks = [f"{face}: same {what}" for face in FACES[1:] for what in ("outcome", "digest", "result")]
    same = all(row[check] == row["episodes"] for row in counts.values() for check in checks)
    figures = {
        "agent": options.agent, "episodes": len(wanted), "calls": calls, "same": same, "profiles": counts,
        "ms_per_call": {face: 1000.0 * wall[face] / calls for face in FACES},
    }  # fmt: skip
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures, checks)
    return 0 if same else 1


def show(figures: dict[str, Any], checks: list[str]) -> None:
    """Print the figures as tables."""
    console = Console()
    table = Table("", *figures["profiles"], title=f"{figures['agent']}: {figures['calls']:,} calls")
    for check in ["episodes", *checks]:
        table.add_row(check, *(str(row[check]) for row in figures["profiles"].values()))
    console.print(table)
    spent = ", ".join(f"{face} {value:.2f}" for face, value in figures["ms_per_call"].items())
    console.print(f"milliseconds per call, agent and client included: {spent}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
