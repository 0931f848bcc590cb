"""Lane-steps per second of every environment, beside Gymnasium's own batched CartPole and SyncVectorEnv.

    python benchmarks/throughput.py [--lanes 1,64,1024,4096] [--seconds 0.5] [--windows 5] [--cpu] [--json] [--quick]

Random *legal* actions are recorded once per setting, by playing, and are replayed from the same seed while
the clock runs: the same seed gives the same episodes, so every recorded action is legal again, and choosing
actions costs nothing. SyncVectorEnv of the scalar environments replays the very same actions. The rows
"any" take uniform actions instead, many of which the mask forbids and which therefore do little.

Every autoreset is next-step, its filler rows are counted for all alike (a lane-step is one lane in one call
of ``step``), and the first steps are not timed. One thread, one process. With ``--cpu`` the clock is the process's
own CPU time, for a machine that others use as well. A benchmark is no test: the exit status is 0 whatever the
figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from brownout.envs import ENVIRONMENTS
from brownout.envs.trace import random_actions
from brownout.scenarios import load_scenario

Actions = list[NDArray[np.int64]]
SCENARIOS = {"brownout/Router-v0": "support-desk", "brownout/Workflow-v0": "refund"}
PROFILES = {"off": "clean", "on": "production"}
CARTPOLE = "CartPole-v1"
WARM_UP = 8
FEWEST_STEPS, MOST_STEPS = 24, 4096
AIM_SPEED = {"brownout/Router-v0": 2e6, "brownout/Workflow-v0": 1e6}
AIM_SPEED_LANES = 4096
AIM_SYNC, AIM_SYNC_LANES = 50.0, 1024
AIM_SCALAR_US = {"brownout/Router-v0": 100.0, "brownout/Workflow-v0": 150.0}


@dataclass(frozen=True)
class Figure:
    """One measurement: median and range over windows, in ``unit``."""

    env: str
    form: str
    faults: str
    actions: str
    lanes: int
    median: float
    low: float
    high: float
    unit: str


def uniform_script(lanes: int, actions: int, steps: int) -> Actions:
    """Uniform actions, whatever the masks say."""
    generator = np.random.Generator(np.random.PCG64(0))
    return list(generator.integers(0, actions, (steps, lanes)))


class Measurements:
    """All figures of a run, in the order they were taken."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.lanes, self.sync_lanes = options.lanes, options.sync_lanes
        self.seconds, self.windows = options.seconds, options.windows
        self.clock: Callable[[], float] = time.process_time if options.cpu else time.perf_counter
        # once: a thousand scalar environments share one
        self.scenarios = {env_id: load_scenario(name) for env_id, name in SCENARIOS.items()}
        self.figures: list[Figure] = []

    def rates(self, step: Callable[[Any], Any], reset: Callable[[], Any], script: Sequence[Any]) -> list[float]:
        """Calls of ``step`` per second, one figure per window; each window replays ``script`` from its start."""
        found, rest = [], script[WARM_UP:]
        for _ in range(self.windows):
            reset()
            for actions in script[:WARM_UP]:
                step(actions)
            start = self.clock()
            for actions in rest:
                step(actions)
            found.append(len(rest) / (self.clock() - start))
        return found

    def length_for(self, step: Callable[[], Any]) -> int:
        """How many steps fill a window."""
        for _ in range(3):
            step()
        start = self.clock()
        for _ in range(4):
            step()
        each = max((self.clock() - start) / 4, 1e-7)
        return int(min(max(self.seconds / each, FEWEST_STEPS), MOST_STEPS)) + WARM_UP

    def add(self, env: str, form: str, faults: str, actions: str, lanes: int, per_s: Sequence[float]) -> None:
        """Keep lane-steps per second."""
        scaled = sorted(lanes * value for value in per_s)
        middle = statistics.median(scaled)
        self.figures.append(Figure(env, form, faults, actions, lanes, middle, scaled[0], scaled[-1], "lane-steps/s"))

    def find(self, form: str, faults: str, lanes: int, env: str, actions: str = "legal") -> Figure | None:
        """The figure of a setting, if it was measured."""
        wanted = (env, form, faults, actions, lanes)
        return next((f for f in self.figures if (f.env, f.form, f.faults, f.actions, f.lanes) == wanted), None)

    def native(self, env_id: str, faults: str, lanes: int) -> None:
        """The batched environment: the public ``step``, and ``lane_step``, which trainers use."""
        env: Any = gym.make_vec(
            env_id,
            num_envs=lanes,
            vectorization_mode="vector_entry_point",
            scenario=self.scenarios[env_id],
            profile=PROFILES[faults],
        )
        core, actions = env.unwrapped.core, int(env.single_action_space.n)
        env.reset(seed=0)
        length = self.length_for(lambda: env.step(random_actions(core, core.mask())))
        env.reset(seed=0)
        legal: Actions = []
        for _ in range(length):
            legal.append(random_actions(core, core.mask()))
            env.step(legal[-1])
        for name, script in (("legal", legal), ("any", uniform_script(lanes, actions, length))):
            per_s = self.rates(env.step, lambda: env.reset(seed=0), script)
            self.add(env_id, "batched", faults, name, lanes, per_s)
        fast = env.unwrapped
        fast.lane_reset(range(lanes))
        swift: Actions = []  # same-step autoreset: other steps, so other legal actions
        for _ in range(length):
            swift.append(random_actions(core, core.mask()))
            fast.lane_step(swift[-1])
        per_s = self.rates(fast.lane_step, lambda: fast.lane_reset(range(lanes)), swift)
        self.add(env_id, "lane_step", faults, "legal", lanes, per_s)
        if lanes in self.sync_lanes:
            self.sync(env_id, faults, lanes, legal)
        env.close()

    def sync(self, env_id: str, faults: str, lanes: int, legal: Actions) -> None:
        """Gymnasium's SyncVectorEnv of as many scalar environments, on the same actions."""

        def make() -> gym.Env[Any, Any]:
            return gym.make(env_id, scenario=self.scenarios[env_id], profile=PROFILES[faults], disable_env_checker=True)

        env: Any = SyncVectorEnv([make] * lanes, autoreset_mode=AutoresetMode.NEXT_STEP)
        env.reset(seed=0)
        length = self.length_for(lambda: env.step(legal[0]))
        per_s = self.rates(env.step, lambda: env.reset(seed=0), legal[:length])
        self.add(env_id, "SyncVectorEnv", faults, "legal", lanes, per_s)
        env.close()

    def cartpole(self, lanes: int, sync: bool) -> None:
        """Gymnasium's CartPole: batched in NumPy, or SyncVectorEnv of the scalar one."""
        mode = "sync" if sync else "vector_entry_point"
        env: Any = gym.make_vec(CARTPOLE, num_envs=lanes, vectorization_mode=mode)
        env.reset(seed=0)
        probe = np.zeros(lanes, np.int64)
        length = self.length_for(lambda: env.step(probe))
        script = uniform_script(lanes, 2, length)
        per_s = self.rates(env.step, lambda: env.reset(seed=0), script)
        self.add(CARTPOLE, "SyncVectorEnv" if sync else "batched", "", "legal", lanes, per_s)
        env.close()

    def scalar(self, env_id: str, faults: str) -> None:
        """Microseconds of one ``step`` and of one ``reset`` of the scalar environment."""
        env: Any = gym.make(env_id, scenario=self.scenarios[env_id], profile=PROFILES[faults], disable_env_checker=True)
        bare = env.unwrapped
        steps: list[list[float]] = []
        resets: list[list[float]] = []
        clock = self.clock
        for _ in range(self.windows + 1):
            bare.reset(seed=0)
            ends, in_step, in_reset, count, episodes = clock() + self.seconds, 0.0, 0.0, 0, 0
            while clock() < ends:
                action = int(random_actions(bare.core, bare.core.mask())[0])
                start = clock()
                _, _, terminated, truncated, _ = bare.step(action)
                in_step += clock() - start
                count += 1
                if terminated or truncated:
                    start = clock()
                    bare.reset()
                    in_reset += clock() - start
                    episodes += 1
            steps.append([1e6 * in_step / count])
            resets.append([1e6 * in_reset / max(episodes, 1)])
        for form, values in (("scalar step", steps), ("scalar reset", resets)):
            flat = sorted(value for (value,) in values[1:])  # the first window warms up
            self.figures.append(
                Figure(env_id, form, faults, "legal", 1, statistics.median(flat), flat[0], flat[-1], "us")
            )
        env.close()


