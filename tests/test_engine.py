"""The contract of every engine: law 5 holds, and batching, sharing and compaction change nothing.

vLLM (``make vllm-check``) has the same contract, but draws samples of its own from a seed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import plainly_truncated, wide
from foray.core.batch import from_rows
from foray.core.engines import VLLM
from foray.core.machine import Machine
from foray.data.ends import ModelEnds
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.choose import open_engine
from foray.rollout.embedded import sample
from foray.rollout.engine import Completion, Engine, Sampling
from foray.rollout.graph_decoder import Shape
from foray.rollout.paged_engine import PagedEngine
from foray.rollout.stopping import Endings
from foray.rollout.torch_engine import TorchEngine
from foray.rollout.vllm_engine import VLLMEngine
from foray.train.scoring import token_logprobs

SHARED = "Q: 1 + 2 ?\nA: 3\n\nQ: 4 + 4 ?\nA: 8\n\nQ: 9 + 9 ?\nA: 18\n\n"
QUESTIONS = ["Q: 5 + 2 ?\nA:", "Q: 1 + 1 and 2 ?\nA:", "Q: 7", "Q: 8 + 0 ?\nA:", "Q: 0 + 0 ?\nA:"]


LAYOUT = VLLM(python=os.environ.get("FORAY_VLLM_PYTHON", ""))
ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
TRUNCATIONS: list[dict[str, Any]] = [
    {"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}, {"top_p": 0.9, "top_k": 12, "min_p": 0.02},
]  # fmt: skip
ENGINES = ["torch", "paged", ON_GPU, pytest.param("vllm", marks=pytest.mark.vllm)]


@pytest.fixture(scope="module")
def config(config: ModelConfig) -> ModelConfig:
    return replace(config, heads=1)  # vLLM's attention on the CPU has no heads narrower than 32


@pytest.fixture
def policy(config: ModelConfig, tokenizer: TextTokenizer) -> Transformer:
    model = wide(initialize(config, 3), 12.0)
    groups = TorchEngine(config, tokenizer, model=model).generate(prompts(tokenizer), 8, Sampling(1.0, 24), range(5))
    # The end token takes the place of what a random model says most, so that rows end at different times.
    common = Counter(t for c in flat(groups) for t in c.tokens).most_common(4)[-1][0]
    with torch.no_grad():
        model.lm_head.weight[tokenizer.end_id] = model.lm_head.weight[common]
    return model


@pytest.fixture(scope="module")
def vllm(config: ModelConfig, tokenizer: TextTokenizer) -> VLLMEngine:
    return VLLMEngine(config, tokenizer, LAYOUT)


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(request: pytest.FixtureRequest, kind: str, policy: Transformer, tokenizer: TextTokenizer) -> Engine:
    if kind == "torch":
        return TorchEngine(policy.config, tokenizer, model=policy)
    if kind == "paged":  # few slots, so that rows wait; pages that prompts and rows fill in part
        return PagedEngine(policy, tokenizer, slots=11, page=8)
    if kind == "cuda":
        return PagedEngine(policy.move(Machine("cuda")), tokenizer, slots=11)
    engine: VLLMEngine = request.getfixturevalue("vllm")
    engine.sync(policy.state_dict(), 0)
    return engine


def prompts(tokenizer: TextTokenizer, shared: str = "") -> list[list[int]]:
    return [tokenizer.encode_prompt(shared + q) for q in QUESTIONS]


def exact(engine: Engine) -> float:
    """The tolerance between log-probabilities of equal weights, in fp32. A GPU sums in another order."""
    return 1e-4 if isinstance(engine, PagedEngine) and engine.model.device.type == "cuda" else 1e-5


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [c for g in groups for c in g]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("shared", ["", SHARED])
def test_law_5_logprobs_equal_the_trainers(
    engine: Engine, policy: Transformer, tokenizer: TextTokenizer, temperature: float, shared: str
) -> None:
    ids = prompts(tokenizer, shared)
    groups = engine.generate(ids, 6, Sampling(temperature, 24), range(5))
    rows = [p for p in ids for _ in range(6)]
    all_ = flat(groups)
    assert len({tuple(c.tokens) for c in all_}) > 15
    assert len({len(c.tokens) for c in all_}) > 1, "some rows should end early, or compaction is not tested"
    batch = from_rows(
        rows, [c.tokens for c in all_], [1.0] * 30, 1.0, behaviour=[c.logprobs for c in all_], temperature=temperature
    )
    difference = (token_logprobs(policy, batch) - batch.behaviour).abs().max()
    assert difference < exact(engine)


def part_equal_tokens(engine: Engine, policy: Transformer, tokenizer: TextTokenizer) -> None:
    """No two tokens are equally likely any more: between such tokens vLLM's ``top_p`` cuts."""
    with torch.no_grad():
        policy.lm_head.weight[tokenizer.end_id] *= 0.99
    engine.sync(policy.state_dict(), 0)


