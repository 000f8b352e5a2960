"""Readings of an excursion: each formula by hand or by enumeration, and by simulation against the truth."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foray.report import read_results
from foray.report.figures import r2_whole_curves, r3_heldout_gain, r4_entropy
from foray.report.measurements import PassK
from foray.report.readings.rank_correlation import spearman
from foray.report.readings.support import parts_of_gain, reached_half, still_possible
from foray.report.readings.tempering import fit
from foray.report.readings.voting import majority
from foray.report.results import Results
from foray.report.rules import CLAIMS, rule_on
from foray.report.sections import amplified, by_tag, firmness, sharpened, sound, train_test
from foray.report.sections import majority as majority_section
from foray.report.stats import Counts, Interval, difference_intervals, difference_of_independent
from foray.studies import smoke
from foray.study.graph import expand
from foray.study.manifest import manifest_of
from foray.study.spec import Study as FullStudy
from test_report import TOKENS, Study, build

RANDOM = np.random.default_rng(7)


def with_votes(study: Study) -> Study:
    """The study with votes: the right answer as often as lenient grading has it, two wrong ones, one in four none.

    And with labels of the problems, and sound samples: half of the right ones.
    """
    for entry in study.entries:
        path = study.root / entry["folder"] / "problems.jsonl"
        if entry["kind"] == "passk":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for number, row in enumerate(rows):
                right = row["correct"]["lenient"]
                row["tags"] = [f"steps={9 + number % 3}", "tier=easy", "loose"]
                row["correct"]["sound"] = right // 2
                wrong = (row["samples"] - right) * 3 // 4
                votes = [(right, True), (wrong - wrong // 3, False), (wrong // 3, False)]
                row["votes"] = sorted(([c, r] for c, r in votes if c), reverse=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(with_votes(build(tmp_path_factory.mktemp("readings"), seeds=2)).write())


@pytest.fixture(scope="module")
def without_votes(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(build(tmp_path_factory.mktemp("earlier")).write())


@pytest.fixture
def study() -> FullStudy:
    return smoke.study()


def graded(correct: object, samples: int = 32) -> Counts:
    counts = np.asarray(correct)
    return Counts(tuple(f"p{i}" for i in range(len(counts))), counts, np.full(len(counts), samples))


def drawn(rates: np.ndarray, samples: int = 32) -> Counts:
    return graded(RANDOM.binomial(samples, rates), samples)


def split_by_hand(c_b: int, c_t: int, n: int, k: int) -> list[float]:
    """Every choice of the k samples that count, of both models."""
    parts = np.zeros(4)
    choices = list(itertools.product(itertools.combinations(range(n), k), repeat=2))
    for of_b, of_t in choices:
        shows = [any(i < c for i in set(range(n)) - set(of)) for c, of in ((c_b, of_b), (c_t, of_t))]
        gain = any(i < c_t for i in of_t) - any(i < c_b for i in of_b)
        parts[{(True, True): 0, (False, True): 1, (True, False): 2, (False, False): 3}[shows[0], shows[1]]] += gain
    return list(parts / len(choices))


def test_the_split_of_a_gain_is_the_mean_over_every_choice_of_the_samples_that_count() -> None:
    n = 5
    for k, c_b, c_t in itertools.product((1, 2, 4), range(n + 1), range(n + 1)):
        found = parts_of_gain(graded([c_b], n), graded([c_t], n), k)[0]
        assert found == pytest.approx(split_by_hand(c_b, c_t, n, k)), (k, c_b, c_t)


def test_the_parts_of_a_gain_add_up_to_it_on_every_problem() -> None:
    base, trained = drawn(RANDOM.beta(0.3, 2, 300)), drawn(RANDOM.beta(1, 1, 300))
    for k in (1, 8, 31):
        gain = trained.pass_at(k) - base.pass_at(k)
        assert parts_of_gain(base, trained, k).sum(axis=1) == pytest.approx(gain, abs=1e-12)


def test_a_gain_on_what_the_base_held_is_amplified_and_one_on_what_it_lacked_is_discovered() -> None:
    zeros, low, high = np.zeros(100), np.full(100, 0.3), np.full(100, 0.8)
    amplified = parts_of_gain(drawn(low), drawn(high), 1).mean(axis=0)
    discovered = parts_of_gain(drawn(zeros), drawn(high), 1).mean(axis=0)
    lost = parts_of_gain(drawn(high), drawn(zeros), 1).mean(axis=0)
    assert amplified == pytest.approx([0.5, 0, 0, 0], abs=0.03)
    assert discovered == pytest.approx([0, 0.8, 0, 0], abs=0.03) and lost == pytest.approx([0, 0, -0.8, 0], abs=0.03)


def test_equal_models_discover_and_lose_nothing_on_average() -> None:
    """At a rate of 3% a problem without a right sample among 31 is common: the naive split would find 1.2 points."""
    rates = np.full(40_000, 0.03)
    base, trained = drawn(rates), drawn(rates)
    parts = parts_of_gain(base, trained, 1)
    error = parts.std(axis=0) / math.sqrt(len(rates))
    assert (np.abs(parts.mean(axis=0)) < 4 * error + 1e-12).all()
    naive = ((base.correct == 0) * trained.pass_at(1)).mean()
    assert naive > 0.01 > 20 * abs(parts.mean(axis=0)[1])


def test_the_interval_of_a_part_holds_the_truth() -> None:
    """300 data sets of 100 problems; the truth: the chance that n - 1 samples show none, times the mean gain."""
    inside, n = 0, 32
    rates = np.concatenate([np.zeros(40), np.full(30, 0.02), np.full(30, 0.4)])
    after = np.concatenate([np.full(20, 0.5), np.zeros(20), np.full(30, 0.3), np.full(30, 0.6)])
    truth = ((1 - rates) ** (n - 1) * (1 - (1 - after) ** (n - 1)) * (after - rates)).mean()
    # A part's samples that count are independent of those that show, so its expectation is this product.
    for _ in range(300):
        order = RANDOM.integers(0, 100, 100)
        found = difference_intervals(parts_of_gain(drawn(rates[order]), drawn(after[order]), 1)[:, 1:2])[0]
        inside += found.lo <= truth <= found.hi
    assert inside >= 270


def test_what_no_sample_showed_may_still_have_a_chance_of_three_in_n() -> None:
    assert still_possible(32) == pytest.approx(0.0894, abs=1e-4)
    assert (1 - still_possible(1000)) ** 1000 == pytest.approx(0.05) and still_possible(1000) == pytest.approx(
        0.003, rel=0.01
    )


def test_problems_that_reach_one_half_are_counted_by_what_the_base_had() -> None:
    base, trained = graded([0, 2, 20, 0, 1], 32), graded([16, 16, 32, 1, 20], 32)
    assert reached_half(base, trained, 1) == (3, 2, (2 / 32 + 1 / 32) / 2)
    assert math.isnan(reached_half(base, base, 1).rate)


def test_a_gain_cannot_be_split_where_no_sample_is_left_to_show() -> None:
    with pytest.raises(ValueError, match="k must be less than the 4 samples"):
        parts_of_gain(graded([1], 4), graded([2], 4), 4)
    with pytest.raises(ValueError, match="same problems"):
        parts_of_gain(graded([1], 4), graded([2, 2], 4), 1)


def tempered(exponent: float, problems: int = 200, samples: int = 32, wrong: int = 8) -> tuple[Any, ...]:
    """A base's votes, a trained model's right answers, and the true gain: the base to a power, three in ten unsolvable.

    The base's rates are from a beta distribution, and so are those that the wrong answers share.
    """
    rates = np.where(RANDOM.random(problems) < 0.3, 0.0, RANDOM.beta(0.7, 2, problems))
    base, chances = [], []
    for rate in rates:
        answers = np.concatenate([[rate], (1 - rate) * RANDOM.dirichlet(np.full(wrong, 1.0))])
        counts = RANDOM.multinomial(samples, answers)
        base.append(sorted(((int(c), i == 0) for i, c in enumerate(counts) if c), reverse=True))
        chances.append(answers[0] ** exponent / (answers**exponent).sum())
    many = np.full(problems, samples)
    return base, many, RANDOM.binomial(samples, chances), many, float(np.mean(chances - rates))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0])
def test_the_sharpening_exponent_is_recovered(exponent: float) -> None:
    """Within a tenth on the mean of four data sets, though the rates and the spread of wrong answers are sampled."""
    found, inside = [], 0
    for _ in range(4):
        *data, gain = tempered(exponent)
        s = fit(*data)
        found.append(s.exponent.value)
        inside += s.exponent.lo <= exponent <= s.exponent.hi
        assert s.explained.value == pytest.approx(s.gain.value, abs=0.05) == pytest.approx(gain, abs=0.05)
        assert s.exponent.lo < s.exponent.value < s.exponent.hi and not s.at_edge
    assert np.mean(found) == pytest.approx(exponent, rel=0.1) and inside >= 2


def test_a_gain_that_sharpening_cannot_give_is_left_unexplained() -> None:
    """Half of the problems that the base never solves are solved after training: no power of 0 is above 0."""
    base, many, _, _, _ = tempered(1.0)
    right = np.array([sum(c for c, r in votes if r) for votes in base])
    never = np.flatnonzero(right == 0)
    after = right.copy()
    after[never[: len(never) // 2]] = 32
    s = fit(base, many, after, many)
    assert s.gain.value > 0.15 and s.explained.hi < 0.25 * s.gain.value
    assert s.exponent.lo < 1.2 and s.otherwise.lo <= len(never) // 2 / 200 + 0.02 <= s.otherwise.hi + 0.05


def test_an_exponent_that_few_right_samples_show_is_not_told() -> None:
    """One right sample of a base in 80, and none after training: any exponent above 1 does."""
    base = [[(1, True), (3, False)], *([(3, False), (1, False)] for _ in range(9))]
    s = fit(base, np.full(10, 8), np.zeros(10, dtype=np.int64), np.full(10, 8))
    assert s.at_edge and s.exponent.lo < 1 < s.exponent.hi


def test_an_exponent_beyond_the_range_is_at_its_edge() -> None:
    base = [[(20, True), (12, False)], [(20, False), (12, True)]] * 20
    many = np.full(40, 32)
    assert fit(base, many, np.array([32, 0] * 20), many).at_edge


def test_a_vote_goes_to_the_most_frequent_answer_and_ties_are_shared() -> None:
    votes = [
        [(5, True), (3, False)],
        [(4, False), (4, True)],
        [(3, False), (2, True)],
        [(2, True), (2, True), (2, False)],
    ]
    samples = np.full(5, 8)
    assert majority([*votes, []], samples, 8) == pytest.approx([1.0, 0.5, 0.0, 2 / 3, 0.0])
    with pytest.raises(ValueError, match="a vote of 9 samples needs as many a problem; there are 8"):
        majority(votes, samples[:4], 9)


def test_a_vote_of_fewer_samples_is_the_mean_over_the_choices_of_them() -> None:
    """Against every choice, with two samples that gave no answer; a vote of one is pass@1."""
    given = ["a", "a", "a", "b", "b", "c", "", ""]
    exact = []
    for of in itertools.combinations(given, 3):
        counts = {x: of.count(x) for x in set(of) - {""}}
        best = [x for x, n in counts.items() if n == max(counts.values())]
        exact.append(("b" in best) / len(best) if best else 0.0)
    votes, samples = [[(3, False), (2, True), (1, False)]] * 100, np.full(100, 8)
    assert majority(votes, samples, 3).mean() == pytest.approx(np.mean(exact), abs=0.01)
    assert majority(votes, samples, 1).mean() == pytest.approx(2 / 8, abs=0.01)
    assert (majority(votes, samples, 3) == majority(votes, samples, 3)).all()


def test_the_sections_give_parts_that_add_up_and_votes_between_one_and_any_sample(results: Results) -> None:
    frame = amplified.section(results).files["amplified"]
    assert set(frame["recipe"]) == {"rl", "sft", "sft_rl", "parallel"} and set(frame["k"]) == {1, 8}
    sums = frame[["amplified", "discovered", "lost", "unseen"]].astype(float).sum(axis=1)
    assert sums.to_numpy() == pytest.approx(frame["gain"].to_numpy(float)) and (frame["runs"] == 2).all()
    assert (frame["held"] <= frame["newly_solved"]).all()
    voted = majority_section.section(results).files["majority"].set_index(["tokens", "recipe"])
    assert (voted["maj32"] <= voted["passk"]).all() and (voted["maj8_lo"] < voted["maj8_hi"]).all()
    added = voted["maj32"].astype(float) - voted["pass1"].astype(float)
    assert added.to_numpy() == pytest.approx(voted["added"].to_numpy(float))
    sharp = sharpened.section(results).files["sharpened"]
    assert len(sharp) == len(frame) / 2 and (sharp["exponent_lo"] < sharp["exponent_hi"]).all()
    ends = sharp[sharp["tokens"] == TOKENS[-1]]
    assert set(ends["looks"]) == {"otherwise changed"}, "problems of one model know nothing of those of the other"


def test_problems_of_each_label_make_up_all_problems(results: Results) -> None:
    """A label with one value, or without a value, divides nothing. Numbers stand in their order."""
    frame = by_tag.section(results).files["by_tag"]
    assert set(frame["tag"]) == {"steps"} and list(dict.fromkeys(frame["value"])) == ["9", "10", "11"]
    voted = majority_section.section(results).files["majority"]
    for place, rows in frame.groupby(["tokens", "recipe"]):
        whole = results.finals(place[1], results.main_task)
        mean = np.mean([e.counts["strict"].pass_at(1).mean() for e in whole if e.tokens == place[0]])
        assert (rows["pass1"] * rows["n"]).sum() / rows["n"].sum() == pytest.approx(mean)
        assert (rows["passk_lo"] < rows["passk_hi"]).all()
    assert len(frame) == 3 * len(voted)
    page = by_tag.section(results).html
    assert page.index(">9 (") < page.index(">10 (") < page.index(">11 (")
    many = tuple((f"kind={i}",) for i in range(by_tag.MOST + 1))
    assert by_tag.groups(many) == {} and len(by_tag.groups(many[1:])["kind"]) == by_tag.MOST


def test_sound_samples_are_at_most_the_right_ones(results: Results, without_votes: Results) -> None:
    frame = sound.section(results).files["sound"]
    assert len(frame) and (frame["sound1"] < frame["right1"]).all() and (frame["sound_k"] <= frame["right_k"]).all()
    assert frame["sound_of_right"].between(0.1, 0.5).all()
    absent = sound.section(without_votes)
    assert not absent.html and "can tell right reasons" in absent.absent


def test_an_answer_that_hangs_on_one_choice_is_seen_to(results: Results) -> None:
    """The grading, K and the half of the problems are each made otherwise; nothing else of the results changes."""
    names = [change.what for change in firmness.changes(results)]
    assert names[:3] == ["lenient grading", "flexible grading", "right reasons alone"]
    assert names[3:] == ["K = 8 for 32", "problems with steps up to 10", "problems with steps above 10"]
    frame = firmness.section(results).files["firmness"]
    ruled = frame[frame["changed"] == "as ruled"].set_index("claim")
    assert ruled["same"].all() and len(frame) == len(ruled) * (1 + len(names))
    for name in ruled.index:
        (claim,) = (c for c in CLAIMS if c.name == name)
        assert ruled.loc[name, "answer"] == rule_on(claim, results).answer
    changed = {change.what: change.results for change in firmness.changes(results)}
    few, many, whole = (r.finals("rl", results.main_task)[0] for r in (*(changed[n] for n in names[4:]), results))
    assert sorted(few.counts["strict"].ids + many.counts["strict"].ids) == sorted(whole.counts["strict"].ids)
    assert {t for labels in few.tags for t in labels if "steps" in t} == {"steps=9", "steps=10"}
    assert changed["right reasons alone"].finals("rl", results.main_task)[0].counts.keys() == {"sound"}


def test_each_pretraining_is_left_out_where_enough_stay(results: Results) -> None:
    one = results.select(PassK, recipe="base")[0]
    starts = [replace(one, pretrain_seed=start) for start in range(5)]
    few, enough = (replace(results, measured=tuple(starts[:n]), planned=tuple(starts[:n])) for n in (4, 5))
    left = [c for c in firmness.changes(enough) if c.what.startswith("without")]
    assert [c.what for c in left] == [f"without pre-training {n}" for n in range(5)]
    for of in (left[2].results.select(PassK), left[2].results.planned):
        assert {e.pretrain_seed for e in of} == {0, 1, 3, 4}, "a run that is left out is not missing"
    assert not [c for c in firmness.changes(few) if c.what.startswith("without")]


def test_a_store_without_votes_says_so(without_votes: Results) -> None:
    for module in (majority_section, sharpened):
        section = module.section(without_votes)
        assert not section.html and "holds the answers' votes" in section.absent
    assert amplified.section(without_votes).html


def test_the_rank_correlation_is_spearmans_and_shares_ties() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert spearman(x, -x)[:2] == (pytest.approx(-1.0), pytest.approx(-1.0)) and spearman(x, -x).hi < -0.5
    swapped = np.array([2.0, 1.0, 3.0, 4.0, 5.0, 6.0])
    assert spearman(x, swapped).value == pytest.approx(1 - 6 * 2 / (6 * 35))
    # Ranks 0.5, 0.5, 2 against 0, 1, 2, by hand: covariance 1.5, variances 1.5 and 2.
    assert spearman(np.array([3.0, 3.0, 8.0]), np.array([1.0, 2.0, 3.0])).value == pytest.approx(1.5 / math.sqrt(3))
    assert math.isnan(spearman(x[:4], x[:4]).lo) and math.isnan(spearman(x, np.ones(6)).value)


def test_the_interval_of_a_rank_correlation_holds_the_truth() -> None:
    """500 samples of 12 normal pairs of correlation 0.6; Spearman's is then 6/π asin(0.3)."""
    truth, inside = 6 / math.pi * math.asin(0.3), 0
    for _ in range(500):
        x, noise = RANDOM.standard_normal((2, 12))
        found = spearman(x, 0.6 * x + 0.8 * noise)
        inside += found.lo <= truth <= found.hi
    assert inside >= 460


