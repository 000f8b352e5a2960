"""Checkpoints of the hub as a user has them: in a fresh process, offline, in a cache, in folders of a repository."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from foray.cli import main
from foray.core.override import override
from foray.data.prepare import load_mix
from foray.data.repository import Repository
from foray.data.tokenizer import load_tokenizer
from foray.model import hf
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds.models import ImportNode, open_checkpoint
from foray.study.kinds.training import TrainNode
from foray.study.named_studies import load_study
from foray.study.published import Release, import_checkpoint
from foray.study.run import run_study
from foray.study.spec import Published
from foray.study.store import Store
from foray.world import WorldProblems
from test_published import SHAPE, hub_error, olmo_tokenizer, quiet, refused, settings, spoiled, stand_in, study

ROOT = Path(__file__).parents[1]
STORIES = ROOT.parent / "shared" / "data" / "models" / "stories260k_hf"
WIDE = replace(SHAPE, vocab_size=400, context=512)

# A study that knows nothing of these tests, which import what a fresh process has not.
OWN = """
from dataclasses import replace
import foray.report
from foray.studies import smoke
from foray.study.published import Release
from foray.study.spec import Published

foray.report.discover = list  # drawing takes most of a small study's time


def study():
    base = smoke.study()
    return replace(
        base, name="own", recipes=("rl",), model={model},
        pretrain=Published((("org/name", "early", 1000), ("org/name", "late", 3000))),
        evaluation=replace(
            base.evaluation, problems=4, samples=2, k=(1, 2), base_shots=(0,), max_new_tokens=8, probes=None,
            dynamics=None, contamination=0,
        ),
    )
