"""Any fault plan around a team's own Python tools: same seed, same faults, on a virtual or the real clock.

A wrapped tool has the signature of the original and runs it for real; the plan decides whether a call fails before
or after that, how long it takes, what it costs and whether what comes back is right. What an agent meets is what
production gives it: exceptions, late answers, wrong values.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import FaultError
from ..faults import Calls, FaultPlan, Services, Status, Verb
from .streams import episode_keys, stream_id, uniform
from .wrap_types import ToolError, ToolReset, ToolTimeout, WrappedCall, WrapTool
from .wrap_values import RecordDamage, altered, cut, emptied, halved

PORTS: Final = frozenset({"calls", "records"})


_HTTP: Final[dict[Status, tuple[int, str]]] = {
    Status.SERVER_ERROR: (500, "Internal Server Error"),
    Status.BAD_GATEWAY: (502, "Bad Gateway"),
    Status.UNAVAILABLE: (503, "Service Unavailable"),
    Status.RATE_LIMITED: (429, "Too Many Requests"),
    Status.UNEXPECTED: (409, "Conflict"),
    Status.REFUSED: (451, "Unavailable For Legal Reasons"),
    Status.UNAUTHORIZED: (401, "Unauthorized"),
    Status.FORBIDDEN: (403, "Forbidden"),
    Status.NOT_FOUND: (404, "Not Found"),
    Status.CONFLICT: (409, "Conflict"),
    Status.UNPROCESSABLE: (422, "Unprocessable Entity"),
    Status.LOCKED: (423, "Locked"),
}
_RETURNS: Final = (Status.OK, Status.PENDING, Status.MALFORMED, Status.EMPTY, Status.PARTIAL)


class WrappedTools(Mapping[str, Callable[..., Any]]):
    """A team's tools under a fault plan, by name; made by :func:`wrap`. Hand the agent its values, not this object."""

    def __init__(
        self,
        tools: Mapping[str, WrapTool],
        plan: FaultPlan,
        seed: int,
        *,
        intensity: float,
        time_scale: float,
        raises: Callable[[ToolError], BaseException] | None,
    ) -> None:
        from pydantic import TypeAdapter

        from ..scenarios.distributions import Distribution

        read = TypeAdapter(Distribution).validate_python
        self._tools = dict(tools)
        names = tuple(tools)
        verbs = tuple(((Verb.CALL,) if tool.writes else (Verb.FETCH,)) for tool in tools.values())
        services = Services(names, tuple(tool.family for tool in tools.values()), verbs)
        self._place = {name: index for index, name in enumerate(names)}
        self._latency = [read(tool.latency_s).table() for tool in tools.values()]
        self._cost = [read(tool.cost_usd).table() for tool in tools.values()]
        self._families = services.family_index()
        self._records = RecordDamage.of(plan, {name: tool.fields for name, tool in tools.items()}, intensity)
        self._plan = plan.bind(services, PORTS, intensity=intensity, world=_Clock(self))
        self._time_scale, self._raises = time_scale, raises
        self._guard = threading.RLock()
        self._callables = {name: self._wrapped(name, tool) for name, tool in tools.items()}
        self.seed, self.episode = seed, -1
        self.reset()

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._callables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._callables)

    def __len__(self) -> int:
        return len(self._callables)

    # ---------------------------------------------------------------- for whoever runs the agent

    def reset(self, seed: int | None = None, episode: int | None = None) -> None:
        """Start an episode: the next one of the same seed, or that of a seed.

        Args:
            seed: a new seed; its episodes count from 0.
            episode: number of the episode; default: the one after the present one.
        """
        with self._guard:
            if seed is not None:
                self.seed, self.episode = seed, -1
            self.episode = self.episode + 1 if episode is None else episode
            self._key = episode_keys(np.array([self.seed]), np.array([self.episode]), "eval")
            self._made = np.zeros(len(self._tools), np.int64)
            self._running = np.zeros(len(self._tools), np.int64)
            self._last: dict[str, Any] = {}
            self.clock_s = 0.0
            self.spend_usd = 0.0
            self.calls: list[WrappedCall] = []
            if self._plan is not None:
                self._plan.reset(np.zeros(1, np.int64), self._key)
                self._plan.log.clear()
            if self._records is not None:
                self._records.start(self._key)

    @property
    def injections(self) -> list[dict[str, Any]]:
        """What was really done to which call of this episode, oldest first: effect, parameters, phase, status."""
        found: list[dict[str, Any]] = []
        if self._plan is not None:
            rows = self._plan.log.rows()
            names = rows.dtype.names or ()
            found = [{name: row[name].item() for name in names if name not in ("lane", "step")} for row in rows]
        return found + ([] if self._records is None else list(self._records.log))

    # ---------------------------------------------------------------- a call

    def _wrapped(self, name: str, tool: WrapTool) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(tool.call):

            @functools.wraps(tool.call)
            async def run(*args: Any, **kwargs: Any) -> Any:
                call = _Call(self, name)
                await asyncio.sleep(0)  # calls that are gathered start together
                try:
                    value = await tool.call(*args, **kwargs) if call.applied else None
                except BaseException:
                    call.settle("raised")
                    raise
                await asyncio.sleep(call.latency_s * self._time_scale)
                return call.answer(value)

            return run

        @functools.wraps(tool.call)
        def run_now(*args: Any, **kwargs: Any) -> Any:
            call = _Call(self, name)
            try:
                value = tool.call(*args, **kwargs) if call.applied else None
            except BaseException:
                call.settle("raised")
                raise
            if self._time_scale:
                time.sleep(call.latency_s * self._time_scale)
            return call.answer(value)

        return run_now

    def _place_call(self, name: str) -> Calls:
        """Place a call at the present virtual time and let the plan strike it."""
        at = self._place[name]
        number = int(self._made[at])
        self._made[at] = number + 1
        u = [uniform(self._key, stream_id(f"tool.{name}.{word}"), number) for word in ("latency", "cost")]
        family = self._families == self._families[at]
        calls = Calls.place(
            0,
            at,
            Verb.CALL if self._tools[name].writes else Verb.FETCH,
            number,
            self.clock_s,
            self._latency[at].sample(u[0]),
            self._cost[at].sample(u[1]),
            concurrent=int(self._running[family].sum()),
        )
        self._running[at] += 1
        if self._plan is not None:
            self._plan.strike(calls, self._key)
        return calls


