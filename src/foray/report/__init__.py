"""The report of a study: what it says of the claims, all numbers as CSV, figures, and one HTML page.

Reads the store's results and ``foray.core`` only. An unfinished study can be reported; what is missing is said.
"""

from __future__ import annotations

import io
import traceback
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from foray.core.files import write_atomic
from foray.core.userfile import in_a_line
from foray.report import claims, contamination, controls, crossed, judged, ledger, readiness, style, tuning, verdicts
from foray.report.figures import FigureModule, discover
from foray.report.html import Shown, page
from foray.report.results import AXES, NotDrawable, Results
from foray.report.table import AXES_BESIDE, COLUMNS, csv_text, read_results

__all__ = ["AXES", "NotDrawable", "Results", "read_results", "write_report"]


def write_report(manifest: Path, out: Path, axis: str = AXES[0]) -> Path:
    """Writes ``index.html``, its numbers as CSV and ``figures/*.{png,pdf,csv}`` into ``out``; returns the page's path.

    The CSV files: ``results``, ``beside`` (what is beside the main grid), ``claims``, ``transitions``,
    ``transition_curves`` and ``ledger``; where a study has them, ``controls``, ``crossed``, ``tuning``,
    ``contamination``, ``readiness``, ``readiness_errors`` and ``settings_*``. Figures over pre-training are drawn
    against ``axis``, one of ``AXES``.

    The same results give the same files, byte for byte. Entries that cannot be read are listed on the page. Raises
    ValueError when the manifest itself cannot be understood, FileNotFoundError when there is none.
    """
    results = read_results(manifest, axis)
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "results.csv", csv_text(results.table, COLUMNS))
    _write_if_any(out / "beside.csv", results.beside[[*COLUMNS, *AXES_BESIDE]])
    transitions, answers = verdicts.transitions(results), claims.table(results)
    write_atomic(out / "transitions.csv", csv_text(verdicts.table(results, transitions)))
    write_atomic(out / "transition_curves.csv", csv_text(verdicts.curves(transitions)))
    write_atomic(out / "claims.csv", csv_text(answers))
    ready = readiness.rows(results)
    _write_if_any(out / "readiness.csv", ready)
    _write_if_any(out / "readiness_errors.csv", readiness.errors_table(readiness.errors(ready)))
    _write_if_any(out / "contamination.csv", contamination.table(results))
    write_atomic(out / "ledger.csv", csv_text(ledger.table(results)))
    for name, module in (("controls", controls), ("crossed", crossed), ("tuning", tuning)):
        _write_if_any(out / f"{name}.csv", module.frame(results))
    for name, rows in results.settings.items():
        _write_if_any(out / f"settings_{name}.csv", pd.DataFrame(rows))
    shown, broken = list[Shown](), list[str]()
    for figure in discover():
        try:
            shown.append(_draw(figure, results, folder))
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as e:  # a figure is anybody's one file: it is named, and the rest of the page is drawn
            broken.append(f"{_place(figure, e)}: {in_a_line(e)}")
            shown.append(Shown(figure.NAME, figure.TITLE, broken[-1], absent=True))
    sections = judged.sections(results, answers, transitions, ready)
    write_atomic(out / "index.html", page(results, shown, sections, readiness.too_little(ready)))
    if broken:
        raise ValueError(f"the report is drawn, but for {'; '.join(broken)}")
    return out / "index.html"


def _place(figure: FigureModule, e: Exception) -> str:
    """The figure's file, and the line of it that the exception came out of."""
    file = str(getattr(figure, "__file__", figure.NAME))
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == file]
    return f"{Path(file).name}{f', line {lines[-1]}' if lines else ''}"


def _write_if_any(path: Path, frame: pd.DataFrame) -> None:
    """A table that most studies have no use for."""
    if frame.empty:
        path.unlink(missing_ok=True)
    else:
        write_atomic(path, csv_text(frame))


def _save(drawing: Figure, path: Path, metadata: dict[str, Any]) -> None:
    """Whole or not at all, and an error names the file."""
    made = io.BytesIO()
    drawing.savefig(made, format=path.suffix[1:], metadata=metadata)
    write_atomic(path, made.getvalue())


def _draw(figure: FigureModule, results: Results, folder: Path) -> Shown:
    """Draws one figure into the folder, or removes an earlier drawing of it when its data is not there."""
    paths = {kind: folder / f"{figure.NAME}.{kind}" for kind in ("csv", "png", "pdf")}
    try:
        frame = ledger.add_axis(results, figure.data(results))
    except NotDrawable as e:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return Shown(figure.NAME, figure.TITLE, str(e), absent=True)
    write_atomic(paths["csv"], csv_text(frame))
    with matplotlib.rc_context(style.RC):
        drawing = figure.draw(frame)
        # Without dates and version strings, equal results give equal files.
        _save(drawing, paths["png"], {"Software": None})
        drawing.set_layout_engine("none")  # laid out by the first; doing it again doubles the time
        _save(drawing, paths["pdf"], {"CreationDate": None, "Creator": None, "Producer": None})
    return Shown(figure.NAME, figure.TITLE, figure.caption(frame), absent=False)
