"""Foray along each dimension by itself: tokens a second, and the share of the least time that the machine could take.

    python benchmarks/growth.py [TABLE ...] [--rounds 3] [--threads 2]

Tables: size, group, prompt, vocabulary. A row is far below its neighbours where something grows faster than the work.
The limit of bench.py is measured right after each case, so that the machine is as fast for both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from bench import commit, limit, machine, write_model
from cases import CASES, SHAPES, Case
from contenders.foray_engine import prepare

from foray.core.process import keep_freed_memory

VOCABULARIES = (1792, 4096, 16384, 50304)
GROWN = {  # shapes that only this benchmark has
    "mid with context 1152": replace(SHAPES["mid"], context=1152),
    **{f"mid with vocabulary {n}": replace(SHAPES["mid"], vocab_size=n) for n in VOCABULARIES},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _rollouts(kind: str, prompts: int, samples: int, prompt_tokens: int = 64, shape: str = "mid") -> Case:
    return Case(kind, shape, prompts=prompts, samples=samples, prompt_tokens=prompt_tokens, new_tokens=64)


def _along_vocabulary() -> dict[str, Case]:
    cases = {}
    for size in VOCABULARIES:
        shape = f"mid with vocabulary {size}"
        cases[f"pretrain, vocabulary {size:,}"] = Case("pretrain", shape, rows=8, length=512)
        for kind in ("sample", "grpo"):
            cases[f"{kind} 16 × 8, vocabulary {size:,}"] = _rollouts(kind, 16, 8, shape=shape)
    return cases


# The model has 10M parameters but where the size varies. Rows of `group` sample as many tokens each, and so do those of
# `prompt`, whose tokens/s are of sampled tokens and so fall as prompts grow: their share of the limit is what counts.
TABLES = {
    "size": {name: case for name, case in CASES.items() if case.kind in ("pretrain", "sample", "grpo")},
    "group": {
        f"{kind} {128 // n} × {n}": _rollouts(kind, 128 // n, n) for kind in ("sample", "grpo") for n in (8, 16, 32, 64)
    },
    "prompt": {
        f"{kind} 8 × 8, prompt {tokens:,}": _rollouts(kind, 8, 8, tokens, "mid with context 1152")
        for kind in ("sample", "grpo")
        for tokens in (64, 256, 1024)
    },
    "vocabulary": _along_vocabulary(),
}


def row(name: str, case: Case, rounds: int) -> str:
    """A line of the table. Every number is the median of the rounds, after one to warm up."""
    cells = []
    for variant, dtype in DTYPES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_model(SHAPES[case.shape], Path(folder))
            contender = prepare(case, Path(folder), variant)
        tokens = contender.checked(case, contender.run())
        taken = []
        for _ in range(rounds):
            begun = time.perf_counter()
            contender.run()
            taken.append(time.perf_counter() - begun)
        median = statistics.median(taken)
        cells += [f"{tokens / median:,.0f}", f"{100 * limit(case, dtype).seconds / median:.0f}%"]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", default=list(TABLES), help="all but what is named is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if unknown := [name for name in args.tables if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}; choose from {', '.join(TABLES)}")
    SHAPES.update(GROWN)
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    print(
        f"{time.strftime('%Y-%m-%d')}, commit {commit()}, {args.threads} threads of {machine()}, torch",
        torch.__version__,
    )
    for table in args.tables:
        print(f"\n| {table} | fp32 tokens/s | of the limit | bf16 tokens/s | of the limit |\n|---|---:|---:|---:|---:|")
        for name, case in TABLES[table].items():
            print(row(name, case, args.rounds), flush=True)


if __name__ == "__main__":
    main()
