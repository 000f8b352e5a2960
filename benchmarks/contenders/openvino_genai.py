"""OpenVINO GenAI's continuous batching, a model exported by optimum-intel. Variants: ``fp32`` and ``bf16``, with caches
of the same dtype.

What it shares: a prompt is computed once for its samples, and prompts that begin alike share that beginning as soon as
one of them is done, which the cache of prefixes is for. It cannot be emptied: every round has other prompts. The
scheduler mixes prompts and samples in its batches. New weights are exported as a model file from the model in memory,
read, and compiled. Where AMX ends the process, bf16 goes without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import openvino
import openvino_genai as genai
import torch
from cases import Case, Groups, Prepared
from optimum.exporters.openvino import export_from_model
from optimum.intel.openvino import OVConfig
from transformers import AutoModelForCausalLM

DTYPES = {"fp32": "f32", "bf16": "bf16"}
CACHE = 4  # GB for keys and values
BATCH = 8192  # tokens of a step


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    exported = folder / f"openvino-{variant}"
    pipeline: list[genai.ContinuousBatchingPipeline] = []
    rounds, changes = count(), count()

    def new_weights() -> None:
        pipeline.clear()  # it holds the file
        model.load_state_dict(weights)
        export_from_model(model, exported, task="text-generation-with-past", ov_config=OVConfig(dtype="fp32"))
        if next(changes) == 0 and crashes(exported, DTYPES[variant]):
            os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_FP16"  # all but AMX; read when the first model is loaded
        pipeline.append(loaded(exported, DTYPES[variant]))

    def generate(prompts: list[list[int]], settings: list[genai.GenerationConfig]) -> Groups:
        out = pipeline[0].generate([openvino.Tensor(np.array([p])) for p in prompts], settings)
        return [[list(ids) for ids in o.m_generation_ids] for o in out]

    def run() -> Groups:
        number = next(rounds)
        prompts = case.token_prompts(seed=number)
        if case.shared_tokens:  # prompts of a batch that begin alike would each compute the beginning
            generate([prompts[0][: case.shared_tokens]], [drawing(1, 1, 0)])
        seeds = range(number * case.prompts, (number + 1) * case.prompts)
        return generate(prompts, [drawing(case.samples, case.new_tokens, seed) for seed in seeds])

    new_weights()
    return Prepared(run, new_weights)


def crashes(folder: Path, dtype: str) -> bool:
    """Whether loading ends the process, as bf16 by AMX does on some virtual machines (SIGFPE)."""
    code = "import contenders.openvino_genai as c, pathlib, sys; c.loaded(pathlib.Path(sys.argv[1]), sys.argv[2])"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code, str(folder), dtype], env=env, capture_output=True).returncode < 0


def loaded(folder: Path, dtype: str) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_batched_tokens, scheduler.max_num_seqs = CACHE, BATCH, 512
    scheduler.enable_prefix_caching = True
    threads = int(os.environ["OMP_NUM_THREADS"])
    settings = {"INFERENCE_PRECISION_HINT": dtype, "KV_CACHE_PRECISION": dtype, "INFERENCE_NUM_THREADS": threads}
    return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", settings)


def drawing(samples: int, tokens: int, seed: int) -> genai.GenerationConfig:
    """From the whole distribution. Prompts of one seed would draw with the same random numbers."""
    config = genai.GenerationConfig()
    config.do_sample, config.temperature, config.top_p, config.top_k = True, 1.0, 1.0, 0
    config.num_return_sequences, config.max_new_tokens, config.ignore_eos = samples, tokens, True
    config.rng_seed = seed
    return config
