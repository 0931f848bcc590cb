"""One episode over a team's own tools, with what a stress run asks of an episode of a workflow."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..envs.tools import EpisodeResult
from ..envs.wrap_types import ToolError
from ..errors import EpisodeError
from ..faults.registry import lookup
from .own_tools import Made, OwnTools, as_data, as_text
from .stress_watch import AFTER, Event, Watch

_GONE: Final = 410


class OwnEpisode:
    """One episode.

    Args:
        own: tools, plan and check.
        about: ``profile``, ``intensity``, ``split``, ``seed`` and ``episode``.
        max_calls: calls after which the next one ends it.
        only: the one effect to play under; None for all.
        watch: given every event; ends the episode by its answer.
        events: of an episode whose process has died: it is not made again, for its tools act for real, and is
            judged by the events alone.

    Attributes:
        session: what the agent is given: the wrapped tools by name.
        events: every call, as plain data.
        done: whether it is over.
        error: None: what breaks in here is the agent's, the tools' or the check's.
    """

    error: str | None = None

    def __init__(
        self, own: OwnTools, about: dict[str, Any], max_calls: int, only: str | None = None, watch: Watch | None = None,
        events: Iterable[Event] | None = None,
    ) -> None:  # fmt: skip
        from .. import __version__

        self.done = False
        self.events: list[Event] = [] if events is None else list(events)
        self._own, self._about, self._max_calls, self._watch = own, about, max_calls, watch
        self._answer: tuple[Any] | None = None
        self._outcome: str | None = None
        self._guard = threading.RLock()
        start = f"{__version__} {own.hash} {about['seed']} {about['episode']}"
        self._digest = hashlib.sha256(start.encode())
        self._made: Made | None = None
        self.session: dict[str, Any] = {}
        if events is None:
            self._made = own.make(about["seed"], about["episode"], about["intensity"], only)
            self._seen: Counter[str] = Counter()
            wrapped = self._made.wrapped
            self.session = {**self._made.tools, **{name: self._recorded(name, wrapped[name]) for name in wrapped}}

    def returned(self, answer: Any) -> None:
        """Take what the agent returned."""
        self._answer = (answer,)

    def close(self, outcome: str | None = None) -> None:
        """End it; None leaves it to the check."""
        if not self.done:
            self.done, self._outcome = True, outcome

    def result(self) -> EpisodeResult:
        """Return what the episode came to.

        Raises:
            EpisodeError: while it is open.
            Exception: whatever the check raises.
        """
        if not self.done:
            raise EpisodeError("the episode is still open; call close()")
        verdict = self._verdict()
        injections = [strike for event in self.events for strike in event["injections"]]
        last: Event = self.events[-1] if self.events else {"clock_s": 0.0, "spend_usd": 0.0}
        if self._made is not None:  # a call may have struck and not come to its end
            wrapped = self._made.wrapped
            last = {"clock_s": wrapped.clock_s, "spend_usd": wrapped.spend_usd}
        fields = {"wrong_effects": 0, "duplicate_effects": 0, "handed_over_right": False, "utility": 0.0} | verdict
        return EpisodeResult(
            scenario=self._own.name,
            scenario_hash=self._own.hash,
            **self._about,
            **fields,
            success=verdict["outcome"] == "success",
            components={},
            cost_usd=last["spend_usd"],
            latency_s=last["clock_s"],
            calls=len(self.events),
            injections=tuple(injections),
            digest=self.events[-1]["digest"] if self.events else self._digest.hexdigest(),
            timeline=(*self._lines(), f"{_when(last)}  {verdict['outcome']}"),
        )

    def end_state(self) -> list[dict[str, Any]]:
        """Refused: what stands in a world of one's own, only its check can tell.

        Raises:
            EpisodeError: always.
        """
        raise EpisodeError("the world of tools of your own is not recorded")

    # ---------------------------------------------------------------- parts

    def _verdict(self) -> dict[str, Any]:
        if self._outcome is not None:
            return {"outcome": self._outcome}
        if self._made is None:  # the world died with its process
            return {"outcome": "partial"}
        answer = None if self._answer is None else self._answer[0]
        return self._own.judge(self._made.world, answer, self._answer is not None)

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(call):

            @functools.wraps(call)
            async def run(*args: Any, **kwargs: Any) -> Any:
                asked = self._ask(name, args, kwargs)
                try:
                    value = await call(*args, **kwargs)
                except BaseException as error:
                    self._write(name, asked, error)
                    raise
                self._write(name, asked, None, value)
                return value

            return run

        @functools.wraps(call)
        def run_now(*args: Any, **kwargs: Any) -> Any:
            asked = self._ask(name, args, kwargs)
            try:
                value = call(*args, **kwargs)
            except BaseException as error:
                self._write(name, asked, error)
                raise
            self._write(name, asked, None, value)
            return value

        return run_now

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Note the arguments before a tool may change them.

        Raises:
            ToolError: the episode is over.
        """
        if not self.done and len(self.events) >= self._max_calls:
            self.close("limit")
        if self.done:
            if self._watch is not None:
                self._watch({"kind": AFTER})
            raise ToolError(f"{name}: {_GONE} Gone: the work has been stopped", _GONE)
        return as_data(args, kwargs)

    def _write(self, name: str, asked: dict[str, Any], error: BaseException | None, value: Any = None) -> None:
        with self._guard:
            if self._made is None or self.done:
                return  # of a call that was still running at the end
            status = 200 if error is None else int(getattr(error, "status_code", None) or 0)  # as a service has them
            response = {
                "status": status,
                "failure": None if status else type(error).__name__,
                "text": as_text(value) if error is None else str(error),
            }
            fact = {"kind": "call", "tool": name, "arguments": asked, "response": response}
            self._digest.update(json.dumps(fact, sort_keys=True).encode("utf-8", "replace"))
            wrapped = self._made.wrapped
            event = {
                "n": len(self.events) + 1, "clock_s": wrapped.clock_s, "spend_usd": wrapped.spend_usd, **fact,
                "injections": self._struck(), "digest": self._digest.hexdigest(),
            }  # fmt: skip
            self.events.append(event)
            if self._watch is not None and (outcome := self._watch(event)) is not None:
                self.close(outcome)

    def _struck(self) -> list[dict[str, Any]]:
        """What faults have done since the last event."""
        assert self._made is not None
        found = []
        now: Counter[str] = Counter()
        for strike in self._made.wrapped.injections:
            text = json.dumps(strike, sort_keys=True, default=str)
            now[text] += 1
            if now[text] > self._seen[text]:
                found.append(
                    {"effect": strike["effect"], "id": strike["fault"], "family": lookup(strike["effect"]).category,
                     "time_s": float(strike.get("time_s", self._made.wrapped.clock_s)), "call": len(self.events) + 1,
                     "service": strike["service"], "before": strike.get("phase") == "before"}
                )  # fmt: skip
        self._seen = now
        return found

    def _lines(self) -> Iterable[str]:
        for event in self.events:
            response = event["response"]
            yield f"{_when(event)}  {event['tool']}: {response['failure'] or response['status']}"
            for strike in event["injections"]:
                phase = "before" if strike["before"] else "after"
                yield f"{_when(event)}  ! {strike['effect']} at {strike['service']}, {phase} the work was done"


def _when(event: Event) -> str:
    return f"{event['clock_s']:9.2f} s  ${event['spend_usd']:8.4f}"
