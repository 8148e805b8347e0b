"""Draw the picture of the page on reports: `python docs/images/report.py` (playwright, and Chromium on the path)."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import ctsa
from ctsa.reports import write_report
from ctsa.torch import SelfAttention

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write the report of the page's first example, and take its picture."""
    field = SelfAttention(beta=9.0)
    flow = ctsa.integrate(field, ctsa.random_tokens(32, 3, seed=0), np.linspace(0.0, 20.0, 101))
    page = write_report(
        {"flow": flow}, Path(tempfile.mkdtemp()) / "report.html", title="Thirty-two tokens on the sphere"
    )
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        tab = browser.new_page(viewport={"width": 1100, "height": 1000})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]")
        tab.screenshot(path=HERE / "report.png")
        browser.close()
    Image.open(HERE / "report.png").convert("RGB").save(HERE / "report.png", optimize=True)


if __name__ == "__main__":
    main()
