"""``transformers``: the usual training loop, and ``generate()`` with a static cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from cases import Case
from transformers import AutoModelForCausalLM


def prepare(case: Case, folder: Path, variant: str) -> Callable[[], int]:
    return {"pretrain": _pretrain, "sample": _sample}[case.kind](case, folder, variant)


def _pretrain(case: Case, folder: Path, variant: str) -> Callable[[], int]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    rows = torch.randint(1, model.config.vocab_size, (case.rows, case.length))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    mixed = torch.autocast("cpu", torch.bfloat16) if variant == "bf16" else contextlib.nullcontext()

    def run() -> int:
        adam.zero_grad()
        with mixed:
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        return rows.numel()

    return run


def _sample(case: Case, folder: Path, variant: str) -> Callable[[], int]:
    dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    prompts = torch.tensor(case.token_prompts())

    @torch.no_grad()
    def run() -> int:
        out = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=case.samples, max_new_tokens=case.new_tokens, min_new_tokens=case.new_tokens,
            cache_implementation="static", disable_compile=True, pad_token_id=0,
        )  # fmt: skip
        return out.shape[0] * (out.shape[1] - prompts.shape[1])

    return run
