"""Reports in a real browser, without a network: what moves, what is shown, what can be read and reached."""

import numpy as np
import pytest
from browsing import BROWSER, opened
from test_reports import sweep

import ctsa

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("plotly", reason="reports need plotly")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the path")

WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # without a graphics card


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    turn = np.linspace(0, 2, 21)[:, None] + [0.0, 1.0, 2.5]  # three tokens at angles (T, 3)
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    globe = np.concatenate([0.8 * circle, np.full((*turn.shape, 1), 0.6)], -1)
    rng = np.random.default_rng(0)
    history = np.array([0.9, 0.0, -1.5]) + rng.normal(size=(100, 3)) * [0.3, 0.001, 0.3]
    spec = ctsa.LyapunovSpectrum(
        history, np.zeros((2, 3)), np.zeros((3, 2, 3)), 0.5, 10, np.array(1.0), np.array(0), 4, True
    )
    found = {
        "globe": ctsa.Trajectory(np.arange(21.0), globe, {}),
        "circle": ctsa.Trajectory(np.arange(21.0), circle, {}),
        "spectrum": spec,
        "sweep": sweep((5, 4, 2)),
        "norms": ctsa.JacobianNorms(1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0, True),
    }
    from ctsa.reports import write_report

    path = tmp_path_factory.mktemp("report") / "report.html"
    about = {"versions": {"ctsa": "0", "a name without a break" * 6: "1"}}
    return write_report(
        found, path, title="A report " + "x" * 60, about=about, config="a = 1  # " + "long " * 60, repeat="ctsa"
    )


@pytest.fixture(scope="module")
def page(path):
    """One page for all tests, each of which leaves it as it was."""
    with opened(playwright, *WEBGL) as page:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        yield page


def test_opens_without_errors_and_network(page, path):
    assert page.locator("html").get_attribute("data-ready") == "true"
    assert not [text for kind, text in page.said if kind == "error"]
    assert not [url for url in page.asked if not url.startswith(("data:", "blob:")) and url != path.as_uri()]
    assert page.locator(".js-plotly-plot").count() == page.locator(".chart").count() > 6


def places(page, key="f2"):
    """Where the page has drawn the tokens of the circle, in pixels."""
    marks = page.locator(f"#{key}-tokens .scatterlayer .trace").last.locator("path.point")
    return np.array([[b["x"], b["y"]] for b in (marks.nth(i).bounding_box() for i in range(marks.count()))])


def set_slider(page, key, value):
    page.locator(f"#{key}-slider").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def test_slider_moves_tokens(page):
    page.locator("#f2").scroll_into_view_if_needed()
    last = places(page)
    set_slider(page, "f2", 5)
    moved = places(page)
    assert len(last) == 3 and np.abs(moved - last).max() > 20
    assert (
        page.locator("#f2-shown").text_content()
        == page.locator("#f2-slider").get_attribute("aria-valuetext")
        == "t = 5"
    )
    first = page.locator("#f2-gram").evaluate("div => div.data[0].z.map(row => [...row])")
    turn = np.array([0.0, 1.0, 2.5])
    assert np.allclose(first, np.cos(turn[:, None] - turn), atol=1e-3)
    assert page.locator("#f2-series").evaluate("div => div.layout.shapes[0].x0") == 5
    set_slider(page, "f2", 20)
    assert np.abs(places(page) - last).max() < 1


def test_globe_follows_its_slider(page):
    marks = "div => div.data[div.data.length - 1].x.slice()"
    last = page.locator("#f1-tokens").evaluate(marks)
    set_slider(page, "f1", 0)
    assert np.allclose(page.locator("#f1-tokens").evaluate(marks), 0.8 * np.cos([0.0, 1.0, 2.5]), atol=1e-3)
    set_slider(page, "f1", 20)
    assert page.locator("#f1-tokens").evaluate(marks) == last
    still = page.locator("#f1 .still")
    assert still.get_attribute("src").startswith("data:image/png") and not still.is_visible()


