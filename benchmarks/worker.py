"""One contender in a process of its own: prepares a case, then runs it once for every line on its standard input.

    python worker.py CONTENDER CASE MODEL_FOLDER

Prints ``ready`` and then, for every run, a JSON line with seconds and tokens. Idle between runs, so that contenders can
take turns.
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
    run = importlib.import_module(f"contenders.{module}").prepare(CASES[sys.argv[2]], Path(sys.argv[3]), variant)
    run()  # warm
    print("ready", file=said, flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        tokens = run()
        print(json.dumps({"seconds": time.perf_counter() - begun, "tokens": tokens}), file=said, flush=True)


if __name__ == "__main__":
    main()
