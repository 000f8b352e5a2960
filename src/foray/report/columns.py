"""Tables: rows that are made once, their CSV, and the columns by which the page shows them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from foray.core.spelling import in_tokens
from foray.report.markup import joined, parts, percent, points, with_minus
from foray.report.results import label
from foray.report.stats import Interval

NOTHING = Interval(math.nan, math.nan, math.nan, 0)  # where nothing was measured
_HEADS = 3  # the most cells of a row that are its header
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Kind(NamedTuple):
    """How the page shows the values of a column: as which text, and with ``number`` aligned to the right.

    A text that ``wraps`` may take several lines on paper.
    """

    show: Callable[[Any], str]
    number: bool = True
    wraps: bool = False


TEXT = Kind(str, number=False)
WORDS = Kind(str, number=False, wraps=True)
RECIPE = Kind(label, number=False)
TOKENS = Kind(in_tokens, number=False)
COUNT = Kind(str)
SHARE = Kind(percent)  # an Interval of a share
RATE = Kind(lambda i: f"{100 * (i.value if isinstance(i, Interval) else i):.1f}")  # a share without interval
POINTS = Kind(points)  # an Interval of a difference of shares
PROBLEMS = Kind("{:.3g}".format)  # a number of problems, a mean over runs
HUNDREDTHS = Kind("{:.2f}".format)
THOUSANDTHS = Kind("{:.3f}".format)
GIGA = Kind(lambda flops: f"{flops / 1e9:,.0f}" if flops else "–")


class Column(NamedTuple):
    """``value``: the name of the row's field (of a mapping, any key), or a function of the row."""

    heading: str
    value: Any
    kind: Kind = TEXT

    def cell(self, row: Any) -> str:
        """What the page shows; a dash where nothing was measured. A text keeps its hyphens: it may be data."""
        value = self._found(row)
        shown = "–" if value is None else value if isinstance(value, Markup) else self.kind.show(value)
        return with_minus(shown) if self.kind.number else shown

    def printed(self, row: Any) -> tuple[str, str]:
        """What a table on paper shows: a number and its interval, or another text and nothing."""
        value = self._found(row)
        if not isinstance(value, Interval):
            return ("–" if value is None else str(self.kind.show(value))), ""
        number, *ends = (with_minus(f"{100 * x:{'+' * (self.kind is POINTS)}.1f}") for x in value[:3])
        return number, f"[{', '.join(ends)}]"

    def _found(self, row: Any) -> Any:
        if callable(self.value):
            value = self.value(row)
        else:
            value = row.get(self.value) if isinstance(row, Mapping) else getattr(row, self.value)
        missing = value is None or pd.isna(value.value if isinstance(value, Interval) else value)
        return None if missing else value


def badge(name: str, signs: Mapping[str, str]) -> Callable[[Any], Markup]:
    """The row's field as a colored word; ``signs``: ``for`` or ``against`` by word."""

    def show(row: Any) -> Markup:
        word = row[name] if isinstance(row, Mapping) else getattr(row, name)
        return Markup(parts.badge(word, signs.get(word, "")))

    return show


def table(
    rows: Iterable[Any], columns: Sequence[Column], caption: str, rules: bool = True, stacked: bool = False
) -> Markup:
    """The rows as HTML. With ``rules``, a line wherever the first cell changes.

    ``stacked``: on a phone, a row is a card. The header of a row are its first cells, as few as tell all rows apart.
    """
    shown, before = [], None
    for row in rows:
        cells = [column.cell(row) for column in columns]
        shown.append((rules and before not in (None, cells[0]), cells))
        before = cells[0]
    heads = next((n for n in range(1, _HEADS) if len({tuple(c[:n]) for _, c in shown}) == len(shown)), _HEADS)
    return Markup(parts.table(columns, shown, caption, heads, stacked))


def tables_by_task(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], caption: str) -> Markup:
    """A table for each task of the rows, in their order; its caption begins with the task's name."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    return joined(*(table([r for r in rows if r["task"] == t], columns, f"{t}: {caption}") for t in tasks))


def frame_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> pd.DataFrame:
    """The rows as a frame, an Interval as three columns: ``x``, ``x_lo``, ``x_hi``, or ``value``, ``lo``, ``hi``.

    ``names``: the columns where there are no rows.
    """
    wide = [dict(cell for name, value in row.items() for cell in _cells(name, value)) for row in rows]
    found = list(dict.fromkeys(name for row in wide for name in row))
    return pd.DataFrame(wide, columns=found or list(names), dtype=object)


def _cells(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Interval):
        return [(name, value)]
    prefix = "" if name == "value" else f"{name}_"
    return [(name, value.value), (f"{prefix}lo", value.lo), (f"{prefix}hi", value.hi)]


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV with ``\\n`` line ends; floats to six digits, empty where there is nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_csv_cell(str(name)) for name in frame])
    for row in zip(*(frame[name] for name in frame)):
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    # Rounded first: shares of samples often fall on a tie of six digits, where the last bit of a sum would decide.
    if isinstance(value, float):
        return f"{round(value, 12):.6g}"
    text = str(value)
    # A spreadsheet runs a cell that begins like a formula; an apostrophe before it says that it is text.
    return f"'{text}" if isinstance(value, str) and text[:1] in _FORMULA and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False
