"""The panels of a figure: equal ones of its own, or axes of the caller's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The axes of the caller. A figure's ``draw(frame)`` has no argument for them: the frame decides how many panels it has.
_given: ContextVar[Sequence[Axes] | None] = ContextVar("axes of the caller", default=None)
_LONG_LABEL = 1.7  # inches


def panels(
    rows: int, columns: int, width: float = 3.1, height: float = 2.75, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, in inches, and its axes row by row; the caller's axes inside ``drawing_on``."""
    if (given := _given.get()) is not None:
        return _on_given(given, rows, columns, sharey)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, list(axes.ravel())


def narrow(axes: Axes) -> bool:
    """Whether axes of the caller's are too narrow for a long label. The panels of a figure of its own never are."""
    return _given.get() is not None and axes.get_window_extent().width < _LONG_LABEL * axes.figure.dpi


@contextmanager
def drawing_on(axes: Sequence[Axes] | None) -> Iterator[None]:
    """Inside, figures are drawn on these axes, one a panel; one axes gives its place to several panels."""
    token = _given.set(axes)
    try:
        yield
    finally:
        _given.reset(token)


def _on_given(given: Sequence[Axes], rows: int, columns: int, sharey: bool) -> tuple[Figure, list[Axes]]:
    place = given[0].get_subplotspec() if len(given) == 1 else None
    if len(given) == rows * columns:
        return cast(Figure, given[0].figure), list(given)
    if place is None:
        raise ValueError(f"the figure has {rows * columns} panels: give so many axes, or one of plt.subplots()")
    inside = given[0].figure.add_subfigure(place)
    given[0].remove()
    return cast(Figure, inside), list(inside.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
