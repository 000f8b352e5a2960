"""Overlap of questions with text: planted overlap is found, and the embedded world's splits share no question."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from foray.data.corpus import Shard, write_shard
from foray.data.tokenizer import train_tokenizer
from foray.evals.overlap import Overlap, asked, numbers, overlaps, parsed, words
from foray.report import read_results, write_report
from foray.report.measurements import Overlaps
from foray.report.results import ANY
from foray.report.sections.contamination import section
from foray.world import WorldProblems
from foray.world.math.story_sampler import bucket
from foray.world.mixture import world_mixture
from test_report import HOSTILE, Study

QUESTION = "Tom has 12 apples and buys 1,500 more at the market on a Monday. How many apples does Tom have?"
OTHER = "Ann has 12 pears and finds 1,500 more in the garden on a Friday. How many pears does Ann have?"


def found_in(text: str, n: int = 5, question: str = QUESTION) -> dict[str, float]:
    overlap = Overlap([question], n)
    overlap.read([parsed(text)])
    return overlap.result()


def test_words_and_numbers() -> None:
    assert words("It's 1,200.5 m², half_way: NAÏVE!") == ["it", "s", "1200", "5", "m²", "half", "way", "naïve"]
    assert numbers("Half of 12 and twice the 3rd") == ("half", "12", "twice", "3")
    assert list(asked("Q: Is it 3?\nProblem 2. Is it?\nA: 3.\nWho? Me.\nno label? ")) == [
        "Is it 3?",
        "Is it?",
        "no label? ",
    ]


@pytest.mark.parametrize("around", ["{}", "before {} after", "Question: {}\nAnswer: 1512"])
def test_a_planted_question_is_found(around: str) -> None:
    changed = QUESTION.upper().replace(",", "").replace(".", " ,")
    found = found_in(around.format(changed))
    assert found["whole"] == found["any_ngram"] == found["ngrams"] == 1.0 and found["example"] == QUESTION


def test_a_renamed_question_has_the_same_numbers_and_nothing_else() -> None:
    found = found_in(f"Q: {OTHER}\nA: 1512")
    assert (found["whole"], found["same_numbers"], found["any_ngram"]) == (0.0, 1.0, 0.0)
    assert found_in(f"{OTHER} It is 1512.")["same_numbers"] == 0.0, "a text that asks nothing has no question"


def test_shared_wording_counts_as_that() -> None:
    found = found_in("They met at the market on a Monday morning.")
    assert found["whole"] == 0.0 and found["any_ngram"] == 1.0 and found["example"] == "at the market on a"
    assert found["ngrams"] == pytest.approx(2 / (len(words(QUESTION)) - 4))  # and "the market on a monday"
    assert found_in("at the market on a Monday", n=13)["any_ngram"] == 0.0


def test_nothing_runs_on_from_one_text_into_the_next() -> None:
    first, second = QUESTION.split(" at the ")
    overlap = Overlap([QUESTION], 13)
    overlap.read([parsed(first), parsed("at the " + second)])
    assert overlap.result()["whole"] == overlap.result()["any_ngram"] == 0.0


def test_hashes_agree_with_comparing_every_run_of_words() -> None:
    random = np.random.default_rng(0)
    make = lambda size: " ".join(random.choice(["a", "b", "c", "d"], size))  # noqa: E731
    questions, texts = [make(int(random.integers(1, 12))) for _ in range(40)], [make(60) for _ in range(30)]
    overlap = Overlap(questions, 4)
    overlap.read(map(parsed, texts[:7]))
    overlap.read(map(parsed, texts[7:]))
    text = [f" {t} " for t in texts]
    grams = [{" ".join(q.split()[i : i + 4]) for i in range(len(q.split()) - 3)} for q in questions]
    found = {g for g in set.union(*grams) if any(f" {g} " in t for t in text)}
    result = overlap.result()
    assert result["whole"] == np.mean([any(f" {q} " in t for t in text) for q in questions])
    assert result["any_ngram"] == np.mean([bool(g & found) for g in grams])
    assert result["ngrams"] == len(found) / len(set.union(*grams))


def test_the_worlds_splits_share_no_question_with_each_other_or_with_pretraining_text() -> None:
    """The sequence of numbers decides the split, so both shares are 0 by construction. Runs of words may be shared."""
    texts = {source.name: list(itertools.islice(source.documents("train"), 1000)) for _, source in world_mixture()}
    told = [q for text in texts["stories"] for q in asked(text)]  # what the proof rests on: their questions are found
    assert len(told) > 2000 and {bucket(q) for q in told} == {"train"}
    for tier in ("easy", "hard"):
        task = WorldProblems(tier)  # type: ignore[arg-type]
        trained, checked, held = ([p.question for p in task.problems(s, 400)] for s in ("train", "validation", "test"))
        assert all(q.endswith("?") and bucket(q) == "test" for q in held)
        rows = overlaps(texts, trained, checked, held, "test", 13) + overlaps(
            {}, trained, [], checked, "validation", 13
        )
        heldout = [r for r in rows if r["of"] != "training questions"]
        assert len(heldout) == len(texts) + 3 and len(rows) == 2 * len(texts) + 3
        assert all(r["questions"] == 400 for r in rows)
        for row in heldout:
            assert row["whole"] == row["same_numbers"] == 0.0, row
        # That this could have failed: the stories are of the training split, and do meet its numbers.
        stories = {r["of"]: r for r in rows if r["text"] == "stories"}
        assert stories["training questions"]["same_numbers"] > (0.1 if tier == "easy" else 0.01)
        assert stories["test questions"]["any_ngram"] > 0.1, "templates share wordings, and the table says so"


def test_the_text_of_a_shard_is_read_back(tmp_path: Path) -> None:
    class Source:
        name = "text"

        def documents(self, split: str) -> Iterator[str]:
            yield from (f"number {i}: naïve <|endoftext|> words\n" for i in range(300))

    tokenizer = train_tokenizer(Source().documents("train"), 300)
    write_shard(Source(), "train", tokenizer, tmp_path, 10**6)  # type: ignore[arg-type]
    read = [tokenizer.decode(d) for d in Shard(tmp_path).documents(tokenizer.end_id)]
    assert read == list(Source().documents("train"))


def test_the_report_shows_overlaps(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only()
    study = Study(tmp_path)
    row = {"text": "stories", "of": "test questions", "questions": 400, "whole": 0.0, "same_numbers": 0.0004}
    row |= {"any_ngram": 0.366, "ngrams": 0.11, "example": HOSTILE}
    place = {"recipe": "base", "stage_step": 0, "tokens": 10**6, "task": "world_easy", "trained_on": "world_easy"}
    study.add("contamination", {"contamination.json": {"n": 13, "rows": [row]}}, **place)
    study.add("contamination", {"contamination.json": {"n": 13, "rows": [row]}}, mix="math", **place)
    study.add("contamination", {"contamination.json": {"n": 13, "rows": [{}]}}, mix="bad", **place)
    results = read_results(study.write())
    assert len(results.select(Overlaps, mix=ANY)) == 2 and "lacks the field" in results.missing[0][1]
    shown = section(results)
    table = shown.files["contamination"]
    assert list(table["mix"]) == ["", "math"] and table["any_ngram"].tolist() == [0.366] * 2
    assert ">0<" in shown.html and "&lt; 0.1" in shown.html and "36.6" in shown.html
    page = write_report(tmp_path / "manifest.json", tmp_path / "report").read_text()
    assert "Overlap between training and evaluation text" in page and HOSTILE[:14] not in page
    assert (tmp_path / "report" / "contamination.csv").read_text().startswith("mix,tokens,task,")
