"""The HTML that the report's sections share: tables, percent with intervals, names. Text is escaped on its way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from foray.report.results import LABELS


class Markup(str):
    """Text that is HTML already; everything else is escaped on its way into the page."""


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], text_columns: int = 1, rules: bool = False) -> Markup:
    """A table; the first ``text_columns`` are text. With ``rules``, a line wherever the first cell changes."""
    kind = [' class="number"' if i >= text_columns else "" for i in range(len(headers))]
    head = "".join(f"<th{k}>{cell(h)}</th>" for k, h in zip(kind, headers))
    lines, before = [], None
    for row in rows:
        rule = ' class="rule"' if rules and before not in (None, row[0]) else ""
        lines.append(f"<tr{rule}>" + "".join(f"<td{k}>{cell(c)}</td>" for k, c in zip(kind, row)) + "</tr>")
        before = row[0]
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def cell(content: Any) -> str:
    return content if isinstance(content, Markup) else escape(str(content))


def percent(row: Any, interval: bool = True) -> Markup | str:
    """``52.1`` with its interval below it, or a dash where nothing was measured."""
    if row is None:
        return "–"
    bounds = f'<span class="range">{100 * row.lo:.1f} to {100 * row.hi:.1f}</span>' if interval else ""
    return Markup(f"{100 * row.value:.1f}{bounds}")


def in_tokens(tokens: int) -> str:
    return (
        f"{tokens / 1e9:.3g}B" if tokens >= 1e9 else f"{tokens / 1e6:.3g}M" if tokens >= 1e5 else f"{tokens / 1e3:.3g}k"
    )


def label(recipe: str, shots: Any = None) -> str:
    known = shots is not None and not pd.isna(shots)
    return LABELS.get(recipe, recipe) + (f" ({shots}-shot)" if known and (recipe == "base" or shots > 0) else "")


def points(row: Any) -> Markup | str:
    """A difference in percentage points, signed, with its interval below it; a dash where nothing was measured."""
    if row is None:
        return "–"
    bounds = f'<span class="range">{100 * row.lo:+.1f} to {100 * row.hi:+.1f}</span>'
    return Markup(f"{100 * row.value:+.1f}{bounds}")
