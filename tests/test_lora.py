"""LoRA: what is trained is adapters, what is saved is the merged model, and the laws hold for adapters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from foray.core.batch import from_rows
from foray.core.canonical import canonical
from foray.core.lora import LINEARS, LoRA
from foray.core.override import override
from foray.core.stage import Stage
from foray.data.tokenizer import TextTokenizer
from foray.model import flops
from foray.model.adapters import adapted, is_adapter, load_adapters
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.torch_engine import TorchEngine
from foray.study.graph import expand
from foray.study.kinds import training
from foray.study.kinds.models import open_checkpoint
from foray.study.named_recipes import every_stage, named_recipes
from foray.study.price.cards import parse_hardware
from foray.study.price.placement import place
from foray.study.price.work import node_work
from foray.study.spec import Study
from foray.study.store import Store
from foray.train.checked_draw import drawn
from foray.train.checkpoint import Resume, load_state
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage
from foray.train.ranks import is_first, rank_and_ranks
from foray.train.scoring import backward, token_logprobs
from foray.train.sharding import blank, fill, weights_of
from test_flops import counted
from test_laws import ADAM, RL, SFT, assert_close, moved, start, train
from test_ranks import CPU, WEIGHTS, on_ranks
from test_study import acting_at, compute, copied, ends, pretrained_to, study, weights

Tensors = dict[str, torch.Tensor]
SMALL = LoRA(4, 8.0)
BOTH = ((0.5, RL), (0.5, SFT))


def with_adapters(run: Training, lora: LoRA = SMALL, noise: float = 0.0) -> Training:
    """The run on fresh adapters, whose B may begin away from zero. The engine has weights of its own."""
    run.reference = run.model
    run.model = adapted(run.model, lora, 1)
    run.engine = TorchEngine(run.model.config, run.tokenizer)
    generator = torch.Generator().manual_seed(3)
    for name, p in run.model.trained().items():
        if noise and "lora_B" in name:
            p.data.normal_(0, noise, generator=generator)
    return run


def merged(model: Transformer) -> Tensors:
    return {name: w.clone() for name, w in weights_of(model).items()}


def adapters(model: Transformer) -> Tensors:
    return {name: p.detach().clone() for name, p in model.trained().items()}


@pytest.mark.parametrize("targets", [LINEARS, ("q_proj", "v_proj")])
def test_merged_logits_are_unmerged_ones(config: ModelConfig, tokenizer: TextTokenizer, targets: tuple[str]) -> None:
    run = with_adapters(start(config, tokenizer), LoRA(3, 6.0, targets), noise=0.5)
    assert len(run.model.trained()) == 2 * len(targets) * config.layers
    assert sum(p.numel() for p in run.model.trained().values()) == config.adapter_parameters(LoRA(3, 6.0, targets))
    plain = Transformer(config)
    plain.load_state_dict(merged(run.model))
    tokens = torch.arange(60)[None]
    assert run.reference is not None
    with torch.no_grad():
        ours, theirs, first = (m.logits(tokens) for m in (run.model, plain, run.reference))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert float((ours - first).abs().max()) > 1


def test_the_engine_samples_from_the_merged_weights(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = with_adapters(start(config, tokenizer), noise=0.2)
    batch, logged = drawn(RL.source, RL, 0, run)
    ours = token_logprobs(run.model, batch)
    torch.testing.assert_close(batch.behaviour, ours, rtol=0, atol=1e-5)
    assert logged["kl"] > 0.01, "the reference is M_t without adapters"


@pytest.mark.parametrize("streams", [((1.0, SFT),), ((1.0, RL),), BOTH], ids=["sft", "rl", "parallel"])
def test_adapters_of_full_rank_are_full_training(config: ModelConfig, tokenizer: TextTokenizer, streams: Any) -> None:
    """With A the identity, fixed, and alpha = rank, B has the gradient of W, so Adam changes both alike.

    Decay is left out: it pulls B to 0, and W + B not. Where a layer has fewer inputs than the rank, the other columns
    of B have no gradient.
    """
    plain = tuple((w, replace(s, optimizer=replace(s.optimizer, weight_decay=0.0))) for w, s in streams)
    stage, rank = Stage("s", plain, 4), max(config.width, config.mlp_width)
    full = start(config, tokenizer)
    for name, p in full.model.named_parameters():
        p.requires_grad_(any(name.endswith(f"{linear}.weight") for linear in LINEARS))
    before = merged(full.model)
    low = with_adapters(start(config, tokenizer), LoRA(rank, float(rank)))
    for name, p in low.model.trained().items():
        if "lora_A" in name:
            p.data.copy_(torch.eye(*p.shape))
            p.requires_grad_(False)
    theirs, log = train(full, stage)
    _, ours_log = train(low, stage)
    assert_close(merged(low.model), theirs, 2e-5)
    assert moved(before, theirs) > 4e-3
    for a, b in zip(log, ours_log):
        for key in ("sft/gradient_norm", "rl/gradient_norm", "rl/reward", "cosine/rl-sft"):
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=1e-4, abs=1e-5), key


def test_frozen_weights_stay_and_adapters_move(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = with_adapters(start(config, tokenizer))
    assert run.reference is not None
    first, began = merged(run.reference), adapters(run.model)
    assert ADAM.weight_decay > 0
    after, _ = train(run, Stage("s", BOTH, 3))
    assert all(torch.equal(first[n], x) for n, x in after.items() if not is_adapter(n))
    assert all(torch.equal(first[n], x) for n, x in run.reference.state_dict().items())
    assert all(not torch.equal(began[n], after[n]) for n in began)


def test_parallel_averaging_averages_the_updates_of_adapters(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    def after(*streams: Any) -> Tensors:
        run = with_adapters(start(config, tokenizer), noise=0.1)
        train(run, Stage("s", streams, 5), until=1)
        return adapters(run.model)

    rl, sft, both = after((1.0, RL)), after((1.0, SFT)), after(*BOTH)
    assert_close(both, {n: (rl[n] + sft[n]) / 2 for n in rl}, 2e-7)
    assert moved(rl, sft) > 1e-4


def test_an_update_costs_what_torch_counts(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    """But for the gradient of the embeddings, which nothing needs: the ledger counts the first layer as any other."""
    run, rows, prompt, own = with_adapters(start(config, tokenizer)), 4, 5, 7
    batch = from_rows([[1] * prompt] * rows, [[2] * (own + 1)] * rows, [1.0] * rows, 1.0, group_size=rows)
    counter = FlopCounterMode(display=False)
    with counter:
        work = backward(run.model, SFT, batch)["flops/update"]
    tokens, scored, width = prompt + rows * own, rows * (own + 1), config.width
    seen = flops.pairs(0, prompt) + rows * flops.pairs(prompt, prompt + own)
    assert work == flops.update(config, tokens, seen, scored, SMALL) < flops.update(config, tokens, seen, scored)
    unneeded = 2 * tokens * 3 * (width * width + width * SMALL.rank)
    assert counted(counter)[0] == work - 3 * flops.forward(config, 0, seen, 0) - unneeded


# --- ranks ----------------------------------------------------------------------------------------------------------


def _parallel(config: ModelConfig, tokenizer: TextTokenizer, out: Path) -> None:
    """Three updates. The state of the second is saved."""
    run = with_adapters(start(config, tokenizer))
    if rank_and_ranks()[1] > 1:
        run.reference = None
        run.model = fill(blank(config, CPU, False, SMALL), run.model)
        run.engine = TorchEngine(config, tokenizer, model=blank(config, CPU))
    moments, resume = {s.name: Moments(run.model, s.optimizer) for _, s in BOTH}, Resume(out)
    run_stage(Stage("s", BOTH, 3), run, moments, 0, 2, lambda *_: None)
    resume.save(run, moments, 2)
    resume.finish()
    run_stage(Stage("s", BOTH, 3), run, moments, 2, 3, lambda *_: None)
    tensors = merged(run.model)
    if is_first():
        save_file(tensors, out / "merged")


def test_ranks_train_the_adapters_that_one_trains_and_one_goes_on(
    config: ModelConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    _parallel(config, tokenizer, one)
    on_ranks(2, two, _parallel, config, tokenizer, two)
    expected, found = load_file(one / "merged"), load_file(two / "merged")
    assert_close(expected, found, WEIGHTS)
    assert moved(expected, merged(start(config, tokenizer).model)) > 5 * WEIGHTS
    slot, again = Resume(two).newest(), with_adapters(start(config, tokenizer))
    assert slot is not None and {p.name for p in slot.iterdir()} == {"state", "DONE"}
    saved = {name for file in slot.rglob("shards/*.safetensors") for name in load_file(file)}
    assert {n for n in saved if n.startswith("weights/")} == {f"weights/{n}" for n in again.model.trained()}
    moments = {s.name: Moments(again.model, s.optimizer) for _, s in BOTH}
    assert load_state(slot, again, moments) == 2
    run_stage(Stage("s", BOTH, 3), again, moments, 2, 3, lambda *_: None)
    assert_close(expected, merged(again.model), WEIGHTS)


# --- studies --------------------------------------------------------------------------------------------------------


def low_rank() -> Study:
    made = study(recipes=("sft_rl", "parallel"), pretrain=pretrained_to(1536))
    return override(made, "post.lora.rank=2", "post.lora.alpha=8")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("lora"))
    compute(low_rank(), made)
    return made


def test_the_default_is_in_no_key_and_every_recipe_takes_the_setting() -> None:
    assert "lora" not in canonical(study())
    made = low_rank()
    asked = replace(made, post=replace(made.post, text=made.pretraining.stream))
    for name in named_recipes():
        assert all(stage.lora == LoRA(2, 8.0) for stage in every_stage(asked.stages(name))), name
    assert override(made, "post.lora=none") == study(recipes=made.recipes, pretrain=made.pretrain)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("post.lora.rank=0", "rank must be positive"),
        ("post.lora.alpha=-1", "alpha must be positive"),
        ("post.lora.targets=q_prj", "did you mean 'q_proj'"),
        ("post.lora.targets=q_proj,q_proj", "twice"),
        ("post.lora.targets=[]", "names of linear layers"),
    ],
)
def test_a_mistake_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        override(study(), setting)
    assert "\n" not in str(error.value)


def test_the_plan_has_moments_of_adapters_alone() -> None:
    found = {n.stage.name: n for n in ends(low_rank()).values()}
    node, model = found["parallel"], low_rank().model.sized(280)
    weights, trained = 4.0 * model.parameters, 4.0 * model.adapter_parameters(LoRA(2, 8.0))
    memory = place(node, parse_hardware("h100x1")).memory
    assert (memory.moments, memory.gradients, memory.weights) == (4 * trained, 2 * trained, weights + trained)
    assert memory.reference == 0 and memory.engine == weights, "the reference shares the frozen weights"
    assert node_work(node).disk == weights + trained
    full = replace(node, stage=replace(node.stage, lora=None))
    assert node_work(node).phases["update"] < node_work(full).phases["update"]


def test_the_saved_model_is_merged_and_loads_in_transformers(store: Store) -> None:
    transformers = pytest.importorskip("transformers")
    for node in ends(low_rank()).values():
        if node.parent is None:
            continue
        folder, lora = node.folder(store), node.stage.lora
        assert lora is not None
        base, ours = open_checkpoint(node.parent.folder(store))[0], open_checkpoint(folder)[0]
        unmerged, tokens = adapted(base, lora, 0), torch.arange(40)[None]
        unmerged.load_state_dict(load_adapters(folder / "adapter"), strict=False)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
        assert theirs.state_dict().keys() == ours.state_dict().keys()
        with torch.no_grad():
            logits = theirs(tokens).logits
            torch.testing.assert_close(logits, ours.logits(tokens), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(logits, unmerged.logits(tokens), rtol=1e-5, atol=1e-5)
            assert node.stage.name == "rl" or float((logits - base.logits(tokens)).abs().max()) > 1e-3
        settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
        assert (settings["r"], settings["lora_alpha"], settings["target_modules"]) == (2, 8.0, list(LINEARS))
        names = load_file(folder / "adapter" / "adapter_model.safetensors")
        assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names


def test_killed_and_resumed_is_bit_equal(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    again, begun = Store(tmp_path / "again"), list[int]()
    copied([n for n in expand(low_rank()).nodes if getattr(n, "parent", None) is None], store, again)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = training.run_stage
    for stage in ("rl", "parallel"):
        with monkeypatch.context() as patched:
            patched.setattr(training, "run_stage", acting_at(stage, 3, fail))
            with pytest.raises(KeyboardInterrupt):
                compute(low_rank(), again)
        slots = list(again.root.glob("nodes/*/resume-*"))
        assert slots and all((s / "adapter").is_dir() and not (s / "model").exists() for s in slots)
        monkeypatch.setattr(training, "run_stage", lambda *args: (begun.append(args[3]), whole(*args)))
    compute(low_rank(), again)
    assert begun[0] == begun[-1] == 3, "the killed nodes went on"
    assert weights(again) == weights(store)
