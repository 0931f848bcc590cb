"""Reports of stress runs: the figures of ``stress.json`` in every form, the truth of the end, text that stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from brownout.cli import main
from brownout.envs.tools import ToolEpisode
from brownout.errors import StressError
from brownout.trainers.figure_text import fenced, interval, markdown, number, visible
from brownout.trainers.gate import run_gate
from brownout.trainers.gate_config import GateConfig
from brownout.trainers.junit import Case, junit_xml
from brownout.trainers.run_reports import kind_of, targets, write_run_reports
from brownout.trainers.shadow import shadow
from brownout.trainers.stress_documents import stress_json, stress_junit, stress_markdown
from brownout.trainers.stress_findings import find, headline, to_mend
from brownout.trainers.stress_page import Scale, page_data, stress_html
from brownout.trainers.stress_report import Figure, read_report
from brownout.trainers.stress_stories import worst_stories
from report_support import AGENTS, stress_tiny

NASTY = "<b>&amp;\x1b[31m`|@me](http://x.invalid)\u202e"


class Page(HTMLParser):
    """The tags of a page, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stress_tiny(tmp_path_factory.mktemp("stress") / "run", episodes=40, intensities=(0.5,))


def changed(run: Path, folder: Path, **values: Any) -> Path:
    """The summary of a run with other values, alone in a folder."""
    folder.mkdir(exist_ok=True)
    data = json.loads((run / "stress.json").read_text(encoding="utf-8")) | values
    (folder / "stress.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def cases(text: str) -> dict[str, ElementTree.Element]:
    suite = ElementTree.fromstring(text)
    found = {f"{case.get('classname')}: {case.get('name')}": case for case in suite}
    assert int(suite.get("tests") or 0) == len(found)
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(count) or 0) == len(suite.findall(f"testcase/{tag}"))
    return found


# ---------------------------------------------------------------- the page


def test_the_page_fetches_nothing_and_runs_nothing(run: Path) -> None:
    text = stress_html(find(run))
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, values in page.tags:
        assert not [name for name in values if name.startswith("on")], (tag, values)
        for name in ("src", "href", "xlink:href", "action"):
            value = values.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, values)
    assert not re.search(r"@import|url\((?!#)|@font-face", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= {v["href"] for t, v in page.tags if t == "a"}


def test_the_page_shows_the_figures_of_the_summary(run: Path) -> None:
    report = read_report(run)
    text = " ".join(Page(stress_html(find(run))).text.split())
    for condition in ("clean", "faulted"):
        for name in ("success", "utility", "silent_garbage", "latency_s.p95", "cost_usd"):
            assert interval(report.conditions[condition][name]) in text
    for name in ("success", "latency_s.p50", "calls"):
        assert interval(report.paired[name], "+") in text
    assert report.effects
    for row in report.effects:
        assert row.effect in text
        assert interval(row.recovery) in text
        assert interval(row.loss, "+") in text
    for point in report.intensity_curve:
        assert interval(point.success) in text
    for one in report.worst:
        assert one.replay in text
    assert headline(report) in text


def test_the_heat_map_counts_what_the_summary_counts(run: Path) -> None:
    report = read_report(run)
    table = page_data(find(run))["heat_table"]
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows)[:2] == ["clean", "faulted"]
    for row in report.effects:
        cells = dict(zip(table["heads"], rows[row.effect]["cells"], strict=True))
        assert {name: cell["count"] for name, cell in cells.items() if cell["count"]} == {
            word.replace("_", " "): count for word, count in row.outcomes.items()
        }
        assert sum(cell["heat"] for cell in cells.values()) == pytest.approx(50, abs=0.5)
    words = [head for head in ("silent garbage", "duplicate effect", "partial", "success") if head in table["heads"]]
    assert [head for head in table["heads"] if head in words] == words  # the worst first