def measure(options: argparse.Namespace, console: Console) -> Measurements:
    """Take every figure."""
    result = Measurements(options)
    with console.status("measuring") as status:
        for lanes in options.lanes:
            status.update(f"{CARTPOLE}, {lanes} lanes")
            result.cartpole(lanes, sync=False)
            if lanes in options.sync_lanes:
                result.cartpole(lanes, sync=True)
        for env_id in ENVIRONMENTS:
            for faults in PROFILES:
                status.update(f"{env_id}, scalar, faults {faults}")
                result.scalar(env_id, faults)
                for lanes in options.lanes:
                    status.update(f"{env_id}, {lanes} lanes, faults {faults}")
                    result.native(env_id, faults, lanes)
    return result


def aims(result: Measurements) -> list[dict[str, Any]]:
    """What was aimed at, and what was found."""
    rows: list[dict[str, Any]] = []
    for env_id in ENVIRONMENTS:
        for form in ("batched", "lane_step"):
            fast = result.find(form, "on", AIM_SPEED_LANES, env_id)
            if fast is not None:
                what = f"{env_id}: {form}, faults on, {AIM_SPEED_LANES:,} lanes, M lane-steps/s"
                rows.append(
                    {"what": what, "found": fast.median / 1e6, "aim": AIM_SPEED[env_id] / 1e6, "at_least": True}
                )
        for faults in PROFILES:
            batched = result.find("batched", faults, AIM_SYNC_LANES, env_id)
            sync = result.find("SyncVectorEnv", faults, AIM_SYNC_LANES, env_id)
            if batched is not None and sync is not None:
                what = f"{env_id}: batched against SyncVectorEnv, faults {faults}, {AIM_SYNC_LANES:,} lanes, times"
                rows.append({"what": what, "found": batched.median / sync.median, "aim": AIM_SYNC, "at_least": True})
        for faults in PROFILES:
            scalar = result.find("scalar step", faults, 1, env_id)
            if scalar is not None:
                what = f"{env_id}: scalar step, faults {faults}, us"
                rows.append({"what": what, "found": scalar.median, "aim": AIM_SCALAR_US[env_id], "at_least": False})
    for row in rows:
        row["met"] = row["found"] >= row["aim"] if row["at_least"] else row["found"] <= row["aim"]
    return rows


