"""Published checkpoints as M_t: stand-ins in local folders and in a hub cache, from the listing to the report."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import figures
from foray.core.override import override
from foray.core.sources import Corpus
from foray.data.corpus import Shard, write_shard
from foray.data.tokenizer import END, TextTokenizer, load_tokenizer, train_tokenizer
from foray.evals.lm_eval_model import split_pairs
from foray.model.config import ModelConfig
from foray.rollout.engine import Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.study.contracts import check_study
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds.measures import PerplexityNode
from foray.study.kinds.models import ImportNode, open_checkpoint
from foray.study.kinds.training import TrainNode
from foray.study.named_studies import load_study
from foray.study.published import Release
from foray.study.run import run_study
from foray.study.spec import Published, Study
from foray.study.store import Store
from foray.train.supervised import demonstrations
from test_families import CASES, LLAMA, SMALL, published
from test_study import SumsText
from test_study import study as pretrained_study

SHAPE = replace(SMALL, vocab_size=328, context=96, kv_heads=0)
TEXTS = [f"Q: {a} + {b} ?\nA: {a} and {b} make {a + b}\n\n" for a in range(10) for b in range(10)]


def settings(folder: Path, **more: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **more}))


def olmo_tokenizer(folder: Path, texts: list[str] = TEXTS, size: int = 320) -> None:
    """OLMo 2's layout: one token begins and ends documents, another pads, and nothing is put before a text."""
    tokenizer = train_tokenizer(texts, size).tokenizer
    tokenizer.add_special_tokens([AddedToken("<|pad|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings(folder, tokenizer_class="GPT2Tokenizer", bos_token=END, eos_token=END, pad_token="<|pad|>")


def llama3_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer with a token before every text, by the file's own template."""
    tokenizer = train_tokenizer(TEXTS, 320).tokenizer
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    begin = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    tokenizer.save(str(folder / "tokenizer.json"))
    eos = {"__type": "AddedToken", "content": "<|end|>", "lstrip": False, "rstrip": False, "special": True}
    settings(folder, bos_token="<|begin|>", eos_token=eos)


def llama2_tokenizer(folder: Path) -> None:
    """A tokenizer of the Sentencepiece kind: a text gets a space in front, and unknown characters become bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁"]
    pieces += [*"0123456789QA:+?maken", "▁Q", "Q:", "▁Q:", "▁A", "A:"]
    merges = [("▁", "Q"), ("Q", ":"), ("▁Q", ":"), ("▁", "A"), ("A", ":")]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings(folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def qwen_tokenizer(folder: Path) -> None:
    """Qwen's tokenizer as transformers saves it: no token stands before a text, and the end token begins none."""
    from transformers import Qwen2Tokenizer

    parts = json.loads(train_tokenizer(TEXTS, 310).tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in parts["merges"]]
    Qwen2Tokenizer(vocab=parts["vocab"], merges=merges, eos_token=END, unk_token=None).save_pretrained(folder)


def stand_in(folder: Path, shape: ModelConfig = SHAPE, seed: int = 0, **how: Any) -> Path:
    """A small random model of transformers, in the form of a publication."""
    folder.mkdir(parents=True, exist_ok=True)
    theirs = published(shape, folder, **how)
    with torch.no_grad():
        torch.manual_seed(seed)
        for p in theirs.parameters():
            p.add_(0.01 * torch.randn_like(p))
    theirs.save_pretrained(folder, **how)
    olmo_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of one run."""
    root = tmp_path_factory.mktemp("published")
    for seed, name in enumerate(("early", "late")):
        stand_in(root / name, seed=seed, max_shard_size="40KB")
    assert len(list((root / "late").glob("*.safetensors"))) > 1
    return root


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Path:
    """A copy of one checkpoint, for a test to spoil."""
    shutil.copytree(folders / "late", tmp_path / "copy")
    return tmp_path / "copy"


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def study(root: Path, *models: tuple[str, str, int], **changes: Any) -> Study:
    listed = models or (("early", "", 1000), ("late", "", 3000))
    shape = replace(SHAPE, init_std=0.02)
    base = pretrained_study(recipes=("rl", "sft_rl"), pretrain=Published(listed), model=shape)
    return override(replace(base, **changes), f"data.root={root}")


def imports(made: Study) -> list[ImportNode]:
    return [n for n in expand(made).nodes if isinstance(n, ImportNode)]


# --- a whole run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Study]:
    store, made = Store(tmp_path_factory.mktemp("store")), study(folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", list)
        run_study(made, store, quiet())
    return store, made


def test_excursions_from_local_folders_run_to_their_report(finished: tuple[Store, Study]) -> None:
    store, made = finished
    table = (store.root / "report" / "results.csv").read_text().splitlines()
    rows = [dict(zip(table[0].split(","), line.split(","))) for line in table[1:]]
    assert {(r["tokens"], r["recipe"]) for r in rows} == {
        (t, r) for t in ("1000", "3000") for r in ("base", "rl", "sft_rl")
    }
    assert {r["task"] for r in rows if r["metric"] == "bits_per_byte"} == {"sums test"}, "no other text is there"
    assert all(n.done(store) for n in expand(made).nodes)
    page = (store.root / "report" / "index.html").read_text()
    assert "not there (yet)" not in page and ",,3000" in page


def test_what_an_imported_checkpoint_cost_before_is_not_taken_for_nothing(finished: tuple[Store, Study]) -> None:
    from foray.study.manifest import report_study

    store, made = finished
    lines = (store.root / "report" / "ledger.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
    assert rows and all(float(r["flops"]) > 0 and r["total_flops"] == "" for r in rows)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="its M_t were imported"):
        patch.setattr("foray.report.discover", figures("f2_passk"))
        report_study(made, store, axis="flops")


def test_an_imported_checkpoint_is_the_published_one(folders: Path, finished: tuple[Store, Study]) -> None:
    store, made = finished
    node = imports(made)[1]
    model, tokenizer = open_checkpoint(node.folder(store))
    theirs = AutoModelForCausalLM.from_pretrained(folders / "late", dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode_prompt("Q: 3 + 4 ?")])
    torch.testing.assert_close(model.logits(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (node.folder(store) / "model" / name).read_bytes() == (folders / "late" / name).read_bytes()


def test_what_comes_out_of_an_excursion_loads_in_transformers(finished: tuple[Store, Study]) -> None:
    store, made = finished
    (node,) = [e.node for e in expand(made).entries if (e.tokens, e.recipe, e.stage) == (3000, "sft_rl", "rl")]
    folder = node.folder(store)
    model, tokenizer = open_checkpoint(folder)
    theirs, info = AutoModelForCausalLM.from_pretrained(folder / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    text = "Q: 3 + 4 ?\nA: 7 naïve 🙂"
    ids = AutoTokenizer.from_pretrained(folder / "model")(text)["input_ids"]
    assert ids == tokenizer.encode_prompt(text), "nothing is put before a text that OLMo 2 does not put there"
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, rtol=0, atol=1e-5
        )
    assert theirs.config.eos_token_id == tokenizer.end_id == tokenizer.bos_id


def test_keys_follow_content_not_place(folders: Path, finished: tuple[Store, Study], tmp_path: Path) -> None:
    _, made = finished
    shutil.copytree(folders, tmp_path / "elsewhere")
    moved = study(tmp_path / "elsewhere")
    assert [n.key for n in expand(moved).nodes] == [n.key for n in expand(made).nodes]
    shutil.copyfile(folders / "early" / "config.json", tmp_path / "config.json")
    settings(tmp_path / "elsewhere" / "late", eos_token="<|pad|>")
    keys = [n.key for n in imports(study(tmp_path / "elsewhere"))]
    assert keys[0] == imports(made)[0].key and keys[1] != imports(made)[1].key
    again = study(folders, ("early", "", 2000), ("late", "", 3000))
    assert [n.key for n in imports(again)] == [n.key for n in imports(made)], "tokens are the axis, not the model"


def test_excursions_wait_for_the_check_of_prompts(folders: Path, tmp_path: Path) -> None:
    made = study(folders)
    made = replace(made, evaluation=replace(made.evaluation, base_shots=(12,)))
    with pytest.raises(ValueError, match="context of 96: use fewer shots") as error:
        run_study(made, Store(tmp_path), quiet())
    assert "\n" not in str(error.value) and not list(tmp_path.glob("nodes/train-*"))
    trained = [n for n in expand(made).nodes if isinstance(n, TrainNode)]
    assert trained and all(n.checks for n in trained)


def test_held_out_text_gives_perplexity(folders: Path, tmp_path: Path) -> None:
    text = Corpus(((1.0, SumsText("sums")),), length=32)
    models = (("late", "", 3000),)
    made = study(folders, *models, recipes=(), pretrain=Published(models, heldout=text))
    for node in expand(made).nodes:
        run_node(node, Store(tmp_path))
    (node,) = [n for n in expand(made).nodes if isinstance(n, PerplexityNode)]
    found = json.loads((node.folder(Store(tmp_path)) / "perplexity.json").read_text())["sums"]
    assert found["nats_per_token"] > 1 and found["bits_per_byte"] > 1 and found["bytes"] > found["tokens"]


def test_plan_and_ls_know_imports(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from foray.cli import main

    file = tmp_path / "own.py"
    file.write_text(
        "from pathlib import Path\nfrom test_published import study as made\n"
        f"def study():\n    return made(Path({str(folders)!r}))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        (tmp_path / "store").mkdir()
        for command in ("plan", "ls"):
            assert main([command, str(file), "--store", str(tmp_path / "store")]) == 0
        assert main(["data", "show", str(file), "--store", str(tmp_path / "store"), "--step", "1"]) != 0
    said = capsys.readouterr()
    assert "import late" in said.out and "import-" in said.out
    assert "trains no M_t: its checkpoints are published" in said.err


@pytest.mark.parametrize(
    ("case", "make"), [("llama", llama3_tokenizer), ("qwen2", qwen_tokenizer), ("qwen3", llama2_tokenizer)]
)
def test_excursions_of_other_families(tmp_path: Path, case: str, make: Callable[[Path], None]) -> None:
    """Tied embeddings, biases, grouped queries and other tokenizers go through RL, SFT and both at once."""
    shape = replace(CASES[case], context=128)
    published(shape, tmp_path / "theirs")
    make(tmp_path / "theirs")
    made = study(
        tmp_path, ("theirs", "", 3000), model=Release(str(tmp_path / "theirs")).shape(), recipes=("sft_rl", "parallel")
    )
    made = override(made, "evaluation.base_shots=1")
    store = Store(tmp_path / "store")
    for node in expand(made).nodes:
        run_node(node, store)
    (node,) = [e.node for e in expand(made).entries if e.recipe == "parallel" and isinstance(e.node, TrainNode)]
    model, tokenizer = open_checkpoint(node.folder(store))
    theirs, info = AutoModelForCausalLM.from_pretrained(node.folder(store) / "model", output_loading_info=True)
    assert theirs.config.model_type == shape.family and not info["missing_keys"] and not info["unexpected_keys"]
    ids = AutoTokenizer.from_pretrained(node.folder(store) / "model")("Q: 3 + 4 ?\nA:")["input_ids"]
    assert ids == tokenizer.encode_prompt("Q: 3 + 4 ?\nA:")
    with torch.no_grad():
        ours = model.logits(torch.tensor([ids]))
        torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits, rtol=0, atol=2e-5)
    before = open_checkpoint(imports(made)[0].folder(store))[0]
    same = [n for (n, a), b in zip(model.named_parameters(), before.parameters()) if torch.equal(a, b)]
    assert not same, "every parameter learns"


# --- the bundled study ----------------------------------------------------------------------------------------------


def hub_cache(root: Path, source: str, revision: str, seed: int, shape: ModelConfig, texts: list[str]) -> None:
    """A model in the layout of the hub's cache, as if its revision had been downloaded."""
    repository = root / f"models--{source.replace('/', '--')}"
    commit = f"{seed:040x}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    folder = stand_in(repository / "snapshots" / commit, shape, seed, max_shard_size="200KB")
    olmo_tokenizer(folder, texts, 400)


def test_olmo2_public_runs_on_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study reads its listed ids and revisions from the layout of the hub's client, with every size shrunk."""
    data = tmp_path / "data" / "gsm8k"
    data.mkdir(parents=True)
    rows = [
        {"question": f"Tom has {a} pens and gets {b}.", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
        for a in range(9) for b in range(9)
    ]  # fmt: skip
    for name, part in (("train", rows[:70]), ("test", rows[70:])):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
    chosen = load_study("olmo2_public").pretrain.models[5:7]
    assert chosen[0] == ("allenai/OLMo-2-0425-1B", "stage1-step10000-tokens21B", 20_971_520_000)
    shape = replace(SHAPE, vocab_size=512, context=320)
    texts = [f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in rows]
    for seed, (source, revision, _) in enumerate(chosen):
        hub_cache(tmp_path / "hub", source, revision, seed, shape, texts)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("foray.report.discover", list)
    small = [
        f"data.root={tmp_path / 'data'}", "model.width=32", "model.layers=2", "model.heads=4", "model.mlp_width=48",
        "model.vocab_size=512", "model.context=320", f"excursions={','.join(str(t) for _, _, t in chosen)}",
        "post.rl.questions=40", "post.sft.questions=40", "post.rl.prompts=4", "post.rl.group_size=2",
        "post.rl.max_new_tokens=8", "post.rl.validation=4", "post.sft.batch_size=4", "post.rl_steps=2",
        "post.sft_steps=2", "evaluation.problems=6", "evaluation.samples=4", "evaluation.k=1,4",
        "evaluation.max_new_tokens=8", "evaluation.base_shots=2",
    ]  # fmt: skip
    made, store = load_study("olmo2_public", small), Store(tmp_path / "store")
    run_study(made, store, quiet())
    table = (store.root / "report" / "results.csv").read_text().splitlines()
    rows_ = [dict(zip(table[0].split(","), line.split(","))) for line in table[1:]]
    strict = {(r["tokens"], r["recipe"]) for r in rows_ if r["metric"] == "pass@4" and r["extraction"] == "strict"}
    assert strict == {(str(t), r) for _, _, t in chosen for r in ("base", "rl", "sft", "sft_rl", "parallel")}
    assert all(n.done(store) for n in expand(made).nodes)


def test_olmo2_public_is_what_it_says() -> None:
    made = load_study("olmo2_public")
    assert made.model.parameters == 1_484_916_736
    for _, revision, tokens in made.pretrain.models:
        name = int(revision.rsplit("-tokens", 1)[1].removesuffix("B"))
        assert name - 1 < tokens / 1e9 <= name, "the names round up"
        assert f"step{tokens // (512 * 4096)}-" in revision


# --- tokenizers as they are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "start"),
    [(olmo_tokenizer, []), (qwen_tokenizer, []), (llama3_tokenizer, ["<|begin|>"]), (llama2_tokenizer, ["<s>"])],
)
def test_prompts_are_what_the_models_own_tokenizer_makes(
    tmp_path: Path, make: Callable[[Path], None], start: list[str]
) -> None:
    make(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert [ours.tokenizer.id_to_token(i) for i in ours.start] == start
    assert (ours.end_id, ours.bos_id) == (theirs.eos_token_id, theirs.bos_token_id)
    for text in ("Q: 3 + 4 ?\nA:", "naïve 東京\n\n", "Q:  two"):
        assert ours.encode_prompt(text) == theirs(text)["input_ids"]
        assert ours.decode(ours.encode_prompt(text)) == text
    prompt, target = "Q: 3 + 4 ?\nA:", " 7 make"
    assert ours.encode_prompt(prompt) + ours.encode_continuation(target) == theirs(prompt + target)["input_ids"]
    assert "".join(ours.pieces()[i] for i in ours.encode_continuation(target)) == target
    assert ours.end_id not in ours.encode(f"a{theirs.eos_token}b"), "spelled out in text it is plain text"
    other = tmp_path / "saved"
    other.mkdir()
    ours.save(other, 64)
    assert all((other / f.name).read_bytes() == f.read_bytes() for f in tmp_path.glob("tokenizer*"))
    assert load_tokenizer(other).encode_prompt("Q: 3") == ours.encode_prompt("Q: 3")


def test_demonstrations_shards_and_scored_text_begin_as_the_model_was_trained(tmp_path: Path) -> None:
    llama3_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    begin, end = tokenizer.start[0], tokenizer.end_id
    source = pretrained_study().post.sft.source
    prompt, target = demonstrations(source, 0, tokenizer)[0]
    assert prompt[0] == begin and target[-1] == end and begin not in target
    write_shard(SumsText("sums"), "train", tokenizer, tmp_path, 500)
    shard = Shard(tmp_path)
    assert shard.read(0, 2).tolist() == [end, begin]
    assert tokenizer.decode(next(shard.documents(end))) == next(SumsText("sums").documents("train"))
    ((context, continuation),) = split_pairs(tokenizer, [("Q: 3", " + 4")], tokenizer.start)
    assert context == tokenizer.encode_prompt("Q: 3") and continuation == tokenizer.encode(" + 4")


def test_stop_strings_are_found_in_what_pieces_spell(tmp_path: Path) -> None:
    """The tokenizer's tokens lose their space when they are decoded alone."""
    llama2_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    shape = replace(LLAMA, vocab_size=tokenizer.vocab_size + 6)
    torch.manual_seed(0)
    engine = TorchEngine(shape, tokenizer)
    groups = engine.generate(
        [tokenizer.encode_prompt(q) for q in ("Q: 1", "Q: 2 +")], 40, Sampling(1.0, 30, (" ", ":")), [0, 1]
    )
    all_ = [c for g in groups for c in g]
    for c in all_:
        spelled = "".join((tokenizer.pieces() + [""] * 6)[i] for i in c.tokens)
        assert (c.stop_reason == "stop") <= any(s in spelled for s in (" ", ":"))
        assert c.stop_reason != "length" or len(c.tokens) == 30
    assert any(c.stop_reason == "stop" for c in all_)


def test_a_checkpoint_of_forays_own_is_imported_with_its_own_start(
    finished: tuple[Store, Study], tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    from foray.model import hf
    from foray.model.transformer import initialize

    shape = replace(SHAPE, vocab_size=tokenizer.vocab_size)
    hf.save_model(initialize(shape, 0), tmp_path, tokenizer.end_id, tokenizer.bos_id)
    tokenizer.save(tmp_path, shape.context)
    again = load_tokenizer(tmp_path)
    assert again.encode_prompt("Q: 3") == [tokenizer.end_id, *tokenizer.encode("Q: 3")]


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(made: Study, tmp_path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run_study(made, Store(tmp_path / "store"), quiet())
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").glob("nodes/train-*"))


def spoiled(copy: Path, name: str, **changes: Any) -> None:
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "gpt_neox"}, "model_type is 'gpt_neox', which Foray does not cover"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn'"),
        ("config.json", {"intermediate_size": 64}, "has mlp_width 64, not 48 as the study's model"),
        ("config.json", {"max_position_embeddings": 64}, "trained for 64 positions; the study's model.context is 96"),
        ("tokenizer_config.json", {"eos_token": "<|stop|>"}, r"the tokenizer has no <\|stop\|> token"),
    ],
)
def test_a_checkpoint_that_is_not_covered(
    copy: Path, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    spoiled(copy, file, **change)
    refused(study(tmp_path, ("copy", "", 3000)), tmp_path, message)


def test_a_plan_refuses_another_shape_as_the_run_does(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(folders, model=replace(SHAPE, init_std=0.02, mlp_width=64))
    message = r"^import early: early has mlp_width 48, not 64 as the study's model says; write model=Release\("
    with pytest.raises(ValueError, match=message):
        check_study(made)  # which foray plan calls
    refused(made, tmp_path, message)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    of_hub = replace(made, pretrain=Published((("org/name", "main", 1000),)))
    check_study(of_hub)  # not in the local cache, and not fetched
    hub_cache(tmp_path / "hub", "org/name", "main", 1, SHAPE, TEXTS)
    with pytest.raises(ValueError, match=r"^import org/name@main: org/name@main has mlp_width 48, not 64"):
        check_study(of_hub)


def test_a_checkpoint_without_its_tokenizer_or_its_weights(copy: Path, tmp_path: Path) -> None:
    made = study(tmp_path, ("copy", "", 3000))
    (copy / "tokenizer.json").rename(copy / "kept.json")
    refused(made, tmp_path, "copy has no tokenizer.json")
    (copy / "kept.json").rename(copy / "tokenizer.json")
    shard = sorted(copy.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:100])
    refused(made, tmp_path, "is damaged")
    shard.unlink()
    refused(made, tmp_path, f"{shard.name} is missing")


def test_a_tokenizer_larger_than_the_model(copy: Path, tmp_path: Path) -> None:
    shape = replace(SHAPE, vocab_size=260)
    published(shape, copy)
    (copy / "model.safetensors.index.json").unlink(missing_ok=True)
    made = study(tmp_path, ("copy", "", 3000), model=replace(shape, init_std=0.02))
    refused(made, tmp_path, "more than the model's 260")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*/lost; a model of the hub is named with a revision"):
        expand(study(tmp_path, ("lost", "", 1)))


def test_the_shape_is_read_from_the_checkpoint(folders: Path) -> None:
    assert Release(str(folders / "late")).shape() == replace(SHAPE, init_std=0.2, embed_std=0.02)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((), "at least one checkpoint"),
        ((("a", 100),), r"models\[0\] is \('a', 100\): write a tuple of 3 values"),
        ((("a", "", "b"),), r"models\[0\]\[2\] is 'b': write a whole number"),
        ((("a", "", 0),), "must be positive"),
        ((("a", "", 20), ("b", "", 10)), "rising order of tokens"),
        ((("a", "", 20), ("b", "", 20)), "rising order of tokens"),
    ],
)
def test_impossible_listings(models: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Published(models)


def hub_error(kind: str, words: str) -> Exception:
    from unittest.mock import MagicMock

    from huggingface_hub import errors

    made = getattr(errors, kind)
    return made(words, response=MagicMock()) if issubclass(made, errors.HfHubHTTPError) else made(words)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (("RepositoryNotFoundError", "404"), "the hub has no model org/name that you may see"),
        (("RevisionNotFoundError", "404"), "org/name has no revision 'step1'; did you mean 'step10'?"),
        (("GatedRepoError", "403"), "org/name@step1 is gated: accept its terms at https://huggingface.co/org/name"),
        (("HFValidationError", "bad id"), "'org/name' is no hub id: write ORGANISATION/NAME"),
        (
            ("LocalEntryNotFoundError", "offline\nand more"),
            r"not in the local cache and cannot be fetched.*\(offline\)",
        ),
        (("HfHubHTTPError", "503 busy"), "cannot be fetched"),
    ],
)
def test_the_hub_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: tuple[str, str], message: str) -> None:
    from types import SimpleNamespace

    def fail(*_: Any, **__: Any) -> None:
        raise hub_error(*error)

    branches = SimpleNamespace(branches=[SimpleNamespace(name="step10"), SimpleNamespace(name="main")])
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.list_repo_refs", lambda _: branches)
    refused(study(tmp_path, ("org/name", "step1", 1000)), tmp_path, message)


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test uses the hub's own client."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    refused(study(tmp_path, ("org/name", "step1", 1000)), tmp_path, "org/name@step1 is not in the local cache")
    refused(study(tmp_path, ("org/na me/x", "step1", 1000)), tmp_path, "is no hub id")
