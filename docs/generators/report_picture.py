"""The top of a stress report as a browser shows it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from .agents import ROOT
from .figures import PICTURES, RUN

PICTURE = PICTURES / "stress-report.png"
WIDTH = 1000


def draw(run: Path = RUN / "stress-retrying") -> None:
    """Write the picture from a stress run; without a browser it stays as it is.

    Args:
        run: run folder; that of :func:`generators.agents.stress_table`.
    """
    from brownout.trainers.run_reports import write_run_reports

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        print(f"{PICTURE.name}: no Chromium with chromedriver; the picture stays", file=sys.stderr)
        return
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="brownout-picture-") as name:
        (page,) = write_run_reports(run, Path(name) / "report.html", gate=ROOT / "examples" / "gate.yaml")
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={name}/home",
        ):
            options.add_argument(flag)
        started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            started.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": WIDTH, "height": 800, "deviceScaleFactor": 1, "mobile": False},
            )
            started.get(page.as_uri())
            bottom = started.execute_script(
                "return document.querySelector('#cliff tbody tr:nth-child(5)').getBoundingClientRect().bottom"
            )
            started.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": WIDTH, "height": int(bottom) + 1, "deviceScaleFactor": 1, "mobile": False},
            )
            started.save_screenshot(str(PICTURE))
        finally:
            started.quit()
