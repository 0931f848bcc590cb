"""The command line: every command, JSON that parses, one clear error and exit status 2 for bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from rich.console import Console

import brownout
from brownout import cli
from brownout.cli import main
from brownout.errors import WorkerError
from brownout.faults import CallEffect, register_fault
from brownout.faults.registry import unregister_fault
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.scenarios.loading import LIBRARY
from brownout.trainers.baselines import BASELINES
from brownout.trainers.ppo import PPOConfig

TINY = ["--option", "lanes=32", "--option", "rollout_steps=8", "--option", "minibatch=128", "--option", "hidden=[8, 8]"]
TRAIN = ["train", "textbook", "--steps", "1024", "--profile", "clean", "--quiet", *TINY]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help and tables are laid out for the terminal; give them room."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(cli, "out", Console(width=160))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of a few iterations."""
    folder = tmp_path_factory.mktemp("runs") / "textbook"
    assert main([*TRAIN, "--out", str(folder), "--no-evaluate"]) == 0
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must work; returns what it printed on stdout."""
    status = main(list(arguments))
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "Traceback" not in err
    return out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must refuse its input; returns the one error."""
    status = main(list(arguments))
    out, err = capsys.readouterr()
    assert status == 2, (status, out, err)
    assert out == ""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def strict(text: str) -> Any:
    """JSON without the NaN that Python would let pass."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# ---------------------------------------------------------------- help

COMMANDS = {
    (): ["scenarios", "train", "evaluate", "rollout", "export", "demo", "faults", "options", "Start with"],
    ("scenarios",): ["list", "show", "check", "schema"],
    ("scenarios", "list"): ["--json"],
    ("scenarios", "show"): ["SCENARIO", "--set", "FIELD=VALUE", "limits.budget_usd=0.5"],
    ("scenarios", "check"): ["--episodes", "every profile"],
    ("scenarios", "schema"): ["JSON schema"],
    ("faults",): ["--json"],
    ("options",): ["--json"],
    ("gate",): ["RUN", "--config", "--baseline", "--junit", "--markdown", "could not decide"],
    ("train",): [
        "SCENARIO",
        "--steps",
        "--resume",
        "--seeds",
        "--workers",
        "--collectors",
        "--address",
        "Ctrl-C",
        "--curriculum",
        "--imitate",
        "--without-faults",
    ],
    ("evaluate",): [
        "POLICY",
        "baseline:NAME",
        "--scenario",
        "--episodes",
        "--split",
        "--lanes",
        "--frontier",
        "--sweep",
        "--json",
    ],
    ("rollout",): ["--policy", "--seed", "--show-faults", "--picture", "timeline"],
    ("report",): ["RUN", "--out", "--episodes", "--calibration", "--pictures", "self-contained"],
    ("claims",): ["--data", "--out", "--tasks", "--json", "published"],
    ("export",): ["POLICY", "FILE", "ONNX"],
    ("sensitivity",): ["POLICY", "--scenario", "--by", "--picture", "intensity"],
    ("recovery",): ["POLICY", "--scenario", "--by", "--intensity", "recover"],
    ("ablation",): ["SCENARIO", "--held-out", "--seeds", "--resume"],
    ("drift",): ["SCENARIO", "--weeks", "--episodes-per-week", "--retrain-steps", "--picture"],
    ("portfolio",): ["TABLE", "--size", "--json"],
    ("crossval",): ["TABLE", "--folds", "--seeds", "--workers", "--methods", "--class-column", "AIQ"],
    ("runtime",): ["POLICY", "--scenario", "--calls", "MODULE:NAME", "--tasks", "--out", "--resume"],
    ("calibrate",): ["TABLE", "--out", "--class-column", "--mapping", "--picture"],
    ("judges",): ["SCENARIO", "--false-positive", "--true-positive", "--steps", "--picture", "--workers"],
    ("budgets",): ["POLICY", "--scenario", "--budgets", "--picture", "--json"],
    ("demo",): ["--steps", "--episodes", "support-desk"],
    ("stress",): [
        "AGENT",
        "--scenario",
        "--evalset",
        "--repeats",
        "--isolate",
        "--intensities",
        "--time-limit",
        "--cost-limit",
        "--loop-after",
        "--resume",
        "--overwrite",
        "Ctrl-C",
    ],
    ("shadow",): ["CANDIDATE", "--baseline", "--scenario", "--evalset", "paired"],
    ("freeze",): ["RUN|SCENARIO", "--out", "--worst", "--effect", "--condition"],
    ("replay",): ["RUN|FILE", "--episode", "--agent", "--condition", "--repeat"],
    ("serve",): ["--records", "--time-scale", "--control-port", "--secret-file", "--allow-remote", "SIGTERM"],
    ("mcp",): ["--scenario", "--seed", "--profile", "--result", "standard input"],
    ("records",): ["SCHEMA", "--rows", "--kind", "--mess", "--intensity", "--out", "--truth", "--locale", "--workers"],
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_teaches(command: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, *command, flag)
    for word in COMMANDS[command]:
        assert word in text, word


def test_every_command_has_its_help_checked() -> None:
    import typer

    root: Any = typer.main.get_command(cli.app)
    found = {(name,) for name in root.commands}
    found |= {("scenarios", name) for name in root.commands["scenarios"].commands}
    assert found == set(COMMANDS) - {()}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").strip() == brownout.__version__


def test_a_program_of_its_own_prints_the_same_help() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "brownout", "--help"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "COLUMNS": "160"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for word in COMMANDS[()]:
        assert word in result.stdout


# ---------------------------------------------------------------- scenarios, faults, options


def test_scenarios_list(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "scenarios", "list")
    rows = strict(run(capsys, "scenarios", "list", "--json"))
    assert [row["name"] for row in rows] == builtin_scenarios()
    for row in rows:
        assert row["name"] in text
        assert {"clean", "production"} <= set(row["profiles"])
        assert row["hash"] == load_scenario(row["name"]).hash


@pytest.mark.parametrize("name", builtin_scenarios())
def test_scenarios_show_can_be_read_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "copy.yaml"
    file.write_text(run(capsys, "scenarios", "show", name), encoding="utf-8")
    assert load_scenario(file).hash == load_scenario(name).hash
    assert strict(run(capsys, "scenarios", "show", name, "--json")) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_overrides_are_applied_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "limits.budget_usd=0.5", "--set", "profiles.production.0.when=rate(0.5)", "--set", "person=null"]
    data = strict(run(capsys, "scenarios", "show", "textbook", "--json", *sets))
    assert data["limits"]["budget_usd"] == 0.5
    assert data["profiles"]["production"][0]["when"] == "rate(0.5)"


def test_scenarios_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "scenarios", "check", "textbook", "--episodes", "50")
    assert "textbook" in text
    (report,) = strict(run(capsys, "scenarios", "check", "textbook", "--episodes", "50", "--json"))
    assert report["scenario"] == "textbook"


def test_a_scenario_that_is_valid_and_useless_fails_its_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be won here: exit status 1, for the input itself is fine."""
    file = tmp_path / "hopeless.yaml"
    file.write_text("extends: textbook\nreward: {accuracy: 0.0}\nprofiles: {clean: []}\n")
    assert main(["scenarios", "check", str(file), "--episodes", "50"]) == 1
    assert "no baseline beats doing nothing" in capsys.readouterr().out


