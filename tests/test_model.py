"""Law 7, and the other promises of a checkpoint folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import wide
from foray.core.machine import Machine
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.model import hf
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.train.sharding import blank


@pytest.fixture
def folder(tmp_path: Path, model: Transformer, tokenizer: TextTokenizer) -> Path:
    hf.save_model(wide(model), tmp_path, tokenizer.end_id)
    tokenizer.save(tmp_path, model.config.context)
    return tmp_path


def test_transformers_gives_the_same_logits_and_gradients(folder: Path, model: Transformer) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.randint(0, model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    ours_logits, their_logits = model.logits(tokens), theirs(tokens).logits
    assert their_logits.abs().max() > 1
    torch.testing.assert_close(ours_logits, their_logits, rtol=0, atol=2e-5)
    ours_logits.logsumexp(-1).sum().backward()
    their_logits.logsumexp(-1).sum().backward()
    named = dict(theirs.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, named[name].grad, rtol=1e-4, atol=1e-4)


def test_transformers_weights_come_in(tmp_path: Path) -> None:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    theirs = Olmo2ForCausalLM(
        Olmo2Config(
            vocab_size=99, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, rms_norm_eps=1e-6, pad_token_id=None, eos_token_id=0,
        )
    )  # fmt: skip
    theirs.save_pretrained(tmp_path)
    ours = hf.load_model(tmp_path)
    tokens = torch.arange(30).view(2, 15)
    torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


def test_auto_tokenizer_gives_the_same_ids(folder: Path, tokenizer: TextTokenizer) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    again = load_tokenizer(folder)
    for text in ["Q: 3 + 4 ?\nA: 7", "  naïve 東京 \x00 1234567 don't", "", "\n\n \t"]:
        ids = tokenizer.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids == again.encode(text)
        assert tokenizer.decode(ids) == text
    assert theirs.eos_token_id == tokenizer.end_id


def test_end_token_spelled_out_in_text_is_plain_text(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.end_id not in ids
    assert tokenizer.decode(ids) == "a<|endoftext|>b"


def test_other_architectures_are_refused(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"olmo2"', '"gpt2"'))
    with pytest.raises(ValueError, match="gpt2"):
        hf.load_model(folder)


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match="do not fit"):
        hf.load_model(folder)


def test_initialization_depends_on_seed_only(config: ModelConfig) -> None:
    a, b, c = initialize(config, 0), initialize(config, 0), initialize(config, 1)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.lm_head.weight, c.lm_head.weight)
    assert a.lm_head.weight.abs().max() <= 3 * config.init_std
    assert abs(float(a.lm_head.weight.detach().std()) / config.init_std - 0.987) < 0.03


def test_a_text_beyond_the_context_is_refused(model: Transformer) -> None:
    context = model.config.context
    model(torch.zeros(1, context, dtype=torch.long))
    with pytest.raises(ValueError, match=f"{context + 1} tokens is longer than the model's context of {context}"):
        model(torch.zeros(1, context + 1, dtype=torch.long))


def test_a_blank_tied_model_has_one_matrix(config: ModelConfig) -> None:
    tied = blank(replace(config, tied=True), Machine("cpu"))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert sum(p.numel() for p in tied.parameters()) == tied.config.parameters


def test_parameter_count(model: Transformer) -> None:
    assert model.config.parameters == sum(p.numel() for p in model.parameters())
    olmo = ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100352, context=4096)
    assert olmo.parameters == 1_484_916_736
