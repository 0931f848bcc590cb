"""The report: whole without a network, true to the evaluation, and safe with whatever names it meets."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from brownout.cli import main
from brownout.errors import ArtefactError, ScenarioError
from brownout.scenarios import load_scenario
from brownout.scenarios.loading import scenario_data
from brownout.trainers import report as report_module
from brownout.trainers.artefact import write_text
from brownout.trainers.evaluation import Evaluation, evaluate
from brownout.trainers.goodness import Check, Goodness, Rival
from brownout.trainers.page import page_template, render
from brownout.trainers.picture_style import css_variables
from brownout.trainers.report import gather, page_data, write_report
from brownout.trainers.run_folder import RunFolder, keep_evaluation
from brownout.trainers.statistics import Difference
from brownout.trainers.tables import cells, headings
from report_support import train_tiny

NASTY = "<script>alert('$1 & \"2\"')</script>"


class Page(HTMLParser):
    """What tests want to know of a page: its tags, and its text by section id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self._section = "head"
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self._open.append(tag)
        if tag == "section":
            self._section = values["id"] or ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data
        if {"td", "th"} & set(self._open[-2:]):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module", autouse=True)
def few_episodes() -> Iterator[None]:
    """Tell episodes out of fewer ones, to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_module, "TOLD", 60)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("runs") / "desk", "support-desk")


@pytest.fixture(scope="module")
def report(folder: Path) -> Any:
    return gather(RunFolder.read(folder), episodes=80)


def test_a_folder_holds_what_a_report_needs(folder: Path) -> None:
    run = RunFolder.read(folder)
    assert run.scenario.hash == load_scenario("support-desk").hash == run.card.scenario_hash
    assert (run.profile, run.intensity, run.evaluation, run.goodness) == ("production", 1.0, None, None)
    assert run.config["steps"] == 1024
    assert [record["steps"] for record in run.records][-1] == 1024
    assert run.about["machine"]["cores"] >= 1
    assert "numpy" in run.about["machine"]


def test_the_page_fetches_nothing(folder: Path, tmp_path: Path) -> None:
    path = write_report(folder, tmp_path / "deep" / "r.html", episodes=60)
    text = path.read_text(encoding="utf-8")
    assert [other.name for other in path.parent.iterdir()] == ["r.html"]
    page = Page(text)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "img", "iframe", "object", "embed", "audio", "video", "base", "form"}
    for tag, values in page.tags:
        assert not [name for name in values if name.startswith("on")], values
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = values.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, values)
    assert not re.search(r"@import|url\((?!#)|@font-face", text)
    assert kinds >= {"svg", "table", "details", "pre"}
    assert text.count("<svg ") == 6 + 6  # six pictures of results, three episodes by two policies


def test_colours_follow_the_theme_and_ids_are_unique(report: Any, tmp_path: Path) -> None:
    data = page_data(report, tmp_path)
    drawn = [p["svg"] for p in data["pictures"]] + [t["picture"]["svg"] for e in data["episodes"] for t in e["told"]]
    ids: list[str] = []
    for svg in drawn:
        assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []  # a colour of its own would not follow
        ids += re.findall(r'\bid="([^"]+)"', svg)
        assert set(re.findall(r"(?:url\(|xlink:href=\")#([^)\"]+)", svg)) <= set(ids)
    assert len(ids) == len(set(ids))
    for theme in ("light", "dark"):
        named = set(re.findall(r"--pic-(\w+):", css_variables(theme)))
        assert named >= {m for svg in drawn for m in re.findall(r"var\(--pic-(\w+)\)", svg)}


def test_figures_are_those_of_the_evaluation(report: Any, tmp_path: Path) -> None:
    evaluation = report.evaluation
    same = evaluate(
        {row.name: report.run.policy if row.name == "trained" else f"baseline:{row.name}" for row in evaluation.rows},
        "support-desk", episodes=80,
    )  # fmt: skip
    assert [row.utility for row in same.rows] == [row.utility for row in evaluation.rows]
    data = page_data(report, tmp_path)
    page = Page(_rendered(data))
    assert page.rows[0] == headings(same)
    wanted = sorted(same.rows, key=lambda row: -row.utility.value)
    assert [[cell.strip() for cell in row] for row in page.rows[1:]] == [cells(same, row) for row in wanted]
    head = page.text["head"]
    first = same.rows[0]
    for figure in (f"{first.utility.value:.3f}", f"{100 * first.success.low:.1f} to", f"${first.cost_usd.value:.4f}"):
        assert figure in head
    assert same.bound is not None
    assert f"{100 * first.utility.value / same.bound:.1f} %" in head


def _rendered(data: dict[str, Any]) -> str:
    return render(page_template("report.html"), data)


def test_told_episodes_are_those_of_the_evaluation(report: Any) -> None:
    best = max(report.evaluation.rows[1:], key=lambda row: row.utility.value).name
    assert [len(episode.told) for episode in report.episodes] == [2] * len(report.episodes)
    gains = []
    for episode in report.episodes:
        (name, mine, _), (rival, theirs, _) = episode.told
        assert (name, rival) == ("trained", best)
        gains.append(mine.utility - theirs.utility)
        assert mine.lines
    assert gains[0] == max(gains)
    assert gains[1] == min(gains)


def test_names_are_escaped(tmp_path: Path) -> None:
    data = load_scenario("textbook").model_dump(mode="json") | {"description": NASTY}
    folder = train_tiny(tmp_path / "run", data, profile="clean")
    report = gather(RunFolder.read(folder), episodes=20)
    text = _rendered(page_data(report, tmp_path / "<b>.html"))
    assert NASTY not in text
    assert "<script" not in text
    assert "<b>.html" not in text
    assert NASTY in Page(text).text["head"]
    assert "<b>.html" in Page(text).text["again"]


def test_policies_with_strange_names_are_escaped_in_pictures_too(report: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from brownout.trainers.picture_style import to_svg
    from brownout.trainers.pictures import frontier_figure, outcomes_figure

    rows = (replace(report.evaluation.rows[0], name=NASTY), *report.evaluation.rows[1:])
    for draw in (frontier_figure, outcomes_figure):
        svg = to_svg(draw(replace(report.evaluation, rows=rows)), "x", NASTY)
        assert "<script" not in svg
        assert "alert('$1" in Page(svg).text["head"]  # the dollar sign began no formula


def test_the_commands_make_it_again(folder: Path, report: Any, tmp_path: Path) -> None:
    train, test, again = (shlex.split(command) for command in page_data(report, tmp_path / "r.html")["commands"])
    assert train[:3] == ["brownout", "train", str(folder / "scenario.yaml")]
    assert train[train.index("--seed") + 1] == "3"
    assert "lanes=32" in train
    assert "hidden=[8, 8]" in train
    target = tmp_path / "again"
    train[train.index("--out") + 1] = str(target)
    assert main([*train[1:], "--quiet", "--no-evaluate"]) == 0
    # the same weights in the end; which policy is kept depends on how often the test selects
    digests = [json.loads((path / "last" / "policy.json").read_text())["digest"] for path in (folder, target)]
    assert digests[0] == digests[1]
    assert test[1:3] == ["evaluate", str(folder)]
    assert again == ["brownout", "report", str(folder), "--out", str(tmp_path / "r.html")]


def test_a_stored_evaluation_is_used_until_the_policy_changes(folder: Path, tmp_path: Path) -> None:
    evaluation = evaluate({"trained": str(folder), "null": "baseline:null"}, "support-desk", episodes=30)
    path = keep_evaluation(folder, evaluation)
    try:
        run = RunFolder.read(folder)
        assert run.evaluation is not None
        assert run.evaluation.to_dict() == evaluation.to_dict()  # read back without loss
        stored = gather(run)
        assert stored.stored
        assert stored.evaluation.rows[0].episodes == 30
        assert not gather(run, episodes=40).stored
        assert gather(run, episodes=40).evaluation.rows[0].episodes == 40
        data = json.loads(path.read_text())
        write_text(path, json.dumps(data | {"policy": "sha256:another"}))
        assert RunFolder.read(folder).evaluation is None
        write_text(path, json.dumps({"rows": [{}]}))
        with pytest.raises(ArtefactError, match=r"evaluation\.json: field missing"):
            RunFolder.read(folder)
    finally:
        path.unlink()


def test_an_undefined_number_survives(folder: Path) -> None:
    evaluation = evaluate({"trained": str(folder)}, "support-desk", episodes=20)
    assert evaluation.rows[0].cost_quantiles["p99"].high != evaluation.rows[0].cost_quantiles["p99"].high
    again = Evaluation.from_dict(json.loads(evaluation.to_json()))
    assert again.to_dict() == evaluation.to_dict()


def test_another_scenario_is_refused(folder: Path, tmp_path: Path) -> None:
    changed = tmp_path / "desk.yaml"
    other = load_scenario("support-desk", ["limits.budget_usd=0.3"])
    changed.write_text(yaml.safe_dump(scenario_data(other)), encoding="utf-8")
    with pytest.raises(ScenarioError, match="give the file it was trained on"):
        RunFolder.read(folder, scenario=changed)
    with pytest.raises(ArtefactError, match="a policy is a folder"):
        RunFolder.read(tmp_path)


def test_a_folder_from_before_needs_no_description(folder: Path, tmp_path: Path) -> None:
    for name in ("policy.json", "weights.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    run = RunFolder.read(tmp_path)
    assert run.scenario.name == "support-desk"
    assert run.records == ()
    data = page_data(gather(run, episodes=20), tmp_path)
    assert dict(data["facts"])["machine"] == "not recorded"
    assert "Learning curve" not in [picture["title"] for picture in data["pictures"]]


def test_warnings_and_calibration_are_shown(folder: Path, tmp_path: Path) -> None:
    nan = float("nan")
    checks = (
        Check("success", "a", "success@1", 0.5, 0.4, 0.6, 0.55), Check("success", "a", "success@2", 0.7, 0.6, 0.8, 0.9),
        Check("cost_usd", "a", "p50", 0.01, 0.008, 0.012, 0.011), Check("latency_s", "a", "mean", 2.0, nan, nan, 2.1),
    )  # fmt: skip
    rivals = (Rival("one rate for all", -3.0, Difference(0.5, 0.1, 0.9, 20, 0.01, 0.6)),)
    goodness = Goodness(checks, -2.5, rivals, 80, 20, 1000)
    path = tmp_path / "fit.json"
    text = json.dumps({"goodness": goodness.to_dict()}).replace("NaN", "null")
    path.write_text(text)
    run = RunFolder.read(folder, calibration=path)
    assert run.goodness is not None
    assert str(run.goodness) == str(goodness)
    object.__setattr__(run, "warnings", ("launch:<small> is all it does",))
    page = Page(_rendered(page_data(gather(run, episodes=20), tmp_path)))
    assert "launch:<small> is all it does" in page.text["warnings"]
    assert "2 of 4 simulated figures" in page.text["calibration"]
    path.write_text("{}")
    with pytest.raises(ArtefactError, match="brownout calibrate"):
        RunFolder.read(folder, calibration=path)


def test_the_command_writes_page_and_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, pictures = tmp_path / "r.html", tmp_path / "pictures"
    assert main(["report", str(folder), "--out", str(target), "--episodes", "20", "--pictures", str(pictures)]) == 0
    assert str(target) in capsys.readouterr().out
    written = {path.stem: path.read_bytes() for path in pictures.iterdir()}
    assert written.keys() >= {"learning", "frontier", "paired", "outcomes", "cost", "latency"}
    assert all(content.startswith(b"\x89PNG") for content in written.values())
    assert len([name for name in written if name.startswith("episode-")]) >= 2
    assert main(["report", str(tmp_path / "nowhere")]) == 2


def test_a_training_from_the_command_line_keeps_its_evaluation(tmp_path: Path) -> None:
    tiny = ["--option", "lanes=32", "--option", "rollout_steps=8", "--option", "minibatch=128", "--quiet", "--json"]
    folder = tmp_path / "run"
    assert main(["train", "textbook", "--steps", "512", "--episodes", "40", "--profile", "clean",
                 "--set", "description=my own", "--out", str(folder), *tiny]) == 0  # fmt: skip
    run = RunFolder.read(folder)  # the override is in the folder's scenario
    assert run.scenario.description == "my own"
    assert run.evaluation is not None
    assert run.evaluation.rows[0].episodes == 40
    assert run.evaluation.ceiling is not None
    assert "of the optimum" in [item["name"] for item in page_data(gather(run), tmp_path)["headline"]]


@pytest.mark.parametrize("name", ["jinja2", "matplotlib.figure"])
def test_a_missing_library_is_named(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["report", str(folder), "--episodes", "20"]) == 2
    assert re.search(r"pip install 'brownout\[(report|plot)\]'", capsys.readouterr().err)
    assert not (folder / "report.html").exists()


def test_a_workflow_is_reported_too(tmp_path: Path) -> None:
    folder = train_tiny(tmp_path / "run", "refund")
    report = gather(RunFolder.read(folder), episodes=30)
    data = page_data(report, tmp_path)
    page = Page(_rendered(data))
    assert "configurations" not in dict(data["facts"])
    assert data["drawn"]
    assert "A row is an action" in page.text["episodes"]
    assert "dashed" not in next(p["caption"] for p in data["pictures"] if p["title"] == "Success against cost")
    told = [story for episode in report.episodes for _, story, _ in episode.told]
    assert told
    for story in told:
        assert all(line.strip() in page.text["episodes"] for line in story.lines)
