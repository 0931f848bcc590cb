"""``brownout runtime``: a policy on a file of tasks, with functions from a module of the user's."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..scenarios.loading import load_scenario
from .live_core import CallableError
from .runtime import Hooks, Runtime
from .runtime_log import CallLog
from .runtime_types import Decision

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass
class Summary:
    """What a run came to.

    Args:
        policy: its name.
        scenario: its name.
        log: the log.
        tasks: tasks decided in this run.
        skipped: tasks that the log says were solved before.
        outcomes: tasks by outcome.
        calls: calls placed.
        spend_usd: cost of configurations and judge.
        person_usd: cost of people.
        refused: decisions at which the budget hid an action.
        overruns: calls that cost more than was declared.
        over_budget: tasks that passed their budget.
        leaked: calls that would not stop.
    """

    policy: str
    scenario: str
    log: str
    tasks: int = 0
    skipped: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    spend_usd: float = 0.0
    person_usd: float = 0.0
    refused: int = 0
    overruns: int = 0
    over_budget: int = 0
    leaked: int = 0

    @property
    def ok(self) -> bool:
        """Whether every task was decided, within its budget, and every call stopped."""
        return not (self.outcomes.get("harness_error", 0) or self.overruns or self.over_budget or self.leaked)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "ok": self.ok}

    def to_text(self) -> str:
        """A few lines for people."""
        mix = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(self.outcomes.items()))
        lines = [
            f"{self.tasks} tasks of {self.scenario} with {self.policy}: {mix or 'nothing to do'}",
            f"{self.calls} calls ${self.spend_usd:.4f}, people ${self.person_usd:.2f}",
            f"log: {self.log}" + (f" ({self.skipped} tasks were solved before)" if self.skipped else ""),
        ]
        loud = {
            "decisions at which the budget hid an action": self.refused,
            "CALLS ABOVE THEIR DECLARED COST": self.overruns,
            "TASKS ABOVE THEIR BUDGET": self.over_budget,
            "CALLS THAT WOULD NOT STOP": self.leaked,
        }
        return "\n".join([*lines, *(f"{text}: {count}" for text, count in loud.items() if count)])


def load_hooks(spec: str) -> Hooks:
    """Import the hooks that ``module:name`` names: a :class:`Hooks`, or a function without arguments that makes one.

    The current folder is searched first, as by ``python -m``. Importing a module runs it, so name only your own.

    Raises:
        CallableError: the text is not ``module:name``, or there is no such thing.
    """
    if not _SPEC.fullmatch(spec):
        raise CallableError(f"--calls {spec!r}: allowed: module:name, such as my_calls:hooks")
    module_name, _, name = spec.partition(":")
    with _current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise CallableError(f"--calls {spec!r}: cannot import {module_name!r}: {error}") from error
        if not hasattr(module, name):
            near = difflib.get_close_matches(name, dir(module), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CallableError(f"--calls {spec!r}: module {module_name!r} has no {name!r}{hint}")
        found = getattr(module, name)
        if not isinstance(found, Hooks) and callable(found):
            found = found()
    if not isinstance(found, Hooks):
        raise CallableError(
            f"--calls {spec!r}: got {type(found).__name__}; allowed: brownout.trainers.runtime.Hooks, or a function "
            "that returns one"
        )
    return found


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def read_tasks(path: str | Path) -> Iterator[Any]:
    """Yield the tasks of a JSON-lines file as they are needed; blank lines are skipped.

    Raises:
        CallableError: the file cannot be read, or a line is not JSON (with its number).
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise CallableError(f"{path}: line {number}: not JSON: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CallableError(f"{path}: cannot read the tasks: {error}") from error


def run_tasks(
    policy: str,
    scenario: str,
    *,
    calls: str | Hooks,
    tasks: str | Path | Iterable[Any],
    out: str | Path,
    overrides: Iterable[str] = (),
    concurrency: int = 8,
    preferences: Mapping[str, float] | None = None,
    timeout_s: float | None = None,
    answers: str | Path | None = None,
    resume: bool = False,
    on_decision: Callable[[Decision], None] | None = None,
) -> Summary:
    """Solve every task of a file; this is ``brownout runtime``.

    Args:
        policy: artefact folder or ``baseline:NAME``.
        scenario: built-in name or file.
        calls: ``module:name`` of the hooks, or the hooks.
        tasks: JSON-lines file, one task per line, or tasks.
        out: the log, appended to.
        overrides: of the scenario, ``field=value``.
        concurrency: tasks at a time.
        preferences: ``budget_usd``, ``deadline_s``, ``per_usd``, ``per_s``.
        timeout_s: seconds after which a call is cut.
        answers: JSON-lines file for the decisions, one per task, as they are made; None writes none.
        resume: skip tasks that the log says were solved.
        on_decision: called with each decision.

    Raises:
        BrownoutError: anything in the input is not valid; nothing was called then.
    """
    hooks = load_hooks(calls) if isinstance(calls, str) else calls
    given = list(read_tasks(tasks)) if isinstance(tasks, (str, Path)) else list(tasks)
    loaded = load_scenario(scenario, overrides)
    runtime = Runtime.of(policy, loaded, hooks, preferences=preferences, timeout_s=timeout_s)
    summary = Summary(runtime.name, loaded.name, str(out))
    with contextlib.ExitStack() as stack:
        runtime.log = log = stack.enter_context(CallLog(out))
        if resume:
            left = [task for task in given if runtime.query_id(task) not in log.done]
            summary.skipped, given = len(given) - len(left), left
        file = None
        if answers is not None:
            try:
                file = stack.enter_context(Path(answers).open("a", encoding="utf-8"))
            except OSError as error:
                raise CallableError(f"{answers}: cannot write the answers: {error}") from error
        outcomes: Counter[str] = Counter()

        def note(decision: Decision) -> None:
            outcomes[decision.outcome] += 1
            summary.tasks += 1
            summary.spend_usd += decision.spend_usd
            summary.person_usd += decision.person_usd
            summary.refused += decision.refused
            if file is not None:
                file.write(json.dumps(_plain(decision), ensure_ascii=False, default=str) + "\n")
                file.flush()
            if on_decision is not None:
                on_decision(decision)

        asyncio.run(_solve(runtime, given, concurrency, note))
    summary.outcomes = dict(outcomes)
    for name in ("calls", "overruns", "over_budget", "leaked"):
        setattr(summary, name, runtime.counts[name])
    return summary


async def _solve(runtime: Runtime, tasks: list[Any], concurrency: int, note: Callable[[Decision], None]) -> None:
    await runtime.solve_many(tasks, concurrency=concurrency, on_decision=note)


def _plain(decision: Decision) -> dict[str, Any]:
    names = ("query_id", "run", "outcome", "answer", "config", "candidate", "accepted", "spend_usd", "clock_s", "error")
    return {name: getattr(decision, name) for name in names}
