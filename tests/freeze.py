"""Print constraints.txt for the packages installed beside this interpreter."""

from __future__ import annotations

from importlib.metadata import distributions

from packaging.utils import canonicalize_name
from packaging.version import Version

NOT_PINNED = {"brownout", "pip", "setuptools", "wheel"}

HEADER = """\
# Exact versions for development and CI: pip install -e '.[dev]' -c constraints.txt
# Written by `make constraints`; lower bounds for users stand in pyproject.toml.
# RLlib pins gymnasium; the wheel check installs the newest release instead.
"""


def main() -> None:
    """Local version labels such as ``+cpu`` are dropped: they name a build, not a release."""
    pins = {
        canonicalize_name(distribution.metadata["Name"]): Version(distribution.version).public
        for distribution in distributions()
    }
    print(HEADER, end="")
    for name in sorted(pins.keys() - NOT_PINNED):
        print(f"{name}=={pins[name]}")


if __name__ == "__main__":
    main()
