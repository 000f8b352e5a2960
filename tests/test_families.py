"""Llama, Qwen 2, Qwen 3 and grouped-query OLMo 2 as flags of the one Transformer: the laws hold for each of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from foray.core.batch import from_rows
from foray.core.objectives import CrossEntropy
from foray.core.stage import Stream
from foray.data.tokenizer import TextTokenizer
from foray.model import flops, hf
from foray.model.config import FAMILIES, ModelConfig
from foray.model.operators import attention
from foray.model.transformer import Transformer, initialize
from foray.rollout.engine import Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.train.scoring import backward, token_logprobs

SMALL = ModelConfig(
    width=32, layers=2, heads=4, mlp_width=48, vocab_size=320, context=128, kv_heads=2, init_std=0.2, embed_std=0.2
)
LLAMA = replace(SMALL, norm="pre", qk_norm="none")
STRETCHED = (8.0, 1.0, 4.0, 32.0)
CASES = {
    "olmo2-grouped": SMALL,
    "llama": replace(LLAMA, tied=True),
    "llama-untied": replace(LLAMA, kv_heads=0, head_width=12),
    "llama-stretched": replace(LLAMA, rope_scaling=STRETCHED, rope_theta=1e4),
    "qwen2": replace(LLAMA, qkv_bias=True, tied=True, kv_heads=1),
    "qwen3": replace(LLAMA, qk_norm="head", head_width=16),
}


@pytest.fixture(params=CASES)
def shape(request: pytest.FixtureRequest) -> ModelConfig:
    return CASES[request.param]


def varied(config: ModelConfig, seed: int = 0) -> Transformer:
    """Sets biases and norms far from 0 and 1, so that an unused bias or norm shows."""
    model = initialize(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def tokens(config: ModelConfig, rows: int = 3, length: int = 60) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def their_config(config: ModelConfig) -> Any:
    """The config of a published model of that family, by the family's own configuration class."""
    from transformers import LlamaConfig, Olmo2Config, Qwen2Config, Qwen3Config

    kind = {"olmo2": Olmo2Config, "llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}[config.family]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling:
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        rope |= {"rope_type": "llama3", **dict(zip(names, STRETCHED))}
        rope[names[3]] = 32
    head = {} if config.family in ("olmo2", "qwen2") else {"head_dim": config.head_dim}
    return kind(
        vocab_size=config.vocab_size, hidden_size=config.width, intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=config.groups,
        max_position_embeddings=config.context, rope_parameters=rope, rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied, initializer_range=config.init_std, pad_token_id=None, bos_token_id=0,
        eos_token_id=0, **head,
    )  # fmt: skip


def published(config: ModelConfig, folder: Path, dtype: torch.dtype = torch.float32, **how: Any) -> Any:
    """A random model made and saved by transformers, with norms and biases that matter."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(their_config(config), dtype=dtype)
    with torch.no_grad():
        for p in theirs.parameters():
            if p.dim() == 1:
                p.add_(0.3 * torch.randn_like(p))
    theirs.save_pretrained(folder, **how)
    return theirs.eval()


def test_every_family_has_a_case() -> None:
    assert {c.family for c in CASES.values()} == set(FAMILIES)


def test_their_weights_come_in(shape: ModelConfig, tmp_path: Path) -> None:
    theirs = published(shape, tmp_path)
    ours = hf.load_model(tmp_path)
    assert replace(ours.config, embed_std=shape.embed_std) == shape
    with torch.no_grad():
        logits, expected = ours.logits(tokens(shape)), theirs(tokens(shape)).logits
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)


def test_transformers_gives_our_logits_and_gradients(shape: ModelConfig, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = varied(shape)
    hf.save_model(model, tmp_path, 0)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert theirs.config.model_type == shape.family
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours_logits, their_logits = model.logits(tokens(shape)), theirs(tokens(shape)).logits
    assert their_logits.abs().max() > 1
    torch.testing.assert_close(ours_logits, their_logits, rtol=0, atol=2e-5)
    ours_logits.logsumexp(-1).sum().backward()
    their_logits.logsumexp(-1).sum().backward()
    named = dict(theirs.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, named[name].grad, rtol=1e-4, atol=1e-3, msg=name)


def test_what_is_saved_comes_back(shape: ModelConfig, tmp_path: Path) -> None:
    model = varied(shape)
    hf.save_model(model, tmp_path, 0)
    again = hf.load_model(tmp_path)
    assert replace(again.config, embed_std=shape.embed_std) == shape
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_parameters_are_counted(shape: ModelConfig) -> None:
    assert shape.parameters == sum(p.numel() for p in Transformer(shape).parameters())


def test_initialization_is_fixed_by_the_seed_and_leaves_biases_at_zero(shape: ModelConfig) -> None:
    a, b = initialize(shape, 0), initialize(shape, 0)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert all(not p.any() for name, p in a.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("shared", ["", "Q: 1 + 2 ?\nA: 3\n\nQ: 4 + 4 ?\nA: 8\n\nQ: 9 + 9 ?\nA: 18\n\n"])
def test_law_5_logprobs_equal_the_trainers(shape: ModelConfig, tokenizer: TextTokenizer, shared: str) -> None:
    """The case has prompts that share a prefix, groups of rows, and rows that end early."""
    model = varied(shape)
    engine = TorchEngine(shape, tokenizer, model=model)
    prompts = [tokenizer.encode_prompt(shared + q) for q in ("Q: 5 + 2 ?\nA:", "Q: 1 + 1 and 2 ?\nA:", "Q: 7")]
    groups = engine.generate(prompts, 6, Sampling(0.8, 40, ("1", "a")), range(3))
    all_ = [c for g in groups for c in g]
    assert len({tuple(c.tokens) for c in all_}) > 10 and len({len(c.tokens) for c in all_}) > 1
    batch = from_rows(
        [p for p in prompts for _ in range(6)], [c.tokens for c in all_], [1.0] * 18, 1.0,
        behaviour=[c.logprobs for c in all_], temperature=0.8, group_size=6,
    )  # fmt: skip
    assert (token_logprobs(model, batch) - batch.behaviour).abs().max() < 1e-5


def test_greedy_is_the_argmax_of_the_whole_forward_pass(shape: ModelConfig, tokenizer: TextTokenizer) -> None:
    model = varied(shape)
    prompt = tokenizer.encode_prompt("Q: 3 + 4 ?\nA:")
    got = TorchEngine(shape, tokenizer, model=model).generate([prompt], 1, Sampling(0.0, 20), [0])[0][0].tokens
    logits = model.logits(torch.tensor([prompt + got]))[0, len(prompt) - 1 : -1]
    assert got == logits.argmax(-1).tolist()


def test_packed_gradients_are_those_of_plain_rows(shape: ModelConfig) -> None:
    """Compares rows that share prompts with one forward pass a row through torch's own attention."""
    model = varied(shape)
    text = tokens(shape, 6, 40).tolist()
    prompts = [text[0][:9]] * 3 + [text[1][:14]] * 3
    targets = [text[i][20 : 20 + n] for i, n in enumerate((20, 5, 12, 7, 20, 1))]
    batch = from_rows(prompts, targets, [1.0] * 6, 65.0, group_size=3)
    backward(model, Stream("sft", object(), CrossEntropy()), batch)
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    def plain(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        each = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    for prompt, target in zip(prompts, targets):
        hidden = model(torch.tensor([prompt + target[:-1]]), None, plain)
        logprobs = model.lm_head(hidden[0, len(prompt) - 1 :]).log_softmax(-1)
        (-logprobs.gather(1, torch.tensor(target)[:, None]).sum() / 65).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(packed[name], p.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("length", [7, 200])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_has_the_gradients_of_autograd(length: int, masked: bool) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 6, length, 8, requires_grad=True)
    k, v = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(2))
    bias = torch.randn(2, 1, length, length) if masked else None
    ours = attention(q, k, v, bias)
    theirs = scaled_dot_product_attention(
        q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1), attn_mask=bias, is_causal=not masked
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    g = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, (q, k, v), g), torch.autograd.grad(theirs, (q, k, v), g)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_shared_keys_save_memory_not_attention() -> None:
    full, shared = replace(SMALL, kv_heads=0), SMALL
    assert flops.forward(full, 0, 100, 0) == flops.forward(shared, 0, 100, 0)
    saved = 2 * SMALL.layers * 2 * SMALL.width * 2 * SMALL.head_dim
    assert flops.forward(full, 1, 0, 0) - flops.forward(shared, 1, 0, 0) == saved


