"""Workflow episodes as moments and pictures: what is drawn is what happened, and what is hidden stays so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.cli import main
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_truth import HiddenTruth
from brownout.trainers.baselines import make_baseline
from brownout.trainers.narrate import Story, tell
from brownout.trainers.picture_style import save_svg, to_svg
from brownout.trainers.workflow_events import Moment
from brownout.trainers.workflow_picture import workflow_figure
from report_support import words
from workflow_support import HAPPY, tiny_workflow

LOST = {"fault": "timeout", "after_s": 20.0, "applied": 1.0, "when": "nth_call(1) & on('bank')"}


class Script:
    """Takes these actions, whatever it sees."""

    def __init__(self, core: WorkflowCore, *actions: str) -> None:
        self._actions = iter([core.action_names.index(action) for action in actions])

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> Any:
        return np.array([next(self._actions)])


def played(*actions: str, faults: Any = (), **changes: Any) -> Story:
    core = WorkflowCore(tiny_workflow(*faults, **changes), 1)
    return tell(Script(core, *actions), core, 0)


def of(story: Story, action: str) -> Moment:
    return next(moment for moment in story.moments if moment.action == action)


# ---------------------------------------------------------------- moments


def test_a_lost_answer_is_told_with_what_stands_and_what_is_believed() -> None:
    actions = ("fetch", "call:cheap", "fetch", "call:cheap", "verify", "call:cheap", "finish")
    story = played(*actions, faults=[LOST])
    assert [moment.action for moment in story.moments] == ["", *actions]
    begin, fetch, locate, again, pay, verify, notify, end = story.moments
    assert begin.beliefs == {"locate": "to do", "pay": "to do", "tell": "to do"}
    assert (fetch.about, fetch.result, fetch.start_s, fetch.end_s) == ("customer", "ok", 0.0, 1.0)
    assert [(s.who, s.kind, s.start_s, s.end_s) for s in locate.spans] == [
        ("cheap", "think", 1.0, 1.5), ("crm", "call", 1.5, 2.5)
    ]  # fmt: skip
    assert again.about == "order"
    assert (pay.about, pay.result, pay.changes) == ("pay", "timeout", (("pay", "stands"),))
    assert pay.beliefs["pay"] == "unknown"
    assert pay.spans[1].end_s - pay.spans[1].start_s == 20.0
    assert verify.beliefs == {"locate": "done", "pay": "done", "tell": "to do"}
    assert verify.changes == ()
    assert notify.changes == (("tell", "stands"),)
    assert (end.action, end.spans, story.outcome) == ("finish", (), "success")


def test_what_stands_twice_is_undone_or_wrong_is_told() -> None:
    again = ("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "verify", "compensate", "abort")
    story = played(*again, faults=[LOST], steps__pay__idempotency="none")
    pays = [moment.changes for moment in story.moments if moment.action in ("call:cheap", "compensate")]
    assert pays == [(), (("pay", "stands"),), (("pay", "twice"),), (("pay", "stands"),)]
    story = played("fetch", "call:cheap", "fetch", "call:cheap", "compensate", "abort", faults=[LOST])
    assert of(story, "compensate").changes == (("pay", "undone"),)
    bad = {"fault": "outlier", "when": "rate(1) & on('order*')"}
    story = played(*HAPPY, faults=[bad])
    assert story.spoilt == {"order.total": "outlier#0"}
    assert of(story, "finish").beliefs["pay"] == "done"
    assert [c for moment in story.moments for c in moment.changes] == [("pay", "wrong"), ("tell", "stands")]


def test_the_background_and_pauses_are_told() -> None:
    story = played("fetch", "call:cheap", "fetch", "dispatch", "wait", "call:cheap", "finish")
    started, landed = of(story, "dispatch"), of(story, "wait")
    assert (started.result, started.beliefs["pay"]) == ("pending", "in flight")
    think, call = started.spans
    assert (think.who, think.end_s - think.start_s, call.who) == ("strong", 8.0, "bank")
    assert started.end_s == call.start_s
    assert call.end_s - call.start_s == 4.0
    assert (landed.about, landed.result, landed.end_s, landed.beliefs["pay"]) == ("pay", "ok", call.end_s, "done")
    down = {"fault": "server-error", "code": 503, "latency_s": 1.0, "when": "nth_call(1) & on('crm')"}
    story = played("fetch", "wait", "finish", faults=[down])
    (pause,) = of(story, "wait").spans
    assert (pause.kind, pause.end_s - pause.start_s) == ("pause", 3.0)
    story = played("verify", "escalate")
    assert story.moments[1].result == "not allowed"
    assert of(story, "escalate").spans[0].who == "person"


@pytest.mark.parametrize("scenario", ["refund", "claim-intake", "order-exchange", "access-request"])
@pytest.mark.parametrize("name", ["playbook", "always-verify"])
def test_moments_agree_with_timeline_totals_and_truth(scenario: str, name: str) -> None:
    core = WorkflowCore(scenario, 1, profile="hostile", split="eval")
    actor = make_baseline(name, core)
    seen: set[str] = set()
    for episode in range(60):
        story = tell(actor, core, 0, episode)
        assert len(story.moments) == core.steps[0] + 1
        texts = [re.sub(r"^.*?\$ *[\d.]+ +", "", line) for line in story.lines]
        for moment in story.moments[1:]:
            if moment.result and moment.action != "wait":
                assert f"{moment.action} {moment.about}".rstrip() + f": {moment.result}" in texts
        assert story.moments[-1].end_s == pytest.approx(story.totals["latency_s"])
        for one, two in zip(story.moments, story.moments[1:], strict=False):
            assert one.end_s == two.start_s
        paid = sum(span.cost_usd or 0.0 for span in story.spans)
        assert paid == pytest.approx(story.totals["cost_usd"])
        stands = {name for name, n in zip(core.step_names, core.applied[0], strict=False) if n}
        last: dict[str, str] = {}
        for moment in story.moments:
            last |= {step: change for step, change in moment.changes if change != "stray"}
        writes = {step for step, writes in zip(core.step_names, core.writes, strict=False) if writes}
        assert {step for step, change in last.items() if change != "undone"} == stands & writes
        assert story.spoilt == HiddenTruth(core).spoilt(0)
        assert story.spoilt.keys() == {f for f, d in zip(core.field_names, core.dirt[0], strict=True) if d}
        seen |= {change for moment in story.moments for _, change in moment.changes}
    assert {"stands", "wrong"} <= seen


# ---------------------------------------------------------------- pictures


def test_the_picture_says_what_happened_and_hides_what_is_hidden(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    bad = {"fault": "outlier", "when": "rate(1) & on('order*')"}
    story = played("fetch", "call:cheap", "fetch", "call:cheap", "abort", faults=[LOST, bad])
    seen = words(to_svg(workflow_figure(story, "told"), "a", "x"))
    known = words(to_svg(workflow_figure(story, "told", analysis=True), "b", "x"))
    for word in ("told", "fetch customer", "call:cheap pay: timeout", "bank", "cheap", "locate", "answer lost",
                 "believed done", "done or not", "wrong effect", "abort"):  # fmt: skip
        assert word in seen, word
        assert word in known, word
    assert any(word.startswith("aborted, $") for word in seen)
    hidden = {"timeout, work done", "outlier in order.total", "fault (hidden)", "the episode begins"}
    assert hidden & set(seen) == set()
    assert hidden <= set(known)
    path = save_svg(workflow_figure(story, "told"), tmp_path / "deep" / "e.svg", "an episode")
    text = path.read_text(encoding="utf-8")
    assert text.startswith('<svg role="img" aria-label="an episode"')
    assert "prefers-color-scheme: dark" in text
    colours = set(re.findall(r"#[0-9a-f]{6}", text.split("</style>")[1]))
    assert colours == set(), "every colour follows the theme"


def test_every_row_has_its_text_beside_it_and_no_text_leaves_the_picture() -> None:
    pytest.importorskip("matplotlib")
    core = WorkflowCore("customer-onboarding", 1, profile="hostile", split="eval")
    actor = make_baseline("playbook", core)
    story = max((tell(actor, core, 0, episode) for episode in range(30)), key=lambda story: len(story.moments))
    figure = workflow_figure(story, "x", analysis=True)
    renderer, (axes,) = figure.canvas.get_renderer(), figure.axes
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)] == []


def test_rollout_draws_a_workflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["rollout", "refund", "-p", "baseline:playbook", "--profile", "hostile", "--json"]
    shown = tmp_path / "a.png", tmp_path / "b.png"
    assert main([*arguments, "--picture", str(shown[0])]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--show-faults", "--picture", str(shown[1])]) == 0
    full = json.loads(capsys.readouterr().out)
    assert "injections" not in plain
    assert "spoilt" not in plain
    assert full["moments"] == plain["moments"]
    assert full["injections"]
    assert shown[0].read_bytes() != shown[1].read_bytes()
