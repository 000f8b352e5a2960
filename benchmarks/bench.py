"""Foray beside what a user would pick instead, in interleaved rounds: medians and ratios. See README.md beside it.

python benchmarks/bench.py [CASE or SHAPE ...] [--rounds 5] [--threads 2] [--trl PYTHON] [--vllm PYTHON]
                           [--openvino PYTHON] [--llama PYTHON]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from cases import CASES, DEFAULT, SHAPES, Case, Shape
from tokenizers import Tokenizer, models, pre_tokenizers

from foray.core.process import keep_freed_memory
from foray.data.tokenizer import END, TextTokenizer, load_tokenizer
from foray.model import flops
from foray.model.config import ModelConfig
from foray.model.hf import load_model, save_model
from foray.model.transformer import initialize
from foray.rollout.torch_engine import TorchEngine
from foray.studies import tiny
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.scoring import token_logprobs

HERE = Path(__file__).parent
RENEWALS = 3  # times that a contender takes new weights, at most
PATIENCE = 300.0  # seconds for a contender's start, warm-up included; and for all its rounds but the one that passes it
CONTENDERS = {  # kind -> contender:variant
    "pretrain": ["foray_engine:fp32", "foray_engine:bf16", "hf:fp32", "hf:bf16"],
    "sample": [
        "foray_engine:fp32", "foray_engine:bf16", "hf:fp32", "hf:bf16", "vllm_cpu:fp32", "vllm_cpu:bf16",
        "openvino_genai:fp32", "openvino_genai:bf16", "llama_cpp:fp32", "llama_cpp:fp16",
    ],
    "grpo": ["foray_engine:fp32", "foray_engine:bf16", "trl_trainer:fp32", "trl_trainer:bf16"],
    "study": ["foray_engine:fp32", "foray_engine:bf16", "trl_trainer:fp32", "trl_trainer:bf16"],
}  # fmt: skip


def config_of(shape: Shape) -> ModelConfig:
    return ModelConfig(**asdict(shape))


def write_model(shape: Shape, folder: Path) -> None:
    """Random weights and a tokenizer of one token a word (``t17``), in Hugging Face's format."""
    words = {END: 0} | {f"t{i}": i for i in range(1, shape.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    save_model(initialize(config_of(shape), 0), folder, 0)
    TextTokenizer(tokenizer).save(folder, shape.context)


class Worker:
    """A contender in its own process and environment."""

    def __init__(self, contender: str, python: str, case: str, folder: Path, threads: int) -> None:
        self.name, self.case = contender, case
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
        self.rounds: dict[int, dict[str, float]] = {}
        self.renewals: list[float] = []
        self.slow = not select.select([self.out], [], [], PATIENCE)[0]
        if not self.slow and self.out.readline().strip() != "ready":
            self.fail()

    def run(self, number: int) -> None:
        """One timed round, unless the contender has used up the others' patience."""
        if not self.slow:
            self.rounds[number] = self.ask("run")
            self.slow = sum(r["seconds"] for r in self.rounds.values()) > PATIENCE

    def renew(self) -> None:
        """One timed change of the weights, if the contender samples and has a way to take them."""
        if self.rounds and (seconds := self.ask("new_weights")["new_weights"]) is not None:
            self.renewals.append(seconds)

    def ask(self, what: str) -> dict[str, Any]:
        print(what, file=self.into, flush=True)
        if not (answer := self.out.readline()):
            self.fail()
        return dict(json.loads(answer))

    def fail(self) -> NoReturn:
        self.log.seek(0)
        raise SystemExit(f"{self.name} failed on {self.case}:\n{self.log.read()[-3000:]}")

    @property
    def median(self) -> float:
        return statistics.median(r["seconds"] for r in self.rounds.values()) if self.rounds else float("inf")

    def stop(self) -> None:
        self.into.close()
        self.process.kill()
        self.process.wait()


def seconds_per_flop(shape: Shape, tokens: int, scored: int, dtype: torch.dtype, backward: bool) -> float:
    """Seconds a FLOP of the matrix products of a pass on this machine when nothing else is done.

    ``scored`` of the ``tokens`` go through the output head. The attention's products, which depend on how they are
    cut, are counted at the rate of the others.
    """
    D, M, L = shape.width, shape.mlp_width, shape.layers
    products = [(tokens, D, D, 4 * L), (tokens, D, M, 2 * L), (tokens, M, D, L), (scored, D, shape.vocab_size, 1)]
    total = done = 0.0
    for rows, inner, outer, count in products:
        x, w, g = (torch.randn(s, dtype=dtype) for s in ((rows, inner), (inner, outer), (rows, outer)))
        times = []
        for _ in range(25):
            begun = time.perf_counter()
            x @ w
            if backward:
                g @ w.T, x.T @ g
            times.append(time.perf_counter() - begun)
        total += min(times) * count  # the best it can do: what slows it down now and then is no limit
        done += 2.0 * rows * inner * outer * count * (3 if backward else 1)
    return total / done


def memory_rate() -> float:
    """Bytes a second that this machine reads from a block much larger than its caches."""
    block = torch.ones(1 << 27)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - begun)
    return 4 * block.numel() / min(times)


@dataclass(frozen=True)
class Limit:
    """The least a case can take: its FLOPs at the rate of its own matrix products, or its bytes at the memory's."""

    flops: float
    flop_seconds: float
    byte_seconds: float

    @property
    def seconds(self) -> float:
        return max(self.flop_seconds, self.byte_seconds)


def limit(case: Case, dtype: torch.dtype) -> Limit:
    """For pretrain, sample and grpo, by the ledger's formulas: what is shared is computed and read once."""
    shape, config, size = SHAPES[case.shape], config_of(SHAPES[case.shape]), dtype.itemsize
    if case.kind == "pretrain":
        tokens = case.rows * case.length
        count = 3 * flops.forward(config, tokens, case.rows * flops.pairs(0, case.length), tokens)
        return Limit(count, count * seconds_per_flop(shape, tokens, tokens, dtype, True), 0.0)
    rows, new, own, shared = case.prompts * case.samples, case.new_tokens, case.prompt_tokens, case.shared_tokens
    prompts, lengths = [shared + own] * case.prompts, [[new] * case.samples] * case.prompts
    prefill, decode = flops.sampling(config, prompts, lengths, shared)
    before = shared + case.prompts * own
    seconds = decode * seconds_per_flop(shape, rows, rows, dtype, False)
    seconds += prefill * seconds_per_flop(shape, before, case.prompts, dtype, False)
    count = prefill + decode
    if case.kind == "grpo":
        tokens, seen = case.prompts * own + rows * new, case.prompts * flops.pairs(0, own)
        train = 3 * flops.forward(config, tokens, seen + rows * flops.pairs(own, own + new), rows * new)
        count, seconds = count + train, seconds + train * seconds_per_flop(shape, tokens, rows * new, dtype, True)
    # Every step reads all weights but the embeddings, and all keys and values; those of a prompt once for its group.
    weights = config.parameters - config.vocab_size * config.width
    kv = 2 * config.layers * config.width * (before + rows * new / 2)
    return Limit(count, seconds, size * new * (weights + kv) / memory_rate())


def logprob_gap(folder: Path) -> float:
    """Largest difference between the engine's log-probabilities and the trainer's, over a draw of the study's RL."""
    model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
    stream = tiny.study().post.rl
    run = Training(0, "rl", tokenizer, model, TorchEngine(model.config, tokenizer, model=model))
    batch, _ = drawn(stream.source, stream, 0, run)
    return float((token_logprobs(model, batch) - batch.behaviour).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=DEFAULT, help="cases, or shapes for all of their cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl", default=sys.executable, help="python of an environment with TRL")
    parser.add_argument("--vllm", help="python of an environment with vLLM's CPU build; left out where not given")
    parser.add_argument("--openvino", help="python of an environment with OpenVINO GenAI; left out where not given")
    parser.add_argument("--llama", help="python of an environment with llama-cpp-python; left out where not given")
    parser.add_argument("--checkpoint", type=Path, help="model folder of an early M_t, for the case of the study")
    args = parser.parse_args()
    if unknown := [name for name in args.cases if name not in CASES and name not in SHAPES]:
        parser.error(f"there is no case {unknown[0]!r}; choose from {', '.join([*CASES, *SHAPES])}")
    names = [case for name in args.cases for case in CASES if case == name or case.endswith(f"/{name}")]
    pythons = {
        "trl_trainer": args.trl, "vllm_cpu": args.vllm, "openvino_genai": args.openvino, "llama_cpp": args.llama
    }  # fmt: skip
    keep_freed_memory()  # or fresh pages, not products, would be timed for the limit
    torch.set_num_threads(args.threads)
    print(f"{time.strftime('%Y-%m-%d')}, commit {commit()}, {args.threads} threads")
    print(", ".join(f"{p} {version(p)}" for p in ("torch", "transformers")), "\n")
    print(f"| case, on {machine()} | contender | median s | tokens/s | new weights, s | foray is faster by |")
    print("|---|---|---:|---:|---:|---:|")
    for name in names:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.checkpoint if case.kind == "study" else Path(temporary)
            if case.kind == "study" and not folder:
                print(f"| {name} | left out: give --checkpoint | | | | |")
                continue
            if case.kind != "study":
                write_model(SHAPES[case.shape], folder)
            workers = []
            for contender in CONTENDERS[case.kind]:
                python = pythons.get(contender.split(":")[0], sys.executable)
                if python:
                    workers.append(Worker(contender, python, name, folder, args.threads))
            for number in range(args.rounds):
                for w in workers:
                    w.run(number)
            for _ in range(min(args.rounds, RENEWALS)):  # after all rounds: a round is not the first after a change
                for w in workers:
                    w.renew()
            for w in workers:
                w.stop()
        ours = [w for w in workers if w.name.startswith("foray")]
        best = min(ours, key=lambda w: w.median)
        for w in workers:
            if not w.rounds:
                print(f"| {name} | {w.name} | not ready after {PATIENCE:.0f} s | | | |", flush=True)
                continue
            # Pair by pair within a round: what slows the machine down slows both.
            ratio = statistics.median(r["seconds"] / best.rounds[i]["seconds"] for i, r in w.rounds.items())
            rate = w.rounds[0]["tokens"] / w.median
            gain = "" if w in ours else f"{ratio:.2f}×"
            renewal = f"{statistics.median(w.renewals):.3f}" if w.renewals else ""
            print(f"| {name} | {w.name} | {w.median:.3f} | {rate:,.0f} | {renewal} | {gain} |", flush=True)
        if case.kind == "study":
            gap = logprob_gap(folder)
            print(
                f"| {name} | engine against trainer: log-probabilities differ by at most {gap:.1e} | | | | |",
                flush=True,
            )
        else:
            for w in ours:
                dtype = torch.bfloat16 if w.name.endswith("bf16") else torch.float32
                least = limit(case, dtype)
                print(
                    f"| {name} | limit, {str(dtype).removeprefix('torch.')}: {least.flops / 1e9:.1f} GFLOP in "
                    f"{least.flop_seconds:.3f} s, bytes in {least.byte_seconds:.3f} s | {least.seconds:.3f} | "
                    f"| | ours reaches {100 * least.seconds / w.median:.0f}% |",
                    flush=True,
                )


def commit() -> str:
    """The commit of the code that runs, and whether it was changed since."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE)
    return said.stdout.strip()


def machine() -> str:
    """The CPU's model and whether it has AMX, on which bf16 depends: every table names it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    model = said.get("model name") or platform.processor() or platform.machine()
    return f"{model} {'with' if 'amx_tile' in said.get('flags', '').split() else 'without'} AMX"


if __name__ == "__main__":
    main()