def test_a_strip_keeps_the_order_of_values() -> None:
    figure = Figure(value=0.5, low=0.25, high=float("nan"), n=3, unit="share", better="higher")
    scale = Scale([figure], ceiling=1.0)
    (mark,) = scale.mark(figure, "clean")
    assert (mark["low"], mark["at"], mark["high"], mark["open"]) == (26.0, 50.0, 98.0, True)
    assert scale.at(0.0) == 2.0
    assert scale.mark(figure.model_copy(update={"value": float("nan")}), "clean") == []


def test_untrusted_text_stays_text_everywhere(run: Path, tmp_path: Path) -> None:
    folder = changed(run, tmp_path / "nasty", agent=f"{NASTY}:handle", notes=[NASTY])
    found = find(folder)
    text = stress_html(found)
    assert "<b>&amp;amp;" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<b>&amp;\\x1b[31m`|@me](http://x.invalid)\\u202e" in Page(text).text
    report = stress_markdown(found)
    assert "<b>" not in report
    assert "](http" not in report
    assert "@me" not in report
    assert "\u202e" not in report
    assert ElementTree.fromstring(stress_junit(found)).get("name", "").endswith("\\u202e:handle on refund")
    assert json.loads(stress_json(found))["report"]["agent"] == f"{NASTY}:handle"  # data stays what it was


def test_warnings_are_loud_and_come_first(run: Path, tmp_path: Path) -> None:
    report = read_report(run)
    folder = changed(run, tmp_path / "spoilt", planned=report.planned + 9, invalid={"harness_error": 5}, unplayed=4,
                     stopped="time limit")  # fmt: skip
    found = find(folder)
    text = Page(stress_html(found)).text
    for said in ("5 of 125 episodes have no score (5 harness_error). None of these figures can be trusted.",
                 "4 of 129 episodes were not played. The run was stopped: time limit."):  # fmt: skip
        assert 0 < text.index(said) < text.index("The cliff", text.index(said) + 1)
        assert markdown(said) in stress_markdown(found)
    shown = cases(stress_junit(found))
    assert shown["stress.refund.run: episodes have a score"].find("error") is not None
    assert shown["stress.refund.run: every planned episode was played"].find("error") is not None
    assert "warn" not in [v.get("class") for _, v in Page(stress_html(find(run))).tags]


# ---------------------------------------------------------------- stories


def test_stories_tell_requests_faults_and_the_truth(run: Path) -> None:
    report = read_report(run)
    stories, why = worst_stories(report, run)
    assert why is None
    assert len(stories) == len(report.worst) > 2
    rows = {(r["condition"], r["seed"], r["episode"]): r
            for r in map(json.loads, (run / "episodes.jsonl").read_text(encoding="utf-8").splitlines())}  # fmt: skip
    for one, story in zip(report.worst, stories, strict=True):
        row = rows[one.condition, one.seed, one.episode]
        kinds = [line.kind for line in story.lines]
        assert kinds.count("asked") == row["calls"] == kinds.count("got") + kinds.count("failed")
        assert kinds.count("struck") == len(row["injections"])
        assert [line.time_s for line in story.lines] == sorted(line.time_s for line in story.lines)
        assert story.standing is not None
        wrong = [standing for standing in story.standing if not standing.right]
        assert wrong  # none of the worst is a success
        harm = [standing for standing in wrong if ": missing" not in standing.text]
        assert bool(harm) == bool(row["wrong_effects"] + row["duplicate_effects"])
        assert story.texts()[-1].strip().startswith(("ok", "NOT"))


def test_stories_without_the_run_are_short(run: Path, tmp_path: Path) -> None:
    report = read_report(run)
    stories, why = worst_stories(report, None)
    assert why is None
    assert [len(story.lines) for story in stories] == [len(one.timeline) for one in report.worst]
    assert all(story.standing is None for story in stories)
    folder = changed(run, tmp_path / "cut")
    for name in ("episodes.jsonl", "requests.jsonl", "config.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"version": "0.0.1"}), encoding="utf-8")
    stories, why = worst_stories(report, folder)
    assert "played by brownout 0.0.1" in str(why)
    assert all(story.standing is None for story in stories)
    assert "what stands in the end is not shown" in Page(stress_html(find(folder))).text


def test_the_end_state_tells_right_wrong_duplicate_and_missing() -> None:
    episode = ToolEpisode("refund", 0, profile="clean")
    session = episode.session
    before = {one["step"]: one for one in episode.end_state()}
    assert [(name, one["verdict"], one["values"]) for name, one in before.items()] == [
        ("payments.refund", "missing", {}), ("mail.notify", "missing", {})
    ]  # fmt: skip
    (mail,) = before["mail.notify"]["should"].values()
    session.call("mail.notify", customer_email=mail.upper())  # an address has no case
    session.call("mail.notify", customer_email=mail)
    session.call("mail.notify", customer_email="nobody@example.org")
    session.call("finish", summary="done")
    found = [(one["step"], one["verdict"], one["values"], one["should"]) for one in episode.end_state()]
    assert found == [
        ("payments.refund", "missing", {}, before["payments.refund"]["should"]),
        ("mail.notify", "right", {"customer_email": mail.upper()}, {}),
        ("mail.notify", "duplicate", {"customer_email": mail}, {}),
        ("mail.notify", "wrong values", {"customer_email": "nobody@example.org"}, {"customer_email": mail}),
    ]
    # nothing of it leads back to the agent
    assert not [name for name in dir(session) if "end_state" in name]


# ---------------------------------------------------------------- other forms


def test_json_holds_the_figures_of_the_summary(run: Path) -> None:
    data = json.loads(stress_json(find(run)), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["report"] == json.loads((run / "stress.json").read_text(encoding="utf-8"))
    assert data["gate"] is None


def test_markdown_holds_the_tables(run: Path) -> None:
    report = read_report(run)
    text = stress_markdown(find(run))
    for name in ("success", "utility", "calls"):
        cells = (interval(report.conditions["clean"][name]), interval(report.conditions["faulted"][name]),
                 interval(report.paired[name], "+"))  # fmt: skip
        assert f"| {name} | {' | '.join(map(markdown, cells))} |" in text
    for text_of in to_mend(report):
        assert markdown(text_of) in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    assert text.count("<details>") == text.count("</details>") == min(3, len(report.worst))


def test_junit_names_what_failed(run: Path) -> None:
    report = read_report(run)
    shown = cases(stress_junit(find(run)))
    for condition in ("clean", "faulted"):
        for word in ("silent_garbage", "duplicate_effect"):
            case = shown[f"stress.refund.{condition}: no {word.replace('_', ' ')}"]
            assert (case.find("failure") is not None) == bool(report.outcomes[condition].get(word))
    for row in report.effects:
        case = shown[f"stress.refund.effects: {row.effect}"]
        assert (case.find("failure") is not None) == (row.success_loss.low > 0)
        assert (case.find("skipped") is not None) == (row.success_loss.value > 0 and not row.success_loss.low > 0)


def test_with_a_gate_only_its_checks_can_fail(run: Path) -> None:
    rules = {"needs": {"episodes": 2}, "thresholds": [
        {"metric": "success", "at_most": 1.0}, {"metric": "silent_garbage", "at_most": 0.0},
        {"metric": "success", "at_least": 1.0}, {"metric": "utility", "at_least": 0.5, "of": "clean"}]}  # fmt: skip
    gate = run_gate(GateConfig.model_validate(rules), run)
    verdicts = {check.rule: check.verdict for check in gate.checks}
    assert set(verdicts.values()) >= {"pass", "fail"}
    found = find(run, gate)
    shown = cases(stress_junit(found))
    tags = {name: next(iter(case)).tag for name, case in shown.items()}
    states = {"pass": "system-out", "fail": "failure", "undecided": "error"}
    assert {name: tags[f"gate.refund: {name}"] for name in verdicts} == {n: states[v] for n, v in verdicts.items()}
    assert {tag for name, tag in tags.items() if not name.startswith("gate.")} == {"system-out"}
    text = Page(stress_html(found)).text
    assert "Gate: fail" in " ".join(text.split())
    for check in gate.checks:
        assert check.rule in text
        assert check.reason in text
    assert json.loads(stress_json(found))["gate"]["verdict"] == "fail"


def test_numbers_and_marks() -> None:
    assert number(-0.0048, "USD") == "-$0.0048"
    assert number(0.0048, "USD", "+") == "+$0.0048"
    assert number(float("nan"), "s") == "?"
    assert visible("a\x00\u202eb\nc\u00e9") == "a\\x00\\u202eb\nc\u00e9"
    assert fenced("a\n````\nb").startswith("`````text\n")
    text = junit_xml("\x00", [Case("a", "b\x07", "fail", "<&>", "\x1b")])
    case = ElementTree.fromstring(text)[0]
    assert (case.get("name"), case[0].get("message"), case[0].text) == ("b\\x07", "<&>", "\\x1b")


# ---------------------------------------------------------------- files and the command


def test_formats_and_endings_choose_the_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert targets(run) == {"html": run / "report.html"}
    assert targets(run, formats=["md", "junit"]) == {"md": run / "report.md", "junit": run / "junit.xml"}
    assert targets(run, tmp_path / "a.xml") == {"junit": tmp_path / "a.xml"}
    assert targets(run, tmp_path / "a.txt", ["md"]) == {"md": tmp_path / "a.txt"}
    assert targets(run, tmp_path / "all", ["md", "json"]) == {
        "md": tmp_path / "all" / "report.md", "json": tmp_path / "all" / "report.json"
    }  # fmt: skip
    for out, formats, message in (("a.pdf", [], "allowed endings"), ("a.md", ["md", "json"], "give a folder"),
                                  (None, ["pdf"], "allowed: html, md, json, junit")):  # fmt: skip
        with pytest.raises(StressError, match=message):
            targets(run, out and tmp_path / out, formats)


def test_the_command_reports_every_kind(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = tmp_path / "both"
    shadow(
        f"{AGENTS / 'retrying.py'}:handle", f"{AGENTS / 'naive.py'}:handle", out=both, scenario="refund", episodes=12
    )
    assert [kind_of(run), kind_of(both), kind_of(both / "candidate"), kind_of(tmp_path)] == [
        "stress", "shadow", "stress", "training"
    ]  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    assert main(["report", str(run), "--out", str(out), "--format", "html,md,json,junit", "--beside",
                 str(both / "baseline")]) == 0  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["junit.xml", "report.html", "report.json", "report.md"]
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "naive.py:handle" in text
    files = write_run_reports(both, tmp_path / "cmp", formats=["html", "md", "json", "junit"])
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in files}
    comparison = json.loads((both / "shadow.json").read_text(encoding="utf-8"))
    assert json.loads(texts[".json"]) == comparison
    gap = Figure.model_validate(comparison["differences"]["faulted"]["utility"])
    assert interval(gap, "+") in " ".join(Page(texts[".html"]).text.split())
    assert markdown(interval(gap, "+")) in texts[".md"]
    assert "shadow.refund.faulted: utility" in cases(texts[".xml"])
    capsys.readouterr()
    for arguments, message in (
        (["--seed", "3"], "--seed: not for the report of a stress"), (["--baseline", str(run)], "give --gate"),
        (["--gate", str(tmp_path / "none.yaml")], "none.yaml"), (["--format", "pdf"], "allowed: html"),
    ):  # fmt: skip
        assert main(["report", str(run), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["report", str(both), "--beside", str(run)]) == 2
    assert not (run / "report.html").exists()
