"""Episodes as spans, and pictures: what is drawn is what happened, and text stays text."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.cli import main
from brownout.envs.router_core import RouterCore
from brownout.trainers.episode_events import Span
from brownout.trainers.episode_picture import draw_episode, episode_figure
from brownout.trainers.evaluation import Evaluation, evaluate, resolve_policy
from brownout.trainers.narrate import Story, tell
from brownout.trainers.picture_style import DARK, LIGHT, SERIES, plain, to_svg
from brownout.trainers.pictures import draw_frontier, frontier_figure, learning_figure, quantiles_figure
from brownout.trainers.single_calls import single_call_points
from report_support import words

RIVALS = [
    "race-all", "cheapest-first", "retry-then-fallback", "best-of-n", "random", "always-escalate", "always-cheapest",
]  # fmt: skip
FAILED = re.compile(r"(rate limited|timeout|unavailable|server error|reset|overloaded|error|malformed|empty|refus)")


def stories(name: str, scenario: str = "support-desk", count: int = 40) -> list[tuple[RouterCore, Story]]:
    core = RouterCore(scenario, 1, split="eval", intensity=2.0)
    actor = resolve_policy(f"baseline:{name}", core)[1]
    told = []
    for episode in range(count):
        story = tell(actor, core, 0, episode)
        told.append((core, story))
        check(core, story)
    return told


def check(core: RouterCore, story: Story) -> None:
    """The spans say what totals and timeline say."""
    total = story.totals
    calls = [span for span in story.spans if span.kind in ("call", "repair")]
    assert len(calls) == core.used[0]
    launched = [line.split("launch ")[1] for line in story.lines if "launch " in line]
    begun = sorted((s for s in story.spans if s.kind == "call"), key=lambda s: s.start_s)
    assert sorted(launched) == sorted(span.who for span in begun)
    answers = [re.sub(r" \(\$.*", "", line.split(" answers: ")[1]) for line in story.lines if " answers: " in line]
    ended = [span for span in calls if span.result != "cancelled"]
    assert sorted("ok" if s.result in ("right", "wrong") else s.result for s in ended) == sorted(answers)
    assert sum(s.kind == "judge" for s in story.spans) == core.judgements[0]
    verdicts = [line for line in story.lines if "judge accepts" in line]
    assert len([s for s in story.spans if s.kind == "judge" and s.result == "accepts"]) == len(verdicts)
    for span in story.spans:
        assert 0.0 <= span.start_s <= span.end_s <= total["latency_s"] + 1e-9
    known = sum(span.cost_usd or 0.0 for span in story.spans)
    if story.outcome != "limit":  # a hard ceiling cuts the last charge
        assert known <= total["cost_usd"] + 1e-9
    if not any(span.cost_usd is None for span in story.spans) and story.outcome != "limit":
        assert known == pytest.approx(total["cost_usd"])
    if story.outcome == "success":
        assert any(span.result == "right" for span in calls)
    if story.outcome == "wrong_answer":
        assert any(span.result == "wrong" for span in calls)


@pytest.mark.parametrize("name", RIVALS)
def test_spans_agree_with_totals_and_timeline(name: str) -> None:
    told = stories(name)
    kinds = {span.kind for _, story in told for span in story.spans}
    results = {span.result for _, story in told for span in story.spans}
    if name == "race-all":
        assert {"cancelled", "right", "wrong", "accepts"} <= results
        assert any(FAILED.search(result) for result in results)
    if name == "always-escalate":
        assert kinds == {"person"}


def test_a_call_that_a_person_replaces_ends_before_the_person_begins() -> None:
    class Both:
        """Launch, then hand over while the call runs."""

        def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> Any:
            column = [c.name for c in core.observation_columns].index("running")
            return np.where(observations[:, column] > 0, core.action_names.index("escalate"), 0)

    core = RouterCore("support-desk", 1, profile="clean", split="eval")
    story = tell(Both(), core, 0)
    call, person = sorted(story.spans, key=lambda span: span.kind)
    assert (call.kind, call.result, call.end_s) == ("call", "cancelled", 0.0)
    assert (person.kind, person.start_s, person.end_s) == ("person", 0.0, story.totals["latency_s"])


def test_pauses_are_told() -> None:
    core = RouterCore("flaky-api", 1, split="eval", profile="hostile")
    actor = resolve_policy("baseline:retry-then-fallback", core)[1]
    seen = 0
    for episode in range(60):
        story = tell(actor, core, 0, episode)
        check(core, story)
        lengths = [float(line.split("back off for ")[1].split()[0]) for line in story.lines if "back off" in line]
        pauses = [span.end_s - span.start_s for span in story.spans if span.kind == "pause"]
        if story.outcome != "limit":  # the deadline may cut a pause
            assert pauses == pytest.approx(lengths, abs=0.051)
        seen += len(pauses)
    assert seen > 0


def made_up(spans: list[Span]) -> Story:
    end = max(span.end_s for span in spans)
    totals = {"cost_usd": 0.5, "latency_s": end}
    return Story([], 0.5, "success", totals, [], spans)


def test_the_episode_picture_says_what_happened() -> None:
    spans = [
        Span("call", "a-$1", 0.0, 4.0, "right", 0.1), Span("call", "b", 0.0, 6.0, "cancelled", None),
        Span("call", "b", 1.0, 2.0, "rate limited", 0.0), Span("judge", "judge", 4.0, 6.0, "accepts", 0.0),
    ]  # fmt: skip
    svg = to_svg(episode_figure(made_up(spans), "told"), "e", "an episode")
    text = words(svg)
    for word in ("told", "a-$1", "b", "judge", "right", "cancelled", "rate limited", "accepts", "success, $0.5, 6 s"):
        assert word in text, word
    assert text.count("b") == 2  # calls that overlap have rows of their own
    once = [replace(span, start_s=4.5, end_s=5.0) if span.result == "rate limited" else span for span in spans]
    shorter = [replace(span, end_s=4.0) if span.result == "cancelled" else span for span in once]
    assert words(to_svg(episode_figure(made_up(shorter)), "e", "x")).count("b") == 1


def test_what_struck_is_marked_in_the_analysis_only() -> None:
    spans = [Span("call", "a", 0.0, 4.0, "right", 0.1), Span("call", "b", 1.0, 2.0, "timeout", 0.0)]
    struck = [{"time_s": 1.0, "service": "b"}]
    story = replace(made_up(spans), injections=struck)
    plainly, analysed = (episode_figure(story, analysis=analysis).axes[0] for analysis in (False, True))
    assert not [line for line in plainly.lines if line.get_marker() == "v"]
    (mark,) = (line for line in analysed.lines if line.get_marker() == "v")
    rows = [tick.get_text() for tick in analysed.get_yticklabels()]
    assert mark.get_xdata()[0] == 1.0
    assert round(float(mark.get_ydata()[0]) + 0.36) == rows.index("b")


def test_rollout_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "episode.png"
    arguments = ["rollout", "support-desk", "-p", "baseline:race-all", "--seed", "7"]
    assert main([*arguments, "--picture", str(target), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {span["kind"] for span in data["spans"]} >= {"call", "judge"}
    wide, high = size(target)
    assert wide > 500
    assert high > 200
    assert [path.name for path in target.parent.iterdir()] == ["episode.png"]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    wide, high = struct.unpack(">II", content[16:24])
    return wide, high


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate([f"baseline:{name}" for name in RIVALS], "support-desk", episodes=60)


def test_every_policy_is_named_once_and_inside(evaluation: Evaluation, tmp_path: Path) -> None:
    figure = frontier_figure(evaluation, np.array([[0.0, 0.0], [0.1, 0.5]]))
    text = words(to_svg(figure, "f", "x"))
    for row in evaluation.rows:
        assert text.count(row.name) == (1 if row.success.value > 0 or row is evaluation.rows[0] else 0)
    assert "best mix of single calls" in text
    assert size(draw_frontier(evaluation, tmp_path / "f.png"))[0] > 500
    renderer, (axes,) = figure.canvas.get_renderer(), figure.axes
    frame = axes.get_window_extent(renderer)
    boxes = [t.get_window_extent(renderer) for t in axes.texts if t.get_text()]
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1 for box in boxes)
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]
    assert overlaps == []


def test_the_ceiling_is_a_line_across(evaluation: Evaluation) -> None:
    records = [{"steps": 1e6 * i, "utility": 0.1 * i, "score": 0.12 * i if i % 2 else None} for i in range(1, 6)]
    (axes,) = learning_figure(records, {"optimum": 0.9, "hindsight bound": 1.1}).axes
    flat = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert flat == [0.9, 1.1]
    assert {t.get_text() for t in axes.texts} == {"optimum 0.900", "hindsight bound 1.100"}
    greedy = next(line for line in axes.lines if line.get_label() == "greedy")
    assert list(greedy.get_ydata()) == pytest.approx([0.12, 0.36, 0.6])
    assert axes.get_ylim()[1] > 1.1


def test_quantiles_are_those_of_the_rows(evaluation: Evaluation) -> None:
    (axes,) = quantiles_figure(evaluation, "latency_s").axes
    ranked = sorted(evaluation.rows, key=lambda row: row.utility.value)
    lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert lines["95 %"] == [row.latency_quantiles["p95"].value for row in ranked]
    assert lines["mean"] == [row.latency_s.value for row in ranked]


def test_single_calls_are_what_one_call_gives() -> None:
    from brownout.scenarios import load_scenario

    scenario = load_scenario("textbook")
    points = single_call_points(scenario, episodes=3000, profile="clean")
    core = RouterCore(scenario, 1, profile="clean")
    assert points[:, 1] == pytest.approx(core.strength, abs=0.04)
    assert points[:, 0] == pytest.approx(core.source.expected_cost, rel=0.02)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_and_apart_without_green_cones(theme: dict[str, str]) -> None:
    paper = luminance(theme["paper"])
    for role, colour in theme.items():
        if role not in ("paper", "grid"):
            light, dark = sorted((luminance(colour), paper), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, role
    assert len(set(theme.values())) == len(theme)  # a colour names its role when a picture becomes SVG
    # beyond four series marks tell them apart
    for a, b in [*combinations(SERIES[:4], 2), ("good", "bad"), ("hero", "other")]:
        assert deuteranopia_distance(theme[a], theme[b]) > 0.08, (a, b)


def deuteranopia_distance(one: str, two: str) -> float:
    """Distance in Oklab after the simulation of Viénot, Brettel and Mollon (1999) of missing green cones."""
    return math.dist(oklab(simulated(one)), oklab(simulated(two)))


def simulated(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    blind = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    return np.clip(blind @ linear, 0.0, 1.0)


def oklab(linear: np.ndarray) -> np.ndarray:
    lms = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]]) @ linear  # fmt: skip
    return np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]]) @ np.cbrt(lms)  # fmt: skip


def test_a_dollar_sign_begins_no_formula(tmp_path: Path) -> None:
    spans = [Span("call", "x $a$ _y", 0.0, 1.0, "right", 0.1)]
    assert words(to_svg(episode_figure(made_up(spans), "$x^2$"), "e", "x")).count("$x^2$") == 1
    assert draw_episode(made_up(spans), tmp_path / "e.png", plain("$")).is_file()