class _Call:
    """One running call: placed at once, settled when its caller goes on."""

    def __init__(self, tools: WrappedTools, name: str) -> None:
        self._tools, self._name = tools, name
        with tools._guard:
            self._calls = tools._place_call(name)
            self._key = tools._key
        self.latency_s = float(self._calls.latency_s[0])
        self.applied = bool(self._calls.applied[0])
        self._status = Status(int(self._calls.status[0]))

    def settle(self, error: str = "") -> None:
        """Let the clock and the bill run to the end of the call."""
        tools, calls = self._tools, self._calls
        with tools._guard:
            if tools._key is not self._key:
                return  # left over from an earlier episode
            at = tools._place[self._name]
            tools._running[at] -= 1
            started, cost = float(calls.started_s[0]), float(calls.cost_usd[0])
            tools.clock_s = max(tools.clock_s, started + self.latency_s)
            tools.spend_usd += cost
            tools.calls.append(
                WrappedCall(self._name, int(calls.number[0]), started, self.latency_s, cost, self._status.word,
                            self.applied, bool(calls.right[0]), error)
            )  # fmt: skip

    def answer(self, value: Any) -> Any:
        """Settle the call, and return or raise what its caller meets."""
        try:
            found = self._found(value)
        except BaseException as error:
            self.settle(type(error).__name__)
            raise
        self.settle()
        return found

    def _found(self, value: Any) -> Any:
        status = self._status
        if status not in _RETURNS:
            raise self._refusal()
        tools, tool = self._tools, self._tools._tools[self._name]
        u = uniform(self._key, stream_id(f"tool.{self._name}.damage"), int(self._calls.number[0])).item()
        if not self.applied:
            known = tools._last.get(self._name) if tool.acknowledges is None else tool.acknowledges
            return copy.deepcopy(known) if tool.writes else emptied(known)
        tools._last[self._name] = copy.deepcopy(value)
        if tools._records is not None:
            value = tools._records.damaged(self._name, value, tool.key, int(self._calls.number[0]))
        if status == Status.MALFORMED:
            if isinstance(value, str | bytes):
                return cut(value, u)
            text = cut(json.dumps(value, default=str), u)
            raise json.JSONDecodeError("Expecting value", text, len(text))
        if status == Status.EMPTY:
            return emptied(value)
        if status == Status.PARTIAL:
            return halved(value)
        return value if self._calls.right[0] else altered(value, u)

    def _refusal(self) -> BaseException:
        wait = float(self._calls.retry_after_s[0]) or None
        if self._status == Status.TIMEOUT:
            error: ToolError = ToolTimeout(f"{self._name}: timed out after {self.latency_s:.1f} s", retry_after_s=wait)
        elif self._status == Status.RESET:
            error = ToolReset(f"{self._name}: connection reset by peer", retry_after_s=wait)
        else:
            code, words = _HTTP[self._status]
            error = ToolError(f"{self._name}: {code} {words}", code, wait)
        raises = self._tools._raises
        return error if raises is None else raises(error)


