"""The injection log: what was really done to which call. Ground truth for analysis, never an observation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Effect
from .calls import Calls, Mask, Status, Verb, Word
from .world import Services

DEFAULT_CAPACITY = 65_536
_FIRST_ROWS = 64

_COLUMNS: dict[str, type] = {
    "lane": np.int64,
    "episode": np.int64,
    "step": np.int64,
    "time_s": np.float64,
    "service": np.int64,
    "verb": np.int8,
    "number": np.int64,
    "fault": np.int64,
    "status": np.int8,
    "applied": np.bool_,
}


@dataclass(frozen=True)
class LoggedFault:
    """What the log says about every injection of one planned fault."""

    id: str
    effect: str
    parameters: str

    @classmethod
    def of(cls, fault_id: str, effect: Effect) -> LoggedFault:
        """Describe a planned fault."""
        return cls(fault_id, effect.name, json.dumps(parameters_of(effect)))


def parameters_of(effect: Effect) -> dict[str, Any]:
    """Return an effect's parameters as plain data, codes as words."""
    names = [field.name for field in fields(effect)]  # pyright: ignore[reportArgumentType]
    return {name: _plain(getattr(effect, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Word):
        return value.word
    if value is None or isinstance(value, str | int | float):
        return value
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else str(value)


class InjectionLog:
    """A bounded record of injections; when it is full the oldest rows go.

    Args:
        services: the services, for their names.
        faults: the planned faults, in the order of the plan.
        capacity: rows to keep; 0 keeps none and only counts.
    """

    def __init__(self, services: Services, faults: Sequence[LoggedFault], capacity: int = DEFAULT_CAPACITY) -> None:
        self._services = services
        self._faults = tuple(faults)
        self._capacity = capacity
        self._columns = {name: np.zeros(min(capacity, _FIRST_ROWS), dtype=dtype) for name, dtype in _COLUMNS.items()}
        self._counts = np.zeros(len(self._faults), dtype=np.int64)
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    @property
    def dropped(self) -> int:
        """How many injections are no longer (or were never) in the log."""
        return self._written - len(self)

    @property
    def counts(self) -> dict[str, int]:
        """How often each planned fault struck, dropped rows included; a fault that never did counts 0."""
        return {fault.id: int(count) for fault, count in zip(self._faults, self._counts, strict=True)}

    def clear(self) -> None:
        """Forget everything, counts included."""
        self._written = 0
        self._counts[:] = 0

    def append(
        self,
        fault: int,
        calls: Calls,
        hit: Mask | None,
        episode: NDArray[Any] | None,
        step: NDArray[Any] | None,
    ) -> None:
        """Record one fault's injections.

        Args:
            fault: index of the fault in the plan.
            calls: the calls it struck, as they are afterwards.
            hit: ``(n,)`` the rows really hit, None for all.
            episode: ``(n,)`` episode index of each row, None if the world does not count.
            step: ``(n,)`` step of each row, None if the world does not count.
        """
        rows = None if hit is None else hit.nonzero()[0]
        count = len(calls) if rows is None else rows.size
        self._counts[fault] += count
        if not self._capacity or not count:
            self._written += count
            return
        self._make_room(min(self._written + count, self._capacity))
        skipped = max(0, count - self._capacity)
        begin = (self._written + skipped) % self._capacity
        end = begin + count - skipped
        self._written += count
        place: Any = slice(begin, end)
        if end > self._capacity:
            place = np.arange(begin, end) % self._capacity

        def put(name: str, values: Any) -> None:
            if isinstance(values, np.ndarray):
                values = values if rows is None else values[rows]
                values = values[skipped:] if skipped else values
            self._columns[name][place] = values

        put("lane", calls.lanes)
        put("episode", -1 if episode is None else episode)
        put("step", -1 if step is None else step)
        put("time_s", calls.started_s)
        put("service", calls.service)
        put("verb", calls.verb)
        put("number", calls.number)
        put("fault", fault)
        put("status", calls.status)
        put("applied", calls.applied)

    def _make_room(self, rows: int) -> None:
        """Grow to ``rows`` at least; most logs stay short, and there is one per environment."""
        held = len(self._columns["lane"])
        if rows > held:
            size = min(max(rows, 2 * held), self._capacity)
            self._columns = {
                name: np.concatenate([column, np.zeros(size - held, column.dtype)])
                for name, column in self._columns.items()
            }

    def rows(self) -> NDArray[np.void]:
        """Return the kept rows, oldest first, as a structured array.

        Fields: lane, episode, step (-1 where unknown), time_s, service, verb, number (of the call), fault
        (its id), effect, parameters (JSON), phase (``before``: the server had not done the work; ``after``:
        it had), status (as the caller sees it).
        """
        return self._rows(self._order())

    def for_episode(self, lane: int, episode: int) -> NDArray[np.void]:
        """Return the kept rows of one lane's episode, oldest first."""
        order = self._order()
        mine = (self._columns["lane"][order] == lane) & (self._columns["episode"][order] == episode)
        return self._rows(order[mine])

    def _order(self) -> NDArray[np.int64]:
        kept = len(self)
        return np.arange(self._written - kept, self._written) % max(1, self._capacity)

    def _rows(self, order: NDArray[np.int64]) -> NDArray[np.void]:
        data = {name: column[order] for name, column in self._columns.items()}
        words: dict[str, NDArray[Any]] = {
            "service": _lookup(self._services.names, data["service"]),
            "verb": _lookup(Verb.words(), data["verb"]),
            "number": data["number"],
            "fault": _lookup([fault.id for fault in self._faults], data["fault"]),
            "effect": _lookup([fault.effect for fault in self._faults], data["fault"]),
            "parameters": _lookup([fault.parameters for fault in self._faults], data["fault"]),
            "phase": np.where(data["applied"], "after", "before"),
            "status": _lookup(Status.words(), data["status"]),
        }
        table = {name: data[name] for name in ("lane", "episode", "step", "time_s")} | words
        out = np.empty(len(order), dtype=[(name, column.dtype) for name, column in table.items()])
        for name, column in table.items():
            out[name] = column
        return out


def _lookup(words: Iterable[str], index: NDArray[Any]) -> NDArray[np.str_]:
    return np.array(list(words) or [""], dtype=np.str_)[index]
