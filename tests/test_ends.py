"""End tokens of published models: three files name end tokens, and the files need not agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from conftest import Sums
from foray.data.corpus import Shard, write_shard
from foray.data.tokenizer import END, TextTokenizer, load_tokenizer, train_tokenizer
from foray.evals.abilities import evaluate_probes
from foray.evals.sampling import evaluate
from foray.model.hf_config import config_to_hf
from foray.model.transformer import Transformer, initialize
from foray.rollout.engine import Sampling
from foray.rollout.stopping import Endings
from foray.rollout.torch_engine import TorchEngine
from foray.rollout.vllm_engine import VLLMEngine
from foray.study.kinds.models import open_checkpoint
from foray.study.published import Release, import_checkpoint
from foray.train.checkpoint import save_checkpoint
from foray.train.supervised import demonstrations
from test_families import CASES, published
from test_published import SHAPE, TEXTS
from test_study import SumsText
from test_study import study as pretrained_study

TURN, OTHER = "<|im_end|>", "<|end_of_text|>"
NAMED = {END: 0, TURN: 280, OTHER: 281}


def qwen(folder: Path, config: Any, generation: Any, eos: str = TURN, **more: Any) -> Path:
    """A tokenizer whose end token closes a chat's turn. The model's own files name another end token."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(TEXTS, 280).tokenizer
    tokenizer.add_special_tokens([TURN, OTHER])
    assert all(tokenizer.token_to_id(name) == i for name, i in NAMED.items())
    tokenizer.save(str(folder / "tokenizer.json"))
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": END, "chat_template": "{{ 1 }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in own.items() if v}))
    found = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    (folder / "config.json").write_text(json.dumps({**found, "vocab_size": 328, "eos_token_id": config, **more}))
    if generation != "absent":
        written = {"eos_token_id": generation, "max_new_tokens": 7, "top_p": 0.8, "repetition_penalty": 1.1}
        (folder / "generation_config.json").write_text(json.dumps(written, indent=2))
    else:
        (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


CASES_OF_ENDS = {  # config.json, generation_config.json, the tokenizer's -> all of them, the one that Foray writes
    "a Qwen base": (0, 0, TURN, {0, 280}, 0),
    "a Qwen chat model": (280, [280, 0], TURN, {0, 280}, 280),
    "a Llama 3 chat model": ([281, 0, 280], [281, 0, 280], TURN, {0, 280, 281}, 280),
    "lists that agree in part": ([0], [280, 281], TURN, {0, 280, 281}, 0),
    "no generation_config": ([281, 0], "absent", TURN, {0, 280, 281}, 281),
    "none in config.json": (None, [0, 0], TURN, {0, 280}, 0),
    "an empty list": ([], 280, TURN, {280}, 280),
    "none but the tokenizer's": (None, None, TURN, {280}, 280),
    "none in the tokenizer": (0, [281], "", {0, 281}, 0),
    "all one": (280, 280, TURN, {280}, 280),
}


@pytest.mark.parametrize("case", CASES_OF_ENDS)
def test_a_text_ends_at_the_union_and_one_of_them_is_written(tmp_path: Path, case: str) -> None:
    config, generation, eos, ends, written = CASES_OF_ENDS[case]
    tokenizer = load_tokenizer(qwen(tmp_path, config, generation, eos))
    assert set(tokenizer.end_ids) == ends and len(tokenizer.end_ids) == len(ends)
    assert tokenizer.end_id == tokenizer.end_ids[0] == written
    assert tokenizer.separator == [written]


@pytest.mark.parametrize(
    ("config", "generation", "message"),
    [
        (328, 0, r"/config\.json: eos_token_id 328 is beyond the model's vocabulary of 328"),
        (0, [0, 151643], r"/generation_config\.json: eos_token_id 151643 is beyond the model's vocabulary of 328"),
        (-1, 0, r"/config\.json: eos_token_id -1 is no token id"),
        ("<|im_end|>", 0, r"/config\.json: eos_token_id '<\|im_end\|>' is no token id"),
        (0, [[0]], r"/generation_config\.json: eos_token_id \[0\] is no token id"),
        (True, 0, r"/config\.json: eos_token_id True is no token id"),
        (2.0, 0, r"/config\.json: eos_token_id 2\.0 is no token id"),
    ],
)
def test_what_is_no_end_token_is_refused_in_one_line(
    tmp_path: Path, config: Any, generation: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(qwen(tmp_path, config, generation))
    assert "\n" not in str(error.value)


def test_no_end_token_anywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        load_tokenizer(qwen(tmp_path, None, None, ""))
    with pytest.raises(ValueError, match=r"the tokenizer has no <\|gone\|> token"):
        load_tokenizer(qwen(tmp_path, 0, 0, "<|gone|>"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A model whose three files name three end tokens."""
    published(SHAPE, tmp_path / "theirs")
    return qwen(tmp_path / "theirs", [0, 281], [0, 280], bos_token_id=0, pad_token_id=280)


def says(folder: Path, token: int) -> tuple[Transformer, TextTokenizer]:
    """The checkpoint as Foray opens it, with logits that always give ``token``."""
    model, tokenizer = open_checkpoint(folder)
    model.lm_head.register_forward_hook(lambda *given: given[-1].index_fill(-1, torch.tensor([token]), 99.0))
    return model, tokenizer


@pytest.mark.parametrize("token", [0, 280, 281])
def test_evaluation_ends_at_each_of_them_and_grades_the_text_before(theirs: Path, tmp_path: Path, token: int) -> None:
    model, tokenizer = says(theirs, token)
    engine = TorchEngine(model.config, tokenizer, model=model)
    (group,) = engine.generate([tokenizer.encode_prompt("Q: 3")], 4, Sampling(1.0, 6), [0])
    assert all((c.stop_reason, c.tokens, c.text) == ("end", [token], "") for c in group)
    evaluate(
        engine, tokenizer, Sums(), tmp_path, split="validation", problems=2, shots=0, samples=2, temperature=1.0,
        max_new_tokens=6, seed=0,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert {(s["stop"], s["text"], s["tokens"]) for r in rows for s in r["samples"]} == {("end", "", 1)}
    assert all(json.loads(line)["truncated"] == 0 for line in (tmp_path / "problems.jsonl").read_text().splitlines())


def test_vllm_is_asked_to_stop_at_all_of_them(theirs: Path) -> None:
    tokenizer = load_tokenizer(theirs)
    engine = VLLMEngine.__new__(VLLMEngine)
    engine.config, engine.tokenizer, engine.precision, engine.version = SHAPE, tokenizer, "fp32", 0
    engine.endings = Endings(tokenizer, SHAPE.vocab_size)
    asked: dict[str, Any] = {}

    def ask(request: str, **arguments: Any) -> list[Any]:
        asked.update(arguments)
        return [([5, 281], [0.0, 0.0], "end")]

    engine._ask = ask  # type: ignore[method-assign]
    ((completion,),) = engine.generate([[1]], 1, Sampling(1.0, 6), [0])
    assert sorted(asked["end_ids"]) == [0, 280, 281]
    assert completion.stop_reason == "end" and completion.text == tokenizer.decode([5])


def test_demonstrations_and_documents_end_with_what_pre_training_ended_documents_with(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(qwen(tmp_path, 0, 0))
    _, target = demonstrations(pretrained_study().post.sft.source, 0, tokenizer)[0]
    assert target[-1] == 0 and 280 not in target
    write_shard(SumsText("sums"), "train", tokenizer, tmp_path, 500)
    rows = Shard(tmp_path).read(0, 500).tolist()
    assert rows[0] == 0 and rows.count(0) > 5 and 280 not in rows


def exported(release: Path, target: Path) -> Path:
    """Imports a model, opens it as a run opens an M_t, and saves it as a run saves a trained model."""
    made = Release(str(release))
    import_checkpoint(made, made.shape(), target / "import")
    save_checkpoint(target / "trained", *open_checkpoint(target / "import"))
    return target / "trained" / "model"


def test_an_export_keeps_what_the_published_files_say(theirs: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "import" / "model", exported(theirs, tmp_path)):
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (out / name).read_bytes() == (theirs / name).read_bytes(), name
        before, after = (json.loads((f / "config.json").read_text()) for f in (theirs, out))
        for name in ("eos_token_id", "bos_token_id", "pad_token_id", "rope_parameters", "vocab_size", "head_dim"):
            assert before.get(name) == after.get(name), name
        assert load_tokenizer(out).end_ids == load_tokenizer(theirs).end_ids
        both = [GenerationConfig.from_pretrained(f).to_dict() for f in (theirs, out)]
        assert both[0] == both[1]
        assert AutoTokenizer.from_pretrained(out).chat_template == "{{ 1 }}"
        ids = torch.tensor([load_tokenizer(theirs).encode("Q: 3 + 4 ?")])
        models = [AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (theirs, out)]
        with torch.no_grad():
            assert torch.equal(models[0](ids).logits, models[1](ids).logits)


@pytest.mark.parametrize("case", CASES_OF_ENDS)
def test_an_export_is_opened_with_the_same_ends(tmp_path: Path, case: str) -> None:
    config, generation, eos, ends, written = CASES_OF_ENDS[case]
    published(SHAPE, tmp_path / "theirs")
    theirs = qwen(tmp_path / "theirs", config, generation, eos)
    out = exported(theirs, tmp_path)
    again = load_tokenizer(out)
    assert set(again.end_ids) == ends and again.end_id == written
    assert (out / "generation_config.json").exists() == (generation != "absent")
    named = json.loads((out / "config.json").read_text())["eos_token_id"]
    if case == "none but the tokenizer's":
        assert named == 280, "transformers would not stop else"
    else:
        assert named == config


def test_forays_own_checkpoints_are_the_files_they_were(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    shape = CASES["olmo2-grouped"]
    save_checkpoint(tmp_path / "first", initialize(shape, 0), tokenizer)
    model = tmp_path / "first" / "model"
    end = tokenizer.end_id
    wanted = json.dumps({"bos_token_id": end, "eos_token_id": end, "do_sample": True}) + "\n"
    assert (model / "generation_config.json").read_text() == wanted
    assert (model / "config.json").read_text() == json.dumps(config_to_hf(shape, end, end), indent=1) + "\n"
    opened = open_checkpoint(tmp_path / "first")
    assert opened[1].end_ids == (end,) and opened[1].files is None
    save_checkpoint(tmp_path / "again", *opened)
    for file in model.iterdir():
        assert (tmp_path / "again" / "model" / file.name).read_bytes() == file.read_bytes()


def test_an_end_token_that_somebody_adds_to_a_checkpoint_of_forays_own_counts(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    save_checkpoint(tmp_path / "first", initialize(CASES["olmo2-grouped"], 0), tokenizer)
    file = tmp_path / "first" / "model" / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [tokenizer.end_id, 7]}))
    opened = open_checkpoint(tmp_path / "first")
    assert opened[1].end_ids == (tokenizer.end_id, 7) and opened[1].start == [tokenizer.end_id]
    save_checkpoint(tmp_path / "again", *opened)
    assert (tmp_path / "again" / "model" / file.name).read_bytes() == file.read_bytes()
    assert load_tokenizer(tmp_path / "again" / "model").end_ids == (tokenizer.end_id, 7)


def test_a_release_is_another_one_with_another_generation_config(theirs: Path) -> None:
    before = Release(str(theirs)).fingerprint()
    (theirs / "generation_config.json").write_text('{"eos_token_id": 281}')
    assert Release(str(theirs)).fingerprint() != before


def test_a_tokenizer_kept_beside_prepared_text_ends_documents_as_the_model_does(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(qwen(tmp_path / "theirs", 0, 0))
    alone = tmp_path / "alone"
    alone.mkdir()
    tokenizer.save(alone, 64)
    again = load_tokenizer(alone)
    assert again.same(tokenizer) and again.separator == [0]
    assert AutoTokenizer.from_pretrained(alone)("Q: 3")["input_ids"] == tokenizer.encode("Q: 3")
    agreeing = load_tokenizer(qwen(tmp_path / "theirs", 280, 280))
    other = tmp_path / "other"
    other.mkdir()
    agreeing.save(other, 64)
    assert not (other / "config.json").exists() and load_tokenizer(other).separator == [280]


def test_scored_texts_follow_what_lm_eval_puts_before_them(theirs: Path) -> None:
    """lm-eval's own model asks only the tokenizer. Foray does the same, to keep scores comparable."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    class Probes:
        names, limit, metric = ("probe",), None, "acc"

        def prepare(self, scratch: Path) -> dict[str, Path]:
            return {}

        def chance(self, name: str) -> float:
            return 0.5

    made: list[Any] = []
    model, tokenizer = open_checkpoint(theirs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.evals.abilities.run_probes", lambda lm, *_: made.append(lm) or {})
        evaluate_probes(Probes(), model, tokenizer)  # type: ignore[arg-type]
    reference = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(theirs, dtype=torch.float32),
        tokenizer=AutoTokenizer.from_pretrained(theirs), device="cpu", dtype="float32", max_length=96,
    )  # fmt: skip
    assert made[0].codec.end_id == reference.eot_token_id == NAMED[TURN] != tokenizer.end_id
    requests = [Instance("loglikelihood", {}, asked, 0) for asked in (("", "3 + 4"), ("Q: 3", " + 4"))]
    for a, b in zip(*(lm.loglikelihood(requests, disable_tqdm=True) for lm in (made[0], reference))):
        assert a == pytest.approx(b, abs=1e-4)
