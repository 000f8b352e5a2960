"""The weights that a folder stands for, compared with transformers' computation from the same folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from foray.model import hf
from foray.study.published import Release
from test_families import CASES, published, tokens

UNTIED, TIED = CASES["llama-untied"], CASES["qwen2"]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
INDEX = "model.safetensors.index.json"


def test_one_case_is_tied_and_one_is_not() -> None:
    assert TIED.tied and not UNTIED.tied


def whole(folder: Path, shape: Any = UNTIED, **how: Any) -> Path:
    published(shape, folder, **how)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, torch.Tensor], name: str = "model.safetensors") -> None:
    save_file({k: v.clone() for k, v in tensors.items()}, folder / name, metadata={"format": "pt"})


def configured(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in found.items() if v != "absent"}))


def indexed(folder: Path, places: dict[str, str], **more: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **more}))


def sharded(folder: Path, change: float = 0.0) -> None:
    """The folder's weights, changed, in two files and an index."""
    tensors = {k: v + change for k, v in weights(folder).items()}
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        write(folder, {k: tensors[k] for k in part}, file)
    indexed(folder, {k: file for file, part in parts.items() for k in part})


def logits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    theirs, ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), hf.load_model(folder)
    ids = tokens(ours.config)
    with torch.no_grad():
        return ours.logits(ids), theirs(ids).logits


def equal(folder: Path) -> torch.Tensor:
    ours, theirs = logits(folder)
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    return theirs


def stale_index(folder: Path) -> None:
    sharded(folder, change=0.02)


def leftover_index(folder: Path) -> None:
    """An index left over from a sharded save, without its shards."""
    sharded(folder)
    for file in folder.glob("model-*.safetensors"):
        file.unlink()


def broken_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def other_files(folder: Path) -> None:
    changed = {k: v + 0.02 for k, v in weights(folder).items()}
    for name in ("consolidated", "adapter_model", "model.fp16", "a"):
        write(folder, changed, f"{name}.safetensors")


def other_files_beside_shards(folder: Path) -> None:
    other_files(folder)
    sharded(folder)
    (folder / "model.safetensors").unlink()


def a_tensor_in_two_shards(folder: Path) -> None:
    sharded(folder)
    (folder / "model.safetensors").unlink()
    last = folder / "model-00002-of-00002.safetensors"
    head = load_file(folder / "model-00001-of-00002.safetensors")[HEAD]
    write(folder, {**load_file(last), HEAD: head + 0.1}, last.name)


def chosen_by_the_config(folder: Path) -> None:
    write(folder, {k: v + 0.02 for k, v in weights(folder).items()}, "other.safetensors")
    configured(folder, transformers_weights="other.safetensors")


def from_the_model_without_its_head(folder: Path) -> None:
    tensors = weights(folder)
    assert HEAD in tensors
    write(folder, {k.removeprefix("model."): v for k, v in tensors.items()})


@pytest.mark.parametrize(
    "change",
    [
        stale_index, leftover_index, broken_index, other_files, other_files_beside_shards, a_tensor_in_two_shards,
        chosen_by_the_config, from_the_model_without_its_head,
    ],
)  # fmt: skip
def test_a_folder_is_what_transformers_takes_it_for(tmp_path: Path, change: Callable[[Path], None]) -> None:
    before = equal(whole(tmp_path))
    change(tmp_path)
    after = equal(tmp_path)
    changed = change in (a_tensor_in_two_shards, chosen_by_the_config)
    assert torch.equal(before, after) != changed


def test_a_key_is_that_of_the_weights_which_are_loaded(tmp_path: Path) -> None:
    before = Release(str(whole(tmp_path))).fingerprint()
    stale_index(tmp_path)
    assert Release(str(tmp_path)).fingerprint() == before
    chosen_by_the_config(tmp_path)
    assert Release(str(tmp_path)).fingerprint() != before


def unnamed(folder: Path) -> None:
    """Shards that no index names."""
    sharded(folder)
    (folder / INDEX).unlink()
    (folder / "model.safetensors").unlink()


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "theirs.safetensors")
    indexed(folder, dict.fromkeys(("a", "b"), "../theirs.safetensors"))


