"""A section in a file of the user's own, which a study names: `report=("my_section.py",)`."""

from __future__ import annotations

from markupsafe import Markup

from foray.report import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "my_section", "Mine: how many numbers", 15


def section(results: Results) -> Section:
    counts = results.table.groupby("metric").size().reset_index(name="numbers")
    return Section(Markup("<p>{} numbers.</p>").format(len(results.table)), {"my_counts": counts})
