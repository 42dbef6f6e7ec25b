"""A headless Chromium for tests, driven from the test's loop without holding it up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

Result = TypeVar("Result")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromium-driver aren't installed"
)

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
"""It reaches for nothing but the page."""

AXE = Path(__file__).parent.parent / "fixtures" / "axe" / "axe.min.js"
"""axe-core 4.14.1, as npm has it."""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]

LIMIT_SECS = 60.0


class Browser:
    """One window. Whatever is done in it is done in a thread."""

    def __init__(self, width: int = 1300, height: int = 900) -> None:
        self._size = width, height

    async def __aenter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*QUIET, f"--user-data-dir={self._profile.name}", f"--window-size={self._size[0]},{self._size[1]}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = await asyncio.to_thread(lambda: Chrome(options=options, service=ChromeService(str(DRIVER))))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.driver.quit)
        self._profile.cleanup()

    async def do(self, step: Callable[[Chrome], Result]) -> Result:
        """Do something in the window."""
        return await asyncio.to_thread(step, self.driver)

    async def until(self, condition: Callable[[Chrome], Result]) -> Result:
        """Wait until ``condition`` holds, and return what it gave. Raises TimeoutError.

        It doesn't hold while what it looks at is being drawn anew.
        """
        end = time.monotonic() + LIMIT_SECS
        while not (result := await self.do(lambda driver: _unless_gone(condition, driver))):
            if time.monotonic() > end:
                raise TimeoutError(await self.text())
            await asyncio.sleep(0.1)
        return result

    async def text(self) -> str:
        """Return what the page says; cheaper than what is rendered of it, where a page is long."""
        script = "return document.getElementById('app').textContent"
        return await self.do(lambda driver: str(driver.execute_script(script)))  # type: ignore[no-untyped-call]

    async def press(self, name: str) -> None:
        """Press the button that is called so, by its label for who doesn't see it, else by its text.

        The page is drawn anew while it is looked for: what moved under the pointer is looked for again.
        """
        await self.until(lambda driver: _is_pressed(driver, name))

    async def shows(self, words: str) -> None:
        """Wait until the page shows ``words``."""
        script = "return document.getElementById('app').textContent.includes(arguments[0])"
        await self.until(lambda driver: driver.execute_script(script, words))  # type: ignore[no-untyped-call]

    async def console(self) -> list[str]:
        """Return the complaints in the browser's console since the last call."""
        entries: list[dict[str, Any]] = await self.do(lambda driver: driver.get_log("browser"))  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in {"WARNING", "SEVERE"}]

    async def violations(self) -> list[str]:
        """Return what axe-core finds against WCAG 2.1 AA."""
        script = AXE.read_text("utf-8")

        def check(driver: Chrome) -> list[str]:
            if not driver.execute_script("return Boolean(window.axe)"):  # type: ignore[no-untyped-call]
                driver.execute_script(script)  # type: ignore[no-untyped-call]
            found: list[str] = driver.execute_async_script(  # type: ignore[no-untyped-call]
                "const [rules, done] = arguments;"
                "axe.run(document, {runOnly: rules}).then((result) => done(result.violations.map((one) =>"
                " `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`)))",
                RULES,
            )
            return found

        return await self.do(check)


def _unless_gone(condition: Callable[[Chrome], Result], driver: Chrome) -> Result | None:
    try:
        return condition(driver)
    except (StaleElementReferenceException, NoSuchElementException):  # between two looks the page changed
        return None


def _is_pressed(driver: Chrome, name: str) -> bool:
    try:
        button = _button(driver, name)
        into_view = "arguments[0].scrollIntoView({block: 'center'})"  # else it may stand under what always stays on top
        driver.execute_script(into_view, button)  # type: ignore[no-untyped-call]
        button.click()
    except (ElementClickInterceptedException, NoSuchElementException, StaleElementReferenceException):
        return False
    return True


def _button(driver: Chrome, name: str) -> WebElement:
    """Find a button; in the dialog, if one is open."""
    within = "//dialog" if driver.find_elements(By.TAG_NAME, "dialog") else ""
    path = f"{within}//button[@aria-label='{name}' or (not(@aria-label) and normalize-space()='{name}')]"
    return driver.find_element(By.XPATH, path)
