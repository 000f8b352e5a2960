"""Foray beside what a user would pick instead, in interleaved rounds: medians and ratios. See README.md beside it.

python benchmarks/bench.py [CASE ...] [--rounds 7] [--threads 2] [--trl PYTHON] [--vllm PYTHON]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from cases import CASES, SHAPES, Case, Shape
from tokenizers import Tokenizer, models, pre_tokenizers

from foray.data.tokenizer import END, TextTokenizer
from foray.model.config import ModelConfig
from foray.model.hf import save_model
from foray.model.transformer import initialise

HERE = Path(__file__).parent
CONTENDERS = {  # kind -> contender:variant, its python
    "pretrain": ["foray_engine:fp32", "foray_engine:bf16", "hf:fp32", "hf:bf16"],
    "sample": ["foray_engine:fp32", "hf:fp32", "hf:bf16", "vllm_cpu:fp32", "vllm_cpu:bf16"],
    "grpo": ["foray_engine:fp32", "trl_trainer:fp32"],
    "study": ["foray_engine:fp32", "trl_trainer:fp32"],
}


def write_model(shape: Shape, folder: Path) -> None:
    """Random weights and a tokenizer of one token a word (``t17``), in Hugging Face's format."""
    config = ModelConfig(
        width=shape.width, layers=shape.layers, heads=shape.heads, mlp_width=shape.mlp_width,
        vocab_size=shape.vocab_size, context=shape.context,
    )  # fmt: skip
    words = {END: 0} | {f"t{i}": i for i in range(1, shape.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    save_model(initialise(config, 0), folder, 0)
    TextTokenizer(tokenizer).save(folder, shape.context)


class Worker:
    """A contender in its own process and environment."""

    def __init__(self, contender: str, python: str, case: str, folder: Path, threads: int) -> None:
        self.name = contender
        env = os.environ | {
            "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR",
        }  # fmt: skip
        command = [python, str(HERE / "worker.py"), contender, case, str(folder)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=env
        )
        assert self.process.stdin and self.process.stdout
        self.into, self.out = self.process.stdin, self.process.stdout
        if self.out.readline().strip() != "ready":
            self.log.seek(0)
            raise SystemExit(f"{contender} failed on {case}:\n{self.log.read()[-3000:]}")

    def run(self) -> dict[str, float]:
        print(file=self.into, flush=True)
        return json.loads(self.out.readline())

    def stop(self) -> None:
        self.into.close()
        self.process.kill()
        self.process.wait()


def matmul_seconds(shape: Shape, tokens: int, dtype: torch.dtype) -> float:
    """Seconds that the matrix products of one training step take on this machine when nothing else is done."""
    D, M = shape.width, shape.mlp_width
    products = [(D, D)] * 4 * shape.layers + [(D, M), (D, M), (M, D)] * shape.layers + [(D, shape.vocab_size)]
    total = 0.0
    for inner, outer in set(products):
        x, w, g = (torch.randn(s, dtype=dtype) for s in ((tokens, inner), (inner, outer), (tokens, outer)))
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            x @ w, g @ w.T, x.T @ g
            times.append(time.perf_counter() - begun)
        total += statistics.median(times) * products.count((inner, outer))
    return total


def training_flops(shape: Shape, case: Case) -> float:
    """Of one step: 6 a matrix parameter a token (embeddings are looked up, the head is counted), and attention."""
    D, M, L = shape.width, shape.mlp_width, shape.layers
    matrices = L * (4 * D * D + 3 * D * M) + D * shape.vocab_size
    attention = 6 * L * case.length * D  # 12 L T D for scores and mixing, forward and backward, halved by causality
    return case.rows * case.length * (6 * matrices + attention)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl", default=sys.executable, help="python of an environment with TRL")
    parser.add_argument("--vllm", help="python of an environment with vLLM's CPU build; left out where not given")
    parser.add_argument("--checkpoint", type=Path, help="model folder of an early M_t, for the case of the study")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE)
    print(f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip()}, {args.threads} threads, {_cpu()}")
    print(", ".join(f"{p} {version(p)}" for p in ("torch", "transformers")), "\n")
    print("| case | contender | median s | tokens/s | foray is faster by |\n|---|---|---:|---:|---:|")
    for name in args.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.checkpoint if case.kind == "study" else Path(temporary)
            if case.kind == "study" and not folder:
                print(f"| {name} | left out: give --checkpoint | | | |")
                continue
            if case.kind != "study":
                write_model(SHAPES[case.shape], folder)
            workers = []
            for contender in CONTENDERS[case.kind]:
                python = {"trl_trainer": args.trl, "vllm_cpu": args.vllm}.get(contender.split(":")[0], sys.executable)
                if python:
                    workers.append(Worker(contender, python, name, folder, args.threads))
            runs = [[w.run() for w in workers] for _ in range(args.rounds)]
            for w in workers:
                w.stop()
        medians = [statistics.median(r[i]["seconds"] for r in runs) for i in range(len(workers))]
        ours = [i for i, w in enumerate(workers) if w.name.startswith("foray")]
        best = min(ours, key=lambda i: medians[i])
        for i, w in enumerate(workers):
            # Pair by pair within a round: what slows the machine down slows both.
            ratio = statistics.median(r[i]["seconds"] / r[best]["seconds"] for r in runs)
            rate = runs[0][i]["tokens"] / medians[i]
            gain = "" if i in ours else f"{ratio:.2f}×"
            print(f"| {name} | {w.name} | {medians[i]:.3f} | {rate:,.0f} | {gain} |", flush=True)
        if case.kind == "pretrain":
            for dtype in (torch.float32, torch.bfloat16):
                least = matmul_seconds(SHAPES[case.shape], case.rows * case.length, dtype)
                flops = training_flops(SHAPES[case.shape], case)
                label = str(dtype).removeprefix("torch.")
                i = ours[dtype == torch.bfloat16]
                print(
                    f"| {name} | {label} matrix products alone | {least:.3f} | | "
                    f"{100 * least / medians[i]:.0f}% of our step; {flops / medians[i] / 1e9:.0f} GFLOP/s |"
                )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
