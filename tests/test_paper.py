"""The paper beside us: its numbers with their source, its curves behind the figures, its effects beside the claims."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure

from foray.core.files import SEAL, read_json
from foray.report import csv_text, figures, read_results, style, write_report
from foray.report.paper import NEAR, PARAMETERS, PARAMETERS_4B, effect
from foray.report.paper_curves import ROOM, Behind, Curve, put_behind
from foray.report.results import Results
from foray.report.sections import claims
from foray.report.spending import add_axis
from foray.study.manifest import report_study
from foray.study.named_studies import load_study
from foray.study.store import Store
from test_dial import dial
from test_figures import NEW, fill
from test_report import DRAWN, Study, build

SHARED = Path(__file__).parents[2] / "shared"
TABLE = Path(figures.__file__).parents[1] / "paper.csv"
ALL = [f for f in figures.discover() if hasattr(f, "behind")]  # those that the paper has


def table() -> list[dict[str, str]]:
    with open(TABLE, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(line for line in f if not line.startswith("#")))


def shared(name: str) -> list[dict[str, str]]:
    """A file of the numbers as they were read from the paper; the test is skipped where it is not at hand."""
    for folder in ("paper_figures", "paper_results"):
        if (file := SHARED / folder / f"{name}.csv").exists():
            with open(file, encoding="utf-8", newline="") as f:
                return list(csv.DictReader(f))
    pytest.skip("the numbers as read from the paper are not at hand")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """By figure, results that it can be drawn from."""
    root = tmp_path_factory.mktemp("paper")
    (root / "grid").mkdir()
    (root / "parts").mkdir()
    grid, parts = read_results(build(root / "grid").write()), read_results(fill(Study(root / "parts")).write())
    (root / "dial").mkdir()
    turned = read_results(dial(root / "dial").write())
    return dict.fromkeys(DRAWN, grid) | {figure.NAME: parts for figure in NEW} | {"p1_dial": turned}


def test_every_number_has_a_source_and_stands_once() -> None:
    rows = table()
    assert set(rows[0]) == {"task", "metric", "series", "x_name", "x", "value", "source"}
    assert all(r["source"].endswith(("(June)", "(February)", "(repository)")) for r in rows)
    places = [(r["task"], r["metric"], r["series"], r["x_name"], r["x"]) for r in rows]
    assert len(set(places)) == len(places)
    assert all(math.isfinite(float(r["value"])) for r in rows)
    curves = pd.Series([p[:4] for p in places]).value_counts()
    assert curves.max() <= 40


def test_every_number_is_in_the_figure_that_it_names() -> None:
    """Value and x, whatever the series is called there."""
    known: dict[str, set[tuple[str, float]]] = {}
    for row in table():
        name = row["source"].partition(" ")[0]
        if name not in known:
            found = shared(name)
            scale = 100 if name == "reward_curves" else 1
            known[name] = {(r["x"], float(r["y"])) for r in found if "y" in r}
            known[name] |= {(r["rl_step"], scale * float(r["value"])) for r in found if "y" not in r}
            rewards = [r for r in found if "reward" in r.get("y_name", "")]
            known[name] |= {(r["x"], 100 * float(r["y"])) for r in rewards}
        values = [y for x, y in known[name] if not x[:1].isdigit() or float(x) == float(row["x"])]
        assert any(abs(y - float(row["value"])) < 0.0051 for y in values), row


@pytest.mark.parametrize("figure", ALL, ids=lambda m: m.NAME)
def test_a_figure_is_drawn_with_and_without_the_paper(
    figure: Any, everything: dict[str, Results], recwarn: pytest.WarningsRecorder
) -> None:
    results = everything[figure.NAME]
    frame = add_axis(results, figure.data(results))
    before = csv_text(frame)
    behind = figure.behind(results, frame)
    assert isinstance(behind, Behind) and behind.version in {"June", "February", "repository"}
    with matplotlib.rc_context(style.RC):
        drawn = figure.draw(frame)
        panels, legends, alone = len(drawn.axes), len(drawn.legends), len(lines(drawn))
        words = put_behind(drawn, behind)
    assert csv_text(frame) == before, "the CSV is of our numbers alone"
    assert "Thin dashed lines: the paper's model" in words and "  " not in words
    assert len(drawn.axes) == panels and len(drawn.legends) == legends + 1
    assert [t.get_text() for t in drawn.legends[-1].texts] == [f"the paper (1.5B, {behind.on})"]
    assert len(lines(drawn)) - alone >= sum(seen(drawn, c) for c in behind.curves) > 0
    assert all(line.get_zorder() < 1 for axes in drawn.axes for line in axes.lines if thin(line))
    assert not [w for w in recwarn if issubclass(w.category, UserWarning | FutureWarning)]


def lines(figure: Figure) -> list[Any]:
    return [line for axes in figure.axes for line in axes.lines]


def thin(line: Any) -> bool:
    return bool(line.get_marker() == "." and line.get_alpha() is not None)


def seen(figure: Figure, curve: Curve) -> bool:
    (left, right), (low, high) = figure.axes[curve.panel].get_xlim(), figure.axes[curve.panel].get_ylim()
    return any(left <= x <= right and low <= y <= high for x, y in zip(curve.x, curve.y))


def test_curves_stand_at_the_papers_tokens_per_parameter(everything: dict[str, Results]) -> None:
    figure = next(f for f in ALL if f.NAME == "f2_passk")
    results = everything[figure.NAME]
    behind = figure.behind(results, figure.data(results))  # type: ignore[attr-defined]
    rl = next(c for c in behind.curves if c.panel == 0 and c.color == style.look("rl").color)
    wanted = {float(r["x"]): float(r["value"]) for r in table() if place(r) == ("gsm8k", "pass@1", "rl", "tokens_B")}
    assert list(rl.y) == pytest.approx([wanted[t] / 100 for t in sorted(wanted)])
    ratios = [x / results.model_parameters for x in rl.x]
    assert ratios == pytest.approx([t * 1e9 / PARAMETERS for t in sorted(wanted)])


def place(row: dict[str, str]) -> tuple[str, ...]:
    return row["task"], row["metric"], row["series"], row["x_name"]


@pytest.mark.parametrize("values", [[2.0], [9.0], [-30.0, 30.0], [0.5, 1e9]])
@pytest.mark.parametrize("log", [False, True])
def test_our_part_of_an_axis_stays_large(values: list[float], log: bool) -> None:
    figure, (axes,) = style.panels(1, 1)
    if log:
        axes.set_xscale("log")
    axes.set_xlim(1.0, 10.0)
    axes.set_ylim(0.0, 1.0)
    values = [abs(v) for v in values] if log else values
    words = put_behind(figure, Behind([Curve(0, values, [0.5] * len(values), "k")], "GSM8K", ["a (June)"]))
    left, right = axes.get_xlim()
    spans = (math.log(10.0), math.log(right / left)) if log else (9.0, right - left)
    assert left <= 1.0 and right >= 10.0 and spans[0] / spans[1] >= ROOM - 1e-9
    inside = [left <= v <= right for v in values]
    assert ("cut" in words) == (any(inside) and not all(inside))
    assert bool(axes.lines) == any(inside)


@pytest.mark.parametrize("values", [[900.0], [12.0, 900.0]])  # one point of a curve is no curve
def test_curves_that_lie_elsewhere_are_left_out_and_the_caption_says_so(values: list[float]) -> None:
    figure, (axes,) = style.panels(1, 1)
    axes.set_xlim(1.0, 10.0)
    words = put_behind(figure, Behind([Curve(0, values, [0.5] * len(values), "k")], "MATH", ["a (June)"]))
    assert "lie outside these axes" in words and not axes.lines and not figure.legends
    assert axes.get_xlim() == (1.0, 10.0)


def test_a_figure_of_two_versions_is_refused() -> None:
    with pytest.raises(ValueError, match="too many values"):
        _ = Behind([], "GSM8K", ["a (June)", "b (February)"]).version


def test_no_curve_stands_on_an_axis_that_the_paper_does_not_have(everything: dict[str, Results]) -> None:
    for name in ("f1_overview", "f2_passk", "f5_general", "f6_parallel", "f4_dynamics", "a1_seeds"):
        figure = next(f for f in ALL if name == f.NAME)
        frame = figure.data(everything[name])
        assert figure.behind(everything[name], frame.assign(flops=1.0)) is None  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_paper_can_be_left_out(tmp_path: Path, draw_only: Any) -> None:
    draw_only("f2_passk")
    manifest = build(tmp_path).write()
    texts, tables, drawings = [], [], []
    for paper in (True, False):
        out = tmp_path / f"report-{paper}"
        texts.append(write_report(manifest, out, paper=paper).read_text())
        tables.append(pd.read_csv(out / "claims.csv"))
        drawings.append((out / "figures" / "f2_passk.png").read_bytes())
        assert (out / "figures" / "f2_passk.csv").read_bytes() == (
            tmp_path / "report-True" / "figures" / "f2_passk.csv"
        ).read_bytes()
    ours = ["claim", "statement", "answer", "effect", "value", "lo", "hi", "note"]
    assert list(tables[0]) == [*ours, "paper_value", "paper_at", "paper"] and list(tables[1]) == ours
    assert tables[0][ours].equals(tables[1])
    for word in ("Thin dashed", "in the paper", "GSM8K", "at 4B"):
        assert word in texts[0] and word not in texts[1]
    assert drawings[0] != drawings[1]


def test_a_report_is_drawn_again_when_the_choice_changes(tmp_path: Path, draw_only: Any) -> None:
    draw_only()
    study, store = load_study("smoke"), Store(tmp_path)
    index = report_study(study, store, paper=False)
    assert read_json(index.parent / SEAL)["paper"] is False and "in the paper" not in index.read_text()
    before = index.stat().st_mtime_ns
    assert report_study(study, store, redraw=False, paper=False).stat().st_mtime_ns == before
    assert "in the paper" in report_study(study, store, redraw=False).read_text()


def test_the_papers_effect_stands_beside_ours_in_the_same_comparison(everything: dict[str, Results]) -> None:
    """Recomputed from the numbers as they were read from the paper."""
    found = {r["claim"]: r for r in claims.rows(everything["f2_passk"], claims.rulings_on(everything["f2_passk"]))}
    june: dict[tuple[str, str, str], float] = {}
    files = (
        "gsm8k_rl_multi_sft_comparison",
        "gsm8k_rl_single_sft_comparison",
        "parallel_avg_across_ckpts_combined_2x2",
    )
    for name in files:
        june = {(r["panel"].lower(), r["series"], r["x"]): float(r["y"]) for r in shared(name)} | june
    names = {"RL": "RL", "Base": "Base", "SFT": "SFT", "SFT→RL": "SFT->RL", "Parallel": "Parallel"}
    names_single = {"SFT": "SFT single", "SFT→RL": "SFT single->RL"}
    checked = 0
    for row in found.values():
        if row["paper_at"] is None or "average" in row["effect"]:
            continue
        what, metric = row["effect"].split(", ")[:2]
        at = row["paper_at"].removesuffix("B")
        values = []
        for recipe in what.split(" − "):
            keys = [(metric.split()[0], n.get(recipe, ""), at) for n in (names_single, names)]
            values.append(next(june[k] for k in keys if k in june))
        assert 100 * row["paper_value"] == pytest.approx(values[0] - values[1], abs=0.011)
        checked += 1
    assert checked >= 3
    c1 = found["C1"]
    assert (round(100 * c1["paper_value"], 1), c1["paper_at"]) == (13.8, "4B")  # ours: 2.8 tokens per parameter


def test_the_effect_is_that_of_the_nearest_start_or_none() -> None:
    ratio = 4e9 / PARAMETERS
    near = effect("gsm8k", "pass@1", "rl", "base", 1.1 * ratio)
    assert near is not None and near.at == "4B" and near.value == pytest.approx(0.1559 - 0.0175)
    assert effect("gsm8k", "pass@1", "rl", "base", 2e9 / PARAMETERS / NEAR / 1.01) is None
    assert effect("gsm8k", "pass@4", "rl", "base", ratio) is None
    five = effect("general_average", "acc", "parallel", "base", 44e9 / PARAMETERS)
    assert five is not None and five.value == pytest.approx(0.4974 - 0.5026)


def test_the_papers_models_are_those_of_its_studies() -> None:
    for name, parameters in (("paper_1b", PARAMETERS), ("paper_4b", PARAMETERS_4B)):
        assert load_study(name).model.parameters == parameters
