"""What stands on the servers at the end of an episode beside what should: truth for reports, never for agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .tool_api import argument_name, slug
from .tool_ledger import Entry

if TYPE_CHECKING:
    from .tool_core import ToolCore


def end_state(core: ToolCore) -> list[dict[str, Any]]:
    """Return one dict per effect that stands, and one per effect that should and does not.

    ``step`` is the tool that makes it. ``verdict`` is ``right``, ``wrong values``, ``duplicate``, ``not to be done``,
    ``not asked for``, ``for another customer``, ``missing`` or ``not there yet``. ``values`` is what it was made with
    by argument, ``should`` what those arguments should be that differ.
    """
    found = []
    for step in np.flatnonzero(core.writes[: core.num_steps]).tolist():
        name = f"{slug(core.services.names[int(core.service_of_step[step])])}.{slug(core.step_names[step])}"
        should = {argument_name(core.field_names[c]): value for c, value in core.expected(step).items()}
        for entry in core.ledger.of_step(step):
            values = {argument_name(core.field_names[c]): value for c, value in entry.values.items()}
            amiss = {argument_name(core.field_names[c]) for c in core.amiss(step, entry.values)}
            found.append({
                "step": name, "verdict": _verdict(core, step, entry), "id": entry.id, "values": values,
                "should": {argument: value for argument, value in should.items() if argument in amiss},
            })  # fmt: skip
        if core.needed[0, step] and not core.ledger.own(step):
            found.append({"step": name, "verdict": "missing", "id": None, "values": {}, "should": should})
    return found


def _verdict(core: ToolCore, step: int, entry: Entry) -> str:
    if entry.stray:
        return "for another customer" if entry.owner else "not asked for"
    if core.banned[0, step]:
        return "not to be done"
    if not entry.right:
        return "wrong values"
    if core.ledger.own(step)[0] is not entry:
        return "duplicate"
    return "right" if entry.ready_s <= float(core.clock[0]) else "not there yet"