def test_the_schema_accepts_the_library_and_refuses_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for env in ("workflow", "router"):
        schema = strict(run(capsys, "scenarios", "schema", "--env", env))
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        for name in builtin_scenarios(env):
            text = (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")
            assert not list(validator.iter_errors(yaml.safe_load(text))), name
    assert schema == strict(run(capsys, "scenarios", "schema"))
    data = yaml.safe_load((LIBRARY / "textbook.yaml").read_text(encoding="utf-8"))
    mistakes: list[dict[str, Any]] = [
        {"limits": {"budget": 1.0}},
        {"limits": {"budget_usd": -1.0}},
        {"version": 2},
        {"judge": {"true_positive": 1.5}},
        {"profiles": {"production": [{"fault": "timeout", "after_s": "soon", "when": "rate(0.1)"}]}},
    ]
    for mistake in mistakes:
        assert list(validator.iter_errors({**data, **mistake})), mistake


def test_faults_are_listed_with_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in strict(run(capsys, "faults", "--json"))}
    assert {"timeout", "rate-limit", "silent-regression", "judge-drift"} <= set(rows)
    assert any(p["name"] == "after_s" for p in rows["timeout"]["parameters"])
    text = run(capsys, "faults")
    assert all(name in text for name in rows)


def test_options_are_those_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    rows = strict(run(capsys, "options", "--json"))
    assert {row["name"]: row["default"] for row in rows}["lanes"] == PPOConfig().lanes
    assert all(row["help"] for row in rows)
    assert "learning_rate" in run(capsys, "options")


