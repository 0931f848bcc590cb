"""Commands under stress over HTTP and MCP: the same agent, run as a program, plays the same episode as in Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from brownout.envs.tools import ToolEpisode
from brownout.trainers.stress_agents import AgentFailed, AgentStopped, load_agent

pytest.importorskip("mcp")

AGENTS = Path(__file__).resolve().parents[1] / "examples" / "agents"


def finished() -> bool:
    return False


@pytest.mark.parametrize("face", ["http", "mcp"])
def test_a_program_plays_the_episode_that_the_callable_plays(face: str) -> None:
    program = f"{face}:{sys.executable} {AGENTS / f'over_{face}.py'} retrying"
    over_wire = ToolEpisode("refund", 4, profile="hostile")
    load_agent(program).run(over_wire, finished)
    python = ToolEpisode("refund", 4, profile="hostile")
    load_agent(f"{AGENTS / 'retrying.py'}:handle").run(python, finished)
    assert over_wire.done
    assert over_wire.result() == python.result()


def test_a_program_that_fails_or_outlives_its_episode_is_told_apart() -> None:
    episode = ToolEpisode("refund", 4, profile="clean")
    with pytest.raises(AgentFailed, match="exit status 3"):
        load_agent(f"http:{sys.executable} -c 'raise SystemExit(3)'").run(episode, finished)
    with pytest.raises(AgentStopped):
        load_agent(f"mcp:{sys.executable} -c 'import time; time.sleep(60)'").run(episode, lambda: True)
    assert not episode.done, "what becomes of the episode is the harness's to say"