class _Clock:
    """What conditions of triggers may ask about an episode of wrapped tools."""

    names = ("clock_s", "spend_usd", "calls", "episode")

    def __init__(self, tools: WrappedTools) -> None:
        self._tools = tools

    def value(self, name: str, lanes: Any) -> Any:
        tools = self._tools
        now = {
            "clock_s": tools.clock_s, "spend_usd": tools.spend_usd, "calls": tools._made.sum(), "episode": tools.episode
        }  # fmt: skip
        return np.full(len(lanes), float(now[name]))


def wrap(
    tools: Mapping[str, Callable[..., Any] | WrapTool] | Iterable[Callable[..., Any]],
    plan: FaultPlan | Sequence[Mapping[str, Any]] | str | Path,
    seed: int = 0,
    *,
    intensity: float = 1.0,
    time_scale: float = 0.0,
    raises: Callable[[ToolError], BaseException] | None = None,
) -> WrappedTools:
    """Put a fault plan around Python callables.

    Args:
        tools: the tools by name, or functions that have names; sync and async ones may be mixed. A plain function
            counts as a write; describe it by :class:`WrapTool` to say otherwise.
        plan: a plan, its plain data, or a YAML file that holds the list of faults.
        seed: same seed, same faults, as long as the agent makes the same calls; a change of one tool's calls moves
            no fault of another's.
        intensity: 0 leaves every call alone, 1 is the plan as declared.
        time_scale: real seconds waited per virtual second of latency; 0: none, the clock is virtual only.
        raises: turns a :class:`ToolError` into what the team's own client library would raise.

    Returns:
        The wrapped tools by name, with clock, bill, calls and injections for whoever runs the agent.

    Raises:
        FaultError: if a tool cannot be wrapped, or the plan is not valid or does not fit.

    >>> tools = wrap({"pay": lambda amount: {"id": 1}}, [{"fault": "timeout", "applied": 1.0, "when": "nth_call(1)"}])
    >>> try:
    ...     tools["pay"](amount=5)
    ... except TimeoutError as error:
    ...     print(error)
    pay: timed out after 30.0 s
    >>> tools["pay"](amount=5), tools.clock_s, tools.calls[0].applied
    ({'id': 1}, 30.0, True)
    """
    described = _described(tools)
    if not np.isfinite(time_scale) or time_scale < 0:
        raise FaultError(f"time_scale = {time_scale!r} is not allowed: must be a finite number >= 0")
    return WrappedTools(
        described, _read_plan(plan), seed, intensity=intensity, time_scale=float(time_scale), raises=raises
    )


def _described(tools: Any) -> dict[str, WrapTool]:
    if not isinstance(tools, Mapping):
        found: dict[str, Any] = {}
        for tool in tools:
            name = getattr(tool, "__name__", None)
            if name is None or name == "<lambda>" or name in found:
                raise FaultError(f"tools: {tool!r} has no name of its own; give the tools as a mapping from names")
            found[name] = tool
        tools = found
    if not tools:
        raise FaultError("tools: got none; give at least one callable")
    out: dict[str, WrapTool] = {}
    for name, tool in tools.items():
        tool = tool if isinstance(tool, WrapTool) else WrapTool(tool, writes=True)
        if not isinstance(name, str) or not name or not callable(tool.call):
            raise FaultError(f"tools[{name!r}]: got {tool.call!r}; allowed: a name and a callable")
        if inspect.isgeneratorfunction(tool.call) or inspect.isasyncgenfunction(tool.call):
            raise FaultError(
                f"tools[{name!r}]: yields its answer piece by piece; wrap a function that returns it whole"
            )
        out[name] = tool
    return out


def _read_plan(plan: Any) -> FaultPlan:
    if isinstance(plan, FaultPlan):
        return plan
    if not isinstance(plan, str | Path):
        return FaultPlan.from_specs(plan, "plan")
    import yaml

    try:
        specs = yaml.safe_load(Path(plan).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FaultError(f"{plan}: cannot be read as a plan: {error}") from error
    return FaultPlan.from_specs(specs, str(plan))
