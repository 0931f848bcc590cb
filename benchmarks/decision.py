"""Time of one decision of a policy: NumPy (what brownout ships), onnxruntime and torch.

    python benchmarks/decision.py [--batches 1,64,1024] [--windows 9] [--cpu] [--json]

The network is that of a default training on ``support-desk``: normaliser, two hidden layers of 64, action
mask, most likely action. Each engine gets raw observations and a mask and must return actions; all of them
are checked to agree. One thread. A benchmark is no test: the exit status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from brownout.envs.router_core import RouterCore
from brownout.envs.trace import random_actions
from brownout.trainers.policy import MASKED, Normaliser, Policy, initial_weights

AIM_US = 50.0
Engine = Callable[[NDArray[np.float32], NDArray[np.bool_]], Any]


def observations(lanes: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Observations and masks from the middle of episodes."""
    core = RouterCore("support-desk", lanes)
    core.seed(core.all_lanes, range(lanes))
    core.begin(core.all_lanes)
    for _ in range(3):
        core.advance(random_actions(core, core.mask()))
    return core.observe(), core.mask()


def random_policy(rows: NDArray[np.float32], actions: int) -> Policy:
    """A policy of the default shape; what its weights are does not matter for the time."""
    weights = initial_weights(rows.shape[1], actions, (64, 64), 0)
    weights["policy.2.weight"] = (weights["policy.2.weight"] * 100).astype(np.float32)
    deviation = np.maximum(rows.std(axis=0), 1e-3).astype(np.float32)
    return Policy(weights, Normaliser(rows.mean(axis=0).astype(np.float32), deviation, 10.0))


def numpy_engine(policy: Policy, batch: int) -> Engine:
    """The policy as it is shipped."""
    if batch == 1:
        return lambda rows, mask: [policy.act(rows[0], mask[0])]
    return policy.act_batch


def onnx_engine(policy: Policy, folder: Path) -> Engine:
    """The exported graph in onnxruntime."""
    import onnxruntime

    from brownout.trainers.onnx_export import export_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = export_onnx(policy, folder / "policy.onnx")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda rows, mask: session.run(["action"], {"observation": rows, "action_mask": mask})[0]


def torch_engine(policy: Policy) -> Engine:
    """The same layers in torch, without gradients."""
    import torch

    torch.set_num_threads(1)
    depth = len(policy.hidden) + 1
    tensors = {name: torch.from_numpy(array) for name, array in policy.weights.items()}
    normaliser = policy.normaliser
    assert normaliser is not None
    mean, deviation = torch.from_numpy(normaliser.mean), torch.from_numpy(normaliser.deviation)

    def choose(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> Any:
        with torch.inference_mode():
            x = ((torch.from_numpy(rows) - mean) / deviation).clamp_(-normaliser.clip, normaliser.clip)
            for i in range(depth):
                x = torch.addmm(tensors[f"policy.{i}.bias"], x, tensors[f"policy.{i}.weight"])
                if i < depth - 1:
                    x = x.tanh_()
            return x.masked_fill_(~torch.from_numpy(mask), float(MASKED)).argmax(dim=1)

    return choose


def microseconds(call: Callable[[], Any], windows: int, seconds: float, clock: Callable[[], float]) -> list[float]:
    """Microseconds of one call, one figure per window, sorted."""
    for _ in range(20):
        call()
    found = []
    for _ in range(windows):
        count, start = 0, clock()
        while clock() - start < seconds:
            for _ in range(10):
                call()
            count += 10
        found.append(1e6 * (clock() - start) / count)
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64, 1024])
    parser.add_argument("--windows", type=int, default=9, help="windows per figure")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a window")
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU time instead of the wall clock's")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu else time.perf_counter
    rows, mask = observations(max(options.batches))
    policy = random_policy(rows, mask.shape[1])
    table = Table(title="microseconds of one call: median (lowest to highest window)", title_justify="left")
    for name in ("decisions at once", "numpy", "onnxruntime", "torch"):
        table.add_column(name, justify="right", no_wrap=True)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        onnx, torch = onnx_engine(policy, Path(folder)), torch_engine(policy)
        for batch in options.batches:
            given, allowed = np.ascontiguousarray(rows[:batch]), np.ascontiguousarray(mask[:batch])
            engines: dict[str, Engine] = {"numpy": numpy_engine(policy, batch), "onnxruntime": onnx, "torch": torch}
            reference = np.asarray(engines["numpy"](given, allowed))
            cells = [f"{batch:,}"]
            for name, engine in engines.items():
                agree = float((np.asarray(engine(given, allowed)) == reference).mean())
                if agree < 0.99:  # equal but for ties in the last bit
                    sys.exit(f"{name} agrees with numpy in {agree:.1%} of {batch} decisions only")
                found = microseconds(partial(engine, given, allowed), options.windows, options.seconds, clock)
                middle = statistics.median(found)
                figures.append({"engine": name, "batch": batch, "us": middle, "low": found[0], "high": found[-1]})
                cells.append(f"{middle:.1f} ({found[0]:.1f} to {found[-1]:.1f})")
            table.add_row(*cells)
    one = next((f["us"] for f in figures if f["engine"] == "numpy" and f["batch"] == 1), None)
    if options.json:
        json.dump({"figures": figures, "aim_us": AIM_US}, sys.stdout, indent=2)
        print()
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
    if one is not None:
        met = "met" if one < AIM_US else "missed"
        console.print(f"one decision in NumPy: {one:.1f} us (aim: below {AIM_US:g} us, {met})", highlight=False)


if __name__ == "__main__":
    main()
