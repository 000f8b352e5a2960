"""Copies a store's report into a folder of this one, with the raw results that it was made from, or back into a store.

    python docs/results/collect.py STORE FOLDER
    python docs/results/collect.py --restore FOLDER STORE

``raw.tar.xz`` holds the manifest and, of every node that the report reads, counts by problem, probes, logs and ledgers,
not weights and completions; ``foray.report.write_report`` makes the report from it again. In a store that they were
restored to, what was measured counts as done, so a study of hours goes on where the last machine was taken away; what
was trained does not (its weights are gone), and is trained again where a part that is still to be run needs it.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from foray.core.files import seal

RAW = (
    "problems.jsonl",
    "probes.json",
    "perplexity.json",
    "contamination.json",
    "metrics.jsonl",
    "ledger.json",
    "health.json",
    "provenance.json",
)


def main(store: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for kind in ("*.csv", "figures/*.csv", "figures/*.png"):
        for file in sorted((store / "report").glob(kind)):
            shutil.copyfile(file, out / file.name)
    manifest = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    folders = sorted({e["folder"] for e in manifest["entries"]})
    files = [Path("manifest.json"), *(Path(f) / name for f in folders for name in RAW if (store / f / name).exists())]
    with tarfile.open(out / "raw.tar.xz", "w:xz", preset=9) as archive:
        for file in files:
            content = (store / file).read_bytes()
            entry = tarfile.TarInfo(str(file))  # without owner and time: equal results give equal files
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    print(f"{len(files)} files in {out / 'raw.tar.xz'}, {(out / 'raw.tar.xz').stat().st_size / 1e6:.1f} MB")


def restore(folder: Path, store: Path) -> None:
    """Nodes that are in the store already are left alone."""
    with tarfile.open(folder / "raw.tar.xz") as archive, tempfile.TemporaryDirectory() as scratch:
        archive.extractall(scratch, filter="data")
        restored = 0
        for node in sorted(Path(scratch, "nodes").iterdir()):
            target = store / "nodes" / node.name
            if target.exists():
                continue
            shutil.copytree(node, target)
            if not node.name.startswith("train-"):
                seal(target, label="restored", seconds=0)
            restored += 1
    print(f"{restored} nodes restored to {store}")


if __name__ == "__main__":
    if sys.argv[1] == "--restore":
        restore(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
