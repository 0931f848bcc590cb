"""Pages in a real browser: Chromium by its driver, what a page asks for, and an audit of what it shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MARKS = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="no Chromium with chromedriver on this machine"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SCREENS = {"desk": (1280, 900, False), "phone": (390, 844, True), "small": (360, 780, True)}
CONTRAST = 4.5

# Contrast as WCAG 2.1 defines it, of every piece of text against the nearest background that is not transparent.
AUDIT = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
function rgb(text) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
}
function luminance(c) {
  const [r, g, b] = c.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(e) {
  for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c;
  }
  return [255, 255, 255, 255];
}
const low = [], sizes = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
  if (!text || !e.checkVisibility() || e.closest('style, title, defs')) continue;
  const style = getComputedStyle(e), inside = e.closest('svg');
  const front = luminance(rgb(inside ? style.fill : style.color)), back = luminance(background(e));
  const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  if (ratio < arguments[0]) low.push([text.slice(0, 40), ratio]);
  const scale = inside ? inside.getBoundingClientRect().width / inside.viewBox.baseVal.width : 1;
  if (inside) sizes.push(parseFloat(style.fontSize) * scale);
}
const figures = Array.from(document.querySelectorAll('figure > svg')).map(svg => {
  const box = svg.getBoundingClientRect();
  const cut = Array.from(svg.querySelectorAll('text')).filter(t => {
    const b = t.getBoundingClientRect();
    return b.left < box.left - 6 || b.right > box.right + 6 || b.top < box.top - 6 || b.bottom > box.bottom + 6;
  }).map(t => t.textContent);
  return {name: svg.getAttribute('aria-label'), width: box.width, height: box.height, cut: cut,
          drawn: svg.querySelectorAll('path, use').length};
});
return {low: low, texts: sizes.length, smallest: Math.min(...sizes), figures: figures,
        wide: document.documentElement.scrollWidth,
        paper: getComputedStyle(document.body).backgroundColor};
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
                 "--hide-scrollbars", f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    started.set_page_load_timeout(60)
    yield started
    started.quit()


def look(driver: Any, page: Path, screen: str, theme: str) -> dict[str, Any]:
    """Open the page on a screen in a theme and measure it."""
    width, height, mobile = SCREENS[screen]
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what came before is another page's
    driver.get(page.as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    return driver.execute_script(AUDIT, CONTRAST)


def requests(driver: Any) -> list[str]:
    """Every address that the page asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
