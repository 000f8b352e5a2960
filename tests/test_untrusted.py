"""Foreign checkpoints, corpora, stores and data files: any content gives one line, in little time and memory."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from foray.cli import main
from foray.core import untrusted
from foray.core.files import read_object, write_atomic
from foray.core.untrusted import expect
from foray.data.row_source import RowSource
from foray.data.rows import rows_of
from foray.data.text import Text, documents, parts
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.data.unpacking import all_of, opened
from foray.model import hf
from foray.model.config import ModelConfig
from foray.model.hf_config import config_from_hf
from foray.model.transformer import Transformer
from foray.report import read_results
from foray.train.checkpoint import save_checkpoint

ASK = ("--task", "world_easy", "--problems", "2", "--samples", "2", "--k", "1", "--max-new-tokens", "8")
SPECIAL = ("fifo", "folder", "device", "loop")


@pytest.fixture
def checkpoint(tmp_path: Path, model: Transformer, tokenizer: TextTokenizer) -> Path:
    save_checkpoint(tmp_path, model, tokenizer)
    return tmp_path / "model"


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a refusal, in little time, with nothing else on any channel, not even libraries' warnings."""
    begun = time.monotonic()
    assert main(words) == 1
    out, said = capfd.readouterr()
    assert said.startswith("foray: ") and said.count("\n") == 1 and not out, said
    assert time.monotonic() - begun < 10
    return said


def make(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)


