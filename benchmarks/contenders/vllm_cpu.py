"""vLLM's CPU build in its own process; see ../README.md for the environment it needs. Variants: ``fp32``, ``bf16``."""

from __future__ import annotations

from pathlib import Path

from cases import Case, Groups, Prepared
from safetensors.torch import load_file
from vllm import LLM, SamplingParams


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    dtype = "bfloat16" if variant == "bf16" else "float32"
    llm = LLM(
        model=str(folder), dtype=dtype, max_model_len=704, enforce_eager=True, skip_tokenizer_init=True,
        max_num_seqs=512, enable_prefix_caching=True,
    )  # fmt: skip
    prompts = [{"prompt_token_ids": p} for p in case.token_prompts()]
    sampling = SamplingParams(
        n=case.samples, temperature=1.0, max_tokens=case.new_tokens, ignore_eos=True, detokenize=False, logprobs=0
    )

    weights = load_file(folder / "model.safetensors")

    def run() -> Groups:
        llm.reset_prefix_cache()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return [[list(c.token_ids) for c in o.outputs] for o in outputs]

    def new_weights() -> None:
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": list(weights.items())})
        llm.reset_prefix_cache()

    return Prepared(run, new_weights)
