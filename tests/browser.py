"""A real browser for tests of pages: Chromium through Playwright, wherever the system has one."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Seen(NamedTuple):
    """What a page did while it was open: addresses that it asked for, console messages, errors, dialogs."""

    requests: list[str]
    console: list[str]
    errors: list[str]
    dialogs: list[str]


@contextlib.contextmanager
def chromium() -> Iterator:
    """A Playwright browser. Skips the test where the machine has none; in CI that is an error."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        if os.environ.get("CI"):
            raise FileNotFoundError("CI must have a Chromium: pages are tested in it.")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path, *, width: int = 1240, dark: bool = False, inject: bool = False):
    """Opens a file as a page of that width in pixels; `inject` lets tests run scripts that the page's policy forbids.

    Returns:
        Playwright's page, and what it did.
    """
    scheme = "dark" if dark else "light"
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=inject, offline=True
    )
    page, seen = context.new_page(), Seen([], [], [], [])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(path.resolve().as_uri())
    return page, seen