def show(result: Measurements, console: Console) -> None:
    """Print the tables."""

    def cell(figure: Figure | None) -> str:
        if figure is None:
            return "-"
        if figure.unit == "us":
            return f"{figure.median:.0f} us ({figure.low:.0f} to {figure.high:.0f})"
        return f"{_short(figure.median)} (-{_percent(figure.low, figure)} +{_percent(figure.high, figure)})"

    names = ", ".join(SCENARIOS.values())
    title = f"lane-steps per second, scenarios {names}: median of {result.windows} windows (their range, %)"
    table = Table(title=title, title_justify="left")
    for name in ("environment", "form", "faults", "actions", *(f"{lanes:,} lanes" for lanes in result.lanes)):
        table.add_column(name, justify="right" if "lanes" in name else "left", no_wrap=True)
    keys = dict.fromkeys((f.env, f.form, f.faults, f.actions) for f in result.figures if f.unit != "us")
    for env, form, faults, actions in keys:
        found = [result.find(form, faults, lanes, env, actions) for lanes in result.lanes]
        table.add_row(env, form, faults, actions, *map(cell, found))
    console.print(table)
    scalar = Table(title="scalar environment, one call", title_justify="left")
    for name in ("environment", "faults", "step", "reset"):
        scalar.add_column(name, no_wrap=True)
    for env_id in ENVIRONMENTS:
        for faults in PROFILES:
            pair = [result.find(form, faults, 1, env_id) for form in ("scalar step", "scalar reset")]
            scalar.add_row(env_id, faults, *map(cell, pair))
    console.print(scalar)
    goals = Table(title="aims", title_justify="left")
    for name, side in (("what", "left"), ("found", "right"), ("aim", "right"), ("met", "left")):
        goals.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in aims(result):
        sign = "at least" if row["at_least"] else "at most"
        goals.add_row(row["what"], f"{row['found']:.2f}", f"{sign} {row['aim']:g}", "yes" if row["met"] else "no")
    console.print(goals)


def _short(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k"


def _percent(end: float, figure: Figure) -> str:
    return f"{100 * abs(end / figure.median - 1):.0f}"


def machine() -> dict[str, Any]:
    """Where the figures come from; a load near the number of cores means that others were at work."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "python": platform.python_version(), "numpy": np.__version__, "gymnasium": gym.__version__,
        "machine": platform.machine(), "cores": os.cpu_count(), "load": [round(value, 2) for value in load],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=numbers, default=[1, 64, 1024, 4096], help="numbers of lanes, by commas")
    parser.add_argument("--sync-lanes", type=numbers, default=[1, 64, 1024], help="lanes to try SyncVectorEnv at")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window")
    parser.add_argument("--windows", type=int, default=5, help="windows per figure")
    parser.add_argument("--quick", action="store_true", help="three windows of a tenth of a second")
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU time instead of the wall clock's")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.windows = 0.1, 3
    before = machine()
    result = measure(options, Console(stderr=True))
    if options.json:
        rows = [asdict(figure) for figure in result.figures]
        json.dump(
            {"scenarios": SCENARIOS, "machine": before, "figures": rows, "aims": aims(result)}, sys.stdout, indent=2
        )
        print()
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    show(result, console)
    console.print(", ".join(f"{name} {value}" for name, value in before.items()), highlight=False)


if __name__ == "__main__":
    main()
