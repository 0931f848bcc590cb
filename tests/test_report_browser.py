"""The reports in a real browser: nothing fetched, nothing cut off, everything legible, in both themes and on a phone.

Needs Chromium with its driver, and selenium; without them the tests are skipped and say so.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from brownout.trainers.report import write_report
from brownout.trainers.run_reports import write_run_reports
from brownout.trainers.shadow import shadow
from browser_support import MARKS, SCREENS, driver, look, requests
from report_support import AGENTS, stress_tiny, train_tiny

__all__ = ["driver"]  # the fixture
pytestmark = MARKS
NASTY = "<img src=x.png onerror=\"document.title='mine'\"><script>document.title='mine'"
PAGES = {"training": ("desk", "phone"), "stress": ("desk", "small"), "shadow": ("desk", "small")}
FIGURES = {"training": 8, "stress": 3, "shadow": 2}


def nasty(folder: Path) -> None:
    """Give the run an agent whose name, cost and errors are markup, and a score that some episodes lack."""
    path = folder / "stress.json"
    data = json.loads(path.read_text(encoding="utf-8")) | {"agent": f"{NASTY}.py:handle", "notes": [NASTY]}
    path.write_text(json.dumps(data), encoding="utf-8")
    rows = folder / "episodes.jsonl"
    text = re.sub(r'"agent_outcome":"\w+","error":null', f'"agent_outcome":"crash","error":{json.dumps(NASTY)}',
                  rows.read_text(encoding="utf-8"))  # fmt: skip
    rows.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    trained = train_tiny(home / "trained", "support-desk")
    both = home / "shadow"
    shadow(f"{AGENTS / 'careful.py'}:handle", f"{AGENTS / 'naive.py'}:handle", out=both, scenario="refund", episodes=6)
    run = stress_tiny(
        home / "stress", f"{AGENTS / 'naive.py'}:handle", episodes=10, isolate=True, intensities=(0.5, 2.0)
    )
    nasty(run)
    gate = home / "gate.yaml"
    gate.write_text("needs: {episodes: 2}\nthresholds: [{metric: success, at_least: 0.99}, "
                    "{metric: calls, at_most: 99}]\n", encoding="utf-8")  # fmt: skip
    (stressed,) = write_run_reports(run, gate=gate, beside=[both / "candidate", both / "baseline"])
    (compared,) = write_run_reports(both)
    return {"training": write_report(trained, trained / "report.html", episodes=60), "stress": stressed,
            "shadow": compared}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("kind", "screen"), [(kind, screen) for kind, screens in PAGES.items() for screen in screens])
def test_in_a_browser_skipped_without_one(
    driver: Any, pages: dict[str, Path], kind: str, screen: str, theme: str
) -> None:
    page = pages[kind]
    seen = look(driver, page, screen, theme)
    asked = requests(driver)
    assert page.as_uri() in asked  # the log works
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert seen["wide"] <= SCREENS[screen][0], "the page is wider than the screen"
    assert seen["low"] == []
    assert seen["texts"] > 20
    assert seen["smallest"] >= 8.0  # pixels, of letters in pictures
    assert len(seen["figures"]) >= FIGURES[kind]
    for figure in seen["figures"]:
        assert figure["width"] > 250, figure
        assert figure["height"] > 60, figure
        assert figure["drawn"] > 5, figure
        assert figure["cut"] == [], figure


def test_names_stay_text_in_a_browser_skipped_without_one(driver: Any, pages: dict[str, Path]) -> None:
    look(driver, pages["stress"], "desk", "light")
    assert NASTY in driver.title
    heading = driver.execute_script("return document.querySelector('h1').textContent")
    assert NASTY in heading
    assert driver.find_elements("css selector", "script, img, iframe, link[rel=stylesheet]") == []
    assert NASTY in driver.execute_script("return document.querySelector('#agent').textContent")  # an error


def test_timelines_open_in_a_browser_skipped_without_one(driver: Any, pages: dict[str, Path]) -> None:
    driver.get(pages["stress"].as_uri())
    stories = driver.find_elements("css selector", "details.story")
    assert len(stories) > 1
    lists = [story.find_element("css selector", "ol") for story in stories]
    assert [shown.is_displayed() for shown in lists] == [True] + [False] * (len(lists) - 1)
    driver.execute_script("arguments[0].scrollIntoView()", stories[-1])
    stories[-1].find_element("css selector", "summary").click()
    assert lists[-1].is_displayed()
    text = stories[-1].text
    assert "injected: " in text
    assert "finish(" in text
    assert "What stands in the end" in text
    assert "brownout replay" in text


def test_paper_shows_every_timeline_in_a_browser_skipped_without_one(driver: Any, pages: dict[str, Path]) -> None:
    driver.get(pages["stress"].as_uri())
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = driver.execute_script(
            "return Array.from(document.querySelectorAll('details.story ol'), "
            "e => e.checkVisibility() && e.getBoundingClientRect().height > 0)"
        )
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == [True] * len(shown)
    assert shown


def test_the_themes_differ_in_a_browser_skipped_without_one(driver: Any, pages: dict[str, Path]) -> None:
    papers = [look(driver, pages["training"], "desk", theme)["paper"] for theme in ("light", "dark")]
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 24, 31)"]


def test_the_audit_finds_faults_in_a_browser_skipped_without_one(driver: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<!DOCTYPE html><link rel='icon' href='data:,'><body style='margin:0;background:#fff'>"
        "<p style='color:#999'>pale</p><div style='width:900px'>wide</div><img src='missing.png'>"
        "<figure style='margin:0'><svg viewBox='0 0 100 50' width='390'><text x='90' y='20'>cut off here</text></svg>"
        "</figure><script>console.error('no')</script>",
        encoding="utf-8",
    )
    seen = look(driver, broken, "phone", "light")
    assert [text for text, _ in seen["low"]] == ["pale"]
    assert seen["wide"] > SCREENS["phone"][0]
    assert seen["figures"][0]["cut"] == ["cut off here"]
    assert any(url.endswith("missing.png") for url in requests(driver))
    assert any(entry["level"] == "SEVERE" for entry in driver.get_log("browser"))
