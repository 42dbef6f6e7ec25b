"""The dashboard in a real browser, before a live router: what is seen, clicked, and allowed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, needs_browser
from tests.support.live_router import LiveRouter

pytestmark = [needs_browser, pytest.mark.slow]

TOKEN = "admin-token-0123456789"
PROMPT = "a-prompt-that-nobody-may-read"
INSTANCES = 80
NAME_OF_A_ROW_AT_ITS_END = """
document.querySelector('.scrollable').scrollLeft = 10000;
return document.querySelector('tr[data-key] th').getBoundingClientRect().left
"""


def body(number: int) -> bytes:
    return f'{{"prompt": "{PROMPT} {number}"}}'.encode()


@contextlib.asynccontextmanager
async def live(folder: Path, instances: int, **access: Any) -> AsyncIterator[LiveRouter]:
    manager = {"health_check_interval_secs": 1.0, "health_check_timeout_secs": 3.0}
    sections = {"manager": manager, "access": access, "scheduler": {"policy": "cache_aware"}}
    async with LiveRouter(folder, "log.level", "warn", sections) as router:
        router.token = access.get("admin_token", "")
        for _ in range(instances):
            await router.add()
        yield router


def rows(driver: Chrome) -> int:
    return int(driver.execute_script("return document.querySelectorAll('tr[data-key]').length"))


def row(port: int) -> str:
    return f'tr[data-key="127.0.0.1:{port}"]'


def state_of(driver: Chrome, port: int) -> str:
    return str(driver.find_element(By.CSS_SELECTOR, f"{row(port)} .state").text)


async def keep_picture(browser: Browser, name: str) -> None:
    """Keep a screenshot where a person wants to look at some: FD_ROUTER_SCREENSHOTS names the folder."""
    if folder := os.environ.get("FD_ROUTER_SCREENSHOTS"):
        await browser.do(lambda driver: driver.save_screenshot(str(Path(folder, f"{name}.png"))))


async def test_an_operator_watches_a_fleet_and_drains_an_instance(tmp_path: Path) -> None:
    async with live(tmp_path, INSTANCES, admin_token=TOKEN) as router, Browser() as browser:
        first, second, third = (instance.port for instance in router.instances[:3])
        await browser.do(lambda driver: driver.get(f"http://127.0.0.1:{router.port}/dashboard"))
        await browser.shows(f"{INSTANCES} of {INSTANCES} instances may be chosen")
        assert await browser.do(rows) == INSTANCES
        assert "Log in to see them" in await browser.text()
        assert not await browser.do(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".actions"))
        await _log_in(browser)
        await asyncio.gather(*(router.ask(body(number)) for number in range(5)))
        await browser.shows("lowest score")  # a decision, with its reason
        await _drain(browser, first)
        _, entry = await router.call("GET", f"/instances/127.0.0.1:{first}")
        assert entry["draining"]
        router.instances[1].stop()  # it dies while somebody looks
        await browser.until(lambda driver: state_of(driver, second).endswith("unhealthy"))
        await browser.shows(f"127.0.0.1:{second}: is unhealthy")
        await _explain(browser)
        await keep_picture(browser, "wide")
        assert await browser.violations() == []
        await browser.press(f"Remove 127.0.0.1:{third}")
        await browser.press("Remove")
        await browser.until(lambda driver: rows(driver) == INSTANCES - 1 or state_of(driver, third).endswith("removed"))
        assert PROMPT not in await browser.do(lambda driver: driver.page_source)
        await browser.press("Log out")
        await browser.shows("Log in to see them")
        assert not await browser.do(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".actions"))
        assert await browser.console() == []


async def _log_in(browser: Browser) -> None:
    """Log in by keyboard alone, with a wrong token first."""
    await browser.press("Log in")
    await browser.until(lambda driver: driver.switch_to.active_element.get_attribute("id") == "token")
    await browser.do(lambda driver: driver.switch_to.active_element.send_keys("wrong", Keys.ENTER))
    await browser.shows("This is not the admin token")
    assert len(await browser.console()) == 1  # that its status was 401
    for keys in ((Keys.CONTROL, "a"), (TOKEN, Keys.ENTER)):
        await browser.do(lambda driver, keys=keys: driver.switch_to.active_element.send_keys(*keys))
    await browser.shows("Log out")
    cookies = await browser.do(lambda driver: driver.execute_script("return document.cookie"))
    assert cookies == ""  # no script reads it


async def _drain(browser: Browser, port: int) -> None:
    await browser.press(f"Drain 127.0.0.1:{port}")
    await browser.shows("gets no new requests until it is undrained")
    await browser.do(lambda driver: driver.switch_to.active_element.send_keys(Keys.ESCAPE))  # not yet
    await browser.until(lambda driver: not driver.find_elements(By.TAG_NAME, "dialog"))
    await browser.press(f"Drain 127.0.0.1:{port}")
    await browser.press("Drain")
    await browser.until(lambda driver: "draining" in state_of(driver, port))


async def _explain(browser: Browser) -> None:
    field = By.ID, "request"
    await browser.do(lambda driver: driver.find_element(*field).clear())
    await browser.do(lambda driver: driver.find_element(*field).send_keys('{"prompt": "where to?"}'))
    await browser.press("Explain")
    await browser.shows("mixed by cache_aware: 127.0.0.1:")


async def be(browser: Browser, command: str, **values: Any) -> None:
    await browser.do(lambda driver: driver.execute_cdp_cmd(f"Emulation.{command}", values))


async def test_everybody_can_read_it_on_a_phone_in_both_themes(tmp_path: Path) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    async with live(tmp_path, 2, admin_token=TOKEN) as router, Browser(width=500, height=900) as browser:
        await be(browser, "setDeviceMetricsOverride", **phone)
        await browser.do(lambda driver: driver.get(f"http://127.0.0.1:{router.port}/dashboard"))
        await browser.shows("2 of 2 instances may be chosen")
        await browser.press("Log in")
        assert await browser.violations() == []
        await browser.do(lambda driver: driver.switch_to.active_element.send_keys(TOKEN, Keys.ENTER))
        await browser.shows("Log out")
        router.instances[1].answer = None  # its requests go elsewhere, which is told
        await asyncio.gather(*(router.ask(body(number)) for number in range(4)))
        await browser.shows("another instance answered it")
        await _explain(browser)
        for theme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")):
            await be(browser, "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            await browser.until(lambda driver, colour=colour: driver.execute_script(GROUND) == colour)
            assert await browser.violations() == []
            await keep_picture(browser, f"phone-{theme}")
        width = await browser.do(lambda driver: driver.execute_script("return document.documentElement.scrollWidth"))
        assert width <= phone["width"]  # nothing sticks out
        left = await browser.do(lambda driver: driver.execute_script(NAME_OF_A_ROW_AT_ITS_END))
        assert left >= 0  # whoever drains by the last column sees whom
        assert await browser.console() == []


GROUND = "return getComputedStyle(document.body).backgroundColor"


async def test_without_a_token_it_says_that_it_is_read_only(tmp_path: Path) -> None:
    async with live(tmp_path, 1) as router, Browser() as browser:
        await browser.do(lambda driver: driver.get(f"http://127.0.0.1:{router.port}/dashboard"))
        await browser.shows("Read-only: this router has no admin token")
        assert "Log in" not in await browser.text()
        assert not await browser.do(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".actions"))
        script = {"source": LARGE_FLEET}
        await browser.do(lambda driver: driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script))
        await browser.do(lambda driver: driver.refresh())
        await _a_large_fleet_is_drawn_in_part(browser)
        assert await browser.console() == []


LARGE_FLEET = """
window.EventSource = class extends EventSource {
  addEventListener(name, told) {
    const one = (like, n) => ({ ...like, key: `10.0.0.1:${n}`, state: n === 1999 ? "unhealthy" : "healthy" });
    const many = (like) => Array.from({ length: 2000 }, (_, n) => one(like, n));
    const change = {
      hello: (hello) => ({ ...hello, may_change: true }),
      state: (state) => ({ ...state, instances: many(state.instances[0]) }),
    };
    super.addEventListener(name, (event) => told({ data: JSON.stringify(change[name](JSON.parse(event.data))) }));
  }
};
"""  # what the router tells of its one instance, told of 2,000: the last of them is down


async def _a_large_fleet_is_drawn_in_part(browser: Browser) -> None:
    """Thousands of rows would hold the page up for good: those get one first that need a look."""
    await browser.shows("1999 of 2000 instances may be chosen")
    await browser.shows("200 of 2,000 have a row")
    assert await browser.do(rows) == 200
    await browser.press("Drain 10.0.0.1:1999")
    await browser.shows("until it is undrained. Nothing runs there.")
    await browser.press("Cancel")
    await browser.press("Show 200 more")
    await browser.until(lambda driver: rows(driver) == 400)
    await browser.do(lambda driver: driver.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys(":1998"))
    await browser.until(lambda driver: rows(driver) == 1)  # it finds those without a row too
