"""An episode of a workflow as tools: the side of the harness.

:class:`ToolEpisode` makes an episode and judges it; the agent gets :attr:`ToolEpisode.session` and nothing else. It is
the same simulation as ``brownout/Workflow-v0``: the same arrays, random streams and fault plan, one lane of them, with
the answers written out as services write them and the arguments taken at their value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from weakref import ref

import numpy as np

from ..errors import EpisodeError
from ..faults.registry import lookup
from ..rewards.components import COMPONENT_NAMES
from ..scenarios.loading import LIBRARY, load_scenario
from ..scenarios.schema import Scenario
from ..scenarios.workflow_schema import WorkflowScenario
from .tool_api import Response, Tool, argument_name, slug
from .tool_core import ToolCore
from .tool_result import EpisodeResult
from .tool_server import ToolServer
from .tool_session import Exchange, ToolSession
from .tool_truth import end_state
from .tool_values import plain
from .workflow_state import OUTCOMES, Kind

FORMAT = "brownout.episode/1"
_NO_JSON = {"": float("nan")}  # stands for arguments that were none
MENTIONED = 0.5
"""Share of the fields that the requester names in the request."""


class Account:
    """What the requests of an episode have cost and gained, and what struck them.

    Args:
        server: the services.
    """

    def __init__(self, server: ToolServer) -> None:
        self._server = server
        self.components = np.zeros(len(COMPONENT_NAMES))
        self.utility = 0.0
        self.struck: list[tuple[int, bool]] = []
        """Per row of the plan's log the number of the request, and whether its work was done."""

    def __call__(self) -> None:
        """Enter the last request."""
        core = self._server.core
        self.components += core.components[0]
        self.utility += float(core.reward[0])
        size = 0 if core.plan is None else len(core.plan.log)
        self.struck += [(self._server.office.number, core.worked)] * (size - len(self.struck))


