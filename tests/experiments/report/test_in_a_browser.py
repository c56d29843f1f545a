"""A report in a real browser: it draws and answers, asks for nothing, and stays harmless."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from metarl.experiments.cli import main
from tests.experiments.report.test_command import EVIL, write_evil_run
from tests.experiments.report.written import write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
FITS = """() => [...document.querySelectorAll(".chart")].every((chart) =>
    chart.querySelector(".main-svg").getBoundingClientRect().width === chart.clientWidth)"""
CHARTS = [f"environment-1-{name}" for name in ("learning", "adaptation", "profile")]


class Shown(NamedTuple):
    """A report in a browser, and what it said and asked for until now."""

    page: Any
    console: list[str]
    requests: list[str]

    def lines(self, chart: str) -> int:
        """Count the lines that can be seen in a chart: bands have no name of their own."""
        drawn = f"#{chart} .scatterlayer .trace .lines path.js-line"
        count = "all => all.filter(path => path.style.strokeWidth !== '0px').length"
        return int(self.page.eval_on_selector_all(drawn, count))

    def hover_over_last(self, point: int) -> str:
        """Point at the line of the adaptation chart that was drawn last; return what it says."""
        chart = self.page.locator("#environment-1-adaptation")
        chart.scroll_into_view_if_needed()
        place = chart.locator(".scatterlayer .trace").last.locator(".points path").nth(point)
        box = place.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        label = chart.locator(".hoverlayer .hovertext").first
        label.wait_for(timeout=5000)
        return str(label.text_content())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Two settings of two seeds; one scores 5 more than the other. All tests share the page."""
    folder = tmp_path_factory.mktemp("report")
    runs = [
        write_run(folder / f"{name}{seed}", seed, shift=shift, preset=name)
        for name, shift in (("good", 5.0), ("poor", 0.0))
        for seed in (1, 2)
    ]
    (runs[0] / "videos").mkdir()
    (runs[0] / "videos" / "task0.gif").write_bytes(GIF)
    assert main(["report", *map(str, runs), "--out", str(folder / "report.html")]) == 0
    return show(browser, folder / "report.html")


def show(browser: Any, file: Path) -> Shown:
    page = browser.new_page()
    shown = Shown(page, [], [])
    page.on("console", lambda message: shown.console.append(message.text))
    page.on("pageerror", lambda error: shown.console.append(str(error)))
    page.on("request", lambda request: shown.requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#environment-1-profile .scatterlayer .trace")
    return shown


def test_it_draws_in_silence_and_asks_for_nothing(shown: Shown) -> None:
    assert [shown.lines(chart) for chart in CHARTS] == [2, 3, 2]
    assert shown.console == []
    asked = [url for url in shown.requests if not url.startswith("data:")]
    assert asked == [shown.page.url]
    image = shown.page.locator(".clips img")
    assert image.evaluate("image => image.naturalWidth") == 1


def test_the_legend_hides_shows_and_leaves_alone(shown: Shown) -> None:
    poor, random = (shown.page.get_by_role("button", name=name) for name in ("poor", "random"))
    poor.click()
    assert [shown.lines(chart) for chart in CHARTS] == [1, 2, 1]
    assert poor.get_attribute("aria-pressed") == "false"
    shown.page.wait_for_timeout(600)  # or it would be a double click
    poor.click()
    assert [shown.lines(chart) for chart in CHARTS] == [2, 3, 2]
    random.dblclick()
    assert [shown.lines(chart) for chart in CHARTS] == [0, 1, 0]
    shown.page.wait_for_timeout(600)
    random.dblclick()
    assert [shown.lines(chart) for chart in CHARTS] == [2, 3, 2]
    assert shown.console == []


def test_hovering_shows_values(shown: Shown) -> None:
    """The first setting is drawn last; its second point is after one adaptation."""
    drawn = shown.page.evaluate("document.getElementById('environment-1-adaptation').data.at(-1)")
    value, (low, _) = drawn["y"][1], drawn["customdata"][1]
    label = shown.hover_over_last(point=1)
    assert f"1: {value:.4g} [{low:.4g}, " in label
    assert "good" in label
    fills = "label => [...label.querySelectorAll('path, text')].map(e => getComputedStyle(e).fill)"
    ground, ink = shown.page.locator(".hoverlayer .hovertext").first.evaluate(fills)
    assert ground != ink


def test_the_horizontal_axis_can_be_chosen(shown: Shown) -> None:
    learning = shown.page.locator("#environment-1-learning")
    assert "env steps (millions)" in learning.text_content()
    shown.page.get_by_role("button", name="wall time").click()
    assert "wall time (minutes)" in learning.text_content()
    xs = shown.page.evaluate("document.getElementById('environment-1-learning').data.map(t => t.x)")
    assert xs == [[1.5, 3.0, 4.5]] * 6


def test_it_fits_and_can_be_read_in_the_dark(shown: Shown) -> None:
    """Text and ground swap."""
    brightness = """() => [["body", "backgroundColor"], [".chart .xtick text", "fill"]].map(
        ([selector, name]) => getComputedStyle(document.querySelector(selector))[name]
            .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part) / 765, 0)
    )"""
    for width in (360, 1400):
        shown.page.set_viewport_size({"width": width, "height": 800})
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width
        shown.page.wait_for_function(FITS, timeout=5000)
        shown.page.emulate_media(color_scheme="light")
        ground, ink = shown.page.evaluate(brightness)
        assert ground > 0.9
        assert ink < 0.2
        shown.page.emulate_media(color_scheme="dark")
        ground, ink = shown.page.evaluate(brightness)
        assert ground < 0.2
        assert ink > 0.8


def test_a_script_from_a_run_is_shown_and_does_nothing(browser: Any, tmp_path: Path) -> None:
    """The page lets no script run that is not its own, should one ever get into it."""
    out = tmp_path / "report.html"
    run = write_evil_run(tmp_path)
    missing = str(tmp_path / "<b>x")
    assert main(["report", str(run), missing, "--out", str(out), "--title", EVIL]) == 0
    shown = show(browser, out)
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.title() == EVIL
    assert shown.page.locator(".legend button").first.text_content().strip() == EVIL
    assert shown.page.locator("script").count() == 3
    assert EVIL in shown.hover_over_last(point=0)
    assert shown.console == []
    assert shown.requests == [out.as_uri()]
    shown.page.evaluate(
        """() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 3";
        document.body.append(script);
    }"""
    )
    assert shown.page.evaluate("window.hacked") is None
    asking = "fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')"
    assert shown.page.evaluate(asking) == "refused"
    assert len([text for text in shown.console if "Content Security Policy" in text]) >= 2
