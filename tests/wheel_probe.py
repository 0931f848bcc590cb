"""Use an installed brownout as a user would: import all of it, then check its environments.

Run by wheel_check.py inside an environment that holds the wheel and its core dependencies only, so this file
needs nothing beyond them:

    python -I wheel_probe.py '{"modules": [...], "needs_extra": {"module": "extra"}}'
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import traceback
import warnings

IMPORT_LIMIT_S = 0.5

_TIMED_IMPORT = """
import time
start = time.perf_counter()
import brownout
print(time.perf_counter() - start)
"""


def import_seconds(python: str, runs: int = 5) -> float:
    """Seconds that ``import brownout`` takes in a new process of that interpreter, the best of several."""
    command = [python, "-I", "-c", _TIMED_IMPORT]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(runs)]
    return min(map(float, outputs))


def import_modules(modules: list[str], needs_extra: dict[str, str]) -> list[str]:
    """Complaints about modules that fail to import, or that fail without naming the extra they need."""
    complaints: list[str] = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            extra = needs_extra.get(name)
            if extra is None:
                complaints.append(f"{name}: {type(error).__name__}: {error}")
            elif f"brownout[{extra}]" not in str(error):
                complaints.append(f"{name}: does not name the extra {extra!r}: {error}")
    return complaints


def check_environments() -> tuple[list[str], list[str]]:
    """Run Gymnasium's checker on every registered id, warnings as errors; returns ids and complaints."""
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    ids = sorted(name for name, spec in gymnasium.registry.items() if spec.namespace == "brownout")
    complaints: list[str] = []
    for name in ids:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_env(gymnasium.make(name).unwrapped, skip_render_check=True)
                envs = gymnasium.make_vec(name, num_envs=3)
                envs.reset(seed=0)
                envs.action_space.seed(0)
                for _ in range(10):
                    envs.step(envs.action_space.sample())
                envs.close()
        except Exception:  # whatever an environment raises, the other ids are still checked
            complaints.append(f"{name}: {traceback.format_exc()}")
    return ids, complaints


def main() -> None:
    """Print a JSON object: where the package lies, the ids it registers, and complaints."""
    request = json.loads(sys.argv[1])
    seconds = import_seconds(sys.executable)
    complaints = import_modules(request["modules"], request["needs_extra"])
    if seconds >= IMPORT_LIMIT_S:
        complaints.append(f"import brownout takes {seconds:.2f} s; the limit is {IMPORT_LIMIT_S} s")
    import gymnasium

    import brownout

    ids, wrong = check_environments()
    answer = {
        "file": brownout.__file__,
        "gymnasium": gymnasium.__version__,
        "import_s": seconds,
        "environments": ids,
        "complaints": [*complaints, *wrong],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