"""
SHAPE_OF = 'Release("org/name", "early").shape()'


def world_texts() -> list[str]:
    task = WorldProblems("easy")
    return [task.prompt(p.question) + task.target(p.solutions[0]) for p in task.problems("train", 50)]


def to_cache(root: Path, source: str, revision: str, folder: Path) -> Path:
    """A folder's files as the hub's client keeps them: blobs, and links to them by commit. Returns the snapshot."""
    repository = root / f"models--{source.replace('/', '--')}"
    commit = hashlib.sha1(f"{source}@{revision}".encode()).hexdigest()
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    for file in (f for f in folder.rglob("*") if f.is_file()):
        blob = repository / "blobs" / hashlib.sha256(f"{commit} {file}".encode()).hexdigest()
        link = repository / "snapshots" / commit / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return repository / "snapshots" / commit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with a tokenizer trained on the world's problems."""
    root = tmp_path_factory.mktemp("made")
    texts = world_texts()
    for seed, name in enumerate(("early", "late")):
        olmo_tokenizer(stand_in(root / name, WIDE, seed), texts, 398)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil, in a folder ``copy``."""
    shutil.copytree(made / "late", tmp_path / "copy")
    return tmp_path / "copy"


def fresh(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``foray`` in a fresh process without earlier imports."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run([sys.executable, "-m", "foray", *words], env=env, capture_output=True, text=True, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("foray: ") and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout and "died" not in done.stdout
    return done.stderr


# --- a fresh process ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fresh_process_without_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    home, own = str(tmp_path / "home"), tmp_path / "own.py"
    own.write_text(OWN.format(model=SHAPE_OF))
    said = one_line(fresh("plan", str(own), "--store", str(tmp_path / "store"), HF_HOME=home))
    assert "org/name@early is not in the local cache and cannot be fetched" in said and home not in said


@pytest.mark.slow
def test_the_bundled_study_of_hub_models_is_refused_offline_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        rows = (
            {"question": f"How many does {name} have after {i}?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"}
            for i in range(7473)
        )
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = fresh(
        "run", "olmo2_public", "--set", f"data.root={tmp_path}", "--store", str(tmp_path / "store"), "--jobs", "3",
        HF_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    said = one_line(done)
    assert re.search(r"allenai/OLMo-2-0425-1B\S*@stage1-step\d+-tokens\d+B is not in the local cache", said)
    assert "home" not in said


@pytest.mark.slow
def test_a_fresh_process_runs_two_revisions_of_a_cache_to_their_report(made: Path, tmp_path: Path) -> None:
    for name in ("early", "late"):
        to_cache(tmp_path / "home" / "hub", "org/name", name, made / name)
    own, store = tmp_path / "own.py", tmp_path / "store"
    own.write_text(OWN.format(model=SHAPE_OF))
    done = fresh("run", str(own), "--store", str(store), "--jobs", "2", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    table = (store / "report" / "results.csv").read_text().splitlines()
    rows = [dict(zip(table[0].split(","), line.split(","))) for line in table[1:]]
    assert {(r["tokens"], r["recipe"]) for r in rows} == {(t, r) for t in ("1000", "3000") for r in ("base", "rl")}
    assert (store / "report" / "index.html").exists()
    planned = fresh("plan", str(own), "--store", str(store), HF_HUB_CACHE=str(tmp_path / "home" / "hub"))
    assert planned.returncode == 0 and " 0 to run" in planned.stdout and "import org/name@late" in planned.stdout


def test_libraries_are_asked_only_for_what_a_fresh_import_of_them_has() -> None:
    """A name that exists only after another import of the module would hide behind the imports of the tests."""
    code = (
        "import datasets, huggingface_hub as hub\n"
        "datasets.disable_progress_bars, datasets.load_dataset, datasets.load_from_disk\n"
        "datasets.get_dataset_config_names, datasets.Dataset.from_list, datasets.DatasetDict\n"
        "from foray.data.hub import client\n"
        "assert client() is hub\n"
        "hub.snapshot_download, hub.list_repo_refs, hub.list_repo_files\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True)
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"\b(hub|huggingface_hub|datasets|library)\.(utils|errors|constants)\b(?! import)", (
            file.read_text())), f"{file.name} reaches a module that the import alone does not have"  # fmt: skip


# --- what a hub or a folder may hold --------------------------------------------------------------------------------


def hub_study(path: str, revision: str = "main", **more: Any) -> Any:
    return study(Path(), (path, revision, 1000), model=replace(WIDE, init_std=0.02), **more)


def test_a_series_in_folders_of_a_repository_is_a_series_of_checkpoints(
    made: Path, tmp_path: Path, cache: Path
) -> None:
    """The series is on the hub or a local copy, with a tokenizer in each folder or one above all folders."""
    whole = tmp_path / "whole"
    shutil.copytree(made / "early", whole / "steps" / "step1000")
    shutil.copytree(made / "late", whole / "steps" / "step2000")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(whole / "steps" / "step1000" / name, whole / name)
        (whole / "steps" / "step2000" / name).unlink()
    snapshot = to_cache(cache, "org/series", "main", whole)
    of_hub = [Release(f"org/series/steps/step{n}", "main") for n in (1000, 2000)]
    assert of_hub[0].name == "org/series@main/steps/step1000"
    assert of_hub[0].fingerprint() != of_hub[1].fingerprint(), "the folder is part of what a result was made of"
    listed = tuple((r.source, r.revision, n) for n, r in enumerate(of_hub, 1))
    model = of_hub[0].shape()
    pretrain = Published(listed)
    nodes = [n for n in expand(study(Path(), pretrain=pretrain, model=model)).nodes if isinstance(n, ImportNode)]
    assert len({n.key for n in nodes}) == 2
    for node, name in zip(nodes, ("early", "late")):
        folder = run_node(node, Store(tmp_path / "store"))
        ours, tokenizer = open_checkpoint(folder)
        theirs = hf.load_model(made / name)
        ids = torch.tensor([tokenizer.encode_prompt("Tom has 3 pens")])
        assert torch.equal(ours.logits(ids), theirs.logits(ids))
    with pytest.raises(ValueError, match=r"steps has no config\.json, its folders have: .*valid: step1000, step2000"):
        Release(str(whole / "steps")).fingerprint()
    local = [Release(str(whole / "steps" / f"step{n}")) for n in (1000, 2000)]
    assert local[0].fingerprint() != local[1].fingerprint() and local[0].shape() == model
    with pytest.raises(ValueError, match=r"step1000 has no tokenizer\.json"):
        import_checkpoint(local[0], model, tmp_path / "none")  # two above: the hub says what belongs together, this not
    shutil.copyfile(whole / "tokenizer.json", whole / "steps" / "tokenizer.json")
    before = local[0].fingerprint()
    shutil.copyfile(whole / "tokenizer_config.json", whole / "steps" / "tokenizer_config.json")
    assert local[0].fingerprint() != before, "a tokenizer that is shared counts"
    (tmp_path / "out").mkdir()
    import_checkpoint(local[0], model, tmp_path / "out")
    assert snapshot.exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "org/series",
            r"org/series@main has no config.json, its folders have: .*valid: steps/step1000, steps/step2000",
        ),
        ("org/series/steps/step100", r"org/series@main has no folder 'steps/step100'.*did you mean 'steps/step1000'"),
        ("org/series/../x", "is no hub id, nor a folder inside a repository"),
    ],
)
def test_a_folder_that_a_repository_does_not_have(
    made: Path, tmp_path: Path, cache: Path, path: str, message: str
) -> None:
    for name, step in (("early", 1000), ("late", 2000)):
        shutil.copytree(made / name, tmp_path / "whole" / "steps" / f"step{step}")
    to_cache(cache, "org/series", "main", tmp_path / "whole")
    refused(hub_study(path), tmp_path, message)


def test_what_is_fetched_is_the_folder_and_the_tokenizers_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import filter_repo_objects

    asked: dict[str, Any] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda source, **how: asked.update(how) or "/nowhere")
    files = ["config.json", "tokenizer.json", "model.safetensors", "a/1/config.json", "a/1/model.safetensors",
             "a/1/optimizer/x.safetensors", "a/1/pytorch_model.bin", "a/tokenizer.model"]  # fmt: skip
    for path, wanted in (("o/n", files[:3]), ("o/n/a/1", ["tokenizer.json", *files[3:5], "a/tokenizer.model"])):
        with pytest.raises(ValueError, match="o/n@r"), Repository(path, "r").opened() as folder:
            raise ValueError(f"{folder} is asked")
        rules = {k: v for k, v in asked.items() if k.endswith("patterns")}
        assert list(filter_repo_objects(files, **rules)) == wanted


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["pytorch_model.bin.index.json"],
            r"holds its weights as pickles \(\*\.bin\.index\.json\), which Foray does not",
        ),
        (["pytorch_model.bin", "flax_model.msgpack"], r"pickles \(\*\.bin\).*save_pretrained"),
        (["consolidated.00.pth"], r"pickles \(\*\.pth\)"),
        (["model.Q4_K_M.gguf"], r"GGUF .*gguf_file"),
        (["tf_model.h5", "training_args.bin"], "TensorFlow's"),
        (["flax_model.msgpack"], "Flax's"),
        (["onnx/model.onnx"], "ONNX"),
    ],
)
def test_weights_in_another_format_are_named_as_such(
    copy: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    """The format shows in the hub's listing, without a fetch, and in the content of a cache or a folder."""
    (copy / "model.safetensors").unlink()
    to_cache(cache, "org/listed", "main", copy)
    if names[0].endswith(".json"):
        (copy / names[0]).write_text("{}")
        to_cache(cache, "org/indexed", "main", copy)
        refused(hub_study("org/indexed"), tmp_path, f"org/indexed@main {message}")
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda *_, **__: ["config.json", *names])
    refused(hub_study("org/listed"), tmp_path, f"org/listed@main.*{message}")
    for name in names:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"{}")
    if "/" not in names[0]:
        with pytest.raises(ValueError, match=message):
            hf.weight_files(copy)


