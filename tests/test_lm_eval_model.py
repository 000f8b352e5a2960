"""Foray's lm-eval model against lm-eval's own Hugging Face model, on the same weights, tokenizer and tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foray.evals import lm_eval_model
from foray.world.general.prose import general_sources
from foray.world.general.questions import PROBES, probe_rows, write_probes

END = "<|endoftext|>"
CONTEXT = 128


@dataclass
class Codec:
    """The part of a tokenizer that ``foray_lm`` needs, around a raw ``tokenizers`` tokenizer."""

    tokenizer: Any

    @property
    def end_id(self) -> int:
        return int(self.tokenizer.token_to_id(END))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Codec]:
    """A random Olmo2 of transformers and a tokenizer with few merges, so that words take several tokens."""
    pytest.importorskip("lm_eval")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # The reference, lm-eval's own Hugging Face model, cannot be imported without it.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    stream = general_sources()["web"].documents("train")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator([next(stream) for _ in range(100)], trainer)
    torch.manual_seed(0)
    config = transformers.Olmo2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.3,
        pad_token_id=None, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.Olmo2ForCausalLM(config).eval(), Codec(tokenizer)


def scorer(model: Any) -> lm_eval_model.Score:
    """Next-token log-probabilities, one row at a time, by the plainest code."""

    def score(rows: list[list[int]], last: list[int]) -> list[tuple[Any, Any]]:
        scored = []
        for row, asked in zip(rows, last):
            assert 2 <= len(row) <= CONTEXT + 1
            with torch.no_grad():
                logprobs = model(torch.tensor([row[:-1]])).logits[0].log_softmax(-1)
            targets = torch.tensor(row[1:])
            chosen = logprobs.gather(1, targets[:, None])[:, 0]
            scored.append((chosen.numpy()[-asked:], (logprobs.argmax(-1) == targets).numpy()[-asked:]))
        return scored

    return score


def reference(model: Any, codec: Codec, start: bool) -> Any:
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(codec.tokenizer.to_str())
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END,
        clean_up_tokenization_spaces=False, model_max_length=CONTEXT,
    )  # fmt: skip
    return HFLM(pretrained=model, tokenizer=fast, batch_size=4, max_length=CONTEXT, add_bos_token=start, device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_probes(tmp_path_factory.mktemp("probes"), count=12)


def request(*args: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type="loglikelihood", doc={}, arguments=args, idx=0)


def test_probes_agree_with_lm_eval_own_model(pair: tuple[Any, Codec], files: dict[str, Path]) -> None:
    model, codec = pair
    ours = lm_eval_model.run_probes(lm_eval_model.foray_lm(codec, scorer(model), CONTEXT), list(PROBES), files)
    theirs = lm_eval_model.run_probes(reference(model, codec, start=False), list(PROBES), files)
    for name in PROBES:
        assert ours[name].n == 12
        assert ours[name].per_doc["acc"] == theirs[name].per_doc["acc"]
        assert ours[name].metrics["acc"] == pytest.approx(np.mean(ours[name].per_doc["acc"]))
    assert ours["world_lambada"].per_doc["perplexity"] == pytest.approx(
        theirs["world_lambada"].per_doc["perplexity"], abs=1e-4
    )
    assert ours["world_piqa"].per_doc["acc_norm"] == theirs["world_piqa"].per_doc["acc_norm"]


@pytest.mark.parametrize("start", [False, True])
def test_likelihoods_agree_with_lm_eval_own_model(pair: tuple[Any, Codec], start: bool) -> None:
    model, codec = pair
    long = " ".join(row["text"] for row in probe_rows("world_lambada")[:6])
    pairs = [
        ("The flag is", " red"), ("The flag is ", "red"), ("The flag is  ", " red and blue"), ("", "A stone lion"),
        ("Question: who?\nAnswer:", " Mara Venn"), (long, " kettle"), ("The flag is", " red"), (END, " red"),
    ]  # fmt: skip
    lm = lm_eval_model.foray_lm(codec, scorer(model), CONTEXT, start=[codec.end_id] if start else [])
    ours = lm.loglikelihood([request(*p) for p in pairs])
    theirs = reference(model, codec, start).loglikelihood([request(*p) for p in pairs], disable_tqdm=True)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_greedy_is_recognized(pair: tuple[Any, Codec]) -> None:
    model, codec = pair
    context = codec.encode_batch(["The flag of"])[0]
    with torch.no_grad():
        best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    answers = lm_eval_model.score_pairs(scorer(model), [(context, [best]), (context, [(best + 1) % 256])], CONTEXT)
    assert [greedy for _, greedy in answers] == [True, False]


def test_batches_hold_equal_rows_once_and_the_longest_first() -> None:
    seen: list[list[int]] = []

    def score(rows: list[list[int]], last: list[int]) -> list[tuple[Any, Any]]:
        assert all(0 < n < len(row) for row, n in zip(rows, last))
        seen.append([len(row) for row in rows])
        return [(np.array(row[1:], dtype=np.float64), np.ones(len(row) - 1, dtype=bool)) for row in rows]

    pairs = [([1, 2], [3]), ([1] * 8, [5, 6]), ([1, 2], [3]), ([1], [2, 3]), ([7], [9])]
    answers = lm_eval_model.score_pairs(score, pairs, max_length=6, batch_tokens=10)
    assert answers == [(3.0, True), (11.0, True), (3.0, True), (5.0, True), (9.0, True)]
    assert seen == [[7], [3, 2]]


def test_tasks_of_other_kinds_are_refused(pair: tuple[Any, Codec]) -> None:
    model, codec = pair
    lm = lm_eval_model.foray_lm(codec, scorer(model), CONTEXT)
    with pytest.raises(ValueError, match="this task generates text"):
        lm.generate_until([request("x", {"until": ["Q:"]})])
    with pytest.raises(ValueError, match="this task scores whole texts"):
        lm.loglikelihood_rolling([request("x")])


def test_official_definitions_take_local_rows(pair: tuple[Any, Codec], tmp_path: Path) -> None:
    model, codec = pair
    rows = [{"id": "1", "question": "What is red?", "choices": {"text": ["Blood", "Snow"], "label": ["A", "B"]},
             "answerKey": "A"}, {"id": "2", "question": "What is white?", "choices": {"text": ["Blood", "Snow"],
             "label": ["A", "B"]}, "answerKey": "B"}]  # fmt: skip
    (tmp_path / "arc_easy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lm = lm_eval_model.foray_lm(codec, scorer(model), CONTEXT)
    result = lm_eval_model.run_probes(lm, ["arc_easy"], {"arc_easy": tmp_path / "arc_easy.jsonl"})["arc_easy"]
    assert result.n == 2 and set(result.metrics) == {"acc", "acc_norm"}


def test_repeated_and_limited_runs_are_equal(
    pair: tuple[Any, Codec], files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model, codec = pair
    lm = lm_eval_model.foray_lm(codec, scorer(model), CONTEXT)
    first = lm_eval_model.run_probes(lm, ["world_piqa", "world_lambada"], files)
    assert lm_eval_model.run_probes(lm, ["world_piqa", "world_lambada"], files) == first
    few = lm_eval_model.run_probes(lm, ["world_piqa"], files, limit=5)["world_piqa"]
    assert few.per_doc["acc"] == first["world_piqa"].per_doc["acc"][:5]
    share = few.metrics["acc"]
    assert few.n == len(set(few.facts)) == 5 and len(set(first["world_piqa"].facts)) == 12
    assert few.stderr["acc"] == pytest.approx((share * (1 - share) / 4) ** 0.5), "of the documents that were asked"
    assert capfd.readouterr() == ("", "")


def test_mistakes_are_named(pair: tuple[Any, Codec], monkeypatch: pytest.MonkeyPatch) -> None:
    model, codec = pair
    lm = lm_eval_model.foray_lm(codec, scorer(model), CONTEXT)
    with pytest.raises(ValueError, match="task world_piqa needs a file with its rows"):
        lm_eval_model.run_probes(lm, ["world_piqa"], {})
    local = lm_eval_model._own()
    monkeypatch.setattr(lm_eval_model, "_official", lambda name: local)  # The whole index takes seconds.
    with pytest.raises(ValueError, match="unknown task 'wrld_piqa'; the nearest one is world_piqa"):
        lm_eval_model.run_probes(lm, ["wrld_piqa"], {})
    with pytest.raises(ValueError, match="does not fit"):
        lm_eval_model.score_pairs(scorer(model), [([1], [2] * 20)], max_length=8)
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(ValueError, match=r"\.\[evals\]"):
        lm_eval_model.run_probes(lm, ["world_piqa"], {})
