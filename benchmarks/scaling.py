"""One training step on several ranks of this machine: strong scaling (the same step) and weak (a step as much larger).

    python benchmarks/scaling.py [--ranks 1 2] [--rounds 5] [--shape mid] [--machine device=cpu] [--out FILE]

Cases: an update of pre-training and one of GRPO, from the sampling to the weights. Rounds go through all of them in
turn, each with processes of its own and a step to warm up, so that what else the machine does falls on all alike;
medians are printed. Seconds of CPUs, summed over ranks, say what sharding costs where ranks must share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from cases import SHAPES
from parts import Endless, Noise, Words
from tokenizers import Tokenizer, models, pre_tokenizers

from foray.core.machine import Machine, machine
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.process import keep_freed_memory
from foray.core.sources import Rollouts
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import END, TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.rollout.choose import embedded_engine
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage
from foray.train.ranks import all_gather, is_first, join
from foray.train.sharding import blank, fill

STEPS = 2  # timed, after one to warm up


def words(vocab_size: int) -> TextTokenizer:
    tokenizer = Tokenizer(models.WordLevel({END: 0} | {f"t{i}": i for i in range(1, vocab_size)}, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    return TextTokenizer(tokenizer)


def stream_of(case: str, size: int, vocab_size: int) -> Stream:
    """The case's stream, ``size`` times as large as on one rank."""
    if case == "pretrain":
        return Stream("s", Noise(8 * size, 256), CrossEntropy(), AdamW(lr=1e-4))
    prompts = torch.randint(1, vocab_size, (8 * size, 64), generator=torch.Generator().manual_seed(0)).tolist()
    task = Words(tuple(map(tuple, prompts)))
    source = Rollouts(task, 8 * size, 8 * size, group_size=8, max_new_tokens=48, format_reward=0)
    return Stream("s", source, PolicyGradient(), AdamW(lr=1e-6))


def rank_of(rank: int, ranks: int, size: int, case: str, shape: str, of: Machine, folder: Path) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    config = ModelConfig(**asdict(SHAPES[shape]))
    stream, tokenizer = stream_of(case, size, config.vocab_size), words(config.vocab_size)
    first = initialize(config, 0)
    if ranks > 1:
        join(of, rank, ranks, folder / "meeting")
        model, sampler = fill(blank(config, of, False), first), blank(config, of)
    else:
        model = sampler = first.move(of)
    run = Training(0, "s", tokenizer, model, Endless(embedded_engine(sampler, tokenizer)))
    moments, times = {"s": Moments(model, stream.optimizer)}, [(time.perf_counter(), time.process_time())]

    def after_step(step: int, _: dict[str, float]) -> None:
        if of.device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter(), time.process_time()))

    run_stage(Stage("s", ((1.0, stream),), STEPS + 1), run, moments, 0, STEPS + 1, after_step)
    wall, cpu = ((times[-1][i] - times[1][i]) / STEPS for i in range(2))
    cpus = sum(all_gather(cpu))
    if is_first():
        (folder / "seconds.json").write_text(json.dumps([wall, cpus]))


def measured(*what: Any) -> tuple[float, float]:
    """Seconds of a step, and of all CPUs in it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (*what, Path(folder))
        mp.start_processes(rank_of, arguments, nprocs=what[0], start_method="fork")
        wall, cpu = json.loads((Path(folder) / "seconds.json").read_text())
        return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, default="mid")
    parser.add_argument("--machine", action="append", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    of = machine(args.machine or ["device=cpu"])
    cases = [
        (case, kind, ranks, ranks if kind == "weak" else 1)
        for case in ("pretrain", "grpo")
        for ranks in args.ranks
        for kind in (("strong",) if ranks == 1 else ("strong", "weak"))
    ]
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {c: [] for c in cases}
    for _ in range(args.rounds):
        for case in cases:
            name, _, ranks, size = case
            found[case].append(measured(ranks, size, name, args.shape, of))
    median: Callable[[Any, int], float] = lambda case, i: statistics.median(x[i] for x in found[case])  # noqa: E731
    rows = []
    for case in cases:
        name, kind, ranks, size = case
        wall, cpu = median(case, 0), median(case, 1)
        alone = (name, "strong", 1, 1)
        rows.append({
            "case": name, "kind": kind, "ranks": ranks, "seconds": wall, "cpu_seconds": cpu,
            "speedup": size * median(alone, 0) / wall, "cpu_efficiency": size * median(alone, 1) / cpu,
            "rounds": found[case],
        })  # fmt: skip
        print(f"{name:9} {kind:6} {ranks} ranks: {wall:6.2f} s, {cpu:6.2f} CPU s; speed-up {rows[-1]['speedup']:.2f}, "
              f"CPU efficiency {rows[-1]['cpu_efficiency']:.2f}", flush=True)  # fmt: skip
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, torch {torch.__version__}, {of}")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
