"""Registration: decorators, duplicates, and third-party plug-ins that are loaded when asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from brownout.errors import RewardError
from brownout.rewards import REWARDS, known_rewards, lookup_reward, register_potential, register_reward
from brownout.rewards.registry import F64, POTENTIALS, Preference


@pytest.fixture(autouse=True)
def same_registries_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (REWARDS, POTENTIALS):
        monkeypatch.setattr(registry, "_types", dict(registry._types))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("thirdparty"):
            del sys.modules[name]


def install(site: Path, distribution: str, entry: str, module: str, source: str) -> None:
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[brownout.rewards]\n{entry}\n")
    (site / f"{module}.py").write_text(source)


PLUGIN = """
from dataclasses import dataclass

{line}
@dataclass(frozen=True)
class Frugal:
    price: float = 2.0

    def __call__(self, components, preference):
        return components[:, 0] - components[:, 1] * self.price
"""


def test_bare_and_named_decorators() -> None:
    @register_reward
    @dataclass(frozen=True)
    class OnlyAccuracy:
        def __call__(self, components: F64, preference: Preference) -> F64:
            return components[:, 0] * 1.0

    @register_reward("only-money")
    @dataclass(frozen=True)
    class Money:
        def __call__(self, components: F64, preference: Preference) -> F64:
            return components[:, 1] * -1.0

    assert lookup_reward("only-accuracy") is OnlyAccuracy
    assert lookup_reward("only-money") is Money
    assert {"only-accuracy", "only-money", "weighted-sum"} <= set(known_rewards())


def test_a_taken_name_raises_and_keeps_the_first() -> None:
    first = lookup_reward("weighted-sum")
    with pytest.raises(RewardError, match=r"'weighted-sum' is registered already, by brownout\.rewards\.weighted"):

        @register_reward("weighted-sum")
        @dataclass(frozen=True)
        class Another:
            def __call__(self, components: F64, preference: Preference) -> F64:
                return components[:, 0]

    assert lookup_reward("weighted-sum") is first


@pytest.mark.parametrize("name", ["Weighted", "two words", "", "under_score"])
def test_a_malformed_name_raises(name: str) -> None:
    with pytest.raises(RewardError, match="lower-case"):
        register_reward(name)(lookup_reward("weighted-sum"))


def test_what_is_not_a_callable_dataclass_raises() -> None:
    with pytest.raises(RewardError, match="dataclass"):

        @register_reward("no-dataclass")
        class Plain:
            def __call__(self, components: F64, preference: Preference) -> F64:
                return components[:, 0]

    with pytest.raises(RewardError, match="__call__"):

        @register_potential("no-call")
        @dataclass(frozen=True)
        class Silent:
            weight: float = 1.0


def test_a_potential_without_columns_is_refused_when_built() -> None:
    @register_potential("no-columns")
    @dataclass(frozen=True)
    class Blind:
        def __call__(self, columns: dict[str, F64]) -> F64:
            return columns["x"]

    with pytest.raises(RewardError, match="interface Potential"):
        POTENTIALS.build({"kind": "no-columns"}, "shaping")


@pytest.mark.parametrize("line", ["", "from brownout.rewards import register_reward\n@register_reward('frugal')"])
def test_an_installed_plugin_is_listed_unloaded_and_loaded_by_name(site: Path, line: str) -> None:
    install(
        site,
        "frugal-rewards",
        "frugal = thirdparty_frugal:Frugal",
        "thirdparty_frugal",
        PLUGIN.format(line=line),
    )
    assert "frugal" in known_rewards()
    assert "thirdparty_frugal" not in sys.modules
    reward = REWARDS.build({"kind": "frugal", "price": 3}, "reward")
    assert type(reward).__name__ == "Frugal"
    assert lookup_reward("frugal") is lookup_reward("frugal")
    with pytest.raises(RewardError, match=r"reward\.prize.*did you mean 'price'"):
        REWARDS.build({"kind": "frugal", "prize": 3}, "reward")


def test_a_broken_plugin_harms_nobody_until_it_is_asked_for(site: Path) -> None:
    install(
        site,
        "broken-rewards",
        "broken = thirdparty_broken:Broken",
        "thirdparty_broken",
        "raise OSError('no disk')",
    )
    lookup_reward("weighted-sum")
    with pytest.raises(RewardError, match="broken"):
        lookup_reward("brokem")
    with pytest.raises(RewardError, match=r"'broken-rewards'.*thirdparty_broken:Broken.*OSError: no disk"):
        lookup_reward("broken")


def test_one_name_from_two_distributions_is_refused(site: Path) -> None:
    install(site, "one-rewards", "frugal = thirdparty_one:Frugal", "thirdparty_one", PLUGIN.format(line=""))
    install(site, "two-rewards", "frugal = thirdparty_two:Frugal", "thirdparty_two", PLUGIN.format(line=""))
    with pytest.raises(RewardError, match=r"several distributions: ('one-rewards', 'two|'two-rewards', 'one)-?"):
        lookup_reward("frugal")