# ---------------------------------------------------------------- train, evaluate, rollout, export


def test_a_round_trip(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"policy.json", "weights.npz", "checkpoint.npz", "metrics.jsonl"} <= {p.name for p in trained.iterdir()}
    few = ["--episodes", "60", "--profile", "clean"]
    text = run(capsys, "evaluate", str(trained), "baseline:weitzman", "baseline:null", "-s", "textbook", *few)
    assert all(word in text for word in ("weitzman", "null", "of ceiling", "minus it"))
    data = strict(run(capsys, "evaluate", str(trained), "baseline:weitzman", "-s", "textbook", *few, "--json"))
    assert [row["name"] for row in data["rows"]] == ["textbook", "weitzman"]
    assert data["rows"][1]["against"]["n"] == 60
    assert data["ceiling"] == pytest.approx(0.7345, abs=1e-4)
    story = run(capsys, "rollout", "textbook", "--policy", str(trained), "--profile", "clean", "--seed", "3")
    assert story.startswith("textbook, profile clean, seed 3, episode 0, policy textbook\n")
    assert "utility" in story.splitlines()[-1]
    model = tmp_path / "policy.onnx"
    run(capsys, "export", str(trained), str(model))
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load(str(model)))


def test_training_compares_with_every_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, *TRAIN, "--out", str(tmp_path), "--episodes", "20", "--json")
    names = [row["name"] for row in strict(out)["rows"]]
    rules = [name for name in BASELINES if name not in ("null", "always-escalate", "draft-and-repair")]
    assert names == ["trained", *rules, "weitzman", "optimum"]


def test_training_prints_json_without_an_evaluation_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = strict(run(capsys, *TRAIN, "--out", str(tmp_path), "--no-evaluate", "--json"))
    assert (data["steps"], data["out"]) == (1024, str(tmp_path))


