"""Tables as a paper prints them: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from foray.report.columns import Column

NOTHING = "No table: no pass@k evaluation has finished yet, or none differs."
_LAST_LATIN = 0x17F  # pdflatex knows the Latin letters up to here
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "^": r"\textasciicircum{}",
    "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "→": r"$\rightarrow$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "¼": r"$\frac{1}{4}$", "½": r"$\frac{1}{2}$", "¾": r"$\frac{3}{4}$", "–": "--",
    "…": r"\dots{}",
}  # fmt: skip


class Printed(NamedTuple):
    """One table. ``name``: of its LaTeX label."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Any]


def markdown(tables: Sequence[Printed]) -> str:
    """Each caption as a paragraph above its table."""
    return "\n".join(_markdown(table) for table in tables) or f"{NOTHING}\n"


def _markdown(table: Printed) -> str:
    lines = [[_plain(column.heading) for column in table.columns]]
    lines += [["---:" if column.kind.number else "---" for column in table.columns]]
    lines += [[_plain(" ".join(filter(None, c.printed(row)))) for c in table.columns] for row in table.rows]
    return f"{_plain(table.caption)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(word: str) -> str:
    """A name from data is text in a table: no cell of its own, no HTML, no link."""
    for mark in ("\\", "|", "<", "[", "`", "*"):
        word = word.replace(mark, f"\\{mark}")
    return " ".join(word.split())


def latex(tables: Sequence[Printed]) -> str:
    """Floats of a page's width in a one-column paper; a rule wherever the first cell changes."""
    head = "% Needs \\usepackage{booktabs}. In a paper of two columns: table* instead of table.\n"
    return head + ("\n".join(_latex(table) for table in tables) or f"% {NOTHING}\n")


def _latex(table: Printed) -> str:
    cells = [[_latex_cell(column, *column.printed(row)) for column in table.columns] for row in table.rows]
    lines = list[str]()
    for before, line in zip([None, *cells], cells):
        lines += ["\\midrule"] if before is None or before[0] != line[0] else []
        lines += [" & ".join(line) + r" \\"]
    sides = "".join(_side(column) for column in table.columns)
    heads = " & ".join(escaped(column.heading) for column in table.columns)
    made = [
        r"\begin{table}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{2pt}",
        f"\\caption{{{escaped(table.caption)}}}", f"\\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', table.name)}}}",
        f"\\begin{{tabular}}{{@{{}}{sides}@{{}}}}", r"\toprule", rf"{heads} \\", *lines, r"\bottomrule",
        r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(made) + "\n"


def _side(column: Column) -> str:
    return "r" if column.kind.number else "p{24mm}" if column.kind.wraps else "l"


def _latex_cell(column: Column, text: str, interval: str) -> str:
    words = ("\\raggedright " if column.kind.wraps else "") + escaped(text)
    return f"{words} {{\\tiny {escaped(interval)}}}" if interval else words


def escaped(text: str) -> str:
    """Text as LaTeX prints it; M_t as a formula."""
    parts = re.split(r"\b(M_t|Mₜ)\b", " ".join(text.split()))
    return "".join("$M_t$" if i % 2 else "".join(map(_sign, part)) for i, part in enumerate(parts))


def _sign(character: str) -> str:
    """A character that pdflatex does not know, in its plain form, or else as a question mark."""
    known = _LATEX.get(character)
    if known is None and ord(character) > _LAST_LATIN:
        plain = unicodedata.normalize("NFKD", character)
        return "".join(_sign(c) for c in plain) if plain.isascii() else "?"
    return character if known is None else known