def next_probabilities(policy: Transformer, tokens: list[int], temperature: float) -> torch.Tensor:
    """Behind every token, by the model itself, in double precision. (T, V)"""
    logits = policy.logits(torch.tensor([tokens], device=policy.device))[0].detach().cpu().double()
    return (logits / temperature).softmax(-1)


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_truncated_samples_have_the_logprobs_of_the_kept_tokens(
    engine: Engine, policy: Transformer, tokenizer: TextTokenizer, truncation: dict[str, Any]
) -> None:
    """And no token is drawn that is not kept."""
    part_equal_tokens(engine, policy, tokenizer)
    ids = prompts(tokenizer, SHARED)
    groups = engine.generate(ids, 4, Sampling(1.5, 12, **truncation), range(5))
    rescaled = 0
    for prompt, c in ((p, c) for p, group in zip(ids, groups) for c in group):
        rows = next_probabilities(policy, prompt + c.tokens, 1.5)[len(prompt) - 1 : -1].tolist()
        for p, token, logprob in zip(rows, c.tokens, c.logprobs):
            # In fp32 two tokens may be equally likely whose probabilities differ by a rounding.
            both = [plainly_truncated(p, **truncation, equal=equal) for equal in (0.0, 1e-6)]
            kept = min(both, key=lambda k: abs(logprob - np.log(k.get(token, 1e-9))))
            assert token in kept
            assert abs(logprob - np.log(kept[token])) < exact(engine)
            rescaled += kept[token] > 1.01 * p[token]
    assert rescaled > 50 and len({tuple(c.tokens) for c in flat(groups)}) > 15


def test_truncated_tokens_are_as_frequent_as_they_are_probable(
    engine: Engine, policy: Transformer, tokenizer: TextTokenizer
) -> None:
    """First tokens of 1,500 samples: chi-squared over the kept ones."""
    part_equal_tokens(engine, policy, tokenizer)
    prompt, n = tokenizer.encode_prompt(QUESTIONS[0]), 1500
    for truncation in ({"top_p": 0.9}, {"top_k": 12, "min_p": 0.02}):
        expected = plainly_truncated(next_probabilities(policy, prompt, 2.0)[-1].tolist(), **truncation)
        seen = Counter(c.tokens[0] for c in engine.generate([prompt], n, Sampling(2.0, 1, **truncation), [7])[0])
        assert set(seen) <= set(expected)
        chi2 = sum((seen[i] - n * p) ** 2 / (n * p) for i, p in expected.items())
        freedom = len(expected) - 1
        assert freedom >= 5 and chi2 < freedom + 4 * (2 * freedom) ** 0.5


def test_the_likeliest_token_alone_is_greedy_and_greedy_ignores_truncation(
    engine: Engine, policy: Transformer, tokenizer: TextTokenizer
) -> None:
    part_equal_tokens(engine, policy, tokenizer)
    ids = prompts(tokenizer)
    greedy = engine.generate(ids, 1, Sampling(0.0, 12), range(5))
    assert engine.generate(ids, 1, Sampling(0.0, 12, top_p=0.5, top_k=3, min_p=0.2), range(5)) == greedy
    for truncation in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}):
        alone = engine.generate(ids, 1, Sampling(1.0, 12, **truncation), range(5))
        assert [c.tokens for c in flat(alone)] == [c.tokens for c in flat(greedy)]
        assert max(abs(x) for c in flat(alone) for x in c.logprobs) < 1e-6


