"""The model's operations and their gradients: by torch and in C, against plain formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from foray.core.batch import Batch
from foray.model import attention_in_c, layer_in_c, operators
from foray.model.attention_in_c import Rows
from foray.train.packing import pack

WAYS = ("torch", "C")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Operations by torch alone, and in C."""
    if request.param == "torch":
        request.getfixturevalue("only_torch")
    elif not layer_in_c.available(torch.zeros(16), 16):
        pytest.skip("no C compiler here")
    # Uncompiled: torch's compiler takes 20 s, and the tests marked gpu run the compiled ones.
    with torch.compiler.set_stance("force_eager"):
        yield request.param


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype).requires_grad_()


def agree(ours: Tensor, theirs: Tensor, inputs: tuple[Tensor, ...], rtol: float = 1e-5, atol: float = 2e-6) -> None:
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=rtol, atol=atol)
    g = torch.randn(theirs.shape)
    found = torch.autograd.grad(ours, inputs, g.to(ours.dtype))
    for x, a, b in zip(inputs, found, torch.autograd.grad(theirs, inputs, g.to(theirs.dtype))):
        assert a.dtype == x.dtype and a.shape == x.shape
        torch.testing.assert_close(a.float(), b.float(), rtol=rtol, atol=atol * max(1, float(b.abs().max())))


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def rotary(T: int, d: int) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """cos, sin and the rotation by formula."""
    angles = torch.randn(T, 1, d // 2)
    cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([-angles.sin(), angles.sin()], -1)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * torch.cat([angles.sin()] * 2, -1)

    return cos, sin, turned


@pytest.mark.parametrize("products", [2, 3])
@pytest.mark.parametrize("D", [8, 96])
def test_products_of_one_input_add_their_gradients_in_fp32(way: str, D: int, products: int) -> None:
    """As where autocast casts the input for each product anew."""
    torch.manual_seed(0)
    x, g = leaf(3, 70, D), [torch.randn(3, 70, D).bfloat16() for _ in range(products)]
    g[0] = g[0].transpose(0, 1).contiguous().transpose(0, 1)
    assert all(one is x for one in operators.cast_for(x, products)), "nothing is cast without autocast"
    with torch.autocast("cpu", torch.bfloat16):
        given = operators.cast_for(x, products)
        assert len(given) == products and all(torch.equal(one.bfloat16(), x.bfloat16()) for one in given)
        (found,) = torch.autograd.grad([one.bfloat16() for one in given], x, g)
        with torch.no_grad():
            assert {one.dtype for one in operators.cast_for(x, products)} == {torch.bfloat16}
    torch.testing.assert_close(found, sum((one.float() for one in g), torch.zeros(3, 70, D)))


def test_a_norm_over_no_rows_has_a_gradient_of_zeros(way: str) -> None:
    x, weight = torch.zeros(1, 0, 96, requires_grad=True), torch.rand(96).requires_grad_()
    to_x, to_weight = torch.autograd.grad(operators.rms_norm(x, weight, 1e-6).sum(), (x, weight))
    assert to_x.shape == x.shape and torch.equal(to_weight, torch.zeros(96))


@pytest.mark.parametrize("D", [8, 96, 320])
def test_norms(way: str, D: int) -> None:
    torch.manual_seed(0)
    x, add, weight = leaf(3, 70, D), leaf(3, 70, D), torch.rand(D).requires_grad_()
    agree(operators.rms_norm(x, weight, 1e-6), norm(x, weight), (x, weight))
    agree(operators.rms_norm(x, weight, 1e-6, add), add + norm(x, weight), (x, weight, add))
    apart = leaf(D, 70).t()  # not contiguous
    agree(operators.rms_norm(apart, weight, 1e-6), norm(apart, weight), (apart, weight))
    with torch.no_grad():
        torch.testing.assert_close(operators.rms_norm(x, weight, 1e-6, add), add + norm(x, weight))


@pytest.mark.parametrize("d", [8, 32, 64])
@pytest.mark.parametrize("normed", ["full", "head", "none"])
def test_rotations_after_norms(way: str, d: int, normed: str) -> None:
    torch.manual_seed(0)
    B, T, H = 2, 35, 3
    cos, sin, turned = rotary(T, d)
    x = leaf(B, T, H * d)
    weight = None if normed == "none" else torch.rand(H * d if normed == "full" else d).requires_grad_()

    def plain(x: Tensor) -> Tensor:
        if weight is not None:
            x = norm(x if normed == "full" else x.view(B, T, H, d), weight)
        return turned(x.view(B, T, H, d))

    inputs = (x,) if weight is None else (x, weight)
    agree(operators.norm_and_rotate(x, weight, 1e-6, cos, sin, d), plain(x), inputs)
    with torch.no_grad():
        torch.testing.assert_close(operators.norm_and_rotate(x, weight, 1e-6, cos, sin, d), plain(x))
        each = (t.expand(B, -1, -1, -1).contiguous() for t in (cos, sin))  # an angle for every row and time
        torch.testing.assert_close(operators.norm_and_rotate(x, weight, 1e-6, *each, d), plain(x))


@pytest.mark.parametrize("M", [7, 256])
def test_gates(way: str, M: int) -> None:
    torch.manual_seed(0)
    a, b = leaf(5, M), leaf(5, M)
    with torch.no_grad():
        a[0, :7] = torch.tensor([-200.0, -50, -1e-20, 0, 1e-20, 50, 200])
    agree(operators.gated(a, b), a * torch.sigmoid(a) * b, (a, b))


@pytest.mark.parametrize("V", [7, 1792, 1001])
@pytest.mark.parametrize("fused", [False, True])
def test_logprobs_of_targets(way: str, V: int, fused: bool) -> None:
    torch.manual_seed(0)
    logits, targets = leaf(40, V), torch.randint(0, V, (40,))

    def picked() -> Tensor:
        log_z = logits.logsumexp(-1)
        return torch.stack([logits.gather(1, targets[:, None])[:, 0] - log_z, log_z])

    agree(torch.stack(operators.target_logprob(logits, targets, fused)), picked(), (logits,))
    agree(torch.stack(operators.target_logprob(logits + 0, targets, fused, spare=True)), picked(), (logits,))
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(operators.target_logprob(logits, targets, fused)), picked())
        logits[1, 2] = torch.nan
        assert operators.target_logprob(logits, targets, fused)[0].isnan().nonzero().tolist() == [[1]]
    for beyond in (-1, V):
        with pytest.raises((IndexError, RuntimeError)):
            operators.target_logprob(logits, targets.new_full((40,), beyond), fused)