def test_a_cache_without_the_weights_is_not_taken_for_a_model_without_any(
    copy: Path, tmp_path: Path, cache: Path
) -> None:
    (copy / "model.safetensors").unlink()
    to_cache(cache, "org/part", "main", copy)
    refused(hub_study("org/part"), tmp_path, r"of org/part@main the local cache has no weights .*HF_HUB_OFFLINE")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    copy: Path, tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(copy / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.bfloat16)
    weights[name][3, 4] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    message = rf"model\.safetensors: {re.escape(name)} holds 1 NaN or infinite"
    refused(study(tmp_path, ("copy", "", 1000), model=replace(WIDE, init_std=0.02)), tmp_path, message)
    assert main(["eval", str(copy), "--task", "world_easy", "--problems", "1", "--samples", "1", "--k", "1"]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_large_weights_are_numbers(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 3e38)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert float(hf.load_model(copy).state_dict()["model.norm.weight"][0]) > 1e38


# --- tokenizers -----------------------------------------------------------------------------------------------------


def add(folder: Path, **token: Any) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<pad>", **token)])
    tokenizer.save(str(folder / "tokenizer.json"))


def entries(folder: Path) -> int:
    return load_tokenizer(folder).vocab_size


@pytest.mark.parametrize("listed", [False, True])
def test_an_entry_beyond_the_vocabulary_that_no_text_reaches_is_let_pass(tmp_path: Path, listed: bool) -> None:
    """Llama 2's ``<pad>`` is such an entry: its id is the first beyond the model's.

    The entry may be in BPE's vocabulary.
    """
    folder = tmp_path / "copy"
    folder.mkdir()
    olmo_tokenizer(folder)
    have = entries(folder)
    stand_in(folder, replace(SHAPE, vocab_size=have))
    add(folder, special=True)
    if listed:
        raw = json.loads((folder / "tokenizer.json").read_text())
        raw["model"]["vocab"]["<pad>"] = have
        (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert entries(folder) == have + 1 and load_tokenizer(folder).reach <= have
    if listed:
        return
    made_ = study(tmp_path, ("copy", "", 3000), model=replace(SHAPE, vocab_size=have, init_std=0.02), recipes=("rl",))
    made_, store = override(made_, "evaluation.base_shots=1"), Store(tmp_path / "store")
    for node in expand(made_).nodes:
        run_node(node, store)
    (node,) = [n for n in expand(made_).nodes if isinstance(n, TrainNode)]
    model, tokenizer = open_checkpoint(node.folder(store))
    assert model.config.vocab_size == have and max(tokenizer.encode_prompt("a<pad>b")) < have


@pytest.mark.parametrize("how", ["matched in text", "the end token", "a start token"])
def test_an_entry_beyond_the_vocabulary_that_is_reached_is_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    olmo_tokenizer(folder)
    have = entries(folder)
    stand_in(folder, replace(SHAPE, vocab_size=have))
    add(folder, special=how != "matched in text")
    if how == "the end token":
        settings(folder, eos_token="<pad>")
    if how == "a start token":
        from tokenizers import processors

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = [("<pad>", tokenizer.token_to_id("<pad>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<pad> $A", special_tokens=special)
        tokenizer.save(str(folder / "tokenizer.json"))
    made_ = study(tmp_path, ("copy", "", 3000), model=replace(SHAPE, vocab_size=have, init_std=0.02))
    refused(made_, tmp_path, rf"ids up to {have} .*more than the model's {have} \(the first is {have}, '<pad>'\)")
    with pytest.raises(ValueError, match="resize_token_embeddings"):
        open_checkpoint(folder)


def test_a_tokenizer_mismatch_shows_the_first_tokens_that_differ(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foray.study.published import _PROBE

    right = load_tokenizer(made / "late").encode_prompt(_PROBE)
    wrong = [*right[:7], right[7] + 1, *right[8:]]
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda _: lambda text: {"input_ids": wrong})
    text = load_tokenizer(made / "late").tokenizer.id_to_token(right[7])
    message = re.escape(f"first at token 7: {right[7]} {text!r}, ")
    refused(study(made, ("late", "", 1), model=replace(WIDE, init_std=0.02)), tmp_path, message)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda _: lambda text: {"input_ids": right[:5]})
    refused(study(made, ("late", "", 1), model=replace(WIDE, init_std=0.02)), tmp_path, "at token 5: .*nothing more")


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json"])
def test_a_tokenizer_in_another_format_says_how_to_make_one(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / "tokenizer.json").rename(copy / name)
    made_ = study(tmp_path, ("copy", "", 1), model=replace(WIDE, init_std=0.02))
    refused(made_, tmp_path, rf"has no tokenizer.json, only {name}: .*AutoTokenizer.*save_pretrained")


@pytest.mark.parametrize("settings_file", [{"eos_token": None}, {}, None])
def test_the_end_token_is_read_where_it_stands(copy: Path, settings_file: dict[str, Any] | None) -> None:
    end = load_tokenizer(copy).tokenizer.token_to_id("<|pad|>")
    (copy / "tokenizer_config.json").unlink()
    if settings_file is not None:
        settings(copy, **settings_file)
    (copy / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|pad|>"}}))
    (copy / "generation_config.json").unlink()
    spoiled(copy, "config.json", eos_token_id=None)
    assert load_tokenizer(copy).end_id == end and load_tokenizer(copy).start == []
    (copy / "special_tokens_map.json").unlink()
    spoiled(copy, "config.json", eos_token_id=end)
    assert load_tokenizer(copy).end_id == end
    spoiled(copy, "config.json", eos_token_id=None)
    with pytest.raises(ValueError, match=r"no end token.*eos_token in tokenizer_config\.json"):
        load_tokenizer(copy)


# --- what the hub says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "org/name@main is no checkpoint: it has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), r"org/name@main/config.json is damaged .*hf download org/name"),
        (lambda f: spoiled(f, "config.json", model_type="gpt_neox"), "org/name@main: model_type is 'gpt_neox'"),
        (lambda f: spoiled(f, "config.json", hidden_size=None), "org/name@main/config.json has no hidden_size"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 90), r"org/name@main/model.safetensors is damaged"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), r"org/name@main/tokenizer.json is damaged"),
        (lambda f: (f / "tokenizer.json").unlink(), "org/name@main has no tokenizer.json"),
        (lambda f: (f / "tokenizer_config.json").write_text("{]"), "org/name@main/tokenizer_config.json.* is damaged"),
    ],
)
def test_what_is_wrong_with_a_revisions_files_is_said_of_the_revision(
    copy: Path, tmp_path: Path, cache: Path, spoil: Any, message: str
) -> None:
    spoil(copy)
    to_cache(cache, "org/name", "main", copy)
    with pytest.raises(ValueError, match=message) as error:
        run_study(hub_study("org/name"), Store(tmp_path / "store"), quiet())
    text = str(error.value)
    assert str(tmp_path) not in text and "snapshots" not in text and "\n" not in text
    assert "delete its folder" not in text, "the cache is no folder of a study's"


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("GatedRepoError", "403", "org/name@step1/deep is gated: accept its terms at https://huggingface.co/org/name,"),
        ("RepositoryNotFoundError", "404", r"no model org/name .*\(org/name@step1/deep\): it may have been renamed"),
        ("RevisionNotFoundError", "404", "no revision 'step1'; did you mean 'step10'.*renamed or deleted"),
        ("HfHubHTTPError", "301 Moved Permanently", r"refuses \(301 Moved.*whether it was moved"),
        ("DisabledRepoError", "403 Forbidden", r"org/name@step1/deep .* the hub refuses \(403 Forbidden\)"),
    ],
)
def test_gated_and_moved_models_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise hub_error(kind, words)

    refs = SimpleNamespace(branches=[SimpleNamespace(name="main")], tags=[SimpleNamespace(name="step10")])
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.list_repo_refs", lambda _: refs)
    refused(hub_study("org/name/deep", "step1"), tmp_path, message)


