"""The built documentation in a real browser, without a network: `make docs-check`, after `make docs`.

Each page is opened once and looked at in two widths. Skipped unless CTSA_DOCS_SITE names the folder of the pages.
"""

import os
from pathlib import Path

import pytest
from browsing import BROWSER, opened

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
SITE = Path(os.environ.get("CTSA_DOCS_SITE", "no site")).resolve()
LEFT_OUT = ("_modules", "_static", "_sources")  # sources as HTML, files of themes
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if p.parts[len(SITE.parts)] not in LEFT_OUT)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the path"),
    pytest.mark.skipif(not PAGES, reason="needs built pages: make docs docs-check"),
]

# Once fonts, pictures and formulas are there.
SETTLED = """async () => {
  await document.fonts.ready;
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  for (const image of document.images) { image.loading = "eager"; await image.decode().catch(() => {}); }
}"""
MISSING = "() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
NOT_SET = """() => [...document.querySelectorAll(".math")].filter(
  (m) => !m.querySelector("mjx-container svg") || m.querySelector("[data-mml-node=merror]")
).map((m) => m.textContent.slice(0, 60))"""
SCROLLED = """() => [...document.querySelectorAll("pre")].filter(
  (p) => p.getClientRects().length && p.scrollWidth > p.clientWidth + 1
).map((p) => p.textContent.slice(0, 60))"""
WIDTH = "() => document.documentElement.scrollWidth"
LIGHT = """(node) => {
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const of = (style) => style.match(/[\\d.]+/g).slice(0, 3)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(c / 255), 0);
  let at = node;
  while (at && /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(at).backgroundColor)) at = at.parentElement;
  return [of(getComputedStyle(node).color), of(getComputedStyle(at || document.body).backgroundColor)];
}"""
READ = ("h1", "article p", "article a", "article pre", ".sd-card-title", ".sd-card-text", ".sd-card-footer", "td")


@pytest.fixture(scope="module")
def page():
    with opened(playwright) as page:
        yield page


@pytest.mark.parametrize("name", PAGES)
def test_page(page, name):
    page.said.clear(), page.asked.clear()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((SITE / name).as_uri())
    page.evaluate(SETTLED)
    assert not [text for kind, text in page.said if kind == "error"]
    assert not [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not page.evaluate(MISSING)
    assert not page.evaluate(NOT_SET)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(WIDTH) <= width, f"the page is wider than {width} pixels"
        assert not page.evaluate(SCROLLED), f"code that scrolls at {width} pixels"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read_in_both_themes(page, theme):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((SITE / "index.html").as_uri())
    page.evaluate(SETTLED)
    for kind in READ:
        ink, ground = page.locator(kind).first.evaluate(LIGHT)
        assert (ground < 0.1) == (theme == "dark"), kind
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 4.5, kind
    page.emulate_media(color_scheme="light")


def test_doors_open(page):
    page.goto((SITE / "index.html").as_uri())
    doors = page.locator(".sd-card a.sd-stretched-link")
    assert doors.count() == 3
    for i in range(3):
        target = SITE / doors.nth(i).get_attribute("href").partition("#")[0]
        assert target.is_file() and target.name.startswith("start-")
