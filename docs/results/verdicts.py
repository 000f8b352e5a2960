"""Prints a Markdown table of the claims' answers in several stores, one column a store.

    python docs/results/verdicts.py STORE...

A claim that no store could judge has no row. The last column counts the stores with the most frequent answer.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ABSENT = "not run"


def answers(store: Path) -> dict[str, dict[str, str]]:
    """The rows of a store's ``claims.csv`` by claim."""
    with open(store / "report" / "claims.csv", newline="", encoding="utf-8") as f:
        return {row["claim"]: row for row in csv.DictReader(f)}


def cell(row: dict[str, str]) -> str:
    """The answer, with the number that it rests on in points."""
    if not row["value"]:
        return row["answer"]
    value, low, high = (f"{100 * float(row[name]):+.1f}" if row[name] else "?" for name in ("value", "lo", "hi"))
    return f"{row['answer']} {value} [{low}, {high}]"


def table(stores: list[Path]) -> Iterator[str]:
    found = {store: answers(store) for store in stores}
    claims = list(dict.fromkeys(claim for rows in found.values() for claim in rows))
    yield " | ".join(["| claim", *(store.name for store in stores), "agree |"])
    yield "|---" * (len(stores) + 2) + "|"
    for claim in claims:
        rows = [rows[claim] for rows in found.values()]
        if {row["answer"] for row in rows} == {ABSENT}:
            continue
        most, times = Counter(row["answer"] for row in rows).most_common(1)[0]
        yield " | ".join([f"| {claim}", *map(cell, rows), f"{times} of {len(rows)}: {most} |"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("\n".join(table([Path(name) for name in sys.argv[1:]])))
