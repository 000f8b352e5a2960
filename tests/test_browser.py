"""The page in Chromium: nothing hostile runs, nothing is loaded, and the chart and the browser of completions work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foray.report import write_report
from test_report import Study, build

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
ATTACKS = (
    "<script>window.hurt = 1</script>", "</script><script>window.hurt = 1</script>", "<img src=x onerror='hurt = 1'>",
    "</textarea><svg onload='hurt = 1'>", "<!--<script>",
)  # fmt: skip
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")]


def attacked(study: Study) -> Study:
    """The study with completions, questions and answers that try to run a script."""
    for folder in study.root.glob("nodes/passk-*"):
        samples = [
            {"text": f"{ATTACKS[i % 5]} #### {i}", "correct": i == 3, "answer": ATTACKS[i % 5], "stop": "end"}
            for i in range(8)
        ]
        rows = [
            {"id": f"test-{i}", "tags": [f"steps={i}"], "question": f"{ATTACKS[i]} {i}", "answer": ATTACKS[1]}
            | {"samples": samples[: 8 if i else 3]}
            for i in range(5)
        ]
        (folder / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The page, and what its console said and what it asked for beside itself."""
    sync_api = pytest.importorskip("playwright.sync_api")
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", list)
        path = write_report(attacked(build(root)).write(), root / "report")
    said: list[str] = []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page()
        page.set_default_timeout(300_000)  # of a machine that does much else
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: said.append(r.url) if not r.url.startswith(path.as_uri()) else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page, said
        browser.close()


def test_hostile_completions_run_nothing_and_the_page_loads_nothing(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.click("#browser tbody button >> nth=0")
    assert ATTACKS[0] in page.inner_text("#completions")
    assert page.evaluate("typeof window.hurt") == "undefined" and not said
    assert page.evaluate("document.querySelectorAll('#browser script, #browser img, #browser pre svg').length") == 0


def test_the_slider_changes_k_and_a_recipe_can_be_switched_off(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    points: Callable[[], int] = lambda: page.locator("#chart circle").count()  # noqa: E731
    before = points()
    page.press("#k", "End")
    assert "pass@32" in page.inner_text("#chart h3 >> nth=0") and points() == before > 0
    page.uncheck("#chart [role=group] input >> nth=0")
    assert 0 < points() < before
    page.focus("#chart circle >> nth=0")
    assert "95% interval" in page.inner_text("#chart [role=status]") and not said


def test_filters_of_problems_narrow_the_table(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    rows: Callable[[], int] = lambda: page.locator("#browser tbody tr").count()  # noqa: E731
    assert rows() == 5
    page.fill("#browser input[type=search]", "onerror")
    assert rows() == 1
    page.fill("#browser input[type=search]", "")
    page.select_option("#browser select >> nth=2", "cut")
    assert rows() == 0
    page.select_option("#browser select >> nth=2", "all")
    assert rows() == 5 and not said


def test_a_phone_needs_no_sideways_scrolling(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
