"""The findings of fuzzing (`make fuzz`), by kind, and the repetition of its cases."""

from __future__ import annotations

import inspect
import json
import random
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from foray.cli import main
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.model.config import ModelConfig
from foray.model.hf_config import config_from_hf
from foray.model.transformer import Transformer, initialize
from foray.study.run import run_study
from foray.train.checkpoint import save_checkpoint
from fuzzing import mutations, targets
from test_one_line import DEEP, refusal

Said = pytest.CaptureFixture[str]


def test_a_case_is_a_function_of_its_seed(tmp_path: Path) -> None:
    for name, content in (("a.json", b'{"a": [1, "x"]}'), ("a.jsonl", b'{"a": 1}\n{"b": 2}\n'), ("a.bin", bytes(99))):
        made = set()
        for seed in [*range(40), 0]:
            (tmp_path / name).write_bytes(content)
            mutations.file(random.Random(seed), tmp_path / name)
            there = (tmp_path / name).is_file()
            made.add((seed, (tmp_path / name).read_bytes() if there else b"gone"))
            if (tmp_path / name).is_dir():
                (tmp_path / name).rmdir()
        assert len(made) == 40 and len({text for _, text in made}) > 15


def test_what_stands_for_a_run_is_called_as_a_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [import_module(f"foray.commands.{name}") for name in ("on_studies", "watch")]
    for module in modules:
        monkeypatch.setattr(module, "run_study", run_study)  # is put back
    targets._nothing_is_run()
    wanted = [(p.name, p.kind, p.default) for p in inspect.signature(run_study).parameters.values()]
    for module in modules:
        assert module.run_study is not run_study
        given = inspect.signature(module.run_study).parameters.values()
        assert [(p.name, p.kind, p.default) for p in given] == wanted


@pytest.mark.parametrize("name", ["init_std", "embed_std"])
def test_weights_without_spread_are_zeros(config: ModelConfig, name: str) -> None:
    made = initialize(replace(config, **{name: 0.0}), 0).state_dict()
    zeros = {n for n, p in made.items() if p.dim() > 1 and not p.any()}
    assert zeros == {n for n, p in made.items() if p.dim() > 1 and ("embed_tokens" in n) == (name == "embed_std")}


def test_eval_without_out_has_a_folder_to_itself(
    tmp_path: Path, capsys: Said, model: Transformer, tokenizer: TextTokenizer
) -> None:
    save_checkpoint(tmp_path / "model", model, tokenizer)
    rows = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(3)]
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ["eval", str(tmp_path / "model"), "--task", "gsm8k", "--data-root", str(tmp_path), "--problems", "2"]
    words += ["--samples", "2", "--max-new-tokens", "2", "--k", "1"]
    for out in ([], ["--out", str(tmp_path / "out")]):
        code, said = main([*words, *out]), capsys.readouterr()
        assert code == 0, said.err
        assert "2 problems x 2 samples" in said.out
    for content in ("3", "[]"):
        (tmp_path / "out" / "settings.json").write_text(content)
        assert "settings.json is damaged" in refusal(capsys, *words, "--out", str(tmp_path / "out"))


def test_settings_beside_what_is_graded_are_an_object(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "completions.jsonl").write_text("{}\n")
    for content in ("[]", "3", DEEP):
        (tmp_path / "settings.json").write_text(content)
        words = "grade", "-", str(tmp_path / "completions.jsonl"), "--out", str(tmp_path / "out.jsonl")
        assert "settings.json is damaged" in refusal(capsys, *words)


def test_no_text_stands_for_an_object_of_a_study(tmp_path: Path, capsys: Said) -> None:
    for setting in ('sources=[[1.0, "x"]]', "sources.0.1=x", "sources=[]"):
        words = "prepare", "gsm8k_small", "--out", str(tmp_path / "out"), "--set", setting
        assert "--set sources" in refusal(capsys, *words)
    for setting in ('pretrain.mixture=[[1.0, "x"]]', "pretrain.mixture.0=[2.0, null]", 'data.mixture=[[1, "x"]]'):
        assert "a mixture pairs a weight with a text source" in refusal(capsys, "plan", "smoke", "--set", setting)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_with_settings_of_another_shape_is_refused(
    tmp_path: Path, tokenizer: TextTokenizer, file: str
) -> None:
    tokenizer.save(tmp_path, 96)
    (tmp_path / "tokenizer_config.json").write_text("{}")  # as others write them
    for content in ("[]", "3", '["x"]', DEEP):
        (tmp_path / file).write_text(content)
        with pytest.raises(ValueError, match=rf"{file} .*is damaged|{file} is damaged"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "64"), ("hidden_size", 64.5), ("num_hidden_layers", True), ("num_attention_heads", [4]),
        ("vocab_size", {}), ("rope_theta", "x"), ("rope_scaling", "linear"), ("rope_parameters", 5),
        ("layer_types", 3), ("model_type", ["olmo2"]),
    ],
)  # fmt: skip
def test_a_config_with_a_value_of_another_kind_names_it(tmp_path: Path, name: str, value: object) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96}
    known = {"model_type": "olmo2", **sizes, "vocab_size": 300, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(known | {name: value}))
    with pytest.raises(ValueError, match=str(tmp_path)) as error:
        config_from_hf(tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)