class ToolEpisode:
    """One episode of a workflow, for one agent.

    Args:
        scenario: built-in name, path, mapping or scenario of a workflow.
        seed: equal seeds and equal requests give equal episodes, in any process.
        profile: fault profile of the scenario.
        intensity: scales every fault of the profile; 0 switches them off.
        split: ``train`` or ``eval``: disjoint sets of episodes.
        episode: index of the episode of this seed.
        max_calls: requests after which the episode ends.
        watch: given every event as it is added to :attr:`events`; it may return an outcome to close the episode with.
            Of a request after the end it is told as ``{"kind": "after"}``, which is no event.

    Raises:
        ScenarioError: if the scenario is no workflow, or profile, intensity or split cannot be used.

    >>> episode = ToolEpisode("refund", seed=3, profile="clean")
    >>> episode.session.call("crm.get_customer", id=episode.session.task["customer_id"]).status
    200
    """

    def __init__(
        self,
        scenario: Any = "refund",
        seed: int = 0,
        *,
        profile: str = "production",
        intensity: float = 1.0,
        split: str = "eval",
        episode: int = 0,
        max_calls: int = 200,
        watch: Callable[[dict[str, Any]], str | None] | None = None,
    ) -> None:
        from .. import __version__

        if isinstance(scenario, str) and (LIBRARY / f"{scenario}.yaml").is_file():
            scenario = _built_in(scenario)
        core = ToolCore(scenario, profile=profile, intensity=intensity, split=split, max_calls=max_calls)
        core.seed(core.all_lanes, [seed])
        core.begin(core.all_lanes, int(episode))
        self._core = core
        self.header: dict[str, Any] = {
            "format": FORMAT,
            "version": __version__,
            "scenario": _name_of(core.spec),
            "scenario_hash": core.spec.hash,
            "profile": profile,
            "intensity": float(intensity),
            "seed": int(seed),
            "split": split,
            "episode": int(episode),
            "max_calls": core.max_steps,
        }
        self._server = ToolServer(core)
        self._exchange = Exchange(self._server, f"{__version__} {core.spec.hash} {int(seed)} {int(episode)}")
        self._account = self._exchange.account = Account(self._server)
        if watch is not None:
            self._exchange.watch = _heeding(watch, ref(self))
        self.session = ToolSession(self._exchange, self._task())

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self._server.over

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every request and response so far, as plain data; it only grows."""
        return self._exchange.events

    @property
    def error(self) -> str | None:
        """What went wrong in the simulation itself, None if nothing did."""
        return self._exchange.error

    def close(self, outcome: str | None = None) -> None:
        """End an episode that the agent left open; one that is over stays as it is.

        Args:
            outcome: ``limit``, ``aborted`` or ``harness_error``; None: judged by what stands, as ``finish`` is.

        Raises:
            EpisodeError: for any other outcome.
        """
        if outcome not in (None, "limit", "aborted", "harness_error"):
            raise EpisodeError(f"outcome: got {outcome!r}; allowed: limit, aborted, harness_error or none")
        if self.done:
            return
        core = self._core
        if outcome is None:
            self._exchange.settle("", lambda: core.stop(Kind.FINISH))
        else:
            code = OUTCOMES.index(outcome)
            self._exchange.settle(outcome, lambda: core.end(code))

    def result(self) -> EpisodeResult:
        """Return what the episode came to.

        Raises:
            EpisodeError: while it is open.
        """
        if not self.done:
            raise EpisodeError("the episode is still open; let the agent finish, or call close()")
        core = self._core
        parts = dict(zip(COMPONENT_NAMES, self._account.components.tolist(), strict=True))
        outcome = OUTCOMES[int(core.outcome[0])]
        standing = int(core.standing(core.all_lanes)[0])
        twice = int(np.maximum(core.applied[0] - 1, 0)[core.writes].sum())
        injections = tuple(self._injections())
        return EpisodeResult(
            scenario=core.spec.name,
            **{name: self.header[name] for name in
               ("scenario_hash", "profile", "intensity", "split", "seed", "episode")},
            outcome=outcome,
            success=outcome == "success",
            utility=self._account.utility,
            components=parts,
            cost_usd=float(core.spend[0]),
            latency_s=float(core.clock[0]),
            calls=self._server.office.number,
            wrong_effects=standing - twice,
            duplicate_effects=twice,
            handed_over_right=parts["handoff"] > 0.0,
            injections=injections,
            digest=self._exchange.digest,
            timeline=tuple(self._timeline(injections)),
        )  # fmt: skip

    def end_state(self) -> list[dict[str, Any]]:
        """Return what stands on the servers beside what should; see :func:`brownout.envs.tool_truth.end_state`."""
        return end_state(self._core)

    @classmethod
    def replay(cls, header: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> ToolEpisode:
        """Make an episode again from its header and events.

        Args:
            header: :attr:`header` of the episode.
            events: :attr:`events` of the episode, or the first of them.

        Raises:
            EpisodeError: if it was recorded with another version or scenario, or if an answer differs.
        """
        from .. import __version__

        for name, wanted in (("format", FORMAT), ("version", __version__)):
            if header.get(name) != wanted:
                raise EpisodeError(f"{name}: recorded with {header.get(name)!r}, this is {wanted!r}")
        options = {name: header[name] for name in ("profile", "intensity", "split", "episode", "max_calls")}
        episode = cls(header["scenario"], header["seed"], **options)
        if episode.header["scenario_hash"] != header["scenario_hash"]:
            raise EpisodeError(
                f"scenario {episode._core.spec.name}: recorded with {header['scenario_hash']}, "
                f"this is {episode.header['scenario_hash']}"
            )
        exchange = episode._exchange
        for event in events:
            kind = event["kind"]
            if kind == "call":
                arguments = event["arguments"]
                exchange.call(event["tool"], _NO_JSON if arguments is None else dict(arguments), event["token"])
            elif kind == "wire":
                token = {} if event["token"] is None else {"authorization": f"Bearer {event['token']}"}
                exchange.wire(event["method"], event["path"], {**event["headers"], **token}, event["body"])
            elif kind == "usage":
                exchange.usage(event["cost_usd"], event["latency_s"])
            else:
                episode.close(event["outcome"] or None)
            if exchange.digest != event["digest"]:
                raise EpisodeError(f"event {event['n']}: the answer differs from the one recorded")
        return episode

    # ---------------------------------------------------------------- parts

    def _task(self) -> dict[str, Any]:
        core, case, spec = self._core, self._core.case(), self._core.spec
        ids = {f"{slug(record)}_id": case.id(record) for record in spec.records}
        facts = core.case_fields.facts
        details = {
            argument_name(name): plain(case.clean(column), facts[column])
            for column, name in enumerate(core.field_names)
            if case.draw(f"mention.{name}") < MENTIONED
        }
        about = ", ".join(f"{name.removesuffix('_id').replace('_', ' ')} {id_}" for name, id_ in ids.items())
        request = f"Please take care of this {spec.name.replace('-', ' ')} ({about})."
        if details:
            request += " For your information: " + "; ".join(
                f"{name.replace('_', ' ')} is {value}" for name, value in details.items()
            ) + "."  # fmt: skip
        return {
            "request": request,
            **ids,
            "details": details,
            "procedure": [self._describe(name) for name in spec.steps],
            "access_token": self._server.office.first_token,
            "expires_in": int(spec.token.ttl_s),
            "deadline_s": float(core.preferences["deadline_s"][0]),
            "budget_usd": float(core.preferences["budget_usd"][0]),
        }

    def _describe(self, name: str) -> dict[str, Any]:
        """One step of the procedure, as a runbook has it."""
        spec = self._core.spec
        step = spec.steps[name]
        entry: dict[str, Any] = {
            "tool": f"{slug(step.service)}.{slug(name)}",
            "step": name,
            "writes": step.writes,
            "needs": {argument_name(field): field for field in spec.needed_fields(name)},
            "after": list(step.after),
        }
        if step.when or step.unless:
            entry["only_if"] = {slug(str(step.when or step.unless)): step.when is not None}
        return entry

    def _injections(self) -> Iterable[dict[str, Any]]:
        core = self._core
        for column in np.flatnonzero(core.dirt_at_start).tolist():
            mess = core.mess
            assert mess is not None
            code = int(core.dirt_at_start[column]) - 1
            record, _, field = core.field_names[column].partition(".")
            yield {"effect": mess.effect_names[code], "id": mess.fault_ids[code], "family": "records", "time_s": 0.0,
                   "call": 0, "service": core.spec.records[record].service, "before": True,
                   "field": f"{record}.{field}"}  # fmt: skip
        if core.plan is None:
            return
        for (call, worked), row in zip(self._account.struck, core.plan.log.rows(), strict=True):
            effect = str(row["effect"])
            yield {"effect": effect, "id": str(row["fault"]), "family": lookup(effect).category,
                   "time_s": float(row["time_s"]), "call": call, "service": str(row["service"]),
                   "before": not worked or str(row["phase"]) == "before"}  # fmt: skip

    def _timeline(self, injections: tuple[dict[str, Any], ...]) -> Iterable[str]:
        for injection in injections:
            if not injection["call"]:
                yield f"     0.00 s  $  0.0000  ! {injection['effect']} in {injection['field']}"
        number = 0
        for event in self.events:
            when = f"{event['clock_s']:9.2f} s  ${event['spend_usd']:8.4f}"
            if event["kind"] in ("call", "wire"):
                number += 1
                what = event["tool"] if event["kind"] == "call" else f"{event['method']} {event['path']}"
                response = event["response"]
                yield f"{when}  {what}: {response['failure'] or response['status']}"
                for injection in injections:
                    if injection["call"] == number:
                        phase = "before" if injection["before"] else "after"
                        yield f"{when}  ! {injection['effect']} at {injection['service']}, {phase} the work was done"
            elif event["kind"] == "usage":
                yield f"{when}  thinking: {event['latency_s']:.2f} s, ${event['cost_usd']:.4f}"
        clock, spend = float(self._core.clock[0]), float(self._core.spend[0])
        yield f"{clock:9.2f} s  ${spend:8.4f}  {OUTCOMES[int(self._core.outcome[0])]}"


@lru_cache(maxsize=32)
def _built_in(name: str) -> Scenario:
    """A built-in scenario, read once."""
    return load_scenario(name)


def _heeding(
    watch: Callable[[dict[str, Any]], str | None], episode: ref[ToolEpisode]
) -> Callable[[dict[str, Any]], None]:
    """Return ``watch``, with its answer done; the reference is weak, else no episode would ever go."""

    def heed(event: dict[str, Any]) -> None:
        outcome, found = watch(event), episode()
        if outcome is not None and found is not None:
            found.close(outcome)

    return heed


def _name_of(spec: WorkflowScenario) -> Any:
    """What finds a scenario again: its name, its file, or all of it."""
    if spec.path is not None and spec.path.parent == LIBRARY:
        return spec.path.stem
    return str(spec.path) if spec.path is not None else spec.model_dump(mode="json")


__all__ = ["EpisodeResult", "Response", "Tool", "ToolEpisode", "ToolSession"]
