"""A study in pieces on lent cards: ``forth`` here, ``run`` and ``back`` there, ``home`` here again.

python benchmarks/gpu_pieces.py forth    packs what a card needs into --there, whose folder travels
python benchmarks/gpu_pieces.py run      unpacks that and runs what was planned, until it is ended
python benchmarks/gpu_pieces.py back     packs what is new into --files; again for what did not fit the last time
python benchmarks/gpu_pieces.py home     unpacks --files into the store here
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gpu_carry import INDEX, MADE_AGAIN, back, forth, made_again, read, waves
from gpu_parts import Found, files_folder
from rich.console import Console

from foray.core.files import json_text, read_json, write_atomic
from foray.core.machine import machine
from foray.study.executors.compute import compute
from foray.study.executors.local import LocalExecutor
from foray.study.graph import Graph, expand
from foray.study.named_studies import load_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.to_run import check_before, to_run

SENT = "sent.json"


def run(study: Study, graph: Graph, store: Store, there: Path, jobs: int, found: Found) -> None:
    """Computes the planned nodes, wave after wave. To be ended at any moment: what is sealed stays."""
    console = Console(width=120)
    plan: set[str] | None = None
    if (there / INDEX).exists():
        new = read(there, store)
        if new or not (store.root / SENT).exists():
            note_sent(store, new)
        plan = set(read_json(there / INDEX)["plan"])
    with store.lock():
        missing = [n for n in to_run(graph, store, console) if plan is None or n.key in plan]
        if plan is not None:
            texts = {t.key for n in missing for t in made_again(n)}
            missing = [n for n in to_run(graph, store, console) if n.key in plan or n.key in texts]
        order = waves(graph)
        found.put(nodes=len(graph.nodes), planned=len(missing), made=0)
        check_before(study, missing)
        for wave in sorted({order[n.key] for n in missing}):
            now = [n for n in missing if order[n.key] == wave]
            compute(now, graph, store, console, LocalExecutor(jobs))
            made = [n.label() for n in missing if n.done(store)]
            found.put(made=len(made), wave_done=wave)


def note_sent(store: Store, names: list[str]) -> None:
    before = read_json(store.root / SENT) if (store.root / SENT).exists() else []
    store.root.mkdir(parents=True, exist_ok=True)
    write_atomic(store.root / SENT, json_text(sorted({*before, *names})) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("act", choices=("forth", "run", "back", "home"))
    parser.add_argument("--study", default="benchmarks/gpu_study.py")
    parser.add_argument("--store", type=Path, default=Path("runs/gpu_carried"))
    parser.add_argument("--there", type=Path, default=Path("benchmarks/out/there"))
    parser.add_argument("--files", type=Path, help="where what comes back lies")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--machine", action="append", default=[])
    parser.add_argument("--megabytes", type=float, help="at most; 40 forth and 60 back, in units of 2^20 bytes")
    args = parser.parse_args()
    study, store, found = load_study(args.study), Store(args.store, machine(args.machine)), Found(args.out)
    graph, files = expand(study), args.files or files_folder()
    limit = int((args.megabytes or (40 if args.act == "forth" else 60)) * (1 << 20))
    if args.act == "run":
        run(study, graph, store, args.there, args.jobs, found)
    elif args.act == "back":
        sent = set(read_json(store.root / SENT)) if (store.root / SENT).exists() else set[str]()
        names = back(graph, store, files, limit, sent)
        note_sent(store, names)
        there_still = [n for n in graph.nodes if n.done(store) and n.kind not in MADE_AGAIN]
        to_send = sum(n.folder(store).name not in sent | set(names) for n in there_still)
        found.put(packed=len(names), to_send=to_send, undone=sum(not n.done(store) for n in graph.nodes))
    elif args.act == "home":
        found.put(new=len(read(files, store)), undone=sum(not n.done(store) for n in graph.nodes))
    else:
        can, cannot = forth(graph, store, args.there, limit)
        size = sum(f.stat().st_size for f in args.there.glob("store.*"))
        found.put(planned=len(can), waiting=len(cannot), bytes=size)
    print(found.values, flush=True)


if __name__ == "__main__":
    main()
