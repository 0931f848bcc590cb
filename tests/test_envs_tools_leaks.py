"""An agent can tell neither that faults are played, nor which; and what it holds leads nowhere."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest

from brownout import ToolEpisode, ToolSession
from brownout.envs.tool_core import ToolCore
from brownout.envs.tool_session import Exchange
from brownout.faults import known_faults, registered_faults
from brownout.scenarios import builtin_scenarios
from tool_support import agent

WORDS = ("inject", "simulat", "brownout", "chaos", "synthetic", "sandbox", "dirty", "corrupt", "seed",
         "profile", "hostile", "score", "reward", "agent under", "numpy", "ground truth")  # fmt: skip
# a header of one's own for each of these is what real services have
HEADERS = {"Content-Type", "Date", "X-Request-Id", "ETag", "Retry-After", "WWW-Authenticate", "Location", "Allow",
           "Idempotent-Replayed", "Cache-Control"}  # fmt: skip


def names() -> set[str]:
    """Names of all effects, as they are written in scenarios and otherwise; ordinary English words are no names."""
    found: set[str] = set()
    for name in known_faults():
        found |= {name, name.replace("-", "_"), name.replace("-", "")}
    return {name for name in found if name not in ("timeout", "outage", "typo", "refusal")}


PATTERN = re.compile("(?<!de)fault|" + "|".join(map(re.escape, sorted((*WORDS, *names())))), re.IGNORECASE)


def received(session: ToolSession, episode: ToolEpisode) -> Iterator[str]:
    """Everything that the agent got to see."""
    yield json.dumps(session.task)
    for tool in session.tools:
        yield json.dumps([tool.openai(), tool.mcp(), tool.openapi(), tool.path, tool.method])
    for event in episode.events:
        response = event["response"]
        yield json.dumps(response["headers"])
        yield response["text"]
        assert set(response["headers"]) <= HEADERS


@pytest.mark.parametrize("scenario", builtin_scenarios("workflow"))
def test_nothing_an_agent_receives_names_an_effect(scenario: str) -> None:
    assert len(registered_faults()) > 30
    struck = set()
    for profile in ("clean", "production", "hostile"):
        for seed in range(9):
            episode = ToolEpisode(scenario, seed, profile=profile, intensity=2.0 if profile == "hostile" else 1.0)
            session = episode.session
            agent(("naive", "retrying", "careful")[seed % 3])(session)
            for tool in session.tools:
                session.call(tool.name)
                session.call(tool.name, **dict.fromkeys(tool.parameters["properties"], "x"))
            episode.close()
            for text in received(session, episode):
                hit = PATTERN.search(text)
                assert hit is None, (hit.group(), text[max(0, hit.start() - 80) : hit.end() + 80])
            struck |= {injection["effect"] for injection in episode.result().injections}
    assert len(struck) > 10


def test_the_words_are_looked_for() -> None:
    for text in ("an INJECTED thing", "lying-success", "lying_success", "X-Fault: 1"):
        assert PATTERN.search(text)


def test_no_attribute_of_a_session_leads_behind_it() -> None:
    episode = ToolEpisode("refund", 1)
    session = episode.session
    session.call("crm.list_customers")
    seen: set[int] = set()
    todo: list[Any] = [session]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, str | int | float | bool | None | type | types.FunctionType):
            continue
        seen.add(id(one))
        assert not isinstance(one, ToolEpisode | ToolCore | Exchange | types.ModuleType), one
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            todo += list(one)
        elif isinstance(one, types.MethodType):
            todo.append(one.__self__)
        elif type(one).__module__.startswith("brownout"):
            todo += [getattr(one, name) for name in dir(one) if not name.startswith("__")]
    assert len(seen) > 50
    assert not hasattr(session, "__dict__")


def test_episodes_know_nothing_of_each_other() -> None:
    one, two = ToolEpisode("refund", 1), ToolEpisode("refund", 2)
    assert one.session.task["access_token"] != two.session.task["access_token"]
    token = {"Authorization": f"Bearer {one.session.task['access_token']}"}
    assert two.session.request("GET", "/crm/customers", token).status == 401
    assert one.session.call("crm.get_customer", id=two.session.task["customer_id"]).status == 404


def test_what_an_agent_does_to_its_task_changes_nothing() -> None:
    one = ToolEpisode("refund", 1)
    one.session.task.clear()
    one.session.tools[0].parameters["properties"].clear()
    assert one.session.call("auth.token", grant_type="client_credentials").status == 200


def test_sessions_are_forgotten_with_their_episodes() -> None:
    import gc
    import weakref

    episode = ToolEpisode("refund", 1)
    episode.session.call("crm.list_customers")
    gone = weakref.ref(episode._core)
    del episode
    gc.collect()
    assert gone() is None
