"""A study from its name or file, with a user's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foray.core.canonical import require
from foray.core.override import override
from foray.core.spelling import in_words
from foray.core.userfile import load, mistakes_named
from foray.study.spec import Part, Study


def load_study(name: str, settings: list[str] | None = None) -> Study:
    """A bundled study by name, or the one that a ``.py`` file's ``study()`` returns, with ``--set`` settings applied.

    A file with ``parts(study)`` too makes the study's parts from it, as it is with its settings.
    """
    made, module = load(name, "study", "studies", Study)
    folder = Path(str(module.__file__)).absolute().parent  # where the study's own files lie
    made = replace(made, report=tuple(str(folder / file) for file in made.report))
    if settings:
        made = override(made, *settings)
    else:
        with mistakes_named(name):
            made.check_whole()
    make_parts = getattr(module, "parts", None)  # made from the study with its settings, so that they hold in all
    if make_parts is None:
        return made
    with mistakes_named(name):
        require(callable(make_parts), "parts must be a function parts(study) that returns a tuple of Part")
        parts = make_parts(made)
        several = isinstance(parts, tuple | list) and all(isinstance(part, Part) for part in parts)
        require(several, f"parts(study) returns a tuple of Part(name, (study, ...)), not {in_words(parts)}")
        for part in parts:
            for grid in part.grids:
                grid.check_whole()
        return replace(made, parts=tuple(parts)) if parts else made
