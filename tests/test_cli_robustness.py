"""The commands sensitivity, ablation and drift, and the options of train and evaluate that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from brownout import cli, load_policy
from router_support import tiny

QUICK = ["--option", "lanes=16", "--option", "rollout_steps=16", "--option", "minibatch=128", "--option", "hidden=[8]"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert cli.main(list(arguments)) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    data: dict[str, Any] = tiny(
        {"fault": "price-change", "when": "rate(0.5)"},
        {"fault": "timeout", "when": "rate(0.2)"},
        person=None,
        repair=None,
    )
    data["profiles"]["drift"] = [{"fault": "price-change", "when": "drift(0, 1, over=300)"}]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(path)


def test_sensitivity(capsys: pytest.CaptureFixture[str], scenario: str, tmp_path: Path) -> None:
    common = ("sensitivity", "baseline:always-strongest", "-s", scenario, "--episodes", "60")
    text = run(capsys, *common)
    assert "price-change" in text
    assert "smallest detectable" in text
    data = json.loads(run(capsys, *common, "--by", "family", "--json"))
    assert [row["intensity"] for row in data["intensities"]] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert {row["name"] for row in data["faults"]} == {"services", "portfolio"}
    pytest.importorskip("matplotlib")
    run(capsys, *common, "--picture", str(tmp_path / "s.png"))
    assert (tmp_path / "s.png").exists()
    assert "no policy 'nobody'" in run(capsys, "sensitivity", "nobody", "-s", scenario, status=2)


def test_ablation(capsys: pytest.CaptureFixture[str], scenario: str, tmp_path: Path) -> None:
    common = ("ablation", scenario, "--steps", "256", "--episodes", "40", "--held-out", "timeout", *QUICK)
    text = run(capsys, *common, "--out", str(tmp_path / "runs"))
    assert "timeout (held out)" in text
    assert "all faults minus it" in text
    assert (tmp_path / "runs" / "without-timeout-0" / "policy.json").exists()
    data = json.loads(run(capsys, *common, "--json", "--out", str(tmp_path / "runs"), "--resume"))
    assert data["trainings"] == ["all faults", "no faults", "without timeout"]
    assert "resume needs the folder out" in run(capsys, *common, "--resume", status=2)


def test_drift(capsys: pytest.CaptureFixture[str], scenario: str, tmp_path: Path) -> None:
    common = (
        "drift", scenario, "--weeks", "2", "--episodes-per-week", "150", "--steps", "256", "--retrain-steps", "256",
        "--baseline", "cheapest-first", *QUICK,
    )  # fmt: skip
    text = run(capsys, *common, "--out", str(tmp_path / "weeks"))
    assert "retrained minus frozen" in " ".join(text.split())
    assert (tmp_path / "weeks" / "week-01" / "policy.json").exists()
    data = json.loads(run(capsys, *common, "--json"))
    assert {row["policy"] for row in data["rows"]} == {"frozen", "retrained", "baseline:cheapest-first"}
    assert "no profile 'storm'" in run(capsys, *common, "--profile", "storm", status=2)


def test_train_with_a_curriculum_and_without_a_family(
    capsys: pytest.CaptureFixture[str], scenario: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    path = tmp_path / "curriculum.yaml"
    path.write_text("replay: 0.5\nreplay_size: 20\n")
    run(
        capsys, "train", scenario, "--steps", "1024", "--out", str(folder), "--no-evaluate", "--quiet", *QUICK,
        "--curriculum", "fault_share=0:1@0.5", "--curriculum", str(path), "--without-faults", "services",
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert (config["fault_share"], config["replay"], config["replay_size"]) == ("0:1@0.5", 0.5, 20)
    record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["curriculum"]["fault_share"] == 1.0
    assert record["replay"]["size"] > 0
    card = load_policy(folder).card
    assert card is not None
    assert card.training["faults"] == ["price-change#0"]
    text = run(capsys, "evaluate", str(folder), "-s", scenario, "--episodes", "50", "--only-faults", "services")
    assert "only services" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--curriculum", "fault_share=0:1"], "cannot read ':1'"),
        (["--curriculum", "lanes=3"], "unknown option 'lanes'; allowed: fault_share"),
        (["--curriculum", "nowhere.yaml"], "not a readable YAML file"),
        (["--option", "fault_share=2"], "must stay from 0 to 1"),
        (["--without-faults", "rain"], "no fault 'rain'; allowed: family"),
    ],
)
def test_bad_input_is_named(capsys: pytest.CaptureFixture[str], scenario: str, arguments: list[str], said: str) -> None:
    error = run(capsys, "train", scenario, *arguments, "--no-evaluate", "--quiet", status=2)
    assert said in " ".join(error.split())
