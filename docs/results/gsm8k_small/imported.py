"""Excursions of gsm8k_small from its own M_t as anybody's checkpoints: folders below data.root.

foray run docs/results/gsm8k_small/imported.py --store STORE --set data.root=DATA
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import gsm8k_small
from foray.study.spec import Published, Study


def study() -> Study:
    made = gsm8k_small.study()
    folders = tuple((f"M_{tokens}", "", tokens) for tokens in made.pretrain.checkpoints)
    heldout = made.pretraining.corpus
    return replace(made, name="gsm8k_imported", pretrain=Published(folders, heldout=heldout))