def test_what_the_hub_refuses_is_not_taken_for_a_missing_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise hub_error("LocalEntryNotFoundError", "Got: an error") from hub_error("HfHubHTTPError", "429 Too Many")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    refused(hub_study("org/name"), tmp_path, r"the hub refuses \(429 Too Many\)")


def test_a_mixs_tokenizer_comes_from_the_hub_with_the_same_lines(made: Path, cache: Path, tmp_path: Path) -> None:
    from foray.data.prepare import _tokenizer

    to_cache(cache, "org/name", "main", made / "late")
    mix = replace(load_mix("world_1b"), tokenizer="org/name")
    assert _tokenizer(mix).same(load_tokenizer(made / "late"))
    with pytest.raises(ValueError, match=r"nor to be had from the hub .*org/other@main is not in the local cache"):
        _tokenizer(replace(mix, tokenizer="org/other"))


# --- the guide --------------------------------------------------------------------------------------------------------

SMALL = [
    "evaluation.problems=2", "evaluation.samples=2", "evaluation.k=1,2", "evaluation.max_new_tokens=4",
    "evaluation.base_shots=0", "evaluation.probes=none", "evaluation.contamination=0", "post.rl.questions=8",
    "post.sft.questions=8", "post.rl.prompts=2", "post.rl.updates_per_draw=1", "post.rl.group_size=2",
    "post.rl.max_new_tokens=4", "post.rl.validation=0", "post.sft.batch_size=2", "post.rl_steps=1", "post.sft_steps=1",
]  # fmt: skip