def test_options_reach_the_training(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert (config["lanes"], config["hidden"], config["steps"], config["seed"]) == (32, [8, 8], 1024, 0)


def test_a_training_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [*TRAIN, "--out", str(tmp_path), "--no-evaluate", "--json"]
    run(capsys, *common)
    longer = [*common, "--resume"]
    longer[longer.index("1024")] = "2048"
    assert strict(run(capsys, *longer))["steps"] == 2048
    assert "belongs to scenario" in refusal(capsys, *longer, "--set", "limits.budget_usd=5")


def test_a_rollout_tells_which_faults_struck_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["rollout", "support-desk", "-p", "baseline:race-all", "--intensity", "4", "--seed", "1"]
    quiet, told = strict(run(capsys, *common, "--json")), strict(run(capsys, *common, "--json", "--show-faults"))
    assert "injections" not in quiet
    assert "spoilt" not in quiet
    assert told["injections"]
    assert told.pop("spoilt") == {}
    assert {**told, "injections": None} == {**quiet, "injections": None}
    text = run(capsys, *common, "--show-faults")
    assert f"{told['injections'][0]['fault']} on {told['injections'][0]['service']}" in text
    assert "faults that struck" not in run(capsys, *common)
    assert "no fault struck" in run(capsys, *common, "--profile", "clean", "--show-faults")


def test_equal_seeds_print_equal_results(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["evaluate", "baseline:random", "-s", "support-desk", "--episodes", "40", "--json"]
    first, again, other = (run(capsys, *common, "--seed", seed, "--lanes", lanes) for seed, lanes in (
        ("0", "40"), ("0", "7"), ("1", "40")))  # fmt: skip
    assert first == again
    assert strict(first)["rows"] != strict(other)["rows"]


def test_overrides_reach_the_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["evaluate", "baseline:always-escalate", "-s", "support-desk", "--episodes", "20", "--json"]
    data = strict(run(capsys, *common, "--set", "person.cost_usd=0.125"))
    assert data["rows"][0]["cost_usd"]["value"] == 0.125


# ---------------------------------------------------------------- bad input


def test_evaluate_sweeps_the_frontier(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ["evaluate", "baseline:cheapest-first", "-s", "operating-points", "--episodes", "30", "--frontier"]
    files = ["--picture", str(tmp_path / "f.png"), "--csv", str(tmp_path / "f.csv")]
    text = run(capsys, *common, "--sweep", "per_usd=0.1:10:3", *files)
    assert "operating-points, profile production: 3 values of per_usd, the same 30 eval episodes at each" in text
    assert all(word in text for word in ("cheapest-first", "greedy-index", "static mixes", "oracle", "hypervolume"))
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [row["point"] for row in rows if row["policy"] == "oracle"] == ["0.1", "1", "10"]
    data = strict(run(capsys, *common, "--json", "--profile", "clean"))
    assert (data["profile"], data["sweep"]["name"], len(data["sweep"]["values"])) == ("clean", "per_usd", 9)
    point = data["curves"][0]["points"][4]
    alone = strict(run(capsys, *common[:-1], "--set", f"preferences.per_usd={point['value']}", "--profile", "clean",
                       "--json"))  # fmt: skip
    assert alone["rows"][0]["utility"] == point["utility"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--sweep", "per_usd=1:2:3"], "--sweep, --resolved, --picture and --csv belong to --frontier"),
        (["--frontier"], "samples no preference; say what to sweep"),
        (["--frontier", "--sweep", "per_usd=1"], "two or more different numbers"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], extra: list[str], message: str) -> None:
    assert message in refusal(capsys, "evaluate", "baseline:null", "-s", "support-desk", "--episodes", "4", *extra)


EVALUATE = ("evaluate", "baseline:null", "--episodes", "4", "--scenario")


def scenario_file(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def commands_on(scenario: str) -> list[list[str]]:
    return [
        [*EVALUATE, scenario], ["train", scenario, "--steps", "10"], ["rollout", scenario],
        ["scenarios", "show", scenario], ["scenarios", "check", scenario],
    ]  # fmt: skip


BAD_SCENARIOS = {
    "unknown fault": (
        "extends: textbook\nprofiles:\n  production:\n    - {fault: time-out, when: 'rate(0.1)'}\n",
        ["own.yaml:4", "profiles.production[0]", "unknown fault 'time-out'", "did you mean 'timeout'"],
    ),
    "bad trigger": (
        "extends: textbook\nprofiles:\n  production:\n    - {fault: timeout, when: 'rate(2)'}\n",
        ["profiles.production[0] (timeout)", "2", "1"],
    ),
    "unknown parameter": (
        "extends: textbook\nprofiles:\n  production:\n    - {fault: timeout, after: 3, when: 'rate(0.1)'}\n",
        ["profiles.production[0] (timeout)", "unknown parameter 'after'", "after_s"],
    ),
    "unknown service": (
        "extends: textbook\nprofiles:\n  production:\n    - {fault: timeout, when: \"on('huge')\"}\n",
        ["profiles.production[0] (timeout)", "huge", "frontier"],
    ),
    "negative price": (
        "extends: textbook\nportfolio:\n  tiny: {cost_usd: -0.02}\n",
        ["own.yaml:3", "portfolio.tiny.cost_usd", "greater than or equal to 0", "-0.02"],
    ),
    "unknown field": (
        "extends: textbook\nlimits: {budget: 3}\n",
        ["own.yaml:2", "limits.budget", "unknown field", "budget_usd"],
    ),
    "not YAML": ("version: [1\n", ["own.yaml", "not valid YAML"]),
    "not a mapping": ("- 1\n", ["own.yaml", "a scenario is a mapping"]),
    "no such base": ("extends: textbok\n", ["no scenario 'textbok'", "did you mean 'textbook'"]),
}


@pytest.mark.parametrize("case", BAD_SCENARIOS)
def test_a_bad_scenario_is_one_error_in_every_command(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, parts = BAD_SCENARIOS[case]
    messages = {refusal(capsys, *command) for command in commands_on(scenario_file(tmp_path, text))}
    assert len(messages) == 1, messages
    message = messages.pop()
    for part in parts:
        assert part in message, (part, message)


def test_a_fault_whose_port_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @register_fault("test-needs-a-port")
    @dataclass(frozen=True)
    class NeedsAPort(CallEffect):
        ports: ClassVar[frozenset[str]] = frozenset({"sessions"})

        def strike(self, calls: Any, draw: Any) -> None:
            """Nothing."""

    try:
        file = scenario_file(
            tmp_path, "extends: textbook\nprofiles: {production: [{fault: test-needs-a-port, when: always}]}\n"
        )
        message = refusal(capsys, *EVALUATE, file)
    finally:
        unregister_fault("test-needs-a-port")
    assert "needs the port sessions, which this environment does not offer; offered: calls, portfolio" in message
    assert "profiles.production[0] (test-needs-a-port)" in message


TABLE = """
version: 1
name: own
env: router
tasks: {table: runs.csv, features: []}
portfolio: {one: {}}
profiles: {clean: []}
"""


def write_table(folder: Path, *left_out: str) -> None:
    columns = [c for c in ("query_id", "config", "sample", "success", "cost_usd", "latency_s") if c not in left_out]
    with (folder / "runs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        for q in range(20):
            row = {
                "query_id": f"q{q}", "config": "one", "sample": 0, "success": q % 2, "cost_usd": 0.1, "latency_s": 1,
            }  # fmt: skip
            rows.writerow([row[c] for c in columns])


def test_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path)
    file = scenario_file(tmp_path, TABLE)
    data = strict(run(capsys, *EVALUATE, file, "--profile", "clean", "--json"))
    assert data["clusters"] >= 1
    (tmp_path / "elsewhere.csv").write_bytes((tmp_path / "runs.csv").read_bytes())
    (tmp_path / "runs.csv").unlink()
    assert "no file 'runs.csv'" in refusal(capsys, *EVALUATE, file, "--profile", "clean")
    run(capsys, *EVALUATE, file, "--profile", "clean", "--set", f"tasks.table={tmp_path / 'elsewhere.csv'}")


@pytest.mark.parametrize("missing", ["success", "cost_usd", "query_id"])
def test_a_table_with_a_missing_column(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, missing)
    file = scenario_file(tmp_path, TABLE)
    for command in ([*EVALUATE, file], ["train", file, "--steps", "10"]):
        message = refusal(capsys, *command, "--profile", "clean")
        assert missing in message
        assert "runs.csv" in message
        assert "config" in message  # what is there


@pytest.mark.parametrize("name", ["weights.npz", "policy.json"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_a_truncated_artefact(
    name: str, keep: float, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for part in ("weights.npz", "policy.json"):
        data = (trained / part).read_bytes()
        (broken / part).write_bytes(data[: int(len(data) * keep)] if part == name else data)
    for command in (
        ["evaluate", str(broken), "-s", "textbook", "--profile", "clean"],
        ["rollout", "textbook", "-p", str(broken), "--profile", "clean"],
        ["export", str(broken), str(tmp_path / "x.onnx")],
    ):
        message = refusal(capsys, *command)
        assert name in message
        assert "cut off or altered" in message
    assert not (tmp_path / "x.onnx").exists()


def test_a_truncated_checkpoint(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (trained / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(data[: len(data) // 2])
    message = refusal(capsys, *TRAIN, "--resume", "--out", str(tmp_path))
    assert "checkpoint.npz" in message


def test_a_policy_of_another_scenario(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "evaluate", str(trained), "-s", "support-desk")
    assert "trained on scenario 'textbook', does not fit 'support-desk'" in message
    assert "observation column 'task.class.box' is missing" in message


ONE_LINERS = {
    "unknown scenario": (["rollout", "textbok"], ["no scenario 'textbok'", "did you mean 'textbook'", "support-desk"]),
    "unknown baseline": (["rollout", "textbook", "-p", "baseline:nul"], ["no baseline 'nul'", "did you mean 'null'"]),
    "unknown policy": (["rollout", "textbook", "-p", "nowhere"], ["no policy 'nowhere'", "baseline:NAME"]),
    "a baseline that does not fit": (["rollout", "support-desk", "-p", "baseline:weitzman"], ["not independent boxes"]),
    "wrong profile": ([*EVALUATE, "textbook", "--profile", "staging"], ["no profile 'staging'", "clean, production"]),
    "wrong profile of a training": ([*TRAIN, "--profile", "staging"], ["no profile 'staging'", "clean, production"]),
    "wrong split": ([*EVALUATE, "textbook", "--split", "test"], ["split: got 'test'", "train, eval"]),
    "too much intensity": ([*EVALUATE, "textbook", "--intensity", "1000"], ["intensity: got 1000", "0 to 100"]),
    "unknown option": ([*TRAIN, "--option", "learning_rat=1"], ["did you mean 'learning_rate'", "lanes"]),
    "option without value": ([*TRAIN, "--option", "lanes"], ["--option 'lanes': write NAME=VALUE"]),
    "option that is no number": ([*TRAIN, "--option", "lanes=many"], ["--option 'lanes=many'", "not a number"]),
    "option that is not YAML": ([*TRAIN, "--option", "hidden=[8"], ["--option 'hidden=[8'", "not a number or list"]),
    "option out of range": ([*TRAIN, "--option", "lanes=0"], ["lanes: 0", "whole number from 1"]),
    "option of the wrong type": ([*TRAIN, "--option", "clip=[1]"], ["clip", "must be a number"]),
    "option with a flag of its own": ([*TRAIN, "--option", "steps=5"], ["--option 'steps=5': use --steps"]),
    "override without value": ([*EVALUATE, "textbook", "--set", "limits"], ["--set 'limits'", "field.path=value"]),
    "override of nothing": ([*EVALUATE, "textbook", "--set", "limits.budget=1"], ["limits.budget", "unknown field"]),
    "override out of range": ([*EVALUATE, "textbook", "--set", "limits.budget_usd=-1"], ["limits.budget_usd", "-1"]),
    "override that is not YAML": ([*EVALUATE, "textbook", "--set", "limits.budget_usd=[1"], ["not valid YAML"]),
    "override into a number": ([*EVALUATE, "textbook", "--set", "version.x=1"], ["--set 'version.x=1'"]),
    "nothing to resume": ([*TRAIN, "--resume", "--out", "nowhere"], ["checkpoint.npz", "no such file"]),
    "nothing to export": (["export", "nowhere", "x.onnx"], ["nowhere", "no such file"]),
    "two ways to use Ray": ([*TRAIN, "--workers", "2", "--collectors", "2"], ["workers and collectors", "choose one"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_LINERS)
def test_bad_input_is_one_clear_error(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, parts = ONE_LINERS[case]
    message = refusal(capsys, *arguments)
    for part in parts:
        assert part in message, (part, message)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["scenarios", "frobnicate"], "No such command 'frobnicate'"),
        (["train"], "Missing argument 'SCENARIO'"),
        (["evaluate", "baseline:null"], "Missing option '--scenario'"),
        (["train", "textbook", "--steps", "0"], "'--steps'"),
        (["train", "textbook", "--steps", "many"], "'--steps'"),
        ([*EVALUATE, "textbook", "--intensity", "-1"], "'--intensity'"),
        (["evaluate", "baseline:null", "-s", "textbook", "--episodes", "1"], "'--episodes'"),
        (["train", "textbook", "--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert "Traceback" not in err


def test_a_failure_while_running_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import brownout.trainers.api as api

    def lost(*_: Any, **__: Any) -> None:
        raise WorkerError("rank 1 is lost; [b]see[/b] profiles.production[0]")

    monkeypatch.setattr(api, "train", lost)
    assert main(TRAIN) == 1
    assert capsys.readouterr().err.strip() == "error: rank 1 is lost; [b]see[/b] profiles.production[0]"


def test_a_process_of_its_own_ends_with_the_same_status(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "brownout", *EVALUATE, "textbok"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: no scenario 'textbok'")
    assert len(result.stderr.splitlines()) == 1