def test_weights_in_shards_and_in_bf16_come_in(tmp_path: Path) -> None:
    theirs = published(CASES["qwen2"], tmp_path, torch.bfloat16, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = hf.load_model(tmp_path)
    assert all(p.dtype == torch.float32 for p in ours.parameters())
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(ours.state_dict()[name], p.float(), rtol=0, atol=0)
    gone = next(iter(sorted(tmp_path.glob("model-*.safetensors"))))
    gone.unlink()
    with pytest.raises(ValueError, match=rf"{gone.name} is missing"):
        hf.load_model(tmp_path)


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("llama", {"model_type": "lama"}, "did you mean 'llama'"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type 'linear'"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "part of each head"),
        ("llama", {"rope_interleaved": True}, "interleaved"),
        ("llama", {"attention_bias": True}, "biases in the output of attention"),
        ("llama", {"mlp_bias": True}, "biases in the MLP"),
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu'"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantized"),
        ("llama", {"auto_map": {"AutoModel": "modeling.My"}}, "code of its own"),
        (
            "llama",
            {"num_key_value_heads": 3},
            r"num_attention_heads \(4\) must be a multiple of num_key_value_heads \(3\)",
        ),
        ("llama", {"hidden_size": None}, r"config\.json: "),
        ("llama", {"vocab_size": 99}, r"do not fit config.json \(model.embed_tokens.weight"),
        ("llama", {"num_hidden_layers": 3}, r"do not fit config.json \(9 are missing"),
        ("qwen2", {"use_sliding_window": True}, "sliding-window"),
        ("qwen3", {"layer_types": ["sliding_attention", "full_attention"]}, "sliding-window"),
    ],
)
def test_what_is_not_covered_is_refused_in_one_line(
    tmp_path: Path, case: str, change: dict[str, Any], message: str
) -> None:
    hf.save_model(initialize(CASES[case], 0), tmp_path, 0)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(ValueError, match=message) as error:
        hf.load_model(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_setting_that_is_missing_and_weights_in_pickles_are_named(tmp_path: Path) -> None:
    hf.save_model(initialize(LLAMA, 0), tmp_path, 0)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k != "intermediate_size"}))
    with pytest.raises(ValueError, match="has no intermediate_size"):
        hf.load_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickles \(\*\.bin\)"):
        hf.load_model(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"qkv_bias": True}, "no family has norm post, qk_norm full and qkv_bias True"),
        ({"norm": "pre"}, "use those of one of olmo2, llama, qwen2, qwen3"),
        ({"kv_heads": 3}, "must be a multiple of kv_heads"),
        ({"kv_heads": -1}, "must be >= 0"),
        ({"rope_scaling": (8.0, 1.0)}, "four positive numbers"),
    ],
)
def test_impossible_flags_say_what_to_change(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **flags)
