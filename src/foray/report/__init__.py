"""The report of a study: what it says of the claims, all numbers as CSV, figures, and one HTML page.

Reads the store's results and ``foray.core`` only. An unfinished study can be reported; what is missing is said.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure, SubFigure

from foray.core.canonical import check_name
from foray.core.files import write_atomic
from foray.core.spelling import in_words
from foray.core.userfile import in_a_line
from foray.report import sections, style
from foray.report.columns import csv_text
from foray.report.embedded_data import picture
from foray.report.figures import FigureModule, discover
from foray.report.forms import FORMS, check_forms, write_tables
from foray.report.markup import joined, parts, with_minus
from foray.report.model_table import printed_tables
from foray.report.own import is_section, own_report_module
from foray.report.page import Shown, page
from foray.report.paper_curves import put_behind
from foray.report.reader import read_results, results_of
from foray.report.results import AXES, COLUMNS, NotDrawable, Results
from foray.report.sections import FIGURES, Section, SectionModule
from foray.report.spending import add_axis

__all__ = [
    "AXES", "COLUMNS", "FORMS", "NotDrawable", "Results", "check_forms", "csv_text", "drawn", "figure_data",
    "read_results", "write_report",
]  # fmt: skip


def write_report(
    manifest: Path, out: Path, axis: str = AXES[0], own: Sequence[Path] = (), paper: bool = True,
    content: Mapping[str, Any] | None = None, tables: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Writes ``index.html``, its numbers as CSV and ``figures/*.{png,pdf,csv}`` into ``out``; returns the page's path.

    The CSV files: ``results``, ``beside`` (what is beside the main grid), ``claims``, ``comparisons`` (all that the
    claims need), and those of every section. Figures over pre-training are drawn against ``axis``, one of ``AXES``;
    their files hold title and caption. ``own`` are files of figures and sections of the user's own. No manifest names
    them: code in a report is the caller's choice, never that of a store that somebody sent. With ``paper``, the paper's
    curves stand behind ours, and its numbers beside the claims. ``content`` is the manifest's, where it is known: then
    no file ``manifest`` need be there. ``tables``: further forms of the results, of ``FORMS``.

    The page holds its data, scripts, styles and figures, and loads nothing. The same results give the same files, byte
    for byte. Entries that cannot be read are listed on the page. Raises FileNotFoundError where there is no manifest,
    ValueError where it cannot be understood; ValueError, too, after all else was written, naming every section or
    figure that is broken. CSV files of a user's own sections lie in ``own``.
    """
    results = read_results(manifest, axis) if content is None else results_of(content, manifest, axis)
    results = replace(results, paper=paper)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    broken: list[str] = []

    def attempt(write: Callable[[Any, Results, Path], Shown], module: Any, otherwise: Shown) -> Shown:
        try:
            return write(module, results, out)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as e:  # a figure or a section is anybody's one file: the rest of the page is written
            broken.append(f"{_where(module, e)}: {in_a_line(e)}")
            return otherwise._replace(absent=broken[-1])

    shown = [attempt(_write, m, Shown("section", m.NAME, m.TITLE, m.PLACE)) for m in sections.discover()]
    shown += [attempt(_draw, m, Shown("figure", m.NAME, m.TITLE, FIGURES)) for m in discover()]
    shown_too, of_own = _own_parts(own, results, out, {s.name for s in shown})
    broken += of_own
    write_atomic(out / "index.html", page(replace(results, notes=(*results.notes, *of_own)), [*shown, *shown_too]))
    if tables:
        write_tables(out / "results.csv", printed_tables(results), tables)
    if broken:
        raise ValueError(f"the report is drawn, and lacks a part: {'; '.join(broken)}")
    return out / "index.html"


