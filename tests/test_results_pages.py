"""The pages of results against the tables beside them: numbers, the line of guessing, recipes below their base."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from foray.study.named_studies import load_study

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
OLD_DESK = (RESULTS / "archive" / "desk_world4" / "README.md").read_text(encoding="utf-8")
STUDIES = sorted(p for p in RESULTS.rglob("*.py") if "\ndef study()" in p.read_text(encoding="utf-8"))
RECIPES = {"base": "base", "RL": "rl", "SFT": "sft", "SFT→RL": "sft_rl", "SFT-Gold": "sft_gold"}
RECIPES |= {"SFT-Gold→RL": "sft_gold_rl", "parallel": "parallel", "parallel averaging": "parallel"}


def rows(name: str) -> list[dict[str, str]]:
    with open(RESULTS / name, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def percent(name: str, tokens: int, recipe: str, metric: str) -> float:
    """The number of a final model in a figure's table. For bases, the strictly graded number."""
    found = [
        r for r in rows(name)
        if (int(r["tokens"]), r["recipe"], r["metric"]) == (tokens, recipe, metric)
        and r.get("extraction") != "lenient" and r["task"] in ("world_easy", "general_average")
        and not r.get("variant")
    ]  # fmt: skip
    assert len(found) == 1
    return 100 * float(found[0]["value"])


def cells(line: str) -> list[str]:
    return [re.sub("<sub>.*?</sub>", "", c).strip() for c in line.strip("|\n").split("|")]


def test_the_table_of_tiny_is_its_results() -> None:
    lines = re.findall(r"^\| \d\.\dM \| (?:base|RL|SFT|parallel).*$", README, re.MULTILINE)
    assert len(lines) == 10
    for line in lines:
        at, who, one, eight, top, sound, probes = cells(line)
        tokens, recipe = round(float(at.rstrip("M")) * 1e6), RECIPES[who.removesuffix(" (8-shot)")]
        for written, metric in ((one, "pass@1"), (eight, "pass@8"), (top, "pass@32")):
            assert float(written) == pytest.approx(of_tiny(tokens, recipe, metric, "flexible"), abs=0.0501)
        assert float(sound) == pytest.approx(of_tiny(tokens, recipe, "pass@32", "sound"), abs=0.0501)
        assert float(probes) == pytest.approx(percent("tiny/f5_general.csv", tokens, recipe, "acc"), abs=0.0501)


def of_tiny(tokens: int, recipe: str, metric: str, extraction: str) -> float:
    (found,) = [
        r for r in rows("tiny/results.csv")
        if (int(r["tokens"]), r["recipe"], r["metric"], r["extraction"]) == (tokens, recipe, metric, extraction)
        and r["final"] == "True" and r["task"] == "world_easy"
    ]  # fmt: skip
    return 100 * float(found["value"])


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_of_the_results_can_be_asked_for_again(file: Path) -> None:
    assert load_study(str(file)).grids()


def test_five_runs_of_tiny_are_runs_of_tiny() -> None:
    """Each with seeds of its own, and otherwise as ``foray run tiny`` has them: so the claims take their mean."""
    grids = load_study(str(RESULTS / "tiny" / "five.py")).grids()
    assert [(grid.pretraining.seeds, grid.seeds) for _, grid in grids] == [((i,), (i,)) for i in range(5)]
    one = [replace(g, name="tiny", pretrain=replace(g.pretraining, seeds=(0,)), seeds=(0,)) for _, g in grids]
    assert all(grid == load_study("tiny") for grid in one)


def test_the_bases_of_tiny_keep_the_form_and_have_room() -> None:
    """So no recipe gains by the form alone, and a recipe can rise as well as fall: 20 to 80% at pass@32."""
    for tokens in (1_800_000, 2_100_000):
        assert of_tiny(tokens, "base", "format_rate", "") >= 90
        assert 20 <= of_tiny(tokens, "base", "pass@32", "flexible") <= 80
        assert of_tiny(tokens, "base", "pass@32", "sound") >= 15, "most of it is no luck"


def test_the_table_of_desk_is_its_results() -> None:
    head, *lines = re.findall(r"^\| (?:M_t|\d\.\dM|) ?\| (?:\| base|pass@|six probes).*$", OLD_DESK, re.MULTILINE)
    recipes, tokens = [RECIPES[name] for name in cells(head)[2:]], 0
    assert len(lines) == 9 and len(recipes) == 7
    for line in lines:
        at, metric, *numbers = cells(line)
        tokens = round(float(at.rstrip("M")) * 1e6) if at else tokens
        for recipe, written in zip(recipes, numbers):
            gold = "f3_gold" if "gold" in recipe else "f6_parallel"
            name, metric = ("f5_general", "acc") if metric in ("six probes", "acc") else (gold, metric)
            assert float(written) == pytest.approx(
                percent(f"archive/desk_world4/{name}.csv", tokens, recipe, metric), abs=0.0501
            )