@pytest.mark.parametrize("sampling", [Sampling(1.0, 20), Sampling(1.5, 20, top_p=0.8, top_k=9)], ids=["all", "kept"])
def test_a_row_does_not_depend_on_its_batch(engine: Engine, tokenizer: TextTokenizer, sampling: Sampling) -> None:
    ids = prompts(tokenizer, SHARED)
    together = engine.generate(ids, 4, sampling, range(5))
    for i, p in enumerate(ids):
        alone = engine.generate([p], 4, sampling, [i])[0]
        assert [c.tokens for c in alone] == [c.tokens for c in together[i]]
    if isinstance(engine, PagedEngine):
        engine = PagedEngine(engine.model, tokenizer, slots=2, page=16)
    elif isinstance(engine, TorchEngine):
        engine.max_rows = 8
    else:
        return
    split = engine.generate(ids, 4, sampling, range(5))
    assert [c.tokens for c in flat(split)] == [c.tokens for c in flat(together)]


@pytest.mark.parametrize("shared", [SHARED, ""])
def test_prompts_are_read_in_parts_of_what_a_pass_may_hold(
    policy: Transformer, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    ids, engine = prompts(tokenizer, shared), TorchEngine(policy.config, tokenizer, model=policy)
    whole = engine.generate(ids, 3, Sampling(1.0, 12), range(5))
    read, forward = list[int](), policy.forward

    def counted(tokens: Tensor, *more: Any) -> Tensor:
        if tokens.shape[1] > 1:
            read.append(tokens.numel())
        return forward(tokens, *more)

    monkeypatch.setattr(policy, "forward", counted)
    monkeypatch.setattr(policy, "machine", replace(policy.machine, microbatch_tokens=2 * max(map(len, ids))))
    parts = engine.generate(ids, 3, Sampling(1.0, 12), range(5))
    assert [c.tokens for c in flat(parts)] == [c.tokens for c in flat(whole)]
    assert max(read) <= 2 * max(map(len, ids)) and (shared or len(read) == 3)


def test_samples_that_agree_so_far_are_one_row(
    policy: Transformer, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, forward = list[int](), policy.forward

    def counted(tokens: Tensor, *more: Any) -> Tensor:
        rows.append(len(tokens))
        return forward(tokens, *more)

    monkeypatch.setattr(policy, "forward", counted)
    ids, n, steps = prompts(tokenizer, SHARED), 32, 16
    groups = TorchEngine(policy.config, tokenizer, model=policy).generate(ids, n, Sampling(0.3, steps), range(5))
    begun = [  # the beginnings that a row continues with token t
        {(i, *c.tokens[:t]) for i, group in enumerate(groups) for c in group if len(c.tokens) > t}
        for t in range(1, steps)
    ]
    decoded = rows[2:]  # behind the shared prefix and the prompts
    assert max(decoded) == max(map(len, begun)) and decoded[0] == len(begun[0])
    assert all(computed >= len(needed) for computed, needed in zip(decoded, begun))
    assert sum(decoded) < sum(len(c.tokens) for c in flat(groups))


def test_both_embedded_engines_draw_the_same(policy: Transformer, tokenizer: TextTokenizer) -> None:
    """Prompts of several pages behind a shared prefix, more rows than slots, groups that wait for a page."""
    one, other = TorchEngine(policy.config, tokenizer, model=policy), PagedEngine(policy, tokenizer, slots=7, page=8)
    kept = Sampling(1.2, 20, top_p=0.9, top_k=20, min_p=0.01)
    asked = ((SHARED, Sampling(0.7, 24, ("1",))), ("", Sampling(1.0, 30)), ("", Sampling(0.0, 9)), ("", kept))
    for shared, sampling in asked:
        ids = prompts(tokenizer, shared)
        ours, theirs = (e.generate(ids, 5, sampling, range(5)) for e in (one, other))
        for a, b in zip(flat(ours), flat(theirs)):
            assert (a.tokens, a.text, a.stop_reason) == (b.tokens, b.text, b.stop_reason)
            assert np.abs(np.subtract(a.logprobs, b.logprobs)).max() < 1e-4


def test_a_decoder_is_kept_while_it_is_large_enough(
    policy: Transformer, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds if memory is short, and for two uses in turn. A new decoder would compile and record anew."""
    made: list[int] = []

    def tight(shape: Shape, *_: object) -> Shape:
        made.append(shape.pages)
        return replace(shape, pages=40, slots=3)

    monkeypatch.setattr(Shape, "fitted", tight)
    engine, ids = PagedEngine(policy, tokenizer, page=8), prompts(tokenizer, SHARED)
    for _ in range(3):
        engine.generate(ids, 8, Sampling(1.0, 8), range(5))
        engine.generate(ids[:1], 1, Sampling(0.0, 30), range(1))
    assert len(made) == 2, "for the first use, and once for what both want"


@pytest.mark.slow
def test_paged_engine_keeps_up_with_the_trained_weights(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    model = wide(initialize(config, 3), 12.0)
    engine, ids, sampling = PagedEngine(model, tokenizer), prompts(tokenizer)[:2], Sampling(1.0, 8, precision="bf16")
    engine.sync(model.state_dict(), 0)
    before = engine.generate(ids, 2, sampling, range(2))
    with torch.no_grad():
        for p, new in zip(model.parameters(), wide(initialize(config, 4), 12.0).parameters()):
            p.copy_(new)
    engine.sync(model.state_dict(), 1)
    after, fresh = (e.generate(ids, 2, sampling, range(2)) for e in (engine, PagedEngine(model, tokenizer)))
    assert [c.tokens for c in flat(after)] == [c.tokens for c in flat(fresh)] != [c.tokens for c in flat(before)]


def test_same_seed_same_samples_other_seed_others(engine: Engine, tokenizer: TextTokenizer) -> None:
    ids = prompts(tokenizer)
    first, again = (engine.generate(ids, 3, Sampling(1.0, 16), range(5)) for _ in range(2))
    assert first == again
    other = engine.generate(ids, 3, Sampling(1.0, 16), range(10, 15))
    assert [c.tokens for c in flat(other)] != [c.tokens for c in flat(first)]


def test_greedy_is_the_argmax_of_the_model(engine: Engine, policy: Transformer, tokenizer: TextTokenizer) -> None:
    prompt = tokenizer.encode_prompt(QUESTIONS[0])
    got = engine.generate([prompt], 1, Sampling(0.0, 12), [0])[0][0].tokens
    expected: list[int] = []
    while len(expected) < len(got):
        logits = policy.logits(torch.tensor([prompt + expected], device=policy.device))
        expected.append(int(logits[0, -1].argmax()))
    assert got == expected


@pytest.mark.parametrize("ascii", [True, False])
def test_stop_strings_end_and_are_cut(engine: Engine, tokenizer: TextTokenizer, ascii: bool) -> None:
    """This includes stop strings with characters that are spread over several tokens."""
    ids = prompts(tokenizer)
    free = flat(engine.generate(ids, 8, Sampling(1.0, 24), range(5)))
    stop = (max("aeiou0123456789", key=lambda s: sum(s in c.text for c in free)),)
    if not ascii:
        stop = tuple(sorted({s for c in free for s in c.text if not s.isascii() and s != "\ufffd"}))
    stopped = flat(engine.generate(ids, 8, Sampling(1.0, 24, stop), range(5)))
    assert any(c.stop_reason == "stop" for c in stopped)
    for a, b in zip(free, stopped):
        found = [a.text.index(s) for s in stop if s in a.text]
        if found:
            assert b.stop_reason == "stop" and b.text == a.text[: min(found)]
            assert b.tokens == a.tokens[: len(b.tokens)]
            before = tokenizer.decode(b.tokens[:-1])
            assert not any(s in before for s in stop), "it goes on behind the stop"
        else:
            assert a.tokens == b.tokens and a.stop_reason == b.stop_reason != "stop"


@pytest.mark.parametrize("stop", ["。", "。A", "A。", "é\n", "\n\n", "Q:"])
def test_the_token_that_completes_a_stop_string_is_seen(tokenizer: TextTokenizer, stop: str) -> None:
    endings, ids = Endings(tokenizer, tokenizer.vocab_size + 3), tokenizer.encode("12 " + stop)
    assert endings.closing((stop,), torch.device("cpu"))[ids[-1]]
    assert endings.stopped([ids, ids[:-1]], (stop,)) == [True, False]


def test_stop_reasons(engine: Engine, tokenizer: TextTokenizer) -> None:
    for c in flat(engine.generate(prompts(tokenizer), 16, Sampling(1.0, 24), range(5))):
        assert (c.tokens[-1] == tokenizer.end_id) == (c.stop_reason == "end")
        assert c.stop_reason == "end" or len(c.tokens) == 24
        assert len(c.tokens) == len(c.logprobs)


def test_a_row_ends_at_the_first_of_several_end_tokens(
    kind: str, engine: Engine, policy: Transformer, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published models have several end tokens. Up to the first one, the row equals the row with a single end token."""
    ids, sampling = prompts(tokenizer), Sampling(1.0, 24)
    free = flat(engine.generate(ids, 8, sampling, range(5)))
    counts = Counter(t for c in free for t in c.tokens[1:-1])
    more = [t for t, _ in counts.most_common(12)[-2:]]
    several = TextTokenizer(tokenizer.tokenizer, None, ModelEnds({}, None, (tokenizer.end_id, more[0]), (more[1],)))
    assert several.end_ids == (tokenizer.end_id, *more)
    if kind == "vllm":  # one process serves all tests
        monkeypatch.setattr(engine, "tokenizer", several)
        monkeypatch.setattr(engine, "endings", Endings(several, policy.config.vocab_size))
    elif kind == "torch":
        engine = TorchEngine(policy.config, several, model=policy)
    else:
        engine = PagedEngine(policy, several, slots=11, page=8 if kind == "paged" else 128)
    ended = Counter[int]()
    for a, b in zip(free, flat(engine.generate(ids, 8, sampling, range(5)))):
        at = next((i for i, t in enumerate(a.tokens) if t in several.end_ids), None)
        assert b.tokens == a.tokens[: None if at is None else at + 1]
        assert np.abs(np.subtract(a.logprobs[: len(b.tokens)], b.logprobs)).max() < exact(engine)
        assert b.stop_reason == ("length" if at is None else "end")
        said = b.tokens if at is None else b.tokens[:-1]
        assert b.text == tokenizer.tokenizer.decode(said, skip_special_tokens=False), "the end is no part of the text"
        ended[b.tokens[-1] if at is not None else -1] += 1
    assert all(ended[i] for i in several.end_ids)


def test_too_long_a_prompt_says_what_to_change(engine: Engine, tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="fewer shots"):
        engine.generate([tokenizer.encode_prompt("Q " * 200)], 1, Sampling(1.0, 10), [0])


def test_sync_takes_over_weights_and_version(engine: Engine, tokenizer: TextTokenizer) -> None:
    other = wide(initialize(engine.config, 9), 12.0)
    engine.sync(other.state_dict(), 7)
    for prompt in prompts(tokenizer):
        c = engine.generate([prompt], 1, Sampling(1.0, 12), [0])[0][0]
        batch = from_rows([prompt], [c.tokens], [1.0], 1.0, behaviour=[c.logprobs])
        assert c.policy_version == 7
        assert (token_logprobs(other, batch) - batch.behaviour).abs().max() < exact(engine)


def test_the_embedded_engine_keeps_weights_of_its_own(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    engine, other = TorchEngine(config, tokenizer), initialize(config, 9)
    engine.sync(other.state_dict(), 7)
    assert torch.equal(engine.model.lm_head.weight, other.lm_head.weight)
    assert engine.model.lm_head.weight.data_ptr() != other.lm_head.weight.data_ptr()


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0]).log_softmax(0).repeat(200_000, 1)
    u = torch.from_numpy(np.random.default_rng(0).random(200_000))
    for temperature in (1.0, 0.5):
        token, logprob = sample(logits, u, Sampling(temperature))
        p = (logits[0] / temperature).softmax(0)
        torch.testing.assert_close(token.bincount(minlength=4) / 200_000, p, rtol=0, atol=4e-3)
        torch.testing.assert_close(logprob, p.log()[token], rtol=0, atol=1e-5)


def test_sampling_at_the_ends_of_the_table() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).repeat(2, 1)
    token, _ = sample(logits, torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64), Sampling(1.0))
    assert token.tolist() == [1, 2]


def test_bf16_samples_nearly_the_same_distribution(
    kind: str, engine: Engine, policy: Transformer, tokenizer: TextTokenizer
) -> None:
    if kind == "vllm":  # which has one precision, from its start
        engine = open_engine("vllm", policy, tokenizer, LAYOUT, "bf16")
    ids = prompts(tokenizer, SHARED)
    groups = engine.generate(ids, 6, Sampling(1.0, 24, precision="bf16"), range(5))
    all_ = flat(groups)
    batch = from_rows([p for p in ids for _ in range(6)], [c.tokens for c in all_], [1.0] * 30, 1.0,
                      behaviour=[c.logprobs for c in all_])  # fmt: skip
    gap = (token_logprobs(policy, batch) - batch.behaviour)[batch.weight != 0].abs()
    assert gap.max() > 1e-5 and gap.mean() < 0.1
    assert sum(np.exp(c.logprobs).max() <= 1 for c in all_) == 30
