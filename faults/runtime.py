"""A plan at work in one environment: selects the calls each fault strikes, strikes them, keeps the log.

The common case is that nothing strikes, so it is one hash over (calls x faults) and one comparison with a
table of probabilities per verb and service. Where a trigger also depends on time or state, the table holds an
upper bound and the few calls below it are asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import GOLDEN, U64, mix64, stream_id, stream_ids
from ..errors import BrownoutError, FaultError
from .base import CallEffect, Memory
from .calls import Calls, Mask, Status
from .compose import Context, Hazard, Trigger
from .draws import Draw
from .log import InjectionLog, LoggedFault
from .triggers import Burst, drawn_per_episode
from .world import Services, World

if TYPE_CHECKING:
    from .plan import PlannedFault

_S11 = np.uint64(11)
_UNIT = 2.0**-53
_GOLDEN = int(GOLDEN)
_ALL_BITS = 0xFFFFFFFFFFFFFFFF
_OK = np.int8(Status.OK)


class _Scope:
    """Hands a fault's trigger its streams and lane arrays."""

    def __init__(self, fault_id: str, services: Services, num_lanes: int, world: World) -> None:
        self.services = services
        self.world = world
        self.arrays: dict[str, tuple[NDArray[np.float64], float]] = {}
        self._id = fault_id
        self._num_lanes = num_lanes
        self._asked: Counter[str] = Counter()

    def _unique(self, name: str) -> str:
        # A trigger may hold two bursts: the second has streams and arrays of its own.
        self._asked[name] += 1
        return name if self._asked[name] == 1 else f"{name}.{self._asked[name]}"

    def lane_array(self, name: str, fill: float) -> NDArray[np.float64]:
        array = np.full(self._num_lanes, fill)
        self.arrays[self._unique(f"array.{name}").removeprefix("array.")] = (array, fill)
        return array

    def stream(self, name: str) -> int:
        return stream_id(f"fault.{self._id}.{self._unique(name)}")

    def service_streams(self, name: str) -> U64:
        unique = self._unique(name)
        return stream_ids([f"fault.{self._id}.{unique}@{service}" for service in self.services.names])


@dataclass
class _Active:
    """One fault of the plan, ready to strike."""

    index: int
    planned: PlannedFault
    effect: CallEffect
    streams: U64
    hazard: Hazard | None
    factor: float
    memory: Memory | None
    screen: Callable[[Calls, NDArray[np.int64] | None, Memory], Mask | None] | None
    trigger_arrays: dict[str, tuple[NDArray[np.float64], float]]
    starts: bool
    limits: NDArray[np.uint64]
    per_call: bool