def changed(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
)
def test_only_ordinary_files_of_a_checkpoint_are_opened(
    checkpoint: Path, name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make(checkpoint / name, kind)
    if kind == "loop" and name in ("tokenizer_config.json", "generation_config.json"):
        return  # there is none
    said = refused(capfd, "eval", str(checkpoint), *ASK)
    assert name in said


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"])
def test_json_of_another_shape_is_named(
    checkpoint: Path, name: str, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / name).write_text(content)
    said = refused(capfd, "eval", str(checkpoint), *ASK)
    assert name in said and "is damaged" in said


@pytest.mark.parametrize("content", ["[]", "3", "null", "[" * 100_000])
def test_special_tokens_of_another_shape_are_named(checkpoint: Path, content: str) -> None:
    changed(checkpoint / "tokenizer_config.json", added_tokens_decoder={})  # a published model's
    (checkpoint / "special_tokens_map.json").write_text(content)
    with pytest.raises(ValueError, match=r"special_tokens_map\.json beside it is damaged"):
        load_tokenizer(checkpoint)


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "."}}']
)
def test_an_index_without_files_is_named(checkpoint: Path, index: str, capfd: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(index)
    assert str(checkpoint) in refused(capfd, "eval", str(checkpoint), *ASK)


@pytest.mark.parametrize("value", [10**9, 10**30, 0, 2.5, True, "x", None, [], {}, 1e308])
@pytest.mark.parametrize(
    "name", ["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings", "intermediate_size"]
)
def test_absurd_sizes_are_refused_before_anything_is_made(
    checkpoint: Path, name: str, value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    changed(checkpoint / "config.json", **{name: value})
    assert "config.json" in refused(capfd, "eval", str(checkpoint), *ASK)


def test_a_model_larger_than_its_files_is_not_made(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(checkpoint / "config.json", num_hidden_layers=9000)
    monkeypatch.setattr(hf, "Transformer", lambda config: pytest.fail("the model was made"))
    with pytest.raises(ValueError, match=r"parameters has more than the [\d,]+ bytes there"):
        hf.load_model(checkpoint)


@pytest.mark.parametrize(
    "settings",
    [{"rope_scaling": 3}, {"rope_parameters": "x"}, {"layer_types": 3}, {"model_type": []}, {"rms_norm_eps": "x"},
     {"rope_parameters": None, "rope_theta": 10**400}],
)  # fmt: skip
def test_settings_of_another_kind_are_named(checkpoint: Path, settings: dict[str, Any]) -> None:
    changed(checkpoint / "config.json", **settings)
    with pytest.raises(ValueError, match=r"config\.json|model_type"):
        config_from_hf(checkpoint)


@pytest.mark.parametrize("identity", [4 * 10**9, 10**12, -1])
@pytest.mark.parametrize("special", [True, False])
def test_a_token_beyond_every_vocabulary_is_refused(
    checkpoint: Path, identity: int, special: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    row = {"id": identity, "content": "<zz>", "special": special}
    rest = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"].append(row | rest)
    content["model"]["vocab"]["<zz>"] = identity
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))
    assert "tokenizer.json is damaged" in refused(capfd, "eval", str(checkpoint), *ASK)


@pytest.mark.parametrize("option", ["--shots", "--samples", "--problems", "--max-new-tokens"])
@pytest.mark.parametrize("value", [10**9, 10**30])
def test_a_billion_of_anything_is_refused_at_once(
    checkpoint: Path, option: str, value: int, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refused(capfd, "eval", str(checkpoint), *ASK, option, str(value))
    assert str(value) in said
    name = {"--shots": "base_shots", "--max-new-tokens": "max_new_tokens"}.get(option, option.strip("-"))
    assert str(value) in refused(capfd, "plan", "smoke", "--set", f"evaluation.{name}={value}")


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_ordinary_files_of_data_are_opened(tmp_path: Path, kind: str) -> None:
    for name in ("a.jsonl", "b.csv", "c.json", "d.parquet", "e.jsonl.gz", "f.txt"):
        make(tmp_path / name, kind)
        with pytest.raises((ValueError, OSError), match=r"no ordinary file|does not exist|symbolic links|damaged"):
            if kind == "folder":
                with opened(tmp_path / name):
                    pass
            list(RowSource(str(tmp_path), name).rows("train"))
        source = Text("s", str(tmp_path / name))
        with pytest.raises((ValueError, OSError), match=r"no ordinary file|no file matches|symbolic links"):
            [list(documents(source, part)) for part in parts(source)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.txt.gz", "a.jsonl"])
def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("foray.core.untrusted", "foray.data.unpacking", "foray.data.rows", "foray.data.text"):
        monkeypatch.setattr(f"{module}.LONGEST", 1 << 16)
    monkeypatch.setattr(untrusted.whole, "__defaults__", (1 << 16,))
    begin = {"a.json.gz": b'["', "a.csv.gz": b"text\n"}.get(name, b'{"text": "')
    content = begin + b"x" * (1 << 22)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    source = Text("s", str(tmp_path / name))
    with pytest.raises(ValueError, match=rf"{name}.*in one piece|field larger than"):
        [list(documents(source, part)) for part in parts(source)]


def test_a_plain_file_of_one_value_may_be_as_long_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foray.data.unpacking.LONGEST", 10)
    (tmp_path / "a.json").write_text('["a", "b", "c", "d"]')
    assert len(all_of(tmp_path / "a.json")) == 20
    assert [row for _, row, _ in rows_of(tmp_path / "a.json", "rows")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("value", "words"),
    [([], "holds no settings"), ({}, "lacks the field n"), ({"n": "x"}, "whole number"), ({"n": True}, "is needed")],
)
def test_an_object_that_is_none_is_named(tmp_path: Path, value: Any, words: str) -> None:
    write_atomic(tmp_path / "a.json", json.dumps(value))
    with pytest.raises(ValueError, match=rf"a\.json is damaged: .*{words}.*; delete it"):
        read_object(tmp_path / "a.json", "delete it", n=int)
    assert expect({"n": 1, "x": 2}, "here", n=int, x=float) == {"n": 1, "x": 2}


def manifest(root: Path, kind: str, files: dict[str, Any]) -> Path:
    place = {"tokens": 1, "recipe": "base", "stage_step": 0, "final": True, "seed": 0}
    entry = {"kind": kind, "folder": "nodes/x"} | place
    (root / "nodes/x").mkdir(parents=True)
    for name, content in files.items():
        (root / "nodes/x" / name).write_text(json.dumps(content) + "\n")
    from foray.core.files import seal

    if kind != "train":
        seal(root / "nodes/x")
    text = {"study": "s", "model_parameters": 1, "k": [1], "entries": [entry]}
    write_atomic(root / "manifest.json", json.dumps(text))
    return root / "manifest.json"


@pytest.mark.parametrize("content", [[], 3, None, "x", {"a": 3}, {"a": []}, {"a": {"value": [], "n": 1, "chance": 0}}])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("probes", "probes.json"), ("perplexity", "perplexity.json"), ("task_text", "perplexity.json"),
     ("passk", "problems.jsonl"),
     ("contamination", "contamination.json"), ("train", "metrics.jsonl"), ("train", "health.json")],
)  # fmt: skip
def test_rows_of_another_shape_are_named_as_missing(tmp_path: Path, kind: str, name: str, content: Any) -> None:
    if (name, content) in (("health.json", []),):
        return
    files = {name: content} if name != "health.json" else {name: content, "metrics.jsonl": {"step": 1}}
    results = read_results(manifest(tmp_path, kind, files))
    assert len(results.missing) == 1 and "\n" not in results.missing[0][1]


@pytest.mark.parametrize("content", ["[]", "3", '{"study": 3}', '{"study": "s", "entries": [3]}'])
def test_a_manifest_of_another_shape_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_results(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"mix": 3}'])
@pytest.mark.parametrize("name", ["mix.json", "index.json", "text/00000.json"])
def test_a_prepared_corpus_of_another_shape_is_named_or_made_again(
    tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "word {i}"}}\n' for i in range(50)))
    (tmp_path / "mix.py").write_text(
        "from foray.data.prepare import Mix, OwnTokenizer\nfrom foray.data.text import Text\n\ndef mix():\n"
        f"    return Mix('m', OwnTokenizer(300, 1000), 100, ((1.0, Text('text', {str(tmp_path / 'a.jsonl')!r})),))\n"
    )
    words = ("prepare", str(tmp_path / "mix.py"), "--out", str(tmp_path / "out"), "--jobs", "1")
    assert main(words) == 0
    (tmp_path / "out" / name).write_text(content)
    capsys.readouterr()
    if name.startswith("text/"):  # made of the sources, whose text is there
        assert main(words) == 0 and (tmp_path / "out" / name).read_text() != content
        return
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("foray: ") and said.count("\n") == 1 and name.rpartition("/")[2] in said


def test_every_size_of_a_model_has_a_bound() -> None:
    for name in ("width", "layers", "heads", "mlp_width", "vocab_size", "context", "kv_heads", "head_width"):
        with pytest.raises(ValueError, match=name):
            ModelConfig(**{name: 10**9})
        with pytest.raises(ValueError, match=f"{name} is 2.5: write a whole number"):
            ModelConfig(**{name: 2.5})  # type: ignore[arg-type]


def test_settings_of_an_evaluation_of_another_shape_are_named(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text("[]")
    (tmp_path / "out" / "completions.jsonl").write_text("{}\n")
    assert "settings.json is damaged" in refused(capfd, "eval", str(checkpoint), *ASK, "--out", str(tmp_path / "out"))
