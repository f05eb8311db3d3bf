"""A headless Chromium for tests, driven by playwright."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 20_000
"""How long a condition on a page is waited for, unless a test says more."""


@contextmanager
def browser():
    """Playwright's handle of the system's Chromium; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not there: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH: apt-get install chromium, or your system's way")
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as driver:
        yield driver.chromium


class Pages:
    """Opens pages, each in a browser with an empty profile of its own."""

    def __init__(self, chromium, folder):
        self._chromium, self._folder = chromium, folder
        self._contexts = []
        self.wrong = []
        """Errors that a page raised, and what its policy had to forbid."""

    def __call__(self, url, **more):
        """A page at `url`; `more` as for playwright's browser contexts: color_scheme, viewport, ..."""
        context = self._chromium.launch_persistent_context(
            self._folder / f"profile-{len(self._contexts)}",
            executable_path=CHROMIUM, headless=True, args=ARGUMENTS, **more,
        )  # fmt: skip
        self._contexts.append(context)
        page = context.pages[0]
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda told: self.wrong.append(told.text) if "Security Policy" in told.text else None)
        page.goto(url)
        return page

    def close(self):
        """Ends the browsers."""
        for context in self._contexts:
            context.close()