def guides_example() -> str:
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Published(" in b]
    return block


def test_the_guides_example_of_published_checkpoints_runs_as_printed(made: Path, cache: Path, tmp_path: Path) -> None:
    to_cache(cache, "HuggingFaceTB/SmolLM2-135M", "main", made / "late")
    file, store = tmp_path / "example.py", Store(tmp_path / "store")
    file.write_text(guides_example())
    assert len(expand(load_study(str(file))).nodes) >= 20
    for node in expand(load_study(str(file), [*SMALL, "recipes=rl,parallel"])).nodes:
        run_node(node, store)


# --- a model that somebody trained ----------------------------------------------------------------------------------


@pytest.mark.skipif(not STORIES.exists(), reason="the checkpoint is not there")
def test_a_trained_checkpoint_is_evaluated_and_goes_through_rl_sft_and_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draw_only: Any
) -> None:
    from foray.studies import smoke

    words = ["--task", "world_easy", "--problems", "2", "--samples", "2", "--k", "1", "--max-new-tokens", "8"]
    assert main(["eval", str(STORIES), *words]) == 0
    assert "2 problems x 2 samples" in capsys.readouterr().out
    base = smoke.study()
    made_ = replace(
        base, name="stories", model=Release(str(STORIES)).shape(), recipes=("rl", "sft", "parallel"),
        pretrain=Published(((str(STORIES), "", 1000),)), evaluation=replace(base.evaluation, dynamics=None),
    )  # fmt: skip
    made_, store = override(made_, *SMALL), Store(tmp_path)
    draw_only()
    index = run_study(made_, store, quiet())
    assert index.exists() and {"rl", "sft", "parallel"} <= {e.recipe for e in expand(made_).entries}
    text = "Once upon a time, there was a little girl named Lily. She has 3 + 4 naïve pens."
    for entry in expand(made_).entries:
        if isinstance(entry.node, ImportNode | TrainNode):
            folder = entry.node.folder(store)
            ours, tokenizer = open_checkpoint(folder)
            ids = AutoTokenizer.from_pretrained(folder / "model")(text)["input_ids"]
            assert ids == tokenizer.encode_prompt(text) and tokenizer.decode(ids).strip() == text
            theirs = AutoModelForCausalLM.from_pretrained(folder / "model")
            ours_, theirs_ = ours.logits(torch.tensor([ids])), theirs(torch.tensor([ids])).logits
            torch.testing.assert_close(ours_, theirs_, rtol=2e-5, atol=2e-5)
            if isinstance(entry.node, ImportNode):
                first = AutoModelForCausalLM.from_pretrained(STORIES)(torch.tensor([ids])).logits
                torch.testing.assert_close(ours_, first, rtol=0, atol=2e-5)
