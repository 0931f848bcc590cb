"""What faults may do to the workflow, besides changing calls: the ports ``session`` and ``workflow``.

The operations only move hidden state. What follows from it (a refusal, a wrong effect, a lost answer) is the
business of the physics in :mod:`brownout.envs.workflow_core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .lanes import F64, I64

if TYPE_CHECKING:
    from .workflow_state import WorkflowState


class WorkflowWorld:
    """What triggers may ask about the workflow, and the ports that effects use; see :mod:`brownout.faults.ports`."""

    names = ("clock_s", "spend_usd", "step", "episode", "calls", "done", "unknown", "in_flight", "context")

    def __init__(self, core: WorkflowState) -> None:
        self._core = core
        self.session = _Session(core)
        self.workflow = _Workflow(core)

    def value(self, name: str, lanes: I64) -> F64:
        """Return state variable ``name`` of ``lanes``."""
        from .workflow_state import Belief

        core = self._core
        simple = {
            "clock_s": core.clock, "spend_usd": core.spend, "step": core.steps, "episode": core.episodes,
            "context": core.context,
        }.get(name)  # fmt: skip
        if simple is not None:
            return simple.take(lanes).astype(np.float64)
        if name == "calls":
            return core.made.take(lanes, axis=0).sum(axis=1).astype(np.float64)
        code = {"done": Belief.DONE, "unknown": Belief.UNKNOWN, "in_flight": Belief.IN_FLIGHT}[name]
        steps = core.belief.take(lanes, axis=0)[:, : core.num_steps]
        return (steps == code).sum(axis=1).astype(np.float64)


class _Port:
    def __init__(self, core: WorkflowState) -> None:
        self._core = core


class _Session(_Port):
    """Token, context, locks and versions."""

    def expire_token(self, lanes: I64, time_s: Any) -> None:
        """End the token earlier than the agent was told."""
        core = self._core
        core.token_until[lanes] = np.minimum(core.token_until[lanes], time_s)

    def revoke_scope(self, lanes: I64, service: I64) -> None:
        """Refuse the agent at these services for good."""
        self._core.revoked[lanes, service] = True

    def move_version(self, lanes: I64) -> None:
        """Let the records that the step needs have been changed by somebody else."""
        core = self._core
        core.version[lanes] += core.reads.take(core.target.take(lanes), axis=0)

    def leave_draft(self, lanes: I64) -> None:
        """Leave a draft in the way of the step."""
        core = self._core
        core.draft[lanes, core.target.take(lanes)] = True

    def lock(self, lanes: I64, seconds: Any) -> None:
        """Lock what the step writes."""
        core = self._core
        step = core.target.take(lanes)
        core.lock_until[lanes, step] = np.maximum(core.lock_until[lanes, step], core.clock[lanes] + seconds)

    def grow_context(self, lanes: I64, share: Any) -> None:
        """Fill a share of the context window."""
        core = self._core
        core.context[lanes] = np.minimum(core.context[lanes] + share, 1.0)

    def switch_tenant(self, lanes: I64) -> None:
        """Put the session into the state of another customer."""
        self._core.foreign[lanes] = True


class _Workflow(_Port):
    """Steps, their inputs and the request."""

    def lose_progress(self, lanes: I64) -> None:
        """Forget what the agent holds; a step that reads must be done again, a write may stand or not."""
        from .workflow_state import Belief

        core = self._core
        core.belief[lanes] = np.where(core.writes, Belief.UNKNOWN, Belief.TODO).astype(np.int8)
        held = (core.known, core.wrong, core.behind, core.verified, core.excess, core.attempts, core.status, core.told)
        for array in held:
            array[lanes] = 0
        core.snapshot[lanes] = -1
        core.read_order[lanes] = -1
        core.key[lanes] += 1
        core.flight_until[lanes] = np.inf
        core.context[lanes] = 0.0
        core.rule_out(lanes)

    def change_request(self, lanes: I64, noticed: Any) -> None:
        """Change what a write is about, unless its effect already stands: that was right when it was made."""
        core = self._core
        step = core.target.take(lanes)
        late = (core.applied[lanes, step] == 0) & core.writes.take(step)
        core.changed[lanes, step] |= late
        core.messages[lanes] += late & noticed

    def hold_input(self, lanes: I64, seconds: Any) -> None:
        """Let the input of the step arrive later."""
        core = self._core
        step = core.target.take(lanes)
        core.input_at[lanes, step] = np.maximum(core.input_at[lanes, step], core.clock[lanes] + seconds)

    def rename_fields(self, lanes: I64, service: I64) -> None:
        """Change the interface of these services."""
        self._core.renamed[lanes, service] = True

    def resubmit(self, lanes: I64) -> None:
        """Let somebody else carry out the step, if it has not been done: right, and under a key of their own."""
        core = self._core
        step = core.target.take(lanes)
        due = core.writes.take(step) & (core.applied[lanes, step] == 0) & ~core.banned[lanes, step]
        lanes, step = lanes[due], step[due]
        core.applied[lanes, step] = 1
        core.bad[lanes, step] = 0
        core.applied_key[lanes, step] = -1
        core.stands_at[lanes, step] = 0.0

    def hold_approval(self, lanes: I64, seconds: Any) -> None:
        """Let the next call of the step wait for an approval."""
        core = self._core
        step = core.target.take(lanes)
        core.hold[lanes, step] = np.maximum(core.hold[lanes, step], seconds)

    def plant_instruction(self, lanes: I64) -> None:
        """Hide an instruction in the records that the step needs."""
        core = self._core
        core.planted[lanes] |= core.reads.take(core.target.take(lanes), axis=0)
