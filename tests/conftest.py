"""Shared settings of all tests: quiet threads, repeatable examples, one Ray cluster where one is used."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before NumPy, torch or Ray is imported: thread counts are read once, at import.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's future default; without a choice it warns at every start.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}.items():
    os.environ.setdefault(_name, _value)

from hypothesis import HealthCheck, settings  # noqa: E402
from hypothesis.configuration import set_hypothesis_home_dir  # noqa: E402

# Nothing is written into the tree, and a failing example is the same on every run and machine.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "brownout-hypothesis")
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep pytest from importing the package twice, and send all tests that use Ray to one process."""
    for item in items:
        for node in item.listchain():
            # The root folder is the package under test. Taken for a package of tests, it would be imported
            # under the folder's own name, and register its environments a second time.
            if isinstance(node, pytest.Package) and node.path == config.rootpath:
                node.setup = lambda: None
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster of two CPUs, started when the first test asks for it.

    ``address="local"`` keeps tests off a cluster that happens to run on this machine. A test kills the
    actors it made.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 * 2**20,
        configure_logging=False,
    )
    yield
    ray.shutdown()