def test_every_k_of_the_last_start_is_in_the_whole_curves(results: Results) -> None:
    frame = r2_whole_curves.data(results)
    assert set(frame["tokens"]) == {TOKENS[-1]} and (frame.groupby("recipe").size() == 32).all()
    rows = results.rows(tokens=TOKENS[-1], recipe="base", metric="pass@8", extraction="strict")
    base = frame[(frame["recipe"] == "base") & (frame["k"] == 8)]
    assert base[["value", "lo", "hi"]].to_numpy(float) == pytest.approx(rows[["value", "lo", "hi"]].to_numpy(float))
    assert "every k up to" in r2_whole_curves.caption(frame)


def test_the_gain_of_every_start_stands_at_its_held_out_loss(results: Results) -> None:
    frame = r3_heldout_gain.data(results)
    first = frame[frame["k"] == 1].sort_values("tokens")
    assert first["nats"].to_numpy() == pytest.approx([4.0, 2.0, 4 / 3, 1.0])
    gains = results.differences("rl", "base", "world_easy", 1)
    assert first["value"].to_numpy() == pytest.approx([gains[t].interval.value for t in TOKENS])
    assert first["rho"].iloc[0] == spearman(first["nats"].to_numpy(), first["value"].to_numpy()).value
    assert "4 M_t, too few for an interval" in r3_heldout_gain.caption(frame)


