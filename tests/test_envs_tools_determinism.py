"""Equal seeds and equal requests give equal episodes: in any process, in any form, and made again from a record."""

from __future__ import annotations

import copy
import json
import os
import random  # noqa: TID251
import subprocess
import sys

import numpy as np
import pytest

from brownout import ToolEpisode, __version__
from brownout.errors import EpisodeError
from brownout.scenarios import builtin_scenarios
from tool_support import agent

PLAY = """
import json, sys
sys.path.insert(0, sys.argv[1])
from brownout import ToolEpisode
from tool_support import agent
out = {}
for scenario in ("refund", "claim-intake", "access-request"):
    for seed in range(3):
        episode = ToolEpisode(scenario, seed, profile="hostile")
        agent("careful")(episode.session)
        episode.close()
        out[f"{scenario} {seed}"] = episode.result().to_dict()
print(json.dumps(out, sort_keys=True))
"""


def test_two_processes_play_the_same_whatever_their_hash_seed() -> None:
    tests = os.path.dirname(__file__)
    printed = []
    for seed in ("0", "1", "random"):
        done = subprocess.run([sys.executable, "-c", PLAY, tests], capture_output=True, text=True, timeout=110,
                              env={**os.environ, "PYTHONHASHSEED": seed}, check=True)  # fmt: skip
        printed.append(done.stdout)
    assert len(set(printed)) == 1
    assert len({result["digest"] for result in json.loads(printed[0]).values()}) == 9


def test_no_global_generator_is_touched() -> None:
    def states() -> str:
        return repr((random.getstate(), np.random.get_state()))  # noqa: NPY002

    before = states()
    episode = ToolEpisode("refund", 3, profile="hostile")
    agent("careful")(episode.session)
    assert states() == before


def test_neither_order_nor_form_of_arguments_matters() -> None:
    episodes = [ToolEpisode("refund", 5, profile="clean") for _ in range(3)]
    a, b, c = (episode.session for episode in episodes)
    token = a.task["access_token"]
    a.call("crm.locate", customer_name="Ann Lee", customer_email="a@example.org", idempotency_key="k")
    b.call("crm_locate", customer_email="a@example.org", idempotency_key="k", customer_name="Ann Lee")
    c.request("post", "/crm/locate", {"AUTHORIZATION": f"bearer  {token}", "idempotency-KEY": "k"},
              b'{"customer_email":  "a@example.org",\n"customer_name": "Ann \\u004cee"}')  # fmt: skip
    a.call("crm.get_customer", id=7)
    b.call("crm.get_customer", id="7")
    c.request("GET", "/crm/customers/7", {"Authorization": f"Bearer {token}", "Accept": "*/*"})
    for episode in episodes:
        episode.close()
    assert len({episode.result().digest for episode in episodes}) == 1
    other = ToolEpisode("refund", 5, profile="clean")
    other.session.call("crm.locate", customer_name="Ann Lee", customer_email="b@example.org", idempotency_key="k")
    assert other.events[0]["digest"] != episodes[0].events[0]["digest"]


@pytest.mark.parametrize("scenario", builtin_scenarios("workflow"))
def test_an_episode_can_be_made_again(scenario: str) -> None:
    for seed in range(3):
        episode = ToolEpisode(scenario, seed, profile="hostile", intensity=1.5)
        session = episode.session
        session.usage(cost_usd=0.01, latency_s=1.25)
        session.request("PATCH", "/nowhere?x=1", {"Content-Type": "text/plain"}, b"\xff{")
        session.request("POST", "/wait", {"Authorization": "Bearer no"}, "{")
        session.call("nothing", x=object())
        session.call("crm.locate", x=float("inf"))
        agent(("naive", "retrying", "careful")[seed])(session)
        episode.close()
        header, events = json.loads(json.dumps([episode.header, episode.events]))
        again = ToolEpisode.replay(header, events)
        assert again.events == episode.events
        assert again.result() == episode.result()
        half = ToolEpisode.replay(header, events[: len(events) // 2])
        assert half.events == episode.events[: len(events) // 2]
        assert not half.done


def test_a_record_that_does_not_fit_is_refused() -> None:
    episode = ToolEpisode("refund", 2)
    agent("naive")(episode.session)
    header, events = episode.header, episode.events
    for name, value, message in (
        ("version", "0.0.0", f"version: recorded with '0.0.0', this is '{__version__}'"),
        ("format", "other/1", "format: recorded with"),
        ("scenario_hash", "0" * 16, "scenario refund: recorded with 0000"),
    ):
        with pytest.raises(EpisodeError, match=message):
            ToolEpisode.replay({**header, name: value}, events)
    changed = copy.deepcopy(events)
    changed[2]["response"]["text"] += " "
    changed[2]["digest"] = "0" * 64
    with pytest.raises(EpisodeError, match="event 3: the answer differs"):
        ToolEpisode.replay(header, changed)
    with pytest.raises(EpisodeError, match="event 1: the answer differs"):
        ToolEpisode.replay({**header, "seed": 3}, events)


def test_switching_a_fault_off_moves_no_other_draw() -> None:
    from tool_support import Walk, episode

    slow = {"fault": "slow-response", "when": "rate(0.5)"}
    lie = {"fault": "lying-success", "when": "rate(0.3)"}
    for seed in range(12):
        hit = []
        for faults in ((slow,), (slow, lie)):
            walk = Walk(episode(*faults, seed=seed))
            walk.do("locate", "locate", "locate", "policy")
            walk.episode.close()
            hit.append([(i["call"], i["effect"]) for i in walk.episode.result().injections])
        assert [h for h in hit[1] if h[1] == "slow-response"] == hit[0]
