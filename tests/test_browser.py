"""The page in Chromium: nothing hostile runs, nothing is loaded, the chart and the browser of completions work, by
keyboard too, and all text can be read: in the light, in the dark, on a phone and on paper.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foray.report import read_results, write_report
from foray.report.comparison_page import write_comparison
from foray.report.figures import f6_parallel
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
# Every text whose contrast with its ground is below 4.5 (WCAG 2.2, 1.4.3), colors mixed with what they let through.
FAINT = """() => {
  const rgba = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) {
      layers.push(rgba(getComputedStyle(n).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let t = walk.nextNode(); t; t = walk.nextNode()) {
    const e = t.parentElement;
    if (!t.data.trim() || e.closest("script, style") || !e.getClientRects().length) continue;
    seen += 1;
    const style = getComputedStyle(e), svg = e.closest("svg"), back = ground(e);
    const front = rgba(svg ? style.fill : style.color);
    for (let n = e; n; n = n.parentElement) front[3] *= +getComputedStyle(n).opacity;
    if (svg) front[3] *= +style.fillOpacity;
    const [a, b] = [luminance(over(front, back)), luminance(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.tagName}: ${t.data.trim().slice(0, 40)}`);
  }
  return [seen, found];
}"""
WIDE = """(width) => [...document.querySelectorAll("body *")].filter((e) => !e.closest("script, style, caption")
  && e.getBoundingClientRect().right > width + 0.5).map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)"""
PAPER = 702  # pixels between the margins of A4
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


def twin(root: Path) -> Path:
    """The manifest of a copy of a store whose nodes have other keys: one and the same node is no two to compare."""
    shutil.copytree(root / "nodes", root / "twin" / "nodes")
    for folder in (root / "twin" / "nodes").iterdir():
        folder.rename(f"{folder}-b")
    manifest = root / "twin" / "manifest.json"
    manifest.write_text(re.sub(r'("nodes/[^"]+)', r"\1-b", (root / "manifest.json").read_text()))
    return manifest


# By problem: right samples of the base, of RL, and how many of RL's are right by unsound steps. Eight samples each.
COUNTS = {"even": (4, 4, 0), "far": (0, 7, 0), "lucky": (0, 8, 8), "lost": (6, 0, 0), "near": (2, 5, 1)}


def counted(study: Study) -> Study:
    """The study with problems that RL answers more and less often than the base does."""
    for entry in study.entries:
        if entry["kind"] == "passk":
            rows = [_problem(name, right[entry["recipe"] != "base"], right[2]) for name, right in COUNTS.items()]
            path = study.root / entry["folder"] / "completions.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study


def _problem(name: str, right: int, unsound: int) -> dict[str, Any]:
    samples = [{"text": f"{i}", "correct": i < right, "sound": unsound <= i < right, "answer": "x"} for i in range(8)]
    return {"id": name, "tags": ["steps=1"], "question": f"{name} {'word ' * 40}", "answer": "1", "samples": samples}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The page, and what its console said and what it asked for beside itself."""
    sync_api = pytest.importorskip("playwright.sync_api")
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", lambda: [f6_parallel])
        path = write_report(attacked(build(root)).write(), root / "report")
        write_report(counted(build(root / "counted")).write(), root / "counted" / "report")
        both = read_results(root / "manifest.json"), read_results(twin(root))
        write_comparison(*both, (ATTACKS[0], "B"), root / "two")
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
    page.press("#k", "Home")
    for _ in range(4):
        page.press("#k", "ArrowRight")
    assert "pass@5" in page.inner_text("#chart h3 >> nth=0") and points() == before, "a k that no table has"
    page.uncheck("#recipes input >> nth=0")
    assert 0 < points() < before
    assert not said


def test_the_papers_curves_are_cut_at_the_edge_of_the_plot(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.press("#k", "Home")  # the paper has no curve of most k
    page.get_by_label("the paper's curves").first.check()
    dashed = page.locator("#chart svg g[stroke-dasharray='4,3']")
    assert dashed.locator("path").count() > 0 and not said
    assert page.locator("#chart svg g[clip-path] > g[stroke-dasharray='4,3']").count() == dashed.count()
    page.get_by_label("the paper's curves").first.uncheck()


def test_arrow_keys_lead_through_the_chart_and_the_problems(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    read: Callable[[], str] = lambda: page.inner_text("#chart [role=status]")  # noqa: E731
    assert page.locator("#chart svg >> nth=0").locator("circle[tabindex='0']").count() == 1, "one stop for Tab"
    page.focus("#chart circle[tabindex='0'] >> nth=0")
    first = read()
    assert "95% interval" in first
    page.keyboard.press("ArrowRight")
    along = read()
    assert along.partition(",")[0] == first.partition(",")[0] and along != first, "the same line, the next M_t"
    page.keyboard.press("ArrowUp")
    assert read().partition(",")[0] != first.partition(",")[0], "another line"
    page.focus("#browser tbody button >> nth=0")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "One problem, all models"
    page.keyboard.press("Escape")
    assert page.evaluate("[...document.querySelectorAll('#browser tbody button')].indexOf(document.activeElement)") == 1


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


def asked(page: Any) -> list[str]:
    """The names of the problems in the list, in its order."""
    return [text.partition(" ")[0] for text in page.locator("#browser tbody th").all_inner_texts()]


@pytest.fixture
def phone(opened: tuple[Any, list[str]]) -> Iterator[Any]:
    """The page of ``COUNTS`` on a small screen that is touched."""
    context = opened[0].context.browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(opened[0].url.replace("report/index.html", "counted/report/index.html"))
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()


def test_problems_are_listed_by_how_far_a_leads_until_a_column_is_chosen(phone: Any) -> None:
    assert asked(phone) == ["lucky", "far", "near", "even", "lost"]
    show = "#browser select >> nth=2"
    for kind, order in (
        ("solved", ["far", "lucky"]), ("more", ["far", "near", "lucky"]), ("lost", ["lost"]),
        ("unsound", ["lucky", "near"]),
    ):  # fmt: skip
        phone.select_option(show, kind)
        assert asked(phone) == order, "those right by unsound steps alone come last"
    phone.select_option(show, "more")
    assert "solves only by unsound steps last" in phone.inner_text("#browser [role=status]")
    phone.click("#browser thead button >> nth=3")
    assert asked(phone) == ["far", "lucky", "near"] and "lead" not in phone.inner_text("#browser [role=status]")
    phone.select_option(show, "all")
    assert asked(phone)[0] == "lucky", "another filter has its own order again"


def test_the_slider_of_a_phone_is_one_line(phone: Any) -> None:
    name, slider, value = (phone.locator(where).bounding_box() for where in (".slider label", "#k", ".slider output"))
    assert name["x"] < slider["x"] < value["x"] and value["x"] + value["width"] <= 390
    assert name["height"] < 30 and abs(name["y"] - value["y"]) < 10


def test_a_row_opens_its_problem_and_a_phone_goes_to_it_and_back(phone: Any) -> None:
    phone.tap("#browser tbody tr >> nth=0 >> td >> nth=1")  # of the row, not of its button
    top: Callable[[str], float] = lambda where: phone.locator(where).bounding_box()["y"]  # noqa: E731
    assert "lucky" in phone.inner_text("#completions pre >> nth=0") and abs(top("#completions h3")) < 100
    words = phone.inner_text("#completions")
    assert "1 × right, by unsound steps" in words and "right: right" not in words
    phone.tap("text=Back to the list")
    assert abs(top("#browser [role=status]")) < 100
    assert phone.evaluate("document.activeElement.textContent").startswith("lucky ")


def test_hints_of_keys_are_hidden_where_there_are_none(phone: Any, opened: tuple[Any, list[str]]) -> None:
    assert "Escape" not in phone.inner_text("#browser") and "arrow keys" not in phone.inner_text("#chart")
    assert "Tap" in phone.inner_text("#browser") and "Tap" not in opened[0].inner_text("#browser")
    assert "Escape" in opened[0].inner_text("#browser") and "arrow keys" in opened[0].inner_text("#browser")


def test_on_a_phone_a_claim_is_a_card_that_shows_all_its_cells(phone: Any) -> None:
    phone.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    ends = phone.evaluate(
        "[...document.querySelectorAll('.stack tbody tr > *')].map((c) => c.getBoundingClientRect().right)"
    )
    assert len(ends) > 20 and max(ends) <= 390
    named = "getComputedStyle(document.querySelector('.stack td[data-head=\"decided by\"]'), '::before').content"
    assert "decided by" in phone.evaluate(named)


def test_the_first_sentence_is_the_headline_and_the_rest_is_folded(opened: tuple[Any, list[str]]) -> None:
    page = opened[0].context.browser.new_page()
    page.goto(opened[0].url)
    page.wait_for_selector("html[data-ready]")
    size: Callable[[str], float] = lambda where: page.evaluate(  # noqa: E731
        "(s) => parseFloat(getComputedStyle(document.querySelector(s)).fontSize)", where
    )
    assert page.inner_text(".headline").startswith("RL on the base raises pass@1 by ")
    assert size(".headline") > 1.2 * size("ul.finding li")
    assert not page.is_visible("dl.terms") and page.locator("#chart svg:visible").count() == 1
    page.click("#chart summary")
    page.wait_for_function("document.querySelectorAll('#chart details[open] svg').length === 1")
    assert (
        page.locator("#chart svg:visible").count() == 2 and page.evaluate("document.activeElement.tagName") == "SUMMARY"
    )
    tall = "[...document.querySelectorAll('#chart .together button')].map((b) => b.getBoundingClientRect().top)"
    assert len(set(page.evaluate(tall))) == 1, "the buttons stand in one line"
    page.close()


def test_tables_are_named_headings_are_in_order_and_there_are_landmarks(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    assert page.evaluate("[...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent)") == []
    assert page.evaluate("[...document.querySelectorAll('th')].filter((h) => !h.scope || !h.textContent)") == []
    rows = "[...document.querySelectorAll('tbody tr')].filter((r) => !r.querySelector('th[scope=row]'))"
    assert page.evaluate(rows) == []
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    for landmark in ("header", "main", "nav[aria-label]", "section[aria-labelledby]"):
        assert page.locator(landmark).count(), landmark
    assert page.evaluate("[...document.querySelectorAll('img')].filter((i) => !i.alt)") == []


def test_all_can_be_read_in_the_light_in_the_dark_and_on_paper(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    page.click("#browser tbody button >> nth=0")
    _is_readable(page)


def _is_readable(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen, faint = page.evaluate(FAINT)
        assert seen > 300 and faint == [], scheme
    page.set_viewport_size({"width": PAPER, "height": 1000})
    page.emulate_media(media="print")  # and the dark scheme, which paper has not
    assert page.evaluate(WIDE, PAPER) == [] and page.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert page.evaluate(FAINT)[1] == [] and page.evaluate("getComputedStyle(document.body).color") == "rgb(34, 34, 34)"
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


def test_figures_can_be_read_at_every_width(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        sizes = page.evaluate("[...document.querySelectorAll('figure img')].map((i) => [i.naturalWidth, i.width])")
        # Figures have 150 pixels an inch, and text of 8 points or more: of 9 pixels or more at this scale. A narrow
        # figure is not blown up to the page's width: its text has the size of the others'.
        assert sizes and all(0.55 <= shown / natural <= 0.71 for natural, shown in sizes)


def test_a_phone_needs_no_sideways_scrolling(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('.scroll')].filter((b) => b.scrollWidth > b.clientWidth + 1)"
    assert page.evaluate(f"{wide}.length") > 0 and page.evaluate(f"{wide}.filter((b) => b.tabIndex)") == []


def test_two_studies_side_by_side_are_a_page_of_the_same_kind(opened: tuple[Any, list[str]]) -> None:
    first, said = opened
    page = first.context.browser.new_page()
    page.on("console", lambda m: said.append(m.text))
    page.on("request", lambda r: said.append(r.url) if "two/index.html" not in r.url else None)
    page.goto(first.url.replace("report/index.html", "two/index.html"))
    page.wait_for_selector("html[data-ready]")
    assert ATTACKS[0] in page.inner_text("header") and page.evaluate("typeof window.hurt") == "undefined"
    page.focus("#chart circle[tabindex='0'] >> nth=0")
    assert "A − B in pass@1 0.0 points (95% interval −" in page.inner_text("#chart [role=status]") and not said
    _is_readable(page)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
