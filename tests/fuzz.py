"""Gives random and mutated inputs to every command for some minutes, and prints a table of the trials.

    python tests/fuzz.py --minutes 60 [--seed 0] [--only TARGET ...] [--case N] [--out DIR]

A case is a function of seed, target and number, so ``--only TARGET --case N`` repeats it. Each case runs in a fork with
limits of processor time, memory and disk, and must end with exit code 0 or in one line on stderr. A case that ends
otherwise is a finding: DIR keeps its folder, command lines and words, once for each kind. "Cut off" counts cases that
rightly asked for more than ten seconds of work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", COLUMNS="200")

from fuzzing import child
from fuzzing.corpus import Corpus, make
from fuzzing.targets import TARGETS


def warm() -> None:
    """Imports what commands need before the first fork, and leaves one figure in reports."""
    import datasets
    import torch
    import transformers  # noqa: F401

    import conftest
    import foray.commands
    import foray.data.prepare
    import foray.evals.sampling
    import foray.report
    import foray.study.kinds.training
    import foray.train.loop

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    foray.report.discover = conftest.figures("f2_passk")  # type: ignore[attr-defined]


def works(folder: Path) -> Callable[[list[str]], None]:
    def foray(words: list[str]) -> None:
        end = child.run(words, folder)
        assert end.code == 0, (words, end)

    return foray


def one(target: str, seed: int, number: int, scratch: Path, corpus: Corpus, out: Path, tally: Counter[str]) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    case = TARGETS[target](random.Random(f"{seed} {target} {number}"), scratch, corpus)
    tally["cases"] += 1
    for words in case.commands:
        end = child.run(words, scratch, case.before)
        wrong, kind = end.wrong(), end.kind()
        if wrong == "hang" and case.slow and end.seconds < child.WALL:
            tally["cut off"] += 1
            return
        if not wrong and (wrong := case.right(words, end)):
            kind = wrong[:60]
        if not wrong:
            tally["accepted" if end.code == 0 else "refused"] += 1
            if end.code:
                return
            continue
        tally["findings"] += 1
        kept = out / f"{target.replace(' ', '_')}-{zlib.crc32(kind.encode('utf-8', 'replace')):08x}"
        if not kept.exists():
            print(f"FOUND {target} --seed {seed} --case {number}: {wrong[:400]}\n      {words}"[:1500], flush=True)
            shutil.copytree(scratch, kept, ignore_dangling_symlinks=True)
            said = {
                "target": target,
                "seed": seed,
                "case": number,
                "words": words,
                "wrong": wrong,
                "err": end.err[-5000:],
            }
            (kept / "finding.json").write_text(json.dumps(said, indent=1))
        return


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    p.add_argument("--case", type=int)
    p.add_argument("--first", type=int, default=0, help="number of the first case")
    p.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="where findings are kept")
    args = p.parse_args()
    args.out = args.out.resolve()
    warm()
    with tempfile.TemporaryDirectory(prefix="foray-fuzz-") as name:
        folder = Path(name)
        corpus = make(folder / "corpus", works(folder))
        spent = dict.fromkeys(args.only, 0.0)
        begun, number, tallies = time.monotonic(), args.first, {t: Counter[str]() for t in args.only}
        if args.case is not None:
            for target in args.only:
                one(target, args.seed, args.case, folder / "case", corpus, args.out, tallies[target])
        while args.case is None and time.monotonic() - begun < 60 * args.minutes:
            for target in args.only:
                at = time.monotonic()
                one(target, args.seed, number, folder / "case", corpus, args.out, tallies[target])
                spent[target] += time.monotonic() - at
            number += 1
    columns = ("cases", "accepted", "refused", "cut off", "findings", "seconds")
    print(f"\nseed {args.seed}, cases {args.first} to {number}, {(time.monotonic() - begun) / 60:.1f} minutes\n")
    print(f"| target | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for target, tally in tallies.items():
        tally["seconds"] = round(spent[target])
        print(f"| {target} | {' | '.join(f'{tally[c]:,}' for c in columns)} |")
    deaf = [name for name, t in tallies.items() if t["cases"] >= 40 and not t["accepted"]]
    if deaf:  # then the valid input is refused as well
        print(f"\nnothing was accepted of {', '.join(deaf)}")
    return int(bool(deaf) or any(t["findings"] for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
