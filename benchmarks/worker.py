"""One contender in a process of its own: prepares a case, then answers every line on its standard input.

    python worker.py CONTENDER CASE MODEL_FOLDER

Prints ``ready``, then a JSON line for every line that it reads: for ``run`` the seconds and tokens of a run, for
``new_weights`` the seconds until other weights are ready to sample with, or null from a contender that does not sample
or has no way to take them. Idle between lines, so that contenders can take turns.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    said = os.fdopen(os.dup(1), "w")  # what libraries print must not pass for an answer
    os.dup2(2, 1)
    from cases import CASES

    module, _, variant = sys.argv[1].partition(":")
    case = CASES[sys.argv[2]]
    contender = importlib.import_module(f"contenders.{module}").prepare(case, Path(sys.argv[3]), variant)
    contender.checked(case, contender.run())  # warm
    print("ready", file=said, flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        if line.strip() == "new_weights":
            if contender.new_weights:
                contender.new_weights()
            seconds = time.perf_counter() - begun
            answer: dict[str, float | None] = {"new_weights": seconds if contender.new_weights else None}
        else:
            out = contender.run()
            seconds = time.perf_counter() - begun
            answer = {"seconds": seconds, "tokens": contender.checked(case, out)}
        print(json.dumps(answer), file=said, flush=True)


if __name__ == "__main__":
    main()
