"""A headless browser for tests of pages: what it says and asks for is kept, and there is no network."""

import contextlib
import shutil

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def opened(playwright, *options):
    """Yield a page of Chromium; ``page.said`` are messages of its console and errors, ``page.asked`` its requests."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *options])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append((message.type, message.text)))
        page.on("pageerror", lambda error: page.said.append(("error", str(error))))
        page.on("request", lambda request: page.asked.append(request.url))
        context.route("http*://**", lambda route: route.abort())
        yield page
        browser.close()
