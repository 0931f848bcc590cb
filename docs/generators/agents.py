"""What a stress run and the gate say of the example agents: measured on fixed episodes, so always the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from .figures import DOCS, RUN

ROOT = DOCS.parent
AGENTS = ("naive", "retrying", "careful")
WORDS = {
    "naive": "does every step once",
    "retrying": "repeats what failed",
    "careful": "checks values, reads back what it wrote, uses idempotency keys, asks",
}
SCENARIO, EPISODES = "refund", 300


@cache
def stress_table() -> str:
    """The cliff of each example agent, and the verdict of ``examples/gate.yaml``."""
    from brownout.trainers.gate import run_gate
    from brownout.trainers.gate_config import read_gate
    from brownout.trainers.stress import stress

    gate = read_gate(ROOT / "examples" / "gate.yaml")
    lines = ["| agent | clean | production | wrong, and nobody was told | done twice | fails most on | gate |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name in AGENTS:
        out = RUN / f"stress-{name}"
        agent = f"{ROOT}/examples/agents/{name}.py:handle"
        report = stress(agent, SCENARIO, episodes=EPISODES, workers=2, out=out, overwrite=True)
        clean, faulted = report.conditions["clean"], report.conditions["faulted"]
        shares = [clean["success"], faulted["success"], faulted["silent_garbage"], faulted["duplicate_effect"]]
        cells = [f"{100 * f.value:.1f} [{100 * f.low:.1f}, {100 * f.high:.1f}] %" for f in shares]
        worst = ", ".join(row.effect for row in report.effects[:3] if row.recovery.value < 0.8) or "-"
        verdict = run_gate(gate, out).verdict
        lines.append(f"| `{name}.py` {WORDS[name]} | {' | '.join(cells)} | {worst} | {verdict} |")
    return "\n".join(lines) + f"\n\n{EPISODES} episodes of `{SCENARIO}` each, the same for all three, 95 % intervals."


BLOCKS: dict[str, Callable[[], str]] = {"stress-table": stress_table}
