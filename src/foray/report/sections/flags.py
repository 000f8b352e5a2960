"""What looks wrong, by fixed rules."""

from __future__ import annotations

from foray.report.columns import Column, table
from foray.report.markup import joined, parts
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "health", "What looks wrong", 80

_TEXT = "Flags by fixed rules (docs/statistics.md): a reason to look, not a verdict."
COLUMNS = (Column("where", lambda flag: flag[0]), Column("what", lambda flag: flag[1]))


def section(results: Results) -> Section:
    shown = table(results.flags, COLUMNS, "Flags", rules=False)
    return Section(joined(parts.dim(_TEXT), shown)) if results.flags else Section()