def _own_parts(own: Sequence[Path], results: Results, out: Path, taken: set[str]) -> tuple[list[Shown], list[str]]:
    """The user's own figures and sections, and a line for each that is broken or not there."""
    shown, broken = list[Shown](), list[str]()
    for file in own:
        module = None
        try:
            module = own_report_module(file, {*taken, *(s.name for s in shown)})
            if is_section(module):  # its CSV files lie apart, where they take no name of Foray's
                (out / "own").mkdir(exist_ok=True)
                shown.append(_write(module, results, out, "own/"))
            else:
                shown.append(_draw(module, results, out))
        except MemoryError:
            raise
        except (Exception, SystemExit) as e:
            broken.append(f"{_where(module, e)}: {in_a_line(e)}" if module else in_a_line(e))
    return shown, broken


def _where(module: ModuleType, e: BaseException) -> str:
    """The module's file, and the line of it that the exception came out of."""
    file = str(getattr(module, "__file__", module.__name__))
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == file]
    return f"{Path(file).name}{f', line {lines[-1]}' if lines else ''}"


def _write(module: SectionModule, results: Results, out: Path, folder: str = "") -> Shown:
    """Writes a section's CSV files into ``folder`` and links them; removes earlier ones that it has no use for."""
    section = module.section(results)
    _expect(section, Section, "section()")
    _expect(section.files, Mapping, "the files of section()")
    written = []
    for stem, frame in section.files.items():
        _expect(frame, pd.DataFrame, f"file {stem!r} of section()")
        check_name(stem, f"a CSV file of section {module.NAME}")
        path = out / folder / f"{stem}.csv"
        if len(frame.columns):
            write_atomic(path, csv_text(frame))
            written.append(f"{folder}{stem}")
        else:
            path.unlink(missing_ok=True)
    html = joined(section.html, parts.files(written) if section.html and written else "")
    return Shown("section", module.NAME, module.TITLE, module.PLACE, html, section.absent)


def _draw(figure: FigureModule, results: Results, out: Path) -> Shown:
    """Draws one figure, or removes an earlier drawing of it where its data is not there."""
    paths = {kind: out / "figures" / f"{figure.NAME}.{kind}" for kind in ("csv", "png", "pdf")}
    try:
        frame = figure_data(figure, results)
    except NotDrawable as e:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return Shown("figure", figure.NAME, figure.TITLE, FIGURES, absent=str(e))
    write_atomic(paths["csv"], csv_text(frame))
    with matplotlib.rc_context(style.RC):
        drawing, caption = drawn(figure, results, frame)
        # Without dates and version strings, equal results give equal files.
        _save(drawing, paths["png"], {"Software": None, "Title": figure.TITLE, "Description": caption})
        drawing.set_layout_engine("none")  # laid out by the first; doing it again doubles the time
        named = {"Title": figure.TITLE, "Subject": caption}
        _save(drawing, paths["pdf"], {"CreationDate": None, "Creator": None, "Producer": None, **named})
    html = Markup(parts.figure(figure.NAME, figure.TITLE, caption, *picture(paths["png"])))
    return Shown("figure", figure.NAME, figure.TITLE, FIGURES, html)


def figure_data(figure: FigureModule, results: Results) -> pd.DataFrame:
    """The figure's data with a column of the results' axis. Raises NotDrawable where measurements are not there."""
    frame = figure.data(results)
    _expect(frame, pd.DataFrame, "data()")
    return add_axis(results, frame)


def drawn(figure: FigureModule, results: Results, frame: pd.DataFrame) -> tuple[Figure, str]:
    """The picture and its caption; the paper's curves lie behind ours where ``results`` asks for them."""
    drawing, caption = figure.draw(frame), figure.caption(frame)
    _expect(drawing, Figure, "draw()", SubFigure)
    theirs = getattr(figure, "behind", None) if results.paper else None
    if behind := theirs(results, frame) if theirs else None:
        caption += put_behind(drawing, behind)
    return drawing, with_minus(caption)


def _expect(value: Any, kind: type, what: str, *others: type) -> None:
    if not isinstance(value, (kind, *others)):
        raise TypeError(f"{what} returns {in_words(value)}: return a {kind.__module__}.{kind.__name__}")


def _save(drawing: Figure, path: Path, metadata: dict[str, Any]) -> None:
    """Whole or not at all, and an error names the file."""
    made = io.BytesIO()
    drawing.savefig(made, format=path.suffix[1:], metadata=metadata)
    write_atomic(path, made.getvalue())
