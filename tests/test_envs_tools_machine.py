"""Whatever is called, nothing raises, nothing invalid changes the truth, and an episode always ends."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from brownout import ToolEpisode
from brownout.envs.tools import EpisodeResult
from brownout.scenarios import builtin_scenarios
from tool_support import Walk

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
STATUSES = {200, 201, 202, 400, 401, 403, 404, 405, 409, 410, 412, 415, 422, 423, 429, 500, 502, 503, 0}
CALLS = 40


class Session(RuleBasedStateMachine):
    """An agent that does anything at all."""

    @initialize(
        scenario=st.sampled_from(builtin_scenarios("workflow")),
        seed=st.integers(0, 2**63),
        profile=st.sampled_from(["clean", "production", "hostile"]),
        intensity=st.sampled_from([0.5, 1.0, 4.0]),
    )
    def begin(self, scenario: str, seed: int, profile: str, intensity: float) -> None:
        self.episode = ToolEpisode(scenario, seed, profile=profile, intensity=intensity, max_calls=CALLS)
        self.walk = Walk(self.episode)
        self.session = self.episode.session
        self.requests = 0

    def check(self, answer: Any) -> None:
        self.requests += 1
        assert answer.status in STATUSES
        assert (answer.status == 0) == (answer.failure is not None)
        assert answer.elapsed_s >= 0.0
        answer.text.encode()

    def truth(self) -> Any:
        core = self.episode._core
        names = ("applied", "bad", "stray", "made", "version", "changed", "token_until", "spend", "dirt", "drifted",
                 "field_version", "wishes")  # fmt: skip
        return repr([getattr(core, name) for name in names]) + repr(core.ledger.entries)

    @rule(name=st.text(max_size=20), arguments=st.dictionaries(st.text(max_size=8), JSON, max_size=3))
    def nonsense(self, name: str, arguments: dict[str, Any]) -> None:
        before = self.truth()
        self.check(self.session.call(name, **arguments))
        assert self.truth() == before

    @rule(data=st.data())
    def any_tool(self, data: st.DataObject) -> None:
        tool = data.draw(
            st.sampled_from([t for t in self.session.tools if t.name not in ("finish", "abort", "handoff")])
        )
        known = st.sampled_from([*map(str, self.session.task.values()), "re_1", "p1"])
        names = st.sampled_from([*tool.parameters["properties"], "idempotency_key", "if_match", "other"])
        self.check(self.session.call(tool.name, **data.draw(st.dictionaries(names, JSON | known, max_size=4))))

    @rule(
        method=st.sampled_from(["GET", "POST", "DELETE", "PATCH", "\u20ac"]),
        path=st.text(max_size=20) | st.sampled_from(["/crm/customers?cursor=p0", "/wait", "/session", "/%00", "//["]),
        headers=st.dictionaries(st.sampled_from(["Authorization", "content-type", "If-Match"]), st.text(max_size=9)),
        body=st.none() | st.text(max_size=20) | st.binary(max_size=20),
    )
    def wire(self, method: str, path: str, headers: dict[str, str], body: Any) -> None:
        self.check(self.session.request(method, path, headers, body))

    @precondition(lambda self: not self.session.done)
    @rule(data=st.data(), twist=JSON)
    def step(self, data: st.DataObject, twist: Any) -> None:
        name = data.draw(st.sampled_from(list(self.walk.steps)))
        changes = {next(iter(self.walk.steps[name]["needs"])): twist} if data.draw(st.booleans()) else {}
        key = {"idempotency_key": "k"} if data.draw(st.booleans()) else {}
        self.check(self.walk.call(name, **changes, **key))

    @rule()
    def refresh(self) -> None:
        self.check(self.session.call("auth.token"))

    @rule(cost=st.floats(), latency=st.floats(max_value=1.0))
    def think(self, cost: float, latency: float) -> None:
        self.session.usage(min(cost, 0.01), latency)

    @precondition(lambda self: self.requests > 25)
    @rule(end=st.sampled_from(["finish", "abort", "handoff"]))
    def stop(self, end: str) -> None:
        self.check(self.session.call(end))

    @invariant()
    def limits_hold(self) -> None:
        if hasattr(self, "episode"):
            assert self.episode.error is None
            assert self.episode.done or self.requests < CALLS
            assert 0.0 <= self.session.spend_usd <= self.session.task["budget_usd"] + 0.7
            assert self.session.clock_s < float("inf")

    def teardown(self) -> None:
        if hasattr(self, "episode"):
            self.episode.close()
            result = self.episode.result()
            assert EpisodeResult.from_dict(result.to_dict()) == result
            assert ToolEpisode.replay(self.episode.header, self.episode.events).result() == result


Session.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
TestSession = Session.TestCase


def test_extra_reads_change_no_score() -> None:
    """Reading everything once more, without faults, costs only time and money."""
    for seed in range(8):
        results = []
        for extra in (False, True):
            walk = Walk(ToolEpisode("refund", seed, profile="clean"))
            facts: dict[str, Any] = {}
            for name, step in walk.steps.items():
                if extra:
                    for tool in walk.session.tools:
                        if tool.method == "GET":
                            which = {"id": walk.session.task["order_id"]} if ".get_" in tool.name else {}
                            walk.session.call(tool.name, **which)
                if all(facts.get(k) == v for k, v in step.get("only_if", {}).items()):
                    answer = walk.call(name)
                    facts |= {k: v for k, v in answer.json().items() if isinstance(v, bool)}
            walk.session.call("finish")
            results.append(walk.episode.result())
        assert results[0].outcome == results[1].outcome == "success"
        assert results[0].components["safety"] == results[1].components["safety"] == 0.0
