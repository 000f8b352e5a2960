"""The page of every setting."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from foray.core.override import children
from foray.study.named_studies import load_study

FILE = Path(__file__).parents[1] / "docs" / "settings.py"
spec = importlib.util.spec_from_file_location("settings_page", FILE)
assert spec is not None and spec.loader is not None
settings_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(settings_page)


def test_the_page_of_settings_is_what_the_code_says() -> None:
    words = "write it anew: PYTHONPATH=src python docs/settings.py"
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), words


def test_every_setting_on_the_page_has_a_meaning() -> None:
    rows = [line for line in settings_page.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 200 and not [row for row in rows if row.endswith("|  |")]


def classes(spec: Any) -> Iterator[type]:
    if is_dataclass(spec):
        yield type(spec)
    for child in children(spec).values():
        yield from classes(child)


@pytest.mark.parametrize("name", ["tiny", "desk", "gsm8k_small", "paper_1b", "olmo2_public"])
def test_every_class_of_a_bundled_study_is_on_the_page(name: str) -> None:
    there = {kind for kinds in settings_page.SECTIONS.values() for kind in kinds}
    assert not {kind.__name__ for kind in classes(load_study(name)) if kind not in there}
