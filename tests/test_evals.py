"""Evaluation: sampling that survives a crash, counts, perplexity, and the general probes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Sums, wide
from foray.core.task import Problem, Split
from foray.data.corpus import Shard
from foray.data.tokenizer import TextTokenizer
from foray.evals import sampling
from foray.evals.abilities import CHANCE, WorldProbes, evaluate_probes, scorer
from foray.evals.perplexity import perplexity, task_perplexity
from foray.evals.sampling import checksum_of, evaluate
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.engine import Completion, Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.tasks.gsm8k import GSM8K
from foray.world.general.questions import probe_rows

SETTINGS: dict[str, Any] = {
    "split": "test", "problems": 10, "shots": 1, "samples": 4, "temperature": 1.0, "max_new_tokens": 6, "seed": 0,
}  # fmt: skip


@pytest.fixture
def engine(config: ModelConfig, tokenizer: TextTokenizer) -> TorchEngine:
    return TorchEngine(config, tokenizer, model=wide(initialize(config, 0)))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "CHUNK_ROWS", 12)  # three problems between two writes


def files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "completions.jsonl").read_bytes(), (folder / "problems.jsonl").read_bytes()


def sampled(folder: Path, engine: Any, tokenizer: TextTokenizer, **changes: Any) -> tuple[bytes, bytes]:
    folder.mkdir(exist_ok=True)
    evaluate(engine, tokenizer, Sums(), folder, **(SETTINGS | changes))
    return files(folder)


class Crash(Exception):
    pass


class Fixed:
    """An engine with fixed completions."""

    def __init__(self, *completions: tuple[str, str]) -> None:
        self.completions = completions
        self.config = ModelConfig(vocab_size=8)

    def sync(self, weights: Any, version: int) -> None:
        raise AssertionError("an evaluation does not change weights")

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        one = [Completion([1, 2], [0.0, 0.0], text, stop) for text, stop in self.completions]  # type: ignore[arg-type]
        return [one[:n] for _ in prompts]


# --- sampling -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_files(engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    a, b = (sampled(tmp_path / name, engine, tokenizer) for name in "ab")
    assert a == b
    assert a[0] != sampled(tmp_path / "c", engine, tokenizer, seed=1)[0]


@pytest.mark.parametrize("crash_after", [1, 2, 3])
def test_a_crash_between_chunks_loses_nothing(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path, crash_after: int
) -> None:
    whole = sampled(tmp_path / "whole", engine, tokenizer)
    seen: list[int] = []

    def crash(**values: Any) -> None:
        seen.append(values["done"])
        if len(seen) == crash_after:
            raise Crash

    with pytest.raises(Crash):
        sampled(tmp_path / "cut", engine, tokenizer, report=crash)
    assert not (tmp_path / "cut" / "problems.jsonl").exists(), "no result of half the problems"
    again: list[int] = []
    assert sampled(tmp_path / "cut", engine, tokenizer, report=lambda **v: again.append(v["done"])) == whole
    assert seen + again == [3, 6, 9, 10], "each chunk was sampled once"


@pytest.mark.parametrize("share", [0.01, 0.37, 0.5, 0.83, 0.999, 1.0])
def test_a_file_cut_anywhere_is_continued(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path, share: float
) -> None:
    """The cut may lie within a row and within a chunk. Batches are split as before, so that rounding is the same."""
    whole = sampled(tmp_path, engine, tokenizer)
    (tmp_path / "problems.jsonl").unlink()
    (tmp_path / "completions.jsonl").write_bytes(whole[0][: int(share * len(whole[0]))])
    assert sampled(tmp_path, engine, tokenizer) == whole


def test_a_finished_file_is_not_sampled_again(engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    whole = sampled(tmp_path, engine, tokenizer)
    engine.generate = None  # type: ignore[method-assign, assignment]
    assert sampled(tmp_path, engine, tokenizer) == whole


def test_problems_are_evaluated_in_order_with_their_completions(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in sampled(tmp_path, engine, tokenizer)[0].splitlines()]
    problems = Sums().problems("test", 10)
    assert [(r["id"], r["question"], r["answer"]) for r in rows] == [(p.id, p.question, p.answer) for p in problems]
    for row, problem in zip(rows, problems):
        assert len(row["samples"]) == 4
        for s in row["samples"]:
            right = Sums().verify(problem, s["text"]).score > 0
            assert s["correct"] == (right and s["stop"] != "length")


def test_too_few_problems_are_named(engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sums has 33 test problems; 500 were asked for"):
        sampled(tmp_path, engine, tokenizer, problems=500)


def test_a_prompt_longer_than_the_context_says_what_to_change(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="fewer shots, a smaller max_new_tokens or a longer context"):
        sampled(tmp_path, engine, tokenizer, shots=20)


# --- grading --------------------------------------------------------------------------------------------------------


def test_truncated_completions_score_zero_and_are_counted(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    answer = Sums().problems("test", 1)[0].answer
    says = Fixed((answer, "end"), (answer, "length"), (answer, "stop"), ("no number", "end"))
    folder = tmp_path
    evaluate(says, tokenizer, Sums(), folder, **(SETTINGS | {"problems": 1}))
    (row,) = (json.loads(line) for line in files(folder)[1].splitlines())
    assert row["correct"] == {"strict": 2, "lenient": 2, "flexible": 2}
    assert row["votes"] == [], "the task says no answer"
    assert (row["formatted"], row["truncated"], row["samples"], row["tokens"]) == (2, 1, 4, 8)
    (kept,) = (json.loads(line) for line in files(folder)[0].splitlines())
    assert [s["correct"] for s in kept["samples"]] == [True, False, True, False]


def test_completions_that_were_cut_off_are_graded_where_that_is_asked(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    answer = Sums().problems("test", 1)[0].answer
    says = Fixed((answer, "end"), (answer, "length"), ("no number", "length"), ("no number", "end"))
    evaluate(says, tokenizer, Sums(), tmp_path, cut_off="graded", **(SETTINGS | {"problems": 1}))
    (row,) = (json.loads(line) for line in files(tmp_path)[1].splitlines())
    assert row["correct"] == {"strict": 2, "lenient": 2, "flexible": 2} and row["truncated"] == 2
    (kept,) = (json.loads(line) for line in files(tmp_path)[0].splitlines())
    assert kept["cut_off"] == "graded"


class Asked(GSM8K):
    def problems(self, split: Split, count: int | None = None) -> list[Problem]:
        return [Problem("p", "?", "1200", ("#### 1200",))]


def test_votes_count_equal_answers_from_the_most_frequent_on(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    said = ["It is 7", "#### 1,200.0", "#### 5\n\\boxed{7}", "1200", "7", "x", "\\boxed{7}"]
    says = Fixed(*[(text, "end") for text in said], ("#### 1200", "length"))
    evaluate(says, tokenizer, Asked(), tmp_path, **(SETTINGS | {"problems": 1, "samples": 8, "shots": 0}))
    (row,) = (json.loads(line) for line in files(tmp_path)[1].splitlines())
    assert row["votes"] == [[3, False], [2, True], [1, False]]
    assert row["correct"] == {"strict": 1, "lenient": 2, "flexible": 2}
    (kept,) = (json.loads(line) for line in files(tmp_path)[0].splitlines())
    assert [s["answer"] for s in kept["samples"]] == ["7", "1200", "5", "1200", "7", "", "7", ""]


@dataclass(frozen=True)
class Shared(Sums):
    """Its training answers are the test answers and others."""

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        test = super().problems("test")
        return (*test, *super().problems("train"))[:count] if split == "train" else test[:count]


def test_a_guess_is_the_share_of_training_answers_that_are_the_problems(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    evaluate(engine, tokenizer, Shared(), tmp_path, **SETTINGS)
    rows = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    answers = [p.answer for p in Shared().problems("train")]
    wanted = {p.id: answers.count(p.answer) / len(answers) for p in Shared().problems("test")}
    assert [row["guess"] for row in rows] == [wanted[row["id"]] for row in rows] and len(set(wanted.values())) > 3


def test_samples_of_a_version_without_flexible_grading_are_drawn_again(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    whole = sampled(tmp_path, engine, tokenizer)
    rows = [json.loads(line) for line in whole[0].splitlines()]
    for row in rows:
        row.pop("checksum")
        row["samples"] = [{k: v for k, v in s.items() if k not in ("flexible", "answer")} for s in row["samples"]]
        row["checksum"] = checksum_of(row)
    (tmp_path / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sampled(tmp_path, engine, tokenizer) == whole


def test_text_of_any_kind_is_kept(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    hostile = 'line\u2028sep \x85 \ud800 \x00 \n\r\n\t "quotes" \\ 🙂'
    says = Fixed(*[(hostile, "end")] * 4)
    for _ in range(2):  # a second time: every row is one line
        evaluate(says, tokenizer, Sums(), tmp_path, **SETTINGS)
    rows = (tmp_path / "completions.jsonl").read_text(encoding="utf-8").split("\n")
    assert len(rows) == 11 and json.loads(rows[0])["samples"][0]["text"] == hostile


# --- perplexity -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shard(tokenizer: TextTokenizer, tmp_path: Path) -> Shard:
    ids = tokenizer.encode("\n".join(f"Q: {a} + {b} ?\nA: {a + b}" for a in range(10) for b in range(7)))
    np.array(ids, dtype=np.uint16).tofile(tmp_path / "tokens.bin")
    (tmp_path / "meta.json").write_text(json.dumps({"source": "x", "dtype": "uint16"}))
    return Shard(tmp_path)


def test_perplexity_is_the_mean_of_direct_cross_entropies(
    shard: Shard, config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    model = wide(initialize(config, 1))
    nats, tokens, _, _ = perplexity(model, tokenizer, shard, 15)
    count = (shard.size - 1) // 15
    assert count > 16 and count % 8, "several batches, the last one smaller"
    losses = []
    for i in range(count):
        row = torch.from_numpy(shard.read(15 * i, 15 * i + 16).astype(np.int64))
        with torch.no_grad():
            losses.append(torch.nn.functional.cross_entropy(model.logits(row[None, :-1])[0], row[1:]).item())
    assert tokens == 15 * count
    assert nats / tokens == pytest.approx(sum(losses) / count, rel=1e-6)


def knows_nothing(config: ModelConfig) -> Transformer:
    model = initialize(config, 0)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return model


WIDE_TEXTS = ("Für 5 €: naïve Käse", "数 12 ≠ 3 🧀", "plain\n")


def shard_of(texts: Sequence[str], tokenizer: TextTokenizer, folder: Path) -> Shard:
    ids = [i for text in texts for i in (tokenizer.end_id, *tokenizer.encode(text))]
    np.array(ids, dtype=np.uint16).tofile(folder / "tokens.bin")
    (folder / "meta.json").write_text(json.dumps({"source": "x", "dtype": "uint16"}))
    return Shard(folder)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity_and_its_bits_on_every_token(
    tokenizer: TextTokenizer, config: ModelConfig, tmp_path: Path
) -> None:
    shard = shard_of(WIDE_TEXTS, tokenizer, tmp_path)
    loss = perplexity(knows_nothing(config), tokenizer, shard, shard.size - 1)
    assert math.exp(loss.row()["nats_per_token"]) == pytest.approx(config.vocab_size, rel=1e-5)
    size = sum(len(text.encode()) for text in WIDE_TEXTS)
    bits = math.log2(config.vocab_size) * (shard.size - 1) / size
    assert loss.bytes == size and loss.row()["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_bits_per_byte_are_those_of_a_plain_loop_over_tokens_and_texts(
    tokenizer: TextTokenizer, config: ModelConfig, tmp_path: Path, length: int
) -> None:
    """Windows cut characters of many bytes in two. Their tokens are many: the vocabulary has none of them whole."""
    model, texts = wide(initialize(config, 1)), [*WIDE_TEXTS, "Q: 1 + 2 ?\nA: 3"]
    shard = shard_of(texts, tokenizer, tmp_path)
    ids = shard.read(0, shard.size).tolist()
    scored = (shard.size - 1) // length * length
    bits = 0.0
    for at in range(0, scored, length):
        with torch.no_grad():
            logits = model.logits(torch.tensor([ids[at : at + length]]))[0].double()
        for place, target in enumerate(ids[at + 1 : at + length + 1]):
            bits -= math.log2(float(logits[place].softmax(-1)[target]))
    rest = len(tokenizer.encode(texts[-1])) - (shard.size - 1 - scored)  # the last text is cut at the end
    size = sum(len(t.encode()) for t in WIDE_TEXTS)
    size += len(tokenizer.decode(tokenizer.encode(texts[-1])[:rest]).encode())
    loss = perplexity(model, tokenizer, shard, length)
    assert max(map(len, map(tokenizer.encode, "€数🧀"))) > 1
    assert (loss.tokens, loss.bytes) == (scored, size)
    assert loss.row()["bits_per_byte"] == pytest.approx(bits / size, rel=1e-5)


@dataclass(frozen=True)
class WideSums(Sums):
    """Questions in many bytes; every other problem has no solution."""

    every: int = 2

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        found = [replace(p, question=f"数 {p.question} €") for p in super().problems(split, count)]
        return [p if i % self.every == 0 else replace(p, solutions=()) for i, p in enumerate(found)]


def test_a_tasks_text_is_question_and_first_solution_without_an_end_token(
    tokenizer: TextTokenizer, config: ModelConfig
) -> None:
    model, task, bits, tokens, size = wide(initialize(config, 1)), WideSums(), 0.0, 0, 0
    for problem in task.problems("test", 40):
        if problem.solutions:
            prompt, target = task.prompt(problem.question), task.target(problem.solutions[0])
            ids = [*tokenizer.encode(prompt), *tokenizer.encode(target)]
            with torch.no_grad():
                logits = model.logits(torch.tensor([[tokenizer.end_id, *ids[:-1]]]))[0].double()
            bits -= sum(math.log2(float(logits[i].softmax(-1)[t])) for i, t in enumerate(ids))
            tokens, size = tokens + len(ids), size + len((prompt + target).encode())
    loss = task_perplexity(model, tokenizer, task, "test", 40)
    assert loss is not None and (loss.tokens, loss.bytes) == (tokens, size) and size > tokens
    assert loss.row()["bits_per_byte"] == pytest.approx(bits / size, rel=1e-5)
    blank = task_perplexity(knows_nothing(config), tokenizer, task, "test", 40)
    assert blank is not None
    assert blank.row()["bits_per_byte"] == pytest.approx(math.log2(config.vocab_size) * tokens / size, rel=1e-5)


def test_a_task_without_solutions_has_no_text_and_a_long_text_is_cut_at_the_context(
    tokenizer: TextTokenizer, config: ModelConfig
) -> None:
    model = wide(initialize(config, 1))
    assert task_perplexity(model, tokenizer, WideSums(every=10**6), "test", 40) is not None, "the first has one"

    class Without(WideSums):
        def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
            return [replace(p, solutions=()) for p in super().problems(split, count)]

    assert task_perplexity(model, tokenizer, Without(), "test", 40) is None
    short = Transformer(replace(config, context=8))
    loss = task_perplexity(short, tokenizer, WideSums(every=1), "test", 5)
    assert loss is not None and loss.tokens == 5 * 8


# --- probes ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tokenizer: TextTokenizer) -> Transformer:
    return wide(initialize(ModelConfig(16, 1, 2, 24, tokenizer.vocab_size, 1024), 0))


def test_scorer_gives_log_probabilities_of_the_last_tokens(reader: Transformer) -> None:
    rows, last = [[1, 5, 9, 2], [7, 3], [4, 4, 4, 4, 4, 4, 8]], [2, 1, 6]
    for row, n, (logprobs, greedy) in zip(rows, last, scorer(reader)(rows, last)):
        with torch.no_grad():
            direct = reader.logits(torch.tensor([row]))[0].log_softmax(-1)
        expected = [float(direct[i, t]) for i, t in enumerate(row[1:])]
        np.testing.assert_allclose(logprobs, expected[-n:], rtol=0, atol=1e-5)
        assert greedy.tolist() == [int(direct[i].argmax()) == t for i, t in enumerate(row[1:])][-n:]


def test_the_six_probes_run_through_lm_eval(reader: Transformer, tokenizer: TextTokenizer) -> None:
    results, work = evaluate_probes(WorldProbes(questions=6), reader, tokenizer)
    assert work > 0
    assert list(results) == list(CHANCE) and len(CHANCE) == 6
    for name, r in results.items():
        assert r["n"] == 6 == len(r["per_doc"]) and set(r["per_doc"]) <= {0, 1}
        assert r["value"] == pytest.approx(sum(r["per_doc"]) / 6)
        assert r["chance"] == CHANCE[name] and r["metric"] == "acc" and r["stderr"] >= 0
    assert evaluate_probes(WorldProbes(questions=6), reader, tokenizer) == (results, work)
    json.dumps(results)


def test_an_untrained_model_is_at_chance(reader: Transformer, tokenizer: TextTokenizer) -> None:
    """Chance is the accuracy of guessing, so place and length must not give the answer away."""
    names = ("world_hellaswag", "world_arc_easy", "world_piqa")
    results, _ = evaluate_probes(WorldProbes(questions=80, names=names), reader, tokenizer)
    for name in names:
        error = math.sqrt(CHANCE[name] * (1 - CHANCE[name]) / 80)
        assert abs(results[name]["value"] - CHANCE[name]) < 4 * error


def test_unknown_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no probe 'world_arc_eesy'; did you mean 'world_arc_easy'"):
        WorldProbes(names=("world_arc_eesy",))
    with pytest.raises(ValueError, match="questions must be positive"):
        replace(WorldProbes(), questions=0)


# --- rows that changed ----------------------------------------------------------------------------------------------


def _with(row: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    found = json.loads(row)
    change(found)
    return json.dumps(found).encode() + b"\n"


@pytest.mark.parametrize("how", ["correct", "text", "flip", "order", "other", "twice", "more"])
def test_a_row_that_changed_is_drawn_again(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path, how: str
) -> None:
    whole = sampled(tmp_path, engine, tokenizer)
    rows = whole[0].splitlines(keepends=True)
    if how in ("correct", "text"):
        value = True if how == "correct" else "another"
        rows[4] = _with(rows[4], lambda row: row["samples"][0].update({how: value, "lenient": True}))
    elif how == "flip":  # no UTF-8 any more
        rows[4] = rows[4][:9] + b"\xff" + rows[4][10:]
    elif how == "order":
        rows[4], rows[5] = rows[5], rows[4]
    elif how == "other":
        rows[4] = _with(rows[4], lambda row: row.update({"id": "test-9+9"}))
    elif how == "twice":
        rows[4:4] = [rows[4]]
    else:
        rows += rows
    (tmp_path / "completions.jsonl").write_bytes(b"".join(rows))
    (tmp_path / "problems.jsonl").unlink()
    drawn: list[int] = []
    assert sampled(tmp_path, engine, tokenizer, report=lambda **v: drawn.append(v["done"])) == whole
    assert drawn == ([] if how == "more" else [6, 9, 10]), "what stands before it is kept"


def test_completions_that_change_while_they_are_written_are_not_counted(
    engine: TorchEngine, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    def meddle(**values: Any) -> None:
        path = tmp_path / "completions.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"correct": false', b'"correct": true ', 1))

    with pytest.raises(ValueError, match=r"completions\.jsonl, line 1 has changed since"):
        sampled(tmp_path, engine, tokenizer, report=meddle)
    assert not (tmp_path / "problems.jsonl").exists()


def test_every_row_of_a_probe_names_its_fact() -> None:
    """Many facts for the questions that a study asks; where questions outnumber facts, documents share one."""
    facts = {name: {str(r.get("fact", r)) for r in probe_rows(name, count=200)} for name in CHANCE}
    least = {"world_hellaswag": 160, "world_arc_challenge": 190, "world_piqa": 120, "world_openbookqa": 110}
    assert {name: len(f) for name, f in facts.items()}.items() >= {"world_lambada": 200, "world_arc_easy": 200}.items()
    assert all(len(facts[name]) >= count for name, count in least.items())
