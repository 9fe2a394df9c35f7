"""Debian's Chromium, driven by Playwright, and the pages that it opens."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.reports.page import browsing

Open = Callable[..., Any]
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a page by its name; it is written when it is first asked for."""

    @cache
    def page_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp("pages") / name
        return browsing.MADE_UP[name](folder) if name in browsing.MADE_UP else browsing.of_reference(name, folder)

    return page_of


@pytest.fixture
def open_page(browser: Any, report: Callable[[str], Path]) -> Iterator[Open]:
    """Opens pages by their names; the test fails if one says anything in the console, raises, or asks for anything."""
    contexts, said = [], []

    def opened(name: str, *, width: int = 1280, height: int = 900, part: str = "", **options: Any) -> Any:
        address = report(name).as_uri()
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: said.append(f"request: {request.url[:200]}") if _is_foreign(request, address) else None
        )
        page.goto(address + part)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def _is_foreign(request: Any, address: str) -> bool:
    """Returns whether a request is for anything but the page itself and what lies in it."""
    return request.url.split("#")[0] != address and not request.url.startswith("data:")
