"""The general-ability probes of a checkpoint, with Foray's own model as the lm-eval model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foray.core.spec import nearest, require
from foray.data.tokenizer import TextTokenizer
from foray.evals.harness import ProbeResult, Score, foray_lm, run_probes
from foray.model.fused import target_logprob
from foray.model.transformer import Transformer
from foray.tasks.world.facts import WorldSpec
from foray.tasks.world.probes import PROBES, write_probes
from foray.tasks.world.version import WORLD_VERSION

# Accuracy of guessing: one in the number of choices; LAMBADA asks for a word.
CHANCE = {
    "world_lambada": 0.0,
    "world_hellaswag": 0.25,
    "world_arc_easy": 0.25,
    "world_arc_challenge": 0.25,
    "world_piqa": 0.5,
    "world_openbookqa": 0.25,
}


@dataclass(frozen=True)
class WorldProbes:
    """Six probes over the invented world, in the forms of LAMBADA, HellaSwag, ARC, PIQA and OpenBookQA."""

    world: WorldSpec = field(default_factory=WorldSpec)
    questions: int = 200
    names: tuple[str, ...] = tuple(CHANCE)

    def fingerprint(self) -> str:
        return WORLD_VERSION

    def __post_init__(self) -> None:
        for name in self.names:
            require(name in PROBES, f"there is no probe {name!r}{nearest(name, PROBES)}")
        require(self.questions > 0, "questions must be positive")


def evaluate_probes(probes: WorldProbes, model: Transformer, tokenizer: TextTokenizer) -> dict[str, dict[str, Any]]:
    """Accuracy, standard error and outcome by question of every probe."""
    lm = foray_lm(tokenizer, scorer(model), model.config.context, start=True)
    with tempfile.TemporaryDirectory() as scratch:
        files: Mapping[str, Path] = write_probes(Path(scratch), probes.world, probes.questions)
        results = run_probes(lm, probes.names, files)
    return {name: _row(name, r) for name, r in results.items()}


def scorer(model: Transformer) -> Score:
    """Scores token rows with a Foray model; logits are made for the asked-for positions only."""

    @torch.no_grad()
    def score(rows: list[list[int]], last: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        out = []
        longest = max(len(r) for r in rows)
        per_pass = max(1, 8192 // longest)
        for start in range(0, len(rows), per_pass):
            part, counts = rows[start : start + per_pass], last[start : start + per_pass]
            width = max(len(r) for r in part)
            tokens = torch.tensor([r + [0] * (width - len(r)) for r in part], device=model.device)
            ends = [i * (width - 1) + len(r) - 1 for i, r in enumerate(part)]
            where = torch.tensor([t for e, n in zip(ends, counts) for t in range(e - n, e)], device=model.device)
            hidden = model(tokens[:, :-1]).flatten(0, 1).index_select(0, where)
            logits = model.lm_head(hidden).float()  # (N, V), N the tokens asked for
            targets = tokens[:, 1:].flatten()[where]
            picked = target_logprob(logits, targets)[0].cpu().numpy()
            greedy = (logits.argmax(-1) == targets).cpu().numpy()
            cuts = np.cumsum(counts)[:-1]
            out += list(zip(np.split(picked, cuts), np.split(greedy, cuts)))
        return out

    return score


def _row(name: str, result: ProbeResult) -> dict[str, Any]:
    per_doc = result.per_doc["acc"]
    return {
        "metric": "acc",
        "value": result.metrics["acc"],
        "stderr": result.stderr["acc"],
        "n": result.n,
        "chance": CHANCE[name],
        "per_doc": [int(v) for v in per_doc],
    }