def test_the_first_table_of_desk_is_its_results() -> None:
    page = (RESULTS / "desk" / "README.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| recipe \| \d.*$", page, re.MULTILINE)
    lines = re.findall(r"^\| [^|]+ \|(?: [\d.]+ / [\d.]+ / [\d.]+ \|){4}$", page, re.MULTILINE)
    starts = [round(float(cell.rstrip("M")) * 1e6) for cell in cells(head)[1:]]
    assert len(lines) == 7 and len(starts) == 4
    for line in lines:
        who, *numbers = cells(line)
        recipe = RECIPES[who.removesuffix(", 8-shot")]
        for tokens, three in zip(starts, numbers):
            name = "f3_gold" if "gold" in recipe else "f6_parallel"
            for written, (file, metric) in zip(
                three.split(" / "), ((name, "pass@1"), (name, "pass@32"), ("f5_general", "acc"))
            ):
                assert float(written) == pytest.approx(percent(f"desk/{file}.csv", tokens, recipe, metric), abs=0.0501)


def test_desks_table_of_twice_the_updates_is_its_results() -> None:
    page = (RESULTS / "desk" / "parts.md").read_text(encoding="utf-8")
    number = r"[−\d.]+ \[[−\d.]+, [−\d.]+\]"
    lines = re.findall(rf"^\| [^|]+ \|(?: {number} \|){{6}}$", page, re.MULTILINE)
    found = {(r["recipe"], r["tokens"]): r for r in rows("desk/controls.csv") if r["variant"] == "twice the updates"}
    assert len(lines) == 4 and len(found) == 8
    names = [f"{name}{end}" for name in ("d_one", "d_top", "d_general") for end in ("", "_lo", "_hi")]
    for line in lines:
        who, *numbers = cells(line)
        written = [float(x.replace("−", "-")) for x in re.findall(r"−?\d+\.\d", " ".join(numbers))]
        expected = [100 * float(found[RECIPES[who], t][n]) for t in ("6400000", "12800000") for n in names]
        assert written == pytest.approx(expected, abs=0.0501)


