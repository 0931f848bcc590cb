"""Agents that a model drives: every adapter through its real framework, with a scripted model in place of a model."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from brownout import ToolEpisode
from brownout.envs.tools import EpisodeResult
from brownout.errors import AgentError
from brownout.trainers import agent_frameworks, agent_loop
from brownout.trainers.agent_loop import Price, openai_agent, run_tool
from brownout.trainers.stress_agents import load_agent
from brownout.trainers.stress_faces import open_face

EXAMPLES = Path(__file__).parents[1] / "examples" / "agents"
ADAPTERS = ("openai_loop", "openai_agents_sdk", "langgraph_graph", "mcp_client")
PRICE = Price(input_usd=1.0, output_usd=10.0, call_s=1.5, output_token_s=0.01)


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def module(name: str) -> Any:
    return importlib.import_module(name)


def play(run: Callable[[ToolEpisode], Any], profile: str, episode: int) -> EpisodeResult:
    one = ToolEpisode("refund", 3, profile=profile, episode=episode)
    run(one)
    one.close()
    return one.result()


def driver(name: str) -> Callable[[ToolEpisode], Any]:
    if name == "mcp_client":
        return over_mcp
    found = load_agent(f"{EXAMPLES / name}.py:handle")
    return lambda episode: found.run(episode, lambda: False)


def over_mcp(episode: ToolEpisode) -> None:
    """The client of the example, without a process of its own."""
    with open_face("mcp", episode) as told:
        asyncio.run(module("mcp_client").work(told["BROWNOUT_MCP_URL"]))


@cache
def plain(profile: str) -> tuple[EpisodeResult, ...]:
    return tuple(play(driver("scripted_model"), profile, episode) for episode in range(20))


@pytest.mark.parametrize("profile", ["clean", "production"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_plays_as_the_same_script_without_a_model(name: str, profile: str) -> None:
    run = driver(name)
    found = [play(run, profile, episode) for episode in range(20)]
    assert [(one.outcome, one.digest) for one in found] == [(one.outcome, one.digest) for one in plain(profile)]


def test_the_script_is_worth_comparing() -> None:
    assert all(one.success for one in plain("clean"))
    assert len({one.outcome for one in plain("production")}) > 2
    assert all(one.injections for one in plain("production") if not one.success)


def test_mcp_client_as_a_command() -> None:
    found = load_agent(f"mcp:{sys.executable} {EXAMPLES / 'mcp_client.py'}")
    assert found.remote
    assert (
        play(lambda episode: found.run(episode, lambda: False), "production", 5).digest == plain("production")[5].digest
    )


# ---------------------------------------------------------------- what a model costs


def priced(name: str) -> Callable[[ToolEpisode], Any]:
    if name == "openai_loop":
        handle = openai_agent(module("scripted_model").ScriptedModel(), "scripted", price=PRICE)
    elif name == "openai_agents_sdk":
        sdk = pytest.importorskip("agents")
        agent = sdk.Agent(name="clerk", model=module("openai_agents_sdk").ScriptedModel())
        handle = agent_frameworks.agents_sdk_agent(agent, price=PRICE)
    else:
        handle = agent_frameworks.langgraph_agent(module("langgraph_graph").build, price=PRICE)
    return lambda episode: asyncio.run(handle(episode.session))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ADAPTERS[:3])
def test_tokens_become_cost_and_time(name: str) -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    priced(name)(one)
    told = [event for event in one.events if event["kind"] == "usage"]
    calls = [event for event in one.events if event["kind"] == "call"]
    free = plain("clean")[0]
    assert one.result().success
    assert len(calls) == free.calls
    assert len(told) == len(calls) - 1  # one turn asked for two records
    assert one.events[0]["kind"] == "usage"
    assert all(event["latency_s"] > 1.5 and event["cost_usd"] > 0 for event in told)
    assert told[-1]["cost_usd"] > told[0]["cost_usd"]  # the conversation grows
    assert one.result().cost_usd == pytest.approx(free.cost_usd + sum(event["cost_usd"] for event in told))
    assert one.result().latency_s == pytest.approx(free.latency_s + sum(event["latency_s"] for event in told))


def test_price_of_a_call() -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    PRICE.charge(one.session, 1000, 200)
    assert (one.events[0]["cost_usd"], one.events[0]["latency_s"]) == (pytest.approx(0.003), pytest.approx(3.5))


@pytest.mark.parametrize("prices", [(-1.0, 0.0), (0.0, float("nan"))])
def test_prices_are_checked(prices: tuple[float, float]) -> None:
    with pytest.raises(AgentError, match="allowed: a finite number from 0"):
        Price(*prices)


# ---------------------------------------------------------------- the loop


class Client:
    """Says what a list says, turn by turn, and keeps what it was sent; no model either."""

    def __init__(self, turns: list[list[tuple[str, str]]], asynchronous: bool = False) -> None:
        self.chat = self.completions = self
        self.turns: Iterator[list[tuple[str, str]]] = iter(turns)
        self.sent: list[dict[str, Any]] = []
        self.asynchronous = asynchronous
        self.closed = False

    def create(self, **sent: Any) -> Any:
        self.sent.append(json.loads(json.dumps(sent)))
        calls = [
            SimpleNamespace(id=f"{len(self.sent)}.{i}", function=SimpleNamespace(name=name, arguments=arguments))
            for i, (name, arguments) in enumerate(next(self.turns, []))
        ]
        message = SimpleNamespace(content=None, tool_calls=calls)
        reply = SimpleNamespace(choices=[SimpleNamespace(message=message)], usage=None)
        return later(reply) if self.asynchronous else reply

    async def close(self) -> None:
        self.closed = True

    def told(self) -> list[dict[str, Any]]:
        """The results in the last conversation."""
        return [json.loads(one["content"]) for one in self.sent[-1]["messages"] if one["role"] == "tool"]


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def converse(client: Any, episode: ToolEpisode, **options: Any) -> None:
    asyncio.run(openai_agent(client, "none", **options)(episode.session))  # type: ignore[arg-type]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_loop_answers_every_call_of_a_turn(asynchronous: bool) -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    id_ = one.session.task["customer_id"]
    good = ("crm_get_customer", json.dumps({"id": id_}))
    bad = [
        ("crm_get_customer", '{"id": '),
        ("crm_get_customer", "[1]"),
        ("crm_drop_table", "{}"),
        ("crm_get_customer", ""),
    ]
    client = Client([[good, *bad]], asynchronous)
    converse(client, one, temperature=0)
    record, broken, listed, unknown, empty = client.told()
    assert record["status"] == 200
    assert json.loads(record["body"])["id"] == id_
    assert "not valid JSON" in broken["error"]
    assert "must be a JSON object" in listed["error"]
    assert "no tool 'crm_drop_table'" in unknown["error"]
    assert empty["status"] == 422
    assert [event["kind"] for event in one.events] == ["call", "call"]  # what makes no sense never reached a service
    asked, results = client.sent[-1]["messages"][2], client.sent[-1]["messages"][3:]
    assert [call["id"] for call in asked["tool_calls"]] == [one["tool_call_id"] for one in results]
    assert client.sent[0]["temperature"] == 0
    assert not one.done  # the model stopped; the episode is left to be judged


def test_loop_ends_with_the_episode() -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    client = Client([[("abort", "{}"), ("requester_messages", "{}")], [("finish", "{}")]])
    converse(client, one)
    assert one.done
    assert len(client.sent) == len(one.events) == 1


def test_loop_ends_after_its_turns() -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    client = Client([[("requester_messages", "{}")]] * 9)
    converse(client, one, max_turns=4)
    assert len(client.sent) == 4
    with pytest.raises(AgentError, match="max_turns: got 0"):
        openai_agent(client, "none", max_turns=0)


def test_loop_ends_when_the_model_has_spent_the_budget() -> None:
    one = ToolEpisode("refund", 3, profile="clean", watch=lambda event: "limit")
    client = module("scripted_model").ScriptedModel()
    converse(client, one, price=PRICE)
    assert one.done
    assert [event["kind"] for event in one.events] == ["usage", "close"]


def test_loop_makes_a_client_per_episode_and_closes_it() -> None:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client([]))
        return made[-1]

    for _ in range(2):
        converse(make, ToolEpisode("refund", 3, profile="clean"))
    assert len(made) == 2
    assert all(client.closed for client in made)


def test_errors_of_the_client_are_the_agents() -> None:
    class Broken(Client):
        def create(self, **sent: Any) -> Any:
            raise ConnectionError("no model")

    with pytest.raises(ConnectionError, match="no model"):
        converse(Broken([]), ToolEpisode("refund", 3))


def test_a_model_is_told_neither_token_nor_truth() -> None:
    one = ToolEpisode("refund", 3)
    text = agent_loop.task_text(one.session)
    assert one.session.task["access_token"] not in text
    assert json.loads(text.partition("\n\n")[2])["procedure"] == one.session.task["procedure"]


def test_arguments_renamed_by_a_service_reach_the_tools_of_the_sdk() -> None:
    pytest.importorskip("agents")
    one = ToolEpisode("refund", 3, profile="clean")
    tools = {tool.name: tool for tool in agent_frameworks.agents_sdk_tools(one.session)}
    before = dict(tools["payments_refund"].params_json_schema["properties"])
    core = one._core
    core.renamed[0, core.services.names.index("payments")] = True
    asyncio.run(tools["session_reset"].on_invoke_tool(None, "{}"))  # type: ignore[arg-type]
    now = {tool.flat_name: tool.parameters["properties"] for tool in one.session.tools}["payments_refund"]
    assert now != before
    assert tools["payments_refund"].params_json_schema["properties"] == now


@pytest.mark.parametrize("name", ["openai_agents_sdk", "langgraph_graph"])
def test_frameworks_end_after_their_turns(name: str) -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    if name == "openai_agents_sdk":
        sdk = pytest.importorskip("agents")
        agent = sdk.Agent(name="clerk", model=module(name).ScriptedModel())
        handle = agent_frameworks.agents_sdk_agent(agent, max_turns=2)
    else:
        handle = agent_frameworks.langgraph_agent(module(name).build, max_steps=4)
    asyncio.run(handle(one.session))  # type: ignore[arg-type]
    assert not one.done
    assert len(one.events) == 3  # two records at once, then a step


def test_run_tool_takes_arguments_that_are_read() -> None:
    one = ToolEpisode("refund", 3, profile="clean")
    assert json.loads(run_tool(one.session, "requester_messages", {}))["status"] == 200
    assert json.loads(run_tool(one.session, "requester_messages", None))["status"] == 200
