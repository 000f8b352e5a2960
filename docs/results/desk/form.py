"""What the asked-for form can explain: of `main`'s bases and of what RL made of them, all samples and those in form.

    python docs/results/desk/form.py STORE

A sample out of form may be right, and flexible grading finds its answer. Most samples out of form go on computing until
they are cut off. Percent of the test problems' samples, means over pre-trainings with the lowest and the highest: in
form; in form of those that end by themselves; right by flexible grading; right of those in form.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean


def main(store: Path) -> None:
    shares: dict[tuple[int, str], list[tuple[float, float, float, float]]] = defaultdict(list)
    for e in json.loads((store / "manifest.json").read_text(encoding="utf-8"))["entries"]:
        if e["kind"] != "passk" or e["part"] != "main" or e["recipe"] not in ("base", "rl") or e.get("variant"):
            continue
        file = store / e["folder"] / "problems.jsonl"
        if not file.exists():  # two pre-trainings have the two later M_t alone
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        drawn, formed, cut = (sum(r[name] for r in rows) for name in ("samples", "formatted", "truncated"))
        flexible, strict = (sum(r["correct"][name] for r in rows) for name in ("flexible", "strict"))
        shares[e["tokens"], e["recipe"]].append(
            (formed / drawn, formed / (drawn - cut), flexible / drawn, strict / max(1, formed))
        )
    print("| M_t | model | in form | in form of those that end | right | right of those in form |")
    print("|---:|---|---|---|---|---|")
    for (tokens, recipe), found in sorted(shares.items()):
        cells = [f"{100 * mean(x):.1f} ({100 * min(x):.1f} to {100 * max(x):.1f})" for x in zip(*found)]
        print(f"| {tokens / 1e6:g}M | {recipe} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
