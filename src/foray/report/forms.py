"""The table of results in further forms than CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from foray.core.canonical import nearest, require
from foray.core.files import write_atomic


def _markdown(frame: pd.DataFrame) -> bytes:
    rows = [map(str, frame.columns), ["---"] * len(frame.columns), *(map(_word, row) for row in frame.to_numpy(object))]
    return "".join(f"| {' | '.join(_cell(word) for word in row)} |\n" for row in rows).encode()


def _cell(word: str) -> str:
    """A name from data is text in a table: no cell of its own, no HTML, no link."""
    for mark in ("\\", "|", "<", "[", "`", "*"):
        word = word.replace(mark, f"\\{mark}")
    return " ".join(word.split())


def _word(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _latex(frame: pd.DataFrame) -> bytes:
    return frame.to_latex(index=False, escape=True, float_format="%.6g", na_rep="", longtable=True).encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    try:
        frame.to_parquet(out, index=False)
    except ImportError:
        raise ValueError("--tables parquet needs pyarrow: pip install 'foray[parquet]'") from None
    return out.getvalue()


FORMS: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "markdown": ("md", _markdown), "latex": ("tex", _latex), "parquet": ("parquet", _parquet),
}  # fmt: skip


def check_forms(names: Sequence[str]) -> None:
    """Raises ValueError for a name that is none of ``FORMS``."""
    for name in names:
        require(name in FORMS, f"there is no table form {name!r}{nearest(name, FORMS)}")


def write_tables(results: Path, names: Sequence[str]) -> None:
    """Writes ``results.csv`` of a report in these forms too, beside it: ``results.md``, ``.tex``, ``.parquet``.

    Values are shares, not percent, as in the CSV. Raises ValueError where a library for the form is not installed.
    """
    for name in names:
        ending, written = FORMS[name]
        write_atomic(results.with_suffix(f".{ending}"), written(pd.read_csv(results)))
