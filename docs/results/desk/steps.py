"""Pass@1 by the steps of a problem, of RL on Easy or Hard questions with 5 and with 64 rollouts a prompt (C10).

    python docs/results/desk/steps.py STORE

Percent; the last M_t of the pre-trainings that the part `rollout_budget` has; flexible grading, as in `desk`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

GROUPS = {"1-2": range(1, 3), "3-4": range(3, 5), "5-8": range(5, 9)}


def main(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for e in {e["folder"]: e for e in manifest["entries"] if asked(e)}.values():
        file = store / e["folder"] / "problems.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            problem = json.loads(line)
            (steps,) = (int(t.partition("=")[2]) for t in problem["tags"] if t.startswith("steps="))
            (group,) = (name for name, counts in GROUPS.items() if steps in counts)
            right = problem["correct"]["flexible"] / problem["samples"]
            found[e["recipe"], e.get("variant", "")][group].append(right)
    print("| model |", " | ".join(f"{name} steps" for name in GROUPS), "|")
    print("|---|" + "---:|" * len(GROUPS))
    for (recipe, variant), values in sorted(found.items()):
        means = (100 * sum(values[name]) / len(values[name]) for name in GROUPS)
        print(f"| {recipe} {variant} |", " | ".join(f"{mean:.1f}" for mean in means), "|")


def asked(e: dict[str, object]) -> bool:
    """The ends of RL in that part, and the same pre-trainings' base and RL on all questions."""
    if e["kind"] != "passk" or e["tokens"] != 12_800_000 or e.get("task") != "world_easy" or not e["final"]:
        return False
    variant = str(e.get("variant", ""))
    main = e["recipe"] in ("base", "rl") and not variant
    other = e.get("mix") or e.get("split") or e.get("model_parameters")
    return not other and e["pretrain_seed"] in (0, 1) and (main or ", n=" in variant)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