def seen(root: Path) -> Study:
    """Models that know their training questions by 40 points more than the base does, and a base that knows none."""
    study = Study(root)
    for recipe, test, train in (("base", 0.3, 0.3), ("sft", 0.5, 0.9)):
        for split, rate in (("", test), ("train", train)):
            rows = [
                {
                    "id": f"{split}{i}", "tags": [], "samples": 8, "formatted": 8, "truncated": 0, "tokens": 80,
                    "correct": {"strict": int(c), "lenient": int(c)},
                }
                for i, c in enumerate(RANDOM.binomial(8, np.full(150, rate)))
            ]  # fmt: skip
            model = {"tokens": TOKENS[0], "recipe": recipe, "stage_step": 0 if recipe == "base" else 9}
            trained = {} if recipe == "base" else {"trained_on": "world_easy"}
            shots = 8 if recipe == "base" else 0
            study.add(
                "passk", {"problems.jsonl": rows}, task="world_easy", shots=shots, split=split, **model, **trained
            )
    return study


def test_what_was_learned_of_the_training_questions_themselves_is_the_gap_beyond_the_bases(tmp_path: Path) -> None:
    results = read_results(seen(tmp_path).write(k=[1, 8]))
    assert set(results.curve(["pass@1"], ["world_easy"])["n"]) == {150} and len(results.tasks) == 1
    frame = train_test.section(results).files["train_test"].set_index("recipe")
    assert frame.loc["sft", "gap"] == pytest.approx(0.4, abs=0.05) and frame.loc["base", "gap_lo"] < 0
    assert frame.loc["sft", "beyond_lo"] < 0.4 < frame.loc["sft", "beyond_hi"] and frame.loc["sft", "beyond_lo"] > 0.3


