"""How settings are chosen among trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foray.report import read_results
from foray.report.results import Results
from foray.report.sections.tuning import section, warnings
from foray.report.trials import choice, trials
from test_report import Study

RATES = (1e-4, 2e-4, 4e-4, 8e-4)


def tried(
    root: Path, skill: dict[float, float], ability: dict[float, float] | None = None, used: float = 2e-4,
    starts: tuple[int, ...] = (1000, 9000), pretraining: int = 1, problems: int = 300,
) -> Results:  # fmt: skip
    """RL at several rates: each solves every problem with a chance of its own, and keeps a share of the probes."""
    made, random = Study(root), np.random.default_rng(1)
    level = random.uniform(0.0, 0.5, problems)
    for tokens in starts:
        for rate, more in skill.items():
            rows = [
                {"id": f"p{i}", "tags": [], "samples": 32, "correct": {"strict": int(c)}, "formatted": 32,
                 "truncated": 0, "tokens": 9} for i, c in enumerate(random.binomial(32, np.clip(level + more, 0, 1)))
            ]  # fmt: skip
            where = {
                "tokens": tokens, "recipe": "rl", "stage_step": 9, "variant": f"rl.optimizer.lr={rate:g}",
                "own": rate == used, "split": "validation", "pretrain_seed": pretraining,
            }  # fmt: skip
            made.add("passk", {"problems.jsonl": rows}, task="t", shots=0, **where)
            if ability:
                right = [int(i < 500 * ability[rate]) for i in range(500)]
                probe = {"value": ability[rate], "n": 500, "chance": 0.5, "per_doc": right}
                made.add("probes", {"probes.json": {"piqa": probe}}, **where)
    made.passk("base", 0.5, problems=5, tokens=1000, stage_step=0, task="t", shots=8)
    return read_results(made.write())


def chosen(results: Results) -> str:
    return choice(trials(results)["rl"]).chosen.settings


def test_a_study_that_asks_validation_problems_has_its_trials_in_the_main_grid(tmp_path: Path) -> None:
    """As a study of nothing but trials does: its measurements name no split of their own."""
    results = tried(tmp_path, APART)
    own = replace(results, measured=tuple(replace(e, split="") for e in results.measured))
    assert not trials(own)
    (before,), (found,) = (trials(r).values() for r in (results, replace(own, split="validation")))
    assert [(t.settings, t.score, t.ability) for t in found] == [(t.settings, t.score, t.ability) for t in before]


APART = dict(zip(RATES, (0.0, 0.3, 0.2, 0.1)))
CLOSE = dict(zip(RATES, (0.0, 0.3, 0.299, 0.1)))


def test_the_best_is_chosen_where_it_leads(tmp_path: Path) -> None:
    results = tried(tmp_path, APART)
    found = choice(trials(results)["rl"])
    assert found.chosen is found.best and found.chosen.settings == "rl.optimizer.lr=0.0002"
    (other,) = (t for t in trials(results)["rl"] if t.settings == "rl.optimizer.lr=0.0004")
    assert found.lead is not None and found.lead.value == pytest.approx(found.best.score - other.score)
    assert found.lead.lo > 0.02 and found.level == [found.best] and not found.edges


def test_trials_are_compared_on_the_runs_that_all_of_them_have(tmp_path: Path) -> None:
    """The best rate is not there yet from the better M_t."""
    results = tried(tmp_path, APART)
    lacking = [
        e for e in results.measured if (e.variant, e.tokens) != ("rl.optimizer.lr=0.0002", 9000) or e.kind != "passk"
    ]
    found = trials(replace(results, measured=tuple(lacking)))["rl"]
    assert all({tokens for tokens, _ in t.scores} == {1000} for t in found)
    whole = {t.settings: t.scores for t in trials(results)["rl"]}
    assert all(t.scores[run] == whole[t.settings][run] for t in found for run in t.scores)
    none = [e for e in lacking if e.tokens == 9000 or e.variant == "rl.optimizer.lr=0.0002"]
    assert len(trials(replace(results, measured=tuple(none)))["rl"]) == len(RATES), "no run in common: each on its own"


def test_trials_at_one_rate_on_two_tasks_are_two_choices(tmp_path: Path) -> None:
    """Easy and hard problems have trials of one name. Their scores and their abilities stay apart."""
    made = Study(tmp_path)
    made.passk("base", 0.5, problems=5, tokens=1000, stage_step=0, task="t", shots=8)
    for task, skill, ability in (("t", {1e-4: 0.6, 2e-4: 0.2}, 0.9), ("hard", {1e-4: 0.1, 2e-4: 0.3}, 0.5)):
        for rate, share in skill.items():
            rows = [
                {"id": f"{task}{i}", "tags": [], "samples": 32, "correct": {"strict": round(32 * share)},
                 "formatted": 32, "truncated": 0, "tokens": 9} for i in range(40)
            ]  # fmt: skip
            where = {
                "tokens": 1000, "recipe": "rl", "stage_step": 9, "variant": f"rl.lr={rate:g}", "own": rate == 2e-4,
                "split": "validation", "trained_on": task,
            }  # fmt: skip
            made.add("passk", {"problems.jsonl": rows}, task=task, shots=0, **where)
            right = [int(i < 100 * ability) for i in range(100)]
            probe = {"value": ability, "n": 100, "chance": 0.5, "per_doc": right}
            made.add("probes", {"probes.json": {"piqa": probe}}, **where)
    results = read_results(made.write())
    found = trials(results)
    assert {name: choice(t).chosen.settings for name, t in found.items()} == {
        "rl": "rl.lr=0.0001",
        "rl on hard": "rl.lr=0.0002",
    }
    assert [t.ability for t in found["rl on hard"]] == [0.5, 0.5]
    frame = section(results).files["tuning"]
    assert list(frame["task"]) == ["t", "t", "hard", "hard"] and frame["chosen"].sum() == 2
    (wrong,) = (
        w for w in warnings(results, found, {n: choice(t) for n, t in found.items()}) if "uses other settings" in w
    )
    assert wrong.endswith("chooses for: RL."), "the study's rate is right on hard problems"


@pytest.mark.parametrize(("kept", "rate"), [((0.9, 0.7, 0.8, 0.9), 4e-4), ((0.9, 0.8, 0.7, 0.9), 2e-4)])
def test_of_level_trials_the_one_that_forgets_least_is_chosen(
    tmp_path: Path, kept: tuple[float, ...], rate: float
) -> None:
    results = tried(tmp_path, CLOSE, dict(zip(RATES, kept)))
    found = choice(trials(results)["rl"])
    assert {t.settings for t in found.level} == {"rl.optimizer.lr=0.0002", "rl.optimizer.lr=0.0004"}
    assert chosen(results) == f"rl.optimizer.lr={rate:g}"
    assert any("a tie: RL." in words for words in warnings(results, trials(results), {"rl": found}))


def test_what_a_reviewer_would_ask_is_said(tmp_path: Path) -> None:
    def said(name: str, skill: dict[float, float], **how: object) -> str:
        html = section(tried(tmp_path / name, skill, **how)).html  # type: ignore[arg-type]
        return " ".join(str(html).split())

    edge = said("edge", dict(zip(RATES, (0.3, 0.2, 0.1, 0.0))))
    assert "edge of what was tried, so the grid should go on: RL (rl.optimizer.lr=0.0001)" in edge
    assert "other settings than the rule chooses for: RL." in edge
    quiet = said("quiet", APART)
    for words in ("should go on", "other settings", "a tie", "All trials start", "evaluated too"):
        assert words not in quiet
    assert "All trials start from one M_t" in said("one", APART, starts=(1000,))
    assert "from a pre-training that is evaluated too" in said("same", APART, pretraining=0)


def test_one_trial_has_no_next(tmp_path: Path) -> None:
    found = choice(trials(tried(tmp_path, {1e-4: 0.2}))["rl"])
    assert found.lead is None and found.chosen is found.best
