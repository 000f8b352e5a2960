"""The further forms of a report's results: tables as a paper prints them, or every number for a program."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from foray.core.canonical import nearest, require
from foray.core.files import write_atomic
from foray.report.printed import Printed, latex, markdown


def _parquet(numbers: Path) -> bytes:
    out = io.BytesIO()
    try:
        pd.read_csv(numbers).to_parquet(out, index=False)
    except ImportError:
        raise ValueError("--tables parquet needs pyarrow: pip install -e '.[parquet]' in Foray's folder") from None
    return out.getvalue()


Form = Callable[[Path, Sequence[Printed]], bytes]
FORMS: dict[str, tuple[str, Form]] = {
    "markdown": ("md", lambda _, tables: markdown(tables).encode()),
    "latex": ("tex", lambda _, tables: latex(tables).encode()),
    "parquet": ("parquet", lambda numbers, _: _parquet(numbers)),
}


def check_forms(names: Sequence[str]) -> None:
    """Raises ValueError for a name that is none of ``FORMS``."""
    for name in names:
        require(name in FORMS, f"there is no table form {name!r}{nearest(name, FORMS)}")


def write_tables(numbers: Path, tables: Sequence[Printed], names: Sequence[str]) -> None:
    """Writes a report's results in these forms beside ``numbers``, their CSV: ``results.md``, ``.tex``, ``.parquet``.

    Markdown and LaTeX hold ``tables``. Parquet holds every row of the CSV, as shares, not percent. Raises ValueError
    where a library for the form is not installed.
    """
    for name in names:
        ending, written = FORMS[name]
        write_atomic(numbers.with_suffix(f".{ending}"), written(numbers, tables))
