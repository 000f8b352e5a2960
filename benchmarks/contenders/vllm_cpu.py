"""vLLM's CPU build in its own process; see ../README.md for the environment it needs. Variants: ``fp32``, ``bf16``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cases import Case
from vllm import LLM, SamplingParams


def prepare(case: Case, folder: Path, variant: str) -> Callable[[], int]:
    dtype = "bfloat16" if variant == "bf16" else "float32"
    llm = LLM(
        model=str(folder), dtype=dtype, max_model_len=704, enforce_eager=True, skip_tokenizer_init=True,
        max_num_seqs=512, enable_prefix_caching=True,
    )  # fmt: skip
    prompts = [{"prompt_token_ids": p} for p in case.token_prompts()]
    sampling = SamplingParams(
        n=case.samples, temperature=1.0, max_tokens=case.new_tokens, ignore_eos=True, detokenize=False, logprobs=0
    )

    def run() -> int:
        llm.reset_prefix_cache()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return sum(len(c.token_ids) for o in outputs for c in o.outputs)

    return run
