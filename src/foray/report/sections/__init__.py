"""The sections of the page, one file each. A new file here is found by itself; nothing else needs an edit.

A section is a module with

- ``NAME``: its anchor on the page, such as ``"claims"``; ``TITLE``: its heading;
- ``PLACE``: where on the page it stands; figures stand at ``FIGURES``;
- ``section(results) -> Section``: what the page shows and which CSV files go with that.

A file has the ``NAME`` of its section. Seven files have other names, because no two files of Foray share one:
``drawn_groups`` (rollouts), ``flags`` (health), ``heldout`` (perplexity), ``main_table`` (results), ``origins``
(provenance), ``own_numbers`` (own) and ``rl_training`` (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import pandas as pd

from foray.report.discovery import modules_of
from foray.report.results import Results

FIGURES = 110


@dataclass(frozen=True)
class Section:
    """``html`` is empty where the section has nothing to show; ``absent`` is then what the page says of the reason.

    ``files``: CSV files by stem; the page links them below ``html``. A file whose frame has no columns is removed.
    """

    html: str = ""
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    absent: str = ""


class SectionModule(Protocol):
    NAME: str
    TITLE: str
    PLACE: int

    def section(self, results: Results) -> Section: ...


def discover() -> list[SectionModule]:
    """Every section module of this package, in the order of the page."""
    return sorted((cast(SectionModule, m) for m in modules_of(__name__)), key=lambda m: (m.PLACE, m.NAME))
