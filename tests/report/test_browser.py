"""The report in a real browser: Chromium, as Debian packages it, headless and without a network."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_mil.mil import FitConfig, fit
from cli.main import main
from stores import Bag, Manifest, create_store
from tests.report.conftest import EVIL_LABEL, EVIL_PATIENT, EvilRun

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'aml-mil[test]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
READY = "html[data-ready=true]"
NUM_MANY = 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]


class Visit:
    """A page with what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)

    def open(self, path: Path, *, fragment: str = "") -> None:
        self.page.goto(f"file://{path}{fragment}")
        self.page.wait_for_selector(READY, state="attached", timeout=60_000)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _on_dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.faults.append(f"request: {request.url}")


@pytest.fixture(scope="module")
def visit() -> Iterator[Callable[..., Visit]]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def new(width: int = 1200, height: int = 900, scheme: str = "light") -> Visit:
            size = {"width": width, "height": height}
            return Visit(browser.new_page(viewport=size, color_scheme=scheme))

        yield new
        browser.close()


@pytest.fixture(scope="module")
def report(evil: EvilRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(evil.run), "--cohort", str(evil.cohort), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_opens_without_errors_or_requests_and_fits(
    visit: Callable[..., Visit], report: Path, width: int, scheme: str
) -> None:
    seen = visit(width=width, scheme=scheme)
    seen.open(report)
    seen.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    seen.page.wait_for_timeout(500)
    assert seen.faults == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("roc", "pr", "training", "attention", "map"):
        assert seen.page.locator(f"#{name} canvas").first.is_visible()
    text = "Bokeh.documents[0].roots()[0].below[0].major_label_text_color"
    assert seen.page.evaluate(text) == {"light": "#1b1f24", "dark": "#e6e8eb"}[scheme]


def test_pointing_at_a_cell_shows_its_picture(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit()
    seen.open(report)
    chart = seen.page.locator("#map")
    chart.scroll_into_view_if_needed()
    x, y = seen.page.evaluate(
        """() => {
          const chart = document.getElementById("map");
          const view = Bokeh.index.roots.find((v) => chart.contains(v.el));
          const [cells] = view.model.renderers;
          const box = view.canvas_view.el.getBoundingClientRect();
          const at = (name) => Array.from(cells.data_source.get_array(name));
          return [box.x + view.frame.x_scale.compute(at("x")[0]),
                  box.y + view.frame.y_scale.compute(at("y")[0])];
        }"""
    )
    seen.page.mouse.move(x - 3, y - 3)
    seen.page.mouse.move(x, y)
    picture = seen.page.locator(".bk-Tooltip img").first
    picture.wait_for(state="visible", timeout=10_000)
    assert picture.get_attribute("src").startswith("data:image/webp;base64,")
    assert picture.evaluate("image => image.naturalWidth") == 64
    assert seen.faults == []


def test_patients_are_reached_and_left_by_keyboard(
    visit: Callable[..., Visit], report: Path
) -> None:
    seen = visit()
    seen.open(report)
    for _ in range(200):
        seen.page.keyboard.press("Tab")
        target = seen.page.evaluate("document.activeElement.getAttribute('href')") or ""
        if target.startswith("#patient-"):
            break
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("#patient-1").is_visible()
    assert not seen.page.locator("#summary").is_visible()
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.textContent") == "All patients"
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("#patient-2").is_visible()
    assert not seen.page.locator("#patient-1").is_visible()
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("#patients").is_visible()
    assert not seen.page.locator("#patient-2").is_visible()
    assert seen.faults == []


def test_markup_in_a_patients_id_stays_text(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit()
    seen.open(report)
    link = seen.page.get_by_role("link", name=EVIL_PATIENT, exact=True)
    link.click()
    heading = seen.page.get_by_role("heading", level=1)
    assert heading.inner_text() == EVIL_PATIENT
    assert EVIL_LABEL in seen.page.locator("article:target").inner_text()
    assert seen.page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert seen.faults == []


def test_a_prediction_page_opens(
    visit: Callable[..., Visit], evil: EvilRun, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    assert main(["predict", str(evil.run), str(evil.cohort), "--report", str(out)]) == 0
    seen = visit(width=390)
    seen.page.goto(f"file://{out}")
    seen.page.get_by_role("link", name=EVIL_PATIENT, exact=True).click()
    assert seen.page.get_by_text("For research use only.").locator("visible=true").count() == 1
    assert seen.page.locator("article:target img").first.evaluate("i => i.naturalWidth") == 96
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.faults == []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 1,000 patients in five classes, of features without images."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    manifest = Manifest(
        encoder="drawn",
        architecture="drawn",
        weights="drawn",
        weights_sha256="0" * 64,
        preprocessing={},
        numerics={},
        views=("identity",),
        feature_shape=(16,),
    )
    with create_store(folder / "many.zarr", manifest) as store:
        for number in range(NUM_MANY):
            cells = rng.normal(0, 1, (12, 16)) + 2 * np.eye(16)[number % 5]
            ids = tuple(f"cell {i}" for i in range(12))
            bag = Bag(
                bag_id=f"patient {number}",
                features=cells.astype(np.float16),
                instance_ids=ids,
                label=f"class {number % 5}",
            )
            store.write(bag)
    config = FitConfig(
        num_folds=3, epochs=1, seeds=1, widths=(8,), attention_hidden=4, classifier_hidden=4
    )
    for _ in fit(folder / "many.zarr", out_dir=folder / "run", config=config):
        pass
    out = folder / "report.html"
    assert main(["report", str(folder / "run"), "--out", str(out)]) == 0
    return out


def test_a_thousand_patients_still_open(visit: Callable[..., Visit], many: Path) -> None:
    assert many.stat().st_size < 25e6
    seen = visit()
    seen.open(many)
    links = seen.page.locator("a[href^='#patient-']").all_inner_texts()
    assert len({name for name in links if re.match(r"patient \d+", name)}) == NUM_MANY
    seen.page.goto(f"file://{many}#patient-{NUM_MANY}")
    assert seen.page.locator(f"#patient-{NUM_MANY}").is_visible()
    assert seen.faults == []