SHAPES = [(2, 3, 3, 40, 32), (1, 4, 2, 131, 16), (2, 2, 1, 300, 64), (3, 2, 2, 1, 48), (1, 1, 1, 31, 8)]


@pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the CPU's matrix unit."""
    if request.param and not attention_in_c.matrix_unit():
        pytest.skip("no AMX here")
    monkeypatch.setattr(attention_in_c, "matrix_unit", lambda: request.param)


def plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    T, d = q.shape[-2:]
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    later = torch.full((T, T), -torch.inf).triu(1)
    return (q @ keys.transpose(-1, -2) * d**-0.5 + later).softmax(-1) @ values


@pytest.mark.parametrize("B, H, K, T, d", [*SHAPES, (1, 2, 2, 65, 80), (2, 1, 1, 64, 128)])
def test_causal_attention_in_bfloat16(unit: None, B: int, H: int, K: int, T: int, d: int) -> None:
    torch.manual_seed(0)
    half = torch.bfloat16
    q, k, v = leaf(B, H, T, d, dtype=half), leaf(B, K, T, d, dtype=half), leaf(B, K, T, d, dtype=half)
    agree(operators.attention(q, k, v), plainly(q.float(), k.float(), v.float()), (q, k, v), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("B, H, K, T, d", SHAPES)
def test_causal_attention(way: str, B: int, H: int, K: int, T: int, d: int) -> None:
    torch.manual_seed(0)
    q, k, v = leaf(B, H, T, d), leaf(B, K, T, d), leaf(B, K, T, d)
    plain = plainly(q, k, v)
    agree(operators.attention(q, k, v), plain, (q, k, v))
    with torch.no_grad():
        torch.testing.assert_close(operators.attention(q, k, v), plain, rtol=1e-5, atol=2e-6)


def rollouts(groups: list[list[int]], prompts: list[int]) -> Batch:
    """Rows of ``groups`` with so many tokens after prompts of so many, all of which score."""
    rows = [(g, prompts[g], n) for g, group in enumerate(groups) for n in group]
    longest = max(p + n for _, p, n in rows)
    group, shared, own = torch.tensor(rows).T
    time = torch.arange(longest)
    weight = ((time >= shared[:, None] - 1) & (time < (shared + own)[:, None])).float()
    prompt = torch.randint(0, 50, (len(groups), longest))[group]
    tokens = torch.where(time < shared[:, None], prompt, torch.randint(0, 50, prompt.shape))
    same = torch.zeros(weight.shape)
    return Batch(tokens, tokens.roll(-1, 1), weight, same, same, 1.0, group=group, shared=shared)


@pytest.mark.parametrize("limit", [60, 10_000])
@pytest.mark.parametrize("dtype, off, near", [(torch.float32, 1e-5, 2e-6), (torch.bfloat16, 0.02, 0.02)])
@pytest.mark.parametrize(
    "groups, prompts",
    [
        ([[5, 9, 1], [20, 20], [3]], [17, 4, 40]), ([[70, 3, 33]], [50]), ([[4], [5], [6]], [0, 0, 0]),
        ([[3, 2], [1, 8]], [0, 7]),
    ],
)  # fmt: skip
def test_packed_rows_attend_in_c_as_by_torch(
    monkeypatch: pytest.MonkeyPatch, unit: None, groups: list[list[int]], prompts: list[int], limit: int,
    dtype: torch.dtype, off: float, near: float,
) -> None:  # fmt: skip
    if not attention_in_c.available(torch.zeros(16)):
        pytest.skip("no C compiler here")
    torch.manual_seed(0)
    batch, H, K, d = rollouts(groups, prompts), 4, 2, 16
    for packed in pack(batch, batch.weight != 0, limit):
        M = packed.tokens.shape[1]
        q, k, v = (leaf(1, heads, M, d, dtype=dtype) for heads in (H, K, K))
        in_c = packed(0, q, k, v)[0, :, packed.place]
        with monkeypatch.context() as only_torch:
            only_torch.setattr(attention_in_c, "available", lambda *_: False)
            by_torch = packed(0, q, k, v)[0, :, packed.place]
            agree(in_c, by_torch, (q, k, v), rtol=off, atol=near)


def test_tokens_without_a_row_get_zeros() -> None:
    if not attention_in_c.available(torch.zeros(16)):
        pytest.skip("no C compiler here")
    q, k, v = leaf(10, 2, 16), leaf(10, 2, 16), leaf(10, 2, 16)
    rows = Rows.of([[(1, 3), (6, 2)]])
    assert (rows.most, rows.tokens) == (5, 5)
    out = attention_in_c.attend(q, k, v, rows)
    assert (out.flatten(1).abs().sum(1) > 0).nonzero()[:, 0].tolist() == [1, 2, 3, 6, 7]
    for found in torch.autograd.grad(out.square().sum(), (q, k, v)):
        assert found.isfinite().all() and not found[[0, 4, 5, 8, 9]].any()


@pytest.mark.parametrize("way", ["C"], indirect=True)
def test_bfloat16_rounds_as_torch_does(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    B, T, H, d = 2, 50, 3, 32
    cos, sin, _ = rotary(T, d)
    half = torch.bfloat16
    x, a, b = leaf(B, T, H * d, dtype=half), leaf(B, T, H * d, dtype=half), leaf(B, T, H * d, dtype=half)
    add, weight = leaf(B, T, H * d), torch.rand(H * d).requires_grad_()
    q, k, v = (leaf(B, H, T, d, dtype=half) for _ in range(3))
    cases: list[tuple[Callable[[], Tensor], tuple[Tensor, ...]]] = [
        (lambda: operators.rms_norm(x, weight, 1e-6), (x, weight)),
        (lambda: operators.rms_norm(x, weight, 1e-6, add), (x, weight, add)),
        (lambda: operators.norm_and_rotate(x, weight, 1e-6, cos, sin, d), (x, weight)),
        (lambda: operators.gated(a, b), (a, b)),
        (lambda: operators.attention(q, k, v), (q, k, v)),
    ]
    for case, inputs in cases:
        in_c = case()
        with monkeypatch.context() as only_torch:
            only_torch.setattr(layer_in_c, "available", lambda *_: False)
            only_torch.setattr(attention_in_c, "available", lambda *_: False)
            by_torch = case()
        assert in_c.dtype == by_torch.dtype
        assert (in_c == by_torch).float().mean() > 0.6  # most of the others differ by one place
        agree(in_c, by_torch, inputs, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("way", ["C"], indirect=True)
@pytest.mark.parametrize("bf16", [False, True])
def test_threads_change_no_bit(way: str, bf16: bool) -> None:
    torch.manual_seed(0)
    B, T, H, d = 4, 100, 3, 32
    cos, sin, _ = rotary(T, d)
    x, a, weight = leaf(B, T, H * d), leaf(B, T, H * d), torch.rand(H * d).requires_grad_()
    targets, before = torch.randint(0, H * d, (B * T,)), torch.get_num_threads()

    def everything() -> list[Tensor]:
        q = operators.norm_and_rotate(x, weight, 1e-6, cos, sin, d).transpose(1, 2)
        q = q.bfloat16() if bf16 else q
        y = operators.attention(q, q.roll(1, 1), q.roll(2, 1)).float().transpose(1, 2).flatten(2)
        y = operators.gated(operators.rms_norm(y, weight, 1e-6, x), a)
        logprobs, log_z = operators.target_logprob(y.flatten(0, 1), targets)
        return [logprobs, log_z, *torch.autograd.grad((logprobs + log_z.square()).sum(), (x, a, weight))]

    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(everything())
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
