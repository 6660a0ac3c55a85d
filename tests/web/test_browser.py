"""A few paths in the system's Chromium: no script errors, keys, a form, a phone's width, the dark scheme, curves by uPlot."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvicorn
from asking import Site, opened
from world import World, more

from stead import datasets, deployments, jobs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def place(filled: tuple[Path, World], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """The full site on a free port."""
    root = tmp_path_factory.mktemp("served") / "store"
    shutil.copytree(filled[0], root)
    site = Site(opened(root), lambda _: None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(site.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield site, f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()
    site.store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium. Without one these tests are skipped, in CI they fail."""
    if CHROMIUM is None:
        message = "needs Chromium: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


class Tab:
    """A page that keeps what went wrong in it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.url = url
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)

    def open(self, path: str) -> Any:
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture
def tab(browser: Any, place: tuple[Site, str]) -> Iterator[Tab]:
    made = Tab(browser, place[1])
    yield made
    made.context.close()
    assert not made.wrong


def test_pages_run_without_errors_and_fit_a_phone(browser: Any, place: tuple[Site, str], world: World) -> None:
    tab = Tab(browser, place[1], viewport={"width": 390, "height": 800})
    for path in world.pages():
        page = tab.open(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} scrolls sideways"
    tab.context.close()
    assert not tab.wrong


def test_curves_are_drawn_and_can_be_read_without_script(
    tab: Tab, browser: Any, place: tuple[Site, str], world: World
) -> None:
    page = tab.open(f"/compare?run={world.finished}&run={world.failed}&metric=loss")
    page.wait_for_selector("figure .uplot canvas")
    assert page.locator("figure svg.chart").count() == 0
    page.locator("figure .u-over").hover(position={"x": 200, "y": 100})
    assert "at " in page.locator("figure p.legend").inner_text()
    box = page.locator("figure .u-over").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 50, steps=8)
    page.wait_for_function("document.querySelector('.u-select').offsetWidth > 0")
    page.mouse.up()
    page.wait_for_url("**since=*until=*")
    page.reload()
    page.wait_for_selector("figure .uplot canvas")
    page.locator("figure .u-over").dblclick()
    page.wait_for_url("**metric=loss")
    quiet = Tab(browser, place[1], java_script_enabled=False)
    plain = quiet.open(f"/compare?run={world.finished}&run={world.failed}&metric=loss")
    assert plain.locator("figure svg.chart path.l").count() == 2
    quiet.context.close()


def test_keys(tab: Tab, world: World) -> None:
    page = tab.open("/runs")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("[data-count]").inner_text() == "2 selected"
    page.keyboard.press("c")
    page.wait_for_url("**/compare?*")
    assert page.url.count("run=") == 2
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/deployments")
    page.keyboard.press("?")
    assert page.locator("details.keys dl").is_visible()
    page = tab.open("/runs")
    page.keyboard.press("/")
    page.keyboard.type("params.depth = 4")
    page.keyboard.press("Enter")
    page.wait_for_url("**filter=*")
    assert page.locator("tbody tr").count() == 1


def test_a_live_run_follows(tab: Tab, place: tuple[Site, str], world: World) -> None:
    from stead import runs

    page = tab.open(f"/runs/{world.running}")
    page.wait_for_selector("figure .uplot canvas")
    runs.log(place[0].store, world.running, metrics={"late": 0.125}, step=1)
    page.wait_for_selector("text=late")
    runs.end(place[0].store, world.running)
    page.wait_for_selector(".chip.ok >> text=finished")
    page.wait_for_selector(f"[sse-connect='/runs/{world.running}/live']", state="detached")


def test_jobs_follow(tab: Tab, place: tuple[Site, str]) -> None:
    page = tab.open("/jobs")
    before = page.locator("[aria-label=Queue] tbody tr").count()
    jobs.enqueue(place[0].store, "compare", {}, model="walks")
    page.locator("[aria-label=Queue] tbody tr").nth(before).wait_for()


def test_drift_follows_and_opens_a_cell(tab: Tab, place: tuple[Site, str]) -> None:
    store = place[0].store
    page = tab.open("/models/vans/drift")
    assert page.locator("svg.heat rect.open").count() == 1
    page.locator("svg.heat a[href*='temp']").nth(2).click()
    page.wait_for_url("**column=temp*")
    assert page.locator("#cell h2.mono").inner_text() == "temp"
    before = page.locator("svg.heat a").count()
    more(store, 46, 60)
    page.locator("svg.heat a").nth(before).wait_for()
    assert page.locator("#cell h2.mono").inner_text() == "temp"


def test_a_form_rolls_back(tab: Tab, place: tuple[Site, str], world: World) -> None:
    page = tab.open(f"/deployments/{world.live}")
    page.fill("#reason", "wrong since Monday")
    page.click("text=Roll back >> nth=0")
    page.wait_for_url(lambda url: not url.endswith(f"/{world.live}"))
    assert "on its way" in page.locator(".verdict").inner_text()
    assert deployments.list_deployments(place[0].store)[0].reason == "wrong since Monday"


TEXTS = """() => [...document.querySelectorAll('td svg.chart')].map(chart => {
    const cell = chart.closest('td').getBoundingClientRect();
    return [...chart.querySelectorAll('text')].map(text => {
        const box = text.getBoundingClientRect();
        return {text: text.textContent, turned: text.hasAttribute('transform'), left: box.left, right: box.right,
            top: box.top, bottom: box.bottom, inside: box.left >= cell.left - 1 && box.right <= cell.right + 1 && box.bottom <= cell.bottom + 1};
    });
})"""


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_many_levels_stand_side_by_side(browser: Any, place: tuple[Site, str], width: int) -> None:
    levels = [f"{('the old harbour', 'north-eastern industrial estate')[n % 2]} {n}" for n in range(20)]
    columns: dict[str, list[Any]] = {
        "long": levels * 3,
        "rare": ["a level that most rows have"] * 58 + levels[:2],
        "codes": [f"SKU-2026-{n % 9}" for n in range(60)],
        "short": [name for name in "abcdefghijkl" for _ in range(5)],
        "number": [10_000 + n % 12 for n in range(60)],
        "one": ["the same name, a rather long one, in each of the rows"] * 60,
    }
    for rows in (40, 60):
        datasets.add(
            place[0].store, "levels", pa.table({name: values[60 - rows :] for name, values in columns.items()})
        )
    tab = Tab(browser, place[1], viewport={"width": width, "height": 800})
    charts = tab.open("/data/levels/2/diff?with=1").evaluate(TEXTS)
    tab.context.close()
    assert len(charts) == len(columns) and not tab.wrong
    for chart in charts:
        assert [each["text"] for each in chart if not each["inside"]] == []
        shares = [float(each["text"].removesuffix(" %")) for each in chart if each["text"].endswith(" %")]
        assert len(shares) in (3, 4) and max(shares) <= 100
        flat, turned = ([each for each in chart if each["turned"] == way] for way in (False, True))
        for one, other in itertools.combinations(flat, 2):
            apart = one["right"] <= other["left"] or other["right"] <= one["left"]
            assert apart or one["bottom"] <= other["top"] + 3 or other["bottom"] <= one["top"] + 3, (one, other)
        assert all(after["right"] - before["right"] >= 14 for before, after in itertools.pairwise(turned))
    assert sum(any(each["turned"] for each in chart) for chart in charts) == 4, "also beside others"


def test_dark_scheme(browser: Any, place: tuple[Site, str]) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        tab = Tab(browser, place[1], color_scheme=scheme)
        grounds.append(tab.open("/").evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        tab.context.close()
    assert grounds == ["rgb(255, 255, 255)", "rgb(18, 21, 25)"]