def far_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "theirs.safetensors")
    indexed(folder, {"a": str(folder.parent / "theirs.safetensors")})


def chosen_outside(folder: Path) -> None:
    configured(folder, transformers_weights="../model.safetensors")


def chosen_and_gone(folder: Path) -> None:
    configured(folder, transformers_weights="gone.safetensors")


def without_a_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text('{"metadata": {}}')


def with_a_list(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text('{"weight_map": ["a"]}')


def with_no_settings(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def with_no_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text("[]")


def of_numbers(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    indexed(folder, {"a": 3})  # type: ignore[dict-item]


def a_shard_gone(folder: Path) -> None:
    sharded(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()


def an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unnamed, r"model.safetensors or model.safetensors.index.json are needed; model-00001-of-00002.safetensors"),
        (outside, r"index.json names ../theirs.safetensors, which is outside of its folder"),
        (far_outside, r"index.json names /.*theirs.safetensors, which is outside of its folder"),
        (chosen_outside, r"config.json names ../model.safetensors, which is outside of its folder"),
        (chosen_and_gone, r"gone.safetensors is missing, which config.json names as transformers_weights"),
        (without_a_map, "index.json has no weight_map from tensors to files"),
        (with_a_list, "index.json has no weight_map from tensors to files"),
        (with_no_map, "index.json is damaged: it holds no settings by name"),
        (with_no_settings, "config.json is damaged: it holds no settings by name"),
        (of_numbers, "index.json has no weight_map from tensors to files"),
        (a_shard_gone, "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"),
        (an_adapter, "holds an adapter .* merge it into the weights"),
    ],
)
def test_a_folder_that_stands_for_no_weights_is_refused(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = whole(tmp_path / "model")
    change(folder)
    for read in (hf.load_model, lambda folder: Release(str(folder)).fingerprint()):
        with pytest.raises(ValueError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)


# --- the head and the embedding -------------------------------------------------------------------------------------


def test_a_tied_config_beside_another_head_is_refused(tmp_path: Path) -> None:
    """transformers goes on with both matrices."""
    tensors = weights(whole(tmp_path, TIED))
    equal(tmp_path)
    write(tmp_path, {**tensors, HEAD: tensors[EMBEDDING] + 0.1})
    with pytest.raises(ValueError, match=rf'hold another {HEAD}: set "tie_word_embeddings": false') as error:
        hf.load_model(tmp_path)
    assert "\n" not in str(error.value)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not torch.equal(theirs.lm_head.weight, theirs.model.embed_tokens.weight)
    configured(tmp_path, tie_word_embeddings=False)  # what the message says
    equal(tmp_path)
    write(tmp_path, {**tensors, HEAD: tensors[EMBEDDING][:-1]})
    configured(tmp_path, tie_word_embeddings=True)
    with pytest.raises(ValueError, match="the weights do not fit"):
        hf.load_model(tmp_path)


@pytest.mark.parametrize("order", ["embedding first", "head first"])
def test_the_two_are_compared_whichever_file_they_are_in(tmp_path: Path, order: str) -> None:
    tensors = weights(whole(tmp_path, TIED))
    (tmp_path / "model.safetensors").unlink()
    first, second = (EMBEDDING, HEAD) if order == "embedding first" else (HEAD, EMBEDDING)
    for change in (0.0, 0.1):
        both = {EMBEDDING: tensors[EMBEDDING], HEAD: tensors[EMBEDDING] + change}
        write(tmp_path, {k: v for k, v in tensors.items() if k != EMBEDDING} | {first: both[first]}, "a.safetensors")
        write(tmp_path, {second: both[second]}, "b.safetensors")
        indexed(tmp_path, {**dict.fromkeys([*tensors, first], "a.safetensors"), second: "b.safetensors"})
        if change:
            with pytest.raises(ValueError, match="hold another"):
                hf.load_model(tmp_path)
        else:
            equal(tmp_path)


def test_a_tied_model_may_be_saved_by_its_head_alone(tmp_path: Path) -> None:
    tensors = weights(whole(tmp_path, TIED))
    before = equal(tmp_path)
    write(tmp_path, {HEAD if k == EMBEDDING else k: v for k, v in tensors.items()})
    assert torch.equal(equal(tmp_path), before)
    write(tmp_path, {k: v for k, v in tensors.items() if k != EMBEDDING})
    with pytest.raises(ValueError, match=rf"1 are missing, {EMBEDDING}"):
        hf.load_model(tmp_path)


def test_a_tied_model_may_be_saved_without_its_prefix(tmp_path: Path) -> None:
    tensors = weights(whole(tmp_path, TIED))
    before = equal(tmp_path)
    write(tmp_path, {k.removeprefix("model."): v for k, v in tensors.items()})
    assert torch.equal(equal(tmp_path), before)


@pytest.mark.parametrize("name", ["", "output.weight", "embed_out.weight", "score.weight"])
def test_an_untied_model_without_its_head_is_refused(tmp_path: Path, name: str) -> None:
    """transformers would make up a random one."""
    tensors = weights(whole(tmp_path))
    head = tensors.pop(HEAD)
    write(tmp_path, {**tensors, name: head} if name else tensors)
    with pytest.raises(ValueError, match=rf"\({name} is .* has none\)" if name else rf"missing, {HEAD}\) \(where"):
        hf.load_model(tmp_path)


@pytest.mark.parametrize("case", ["olmo2-grouped", "llama", "qwen2", "qwen3"])
def test_without_a_word_a_model_is_not_tied(tmp_path: Path, case: str) -> None:
    """The class of every family has this default."""
    whole(tmp_path, replace(CASES[case], tied=False))
    configured(tmp_path, tie_word_embeddings="absent")
    equal(tmp_path)


def test_what_ties_is_true_or_false(tmp_path: Path) -> None:
    whole(tmp_path)
    for value in (None, "false", 0):
        configured(tmp_path, tie_word_embeddings=value)
        with pytest.raises(ValueError, match=f"tie_word_embeddings is true or false, not {value!r}"):
            hf.load_model(tmp_path)


# --- settings that make another function of the same weights --------------------------------------------------------

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": LLAMA3},
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 16}},
        {"rope_scaling": LLAMA3, "original_max_position_embeddings": 16},
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 32}, "original_max_position_embeddings": 16},
        {"rope_parameters": LLAMA3 | {"rope_theta": 300.0}, "rope_theta": 20_000.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}, "rope_scaling": LLAMA3},
        {"rope_parameters": "absent", "rope_theta": 300.0, "rope_scaling": None},
        {"rope_parameters": "absent", "rope_theta": "absent"},
        {"rms_norm_eps": "absent"},
        {"partial_rotary_factor": 1.0},
    ],
)
def test_rotary_and_other_settings_are_read_as_transformers_reads_them(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    configured(whole(tmp_path), **settings)
    model = hf.load_model(tmp_path)
    before = equal(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    hf.save_model(model, out, 0)
    torch.testing.assert_close(equal(out), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partial_rotary_factor": 0.5, "rope_scaling": LLAMA3}, "part of each head"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 300.0}}}, "by kinds of layers"),
    ],
)
def test_rotary_settings_that_foray_lacks_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    configured(whole(tmp_path), **settings)
    with pytest.raises(ValueError, match=message):
        hf.load_model(tmp_path)


def test_weights_of_another_precision_are_exported_unchanged(tmp_path: Path) -> None:
    """A bf16 number is the same number in fp32, and the export says fp32."""
    whole(tmp_path / "theirs", dtype=torch.bfloat16)
    out = tmp_path / "out"
    out.mkdir()
    hf.save_model(hf.load_model(tmp_path / "theirs"), out, 0)
    with (
        safe_open(tmp_path / "theirs" / "model.safetensors", "pt") as a,
        safe_open(out / "model.safetensors", "pt") as b,
    ):
        assert set(a.keys()) == set(b.keys())
        assert all(torch.equal(a.get_tensor(k).float(), b.get_tensor(k)) for k in b.keys())  # noqa: SIM118
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"
