"""``transformers``: the usual training loop, and ``generate()`` with a static cache."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from cases import Case, Groups, Prepared
from transformers import AutoModelForCausalLM


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    return {"pretrain": _pretrain, "sample": _sample}[case.kind](case, folder, variant)


def _pretrain(case: Case, folder: Path, variant: str) -> Prepared:
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

    return Prepared(run)


def _sample(case: Case, folder: Path, variant: str) -> Prepared:
    dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    prompts = torch.tensor(case.token_prompts())
    weights = {name: w.float().clone() for name, w in model.state_dict().items()}

    @torch.no_grad()
    def run() -> Groups:
        out = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=case.samples, max_new_tokens=case.new_tokens, min_new_tokens=case.new_tokens,
            cache_implementation="static", disable_compile=True, pad_token_id=0,
        )  # fmt: skip
        return out[:, prompts.shape[1] :].view(case.prompts, case.samples, -1).tolist()

    return Prepared(run, lambda: model.load_state_dict(weights))