def test_play_runs_and_stops(page):
    button = page.locator("#f2-play")
    set_slider(page, "f2", 19)
    button.click()
    page.wait_for_selector("#f2-play:text('Play')", timeout=20_000)
    assert page.locator("#f2-slider").input_value() == "20"
    button.click()  # from the start again
    assert button.text_content() == "Pause" and int(page.locator("#f2-slider").input_value()) < 20
    button.click()
    assert button.text_content() == "Play"
    set_slider(page, "f2", 20)


def test_hover_shows_a_value(page):
    chart = page.locator("#f3")
    chart.scroll_into_view_if_needed()
    box = chart.locator("path.point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    page.wait_for_selector("#f3 .hoverlayer text", state="attached", timeout=5000)
    assert "±" in chart.locator(".hoverlayer").text_content()


def test_lists_choose_what_a_map_shows(page):
    lists = page.locator("select")
    key = lists.first.get_attribute("data-chart")
    shown = f"() => JSON.stringify(document.getElementById('{key}').data[0].z)"
    before = page.evaluate(shown)
    lists.first.select_option("1")
    assert page.evaluate(shown) != before
    lists.first.select_option("0")
    assert page.evaluate(shown) == before


CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const kinds = "h1,h2,h3,p,li,a,button,td,th,dt,dd,figcaption,summary,output,label,code,text";
  for (const node of document.querySelectorAll(kinds)) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    if (node.closest(".hidden,.skip,.hoverlayer,noscript")) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [low, high] = [light(ink), light(behind(node))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), node.tagName, node.textContent.slice(0, 30)]);
  }
  return found;
}"""


def test_both_themes_can_be_read(page):
    button = page.locator("#theme")
    assert button.text_content() == "Dark" and button.get_attribute("aria-pressed") == "false"
    for theme in ("light", "dark"):
        if theme == "dark":
            button.click()
            assert button.text_content() == "Light" and button.get_attribute("aria-pressed") == "true"
        page.wait_for_timeout(100)
        found = page.evaluate(CONTRASTS)
        kinds = {kind for _, kind, _ in found}
        assert len(found) > 100 and {"P", "text", "H1", "TD"} <= kinds
        assert not [row for row in found if row[0] < 4.5], theme
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert max(map(int, paper[4:-1].split(","))) < 60
    button.click()


def test_system_chooses_the_theme(page):
    page.evaluate("() => document.documentElement.removeAttribute('data-theme')")
    for scheme, other in (("dark", "Light"), ("light", "Dark")):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f"#theme:text('{other}')", timeout=5000)
        colour = page.locator("#f3 .xtick text").first.evaluate("node => getComputedStyle(node).fill")
        assert (min(map(int, colour[4:-1].split(","))) > 200) == (scheme == "dark")


def test_keyboard_reaches_everything(page):
    page.evaluate("() => { document.body.tabIndex = -1; document.body.focus(); }")  # where a page begins
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert reached[0] == "skip" and {"theme", "f1-play", "f1-slider", "f2-play", "f2-slider"} <= set(reached)
    page.locator("#f2-slider").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#f2-slider").get_attribute("aria-valuetext") == "t = 19"
    page.keyboard.press("End")
    page.locator("#f2-play").focus()
    page.keyboard.press("Space")
    assert page.locator("#f2-play").text_content() == "Pause"
    page.keyboard.press("Space")
    assert page.locator("#f2-play").text_content() == "Play"
    set_slider(page, "f2", 20)


def test_prints_light_and_without_buttons(page):
    page.locator("#theme").click()  # dark, which paper is not
    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#f1 .still").is_visible() and not page.locator("#f1-tokens").is_visible()
    assert not page.locator("#f1-play").is_visible() and not page.locator("#theme").is_visible()
    fill = page.locator("#f3 .xtick text").first.evaluate("node => getComputedStyle(node).fill")
    assert max(map(int, fill[4:-1].split(","))) < 60
    assert not page.locator("details:not([open])").count()
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    page.locator("#theme").click()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 900})
