"""The general-ability probes of a checkpoint, through lm-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from foray.core.batch import from_rows
from foray.core.canonical import check_count, nearest, require, require_positive
from foray.core.field_types import require_types
from foray.core.scratch import inside, scratch
from foray.data.tokenizer import TextTokenizer
from foray.evals.lm_eval_model import ProbeResult, Score, foray_lm, run_probes
from foray.evals.probe_set import ProbeSet
from foray.model.transformer import Transformer
from foray.train.packing import forward_flops
from foray.train.scoring import token_choices
from foray.world.general.facts import WorldSpec
from foray.world.general.questions import PROBES, write_probes
from foray.world.version import PROBES_VERSION

# The accuracy of guessing: 1 / choices, or 0 for LAMBADA, which asks for a word.
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
    """Six probes over the invented world, in the forms of LAMBADA, HellaSwag, ARC, PIQA and OpenBookQA.

    Beyond some 100 to 500 documents the probes other than LAMBADA ask for the same facts again, in other words or with
    other wrong choices. A report's intervals count the documents of a fact together.
    """

    world: WorldSpec = field(default_factory=WorldSpec)  # the world that is asked about
    questions: int = 200  # documents a probe
    names: tuple[str, ...] = tuple(CHANCE)  # the probes

    def fingerprint(self) -> str:
        return PROBES_VERSION

    limit: ClassVar[int | None] = None
    metric: ClassVar[str] = "acc"

    def chance(self, name: str) -> float:
        """Accuracy of guessing."""
        return CHANCE[name]

    def prepare(self, scratch: Path) -> Mapping[str, Path]:
        """A file of rows for each probe."""
        return write_probes(scratch, self.world, self.questions)

    def __post_init__(self) -> None:
        require_types(self)
        for name in self.names:
            require(name in PROBES, f"there is no probe {name!r}{nearest(name, PROBES)}")
        require_positive(self, "questions")
        check_count("questions", self.questions)


def evaluate_probes(
    probes: ProbeSet, model: Transformer, tokenizer: TextTokenizer, folder: Path | None = None
) -> tuple[dict[str, dict[str, Any]], float]:
    """The accuracy, the standard error and the outcome by question of every probe, and the FLOPs.

    The questions lie in a temporary folder, inside ``folder`` if ``folder`` is given.
    """
    work: list[float] = []
    lm = foray_lm(_Codec(tokenizer), scorer(model, work), model.config.context, start=tokenizer.start)
    with scratch("foray-probes-") if folder is None else inside(folder, "scratch") as place:
        results = run_probes(lm, probes.names, probes.prepare(place), probes.limit)
    return {name: _row(r, probes.metric, probes.chance(name)) for name, r in results.items()}, sum(work)


@dataclass(frozen=True)
class _Codec:
    """A tokenizer as lm-eval's own model uses one. An empty context becomes a token that the tokenizer's files name.

    The end token of the model's files does not matter.
    """

    tokenizer: TextTokenizer

    @property
    def end_id(self) -> int:
        named = (self.tokenizer.bos_id, self.tokenizer.own_end, self.tokenizer.end_id)
        return next(i for i in named if i is not None)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.encode_batch(texts)


def scorer(model: Transformer, work: list[float] | None = None) -> Score:
    """A ``Score`` by a Foray model. The common context of a question's choices is computed once.

    FLOPs are appended to ``work``.
    """

    def score(rows: list[list[int]], last: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        contexts = [row[: len(row) - n] for row, n in zip(rows, last)]
        asked = [row[len(row) - n :] for row, n in zip(rows, last)]
        groups: dict[tuple[int, ...], int] = {}
        batch = replace(
            from_rows(contexts, asked, [1.0] * len(rows), 1.0),
            group=torch.tensor([groups.setdefault(tuple(c), len(groups)) for c in contexts]),
            shared=torch.tensor([len(c) for c in contexts]),
        )
        if work is not None:
            work.append(forward_flops(model.config, batch, batch.weight != 0))
        logprobs, greedy = token_choices(model, batch)
        # Targets are one token later than the row.
        spans = [slice(len(row) - 1 - n, len(row) - 1) for row, n in zip(rows, last)]
        return [(logprobs[i, span].numpy(), greedy[i, span].numpy()) for i, span in enumerate(spans)]

    return score


def _row(result: ProbeResult, wanted: str, chance: float) -> dict[str, Any]:
    metric = wanted if wanted in result.metrics else "acc"
    per_doc = result.per_doc[metric]
    return {
        "metric": metric,
        "value": result.metrics[metric],
        "stderr": result.stderr[metric],
        "n": result.n,
        "facts": result.facts,
        "chance": chance,
        "per_doc": [int(v) for v in per_doc],
    }
