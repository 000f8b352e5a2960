"""Copies a store's report into a folder of this one, with the raw results that it was made from, or back into a store.

    python docs/results/collect.py STORE FOLDER
    python docs/results/collect.py --restore FOLDER STORE

The files ``raw*.tar.xz`` hold the manifest and, of every node that the report reads, counts by problem, probes, logs
and ledgers, not weights and completions; ``foray.report.write_report`` makes the report from them again. A collection
adds a file with the finished nodes that the others lack, so a study of many parts does not commit the same results
again. A study that was run anew is collected into an empty folder.

In a store that they were restored to, what was measured counts as done, so a study of hours goes on where the last
machine was taken away; what was trained does not (its weights are gone), and is trained again where a part that is
still to be run needs it. On another machine, or by another version, the weights come out as another model: `foray run`
and the report say where results were made from other weights than later ones.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from foray.core.files import seal
from foray.study.node import HEALTH  # written last, so only finished nodes have it

RAW = (
    "problems.jsonl",
    "probes.json",
    "perplexity.json",
    "contamination.json",
    "measure.json",
    "metrics.jsonl",
    "ledger.json",
    HEALTH,
    "provenance.json",
)


def main(store: Path, out: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    earlier = archives(out)
    held = {str(Path(name).parent) for file in earlier for name in names(file) if name.endswith(HEALTH)}
    if earlier and (before := study_of(earlier[-1])) != manifest["study"]:
        sys.exit(f"{store} was last reported as {manifest['study']}, and {out} holds {before}")
    out.mkdir(parents=True, exist_ok=True)
    for kind in ("*.csv", "figures/*.csv", "figures/*.png"):
        for file in sorted((store / "report").glob(kind)):
            shutil.copyfile(file, out / file.name)
    if pictures := sorted((store / "report").glob("figures/*.png")):
        (out / "figures.md").write_text(captions(pictures), encoding="utf-8")
    # Not only what the report reads: the samples by which RL's questions were chosen, too.
    asked = {e["folder"] for e in manifest["entries"]} | {n for n in manifest["nodes"] if "/passk-" in n}
    folders = sorted(f for f in asked - held if (store / f / HEALTH).exists())
    if earlier and not folders:
        print(f"{out}: nothing new was measured")
        return
    files = [Path("manifest.json"), *(Path(f) / name for f in folders for name in RAW if (store / f / name).exists())]
    target = out / f"raw{len(earlier) + 1:02d}.tar.xz"
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for file in files:
            content = (store / file).read_bytes()
            entry = tarfile.TarInfo(str(file))  # without owner and time: equal results give equal files
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    print(f"{len(files)} files in {target}, {target.stat().st_size / 1e6:.1f} MB")


def captions(pictures: list[Path]) -> str:
    """A page of the figures, each with the caption that its file holds."""
    found = ["# The figures", "", "Written by `docs/results/collect.py`."]
    for picture in pictures:
        with Image.open(picture) as image:
            title, words = image.text["Title"], image.text["Description"]
        found += ["", f"## {title}", "", f"![{title}]({picture.name})", "", words.strip()]
    return "\n".join(found) + "\n"


def archives(folder: Path) -> list[Path]:
    """In the order of their collection. The manifest of the last is the newest."""
    return sorted(folder.glob("raw*.tar.xz"))


def study_of(file: Path) -> str:
    with tarfile.open(file) as archive:
        return str(json.load(archive.extractfile("manifest.json"))["study"])


def names(file: Path) -> list[str]:
    with tarfile.open(file) as archive:
        return archive.getnames()


def restore(folder: Path, store: Path) -> None:
    """Nodes that are in the store already are left alone."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in archives(folder):
            with tarfile.open(file) as archive:
                archive.extractall(scratch, filter="data")
        restored = 0
        for node in sorted(Path(scratch, "nodes").iterdir()):
            target = store / "nodes" / node.name
            if target.exists() or not (node / HEALTH).exists():
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