def test_desks_table_of_the_papers_readings_is_its_results() -> None:
    page = (RESULTS / "desk" / "parts.md").read_text(encoding="utf-8")
    variants = {
        "*reasons:* SFT of 8 readings (1e-3)": ("sft", "8 readings at 1e-3"),
        "*reasons:* SFT of 13 readings (1e-3), where SFT→RL begins": ("sft", "13 readings at 1e-3"),
        "*reasons:* parallel averaging's SFT half alone": ("parallel", "SFT half alone"),
        "*reasons:* RL without its KL term": ("rl", "no KL"),
        "SFT (1e-3), 13 readings, then RL (4e-4)": ("sft_rl", ""),
    }
    own = [r | {"variant": ""} for r in rows("desk/readings/results.csv")]
    beside = [r for r in rows("desk/readings/beside.csv") if r["split"] in ("", "test") and not r["temperature"]]
    found = [r for r in own + beside if r["final"] == "True" and r["pretrain_seed"] in list("012345")]
    lines = re.findall(r"^\| [^|]+ \|(?: [\d.]+ \|){4}$", page, re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        who, *written = cells(line)
        recipe = variants.get(who) or (RECIPES[re.sub(r"(, .*| \(.*\))$", "", who)], "")
        of = [r for r in found if (r["recipe"], r["variant"]) == recipe]
        for number, metric in zip(written, ("pass@1", "pass@8", "pass@32", "acc"), strict=True):
            task, graded = ("general_average", "") if metric == "acc" else ("world_easy", "flexible")
            six = [
                100 * float(r["value"]) for r in of
                if (r["metric"], r["task"], r["extraction"]) == (metric, task, graded)
            ]  # fmt: skip
            assert len(six) == 6
            assert float(number) == pytest.approx(mean(six), abs=0.0501)


def test_desks_table_of_temperatures_is_its_results() -> None:
    page = (RESULTS / "desk" / "parts.md").read_text(encoding="utf-8")
    names = {
        "RL without KL": ("rl", "no KL"), "SFT, 61 readings": ("sft", ""),
        "SFT, 8 readings at 1e-3": ("sft", "8 readings at 1e-3"),
        "SFT, 13 readings at 1e-3": ("sft", "13 readings at 1e-3"),
    }  # fmt: skip
    own = [r | {"variant": "", "temperature": ""} for r in rows("desk/readings/results.csv")]
    found = [
        r for r in own + rows("desk/readings/beside.csv") if r["final"] == "True" and r["extraction"] == "flexible"
    ]
    table = page[page.index("| | 0.6 | 1 | 1.5 |") :].partition("\n\n")[0]
    lines = table.split("\n")[2:]
    assert len(lines) == 8
    for line in lines:
        who, *written = cells(line)
        recipe, variant = names.get(who) or (RECIPES[who], "")
        for numbers, temperature in zip(written, ("", "1", "1.5"), strict=True):
            for number, metric in zip(numbers.split(" / "), ("pass@1", "pass@32"), strict=True):
                place = (recipe, variant, temperature, metric, "")
                keys = ("recipe", "variant", "temperature", "metric", "split")
                six = [100 * float(r["value"]) for r in found if tuple(r.get(k, "") for k in keys) == place]
                assert len(six) == 6 and float(number) == pytest.approx(mean(six), abs=0.0501)


@pytest.mark.parametrize("tokens", [6_400_000, 12_800_000])
def test_desks_tables_of_other_temperatures_are_its_results(tokens: int) -> None:
    """Of pre-trainings 6 and 7, which alone were sampled so."""
    page = (RESULTS / "desk" / "parts.md").read_text(encoding="utf-8")
    own = [r | {"variant": "", "split": "", "temperature": ""} for r in rows("desk/results.csv")]
    found = [
        r for r in own + rows("desk/beside.csv")
        if r["final"] == "True" and r["extraction"] == "flexible" and r["task"] == "world_easy"
        and r["pretrain_seed"] in ("6", "7") and int(r["tokens"]) == tokens and not r["variant"] and not r["split"]
    ]  # fmt: skip
    table = page[page.index(f"| from {tokens / 1e6:g}M | at 0.3 |") :].partition("\n\n")[0].split("\n")[2:]
    assert len(table) == 5
    for line in table:
        who, *written = cells(line)
        for numbers, temperature in zip(written, ("0.3", "", "1", "1.5"), strict=True):
            for number, metric in zip(numbers.split(" / "), ("pass@1", "pass@32"), strict=True):
                place = (RECIPES[who], temperature, metric)
                two = [100 * float(r["value"]) for r in found if (r["recipe"], r["temperature"], r["metric"]) == place]
                assert len(two) == 2 and float(number) == pytest.approx(mean(two), abs=0.0501)


def test_the_readme_rounds_desk_once() -> None:
    named = re.findall(r"(\d+) / (\d+) (for the 8-shot base|after [\w→ ]+)", " ".join(README.split()))
    after = {RECIPES[who.removeprefix("after ").replace("for the 8-shot ", "")]: (one, top) for one, top, who in named}
    assert set(after) == {"base", "rl", "sft", "sft_rl", "parallel"}
    for recipe, (one, top) in after.items():
        for written, metric in ((one, "pass@1"), (top, "pass@32")):
            value = percent("desk/f6_parallel.csv", 12_800_000, recipe, metric)
            assert float(written) == pytest.approx(value, abs=0.501), f"{recipe} {metric} is {value}"
    (probes,) = re.findall(r"the six probes ([\d, and]+)\. Guessing scores 0\.2 / 4\.8", " ".join(README.split()))
    for recipe, written in zip(after, re.findall(r"\d+", probes), strict=True):
        value = percent("desk/f5_general.csv", 12_800_000, recipe, "acc")
        assert float(written) == pytest.approx(value, abs=0.501), f"{recipe}'s probes are {value}"
    guesses = {r["metric"]: float(r["chance"]) for r in rows("desk/f6_parallel.csv") if r["recipe"] == "rl"}
    assert (round(100 * guesses["pass@1"], 1), round(100 * guesses["pass@32"], 1)) == (0.2, 4.8)


def test_the_page_of_the_old_desk_names_what_guessing_gives() -> None:
    """Of world 4, whose problems its tables are of: they cannot be made again."""
    for line in ("2.1 / 15.3 / 44.9", "1.4 / 10.3 / 32.3"):
        assert line in " ".join(OLD_DESK.split())


def test_desk_says_which_recipes_are_below_their_base_graded_leniently() -> None:
    lost = {
        r["to"]: (-100 * float(r["pass1"]), -100 * float(r["passk"]))
        for r in rows("archive/desk_world4/transitions.csv")
        if (r["task"], r["from"], r["extraction"], r["verdict"]) == ("world_easy", "base", "lenient", "degradation")
    }
    assert set(lost) == {"sft", "sft_gold", "parallel"}
    paragraph = OLD_DESK[OLD_DESK.index("below its own base") :].split("\n\n")[0]
    for one, top in lost.values():
        assert f"{one:.1f}" in paragraph and f"{top:.1f}" in paragraph


def test_the_answers_of_several_stores_stand_in_one_table(tmp_path: Path) -> None:
    """As ``make tiny-seeds`` prints them."""
    head = "claim,answer,value,lo,hi"
    for name, lines in {
        "a": ("C1,shown,0.051,0.02,0.08", "C3,not run,,,"),
        "b": ("C1,cannot tell,,,", "C3,not run,,,"),
        "c": ("C1,shown,0.03,,", "C3,not run,,,"),
    }.items():
        (tmp_path / name / "report").mkdir(parents=True)
        (tmp_path / name / "report" / "claims.csv").write_text("\n".join((head, *lines)) + "\n")
    command = [sys.executable, str(RESULTS / "verdicts.py"), *(str(tmp_path / name) for name in "abc")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [
        "| claim | a | b | c | agree |",
        "|---|---|---|---|---|",
        "| C1 | shown +5.1 [+2.0, +8.0] | cannot tell | shown +3.0 [?, ?] | 2 of 3: shown |",
    ]