class BoundPlan:
    """A fault plan bound to an environment; made by :meth:`FaultPlan.bind`.

    What a fault does to a call depends on the call's episode key, service, verb, number, time and lane
    state alone: never on which other calls are in the batch, their order, or which other faults draw.
    """

    def __init__(
        self,
        faults: Sequence[PlannedFault],
        services: Services,
        intensity: float,
        num_lanes: int,
        world: World,
        log_capacity: int,
        log: InjectionLog | None = None,
    ) -> None:
        self.services = services
        self.intensity = intensity
        self.num_lanes = num_lanes
        self._faults = faults
        self._world = world
        ready = [self._activate(index, fault) for index, fault in enumerate(faults)]
        # Sorting is stable: within a stage the order of the plan holds.
        self._active = sorted(ready, key=lambda active: active.effect.stage)
        self._width = len(services)
        self._streams = np.stack([active.streams for active in self._active], axis=1)
        self._limits = np.stack([active.limits for active in self._active], axis=1)
        self._exposed = np.asarray(self._limits.max(axis=1) > 0)
        self._exposed_cells = [any(row) for row in self._limits.tolist()]
        self._stream_rows: list[list[int]] = self._streams.tolist()
        self._all_exposed = bool((self._exposed | ~services.placeable().reshape(-1)).all())
        self._per_episode = [column for column, active in enumerate(self._active) if not active.per_call]
        self._logs_episode, self._logs_step = "episode" in world.names, "step" in world.names
        described = [LoggedFault.of(active.planned.id, active.effect) for active in ready]
        self._log = InjectionLog(services, described, log_capacity) if log is None else log

    def at(self, scale: float) -> BoundPlan:
        """Return this plan in the same environment at ``scale`` (> 0) times the intensity, with the same log."""
        intensity = self.intensity * scale
        return BoundPlan(self._faults, self.services, intensity, self.num_lanes, self._world, 0, self._log)

    def _activate(self, index: int, fault: PlannedFault) -> _Active:
        services, effect = self.services, fault.effect
        assert isinstance(effect, CallEffect)
        trigger, factor = fault.trigger.at(self.intensity)
        if self.intensity > 1.0 and _is_plain(fault.trigger):
            effect = effect.strengthened(self.intensity)
        once = drawn_per_episode(trigger)
        trigger = trigger if once is None else once
        low, high = trigger.bounds(services)
        scope = _Scope(fault.id, services, self.num_lanes, self._world)
        reach = fault.reach(services)
        hazard = None if (low == high)[reach].all() else trigger.compile(scope)
        probability = np.minimum(high * factor, 1.0) * reach
        shapes = effect.memory(services)
        memory = None
        if shapes or type(effect).screen is not CallEffect.screen:
            arrays = {name: np.zeros((self.num_lanes, *shape)) for name, shape in shapes.items()}
            memory = Memory(services, arrays)
        return _Active(
            index=index,
            planned=fault,
            effect=effect,
            streams=stream_ids([f"fault.{fault.id}@{service}" for service in services.names]),
            hazard=hazard,
            factor=factor,
            memory=memory,
            screen=None if type(effect).screen is CallEffect.screen else effect.screen,
            trigger_arrays=scope.arrays,
            starts=type(effect).start is not CallEffect.start,
            # u < p for u of 53 bits is the same as its bits < ceil(p * 2**53).
            limits=np.ceil(probability * 2.0**53).astype(np.uint64).reshape(-1),
            per_call=once is None,
        )

    @property
    def log(self) -> InjectionLog:
        """What was done to which call."""
        return self._log

    @property
    def fault_ids(self) -> tuple[str, ...]:
        """The ids of the planned faults, in the order in which they act on a call."""
        return tuple(active.planned.id for active in self._active)

    @property
    def timeless_ids(self) -> frozenset[str]:
        """Ids of the faults whose strike on a call depends on nothing but the call itself."""
        return frozenset(a.planned.id for a in self._active if a.hazard is None and a.memory is None)

    def reset(self, lanes: NDArray[np.int64], keys: U64) -> None:
        """Start episodes: forget what stateful faults and triggers remember of these lanes.

        Args:
            lanes: ``(m,)`` lanes whose episode starts.
            keys: ``(m,)`` the keys of the new episodes.
        """
        for active in self._active:
            for array, fill in active.trigger_arrays.values():
                array[lanes] = fill
            if active.memory is None:
                continue
            for array in active.memory.arrays.values():
                array[lanes] = 0.0
            if active.starts:
                stream = np.full(len(lanes), stream_id(f"fault.{active.planned.id}.start"), dtype=np.uint64)
                active.effect.start(active.memory, lanes, Draw(keys, stream, np.zeros(len(lanes), np.int64)))

    def strike(self, calls: Calls, keys: U64) -> None:
        """Let the plan act on a batch of calls being placed, in place.

        Args:
            calls: ``n`` calls, each lane at most once.
            keys: ``(n,)`` episode keys of their lanes.

        Raises:
            FaultError: if an effect raises or returns nonsense, naming the fault.
        """
        n = len(calls.lanes)
        if n == 1:
            self._strike_single(calls, keys)
            return
        cell = calls.verb * self._width
        cell += calls.service
        if not self._all_exposed and not self._exposed.take(cell).any():
            return
        bits = self._streams.take(calls.service, axis=0)
        steps = calls.number.astype(np.uint64)
        steps *= GOLDEN
        for column in self._per_episode:
            # These draw once per episode: take back the call number that is about to be added.
            bits[:, column] -= steps
        steps += keys
        bits += steps[:, None]
        mix64(bits)
        bits >>= _S11
        hits = bits < self._limits.take(cell, axis=0)
        failed: Mask | None = None
        for column, active in enumerate(self._active):
            rows = hits[:, column].nonzero()[0]
            if rows.size and failed is not None:
                rows = rows[~failed.take(rows)]
            if rows.size:
                whole = rows.size == n
                failed = self._strike_one(active, calls, keys, None if whole else rows, bits[:, column], failed)

    def _strike_single(self, calls: Calls, keys: U64) -> None:
        """Do the same for one call; plain integers are quicker than arrays of one."""
        service = calls.service.item()
        cell = calls.verb.item() * self._width + service
        if not self._exposed_cells[cell]:
            return
        key, steps = keys.item(), calls.number.item() * _GOLDEN
        bits = self._streams[service] + np.uint64((key + steps) & _ALL_BITS)
        for column in self._per_episode:
            bits[column] = (self._stream_rows[service][column] + key) & _ALL_BITS
        mix64(bits)
        bits >>= _S11
        failed: Mask | None = None
        for column in (bits < self._limits[cell]).nonzero()[0].tolist():
            if failed is None or not failed[0]:
                own = bits[column : column + 1]
                failed = self._strike_one(self._active[column], calls, keys, None, own, failed)

    def _strike_one(
        self,
        active: _Active,
        calls: Calls,
        keys: U64,
        rows: NDArray[np.int64] | None,
        bits: U64,
        failed: Mask | None,
    ) -> Mask | None:
        """Strike with one fault; return the mask of the calls that faults have made fail so far."""
        if active.hazard is not None:
            hazard = active.hazard(Context(calls, keys, rows, self._world))
            if bits.size == 1 and not np.any(hazard):
                return failed
            keep = (bits if rows is None else bits.take(rows)) * _UNIT < hazard * active.factor
            rows, empty = _narrow(rows, keep)
            if empty:
                return failed
        if active.screen is not None:
            assert active.memory is not None
            screened = active.screen(calls, rows, active.memory)
            if screened is not None:
                rows, empty = _narrow(rows, screened)
                if empty:
                    return failed
        struck = calls if rows is None else calls.select(rows)
        struck.memory, struck.world = active.memory, self._world
        own_keys = keys if rows is None else keys.take(rows)
        before = struck.status.copy()
        hit = self._run(active, struck, Draw(own_keys, active.streams.take(struck.service), struck.number))
        struck.memory = struck.world = None
        if rows is not None:
            calls.assign(rows, struck)
        self._record(active, struck, hit)
        newly = (struck.status != before) & (struck.status != _OK)
        if newly.any():
            if failed is None:
                failed = np.zeros(len(calls), dtype=np.bool_)
            if rows is None:
                failed |= newly
            else:
                failed[rows] |= newly
        return failed

    def _run(self, active: _Active, struck: Calls, draw: Draw) -> Mask | None:
        try:
            hit = active.effect.strike(struck, draw)
        except BrownoutError as error:
            raise FaultError(f"{self._place(active)}: {error}") from error
        except Exception as error:
            what = f"strike raised {type(error).__name__}: {error}"
            raise FaultError(f"{self._place(active)}: {what}") from error
        if hit is not None and (
            not isinstance(hit, np.ndarray) or hit.shape != (len(struck),) or hit.dtype != np.bool_
        ):
            raise FaultError(
                f"{self._place(active)}: strike returned {hit!r}; it must be a bool mask of {len(struck)} rows, or None"
            )
        for name, values in (("latency_s", struck.latency_s), ("cost_usd", struck.cost_usd)):
            if not (values.min() >= 0.0 and values.max() < np.inf):  # also false for NaN
                raise FaultError(f"{self._place(active)}: strike left {name} = {values!r}; it must be finite and >= 0")
        return hit

    @staticmethod
    def _place(active: _Active) -> str:
        return f"{active.planned.where} ({active.effect.name}, id {active.planned.id})"

    def _record(self, active: _Active, struck: Calls, hit: Mask | None) -> None:
        world, lanes = self._world, struck.lanes
        self._log.append(
            active.index,
            struck,
            hit,
            world.value("episode", lanes) if self._logs_episode else None,
            world.value("step", lanes) if self._logs_step else None,
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The arrays themselves in which faults remember, one row per lane, by fault id and name."""
        arrays: dict[str, NDArray[np.float64]] = {}
        for active in sorted(self._active, key=lambda active: active.index):
            fault_id = active.planned.id
            arrays |= {f"{fault_id}/{name}": array for name, (array, _) in active.trigger_arrays.items()}
            if active.memory is not None:
                arrays |= {f"{fault_id}/memory.{name}": array for name, array in active.memory.arrays.items()}
        return arrays

    def get_state(self) -> dict[str, NDArray[np.float64]]:
        """Return copies of what faults remember per lane, for an exact continuation. The log is not part."""
        return {name: array.copy() for name, array in self.arrays().items()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state from :meth:`get_state` of the same plan and number of lanes.

        Raises:
            FaultError: if arrays are missing, unknown or of another shape; nothing is changed then.
        """
        arrays = self.arrays()
        if set(state) != set(arrays):
            raise FaultError(f"fault state has the arrays {sorted(state)}; this plan needs {sorted(arrays)}")
        for name, array in arrays.items():
            if state[name].shape != array.shape:
                raise FaultError(f"fault state {name!r} has shape {state[name].shape}; this plan needs {array.shape}")
        for name, array in arrays.items():
            array[...] = state[name]


def _narrow(rows: NDArray[np.int64] | None, keep: Mask) -> tuple[NDArray[np.int64] | None, bool]:
    """Return the rows that are kept (None: all of the batch) and whether none is."""
    kept = keep.nonzero()[0]
    if kept.size == keep.size:
        return rows, False
    return (kept if rows is None else rows.take(kept)), not kept.size


def _is_plain(trigger: Trigger) -> bool:
    """Return whether no part of the trigger can grow with the intensity."""
    return trigger.is_certain() and not any(isinstance(leaf, Burst) for leaf in trigger.leaves())