def test_a_study_without_training_questions_says_how_to_ask_them(results: Results) -> None:
    assert "evaluation.train_problems" in train_test.section(results).absent
    assert difference_of_independent(Interval(0.5, 0.4, 0.7, 9), Interval(0.2, 0.05, 0.6, 4)) == pytest.approx(
        (0.3, 0.3 - math.hypot(0.1, 0.4), 0.3 + math.hypot(0.2, 0.15), 13)
    )


def test_training_questions_are_a_node_of_every_end_and_no_other(study: FullStudy) -> None:
    asked = replace(study.evaluation, train_problems=16, train_samples=2)
    study = replace(study, evaluation=replace(asked, train_problems=0))
    plain, more = manifest_of(study, expand(study)), replace(study, evaluation=asked)
    new = manifest_of(more, expand(more))["entries"]
    added_entries = [e for e in new if e.get("split") == "train"]
    assert [e for e in new if e.get("split") != "train"] == plain["entries"], "the other keys stay"
    ends = [e for e in plain["entries"] if e["kind"] == "passk" and e["final"]]
    place = ("tokens", "recipe", "stage_step", "seed", "shots", "task", "final")
    assert [[e[k] for k in place] for e in added_entries] == [[e[k] for k in place] for e in ends]


def test_training_questions_that_nobody_trained_on_are_refused(study: FullStudy) -> None:
    most = study.post.questions
    wrong: list[tuple[dict[str, Any], str]] = [({"train_problems": most + 1}, f"more than the {most} questions")]
    for change, words in (*wrong, ({"train_problems": -1}, "train_problems"), ({"train_samples": 0}, "train_samples")):
        with pytest.raises(ValueError, match=words):
            replace(study, evaluation=replace(study.evaluation, **change)).check_whole()


def test_entropy_stands_beside_pass_at_k_of_the_same_update(results: Results) -> None:
    """The log falls by a hundredth an update from 1.0, so the five updates up to the 25th have a mean of 0.78."""
    frame = r4_entropy.data(results)
    inside = frame[(frame["tokens"] == TOKENS[2]) & (frame["recipe"] == "rl") & (frame["metric"] == "pass@32")]
    assert dict(zip(inside["stage_step"], inside["entropy"].round(6))) == {10: 0.93, 25: 0.78, 50: 0.53}
    after_sft = frame[(frame["recipe"] == "sft_rl") & (frame["stage_step"] == 165)]
    assert after_sft["entropy"].to_numpy() == pytest.approx([1 - 0.01 * 12] * 2), "15 updates of RL behind 150 of SFT"
    assert not set(frame["recipe"]) & {"base", "sft"}
    assert "rank correlation with entropy" in r4_entropy.caption(frame)
