"""Copies a store's report into a folder of this one, with the raw results that it was made from.

    python docs/results/collect.py STORE FOLDER

``raw.tar.xz`` holds the manifest and, of every node that the report reads, counts by problem, probes, logs and ledgers,
not weights and completions; ``foray.report.write_report`` makes the report from it again.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

RAW = (
    "problems.jsonl",
    "probes.json",
    "perplexity.json",
    "contamination.json",
    "metrics.jsonl",
    "ledger.json",
    "health.json",
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
