"""What a larger budget buys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brownout import cli
from brownout.errors import PolicyError
from brownout.trainers.budgets import budget_table
from brownout.trainers.evaluation import evaluate


def test_rows_are_evaluations_under_a_fixed_budget() -> None:
    policies = ["baseline:draft-and-repair", "baseline:cheapest-first"]
    table = budget_table(policies, "deep-research", [4, 1], episodes=400)
    assert [(row.budget_usd, row.policy) for row in table.rows] == [
        (cap, name) for cap in (1.0, 4.0) for name in ("draft-and-repair", "cheapest-first")
    ]
    assert table.measure == "quality"
    small, large = table.rows[0], table.rows[2]
    assert small.per_usd is None
    assert large.per_usd == pytest.approx((large.delivered.value - small.delivered.value) / 3.0)
    again = evaluate(policies[0], {**_plain("deep-research"), "preferences": {"budget_usd": 4}}, episodes=400)
    assert again.rows[0].quality is not None
    assert again.rows[0].quality.value == large.delivered.value
    assert all(row.cost_usd.value <= row.budget_usd for row in table.rows)


def test_without_quality_it_is_success() -> None:
    table = budget_table("baseline:cheapest-first", "textbook", [0.1, 1.0], episodes=200)
    assert table.measure == "success"
    assert table.rows[0].delivered.value < table.rows[1].delivered.value


@pytest.mark.parametrize("budgets", [[], [0.0], [1.0, -2.0], [float("nan")]])
def test_impossible_budgets_are_refused(budgets: list[float]) -> None:
    with pytest.raises(PolicyError, match="budgets: got"):
        budget_table("baseline:null", "textbook", budgets)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["budgets", "baseline:draft-and-repair", "-s", "deep-research", "--budgets", "1,3", "--episodes", "100"]
    assert cli.main([*arguments, "--json"]) == 0
    assert [row["budget_usd"] for row in json.loads(capsys.readouterr().out)["rows"]] == [1.0, 3.0]
    assert cli.main([*arguments, "--picture", str(tmp_path / "b.png")]) == 0
    assert "quality" in capsys.readouterr().out
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def _plain(name: str) -> dict[str, object]:
    from brownout.scenarios import load_scenario

    return load_scenario(name).model_dump(mode="json")
