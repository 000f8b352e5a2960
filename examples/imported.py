"""Excursions from checkpoints that somebody else trained: the folders of a series, in Hugging Face's format.

SERIES=FOLDER foray run examples/imported.py, where FOLDER holds M_40000 and M_80000. Others: change MODELS.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import own_task

from foray.study.published import Release
from foray.study.spec import Published, Study

MODELS = {"M_40000": 40_000, "M_80000": 80_000}  # folder: tokens that the checkpoint was trained on


def study() -> Study:
    series = Path(os.environ.get("SERIES", "series")).absolute()
    first = Release(str(series / next(iter(MODELS))))
    published = Published(tuple((name, "", tokens) for name, tokens in MODELS.items()), root=str(series))
    return replace(own_task.study(), name="imported", pretrain=published, model=first.shape())
