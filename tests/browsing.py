"""A real browser for tests of pages.

`browser` and `visit` are fixtures that a test file imports, `needs_browser` is its mark.  `visit` fails the test where
a page says anything on its console, or asks for anything but itself.
"""

import os
import shutil

import pytest

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(
    BROWSER is None or sync_api is None,
    reason="needs the package playwright" if sync_api is None else "no Chromium here (set CHROMIUM to its path)",
)


@pytest.fixture(scope="module")
def browser():
    """Chromium, with a profile of its own that is thrown away."""
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """visit(url) opens a page; the test fails where it says anything on its console or asks for anything but itself."""
    opened = []

    def visit(url: str, width: int = 1280, height: int = 800, dark: bool = False):
        theme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(20_000)
        tab = context.new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        opened.append((context, url.partition("#")[0], said, asked))
        tab.goto(url)
        return tab

    yield visit
    for context, url, said, asked in opened:
        context.close()
        assert said == []
        assert [request for request in asked if not request.startswith("data:")] == [url]
